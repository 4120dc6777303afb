"""Parse strict JSON and safe YAML from untrusted sources into plain values.

JSON from a registry must be I-JSON (RFC 7493): UTF-8, no duplicate names, no NaN. The image layout requires it. Parsers that disagree
about a duplicate name would verify one value and use another. YAML is limited to what JSON can express: one document, no aliases (which
allow bombs) and no tags (which create objects). Only this module imports a YAML library.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, TypeAlias

from .errors import IntegrityError, PolicyError

if TYPE_CHECKING:
    from yaml import Event

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

Path: TypeAlias = tuple[str | int, ...]
"""Path of a value in a document: keys and list positions, outermost first."""


class Mark(NamedTuple):
    """The position of a value in a text.

    Attributes:
        line, column: of the key or the list item, counted from 1.
        text: a scalar as written, because the number 1.1 no longer shows that `1.10` was written.
        start, end: offsets of a scalar in the text, including its quotes.
        target: the original path of the value, if an alias or a merge key repeats the value here.
    """

    line: int
    column: int
    text: str | None = None
    start: int = 0
    end: int = 0
    target: tuple[str | int, ...] | None = None


Marks: TypeAlias = dict[Path, Mark]

MAX_DEPTH = 64
"""Maximum nesting of arrays and objects."""

MAX_INTEGER_DIGITS = 19
"""Maximum digits of an integer: sizes are 64-bit numbers (image-spec, descriptor, `size`)."""

MAX_NUMBER = 200
"""Maximum length of a number in Helm's values; a longer text is no number."""

MAX_VALUES = 500_000
"""Maximum number of values in a JSON document, counted by commas. A value such as `[],` needs over twenty times its length in memory."""

MAX_YAML_SIZE = 1 << 20
"""Maximum size of a YAML text in bytes (1 MiB)."""


def parse_json(data: bytes, what: str, *, most: int = MAX_VALUES) -> Json:
    """Parse strict JSON.

    Args:
        data: UTF-8 text; the caller limits its length.
        what: name of the text for messages, such as "the manifest of `aks/foo:1.2.3`".
        most: maximum number of commas, which are counted before parsing.

    Raises:
        IntegrityError: `malformed`: not UTF-8, not JSON, duplicate names, NaN, a number of over 19 digits or beyond a double, nested too
            deeply.
        PolicyError: `limit-passed`: more than `most` values.
    """
    if data.count(b",") > most:
        raise PolicyError(f"{what} has more than {most} values", code="limit-passed", what=what, rule=f"at most {most} values")

    def fail(reason: str) -> NoReturn:
        raise IntegrityError(f"{what} is malformed: {reason}", code="malformed", what=what)

    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            fail(f"the name `{twice[:100]}` appears twice in one object")
        return result

    def integer(digits: str) -> int:
        if len(digits.lstrip("-")) > MAX_INTEGER_DIGITS:
            fail(f"a number has {len(digits)} digits, more than {MAX_INTEGER_DIGITS}")
        return int(digits)

    def real(digits: str) -> float:
        value = float(digits)
        if math.isinf(value):  # RFC 7493, 2.2; JSON cannot express `Infinity`
            fail(f"the number `{digits[:40]}` is too large")
        return value

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(f"not UTF-8 at byte {error.start}")
    if text.startswith("\ufeff"):
        fail("it starts with a byte order mark")
    try:
        value: Json = json.loads(
            text, object_pairs_hook=unique, parse_int=integer, parse_float=real, parse_constant=lambda name: fail(f"`{name}` is not JSON")
        )
    except json.JSONDecodeError as error:
        fail(f"{error.msg.lower()} at line {error.lineno}, column {error.colno}")
    except RecursionError:
        fail(f"nested more than {MAX_DEPTH} deep")
    if _depth_exceeds(value, MAX_DEPTH):
        fail(f"nested more than {MAX_DEPTH} deep")
    return value


