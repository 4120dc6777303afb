"""Move version ranges to a newer version. The operators, the number of parts and everything between the versions stay as written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ..constraint import Constraint, TaggedVersion
from ..errors import Error

_TERM: Final = re.compile(
    r"""(?P<operator>[=!<>~^]*+)(?P<gap>[ \t]*+)(?P<v>v?)(?P<numbers>[0-9xX*]++(?:\.[0-9xX*]++){0,2})
    (?P<rest>(?:-[0-9A-Za-z][0-9A-Za-z.-]*+)?+(?:\+[0-9A-Za-z.-]++)?+)""",
    re.VERBOSE,
)
_HYPHEN: Final = re.compile(r"(.*?[ \t]-[ \t]++)(.*)", re.DOTALL)
_WILD: Final = ("x", "X", "*")


def moved(text: str, newest: TaggedVersion) -> str | None:
    """Return a range that allows the version and has the same operators; None if there is none.

    `^1.7` becomes `^2.3`, `1.x` becomes `2.x`, and in `>=1.2 <2` only the upper bound moves.
    """
    hyphen = _HYPHEN.fullmatch(text)
    if hyphen is not None:
        return _checked(hyphen[1] + _TERM.sub(lambda match: _at(match, newest), hyphen[2]), newest)

    def change(match: re.Match[str]) -> str:
        operator = match["operator"]
        if operator == "<":
            return _above(match, newest)
        return match[0] if operator in (">", ">=", "=>", "!=") else _at(match, newest)

    return _checked(_TERM.sub(change, text), newest)


def raised(text: str, newest: TaggedVersion) -> str:
    """Move the lower bounds of a range (`^`, `~`, `>=`) that allows the version up to it. Return any other range unchanged."""
    if _HYPHEN.fullmatch(text) is not None:
        return text

    def change(match: re.Match[str]) -> str:
        return _at(match, newest) if match["operator"] in ("^", "~", "~>", ">=", "=>") else match[0]

    return _checked(_TERM.sub(change, text), newest) or text


def lowest(text: str) -> tuple[int, ...]:
    """Return the numbers of the first version in a range, as its lower bound; wildcards count as 0."""
    match = _TERM.search(text)
    numbers = [0 if one in _WILD else int(one) for one in match["numbers"].split(".")] if match is not None else []
    return (*numbers, 0, 0, 0)[:3]


def _checked(text: str, newest: TaggedVersion) -> str | None:
    """Return the range if it allows the version. Do not change a range with alternatives (`||`): it is unclear which one to move."""
    if "||" in text:
        return None
    try:
        return text if Constraint.parse(text).allows(newest.tag) else None
    except Error:
        return None


def _written(match: re.Match[str], number: Callable[[int], int], prerelease: str | None) -> str:
    numbers = [one if one in _WILD else str(number(at)) for at, one in enumerate(match["numbers"].split("."))]
    rest = match["rest"] if match["rest"] == "-0" else f"-{prerelease}" if prerelease is not None and len(numbers) == 3 else ""
    return f"{match['operator']}{match['gap']}{match['v']}{'.'.join(numbers)}{rest}"


def _at(match: re.Match[str], newest: TaggedVersion) -> str:
    return _written(match, lambda at: newest.key[:3][at], newest.prerelease)


def _above(match: re.Match[str], newest: TaggedVersion) -> str:
    """Return the next bound above the version: `<2.0.0` becomes `<3.0.0`, and `<1.5` becomes `<1.8`."""
    if newest.key[:3] < lowest(match[0]):
        return match[0]
    numbers = [one for one in match["numbers"].split(".") if one not in _WILD]
    last = max((at for at, one in enumerate(numbers) if one.strip("0")), default=0)
    return _written(match, lambda at: newest.key[:3][at] + 1 if at == last else newest.key[:3][at] if at < last else 0, None)
