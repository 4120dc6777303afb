"""Small JSON records beside the cache's blobs. They only save requests and time; losing one is harmless.

There are two kinds: the last tag list of each repository and catalog of each registry (`listings/`), and keyed documents, such as a
generated index (`kept/`).

`--offline` never picks a version from a tag list, because the cache may lack that version. The file of a tag list is named after the
repository, so listing the directory shows which repositories have one. Shell completion reads these files. Reading therefore imports
neither `pathlib` nor `hashlib`: importing them would take longer than the completion itself.
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
from .errors import Error, PolicyError, StorageError

if TYPE_CHECKING:
    from pathlib import Path


DIRECTORY: Final = "listings"
SCHEMA: Final = 1
MAX_SIZE: Final = 1 << 20
"""Maximum size of a tag list in bytes. Longer tag lists are not cached."""

MAX_CATALOG_SIZE: Final = 32 << 20
"""Maximum size of a catalog in bytes. Longer catalogs are not cached."""
CATALOG: Final = "_catalog"
"""Used as the repository in the file name of a catalog. No real repository begins with `_`."""

_MAX_NAME = 200  # bytes; file systems allow 255, and `write_whole` appends a suffix
_TO_FILE = str.maketrans("/:", "+=")  # neither hosts nor repositories contain `+` or `=`
_FROM_FILE = str.maketrans("+=", "/:")
_SUFFIX = ".json"
_READING: Final = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)


# -- whether other users can write to the cache


_INSIDE: Final = ("index.json", "oci-layout", "blobs", "blobs/sha256", "ingest", DIRECTORY, "kept", "crl")
"""Files and directories of a cache that are checked too. Another user may have created them while the cache was writable."""


def unsafe(root: Path | str, *, any_owner: bool = False) -> str | None:
    """Return why another user may have written the content of a directory; None if the directory is safe or missing.

    Safe owners are the user, root and, under `sudo`, the calling user. The owner of a symbolic link is checked too, because the owner
    can point the link elsewhere. The main files and directories of a cache are checked in the same way.

    Args:
        any_owner: whether the directory may belong to any user; the files in a cache are then not checked.
    """
    if not hasattr(os, "geteuid"):
        return None
    for name in ("",) if any_owner else ("", *_INSIDE):
        path = os.path.join(root, name) if name else root  # noqa: PTH118 - importing pathlib is too slow for shell completion
        try:
            link = os.lstat(path)
            found = os.stat(path) if stat.S_ISLNK(link.st_mode) else link  # noqa: PTH116
        except OSError:
            continue
        what = f"its `{name}`" if name else "it"
        if found.st_mode & stat.S_IWOTH and not stat.S_ISCHR(found.st_mode):
            return f"every user can write to {what}"
        strangers = {found.st_uid, link.st_uid} - _owners()
        # If a group may write to the directory, its members may own files there.
        any_owner |= bool(found.st_mode & stat.S_IWGRP) and not strangers and not name
        if strangers and not any_owner:
            return f"{what} belongs to another user (uid {max(strangers)})"
    return None


def _owners() -> set[int]:
    user = os.geteuid()
    caller = os.environ.get("SUDO_UID", "") if user == 0 else ""
    return {0, user, int(caller)} if caller.isascii() and caller.isdecimal() else {0, user}


def refuse_unsafe(root: Path | str, *, any_owner: bool = False) -> None:
    """Refuse a cache that another user may have changed. Call this before reading anything in the cache.

    Raises:
        PolicyError: `cache-unsafe`.
    """
    reason = unsafe(root, any_owner=any_owner)
    if reason is not None:
        another = "use a directory of your own with `--cache-dir`"
        raise PolicyError(
            f"refused to use the cache `{root}`: {reason}",
            code="cache-unsafe",
            hint=another if "belongs" in reason else f"chmod {'-R o-w' if '`' in reason else '700'} {root}; or {another}",
            path=str(root),
            rule="only its owner writes into the cache, and the owner is the user or root",
        )


# -- tag lists and catalogs


def keep(root: Path, repository: str, tags: Sequence[str]) -> None:
    """Cache the tag list of a repository, best effort.

    Args:
        root: the cache directory.
        repository: the repository with its host, such as `mcr.microsoft.com/aks/foo`.
    """
    name = _file_name(repository)
    if name is None:
        return
    path = root / DIRECTORY / name
    with suppress(OSError, StorageError):
        if read(root, repository) == list(tags):
            os.utime(path)  # `prune` deletes a list by the time when its tags were last listed
            return
        document = {
            "schema": SCHEMA,
            "repository": repository,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "tags": list(tags),
        }
        data = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode()
        if len(data) > MAX_SIZE:
            path.unlink(missing_ok=True)  # no list is better than an outdated one
            return
        from .files import unfinished, write_whole  # late: needed only to write

        write_whole(path, data, through=unfinished(root, path))


def read(root: Path | str, repository: str) -> list[str] | None:
    """Return the cached tag list of a repository, or None if there is none."""
    name = _file_name(repository)
    if name is None or unsafe(root) is not None:
        return None
    data = read_file(os.path.join(root, DIRECTORY, name), limit=MAX_SIZE)  # noqa: PTH118 - pathlib is slow to import
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
    """Return the names, including hosts, of the repositories that have a cached tag list."""
    if unsafe(root) is not None:
        return []
    try:
        files = os.listdir(os.path.join(root, DIRECTORY))  # noqa: PTH118, PTH208 - pathlib is slow to import
    except OSError:
        return []
    names = [name.removesuffix(_SUFFIX).translate(_FROM_FILE) for name in files if name.endswith(_SUFFIX) and not name.startswith(".")]
    return [name for name in names if not name.endswith(f"/{CATALOG}")]


def keep_catalog(root: Path, host: str, names: Sequence[str], etag: str | None) -> None:
    """Cache the catalog of a registry, best effort.

    Args:
        etag: the response's `ETag`, for revalidation.
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
        from .files import unfinished, write_whole  # late: needed only to write

        write_whole(path, data, through=unfinished(root, path))


