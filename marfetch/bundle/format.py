"""The form of a bundle: which files its archive holds, in which order, and with which headers. The same content is the same bytes.

    oci-layout, index.json     what makes it a layout (image-spec, image layout)
    bundle.json                what belongs to it: the digests of these files, and what a delta leaves out; sealed
    marfetch.lock              the lock that it was made of, byte for byte
    bundle.html                for the person who approves its transfer
    blobs/sha256/…             in the order of their digests

Every header is written as here and nowhere else: no times, no owners, and GNU's form, which holds names and sizes of any length and is
read by every tar.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..document import parse_json
from ..errors import Error, InputError, IntegrityError, PolicyError
from ..files import Writer
from ..layout.blobs import Entry
from ..layout.readonly import Folder, ReadonlyTar, open_store
from ..layout.repositories import Contents, repository_name
from ..oci import OCI_INDEX, REF_NAME, Digest, descriptor_json
from ..project.lockfile import MAX_SIZE as MAX_LOCK_SIZE
from ..project.lockfile import Entry as LockEntry
from ..project.lockfile import Lock, parse_lock
from ..tar import BLOCK

SCHEMA: Final = 1
MARKER: Final = b'{"imageLayoutVersion":"1.0.0"}'
MARKER_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
RECORD_FILE: Final = "bundle.json"
LOCK_FILE: Final = "marfetch.lock"
PAGE_FILE: Final = "bundle.html"
FIRST: Final = (MARKER_FILE, INDEX_FILE, RECORD_FILE, LOCK_FILE, PAGE_FILE)
"""The files before the blobs, in this order."""
MAX_RECORD_SIZE: Final = 128 << 20

_RECORD: Final = 10 * 1024  # tar ends on a multiple of this


@dataclass(frozen=True, slots=True)
class Base:
    """The bundle that a delta goes on from.

    Attributes:
        size: of its archive, bytes.
        digest: of its archive: another file, however similar, is another bundle.
    """

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """The content of `bundle.json`.

    Attributes:
        files: name → digest of the files before the blobs, but for itself.
        base: of a delta.
        omitted: digest → size in bytes of the blobs that a delta leaves out.
    """

    files: Mapping[str, Digest]
    base: Base | None = None
    omitted: Mapping[Digest, int] | None = None


def record_bytes(record: Record) -> bytes:
    """The record as it is written."""
    document: dict[str, Any] = {"schema": SCHEMA, "files": {name: str(record.files[name]) for name in sorted(record.files)}}
    if record.base is not None:
        document["base"] = {"digest": str(record.base.digest), "size": record.base.size}
        document["omitted"] = [
            {"digest": str(digest), "size": size} for digest, size in sorted((record.omitted or {}).items(), key=lambda one: str(one[0]))
        ]
    document["seal"] = str(Digest.of(_encoded(document)))
    return _encoded(document) + b"\n"


def parse_record(data: bytes, where: str) -> Record:
    """Read a record; any other way to write the same is refused too.

    Raises:
        IntegrityError: `malformed`.
    """
    what = f"`{RECORD_FILE}` of `{where}`"
    document = parse_json(data, what)
    try:
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"`schema` is not {SCHEMA}")
        value: Any = document
        files = {str(name): Digest.parse(text) for name, text in value["files"].items()}
        base = omitted = None
        if "base" in value:
            base = Base(Digest.parse(value["base"]["digest"]), int(value["base"]["size"]))
            omitted = {Digest.parse(one["digest"]): int(one["size"]) for one in value["omitted"]}
    except (KeyError, TypeError, ValueError, AttributeError, Error) as error:
        reason = error.message if isinstance(error, Error) else str(error) or type(error).__name__
        raise IntegrityError(f"{what} is malformed: {reason}", code="malformed", path=where) from error
    record = Record(files, base, omitted)
    if record_bytes(record) != data:
        raise IntegrityError(f"{what} was changed by something other than marfetch", code="bundle-broken", path=where)
    return record


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=True).encode()


def index_bytes(entries: Iterable[Entry]) -> bytes:
    """The index: named manifests in the order of their names, then the others in that of their digests."""
    manifests = []
    for name, descriptor in sorted(entries, key=lambda one: (one[0] is None, one[0] or "", str(one[1].digest))):
        document = descriptor_json(descriptor)
        document.pop("annotations", None)  # the manifest holds them
        if name is not None:
            document["annotations"] = {REF_NAME: name}
        manifests.append(document)
    return json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}, separators=(",", ":"), ensure_ascii=True
    ).encode()


def ref_name(entry: LockEntry) -> str:
    """The name of an entry of the lock in the index: with its tag, or with its digest where it has none."""
    return str(replace(entry.reference, digest=None if entry.tag else entry.digest))


def blob_file(digest: Digest) -> str:
    """Return the path of a blob in the archive."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


