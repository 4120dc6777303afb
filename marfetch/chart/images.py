"""Find the container images that a chart uses with its default values, in its manifests, CRDs and annotations.

The templates are evaluated as `helm template` does, without Helm. Where that is not possible, values and lines are searched instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..errors import PolicyError
from .manifests import ImagePlace, images_in
from .naming import FoundImages, NamedImage, Occurrence, Source, value_in
from .parts import VALUES_FILE, WITHIN
from .template.marked import cut, spans_of
from .tree import Chart, enabled_chart, read_chart
from .unevaluated import beside_templates

__all__ = ["FoundImages", "NamedImage", "Source", "find_images", "is_packed_subchart", "is_searched", "is_used"]

_SEARCHED: Final = re.compile(rf"{WITHIN}(?:templates/.*|.*\.(?:yaml|yml|tpl))", re.DOTALL)
_PACKED: Final = re.compile(rf"{WITHIN}charts/[^/_.][^/]*\.tgz")
MAX_READ: Final = 16 << 20
"""Maximum number of characters in the manifests of a chart."""


def is_searched(path: str) -> bool:
    """Return whether a file can name images itself. The path is relative to the directory of the chart."""
    return _SEARCHED.fullmatch(path) is not None


def is_used(path: str) -> bool:
    """Return whether the search for images needs a file. Templates can read any file with `.Files`, except for signatures of sub-charts."""
    return not path.endswith(".tgz.prov")


def is_packed_subchart(path: str) -> bool:
    """Return whether Helm reads a file as a packed sub-chart: `charts/NAME.tgz`, without a leading `_` or `.` (helm/helm, `LoadFiles`)."""
    return _PACKED.fullmatch(path) is not None


def find_images(
    files: Mapping[str, bytes],
    unread: Mapping[str, str] | None = None,
    *,
    values: Sequence[Mapping[str, Any]] = (),
    check: Callable[[], None] = lambda: None,
) -> FoundImages:
    """Find the images in the files of a chart.

    Args:
        files: path relative to the directory of the chart → content; the files of a packed sub-chart are below `charts/NAME.tgz/`.
        unread: path that could not be read → reason.
        values: values that override the chart's defaults, like Helm's `--values` files; later ones win.
        check: called regularly; it may raise to cancel.
    """
    found = search(files, unread, values=values, check=check)
    return FoundImages(tuple(dict.fromkeys(one for one, _ in found.occurrences)), found.unread, found.guessed)


class ChartSearch(NamedTuple):
    """The images of a chart, with the parts that each one was made from.

    Attributes:
        chart: the chart with its final values.
        occurrences: each image, with the parts of its text that come from values or templates.
        unread, guessed: as in `FoundImages`.
    """

    chart: Chart
    occurrences: list[Occurrence]
    unread: dict[str, str]
    guessed: dict[str, str]


def search(
    files: Mapping[str, bytes],
    unread: Mapping[str, str] | None = None,
    *,
    values: Sequence[Mapping[str, Any]] = (),
    check: Callable[[], None] = lambda: None,
) -> ChartSearch:
    """Find the images as `find_images` does. Return each occurrence of an image, with the parts that it was made from."""
    failed = dict(unread or {})
    chart = read_chart(files, failed)
    try:
        chart = enabled_chart(chart, values)
    except PolicyError as error:
        return ChartSearch(chart, [], {**failed, VALUES_FILE: error.message}, {})
    from .rendering import render  # late: the evaluator of templates, which only a search for images needs

    rendered = render(chart, check=check)
    found: list[Occurrence] = []
    left = MAX_READ
    for path, output in rendered.outputs:
        check()
        left -= len(output)
        if left < 0:
            rendered.failed[path] = f"`{path}` was not searched: the manifests of the chart have more than {MAX_READ} characters"
        else:
            found += (_occurrence(output, place, path) for place in images_in(output))
    for one in chart.all():
        found += beside_templates(one, rendered, failed)
    return ChartSearch(chart, found, failed, rendered.failed)


def _occurrence(output: str, place: ImagePlace, path: str) -> Occurrence:
    """Return an image in the output of a template, with the value that gives its repository, or the line of the template."""
    image, raw = place.image, cut(output, place.start, place.end)
    parts = spans_of(raw if raw == image else cut(raw, 1, len(raw) - 1)) if image in (raw, raw[1:-1]) else ()
    source: Source = "crd" if place.is_default else "values"
    if (where := value_in(image, parts)) is not None:
        return NamedImage(image, where, source), parts
    start = str.rfind(output, "\n", 0, place.start) + 1
    lines = [span.origin for span in spans_of(cut(output, start, place.end)) if not span.is_value]
    return NamedImage(image, lines[0] if lines else path, "crd" if place.is_default else "template"), parts


def rendered_images(text: str) -> FoundImages:
    """Find the images in the output of `helm template`. Comments in it (`# Source:`) name the template of each image."""
    named = []
    for one in images_in(text):
        comment = text.rfind("\n# Source: ", 0, one.start)
        source = text[comment + 11 : text.index("\n", comment + 1)] if comment >= 0 else ""
        named.append(NamedImage(one.image, source.partition("/")[2] or "manifest", "rendered"))
    return FoundImages(tuple(dict.fromkeys(named)), {})
