"""Small JSON records beside the cache's blobs. They only save requests and time; losing one is harmless.

Two kinds: the last tag list of each repository and the last catalog of each registry (`listings/`), and documents under a key, such as
an index that was just built (`kept/`).

A list says what a registry had, not what it has, so `--offline` never picks a version from one: the cache may lack its bytes. The file
name of a list is the repository, so that one look at the directory tells which repositories have one. Completion reads lists, so
reading one loads neither `pathlib` nor `hashlib`: that would take longer than the completion itself.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from .document import Json, parse_json
from .errors import Error, StorageError

if TYPE_CHECKING:
    from pathlib import Path


DIRECTORY: Final = "listings"
SCHEMA: Final = 1
MAX_SIZE: Final = 1 << 20
"""Largest file of a list, in bytes; longer lists are not kept."""

MAX_CATALOG_SIZE: Final = 32 << 20
"""The same for a catalog."""
CATALOG: Final = "_catalog"
"""Stands in place of the repository: none begins with `_`."""

_MAX_NAME = 200  # bytes; a file system takes 255, and `write_whole` needs some for its own
_TO_FILE = str.maketrans("/:", "+=")  # neither `+` nor `=` stands in a host or a repository
_FROM_FILE = str.maketrans("+=", "/:")
_SUFFIX = ".json"
_READING: Final = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)


def keep(root: Path, repository: str, tags: Sequence[str]) -> None:
    """Keep what a registry has just listed. A cache that does not take it can do without.

    Args:
        root: of the cache.
        repository: with its host, such as `mcr.microsoft.com/aks/foo`.
    """
    name = _file_name(repository)
    if name is None:
        return
    path = root / DIRECTORY / name
    with suppress(OSError, StorageError):
        if read(root, repository) == list(tags):
            os.utime(path)  # `prune` goes by when a list was last seen
            return
        document = {
            "schema": SCHEMA,
            "repository": repository,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "tags": list(tags),
        }
        data = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode()
        if len(data) > MAX_SIZE:
            path.unlink(missing_ok=True)  # a list of old would be worse than none
            return
        from .files import unfinished, write_whole  # late: reading needs no writing

        write_whole(path, data, through=unfinished(root, path))


def read(root: Path | str, repository: str) -> list[str] | None:
    """The tags of a repository as they were last listed; None where there is no list that can be read."""
    name = _file_name(repository)
    if name is None:
        return None
    data = read_file(os.path.join(root, DIRECTORY, name), limit=MAX_SIZE)  # noqa: PTH118 - see above
    if data is None:
        return None
    try:
        document = parse_json(data, "a list of tags")
    except Error:
        return None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or document.get("repository") != repository:
        return None
    tags = document.get("tags")
    if not isinstance(tags, list):
        return None
    return [tag for tag in tags if isinstance(tag, str)]


def repositories(root: Path | str) -> list[str]:
    """The repositories that have a list of tags, each with its host."""
    try:
        files = os.listdir(os.path.join(root, DIRECTORY))  # noqa: PTH118, PTH208 - see above
    except OSError:
        return []
    names = [name.removesuffix(_SUFFIX).translate(_FROM_FILE) for name in files if name.endswith(_SUFFIX) and not name.startswith(".")]
    return [name for name in names if not name.endswith(f"/{CATALOG}")]


def keep_catalog(root: Path, host: str, names: Sequence[str], etag: str | None) -> None:
    """Keep the catalog of a registry, as `keep` does.

    Args:
        etag: what the registry calls this state of it, to ask whether there is a newer one.
    """
    name = _file_name(f"{host}/{CATALOG}")
    if name is None:
        return
    path = root / DIRECTORY / name
    with suppress(OSError, StorageError):
        document = {"schema": SCHEMA, "catalog": host, "etag": etag, "names": list(names)}
        data = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode()
        if len(data) > MAX_CATALOG_SIZE:
            path.unlink(missing_ok=True)
            return
        from .files import unfinished, write_whole  # late: reading needs no writing

        write_whole(path, data, through=unfinished(root, path))


def confirm_catalog(root: Path, host: str) -> None:
    """The registry says that its catalog is still the one that is kept."""
    with suppress(OSError):
        os.utime(_catalog_path(root, host))


def read_catalog(root: Path | str, host: str, *, limit: int = MAX_CATALOG_SIZE) -> tuple[list[str], str | None, float] | None:
    """The catalog of a registry as it was last listed: names, what the registry calls that state, and its age in seconds.

    Args:
        limit: a longer file, in bytes, is not read.

    Returns:
        None where there is no catalog that can be read.
    """
    path = _catalog_path(root, host)
    data = read_file(path, limit=limit)
    if data is None:
        return None
    try:
        document: Json = parse_json(data, "a catalog")
        age = max(0.0, time.time() - os.stat(path).st_mtime)  # noqa: PTH116 - see above
    except (Error, OSError):
        return None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or document.get("catalog") != host:
        return None
    names, etag = document.get("names"), document.get("etag")
    if not isinstance(names, list):
        return None
    return [name for name in names if isinstance(name, str)], etag if isinstance(etag, str) else None, age


def _catalog_path(root: Path | str, host: str) -> str:
    return os.path.join(root, DIRECTORY, _file_name(f"{host}/{CATALOG}") or os.devnull)  # noqa: PTH118 - see above


def prune(root: Path, *, before: float | None, stale: float) -> tuple[int, int]:
    """Take lists away that were last seen before a moment, and files that a process did not finish.

    Args:
        before: in seconds since the epoch; None keeps every list.
        stale: the same for unfinished files.

    Returns:
        How many lists, and the bytes of all that went.
    """
    count = size = 0
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted((root / DIRECTORY).iterdir()):
            with suppress(FileNotFoundError):
                status = path.lstat()
                is_list = not path.name.startswith(".")
                limit = before if is_list else stale
                if limit is not None and status.st_mtime < limit and not stat.S_ISDIR(status.st_mode):
                    path.unlink()
                    count += is_list
                    size += status.st_size
    return count, size


def open_regular(path: str | Path, *, follow: bool = False) -> int:
    """Open a file that may be another user's, for reading: without waiting for the other end of a pipe.

    Args:
        follow: through a link, too.

    Returns:
        Its descriptor.

    Raises:
        OSError: it cannot be opened; `ELOOP`: it is a link; `EINVAL`: it is no regular file.
    """
    number = os.open(path, _READING | (0 if follow else _NO_FOLLOW))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return number


def read_file(path: str | Path, *, limit: int) -> bytes | None:
    """A file's bytes; None where it is longer, a link, no regular file, or cannot be read.

    Args:
        limit: in bytes.
    """
    found = _read_regular(path, limit)
    return found[0] if found is not None else None


def _read_regular(path: str | Path, limit: int) -> tuple[bytes, float] | None:
    """The bytes of a regular file, and when it was written (seconds since the epoch); None as `read_file`."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data, written = file.read(limit + 1), os.fstat(file.fileno()).st_mtime
    except OSError:
        return None
    return (data, written) if len(data) <= limit else None


