"""Run commands in turn and compare them run by run, so that a machine whose speed drifts affects all of them alike."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LONGEST = 150.0
"""Timeout of one run in seconds; the table shows it."""


class NotDoneError(Exception):
    """A client did not do the work, whatever its exit code."""


@dataclass
class Contender:
    """A client in a comparison.

    Attributes:
        prepare: called before every run with an empty directory; returns the command line.
        check: called after every run with that directory; raises `NotDoneError` if the work is incomplete.
        missing: why the client cannot run; shown instead of figures.
        failure: error of a failed run; shown instead of figures, and no more runs follow.
    """

    name: str
    prepare: Callable[[Path], Sequence[str]]
    check: Callable[[Path], None]
    environment: dict[str, str]
    missing: str | None = None
    failure: str | None = None
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)  # seconds of user and system, of all its processes
    peaks: list[int] = field(default_factory=list)  # KiB of the largest process

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def has_run(self) -> bool:
        """Whether the client has results."""
        return self.missing is None and self.failure is None and bool(self.seconds)


def absent(name: str, reason: str) -> Contender:
    """Return a client without results for a table."""
    return Contender(name, lambda _: [], lambda _: None, {}, missing=reason)


def race(contenders: Sequence[Contender], scratch: Path, *, runs: int, warm: bool = True) -> None:
    """Run all clients in turn, `runs` times.

    Args:
        warm: start with one run that does not count.
    """
    for number in range(runs + warm):
        for contender in contenders:
            if contender.missing is None and contender.failure is None:
                _run(contender, scratch, counts=number >= warm)


def _run(contender: Contender, scratch: Path, *, counts: bool) -> None:
    directory = scratch / "run"
    directory.mkdir()
    try:
        line = contender.prepare(directory)
        log = scratch / "log"
        with log.open("w") as out:
            begun = time.perf_counter()
            process = subprocess.Popen(
                line, cwd=directory, env=contender.environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
            late = _deadline(process)
            _, status, usage = os.wait4(process.pid, 0)
            took = time.perf_counter() - begun
            late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if took >= LONGEST:
            contender.failure = f"not finished after {LONGEST:.0f} s"
        elif process.returncode != 0:
            said = log.read_text(errors="replace").strip().splitlines()
            contender.failure = f"exit {process.returncode}: {said[-1][:160] if said else 'no output'}"
        else:
            try:
                contender.check(directory)
            except NotDoneError as error:
                contender.failure = str(error)
        if contender.failure is None and counts:
            contender.seconds.append(took)
            contender.processor.append(usage.ru_utime + usage.ru_stime)
            contender.peaks.append(usage.ru_maxrss)
    finally:
        shutil.rmtree(directory)


def _deadline(process: subprocess.Popen[bytes]) -> threading.Timer:
    """Kill a process and its children after a timeout."""

    def end() -> None:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(LONGEST, end)
    timer.daemon = True
    timer.start()
    return timer


def ratio(one: Contender, reference: Contender) -> float:
    """Return the median of the ratios of each run."""
    return statistics.median(mine / theirs for mine, theirs in zip(one.seconds, reference.seconds, strict=True))


def table(contenders: Sequence[Contender], base: str) -> list[str]:
    """Return a Markdown table: median and range, and the median ratio to the base client over all runs."""
    reference = next(one for one in contenders if one.name == base)
    rows = ["| client | median | min – max | ratio | CPU time | peak memory |", "|---|---|---|---|---|---|"]
    for one in contenders:
        if not one.has_run:
            rows.append(f"| {one.name} | {_cell(one.missing or f'fails: {one.failure}')} | | | | |")
            continue
        spread = f"{min(one.seconds):.2f} – {max(one.seconds):.2f} s"
        compared = f"{ratio(one, reference):.2f}" if reference.has_run else "–"
        used = f"{statistics.median(one.processor):.2f} s"
        rows.append(f"| {one.name} | {one.median:.2f} s | {spread} | {compared} | {used} | {max(one.peaks) // 1024} MiB |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
