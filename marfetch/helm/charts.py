"""Find the charts of a repository or a namespace for Helm's index. Results are cached, so that later calls are fast."""

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
"""The number of newest versions whose manifests are fetched. Older versions use only what is cached."""
FRESH: Final = 60.0
"""The time in seconds for which a cached index is returned without a request."""
FRESH_IN_NAMESPACE: Final = 600.0
"""The time in seconds for which the index of a namespace uses the cached charts of a repository."""
FRESH_IF_OTHER: Final = 86_400.0
"""The time in seconds for which the cache remembers that a repository contains no charts."""
FRESH_IF_INCOMPLETE: Final = 10.0
"""The time in seconds for which a cached incomplete index is returned. Helm requests an index several times within one command."""
NAMESPACE_TIME: Final = 25.0
"""The time in seconds that one call spends on a namespace. The next call continues. Helm waits 30 s for an index."""
CACHE_TIME: Final = 3.0
"""The time in seconds after `NAMESPACE_TIME` in which a call still reads other repositories from the cache, without requests."""
AT_ONCE: Final = 500
"""The number of repositories that are queued for the threads at once."""
MOST_OTHERS: Final = 100
"""The number of newest versions to check. If none of them is a chart, the repository is considered to contain no charts."""
BUILD_WAIT: Final = 60.0
"""The time in seconds to wait for another process that is building the same index."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The charts of an index.

    Attributes:
        charts: the versions of each chart, newest first, by the path of the repository in the index.
        failures: the errors of repositories that could not be read.
        taken: the paths of all repositories in the namespace, including unread ones. The names of charts must not hide these paths.
    """

    charts: Mapping[str, Sequence[Release]]
    failures: Sequence[Error] = ()
    taken: Set[str] = frozenset()


def kept_index(kept: Records, host: str, path: str) -> bytes | None:
    """Return a cached index that is still fresh, or None. This is fast, because it needs no session.

    Args:
        kept: the cached indexes.
        path: the path of a repository or a namespace; empty for the whole registry.
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
    """Build Helm's index of a repository or a namespace. If another process is building the same index, wait for its result.

    Args:
        host_reference: any reference of the registry. Only its host is used.
        path: the path of a repository or a namespace; empty for the whole registry.

    Raises:
        NotFoundError: there is no repository or namespace with this path.
        PolicyError: `kind-refused`: the repository contains no charts.
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
        InputError: `usage`: a reference has a tag or digest, or the references are on several registries.
        PolicyError: `kind-refused`: a repository contains no charts.
        Error: the same errors as `releases_of`.
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
    paths: dict[str, str] = {}  # by repository, because a repository may be given twice, directly and by its namespace
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
    """Add a key for each chart whose name differs from the name of its repository. Helm finds dependencies only by the chart's name.

    No key is added for a name that is also the path of another repository, or that charts in several repositories have.
    """
    found: dict[str, dict[str, list[Release]]] = {}  # the versions with that name, by key and by path of the repository
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
    """Return the versions of the chart in a repository, newest first. Return None if the repository contains no charts.

    This requests the list of tags, and the manifests and configs of the newest versions if they are not cached.

    Raises:
        NotFoundError: `repository-not-found`.
        Error: the registry failed.
    """
    client.fetches = True  # the configs of the newest versions
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
    # Skip versions that are not charts. Keep versions that could not be read, because their tags exist.
    name = next((one.name for one in looked_at if isinstance(one, Release)), None)
    near = [_release(bound, tagged, name) if isinstance(one, Error) else one for tagged, one in zip(versions, looked_at, strict=False)]
    far = [_known(client, bound, tagged, name) for tagged in versions[len(near) :]]
    return [one for one in (*near, *far) if one is not None]


def _release(bound: Reference, tagged: TaggedVersion, name: str | None = None) -> Release:
    return Release(name or base_name(bound.repository), chart_version(tagged), bound.repository, tagged.tag)


def _looked_at(repository: Repository, tagged: TaggedVersion) -> Release | Error | None:
    """Request a version's manifest and config, and return the facts in them, or the error. Return None if the version is not a chart."""
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
    """Return a version with its cached facts, if any, without a request. Return None if the cache shows that it is not a chart."""
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
        pass  # list the version anyway; pulling it reports the error
    names = (metadata.get("name"), manifest.annotations.get(TITLE))  # `helm push` writes the chart's name as title
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
    """Find the charts in all repositories of the catalog below a path."""
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
        for start in range(0, len(names), AT_ONCE):  # queue a part at a time: a thread pool keeps all queued work in memory
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
    """Return the names in the catalog. Raise if the catalog cannot be updated, because an outdated one would hide charts."""
    known = catalog(client, bound, fresh=0.0)
    if known.stale is not None:
        raise known.stale
    return known.names


class _Look:
    """Reads the repositories of a namespace until the time limit, and caches the results."""

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
            releases = []  # a catalog can list repositories that do not exist
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
    """Decode the cached charts of a repository. Return None if the record is corrupted."""
    try:
        return [_release_of(one, repository) for one in data] if isinstance(data, list) else None
    except (Error, KeyError, TypeError):
        return None


def _release_of(record: Json, repository: str) -> Release:
    if not isinstance(record, dict):
        raise TypeError("not a record")
    made, facts = record["created"], record["facts"]
    name = record.get("name")  # version 0.1 wrote records without a name
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
