"""Inspect an artifact without downloading it: kind, layers, chart metadata, platforms and referrers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from ..artifact.kinds import CHART, IMAGE, SIGNATURE, Kind, end_of_life, kind_of, kind_of_type, matches
from ..artifact.payload import Choice, base_name, select
from ..document import Json
from ..errors import Error, IntegrityError, NotFoundError, PolicyError
from ..oci import Descriptor, Digest, Index, Manifest, Platform
from ..reference import Reference
from .fetch import chart_metadata
from .resolve import Resolved, Wanted, artifact, resolve
from .session import Repository, Session

MAX_DEPTH: Final = 3
"""Maximum depth of the tree of referrers."""
MAX_CHILDREN: Final = 16
"""In an index with more manifests than this, their kinds are not looked up, because each lookup costs a request."""


@dataclass(frozen=True, slots=True)
class InspectedLayer:
    """One layer.

    Attributes:
        name: the file that `pull` writes; None if `pull` skips the layer.
    """

    descriptor: Descriptor
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """One manifest of an index. The kind is None if it is unknown."""

    descriptor: Descriptor
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Referrer:
    """A referrer of a manifest, with its own referrers."""

    descriptor: Descriptor
    kind: Kind | None
    reference: Reference
    referrers: tuple[Referrer, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspected:
    """The result of inspecting an artifact.

    Attributes:
        resolved: the resolved reference, with its manifest or index.
        manifest: the artifact's manifest; for an index, the manifest that was chosen, or None if there are several.
        kind: the artifact's kind; for an index, the kind of all its manifests, or None if the kinds differ.
        chart: the metadata of a chart (Chart.yaml as JSON).
        children: the manifests of an index.
        ends: the date when support ends, from the attached lifecycle artifacts.
        warnings: why `pull` would refuse the artifact, or what is unusual about it.
    """

    resolved: Resolved
    manifest: Manifest | None
    kind: Kind | None
    layers: tuple[InspectedLayer, ...] = ()
    chart: dict[str, Json] | None = None
    children: tuple[Child, ...] = ()
    referrers: tuple[Referrer, ...] = ()
    ends: date | None = None
    warnings: tuple[str, ...] = ()


def inspect(client: Session, wanted: Wanted, *, platform: Platform | None = None, skip_missing: bool = False) -> Inspected:
    """Inspect an artifact. Fetch its manifests, and the config of a chart, but no payload.

    Args:
        platform: platform to pick from a multi-platform index.

    Raises:
        Error: see `resolve` and `client.resolve.artifact`.
    """
    resolved = resolve(client, wanted, skip_missing=skip_missing)
    found = resolved.manifest
    children = _children(client, resolved, found) if isinstance(found, Index) else ()
    manifest = _chosen(resolved, children, platform)
    kinds = {child.kind for child in children}
    kind = kind_of(manifest) if manifest else kinds.pop() if len(kinds) == 1 else None
    warnings: list[str] = []
    layers = _layers(resolved, manifest, warnings) if manifest else ()
    metadata = None
    if manifest is not None and kind is CHART:
        try:
            metadata = chart_metadata(resolved.repository, manifest.config)
        except Error as error:
            warnings.append(error.message)
    referrers = referrers_of(resolved.repository, found.descriptor.digest)
    ends = end_of_life((one.descriptor.artifact_type or "", one.descriptor.annotations) for one in referrers)
    return Inspected(resolved, manifest, kind, layers, metadata, children, referrers, ends, tuple(warnings))


def referrers_of(repository: Repository, digest: Digest, *, types: Sequence[str] = (), depth: int = MAX_DEPTH) -> tuple[Referrer, ...]:
    """Return the referrers of a manifest as a tree.

    Args:
        types: globs for the artifact types of the first level; empty: all types.
        depth: number of levels, at least 1.

    Raises:
        Error: the request failed; a failure is never treated as an empty list.
    """
    # Filter here, not in the registry: its filter is case-sensitive, but media types are case-insensitive.
    found = [one for one in repository.referrers(digest) if not types or matches(one.artifact_type or "", types)]
    rooted = [
        Referrer(one, kind_of_type(one.artifact_type), repository.at(digest=one.digest).reference)
        for one in dict.fromkeys(found)
        if one.digest != digest
    ]
    if depth <= 1:
        return tuple(rooted)

    def with_own(one: Referrer) -> Referrer:
        # Signatures have no referrers, so save the request. Other referrers can have some: MAR signs some lifecycle artifacts.
        if one.kind is SIGNATURE:
            return one
        try:
            return replace(one, referrers=referrers_of(repository, one.descriptor.digest, depth=depth - 1))
        except (NotFoundError, IntegrityError, PolicyError) as error:  # a broken referrer must not hide the others
            repository.session.progress.warn(error.message)
            return one

    return tuple(repository.session.each(with_own, rooted, label="reading", unit="referrers"))


def _children(client: Session, resolved: Resolved, index: Index) -> tuple[Child, ...]:
    looked_at = index.manifests if len(index.manifests) <= MAX_CHILDREN else ()

    def kind(child: Descriptor) -> Kind | None:
        try:
            found = resolved.repository.manifest(child.digest)
        except Error:
            return None  # ignore the error here: choosing this manifest reports it
        return kind_of(found) if isinstance(found, Manifest) else None

    kinds: Sequence[Kind | None] = client.each(kind, looked_at, label="reading", unit="manifests")
    kinds = kinds or [kind_of_type(child.artifact_type) for child in index.manifests]
    return tuple(Child(child, one) for child, one in zip(index.manifests, kinds, strict=True))


def _chosen(resolved: Resolved, children: tuple[Child, ...], platform: Platform | None) -> Manifest | None:
    """Return the manifest to inspect; None if there are several and no platform was given."""
    if isinstance(resolved.manifest, Manifest):
        return resolved.manifest
    real = [child for child in children if not child.descriptor.is_attestation]
    if platform is None and len(real) != 1:
        return None
    return artifact(resolved, Choice(all_layers=True), platform)


def _layers(resolved: Resolved, manifest: Manifest, warnings: list[str]) -> tuple[InspectedLayer, ...]:
    reference = resolved.reference
    what = reference.shown
    names: dict[Digest, str] = {}
    try:
        selection = select(manifest, Choice(), name=base_name(reference.repository), tag=reference.tag, what=what)
        names = {payload.layer.digest: payload.name for payload in selection.payloads}
        warnings.extend(selection.warnings)
    except Error as error:
        if kind_of(manifest) is not IMAGE:
            warnings.append(error.message)
    return tuple(InspectedLayer(layer, names.get(layer.digest)) for layer in manifest.layers)
