"""`python -m benchmarks [start|official|one|range|artifacts|sizes|bundle|thousand|growth|spread]…`: measure the figures of docs/performance.md.

Without a name, measure everything and write the page with its charts. With names, measure these; `--write` also updates the page.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from . import clients, growth, machine, official
from .bundle import SPREAD, bundled, spread, thousand
from .measure import Contender, absent, race, table
from .stage import CHARTS, ROOT, ROUND_TRIP, Stage, real_stage, stage

DOCS = ROOT / "docs"
PAGE = DOCS / "performance.md"
MARK = "<!-- Everything below is written by `make bench`. -->\n"

DISTANCES = (0, ROUND_TRIP)  # milliseconds
COUNTS = (1, 10, 100, 1000)  # artifacts
SIZES = (1, 32, 256, 1024)  # MiB
ENOUGH = 60.0
"""Seconds for all runs of a client at one size. A client that would need more, estimated from the previous size, is skipped; the table says so."""

Figures: TypeAlias = dict[str, list[tuple[int, float]]]
"""Client → amounts and medians in seconds."""
Picture: TypeAlias = Callable[[Path], str]
"""Draw into a directory and return the Markdown line that shows the picture."""


class Scene:
    """A section of the page, with tables and optional pictures."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pictures: list[Picture] = []

    def add(self, *lines: str) -> None:
        """Add lines to the page, followed by an empty line."""
        self.lines += [*lines, ""]

    def bars(self, name: str, title: str, groups: dict[str, dict[str, float]]) -> None:
        """Add a bar chart that compares clients."""

        def draw(directory: Path) -> str:
            from .plot import bars

            bars(directory / name, title, groups)
            return f"![{title}]({name})"

        self.pictures.append(draw)

    def growth(self, name: str, title: str, axis: str, figures: Figures) -> None:
        """Add a chart of time by amount."""

        def draw(directory: Path) -> str:
            from .plot import growth

            growth(directory / name, title, axis, figures)
            return f"![{title}]({name})"

        self.pictures.append(draw)


def start() -> Scene:
    """Measure start-up time."""
    scene = Scene()
    with stage(round_trip=0, charts=1) as where:
        environment = {**where.environment(), "PYTHONPATH": str(ROOT)}

        def python(name: str, *arguments: str) -> Contender:
            return Contender(name, lambda _: [sys.executable, "-P", *arguments], lambda _: None, environment)

        contenders = [
            python("python -c pass", "-c", "pass"),
            python("marfetch --version", "-m", "marfetch", "--version"),
            python("marfetch version", "-m", "marfetch", "version"),
            python("python -c 'import oras.provider'", "-c", "import oras.provider"),
            clients.tool(where, "helm version", "helm4", "$T version", files=0),
            clients.tool(where, "oras version", "oras", "$T version", files=0),
        ]
        race(contenders, where.directory, runs=9)
        scene.add(*table(contenders, "python -c pass"))
    return scene


def _near_and_far(make: Callable[[Stage], list[Contender]], picture: str, title: str) -> Scene:
    scene = Scene()
    groups: dict[str, dict[str, float]] = {}
    for distance in reversed(DISTANCES):
        with stage(round_trip=distance, charts=1) as where:
            contenders = make(where)
            race(contenders, where.directory, runs=5)
        scene.add(f"Round trip {distance} ms:")
        scene.add(*table(contenders, "helm 4"))
        groups[f"{distance} ms"] = {one.name: one.median for one in contenders if one.has_run}
    scene.bars(picture, title, groups)
    return scene


def one() -> Scene:
    """Measure one chart by its exact version."""
    return _near_and_far(clients.one_chart, "performance-one.svg", "One chart by exact version")


def newest() -> Scene:
    """Measure one chart by a range."""
    return _near_and_far(clients.a_range, "performance-range.svg", "One chart by a range")


def _step(
    contenders: list[Contender], figures: Figures, amount: int, scratch: Path, *, runs: int, warm: bool, base: str, what: str
) -> list[str]:
    """Measure one amount with all clients that are expected to be fast enough; return lines for the page."""
    for number, contender in enumerate(contenders):
        before = figures.setdefault(contender.name, [])
        if before and contender.missing is None:
            known, seconds = before[-1]
            # Start-up time is constant, so a proportional estimate is an upper bound.
            expected = seconds * amount / known
            if expected * (runs + warm) > ENOUGH and not contender.name.startswith("marfetch"):
                contenders[number] = absent(contender.name, f"skipped: about {expected:.0f} s, estimated from {known:,} {what}")
    race(contenders, scratch, runs=runs, warm=warm)
    for contender in contenders:
        if contender.has_run:
            figures[contender.name].append((amount, contender.median))
    return table(contenders, base)


