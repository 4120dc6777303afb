"""The graph of a layout's manifests: children, blobs, subjects, and missing or corrupted nodes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from ..errors import Error, IntegrityError, NotFoundError, PolicyError, StorageError
from ..oci import INDEX_TYPES, MANIFEST_TYPES, MAX_MANIFEST_SIZE, Descriptor, Digest, Index, Manifest, parse_manifest
from .blobs import BlobStore, Stamp

KEPT: Final = 16 << 20
"""Maximum total size of the manifests cached in memory, in bytes."""
MAX_MANIFESTS: Final = 512 << 20
"""Maximum total size of a layout's manifests, in bytes. The descriptors in these manifests are held in memory."""
MAX_NAMED: Final = 1_000_000
"""Maximum number of manifests and blobs that the names of a layout lead to. Content with several names counts once per name."""


class NamedCount:
    """Counts the manifests and blobs that the names of a layout lead to, once per name.

    The count bounds the work: a small layout can have many names that all lead to one large index.

    Args:
        where: the path of the layout, for messages.
    """

    def __init__(self, where: object) -> None:
        self._where = where
        self._count = 0

    def add(self, number: int) -> None:
        """Count further manifests and blobs.

        Raises:
            PolicyError: `limit-passed`.
        """
        self._count += number
        if self._count > MAX_NAMED:
            raise PolicyError(
                f"the names in `{self._where}` lead to more than {MAX_NAMED} manifests and blobs, counted once per name",
                code="limit-passed",
                path=str(self._where),
                rule=f"at most {MAX_NAMED} manifests and blobs",
            )


class ManifestNode(NamedTuple):
    """A manifest in the graph, without its bytes.

    Attributes:
        descriptor: its descriptor, with the media type that its bytes declare.
        children: the manifests that an index lists; empty for a manifest.
        blobs: the config and layers of a manifest, or the entries of an index that are not manifests.
        subject: the digest of the manifest's subject; None without a subject.
        referrer: the manifest's own entry in a list of referrers (distribution-spec, "Listing Referrers").
    """

    descriptor: Descriptor
    children: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]
    subject: str | None
    referrer: Descriptor

    @classmethod
    def of(cls, manifest: Manifest | Index) -> ManifestNode:
        """Return the node of a manifest."""
        own = manifest.descriptor
        if isinstance(manifest, Manifest):
            children: tuple[Descriptor, ...] = ()
            blobs = (manifest.config, *manifest.layers)
            kind: str | None = manifest.effective_type
        else:
            children = tuple(one for one in manifest.manifests if is_manifest_type(one.media_type))
            blobs = tuple(one for one in manifest.manifests if not is_manifest_type(one.media_type))
            kind = manifest.artifact_type
        referrer = Descriptor(own.media_type, own.digest, own.size, manifest.annotations, kind)
        return cls(own, children, blobs, str(manifest.subject.digest) if manifest.subject else None, referrer)


def is_manifest_type(media_type: str) -> bool:
    """Return whether a media type denotes a manifest or an index."""
    return media_type.lower() in MANIFEST_TYPES | INDEX_TYPES


def closure(
    roots: Iterable[Descriptor],
    node: Callable[[Descriptor], ManifestNode | None],
    referrers: Callable[[Digest], Iterable[Descriptor]] = lambda _: (),
) -> Iterator[tuple[Descriptor, ManifestNode | None]]:
    """Yield the root manifests and every manifest that they lead to, each once and with its node.

    Children come before their index, and referrers after their subject.

    Args:
        node: returns the node of a manifest, or None to follow nothing from that manifest; called once per manifest.
        referrers: returns the referrers of a manifest, which are followed too.
    """
    seen: set[Digest] = set()
    waiting: list[tuple[Descriptor, ManifestNode | None, bool]] = []

    def put(several: Iterable[Descriptor]) -> None:
        waiting.extend(reversed([(one, None, False) for one in several]))

    put(roots)
    while waiting:
        one, found, is_followed = waiting.pop()
        if is_followed:
            yield one, found
        elif one.digest not in seen:
            seen.add(one.digest)
            found = node(one)
            put(referrers(one.digest) if found is not None else ())
            waiting.append((one, found, True))
            put(found.children if found is not None else ())


