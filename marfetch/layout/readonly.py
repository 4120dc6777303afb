"""Read-only layouts in directories and tars. Blobs in a tar are read in place, without unpacking. A bundle is such a tar.

A tar is opened once and stays open. Even if another file takes over its path, marfetch reads the archive that it checked.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from ..errors import Error, InputError, IntegrityError, PolicyError, StorageError
from ..oci import Digest
from ..records import open_regular
from ..tar import BLOCK, Fault, TarLimits, TarMember, TarReader, plain_name
from .blobs import Entry, Extent, Stamp, not_there, read_at
from .index import MAX_INDEX_SIZE, MAX_MARKER_SIZE, check_marker, missing_index, parse_index, too_large

# -- a layout in a directory: nothing in it is changed, repaired or deleted


class Folder:
    """A read-only layout in a directory. Links are followed, because some tools create them; all bytes are verified anyway.

    Raises:
        InputError: `not-a-layout`.
        IntegrityError: `malformed`: the layout has an unsupported version.
        StorageError: the layout cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = f"{root}/blobs"
        self._index = f"{root}/index.json"
        marker = self.document("oci-layout", MAX_MARKER_SIZE)
        if marker is None:
            raise not_a_layout(root, "it has no file `oci-layout`")
        check_marker(marker, str(root))

    def state(self) -> object:
        try:
            status = os.stat(self._index)  # noqa: PTH116 - called for every request
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(error, self._index) from error
        return Stamp.of(status)

    def entries(self) -> Sequence[Entry]:
        data = self.document("index.json", MAX_INDEX_SIZE)
        if data is None:
            raise missing_index(str(self.root))
        return parse_index(data, str(self.root))

    def stamp(self, digest: Digest) -> Stamp | None:
        try:
            status = os.stat(self._path(digest))  # noqa: PTH116 - called for every request
        except OSError:
            return None
        return Stamp.of(status) if stat.S_ISREG(status.st_mode) else None

    def extent(self, digest: Digest) -> Extent:
        path = self._path(digest)
        try:
            file = open_regular(path, follow=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise not_there(digest, self.root) from error
        except OSError as error:
            raise not_there(digest, self.root) if error.errno == errno.EINVAL else unreadable(error, path) from error
        return Extent.of(file, path)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _path(self, digest: Digest) -> str:
        # Building a `Path` would take longer than the `stat` call.
        return f"{self._blobs}/{digest.algorithm}/{digest.encoded}"

    def document(self, name: str, most: int) -> bytes | None:
        """Read a file next to the blobs; None if it is missing.

        Raises:
            PolicyError: `limit-passed`: the file is too large.
            StorageError: the file cannot be read.
        """
        path = self.root / name
        try:
            with os.fdopen(open_regular(path, follow=True), "rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(error, path) from error
        if len(data) > most:
            raise too_large(name, str(self.root), most)
        return data


def not_a_layout(path: Path, reason: str, *, hint: str | None = None) -> Error:
    """Return the error for a path that is not an OCI image layout."""
    return InputError(f"`{path}` is not an OCI image layout: {reason}", code="not-a-layout", hint=hint, path=str(path))


def unreadable(error: OSError, path: Path | str) -> StorageError:
    """Return the error for an unreadable layout or file."""
    reason = (error.strerror or str(error)).lower()
    return StorageError(f"{reason}: `{path}`", code="file-unusable", hint="check the path and its permissions", path=str(path))


# -- a layout in a tar

MAX_MEMBERS: Final = 500_000
_LIMITS: Final = TarLimits(path=1024, header=64 << 10, headers=MAX_MEMBERS, padding=4 << 20)
"""Limits for the headers of the tar. The path of a blob has only 77 bytes (SHA-256) or 141 bytes (SHA-512)."""
_NO_PARTS: Final = frozenset({"", ".", ".."})
_COMPRESSED: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}


def members(archive: Extent, where: str) -> Iterator[TarMember]:
    """Yield the regular files and directories of an archive. All names are plain relative paths.

    Args:
        where: the path of the archive, for messages.

    Raises:
        IntegrityError: `malformed`: the archive is truncated or ambiguous, or has a wrong checksum.
        PolicyError: `archive-refused`, `limit-passed`.
        StorageError: the archive cannot be read.
    """

    def fail(fault: Fault, reason: str, member: str, limit: int = 0) -> NoReturn:
        rule = f"{reason}, the limit is {limit}" if fault is Fault.LIMIT else reason
        about = f" because of its member `{member[:200]}`" if fault is not Fault.BROKEN else ""
        if fault in (Fault.BROKEN, Fault.AMBIGUOUS):
            raise malformed(where, rule, about)
        raise PolicyError(f"the archive `{where}` is refused{about}: {rule}", code="archive-refused", path=where, rule=rule)

    for count, member in enumerate(TarReader(archive.read, fail, _LIMITS), start=1):
        if count > MAX_MEMBERS:
            raise PolicyError(
                f"`{where}` has more than {MAX_MEMBERS} members", code="limit-passed", path=where, rule=f"at most {MAX_MEMBERS} members"
            )
        if member.end > archive.size:
            fail(Fault.BROKEN, f"it is truncated in `{member.name[:200]}`", member.name)
        name = plain_name(member.name, is_directory=member.is_directory)
        is_top = member.is_directory and name == "."
        if not is_top and (not name.isprintable() or "\\" in name or not _NO_PARTS.isdisjoint(name.split("/"))):
            fail(Fault.REFUSED, "its name is not a plain relative path", member.name)
        yield member if name == member.name else member._replace(name=name)


def malformed(where: str, reason: str, about: str = "") -> IntegrityError:
    """Return the error for an archive that is not a complete, plain tar of a layout."""
    return IntegrityError(f"the archive `{where}` is malformed{about}: {reason}", code="malformed", path=where)


class ReadonlyTar:
    """A read-only layout in a tar. Close it after use.

    Raises:
        InputError: `not-a-layout`, also for a compressed tar: its members cannot be read in place.
        IntegrityError: `malformed`.
        PolicyError: `archive-refused`, `limit-passed`.
        StorageError: the tar cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.root = path
        try:
            self._file = open_regular(path, follow=True)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise not_a_layout(path, "it is neither a folder nor a file") from error
            raise unreadable(error, path) from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._find()
        marker = self.document("oci-layout", MAX_MARKER_SIZE)
        if marker is None:
            raise not_a_layout(self.root, "the archive has no `oci-layout` at its root")
        check_marker(marker, str(self.root))
        index = self.document("index.json", MAX_INDEX_SIZE)
        if index is None:
            raise missing_index(str(self.root))
        self._entries = parse_index(index, str(self.root))

    def _find(self) -> None:
        try:
            head = read_at(self._file, BLOCK, 0)
        except OSError as error:
            raise unreadable(error, self.root) from error
        for magic, name in _COMPRESSED.items():
            if head.startswith(magic):
                raise not_a_layout(
                    self.root, f"it is compressed ({name})", hint="decompress it first: marfetch reads only uncompressed tar files"
                )
        if not head.strip(b"\x00") or (head[257:262] != b"ustar" and head[257:265] != bytes(8)):
            raise not_a_layout(self.root, "it is not a tar archive")
        self._members: dict[str, TarMember] = {}
        self._directories: list[TarMember] = []
        for member in members(self.raw(), str(self.root)):
            if member.is_directory:
                self._directories.append(member)
            elif member.name in self._members:
                raise malformed(str(self.root), f"`{member.name}` appears twice")
            else:
                self._members[member.name] = member

    def state(self) -> object:
        """Return a constant, because the index is read only once."""
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
        """All files, in the order of the archive."""
        return self._members

    @property
    def directories(self) -> Sequence[TarMember]:
        """All directories, in the order of the archive."""
        return self._directories

    def document(self, name: str, most: int) -> bytes | None:
        """Read a file next to the blobs; None if it is missing.

        Raises:
            PolicyError: `limit-passed`: the file is too large.
            IntegrityError: `malformed`: the archive was truncated while marfetch read it.
            StorageError: the file cannot be read.
        """
        member = self._members.get(name)
        if member is None:
            return None
        if member.size > most:
            raise too_large(name, str(self.root), most)
        data = Extent(self._file, self._stamp(member), str(self.root), offset=member.offset, owned=False).read(0, member.size)
        if len(data) != member.size:
            raise malformed(str(self.root), "it was truncated while marfetch read it")
        return data

    def raw(self) -> Extent:
        """Return the whole archive as an extent. The caller must not close it.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            return Extent(self._file, Stamp.of(os.fstat(self._file)), str(self.root), owned=False)
        except OSError as error:
            raise unreadable(error, self.root) from error

    def _member(self, digest: Digest) -> TarMember | None:
        return self._members.get(f"blobs/{digest.algorithm}/{digest.encoded}")

    def _stamp(self, member: TarMember) -> Stamp:
        # If another process writes to the open file, the modification time changes, and everything is verified again.
        status = os.fstat(self._file)
        return Stamp(status.st_dev, status.st_ino, member.size, status.st_mtime_ns)


def open_store(path: Path) -> ReadonlyTar | Folder:
    """Open the layout in a directory or a tar.

    Raises:
        Error: see `Folder` and `ReadonlyTar`.
    """
    return Folder(path) if path.is_dir() else ReadonlyTar(path)
