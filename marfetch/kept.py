"""Small documents that are kept below the cache for a while, such as an index that was just built: never needed, only faster."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from .document import Json, parse_json
from .errors import Error, StorageError
from .files import make_directories, unfinished, write_whole
from .lock import lock

RECORDS_DIRECTORY: Final = "kept"
"""Below the cache."""
SCHEMA: Final = 1
_CLOCKS_DIFFER: Final = 2.0
"""Seconds by which the clocks of a machine and of its file server may differ."""
MAX_RECORD_SIZE: Final = 16 << 20
"""Bytes of one document, where its sort sets no other bound."""
_FEW: Final = 64
"""Paths that are remembered: some are asked for before every request."""
# What lies there may be another's: a named pipe must not hold anybody up, and a link leads out of the cache.
_READ_SAFELY: Final = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


class KeptRecord(NamedTuple):
    """A document that was kept.

    Attributes:
        age: seconds since it was written, ≥ 0.
    """

    data: Json
    age: float


class Records:
    """The documents of one sort.

    Args:
        root: the cache.
        sort: names the directory below it.
        most: bytes of one document.
    """

    def __init__(self, root: Path, sort: str, *, most: int = MAX_RECORD_SIZE) -> None:
        self._root = root
        self._directory = root / RECORDS_DIRECTORY / sort
        self._most = most
        self._paths: dict[str, Path] = {}

    def get(self, key: str) -> KeptRecord | None:
        """The document with this key; None where there is none that can be read."""
        found = self._read(self._path(key))
        if found is not None and found[0].get("key") == key:
            age = time.time() - found[1]
            if age > -_CLOCKS_DIFFER:  # a moment that has not come yet would be new for ever
                return KeptRecord(found[0].get("data"), max(0.0, age))
        return None

    def _read(self, path: Path) -> tuple[dict[str, Json], float] | None:
        """What lies there, and when it was written; None where it cannot be read."""
        with suppress(OSError, Error):
            with os.fdopen(os.open(path, _READ_SAFELY), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return None
                raw = file.read(self._most + 1)
            document = parse_json(raw, f"`{path}`") if len(raw) <= self._most else None
            if isinstance(document, dict) and document.get("schema") == SCHEMA:
                return document, status.st_mtime
        return None

    def found_keys(self) -> list[str]:
        """Of the documents that can be read."""
        found = []
        with suppress(OSError):
            for path in sorted(self._directory.glob("*.json")):
                document = self._read(path)
                key = document[0].get("key") if document is not None else None
                if isinstance(key, str):
                    found.append(key)
        return found

    def put(self, key: str, data: Json) -> None:
        """Keep a document; where that cannot be done, nothing is lost but time."""
        raw = json.dumps({"schema": SCHEMA, "key": key, "data": data}, separators=(",", ":")).encode()
        if len(raw) <= self._most:
            with suppress(OSError, StorageError):
                make_directories(self._directory, 0o700)
                path = self._path(key)
                write_whole(path, raw, through=unfinished(self._root, path))

    def stamp(self, key: str) -> tuple[int, int, int] | None:
        """Something that is another one when the document was written anew; None where there is none. Costs next to nothing."""
        with suppress(OSError):
            status = self._path(key).lstat()
            return status.st_ino, status.st_mtime_ns, status.st_size
        return None

    @contextmanager
    def alone(self, key: str, *, wait: float) -> Iterator[None]:
        """While no other process builds the same; goes on without a lock where none can be had.

        Args:
            wait: seconds at most.
        """
        with suppress(OSError):
            make_directories(self._directory, 0o700)
        with ExitStack() as stack:
            with suppress(StorageError):
                stack.enter_context(lock(self._path(key).with_suffix(".lock"), wait=wait))
            yield

    def _path(self, key: str) -> Path:
        path = self._paths.get(key)
        if path is None:
            path = self._directory / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
            if len(self._paths) < _FEW:
                self._paths[key] = path
        return path


def prune_records(root: Path, *, older: float) -> None:
    """Take documents away that were not written for so many seconds; their locks stay, since somebody may hold one."""
    with suppress(OSError):
        for path in sorted((root / RECORDS_DIRECTORY).glob("*/*.json")):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > older:
                    path.unlink()
