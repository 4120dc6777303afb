"""Targets: archives to unpack, and layouts in tars and folders, such as bundles."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from functools import cache
from pathlib import Path
from typing import NoReturn

from marfetch.bundle.check import check_bundle, check_layout
from marfetch.bundle.format import Record, opened, record_bytes
from marfetch.chart.expected import ExpectedChart, Unpacking
from marfetch.content import read
from marfetch.destination.destination import Destination, OutputFile
from marfetch.errors import Error
from marfetch.layout.blobs import Extent
from marfetch.layout.readonly import Folder, ReadonlyTar, members
from marfetch.layout.repositories import Contents
from marfetch.oci import OCI_INDEX, OCI_MANIFEST, REF_NAME, Descriptor, Digest
from marfetch.project.lockfile import Entry, LockedLayer, lock_bytes, make_lock
from marfetch.reference import Host, Reference
from marfetch.tar import Fault, TarLimits, TarMember, TarReader, plain_name

from ..world.archives import BLOCK, chart, directory, file, header, long_name, padded, pax, tar
from ..world.promise import BrokenPromiseError, fresh, sandbox
from .target import Target

NAME = "mcr.microsoft.com/aks/foo:1.2.3"


def mended(data: bytes) -> bytes:
    """Correct the checksums of all blocks that look like headers, so that a changed tar is not refused only because of a checksum."""
    changed = bytearray(data)
    at = 0
    while at + BLOCK <= len(changed):
        block = bytes(changed[at : at + BLOCK])
        if not any(block):
            break
        changed[at + 148 : at + 156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * ord(" "))
        digits = block[124:136].strip(b" \0").lstrip(b"0") or b"0"
        size = int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") and len(digits) < 8 else 0
        at += BLOCK + size + -size % BLOCK
    return bytes(changed)


# -- the tar reader, by position and as a stream

LIMITS = TarLimits(1024, 64 << 10, 1000, 1 << 20)


class _FaultError(Exception):
    """The reader reported a fault."""


def _fail(fault: Fault, reason: str, member: str, limit: int = 0) -> NoReturn:
    raise _FaultError(fault, reason, member, limit)


def _listed(data: bytes, *, is_stream: bool) -> list[TarMember | object]:
    """Return the members, and the fault that stopped the reader. Read by position, or as a stream in which no byte is read twice."""
    found: list[TarMember | object] = []
    stream = io.BytesIO(data)
    read = (lambda _, size: stream.read(size)) if is_stream else (lambda at, size: data[at : at + size])
    try:
        for member in TarReader(read, _fail, LIMITS):
            if member.end > len(data):
                found.append("cut short")
                break
            found.append(member)
            stream.seek(member.end)
    except _FaultError as error:
        found.append(error.args)
    return found


def _read(data: bytes) -> dict[str, bytes] | None:
    """Read the files by position and as a stream, and check that the standard library reads the same. Return None if they are refused."""
    listed = _listed(data, is_stream=False)
    assert listed == _listed(data, is_stream=True), "reading by position and as a stream gives different results"
    found: dict[str, bytes] = {}
    for one in listed:
        if not isinstance(one, TarMember):
            return None
        if not one.is_directory:
            found[plain_name(one.name, is_directory=False)] = data[one.offset : one.offset + one.size]
    there = _as_python_sees(data)
    assert there is None or found == there, f"the standard library reads other files: {sorted(found.items() ^ there.items())!r:.300}"
    return found


# -- unpacking


@cache
def _outside() -> Path:
    """Create files next to the destination, which must stay unchanged."""
    place = fresh("unpack")
    (place / "out").mkdir()
    (place / "beside").mkdir()
    (place / "beside" / "file").write_bytes(b"untouched")
    (place / "file").write_bytes(b"untouched")
    return place


def _unpack(data: bytes, expected: ExpectedChart | None = None) -> dict[str, bytes]:
    """Unpack as `pull --untar` does. Check that nothing else was changed, and return the written files."""
    place = _outside()
    wish = OutputFile("demo", Descriptor("application/x", Digest.of(data), len(data)), "a", Unpacking("demo-0.1.0.tgz", expected))
    found: dict[str, bytes] = {}
    try:
        with Destination(place / "out") as destination:
            destination.put(wish, lambda: io.BytesIO(data))
        for path in sorted((place / "out" / "demo").rglob("*")):
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise BrokenPromiseError(f"a link or a device was created: {path}")
            if path.is_file():
                if path.stat().st_mode & 0o7022 & ~os.umask(os.umask(0o022)):
                    raise BrokenPromiseError(f"permissions in the archive were kept: {path}")
                found[str(path.relative_to(place / "out" / "demo"))] = path.read_bytes()
    finally:
        names = {str(path.relative_to(place)) for path in place.rglob("*") if path.relative_to(place).parts[0] != "out"}
        below = [path.name for path in (place / "out").iterdir()]
        _empty(place / "out")
        if names != {"beside", "beside/file", "file"} or (place / "file").read_bytes() != b"untouched":
            raise BrokenPromiseError(f"something outside was changed: {names}")
        if not set(below) <= {"demo"}:
            raise BrokenPromiseError(f"something was left behind: {below}")
    return found


def _empty(place: Path) -> None:
    for path in sorted(place.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def _tar(data: bytes) -> None:
    seen = _read(mended(data))
    found = _unpack(mended(data))
    assert found == seen, (
        f"the unpacked files differ from the files that the reader returns: {sorted(found.items() ^ (seen or {}).items())!r:.300}"
    )


def _as_python_sees(data: bytes) -> dict[str, bytes] | None:
    """Return the files that the standard library reads; None if it refuses the archive, for example because it is empty."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None:
                    name = member.name
                    while name.startswith("./"):
                        name = name[2:]
                    found[name] = stream.read()
    except tarfile.ReadError:
        return None
    return found


