"""Read-only layouts in folders and tars: layouts of several tools, hostile archives, and the content by repository."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch.content import read
from marfetch.demo.recipe import build
from marfetch.errors import Error, InputError, IntegrityError, NotFoundError, PolicyError, StorageError
from marfetch.layout import graph, readonly, repositories
from marfetch.layout.layout import Layout
from marfetch.layout.readonly import Folder, ReadonlyTar, open_store
from marfetch.layout.repositories import Contents, lexical, repository_name
from marfetch.oci import OCI_MANIFEST, Descriptor, Digest, Manifest
from marfetch.reference import Host, Reference

from ..world.content import ALB
from ..world.layouts import REF_NAME, Maker, packed

# -- layouts of other tools


FORMS = {
    "pax": (tarfile.PAX_FORMAT, ""),
    "GNU": (tarfile.GNU_FORMAT, ""),
    "ustar": (tarfile.USTAR_FORMAT, ""),
    "with ./": (tarfile.PAX_FORMAT, "./"),
}


@pytest.mark.parametrize(("form", "prefix"), FORMS.values(), ids=FORMS)
def test_a_tar_holds_what_the_folder_holds(recipe: Layout, tmp_path: Path, form: int, prefix: str) -> None:
    folder = Contents(Folder(recipe.root)).load()
    with ReadonlyTar(packed(recipe.root, tmp_path / "a.tar", form=form, prefix=prefix)) as archive:
        assert Contents(archive).load().repositories == folder.repositories
    assert ALB in folder.repositories


@pytest.mark.parametrize("flags", [["--format=gnu"], ["--format=posix"], ["--format=v7"], ["--format=ustar", "-b", "64"]], ids=str)
def test_archives_of_the_system_tar_are_read(recipe: Layout, tmp_path: Path, flags: list[str]) -> None:
    if shutil.which("tar") is None:
        pytest.skip("`tar` is not installed")
    subprocess.run(["tar", *flags, "-cf", tmp_path / "a.tar", "-C", recipe.root, "."], check=True)
    with ReadonlyTar(tmp_path / "a.tar") as archive:
        assert Contents(archive).load().repositories == Contents(Folder(recipe.root)).load().repositories


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_that_are_too_long_for_the_header_are_read(maker: Maker, tmp_path: Path, form: int) -> None:
    maker.manifest("long", "aks/foo:1", algorithm="sha512")
    with ReadonlyTar(packed(maker.root, tmp_path / "a.tar", form=form)) as archive:
        contents = Contents(archive)
        found = contents.manifest(Reference("aks/foo", None, "1"))
        assert isinstance(found, Manifest)
        assert found.descriptor.digest.algorithm == "sha512"
        assert read(contents, Reference("aks/foo"), found.layers[0]) == b"long"


def test_a_tar_is_a_source(recipe: Layout, tmp_path: Path) -> None:
    with ReadonlyTar(packed(recipe.root, tmp_path / "a.tar")) as archive:
        source = Contents(archive)
        asked = Reference(ALB, None, "1.7.12")
        manifest = source.manifest(asked)
        assert isinstance(manifest, Manifest)
        assert manifest == recipe.manifest(Reference(ALB, Host("mar.test"), "1.7.12"))
        assert source.manifest(asked, known=manifest.descriptor) is None
        assert read(source, asked, manifest.layers[0]) == recipe.path(manifest.layers[0].digest).read_bytes()
        assert source.tags(asked) == recipe.tags(Reference(ALB, Host("mar.test")))
        subject = source.manifest(Reference("azurelinux/3.0/image/minimal-os", None, "latest"))
        assert subject is not None
        (signature,) = source.referrers(Reference("azurelinux/3.0/image/minimal-os"), subject.descriptor.digest)
        assert signature.artifact_type == "application/vnd.cncf.notary.signature"
        assert ALB in source.repositories()


MISSING: dict[str, tuple[Callable[[Contents], object], str]] = {
    "a tag": (lambda source: source.manifest(Reference(ALB, None, "9")), "tag-not-found"),
    "a manifest": (lambda source: source.manifest(Reference(ALB, None, None, Digest.of(b"x"))), "manifest-not-found"),
    "a repository": (lambda source: source.tags(Reference("none/such")), "repository-not-found"),
}


@pytest.mark.parametrize(("ask", "code"), MISSING.values(), ids=MISSING)
def test_missing_content_is_reported_by_its_code(recipe: Layout, ask: Callable[[Contents], object], code: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        ask(Contents(Folder(recipe.root)))
    assert caught.value.code == code


def test_a_blob_of_another_repository_is_not_given(maker: Maker) -> None:
    maker.manifest("mine", "aks/foo:1")
    source = maker.contents()
    other = maker.manifest("other", "aks/bar:1")
    manifest = source.manifest(Reference("aks/bar", None, "1"))
    assert isinstance(manifest, Manifest)
    assert str(manifest.descriptor.digest) == other["digest"]
    with pytest.raises(NotFoundError):
        read(source, Reference("aks/foo"), manifest.layers[0])


# -- files that change after they were opened


def test_an_archive_that_is_replaced_goes_on_as_it_was(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("first", "aks/foo:1")
    with ReadonlyTar(packed(maker.root, tmp_path / "a.tar")) as archive:
        source = Contents(archive)
        manifest = source.manifest(Reference("aks/foo", None, "1"))
        assert isinstance(manifest, Manifest)
        stamp = archive.stamp(manifest.layers[0].digest)
        other = Maker(tmp_path / "other")
        other.manifest("second", "aks/foo:1")
        packed(other.root, tmp_path / "b.tar").replace(tmp_path / "a.tar")
        assert read(source, Reference("aks/foo"), manifest.layers[0]) == b"first"
        assert archive.stamp(manifest.layers[0].digest) == stamp, "no blob has to be hashed again"


def test_an_archive_that_is_written_into_has_another_stamp(maker: Maker, tmp_path: Path) -> None:
    digest = Digest.parse(maker.manifest("first", "aks/foo:1")["digest"])
    path = packed(maker.root, tmp_path / "a.tar")
    with ReadonlyTar(path) as archive, archive.extent(digest) as extent:
        assert extent.is_unchanged()
        os.utime(path, ns=(0, 1))
        assert not extent.is_unchanged()
        assert archive.stamp(digest) != extent.stamp


def test_a_closed_archive_gives_nothing(maker: Maker, tmp_path: Path) -> None:
    digest = Digest.parse(maker.manifest("first", "aks/foo:1")["digest"])
    archive = ReadonlyTar(packed(maker.root, tmp_path / "a.tar"))
    archive.close()
    assert archive.stamp(digest) is None
    with pytest.raises(NotFoundError):
        archive.extent(digest)


# -- hostile archives


def member(name: str, data: bytes = b"", **fields: Any) -> bytes:
    """Return a member with its header and padding."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    form = fields.pop("form", tarfile.GNU_FORMAT)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(form, "utf-8", "strict") + data + bytes(-len(data) % 512)


