"""The bundle format: the files in the archive, their order, and their tar headers. Equal contents give equal bytes.

    oci-layout, index.json     the OCI image layout (image-spec, image layout)
    bundle.json                the record: digests of the other files before the blobs, blobs that a delta omits, and a seal
    marfetch.lock              a copy of the lock file
    bundle.html                a page for the person who approves the transfer
    blobs/sha256/…             manifests and blobs, in the order of their digests

The tar headers have no times and no owners. They use the GNU format, which allows long names and large files, and which every tar
program can read.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from ..content import Steps, Verified, transferring
from ..document import parse_json
from ..errors import Error, InputError, IntegrityError, LockError, PolicyError
from ..files import Writer
from ..layout.blobs import Entry
from ..layout.readonly import Folder, ReadonlyTar, open_store
from ..layout.repositories import Contents, repository_name
from ..oci import OCI_INDEX, REF_NAME, Descriptor, Digest, descriptor_json
from ..project.lockfile import MAX_SIZE as MAX_LOCK_SIZE
from ..project.lockfile import Lock, parse_lock
from ..project.roots import LockedRoot, roots_of
from ..reference import Reference
from ..tar import BLOCK
from .recorded import RECORDING_FILE, Recording, parse_recording

if TYPE_CHECKING:
    from ..client.session import Session

SCHEMA: Final = 1
PLATFORMS_SCHEMA: Final = 2
"""The schema of a record with omitted manifests. Other records keep schema 1."""
MARKER: Final = b'{"imageLayoutVersion":"1.0.0"}'
MARKER_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
RECORD_FILE: Final = "bundle.json"
LOCK_FILE: Final = "marfetch.lock"
PAGE_FILE: Final = "bundle.html"
FIRST: Final = (MARKER_FILE, INDEX_FILE, RECORD_FILE, LOCK_FILE, PAGE_FILE)
"""The files before the blobs, in the order of the archive."""
RECORDED_FIRST: Final = (MARKER_FILE, INDEX_FILE, RECORDING_FILE)
"""The files before the blobs of a recording."""
MAX_RECORD_SIZE: Final = 128 << 20
CARRIED: Final = "marfetch.carried"
"""Annotation in the `index.json` of a folder, on an index of which only some manifests were loaded: their digests, separated by commas."""

_TAR_RECORD: Final = 10 * 1024  # the size of a tar is a multiple of this


@dataclass(frozen=True, slots=True)
class Base:
    """The base bundle of a delta.

    Attributes:
        digest: the digest of the archive file.
        size: the size of the archive file in bytes.
    """

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """The content of `bundle.json`.

    Attributes:
        files: the digests of the other files before the blobs, by name.
        base: the base bundle; None if the bundle is not a delta.
        omitted: the sizes in bytes of the blobs that a delta omits, by digest; None if the bundle is not a delta.
        omitted_manifests: the sizes in bytes of the manifests for unwanted platforms, by digest. Only an index refers to them.
    """

    files: Mapping[str, Digest]
    base: Base | None = None
    omitted: Mapping[Digest, int] | None = None
    omitted_manifests: Mapping[Digest, int] = field(default_factory=dict)


def record_bytes(record: Record) -> bytes:
    """Encode a record as the content of `bundle.json`, with its seal."""
    schema = PLATFORMS_SCHEMA if record.omitted_manifests else SCHEMA
    document: dict[str, Any] = {"schema": schema, "files": {name: str(record.files[name]) for name in sorted(record.files)}}
    if record.base is not None:
        document["base"] = {"digest": str(record.base.digest), "size": record.base.size}
        document["omitted"] = _sizes(record.omitted or {})
    if record.omitted_manifests:
        document["omittedManifests"] = _sizes(record.omitted_manifests)
    document["seal"] = str(Digest.of(_encoded(document)))
    return _encoded(document) + b"\n"


def _sizes(sizes: Mapping[Digest, int]) -> list[dict[str, Any]]:
    return [{"digest": str(digest), "size": size} for digest, size in sorted(sizes.items(), key=lambda one: str(one[0]))]


def parse_record(data: bytes, where: str) -> Record:
    """Parse the content of `bundle.json`. It must have the same bytes as `record_bytes` would write.

    Args:
        where: the path of the bundle, for error messages.

    Raises:
        IntegrityError: `malformed`; `bundle-broken`: the record was edited.
    """
    what = f"`{RECORD_FILE}` of `{where}`"
    document = parse_json(data, what)
    try:
        if not isinstance(document, dict) or document.get("schema") not in (SCHEMA, PLATFORMS_SCHEMA):
            raise ValueError(f"`schema` is neither {SCHEMA} nor {PLATFORMS_SCHEMA}")
        value: Any = document
        files = {str(name): Digest.parse(text) for name, text in value["files"].items()}
        base = omitted = None
        if "base" in value:
            base = Base(Digest.parse(value["base"]["digest"]), int(value["base"]["size"]))
            omitted = {Digest.parse(one["digest"]): int(one["size"]) for one in value["omitted"]}
        manifests = {Digest.parse(one["digest"]): int(one["size"]) for one in value.get("omittedManifests", ())}
    except (KeyError, TypeError, ValueError, AttributeError, Error) as error:
        reason = error.message if isinstance(error, Error) else str(error) or type(error).__name__
        raise IntegrityError(f"{what} is malformed: {reason}", code="malformed", path=where) from error
    record = Record(files, base, omitted, manifests)
    if record_bytes(record) != data:
        raise IntegrityError(f"{what} was changed by something other than marfetch", code="bundle-broken", path=where)
    return record


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=True).encode()


def index_bytes(entries: Iterable[Entry]) -> bytes:
    """Encode `index.json`: first the named manifests, sorted by name, then the unnamed manifests, sorted by digest."""
    manifests = []
    for name, descriptor in sorted(entries, key=lambda one: (one[0] is None, one[0] or "", str(one[1].digest))):
        document = descriptor_json(descriptor)
        document.pop("annotations", None)  # annotations are in the manifest, so the index need not repeat them
        if name is not None:
            document["annotations"] = {REF_NAME: name}
        manifests.append(document)
    return json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}, separators=(",", ":"), ensure_ascii=True
    ).encode()


def blob_file(digest: Digest) -> str:
    """Return the path of a blob in the archive."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


