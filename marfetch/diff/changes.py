"""Compute differences between mappings by key, and between texts by line."""

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
"""The maximum number of lines of a text. Longer texts are not compared."""
MAX_SHOWN: Final = 2_000
"""The maximum number of lines to show of one text's difference."""
MAX_WIDTH: Final = 2_000
"""The maximum number of characters to show of one line."""
MAX_OUTPUT: Final = 4 << 20
"""The maximum number of characters to show in total for two artifacts."""
MAX_STEPS: Final = 20_000_000
"""The maximum number of steps to compare all texts of two artifacts, which take some seconds.

After that, the remaining lines of a text are shown as removed and added.
"""
MAX_PATHS: Final = 16 << 20
"""The maximum number of characters of all paths in a document. A long key counts again for each value below it."""
_CONTEXT: Final = 3

Sort: TypeAlias = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One added, removed or changed item.

    Attributes:
        sort: whether the item was added, removed or changed.
        path: what changed: a file, a key such as `image.tag`, or a parameter.
        old: the old value, if any.
        new: the new value, if any.
        lines: the lines of the unified diff, if the item is a text.
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
        old: the pinned reference of the old artifact.
        new: the pinned reference of the new artifact.
        kind: the kind of the new artifact.
        sections: the sections that have changes.
    """

    old: Reference
    new: Reference
    kind: str
    sections: tuple[Section, ...] = ()

    @property
    def differs(self) -> bool:
        return self.old.digest != self.new.digest or bool(self.sections)


def section(name: str, changes: Sequence[Change]) -> tuple[Section, ...]:
    """Return a tuple with one section, or an empty tuple if there are no changes."""
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
    # In Python, 1, True and 1.0 are equal, but in a values file they are different.
    return type(old) is type(new) and old == new


def changed_names(old: Sequence[str], new: Sequence[str]) -> list[Change]:
    """Compare two sets of names, and return the changes sorted by name."""
    removed = [Change("removed", name) for name in set(old) - set(new)]
    added = [Change("added", name) for name in set(new) - set(old)]
    return sorted(removed + added, key=lambda change: (change.path, change.sort))


def flat(value: Json, path: str = "") -> dict[str, Json]:
    """Flatten a document to a mapping from paths such as `image.tag` and `hosts[0]` to values. Empty mappings and lists are values.

    Raises:
        PolicyError: `limit-passed`: the paths are so long that they need too much memory.
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
    """Compares texts line by line. The limits on time and output apply to all texts of one instance together.

    Args:
        check: called regularly; it may raise to cancel the comparison.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self._steps = MAX_STEPS
        self._left = MAX_OUTPUT

    def unified(self, old: str, new: str) -> tuple[str, ...]:
        """Return the lines of a unified diff, without the two header lines. If the texts are too long, return a note instead."""
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
    """Yield the lines of a unified diff. `difflib.unified_diff` cannot be used, because it does not accept a matcher."""
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
    """Return the position of a hunk in the format of `diff -u` (POSIX, `diff`, "Diff -u Output Format")."""
    if end - start == 1:
        return str(start + 1)
    return f"{start + 1 if end > start else start},{end - start}"


class _BoundedMatcher(difflib.SequenceMatcher[str]):
    """A matcher that stops finding matches after a number of steps. Without the limit, crafted texts take cubic time.

    Attributes:
        steps: the number of steps that are left.
    """

    def __init__(self, before: Sequence[str], after: Sequence[str], steps: int, check: Callable[[], None]) -> None:
        super().__init__(None, before, after)
        self.steps = steps
        self._check = check
        occurrences: Mapping[str, Sequence[int]] = self.b2j  # type: ignore[attr-defined] # `b2j` maps each line of `after` to its positions
        self._costs = [0, *accumulate(1 + len(occurrences.get(line, ())) for line in before)]

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> difflib.Match:
        cost = self._costs[-1 if ahi is None else ahi] - self._costs[alo]
        if cost > self.steps:
            return difflib.Match(alo, blo, 0)
        self.steps -= cost
        self._check()
        return super().find_longest_match(alo, ahi, blo, bhi)
