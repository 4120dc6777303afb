"""Stream blobs in chunks. Each blob is verified before it is first served."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ..content import Verified
from ..errors import Error
from ..layout.blobs import Extent, Stamp
from ..oci import Descriptor, Digest
from .responses import PIECE, RawHeaders, SentPart, span


class VerifiedBlobs:
    """Verifies blobs, and remembers which blobs are verified until their files change."""

    def __init__(self) -> None:
        self._whole: dict[Digest, Stamp] = {}
        self._hashing: dict[tuple[Digest, Stamp], asyncio.Task[bool]] = {}
        # Leave one processor free, so that hashing does not block other requests.
        self._places = asyncio.Semaphore(max(1, (os.cpu_count() or 2) - 1))

    async def digest_matches(self, digest: Digest, extent: Extent) -> bool:
        """Return whether the content of a blob has this digest. Concurrent requests for a blob hash it only once."""
        if self._whole.get(digest) == extent.stamp:
            return True
        if extent.size <= PIECE:  # hashing takes less time than a switch to a thread
            if is_whole := _has_digest(digest, extent):
                self._whole[digest] = extent.stamp
            return is_whole
        key = digest, extent.stamp
        task = self._hashing.get(key)
        if task is None:
            task = self._hashing[key] = asyncio.create_task(self._hash(digest, extent.stamp, extent))
            task.add_done_callback(lambda _: self._hashing.pop(key, None))
        # If this request is cancelled, other requests still need the result.
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


async def blob_response(scope: Scope, digest: Digest, extent: Extent, checked: VerifiedBlobs | None) -> ASGIApp | None:
    """Return the response to a request for a stored blob; None if the blob is corrupted. The response closes the blob.

    Args:
        checked: verifies the blob before it is first sent; None to send it unverified.
    """
    answer: ASGIApp | None = None
    try:
        if checked is None or scope["method"] != "GET" or await checked.digest_matches(digest, extent):
            found = span(scope, digest, extent.size)
            answer = BlobResponse(found.status, found.headers, extent, found.start, found.end) if isinstance(found, SentPart) else found
        return answer
    finally:
        if not isinstance(answer, BlobResponse):
            extent.close()


class BlobResponse:
    """A response with a blob or a range of a blob. It closes the blob after sending.

    Args:
        extent: the open blob.
        start: the offset of the first byte to send.
        end: the offset after the last byte to send.
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
                # Stop if the file has changed: the client must see an incomplete response, not a mix of two versions.
                if not piece or not extent.is_unchanged():
                    return
                position += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": position < end})


_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None) if hasattr(os, "preadv") else None


async def _read(extent: Extent, position: int, length: int) -> bytes:
    """Read a chunk of a blob. If the chunk is not in the page cache, read it in a thread, because a disk read blocks all connections."""
    if _NOWAIT is not None:
        buffer = bytearray(length)
        try:
            count = os.preadv(extent.file, [buffer], extent.offset + position, _NOWAIT)
        except OSError:  # not in the page cache, or not supported by the file system
            count = 0
        if count:
            return bytes(memoryview(buffer)[:count])
    return await asyncio.to_thread(extent.read, position, length)
