"""The cached catalog of a registry, and "did you mean" suggestions for repository names that do not exist.

MAR returns its whole catalog in one response. A copy older than `FRESH` is revalidated with its ETag. The catalog also lists
repositories without tags, and lacks some that can be pulled, so a name that is missing from it may still be right.
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

# -- matching names: by words, by glob, and by similarity


NEAR: Final = 20
"""Maximum number of similar names when no name contains the text."""
_LAST_LIKE: Final = 62
_WHOLE_LIKE: Final = 72
_PART_LIKE: Final = 84
"""Minimum similarities in percent: for the last path component, for the whole path, and for any substring."""
_SHORTEST: Final = 3
"""Minimum length of a text for a similarity search."""

_GLOB = re.compile(r"[*?\[]")

Way = Literal["all", "glob", "text", "near"]


class Suggestions(NamedTuple):
    """Names that match a text.

    Attributes:
        names: best match first.
        way: how the names were found; `near` means that no name contains the text, so similar names are returned.
    """

    names: tuple[str, ...]
    way: Way


def find(names: Sequence[str], text: str) -> Suggestions:
    """Return the names that match a text, best match first.

    Args:
        text: a glob that matches the whole name or its last component, or words that must all occur in the name. Case is ignored. If
            no name contains the words, similar names are returned.
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
    """Return the names that are most similar to an unknown name, best match first.

    Args:
        name: a repository, or only its last component.
        limit: maximum number of names.
    """
    if len(name) < _SHORTEST or not names:
        return []
    from rapidfuzz import fuzz, process  # late: rapidfuzz is needed only if no name contains the text

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
    # The similarity of the whole path adds up to 20 points.
    return sorted(found, key=lambda one: (-found[one] - fuzz.ratio(name, one) / 5, len(one), one))[:limit]


def nearest(names: Sequence[str], name: str, *, limit: int, like: float = _LAST_LIKE) -> list[str]:
    """Return the names with the most similar spelling, best match first. Use it for tags, keys and other names without a path.

    Args:
        like: minimum similarity in percent.
    """
    from rapidfuzz import fuzz, process  # late: rapidfuzz is needed only for a wrong name

    return [one for one, _, _ in process.extract(name, names, scorer=fuzz.ratio, processor=None, limit=limit, score_cutoff=like)]


def _distance(name: str, words: Sequence[str]) -> tuple[int, int, int, str]:
    """Return the sort key of a name that contains all words: exact names, then matches in the last component, then in the path."""
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
"""Seconds before the cached catalog is revalidated."""
SUGGESTED: Final = 3
"""Maximum number of suggestions for a wrong name."""


class KnownCatalog(NamedTuple):
    """The repositories of a registry.

    Attributes:
        host: the registry.
        names: repositories without the host.
        age: seconds since the registry last confirmed the catalog.
        stale: why an outdated copy was used; None if the catalog is current.
    """

    host: Host
    names: tuple[str, ...]
    age: float
    stale: Error | None = None


def catalog(client: Session, reference: Reference, *, fresh: float = FRESH, patient: bool = True) -> KnownCatalog:
    """Return the catalog of a reference's registry, from the cache if the copy is fresh.

    Args:
        reference: any reference of the registry; only its host counts.
        fresh: seconds for which a cached copy is used without a request; 0: always send a request.
        patient: whether to retry after a failure.

    Raises:
        Error: the request failed, and there is no cached copy.
    """
    bound = client.repository(reference).reference
    host = bound.host
    assert host is not None, "`repository` adds the host to its reference"
    kept = records.read_catalog(client.cache.root, str(host))
    if kept is not None and (client.options.offline or kept[2] < fresh):
        return KnownCatalog(host, tuple(kept[0]), kept[2])
    if client.options.offline:
        raise RemoteError(
            f"the catalog of `{host}` is not in the cache, and `--offline` allows no requests",
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
        assert kept is not None, "the response is 304 only if an ETag was sent"
        records.confirm_catalog(client.cache.root, str(host))
        return KnownCatalog(host, tuple(kept[0]), 0.0)
    records.keep_catalog(client.cache.root, str(host), found.names, found.etag)
    return KnownCatalog(host, found.names, 0.0)


# -- did you mean


class DidYouMean(NamedTuple):
    """Suggestions for a repository name that does not exist.

    Attributes:
        reason: what is wrong with the name, if known.
        names: suggested repositories, likeliest first.
        more: number of suggestions left out.
    """

    reason: str | None
    names: tuple[str, ...]
    more: int = 0


def did_you_mean(names: Sequence[str], wrong: str) -> DidYouMean | None:
    """Suggest repositories for a name that does not exist; None if nothing is similar."""
    known = frozenset(names)
    parent, _, last = wrong.rpartition("/")
    if parent in known and parent.rpartition("/")[2] == last:
        return DidYouMean("the chart name appears twice", (parent,))
    below = [name for name in names if name.startswith(f"{wrong}/")]
    if below:
        below.sort(key=lambda name: (name.count("/"), len(name), name))
        return DidYouMean("it is a path with repositories below it, not a repository", tuple(below[:SUGGESTED]), len(below) - SUGGESTED)
    above = parent
    while above and above not in known:
        above = above.rpartition("/")[0]
    beside = {name.rpartition("/")[2]: name for name in names if parent and name.rpartition("/")[0] == parent}
    siblings = tuple(beside[one] for one in near(list(beside), last, limit=SUGGESTED))
    if above:
        return DidYouMean(None if siblings else "a parent path is a repository", (*siblings, above)[:SUGGESTED])
    if siblings:
        return DidYouMean(None, siblings)
    same = [name for name in names if name.rpartition("/")[2] == last]
    found = tuple(dict.fromkeys([*near(same, wrong, limit=SUGGESTED), *near(names, wrong, limit=SUGGESTED)]))[:SUGGESTED]
    return DidYouMean(None, found) if found else None


def suggest(client: Session, error: NotFoundError, wanted: Reference) -> None:
    """Add a "did you mean" hint to an error about a missing repository; may fetch the catalog.

    Args:
        wanted: the requested reference, with or without its host.
    """
    if error.code not in ("repository-not-found", "manifest-not-found"):
        return
    with suppress(Error):
        # A hint is not worth retries. The same error code can mean a missing manifest or a missing repository.
        known = catalog(client, wanted, patient=False)
        wrong = wanted.repository
        if wrong in known.names:
            if error.code == "repository-not-found":
                error.hint = (
                    f"`{wrong}` is in the catalog but has no tags: it is being published or was withdrawn; name a tag that you know,"
                    f" or try: marfetch search {wrong.rpartition('/')[2]}"
                )
                error.context["listed"] = True
            return
        found = did_you_mean(known.names, wrong)
        if found is None:
            error.hint = f"no similar name in the catalog; try: marfetch search {wrong.rpartition('/')[2]}"
            return
        bound = replace(wanted, host=known.host, scheme=None, digest=None)
        first, *others = (str(replace(bound, repository=name)) for name in found.names)
        shown = " or ".join(f"`{one}`" for one in (first, *others))
        more = f" or one of {found.more} more: marfetch search '{wrong}/*'" if found.more > 0 else ""
        error.hint = f"{f'{found.reason}; ' if found.reason else ''}did you mean {shown}{more}?"
        error.context["nearest"] = list(found.names)
