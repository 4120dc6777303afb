"""`marfetch cache info|verify|prune|clear`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, IntegrityError
from ..render.table import digest
from ..text import counted, human_size
from .help import add, add_group
from .options import Settings, shared

if TYPE_CHECKING:
    from ..layout.layout import Layout

_Fix = Annotated[bool, typer.Option("--fix", help="Delete corrupted blobs; they are downloaded again when needed.")]
_Days = Annotated[float | None, typer.Option("--unused-days", metavar="DAYS", help="Also delete artifacts unused for this many days.")]


def register(app: typer.Typer) -> None:
    group = add_group(app, "cache", "Manage the cache.")
    add(group, cache_info, "info")
    add(group, cache_verify, "verify")
    add(group, cache_prune, "prune")
    add(group, cache_clear, "clear")


@shared()
def cache_info(settings: Settings) -> int:
    """Show the cache's location and size."""
    from ..layout import maintenance

    found = maintenance.info(_layout(settings))
    settings.report.facts(
        [
            ("path", str(found.root)),
            ("names", str(found.names)),
            ("blobs", str(found.blobs), human_size(found.size)),
            ("unfinished", str(found.partial), human_size(found.partial_size)),
        ]
    )
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
    """Check every blob in the cache.

    Prints the corrupted blobs. The exit code is 5 if there are any and `--fix` is not given.
    """
    from ..layout import maintenance

    layout = _layout(settings)
    bad = maintenance.verify(layout, fix=fix, progress=settings.report.progress)
    settings.report.table(("blob", "reason"), [(digest(one.name), one.reason) for one in bad], wraps=True)
    data: Any = {"path": str(layout.root), "bad": [{"name": one.name, "reason": one.reason} for one in bad], "fixed": fix}
    if bad and not fix:
        error = IntegrityError(
            f"{counted(len(bad), 'blob')} in the cache `{layout.root}` {'does' if len(bad) == 1 else 'do'} not match the expected digest",
            code="digest-mismatch",
            hint="run: marfetch cache verify --fix",
            path=str(layout.root),
        )
        settings.report.failed(error, data)
        return error.exit_code
    settings.report.data(data)
    return 0


@shared()
def cache_prune(settings: Settings, unused_days: _Days = None) -> int:
    """Delete unreferenced blobs and old partial downloads.

    Partial downloads are deleted when they are older than a day. While another command uses the cache, blobs that were used within
    a day stay.
    """
    from ..layout import maintenance

    if unused_days is not None and not unused_days >= 0:  # `not` also refuses NaN
        raise InputError(f"`--unused-days` takes a number of days, 0 or more, not {unused_days:g}", code="usage")
    layout = _layout(settings)
    done = maintenance.prune(layout, days=unused_days)
    settings.report.facts([("removed", str(done.blobs + done.partial + done.listings), human_size(done.size))])
    if done.kept:
        what = counted(done.kept, "unreferenced blob")
        settings.report.note(f"kept {what}, because another marfetch may be using the cache; run this again later")
    settings.report.data(
        {
            "path": str(layout.root),
            "blobs": done.blobs,
            "unfinished": done.partial,
            "listings": done.listings,
            "size": done.size,
            "kept": done.kept,
        }
    )
    return 0


@shared()
def cache_clear(settings: Settings) -> int:
    """Delete the cache."""
    from ..layout import maintenance

    root = _root(settings)
    size = maintenance.clear(root)
    settings.report.facts([("removed", human_size(size))])
    settings.report.data({"path": str(root), "size": size})
    return 0


def _root(settings: Settings) -> Path:
    from ..layout.cache import cache_root

    return cache_root(settings.cache_dir)


def _layout(settings: Settings) -> Layout:
    from ..budget import Budget
    from ..layout.cache import shared_use
    from ..layout.layout import Layout

    root = _root(settings)
    with shared_use(root, Budget(), settings.report.progress) or nullcontext():  # another process may be clearing the cache
        return Layout(root)
