"""The last list of tags of each repository, kept beside the cache's blobs so that completion knows what there is.

Nothing else reads them: a list says what a registry had, not what it has. `--offline` does not choose from them either: it would
pick versions whose bytes the cache lacks in place of those that it holds.

The name of a file is the repository itself, so that one look at the directory tells which repositories have a list. Reading loads
neither `pathlib` nor `hashlib`: a completion is over before they would be there.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from .document import parse_json
from .errors import Error, StorageError

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY: Final = "listings"
SCHEMA: Final = 1
MAX_SIZE: Final = 1 << 20
"""Largest file of a list, in bytes; longer lists are not kept."""

_MAX_NAME = 200  # bytes; a file system takes 255, and `write_whole` needs some for its own
_TO_FILE = str.maketrans("/:", "+=")  # neither `+` nor `=` stands in a host or a repository
_FROM_FILE = str.maketrans("+=", "/:")
_SUFFIX = ".json"
_SAFELY: Final = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


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
        from .files import write_whole

        write_whole(path, data)


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
    """The repositories that have a list, each with its host."""
    try:
        names = os.listdir(os.path.join(root, DIRECTORY))  # noqa: PTH118, PTH208 - see above
    except OSError:
        return []
    return [name.removesuffix(_SUFFIX).translate(_FROM_FILE) for name in names if name.endswith(_SUFFIX) and not name.startswith(".")]


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


def read_file(path: str, *, limit: int) -> bytes | None:
    """A file's bytes; None where it is longer, no regular file, or cannot be read.

    Args:
        limit: in bytes.
    """
    try:
        # Never through a link, and without waiting for the other end of a pipe.
        number = os.open(path, os.O_RDONLY | _SAFELY)
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            return None
        with os.fdopen(number, "rb") as file:
            data = file.read(limit + 1)
    except OSError:
        return None
    return data if len(data) <= limit else None


def _file_name(repository: str) -> str | None:
    name = repository.translate(_TO_FILE) + _SUFFIX
    fits = len(name.encode("utf-8", "replace")) <= _MAX_NAME and name.translate(_FROM_FILE) == repository + _SUFFIX
    return name if fits and not name.startswith(".") and "\0" not in name else None
