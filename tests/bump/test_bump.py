"""`bump`: what it writes, byte for byte, in each form; what it leaves alone; and what happens when something fails."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marfetch.__main__ import main
from marfetch.destination.directory import Directory

from ..world.charts import add_foo
from ..world.command import Call
from ..world.proxy import Proxy
from ..world.registry import Registry

OLD = "sha256:" + "b7" * 32
MARK = re.compile(r"<<(.*?)\|(.*?)>>", re.DOTALL)
Bump = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def foo(mar: Registry) -> str:
    """`charts/foo` with four releases and a prerelease; returns the digest of the newest release."""
    for tag in ("1.0.0", "1.2.0", "1.2.3", "2.1.0", "3.0.0-rc.1"):
        newest = mar.add_artifact("charts/foo", tag, ("foo.tgz", tag.encode()))
        mar.add_artifact("bicep/foo/bar", tag, ("main.json", tag.encode()))
        digest = newest.digest if tag == "2.1.0" else None
        if digest is not None:
            found = str(digest)
    return found


@pytest.fixture
def bump(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bump:
    """`bump(…)`: the command in `project`, an empty directory, with `--json`; gives the exit code and the places."""
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)

    def do(*words: object) -> tuple[int, list[dict[str, Any]]]:
        code, out, errors = call("bump", *words, "--json")
        assert "Traceback" not in errors
        document = json.loads(out)
        assert document["ok"] is (code in (0, 1))
        return code, document.get("data", {}).get("places", [])

    return do


def statuses(places: list[dict[str, Any]]) -> list[str]:
    return [one["status"] for one in places]


FORMS: dict[str, tuple[str, str]] = {
    "marfetch": (
        "marfetch.yaml",
        """schema: 1
artifacts:
- {reference: charts/foo, version: <<1.2.3|2.1.0>>} # 1.2.3
- reference: charts/foo:<<1.2.3|2.1.0>>@<<OLD|NEW>>
  name: b
- {reference: "charts/foo", name: c, version: "<<^1.2|^2.1>>"}
- {reference: charts/foo, name: d}
""",
    ),
    "chart": (
        "Chart.yaml",
        """apiVersion: v2
