"""Find the container images that a chart in a bundle uses. They are not in the bundle, but the chart needs them to run."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Final

from ..artifact.chart import Unpacking
from ..artifact.kinds import matches
from ..artifact.payload import chart_types
from ..destination.archive import Archive
from ..diff.artifacts import images_in
from ..errors import Error
from ..layout.blobs import BlobStore, Extent
from ..oci import Descriptor, Manifest

_MAX_TEXT: Final = 1 << 20
_MAX_CHART: Final = 8 << 20
"""Largest packed chart to search, in bytes. Most charts have less than a few hundred KiB (Helm accepts files up to 5 MiB)."""
_MAX_IMAGES: Final = 1000


class _ExtentFile(io.RawIOBase):
    """A blob as a readable file object."""

    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = self._extent.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def images_of(store: BlobStore, manifest: Manifest, *, is_checked: bool = True) -> tuple[str, ...]:
    """Return the images in the values and templates of a chart, sorted; empty if the chart cannot be read.

    Args:
        is_checked: verify the digest of the chart.
    """
    found: set[str] = set()
    for layer in manifest.layers:
        if matches(layer.media_type, chart_types(manifest)) and layer.size <= _MAX_CHART:
            with suppress(Error, OSError):
                found |= set(_images(store, layer, is_checked=is_checked))
    return tuple(sorted(found))[:_MAX_IMAGES]


def _images(store: BlobStore, layer: Descriptor, *, is_checked: bool) -> list[str]:
    texts: dict[str, bytes] = {}
    with store.extent(layer.digest) as extent, _ExtentFile(extent) as raw:
        archive = Archive(raw, layer, Unpacking(str(layer.digest)), is_checked=is_checked)  # type: ignore[arg-type]
        with archive:
            for member in archive:
                path = "/".join(node.name for node in member.way[1:])
                if not member.is_directory and path.endswith((".yaml", ".yml", ".tpl")) and member.size <= _MAX_TEXT:
                    texts[path] = b"".join(bytes(piece) for piece in archive.pieces())
    return images_in(texts)
