"""Write the output of a command: results to stdout, messages and progress to stderr.

Every text goes through `printable`, so that control characters from a registry or a file cannot steer the terminal. In a job of a CI
runner, everything that the program writes as text goes through `RunnerLog`, so that it cannot steer the runner.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, TextIO, cast

from ..content import Progress, Silent
from ..document import Json
from ..errors import Error
from ..text import json_without_commands, printable, without_commands
from .progress import Bar, PlainProgress
from .table import Cell, Row, Segments, facts, has_color, laid_out, painted, piped, plain

SCHEMA: Final = 1


_RUNNERS: Final = ("TF_BUILD", "GITHUB_ACTIONS")
"""Environment variables that Azure Pipelines and GitHub Actions set in each job."""


def has_runner() -> bool:
    """Whether a CI runner reads the output and acts on logging commands in it."""
    return any(os.environ.get(name) for name in _RUNNERS)


def guard_output() -> None:
    """Break up logging commands in everything that this process prints as text from now on, if a CI runner reads it."""
    sys.stdout, sys.stderr = guarded(sys.stdout), guarded(sys.stderr)


def guarded(stream: TextIO) -> TextIO:
    """Return a stream that breaks up logging commands if a CI runner reads it."""
    is_open: bool = cast("TextIO | None", stream) is not None  # the parent process may have closed it
    return cast("TextIO", RunnerLog(stream)) if is_open and has_runner() else stream


class RunnerLog:
    """A text stream that breaks up logging commands line by line. Bytes written to its `buffer` stay the same.

    A line is held back until it is complete, or until `flush`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()  # a signal handler may write while a write is in progress
        self._begun = ""

    def write(self, text: str) -> int:
        with self._lock:
            whole = self._begun + text
            end = max(whole.rfind("\n"), whole.rfind("\r")) + 1
            self._begun = whole[end:]
            if end:
                self._stream.write(without_commands(whole[:end]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, ""
            if begun:
                self._stream.write(without_commands(begun))
            self._stream.flush()

    @property
    def buffer(self) -> BinaryIO:
        """The stream of bytes, for payloads."""
        self.flush()
        return self._stream.buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@dataclass(slots=True)
class Branch:
    """A line of a tree with the branches below it."""

    text: str
    below: list[Branch] = field(default_factory=list)


class Report:
    """The output of one command.

    Args:
        command: name of the command, for the JSON.
        as_json: write one JSON object to stdout instead of lines.
        quiet: hide progress and notes.
    """

    def __init__(
        self, command: str, *, as_json: bool = False, quiet: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.command = command
        self.as_json = as_json
        self.quiet = quiet
        self._stdout = stdout
        self._stderr = stderr
        self._lock = threading.Lock()
        self.reader_is_gone = False
        """Whether the reader has closed stdout (`| head`). Further output is dropped, and the exit code stays the same."""
        self.has_result = False
        """Whether the JSON object, which a command prints once, is written or being written."""
        self.progress: Progress = self._make_progress()

    @property
    def on_terminal(self) -> bool:
        """Whether stderr is a terminal."""
        return _is_terminal(self._stderr or sys.stderr)

    def line(self, *columns: str) -> None:
        """Write one line of data with tab-separated columns; nothing with `--json`."""
        if not self.as_json:
            self._write_stdout("\t".join(map(printable, columns)))

    def text(self, document: str) -> None:
        """Write a document that marfetch generated, line by line; nothing with `--json`."""
        for line in document.splitlines():
            self.line(line)

    def table(self, head: Sequence[str], rows: Sequence[Row], *, wraps: bool = False) -> None:
        """Write a list of results, laid out for a person on a terminal, otherwise as tab-separated lines; nothing with `--json`.

        Args:
            wraps: the last column is a sentence, so it wraps where the window is too narrow.
        """
        if not self.as_json and rows:
            shown = [_printable(row) for row in rows]
            self._write_lines(shown, lambda: laid_out(head, shown, shutil.get_terminal_size().columns, wraps=wraps))

    def gap(self) -> None:
        """Write an empty line between two parts, on a terminal only."""
        if not self.as_json and _is_terminal(self._stdout or sys.stdout):
            self._write_stdout("")

    def facts(self, rows: Sequence[Row]) -> None:
        """Write lines that begin with a label: aligned on a terminal, otherwise tab-separated; nothing with `--json`."""
        if not self.as_json and rows:
            shown = [_printable(row) for row in rows]
            self._write_lines(shown, lambda: facts(shown, shutil.get_terminal_size().columns))

    def _write_lines(self, rows: Sequence[Row], lay_out: Callable[[], Iterable[Segments]]) -> None:
        is_terminal = _is_terminal(self._stdout or sys.stdout)
        write = painted if has_color(is_terminal=is_terminal) else plain
        for line in lay_out() if is_terminal else map(piped, rows):
            self._write_stdout(write(line))

    def data(self, data: Json) -> None:
        """Write the result as JSON; nothing without `--json`."""
        if self.as_json:
            self._write_json({"schema": SCHEMA, "command": self.command, "ok": True, "data": data})

    def json_text(self, document: str) -> None:
        """Write serialized JSON in ASCII; its values stay the same in the log of a CI runner too."""
        self._write_stdout(json_without_commands(document) if has_runner() else document)

    def tree(self, root: Branch) -> None:
        """Write a tree; nothing with `--json`. Lines are never wrapped, because a program may read them."""
        if self.as_json:
            return
        from rich.console import Console  # late: rich, only for a tree
        from rich.text import Text  # late: rich, only for a tree
        from rich.tree import Tree  # late: rich, only for a tree

        def build(branch: Branch) -> Tree:
            tree = Tree(Text(printable(branch.text)))
            tree.children.extend(build(one) for one in branch.below)
            return tree

        buffer = io.StringIO()
        Console(file=buffer, width=100_000, color_system=None, emoji=False, markup=False, highlight=False).print(build(root))
        for line in buffer.getvalue().splitlines():
            self._write_stdout(line.rstrip())

    def note(self, text: str) -> None:
        """Write a message to stderr; nothing with `--quiet`."""
        if not self.quiet:
            self._write_stderr(printable(text))

    def warn(self, text: str) -> None:
        """Write a warning to stderr, also with `--quiet`."""
        self._write_stderr(f"warning: {printable(text)}")

    def failed(self, error: Error, data: Json = None, *, about: str | None = None) -> None:
        """Write the error that ends the command.

        Args:
            data: the results so far, for the JSON.
            about: name of the artifact that failed.
        """
        if isinstance(self.progress, Bar):
            self.progress.close()  # threads that are being stopped may still have work
        if self.as_json:
            document: dict[str, Json] = {"schema": SCHEMA, "command": self.command, "ok": False, "error": error_json(error)}
            if data is not None:
                document["data"] = data
            self._write_json(document)
        self.error(error, about=about)

    def error(self, error: Error, *, about: str | None = None) -> None:
        """Write an error with its hint to stderr; a failed response of MAR also has the ids that its support asks for."""
        self._write_stderr(f"error: {printable(f'{about}: ' if about else '')}{printable(error.message)}")
        for label, name in (("X-Msedge-Ref", "msedge_ref"), ("X-Ms-Correlation-Request-Id", "correlation_id")):
            if error.context.get(name):
                self._write_stderr(f"{label}: {printable(str(error.context[name]))}")
        if error.hint:
            self._write_stderr(f"hint: {printable(error.hint)}")

    def failures(self, errors: Sequence[tuple[str, Error]], data: Json, *, several: bool = True) -> int:
        """Write all errors, the first one as the failure of the command, and return its exit code.

        Args:
            errors: name of an artifact and its error.
            several: whether the command had several artifacts, so that the message must name the failed one.
        """
        for name, error in errors[1:]:
            self.error(error, about=name)
        name, first = errors[0]
        self.failed(first, data, about=name if several else None)
        return first.exit_code

    def _write_json(self, document: dict[str, Any]) -> None:
        self.has_result = True
        self.json_text(json.dumps(document, ensure_ascii=True))

    def _write_stderr(self, text: str) -> None:
        with self._without_bar(self._stderr or sys.stderr), suppress(OSError, ValueError):
            self._write(self._stderr or sys.stderr, text)

    def _write_stdout(self, text: str) -> None:
        if self.reader_is_gone:
            return
        try:
            with self._without_bar(self._stdout or sys.stdout):
                self._write(self._stdout or sys.stdout, text)
        except BrokenPipeError:
            self.reader_is_gone = True

    def _without_bar(self, stream: TextIO) -> AbstractContextManager[None]:
        """Remove the progress bars while a line is written to a terminal."""
        return self.progress.hidden() if isinstance(self.progress, Bar) and _is_terminal(stream) else nullcontext()

    def _write(self, stream: TextIO | None, text: str) -> None:
        if stream is None:
            return
        with self._lock:
            try:
                try:
                    stream.write(text + "\n")
                except UnicodeEncodeError:
                    encoding = stream.encoding or "ascii"
                    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
                stream.flush()
            except OSError as error:
                error.filename = error.filename or "stdout"  # errors of stderr are suppressed anyway
                raise

    def _make_progress(self) -> Progress:
        if self.quiet:
            return Silent(self.warn)
        if self.on_terminal and _can_draw():
            return Bar(self.note, self.warn, stream=self._stderr)
        return PlainProgress(self.note, self.warn)


def error_json(error: Error) -> dict[str, Json]:
    """Return an error as JSON (`docs/reference/json.md`)."""
    facts: dict[str, Any] = {name: value for name, value in error.context.items() if name not in ("code", "message", "hint")}
    return {"code": error.code, "message": error.message, "hint": error.hint, "exitCode": error.exit_code, **facts}


def _printable(row: Row) -> list[Cell]:
    cells = [one if isinstance(one, Cell) else Cell(one) for one in row]
    return [one._replace(text=printable(one.text), shown=None if one.shown is None else printable(one.shown)) for one in cells]


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(ValueError, AttributeError):
        return stream is not None and stream.isatty()
    return False


def _can_draw() -> bool:
    """Whether the terminal can draw progress bars, which need escape codes; Windows terminals do not set `TERM`."""
    return has_color(is_terminal=True) and (os.name == "nt" or os.environ.get("TERM", "") not in ("", "unknown"))
