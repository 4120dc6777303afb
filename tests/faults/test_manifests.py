"""M: invalid and unusual manifests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marfetch.oci import Digest, descriptor_json

from ..world.rows import row
from ..world.world import Ended, World, sha256

OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DATA = b"content" * 1000
PULL = ("pull", "aks/foo:1", "--json")
LIMIT = 4 << 20
CONFIG = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{sha256(b'{}')}", "size": 2}
LAYER = {"mediaType": "application/octet-stream", "digest": f"sha256:{sha256(DATA)}", "size": len(DATA)}


def manifest(**changes: Any) -> dict[str, Any]:
    """Return a manifest with these fields changed. A field with the value `...` is left out."""
    whole = {"schemaVersion": 2, "mediaType": OCI, "config": CONFIG, "layers": [LAYER], **changes}
    return {name: value for name, value in whole.items() if value is not ...}


def layer(**changes: Any) -> dict[str, Any]:
    """Return a manifest with one layer, with these fields of the layer changed."""
    return manifest(layers=[{name: value for name, value in {**LAYER, **changes}.items() if value is not ...}])


def index(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return an index with these entries, and with these fields changed."""
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries), **changes}


def pulled(world: World, cases: dict[str, Any], **options: Any) -> Ended:
    """Pull one artifact per case in one command. The case is the manifest, as bytes or as a value to encode as JSON."""
    world.registry.add_blob(DATA)
    for number, case in enumerate(cases.values()):
        raw, media_type = case if isinstance(case, tuple) else (case, OCI)
        raw = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
        world.registry.add_manifest(f"aks/case{number}", "1", raw, media_type)
    return world.run("pull", *(f"aks/case{number}:1" for number in range(len(cases))), "--json", **options)


def refused(world: World, cases: dict[str, Any], said: dict[str, str], *, codes: frozenset[str] = frozenset({"malformed"})) -> None:
    """Check that each case is refused after one request, with a message that names the problem."""
    ended = pulled(world, cases, memory=150 << 20)
    assert ended.returncode in (4, 5), ended
    assert ended.kinds == ["manifest"] * len(cases), str(ended)
    assert len(ended.failures) == len(cases)
    for number, (name, one) in enumerate(zip(cases, ended.failures, strict=True)):
        assert one["code"] in codes, (name, one)
        assert one["exitCode"] == {"malformed": 5, "limit-passed": 4, "manifest-withdrawn": 4}[one["code"]]
        assert f"aks/case{number}" in one["message"], (name, one)
        assert len(one["message"]) < 700, (name, one)
        assert said.get(name, "") in one["message"], (name, one)
    assert ended.files == {}


@row("M01", "a manifest of 64 MiB, announced", "Refuses it without reading it", code=4)
def test_a_manifest_of_64_mib_is_not_read(world: World) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.on("manifest").answers_with(b" " * (64 << 20))
    ended = world.run(*PULL).failed(4, "limit-passed", str(LIMIT), requests=1)
    assert ended.received <= 128 * 1024, ended


@row("M01", "an endless manifest, or a large one without an announced length", "Reads 4 MiB and one buffer of 64 KiB at most", code=4)
@pytest.mark.parametrize("how", ["endless", "in chunks"])
def test_a_manifest_without_end_is_read_to_the_limit(world: World, how: str) -> None:
    world.artifact("aks/foo", DATA)
    knob = world.registry.on("manifest")
    knob.sends_endlessly(b" " * 65536) if how == "endless" else knob.sends_chunked(b" " * (16 << 20))
    ended = world.run(*PULL).failed(4, "limit-passed", str(LIMIT), requests=1)
    assert LIMIT <= ended.received <= LIMIT + (64 << 10), ended


