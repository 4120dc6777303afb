"""Real programs on loopback: distribution's registry, and charts for it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


def run(*line: object, cwd: Path | None = None, **environment: str) -> str:
    """Run a program to its end and give what it printed on stdout."""
    surroundings = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment}
    done = subprocess.run([str(word) for word in line], cwd=cwd, env=surroundings, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, line))}\n{done.stdout}{done.stderr}"
    return done.stdout


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def distribution(program: Path, directory: Path, *, tls: str | None = None, htpasswd: str | None = None) -> Iterator[str]:
    """Distribution's registry; gives `localhost:PORT`.

    Args:
        tls: its TLS settings, as YAML; None: plain http.
        htpasswd: a line of `user:bcrypt`; None: everybody may write.
    """
    port = free_port()
    directory.mkdir()
    auth = ""
    if htpasswd is not None:
        (directory / "htpasswd").write_text(htpasswd + "\n")
        auth = f"auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}\n"
    (directory / "config.yml").write_text(
        f"{auth}version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}}}}}\nhttp: {{addr: 127.0.0.1:{port}, tls: {tls or '{}'}}}\n"
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


def package_chart(helm: Path, directory: Path, name: str, version: str) -> Path:
    """A chart, packaged by helm itself."""
    source = directory / f"{name}-source"
    (source / "templates").mkdir(parents=True, exist_ok=True)
    (source / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: '9.9'\n")
    (source / "values.yaml").write_text("replicas: 1\n")
    (source / "templates" / "cm.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    run(helm, "package", source, "-d", directory)
    return directory / f"{name}-{version}.tgz"
