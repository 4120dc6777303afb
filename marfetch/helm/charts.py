"""Find the charts of a repository or a namespace for Helm's index. Results are cached to keep later calls fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from ..artifact.kinds import CHART, kind_of
from ..artifact.payload import Choice, base_name, select
from ..client.catalog import catalog, suggest
from ..client.fetch import MAX_CONFIG_SIZE, chart_metadata, kept_metadata
from ..client.session import Repository, Session
from ..constraint import TaggedVersion, chart_version, distinct, sort_versions
from ..document import Json
from ..errors import Error, InputError, NotFoundError, PolicyError, RateLimitedError
from ..oci import CREATED, TITLE, Digest, Manifest
from ..records import Records
from ..reference import Reference
from ..text import counted
from .index_yaml import Release, chart_facts, created, index, is_chart_name

NEWEST: Final = 20
"""Number of newest versions whose manifests are fetched."""
FRESH: Final = 60.0
"""Seconds for which a cached index is returned without a request."""
FRESH_IN_NAMESPACE: Final = 600.0
"""Seconds for which the cached charts of a repository count in the index of a namespace."""
FRESH_IF_OTHER: Final = 86_400.0
"""Seconds for which a repository is remembered to contain no charts."""
FRESH_IF_INCOMPLETE: Final = 10.0
"""Seconds for which an incomplete index is returned again, since Helm requests it several times within one command."""
NAMESPACE_TIME: Final = 25.0
"""Seconds that one call spends on a namespace; the next call continues. Helm waits 30 s for its repositories."""
CACHE_TIME: Final = 3.0
"""Seconds beyond that, in which it still takes what the cache knows of the other repositories."""
AT_ONCE: Final = 500
"""Number of repositories that are passed to the threads at once."""
MOST_OTHERS: Final = 100
"""Number of newest versions to check before a repository is considered to contain no charts."""
BUILD_WAIT: Final = 60.0
"""Seconds to wait for another process that builds the same index."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The charts of an index.

    Attributes:
        charts: path of the repository in the index → versions, newest first.
        failures: the errors of repositories that could not be read.
        taken: further paths of repositories, which may have charts: no chart's own name is a key that hides them.
    """

    charts: Mapping[str, Sequence[Release]]
    failures: Sequence[Error] = ()
    taken: Set[str] = frozenset()


def kept_index(kept: Records, host: str, path: str) -> bytes | None:
    """Return a cached index that is still fresh, without a network or a session.

    Args:
        kept: the cached indexes.
        path: a repository or a namespace; empty for the whole registry.
    """
    found = kept.get(f"{host}/{path}")
    if found is None:
        return None
    match found.data:
        case str(text) if found.age < FRESH:
            return text.encode()
        case {"incomplete": str(text)} if found.age < FRESH_IF_INCOMPLETE:
            return text.encode()
    return None


def build_index(client: Session, host_reference: Reference, path: str) -> bytes:
    """Build Helm's index of a repository or a namespace. Processes that need the same index wait for the first one.

    Args:
        host_reference: any reference of the registry; only its host counts.

    Raises:
        NotFoundError: there is no repository or namespace with this name, or it contains no charts.
        Error: the registry failed.
    """
    host = str(host_reference.host) if host_reference.host else ""
    kept = Records(client.cache.root, "indexes")
    with kept.alone(f"{host}/{path}", wait=BUILD_WAIT):
        found = kept_index(kept, host, path)
        if found is not None:
            return found
        listing = _listing(client, host_reference, path)
        raw = index(_by_own_names(listing.charts, listing.taken), host=host)
        kept.put(f"{host}/{path}", {"incomplete": raw.decode()} if listing.failures else raw.decode())
        return raw


def index_of(client: Session, references: Sequence[Reference]) -> bytes:
    """Build Helm's index of several chart repositories or namespaces of one registry.

    Raises:
        InputError: `usage`: a tag or digest, or several registries.
        PolicyError: `kind-refused`: one of them contains no charts.
        Error: see `releases_of`.
    """
    bounds = []
    for reference in references:
        if reference.tag or reference.digest:
            raise InputError(f"an index lists repositories, but `{reference}` names one artifact", code="usage", reference=str(reference))
        bounds.append(client.repository(reference).reference)
    hosts = {str(bound.host) for bound in bounds}
    if len(hosts) != 1:
        listed = ", ".join(f"`{host}`" for host in sorted(hosts))
        raise InputError(f"an index cannot combine several registries: {listed}", code="usage")
    paths: dict[str, str] = {}  # by repository, because one can be given twice, or also through a namespace
    found: dict[str, Sequence[Release]] = {}
    taken: set[str] = set()
    for bound in dict.fromkeys(bounds):
        listing = _listing(client, bound, bound.repository)
        taken |= listing.taken
        for path, releases in listing.charts.items():
            found[releases[0].repository] = releases
            paths[releases[0].repository] = path
    # If several repositories have the same path below their namespaces, use their full paths.
    often = Counter(paths.values())
    charts = {paths[one] if often[paths[one]] == 1 else one: releases for one, releases in found.items()}
    return index(_by_own_names(charts, taken), host=hosts.pop())


def _by_own_names(charts: Mapping[str, Sequence[Release]], taken: Set[str]) -> dict[str, Sequence[Release]]:
    """Add keys for charts whose own name is not that of their repository: Helm finds dependencies only by the chart's own name.

    A name that is the path of another repository, or that charts of several repositories have, gets no key.
    """
    found: dict[str, dict[str, list[Release]]] = {}  # key → path of the repository → versions with that name
    for path, releases in charts.items():
        for release in releases:
            key = f"{path.rpartition('/')[0]}/{release.name}".removeprefix("/")
            found.setdefault(key, {}).setdefault(path, []).append(release)
    own = {
        key: next(iter(by_path.values())) for key, by_path in found.items() if len(by_path) == 1 and key not in charts and key not in taken
    }
    return {**charts, **own}


def _listing(client: Session, host_reference: Reference, path: str) -> Listing:
    if path:
        try:
            releases = releases_of(client, replace(host_reference, repository=path))
        except NotFoundError as error:
            if error.code != "repository-not-found":
                raise
        else:
            if releases is None:
                raise _no_charts(host_reference, path)
            return Listing({base_name(path): releases})
    return _namespace(client, host_reference, path)


def releases_of(client: Session, reference: Reference) -> list[Release] | None:
    """Return the versions of the chart in a repository, newest first; None if it contains no charts.

    Requests the tag list, and the manifests and configs of the newest versions that are not cached.

    Raises:
        NotFoundError: `repository-not-found`.
        Error: the registry failed.
    """
    repository = client.repository(replace(reference, tag=None, digest=None))
    bound = repository.reference
    versions = [tagged[0] for tagged in distinct(sort_versions(repository.tags())).values()]
    looked_at: list[Release | Error | None] = []
    for start in range(0, min(len(versions), MOST_OTHERS), NEWEST):
        looked_at += client.each(
            lambda tagged: _looked_at(repository, tagged), versions[start : start + NEWEST], label="reading", unit="versions"
        )
        if any(one is not None for one in looked_at):
            break
    if not any(isinstance(one, Release) for one in looked_at):
        failures = [one for one in looked_at if isinstance(one, Error)]
        for failure in failures:
            if not isinstance(failure, NotFoundError):
                raise failure
        if not failures:
            return None
    # Drop versions that are not charts, but keep failed ones, since their tags exist.
    name = next((one.name for one in looked_at if isinstance(one, Release)), None)
    near = [_release(bound, tagged, name) if isinstance(one, Error) else one for tagged, one in zip(versions, looked_at, strict=False)]
    far = [_known(client, bound, tagged, name) for tagged in versions[len(near) :]]
    return [one for one in (*near, *far) if one is not None]


def _release(bound: Reference, tagged: TaggedVersion, name: str | None = None) -> Release:
    return Release(name or base_name(bound.repository), chart_version(tagged), bound.repository, tagged.tag)


def _looked_at(repository: Repository, tagged: TaggedVersion) -> Release | Error | None:
    """Return a version with the facts of its manifest and config; None if it is not a chart."""
    here = repository.at(tag=tagged.tag)
    try:
        manifest = here.manifest()
        if not isinstance(manifest, Manifest) or kind_of(manifest) is not CHART:
            return None
        metadata = chart_metadata(here, manifest.config) if manifest.config.size <= MAX_CONFIG_SIZE else {}
        return _described(_release(here.reference, tagged), manifest, metadata)
    except Error as error:
        return error


def _known(client: Session, bound: Reference, tagged: TaggedVersion, name: str | None) -> Release | None:
    """Return a version with its cached facts, if any, without a request; None if the cache has something other than a chart."""
    descriptor = client.cache.known(replace(bound, tag=tagged.tag))
    manifest = client.cache.find(descriptor.digest, descriptor.media_type) if descriptor else None
    if manifest is None:
        return _release(bound, tagged, name)
    if not isinstance(manifest, Manifest) or kind_of(manifest) is not CHART:
        return None
    return _described(_release(bound, tagged, name), manifest, kept_metadata(client, manifest.config))


def _described(release: Release, manifest: Manifest, metadata: dict[str, Json]) -> Release:
    package: Digest | None = None
    try:
        (payload,) = select(manifest, Choice(), name=release.name, tag=release.tag, what=release.repository).payloads
        package = payload.layer.digest
    except (Error, ValueError):
        pass  # pulling this version reports the error
    names = (metadata.get("name"), manifest.annotations.get(TITLE))  # the title is the name that `helm push` writes
    return replace(
        release,
        name=next((name for name in names if isinstance(name, str) and is_chart_name(name)), release.name),
        manifest=manifest.descriptor.digest,
        package=package,
        created=created(manifest.annotations.get(CREATED)),
        facts=chart_facts(metadata),
    )


# -- namespaces


def _namespace(client: Session, host_reference: Reference, path: str) -> Listing:
    """Find the charts below a path through the catalog."""
    bound = client.repository(replace(host_reference, repository=path or "catalog")).reference
    prefix = f"{path}/" if path else ""
    listed = _listed(client, bound)
    names = [name for name in listed if name.startswith(prefix) and is_chart_name(name.rpartition("/")[2])]
    if path and not names:
        error = NotFoundError(
            f"`{bound.host}` has no repository `{path}`, and none below that path",
            code="repository-not-found",
            reference=f"{bound.host}/{path}",
        )
        suggest(client, error, bound)
        raise error
    look = _Look(client, bound)
    charts: dict[str, Sequence[Release]] = {}
    with client.budget.at_most(NAMESPACE_TIME, "that one call spends on a namespace"):
        for start in range(0, len(names), AT_ONCE):  # a thread pool holds everything that it is given
            some = names[start : start + AT_ONCE]
            found = zip(some, client.each(look.at, some, label="reading", unit="repositories"), strict=True)
            charts.update((name.removeprefix(prefix), releases) for name, releases in found if releases)
            if client.budget.remaining < -CACHE_TIME:
                look.failures += [client.budget.exceeded()] * (len(names) - start - len(some))
                break
    if look.failures:
        first = look.failures[0]
        if not charts:
            raise first
        client.progress.warn(
            f"cannot read {len(look.failures)} of {counted(len(names), 'repository', 'repositories')} below `{bound.host}/{path}`"
            f" ({first.message}); the next call continues with them"
        )
    return Listing(charts, look.failures, {name.removeprefix(prefix) for name in names})


def _listed(client: Session, bound: Reference) -> tuple[str, ...]:
    """Return the names of the current catalog; an index is never built from an outdated one."""
    known = catalog(client, bound, fresh=0.0)
    if known.stale is not None:
        raise known.stale
    return known.names


class _Look:
    """Reads the repositories of a namespace until the time is up, and caches the results."""

    def __init__(self, client: Session, bound: Reference) -> None:
        self._client = client
        self._bound = bound
        self._kept = Records(client.cache.root, "charts")
        self._over: Error | None = None
        self.failures: list[Error] = []

    def at(self, repository: str) -> list[Release]:
        key = f"{self._bound.host}/{repository}"
        found = self._kept.get(key)
        before = _read(found.data, repository) if found is not None else None
        if found is not None and before is not None and found.age < (FRESH_IN_NAMESPACE if before else FRESH_IF_OTHER):
            return before
        if self._over is not None:
            self.failures.append(self._over)
            return before or []
        try:
            self._client.budget.check()
            releases = releases_of(self._client, replace(self._bound, repository=repository)) or []
        except NotFoundError:
            releases = []  # the catalog lists repositories that do not exist
        except Error as error:
            if isinstance(error, RateLimitedError) or self._client.budget.remaining <= 0:
                self._over = error
            self.failures.append(error)
            return before or []
        self._kept.put(key, [_record(release) for release in releases])
        return releases


def _record(release: Release) -> Json:
    return {
        "name": release.name,
        "version": release.version,
        "tag": release.tag,
        "manifest": str(release.manifest) if release.manifest else None,
        "package": str(release.package) if release.package else None,
        "created": release.created,
        "facts": dict(release.facts),
    }


def _read(data: Json, repository: str) -> list[Release] | None:
    """Decode the cached charts of a repository; None if the record is corrupted."""
    try:
        return [_release_of(one, repository) for one in data] if isinstance(data, list) else None
    except (Error, KeyError, TypeError):
        return None


def _release_of(record: Json, repository: str) -> Release:
    if not isinstance(record, dict):
        raise TypeError("not a record")
    made, facts = record["created"], record["facts"]
    name = record.get("name")  # not in the records of version 0.1
    return Release(
        name if isinstance(name, str) and is_chart_name(name) else base_name(repository),
        str(record["version"]),
        repository,
        str(record["tag"]),
        Digest.parse(str(record["manifest"])) if record["manifest"] else None,
        Digest.parse(str(record["package"])) if record["package"] else None,
        str(made) if made else None,
        facts if isinstance(facts, dict) else {},
    )


def _no_charts(host_reference: Reference, path: str) -> PolicyError:
    return PolicyError(
        f"`{host_reference.host}/{path}` contains no charts",
        code="kind-refused",
        hint=f"marfetch inspect {host_reference.host}/{path}",
        reference=f"{host_reference.host}/{path}",
        rule="an index contains only charts",
    )
