"""`resolve --as`: snippets that other tools, and our own readers, understand."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml

from marfetch.cli.versions import SnippetName
from marfetch.client.resolve import Resolved, Wanted, resolve
from marfetch.client.session import Session
from marfetch.errors import InputError
from marfetch.project.forms.forms import find
from marfetch.project.forms.places import Place
from marfetch.project.snippets import SNIPPETS, snippet
from marfetch.reference import Host, Reference

from ..world.charts import add_chart
from ..world.command import Call
from ..world.registry import Registry

ALB = "application-lb/charts/alb-controller"
MODULE = "bicep/avm/res/storage/storage-account"
FILES = {"helm": "deploy.sh", "flux": "alb.yaml", "terraform": "main.tf", "bicep": "main.bicep"}
Found = Callable[..., Resolved]


@pytest.fixture
def found(client: Callable[..., Session]) -> Found:
    """Resolve an artifact, as if the registry were MAR."""

    def find_one(repository: str, tag: str | None = None, **more: Any) -> Resolved:
        result = resolve(client(), Wanted(Reference(repository, tag=tag), **more))
        reference = result.reference
        official = Reference(reference.repository, Host.parse("mcr.microsoft.com"), reference.tag, reference.digest)
        return result._replace(reference=official)

    return find_one


def read(form: str, text: str) -> list[Place]:
    """Return what our readers find in the snippet, and check that they find nothing else."""
    places = list(find(PurePath(FILES[form]), text))
    assert all(isinstance(one, Place) for one in places), places
    return [one for one in places if isinstance(one, Place)]


def test_every_form_is_a_value_of_the_option() -> None:
    assert [one.value for one in SnippetName] == list(SNIPPETS) == list(FILES)


@pytest.mark.parametrize("form", FILES)
def test_our_own_readers_find_the_same_artifact(found: Found, form: str) -> None:
    resolved = found(MODULE, "0.14.0") if form == "bicep" else found(ALB, "1.7.12")
    text = snippet(resolved, form)
    (one,) = read(form, text)
    assert one.problem is None
    assert one.reference.repository == resolved.reference.repository
    if form == "terraform":
        assert one.range == "1.7.12"
    else:
        assert one.reference.digest == resolved.reference.digest
    if form in ("helm", "flux"):
        assert one.version is not None
        assert one.version.text == "1.7.12"


def test_the_flux_snippet_has_the_fields_of_its_objects(found: Found) -> None:
    resolved = found(ALB, "1.7.12")
    source, release = yaml.safe_load_all(snippet(resolved, "flux"))
    assert (source["apiVersion"], source["kind"]) == ("source.toolkit.fluxcd.io/v1", "OCIRepository")
    assert source["spec"]["ref"] == {"tag": "1.7.12", "digest": str(resolved.reference.digest)}
    assert source["spec"]["layerSelector"] == {
        "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        "operation": "copy",
    }
    assert source["spec"]["url"] == f"oci://mcr.microsoft.com/{ALB}"
    assert (release["apiVersion"], release["kind"]) == ("helm.toolkit.fluxcd.io/v2", "HelmRelease")
    assert release["spec"]["chartRef"] == {"kind": "OCIRepository", "name": source["metadata"]["name"]}


@pytest.mark.parametrize("tag", ["1.10", "007", "2026-01-01", "on"])
def test_a_tag_that_yaml_reads_as_something_else_stays_text(mar: Registry, found: Found, tag: str) -> None:
    add_chart(mar, "a/b", tag, b"x")
    source, _ = yaml.safe_load_all(snippet(found("a/b", tag), "flux"))
    assert source["spec"]["ref"]["tag"] == tag


def test_names_are_those_that_each_tool_allows(mar: Registry, found: Found) -> None:
    add_chart(mar, "a/3scale__my.chart", "v2.0.0_build.5", b"x")
    resolved = found("a/3scale__my.chart", "v2.0.0_build.5")
    assert "helm upgrade --install 3scale--my.chart oci://mcr.microsoft.com/a/3scale__my.chart:v2.0.0_build.5@" in snippet(resolved, "helm")
    text = snippet(resolved, "terraform")
    assert '"helm_release" "_3scale_my_chart"' in text
    assert 'version    = "v2.0.0+build.5"' in text, "Helm writes `+` for `_`"
    long = "x" * 60
    add_chart(mar, f"a/{long}", "1.0.0", b"x")
    assert f"--install {long[:53]} " in snippet(found(f"a/{long}", "1.0.0"), "helm")


def test_the_bicep_snippet_is_a_module_pinned_by_digest(found: Found) -> None:
    resolved = found(MODULE, "0.14.0")
    assert snippet(resolved, "bicep") == (
        f"// version 0.14.0\nmodule storageAccount 'br:mcr.microsoft.com/{MODULE}@{resolved.reference.digest}' = {{\n"
        "  name: 'storageAccount'\n  params: {}\n}\n"
    )


@pytest.mark.parametrize(("form", "repository", "tag"), [("bicep", ALB, "1.7.12"), *[(one, MODULE, "0.14.0") for one in list(FILES)[:3]]])
def test_a_form_that_does_not_fit_the_kind_is_refused(call: Call, form: str, repository: str, tag: str) -> None:
    code, out, err = call("resolve", f"{repository}:{tag}", "--as", form)
    assert (code, out) == (2, "")
    assert f"`--as {form}` needs a " in err
    assert "hint: use `--as " in err


def test_other_kinds_and_other_forms_are_refused(mar: Registry, call: Call) -> None:
    mar.add_artifact("a/files", "1.0.0", ("x.txt", b"x"))
    assert call("resolve", "a/files:1.0.0", "--as", "helm")[0] == 2
    code, _, err = call("resolve", f"{ALB}:1.7.12", "--as", "pulumi")
    assert code == 2
    assert "pulumi" in err


def test_terraform_needs_a_version(found: Found) -> None:
    digest = found(ALB, "1.7.12").reference.digest
    resolved = found(ALB)._replace(version=None, reference=Reference(ALB, Host.parse("mcr.microsoft.com"), digest=digest))
    with pytest.raises(InputError, match="supports no digest"):
        snippet(resolved, "terraform")
    assert f"oci://mcr.microsoft.com/{ALB}@{digest}" in snippet(resolved, "helm")
    (one,) = read("flux", snippet(resolved, "flux"))
    assert (one.reference.digest, one.reference.tag) == (digest, None)


def test_json_has_the_snippet_beside_the_reference(call: Call) -> None:
    code, out, _ = call("resolve", f"{ALB}:1.7.12", "--as", "helm")
    code, as_json, _ = call("resolve", f"{ALB}:1.7.12", "--as", "helm", "--json")
    data = json.loads(as_json)["data"]
    assert (code, data["snippet"], data["tag"]) == (0, out, "1.7.12")
    assert data["reference"] in out
    assert "--plain-http" in out, "this registry has no TLS"


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_real_helm_renders_the_chart_of_the_snippet(call: Call, tool: Callable[[str], Path], mar: Registry, helm: str) -> None:
    program = tool(helm)
    mar.redirect = False
    _, line, _ = call("resolve", f"{ALB}:1.7.12", "--as", "helm")
    words = line.split()
    assert words[:3] == ["helm", "upgrade", "--install"]

    def template(*arguments: str) -> subprocess.CompletedProcess[str]:
        # `template` reads the chart as `upgrade --install` does, but needs no cluster.
        return subprocess.run([program, "template", *arguments], capture_output=True, text=True, timeout=60, check=False)

    done = template(*words[3:])
    assert done.returncode == 0, done.stderr
    assert "Source: alb-controller/" in done.stdout
    wrong = words[4].partition("@")[0] + "@sha256:" + "0" * 64
    assert template(words[3], wrong, *words[5:]).returncode != 0, "Helm pins by the digest, not by the tag"
