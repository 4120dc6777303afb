"""Parsers for the files of other tools: the references that they find, their exact positions, and the notes on skipped references."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import NamedTuple

import pytest

from marfetch.errors import RemoteError
from marfetch.project.adopt import MAX_NOTES, collect
from marfetch.project.forms.forms import Context, find
from marfetch.project.forms.places import LeftOut, Place, short
from marfetch.project.scaffold import wanted_bytes
from marfetch.project.wanted import parse_project

from ..world.command import Call

CHARTS = "mcr.microsoft.com/application-lb/charts"
ALB = "application-lb/charts/alb-controller"
DIGEST = "sha256:" + "b7" * 32


class Expected(NamedTuple):
    """An expected place: the reference, the range, the texts at the positions of version and digest, and the problem."""

    reference: str
    range: str | None = None
    version: str | None = None
    digest: str | None = None
    problem: str | None = None


def kept(version: str) -> Expected:
    return Expected(ALB, version, version)


FORMS: dict[str, tuple[str, str, list[Expected]]] = {
    "helmfile": (
        "helmfile.yaml",
        f"""repositories:
  - {{name: alb, url: {CHARTS}, oci: true}}
releases:
  - {{name: a, chart: alb/alb-controller, version: '1.7.9@{DIGEST}'}}
  - {{name: b, chart: alb/alb-controller, version: 1.10}}
  - {{name: c, chart: alb/alb-controller, version: "{DIGEST}"}}
  - {{name: d, chart: alb/alb-controller, version: ^1.7@{DIGEST}}}
  - {{name: e, chart: "oci://{CHARTS}/alb-controller:1.7.9@{DIGEST}"}}
  - {{name: f, chart: alb/alb-controller, version: "{{{{ .Values.v }}}}"}}
  - {{name: g, chart: alb/alb-controller}}
  - {{name: h, chart: ./local, dependencies: [{{chart: alb/alb-controller, version: ~1}}]}}
""",
        [
            Expected(f"{ALB}:1.7.9@{DIGEST}", None, "1.7.9", DIGEST),
            kept("1.10"),
            Expected(f"{ALB}@{DIGEST}", None, None, DIGEST),
            Expected(f"{ALB}@{DIGEST}", None, "^1.7", DIGEST),
            Expected(f"{ALB}:1.7.9@{DIGEST}", None, "1.7.9", DIGEST),
            Expected(ALB, None, "{{ .Values.v }}", None, "variable"),
            Expected(ALB, None, None, None, "there is no version"),
            kept("~1"),
        ],
    ),
    "a chart": ("Chart.yaml", f"dependencies:\n- {{name: alb-controller, version: 1, repository: 'oci://{CHARTS}'}}\n", [kept("1")]),
    "Helm 2": (
        "requirements.yaml",
        f"dependencies:\n- {{name: alb-controller, version: 1.20, repository: 'oci://{CHARTS}'}}\n",
        [kept("1.20")],
    ),
    "Argo CD": (
        "app.yaml",
        f"""kind: Application
spec:
  sources:
    - {{repoURL: {CHARTS}, chart: alb-controller, targetRevision: 1.10}}
    - {{repoURL: "oci://{CHARTS}/alb-controller", targetRevision: "{DIGEST}"}}
    - {{repoURL: {CHARTS}, chart: alb-controller, targetRevision: HEAD}}
""",
        [
            kept("1.10"),
            Expected(f"{ALB}@{DIGEST}", None, None, DIGEST),
            Expected(ALB, None, "HEAD", None, "not a version range"),
        ],
    ),
    "Flux": (
        "flux.yaml",
        f"""kind: OCIRepository
spec: {{url: "oci://{CHARTS}/alb-controller", ref: {{tag: 1.7.9, digest: "{DIGEST}"}}}}
---
kind: HelmRelease
metadata: {{namespace: b}}
spec: {{chart: {{spec: {{chart: alb-controller, version: 1.10, sourceRef: {{kind: HelmRepository, name: mar}}}}}}}}
---
kind: HelmRepository
metadata: {{name: mar, namespace: a}}
spec: {{url: "oci://mcr.microsoft.com/another"}}
---
kind: HelmRepository
metadata: {{name: mar, namespace: b}}
spec: {{url: "oci://{CHARTS}"}}
""",
        [Expected(f"{ALB}@{DIGEST}", None, "1.7.9", DIGEST), kept("1.10")],
    ),
    "Terraform": (
        "main.tf",
        f"""# resource "helm_release" "no" {{ chart = "oci://{CHARTS}/no:1.0.0" }}
