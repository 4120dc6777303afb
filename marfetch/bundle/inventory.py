"""What a bundle holds, artifact by artifact, as people want to know it: the page, `bundle inspect` and `serve` show this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

from ..artifact.kinds import CHART, NOTATION_SIGNATURE, kind_of, kind_of_type, matches
from ..artifact.lifecycle import end_of_life
from ..artifact.payload import base_name, chart_types
from ..constraint import read_version
from ..errors import Error
from ..layout.repositories import Contents, LayoutRepository
from ..oci import CREATED, Descriptor, Digest, Index, Manifest
from ..project.lockfile import Entry, Lock
from ..reference import Reference
from .images import images_of

THUMBPRINTS: Final = "io.cncf.notary.x509chain.thumbprint#S256"
_DEPTH: Final = 8


@dataclass(frozen=True, slots=True)
class BundleReferrer:
    """What refers to an artifact: a signature, an SBOM, the end of its life.

    Attributes:
        title: its kind, for people.
        signer: of a signature: the thumbprints of its certificates, as it claims them; nothing is checked here.
        depth: 0 for what refers to the artifact itself, 1 for what refers to that, …
    """

    title: str
    artifact_type: str
    digest: Digest
    size: int
    signer: str | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class BundleItem:
    """One artifact.

    Attributes:
        name: in the lock; in a layout without a lock the last part of its repository.
        reference: pinned, as it was locked.
        version: what the tag means; None where it is no version.
        size: bytes of all that belongs to it, referrers aside.
        omitted: bytes of that which a delta leaves out.
        layers: what is worth fetching of it.
        ends: when its support ends, as its lifecycle marks say.
        images: what a chart names.
        verdict: what `verify` found when it was locked; None where that was not asked for.
        listed: its name in the index; None where it has none.
    """

    name: str
    reference: Reference
    descriptor: Descriptor
    kind: str
    title: str
    version: str | None
    size: int
    omitted: int
    layers: tuple[Descriptor, ...]
    created: str | None
    ends: date | None
    referrers: tuple[BundleReferrer, ...]
    images: tuple[str, ...]
    verdict: str | None
    listed: str | None = None

    @property
    def signatures(self) -> tuple[BundleReferrer, ...]:
        """Those of the artifact itself."""
        return tuple(one for one in self.referrers if one.depth == 0 and one.artifact_type.lower() == NOTATION_SIGNATURE)


def catalogue(contents: Contents, lock: Lock | None, *, with_images: bool = False) -> list[BundleItem]:
    """Everything that a layout holds.

    Args:
        lock: where there is one, it says what the artifacts are and how they are called.
        with_images: look into charts for the images that they name.
    """
    return [
        found
        for name, reference, descriptor, entry in _roots(contents, lock)
        if (found := _item(contents, name, reference, descriptor, entry, with_images=with_images)) is not None
    ]


def _roots(contents: Contents, lock: Lock | None) -> Iterator[tuple[str, Reference, Descriptor, Entry | None]]:
    if lock is not None:
        for entry in lock.entries:
            yield entry.name, entry.reference, entry.manifest, entry
        return
    named = {str(one.digest) for _, one in contents.store.entries()}
    for repository in contents.current().repositories.values():
        tagged = {str(one.digest) for one in repository.tags.values()}
        about = {str(one.digest) for found in repository.referrers.values() for one in found}
        for tag, descriptor in repository.tags.items():
            yield base_name(repository.name), Reference(repository.name, None, tag, descriptor.digest), descriptor, None
        for digest, descriptor in repository.manifests.items():
            if digest in named - tagged - about:
                yield base_name(repository.name), Reference(repository.name, None, None, descriptor.digest), descriptor, None


def _item(
    contents: Contents, name: str, reference: Reference, descriptor: Descriptor, entry: Entry | None, *, with_images: bool
) -> BundleItem | None:
    repository = contents.current().repositories.get(reference.repository)
    if repository is None:
        return None
    parts = list(_parts(contents, descriptor))
    if not parts:
        return None
    blobs = {blob.digest: blob for part in parts if isinstance(part, Manifest) for blob in (part.config, *part.layers)}
    chosen = entry.artifact.digest if entry is not None and entry.artifact is not None else descriptor.digest
    artifact = next((part for part in parts if isinstance(part, Manifest) and part.descriptor.digest == chosen), None)
    kind = kind_of(artifact) if artifact is not None else None
    version = read_version(reference.tag) if reference.tag else None
    referrers = tuple(_referrers(contents, repository, str(descriptor.digest)))
    marks = [(one.artifact_type or "", one.annotations) for one in repository.referrers.get(str(descriptor.digest), [])]
    return BundleItem(
        name,
        reference,
        descriptor,
        kind.name if kind else "index",
        kind.title if kind else "index of several artifacts",
        str(version.version) if version else None,
        sum(part.descriptor.size for part in parts) + sum(blob.size for blob in blobs.values()),
        sum(blob.size for digest, blob in blobs.items() if contents.store.stamp(digest) is None),
        _worth(artifact),
        parts[0].annotations.get(CREATED) or (artifact.annotations.get(CREATED) if artifact else None),
        end_of_life(marks),
        referrers,
        images_of(contents.store, artifact) if with_images and kind is CHART and artifact is not None else (),
        entry.verification.verdict if entry is not None and entry.verification is not None else None,
        _listed(contents, reference, descriptor),
    )


def _listed(contents: Contents, reference: Reference, descriptor: Descriptor) -> str | None:
    end = reference.tag or str(descriptor.digest)
    names = [name for name, one in contents.store.entries() if name is not None and one.digest == descriptor.digest]
    return next((name for name in names if name == end or name.endswith((f":{end}", f"@{end}"))), None)


def _parts(contents: Contents, descriptor: Descriptor) -> Iterator[Manifest | Index]:
    """A manifest, and what it leads to as an index, each once; what cannot be read is told by whoever checks."""
    waiting, seen = [descriptor], set[Digest]()
    while waiting:
        one = waiting.pop()
        if one.digest in seen:
            continue
        seen.add(one.digest)
        try:
            found = contents.manifests.read(one)
        except Error:
            continue
        yield found
        if isinstance(found, Index):
            waiting += found.manifests


def _worth(artifact: Manifest | None) -> tuple[Descriptor, ...]:
    if artifact is None:
        return ()
    kind = kind_of(artifact)
    globs: Iterable[str] = chart_types(artifact) if kind is CHART else kind.payload
    return tuple(layer for layer in artifact.layers if matches(layer.media_type, globs))


def _referrers(contents: Contents, repository: LayoutRepository, digest: str, depth: int = 0) -> Iterator[BundleReferrer]:
    if depth >= _DEPTH:
        return
    for one in sorted(repository.referrers.get(digest, []), key=lambda one: (one.artifact_type or "", str(one.digest))):
        kind = kind_of_type(one.artifact_type)
        yield BundleReferrer(
            kind.title if kind else "other",
            one.artifact_type or "",
            one.digest,
            one.size,
            one.annotations.get(THUMBPRINTS),
            depth,
        )
        yield from _referrers(contents, repository, str(one.digest), depth + 1)
