"""Remove files of entries that are no longer in the project file: only what `sync` wrote, and only if it is unchanged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ..destination.created import MADE, UNPACKED, WrittenFiles, remove_unchanged
from .locking import read_old
from .sync import Synced
from .wanted import Project

PruneOutcome: TypeAlias = Literal["removed", "would-remove", "kept"]


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What happened to one file or directory of an entry that is no longer in the project file.

    Attributes:
        name: the name of the entry.
        reason: why it was kept; None if it was removed.
    """

    name: str
    path: Path
    outcome: PruneOutcome
    reason: str | None = None


def remember(project: Project, result: Sequence[Synced]) -> None:
    """Record what a sync wrote, best effort. A file that was there before is not recorded, unless an earlier sync wrote it."""
    records, key = WrittenFiles(), _real(project.path)
    before = records.get(key)
    known = {path for paths in before.values() for path in paths}
    after = {name: dict(paths) for name, paths in before.items()}
    for one in result:
        own = after.setdefault(one.name, {})
        own |= {str(_real(path)): MADE for path in one.made}
        for file in one.files:
            path = str(_real(file.path))
            if file.is_written or path in known:
                own[path] = UNPACKED if file.is_directory else str(file.layer.digest)
    if {name: paths for name, paths in after.items() if paths} != before:
        records.put(key, after)


def prune(project: Project, result: Sequence[Synced], *, is_rehearsal: bool = False) -> list[LeftBehind]:
    """Remove what earlier syncs wrote for entries that are no longer in the project file. Changed files are kept.

    Args:
        result: the outcomes of the sync that ran before.
        is_rehearsal: make a dry run, which removes nothing.

    Returns:
        What was removed or kept, by entry and path. Files that are gone already, or that another entry wants, are not in the list.
    """
    records, key = WrittenFiles(), _real(project.path)
    entries = records.get(key)
    names = {item.name for item in project.items}
    wanted = {path for name in names for path, what in entries.get(name, {}).items() if what != MADE}
    wanted |= {str(path) for path in _wanted(project, result)}
    pruned: list[LeftBehind] = []
    for name in sorted(entries.keys() - names):
        # Directories that marfetch made come last, the deepest first.
        for path, what in sorted(entries[name].items(), key=lambda one: (one[1] == MADE, -len(Path(one[0]).parts), one[0])):
            reason, is_gone = (
                (None, True) if _is_wanted(path, what, wanted) else _removed(key.parent, path, what, is_rehearsal=is_rehearsal)
            )
            if reason is None:
                del entries[name][path]
            if not is_gone and not (what == MADE and reason is not None):
                outcome: PruneOutcome = "kept" if reason is not None else "would-remove" if is_rehearsal else "removed"
                pruned.append(LeftBehind(name, Path(path), outcome, reason))
    if not is_rehearsal:
        records.put(key, entries)
    return pruned


def _wanted(project: Project, result: Sequence[Synced]) -> Iterator[Path]:
    """Yield the paths that the entries of the project write, also of entries that failed or that another machine syncs."""
    for one in result:
        yield from (_real(file.path) for file in one.files)
    lock = read_old(project)
    for item in project.items:
        entry = lock.get(item.name) if lock is not None else None
        for layer in entry.layers if entry is not None else ():
            if layer.file is not None:
                yield _real(project.directory / item.destination / layer.file)


def _is_wanted(path: str, what: str, wanted: set[str]) -> bool:
    """Return whether a path is wanted, or contains or is inside a wanted path. False for a `MADE` directory, removed only when empty."""
    if what == MADE:
        return False
    below, above = path + os.sep, {str(one) for one in Path(path).parents}
    return path in wanted or bool(above & wanted) or any(one.startswith(below) for one in wanted)


def _removed(root: Path, path: str, what: str, *, is_rehearsal: bool) -> tuple[str | None, bool]:
    """Remove a path. Return why it stays (None if it does not), and whether it was gone already."""
    try:
        return remove_unchanged(root, Path(path), what, is_rehearsal=is_rehearsal), False
    except FileNotFoundError:
        return None, True
    except OSError as error:  # for example a link in the path
        return f"it cannot be removed safely ({error.strerror})", False


def _real(path: Path) -> Path:
    """Return the absolute path, with links resolved in its directory but not at its end."""
    return Path(os.path.realpath(path.parent), path.name)
