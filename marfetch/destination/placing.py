"""Write a file to its final name."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from ..content import BackgroundWriter, Buffer, Verified
from ..errors import StorageError
from ..files import BY_DESCRIPTOR, Writer
from ..oci import Descriptor
from .directory import cloned

_CHUNK: Final = 1 << 20


class Placing:
    """A temporary file that gets its final name by `publish`. It is filled from a cached blob, or during the download to the cache.

    Args:
        publish: renames the temporary file; its argument says whether to replace an existing file.
        same: returns whether the existing file with the final name has the expected content.
    """

    def __init__(
        self, descriptor: Descriptor, path: Path, file: BinaryIO, publish: Callable[[bool], None], same: Callable[[], bool]
    ) -> None:
        self._descriptor = descriptor
        self._path = path
        self._file = file
        self._publish = publish
        self._same = same
        self._writer = BackgroundWriter(Writer(file).write, descriptor.size)
        self._held = 0
        self._is_empty = True

    @property
    def held(self) -> int:
        return self._held

    def write(self, data: Buffer) -> None:
        self._held += len(data)
        self._is_empty = False
        self._writer.give(data)

    def restart(self) -> None:
        self._writer.end()
        if not self._is_empty:
            self._file.seek(0)
            self._file.truncate(0)
        self._held = 0

    def fill(self, open_blob: Callable[[], BinaryIO]) -> None:
        """Copy and verify the bytes of a blob.

        Raises:
            IntegrityError: the bytes do not match the descriptor.
        """
        self.restart()
        verified = Verified(self._descriptor)
        with open_blob() as blob:
            self._is_empty = False  # a clone is written at once
            source = self._file if cloned(blob, self._file) else blob
            while chunk := source.read(_CHUNK):
                verified.update(chunk)
                if source is blob:
                    self.write(chunk)
                if verified.held >= self._descriptor.size and len(chunk) < _CHUNK:
                    break  # the end of the file: one system call less for each small file
        self._writer.end()
        verified.check()

    def publish(self, *, force: bool = False) -> None:
        """Flush the bytes to disk and rename the file. The caller must have verified them.

        It is no error if another process has created the same file in the meantime.

        Raises:
            StorageError: another process has created a different file with that name.
        """
        self._writer.end()
        os.fsync(self._file.fileno())
        if not BY_DESCRIPTOR:
            self._file.close()
        try:
            self._publish(force)
        except FileExistsError as error:
            if self._same():
                return
            raise StorageError(
                f"another process created `{self._path}` in the meantime",
                code="file-differs",
                hint="`--force` replaces it",
                path=str(self._path),
            ) from error

    def end(self) -> None:
        """Stop the background writer, and ignore its errors."""
        with suppress(Exception):
            self._writer.end()
