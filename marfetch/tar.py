"""Strict tar reader (POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format").

It reads layouts by position and unpacks archives as a stream. It accepts regular files and directories as GNU tar, bsdtar, Go, Python
and .NET write them. It refuses anything that two of them would read differently, so that other programs see exactly what was checked.
`docs/reference/archives.md` has the table of such cases.
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
_OTHER_MAGICS: Final = (b"ustar  \0", bytes(8))
"""Magics of GNU tar and of pre-POSIX tar. The version after POSIX's magic is not checked, because every reader ignores it."""
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
"""A number in a header. Other readers stop at a zero byte, so only padding may follow it."""
_NUMBERS: Final = ((108, 116, "owner"), (116, 124, "group"), (136, 148, "time"), (329, 337, "device"), (337, 345, "device"))
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,7}) ")
_UTF8: Final = b"ISO-IR 10646 2000 UTF-8"
_HARMLESS: Final = re.compile(
    rb"mtime|atime|ctime|uid|gid|uname|gname|comment|SCHILY\.(?:(?:xattr|acl)\..*|fflags|dev|ino|nlink)|(?:LIBARCHIVE|MSWINDOWS|RHT)\..*",
    re.DOTALL,
)
"""Keys of extended headers that no reader uses as a name, size or type."""
_SPARSE: Final = re.compile(rb".*sparse.*|SCHILY\.realsize|SUN\.holesdata", re.DOTALL | re.IGNORECASE)
_LONG_NAME: Final = b"L"
_GLOBAL: Final = b"g"
_EXTENDED: Final = (b"x", _GLOBAL, _LONG_NAME)
_LONG_LINK: Final = b"K"
_LINKS: Final = (b"1", b"2")
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
    """Why an archive is refused."""

    BROKEN = auto()
    """The archive violates the format, or is truncated."""
    AMBIGUOUS = auto()
    """Two tar programs would read the archive differently."""
    REFUSED = auto()
    """The archive contains something other than plain files and directories, such as a link."""
    LIMIT = auto()
    """The archive exceeds a limit of the caller."""


class Fail(Protocol):
    """Callback that reports a fault."""

    def __call__(self, fault: Fault, reason: str, member: str, limit: int = 0) -> NoReturn:
        """Raise the error for a fault.

        Args:
            reason: a clause in which "it" means the member, or the archive if the fault is `BROKEN`.
            member: path of the member that was read last; empty before the first member.
            limit: for `LIMIT`, the exceeded limit.
        """


class TarLimits(NamedTuple):
    """Limits set by the caller.

    Attributes:
        path: bytes of a member's path.
        header: bytes of one extended header (PAX, or a GNU long name), which is kept in memory.
        headers: number of extended headers before one member.
        padding: bytes of zeros after the last member. Writers pad to a full record, which may be large.
    """

    path: int
    header: int
    headers: int
    padding: int


class TarMember(NamedTuple):
    """A regular file or directory in an archive, or a link if the caller accepts them.

    Attributes:
        name: name as written in the archive.
        size: bytes, ≥ 0; 0 for a directory or link.
        is_executable: whether the owner may execute it.
        begin: offset in bytes of its first header, which directly follows the padding of the previous member.
        offset: offset in bytes of its content.
    """

    name: str
    size: int
    is_directory: bool
    is_executable: bool
    begin: int
    offset: int
    is_link: bool = False

    @property
    def end(self) -> int:
        """Offset in bytes of the end of the member, including its padding."""
        return self.offset + self.size + -self.size % BLOCK


class _Header(NamedTuple):
    """A header block."""

    name: bytes
    mode: int
    size: int
    type_flag: bytes


def plain_name(name: str, *, is_directory: bool) -> str:
    """Return a member's name without leading `./` and, for a directory, without the trailing slash; `.` for the top directory.

    Does not validate the path components.
    """
    plain = name
    while plain.startswith("./"):
        plain = plain[2:]
    if not is_directory:
        return plain
    plain = plain.removesuffix("/")
    return "." if plain in ("", ".") and name.startswith(".") else plain


