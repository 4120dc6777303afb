"""Digests, platforms, manifests and indexes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marfetch.errors import InputError, IntegrityError, PolicyError
from marfetch.oci import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EMPTY_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    descriptor_json,
    parse_manifest,
)

A = "sha256:" + "a" * 64


def entry(**more: Any) -> dict[str, Any]:
    return {"mediaType": "text/plain", "digest": A, "size": 3, **more}


def body(**more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": entry(), "layers": [entry()], **more}


def read(document: Any, **options: Any) -> Manifest | Index:
    return parse_manifest(json.dumps(document).encode(), what="the manifest", **options)


@pytest.mark.parametrize("text", [A, "sha512:" + "0" * 128])
def test_a_digest_is_read_and_written_back(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "md5:" + "a" * 32,
        "sha384:" + "a" * 96,
        A + "\n",
    ],
)
def test_another_digest_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Digest.parse(text)
    assert caught.value.code == "digest-invalid"


def test_the_digest_of_nothing_is_known() -> None:
    assert str(Digest.of(b"")) == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Digest.of(b"", "sha512").encoded.startswith("cf83e1357eefb8bd")


@pytest.mark.parametrize(
    ("text", "wanted", "fits"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm", "linux/arm/v7", False),
        ("linux/amd64", "windows/amd64", False),
        ("Linux/AMD64", "linux/amd64", True),
    ],
)
def test_a_variant_counts_only_where_it_was_asked_for(text: str, wanted: str, fits: bool) -> None:
    assert Platform.parse(text).matches(Platform.parse(wanted)) is fits


@pytest.mark.parametrize("text", ["linux", "linux/", "a/b/c/d", "linux/amd 64", ""])
def test_a_platform_needs_system_and_architecture(text: str) -> None:
    with pytest.raises(InputError):
        Platform.parse(text)


def test_the_bytes_of_a_manifest_are_kept_as_they_came() -> None:
    raw = json.dumps(body(), indent=3).encode() + b"\n"
    parsed = parse_manifest(raw, what="it")
    assert isinstance(parsed, Manifest)
    assert parsed.raw == raw
    assert parsed.descriptor == Descriptor(OCI_MANIFEST, Digest.of(raw), len(raw))


def test_the_algorithm_of_the_registry_is_kept() -> None:
    digest = Digest.of(json.dumps(body()).encode(), "sha512")
    assert read(body(), digest=digest).descriptor.digest == digest


@pytest.mark.parametrize(
    ("document", "media_type", "kind", "resolved"),
    [
        (body(), None, Manifest, OCI_MANIFEST),
        (body(), DOCKER_MANIFEST, Manifest, DOCKER_MANIFEST),
        (body(mediaType=DOCKER_MANIFEST), None, Manifest, DOCKER_MANIFEST),
        ({"schemaVersion": 2, "manifests": []}, None, Index, OCI_INDEX),
        ({"schemaVersion": 2, "manifests": [], "mediaType": DOCKER_LIST}, DOCKER_LIST, Index, DOCKER_LIST),
        (body(mediaType=OCI_MANIFEST.upper()), OCI_MANIFEST, Manifest, OCI_MANIFEST.upper()),
        (body(layers=[]), None, Manifest, OCI_MANIFEST),
    ],
    ids=["no type at all (Helm)", "type announced", "type in the body", "an index", "a Docker list", "upper case", "no layers"],
)
def test_the_type_comes_from_the_body_or_from_the_announced_type(
    document: dict[str, Any], media_type: str | None, kind: type, resolved: str
) -> None:
    parsed = read(document, media_type=media_type)
    assert isinstance(parsed, kind)
    assert parsed.descriptor.media_type == resolved


def test_the_config_tells_the_type_where_none_is_declared() -> None:
    helm = read(body(config=entry(mediaType="application/vnd.cncf.helm.config.v1+json")))
    assert isinstance(helm, Manifest)
    assert helm.effective_type == "application/vnd.cncf.helm.config.v1+json"
    declared = read(body(artifactType="application/x"))
    assert isinstance(declared, Manifest)
    assert declared.effective_type == "application/x"


MALFORMED: dict[str, tuple[Any, str]] = {
    "schema 1": ({"schemaVersion": 1}, "schemaVersion"),
    "schema 99": (body(schemaVersion=99), "schemaVersion"),
    "schema true": (body(schemaVersion=True), "schemaVersion"),
    "schema 2.0": (body(schemaVersion="2"), "schemaVersion"),
    "null": (None, "not an object"),
    "a list": ([], "not an object"),
    "empty": ({}, "schemaVersion"),
    "no config": ({"schemaVersion": 2, "layers": []}, "`config` is missing"),
    "no layers": ({"schemaVersion": 2, "config": entry()}, "`layers` is missing"),
    "an index with layers": ({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": None, "layers": [entry()]}, "`layers`"),
    "a manifest with manifests": (body(mediaType=OCI_MANIFEST, layers=None, manifests=[entry()]), "`manifests`"),
    "no manifests": ({"schemaVersion": 2, "mediaType": OCI_INDEX}, "`manifests` is missing"),
    "layers an object": (body(layers={}), "`layers`"),
    "both": (body(manifests=[]), "both"),
    "type conflict": (body(mediaType=OCI_INDEX), "`manifests` is missing"),
    "a foreign type": (body(mediaType="text/plain"), "neither a manifest nor an index"),
    "size negative": (body(config=entry(size=-1)), "config.size"),
    "size text": (body(config=entry(size="3")), "config.size"),
    "size 1.5": (body(config=entry(size=1.5)), "config.size"),
    "size true": (body(config=entry(size=True)), "config.size"),
    "size null": (body(config=entry(size=None)), "config.size"),
    "size 2^63": (body(config=entry(size=1 << 63)), "config.size"),
    "digest missing": (body(layers=[{"mediaType": "a/b", "size": 1}]), "layers[0].digest"),
    "digest a path": (body(layers=[entry(digest="sha256:../../etc/passwd")]), "layers[0].digest"),
    "digest upper case": (body(layers=[entry(digest=A.upper())]), "layers[0].digest"),
    "digest md5": (body(layers=[entry(digest="md5:" + "a" * 32)]), "layers[0].digest"),
    "digest with NUL": (body(layers=[entry(digest=A[:-1] + "\0")]), "layers[0].digest"),
    "digest with a query": (body(layers=[entry(digest=A + "?x")]), "layers[0].digest"),
    "digest a number": (body(layers=[entry(digest=1)]), "layers[0].digest"),
    "no media type": (body(layers=[entry(mediaType="")]), "`layers[0]` has no `mediaType`"),
    "media type with a space": (body(layers=[entry(mediaType="a b/c")]), "not a media type"),
    "an annotation that is a number": (body(annotations={"a": 1}), "annotation `a`"),
    "annotations a list": (body(annotations=[]), "`annotations`"),
    "a layer that is a text": (body(layers=["x"]), "layers[0]"),
    "platform without architecture": ({"schemaVersion": 2, "manifests": [entry(platform={"os": "linux"})]}, "architecture"),
}


@pytest.mark.parametrize(("document", "field"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_manifest_is_refused_naming_the_field(document: Any, field: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        read(document)
    assert caught.value.code == "malformed"
    assert field in caught.value.message


def test_null_is_an_empty_list_or_an_absent_field_as_go_writes_it() -> None:
    manifest = read(body(layers=None, annotations=None, config=None, artifactType=None, subject=None))
    assert isinstance(manifest, Manifest)
    assert (manifest.layers, manifest.annotations, manifest.config) == ((), {}, EMPTY_CONFIG)
    for media_type in (OCI_INDEX, None):
        index = read({"schemaVersion": 2, "mediaType": media_type, "manifests": None, "annotations": None})
        assert isinstance(index, Index)
        assert index.manifests == ()
    both = read(body(manifests=None))
    assert isinstance(both, Manifest)
    assert len(both.layers) == len(body()["layers"])


ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
WITHDRAWN: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "OCI": ({"mediaType": ARTIFACT, "artifactType": "a/b", "blobs": [entry()]}, None, f"artifact manifest of OCI 1.1-rc (`{ARTIFACT}`)"),
    "ORAS": ({"mediaType": "application/vnd.cncf.oras.artifact.manifest.v1+json", "blobs": []}, None, "artifact manifest of ORAS"),
    "announced": ({"artifactType": "a/b", "blobs": []}, ARTIFACT, "artifact manifest of OCI"),
    "Docker": ({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": []}, None, "Docker schema 1 manifest"),
}


@pytest.mark.parametrize(("document", "media_type", "words"), WITHDRAWN.values(), ids=WITHDRAWN)
def test_a_withdrawn_format_is_refused_by_its_name(document: dict[str, Any], media_type: str | None, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read(document, media_type=media_type)
    assert (caught.value.code, caught.value.exit_code) == ("manifest-withdrawn", 4)
    assert words in caught.value.message


def test_a_list_with_an_invalid_entry_is_malformed_unless_such_entries_are_skipped() -> None:
    document = {"schemaVersion": 2, "manifests": [entry(), "x", entry(digest="sha384:" + "a" * 96), entry(size=7)]}
    skipped: list[str] = []
    index = parse_manifest(json.dumps(document).encode(), what="it", skipped=skipped)
    assert isinstance(index, Index)
    assert [one.size for one in index.manifests] == [3, 7]
    assert len(skipped) == 2
    assert "manifests[1]" in skipped[0]
    with pytest.raises(IntegrityError, match=r"manifests\[1\]"):
        read(document)


def test_a_body_that_contradicts_its_announcement_is_refused() -> None:
    with pytest.raises(IntegrityError, match="but its `Content-Type` or descriptor has"):
        read(body(mediaType=OCI_MANIFEST), media_type=DOCKER_MANIFEST)


@pytest.mark.parametrize(
    "document",
    [body(layers=[entry()] * 1001), {"schemaVersion": 2, "manifests": [entry()] * 1001}, body(annotations={"a": "x" * (4 << 20)})],
    ids=["layers", "children", "bytes"],
)
def test_limits_are_limits(document: dict[str, Any]) -> None:
    with pytest.raises(PolicyError) as caught:
        read(document)
    assert caught.value.code == "limit-passed"


def test_a_descriptor_is_written_as_the_specification_says() -> None:
    descriptor = Descriptor("a/b", Digest.parse(A), 3, {"x": "y"}, "c/d", Platform("linux", "arm", "v7"))
    assert descriptor_json(descriptor) == {
        "mediaType": "a/b",
        "digest": A,
        "size": 3,
        "annotations": {"x": "y"},
        "artifactType": "c/d",
        "platform": {"architecture": "arm", "os": "linux", "variant": "v7"},
    }
