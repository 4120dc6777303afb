"""Find the container images that a chart uses with its default values, in its manifests, CRDs and annotations.

The templates are evaluated as `helm template` does, without Helm. Where that is not possible, values and lines are searched instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ..document import Json, parse_yaml
from ..errors import Error, PolicyError
from .expected import CHART_FILE
from .manifests import IMAGE, LINE, MAX_IMAGE, ImagePlace, images_in, is_image
from .parts import PARTS, VALUES_FILE, WITHIN
from .rendering import Rendered, render
from .template.marked import SourceSpan, concat, cut, spans_of
from .tree import Chart, enabled_chart, read_chart

Source: TypeAlias = Literal["values", "template", "crd", "annotation", "rendered"]

_SEARCHED: Final = re.compile(rf"{WITHIN}(?:templates/.*|.*\.(?:yaml|yml|tpl))", re.DOTALL)
_PACKED: Final = re.compile(rf"{WITHIN}charts/[^/_.][^/]*\.tgz")
MAX_READ: Final = 16 << 20
"""Maximum number of characters in the manifests of a chart."""
_ANNOTATIONS: Final = ("artifacthub.io/images", "helm.sh/images")
_USES_VALUES: Final = re.compile(rb"\{\{[^}]*\b(?:Values|include|template)\b")
_MENTION: Final = re.compile(r"\.Values((?:\.\w+)+)", re.ASCII)
_LISTED: Final = re.compile(r"^[ \t]*(?:- *)?(?:image: *)?[\"']?([^\s\"']+)[\"']?[ \t]*$", re.MULTILINE)


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
        guessed: path of a template that could not be evaluated → reason. It was searched by its lines and the values that it mentions.
    """

    named: tuple[NamedImage, ...]
    unread: Mapping[str, str]
    guessed: Mapping[str, str] = {}

    @property
    def images(self) -> tuple[str, ...]:
        """The images, sorted, each once."""
        return tuple(sorted({one.image for one in self.named}))


def is_searched(path: str) -> bool:
    """Return whether a file is needed to find the images of a chart. The path is relative to the directory of the chart."""
    return _SEARCHED.fullmatch(path) is not None


def is_packed_subchart(path: str) -> bool:
    """Return whether Helm reads a file as a packed sub-chart: `charts/NAME.tgz`, without a leading `_` or `.` (helm/helm, `LoadFiles`)."""
    return _PACKED.fullmatch(path) is not None


def find_images(
    files: Mapping[str, bytes],
    unread: Mapping[str, str] | None = None,
    *,
    values: Mapping[str, Any] | None = None,
    check: Callable[[], None] = lambda: None,
) -> FoundImages:
    """Find the images in the files of a chart.

    Args:
        files: path relative to the directory of the chart → content; the files of a packed sub-chart are below `charts/NAME.tgz/`.
        unread: path that could not be read → reason.
        values: values that override those of the chart.
        check: called regularly; it may raise to cancel.
    """
    found = search(files, unread, values=values, check=check)
    return FoundImages(tuple(dict.fromkeys(one for one, _ in found.occurrences)), found.unread, found.guessed)


Occurrence: TypeAlias = tuple[NamedImage, tuple[SourceSpan, ...]]
"""An image, and the parts of its text that come from values or templates."""