def pax(records: dict[str, str], sort: bytes = b"x") -> bytes:
    lines = b""
    for key, value in records.items():
        rest = f" {key}={value}\n".encode()
        length = next(n for n in range(len(rest), len(rest) + 9) if n == len(rest) + len(str(n)))
        lines += str(length).encode() + rest
    return member("pax", lines, type=sort)


MARKER = member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
INDEX = member("index.json", b'{"schemaVersion":2,"manifests":[]}')
END = bytes(1024)
GOOD = MARKER + INDEX


def wrong_checksum() -> bytes:
    data = bytearray(MARKER)
    data[0] ^= 1
    return bytes(data)


def patched(data: bytes, offset: int, field: bytes) -> bytes:
    """Replace a field of a header, and correct the checksum."""
    header = bytearray(data[:512])
    header[offset : offset + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


HOSTILE: dict[str, tuple[bytes, type[Error]]] = {
    "a name that leads out": (GOOD + member("../x", b"x") + END, PolicyError),
    "a name that leads out within": (GOOD + member("blobs/../../x", b"x") + END, PolicyError),
    "an absolute name": (GOOD + member("/etc/passwd", b"x") + END, PolicyError),
    "an empty part": (GOOD + member("blobs//x", b"x") + END, PolicyError),
    "a dot within": (GOOD + member("blobs/./x", b"x") + END, PolicyError),
    "a backslash": (GOOD + member("blobs\\x", b"x") + END, PolicyError),
    "an escape": (GOOD + member("a\x1b[31m", b"x") + END, PolicyError),
    "a directory that leads out": (GOOD + member("../", type=tarfile.DIRTYPE) + END, PolicyError),
    "no name": (GOOD + member("", b"x") + END, PolicyError),
    "a name that is not UTF-8": (GOOD + patched(member("x", b"x"), 0, b"\xff\xfe") + END, PolicyError),
    "a very long name": (GOOD + pax({"path": "a/" * 600 + "b"}) + member("x", b"x") + END, PolicyError),
    "a symbolic link": (GOOD + member("blobs", type=tarfile.SYMTYPE, linkname="/etc") + END, PolicyError),
    "a hard link": (GOOD + member("x", type=tarfile.LNKTYPE, linkname="/etc/passwd") + END, PolicyError),
    "a device": (GOOD + member("x", type=tarfile.CHRTYPE) + END, PolicyError),
    "a block device": (GOOD + member("x", type=tarfile.BLKTYPE) + END, PolicyError),
    "a pipe": (GOOD + member("x", type=tarfile.FIFOTYPE) + END, PolicyError),
    "a contiguous file": (GOOD + member("x", b"x", type=tarfile.CONTTYPE) + END, PolicyError),
    "a sparse file of GNU": (GOOD + member("x", b"x", type=tarfile.GNUTYPE_SPARSE) + END, PolicyError),
    "a sparse file of pax": (GOOD + pax({"GNU.sparse.size": "9"}) + member("x", b"x") + END, PolicyError),
    "a link path of pax": (GOOD + pax({"linkpath": "/etc"}) + member("x", b"x") + END, PolicyError),
    "another character set": (GOOD + pax({"hdrcharset": "BINARY"}) + member("x", b"x") + END, PolicyError),
    "a path of pax that leads out": (GOOD + pax({"path": "../x"}) + member("x", b"x") + END, PolicyError),
    "a long name of GNU that leads out": (GOOD + member("././@LongLink", b"../x\0", type=b"L") + member("x", b"x") + END, PolicyError),
    "a long link name of GNU": (GOOD + member("././@LongLink", b"/etc\0", type=b"K") + member("x", b"x") + END, PolicyError),
    "an endless extended header": (GOOD + member("pax", bytes(100_000), type=b"x") + member("x", b"x") + END, PolicyError),
    "two sizes": (GOOD + pax({"size": "1"}) + member("x", b"xyz") + END, IntegrityError),
    "two extended headers": (
        GOOD + pax({"path": "a"}) + member("././@LongLink", b"b\0", type=b"L") + member("x", b"x") + END,
        IntegrityError,
    ),
    "a duplicate path": (GOOD + member("pax", b"10 path=a\n10 path=b\n", type=b"x") + member("x", b"x") + END, IntegrityError),
    "a NUL in a path": (GOOD + member("pax", b"12 path=a\0b\n", type=b"x") + member("x", b"x") + END, IntegrityError),
    "a record with a wrong length": (GOOD + member("pax", b"99 path=a\n", type=b"x") + member("x", b"x") + END, IntegrityError),
    "a record without a length": (GOOD + member("pax", b"path=a\n", type=b"x") + member("x", b"x") + END, IntegrityError),
    "a global path": (GOOD + pax({"path": "index.json"}, b"g") + member("x", b"x") + END, IntegrityError),
    "an extended header at the end": (GOOD + pax({"path": "a"}) + END, IntegrityError),
    "a size beyond the end": (GOOD + patched(member("x"), 124, b"%011o\0" % (1 << 30)) + END, IntegrityError),
    "a negative size": (GOOD + patched(member("x"), 124, b"\xff" * 12) + END, IntegrityError),
    "a size of over 63 bits": (GOOD + patched(member("x"), 124, b"\x80\xff" + bytes(10)) + END, IntegrityError),
    "a size that is no number": (GOOD + patched(member("x"), 124, b"00000000009\0") + END, IntegrityError),
    "a directory with content": (GOOD + member("d/", b"x", type=tarfile.DIRTYPE) + END, IntegrityError),
    "a wrong checksum": (wrong_checksum() + INDEX + END, IntegrityError),
    "two indexes": (GOOD + INDEX + END, IntegrityError),
    "two indexes, one with ./": (GOOD + member("./index.json", b"{}") + END, IntegrityError),
    "two blobs of one name": (GOOD + member("blobs/x", b"a") * 2 + END, IntegrityError),
    "no end": (GOOD, IntegrityError),
    "half an end": (GOOD + bytes(512), IntegrityError),
    "a second archive behind the end": (GOOD + END + INDEX + END, IntegrityError),
    "no index": (MARKER + END, IntegrityError),
    "another version": (member("oci-layout", b'{"imageLayoutVersion":"2.0.0"}') + INDEX + END, IntegrityError),
    "a marker that is no JSON": (member("oci-layout", b"x") + INDEX + END, IntegrityError),
    "an index that is no JSON": (MARKER + member("index.json", b"x") + END, IntegrityError),
    "a huge marker": (member("oci-layout", bytes(70_000)) + INDEX + END, PolicyError),
    "no marker": (INDEX + END, InputError),
    "a layout in a folder": (member("a/oci-layout", b'{"imageLayoutVersion":"1.0.0"}') + member("a/index.json", b"{}") + END, InputError),
    "a compressed archive": (gzip.compress(GOOD + END), InputError),
    "no archive": (b"hello\n" * 200, InputError),
    "nothing": (b"", InputError),
    "only zeros": (bytes(10240), InputError),
}


@pytest.mark.parametrize(("data", "kind"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused(tmp_path: Path, data: bytes, kind: type[Error]) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(kind) as caught:
        ReadonlyTar(tmp_path / "a.tar")
    assert type(caught.value) is kind
    assert "a.tar" in caught.value.message


def test_the_archive_that_the_hostile_ones_are_made_of_is_good(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(
        GOOD + member("unknown", b"x") + pax({"mtime": "1.5", "SCHILY.xattr.a": "b"}) + member("x", b"x") + END
    )
    with ReadonlyTar(tmp_path / "a.tar") as archive:
        assert list(archive.entries()) == []


def test_an_archive_that_is_cut_anywhere_is_refused(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("text " * 300, "aks/foo:1")
    whole = packed(maker.root, tmp_path / "whole.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    with ReadonlyTar(tmp_path / "whole.tar"):
        pass
    for size in [*range(0, end + 1024, 512), end - 1, end // 2 + 1]:
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        with pytest.raises((IntegrityError, InputError)):
            ReadonlyTar(tmp_path / "cut.tar")


def test_an_archive_has_a_limit_of_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert readonly.MAX_MEMBERS < 10**6
    monkeypatch.setattr(readonly, "MAX_MEMBERS", 10)
    (tmp_path / "a.tar").write_bytes(GOOD + b"".join(member(f"x{n}") for n in range(20)) + END)
    with pytest.raises(PolicyError) as caught:
        ReadonlyTar(tmp_path / "a.tar")
    assert caught.value.code == "limit-passed"


def test_no_descriptor_is_left_open_by_what_is_refused(tmp_path: Path) -> None:
    first = os.dup(0)  # the lowest free file descriptor
    os.close(first)
    for number, (data, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}").write_bytes(data)
        with pytest.raises(Error):
            open_store(tmp_path / f"{number}")
    again = os.dup(0)
    os.close(again)
    assert again == first


# -- folders


def test_a_folder_is_not_changed_by_being_read(maker: Maker) -> None:
    maker.manifest("x", "aks/foo:1")
    before = {path: path.stat().st_mtime_ns for path in maker.root.rglob("*")}
    maker.contents().load()
    assert {path: path.stat().st_mtime_ns for path in maker.root.rglob("*")} == before


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def broken_index(text: str) -> Callable[[Maker], object]:
    return lambda maker: (maker.root / "index.json").write_text(text)


FOLDERS: dict[str, tuple[Callable[[Maker], object], type[Error]]] = {
    "no marker": (lambda maker: (maker.root / "oci-layout").unlink(), InputError),
    "a marker that is a folder": (lambda maker: into_folder(maker.root / "oci-layout"), StorageError),
    "another version": (lambda maker: (maker.root / "oci-layout").write_text('{"imageLayoutVersion":"3"}'), IntegrityError),
    "no index": (lambda maker: (maker.root / "index.json").unlink(), IntegrityError),
    "an index that is half written": (broken_index('{"schemaVersion":2,"manif'), IntegrityError),
    "an index with a name twice": (broken_index('{"schemaVersion":2,"manifests":[],"manifests":[]}'), IntegrityError),
    "an index that is a list": (broken_index("[]"), IntegrityError),
    "an index of schema 1": (broken_index('{"schemaVersion":1,"manifests":[]}'), IntegrityError),
    "an index of another type": (broken_index('{"schemaVersion":2,"mediaType":"text/plain","manifests":[]}'), IntegrityError),
    "an index that is nested too deeply": (broken_index('{"schemaVersion":2,"manifests":' + "[" * 300 + "]" * 300 + "}"), IntegrityError),
    "a digest that is a path": (
        broken_index('{"schemaVersion":2,"manifests":[{"mediaType":"text/plain","digest":"sha256:../../x","size":1}]}'),
        IntegrityError,
    ),
}


@pytest.mark.parametrize(("breaks", "kind"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_is_no_layout_is_refused(maker: Maker, breaks: Callable[[Maker], object], kind: type[Error]) -> None:
    maker.manifest("x", "aks/foo:1")
    breaks(maker)
    with pytest.raises(kind) as caught:
        Contents(open_store(maker.root)).load()
    assert str(maker.root) in caught.value.message


def test_what_names_lead_to_is_counted_for_each_name(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    children = [maker.manifest(str(number), listed=False) for number in range(10)]
    index = maker.index(children, "aks/foo:1")
    for name in ("aks/foo:2", "aks/bar:1"):
        maker.entries.append({**index, "annotations": {REF_NAME: name}})
    maker.write()
    each = 10 * 3 + 1  # ten manifests, each with a config and a layer, and the index
    monkeypatch.setattr(graph, "MAX_NAMED", 3 * each)
    assert list(maker.contents().load().repositories) == ["aks/bar", "aks/foo"]
    monkeypatch.setattr(graph, "MAX_NAMED", 3 * each - 1)
    with pytest.raises(PolicyError, match="lead to more than 92 manifests and blobs") as caught:
        maker.contents().load()
    assert caught.value.code == "limit-passed"


def test_referrers_are_counted_for_each_name(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = maker.manifest("x", "aks/foo:1")
    maker.entries += [{**subject, "annotations": {REF_NAME: f"aks/foo{number}:1"}} for number in range(10)]
    for number in range(10):
        maker.manifest(str(number), subject=subject, artifactType="x/y")
    monkeypatch.setattr(graph, "MAX_NAMED", 11 * 3 * 11)
    maker.contents().load()
    monkeypatch.setattr(graph, "MAX_NAMED", 11 * 3 * 11 - 1)
    with pytest.raises(PolicyError, match="lead to more than"):
        maker.contents().load()


def test_the_manifests_of_a_layout_have_a_size(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [maker.manifest(str(number), f"aks/foo:{number}")["size"] for number in range(3)]
    monkeypatch.setattr(graph, "MAX_MANIFESTS", sum(sizes))
    maker.contents().load()
    monkeypatch.setattr(graph, "MAX_MANIFESTS", sum(sizes) - 1)
    with pytest.raises(PolicyError, match="have more than"):
        maker.contents().load()


def test_warnings_come_to_an_end(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "MAX_WARNINGS", 5)
    one = maker.manifest("x", "aks/foo:1")
    maker.entries += [{**one, "annotations": {REF_NAME: f"Not/Valid:{number}"}} for number in range(20)]
    maker.write()
    warnings: list[str] = []
    maker.contents(warn=warnings.append).load()
    assert len(warnings) == 6
    assert warnings[-1].endswith("has 15 more problems")


def test_a_missing_or_special_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        open_store(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a folder nor a file"):
        open_store(tmp_path / "pipe")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "one byte": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "digest-mismatch"),
    "short": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "digest-mismatch"),
    "gone": (lambda path: path.unlink(), "malformed"),
    "a folder": (into_folder, "malformed"),
}


@pytest.mark.parametrize(("breaks", "code"), WRONG.values(), ids=WRONG)
def test_a_manifest_that_is_not_what_the_index_says_is_named(maker: Maker, breaks: Callable[[Path], object], code: str) -> None:
    maker.manifest("good", "aks/foo:1")
    digest = maker.manifest("bad", "aks/foo:2")["digest"]
    breaks(maker.path(digest))
    with pytest.raises(IntegrityError, match=digest) as caught:
        maker.contents().load()
    assert caught.value.code == code
    told: list[str] = []
    lenient = maker.contents(warn=told.append).load(strict=False)
    assert list(lenient.repositories["aks/foo"].tags) == ["1"]
    assert any(digest in one for one in told)


def test_a_blob_of_another_size_is_named(maker: Maker) -> None:
    maker.manifest("bad", "aks/foo:1")
    digest = Digest.of(b"bad")
    maker.path(digest).write_bytes(b"longer")
    with pytest.raises(IntegrityError, match=str(digest)) as caught:
        maker.contents().load()
    assert caught.value.code == "size-mismatch"


def test_all_that_is_wrong_is_named_at_once(maker: Maker) -> None:
    digests = [maker.manifest(f"bad{number}", f"aks/foo:{number}")["digest"] for number in range(7)]
    for digest in digests:
        maker.path(digest).write_bytes(b"x")
    with pytest.raises(IntegrityError, match="and 2 more") as caught:
        maker.contents().load()
    assert caught.value.context["digests"] == digests


def test_a_wrong_size_in_the_index_is_reported(maker: Maker) -> None:
    maker.manifest("x", "aks/foo:1")
    maker.entries[0]["size"] += 1
    maker.write()
    with pytest.raises(IntegrityError) as caught:
        maker.contents().load()
    assert caught.value.code == "size-mismatch"


def test_missing_blobs_are_reported_and_the_rest_is_readable(maker: Maker) -> None:
    """A cache contains only blobs that were used. image-spec, image layout, allows missing blobs."""
    maker.manifest("gone", "aks/foo:1")
    maker.path(Digest.of(b"gone")).unlink()
    told: list[str] = []
    assert maker.contents(warn=told.append).load().missing == {str(Digest.of(b"gone"))}
    assert len(told) == 1
    assert str(Digest.of(b"gone")) in told[0]


# -- names


NAMES = {
    "1.2.3": ("here", ["1.2.3"]),
    "aks/foo:1.2.3": ("aks/foo", ["1.2.3"]),
    "mcr.microsoft.com/aks/foo:1.2.3": ("aks/foo", ["1.2.3"]),
    "localhost:5000/aks/foo:1": ("aks/foo", ["1"]),
    "foo:1": ("foo", ["1"]),
    "mcr.microsoft.com/aks/foo": ("aks/foo", []),
    "Not A Name": ("here", []),
    "a/B:1": ("here", []),
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items(), ids=NAMES)
def test_a_name_in_the_index_leads_to_its_repository(maker: Maker, name: str, expected: tuple[str, list[str]]) -> None:
    digest = maker.manifest("x", name)["digest"]
    found = maker.contents().load().repositories
    assert {one: list(value.tags) for one, value in found.items()} == dict([expected])
    assert digest in found[expected[0]].manifests


def test_only_one_host_counts_where_one_is_given(maker: Maker) -> None:
    maker.manifest("a", "mcr.microsoft.com/aks/foo:1")
    maker.manifest("b", "example.com/aks/bar:1")
    assert list(maker.contents(host=Host("example.com"), name=None).load().repositories) == ["aks/bar"]


def test_of_two_registries_the_official_one_is_served(maker: Maker) -> None:
    maker.manifest("mirror", "mirror.example/aks/foo:1")
    official = maker.manifest("official", "mcr.microsoft.com/aks/foo:1")["digest"]
    maker.manifest("china", "mcr.azure.cn/aks/foo:1")
    told: list[str] = []
    repository = maker.contents(warn=told.append).load().repositories["aks/foo"]
    assert str(repository.tags["1"].digest) == official
    assert len(repository.manifests) == 3, "the other manifests can be read by digest"
    assert len(told) == 2


def test_one_name_for_two_manifests_is_refused(maker: Maker) -> None:
    digests = [maker.manifest(text, "aks/foo:1")["digest"] for text in "ab"]
    with pytest.raises(IntegrityError) as caught:
        maker.contents().load()
    assert all(digest in caught.value.message for digest in digests)
    maker.entries[1] = maker.entries[0]
    maker.write()
    maker.contents().load()


STEMS = {
    "My Charts.tar": "my-charts",
    "bundle_2026.11": "bundle_2026.11",
    "a__b": "a-b",
    ".hidden": "hidden",
    "___": "layout",
    "ÄÖ": "layout",
    "x" * 300: "x" * 255,
    "v1.0-.tar": "v1.0",
}


@pytest.mark.parametrize(("stem", "name"), STEMS.items(), ids=lambda text: text[:20])
def test_a_repository_is_called_after_the_file_in_a_valid_form(stem: str, name: str) -> None:
    assert repository_name(Path("/some/where") / stem) == name
    assert Reference.parse(f"localhost/{name}").repository == name


def test_tags_are_sorted_without_regard_to_case() -> None:
    assert sorted(["b", "B", "a", "10", "9", "A"], key=lexical) == ["10", "9", "A", "a", "B", "b"]


# -- references between manifests


def test_children_and_referrers_belong_to_the_repositories_of_their_parents(maker: Maker) -> None:
    child = maker.manifest("child", listed=False)
    index = maker.index(
        [child, {"mediaType": "text/plain", **{key: value for key, value in maker.blob(b"note").items() if key != "mediaType"}}],
        "aks/foo:1",
    )
    signature = maker.manifest("signature", None, artifactType="text/sig", subject=child, annotations={"a": "b"})
    about = maker.manifest("about the signature", None, artifactType="text/more", subject=signature)
    loose = maker.manifest("loose")
    orphan = maker.manifest("orphan", None, subject={**child, "digest": str(Digest.of(b"nowhere"))})
    maker.manifest("other", "aks/bar:1")
    found = maker.contents().load().repositories
    foo = found["aks/foo"]
    assert set(foo.manifests) == {one["digest"] for one in (child, index, signature, about)}
    assert set(foo.blobs) >= {str(Digest.of(data)) for data in (b"child", b"note", b"signature", b"{}")}
    (entry,) = foo.referrers[child["digest"]]
    assert (entry.artifact_type, entry.annotations, entry.size) == ("text/sig", {"a": "b"}, signature["size"])
    assert [str(one.digest) for one in foo.referrers[signature["digest"]]] == [about["digest"]]
    assert set(found["here"].manifests) == {loose["digest"], orphan["digest"]}
    assert found["aks/bar"].referrers == {}
    assert set(found["aks/bar"].manifests).isdisjoint(foo.manifests)


def test_a_closure_gives_each_manifest_once_children_before_and_referrers_behind(maker: Maker) -> None:
    child, gone = maker.manifest("child", listed=False), maker.manifest("gone", listed=False)
    maker.path(gone["digest"]).unlink()
    index = maker.index([child, gone, child], "aks/foo:1")
    abouts = [index]
    for number in range(1500):  # deeper than Python's recursion limit
        abouts.append(maker.blob(about_bytes(maker, abouts[-1], number), OCI_MANIFEST))
    behind = {one["digest"]: other for one, other in itertools.pairwise(abouts)}
    asked: list[str] = []
    contents = maker.contents()

    def node(one: Descriptor) -> graph.ManifestNode | None:
        asked.append(str(one.digest))
        return contents.graph.node(one)

    def referrers(digest: Digest) -> list[Descriptor]:
        return [described(behind[str(digest)])] if str(digest) in behind else []

    found = list(graph.closure([described(index), described(child)], node, referrers))
    assert [str(one.digest) for one, _ in found] == [one["digest"] for one in (child, gone, *abouts)]
    assert [str(one.digest) for one, place in found if place is None] == [gone["digest"]]
    assert len(asked) == len(set(asked)) == len(found)


def described(one: dict[str, Any]) -> Descriptor:
    return Descriptor(one["mediaType"], Digest.parse(one["digest"]), one["size"])


def about_bytes(maker: Maker, subject: dict[str, Any], number: int) -> bytes:
    """Return the bytes of a manifest with this subject."""
    empty = maker.blob(b"{}")
    return json.dumps({"schemaVersion": 2, "artifactType": f"text/{number}", "config": empty, "layers": [], "subject": subject}).encode()


def test_a_missing_child_leaves_the_index_alone(maker: Maker) -> None:
    child = maker.manifest("child", listed=False)
    maker.index([child], "aks/foo:1")
    maker.path(child["digest"]).unlink()
    contents = maker.contents()
    snapshot = contents.load()
    assert snapshot.missing == {child["digest"]}
    assert not contents.look_again(child["digest"])
    maker.manifest("child", listed=False)
    assert contents.look_again(child["digest"])
    assert child["digest"] in contents.current().repositories["aks/foo"].manifests


def test_what_is_no_manifest_in_the_index_is_passed_over(maker: Maker) -> None:
    maker.entries.append(maker.blob(b"<x/>", "application/xml"))
    maker.manifest("x", "aks/foo:1")
    assert list(maker.contents().load().repositories) == ["aks/foo"]


def test_a_changed_index_is_read_again_and_a_broken_one_is_not(maker: Maker) -> None:
    maker.manifest("a", "aks/foo:1")
    told: list[str] = []
    contents = maker.contents(warn=told.append)
    assert list(contents.current().repositories) == ["aks/foo"]
    maker.manifest("b", "aks/bar:1")
    assert list(contents.current().repositories) == ["aks/bar", "aks/foo"]
    (maker.root / "index.json").write_text("half")
    assert list(contents.current().repositories) == ["aks/bar", "aks/foo"]
    assert list(contents.current().repositories) == ["aks/bar", "aks/foo"]
    assert len(told) == 1, "it is reported once"
    maker.write()
    maker.manifest("c", "aks/new:1")
    assert "aks/new" in contents.current().repositories


def test_manifests_in_memory_are_bounded_and_noticed_when_their_files_change(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "KEPT", 1000)
    digests = [Digest.parse(maker.manifest(f"x{number}", f"aks/foo:{number}")["digest"]) for number in range(9)]
    contents = maker.contents()
    contents.load()
    assert contents.manifests.cached(digests[0]) is None
    assert contents.manifests.cached(digests[-1]) is not None
    path = maker.path(digests[-1])
    path.write_bytes(path.read_bytes() + b" ")
    assert contents.manifests.cached(digests[-1]) is None


def test_the_cache_is_served_as_it_is_in_memory(tmp_path: Path) -> None:
    """Before `flush`, new names are only in the memory of the cache."""
    layout = Layout(tmp_path / "cache")
    build(layout, Host("mar.test"))
    contents = Contents(layout, host=Host("mar.test"))
    found = contents.current().repositories[ALB].tags["1.7.12"]
    layout.tag(Reference(ALB, Host("mar.test"), "new"), found)
    assert contents.current().repositories[ALB].tags["new"].digest == found.digest
    assert contents.is_current


def test_bytes_of_a_tar_are_read_by_offset(tmp_path: Path, maker: Maker) -> None:
    data = os.urandom(3 << 20)
    described = maker.blob(data)
    with ReadonlyTar(packed(maker.root, tmp_path / "a.tar")) as archive, archive.extent(Digest.parse(described["digest"])) as extent:
        assert b"".join(extent.pieces()) == data
        assert extent.read(1 << 20, 10) == data[1 << 20 : (1 << 20) + 10]
        assert extent.read(len(data) - 3, 100) == data[-3:], "no byte behind the blob is returned"
