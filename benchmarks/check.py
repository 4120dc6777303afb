"""`python -m benchmarks.check`: check that marfetch has not become slower, by ratios that hardly depend on the load of the machine.

The ratios compare processor time (user and system) of whole commands with a bare Python that runs in turn with them. Round trips are
computed from the time that a longer link to the registry adds. Loaded modules and system calls are counted. A figure that is a third
worse than the stored one is measured again, and the check fails if it is still worse. `python -m benchmarks.check --store` writes the ratios to `benchmarks/ratios.json`.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import clients
from .measure import Contender, race
from .stage import ROOT, Stage, real_stage, stage

STORED = Path(__file__).with_name("ratios.json")
WORSE = 4 / 3
TRIES = 3
PAIRS = 7
CHARTS = 40
FILE = 64  # MiB
FAR, FARTHER = 300, 1500
"""Milliseconds of two ways: long enough that everything else is hidden behind them."""

_BARE_FETCH = """
import hashlib, http.client, os, ssl, sys
host, name = sys.argv[1].rsplit(":", 1)
asked = http.client.HTTPSConnection(host, int(name), context=ssl.create_default_context(cafile=sys.argv[2]))
asked.request("GET", sys.argv[3])
answer, hasher = asked.getresponse(), hashlib.sha256()
with open("out/file", "wb", buffering=0) as file:
    while piece := answer.read(1 << 20):
        hasher.update(piece)
        file.write(piece)
    os.fsync(file.fileno())
assert sys.argv[3].endswith(hasher.hexdigest())
"""


def _python(where: Stage, name: str, *arguments: str) -> Contender:
    def prepare(directory: Path) -> list[str]:
        (directory / "out").mkdir()
        return [sys.executable, "-P", *arguments]

    return Contender(name, prepare, lambda _: None, {**where.environment(), "PYTHONPATH": str(ROOT)})


def _compared(where: Stage, ours: Contender, bare: Contender) -> float:
    """Return the median ratio of processor time over all pairs of runs."""
    race([ours, bare], where.directory, runs=PAIRS)
    for one in (ours, bare):
        if not one.has_run:
            sys.exit(f"{one.name}: {one.failure}")
    return statistics.median(mine / theirs for mine, theirs in zip(ours.processor, bare.processor, strict=True))


def loading() -> float:
    """Compare `marfetch version` with a Python that does nothing."""
    with stage(round_trip=0, charts=1) as where:
        return _compared(where, _python(where, "version", "-m", "marfetch", "version"), _python(where, "bare", "-c", "pass"))


def one() -> float:
    """Compare one chart by exact version with a Python that only imports typer and oras-py."""
    with stage(round_trip=0, charts=1) as where:
        ours = clients.marfetch(where, "one chart", "pull", clients.CHART.format(0), "--version", "1.2.3")
        return _compared(where, ours, _python(where, "typer and oras-py", "-c", "import typer, oras.provider"))


def _output(where: Stage, charts: int, *before: str) -> str:
    """Pull charts, with this command line in front of the arguments of Python, and return what it writes to stderr."""
    names = [f"{clients.CHART.format(number)}:1.2.3" for number in range(charts)]
    ours = clients.marfetch(where, "charts", "pull", *names)
    directory = where.directory / "run"
    directory.mkdir()
    line = [*before, *list(ours.prepare(directory))[1:]]
    done = subprocess.run(line, cwd=directory, env=ours.environment, capture_output=True, text=True, check=False)
    shutil.rmtree(directory)
    if done.returncode:
        sys.exit(f"{line[:3]}: {done.stderr[-500:]}")
    return done.stderr


def modules() -> float:
    """Count the modules that a pull of one chart loads, those of Python and of other packages too."""
    with stage(round_trip=0, charts=1) as where:
        return len(re.findall(r"^import time: +[0-9]", _output(where, 1, sys.executable, "-X", "importtime"), re.MULTILINE))


def system_calls() -> float | None:
    """Count the system calls of one more chart, except waits and starts of threads; None without strace."""
    if shutil.which("strace") is None:
        return None
    counted = ["newfstatat", "stat", "lstat", "fstat", "openat", "close", "read", "write", "unlinkat", "linkat", "rename", "lseek", "fsync"]
    with stage(round_trip=0, charts=CHARTS) as where:
        strace = ("strace", "-f", "-c", "-e", "trace=" + ",".join(f"?{name}" for name in counted), sys.executable)
        total = [int(re.findall(r"(\d+) +(?:\d+ +)?total", _output(where, charts, *strace))[-1]) for charts in (1, CHARTS)]
    return (total[1] - total[0]) / (CHARTS - 1)


def many() -> float:
    """Compare forty charts with a Python that only imports oras-py."""
    with stage(round_trip=0, charts=CHARTS) as where:
        names = [f"{clients.CHART.format(number)}:1.2.3" for number in range(CHARTS)]
        ours = clients.marfetch(where, f"{CHARTS} charts", "pull", *names, files=CHARTS)
        return _compared(where, ours, _python(where, "oras-py", "-c", "import oras.provider"))


def large() -> float:
    """Compare a large file with a short Python script that reads, hashes and writes it; both include start-up time."""
    with real_stage([FILE]) as where:
        ours = clients.marfetch(where, "a file", "pull", f"{clients.LARGE}:{FILE}")
        path = next(path for path in (where.directory / "registry").rglob("data") if path.stat().st_size == FILE << 20)
        target = f"/v2/{clients.LARGE}/blobs/sha256:{path.parent.name}"
        return _compared(where, ours, _python(where, "bare", "-c", _BARE_FETCH, where.host, str(where.ca_file), target))


def round_trips() -> float:
    """Return the round trips that one chart by exact version waits for: the time difference between the fastest near and far runs."""
    quickest = []
    for distance in (FAR, FARTHER):
        with stage(round_trip=distance, charts=1) as where:
            ours = clients.marfetch(where, "one chart", "pull", clients.CHART.format(0), "--version", "1.2.3")
            race([ours], where.directory, runs=3, warm=False)
            if not ours.has_run:
                sys.exit(f"{ours.name}: {ours.failure}")
            quickest.append(min(ours.seconds))
    return (quickest[1] - quickest[0]) * 1000 / (FARTHER - FAR)


RATIOS: dict[str, Callable[[], float | None]] = {
    "loading": loading,
    "modules of one chart": modules,
    "system calls of one more chart": system_calls,
    "one chart": one,
    "forty charts": many,
    "file of 64 MiB": large,
    "round trips": round_trips,
}


def main(arguments: Sequence[str]) -> int:
    """Measure, then compare with the stored ratios or store them."""
    if list(arguments) == ["--store"]:
        measured = {name: measure() for name, measure in RATIOS.items()}
        STORED.write_text(json.dumps({name: round(one, 2) for name, one in measured.items() if one is not None}, indent=2) + "\n")
        return 0
    stored: dict[str, float] = json.loads(STORED.read_text())
    if set(stored) != set(RATIOS):
        sys.exit(f"{STORED.name} and what is measured have other names; store anew")
    slower = 0
    for name, measure in RATIOS.items():
        for number in range(1, TRIES + 1):
            found = measure()
            if found is None:
                print(f"{name}: not measured on this system", flush=True)
                break
            is_fine = found <= stored[name] * WORSE
            verdict = "fine" if is_fine else "measured anew" if number < TRIES else "WORSE BY A THIRD OR MORE"
            print(f"{name}: {found:.2f}, stored {stored[name]:.2f}: {verdict}", flush=True)
            if is_fine:
                break
        else:
            slower += 1
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
