"""A directory of the user's, and the files that get their names in it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final

from ..artifact.title import same_name
from ..content import BESIDE_FROM, Beside, Buffer, Verified
from ..errors import IntegrityError, StorageError
from ..files import Writer, storage_error
from ..oci import Descriptor
from .directory import Directory, cloned

_CHUNK: Final = 1 << 20


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
        files: dict[str, Wish] = {}
        directories: dict[str, Wish] = {}
        for wish in wishes:
            parts = wish.name.split("/")
            *above, own = [same_name("/".join(parts[: depth + 1])) for depth in range(len(parts))]
            # A directory of one wish may be a file of another.
            other = files.get(own) or directories.get(own) or next((files[key] for key in above if key in files), None)
            if other is None:
                files[own] = wish
                directories.update(dict.fromkeys(above, wish))
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
                with directory.open(name, os.O_RDONLY, "rb") as file:
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
        with self.begin(wish) as placing:
            placing.fill(open_blob)
            placing.publish(force=force)
        return self.path(wish.name)

    @contextmanager
    def begin(self, wish: Wish) -> Iterator[Placing]:
        """Make a part beside the final name of a wish; it is gone at the end, whether it was published or not.

        Raises:
            StorageError: it cannot be written.
        """
        path = self.path(wish.name)
        try:
            with self._directory(wish.name, make=True) as (directory, name):
                self._sweep(directory)
                part, file = directory.make_part()
                try:
                    with file:
                        placing = Placing(wish, path, file, lambda force: directory.publish(part, name, replace=force))
                        try:
                            yield placing
                        finally:
                            placing.end()
                finally:
                    directory.unlink(part)
        except OSError as error:
            raise storage_error(error, path, needed=wish.descriptor.size) from error

    def _sweep(self, directory: Directory) -> None:
        """Once for each directory, take away what killed runs have left."""
        with self._guard:
            if directory.path in self._swept:
                return
            self._swept.add(directory.path)
        directory.sweep()

    @contextmanager
    def _directory(self, name: str, *, make: bool) -> Iterator[tuple[Directory, str]]:
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
        directory = Directory.open_root(self.root)
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


class Placing:
    """A file on its way to its final name: filled from a blob, or as a sink beside a transfer into the cache.

    Args:
        publish: gives the part its name, replacing what is there or not.
    """

    def __init__(self, wish: Wish, path: Path, file: BinaryIO, publish: Callable[[bool], None]) -> None:
        self._wish = wish
        self._path = path
        self._file = file
        self._publish = publish
        self._beside: Beside | None = None
        self._held = 0
        self._writer = Writer(file)

    @property
    def held(self) -> int:
        return self._held

    def write(self, data: Buffer) -> None:
        if self._beside is None and self._wish.descriptor.size >= BESIDE_FROM:
            self._beside = Beside(self._put)
        self._held += len(data)
        (self._put if self._beside is None else self._beside.give)(data)

    def restart(self) -> None:
        self._settle()
        self._file.seek(0)
        self._file.truncate()
        self._held = 0

    def fill(self, open_blob: Callable[[], BinaryIO]) -> None:
        """Take the bytes of a blob, hashing them.

        Raises:
            IntegrityError: they are not what the descriptor says.
        """
        self.restart()
        verified = Verified(self._wish.descriptor)
        with open_blob() as blob:
            source = self._file if cloned(blob, self._file) else blob
            source.seek(0)
            while chunk := source.read(_CHUNK):
                verified.update(chunk)
                if source is blob:
                    self.write(chunk)
        self._settle()
        verified.check()

    def publish(self, *, force: bool = False) -> None:
        """Force the bytes to the disk and give them their final name. The caller knows that they are the right ones.

        Raises:
            StorageError: something else has that name by now.
        """
        self._settle()
        os.fsync(self._file.fileno())
        try:
            self._publish(force)
        except FileExistsError as error:
            raise StorageError(
                f"another file is at `{self._path}` by now", code="file-differs", hint="`--force` replaces it", path=str(self._path)
            ) from error

    def end(self) -> None:
        """Nothing more comes."""
        with suppress(Exception):
            self._settle()

    def _put(self, data: Buffer) -> None:
        self._writer.write(data)

    def _settle(self) -> None:
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.end()
