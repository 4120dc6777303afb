"""The members of a tar (POSIX.1-2017, pax, "ustar Interchange Format"), found without unpacking anything.

A reader of our own, since two readers that disagree about one archive would check one thing and use another: every field that could be
read in two ways is refused. Regular files and directories are taken, in the forms that GNU tar, bsdtar, Go and Python write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn, Protocol

from .errors import IntegrityError, PolicyError

BLOCK: Final = 512
MAX_MEMBERS: Final = 500_000
MAX_NAME: Final = 1024
"""Longest name in bytes; a blob's has 78 or 142."""
_MAX_EXTENDED: Final = 64 << 10
"""Longest extended header (pax, GNU long name) in bytes."""
_MAX_PADDING: Final = 4 << 20
"""Most zero bytes behind the end: tar fills its last record up, and a record may be large."""
_EMPTY: Final = bytes(BLOCK)
_FORMS: Final = (b"ustar\x0000", b"ustar  \x00")
_NUMBERS: Final = ((100, 108), (108, 116), (116, 124), (136, 148), (329, 337), (337, 345))
"""Where mode, owner, group, time and device stand."""
_HARMLESS: Final = ("mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment")
_HARMLESS_PREFIXES: Final = ("SCHILY.", "LIBARCHIVE.", "MSWINDOWS.", "RHT.")


class Readable(Protocol):
    """The bytes of an archive, at any position."""

    @property
    def size(self) -> int:
        """Bytes, ≥ 0."""

    def read(self, position: int, length: int) -> bytes:
        """At most so many bytes from a position; fewer at the end."""


class TarMember(NamedTuple):
    """A regular file in an archive, or a directory.

    Attributes:
        name: without `./` in front.
        offset: bytes, where its content begins in the archive.
        size: bytes, ≥ 0.
        begin: bytes, where the first of its headers begins: right behind the content of the member before, as it is filled up.
    """

    name: str
    offset: int
    size: int
    begin: int = 0
    is_directory: bool = False


def members(archive: Readable, where: str, *, directories: bool = False) -> Iterator[TarMember]:
    """The regular files of an archive.

    Args:
        archive: its bytes.
        where: the archive's path, for messages.
        directories: give them too.

    Raises:
        IntegrityError: `malformed`: it is cut short, a checksum is wrong, something can be read in two ways.
        PolicyError: `archive-refused` or `limit-passed`.
        Error: as reading it.
    """
    return (one for one in _Reader(archive, where).members() if directories or not one.is_directory)


