"""The tar reader: reading by position (layouts) and as a stream (unpacking) have the same result in every edge case."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from marfetch.chart.expected import Unpacking
from marfetch.destination.archive import Archive
from marfetch.errors import Error
from marfetch.layout.blobs import Extent
from marfetch.layout.readonly import members
from marfetch.oci import Descriptor, Digest
from marfetch.tar import Fault

from .world.archives import END, directory, file, header, long_name, padded, pax, records, tar

BROKEN, AMBIGUOUS, REFUSED, LIMIT = Fault.BROKEN, Fault.AMBIGUOUS, Fault.REFUSED, Fault.LIMIT
CODES = {
    BROKEN: ("malformed", "malformed"),
    AMBIGUOUS: ("malformed", "member-refused"),
    REFUSED: ("archive-refused", "member-refused"),
    LIMIT: ("archive-refused", "limit-passed"),
}
"""Fault → error codes in a layout and in unpacking."""

ONE = file("x", b"1")
LONG = "d" * 60 + "/" + "n" * 60
STAR = header("n", prefix=b"p" * 131)[:476] + b"0" * 24 + bytes(8) + b"tar\0"


def patched(block: bytes, at: int, field: bytes) -> bytes:
    """Return a header with one field changed and a correct checksum."""
    changed = block[:at] + field + block[at + len(field) : 148] + b" " * 8 + block[156:] if at < 148 else b""
    changed = changed or block[:148] + b" " * 8 + block[156:at] + field + block[at + len(field) :]
    return changed[:148] + b"%06o\0 " % sum(changed) + changed[156:]


CASES: dict[str, tuple[bytes, dict[str, bytes | None] | Fault]] = {
    # The rows of the table in `docs/reference/archives.md`, in the same order.
    "an empty size": (tar(header("x", size_field=bytes(12))), BROKEN),
    "a size of spaces": (tar(header("x", size_field=b" " * 12)), BROKEN),
    "an old-style directory": (tar(header("a/", sort=b"\0", magic=bytes(8)), file("a/x", b"1")), {"a": None, "a/x": b"1"}),
    "an old-style directory, by its long name only": (tar(long_name(f"{LONG}/"), header("a", sort=b"\0")), AMBIGUOUS),
    "an old-style directory, by its short name only": (tar(pax({"path": "a"}), header("a/", sort=b"\0")), AMBIGUOUS),
    "a file with a slash": (tar(file("a/", b"")), REFUSED),
    "the character set that is the default": (tar(pax({"hdrcharset": "ISO-IR 10646 2000 UTF-8"}), ONE), {"x": b"1"}),
    "another character set": (tar(pax({"hdrcharset": "BINARY"}), ONE), REFUSED),
    "a character set for all members": (tar(pax({"hdrcharset": "ISO-IR 10646 2000 UTF-8"}, sort=b"g"), ONE), REFUSED),
    "a link path of a file": (tar(pax({"linkpath": "y"}), ONE), REFUSED),
    "a link path for all members": (tar(pax({"linkpath": "y"}, sort=b"g"), ONE), REFUSED),
    "keys that say nothing of names and sizes": (
        tar(pax({"mtime": "1.5", "SCHILY.xattr.user.ü": b"\xff\n\0=", "LIBARCHIVE.creationtime": "1", "RHT.security.selinux": "s"}), ONE),
        {"x": b"1"},
    ),
    "a key of an unknown vendor": (tar(pax({"ACME.key": "1"}), ONE), REFUSED),
    "the key of sparse files of GNU tar": (tar(pax({"GNU.sparse.size": "9"}), ONE), REFUSED),
    "the key of sparse files of star": (tar(pax({"SCHILY.realsize": "9"}), ONE), REFUSED),
    "the key of sparse files of Solaris": (tar(pax({"SUN.holesdata": " 0 1"}), ONE), REFUSED),
    "the same size twice": (tar(pax({"size": "1"}), ONE), {"x": b"1"}),
    "two sizes": (tar(pax({"size": "512"}), ONE), AMBIGUOUS),
    "a comment for all members": (tar(pax({"comment": "0123abc"}, sort=b"g"), ONE), {"x": b"1"}),
    "a path for all members": (tar(pax({"path": "y"}, sort=b"g"), ONE), AMBIGUOUS),
    "a size for all members": (tar(pax({"size": "1"}, sort=b"g"), ONE), AMBIGUOUS),
    "a prefix in POSIX's form": (tar(file("x", b"1", prefix=b"a")), {"a/x": b"1"}),
    "a prefix in GNU tar's form": (tar(header("x", prefix=b"a", magic=b"ustar  \0")), BROKEN),
    "a prefix in the oldest form": (tar(header("x", prefix=b"a", magic=bytes(8))), BROKEN),
    "a prefix in star's form": (tar(patched(STAR, 508, b"tar\0")), BROKEN),
    "another version of POSIX's form": (tar(header("x", magic=b"ustar\0 \0")), {"x": b""}),
    "an unknown form": (tar(header("x", magic=b"ustar.00")), BROKEN),
    "zeros behind the end": (tar(ONE) + bytes(10240), {"x": b"1"}),
    "a second archive behind the end": (tar(ONE) + tar(file("y")), BROKEN),
    "one block of zeros at the end": (ONE + bytes(512), BROKEN),
    # Further cases in which the two earlier readers differed.
    "two PAX headers": (tar(pax({"path": "y"}), pax({"mtime": "1"}), ONE), BROKEN),
    "a key twice": (tar(file("p", records({"mtime": "1"}) * 2, sort=b"x"), ONE), BROKEN),
    "a record whose length begins with zero": (tar(file("p", b"011 mtime=1\n", sort=b"x"), ONE), BROKEN),
    "a long name and a PAX header": (tar(long_name(LONG), pax({"mtime": "1"}), ONE), {LONG: b"1"}),
    "a long name and a PAX path": (tar(long_name(LONG), pax({"path": "y"}), ONE), AMBIGUOUS),
    "two long names": (tar(long_name("y"), long_name("z"), ONE), BROKEN),
    "a NUL in a long name": (tar(long_name(b"a\0b"), ONE), AMBIGUOUS),
    "a NUL in a PAX path": (tar(pax({"path": b"a\0b"}), ONE), AMBIGUOUS),
    "an extended header before the end": (ONE + pax({"mtime": "1"}) + END, BROKEN),
    "a negative mode": (tar(patched(header("x"), 100, b"\xff" * 8)), BROKEN),
    "an empty owner": (tar(patched(header("x"), 108, bytes(8))), {"x": b""}),
    "a size in GNU tar's form": (tar(header("x", size_field=b"\x80" + (3).to_bytes(11, "big")) + padded(b"one")), {"x": b"one"}),
    "a directory with content": (tar(header("d", 3, sort=b"5") + padded(b"abc")), AMBIGUOUS),
    "a directory with two slashes": (tar(directory("a//")), REFUSED),
    "a directory without a name": (tar(directory("")), REFUSED),
    "the top itself": (tar(directory("./"), file("./x", b"1")), {"x": b"1"}),
    "a name that is not UTF-8": (tar(file(b"a\xff")), REFUSED),
    "a path of 1025 bytes": (tar(pax({"path": "/".join(["n" * 40] * 24 + ["n" * 41])}), ONE), REFUSED),
    "an extended header of 1 MiB": (tar(pax({"comment": "c" * (1 << 20)}), ONE), LIMIT),
}  # fmt: skip


def by_position(path: Path) -> dict[str, bytes | None] | str:
    """Return the content of a layout's archive, or the error code."""
    try:
        with path.open("rb") as open_file:
            archive = Extent.of(open_file.fileno(), str(path))
            return {
                one.name: None if one.is_directory else archive.read(one.offset, one.size)
                for one in members(archive, str(path))
                if one.name != "."
            }
    except Error as error:
        return error.code