DEEP = b'{"a":' * 200_000
JUNK: dict[str, Any] = {
    "200,000 brackets": b"[" * 200_000,
    "200,000 braces": DEEP,
    "200,000 brackets and back": b"[" * 200_000 + b"]" * 200_000,
    "100 levels": json.dumps(manifest(annotations=...))[:-1].encode() + b',"x":' + b"[" * 100 + b"]" * 100 + b"}",
    "100,000 digits": b'{"schemaVersion":' + b"9" * 100_000 + b"}",
    "a number of 400 digits": b'{"schemaVersion":2,"x":1' + b"0" * 400 + b"}",
    "NaN": b'{"schemaVersion":NaN}',
    "Infinity": b'{"schemaVersion":-Infinity}',
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(manifest()).encode(),
    "UTF-16": json.dumps(manifest()).encode("utf-16"),
    "junk after": json.dumps(manifest()).encode() + b"x",
    "two documents": json.dumps(manifest()).encode() * 2,
    "Latin-1": json.dumps(manifest(annotations={"x": "é"}), ensure_ascii=False).encode("latin-1"),
    "a name twice": json.dumps(manifest())[:-1].encode() + b',"layers":[]}',
    "a name twice, once escaped": json.dumps(manifest())[:-1].encode() + b',"l\\u0061yers":[]}',
    "cut": json.dumps(manifest()).encode()[:-1],
    "single quotes": str(manifest()).encode(),
    "a comment": b"/* x */" + json.dumps(manifest()).encode(),
}


@row(
    "M02",
    "JSON with 200,000 brackets, 100,000 digits, NaN, a byte order mark, UTF-16, Latin-1, trailing junk or a duplicate key",
    "Refuses it as malformed after one request, in bounded memory",
    code=5,
)
def test_json_that_no_reader_should_take_is_refused(world: World) -> None:
    said = {
        "200,000 brackets": "nested", "200,000 braces": "nested", "100 levels": "nested", "100,000 digits": "100000 digits", "NaN": "NaN",
        "a byte order mark": "byte order mark", "Latin-1": "not UTF-8", "a name twice": "appears twice", "a name twice, once escaped": "appears twice",
    }  # fmt: skip
    refused(world, JUNK, said)


SHAPES: dict[str, Any] = {
    "schemaVersion 1": manifest(schemaVersion=1),
    "schemaVersion 99": manifest(schemaVersion=99),
    "schemaVersion true": manifest(schemaVersion=True),
    "schemaVersion text": manifest(schemaVersion="2"),
    "no schemaVersion": manifest(schemaVersion=...),
    "announced as an index": (manifest(), INDEX),
    "announced as Docker's": (manifest(), DOCKER),
    "another media type": manifest(mediaType="text/plain"),
    "a media type that is none": manifest(mediaType=7),
    "layers and manifests": manifest(manifests=[]),
    "an index with layers": (index(layers=[]), INDEX),
}


@row("M03", "`schemaVersion` 1 or 99; media types that disagree; both layers and manifests", "Refuses it and names the field", code=5)
def test_a_manifest_that_contradicts_itself_is_refused(world: World) -> None:
    refused(world, SHAPES, {name: "chemaVersion" if "chema" in name else "ediaType" if "type" in name else "" for name in SHAPES})


FORMS: dict[str, Any] = {
    "null": b"null",
    "a list": b"[]",
    "nothing": b"",
    "a text": b'"x"',
    "a web page": b"<html>log in</html>",
    "a web page under a manifest's type": b"<html>log in</html>",
    "an object": b"{}",
    "no layers": manifest(layers=...),
    "layers an object": manifest(layers={}),
    "layers of null": manifest(layers=[None]),
    "layers of texts": manifest(layers=["x"]),
    "no config": manifest(config=...),
    "config a list": manifest(config=[]),
    "annotations of numbers": manifest(annotations={"a": 1}),
    "annotations a list": manifest(annotations=[]),
    "no media type in a layer": layer(mediaType=...),
    "20,000 layers": manifest(layers=[LAYER] * 20_000),
    "no manifests": ({"schemaVersion": 2, "mediaType": INDEX}, INDEX),
    "layers null and manifests": manifest(layers=None, manifests=[LAYER]),
}


