"""Unpack archives into directories, and compare directories with archives.

All access is relative to the descriptor of the parent directory, one name at a time and never through a link. Neither an archive nor a
process that swaps directories can redirect a write.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import BinaryIO

from ..artifact.filename import same_name
from ..errors import StorageError
from ..files import Writer
from .archive import Archive, Member, TreeNode
from .directory import Directory


def unpack(archive: Archive, top: Directory, check: Callable[[], None]) -> None:
    """Unpack an archive into an empty directory, and flush it to disk.

    Args:
        check: called regularly; it may raise to cancel.

    Raises:
        IntegrityError, PolicyError: see `Archive.__iter__`.
        StorageError: another process changed the directory.
        OSError: a file cannot be written.
    """
    try:
        with archive, closing(_Way(top, _make)) as way:
            for member in archive:
                check()
                if member.is_directory:
                    way.to(member.way)
                else:
                    _write(archive, member, way.to(member.way[:-1]), check)
    except FileExistsError as error:
        raise changed(top) from error
    _seal(top, archive.tree.top)


def holds(archive: Archive, top: Directory) -> bool:
    """Return whether a directory has exactly the content of an archive. Permissions are ignored: not all file systems keep them.

    Raises:
        IntegrityError, PolicyError: see `Archive.__iter__`.
        OSError: a file cannot be read.
    """
    with archive, closing(_Way(top, lambda above, node: above.enter(node.name))) as way:
        try:
            for member in archive:
                if member.is_directory:
                    way.to(member.way)
                else:
                    _compare(archive, member, way.to(member.way[:-1]))
            return _is_whole(top, archive.tree.top)
        except (_DiffersError, FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            if error.errno != errno.ELOOP:  # ELOOP: a symbolic link, which is never followed
                raise
        archive.finish()  # verify the rest: a corrupted archive proves nothing about the directory
    return False


class _DiffersError(Exception):
    """The directory differs from the archive."""


class _Way:
    """Keeps the directories on the path of the last member open, so that its siblings need no new lookup."""

    def __init__(self, top: Directory, step: Callable[[Directory, TreeNode], Directory]) -> None:
        self._top = top
        self._step = step
        self._nodes: list[TreeNode] = []
        self._open: list[Directory] = []

    def to(self, way: Sequence[TreeNode]) -> Directory:
        """Return the open directory at a path. The caller must not close it."""
        common = 0
        while common < min(len(way), len(self._nodes)) and self._nodes[common] is way[common]:
            common += 1
        self._back(common)
        for node in way[common:]:
            above = self._open[-1] if self._open else self._top
            self._open.append(self._step(above, node))
            self._nodes.append(node)
        return self._open[-1] if self._open else self._top

    def close(self) -> None:
        self._back(0)

    def _back(self, depth: int) -> None:
        while len(self._open) > depth:
            self._nodes.pop()
            self._open.pop().close()


def _make(above: Directory, node: TreeNode) -> Directory:
    """Create a directory, or open it again. Raise an error if another process has replaced it."""
    is_new = node.identity is None
    if is_new:
        above.make(node.name)
    made = above.enter(node.name)
    if is_new:
        node.identity = made.identity
    elif made.identity != node.identity:
        made.close()
        raise changed(made)
    return made


def _write(archive: Archive, member: Member, directory: Directory, check: Callable[[], None]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    # Drop set-uid and all other bits; the umask applies.
    rights = 0o755 if member.is_executable else 0o644
    with directory.open(member.way[-1].name, flags, "wb", rights=rights) as file:
        writer = Writer(file)
        for piece in archive.pieces():
            writer.write(piece)
            check()
        os.fsync(file.fileno())


def _seal(directory: Directory, node: TreeNode) -> None:
    """Check that a directory contains exactly the expected names, and sync it to disk."""
    if not _has_names(directory, node):
        raise changed(directory)
    for below in node.directories():
        with closing(directory.enter(below.name)) as inner:
            if inner.identity != below.identity:
                raise changed(inner)
            _seal(inner, below)
    directory.sync()


def changed(directory: Directory) -> StorageError:
    """Return the error for a directory that another process changed during unpacking."""
    return StorageError(
        f"another process changed `{directory.path}` during unpacking",
        code="file-unusable",
        hint="run the command again when no other process writes there",
        path=str(directory.path),
    )


def _compare(archive: Archive, member: Member, directory: Directory) -> None:
    name = member.way[-1].name
    status = directory.stat(name)
    if not stat.S_ISREG(status.st_mode) or status.st_size != member.size:
        raise _DiffersError
    with directory.open(name, os.O_RDONLY, "rb") as file:
        for piece in archive.pieces():
            if _read(file, len(piece)) != piece:
                raise _DiffersError


def _read(file: BinaryIO, size: int) -> bytes:
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _is_whole(directory: Directory, node: TreeNode) -> bool:
    """Return whether the directory has exactly the names in the tree, at every depth."""
    if not _has_names(directory, node):
        return False
    for below in node.directories():
        with closing(directory.enter(below.name)) as inner:
            if not _is_whole(inner, below):
                return False
    return True


def _has_names(directory: Directory, node: TreeNode) -> bool:
    # Some file systems return names in another Unicode normal form.
    names = directory.names()
    return len(names) == len(node.below or ()) and {same_name(name) for name in names} == set(node.below or ())
