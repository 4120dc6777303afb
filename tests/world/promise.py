"""The promise that fuzzing checks for code that reads untrusted bytes: it raises only marfetch's own errors, with documented exit codes
and printable messages. It opens no connection, starts no program, and writes nothing outside a sandbox."""

from __future__ import annotations

import atexit
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from marfetch import errors
from marfetch.codes import CODES
from marfetch.render.report import Report
from marfetch.text import printable
from marfetch.verify.verdict import RefusalError


class BrokenPromiseError(AssertionError):
    """Code that reads untrusted bytes broke the promise."""


@contextmanager
def promised(*codes: int) -> Iterator[None]:
    """Allow the `with` block to raise only marfetch's errors with these exit codes. Print each error once as text and as JSON."""
    try:
        yield
    except errors.Error as error:
        check(error, codes)
    except RefusalError as refusal:
        kind = getattr(errors, CODES[refusal.code].kind)
        check(kind(refusal.message, code=refusal.code, hint=refusal.hint, **refusal.facts), codes)


def check(error: errors.Error, codes: tuple[int, ...]) -> None:
    """Check that an error has an allowed exit code, and can be printed as text and as JSON."""
    if error.exit_code not in codes:
        raise BrokenPromiseError(f"exit code {error.exit_code} ({error.code}) is not one of {codes}: {error.message[:300]!r}")
    if CODES[error.code].kind != type(error).__name__ and error.code != "rate-limited":
        raise BrokenPromiseError(f"`{error.code}` is raised as {type(error).__name__}, not as {CODES[error.code].kind}")
    out, told = io.StringIO(), io.StringIO()
    Report("fuzz", as_json=True, stdout=out, stderr=told).failed(error)
    shown = json.loads(out.getvalue())
    assert shown["error"]["code"] == error.code
    assert out.getvalue().isascii()
    lines = told.getvalue()
    assert lines.endswith("\n")
    for line in lines.splitlines():
        assert printable(line) == line, f"control characters are shown: {line!r}"
    assert len(lines) < 20_000, "the error fills the screen"


# -- the sandbox


@cache
def sandbox() -> Path:
    """Return a directory of this process. Targets may write only below it."""
    root = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def fresh(name: str) -> Path:
    """Return an empty directory in the sandbox."""
    path = sandbox() / name
    if path.exists():
        shutil.rmtree(path)
    path.mkdir()
    return path


_FORBIDDEN = frozenset(("socket.connect", "socket.getaddrinfo", "socket.sendto", "os.system", "os.exec", "os.posix_spawn", "os.symlink"))
_NAMES_ONE = frozenset(("os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.utime"))
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Guard:
    """An audit hook (PEP 578) that checks the actions of the interpreter while a target runs."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.programs = False
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.root is None:
            return
        if event == "open":
            path, mode, flags = (*arguments, None, None)[:3]
            writes = isinstance(flags, int) and bool(flags & _WRITES) if mode is None else any(sign in str(mode) for sign in "wxa+")
            if writes and not isinstance(path, int):
                self._look(event, path)
        elif event in _NAMES_ONE:
            self._look(event, arguments[0])
        elif event in ("os.rename", "os.link"):
            self._look(event, arguments[0])
            self._look(event, arguments[1])
        elif event in _FORBIDDEN or (event == "subprocess.Popen" and not self.programs):
            self._refuse(f"{event} {arguments!r}")

    def _look(self, event: str, path: object) -> None:
        if isinstance(path, int):
            return
        text = os.fsdecode(path)  # type: ignore[arg-type]
        # A name without a slash is relative to an open directory, as in the package `destination`.
        inside = text.startswith(f"{self.root}/") and ".." not in text.split("/") if "/" in text else text not in ("", ".", "..")
        if not inside and text != os.devnull:
            self._refuse(f"{event} of {text!r}")

    def _refuse(self, what: str) -> None:
        self.seen.append(what[:500])
        raise BrokenPromiseError(what[:500])


_guard: list[_Guard] = []


@contextmanager
def guarded(*, programs: bool = False) -> Iterator[None]:
    """Fail the test if code in this context writes outside the sandbox, even if it catches the error.

    Args:
        programs: whether the code may try to start programs, such as credential helpers.
    """
    if not _guard:  # an audit hook cannot be removed, so there is one per process
        _guard.append(_Guard())
    guard = _guard[0]
    guard.root, guard.programs, guard.seen = str(sandbox()), programs, []
    state, os.environ["XDG_STATE_HOME"] = os.environ.get("XDG_STATE_HOME"), str(sandbox() / "state")
    try:
        yield
    finally:
        guard.root = None
        del os.environ["XDG_STATE_HOME"]
        if state is not None:
            os.environ["XDG_STATE_HOME"] = state
    if guard.seen:
        raise BrokenPromiseError(guard.seen[0])