def confirm_catalog(root: Path, host: str) -> None:
    """Mark the cached catalog as current, after the registry confirmed it."""
    with suppress(OSError):
        os.utime(_catalog_path(root, host))


def read_catalog(root: Path | str, host: str, *, limit: int = MAX_CATALOG_SIZE) -> tuple[list[str], str | None, float] | None:
    """Return the cached catalog of a registry: names, `ETag` and age in seconds.

    Args:
        limit: maximum size in bytes; a longer file is ignored.

    Returns:
        None if there is no cached catalog.
    """
    found = _read_regular(_catalog_path(root, host), limit, is_own=True) if unsafe(root) is None else None
    if found is None:
        return None
    data, written = found
    try:
        document: Json = parse_json(data, "a catalog")
    except Error:
        return None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or document.get("catalog") != host:
        return None
    names, etag = document.get("names"), document.get("etag")
    if not isinstance(names, list):
        return None
    return [name for name in names if isinstance(name, str)], etag if isinstance(etag, str) else None, max(0.0, time.time() - written)


def _catalog_path(root: Path | str, host: str) -> str:
    return os.path.join(root, DIRECTORY, _file_name(f"{host}/{CATALOG}") or os.devnull)  # noqa: PTH118 - pathlib is slow to import


def prune(root: Path, *, before: float | None, stale: float) -> tuple[int, int]:
    """Delete old lists and leftover temporary files.

    Args:
        before: delete lists that were last used before this time, in seconds since the epoch; None: keep all lists.
        stale: delete temporary files that were last changed before this time, in seconds since the epoch.

    Returns:
        The number of deleted lists, and the size of all deleted files in bytes.
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
    """Open a regular file for reading. The path may belong to another user, so a named pipe must not block the call.

    Args:
        follow: follow symbolic links.

    Returns:
        The file descriptor.

    Raises:
        OSError: the file cannot be opened; `ELOOP`: it is a symbolic link; `EINVAL`: it is not a regular file.
    """
    number = os.open(path, _READING | (0 if follow else _NO_FOLLOW))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return number


def read_file(path: str | Path, *, limit: int) -> bytes | None:
    """Return a file's bytes; None if it is longer than the limit, a link, not a regular file, or unreadable.

    Args:
        limit: maximum size in bytes.
    """
    found = _read_regular(path, limit)
    return found[0] if found is not None else None


def _read_regular(path: str | Path, limit: int, *, is_own: bool = False) -> tuple[bytes, float] | None:
    """Return a file's bytes and modification time (seconds since the epoch); None for the same reasons as `read_file`.

    Args:
        is_own: ignore a file that another user may have written.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            status = os.fstat(file.fileno())
            if is_own and hasattr(os, "geteuid") and (status.st_mode & stat.S_IWOTH or status.st_uid not in _owners()):
                return None
            data = file.read(limit + 1)
    except OSError:
        return None
    return (data, status.st_mtime) if len(data) <= limit else None


