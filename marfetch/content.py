"""Interfaces for content sources and targets, and verified copying between them.

`copy` copies the blob of a `Descriptor` from a `Source` to a `Target`. Every target checks the bytes with `Verified`, and commits a blob
only if its size and digest match its descriptor.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, NamedTuple, Protocol, TypeAlias

from .errors import IntegrityError, PolicyError
from .oci import MAX_BLOB_SIZE, Descriptor, Digest, Index, Manifest
from .reference import Reference
from .threads import started

Buffer: TypeAlias = bytes | bytearray | memoryview


class Progress(Protocol):
    """Receives progress events. Every method may be called from any thread."""

    def begin(self, name: str, total: int) -> Transfer:
        """Report the start of a download of `total` bytes."""

    def steps(self, label: str, total: int = 0, unit: str = "artifacts") -> AbstractContextManager[Steps]:
        """Report a task for the duration of the `with` block.

        Args:
            label: the action, such as `resolving`, or the text that describes a wait.
            total: the number of items known so far; 0 for a wait.
            unit: the noun for the items, in the plural.
        """

    def note(self, text: str) -> None:
        """Report an event, such as a delay by throttling or a resumed download."""

    def warn(self, text: str) -> None:
        """Report a warning."""


class Transfer(Protocol):
    """The progress of one blob."""

    def held(self, size: int) -> None:
        """Report the number of bytes received so far. The number drops if the download restarts."""

    def end(self) -> None:
        """Report the end of the transfer, after success or failure."""


class Steps(Protocol):
    """The progress of a task that consists of items. Every method may be called from any thread."""

    def grow(self, count: int) -> None:
        """Add items to the total."""

    def advance(self, count: int = 1) -> None:
        """Report finished items."""


class Sink(Protocol):
    """Receives the bytes of one blob in order."""

    def write(self, data: Buffer) -> None:
        """Write the next bytes. The caller must not change the buffer afterwards.

        Raises:
            IntegrityError: `size-mismatch`: there are more bytes than the descriptor says.
            StorageError: the write failed.
        """

    def restart(self) -> None:
        """Discard all bytes. The caller then writes the blob again from its start."""


class Ingest(Sink, Protocol):
    """A sink that adds the complete blob to a target."""

    @property
    def held(self) -> int:
        """The number of bytes so far, which is the offset from which a download resumes."""

    def heartbeat(self) -> None:
        """Signal that the download is alive, so that a process waiting for this blob does not give up."""

    def commit(self) -> None:
        """Check size and digest, and make the blob part of the target.

        Raises:
            IntegrityError: `size-mismatch` or `digest-mismatch`; you can retry after `restart`.
            StorageError: the write failed.
        """


class BlobRange(NamedTuple):
    """A part of a blob, from an offset to the end.

    Attributes:
        start: the offset of the first piece: the requested offset, or 0 if the source cannot resume.
        pieces: the bytes up to the end of the blob. The reader must check size and digest.
    """

    start: int
    pieces: Iterable[Buffer]


BlobReader: TypeAlias = Callable[[int], AbstractContextManager[BlobRange]]
"""Opens a blob at an offset, as a context manager. If reading fails temporarily, the context manager waits until a retry is allowed, and
suppresses the error. The caller notices the missing bytes, and opens the blob again."""


class Catalog(NamedTuple):
    """The repositories that a registry lists, without its host.

    Attributes:
        etag: the response's `ETag`, if any.
    """

    names: tuple[str, ...]
    etag: str | None = None


class Source(Protocol):
    """A registry or layout to read from. Every reference must have a host."""

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        """Fetch the manifest of the reference's digest or tag; its digest is computed from its bytes.

        Args:
            known: the descriptor that the tag had before; if the tag still points to it, the result is None.

        Raises:
            NotFoundError: `repository-not-found`, `tag-not-found`, `manifest-not-found`.
            IntegrityError: `digest-mismatch`, `malformed`.
        """

    def blob(self, reference: Reference, descriptor: Descriptor, heartbeat: Callable[[], None] | None = None) -> BlobReader:
        """Open a blob of the reference's repository. The caller must check the bytes.

        Args:
            heartbeat: called regularly while the source waits before it can send the request.

        Raises:
            NotFoundError: `blob-not-found`, now or when the blob is read.
            IntegrityError: the source announces a different size, when the blob is read.
        """

    def tags(self, reference: Reference) -> list[str]:
        """List all tags of the repository, in the registry's order.

        Raises:
            NotFoundError: `repository-not-found`.
        """

    def referrers(self, reference: Reference, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        """List the referrers of a manifest, optionally only those of one artifact type."""

    def repositories(self) -> list[str]:
        """List all repositories of the catalog, without the host."""


class Target(Protocol):
    """A store to write to."""

    def has(self, descriptor: Descriptor) -> bool:
        """Return whether the target has the blob."""

    def ingest(self, descriptor: Descriptor) -> AbstractContextManager[Ingest | None]:
        """Start writing a blob, or yield None if another process has just written it.

        If the transfer is interrupted, the bytes so far are kept for a later run. If the bytes are wrong, they are deleted.
        """


class Verified:
    """Checks size and digest of a blob while its bytes arrive.

    Attributes:
        held: the number of bytes so far.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.held = 0
        self._hash = descriptor.digest.hasher()

    def update(self, data: Buffer) -> None:
        """Hash the next bytes. Raise `size-mismatch` as soon as there are too many."""
        self.held += len(data)
        if self.held > self.descriptor.size:
            raise IntegrityError(
                f"the blob `{self.descriptor.digest}` is longer than the {self.descriptor.size} bytes of its descriptor",
                code="size-mismatch",
                digest=str(self.descriptor.digest),
                expected=self.descriptor.size,
            )
        self._hash.update(data)

    def check(self) -> None:
        """Compare size and digest with the descriptor.

        Raises:
            IntegrityError: `size-mismatch`, `digest-mismatch`.
        """
        wanted = self.descriptor.digest
        if self.held != self.descriptor.size:
            raise IntegrityError(
                f"the blob `{wanted}` has {self.held} bytes, not the {self.descriptor.size} of its descriptor",
                code="size-mismatch",
                digest=str(wanted),
                expected=self.descriptor.size,
                actual=self.held,
            )
        actual = Digest(wanted.algorithm, self._hash.hexdigest())
        if actual != wanted:
            raise IntegrityError(
                f"the bytes of the blob `{wanted}` have the digest `{actual}`",
                code="digest-mismatch",
                expected=str(wanted),
                actual=str(actual),
            )