# -- the archive


@dataclass(frozen=True, slots=True)
class Part:
    """One file in the archive.

    Attributes:
        name: the path of the file in the archive.
        size: the size of the file in bytes.
        pieces: returns the content in chunks. The chunks have `size` bytes in total, or iterating over them raises.
    """

    name: str
    size: int
    pieces: Callable[[], Iterable[bytes]]


def header(name: str, size: int) -> bytes:
    """Return the tar header of a file. The header has one block, or three blocks if the name is long."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """Return the zero bytes that follow a file of this size."""
    return bytes(-size % BLOCK)


def ending(position: int) -> bytes:
    """Return the zero bytes at the end of an archive whose last file ends at `position`."""
    return bytes(2 * BLOCK + -(position + 2 * BLOCK) % _TAR_RECORD)


def archive_size(parts: Sequence[Part]) -> int:
    """Return the size of the archive in bytes."""
    position = sum(len(header(part.name, part.size)) + part.size + -part.size % BLOCK for part in parts)
    return position + len(ending(position))


def write_archive(file: BinaryIO, parts: Iterable[Part]) -> Digest:
    """Write the archive to an unbuffered file.

    Returns:
        The digest of the archive.

    Raises:
        OSError: the file cannot be written.
        Error: the content of a file cannot be read.
    """
    writer, hasher, position = Writer(file), Digest("sha256", "").hasher(), 0

    def put(data: bytes) -> None:
        nonlocal position
        writer.write(data)
        hasher.update(data)
        position += len(data)

    for part in parts:
        unwritten = header(part.name, part.size)
        for piece in part.pieces():
            put(unwritten + piece if unwritten else piece)  # write the header with the first piece: this saves a write for every small file
            unwritten = b""
        put(unwritten + padding(part.size))
    put(ending(position))
    return Digest("sha256", hasher.hexdigest())


def cached_part(client: Session, digest: Digest, size: int, steps: Steps, *, check: Callable[[], None] | None = None) -> Part:
    """Return a blob of the cache as a file of an archive. It is verified while it is written.

    Args:
        check: called for every piece; it may raise to cancel. None: the time limit of the session.
    """
    check = check or client.budget.check

    def pieces() -> Iterator[bytes]:
        verified = Verified(Descriptor("application/octet-stream", digest, size))
        with transferring(client.progress, str(digest), size) as transfer, client.cache.extent(digest) as extent:
            for piece in extent.pieces():
                check()
                verified.update(piece)
                transfer.held(verified.held)
                yield piece
        steps.advance()
        try:
            verified.check()
        except IntegrityError as error:
            client.cache.drop(digest, error.message)
            raise IntegrityError(
                f"corrupted blob in the cache: {error.message}",
                code=error.code,
                hint="the blob was deleted: run the command again to download a new copy",
                **error.context,
            ) from error

    return Part(blob_file(digest), size, pieces)


def whole(data: bytes) -> Callable[[], Iterator[bytes]]:
    """Return a function for `Part.pieces` that yields data in memory as one chunk."""
    return lambda: iter((data,))


# -- reading a bundle


_NOT_A_BUNDLE = ("not-a-layout", "archive-refused")


class PartialIndex(NamedTuple):
    """An index of which only some manifests are wanted.

    Attributes:
        repository: the repository of the index.
        manifest: the index.
        wanted: the digests of the wanted manifests, in the order of the platforms.
    """

    repository: str
    manifest: Descriptor
    wanted: tuple[Digest, ...]

    def unwanted(self, contents: Contents) -> dict[Digest, Descriptor]:
        """Return the other manifests of the index; none if the index is missing or wrong."""
        node = contents.graph.node(self.manifest)
        return {child.digest: child for child in node.children if child.digest not in self.wanted} if node is not None else {}


@dataclass(frozen=True, slots=True)
class Opened:
    """An open bundle or other layout.

    Attributes:
        record: the content of `bundle.json`; None if that file is missing.
        lock: the content of the lock file; None if the file is missing or was changed so that it cannot be parsed.
        roots: the manifests that the lock file names; empty without a lock file.
        is_bundle: whether the layout has any file that only bundles and recordings have. Without `bundle.json`, a bundle is broken.
        unread: why the lock file cannot be parsed, if it was changed.
        warnings: warnings about names in the index.
        recording: the answers of a recording; None for a bundle or another layout.
        partial: the indexes that need not be whole, as the lock file or the `index.json` of a folder says.
        omitted_manifests: the sizes in bytes of the manifests for unwanted platforms, by digest.
    """

    path: Path
    store: ReadonlyTar | Folder
    contents: Contents
    record: Record | None
    lock: Lock | None
    roots: Sequence[LockedRoot]
    is_bundle: bool
    unread: Error | None = None
    warnings: list[str] = field(default_factory=list)
    recording: Recording | None = None
    partial: Sequence[PartialIndex] = ()
    omitted_manifests: Mapping[Digest, int] = field(default_factory=dict)

    @property
    def omitted(self) -> dict[Digest, int]:
        """The sizes in bytes of the blobs that a delta omits, by digest."""
        return dict((self.record.omitted if self.record else None) or {})


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a bundle or another layout (tar or folder) for the duration of the context.

    Raises:
        IntegrityError: `bundle-broken`: the path is not a layout, or the bundle was tampered with; `malformed`, `lock-malformed`,
            `lock-edited`.
        PolicyError: `limit-passed`.
        StorageError: the archive cannot be read.
    """
    try:
        store = open_store(path)
    except (InputError, PolicyError) as error:
        if error.code not in _NOT_A_BUNDLE:
            raise
        raise IntegrityError(error.message, code="bundle-broken", hint=error.hint, **error.context) from error
    try:
        yield opened_store(path, store)
    finally:
        store.close()


