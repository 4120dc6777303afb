"""Unpacking: complete or not at all, only inside the destination, and only unambiguous archives."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import posixpath
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marfetch.chart.expected import ExpectedChart, Unpacking
from marfetch.destination import packed as limits
from marfetch.destination.archive import Archive
from marfetch.destination.destination import Destination, OutputState
from marfetch.destination.directory import Directory
from marfetch.destination.packed import PIECE, Packed
from marfetch.errors import Error, IntegrityError, PolicyError, StorageError

from ..world.archives import chart, directory, file, gzipped_zeros, header, long_name, padded, pax, records, tar, targz
from ..world.paths import ROOT
from ..world.unpacking import TOY, seen, state, unpack, wish

# -- archives that are unpacked


def test_files_and_directories_are_unpacked_unchanged(tmp_path: Path) -> None:
    data = targz(directory("a/"), file("a/x", b"one"), directory("a/empty"), file("b/c/y", b""), file("top", b"x" * 600_000))
    assert unpack(tmp_path / "out", data) == tmp_path / "out" / "toy"
    assert seen(tmp_path / "out") == {
        "toy": None, "toy/a": None, "toy/a/empty": None, "toy/a/x": b"one", "toy/b": None, "toy/b/c": None, "toy/b/c/y": b"",
        "toy/top": b"x" * 600_000,
    }  # fmt: skip


LONG = "d" * 60 + "/" + "n" * 60

TAKEN: dict[str, tuple[bytes, dict[str, bytes | None]]] = {
    "nothing": (tar(), {}),
    "a plain tar": (tar(file("x", b"1")), {"x": b"1"}),
    "names that begin with ./": (targz(directory("./"), file("./a/x", b"1")), {"a": None, "a/x": b"1"}),
    "a directory behind its files": (targz(file("a/x", b"1"), directory("a")), {"a": None, "a/x": b"1"}),
    "a directory of the oldest tars": (targz(header("a/", sort=b"\0", magic=bytes(8))), {"a": None}),
    "a file of the oldest tars": (targz(file("a", b"1", sort=b"\0")), {"a": b"1"}),
    "a prefix": (targz(file("x", b"1", prefix=b"a/b")), {"a": None, "a/b": None, "a/b/x": b"1"}),
    "a path in a PAX header": (targz(pax({"path": LONG, "mtime": "1.5"}), file("x", b"1")), {LONG[:60]: None, LONG: b"1"}),
    "the same size in a PAX header": (targz(pax({"size": "1"}), file("x", b"1")), {"x": b"1"}),
    "binary extended attributes": (targz(pax({"SCHILY.xattr.user.x": b"\xff\n\0="}), file("x", b"1")), {"x": b"1"}),
    "a global PAX header with a comment": (targz(pax({"comment": "0123abc"}, sort=b"g"), file("x", b"1")), {"x": b"1"}),
    "a long name of GNU tar": (targz(long_name(LONG), file(LONG[:100], b"1")), {LONG[:60]: None, LONG: b"1"}),
    "a size in GNU tar's form": (
        targz(header("x", size_field=b"\x80" + (3).to_bytes(11, "big")) + padded(b"one")),
        {"x": b"one"},
    ),
    "umlauts": (targz(file("ü/ß", b"1")), {"ü": None, "ü/ß": b"1"}),
    "255 bytes of name": (targz(pax({"path": "n" * 255}), file("x", b"1")), {"n" * 255: b"1"}),
    "two gzip streams, one behind the other": (
        gzip.compress(file("x", b"1")[:700]) + gzip.compress(file("x", b"1")[700:] + bytes(1024)),
        {"x": b"1"},
    ),
    "many blocks of zeros at the end": (gzip.compress(tar(file("x", b"1")) + bytes(10240)), {"x": b"1"}),
}


@pytest.mark.parametrize(("data", "content"), TAKEN.values(), ids=TAKEN)
def test_archives_of_correct_programs_are_accepted(tmp_path: Path, data: bytes, content: dict[str, bytes | None]) -> None:
    assert seen(unpack(tmp_path / "out", data)) == content


FORMATS = {"ustar": tarfile.USTAR_FORMAT, "GNU": tarfile.GNU_FORMAT, "PAX": tarfile.PAX_FORMAT}


@pytest.mark.parametrize("style", FORMATS.values(), ids=FORMATS)
def test_archives_of_the_standard_library_are_taken(tmp_path: Path, style: int) -> None:
    raw = io.BytesIO()
    names = {"a/b/x": b"1", "y" * 90: b"2" * 3000, f"{'d' * 80}/{'e' * 60}/z": b"3"}
    with tarfile.open(fileobj=raw, mode="w:gz", format=style) as archive:
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1.5
            archive.addfile(member, io.BytesIO(data))
    place = unpack(tmp_path / "out", raw.getvalue())
    assert {name: data for name, data in seen(place).items() if data is not None} == names


@pytest.mark.parametrize(("umask", "plain", "executable"), [(0o022, 0o644, 0o755), (0o000, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_only_the_right_to_execute_is_kept_and_the_umask_counts(tmp_path: Path, umask: int, plain: int, executable: int) -> None:
    data = targz(file("plain", mode=0o666), file("run", mode=0o6777), file("secret", mode=0), header("d", sort=b"5", mode=0o3777))
    before = os.umask(umask)
    try:
        place = unpack(tmp_path / "out", data)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [place, *place.iterdir()]}
    assert modes == {"toy": executable, "plain": plain, "run": executable, "secret": plain, "d": executable}


# -- archives that are refused

RIGHT_TO_LEFT = "a\u202etxt.exe"
REFUSED: dict[str, tuple[bytes, str]] = {
    # C01, P01: paths that lead out of the directory
    "..": (file("../x"), "`..`"),
    ".. in the middle": (file("a/../../x"), "`..`"),
    ". in the middle": (file("a/./x"), "`.`"),
    "two slashes": (file("a//x"), "empty"),
    "an absolute path": (file("/etc/x"), "absolute"),
    "a network path": (file("//host/x"), "absolute"),
    "a drive": (file("C:/x"), "drive"),
    "a drive without a slash": (file("a/C:x"), "drive"),
    "a UNC path": (file("\\\\host\\share\\x"), "backslash"),
    "a backslash": (file("a\\..\\..\\x"), "backslash"),
    "an absolute directory": (directory("/"), "absolute"),
    ".. as a directory": (directory("../"), "`..`"),
    ".. in a prefix": (file("x", prefix=b"../a"), "`..`"),
    ".. in a PAX header": (pax({"path": "../x"}) + file("x"), "`..`"),
    ".. in a long name of GNU tar": (long_name("../x") + file("x"), "`..`"),
    # P02, P03: unsafe names
    "a NUL": (pax({"path": b"a\0b"}) + file("x"), "U+0000"),
    "a NUL in a long name": (long_name(b"a\0b") + file("x"), "U+0000"),
    "an escape": (file("a\x1b[2Jb"), "U+001B"),
    "a line feed": (file("a\nb"), "U+000A"),
    "right to left": (file(RIGHT_TO_LEFT), "U+202E"),
    "not UTF-8": (file(b"a\xff"), "UTF-8"),
    "a device of Windows": (file("a/con"), "device"),
    "a device of Windows with an ending": (file("AUX.txt"), "device"),
    "a trailing dot": (file("a./x"), "dot"),
    "a trailing space": (file("a "), "space"),
    "a stream": (file("name:stream"), "one of"),
    "a stream of a name that looks like a drive": (file("a:stream"), "drive"),
    "a wildcard": (file("a*"), "one of"),
    "no name": (file(""), "empty"),
    "no name, a directory": (directory(""), "empty"),
    "a file with a slash": (file("a/"), "empty"),
    "256 bytes of name": (pax({"path": "n" * 256}) + file("x"), "255 bytes"),
    "a path of 1025 bytes": (pax({"path": "/".join(["n" * 40] * 24 + ["n" * 41])}) + file("x"), "1024 bytes"),
    # C02: members that are neither files nor directories
    "a symbolic link": (header("x", sort=b"2", link=b"y"), "symbolic link"),
    "a symbolic link that leads out": (header("x", sort=b"2", link=b"../../etc"), "symbolic link"),
    "a symbolic link with a long name": (file("././@LongLink", b"y\0", sort=b"K") + header("x", sort=b"2"), "link"),
    "a hard link": (file("y") + header("x", sort=b"1", link=b"y"), "hard link"),
    "a character device": (header("x", sort=b"3"), "character device"),
    "a block device": (header("x", sort=b"4"), "block device"),
    "a FIFO": (header("x", sort=b"6"), "FIFO"),
    "a sparse file of GNU tar": (header("x", sort=b"S", magic=b"ustar  \0"), "sparse"),
    "a sparse file in a PAX header": (pax({"GNU.sparse.major": "1", "GNU.sparse.name": "../x"}) + file("x"), "sparse"),
    "a sparse file of star": (pax({"SCHILY.realsize": "100"}) + file("x"), "sparse"),
    "a volume label": (header("x", sort=b"V", magic=b"ustar  \0"), "type 'V'"),
    "a multi-volume part": (header("x", sort=b"M", magic=b"ustar  \0"), "type 'M'"),
    "an unknown type": (header("x", sort=b"\xff"), "type"),
    "a directory with content": (header("x", 3, sort=b"5") + padded(b"abc"), "directory with content"),
    # P04, C03: names that clash
    "a file twice": (file("x") + file("x", b"2"), "twice"),
    "a directory twice": (directory("x") + directory("x/"), "twice"),
    "twins in case": (file("a/Readme") + file("a/README"), "same as `Readme`"),
    "twin directories": (file("A/x") + file("a/y"), "same as `A`"),
    "twins in normal form": (file("ü") + file(unicodedata.normalize("NFD", "ü")), "same as"),
    "twins in folded case": (file("straße") + file("STRASSE"), "same as"),
    "a file where a directory is needed": (file("x") + file("x/y"), "is a file"),
    "a directory's name for a file": (file("x/y") + file("x"), "other members need a directory"),
    "a stated directory's name for a file": (directory("x") + file("x"), "twice"),
    "a file's name for a directory": (file("x") + directory("x"), "twice"),
    # headers that two tar programs read differently
    "another size in a PAX header": (pax({"size": "512"}) + file("x", b"1"), "two sizes"),
    "a negative size in a PAX header": (pax({"size": "-1"}) + file("x", b"1"), "two sizes"),
    "another character set": (pax({"hdrcharset": "BINARY"}) + file("x", b"1"), "UTF-8"),
    "a PAX path and a long name": (long_name("y") + pax({"path": "z"}) + file("x"), "two long names"),
    "a path for all members": (pax({"path": "y"}, sort=b"g") + file("x"), "global"),
    "a size for all members": (pax({"size": "0"}, sort=b"g") + file("x"), "global"),
}


@pytest.mark.parametrize(("members", "rule"), REFUSED.values(), ids=REFUSED)
def test_an_unsafe_member_is_refused_and_nothing_stays(tmp_path: Path, members: bytes, rule: str) -> None:
    data = targz(file("first", b"1"), members, file("last", b"1"))
    (tmp_path / "out").mkdir()
    with pytest.raises(PolicyError) as caught:
        unpack(tmp_path / "out", data)
    assert caught.value.code == "member-refused"
    assert rule in str(caught.value.context["rule"])
    assert "`toy-1.2.3.tgz`" in caught.value.message
    assert str(caught.value.context["member"])[:20] in caught.value.message
    assert seen(tmp_path) == {"home": None, "out": None}


def truncated(data: bytes, less: int) -> bytes:
    return data[:-less]


GOOD = tar(file("first", b"1"), file("x", b"one"))
BROKEN: dict[str, tuple[bytes, str]] = {
    "no bytes": (b"", "truncated"),
    "HTML": (b"<html>" * 100, "not a tar archive"),
    "HTML, gzipped": (gzip.compress(b"<html>" * 100), "not a tar archive"),
    "a zip": (b"PK\x03\x04" + bytes(600), "not a tar archive"),
    "no end": (gzip.compress(GOOD[:-1024]), "truncated"),
    "half an end": (gzip.compress(GOOD[:-512]), "truncated"),
    "cut in a file": (gzip.compress(GOOD[: 3 * 512 + 2]), "truncated in `x`"),
    "cut in a header": (gzip.compress(GOOD[:1100]), "truncated"),
    "cut in an extended header": (gzip.compress(pax({"path": "y" * 900})[:800]), "in the middle"),
    "an extended header of nothing": (targz(pax({"path": "y"})), "no member follows"),
    "a long name of nothing": (targz(long_name("y")), "no member follows"),
    "a cut gzip stream": (truncated(gzip.compress(GOOD), 9), "truncated"),
    "a cut gzip trailer": (truncated(gzip.compress(GOOD), 1), "truncated"),
    "a wrong gzip checksum": (gzip.compress(GOOD)[:-8] + bytes(8), "corrupted"),
    "junk in the gzip stream": (gzip.compress(GOOD)[:10] + b"\x07junk", "corrupted"),
    "junk behind the gzip stream": (gzip.compress(GOOD) + b"junk", "after the end of its gzip stream"),
    "one byte behind the gzip stream": (gzip.compress(GOOD) + b"\x1f", "after the end of its gzip stream"),
    "zeros behind the gzip stream": (gzip.compress(GOOD) + bytes(512), "after the end of its gzip stream"),
    "half a second gzip stream": (gzip.compress(GOOD) + gzip.compress(bytes(512))[:12], "truncated"),
    "junk behind the end": (gzip.compress(GOOD + b"junk"), "after its end"),
    "a second archive behind the end": (gzip.compress(GOOD + GOOD), "after its end"),
    "a header behind one block of zeros": (gzip.compress(GOOD[:-1024] + bytes(512) + file("y") + bytes(1024)), "after its end"),
    "junk behind the end of a plain tar": (GOOD + b"junk", "after its end"),
    "a wrong checksum": (targz(file("first"), header("x", checksum=1)), "the header after `first`"),
    "a negative size": (targz(header("x", size_field=b"-0000000001\0")), "size"),
    "a negative size in GNU tar's form": (targz(header("x", size_field=b"\xff" * 12)), "size"),
    "a size of letters": (targz(header("x", size_field=b"abcdefghijk\0")), "size"),
    "two PAX headers": (targz(pax({"path": "y"}), pax({"mtime": "1"}), file("x")), "two extended headers"),
    "two long names": (targz(long_name("y"), long_name("z"), file("x")), "two long names"),
    "a PAX record without a length": (targz(file("p", b"path=y\n", sort=b"x"), file("x")), "records"),
    "a PAX record that is too long": (targz(file("p", b"99 path=y\n", sort=b"x"), file("x")), "records"),
    "a PAX record of a huge length": (targz(file("p", b"9999999999 path=y\n", sort=b"x"), file("x")), "records"),
    "a PAX record without an end": (targz(file("p", b"9 path=yy", sort=b"x"), file("x")), "records"),
    "a PAX record without a sign": (targz(file("p", b"7 path\n", sort=b"x"), file("x")), "records"),
    "a PAX key twice": (targz(file("p", records({"path": "y"}) * 2, sort=b"x"), file("x")), "records"),
    "junk behind PAX records": (targz(file("p", records({"path": "y"}) + b"\0\0", sort=b"x"), file("x")), "records"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_an_incomplete_archive_is_malformed_and_nothing_stays(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(IntegrityError) as caught:
        unpack(tmp_path / "out", data)
    assert caught.value.code == "malformed"
    assert reason in caught.value.message
    assert "`toy-1.2.3.tgz`" in caught.value.message
    assert seen(tmp_path) == {"home": None, "out": None}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_an_archive_that_is_cut_anywhere_is_malformed(tmp_path: Path, packed: bool) -> None:
    whole = gzip.compress(GOOD) if packed else GOOD
    for length in range(0, len(whole), 1 if packed else 61):
        with pytest.raises(IntegrityError) as caught:
            unpack(tmp_path / "out", whole[:length])
        assert caught.value.code == "malformed"
    assert seen(tmp_path / "out") == {}


# -- limits


def limited(out: Path, data: bytes, expected: ExpectedChart | None = None) -> str:
    with pytest.raises(PolicyError) as caught:
        unpack(out, data, expected)
    assert caught.value.code == "limit-passed"
    assert "`toy-1.2.3.tgz`" in caught.value.message
    assert seen(out) == {}
    return caught.value.message


def test_the_number_of_members_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MEMBERS", 50)
    names = [f"d/{number}" for number in range(50)]
    assert len(seen(unpack(tmp_path / "good", targz(*map(file, names[:49]))))) == 50
    assert "too many files and directories" in limited(tmp_path / "out", targz(*map(file, names)))
    # Directories that appear only in paths count too. Extended headers and gzip streams have their own limits.
    deep = [file(f"{number}/a/b/c/d") for number in range(11)]
    assert "too many" in limited(tmp_path / "out", targz(*deep))
    assert "too many extended headers" in limited(tmp_path / "out", targz(*[pax({"comment": "x"}, sort=b"g")] * 51))
    assert "too many gzip streams" in limited(tmp_path / "out", gzip.compress(b"") * 51)


@pytest.mark.slow
def test_20_001_members_are_too_many() -> None:
    data = targz(b"".join(directory(str(number)) for number in range(20_001)))
    members = iter(Archive(io.BytesIO(data), wish(data).descriptor, Unpacking("x.tgz")))
    assert sum(1 for _ in itertools.islice(members, 20_000)) == 20_000
    with pytest.raises(PolicyError, match="20000"):
        next(members)


def test_the_depth_of_an_archive_is_limited(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 64)
    assert len(seen(unpack(tmp_path / "good", targz(pax({"path": deep}), file("x"))))) == 64
    assert "65 parts" in limited(tmp_path / "out", targz(pax({"path": f"{deep}/x"}), file("x")))
    assert "200 parts" in limited(tmp_path / "out", targz(pax({"path": "/".join(["d"] * 200)}), directory("x")))


def test_the_size_of_a_member_is_limited(tmp_path: Path) -> None:
    assert "5242881 bytes" in limited(tmp_path / "out", targz(header("toy/x", (5 << 20) + 1)), TOY)
    assert str(limits.MAX_FILE) in limited(tmp_path / "out", targz(header("x", limits.MAX_FILE + 1)))
    huge = b"\x80" + (1 << 80).to_bytes(11, "big")
    assert str(1 << 80) in limited(tmp_path / "out", targz(header("x", size_field=huge)))


def test_the_size_of_an_extended_header_is_limited(tmp_path: Path) -> None:
    for sort in (b"x", b"g", b"L"):
        assert "extended header has 1073741824 bytes" in limited(tmp_path / "out", targz(header("x", 1 << 30, sort=sort)))


def test_a_chart_file_has_a_largest_size(tmp_path: Path) -> None:
    assert "`Chart.yaml`" in limited(tmp_path / "out", targz(file("toy/Chart.yaml", b"#" * (1 << 20) + b"x")), TOY)


def test_the_unpacked_size_of_an_archive_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CHART", 30 << 10)
    monkeypatch.setattr(limits, "MAX_UNPACKED", 60 << 10)
    text = os.urandom(20 << 10)
    limited(tmp_path / "out", chart("toy", "1.2.3", file("toy/x", text), file("toy/y", text)), TOY)
    unpack(tmp_path / "good", targz(file("x", text), file("y", text)))
    limited(tmp_path / "out", tar(file("x", text), file("y", text), file("z", text)))


CHART_HEAD = file("toy/Chart.yaml", b"name: toy\nversion: 1.2.3\n")
BOMBS: dict[str, tuple[bytes, ExpectedChart | None]] = {
    "in one file": (gzipped_zeros(1 << 30, header("x", 1 << 30)), None),
    "behind the end": (gzipped_zeros(1 << 30, file("x")), None),
    "behind the end of a chart": (gzipped_zeros(1 << 30, CHART_HEAD), TOY),
    "behind the files of a chart": (gzipped_zeros(1 << 30, CHART_HEAD + header("toy/x", 5 << 20)), TOY),
    "in many gzip streams": (gzip.compress(file("x")) + gzip.compress(bytes(8 << 20)) * 128, None),
}


@pytest.mark.slow
@pytest.mark.parametrize(("data", "expected"), BOMBS.values(), ids=BOMBS)
def test_a_gibibyte_of_zeros_ends_early_and_needs_little_memory(
    tmp_path: Path, data: bytes, expected: ExpectedChart | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    honest = Packed.too_much

    def noted(self: Packed, what: str, rule: str) -> NoReturn:
        given.append(self.given)
        honest(self, what, rule)

    monkeypatch.setattr(Packed, "too_much", noted)
    allowed = limits.MAX_CHART if expected else limits.MAX_RATIO * len(data)
    tracemalloc.start()
    try:
        limited(tmp_path / "out", data, expected)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert allowed < 1 << 28
    assert len(given) == 1
    assert allowed < given[0] <= allowed + PIECE
    assert peak < 8 << 20


def test_what_is_small_may_pack_well(tmp_path: Path) -> None:
    data = targz(file("x", bytes(9 << 20)))
    assert len(data) * limits.MAX_RATIO < 9 << 20
    assert (unpack(tmp_path / "out", data) / "x").stat().st_size == 9 << 20


# -- charts


def test_a_chart_becomes_the_directory_of_its_name(tmp_path: Path) -> None:
    assert unpack(tmp_path / "out", chart(), TOY) == tmp_path / "out" / "toy"
    assert set(seen(tmp_path / "out")) == {"toy", "toy/Chart.yaml", "toy/templates", "toy/templates/cm.yaml"}


def test_the_directory_of_a_chart_in_its_archive_may_have_any_name(tmp_path: Path) -> None:
    assert seen(unpack(tmp_path / "out", chart(top="bar"), TOY)) == seen(unpack(tmp_path / "like", chart(), TOY))


def windows(*names: str) -> bytes:
    """Return a chart with backslashes in its names, as `helm package` wrote it on Windows."""
    text = b"name: toy\nversion: 1.2.3\n"
    return targz(file("toy\\Chart.yaml", text), *(file(name, b"1") for name in names))


def test_a_chart_packed_on_windows_is_taken(tmp_path: Path) -> None:
    place = unpack(tmp_path / "out", windows("toy\\templates\\x.yaml", "toy\\a/b"), TOY)
    assert set(seen(place)) == {"Chart.yaml", "templates", "templates/x.yaml", "a", "a/b"}


@pytest.mark.parametrize(
    "name",
    [
        *("toy\\..\\..\\x", "..\\x", "\\x", "\\\\host\\x", "toy\\\\x", "C:\\x", "toy\\C:\\x", "toy\\c:x"),
        *("toy\\.git\\config", "toy\\.GIT/config", "toy\\git~1", "toy\\a\\.git. \\x", "toy\\con", "toy\\x\\"),
        *("toy/a\\b", "toy\\Chart.yaml", "toy/Chart.yaml", "toy\\chart.yaml"),
    ],
)
def test_windows_paths_out_of_the_directory_are_refused_in_a_chart_too(tmp_path: Path, name: str) -> None:
    with pytest.raises(PolicyError) as caught:
        unpack(tmp_path / "out", windows(name), TOY)
    assert caught.value.code in ("member-refused", "chart-refused")
    assert seen(tmp_path / "out") == {}


def test_members_that_differ_only_in_their_slashes_collide(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        unpack(tmp_path / "out", windows("toy\\a\\b", "toy/a/b"), TOY)
    assert caught.value.context["rule"] == "it appears twice"


def with_chart(text: bytes, top: str = "toy") -> bytes:
    return targz(file(f"{top}/Chart.yaml", text), file(f"{top}/values.yaml", b"a: 1\n"))


OTHER_CHARTS: dict[str, tuple[bytes, str, str]] = {
    "another name": (chart("bar", top="toy"), "chart-refused", "`bar`, not `toy`"),
    "another name and directory": (chart("bar"), "chart-refused", "`bar`, not `toy`"),
    "the name .": (chart(".", top="toy"), "chart-refused", "`.`, not `toy`"),
    "the name ..": (chart("'..'", top="toy"), "chart-refused", "`..`, not `toy`"),
    "a name that leads elsewhere": (chart("../../x", top="toy"), "chart-refused", "`../../x`, not `toy`"),
    "a name in another case": (chart("Toy", top="toy"), "chart-refused", "`Toy`, not `toy`"),
    "no name": (with_chart(b"version: 1.2.3\n"), "chart-refused", "`None`, not `toy`"),
    "a name that is a list": (with_chart(b"name: [toy]\nversion: 1.2.3\n"), "chart-refused", "`['toy']`, not `toy`"),
    "another version": (chart("toy", "1.2.4"), "chart-refused", "`1.2.4`, not `1.2.3`"),
    "a prerelease of the version": (chart("toy", "1.2.3-rc.1"), "chart-refused", "`1.2.3-rc.1`, not `1.2.3`"),
    "no version": (with_chart(b"name: toy\n"), "chart-refused", "`None`, not `1.2.3`"),
    "a version that is a number": (with_chart(b"name: toy\nversion: 1.2\n"), "chart-refused", "`1.2`, not `1.2.3`"),
    "a second directory": (chart("toy", "1.2.3", file("bar/x")), "chart-refused", "`bar/x`"),
    "a file beside the directory": (chart("toy", "1.2.3", file("x")), "chart-refused", "`x`"),
    "a file instead of the directory": (targz(file("toy", b"x")), "chart-refused", "`toy`"),
    "no Chart.yaml": (targz(file("toy/values.yaml", b"a: 1\n")), "malformed", "no `toy/Chart.yaml`"),
    "a Chart.yaml in another case": (targz(file("toy/chart.yaml", b"name: toy\n")), "malformed", "no `toy/Chart.yaml`"),
    "a Chart.yaml further down": (targz(file("toy/a/Chart.yaml", b"name: toy\n")), "malformed", "no `toy/Chart.yaml`"),
    "two Chart.yaml": (chart("toy", "1.2.3", file("toy/Chart.yaml", b"name: bar\n")), "member-refused", "twice"),
    "a Chart.yaml that is a link": (targz(header("toy/Chart.yaml", sort=b"2", link=b"/etc/passwd")), "member-refused", "link"),
    "a Chart.yaml that is a directory": (targz(directory("toy/Chart.yaml")), "malformed", "not a mapping"),
    "nothing": (targz(), "malformed", "no `toy/Chart.yaml`"),
    "not gzipped": (tar(file("toy/Chart.yaml", b"name: toy\nversion: 1.2.3\n")), "malformed", "not compressed with gzip"),
    "an empty Chart.yaml": (with_chart(b""), "malformed", "not a mapping"),
    "a list": (with_chart(b"[a]"), "malformed", "not a mapping"),
    "no YAML": (with_chart(b"name: [\n"), "malformed", "line"),
    "a YAML bomb": (with_chart(b"a: &a [x, x]\nb: [*a, *a]\nname: toy\nversion: 1.2.3\n"), "malformed", "an anchor is not allowed"),
    "a python tag": (with_chart(b"name: !!python/name:os.system toy\nversion: 1.2.3\n"), "malformed", "a tag"),
    "the name twice": (with_chart(b"name: bar\nversion: 1.2.3\nname: toy\n"), "malformed", "`name` appears twice at line 3"),
}


@pytest.mark.parametrize(("data", "code", "words"), OTHER_CHARTS.values(), ids=OTHER_CHARTS)
def test_a_chart_that_is_not_the_one_asked_for_is_refused(tmp_path: Path, data: bytes, code: str, words: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises((PolicyError, IntegrityError)) as caught:
        unpack(tmp_path / "out", data, TOY)
    assert caught.value.code == code
    assert isinstance(caught.value, IntegrityError) is (code == "malformed")
    assert words in caught.value.message
    assert "toy-1.2.3.tgz" in caught.value.message
    assert seen(tmp_path) == {"home": None, "out": None}


SAME_VERSIONS = [
    ("1.2.3", "1.2.3"),
    ("v1.2.3", "1.2.3"),
    ("1.2.3", "v1.2.3"),
    ("0.4.023901", "0.4.23901"),
    ("1.2.3_build.5", "1.2.3+build.5"),
    ("1.2.3", "1.2.3+build.5"),
    ("1.2.3_build.5", "1.2.3"),
    ("1.0.0-rc.1", "1.0.0-rc.1"),
    (None, "9.9.9"),
    (None, "whatever"),
]


@pytest.mark.parametrize(("tag", "version"), SAME_VERSIONS)
def test_a_version_is_the_same_in_every_form_of_the_tag(tmp_path: Path, tag: str | None, version: str) -> None:
    unpack(tmp_path / "out", chart("toy", version), ExpectedChart("toy", tag))


def test_other_build_metadata_is_another_version(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        unpack(tmp_path / "out", chart("toy", "1.2.3+b"), ExpectedChart("toy", "1.2.3_a"))


# -- existing files and directories


def test_the_same_directory_is_the_same_and_any_other_is_not(tmp_path: Path) -> None:
    data = targz(directory("empty"), file("a/x", b"one"), file("y", b"two"))
    assert state(tmp_path / "out", data) is OutputState.ABSENT
    place = unpack(tmp_path / "out", data)
    assert state(tmp_path / "out", data) is OutputState.SAME

    def is_different() -> bool:
        return state(tmp_path / "out", data) is OutputState.DIFFERENT

    (place / "more").write_bytes(b"")
    assert is_different()
    (place / "more").unlink()
    (place / "empty" / "more").write_bytes(b"")
    assert is_different()
    (place / "empty" / "more").unlink()
    (place / "empty").rmdir()
    assert is_different()
    (place / "empty").write_bytes(b"")
    assert is_different()
    (place / "empty").unlink()
    (place / "empty").symlink_to(place / "a")
    assert is_different()
    (place / "empty").unlink()
    (place / "empty").mkdir()
    assert state(tmp_path / "out", data) is OutputState.SAME
    (place / "a" / "x").write_bytes(b"ONE")
    assert is_different()
    (place / "a" / "x").write_bytes(b"one1")
    assert is_different()
    (place / "a" / "x").unlink()
    assert is_different()
    (place / "a" / "x").symlink_to(place / "y")
    assert is_different()
    (place / "a" / "x").unlink()
    os.mkfifo(place / "a" / "x")
    assert is_different()


def test_a_place_that_is_no_directory_differs_and_is_not_followed(tmp_path: Path) -> None:
    data = targz(file("x", b"1"))
    real = unpack(tmp_path / "real", data)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "toy").symlink_to(real)
    assert state(tmp_path / "out", data) is OutputState.DIFFERENT
    with pytest.raises(StorageError) as caught:
        unpack(tmp_path / "out", data)
    assert caught.value.code == "file-differs"
    unpack(tmp_path / "out", data, force=True)
    assert not (tmp_path / "out" / "toy").is_symlink()
    assert seen(real) == {"x": b"1"}


def test_without_the_archive_a_directory_is_unknown(tmp_path: Path) -> None:
    data = targz(file("x", b"1"))
    place = unpack(tmp_path / "out", data)
    assert Destination(tmp_path / "out").state(wish(data)) is OutputState.UNKNOWN
    place.rename(tmp_path / "moved")
    assert Destination(tmp_path / "out").state(wish(data)) is OutputState.ABSENT
    place.write_bytes(data)
    assert Destination(tmp_path / "out").state(wish(data)) is OutputState.DIFFERENT


def a_directory(path: Path) -> None:
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "mine").write_bytes(b"mine")


BEFORE: dict[str, Callable[[Path], object]] = {
    "a file": lambda path: path.write_bytes(b"mine"),
    "an empty directory": lambda path: path.mkdir(),
    "a directory": a_directory,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
}
EXCHANGE = [pytest.param(True, id="names are exchanged"), pytest.param(False, id="names are changed one after the other")]


@pytest.mark.parametrize("exchange", EXCHANGE)
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_an_existing_directory_is_replaced_only_by_force(
    tmp_path: Path, before: Callable[[Path], object], exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(Directory, "_renamed", lambda *_: False)
    out = tmp_path / "out"
    out.mkdir()
    before(out / "toy")
    earlier = seen(out)
    with pytest.raises(StorageError) as caught:
        unpack(out, chart(), TOY)
    assert caught.value.code == "file-differs"
    assert seen(out) == earlier
    with pytest.raises(PolicyError):
        unpack(out, chart("bar"), TOY, force=True)
    assert seen(out) == earlier
    unpack(out, chart(), TOY, force=True)
    assert state(out, chart(), TOY) is OutputState.SAME
    assert [path.name for path in out.iterdir()] == ["toy"]


def test_the_old_directory_comes_back_where_the_new_one_cannot_take_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Directory, "_renamed", lambda *_: False)
    out = tmp_path / "out"
    (out / "toy").mkdir(parents=True)
    (out / "toy" / "mine").write_bytes(b"mine")
    rename, calls = os.rename, 0

    def second_fails(old: bytes, new: bytes, **more: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(5, "Input/output error")
        rename(old, new, **more)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(StorageError):
        unpack(out, chart(), TOY, force=True)
    assert seen(out) == {"toy": None, "toy/mine": b"mine"}


def test_of_several_that_unpack_one_archive_all_are_content(tmp_path: Path) -> None:
    errors: list[Error] = []
    barrier = threading.Barrier(4)

    def place() -> None:
        barrier.wait()
        try:
            unpack(tmp_path / "out", chart(), TOY)
        except Error as error:
            errors.append(error)

    threads = [threading.Thread(target=place) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["toy"]
    assert state(tmp_path / "out", chart(), TOY) is OutputState.SAME


# -- bytes


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:-9] + b"y" + data[-8:], lambda _: b""]
)
def test_bytes_that_are_not_those_of_the_descriptor_are_that_and_nothing_else(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    data = chart()
    for wanted in (data, tar(file("x")), chart("bar")):
        with Destination(tmp_path / "out") as destination, pytest.raises(IntegrityError) as caught:
            destination.put(wish(wanted, TOY), lambda wanted=wanted: io.BytesIO(change(wanted)))  # type: ignore[misc]
        assert caught.value.code in ("size-mismatch", "digest-mismatch")
        assert seen(tmp_path / "out") == {}
    # The mismatch is reported even if the directory differs from the archive before the changed byte.
    place = unpack(tmp_path / "out", data, TOY)
    for name in ("mine", "Chart.yaml"):
        (place / name).write_bytes(b"mine")
        with Destination(tmp_path / "out") as destination, pytest.raises(IntegrityError) as caught:
            destination.state(wish(data, TOY), lambda: io.BytesIO(change(data)))
        assert caught.value.code in ("size-mismatch", "digest-mismatch")


# -- other processes that change the directory during unpacking

SWAPPED = targz(file("sub/one", b"1"), file("other/two", b"2"), file("sub/three", b"3"), file("sub/deep/four", b"4"))


def swap_for_link(part: Path, outside: Path) -> None:
    (part / "sub").rename(outside / "moved")
    (part / "sub").symlink_to(outside)


def swap_for_directory(part: Path, outside: Path) -> None:
    (part / "sub").rename(outside / "moved")
    (part / "sub").mkdir()


def swap_part(part: Path, outside: Path) -> None:
    part.rename(outside / "moved")
    part.symlink_to(outside)


def add(part: Path, outside: Path) -> None:
    (part / "more").write_bytes(b"more")


def add_below(part: Path, outside: Path) -> None:
    (part / "sub" / "more").write_bytes(b"more")


def link_a_file_to_come(part: Path, outside: Path) -> None:
    (part / "sub" / "three").symlink_to(outside / "victim")


def hard_link_a_file_to_come(part: Path, outside: Path) -> None:
    (part / "sub" / "three").hardlink_to(outside / "victim")


def link_a_directory_to_come(part: Path, outside: Path) -> None:
    (part / "sub" / "deep").symlink_to(outside)


@pytest.mark.parametrize(
    "swap",
    [swap_for_link, swap_for_directory, swap_part, add, add_below, link_a_file_to_come, hard_link_a_file_to_come, link_a_directory_to_come],
)
def test_a_directory_that_others_change_meanwhile_leads_nowhere_and_is_not_published(
    tmp_path: Path, swap: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (outside / "victim").write_bytes(b"mine")
    calls = 0
    opened: list[str] = []
    honest = Directory.open

    def noted(self: Directory, name: str, flags: int, mode: str, *, rights: int = 0o644) -> BinaryIO:
        opened.append(name)
        return honest(self, name, flags, mode, rights=rights)

    monkeypatch.setattr(Directory, "open", noted)

    def meanwhile() -> None:
        nonlocal calls
        calls += 1
        (part,) = [path for path in out.iterdir() if path.name.startswith(".")]
        if (part / "other" / "two").exists() and not (part / "sub" / "three").exists() and calls < 100:
            calls = 100
            swap(part, outside)

    with Destination(out) as destination, pytest.raises(StorageError) as caught:
        destination.put(wish(SWAPPED), lambda: io.BytesIO(SWAPPED), check=meanwhile)
    assert caught.value.code == "file-unusable"
    assert calls >= 100
    assert {name: data for name, data in seen(outside).items() if not name.startswith("moved")} == {"victim": b"mine"}
    # marfetch writes nothing into a directory that it did not create.
    assert ("three" in opened) is (swap not in (swap_for_link, swap_for_directory))
    assert seen(out) == {}


def test_a_place_that_is_swapped_for_a_link_leads_nowhere(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "a" / "out"
    outside.mkdir()
    swapped = False

    def meanwhile() -> None:
        nonlocal swapped
        if not swapped:
            swapped = True
            out.rename(tmp_path / "moved")
            out.symlink_to(outside)

    with Destination(out) as destination:
        destination.put(wish(SWAPPED), lambda: io.BytesIO(SWAPPED), check=meanwhile)
    assert seen(outside) == {}
    assert set(seen(tmp_path / "moved")) >= {"toy/sub/one", "toy/sub/deep/four"}


def test_a_link_where_directories_are_unpacked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    with pytest.raises(StorageError) as caught:
        unpack(tmp_path / "out", chart(), TOY)
    assert str(tmp_path / "real") in str(caught.value.hint)
    assert seen(tmp_path / "real") == {}


# -- killed and interrupted runs, and full disks


KILLED = """
import io, os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from marfetch.destination.destination import Destination
from tests.world.archives import chart
from tests.world.unpacking import TOY, all_known, wish
count = 0
def check():
    global count
    count += 1
    if count == {at}:
        print("here", flush=True)
        sys.stdin.read()
