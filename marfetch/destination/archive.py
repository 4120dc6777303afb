"""Read tar archives as a stream, member by member. Refuse names that are unsafe on any operating system, and limit all sizes.

The module `tar` parses the headers. It accepts only files and directories.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from types import TracebackType
from typing import BinaryIO, NamedTuple, NoReturn, Self

from ..artifact.filename import safe_title, same_name
from ..chart.expected import CHART_FILE, Unpacking
from ..document import MAX_YAML_SIZE
from ..errors import Error, IntegrityError, PolicyError
from ..oci import Descriptor
from ..tar import BLOCK, Fault, TarLimits, TarMember, TarReader, plain_name
from . import packed
from .packed import PIECE, Packed

# -- the tree of names in an archive: no two names clash on any operating system


class TreeNode:
    """A file or directory in the tree.

    Attributes:
        below: key → child of a directory; names that clash on some file system have the same key. None for a file.
        is_stated: whether the archive has a member for this node. A directory may occur only in the paths of other members.
        identity: device and inode of the created directory, to detect that another process replaced it.
    """

    __slots__ = ("below", "identity", "is_stated", "name")

    def __init__(self, name: str, *, is_directory: bool) -> None:
        self.name = name
        self.below: dict[str, TreeNode] | None = {} if is_directory else None
        self.is_stated = False
        self.identity: tuple[int, int] | None = None

    def directories(self) -> list[TreeNode]:
        """The child directories."""
        return [node for node in (self.below or {}).values() if node.below is not None]


class Tree:
    """The tree of names in an archive.

    Args:
        refuse: called with the rule that a name breaks; it must raise an error.
        too_much: called with what exceeds a limit, and the limit; it must raise an error.
    """

    def __init__(self, refuse: Callable[[str], NoReturn], too_much: Callable[[str, str], NoReturn]) -> None:
        self.top = TreeNode("", is_directory=True)
        self._refuse = refuse
        self._too_much = too_much
        self._count = 0

    def add(self, parts: Sequence[str], *, is_directory: bool) -> tuple[TreeNode, ...]:
        """Add a member, and return the nodes on its path, without the top node.

        Args:
            parts: the parts of the member's path, each a safe name; empty for the top directory.

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
                self._refuse("it appears twice")
            if not is_directory and node.below is not None:
                self._refuse("it is a file, but other members need a directory of this name")
            node.is_stated = True
        return tuple(way)

    def _step(self, above: TreeNode, part: str, *, is_directory: bool) -> TreeNode:
        if above.below is None:
            self._refuse(f"its parent directory `{above.name}` is a file")
        key = same_name(part)
        node = above.below.get(key)
        if node is None:
            self._count += 1
            if self._count > packed.MAX_MEMBERS:
                self._too_much("it has too many files and directories", f"{packed.MAX_MEMBERS}")
            node = above.below[key] = TreeNode(part, is_directory=is_directory)
        elif node.name != part:
            self._refuse(f"some file systems treat it the same as `{node.name}`")
        return node


class Member(NamedTuple):
    """A file or directory of an archive.

    Attributes:
        way: the nodes on its path, without the top node.
        size: the size of a file in bytes.
        is_executable: whether its owner may execute it. All other permissions in the archive are ignored.
        is_link: whether it is a link. An archive yields links only if it was opened with a `read_limit`.
    """

    way: tuple[TreeNode, ...]
    size: int
    is_directory: bool
    is_executable: bool
    is_link: bool = False


