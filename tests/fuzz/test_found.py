"""Regression tests for faults that fuzzing has found, each with minimal bytes."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from marfetch.errors import Error, IntegrityError
from marfetch.layout.blobs import Extent
from marfetch.layout.readonly import members
from marfetch.reference import Reference

from ..world.archives import header, padded
from ..world.archives import tar as made
from .archives import _unpack
from .targets import TARGETS

DIGEST = b'"sha256:' + b"a" * 64 + b'"'

FOUND: dict[str, tuple[str, bytes]] = {
    "an IPv6 address that is not in its short form": ("address", b"https://[::0]:443/a"),
    "a HEAD request with a malformed chunk": (
        "wire",
        b"HEAD /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\n\xe0\r\n\r\n \r\n",
    ),
    "a number beyond a double, which Python reads as infinite": ("json", b"[1e999]"),
    "the same in YAML": ("yaml", b"1e999"),
    "an infinite size in the record of a bundle": (
        "bundle-record",
        b'{"schema":1,"files":{},"base":{"digest":' + DIGEST + b',"size":1e999},"omitted":[]}',
    ),
    "half a character for a user's name": ("credentials", b'{"auths":{"registry.example.com":{"username":"\\ud800","password":"p"}}}'),
    "a host without a dot, which its canonical form lost": ("reference", b"https://registry/a"),
    "a size that begins with a zero byte": ("tar", made(header("x", size_field=b"\0000000000003\0") + padded(b"one"))),
    "a mode that is no number, where other readers see the end": (
        "layout-tar",
        made(header("a"), header("b")[:100] + b"0000644\xcd" + header("b")[108:]),
    ),
    "an owner that is no number": ("tar", made(header("a"), header("b")[:108] + b"\xd3000000\0" + header("b")[116:])),
    "a prefix in a header without the form that has one": ("tar", made(header("x", prefix=b"a", magic=bytes(8)))),
    "a zero byte in the name of the cache, for completion": ("completion", b"verify\n--cache-dir=/nonex\0tent\naks/foo:"),
    "a repository that looks like a host once the official one is left out": ("adoption", b"oras pull mcr.microsoft.com/a1.10"),
    "the same with a path": ("adoption", b"oras pull mcr.microsoft.com/a1.10/b:1"),
    "the same in GNU's form": ("layout-tar", made(header("x", prefix=b"a", magic=b"ustar  \0"))),
}


@pytest.mark.parametrize(("target", "data"), FOUND.values(), ids=FOUND)
def test_what_was_found_stays_mended(target: str, data: bytes) -> None:
    TARGETS[target](data)


def test_numbers_beyond_a_double_are_malformed() -> None:
    for name in ("json", "yaml"):
        with pytest.raises(IntegrityError, match="too large"):
            TARGETS[name].run(b"[1e999]")
        TARGETS[name].run(b"[1e300]")


def test_a_host_without_a_dot_keeps_its_place_by_its_port() -> None:
    reference = Reference.parse("https://registry/a:1")
    assert str(reference) == "registry:443/a:1"
    assert Reference.parse(str(reference)) == reference


FIELDS = {"mode": 100, "owner": 108, "group": 116, "size": 124, "time": 136, "device": 329}


@pytest.mark.parametrize("at", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("junk", [b"\xcd", b"x", b"8"])
def test_a_field_that_ends_an_archive_for_other_readers_is_refused(at: int, junk: bytes, tmp_path: Path) -> None:
    """Python's `tarfile` treats a header with such a field as the end of the archive."""
    block = bytearray(header("b"))
    block[at + 2 : at + 3] = junk
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * ord(" "))
    data = made(header("a"), bytes(block))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["a"]
    with pytest.raises(Error):
        _unpack(data)
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    number = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(Error):
            list(members(Extent.of(number, str(path)), str(path)))
    finally:
        os.close(number)
