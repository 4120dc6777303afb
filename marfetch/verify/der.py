"""A small, strict DER parser (X.690). It requires definite, minimal lengths, tags up to 30, and no trailing bytes.

Signed data is parsed strictly, because two lenient parsers may read different content from the same bytes.
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
    """The bytes are not DER, or the value does not have the expected type."""


@dataclass(frozen=True, slots=True)
class DerValue:
    """A DER value.

    Attributes:
        tag: the tag, which is the first byte.
        raw: all bytes of the value, including its tag and length.
        start: the offset of the content in `raw`.
    """

    tag: int
    raw: bytes
    start: int

    @property
    def content(self) -> bytes:
        """The bytes after the tag and length."""
        return self.raw[self.start :]

    def children(self, tag: int) -> list[DerValue]:
        """Check that the value has this tag, and return the values that it contains."""
        return many(self.expect(tag).content)

    def expect(self, tag: int) -> DerValue:
        """Check that the value has this tag, and return the value itself.

        Raises:
            DerError: the value has another tag.
        """
        if self.tag != tag:
            raise DerError(f"expected the tag 0x{tag:02x}, not 0x{self.tag:02x}")
        return self

    def only(self, tag: int) -> DerValue:
        """Check that the value has this tag, and return the single value that it contains."""
        found = self.children(tag)
        if len(found) != 1:
            raise DerError(f"expected one value, not {len(found)}")
        return found[0]

    def octets(self) -> bytes:
        """Return the bytes of an OCTET STRING."""
        return self.expect(OCTETS).content

    def integer(self, tag: int = INTEGER) -> int:
        """Return the number in an INTEGER, which must be minimally encoded."""
        data = self.expect(tag).content
        if not data or (len(data) > 1 and ((data[0] == 0 and data[1] < 0x80) or (data[0] == 0xFF and data[1] >= 0x80))):
            raise DerError("an integer is not minimally encoded")
        return int.from_bytes(data, "big", signed=True)

    def boolean(self) -> bool:
        """Return the value of a BOOLEAN."""
        data = self.expect(BOOLEAN).content
        if data not in (b"\x00", b"\xff"):
            raise DerError("a boolean is neither 00 nor FF")
        return data == b"\xff"

    def oid(self) -> str:
        """Return an OBJECT IDENTIFIER in dotted form."""
        data = self.expect(OID).content
        if not data or data[-1] & 0x80 or len(data) > 64:
            raise DerError("an object identifier is truncated, empty or too long")
        arcs: list[int] = []
        value, begins = 0, True
        for byte in data:
            if begins and byte == 0x80:
                raise DerError("an object identifier is not minimally encoded")
            value = value << 7 | byte & 0x7F
            begins = not byte & 0x80
            if begins:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))

    def time(self) -> datetime:
        """Return the time in a UTCTime or GeneralizedTime, in UTC."""
        data = self.content
        try:
            if self.tag == UTC_TIME and (found := _UTC.fullmatch(data)):
                century = b"19" if int(found[1]) >= 50 else b"20"  # RFC 5280, 4.1.2.5.1
                return datetime.strptime((century + found[1] + found[2]).decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            if self.tag == GENERALIZED_TIME and (found := _GENERALIZED.fullmatch(data)):
                moment = datetime.strptime(found[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
                return moment + timedelta(seconds=float(b"0." + found[2]) if found[2] else 0)
        except (ValueError, OverflowError) as error:
            raise DerError("an invalid time") from error
        raise DerError("an unsupported time format")


def one(data: bytes) -> DerValue:
    """Parse bytes that hold exactly one value.

    Raises:
        DerError: the bytes are not DER, or there are trailing bytes.
    """
    node, end = _read(data, 0)
    if end != len(data):
        raise DerError(f"{len(data) - end} trailing bytes after the value")
    return node


def many(data: bytes) -> list[DerValue]:
    """Parse bytes that hold any number of values.

    Raises:
        DerError: the bytes are not DER.
    """
    found, at = [], 0
    while at < len(data):
        node, at = _read(data, at)
        found.append(node)
    return found


def _read(data: bytes, at: int) -> tuple[DerValue, int]:
    if len(data) - at < 2:
        raise DerError("truncated tag or length")
    tag, length, start = data[at], data[at + 1], at + 2
    if tag & 0x1F == 0x1F:
        raise DerError("a tag above 30 is not supported")
    if length == 0x80 or length > 0x84:
        raise DerError("an indefinite length, or one of more than four bytes")
    if length > 0x80:
        size = length & 0x7F
        encoded = data[start : start + size]
        length, start = int.from_bytes(encoded, "big"), start + size
        if len(encoded) != size or length < 0x80 or encoded[0] == 0:
            raise DerError("a length is truncated or not minimally encoded")
    end = start + length
    if end > len(data):
        raise DerError("truncated value")
    return DerValue(tag, data[at:end], start - at), end
