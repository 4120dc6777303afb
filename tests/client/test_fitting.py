"""Ranges in repositories with both artifacts and images: the picked version, and the number of requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from marfetch.artifact.kinds import BICEP_MODULE, CHART, FILE, IMAGE
from marfetch.artifact.payload import Choice
from marfetch.client.resolve import Wanted, resolve
from marfetch.client.session import Session
from marfetch.errors import Error, NotFoundError
from marfetch.oci import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from marfetch.project.lockfile import read_lock
from marfetch.project.outdated import outdated
from marfetch.reference import Reference

from ..world.charts import add_chart
from ..world.command import Call
from ..world.progress import Heard
from ..world.projects import Make, lock
from ..world.registry import Registry

MIX = Reference("mix/app")
Made = Callable[..., Session]


def add_image(mar: Registry, tag: str, *, index: str | None = None, repository: str = "mix/app") -> None:
    """Add a container image, or an index that contains one image for a platform."""
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + "c" * 64, "size": 2}
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + "d" * 64, "size": 1}
    raw = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer], "annotations": {"t": tag}}
    ).encode()
    one = mar.add_manifest(repository, tag, raw)
    if index is not None:
        child = {
            "mediaType": OCI_MANIFEST,
            "digest": str(one.digest),
            "size": one.size,
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        document = {"schemaVersion": 2, "mediaType": index, "manifests": [child]}
        mar.add_manifest(repository, tag, json.dumps(document).encode())


@pytest.fixture
def mixed(mar: Registry) -> Registry:
    """Add the charts 0.0.16 and 0.0.17, and an image with the higher version v0.0.19."""
    for version in ("0.0.16", "0.0.17"):
        add_chart(mar, "mix/app", version, b"chart " + version.encode())
    add_image(mar, "v0.0.19")
    return mar


def tag(client: Session, version: str | None = "0.x", **more: Any) -> str | None:
    return resolve(client, Wanted(MIX, version, **more)).reference.tag


def test_a_range_picks_the_newest_that_is_no_image_and_says_so(mixed: Registry, client: Made, heard: Heard) -> None:
    assert tag(client()) == "0.0.17"
    assert mixed.kinds() == ["tags", "manifest", "manifest", "manifest"]
    assert any("`v0.0.19` of" in text and "is a container image; using `0.0.17`" in text for text in heard.notes)
    assert resolve(client(), Wanted(MIX)).newer is None, "an image is not a newer version of a chart"


@pytest.mark.parametrize("version", [None, "0.x", "0.0.21", ">=0.0.17 <1"])
def test_nothing_more_is_asked_where_the_newest_is_an_artifact(mixed: Registry, client: Made, version: str | None) -> None:
    add_chart(mixed, "mix/app", "0.0.21", b"chart")
    assert tag(client(), version) == "0.0.21"
    assert mixed.kinds().count("manifest") == 1


def test_what_is_named_exactly_is_taken_whatever_it_is(mixed: Registry, client: Made) -> None:
    assert tag(client(), "v0.0.19") == "v0.0.19"
    assert tag(client(), "0.0.19") == "v0.0.19"
    assert resolve(client(), Wanted(Reference("mix/app", tag="v0.0.19"))).reference.tag == "v0.0.19"


def test_an_exact_version_of_a_kind_is_found_under_its_other_tag(mixed: Registry, client: Made) -> None:
    add_image(mixed, "0.0.18")
    add_chart(mixed, "mix/app", "v0.0.18", b"chart")
    assert tag(client(), "0.0.18") == "0.0.18"
    assert tag(client(), "0.0.18", choice=Choice(kinds=(CHART,))) == "v0.0.18"


FILTERS = {
    "a chart": (Choice(kinds=(CHART,)), "0.0.17"),
    "an image": (Choice(kinds=(IMAGE,)), "v0.0.19"),
    "a file": (Choice(kinds=(FILE,)), "0.0.18"),
    "one of two kinds": (Choice(kinds=(CHART, FILE)), "0.0.18"),
    "a kind that is not there": (Choice(kinds=(BICEP_MODULE,)), "v0.0.19"),
    "the type of charts": (Choice(artifact_types=("application/vnd.cncf.helm*",)), "0.0.17"),
    "layers of charts": (Choice(media_types=("application/vnd.cncf.helm.chart.*",)), "0.0.17"),
    "layers of images": (Choice(media_types=("application/vnd.oci.image.layer.*",)), "v0.0.19"),
    "every layer": (Choice(all_layers=True), "0.0.18"),
}


@pytest.mark.parametrize(("choice", "wanted"), FILTERS.values(), ids=FILTERS)
def test_filters_decide_which_version_a_range_picks(mixed: Registry, client: Made, choice: Choice, wanted: str) -> None:
    mixed.add_artifact("mix/app", "0.0.18", ("x.txt", b"x"))
    assert tag(client(), choice=choice) == wanted


@pytest.mark.parametrize(("index", "children"), [(None, 0), (DOCKER_LIST, 0), (OCI_INDEX, 1)])
def test_images_in_indexes_are_images_too(mar: Registry, client: Made, index: str | None, children: int) -> None:
    add_chart(mar, "mix/app", "0.0.17", b"chart")
    add_image(mar, "v0.0.19", index=index)
    assert tag(client()) == "0.0.17"
    assert mar.kinds().count("manifest") == 2 + children


def test_an_index_that_holds_an_artifact_is_picked(mixed: Registry, client: Made) -> None:
    one = mixed.add_artifact("mix/app", "part", ("x.txt", b"x"))
    child = {"mediaType": OCI_MANIFEST, "digest": str(one.digest), "size": one.size, "artifactType": "application/vnd.unknown.artifact.v1"}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
    mixed.add_manifest("mix/app", "0.0.20", json.dumps(document).encode())
    assert tag(client()) == "0.0.20"
    assert mixed.kinds().count("manifest") == 1


def test_images_only_are_picked_as_before_and_fifty_manifests_are_looked_at(mar: Registry, client: Made, heard: Heard) -> None:
    for number in range(70):
        add_image(mar, f"1.0.{number}")
    add_chart(mar, "mix/app", "0.9.0", b"chart")
    found = resolve(client(), Wanted(MIX))
    assert (found.reference.tag, found.newer, mar.kinds().count("manifest"), heard.notes) == ("1.0.69", None, 50, [])


def test_older_images_without_a_manifest_do_no_harm(mar: Registry, client: Made) -> None:
    add_image(mar, "1.0.2")
    add_image(mar, "1.0.0")
    mar.tags["mix/app"] = ["1.0.0", "1.0.1", "1.0.2"]
    mar.add_manifest("mix/app", "0.9.0", b'{"schemaVersion": 1}')
    assert tag(client(), None) == "1.0.2"


def test_a_version_without_a_manifest_that_may_be_an_artifact_is_an_error(mixed: Registry, client: Made) -> None:
    mixed.tags["mix/app"] = ["0.0.16", "0.0.17", "0.0.18", "v0.0.19"]
    with pytest.raises(NotFoundError, match=r"`0\.0\.18` .* is listed but has no manifest") as caught:
        tag(client())
    assert caught.value.code == "dangling-tag"
    assert resolve(client(), Wanted(MIX, "0.x"), skip_missing=True).reference.tag == "0.0.17"


def test_a_malformed_version_is_not_passed_over_for_an_older_one(mixed: Registry, client: Made) -> None:
    mixed.add_manifest("mix/app", "0.0.18", b'{"schemaVersion": 2, "layers": 7}')
    with pytest.raises(Error, match="malformed"):
        tag(client())


def test_pull_by_kind_lock_and_outdated_agree(mixed: Registry, call: Call, client: Made, make: Make, tmp_path: Path) -> None:
    code, out, _ = call("pull", "mix/app", "--version", "0.x", "--kind", "chart", "-d", tmp_path / "out")
    assert (code, Path(out.split("\t")[0]).name) == (0, "app-0.0.17.tgz")
    project = make("reference: mix/app, version: 0.x, name: a", "reference: mix/app, version: 0.0.16, name: b")
    with client() as session:
        lock(session, project)
    locked = read_lock(project.lock_path)
    assert [entry.tag for entry in locked.entries] == ["0.0.17", "0.0.16"]
    with client() as session:
        news = outdated(session, project, locked, today=datetime.now(UTC).date())
    assert [(one.in_range, one.newest and one.newest.tag) for one in news] == [(None, None), (None, "0.0.17")]


ONLY_PRERELEASES = {
    "below the range": (
        "6.0.0-rc.2",
        "6.0.*",
        "there are only prereleases, such as `6.0.0-rc.2`; name it with `--version`, or use `--devel` without",
    ),
    "in the range": (
        "6.0.1-rc.1",
        "6.0.*",
        "the range has only prereleases; to include them, add `--devel`, or name one, such as `6.0.1-rc.1`",
    ),
    "elsewhere": ("6.0.1-rc.1", "^7", "marfetch versions "),
}


@pytest.mark.parametrize(("version", "text", "hint"), ONLY_PRERELEASES.values(), ids=ONLY_PRERELEASES)
def test_a_range_with_only_prereleases_names_the_option(mar: Registry, client: Made, version: str, text: str, hint: str) -> None:
    for one in ("5.0.0", "6.0.0-rc.1", version):
        add_chart(mar, "mix/app", one, b"chart")
    with pytest.raises(NotFoundError) as caught:
        tag(client(), text)
    assert hint in (caught.value.hint or "")


def test_prereleases_are_picked_as_the_hints_say(mar: Registry, client: Made) -> None:
    for one in ("5.0.0", "6.0.0-rc.1", "6.0.1-rc.1"):
        add_chart(mar, "mix/app", one, b"chart")
    assert tag(client(), "6.0.*", devel=True) == "6.0.1-rc.1"
    assert tag(client(), "6.0.0-rc.1") == "6.0.0-rc.1"
    assert tag(client(), None, devel=True) == "6.0.1-rc.1"
