"""Locate a command's cache: the user's directory, or a temporary one if that is not writable."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from ..budget import Budget
from ..content import Progress
from ..errors import StorageError
from ..files import claim, no_home, open_own
from ..remote.pauses import Pauses
from .ingest import StallGuard, sweep
from .layout import Layout

CACHE_ENVIRONMENT: Final = "MARFETCH_CACHE_DIR"
_PREFIX: Final = "marfetch-cache-"
_MARK: Final = "in-use"
"""File in a temporary cache that stays locked while its process lives."""


class Cache:
    """The cache of one command: the user's directory, or a temporary one if that is not writable."""

    def __init__(self, directory: Path | None, progress: Progress, budget: Budget) -> None:
        def layout_in(root: Path, below: Layout | None = None) -> Layout:
            pauses = Pauses(root)
            return Layout(root, below=below, warn=progress.warn, patience=StallGuard(budget, progress.note, pauses.is_any))

        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._mark: BinaryIO | None = None
        named = directory is not None or bool(os.environ.get(CACHE_ENVIRONMENT))
        lower: Layout | None = None
        try:
            root = cache_root(directory)
            layout = layout_in(root)
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
        self._temporary = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
        self._mark = (Path(self._temporary.name) / _MARK).open("wb")
        claim(self._mark.fileno())
        self.layout = layout_in(Path(self._temporary.name), lower)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is None:
            sweep(self.layout.root)
            return
        self._temporary.cleanup()
        if self._mark is not None:
            self._mark.close()


def _sweep_temporary() -> None:
    """Delete the temporary caches of killed runs: those whose mark is not locked."""
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
    import platformdirs  # late: platformdirs, only for the default directory

    try:
        return platformdirs.user_cache_path("marfetch", appauthor=False)
    except RuntimeError as error:
        raise no_home() from error
