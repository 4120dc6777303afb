"""Write a blob into a layout: write a temporary file, verify it, then rename it.

The temporary file (the "part") is named after the digest, so that a later run or another process can resume an interrupted download.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from ..budget import Budget
from ..content import BackgroundWriter, Buffer, Progress, Verified
from ..errors import Error, IntegrityError, RemoteError, StorageError
from ..files import BY_DESCRIPTOR, INGEST, Writer, claim, make_directories, open_own, replace_file, storage_error, wait_for
from ..oci import Descriptor
from ..remote import limits

CHUNK: Final = 1 << 20
STALE: Final = 24 * 3600.0
"""Seconds after which an unused part may be deleted."""
_HEARTBEAT_INTERVAL: Final = 5.0
"""Seconds between heartbeats. A heartbeat updates the part's modification time."""


def claimed_part(part: Path, meanwhile: Callable[[], None] | None, *, waits: bool = True) -> tuple[Path, BinaryIO]:
    """Open or create the part of a blob, and lock it. Wait while another process holds the lock.

    Args:
        meanwhile: called regularly while another process downloads the blob; it may raise to cancel the wait.
        waits: if False, use a new part instead of waiting, because the other process may be waiting for this one.

    Returns:
        The path of the part, and the open file. On a file system without locks, the part is always a new file: if two processes wrote
        to one file, they would corrupt it. No later run resumes such a part.

    Raises:
        StorageError: the part cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT
    while True:
        try:
            try:
                number = open_own(part, flags)
            except FileNotFoundError:
                part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                number = open_own(part, flags)
            file: BinaryIO = os.fdopen(number, "r+b", buffering=0)
        except OSError as error:
            raise storage_error(error, part) from error
        try:
            is_ours = (wait_for(file.fileno(), meanwhile) or None) if waits else claim(file.fileno())
            if not is_ours:
                own = part.with_name(f"{part.name}.{os.getpid()}.{secrets.token_hex(4)}")
                number = open_own(own, flags | os.O_EXCL)
                # If `is_ours` is False, the part belongs to the other process.
                is_empty = is_ours is None and not os.fstat(file.fileno()).st_size
                file.close()
                if is_empty:
                    with suppress(OSError):
                        part.unlink()
                return own, os.fdopen(number, "r+b", buffering=0)
            with suppress(FileNotFoundError):
                if os.path.samestat(part.lstat(), os.fstat(file.fileno())):
                    return part, file
        except BaseException:
            file.close()
            raise
        file.close()  # this part is gone: the other process finished the blob or gave up


def discard(part: Path, file: BinaryIO) -> None:
    """Delete a locked part, and close it. Where that is possible, it stays locked until it is deleted."""
    if not BY_DESCRIPTOR:
        file.close()
    with suppress(OSError):
        part.unlink()
    file.close()


def sweep(root: Path) -> None:
    """Delete the parts of killed runs that were not used for a day. Locked parts stay."""
    with suppress(OSError):
        for part in sorted((root / INGEST).iterdir()):
            with suppress(OSError):
                drop_stale(part, part.lstat())


def drop_stale(part: Path, status: os.stat_result) -> bool:
    """Delete a part that was not used for a day, unless another process holds its lock. Return whether it was deleted."""
    if time.time() - status.st_mtime <= STALE:
        return False
    if not stat.S_ISREG(status.st_mode):
        return _dropped(part)
    try:
        with os.fdopen(open_own(part, os.O_RDWR), "rb") as file:
            is_free = claim(file.fileno()) is not False
            if BY_DESCRIPTOR:
                return is_free and _dropped(part)
        return is_free and _dropped(part)
    except OSError:
        return False


def _dropped(part: Path) -> bool:
    try:
        part.unlink()
    except OSError:
        return False
    return True


class FileIngest:
    """Writes one blob to its part, and renames the part once it is complete.

    Args:
        file: the part, open and locked; bytes from an earlier run are reused.
        partial: the path of the part.
        final: the path of the blob.
        held: the number of bytes that the part has.
        mode: the permissions of the blob's directory if it must be created; the blob gets the same read permissions.
    """

    def __init__(self, descriptor: Descriptor, file: BinaryIO, partial: Path, final: Path, *, held: int, mode: int = 0o700) -> None:
        self._descriptor = descriptor
        self._file = file
        self._partial = partial
        self._final = final
        self._mode = mode
        self._worker = BackgroundWriter(self._put, descriptor.size)
        self._held = 0
        self.restarts = 0
        """How often the bytes so far were discarded. A reader of `follow` must then start again too."""
        self._last_heartbeat = time.monotonic()
        self._writer = Writer(self._file, lazy=True)
        try:
            self._take_up(held)
        except OSError as error:
            self._file.close()
            raise storage_error(error, partial) from error

    def _take_up(self, held: int) -> None:
        """Reuse the bytes of an earlier run. Start over if there are too many, or if all are there but do not match the digest."""
        self._verified = Verified(self._descriptor)
        if held > self._descriptor.size:
            self._file.truncate(0)
            return
        while held and (chunk := self._file.read(CHUNK)):
            self._verified.update(chunk)
            self.heartbeat()
        self._held = self._verified.held
        if self._held == self._descriptor.size:
            try:
                self._verified.check()  # complete: the earlier run was killed just before the rename
            except IntegrityError:
                self.restart()

    @property
    def held(self) -> int:
        return self._held

    def heartbeat(self) -> None:
        if time.monotonic() - self._last_heartbeat > _HEARTBEAT_INTERVAL:
            self._last_heartbeat = time.monotonic()
            with suppress(OSError, TypeError, NotImplementedError):  # not every system can set the time of an open file
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

    def follow(self) -> int:
        """Return a new file descriptor of the part, to read the bytes so far, before they are verified. The caller closes it."""
        return os.dup(self._file.fileno())

    def restart(self) -> None:
        self._worker.end()
        self.restarts += 1
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
        self._publish()

    def put(self, data: bytes) -> None:
        """Write and commit the whole blob, whose digest was checked before.

        Raises:
            StorageError: it cannot be written.
        """
        if self._held:
            self.restart()
        self._held = len(data)
        try:
            self._writer.write(data)
        except OSError as error:
            raise storage_error(error, self._partial, needed=self._descriptor.size) from error
        self._publish()

    def _publish(self) -> None:
        try:
            if self._mode & 0o044 and hasattr(os, "fchmod"):
                os.fchmod(self._file.fileno(), 0o600 | self._mode & 0o044)
            if not BY_DESCRIPTOR:
                self._file.close()
            try:
                replace_file(self._partial, self._final)
            except FileNotFoundError:
                make_directories(self._final.parent, self._mode)
                replace_file(self._partial, self._final)
        except OSError as error:
            raise storage_error(error, self._final) from error

    def close(self, error: BaseException | None) -> None:
        """Close the part. Delete it if its bytes are wrong or the disk failed; otherwise keep it, so that a later run can resume."""
        with suppress(Error):
            self._worker.end()
        keep = self._held > 0 and not ((isinstance(error, Error) and error.exit_code in (4, 5)) or isinstance(error, StorageError))
        if error is not None and not keep:
            discard(self._partial, self._file)
        self._file.close()


# -- waiting for a blob that is already being downloaded, by another process or for another reference


SAID_AFTER: Final = 5.0
"""Seconds to wait before the wait is reported."""


class StallGuard:
    """Limits how long marfetch waits for a blob that is already being downloaded.

    Args:
        progress: shows that marfetch is waiting.
        excused: returns True while a host is throttled, when a stalled download is expected.
    """

    def __init__(self, budget: Budget, progress: Progress, excused: Callable[[], bool]) -> None:
        self._budget = budget
        self._progress = progress
        self._excused = excused

    @contextmanager
    def wait(self, descriptor: Descriptor, part: Path) -> Iterator[Callable[[], None]]:
        """Limit a wait for the duration of the `with` block.

        Args:
            part: the part of the blob.

        Yields:
            A function to call regularly during the wait. It raises `RemoteError` (`timeout`) if the part does not grow for too long or
            the command's time is up, and `Cancelled` if the command is canceled.
        """
        # Most blobs need no wait, so read no clock and no file before the first call.
        begun: float | None = None
        shown = ExitStack()
        since, seen, is_said = 0.0, None, False

        def look() -> None:
            nonlocal begun, since, seen, is_said
            self._budget.check()
            now, state = self._budget.now(), _state(part)
            if begun is None:
                begun, since, seen = now, now, state
                shown.enter_context(self._progress.steps("waiting for another marfetch or reference"))
            if state != seen or self._excused():
                seen, since = state, now
            if now - since >= limits.NO_PROGRESS:
                raise _stuck(descriptor, part, now - since)
            if not is_said and now - begun >= SAID_AFTER:
                is_said = True
                self._progress.note(
                    f"the blob `{descriptor.digest}` is already being fetched by another marfetch or for another reference; waiting"
                )

        with shown:
            yield look


def _state(part: Path) -> tuple[int, int, int] | None:
    """Return a value that changes when the part grows."""
    try:
        status = part.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _stuck(descriptor: Descriptor, part: Path, seconds: float) -> RemoteError:
    return RemoteError(
        f"the blob `{descriptor.digest}` is being fetched by another marfetch, but `{part}` has not grown for {seconds:.0f} s",
        code="timeout",
        hint="stop or resume the other marfetch, which may be suspended; or use another cache with `--cache-dir`",
        digest=str(descriptor.digest),
        path=str(part),
    )
