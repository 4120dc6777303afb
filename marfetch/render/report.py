"""What marfetch says: results on stdout, everything else on stderr, for people or as one JSON object.

Nothing that a registry or a file says reaches a terminal with its control characters: every text goes through `printable`.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TextIO

from ..content import Progress, Silent, Transfer
from ..document import Json
from ..errors import Error
from ..text import human_size, printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


SCHEMA: Final = 1
_PLAIN_INTERVAL: Final = 5.0  # seconds between two lines of progress where stderr is no terminal


@dataclass(slots=True)
class Branch:
    """A line of a tree, and what stands below it."""

    text: str
    below: list[Branch] = field(default_factory=list)


class Report:
    """The voice of one command.

    Args:
        command: its name, as it stands in the JSON.
        as_json: one JSON object on stdout in place of lines.
        quiet: no progress and no notes.
    """

    def __init__(
        self, command: str, *, as_json: bool = False, quiet: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.command = command
        self.as_json = as_json
        self.quiet = quiet
        self._stdout = stdout
        self._stderr = stderr
        self._guard = threading.Lock()
        self.is_gone = False
        """Whether whoever read the output has read enough: nothing more is said there, and the command ends as it would have ended."""
        self.progress: Progress = self._make_progress()

    @property
    def on_terminal(self) -> bool:
        """Whether somebody is reading along."""
        return _is_terminal(self._stderr or sys.stderr)

    def line(self, *columns: str) -> None:
        """One line of data, its columns separated by tabs; nothing with `--json`."""
        if not self.as_json:
            self._out("\t".join(map(printable, columns)))

    def text(self, document: str) -> None:
        """A document of our own making, line by line; nothing with `--json`."""
        for line in document.splitlines():
            self.line(line)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Lines of data: with a head and in columns on a terminal, otherwise separated by tabs and without a head."""
        if self.as_json or not rows:
            return
        if not _is_terminal(self._stdout or sys.stdout):
            for row in rows:
                self.line(*row)
            return
        shown = [[printable(text) for text in row] for row in (tuple(name.upper() for name in head), *rows)]
        widths = [max(len(row[column]) for row in shown) for column in range(len(head))]
        for row in shown:
            self._out("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

    def data(self, data: Json) -> None:
        """The result as JSON; nothing without `--json`."""
        if self.as_json:
            self._object({"schema": SCHEMA, "command": self.command, "ok": True, "data": data})

    def tree(self, root: Branch) -> None:
        """Data as a tree; nothing with `--json`. A line is never wrapped: its reader may be a program."""
        if self.as_json:
            return
        from rich.console import Console  # late: rich, only for a tree
        from rich.text import Text  # late: rich, only for a tree
        from rich.tree import Tree  # late: rich, only for a tree

        def grown(branch: Branch) -> Tree:
            tree = Tree(Text(printable(branch.text)))
            tree.children.extend(grown(one) for one in branch.below)
            return tree

        drawn = io.StringIO()
        Console(file=drawn, width=100_000, color_system=None, emoji=False, markup=False, highlight=False).print(grown(root))
        for line in drawn.getvalue().splitlines():
            self._out(line.rstrip())

    def note(self, text: str) -> None:
        """Something worth knowing that is no data."""
        if not self.quiet:
            self._say(printable(text))

    def warn(self, text: str) -> None:
        """Something that the user should know, though it went on."""
        self._say(f"warning: {printable(text)}")

    def failed(self, error: Error, data: Json = None, *, about: str | None = None) -> None:
        """The failure of the command, with what was done nevertheless."""
        if self.as_json:
            document: dict[str, Json] = {"schema": SCHEMA, "command": self.command, "ok": False, "error": error_json(error)}
            if data is not None:
                document["data"] = data
            self._object(document)
        self.error(error, about=about)

    def error(self, error: Error, *, about: str | None = None) -> None:
        """A failure for people: what was asked, what came back, and the next thing to try."""
        self._say(f"error: {printable(f'{about}: ' if about else '')}{printable(error.message)}")
        for label, name in (("X-Msedge-Ref", "msedge_ref"), ("X-Ms-Correlation-Request-Id", "correlation_id")):
            if error.context.get(name):
                self._say(f"{label}: {printable(str(error.context[name]))}")
        if error.hint:
            self._say(f"hint: {printable(error.hint)}")

    def _object(self, document: dict[str, Any]) -> None:
        self._out(json.dumps(document, ensure_ascii=True))

    def _say(self, text: str) -> None:
        stop = getattr(self.progress, "above", None)
        if stop is not None and stop(text):
            return
        with suppress(OSError, ValueError):
            self._write(self._stderr or sys.stderr, text)

    def _out(self, text: str) -> None:
        if self.is_gone:
            return
        try:
            self._write(self._stdout or sys.stdout, text)
        except BrokenPipeError:
            self.is_gone = True

    def _write(self, stream: TextIO | None, text: str) -> None:
        if stream is None:
            return
        with self._guard:
            try:
                try:
                    stream.write(text + "\n")
                except UnicodeEncodeError:
                    encoding = stream.encoding or "ascii"
                    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
                stream.flush()
            except OSError as error:
                error.filename = error.filename or "stdout"  # what goes wrong with stderr, nobody hears of
                raise

    def _make_progress(self) -> Progress:
        if self.quiet:
            return Silent(self.warn)
        if self.on_terminal and _can_draw():
            return Bar(self.note, self.warn)
        return PlainProgress(self.note, self.warn)


def error_json(error: Error) -> dict[str, Json]:
    """An error as the JSON object of `docs/reference/json.md`."""
    facts: dict[str, Any] = {name: value for name, value in error.context.items() if name not in ("code", "message", "hint")}
    return {"code": error.code, "message": error.message, "hint": error.hint, "exitCode": error.exit_code, **facts}


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(ValueError, AttributeError):
        return stream is not None and stream.isatty()
    return False


def _can_draw() -> bool:
    """Whether the terminal understands more than lines; on Windows none says what it is."""
    return os.name == "nt" or os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class PlainProgress:
    """A line now and then, for logs."""

    def __init__(self, note: Callable[[str], None], warn: Callable[[str], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self.note = note
        self.warn = warn
        self._now = now

    def begin(self, name: str, total: int) -> Transfer:
        return _Lines(name, total, self.note, self._now)


class _Lines:
    def __init__(self, name: str, total: int, note: Callable[[str], None], now: Callable[[], float]) -> None:
        self._name = name
        self._total = total
        self._note = note
        self._now = now
        self._next = now() + _PLAIN_INTERVAL

    def held(self, size: int) -> None:
        if self._now() >= self._next:
            self._next = self._now() + _PLAIN_INTERVAL
            share = 100 * size // max(1, self._total)
            self._note(f"{self._name}: {human_size(size)} of {human_size(self._total)} ({share} %)")

    def end(self) -> None:
        pass


class Bar:
    """A bar for each blob on a terminal. It appears when a transfer takes longer than a moment, so that small ones do not flicker."""

    _PATIENCE: Final = 0.3  # seconds

    def __init__(self, note: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.note = note
        self.warn = warn
        self._guard = threading.Lock()
        self._bars: RichProgress | None = None
        self._active = 0

    def begin(self, name: str, total: int) -> Transfer:
        with self._guard:
            self._active += 1
        return _Row(self, name, total)

    def above(self, text: str) -> bool:
        """Write a line above the bars; False where none are shown."""
        with self._guard:
            bars = self._bars
        if bars is None:
            return False
        bars.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
        return True

    def show(self) -> RichProgress:
        """The bars, shown from now on."""
        with self._guard:
            if self._bars is None:
                from rich.console import Console  # late: rich, only for a bar on a terminal
                from rich.progress import (
                    BarColumn,
                    DownloadColumn,
                    TextColumn,
                    TransferSpeedColumn,
                )  # late: rich, only for a bar on a terminal
                from rich.progress import Progress as Bars  # late: rich, only for a bar on a terminal

                columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
                self._bars = Bars(*columns, console=Console(stderr=True), transient=True)
                self._bars.start()
            return self._bars

    def done(self) -> None:
        """One transfer less; after the last one the bars go."""
        with self._guard:
            self._active -= 1
            bars = self._bars if self._active == 0 else None
            if bars is not None:
                self._bars = None
        if bars is not None:
            bars.stop()


class _Row:
    def __init__(self, bar: Bar, name: str, total: int) -> None:
        self._bar = bar
        self._name = printable(name)
        self._total = total
        self._begun = time.monotonic()
        self._task: Any = None

    def held(self, size: int) -> None:
        if self._task is None:
            if time.monotonic() - self._begun < Bar._PATIENCE:  # noqa: SLF001 - its own row
                return
            self._task = self._bar.show().add_task(self._name, total=self._total)
        self._bar.show().update(self._task, completed=size)

    def end(self) -> None:
        if self._task is not None:
            self._bar.show().update(self._task, visible=False)
        self._bar.done()
