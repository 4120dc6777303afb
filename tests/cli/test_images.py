"""`marfetch images`: what it prints, and where it looks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..world.archives import file, targz
from ..world.charts import add_chart, add_foo
from ..world.command import Call
from ..world.registry import Registry

POD = """
kind: Pod
spec:
  initContainers: [{image: "busybox"}]
  containers:
  - image: "{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
  {{- if .Values.debug }}
  - image: never.example/debug:1
  {{- end }}
"""
VALUES = "image: {registry: mcr.microsoft.com, repository: aks/web, tag: ''}\ndebug: false\n"


def asked(call: Call, *words: object) -> tuple[int, dict[str, Any]]:
    code, out, _ = call("images", *words, "--json")
    return code, json.loads(out)


@pytest.fixture
def chart(mar: Registry) -> str:
    add_foo(mar, "1.0.0", {"templates/pod.yaml": POD, "values.yaml": VALUES})
    return "charts/foo:1.0.0"


def test_one_line_per_image(call: Call, chart: str) -> None:
    code, out, _ = call("images", chart)
    assert code == 0
    assert [line.split("\t")[::2] for line in out.splitlines()] == [
        ["busybox", "templates/pod.yaml:4"],
        ["mcr.microsoft.com/aks/web:1", "values.yaml:image.repository"],
    ]
    assert {line.split("\t")[1].rpartition("/")[2] for line in out.splitlines()} == {"foo:1.0.0"}


def test_the_images_as_json(call: Call, chart: str) -> None:
    code, found = asked(call, chart)
    assert code == 0
    assert [(one["image"], one["source"]) for one in found["data"]["images"]] == [
        ("busybox", "template"),
        ("mcr.microsoft.com/aks/web:1", "values"),
    ]
    assert found["data"]["unread"] == []


def test_values_override_those_of_the_chart(call: Call, chart: str, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("image: {tag: '9'}\ndebug: true\n")
    _, out, _ = call("images", chart, "--values", str(tmp_path / "values.yaml"))
    assert [line.split("\t")[0] for line in out.splitlines()] == ["busybox", "mcr.microsoft.com/aks/web:9", "never.example/debug:1"]


def test_a_chart_that_cannot_be_searched_is_named_and_the_rest_is_printed(call: Call, chart: str, mar: Registry) -> None:
    sub = file("foo/charts/sub-1.0.0.tgz", b"no archive")
    add_chart(mar, "charts/bar", "1.0.0", targz(file("foo/Chart.yaml", b"name: foo\nversion: 1.0.0\n"), sub))
    code, found = asked(call, "charts/bar:1.0.0", "charts/gone:1", chart)
    assert (code, found["ok"]) == (5, False)
    assert [(one["path"], one["code"]) for one in found["data"]["unread"]] == [
        ("charts/sub-1.0.0.tgz", "malformed"),
        (None, "repository-not-found"),
    ]
    assert len(found["data"]["images"]) == 2


@pytest.mark.parametrize(
    ("form", "part"),
    {
        "hauler": 'kind: Images\nmetadata:\n  name: marfetch\nspec:\n  images:\n    - name: "docker.io/library/busybox:latest"\n',
        "zarf": 'images:\n      - "docker.io/library/busybox:latest"\n      - "mcr.microsoft.com/aks/web:1"\n',
        "regsync": "target: '{{ env \"REGISTRY\" }}/aks/web:1'\n",
        "skopeo": '"mcr.microsoft.com":\n  images:\n    "aks/web":\n      - "1"\n',
        "acr": 'az acr import --name "$ACR_NAME" --source mcr.microsoft.com/aks/web:1 --image aks/web:1\n',
    }.items(),
)
def test_other_tools_can_read_the_images(call: Call, chart: str, form: str, part: str) -> None:
    code, out, _ = call("images", chart, "--format", form)
    assert code == 0
    assert part in out


def test_a_tag_that_cannot_exist_is_listed_but_not_given_to_other_tools(call: Call, mar: Registry) -> None:
    values = "image: {registry: mcr.microsoft.com, repository: aks/web, tag: 20240101}\ndebug: false\n"
    add_foo(mar, "1.0.0", {"templates/pod.yaml": POD, "values.yaml": values})
    assert "mcr.microsoft.com/aks/web:2.0240101e+07\t" in call("images", "charts/foo:1.0.0")[1]
    code, out, error = call("images", "charts/foo:1.0.0", "--format", "hauler")
    assert (code, "aks/web" in out, "busybox" in out) == (0, False, True)
    assert "`mcr.microsoft.com/aks/web:2.0240101e+07` is left out" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["x", "--bundle", "b.tar"],
        ["-f", "x.yaml", "--bundle", "b.tar"],
        ["--version", "1"],
        ["x", "--json", "--format", "acr"],
        ["x", "--values", "/nonexistent"],
    ],
)
def test_options_that_cannot_be_combined(call: Call, arguments: list[str]) -> None:
    code, _, error = call("images", *arguments)
    assert (code, "hint:" in error or '"code": "usage"' in error) == (2, True)


def test_the_charts_of_a_project_and_of_its_bundle(call: Call, chart: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("images")[0] == 8
    Path("marfetch.yaml").write_text(f"schema: 1\nartifacts:\n- reference: {chart}\n")
    unlocked = call("images", "-f", "marfetch.yaml")
    assert call("lock")[0] == 0
    locked = call("images")
    assert (unlocked[0], locked[0]) == (0, 0)
    assert locked[1] == unlocked[1] == call("images", "-f", "marfetch.yaml")[1]
    assert call("bundle", "create", "-o", "b.tar")[0] == 0
    code, out, _ = call("images", "--bundle", "b.tar")
    assert (code, out) == (0, locked[1])


@pytest.mark.tool
@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_helm_renders_the_same(
    call: Call, chart: str, helm: str, tool: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/helm").symlink_to(tool(helm))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    code, found = asked(call, chart, "--rendered")
    assert code == 0
    assert [(one["image"], one["where"], one["source"]) for one in found["data"]["images"]] == [
        ("busybox", "templates/pod.yaml", "rendered"),
        ("mcr.microsoft.com/aks/web:1", "templates/pod.yaml", "rendered"),
    ]


def test_without_helm_rendering_is_refused(call: Call, chart: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, error = call("images", chart, "--rendered")
    assert code == 2
    assert "`helm` is not on PATH" in error