class Search(NamedTuple):
    """The images of a chart with all that is known about them.

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
    values: Mapping[str, Any] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Search:
    """Find the images as `find_images` does, also several times, with the parts that they were made from."""
    failed = dict(unread or {})
    chart = read_chart(files, failed)
    try:
        chart = enabled_chart(chart, values)
    except PolicyError as error:
        return Search(chart, [], {**failed, VALUES_FILE: error.message}, {})
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
        found += _beside_templates(one, rendered, failed)
    return Search(chart, found, failed, rendered.failed)


def _occurrence(output: str, place: ImagePlace, path: str) -> Occurrence:
    """Return an image in the output of a template, with the value that gives its repository, or the line of the template."""
    image, raw = place.image, cut(output, place.start, place.end)
    parts = spans_of(raw if raw == image else cut(raw, 1, len(raw) - 1)) if image in (raw, raw[1:-1]) else ()
    source: Source = "crd" if place.is_default else "values"
    if (where := _value_in(image, parts)) is not None:
        return NamedImage(image, where, source), parts
    start = str.rfind(output, "\n", 0, place.start) + 1
    lines = [span.origin for span in spans_of(cut(output, start, place.end)) if not span.is_value]
    return NamedImage(image, lines[0] if lines else path, "crd" if place.is_default else "template"), parts


def _value_in(image: str, parts: tuple[SourceSpan, ...]) -> str | None:
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


def _beside_templates(chart: Chart, rendered: Rendered, failed: dict[str, str]) -> Iterator[Occurrence]:
    """Yield what the evaluated templates of a chart do not show: CRDs, annotations, and all that was not evaluated.

    If no template uses the values, they may be for something else, and are searched too.
    """
    for name, raw in chart.files.items():
        path = f"{chart.path}{name}"
        is_crd = PARTS["crds"](name)
        if not is_crd and path not in rendered.failed:
            continue
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            failed.setdefault(path, f"`{path}` is not UTF-8 at byte {error.start}")
            continue
        if is_crd:
            for one in images_in(text):
                yield NamedImage(one.image, f"{path}:{text.count(chr(10), 0, one.start) + 1}", "crd"), ()
        else:
            yield from ((named, ()) for named in _in_lines(text, path))
            for mention in _MENTION.finditer(text):
                yield from _mentioned(chart.values, mention[1].split(".")[1:])
    if not any(name.startswith("templates/") and _USES_VALUES.search(raw) for name, raw in chart.files.items()):
        below = {one.name for one in chart.charts}
        yield from _in_values({key: value for key, value in chart.values.items() if key not in below})
    annotations = chart.metadata.get("annotations")
    for key, text in annotations.items() if isinstance(annotations, dict) else ():
        for image in _listed(text) if key in _ANNOTATIONS else ():
            yield NamedImage(image, f"{chart.path}{CHART_FILE}:annotations.{key}", "annotation"), ()


def _mentioned(values: Any, keys: list[str]) -> Iterator[Occurrence]:
    """Yield the images in the value that a template mentions: `.Values.sidecar`, `.Values.image.tag`."""
    above: Any = None
    for key in keys:
        above, values = values, values.get(key) if isinstance(values, dict) else None
    if isinstance(values, (dict, list)):
        yield from _in_values(values)
    elif isinstance(above, dict):
        known = {key: value for key, value in above.items() if not isinstance(value, (dict, list))}
        yield from _in_values(known if "repository" in known else {keys[-1]: values})


def _in_lines(text: str, path: str) -> Iterator[NamedImage]:
    for match in LINE.finditer(text):
        if is_image(match[1]):
            yield NamedImage(match[1], f"{path}:{text.count(chr(10), 0, match.start(1)) + 1}", "template")


def _listed(text: Json) -> Iterator[str]:
    """Yield the images in an annotation: a YAML list of `image: NAME` (Artifact Hub), or one image per line."""
    if not isinstance(text, str):
        return
    try:
        found = parse_yaml(text.encode(), "the annotation", is_lenient=True)
    except Error:
        found = None
    listed = [one.get("image") if isinstance(one, dict) else one for one in found] if isinstance(found, list) else _LISTED.findall(text)
    yield from (str(one) for one in listed if isinstance(one, str) and is_image(one))


def _in_values(value: Any) -> Iterator[Occurrence]:
    """Yield images written as `image: a/b:1`, or as a mapping with `repository`, `registry`, `tag` and `digest`."""
    for one in value if isinstance(value, list) else ():
        yield from _in_values(one)
    if not isinstance(value, dict):
        return
    if "tag" in value or "digest" in value:
        registry, repository, tag, digest = (value.get(key) or "" for key in ("registry", "repository", "tag", "digest"))
        if all(isinstance(one, str) for one in (registry, repository, digest)) and repository:
            parts = (registry, "/" if registry else "", repository, ":" if tag else "", tag if isinstance(tag, str) else str(tag))
            yield from _from_values(concat([*parts, "@" if digest else "", digest]), needs_path=False)
    for key, inner in value.items():
        if key.lower().endswith("image") and isinstance(inner, str):
            yield from _from_values(inner)
        yield from _in_values(inner)


def _from_values(text: str, *, needs_path: bool = True) -> Iterator[Occurrence]:
    where = _value_in(text, spans_of(text))
    if where is not None and (is_image(text) or (not needs_path and len(text) <= MAX_IMAGE and IMAGE.fullmatch(text))):
        yield NamedImage(str(text), where, "values"), spans_of(text)
