"""Compute differences: of mappings by key, of texts by line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal, TypeAlias

from ..document import Json
from ..errors import PolicyError
from ..reference import Reference

MAX_LINES: Final = 20_000
"""Maximum number of lines of a text for a line-by-line comparison."""
MAX_SHOWN: Final = 2_000
"""Maximum number of lines of one difference."""
MAX_WIDTH: Final = 2_000
"""Maximum number of characters of one of these lines."""
MAX_OUTPUT: Final = 4 << 20
"""Maximum number of characters of all lines of one comparison."""
MAX_STEPS: Final = 20_000_000
"""Maximum number of steps of the line-by-line comparisons of two artifacts, some seconds. After that, lines are only replaced."""
MAX_PATHS: Final = 16 << 20
"""Maximum number of characters of all paths in a document. A long key is part of the path of each value below it."""
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
    """Flatten a document to one level: `image.tag`, `hosts[0]` → value. Keep empty mappings and lists as values.

    Raises:
        PolicyError: `limit-passed`: its keys are so long that their paths need too much memory.
    """
    found: dict[str, Json] = {}
    size = 0
    for name, inner in _flat(value, path):
        size += len(name)
        if size > MAX_PATHS:
            raise PolicyError(
                f"the paths of a document have more than {MAX_PATHS} characters",
                code="limit-passed",
                rule=f"at most {MAX_PATHS} characters",
            )
        found[name] = inner
    return found


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


class LineDiff:
    """Compares texts line by line, within limits that all texts of one comparison share.

    Args:
        check: called regularly; it may raise to cancel.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self._steps = MAX_STEPS
        self._left = MAX_OUTPUT

    def unified(self, old: str, new: str) -> tuple[str, ...]:
        """Return the lines of a unified diff without its two headers; a note instead if the texts are too long."""
        self._check()
        before, after = old.splitlines(), new.splitlines()
        if max(len(before), len(after)) > MAX_LINES:
            return (f"(too long to compare line by line: {len(before)} and {len(after)} lines)",)
        if self._left <= 0:
            return ("(not shown: there are too many differences)",)
        matcher = _BoundedMatcher(before, after, self._steps, self._check)
        found: list[str] = []
        count = 0
        for line in _unified_lines(matcher, before, after):
            count += 1
            if len(found) < MAX_SHOWN and self._left > 0:
                found.append(line if len(line) <= MAX_WIDTH else f"{line[:MAX_WIDTH]}… ({len(line)} characters)")
                self._left -= len(found[-1])
        self._steps = matcher.steps
        if count > len(found):
            found.append(f"({count - len(found)} more lines)")
        return tuple(found) or ("(only line endings differ)",)


def _unified_lines(matcher: _BoundedMatcher, before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Yield what `difflib.unified_diff` would, which cannot be given a matcher."""
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        first, last = group[0], group[-1]
        yield f"@@ -{_hunk(first[1], last[2])} +{_hunk(first[3], last[4])} @@"
        for tag, old_start, old_end, new_start, new_end in group:
            if tag == "equal":
                yield from (f" {line}" for line in before[old_start:old_end])
            else:
                yield from (f"-{line}" for line in before[old_start:old_end])
                yield from (f"+{line}" for line in after[new_start:new_end])


def _hunk(start: int, end: int) -> str:
    """Return the position of a hunk as `diff -u` writes it (POSIX, `diff`, "Diff -u Output Format")."""
    if end - start == 1:
        return str(start + 1)
    return f"{start + 1 if end > start else start},{end - start}"


class _BoundedMatcher(difflib.SequenceMatcher[str]):
    """A matcher that finds no more matches after a number of steps; difflib is cubic on texts that an attacker chose.

    Attributes:
        steps: how many are left.
    """

    def __init__(self, before: Sequence[str], after: Sequence[str], steps: int, check: Callable[[], None]) -> None:
        super().__init__(None, before, after)
        self.steps = steps
        self._check = check
        occurrences: Mapping[str, Sequence[int]] = self.b2j  # type: ignore[attr-defined] # its index of `after`
        self._costs = [0, *accumulate(1 + len(occurrences.get(line, ())) for line in before)]

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> difflib.Match:
        cost = self._costs[-1 if ahi is None else ahi] - self._costs[alo]
        if cost > self.steps:
            return difflib.Match(alo, blo, 0)
        self.steps -= cost
        self._check()
        return super().find_longest_match(alo, ahi, blo, bhi)
