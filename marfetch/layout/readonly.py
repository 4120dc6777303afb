"""A layout in a tar, for reading only: blobs are read where they lie, nothing is ever unpacked. A bundle is one.

The file is opened once and stays open, so that what is read is the archive that was looked at, also when another one gets its name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ..errors import IntegrityError
from ..oci import Digest
from ..tar import BLOCK, TarMember, members
from .blobs import Entry, Extent, Stamp, not_there
from .folder import Folder, not_a_layout, unreadable
from .index import MAX_INDEX_SIZE, MAX_MARKER_SIZE, check_marker, missing_index, parse_index, too_large

_COMPRESSED: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}


class ReadonlyTar:
    """The tar of a layout, as a store; to be closed.

    Raises:
        InputError: `not-a-layout`, also for a compressed tar: content in it cannot be reached by its offset.
        IntegrityError: `malformed`.
        PolicyError: `archive-refused`, `limit-passed`.
        StorageError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.root = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(error, path) from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise not_a_layout(self.root, "it is neither a folder nor a file")
        self._members = self._find()
        marker = self.document("oci-layout", MAX_MARKER_SIZE)
        if marker is None:
            raise not_a_layout(self.root, "the archive has no `oci-layout` at its root")
        check_marker(marker, str(self.root))
        index = self.document("index.json", MAX_INDEX_SIZE)
        if index is None:
            raise missing_index(str(self.root))
        self._entries = parse_index(index, str(self.root))

    def _find(self) -> dict[str, TarMember]:
        try:
            head = os.pread(self._file, BLOCK, 0)
        except OSError as error:
            raise unreadable(error, self.root) from error
        for magic, name in _COMPRESSED.items():
            if head.startswith(magic):
                raise not_a_layout(
                    self.root, f"it is compressed ({name})", hint="unpack the compression first: a plain tar is served as it is"
                )
        if not head.strip(b"\x00") or (head[257:262] != b"ustar" and head[257:265] != bytes(8)):
            raise not_a_layout(self.root, "it is not a tar")
        found: dict[str, TarMember] = {}
        for member in members(self._file, str(self.root)):
            if member.name in found:
                raise IntegrityError(
                    f"the archive `{self.root}` is malformed: `{member.name}` is in it twice", code="malformed", path=str(self.root)
                )
            found[member.name] = member
        return found

    def state(self) -> object:
        """The same for ever: it is the file that was opened."""
        return self._file

    def entries(self) -> Sequence[Entry]:
        return self._entries

    def stamp(self, digest: Digest) -> Stamp | None:
        member = self._member(digest)
        return self._stamp(member) if member is not None and self._file >= 0 else None

    def extent(self, digest: Digest) -> Extent:
        member = self._member(digest)
        if member is None or self._file < 0:
            raise not_there(digest, self.root)
        return Extent(self._file, self._stamp(member), str(self.root), offset=member.offset, owned=False)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> ReadonlyTar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def members(self) -> Mapping[str, TarMember]:
        """Every file in it, in the order of the archive."""
        return self._members

    def document(self, name: str, most: int) -> bytes | None:
        """A file beside the blobs; None where it is not there.

        Raises:
            PolicyError: `limit-passed`: it has more bytes than that.
            IntegrityError: `malformed`: it was cut while it was read.
            StorageError: it cannot be read.
        """
        member = self._members.get(name)
        if member is None:
            return None
        if member.size > most:
            raise too_large(name, str(self.root), most)
        data = Extent(self._file, self._stamp(member), str(self.root), offset=member.offset, owned=False).read(0, member.size)
        if len(data) != member.size:
            raise IntegrityError(f"the archive `{self.root}` is malformed: it was cut while it was read", code="malformed")
        return data

    def raw(self) -> Extent:
        """The archive itself, header by header; not to be closed.

        Raises:
            StorageError: it cannot be looked at.
        """
        try:
            return Extent(self._file, Stamp.of(os.fstat(self._file)), str(self.root), owned=False)
        except OSError as error:
            raise unreadable(error, self.root) from error

    def _member(self, digest: Digest) -> TarMember | None:
        return self._members.get(f"blobs/{digest.algorithm}/{digest.encoded}")

    def _stamp(self, member: TarMember) -> Stamp:
        # Somebody may write into the open file all the same: its time then changes, and everything is hashed anew.
        status = os.fstat(self._file)
        return Stamp(status.st_dev, status.st_ino, member.size, status.st_mtime_ns)


def open_store(path: Path) -> ReadonlyTar | Folder:
    """The layout in a folder or in a tar.

    Raises:
        Error: as `Folder` and `ReadonlyTar`.
    """
    return Folder(path) if path.is_dir() else ReadonlyTar(path)
