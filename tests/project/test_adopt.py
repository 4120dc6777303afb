"""`lock --from`: references found in charts, helmfiles, Argo CD, Flux, pipelines and scripts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.client.session import Session
from marfetch.errors import Error, InputError, StorageError
from marfetch.project.adopt import collect
from marfetch.project.scaffold import adopt_chart, wanted_bytes, write_first
from marfetch.project.sync import sync
from marfetch.project.wanted import parse_project, read_project

CHART = """apiVersion: v2
name: umbrella
version: 0.1.0
dependencies:
  - {name: alb-controller, version: ~1.7, repository: "oci://mcr.microsoft.com/application-lb/charts"}
  - {name: redis, version: 1.x, repository: "https://charts.bitnami.com/bitnami"}
  - {name: local, version: 0.1.0, repository: "file://../local"}
"""
HELMFILE = """repositories:
  - {name: agic, url: mcr.microsoft.com/azure-application-gateway/charts, oci: true}
  - {name: stable, url: https://charts.helm.sh/stable}
releases:
  - {name: a, chart: agic/ingress-azure, version: 1.8.1}
  - {name: b, chart: "oci://mcr.microsoft.com/aks/charts/foo"}
  - {name: c, chart: stable/x}
---
releases:
  - {name: d, chart: ./local}
"""
ARGO = """apiVersion: argoproj.io/v1alpha1
kind: Application
spec:
  sources:
    - {repoURL: mcr.microsoft.com/k8s/charts, chart: one, targetRevision: 2.*}
    - {repoURL: "oci://mcr.microsoft.com/k8s/charts/two", targetRevision: 1.2.3}
    - {repoURL: "https://github.com/x/y", path: z}
---
kind: ApplicationSet
spec: {template: {spec: {source: {repoURL: mcr.microsoft.com/k8s/charts, chart: three, targetRevision: HEAD}}}}
"""
FLUX = """kind: HelmRepository
metadata: {name: mar}
spec: {type: oci, url: "oci://mcr.microsoft.com/flux/charts"}
---
kind: HelmRelease
spec: {chart: {spec: {chart: web, version: ">=1 <2", sourceRef: {kind: HelmRepository, name: mar}}}}
---
kind: OCIRepository
metadata: {name: z}
spec: {url: "oci://mcr.microsoft.com/flux/z", ref: {tag: "8.0.0"}}
---
kind: OCIRepository
metadata: {name: y}
spec: {url: "oci://mcr.microsoft.com/flux/y", ref: {semver: ^1}}
"""
SCRIPT = r"""#!/bin/sh
# helm pull oci://mcr.microsoft.com/only/a-comment
helm upgrade --install x oci://mcr.microsoft.com/sh/charts/x \
  --version "1.8.12" --set a=b
oras pull mcr.microsoft.com/sh/whl:8.0.0 && echo done
helm pull oci://mcr.microsoft.com/sh/var:$TAG --version=$V
docker pull mcr.microsoft.com/dotnet/aspnet:6.0
curl https://mcr.microsoft.com.evil.example/sh/no https://notmcr.microsoft.com/sh/no
"""
PIPELINE = """steps:
  - script: helm pull oci://mcr.microsoft.com/ci/charts/p --version ^3
    displayName: fetch
  - bash: |
      oras pull mcr.microsoft.com/ci/q@sha256:%s
resources:
  containers:
    - container: x
      image: mcr.microsoft.com/ci/image:1
""" % ("a" * 64)
BICEP = """module s 'br/public:avm/res/storage/storage-account:0.9.1' = {}
module t 'br:mcr.microsoft.com/bicep/other:1.0' = {}
module u 'br:contoso.azurecr.io/x:1' = {}
"""

CASES: dict[str, tuple[str, str, set[tuple[str, str | None]]]] = {
    "a chart": ("Chart.yaml", CHART, {("application-lb/charts/alb-controller", "~1.7")}),
    "a helmfile": ("helmfile.yaml", HELMFILE, {("azure-application-gateway/charts/ingress-azure", "1.8.1"), ("aks/charts/foo", None)}),
    "Argo CD": ("app.yaml", ARGO, {("k8s/charts/one", "2.*"), ("k8s/charts/two", "1.2.3"), ("k8s/charts/three", None)}),
    "Flux": ("flux.yaml", FLUX, {("flux/charts/web", ">=1 <2"), ("flux/z:8.0.0", None), ("flux/y", "^1")}),
    "a script": ("ci.sh", SCRIPT, {("sh/charts/x", "1.8.12"), ("sh/whl:8.0.0", None), ("sh/var", None)}),
    "a pipeline": ("azure-pipelines.yml", PIPELINE, {("ci/charts/p", "^3"), (f"ci/q@sha256:{'a' * 64}", None)}),
    "Bicep": ("main.bicep", BICEP, {("bicep/avm/res/storage/storage-account:0.9.1", None), ("bicep/other:1.0", None)}),
}


@pytest.mark.parametrize(("name", "text", "found"), CASES.values(), ids=CASES)
def test_references_are_found_where_each_tool_has_them(tmp_path: Path, name: str, text: str, found: set[tuple[str, str | None]]) -> None:
    (tmp_path / name).write_text(text)
    adoption = collect([tmp_path / name])
    assert {(str(one.reference), one.version) for one in adoption.found} == found


def test_skipped_entries_are_reported(tmp_path: Path) -> None:
    (tmp_path / "ci.sh").write_text(SCRIPT)
    notes = "\n".join(collect([tmp_path / "ci.sh"]).notes)
    assert "ci.sh:6: the version" in notes
    assert "ci.sh:7: skipped a container image" in notes


def test_adopted_references_can_be_read_back_under_distinct_names(tmp_path: Path) -> None:
    place = tmp_path / "files"
    place.mkdir()
    for name, text, _ in CASES.values():
        (place / name).write_text(text)
    (place / "more.sh").write_text(
        "helm pull oci://mcr.microsoft.com/other/charts/foo --version 1\nhelm pull oci://mcr.microsoft.com/other/charts/foo --version 2\n"
    )
    adoption = collect(sorted(place.iterdir()))
    project = parse_project(wanted_bytes(adoption.found), Path("marfetch.yaml"))
    assert [item.reference for item in project.items] == [one.reference for one in adoption.found]
    assert [item.version for item in project.items] == [one.version for one in adoption.found]
    assert len({item.name for item in project.items}) == len(project.items)


def test_china_alone_becomes_the_endpoint(tmp_path: Path) -> None:
    (tmp_path / "x.sh").write_text("helm pull oci://mcr.azure.cn/aks/foo --version 1.x\n")
    project = parse_project(wanted_bytes(collect([tmp_path / "x.sh"]).found), Path("marfetch.yaml"))
    assert project.endpoint == "china"


def test_nothing_to_find_is_said_and_nothing_written(tmp_path: Path) -> None:
    (tmp_path / "x.sh").write_text("echo hello\n")
    with pytest.raises(InputError, match="no reference"):
        collect([tmp_path / "x.sh"])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\0mcr.microsoft.com/aks/foo:1\n",
        b"mcr.microsoft.com/aks/foo:1 " * 2_000,
        b"oci://mcr.microsoft.com/" + b"a/" * 50_000,
        b"{{ if }}\nchart: oci://mcr.microsoft.com/aks/foo:1\n",
    ],
)
def test_odd_files_do_no_harm(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(data)
    try:
        found = collect([path]).found
    except Error:
        return
    assert {str(one.reference) for one in found} == {"aks/foo:1"}


def test_an_existing_project_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "marfetch.yaml"
    path.write_text("mine")
    with pytest.raises(StorageError):
        write_first(path, b"x")
    assert path.read_text() == "mine"


def test_the_dependencies_of_a_chart_go_where_helm_looks_for_them(tmp_path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text(CHART)
    path, _ = adopt_chart(tmp_path)
    (item,) = read_project(path).items
    assert (item.name, item.version, item.destination, item.kinds) == ("alb-controller", "~1.7", "charts", ("chart",))
    (tmp_path / "Chart.yaml").write_text(CHART.replace("~1.7", "~1.8"))
    adopt_chart(tmp_path)
    assert read_project(path).items[0].version == "~1.8"
    path.write_text("schema: 1\nartifacts: []\n")
    with pytest.raises(StorageError, match="was not generated from"):
        adopt_chart(tmp_path)


@pytest.mark.tool
@pytest.mark.parametrize("name", ["helm3", "helm4"])
def test_helm_takes_the_dependencies_that_were_synced(
    tool: Callable[[str], Path], client: Callable[..., Session], tmp_path: Path, name: str
) -> None:
    helm = tool(name)
    place = tmp_path / "umbrella"
    place.mkdir()
    (place / "Chart.yaml").write_text(CHART.split("  - {name: redis", maxsplit=1)[0])
    project = read_project(adopt_chart(place)[0])
    (result,) = sync(client(), project)
    assert result.outcome == "fetched"
    listed = subprocess.run([str(helm), "dependency", "list", str(place)], capture_output=True, text=True, timeout=60, check=True).stdout
    assert [line.split()[-1] for line in listed.splitlines() if line.startswith("alb-controller")] == ["ok"]
    subprocess.run([str(helm), "template", str(place)], capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.slow
def test_very_many_references_are_read_in_one_pass(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text("".join(f"marfetch pull mcr.microsoft.com/a/b{number}:1 mcr.microsoft.com/a/b{number}:1\n" for number in range(20_000)))
    began = time.process_time()
    assert len(collect([path]).found) == 20_000
    assert time.process_time() - began < 30  # linear search takes seconds; comparing all pairs of references would take minutes
