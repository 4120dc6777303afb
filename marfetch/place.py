"""The only module that writes where the user looks: final names, clashes, and the step from the cache into a directory.

A final name appears by one atomic step, after the bytes beside it have been hashed and forced to the disk. Directories below the
destination are entered by descriptor and never through a symbolic link, so nothing that a publisher or another process puts there
can lead outside.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final

from .artifact.title import same_name
from .content import Verified
from .errors import IntegrityError, StorageError
from .files import storage_error
from .oci import Descriptor

_PREFIX: Final = ".marfetch-"
_SUFFIX: Final = ".part"
_STALE: Final = 24 * 3600.0  # seconds after which a part that a killed run has left is swept
_CHUNK: Final = 1 << 20
_FICLONE: Final = 0x40049409  # ioctl_ficlonerange(2): share the blocks of another file, where the file system can
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_BY_DESCRIPTOR: Final = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd


class State(Enum):
    """What is at a final name already."""

    ABSENT = "absent"
    SAME = "same"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Wish:
    """One file that is to be there.

    Attributes:
        name: a safe relative path with `/`.
        owner: the reference that it belongs to, for messages.
    """

    name: str
    descriptor: Descriptor
    owner: str


class Destination:
    """A directory of the user's.

    Args:
        root: made, with its parents, when the first file is placed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._swept: set[Path] = set()
        self._guard = threading.Lock()

    def path(self, name: str) -> Path:
        """The path of a file, as it is shown."""
        return self.root / Path(*name.split("/"))

    def clashes(self, wishes: Sequence[Wish]) -> dict[str, StorageError]:
        """Names that two wishes want for different content, also where only some file system takes them for one.

        Returns:
            Owner → what to tell it; empty where all names go side by side.
        """
        found: dict[str, StorageError] = {}
        taken: dict[str, Wish] = {}
        for wish in wishes:
            parts = wish.name.split("/")
            keys = [same_name("/".join(parts[: depth + 1])) for depth in range(len(parts))]
            # A directory of one wish may be a file of another.
            other = taken.get(keys[-1]) or next((taken[key] for key in keys[:-1] if key in taken), None)
            other = other or next((w for key, w in taken.items() if key.startswith(f"{keys[-1]}/")), None)
            if other is None:
                taken[keys[-1]] = wish
            elif other.descriptor.digest != wish.descriptor.digest or other.name != wish.name:
                error = StorageError(
                    f"`{wish.name}` of `{wish.owner}` and `{other.name}` of `{other.owner}` are one name",
                    code="name-clash",
                    path=str(self.path(wish.name)),
                )
                found.setdefault(other.owner, error)
                found.setdefault(wish.owner, error)
        return found

    def state(self, wish: Wish) -> State:
        """What is at the final name of a wish.

        Raises:
            StorageError: it cannot be looked at.
        """
        try:
            with self._directory(wish.name, make=False) as (directory, name):
                status = directory.stat(name)
                if not stat.S_ISREG(status.st_mode) or status.st_size != wish.descriptor.size:
                    return State.DIFFERENT
                verified = Verified(wish.descriptor)
                with directory.open(name, os.O_RDONLY | _NO_FOLLOW, "rb") as file:
                    while chunk := file.read(_CHUNK):
                        verified.update(chunk)
                verified.check()
        except FileNotFoundError:
            return State.ABSENT
        except IntegrityError:
            return State.DIFFERENT
        except OSError as error:
            raise storage_error(error, self.path(wish.name)) from error
        return State.SAME

    def put(self, wish: Wish, open_blob: Callable[[], BinaryIO], *, force: bool = False) -> Path:
        """Give the content of a blob its final name.

        Args:
            open_blob: opens the blob; its bytes are hashed here, whoever gives them.
            force: replace what is there.

        Returns:
            The path, as it is shown.

        Raises:
            IntegrityError: the blob is not what its descriptor says; nothing has changed.
            StorageError: it cannot be written, or something else has that name by now.
        """
        path = self.path(wish.name)
        try:
            with self._directory(wish.name, make=True) as (directory, name):
                self._sweep(directory)
                part = f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
                try:
                    with open_blob() as blob, directory.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, "w+b") as file:
                        _fill(blob, file, wish.descriptor)
                    directory.publish(part, name, replace=force)
                finally:
                    directory.unlink(part)
        except FileExistsError as error:
            raise StorageError(
                f"another file is at `{path}` by now", code="file-differs", hint="`--force` replaces it", path=str(path)
            ) from error
        except OSError as error:
            raise storage_error(error, path, needed=wish.descriptor.size) from error
        return path

    def _sweep(self, directory: _Directory) -> None:
        """Once for each directory, take away what killed runs have left."""
        with self._guard:
            if directory.path in self._swept:
                return
            self._swept.add(directory.path)
        directory.sweep()

    @contextmanager
    def _directory(self, name: str, *, make: bool) -> Iterator[tuple[_Directory, str]]:
        """The directory that holds the last part of a name, and that part."""
        *parents, last = name.split("/")
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        if self.root.is_symlink():
            raise StorageError(
                f"the destination `{self.root}` is a symbolic link",
                code="file-unusable",
                hint=f"give the directory that it leads to: `{self.root.resolve()}`",
                path=str(self.root),
            )
        directory = _Directory.open_root(self.root)
        try:
            for parent in parents:
                if make:
                    directory.mkdir(parent)
                below = directory.enter(parent)
                directory.close()
                directory = below
            yield directory, last
        finally:
            directory.close()


def _fill(blob: BinaryIO, file: BinaryIO, descriptor: Descriptor) -> None:
    """Copy, hash and force to the disk."""
    verified = Verified(descriptor)
    if _cloned(blob, file):
        blob = file
        file.seek(0)
    while chunk := blob.read(_CHUNK):
        verified.update(chunk)
        if blob is not file:
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
    verified.check()
    os.fsync(file.fileno())


def _cloned(blob: BinaryIO, file: BinaryIO) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    with suppress(OSError):
        fcntl.ioctl(file.fileno(), _FICLONE, blob.fileno())
        return True
    return False


class _Directory:
    """An open directory. Where the system can, everything goes through its descriptor, and nobody can swap it for a link."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def open_root(cls, path: Path) -> _Directory:
        if not _BY_DESCRIPTOR:
            return cls(path, None)
        return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW | _CLOEXEC))

    def enter(self, name: str) -> _Directory:
        if self._descriptor is None:
            path = self.path / name
            if path.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            return _Directory(path, None)
        return _Directory(
            self.path / name, os.open(self._at(name), os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW | _CLOEXEC, dir_fd=self._descriptor)
        )

    def mkdir(self, name: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(self._at(name), 0o755, dir_fd=self._descriptor)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)

    def open(self, name: str, flags: int, mode: str) -> BinaryIO:
        # 0644 whatever the umask is, or less where the umask takes more away.
        return os.fdopen(os.open(self._at(name), flags | _CLOEXEC, 0o644, dir_fd=self._descriptor), mode, buffering=0)  # type: ignore[return-value]

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
        """Take away parts that killed runs have left."""
        with suppress(OSError):
            for name in os.listdir(self.path if self._descriptor is None else self._descriptor):  # noqa: PTH208 - by descriptor
                if name.startswith(_PREFIX) and name.endswith(_SUFFIX) and time.time() - self.stat(name).st_mtime > _STALE:
                    self.unlink(name)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _at(self, name: str) -> str | bytes:
        # UTF-8 whatever the locale is: a name is the same on every machine.
        return str(self.path / name) if self._descriptor is None else name.encode()
