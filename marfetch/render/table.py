"""Lay out results for a person: aligned columns under a header, or labelled blocks if a row is wider than the window.

A cell has two texts: the whole one for pipes, and a short one for a terminal. Color only repeats what a word already says.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, NamedTuple, TypeAlias

from ..text import counted, human_size

_GAP: Final = "  "
_DIGITS: Final = 12
"""Shown digits of a digest, as Docker and Git shorten them."""
_LEAST: Final = 24
"""Columns that a sentence needs to be readable."""
_LEAST_VALUE: Final = 16
"""Columns that a value needs beside its label."""


class Cell(NamedTuple):
    """A value in a table.

    Attributes:
        text: the whole text, for pipes.
        shown: the short text, for a terminal; None: the same as `text`.
        style: words of `_CODES`, such as `bold green`; empty for none.
        joint: suffix of each wrapped line on a terminal, except the last.
    """

    text: str
    shown: str | None = None
    style: str = ""
    joint: str = ""

    @property
    def short(self) -> str:
        """The text for a terminal."""
        return self.text if self.shown is None else self.shown


Row: TypeAlias = Sequence[str | Cell]
Segments: TypeAlias = list[tuple[str, str]]
"""Pieces of one line: text and style."""


# -- cells


GOOD: Final = "green"
BAD: Final = "red"
ODD: Final = "yellow"
_STYLES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ok", "verified", "fetched", "added", "upgraded", "pushed", "writes", "written", "bumped"), GOOD),
    **dict.fromkeys(("failed", "fault", "missing", "wrong", "removed"), BAD),
    **dict.fromkeys(("warning", "extra", "changed", "replaced", "drifted", "skipped", "not-done", "referrers"), ODD),
    **dict.fromkeys(("would-fetch", "would-push", "would-remove", "would-replace", "would write", "held-back", "unreadable"), ODD),
    **dict.fromkeys(("kept", "unchanged", "keeps", "current", "range-allows"), ""),
}
"""Status word → style. Words that report no change have no style."""


def status(word: str) -> Cell:
    """Return the cell of a status, in the color of its meaning."""
    return Cell(word, style=_STYLES.get(word, ""))


def digest(value: object) -> Cell:
    """Return the cell of a text with digests, such as a pinned reference. A terminal shows only the first digits of each digest."""
    text = str(value)
    return Cell(text, re.sub(rf"\b(sha256:|sha512:|(?<![:/]))([0-9a-f]{{{_DIGITS}}})([0-9a-f]{{52}}|[0-9a-f]{{116}})\b", r"\1\2", text))


def reference(value: object) -> Cell:
    """Return the cell of a reference. A terminal shows its digest shortened."""
    return digest(value)


def version(reference: str) -> Cell:
    """Return the cell of a reference. A terminal shows only its tag, or its digest if it has no tag."""
    name, _, pinned = reference.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return Cell(reference, tag or digest(pinned).short or "-")


def command(line: str) -> Cell:
    """Return the cell of a shell command. If it wraps, its lines end with a backslash, so that it can still be pasted."""
    return Cell(line, joint=" \\")


def size(count: int) -> Cell:
    """Return the cell of a number of bytes, with a unit on a terminal."""
    return Cell(str(count), human_size(count))


def age(created: str | None, now: datetime | None = None) -> str:
    """Return the age of an RFC 3339 time in words, or `-` if the time is missing or invalid."""
    try:
        time = datetime.fromisoformat(created or "")
    except ValueError:
        return "-"
    return span(((now or datetime.now(UTC)) - (time if time.tzinfo else time.replace(tzinfo=UTC))).total_seconds())


def since(created: str | None) -> Cell:
    """Return the cell of a time: unchanged for pipes, and as an age such as `2 hours` on a terminal."""
    return Cell(created or "-", age(created))


def ago(created: str) -> Cell:
    """Return the cell of a time: unchanged for pipes, and as an age such as `2 hours ago` on a terminal."""
    passed = age(created)
    return Cell(created, created if passed == "-" else f"{passed} ago")


def span(seconds: float) -> str:
    """Return a duration in its largest unit."""
    for length, unit in ((86_400 * 365, "year"), (86_400, "day"), (3600, "hour"), (60, "minute")):
        count = int(max(0.0, seconds) // length)
        if count:
            return counted(count, unit)
    return "moments"


# -- layout


def piped(row: Row) -> Segments:
    """Return the line of a row for a pipe: its cells, separated by tabs."""
    line: Segments = []
    for one in map(as_cell, row):
        line += [("\t", "")] if line else []
        line.append((one.text, one.style))
    return line


def laid_out(head: Sequence[str], rows: Sequence[Row], width: int, *, wraps: bool = False) -> Iterator[Segments]:
    """Yield the lines of a table for a terminal.

    Args:
        head: names of the columns; a row may have fewer cells. A row that begins with an empty cell belongs to the one above.
        width: columns of the window.
        wraps: whether the last column wraps where a row is too wide; otherwise each row becomes a block.
    """
    cells = [[*map(as_cell, row), *(Cell("") for _ in head[len(row) :])] for row in rows]
    title = [Cell(name.upper(), style="bold") for name in head]
    widths = _widths([title, *cells])
    rest = width - _total(widths[:-1])
    if widths[-1] <= rest or (wraps and rest >= _LEAST):
        yield _aligned(title, widths)
        for row in cells:
            yield from _hanging(row, widths, rest)
        return
    blocks: list[list[Row]] = []
    for row in cells:
        if row[0].short or not blocks:
            blocks.append([(name, value) for name, value in zip(title, row, strict=True) if value.short])
        else:
            blocks[-1].append(row[1:])
    for number, block in enumerate(blocks):
        if number:
            yield []
        yield from facts(block, width)


def facts(rows: Sequence[Row], width: int) -> Iterator[Segments]:
    """Yield lines that begin with a label.

    The values line up behind the longest label, and their columns line up in rows with the same label. A sentence at the end wraps. In
    a window that is too narrow for the columns, each value has its own line.
    """
    cells = [[as_cell(one) for one in row] for row in rows]
    first = max((_width(row[0].short) for row in cells), default=0)
    indent = first + len(_GAP) if width - first - len(_GAP) >= _LEAST_VALUE else len(_GAP)
    for _, group in groupby(cells, key=lambda row: (row[0], len(row))):
        found = list(group)
        widths = _widths([row[1:] for row in found])
        rest = width - indent - _total(widths[:-1])
        stacks = len(widths) > 1 and widths[-1] > rest and not (rest >= _LEAST and all(" " in row[-1].short for row in found))
        for label, *values in found:
            lines = [line for one in values for line in _hanging([one], [0], width - indent)] if stacks else _hanging(values, widths, rest)
            name = (label.short, label.style or "bold")
            if indent < first + len(_GAP):
                yield [name]
                name = ("", "")
            for line in lines:
                if plain(line):
                    yield [name, (" " * (indent - _width(name[0])), ""), *line]
                elif name[0]:
                    yield [name]
                name = ("", "")


def in_columns(rows: Sequence[Row]) -> list[Cell]:
    """Join the cells of each row. On a terminal, the columns are aligned; for pipes, empty cells are left out."""
    cells = [[as_cell(one) for one in row] for row in rows]
    widths = _widths(cells) if cells else []
    return [Cell(_GAP.join(one.text for one in row if one.text), plain(_aligned(row, widths))) for row in cells]


def hanging(before: str, below: str, cell: Cell, width: int) -> Iterator[Segments]:
    """Yield the lines of a text that wraps.

    Args:
        before: prefix of the first line, such as an indentation or the branch line of a tree.
        below: prefix of the further lines.
    """
    for number, line in enumerate(_wrapped(cell.short, width - max(_width(before), _width(below)))):
        yield [(below if number else before, ""), (line, cell.style)]


def _widths(rows: Sequence[Sequence[Cell]]) -> list[int]:
    return [max(_width(row[at].short) for row in rows) for at in range(len(rows[0]))]


def _total(widths: Sequence[int]) -> int:
    """Return the width of columns with a gap behind each."""
    return sum(widths) + len(_GAP) * len(widths)


def _hanging(row: Sequence[Cell], widths: Sequence[int], rest: int) -> Iterator[Segments]:
    """Yield the lines of a row whose last cell wraps."""
    *others, last = row
    lines = _wrapped(last.short, rest)
    if len(lines) > 1 and last.joint:
        *most, end = _wrapped(last.short, rest - len(last.joint))
        lines = [*(line + last.joint for line in most), end]
    for number, line in enumerate(lines):
        before = [Cell("") for _ in others] if number else others
        yield _aligned([*before, last._replace(shown=line)], widths)


def _aligned(row: Sequence[Cell], widths: Sequence[int]) -> Segments:
    line: Segments = []
    for at, (one, width) in enumerate(zip(row, widths, strict=True)):
        line.append((one.short, one.style))
        if any(other.short for other in row[at + 1 :]):
            line.append((" " * (width - _width(one.short)) + _GAP, ""))
    return line


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text at gaps of several spaces, otherwise between words. A word that is too long, such as a path, stays whole."""
    lines: list[str] = []
    line = ""
    for gap, part in re.findall(r"( *)([^ ]+(?: [^ ]+)*)", text):
        if _width(line + gap + part) <= width:
            line += gap + part
        elif line and _width(part) <= width:
            lines, line = [*lines, line], part
        else:
            for number, word in enumerate(part.split(" ")):
                space = " " if number else gap
                if line and _width(line + space + word) > width:
                    lines, line, space = [*lines, line], "", ""
                line += space + word
    return [*lines, line]


