"""Find the container images that a chart names in its values, templates and CRDs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from ..document import Json, parse_yaml
from ..errors import Error
from .parts import PARTS, WITHIN

Source: TypeAlias = Literal["values", "template", "crd"]

_EXTENSIONS: Final = (".yaml", ".yml", ".tpl")
_VALUES: Final = re.compile(rf"{WITHIN}values\.yaml")
_SUBCHART: Final = re.compile(rf"{WITHIN}charts/[^/_.][^/]*\.tgz")
_LINE: Final = re.compile(r"""^[ \t]*(?:- +)?[\w-]*image: *["']?([^\s"'#{}]+)["']?[ \t]*(?:#.*)?$""", re.MULTILINE | re.IGNORECASE)

_LONGEST: Final = 1_024
"""Maximum number of characters; a longer text is not an image."""


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
    """

    named: tuple[NamedImage, ...]
    unread: Mapping[str, str]

    @property
    def images(self) -> tuple[str, ...]:
        """The images, sorted, each once."""
        return tuple(sorted({one.image for one in self.named}))


def is_searched(path: str) -> bool:
    """Return whether a file is searched for images. The path is relative to the directory of the chart."""
    return path.endswith(_EXTENSIONS)


def is_packed_subchart(path: str) -> bool:
    """Return whether Helm reads a file as a packed sub-chart: `charts/NAME.tgz`, without a leading `_` or `.` (helm/helm, `LoadFiles`)."""
    return _SUBCHART.fullmatch(path) is not None


def find_images(files: Mapping[str, bytes], unread: Mapping[str, str] | None = None) -> FoundImages:
    """Find the images in the files of a chart.

    `values.yaml` is searched by its keys. All files are searched for lines such as `image: NAME`, unless the name is a template expression.

    Args:
        files: path relative to the directory of the chart → content; the files of a packed sub-chart are below `charts/NAME.tgz/`.
        unread: path that could not be read → reason.
    """
    named: list[NamedImage] = []
    failed = dict(unread or {})
    for path, raw in files.items():
        if not is_searched(path):
            continue
        source: Source = "crd" if PARTS["crds"](path) else "template"
        if _VALUES.fullmatch(path):
            source = "values"
            try:
                named += _in_values(parse_yaml(raw, f"`{path}`", is_lenient=True), f"{path}:")
            except Error as error:
                failed[path] = error.message
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            failed.setdefault(path, f"`{path}` is not UTF-8 at byte {error.start}")
            continue
        known = {one.image for one in named if one.where.startswith(f"{path}:")}
        named += (one for one in _in_lines(text, path, source) if one.image not in known)
    return FoundImages(tuple(one for one in named if len(one.image) <= _LONGEST), failed)


def _in_lines(text: str, path: str, source: Source) -> Iterator[NamedImage]:
    at, number = 0, 1
    for match in _LINE.finditer(text):
        if "/" in match[1] or ":" in match[1]:
            number += text.count("\n", at, match.start(1))
            at = match.start(1)
            yield NamedImage(match[1], f"{path}:{number}", source)


def _in_values(value: Json, where: str) -> Iterator[NamedImage]:
    """Yield images written as `image: a/b:1`, or as a mapping with `repository`, `registry`, `tag` and `digest`."""
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from _in_values(one, f"{where}[{number}]")
    if not isinstance(value, dict):
        return
    merged = value.get("<<")  # YAML 1.1 merge key, which Helm's parser supports
    if isinstance(merged, dict):
        value = {**merged, **{key: inner for key, inner in value.items() if key != "<<"}}
    below = where if where.endswith(":") else f"{where}."
    repository = value.get("repository")
    if isinstance(repository, str) and repository and ("tag" in value or "digest" in value):
        registry, tag, digest = (value.get(key) for key in ("registry", "tag", "digest"))
        name = f"{registry}/{repository}" if isinstance(registry, str) and registry else repository
        name += f":{tag}" if tag not in (None, "") else ""
        yield NamedImage(name + (f"@{digest}" if isinstance(digest, str) and digest else ""), f"{below}repository", "values")
    for key, inner in value.items():
        if key.lower().endswith("image") and isinstance(inner, str) and "/" in inner:
            yield NamedImage(inner, f"{below}{key}", "values")
        yield from _in_values(inner, f"{below}{key}")
