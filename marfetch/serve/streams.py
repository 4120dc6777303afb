"""How the bytes of blobs are given out: hashed before they are first served, then in pieces, whole or a part of them."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from starlette.types import Receive, Scope, Send

from ..content import Verified
from ..errors import Error
from ..layout.blobs import Extent, Stamp
from ..oci import Descriptor, Digest
from .responses import RawHeaders

PIECE: Final = 256 << 10
"""Bytes that are read and handed to the connection at a time: what one slow reader costs in memory."""


class VerifiedBlobs:
    """Remembers which blobs have the bytes that their digests promise, for as long as their files stay as they are."""

    def __init__(self) -> None:
        self._whole: dict[Digest, Stamp] = {}
        self._hashing: dict[tuple[Digest, Stamp], asyncio.Task[bool]] = {}
        # One less than all, so that those who ask for something else are not kept waiting by hashing alone.
        self._places = asyncio.Semaphore(max(1, (os.cpu_count() or 2) - 1))

    async def digest_matches(self, digest: Digest, extent: Extent) -> bool:
        """Whether the bytes have this digest. Several who ask at once wait for one hash."""
        if self._whole.get(digest) == extent.stamp:
            return True
        key = digest, extent.stamp
        task = self._hashing.get(key)
        if task is None:
            task = self._hashing[key] = asyncio.create_task(self._hash(digest, extent.stamp, extent))
            task.add_done_callback(lambda _: self._hashing.pop(key, None))
        # Whoever goes away does not take the hash from the others.
        return await asyncio.shield(task)

    async def _hash(self, digest: Digest, stamp: Stamp, extent: Extent) -> bool:
        async with self._places:
            whole = await asyncio.to_thread(_has_digest, digest, extent)
        if whole:
            self._whole[digest] = stamp
        return whole


def _has_digest(digest: Digest, extent: Extent) -> bool:
    verified = Verified(Descriptor("application/octet-stream", digest, extent.size))
    try:
        for piece in extent.pieces():
            verified.update(piece)
        verified.check()
    except Error:
        return False
    return extent.is_unchanged()


class BlobResponse:
    """The answer that holds a part of a blob; closes it.

    Args:
        start: bytes, the first that is given.
        end: bytes, the first that is not given any more.
    """

    def __init__(self, status: int, headers: RawHeaders, extent: Extent, start: int, end: int) -> None:
        self._status = status
        self._headers = headers
        self._extent = extent
        self._start = start
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the interface of ASGI
        with self._extent as extent:
            await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
            position, end = self._start, self._end
            if scope["method"] == "HEAD" or position == end:
                await send({"type": "http.response.body", "body": b""})
                return
            while position < end:
                piece = await _read(extent, position, min(PIECE, end - position))
                # Bytes of two versions are never mixed: without the rest, the client sees that the answer is not whole.
                if not piece or not extent.is_unchanged():
                    return
                position += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": position < end})


_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)


async def _read(extent: Extent, position: int, length: int) -> bytes:
    """A piece; by a thread where the disk would have to be waited for, since a wait would be everybody's."""
    if _NOWAIT is not None:
        buffer = bytearray(length)
        try:
            count = os.preadv(extent.file, [buffer], extent.offset + position, _NOWAIT)
        except OSError:  # not in memory, or a file system that cannot tell
            count = 0
        if count:
            return bytes(memoryview(buffer)[:count])
    return await asyncio.to_thread(extent.read, position, length)
