"""Run marfetch as a separate process, on a pseudo terminal, or in this process."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from marfetch.__main__ import main

from .paths import ROOT
from .registry import Registry

Run = Callable[..., subprocess.CompletedProcess[str]]
"""The fixture `run`."""
Call = Callable[..., tuple[int, str, str]]
"""The fixture `call`."""
Answered = Callable[..., tuple[int, dict[str, Any]]]
"""The fixture `answered`."""


def line(*words: object, module: str = "marfetch") -> list[str]:
    """Return a command line that runs marfetch in a process with the environment of `surroundings`."""
    return [sys.executable, "-m", module, *map(str, words)]


def surroundings(registry: Registry | None = None, cache: Path | None = None, **more: str) -> dict[str, str]:
    """Return an environment without the user's settings, with the home directory of the test and the marfetch of this checkout.

    Args:
        registry: the registry to use as the endpoint; None: the default endpoint.
        cache: the cache directory; None: the default below the home directory.
        more: further variables, which override the others.
    """
    found = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "PYTHONPATH": str(ROOT),
        # Older typer uses names that newer click has deprecated.
        "PYTHONWARNINGS": "error,ignore:'click.:DeprecationWarning",
    }
    if cache is not None:
        found["MARFETCH_CACHE_DIR"] = str(cache)
    if registry is not None:
        found |= {"MARFETCH_ENDPOINT": f"{registry.scheme}://{registry.host}", "MARFETCH_DATA_HOSTS": registry.data_host}
    return found | more


def marfetch(
    *words: object, cwd: Path, environment: dict[str, str] | None = None, timeout: float = 100, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Args:
        environment: the environment variables; None: `surroundings()`.
    """
    if "stdout" not in options:
        options["stdout"] = subprocess.PIPE
    given = surroundings() if environment is None else environment
    return subprocess.run(line(*words), cwd=cwd, env=given, stderr=subprocess.PIPE, text=True, timeout=timeout, check=False, **options)


def started(*words: object, cwd: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command whose output is captured."""
    given = surroundings() if environment is None else environment
    return subprocess.Popen(line(*words), cwd=cwd, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a command, and return its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def until(happened: Callable[[], object]) -> None:
    """Wait until `happened` returns a true value."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON object on stdout."""
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout + done.stderr
    parsed: dict[str, Any] = json.loads(lines[0])
    assert parsed["schema"] == 1
    assert parsed["ok"] is (done.returncode == 0)
    return parsed


class Window:
    """A pseudo terminal with the given size."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.stream = io.TextIOWrapper(io.FileIO(follower, "w"), encoding="utf-8", write_through=True)
        self._seen = bytearray()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        with os.fdopen(self._leader, "rb", buffering=0) as leader:
            while True:
                try:
                    piece = leader.read(65536)
                except OSError:  # the other end is closed
                    return
                if not piece:
                    return
                self._seen += piece

    def text(self) -> str:
        """Close the terminal, and return the text that was written to it."""
        self.stream.close()
        self._reading.join(60)
        return self._seen.decode().replace("\r\n", "\n")


def on_terminal(arguments: list[str], environment: dict[str, str], cwd: Path) -> tuple[int, str, str]:
    """Run a command with stderr on a pseudo terminal. Return the exit code, stdout, and the text on the terminal."""
    window = Window()
    process = subprocess.Popen(
        line(*arguments), cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, stdout=subprocess.PIPE, stderr=window.stream, text=True
    )  # fmt: skip
    out, _ = process.communicate(timeout=60)
    return process.returncode, out, window.text()


def in_window(words: Sequence[object], columns: int, rows: int) -> tuple[int, str, str]:
    """Run a command in this process with stdout and stderr on separate pseudo terminals. Return the exit code and both texts."""
    out, err = Window(columns, rows), Window(columns, rows)
    with redirect_stdout(out.stream), redirect_stderr(err.stream), patch.object(sys, "__stdout__", out.stream):
        code = main([*map(str, words)])
    return code, out.text(), err.text()


def in_pipe(words: Sequence[object]) -> tuple[int, str, str]:
    """Run a command in this process with stdout and stderr in separate pipes. Return the exit code and both texts."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*map(str, words)])
    return code, out.getvalue(), err.getvalue()
