"""Find the values that point the images of a chart at another registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from .images import ChartSearch, search
from .naming import NamedImage, repository_of
from .template.evaluate import Meter
from .template.goformat import Formatter
from .template.marked import SourceSpan, spans_of
from .tree import enabled_chart, override, read_chart

MAX_TRIALS: Final = 8
"""Maximum number of empty values to try. A template may write a registry of its own only while such a value is empty."""

_GUARD: Final = "allowInsecureImages"
"""The value below `global.security` without which Bitnami's charts fail if an image is not from Bitnami's own registry."""

_Path = tuple[str | int, ...]
_Edit = tuple[int, int, str]
"""A replacement in a text: start, end, and the new text."""


class Left(NamedTuple):
    """An image that no value points at the new registry."""

    image: str
    where: str
    reason: str


class Relocation(NamedTuple):
    """Values for another registry.

    Attributes:
        values: values to pass to Helm, which override those of the chart.
        left: the images that the values cannot point at the registry.
    """

    values: dict[str, Any]
    left: tuple[Left, ...]


def relocate(
    files: Mapping[str, bytes],
    targets: Mapping[str, str],
    registry: str,
    unread: Mapping[str, str] | None = None,
    *,
    check: Callable[[], None] = lambda: None,
) -> Relocation:
    """Return the values that turn each image into its target. Evaluating the templates again with these values checks the result.

    Args:
        files, unread: as for `marfetch.chart.images.find_images`.
        targets: image as the chart names it → its reference in the new registry.
        registry: the host of the new registry with its prefix, for charts that have an empty value for it.
    """

    def searched(values: Mapping[str, Any]) -> ChartSearch:
        return search(files, unread, values=[values], check=check)

    before = searched({})
    edits: dict[str, set[_Edit]] = {}
    reasons: dict[NamedImage, str] = {}
    for named, spans in before.occurrences:
        found = _edits(named.image, targets[named.image], spans) if named.image in targets else []
        if found is None:
            reasons[named] = "no single value gives its name"
        for origin, edit in found or ():
            edits.setdefault(origin, set()).add(edit)
    defaults = enabled_chart(read_chart(files, {})).values if before.occurrences else {}
    values: dict[str, Any] = {}
    texts: dict[str, tuple[str, list[_Path]]] = {}
    for path, text in _texts(defaults, ()):
        for span in spans_of(text):
            texts.setdefault(span.origin, (text, []))[1].append(path)
    for origin, wanted in edits.items():
        text, paths = texts.get(origin, ("", []))
        for path in paths:
            if not ("global" in path[1:] and path[path.index("global", 1) :] in paths):
                _put(values, defaults, path, _edited(text, wanted))
    after = searched(values)
    if any(image in targets for image in _images(after)):
        for path in list(_empty(defaults, ()))[:MAX_TRIALS]:
            tried = _plain(values)
            _put(tried, defaults, path, registry)
            result = searched(tried)
            if _misplaced(result, before, targets) < _misplaced(after, before, targets):
                values, after = tried, result
    if values and _is_guarded(defaults):
        override(values, {"global": {"security": {_GUARD: True}}})
    return Relocation(values, tuple(_left(before, after, targets, reasons)))


def target_of(image: str, repository: str, digest: str) -> str:
    """Return the reference of an image in another repository. It keeps the tag, and has this digest if the image has a digest."""
    name, _, pinned = image.partition("@")
    return f"{repository}{name.removeprefix(repository_of(image))}{f'@{digest}' if pinned else ''}"


def yaml_of(values: Mapping[str, Any]) -> str:
    """Return values as YAML."""
    return Formatter(Meter()).yaml(dict(values))


def _images(found: ChartSearch) -> set[str]:
    return {named.image for named, _ in found.occurrences if named.source in ("values", "template")}


def _misplaced(after: ChartSearch, before: ChartSearch, targets: Mapping[str, str]) -> int:
    """Return the number of images that the values get wrong: still at their old place, or changed to an image that is not a target."""
    images, known = _images(after), {*targets.values(), *(_images(before) - set(targets))}
    return len(images - known)


def _left(before: ChartSearch, after: ChartSearch, targets: Mapping[str, str], reasons: Mapping[NamedImage, str]) -> Iterator[Left]:
    original, known = _images(before), set(targets.values())
    for named in dict.fromkeys(named for named, _ in before.occurrences):
        if named.image not in targets:
            yield Left(named.image, named.where, "it is not in the bundle")
    for named in dict.fromkeys(named for named, _ in after.occurrences):
        if named.image in targets:
            yield Left(named.image, named.where, reasons.get(named, "its name is written in a template, not in the values"))
        elif named.image not in known and named.image not in original and named.source in ("values", "template"):
            yield Left(named.image, named.where, "it is not in the bundle, but shares a value with images that are")
    for path, reason in {**after.unread, **after.guessed}.items():
        yield Left("", path, reason)


# -- edits of texts


def _edits(image: str, target: str, spans: tuple[SourceSpan, ...]) -> list[tuple[str, _Edit]] | None:
    """Return the edits that turn an image into its target, each with the value to edit. None if a part does not come from one value."""
    name, new_name = repository_of(image), repository_of(target)
    path = name.partition("/")[2]
    wanted = []
    if name != new_name:
        if not path or not new_name.endswith(f"/{path}"):
            return None
        wanted.append((0, len(name) - len(path) - 1, new_name[: -len(path) - 1]))
    digest, new_digest = image.partition("@")[2], target.partition("@")[2]
    if digest and digest != new_digest:
        wanted.append((len(image) - len(digest), len(image), new_digest))
    found = []
    for start, end, text in wanted:
        span = next((one for one in spans if one.is_value and one.offset is not None and one.start <= start and end <= one.end), None)
        if span is None or span.offset is None:
            return None
        at = span.offset + start - span.start
        found.append((span.origin, (at, at + end - start, text)))
    return found


def _edited(text: str, edits: set[_Edit]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = str(text[:start]) + new + str(text[end:])
    return str(text)


# -- values


def _texts(value: Any, path: _Path) -> Iterator[tuple[_Path, str]]:
    if isinstance(value, str):
        yield path, value
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _texts(inner, (*path, key))


def _empty(values: Any, path: _Path) -> Iterator[_Path]:
    """Yield the paths of empty values for a registry. Values for all charts (`global`) come first."""
    for key in sorted(values, key=lambda key: key != "global") if isinstance(values, dict) else ():
        if "registry" in key.lower() and values[key] in ("", None):
            yield (*path, key)
        else:
            yield from _empty(values[key], (*path, key))


def _is_guarded(values: Any) -> bool:
    if not isinstance(values, dict):
        return False
    security = values.get("security")
    return (isinstance(security, dict) and security.get(_GUARD) is False) or any(map(_is_guarded, values.values()))


def _put(values: dict[str, Any], defaults: Any, path: _Path, text: str) -> None:
    """Set a value. For a value in a list, set the whole list, because Helm replaces lists and does not merge them."""
    node: Any = values
    for key, following in zip(path, (*path[1:], None), strict=True):
        defaults = defaults[key]
        if following is None:
            node[key] = text
        elif isinstance(node, dict):
            node = node.setdefault(key, _plain(defaults) if isinstance(defaults, list) else {})
        else:
            node = node[key]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    is_whole = isinstance(value, float) and value.is_integer()
    return str(value) if isinstance(value, str) else int(value) if is_whole else value
