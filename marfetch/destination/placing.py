"""A file on its way to its final name."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from ..content import BackgroundWriter, Buffer, Verified
from ..errors import StorageError
from ..files import Writer
from ..oci import Descriptor
from .directory import cloned

_CHUNK: Final = 1 << 20


class Placing:
    """A file on its way to its final name: filled from a blob, or as a sink beside a transfer into the cache.

    Args:
        publish: gives the part its name, replacing what is there or not.
        same: whether what has the name by now is the very content that was wanted.
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

    @property
    def held(self) -> int:
        return self._held

    def write(self, data: Buffer) -> None:
        self._held += len(data)
        self._writer.give(data)

    def restart(self) -> None:
        self._writer.end()
        self._file.seek(0)
        self._file.truncate()
        self._held = 0

    def fill(self, open_blob: Callable[[], BinaryIO]) -> None:
        """Take the bytes of a blob, hashing them.

        Raises:
            IntegrityError: they are not what the descriptor says.
        """
        self.restart()
        verified = Verified(self._descriptor)
        with open_blob() as blob:
            source = self._file if cloned(blob, self._file) else blob
            source.seek(0)
            while chunk := source.read(_CHUNK):
                verified.update(chunk)
                if source is blob:
                    self.write(chunk)
        self._writer.end()
        verified.check()

    def publish(self, *, force: bool = False) -> None:
        """Force the bytes to the disk and give them their final name. The caller knows that they are the right ones.

        Where another process has put the same content there in the meantime, that is as good.

        Raises:
            StorageError: something else has that name by now.
        """
        self._writer.end()
        os.fsync(self._file.fileno())
        try:
            self._publish(force)
        except FileExistsError as error:
            if self._same():
                return
            raise StorageError(
                f"another file is at `{self._path}` by now", code="file-differs", hint="`--force` replaces it", path=str(self._path)
            ) from error

    def end(self) -> None:
        """Nothing more comes."""
        with suppress(Exception):
            self._writer.end()
