"""Local files: written whole or not at all, and failures in the words of marfetch."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from .errors import StorageError

INGEST: Final = "ingest"
"""Where everything is, below a layout, that is not whole yet; what a killed run leaves there, a next one takes up or takes away."""

AT_LAST: Final[list[Callable[[bool], None]]] = []
"""Called when a command is over; with True where the process ends with it, so that nothing that is open is needed any more."""
_RELEASE_EVERY: Final = 16 << 20  # bytes


def storage_error(error: OSError, path: Path | str, *, needed: int | None = None) -> StorageError:
    """A failed file operation as what the user can do about it.

    Args:
        needed: bytes that were to be written, where that is known.
    """
    shown = str(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free: int | None = None
        room = ""
        with suppress(OSError):
            status = os.statvfs(Path(shown).parent)
            free = status.f_bavail * status.f_frsize
            if error.errno == errno.ENOSPC and status.f_files and not status.f_favail:
                room = ": it takes no further file, all its inodes are used"
            elif needed is not None:
                room = f": it needs {needed} bytes and has {free}"
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
        errno.EFBIG: "raise the limit of the size of a file (`ulimit -f`), or choose a file system that takes such a file",
        errno.ENAMETOOLONG: "choose a shorter path with `--destination`",
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


def home() -> Path:
    """The home directory of the user.

    Raises:
        StorageError: nobody knows it: `HOME` is not set, and the system has no entry for the user, as in containers with a random user id.
    """
    try:
        return Path.home()
    except RuntimeError as error:
        raise no_home() from error


def no_home() -> StorageError:
    """What to say where a home directory is needed and there is none."""
    return StorageError(
        "the home directory of this user is not known",
        code="file-unusable",
        hint="set `HOME` to a whole path; `--cache-dir` or `MARFETCH_CACHE_DIR` names the cache",
    )


def unfinished(root: Path, path: Path) -> Path:
    """Where a small file of a layout is while it is written, beside those of other processes: for `write_whole`.

    Args:
        root: the layout.
        path: where the file is going to be.
    """
    return root / INGEST / f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}"


def write_whole(path: Path, data: bytes, *, through: Path | None = None) -> None:
    """Write a small file of our own so that a reader sees the old content or the new one, never a part.

    It is not forced to the disk: whoever reads it checks it, and can do without. A file of the user's is for `place`.

    Args:
        through: the file that is written and then renamed, while nobody else uses it: what a killed run leaves of it, the next one takes.
            None: one beside the path, with a name of its own.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = through or path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        try:
            try:
                _write(temporary, data, is_new=through is None)
            except FileNotFoundError:
                make_directories(temporary.parent, 0o700 if through else 0o755)
                _write(temporary, data, is_new=through is None)
            try:
                temporary.replace(path)
            except FileNotFoundError:
                make_directories(path.parent)
                temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise storage_error(error, path, needed=len(data)) from error


def _write(path: Path, data: bytes, *, is_new: bool) -> None:
    """Others may read it at most, whatever the umask lets."""
    path.touch(mode=0o644, exist_ok=not is_new)
    path.write_bytes(data)


class Writer:
    """Writes to an unbuffered file all the way, and does not let a large one fill the memory.

    Every few MiB the kernel is asked to bring to the disk what was written, without waiting for it, and to forget what is there
    already: a download should not push out what other programs keep in memory, and memory that is used again is faster than new.

    Args:
        lazy: leave that to the kernel: nobody waits for this file, and the disk is for the one that is waited for.
    """

    def __init__(self, file: BinaryIO, *, lazy: bool = False) -> None:
        self._file = file
        self._lazy = lazy
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
        if self._since >= _RELEASE_EVERY and not self._lazy:
            self._since = 0
            with suppress(AttributeError, OSError):  # not on every operating system and file system
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# -- locks against other processes and threads; each ends with its process, however that ends


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
    import filelock  # late: only where something is written

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
    import filelock  # noqa: F401  # late: only where several are fetched


def claim(descriptor: int) -> bool | None:
    """Lock an open file until it is closed, without waiting.

    Returns:
        False where somebody else has it; None where the file system knows no such locks.
    """
    import filelock  # late: only where something is written

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