def as_stream(data: bytes) -> dict[str, bytes | None] | str:
    """Return the unpacked files, or the error code."""
    found: dict[str, bytes | None] = {}
    try:
        with Archive(io.BytesIO(data), Descriptor("a/b", Digest.of(data), len(data)), Unpacking("x.tar")) as archive:
            for member in archive:
                path = "/".join(node.name for node in member.way)
                found[path] = None if member.is_directory else b"".join(archive.pieces())
    except Error as error:
        return error.code
    return found


@pytest.mark.parametrize(("data", "verdict"), CASES.values(), ids=CASES)
def test_layouts_and_unpacking_read_an_archive_alike(data: bytes, verdict: dict[str, bytes | None] | Fault, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    found = by_position(tmp_path / "x.tar"), as_stream(data)
    assert found == (CODES[verdict] if isinstance(verdict, Fault) else (verdict, verdict))


TAKEN = {name: (data, verdict) for name, (data, verdict) in CASES.items() if not isinstance(verdict, Fault)}


@pytest.mark.parametrize(("data", "verdict"), TAKEN.values(), ids=TAKEN)
def test_the_standard_library_reads_accepted_archives_alike(data: bytes, verdict: dict[str, bytes | None]) -> None:
    found: dict[str, bytes | None] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            found[member.name.removeprefix("./")] = stream.read() if stream is not None else None
    assert {name: content for name, content in found.items() if name != "."} == verdict
