"""The functions of templates: Go's own, and those of Sprig and Helm that work with values. Functions of texts are in `wording`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from ...constraint import Constraint, TaggedVersion, read_version
from ...document import parse_yaml
from ...errors import Error
from . import wording
from .evaluate import Functions, Meter, Struct, is_true
from .goformat import Formatter
from .marked import Marked, changed, cut, spans_of
from .syntax import TemplateError

MAX_PARSED: Final = 1 << 20
"""Maximum size of a text that `fromYaml` and `fromJson` read, in bytes."""

_KINDS: Final = {bool: "bool", int: "int", float: "float64", str: "string", Marked: "string", dict: "map", list: "slice"}


def functions(meter: Meter, formatter: Formatter) -> Functions:
    """Return the functions of templates by name. None of them reads a file, the clock, the environment or a source of randomness."""
    values = _Values(meter, formatter)
    own: dict[str, Callable[..., Any]] = {
        name.removeprefix("go_"): getattr(values, name) for name in dir(_Values) if not name.startswith("_")
    }
    return {**wording.functions(formatter), **own, **{name: getattr(values, method) for name, method in _ALIASES.items()}}


def kind_of_value(value: Any) -> str:
    """Return the kind of a value as Go's `reflect` names it."""
    return "invalid" if value is None else _KINDS.get(type(value), "ptr")


def to_number(value: Any) -> float:
    """Return a value as a number; 0 if it is not a number (github.com/spf13/cast)."""
    if isinstance(value, (int, float)):
        return value
    try:
        text = str(value or 0).strip()
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return 0


def to_int(value: Any) -> int:
    number = to_number(value)
    return int(number) if abs(number) < 1 << 63 else 0


