"""`marfetch diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Error, InputError
from .help import add
from .options import PlatformName, Settings, shared

if TYPE_CHECKING:
    from ..diff.changes import Difference

_References = Annotated[list[str] | None, typer.Argument(metavar="REF...", help="Old and new reference; otherwise diff the project.")]
_File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="Project file; used if no references are given.")]
_Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")]


def register(app: typer.Typer) -> None:
    add(app, diff)


@shared()
def diff(
    settings: Settings,
    references: _References = None,
    file: _File = Path("marfetch.yaml"),
    markdown: _Markdown = False,
    platform: PlatformName = None,
) -> int:
    """Compare two artifacts, or the lock file with newer versions.

    Without references, compares marfetch.lock with the newest versions in the ranges of marfetch.yaml. For charts, shows changes in
    Chart.yaml, values, images, CRDs and templates; for Bicep modules, in parameters, outputs and resources; otherwise in files. The
    exit code is 1 if anything differs.
    """
    from ..render.diff import print_diff

    if markdown and settings.report.as_json:
        raise InputError("`--markdown` and `--json` cannot be combined", code="usage", hint="use only one of them")
    if references and len(references) != 2:
        raise InputError(
            f"`diff` takes two references, not {len(references)}",
            code="usage",
            hint="run: marfetch diff OLD NEW; or give no reference, to compare the lock file with newer versions",
        )
    if references:
        return print_diff(settings.report, [("", _two(settings, references[0], references[1], platform))], [], markdown=markdown)
    if platform is not None:
        raise InputError("`--platform` needs two references; for a project, set `platform` in the project file", code="usage")
    found, errors = _upstream(settings, file)
    return print_diff(settings.report, found, errors, markdown=markdown)


def _two(settings: Settings, old: str, new: str, platform: str | None) -> Difference:
    from ..client.pull import PullOptions
    from ..client.resolve import resolve
    from ..diff.artifacts import compare
    from ..oci import Platform

    options = PullOptions(Path(), platform=Platform.parse(platform) if platform else None)
    requests = [settings.request(text) for text in (old, new)]
    with settings.client() as client:
        before, after = client.each(lambda one: resolve(client, one), requests)
        return compare(client, before, after, options)


def _upstream(settings: Settings, file: Path) -> tuple[list[tuple[str, Difference]], list[tuple[str, Error]]]:
    from ..diff.artifacts import upstream
    from ..project.lockfile import read_lock
    from ..project.wanted import read_project

    project = read_project(file)
    lock = read_lock(project.lock_path)
    with settings.client(endpoint=project.endpoint) as client:
        return upstream(client, project, lock)
