"""The charts of a repository or of a namespace, as Helm's index shows them; what was found is kept, so that the next look is short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
from ..oci import CREATED, Digest, Manifest
from ..records import Records
from ..reference import Reference
from .index_yaml import Release, chart_facts, created, index, is_chart_name

NEWEST: Final = 20
"""Of how many versions of a repository the manifest is looked at."""
FRESH: Final = 60.0
"""Seconds for which an index is given again without a look at the registry."""
FRESH_IN_NAMESPACE: Final = 600.0
"""Seconds for which what is known of one repository counts while a namespace is listed."""
FRESH_IF_OTHER: Final = 86_400.0
"""The same for a repository that holds no charts."""
FRESH_IF_INCOMPLETE: Final = 10.0
"""The same for an index in which something is missing: Helm asks several times within one command."""
NAMESPACE_TIME: Final = 25.0
"""Seconds that one call spends on a namespace; the next one goes on. Helm itself waits 30 s for the list of its repositories."""
MOST_OTHERS: Final = 100
"""Newest versions that are looked at before a repository counts as one without charts."""
BUILD_WAIT: Final = 60.0
"""Seconds to wait for another process that builds the same index."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found.

    Attributes:
        charts: key of the index → versions, newest first.
        failures: for each repository that could not be looked at, why.
    """

    charts: Mapping[str, Sequence[Release]]
    failures: Sequence[Error] = ()


def kept_index(kept: Records, host: str, path: str) -> bytes | None:
    """An index that was built a short while ago; it needs neither a network nor a client.

    Args:
        kept: of the sort `indexes`.
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
    """Helm's index of a repository, or of the charts below a namespace. Of several processes that want the same one, one builds it.

    Args:
        host_reference: any reference of the registry; only its host counts.

    Raises:
        NotFoundError: there is neither a repository nor a namespace of this name, or it holds no charts.
        Error: the registry failed.
    """
    host = str(host_reference.host) if host_reference.host else ""
    kept = Records(client.cache.root, "indexes")
    with kept.alone(f"{host}/{path}", wait=BUILD_WAIT):
        found = kept_index(kept, host, path)
        if found is not None:
            return found
        listing = _listing(client, host_reference, path)
        raw = index(listing.charts, host=host)
        kept.put(f"{host}/{path}", {"incomplete": raw.decode()} if listing.failures else raw.decode())
        return raw


def index_of(client: Session, references: Sequence[Reference]) -> bytes:
    """Helm's index of some chart repositories or namespaces, of one registry.

    Raises:
        InputError: `usage`: a tag or digest, or several registries.
        PolicyError: `kind-refused`: one of them holds no charts.
        Error: as `releases_of`.
    """
    bounds = []
    for reference in references:
        if reference.tag or reference.digest:
            raise InputError(f"an index is of repositories, but `{reference}` names one artifact", code="usage", reference=str(reference))
        bounds.append(client.repository(reference).reference)
    hosts = {str(bound.host) for bound in bounds}
    if len(hosts) != 1:
        raise InputError(f"one index is of one registry, not of {', '.join(f'`{host}`' for host in sorted(hosts))}", code="usage")
    found: dict[str, Sequence[Release]] = {}  # by repository: one that is named twice, or in a namespace too, is in there once
    names: dict[str, str] = {}
    for bound in dict.fromkeys(bounds):
        for name, releases in _listing(client, bound, bound.repository).charts.items():
            found[releases[0].repository] = releases
            names[releases[0].repository] = name
    # Charts of one name go side by side under their paths.
    often = Counter(names.values())
    return index({names[one] if often[names[one]] == 1 else one: releases for one, releases in found.items()}, host=hosts.pop())


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
    """The versions of the chart in a repository, newest first; None where it holds no charts.

    The tag list is asked for, and the manifests and configs of the newest versions, those that the cache has aside.

    Raises:
        NotFoundError: `repository-not-found`.
        Error: the registry failed.
    """
    repository = client.repository(replace(reference, tag=None, digest=None))
    bound = repository.reference
    versions = [tagged[0] for tagged in distinct(sort_versions(repository.tags())).values()]
    looked_at: list[Release | Error | None] = []
    for start in range(0, min(len(versions), MOST_OTHERS), NEWEST):
        looked_at += client.each(lambda tagged: _looked_at(repository, tagged), versions[start : start + NEWEST])
        if any(one is not None for one in looked_at):
            break
    if not any(isinstance(one, Release) for one in looked_at):
        failures = [one for one in looked_at if isinstance(one, Error)]
        for failure in failures:
            if not isinstance(failure, NotFoundError):
                raise failure
        if not failures:
            return None
    # What is no chart is left out; what failed stays, since the tag is there.
    near = [_release(bound, tagged) if isinstance(one, Error) else one for tagged, one in zip(versions, looked_at, strict=False)]
    far = [_known(client, bound, tagged) or _release(bound, tagged) for tagged in versions[len(near) :]]
    return [one for one in near if one is not None] + far


def _release(bound: Reference, tagged: TaggedVersion) -> Release:
    return Release(base_name(bound.repository), chart_version(tagged), bound.repository, tagged.tag)


