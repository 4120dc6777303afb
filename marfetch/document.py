"""Strict JSON: text from outside becomes plain values, or one clear error.

JSON from a registry is I-JSON (RFC 7493): UTF-8, no duplicate names, no NaN. The image layout asks for it, and two readers that
disagree about a duplicate name would verify one thing and use another.
"""

from __future__ import annotations

import json
from typing import NoReturn, TypeAlias

from .errors import IntegrityError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

MAX_DEPTH = 64
"""Deepest nesting of arrays and objects that is taken."""

MAX_INTEGER_DIGITS = 19
"""Longest whole number that is taken: sizes are 64-bit numbers (image-spec, descriptor, `size`)."""


def parse_json(data: bytes, what: str) -> Json:
    """Read strict JSON.

    Args:
        data: UTF-8 text; the caller has bounded its length.
        what: what the text is, for the message, such as "the manifest of `aks/foo:1.2.3`".

    Raises:
        IntegrityError: `malformed`: not UTF-8, not JSON, duplicate names, NaN, a number of over 19 digits, nested too deeply.
    """

    def fail(reason: str) -> NoReturn:
        raise IntegrityError(f"{what} is malformed: {reason}", code="malformed", what=what)

    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            fail(f"the name `{twice[:100]}` stands twice in one object")
        return result

    def integer(digits: str) -> int:
        if len(digits.lstrip("-")) > MAX_INTEGER_DIGITS:
            fail(f"a number of {len(digits)} digits")
        return int(digits)

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(f"not UTF-8 at byte {error.start}")
    if text.startswith("\ufeff"):
        fail("a byte order mark stands before the JSON")
    try:
        value: Json = json.loads(text, object_pairs_hook=unique, parse_int=integer, parse_constant=lambda name: fail(f"the value `{name}`"))
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
