"""`marfetch cache info|verify|prune|clear`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, IntegrityError
from ..text import human_size
from .options import Settings, shared

if TYPE_CHECKING:
    from ..layout.layout import Layout

_Fix = Annotated[bool, typer.Option("--fix", help="Take the bad blobs away; they are fetched again when needed.")]
_Days = Annotated[float | None, typer.Option("--unused-days", metavar="DAYS", help="Also what was not used for so many days.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Look after the content cache, an OCI image layout.", rich_markup_mode=None)
    group.command("info")(cache_info)
    group.command("verify")(cache_verify)
    group.command("prune")(cache_prune)
    group.command("clear")(cache_clear)
    app.add_typer(group, name="cache")


@shared()
def cache_info(settings: Settings) -> int:
    """Print where the cache is and what it holds."""
    from ..layout import maintenance

    found = maintenance.info(_layout(settings))
    settings.report.line("path", str(found.root))
    settings.report.line("names", str(found.names))
    settings.report.line("blobs", str(found.blobs), human_size(found.size))
    settings.report.line("unfinished", str(found.partial), human_size(found.partial_size))
    settings.report.data(
        {
            "path": str(found.root),
            "names": found.names,
            "blobs": found.blobs,
            "size": found.size,
            "unfinished": found.partial,
            "unfinishedSize": found.partial_size,
        }
    )
    return 0


@shared()
def cache_verify(settings: Settings, fix: _Fix = False) -> int:
    """Hash every blob of the cache; prints the bad ones, exit code 5 if there are any."""
    from ..layout import maintenance

    layout = _layout(settings)
    bad = maintenance.verify(layout, fix=fix)
    for one in bad:
        settings.report.line(one.name, one.reason)
    data: Any = {"path": str(layout.root), "bad": [{"name": one.name, "reason": one.reason} for one in bad], "fixed": fix}
    if bad and not fix:
        error = IntegrityError(
            f"{len(bad)} blobs of the cache `{layout.root}` are not what their names say",
            code="digest-mismatch",
            hint="marfetch cache verify --fix",
            path=str(layout.root),
        )
        settings.report.failed(error, data)
        return error.exit_code
    settings.report.data(data)
    return 0


@shared()
def cache_prune(settings: Settings, unused_days: _Days = None) -> int:
    """Take away what no name leads to, and unfinished parts that are older than a day."""
    from ..layout import maintenance

    if unused_days is not None and not unused_days >= 0:  # NaN compares with nothing
        raise InputError(f"`--unused-days` takes days from 0 on, not {unused_days:g}", code="usage")
    layout = _layout(settings)
    done = maintenance.prune(layout, days=unused_days)
    settings.report.line("removed", str(done.blobs + done.partial + done.listings), human_size(done.size))
    settings.report.data(
        {"path": str(layout.root), "blobs": done.blobs, "unfinished": done.partial, "listings": done.listings, "size": done.size}
    )
    return 0


@shared()
def cache_clear(settings: Settings) -> int:
    """Take everything away."""
    from ..layout import maintenance

    root = _root(settings)
    size = maintenance.clear(root)
    settings.report.line("removed", human_size(size))
    settings.report.data({"path": str(root), "size": size})
    return 0


def _root(settings: Settings) -> Path:
    from ..layout.cache import cache_root

    return cache_root(settings.cache_dir)


def _layout(settings: Settings) -> Layout:
    from ..layout.layout import Layout

    return Layout(_root(settings))
