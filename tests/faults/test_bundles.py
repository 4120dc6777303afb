"""U: bundles that change during the transfer."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from marfetch.__main__ import main
from marfetch.bundle.format import FIRST, parse_record, record_bytes
from marfetch.layout.readonly import MAX_MEMBERS
from marfetch.oci import Digest

from ..world.archives import END, directory, file, gzipped_zeros, header, pax
from ..world.bundles import blob_names, members, rewritten
from ..world.images import add_multi, add_naming_chart
from ..world.registry import Registry
from ..world.rows import row
from ..world.serving import Serving
from ..world.world import Ended, World

BIG = bytes(range(256)) * 40_000


def make(world: World, output: str = "a.tar") -> Path:
    """Create a small bundle with `bundle create`."""
    for name in ("first", "second"):
        world.registry.add_artifact(f"aks/{name}", "1.0.0", (f"{name}.bin", name.encode()))
    world.registry.add_blob(b"{}")
    (world.here / "marfetch.yaml").write_text("schema: 1\nartifacts: [{reference: 'aks/first:1.0.0'}, {reference: 'aks/second:1.0.0'}]\n")
    world.run("lock", "--json").succeeded()
    world.run("bundle", "create", "-o", output, "--json").succeeded()
    return world.here / output


_MADE: list[bytes] = []


@pytest.fixture
def bundle(world: World) -> Path:
    """Return a copy of a bundle that is created only once."""
    if not _MADE:
        _MADE.append(make(world).read_bytes())
    (world.here / "a.tar").write_bytes(_MADE[0])
    return world.here / "a.tar"


def refused(world: World, exit_code: int, code: str, *gist: str) -> Ended:
    """Check that `verify` reports the fault of `x.tar`, and that `load` uploads nothing."""
    ended = world.run("bundle", "verify", "x.tar", "--json").failed(exit_code, code, *gist, requests=0)
    world.run("bundle", "load", "x.tar", "--to", "./loaded", "--json").failed(exit_code, code, requests=0)
    assert not (world.here / "loaded").exists(), ended
    return ended


Files = dict[str, bytes]
Change = Callable[[Files], Files | None]


def without_a_blob(files: Files) -> None:
    del files[blob_names(files)[0]]


def with_another_blob(files: Files) -> Files:
    data = b"nobody asked for this"
    rest = {**{name: files[name] for name in blob_names(files)}, f"blobs/sha256/{Digest.of(data).encoded}": data}
    return {name: files[name] for name in FIRST} | dict(sorted(rest.items()))


def with_a_changed_blob(files: Files) -> None:
    name = blob_names(files)[-1]
    files[name] = bytes([files[name][0] ^ 1]) + files[name][1:]


def with_another_index(files: Files) -> None:
    index = json.loads(files["index.json"])
    first, second = (one["annotations"] for one in index["manifests"])
    index["manifests"][0]["annotations"], index["manifests"][1]["annotations"] = second, first
    files["index.json"] = json.dumps(index, separators=(",", ":")).encode()


def with_one_name_twice(files: Files) -> None:
    index = json.loads(files["index.json"])
    index["manifests"][1]["annotations"] = index["manifests"][0]["annotations"]
    files["index.json"] = json.dumps(index, separators=(",", ":")).encode()


def of_another_version(files: Files) -> None:
    files["oci-layout"] = b'{"imageLayoutVersion":"2.0.0"}'


def with_another_lock(files: Files) -> None:
    files["marfetch.lock"] = files["marfetch.lock"].replace(b"aks/first", b"aks/f1rst")


def with_another_page(files: Files) -> None:
    files["bundle.html"] += b"<script>alert(1)</script>"


CHANGES: dict[str, tuple[Change, str, str]] = {
    "a blob is missing": (without_a_blob, "bundle-broken", "1 missing"),
    "a blob too many": (with_another_blob, "bundle-broken", "1 extra"),
    "a blob was changed": (with_a_changed_blob, "bundle-broken", "sha256:"),
    "names in the index are swapped": (with_another_index, "bundle-broken", "wrong"),
    "a name appears twice in the index": (with_one_name_twice, "malformed", "aks/first"),
    "a newer version of the layout": (of_another_version, "malformed", "2.0.0"),
    "the lock was changed": (with_another_lock, "bundle-broken", "marfetch.lock"),
    "the page was changed": (with_another_page, "bundle-broken", "bundle.html"),
    "another order": (lambda files: dict(reversed(files.items())), "bundle-broken", "wrong"),
}


@row(
    "U01",
    "a missing, extra or altered blob; swapped or duplicate names; another version, lock or page",
    "Reports each problem and loads nothing",
    code=5,
)
@pytest.mark.parametrize("name", CHANGES)
def test_a_bundle_that_was_changed_is_broken_and_nothing_of_it_is_loaded(world: World, bundle: Path, name: str) -> None:
    change, code, said = CHANGES[name]
    rewritten(bundle, world.here / "x.tar", change)
    ended = world.run("bundle", "verify", "x.tar", "--json")
    assert (ended.returncode, ended.error["exitCode"]) == (5, 5), ended
    assert said in ended.out, ended
    refused(world, 5, ended.error["code"])
    assert ended.error["code"] in (code, "bundle-broken", "malformed"), ended
    if name == "a blob is missing":
        missing = ended.document["data"]["missing"]
        assert [one["name"] for one in missing] == [blob_names(members(bundle))[0].removeprefix("blobs/").replace("/", ":")]


@row("U01", "a layout of another tool with an unreferenced blob", "Ignores the blob, as the specification says", code=0)
def test_a_blob_too_many_in_a_layout_of_another_tool_is_passed_over(world: World, bundle: Path) -> None:
    def plain(files: Files) -> Files:
        changed = with_another_blob(files)
        return {name: data for name, data in changed.items() if name not in ("bundle.json", "marfetch.lock", "bundle.html")}

    rewritten(bundle, world.here / "x.tar", plain)
    ended = world.run("bundle", "load", "x.tar", "--to", "./loaded", "--json").succeeded(requests=0)
    extra = Digest.of(b"nobody asked for this").encoded
    assert not any(extra in name for name in ended.files), ended
    assert "loaded/index.json" in ended.files


@row(
    "U01",
    "the record says that the manifest of a wanted platform was left out",
    "Compares the record with the lock, and loads nothing",
    code=5,
)
def test_a_record_cannot_excuse_what_the_lock_wants(world: World) -> None:
    _, children = add_multi(world.registry)
    add_naming_chart(world.registry, f"{world.registry.host}/oss/web:2.1")
    item = "{reference: charts/foo, images: true, platforms: [linux/amd64, windows/amd64]}"
    (world.here / "marfetch.yaml").write_text(f"schema: 1\nartifacts: [{item}]\n")
    world.run("lock", "--json").succeeded()
    world.run("bundle", "create", "-o", "a.tar", "--json").succeeded()
    gone = children[0]

    def lying(files: Files) -> Files:
        record = parse_record(files["bundle.json"], "a.tar")
        omitted = {**record.omitted_manifests, gone.digest: gone.size}
        files["bundle.json"] = record_bytes(replace(record, omitted_manifests=omitted))
        return {name: data for name, data in files.items() if not name.endswith(gone.digest.encoded)}

    rewritten(world.here / "a.tar", world.here / "x.tar", lying)
    ended = refused(world, 5, "bundle-broken", "1 missing, 1 wrong")
    for sort in ("missing", "wrong"):
        assert [one["name"] for one in ended.document["data"][sort]] == [str(gone.digest)]


# -- U02


def appended(*more: bytes) -> Callable[[bytes], bytes]:
    """Return a function that appends members before the end of an archive."""

    def change(data: bytes) -> bytes:
        whole = data.rstrip(b"\0")
        return whole + bytes(-len(whole) % 512) + b"".join(more) + END

    return change


TARS: dict[str, tuple[Callable[[bytes], bytes], int, str, str]] = {
    "../": (appended(file("../evil", b"e")), 5, "bundle-broken", "../evil"),
    "../ below blobs": (appended(file("blobs/sha256/../../../evil", b"e")), 5, "bundle-broken", "not a plain relative path"),
    "an absolute name": (appended(file("/evil", b"e")), 5, "bundle-broken", "/evil"),
    "a backslash": (appended(file("..\\evil", b"e")), 5, "bundle-broken", "evil"),
    "an escape": (appended(file("a\x1b[31m", b"e")), 5, "bundle-broken", "refused"),
    "a symbolic link": (appended(header("blobs/x", sort=b"2", link=b"/etc/passwd")), 5, "bundle-broken", "link"),
    "a hard link": (appended(header("blobs/x", sort=b"1", link=b"index.json")), 5, "bundle-broken", "link"),
    "a device": (appended(header("x", sort=b"3")), 5, "bundle-broken", "refused"),
    "a sparse file": (appended(header("x", sort=b"S")), 5, "bundle-broken", "refused"),
    "a sparse file of PAX": (appended(pax({"GNU.sparse.size": "9"}), file("x", b"x")), 5, "bundle-broken", "refused"),
    "a size in PAX that is not that of the header": (appended(pax({"size": "1"}), file("x", b"xyz")), 5, "malformed", "two sizes"),
    "a name in PAX that leads elsewhere": (appended(pax({"path": "../evil"}), file("x", b"x")), 5, "bundle-broken", "../evil"),
    "a global header": (appended(pax({"path": "evil"}, sort=b"g")), 5, "malformed", "global header"),
    "two index.json": (appended(file("index.json", b"{}")), 5, "malformed", "`index.json` appears twice"),
    "two index.json, one with ./": (appended(file("./index.json", b"{}")), 5, "malformed", "`index.json` appears twice"),
    "a size beyond the end": (appended(header("x", 1 << 32)), 5, "malformed", "truncated"),
    "a second archive behind the end": (lambda data: data + file("index.json", b"{}") + END, 5, "malformed", "after its end"),
    "an index of 1 GiB": (lambda data: header("oci-layout", 30) + b'{"imageLayoutVersion":"1.0.0"}'.ljust(512, b"\0") + header("index.json", 1 << 30) + data, 5, "malformed", "truncated"),
    "gzip": (gzip.compress, 5, "bundle-broken", "compressed (gzip)"),
    "a gzip bomb": (lambda _: gzipped_zeros(1 << 30), 5, "bundle-broken", "compressed (gzip)"),
    "no archive": (lambda _: b"hello\n" * 200, 5, "bundle-broken", "not a tar"),
    "nothing": (lambda _: b"", 5, "bundle-broken", "not a tar"),
}  # fmt: skip


@row(
    "U02",
    "members that lead elsewhere, links, sparse files, two sizes, two `index.json`, compression bombs",
    "Refuses the archive and loads nothing",
    code=(4, 5),
)
@pytest.mark.parametrize("name", TARS)
def test_an_archive_that_leads_elsewhere_or_can_be_read_in_two_ways_is_refused(world: World, bundle: Path, name: str) -> None:
    change, exit_code, code, said = TARS[name]
    (world.here / "x.tar").write_bytes(change(bundle.read_bytes()))
    refused(world, exit_code, code, said)


@row("U02", "more than 500,000 members", "Stops at 500,000, in bounded memory", code=4)
def test_an_archive_of_too_many_members_is_refused(world: World) -> None:
    one = directory("d")
    with (world.here / "x.tar").open("wb") as archive:
        for _ in range(MAX_MEMBERS // 1000 + 1):
            archive.write(one * 1000)
    world.run("bundle", "verify", "x.tar", "--json").failed(4, "limit-passed", str(MAX_MEMBERS), requests=0)
    (world.here / "x.tar").unlink()


@row("U02", "a bundle that is truncated at every multiple of 512 bytes", "Reports it each time", code=5)
def test_a_bundle_that_is_cut_at_any_block_is_broken(
    world: World, bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bundle.read_bytes()
    path = world.here / "x.tar"
    monkeypatch.setenv("MARFETCH_CACHE_DIR", str(world.cache))
    for size in range(0, len(data), 512):
        path.write_bytes(data[:size])
        capsys.readouterr()
        code = main(["bundle", "verify", str(path), "--json"])  # run in this process, because there are a hundred cases
        said = json.loads(capsys.readouterr().out)
        assert (code, said["ok"]) == (5, False), size
        assert said["error"]["code"] in ("malformed", "bundle-broken"), said
    content = len(data.rstrip(b"\0"))
    for size in (512, 5 * 512, content // 2 // 512 * 512, content // 512 * 512):
        path.write_bytes(data[:size])
        ended = world.run("bundle", "load", "x.tar", "--to", "./loaded", "--json")
        assert (ended.returncode, ended.error["code"] in ("malformed", "bundle-broken")) == (5, True), ended
        assert not (world.here / "loaded").exists()


# -- U03


@row(
    "U03",
    "the same bundle, made with another cache, order, directory, umask, time zone and language",
    "Writes exactly the same bytes",
    code=0,
)
def test_two_bundles_of_one_lock_are_the_same_bytes(world: World, mar: Registry, tmp_path: Path) -> None:
    bundle = make(world)
    other = World(mar, tmp_path / "elsewhere")
    other.environment |= {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    lines = "schema: 1\nartifacts: [{reference: 'aks/second:1.0.0'}, {reference: 'aks/first:1.0.0'}]\n"
    (other.here / "marfetch.yaml").write_text(lines)
    other.run("lock", "--json", umask=0o077).succeeded()
    other.run("bundle", "create", "-o", "b.tar", "--jobs", "1", "--json", umask=0o077, clock=86400 * 400).succeeded()
    world.codes += other.codes
    assert (other.here / "b.tar").read_bytes() == bundle.read_bytes()
    with tarfile.open(bundle) as archive:
        found = archive.getmembers()
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname, one.mode) for one in found} == {(0, 0, 0, "", "", 0o644)}
    names = [one.name for one in found]
    assert names == [*FIRST, *sorted(set(names) - set(FIRST))]


# -- U04


def with_large(world: World) -> tuple[Path, str]:
    """Create a bundle with a blob of 10 MB. Return its path, and the path of the blob for `serve`."""
    world.registry.add_artifact("aks/large", "1.0.0", ("large.bin", BIG))
    world.registry.add_blob(b"{}")
    (world.here / "marfetch.yaml").write_text("schema: 1\nartifacts: [{reference: 'aks/large:1.0.0'}]\n")
    world.run("lock", "--json").succeeded()
    world.run("bundle", "create", "-o", "a.tar", "--json").succeeded()
    return world.here / "a.tar", f"/v2/aks/large/blobs/{Digest.of(BIG)}"


@row("U04", "another bundle replaces the file while it is served", "Continues to serve the bundle that it opened", code=0)
def test_a_bundle_that_is_replaced_is_still_served(world: World) -> None:
    path, target = with_large(world)
    kept = world.here / "kept.tar"
    kept.hardlink_to(path)
    with Serving(world, path) as serving:
        with serving.connect() as asking:
            asking.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            got = bytearray(asking.recv(1000))
            other = world.here / "other.tar"
            other.write_bytes(bytes(path.stat().st_size))
            other.replace(path)
            while piece := asking.recv(1 << 20):
                got += piece
        assert got.partition(b"\r\n\r\n")[2] == BIG
        assert serving.ask(target).body == BIG
        assert serving.ask("/v2/aks/large/manifests/1.0.0").status == 200
        kept.rename(other)
        other.replace(path)  # restore the bundle, because the check of existing files expects it
        kept.hardlink_to(path)


@row("U04", "another program overwrites or truncates the bundle while it is served", "Never serves wrong bytes as a complete blob", code=0)
@pytest.mark.parametrize("how", ["overwritten", "cut"])
def test_a_bundle_that_is_overwritten_is_never_served_with_wrong_bytes(world: World, how: str) -> None:
    path, target = with_large(world)
    content, before = path.read_bytes(), path.stat()
    with Serving(world, path) as serving:
        assert serving.ask(target).body == BIG
        with serving.connect() as asking:
            asking.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            got = bytearray(asking.recv(1000))
            if how == "cut":
                os.truncate(path, len(content) // 2)
            else:
                with path.open("r+b") as changed:
                    changed.seek(content.index(BIG[:4096]) + len(BIG) // 2)
                    changed.write(bytes(len(BIG) // 2))
            with contextlib.suppress(ConnectionError):
                while piece := asking.recv(1 << 20):
                    got += piece
        head, _, body = bytes(got).partition(b"\r\n\r\n")
        length = int((re.search(rb"(?i)content-length: (\d+)", head) or [b"", b"-1"])[1])
        # Bytes that were in buffers before the change are right. The body is complete only if all its bytes are right.
        assert body == BIG or len(body) < length, (len(body), length)
        for _ in range(3):
            try:
                answer = serving.ask(target)
            except OSError:
                continue  # the server may close the connection without a response
            assert answer.status != 200 or answer.body == BIG, answer.status
        with path.open("r+b") as mended:
            mended.write(content)
            mended.truncate(len(content))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_hostile_archives_are_made_of_a_good_one(world: World, bundle: Path) -> None:
    (world.here / "x.tar").write_bytes(appended()(bundle.read_bytes()))
    with tarfile.open(fileobj=io.BytesIO((world.here / "x.tar").read_bytes())) as archive:
        assert archive.getnames() == list(members(bundle))
