"""Find the container images in Kubernetes manifests: in containers, in other fields for images, and in the defaults of CRDs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from ..document import Scalar, yaml_scalars
from ..errors import IntegrityError

MAX_IMAGE: Final = 1_024
"""Maximum number of characters; a longer text is not an image."""
IMAGE: Final = re.compile(r"(?:[a-zA-Z0-9][\w.-]*(?::\d+)?/)?[a-z0-9][\w.-]*(?:/[\w.-]+)*(?::[\w.+-]+)?(?:@\w+:[0-9a-fA-F]+)?", re.ASCII)
"""An image reference (distribution/reference, loosely). Texts such as URLs are not; `a:2.02e+07`, which Helm makes of a number, is."""
_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
_KEY: Final = re.compile(r"(?:.*[a-z0-9_-])?image(?:name)?", re.IGNORECASE)
_DOCUMENT: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)
LINE: Final = re.compile(r"""^[ \t]*(?:- +)?[\w-]*image: *["']?([^\s"'#{}]+)["']?[ \t]*(?:#.*)?$""", re.MULTILINE | re.IGNORECASE)


class ImagePlace(NamedTuple):
    """An image in a text, with the offsets of its YAML scalar.

    Attributes:
        is_default: whether the image is the default of a field in a CRD.
    """

    image: str
    start: int
    end: int
    is_default: bool = False


def images_in(text: str) -> Iterator[ImagePlace]:
    """Yield the images in manifests. A document that is not YAML is searched line by line."""
    bounds = [0, *(match.start() for match in _DOCUMENT.finditer(text)), len(text)]
    for start, end in pairwise(bounds):
        document = str(text[start:end])
        if re.search("image", document, re.IGNORECASE) is None:
            continue
        try:
            found = [place for scalar in yaml_scalars(document, "the manifest") if (place := _place(scalar)) is not None]
        except IntegrityError:
            found = [ImagePlace(match[1], match.start(1), match.end(1)) for match in LINE.finditer(document) if is_image(match[1])]
        for one in found:
            yield one._replace(start=one.start + start, end=one.end + start)


def _place(scalar: Scalar) -> ImagePlace | None:
    image, path = scalar.value.strip(), scalar.path
    if not image or len(image) > MAX_IMAGE or not is_field(path):
        return None
    is_default = path[-1] == "default"
    if IMAGE.fullmatch(image) is None or not (in_container(path) or is_image(image)):
        return None
    return ImagePlace(image, scalar.start, scalar.end, is_default)


def in_container(path: Sequence[str | int]) -> bool:
    """Return whether a field is the image of a container. There, any text is an image, even `busybox`."""
    return path[-1] == "image" and len(path) > 2 and isinstance(path[-2], int) and path[-3] in _CONTAINERS


def is_field(path: Sequence[str | int]) -> bool:
    """Return whether a field's name says that it holds an image: `image`, `sidecarImage`, `image.reference` of a volume, a CRD default."""
    key = path[-1]
    if len(path) > 2 and ((key == "default" and path[-3] == "properties") or (key == "reference" and path[-2] == "image")):
        key = path[-2]
    return isinstance(key, str) and _KEY.fullmatch(key) is not None


def is_image(text: str) -> bool:
    """Return whether a text outside of containers looks like an image: it has a path or a tag."""
    return len(text) <= MAX_IMAGE and ("/" in text or ":" in text) and IMAGE.fullmatch(text) is not None
