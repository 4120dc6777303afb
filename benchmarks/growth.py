"""How time, memory and requests grow with the number of artifacts, the number of tags, and the size of a file.

Each amount runs once, without added latency, against a copy of MAR on the same machine. The exponent compares an amount with the previous
one: 1 means that ten times as much takes ten times as long, 0 that the amount does not matter. It is that of the CPU time, less what the
smallest amount takes, because other programs and the start-up hardly change it.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from marfetch.layout.layout import Layout
from marfetch.reference import Host, Reference

from . import clients
from .stage import ROOT, Stage, real_stage, stage

ARTIFACTS = (1, 10, 100, 1000, 10_000)
TAGS = (10, 100, 1000, 10_000, 100_000)
SIZES = (1, 16, 256, 1024, 4096)  # MiB
_SPARE = 4
"""The free space that a file needs, as a multiple of its size: the registry, the cache and the destination have a copy each."""
_RUN = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024]))
"""
"""Runs a command and prints its exit code, CPU time and memory. The memory of a child is at least that of its parent, so this parent is small."""
_REQUEST = re.compile(rb"\b(?:GET|HEAD) https?://")


class Growth(NamedTuple):
    """What one amount took.

    Attributes:
        seconds: from start to end.
        processor: CPU time in seconds.
        peak: memory in MiB.
        requests: the requests that were sent.
    """

    amount: int
    seconds: float
    processor: float
    peak: int
    requests: int


def measure(where: Stage, amount: int, *arguments: str) -> Growth:
    """Run marfetch once with an empty cache, and count the requests in its log.

    Raises:
        SystemExit: it failed.
    """
    directory = where.directory / "run"
    directory.mkdir()
    line = [sys.executable, "-P", "-m", "marfetch", *arguments, "--cache-dir", str(directory / "cache"), "--verbose"]
    log = where.directory / "log"
    with log.open("wb") as errors:
        begun = time.perf_counter()
        environment = {**where.environment(), "PYTHONPATH": str(ROOT)}
        runner = [sys.executable, "-I", "-S", "-c", _RUN, *line]
        done = subprocess.run(runner, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=errors, check=True)
        took = time.perf_counter() - begun
    code, processor, peak = json.loads(done.stdout)
    said = log.read_bytes()
    if code:
        sys.exit(f"{' '.join(arguments[:3])}: {said[-500:].decode(errors='replace')}")
    shutil.rmtree(directory)
    return Growth(amount, took, processor, peak, len(_REQUEST.findall(said)))


def artifacts(counts: Sequence[int] = ARTIFACTS) -> Iterator[Growth]:
    """Sync a project with this many charts, which writes its lock file."""
    with stage(round_trip=0, charts=max(counts)) as where:
        measure(where, 1, "resolve", f"{clients.CHART.format(0)}:1.2.3")  # the registry reads its index at the first request
        for count in counts:
            place = where.directory / f"sync-{count}"
            place.mkdir()
            project = place / "marfetch.yaml"
            lines = [f"  - {{reference: {clients.CHART.format(number)}, version: 1.2.3}}\n" for number in range(count)]
            project.write_text("schema: 1\nartifacts:\n" + "".join(lines))
            yield measure(where, count, "sync", "--file", str(project))
            shutil.rmtree(place)  # with the charts, which the next amount would not download again


def tags(counts: Sequence[int] = TAGS) -> Iterator[Growth]:
    """Resolve a range in a repository with this many tags."""
    with stage(round_trip=0, charts=1) as where:
        layout, host = Layout(where.directory / "layout"), Host("bench.test")
        chart = layout.known(Reference("bench/charts/chart0", host, "1.2.3"))
        assert chart is not None, "the stage has put it there"
        for count in counts:
            for number in range(count):
                layout.tag(Reference(f"bench/tags/of{count}", host, f"1.{number // 100}.{number % 100}"), chart)
        layout.names.flush()
        measure(where, 1, "resolve", f"{clients.CHART.format(0)}:1.2.3")
        for count in counts:
            yield measure(where, count, "resolve", f"bench/tags/of{count}", "--version", ">=1.0")


def sizes(amounts: Sequence[int] = SIZES) -> Iterator[Growth]:
    """Pull one file of this many MiB, as far as the disk allows."""
    free = shutil.disk_usage(ROOT).free >> 20
    amounts = [size for size in amounts if sum(one for one in amounts if one <= size) + _SPARE * size < free]
    with real_stage(amounts) as where:
        for size in amounts:
            yield measure(where, size, "pull", f"{clients.LARGE}:{size}", "-d", "out")


def rows(what: str, found: Sequence[Growth]) -> list[str]:
    """Return the rows of the table for one kind of amount."""
    lines = []
    for number, one in enumerate(found):
        before = found[number - 1] if number else None
        grown = [point.processor - found[0].processor for point in (one, before) if point is not None]
        exponent = "–"
        if before is not None and len(grown) == 2 and min(grown) > 0:
            exponent = f"{math.log(grown[0] / grown[1]) / math.log(one.amount / before.amount):.2f}"
        figures = f"{one.seconds:.2f} s | {one.processor:.2f} s | {exponent} | {one.peak} MiB | {one.requests:,}"
        lines.append(f"| {what.format(f'{one.amount:,}')} | {figures} |")
    return lines


def table() -> list[str]:
    """Measure everything and return the table."""
    head = ["| amount | time | CPU time | exponent | peak memory | requests |", "|---|---|---|---|---|---|"]
    kinds = (("charts in a lock file (`sync`): {}", artifacts()), ("tags (`resolve`): {}", tags()), ("MiB in a file (`pull`): {}", sizes()))
    return head + [row for what, found in kinds for row in rows(what, list(found))]