def _file_name(repository: str) -> str | None:
    name = repository.translate(_TO_FILE) + _SUFFIX
    fits = len(name.encode("utf-8", "replace")) <= _MAX_NAME and name.translate(_FROM_FILE) == repository + _SUFFIX
    return name if fits and not name.startswith(".") and "\0" not in name else None


# -- keyed documents


RECORDS_DIRECTORY: Final = "kept"
"""Name of the directory in the cache."""
_CLOCKS_DIFFER: Final = 2.0
"""Tolerated clock skew between a machine and its file server, in seconds."""
MAX_RECORD_SIZE: Final = 16 << 20
"""Default maximum size of one document in bytes."""
_FEW: Final = 64
"""Maximum number of paths kept in memory. Some paths are needed before every request."""


class CachedRecord(NamedTuple):
    """A cached document.

    Attributes:
        age: seconds since the document was written, at least 0.
    """

    data: Json
    age: float


class Records:
    """The cached documents of one type.

    Args:
        root: the cache directory.
        kind: the name of the type, which is also the name of its directory.
        most: maximum size of one document in bytes.
    """

    def __init__(self, root: Path, kind: str, *, most: int = MAX_RECORD_SIZE) -> None:
        self._root = root
        self._directory = root / RECORDS_DIRECTORY / kind
        self._most = most
        self._paths: dict[str, Path] = {}

    def get(self, key: str) -> CachedRecord | None:
        """Return the document with this key, or None."""
        found = self._read(self._path(key))
        if found is not None and found[0].get("key") == key:
            age = time.time() - found[1]
            if age > -_CLOCKS_DIFFER:  # a time far in the future would keep the document fresh for too long
                return CachedRecord(found[0].get("data"), max(0.0, age))
        return None

    def _read(self, path: Path) -> tuple[dict[str, Json], float] | None:
        """Return a document and its modification time; None if it is unreadable."""
        is_safe = unsafe(self._root) is None and unsafe(self._directory, any_owner=True) is None
        found = _read_regular(path, self._most, is_own=True) if is_safe else None
        if found is None:
            return None
        with suppress(Error):
            document = parse_json(found[0], f"`{path}`")
            if isinstance(document, dict) and document.get("schema") == SCHEMA:
                return document, found[1]
        return None

    def found_keys(self) -> list[str]:
        """Return the keys of all readable documents."""
        found = []
        with suppress(OSError):
            for path in sorted(self._directory.glob("*.json")):
                document = self._read(path)
                key = document[0].get("key") if document is not None else None
                if isinstance(key, str):
                    found.append(key)
        return found

    def put(self, key: str, data: Json) -> None:
        """Cache a document, best effort: a failed write only costs a later request."""
        raw = json.dumps({"schema": SCHEMA, "key": key, "data": data}, separators=(",", ":")).encode()
        if len(raw) <= self._most:
            from .files import make_directories, unfinished, write_whole  # late: needed only to write

            with suppress(OSError, StorageError):
                make_directories(self._directory, 0o700)
                path = self._path(key)
                write_whole(path, raw, through=unfinished(self._root, path))

    def stamp(self, key: str) -> tuple[int, int, int] | None:
        """Return a cheap value that changes when the document is rewritten; None if there is no document."""
        with suppress(OSError):
            status = self._path(key).lstat()
            return status.st_ino, status.st_mtime_ns, status.st_size
        return None

    @contextmanager
    def alone(self, key: str, *, wait: float) -> Iterator[None]:
        """Hold the lock of a key, so that only one process builds the document. If locking fails, continue without the lock.

        Args:
            wait: maximum time to wait for the lock, in seconds.
        """
        from .files import lock, make_directories  # late: needed only to write

        with suppress(OSError):
            make_directories(self._directory, 0o700)
        with ExitStack() as stack:
            with suppress(StorageError):
                stack.enter_context(lock(self._path(key).with_suffix(".lock"), wait=wait))
            yield

    def _path(self, key: str) -> Path:
        path = self._paths.get(key)
        if path is None:
            import hashlib  # late: shell completion reads only tag lists, whose file names need no hash

            path = self._directory / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
            if len(self._paths) < _FEW:
                self._paths[key] = path
        return path


def prune_records(root: Path, *, older: float) -> None:
    """Delete documents older than `older` seconds. Their lock files stay, because a process may hold one of them."""
    with suppress(OSError):
        for path in sorted((root / RECORDS_DIRECTORY).glob("*/*.json")):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > older:
                    path.unlink()
