"""Search: repositories by name, and by what their newest version really holds.

What a repository holds is told by its newest manifest, never by its path. So a search by kind asks for the tags and one manifest of each
candidate, side by side, and for the config of a chart; what was found is kept, in one document for each registry.
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
from .catalog import KnownCatalog, Suggestions, Way, catalog, find
from .fetch import MAX_CONFIG_SIZE, chart_metadata, kept_metadata
from .session import Repository, Session

CANDIDATES: Final = 200
"""How many repositories one search by kind looks into."""
FRESH: Final = 3600.0
"""Seconds for which counts what was found in a repository."""
FRESH_IF_EMPTY: Final = 86_400.0
"""The same where it had no tags."""
YOUNG: Final = 60.0
"""Seconds for which the kept catalog is believed that a name is not in it."""
FORGOTTEN: Final = 30 * 86_400.0
"""Seconds after which it is kept no longer."""
_TRIES: Final = 3
"""Versions without a manifest that are passed over."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is searched for.

    Attributes:
        text: as `client.catalog.find` takes it.
        kinds: by what the newest version holds; empty: any.
        artifact_types: globs, likewise.
        limit: how many candidates at most, nearest first; None: all, or `CANDIDATES` where they are looked into.
        fresh: seconds for which the kept catalog is not asked for anew; None: as usual.
    """

    text: str = ""
    kinds: tuple[Kind, ...] = ()
    artifact_types: tuple[str, ...] = ()
    limit: int | None = None
    fresh: float | None = None

    @property
    def looks_inside(self) -> bool:
        """Whether candidates are looked into."""
        return bool(self.kinds or self.artifact_types)


@dataclass(frozen=True, slots=True)
class FoundRepository:
    """What is known of a repository.

    Attributes:
        name: without the host.
        listed: whether the catalog has it.
        ghost: whether it has no tags though the catalog has it; None where nobody looked.
        newest: the newest version that has a manifest; where no tag is a version, a tag.
        missing: newer versions that are listed but have no manifest.
        error: why it could not be looked into.
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
    """What was found.

    Attributes:
        repositories: nearest first.
        ghosts: names that fit but have no tags.
        way: how names were compared.
        candidates: how many names fit.
        looked_at: how many of them were considered.
        known: the catalog.
        unknown: names of which the cache does not know what they hold, where nobody could be asked.
    """

    repositories: tuple[FoundRepository, ...]
    ghosts: tuple[str, ...]
    way: Way
    candidates: int
    looked_at: int
    known: KnownCatalog
    unknown: int = 0

    def failure(self) -> Error | None:
        """The first failure of a repository that could not be looked into, which then says how many there are."""
        failed = [(one.name, one.error) for one in self.repositories if one.error is not None]
        if not failed:
            return None
        name, error = failed[0]
        error.message = f"{len(failed)} of {self.looked_at} repositories could not be looked into; the first, `{name}`: {error.message}"
        return error