Destination(Path({out!r})).put(wish(chart(), TOY), lambda: io.BytesIO(chart()), force=True, check=check, unknown=all_known)
"""


@contextmanager
def stopped(out: Path, at: int) -> Iterator[subprocess.Popen[str]]:
    """Start a process that stops in the middle of unpacking."""
    code = KILLED.format(root=str(ROOT), out=str(out), at=at)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        yield process
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_killed_run_leaves_the_old_content_and_a_hidden_part_that_the_next_one_sweeps(tmp_path: Path, at: int) -> None:
    out = tmp_path / "out"
    (out / "toy").mkdir(parents=True)
    (out / "toy" / "mine").write_bytes(b"mine")
    with stopped(out, at) as process:
        # While the process exists, another run does not delete its temporary directory.
        other = targz(file("x"))
        with Destination(out) as destination:
            destination.put(wish(other, name="other"), lambda: io.BytesIO(other))
        (part,) = [path.name for path in out.iterdir() if path.name.startswith(".")]
        assert part.startswith(".marfetch-")
        assert part.endswith(".part")
        process.kill()
        process.wait()
    assert (out / "toy" / "mine").read_bytes() == b"mine"
    assert sorted(path.name for path in out.iterdir()) == [part, "other", "toy"]
    unpack(out, chart(), TOY, force=True)
    assert state(out, chart(), TOY) is OutputState.SAME
    assert sorted(path.name for path in out.iterdir()) == ["other", "toy"]


EVERYWHERE = """
import io, os, shutil, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from marfetch.destination.destination import Destination, OutputState
from tests.world.archives import chart
from tests.world.unpacking import TOY, all_known, seen, wish
out = Path({out!r})
old = {{"toy": None, "toy/mine": b"mine"}}
new = {{"toy": None, "toy/Chart.yaml": b"apiVersion: v2\\nname: toy\\nversion: 1.2.3\\n", "toy/templates": None, "toy/templates/cm.yaml": b"kind: ConfigMap\\n"}}
def put():
    with Destination(out) as destination:
        destination.put(wish(chart(), TOY), lambda: io.BytesIO(chart()), force=True, unknown=all_known)
