"""`marfetch resolve` and `marfetch versions`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import InputError
from .options import Devel, OneReference, Settings, Version, shared

_SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Pass over versions that are listed but have no manifest.")]
_All = Annotated[bool, typer.Option("--all", help="The tags that are no versions too, last.")]
_Details = Annotated[bool, typer.Option("--details", help="Digest, size, created, app version and end of life too.")]
_Limit = Annotated[int, typer.Option("--limit", metavar="N", help="How many of the newest versions get details.")]


def register(app: typer.Typer) -> None:
    app.command()(resolve)
    app.command()(versions)


@shared()
def resolve(
    settings: Settings, reference: OneReference, version: Version = None, devel: Devel = False, skip_missing: _SkipMissing = False
) -> int:
    """Print the pinned reference of what a reference and a range mean, fetching no blob."""
    from ..client.resolve import resolve as resolve_one
    from ..render.pull import resolved, wanted

    asked = wanted(settings.report, reference, version, devel=devel)
    with settings.client() as client:
        result = resolve_one(client, asked, skip_missing=skip_missing)
    return resolved(settings.report, result)


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
    """List the versions of a repository, newest first: version and tag. Prereleases are listed too.

    With `--version`, only those in the range.
    """
    from ..client.versions import history
    from ..constraint import Constraint
    from ..render.pull import listed, wanted

    asked = wanted(settings.report, reference, version, devel=devel)
    if limit < 1:
        raise InputError(f"`--limit` takes a number from 1 on, not {limit}", code="usage", hint="leave it out for 20")
    constraint = Constraint.parse(asked.version) if asked.version is not None else None
    with settings.client() as client:
        result = history(client, asked.reference, constraint=constraint, prereleases=devel, details=limit if details else 0)
    return listed(settings.report, result, show_all=show_all, details=details)