class TarReader:
    """Iterator over the members of an archive; usable once.

    Args:
        read: takes a position and a length, and returns the bytes there; fewer only at the end. Positions only increase, so `read` can use
            a stream if the caller skips a member's content and padding before it asks for the next member.
        fail: raises the error for a fault.
        with_links: yield links as members without content; otherwise refuse them. Only for a caller that writes no files.
    """

    def __init__(self, read: Callable[[int, int], bytes], fail: Fail, limits: TarLimits, *, with_links: bool = False) -> None:
        self._read = read
        self._fail = fail
        self._limits = limits
        self._with_links = with_links
        self._at = 0
        self._shown = ""

    def __iter__(self) -> Iterator[TarMember]:
        """Yield the members in order, then read and check everything after the last one.

        Raises:
            Error: raised by `fail` or `read`.
        """
        begin = 0
        records: dict[bytes, bytes] | None = None
        long_name: bytes | None = None
        extended = 0
        while (header := self._header()) is not None:
            is_long_link = self._with_links and header.type_flag == _LONG_LINK
            if header.type_flag not in _EXTENDED and not is_long_link:
                member = self._member(header, records or {}, long_name, begin)
                self._at = begin = member.end
                records, long_name, extended = None, None, 0
                yield member
                continue
            extended += 1
            if extended > self._limits.headers:
                self._fail(Fault.LIMIT, "it has too many extended headers", self._shown, self._limits.headers)
            body = self._body(header.size)
            if is_long_link:
                continue
            if header.type_flag == _LONG_NAME:
                if long_name is not None:
                    self._broken("two long names precede one member")
                long_name = body.removesuffix(b"\0")
            elif header.type_flag == _GLOBAL:
                self._check_records(self._records(body), is_global=True)
            else:
                if records is not None:
                    self._broken("two extended headers precede one member")
                records = self._records(body)
        if records is not None or long_name is not None:
            self._broken("no member follows its last extended header")
        self._check_end()

    # -- headers

    def _header(self) -> _Header | None:
        """Return the next header, or None at the end of the archive."""
        block = self._read(self._at, BLOCK)
        if len(block) < BLOCK:
            self._broken("it is truncated")
        self._at += BLOCK
        if block == _EMPTY:
            return None
        checksum = _OCTAL.fullmatch(block[148:156])
        if checksum is None or sum(block) - sum(block[148:156]) + 8 * ord(" ") != int(checksum[1] or b"0", 8):
            self._broken(f"the header after `{self._shown[:300]}` has a wrong checksum" if self._shown else "it is not a tar archive")
        name, prefix = block[:100].partition(b"\0")[0], block[345:500].partition(b"\0")[0]
        is_posix = block[257:263] == _POSIX
        if prefix and is_posix:
            name = prefix + b"/" + name
        self._shown = _shown(name)
        if not is_posix and block[257:265] not in _OTHER_MAGICS:
            self._broken(f"the header of `{self._shown[:300]}` has an unknown format")
        if prefix and (not is_posix or block[508:] == b"tar\0"):
            self._broken(f"the header of `{self._shown[:300]}` has extra data, which some tar programs read as part of its name")
        # These fields are unused here, but other readers treat an invalid number in them as the end of the archive.
        for begin, end, what in _NUMBERS:
            if block[begin] not in (0x80, 0xFF):
                self._number(block[begin:end], what)
        size = block[124:136]
        if not size.strip(b" \0"):
            self._broken(f"the size of `{self._shown[:300]}` is empty")
        return _Header(name, self._number(block[100:108], "mode"), self._number(size, "size"), block[156:157])

    def _number(self, field: bytes, what: str) -> int:
        if field[0] == 0x80:  # GNU tar's encoding of large numbers
            return int.from_bytes(field[1:], "big")
        match = _OCTAL.fullmatch(field)
        if match is None:
            self._broken(f"the {what} of `{self._shown[:300]}` is not a number, or is negative")
        return int(match[1] or b"0", 8)

    def _body(self, size: int) -> bytes:
        """Read the content of an extended header."""
        if size > self._limits.header:
            self._fail(Fault.LIMIT, f"an extended header has {size} bytes", self._shown, self._limits.header)
        padded = size + -size % BLOCK
        body = self._read(self._at, padded)
        if len(body) < padded:
            self._broken(f"it ends in the middle of `{self._shown[:300]}`")
        self._at += padded
        return body[:size]

    def _records(self, body: bytes) -> dict[bytes, bytes]:
        """Parse the records of a PAX header: `LENGTH KEY=VALUE` and a line feed; the length counts the whole record."""
        records: dict[bytes, bytes] = {}
        at = 0
        while at < len(body):
            match = _RECORD.match(body, at)
            end = at + int(match[1]) if match else at
            record = body[match.end() if match else at : end]
            key, equals, value = record[:-1].partition(b"=")
            if end > len(body) or not record.endswith(b"\n") or not equals or key in records:
                self._broken("an extended header is not a list of records")
            records[key] = value
            at = end
        return records

    def _check_records(self, records: Mapping[bytes, bytes], *, is_global: bool = False) -> None:
        """Refuse records that change more than path and size, and records in which some reader could see such a change."""
        for key, value in records.items():
            if key in (b"path", b"size"):
                if is_global:  # it would override the names and sizes of all following members
                    self._fail(Fault.AMBIGUOUS, "it is a global header that changes the members after it", self._shown)
            elif _SPARSE.fullmatch(key):
                self._refuse("it is a sparse file")
            elif key == b"hdrcharset" and not is_global:
                if value != _UTF8:
                    self._refuse("its name is not UTF-8")
            elif key == b"linkpath" and self._with_links:
                pass
            elif not _HARMLESS.fullmatch(key):
                self._refuse(f"its extended header has `{_shown(key)[:100]}`")

    # -- members

    def _member(self, header: _Header, records: Mapping[bytes, bytes], long_name: bytes | None, begin: int) -> TarMember:
        """Combine a header with the extended headers before it."""
        raw = records.get(b"path", header.name if long_name is None else long_name)
        self._shown = _shown(raw)
        if b"path" in records and long_name is not None:
            self._ambiguous("it has two long names")
        self._check_records(records)
        if records.get(b"size", b"%d" % header.size) != b"%d" % header.size:
            self._ambiguous("it has two sizes: its extended header and its header differ")
        # Pre-POSIX archives mark a directory by a trailing slash, because they have no type flag for it.
        is_directory = header.type_flag == _DIRECTORY or (header.type_flag == _OLD and raw.endswith(b"/"))
        if header.type_flag == _OLD and header.name.endswith(b"/") != is_directory:
            self._ambiguous("some tar programs read it as a directory, others as a file")
        is_link = self._with_links and header.type_flag in _LINKS
        if not is_directory and not is_link and header.type_flag not in (_FILE, _OLD):
            self._refuse(_REFUSED.get(header.type_flag, f"it has the unknown type {header.type_flag.decode('latin-1')!r}"))
        if is_directory and header.size:
            self._ambiguous("it is a directory with content")
        if is_link and header.size:
            self._ambiguous("it is a link with content")
        if b"\0" in raw:
            self._ambiguous("its name contains the invisible character U+0000")
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            self._refuse("its name is not UTF-8")
        if len(raw) > self._limits.path:
            self._refuse(f"its path is longer than {self._limits.path} bytes")
        if name.startswith("/"):
            self._refuse("it is an absolute path")
        return TarMember(name, header.size, is_directory, bool(header.mode & 0o100), begin, self._at, is_link)

    def _check_end(self) -> None:
        """Require two zero blocks, then only zeros: some readers would read anything else as a second archive."""
        size = BLOCK
        while piece := self._read(self._at, _PIECE):
            self._at += len(piece)
            size += len(piece)
            if size > self._limits.padding or piece.count(0) != len(piece):
                self._broken("it has data after its end")
        if size < 2 * BLOCK:
            self._broken("it is truncated")

    # -- faults

    def _broken(self, reason: str) -> NoReturn:
        self._fail(Fault.BROKEN, reason, self._shown)

    def _ambiguous(self, reason: str) -> NoReturn:
        self._fail(Fault.AMBIGUOUS, reason, self._shown)

    def _refuse(self, reason: str) -> NoReturn:
        self._fail(Fault.REFUSED, reason, self._shown)


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
