"""B: content that does not match its descriptor."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable

import pytest

from marfetch.oci import Digest

from ..world.content import ALB
from ..world.registry import Knob
from ..world.rows import row
from ..world.world import World, sha256

DATA = bytes(range(256)) * 400
SIZE = len(DATA)
OTHER = bytes(reversed(range(256))) * 400
PULL = ("pull", "aks/foo:1", "--json")
MADE = {"foo.bin": DATA}
Twist = Callable[[Knob], object]


def pulled(world: World, cases: dict[str, tuple[Twist, str]]) -> None:
    """Pull one artifact per case. Check that no file is written, and that a pull succeeds when the registry is honest again."""
    made = {}
    for number, (twist, _) in enumerate(cases.values()):
        data = bytes([number]) + DATA[1:]
        twist(world.artifact(f"aks/foo{number}", data))
        made[f"foo{number}.bin"] = data
    words = ("pull", *(f"aks/foo{number}:1" for number in range(len(cases))), "--json")
    codes = [code for _, code in cases.values()]
    # At most one retry for each artifact.
    ended = world.run(*words).failed(5, codes[0], requests=5 * len(cases))
    assert [one["code"] for one in ended.failures] == codes
    for number, one in enumerate(ended.failures):
        assert one["exitCode"] == 5
        assert f"aks/foo{number}" in one["message"], one
        assert one.get("expected"), one
        assert world.registry.data_host in one["url"], one
    assert ended.partial == {}
    world.recovers(*words, made=made)


WRONG: dict[str, tuple[Twist, str]] = {
    "one byte": (lambda knob: knob.answers_with(b"\xff" + DATA[1:]), "digest-mismatch"),
    "altered": (lambda knob: knob.answers_with(b"x" * SIZE), "digest-mismatch"),
    "swapped": (lambda knob: knob.answers_with(OTHER), "digest-mismatch"),
    "a web page": (lambda knob: knob.answers_with(b"<html>log in</html>", Content_Type="text/html"), "size-mismatch"),
    "none": (lambda knob: knob.answers_with(b""), "size-mismatch"),
}


@row(
    "B01",
    "one changed byte, all bytes changed, another blob's bytes, a web page, or nothing",
    "Refuses the blob with both digests or sizes, after one retry at most, and keeps nothing",
    code=5,
)
def test_wrong_bytes_are_refused(world: World) -> None:
    pulled(world, WRONG)


LENGTHS: dict[str, tuple[Twist, str]] = {
    "one byte short": (lambda knob: knob.answers_with(DATA[:-1]), "size-mismatch"),
    "one byte more": (lambda knob: knob.answers_with(DATA + b"x"), "size-mismatch"),
    "twice": (lambda knob: knob.answers_with(DATA * 2), "size-mismatch"),
    "short, in chunks": (lambda knob: knob.sends_chunked(DATA[:-1]), "size-mismatch"),
    "more, in chunks": (lambda knob: knob.sends_chunked(DATA + b"x"), "size-mismatch"),
}


@row(
    "B02",
    "a body shorter or longer than its descriptor says, with a length or in chunks",
    "Refuses it and stops reading at the expected size",
    code=5,
)
def test_a_body_of_another_size_is_refused(world: World) -> None:
    pulled(world, LENGTHS)


@row("B02", "a descriptor whose size is off by one", "Refuses the blob as soon as its length is announced", code=5)
@pytest.mark.parametrize("off", [-1, 1])
def test_a_descriptor_of_another_size_is_refused(world: World, off: int) -> None:
    layer = {"mediaType": "application/octet-stream", "digest": f"sha256:{sha256(DATA)}", "size": SIZE + off}
    world.registry.add_blob(DATA)
    world.registry.add_artifact("aks/foo", "1", (None, b"x"), layers=[layer])
    ended = world.run(*PULL).failed(5, "size-mismatch", str(SIZE), str(SIZE + off), requests=3)
    assert ended.received < 64 * 1024


@row("B03", "an endless body", "Reads the expected size and one buffer at most", code=5)
def test_a_body_without_end_is_read_to_its_size(world: World) -> None:
    world.artifact("aks/foo", DATA).sends_endlessly(b"x" * 4096)
    large = DATA * 100  # large enough to fill the read buffer
    world.artifact("aks/large", large).sends_endlessly(b"x" * 65536)
    ended = world.run(*PULL).failed(5, "size-mismatch", "aks/foo", requests=5)
    assert ended.received <= SIZE + 16 * 1024, ended
    ended = world.run("pull", "aks/large:1", "--json").failed(5, "size-mismatch", "aks/large", requests=5)
    assert ended.received <= len(large) + 64 * 1024, ended


@row("B03", "an announced length of 1 PiB", "Refuses the blob before reading its body", code=5)
def test_an_announced_pebibyte_is_refused(world: World) -> None:
    world.artifact("aks/foo", DATA).says(Content_Length=str(1 << 50))
    ended = world.run(*PULL).failed(5, "size-mismatch", str(1 << 50), str(SIZE), requests=3)
    assert ended.received < 64 * 1024


@row("B03", "a descriptor of 1 PiB, or of more than the disk can hold", "Refuses it before requesting the blob", code=(4, 9))
@pytest.mark.parametrize(
    ("size", "exit_code", "code"), [(1 << 50, 4, "limit-passed"), ((1 << 63) - 1, 4, "limit-passed"), (1 << 40, 9, "disk-full")]
)
def test_a_descriptor_beyond_the_disk_is_refused(world: World, size: int, exit_code: int, code: str) -> None:
    if exit_code == 9 and shutil.disk_usage(world.root).free > size:
        pytest.skip("the disk has a TiB of free space")
    layer = {"mediaType": "application/octet-stream", "digest": str(Digest.of(b"x")), "size": size}
    world.registry.add_artifact("aks/foo", "1", (None, b"x"), layers=[layer])
    ended = world.run(*PULL).failed(exit_code, code, requests=1)
    assert ended.partial == {}


@row("B04", "`Content-Encoding: gzip` on a blob that is a gzip file", "Stores the bytes as they arrive", code=0)
def test_a_blob_that_is_called_compressed_is_not_decoded(world: World) -> None:
    packed = gzip.compress(DATA, mtime=0)
    world.artifact("aks/foo", packed).says(Content_Encoding="gzip")
    world.run(*PULL).succeeded(made={"foo.bin": packed}, requests=3)


@row(
    "B04",
    "a compression bomb of the expected size (16 KiB that become 16 MiB), under several encodings",
    "Never decompresses it; refuses it because its digest is wrong",
    code=5,
)
def test_a_bomb_is_not_unpacked(world: World) -> None:
    bomb = gzip.compress(b"\0" * (16 << 20))
    for number, encoding in enumerate(("gzip", "deflate", "br", "gzip, gzip", "identity, gzip")):
        world.artifact(f"aks/foo{number}", bytes([number]) + b"x" * (len(bomb) - 1)).answers_with(bomb, Content_Encoding=encoding)
    ended = world.run("pull", *(f"aks/foo{number}:1" for number in range(5)), "--json", memory=100 << 20)
    ended.failed(5, "digest-mismatch", requests=25)
    assert [one["code"] for one in ended.failures] == ["digest-mismatch"] * 5


@row("B04", "`Content-Encoding: gzip` on a manifest or a tag list", "Refuses it as malformed, without decompressing it", code=5)
def test_a_document_that_is_called_compressed_is_not_decoded(world: World) -> None:
    bomb = gzip.compress(b"[" * (64 << 20))
    world.registry.on("any").answers_with(bomb, Content_Encoding="gzip", Docker_Content_Digest=None)  # type: ignore[arg-type]
    for words in (("resolve", f"{ALB}:1.7.12"), ("versions", ALB)):
        world.run(*words, "--json", memory=100 << 20).failed(5, "malformed", ALB, requests=1)


@row("B05", "a wrong `Docker-Content-Digest` header", "Refuses the manifest with both digests", code=5)
def test_a_digest_header_that_lies_is_noticed(world: World) -> None:
    world.artifact("aks/foo", DATA)
    lie = str(Digest.of(b"something else"))
    world.registry.on("manifest").says(Docker_Content_Digest=lie)
    ended = world.run(*PULL).failed(5, "digest-mismatch", "Docker-Content-Digest", "aks/foo", lie, requests=2)
    assert ended.error["expected"] == lie
    assert ended.error["actual"].startswith("sha256:")


@row(
    "B05",
    "other bytes for a manifest that is pinned by digest, with or without a tag",
    "Refuses it with both digests, or says that the tag has moved",
    code=5,
)
@pytest.mark.parametrize("tag", ["", ":1"])
def test_a_pinned_manifest_with_other_bytes_is_refused(world: World, tag: str) -> None:
    pinned = world.registry.add_artifact("aks/foo", "1", ("foo.bin", DATA))
    world.registry.add_artifact("aks/foo", "1", ("foo.bin", OTHER))
    world.registry.manifests[f"aks/foo {pinned.digest}"] = world.registry.manifests["aks/foo 1"]
    code = "tag-moved" if tag else "digest-mismatch"
    ended = world.run("pull", f"aks/foo{tag}@{pinned.digest}", "--json").failed(5, code, str(pinned.digest), "aks/foo", requests=2)
    assert ended.error["expected"] == str(pinned.digest)


@row("B06", "a tag moves while its payload is downloaded", "Downloads all files of the manifest that it read first", code=0)
def test_a_tag_that_moves_gives_one_of_the_two(world: World) -> None:
    def publish(data: bytes) -> str:
        return str(world.registry.add_artifact("aks/foo", "1", ("one.bin", data), ("two.bin", data[::-1])).digest)

    for number, (first, second) in enumerate([(DATA, OTHER), (OTHER, DATA)]):
        published = publish(first)
        world.registry.on("blob").meanwhile(lambda data=second: publish(data))  # type: ignore[misc]
        ended = world.run("pull", "aks/foo:1", "-d", str(number), "--json")
        ended.succeeded(made={f"{number}/one.bin": first, f"{number}/two.bin": first[::-1]})
        assert {one["reference"].rpartition("@")[2] for one in ended.document["data"]["files"]} == {published}
        assert ended.kinds.count("manifest") == 1
        world.registry.honestly()


@row("B06", "a tag has moved, and its file exists already", "Keeps the existing file and points to `--force`", code=9)
def test_a_moved_tag_does_not_replace_a_file(world: World) -> None:
    world.artifact("aks/foo", DATA)
    world.run(*PULL).succeeded(made=MADE)
    world.registry.add_artifact("aks/foo", "1", ("foo.bin", OTHER))
    world.run(*PULL).failed(9, "file-differs", "foo.bin", "--force", requests=1)
    world.run(*PULL, "--force", replaces=["foo.bin"]).succeeded(made={"foo.bin": OTHER})


@row("B06", "the registry returns another manifest than the index names", "Refuses it", code=5)
def test_an_index_fixes_its_manifest(world: World) -> None:
    child = world.registry.add_artifact("aks/foo", "child", ("foo.bin", DATA))
    entry = {"mediaType": child.media_type, "digest": str(child.digest), "size": child.size}
    world.registry.add_manifest(
        "aks/foo",
        "1",
        json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}).encode(),
    )
    world.registry.add_artifact("aks/foo", "child", ("foo.bin", OTHER))
    world.registry.manifests[f"aks/foo {child.digest}"] = world.registry.manifests["aks/foo child"]
    world.run(*PULL).failed(5, "digest-mismatch", str(child.digest), requests=3)
