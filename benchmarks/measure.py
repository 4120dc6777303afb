"""Runs whole command lines in turn and compares them run by run, so that a machine whose speed drifts does not decide."""

from __future__ import annotations

import os
import resource
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
"""Seconds for one run of one client; it is ended then, and the table says so."""


class NotDoneError(Exception):
    """The work was not done, whatever the exit code says."""


@dataclass
class Contender:
    """One way to do the work.

    Attributes:
        prepare: called before every run with an empty directory; gives the command line.
        check: called after every run with that directory; raises `NotDoneError` where the work was not done.
        missing: why there is nothing to run; shown in place of figures.
        failure: what went wrong in a run; it is shown, and there are no more runs.
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
        """Whether there are figures."""
        return self.missing is None and self.failure is None and bool(self.seconds)


def absent(name: str, reason: str) -> Contender:
    """A line of a table without figures."""
    return Contender(name, lambda _: [], lambda _: None, {}, missing=reason)


def race(contenders: Sequence[Contender], scratch: Path, *, runs: int, warm: bool = True) -> None:
    """All of them in turn, `runs` times.

    Args:
        warm: one run before, which does not count.
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
    """Ends a process with all its children when it takes too long."""

    def end() -> None:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(LONGEST, end)
    timer.daemon = True
    timer.start()
    return timer


def ratio(one: Contender, reference: Contender) -> float:
    """The median of the ratios run by run."""
    return statistics.median(mine / theirs for mine, theirs in zip(one.seconds, reference.seconds, strict=True))


def table(contenders: Sequence[Contender], base: str) -> list[str]:
    """A Markdown table: median and range, and the median of the ratios to the base, run by run."""
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


def own_peak() -> int:
    """KiB that this process has used at most; a child's figure starts there."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