put()  # everything that is loaded late is loaded now
at = 0
while True:
    shutil.rmtree(out)
    (out / "toy").mkdir(parents=True)
    (out / "toy" / "mine").write_bytes(b"mine")
    child = os.fork()
    if child == 0:
        count = 0
        def kill(event, arguments):
            global count
            if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "ctypes.dlsym"):
                count += 1
                if count > at:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(kill)
        put()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    content = {{name: data for name, data in seen(out).items() if not name.startswith(".")}}
    assert content in (old, new), (at, content)
    hidden = [path.name for path in out.iterdir() if path.name.startswith(".")]
    assert len(hidden) <= 1 and all(name.endswith(".part") for name in hidden), (at, hidden)
    put()
    assert seen(out) == new, at
    if status == 0:
        break
    at += 1
print(at)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    code = EVERYWHERE.format(root=str(ROOT), out=str(tmp_path / "out"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20  # the number of moments at which the test interrupted the run


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, MemoryError, RuntimeError])
@pytest.mark.parametrize("at", [1, 3])
def test_every_end_of_the_command_deletes_the_part(tmp_path: Path, failure: type[BaseException], at: int) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise failure

    with Destination(tmp_path / "out") as destination, pytest.raises(failure):
        destination.put(wish(chart(), TOY), lambda: io.BytesIO(chart()), check=check)
    assert seen(tmp_path / "out") == {}


