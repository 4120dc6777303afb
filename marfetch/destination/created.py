"""Record what marfetch wrote, so that it never replaces or removes what the user created.

There is one record for each directory that marfetch unpacked, and one for the files of each project. A record is a small file in the user's
state directory, written atomically. Losing one is harmless: a directory without a record is replaced only if every file in it belongs to a
known version of the artifact, and files without a record are never removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, TypeAlias

from ..document import Json, parse_json
from ..errors import Error, StorageError
from ..files import home, make_directories, write_whole
from ..oci import Digest
from ..records import read_file, unsafe
from .directory import Directory

STATE_ENVIRONMENT: Final = "XDG_STATE_HOME"
SCHEMA: Final = 1
MAX_SIZE: Final = 64 << 20
"""Maximum size of one record in bytes. An archive has at most 20,000 members with paths of at most 1,024 bytes."""
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


class _Records:
    """Records about absolute paths.

    Args:
        root: the state directory; None: the user's default state directory.
    """

    folder: ClassVar[str]

    def __init__(self, root: Path | None = None) -> None:
        self._root = root

    def _read(self, path: Path) -> dict[str, Json] | None:
        """Return the record of a path; None if there is none, or if another user may have written it."""
        file = self._file(path)
        raw = read_file(str(file), limit=MAX_SIZE) if file is not None and _is_safe(file.parent) else None
        if raw is None:
            return None
        with suppress(Error):
            document = parse_json(raw, f"`{file}`")
            if isinstance(document, dict) and document.get("schema") == SCHEMA and document.get("path") == _text(path):
                return document
        return None

    def _write(self, path: Path, document: Mapping[str, object]) -> None:
        """Save the record of a path, best effort."""
        file = self._file(path)
        if file is None:
            return
        with suppress(OSError, StorageError):
            make_directories(file.parent, 0o700)
            if not _is_safe(file.parent):
                return
            self._prune(file.parent)
            write_whole(file, json.dumps({"schema": SCHEMA, "path": _text(path), **document}, separators=(",", ":")).encode())

    def _file(self, path: Path) -> Path | None:
        root = self._root or state_root()
        return root / self.folder / f"{hashlib.sha256(_bytes(path)).hexdigest()}.json" if root is not None else None

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


class CreatedDirectories(_Records):
    """The user's records of unpacked directories."""

    folder = "directories"

    def get(self, path: Path) -> CreatedDirectory | None:
        """Return the record of a directory, or None."""
        document = self._read(path) or {}
        files, number = document.get("files"), document.get("number")
        if not isinstance(files, dict):
            return None
        known = {name: digest for name, digest in files.items() if isinstance(digest, str)}
        return CreatedDirectory(int(number) if isinstance(number, str) and number.isdecimal() else None, known)

    def put(self, path: Path, record: CreatedDirectory) -> None:
        """Save the record of a directory, best effort. Without a record, a directory is replaced only if all its files are known."""
        number = str(record.number) if record.number is not None else None  # text: not all JSON parsers support such large integers
        self._write(path, {"number": number, "files": dict(record.files)})


UNPACKED: Final = "unpacked"
MADE: Final = "made"
Written: TypeAlias = dict[str, dict[str, str]]
"""Name of an entry → absolute path → what marfetch wrote there: the digest of a file, `UNPACKED` for the directory of an archive, or `MADE`
for a directory that marfetch created for them."""


class WrittenFiles(_Records):
    """The user's records of what `sync` wrote for a project."""

    folder = "projects"

    def get(self, project: Path) -> Written:
        """Return what was written for a project file; empty without a record."""
        entries = (self._read(project) or {}).get("entries")
        return {
            name: {path: what for path, what in paths.items() if isinstance(what, str) and _is_below(path, project.parent, what)}
            for name, paths in (entries.items() if isinstance(entries, dict) else ())
            if isinstance(paths, dict)
        }

    def put(self, project: Path, entries: Written) -> None:
        """Save the record of a project, best effort."""
        self._write(project, {"entries": {name: paths for name, paths in entries.items() if paths}})


def _is_below(path: str, root: Path, what: str) -> bool:
    """Return whether an entry of a record is valid: a path below the project, with a digest, `UNPACKED` or `MADE`."""
    place = Path(path)
    if not place.is_relative_to(root) or place == root or ".." in place.parts:
        return False
    with suppress(Error):
        return what in (UNPACKED, MADE) or bool(Digest.parse(what))
    return False


def remove_unchanged(root: Path, path: Path, what: str, *, is_rehearsal: bool) -> str | None:
    """Remove what marfetch wrote, if it is unchanged. No link is followed below the root.

    Args:
        root: a directory above the path, without links.
        what: what marfetch wrote there, see `Written`.
        is_rehearsal: only find out whether it would be removed.

    Returns:
        Why it stays; None if it is removed.

    Raises:
        FileNotFoundError: it is gone already.
        OSError: it cannot be read or removed.
    """
    with ExitStack() as stack:
        parent = stack.enter_context(closing(Directory.open_root(root)))
        for name in path.relative_to(root).parts[:-1]:
            parent = stack.enter_context(closing(parent.enter(name)))
        mode = parent.stat(path.name).st_mode
        if what in (UNPACKED, MADE):
            if not stat.S_ISDIR(mode):
                return "it is not a directory any more"
            with closing(parent.enter(path.name)) as top:
                if what == UNPACKED:
                    record = CreatedDirectories().get(path)
                    if record is None or record.number != top.identity[1] or dict(_files(top)) != dict(record.files):
                        return "its files were changed"
                elif top.names():
                    return "it has other files"
            if not is_rehearsal:
                parent.discard(path.name)
            return None
        if not stat.S_ISREG(mode):
            return "it is not a file any more"
        if _hashed(parent, path.name, Digest.parse(what).algorithm) != Digest.parse(what).encoded:
            return "it was changed"
        if not is_rehearsal:
            parent.unlink(path.name)
        return None


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


def _hashed(directory: Directory, name: str, algorithm: str = "sha256") -> str:
    hasher = hashlib.new(algorithm)
    with directory.open(name, os.O_RDONLY, "rb") as file:
        while piece := file.read(_PIECE):
            hasher.update(piece)
    return hasher.hexdigest()


def _bytes(path: Path | str) -> bytes:
    # Use UTF-8 in every locale, so that a name always has the same bytes.
    return str(path).encode("utf-8", "surrogateescape")


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", "backslashreplace")
