"""Runs commands in turn and compares them run by run, so that a machine whose speed drifts does not decide."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Contender:
    """One way to do the work.

    Attributes:
        prepare: called before every run with an empty directory; gives the command line.
        check: called after every run with that directory; raises where the work was not done.
    """

    name: str
    prepare: Callable[[Path], Sequence[str]]
    check: Callable[[Path], None]
    environment: dict[str, str]
    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)  # KiB of the largest process

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def race(contenders: Sequence[Contender], scratch: Path, *, runs: int) -> None:
    """One warm-up each, then all of them in turn, `runs` times."""
    for number in range(runs + 1):
        for contender in contenders:
            directory = scratch / "run"
            directory.mkdir()
            line = contender.prepare(directory)
            log = scratch / "log"
            with log.open("w") as out:
                begun = time.perf_counter()
                process = subprocess.Popen(line, cwd=directory, env=contender.environment, stdout=out, stderr=subprocess.STDOUT)
                _, status, usage = os.wait4(process.pid, 0)
                took = time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                sys.exit(f"{contender.name} failed:\n{log.read_text()[-3000:]}")
            contender.check(directory)
            shutil.rmtree(directory)
            if number:
                contender.seconds.append(took)
                contender.peaks.append(usage.ru_maxrss)


def table(contenders: Sequence[Contender], base: str) -> list[str]:
    """A Markdown table: median and range, and the median of the ratios to the base, run by run."""
    reference = next(one for one in contenders if one.name == base)
    rows = ["| client | median | min – max | ratio | peak memory |", "|---|---|---|---|---|"]
    for one in contenders:
        ratios = [mine / theirs for mine, theirs in zip(one.seconds, reference.seconds, strict=True)]
        spread = f"{min(one.seconds):.2f} – {max(one.seconds):.2f} s"
        rows.append(f"| {one.name} | {one.median:.2f} s | {spread} | {statistics.median(ratios):.2f} | {max(one.peaks) // 1024} MiB |")
    return rows


def own_peak() -> int:
    """KiB that this process has used at most; a child's figure starts there."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
