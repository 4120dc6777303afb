"""Find the container images that a chart in a bundle names, because the chart needs them at its destination too."""

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
"""Bytes of a packed chart that is looked into; a chart is a few hundred KiB at most (Helm takes 5 MiB of files)."""
_MAX_IMAGES: Final = 1000


class _Reading(io.RawIOBase):
    """The bytes of a blob as a file."""

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
    """What the values and templates of a chart name as images, sorted; nothing where it cannot be read.

    Args:
        is_checked: hash the chart.
    """
    found: set[str] = set()
    for layer in manifest.layers:
        if matches(layer.media_type, chart_types(manifest)) and layer.size <= _MAX_CHART:
            with suppress(Error, OSError):
                found |= set(_images(store, layer, is_checked=is_checked))
    return tuple(sorted(found))[:_MAX_IMAGES]


def _images(store: BlobStore, layer: Descriptor, *, is_checked: bool) -> list[str]:
    texts: dict[str, bytes] = {}
    with store.extent(layer.digest) as extent, _Reading(extent) as raw:
        archive = Archive(raw, layer, Unpacking(str(layer.digest)), is_checked=is_checked)  # type: ignore[arg-type]
        with archive:
            for member in archive:
                path = "/".join(node.name for node in member.way[1:])
                if not member.is_directory and path.endswith((".yaml", ".yml", ".tpl")) and member.size <= _MAX_TEXT:
                    texts[path] = b"".join(bytes(piece) for piece in archive.pieces())
    return images_in(texts)