BESIDE_FROM: Final = 8 << 20
"""Blobs of at least this size, in bytes, are hashed and written in background threads."""
_QUEUE_LENGTH: Final = 8
"""Maximum number of queued pieces per background thread. This limits the memory of one transfer."""


class BackgroundWriter:
    """Processes the pieces of a blob in order. For a large blob, a background thread does this.

    Args:
        put: processes a piece. If it raises an exception, a later `give` or `end` raises that exception.
        size: the size of the blob in bytes.
    """

    def __init__(self, put: Callable[[Buffer], None], size: int) -> None:
        self._put = put
        self._is_large = size >= BESIDE_FROM
        self._thread: threading.Thread | None = None

    def give(self, data: Buffer) -> None:
        """Process or queue a piece. Block while the queue is full."""
        if not self._is_large:
            self._put(data)
            return
        if self._thread is None:
            self._error: Exception | None = None
            self._queue: queue.Queue[Buffer | None] = queue.Queue(_QUEUE_LENGTH)
            self._thread = started(self._run, "marfetch-beside")
            if self._thread is None:
                self._is_large = False
                self._put(data)
                return
        if self._error is not None:
            raise self._error
        self._queue.put(data)

    def end(self) -> None:
        """Wait until all pieces so far are processed. More pieces may follow."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
            if self._error is not None:
                raise self._error

    def _run(self) -> None:
        # Keep draining the queue after a failure, so that `give` never blocks forever.
        while (data := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._put(data)
                except Exception as error:
                    self._error = error


WELL_KNOWN: Final = {Digest.of(data): data for data in (b"{}", b"")}
"""Blobs that need no download: the empty JSON object of the image specification, and the empty blob."""


@contextmanager
def transferring(progress: Progress, name: str, size: int) -> Iterator[Transfer]:
    """Report the transfer of a blob while the `with` block runs.

    Args:
        size: bytes of the blob.
    """
    transfer = progress.begin(name, size)
    try:
        yield transfer
    finally:
        transfer.end()


def copy(
    source: Source,
    target: Target,
    reference: Reference,
    descriptor: Descriptor,
    *,
    name: str,
    progress: Progress,
    beside: Sink | None = None,
) -> bool:
    """Copy one blob of the reference's repository to the target, unless the target already has it.

    Args:
        name: the name of the blob in progress events.
        beside: a second sink for the same bytes. If it received the whole blob, its bytes are verified. It receives nothing if the target
            already had the blob or a part of it.

    Returns:
        Whether the blob was read from the source.

    Raises:
        IntegrityError: the bytes do not match the descriptor.
        PolicyError: `limit-passed`: the blob is too large.
        Error: the source or the target failed.
    """
    if descriptor.size > MAX_BLOB_SIZE:
        raise PolicyError(
            f"the blob `{descriptor.digest}` of `{reference}` would have {descriptor.size} bytes, more than {MAX_BLOB_SIZE}",
            code="limit-passed",
            reference=str(reference),
            rule=f"at most {MAX_BLOB_SIZE} bytes",
        )
    if target.has(descriptor):
        return False
    with target.ingest(descriptor) as ingest:
        if ingest is None:
            return False
        if 0 < ingest.held == descriptor.size:  # an earlier run stopped just before the commit
            ingest.commit()
            return False
        known = WELL_KNOWN.get(descriptor.digest)
        if known is not None:
            ingest.restart()
            ingest.write(known)
            ingest.commit()
            return False
        with transferring(progress, name, descriptor.size) as transfer:
            _receive(source.blob(reference, descriptor, ingest.heartbeat), ingest, transfer, beside)
    return True


def _receive(blob: BlobReader, ingest: Ingest, transfer: Transfer, beside: Sink | None = None) -> None:
    """Read the missing bytes, and commit. If the digest of a resumed blob is wrong, read the blob again from its start."""
    # `beside` lacks the bytes of an earlier run, so it gets no bytes of a resumed blob.
    sinks = [ingest] if beside is None or ingest.held else [ingest, beside]
    transfer.held(ingest.held)
    while True:
        with blob(ingest.held) as (start, pieces):
            if start < ingest.held:
                _restart(sinks, transfer)
            for piece in pieces:
                for sink in sinks:
                    sink.write(piece)
                transfer.held(ingest.held)
            try:
                ingest.commit()
            except IntegrityError:
                if start == 0:
                    raise
                _restart(sinks, transfer)
            else:
                return


def _restart(sinks: Iterable[Sink], transfer: Transfer) -> None:
    for sink in sinks:
        sink.restart()
    transfer.held(0)


class Memory:
    """An in-memory sink for a small blob."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self.restart()

    @property
    def held(self) -> int:
        return self._verified.held

    def write(self, data: Buffer) -> None:
        self._verified.update(data)
        self.data += data

    def restart(self) -> None:
        self._verified = Verified(self._descriptor)
        self.data = bytearray()

    def heartbeat(self) -> None:
        """Do nothing: no other process waits for this blob."""

    def commit(self) -> None:
        self._verified.check()


def read(source: Source, reference: Reference, descriptor: Descriptor) -> bytes:
    """Return the verified bytes of a small blob. The caller must limit `descriptor.size`.

    Raises:
        Error: see `copy`.
    """
    memory = Memory(descriptor)
    _receive(source.blob(reference, descriptor), memory, _Nothing())
    return bytes(memory.data)


class Silent:
    """Ignores all progress events except warnings."""

    def __init__(self, warn: Callable[[str], None] | None = None) -> None:
        self._warn = warn

    def begin(self, name: str, total: int) -> Transfer:  # noqa: ARG002 - required by the protocol
        return _Nothing()

    def steps(self, label: str, total: int = 0, unit: str = "artifacts") -> AbstractContextManager[Steps]:  # noqa: ARG002 - required by the protocol
        return nullcontext(_Nothing())

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        if self._warn is not None:
            self._warn(text)


class _Nothing:
    def held(self, size: int) -> None:
        pass

    def end(self) -> None:
        pass

    def grow(self, count: int) -> None:
        pass

    def advance(self, count: int = 1) -> None:
        pass
