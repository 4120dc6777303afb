"""The headers of a tar (POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format"), read strictly.

The one reader of tars: layouts are read in it by position, archives are unpacked by it as a stream. It takes regular files and
directories as GNU tar, bsdtar, Go, Python and .NET write them. What two of these would read differently is refused, so that what
was checked is what others see. `docs/decisions/0012-unpacking.md` has the table of such cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple, NoReturn, Protocol

BLOCK: Final = 512
_EMPTY: Final = bytes(BLOCK)
_PIECE: Final = 256 * 1024
_POSIX: Final = b"ustar\0"
_FORMS: Final = (b"ustar  \0", bytes(8))
"""GNU tar's, and the one from before POSIX. What stands behind POSIX's is a version, which every reader ignores."""
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
"""Other readers see no number behind a zero byte."""
_NUMBERS: Final = ((108, 116, "owner"), (116, 124, "group"), (136, 148, "time"), (329, 337, "device"), (337, 345, "device"))
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,7}) ")
_UTF8: Final = b"ISO-IR 10646 2000 UTF-8"
_HARMLESS: Final = re.compile(
    rb"mtime|atime|ctime|uid|gid|uname|gname|comment|SCHILY\.(?:(?:xattr|acl)\..*|fflags|dev|ino|nlink)|(?:LIBARCHIVE|MSWINDOWS|RHT)\..*",
    re.DOTALL,
)
"""Keys of extended headers that no reader takes for a name, a size or a kind."""
_SPARSE: Final = re.compile(rb".*sparse.*|SCHILY\.realsize|SUN\.holesdata", re.DOTALL | re.IGNORECASE)
_LONG_NAME: Final = b"L"
_GLOBAL: Final = b"g"
_EXTENDED: Final = (b"x", _GLOBAL, _LONG_NAME)
_FILE: Final = b"0"
_OLD: Final = b"\0"
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


class Fault(Enum):
    """Why an archive is not read on."""

    BROKEN = auto()
    """It is not what the formats say, or it ends early."""
    AMBIGUOUS = auto()
    """Two readers would read it differently."""
    REFUSED = auto()
    """It holds more than plain files and directories."""
    LIMIT = auto()
    """It passes a limit of the caller."""


class Fail(Protocol):
    """How the caller reports a fault."""

    def __call__(self, fault: Fault, reason: str, member: str, limit: int = 0) -> NoReturn:
        """Raise.

        Args:
            reason: a clause; of faults that a member has, "it" is the member.
            member: the path of the member that was read last; empty before the first.
            limit: of `LIMIT`, the one that was passed.
        """


class TarLimits(NamedTuple):
    """How much the caller reads.

    Attributes:
        path: bytes of a member's path.
        header: bytes of one extended header (PAX, or a long name of GNU tar), which is held in memory.
        headers: extended headers before one member.
        padding: bytes behind the last member, all zero: writers fill their last record up, and a record may be large.
    """

    path: int
    header: int
    headers: int
    padding: int


class TarMember(NamedTuple):
    """A regular file in an archive, or a directory.

    Attributes:
        name: as it is written.
        size: bytes, ≥ 0; 0 of a directory.
        is_executable: whether its owner may execute it.
        begin: bytes, where the first of its headers begins: right behind the padding of the member before.
        offset: bytes, where its content begins.
    """

    name: str
    size: int
    is_directory: bool
    is_executable: bool
    begin: int
    offset: int

    @property
    def end(self) -> int:
        """Bytes, where its padding ends."""
        return self.offset + self.size + -self.size % BLOCK


class _Header(NamedTuple):
    """One block that says what follows; `sort` is its type flag."""

    name: bytes
    mode: int
    size: int
    sort: bytes


def plain_name(name: str, *, is_directory: bool) -> str:
    """Return a member's name without `./` in front and, of a directory, without the slash behind it; `.` for the top itself.

    Its parts are not checked.
    """
    plain = name
    while plain.startswith("./"):
        plain = plain[2:]
    if not is_directory:
        return plain
    plain = plain.removesuffix("/")
    return "." if plain in ("", ".") and name.startswith(".") else plain


class TarReader:
    """The members of an archive; iterate it once.

    Args:
        read: gives so many bytes at a position, fewer only at the end. Positions only grow, so a stream can be read: then the caller
            has passed over a member's content and padding when it asks for the next one.
        fail: reports a fault; it raises.
    """

    def __init__(self, read: Callable[[int, int], bytes], fail: Fail, limits: TarLimits) -> None:
        self._read = read
        self._fail = fail
        self._limits = limits
        self._at = 0
        self._shown = ""

    def __iter__(self) -> Iterator[TarMember]:
        """The members in their order. After the last one everything behind it has been read.

        Raises:
            Error: as `fail` and `read`.
        """
        begin = 0
        records: dict[bytes, bytes] | None = None
        long_name: bytes | None = None
        extended = 0
        while (header := self._header()) is not None:
            if header.sort not in _EXTENDED:
                member = self._member(header, records or {}, long_name, begin)
                self._at = begin = member.end
                records, long_name, extended = None, None, 0
                yield member
                continue
            extended += 1
            if extended > self._limits.headers:
                self._fail(Fault.LIMIT, "it has too many extended headers", self._shown, self._limits.headers)
            body = self._body(header.size)
            if header.sort == _LONG_NAME:
                if long_name is not None:
                    self._broken("two long names stand before one member")
                long_name = body.removesuffix(b"\0")
            elif header.sort == _GLOBAL:
                self._check_records(self._records(body), is_global=True)
            else:
                if records is not None:
                    self._broken("two extended headers stand before one member")
                records = self._records(body)
        if records is not None or long_name is not None:
            self._broken("an extended header stands before its end")
        self._check_end()

    # -- headers

    def _header(self) -> _Header | None:
        """The next header; None at the end."""
        block = self._read(self._at, BLOCK)
        if len(block) < BLOCK:
            self._broken("it ends early: it is cut short")
        self._at += BLOCK
        if block == _EMPTY:
            return None
        checksum = _OCTAL.fullmatch(block[148:156])
        if checksum is None or sum(block) - sum(block[148:156]) + 8 * ord(" ") != int(checksum[1] or b"0", 8):
            self._broken(f"the header behind `{self._shown[:300]}` is none" if self._shown else "it is no tar archive")
        name, prefix = block[:100].partition(b"\0")[0], block[345:500].partition(b"\0")[0]
        is_posix = block[257:263] == _POSIX
        if prefix and is_posix:
            name = prefix + b"/" + name
        self._shown = _shown(name)
        if not is_posix and block[257:265] not in _FORMS:
            self._broken(f"the header of `{self._shown[:300]}` is of an unknown form")
        if prefix and (not is_posix or block[508:] == b"tar\0"):
            self._broken(f"something stands behind the header of `{self._shown[:300]}`, which some readers take for a part of its name")
        # Nothing is made of these, but to other readers the archive ends where one of them is no number.
        for begin, end, what in _NUMBERS:
            if block[begin] not in (0x80, 0xFF):
                self._number(block[begin:end], what)
        size = block[124:136]
        if not size.strip(b" \0"):
            self._broken(f"the size of `{self._shown[:300]}` is empty")
        return _Header(name, self._number(block[100:108], "mode"), self._number(size, "size"), block[156:157])

    def _number(self, field: bytes, what: str) -> int:
        if field[0] == 0x80:  # GNU tar's form of large numbers
            return int.from_bytes(field[1:], "big")
        match = _OCTAL.fullmatch(field)
        if match is None:
            self._broken(f"the {what} of `{self._shown[:300]}` is no number, or a negative one")
        return int(match[1] or b"0", 8)

    def _body(self, size: int) -> bytes:
        """What an extended header says."""
        if size > self._limits.header:
            self._fail(Fault.LIMIT, f"an extended header has {size} bytes", self._shown, self._limits.header)
        padded = size + -size % BLOCK
        body = self._read(self._at, padded)
        if len(body) < padded:
            self._broken(f"it ends in the middle of `{self._shown[:300]}`")
        self._at += padded
        return body[:size]

    def _records(self, body: bytes) -> dict[bytes, bytes]:
        """The records of a PAX header: `LENGTH KEY=VALUE` and a line feed, the length counting all of it."""
        records: dict[bytes, bytes] = {}
        at = 0
        while at < len(body):
            match = _RECORD.match(body, at)
            end = at + int(match[1]) if match else at
            record = body[match.end() if match else at : end]
            key, equals, value = record[:-1].partition(b"=")
            if end > len(body) or not record.endswith(b"\n") or not equals or key in records:
                self._broken("an extended header is no list of records")
            records[key] = value
            at = end
        return records

    def _check_records(self, records: Mapping[bytes, bytes], *, is_global: bool = False) -> None:
        """Refuse records that change more than the path, or that any reader could take for such a change."""
        for key, value in records.items():
            if key in (b"path", b"size"):
                if is_global:  # it would change members that say something else themselves
                    self._fail(Fault.AMBIGUOUS, "it is a global header that changes the members behind it", self._shown)
            elif _SPARSE.fullmatch(key):
                self._refuse("it is a sparse file")
            elif key == b"hdrcharset" and not is_global:
                if value != _UTF8:
                    self._refuse("its name is not UTF-8")
            elif not _HARMLESS.fullmatch(key):
                self._refuse(f"its extended header has `{_shown(key)[:100]}`")

    # -- members

    def _member(self, header: _Header, records: Mapping[bytes, bytes], long_name: bytes | None, begin: int) -> TarMember:
        """What a header means together with the extended headers before it."""
        raw = records.get(b"path", header.name if long_name is None else long_name)
        self._shown = _shown(raw)
        if b"path" in records and long_name is not None:
            self._ambiguous("it has two long names")
        self._check_records(records)
        if records.get(b"size", b"%d" % header.size) != b"%d" % header.size:
            self._ambiguous("it has two sizes: its extended header says another size than its header")
        # The oldest tars have no type for directories, but a slash.
        is_directory = header.sort == _DIRECTORY or (header.sort == _OLD and raw.endswith(b"/"))
        if header.sort == _OLD and header.name.endswith(b"/") != is_directory:
            self._ambiguous("some readers take it for a directory, others for a file")
        if not is_directory and header.sort not in (_FILE, _OLD):
            self._refuse(_REFUSED.get(header.sort, f"it is of the type {header.sort.decode('latin-1')!r}"))
        if is_directory and header.size:
            self._ambiguous("it is a directory with content")
        if b"\0" in raw:
            self._ambiguous("its name holds the invisible character U+0000")
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            self._refuse("its name is not UTF-8")
        if len(raw) > self._limits.path:
            self._refuse(f"its path is longer than {self._limits.path} bytes")
        if name.startswith("/"):
            self._refuse("it is an absolute path")
        return TarMember(name, header.size, is_directory, bool(header.mode & 0o100), begin, self._at)

    def _check_end(self) -> None:
        """Two blocks of zeros end an archive, and only zeros may follow: another reader could take more for a second archive."""
        size = BLOCK
        while piece := self._read(self._at, _PIECE):
            self._at += len(piece)
            size += len(piece)
            if size > self._limits.padding or piece.count(0) != len(piece):
                self._broken("something stands behind its end")
        if size < 2 * BLOCK:
            self._broken("it ends early: it is cut short")

    # -- faults

    def _broken(self, reason: str) -> NoReturn:
        self._fail(Fault.BROKEN, reason, self._shown)

    def _ambiguous(self, reason: str) -> NoReturn:
        self._fail(Fault.AMBIGUOUS, reason, self._shown)

    def _refuse(self, reason: str) -> NoReturn:
        self._fail(Fault.REFUSED, reason, self._shown)


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