def _chart(data: bytes) -> None:
    _unpack(gzip.compress(mended(data), 1, mtime=0), ExpectedChart("demo", "0.1.0"))


def _gzip(data: bytes) -> None:
    _unpack(data)
    _unpack(data, ExpectedChart("demo", "0.1.0"))


# -- layouts


def _layout_tar(data: bytes) -> None:
    data = mended(data)
    seen = _read(data)
    path = sandbox() / "layout.tar"
    path.write_bytes(data)
    with path.open("rb") as open_file:
        listed = [one for one in members(Extent.of(open_file.fileno(), "layout.tar"), "layout.tar") if not one.is_directory]
    here = {one.name: data[one.offset : one.offset + one.size] for one in listed}
    assert here == seen, (
        f"the files of the layout differ from the files that the reader returns: {sorted(here.items() ^ (seen or {}).items())!r:.300}"
    )
    with ReadonlyTar(path) as store:
        _walk(Contents(store, name="here"))
    with opened(path) as found:
        if found.record is not None:
            check_bundle(found)
        check_layout(found)


def _walk(contents: Contents) -> None:
    """Read the whole content of a layout, as `serve` and `bundle load` do."""
    snapshot = contents.load(strict=False)
    for name, repository in snapshot.repositories.items():
        reference = Reference.parse(f"mcr.microsoft.com/{name}")
        assert reference.repository == name
        for tag in repository.tags:
            contents.manifest(Reference(name, None, tag))
        for blob in repository.blobs.values():
            try:
                raw = read(contents, Reference(name), blob)
            except Error:
                continue
            assert Digest.of(raw, blob.digest.algorithm) == blob.digest
    contents.load(strict=True)