@row(
    "M04",
    "null, a list, nothing or a web page instead of a manifest; layers that are missing, of a wrong type, or 20,000 in number",
    "Refuses it",
    code=5,
)
def test_a_document_of_another_form_is_refused(world: World) -> None:
    said = {"no layers": "`layers` is missing", "layers an object": "`layers`", "20,000 layers": "20000 entries", "a web page": "web page"}
    # The honest registry would not send this manifest with these media types.
    world.registry.on("manifest", "case2/").answers(200, Content_Type=OCI)
    world.registry.on("manifest", "case4/").answers(200, b"<html>log in</html>", Content_Type="text/html")
    refused(world, FORMS, said, codes=frozenset({"malformed", "limit-passed"}))


@row("M04", "layers, manifests, annotations or a config that are null", "Reads them as empty, as programs in Go write them", code=3)
def test_null_is_empty(world: World) -> None:
    cases = {
        "layers": manifest(layers=None, annotations=None),
        "config": manifest(layers=None, config=None),
        "manifests": (index() | {"manifests": None}, INDEX),
    }
    ended = pulled(world, cases)
    assert ended.returncode == 3, ended
    assert [one["code"] for one in ended.failures] == ["layer-not-found", "layer-not-found", "platform-not-found"]
    assert ["has no layers" in one["message"] for one in ended.failures] == [True, True, False]


ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
WITHDRAWN: dict[str, tuple[dict[str, Any], str, str]] = {
    "OCI": ({"mediaType": ARTIFACT, "artifactType": "a/b", "blobs": [LAYER]}, ARTIFACT, "an artifact manifest of OCI 1.1-rc"),
    "OCI by its body": (
        {"mediaType": ARTIFACT, "artifactType": "a/b", "blobs": [LAYER]},
        "application/json",
        "an artifact manifest of OCI",
    ),
    "Docker": ({"schemaVersion": 1, "name": "x", "fsLayers": []}, SIGNED, "a signed Docker schema 1 manifest"),
    "Docker by its body": ({"schemaVersion": 1, "name": "x", "fsLayers": []}, "application/json", "a Docker schema 1 manifest"),
}


@row("M09", "an artifact manifest of OCI 1.1-rc; a Docker schema 1 manifest", "Refuses it and names the withdrawn format", code=4)
def test_a_withdrawn_format_is_named(world: World) -> None:
    for number, (document, media_type, _) in enumerate(WITHDRAWN.values()):
        # The honest registry would not send it to a client that does not accept this media type.
        world.registry.on("manifest", f"case{number}/").answers(200, json.dumps(document), Content_Type=media_type)
    cases = {name: document for name, (document, _, _) in WITHDRAWN.items()}
    refused(world, cases, {name: words for name, (_, _, words) in WITHDRAWN.items()}, codes=frozenset({"manifest-withdrawn"}))


SIZES: dict[str, Any] = {
    "negative": layer(size=-1),
    "a text": layer(size="7000"),
    "a fraction": layer(size=1.5),
    "a whole fraction": layer(size=7000.0),
    "an exponent": json.dumps(layer()).encode().replace(b'"size": 7000', b'"size": 7e3'),
    "true": layer(size=True),
    "null": layer(size=None),
    "missing": layer(size=...),
    "2^63": layer(size=1 << 63),
    "400 digits": layer(size=10**400),
    "a list": layer(size=[7000]),
    "of the config": manifest(config={**CONFIG, "size": -1}),
}


@row("M05", "a size that is negative, a text, a fraction, true, null, missing, 2^63 or 10^400", "Refuses it and names the field", code=5)
def test_invalid_sizes_are_refused(world: World) -> None:
    refused(world, SIZES, {name: "size" for name in SIZES if name != "400 digits"} | {"400 digits": "401 digits"})


