"""Work that is spread over machines: a real scheduler, three worker processes, one of them killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marfetch.bundle.creation import create
from marfetch.client import Client, Options
from marfetch.cluster import spread
from marfetch.endpoint import Preference
from marfetch.errors import InputError, RemoteError
from marfetch.layout.store import Layout
from marfetch.reference import Host

from .bundles import locked
from .conftest import Heard
from .real import distribution, free_port, run
from .registry import Registry

ROOT = Path(__file__).parents[1]
CHARTS = 60


@pytest.mark.parametrize(
    "address", ["", "dask://", "dask://host", "tcp://127.0.0.1:8786", "dask://a b:1", "dask://h:123456", "dask://u@h:1"]
)
def test_an_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(InputError) as caught, spread(address):
        pass
    assert caught.value.exit_code == 2


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError) as caught, spread("dask://127.0.0.1:8786"):
        pass
    assert "marfetch[dask]" in caught.value.hint


@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_is_not_there_is_told() -> None:
    with pytest.raises(RemoteError) as caught, spread(f"dask://127.0.0.1:{free_port()}"):
        pass
    assert caught.value.exit_code == 7


@contextlib.contextmanager
def cluster(place: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and three workers: the address, and the processes of the workers."""
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MARFETCH_CACHE_DIR": str(place / "worker-cache"),
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
    }
    common = {"cwd": place, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    line = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    started = [subprocess.Popen(line, **common)]  # type: ignore[call-overload]
    try:
        line = [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            f"tcp://127.0.0.1:{port}",
            "--no-dashboard",
            "--no-nanny",
            "--nthreads",
            "1",
            "--host",
            "127.0.0.1",
        ]
        started += [subprocess.Popen(line, **common) for _ in range(3)]  # type: ignore[call-overload]
        count = (
            "import sys; from distributed import Client; c = Client(sys.argv[1], timeout=20); c.wait_for_workers(3, timeout=60); c.close()"
        )
        subprocess.run(
            [sys.executable, "-c", count, f"tcp://127.0.0.1:{port}"],
            check=True,
            timeout=90,
            env=environment,
            cwd=place,
            stderr=subprocess.DEVNULL,
        )
        yield f"dask://127.0.0.1:{port}", started[1:]
    finally:
        for process in reversed(started):
            process.kill()
            process.wait(20)


@pytest.mark.tool
@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(tool: Callable[[str], Path], tmp_path: Path) -> None:
    from benchmarks.stage import fill

    layout = Layout(tmp_path / "layout")
    fill(layout, CHARTS)
    with Registry(layout, names=Host("bench.test")) as mar:
        preference = Preference(option=f"{mar.scheme}://{mar.host}", data_hosts=(mar.data_host,))
        with Client(Options(preference), Heard()) as one:
            items = [f"reference: bench/charts/chart{number}, version: 1.2.3" for number in range(CHARTS)]
            create(one, locked(one, tmp_path / "project", *items), tmp_path / "a.tar")
    with distribution(tool("registry"), tmp_path / "registry") as host, cluster(tmp_path) as (address, workers):
        line = [
            sys.executable,
            "-m",
            "marfetch",
            "bundle",
            "load",
            str(tmp_path / "a.tar"),
            "--to",
            host,
            "--plain-http",
            "--executor",
            address,
            "--json",
        ]
        with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as loading:
            repositories = tmp_path / "registry" / "docker" / "registry" / "v2" / "repositories" / "bench" / "charts"
            deadline = time.monotonic() + 60
            while not (repositories.is_dir() and len(list(repositories.iterdir())) >= 5) and time.monotonic() < deadline:
                time.sleep(0.01)
            if not repositories.is_dir():
                loading.terminate()
                pytest.fail(loading.communicate(timeout=30)[1])
            before = len(list(repositories.iterdir()))
            workers[0].send_signal(signal.SIGKILL)
            out, err = loading.communicate(timeout=100)
        assert loading.returncode == 0, err
        data = json.loads(out)["data"]
        assert 5 <= before < CHARTS, "the worker was killed in the middle"
        assert (len(data["artifacts"]), data["failed"]) == (CHARTS, [])
        again = run(
            sys.executable, "-m", "marfetch", "bundle", "load", tmp_path / "a.tar", "--to", host, "--plain-http", "--json", cwd=ROOT
        )
        assert {one["outcome"] for one in json.loads(again)["data"]["artifacts"]} == {"unchanged"}
