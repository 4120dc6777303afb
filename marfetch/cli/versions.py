"""`marfetch resolve` and `marfetch versions`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ..errors import InputError
from .help import add
from .options import Devel, MinAge, OneReference, Settings, SkipMissing, Version, shared

_All = Annotated[bool, typer.Option("--all", help="Also list tags that are not versions, last.")]
_Details = Annotated[bool, typer.Option("--details", help="Add digest, size, creation time, app version and end of life.")]
_Limit = Annotated[int, typer.Option("--limit", metavar="N", help="Number of newest versions that get details.")]


class SnippetName(StrEnum):
    HELM = "helm"
    FLUX = "flux"
    TERRAFORM = "terraform"
    BICEP = "bicep"


_As = Annotated[SnippetName | None, typer.Option("--as", metavar="FORM", help="Print a snippet for helm, flux, terraform or bicep.")]


def register(app: typer.Typer) -> None:
    add(app, resolve)
    add(app, versions)


@shared()
def resolve(
    settings: Settings,
    reference: OneReference,
    version: Version = None,
    devel: Devel = False,
    min_age: MinAge = None,
    skip_missing: SkipMissing = False,
    form: _As = None,
) -> int:
    """Print a reference pinned by digest.

    Picks the newest release, or with `--version` the newest version in the range. Downloads no layers. With `--as`, prints lines to paste
    into a file of another tool, pinned by digest where the tool supports that.
    """
    from ..client.resolve import resolve as resolve_one
    from ..render.pull import print_resolved
    from ..verify.gate import cool_down

    request = settings.request(reference, version, devel=devel, cool_down=cool_down(min_age))
    with settings.client() as client:
        result = resolve_one(client, request, skip_missing=skip_missing)
        written = None
        if form is not None:
            from ..project.snippets import snippet

            written = snippet(result, form)
    return print_resolved(settings.report, result, snippet=written)


@shared()
def versions(
    settings: Settings,
    reference: OneReference,
    version: Version = None,
    devel: Devel = False,
    show_all: _All = False,
    details: _Details = False,
    limit: _Limit = 20,
) -> int:
    """List versions, newest first.

    Prints version and tag, including prereleases. With `--version`, lists only versions in the range.
    """
    from ..client.versions import history
    from ..constraint import Constraint
    from ..render.pull import print_versions

    request = settings.request(reference, version, devel=devel)
    if limit < 1:
        raise InputError(f"`--limit` takes 1 or more, not {limit}", code="usage", hint="omit it for the default, 20")
    constraint = Constraint.parse(request.version) if request.version is not None else None
    with settings.client() as client:
        result = history(client, request.reference, constraint=constraint, prereleases=devel, details=limit if details else 0)
    return print_versions(settings.report, result, show_all=show_all, details=details)
