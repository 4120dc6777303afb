"""Write verified content to stdout, a pipe or a device, which cannot be replaced atomically like a file."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ..budget import Budget
from ..content import Verified
from ..errors import InputError, StorageError
from ..files import storage_error
from ..oci import Descriptor

STDOUT: Final = Path("-")
"""The path that means stdout."""
READER_WAIT: Final = 60.0
"""Maximum time in seconds to wait for a program to open a named pipe for reading."""

_CHUNK: Final = 1 << 20
_POLL: Final = 0.1  # seconds


def stream_path(text: str) -> Path | None:
    """Return the path if it is a stream, and `STDOUT` for every name of stdout; None for a file or a missing path."""
    if text in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        return STDOUT
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    is_descriptor = str(path.parent) in ("/dev/fd", "/proc/self/fd") or str(path) == "/dev/stderr"
    return path if is_descriptor or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) else None


def verified_blob(descriptor: Descriptor, open_blob: Callable[[], BinaryIO]) -> BinaryIO:
    """Open a blob, verify all its bytes, and return it at its start.

    Raises:
        IntegrityError: `size-mismatch`, `digest-mismatch`.
    """
    blob = open_blob()
    try:
        verified = Verified(descriptor)
        while chunk := blob.read(_CHUNK):
            verified.update(chunk)
        verified.check()
        blob.seek(0)
    except BaseException:
        blob.close()
        raise
    return blob


class Stream:
    """An open stream.

    Attributes:
        path: the path of the stream, or `STDOUT`.
    """

    def __init__(self, path: Path, number: int, budget: Budget) -> None:
        self.path = path
        self._number = number
        self._budget = budget

    def send(self, blob: BinaryIO, descriptor: Descriptor) -> None:
        """Write a verified blob. Its bytes are hashed again, in case the file has changed since.

        Raises:
            IntegrityError: the file has changed; some bytes are already written.
            StorageError: the stream cannot be written.
        """
        verified = Verified(descriptor)
        try:
            while chunk := blob.read(_CHUNK):
                verified.update(chunk)
                self._write(memoryview(chunk))
        except BrokenPipeError as error:
            if self.path == STDOUT:
                return  # not an error: as for all commands, a reader such as `head` may stop early
            raise storage_error(error, self.path) from error
        except OSError as error:
            raise storage_error(error, "stdout" if self.path == STDOUT else self.path) from error
        verified.check()

    def _write(self, data: memoryview) -> None:
        while data:
            self._budget.check()
            try:
                data = data[os.write(self._number, data) :]
            except BlockingIOError:  # a full pipe
                select.select([], [self._number], [], _POLL)


@contextmanager
def open_stream(path: Path, budget: Budget) -> Iterator[Stream]:
    """Open a stream for writing.

    Raises:
        InputError: `usage`: the stream is a terminal.
        StorageError: `file-unusable`: the path is neither a pipe nor a character device, or no program reads the pipe.
    """
    if path == STDOUT:
        try:
            number = sys.stdout.fileno()
        except (AttributeError, ValueError, OSError) as error:
            raise StorageError("stdout is closed", code="file-unusable", hint="redirect stdout to a file or a pipe", path="-") from error
        _refuse_terminal(number)
        yield Stream(path, number, budget)
        return
    number = _opened(path, budget)
    try:
        _refuse_terminal(number)
        yield Stream(path, number, budget)
    finally:
        os.close(number)


def _opened(path: Path, budget: Budget) -> int:
    end = budget.now() + READER_WAIT
    try:
        mode = path.stat().st_mode
        if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
            raise StorageError(f"`{path}` is a disk or a socket", code="file-unusable", hint="use the name of a file", path=str(path))
        if not stat.S_ISFIFO(mode):
            return os.open(path, os.O_WRONLY)
        while True:
            try:
                return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # ENXIO means that no program reads the pipe yet
                    raise
                if budget.now() > end:
                    hint = "start the program that reads it, and try again"
                    raise StorageError(f"no program reads `{path}`", code="file-unusable", hint=hint, path=str(path)) from error
            budget.sleep(_POLL)
    except OSError as error:
        raise storage_error(error, path) from error


def _refuse_terminal(number: int) -> None:
    if os.isatty(number):
        raise InputError(
            "refused to write the payload to a terminal, because its bytes may be control sequences",
            code="usage",
            hint="redirect stdout to a file or a pipe, or use the name of a file",
        )