def _layout_folder(data: bytes) -> None:
    """The bytes are the layout's `index.json`, or a manifest or index that it names."""
    sort, _, body = data.partition(b"\n")
    place = fresh("layout")
    (place / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    blobs = place / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in (body, b"{}", b"hello"):
        (blobs / hashlib.sha256(blob).hexdigest()).write_bytes(blob)
    own = {
        "mediaType": OCI_INDEX if sort == b"index" else OCI_MANIFEST,
        "digest": f"sha256:{hashlib.sha256(body).hexdigest()}",
        "size": len(body),
    }
    index = {"schemaVersion": 2, "manifests": [own | {"annotations": {REF_NAME: NAME}}, own]}
    (place / "index.json").write_bytes(body if sort == b"top" else json.dumps(index).encode())
    _walk(Contents(Folder(place), name="here"))


# -- seeds


def _tar_seeds() -> list[bytes]:
    name = "d" * 60 + "/" + "n" * 60
    return [
        tar(directory("a/"), file("a/x", b"one"), file("b/c/y"), file("top", b"x" * 600)),
        tar(pax({"path": name, "mtime": "1.5", "size": "1"}), file("x", b"1")),
        tar(long_name(name), file(name[:100], b"1")),
        tar(pax({"comment": "0123abc"}, sort=b"g"), file("./x", b"1", mode=0o4755)),
        tar(file("x", b"1", prefix=b"a/b"), header("a/", sort=b"\0", magic=bytes(8))),
        tar(header("x", size_field=b"\x80" + (3).to_bytes(11, "big")) + padded(b"one")),
        tar(file("../beside/file", b"1")),
        tar(header("link", sort=b"2", link=b"../beside"), file("link/file", b"1")),
        tar(header("hard", sort=b"1", link=b"../file"), header("pipe", sort=b"6"), header("dev", sort=b"3")),
        tar(pax({"GNU.sparse.major": "1", "path": "x"}), file("x", b"1")),
        tar(file("A", b"1"), file("a", b"2")),
    ]


def _chart_seeds() -> list[bytes]:
    return [
        gzip.decompress(chart("demo", "0.1.0")),
        gzip.decompress(chart("demo", "0.1.0", file("demo/charts/x/Chart.yaml", b"name: x\n"))),
        gzip.decompress(chart("..", "0.1.0", top="demo")),
    ]


def _gzip_seeds() -> list[bytes]:
    return [
        chart("demo", "0.1.0"),
        gzip.compress(_tar_seeds()[0][:700]) + gzip.compress(_tar_seeds()[0][700:]),
        chart("demo", "0.1.0") + b"x",
        b"\x1f\x8b\x08",
    ]


def _documents() -> dict[str, bytes]:
    """Return the documents of a layout with one artifact, as path → bytes."""
    layer = {"mediaType": "text/plain", "digest": f"sha256:{hashlib.sha256(b'hello').hexdigest()}", "size": 5}
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}", "size": 2}
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "a/b", "config": config, "layers": [layer]}
    ).encode()
    own = Descriptor(OCI_MANIFEST, Digest.of(manifest), len(manifest))
    about = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "c/d",
            "config": config,
            "layers": [],
            "subject": {"mediaType": OCI_MANIFEST, "digest": str(own.digest), "size": own.size},
        }
    ).encode()
    entries = [
        {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(raw)), "size": len(raw)} | more
        for raw, more in ((manifest, {"annotations": {REF_NAME: NAME}}), (about, {}))
    ]
    entry = Entry(
        "foo",
        Reference("aks/foo", Host("mcr.microsoft.com"), "1.2.3", own.digest),
        own,
        Descriptor(str(config["mediaType"]), Digest.of(b"{}"), 2),
        (LockedLayer(Descriptor("text/plain", Digest.of(b"hello"), 5), "foo"),),
        "oci",
        "a/b",
    )
    first = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": entries}).encode(),
        "marfetch.lock": lock_bytes(make_lock([entry])),
        "bundle.html": b"<html></html>",
    }
    record = record_bytes(Record({name: Digest.of(data) for name, data in first.items()}))
    blobs = {f"blobs/sha256/{hashlib.sha256(raw).hexdigest()}": raw for raw in (manifest, about, b"{}", b"hello")}
    return {**first, "bundle.json": record, **blobs}


def _layout_seeds() -> list[bytes]:
    whole = _documents()
    small = {name: data for name, data in whole.items() if name in ("oci-layout", "index.json")}
    return [
        tar(*(file(name, data) for name, data in whole.items())),
        tar(*(file(name, data) for name, data in small.items())),
        tar(directory("./"), pax({"mtime": "1"}), *(file(f"./{name}", data) for name, data in small.items())),
        tar(long_name("blobs/" + "x" * 120), file("x", b"1"), *(file(name, data) for name, data in small.items())),
    ]


def _folder_seeds() -> list[bytes]:
    documents = _documents()
    manifests = [data for name, data in documents.items() if name.startswith("blobs/") and data.startswith(b'{"schema')]
    child = {
        "mediaType": OCI_MANIFEST,
        "digest": f"sha256:{hashlib.sha256(b'hello').hexdigest()}",
        "size": 5,
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [child, child | {"mediaType": "text/plain"}],
        "subject": child,
        "annotations": {"a": "b"},
    }
    return [
        *(b"manifest\n" + one for one in manifests),
        b"index\n" + json.dumps(index).encode(),
        b"top\n" + documents["index.json"],
        b"top\n" + json.dumps({"schemaVersion": 2, "manifests": [child | {"annotations": {REF_NAME: "latest"}}]}).encode(),
    ]


TARGETS = (
    Target("tar", _tar, _tar_seeds, (4, 5), ("tar.TarReader.__iter__", "destination.archive.Archive.__iter__", "destination.unpack.unpack"), runs=250, most=1 << 14),
    Target("chart", _chart, _chart_seeds, (4, 5), ("destination.archive.Archive.__iter__", "chart.expected.ExpectedChart.check"), runs=120, most=1 << 14),
    Target("gzip", _gzip, _gzip_seeds, (4, 5), ("destination.packed.Packed.some",), runs=300, most=1 << 14),
    Target("layout-tar", _layout_tar, _layout_seeds, (2, 4, 5), ("layout.readonly.members", "tar.TarReader.__iter__", "layout.repositories.Contents.load", "bundle.check.check_bundle", "bundle.format.opened"), runs=300, most=1 << 15),
    Target("layout-folder", _layout_folder, _folder_seeds, (3, 4, 5), ("layout.repositories.Contents.load", "layout.graph.Manifests.read"), runs=250),
)  # fmt: skip
