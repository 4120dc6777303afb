"""Compute differences: of mappings by key, of texts by line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..document import Json
from ..reference import Reference

MAX_LINES: Final = 20_000
"""Maximum number of lines of a text for a line-by-line comparison."""
MAX_SHOWN: Final = 2_000
"""Maximum number of lines of one difference."""
_CONTEXT: Final = 3

Sort: TypeAlias = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One added, removed or changed item.

    Attributes:
        path: a file, a key (`image.tag`) or a parameter.
        old, new: the values; None if there is none.
        lines: the unified diff of a text.
    """

    sort: Sort
    path: str
    old: Json = None
    new: Json = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """Changes in one section, such as `values` or `templates`."""

    name: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """The differences between two artifacts.

    Attributes:
        old, new: pinned references.
        kind: the kind of the new artifact.
        sections: the sections with changes.
    """

    old: Reference
    new: Reference
    kind: str
    sections: tuple[Section, ...] = ()

    @property
    def differs(self) -> bool:
        return self.old.digest != self.new.digest or bool(self.sections)


def section(name: str, changes: Sequence[Change]) -> tuple[Section, ...]:
    """Return a section, or nothing if there are no changes."""
    return (Section(name, tuple(changes)),) if changes else ()


def changed_keys(old: Mapping[str, Json], new: Mapping[str, Json]) -> list[Change]:
    """Compare two flat mappings, and return the changes sorted by key."""
    changes: list[Change] = []
    for key in sorted({*old, *new}):
        if key not in new:
            changes.append(Change("removed", key, old=old[key]))
        elif key not in old:
            changes.append(Change("added", key, new=new[key]))
        elif not _is_same(old[key], new[key]):
            changes.append(Change("changed", key, old[key], new[key]))
    return changes


def _is_same(old: Json, new: Json) -> bool:
    # In Python `1 == True == 1.0`, but in values they differ.
    return type(old) is type(new) and old == new


def changed_names(old: Sequence[str], new: Sequence[str]) -> list[Change]:
    """Compare two sets of names, and return the changes sorted by name."""
    removed = [Change("removed", name) for name in set(old) - set(new)]
    added = [Change("added", name) for name in set(new) - set(old)]
    return sorted(removed + added, key=lambda change: (change.path, change.sort))


def flat(value: Json, path: str = "") -> dict[str, Json]:
    """Flatten a document to one level: `image.tag`, `hosts[0]` → value. Keep empty mappings and lists as values."""
    return dict(_flat(value, path))


def _flat(value: Json, path: str) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            shown = key if re.fullmatch(r"[A-Za-z0-9_/-]+", key) else f'"{key}"'
            yield from _flat(inner, f"{path}.{shown}" if path else shown)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{number}]")
    else:
        yield path, value


def unified(old: str, new: str) -> tuple[str, ...]:
    """Return the lines of a unified diff without its two headers; a note instead if the texts are too long."""
    before, after = old.splitlines(), new.splitlines()
    if max(len(before), len(after)) > MAX_LINES:
        return (f"(too long to compare line by line: {len(before)} and {len(after)} lines)",)
    lines = [line.rstrip("\n") for line in difflib.unified_diff(before, after, n=_CONTEXT, lineterm="")][2:]
    if len(lines) > MAX_SHOWN:
        return (*lines[:MAX_SHOWN], f"({len(lines) - MAX_SHOWN} more lines)")
    return tuple(lines) or ("(only line endings differ)",)
