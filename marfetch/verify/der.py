"""A small, strict reader of DER (X.690): definite lengths in their shortest form, tags up to 30, nothing behind the end.

What is signed is read by nothing more tolerant: a reader that takes odd encodings would let two programs see two things in the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BITS: Final = 0x03
OCTETS: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

_GENERALIZED = re.compile(rb"(\d{14})(?:\.(\d{0,8}[1-9]))?Z")
_UTC = re.compile(rb"(\d\d)(\d{10})Z")


class DerError(ValueError):
    """Bytes that are not DER, or not what was expected there."""


@dataclass(frozen=True, slots=True)
class DerValue:
    """One value.

    Attributes:
        raw: all of its bytes, with tag and length.
        start: where its content begins in them.
    """

    tag: int
    raw: bytes
    start: int

    @property
    def content(self) -> bytes:
        """The bytes behind tag and length."""
        return self.raw[self.start :]

    def children(self, tag: int) -> list[DerValue]:
        """The values in it, after its tag was compared."""
        return many(self.expect(tag).content)

    def expect(self, tag: int) -> DerValue:
        """The node itself if it has this tag.

        Raises:
            DerError: another tag.
        """
        if self.tag != tag:
            raise DerError(f"the tag 0x{self.tag:02x} stands where 0x{tag:02x} is expected")
        return self

    def only(self, tag: int) -> DerValue:
        """The one value in an explicit tag."""
        found = self.children(tag)
        if len(found) != 1:
            raise DerError(f"{len(found)} values stand where one is expected")
        return found[0]

    def octets(self) -> bytes:
        """An OCTET STRING."""
        return self.expect(OCTETS).content

    def integer(self, tag: int = INTEGER) -> int:
        """An INTEGER in its shortest form."""
        data = self.expect(tag).content
        if not data or (len(data) > 1 and ((data[0] == 0 and data[1] < 0x80) or (data[0] == 0xFF and data[1] >= 0x80))):
            raise DerError("an integer is not in its shortest form")
        return int.from_bytes(data, "big", signed=True)

    def boolean(self) -> bool:
        """A BOOLEAN."""
        data = self.expect(BOOLEAN).content
        if data not in (b"\x00", b"\xff"):
            raise DerError("a boolean is neither 00 nor FF")
        return data == b"\xff"

    def oid(self) -> str:
        """An OBJECT IDENTIFIER, with dots."""
        data = self.expect(OID).content
        if not data or data[-1] & 0x80 or len(data) > 64:
            raise DerError("an object identifier is cut, empty or too long")
        arcs: list[int] = []
        value, begins = 0, True
        for byte in data:
            if begins and byte == 0x80:
                raise DerError("an object identifier is not in its shortest form")
            value = value << 7 | byte & 0x7F
            begins = not byte & 0x80
            if begins:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))

    def time(self) -> datetime:
        """A UTCTime or GeneralizedTime, in UTC."""
        data = self.content
        try:
            if self.tag == UTC_TIME and (found := _UTC.fullmatch(data)):
                century = b"19" if int(found[1]) >= 50 else b"20"  # RFC 5280, 4.1.2.5.1
                return datetime.strptime((century + found[1] + found[2]).decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            if self.tag == GENERALIZED_TIME and (found := _GENERALIZED.fullmatch(data)):
                moment = datetime.strptime(found[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
                return moment + timedelta(seconds=float(b"0." + found[2]) if found[2] else 0)
        except (ValueError, OverflowError) as error:
            raise DerError("a time that does not exist") from error
        raise DerError("a time in a form that is not taken")


def one(data: bytes) -> DerValue:
    """The only value in these bytes.

    Raises:
        DerError: not DER, or something stands behind it.
    """
    node, end = _read(data, 0)
    if end != len(data):
        raise DerError(f"{len(data) - end} bytes stand behind the value")
    return node


def many(data: bytes) -> list[DerValue]:
    """All values in these bytes, one after the other.

    Raises:
        DerError: not DER.
    """
    found, at = [], 0
    while at < len(data):
        node, at = _read(data, at)
        found.append(node)
    return found


def _read(data: bytes, at: int) -> tuple[DerValue, int]:
    if len(data) - at < 2:
        raise DerError("cut in a tag or length")
    tag, length, start = data[at], data[at + 1], at + 2
    if tag & 0x1F == 0x1F:
        raise DerError("a tag above 30")
    if length == 0x80 or length > 0x84:
        raise DerError("a length without end, or of more than four bytes")
    if length > 0x80:
        size = length & 0x7F
        encoded = data[start : start + size]
        length, start = int.from_bytes(encoded, "big"), start + size
        if len(encoded) != size or length < 0x80 or encoded[0] == 0:
            raise DerError("a length that is cut or not in its shortest form")
    end = start + length
    if end > len(data):
        raise DerError("cut in a value")
    return DerValue(tag, data[at:end], start - at), end
