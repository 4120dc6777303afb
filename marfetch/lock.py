"""Locks against other processes and threads; each ends with its process, however that ends."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .errors import StorageError
from .files import storage_error

LOCK_WAIT = 60.0  # seconds; the holder of such a lock writes one small file
_POLL = 0.02  # seconds between two tries
_LOOK = 0.25  # seconds between two looks at what else happens while waiting
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def lock(path: Path, *, wait: float = LOCK_WAIT) -> Iterator[None]:
    """Keep others out while the body runs, by a file that stays there.

    Args:
        wait: seconds to wait for the holder.

    Raises:
        StorageError: the lock cannot be had in time, or not at all.
    """
    import filelock

    held = filelock.FileLock(path, mode=0o600, thread_local=False)
    try:
        held.acquire(timeout=wait, poll_interval=_POLL)
    except filelock.Timeout as error:
        raise StorageError(
            f"another process holds the lock `{path}` for more than {wait:.0f} s",
            code="file-unusable",
            hint="find the other marfetch, or use `--cache-dir` with another directory",
            path=str(path),
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise storage_error(error, path) from error
        # A file system without locks, as NFS can be: what is written under this one is written whole, so that only news can get lost.
        yield
        return
    try:
        yield
    finally:
        held.release()


def prepare() -> None:
    """Load what locks need, before there are many open files: a library that is loaded halfway is of no use to anybody."""
    import filelock  # noqa: F401


def claim(descriptor: int) -> bool | None:
    """Lock an open file until it is closed, without waiting.

    Returns:
        False where somebody else has it; None where the file system knows no such locks.
    """
    import filelock

    try:
        return filelock.lock_descriptor(descriptor, blocking=False)
    except OSError:
        return None


def wait_for(descriptor: int, meanwhile: Callable[[], None] | None) -> bool:
    """Lock an open file until it is closed, however long that takes.

    Args:
        meanwhile: called now and then; it may raise to give up.

    Returns:
        False where the file system knows no such locks.
    """
    looked = time.monotonic()
    while (is_ours := claim(descriptor)) is False:
        if meanwhile is not None and time.monotonic() - looked >= _LOOK:
            looked = time.monotonic()
            meanwhile()
        time.sleep(_POLL)
    return is_ours is not None
