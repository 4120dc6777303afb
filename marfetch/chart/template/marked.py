"""Text that knows which values it was made from, so that an image in a manifest leads back to `values.yaml:image.repository`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

MAX_SPANS = 20_000
"""Maximum number of spans of one text; a text with more loses its marks."""


class SourceSpan(NamedTuple):
    """A part of a text, and where it comes from.

    Attributes:
        start, end: offsets in the text.
        origin: `FILE:KEY` of a value, or `FILE:LINE` of a template.
        is_value: whether the origin is a value.
        offset: where the part begins in the text of the origin; None if the text was changed in between.
    """

    start: int
    end: int
    origin: str
    is_value: bool = True
    offset: int | None = None


_end = attrgetter("end")


class Marked(str):
    """A text with spans, sorted by start and by end."""

    __slots__ = ("spans",)
    spans: tuple[SourceSpan, ...]


def marked(text: str, spans: Iterable[SourceSpan]) -> str:
    """Return the text with these spans; a plain text if there are none."""
    found = tuple(spans)
    if not found or not text or len(found) > MAX_SPANS:
        return str(text)
    result = Marked(text)
    result.spans = found
    return result


def spans_of(text: object) -> tuple[SourceSpan, ...]:
    return text.spans if type(text) is Marked else ()


def from_value(text: str, origin: str) -> str:
    """Return the text of a value, marked with its origin."""
    return marked(text, [SourceSpan(0, len(text), origin, True, 0)])


def concat(parts: Iterable[str]) -> str:
    """Join texts and move their spans."""
    texts = list(parts)
    if not any(type(part) is Marked for part in texts):
        return "".join(texts)
    spans: list[SourceSpan] = []
    at = 0
    for part in texts:
        if type(part) is Marked:
            spans += (span._replace(start=span.start + at, end=span.end + at) for span in part.spans) if at else part.spans
        at += len(part)
    return marked("".join(texts), spans)


def cut(text: str, start: int, end: int | None = None) -> str:
    """Return `text[start:end]` with the spans in it."""
    start, end, _ = slice(start, end).indices(len(text))
    plain = str.__getitem__(text, slice(start, end))
    if type(text) is not Marked:
        return plain
    spans = []
    for span in islice(text.spans, bisect_right(text.spans, start, key=_end), None):
        if span.start >= end:
            break
        left, right = max(span.start, start), min(span.end, end)
        if left < right:
            offset = span.offset + left - span.start if span.offset is not None else None
            spans.append(SourceSpan(left - start, right - start, span.origin, span.is_value, offset))
    return marked(plain, spans)


def changed(text: str, *sources: object) -> str:
    """Return a text that was computed from other texts. The whole text is marked with all their origins."""
    origins = {(span.origin, span.is_value): span for source in sources for span in spans_of(source)}
    return marked(text, (SourceSpan(0, len(text), origin, is_value) for origin, is_value in origins)) if origins else text


def replaced(text: str, old: str, new: str) -> str:
    """Return `text.replace(old, new)` with the spans of both."""
    if not old or type(text) is not Marked or str.find(text, old) < 0:
        return text if old and str.find(text, old) < 0 else changed(str.replace(text, old, new), text, new)
    parts: list[str] = []
    at = 0
    while (found := str.find(text, old, at)) >= 0:
        parts += (cut(text, at, found), new)
        at = found + len(old)
    return concat([*parts, cut(text, at)])


def split(text: str, separator: str) -> list[str]:
    """Return `text.split(separator)` with the spans of each part."""
    if type(text) is not Marked or not separator:
        return str.split(text, separator) if separator else list(text)
    found, at = [], 0
    for part in str.split(text, separator):
        found.append(cut(text, at, at + len(part)))
        at += len(part) + len(separator)
    return found
