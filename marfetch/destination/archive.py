"""Archives member by member: a strict reader of tar that takes files and directories and refuses everything else.

It reads what `helm package`, .NET and the usual tars write: ustar headers, PAX headers and long names of GNU tar (POSIX.1-2017, pax,
"ustar Interchange Format" and "pax Interchange Format"). Wherever two readers could see two things, it refuses: the standard
library's reader follows such things, and its filters have been bypassed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, NoReturn, Self

from ..artifact.chart import CHART_FILE, Unpacking
from ..artifact.filename import safe_title, same_name
from ..document import MAX_YAML_SIZE
from ..errors import Error, IntegrityError, PolicyError
from ..oci import Descriptor
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


_BLOCK: Final = 512
_NOTHING: Final = bytes(_BLOCK)
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")  # other readers see no number behind a zero byte
_NUMBERS: Final = ((108, 116, "owner"), (116, 124, "group"), (136, 148, "time"), (329, 337, "device"), (337, 345, "device"))
_RECORD = re.compile(rb"([1-9][0-9]{0,7}) ")
_LONG_NAME: Final = b"L"
_EXTENDED: Final = (b"x", b"g", _LONG_NAME)
_FILE: Final = (b"0", b"\0")
_DIRECTORY: Final = b"5"
_REFUSED: Final[Mapping[bytes, str]] = {
    b"1": "it is a hard link",
    b"2": "it is a symbolic link",
    b"3": "it is a character device",
    b"4": "it is a block device",
    b"6": "it is a FIFO",
    b"K": "it is a link with a long name",
    b"S": "it is a sparse file",
}


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


class _Header(NamedTuple):
    """One block of a tar that says what follows; `sort` is its type flag."""

    name: bytes
    mode: int
    size: int
    sort: bytes


class Archive:
    """An archive that is read once, from its beginning to its end; iterate it, and take the bytes of each member by `pieces`.

    Args:
        blob: its bytes. They are hashed on the way: where they are not those of the descriptor, that is the failure, whatever
            else they led to.

    Attributes:
        files: the sha256 of each file that was read so far, in hex, by its path.
    """

    def __init__(self, blob: BinaryIO, descriptor: Descriptor, unpacking: Unpacking) -> None:
        self._bytes = Packed(blob, descriptor, unpacking)
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
        while (header := self._next()) is not None:
            member = self._member(header)
            self._rest = header.size
            self._path = "/".join(node.name for node in member.way) if member is not None and not member.is_directory else ""
            if member is not None:
                yield member
            for _ in self.pieces():  # what was not taken
                pass
            self._pad(header.size)
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
        self._bytes.malformed(f"it ends in the middle of `{self._shown[:300]}`" if self._shown else "it ends early")

    # -- headers

    def _next(self) -> _Header | None:
        """The header of the next member, with what extended headers before it say; None at the end."""
        records: dict[str, bytes] | None = None
        long_name: bytes | None = None
        count = 0
        while True:
            count += 1
            if count > packed.MAX_MEMBERS:
                self._bytes.too_much("it has too many extended headers", f"{packed.MAX_MEMBERS}")
            header = self._header()
            if header is None:
                if records is not None or long_name is not None:
                    self._bytes.malformed("an extended header stands before its end")
                return None
            if header.sort not in _EXTENDED:
                return self._extended(header, records, long_name)
            body = self._body(header)
            if header.sort == _LONG_NAME:
                if long_name is not None:
                    self._bytes.malformed("two long names stand before one member")
                long_name = body.removesuffix(b"\0")
                continue
            found = self._records(body)
            if header.sort == b"g":
                # It would change members that say something else themselves.
                if any(_changes(key) for key in found):
                    self._refuse("it is a global header that changes the members behind it")
                continue
            if records is not None:
                self._bytes.malformed("two extended headers stand before one member")
            records = found

    def _header(self) -> _Header | None:
        block = self._bytes.exactly(_BLOCK)
        if len(block) < _BLOCK:
            self._shown = ""
            self._cut()
        if block == _NOTHING:
            self._end()
            return None
        checksum = _OCTAL.fullmatch(block[148:156])
        if checksum is None or sum(block) - sum(block[148:156]) + 8 * ord(" ") != int(checksum[1] or b"0", 8):
            self._bytes.malformed(f"the header behind `{self._shown[:300]}` is none" if self._shown else "it is no tar archive")
        name = _text(block[:100])
        prefix = _text(block[345:500])
        if block[257:263] == b"ustar\0" and prefix:
            name = prefix + b"/" + name
        self._shown = name.decode("utf-8", "backslashreplace")
        if block[257:263] != b"ustar\0" and prefix:
            self._bytes.malformed(
                f"something stands behind the header of `{self._shown[:300]}`, which some readers take for a part of its name"
            )
        # Nothing is made of these, but to other readers the archive ends where one of them is no number.
        for begin, end, what in _NUMBERS:
            if block[begin] not in (0x80, 0xFF):
                self._number(block[begin:end], what)
        return _Header(name, self._number(block[100:108], "mode"), self._number(block[124:136], "size"), block[156:157])

    def _number(self, field: bytes, what: str) -> int:
        if field[0] == 0x80:  # GNU tar's form of large numbers
            return int.from_bytes(field[1:], "big")
        match = _OCTAL.fullmatch(field)
        if match is None:
            self._bytes.malformed(f"the {what} of `{self._shown[:300]}` is no number, or a negative one")
        return int(match[1] or b"0", 8)

    def _end(self) -> None:
        """Two blocks of zeros end an archive, and only zeros may follow."""
        size = _BLOCK
        while piece := self._bytes.some(PIECE):
            if piece.count(0) != len(piece):
                self._bytes.malformed("something stands behind its end")
            size += len(piece)
        if size < 2 * _BLOCK:
            self._bytes.malformed("it ends early")

    def _body(self, header: _Header) -> bytes:
        if header.size > packed.MAX_HEADER:
            self._bytes.too_much(f"an extended header has {header.size} bytes", f"{packed.MAX_HEADER}")
        body = self._bytes.exactly(header.size)
        if len(body) < header.size:
            self._cut()
        self._pad(header.size)
        return body

    def _pad(self, size: int) -> None:
        padding = -size % _BLOCK
        if len(self._bytes.exactly(padding)) < padding:
            self._cut()

    def _records(self, body: bytes) -> dict[str, bytes]:
        """The records of a PAX header: `LENGTH KEY=VALUE` and a line feed, the length counting all of it."""
        records: dict[str, bytes] = {}
        at = 0
        while at < len(body):
            match = _RECORD.match(body, at)
            end = at + int(match[1]) if match else at
            record = body[match.end() if match else at : end]
            key, equals, value = record[:-1].partition(b"=")
            if end > len(body) or not record.endswith(b"\n") or not equals or not key.isascii() or key.decode() in records:
                self._bytes.malformed("an extended header is no list of records")
            records[key.decode()] = value
            at = end
        return records

    def _extended(self, header: _Header, records: Mapping[str, bytes] | None, long_name: bytes | None) -> _Header:
        """A header with what its extended headers say, as far as they may say it."""
        records = records or {}
        name = records.get("path", long_name if long_name is not None else header.name)
        self._shown = name.decode("utf-8", "backslashreplace")
        if "path" in records and long_name is not None:
            self._refuse("it has two long names")
        if any("sparse" in key.lower() or key == "SCHILY.realsize" for key in records):
            self._refuse("it is a sparse file")
        if records.get("hdrcharset", b"ISO-IR 10646 2000 UTF-8") != b"ISO-IR 10646 2000 UTF-8":
            self._refuse("its name is not UTF-8")
        if "size" in records and records["size"] != b"%d" % header.size:
            self._refuse("its extended header says another size than its header")
        return _Header(name, header.mode, header.size, header.sort)

    # -- members

    def _member(self, header: _Header) -> Member | None:
        """What a header means; None for the top of the tree itself."""
        if header.sort in _REFUSED:
            self._refuse(_REFUSED[header.sort])
        # The oldest tars have no type for directories, but a slash.
        is_directory = header.sort == _DIRECTORY or (header.sort == b"\0" and header.name.endswith(b"/"))
        if not is_directory and header.sort not in _FILE:
            self._refuse(f"it is of the type {header.sort.decode('latin-1')!r}")
        if is_directory and header.size:
            self._refuse("it is a directory with content")
        most = packed.MAX_FILE if self._chart is None else packed.MAX_CHART_FILE
        if header.size > most:
            self._bytes.too_much(f"its member `{self._shown[:300]}` has {header.size} bytes", f"{most}")
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
        is_executable = bool(header.mode & 0o100) and self._chart is None
        return Member(way, header.size, is_directory, is_executable) if way else None

    def _parts(self, raw: bytes, *, is_directory: bool) -> list[str]:
        """The parts of a member's path, each safe on every operating system; none for the top itself."""
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            self._refuse("its name is not UTF-8")
        if len(raw) > packed.MAX_PATH:
            self._refuse(f"its path is longer than {packed.MAX_PATH} bytes")
        if self._chart is not None and "/" not in name:
            name = name.replace("\\", "/")  # `helm package` on Windows wrote such names, and Helm reads them so
        if name.startswith("/"):
            self._refuse("it is an absolute path")
        while name.startswith("./"):
            name = name[2:]
        if is_directory and raw:
            name = name.removesuffix("/")
            if name in ("", "."):
                return []
        parts = name.split("/")
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


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _changes(key: str) -> bool:
    """Whether a record says where a member goes, or how long it is."""
    return key in ("path", "linkpath", "size", "hdrcharset") or "sparse" in key.lower() or key == "SCHILY.realsize"
