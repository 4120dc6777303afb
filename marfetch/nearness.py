"""Names that a text may mean: by its words, by a glob, and by likeness where somebody mistyped.

Pure functions over names of repositories, fast enough for 50,000 of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import Final, Literal, NamedTuple

NEAR: Final = 20
"""Names that are offered where none holds the text."""
_LAST_LIKE: Final = 62
_WHOLE_LIKE: Final = 72
_PART_LIKE: Final = 84
"""Per cent of likeness from which a name is near: of its last part, of all of it, of some part of it."""
_SHORTEST: Final = 3
"""Letters; a shorter text is like everything."""

_GLOB = re.compile(r"[*?\[]")

Way = Literal["all", "glob", "text", "near"]


class Suggestions(NamedTuple):
    """What a text means.

    Attributes:
        names: nearest first.
        way: how they were found; `near` where none holds the text.
    """

    names: tuple[str, ...]
    way: Way


def find(names: Sequence[str], text: str) -> Suggestions:
    """The names that a text means, nearest first.

    Args:
        text: a glob, which fits the whole name or its last part; otherwise words, each of which the name holds. Case does not count.
    """
    lower = text.lower().strip()
    if not lower:
        return Suggestions(tuple(names), "all")
    if _GLOB.search(lower):
        fits = re.compile(translate(lower)).match
        return Suggestions(tuple(name for name in names if fits(name) or fits(name.rpartition("/")[2])), "glob")
    words = lower.split()
    holding = [name for name in names if all(word in name for word in words)]
    if holding:
        return Suggestions(tuple(sorted(holding, key=lambda name: _distance(name, words))), "text")
    return Suggestions(tuple(near(names, "-".join(words), limit=NEAR)), "near")


def near(names: Sequence[str], name: str, *, limit: int) -> list[str]:
    """The names that are most like one that is not among them, nearest first.

    Args:
        name: a repository, or only its last part.
        limit: how many.
    """
    if len(name) < _SHORTEST or not names:
        return []
    from rapidfuzz import fuzz, process

    parent, _, last = name.rpartition("/")
    found: dict[str, float] = {}

    def take(scored: Iterable[tuple[str, float, int]], weight: float) -> None:
        for _, score, position in scored:
            found[names[position]] = max(found.get(names[position], 0.0), score * weight)

    wanted = limit * 5
    lasts = [one.rpartition("/")[2] for one in names]
    take(process.extract(last, lasts, scorer=fuzz.ratio, processor=None, limit=wanted, score_cutoff=_LAST_LIKE), 1.0)
    if parent:
        take(process.extract(name, names, scorer=fuzz.ratio, processor=None, limit=wanted, score_cutoff=_WHOLE_LIKE), 1.05)
    else:
        take(process.extract(last, names, scorer=fuzz.partial_ratio, processor=None, limit=wanted, score_cutoff=_PART_LIKE), 0.9)
    # Among equals the one whose whole path is the likest.
    return sorted(found, key=lambda one: (-found[one] - fuzz.ratio(name, one) / 5, len(one), one))[:limit]


def _distance(name: str, words: Sequence[str]) -> tuple[int, int, int, str]:
    """How far a name that holds all words is from them: it is one, its last part is, begins or holds one, or only its path does."""
    last = name.rpartition("/")[2]
    first = words[0]
    if name == first:
        rank = 0
    elif any(last == word for word in words):
        rank = 1
    elif name.endswith(f"/{first}") or name.startswith(f"{first}/"):
        rank = 2
    elif any(last.startswith(word) for word in words):
        rank = 3
    else:
        rank = 4 if any(word in last for word in words) else 5
    return rank, name.count("/"), len(name), name