def _depth_exceeds(value: Json, limit: int) -> bool:
    level: list[Json] = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def parse_yaml(
    data: bytes, what: str, *, marks: Marks | None = None, limit: int = MAX_YAML_SIZE, is_lenient: bool = False, is_helm: bool = False
) -> Json:
    """Parse one YAML document that JSON can express (YAML 1.2, chapter 10.3, the core schema: `yes` and dates are strings).

    Args:
        data: UTF-8 text.
        what: name of the text for messages, such as "`Chart.yaml` of `foo-1.2.3.tgz`".
        marks: a mapping that receives the position of each value, for messages of the caller.
        limit: maximum size in bytes.
        is_lenient: accept what Helm and other tools accept. Anchors, aliases and merge keys (`<<`) are expanded, up to a limit. Tags are
            ignored. Numbers that JSON cannot express become text. The last of several equal keys counts.
        is_helm: lenient, and scalars are those of Helm's values (sigs.k8s.io/yaml, `resolve`): `yes` and `off` are booleans, `010` is
            octal, and every number is a float.

    Returns:
        The value; None for a text without a document.

    Raises:
        IntegrityError: `malformed`, with line and column: not UTF-8, not YAML, an alias, an anchor, a tag, a second document, a key
            that appears twice or is not a string, a number of over 19 digits or beyond a double, nested too deeply.
        PolicyError: `limit-passed`: more than `limit` bytes.
    """
    import yaml  # late: only YAML files need PyYAML

    if len(data) > limit:
        raise PolicyError(
            f"{what} has {len(data)} bytes, more than {limit}",
            code="limit-passed",
            what=what,
            rule=f"at most {limit} bytes of YAML",
        )
    reader = _YamlReader(what, marks, is_lenient=is_lenient or is_helm, is_helm=is_helm)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        reader.fail(f"not UTF-8 at byte {error.start}")
    text = text.removeprefix("\ufeff")
    # Prefer the C parser, which is much faster.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return reader.document(yaml.parse(text, Loader=loader))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        reader.fail(f"{error.reason}{_at(before.count(chr(10)), len(before) - before.rfind(chr(10)) - 1)}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reader.fail(f"{error.problem or error.context}{_at(mark.line, mark.column) if mark else ''}")
    except yaml.YAMLError as error:
        reader.fail(str(error))


class Scalar(NamedTuple):
    """A scalar in a YAML text.

    Attributes:
        path: keys and list positions, outermost first; the first part is the number of the document.
        start, end: offsets in the text, including quotes.
    """

    path: Path
    value: str
    start: int
    end: int


def yaml_scalars(text: str, what: str) -> Iterator[Scalar]:
    """Yield the scalars of all documents in a text, also of texts that repeat keys. Aliases are not followed.

    Raises:
        IntegrityError: `malformed`: not YAML, or nested too deeply.
    """
    import yaml  # late: only YAML files need PyYAML

    stack: list[list[Any]] = []  # for each open collection: the current key or position, and whether a key comes next (None in a list)
    number = -1
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                number += 1
                continue
            if kind in ("SequenceEndEvent", "MappingEndEvent"):
                stack.pop()
                continue
            if kind not in ("ScalarEvent", "AliasEvent", "SequenceStartEvent", "MappingStartEvent"):
                continue
            is_key = False
            if stack:
                top = stack[-1]
                if top[1] is None:
                    top[0] += 1
                elif top[1]:
                    top[0], top[1], is_key = getattr(event, "value", ""), False, True
                else:
                    top[1] = True
            if kind == "ScalarEvent" and not is_key:
                start, end = (mark.index if mark is not None else 0 for mark in (event.start_mark, event.end_mark))
                yield Scalar((number, *(one[0] for one in stack)), getattr(event, "value", ""), start, end)
            elif kind in ("SequenceStartEvent", "MappingStartEvent"):
                if len(stack) >= MAX_DEPTH:
                    raise IntegrityError(f"{what} is malformed: nested more than {MAX_DEPTH} deep", code="malformed", what=what)
                stack.append([-1, None] if kind == "SequenceStartEvent" else ["", True])
    except yaml.YAMLError as error:
        raise IntegrityError(f"{what} is malformed: {str(error)[:200]}", code="malformed", what=what) from None


