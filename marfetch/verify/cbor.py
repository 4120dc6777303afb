"""A small, strict CBOR parser (RFC 8949). It requires minimal encodings, definite lengths, unique labels, and no trailing bytes.

Signed data needs a strict parser, but CBOR libraries accept duplicate labels and interpret tags.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

MAX_DEPTH: Final = 8
"""Maximum nesting of arrays, maps and tags."""

Value: TypeAlias = "int | float | bytes | str | bool | list[Value] | dict[int | str, Value] | Tag | None"

_SIMPLE: Final = {20: False, 21: True, 22: None}
_FLOATS: Final = {25: ">e", 26: ">f", 27: ">d"}


class CborError(ValueError):
    """The bytes are not CBOR, or not in the strict form that the parser supports."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged value, whose tag is not interpreted."""

    number: int
    value: Value


def loads(data: bytes) -> Value:
    """Parse bytes that hold exactly one value.

    Raises:
        CborError: the bytes are not CBOR, or not in the strict form.
    """
    value, end = _read(data, 0, MAX_DEPTH)
    if end != len(data):
        raise CborError(f"{len(data) - end} trailing bytes after the value")
    return value


def array_head(size: int) -> bytes:
    """Encode the head of an array that has fewer than 24 values."""
    return bytes([0x80 | size])


def string(data: bytes, major: int = 2) -> bytes:
    """Encode a byte string (major type 2) or text string (major type 3) minimally."""
    size = len(data)
    for limit, number, form in ((1 << 8, 24, ">B"), (1 << 16, 25, ">H"), (1 << 32, 26, ">I")):
        if size < 24:
            return bytes([major << 5 | size]) + data
        if size < limit:
            return bytes([major << 5 | number]) + struct.pack(form, size) + data
    raise CborError("a string of 4 GiB or more")


def _argument(data: bytes, at: int) -> tuple[int, int, int]:
    """Read the head of a value. Return its major type, its argument, and the offset after it."""
    if at >= len(data):
        raise CborError("truncated head")
    major, short = data[at] >> 5, data[at] & 0x1F
    at += 1
    if short < 24:
        return major, short, at
    if short > 27:
        raise CborError("an indefinite length, or a reserved head")
    size = 1 << (short - 24)
    encoded = data[at : at + size]
    value = int.from_bytes(encoded, "big")
    if len(encoded) != size:
        raise CborError("truncated head")
    if major != 7 and value < (24 if size == 1 else 1 << (4 * size)):
        raise CborError("a number is not minimally encoded")
    return major, value, at + size


def _read(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    if depth < 0:
        raise CborError(f"nested more than {MAX_DEPTH} deep")
    begin = at
    major, argument, at = _argument(data, at)
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major in (2, 3):
        end = at + argument
        if end > len(data):
            raise CborError("truncated string")
        if major == 2:
            return data[at:end], end
        try:
            return data[at:end].decode(), end
        except UnicodeDecodeError as error:
            raise CborError("a text string is not UTF-8") from error
    if major == 4:
        return _array(data, at, argument, depth)
    if major == 5:
        return _map(data, at, argument, depth)
    if major == 6:
        value, at = _read(data, at, depth - 1)
        return Tag(argument, value), at
    form = _FLOATS.get(data[begin] & 0x1F)
    if form is not None:
        return struct.unpack(form, data[begin + 1 : at])[0], at
    if argument in _SIMPLE and at == begin + 1:
        return _SIMPLE[argument], at
    raise CborError("an unsupported simple value")


def _array(data: bytes, at: int, size: int, depth: int) -> tuple[Value, int]:
    if size > len(data) - at:
        raise CborError("truncated array: the length exceeds the remaining bytes")
    items: list[Value] = []
    for _ in range(size):
        item, at = _read(data, at, depth - 1)
        items.append(item)
    return items, at


def _map(data: bytes, at: int, size: int, depth: int) -> tuple[Value, int]:
    if 2 * size > len(data) - at:
        raise CborError("truncated map: the length exceeds the remaining bytes")
    found: dict[int | str, Value] = {}
    for _ in range(size):
        if data[at : at + 1] and data[at] >> 5 not in (0, 1, 3):
            raise CborError("a label is neither an integer nor a string")
        label, at = _read(data, at, depth - 1)
        if not isinstance(label, (int, str)):
            raise CborError("a label is neither an integer nor a string")
        if label in found:
            raise CborError("a label appears twice")
        found[label], at = _read(data, at, depth - 1)
    return found, at
