"""`python -m benchmarks [one|range|hundred|bundle|thousand|spread|large|start]…`: the figures of docs/performance.md, measured here and now."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from tests import tools

from .bundle import SPREAD, bundled, spread, thousand
from .measure import Contender, race, table
from .stage import CHARTS, ROOT, ROUND_TRIP, Stage, real_stage, stage

LARGE = 512  # MiB
CHART = "bench/charts/chart0"


def marfetch(where: Stage, name: str, *arguments: str, files: int = 1) -> Contender:
    """marfetch with an empty cache."""
    environment = {**where.environment(), "PYTHONPATH": str(ROOT)}

    def prepare(directory: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "marfetch",
            *arguments,
            "-d",
            str(directory / "out"),
            "--cache-dir",
            str(directory / "cache"),
            "--quiet",
        ]

    return Contender(name, prepare, lambda directory: holds(directory / "out", files), environment)


def tool(where: Stage, name: str, program: str, script: str, *, files: int, folder: str = "out") -> Contender:
    """A real client, by a line for the shell in which `$T` is the client and `$H` the registry."""
    path = tools.find(program)
    if path is None:
        sys.exit(tools.missing(program))
    environment = {**where.environment(), "T": str(path), "H": where.host, "HELM_CACHE_HOME": str(where.directory / "helm")}

    def prepare(directory: Path) -> list[str]:
        (directory / "out").mkdir()
        return ["sh", "-ec", script]

    return Contender(name, prepare, lambda directory: holds(directory / folder, files), environment)


def holds(directory: Path, files: int) -> None:
    """The work was done when so many files are there."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    if len(found) < files:
        sys.exit(f"{directory} holds {len(found)} files, not {files}")


def one(runs: int) -> list[str]:
    """One chart by its exact version."""
    with stage(round_trip=ROUND_TRIP) as where:
        contenders = [
            tool(where, "helm 4", "helm4", f"$T pull oci://$H/{CHART} --version 1.2.3 -d out", files=1),
            tool(where, "helm 3", "helm3", f"$T pull oci://$H/{CHART} --version 1.2.3 -d out", files=1),
            tool(where, "regctl", "regctl", f"$T artifact get $H/{CHART}:1.2.3 > out/chart.tgz", files=1),
            tool(where, "oras cp", "oras", f"$T cp --from-plain-http=false $H/{CHART}:1.2.3 --to-oci-layout out/layout:1.2.3", files=4),
            marfetch(where, "marfetch", "pull", CHART, "--version", "1.2.3"),
        ]
        race(contenders, where.directory, runs=runs)
        return table(contenders, "helm 4")


def newest(runs: int) -> list[str]:
    """One chart by a range."""
    with stage(round_trip=ROUND_TRIP) as where:
        contenders = [
            tool(where, "helm 4", "helm4", f"$T pull oci://$H/{CHART} --version ^1.2 -d out", files=1),
            marfetch(where, "marfetch", "pull", CHART, "--version", "^1.2"),
        ]
        race(contenders, where.directory, runs=runs)
        return table(contenders, "helm 4")


def hundred(runs: int) -> list[str]:
    """A hundred charts by their exact versions."""
    with stage(round_trip=ROUND_TRIP) as where:
        numbers = f"seq 0 {CHARTS - 1}"
        side_by_side = f"{numbers} | xargs -P 16 -I N"
        refs = [f"bench/charts/chart{number}:1.2.3" for number in range(CHARTS)]
        contenders = [
            tool(
                where,
                "16 oras cp side by side",
                "oras",
                f"{side_by_side} $T cp --from-plain-http=false $H/bench/charts/chartN:1.2.3 --to-oci-layout out/N:1.2.3",
                files=CHARTS * 4,
            ),
            tool(
                where,
                "16 helm pull side by side",
                "helm4",
                f"{side_by_side} $T pull oci://$H/bench/charts/chartN --version 1.2.3 -d out",
                files=CHARTS,
            ),
            marfetch(where, "marfetch", "pull", *refs, files=CHARTS),
            marfetch(where, "marfetch --jobs 32", "pull", *refs, "--jobs", "32", files=CHARTS),
        ]
        race(contenders, where.directory, runs=runs)
        return table(contenders, "16 oras cp side by side")


def large(runs: int) -> list[str]:
    """One large file out of distribution's registry, without the delay: what counts is the way from the socket to the disk."""
    with real_stage(large=LARGE) as where:
        contenders = [
            tool(where, "oras pull", "oras", "$T pull --plain-http=false $H/bench/large:1.0.0 -o out", files=1),
            marfetch(where, "marfetch", "pull", "bench/large:1.0.0"),
        ]
        race(contenders, where.directory, runs=runs)
        return table(contenders, "oras pull")


def start(runs: int) -> list[str]:
    """What it takes to start."""
    with stage(round_trip=0) as where:
        environment = {**where.environment(), "PYTHONPATH": str(ROOT)}

        def python(name: str, *arguments: str) -> Contender:
            return Contender(name, lambda _: [sys.executable, *arguments], lambda _: None, environment)

        contenders = [
            python("python -c pass", "-c", "pass"),
            python("marfetch --version", "-m", "marfetch", "--version"),
            python("marfetch version", "-m", "marfetch", "version"),
        ]
        race(contenders, where.directory, runs=runs * 3)
        return table(contenders, "python -c pass")


SCENES = {
    "start": (start, "Starting"),
    "one": (one, f"One chart by exact version, {ROUND_TRIP} ms round trip, TLS, nothing cached"),
    "range": (newest, f"One chart by a range, {ROUND_TRIP} ms round trip, TLS, nothing cached"),
    "hundred": (hundred, f"{CHARTS} charts, {ROUND_TRIP} ms round trip, TLS, nothing cached"),
    "bundle": (bundled, f"A bundle of {CHARTS} charts, {ROUND_TRIP} ms round trip, TLS, nothing cached"),
    "thousand": (thousand, "A bundle of 1,000 charts: make, verify and load it into distribution's registry, no delay"),
    "spread": (spread, f"Load a bundle of {SPREAD} charts, {ROUND_TRIP} ms round trip: one machine, and workers of a scheduler"),
    "large": (large, f"One file of {LARGE} MiB, TLS, no delay, nothing cached"),
}


PAGE = ROOT / "docs" / "performance.md"
MARK = "<!-- What stands below is written by `make bench`. -->\n"


def main() -> None:
    """Measure what was named; everything is also written into the page."""
    runs = int(os.environ.get("RUNS", "5"))
    parts = [f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, {runs} runs each after one warm-up."]
    print(parts[0] + "\n")
    for name in sys.argv[1:] or SCENES:
        scene, title = SCENES[name]
        parts.append(f"## {title}\n\n" + "\n".join(scene(runs)))
        print(parts[-1] + "\n", flush=True)
    if not sys.argv[1:]:
        PAGE.write_text(PAGE.read_text().partition(MARK)[0] + MARK + "\n" + "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
