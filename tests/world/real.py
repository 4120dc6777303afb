"""Run real programs on loopback: distribution's registry, helm, and a Dask scheduler with workers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .paths import ROOT


def run(*line: object, cwd: Path | None = None, **environment: str) -> str:
    """Run a program to its end, and return its stdout."""
    surroundings = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment}
    done = subprocess.run([str(word) for word in line], cwd=cwd, env=surroundings, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, line))}\n{done.stdout}{done.stderr}"
    return done.stdout


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def distribution(program: Path, directory: Path, *, tls: str | None = None, htpasswd: str | None = None, more: str = "") -> Iterator[str]:
    """Run distribution's registry, and yield `localhost:PORT`.

    Args:
        tls: the registry's TLS settings, as YAML; None: plain http.
        htpasswd: a line `user:bcrypt`; None: no login is required.
        more: further settings, as lines of YAML.
    """
    port = free_port()
    directory.mkdir()
    auth = ""
    if htpasswd is not None:
        (directory / "htpasswd").write_text(htpasswd + "\n")
        auth = f"auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}\n"
    (directory / "config.yml").write_text(
        f"{auth}{more}version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}}}}}\nhttp: {{addr: 127.0.0.1:{port}, tls: {tls or '{}'}}}\n"
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", directory / "config.yml"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
                break
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.05)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(10)


def package_chart(helm: Path, directory: Path, name: str, version: str, *, values: str = "replicas: 1\n") -> Path:
    """Create a chart, package it with helm, and return the path of the package."""
    source = directory / f"{name}-source"
    (source / "templates").mkdir(parents=True, exist_ok=True)
    (source / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: '9.9'\n")
    (source / "values.yaml").write_text(values)
    (source / "templates" / "cm.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    run(helm, "package", source, "-d", directory)
    return directory / f"{name}-{version}.tgz"


@contextlib.contextmanager
def cluster(place: Path, workers: int = 3) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Run a Dask scheduler with workers. Yield its address and the processes of the workers."""
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
        started += [subprocess.Popen(line, **common) for _ in range(workers)]  # type: ignore[call-overload]
        count = (
            "import sys; from distributed import Client; c = Client(sys.argv[1], timeout=20);"
            " c.wait_for_workers(int(sys.argv[2]), timeout=60); c.close()"
        )
        subprocess.run(
            [sys.executable, "-c", count, f"tcp://127.0.0.1:{port}", str(workers)],
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
