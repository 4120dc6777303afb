"""Where the bytes of a blob lie: a piece of an open file, so that a folder and a tar are read by one path."""

from __future__ import annotations

import os
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
"""An entry of `index.json`: its `org.opencontainers.image.ref.name`, if it has one, and the rest."""


class Stamp(NamedTuple):
    """What tells cheaply whether a blob is still the one that was looked at before.

    The time of the last change of the inode is not part of it: it moves when a file that is open is replaced by another one.

    Attributes:
        size: of the blob, bytes, ≥ 0.
        modified: nanoseconds, of the file that holds it.
    """

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Of a blob that is a file of its own."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Extent:
    """The bytes of one blob in an open file.

    Args:
        file: an open file descriptor.
        offset: bytes, where the blob begins in it.
        owned: whether `close` closes the file; a tar stays open for the next one.
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
        """A whole file.

        Raises:
            OSError: it is not there any more.
        """
        return cls(file, Stamp.of(os.fstat(file)), path)

    @property
    def size(self) -> int:
        """Bytes, ≥ 0."""
        return self.stamp.size

    def read(self, position: int, length: int) -> bytes:
        """At most so many bytes from a position within the blob; fewer at its end.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            return os.pread(self.file, min(length, self.size - position), self.offset + position)
        except OSError as error:
            raise storage_error(error, self._path) from error

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """All bytes from a position on; fewer than `size` says where the file has become shorter.

        Raises:
            StorageError: the file cannot be read.
        """
        while start < self.size and (piece := self.read(start, CHUNK)):
            start += len(piece)
            yield piece

    def is_unchanged(self) -> bool:
        """Whether nobody has written into the file since it was opened."""
        return os.fstat(self.file).st_mtime_ns == self.stamp.modified

    def close(self) -> None:
        """Let the file go, where it is this blob's own."""
        if self._owned and self.file >= 0:
            os.close(self.file)
            self.file = -1

    def __enter__(self) -> Extent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlobStore(Protocol):
    """Blobs and the index of a layout, for reading only; every method may be called from any thread."""

    @property
    def root(self) -> Path:
        """Where it is, for messages."""

    def state(self) -> object:
        """Something that is another one when the index has changed.

        Raises:
            StorageError: it cannot be looked at.
        """

    def entries(self) -> Sequence[Entry]:
        """What the index holds, in its order.

        Raises:
            IntegrityError: `malformed`.
            StorageError: it cannot be read.
        """

    def stamp(self, digest: Digest) -> Stamp | None:
        """What tells whether the blob has changed; None where it is not there."""

    def extent(self, digest: Digest) -> Extent:
        """The bytes of a blob, not checked yet; to be closed.

        Raises:
            NotFoundError: `blob-not-found`.
            StorageError: they cannot be read.
        """

    def close(self) -> None:
        """Let go of what is open."""


@contextmanager
def open_range(store: BlobStore, digest: Digest, start: int) -> Iterator[BlobRange]:
    """A blob from a byte on, as a source gives it.

    Raises:
        Error: as `BlobStore.extent`.
    """
    with store.extent(digest) as extent:
        yield BlobRange(start, extent.pieces(start))


def not_there(digest: Digest, root: Path) -> NotFoundError:
    """The error for a blob that a layout does not have."""
    return NotFoundError(f"the blob `{digest}` is not in `{root}`", code="blob-not-found", digest=str(digest), path=str(root))
