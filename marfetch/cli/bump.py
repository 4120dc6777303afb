"""`marfetch bump`, which writes newer versions into the files of a project."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import Error, InputError
from .help import add
from .options import Devel, MinAge, Settings, shared

if TYPE_CHECKING:
    from ..project.forms.forms import Registries


class Level(StrEnum):
    """The values of `--level`."""

    PATCH = "patch"
    MINOR = "minor"
    MAJOR = "major"


_Paths = Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="Files and directories to search.", show_default=".")]
_Level = Annotated[Level, typer.Option("--level", metavar="LEVEL", help="Largest step: patch, minor or major.")]
_Only = Annotated[list[str] | None, typer.Option("--only", metavar="GLOB", help="Only these repositories, such as 'aks/*'.")]
_Ranges = Annotated[bool, typer.Option("--ranges", help="Move the lower bounds of ranges that allow the newest version.")]
_Pin = Annotated[bool, typer.Option("--pin", help="Add digests where the file format allows them.")]
_Check = Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 if there is a newer version.")]
_Markdown = Annotated[bool, typer.Option("--markdown", help="Print the body of a pull request.")]


def register(app: typer.Typer) -> None:
    add(app, bump)


@shared()
def bump(
    settings: Settings,
    paths: _Paths = None,
    level: _Level = Level.MAJOR,
    devel: Devel = False,
    min_age: MinAge = None,
    only: _Only = None,
    ranges: _Ranges = False,
    pin: _Pin = False,
    check: _Check = False,
    markdown: _Markdown = False,
) -> int:
    """Write newer versions into the files of a project.

    Finds versions of MAR artifacts in charts, helmfiles, Argo CD, Flux, Terraform, Bicep and other files, and replaces older ones in
    place. Only versions and digests change. Prints one line per place: path and line, repository, old version, new version,
    and status.
    """
    if markdown and settings.report.as_json:
        raise InputError("`--markdown` and `--json` cannot be combined", code="usage", hint="use only one of them")
    return run(
        settings,
        paths or [Path()],
        is_check=check,
        markdown=markdown,
        level=level.value,
        devel=devel,
        ranges=ranges,
        pin=pin,
        min_age=min_age,
        only=only or (),
    )


def run(
    settings: Settings, paths: Sequence[Path], *, is_check: bool, markdown: bool = False, min_age: str | None = None, **choices: Any
) -> int:
    """Compare the versions in the files of a project, and write newer ones unless `is_check`.

    Args:
        choices: further arguments of `bump.bump.plan`.
    """
    from ..bump.bump import plan, upgrades, write
    from ..client.session import Session
    from ..render.bump import print_bump, pull_request
    from ..verify.gate import cool_down

    cool_down(min_age)  # report an invalid duration before anything is read
    written: list[Path] = []
    failure: Error | None = None
    with ExitStack() as stack:
        sessions: dict[str | None, Session] = {}

        def connect(endpoint: str | None) -> Session:
            endpoint = endpoint if settings.endpoint is None else None
            if endpoint not in sessions:
                sessions[endpoint] = stack.enter_context(settings.client(endpoint=endpoint))
            return sessions[endpoint]

        found = plan(paths, registries(settings), connect, min_age=min_age, check=settings.budget().check, **choices)
        body = pull_request(found, upgrades(found, connect)) if markdown and not found.errors else None
        if not is_check and not found.errors:
            try:
                written = write(found)
            except Error as error:
                failure = error
                written = [Path(one) for one in error.context.get("written", ())]  # type: ignore[attr-defined]
    return print_bump(settings.report, found, written=written, is_check=is_check, error=failure, body=body)


def registries(settings: Settings) -> Registries:
    """Return the registries whose references count as MAR: the official ones, loopback addresses, and the registry of the endpoint."""
    from ..project.forms.forms import Registries as Found

    endpoint = settings.preference().default()
    return Found(None if endpoint.official else endpoint.registry.name)