# -- the archive


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the archive.

    Attributes:
        size: bytes.
        pieces: returns its bytes; exactly `size` of them.
    """

    name: str
    size: int
    pieces: Callable[[], Iterable[bytes]]


def header(name: str, size: int) -> bytes:
    """The header of a file in the archive: one block, or three where the name is long."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """Return the padding after a file."""
    return bytes(-size % BLOCK)


def ending(position: int) -> bytes:
    """Return the padding at the end of the archive."""
    return bytes(2 * BLOCK + -(position + 2 * BLOCK) % _RECORD)


def archive_size(parts: Sequence[Part]) -> int:
    """Bytes of the whole archive."""
    position = sum(len(header(part.name, part.size)) + part.size + -part.size % BLOCK for part in parts)
    return position + len(ending(position))


def write_archive(file: BinaryIO, parts: Iterable[Part]) -> Digest:
    """Write the archive to an unbuffered file.

    Returns:
        Its digest.

    Raises:
        OSError: the disk does not take it.
        Error: what the pieces raise.
    """
    writer, hasher, position = Writer(file), Digest("sha256", "").hasher(), 0

    def put(data: bytes) -> None:
        nonlocal position
        writer.write(data)
        hasher.update(data)
        position += len(data)

    for part in parts:
        small: list[bytes] = [header(part.name, part.size)]
        for piece in part.pieces():
            if small:  # the header and the first piece in one go: most files are small
                piece, small = b"".join((*small, piece)), []  # noqa: PLW2901 - the piece with what stands before it
            put(piece)
        put(b"".join((*small, padding(part.size))))
    put(ending(position))
    return Digest("sha256", hasher.hexdigest())


def whole(data: bytes) -> Callable[[], Iterator[bytes]]:
    """Return in-memory data as pieces."""
    return lambda: iter((data,))


# -- a bundle that is open for reading: the archive, what it says of itself, and its lock


_NO_BUNDLE = ("not-a-layout", "archive-refused")


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle, or another layout.

    Attributes:
        record: None: it has none.
        lock: that of the bundle; None: it has none, or one that the record does not vouch for and that cannot be read.
        is_bundle: whether it has any of the files that only bundles have, and is to be checked as one: what lost its record is a broken
            bundle, and no other layout.
        unread: why the lock cannot be read, where it is there.
        warnings: what the reading of names had to say.
    """

    path: Path
    store: ReadonlyTar | Folder
    contents: Contents
    record: Record | None
    lock: Lock | None
    is_bundle: bool
    unread: Error | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def omitted(self) -> dict[Digest, int]:
        """What it leaves out as a delta: digest → bytes."""
        return dict((self.record.omitted if self.record else None) or {})


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a bundle or another layout, a tar or a folder, for as long as the context lasts.

    Raises:
        IntegrityError: `bundle-broken`: it is none, or nothing to be trusted; `malformed`, `lock-malformed`, `lock-edited`.
        PolicyError: `limit-passed`.
        StorageError: it cannot be read.
    """
    try:
        store = open_store(path)
    except (InputError, PolicyError) as error:
        if error.code not in _NO_BUNDLE:
            raise
        raise IntegrityError(error.message, code="bundle-broken", hint=error.hint, **error.context) from error
    try:
        yield looked_into(path, store)
    finally:
        store.close()


def looked_into(path: Path, store: ReadonlyTar | Folder) -> Opened:
    """What an open layout says of itself.

    Raises:
        Error: as `opened`.
    """
    data = store.document(RECORD_FILE, MAX_RECORD_SIZE)
    record = parse_record(data, str(path)) if data is not None else None
    lock, unread = _lock(path, store, record)
    is_bundle = record is not None or lock is not None or unread is not None or store.document(PAGE_FILE, MAX_RECORD_SIZE) is not None
    warnings: list[str] = []
    contents = Contents(store, name=repository_name(path.resolve()), warn=warnings.append)
    return Opened(path, store, contents, record, lock, is_bundle, unread, warnings)


def _lock(path: Path, store: ReadonlyTar | Folder, record: Record | None) -> tuple[Lock | None, Error | None]:
    """The lock; where it cannot be read since it is not the one that the record names, the reason in its place.

    Why it cannot be read is of no interest then: a byte that was changed on the way may make a lock of a newer form out of it.
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
    """The digest of the archive's own bytes.

    Raises:
        Error: it cannot be read.
    """
    hasher = Digest("sha256", "").hasher()
    for piece in store.raw().pieces():
        hasher.update(piece)
    return Digest("sha256", hasher.hexdigest())
