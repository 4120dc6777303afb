"""Replace existing files of the user with changed content: first write all new files next to the old ones, then rename them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import StorageError
from ..files import Writer, storage_error
from .destination import refuse_git
from .directory import Directory

AT_ONCE: Final = 128
"""The maximum number of files that are prepared before the first one is replaced, because each needs a file descriptor or two."""


class Rewrite(NamedTuple):
    """A change of one file.

    Attributes:
        path: the file, without symbolic links.
        old: the content that was read. If the file has other content by now, nothing is written.
        new: the content to write.
    """

    path: Path
    old: bytes
    new: bytes


def rewrite(changes: Sequence[Rewrite], written: list[Path]) -> None:
    """Replace files. Each is replaced whole or not at all, and keeps its mode.

    Errors such as a full disk usually occur before the first file is replaced.

    Args:
        written: receives the files that were replaced, also if an error follows.

    Raises:
        PolicyError: `path-refused`: a file is inside `.git`.
        StorageError: a file cannot be written, or was changed in the meantime.
    """
    for change in changes:
        refuse_git(change.path)
        _check(change)
    for start in range(0, len(changes), AT_ONCE):
        with ExitStack() as stack:
            parts = [_prepare(change, stack) for change in changes[start : start + AT_ONCE]]
            for change, (directory, part) in zip(changes[start:], parts, strict=False):
                try:
                    directory.publish(part, change.path.name, replace=True)
                    written.append(change.path)
                    directory.sync()
                except OSError as error:
                    raise storage_error(error, change.path, needed=len(change.new)) from error


def _check(change: Rewrite) -> None:
    """Check that a file is unchanged and may be written. A rename alone would replace a read-only file too."""
    try:
        if not stat.S_IMODE(change.path.stat().st_mode) & 0o222:
            raise PermissionError(errno.EACCES, "the file is read-only", str(change.path))
        with change.path.open("r+b") as file:
            is_same = file.read(len(change.old) + 1) == change.old
    except OSError as error:
        raise storage_error(error, change.path) from error
    if not is_same:
        raise StorageError(
            f"`{change.path}` was changed by another program in the meantime",
            code="file-differs",
            hint="run the command again",
            path=str(change.path),
        )


def _prepare(change: Rewrite, stack: ExitStack) -> tuple[Directory, str]:
    try:
        directory = Directory.open_root(change.path.parent)
        stack.callback(directory.close)
        directory.sweep()
        part, file = directory.make_part()
        stack.callback(directory.unlink, part)
        stack.enter_context(file)
        Writer(file).write(change.new)
        status = change.path.stat()
        with suppress(AttributeError, PermissionError):
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
        (directory.path / part).chmod(stat.S_IMODE(status.st_mode))
        os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, change.path, needed=len(change.new)) from error
    return directory, part