def test_a_planted_temporary_file_is_no_way_out(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (outside / "victim").write_bytes(b"mine")
    (out / ".marfetch-0000000000000000.part").symlink_to(outside)
    left = out / ".marfetch-1111111111111111.part"
    (left / "deep").mkdir(parents=True)
    (left / "deep" / "link").symlink_to(outside)
    (left / os.fsdecode(b"\xff")).write_bytes(b"")
    unpack(out, chart(), TOY)
    assert seen(outside) == {"victim": b"mine"}
    assert sorted(path.name for path in out.iterdir()) == [".marfetch-0000000000000000.part", "toy"]


FULL = {
    "no room for bytes": ("size=1m", [file(f"{number}", os.urandom(300 << 10)) for number in range(8)]),
    "no room for names": ("size=8m,nr_inodes=20", [file(f"d{number}/x", b"1") for number in range(40)]),
}


@pytest.mark.parametrize(("options", "members"), FULL.values(), ids=FULL)
def test_a_full_disk_keeps_existing_files(disk: Callable[[str], Path], options: str, members: Sequence[bytes]) -> None:
    out = disk(options) / "out"
    (out / "toy").mkdir(parents=True)
    (out / "toy" / "mine").write_bytes(b"mine")
    with pytest.raises(StorageError) as caught:
        unpack(out, targz(*members), force=True)
    assert caught.value.code == "disk-full"
    assert str(out / "toy") in caught.value.message
    assert seen(out) == {"toy": None, "toy/mine": b"mine"}


def test_all_files_are_flushed_before_they_get_their_final_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: set[int] = set()
    before: list[set[int]] = []
    fsync, publish = os.fsync, Directory.publish_directory

    def noted(number: int) -> None:
        forced.add(os.fstat(number).st_ino)
        fsync(number)

    def published(self: Directory, part: str, name: str, *, replace: bool) -> None:
        before.append(set(forced))
        publish(self, part, name, replace=replace)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Directory, "publish_directory", published)
    place = unpack(tmp_path / "out", chart("toy", "1.2.3", directory("toy/empty")), TOY)
    assert before == [{path.stat().st_ino for path in [place, *place.rglob("*")]}]