/* resource "helm_release" "no" {{
  chart = "no"
}} */
resource "helm_release" "a" {{
  chart      = "alb-controller" # version = "9"
  repository = "oci://{CHARTS}"
  version    = "1.7.9"
  set {{
    name    = "version"
    version = "3"
  }}
  values = [<<-EOT
    version = "4"
    }}
    EOT
    , jsonencode({{ version = "5" }})]
}}
data "helm_template" "b" {{
  chart   = "oci://{CHARTS}/alb-controller"
  version = var.version
}}
resource "helm_release" "c" {{
  chart = "oci://{CHARTS}/alb-controller"
}}
locals {{ d = "oci://{CHARTS}/alb-controller:1.7.8" }}
""",
        [
            kept("1.7.9"),
            Expected(ALB, None, None, None, "its version `${var.version}` is a variable"),
            Expected(ALB, None, None, None, "there is no version"),
            Expected(f"{ALB}:1.7.8", None, "1.7.8"),
        ],
    ),
    "azd": (
        "azure.yaml",
        f"""services:
  api:
    host: aks
    k8s:
      helm:
        repositories: [{{name: mar, url: "oci://{CHARTS}"}}]
        releases:
          - {{name: a, chart: mar/alb-controller, version: 1.10}}
          - {{name: b, chart: "oci://{CHARTS}/alb-controller", version: ~1.7}}
""",
        [kept("1.10"), kept("~1.7")],
    ),
    "Fleet": ("fleet.yaml", f'helm:\n  chart: "oci://{CHARTS}/alb-controller"\n  version: 1.7.9\n', [kept("1.7.9")]),
    "Zarf": ("zarf.yaml", f"charts:\n  - name: x\n    url: oci://{CHARTS}/alb-controller\n    version: 1.7.9\n", [kept("1.7.9")]),
    "Ansible": (
        "play.yml",
        f"- tasks:\n  - helm:\n      chart_ref: oci://{CHARTS}/alb-controller\n      chart_version: 1.10\n",
        [kept("1.10")],
    ),
    "Kustomize": (
        "kustomization.yaml",
        f"helmCharts:\n- name: alb-controller\n  repo: oci://{CHARTS}\n  version: 1.7.9\n",
        [kept("1.7.9")],
    ),
    "vendir": (
        "vendir.yml",
        f'contents:\n- helmChart: {{name: alb-controller, version: 1.7.9, repository: {{url: "oci://{CHARTS}"}}}}\n',
        [kept("1.7.9")],
    ),
    "lines": (
        "ci.sh",
        rf"""helm pull oci://{CHARTS}/alb-controller \
  --version "1.10"
helm pull oci://{CHARTS}/alb-controller:1.$MINOR
helm pull oci://{CHARTS}/alb-controller:$TAG@{DIGEST}
oras pull {CHARTS}/alb-controller:1.7.9@{DIGEST}
helm pull oci://{CHARTS}/alb-controller --version $V
helm pull oci://{CHARTS}/alb-controller
""",
        [
            kept("1.10"),
            Expected(ALB, None, None, None, "contains a variable"),
            Expected(f"{ALB}@{DIGEST}"),
            Expected(f"{ALB}:1.7.9@{DIGEST}", None, "1.7.9", DIGEST),
            Expected(ALB, None, "$V", None, "variable"),
            Expected(ALB, None, None, None, "there is no version"),
        ],
    ),
    "a helmfile with anchors": (
        "helmfile.yaml",
        f"""repositories: [{{name: alb, url: {CHARTS}, oci: true}}]
releases:
  - &one
    name: a
    chart: alb/alb-controller
    version: 1.10
  - {{<<: *one, name: b, version: '1.7.9@{DIGEST}'}}
  - {{<<: [{{version: !!str 1.20}}, *one], name: c}}