def _looked_at(repository: Repository, tagged: TaggedVersion) -> Release | Error | None:
    """A version with what its manifest and config say; None where it is no chart."""
    here = repository.at(tag=tagged.tag)
    try:
        manifest = here.manifest()
        if not isinstance(manifest, Manifest) or kind_of(manifest) is not CHART:
            return None
        metadata = chart_metadata(here, manifest.config) if manifest.config.size <= MAX_CONFIG_SIZE else {}
        return _described(_release(here.reference, tagged), manifest, metadata)
    except Error as error:
        return error


def _known(client: Session, bound: Reference, tagged: TaggedVersion) -> Release | None:
    """A version with what the cache says of it, without a request."""
    descriptor = client.cache.known(replace(bound, tag=tagged.tag))
    manifest = client.cache.find(descriptor.digest, descriptor.media_type) if descriptor else None
    if not isinstance(manifest, Manifest) or kind_of(manifest) is not CHART:
        return None
    return _described(_release(bound, tagged), manifest, kept_metadata(client, manifest.config))


def _described(release: Release, manifest: Manifest, metadata: dict[str, Json]) -> Release:
    package: Digest | None = None
    try:
        (payload,) = select(manifest, Choice(), name=release.name, tag=release.tag, what=release.repository).payloads
        package = payload.layer.digest
    except (Error, ValueError):
        pass  # what cannot be chosen is told when somebody asks for it
    return replace(
        release,
        manifest=manifest.descriptor.digest,
        package=package,
        created=created(manifest.annotations.get(CREATED)),
        facts=chart_facts(metadata),
    )


# -- namespaces


def _namespace(client: Session, host_reference: Reference, path: str) -> Listing:
    """The charts below a path, found through the catalog."""
    bound = client.repository(replace(host_reference, repository=path or "catalog")).reference
    prefix = f"{path}/" if path else ""
    listed = _listed(client, bound)
    names = [name for name in listed if name.startswith(prefix) and is_chart_name(name.rpartition("/")[2])]
    if path and not names:
        error = NotFoundError(
            f"`{bound.host}` has neither a repository `{path}` nor one below it",
            code="repository-not-found",
            reference=f"{bound.host}/{path}",
        )
        suggest(client, error, bound)
        raise error
    look = _Look(client, bound)
    with client.budget.at_most(NAMESPACE_TIME, "that one call spends on a namespace"):
        found = client.each(look.at, names)
    charts = {name.removeprefix(prefix): releases for name, releases in zip(names, found, strict=True) if releases}
    if look.failures:
        first = look.failures[0]
        if not charts:
            raise first
        client.progress.warn(
            f"{len(look.failures)} of {len(names)} repositories below `{bound.host}/{path}` could not be looked at ({first.message});"
            " the next call goes on with them"
        )
    return Listing(charts, look.failures)


def _listed(client: Session, bound: Reference) -> tuple[str, ...]:
    """The catalog as it is now: an index is not built of an old one."""
    known = catalog(client, bound, fresh=0.0)
    if known.stale is not None:
        raise known.stale
    return known.names


class _Look:
    """Looks at the repositories of a namespace for as long as there is time, and keeps what it finds."""

    def __init__(self, client: Session, bound: Reference) -> None:
        self._client = client
        self._bound = bound
        self._kept = Records(client.cache.root, "charts")
        self._throttled: RateLimitedError | None = None
        self.failures: list[Error] = []

    def at(self, repository: str) -> list[Release]:
        key = f"{self._bound.host}/{repository}"
        found = self._kept.get(key)
        before = _read(found.data, repository) if found is not None else None
        if found is not None and before is not None and found.age < (FRESH_IN_NAMESPACE if before else FRESH_IF_OTHER):
            return before
        try:
            if self._throttled is not None:
                raise self._throttled
            self._client.budget.check()
            releases = releases_of(self._client, replace(self._bound, repository=repository)) or []
        except NotFoundError:
            releases = []  # the catalog lists repositories that are not there
        except Error as error:
            if isinstance(error, RateLimitedError):
                self._throttled = error
            self.failures.append(error)
            return before or []
        self._kept.put(key, [_record(release) for release in releases])
        return releases


def _record(release: Release) -> Json:
    return {
        "version": release.version,
        "tag": release.tag,
        "manifest": str(release.manifest) if release.manifest else None,
        "package": str(release.package) if release.package else None,
        "created": release.created,
        "facts": dict(release.facts),
    }


def _read(data: Json, repository: str) -> list[Release] | None:
    """What was kept of a repository; None where it is not what was written."""
    try:
        return [_release_of(one, repository) for one in data] if isinstance(data, list) else None
    except (Error, KeyError, TypeError):
        return None


def _release_of(record: Json, repository: str) -> Release:
    if not isinstance(record, dict):
        raise TypeError("not a record")
    made, facts = record["created"], record["facts"]
    return Release(
        base_name(repository),
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
        f"`{host_reference.host}/{path}` holds no charts",
        code="kind-refused",
        hint=f"marfetch inspect {host_reference.host}/{path}",
        reference=f"{host_reference.host}/{path}",
        rule="an index is of charts",
    )
