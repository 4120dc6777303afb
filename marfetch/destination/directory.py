"""Work in an open directory, by file descriptor where the system supports it, and never through a symbolic link.

Windows cannot open directories. There, each access first checks that every directory on the way from the root is still the same one and
no link or junction. A process that swaps a directory between that check and the access can redirect it.
"""

from __future__ import annotations

import errno
import ntpath
import os
import secrets
import stat
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO, Final, Literal

from ..artifact.filename import OWN_PREFIX
from ..files import AT_LAST, BY_DESCRIPTOR, claim, replace_file

_SUFFIX: Final = ".part"
_KEPT: Final = ".kept"  # suffix of an old directory that was moved aside; `sweep` keeps it, because it belongs to the user
_STALE: Final = 24 * 3600.0  # age in seconds at which a temporary file of a killed run is deleted
_FICLONE: Final = 0x40049409  # ioctl_ficlonerange(2): share blocks between files, if the file system can
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_JUNCTION: Final = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT: a link between directories of Windows
_LONG: Final = 240  # characters; longer paths get the prefix that turns off the limit of 260 characters on Windows
_PREFIX: Final = "\\\\?\\"


_parts: Final[set[tuple[Path, str]]] = set()
"""The temporary files and directories ("parts") of this process that still exist."""


def remove_parts(directories: Collection[Path] | None = None, *, is_over: bool = False) -> None:
    """Delete the remaining temporary files and directories of this process ("parts"), for example after a signal.

    Args:
        directories: delete only the parts in these directories; None: in all directories.
        is_over: whether all threads have finished; if False, claimed parts are kept.
    """
    for path, part in [one for one in list(_parts) if directories is None or one[0] in directories]:
        with suppress(OSError), closing(Directory.open_root(path)) as directory:
            if is_over:
                directory.remove(part)
            else:
                directory.sweep_one(part)


def _take_away(is_last: bool) -> None:
    """Delete the parts that could not be deleted before, because the process had no free file descriptor."""
    if _parts and is_last:
        os.closerange(3, 256)  # free some descriptors, so that deleting works
    remove_parts(is_over=is_last)


AT_LAST.append(_take_away)


def cloned(blob: BinaryIO, file: BinaryIO) -> bool:
    try:
        import fcntl  # late: missing on Windows
    except ImportError:
        return False
    with suppress(OSError):
        fcntl.ioctl(file.fileno(), _FICLONE, blob.fileno())
        return True
    return False


def has_link(root: Path, parts: Sequence[str]) -> bool:
    """Return whether a part of a name below a directory is a symbolic link."""
    path = os.fspath(root).encode("utf-8", "surrogateescape")  # as in `Directory`, in every locale
    for part in parts:
        path = os.path.join(path, part.encode("utf-8", "surrogateescape"))  # noqa: PTH118 - `Path` takes no bytes
        try:
            if stat.S_ISLNK(os.lstat(path).st_mode):
                return True
        except OSError:
            return False
    return False