HEX = sha256(DATA)
DIGESTS: dict[str, Any] = {
    f"{number} {text[:20]!r}": layer(digest=text)
    for number, text in enumerate((
        f"sha256:../../../../etc/passwd{HEX}", "sha256:/etc/passwd", f"sha256:{HEX.upper()}", f"SHA256:{HEX}", f"md5:{HEX[:32]}", f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0", f"sha256:{HEX[:-1]}\0", f"sha256:{HEX[:-2]}?#", f"sha256:{HEX[:-3]}%2f", f"sha256:{HEX[:-1]}\n", f"sha256:{HEX[:-1]}\u0661",
        f"sha256:{HEX[:-5]}\x1b[31m", f"sha256+b64:{HEX}", f"sha512:{HEX}", HEX, f":{HEX}", "sha256:", "", f" sha256:{HEX}", f"sha256:{HEX} ", f"sha256:../{HEX[3:]}",
        f"sha256:{HEX[:30]}/../{HEX[34:]}",
    ))
} | {"a number": layer(digest=7), "null": layer(digest=None), "missing": layer(digest=...), "a list": layer(digest=[f"sha256:{HEX}"])}  # fmt: skip


@row(
    "M06",
    "a digest that is a path, in upper case, md5, too short, not a text, or with NUL, `?#`, percent escapes or other digits",
    "Refuses it before it becomes part of a path or an address",
    code=5,
)
def test_invalid_digests_are_refused(world: World) -> None:
    assert len(DIGESTS) == 27
    refused(world, DIGESTS, dict.fromkeys(DIGESTS, "digest"))
    assert not any(path.name == "passwd" for path in world.root.rglob("*"))


@row("M07", "an index in an index in an index", "Refuses the third level", code=4)
def test_nested_indexes_are_refused(world: World) -> None:
    inner = world.registry.add_artifact("aks/foo", "leaf", ("foo.bin", DATA))
    for depth in range(3):
        inner = world.registry.add_manifest("aks/foo", f"depth{depth}", json.dumps(index(descriptor_json(inner))).encode())
    world.run("pull", "aks/foo:depth2", "--json").failed(4, "limit-passed", "more than 2 deep", "aks/foo", requests=3)
    world.run("pull", "aks/foo:depth1", "--json").succeeded(made={"foo.bin": DATA}, requests=5)


@row("M07", "an index that names itself", "Refuses it, because its digest cannot match", code=5)
def test_an_index_that_names_itself_is_refused(world: World) -> None:
    own = str(Digest.of(b"a guess"))
    raw = json.dumps(index({"mediaType": INDEX, "digest": own, "size": 300})).encode()
    world.registry.add_manifest("aks/foo", "1", raw)
    world.registry.manifests[f"aks/foo {own}"] = (INDEX, raw)
    world.run(*PULL).failed(5, "digest-mismatch", own, requests=2)


@row("M07", "an index of 1,001 manifests", "Refuses it at the limit, after one request", code=4)
def test_a_wide_index_is_refused(world: World) -> None:
    entry = {"mediaType": OCI, "digest": f"sha256:{HEX}", "size": 7}
    world.registry.add_manifest("aks/foo", "1", json.dumps(index(*[entry] * 1001)).encode())
    world.run(*PULL).failed(4, "limit-passed", "1001 entries", "aks/foo", requests=1)


@row("M07", "an index of one manifest", "Uses that manifest without asking for a platform", code=0)
def test_an_index_of_one_is_that_one(world: World) -> None:
    only = world.registry.add_artifact("aks/foo", "leaf", ("foo.bin", DATA))
    world.registry.add_manifest("aks/foo", "1", json.dumps(index(descriptor_json(only))).encode())
    world.run(*PULL).succeeded(made={"foo.bin": DATA}, requests=4)


@row("M08", "`urls` that name other hosts", "Never follows them", code=0)
@row("M08", "wrong `data` in a descriptor", "Ignores it and downloads the blob", code=0)
def test_addresses_and_data_in_a_descriptor_are_not_used(world: World) -> None:
    annotations = {"org.opencontainers.image.title": "foo.bin"}
    urls = ["https://evil.example/x", f"http://{world.registry.host}/elsewhere", "file:///etc/passwd"]
    world.registry.add_blob(DATA)
    world.registry.add_manifest("aks/foo", "1", json.dumps(layer(urls=urls, data="ZXZpbA==", annotations=annotations)).encode())
    ended = world.run(*PULL).succeeded(made={"foo.bin": DATA})
    assert ended.kinds == ["manifest", "blob", "data"]
