"""The charts in a bundle: their images, and values that point them at another registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..artifact.kinds import CHART
from ..chart.images import find_images
from ..client.chartimages import ChartImages, Rendering, chart_images
from ..content import Verified
from ..destination.package import ChartFiles, chart_files
from ..errors import Error, NotFoundError
from ..files import storage_error
from ..layout.blobs import Extent
from ..oci import Descriptor
from .format import Opened
from .inventory import ExtentFile, bundle_items


def charts_in(found: Opened) -> Iterator[tuple[str, Descriptor]]:
    """Yield the reference of each chart in a bundle, and its package."""
    found.contents.load()
    for item in bundle_items(found.contents, found.lock):
        if item.kind == CHART.name:
            for layer in item.layers[:1]:
                yield item.reference.shown, layer


def images_in_bundle(
    found: Opened,
    *,
    values: Mapping[str, Any] | None = None,
    rendering: Rendering | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[ChartImages]:
    """Return the images of the charts in a bundle, as `marfetch.client.chartimages.images_of` does."""
    result = []
    for name, layer in charts_in(found):
        try:
            if rendering is not None:
                result.append(chart_images(name, rendering(_pieces(found, layer), name), {}))
                continue
            files = files_in(found, name, layer, check)
            images = find_images(files.texts, files.reasons, values=values, check=check)
            result.append(chart_images(name, images, files.unread))
        except Error as error:
            result.append(ChartImages(name, unread={"": error}))
        except OSError as error:
            result.append(ChartImages(name, unread={"": storage_error(error, str(found.path))}))
    return result


def files_in(found: Opened, name: str, layer: Descriptor, check: Callable[[], None] = lambda: None) -> ChartFiles:
    """Read the files of a chart in a bundle, verified.

    Raises:
        Error: the chart is broken, or left out of a delta.
        OSError: the bundle cannot be read.
    """
    with _extent(found, layer) as extent, ExtentFile(extent) as raw:
        return chart_files(raw, layer, name, check=check)  # type: ignore[arg-type]


def _pieces(found: Opened, layer: Descriptor) -> Iterator[bytes]:
    """Yield the bytes of a package, and verify them after the last piece."""
    verified = Verified(layer)
    with _extent(found, layer) as extent:
        for piece in extent.pieces():
            verified.update(piece)
            yield piece
    verified.check()


def _extent(found: Opened, layer: Descriptor) -> Extent:
    if found.store.stamp(layer.digest) is None:
        raise NotFoundError(
            f"`{layer.digest}` is not in this delta", code="blob-not-found", hint="use the bundle that the delta is based on, too"
        )
    return found.store.extent(layer.digest)
