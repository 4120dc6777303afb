"""Many processes download the same content at once. One of them is killed while the others wait for it."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from marfetch.oci import Digest

from ..world.rows import row
from .nursery import Child, Ended
from .scenes import PREPARED, SCENES, Stage, content, is_left, parts, tree
from .sweep import PATIENCE, Count
from .tracing import killed_at, near, written_down

pytestmark = pytest.mark.timeout(PATIENCE)

MANY = 32
LONGEST = 100.0
"""Time limit in seconds for all processes together, on a busy machine."""


def all_of(children: list[Child]) -> list[Ended]:
    deadline = time.monotonic() + LONGEST
    return [child.wait(max(0.1, deadline - time.monotonic())) for child in children]


def transfers(stage: Stage) -> Counter[str]:
    """Count how often each blob was requested from the data host."""
    return Counter(re.findall(r"[0-9a-f]{64}", " ".join(one.target for one in stage.mar.asked if one.kind == "data")))


def check_left(place: Path) -> None:
    left = [path for path in (place / "cache").rglob("*") if is_left(path)]
    assert not left, left
    assert not list(parts(place))


@row(
    "F06",
    "2, 8 and 32 processes pull the same artifacts into one cold cache",
    "All processes succeed; each blob is downloaded once",
    code=0,
)
@pytest.mark.parametrize("number", [2, 8, MANY])
def test_processes_that_pull_the_same_at_once_all_succeed_and_each_blob_comes_once(number: int, stage: Stage, count: Count) -> None:
    place = stage.root / PREPARED
    (place / "work").mkdir(parents=True)
    words = ("pull", "aks/one:2.0.0", "aks/two:2.0.0", "aks/toy:2.0.0", "--untar", "--quiet")
    stage.mar.on("data").drips(100_000, 0.1)
    # Half of the processes write to the same directory, the others each to a directory of their own.
    children = [stage.start(place, *words, "-d", "out" if index % 2 else f"out{index}") for index in range(number)]
    for child in children:
        child.go()
    ended = all_of(children)
    assert [one.code for one in ended] == [0] * number, ended
    wanted = tree(place / "work" / "out0")
    assert {path: wanted[path] for path in ("one.bin", "two.bin")} == {
        "one.bin": content("one 2", 300_000),
        "two.bin": content("two 2", 5_000),
    }
    assert all(tree(one) == wanted for one in (place / "work").iterdir())
    assert len(transfers(stage)) == 4
    assert max(transfers(stage).values()) == 1, transfers(stage)
    check_left(place)
    stage.check_cache(place)
    count("processes at once", number)


@row("F06", "32 processes sync one project", "All processes succeed; each blob is downloaded once", code=0)
def test_processes_that_sync_one_project_at_once_all_succeed(stage: Stage, count: Count) -> None:
    scene = SCENES["sync"]
    stage.prepare(scene)
    place = stage.fresh()
    stage.mar.honestly()
    stage.mar.on("data").drips(100_000, 0.1)
    children = [stage.start(place, *scene.words) for _ in range(MANY)]
    for child in children:
        child.go()
    ended = all_of(children)
    assert [one.code for one in ended] == [0] * MANY, [one for one in ended if one.code]
    assert max(transfers(stage).values()) == 1, transfers(stage)
    stage.check_ended(place)
    stage.check_tidy(place)
    check_left(place)
    stage.check_cache(place)
    count("processes at once", MANY)


@row(
    "F06",
    "one of 32 processes is killed during a download that the others wait for",
    "Another process resumes the download by range; all others succeed",
    code=0,
)
def test_waiting_processes_resume_the_download_of_a_killed_process(stage: Stage, count: Count) -> None:
    place = stage.root / PREPARED
    (place / "work").mkdir(parents=True)
    digest = Digest.of(content("one 2", 300_000)).encoded
    stage.mar.on("data", digest).stalls_after(100_000, times=1)
    words = ("pull", "aks/one:2.0.0", "-d", "out", "--quiet")
    first = stage.start(place, *words)
    first.go()
    part = place / "cache" / "ingest" / f"sha256-{digest}"
    deadline = time.monotonic() + LONGEST
    while not part.exists() or part.stat().st_size < 100_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    others = [stage.start(place, *words) for _ in range(MANY - 1)]
    for child in others:
        child.go()
    time.sleep(0.5)
    first.send(signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL
    ended = all_of(others)
    assert [one.code for one in ended] == [0] * (MANY - 1), [one for one in ended if one.code]
    asked = [one.headers.get("range") for one in stage.mar.asked if one.kind == "data" and digest in one.target]
    assert asked == [None, "bytes=100000-"]
    assert (place / "work" / "out" / "one.bin").read_bytes() == content("one 2", 300_000)
    stage.check_tidy(place)
    check_left(place)
    stage.check_cache(place)
    count("processes at once", MANY)


@row(
    "F06",
    "a process is killed while it holds the lock of the cache or of a project",
    "The operating system releases the lock, and the other processes succeed",
    code=0,
)
@pytest.mark.parametrize("held", ["cache/index.json", "marfetch.lock"])
def test_a_lock_is_released_when_its_process_is_killed(held: str, stage: Stage, tmp_path: Path, count: Count) -> None:
    scene = SCENES["lock"]
    stage.prepare(scene)
    place = stage.fresh()
    steps, _ = written_down(stage.start(place, *scene.words), tmp_path / "log", "rename,renameat")
    # The last step is the one that needs the lock.
    step = [one for one in near(steps, place) if re.search(rf'{re.escape(Path(held).name)}"\)', one.text)][-1]
    killed = 0
    for _ in range(6):  # another process may have written the file first
        place = stage.fresh()
        others = [stage.start(place, *scene.words) for _ in range(8)]
        victim = stage.start(place, *scene.words)
        begun = threading.Timer(0.05, lambda others: [child.go() for child in others], [others])
        begun.start()
        killed += killed_at(victim, step).code == -signal.SIGKILL
        begun.join()
        assert [one.code for one in all_of(others)] == [0] * 8
        stage.check_ended(place)
        stage.check_tidy(place)
        check_left(place)
        stage.check_cache(place)
        if killed:
            break
    assert killed
    count("processes at once", 9)