class Manifests:
    """The manifests of a store. Each is verified when it is read, and cached in memory until its file changes."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._kept: OrderedDict[Digest, tuple[Stamp, Manifest | Index]] = OrderedDict()
        self._size = 0
        self._guard = threading.Lock()

    def cached(self, digest: Digest) -> Manifest | Index | None:
        """Return the manifest if it is in memory and its file is unchanged."""
        kept = self._kept.get(digest)
        return kept[1] if kept is not None and kept[0] == self._store.stamp(digest) else None

    def read(self, descriptor: Descriptor) -> Manifest | Index:
        """Read the manifest with the descriptor's digest.

        Args:
            descriptor: its digest selects the manifest; its media type is used if the manifest declares none.

        Raises:
            NotFoundError: `blob-not-found`.
            IntegrityError: `digest-mismatch`, `size-mismatch`, `malformed`.
            StorageError: the manifest cannot be read.
        """
        digest = descriptor.digest
        found = self.cached(digest)
        if found is not None:
            return found
        with self._store.extent(digest) as extent:
            stamp, raw = extent.stamp, extent.read(0, MAX_MANIFEST_SIZE + 1)
        actual = Digest.of(raw, digest.algorithm)
        if actual != digest:
            raise IntegrityError(
                f"the bytes of the manifest `{digest}` have the digest `{actual}`",
                code="digest-mismatch",
                expected=str(digest),
                actual=str(actual),
            )
        if len(raw) != descriptor.size:
            raise IntegrityError(
                f"the manifest `{digest}` has {len(raw)} bytes, not the {descriptor.size} of its descriptor",
                code="size-mismatch",
                digest=str(digest),
                expected=descriptor.size,
                actual=len(raw),
            )
        found = parse_manifest(raw, what=f"the manifest `{digest}`", media_type=descriptor.media_type, digest=digest)
        self._keep(stamp, found)
        return found

    def add(self, manifest: Manifest | Index) -> None:
        """Cache a manifest that was already read from the store."""
        stamp = self._store.stamp(manifest.descriptor.digest)
        if stamp is not None:
            self._keep(stamp, manifest)

    def _keep(self, stamp: Stamp, manifest: Manifest | Index) -> None:
        digest = manifest.descriptor.digest
        with self._guard:
            old = self._kept.pop(digest, None)
            self._size += len(manifest.raw) - (len(old[1].raw) if old else 0)
            self._kept[digest] = stamp, manifest
            while self._size > KEPT:
                _, (_, dropped) = self._kept.popitem(last=False)
                self._size -= len(dropped.raw)


class Graph:
    """The graph of a layout's manifests. Each manifest is read once.

    Attributes:
        missing: digests of referenced manifests and blobs that are not in the layout (image-spec, image layout: "implementations MUST
            support missing blobs").
        wrong: the digest of each corrupted manifest or blob → the error.
    """

    def __init__(self, store: BlobStore, manifests: Manifests) -> None:
        self._store = store
        self._manifests = manifests
        self._nodes: dict[Digest, ManifestNode | None] = {}
        self._blobs: set[Digest] = set()
        self._size = 0
        self.missing: dict[str, None] = {}
        self.wrong: dict[str, Error] = {}

    def node(self, descriptor: Descriptor) -> ManifestNode | None:
        """Return the node of a manifest; None if it is missing or corrupted.

        Raises:
            PolicyError: `limit-passed`: the layout has too many manifests.
            StorageError: the manifest cannot be read.
        """
        digest = descriptor.digest
        if digest not in self._nodes:
            self._nodes[digest] = self._read(descriptor)
        return self._nodes[digest]

    def _read(self, descriptor: Descriptor) -> ManifestNode | None:
        try:
            node = ManifestNode.of(self._manifests.read(descriptor))
        except NotFoundError:
            self.missing[str(descriptor.digest)] = None
            return None
        except StorageError:
            raise
        except Error as error:
            self.wrong[str(descriptor.digest)] = error
            return None
        self._size += node.descriptor.size
        if self._size > MAX_MANIFESTS:
            raise PolicyError(
                f"the manifests in `{self._store.root}` have more than {MAX_MANIFESTS} bytes",
                code="limit-passed",
                path=str(self._store.root),
                rule=f"at most {MAX_MANIFESTS} bytes of manifests",
            )
        for blob in node.blobs:
            self._look(blob)
        return node

    def _look(self, blob: Descriptor) -> None:
        """Check that a blob exists and has the right size. Its bytes are verified only when they are read."""
        if blob.digest in self._blobs:
            return
        self._blobs.add(blob.digest)
        stamp = self._store.stamp(blob.digest)
        if stamp is None:
            self.missing[str(blob.digest)] = None
        elif stamp.size != blob.size:
            self.wrong[str(blob.digest)] = IntegrityError(
                f"the blob `{blob.digest}` has {stamp.size} bytes, not the {blob.size} of its descriptor",
                code="size-mismatch",
                digest=str(blob.digest),
                expected=blob.size,
                actual=stamp.size,
            )
