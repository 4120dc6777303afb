"""Progress on stderr: a few lines at the bottom of a terminal, or a line every few seconds in a log.

Both displays keep track of tasks with a count, transfers of blobs, and waits. An event only changes numbers, so it costs nearly nothing.
The text is made from these numbers a few times per second at most.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

from ..content import Steps, Transfer
from ..text import human_size, printable
from ..threads import started

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

DELAY: Final = 0.3
"""Seconds before a terminal shows progress, so that short work does not flicker."""
PLAIN_INTERVAL: Final = 5.0
"""Seconds between the lines in a log."""
_LONG: Final = 1.0
"""Seconds before a transfer or a wait is shown below a task with a count."""
_REDRAW: Final = 0.1
"""Seconds between two drawings."""
_RATE_PERIOD: Final = 5.0
"""Seconds over which the rate is measured."""
_MOST_ROWS: Final = 4
"""Maximum number of transfers with a line of their own."""
_MOST_WAITS: Final = 2
_LABEL: Final = 24
"""Minimum number of columns for labels."""
_BAR: Final = (10, 30)
"""Minimum and maximum columns of a bar. If there is less room, the bar is left out."""


class _Task:
    """A task with a count, or a wait."""

    def __init__(self, display: _Display, label: str, total: int, unit: str) -> None:
        self._display = display
        self.label = printable(label)
        self.total = total
        self.unit = unit
        self.done = 0
        self.began = display.now()

    def grow(self, count: int) -> None:
        with self._display.lock:
            self.total += count
        self._display.happened()

    def advance(self, count: int = 1) -> None:
        with self._display.lock:
            self.done += count
        self._display.happened()

    @property
    def is_counted(self) -> bool:
        """Whether to show the count. A task with a single item shows no count."""
        return self.total > 1


class _Row:
    """A transfer. Bytes that an earlier run already downloaded do not count as received."""

    def __init__(self, display: _Display, name: str, total: int) -> None:
        self._display = display
        self.name = printable(name)
        self.total = total
        self.size = 0
        self.began = display.now()
        self._first: int | None = None

    @property
    def received(self) -> int:
        return self.size - (self._first or 0)

    def held(self, size: int) -> None:
        self.size = size
        self._first = size if self._first is None else min(size, self._first)
        self._display.happened()

    def end(self) -> None:
        self._display.ended(self)


class _View(NamedTuple):
    """The state of all tasks and transfers at one moment.

    Attributes:
        task: the outermost task with a count.
        rows: the transfers, oldest first.
        waits: labels of the current waits, newest first.
        received: bytes that all transfers have received so far.
        rate: bytes per second.
    """

    task: _Task | None
    rows: list[_Row]
    waits: list[str]
    received: int
    rate: float


class _Display:
    """Base class of the displays: keeps track of tasks, transfers and waits.

    Args:
        note: shows a message.
        warn: shows a warning.
        now: a monotonic clock, in seconds.
    """

    def __init__(self, note: Callable[[str], None], warn: Callable[[str], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self.note = note
        self.warn = warn
        self.now = now
        self.lock = threading.Lock()
        self._tasks: dict[_Task, None] = {}
        self._rows: dict[_Row, None] = {}
        self._received = 0  # bytes of finished transfers
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def _is_idle(self) -> bool:
        return not self._tasks and not self._rows

    def begin(self, name: str, total: int) -> Transfer:
        row = _Row(self, name, total)
        with self.lock:
            self._start()
            self._rows[row] = None
        self.happened()
        return row

    @contextmanager
    def steps(self, label: str, total: int = 0, unit: str = "artifacts") -> Iterator[Steps]:
        task = _Task(self, label, total, unit)
        with self.lock:
            self._start()
            self._tasks[task] = None
        try:
            self.happened()
            yield task
        finally:
            with self.lock:
                del self._tasks[task]
            self._rest()

    def ended(self, row: _Row) -> None:
        """Count a finished transfer."""
        with self.lock:
            if self._rows.pop(row, row) is None:  # `end` may be called twice
                self._received += row.received
        self._rest()

    def happened(self) -> None:
        """Update the display, if necessary. Called after each event."""

    def _start(self) -> None:
        """Prepare the display for a task or transfer. Called before each of them."""
        if self._is_idle:
            self._received = 0
            self._samples.clear()
            self._begin()

    def _begin(self) -> None:
        """Start the display. Called when work begins after an idle time."""

    def _rest(self) -> None:
        """Stop the display if nothing is left to show. Called after each task and transfer."""

    def _view(self) -> _View:
        now = self.now()
        with self.lock:
            tasks, rows = list(self._tasks), list(self._rows)
            received = self._received + sum(row.received for row in rows)
            samples = self._samples
            samples.append((now, received))
            while len(samples) > 2 and samples[1][0] <= now - _RATE_PERIOD:
                samples.popleft()
            since, before = samples[0]
        rate = (received - before) / (now - since) if now > since else 0.0
        task = next((one for one in tasks if one.is_counted), None)
        age = _LONG if task is not None else DELAY
        most = 0 if task is not None else 1  # if no task has a count, a task with a single item is shown like a wait
        waits = dict.fromkeys(one.label for one in reversed(tasks) if one.total <= most and now - one.began >= age)
        return _View(task, rows, list(waits), received, max(0.0, rate))


class PlainProgress(_Display):
    """Progress as a line every few seconds, for logs."""

    _next = 0.0

    def _begin(self) -> None:
        # If work starts soon after other work, keep the interval between lines.
        if self.now() - self._next > PLAIN_INTERVAL or not self._next:
            self._next = self.now() + PLAIN_INTERVAL

    def happened(self) -> None:
        if self.now() < self._next:
            return
        with self.lock:
            if self.now() < self._next:  # another thread has just printed the line
                return
            self._next = self.now() + PLAIN_INTERVAL
        text = _plain(self._view())
        if text:
            self.note(text)


def _plain(view: _View) -> str:
    task, rows = view.task, view.rows
    if task is not None:
        parts = [f"{task.label}: {task.done}/{task.total} {task.unit}", *_bytes(view)]
    elif rows:
        size, total = sum(row.size for row in rows), sum(row.total for row in rows)
        name = rows[0].name if len(rows) == 1 else f"{len(rows)} transfers"
        parts = [f"{name}: {human_size(size)} of {human_size(total)} ({100 * size // max(1, total)} %)"]
    else:
        return ""  # no line for waits alone: each long wait already prints its own message
    return "; ".join([", ".join(parts), *view.waits[:1]])


def _bytes(view: _View) -> list[str]:
    if not view.received:
        return []
    return [human_size(view.received), *([f"{human_size(view.rate)}/s"] if view.rate >= 1 else [])]


class Bar(_Display):
    """Progress as lines at the bottom of a terminal, which a background thread redraws. They disappear when the work ends.

    Each drawing is a single write that overwrites the previous drawing. No line reaches the last column. The cursor stays visible, so
    that nothing has to be restored if the process is killed.

    Args:
        stream: the terminal; None: stderr.
        size: returns the columns and lines of the terminal.
    """

    def __init__(
        self,
        note: Callable[[str], None],
        warn: Callable[[str], None],
        *,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
        size: Callable[[], os.terminal_size] | None = None,
    ) -> None:
        super().__init__(note, warn, now=now)
        self._stream = stream
        self._size = size or self._window
        self._screen = threading.RLock()  # held while something is written to the terminal
        self._busy = threading.Event()
        self._has_thread: bool | None = None
        self._console: Console | None = None
        self._drawn: list[Text] = []
        self._drawn_at = self._erased_at = float("-inf")
        self._due = 0.0
        self._is_closed = False

    def happened(self) -> None:
        if self._has_thread is False and self.now() - self._drawn_at >= _REDRAW:
            self.tick()

    def _begin(self) -> None:
        now = self.now()
        # If work starts soon after other work, show it without a delay, because this causes no flicker.
        self._due = now if now - self._erased_at < DELAY else now + DELAY
        if self._has_thread is None:
            self._has_thread = started(self._run, "marfetch-progress") is not None
        self._busy.set()

    def _rest(self) -> None:
        with self.lock:
            if not self._is_idle:
                return
            self._busy.clear()
        with self._screen:
            if not self._busy.is_set() and self._drawn:
                self._erase()
                self._erased_at = self.now()

    def _run(self) -> None:
        while not self._is_closed:
            self._busy.wait()
            self.tick()
            time.sleep(_REDRAW)

    def tick(self) -> None:
        """Draw the current progress, if a drawing is due."""
        with self._screen:
            if self._is_closed or not self._busy.is_set() or self.now() < self._due:
                return
            columns, height = self._size()
            lines = self._lines(self._view(), columns - 1)[: max(1, height - 1)]
            self._drawn_at = self.now()
            with suppress(OSError, ValueError):  # the terminal has gone
                self._draw(lines, columns)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Remove the lines while something else is written to the terminal."""
        with self._screen:
            had_lines = bool(self._drawn)
            self._erase()
            yield
            if had_lines:
                self.tick()

    def close(self) -> None:
        """Remove the lines for good."""
        with self._screen:
            self._is_closed = True
            self._erase()

    # -- drawing

    def _draw(self, lines: list[Text], columns: int) -> None:
        if lines == self._drawn:
            return
        from rich.control import Control  # late: only a progress bar needs rich
        from rich.segment import ControlType  # late: only a progress bar needs rich

        console = self._terminal()
        rows = self._occupied(columns)
        with console:  # collects the drawing into one write
            if rows > len(lines):
                self._erase(columns)
            elif rows:
                console.control(Control(ControlType.CARRIAGE_RETURN, *[(ControlType.CURSOR_UP, rows - 1)] * (rows > 1)))
            for number, line in enumerate(lines):
                console.print(line, end="", soft_wrap=True)
                console.control(Control((ControlType.ERASE_IN_LINE, 0)))
                if number < len(lines) - 1:
                    console.print()
        self._drawn = lines

    def _occupied(self, columns: int) -> int:
        """Return how many lines of the terminal the drawing takes. A terminal wraps drawn lines when its window becomes narrower."""
        return sum(max(1, -(-line.cell_len // max(1, columns))) for line in self._drawn)

    def _erase(self, columns: int | None = None) -> None:
        """Erase the drawing, and move the cursor to where it began."""
        if not self._drawn:
            return
        from rich.control import Control  # late: only a progress bar needs rich
        from rich.segment import ControlType  # late: only a progress bar needs rich

        rows = self._occupied(columns or self._size().columns)
        line = (ControlType.ERASE_IN_LINE, 2)
        self._drawn = []
        with suppress(OSError, ValueError):
            self._terminal().control(Control(ControlType.CARRIAGE_RETURN, line, *[(ControlType.CURSOR_UP, 1), line] * (rows - 1)))

    def _terminal(self) -> Console:
        if self._console is None:
            from rich.console import Console  # late: only a progress bar needs rich

            self._console = Console(file=self._stream, stderr=True, force_terminal=True, markup=False, emoji=False, highlight=False)
        return self._console

    def _window(self) -> os.terminal_size:
        with suppress(OSError, ValueError, AttributeError):
            size = os.get_terminal_size((self._stream or sys.stderr).fileno())
            if size.columns and size.lines:  # a pseudo-terminal may report 0 for both
                return size
        return shutil.get_terminal_size()

    def _lines(self, view: _View, columns: int) -> list[Text]:
        now = self.now()
        task = view.task
        rows = [row for row in view.rows if now - row.began >= (_LONG if task is not None else DELAY)]
        indent = "" if task is None else "  "
        parts: list[tuple[str, float, list[str]]] = []
        if task is not None:
            count = f"{task.done:{len(str(task.total))}}/{task.total}"
            parts.append((f"{task.label} {count} {task.unit}", task.done / task.total, _bytes(view)))
        for row in rows[:_MOST_ROWS]:
            share = row.size / max(1, row.total)
            amount = [f"{100 * share:3.0f} %", f"{human_size(row.size)} of {human_size(row.total)}"]
            rate = [f"{human_size(view.rate)}/s"] if len(view.rows) == 1 and task is None and view.rate >= 1 else []
            parts.append((indent + row.name, share, [*amount, *rate]))
        texts = [f"{indent}and {len(rows) - _MOST_ROWS} more"] * (len(rows) > _MOST_ROWS)
        texts += [indent + wait for wait in view.waits[:_MOST_WAITS]]
        return [*self._aligned(parts, columns, is_counted=task is not None), *(self._text([(text, "")], columns) for text in texts)]

    def _aligned(self, parts: Sequence[tuple[str, float, list[str]]], columns: int, *, is_counted: bool) -> Iterator[Text]:
        """Lay out labels, bars and facts. The label of a task with a count comes first and is never cut short."""
        from rich.cells import cell_len, set_cell_size  # late: only a progress bar needs rich

        widths = [cell_len(label) for label, _, _ in parts]
        left = min(max(widths, default=0), max(columns // 2, _LABEL, *widths[:1] if is_counted else ()))
        for label, share, facts in parts:
            fitting = list(facts)
            while fitting and left + 2 + len("  ".join(fitting)) > columns:
                fitting.pop()
            right = "".join(f"  {fact}" for fact in fitting)
            room = min(columns - left - len(right) - 2, _BAR[1])
            if room < _BAR[0] and not right:
                yield self._text([(label, "")], columns)
                continue
            name = f"{set_cell_size(label, left - 1)}…" if cell_len(label) > left else set_cell_size(label, left)
            filled = round(room * min(1.0, max(0.0, share)))
            bar = [("  ", ""), ("━" * filled, "green"), ("━" * (room - filled), "bright_black")] if room >= _BAR[0] else []
            yield self._text([(name, ""), *bar, (right, "")], columns)

    def _text(self, parts: Sequence[tuple[str, str]], columns: int) -> Text:
        from rich.text import Text  # late: only a progress bar needs rich

        encoding = self._terminal().encoding
        if not encoding.startswith("utf"):
            ascii_bars = [(text.replace("━", "-" if style == "bright_black" else "#").replace("…", "."), style) for text, style in parts]
            parts = [(text.encode(encoding, "replace").decode(encoding), style) for text, style in ascii_bars]
        line = Text.assemble(*parts, no_wrap=True)
        line.truncate(columns, overflow="ellipsis" if encoding.startswith("utf") else "crop")
        line.rstrip()
        return line
