"""A server process that imports marfetch once and forks a child for each command, so that starting a command is fast.
Each child can be killed and traced. Run this file as a program to start the server process. Tests control it with `Nursery`.

The protocol is JSON lines. The response to `{"do": "start", …}` is `{"pid": N}`. The response to `{"do": "wait", "pid": N, …}` says how the
child ended. A child stops before it runs the command until it gets SIGCONT, so that a test can first attach a tracer or set limits.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
MODULES = [
    "concurrent.futures",
    "ctypes",
    "yaml",
    "semver",
    "rapidfuzz",
    "oras.provider",
    "oras.defaults",
    "requests",
    "marfetch.__main__",
    "marfetch.cli.pull",
    "marfetch.cli.project",
    "marfetch.cli.bundle",
    "marfetch.render.bundle",
    "marfetch.cli.cache",
    "marfetch.render.project",
    "marfetch.render.pull",
    "marfetch.client.pull",
    "marfetch.project.sync",
    "marfetch.project.locking",
    "marfetch.bundle.create",
    "marfetch.bundle.load",
    "marfetch.bundle.check",
    "marfetch.remote.registry",
    "marfetch.remote.push",
    "marfetch.destination.unpack",
    "marfetch.layout.maintenance",
    "marfetch.client.workers",
]


@dataclass
class Ended:
    """The result of a child that has ended.

    Attributes:
        code: the exit code; if negative, the number of the signal that ended the child.
    """

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out[:3000]}{self.err[:3000]}"


@dataclass
class Child:
    """A child process that runs a command."""

    nursery: Nursery = field(repr=False)
    pid: int
    out: Path
    err: Path

    def go(self) -> None:
        """Start the command."""
        os.kill(self.pid, signal.SIGCONT)

    def send(self, number: int) -> None:
        """Send a signal to the child, unless it has ended. Its process id is not reused before `wait`, because it stays a zombie."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = 60.0) -> Ended:
        """Wait until the child has ended.

        Raises:
            TimeoutError: the child took longer, and was killed.
        """
        answer = self.nursery.ask(do="wait", pid=self.pid, seconds=seconds)
        ended = Ended(answer["code"], self.out.read_text(errors="replace"), self.err.read_text(errors="replace"))
        if answer["late"]:
            raise TimeoutError(f"not done after {seconds:.0f} s: {ended}")
        return ended


class Nursery:
    """The server process, controlled through its protocol. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__))],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, **words: Any) -> dict[str, Any]:
        """Send a message and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def start(self, *words: str, cwd: Path, environment: dict[str, str], limits: dict[str, int] | None = None) -> Child:
        """Start a command, which waits for `go`.

        Args:
            limits: resource limits, such as `{"RLIMIT_NOFILE": 32}`.
        """
        self._number += 1
        out, err = (self._directory / f"{self._number}.{name}" for name in ("out", "err"))
        answer = self.ask(do="start", words=words, cwd=str(cwd), environment=environment, out=str(out), err=str(err), limits=limits or {})
        return Child(self, answer["pid"], out, err)

    def close(self) -> None:
        """End the server process. All children must have ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


# -- the server process


def _serve(asked: IO[str], answers: IO[str]) -> None:
    for name in MODULES:
        __import__(name)
    answers.write("ready\n")
    answers.flush()
    while line := asked.readline():
        words = json.loads(line)
        answer = {"pid": _start(words)} if words["do"] == "start" else _wait(words["pid"], words["seconds"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _start(words: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        # Wait until the child has stopped. An earlier SIGCONT would be lost.
        os.waitpid(pid, os.WUNTRACED)
        return pid
    try:
        os.setpgid(0, 0)
        for number, path in ((1, words["out"]), (2, words["err"])):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, number)
            os.close(file)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.closerange(3, 64)
        os.environ.clear()
        os.environ.update(words["environment"])
        os.chdir(words["cwd"])
        sys.argv = ["marfetch", *words["words"]]
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
        for number, handler in (
            (signal.SIGINT, signal.SIG_DFL),
            (signal.SIGTERM, signal.SIG_DFL),
            (signal.SIGHUP, signal.SIG_DFL),
        ):
            signal.signal(number, handler)  # use the default signal handlers of a shell, even if the tests were started with others
        for name, most in words["limits"].items():
            resource.setrlimit(getattr(resource, name), (most, most))
        from marfetch.__main__ import program

        os.kill(os.getpid(), signal.SIGSTOP)
        program()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    os._exit(70)


def _wait(pid: int, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    pause = 0.001
    late = False
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return {"code": os.waitstatus_to_exitcode(status), "late": late}
        if not late and time.monotonic() > deadline:
            late = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(pause)
        pause = min(0.01, pause * 1.3)


if __name__ == "__main__":
    with os.fdopen(os.dup(0), "r") as asked, os.fdopen(os.dup(1), "w") as answers:
        _serve(asked, answers)
