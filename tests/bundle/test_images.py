"""Images of charts in bundles: original bytes, the wanted platforms, and digests that stay the same in the isolated network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marfetch.__main__ import main
from marfetch.bundle.check import CheckResult, check_bundle
from marfetch.bundle.create import create
from marfetch.bundle.format import RECORD_FILE, Record, opened, parse_record, record_bytes
from marfetch.bundle.inventory import BundleItem, bundle_items, differences
from marfetch.bundle.jobs import Job, jobs_of
from marfetch.bundle.load import load, load_part
from marfetch.bundle.targets import Loaded, To
from marfetch.client.session import Session, SessionOptions
from marfetch.errors import Error, LockError, RemoteError
from marfetch.oci import Descriptor, Digest
from marfetch.project.lockfile import read_lock
from marfetch.project.roots import roots_of
from marfetch.project.sync import Shard
from marfetch.serve.run import running

from ..world.bundles import members, rewritten
from ..world.images import BASE, FOREIGN, WEB, ZSTD, add_image, add_multi, add_naming_chart
from ..world.progress import Heard
from ..world.projects import Make, lock
from ..world.real import distribution, run
from ..world.registry import Registry
from ..world.serving import ask

ITEM = "reference: charts/foo, images: true"
Client = Callable[..., Session]
Tool = Callable[[str], Path]
SPARSE = "validation: {manifests: {indexes: {platforms: none}, urls: {allow: ['^https?://']}}}\n"


@pytest.fixture
def bundled(mar: Registry, client: Client, make: Make, tmp_path: Path) -> Callable[..., Path]:
    """`bundled("linux/amd64", …)`: a bundle of a chart that names these images, for these platforms."""

    def do(*platforms: str, images: tuple[str, ...] = (f"{WEB}:2.1",), name: str = "a.tar", **options: Any) -> Path:
        add_naming_chart(mar, *(f"{mar.host}/{image}" for image in images))
        project = make(ITEM + (f", platforms: [{', '.join(platforms)}]" if platforms else ""))
        lock(client(), project, upgrade=True)
        create(client(), project, tmp_path / name, **options)
        return tmp_path / name

    return do


def checked(path: Path) -> CheckResult:
    with opened(path) as found:
        return check_bundle(found)


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(map(str, words)))
    out = capsys.readouterr()
    return code, out.out, out.err


def items(path: Path) -> dict[str, BundleItem]:
    with opened(path) as found:
        found.contents.load()
        return {item.key: item for item in bundle_items(found.contents, found.lock)}


def digests(path: Path) -> set[str]:
    return {name.rpartition("/")[2] for name in members(path) if name.startswith("blobs/")}


def carries(path: Path, one: Descriptor) -> bool:
    return one.digest.encoded in digests(path)


def loaded(path: Path, to: str, **options: Any) -> list[Loaded]:
    with Session(SessionOptions(), Heard()) as one:
        return load(one, path, To.parse(to, plain_http=not to.startswith((".", "/"))), **options)


# -- what is carried


@pytest.mark.parametrize("docker", [False, True])
def test_without_platforms_all_of_an_index_is_carried(mar: Registry, bundled: Callable[..., Path], docker: bool) -> None:
    index, children = add_multi(mar, docker=docker, attested=True)
    path = bundled()
    assert all(carries(path, one) for one in (index, *children))
    assert members(path)[f"blobs/sha256/{index.digest.encoded}"] == mar.manifests[f"{WEB} 2.1"][1]
    assert checked(path).findings == []
    assert b'"schema": 1,' in members(path)[RECORD_FILE]
    item = items(path)[f"{WEB}:2.1"]
    assert (item.kind, item.name, item.descriptor.digest) == ("image", "web", index.digest)
    assert item.platforms == ("linux/amd64", "linux/arm64/v8", "windows/amd64")
    assert item.omitted_platforms == ()


def test_one_platform_is_carried_under_its_own_digest(mar: Registry, bundled: Callable[..., Path]) -> None:
    index, children = add_multi(mar)
    path = bundled("linux/arm64")
    assert [carries(path, one) for one in (index, *children)] == [False, False, True, False]
    assert checked(path).findings == []
    assert items(path)[f"{WEB}:2.1"].reference.digest == children[1].digest


@pytest.mark.parametrize("docker", [False, True])
def test_several_platforms_come_with_the_index_as_it_is(mar: Registry, bundled: Callable[..., Path], docker: bool) -> None:
    index, children = add_multi(mar, docker=docker, attested=True)
    path = bundled("windows/amd64", "linux/amd64")
    assert [carries(path, one) for one in (index, *children)] == [True, True, False, True, False]
    record = json.loads(members(path)[RECORD_FILE])
    assert record["schema"] == 2
    assert [one["digest"] for one in record["omittedManifests"]] == sorted(str(children[number].digest) for number in (1, 3))
    assert checked(path).findings == []
    item = items(path)[f"{WEB}:2.1"]
    assert (item.platforms, item.omitted_platforms) == (("linux/amd64", "windows/amd64"), ("linux/arm64/v8",))
    assert item.descriptor.digest == index.digest


def test_an_image_for_one_platform_only_is_carried_as_it_is(mar: Registry, bundled: Callable[..., Path]) -> None:
    made = add_image(mar, WEB, "2.1", docker=True, layers=[(ZSTD, b"zstd" * 100)])
    path = bundled("linux/arm64")
    assert carries(path, made)
    assert checked(path).findings == []


def test_charts_share_an_image_and_its_platforms(mar: Registry, client: Client, make: Make, tmp_path: Path) -> None:
    index, children = add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    add_naming_chart(mar, f"{mar.host}/{WEB}@{index.digest}", repository="charts/bar")
    one = make(f"{ITEM}, platforms: linux/amd64", "reference: charts/bar, images: true, platforms: windows/amd64")
    lock(client(), one)
    assert [(root.name, [child.digest for child in root.children or ()]) for root in roots_of(read_lock(one.lock_path))[2:]] == [
        (f"{mar.host}/{WEB}:2.1", [children[2].digest, children[0].digest]),
        (f"{mar.host}/{WEB}@{index.digest}", [children[2].digest, children[0].digest]),
    ]
    create(client(), one, tmp_path / "a.tar")
    assert [carries(tmp_path / "a.tar", each) for each in (index, *children)] == [True, True, False, True]
    two = make(f"{ITEM}, platforms: linux/amd64", "reference: charts/bar, images: true")
    lock(client(), two)
    create(client(), two, tmp_path / "b.tar")
    assert all(carries(tmp_path / "b.tar", each) for each in (index, *children))
    assert checked(tmp_path / "b.tar").findings == []


def test_a_manifest_that_another_image_needs_is_not_omitted(mar: Registry, bundled: Callable[..., Path]) -> None:
    index, children = add_multi(mar)
    path = bundled("linux/amd64", "windows/amd64", images=(f"{WEB}:2.1", f"{WEB}@{children[1].digest}"))
    assert all(carries(path, one) for one in (index, *children))
    assert "omittedManifests" not in json.loads(members(path)[RECORD_FILE])
    assert checked(path).findings == []


def test_a_digest_leaves_the_tag_to_the_image_that_follows_it(mar: Registry, bundled: Callable[..., Path]) -> None:
    old, _ = add_multi(mar, salt="old")
    new, _ = add_multi(mar)
    path = bundled(images=(f"{WEB}:2.1", f"{WEB}:2.1@{old.digest}"))
    assert {key: item.descriptor.digest for key, item in items(path).items() if key != "foo"} == {
        f"{WEB}:2.1": new.digest,
        f"{WEB}@{old.digest}": old.digest,
    }
    alone = bundled(images=(f"{WEB}:2.1@{old.digest}",), name="b.tar")
    assert items(alone)[f"{WEB}:2.1"].descriptor.digest == old.digest


def test_two_locked_digests_of_one_tag_are_refused(mar: Registry, client: Client, make: Make, tmp_path: Path) -> None:
    add_multi(mar)
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1")
    add_naming_chart(mar, f"{mar.host}/{WEB}:2.1", repository="charts/bar")
    lock(client(), make(ITEM))
    add_multi(mar, salt="new")
    # Offline, no tag is requested.
    old = make(ITEM).lock_path.read_bytes()
    project = make("reference: charts/bar, images: true")
    lock(client(), project)
    both = json.loads(old)
    both["artifacts"] = sorted(
        json.loads(project.lock_path.read_bytes())["artifacts"] + both["artifacts"], key=lambda one: str(one["name"])
    )
    project = make(ITEM, "reference: charts/bar, images: true")
    project.lock_path.write_text(json.dumps(both))
    with pytest.raises(LockError, match="the lock names two manifests for") as caught:
        create(client(), project, tmp_path / "a.tar")
    assert caught.value.exit_code == 8
    assert not (tmp_path / "a.tar").exists()


def test_layers_are_carried_once_and_asked_for_once(mar: Registry, bundled: Callable[..., Path]) -> None:
    add_multi(mar)
    add_multi(mar, "oss/other", "1")
    mar.asked.clear()
    bundled(images=(f"{WEB}:2.1", "oss/other:1"))
    base = str(Digest.of(BASE))
    assert len([one for one in mar.asked if one.kind == "blob" and base in one.target]) == 1


def test_nothing_is_asked_for_by_tag_and_a_bundle_is_the_same_twice(
    mar: Registry, client: Client, make: Make, bundled: Callable[..., Path], tmp_path: Path
) -> None:
    add_multi(mar)
    path = bundled("linux/amd64", "linux/arm64")
    mar.asked.clear()
    create(client(cache_dir=tmp_path / "other"), make(f"{ITEM}, platforms: [linux/amd64, linux/arm64]"), tmp_path / "b.tar")
    assert path.read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert not [one for one in mar.asked if one.target.endswith("/manifests/2.1") or one.kind == "tags"]


def test_foreign_layers_come_from_the_registry_and_never_from_their_urls(mar: Registry, bundled: Callable[..., Path]) -> None:
    layer = b"a layer of Windows" * 100
    add_image(mar, WEB, "2.1", "windows/amd64", docker=True, layers=[(FOREIGN, layer)], urls=["https://elsewhere.example/layer"])
    path = bundled()
    assert Digest.of(layer).encoded in digests(path)
    assert checked(path).findings == []
    gone = b"a layer that only its publisher has" * 100
    add_image(mar, WEB, "2.1", "windows/amd64", docker=True, layers=[(FOREIGN, gone)], urls=["https://elsewhere.example/layer"])
    del mar.blobs[str(Digest.of(gone))]
    with pytest.raises(Error) as caught:
        bundled(name="b.tar")
    assert caught.value.exit_code == 3


def test_a_bundle_that_was_interrupted_goes_on_where_it_stopped(
    mar: Registry, client: Client, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [add_image(mar, f"oss/image{number}", "1", layers=[(ZSTD, bytes([number]) * 3_000_000)]) for number in range(4)]
    add_naming_chart(mar, *(f"{mar.host}/oss/image{number}:1" for number in range(4)))
    project = make(ITEM)
    lock(client(), project)
    last = Digest.of(bytes([3]) * 3_000_000)
    monkeypatch.setattr("marfetch.remote.limits.RESUMES", 0)
    monkeypatch.setattr("marfetch.remote.limits.WORTH_A_RESUME", 1 << 40)
    monkeypatch.setattr("marfetch.remote.limits.TRIES", 1)
    mar.on("data", f".*{last.encoded}.*").cuts_after(2_000_000)
    with pytest.raises(Error) as caught:
        create(client(), project, tmp_path / "a.tar")
    assert caught.value.exit_code == 7
    assert not (tmp_path / "a.tar").exists()
    mar.honestly()
    create(client(), project, tmp_path / "a.tar")
    content = [one for one in mar.asked if one.kind == "data"]
    assert last.encoded in content[0].target
    assert content[0].headers["range"].startswith("bytes=2000000-")
    assert len(content) == 1
    assert all(carries(tmp_path / "a.tar", one) for one in made)
    assert checked(tmp_path / "a.tar").findings == []


def test_referrers_of_images_come_with_them(mar: Registry, bundled: Callable[..., Path]) -> None:
    index, _ = add_multi(mar)
    subject = {"mediaType": index.media_type, "digest": str(index.digest), "size": index.size}
    sbom = mar.add_artifact(WEB, "about", ("sbom.json", b"{}"), artifactType="application/spdx+json", subject=subject)
    path = bundled(with_referrers=True)
    assert [one.digest for one in items(path)[f"{WEB}:2.1"].referrers] == [sbom.digest]
    assert checked(path).findings == []


# -- bundles that were changed


def resealed(path: Path, to: Path, change: Callable[[Record], Record]) -> Path:
    def changed(files: dict[str, bytes]) -> None:
        files[RECORD_FILE] = record_bytes(change(parse_record(files[RECORD_FILE], "x")))

    return rewritten(path, to, changed)


def test_only_what_the_lock_does_not_want_may_be_omitted(mar: Registry, bundled: Callable[..., Path], tmp_path: Path) -> None:
    _, children = add_multi(mar, attested=True)
    path = bundled("windows/amd64", "linux/amd64")
    wanted = f"blobs/sha256/{children[0].digest.encoded}"
    gone = rewritten(path, tmp_path / "b.tar", lambda files: {name: data for name, data in files.items() if name != wanted})
    assert ("missing", str(children[0].digest)) in [(one.kind, one.name) for one in checked(gone).findings]

    def claimed(record: Record) -> Record:
        return replace(record, omitted_manifests={**record.omitted_manifests, children[0].digest: children[0].size})

    lied = resealed(gone, tmp_path / "c.tar", claimed)
    kinds = [(one.kind, one.name) for one in checked(lied).findings]
    assert ("missing", str(children[0].digest)) in kinds
    assert ("wrong", str(children[0].digest)) in kinds
    silent = resealed(path, tmp_path / "d.tar", lambda record: replace(record, omitted_manifests={}))
    assert [(one.kind, one.name) for one in checked(silent).findings] == sorted(
        ("missing", str(children[number].digest)) for number in (1, 3)
    )
    size = resealed(path, tmp_path / "e.tar", lambda record: replace(record, omitted_manifests=dict.fromkeys(record.omitted_manifests, 1)))
    assert {one.kind for one in checked(size).findings} == {"missing", "wrong"}


# -- deltas, differences, jobs


def test_a_delta_leaves_out_layers_that_its_base_has(
    mar: Registry, bundled: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    add_multi(mar)
    base = bundled("linux/amd64", "linux/arm64")
    add_multi(mar, salt="new")
    delta = bundled("linux/amd64", "linux/arm64", name="b.tar", since=base)
    assert Digest.of(BASE).encoded in digests(base)
    assert Digest.of(BASE).encoded not in digests(delta)
    assert said(capsys, "bundle", "verify", delta, "--since", base)[0] == 0
    with opened(base) as old, opened(delta) as new:
        assert [(one.change, one.name) for one in differences(old, new)] == [("changed", "web")]


def test_bundle_commands_know_images(mar: Registry, bundled: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    index, _ = add_multi(mar)
    path = bundled("linux/amd64", "linux/arm64")
    code, out, _ = said(capsys, "bundle", "inspect", path, "--json")
    chart, image = json.loads(out)["data"]["artifacts"]
    assert code == 0
    assert chart["images"] == [f"{mar.host}/{WEB}:2.1"]
    assert (image["kind"], image["digest"], image["images"]) == ("image", str(index.digest), [])
    assert image["reference"] == f"{mar.host}/{WEB}:2.1@{index.digest}"
    assert (image["platforms"], image["omittedPlatforms"]) == (["linux/amd64", "linux/arm64/v8"], ["windows/amd64"])
    assert "crane" in image["lines"]
    assert said(capsys, "bundle", "inspect", path)[1].count("\tplatforms\tlinux/amd64, linux/arm64/v8") == 1
    page = members(path)["bundle.html"].decode()
    assert "in this bundle</span>" in page
    assert "windows/amd64: not requested" in page


# -- registries and folders


def test_a_served_bundle_answers_404_for_what_was_left_out(mar: Registry, bundled: Callable[..., Path], tool: Tool) -> None:
    index, children = add_multi(mar)
    warnings: list[str] = []
    with running(bundled("linux/arm64", "linux/amd64"), port=0, warn=warnings.append) as found:
        port, host = int(found.address.rpartition(":")[2]), found.address.removeprefix("http://")
        assert ask(port, f"/v2/{WEB}/manifests/2.1").headers["docker-content-digest"] == str(index.digest)
        assert ask(port, f"/v2/{WEB}/manifests/{children[0].digest}").status == 200
        answer = ask(port, f"/v2/{WEB}/manifests/{children[2].digest}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
        assert run(tool("crane"), "digest", "--insecure", "--platform", "linux/amd64", f"{host}/{WEB}:2.1").strip() == str(
            children[0].digest
        )
        assert b"not requested" in ask(port, "/").body
    assert warnings == []


@pytest.fixture
def sparse(tool: Tool, tmp_path: Path) -> Iterator[str]:
    """A registry that takes indexes without all of their manifests."""
    with distribution(tool("registry"), tmp_path / "sparse", more=SPARSE) as host:
        yield host


def upstream(mar: Registry, path: Path) -> list[str]:
    return [str(item.descriptor.digest) for item in items(path).values() if item.kind == "image"]


def test_digests_are_the_same_on_the_far_side(
    mar: Registry, bundled: Callable[..., Path], sparse: str, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, children = add_multi(mar, attested=True)
    docker, _ = add_multi(mar, "oss/docker", "1", docker=True)
    single = add_image(mar, "oss/single", "1", docker=True, layers=[(ZSTD, b"zstd"), (FOREIGN, b"f")], urls=["https://x.example/y"])
    pinned = f"{WEB}:2.1@{index.digest}"
    path = bundled(images=(f"{WEB}:2.1", "oss/docker:1", "oss/single:1", pinned))
    code, _, err = said(capsys, "bundle", "load", path, "--to", f"{sparse}/mirror", "--plain-http")
    assert code == 0, err
    for name, one in ((f"{WEB}:2.1", index), ("oss/docker:1", docker), ("oss/single:1", single)):
        there = f"{sparse}/mirror/{name}"
        assert run(tool("crane"), "digest", "--insecure", there).strip() == str(one.digest)
        assert run(tool("oras"), "resolve", "--plain-http", there).strip() == str(one.digest)
    run(tool("oras"), "cp", "--from-plain-http", f"{sparse}/mirror/{WEB}:2.1", "--to-oci-layout", f"{tmp_path}/copied:2.1")
    assert (tmp_path / "copied" / "blobs" / "sha256" / children[2].digest.encoded).is_file()
    raw = run(tool("crane"), "manifest", "--insecure", f"{sparse}/mirror/{WEB}@{children[3].digest}")
    assert Digest.of(raw.encode()) == children[3].digest
    again = loaded(path, f"{sparse}/mirror")
    assert {one.outcome for one in again} == {"unchanged"}


def test_a_registry_may_take_an_index_with_some_of_its_platforms(
    mar: Registry, bundled: Callable[..., Path], sparse: str, tool: Tool
) -> None:
    index, children = add_multi(mar)
    path = bundled("linux/arm64", "linux/amd64")
    found = {one.reference: one.warning for one in loaded(path, sparse)}
    assert found[f"{sparse}/{WEB}:2.1@{index.digest}"] is None
    assert run(tool("crane"), "digest", "--insecure", f"{sparse}/{WEB}:2.1").strip() == str(index.digest)
    one = run(tool("crane"), "digest", "--insecure", "--platform", "linux/arm64/v8", f"{sparse}/{WEB}:2.1").strip()
    assert one == str(children[1].digest)
    run(tool("regctl"), "manifest", "get", f"{sparse}/{WEB}@{children[0].digest}", "--host", f"reg={sparse},tls=disabled")


def test_a_registry_that_refuses_such_an_index_gets_the_tag_on_the_first_platform(
    mar: Registry, bundled: Callable[..., Path], registry: str, tool: Tool, capsys: pytest.CaptureFixture[str]
) -> None:
    index, children = add_multi(mar)
    path = bundled("linux/arm64", "linux/amd64")
    code, out, err = said(capsys, "bundle", "load", path, "--to", registry, "--plain-http")
    assert code == 0, err
    assert f"`{registry}` refuses the index `{index.digest}`" in err
    assert f"`2.1` points to the first platform, `{children[1].digest}`" in err
    assert f"{registry}/{WEB}:2.1@{children[1].digest}" in out
    assert run(tool("crane"), "digest", "--insecure", f"{registry}/{WEB}:2.1").strip() == str(children[1].digest)
    assert run(tool("crane"), "digest", "--insecure", f"{registry}/{WEB}@{children[0].digest}").strip() == str(children[0].digest)
    code, out, _ = said(capsys, "bundle", "load", path, "--to", registry, "--plain-http", "--json")
    rows = json.loads(out)["data"]["artifacts"]
    assert [(row["outcome"], row["warning"] is None) for row in rows] == [("unchanged", True), ("unchanged", False)]


def test_an_index_without_its_platforms_is_the_only_refusal_that_is_forgiven(
    mar: Registry, bundled: Callable[..., Path], registry: str
) -> None:
    add_image(mar, WEB, "2.1", "windows/amd64", docker=True, layers=[(FOREIGN, b"f")], urls=["https://x.example/y"])
    (failed,) = [one for one in loaded(bundled(), registry) if one.error is not None]
    assert isinstance(failed.error, RemoteError)
    assert failed.warning is None


def test_shards_and_workers_load_images_too(mar: Registry, bundled: Callable[..., Path], registry: str, tmp_path: Path) -> None:
    index, children = add_multi(mar)
    path = bundled("linux/arm64", "linux/amd64")
    parts = [one for number in range(2) for one in loaded(path, registry, shard=Shard(number, 2))]
    assert len(parts) == 2
    assert sum(one.warning is not None for one in parts) == 1
    with opened(path) as found:
        found.contents.load()
        (job,) = [one for one in jobs_of(found.contents, found.partial) if one.repository == WEB]
    assert job == Job(WEB, index.digest, ("2.1",), (children[1].digest, children[0].digest))
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
    config = {"path": str(path), "to": registry, "plain": True, "hosts": [], "timeout": None, "ca": None, "command": "x"}
    ((_, outcome, _, _, error, _, warning),) = json.loads(load_part(json.dumps({"shared": json.dumps(config), "jobs": [job.to_json()]})))
    assert (outcome, error) == ("unchanged", None)
    assert "first platform" in warning


def test_a_folder_takes_the_index_as_it_is(mar: Registry, bundled: Callable[..., Path], tool: Tool, tmp_path: Path) -> None:
    index, children = add_multi(mar)
    folder = tmp_path / "layout"
    assert {one.outcome for one in loaded(bundled("linux/arm64", "linux/amd64"), str(folder))} == {"pushed"}
    raw = run(tool("oras"), "manifest", "fetch", "--oci-layout", f"{folder}@{index.digest}")
    assert Digest.of(raw.encode()) == index.digest
    assert (folder / "blobs" / "sha256" / children[1].digest.encoded).is_file()


def test_a_folder_knows_which_platforms_were_loaded(
    mar: Registry, bundled: Callable[..., Path], registry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, children = add_multi(mar, attested=True)
    folder, copied = tmp_path / "layout", tmp_path / "copied"
    loaded(bundled("linux/arm64", "linux/amd64"), str(folder))
    for one, other in ((folder, copied), (copied, folder)):
        code, _, err = said(capsys, "bundle", "verify", one)
        assert code == 0, err
        assert "no lock file" in err
        assert {each.outcome for each in loaded(one, str(other))} == {"pushed" if one == folder else "unchanged"}
    assert "lacks" not in said(capsys, "bundle", "inspect", copied)[2]
    assert said(capsys, "bundle", "verify", copied, "--verify")[0] == 2
    (warning,) = [each.warning for each in loaded(copied, registry) if each.warning is not None]
    assert str(children[1].digest) in warning  # the first platform in the project file, not in the index
    (folder / "blobs" / "sha256" / children[0].digest.encoded).unlink()
    code, out, _ = said(capsys, "bundle", "verify", folder, "--json")
    assert (code, [one["name"] for one in json.loads(out)["data"]["missing"]]) == (5, [str(children[0].digest)])


def test_further_platforms_may_be_loaded_into_a_folder(
    mar: Registry, bundled: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, children = add_multi(mar)
    folder = tmp_path / "layout"
    for number, platforms in enumerate((("linux/arm64", "linux/amd64"), ("linux/amd64", "windows/amd64"), ())):
        loaded(bundled(*platforms, name=f"{number}.tar"), str(folder))
        assert said(capsys, "bundle", "verify", folder)[0] == 0
    (folder / "blobs" / "sha256" / children[0].digest.encoded).unlink()
    assert said(capsys, "bundle", "verify", folder)[0] == 5