version: 1.2.3
appVersion: 1.2.3
dependencies:
  - name: foo
    repository: 'oci://HOST/charts'
    version: <<1.2.3|2.1.0>>
  - {version: ">=1.0.0 <<<2.0.0|<3.0.0>>", name: "foo", repository: oci://HOST/charts}
  - {name: redis, version: 1.2.3, repository: https://charts.example.com}
  - {name: other, version: 1.2.3, repository: oci://registry.example.com/charts}
""",
    ),
    "requirements": ("requirements.yaml", "dependencies:\n- {name: foo, version: =<<1.2.3|2.1.0>>, repository: 'oci://HOST/charts'}\n"),
    "helmfile": (
        "helmfile.yaml",
        """repositories:
- &mar {name: mar, url: HOST/charts, oci: true}
templates:
  t: {chart: mar/foo, version: <<1.2|2.1>>}
releases:
- name: a   # 1.2.3
  chart: mar/foo
  version: &v '<<1.2.3|2.1.0>>@<<OLD|NEW>>'
- {name: b, chart: mar/foo, version: *v}
- {name: c, inherit: [{template: t}]}
- {name: d, chart: "oci://HOST/charts/foo:<<1.2.3|2.1.0>>"}
- {name: e, chart: stable/foo, version: 1.2.3}
""",
    ),
    "helmfile with actions": (
        "helmfile.yaml.gotmpl",
        """{{ $x := "1.2.3" -}}
repositories: [{name: mar, url: oci://HOST/charts}]
releases:
{{- range .Values.x }}
  - name: {{ . }}
    chart: mar/foo
    version: <<1.2.3|2.1.0>>
{{- end }}
""",
    ),
    "Argo CD": (
        "apps.yaml",
        """kind: Application
spec:
  source: {repoURL: HOST/charts, chart: foo, targetRevision: <<1.2.x|2.1.x>>}
---
kind: ApplicationSet
spec:
  template:
    spec:
      sources:
      - repoURL: oci://HOST/charts/foo
        targetRevision: "<<1.2.3|2.1.0>>"
      - {repoURL: "https://git.example.com/a", targetRevision: 1.2.3}
""",
    ),
    "Flux": (
        "flux.yaml",
        """apiVersion: v1
kind: List
items:
- kind: HelmRepository
  metadata: {name: mar}
  spec: {type: oci, url: oci://HOST/charts}
- kind: HelmRelease
  metadata: {name: a}
  spec: {chart: {spec: {chart: foo, version: <<1.2.3|2.1.0>>, sourceRef: {kind: HelmRepository, name: mar}}}}
---
kind: OCIRepository
spec:
  url: oci://HOST/charts/foo
  ref: {tag: <<1.2.3|2.1.0>>, digest: "<<OLD|NEW>>"}
---
kind: OCIRepository
spec: {url: oci://HOST/charts/foo, ref: {semver: "<<~1.2.0|~2.1.0>>"}}
---
kind: HelmChart
spec: {chart: oci://HOST/charts/foo, version: <<1.2.3|2.1.0>>}
""",
    ),
    "Kustomize": ("kustomization.yaml", "helmCharts:\n- name: foo\n  repo: oci://HOST/charts\n  version: <<1.2.3|2.1.0>>\n"),
    "Fleet": (
        "fleet.yaml",
        "helm: {chart: 'oci://HOST/charts/foo', version: <<1.2.3|2.1.0>>}\ntargetCustomizations:\n- helm: {version: <<1.0.0|2.1.0>>}\n",
    ),
    "Zarf": (
        "zarf.yaml",
        "components:\n- charts:\n  - name: x\n    url: oci://HOST/charts/foo\n    version: <<1.2.3|2.1.0>>\n  images: [HOST/charts/foo:1.2.3]\n",
    ),
    "vendir": ("vendir.yml", "contents:\n- helmChart: {name: foo, version: '<<1.2.3|2.1.0>>', repository: {url: 'oci://HOST/charts'}}\n"),
    "hauler": ("hauler.yaml", "kind: Charts\nspec:\n  charts:\n  - {name: foo, repoURL: oci://HOST/charts, version: <<1.2.3|2.1.0>>}\n"),
    "Ansible": (
        "play.yml",
        "- tasks:\n  - kubernetes.core.helm:\n      chart_ref: oci://HOST/charts/foo\n      chart_version: <<1.2.3|2.1.0>>\n",
    ),
    "Terraform": (
        "main.tf",
        """# version = "1.2.3"
locals { v = "<<1.2.3|2.1.0>>" }
resource "helm_release" "a" {
  repository = "oci://HOST/charts"
  chart      = "foo"
  version    = "<<1.2.3|2.1.0>>" # 1.2.3
  set { name = "version", value = "1.2.3" }
}
resource "helm_release" "b" {
  chart   = "oci://HOST/charts/foo"
  version = local.v
}
resource "helm_release" "c" {
  repository = "https://charts.example.com"
  chart      = "foo"
  version    = "1.2.3"
}
""",
    ),
    "Terraform as JSON": (
        "main.tf.json",
        '{"resource": {"helm_release": {"a": {"repository": "oci://HOST/charts", "chart": "foo", "version": "<<1.2.3|2.1.0>>"}}}}',
    ),
    "Bicep": (
        "main.bicep",
        """// module a 'br:HOST/bicep/foo/bar:1.2.3'
/* module a 'br:HOST/bicep/foo/bar:1.2.3' */
@description('br:HOST/bicep/foo/bar:1.2.3, don\\'t')
var text = '''
module a 'br:HOST/bicep/foo/bar:1.2.3'
'''
var image = 'HOST/charts/foo:1.2.3'
module b 'br:HOST/bicep/foo/bar:<<1.2.3|2.1.0>>' = { // 1.2.3
}
module c 'br/mine:bar:<<1.2.3|2.1.0>>' = if (x) {}
import { x } from 'br/mine:bar:<<1.2.3|2.1.0>>'
module d 'br/other:bar:1.2.3' = {}
""",
    ),
    "Bicep parameters": ("main.bicepparam", "using 'br/mine:bar:<<1.2.3|2.1.0>>'\nparam x = '1.2.3'\n"),
    "azd": (
        "azure.yaml",
        """services:
  api:
    k8s:
      helm:
        repositories: [{name: mar, url: "oci://HOST/charts"}]
        releases: [{name: a, chart: mar/foo, version: <<1.2.3|2.1.0>>}]
hooks:
  predeploy:
    run: helm pull oci://HOST/charts/foo --version <<1.2.3|2.1.0>>
""",
    ),
    "script": (
        "ci.sh",
        r"""#!/bin/sh
# helm pull oci://HOST/charts/foo --version 1.2.3
helm upgrade --install x oci://HOST/charts/foo \
  --version "<<1.2.3|2.1.0>>" --set image.tag=1.2.3 --set image.repository=HOST/charts/foo
helm template oci://HOST/charts/foo --version=<<^1.2|^2.1>>; helm install y oci://HOST/charts/foo --version '<<1.2.3|2.1.0>>' # 1.2.3
oras pull HOST/charts/foo:<<1.2.3|2.1.0>>@<<OLD|NEW>>
marfetch pull charts/foo:<<1.2.3|2.1.0>> -d charts/old:1.2.3 --untar && marfetch pull --untar charts/foo --version <<1.2.3|2.1.0>>
marfetch resolve oci://HOST/charts/foo:<<1.2.3|2.1.0>> --json
docker pull HOST/charts/foo:1.2.3
curl http://HOST/charts/foo:1.2.3
helm pull oci://registry.example.com/charts/foo --version 1.2.3
""",
    ),
    "Makefile": (
        "Makefile",
        "x:\n\t@oras pull HOST/charts/foo:<<1.2.3|2.1.0>>\n\t@helm pull oci://HOST/charts/foo --version <<1.2.3|2.1.0>>\n",
    ),
    "batch file": (
        "x.cmd",
        """@rem helm pull oci://HOST/charts/foo --version 1.2.3
:: helm pull oci://HOST/charts/foo --version 1.2.3
helm pull oci://HOST/charts/foo ^
  --version <<1.2.3|2.1.0>>
""",
    ),
    "PowerShell": (
        "x.ps1",
        """<# .EXAMPLE
helm pull oci://HOST/charts/foo --version 1.2.3
#>
helm pull oci://HOST/charts/foo <# x #> `
  --version <<1.2.3|2.1.0>>
& oras.exe @('pull', 'HOST/charts/foo:<<1.2.3|2.1.0>>')
""",
    ),
    "escaped quotes": (
        "package.json",
        '{"scripts": {"a": "helm pull \\"oci://HOST/charts/foo\\" --version \\"<<1.2.3|2.1.0>>\\"", "b": 1}}\n',
    ),
    "doubled quotes": ("ci.yml", "- run: 'helm pull ''oci://HOST/charts/foo'' --version ''<<1.2.3|2.1.0>>'''\n"),
    "Skaffold": ("skaffold.yaml", "releases: {remoteChart: 'oci://HOST/charts/foo', version: <<1.2.3|2.1.0>>}\n"),
    "k0s": ("k0s.yaml", "charts: [{name: x, chartname: 'oci://HOST/charts/foo', version: <<1.2.3|2.1.0>>}]\n"),
    "Cluster API": ("proxy.yaml", "spec: {chartName: foo, repoURL: 'oci://HOST/charts', version: <<1.2.3|2.1.0>>}\n"),
    "a folded reference": ("fleet.yaml", "helm:\n  chart: >-\n    oci://HOST/charts/foo\n  version: <<1.2.3|2.1.0>>\n"),
    "Dockerfile": (
        "Dockerfile",
        """FROM HOST/charts/foo:1.2.3 AS a
COPY --from=HOST/charts/foo:1.2.3 / /
RUN helm pull oci://HOST/charts/foo --version <<1.2.3|2.1.0>>
RUN ["helm", "pull", "oci://HOST/charts/foo", "--version", "<<1.2.3|2.1.0>>"]
""",
    ),
    "pipeline": (
        "azure-pipelines.yml",
        """resources:
  containers:
  - {container: x, image: HOST/charts/foo:1.2.3}
steps:
- script: helm pull oci://HOST/charts/foo --version <<1.2.3|2.1.0>>
- bash: |
    oras pull HOST/charts/foo:<<1.2.3|2.1.0>>
- bash: >-
    helm pull oci://HOST/charts/foo
    --version <<1.2.3|2.1.0>>

    echo
- task: HelmDeploy@1
  inputs:
    chartName: oci://HOST/charts/foo
    chartVersion: <<1.2.3|2.1.0>>
- task: HelmDeploy@1
  inputs:
    chartName: oci://HOST/charts/foo
    arguments: --timeout 5m --version <<1.2.3|2.1.0>> --create-namespace
""",
    ),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "mark"])
@pytest.mark.parametrize(("name", "template"), FORMS.values(), ids=FORMS)
def test_only_versions_and_digests_change(mar: Registry, foo: str, bump: Bump, name: str, template: str, ending: str) -> None:
    template = template.replace("HOST", mar.host).replace("OLD", OLD).replace("NEW", foo)
    if ending == "\r\n":
        template = template.replace("\n", ending)
    before, after = ((b"\xef\xbb\xbf" if ending == "mark" else b"") + MARK.sub(group, template).encode() for group in (r"\1", r"\2"))
    Path("bicepconfig.json").write_text(
        f'{{ /* c */ "moduleAliases": {{"br": {{"mine": {{"registry": "{mar.host}", "modulePath": "bicep/foo"}}, // x\n "other": {{"registry": "a.azurecr.io"}}}}}},}}'
    )
    path = Path(name)
    path.write_bytes(before)
    path.chmod(0o751)
    code, places = bump("--check")
    assert path.read_bytes() == before
    assert code == 1
    lines = {number for number, line in enumerate(before.decode().split("\n"), 1) if line not in after.decode().split("\n")}
    assert {one["line"] for one in places if one["status"] == "bumped"} == lines
    assert set(statuses(places)) <= {"bumped", "range-allows"}
    code, places = bump()
    assert (code, path.read_bytes(), path.stat().st_mode & 0o777) == (0, after, 0o751)
    code, places = bump("--check")
    assert (code, set(statuses(places)) <= {"current", "range-allows"}) == (0, True)
    assert mar.kinds().count("tags") == 3


UNREADABLE = {
    "a variable": ("ci.sh", "helm pull oci://HOST/charts/foo --version $V\n"),
    "a variable in the path": ("ci.sh", "helm pull oci://HOST/$CHART:1.2.3\n"),
    "a variable tag": ("ci.sh", "oras pull HOST/charts/foo:${TAG}\n"),
    "no version": ("ci.sh", "helm pull oci://HOST/charts/foo\n"),
    "a tag without a version": ("ci.sh", "oras pull HOST/charts/foo:latest\n"),
    "only a digest": ("ci.sh", f"oras pull HOST/charts/foo@{OLD}\n"),
    "an argument on another line": ("job.yaml", "args:\n- pull\n- oci://HOST/charts/foo\n"),
    "an input of an unknown task": ("ci.yml", "with:\n  helm-chart: oci://HOST/charts/foo\n  chart-release: 1.2.3\n"),
    "a folded line": ("fleet.yaml", "helm:\n  chart: oci://HOST/charts/foo\n  version: >-\n    1.2.3\n"),
    "a block": ("fleet.yaml", "helm:\n  chart: oci://HOST/charts/foo\n  version: |-\n    1.2.3\n"),
    "an escape": ("fleet.yaml", 'helm:\n  chart: oci://HOST/charts/foo\n  version: "1.2\\x2e3"\n'),
    "a template": ("helmfile.yaml", "releases: [{chart: 'oci://HOST/charts/foo', version: '{{ .Values.v }}'}]\n"),
    "alternatives": ("fleet.yaml", "helm: {chart: 'oci://HOST/charts/foo', version: '1.0.x || 1.2.x'}\n"),
    "a variable of Terraform": ("a.tf", 'resource "helm_release" "a" {\n  chart = "oci://HOST/charts/foo"\n  version = var.v\n}\n'),
    "a variable in a chart of Terraform": (
        "a.tf",
        'resource "helm_release" "a" {\n  chart = "oci://HOST/charts/${var.c}"\n  version = "1.2.3"\n}\n',
    ),
    "an expression in a repository of Terraform": (
        "a.tf",
        'resource "helm_release" "a" {\n  repository = "oci://HOST/${var.r}"\n  chart = "foo"\n  version = "1.2.3"\n}\n',
    ),
    "variables of Terraform": ("prod.auto.tfvars", 'chart = "oci://HOST/charts/foo"\n'),
    "an address in an unknown file": ("a.hcl", 'chart_repository = "oci://HOST/missing"\n'),
    "a filter of Flux": (
        "o.yaml",
        "kind: OCIRepository\nspec: {url: 'oci://HOST/charts/foo', ref: {semver: 1.2.x, semverFilter: '1.*'}}\n",
    ),
    "a missing source of Flux": (
        "r.yaml",
        "kind: HelmRelease\nspec: {chart: {spec: {chart: foo, version: 1.2.3, sourceRef: {kind: HelmRepository, name: mar}}}}\n",
    ),
    "a patch of an unknown release": ("r.yaml", "kind: HelmRelease\nmetadata: {name: a}\nspec: {chart: {spec: {version: 1.2.3}}}\n"),
    "an unknown alias of Bicep": ("a.bicep", "module a 'br/unknown:foo:1.2.3' = {}\n"),
    "a shared version": (
        "fleet.yaml",
        "a: {chart: 'oci://HOST/charts/foo', version: &v 1.2.3}\nb: {chart: 'oci://HOST/application-lb/charts/alb-controller', version: *v}\n",
    ),
}


@pytest.mark.parametrize(("name", "text"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_named_and_left_alone(mar: Registry, foo: str, bump: Bump, name: str, text: str) -> None:
    text = text.replace("HOST", mar.host)
    Path(name).write_text(text)
    code, places = bump()
    assert (code, Path(name).read_text()) == (0, text)
    assert set(statuses(places)) == {"unreadable"}
    assert len(places) == len({(one["line"], one["repository"]) for one in places})
    assert all(one["reason"] and one["new"] is None for one in places)


PASSED_OVER = {
    "images": (
        "k.yaml",
        "kind: Pod\nspec:\n  containers:\n  - {image: HOST/charts/foo:1.2.3}\n  - {env: [{value: 'mcr.microsoft.com/a/b:1.2.3'}]}\n",
    ),
    "values": ("values.yaml", "a:\n  repository: mcr.microsoft.com/a/b\n  tag: 1.2.3\nsidecarImage: mcr.microsoft.com/a/c:1.2.3\n"),
    "text": ("notes.md", "helm pull oci://HOST/charts/foo --version 1.2.3\n"),
    "a script without a first line": ("notes", "helm pull oci://HOST/charts/foo --version 1.2.3\n"),
    "addresses": ("project.yaml", "kind: AppProject\nspec: {sourceRepos: ['https://mcr.microsoft.com/helm/a']}\n"),
    "other registries": (
        "helmfile.yaml",
        "repositories: [{name: a, url: ghcr.io/a, oci: true}]\nreleases: [{chart: a/foo, version: 1.2.3}]\n",
    ),
    "a lock file": ("Chart.lock", "dependencies: [{name: foo, version: 1.2.3, repository: 'oci://HOST/charts'}]\n"),
    "a link that leads out": ("link", ""),
    "binary": ("a.sh", "helm pull oci://HOST/charts/foo --version 1.2.3\0\n"),
}


@pytest.mark.parametrize(("name", "text"), PASSED_OVER.values(), ids=PASSED_OVER)
def test_images_other_registries_and_other_files_are_passed_over(mar: Registry, bump: Bump, name: str, text: str, tmp_path: Path) -> None:
    if name == "link":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "ci.sh").write_text(f"helm pull oci://{mar.host}/charts/foo --version 1.2.3\n")
        Path("link").symlink_to(tmp_path / "out")
        Path("link.sh").symlink_to(tmp_path / "out" / "ci.sh")
    else:
        Path(name).write_text(text.replace("HOST", mar.host))
    assert bump() == (0, [])
    assert mar.asked == []


def test_directories_of_tools_and_what_git_ignores_are_not_searched(mar: Registry, foo: str, bump: Bump) -> None:
    text = f"helm pull oci://{mar.host}/charts/foo --version 1.2.3\n"
    inside = ["a.sh", "b/keep.sh", "b/build/c.sh", "sub/inside.sh", ".github/workflows/x.yml", "script"]
    outside = [
        ".git/a.sh",
        "node_modules/a.sh",
        "b/node_modules/a.sh",
        ".terraform/a.sh",
        "env/a.sh",
        ".venv/a.sh",
        "build/a.sh",
        "b/x.sh",
        "b/c.ignored.sh",
        "sub/excluded.sh",
    ]
    for name in (*inside, *outside, "env/pyvenv.cfg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"#!/bin/sh\n{text}" if name == "script" else f"a: {text}" if name.endswith("yml") else text)
    Path(".gitignore").write_text("/build/\n*.ignored.sh\nb/*.sh\n!keep.sh\n")
    Path("b/.gitignore").write_bytes(b"\xef\xbb\xbf!keep.sh\r\n")
    Path(".git/info").mkdir()
    Path(".git/info/exclude").write_text("sub/excluded.sh\n")
    _, places = bump("--check")
    assert sorted(one["path"] for one in places) == sorted(inside)
    os.chdir("b")
    _, places = bump("--check", "..", ".")
    assert sorted(one["path"] for one in places) == sorted(os.path.relpath(name, "b") for name in inside)
    _, places = bump("--check", "x.sh", "build")
    assert [one["path"] for one in places] == ["x.sh", "build/c.sh"]


def test_a_link_inside_is_followed_once_and_stays_a_link(mar: Registry, foo: str, bump: Bump) -> None:
    Path("real.txt").write_text(f"oras pull {mar.host}/charts/foo:1.2.3\n")
    Path("a.sh").symlink_to("real.txt")
    Path("b.sh").symlink_to("real.txt")
    _, places = bump()
    assert [one["path"] for one in places] == ["a.sh"]
    assert Path("a.sh").is_symlink()
    assert Path("real.txt").read_text().endswith(":2.1.0\n")


CHOICES: list[tuple[str, str, list[str], tuple[str, str, str | None]]] = [
    ("version: 1.2.0", "patch", [], ("bumped", "1.2.3", "beyond")),
    ("version: 1.0.0", "minor", [], ("bumped", "1.2.3", "beyond")),
    ("version: 1.2.3", "minor", [], ("current", "1.2.3", "`2.1.0` is beyond `--level minor`")),
    ("version: ^1.0", "minor", [], ("current", "^1.0", "beyond")),
    ("version: ~1.0", "minor", [], ("bumped", "~1.2", "beyond")),
    ("version: 1.2.3", "major", ["--devel"], ("bumped", "3.0.0-rc.1", None)),
    ("version: 9.0.0", "major", [], ("current", "9.0.0", None)),
    ("version: 3.0.0-rc.1", "major", [], ("current", "3.0.0-rc.1", None)),
    ("version: ^2", "major", [], ("range-allows", "^2", None)),
    ("version: '*'", "major", [], ("range-allows", "*", None)),
    ("version: ^2.0.0", "major", ["--ranges"], ("bumped", "^2.1.0", None)),
    ("version: '>=1.0, !=1.2'", "major", ["--ranges"], ("bumped", ">=2.1, !=1.2", None)),
    ("version: ^2.1", "major", ["--ranges"], ("range-allows", "^2.1", None)),
]


@pytest.mark.parametrize(("version", "level", "options", "expected"), CHOICES)
def test_level_devel_and_ranges_choose(
    mar: Registry, foo: str, bump: Bump, version: str, level: str, options: list[str], expected: tuple[str, str, str | None]
) -> None:
    Path("fleet.yaml").write_text(f"helm:\n  chart: oci://{mar.host}/charts/foo\n  {version}\n")
    code, (one,) = bump("--level", level, *options)
    assert (code, one["status"], one["new"]) == (0, *expected[:2])
    assert (one["reason"] is None) if expected[2] is None else (expected[2] in one["reason"])
    assert ("2.1.0" in Path("fleet.yaml").read_text()) is (one["new"] in ("2.1.0", "^2.1.0"))


def test_a_cool_down_holds_back_and_a_project_file_has_its_own(mar: Registry, foo: str, bump: Bump) -> None:
    text = f"helm:\n  chart: oci://{mar.host}/charts/foo\n  version: 1.2.3\n"
    Path("fleet.yaml").write_text(text)
    Path("marfetch.yaml").write_text("schema: 1\nmin-age: 7d\nartifacts: [{reference: charts/foo, version: 1.2.3}]\n")
    _, places = bump("--check")
    assert statuses(places) == ["bumped", "held-back"]
    code, places = bump("--min-age", "1w")
    assert (code, statuses(places)) == (0, ["held-back", "held-back"])
    assert "`2.1.0` is age unknown" in places[0]["reason"]
    assert Path("fleet.yaml").read_text() == text
    assert bump("--min-age", "soon")[0] == 2


def test_pins_are_added_where_the_form_knows_digests(mar: Registry, foo: str, bump: Bump) -> None:
    Path("helmfile.yaml").write_text(
        f"releases:\n- {{chart: 'oci://{mar.host}/charts/foo', version: 2.1.0}}\n- {{chart: 'oci://{mar.host}/charts/foo', version: ^2}}\n"
    )
    Path("Chart.yaml").write_text(f"dependencies: [{{name: foo, repository: 'oci://{mar.host}/charts', version: 2.1.0}}]\n")
    Path("a.sh").write_text(f"oras pull {mar.host}/charts/foo:1.2.3 && marfetch pull charts/foo:2.1.0\n")
    commands = f"helm pull oci://{mar.host}/charts/foo:<<1.2.3|2.1.0@{foo}>>\nmarfetch pull charts/foo --version 2.1.0\nX=oci://{mar.host}/charts/foo:2.1.0\n"
    Path("b.sh").write_text(MARK.sub(r"\1", commands))
    _, places = bump("--pin")
    assert statuses(places) == ["current", "bumped", "bumped", "bumped", "current", "current", "bumped", "range-allows"]
    assert Path("b.sh").read_text() == MARK.sub(r"\2", commands)
    assert f"version: 2.1.0@{foo}}}" in Path("helmfile.yaml").read_text()
    assert Path("a.sh").read_text() == f"oras pull {mar.host}/charts/foo:2.1.0@{foo} && marfetch pull charts/foo:2.1.0@{foo}\n"
    assert bump("--pin", "--check")[0] == 0


def test_a_version_without_a_manifest_and_an_image_are_skipped(mar: Registry, foo: str, bump: Bump) -> None:
    image = {"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": OLD, "size": 2}, "artifactType": None}
    mar.add_artifact("charts/foo", "2.2.0", ("x", b""), **{key: value for key, value in image.items() if value})
    listed = mar.tags["charts/foo"]
    assert isinstance(listed, list)
    listed.append("2.3.0")
    Path("a.sh").write_text(f"oras pull {mar.host}/charts/foo:1.2.3\n")
    _, (one,) = bump()
    assert one["new"] in ("2.1.0", "2.2.0")
    assert "2.3.0" not in Path("a.sh").read_text()


def test_only_chosen_repositories_are_asked(mar: Registry, foo: str, bump: Bump) -> None:
    Path("a.sh").write_text(f"oras pull {mar.host}/charts/foo:1.2.3\noras pull {mar.host}/missing/bar:1.2.3\n")
    code, (one,) = bump("--only", "charts/*")
    assert (code, one["new"], one["repository"]) == (0, "2.1.0", f"{mar.host}/charts/foo")


def test_nothing_is_written_if_a_repository_cannot_be_read(mar: Registry, foo: str, call: Call, bump: Bump) -> None:
    text = f"oras pull {mar.host}/charts/foo:1.2.3\noras pull {mar.host}/missing/bar:1.2.3\n"
    Path("a.sh").write_text(text)
    code, out, _ = call("bump", "--json")
    document = json.loads(out)
    assert (code, document["ok"], Path("a.sh").read_text()) == (3, False, text)
    assert document["data"]["failed"][0]["line"] == 2


def test_each_repository_is_asked_once(mar: Registry, foo: str, bump: Bump) -> None:
    lines = [f"oras pull {mar.host}/{name}:{tag}\n" for name in ("charts/foo", "bicep/foo/bar") for tag in ("1.0.0", "1.2.0", "1.2.3")]
    for number in range(5):
        Path(f"{number}.sh").write_text("".join(lines))
    _, places = bump("--pin")
    assert statuses(places) == ["bumped"] * 30
    kinds = mar.kinds()
    assert kinds.count("tags") == 2
    assert kinds.count("manifest") == 2


def test_references_follow_the_endpoint(mar: Registry, foo: str, call: Call, bump: Bump) -> None:
    Path("a.sh").write_text("helm pull oci://mcr.microsoft.com/charts/foo --version 1.2.3\n")
    code, out, _ = call("bump", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (4, "endpoint-disagrees")
    assert mar.asked == []


def test_official_references_go_to_mar_whatever_the_environment_says(
    official: Registry, ca_file: str, bump: Bump, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("main.bicep").write_text("module a 'br/public:avm/res/storage/storage-account:0.9.1' = {}\n")
    Path("a.sh").write_text("helm pull oci://mcr.microsoft.com/application-lb/charts/alb-controller --version 1.7.9\n")
    with Proxy({"mcr.microsoft.com": official.port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("MARFETCH_ENDPOINT", "http://127.0.0.1:9")
        code = main(["bump", "--ca-file", ca_file])
    assert (code, capfd.readouterr().err.count("127.0.0.1:9")) == (0, 0)
    assert Path("main.bicep").read_text() == "module a 'br/public:avm/res/storage/storage-account:0.14.0' = {}\n"
    assert Path("a.sh").read_text().endswith(" --version 1.11.4\n")


def test_lock_files_are_left_to_their_commands(mar: Registry, foo: str, call: Call, bump: Bump) -> None:
    Path("Chart.yaml").write_text(f"dependencies: [{{name: foo, repository: 'oci://{mar.host}/charts', version: 1.2.3}}]\n")
    Path("Chart.lock").write_text("x")
    Path("marfetch.yaml").write_text("schema: 1\nartifacts: [{reference: charts/foo, version: 1.2.3}]\n")
    Path("marfetch.lock").write_text("x")
    code, out, errors = call("bump")
    assert (code, Path("Chart.lock").read_text(), Path("marfetch.lock").read_text()) == (0, "x", "x")
    assert out.splitlines()[0] == f"Chart.yaml:1\t{mar.host}/charts/foo\t1.2.3\t2.1.0\tbumped"
    assert "next: helm dependency update ." in errors
    assert "next: marfetch lock --file marfetch.yaml" in errors


def test_outdated_lists_the_same_places(mar: Registry, foo: str, call: Call, bump: Bump) -> None:
    text = f"oras pull {mar.host}/charts/foo:1.2.3\n"
    for name in ("a.sh", "b.sh"):
        Path(name).write_text(text)
    code, out, _ = call("outdated", "--from", "a.sh", "b.sh")
    assert (code, [line.split("\t")[0] for line in out.splitlines()]) == (1, ["a.sh:1", "b.sh:1"])
    code, out, _ = call("outdated", "--from", ".", "--json")
    assert [one["status"] for one in json.loads(out)["data"]["places"]] == ["bumped", "bumped"]
    assert Path("a.sh").read_text() == text
    assert call("outdated", "a.sh")[0] == 2


def test_a_source_in_a_list_of_another_file_is_found(mar: Registry, foo: str, bump: Bump) -> None:
    Path("a.yaml").write_text(
        "kind: HelmRelease\nmetadata: {namespace: x}\nspec: {chart: {spec: {chart: foo, version: 1.2.3, sourceRef: {kind: HelmRepository, name: m, namespace: f}}}}\n"
    )
    Path("b").mkdir()
    Path("b/list.yaml").write_text(
        "kind: List\nitems:\n"
        f"- {{kind: HelmRepository, metadata: {{name: m, namespace: f}}, spec: {{url: 'oci://{mar.host}/charts'}}}}\n"
        "- {kind: HelmRepository, metadata: {name: m, namespace: g}, spec: {url: 'oci://ghcr.io/a'}}\n"
    )
    _, (one,) = bump()
    assert (one["form"], one["new"]) == ("flux", "2.1.0")


def test_a_patch_of_a_release_uses_the_source_of_that_release(mar: Registry, foo: str, bump: Bump) -> None:
    template = "kind: HelmRelease\nmetadata: {name: a, namespace: x}\nspec: {chart: {spec: {MORE version: 1.2.3}}}\n"
    source = "chart: foo, sourceRef: {kind: HelmRepository, name: m},"
    Path("base.yaml").write_text(
        template.replace("MORE", source)
        + f"---\nkind: HelmRepository\nmetadata: {{name: m, namespace: x}}\nspec: {{url: 'oci://{mar.host}/charts'}}\n"
    )
    for name in ("staging", "production"):
        Path(name).mkdir()
        Path(name, "patch.yaml").write_text(
            template.replace("MORE", "").replace(", namespace: x", "" if name == "staging" else ", namespace: x")
        )
    _, places = bump()
    assert [(one["form"], one["line"], one["new"]) for one in places] == [("flux", 3, "2.1.0")] * 3
    Path("other.yaml").write_text(template.replace("MORE", source.replace("foo", "bar")))
    _, places = bump("staging", "base.yaml", "other.yaml", "--only", "a")
    assert [(one["path"], one["status"]) for one in places] == [("staging/patch.yaml", "unreadable")]


def test_an_address_is_left_out_only_above_artifacts_of_its_own_file(mar: Registry, foo: str, bump: Bump) -> None:
    Path("a.sh").write_text(f"helm pull oci://{mar.host}/charts/foo --version 2.1.0\nREPO=oci://{mar.host}/charts\n")
    Path("b.sh").write_text(f"REPO=oci://{mar.host}/charts\n")
    _, places = bump()
    assert [(one["path"], one["status"]) for one in places] == [("a.sh", "current"), ("b.sh", "unreadable")]


def test_a_version_that_cannot_be_read_needs_no_request(mar: Registry, foo: str, bump: Bump) -> None:
    Path("a.sh").write_text(f"helm pull oci://{mar.host}/missing/bar --version $V\noras pull {mar.host}/charts/foo:1.2.3\n")
    code, places = bump()
    assert (code, statuses(places)) == (0, ["unreadable", "bumped"])
    assert places[0]["repository"] == f"{mar.host}/missing/bar"


# -- failures while writing


def many(mar: Registry) -> list[Path]:
    paths = [Path(f"{name}.sh") for name in "abc"]
    for path in paths:
        path.write_text(f"oras pull {mar.host}/charts/foo:1.2.3\n")
    return paths


def test_a_read_only_file_leaves_all_others_alone(mar: Registry, foo: str, bump: Bump) -> None:
    paths = many(mar)
    paths[1].chmod(0o444)
    code, places = bump()
    assert (code, len(places)) == (9, 3)
    assert all("1.2.3" in path.read_text() for path in paths)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The second file cannot be renamed into place."""
    publish, names = Directory.publish, []

    def fail(self: Directory, part: str, name: str, *, replace: bool) -> None:
        names.append(name)
        if name == "b.sh":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        publish(self, part, name, replace=replace)

    monkeypatch.setattr(Directory, "publish", fail)
    yield
    assert names == ["a.sh", "b.sh"]


@pytest.mark.usefixtures("broken")
def test_a_failure_between_two_files_names_what_was_written(mar: Registry, foo: str, call: Call, bump: Bump) -> None:
    paths = many(mar)
    code, out, errors = call("bump", "--json")
    document = json.loads(out)
    assert (code, document["error"]["code"], document["data"]["written"]) == (9, "disk-full", ["a.sh"])
    assert "written before the failure: `a.sh`" in errors
    assert ["2.1.0" in path.read_text() for path in paths] == [True, False, False]
    assert sorted(path.name for path in Path().iterdir()) == ["a.sh", "b.sh", "c.sh"]


def test_a_full_disk_changes_no_file(mar: Registry, foo: str, call: Call, bump: Bump, disk: Callable[[str], Path]) -> None:
    place = disk("size=16k")
    for number in range(3):
        (place / f"{number}.sh").write_text(f"oras pull {mar.host}/charts/foo:1.2.3\n")
    code, out, _ = call("bump", place, "--json")
    assert (code, json.loads(out)["data"]["written"]) == (9, [])
    assert all("1.2.3" in path.read_text() for path in place.iterdir())


# -- the body of a pull request


SET: dict[str, tuple[str, str]] = {
    "helmfile": (
        "helmfile.yaml",
        "releases: [{chart: 'oci://HOST/charts/foo', version: 1.0.0, values: [values.yaml, {gone: 1}], set: [{name: old.a}]}]\n",
    ),
    "Argo CD": (
        "app.yaml",
        (
            "kind: Application\nspec:\n  sources:\n  - repoURL: HOST/charts\n    chart: foo\n    targetRevision: 1.0.0\n    helm:\n"
            "      valueFiles: [$here/values.yaml]\n      parameters: [{name: old.a}]\n      values: |\n        gone: 1\n"
        ),
    ),
    "Flux": (
        "flux.yaml",
        (
            "kind: HelmRelease\nspec:\n  chart: {spec: {chart: foo, version: 1.0.0, sourceRef: {kind: HelmRepository, name: m}}}\n"
            "  values: {gone: 1, old: {a: 1}, kept: 1, new: 1}\n---\nkind: HelmRepository\nmetadata: {name: m}\nspec: {url: oci://HOST/charts}\n"
        ),
    ),
    "Terraform": (
        "main.tf",
        (
            'resource "helm_release" "a" {\n  chart = "oci://HOST/charts/foo"\n  version = "1.0.0"\n  values = [file("${path.module}/values.yaml")]\n'
            '  set {\n    name  = "old.a"\n    value = 1\n  }\n  set = [{ name = "gone", value = 1 }]\n}\n'
        ),
    ),
}


@pytest.mark.parametrize(("name", "text"), SET.values(), ids=SET)
def test_the_pull_request_names_lost_values_first(mar: Registry, call: Call, bump: Bump, name: str, text: str) -> None:
    add_foo(mar, "1.0.0", {"values.yaml": "kept: 1\ngone: 0\nold: {a: 1}\nmap: {}\n"})
    add_foo(mar, "1.1.0", {"values.yaml": "kept: 1\nold: {b: 1}\nmap: {}\nnew: 1\n"})
    Path("values.yaml").write_text("kept: 2\nmap: {any: 1}\nold: {a: 2}\n")
    Path(name).write_text(text.replace("HOST", mar.host))
    code, out, _ = call("bump", "--markdown", "--check")
    assert code == 1
    lost, _, rest = out.partition("### Upgrades")
    assert lost.startswith("### Values that the new charts no longer have")
    assert {line.split("|")[1].strip() for line in lost.splitlines() if line.startswith("| `")} == {"`gone`", "`old.a`"}
    assert "removed `gone`" in rest
    assert "`1.0.0` | `1.1.0`" in rest
    assert call("bump", "--markdown", "--json")[0] == 2


@pytest.mark.tool
@pytest.mark.parametrize("name", ["helm3", "helm4"])
def test_helm_builds_what_was_bumped(tool: Callable[[str], Path], call: Call, bump: Bump, mar: Registry, name: str) -> None:
    Path("Chart.yaml").write_text(
        "apiVersion: v2\nname: x\nversion: 0.1.0\ndependencies:\n"
        f"- name: alb-controller\n  version: 1.7.9\n  repository: oci://{mar.host}/application-lb/charts\n"
    )
    assert bump()[0] == 0
    done = subprocess.run([tool(name), "dependency", "build", "--plain-http"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in Path("charts").iterdir()] == ["alb-controller-1.11.4.tgz"]