class Archive:
    """An archive that can be read once, in order. Iterate over the members, and read the bytes of each with `pieces`.

    Args:
        blob: the file of the archive; its bytes are hashed while they are read. A digest mismatch is reported first, before other errors.
        is_checked: whether to verify the digest; if False, the caller verifies it.
        read_limit: maximum unpacked size in bytes, for a caller that writes no files. Links are then members without content, as in
            Helm, and the compression ratio is not limited. None: apply the limits for unpacking.

    Attributes:
        files: path → SHA-256 in hex, for each file read so far.
    """

    def __init__(
        self, blob: BinaryIO, descriptor: Descriptor, unpacking: Unpacking, *, is_checked: bool = True, read_limit: int | None = None
    ) -> None:
        self._bytes = Packed(blob, descriptor, unpacking, is_checked=is_checked, read_limit=read_limit)
        self._is_read_only = read_limit is not None
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
        """Yield the members in order. After the last one, check the digest and the `Chart.yaml` of a chart.

        Raises:
            IntegrityError: `malformed`, `size-mismatch`, `digest-mismatch`.
            PolicyError: `member-refused`, `chart-refused`, `limit-passed`.
        """
        limits = TarLimits(packed.MAX_PATH, packed.MAX_HEADER, packed.MAX_MEMBERS, sys.maxsize)
        reader = TarReader(lambda _, size: self._bytes.exactly(size), self._fail, limits, with_links=self._is_read_only)
        for header in reader:
            member = self._member(header)
            self._rest = header.size
            self._path = "/".join(node.name for node in member.way) if member is not None and not member.is_directory else ""
            if member is not None:
                yield member
            for _ in self.pieces():  # skip the unread bytes
                pass
            padding = -header.size % BLOCK
            if len(self._bytes.exactly(padding)) < padding:
                self._cut()
        self._bytes.finish()
        if self._chart is not None:
            if self._chart_file is None:
                top = self._top[0] if self._top else self._chart.name or "*"
                self._bytes.malformed(f"it has no `{top}/{CHART_FILE}`, so it is not a chart")
            self._chart.check(self._chart_file, self._name)

    @property
    def unpacked(self) -> int:
        """The number of bytes unpacked so far."""
        return self._bytes.given

    def measure(self) -> int | None:
        """Read the rest of the archive, and return the whole unpacked size in bytes; None if an error occurs."""
        with suppress(OSError, Error):
            return self._bytes.measure()
        return None

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the member that was yielded last."""
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
        """Read and verify the rest of the archive.

        Raises:
            IntegrityError: `size-mismatch`, `digest-mismatch`.
        """
        self._bytes.finish()

    # -- failures

    def _refuse(self, rule: str) -> NoReturn:
        raise PolicyError(
            f"cannot unpack the archive `{self._name}` because of its member `{self._shown[:300]}`: {rule}",
            code="member-refused",
            archive=self._name,
            member=self._shown[:1000],
            rule=rule,
        )

    def _cut(self) -> NoReturn:
        self._bytes.malformed(f"it is truncated in `{self._shown[:300]}`")

    def _fail(self, fault: Fault, reason: str, member: str, limit: int = 0) -> NoReturn:
        self._shown = member
        if fault is Fault.BROKEN:
            self._bytes.malformed(reason)
        if fault is Fault.LIMIT:
            self._bytes.too_much(reason, str(limit))
        self._refuse(reason)

    # -- members

    def _member(self, header: TarMember) -> Member | None:
        """Return the member that a header describes; None for the top directory."""
        self._shown = header.name
        most = packed.MAX_FILE if self._chart is None or self._is_read_only else packed.MAX_CHART_FILE
        if header.size > most:
            self._bytes.too_much(f"its member `{self._shown[:300]}` has {header.size} bytes", f"{most}")
        is_directory = header.is_directory
        parts = self._parts(header.name, is_directory=is_directory)
        if self._chart is not None and not self._top and (len(parts) > 1 or (parts and is_directory)):
            self._top = parts[:1]  # as in Helm, the top directory of a chart may have any name
        if self._top or self._chart is not None:
            parts = self._inside(parts, is_directory=is_directory)
        if self._chart is not None and parts == [CHART_FILE]:
            if header.size > MAX_YAML_SIZE:
                self._bytes.too_much(f"its `{CHART_FILE}` has {header.size} bytes", f"{MAX_YAML_SIZE}")
            self._kept = bytearray()
        way = self.tree.add(parts, is_directory=is_directory)
        # As in Helm, no file of a chart is executable.
        is_executable = header.is_executable and self._chart is None
        return Member(way, header.size, is_directory, is_executable, header.is_link) if way else None

    def _parts(self, name: str, *, is_directory: bool) -> list[str]:
        """Return the parts of a member's path, each safe on every operating system; empty for the top directory."""
        if self._chart is not None and "/" not in name.partition("\\")[0]:
            # `helm package` on Windows wrote names with backslashes. Leave `a/b\c` as it is: Helm takes `a/b` for its top directory.
            name = name.replace("\\", "/")
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
        """Return a path without the common top directory. For that directory and its parents, the result is empty."""
        depth = len(self._top)
        if is_directory and parts == self._top[: len(parts)]:
            return []
        if depth == 0 or parts[:depth] != self._top or len(parts) == depth:
            top = "/".join(self._top) or (self._chart.name if self._chart else None) or "*"
            of_chart = "the archive of a chart contains exactly one directory"
            raise PolicyError(
                f"cannot unpack the archive `{self._name}`: `{self._shown[:300]}` is not in the directory `{top}`"
                + (" of the chart" if self._chart else ""),
                code="chart-refused" if self._chart else "member-refused",
                archive=self._name,
                member=self._shown[:1000],
                rule=of_chart if self._chart else f"it has one top directory, `{top}`",
            )
        return parts[depth:]


def with_top(blob: BinaryIO, descriptor: Descriptor, unpacking: Unpacking, check: Callable[[], None] = lambda: None) -> Unpacking:
    """Add the common top directory of the archive to the options, if it is to be stripped. Rewind the blob afterwards.

    Args:
        check: called regularly; it may raise to cancel.

    Raises:
        OSError: the archive cannot be read.
    """
    if not unpacking.is_stripped:
        return unpacking
    top: str | None = None
    with suppress(IntegrityError, PolicyError):  # ignore a broken archive here: unpacking reports the error
        for member in Archive(blob, descriptor, unpacking):
            check()
            name = member.way[0].name
            if (len(member.way) == 1 and not member.is_directory) or top not in (None, name):
                top = None
                break
            top = name
    blob.seek(0)
    return unpacking._replace(top=top, is_stripped=False)
