"""List the versions of a repository, with details from their manifests, configs and lifecycle artifacts."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from ..artifact.kinds import CHART, LIFECYCLE, end_of_life, kind_of
from ..constraint import Constraint, TaggedVersion
from ..errors import Error
from ..oci import CREATED, Descriptor, Manifest
from ..reference import Reference
from .fetch import MAX_CONFIG_SIZE, chart_metadata
from .resolve import versions as versions_of
from .session import Repository, Session


class VersionEntry(NamedTuple):
    """One version.

    Attributes:
        tagged: the version with its preferred tag.
        aliases: other tags of the same version.
        details: the details of the version; None if they were not requested.
    """

    tagged: TaggedVersion
    aliases: tuple[str, ...] = ()
    details: Details | None = None


class Details(NamedTuple):
    """Details of a version beyond its tag.

    Attributes:
        size: total size of all layers in bytes; None for an index.
        created: the creation time, from an annotation of the manifest.
        app_version: a chart's application version.
        end_of_life: the date when support ends, from the newest lifecycle artifact.
        error: why the details are missing.
    """

    digest: str | None = None
    media_type: str | None = None
    size: int | None = None
    created: str | None = None
    app_version: str | None = None
    end_of_life: date | None = None
    error: Error | None = None


class History(NamedTuple):
    """All versions of a repository, newest first, and the tags that are not versions."""

    reference: Reference
    entries: tuple[VersionEntry, ...]
    other: tuple[str, ...]


def history(
    client: Session, reference: Reference, *, constraint: Constraint | None = None, prereleases: bool = True, details: int = 0
) -> History:
    """List the versions of a repository.

    Args:
        constraint: list only versions in this range.
        prereleases: whether the range includes prereleases.
        details: number of newest versions whose details are fetched, in parallel.

    Raises:
        Error: see `client.resolve.versions`. An error about the details of one version is stored in its details.
    """
    repository, versions, other = versions_of(client, reference)
    entries = [VersionEntry(tags[0], tuple(tag.tag for tag in tags[1:])) for tags in versions.values()]
    if constraint is not None:
        chosen = {one.tag for one in constraint.select((entry.tagged for entry in entries), prereleases=prereleases)}
        entries = [entry for entry in entries if entry.tagged.tag in chosen]
    known = client.each(lambda entry: _details(repository.at(tag=entry.tagged.tag)), entries[:details], label="reading", unit="versions")
    entries[: len(known)] = [entry._replace(details=found) for entry, found in zip(entries, known, strict=False)]
    return History(repository.reference, tuple(entries), tuple(other))


def _details(repository: Repository) -> Details:
    try:
        manifest = repository.manifest()
        descriptor = manifest.descriptor
        marks = [] if repository.session.options.offline else repository.referrers(descriptor.digest, artifact_type=LIFECYCLE)
        ends = end_of_life((mark.artifact_type or "", mark.annotations) for mark in marks)
        details = Details(str(descriptor.digest), descriptor.media_type, created=manifest.annotations.get(CREATED), end_of_life=ends)
        if not isinstance(manifest, Manifest):
            return details
        app_version = _app_version(repository, manifest.config) if kind_of(manifest) is CHART else None
        return details._replace(size=sum(layer.size for layer in manifest.layers), app_version=app_version)
    except Error as error:
        return Details(error=error)


def _app_version(repository: Repository, config: Descriptor) -> str | None:
    if config.size > MAX_CONFIG_SIZE:
        return None
    value = chart_metadata(repository, config).get("appVersion")
    return value if isinstance(value, str) else None
