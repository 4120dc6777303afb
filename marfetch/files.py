"""Local files: written whole or not at all, and failures in the words of marfetch."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from .errors import StorageError

_RELEASE_EVERY: Final = 16 << 20  # bytes


def storage_error(error: OSError, path: Path | str, *, needed: int | None = None) -> StorageError:
    """A failed file operation as what the user can do about it.

    Args:
        needed: bytes that were to be written, where that is known.
    """
    shown = str(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free: int | None = None
        with suppress(OSError):
            status = os.statvfs(Path(shown).parent)
            free = status.f_bavail * status.f_frsize
        room = f": it needs {needed} bytes and has {free}" if needed is not None and free is not None else ""
        quota = "the quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
        return StorageError(
            f"{quota}{room}, at `{shown}`",
            code="disk-full",
            hint="make room, or choose another place with `--destination` or `--cache-dir`",
            path=shown,
            needed=needed,
            free=free,
        )
    reason = (error.strerror or str(error)).lower()
    hints = {
        errno.EROFS: "choose a directory that can be written with `--destination` or `--cache-dir`",
        errno.EACCES: "choose a directory that can be written with `--destination` or `--cache-dir`",
        errno.EPERM: "choose a directory that can be written with `--destination` or `--cache-dir`",
        errno.ELOOP: "a symbolic link stands in the way; give the place that it leads to",
        errno.EMFILE: "raise the limit of open files (`ulimit -n`), or lower `--jobs`",
    }
    return StorageError(f"{reason}: `{shown}`", code="file-unusable", hint=hints.get(error.errno or 0), path=shown)


def make_directories(path: Path, mode: int = 0o755) -> None:
    """Make a directory and those above it that are missing, never writable by others, whatever the umask lets.

    Raises:
        OSError: it cannot be made, or something else is there.
    """
    try:
        path.mkdir(mode=mode)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_directories(path.parent, mode)
        path.mkdir(mode=mode, exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old content or the new one, never a part; others may read it at most.

    It is not forced to the disk: whoever reads it checks it, and can do without.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        try:
            try:
                _write_new(temporary, data)
            except FileNotFoundError:
                make_directories(path.parent)
                _write_new(temporary, data)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise storage_error(error, path, needed=len(data)) from error


def _write_new(path: Path, data: bytes) -> None:
    path.touch(mode=0o644, exist_ok=False)
    path.write_bytes(data)


class Writer:
    """Writes to an unbuffered file all the way, and does not let a large one fill the memory.

    Every few MiB the kernel is asked to bring to the disk what was written, without waiting for it, and to forget what is there
    already: a download should not push out what other programs keep in memory, and memory that is used again is faster than new.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._since = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of it.

        Raises:
            OSError: the disk does not take it.
        """
        view = memoryview(data)
        self._since += len(view)
        while view:
            view = view[self._file.write(view) :]
        if self._since >= _RELEASE_EVERY:
            self._since = 0
            with suppress(AttributeError, OSError):  # not on every operating system and file system
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