def test_a_disk_that_fails_at_any_step_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("fsync", 28), ("mkdir", 28), ("open", 24), ("open", 5), ("mkdir", 30)):
        honest, at = getattr(os, name), 0
        while True:
            calls = 0

            def fails(
                *arguments: object, honest: Callable[..., object] = honest, at: int = at, number: int = number, **more: object
            ) -> object:
                nonlocal calls
                calls += 1
                if calls == at + 1:
                    raise OSError(number, os.strerror(number))
                return honest(*arguments, **more)

            out = tmp_path / f"{name}{number}-{at}"
            monkeypatch.setattr(os, name, fails)
            is_failed = False
            try:
                unpack(out, chart(), TOY)
            except StorageError:
                is_failed = True
            finally:
                monkeypatch.setattr(os, name, honest)
            if calls <= at:
                break
            if out.exists() and name != "fsync":
                # If the record cannot be written, the run succeeds, because all files are complete.
                assert bool(seen(out)) is not is_failed, (name, at)
            at += 1
        assert at >= 2


# -- random archives

PARTS = st.sampled_from(["a", "b", "A", "..", ".", "", "é", "e\u0301", "con", "x.", "c:", "a\\b", "~", "-rf", "$(x)", "d" * 90])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
SORTS = st.sampled_from([b"0", b"0", b"0", b"\0", b"5", b"5", b"1", b"2", b"3", b"6", b"7", b"S"])


