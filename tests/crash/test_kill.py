"""SIGKILL between any two system calls and at random times: final names never have wrong content, and the next run succeeds."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..world.real import distribution
from ..world.rows import row
from .scenes import SCENES, Stage, project
from .sweep import PATIENCE, SWEEP, Count, chosen
from .tracing import CHANGING, TALKING, Step, killed_after, killed_at, near, written_down

pytestmark = pytest.mark.timeout(PATIENCE)

POINTS = 24
"""Number of steps of a scene at which the command is killed. `make crash` uses all steps."""
LEAST = 25
"""Minimum number of kills in each scene: 200 for all eight scenes."""
MOMENTS = 40 if SWEEP else 4


@row(
    "F03",
    "SIGKILL before system calls and at random moments, 200 times and more in eight commands",
    "Leaves no wrong byte under a final name; the next run requests only what is missing and cleans up",
    code=0,
)
@pytest.mark.parametrize("name", SCENES)
def test_a_command_that_is_killed_leaves_nothing_wrong_and_the_next_run_ends_it(
    name: str, stage: Stage, count: Count, tmp_path: Path
) -> None:
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
    killed = missed = 0
    while points:
        point = points.pop(0)
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
        missed += ended.code == 0
        if not points and killed < LEAST:  # the order of the threads varies, so some steps may be done before
            assert missed < 2 * LEAST, f"only {killed} of {killed + missed} were killed in time"
            points.append(random.uniform(0, duration / 2))
    count("kill points", killed)


# -- uploads to a registry

ANY = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"


def asked(host: str, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request(method, f"/v2/{path}", headers={"Accept": ANY})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


def lacking(host: str, prefix: str, wanted: dict[str, tuple[str, list[str]]]) -> tuple[int, int]:
    """Count the missing blobs and manifests. Everything that an uploaded manifest refers to must exist."""
    blobs = manifests = 0
    for repository, (digest, own) in wanted.items():
        missing = [one for one in own if asked(host, "HEAD", f"{prefix}/{repository}/blobs/{one}")[0] != 200]
        status, raw = asked(host, "GET", f"{prefix}/{repository}/manifests/{digest}")
        tagged, same = asked(host, "GET", f"{prefix}/{repository}/manifests/2.0.0")
        assert status == 404 or (f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest and not missing), (repository, missing)
        assert tagged == 404 or (status == 200 and same == raw), repository
        blobs += len(missing)
        manifests += status == 404
    return blobs, manifests


@row(
    "F03",
    "SIGKILL during an upload to a registry",
    "Leaves no manifest without its content; the next run uploads only what is missing",
    code=0,
)
@pytest.mark.tool
def test_a_load_into_a_registry_that_is_killed_sends_what_is_missing_and_no_more(
    stage: Stage, tool: Callable[[str], Path], count: Count, tmp_path: Path
) -> None:
    place = stage.root / "prepared"
    project(place / "work", "2.0.0")
    assert stage.run(place, "lock", "--quiet").code == 0
    assert stage.run(place, "bundle", "create", "-o", "a.tar", "--quiet").code == 0
    locked = json.loads((place / "work" / "marfetch.lock").read_bytes())["artifacts"]
    wanted = {f"aks/{one['name']}": (one["digest"], [blob["digest"] for blob in (one["config"], *one["layers"])]) for one in locked}
    with distribution(tool("registry"), tmp_path / "registry") as host:

        def words(prefix: str) -> tuple[str, ...]:
            return ("bundle", "load", "a.tar", "--to", f"{host}/{prefix}", "--plain-http", "--json", "--quiet")

        steps, ended = written_down(stage.start(place, *words("whole")), tmp_path / "log", TALKING)
        assert ended.code == 0, ended
        mine = list({(one.name, one.number): one for one in steps if "socket:" in one.text or str(place) in one.text}.values())
        killed = 0
        for number, point in enumerate(mine if SWEEP else chosen(mine, POINTS)):
            killed += killed_at(stage.start(place, *words(f"p{number}")), point).code == -signal.SIGKILL
            blobs, _ = lacking(host, f"p{number}", wanted)
            ended = stage.run(place, *words(f"p{number}"))
            assert ended.code == 0, ended
            data = json.loads(ended.out)["data"]
            # The registry may have accepted up to three more uploads after the check above.
            assert blobs - 3 <= data["blobs"] <= blobs, f"{point}: {data}"
            assert lacking(host, f"p{number}", wanted) == (0, 0)
        count("kill points", killed)
        assert killed


# -- power failures: a trace shows whether files were flushed before they were renamed

_AT = r'\d+<(?P<{0}>[^>]*)>, "(?P<{1}>[^"]*)"'
_RENAMED = re.compile(_AT.format("above", "old") + ", " + _AT.format("there", "new"))


@row("F03", "a power failure at any moment", "Flushes every file in your directories to the disk before it gets its final name")
@pytest.mark.parametrize("name", ["pull", "pull-new", "untar", "sync", "lock", "bundle-create"])
def test_a_file_is_flushed_to_the_disk_before_it_gets_its_final_name(name: str, stage: Stage, tmp_path: Path) -> None:
    scene = SCENES[name]
    stage.prepare(scene)
    place = stage.fresh()
    steps, ended = written_down(stage.start(place, *scene.words), tmp_path / "log", "write,fsync,linkat,renameat,renameat2")
    assert ended.code == 0, ended
    dirty: set[str] = set()
    seen: set[str] = set()
    named = 0
    for step in steps:
        path = re.match(r"\d+<([^>]*)>", step.text)
        if step.name == "write" and path:
            dirty.add(path[1])
            seen.add(path[1])
        elif step.name == "fsync" and path:
            dirty.discard(path[1])
        elif (renamed := _RENAMED.match(step.text)) and " = -1 " not in step.text:
            part = f"{renamed['above']}/{renamed['old']}"
            inside = [one for one in seen if one == part or one.startswith(f"{part}/")]
            assert inside, f"nothing was written to `{part}`"
            assert not [one for one in inside if one in dirty], f"`{renamed['new']}` was renamed before its bytes were flushed to the disk"
            named += 1
    assert named
