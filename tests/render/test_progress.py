"""Progress on stderr: what a terminal shows after each event, and the lines in a log. Only the tests move the clocks."""

from __future__ import annotations

import io
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from marfetch.content import Silent
from marfetch.render import progress
from marfetch.render.progress import DELAY, PLAIN_INTERVAL, Bar, PlainProgress
from marfetch.render.report import Report

from ..world.command import marfetch, on_terminal, surroundings
from ..world.content import ALB
from ..world.registry import Registry

EVIL = "a\x1b[31m\x07\r\nb\u202e"


class Screen(io.StringIO):
    """A simulated terminal that wraps lines at its width. It supports only the escape sequences that progress uses."""

    encoding = "utf-8"

    def __init__(self, columns: int = 80) -> None:
        super().__init__()
        self.columns = columns
        self.written: list[str] = []
        self._lines = [""]
        self._row = self._column = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written.append(text)
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+|.", text):
            if part == "\r":
                self._column = 0
            elif part == "\n":
                self._row, self._column = self._row + 1, 0
                self._lines += [""] * (self._row + 1 - len(self._lines))
            elif part.startswith("\x1b["):
                self._control(part[-1], part[2:-1])
            else:
                line = self._lines[self._row].ljust(self._column)
                self._lines[self._row] = line[: self._column] + part + line[self._column + len(part) :]
                self._column += len(part)
                assert cell_len(self._lines[self._row]) < self.columns, "a line reaches the last column"
        return len(text)

    def _control(self, kind: str, number: str) -> None:
        if kind == "A":
            self._row -= int(number)
            assert self._row >= 0, "the cursor leaves the terminal"
        elif kind == "K":
            self._lines[self._row] = "" if number == "2" else self._lines[self._row][: self._column]
        else:
            assert kind == "m", f"the test terminal does not support the control {kind!r}"

    def resize(self, columns: int) -> None:
        """Wrap the displayed text at another width. The cursor stays at its character."""
        self.columns = columns
        wrapped: list[str] = []
        for number, line in enumerate(self._lines):
            pieces = [line[start : start + columns] for start in range(0, max(1, len(line)), columns)]
            if number == self._row:
                self._row, self._column = len(wrapped) + len(pieces) - 1, len(pieces[-1])
                wrapped += pieces
                break
            wrapped += pieces
        self._lines = wrapped

    @property
    def shown(self) -> list[str]:
        return [line.rstrip() for line in self._lines if line.strip()]