class _Reader:
    def __init__(self, archive: Readable, where: str) -> None:
        self._archive = archive
        self._where = where
        self._size = archive.size
        self._at = 0

    def members(self) -> Iterator[TarMember]:
        count = begin = 0
        extended: dict[str, str] = {}
        while True:
            header = self._read(self._at, BLOCK)
            if header == _EMPTY:
                if extended:
                    self._malformed("an extended header stands at its end")
                self._check_end()
                return
            count += 1
            if count > MAX_MEMBERS:
                raise PolicyError(
                    f"`{self._where}` has more than {MAX_MEMBERS} members", code="limit-passed", rule=f"at most {MAX_MEMBERS} members"
                )
            name, size, sort = self._header(header)
            content = self._at + BLOCK
            self._at = content + size + -size % BLOCK
            if self._at > self._size:
                self._malformed(f"it is cut short within `{name[:200]}`")
            if sort in (b"x", b"L", b"g"):
                found = self._extended(sort, self._read_all(content, size, name))
                if sort == b"g" and found:
                    self._malformed(f"a global header changes `{next(iter(found))}`")
                if found.keys() & extended.keys():
                    self._malformed("a member has two extended headers that say the same")
                extended |= found
                continue
            if "size" in extended and extended["size"] != str(size):
                self._malformed(f"`{name[:200]}` has two sizes, {size} and {extended['size'][:40]}")
            name = self._name(extended.get("path", name), directory=sort == b"5")
            extended = {}
            if sort == b"5":
                if size:
                    self._malformed(f"the directory `{name}` has content")
                yield TarMember(name, content, 0, begin, is_directory=True)
                begin = self._at
                continue
            if sort not in (b"0", b"\x00"):
                kinds = {
                    b"1": "a hard link",
                    b"2": "a symbolic link",
                    b"3": "a device",
                    b"4": "a device",
                    b"6": "a pipe",
                    b"S": "a sparse file",
                }
                self._refuse(f"`{name}` is {kinds.get(sort, 'neither a file nor a directory')}")
            yield TarMember(name, content, size, begin)
            begin = self._at

    def _header(self, header: bytes) -> tuple[str, int, bytes]:
        checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if self._number(header[148:156], "the checksum") != checksum:
            self._malformed(f"the checksum at byte {self._at} is wrong")
        form = header[257:265]
        if form not in _FORMS and form != bytes(8):
            self._malformed(f"the header at byte {self._at} is of an unknown form")
        name = self._text(header[:100])
        if header[345] != 0:
            if form != _FORMS[0]:  # GNU's form has times there, in archives for incremental backups; some readers see a part of the name
                self._malformed(f"the header at byte {self._at} can be read in two ways")
            name = self._text(header[345:500]) + "/" + name
        # Nothing is made of these, but to other readers the archive ends where one of them is no number.
        for begin, end in _NUMBERS:
            if header[begin] not in (0x80, 0xFF) and header[begin:end].strip(b" \x00"):
                self._number(header[begin:end], "a mode, an owner, a time or a device")
        return name, self._number(header[124:136], "the size"), header[156:157]

    def _number(self, field: bytes, what: str) -> int:
        """An octal number, or GNU's binary one for what is larger; never negative."""
        if field[0] == 0x80:
            value = int.from_bytes(field[1:], "big")
            if value < 1 << 63:
                return value
        digits = field.rstrip(b" \x00").lstrip(b" ")
        if not digits.isdigit() or any(digit in b"89" for digit in digits):
            self._malformed(f"{what} at byte {self._at} is not a number")
        return int(digits, 8)

    def _text(self, field: bytes) -> str:
        try:
            return field.partition(b"\x00")[0].decode("utf-8")
        except UnicodeDecodeError:
            self._refuse(f"a name at byte {self._at} is not UTF-8")

    def _extended(self, sort: bytes, data: bytes) -> dict[str, str]:
        """What an extended header says that matters: the path and the size."""
        if sort == b"L":
            return {"path": self._text(data)}
        found: dict[str, str] = {}
        at = 0
        while at < len(data):
            # "%d %s=%s\n", the number counts the whole record
            digits, space, _ = data[at : at + 20].partition(b" ")
            length = int(digits) if space and digits.isdigit() else 0
            record = data[at : at + length]
            at += length
            key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
            if not equals or len(record) != length or record[-1:] != b"\n":
                self._malformed("an extended header is not made of records")
            name = self._text(key)
            if name in ("path", "size"):
                if name in found or b"\x00" in value:
                    self._malformed(f"an extended header says `{name}` in two ways")
                found[name] = self._text(value)
            elif name not in _HARMLESS and not name.startswith(_HARMLESS_PREFIXES):
                self._refuse(f"an extended header has `{name[:100]}`")
        return found

    def _name(self, text: str, *, directory: bool) -> str:
        name = text.rstrip("/") if directory else text
        while name.startswith("./"):
            name = name[2:].lstrip("/") if directory else name[2:]
        if directory and name in ("", "."):
            return "."
        if (
            len(text.encode()) > MAX_NAME
            or not name.isprintable()
            or "\\" in name
            or any(part in ("", ".", "..") for part in name.split("/"))
        ):
            self._refuse(f"the name `{text[:200]}` is not a plain relative one")
        return name

    def _check_end(self) -> None:
        """Two empty blocks and nothing behind them: what another reader could take for a second archive is no padding."""
        rest = self._size - self._at
        if rest < 2 * BLOCK:
            self._malformed("it is cut short: the two empty blocks of its end are missing")
        if rest > _MAX_PADDING or self._read_all(self._at, rest, "the end").strip(b"\x00"):
            self._malformed("something stands behind its end")

    def _read_all(self, offset: int, size: int, name: str) -> bytes:
        if size > max(_MAX_EXTENDED, _MAX_PADDING if name == "the end" else 0):
            self._refuse(f"an extended header has {size} bytes")
        return self._read(offset, size)

    def _read(self, offset: int, size: int) -> bytes:
        data = self._archive.read(offset, size)
        if len(data) != size:
            self._malformed("it is cut short")
        return data

    def _malformed(self, reason: str) -> NoReturn:
        raise IntegrityError(f"the archive `{self._where}` is malformed: {reason}", code="malformed", path=self._where)

    def _refuse(self, reason: str) -> NoReturn:
        raise PolicyError(f"the archive `{self._where}` is refused: {reason}", code="archive-refused", path=self._where, rule=reason)
