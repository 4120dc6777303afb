"""Use `strace` on a child process: record its system calls, fail one of them, or kill the child at one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from .nursery import Child, Ended

CHANGING: Final = (
    "open,openat,creat,write,pwrite64,writev,copy_file_range,sendfile,ftruncate,fallocate,fsync,fdatasync,close,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,flock"
)
"""System calls that change files, and calls just before or after such changes."""
TALKING: Final = "connect,sendto,recvfrom,openat,pread64,close"
"""System calls of a command that uploads blobs."""
_CALL: Final = re.compile(r"(\d+) +(\w+)\((.*)")


@dataclass(frozen=True)
class Step:
    """A system call in a recorded run.

    Attributes:
        number: the position among the calls of this name in the thread, as counted by `strace -e inject=…:when=`.
    """

    name: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.name}#{self.number}"


def find_strace() -> str:
    """Return the path of `strace`. If it is missing, skip the test, or fail in CI."""
    found = shutil.which("strace")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("strace is missing: apt-get install strace")
        pytest.skip("strace is missing: apt-get install strace")
    return found


def traced(child: Child, *options: str, seconds: float = 60.0) -> Ended:
    """Run a child to its end under `strace` with these options."""
    line = [find_strace(), "-f", "-e", "signal=none", *options, "-p", str(child.pid)]
    strace = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    try:
        said = strace.stderr.readline()
        if "attached" not in said:
            child.send(signal.SIGKILL)
            child.wait()
            pytest.skip(f"strace is not permitted here: {said.strip()}")
        child.go()
        return child.wait(seconds)
    finally:
        _end(strace)


def _end(strace: subprocess.Popen[str]) -> None:
    """Wait for `strace`, which ends by itself after the child."""
    assert strace.stderr is not None
    try:
        strace.wait(20)
    except subprocess.TimeoutExpired:
        strace.kill()
        strace.wait(20)
    strace.stderr.close()


def written_down(child: Child, log: Path, calls: str) -> tuple[list[Step], Ended]:
    """Record the calls with these names in a run without faults, with the paths of their file descriptors."""
    ended = traced(child, "-y", "-s", "200", "-o", str(log), "-e", f"trace={calls}", seconds=120)
    counts: Counter[tuple[str, str]] = Counter()
    steps = []
    for line in log.read_text(errors="replace").splitlines():
        found = _CALL.match(line)
        if found:
            thread, name, text = found.groups()
            counts[thread, name] += 1
            steps.append(Step(name, counts[thread, name], text))
    return steps, ended


def near(steps: list[Step], *places: Path) -> list[Step]:
    """Return the steps with a path below one of these places, each once."""
    texts = [str(place) for place in places]
    found = {(step.name, step.number): step for step in steps if any(text in step.text for text in texts)}
    return list(found.values())


def killed_at(child: Child, step: Step) -> Ended:
    """Kill the child when it enters this call."""
    return traced(child, "-o", "/dev/null", "-e", f"trace={step.name}", "-e", f"inject={step.name}:signal=KILL:when={step.number}")


def failed_at(child: Child, step: Step, error: str, *, and_later: bool = False) -> Ended:
    """Let this call fail without any effect, and with `and_later` also all later calls of the same name."""
    when = f"{step.number}+" if and_later else str(step.number)
    return traced(child, "-o", "/dev/null", "-e", f"trace={step.name}", "-e", f"inject={step.name}:error={error}:when={when}")


def killed_after(child: Child, seconds: float) -> Ended:
    """Kill the child some time after its start."""
    child.go()
    time.sleep(seconds)
    child.send(signal.SIGKILL)
    return child.wait()
