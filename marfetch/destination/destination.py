"""Place files and unpacked archives in a directory of the user."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from ..artifact.filename import is_git, same_name
from ..chart.expected import Unpacking
from ..content import Verified
from ..errors import IntegrityError, PolicyError, StorageError
from ..files import BY_DESCRIPTOR, Writer, free_space, make_directories, storage_error
from ..oci import Descriptor
from .created import CreatedDirectories, CreatedDirectory, Unknown, foreign_file, nothing_known
from .directory import Directory, has_link, remove_parts
from .placing import Placing

_CHUNK: Final = 1 << 20


class OutputState(Enum):
    """What exists at the final name of an output before it is written."""

    ABSENT = "absent"
    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"
    """A directory exists, but the archive to compare it with is not cached or cannot be unpacked."""


class OutputFile(NamedTuple):
    """A file or directory to write.

    Attributes:
        name: a safe relative path with `/`.
        owner: the reference of the artifact that it belongs to, for messages.
        unpacking: how to unpack it into a directory; None for a file.
    """

    name: str
    descriptor: Descriptor
    owner: str
    unpacking: Unpacking | None = None


class Destination:
    """A directory of the user.

    Args:
        root: the directory; created with its parents when the first file is placed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._records = CreatedDirectories()
        self._same: dict[str, dict[str, str]] = {}
        self._swept: set[Path] = set()
        self._opened: Directory | None = None
        self._is_checked = False
        self._guard = threading.Lock()

    def path(self, name: str) -> Path:
        """Return the path of a file, for messages."""
        return self.root / Path(*name.split("/"))

    def clashes(self, wishes: Sequence[OutputFile]) -> dict[str, StorageError]:
        """Return the clashes between outputs in this destination; see `find_clashes`."""
        return find_clashes([(self, wish) for wish in wishes])

    def check(self, name: str) -> None:
        """Refuse a name inside `.git`.

        Raises:
            PolicyError: `path-refused`.
        """
        self._refuse_git(name)

    def takes(self, name: str, path: Path) -> bool:
        """Return whether writing this name would replace the path or one of its parents, on any file system."""
        own = [*Path(os.path.abspath(self.root)).parts, *name.split("/")]  # noqa: PTH100 - `resolve` would follow links
        other = Path(os.path.abspath(path)).parts  # noqa: PTH100
        return [same_name(part) for part in own] == [same_name(part) for part in other[: len(own)]]

    def state(self, wish: OutputFile, open_blob: Callable[[], BinaryIO] | None = None) -> OutputState:
        """Return what exists at the final name of an output.

        Args:
            open_blob: opens the archive that a directory is compared with; None if the archive is not downloaded yet.

        Raises:
            StorageError: the existing file cannot be read.
            IntegrityError, PolicyError: the archive cannot be unpacked.
        """
        if wish.unpacking is not None:
            return self._state_of_directory(wish, wish.unpacking, open_blob)
        try:
            with self._directory(wish.name, make=False) as (directory, name):
                status = directory.stat(name)
                if stat.S_ISDIR(status.st_mode):  # `force` never replaces a directory with a file
                    raise StorageError(
                        f"cannot write the file `{self.path(wish.name)}`: a directory has this name",
                        code="file-unusable",
                        hint="move it away, or use another destination",
                        path=str(self.path(wish.name)),
                    )
                if not stat.S_ISREG(status.st_mode) or status.st_size != wish.descriptor.size:
                    return OutputState.DIFFERENT
                verified = Verified(wish.descriptor)
                with directory.open(name, os.O_RDONLY, "rb") as file:
                    while chunk := file.read(_CHUNK):
                        verified.update(chunk)
                verified.check()
        except FileNotFoundError:
            return OutputState.ABSENT
        except IntegrityError:
            return OutputState.DIFFERENT
        except OSError as error:
            raise storage_error(error, self.path(wish.name)) from error
        return OutputState.SAME

    def _state_of_directory(self, wish: OutputFile, unpacking: Unpacking, open_blob: Callable[[], BinaryIO] | None) -> OutputState:
        try:
            with self._directory(wish.name, make=False) as (directory, name):
                if not stat.S_ISDIR(directory.stat(name).st_mode):
                    return OutputState.DIFFERENT
                if open_blob is None:
                    return OutputState.UNKNOWN
                from .archive import Archive, with_top  # late: needed only to unpack archives
                from .unpack import holds  # late: needed only to unpack archives

                with closing(directory.enter(name)) as top, open_blob() as blob:
                    archive = Archive(blob, wish.descriptor, with_top(blob, wish.descriptor, unpacking))
                    if not holds(archive, top):
                        return OutputState.DIFFERENT
                    self._same[wish.name] = archive.files
                    return OutputState.SAME
        except FileNotFoundError:
            return OutputState.ABSENT
        except OSError as error:
            raise storage_error(error, self.path(wish.name)) from error

    def put(
        self,
        wish: OutputFile,
        open_blob: Callable[[], BinaryIO],
        *,
        force: bool = False,
        check: Callable[[], None] = lambda: None,
        unknown: Unknown = nothing_known,
    ) -> Path:
        """Write the content of a blob to its final name.

        Args:
            open_blob: opens the blob; its bytes are verified here.
            force: replace existing files and unpacked directories, but never the user's own directories.
            check: called regularly while an archive is unpacked; it may raise to cancel.
            unknown: returns which of the given file digests belong to no known version of the artifact. It decides whether a directory
                that marfetch did not create may be replaced.

        Returns:
            The path of the output, for messages.

        Raises:
            IntegrityError: the blob does not match its descriptor, or the archive is malformed; nothing was changed.
            PolicyError: the archive is refused; nothing was changed.
            StorageError: the output cannot be written, or another process created a different one; `directory-foreign`.
        """
        if wish.unpacking is not None:
            self._unpack(wish, wish.unpacking, open_blob, force=force, check=check, unknown=unknown)
            return self.path(wish.name)
        with self.begin(wish) as placing:
            placing.fill(open_blob)
            placing.publish(force=force)
        return self.path(wish.name)

    def refuse_foreign(self, wish: OutputFile, unknown: Unknown) -> None:
        """Refuse to replace a directory that marfetch did not create, unless every file in it is known.

        Raises:
            StorageError: `directory-foreign`; the directory cannot be read.
        """
        try:
            with suppress(FileNotFoundError), self._directory(wish.name, make=False) as (directory, name):
                self._refuse_foreign(directory, name, wish, unknown)
        except OSError as error:
            raise storage_error(error, self.path(wish.name)) from error

    def _refuse_foreign(self, directory: Directory, name: str, wish: OutputFile, unknown: Unknown) -> None:
        if not stat.S_ISDIR(directory.stat(name).st_mode):
            return
        with closing(directory.enter(name)) as top:
            found = foreign_file(top, self._records.get(self._absolute(wish)), unknown)
        if found is not None:
            path = self.path(wish.name)
            raise StorageError(
                f"marfetch did not create the directory `{path}`, and its file `{found}` does not belong to `{wish.owner}`",
                code="directory-foreign",
                path=str(path),
                file=found,
            )

    def _absolute(self, wish: OutputFile) -> Path:
        return Path(os.path.realpath(self.root), *wish.name.split("/"))

    def _unpack(
        self,
        wish: OutputFile,
        unpacking: Unpacking,
        open_blob: Callable[[], BinaryIO],
        *,
        force: bool,
        check: Callable[[], None],
        unknown: Unknown,
    ) -> None:
        """Unpack into a temporary directory, and rename it when its content is complete and verified."""
        from .archive import Archive, with_top  # late: needed only to unpack archives
        from .unpack import changed, unpack  # late: needed only to unpack archives

        path = self.path(wish.name)
        try:
            with self._directory(wish.name, make=True) as (directory, name):
                self._sweep(directory)
                part, top = directory.make_part_directory()
                try:
                    with closing(top):
                        with open_blob() as blob:
                            archive = Archive(blob, wish.descriptor, with_top(blob, wish.descriptor, unpacking, check))
                            try:
                                unpack(archive, top, check)
                            except OSError as error:
                                is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                                raise storage_error(error, path, needed=archive.measure() if is_full else None) from error
                        if not directory.is_at(part, top):
                            raise changed(top)
                        number = top.identity[1]
                        if force:
                            with suppress(FileNotFoundError):
                                self._refuse_foreign(directory, name, wish, unknown)
                        directory.publish_directory(part, name, replace=force)
                        self._records.put(self._absolute(wish), CreatedDirectory(number, archive.files))
                finally:
                    directory.remove(part)
        except FileExistsError as error:
            if self.state(wish, open_blob) is not OutputState.SAME:
                raise StorageError(f"another process created `{path}` in the meantime", code="file-differs", path=str(path)) from error
        except OSError as error:
            raise storage_error(error, path) from error

    @contextmanager
    def begin(self, wish: OutputFile) -> Iterator[Placing]:
        """Create a temporary file next to an output's final name. It is deleted at the end of the context, unless it was published.

        Raises:
            StorageError: the file cannot be written.
        """
        path = self.path(wish.name)
        try:
            with self._directory(wish.name, make=True) as (directory, name):
                self._sweep(directory)
                part, file = directory.make_part()
                try:
                    with file:
                        placing = Placing(
                            wish.descriptor,
                            path,
                            file,
                            lambda force: directory.publish(part, name, replace=force),
                            lambda: self.state(wish) is OutputState.SAME,
                        )
                        try:
                            yield placing
                        finally:
                            placing.end()
                finally:
                    directory.unlink_part(part)
        except OSError as error:
            raise storage_error(error, path, needed=wish.descriptor.size) from error

    def tidy(self, wish: OutputFile) -> None:
        """Delete the leftovers of killed runs next to an up-to-date output."""
        with suppress(OSError, StorageError), self._directory(wish.name, make=False) as (directory, name):
            self._sweep(directory)
            files = self._same.get(wish.name)
            if files is not None:
                self._note(self._absolute(wish), directory.stat(name).st_ino, files)

    def _note(self, path: Path, number: int, files: dict[str, str]) -> None:
        """Record a directory that is up to date, if a killed run left its record missing or outdated."""
        old = self._records.get(path)
        new = CreatedDirectory(number if old is not None and old.number == number else None, files)
        if old != new:
            self._records.put(path, new)

    def _sweep(self, directory: Directory) -> None:
        """Delete the leftovers of killed runs, once per directory."""
        with self._guard:
            if directory.path in self._swept:
                return
            self._swept.add(directory.path)
        directory.sweep()

    @contextmanager
    def _directory(self, name: str, *, make: bool) -> Iterator[tuple[Directory, str]]:
        """Return the open parent directory of a name, and the last part of the name."""
        self._refuse_git(name)
        *parents, last = name.split("/")
        directory = self._open_root(make=make)
        try:
            for parent in parents:
                if make:
                    directory.mkdir(parent)
                below = directory.enter(parent)
                directory.close()
                directory = below
            yield directory, last
        finally:
            directory.close()

    def _refuse_git(self, name: str) -> None:
        """Refuse a name inside `.git`. Once the destination is open, only the name matters: links below it are not followed."""
        parts = name.split("/")
        if any(map(is_git, parts)):
            refuse_git(self.path(name))
        if self._opened is not None:
            return
        if not self._is_checked:  # resolving links takes a system call for each directory above
            refuse_git(self.root)
            self._is_checked = True
        if has_link(self.root, parts):
            refuse_git(self.path(name))

    def _open_root(self, *, make: bool) -> Directory:
        """Return a handle on the destination. It is opened only once, so that all files go to the same directory."""
        with self._guard:
            if self._opened is None:
                if make:
                    make_directories(self.root)
                if self.root.is_symlink():
                    raise StorageError(
                        f"the destination `{self.root}` is a symbolic link",
                        code="file-unusable",
                        hint=f"use the target of the link: `{self.root.resolve()}`",
                        path=str(self.root),
                    )
                self._opened = Directory.open_root(self.root)
            return self._opened.again()

    def close(self) -> None:
        """Close the destination."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        remove_parts(self._swept)

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_clashes(wishes: Sequence[tuple[Destination, OutputFile]]) -> dict[str, StorageError]:
    """Find outputs with different content whose names clash on any file system.

    Args:
        wishes: outputs with their destinations, which may be nested.

    Returns:
        Owner of an output that clashes → the error; empty if there are no clashes.
    """
    found: dict[str, StorageError] = {}
    files: dict[str, OutputFile] = {}
    directories: dict[str, OutputFile] = {}
    for destination, wish in wishes:
        root = Path(os.path.abspath(destination.root))  # noqa: PTH100 - `resolve` would follow links
        parts = [*root.parts, *wish.name.split("/")]
        *above, own = [same_name("/".join(parts[: depth + 1])) for depth in range(len(parts))]
        # An output also clashes if one of its parent directories is another output's file.
        other = files.get(own) or directories.get(own) or next((files[key] for key in above if key in files), None)
        if other is None:
            files[own] = wish
            directories.update(dict.fromkeys(above, wish))
        elif not _is_one(other, wish):
            error = StorageError(
                f"`{wish.name}` of `{wish.owner}` and `{other.name}` of `{other.owner}` have the same name",
                code="name-clash",
                path=str(destination.path(wish.name)),
            )
            found.setdefault(other.owner, error)
            found.setdefault(wish.owner, error)
    return found


def _is_one(one: OutputFile, other: OutputFile) -> bool:
    """Return whether two outputs with the same name also have the same content."""
    return (one.descriptor.digest, one.name, one.unpacking is None) == (other.descriptor.digest, other.name, other.unpacking is None)


# -- atomic writes to a path from the user


@contextmanager
def whole_file(path: Path, *, size: int) -> Iterator[BinaryIO]:
    """Open a file that atomically replaces the path if the body succeeds; otherwise an existing file stays untouched.

    Args:
        size: the expected size in bytes, to report a full disk early.

    Raises:
        PolicyError: `path-refused`: the path is inside `.git`.
        StorageError: the file cannot be written; `file-unusable`: the path is a directory, a device or a pipe.
    """
    refuse_git(path)
    try:
        make_directories(path.parent)
        _refuse_others(path)
        with closing(Directory.open_root(path.parent.resolve())) as directory:
            directory.sweep()
            _check_room(path, size)
            part, file = directory.make_part()
            try:
                with file:
                    yield file
                    os.fsync(file.fileno())
                    if not BY_DESCRIPTOR:
                        file.close()
                    directory.publish(part, path.name, replace=True)
                    directory.sync()
            finally:
                directory.unlink(part)
    except OSError as error:
        raise storage_error(error, path, needed=size) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a small file of the user atomically, and flush it to disk.

    Raises:
        StorageError: the file cannot be written.
    """
    with whole_file(path, size=len(data)) as file:
        Writer(file).write(data)


