"""The catalog of a registry, kept beside the cache, and what a wrong name may have meant.

MAR gives its whole catalog in one answer. It is asked for again when the kept one is older than `FRESH`, with its entity tag, so that
nothing but an answer without a body comes where nothing is new. The catalog also names repositories that have no tags, and lacks some
that can be pulled: a name that is not in it may be right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import translate
from typing import Final, Literal, NamedTuple

from .. import records
from ..errors import Error, NotFoundError, RemoteError
from ..reference import Host, Reference
from .session import Session

# -- names that a text may mean: by its words, by a glob, and by likeness where somebody mistyped


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
    from rapidfuzz import fuzz, process  # late: rapidfuzz, only where no name holds the text

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


def nearest(names: Sequence[str], name: str, *, limit: int, like: float = _LAST_LIKE) -> list[str]:
    """The names that are written most like one that is not among them, nearest first; for tags, keys and others without a path.

    Args:
        like: per cent of likeness from which a name is near.
    """
    from rapidfuzz import fuzz, process  # late: rapidfuzz, only for a wrong name

    return [one for one, _, _ in process.extract(name, names, scorer=fuzz.ratio, processor=None, limit=limit, score_cutoff=like)]


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


FRESH: Final = 600.0
"""Seconds for which the catalog is taken without a look at the registry."""
SUGGESTED: Final = 3
"""Names that are offered in place of a wrong one."""


class KnownCatalog(NamedTuple):
    """A catalog.

    Attributes:
        host: of the registry.
        names: repositories without the host.
        age: seconds since the registry said so.
        stale: why an old one was taken, where the registry could not be asked.
    """

    host: Host
    names: tuple[str, ...]
    age: float
    stale: Error | None = None


def catalog(client: Session, reference: Reference, *, fresh: float = FRESH, patient: bool = True) -> KnownCatalog:
    """The catalog of the registry that a reference means; kept where it is young enough.

    Args:
        reference: any of the registry; only its host counts.
        fresh: seconds; 0 asks in any case.
        patient: whether a failure is worth another try.

    Raises:
        Error: the registry failed, and there is no kept one.
    """
    bound = client.repository(reference).reference
    host = bound.host
    assert host is not None, "a bound reference has its host"
    kept = records.read_catalog(client.cache.root, str(host))
    if kept is not None and (client.options.offline or kept[2] < fresh):
        return KnownCatalog(host, tuple(kept[0]), kept[2])
    if client.options.offline:
        raise RemoteError(
            f"the catalog of `{host}` was never fetched, and `--offline` asks nobody",
            code="offline",
            reference=str(host),
        )
    try:
        found = client.connect(client.endpoint(reference)).catalog(known=kept[1] if kept else None, patient=patient)
    except RemoteError as error:
        if kept is None:
            raise
        return KnownCatalog(host, tuple(kept[0]), kept[2], stale=error)
    if found is None:
        assert kept is not None, "nothing new can only be said of what is known"
        records.confirm_catalog(client.cache.root, str(host))
        return KnownCatalog(host, tuple(kept[0]), 0.0)
    records.keep_catalog(client.cache.root, str(host), found.names, found.etag)
    return KnownCatalog(host, found.names, 0.0)


# -- did you mean


class Meant(NamedTuple):
    """What a wrong name may have meant.

    Attributes:
        reason: what is wrong with it, where that can be told.
        names: repositories in its place, likeliest first.
        more: how many more there are.
    """

    reason: str | None
    names: tuple[str, ...]
    more: int = 0


def meant(names: Sequence[str], wrong: str) -> Meant | None:
    """What may have been meant by a name of a repository that the registry does not know; None where nothing is like it."""
    known = frozenset(names)
    parent, _, last = wrong.rpartition("/")
    if parent in known and parent.rpartition("/")[2] == last:
        return Meant("the chart's name stands twice", (parent,))
    below = [name for name in names if name.startswith(f"{wrong}/")]
    if below:
        below.sort(key=lambda name: (name.count("/"), len(name), name))
        return Meant("it is a path with repositories below it, no repository", tuple(below[:SUGGESTED]), len(below) - SUGGESTED)
    above = parent
    while above and above not in known:
        above = above.rpartition("/")[0]
    beside = {name.rpartition("/")[2]: name for name in names if parent and name.rpartition("/")[0] == parent}
    siblings = tuple(beside[one] for one in near(list(beside), last, limit=SUGGESTED))
    if above:
        return Meant(None if siblings else "there is a repository higher up", (*siblings, above)[:SUGGESTED])
    if siblings:
        return Meant(None, siblings)
    same = [name for name in names if name.rpartition("/")[2] == last]
    found = tuple(dict.fromkeys([*near(same, wrong, limit=SUGGESTED), *near(names, wrong, limit=SUGGESTED)]))[:SUGGESTED]
    return Meant(None, found) if found else None


def suggest(client: Session, error: NotFoundError, wanted: Reference) -> None:
    """Let the failure of a wrong name say what may have been meant; it costs a request where the kept catalog is not young.

    Args:
        wanted: what was asked for, with or without its host.
    """
    if error.code not in ("repository-not-found", "manifest-not-found"):
        return
    with suppress(Error):
        # Nobody waits for a hint; and a digest that is not there may be a name that is not.
        known = catalog(client, wanted, patient=False)
        wrong = wanted.repository
        if wrong in known.names:
            if error.code == "repository-not-found":
                error.hint = (
                    f"`{wrong}` is in the catalog, but has no tags: it is being published or was withdrawn; name a tag that you know,"
                    f" or look at what is near: marfetch search {wrong.rpartition('/')[2]}"
                )
                error.context["listed"] = True
            return
        found = meant(known.names, wrong)
        if found is None:
            error.hint = f"nothing in the catalog is like it; look with: marfetch search {wrong.rpartition('/')[2]}"
            return
        bound = replace(wanted, host=known.host, scheme=None, digest=None)
        first, *others = (str(replace(bound, repository=name)) for name in found.names)
        shown = " or ".join(f"`{one}`" for one in (first, *others))
        more = f" or one of {found.more} more: marfetch search '{wrong}/*'" if found.more > 0 else ""
        error.hint = f"{f'{found.reason}; ' if found.reason else ''}did you mean {shown}{more}?"
        error.context["nearest"] = list(found.names)
