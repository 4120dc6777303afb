"""Short soak tests: find leaks after a few hundred artifacts, clients or responses. `make soak` runs longer."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session, SessionOptions
from marfetch.endpoint import Preference
from marfetch.layout.layout import Layout
from marfetch.reference import Host, Reference

from ..world.link import Link
from ..world.paths import ROOT
from ..world.progress import Heard
from ..world.registry import Registry
from ..world.serving import Command
from ..world.soaking import JOBS

RESETS_AFTER = 256 << 10


def soaked(registry: Registry, directory: Path, batches: int, size: int, *more: str) -> list[dict[str, int]]:
    """Return the memory, file descriptors and threads of a process after each batch of pulls."""
    line = [sys.executable, "-m", "tests.world.soaking", registry.host, registry.data_host, directory, batches, size, *more]
    done = subprocess.run([str(word) for word in line], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def small(mar: Registry) -> Registry:
    """Add many small artifacts."""
    for number in range(320):
        mar.add_artifact(f"soak/a{number}", "1", (f"a{number}.bin", b"%d" % number * 100))
    return mar


@pytest.mark.slow
def test_one_client_holds_no_more_after_many_artifacts(small: Registry, tmp_path: Path) -> None:
    begin, *series = soaked(small, tmp_path, 8, 40)
    assert series[-1]["pulled"] == 320
    # A connection uses two file descriptors, and each job may keep a connection to each of the two hosts.
    assert max(one["descriptors"] for one in series) <= begin["descriptors"] + 4 * JOBS + 4
    # One thread pool for work on one host, a larger one for work on two hosts, the watchdog, and a thread that imports modules.
    assert max(one["threads"] for one in series) <= begin["threads"] + 3 * JOBS + 2
    assert series[-1]["memory"] - series[2]["memory"] <= 3 << 10  # at most 3 MiB more memory for 200 artifacts


@pytest.mark.slow
def test_many_clients_one_after_the_other_leave_nothing_behind(small: Registry, tmp_path: Path) -> None:
    _, *series = soaked(small, tmp_path, 30, 2, "anew")
    # The last thread of a client may not have ended yet.
    assert max(one["threads"] for one in series[1:]) <= series[0]["threads"] + 2
    assert max(one["descriptors"] for one in series[1:]) <= series[0]["descriptors"] + 2


@pytest.mark.parametrize("jobs", [1, 8])
def test_everything_arrives_over_a_link_that_resets_every_256_kib(recipe: Layout, tmp_path: Path, jobs: int) -> None:
    chance = random.Random(7)
    with Registry(recipe, names=Host("mar.test"), redirect=False) as registry:
        charts = {f"chart{number}": chance.randbytes(chance.randrange(100 << 10, 1200 << 10)) for number in range(10)}
        for name, data in charts.items():
            registry.add_artifact(f"aks/{name}", "1", (f"{name}.tgz", data))
        payload = sum(map(len, charts.values()))
        with Link(registry.port, lambda: RESETS_AFTER) as link:
            preference = Preference(option=f"http://{link.host}", data_hosts=())
            with Session(SessionOptions(preference, cache_dir=tmp_path / "cache", jobs=jobs), Heard()) as client:
                wanted = [Wanted(Reference.parse(f"{link.host}/aks/{name}:1")) for name in charts]
                done = pull(client, wanted, PullOptions(tmp_path / "out"))
        assert done.failed == ()
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
            f"{name}.tgz": data for name, data in charts.items()
        }
        assert link.resets >= len(charts)
        # A reset loses only bytes in the buffers of the connection.
        assert link.sent <= payload + link.resets * (160 << 10)


# -- serving


def held_by(process: subprocess.Popen[str]) -> dict[str, int]:
    directory = Path(f"/proc/{process.pid}")
    status = (directory / "status").read_text()
    return {
        "descriptors": len(list((directory / "fd").iterdir())),
        "threads": int(status.partition("Threads:")[2].split()[0]),
        "memory": int(status.partition("VmRSS:")[2].split()[0]),
    }


@pytest.mark.slow
def test_a_server_holds_no_more_after_thousands_of_answers(recipe: Layout, tmp_path: Path) -> None:
    with Command(recipe.root, "--port", 0, "--quiet", cwd=tmp_path) as one:
        port, process = one.port, one.process
        (repository, *_) = recipe.repositories()
        tag = recipe.tags(Reference(repository, Host("mar.test")))[0]
        series = []
        idle = held_by(process)["descriptors"]
        for _ in range(3):
            line = [sys.executable, "-m", "benchmarks.load", str(port), f"/v2/{repository}/manifests/{tag}", "50", "600"]
            done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            deadline = time.monotonic() + 30
            while held_by(process)["descriptors"] > idle + 2 and time.monotonic() < deadline:
                time.sleep(0.05)  # the server has not yet noticed that the clients disconnected
            series.append(held_by(process))
    assert {one["descriptors"] for one in series[1:]} == {series[1]["descriptors"]}
    assert {one["threads"] for one in series[1:]} == {series[1]["threads"]}
    assert series[-1]["memory"] - series[1]["memory"] <= 4 << 10