class _Values:
    """Each public method is a template function. A prefix `go_` of the method is not part of the function's name."""

    def __init__(self, meter: Meter, formatter: Formatter) -> None:
        self._meter = meter
        self._formatter = formatter

    # -- comparisons

    def eq(self, first: Any, *others: Any) -> bool:
        return any(self._same(first, one) for one in others)

    def ne(self, first: Any, second: Any) -> bool:
        return not self._same(first, second)

    def _same(self, first: Any, second: Any) -> bool:
        if isinstance(first, bool) != isinstance(second, bool):
            return False
        if isinstance(first, (list, dict)) or isinstance(second, (list, dict)):
            return self._formatter.json(first) == self._formatter.json(second)
        return bool(first == second)

    deepEqual = eq

    def lt(self, first: Any, second: Any) -> bool:
        return bool(first < second)

    def le(self, first: Any, second: Any) -> bool:
        return bool(first <= second)

    def gt(self, first: Any, second: Any) -> bool:
        return bool(first > second)

    def ge(self, first: Any, second: Any) -> bool:
        return bool(first >= second)

    def go_not(self, value: Any) -> bool:
        return not is_true(value)

    def all(self, *values: Any) -> bool:
        return all(map(is_true, values))

    def any(self, *values: Any) -> bool:
        return any(map(is_true, values))

    # -- choosing

    def default(self, fallback: Any, *value: Any) -> Any:
        return value[0] if value and is_true(value[0]) else fallback

    def empty(self, value: Any) -> bool:
        return not is_true(value)

    def coalesce(self, *values: Any) -> Any:
        return next(filter(is_true, values), None)

    def ternary(self, yes: Any, no: Any, choice: Any) -> Any:
        return yes if choice else no

    def required(self, _message: str, value: Any) -> Any:
        return value  # Helm fails if the value is missing. Go on, to find the images that do not depend on it.

    def fail(self, *_message: Any) -> str:
        return ""

    def lookup(self, *_what: Any) -> dict[str, Any]:
        return {}  # `helm template` without a cluster finds nothing either

    # -- kinds and conversions

    def kindOf(self, value: Any) -> str:
        return kind_of_value(value)

    def kindIs(self, kind: str, value: Any) -> bool:
        return kind == kind_of_value(value)

    def typeOf(self, value: Any) -> str:
        names = {"map": "map[string]interface {}", "slice": "[]interface {}", "invalid": "<nil>"}
        return names.get(kind_of_value(value), kind_of_value(value))

    def typeIs(self, kind: str, value: Any) -> bool:
        return kind == self.typeOf(value)

    typeIsLike = typeIs

    def int(self, value: Any) -> Any:
        return to_int(value)

    def float64(self, value: Any) -> float:
        return float(to_number(value))

    def toString(self, value: Any) -> str:
        return self._formatter.text(value)

    def toStrings(self, values: Any) -> list[str]:
        return [self._formatter.text(one) for one in values]

    def toYaml(self, value: Any) -> str:
        return self._formatter.yaml(value)

    def toJson(self, value: Any) -> str:
        return self._formatter.json(value)

    def toPrettyJson(self, value: Any) -> str:
        return self._formatter.json(value, "\n")

    def toToml(self, value: Any) -> str:
        return changed("", value)

    def fromYaml(self, text: str) -> Any:
        return self._parsed(text, {})

    def fromYamlArray(self, text: str) -> Any:
        return self._parsed(text, [])

    def _parsed(self, text: str, fallback: Any) -> Any:
        self._meter.spend(len(text) // 8)
        marks: dict[Any, Any] | None = {} if spans_of(text) else None
        try:
            value = parse_yaml(text.encode(), "it", limit=MAX_PARSED, is_helm=True, marks=marks)
        except Error as error:
            return {"Error": error.message} if isinstance(fallback, dict) else []
        if marks:
            value = _marked_again(value, (), marks, text)
        return fallback if value is None else value

    # -- lists

    def list(self, *values: Any) -> Any:
        return [*values]

    def first(self, values: Any) -> Any:
        return values[0] if values else None

    def last(self, values: Any) -> Any:
        return values[-1] if values else None

    def rest(self, values: Any) -> Any:
        return values[1:]

    def initial(self, values: Any) -> Any:
        return values[:-1]

    def append(self, values: Any, value: Any) -> Any:
        return [*(values or ()), value]

    def prepend(self, values: Any, value: Any) -> Any:
        return [value, *(values or ())]

    def concat(self, *lists: Any) -> Any:
        return [value for values in lists for value in values or ()]

    def reverse(self, values: Any) -> Any:
        return values[::-1]

    def uniq(self, values: Any) -> Any:
        return [*{self._key(one): one for one in reversed(values)}.values()][::-1] if values else []

    def compact(self, values: Any) -> Any:
        return [one for one in values or () if is_true(one)]

    def without(self, values: Any, *others: Any) -> Any:
        return [one for one in values or () if not self.eq(one, *others)]

    def has(self, value: Any, values: Any) -> bool:
        return values.members["Has"](value) if isinstance(values, Struct) else self.eq(value, *(values or ()))

    def sortAlpha(self, values: Any) -> Any:
        return sorted(map(self._formatter.text, values))

    def chunk(self, size: Any, values: Any) -> Any:
        return [values[at : at + size] for at in range(0, len(values), size)]

    def until(self, count: Any) -> Any:
        return self.untilStep(0, count, 1 if to_int(count) >= 0 else -1)

    def untilStep(self, start: Any, stop: Any, step: Any) -> Any:
        found = range(to_int(start), to_int(stop), to_int(step)) if to_int(step) else range(0)
        self._meter.spend(len(found))
        return [*found]

    def seq(self, *bounds: Any) -> str:
        numbers = [to_int(one) for one in bounds]
        start, stop, step = (1, numbers[0], 1) if len(numbers) == 1 else (numbers[0], numbers[-1], numbers[1] if len(numbers) == 3 else 1)
        return " ".join(map(str, self.untilStep(start, stop + (1 if step > 0 else -1), step)))

    def len(self, value: Any) -> Any:
        return len(value.encode() if isinstance(value, str) else value)

    def index(self, value: Any, *keys: Any) -> Any:
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None if value is None else value[to_int(key)]
        return value

    def go_slice(self, value: Any, start: Any = 0, end: Any = None) -> Any:
        return cut(value, to_int(start), end) if isinstance(value, str) else value[to_int(start) : end]

    def tuple(self, *values: Any) -> Any:
        return [*values]

    # -- dictionaries

    def dict(self, *pairs: Any) -> Any:
        return {self._formatter.text(key): value for key, value in zip(pairs[::2], (*pairs[1::2], ""), strict=False)}

    def get(self, values: Any, key: str) -> Any:
        return values.get(key, "")

    def set(self, values: Any, key: str, value: Any) -> Any:
        values[str(key)] = value
        return values

    def unset(self, values: Any, key: str) -> Any:
        values.pop(key, None)
        return values

    def hasKey(self, values: Any, key: str) -> bool:
        return values is not None and key in values

    def keys(self, *several: Any) -> Any:
        return [key for values in several for key in sorted(values)]

    def values(self, values: Any) -> Any:
        return [values[key] for key in sorted(values)]

    def pluck(self, key: str, *several: Any) -> Any:
        return [values[key] for values in several if key in values]

    def pick(self, values: Any, *names: Any) -> Any:
        return {key: value for key, value in values.items() if key in _flat(names)}

    def omit(self, values: Any, *names: Any) -> Any:
        return {key: value for key, value in values.items() if key not in _flat(names)}

    def dig(self, *arguments: Any) -> Any:
        *path, fallback, value = arguments
        for key in path:
            if not isinstance(value, dict) or key not in value:
                return fallback
            value = value[key]
        return value

    def deepCopy(self, value: Any) -> Any:
        self._meter.spend()
        if isinstance(value, dict):
            return {key: self.deepCopy(inner) for key, inner in value.items()}
        return [self.deepCopy(inner) for inner in value] if isinstance(value, list) else value

    def merge(self, target: Any, *others: Any) -> Any:
        """Add the keys that the target lacks. As in Sprig, an empty value counts as missing."""
        for other in others:
            self._merge(target, other or {}, overwrites=False)
        return target

    def mergeOverwrite(self, target: Any, *others: Any) -> Any:
        for other in others:
            self._merge(target, other or {}, overwrites=True)
        return target

    def _merge(self, target: Any, other: Any, *, overwrites: bool) -> None:
        for key, value in other.items():
            self._meter.spend()
            before = target.get(key)
            if isinstance(before, dict) and isinstance(value, dict):
                self._merge(before, value, overwrites=overwrites)
            elif (is_true(value) or key not in target) if overwrites else not is_true(before):
                target[key] = self.deepCopy(value)

    def _key(self, value: Any) -> str:
        return self._formatter.json(value)

    # -- numbers

    def add(self, *values: Any) -> Any:
        return sum(map(to_int, values))

    def add1(self, value: Any) -> Any:
        return to_int(value) + 1

    def sub(self, first: Any, second: Any) -> Any:
        return to_int(first) - to_int(second)

    def mul(self, *values: Any) -> Any:
        result = 1
        for value in values:
            result = to_int(result * to_int(value))
        return result

    def div(self, first: Any, second: Any) -> Any:
        return int(to_int(first) / to_int(second))

    def mod(self, first: Any, second: Any) -> Any:
        return to_int(first) - to_int(second) * int(to_int(first) / to_int(second))

    def addf(self, *values: Any) -> float:
        return float(sum(map(to_number, values)))

    def subf(self, first: Any, *values: Any) -> float:
        return float(to_number(first) - sum(map(to_number, values)))

    def mulf(self, *values: Any) -> float:
        result = 1.0
        for value in values:
            result *= to_number(value)
        return result

    def divf(self, first: Any, *values: Any) -> float:
        for value in values:
            first = to_number(first) / to_number(value)
        return float(first)

    def max(self, *values: Any) -> Any:
        return max(map(to_int, values))

    def min(self, *values: Any) -> Any:
        return min(map(to_int, values))

    def floor(self, value: Any) -> float:
        return float(to_number(value) // 1)

    def ceil(self, value: Any) -> float:
        return float(-(-to_number(value) // 1))

    def round(self, value: Any, digits: Any = 0, *_on: Any) -> float:
        return float(round(to_number(value), min(to_int(digits), 15)))

    def maxf(self, *values: Any) -> float:
        return float(max(map(to_number, values)))

    def minf(self, *values: Any) -> float:
        return float(min(map(to_number, values)))

    def add1f(self, value: Any) -> float:
        return float(to_number(value) + 1)

    def call(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    # -- versions

    def semver(self, text: str) -> Struct:
        version = _version(text)
        major, minor, patch, _ = version.key
        return Struct(
            {
                "": text,
                "Major": major,
                "Minor": minor,
                "Patch": patch,
                "Prerelease": version.prerelease or "",
                "Metadata": version.build or "",
                "Original": text,
                "Compare": lambda other: (version.key > _version(other).key) - (version.key < _version(other).key),
            }
        )

    def semverCompare(self, constraint: str, version: str) -> bool:
        return Constraint.parse(str(constraint)).allows(_version(version).tag)


def _version(value: Any) -> TaggedVersion:
    """Return a version; missing parts are zero (Masterminds/semver, `NewVersion`)."""
    text = str(value.members[""] if isinstance(value, Struct) else value)
    match = re.fullmatch(r"(v?\d+)(\.\d+)?(\.\d+)?([-+].*)?", text)
    found = read_version(f"{match[1]}{match[2] or '.0'}{match[3] or '.0'}{match[4] or ''}") if match else None
    if found is None:
        raise TemplateError(f"`{text[:100]}` is not a version")
    return found


def _flat(names: Any) -> list[Any]:
    return [name for one in names for name in (one if isinstance(one, list) else [one])]


def _marked_again(value: Any, path: tuple[Any, ...], marks: dict[Any, Any], text: str) -> Any:
    """Return a parsed YAML document whose texts have the spans of the text that the document was parsed from."""
    if isinstance(value, dict):
        return {key: _marked_again(inner, (*path, key), marks, text) for key, inner in value.items()}
    if isinstance(value, list):
        return [_marked_again(inner, (*path, number), marks, text) for number, inner in enumerate(value)]
    mark = marks.get(path)
    if not isinstance(value, str) or mark is None or mark.end <= mark.start:
        return value
    raw = cut(text, mark.start, mark.end)
    if raw == value:
        return raw
    return cut(raw, 1, len(raw) - 1) if raw[1:-1] == value else changed(value, raw)


_ALIASES: Final = {
    "int64": "int",
    "toDecimal": "int",
    "atoi": "int",
    "biggest": "max",
    "mustMerge": "merge",
    "mustMergeOverwrite": "mergeOverwrite",
    "mustToYaml": "toYaml",
    "mustToToml": "toToml",
    "mustToJson": "toJson",
    "mustToPrettyJson": "toPrettyJson",
    "toRawJson": "toJson",
    "mustToRawJson": "toJson",
    "toYamlPretty": "toYaml",
    "fromJson": "fromYaml",
    "mustFromJson": "fromYaml",
    "fromJsonArray": "fromYamlArray",
    "push": "append",
    "mustAppend": "append",
    "mustPush": "append",
    "mustPrepend": "prepend",
    "mustFirst": "first",
    "mustLast": "last",
    "mustRest": "rest",
    "mustInitial": "initial",
    "mustReverse": "reverse",
    "mustUniq": "uniq",
    "mustCompact": "compact",
    "mustWithout": "without",
    "mustHas": "has",
    "mustSlice": "go_slice",
    "randInt": "min",
    "shuffle": "toString",
    "mustDeepCopy": "deepCopy",
    "mustChunk": "chunk",
}