class Directory:
    """An open directory. Where supported, access is by descriptor, so that no other process can swap it for a link.

    Args:
        descriptor: None: access is by path.
        above: the directories from the root to the parent, to check before each access by path.
    """

    def __init__(self, path: Path, descriptor: int | None, above: tuple[Directory, ...] = ()) -> None:
        self.path = path
        self._descriptor = descriptor
        self._above = above
        self._identity = self._seen() if descriptor is None else None

    @classmethod
    def open_root(cls, path: Path) -> Directory:
        if not BY_DESCRIPTOR:
            return cls(path, None)
        return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW | _CLOEXEC))

    def again(self) -> Directory:
        """Return a second handle on the directory; close it separately."""
        return Directory(self.path, None if self._descriptor is None else os.dup(self._descriptor), self._above)

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode, which identify the directory."""
        if self._descriptor is None:
            return self._seen()
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def _seen(self) -> tuple[int, int]:
        """Return device and inode of what is at the path now.

        Raises:
            OSError: it is not a directory; `ELOOP`: it is a link or a junction.
        """
        status = os.lstat(extended(self.path))
        wrong = errno.ELOOP if _is_link(status) else errno.ENOTDIR if not stat.S_ISDIR(status.st_mode) else None
        if wrong is not None:
            raise OSError(wrong, os.strerror(wrong), str(self.path))
        return status.st_dev, status.st_ino

    def _check(self) -> None:
        """Raise an error if another process has replaced this directory or one above it."""
        for directory in (*self._above, self):
            if directory._seen() != directory._identity:  # noqa: SLF001 - another directory of this class
                raise OSError(errno.EBUSY, "another process replaced the directory", str(directory.path))

    def names(self) -> list[str]:
        """Return the names in the directory, decoded as UTF-8 in every locale."""
        if self._descriptor is None:
            self._check()
            return os.listdir(extended(self.path))  # noqa: PTH208 - like the call below
        return [os.fsencode(name).decode("utf-8", "surrogateescape") for name in os.listdir(self._descriptor)]  # noqa: PTH208

    def sync(self) -> None:
        """Flush the names in the directory to disk, if supported."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.fsync(self._descriptor)

    def enter(self, name: str) -> Directory:
        if self._descriptor is None:
            self._check()
            return Directory(self.path / name, None, (*self._above, self))
        try:
            below = os.open(self._at(name), os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW | _CLOEXEC, dir_fd=self._descriptor)
        except NotADirectoryError:
            if stat.S_ISLNK(self.stat(name).st_mode):  # Linux reports this for links too
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self.path / name)) from None
            raise
        return Directory(self.path / name, below)

    def mkdir(self, name: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(self._at(name), 0o755, dir_fd=self._descriptor)

    def make(self, name: str) -> None:
        """Create a new directory.

        Raises:
            FileExistsError: the directory exists.
        """
        os.mkdir(self._at(name), 0o755, dir_fd=self._descriptor)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)

    def open(self, name: str, flags: int, mode: str, *, rights: int = 0o644) -> BinaryIO:
        # The umask may remove permissions from `rights`.
        return os.fdopen(os.open(self._at(name), flags | _NO_FOLLOW | _CLOEXEC, rights, dir_fd=self._descriptor), mode, buffering=0)  # type: ignore[return-value]

    def make_part(self) -> tuple[str, BinaryIO]:
        """Create a temporary file with a unique name. It stays claimed while it is open."""
        while True:
            part = self._new_part()
            file = self.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, "w+b")
            try:
                if claim(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink:
                    return part, file
            except BaseException:
                file.close()
                self.unlink(part)
                raise
            file.close()  # another run deleted the part before it was claimed

    def _new_part(self) -> str:
        part = f"{OWN_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        _parts.add((self.path, part))
        return part

    def make_part_directory(self) -> tuple[str, Directory]:
        """Create a temporary directory with a unique name. It stays claimed while it is open."""
        while True:
            part = self._new_part()
            self.make(part)
            try:
                with suppress(FileNotFoundError):  # another run deleted the part before it was claimed
                    below = self.enter(part)
                    with suppress(FileNotFoundError):
                        if below.claim() is not False and self.is_at(part, below):
                            return part, below
                    below.close()
            except BaseException:
                self.remove(part)
                raise

    def is_at(self, name: str, below: Directory) -> bool:
        """Return whether a name in this directory refers to the open directory `below`."""
        status = self.stat(name)
        return below.identity == (status.st_dev, status.st_ino)

    def claim(self) -> bool | None:
        """Lock the directory until it is closed; see `files.claim`."""
        return None if self._descriptor is None else claim(self._descriptor)

    def remove(self, name: str) -> None:
        """Delete a file, a link or a directory tree, best effort; links are not followed."""
        with suppress(OSError, RecursionError):
            if not stat.S_ISDIR(self.stat(name).st_mode):
                self.unlink(name)
                return
            with closing(self.enter(name)) as below:
                for inner in below.names():
                    below.remove(inner)
            os.rmdir(self._at(name), dir_fd=self._descriptor)
            _parts.discard((self.path, name))

    def discard(self, name: str) -> None:
        """Delete a directory tree. It is renamed to a part first, so that a killed run leaves no incomplete tree under its name.

        Raises:
            OSError: it cannot be renamed.
        """
        part = self._new_part()
        self._rename(name, part)
        self.remove(part)

    def unlink(self, name: str) -> None:
        with suppress(OSError):
            with suppress(FileNotFoundError):
                os.unlink(self._at(name), dir_fd=self._descriptor)
            _parts.discard((self.path, name))

    def unlink_part(self, part: str) -> None:
        """Delete a temporary file, unless it was published or deleted before."""
        if (self.path, part) in _parts:
            self.unlink(part)

    def publish(self, part: str, name: str, *, replace: bool) -> None:
        """Rename a part atomically; without `replace`, only if the name is free.

        Raises:
            FileExistsError: the name is taken.
        """
        if not replace:
            try:
                os.link(self._at(part), self._at(name), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor, follow_symlinks=False)
            except FileExistsError:
                raise
            except (OSError, NotImplementedError, AttributeError):
                if os.name == "nt":  # on Windows, a rename fails if the name is taken
                    self._rename(part, name)
                    _parts.discard((self.path, part))
                    return
                # Without hard links, checking the name and renaming are two steps.
                with suppress(FileNotFoundError):
                    self.stat(name)
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
            else:
                self.unlink(part)
                return
        replace_file(self._at(part), self._at(name), directory=self._descriptor)
        _parts.discard((self.path, part))

    def publish_directory(self, part: str, name: str, *, replace: bool) -> None:
        """Rename a directory part atomically; without `replace`, only if the name is free.

        If the system can exchange two names, the old directory gets the name of the part. Otherwise the old directory is moved aside
        first, and stays there if the process is killed before the part is renamed.

        Raises:
            FileExistsError: the name is taken.
        """
        if self._renamed(part, name, "exclusively"):
            _parts.discard((self.path, part))
            return
        if not self._has(name):
            self._rename(part, name)
            _parts.discard((self.path, part))
            return
        if not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        if self._renamed(part, name, "exchanged"):
            return
        aside = f"{OWN_PREFIX}{secrets.token_hex(8)}{_KEPT}"
        self._rename(name, aside)
        try:
            self._rename(part, name)
        except BaseException:
            self._rename(aside, name)
            raise
        _parts.discard((self.path, part))
        self.remove(aside)

    def _has(self, name: str) -> bool:
        with suppress(FileNotFoundError):
            self.stat(name)
            return True
        return False

    def _rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def _renamed(self, old: str, new: str, how: Literal["exclusively", "exchanged"]) -> bool:
        """Rename with a system call that Python does not offer. Return False if the system does not support it."""
        if self._descriptor is None:
            return False
        try:
            import ctypes  # late: ctypes is needed only to publish a directory

            library = ctypes.CDLL(None, use_errno=True)
            # renameat2(2) of Linux, renameatx_np(2) of macOS
            call, flags = (library.renameatx_np, (4, 2)) if sys.platform == "darwin" else (library.renameat2, (1, 2))
        except (ImportError, OSError, AttributeError):
            return False
        flag = ctypes.c_uint(flags[how == "exchanged"])
        return bool(call(self._descriptor, self._at(old), self._descriptor, self._at(new), flag) == 0)

    def sweep(self) -> None:
        """Delete the parts of killed runs: parts that no process has claimed or, if claims are unsupported, old parts."""
        with suppress(OSError):
            for name in self.names():
                if name.startswith(OWN_PREFIX) and name.endswith(_SUFFIX):
                    with suppress(OSError):
                        self.sweep_one(name)

    def sweep_one(self, name: str) -> None:
        """Delete a part if no process has claimed it or, if claims are unsupported, if it is old."""
        status = self.stat(name)
        if self._descriptor is None and stat.S_ISDIR(status.st_mode):
            if time.time() - status.st_mtime > _STALE:
                self.remove(name)
            return
        # Open without blocking: the name may be a named pipe. These flags also work for directories.
        number = os.open(self._at(name), os.O_RDONLY | _NO_WAIT | _NO_FOLLOW | _CLOEXEC, dir_fd=self._descriptor)
        try:
            status = os.fstat(number)
            ours = claim(number)
            is_part = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
            is_left = is_part and (ours or (ours is None and time.time() - status.st_mtime > _STALE))
            if is_left and BY_DESCRIPTOR:
                self.remove(name)
        finally:
            os.close(number)
        if is_left and not BY_DESCRIPTOR:
            self.remove(name)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _at(self, name: str) -> str | bytes:
        # Use UTF-8 in every locale, so that a name has the same bytes on every machine.
        if self._descriptor is not None:
            return name.encode("utf-8", "surrogateescape")
        self._check()
        return extended(self.path / name)


def _is_link(status: os.stat_result) -> bool:
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == _JUNCTION


def extended(path: Path) -> str:
    """Return a path for the system. On Windows, a long path becomes absolute and gets the prefix that removes the length limit."""
    text = str(path)
    if os.name != "nt" or len(text) < _LONG or text.startswith(_PREFIX):
        return text
    whole = ntpath.abspath(text)
    return f"{_PREFIX}UNC{whole[1:]}" if whole.startswith("\\\\") else f"{_PREFIX}{whole}"
