"""Build archives byte by byte, including archives that no correct program writes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: bytes | str,
    size: int = 0,
    *,
    sort: bytes = b"0",
    mode: int = 0o644,
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    link: bytes = b"",
    size_field: bytes | None = None,
    checksum: int | None = None,
) -> bytes:
    """Return a header block (POSIX.1-2017, pax, "ustar Interchange Format")."""
    raw = name.encode() if isinstance(name, str) else name
    assert len(raw) <= 100
    parts = [
        raw.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0%07o\0" % (0, 0),
        b"%011o\0" % size if size_field is None else size_field,
        b"%011o\0" % 0,
        b" " * 8,
        sort,
        link.ljust(100, b"\0"),
        magic,
        bytes(64),
        b"%07o\0%07o\0" % (0, 0),
        prefix.ljust(155, b"\0"),
    ]
    block = b"".join(parts).ljust(BLOCK, b"\0")
    total = sum(block) if checksum is None else checksum
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes | str, data: bytes = b"", *, sort: bytes = b"0", mode: int = 0o644, prefix: bytes = b"") -> bytes:
    return header(name, len(data), sort=sort, mode=mode, prefix=prefix) + padded(data)


def directory(name: bytes | str) -> bytes:
    return header(name, sort=b"5", mode=0o755)


def records(values: Mapping[str, bytes | str]) -> bytes:
    """Return the body of a PAX header."""
    body = b""
    for key, value in values.items():
        rest = b" %b=%b\n" % (key.encode(), value.encode() if isinstance(value, str) else value)
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        body += b"%d" % length + rest
    return body


def pax(values: Mapping[str, bytes | str], *, sort: bytes = b"x") -> bytes:
    return file("PaxHeaders/x", records(values), sort=sort)


def long_name(name: bytes | str) -> bytes:
    raw = name.encode() if isinstance(name, str) else name
    return header("././@LongLink", len(raw) + 1, sort=b"L", magic=b"ustar  \0") + padded(raw + b"\0")


def tar(*members: bytes) -> bytes:
    return b"".join(members) + END


def targz(*members: bytes) -> bytes:
    return gzip.compress(tar(*members), mtime=0)


def chart(name: str = "toy", version: str = "1.2.3", *more: bytes, top: str | None = None) -> bytes:
    """Return a packaged chart."""
    above = name if top is None else top
    text = f"apiVersion: v2\nname: {name}\nversion: {version}\n".encode()
    return targz(file(f"{above}/Chart.yaml", text), file(f"{above}/templates/cm.yaml", b"kind: ConfigMap\n"), *more)


def gzipped_zeros(size: int, before: bytes = b"") -> bytes:
    """Return a gzip stream of these bytes and many zeros, built without holding the zeros in memory; its checksum is wrong."""
    machine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    first = machine.compress(before) + machine.flush(zlib.Z_FULL_FLUSH)
    piece = machine.compress(bytes(1 << 20)) + machine.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, the compressed data does not refer to earlier data, so the same piece can be repeated.
    return b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + first + piece * (size >> 20) + machine.flush() + bytes(8)
