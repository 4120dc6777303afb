"""Write the output of a command: results to stdout, messages and progress to stderr.

Every text goes through `printable`, so that control characters from a registry or a file cannot control the terminal. In a CI job,
all text also goes through `RunnerLog`, so that it cannot contain commands to the CI runner.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, BinaryIO, Final, TextIO, cast

from ..content import Progress, Silent
from ..document import Json
from ..errors import Error
from ..text import json_without_commands, printable, without_commands, without_controls
from .progress import Bar, PlainProgress
from .table import BAD, ODD, Cell, Row, Segments, as_cell, can_draw, facts, hanging, has_color, laid_out, painted, piped, plain

SCHEMA: Final = 1


_RUNNERS: Final = ("TF_BUILD", "GITHUB_ACTIONS")
"""Environment variables that Azure Pipelines and GitHub Actions set in each job."""


def has_runner() -> bool:
    """Return whether a CI runner reads the output and acts on logging commands in it."""
    return any(os.environ.get(name) for name in _RUNNERS)


def guard_output() -> None:
    """Break up logging commands in all text that this process prints from now on, if a CI runner reads it."""
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


class Branch:
    """A line of a tree with the branches below it."""

    def __init__(self, text: str | Cell, below: list[Branch] | None = None) -> None:
        self.text = text
        self.below = below or []


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
        """Whether the JSON object of the command was written, or is being written."""
        self.progress: Progress = self._make_progress()

    @property
    def on_terminal(self) -> bool:
        """Whether stderr is a terminal."""
        return _is_terminal(self._stderr or sys.stderr)

    def line(self, text: str) -> None:
        """Write one line of data; nothing with `--json`."""
        if not self.as_json:
            self._write_stdout(printable(text))

    def text(self, document: str) -> None:
        """Write a document that marfetch generated, line by line; nothing with `--json`."""
        for line in document.splitlines():
            self.line(line)

    def content(self, raw: bytes) -> None:
        """Write a file of an artifact, byte for byte; nothing with `--json`.

        On a terminal, control characters are removed. In a CI job, logging commands are broken up, unless stdout is a file.
        """
        stream = self._stdout or sys.stdout
        if self.as_json or self.reader_is_gone or cast("TextIO | None", stream) is None:
            return
        if _is_terminal(stream):
            self._write_stdout(without_controls(raw.decode("utf-8", "replace")).removesuffix("\n"))
            return
        if has_runner() and not _is_file(stream):
            raw = without_commands(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        with self._to_stdout():
            stream.buffer.write(raw)
            stream.buffer.flush()

    def table(self, head: Sequence[str], rows: Sequence[Row], *, wraps: bool = False, pipe: Sequence[Row] | None = None) -> None:
        """Write a list of results, laid out for a person on a terminal, otherwise as tab-separated lines; nothing with `--json`.

        Args:
            wraps: whether the last column is a sentence, which wraps if the window is too narrow.
            pipe: the rows for output to a pipe, if their columns differ from those on a terminal.
        """
        self._write_rows(rows, pipe, lambda shown, width: laid_out(head, shown, width, wraps=wraps))

    def gap(self) -> None:
        """Write an empty line between two parts, on a terminal only."""
        if not self.as_json and _is_terminal(self._stdout or sys.stdout):
            self._write_stdout("")

    def facts(self, rows: Sequence[Row], *, pipe: Sequence[Row] | None = None) -> None:
        """Write lines that begin with a label: aligned on a terminal, otherwise tab-separated; nothing with `--json`.

        Args:
            pipe: the rows for output to a pipe, if their columns differ from those on a terminal.
        """
        self._write_rows(rows, pipe, facts)

    def outline(self, rows: Sequence[tuple[int, Cell]]) -> None:
        """Write indented lines; on a terminal, wrapped lines are indented by two more columns. Nothing with `--json`."""
        self._hang([(" " * indent, " " * (indent + 2), cell) for indent, cell in rows])

    def tree(self, root: Branch) -> None:
        """Write a tree; on a terminal, long texts wrap to the right of the branch lines. Nothing with `--json`."""
        self._hang(list(_guided(root)))

    def _write_rows(
        self, rows: Sequence[Row], pipe: Sequence[Row] | None, lay_out: Callable[[Sequence[Row], int], Iterable[Segments]]
    ) -> None:
        if not self.as_json and rows:
            for_pipe = (piped(_printable(row)) for row in (rows if pipe is None else pipe))
            self._write_lines(for_pipe, lambda width: lay_out(list(map(_printable, rows)), width))

    def _hang(self, rows: Sequence[tuple[str, str, Cell]]) -> None:
        """Write texts that wrap. Each row has a prefix for the first line, a prefix for further lines, and the text."""
        if self.as_json:
            return
        shown = [(before, below, _printable([cell])[0]) for before, below, cell in rows]
        self._write_lines(
            ([(before, ""), (cell.text.rstrip(), cell.style)] for before, _, cell in shown),
            lambda width: (line for before, below, cell in shown for line in hanging(before, below, cell, width)),
        )

    def _write_lines(self, for_pipe: Iterable[Segments], for_terminal: Callable[[int], Iterable[Segments]]) -> None:
        is_terminal = _is_terminal(self._stdout or sys.stdout)
        write = painted if has_color(is_terminal=is_terminal) else plain
        for line in for_terminal(shutil.get_terminal_size().columns) if is_terminal else for_pipe:
            self._write_stdout(write(line))

    def data(self, data: Json) -> None:
        """Write the result as JSON; nothing without `--json`."""
        if self.as_json:
            self._write_json({"schema": SCHEMA, "command": self.command, "ok": True, "data": data})

    def json_text(self, document: str) -> None:
        """Write serialized JSON in ASCII. In a CI job, logging commands in it are escaped; its values stay the same."""
        self._write_stdout(json_without_commands(document) if has_runner() else document)

    def note(self, text: str) -> None:
        """Write a message to stderr; nothing with `--quiet`."""
        if not self.quiet:
            self._write_stderr(printable(text))

    def warn(self, text: str) -> None:
        """Write a warning to stderr, also with `--quiet`."""
        self._write_labeled("warning", text, ODD)

    def failed(self, error: Error, data: Json = None, *, about: str | None = None) -> None:
        """Write the error that ends the command.

        Args:
            data: the results so far, for the JSON.
            about: name of the artifact that failed.
        """
        if isinstance(self.progress, Bar):
            self.progress.close()  # background threads may still report progress while they stop
        if self.as_json:
            document: dict[str, Json] = {"schema": SCHEMA, "command": self.command, "ok": False, "error": error_json(error)}
            if data is not None:
                document["data"] = data
            self._write_json(document)
        self.error(error, about=about)

    def error(self, error: Error, *, about: str | None = None) -> None:
        """Write an error with its hint to stderr, and the IDs of a failed response that Microsoft support asks for."""
        self._write_labeled("error", f"{about}: {error.message}" if about else error.message, BAD)
        for label, name in (("X-Msedge-Ref", "msedge_ref"), ("X-Ms-Correlation-Request-Id", "correlation_id")):
            if error.context.get(name):
                self._write_stderr(f"{label}: {printable(str(error.context[name]))}")
        if error.hint:
            self._write_labeled("hint", error.hint, "cyan")

    def failures(self, errors: Sequence[tuple[str, Error]], data: Json, *, several: bool = True) -> int:
        """Write all errors, the first one as the failure of the command, and return its exit code.

        Args:
            errors: the name of each failed artifact, and its error.
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

    def _write_labeled(self, label: str, text: str, color: str) -> None:
        write = painted if has_color(is_terminal=self.on_terminal) else plain
        self._write_stderr(write([(f"{label}: ", f"bold {color}"), (printable(text), "")]))

    def _write_stderr(self, text: str) -> None:
        with self._without_bar(self._stderr or sys.stderr), suppress(OSError, ValueError):
            self._write(self._stderr or sys.stderr, text)

    def _write_stdout(self, text: str) -> None:
        if self.reader_is_gone:
            return
        with self._to_stdout(), self._without_bar(self._stdout or sys.stdout):
            self._write(self._stdout or sys.stdout, text)

    @contextmanager
    def _to_stdout(self) -> Iterator[None]:
        """Handle failed writes to stdout. If the reader has closed the pipe, remember it. Add the name `stdout` to any other error."""
        try:
            yield
        except BrokenPipeError:
            self.reader_is_gone = True
        except OSError as error:
            error.filename = error.filename or "stdout"
            raise

    def _without_bar(self, stream: TextIO) -> AbstractContextManager[None]:
        """Remove the progress bars while a line is written to a terminal."""
        return self.progress.hidden() if isinstance(self.progress, Bar) and _is_terminal(stream) else nullcontext()

    def _write(self, stream: TextIO | None, text: str) -> None:
        if stream is None:
            return
        with self._lock:
            try:
                stream.write(text + "\n")
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            stream.flush()

    def _make_progress(self) -> Progress:
        if self.quiet:
            return Silent(self.warn)
        if self.on_terminal and can_draw():
            return Bar(self.note, self.warn, stream=self._stderr)
        return PlainProgress(self.note, self.warn)


def error_json(error: Error) -> dict[str, Json]:
    """Return an error as JSON (`docs/reference/json.md`)."""
    facts: dict[str, Any] = {name: value for name, value in error.context.items() if name not in ("code", "message", "hint")}
    return {"code": error.code, "message": error.message, "hint": error.hint, "exitCode": error.exit_code, **facts}


def _printable(row: Row) -> list[Cell]:
    cells = map(as_cell, row)
    return [one._replace(text=printable(one.text), shown=None if one.shown is None else printable(one.shown)) for one in cells]


def _guided(branch: Branch, before: str = "", below: str = "") -> Iterator[tuple[str, str, Cell]]:
    """Yield the rows of a tree: the prefix of the first line, the prefix of further lines if the text wraps, and the text."""
    yield before, below + ("│   " if branch.below else "    "), as_cell(branch.text)
    for one in branch.below:
        is_last = one is branch.below[-1]
        yield from _guided(one, below + ("└── " if is_last else "├── "), below + ("    " if is_last else "│   "))


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(ValueError, AttributeError):
        return stream is not None and stream.isatty()
    return False


def _is_file(stream: TextIO) -> bool:
    with suppress(ValueError, OSError):
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    return False
