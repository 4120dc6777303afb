"""How a blob comes into a layout: through a file beside its final place, checked, then renamed.

The file is named after the digest, so that a later run, or another process, goes on where this one was stopped.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from ..budget import Budget
from ..content import BackgroundWriter, Buffer, Verified
from ..errors import Error, IntegrityError, RemoteError, StorageError
from ..files import INGEST, Writer, claim, make_directories, storage_error, wait_for
from ..oci import Descriptor
from ..remote import limits

CHUNK: Final = 1 << 20
STALE: Final = 24 * 3600.0
"""Seconds after which a part that nobody went on with may go."""
_SIGN: Final = 5.0
"""Seconds after which whoever waits is told that somebody is at work, though nothing comes: by the time of the part."""


def claimed_part(part: Path, meanwhile: Callable[[], None] | None) -> tuple[Path, BinaryIO]:
    """The file in which a blob is gathered, made where it is missing, once nobody else has it.

    Args:
        meanwhile: called now and then while another process fetches the blob; it may raise to give up.

    Returns:
        Its path, and the open file. Where the file system knows no locks, a file of our own, which no later run takes up: in one that
        two write, each could make the other's wrong.

    Raises:
        StorageError: it cannot be opened.
    """
    # Never through a link that somebody has put there.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    while True:
        try:
            try:
                number = os.open(part, flags, 0o600)
            except FileNotFoundError:
                part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                number = os.open(part, flags, 0o600)
            file: BinaryIO = os.fdopen(number, "r+b", buffering=0)
        except OSError as error:
            raise storage_error(error, part) from error
        try:
            if not wait_for(file.fileno(), meanwhile):
                own = part.with_name(f"{part.name}.{os.getpid()}.{secrets.token_hex(4)}")
                number = os.open(own, flags | os.O_EXCL, 0o600)
                if not os.fstat(file.fileno()).st_size:
                    part.unlink(missing_ok=True)
                file.close()
                return own, os.fdopen(number, "r+b", buffering=0)
            with suppress(FileNotFoundError):
                if os.path.samestat(part.lstat(), os.fstat(file.fileno())):
                    return part, file
        except BaseException:
            file.close()
            raise
        file.close()  # whoever had it has made it the blob by now, or given it up


def sweep(root: Path) -> None:
    """Take away what killed runs have left, and nobody has gone on with for a day; what somebody has in hand stays."""
    with suppress(OSError):
        for part in sorted((root / INGEST).iterdir()):
            with suppress(OSError):
                if time.time() - part.lstat().st_mtime > STALE:
                    with os.fdopen(os.open(part, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
                        if claim(file.fileno()) is not False:
                            part.unlink()


class FileIngest:
    """Takes one blob into a file.

    Args:
        file: where the bytes are gathered, claimed; what an earlier run left there is taken up.
        partial: its path.
        final: where the blob goes.
        mode: of the directory that is made for it.
    """

    def __init__(self, descriptor: Descriptor, file: BinaryIO, partial: Path, final: Path, *, mode: int = 0o700) -> None:
        self._descriptor = descriptor
        self._file = file
        self._partial = partial
        self._final = final
        self._mode = mode
        self._worker = BackgroundWriter(self._put, descriptor.size)
        self._held = 0
        self._signed = time.monotonic()
        self._writer = Writer(self._file, lazy=True)
        try:
            self._take_up()
        except OSError as error:
            self._file.close()
            raise storage_error(error, partial) from error

    def _take_up(self) -> None:
        """Count in what an earlier run has left, or begin anew where that is too much, or all of it but wrong."""
        self._verified = Verified(self._descriptor)
        if os.fstat(self._file.fileno()).st_size > self._descriptor.size:
            self._file.truncate(0)
            return
        while chunk := self._file.read(CHUNK):
            self._verified.update(chunk)
            self.heartbeat()
        self._held = self._verified.held
        if self._held == self._descriptor.size:
            try:
                self._verified.check()  # right: its process was killed before the rename
            except IntegrityError:
                self.restart()

    @property
    def held(self) -> int:
        return self._held

    def heartbeat(self) -> None:
        if time.monotonic() - self._signed > _SIGN:
            self._signed = time.monotonic()
            with suppress(OSError, TypeError, NotImplementedError):  # not everywhere for an open file
                os.utime(self._file.fileno())

    def write(self, data: Buffer) -> None:
        self._held += len(data)
        self._worker.give(data)

    def _put(self, data: Buffer) -> None:
        self._verified.update(data)
        try:
            self._writer.write(data)
        except OSError as error:
            raise storage_error(error, self._partial, needed=self._descriptor.size) from error

    def restart(self) -> None:
        self._worker.end()
        try:
            self._file.seek(0)
            self._file.truncate(0)
        except OSError as error:
            raise storage_error(error, self._partial) from error
        self._verified = Verified(self._descriptor)
        self._held = 0

    def commit(self) -> None:
        self._worker.end()
        self._verified.check()
        try:
            if self._mode & 0o044 and hasattr(os, "fchmod"):
                os.fchmod(self._file.fileno(), 0o600 | self._mode & 0o044)
            if os.name == "nt":
                self._file.close()  # an open file cannot be renamed there
            try:
                self._partial.replace(self._final)
            except FileNotFoundError:
                make_directories(self._final.parent, self._mode)
                self._partial.replace(self._final)
        except OSError as error:
            raise storage_error(error, self._final) from error

    def close(self, error: BaseException | None) -> None:
        """End it. The bytes stay for a later run where the transfer was cut; they go where they were wrong or do not fit on the disk."""
        with suppress(Error):
            self._worker.end()
        keep = self._held > 0 and not ((isinstance(error, Error) and error.exit_code in (4, 5)) or isinstance(error, StorageError))
        if error is not None and not keep:
            with suppress(OSError):
                self._partial.unlink()
        self._file.close()


# -- how long somebody waits who wants a blob that is being fetched already, by another process or for another reference


SAID_AFTER: Final = 5.0
"""Seconds of waiting that need no word."""


class StallGuard:
    """Of all waits in one layout.

    Args:
        note: is told of a wait that takes long.
        excused: whether there is a reason for nothing to come: a host wants to be left alone.
    """

    def __init__(self, budget: Budget, note: Callable[[str], None], excused: Callable[[], bool]) -> None:
        self._budget = budget
        self._note = note
        self._excused = excused

    def wait(self, descriptor: Descriptor, part: Path) -> Callable[[], None]:
        """One wait.

        Args:
            part: where the blob is gathered.

        Returns:
            What is called now and then while it lasts. It raises `RemoteError` (`timeout`) when nothing has come for too long or the
            budget is used up, and `Cancelled`.
        """
        # Nearly always nobody has to wait, so that nothing is looked at before somebody does.
        begun: float | None = None
        since, seen, is_said = 0.0, None, False

        def look() -> None:
            nonlocal begun, since, seen, is_said
            self._budget.check()
            now, state = self._budget.now(), _state(part)
            if begun is None:
                begun, since, seen = now, now, state
            if state != seen or self._excused():
                seen, since = state, now
            if now - since >= limits.NO_PROGRESS:
                raise _stuck(descriptor, part, now - since)
            if not is_said and now - begun >= SAID_AFTER:
                is_said = True
                self._note(
                    f"the blob `{descriptor.digest}` is being fetched already, by another marfetch or for another reference; waiting"
                )

        return look


def _state(part: Path) -> tuple[int, int, int] | None:
    """Something that is another one when something has come."""
    try:
        status = part.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _stuck(descriptor: Descriptor, part: Path, seconds: float) -> RemoteError:
    return RemoteError(
        f"the blob `{descriptor.digest}` is being fetched by another marfetch, but nothing has come into `{part}` for {seconds:.0f} s",
        code="timeout",
        hint="find the other marfetch, which may be suspended, and end it or let it go on; or use `--cache-dir` with another directory",
        digest=str(descriptor.digest),
        path=str(part),
    )
