"""A full or broken disk at every system call that changes something: exit code 9, nothing half-written, and the next run succeeds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..world.rows import row
from .scenes import SCENES, Scene, Stage
from .sweep import PATIENCE, SWEEP, Count, chosen
from .tracing import CHANGING, Step, failed_at, near, written_down

pytestmark = pytest.mark.timeout(PATIENCE)

POINTS = 14
"""Number of steps of a scene that fail, one per run. `make crash` uses all steps."""
PLAYED = ("pull", "pull-new", "untar", "sync", "lock", "bundle-create", "bundle-load")
GROWING = ("write", "pwrite64", "fsync", "rename", "renameat", "renameat2", "link", "linkat", "mkdir", "mkdirat", "openat")
"""System calls that fail on a full disk. `openat` fails only if it creates a file."""
FULL = "error: .*the disk is full"
NEEDS = rf"{FULL}: \d+ bytes are needed and \d+ are free, at `|{FULL}, at `stdout`"
OTHER = {
    "EIO": ("write", "fsync", "openat", "renameat", "rename", "read", "pread64"),
    "EDQUOT": ("write", "openat", "mkdir", "mkdirat"),
    "EROFS": ("openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "linkat", "unlink", "unlinkat"),
    "EACCES": ("openat", "mkdir", "mkdirat", "rename", "renameat", "linkat", "unlinkat"),
    "EMFILE": ("openat",),
    "ENAMETOOLONG": ("openat", "mkdirat", "renameat"),
}


def steps_of(stage: Stage, scene: Scene, log: Path, calls: str = CHANGING) -> list[Step]:
    """Return the file system calls of a run without faults."""
    place = stage.fresh()
    steps, ended = written_down(stage.start(place, *scene.words), log, calls)
    assert ended.code == 0, ended
    stage.drop(place)
    return near(steps, place)


def fails_well(stage: Stage, scene: Scene, step: Step, error: str) -> int:
    """Let one call fail. The command must either report it with exit code 9, or succeed without the call.

    Returns:
        The exit code.
    """
    place = stage.fresh()
    ended = failed_at(stage.start(place, *scene.words), step, error)
    try:
        assert ended.code in (0, 9), ended
        assert "Traceback" not in ended.err, ended
        if ended.code == 9:
            assert "error: " in ended.err, ended
            assert "hint: " in ended.err, ended
            if error == "ENOSPC":
                assert re.search(NEEDS if step.name in ("write", "fsync") else FULL, ended.err), ended
            if error == "EDQUOT" and "O_RDONLY" not in step.text:  # a quota never makes a read fail
                assert "the quota is used up" in ended.err, ended
        else:
            stage.check_ended(place)
        stage.check_finals(scene, place)
        if ended.code == 9 and not step.name.startswith("unlink"):  # if `unlink` failed, the temporary file stays until the next run
            stage.check_tidy(place)
        stage.check_cache(place)
        stage.check_recovery(scene, place)
    except AssertionError as failure:
        failure.add_note(f"{error} at {step} ({step.text[:300]}) of `{scene.name}`: {ended}")
        raise
    stage.drop(place)
    return ended.code


@row(
    "F01",
    "ENOSPC at each system call that writes, flushes, renames or creates",
    "Says `the disk is full`, how much it needs and how much is free; leaves nothing incomplete",
    code=9,
)
@pytest.mark.parametrize("name", PLAYED)
def test_a_full_disk_at_any_call_is_reported_and_existing_files_stay(name: str, stage: Stage, count: Count, tmp_path: Path) -> None:
    scene = SCENES[name]
    stage.prepare(scene)
    mine = [
        step
        for step in steps_of(stage, scene, tmp_path / "log")
        if step.name in GROWING and (step.name != "openat" or "O_CREAT" in step.text)
    ]
    codes = [fails_well(stage, scene, step, "ENOSPC") for step in (mine if SWEEP else chosen(mine, POINTS))]
    count("ENOSPC points", len(codes))
    assert codes.count(9) >= len(codes) // 2, codes


@row(
    "F02",
    "EIO, EDQUOT, EROFS, EACCES, EMFILE or ENAMETOOLONG from a system call",
    "Names the file, or succeeds without that call",
    code=(9, 0),
)
@pytest.mark.parametrize("name", PLAYED)
def test_any_other_failure_of_a_call_is_reported_and_existing_files_stay(name: str, stage: Stage, count: Count, tmp_path: Path) -> None:
    scene = SCENES[name]
    stage.prepare(scene)
    steps = steps_of(stage, scene, tmp_path / "log", f"{CHANGING},read,pread64")
    for error, names in OTHER.items():
        mine = [step for step in steps if step.name in names]
        codes = [fails_well(stage, scene, step, error) for step in chosen(mine, 16 if SWEEP else 2)]
        count(f"{error} points", len(codes))