def as_cell(value: str | Cell) -> Cell:
    """Return the cell of a value."""
    return value if isinstance(value, Cell) else Cell(value)


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal (Unicode, East Asian Width)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(one) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(one) in ("W", "F") else 1 for one in text
    )


# -- color


def has_color(*, is_terminal: bool) -> bool:
    """Return whether output has escape codes: on a terminal, or with `FORCE_COLOR`; never with `NO_COLOR` or `TERM=dumb`."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (is_terminal and can_draw())


def can_draw() -> bool:
    """Return whether escape codes, such as those of progress bars, may be sent to a terminal. Windows terminals do not set `TERM`."""
    return not os.environ.get("NO_COLOR") and (os.name == "nt" or os.environ.get("TERM", "") not in ("", "dumb", "unknown"))


_CODES: Final = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
"""Style → parameter of Select Graphic Rendition (ECMA-48). Not taken from rich, because loading it takes longer than most commands."""


def painted(line: Segments) -> str:
    """Return a line with the escape codes of its styles."""
    return "".join(
        f"\x1b[{';'.join(_CODES[word] for word in style.split())}m{text}\x1b[0m" if style and text else text for text, style in line
    )


def plain(line: Segments) -> str:
    """Return a line without styles."""
    return "".join(text for text, _ in line)
