"""Locks against other processes and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import StorageError
from ..files import storage_error

LOCK_WAIT = 60.0  # seconds; the holder of such a lock writes one small file
_LOCK_STEP = 0.25  # seconds between two looks at what else happens while waiting


@contextmanager
def lock(path: Path, *, wait: float = LOCK_WAIT, meanwhile: Callable[[], None] | None = None, passing: bool = False) -> Iterator[None]:
    """Keep other processes and threads out while the body runs; the lock ends with its process, however that ends.

    Args:
        wait: seconds to wait for the holder; infinite for as long as it takes.
        meanwhile: called now and then while waiting; it may raise to give up.
        passing: take the file of the lock away at the end. That happens while it is held: whoever waits for it finds that its file
            is gone, and begins anew with another.

    Raises:
        StorageError: the lock cannot be had in time, or not at all.
    """
    import filelock

    held = filelock.FileLock(path, mode=0o600, thread_local=False)
    waited = 0.0
    while True:
        try:
            held.acquire(timeout=_LOCK_STEP, poll_interval=0.02)
        except filelock.Timeout as error:
            waited += _LOCK_STEP
            if meanwhile is not None:
                meanwhile()
            if waited < wait:
                continue
            raise StorageError(
                f"another process holds the lock `{path}` for more than {wait:.0f} s",
                code="file-unusable",
                hint="find the other marfetch, or use `--cache-dir` with another directory",
                path=str(path),
            ) from error
        except OSError as error:
            raise storage_error(error, path) from error
        break
    try:
        yield
    finally:
        if passing:
            with suppress(OSError):
                path.unlink()
        held.release()