class Shown:
    """A display on a screen, with a clock that only the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int = 80, height: int = 24) -> None:
        self.screen, self.height, self.time = Screen(columns), height, 100.0
        monkeypatch.setattr(progress, "started", lambda *_: threading.current_thread())  # start no thread: the test calls `tick`
        self.report = Report("toy", stdout=io.StringIO(), stderr=self.screen)
        size = lambda: os.terminal_size((self.screen.columns, self.height))  # noqa: E731
        self.bar = Bar(self.report.note, self.report.warn, stream=self.screen, now=lambda: self.time, size=size)
        self.report.progress = self.bar

    def passes(self, seconds: float) -> list[str]:
        self.time += seconds
        self.bar.tick()
        return self.screen.shown


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(monkeypatch)


def bars(lines: list[str]) -> list[str]:
    """Remove the bars from the lines."""
    return [re.sub(" *━+", "", line) for line in lines]


# -- on a terminal


def test_a_count_is_shown_after_a_moment_and_is_gone_at_the_end(shown: Shown) -> None:
    with shown.bar.steps("resolving", 12) as steps:
        assert shown.passes(DELAY / 2) == []
        assert bars(shown.passes(DELAY)) == ["resolving  0/12 artifacts"]
        steps.advance()
        steps.advance(2)
        assert bars(shown.passes(1)) == ["resolving  3/12 artifacts"]
        steps.grow(88)
        assert bars(shown.passes(1)) == ["resolving   3/100 artifacts"]
    assert shown.screen.shown == []


def test_short_work_writes_nothing(shown: Shown) -> None:
    for _ in range(100):
        with shown.bar.steps("resolving", 12) as steps:
            steps.advance(12)
        shown.bar.begin("x", 10).end()
        shown.passes(0.001)
    assert shown.screen.written == []


def test_work_that_follows_at_once_is_shown_at_once(shown: Shown) -> None:
    with shown.bar.steps("resolving", 12):
        shown.passes(1)
    with shown.bar.steps("downloading", 30, "files"):
        assert bars(shown.passes(0)) == ["downloading  0/30 files"]
    shown.passes(2)
    with shown.bar.steps("checking", 30):
        assert shown.passes(0) == []


def test_bytes_and_the_rate_are_those_of_all_transfers(shown: Shown) -> None:
    with shown.bar.steps("downloading", 3, "files") as steps:
        first, second = shown.bar.begin("first.tgz", 4 << 20), shown.bar.begin("second.tgz", 4 << 20)
        shown.passes(0.5)
        first.held(2 << 20)  # an earlier run already downloaded these bytes
        first.held(3 << 20)
        second.held(0)
        second.held(1 << 20)
        assert bars(shown.passes(0.5)) == [
            "downloading 0/3 files  2.0 MiB  4.0 MiB/s",
            "  first.tgz   75 %  3.0 MiB of 4.0 MiB",
            "  second.tgz   25 %  1.0 MiB of 4.0 MiB",
        ]
        second.held(0)  # the download restarts
        first.held(4 << 20)
        first.end()
        first.end()
        second.end()
        steps.advance()
        assert bars(shown.passes(0.5)) == ["downloading 1/3 files  2.0 MiB  2.0 MiB/s"]


def test_a_single_transfer_has_a_rate(shown: Shown) -> None:
    transfer = shown.bar.begin("alb-controller-1.7.12.tgz", 64 << 20)
    shown.passes(1)
    transfer.held(0)
    transfer.held(16 << 20)
    assert bars(shown.passes(4)) == ["alb-controller-1.7.12.tgz   25 %  16.0 MiB of 64.0 MiB  4.0 MiB/s"]
    transfer.end()
    assert shown.screen.shown == []


def test_many_transfers_are_not_more_lines_than_fit(shown: Shown) -> None:
    rows = [shown.bar.begin(f"{number}.tgz", 10) for number in range(40)]
    lines = shown.passes(1)
    assert [line.split()[0] for line in lines] == ["0.tgz", "1.tgz", "2.tgz", "3.tgz", "and"]
    assert lines[-1] == "and 36 more"
    shown.height = 3
    assert len(shown.passes(1)) == 2
    for row in rows:
        row.end()
    assert shown.screen.shown == []


def test_waits_are_named_once_and_the_outermost_count_is_shown(shown: Shown) -> None:
    bar = shown.bar
    with bar.steps("resolving", 9), bar.steps("reading", 20, "versions"), bar.steps("reading the tag list", 1, "pages"):
        with bar.steps("throttled by 127.0.0.1:5000 for 12 s"), bar.steps("throttled by 127.0.0.1:5000 for 12 s"):
            assert len(shown.passes(0.5)) == 1
            assert bars(shown.passes(1)) == ["resolving 0/9 artifacts", "  throttled by 127.0.0.1:5000 for 12 s"]
        assert bars(shown.passes(1)) == ["resolving 0/9 artifacts"]
    with bar.steps("connecting to mcr.microsoft.com"):
        assert shown.passes(1) == ["connecting to mcr.microsoft.com"]
    assert shown.screen.shown == []


def test_messages_and_results_stand_above(shown: Shown) -> None:
    with shown.bar.steps("resolving", 12):
        shown.passes(1)
        shown.report.warn("mind the gap")
        assert bars(shown.screen.shown) == ["warning: mind the gap", "resolving  0/12 artifacts"]
        with shown.bar.hidden():
            shown.screen.write("a result\n")
    assert shown.screen.shown == ["warning: mind the gap", "a result"]


def test_a_result_on_the_same_terminal_is_not_mixed_with_the_bars(shown: Shown) -> None:
    report = Report("toy", stdout=shown.screen)
    report.progress = shown.bar
    with shown.bar.steps("resolving", 12):
        shown.passes(1)
        report.line("a result")
        assert bars(shown.screen.shown) == ["a result", "resolving  0/12 artifacts"]


def test_nothing_is_drawn_below_the_error_that_ends_the_command(shown: Shown) -> None:
    from marfetch.errors import Interrupted

    transfer = shown.bar.begin("x.tgz", 10)  # a transfer begins while the bar's thread is still stopping
    shown.passes(1)
    shown.report.failed(Interrupted("interrupted", code="interrupted"))
    lines = shown.screen.shown
    assert lines[0] == "error: interrupted"
    assert shown.passes(1) == lines
    transfer.end()
    assert shown.screen.shown == lines


def test_an_interrupt_removes_the_lines(shown: Shown) -> None:
    def stopped() -> None:
        with shown.bar.steps("resolving", 12):
            shown.passes(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert shown.screen.shown == []


def test_an_unchanged_display_is_not_drawn_again(shown: Shown) -> None:
    with shown.bar.steps("resolving", 12):
        shown.passes(1)
        before = len(shown.screen.written)
        for _ in range(50):
            shown.passes(0.1)
        assert len(shown.screen.written) == before


def test_each_drawing_is_one_write(shown: Shown) -> None:
    with shown.bar.steps("downloading", 12, "files") as steps, shown.bar.steps("waiting for 127.0.0.1:5000"):
        shown.passes(2)
        assert len(shown.screen.written) == 1
        steps.advance()
        shown.passes(1)
        assert len(shown.screen.written) == 2


@pytest.mark.parametrize("columns", [1, 8, 20, 40, 80, 200])
def test_every_width_works(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    shown = Shown(monkeypatch, columns + 1)
    with shown.bar.steps("downloading", 100, "files") as steps, shown.bar.steps("throttled by mcr.microsoft.com for 12 s"):
        transfer = shown.bar.begin("a-very-long-name-of-a-chart-that-nobody-can-read-1.0.0-日本語.tgz", 64 << 20)
        shown.passes(1)
        transfer.held(0)
        transfer.held(8 << 20)
        steps.advance(12)
        lines = shown.passes(1)
        assert lines
        transfer.end()
    assert shown.screen.shown == []


def test_at_40_columns_counts_and_bytes_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, 40)
    with shown.bar.steps("downloading", 100, "files"):
        transfer = shown.bar.begin("alb-controller-1.7.12.tgz", 64 << 20)
        transfer.held(0)
        transfer.held(16 << 20)
        assert bars(shown.passes(1)) == ["downloading   0/100 files  16.0 MiB", "  alb-controller-1.7.12.…   25 %"]


@pytest.mark.parametrize("columns", [20, 33, 60, 150])
def test_a_resized_window_keeps_nothing_of_the_old_lines(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    shown = Shown(monkeypatch, 100)
    shown.report.warn("above")
    with shown.bar.steps("downloading", 100, "files") as steps, shown.bar.steps("throttled by mcr.microsoft.com for 12 s"):
        shown.passes(2)
        shown.screen.resize(columns)
        steps.advance(12)
        lines = shown.passes(1)
        assert [line.split()[0] for line in lines] == ["warning:", "downloading", "throttled"]
    assert shown.screen.shown == ["warning: above"]


def test_names_are_escaped_and_are_no_markup(shown: Shown) -> None:
    transfer = shown.bar.begin(f"[red]{EVIL}", 10)
    with shown.bar.steps(EVIL):
        lines = shown.passes(1)
    transfer.end()
    assert lines[0].startswith("[red]a\\x1b[31m\\x07")
    assert "\x07" not in "".join(shown.screen.written)
    assert "\u202e" not in "".join(shown.screen.written)


def test_a_terminal_without_utf_8_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    monkeypatch.setattr(Screen, "encoding", "ascii")
    with shown.bar.steps("resolving", 10) as steps:
        steps.advance(5)
        assert shown.passes(1) == ["resolving  5/10 artifacts  ###############---------------"]


def test_a_terminal_that_has_gone_stops_nothing(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shown.screen, "write", gone)
    with shown.bar.steps("resolving", 12):
        shown.passes(1)
        shown.passes(1)


def test_a_thousand_items_draw_and_read_the_clock_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    reads = 0

    def now() -> float:
        nonlocal reads
        reads += 1
        return shown.time

    shown.bar.now = now
    with shown.bar.steps("resolving", 1000) as steps:
        for _ in range(1000):
            steps.advance()
    assert reads < 10
    assert shown.screen.written == []


def test_many_threads_lose_no_count(shown: Shown) -> None:
    with shown.bar.steps("resolving", 4000) as steps:

        def work() -> None:
            for _ in range(500):
                transfer = shown.bar.begin("x", 10)
                transfer.held(0)
                transfer.held(10)
                transfer.end()
                steps.advance()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bars(shown.passes(1))[0].startswith("resolving 4000/4000 artifacts  39.1 KiB")


# -- choosing the display


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, Bar),
        ({"NO_COLOR": "1"}, PlainProgress),
        ({"TERM": "dumb"}, PlainProgress),
        ({"TERM": ""}, PlainProgress),
        ({"NO_COLOR": ""}, Bar),
    ],
    ids=str,
)
def test_escape_codes_are_only_for_terminals_that_take_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], kind: type[Any]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert type(Report("toy", stderr=Screen()).progress) is kind
    assert type(Report("toy", stderr=io.StringIO()).progress) is PlainProgress
    assert type(Report("toy", stderr=Screen(), quiet=True).progress) is Silent


def test_forced_color_does_not_draw_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert type(Report("toy", stderr=io.StringIO()).progress) is PlainProgress


# -- in a log


class Log:
    """The lines of a log, with a clock that only the test moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.lines: list[str] = []
        self.plain = PlainProgress(self.lines.append, self.lines.append, now=lambda: self.time)