def registry_of(text: str) -> tuple[Reference, str]:
    """A reference of the registry that is meant, and the words; a scheme or a host in front of the text is not part of them.

    Raises:
        InputError, PolicyError: the host cannot be read, or is refused.
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


def search(client: Session, host: Reference, wish: SearchQuery) -> Searched:
    """Find repositories.

    Args:
        host: any reference of the registry; only its host counts.

    Raises:
        Error: the catalog cannot be had. What fails for one repository stands in it.
    """
    known = catalog(client, host) if wish.fresh is None else catalog(client, host, fresh=wish.fresh)
    registry = client.repository(host)
    names, unlisted = _names(client, known)
    found = find(names, wish.text)
    if found.way == "near" and known.age > YOUNG and known.stale is None and not client.options.offline:
        # What is not in a kept catalog may be in the one of now.
        known = catalog(client, host, fresh=0.0)
        names, unlisted = _names(client, known)
        found = find(names, wish.text)
    found, unlisted = _with_exact(registry, wish.text, found, unlisted)
    recalls = wish.looks_inside and client.options.offline  # then every name costs a file at most
    limit = wish.limit if wish.limit is not None or recalls else CANDIDATES if wish.looks_inside else None
    candidates = found.names[:limit]
    memory = _Memory(client, str(registry.reference.host))
    plain = [FoundRepository(name, listed=name not in unlisted) for name in candidates]
    if wish.looks_inside and not client.options.offline:
        look = _Look(registry, memory)
        seen = client.each(look.at, plain)
        memory.write()
    else:
        numbers = [0] * len(plain) if recalls else range(len(plain))
        seen = [
            memory.recall(one, fresh=float("inf")) or _cached(registry, one, number) for number, one in zip(numbers, plain, strict=True)
        ]
    ghosts = tuple(one.name for one in seen if one.ghost)
    fitting = tuple(one for one in seen if _fits(one, wish) and not (one.ghost and wish.looks_inside))
    unknown = sum(one.kind is None and one.ghost is None and one.error is None for one in seen) if recalls else 0
    return Searched(fitting, ghosts, found.way, len(found.names), len(candidates) - unknown, known, unknown)


def _fits(one: FoundRepository, wish: SearchQuery) -> bool:
    if one.error is not None:
        return True  # nobody knows; it is said so
    if wish.kinds and one.kind not in {kind.name for kind in wish.kinds}:
        return False
    return not wish.artifact_types or matches(one.artifact_type or "", wish.artifact_types)


def _names(client: Session, known: KnownCatalog) -> tuple[list[str], frozenset[str]]:
    """The names of the catalog and those that only the cache knows, and which these are."""
    prefix = f"{known.host}/"
    cached = {name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name for name in client.cache.names.all()}
    used = {name[len(prefix) :] for name in cached.union(records.repositories(client.cache.root)) if name.startswith(prefix)}
    unlisted = frozenset(name for name in used if is_repository(name)).difference(known.names)
    return [*known.names, *sorted(unlisted)], unlisted


def _with_exact(registry: Repository, text: str, found: Suggestions, unlisted: frozenset[str]) -> tuple[Suggestions, frozenset[str]]:
    """A text that is a whole path may name a repository that the catalog lacks: one look tells."""
    if "/" not in text or text in found.names or not is_repository(text) or registry.session.options.offline:
        return found, unlisted
    try:
        _in(registry, text).tags()
    except Error:
        return found, unlisted
    others = found.names if found.way != "near" else ()
    return Suggestions((text, *others), "text"), unlisted | {text}


class _Memory:
    """What was found in the repositories of one registry, kept in one document."""

    def __init__(self, client: Session, host: str) -> None:
        self._kept = Records(client.cache.root, "search")
        self._host = host
        self._records = self._read()
        self._new: dict[str, Json] = {}

    def _read(self) -> dict[str, Json]:
        found = self._kept.get(self._host)
        return found.data if found is not None and isinstance(found.data, dict) else {}

    def recall(self, plain: FoundRepository, *, fresh: float | None = None) -> FoundRepository | None:
        """What is kept of a repository, where it is young enough.

        Args:
            fresh: seconds; None: as long as it counts.
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
        """Add what is new to what other processes may have written in the meantime."""
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
    """Looks into repositories until the registry has had enough."""

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
    """Another repository of the same registry."""
    return replace(registry, reference=replace(registry.reference, repository=name, tag=None, digest=None))


def _newest(tags: Sequence[str]) -> list[tuple[TaggedVersion | None, str]]:
    """Tags from the newest on: released versions, prereleases, `latest`, and others in the order of the registry."""
    versions = [tagged[0] for tagged in distinct(sort_versions(tags)).values()]
    ordered = [one for one in versions if not one.is_prerelease] + [one for one in versions if one.is_prerelease]
    known: list[tuple[TaggedVersion | None, str]] = [(one, one.tag) for one in ordered]
    return known or [(None, tag) for tag in (*(tag for tag in tags if tag == "latest"), *(tag for tag in tags if tag != "latest"))]


def _first_manifest(repository: Repository, index: Index) -> Manifest | None:
    """The first artifact of an index; `unknown` platforms are how build tools mark attestations."""
    children = [child for child in index.manifests if child.platform is None or child.platform.os != "unknown"]
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
    """What the cache says of a repository, without a request; only of the first ones, since it takes time."""
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
