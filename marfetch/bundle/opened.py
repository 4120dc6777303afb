"""A bundle that is open for reading: the archive, what it says of itself, and its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Error, InputError, IntegrityError, PolicyError
from ..layout.folder import Folder
from ..layout.readonly import ReadonlyTar, open_store
from ..layout.repositories import Contents, repository_name
from ..oci import Digest
from ..project.lockfile import MAX_SIZE as MAX_LOCK_SIZE
from ..project.lockfile import Lock, parse_lock
from .format import LOCK_FILE, MAX_RECORD_SIZE, PAGE_FILE, RECORD_FILE, Record, parse_record

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
