"""Find the images that evaluated templates do not show: in CRDs, in annotations, and in templates that could not be evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ..document import Json, parse_yaml
from ..errors import Error
from .expected import CHART_FILE
from .manifests import IMAGE, LINE, MAX_IMAGE, images_in, is_image
from .naming import NamedImage, Occurrence, value_in
from .parts import PARTS
from .template.goformat import number_text
from .template.marked import concat, spans_of
from .tree import Chart

if TYPE_CHECKING:
    from .rendering import Rendered

_ANNOTATIONS: Final = ("artifacthub.io/images", "helm.sh/images")
_USES_VALUES: Final = re.compile(rb"\{\{[^}]*\b(?:Values|include|template)\b")
_MENTION: Final = re.compile(r"\.Values((?:\.\w+)+)", re.ASCII)
_LISTED: Final = re.compile(r"^[ \t]*(?:- *)?(?:image: *)?[\"']?([^\s\"']+)[\"']?[ \t]*$", re.MULTILINE)


def beside_templates(chart: Chart, rendered: Rendered, failed: dict[str, str]) -> Iterator[Occurrence]:
    """Yield the images that the evaluated templates of a chart do not show: from CRDs, annotations, and templates that failed.

    If no template of the chart uses its values, the values are searched too, because they may name images for other purposes.
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
        tag = number_text(tag) if isinstance(tag, float) else tag
        if all(isinstance(one, str) for one in (registry, repository, tag, digest)) and repository:
            parts = (registry, "/" if registry else "", repository, ":" if tag else "", tag)
            yield from _from_values(concat([*parts, "@" if digest else "", digest]), needs_path=False)
    for key, inner in value.items():
        if key.lower().endswith("image") and isinstance(inner, str):
            yield from _from_values(inner)
        yield from _in_values(inner)


def _from_values(text: str, *, needs_path: bool = True) -> Iterator[Occurrence]:
    where = value_in(text, spans_of(text))
    if where is not None and (is_image(text) or (not needs_path and len(text) <= MAX_IMAGE and IMAGE.fullmatch(text))):
        yield NamedImage(str(text), where, "values"), spans_of(text)