@st.composite
def members(draw: st.DrawFn) -> bytes:
    path, sort, data = draw(PATHS), draw(SORTS), draw(st.binary(max_size=40))
    if sort not in (b"0", b"\0"):
        data = b""
    short = path.encode()[-100:]
    before = draw(st.sampled_from([b"", b"", b"", pax({"path": path}), long_name(path), pax({"path": "/" + path}), pax({"size": "7"})]))
    return before + header(short, len(data), sort=sort, link=draw(st.sampled_from([b"", b"a", b"../..", b"/"]))) + padded(data)


@pytest.mark.slow
@given(st.lists(members(), max_size=6), st.booleans(), st.sampled_from([None, TOY]))
@settings(max_examples=300, deadline=None)
def test_any_archive_comes_whole_or_not_at_all_and_nothing_is_written_elsewhere(
    parts: list[bytes], packed: bool, expected: ExpectedChart | None
) -> None:
    data = targz(*parts) if packed else tar(*parts)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "a" / "b" / "out"
        out.mkdir(parents=True)
        (out / "mine").write_bytes(b"mine")
        try:
            unpack(out, data, expected)
        except (PolicyError, IntegrityError):
            assert seen(Path(scratch)) == {"a": None, "a/b": None, "a/b/out": None, "a/b/out/mine": b"mine"}
            return
        assert {path.name for path in Path(scratch).iterdir()} == {"a"}
        assert {path.name for path in out.parent.iterdir()} == {"out"}
        assert {path.name for path in out.iterdir()} == {"mine", "toy"}
        # The standard library reads the same files.
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            theirs = {posixpath.normpath(member.name): member for member in archive}
            ours = seen(out / "toy")
            assert {name for name, member in theirs.items() if member.isfile()} == {name for name, data in ours.items() if data is not None}
            assert all(member.isfile() or member.isdir() for member in theirs.values())
        assert not any(path.is_symlink() for path in out.rglob("*"))


