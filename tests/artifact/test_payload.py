"""Kinds, payloads, file names, lifecycle."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

import pytest

from marfetch.artifact.filename import safe_title, same_name
from marfetch.artifact.kinds import END_OF_LIFE, KINDS, LIFECYCLE, end_of_life, kind_of, kinds_named
from marfetch.artifact.payload import Choice, Selection, base_name, extension_of, select
from marfetch.errors import Error, InputError, NotFoundError, PolicyError
from marfetch.oci import CREATED, TITLE, Manifest, parse_manifest

A = "sha256:" + "a" * 64
HELM = "application/vnd.cncf.helm.config.v1+json"
CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
PROV = "application/vnd.cncf.helm.chart.provenance.v1.prov"
LEGACY = "application/tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
UNKNOWN = "application/vnd.unknown.config.v1+json"
IMAGE = "application/vnd.oci.image.config.v1+json"
IMAGE_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
BICEP = "application/vnd.ms.bicep.module"
PROVIDER = "application/vnd.ms.bicep.provider"


def manifest(config: str, *layers: str | tuple[str, dict[str, str]], artifact_type: str | None = None, **annotations: str) -> Manifest:
    """Return a manifest with these media types. A layer may have annotations, such as a title."""
    pairs = [(layer, {}) if isinstance(layer, str) else layer for layer in layers]
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "config": {"mediaType": config, "digest": A, "size": 2},
        "layers": [
            {"mediaType": media_type, "digest": f"sha256:{number:064x}", "size": 1, "annotations": notes}
            for number, (media_type, notes) in enumerate(pairs)
        ],
        "annotations": {f"org.opencontainers.image.{name}": text for name, text in annotations.items()},
    }
    if artifact_type:
        document["artifactType"] = artifact_type
    parsed = parse_manifest(json.dumps(document).encode(), what="it")
    assert isinstance(parsed, Manifest)
    return parsed


def titled(media_type: str, title: str) -> tuple[str, dict[str, str]]:
    return media_type, {TITLE: title}


def chosen(what: Manifest, *, repository: str = "aks/foo", tag: str | None = "1.2.3", **choice: Any) -> Selection:
    return select(what, Choice(**choice), name=base_name(repository), tag=tag, what=f"{repository}:{tag}")


def names(selection: Selection) -> list[str]:
    return [payload.name for payload in selection.payloads]


KIND_OF = {
    "a chart": (manifest(HELM, CHART), "chart", ["foo-1.2.3.tgz"]),
    "a chart behind its provenance": (manifest(HELM, PROV, CHART), "chart", ["foo-1.2.3.tgz"]),
    "a chart with the old layer type": (manifest(HELM, LEGACY), "chart", ["foo-1.2.3.tgz"]),
    "a chart pushed as files": (manifest(UNKNOWN, titled(LEGACY, "foo-1.2.3.tgz")), "chart", ["foo-1.2.3.tgz"]),
    "a chart with an image's config": (manifest(IMAGE, CHART), "chart", ["foo-1.2.3.tgz"]),
    "a chart whose layer is typed wrongly": (manifest(HELM, IMAGE_LAYER), "chart", ["foo-1.2.3.tgz"]),
    "a chart beside another archive": (manifest(HELM, LEGACY, CHART), "chart", ["foo-1.2.3.tgz"]),
    "provenance alone": (manifest(UNKNOWN, PROV), "provenance", ["foo-1.2.3.tgz.prov"]),
    "a Bicep module": (
        manifest(
            f"{BICEP}.config.v1+json",
            titled(f"{BICEP}.layer.v1+json", "Compiled ARM template"),
            titled(f"{BICEP}.source.v1.tar+gzip", "Source files"),
            artifact_type=f"{BICEP}.artifact",
        ),
        "bicep",
        ["foo-1.2.3.json"],
    ),
    "a Bicep module in other letters": (manifest(f"{BICEP}.CONFIG.v1+json", f"{BICEP}.LAYER.v1+json".upper()), "bicep", ["foo-1.2.3.json"]),
    "a Bicep extension": (
        manifest(
            f"{PROVIDER}.config.v1+json",
            f"{PROVIDER}.layer.v1.linux-x64.binary",
            f"{PROVIDER}.layer.v1.tar+gzip",
            artifact_type=f"{PROVIDER}.artifact",
        ),
        "bicep-extension",
        ["foo-1.2.3.tgz"],
    ),
    "a PowerShell module": (
        manifest(IMAGE, (IMAGE_LAYER, {TITLE: "Foo", "resourceType": "Module", "metadata": "{}"})),
        "powershell",
        ["foo.1.2.3.nupkg"],
    ),
    "a signature": (
        manifest(EMPTY, "application/cose", artifact_type="application/vnd.cncf.notary.signature"),
        "signature",
        ["foo-1.2.3.cose"],
    ),
    "a signature of the older form": (
        manifest("application/vnd.cncf.notary.signature", "application/jose+json"),
        "signature",
        ["foo-1.2.3.jws"],
    ),
    "a signature of Notation's alphas": (
        manifest(EMPTY, "application/jose+json", artifact_type="application/vnd.cncf.notary.v2.signature"),
        "signature",
        ["foo-1.2.3.jws"],
    ),
    "an attestation": (
        manifest(EMPTY, "application/vnd.in-toto+json", artifact_type="application/vnd.in-toto+json"),
        "attestation",
        ["foo-1.2.3.json"],
    ),
    "an attestation by its layer": (manifest(EMPTY, "application/vnd.in-toto+json"), "attestation", ["foo-1.2.3.json"]),
    "an SBOM": (
        manifest(EMPTY, titled("application/spdx+json", "/mnt/vss/sbom.spdx.json"), artifact_type="application/spdx+json"),
        "sbom-spdx",
        ["foo-1.2.3.spdx.json"],
    ),
    "an SBOM by its layer": (manifest(EMPTY, "application/vnd.cyclonedx+json"), "sbom-cyclonedx", ["foo-1.2.3.cdx.json"]),
    "a lifecycle mark": (manifest(EMPTY, EMPTY, artifact_type=LIFECYCLE), "lifecycle", ["foo-1.2.3.lifecycle.json"]),
    "a disk image": (
        manifest(EMPTY, titled("application/octet-stream", "image.vhdx"), titled("application/spdx+json", "image.vhdx.spdx.json")),
        "disk-image",
        ["image.vhdx", "image.vhdx.spdx.json"],
    ),
    "a file": (manifest(EMPTY, titled(IMAGE_LAYER, "foo.whl"), artifact_type="application/vnd.acme"), "file", ["foo.whl"]),
    "a file in a directory": (manifest(UNKNOWN, titled(IMAGE_LAYER, "amd64/foo.tar.gz")), "file", ["amd64/foo.tar.gz"]),
    "a file with an image's config": (manifest(IMAGE, titled(IMAGE_LAYER, "foo.bin")), "file", ["foo.bin"]),
    "a file without a title": (manifest(EMPTY, "application/octet-stream"), "file", ["foo-1.2.3.bin"]),
    "two files without titles": (manifest(EMPTY, "text/plain", "text/plain"), "file", ["foo-1.2.3-1.txt", "foo-1.2.3-2.txt"]),
    "two sorts of files without titles": (manifest(EMPTY, "text/plain", "a/json"), "file", ["foo-1.2.3.txt", "foo-1.2.3.json"]),
    "a file among empty layers": (manifest(EMPTY, EMPTY, "application/x-yaml"), "file", ["foo-1.2.3.yaml"]),
    "a gzipped archive of an artifact with a type": (
        manifest(EMPTY, LEGACY, artifact_type="application/vnd.acme"),
        "file",
        ["foo-1.2.3.tar.gz"],
    ),
}


@pytest.mark.parametrize(("what", "kind", "files"), KIND_OF.values(), ids=KIND_OF)
def test_the_manifest_tells_the_kind_and_the_kind_names_the_files(what: Manifest, kind: str, files: list[str]) -> None:
    selection = chosen(what)
    assert kind_of(what).name == kind
    assert selection.kind.name == kind
    assert names(selection) == files


def test_every_kind_is_covered_here() -> None:
    assert {kind.name for kind in KINDS} == {kind for _, kind, _ in KIND_OF.values()} | {"image"}


IMAGES = {
    "OCI": manifest(IMAGE, IMAGE_LAYER),
    "Docker": manifest("application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    "a look-alike with a policy in it": manifest(IMAGE, IMAGE_LAYER, IMAGE_LAYER),
}


@pytest.mark.parametrize("what", IMAGES.values(), ids=IMAGES)
def test_a_container_image_is_refused_with_the_tool_for_it(what: Manifest) -> None:
    with pytest.raises(PolicyError) as caught:
        chosen(what)
    assert caught.value.code == "image-refused"
    assert "docker pull" in str(caught.value.hint)
    assert names(chosen(what, all_layers=True))[0].startswith("foo-1.2.3")


def test_a_wrong_config_type_is_reported_clearly() -> None:
    (warning,) = chosen(manifest(UNKNOWN, CHART)).warnings
    assert UNKNOWN in warning
    assert chosen(manifest(HELM, CHART)).warnings == ()
    assert len(chosen(manifest(UNKNOWN, LEGACY)).warnings) == 2


def test_provenance_comes_on_demand() -> None:
    chart = manifest(HELM, PROV, CHART)
    assert names(chosen(chart, provenance=True)) == ["foo-1.2.3.tgz.prov", "foo-1.2.3.tgz"]
    with pytest.raises(NotFoundError, match="no provenance"):
        chosen(manifest(HELM, CHART), provenance=True)
    with pytest.raises(NotFoundError, match="no provenance"):
        chosen(manifest(EMPTY, titled("text/plain", "x.txt")), provenance=True)


def test_media_types_choose_layers_whatever_the_kind() -> None:
    module = KIND_OF["a Bicep module"][0]
    assert names(chosen(module, media_types=("*SOURCE*",))) == ["foo-1.2.3.source.tgz"]
    assert names(chosen(module, all_layers=True)) == ["foo-1.2.3.json", "foo-1.2.3.source.tgz"]
    with pytest.raises(NotFoundError) as caught:
        chosen(module, media_types=("text/*",))
    assert caught.value.code == "layer-not-found"
    assert f"{BICEP}.layer.v1+json" in caught.value.message


def test_an_artifact_without_layers_is_reported() -> None:
    for choice in ({}, {"all_layers": True}, {"media_types": ("*",)}, {"output": "x"}):
        with pytest.raises(NotFoundError, match="has no layers") as caught:
            chosen(manifest(EMPTY), **choice)
        assert caught.value.code == "layer-not-found"
        assert "marfetch inspect aks/foo:1.2.3" in str(caught.value.hint)


@pytest.mark.parametrize("title", ["../x", "/etc/passwd", ".git/config", "a\nb", ".", "fine.txt", ""])
def test_the_users_own_name_counts_instead_of_any_title(title: str) -> None:
    for config, layer in ((EMPTY, "text/plain"), (HELM, CHART), (UNKNOWN, "application/spdx+json")):
        assert names(chosen(manifest(config, titled(layer, title)), output="mine")) == ["mine"]


def test_a_refused_title_names_the_command_that_saves_the_bytes() -> None:
    with pytest.raises(PolicyError) as caught:
        chosen(manifest(EMPTY, titled("text/plain", "../x")))
    assert str(caught.value.hint).endswith(": marfetch pull aks/foo:1.2.3 --output FILE")
    for media_type, shown in (("text/html", "text/html"), ("a/b;$(rm)", "'a/b;$(rm)'")):
        with pytest.raises(PolicyError) as caught:
            chosen(manifest(EMPTY, titled("text/plain", "x"), titled(media_type, "../x")))
        assert str(caught.value.hint).endswith(f": marfetch pull aks/foo:1.2.3 --media-type {shown} --output FILE")


def test_several_payloads_have_no_place_under_one_name() -> None:
    for other, title, words in (
        ("text/html", "../x", "`--media-type`: `text/plain`, `text/html`"),
        ("text/plain", "y", "all of them"),
    ):
        two = manifest(EMPTY, titled("text/plain", "x"), titled(other, title))
        with pytest.raises(InputError, match=re.escape(f"2 payloads: `x`, `{title}`")) as caught:
            chosen(two, output="mine")
        assert (caught.value.code, caught.value.exit_code) == ("payload-ambiguous", 2)
        assert words in str(caught.value.hint)
    assert names(chosen(manifest(HELM, PROV, CHART), output="mine")) == ["mine"]


def test_of_payloads_of_one_type_the_one_with_a_refused_title_gets_the_name() -> None:
    bad = titled("text/plain", "../x")
    two = manifest(EMPTY, titled("text/plain", "x"), bad)
    (payload,) = chosen(two, output="mine").payloads
    assert (payload.layer.title, payload.name) == ("../x", "mine")
    with pytest.raises(InputError):
        chosen(two, output="mine", is_exact=True)
    with pytest.raises(InputError) as caught:
        chosen(manifest(EMPTY, bad, titled("text/plain", "../y")), output="mine")
    assert "oras blob fetch --output FILE aks/foo@sha256:" in str(caught.value.hint)


def test_the_title_of_a_pushed_directory_becomes_a_name() -> None:
    layer = titled(IMAGE_LAYER, ".")
    assert names(chosen(manifest(EMPTY, layer))) == ["foo-1.2.3.tar.gz"]
    assert names(chosen(manifest(EMPTY, layer, titled("text/plain", "x"), layer))) == ["foo-1.2.3-1.tar.gz", "x", "foo-1.2.3-3.tar.gz"]
    digest = names(chosen(manifest(EMPTY, layer), tag=None))
    assert digest[0].startswith("foo@sha256-")
    assert digest[0].endswith(".tar.gz")


def test_an_artifact_of_another_kind_or_type_is_refused() -> None:
    chart = manifest(HELM, CHART)
    assert names(chosen(chart, kinds=kinds_named("bicep,chart"))) == ["foo-1.2.3.tgz"]
    assert names(chosen(chart, artifact_types=("*HELM*",))) == ["foo-1.2.3.tgz"]
    for choice in ({"kinds": kinds_named("bicep")}, {"artifact_types": ("application/vnd.ms.*",)}):
        with pytest.raises(PolicyError) as caught:
            chosen(chart, **choice)
        assert caught.value.code == "kind-refused"


def test_kinds_are_named_in_a_list() -> None:
    assert [kind.name for kind in kinds_named("Chart, bicep")] == ["chart", "bicep"]
    assert [kind.name for kind in kinds_named("sbom")] == ["sbom-spdx", "sbom-cyclonedx"]
    with pytest.raises(InputError, match="`helm`"):
        kinds_named("helm")


@pytest.mark.parametrize(
    ("tag", "annotations", "name"),
    [
        ("1.9.1_build.5", {}, "foo-1.9.1+build.5.tgz"),
        ("v2.9.0", {}, "foo-v2.9.0.tgz"),
        ("latest", {}, "foo-latest.tgz"),
        ("a_b", {}, "foo-a_b.tgz"),
        (None, {"version": "1.7.12"}, "foo-1.7.12.tgz"),
        (None, {"version": "../../x"}, None),
        (None, {}, None),
    ],
)
def test_the_version_in_the_name_is_the_tag_or_what_the_manifest_says(
    tag: str | None, annotations: dict[str, str], name: str | None
) -> None:
    what = manifest(HELM, CHART, **annotations)
    digest = what.descriptor.digest
    assert names(chosen(what, tag=tag)) == [name or f"foo@sha256-{digest.encoded}.tgz"]


def test_a_repository_that_ends_in_a_version_gives_two_parts_to_the_name() -> None:
    assert base_name("bicep/extensions/microsoftgraph/v1.0") == "microsoftgraph-v1.0"
    assert base_name("azurelinux/3.0") == "azurelinux-3.0"
    assert base_name("psresource/az.accounts") == "az.accounts"
    assert base_name("v1") == "v1"


@pytest.mark.parametrize(
    ("media_type", "extension"),
    [
        (IMAGE_LAYER, ".tar.gz"),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", ".tar.gz"),
        ("application/vnd.oci.image.layer.v1.tar", ".tar"),
        ("application/gzip", ".gz"),
        ("application/JSON", ".json"),
        ("text/css", ".txt"),
        ("application/octet-stream", ".bin"),
    ],
)
def test_a_media_type_has_an_extension(media_type: str, extension: str) -> None:
    assert extension_of(media_type) == extension


SAFE = ["image.vhdx", "a/b/c.txt", "Compiled ARM template", "ü.txt", "日本.txt", ".hidden", "a" * 255, "x;y&z", "~", "con1.txt", "com.txt"]

UNSAFE = {
    "": "empty",
    ".": "empty",
    "..": "empty",
    "../x": "`..`",
    "a/../../b": "`..`",
    "a//b": "empty",
    "a/": "empty",
    "/etc/x": "absolute",
    "//host/share": "absolute",
    "C:\\x": "backslash",
    "C:x": "drive",
    "\\\\host\\share": "backslash",
    "..\\x": "backslash",
    "a\0b": "U+0000",
    "a\x1b[31mb": "U+001B",
    "a\nb": "U+000A",
    "a\u202egnp.exe": "U+202E",
    "a\u200bb": "U+200B",
    "a\u2028b": "U+2028",
    "a\ud800b": "U+D800",
    "CON": "device",
    "aux.txt": "device",
    "dir/NUL.tar.gz": "device",
    "LPT1": "device",
    "a.": "dot",
    "a ": "dot",
    " a": "space",
    "a/b./c": "dot",
    "ab:stream": "contains one of",
    "a?b": "contains one of",
    "a" * 256: "255",
    "é" * 128: "255",
}


@pytest.mark.parametrize("title", SAFE)
def test_a_safe_title_is_a_file_name(title: str) -> None:
    assert safe_title(title) == title


@pytest.mark.parametrize(("title", "rule"), UNSAFE.items(), ids=[ascii(title)[:30] for title in UNSAFE])
def test_an_unsafe_title_is_refused_on_every_system(title: str, rule: str) -> None:
    with pytest.raises(PolicyError) as caught:
        safe_title(title)
    assert caught.value.code == "name-refused"
    assert rule in str(caught.value.context["rule"])
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("title", list(UNSAFE), ids=[ascii(title)[:30] for title in UNSAFE])
def test_no_title_leads_outside_whatever_the_kind(title: str) -> None:
    for config, layer in ((HELM, CHART), (EMPTY, "application/octet-stream"), (IMAGE, IMAGE_LAYER), (UNKNOWN, "application/spdx+json")):
        try:
            selection = chosen(manifest(config, titled(layer, title)))
        except Error as error:
            assert error.exit_code == 4  # noqa: PT017 - the title is either refused or safe
            continue
        for name in names(selection):
            assert safe_title(name) == name


@pytest.mark.parametrize(("one", "other"), [("a.txt", "A.TXT"), ("é", "e\u0301"), ("straße", "STRASSE")])
def test_names_that_some_file_system_takes_for_one_are_the_same(one: str, other: str) -> None:
    assert same_name(one) == same_name(other)


MARKS = [
    ([], None),
    ([("2025-01-14T05:32:10Z", "2024-11-12")], date(2024, 11, 12)),
    ([("2025-01-14T05:32:10Z", "2024-11-12"), ("2025-02-01T00:00:00Z", "2026-05-01T00:00:00Z")], date(2026, 5, 1)),
    ([("2025-02-01T00:00:00Z", "2026-05-01T00:00:00Z"), ("2025-01-14T05:32:10Z", "2024-11-12")], date(2026, 5, 1)),
    ([("2025-02-01T00:00:00Z", "soon")], None),
    ([("yesterday", "2024-11-12")], date(2024, 11, 12)),
]


@pytest.mark.parametrize(("marks", "ends"), MARKS)
def test_the_lifecycle_mark_made_last_says_when_support_ends(marks: list[tuple[str, str]], ends: date | None) -> None:
    referrers = [(LIFECYCLE, {CREATED: created, END_OF_LIFE: text}) for created, text in marks]
    referrers.append(("application/spdx+json", {CREATED: "2099-01-01T00:00:00Z", END_OF_LIFE: "2000-01-01"}))
    assert end_of_life(referrers) == ends
