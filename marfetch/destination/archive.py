"""Archives member by member, read as a stream: each name is safe on every operating system, and nothing passes a limit.

The headers are read by `tar`, which takes files and directories and refuses everything else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from types import TracebackType
from typing import BinaryIO, NamedTuple, NoReturn, Self

from ..artifact.chart import CHART_FILE, Unpacking
from ..artifact.filename import safe_title, same_name
from ..document import MAX_YAML_SIZE
from ..errors import Error, IntegrityError, PolicyError
from ..oci import Descriptor
from ..tar import BLOCK, Fault, TarLimits, TarMember, TarReader, plain_name
from . import packed
from .packed import PIECE, Packed

# -- what an archive holds, as a tree of names: each one can stand beside the others on every operating system


class TreeNode:
    """A file or a directory.

    Attributes:
        below: of a directory, what is in it, by what some file system takes for the same name.
        is_stated: whether the archive has a member for it; a directory may only stand in the paths of others.
        identity: of a directory that was made: device and number, so that another one in its place is noticed.
    """

    __slots__ = ("below", "identity", "is_stated", "name")

    def __init__(self, name: str, *, is_directory: bool) -> None:
        self.name = name
        self.below: dict[str, TreeNode] | None = {} if is_directory else None
        self.is_stated = False
        self.identity: tuple[int, int] | None = None

    def names(self) -> set[str]:
        """The names in a directory."""
        return {node.name for node in (self.below or {}).values()}

    def directories(self) -> list[TreeNode]:
        """The directories in a directory."""
        return [node for node in (self.below or {}).values() if node.below is not None]


class Tree:
    """All names of an archive.

    Args:
        refuse: called with the rule that a name breaks; it raises.
        too_much: called with what is too much, and the limit; it raises.
    """

    def __init__(self, refuse: Callable[[str], NoReturn], too_much: Callable[[str, str], NoReturn]) -> None:
        self.top = TreeNode("", is_directory=True)
        self._refuse = refuse
        self._too_much = too_much
        self._count = 0

    def add(self, parts: Sequence[str], *, is_directory: bool) -> tuple[TreeNode, ...]:
        """Take a member in: the way to it, from below the top to the member itself.

        Args:
            parts: of its path, each one safe by itself; none for the top, which is no news.

        Raises:
            PolicyError: `member-refused`, `limit-passed`.
        """
        if len(parts) > packed.MAX_DEPTH:
            self._too_much(f"one of its members has a path of {len(parts)} parts", f"{packed.MAX_DEPTH}")
        way: list[TreeNode] = []
        node = self.top
        for depth, part in enumerate(parts, start=1):
            node = self._step(node, part, is_directory=is_directory or depth < len(parts))
            way.append(node)
        if way:
            if node.is_stated:
                self._refuse("it stands there twice")
            if not is_directory and node.below is not None:
                self._refuse("it is a file, where others need a directory")
            node.is_stated = True
        return tuple(way)

    def _step(self, above: TreeNode, part: str, *, is_directory: bool) -> TreeNode:
        if above.below is None:
            self._refuse(f"it needs the directory `{above.name}`, which is a file")
        key = same_name(part)
        node = above.below.get(key)
        if node is None:
            self._count += 1
            if self._count > packed.MAX_MEMBERS:
                self._too_much("it has too many files and directories", f"{packed.MAX_MEMBERS}")
            node = above.below[key] = TreeNode(part, is_directory=is_directory)
        elif node.name != part:
            self._refuse(f"some file systems take it for the same as `{node.name}`")
        return node


class Member(NamedTuple):
    """A file or directory of an archive.

    Attributes:
        way: from below the top to the member itself.
        size: bytes of a file, ≥ 0.
        is_executable: whether its owner may execute it; no other right of an archive counts.
    """

    way: tuple[TreeNode, ...]
    size: int
    is_directory: bool
    is_executable: bool


class Archive:
    """An archive that is read once, from its beginning to its end; iterate it, and take the bytes of each member by `pieces`.

    Args:
        blob: its bytes. They are hashed on the way: where they are not those of the descriptor, that is the failure, whatever
            else they led to.
        is_checked: hash them; otherwise the caller does.

    Attributes:
        files: the sha256 of each file that was read so far, in hex, by its path.
    """

    def __init__(self, blob: BinaryIO, descriptor: Descriptor, unpacking: Unpacking, *, is_checked: bool = True) -> None:
        self._bytes = Packed(blob, descriptor, unpacking, is_checked=is_checked)
        self._name = unpacking.archive
        self._chart = unpacking.chart
        self._top = unpacking.top.split("/") if unpacking.top is not None else []
        self.files: dict[str, str] = {}
        self._path = ""
        self._shown = ""
        self._rest = 0
        self._kept: bytearray | None = None
        self._chart_file: bytes | None = None
        self.tree = Tree(self._refuse, self._bytes.too_much)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, (IntegrityError, PolicyError)):
            self._bytes.finish()

    def __iter__(self) -> Iterator[Member]:
        """The members in their order; after the last one everything has been compared, the digest and the chart too.

        Raises:
            IntegrityError: `malformed`, `size-mismatch`, `digest-mismatch`.
            PolicyError: `member-refused`, `chart-refused`, `limit-passed`.
        """
        limits = TarLimits(packed.MAX_PATH, packed.MAX_HEADER, packed.MAX_MEMBERS, sys.maxsize)
        for header in TarReader(lambda _, size: self._bytes.exactly(size), self._fail, limits):
            member = self._member(header)
            self._rest = header.size
            self._path = "/".join(node.name for node in member.way) if member is not None and not member.is_directory else ""
            if member is not None:
                yield member
            for _ in self.pieces():  # what was not taken
                pass
            padding = -header.size % BLOCK
            if len(self._bytes.exactly(padding)) < padding:
                self._cut()
        self._bytes.finish()
        if self._chart is not None:
            if self._chart_file is None:
                top = self._top[0] if self._top else self._chart.name
                self._bytes.malformed(f"it has no `{top}/{CHART_FILE}`, so it is no chart")
            self._chart.check(self._chart_file, self._name)

    def measure(self) -> int | None:
        """How many bytes all of it becomes, where it was given up; None where that cannot be told."""
        with suppress(OSError, Error):
            return self._bytes.measure()
        return None

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the member that was given last."""
        path, self._path = self._path, ""
        hasher = sha256()
        while self._rest:
            piece = self._bytes.some(min(self._rest, PIECE))
            if not piece:
                self._cut()
            self._rest -= len(piece)
            if self._kept is not None:
                self._kept += piece
            if path:
                hasher.update(piece)
            yield piece
        if path:
            self.files[path] = hasher.hexdigest()
        if self._kept is not None:
            self._chart_file, self._kept = bytes(self._kept), None

    def finish(self) -> None:
        """Hash the rest.

        Raises:
            IntegrityError: `size-mismatch`, `digest-mismatch`.
        """
        self._bytes.finish()

    # -- failures

    def _refuse(self, rule: str) -> NoReturn:
        raise PolicyError(
            f"the archive `{self._name}` is not unpacked, for its member `{self._shown[:300]}`: {rule}",
            code="member-refused",
            archive=self._name,
            member=self._shown[:1000],
            rule=rule,
        )

    def _cut(self) -> NoReturn:
        self._bytes.malformed(f"it ends in the middle of `{self._shown[:300]}`")

    def _fail(self, fault: Fault, reason: str, member: str, limit: int = 0) -> NoReturn:
        self._shown = member
        if fault is Fault.BROKEN:
            self._bytes.malformed(reason)
        if fault is Fault.LIMIT:
            self._bytes.too_much(reason, str(limit))
        self._refuse(reason)

    # -- members

    def _member(self, header: TarMember) -> Member | None:
        """What a header means; None for the top of the tree itself."""
        self._shown = header.name
        most = packed.MAX_FILE if self._chart is None else packed.MAX_CHART_FILE
        if header.size > most:
            self._bytes.too_much(f"its member `{self._shown[:300]}` has {header.size} bytes", f"{most}")
        is_directory = header.is_directory
        parts = self._parts(header.name, is_directory=is_directory)
        if self._chart is not None and not self._top and (len(parts) > 1 or (parts and is_directory)):
            self._top = parts[:1]  # the directory of a chart may have any name, as for Helm
        if self._top or self._chart is not None:
            parts = self._inside(parts, is_directory=is_directory)
        if self._chart is not None and parts == [CHART_FILE]:
            if header.size > MAX_YAML_SIZE:
                self._bytes.too_much(f"its `{CHART_FILE}` has {header.size} bytes", f"{MAX_YAML_SIZE}")
            self._kept = bytearray()
        way = self.tree.add(parts, is_directory=is_directory)
        # Helm gives a chart's files no right to be executed either.
        is_executable = header.is_executable and self._chart is None
        return Member(way, header.size, is_directory, is_executable) if way else None

    def _parts(self, name: str, *, is_directory: bool) -> list[str]:
        """The parts of a member's path, each safe on every operating system; none for the top itself."""
        if self._chart is not None and "/" not in name:
            name = name.replace("\\", "/")  # `helm package` on Windows wrote such names, and Helm reads them so
        plain = plain_name(name, is_directory=is_directory)
        if is_directory and plain == ".":
            return []
        parts = plain.split("/")
        for part in parts:
            try:
                safe_title(part)
            except PolicyError as error:
                self._refuse(str(error.context["rule"]))
        return parts

    def _inside(self, parts: list[str], *, is_directory: bool) -> list[str]:
        """A path without the one directory that everything is in; the directories above that are there for nothing else."""
        depth = len(self._top)
        if is_directory and parts == self._top[: len(parts)]:
            return []
        if depth == 0 or parts[:depth] != self._top or len(parts) == depth:
            top = "/".join(self._top) or (self._chart.name if self._chart else "")
            of_chart = "the archive of a chart holds one directory and nothing beside it"
            raise PolicyError(
                f"the archive `{self._name}` is not unpacked: `{self._shown[:300]}` is not in the directory `{top}`"
                + (" of the chart" if self._chart else ""),
                code="chart-refused" if self._chart else "member-refused",
                archive=self._name,
                member=self._shown[:1000],
                rule=of_chart if self._chart else f"it holds one directory, `{top}`",
            )
        return parts[depth:]


def with_top(blob: BinaryIO, descriptor: Descriptor, unpacking: Unpacking, check: Callable[[], None] = lambda: None) -> Unpacking:
    """Find the one directory that everything in an archive is in, where that is to be left out; the blob is at its beginning afterwards.

    Args:
        check: called now and then; it may raise to give up.

    Raises:
        OSError: it cannot be read.
    """
    if not unpacking.is_stripped:
        return unpacking
    top: str | None = None
    with suppress(IntegrityError, PolicyError):  # of the archive: the one who unpacks it says so
        for member in Archive(blob, descriptor, unpacking):
            check()
            name = member.way[0].name
            if (len(member.way) == 1 and not member.is_directory) or top not in (None, name):
                top = None
                break
            top = name
    blob.seek(0)
    return unpacking._replace(top=top, is_stripped=False)
