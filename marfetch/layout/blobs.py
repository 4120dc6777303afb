"""Read blobs from open files: the same code reads layouts in directories and in tars."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeAlias

from ..content import BlobRange
from ..errors import NotFoundError
from ..files import storage_error
from ..oci import Descriptor, Digest

CHUNK: Final = 1 << 20

Entry: TypeAlias = tuple[str | None, Descriptor]
"""An entry of `index.json`: its `org.opencontainers.image.ref.name`, if any, and its descriptor."""


class Stamp(NamedTuple):
    """Cheap metadata that shows whether a blob's file has changed.

    The inode's change time is left out: it also changes when another file takes over the name of an open file.

    Attributes:
        size: the size of the blob in bytes.
        modified: the modification time of the file, in nanoseconds.
    """

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp of a blob that has its own file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


_seeking: Final = threading.Lock()


def read_at(file: int, length: int, offset: int) -> bytes:
    """Read from an offset of an open file; every thread may do so at the same time.

    Raises:
        OSError: the file cannot be read.
    """
    if hasattr(os, "pread"):
        return os.pread(file, length, offset)
    with _seeking:  # Windows: all threads share the position of the file
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, length)


class Extent:
    """The bytes of one blob in an open file.

    Args:
        file: an open file descriptor.
        offset: the offset of the blob in the file, in bytes.
        owned: whether `close` closes the file; False for a blob in a tar, because the tar stays open.
    """

    __slots__ = ("_owned", "_path", "file", "offset", "stamp")

    def __init__(self, file: int, stamp: Stamp, path: str, *, offset: int = 0, owned: bool = True) -> None:
        self.file = file
        self.offset = offset
        self.stamp = stamp
        self._owned = owned
        self._path = path

    @classmethod
    def of(cls, file: int, path: str) -> Extent:
        """Return the extent that covers a whole file.

        Raises:
            OSError: the file was deleted.
        """
        return cls(file, Stamp.of(os.fstat(file)), path)

    @property
    def size(self) -> int:
        """The size of the blob in bytes."""
        return self.stamp.size

    def read(self, position: int, length: int) -> bytes:
        """Read at most `length` bytes from a position in the blob; fewer at its end.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            return read_at(self.file, min(length, self.size - position), self.offset + position)
        except OSError as error:
            raise storage_error(error, self._path) from error

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """Yield all bytes from a position on; fewer than `size` if the file was truncated.

        Raises:
            StorageError: the file cannot be read.
        """
        while start < self.size and (piece := self.read(start, CHUNK)):
            start += len(piece)
            yield piece

    def is_unchanged(self) -> bool:
        """Return whether the file is unchanged since it was opened."""
        return os.fstat(self.file).st_mtime_ns == self.stamp.modified

    def close(self) -> None:
        """Close the file if it is owned."""
        if self._owned and self.file >= 0:
            os.close(self.file)
            self.file = -1

    def __enter__(self) -> Extent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlobStore(Protocol):
    """Read access to the blobs and the index of a layout; every method may be called from any thread."""

    @property
    def root(self) -> Path:
        """The path of the layout, for messages."""

    def state(self) -> object:
        """Return a value that changes when the index changes.

        Raises:
            StorageError: the index cannot be read.
        """

    def entries(self) -> Sequence[Entry]:
        """Return the entries of the index, in order.

        Raises:
            IntegrityError: `malformed`.
            StorageError: the index cannot be read.
        """

    def stamp(self, digest: Digest) -> Stamp | None:
        """Return the stamp of a blob, or None if it is missing."""

    def extent(self, digest: Digest) -> Extent:
        """Open a blob. Its bytes are not verified, and the caller must close it.

        Raises:
            NotFoundError: `blob-not-found`.
            StorageError: the blob cannot be read.
        """

    def close(self) -> None:
        """Close all open files."""


@contextmanager
def open_range(store: BlobStore, digest: Digest, start: int) -> Iterator[BlobRange]:
    """Open a blob at an offset. With store and digest bound, this function is a `BlobReader`.

    Raises:
        Error: see `BlobStore.extent`.
    """
    with store.extent(digest) as extent:
        yield BlobRange(start, extent.pieces(start))


def not_there(digest: Digest, root: Path) -> NotFoundError:
    """Return the error for a missing blob."""
    return NotFoundError(f"the blob `{digest}` is not in `{root}`", code="blob-not-found", digest=str(digest), path=str(root))
