"""Regular expressions of templates, in time that is linear in the length of the text (RE2, as Go's `regexp`).

Python's engine backtracks, so a chart could make it run forever. This one follows all paths at once (Thompson 1968; Pike 1987). It finds
the same match as Go: the leftmost one, and there the one that a backtracking engine would find first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from .syntax import TemplateError

MAX_PATTERN: Final = 500
"""Maximum length of a regular expression in characters."""
MAX_PROGRAM: Final = 2_000
"""Maximum number of instructions of a regular expression; counted repetitions multiply them."""
MAX_WORK: Final = 4_000_000
"""Maximum product of the length of the text and the number of instructions."""
_MAX_COUNT: Final = 1_000
"""Maximum count of a repetition, as in RE2."""

Match = list[tuple[int, int]]
"""Start and end of the match, then of each group; `(0, 0)` for a group that did not take part."""


class _Step(NamedTuple):
    """An instruction.

    Attributes:
        kind: `char`, `split`, `jump`, `save`, `assert` or `match`.
        target: for `jump`, the next instruction; for `split`, the preferred one; for `save`, the number of the slot.
        other: for `split`, the second instruction.
        test: for `char`, the characters that match; for `assert`, the position that matches.
    """

    kind: str
    target: int = 0
    other: int = 0
    test: re.Pattern[str] | str | None = None


def matches(pattern: str, text: str) -> Iterator[Match]:
    """Yield the matches in a text that do not overlap.

    Raises:
        TemplateError: the expression is invalid or not supported, or would take too long.
    """
    program, groups = _program(str(pattern))
    plain = str(text)
    if (len(plain) + 1) * len(program) > MAX_WORK:
        raise TemplateError(f"the regular expression `{pattern[:100]}` is used on too long a text")
    at, last = 0, -1
    while at <= len(plain):
        found = _first(program, groups, plain, at)
        if found is None:
            return
        start, end = found[0]
        if end > start or end != last:
            yield found
        last = end
        at = end if end > start else end + 1


def _first(program: list[_Step], groups: int, text: str, at: int) -> Match | None:
    """Return the leftmost match from a position on."""
    found: tuple[int, ...] | None = None
    current: list[tuple[int, tuple[int, ...]]] = []
    for place in range(at, len(text) + 1):
        if found is None:
            seen = {number for number, _ in current}
            _follow(program, 0, (-1,) * (2 * groups + 2), place, text, current, seen)
        elif not current:
            break
        following: list[tuple[int, tuple[int, ...]]] = []
        seen = set()
        for number, slots in current:
            step = program[number]
            if step.kind == "match":
                found = slots
                break
            test = step.test
            if place < len(text) and (test == text[place] if isinstance(test, str) else test is not None and test.match(text[place])):
                _follow(program, number + 1, slots, place + 1, text, following, seen)
        current = following
    if found is None:
        return None
    return [(start, end) if start >= 0 and end >= 0 else (0, 0) for start, end in zip(found[::2], found[1::2], strict=True)]


def _follow(
    program: list[_Step],
    number: int,
    slots: tuple[int, ...],
    place: int,
    text: str,
    threads: list[tuple[int, tuple[int, ...]]],
    seen: set[int],
) -> None:
    """Add the instructions that are reachable from one and take a character or end the match. Preferred ones come first."""
    waiting = [(number, slots)]
    while waiting:
        number, slots = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        step = program[number]
        match step.kind:
            case "jump":
                waiting.append((step.target, slots))
            case "split":
                waiting += ((step.other, slots), (step.target, slots))
            case "save":
                waiting.append((number + 1, (*slots[: step.target], place, *slots[step.target + 1 :])))
            case "assert":
                if _holds(str(step.test), text, place):
                    waiting.append((number + 1, slots))
            case _:
                threads.append((number, slots))


def _holds(what: str, text: str, place: int) -> bool:
    before, after = text[place - 1 : place], text[place : place + 1]
    if what in ("b", "B"):
        return (_is_word(before) != _is_word(after)) is (what == "b")
    if what in ("^", "A"):
        return place == 0 or (what == "^" and before == "\n")
    return place == len(text) or (what == "$" and after == "\n")


def _is_word(text: str) -> bool:
    return text.isascii() and (text.isalnum() or text == "_")


# -- parsing

_ATOM: Final = re.compile(r"\\[pP]\{?\w+\}?|\\x\{[0-9a-fA-F]+\}|\\x[0-9a-fA-F]{2}|\\.|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]|.", re.DOTALL)
_COUNT: Final = re.compile(r"([*+?]|\{(\d+)(?:(,)(\d*))?\})(\??)")
_GROUP: Final = re.compile(r"\(\?([imsU]*)(?:-[imsU]+)?(:|\))|\(\?P?<\w+>|\((?!\?)")
_CLASS_SIGN: Final = re.compile(r"(?<!^)(?<!\\)\[|([-&~|])(?=\1)")
"""Text with a special meaning in Python's character classes but not in Go's: a second `[`, and doubled signs."""
_CLASSES: Final = {"alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "digit": "0-9", "lower": "a-z", "upper": "A-Z", "space": r"\s", "word": r"\w"}


@lru_cache(maxsize=256)
def _program(pattern: str) -> tuple[list[_Step], int]:
    if len(pattern) > MAX_PATTERN:
        raise TemplateError(f"a regular expression has more than {MAX_PATTERN} characters")
    compiler = _Compiler(pattern)
    try:
        body = compiler.alternatives("")
    except (re.error, OverflowError, RecursionError) as error:
        raise TemplateError(f"the regular expression `{pattern[:100]}` is not supported: {error}") from None
    if compiler.rest():
        raise TemplateError(f"the regular expression `{pattern[:100]}` has too many `)`")
    return [_Step("save", 0), *_moved(body, 1), _Step("save", 1), _Step("match")], compiler.groups


def _moved(steps: list[_Step], by: int) -> list[_Step]:
    if len(steps) > MAX_PROGRAM:
        raise TemplateError("a regular expression is too large")
    moves = {"jump": (by, 0), "split": (by, by)}
    return [
        step._replace(target=step.target + moves[step.kind][0], other=step.other + moves[step.kind][1]) if step.kind in moves else step
        for step in steps
    ]


class _Compiler:
    """Compiles one expression; the targets of each part are relative to its start."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self.groups = 0

    def rest(self) -> str:
        return self._pattern[self._at :]

    def alternatives(self, flags: str) -> list[_Step]:
        found, flags = self._sequence(flags)
        if self.rest().startswith("|"):
            self._at += 1
            other = self.alternatives(flags)
            found = [
                _Step("split", 1, len(found) + 2),
                *_moved(found, 1),
                _Step("jump", len(found) + 2 + len(other)),
                *_moved(other, len(found) + 2),
            ]
        return found

    def _sequence(self, flags: str) -> tuple[list[_Step], str]:
        found: list[_Step] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            group = _GROUP.match(self._pattern, self._at)
            if group is not None and group[2] == ")":
                flags += group[1]
                self._at = group.end()
                continue
            atom = self._group(group, flags) if group is not None else self._atom(flags)
            found += _moved(self._repeated(atom), len(found))
        return found, flags

    def _group(self, match: re.Match[str], flags: str) -> list[_Step]:
        self._at = match.end()
        number = 0
        if match[2] is None:
            self.groups += 1
            number = self.groups
        body = self.alternatives(flags + (match[1] or ""))
        if not self.rest().startswith(")"):
            raise TemplateError(f"the regular expression `{self._pattern[:100]}` has no `)`")
        self._at += 1
        return [_Step("save", 2 * number), *_moved(body, 1), _Step("save", 2 * number + 1)] if number else body

    def _atom(self, flags: str) -> list[_Step]:
        match = _ATOM.match(self._pattern, self._at)
        assert match is not None, "it takes any character"
        text = match[0]
        self._at = match.end()
        if text in ("^", "$"):
            return [_Step("assert", test=text if "m" in flags else "A" if text == "^" else "z")]
        if text in (r"\b", r"\B", r"\A", r"\z"):
            return [_Step("assert", test=text[1])]
        if text in "*+?" or text.startswith((r"\p", r"\P", r"\C", r"\Q")):
            raise TemplateError(f"the regular expression `{self._pattern[:100]}` is not supported")
        if len(text) == 1 and text != "." and "i" not in flags:
            return [_Step("char", test=text)]
        text = re.sub(
            r"\[:(\w+):\]",
            lambda name: _CLASSES.get(name[1], ""),
            re.sub(r"\\x\{([0-9a-fA-F]+)\}", lambda code: re.escape(chr(int(code[1], 16))), text),
        )
        options = re.ASCII | (re.IGNORECASE if "i" in flags else 0) | (re.DOTALL if "s" in flags else 0)
        return [_Step("char", test=re.compile(_CLASS_SIGN.sub(r"\\\g<0>", text), options))]

    def _repeated(self, atom: list[_Step]) -> list[_Step]:
        while (match := _COUNT.match(self._pattern, self._at)) is not None:
            self._at = match.end()
            sign, least, comma, most, lazy = match.groups()
            if sign[0] in "*+?":
                low, high = (1 if sign == "+" else 0), (1 if sign == "?" else None)
            else:
                low, high = int(least), (int(most) if most else None) if comma else int(least)
            if max(low, high or 0) > _MAX_COUNT or (low + (high or 0) + 1) * (len(atom) + 2) > MAX_PROGRAM:
                raise TemplateError(f"the regular expression `{self._pattern[:100]}` repeats too often")
            atom = _times(atom, low, high, is_lazy=bool(lazy))
        return atom


def _times(atom: list[_Step], low: int, high: int | None, *, is_lazy: bool) -> list[_Step]:
    found: list[_Step] = []
    for _ in range(low):
        found += _moved(atom, len(found))

    def split(inside: int, after: int) -> _Step:
        return _Step("split", after, inside) if is_lazy else _Step("split", inside, after)

    if high is None:
        start = len(found)
        return [*found, split(start + 1, start + len(atom) + 2), *_moved(atom, start + 1), _Step("jump", start)]
    end = len(found) + (high - low) * (len(atom) + 1)
    for _ in range(high - low):
        found.append(split(len(found) + 1, end))
        found += _moved(atom, len(found))
    return found


def glob_expression(pattern: str) -> str:
    """Return the regular expression of a glob over paths (github.com/gobwas/glob): only `**` matches a slash too."""
    parts = re.findall(r"\*\*|\[[^\]]+\]|\\\\.|.", pattern, re.DOTALL)
    known = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|" if "{" in pattern else ","}
    texts = (
        (f"[^{one[2:]}" if one[1] == "!" else one) if one[0] == "[" and len(one) > 1 else known.get(one, re.escape(one[-1]))
        for one in parts
    )
    return f"^(?:{''.join(texts)})$"
