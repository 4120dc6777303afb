"""`marfetch images`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .help import add
from .options import REFERENCE_HELP, Devel, Settings, Version, shared

if TYPE_CHECKING:
    from ..client.chartimages import ChartImages, Rendering
    from ..client.resolve import Wanted


class ImageFormat(StrEnum):
    TEXT = "text"
    HAULER = "hauler"
    ZARF = "zarf"
    REGSYNC = "regsync"
    SKOPEO = "skopeo"
    ACR = "acr"


_References = Annotated[list[str] | None, typer.Argument(metavar="REF...", help=REFERENCE_HELP)]
_File = Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="Project file: search the charts that it names.")]
_Bundle = Annotated[Path | None, typer.Option("--bundle", metavar="FILE", help="Bundle: search the charts in it.")]
_Rendered = Annotated[bool, typer.Option("--rendered", help="Let the `helm` on PATH render the charts.")]
_Values = Annotated[list[Path] | None, typer.Option("--values", metavar="FILE", help="Values that override those of the charts.")]
_Format = Annotated[ImageFormat, typer.Option("--format", metavar="FORMAT", help="text, hauler, zarf, regsync, skopeo or acr.")]


def register(app: typer.Typer) -> None:
    add(app, images)


@shared()
def images(
    settings: Settings,
    references: _References = None,
    version: Version = None,
    devel: Devel = False,
    file: _File = None,
    bundle: _Bundle = None,
    rendered: _Rendered = False,
    values: _Values = None,
    form: _Format = ImageFormat.TEXT,
) -> int:
    """List the container images that charts name.

    Evaluates the templates with the charts' default values, without Helm, and reads the manifests, CRDs and annotations. Prints one line
    per image: image, chart, and where it is named. With `--rendered`, `helm template` renders the charts instead. Without arguments,
    searches the charts in marfetch.lock. A chart that cannot be searched is an error; the others are listed all the same.
    """
    from ..render.images import print_images

    sources = [name for name, given in (("REF", references), ("`--file`", file), ("`--bundle`", bundle)) if given]
    if len(sources) > 1:
        raise InputError(f"{sources[0]} and {sources[1]} cannot be combined", code="usage", hint="use only one of them")
    if (version is not None or devel) and not references:
        raise InputError("`--version` and `--devel` need a reference", code="usage", hint="name a chart")
    if settings.report.as_json and form is not ImageFormat.TEXT:
        raise InputError("`--format` and `--json` cannot be combined", code="usage", hint="use only one of them")
    found = _found(settings, references, version, file, bundle, devel=devel, rendered=rendered, values=values or ())
    return print_images(settings.report, found, form.value)


def _found(
    settings: Settings,
    references: list[str] | None,
    version: str | None,
    file: Path | None,
    bundle: Path | None,
    *,
    devel: bool,
    rendered: bool,
    values: Sequence[Path],
) -> list[ChartImages]:
    from ..client.chartimages import images_of, read_values

    given = read_values(values)
    budget = settings.budget()
    rendering: Rendering | None = None
    if rendered:
        from ..helm.templating import helm_images

        def rendering(package: Any, name: str) -> Any:
            return helm_images(package, name, values, budget)

    if bundle is not None:
        from ..bundle.format import opened
        from ..bundle.overlay import images_in_bundle

        with opened(bundle) as content:
            return images_in_bundle(content, values=given, rendering=rendering, check=budget.check)
    endpoint: str | None = None
    wanted: Sequence[Wanted]
    if references:
        wanted = [settings.request(text, version, devel=devel) for text in references]
    else:
        endpoint, wanted = _charts_of_project(file)
    with settings.client(endpoint=endpoint) as client:
        return images_of(client, wanted, values=given, rendering=rendering, skips_others=not references)


def _charts_of_project(file: Path | None) -> tuple[str | None, list[Wanted]]:
    """Return the endpoint of a project, and its charts: the locked version, or the project file's reference if a chart is not locked.

    Args:
        file: the project file; None for everything that `marfetch.lock` names.
    """
    from ..artifact.kinds import CHART
    from ..client.resolve import Wanted
    from ..project.lockfile import Lock, read_lock
    from ..project.locking import mismatch
    from ..project.wanted import DEFAULT, lock_path, read_project

    if file is None:
        lock = read_lock(lock_path(Path(DEFAULT)))
        endpoint = read_project(Path(DEFAULT)).endpoint if Path(DEFAULT).exists() else None
        return endpoint, [Wanted(entry.reference) for entry in lock.entries if entry.kind == CHART.name]
    project = read_project(file)
    entries = (read_lock(project.lock_path) if project.lock_path.exists() else Lock()).by_name
    wanted = []
    for item in project.items:
        entry = entries.get(item.name)
        if entry is None or mismatch(item, entry) is not None:
            wanted.append(item.wanted)
        elif entry.kind == CHART.name:
            wanted.append(Wanted(entry.reference))
    return project.endpoint, wanted