def artifacts() -> Scene:
    """Measure time by number of artifacts."""
    scene = Scene()
    for distance in reversed(DISTANCES):
        figures: Figures = {}
        with stage(round_trip=distance, charts=max(COUNTS)) as where:
            for count in COUNTS:
                runs, warm = (3, True) if count <= 10 else (3 if count <= 100 else 1, False)
                scene.add(f"{count:,} {'chart' if count == 1 else 'charts'}, round trip {distance} ms:")
                made = clients.many(where, count)
                scene.add(*_step(made, figures, count, where.directory, runs=runs, warm=warm, base="oras cp, 16 at once", what="charts"))
        title = f"Charts by exact version, round trip {distance} ms"
        scene.growth(f"performance-artifacts-{distance}.svg", title, "charts", figures)
    return scene


def sizes() -> Scene:
    """Measure time by file size."""
    scene = Scene()
    for distance in DISTANCES:
        figures: Figures = {}
        with real_stage(SIZES, round_trip=distance) as where:
            for size in SIZES:
                runs, warm = (3, True) if size <= 32 else (3 if size <= 256 else 2, False)
                scene.add(f"{size:,} MiB, round trip {distance} ms:")
                made = clients.one_file(where, size)
                scene.add(*_step(made, figures, size, where.directory, runs=runs, warm=warm, base="oras pull", what="MiB"))
        title = f"One file, round trip {distance} ms"
        scene.growth(f"performance-sizes-{distance}.svg", title, "MiB", figures)
    return scene


def first_runs() -> Scene:
    """Measure what `pip install` makes of the wheel, under the official names, with an empty cache and an unknown data host."""
    scene = Scene()
    if why := official.reason():
        scene.add(f"Not measured: {why}.")
        return scene
    official.plain()
    for distance in reversed(DISTANCES):
        scene.add(official.inside(str(distance)).strip())
    return scene


def _plain(make: Callable[[int], list[str]], runs: int) -> Callable[[], Scene]:
    def scene() -> Scene:
        made = Scene()
        made.add(*make(runs))
        return made

    return scene


SCENES: dict[str, tuple[Callable[[], Scene], str]] = {
    "start": (start, "Start-up"),
    "official": (first_runs, "As on a new CI runner: installed by pip, the official names, empty caches, TLS"),
    "one": (one, "One chart by exact version, TLS, empty caches"),
    "range": (newest, "One chart by a range, TLS, empty caches"),
    "artifacts": (artifacts, f"{', '.join(f'{count:,}' for count in COUNTS)} charts, TLS, empty caches"),
    "sizes": (sizes, f"One file of {', '.join(f'{size:,}' for size in SIZES)} MiB, TLS, empty caches"),
    "bundle": (_plain(bundled, 3), f"A bundle of {CHARTS} charts, {ROUND_TRIP} ms round trip, TLS, empty caches"),
    "thousand": (_plain(thousand, 1), "A bundle of 1,000 charts: create, verify, and load into distribution's registry, no delay"),
    "growth": (_plain(lambda _: growth.table(), 1), "How cost grows, TLS, empty caches, no delay"),
    "spread": (
        _plain(spread, 2),
        f"Loading a bundle of {SPREAD} charts, {ROUND_TRIP} ms round trip: one machine, and workers of a Dask scheduler",
    ),
}


def measured(names: Sequence[str]) -> list[tuple[str, Scene]]:
    """Run the benchmarks and print each result."""
    found = []
    for name in names:
        make, title = SCENES[name]
        begun = time.monotonic()
        scene = make()
        print(f"## {title}\n\n" + "\n".join(scene.lines) + f"({time.monotonic() - begun:.0f} s)\n", flush=True)
        found.append((title, scene))
    return found


def main() -> None:
    """Run the named benchmarks, or all; replace their sections of the page."""
    named = [name for name in sys.argv[1:] if name != "--write"]
    if unknown := [name for name in named if name not in SCENES]:
        sys.exit(f"there is no {' or '.join(unknown)}; there are {', '.join(SCENES)}")
    described = machine.described()
    print("\n\n".join(described) + "\n", flush=True)
    scenes = measured(named or list(SCENES))
    if named and "--write" not in sys.argv:
        return
    above, _, below = PAGE.read_text().partition(MARK)
    parts = dict(re.findall(r"^## ([^\n]+)\n\n(.+?)(?=\n\n## |\Z)", below.strip(), re.MULTILINE | re.DOTALL))
    for title, scene in scenes:
        pictures = [draw(DOCS) for draw in scene.pictures]
        parts[title] = "\n".join([*(line for picture in pictures for line in (picture, "")), *scene.lines]).strip()
    ordered = [f"## {title}\n\n{parts[title]}" for _, title in SCENES.values() if title in parts]
    PAGE.write_text(above + MARK + "\n" + "\n\n".join([*described, *ordered]) + "\n")


if __name__ == "__main__":
    main()
