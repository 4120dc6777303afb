"""Record the directories that marfetch created, so that it never replaces a directory that the user created.

Each record is a small file in the user's state directory, written atomically. Losing one is harmless: a directory without a record is
replaced only if every file in it belongs to a known version of the artifact.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from ..document import parse_json
from ..errors import Error, StorageError
from ..files import home, make_directories, write_whole
from ..records import read_file, unsafe
from .directory import Directory

STATE_ENVIRONMENT: Final = "XDG_STATE_HOME"
SCHEMA: Final = 1
MAX_SIZE: Final = 64 << 20
"""Maximum size of one record in bytes. An archive has at most 20,000 members with paths of at most 1,024 bytes."""
_DIRECTORY: Final = "directories"
_MAX_FILES: Final = 100_000
"""Maximum number of files to hash in a directory, to find out whether they belong to the artifact."""
_PRUNED: Final = 8
"""Number of records to check whenever one is written. Over time, this deletes the records of deleted directories."""
_SMALL: Final = 1 << 20
"""Records larger than this, in bytes, are not checked."""
_STALE: Final = 24 * 3600.0
"""Seconds after which the temporary file of a killed run is deleted."""
_PIECE: Final = 1 << 20

Unknown: TypeAlias = Callable[[Set[str]], Set[str]]
"""Takes the SHA-256 digests (in hex) of files, and returns the digests that belong to no known version of the artifact."""


def nothing_known(digests: Set[str]) -> Set[str]:
    """Return all digests, as if no version of the artifact were known."""
    return digests


class CreatedDirectory(NamedTuple):
    """The record of a directory.

    Attributes:
        number: the inode of the directory that marfetch created; None if the directory already had the artifact's content.
        files: path → SHA-256 of the file, in hex.
    """

    number: int | None
    files: Mapping[str, str]


class CreatedDirectories:
    """The user's records of created directories.

    Args:
        root: the state directory; None: the user's default state directory.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root

    def get(self, path: Path) -> CreatedDirectory | None:
        """Return the record of a directory, or None."""
        file = self._file(path)
        raw = read_file(str(file), limit=MAX_SIZE) if file is not None and _is_safe(file.parent) else None
        if raw is None:
            return None
        with suppress(Error):
            document = parse_json(raw, f"`{file}`")
            if isinstance(document, dict) and document.get("schema") == SCHEMA and document.get("path") == _text(path):
                files, number = document.get("files"), document.get("number")
                if isinstance(files, dict):
                    known = {name: digest for name, digest in files.items() if isinstance(digest, str)}
                    return CreatedDirectory(int(number) if isinstance(number, str) and number.isdecimal() else None, known)
        return None

    def put(self, path: Path, record: CreatedDirectory) -> None:
        """Save the record of a directory, best effort. Without a record, a directory is replaced only if all its files are known."""
        file = self._file(path)
        if file is None:
            return
        number = str(record.number) if record.number is not None else None  # text: not all JSON parsers support such large integers
        document = {"schema": SCHEMA, "path": _text(path), "number": number, "files": dict(record.files)}
        with suppress(OSError, StorageError):
            make_directories(file.parent, 0o700)
            if not _is_safe(file.parent):
                return
            self._prune(file.parent)
            write_whole(file, json.dumps(document, separators=(",", ":")).encode())

    def _file(self, path: Path) -> Path | None:
        root = self._root or state_root()
        return root / _DIRECTORY / f"{hashlib.sha256(_bytes(path)).hexdigest()}.json" if root is not None else None

    def _prune(self, directory: Path) -> None:
        names = os.listdir(directory)  # noqa: PTH208 - faster than pathlib for thousands of names
        for name in random.sample(names, min(len(names), _PRUNED)):
            file = directory / name
            with suppress(Error, OSError):
                if name.startswith(".") and time.time() - file.lstat().st_mtime > _STALE:
                    file.unlink()  # left by a killed run
                raw = read_file(str(file), limit=_SMALL)
                document = parse_json(raw, f"`{file}`") if raw is not None else None
                path = document.get("path") if isinstance(document, dict) else None
                if isinstance(path, str) and not os.path.lexists(_bytes(path)):
                    file.unlink()


def _is_safe(directory: Path) -> bool:
    """Return whether only the user can have written the records. A forged record could make marfetch replace a user's directory."""
    return unsafe(directory) is None and unsafe(directory.parent) is None


def state_root() -> Path | None:
    """Return the user's state directory, or None if it cannot be determined."""
    named = os.environ.get(STATE_ENVIRONMENT)
    if named and Path(named).is_absolute():
        return Path(named) / "marfetch"
    import platformdirs  # late: platformdirs is needed only to unpack archives

    with suppress(StorageError, RuntimeError):
        if not named and (path := platformdirs.user_state_path("marfetch", appauthor=False)).is_absolute():
            return path
        return home() / ".local" / "state" / "marfetch"
    return None


def foreign_file(top: Directory, record: CreatedDirectory | None, unknown: Unknown) -> str | None:
    """Return a file that prevents replacing a directory; None if the directory may be replaced.

    A directory that marfetch created may be replaced even if its files were edited. Any other directory may be replaced only if all its
    files are in the record or belong to the artifact.

    Raises:
        OSError: the directory cannot be read.
    """
    if record is not None and record.number == top.identity[1] and _is_still(top, record):
        return None
    recorded = frozenset(record.files.values()) if record is not None else frozenset()
    found: dict[str, str] = {}
    for number, (path, digest) in enumerate(_files(top)):
        if digest is None or number >= _MAX_FILES:
            return path
        if digest not in recorded:
            found.setdefault(digest, path)
    left = unknown(found.keys()) if found else frozenset()
    return min((found[digest] for digest in left), default=None)


def _is_still(top: Directory, record: CreatedDirectory) -> bool:
    """Return whether a directory with the recorded inode is still the same directory. File systems reuse inodes, so compare its files."""
    missing = False
    for path, digest in record.files.items():
        found = _digest(top, path.split("/"))
        if found == digest:
            return True
        missing = missing or found is None
    return bool(record.files) and not missing


def _digest(top: Directory, parts: list[str]) -> str | None:
    """Return the SHA-256 of a file, or None if it is missing."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if len(parts) > 1:
            if not stat.S_ISDIR(top.stat(parts[0]).st_mode):
                return None
            with closing(top.enter(parts[0])) as below:
                return _digest(below, parts[1:])
        if stat.S_ISREG(top.stat(parts[0]).st_mode):
            return _hashed(top, parts[0])
    return None


def _files(directory: Directory, above: str = "") -> Iterator[tuple[str, str | None]]:
    """Yield path and digest of each file at any depth; the digest is None for links, devices and pipes."""
    for name in sorted(directory.names()):
        mode = directory.stat(name).st_mode
        if stat.S_ISDIR(mode):
            with closing(directory.enter(name)) as below:
                yield from _files(below, f"{above}{name}/")
        else:
            yield f"{above}{name}", _hashed(directory, name) if stat.S_ISREG(mode) else None


def _hashed(directory: Directory, name: str) -> str:
    hasher = hashlib.sha256()
    with directory.open(name, os.O_RDONLY, "rb") as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return hasher.hexdigest()


def _bytes(path: Path | str) -> bytes:
    # Use UTF-8 in every locale, so that a name always has the same bytes.
    return str(path).encode("utf-8", "surrogateescape")


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", "backslashreplace")