def _at(line: int, column: int) -> str:
    return f" at line {line + 1}, column {column + 1}"


_NULL = ("", "~", "null", "Null", "NULL")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# Compiled when they are first used, because most commands read no YAML.
_INTEGERS: Final = ((r"[-+]?[0-9]+", 10), (r"0o[0-7]+", 8), (r"0x[0-9A-Fa-f]+", 16))
_FLOAT: Final = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_HELM_BOOLEANS = {
    spelling: value
    for value, words in ((True, ("y", "yes", "true", "on")), (False, ("n", "no", "false", "off")))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
_HELM_INTEGER: Final = r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|([0-9]+))"
_NO_NUMBERS: Final = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"


def helm_scalar(text: str) -> Json:
    """Return the value of a plain scalar as Helm reads it. What JSON cannot express stays text."""
    if text in _NULL or text in _HELM_BOOLEANS:
        return _HELM_BOOLEANS.get(text)
    if not text[0].isdigit() and text[0] not in "+-.":
        return text
    plain = text.replace("_", "") if text[0] != "." else text
    if len(text) > MAX_NUMBER or (not (whole := re.fullmatch(_HELM_INTEGER, plain)) and not re.fullmatch(_FLOAT, plain)):
        return text
    if whole is not None and not whole[5]:
        digits, base = next((found, base) for found, base in zip(whole.groups()[1:4], (16, 2, 8), strict=True) if found)
        return float(int(whole[1] + digits, base))
    value = float(plain)
    return text if math.isinf(value) else value


