"""Interoperability of `serve`: the conformance tests of the specification, real clients, and layouts of other tools."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marfetch.layout.layout import Layout
from marfetch.layout.readonly import open_store
from marfetch.layout.repositories import Contents
from marfetch.oci import Digest, Manifest
from marfetch.reference import Reference

from ..world.content import ALB
from ..world.layouts import Maker, packed
from ..world.paths import ROOT
from ..world.real import package_chart, run
from ..world.serving import Command, ask

Tool = Callable[[str], Path]

pytestmark = pytest.mark.tool


@pytest.fixture(params=["folder", "tar", "tar, redirected"])
def served(request: pytest.FixtureRequest, recipe: Layout, tmp_path: Path) -> Iterator[str]:
    """Serve the content of the test registry with `marfetch serve`. Yields `host:port`."""
    path = recipe.root if request.param == "folder" else packed(recipe.root, tmp_path / "bundle.tar")
    more = ["--data-port", "0"] if request.param == "tar, redirected" else []
    with Command(path, "--port", 0, *more, cwd=tmp_path) as one:
        yield one.first.removeprefix("http://")


def manifest_of(recipe: Layout, repository: str, tag: str) -> Manifest:
    found = Contents(open_store(recipe.root)).manifest(Reference(repository, None, tag))
    assert isinstance(found, Manifest)
    return found


# -- the conformance tests of the specification


def test_serve_conforms_to_the_distribution_specification(tool: Tool, maker: Maker, tmp_path: Path) -> None:
    tags = ["1.0.0", "1.0.1"]
    manifests = {tag: maker.manifest(f"layer {tag}", f"mcr.microsoft.com/ns/chart:{tag}") for tag in tags}
    subject = manifests["1.0.0"]["digest"]
    for kind in ("text/a", "text/b"):
        maker.manifest(kind, None, artifactType=kind, subject=manifests["1.0.0"])
    blobs = [str(Digest.of(data)) for data in (b"layer 1.0.0", b"layer 1.0.1", b"{}")]
    with Command(maker.root, "--port", 0, cwd=tmp_path) as one:
        environment = {
            "PATH": os.environ["PATH"],
            "OCI_REGISTRY": one.first.removeprefix("http://"),
            "OCI_TLS": "disabled",
            "OCI_REPO1": "ns/chart",
            "OCI_VERSION": "1.1",
            **{f"OCI_API_{name}": "false" for name in ("PUSH", "BLOBS_DELETE", "MANIFESTS_DELETE", "TAGS_DELETE")},
            "OCI_RO_DATA_TAGS": " ".join(tags),
            "OCI_RO_DATA_MANIFESTS": " ".join(entry["digest"] for entry in manifests.values()),
            "OCI_RO_DATA_BLOBS": " ".join(blobs),
            "OCI_RO_DATA_REFERRERS": subject,
        }
        done = subprocess.run(
            [tool("conformance")],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )
    # Ignore the program's exit code: it is 0 if no test ran, and not 0 after a pass if the push tests are turned off.
    assert "OCI Conformance Result: Pass" in done.stdout, done.stdout[-3000:]
    counts = {name.upper(): int(number) for name, number in re.findall(r"^ +(Pass|FAIL|Error)\.+: +([0-9]+)$", done.stdout, re.MULTILINE)}
    assert counts["PASS"] >= 16, done.stdout[-3000:]
    assert (counts["FAIL"], counts["ERROR"]) == (0, 0), done.stdout[-3000:]


# -- clients


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_helm_pulls_a_chart(tool: Tool, served: str, recipe: Layout, tmp_path: Path, helm: str) -> None:
    run(tool(helm), "pull", f"oci://{served}/{ALB}", "--version", "~1.7", "-d", tmp_path, "--plain-http")
    layer = manifest_of(recipe, ALB, "1.7.12").layers[0]
    assert str(Digest.of((tmp_path / "alb-controller-1.7.12.tgz").read_bytes())) == str(layer.digest)


def test_oras_copies_a_whole_artifact_and_finds_referrers(tool: Tool, served: str, recipe: Layout, tmp_path: Path) -> None:
    oras = tool("oras")
    run(oras, "cp", "--from-plain-http", f"{served}/{ALB}:1.7.12", "--to-oci-layout", f"{tmp_path / 'copy'}:it")
    manifest = manifest_of(recipe, ALB, "1.7.12")
    for descriptor in (manifest.descriptor, manifest.config, *manifest.layers):
        copied = (tmp_path / "copy" / "blobs" / "sha256" / descriptor.digest.encoded).read_bytes()
        assert copied == recipe.path(descriptor.digest).read_bytes()
    assert run(oras, "repo", "tags", "--plain-http", f"{served}/{ALB}").split()[0] == "0.4.023901"
    assert ALB in run(oras, "repo", "ls", "--plain-http", served).split()
    found = json.loads(run(oras, "discover", "--plain-http", "--format", "json", f"{served}/azurelinux/3.0/image/minimal-os:latest"))
    assert "application/vnd.cncf.notary.signature" in json.dumps(found)


def test_crane_reads_manifest_blob_and_catalog(tool: Tool, served: str, recipe: Layout, tmp_path: Path) -> None:
    crane, manifest = tool("crane"), manifest_of(recipe, ALB, "1.7.12")
    assert run(crane, "manifest", "--insecure", f"{served}/{ALB}:1.7.12").encode() == manifest.raw
    assert run(crane, "digest", "--insecure", f"{served}/{ALB}:1.7.12").strip() == str(manifest.descriptor.digest)
    assert (
        run(crane, "blob", "--insecure", f"{served}/{ALB}@{manifest.config.digest}").encode()
        == recipe.path(manifest.config.digest).read_bytes()
    )
    assert ALB in run(crane, "catalog", "--insecure", served).split()
    assert len(run(crane, "ls", "--insecure", f"{served}/{ALB}").split()) == 9


def test_regctl_copies_a_whole_artifact(tool: Tool, served: str, recipe: Layout, tmp_path: Path) -> None:
    (tmp_path / "regctl.json").write_text(json.dumps({"hosts": {served: {"tls": "disabled", "hostname": served}}}))
    run(
        tool("regctl"),
        "image",
        "copy",
        f"{served}/{ALB}:1.7.12",
        f"ocidir://{tmp_path / 'copy'}:it",
        REGCTL_CONFIG=str(tmp_path / "regctl.json"),
    )
    manifest = manifest_of(recipe, ALB, "1.7.12")
    for descriptor in (manifest.descriptor, manifest.config, *manifest.layers):
        copied = (tmp_path / "copy" / "blobs" / "sha256" / descriptor.digest.encoded).read_bytes()
        assert copied == recipe.path(descriptor.digest).read_bytes()


# -- layouts of other tools


def test_a_layout_that_oras_made_is_served_with_its_referrers(tool: Tool, tmp_path: Path) -> None:
    oras, layout = tool("oras"), tmp_path / "layout"
    (tmp_path / "a.txt").write_text("a")
    run(oras, "push", "--oci-layout", f"{layout}:1.0", "a.txt:text/plain", "--artifact-type", "text/thing", cwd=tmp_path)
    run(oras, "attach", "--oci-layout", f"{layout}:1.0", "--artifact-type", "text/note", "--annotation", "a=b", cwd=tmp_path)
    with Command(layout, "--port", 0, "--name", "aks/thing", cwd=tmp_path) as one:
        host = one.first.removeprefix("http://")
        run(oras, "pull", "--plain-http", f"{host}/aks/thing:1.0", "-o", tmp_path / "out")
        assert (tmp_path / "out" / "a.txt").read_text() == "a"
        digest = ask(one.port, "/v2/aks/thing/manifests/1.0").headers["docker-content-digest"]
        (entry,) = ask(one.port, f"/v2/aks/thing/referrers/{digest}").json["manifests"]
        assert (entry["artifactType"], entry["annotations"]["a"]) == ("text/note", "b")
        run(oras, "cp", "-r", "--from-plain-http", f"{host}/aks/thing:1.0", "--to-oci-layout", f"{tmp_path / 'again'}:1.0")
        assert (tmp_path / "again" / "blobs" / "sha256" / entry["digest"].partition(":")[2]).is_file()


@pytest.mark.parametrize("maker_of_layouts", ["crane", "regctl"])
def test_a_layout_that_other_tools_made_is_served(tool: Tool, recipe: Layout, tmp_path: Path, maker_of_layouts: str) -> None:
    with Command(recipe.root, "--port", 0, cwd=tmp_path) as one:
        host = one.first.removeprefix("http://")
        if maker_of_layouts == "crane":
            run(tool("crane"), "pull", "--insecure", "--format", "oci", f"{host}/{ALB}:1.7.12", tmp_path / "layout")
        else:
            (tmp_path / "regctl.json").write_text(json.dumps({"hosts": {host: {"tls": "disabled", "hostname": host}}}))
            settings = str(tmp_path / "regctl.json")
            run(tool("regctl"), "image", "copy", f"{host}/{ALB}:1.7.12", f"ocidir://{tmp_path / 'layout'}:1.7.12", REGCTL_CONFIG=settings)
    manifest = manifest_of(recipe, ALB, "1.7.12")
    with Command(tmp_path / "layout", "--port", 0, cwd=tmp_path) as one:
        got = ask(one.port, f"/v2/layout/manifests/{manifest.descriptor.digest}")
        assert got.body == manifest.raw
        assert ask(one.port, f"/v2/layout/blobs/{manifest.layers[0].digest}").body == recipe.path(manifest.layers[0].digest).read_bytes()


def test_the_cache_of_marfetch_is_served_to_helm(tool: Tool, tmp_path: Path) -> None:
    helm, oras = tool("helm4"), tool("oras")
    chart = package_chart(helm, tmp_path, "toy", "1.2.3")
    layout = tmp_path / "pushed"
    (tmp_path / "config.json").write_text(json.dumps({"name": "toy", "version": "1.2.3", "apiVersion": "v2"}))
    config = f"{tmp_path / 'config.json'}:application/vnd.cncf.helm.config.v1+json"
    layer = f"{chart.name}:application/vnd.cncf.helm.chart.content.v1.tar+gzip"
    run(oras, "push", "--disable-path-validation", "--oci-layout", f"{layout}:1.2.3", "--config", config, layer, cwd=tmp_path)
    cache = tmp_path / "cache"
    with Command(layout, "--port", 0, "--name", "charts/toy", cwd=tmp_path) as one:
        line = [
            "pull",
            f"{one.first.removeprefix('http://')}/charts/toy:1.2.3",
            "--all-layers",
            "-d",
            tmp_path / "out",
            "--cache-dir",
            cache,
        ]
        run(sys.executable, "-m", "marfetch", *line, cwd=ROOT)
    with Command(cache, "--port", 0, cwd=tmp_path) as one:
        (tmp_path / "again").mkdir()
        run(helm, "pull", f"oci://{one.first.removeprefix('http://')}/charts/toy", "-d", tmp_path / "again", "--plain-http")
        assert (tmp_path / "again" / chart.name).read_bytes() == chart.read_bytes()
