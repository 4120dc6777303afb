"""Search repositories by name, and by the kind of their newest version.

The manifest of the newest version decides the kind of a repository, never its name. A search by kind therefore fetches the tags and
one manifest of each candidate in parallel, and the config of a chart. The results are cached in one record per registry.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .. import records
from ..artifact.kinds import CHART, KINDS, Kind, kind_of, kind_of_type, matches
from ..constraint import TaggedVersion, distinct, sort_versions
from ..document import Json
from ..errors import Error, NotFoundError, RateLimitedError
from ..oci import CREATED, Index, Manifest
from ..records import Records
from ..reference import Reference, is_repository
from ..text import counted
from .catalog import KnownCatalog, Suggestions, Way, catalog, find
from .fetch import MAX_CONFIG_SIZE, chart_metadata, kept_metadata
from .session import Repository, Session

CANDIDATES: Final = 200
"""Maximum number of repositories to fetch for one search by kind."""
FRESH: Final = 3600.0
"""Seconds before a repository is fetched again."""
FRESH_IF_EMPTY: Final = 86_400.0
"""Seconds before a repository without tags is fetched again."""
YOUNG: Final = 60.0
"""If no name matches, a cached catalog older than this many seconds is requested again."""
FORGOTTEN: Final = 30 * 86_400.0
"""Seconds after which a cached result is deleted."""
_TRIES: Final = 3
"""Maximum number of versions to try when their manifests are missing."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """The criteria of a search.

    Attributes:
        text: words or a glob, see `client.catalog.find`.
        kinds: kinds of the newest version; empty: any.
        artifact_types: globs over the artifact type of the newest version; empty: any.
        limit: maximum number of candidates, best match first; None: all, or `CANDIDATES` in a search by kind.
        fresh: seconds for which the cached catalog is used without a request; None: the default.
    """

    text: str = ""
    kinds: tuple[Kind, ...] = ()
    artifact_types: tuple[str, ...] = ()
    limit: int | None = None
    fresh: float | None = None

    @property
    def looks_inside(self) -> bool:
        """Whether the search fetches the newest version of each candidate."""
        return bool(self.kinds or self.artifact_types)


@dataclass(frozen=True, slots=True)
class FoundRepository:
    """A repository that matches a search.

    Attributes:
        name: the repository, without the host.
        listed: whether the catalog lists it.
        ghost: whether the repository has no tags although the catalog lists it; None if unknown.
        newest: the newest version that has a manifest; if no tag is a version, a tag.
        missing: newer tags whose manifests are missing.
        error: why the newest version could not be fetched.
    """

    name: str
    listed: bool = True
    ghost: bool | None = None
    kind: str | None = None
    artifact_type: str | None = None
    newest: str | None = None
    tag: str | None = None
    digest: str | None = None
    created: str | None = None
    app_version: str | None = None
    description: str | None = None
    missing: tuple[str, ...] = ()
    error: Error | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Searched:
    """The result of a search.

    Attributes:
        repositories: best match first.
        ghosts: matching names that have no tags.
        way: how the names were matched.
        candidates: number of matching names.
        looked_at: number of candidates that were checked.
        known: the catalog that was searched.
        unknown: number of names whose kind is not cached, in an offline search.
    """

    repositories: tuple[FoundRepository, ...]
    ghosts: tuple[str, ...]
    way: Way
    candidates: int
    looked_at: int
    known: KnownCatalog
    unknown: int = 0

    def failure(self) -> Error | None:
        """Return the first error, with the number of failed repositories in its message; None if no repository failed."""
        failed = [(one.name, one.error) for one in self.repositories if one.error is not None]
        if not failed:
            return None
        name, error = failed[0]
        count = f"{len(failed)} of {counted(self.looked_at, 'repository', 'repositories')}"
        error.message = f"cannot inspect {count}; the first error, for `{name}`: {error.message}"
        return error


def registry_of(text: str) -> tuple[Reference, str]:
    """Split a search text such as `HOST/WORDS` into a reference of the registry and the search words.

    Raises:
        InputError, PolicyError: the host is invalid or refused.
    """
    head, separator, rest = text.partition("://")
    if separator and head.lower() in ("oci", "mar", "https"):
        text = rest
    else:
        head = ""
    first, slash, rest = text.partition("/")
    if (slash or head) and (first == "localhost" or any(sign in first for sign in ".:")) and "*" not in first:
        return Reference.parse(f"{first}/x"), rest
    return Reference("x"), text


def search(client: Session, host: Reference, query: SearchQuery) -> Searched:
    """Search the repositories of a registry.

    Args:
        host: any reference of the registry; only its host counts.

    Raises:
        Error: the catalog is not available. An error about one repository is stored in its result.
    """
    known = catalog(client, host) if query.fresh is None else catalog(client, host, fresh=query.fresh)
    registry = client.repository(host)
    names, unlisted = _names(client, known)
    found = find(names, query.text)
    if found.way == "near" and known.age > YOUNG and known.stale is None and not client.options.offline:
        # The current catalog may have a name that the cached one lacks.
        known = catalog(client, host, fresh=0.0)
        names, unlisted = _names(client, known)
        found = find(names, query.text)
    found, unlisted = _with_exact(registry, query.text, found, unlisted)
    recalls = query.looks_inside and client.options.offline  # offline needs no limit: each name costs at most one file read
    limit = query.limit if query.limit is not None or recalls else CANDIDATES if query.looks_inside else None
    candidates = found.names[:limit]
    memory = _Memory(client, str(registry.reference.host))
    plain = [FoundRepository(name, listed=name not in unlisted) for name in candidates]
    if query.looks_inside and not client.options.offline:
        look = _Look(registry, memory)
        seen = client.each(look.at, plain, label="inspecting", unit="repositories")
        memory.write()
    else:
        numbers = [0] * len(plain) if recalls else range(len(plain))
        seen = [
            memory.recall(one, fresh=float("inf")) or _cached(registry, one, number) for number, one in zip(numbers, plain, strict=True)
        ]
    ghosts = tuple(one.name for one in seen if one.ghost)
    fitting = tuple(one for one in seen if _fits(one, query) and not (one.ghost and query.looks_inside))
    unknown = sum(one.kind is None and one.ghost is None and one.error is None for one in seen) if recalls else 0
    return Searched(fitting, ghosts, found.way, len(found.names), len(candidates) - unknown, known, unknown)


def _fits(one: FoundRepository, query: SearchQuery) -> bool:
    if one.error is not None:
        return True  # keep the repository, so that its error is reported
    if query.kinds and one.kind not in {kind.name for kind in query.kinds}:
        return False
    return not query.artifact_types or matches(one.artifact_type or "", query.artifact_types)


def _names(client: Session, known: KnownCatalog) -> tuple[list[str], frozenset[str]]:
    """Return all names in the catalog and the cache, and the names that are only in the cache."""
    prefix = f"{known.host}/"
    cached = {name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name for name in client.cache.names.all()}
    used = {name[len(prefix) :] for name in cached.union(records.repositories(client.cache.root)) if name.startswith(prefix)}
    unlisted = frozenset(name for name in used if is_repository(name)).difference(known.names)
    return [*known.names, *sorted(unlisted)], unlisted


def _with_exact(registry: Repository, text: str, found: Suggestions, unlisted: frozenset[str]) -> tuple[Suggestions, frozenset[str]]:
    """If the text is a path that the catalog lacks, check with one request whether it is a repository, and add it."""
    if "/" not in text or text in found.names or not is_repository(text) or registry.session.options.offline:
        return found, unlisted
    try:
        _in(registry, text).tags()
    except Error:
        return found, unlisted
    others = found.names if found.way != "near" else ()
    return Suggestions((text, *others), "text"), unlisted | {text}


class _Memory:
    """The cached results for the repositories of one registry. One record stores them all."""

    def __init__(self, client: Session, host: str) -> None:
        self._kept = Records(client.cache.root, "search")
        self._host = host
        self._records = self._read()
        self._new: dict[str, Json] = {}

    def _read(self) -> dict[str, Json]:
        found = self._kept.get(self._host)
        return found.data if found is not None and isinstance(found.data, dict) else {}

    def recall(self, plain: FoundRepository, *, fresh: float | None = None) -> FoundRepository | None:
        """Return the cached result for a repository, unless it is too old.

        Args:
            fresh: maximum age in seconds; None: the default.
        """
        record = self._records.get(plain.name)
        if not isinstance(record, dict) or not isinstance(record.get("at"), int):
            return None
        texts: dict[str, Any] = {name: value for name in _TEXTS if isinstance(value := record.get(name), str)}
        ghost = record.get("ghost") is True
        if not ghost and texts.get("kind") not in _KIND_NAMES:
            return None
        missing = record.get("missing")
        age = time.time() - float(str(record["at"]))
        if not -60 <= age < ((FRESH_IF_EMPTY if ghost else FRESH) if fresh is None else fresh):
            return None
        passed = tuple(str(one) for one in missing) if isinstance(missing, list) else ()
        return replace(plain, ghost=ghost, missing=passed, **texts)

    def keep(self, one: FoundRepository) -> None:
        record: dict[str, Json] = {name: getattr(one, name) for name in _TEXTS}
        self._new[one.name] = {**record, "ghost": bool(one.ghost), "missing": list(one.missing), "at": round(time.time())}

    def write(self) -> None:
        """Write the new results, merged with the results that other processes have written."""
        if not self._new:
            return
        limit = time.time() - FORGOTTEN
        merged: dict[str, Json] = {**self._read(), **self._new}
        self._kept.put(
            self._host,
            {name: one for name, one in merged.items() if isinstance(one, dict) and isinstance(at := one.get("at"), int) and at > limit},
        )


_TEXTS: Final = ("kind", "artifact_type", "newest", "tag", "digest", "created", "app_version", "description")
_KIND_NAMES: Final = frozenset(kind.name for kind in KINDS)


class _Look:
    """Fetches the newest versions of repositories, until the registry throttles or the time is up."""

    def __init__(self, registry: Repository, memory: _Memory) -> None:
        self._client = registry.session
        self._registry = registry
        self._memory = memory
        self._stopped: Error | None = None

    def at(self, plain: FoundRepository) -> FoundRepository:
        known = self._memory.recall(plain)
        if known is not None:
            return known
        if self._stopped is not None:
            return replace(plain, error=self._stopped)
        try:
            found = self._look(plain)
        except RateLimitedError as error:
            self._stopped = error
            return replace(plain, error=error)
        except Error as error:
            if error.code == "timeout" and self._client.budget.remaining <= 0:
                self._stopped = error
            return replace(plain, error=error)
        self._memory.keep(found)
        return found

    def _look(self, plain: FoundRepository) -> FoundRepository:
        repository = _in(self._registry, plain.name)
        try:
            tags = repository.tags()
        except NotFoundError:
            return replace(plain, ghost=True)
        missing: list[str] = []
        for tagged, tag in _newest(tags)[:_TRIES]:
            try:
                return self._seen(plain, repository.at(tag=tag), tagged, tuple(missing))
            except NotFoundError:
                missing.append(tag)
        return replace(plain, ghost=True, missing=tuple(missing))

    def _seen(
        self, plain: FoundRepository, repository: Repository, tagged: TaggedVersion | None, missing: tuple[str, ...]
    ) -> FoundRepository:
        found = repository.manifest()
        manifest = _first_manifest(repository, found) if isinstance(found, Index) else found
        one = _described(plain, repository.reference, tagged, found, manifest)
        if manifest is not None and kind_of(manifest) is CHART and manifest.config.size <= MAX_CONFIG_SIZE:
            one = _with_metadata(one, chart_metadata(repository, manifest.config))
        return replace(one, missing=missing)


def _in(registry: Repository, name: str) -> Repository:
    """Return another repository of the same registry."""
    return registry._replace(reference=replace(registry.reference, repository=name, tag=None, digest=None))


def _newest(tags: Sequence[str]) -> list[tuple[TaggedVersion | None, str]]:
    """Sort tags: released versions, then prereleases. If no tag is a version: `latest`, then the others in registry order."""
    versions = [tagged[0] for tagged in distinct(sort_versions(tags)).values()]
    ordered = [one for one in versions if not one.is_prerelease] + [one for one in versions if one.is_prerelease]
    known: list[tuple[TaggedVersion | None, str]] = [(one, one.tag) for one in ordered]
    return known or [(None, tag) for tag in (*(tag for tag in tags if tag == "latest"), *(tag for tag in tags if tag != "latest"))]


def _first_manifest(repository: Repository, index: Index) -> Manifest | None:
    """Return the first artifact of an index. Build tools mark attestations, which are skipped, with an `unknown` platform."""
    children = [child for child in index.manifests if not child.is_attestation]
    if not children:
        return None
    found = repository.manifest(children[0].digest)
    return found if isinstance(found, Manifest) else None


def _described(
    plain: FoundRepository, reference: Reference, tagged: TaggedVersion | None, found: Manifest | Index, manifest: Manifest | None
) -> FoundRepository:
    kind = kind_of(manifest) if manifest is not None else kind_of_type(found.artifact_type)
    annotations = {**(manifest.annotations if manifest is not None else {}), **found.annotations}
    return replace(
        plain,
        ghost=False,
        kind=kind.name if kind is not None else "file",
        artifact_type=manifest.effective_type if manifest is not None else found.artifact_type,
        newest=str(tagged.version) if tagged is not None else reference.tag,
        tag=reference.tag,
        digest=str(found.descriptor.digest),
        created=annotations.get(CREATED),
        description=annotations.get("org.opencontainers.image.description"),
    )


def _with_metadata(one: FoundRepository, metadata: dict[str, Json]) -> FoundRepository:
    app_version, description = metadata.get("appVersion"), metadata.get("description")
    return replace(
        one,
        app_version=app_version if isinstance(app_version, str) else None,
        description=description if isinstance(description, str) else one.description,
    )


def _cached(registry: Repository, plain: FoundRepository, number: int) -> FoundRepository:
    """Add what the cache has about a repository, without a request. To save time, only the first `CANDIDATES` are looked up."""
    if number >= CANDIDATES:
        return plain
    client, repository = registry.session, _in(registry, plain.name)
    tags = records.read(client.cache.root, repository.reference.full_repository)
    if not tags:
        return plain
    tagged, tag = _newest(tags)[0]
    reference = repository.at(tag=tag).reference
    descriptor = client.cache.known(reference)
    found = client.cache.find(descriptor.digest, descriptor.media_type) if descriptor is not None else None
    if isinstance(found, Manifest):
        one = _described(plain, reference, tagged, found, found)
        return _with_metadata(one, kept_metadata(client, found.config)) if kind_of(found) is CHART else one
    return replace(plain, ghost=False, tag=tag, newest=str(tagged.version) if tagged is not None else tag)
