"""Answer requests through marfetch's session, verified and cached, and record the answers.

Each resource is requested once per command, so that a recording has one answer for it. A blob above `WHOLE` is sent during its download:
the response reads the file that the download writes, and sends the last piece only after the whole blob was verified.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar, cast

from starlette.types import ASGIApp, Receive, Scope, Send

from .. import threads
from ..budget import Cancelled
from ..bundle.recorded import RecordedRepository, Recording
from ..client.session import Repository, Session, offline_error
from ..content import WELL_KNOWN, copy
from ..errors import Error, InputError, NotFoundError
from ..files import BY_DESCRIPTOR
from ..layout.blobs import read_at
from ..layout.graph import ManifestNode
from ..layout.ingest import FileIngest
from ..layout.layout import Layout
from ..layout.repositories import lexical
from ..oci import Descriptor, Digest, Index, Manifest
from ..reference import Host, Reference, is_repository
from ..serve.responses import PIECE, SentPart, span
from ..serve.streams import VerifiedBlobs, blob_response
from .answering import Answers, absence, head_only
from .seen import Observations

WHOLE: Final = 1 << 20
"""Blobs up to this size, in bytes, are verified before the response starts."""
_POLL: Final = 0.004
"""Seconds between two checks of a file that a download is writing."""
_STOP_POLL: Final = 0.1
_STOP_WAIT: Final = 1.0
"""Seconds to wait for threads after requests were aborted."""
_BLOB: Final = "application/octet-stream"

T = TypeVar("T")


class Upstream(Answers):
    """A registry that gets its answers from another registry, and records them.

    Args:
        client: the session that asks the registry.
    """

    def __init__(self, client: Session, recording: Recording, seen: Observations) -> None:
        super().__init__(recording, seen)
        self._client = client
        self._pool = threads.pool(2 * client.options.jobs)
        self._host = Host.parse(recording.endpoint.registry.name)
        self._answers: dict[tuple[str, str, str], asyncio.Future[Any]] = {}
        self._described: dict[tuple[str, Digest], Descriptor] = {}
        self._flows: dict[Digest, _Flow] = {}
        self._checked = VerifiedBlobs()
        self._under_way: set[Future[Any]] = set()

    def finish(self, is_told_to_stop: Callable[[], bool]) -> None:
        """Finish the downloads of a command that read only the start of a blob. What is recorded must not depend on how fast it was."""
        calls = [flow.call for flow in list(self._flows.values())]
        while wait(calls, timeout=_STOP_POLL).not_done and not is_told_to_stop():
            pass

    def end(self) -> None:
        """Abort the requests that are still under way, because nobody waits for them. Forget the blobs that did not arrive."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._under_way:
            self._client.stop()
            wait(list(self._under_way), timeout=_STOP_WAIT)
        for one in self.recording.repositories.values():
            one.blobs = {digest: size for digest, size in one.blobs.items() if self._has(Descriptor(_BLOB, digest, size))}

    def _has(self, blob: Descriptor) -> bool:
        try:
            return self._client.cache.has(blob)
        except Error:  # the request for it has failed with the same error
            return False

    # -- looking up

    async def catalog(self) -> Sequence[str]:
        def ask() -> tuple[str, ...]:
            if self._client.options.offline:
                raise offline_error(Reference("_catalog", self._host))
            return tuple(sorted(self._client.connect(self.recording.endpoint).repositories()))

        self.recording.catalog = await self._once(("", "catalog", ""), ask)
        return self.recording.catalog

    async def tags(self, name: str) -> Sequence[str] | None:
        if not is_repository(name):
            return None
        listed = await self._found(name, "tags/list", lambda: tuple(sorted(self._repository(name).tags(), key=lexical)))
        self._recorded(name).listed = listed
        return listed

    async def known_manifest(self, name: str, text: str, digest: Digest | None) -> Manifest | Index | None:
        at = self._repository(name).at(tag=None if digest is not None else text, digest=digest)
        found = await self._found(name, f"manifests/{text}", at.manifest)
        one, own = self._recorded(name), found.descriptor
        one.manifests[own.digest] = Descriptor(own.media_type, own.digest, own.size)
        if digest is None:
            one.tags[text] = own.digest
        self._described |= {(name, blob.digest): blob for blob in ManifestNode.of(found).blobs}
        return found

    async def referrers(self, name: str, digest: Digest) -> Sequence[Descriptor] | None:
        if not is_repository(name):
            return None
        found = await self._found(name, f"referrers/{digest}", lambda: tuple(self._repository(name).referrers(digest)))
        self._recorded(name).referrers[digest] = found
        return found

    async def known_blob(self, scope: Scope, name: str, digest: Digest) -> ASGIApp:
        known = self._described.get((name, digest))
        if scope["method"] == "HEAD" or known is None:
            size = await self._found(name, f"blobs/{digest}", partial(self._size, name, digest, known))
            known = known or Descriptor(_BLOB, digest, size)
        if scope["method"] == "HEAD":
            self._recorded(name).sizes[digest] = known.size
            return head_only(scope, digest, known.size)
        with self._absences(name, f"blobs/{digest}"):
            self._recorded(name).blobs[digest] = known.size
            return await self._content(scope, name, known)

    # -- asking

    def _repository(self, name: str) -> Repository:
        return self._client.repository(Reference(name, self._host))

    def _recorded(self, name: str) -> RecordedRepository:
        return self.recording.repository(name)

    def _size(self, name: str, digest: Digest, known: Descriptor | None) -> int:
        """Return the size of a blob.

        The registry is asked, unless a manifest of the repository names the blob: the cache may have it from another repository.
        """
        stamp, offline = self._client.cache.stamp(digest), self._client.options.offline
        if stamp is not None and (offline if known is None else known.size == stamp.size):
            return stamp.size
        if digest in WELL_KNOWN:
            return len(WELL_KNOWN[digest])
        reference = self._repository(name).reference
        if offline:
            raise offline_error(reference)
        return self._client.connect(self.recording.endpoint).blob_size(reference, digest)

    async def _found(self, name: str, path: str, ask: Callable[[], T]) -> T:
        """Return the answer to a request. If something is not found, record that."""
        with self._absences(name, path):
            return await self._once((name, path, ""), ask)

    @contextmanager
    def _absences(self, name: str, path: str) -> Iterator[None]:
        """Record that something was not found."""
        try:
            yield
        except NotFoundError as error:
            self._recorded(name).absent[path] = absence(error)
            raise

    async def _once(self, key: tuple[str, str, str], ask: Callable[[], T]) -> T:
        """Ask the registry in a thread, once for each key. After a failure, the next request asks again."""
        task = self._answers.get(key)
        if task is None:
            task = self._answers[key] = asyncio.wrap_future(self._submit(ask))
        try:
            return cast("T", await asyncio.shield(task))
        except NotFoundError:
            raise
        except BaseException:
            if task.done():
                self._answers.pop(key, None)
            raise

    def _submit(self, ask: Callable[[], Any]) -> Future[Any]:
        """Call a function in a thread."""
        call = self._pool.submit(self._call, ask)
        self._under_way.add(call)
        call.add_done_callback(self._under_way.discard)
        return call

    def _call(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except Cancelled:  # the command has ended, so the answer is not needed
            raise InputError("the command has ended", code="usage") from None

    # -- blobs

    async def _content(self, scope: Scope, name: str, blob: Descriptor) -> ASGIApp:
        for _ in range(2):
            stored = await self._stored(scope, blob)
            if stored is not None:
                return stored
            flow = self._flows.get(blob.digest) or self._start(name, blob)
            flow.asked.add(self.named(scope))
            if blob.size > WHOLE:
                await flow.begin()
                found = span(scope, blob.digest, blob.size)
                if not isinstance(found, SentPart):
                    return found
                if flow.file is not None:
                    return _Arriving(flow, os.dup(flow.file), found)
            await asyncio.shield(flow.done)
        raise NotFoundError(f"the blob `{blob.digest}` disappeared from the cache", code="blob-not-found")

    async def _stored(self, scope: Scope, blob: Descriptor) -> ASGIApp | None:
        """Return the response with a blob of the cache; None if it is not there."""
        cache = self._client.cache
        if blob.digest in self._flows or not cache.has(blob):
            return None
        answer = await blob_response(scope, blob.digest, cache.extent(blob.digest), self._checked)
        if answer is None:
            cache.drop(blob.digest, "its bytes have another digest")
        return answer

    def _start(self, name: str, blob: Descriptor) -> _Flow:
        repository = self._repository(name)
        if repository.source is self._client.cache and blob.digest not in WELL_KNOWN:
            raise offline_error(repository.reference)
        flow = self._flows[blob.digest] = _Flow(self._client.cache)
        ask = partial(
            copy, repository.source, flow, repository.reference, blob, name=repository.reference.name, progress=self._client.progress
        )
        flow.call = self._submit(ask)
        flow.done = asyncio.wrap_future(flow.call)
        flow.done.add_done_callback(lambda _: self._ended(blob.digest, flow))
        return flow

    def _ended(self, digest: Digest, flow: _Flow) -> None:
        """Record that a download failed, even if the command no longer waits for the blob."""
        del self._flows[digest]
        error = flow.ended()
        if isinstance(error, Error) and not isinstance(error, NotFoundError):
            for what in flow.asked:
                self.seen.fail(what, error)


class _Flow:
    """A blob that is being downloaded: a target that lets responses read the blob while it arrives.

    Attributes:
        asked: the requests for the blob, in words.
        call: the download.
        done: completed when the blob is verified and in the cache, or has failed.
        file: a file descriptor of the bytes so far; None until the download begins, again when it has ended, and always on Windows.
    """

    call: Future[Any]
    done: asyncio.Future[Any]

    def __init__(self, cache: Layout) -> None:
        self.asked: set[str] = set()
        self._cache = cache
        self.has = cache.has
        self._ingest: FileIngest | None = None
        self.file: int | None = None

    @contextmanager
    def ingest(self, descriptor: Descriptor) -> Iterator[FileIngest | None]:
        # The command may be a marfetch with the same cache, which waits for this answer while it holds the lock of the blob.
        with self._cache.ingest(descriptor, waits=False) as ingest:
            if ingest is not None:
                self._ingest = ingest
                self.file = ingest.follow() if BY_DESCRIPTOR else None  # Windows renames no file that is open, so responses wait
            yield ingest

    async def begin(self) -> None:
        """Wait until the first byte is there, or the download has ended.

        Raises:
            Error: the download has failed.
        """
        while not self.done.done():
            if self._ingest is not None and self._ingest.held:
                return
            await asyncio.wait({self.done}, timeout=_POLL)
        self.done.result()

    def ended(self) -> BaseException | None:
        """Close the file when the download has ended, and return its error. Responses have their own descriptors."""
        if self.file is not None:
            os.close(self.file)
            self.file = None
        return None if self.done.cancelled() else self.done.exception()

    @property
    def restarts(self) -> int:
        """How often the bytes so far were discarded."""
        return self._ingest.restarts if self._ingest is not None else 0


class _Arriving:
    """A response with a blob that is still arriving. If its bytes turn out to be wrong, the response stays incomplete.

    Args:
        file: a file descriptor of the bytes so far. The response closes it.
    """

    def __init__(self, flow: _Flow, file: int, found: SentPart) -> None:
        self._flow = flow
        self._file = file
        self._found = found
        self._restarts = flow.restarts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the interface of ASGI
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": self._found.status, "headers": self._found.headers})
            position, done = self._found.start, self._flow.done
            while position < self._found.end and not gone.done():
                is_whole = done.done()
                if is_whole and (error := done.exception()) is not None:
                    if not isinstance(error, Error):
                        raise error
                    return
                before, position = position, await self._send(send, position, is_whole=is_whole)
                if position == before:
                    if is_whole or self._flow.restarts != self._restarts:
                        return
                    await asyncio.wait({done, gone}, timeout=_POLL, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            os.close(self._file)

    async def _send(self, send: Send, position: int, *, is_whole: bool) -> int:
        """Send the available part of the next piece, and return the position after it. The last piece waits for the verification."""
        end = self._found.end
        limit = end if is_whole else end - PIECE
        piece = read_at(self._file, min(PIECE, limit - position), position) if position < limit else b""
        if not piece or self._flow.restarts != self._restarts:
            return position
        position += len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": position < end})
        return position


async def _disconnected(receive: Receive) -> None:
    """Wait until the client closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
