"""Lay out results for a person: aligned columns under a header, or labelled blocks if a row is wider than the window.

A cell has two texts: the whole one for pipes, and a short one for a terminal. Color only repeats what a word already says.
"""

from __future__ import annotations

import os
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from ..text import counted, human_size

_GAP: Final = "  "
_DIGITS: Final = 12
"""Shown digits of a digest, as Docker and Git shorten them."""
_LEAST: Final = 24
"""Columns that a sentence needs to be readable."""


class Cell(NamedTuple):
    """A value in a table.

    Attributes:
        text: for pipes.
        shown: for a terminal; None for the same text.
        style: a style of rich, such as `green`; empty for none.
    """

    text: str
    shown: str | None = None
    style: str = ""

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
    **dict.fromkeys(("ok", "verified", "written", "fetched", "created", "loaded", "added", "unchanged", "present", "passed"), GOOD),
    **dict.fromkeys(("failed", "fault", "missing", "wrong", "error", "removed", "not-fetched"), BAD),
    **dict.fromkeys(("warning", "replaced", "changed", "moved", "outdated", "skipped", "stale", "logged"), ODD),
}


def status(word: str) -> Cell:
    """Return the cell of a status, in the color of its meaning."""
    return Cell(word, style=_STYLES.get(word, ""))


def digest(value: object) -> Cell:
    """Return the cell of a digest, shortened on a terminal."""
    text = str(value)
    algorithm, colon, encoded = text.partition(":")
    return Cell(text, f"{algorithm}:{encoded[:_DIGITS]}" if colon else text)


def reference(value: object) -> Cell:
    """Return the cell of a reference; on a terminal, its digest is shortened."""
    text = str(value)
    name, at, rest = text.partition("@")
    return Cell(text, f"{name}@{digest(rest).short}" if at else text)


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
    """Return the cell of a time: as it is for pipes, as an age on a terminal."""
    return Cell(created or "-", age(created))


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
    for one in map(_cell, row):
        line += [("\t", "")] if line else []
        line.append((one.text, one.style))
    return line


def laid_out(head: Sequence[str], rows: Sequence[Row], width: int, *, wraps: bool = False) -> Iterator[Segments]:
    """Yield the lines of a table for a terminal.

    Args:
        head: names of the columns; a row may have fewer.
        width: columns of the window.
        wraps: whether the last column wraps where a row is too wide; otherwise each row becomes a block.
    """
    cells = [[*map(_cell, row), *(Cell("") for _ in head[len(row) :])] for row in rows]
    title = [name.upper() for name in head]
    widths = [max(_width(title[at]), *(_width(row[at].short) for row in cells)) for at in range(len(title))]
    before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    is_wide = before + widths[-1] > width
    if is_wide and not (wraps and width - before >= _LEAST):
        yield from _blocks(title, cells, width)
        return
    yield _aligned([Cell(name, style="bold") for name in title], widths)
    for row in cells:
        yield from _wrapped(row, widths, width - before) if is_wide else [_aligned(row, widths)]


def facts(rows: Sequence[Row], width: int) -> Iterator[Segments]:
    """Yield lines that begin with a label: the values line up behind the longest label, and sentences wrap."""
    cells = [[_cell(one) for one in row] for row in rows]
    first = max((_width(row[0].short) for row in cells), default=0)
    for label, *values in cells:
        row = [label._replace(style=label.style or "bold"), *values]
        widths = [first, *(_width(one.short) for one in values)]
        before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
        yield from _wrapped(row, widths, max(width - before, _LEAST))


def _blocks(title: Sequence[str], rows: Sequence[Sequence[Cell]], width: int) -> Iterator[Segments]:
    for number, row in enumerate(rows):
        if number:
            yield []
        yield from facts([(Cell(name), value) for name, value in zip(title, row, strict=True)], width)


def _wrapped(row: Sequence[Cell], widths: Sequence[int], rest: int) -> Iterator[Segments]:
    """Yield the lines of a row whose last cell wraps at spaces; a word that is too long, such as a path, stays whole."""
    *others, last = row
    lines = textwrap.wrap(last.short, max(1, rest), break_long_words=False, break_on_hyphens=False) if others else []
    yield _aligned([*others, last._replace(shown=lines[0] if lines else last.short)], widths)
    for line in lines[1:]:
        yield [(" " * (sum(widths[:-1]) + len(_GAP) * len(others)), ""), (line, last.style)]


def _aligned(row: Sequence[Cell], widths: Sequence[int]) -> Segments:
    line: Segments = []
    for at, (one, width) in enumerate(zip(row, widths, strict=True)):
        line.append((one.short, one.style))
        if any(other.short for other in row[at + 1 :]):
            line.append((" " * (width - _width(one.short)) + _GAP, ""))
    return line


def _cell(value: str | Cell) -> Cell:
    return value if isinstance(value, Cell) else Cell(value)


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal (Unicode, East Asian Width)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


# -- color


def has_color(*, is_terminal: bool) -> bool:
    """Return whether output has escape codes: on a terminal, or with `FORCE_COLOR`; never with `NO_COLOR` or `TERM=dumb`."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return is_terminal or bool(os.environ.get("FORCE_COLOR"))


def painted(line: Segments) -> str:
    """Return a line with the escape codes of its styles."""
    from rich.color import ColorSystem  # late: rich, only for color
    from rich.style import Style  # late: rich, only for color

    return "".join(Style.parse(style).render(text, color_system=ColorSystem.STANDARD) if style and text else text for text, style in line)


def plain(line: Segments) -> str:
    """Return a line without styles."""
    return "".join(text for text, _ in line)