def opened_store(path: Path, store: ReadonlyTar | Folder) -> Opened:
    """Read the record, the lock file and the index of an open layout.

    Raises:
        Error: the same errors as `opened`.
    """
    data = store.document(RECORD_FILE, MAX_RECORD_SIZE)
    record = parse_record(data, str(path)) if data is not None else None
    lock, unread = _lock(path, store, record)
    answers = store.document(RECORDING_FILE, MAX_RECORD_SIZE)
    recording = parse_recording(answers, str(path)) if answers is not None else None
    is_bundle = any(one is not None for one in (record, lock, unread, recording)) or store.document(PAGE_FILE, MAX_RECORD_SIZE) is not None
    warnings: list[str] = []
    contents = Contents(store, name=repository_name(path.resolve()), warn=warnings.append)
    try:
        roots = roots_of(lock) if lock is not None else []
    except LockError as error:
        raise IntegrityError(f"`{LOCK_FILE}` of `{path}`: {error.message}", code="bundle-broken", path=str(path)) from error
    partial = [
        PartialIndex(root.reference.repository, root.manifest, tuple(child.digest for child in root.children))
        for root in roots
        if root.children is not None
    ]
    omitted = record.omitted_manifests if record is not None else {}
    if not is_bundle:
        partial = [*_partial(store.entries())]
        omitted = {digest: child.size for one in partial for digest, child in one.unwanted(contents).items()}
    contents.omitted = frozenset(map(str, omitted))
    return Opened(path, store, contents, record, lock, roots, is_bundle, unread, warnings, recording, partial, omitted)


def _partial(entries: Iterable[Entry]) -> Iterator[PartialIndex]:
    for name, descriptor in entries:
        with suppress(Error):
            if name is not None and CARRIED in descriptor.annotations:
                carried = descriptor.annotations[CARRIED].split(",")
                yield PartialIndex(Reference.parse(name).repository, descriptor, tuple(map(Digest.parse, carried)))


def _lock(path: Path, store: ReadonlyTar | Folder, record: Record | None) -> tuple[Lock | None, Error | None]:
    """Return the lock, or the reason why the file cannot be parsed if its digest is not in the record.

    A file with another digest was changed after the bundle was written. Its parse error may then be misleading: one changed byte can
    make it look like a lock file of a newer version. The error is therefore not raised, and the check reports the changed file.
    """
    data = store.document(LOCK_FILE, MAX_LOCK_SIZE)
    if data is None:
        return None, None
    try:
        return parse_lock(data, Path(f"{path}:{LOCK_FILE}")), None
    except Error as error:
        if record is not None and record.files.get(LOCK_FILE) == Digest.of(data):
            raise
        return None, error


def archive_digest(store: ReadonlyTar) -> Digest:
    """Return the digest of the archive file.

    Raises:
        Error: the archive cannot be read.
    """
    hasher = Digest("sha256", "").hasher()
    for piece in store.raw().pieces():
        hasher.update(piece)
    return Digest("sha256", hasher.hexdigest())
