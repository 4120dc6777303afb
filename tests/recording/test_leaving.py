"""Commands that leave before an answer is complete, a marfetch that is killed, and results that cannot be written."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..world.command import line, until
from ..world.listener import Listener
from .scene import CHART, Scene, answers, asking

pytestmark = pytest.mark.slow
MAR = f"https://mcr.microsoft.com/v2/{CHART}"


@pytest.fixture(autouse=True)
def curl(tool: Callable[[str], Path]) -> Path:
    """The program that most commands here run."""
    return tool("curl")


def added(scene: Scene, data: bytes) -> str:
    """Add a blob to the registry, and return its digest."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    scene.mar.blobs[digest] = data
    return digest


@pytest.mark.parametrize("size", [5000, 3 << 20])
def test_a_blob_is_recorded_whatever_the_command_read_of_it(scene: Scene, size: int) -> None:
    digest = added(scene, os.urandom(size))
    command = ["sh", "-c", f"curl -sH 'If-None-Match: \"{digest}\"' {MAR}/blobs/{digest}; curl -s {MAR}/blobs/{digest} | head -c 9 | wc -c"]
    scene.mar.on("data").drips(200_000, every=0.05)
    cold = scene.record(*command)
    warm = scene.record(*command, output="y.tar")
    assert (cold.returncode, warm.returncode) == (0, 0), cold.stderr + warm.stderr
    assert (scene.place / "x.tar").read_bytes() == (scene.place / "y.tar").read_bytes()
    assert list(scene.document()["repositories"][CHART]["blobs"]) == [digest]
    assert scene.replay(*command).returncode == 0


def test_a_failure_counts_when_the_command_no_longer_waits(scene: Scene) -> None:
    digest = added(scene, os.urandom(3 << 20))
    scene.mar.on("data").answers_with(bytes(3 << 20))
    assert scene.record("sh", "-c", f"curl -s {MAR}/blobs/{digest} | head -c 9 | wc -c").returncode == 5
    assert scene.document()["repositories"][CHART]["blobs"] == {}


def test_a_failed_command_does_not_wait_for_the_rest(scene: Scene) -> None:
    digest = added(scene, os.urandom(3 << 20))
    scene.mar.on("data").stalls_after(2 << 20)
    done = scene.record("sh", "-c", f"curl -s {MAR}/blobs/{digest} | head -c 9 | wc -c; exit 3", options=("--timeout", "60"))
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert scene.document()["repositories"][CHART]["blobs"] == {}


def test_a_404_of_a_blob_that_a_manifest_names_is_recorded(scene: Scene) -> None:
    scene.mar.on("blob").answers(404)
    code = (
        f"import requests as r; m = r.get('{MAR}/manifests/1.7.12').json();"
        f" print(r.get('{MAR}/blobs/' + m['layers'][0]['digest']).status_code)"
    )
    for done in (scene.record(sys.executable, "-c", code), scene.replay(sys.executable, "-c", code)):
        assert (done.returncode, done.stdout) == (0, "404\n"), done.stderr


def test_a_blob_of_another_repository_is_asked_for_there(scene: Scene) -> None:
    digest = added(scene, b"blob")
    scene.mar.on("blob", "dotnet/aspnet").answers(404)
    there, elsewhere = (["GET", f"/v2/{name}/blobs/{digest}", {}] for name in (CHART, "dotnet/aspnet"))
    cold, warm = scene.record(*asking(elsewhere, there)), scene.record(*asking(there, elsewhere), output="y.tar")
    assert [[one[0] for one in answers(done)] for done in (cold, warm)] == [[404, 200], [200, 404]]
    assert (scene.place / "x.tar").read_bytes() == (scene.place / "y.tar").read_bytes()


def test_a_killed_marfetch_leaves_no_certificates(scene: Scene) -> None:
    temporary = scene.place / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        line("record", "-o", "x.tar", "--", "sh", "-c", "touch begun; exec sleep 5"),
        cwd=scene.place,
        env=scene.environment(TMPDIR=str(temporary)),
        start_new_session=True,
    )
    until((scene.place / "begun").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not list(temporary.iterdir()))


@pytest.mark.parametrize(("own", "code"), [(0, 9), (3, 3)])
def test_a_summary_that_cannot_be_written_hides_nothing(scene: Scene, own: int, code: int) -> None:
    (scene.place / "d").mkdir()
    done = scene.record("sh", "-c", f"rmdir d; touch d; exit {own}", options=("--summary", "d/s.json"))
    assert done.returncode == code
    assert "recorded 0 requests" in done.stderr
    assert "d/s.json" in done.stderr


class _Hasty(Listener):
    """A web server that answers, and closes, before it has read all of a request."""

    def serve(self, client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        self._ended.wait(5)


def test_an_early_answer_of_another_host_is_passed_on(scene: Scene) -> None:
    (scene.place / "big").write_bytes(bytes(20 << 20))
    with _Hasty() as hasty:
        words = ["curl", "-sS", "-m", "20", "-o", os.devnull, "-w", "%{http_code}", "-T", str(Path("big")), f"http://{hasty.host}/"]
        done = scene.record(*words)
    assert done.stdout == "413", done.stderr