""",
        [kept("1.10"), Expected(f"{ALB}:1.7.9@{DIGEST}", None, "1.7.9", DIGEST), kept("1.20")],
    ),
    "a helmfile with template actions": (
        "helmfile.yaml.gotmpl",
        f"""{{{{- /* a comment
over two lines */ -}}}}
repositories:
  - {{name: alb, url: {CHARTS}, oci: true}}
{{{{ if eq .Environment.Name "prod" }}}}
releases:
  - name: {{{{ .Values.name }}}}
    chart: alb/alb-controller
    version: 1.10
  - chart: alb/alb-controller
    version: {{{{ .Values.v }}}}
{{{{ end }}}}
""",
        [kept("1.10"), Expected(ALB, None, "{{ .Values.v }}", None, "`{{ .Values.v }}` is a variable")],
    ),
    "a helmfile with templates": (
        "helmfile.yaml",
        f"""repositories: [{{name: alb, url: {CHARTS}}}]
templates:
  t: {{chart: alb/alb-controller, version: 1.10}}
releases:
- {{inherit: [{{template: t}}]}}
- {{inherit: [{{template: t}}], version: 1.20}}
""",
        [kept("1.10"), kept("1.20")],
    ),
    "a helmfile in several documents": (
        "helmfile.yaml",
        f"""repositories:
- {{name: alb, url: {CHARTS}}}
---
releases:
- {{chart: alb/alb-controller, version: 1e3}}
- {{chart: alb/alb-controller, version: 0x10}}
- {{chart: alb/alb-controller, version: .inf}}
""",
        [
            Expected(ALB, None, "1e3", None, "`1e3`"),
            Expected(ALB, None, "0x10", None, "`0x10`"),
            Expected(ALB, None, ".inf", None, "`.inf`"),
        ],
    ),
    "Argo CD in a list and a generator": (
        "apps.yaml",
        f"""kind: List
items:
- kind: Application
  spec: {{source: {{repoURL: {CHARTS}, chart: alb-controller, targetRevision: 1.10}}}}
- kind: ApplicationSet
  spec:
    generators:
    - list: {{template: {{spec: {{source: {{repoURL: {CHARTS}, chart: alb-controller, targetRevision: 1.20}}}}}}}}
""",
        [kept("1.10"), kept("1.20")],
    ),
    "Flux with sha512 and variables": (
        "flux.yaml",
        f"""kind: OCIRepository
spec: {{url: 'oci://{CHARTS}/alb-controller', ref: {{digest: 'sha512:{"a" * 128}'}}}}
---
kind: OCIRepository
spec:
  url: oci://{CHARTS}/alb-controller
  ref:
    tag: ${{TAG:=1.7.9}}
""",
        [
            Expected(f"{ALB}@sha512:{'a' * 128}", None, None, "sha512:" + "a" * 128),
            Expected(ALB, None, "${TAG:=1.7.9}", None, "variable"),
        ],
    ),
    "Terraform with names and heredocs": (
        "main.tf",
        f"""locals {{
  repo = "oci://{CHARTS}"
  version = "1.10"
}}
variable "address" {{ default = "oci://{CHARTS}" }}
variable "v" {{ default = "1.0.0" }}
resource helm_release a {{
  repository = local.repo
  chart = "alb-controller"
  version = local.version
}}
data "helm_template" "b" {{
  repository = "${{var.address}}"
  chart = "alb-controller"
  version = var.v
}}
resource "helm_release" "c" {{
  chart = <<EOT
    oci://{CHARTS}/alb-controller
  EOT
  version = "1.20"
}}
/* resource "helm_release" "d" {{ chart = "oci://{CHARTS}/alb-controller" }} */
""",
        [kept("1.10"), Expected(ALB, None, None, None, "variable"), kept("1.20")],
    ),
    "Terraform as JSON": (
        "main.tf.json",
        f'{{"resource": {{"helm_release": {{"a": {{"repository": "oci://{CHARTS}", "chart": "alb-controller", "version": "1.10"}}}}}}}}',
        [kept("1.10")],
    ),
    "Fleet with a version for some clusters": (
        "fleet.yaml",
        f"helm: {{repo: 'oci://{CHARTS}', chart: alb-controller, version: 1.10}}\ntargetCustomizations:\n- helm: {{version: 1.20}}\n",
        [kept("1.10"), kept("1.20")],
    ),
    "Azure Pipelines": (
        "azure-pipelines.yml",
        f"steps:\n- task: HelmDeploy@1\n  inputs:\n    chartName: oci://{CHARTS}/alb-controller\n    chartVersion: 1.10\n",
        [kept("1.10")],
    ),
    "several commands in a line": (
        "ci.sh",
        f"""helm pull --version 1.10 oci://{CHARTS}/alb-controller; helm pull oci://{CHARTS}/alb-controller --version 1.20;
