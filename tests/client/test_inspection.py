"""`inspect` and `referrers`: describe an artifact before downloading it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch.client.inspection import referrers_of
from marfetch.client.session import Session
from marfetch.oci import Descriptor, descriptor_json
from marfetch.reference import Reference

from ..world.command import Run, document
from ..world.content import ALB
from ..world.registry import Registry

INDEX = "application/vnd.oci.image.index.v1+json"
DISK = "azurelinux/3.0/image/minimal-os:latest"


def data(run: Run, *arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = document(done)["data"]
    return found


# -- inspect


KINDS = {
    "application-lb/charts/alb-controller:1.7.12": ("chart", "alb-controller-1.7.12.tgz"),
    "azurearck8s/batch1/stable/azure-arc-k8sagents:1.4.0": ("chart", "azure-arc-k8sagents-1.4.0.tgz"),
    "bicep/avm/res/storage/storage-account:0.14.0": ("bicep", "storage-account-0.14.0.json"),
    "bicep/extensions/microsoftgraph/v1.0:0.1.9-preview": ("bicep-extension", "microsoftgraph-v1.0-0.1.9-preview.tgz"),
    "psresource/az.accounts:5.3.0": ("powershell", "az.accounts.5.3.0.nupkg"),
    "azurecleanroom/cli/cleanroom-whl:8.0.0": ("file", "cleanroom-8.0.0-py2.py3-none-any.whl"),
    "dotnet/aspnet:6.0-bookworm-slim-amd64": ("image", None),
}


@pytest.mark.parametrize(("reference", "kind", "name"), [(reference, *found) for reference, found in KINDS.items()], ids=KINDS)
def test_each_kind_is_shown_with_its_file_name(mar: Registry, run: Run, reference: str, kind: str, name: str | None) -> None:
    found = data(run, "inspect", reference)
    assert found["kind"] == kind
    assert name in [layer["name"] for layer in found["layers"]]
    assert "data" not in mar.kinds() or kind == "chart"


@pytest.mark.slow
def test_pull_writes_the_files_that_inspect_names(run: Run, tmp_path: Path) -> None:
    for reference in list(KINDS)[:-1]:
        names = {layer["name"] for layer in data(run, "inspect", reference)["layers"]} - {None}
        directory = tmp_path / reference.replace("/", "-").replace(":", "-")
        run("pull", reference, "-d", str(directory))
        assert {path.name for path in directory.iterdir()} == names


@pytest.mark.slow
def test_a_chart_shows_its_metadata(run: Run) -> None:
    found = data(run, "inspect", ALB, "--version", "~1.7")
    assert (found["tag"], found["version"]) == ("1.7.12", "1.7.12")
    assert (found["chart"]["name"], found["chart"]["version"]) == ("alb-controller", "1.7.12")
    assert found["annotations"]["org.opencontainers.image.title"] == "alb-controller"
    lines = run("inspect", f"{ALB}:1.7.12").stdout
    assert "├── kind: Helm chart" in lines
    assert "name: alb-controller" in lines


def test_a_chart_whose_metadata_cannot_be_read_is_still_shown(mar: Registry, run: Run) -> None:
    broken = mar.add_blob(b"[1,")
    config = {**descriptor_json(broken), "mediaType": "application/vnd.cncf.helm.config.v1+json"}
    mar.add_artifact("aks/broken", "1.0.0", (None, b"x"), config=config, artifactType="application/vnd.cncf.helm.config.v1+json")
    done = run("inspect", "aks/broken:1.0.0", "--json")
    found = document(done)["data"]
    assert (found["kind"], found["chart"]) == ("chart", None)
    assert "malformed" in done.stderr
    assert any("malformed" in warning for warning in found["warnings"])


@pytest.mark.slow
def test_an_index_shows_its_platforms_and_one_of_them_on_demand(run: Run) -> None:
    found = data(run, "inspect", DISK)
    assert (found["kind"], found["layers"], found["mediaType"]) == ("disk-image", [], INDEX)
    platforms = {f"{one['platform']['os']}/{one['platform']['architecture']}": one["digest"] for one in found["platforms"]}
    assert set(platforms) == {"linux/amd64", "linux/arm64"}
    one = data(run, "inspect", DISK, "--platform", "linux/arm64")
    assert one["digest"] == found["digest"]
    assert one["manifest"] == platforms["linux/arm64"]
    assert "image.vhdx" in [layer["name"] for layer in one["layers"]]
    assert run("inspect", DISK, "--platform", "windows/amd64").returncode == 3


@pytest.mark.slow
def test_end_of_life_and_signatures_are_shown(run: Run) -> None:
    assert data(run, "inspect", "dotnet/aspnet:6.0")["endOfLife"] == "2024-11-12"
    found = data(run, "inspect", DISK)["referrers"]
    assert [one["kind"] for one in found] == ["signature"]
    assert "Notation signature" in run("inspect", DISK).stdout


def test_nothing_that_a_publisher_wrote_steers_a_terminal(mar: Registry, run: Run) -> None:
    hostile = "\x1b[2J\x1b]0;x\x07\u202egnp.exe\r\nfake: line\u2028"
    mar.add_artifact("aks/hostile", "1", ("a.bin", b"x"), annotations={hostile: hostile, "[bold]": ":warning:"})
    done = run("inspect", "aks/hostile:1")
    assert done.returncode == 0
    assert not any(character in done.stdout for character in "\x1b\x07\u202e\u2028\r")
    assert "fake: line" in done.stdout
    assert not any(line.startswith("fake") for line in done.stdout.splitlines())
    assert "[bold]: :warning:" in done.stdout


def test_a_title_that_pull_refuses_is_a_warning_here(mar: Registry, run: Run) -> None:
    mar.add_artifact("aks/odd", "1", ("../x", b"x"))
    done = run("inspect", "aks/odd:1", "--json")
    assert document(done)["data"]["layers"][0]["name"] is None
    assert "refused as a file name" in done.stderr


def test_an_artifact_is_inspected_again_without_a_network(run: Run) -> None:
    first = data(run, "inspect", f"{ALB}:1.7.12")
    again = data(run, "inspect", f"{ALB}:1.7.12", "--offline")
    assert again["chart"] == first["chart"]
    assert run("inspect", f"{ALB}:1.7.9", "--offline").returncode == 7


def test_looking_asks_for_no_payload(mar: Registry, run: Run) -> None:
    data(run, "inspect", f"{ALB}:1.7.12")
    assert sorted(mar.kinds()) == ["blob", "data", "manifest", "referrers"]  # the requests for blob and data download the config
    assert run("inspect", "aks/nothing:1").returncode == 3


# -- referrers


def add_referrer(mar: Registry, subject: Descriptor, artifact_type: str, name: str) -> Descriptor:
    return mar.add_artifact("aks/foo", name, (f"{name}.json", name.encode()), artifactType=artifact_type, subject=descriptor_json(subject))


@pytest.mark.slow
def test_referrers_of_referrers_stand_below_them(mar: Registry, run: Run) -> None:
    subject = mar.add_artifact("aks/foo", "1", ("foo.bin", b"foo"))
    sbom = add_referrer(mar, subject, "application/spdx+json", "sbom")
    signature = add_referrer(mar, sbom, "application/vnd.cncf.notary.signature", "signature")
    found = data(run, "referrers", "aks/foo:1")["referrers"]
    assert [one["kind"] for one in found] == ["sbom-spdx"]
    assert [one["digest"] for one in found[0]["referrers"]] == [str(signature.digest)]
    lines = run("referrers", "aks/foo:1").stdout.splitlines()
    assert lines[1].startswith("└── SBOM (SPDX)")
    assert lines[2].startswith("    └── Notation signature")


@pytest.mark.slow
def test_referrers_are_chosen_by_type_and_by_kind(mar: Registry, run: Run) -> None:
    subject = mar.add_artifact("aks/foo", "1", ("foo.bin", b"foo"))
    types = ["application/spdx+json", "application/vnd.cyclonedx+json", "application/vnd.example.thing"]
    for number, one in enumerate(types):
        add_referrer(mar, subject, one, f"r{number}")

    def chosen(*options: str) -> list[str]:
        return [one["artifactType"] for one in data(run, "referrers", "aks/foo:1", *options)["referrers"]]

    assert chosen() == types
    assert chosen("--kind", "sbom") == types[:2]
    assert chosen("--artifact-type", "*example*") == types[2:]
    assert chosen("--artifact-type", "APPLICATION/spdx+json") == types[:1]
    assert chosen("--artifact-type", "x/y") == []
    assert run("referrers", "aks/foo:1", "--kind", "file").returncode == 2


@pytest.mark.slow
def test_referrers_are_saved_as_files(mar: Registry, run: Run, tmp_path: Path) -> None:
    subject = mar.add_artifact("aks/foo", "1", ("foo.bin", b"foo"))
    made = {add_referrer(mar, subject, "application/vnd.example.thing", name).digest.encoded: name for name in ("one", "two")}
    done = run("referrers", "aks/foo:1", "--fetch", "-d", "out", "--json")
    assert done.returncode == 0, done.stderr
    assert len(document(done)["data"]["files"]) == 2
    place = tmp_path / "here" / "out" / "foo.referrers"
    assert {path.parent.name: path.read_text() for path in place.glob("*/*")} == made


@pytest.mark.slow
def test_nothing_that_refers_to_it_is_said(run: Run) -> None:
    assert "no referrers" in run("referrers", f"{ALB}:1.7.12").stdout
    assert data(run, "referrers", f"{ALB}:1.7.12")["referrers"] == []


@pytest.mark.slow
def test_a_failure_is_never_no_referrers(mar: Registry, run: Run) -> None:
    mar.on("referrers").answers(429, retry_after="100000")
    assert run("referrers", f"{ALB}:1.7.12", "--timeout", "5").returncode == 7
    assert run("inspect", f"{ALB}:1.7.12", "--timeout", "5").returncode == 7


def test_a_circle_of_referrers_ends(client: Callable[..., Session], mar: Registry) -> None:
    subject = mar.add_artifact("aks/foo", "1", ("foo.bin", b"foo"))
    one = add_referrer(mar, subject, "application/spdx+json", "one")
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor_json(one)]}
    # Every manifest gets this list of referrers, also the referrer itself.
    mar.on("referrers").answers_with(json.dumps(index).encode(), Content_Type=INDEX)
    made = client()
    (found,) = referrers_of(made.repository(Reference("aks/foo", None, "1")), subject.digest)
    assert found.referrers == ()
    assert mar.kinds().count("referrers") == 2
