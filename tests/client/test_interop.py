"""Interoperability with the real helm, oras, crane and regctl, in both directions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marfetch.demo.recipe import build
from marfetch.layout.layout import Layout
from marfetch.oci import Digest
from marfetch.reference import Host
from marfetch.serve.app import ServedRegistry as Honest
from marfetch.serve.server import Serving, bind

from ..world import command
from ..world.real import package_chart, run

Tool = Callable[[str], Path]

pytestmark = pytest.mark.tool


def marfetch(*arguments: object, cwd: Path, code: int = 0) -> str:
    done = command.marfetch(*arguments, "--cache-dir", cwd / "cache", cwd=cwd, environment=command.surroundings(HOME=str(cwd)))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_a_chart_that_helm_pushed_comes_byte_for_byte_as_helm_pulls_it(tool: Tool, registry: str, tmp_path: Path, helm: str) -> None:
    program = tool(helm)
    chart = package_chart(program, tmp_path, "toy", "1.2.3+build.5")
    run(program, "push", chart, f"oci://{registry}/charts", "--plain-http")
    line = marfetch("pull", f"{registry}/charts/toy", "--version", "^1", "-d", tmp_path / "ours", cwd=tmp_path)
    path, digest, pinned = line.rstrip().split("\t")
    assert path.endswith("/ours/toy-1.2.3+build.5.tgz")
    run(program, "pull", f"oci://{registry}/charts/toy", "--version", "1.2.3+build.5", "-d", tmp_path, "--plain-http")
    assert Path(path).read_bytes() == chart.read_bytes() == (tmp_path / "toy-1.2.3+build.5.tgz").read_bytes()
    assert digest == str(Digest.of(chart.read_bytes()))
    assert run(tool("crane"), "digest", f"{registry}/charts/toy:1.2.3_build.5", "--insecure").strip() == pinned.rpartition("@")[2]


VERSIONS = ["0.9.0", "1.0.0", "1.2.0", "1.10.1", "2.0.0-rc.1", "2.0.0-rc.10", "2.0.0-rc.2"]
RANGES = ["", "^1", "~1.2", "1.x", ">=1.0.0 <1.3", "<1 || >=2.0.0-0", ">0.0.0-0", "1.2.0", "!=1.10.1", "1 - 1.2"]


@pytest.mark.slow
def test_ranges_pick_what_helm_picks(tool: Tool, registry: str, tmp_path: Path) -> None:
    helm = tool("helm4")
    for version in VERSIONS:
        run(helm, "push", package_chart(helm, tmp_path, "toy", version), f"oci://{registry}/charts", "--plain-http")
    for number, text in enumerate(RANGES):
        directory = tmp_path / f"helm{number}"
        asked = ["--version", text] if text else []
        directory.mkdir()
        run(helm, "pull", f"oci://{registry}/charts/toy", *asked, "-d", directory, "--plain-http")
        (theirs,) = directory.glob("toy-*.tgz")
        ours = json.loads(marfetch("resolve", f"{registry}/charts/toy", *asked, "--json", cwd=tmp_path))["data"]["version"]
        assert theirs.name == f"toy-{ours}.tgz", text
    devel = json.loads(marfetch("resolve", f"{registry}/charts/toy", "--devel", "--json", cwd=tmp_path))["data"]["version"]
    assert devel == "2.0.0-rc.10"


def test_files_that_oras_pushed_come_as_oras_pulls_them(tool: Tool, registry: str, tmp_path: Path) -> None:
    oras = tool("oras")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "c.bin").write_bytes(bytes(range(256)) * 40_000)
    push = ["push", "--plain-http", "--artifact-type", "application/vnd.acme", f"{registry}/aks/files:v1.2.3"]
    run(oras, *push, "sub/a.txt:text/plain", "b.json:application/json", "c.bin", cwd=tmp_path)
    run(oras, "pull", "--plain-http", f"{registry}/aks/files:v1.2.3", "-o", tmp_path / "theirs")
    marfetch("pull", f"{registry}/aks/files", "--version", "^1", "-d", tmp_path / "ours", cwd=tmp_path)
    for name in ("sub/a.txt", "b.json", "c.bin"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes() == (tmp_path / name).read_bytes()
    only = marfetch("pull", f"{registry}/aks/files:v1.2.3", "--media-type", "*/JSON", "-d", tmp_path / "only", cwd=tmp_path)
    assert [line.split("\t")[0].rpartition("/")[2] for line in only.splitlines()] == ["b.json"]


def test_the_cache_is_read_by_other_tools(tool: Tool, registry: str, tmp_path: Path) -> None:
    oras, regctl = tool("oras"), tool("regctl")
    (tmp_path / "a.txt").write_text("a")
    run(oras, "push", "--plain-http", f"{registry}/aks/files:1.0.0", "a.txt:text/plain", cwd=tmp_path)
    line = marfetch("pull", f"{registry}/aks/files:1.0.0", "--all-layers", "-d", tmp_path / "ours", cwd=tmp_path)
    digest = line.rstrip().rpartition("@")[2]
    cache = tmp_path / "cache"
    manifest = run(oras, "manifest", "fetch", "--oci-layout", f"{cache}@{digest}")
    assert str(Digest.of(manifest.encode())) == digest
    run(oras, "pull", "--oci-layout", f"{cache}@{digest}", "-o", tmp_path / "again")
    assert (tmp_path / "again" / "a.txt").read_text() == "a"
    assert f"{registry}/aks/files:1.0.0" in run(oras, "repo", "tags", "--oci-layout", cache)
    assert str(Digest.of(run(regctl, "manifest", "get", "--format", "raw-body", f"ocidir://{cache}@{digest}").encode())) == digest
    run(oras, "cp", "--from-oci-layout", f"{cache}@{digest}", "--to-plain-http", f"{registry}/copied/files:1.0.0")
    assert marfetch("resolve", f"{registry}/copied/files:1.0.0", cwd=tmp_path).rstrip().endswith(digest)


def test_referrers_attached_by_oras_are_found_through_the_fallback_tag(tool: Tool, registry: str, tmp_path: Path) -> None:
    oras = tool("oras")
    (tmp_path / "a.txt").write_text("a")
    run(oras, "push", "--plain-http", f"{registry}/aks/files:1.0.0", "a.txt:text/plain", cwd=tmp_path)
    notes = ["--annotation", "vnd.microsoft.artifact.lifecycle.end-of-life.date=2024-11-12"]
    run(
        oras,
        "attach",
        "--plain-http",
        "--artifact-type",
        "application/vnd.microsoft.artifact.lifecycle",
        *notes,
        f"{registry}/aks/files:1.0.0",
    )
    data = json.loads(marfetch("versions", f"{registry}/aks/files", "--details", "--json", cwd=tmp_path))["data"]
    assert [(one["version"], one["endOfLife"]) for one in data["versions"]] == [("1.0.0", "2024-11-12")]
    assert len(data["other"]) == 1  # the fallback tag of the referrers API is not a version


# -- other clients pull from `marfetch serve`


@pytest.fixture
def honest(tmp_path: Path) -> Iterator[tuple[str, Layout]]:
    listening = bind()
    host = Host("localhost", listening.getsockname()[1])
    layout = Layout(tmp_path / "served")
    build(layout, host)
    with Serving([(Honest(layout, host).app(), listening)]):
        yield str(host), layout


CHART = "application-lb/charts/alb-controller"


def test_other_clients_pull_from_serve_byte_for_byte(tool: Tool, honest: tuple[str, Layout], tmp_path: Path) -> None:
    host, _ = honest
    ours = Path(marfetch("pull", f"{host}/{CHART}:1.7.12", "-d", tmp_path / "ours", cwd=tmp_path).split("\t")[0]).read_bytes()
    for helm in ("helm3", "helm4"):
        directory = tmp_path / helm
        directory.mkdir()
        run(tool(helm), "pull", f"oci://{host}/{CHART}", "--version", "~1.7", "-d", directory, "--plain-http")
        assert (directory / "alb-controller-1.7.12.tgz").read_bytes() == ours
    manifest = run(tool("oras"), "manifest", "fetch", "--plain-http", f"{host}/{CHART}:1.7.12")
    layer = json.loads(manifest)["layers"][0]["digest"]
    run(tool("oras"), "blob", "fetch", "--plain-http", "-o", tmp_path / "oras.tgz", f"{host}/{CHART}@{layer}")
    assert (tmp_path / "oras.tgz").read_bytes() == ours
    assert run(tool("crane"), "manifest", "--insecure", f"{host}/{CHART}:1.7.12") == manifest
    assert run(tool("crane"), "ls", "--insecure", f"{host}/{CHART}").split() == sorted(
        ["0.4.023901", "0.4.023971", "1.0.0", "1.0.7", "1.10.27", "1.11.4", "1.7.12", "1.7.9", "1.8.12"]
    )
    (tmp_path / "regctl.json").write_text(json.dumps({"hosts": {host: {"tls": "disabled", "hostname": host}}}))
    assert (
        run(
            tool("regctl"), "manifest", "get", "--format", "raw-body", f"{host}/{CHART}:1.7.12", REGCTL_CONFIG=str(tmp_path / "regctl.json")
        )
        == manifest
    )


def test_a_signature_is_discovered_on_it(tool: Tool, honest: tuple[str, Layout]) -> None:
    host, _ = honest
    found = run(tool("oras"), "discover", "--plain-http", "--format", "json", f"{host}/azurelinux/3.0/image/minimal-os:latest")
    assert "application/vnd.cncf.notary.signature" in found
