"""An image that a chart names, and the value that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from .expected import CHART_FILE
from .template.marked import SourceSpan

Source: TypeAlias = Literal["values", "template", "crd", "annotation", "rendered"]


class NamedImage(NamedTuple):
    """An image, and the place where a chart names it.

    Attributes:
        where: file and key, or file and line: `values.yaml:image.repository`, `charts/sub-1.0.0.tgz/templates/job.yaml:12`.
    """

    image: str
    where: str
    source: Source


class FoundImages(NamedTuple):
    """The images that a chart names.

    Attributes:
        unread: path of a file or packed sub-chart that could not be searched → reason.
        guessed: path of a template that could not be evaluated → reason. Its lines, and the values that it mentions, were searched instead.
    """

    named: tuple[NamedImage, ...]
    unread: Mapping[str, str]
    guessed: Mapping[str, str] = {}

    @property
    def images(self) -> tuple[str, ...]:
        """The images, sorted, each once."""
        return tuple(sorted({one.image for one in self.named}))


Occurrence: TypeAlias = tuple[NamedImage, tuple[SourceSpan, ...]]
"""An image, and the parts of its text that come from values or templates."""


def value_in(image: str, parts: tuple[SourceSpan, ...]) -> str | None:
    """Return the value that gives the last part of the repository; None if no value gives any part of the image."""
    end = len(repository_of(image))
    values = [span for span in parts if span.is_value and f"/{CHART_FILE}:" not in f"/{span.origin}"]
    best = max(values, key=lambda span: (span.start < end <= span.end, min(span.end, end) - span.start), default=None)
    return best.origin if best is not None else None


def repository_of(image: str) -> str:
    """Return an image reference without its tag and digest."""
    name = image.partition("@")[0]
    head, _, last = name.rpartition("/")
    return f"{head}/{last.partition(':')[0]}" if head else last.partition(":")[0]
