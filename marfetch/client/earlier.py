"""What the versions of an artifact in the cache unpack to, so that a directory of an earlier one is known for what it is."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import replace
from typing import Final

from ..artifact.chart import Unpacking
from ..destination.archive import Archive
from ..errors import Error
from ..oci import Descriptor, Digest, Index, Manifest
from .resolve import Found
from .session import Session

MAX_MANIFESTS: Final = 200
"""Manifests of one artifact that are looked into."""


def unknown(client: Session, found: Found, digests: Set[str]) -> Set[str]:
    """Return the digests that are of no file in any version of an artifact that the cache holds.

    Args:
        digests: sha256 of files, in hex.
    """
    left = set(digests)
    seen: set[Digest] = set()
    for manifest in _manifests(client, found):
        for layer in (manifest.config, *manifest.layers):
            if layer.digest not in seen:
                seen.add(layer.digest)
                left -= {layer.digest.encoded, *_files(client, layer)}
        if not left:
            break
    return left


def _manifests(client: Session, found: Found) -> Iterator[Manifest]:
    """The artifact itself, then every manifest that a tag of its repository leads to in the cache."""
    yield found.manifest
    reference = replace(found.resolved.reference, digest=None)
    roots: list[Descriptor] = []
    with suppress(Error):
        for tag in reversed(client.cache.tags(reference)):
            descriptor = client.cache.known(replace(reference, tag=tag))
            if descriptor is not None:
                roots.append(descriptor)
    for _ in range(MAX_MANIFESTS):
        if not roots:
            return
        one = roots.pop(0)
        manifest = client.cache.find(one.digest, one.media_type)
        if isinstance(manifest, Index):
            roots[:0] = manifest.manifests
        elif manifest is not None:
            yield manifest


def _files(client: Session, layer: Descriptor) -> Set[str]:
    """The digests of the files in an archive, as far as it can be read."""
    with suppress(Error, OSError):
        if client.cache.has(layer):
            with client.cache.open(layer.digest) as blob:
                archive = Archive(blob, layer, Unpacking(str(layer.digest)))
                with suppress(Error):
                    for _ in archive:
                        client.budget.check()
                return set(archive.files.values())
    return set()