SAFE = st.dictionaries(
    st.lists(st.text(st.characters(categories=["Ll", "Nd"]), min_size=1, max_size=8), min_size=1, max_size=4).map(tuple),
    st.binary(max_size=2000),
    max_size=12,
)


@pytest.mark.slow
@given(SAFE, st.sampled_from(list(FORMATS.values())))
@settings(max_examples=100, deadline=None)
def test_any_archive_of_safe_names_comes_whole(files: dict[tuple[str, ...], bytes], style: int) -> None:
    from marfetch.artifact.filename import same_name

    taken: dict[str, bytes] = {}
    keys: dict[str, bool] = {}
    for parts, content in files.items():
        prefixes = [same_name("/".join(parts[: depth + 1])) for depth in range(len(parts))]
        spelled = all(same_name(part) == part for part in parts)
        if spelled and all(keys.get(prefix, True) for prefix in prefixes[:-1]) and prefixes[-1] not in keys:
            keys.update(dict.fromkeys(prefixes[:-1], True))
            keys[prefixes[-1]] = False
            taken["/".join(parts)] = content
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=style) as archive:
        for name, content in taken.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with tempfile.TemporaryDirectory() as scratch:
        place = unpack(Path(scratch) / "out", raw.getvalue())
        assert {name: data for name, data in seen(place).items() if data is not None} == taken
        assert state(Path(scratch) / "out", raw.getvalue()) is OutputState.SAME


@pytest.mark.slow
@given(st.binary(max_size=3000), st.integers(0, 2000), st.binary(max_size=20))
@settings(max_examples=200, deadline=None)
def test_no_bytes_are_anything_but_a_directory_or_one_clear_failure(noise: bytes, at: int, change: bytes) -> None:
    changed = GOOD[:at] + change + GOOD[at + len(change) :]
    for data in (noise, changed, gzip.compress(noise), gzip.compress(changed)):
        with tempfile.TemporaryDirectory() as scratch, suppress(PolicyError, IntegrityError):
            unpack(Path(scratch), data)