def _file_name(repository: str) -> str | None:
    name = repository.translate(_TO_FILE) + _SUFFIX
    fits = len(name.encode("utf-8", "replace")) <= _MAX_NAME and name.translate(_FROM_FILE) == repository + _SUFFIX
    return name if fits and not name.startswith(".") and "\0" not in name else None


# -- documents under a key


RECORDS_DIRECTORY: Final = "kept"
"""Below the cache."""
_CLOCKS_DIFFER: Final = 2.0
"""Seconds by which the clocks of a machine and of its file server may differ."""
MAX_RECORD_SIZE: Final = 16 << 20
"""Bytes of one document, where its sort sets no other bound."""
_FEW: Final = 64
"""Paths that are remembered: some are asked for before every request."""


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
        found = _read_regular(path, self._most)
        if found is None:
            return None
        with suppress(Error):
            document = parse_json(found[0], f"`{path}`")
            if isinstance(document, dict) and document.get("schema") == SCHEMA:
                return document, found[1]
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
            from .files import make_directories, unfinished, write_whole  # late: reading needs no writing

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
        from .files import lock, make_directories  # late: reading needs no writing

        with suppress(OSError):
            make_directories(self._directory, 0o700)
        with ExitStack() as stack:
            with suppress(StorageError):
                stack.enter_context(lock(self._path(key).with_suffix(".lock"), wait=wait))
            yield

    def _path(self, key: str) -> Path:
        path = self._paths.get(key)
        if path is None:
            import hashlib  # late: a completion reads lists, whose names need no hash

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
