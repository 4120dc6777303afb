"""Read an archive from the cache: verify it again, decompress gzip, and enforce size limits."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Final, NoReturn

from ..chart.expected import Unpacking
from ..content import Verified
from ..errors import IntegrityError, PolicyError
from ..oci import Descriptor

# -- limits for unpacking, as in `docs/reference/limits.md`


MAX_MEMBERS = 20_000
"""Maximum number of files and directories in an archive, including implied directories. Also the limit of gzip streams."""
MAX_DEPTH = 64
"""Maximum number of parts in a member's path."""
MAX_PATH = 1024
"""Maximum length of a member's path in bytes, the same as on macOS."""
MAX_HEADER = 64 * 1024
"""Maximum size in bytes of an extended header (PAX or a long GNU name), which is held in memory."""

MAX_CHART = 100 << 20
MAX_CHART_FILE = 5 << 20
"""Maximum sizes in bytes of an unpacked chart (including headers) and of one file in it, as in Helm (CVE-2025-32386)."""
MAX_UNPACKED = 8 << 30
MAX_FILE = 4 << 30
"""Maximum sizes in bytes of any other unpacked archive and of one file in it."""
MAX_RATIO = 200
"""Maximum ratio of the unpacked size to the size of the archive."""
RATIO_CHECK_MIN_BYTES = 10 << 20
"""Unpacked size in bytes below which the ratio is not checked, because small texts compress well and are harmless."""


PIECE: Final = 256 * 1024
"""Maximum number of bytes to decompress at a time. This limits the memory."""
_CHUNK: Final = 64 * 1024
_GZIP: Final = b"\x1f\x8b"
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS  # zlib also checks header, trailer, checksum and length (RFC 1952)
_TELL: Final = "report this to the publisher, who made the archive; to download it as a file instead, remove `--untar`"


class Packed:
    """An archive as a decompressed stream for a tar reader.

    Attributes:
        given: number of bytes unpacked so far.

    Args:
        blob: the file of the archive, positioned at its start.
        is_checked: whether to verify the digest.
        read_limit: maximum unpacked size in bytes; the compression ratio is then not limited. None: apply the limits for unpacking.
    """

    def __init__(
        self, blob: BinaryIO, descriptor: Descriptor, unpacking: Unpacking, *, is_checked: bool = True, read_limit: int | None = None
    ) -> None:
        self.name = unpacking.archive
        self._blob = blob
        self._verified = Verified(descriptor) if is_checked else None
        most = MAX_UNPACKED if unpacking.chart is None else MAX_CHART
        self._limit = min(most, max(RATIO_CHECK_MIN_BYTES, MAX_RATIO * descriptor.size)) if read_limit is None else read_limit
        self.given = 0
        self._streams = 1
        self._is_chart = unpacking.chart is not None
        self._is_begun = False
        self._gzip: zlib._Decompress | None = None
        self._packed = b""
        self._ready = b""
        self._at = 0

    # -- failures

    def malformed(self, reason: str) -> NoReturn:
        """Refuse a malformed archive."""
        raise IntegrityError(f"the archive `{self.name}` is malformed: {reason}", code="malformed", hint=_TELL, archive=self.name)

    def too_much(self, what: str, rule: str) -> NoReturn:
        """Refuse an archive that exceeds a limit. `what` says what is too large, and `rule` names the limit."""
        raise PolicyError(
            f"cannot unpack the archive `{self.name}`: {what}, the limit is {rule}",
            code="limit-passed",
            hint=_TELL,
            archive=self.name,
            rule=rule,
        )

    # -- bytes

    def some(self, size: int) -> bytes:
        """Return between 1 and `size` bytes; no bytes at the end."""
        if self._at >= len(self._ready):
            self._ready, self._at = self._unpack(), 0
        piece = self._ready[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only at the end. The caller must limit the size."""
        pieces = []
        while size and (piece := self.some(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def measure(self) -> int:
        """Unpack the rest of the archive, and return the total unpacked size in bytes.

        Raises:
            IntegrityError, PolicyError, OSError: the rest of the archive cannot be read.
        """
        while self.some(PIECE):
            pass
        return self.given

    def finish(self) -> None:
        """Hash the rest of the archive, and compare its size and digest with the descriptor.

        Raises:
            IntegrityError: `size-mismatch`, `digest-mismatch`.
        """
        while self._fetch():
            pass
        if self._verified is not None:
            self._verified.check()

    def _fetch(self) -> bytes:
        chunk = self._blob.read(_CHUNK)
        if self._verified is not None:
            self._verified.update(chunk)
        return chunk

    def _unpack(self) -> bytes:
        if not self._is_begun:
            self._begin()
        piece = self._inflated() if self._gzip is not None else self._plain()
        self.given += len(piece)
        if self.given > self._limit:
            self.too_much("its unpacked size is too large", f"{self._limit} bytes for an archive of its size")
        return piece

    def _begin(self) -> None:
        """Detect gzip by the first bytes; a chart must be gzipped (Helm, "Charts")."""
        self._is_begun = True
        self._packed = self._fetch()
        if self._packed.startswith(_GZIP):
            self._gzip = zlib.decompressobj(_GZIP_FORMAT)
        elif self._is_chart:
            self.malformed("it is not compressed with gzip")

    def _plain(self) -> bytes:
        piece = self._packed or self._fetch()
        self._packed = b""
        return piece

    def _inflated(self) -> bytes:
        assert self._gzip is not None, "only a gzip archive has a decompressor"
        while True:
            if self._gzip.eof:
                following = self._following(self._gzip.unused_data)
                if not following:
                    return b""
                self._packed = following
                self._gzip = zlib.decompressobj(_GZIP_FORMAT)
            packed = self._packed or self._fetch()
            try:
                piece = self._gzip.decompress(packed, PIECE)
            except zlib.error as error:
                self.malformed(f"its gzip stream is corrupted ({error})")
            self._packed = self._gzip.unconsumed_tail
            if piece:
                return piece
            if not packed and not self._gzip.eof:
                self.malformed("its gzip stream is truncated")

    def _following(self, rest: bytes) -> bytes:
        """Return the start of the next gzip stream (RFC 1952, section 2.2); no bytes at the end of the archive."""
        while len(rest) < len(_GZIP) and (more := self._fetch()):
            rest += more
        if rest and not rest.startswith(_GZIP):
            self.malformed("there is data after the end of its gzip stream")
        self._streams += bool(rest)
        if self._streams > MAX_MEMBERS:
            self.too_much("it has too many gzip streams", f"{MAX_MEMBERS}")
        return rest
