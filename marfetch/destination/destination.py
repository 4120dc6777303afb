"""A directory of the user's, and the files that get their names in it."""

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

from ..artifact.chart import Unpacking
from ..artifact.filename import is_git, same_name
from ..content import Verified
from ..errors import IntegrityError, PolicyError, StorageError
from ..files import Writer, make_directories, storage_error
from ..oci import Descriptor
from .archive import Archive, with_top
from .created import CreatedDirectories, CreatedDirectory, Unknown, foreign_file, nothing_known
from .directory import Directory, remove_parts
from .placing import Placing
from .unpack import changed, holds, unpack

_CHUNK: Final = 1 << 20


class OutputState(Enum):
    """What is at a final name already."""

    ABSENT = "absent"
    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"
    """A directory that can only be compared when the archive is there."""


class OutputFile(NamedTuple):
    """One file or directory that is to be there.

    Attributes:
        name: a safe relative path with `/`.
        owner: the reference that it belongs to, for messages.
        unpacking: how it becomes a directory; None: it is a file.
    """

    name: str
    descriptor: Descriptor
    owner: str
    unpacking: Unpacking | None = None


class Destination:
    """A directory of the user's.

    Args:
        root: made, with its parents, when the first file is placed.
        records: of the directories that marfetch created; None: those of this user.
    """

    def __init__(self, root: Path, records: CreatedDirectories | None = None) -> None:
        self.root = root
        self._records = records or CreatedDirectories()
        self._same: dict[str, dict[str, str]] = {}
        self._swept: set[Path] = set()
        self._opened: Directory | None = None
        self._guard = threading.Lock()

    def path(self, name: str) -> Path:
        """The path of a file, as it is shown."""
        return self.root / Path(*name.split("/"))

    def clashes(self, wishes: Sequence[OutputFile]) -> dict[str, StorageError]:
        """As `find_clashes`, for wishes of this destination."""
        return find_clashes([(self, wish) for wish in wishes])

    def check(self, name: str) -> None:
        """Refuse a name that leads into `.git`.

        Raises:
            PolicyError: `path-refused`.
        """
        refuse_git(self.path(name))

    def takes(self, name: str, path: Path) -> bool:
        """Whether something of this name here would stand in the place of a path, or of a directory above it, on any file system."""
        own = [*Path(os.path.abspath(self.root)).parts, *name.split("/")]  # noqa: PTH100 - links stay, they are refused later
        other = Path(os.path.abspath(path)).parts  # noqa: PTH100
        return [same_name(part) for part in own] == [same_name(part) for part in other[: len(own)]]

    def state(self, wish: OutputFile, open_blob: Callable[[], BinaryIO] | None = None) -> OutputState:
        """What is at the final name of a wish.

        Args:
            open_blob: opens the archive that a directory is compared with; None: it is not there yet.

        Raises:
            StorageError: it cannot be looked at.
            IntegrityError, PolicyError: the archive cannot be unpacked.
        """
        if wish.unpacking is not None:
            return self._state_of_directory(wish, wish.unpacking, open_blob)
        try:
            with self._directory(wish.name, make=False) as (directory, name):
                status = directory.stat(name)
                if stat.S_ISDIR(status.st_mode):  # not even `force` replaces one
                    raise StorageError(
                        f"`{self.path(wish.name)}` is a directory, and a file is to be put there",
                        code="file-unusable",
                        hint="move it away, or take another destination",
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
        """Give the content of a blob its final name.

        Args:
            open_blob: opens the blob; its bytes are hashed here, whoever gives them.
            force: replace what is there, but no directory of the user's.
            check: called now and then while an archive is unpacked; it may raise to give up.
            unknown: tells which files of a directory that marfetch did not create are the user's own.

        Returns:
            The path, as it is shown.

        Raises:
            IntegrityError: the blob is not what its descriptor says, or no archive as its format says; nothing has changed.
            PolicyError: the archive is not unpacked; nothing has changed.
            StorageError: it cannot be written, or something else has that name by now; `directory-foreign`.
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
            StorageError: `directory-foreign`; it cannot be looked at.
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
                f"`{path}` is a directory that marfetch did not create, and `{found}` in it is not of `{wish.owner}`",
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
        """Unpack beside the final name, and rename when everything is there and right."""
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
                raise StorageError(f"something else is at `{path}` by now", code="file-differs", path=str(path)) from error
        except OSError as error:
            raise storage_error(error, path) from error

    @contextmanager
    def begin(self, wish: OutputFile) -> Iterator[Placing]:
        """Make a part beside the final name of a wish; it is gone at the end, whether it was published or not.

        Raises:
            StorageError: it cannot be written.
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
                    directory.unlink(part)
        except OSError as error:
            raise storage_error(error, path, needed=wish.descriptor.size) from error

    def tidy(self, wish: OutputFile) -> None:
        """Take away what killed runs have left beside the final name of a wish that is as it should be."""
        with suppress(OSError, StorageError), self._directory(wish.name, make=False) as (directory, name):
            self._sweep(directory)
            files = self._same.get(wish.name)
            if files is not None:
                self._note(self._absolute(wish), directory.stat(name).st_ino, files)

    def _note(self, path: Path, number: int, files: dict[str, str]) -> None:
        """Record a directory that is as it should be, where its record is missing or, after a killed run, that of an older one."""
        old = self._records.get(path)
        new = CreatedDirectory(number if old is not None and old.number == number else None, files)
        if old != new:
            self._records.put(path, new)

    def _sweep(self, directory: Directory) -> None:
        """Once for each directory, take away what killed runs have left."""
        with self._guard:
            if directory.path in self._swept:
                return
            self._swept.add(directory.path)
        directory.sweep()

    @contextmanager
    def _directory(self, name: str, *, make: bool) -> Iterator[tuple[Directory, str]]:
        """The directory that holds the last part of a name, and that part."""
        refuse_git(self.path(name))
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

    def _open_root(self, *, make: bool) -> Directory:
        """The destination itself: opened once, so that it is one and the same for all files."""
        with self._guard:
            if self._opened is None:
                if make:
                    make_directories(self.root)
                if self.root.is_symlink():
                    raise StorageError(
                        f"the destination `{self.root}` is a symbolic link",
                        code="file-unusable",
                        hint=f"give the directory that it leads to: `{self.root.resolve()}`",
                        path=str(self.root),
                    )
                self._opened = Directory.open_root(self.root)
            return self._opened.again()

    def close(self) -> None:
        """Let the destination go."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        remove_parts(self._swept)

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_clashes(wishes: Sequence[tuple[Destination, OutputFile]]) -> dict[str, StorageError]:
    """Names that two wishes want for different content, also where only some file system takes them for one.

    Args:
        wishes: with their destinations, which may lie in one another.

    Returns:
        Owner → what to tell it; empty where all names go side by side.
    """
    found: dict[str, StorageError] = {}
    files: dict[str, OutputFile] = {}
    directories: dict[str, OutputFile] = {}
    for destination, wish in wishes:
        root = Path(os.path.abspath(destination.root))  # noqa: PTH100 - links stay, they are refused later
        parts = [*root.parts, *wish.name.split("/")]
        *above, own = [same_name("/".join(parts[: depth + 1])) for depth in range(len(parts))]
        # A directory of one wish may be a file of another.
        other = files.get(own) or directories.get(own) or next((files[key] for key in above if key in files), None)
        if other is None:
            files[own] = wish
            directories.update(dict.fromkeys(above, wish))
        elif not _is_one(other, wish):
            error = StorageError(
                f"`{wish.name}` of `{wish.owner}` and `{other.name}` of `{other.owner}` are one name",
                code="name-clash",
                path=str(destination.path(wish.name)),
            )
            found.setdefault(other.owner, error)
            found.setdefault(wish.owner, error)
    return found


def _is_one(one: OutputFile, other: OutputFile) -> bool:
    """Whether two wishes for one name are the same thing."""
    return (one.descriptor.digest, one.name, one.unpacking is None) == (other.descriptor.digest, other.name, other.unpacking is None)


# -- one file under a name that the user gave, written whole or not at all


@contextmanager
def whole_file(path: Path, *, size: int) -> Iterator[BinaryIO]:
    """A file that gets its name when the body has ended well; what had the name before is replaced then, and untouched otherwise.

    Args:
        size: bytes that are going to be written, so that a disk that is too small is told at once.

    Raises:
        PolicyError: `path-refused`: it leads into `.git`.
        StorageError: it cannot be written; `file-unusable`: a directory, a device or a pipe has the name.
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
                    directory.publish(part, path.name, replace=True)
                    directory.sync()
            finally:
                directory.unlink(part)
    except OSError as error:
        raise storage_error(error, path, needed=size) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a small file of the user's, whole or not at all, and force it to the disk.

    Raises:
        StorageError: it cannot be written.
    """
    with whole_file(path, size=len(data)) as file:
        Writer(file).write(data)


def _refuse_others(path: Path) -> None:
    """The end of whoever names something that is no file: a device that was replaced by a file is none any more, for nobody."""
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise StorageError(f"`{path}` is {what}", code="file-unusable", hint="give the name of a file", path=str(path))


def _check_room(path: Path, size: int) -> None:
    free: int | None = None
    with suppress(OSError, AttributeError):
        status = os.statvfs(path.parent)
        free = status.f_bavail * status.f_frsize
    if free is not None and size > free:
        raise StorageError(
            f"the disk is full: it needs {size} bytes and has {free}, at `{path}`",
            code="disk-full",
            hint="make room there, or choose another place for it",
            path=str(path),
            needed=size,
            free=free,
        )


def refuse_git(path: Path) -> None:
    """Refuse a path that leads into `.git`, as it is written or after links are resolved.

    Raises:
        PolicyError: `path-refused`.
    """
    if not any(map(is_git, path.parts)):
        resolved = path
        with suppress(OSError):  # the current directory is gone; opening the path says so
            # UTF-8 whatever the locale is, as `Directory` opens it.
            resolved = Path(os.path.realpath(str(path).encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape"))
        if not any(map(is_git, resolved.parts)):
            return
        where = f"`{path}` leads to `{resolved}`, which is inside `.git`"
    else:
        where = f"`{path}` is inside `.git`"
    raise PolicyError(
        f"nothing is written there: {where}", code="path-refused", path=str(path), rule="no part of a path is `.git` for any file system"
    )
