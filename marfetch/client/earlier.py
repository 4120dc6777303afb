"""Recognize files unpacked from an earlier, cached version of an artifact, so that an upgrade may replace them."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import replace
from typing import Final

from ..artifact.kinds import CHART, kind_of
from ..chart.expected import ExpectedChart, Unpacking
from ..destination.archive import Archive
from ..errors import Error
from ..oci import Descriptor, Digest, Index, Manifest
from .resolve import Found
from .session import Session

MAX_MANIFESTS: Final = 200
"""Maximum number of cached manifests to check for one artifact."""


def unknown(client: Session, found: Found, digests: Set[str]) -> Set[str]:
    """Return the digests that match no file of any cached version of an artifact.

    Args:
        digests: SHA-256 digests of files, in hex.
    """
    left = set(digests)
    seen: set[Digest] = set()
    for manifest in _manifests(client, found):
        for layer in (manifest.config, *manifest.layers):
            if layer.digest not in seen:
                seen.add(layer.digest)
                left -= {layer.digest.encoded, *_files(client, layer, is_chart=kind_of(manifest) is CHART)}
        if not left:
            break
    return left


def _manifests(client: Session, found: Found) -> Iterator[Manifest]:
    """Yield the artifact's manifest, then the cached manifests that the tags of its repository lead to."""
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


def _files(client: Session, layer: Descriptor, *, is_chart: bool) -> Set[str]:
    """Return the digests of the files in a cached archive. If reading fails, return the digests so far."""
    with suppress(Error, OSError):
        if client.cache.has(layer):
            with client.cache.open(layer.digest) as blob:
                archive = Archive(blob, layer, Unpacking(str(layer.digest), ExpectedChart(None) if is_chart else None))
                with suppress(Error):
                    for _ in archive:
                        client.budget.check()
                return set(archive.files.values())
    return set()
