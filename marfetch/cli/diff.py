"""`marfetch diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Error, InputError
from .options import Settings, shared

if TYPE_CHECKING:
    from ..diff.changes import Difference

_References = Annotated[list[str] | None, typer.Argument(metavar="REF...", help="Two references, old and new. [default: lock, upstream]")]
_File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The wanted file, where no references are given.")]
_Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown, as for a pull request.")]
_Platform = Annotated[str | None, typer.Option("--platform", metavar="OS/ARCH", help="Of an index, the artifact for this platform.")]


def register(app: typer.Typer) -> None:
    app.command()(diff)


@shared()
def diff(
    settings: Settings,
    references: _References = None,
    file: _File = Path("marfetch.yaml"),
    markdown: _Markdown = False,
    platform: _Platform = None,
) -> int:
    """Show what changed between two artifacts, or between what marfetch.lock holds and what `lock --upgrade` would take.

    Of charts: Chart.yaml, values, images, CRDs, templates; of Bicep modules: parameters, outputs, resources; otherwise files.
    The exit code is 1 where something differs.
    """
    from ..render.diff import shown

    if markdown and settings.report.as_json:
        raise InputError("`--markdown` and `--json` do not go together", code="usage", hint="leave one of the two out")
    if references and len(references) != 2:
        raise InputError(
            f"two references are compared, not {len(references)}",
            code="usage",
            hint="marfetch diff OLD NEW; without references the lock is compared with upstream",
        )
    if references:
        return shown(settings.report, [("", _two(settings, references[0], references[1], platform))], [], markdown=markdown)
    if platform is not None:
        raise InputError("`--platform` goes with two references; an artifact of the wanted file has its own", code="usage")
    found, errors = _upstream(settings, file)
    return shown(settings.report, found, errors, markdown=markdown)


def _two(settings: Settings, old: str, new: str, platform: str | None) -> Difference:
    from ..client.pull import PullOptions
    from ..client.resolve import resolve
    from ..diff.artifacts import compare
    from ..oci import Platform
    from ..render.pull import wanted

    request = PullOptions(Path(), platform=Platform.parse(platform) if platform else None)
    asked = [wanted(settings.report, text, None, devel=False) for text in (old, new)]
    with settings.client() as client:
        before, after = client.each(lambda one: resolve(client, one), asked)
        return compare(client, before, after, request)


def _upstream(settings: Settings, file: Path) -> tuple[list[tuple[str, Difference]], list[tuple[str, Error]]]:
    from ..diff.artifacts import upstream
    from ..project.lockfile import read_lock
    from ..project.wanted import read_project

    project = read_project(file)
    lock = read_lock(project.lock_path)
    with settings.client(endpoint=project.endpoint) as client:
        return upstream(client, project, lock)
