"""The bill of materials of a bundle, checked against the schema of CycloneDX."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from marfetch.bundle.create import create
from marfetch.bundle.format import opened
from marfetch.bundle.inventory import bundle_items
from marfetch.bundle.sbom import sbom
from marfetch.client.session import Session
from marfetch.demo.recipe import tar_gz
from marfetch.errors import Error
from marfetch.oci import Digest, descriptor_json

from ..world.bundles import locked
from ..world.command import Call
from ..world.content import ALB, IMAGE, MODULE
from ..world.images import WEB, add_multi, add_naming_chart
from ..world.registry import Registry

Client = Callable[..., Session]
CONFIG = "application/vnd.cncf.helm.config.v1+json"
CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def bundle_of(client: Client, place: Path, *items: str) -> Path:
    create(client(), locked(client(), place / "project", *items), place / "a.tar", with_referrers=True)
    return place / "a.tar"


def document(path: Path) -> dict[str, Any]:
    with opened(path) as found:
        text = sbom(found, lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jsonschema warns about formats
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def add_chart(mar: Registry, name: str, values: str, *, declared: str | None = None, annotations: dict[str, str] | None = None) -> None:
    note = f"annotations: {{artifacthub.io/license: {json.dumps(declared)}}}\n" if declared else ""
    raw = tar_gz(
        {
            f"{name}/Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n{note}".encode(),
            f"{name}/values.yaml": values.encode(),
        }
    )
    config = mar.add_blob(json.dumps({"name": name, "version": "1.0.0"}).encode())
    chart = mar.add_blob(raw)
    manifest = {
        "schemaVersion": 2,
        "config": {**descriptor_json(config), "mediaType": CONFIG},
        "layers": [{**descriptor_json(chart), "mediaType": CHART}],
        "annotations": annotations or {},
    }
    mar.add_manifest(f"aks/{name}", "1.0.0", json.dumps(manifest).encode())


def test_each_artifact_has_its_purl_and_digest(client: Client, tmp_path: Path) -> None:
    path = bundle_of(client, tmp_path)
    found = document(path)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    with opened(path) as held:
        held.contents.load()
        items = {item.reference.repository: item for item in bundle_items(held.contents, held.lock)}
    components = {one["bom-ref"]: one for one in found["components"]}
    chart = components[str(items[ALB].reference)]
    host = items[ALB].reference.host
    assert chart["purl"] == f"pkg:helm/alb-controller@1.7.12?repository_url=oci://{host}/application-lb/charts"
    assert (chart["type"], chart["version"]) == ("application", "1.7.12")
    assert chart["hashes"] == [{"alg": "SHA-256", "content": items[ALB].descriptor.digest.encoded}]
    (identity,) = chart["evidence"]["identity"]
    assert identity["concludedValue"].startswith(f"pkg:oci/alb-controller@sha256:{items[ALB].descriptor.digest.encoded}?repository_url=")
    module = components[str(items[MODULE].reference)]
    assert module["purl"].startswith("pkg:oci/storage-account@sha256:")
    assert module["purl"].endswith("tag=0.14.0")
    assert components[str(items[IMAGE].reference)]["version"] == "latest"
    (root,) = [one for one in found["dependencies"] if one["ref"] == "bundle"]
    assert set(root["dependsOn"]) == {str(item.reference) for item in items.values()}


def test_equal_bundles_give_equal_bytes(client: Client, tmp_path: Path) -> None:
    path = bundle_of(client, tmp_path)
    texts = []
    for _ in range(2):
        with opened(path) as found:
            texts.append(sbom(found, lambda: None))
    assert texts[0] == texts[1]
    assert "timestamp" not in texts[0]
    (tmp_path / "other").mkdir()
    other = document(bundle_of(client, tmp_path / "other", f"reference: {MODULE}"))
    assert other["serialNumber"] != json.loads(texts[0])["serialNumber"]


@pytest.mark.parametrize(
    ("declared", "annotations", "expected"),
    [
        ("Apache-2.0", {}, [{"license": {"id": "Apache-2.0"}}]),
        (None, {"org.opencontainers.image.licenses": "MIT OR Apache-2.0"}, [{"expression": "MIT OR Apache-2.0"}]),
        ("our own terms", {}, [{"license": {"name": "our own terms"}}]),
        ("MIT", {"org.opencontainers.image.licenses": "MIT"}, [{"license": {"id": "MIT"}}]),
        (
            "MIT",
            {"org.opencontainers.image.licenses": "MIT OR Apache-2.0"},
            [{"license": {"id": "MIT"}}, {"license": {"name": "MIT OR Apache-2.0"}}],
        ),
        ("(" * 5000, {}, [{"license": {"name": "(" * 5000}}]),
        ("((((", {}, [{"license": {"name": "(((("}}]),
        (None, {"org.opencontainers.image.licenses": " "}, None),
    ],
)
def test_licenses_are_what_the_artifact_declares(
    client: Client, mar: Registry, tmp_path: Path, declared: str | None, annotations: dict[str, str], expected: object
) -> None:
    add_chart(mar, "licensed", "replicas: 1\n", declared=declared, annotations=annotations)
    (component,) = document(bundle_of(client, tmp_path, "reference: aks/licensed"))["components"]
    found = component.get("licenses")
    for one in found or ():
        assert (one.get("license") or one).pop("acknowledgement") == "declared"
    assert found == expected


def test_images_that_only_charts_name_are_excluded(client: Client, mar: Registry, tmp_path: Path) -> None:
    digest = f"sha256:{'a' * 64}"
    add_chart(mar, "naming", f"a: {{image: 'registry.example.com:5000/team/web:1.2@{digest}'}}\nb: {{image: 'oss/nginx:1.27'}}\n")
    found = document(bundle_of(client, tmp_path, "reference: aks/naming"))
    images = {one["name"]: one for one in found["components"] if one["type"] == "container"}
    assert {one["scope"] for one in images.values()} == {"excluded"}
    assert images["nginx"]["purl"] == "pkg:oci/nginx?repository_url=docker.io/oss/nginx&tag=1.27"
    assert images["web"]["purl"] == f"pkg:oci/web@{digest}?repository_url=registry.example.com:5000/team/web&tag=1.2"
    (chart,) = [one for one in found["components"] if one["name"] == "naming"]
    (dependency,) = [one for one in found["dependencies"] if one["ref"] == chart["bom-ref"]]
    assert set(dependency["dependsOn"]) == {one["bom-ref"] for one in images.values()}


@pytest.mark.parametrize("platforms", ["", ", platforms: linux/arm64"])
def test_carried_images_are_components_with_the_digest_that_is_carried(
    client: Client, mar: Registry, tmp_path: Path, platforms: str
) -> None:
    index, children = add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}@{index.digest}")
    found = document(bundle_of(client, tmp_path, f"reference: charts/foo, images: true{platforms}"))
    (image,) = [one for one in found["components"] if one["type"] == "container"]
    expected = children[1] if platforms else index
    assert image["hashes"] == [{"alg": "SHA-256", "content": expected.digest.encoded}]
    assert "scope" not in image
    (chart,) = [one for one in found["components"] if one["type"] == "application"]
    assert {"ref": chart["bom-ref"], "dependsOn": [image["bom-ref"]]} in found["dependencies"]


def test_a_broken_bundle_has_no_sbom(client: Client, tmp_path: Path) -> None:
    path = bundle_of(client, tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"Chart.yaml", b"Chart.yalm") if b"Chart.yaml" in raw else raw[:-2048])
    with pytest.raises(Error) as caught, opened(path) as found:
        sbom(found, lambda: None)
    assert caught.value.exit_code == 5


def test_the_command_prints_the_document(call: Call, client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from marfetch.__main__ import main

    path = bundle_of(client, tmp_path, f"reference: {MODULE}")
    capfd.readouterr()
    assert main(["bundle", "sbom", str(path)]) == 0
    plain = json.loads(capfd.readouterr().out)
    assert main(["bundle", "sbom", str(path), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["data"]["sbom"] == plain
    assert plain["components"][0]["name"] == "storage-account"


def test_without_the_extra_the_hint_says_how_to_install_it(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle_of(client, tmp_path, f"reference: {MODULE}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "cyclonedx"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cyclonedx", None)
    with pytest.raises(Error) as caught, opened(path) as found:
        sbom(found, lambda: None)
    assert (caught.value.exit_code, caught.value.hint) == (2, "run: pip install 'marfetch[sbom]'")


def test_the_approval_page_shows_licenses(client: Client, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "licensed", "replicas: 1\n", declared="Apache-2.0 <b>")
    path = bundle_of(client, tmp_path, "reference: aks/licensed", f"reference: {MODULE}")
    with opened(path) as found:
        found.contents.load()
        items = bundle_items(found.contents, found.lock, with_images=True)
    assert {item.name: item.licenses for item in items}["licensed"] == ("Apache-2.0 <b>",)
    assert Digest.of(path.read_bytes())
    import tarfile

    with tarfile.open(path) as archive:
        page = archive.extractfile("bundle.html")
        assert page is not None
        text = page.read().decode()
    assert "Apache-2.0 &lt;b&gt;" in text
    assert "not declared" in text
