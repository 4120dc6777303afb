"""A layout in a folder, for reading only: whoever made it, nothing in it is changed, mended or dropped."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ..errors import Error, InputError, StorageError
from ..oci import Digest
from .blobs import Entry, Extent, Stamp, not_there
from .index import MAX_INDEX_SIZE, MAX_MARKER_SIZE, check_marker, missing_index, parse_index, too_large

# Without waiting for the other end of a pipe. Links are followed: some tools make layouts of them, and all bytes are hashed.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Folder:
    """The folder of a layout, as a store.

    Raises:
        InputError: `not-a-layout`.
        IntegrityError: `malformed`: of another version.
        StorageError: it cannot be read.
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
            status = os.stat(self._index)  # noqa: PTH116 - asked at every request
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
            status = os.stat(self._path(digest))  # noqa: PTH116 - asked at every request
        except OSError:
            return None
        return Stamp.of(status) if stat.S_ISREG(status.st_mode) else None

    def extent(self, digest: Digest) -> Extent:
        path = self._path(digest)
        try:
            file = os.open(path, _FLAGS)
            status = os.fstat(file)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise not_there(digest, self.root) from error
        except OSError as error:
            raise unreadable(error, path) from error
        if not stat.S_ISREG(status.st_mode):
            os.close(file)
            raise not_there(digest, self.root)
        return Extent(file, Stamp.of(status), path)

    def close(self) -> None:
        """Nothing is kept open."""

    def _path(self, digest: Digest) -> str:
        # Not by way of `Path`, which takes longer than the system does to look at the file.
        return f"{self._blobs}/{digest.algorithm}/{digest.encoded}"

    def document(self, name: str, most: int) -> bytes | None:
        """A file beside the blobs; None where it is not there.

        Raises:
            PolicyError: `limit-passed`: it has more bytes than that.
            StorageError: it cannot be read.
        """
        path = self.root / name
        try:
            with os.fdopen(os.open(path, _FLAGS), "rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(error, path) from error
        if len(data) > most:
            raise too_large(name, str(self.root), most)
        return data


def not_a_layout(path: Path, reason: str, *, hint: str | None = None) -> Error:
    """The error for something that is not an OCI image layout at all."""
    return InputError(f"`{path}` is not an OCI image layout: {reason}", code="not-a-layout", hint=hint, path=str(path))


def unreadable(error: OSError, path: Path | str) -> StorageError:
    """The error for a layout, or a file of it, that cannot be read."""
    reason = (error.strerror or str(error)).lower()
    return StorageError(f"{reason}: `{path}`", code="file-unusable", hint="check the path, and who may read it", path=str(path))
