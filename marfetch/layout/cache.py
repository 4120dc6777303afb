"""Open a command's cache: the user's cache directory, or a temporary one if that directory is not writable."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from ..budget import Budget
from ..content import Progress
from ..errors import StorageError
from ..files import claim, make_directories, no_home, occupy, open_own, wait_for
from ..records import refuse_unsafe
from ..remote.pauses import Pauses
from .ingest import StallGuard, sweep
from .layout import Layout

CACHE_ENVIRONMENT: Final = "MARFETCH_CACHE_DIR"
_POLL: Final = 0.05  # seconds
_PREFIX: Final = "marfetch-cache-"
_MARK: Final = "in-use"
"""Lock file of a temporary cache. It stays locked until the process ends."""
USE: Final = "use.lock"
"""Lock file of a cache. Commands that use the cache share the lock; a command that deletes content holds it exclusively."""
_SAID_AFTER: Final = 5.0
"""Seconds to wait for the lock before the wait is reported."""


class Cache:
    """The cache of one command: the user's cache directory, or a temporary one if that directory is not writable."""

    def __init__(self, directory: Path | None, progress: Progress, budget: Budget) -> None:
        def layout_in(root: Path, below: Layout | None = None) -> Layout:
            pauses = Pauses(root)
            return Layout(root, below=below, warn=progress.warn, patience=StallGuard(budget, progress, pauses.is_any))

        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._mark: BinaryIO | None = None
        self._use: BinaryIO | None = None
        named = directory is not None or bool(os.environ.get(CACHE_ENVIRONMENT))
        lower: Layout | None = None
        try:
            root = cache_root(directory)
            self._use = shared_use(root, budget, progress)
            try:
                layout = layout_in(root)
            except BaseException:
                self._release()
                raise
            if layout.is_writable:
                self.layout = layout
                return
            lower = layout
            reason = f"the cache `{root}` is not writable"
        except StorageError as error:
            if named or error.code == "cache-damaged":
                raise
            reason = error.message
        progress.warn(f"{reason}, so downloads are cached for this run only")
        _sweep_temporary()
        import tempfile  # late: few commands need a temporary cache

        self._temporary = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
        self._mark = (Path(self._temporary.name) / _MARK).open("wb")
        claim(self._mark.fileno())
        self.layout = layout_in(Path(self._temporary.name), lower)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is None:
            sweep(self.layout.root)
        else:
            self._temporary.cleanup()
            if self._mark is not None:
                self._mark.close()
        self._release()

    def _release(self) -> None:
        if self._use is not None:
            self._use.close()


def _open_use(root: Path) -> BinaryIO | None:
    """Open the lock file of a cache; None if it neither exists nor can be created."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        with suppress(OSError):
            return os.fdopen(open_own(root / USE, flags), "rb")
    return None


def _is_current(file: BinaryIO, root: Path) -> bool:
    """Return whether an open lock file is still the lock file of the cache. `cache clear` may have deleted it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), (root / USE).lstat())
    except OSError:
        return False


def shared_use(root: Path, budget: Budget, progress: Progress) -> BinaryIO | None:
    """Hold a shared lock on a cache until the returned file is closed. Wait while another command deletes content.

    Returns:
        The lock file; None if it cannot be opened.

    Raises:
        PolicyError: `cache-unsafe`.
        Error: the command was canceled, or its time is up.
    """
    begun, is_said = time.monotonic(), False

    def look() -> None:
        nonlocal is_said
        budget.check()
        if not is_said and time.monotonic() - begun > _SAID_AFTER:
            is_said = True
            progress.note(f"waiting for another marfetch that is deleting content from the cache `{root}`")

    while True:
        with suppress(OSError):
            make_directories(root, 0o700)
        refuse_unsafe(root)
        file = _open_use(root)
        if file is None:
            return None
        try:
            take = partial(occupy, alone=False)
            if (has_locks := take(file.fileno())) is False:
                with progress.steps("waiting for another marfetch"):
                    has_locks = wait_for(file.fileno(), look, take)
        except BaseException:
            file.close()
            raise
        if not has_locks or _is_current(file, root):
            return file
        file.close()


@contextmanager
def alone(root: Path, *, wait: float = 0.0) -> Iterator[bool | None]:
    """Hold the exclusive lock on a cache, so that no other command starts to use it while content is deleted.

    Args:
        wait: maximum time in seconds to wait for commands that are using the cache.

    Yields:
        True if no other command uses the cache, False if one does; None if the cache cannot be locked.
    """
    end = time.monotonic() + wait
    while (file := _open_use(root)) is not None:
        with file:
            while (is_alone := occupy(file.fileno(), alone=True)) is False:
                if time.monotonic() >= end and occupy(file.fileno(), alone=False) is not False:
                    break
                time.sleep(_POLL)  # continue after the time limit while another process deletes content
            if is_alone is not None and not _is_current(file, root):
                continue  # another process has just cleared the cache
            yield is_alone
            return
    yield None


def _sweep_temporary() -> None:
    """Delete the temporary caches of killed runs, whose lock files are no longer locked."""
    import tempfile  # late: few commands need a temporary cache

    for mark in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_MARK}"):
        with suppress(OSError):
            status = mark.parent.lstat()
            if stat.S_ISDIR(status.st_mode) and (not hasattr(os, "geteuid") or status.st_uid == os.geteuid()):
                with os.fdopen(open_own(mark, os.O_RDWR), "rb") as file:
                    if claim(file.fileno()):
                        shutil.rmtree(mark.parent, ignore_errors=True)


def cache_root(directory: Path | None) -> Path:
    """Return the cache directory: the given one, `MARFETCH_CACHE_DIR`, or the operating system's default.

    Raises:
        StorageError: the home directory is unknown.
    """
    if directory is not None:
        return directory
    if os.environ.get(CACHE_ENVIRONMENT):
        return Path(os.environ[CACHE_ENVIRONMENT])
    import platformdirs  # late: platformdirs is needed only for the default directory

    try:
        return platformdirs.user_cache_path("marfetch", appauthor=False)
    except RuntimeError as error:
        raise no_home() from error
