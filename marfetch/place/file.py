"""One file under a name that the user gave, written whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..destination.directory import Directory
from ..errors import StorageError
from ..files import Writer, make_directories, storage_error
from .guard import refuse_git


@contextmanager
def whole_file(path: Path, *, size: int) -> Iterator[BinaryIO]:
    """A file that gets its name when the body has ended well; what had the name before is replaced then, and untouched otherwise.

    Args:
        size: bytes that are going to be written, so that a disk that is too small is told at once.

    Raises:
        PolicyError: `path-refused`: it leads into `.git`.
        StorageError: it cannot be written; `file-unusable`: a directory, a device or a pipe has the name.
    """
    refuse_git(path)
    try:
        make_directories(path.parent)
        _refuse_others(path)
        with closing(Directory.open_root(path.parent.resolve())) as directory:
            directory.sweep()
            _check_room(path, size)
            part, file = directory.make_part()
            try:
                with file:
                    yield file
                    os.fsync(file.fileno())
                    directory.publish(part, path.name, replace=True)
                    directory.sync()
            finally:
                directory.unlink(part)
    except OSError as error:
        raise storage_error(error, path, needed=size) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a small file of the user's, whole or not at all, and force it to the disk.

    Raises:
        StorageError: it cannot be written.
    """
    with whole_file(path, size=len(data)) as file:
        Writer(file).write(data)


def _refuse_others(path: Path) -> None:
    """The end of whoever names something that is no file: a device that was replaced by a file is none any more, for nobody."""
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise StorageError(f"`{path}` is {what}", code="file-unusable", hint="give the name of a file", path=str(path))


def _check_room(path: Path, size: int) -> None:
    free: int | None = None
    with suppress(OSError, AttributeError):
        status = os.statvfs(path.parent)
        free = status.f_bavail * status.f_frsize
    if free is not None and size > free:
        raise StorageError(
            f"the disk is full: it needs {size} bytes and has {free}, at `{path}`",
            code="disk-full",
            hint="make room there, or choose another place for it",
            path=str(path),
            needed=size,
            free=free,
        )