class _YamlReader:
    """Builds values from the parser's events, so that forbidden constructs are refused with their position."""

    def __init__(self, what: str, marks: Marks | None = None, *, is_lenient: bool = False, is_helm: bool = False) -> None:
        self._scalar_of = helm_scalar if is_helm else None
        self._what = what
        self._marks = marks
        self._anchors: dict[str, tuple[Json, int, Path]] | None = {} if is_lenient else None
        self._count = 0  # values so far, including values that aliases repeat

    def _mark(self, event: Event, path: Path) -> None:
        mark = event.start_mark
        if self._marks is not None and mark is not None:
            self._marks[path] = Mark(mark.line + 1, mark.column + 1)

    def fail(self, reason: str, event: Event | None = None) -> NoReturn:
        mark = event.start_mark if event is not None else None
        where = _at(mark.line, mark.column) if mark is not None else ""
        raise IntegrityError(f"{self._what} is malformed: {reason}{where}", code="malformed", what=self._what)

    def document(self, events: Iterator[Event]) -> Json:
        value: Json = None
        found = False
        for event in events:
            match type(event).__name__:
                case "DocumentStartEvent":
                    if found:
                        self.fail("a second document begins", event)
                    found = True
                    inner = next(events)
                    self._mark(inner, ())
                    value = self._value(inner, events, ())
                case _:  # start and end of the stream, end of the document
                    continue
        if self._anchors and _depth_exceeds(value, MAX_DEPTH):
            self.fail(f"nested more than {MAX_DEPTH} deep")
        return value

    def _value(self, event: Event, events: Iterator[Event], path: Path) -> Json:
        anchor = getattr(event, "anchor", None)
        if anchor is None:
            self._count += 1
            return self._plain_value(event, events, path)
        is_alias = type(event).__name__ == "AliasEvent"
        if self._anchors is None:
            self.fail(f"an {'alias' if is_alias else 'anchor'} is not allowed", event)
        if is_alias:
            if anchor not in self._anchors:
                self.fail("an alias has no anchor before it", event)
            value, count, target = self._anchors[anchor]
            self._count += count
            if self._count > MAX_VALUES:
                self.fail(f"its aliases expand to more than {MAX_VALUES} values", event)
            if self._marks is not None and path in self._marks:
                self._marks[path] = self._marks[path]._replace(target=target)
            return value
        before = self._count
        self._count += 1
        value = self._plain_value(event, events, path)
        self._anchors[anchor] = value, self._count - before, path
        return value

    def _plain_value(self, event: Event, events: Iterator[Event], path: Path) -> Json:
        kind = type(event).__name__
        if getattr(event, "tag", None) is not None and self._anchors is None:
            self.fail("a tag is not allowed", event)
        if kind == "ScalarEvent":
            if self._marks is not None and path in self._marks:
                start, end = (mark.index if mark is not None else 0 for mark in (event.start_mark, event.end_mark))
                self._marks[path] = self._marks[path]._replace(text=event.value, start=start, end=end)  # type: ignore[attr-defined]
            return self._scalar(event)
        if len(path) >= MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep", event)
        if kind == "SequenceStartEvent":
            items: list[Json] = []
            while type(inner := next(events)).__name__ != "SequenceEndEvent":
                below = (*path, len(items))
                self._mark(inner, below)
                items.append(self._value(inner, events, below))
            return items
        mapping: dict[str, Json] = {}
        while type(inner := next(events)).__name__ != "MappingEndEvent":
            if type(inner).__name__ != "ScalarEvent":
                self.fail("a key is not a string", inner)
            self._value(inner, events, path)  # called only to refuse anchors and tags; the key itself is always a string
            key: str = self._key(inner)
            if key in mapping and self._anchors is None:
                self.fail(f"the key `{key[:100]}` appears twice", inner)
            self._mark(inner, (*path, key))
            mapping[key] = self._value(next(events), events, (*path, key))
        if self._anchors is not None and isinstance(mapping.get("<<"), (dict, list)):
            self._merge(mapping, path)
        return mapping

    def _merge(self, mapping: dict[str, Json], path: Path) -> None:
        """Replace a merge key by the values that it stands for (yaml.org, type/merge)."""
        merged, source = mapping.pop("<<"), (*path, "<<")
        several = [(one, (*source, number)) for number, one in enumerate(merged)] if isinstance(merged, list) else [(merged, source)]
        for values, place in several:
            for key, value in values.items() if isinstance(values, dict) else ():
                if key not in mapping:
                    mapping[key] = value
                    self._repeat((*path, key), (*self._target(place), key))

    def _target(self, path: Path) -> Path:
        mark = self._marks.get(path) if self._marks is not None else None
        return mark.target if mark is not None and mark.target is not None else path

    def _repeat(self, path: Path, source: Path) -> None:
        if self._marks is not None and source in self._marks:
            self._marks[path] = self._marks[source]._replace(target=self._target(source))

    def _key(self, event: Event) -> str:
        value = self._scalar(event) if self._scalar_of is not None else None
        if isinstance(value, bool):
            return str(value).lower()
        is_whole = isinstance(value, float) and value.is_integer()
        return str(int(value) if is_whole else value) if isinstance(value, float) else event.value  # type: ignore[attr-defined]

    def _scalar(self, event: Event) -> Json:
        text: str = event.value  # type: ignore[attr-defined]
        if not event.implicit[0]:  # type: ignore[attr-defined] # a quoted scalar, or one with a tag, is text
            return text
        if self._scalar_of is not None:
            return self._scalar_of(text)
        if text in _NULL:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if re.fullmatch(_NO_NUMBERS, text):
            if self._anchors is not None:
                return text
            self.fail(f"`{text}` is not allowed", event)
        for expression, base in _INTEGERS:
            if re.fullmatch(expression, text):
                if len(text.lstrip("-+")) > MAX_INTEGER_DIGITS:
                    if self._anchors is not None:
                        return text
                    self.fail(f"a number has {len(text)} digits, more than {MAX_INTEGER_DIGITS}", event)
                return int(text, base)
        if not re.fullmatch(_FLOAT, text):
            return text
        value = float(text)
        if math.isinf(value) and self._anchors is not None:
            return text
        if math.isinf(value):
            self.fail(f"the number `{text[:40]}` is too large", event)
        return value
