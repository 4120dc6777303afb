"""The container images of a chart are locked: at the endpoint by digest, elsewhere by name only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch.client.session import Session
from marfetch.errors import Error, IntegrityError, LockError, NotFoundError
from marfetch.project.lockfile import parse_lock, sealed
from marfetch.project.sync import sync
from marfetch.project.wanted import parse_project

from ..world.command import Call
from ..world.images import WEB, add_image, add_multi, add_naming_chart
from ..world.progress import Heard
from ..world.projects import Make, lock, outcomes
from ..world.registry import Registry

ITEM = "reference: charts/foo, images: true"
Client = Callable[..., Session]


def entries(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_bytes())["artifacts"]
    return found


def images(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = entries(path)[0]["images"]
    return found


def asked_of(mar: Registry, repository: str) -> list[str]:
    return [one.target for one in mar.asked if f"/v2/{repository}/" in one.target]


def test_images_of_the_endpoint_are_pinned_and_others_only_listed(
    mar: Registry, client: Client, make: Make, heard: Heard, call: Call
) -> None:
    index, _ = add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1", "oss/web:2.1", "mcr.microsoft.com/oss/web:2.1", "docker.io/nginx:1", "nginx:1.2")
    project = make(ITEM)
    lock(client(), project)
    document = json.loads(project.lock_path.read_bytes())
    assert document["schema"] == 2
    assert images(project.lock_path) == [
        {
            "image": f"{mar.host}/{WEB}:2.1",
            "reference": f"{mar.host}/{WEB}:2.1@{index.digest}",
            "mediaType": index.media_type,
            "size": index.size,
        },
        {"image": "docker.io/nginx:1", "external": True},
        {"image": "mcr.microsoft.com/oss/web:2.1", "external": True},
        {"image": "nginx:1.2", "external": True},
        {"image": "oss/web:2.1", "external": True},
    ]
    assert [one for one in heard.warnings if "4 images that are not at" in one and "`oss/web:2.1`" in one] != []
    assert not asked_of(mar, "nginx")
    before = project.lock_path.read_bytes()
    code, out, _ = call("lock", "-f", project.path, "--json")
    (row,) = json.loads(out)["data"]["artifacts"]
    assert (code, row["outcome"], row["images"]) == (0, "kept", images(project.lock_path))
    assert project.lock_path.read_bytes() == before


def test_a_lock_without_images_stays_as_it_was(mar: Registry, client: Client, make: Make) -> None:
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    project = make("reference: charts/foo")
    lock(client(), project)
    assert json.loads(project.lock_path.read_bytes())["schema"] == 1
    assert b"images" not in project.lock_path.read_bytes()
    add_naming_chart(mar)  # a chart that names no images
    project = make("reference: charts/foo, images: true")
    lock(client(), project, upgrade=True)
    assert json.loads(project.lock_path.read_bytes())["schema"] == 1


def test_globs_choose_images(mar: Registry, client: Client, make: Make, heard: Heard) -> None:
    add_multi(mar)
    add_multi(mar, "oss/other", "1")
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1", f"{mar.host}/oss/other:1", "nginx:1.2")
    project = make("reference: charts/foo, images: ['*/oss/other:*', 'nope/*']")
    lock(client(), project)
    assert [one["image"] for one in images(project.lock_path)] == [f"{mar.host}/oss/other:1"]
    assert not asked_of(mar, WEB)
    assert any("names no image like `nope/*`" in one for one in heard.warnings)


def test_platforms_are_looked_up_while_locking(mar: Registry, client: Client, make: Make) -> None:
    _, children = add_multi(mar, attested=True)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    project = make(f"{ITEM}, platforms: [linux/arm64, linux/amd64]")
    lock(client(), project)
    assert [(one["digest"], one["platform"]) for one in images(project.lock_path)[0]["manifests"]] == [
        (str(children[1].digest), {"architecture": "arm64", "os": "linux", "variant": "v8"}),
        (str(children[0].digest), {"architecture": "amd64", "os": "linux"}),
    ]


def test_a_platform_that_the_index_lacks_is_an_error_with_what_there_is(mar: Registry, client: Client, make: Make) -> None:
    add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    project = make(f"{ITEM}, platforms: linux/s390x")
    with pytest.raises(NotFoundError, match=f"image `{mar.host}/{WEB}:2.1` of `foo` has nothing for the platform `linux/s390x`") as caught:
        lock(client(), project)
    assert caught.value.code == "platform-not-found"
    assert caught.value.exit_code == 3
    assert "`linux/arm64/v8`" in str(caught.value.hint)
    assert not project.lock_path.exists()


def test_an_image_that_is_missing_names_the_chart_and_the_image(mar: Registry, client: Client, make: Make) -> None:
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    with pytest.raises(NotFoundError, match=f"the image `{mar.host}/{WEB}:2.1` of `foo`") as caught:
        lock(client(), make(ITEM))
    assert caught.value.exit_code == 3
    assert "images: [" in str(caught.value.hint)


def test_an_image_is_asked_for_once_and_a_digest_wins_over_its_tag(mar: Registry, client: Client, make: Make) -> None:
    old, _ = add_multi(mar, salt="old")
    index, _ = add_multi(mar)
    by_digest = [f"{mar.host}/{WEB}@{old.digest}", f"{mar.host}/{WEB}:2.1@{old.digest}"]
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1", *by_digest)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1", repository="charts/bar")
    project = make(ITEM, "reference: charts/bar, images: true")
    mar.asked.clear()
    lock(client(), project)
    assert sorted(asked_of(mar, WEB)) == sorted([f"/v2/{WEB}/manifests/2.1", f"/v2/{WEB}/manifests/{old.digest}"])
    bar, foo = entries(project.lock_path)
    assert [one["reference"] for one in bar["images"]] == [f"{mar.host}/{WEB}:2.1@{index.digest}"]
    pinned = {one["image"]: one["reference"] for one in foo["images"]}
    assert [pinned[image] for image in by_digest] == by_digest
    lock(client(), project)  # the tag has another digest than the chart names, and that is no drift


def test_an_image_without_a_tag_is_latest(mar: Registry, client: Client, make: Make) -> None:
    made = add_image(mar, WEB, "latest")
    add_naming_chart(mar, f"{mar.host}/{WEB}")
    project = make(ITEM)
    lock(client(), project)
    assert images(project.lock_path)[0]["reference"] == f"{mar.host}/{WEB}:latest@{made.digest}"


def test_a_tag_of_an_image_that_moved_is_drift(mar: Registry, client: Client, make: Make, call: Call) -> None:
    old, _ = add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    project = make(ITEM)
    lock(client(), project)
    assert call("outdated", "-f", project.path)[0] == 0
    new, _ = add_multi(mar, salt="new")
    with pytest.raises(LockError, match=f"the image `{mar.host}/{WEB}:2.1` of `foo`: the tag `2.1`") as caught:
        lock(client(), project)
    assert (caught.value.code, caught.value.exit_code) == ("tag-drifted", 8)
    assert "lock --upgrade foo" in str(caught.value.hint)
    code, out, _ = call("outdated", "-f", project.path, "--json")
    assert code == 1
    (row,) = json.loads(out)["data"]["artifacts"]
    assert (row["outdated"], row["drifted"]) == (True, True)
    assert row["images"] == [
        {
            "image": f"{mar.host}/{WEB}:2.1",
            "reference": f"{mar.host}/{WEB}:2.1@{old.digest}",
            "drifted": True,
            "digest": str(new.digest),
            "gone": False,
        }
    ]
    code, out, _ = call("diff", "-f", project.path, "--json")
    assert code == 1
    assert f"{mar.host}/{WEB}:2.1" in out
    assert str(new.digest) in out
    assert outcomes(sync(client(), project)) == {"foo": "fetched"}  # images are not written, so their tags are not requested
    lock(client(), project, "foo")
    assert images(project.lock_path)[0]["reference"].endswith(str(new.digest))


def test_other_options_keep_the_digests_that_fit(mar: Registry, client: Client, make: Make) -> None:
    index, children = add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    lock(client(), make(ITEM))
    project = make(f"{ITEM}, platforms: [windows/amd64]")
    lock(client(), project)
    (one,) = images(project.lock_path)
    assert one["reference"].endswith(f"@{index.digest}")
    assert [child["digest"] for child in one["manifests"]] == [str(children[2].digest)]


def test_sync_locks_images_of_what_is_new_and_writes_only_charts(mar: Registry, client: Client, make: Make) -> None:
    add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    project = make(ITEM)
    assert outcomes(sync(client(), project, is_rehearsal=True)) == {"foo": "would-fetch"}
    assert not asked_of(mar, WEB)
    assert outcomes(sync(client(), project)) == {"foo": "fetched"}
    assert len(images(project.lock_path)) == 1
    assert sorted(path.name for path in project.directory.iterdir()) == ["foo-1.0.0.tgz", "marfetch.lock", "marfetch.yaml"]
    mar.asked.clear()
    assert outcomes(sync(client(), project, as_locked=True)) == {"foo": "unchanged"}
    assert not asked_of(mar, WEB)


def test_a_part_of_a_chart_that_cannot_be_read_is_a_warning(mar: Registry, client: Client, make: Make, heard: Heard) -> None:
    add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1", more={"charts/sub-1.0.0.tgz": b"no archive"})
    project = make(ITEM)
    lock(client(), project)
    assert len(images(project.lock_path)) == 1
    assert any("`foo`: cannot search `charts/sub-1.0.0.tgz`" in one for one in heard.warnings)


def test_a_chart_that_cannot_be_read_is_an_error(mar: Registry, client: Client, make: Make) -> None:
    from ..world.charts import add_chart

    add_chart(mar, "charts/foo", "1.0.0", b"no archive")
    with pytest.raises(Error, match="cannot search the chart `foo` for images") as caught:
        lock(client(), make(ITEM))
    assert caught.value.exit_code == 5


def test_an_artifact_that_is_not_a_chart_names_no_images(mar: Registry, client: Client, make: Make) -> None:
    mar.add_artifact("some/file", "1.0.0", ("a.txt", b"a"))
    with pytest.raises(Error, match=r"`file` has `images`, but `.*some/file:1.0.0` is not a Helm chart") as caught:
        lock(client(), make("reference: some/file, images: true"))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("images: {}", "`images` is a mapping, neither a string"),
        ("images: [1]", "`images` is a list, neither"),
        ("images: true, platforms: [linux]", "`linux` is not a platform"),
        ("platforms: [linux/amd64]", "`platforms` needs `images`"),
    ],
)
def test_keys_that_make_no_sense_are_refused(item: str, reason: str) -> None:
    with pytest.raises(Error, match="line 3, column") as caught:
        parse_project(f"schema: 1\nartifacts:\n- {{reference: charts/foo, {item}}}\n".encode(), Path("marfetch.yaml"))
    assert reason in caught.value.message
    assert caught.value.exit_code == 2


def changed(raw: bytes, change: Callable[[dict[str, Any]], object], *, reseal: bool = True) -> bytes:
    document = json.loads(raw)
    change(document)
    for entry in document["artifacts"] if reseal else ():
        entry["seal"] = sealed({key: value for key, value in entry.items() if key != "seal"})
    return json.dumps(document).encode()


def test_seals_cover_images_and_malformed_ones_are_refused(mar: Registry, client: Client, make: Make) -> None:
    add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1", "nginx:1")
    project = make(f"{ITEM}, platforms: [linux/amd64]")
    lock(client(), project)
    raw = project.lock_path.read_bytes()
    with pytest.raises(IntegrityError) as caught:
        parse_lock(changed(raw, lambda document: document["artifacts"][0]["images"].pop(), reseal=False), project.lock_path)
    assert caught.value.code == "lock-edited"

    def image(**keys: object) -> Callable[[dict[str, Any]], object]:
        return lambda document: document["artifacts"][0]["images"][0].update(keys)

    for change in (
        lambda document: document.update(schema=1),
        lambda document: document["artifacts"][0].update(images=["a"]),
        lambda document: document["artifacts"][0].update(images={}),
        lambda document: document["artifacts"][0]["images"][0].pop("size"),
        image(reference=f"{mar.host}/{WEB}:2.1"),
        image(reference=f"{WEB}@sha256:{'0' * 64}"),
        image(size=-1),
        image(external=True),
        image(manifests=[1]),
        image(more=1),
    ):
        with pytest.raises(IntegrityError) as caught:
            parse_lock(changed(raw, change), project.lock_path)
        assert caught.value.code == "lock-malformed"
    assert parse_lock(changed(raw, lambda _: None), project.lock_path).entries[0].images[1].reference is None
