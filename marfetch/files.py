"""Local files: atomic writes, locks between processes, and errors with hints."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from .errors import StorageError

INGEST: Final = "ingest"
"""Directory of a layout for incomplete files. Later runs resume or delete the files that a killed run left there."""

AT_LAST: Final[list[Callable[[bool], None]]] = []
"""Callbacks for the end of a command. The argument is True if the process exits, so that open resources can be dropped."""
BY_DESCRIPTOR: Final = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd
"""Whether directories can be opened. False on Windows, where open files can be neither renamed nor deleted: close them first."""
_RELEASE_EVERY: Final = 16 << 20  # bytes
_SAFELY: Final = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


def storage_error(error: OSError, path: Path | str, *, needed: int | None = None) -> StorageError:
    """Turn a failed file operation into an error with a hint.

    Args:
        needed: number of bytes that were to be written; None if unknown.
    """
    shown = str(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free: int | None = None
        room = ""
        with suppress(OSError, AttributeError):  # missing on Windows
            status = os.statvfs(Path(shown).parent)
            free = status.f_bavail * status.f_frsize
            if error.errno == errno.ENOSPC and status.f_files and not status.f_favail:
                room = ": no inodes are left, so no more files fit"
            elif needed is not None:
                room = f": {needed} bytes are needed and {free} are free"
        quota = "the quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
        return StorageError(
            f"{quota}{room}, at `{shown}`",
            code="disk-full",
            hint="free disk space, or use another disk with `--destination` or `--cache-dir`",
            path=shown,
            needed=needed,
            free=free,
        )
    reason = (error.strerror or str(error)).lower()
    hints = {
        errno.ENOENT: "check the path and its permissions",
        errno.EROFS: "choose a writable directory with `--destination` or `--cache-dir`",
        errno.EACCES: "choose a writable directory with `--destination` or `--cache-dir`",
        errno.EPERM: "choose a writable directory with `--destination` or `--cache-dir`",
        errno.ELOOP: "the path contains a symbolic link: use the path of its target",
        errno.EFBIG: "raise the file size limit (`ulimit -f`), or use a file system that supports larger files",
        errno.ENAMETOOLONG: "choose a shorter path with `--destination`",
        errno.EMFILE: "raise the limit on open files (`ulimit -n`), or lower `--jobs`",
    }
    return StorageError(f"{reason}: `{shown}`", code="file-unusable", hint=hints.get(error.errno or 0), path=shown)


def free_space(path: Path) -> int | None:
    """Return the free bytes on the disk of a directory; None if the system cannot tell.

    Raises:
        OSError: the directory cannot be accessed.
    """
    import shutil  # late: needed only to write

    with suppress(AttributeError):
        return shutil.disk_usage(path).free
    return None


def make_directories(path: Path, mode: int = 0o755) -> None:
    """Create a directory and its missing parents. With any umask, other users cannot write to them.

    Raises:
        OSError: the directory cannot be created, or a file has its name.
    """
    try:
        path.mkdir(mode=mode)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_directories(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise


def home() -> Path:
    """Return the user's home directory.

    Raises:
        StorageError: `HOME` is not set and the user has no account, as in containers with a random user id.
    """
    try:
        return Path.home()
    except RuntimeError as error:
        raise no_home() from error


def no_home() -> StorageError:
    """Return the error for an unknown home directory."""
    return StorageError(
        "cannot find your home directory",
        code="file-unusable",
        hint="set `HOME` to an absolute path, or set the cache with `--cache-dir` or `MARFETCH_CACHE_DIR`",
    )


def unfinished(root: Path, path: Path) -> Path:
    """Return a temporary path, unique to this process, for `write_whole` in a layout.

    Args:
        root: the layout.
        path: the final path of the file.
    """
    return root / INGEST / f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}"


def write_whole(path: Path, data: bytes, *, through: Path | None = None) -> None:
    """Write one of marfetch's own small files atomically: readers see the old content or the new content.

    The file is not flushed to disk, because readers check its content and can do without it. For the user's files, use
    `destination.destination.write_file`.

    Args:
        through: the temporary file, which only one writer uses at a time; a leftover of a killed run is overwritten.
            None: use a new file next to the path.

    Raises:
        StorageError: the file cannot be written.
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
                replace_file(temporary, path)
            except FileNotFoundError:
                make_directories(path.parent)
                replace_file(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise storage_error(error, path, needed=len(data)) from error


def replace_file(source: Path | str | bytes, target: Path | str | bytes, *, directory: int | None = None) -> None:
    """Rename a file atomically. On Windows, wait a moment while another process has the target open.

    Args:
        directory: a descriptor that both paths are relative to; None: the current directory.

    Raises:
        OSError: the file cannot be renamed.
    """
    for left in range(0 if BY_DESCRIPTOR else _REPLACE_TRIES, -1, -1):
        try:
            os.replace(source, target, src_dir_fd=directory, dst_dir_fd=directory)
            return
        except PermissionError:
            if not left:
                raise
            time.sleep(_POLL)


def find_program(name: str, variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the path of a program on `PATH`, or None. The current directory is never searched, although Windows does that first."""
    suffixes = (".exe", ".com") if os.name == "nt" else ("",)  # not `.bat` or `.cmd`: cmd.exe can run parts of their arguments as commands
    for directory in variables.get("PATH", os.defpath).split(os.pathsep):
        if os.path.isabs(directory):  # noqa: PTH117
            for suffix in suffixes:
                path = os.path.join(directory, name if name.lower().endswith(suffix) else name + suffix)  # noqa: PTH118
                if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
                    return path
    return None


def _write(path: Path, data: bytes, *, is_new: bool) -> None:
    """Write a file. With any umask, other users can at most read it."""
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | (os.O_EXCL if is_new else os.O_TRUNC), 0o644), "wb") as file:
        file.write(data)


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open one of marfetch's own files. Do not follow a link, and do not block on a named pipe.

    Returns:
        The file descriptor.

    Raises:
        OSError: the file cannot be opened; `ELOOP`: it is a symbolic link; `EINVAL`: it is not a regular file.
    """
    number = os.open(path, flags | _SAFELY, mode)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return number


class Writer:
    """Writes everything to an unbuffered file, and keeps large files out of the page cache.

    After every 16 MiB, the writer asks the kernel to start writing to disk, and to drop the pages that are written. A download then
    does not evict the pages of other programs, and reused memory is faster than new memory.

    Args:
        lazy: let the kernel decide when to write, because a more urgent file needs the disk.
    """

    def __init__(self, file: BinaryIO, *, lazy: bool = False) -> None:
        self._file = file
        self._lazy = lazy
        self._since = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all bytes.

        Raises:
            OSError: the write failed.
        """
        view = memoryview(data)
        self._since += len(view)
        while view:
            view = view[self._file.write(view) :]
        if self._since >= _RELEASE_EVERY and not self._lazy:
            self._since = 0
            with suppress(AttributeError, OSError):  # not on every operating system and file system
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# -- locks between processes and threads; the kernel releases them when a process ends


LOCK_WAIT = 60.0  # seconds; long enough, because a process that holds such a lock writes only one small file
_POLL = 0.02  # seconds between two tries
_REPLACE_TRIES: Final = 50
_LOOK = 0.25  # seconds between two calls of `meanwhile`
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def lock(path: Path, *, wait: float = LOCK_WAIT) -> Iterator[None]:
    """Hold an exclusive lock on a lock file. The file is not deleted afterwards.

    Some NFS mounts support no locks. Then this holds none. Writes under this lock are atomic, so at worst an update is lost.

    Args:
        wait: maximum time to wait for the lock, in seconds.

    Raises:
        StorageError: another process holds the lock for longer, or the file cannot be opened or locked.
    """
    descriptor = _locked(path, wait)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(path: Path, wait: float) -> int | None:
    """Open and lock a lock file. Return its descriptor, or None if the file system has no locks."""
    end = time.monotonic() + wait
    while True:
        with ExitStack() as stack:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o600)
                stack.callback(os.close, descriptor)
                while not _claim(descriptor):
                    if time.monotonic() >= end:
                        raise StorageError(
                            f"another process has held the lock `{path}` for more than {wait:.0f} s",
                            code="file-unusable",
                            hint="wait for or stop the other marfetch, or use another cache with `--cache-dir`",
                            path=str(path),
                        )
                    time.sleep(_POLL)
                has_name = os.fstat(descriptor).st_nlink
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    return None
                raise storage_error(error, path) from error
            if has_name:  # otherwise it was deleted between opening and locking
                stack.pop_all()
                return descriptor


def prepare() -> None:
    """Import what `claim` needs. Later the process may have no free file descriptors, and the import would fail."""
    try:
        import fcntl  # noqa: F401  # late: missing on Windows
    except ImportError:
        import filelock  # noqa: F401  # late: only for Windows


def claim(descriptor: int) -> bool | None:
    """Lock an open file until it is closed, without waiting.

    Returns:
        True if the file is now locked; False if another process holds the lock; None if the file system has no locks.
    """
    try:
        return _claim(descriptor)
    except OSError:
        return None


def _claim(descriptor: int) -> bool:
    try:
        import fcntl  # noqa: F401  # late: missing on Windows
    except ImportError:
        import filelock  # late: only for Windows

        return filelock.lock_descriptor(descriptor, blocking=False)
    return _flock(descriptor, alone=True)


def occupy(descriptor: int, *, alone: bool) -> bool | None:
    """Lock an open file until it is closed, without waiting. The lock is exclusive if `alone`, and shared otherwise.

    Returns:
        True if the file is now locked; False if another process holds a conflicting lock; None if the system has no such locks.
    """
    try:
        return _flock(descriptor, alone=alone)
    except (ImportError, OSError):
        return None


def _flock(descriptor: int, *, alone: bool) -> bool:
    import fcntl  # late: missing on Windows

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def wait_for(descriptor: int, meanwhile: Callable[[], None] | None, take: Callable[[int], bool | None] | None = None) -> bool:
    """Wait for the lock of an open file, and hold it until the file is closed.

    Args:
        meanwhile: called every 0.25 s during the wait; it may raise to cancel the wait.
        take: tries to get the lock; None: use `claim`.

    Returns:
        Whether the file is now locked; False if the file system has no locks.
    """
    looked = time.monotonic()
    while (is_ours := (take or claim)(descriptor)) is False:
        if meanwhile is not None and time.monotonic() - looked >= _LOOK:
            looked = time.monotonic()
            meanwhile()
        time.sleep(_POLL)
    return is_ours is not None
