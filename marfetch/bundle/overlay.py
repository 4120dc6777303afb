"""The charts in a bundle: their images, and values with which the charts use the images in the registry that has the bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..artifact.kinds import CHART
from ..chart.relocation import Relocation, relocate, target_of
from ..client.chartimages import ChartImages, Rendering, chart_images
from ..content import Verified
from ..destination.package import ChartFiles, chart_files
from ..errors import Error, InputError, NotFoundError
from ..files import storage_error
from ..layout.blobs import Extent
from ..oci import Descriptor
from ..project.lockfile import LockedImage
from .format import Opened
from .inventory import BundleItem, ExtentFile, bundle_items
from .targets import To


def charts_in(found: Opened) -> Iterator[tuple[BundleItem, Descriptor]]:
    """Yield each chart in a bundle, with its package."""
    found.contents.load()
    for item in bundle_items(found.contents, found.lock):
        if item.kind == CHART.name:
            for layer in item.layers[:1]:
                yield item, layer


def images_in_bundle(
    found: Opened,
    *,
    values: Sequence[Mapping[str, Any]] = (),
    rendering: Rendering | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[ChartImages]:
    """Return the images of the charts in a bundle, as `marfetch.client.chartimages.images_of` does."""
    result = []
    for item, layer in charts_in(found):
        name = item.reference.shown
        try:
            if rendering is not None:
                result.append(chart_images(name, rendering(_pieces(found, layer), name), {}))
                continue
            files = files_in(found, name, layer, check)
            result.append(chart_images(name, files.images(values, check), files.unread))
        except Error as error:
            result.append(ChartImages(name, unread={"": error}))
        except OSError as error:
            result.append(ChartImages(name, unread={"": storage_error(error, str(found.path))}))
    return result


def files_in(found: Opened, name: str, layer: Descriptor, check: Callable[[], None] = lambda: None) -> ChartFiles:
    """Read and verify the files of a chart in a bundle.

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
        raise NotFoundError(f"`{layer.digest}` is not in this delta", code="blob-not-found", hint="use the base bundle of the delta")
    return found.store.extent(layer.digest)


# -- values for another registry


class Overlay(NamedTuple):
    """Values for one chart.

    Attributes:
        chart: the reference of the chart.
        name: its name in the lock.
        relocation: the values, and the images that they cannot point at the registry.
    """

    chart: str
    name: str
    relocation: Relocation


def overlays(found: Opened, to: To, chart: str | None = None, check: Callable[[], None] = lambda: None) -> list[Overlay]:
    """Return the values that point the charts in a bundle at a registry.

    Args:
        to: the registry that the bundle was loaded into.
        chart: the name of one chart in the lock; None: all charts.

    Raises:
        InputError: `usage`: `to` is a directory, the bundle has no lock, or no chart of that name.
        Error: a chart is broken, or left out of a delta.
        OSError: the bundle cannot be read.
    """
    if to.endpoint is None:
        raise InputError(f"`{to.text[:200]}` is not a registry", code="usage", hint="write `--registry HOST[:PORT][/PREFIX]`")
    if found.unread is not None:
        raise found.unread
    if found.lock is None:
        raise InputError(f"`{found.path}` has no lock file, so marfetch cannot know which images it contains", code="usage")
    charts = [(item, layer) for item, layer in charts_in(found) if chart in (None, item.name)]
    if chart is not None and not charts:
        names = ", ".join(f"`{item.name}`" for item, _ in charts_in(found)) or "none"
        raise InputError(f"`{found.path}` has no chart `{chart[:200]}`; it has {names}", code="usage", hint="name one of these charts")
    registry = f"{to.endpoint.registry.host}{f'/{to.prefix}' if to.prefix else ''}"
    result = []
    for item, layer in charts:
        shown = item.reference.shown
        entry = found.lock.get(item.name)
        targets = {one.image: target for one in entry.images if (target := _target(one, registry))} if entry is not None else {}
        files = files_in(found, shown, layer, check)
        result.append(Overlay(shown, item.name, relocate(files.texts, targets, registry, files.reasons, check=check)))
    return result


def _target(image: LockedImage, registry: str) -> str | None:
    """Return the reference in the registry of an image in the bundle, with the tag that the chart names, and a digest if it names one.

    If the bundle has only one platform of an index, the registry has only the manifest of that platform.
    """
    if image.reference is None or image.manifest is None:
        return None
    carried = image.manifests[0].digest if len(image.manifests) == 1 else image.manifest.digest
    return target_of(image.image, f"{registry}/{image.reference.repository}", str(carried))