@pytest.fixture
def log() -> Log:
    return Log()


def test_progress_in_a_log_is_a_line_every_few_seconds(log: Log) -> None:
    transfer = log.plain.begin("toy", 4 << 20)
    for moment, held in ((1.0, 1), (5.0, 1 << 20), (6.0, 2 << 20), (9.9, 3 << 20), (10.0, 4 << 20)):
        log.time = moment
        transfer.held(held)
    transfer.end()
    assert log.lines == ["toy: 1.0 MiB of 4.0 MiB (25 %)", "toy: 4.0 MiB of 4.0 MiB (100 %)"]


def test_progress_of_an_empty_transfer(log: Log) -> None:
    transfer = log.plain.begin("toy", 0)
    log.time = 60.0
    transfer.held(0)
    assert log.lines == ["toy: 0 B of 0 B (0 %)"]


def test_a_log_has_a_line_now_and_then_and_not_one_per_item(log: Log) -> None:
    with log.plain.steps("resolving", 1000) as steps, log.plain.steps("throttled by 127.0.0.1:5000 for 12 s"):
        for number in range(1000):
            log.time = number * 0.012
            steps.advance()
    assert log.lines == [
        "resolving: 418/1000 artifacts; throttled by 127.0.0.1:5000 for 12 s",
        "resolving: 835/1000 artifacts; throttled by 127.0.0.1:5000 for 12 s",
    ]


