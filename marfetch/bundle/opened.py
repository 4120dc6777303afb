"""A bundle that is open for reading: the archive, what it says of itself, and its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError, IntegrityError, PolicyError
from ..layout.archive import Archive, open_store
from ..layout.contents import Contents, repository_name
from ..layout.folder import Folder
from ..oci import Digest
from ..project.lock import MAX_SIZE as MAX_LOCK_SIZE
from ..project.lock import Lock, parse_lock
from .form import LOCK_FILE, MAX_RECORD_SIZE, RECORD_FILE, Record, parse_record

_NO_BUNDLE = ("not-a-layout", "archive-refused")


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle, or another layout.

    Attributes:
        record: None: it has none, so that marfetch did not make it as a bundle.
        lock: that of the bundle; None: it has none.
        warnings: what the reading of names had to say.
    """

    path: Path
    store: Archive | Folder
    contents: Contents
    record: Record | None
    lock: Lock | None
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
        record = store.document(RECORD_FILE, MAX_RECORD_SIZE)
        lock = store.document(LOCK_FILE, MAX_LOCK_SIZE)
        warnings: list[str] = []
        yield Opened(
            path,
            store,
            Contents(store, name=repository_name(path.resolve()), warn=warnings.append),
            parse_record(record, str(path)) if record is not None else None,
            parse_lock(lock, Path(f"{path}:{LOCK_FILE}")) if lock is not None else None,
            warnings,
        )
    finally:
        store.close()


def archive_digest(store: Archive) -> Digest:
    """The digest of the archive's own bytes.

    Raises:
        Error: it cannot be read.
    """
    hasher = Digest("sha256", "").hasher()
    for piece in store.raw().pieces():
        hasher.update(piece)
    return Digest("sha256", hasher.hexdigest())
