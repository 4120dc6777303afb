"""Differences as values: of mappings by their keys, of texts by their lines."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..document import Json
from ..reference import Reference

MAX_LINES: Final = 20_000
"""Lines of a text that are compared one by one."""
MAX_SHOWN: Final = 2_000
"""Lines of one difference that are kept."""
_CONTEXT: Final = 3

Sort: TypeAlias = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was.

    Attributes:
        path: what it is: a file's path, a key's (`image.tag`), a parameter's name.
        old, new: the values, where it is one; None on the side that has none.
        lines: of a text, its unified difference.
    """

    sort: Sort
    path: str
    old: Json = None
    new: Json = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """Changes of one sort of thing, such as `values` or `templates`."""

    name: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two artifacts.

    Attributes:
        old, new: pinned.
        kind: of the new one.
        sections: those that have changes.
    """

    old: Reference
    new: Reference
    kind: str
    sections: tuple[Section, ...] = ()

    @property
    def differs(self) -> bool:
        return self.old.digest != self.new.digest or bool(self.sections)


def section(name: str, changes: Sequence[Change]) -> tuple[Section, ...]:
    """A section, or nothing where nothing changed."""
    return (Section(name, tuple(changes)),) if changes else ()


def changed_keys(old: Mapping[str, Json], new: Mapping[str, Json]) -> list[Change]:
    """The keys that two flat mappings do not have in common, or not with one value; sorted."""
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
    # For Python `1 == True == 1.0`; for who reads values they are three things.
    return type(old) is type(new) and old == new


def changed_names(old: Sequence[str], new: Sequence[str]) -> list[Change]:
    """What two sets of names do not have in common; sorted."""
    gone = [Change("removed", name) for name in set(old) - set(new)]
    come = [Change("added", name) for name in set(new) - set(old)]
    return sorted(gone + come, key=lambda change: (change.path, change.sort))


def flat(value: Json, path: str = "") -> dict[str, Json]:
    """A document as one level: `image.tag`, `hosts[0]` → value. What is empty stays, so that it can come and go."""
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
    """The lines of a unified difference, without its two headers; one line of excuse where the texts are too long."""
    before, after = old.splitlines(), new.splitlines()
    if max(len(before), len(after)) > MAX_LINES:
        return (f"(texts of {len(before)} and {len(after)} lines are not compared line by line)",)
    lines = [line.rstrip("\n") for line in difflib.unified_diff(before, after, n=_CONTEXT, lineterm="")][2:]
    if len(lines) > MAX_SHOWN:
        return (*lines[:MAX_SHOWN], f"({len(lines) - MAX_SHOWN} more lines)")
    return tuple(lines) or ("(only the ends of lines differ)",)
