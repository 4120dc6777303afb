"""Where content comes from, where it goes, and the one function that moves it.

What moves is a `Descriptor`; what gives content is a `Source`, what takes it is a `Target`; `copy` reads from the one and writes to the
other, and `Verified` stands in every target's way in: nothing is committed before its size and digest agree with its descriptor.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol, TypeAlias

from .errors import IntegrityError, PolicyError
from .oci import MAX_BLOB_SIZE, Descriptor, Digest, Index, Manifest
from .reference import Reference

Buffer: TypeAlias = bytes | bytearray | memoryview


class Progress(Protocol):
    """Is told what happens while content moves; every method may be called from any thread."""

    def begin(self, name: str, total: int) -> Transfer:
        """A blob of `total` bytes is about to be fetched under this name."""

    def note(self, text: str) -> None:
        """Something that takes time or is done again: a wait that the server asked for, a transfer that goes on after a cut."""

    def warn(self, text: str) -> None:
        """Something that the user should know, though it goes on."""


class Transfer(Protocol):
    """The progress of one blob."""

    def held(self, size: int) -> None:
        """So many bytes are there now; fewer than before where it had to start again."""

    def end(self) -> None:
        """Nothing more comes, whether it succeeded or not."""


class Sink(Protocol):
    """Takes the bytes of one blob in their order."""

    def write(self, data: Buffer) -> None:
        """Take the next bytes; the buffer is handed over and must not change any more.

        Raises:
            IntegrityError: `size-mismatch`, when there are more bytes than the descriptor says.
            StorageError: the disk does not take them.
        """

    def restart(self) -> None:
        """Forget all bytes: they come anew from the first one on."""


class Ingest(Sink, Protocol):
    """A sink that puts the blob into a target when it is whole."""

    @property
    def held(self) -> int:
        """Bytes that are there: where a source goes on."""

    def heartbeat(self) -> None:
        """Heartbeat while a source is waited for, so that a process waiting for this blob does not give up."""

    def commit(self) -> None:
        """Check size and digest, and make the blob part of the target.

        Raises:
            IntegrityError: `size-mismatch` or `digest-mismatch`; after `restart` it can be tried anew.
            StorageError: the disk does not take it.
        """


class BlobRange(NamedTuple):
    """What a source gives of a blob at one time.

    Attributes:
        start: where the pieces begin: at the byte that was asked for, or at 0 where the source cannot go on there.
        pieces: up to the end of the blob; checked by who reads them, in size too.
    """

    start: int
    pieces: Iterable[Buffer]


BlobReader: TypeAlias = Callable[[int], AbstractContextManager[BlobRange]]
"""Gives a blob from a byte on, for the length of a `with`. A failure in there that may pass ends it without an error, once it may be asked
for again: then more than what has come is missing still."""


class Catalog(NamedTuple):
    """The repositories that a registry lists, without its host.

    Attributes:
        etag: what the registry calls this state of its catalog; None where it does not say.
    """

    names: tuple[str, ...]
    etag: str | None = None


class Source(Protocol):
    """Gives content: a registry, or a layout. The host of every reference is set."""

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        """The manifest that the reference's digest or tag names, its digest computed from its bytes.

        Args:
            known: what the tag is known to have meant; None is returned where it means that still.

        Raises:
            NotFoundError: `repository-not-found`, `tag-not-found`, `manifest-not-found`.
            IntegrityError: `digest-mismatch`, `malformed`.
        """

    def blob(self, reference: Reference, descriptor: Descriptor, heartbeat: Callable[[], None] | None = None) -> BlobReader:
        """A blob of the reference's repository, for reading; its bytes are not checked.

        Args:
            heartbeat: called now and then while the source lets others go first.

        Raises:
            NotFoundError: `blob-not-found`, when it is read at the latest.
            IntegrityError: when it is read: the source announces another size.
        """

    def tags(self, reference: Reference) -> list[str]:
        """All tags of the repository, in the order of the registry.

        Raises:
            NotFoundError: `repository-not-found`.
        """

    def referrers(self, reference: Reference, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        """What refers to the manifest with this digest; of this artifact type where one is given."""

    def repositories(self) -> list[str]:
        """The catalog: all repositories that the source lists, without their host."""


class Target(Protocol):
    """Takes content."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there already."""

    def ingest(self, descriptor: Descriptor) -> AbstractContextManager[Ingest | None]:
        """Begin to take a blob; None where another process has brought it in the meantime.

        What was written stays for a later run where the transfer was cut, and goes where the bytes were wrong.
        """


