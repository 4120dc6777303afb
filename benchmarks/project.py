"""Measure `marfetch bump --check` in a large project, 40 ms away: `python -m benchmarks.project`.

The project has 5,000 files with 300 places that name 50 charts. Most other files are Kubernetes manifests and values files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .stage import ROOT, ROUND_TRIP, stage

FILES, PLACES, CHARTS = 5000, 300, 50
RUNS = 5
WANTED = 3.0
"""Seconds for one run."""

_IMAGES = "kind: Deployment\nspec:\n  containers:\n" + "".join(
    f"  - {{name: c{n}, image: 'mcr.microsoft.com/a/b{n}:1.0.{n}'}}\n" for n in range(8)
)
_OTHER = {
    "deploy.yaml": _IMAGES,
    "values.yaml": "".join(f"key{number}:\n  a: {number}\n  b: [1, 2, 3]\n" for number in range(60)),
    "main.tf": 'resource "x" "y" {\n  a = "b"\n}\n' * 20,
    "build.sh": "#!/bin/sh\necho building\n" * 20,
    "main.go": "package main\n" * 200,
}


def make(top: Path, host: str) -> None:
    """Write the files of the project."""
    (top / ".git").mkdir()
    (top / ".gitignore").write_text("build/\n*.log\n/dist\n")
    others = list(_OTHER.items())
    for number in range(FILES):
        directory = top / f"team{number % 100}" / f"app{number // 100 % 10}"
        directory.mkdir(parents=True, exist_ok=True)
        if number < PLACES:
            source = f"repoURL: {host}/bench/charts\n    chart: chart{number % CHARTS}\n    targetRevision: 1.0.0"
            (directory / f"{number}.yaml").write_text(f"kind: Application\nspec:\n  source:\n    {source}\n")
        else:
            name, text = others[number % len(others)]
            (directory / f"{number}-{name}").write_text(text)


def main() -> None:
    """Print the time of each run; fail if the fastest one takes too long."""
    seconds = []
    with tempfile.TemporaryDirectory() as place, stage(round_trip=ROUND_TRIP, charts=CHARTS) as where:
        make(Path(place), where.host)
        environment = {**where.environment(), "PYTHONPATH": str(ROOT)}
        for _ in range(RUNS):
            begun = time.perf_counter()
            words = [sys.executable, "-m", "marfetch", "bump", "--check", "--quiet"]
            done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
            seconds.append(time.perf_counter() - begun)
            assert (done.returncode, len(done.stdout.splitlines())) == (1, PLACES), done.stderr
    print(f"{FILES} files, {PLACES} places, {CHARTS} repositories: " + ", ".join(f"{one:.2f} s" for one in seconds))
    assert min(seconds) < WANTED


if __name__ == "__main__":
    main()
