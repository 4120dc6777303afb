"""An open directory: everything below it is reached by descriptor where the system can, and never through a link."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

_PREFIX: Final = ".marfetch-"
_SUFFIX: Final = ".part"
_STALE: Final = 24 * 3600.0  # seconds after which a part that a killed run has left is swept
_FICLONE: Final = 0x40049409  # ioctl_ficlonerange(2): share the blocks of another file, where the file system can
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_BY_DESCRIPTOR: Final = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd


def cloned(blob: BinaryIO, file: BinaryIO) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    with suppress(OSError):
        fcntl.ioctl(file.fileno(), _FICLONE, blob.fileno())
        return True
    return False


def claimed(file: BinaryIO) -> bool | None:
    """Claim an open file until it is closed: False where another process has it; None where the file system has no such claims."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


class Directory:
    """An open directory. Where the system can, everything goes through its descriptor, and nobody can swap it for a link."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def open_root(cls, path: Path) -> Directory:
        if not _BY_DESCRIPTOR:
            return cls(path, None)
        return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW | _CLOEXEC))

    def enter(self, name: str) -> Directory:
        if self._descriptor is None:
            path = self.path / name
            if path.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            return Directory(path, None)
        return Directory(
            self.path / name, os.open(self._at(name), os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW | _CLOEXEC, dir_fd=self._descriptor)
        )

    def mkdir(self, name: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(self._at(name), 0o755, dir_fd=self._descriptor)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)

    def open(self, name: str, flags: int, mode: str) -> BinaryIO:
        # 0644 whatever the umask is, or less where the umask takes more away.
        return os.fdopen(os.open(self._at(name), flags | _NO_FOLLOW | _CLOEXEC, 0o644, dir_fd=self._descriptor), mode, buffering=0)  # type: ignore[return-value]

    def make_part(self) -> tuple[str, BinaryIO]:
        """A new file with a name of its own, claimed for as long as it is open."""
        while True:
            part = f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
            file = self.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, "w+b")
            if claimed(file) is not False and os.fstat(file.fileno()).st_nlink:
                return part, file
            file.close()  # another run swept it in the moment before it was claimed

    def unlink(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(self._at(name), dir_fd=self._descriptor)

    def publish(self, part: str, name: str, *, replace: bool) -> None:
        """Rename in one step; without `replace` only if nothing has the name.

        Raises:
            FileExistsError: something has it.
        """
        if not replace:
            try:
                os.link(self._at(part), self._at(name), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor, follow_symlinks=False)
            except FileExistsError:
                raise
            except (OSError, NotImplementedError):
                # A file system without hard links: the look and the rename are two steps there.
                with suppress(FileNotFoundError):
                    self.stat(name)
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
            else:
                self.unlink(part)
                return
        os.replace(self._at(part), self._at(name), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def sweep(self) -> None:
        """Take away parts that killed runs have left: those that nobody claims, or, where that cannot be told, old ones."""
        with suppress(OSError):
            for name in os.listdir(self.path if self._descriptor is None else self._descriptor):  # noqa: PTH208 - by descriptor
                if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                    with suppress(OSError):
                        self._sweep_one(name)

    def _sweep_one(self, name: str) -> None:
        with self.open(name, os.O_RDONLY | _NO_WAIT, "rb") as file:
            status = os.fstat(file.fileno())
            ours = claimed(file)
            if stat.S_ISREG(status.st_mode) and (ours or (ours is None and time.time() - status.st_mtime > _STALE)):
                self.unlink(name)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _at(self, name: str) -> str | bytes:
        # UTF-8 whatever the locale is: a name is the same on every machine.
        return str(self.path / name) if self._descriptor is None else name.encode()
