"""SIGKILL at every border between two system calls, and at any moment: nothing under a final name is ever wrong, and the next run ends it."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from .conftest import SWEEP, Count
from .scenes import SCENES, Stage
from .tracing import CHANGING, Step, killed_after, killed_at, near, written_down

POINTS = 26
"""Steps of a scene at which it is killed in a run of all tests; `make crash` takes all of them."""
MOMENTS = 40 if SWEEP else 4


def chosen(steps: list[Step], most: int) -> list[Step]:
    """So many steps: some of each name, in proportion to how many there are, the rare ones first."""
    by_name: dict[str, list[Step]] = {}
    for step in steps:
        by_name.setdefault(step.name, []).append(step)
    found: list[Step] = []
    for left, name in zip(range(len(by_name), 0, -1), sorted(by_name, key=lambda name: len(by_name[name])), strict=True):
        share = max(1, (most - len(found)) // left)
        own = by_name[name]
        found += own if len(own) <= share else [own[(2 * index + 1) * len(own) // (2 * share)] for index in range(share)]
    return found


@pytest.mark.parametrize("name", SCENES)
def test_a_command_that_is_killed_leaves_nothing_wrong_and_the_next_run_ends_it(name: str, stage: Stage, count: Count, tmp_path: Path) -> None:
    scene = SCENES[name]
    stage.prepare(scene)
    place = stage.fresh()
    begun = time.monotonic()
    steps, ended = written_down(stage.start(place, *scene.words), tmp_path / "log", CHANGING)
    duration = time.monotonic() - begun
    assert ended.code == 0, ended
    mine = near(steps, place)
    points: list[Step | float] = list(mine if SWEEP else chosen(mine, POINTS))
    seed = random.randrange(1 << 32)
    points += [random.Random(seed + index).uniform(0, duration) for index in range(MOMENTS)]
    killed = 0
    for point in points:
        place = stage.fresh()
        child = stage.start(place, *scene.words)
        ended = killed_at(child, point) if isinstance(point, Step) else killed_after(child, point)
        assert ended.code in (-signal.SIGKILL, 0), f"{point}: {ended}"
        killed += ended.code == -signal.SIGKILL
        try:
            stage.check_finals(scene, place)
            stage.check_cache(place)
            stage.check_recovery(scene, place)
            stage.check_cache(place)
        except AssertionError as error:
            error.add_note(f"killed at {point} ({point.text[:200] if isinstance(point, Step) else 'seconds'}) of `{name}`")
            raise
        stage.drop(place)
    count("kill points", killed)
    assert killed >= len(points) * 2 // 3, f"only {killed} of {len(points)} were killed in time"