def test_transfers_at_the_same_time_share_a_line(log: Log) -> None:
    rows = [log.plain.begin(f"{number}.tgz", 1 << 20) for number in range(16)]
    log.time = PLAIN_INTERVAL
    for row in rows:
        row.held(1 << 19)
    assert log.lines == ["16 transfers: 512 KiB of 16.0 MiB (3 %)"]


def test_short_work_in_a_row_has_lines_too(log: Log) -> None:
    for _ in range(5):
        with log.plain.steps("checking", 10, "blobs") as steps:
            log.time += 3
            steps.advance()
    assert len(log.lines) in (2, 3)


def test_a_wait_alone_has_no_line_since_it_has_a_message_of_its_own(log: Log) -> None:
    with log.plain.steps("connecting to mcr.microsoft.com"):
        log.time = 60
        with log.plain.steps("connecting to mcr.microsoft.com"):
            pass
    assert log.lines == []


def test_quiet_shows_warnings_only() -> None:
    warned: list[str] = []
    silent = Silent(warned.append)
    with silent.steps("resolving", 12) as steps:
        steps.grow(1)
        steps.advance()
        silent.note("not shown")
        silent.warn("shown")
    silent.begin("toy", 1).held(1)
    Silent().warn("not shown")
    assert warned == ["shown"]


# -- a command on a terminal


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_command_on_a_terminal_draws_and_cleans_up(mar: Registry, tmp_path: Path, environment: dict[str, str]) -> None:
    mar.on("tags").meanwhile(lambda: time.sleep(1), times=1)
    around = {**surroundings(mar, tmp_path / "cache"), "TERM": "xterm", **environment}
    code, out, seen = on_terminal(["versions", ALB, "--json"], around, tmp_path)
    assert code == 0
    assert json.loads(out)["ok"]
    assert ("\x1b" in seen) is ("reading the tag list" in seen) is (environment == {})
    screen = Screen(1000)
    screen.write(seen)
    (warning,) = screen.shown
    assert warning.startswith("warning: ")


def test_a_command_in_a_log_that_takes_no_time_shows_nothing(mar: Registry, tmp_path: Path) -> None:
    done = marfetch("versions", ALB, "--details", cwd=tmp_path, environment=surroundings(mar, tmp_path / "cache"))
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