class Verified:
    """Compares bytes with their descriptor as they pass.

    Attributes:
        held: bytes that passed.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.held = 0
        self._hash = descriptor.digest.hasher()

    def update(self, data: Buffer) -> None:
        """Take note of the next bytes; `size-mismatch` as soon as there are too many."""
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
        """Compare what passed with the descriptor.

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
"""From this size on, hashing and writing go on beside reading, in threads of their own."""
_WAITING: Final = 8
"""Pieces that may wait for such a thread: bounds the memory of one transfer."""


class BackgroundWriter:
    """Does something with pieces: with those of a large blob in a thread, while the transfer reads on.

    Args:
        put: what is done with a piece, in the order in which they came; what it raises, `give` or `end` raises.
        size: of the blob.
    """

    def __init__(self, put: Callable[[Buffer], None], size: int) -> None:
        self._put = put
        self._is_large = size >= BESIDE_FROM
        self._thread: threading.Thread | None = None

    def give(self, data: Buffer) -> None:
        """Hand a piece over; waits where too many are waiting."""
        if not self._is_large:
            self._put(data)
            return
        if self._thread is None:
            self._error: Exception | None = None
            self._queue: queue.Queue[Buffer | None] = queue.Queue(_WAITING)
            self._thread = threading.Thread(target=self._run, name="marfetch-beside", daemon=True)
            self._thread.start()
        if self._error is not None:
            raise self._error
        self._queue.put(data)

    def end(self) -> None:
        """Wait until everything is done; afterwards more may be given."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
            if self._error is not None:
                raise self._error

    def _run(self) -> None:
        # After a failure the queue is emptied on, so that the giver is never stuck.
        while (data := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._put(data)
                except Exception as error:
                    self._error = error


WELL_KNOWN: Final = {Digest.of(data): data for data in (b"{}", b"")}
"""Content that needs no source: the empty JSON object of the image specification, and nothing at all."""


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
    """Bring one blob of the reference's repository into the target, unless it is there.

    Args:
        name: what it is called while it moves.
        beside: gets the same bytes as they come. When this returns and it holds all of them, they are the right ones; it holds fewer
            where the blob, or a part of it, was there already.

    Returns:
        Whether anything was asked of the source.

    Raises:
        IntegrityError: the bytes are not those of the descriptor.
        PolicyError: `limit-passed`: the descriptor has more bytes than any artifact.
        Error: whatever source and target raise.
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
        if 0 < ingest.held == descriptor.size:  # an earlier run was stopped when it had everything
            ingest.commit()
            return False
        known = WELL_KNOWN.get(descriptor.digest)
        if known is not None:
            ingest.restart()
            ingest.write(known)
            ingest.commit()
            return False
        transfer = progress.begin(name, descriptor.size)
        try:
            _receive(source.blob(reference, descriptor, ingest.heartbeat), ingest, transfer, beside)
        finally:
            transfer.end()
    return True


def _receive(blob: BlobReader, ingest: Ingest, transfer: Transfer, beside: Sink | None = None) -> None:
    """Read what is missing, and commit it. Where bytes of more than one part are wrong, the seam may be, so that all are read once more."""
    # What was there before is not given to the other one, so it gets nothing then.
    sinks = [ingest] if beside is None or ingest.held else [ingest, beside]
    is_whole = False
    transfer.held(ingest.held)
    while not is_whole:
        with blob(ingest.held) as (start, pieces):
            if start < ingest.held:
                _restart(sinks, transfer)
            for piece in pieces:
                for sink in sinks:
                    sink.write(piece)
                transfer.held(ingest.held)
            try:
                ingest.commit()
                is_whole = True
            except IntegrityError:
                if start == 0:
                    raise
                _restart(sinks, transfer)


def _restart(sinks: Iterable[Sink], transfer: Transfer) -> None:
    for sink in sinks:
        sink.restart()
    transfer.held(0)


class Memory:
    """Small content on its way."""

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
        """No other process waits for it."""

    def commit(self) -> None:
        self._verified.check()


def read(source: Source, reference: Reference, descriptor: Descriptor) -> bytes:
    """A small blob as bytes, checked; the caller has bounded `descriptor.size`.

    Raises:
        Error: as `copy`.
    """
    memory = Memory(descriptor)
    _receive(source.blob(reference, descriptor), memory, _Nothing())
    return bytes(memory.data)


class Silent:
    """Says nothing but warnings."""

    def __init__(self, warn: Callable[[str], None] | None = None) -> None:
        self._warn = warn

    def begin(self, name: str, total: int) -> Transfer:  # noqa: ARG002 - the protocol's
        return _Nothing()

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