X=$(helm pull oci://{CHARTS}/alb-controller --version 1.30) # --version 9
helm pull oci://{CHARTS}/alb-controller --version '>=1.40 || 2' >out && true
RUN ["helm", "pull", "oci://{CHARTS}/alb-controller", "--version", "1.50"]
helm pull oci://{CHARTS}/alb-controller # --version 9
""",
        [
            kept("1.10"),
            kept("1.20"),
            kept("1.30"),
            kept(">=1.40 || 2"),
            kept("1.50"),
            Expected(ALB, None, None, None, "there is no version"),
        ],
    ),
    "a block": (
        "fleet.yaml",
        f"helm:\n  version: >-\n    ^1.7\n  chart: oci://{CHARTS}/alb-controller\n",
        [Expected(ALB, "^1.7", None)],
    ),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(("name", "text", "expected"), FORMS.values(), ids=FORMS)
def test_versions_and_digests_are_kept_and_located(name: str, text: str, expected: list[Expected], ending: str) -> None:
    text = text.replace("\n", ending)
    found = [one for one in find(PurePath(name), text) if isinstance(one, Place)]
    for one, wanted in zip(found, expected, strict=True):
        assert (str(short(one.reference)), one.range) == (wanted.reference, wanted.range)
        assert (wanted.problem or "") in (one.problem or "" if wanted.problem else "")
        assert (one.problem is None) is (wanted.problem is None)
        for span, written in ((one.version, wanted.version), (one.digest, wanted.digest)):
            if written is None:
                assert span is None or not span.end
                continue
            assert span is not None
            assert (span.text, text[span.start : span.end]) == (written, written)
            assert text.split("\n")[span.line - 1][span.column - 1 :].startswith(written)
        if one.version is not None and one.version.end:
            assert one.line == one.version.line


LEFT_OUT = {
    "an alias": ("Chart.yaml", "dependencies: [{name: x, version: 1, repository: '@mar'}]\n", "alias"),
    "an old alias": ("Chart.yaml", "dependencies: [{name: x, version: 1, repository: 'alias:mar'}]\n", "alias"),
    "https": ("requirements.yaml", "dependencies: [{name: x, version: 1, repository: 'https://charts.bitnami.com/b'}]\n", "not on MAR"),
    "url": ("Chart.yaml", "dependencies: [{name: x, version: 1, url: 'oci://mcr.microsoft.com/a'}]\n", "`url`"),
    "devel": ("helmfile.yaml", f"releases: [{{chart: 'oci://{CHARTS}/alb-controller', version: 1, devel: true}}]\n", "devel"),
    "devel of Terraform": ("x.tf", f'resource "helm_release" "x" {{\nchart = "oci://{CHARTS}/a"\ndevel = true\n}}\n', "devel"),
    "semverFilter": (
        "flux.yaml",
        f"kind: OCIRepository\nspec: {{url: 'oci://{CHARTS}/a', ref: {{semver: '1', semverFilter: '.*-x'}}}}\n",
        "semverFilter",
    ),
    "a repository elsewhere": ("helmfile.yaml", "releases: [{chart: mar/x, version: 1}]\n", "`mar` is not in this file"),
    "an unquoted range": ("helmfile.yaml", f"releases:\n- chart: oci://{CHARTS}/a\n  version: >=1\n", "put the version in quotes"),
    "a name of Terraform": (
        "x.tf",
        f'resource "helm_release" "x" {{\nchart = var.x\nrepository = "oci://{CHARTS}"\n}}\n',
        "not a plain string",
    ),
    "a variable path": (
        "x.sh",
        "helm pull oci://mcr.microsoft.com/a/$X:1 && oras pull mcr.microsoft.com/a/{{x}}/b\n",
        "path contains a variable",
    ),
}


@pytest.mark.parametrize(("name", "text", "reason"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_skipped_references_are_named(name: str, text: str, reason: str) -> None:
    assert any(reason in one.reason for one in find(PurePath(name), text) if isinstance(one, LeftOut))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("helmfile.yaml", f"repositories:\n\t- name: alb\n    url: {CHARTS}\n", "it may be the address above a chart"),
        (
            "main.bicep",
            "/*\nmodule a 'br/public:a/b:1.0.0'\n*/\nmodule b 'br/mine:a/b:1.0.0' = {}\n",
            "`mine` is an alias of `bicepconfig.json`",
        ),
        ("main.tf", 'resource "helm_release" "a" {\n  repository = module.a.repo\n  chart = "b"\n}\n', "its repository `${module.a.repo}`"),
        ("ci.sh", f"helm repo add mar mar://{CHARTS}\n", "it is the address of a repository"),
        ("ci.sh", f"helm pull alb-controller --repo mar://{CHARTS} --version 1.0.0\n", "it is the address of a repository"),
        ("Dockerfile", "COPY --from=mcr.microsoft.com/a/b:1 / /\n", "skipped a container image"),
        ("values.yaml", "image:\n  repository: mcr.microsoft.com/a/b\n  tag: 1\n", "skipped a container image"),
        ("values.yaml", "a:\n  repository: mcr.microsoft.com/a/b\n  tag: 1\n", "skipped a container image"),
        ("zarf.yaml", "images:\n- mcr.microsoft.com/a/b:1\n", "skipped a container image"),
        ("kustomization.yaml", "images:\n- {name: mcr.microsoft.com/a/b, newTag: v1}\n", "skipped a container image"),
    ],
)
def test_addresses_aliases_and_images_are_no_artifacts(name: str, text: str, reason: str) -> None:
    found = list(find(PurePath(name), text))
    assert [one for one in found if isinstance(one, Place)] == []
    assert [one.reason for one in found if isinstance(one, LeftOut) and reason in one.reason]


def test_a_source_in_another_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "release.yaml").write_text(
        "kind: HelmRelease\nmetadata: {name: a, namespace: apps}\nspec:\n  chart:\n    spec:\n      chart: alb-controller\n"
        "      version: 1.10\n      sourceRef: {kind: HelmRepository, name: mar, namespace: flux-system}\n"
    )
    (tmp_path / "source.yaml").write_text(
        f"kind: HelmRepository\nmetadata: {{name: mar, namespace: flux-system}}\nspec: {{type: oci, url: 'oci://{CHARTS}'}}\n"
    )
    (one,) = collect([tmp_path / "release.yaml", tmp_path / "source.yaml"]).found
    assert (str(one.reference), one.version) == (ALB, "1.10")


def test_each_unread_version_is_named_and_the_path_above_others_is_no_artifact(tmp_path: Path) -> None:
    path = tmp_path / "ci.sh"
    path.write_text(f"A=oci://{CHARTS}\n" + "".join(f"helm pull oci://{CHARTS}/alb-controller --version ${name}\n" for name in "BC"))
    adoption = collect([path])
    assert [str(one.reference) for one in adoption.found] == [ALB]
    assert [note.partition(": ")[2][:40] for note in adoption.notes] == [
        "the version of `application-lb/charts` could not be read: there is no version"[:40],
        *(f"the version of `{ALB}` could not be read"[:40] for _ in "BC"),
        "left out `application-lb/charts`: it is the path above other artifacts"[:40],
    ]


def test_an_unquoted_comparison_of_one_number_is_an_empty_block_and_says_so() -> None:
    (one,) = find(PurePath("fleet.yaml"), f"helm:\n  chart: oci://{CHARTS}/a\n  version: >1\n")
    assert isinstance(one, Place)
    assert "put the version in quotes" in (one.problem or "")


def test_an_entry_says_that_its_version_could_not_be_read(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ci.sh").write_text(f"helm pull oci://{CHARTS}/alb-controller --version $V\n")
    code, _, errors = call("lock", "--from", "ci.sh", "--json")
    assert (code, "ci.sh:1: the version of" in errors, "is a variable" in errors) == (0, True, True)
    assert "# its version `$V` is a variable; without `version`" in Path("marfetch.yaml").read_text()


LONG: dict[str, str] = {
    "keys": "image" * 60_000 + " oci://mcr.microsoft.com/a/b:1",
    "indented": " " * 300_000 + "mcr.microsoft.com/a/b:1",
    "dashes": "- " * 150_000 + "mcr.microsoft.com/a/b:1",
    "options": "--version " * 6_000 + "mcr.microsoft.com/a/b:1",
    "continued": "x \\\n" * 60_000 + "mcr.microsoft.com/a/b:1",
    "references": "mcr.microsoft.com/a/b:1 helm " * 6_000,
    "variables": "mcr.microsoft.com/a/b:$X " * 6_000,
    "blocks": 'resource "helm_release" "a" {' * 6_000,
    "closed blocks": 'resource "helm_release" "a" {}' * 6_000,
    "comments": "/*" * 150_000,
    "quotes": '"\\' * 100_000,
    "heredocs": "<<A\n" * 60_000,
    "open actions": "{{ " * 60_000 + "mcr.microsoft.com/a/b:1",
    "actions": "{{ x }} " * 20_000 + "\nmcr.microsoft.com/a/b:1",
    "open quotes": "' \" " * 60_000 + "mcr.microsoft.com/a/b:1",
    "commands": "mcr.microsoft.com/a/b:1; " * 6_000,
    "documents": "---\n" * 3_000,
    "helmfiles": "repositories: [{name: a, url: x}]\nreleases: [{chart: a/b}]\n---\n" * 3_000,
    "objects": "kind: HelmRelease\nspec: {chart: {spec: {chart: a, sourceRef: {kind: HelmRepository, name: b}}}}\n---\n" * 3_000,
    "entries": "- chart: oci://mcr.microsoft.com/a/b\n  version: 1\n" * 3_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.sh", "x.tf", "x.yaml"])
@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_long_input_is_read_in_one_pass(text: str, name: str) -> None:
    """If the time were quadratic, this would exceed the time limit of a test."""
    assert sum(1 for _ in find(PurePath(name), text)) <= 60_000


def test_a_time_limit_ends_the_search() -> None:
    def check() -> None:
        raise RemoteError("no time", code="timeout")

    for name in ("x.sh", "x.yaml"):
        with pytest.raises(RemoteError):
            list(find(PurePath(name), "oras pull mcr.microsoft.com/a/b:1\n", Context(check)))


def test_a_file_that_is_too_large_for_yaml_is_searched_by_line() -> None:
    text = f"kind: Application\nspec: {{source: {{repoURL: 'oci://{CHARTS}/a:1.2.3'}}}}\n" + "#" * (1 << 20)
    left, one = find(PurePath("x.yaml"), text)
    assert isinstance(left, LeftOut)
    assert isinstance(one, Place)
    assert (one.form, one.reference.tag) == ("lines", "1.2.3")


def test_notes_are_limited_and_equal_names_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "x.sh"
    path.write_text(
        "docker pull mcr.microsoft.com/a:1\n" * (MAX_NOTES + 5) + "".join(f"oras pull mcr.microsoft.com/a/b:1.{n}\n" for n in range(500))
    )
    adoption = collect([path])
    assert len(adoption.notes) == MAX_NOTES + 1
    assert adoption.notes[-1] == "5 more notes are not shown"
    project = parse_project(wanted_bytes(adoption.found), Path("marfetch.yaml"))
    assert len({item.name for item in project.items}) == 500


def test_a_byte_order_mark_moves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "helmfile.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + f"releases:\n- {{name: ü, chart: 'oci://{CHARTS}/alb-controller', version: 1.10}}\n".encode())
    assert [(one.version, one.where) for one in collect([path]).found] == [("1.10", f"{path}:2")]


def test_control_characters_of_a_version_reach_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.sh"
    path.write_text(f"helm pull oci://{CHARTS}/alb-controller --version '$\x1b[31m\x00\u202e\x85- reference: x'\n")
    data = wanted_bytes(collect([path]).found)
    assert len(parse_project(data, Path("marfetch.yaml")).items) == 1
    assert not {0x1B, 0} & set(data)
