"""Maintain a layout: count, verify, prune and clear it."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import records
from ..content import Progress, Silent, Verified, transferring
from ..errors import Error, InputError, IntegrityError, StorageError
from ..files import BY_DESCRIPTOR, INGEST, storage_error
from ..oci import Descriptor, Digest
from ..records import RECORDS_DIRECTORY, prune_records
from .cache import USE, alone
from .graph import ManifestNode, closure
from .ingest import CHUNK, STALE, drop_stale
from .layout import Layout, last_used

_DIRECTORIES: Final = ("blobs", INGEST, records.DIRECTORY, RECORDS_DIRECTORY, "projects", "crl")
_CONTENT: Final = (*_DIRECTORIES, "index.json", "index.lock", "index.damaged", "oci-layout")
"""Names of the files and directories at the top of a cache."""
_CLEAR_WAIT: Final = 10.0
"""Seconds that `cache clear` waits for commands that use the cache."""


@dataclass(frozen=True, slots=True)
class Info:
    """The number of tags, blobs and parts in a layout, and their total sizes in bytes."""

    root: Path
    names: int
    blobs: int
    size: int
    partial: int
    partial_size: int


@dataclass(frozen=True, slots=True)
class Bad:
    """A corrupted blob."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """The number of deleted blobs, parts and tag lists; `size` is their total size in bytes.

    Attributes:
        kept: the number of unreferenced blobs that were not deleted, because another command may need them.
    """

    blobs: int
    partial: int
    size: int
    listings: int = 0
    kept: int = 0


def info(layout: Layout) -> Info:
    """Count blobs and tags."""
    sizes = [status.st_size for path in _blobs(layout) if (status := _status(path)) is not None]
    parts = [status.st_size for path in _parts(layout) if path.suffix != ".lock" and (status := _status(path)) is not None]
    return Info(layout.root, len(layout.names.all()), len(sizes), sum(sizes), len(parts), sum(parts))


def verify(layout: Layout, *, fix: bool = False, progress: Progress | None = None) -> list[Bad]:
    """Verify every blob.

    Args:
        fix: delete corrupted blobs; marfetch downloads them again when they are needed.
        progress: receives the number of checked blobs.

    Returns:
        The corrupted blobs. A missing blob is not damage, because a cache contains only blobs that were used.
    """
    bad: list[Bad] = []
    progress = progress or Silent()
    paths = list(_blobs(layout))
    with progress.steps("checking", len(paths), "blobs") as steps:
        for path in paths:
            reason = _wrong(path, progress)
            steps.advance()
            if reason is None:
                continue
            bad.append(Bad(f"{path.parent.name}:{path.name}", reason))
            if fix and _is_ours(path):
                _remove(path)
    return bad


def prune(layout: Layout, *, days: float | None = None) -> Pruned:
    """Delete blobs that no entry of the index needs, and parts that were not used for a day.

    A command adds its artifacts to the index only when it ends. So if another command may be using the cache, blobs and tags that were
    used within the last day stay.

    Args:
        days: first delete tags and tag lists that were not used for this many days.
    """
    with alone(layout.root) as is_alone:
        if not (layout.root / "oci-layout").exists():
            return Pruned(0, 0, 0)  # another process has just cleared the cache
        return _prune(layout, days, young=None if is_alone else time.time() - STALE)


def _prune(layout: Layout, days: float | None, *, young: float | None) -> Pruned:
    limit = time.time() - days * 86400 if days is not None else None
    useless: set[Digest] = set()
    if limit is not None:
        unused_since = limit if young is None else min(limit, young)
        useless = {root.digest for root in layout.names.roots() if _used(layout, root) < unused_since}
    keep = _reachable(layout, [root for root in layout.names.roots() if root.digest not in useless])
    count = size = partial = kept = 0
    for path in _blobs(layout):
        status = _status(path)
        if status is None or f"{path.parent.name}:{path.name}" in keep or not _is_ours(path):
            continue
        if young is not None and last_used(status) > young:
            kept += 1
            continue
        size += status.st_size
        count += 1
        _remove(path)
    if useless:  # last: on a full disk, the index can only be written after blobs are deleted
        layout.names.forget(lambda descriptor: descriptor.digest in useless)
    for path in _parts(layout):
        status = _status(path)
        if status is not None and drop_stale(path, status):
            partial += path.suffix != ".lock"
            size += status.st_size
    try:
        lists, lists_size = records.prune(layout.root, before=limit, stale=time.time() - STALE)
    except OSError as error:
        raise storage_error(error, layout.root / records.DIRECTORY) from error
    prune_records(layout.root, older=STALE)
    return Pruned(count, partial, size + lists_size, lists, kept)


def clear(root: Path) -> int:
    """Delete everything in a cache, and return the deleted size in bytes. Wait a few seconds for commands that use the cache.

    Raises:
        InputError: `usage`: the directory is not a cache.
        PolicyError: `cache-unsafe`: another user may have changed the cache.
        StorageError: the cache cannot be deleted, or another command uses it.
    """
    if not root.exists():
        return 0
    records.refuse_unsafe(root)
    if not any((root / name).is_file() for name in ("oci-layout", USE)) and _has_entries(root):
        raise InputError(f"refused to clear `{root}`: it is not a marfetch cache", code="usage", hint="check `--cache-dir`", path=str(root))
    with alone(root, wait=_CLEAR_WAIT) as is_alone:
        if is_alone is False:
            raise StorageError(
                f"refused to clear `{root}`: another marfetch is using it",
                code="file-unusable",
                hint="wait for or stop the other marfetch, then run it again",
                path=str(root),
            )
        statuses = (_status(path) for path in root.rglob("*") if path.name != USE)
        size = sum(status.st_size for status in statuses if status is not None and stat.S_ISREG(status.st_mode))
        for name in _CONTENT:
            _remove(root / name)
        if BY_DESCRIPTOR:  # delete the lock file last: a command that waits for the lock then opens a new one
            _remove(root / USE)
    if not BY_DESCRIPTOR:
        _remove(root / USE)
    with suppress(OSError):
        root.rmdir()
    return size


def _has_entries(root: Path) -> bool:
    try:
        return next(root.iterdir(), None) is not None
    except FileNotFoundError:  # another process has just cleared the cache
        return False


def _blobs(layout: Layout) -> Iterator[Path]:
    for directory in sorted((layout.root / "blobs").glob("*")):
        with suppress(NotADirectoryError, FileNotFoundError):
            yield from sorted(directory.iterdir())


def _is_ours(path: Path) -> bool:
    """Return whether a file may be deleted. In a directory reached through a link, only files that are named like a blob may be."""
    if not (path.parent.is_symlink() or path.parent.parent.is_symlink()):
        return True
    with suppress(InputError):
        Digest.parse(f"{path.parent.name}:{path.name}")
        return True
    return False


def _parts(layout: Layout) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from sorted((layout.root / INGEST).iterdir())


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a file; None if another process has deleted it."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _wrong(path: Path, progress: Progress) -> str | None:
    status = _status(path)
    if status is None:
        return None
    if not stat.S_ISREG(status.st_mode):
        return "it is not a file"
    try:
        digest = Digest.parse(f"{path.parent.name}:{path.name}")
    except InputError as error:
        return error.message
    verified = Verified(Descriptor("application/octet-stream", digest, status.st_size))
    try:
        with (
            transferring(progress, str(digest), status.st_size) as transfer,
            os.fdopen(records.open_regular(path), "rb", buffering=0) as file,
        ):
            while chunk := file.read(CHUNK):
                verified.update(chunk)
                transfer.held(verified.held)
        verified.check()
    except IntegrityError as error:
        return error.message
    except FileNotFoundError:
        return None  # deleted by another process
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def _used(layout: Layout, descriptor: Descriptor) -> float:
    try:
        status = layout.path(descriptor.digest).stat()
    except OSError:
        return 0.0
    return max(status.st_mtime, status.st_atime)


def _reachable(layout: Layout, roots: Iterable[Descriptor]) -> set[str]:
    """Return the digests of everything that manifests lead to, including referrers."""

    def read(one: Descriptor) -> ManifestNode | None:
        with suppress(Error):
            found = layout.find(one.digest, one.media_type)
            return ManifestNode.of(found) if found is not None else None
        return None

    keep: set[str] = set()
    for one, node in closure(roots, read):
        keep.add(str(one.digest))
        keep.update(str(blob.digest) for blob in (node.blobs if node is not None else ()))
    return keep


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