def _refuse_others(path: Path) -> None:
    """Refuse to replace anything but a regular file. Replacing a device such as `/dev/null` would break other programs."""
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise StorageError(f"`{path}` is {what}", code="file-unusable", hint="use the name of a file", path=str(path))


def _check_room(path: Path, size: int) -> None:
    free: int | None = None
    with suppress(OSError):
        free = free_space(path.parent)
    if free is not None and size > free:
        raise StorageError(
            f"the disk is full: {size} bytes are needed and {free} are free, at `{path}`",
            code="disk-full",
            hint="free disk space, or use another path",
            path=str(path),
            needed=size,
            free=free,
        )


def refuse_git(path: Path) -> None:
    """Refuse a path inside `.git`, as written or after resolving links.

    Raises:
        PolicyError: `path-refused`.
    """
    if not any(map(is_git, path.parts)):
        resolved = path
        with suppress(OSError):  # the current directory was deleted; opening the path reports the error
            # Use UTF-8 in every locale, as in `Directory`.
            resolved = Path(os.path.realpath(str(path).encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape"))
        if not any(map(is_git, resolved.parts)):
            return
        where = f"`{path}` leads to `{resolved}`, which is inside `.git`"
    else:
        where = f"`{path}` is inside `.git`"
    raise PolicyError(
        f"refused to write: {where}",
        code="path-refused",
        path=str(path),
        rule="no path component may be `.git`, in any spelling that a file system treats the same",
    )
