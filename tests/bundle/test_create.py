"""Bundles: reproducible, complete, and any change is noticed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marfetch import oci
from marfetch.bundle.check import CheckResult, check_bundle
from marfetch.bundle.create import Created, create
from marfetch.bundle.format import FIRST, Base, Record, header, opened, parse_record, record_bytes
from marfetch.bundle.inventory import bundle_items, differences
from marfetch.client.session import Session
from marfetch.errors import Error, InputError, IntegrityError, LockError, RemoteError, StorageError
from marfetch.layout import graph
from marfetch.layout import layout as layout_module
from marfetch.layout.layout import Layout
from marfetch.oci import OCI_INDEX, Descriptor, Digest, descriptor_json, parse_manifest
from marfetch.project.lockfile import lock_bytes, make_lock, parse_lock
from marfetch.project.wanted import Project
from marfetch.reference import Host, Reference
from marfetch.remote import registry as registry_module

from ..world.bundles import ITEMS, blob_names, locked, members, rewritten
from ..world.charts import add_foo
from ..world.command import ended, started, surroundings
from ..world.content import ALB, IMAGE, MODULE
from ..world.paths import ROOT
from ..world.progress import Heard
from ..world.real import run
from ..world.registry import Registry

Tool = Callable[[str], Path]


@pytest.fixture
def project(client: Callable[..., Session], tmp_path: Path) -> Project:
    return locked(client(), tmp_path / "project")


@pytest.fixture
def bundle(client: Callable[..., Session], project: Project, tmp_path: Path) -> Path:
    """Create a bundle that includes referrers."""
    create(client(), project, tmp_path / "a.tar", with_referrers=True)
    return tmp_path / "a.tar"


@pytest.fixture(scope="module")
def ready(recipe: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create one bundle for all tests that only read or copy it."""
    from marfetch.client.session import SessionOptions
    from marfetch.endpoint import Preference

    place = tmp_path_factory.mktemp("ready")
    with Registry(recipe, names=Host("mar.test")) as mar:
        preference = Preference(option=f"{mar.scheme}://{mar.host}", data_hosts=(mar.data_host,))
        with Session(SessionOptions(preference, place / "cache"), Heard()) as one:
            create(one, locked(one, place / "project"), place / "a.tar", with_referrers=True)
    return place / "a.tar"


def check(path: Path, *, base: Path | None = None) -> CheckResult:
    with opened(path) as found:
        if base is None:
            return check_bundle(found)
        with opened(base) as old:
            return check_bundle(found, base=old)


def told(path: Path) -> list[tuple[str, str]]:
    """Return the findings of a check; an unreadable bundle is one finding."""
    try:
        return [(one.kind, one.name) for one in check(path).findings]
    except IntegrityError as error:
        return [("unreadable", error.code)]


# -- create


def test_a_bundle_contains_everything_in_the_lock_byte_for_byte(bundle: Path, project: Project, recipe: Layout) -> None:
    files = members(bundle)
    assert tuple(files)[: len(FIRST)] == FIRST
    assert files["marfetch.lock"] == project.lock_path.read_bytes()
    blobs = [name for name in files if name not in FIRST]
    assert blobs == sorted(blobs)
    for name in blobs:
        _, algorithm, encoded = name.split("/")
        assert Digest.of(files[name], algorithm).encoded == encoded
        assert recipe.path(Digest(algorithm, encoded)).read_bytes() == files[name]
    named = [one.get("annotations", {}).get("org.opencontainers.image.ref.name") for one in json.loads(files["index.json"])["manifests"]]
    assert [name.partition("/")[2] for name in named if name] == [f"{ALB}:1.7.12", f"{IMAGE}:latest", f"{MODULE}:0.14.0"]
    assert None in named  # the signature of the image
    assert check(bundle).findings == []


def test_a_bundle_is_reproducible_with_another_cache_order_and_time(
    client: Callable[..., Session], project: Project, bundle: Path, tmp_path: Path, mar: Registry
) -> None:
    again = create(client(cache_dir=tmp_path / "other", jobs=1), project, tmp_path / "deep" / "b.tar", with_referrers=True)
    assert again.path.read_bytes() == bundle.read_bytes()
    assert again.digest == Digest.of(bundle.read_bytes())
    assert again.size == bundle.stat().st_size
    locked(client(), tmp_path / "turned", *reversed(ITEMS))
    create(client(), locked(client(), tmp_path / "turned", *reversed(ITEMS)), tmp_path / "c.tar", with_referrers=True)
    assert (tmp_path / "c.tar").read_bytes() == bundle.read_bytes()


def test_no_tag_is_requested(client: Callable[..., Session], project: Project, mar: Registry, tmp_path: Path) -> None:
    mar.asked.clear()
    create(client(cache_dir=tmp_path / "empty"), project, tmp_path / "a.tar", with_referrers=True)
    manifests = [one.target for one in mar.asked if one.kind == "manifest"]
    assert manifests
    assert all("/manifests/sha256:" in target for target in manifests)
    assert not [one for one in mar.asked if one.kind == "tags"]


def test_a_strange_referrer_is_skipped_with_a_warning(client: Callable[..., Session], mar: Registry, heard: Heard, tmp_path: Path) -> None:
    subject = mar.add_artifact("aks/thing", "1.0.0", ("x.txt", b"x"))
    refers = {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size}
    good = mar.add_artifact("aks/thing", "good", ("good.txt", b"good"), subject=refers, artifactType="application/x")
    withdrawn = "application/vnd.oci.artifact.manifest.v1+json"
    raw = json.dumps({"mediaType": withdrawn, "artifactType": "application/x", "blobs": []})
    old = mar.add_manifest("aks/thing", "old", raw.encode())
    listed = [
        {"mediaType": one.media_type, "digest": str(one.digest), "size": one.size, "artifactType": "application/x"} for one in (old, good)
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*listed, "x"]}
    mar.on("referrers", f"referrers/{subject.digest}").answers(200, json.dumps(index), Content_Type=OCI_INDEX)
    mar.on("manifest", str(old.digest)).answers(200, raw, Content_Type=withdrawn)
    project = locked(client(), tmp_path / "project", "reference: aks/thing:1.0.0")
    assert create(client(), project, tmp_path / "a.tar", with_referrers=True).referrers == 1
    assert any(f"skipped `{old.digest}`" in warning and "a withdrawn format" in warning for warning in heard.warnings)
    assert check(tmp_path / "a.tar").findings == []


def test_a_second_run_requests_no_blob(
    client: Callable[..., Session], project: Project, bundle: Path, mar: Registry, tmp_path: Path
) -> None:
    mar.asked.clear()
    create(client(), project, tmp_path / "again.tar", with_referrers=True)
    assert [one for one in mar.asked if one.kind in ("blob", "data", "manifest")] == []
    create(client(offline=True), project, tmp_path / "offline.tar")
    assert check(tmp_path / "offline.tar").findings == []


def test_an_outdated_or_missing_lock_is_refused(client: Callable[..., Session], project: Project, tmp_path: Path) -> None:
    project.path.write_text("schema: 1\nartifacts:\n  - {reference: aks/other}\n")
    from marfetch.project.wanted import read_project

    with pytest.raises(LockError) as caught:
        create(client(), read_project(project.path), tmp_path / "a.tar")
    assert caught.value.exit_code == 8
    assert not (tmp_path / "a.tar").exists()


def test_wrong_bytes_leave_the_old_file(client: Callable[..., Session], project: Project, mar: Registry, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("before")
    mar.on("data").answers_with(b"other bytes")
    with pytest.raises(Error):
        create(client(cache_dir=tmp_path / "empty"), project, tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_text() == "before"
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


def test_a_corrupted_blob_in_the_cache_never_gets_into_a_bundle(
    client: Callable[..., Session], project: Project, bundle: Path, tmp_path: Path
) -> None:
    one = client()
    blob = max((path for path in (one.cache.root / "blobs" / "sha256").iterdir()), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)
    with pytest.raises(IntegrityError):
        create(one, project, tmp_path / "b.tar", with_referrers=True)
    assert not (tmp_path / "b.tar").exists()
    create(client(), project, tmp_path / "b.tar", with_referrers=True)
    assert (tmp_path / "b.tar").read_bytes() == bundle.read_bytes()


def test_a_killed_run_leaves_no_file_and_the_next_one_resumes(
    client: Callable[..., Session], project: Project, bundle: Path, mar: Registry, tmp_path: Path
) -> None:
    mar.on("data").stalls_after(2000)
    output = tmp_path / "killed" / "a.tar"
    line = [sys.executable, "-m", "marfetch", "bundle", "create", "-f", str(project.path), "-o", str(output), "--referrers"]
    line += ["--endpoint", f"{mar.scheme}://{mar.host}", "--data-host", mar.data_host, "--cache-dir", str(tmp_path / "empty")]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not [one for one in mar.asked if one.kind == "data"] and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert not output.exists()
    mar.honestly()
    create(client(cache_dir=tmp_path / "empty"), project, output, with_referrers=True)
    assert output.read_bytes() == bundle.read_bytes()


def test_a_full_disk_is_reported_with_the_space_needed(
    client: Callable[..., Session], project: Project, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.statvfs

    def full(path: object) -> os.statvfs_result:
        found = list(before(path))  # type: ignore[arg-type]
        found[4] = 1 if "out" in str(path) else found[4]
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", full)
    with pytest.raises(StorageError) as caught:
        create(client(), project, tmp_path / "out" / "a.tar", with_referrers=True)
    assert (caught.value.code, caught.value.exit_code) == ("disk-full", 9)
    assert caught.value.context["needed"] == bundle.stat().st_size
    assert list((tmp_path / "out").iterdir()) == []


def listed(mar: Registry, *found: Descriptor) -> None:
    """Make the registry list these manifests as the referrers of everything, whatever their `subject`."""
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor_json(one) for one in found]}
    mar.on("referrers").answers(200, json.dumps(index), Content_Type=OCI_INDEX)


@pytest.mark.parametrize("subject", ["none", "another"])
def test_a_referrer_with_another_subject_is_skipped_with_a_warning(
    client: Callable[..., Session], mar: Registry, tmp_path: Path, heard: Heard, subject: str
) -> None:
    mar.add_blob(b"{}")
    mar.add_artifact("aks/thing", "1.0.0", ("thing.txt", b"a thing"))
    other = mar.add_artifact("aks/thing", "2.0.0", ("thing.txt", b"another thing"))
    more = {"subject": descriptor_json(other)} if subject == "another" else {}
    mark = mar.add_artifact("aks/thing", "mark", ("mark.txt", b"mark"), artifactType="application/x", **more)
    project = locked(client(), tmp_path / "project", "reference: aks/thing, version: 1.0.0")
    listed(mar, mark)
    made = create(client(), project, tmp_path / "a.tar", with_referrers=True)
    assert made.referrers == 0
    assert told(made.path) == []
    (warning,) = [one for one in heard.warnings if str(mark.digest) in one]
    assert (str(other.digest) if subject == "another" else "has no `subject`") in warning


def test_a_locked_referrer_with_another_subject_is_an_error(client: Callable[..., Session], mar: Registry, tmp_path: Path) -> None:
    mar.add_blob(b"{}")
    mar.add_artifact("aks/thing", "1.0.0", ("thing.txt", b"a thing"))
    mark = mar.add_artifact("aks/thing", "mark", ("mark.txt", b"mark"), artifactType="application/x")
    listed(mar, mark)
    project = locked(client(), tmp_path / "project", "reference: aks/thing, version: 1.0.0, referrers: true")
    with pytest.raises(IntegrityError) as caught:
        create(client(), project, tmp_path / "a.tar")
    assert (caught.value.exit_code, caught.value.context["digest"]) == (5, str(mark.digest))


def test_referrers_cannot_be_listed_offline(
    client: Callable[..., Session], project: Project, bundle: Path, mar: Registry, tmp_path: Path
) -> None:
    """The cache does not know whether it contains all referrers."""
    mar.asked.clear()
    with pytest.raises(RemoteError) as caught:
        create(client(offline=True), project, tmp_path / "b.tar", with_referrers=True)
    assert (caught.value.code, caught.value.exit_code, mar.asked) == ("offline", 7, [])
    assert "referrers: true" in str(caught.value.hint)
    pinned = locked(client(), tmp_path / "pinned", f'reference: "{IMAGE}:latest", platform: linux/amd64, media-type: "*", referrers: true')
    create(client(), pinned, tmp_path / "first.tar")
    assert create(client(offline=True), pinned, tmp_path / "b.tar").referrers == 1
    assert (tmp_path / "b.tar").read_bytes() == (tmp_path / "first.tar").read_bytes()


def test_a_bundle_never_overwrites_project_files(client: Callable[..., Session], project: Project, tmp_path: Path) -> None:
    before = project.path.read_bytes(), project.lock_path.read_bytes()
    (tmp_path / "linked").symlink_to(project.directory)
    for output in (project.path, project.lock_path, tmp_path / "linked" / "marfetch.lock"):
        with pytest.raises(InputError) as caught:
            create(client(), project, output)
        assert (caught.value.code, caught.value.exit_code) == ("usage", 2)
    assert (project.path.read_bytes(), project.lock_path.read_bytes()) == before


def test_only_a_regular_file_is_overwritten(client: Callable[..., Session], project: Project, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(StorageError) as caught:
            create(client(), project, tmp_path / name)
        assert (caught.value.code, caught.value.exit_code) == ("file-unusable", 9)
    assert ((tmp_path / "pipe").is_fifo(), (tmp_path / "link").is_symlink()) == (True, True)


# -- a delta


@pytest.fixture
def delta(client: Callable[..., Session], bundle: Path, tmp_path: Path) -> tuple[Path, Created]:
    """Create a delta of `bundle` with a newer chart."""
    newer = locked(client(), tmp_path / "project", f"reference: {ALB}, version: ~1.8", *ITEMS[1:])
    made = create(client(), newer, tmp_path / "b.tar", since=bundle, with_referrers=True)
    return tmp_path / "b.tar", made


def test_a_delta_omits_the_blobs_of_its_base(bundle: Path, delta: tuple[Path, Created]) -> None:
    path, made = delta
    assert made.base == Digest.of(bundle.read_bytes())
    record = parse_record(members(path)["bundle.json"], "b")
    assert record.omitted
    assert sum(record.omitted.values()) == made.omitted_size
    for digest in record.omitted:
        name = f"blobs/{digest.algorithm}/{digest.encoded}"
        assert name in members(bundle)
        assert name not in members(path)
    assert check(path, base=bundle).findings == []


def test_a_delta_of_a_delta_omits_the_blobs_of_both_bases(
    client: Callable[..., Session], bundle: Path, delta: tuple[Path, Created], tmp_path: Path
) -> None:
    project = locked(client(), tmp_path / "project", f"reference: {ALB}, version: ~1.8", ITEMS[1])
    made = create(client(), project, tmp_path / "c.tar", since=delta[0])
    kept = [name for name in members(tmp_path / "c.tar") if name.startswith("blobs/")]
    assert len(kept) == 2  # the manifests
    assert made.omitted > 0


def test_a_delta_is_reproducible_without_omitted_blobs_in_the_cache(client: Callable[..., Session], mar: Registry, tmp_path: Path) -> None:
    """The page lists the images of charts, but must not search a chart that the delta omits."""
    add_foo(mar, "1.0.0")
    project = locked(client(), tmp_path / "project", "reference: charts/foo, version: 1.0.0")
    create(client(), project, tmp_path / "old.tar")
    assert b"mcr.microsoft.com/aks/web:1.0" in members(tmp_path / "old.tar")["bundle.html"]
    create(client(), project, tmp_path / "full.tar", since=tmp_path / "old.tar")
    create(client(cache_dir=tmp_path / "empty"), project, tmp_path / "thin.tar", since=tmp_path / "old.tar")
    assert (tmp_path / "full.tar").read_bytes() == (tmp_path / "thin.tar").read_bytes()


def test_a_delta_of_a_tampered_base_is_refused(client: Callable[..., Session], project: Project, bundle: Path, tmp_path: Path) -> None:
    for name in ("marfetch.lock", "bundle.html", blob_names(members(bundle))[-1]):
        rewritten(bundle, tmp_path / "old.tar", flipped(name))
        with pytest.raises(IntegrityError) as caught:
            create(client(), project, tmp_path / "new.tar", since=tmp_path / "old.tar")
        assert (caught.value.code, str(tmp_path / "old.tar") in caught.value.message) == ("bundle-broken", True)
        assert not (tmp_path / "new.tar").exists()


def test_a_delta_of_another_base_is_reported(
    client: Callable[..., Session], delta: tuple[Path, Created], project: Project, tmp_path: Path
) -> None:
    create(client(), locked(client(), tmp_path / "other", ITEMS[0]), tmp_path / "other.tar")
    assert [(one.kind, one.name) for one in check(delta[0], base=tmp_path / "other.tar").findings] == [
        ("wrong", str(tmp_path / "other.tar"))
    ]


def test_a_delta_never_overwrites_its_base(client: Callable[..., Session], project: Project, bundle: Path) -> None:
    with pytest.raises(InputError):
        create(client(), project, bundle, since=bundle)


# -- verify


def without(name: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        del files[name]

    return change


def flipped(name: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        data = bytearray(files[name])
        data[len(data) // 2] ^= 1
        files[name] = bytes(data)

    return change


@pytest.mark.parametrize("name", FIRST)
def test_each_missing_file_is_named(ready: Path, tmp_path: Path, name: str) -> None:
    found = told(rewritten(ready, tmp_path / "x.tar", without(name)))
    assert ("missing", name) in found or found == [("unreadable", "bundle-broken")] or found == [("unreadable", "malformed")]


@pytest.mark.parametrize("name", FIRST)
def test_each_changed_file_is_noticed(ready: Path, tmp_path: Path, name: str) -> None:
    assert told(rewritten(ready, tmp_path / "x.tar", flipped(name)))


def test_a_changed_lock_is_wrong_even_if_unreadable(ready: Path, tmp_path: Path) -> None:
    """One changed byte can make it look like a lock file with a newer schema. Outside a bundle, that has another exit code."""

    def newer(files: dict[str, bytes]) -> None:
        files["marfetch.lock"] = files["marfetch.lock"].replace(b'"schema": 1', b'"schema": 3')

    path = rewritten(ready, tmp_path / "x.tar", newer)
    assert told(path) == [("wrong", "marfetch.lock")]
    rewritten(path, path, without("bundle.json"))
    assert told(path) == [("missing", "bundle.json"), ("wrong", "marfetch.lock")]


def test_each_missing_or_changed_blob_is_named(ready: Path, tmp_path: Path) -> None:
    for name in blob_names(members(ready)):
        digest = ":".join(name.split("/")[1:])
        assert ("missing", digest) in told(rewritten(ready, tmp_path / "x.tar", without(name)))
        assert ("wrong", digest) in told(rewritten(ready, tmp_path / "x.tar", flipped(name)))


def test_each_added_file_is_named(ready: Path, tmp_path: Path) -> None:
    data = b"an unreferenced blob"
    name = f"blobs/sha256/{Digest.of(data).encoded}"

    def added(files: dict[str, bytes]) -> dict[str, bytes]:
        first = {key: files[key] for key in FIRST}
        return first | dict(sorted(({key: one for key, one in files.items() if key not in FIRST} | {name: data}).items()))

    assert told(rewritten(ready, tmp_path / "x.tar", added)) == [("extra", str(Digest.of(data)))]
    assert ("extra", "note.txt") in told(rewritten(ready, tmp_path / "x.tar", lambda files: {**files, "note.txt": b"hello"}))


def test_moved_and_repeated_members_are_noticed(ready: Path, tmp_path: Path) -> None:
    assert {sort for sort, _ in told(rewritten(ready, tmp_path / "x.tar", lambda files: dict(reversed(files.items()))))} == {"wrong"}
    for moved in ("oci-layout", "bundle.html", blob_names(members(ready))[3]):
        path = rewritten(ready, tmp_path / "x.tar", lambda files, moved=moved: files | {moved: files.pop(moved)})  # type: ignore[misc]
        assert told(path) == [("wrong", moved)]
    twice = ready.read_bytes().rstrip(b"\0")
    twice += bytes(-len(twice) % 512)
    with tarfile.open(ready) as archive:
        name = archive.getnames()[-1]
    data = members(ready)[name]
    (tmp_path / "y.tar").write_bytes(twice + header(name, len(data)) + data + bytes(-len(data) % 512) + bytes(1024))
    assert told(tmp_path / "y.tar") == [("unreadable", "malformed")]


def test_every_member_with_another_header_and_every_directory_is_named(ready: Path, tmp_path: Path) -> None:
    files = members(ready)
    first, second = blob_names(files)[0], blob_names(files)[-1]
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            if name == first:
                for directory in ("blobs", "blobs/sha256"):
                    member = tarfile.TarInfo(directory)
                    member.type = tarfile.DIRTYPE
                    archive.addfile(member)
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 7 if name in (first, second) else 0
            archive.addfile(member, io.BytesIO(data))
        member.type, member.size, member.name = tarfile.DIRTYPE, 0, "last"
        archive.addfile(member)
    assert told(tmp_path / "x.tar") == [
        ("extra", "blobs/"),
        ("extra", "blobs/sha256/"),
        ("extra", "last/"),
        ("wrong", first),
        ("wrong", second),
    ]


def test_links_and_unsafe_names_are_refused_with_5(ready: Path, tmp_path: Path) -> None:
    for name, sort in (("../evil", tarfile.REGTYPE), ("blobs/x", tarfile.SYMTYPE), ("/etc/x", tarfile.REGTYPE)):
        path = tmp_path / "x.tar"
        path.write_bytes(ready.read_bytes())
        with tarfile.open(path, "a", format=tarfile.GNU_FORMAT) as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = sort, "/etc/passwd"
            archive.addfile(member)
        assert told(path) == [("unreadable", "bundle-broken")]


def test_a_flipped_byte_anywhere_is_noticed(ready: Path, tmp_path: Path) -> None:
    data = ready.read_bytes()
    chance = random.Random(20)
    positions = {chance.randrange(len(data)) for _ in range(150)} | set(range(0, 512, 37)) | {len(data) - 1, len(data) - 1024}
    for position in sorted(positions):
        changed = bytearray(data)
        changed[position] ^= 1 << chance.randrange(8)
        (tmp_path / "x.tar").write_bytes(changed)
        assert told(tmp_path / "x.tar"), position


def test_a_bundle_truncated_anywhere_is_noticed(ready: Path, tmp_path: Path) -> None:
    data = ready.read_bytes()
    for size in range(0, len(data), 512):
        (tmp_path / "x.tar").write_bytes(data[:size])
        assert told(tmp_path / "x.tar"), size
    (tmp_path / "x.tar").write_bytes(data + bytes(512))
    assert told(tmp_path / "x.tar")


def test_a_repacked_bundle_is_noticed(ready: Path, tmp_path: Path) -> None:
    with tarfile.open(ready) as archive:
        archive.extractall(tmp_path / "folder", filter="data")
    assert told(tmp_path / "folder") == []
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "folder", ".")
    assert ("wrong",) in {one[:1] for one in told(tmp_path / "x.tar")}


def test_extra_files_in_a_folder_are_named(ready: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with tarfile.open(ready) as archive:
        archive.extractall(folder, filter="data")
    (folder / "note.txt").write_text("hello")
    (folder / "blobs" / "more").write_text("hello")
    (folder / "blobs" / "sha256" / "more").write_text("hello")
    (folder / "more" / "of").mkdir(parents=True)
    assert told(folder) == [("extra", "blobs/more"), ("extra", "blobs/sha256/more"), ("extra", "more/"), ("extra", "note.txt")]


def sealed(files: dict[str, bytes], *, lock: bytes | None = None, omitted: dict[Digest, int] | None = None) -> None:
    """Change the record of a bundle and seal it again, as a forger would."""
    if lock is not None:
        files["marfetch.lock"] = lock
    record = parse_record(files["bundle.json"], "x")
    named = {name: Digest.of(files[name]) for name in record.files}
    base = record.base or (Base(Digest.of(b"base"), 4) if omitted else None)
    files["bundle.json"] = record_bytes(Record(named, base, {**(record.omitted or {}), **(omitted or {})} if base else None))


def test_a_delta_that_omits_a_manifest_is_wrong(ready: Path, tmp_path: Path) -> None:
    for one in json.loads(members(ready)["index.json"])["manifests"]:
        digest = Digest.parse(one["digest"])

        def without_it(files: dict[str, bytes], digest: Digest = digest, size: int = one["size"]) -> None:
            del files[f"blobs/sha256/{digest.encoded}"]
            sealed(files, omitted={digest: size})

        assert ("wrong", str(digest)) in told(rewritten(ready, tmp_path / "x.tar", without_it))


@pytest.mark.parametrize("part", ["size of a layer", "media type of a layer", "size of the artifact", "another artifact"])
def test_a_lock_that_contradicts_the_content_is_wrong(ready: Path, tmp_path: Path, part: str) -> None:
    def changed(files: dict[str, bytes]) -> None:
        lock = parse_lock(files["marfetch.lock"], Path("marfetch.lock"))
        entries = {entry.name: entry for entry in lock.entries}
        chart, image = entries["alb-controller"], entries["minimal-os"]
        assert image.artifact is not None
        (layer,) = chart.layers
        if part == "size of a layer":
            chart = replace(chart, layers=(replace(layer, descriptor=replace(layer.descriptor, size=layer.descriptor.size + 1)),))
        elif part == "media type of a layer":
            chart = replace(chart, layers=(replace(layer, descriptor=replace(layer.descriptor, media_type="text/plain")),))
        elif part == "size of the artifact":
            image = replace(image, artifact=replace(image.artifact, size=image.artifact.size + 1))
        else:
            image = replace(image, artifact=chart.manifest, config=chart.config, layers=chart.layers)
        sealed(files, lock=lock_bytes(make_lock((entries | {chart.name: chart, image.name: image}).values())))

    (only,) = told(rewritten(ready, tmp_path / "x.tar", changed))
    assert only[0] == "wrong"
    assert ("alb-controller" if "layer" in part else "minimal-os") in only[1]


def test_another_artifact_under_a_locked_name_is_wrong(ready: Path, tmp_path: Path) -> None:
    def swapped(files: dict[str, bytes]) -> None:
        index = json.loads(files["index.json"])
        named = [one for one in index["manifests"] if "annotations" in one]
        for key in ("digest", "size", "mediaType"):
            named[0][key], named[1][key] = named[1][key], named[0][key]
        files["index.json"] = json.dumps(index, separators=(",", ":")).encode()
        record = parse_record(files["bundle.json"], "x")
        files["bundle.json"] = record_bytes(type(record)({**record.files, "index.json": Digest.of(files["index.json"])}))

    assert {sort for sort, _ in told(rewritten(ready, tmp_path / "x.tar", swapped))} == {"wrong"}


def test_a_plain_layout_is_not_a_bundle(recipe: Layout) -> None:
    assert {("missing", "bundle.json"), ("missing", "marfetch.lock")} <= set(told(recipe.root))


def test_a_repeated_index_entry_is_counted_and_read_once(client: Callable[..., Session], mar: Registry, tmp_path: Path) -> None:
    mar.add_blob(b"{}")
    below = mar.add_artifact("aks/deep", "leaf", ("thing.txt", b"a thing"))
    sizes = [below.size, len(b"a thing"), len(b"{}")]
    for tag in ("inner", "outer"):
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor_json(below)] * 2}
        below = mar.add_manifest("aks/deep", tag, json.dumps(document).encode())
        sizes.append(below.size)
    layout = Layout(tmp_path / "layout")
    for name, (media_type, raw) in mar.manifests.items():
        manifest = parse_manifest(raw, what=name, media_type=media_type)
        layout.add(manifest)
        layout.tag(Reference.parse(f"{mar.host}/aks/deep:outer"), manifest.descriptor)
    for data in mar.blobs.values():
        layout.path(Digest.of(data)).write_bytes(data)
    layout.names.flush()
    with opened(layout.root) as found:
        found.contents.load()
        (item,) = [one for one in bundle_items(found.contents, None) if one.reference.tag]
        assert (item.size, item.omitted) == (sum(sizes), 0)


# -- diff


def test_diff_of_equal_and_different_bundles(bundle: Path, delta: tuple[Path, Created]) -> None:
    with opened(bundle) as old, opened(delta[0]) as new:
        assert differences(old, old) == []
        (one,) = differences(old, new)
    assert (one.change, one.name) == ("changed", "alb-controller")
    assert one.old is not None
    assert one.new is not None
    assert (one.old.version, one.new.version) == ("1.7.12", "1.8.12")


def test_added_referrers_are_a_difference(client: Callable[..., Session], project: Project, bundle: Path, tmp_path: Path) -> None:
    create(client(), project, tmp_path / "plain.tar")
    with opened(tmp_path / "plain.tar") as old, opened(bundle) as new:
        (one,) = differences(old, new)
    assert one.change == "referrers"
    assert [each[0] for each in one.referrers] == ["+"]


# -- the command line


@pytest.fixture
def marfetch(mar: Registry, project: Project, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    def do(*words: object) -> tuple[int, str, str]:
        return ended(started(*words, cwd=project.directory, environment=surroundings(mar, tmp_path / "cache")))

    return do


@pytest.mark.slow
def test_the_bundle_commands_work_together(marfetch: Callable[..., tuple[int, str, str]], project: Project) -> None:
    code, out, _ = marfetch("bundle", "create", "-o", "a.tar", "--referrers", "--json")
    made = json.loads(out)
    assert (code, made["command"], made["data"]["artifacts"], made["data"]["referrers"]) == (0, "bundle create", 3, 1)
    assert made["data"]["digest"] == str(Digest.of((project.directory / "a.tar").read_bytes()))
    assert marfetch("bundle", "verify", "a.tar")[0] == 0
    assert marfetch("bundle", "diff", "a.tar", "a.tar")[0] == 0
    marfetch("bundle", "create", "-o", "b.tar")
    assert marfetch("bundle", "diff", "a.tar", "b.tar")[0] == 1
    data = bytearray((project.directory / "a.tar").read_bytes())
    data[data.index(b"\x1f\x8b") + 20] ^= 1  # change a byte inside a packed chart
    (project.directory / "a.tar").write_bytes(data)
    code, out, err = marfetch("bundle", "verify", "a.tar", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (5, "bundle-broken")
    assert sum(len(json.loads(out)["data"][sort]) for sort in ("missing", "extra", "wrong")) == 1
    assert "error:" in err
    assert marfetch("bundle", "verify", "none.tar")[0] == 9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.tar.gz", "a.TGZ", "a.tar.zst"])
def test_a_name_that_promises_compression_is_warned_of(marfetch: Callable[..., tuple[int, str, str]], project: Project, name: str) -> None:
    code, out, err = marfetch("bundle", "create", "-o", name)
    assert (code, out.partition("\t")[0]) == (0, name)
    assert f"warning: `{name}` will not be compressed" in err
    assert marfetch("bundle", "verify", name)[0] == 0


def test_a_bundle_is_not_written_to_stdout(marfetch: Callable[..., tuple[int, str, str]], project: Project) -> None:
    code, out, err = marfetch("bundle", "create", "-o", "-")
    assert (code, out) == (2, "")
    assert "cannot be written to stdout" in err
    assert not (project.directory / "-").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bundle.json", "marfetch.lock", "bundle.html"])
def test_serve_diff_and_inspect_refuse_a_tampered_bundle(
    marfetch: Callable[..., tuple[int, str, str]], ready: Path, tmp_path: Path, name: str
) -> None:
    change = without(name) if name == "bundle.json" else flipped(name)
    path = rewritten(ready, tmp_path / "x.tar", change)
    for words in (("serve", path, "--port", "0"), ("bundle", "diff", ready, path), ("bundle", "diff", path, ready)):
        code, out, _ = marfetch(*words, "--json")
        said = json.loads(out)
        assert (code, said["ok"], said["error"]["code"], "data" in said) == (5, False, "bundle-broken", False)
        assert str(path) in said["error"]["message"]
    code, out, err = marfetch("bundle", "inspect", path, "--json")
    said = json.loads(out)
    assert (code, said["ok"], said["error"]["code"], len(said["data"]["artifacts"])) == (5, False, "bundle-broken", 3)
    assert [one["name"] for sort in ("missing", "extra", "wrong") for one in said["data"][sort]] == [name]
    assert f"`{name}`" in err


def test_a_tampered_blob_is_noticed_by_diff_but_not_by_inspect(
    marfetch: Callable[..., tuple[int, str, str]], ready: Path, tmp_path: Path
) -> None:
    """`inspect` reads no blobs, and `serve` hashes each blob when it is requested."""
    files = members(ready)
    path = rewritten(ready, tmp_path / "x.tar", flipped(max(blob_names(files), key=lambda name: len(files[name]))))
    assert marfetch("bundle", "diff", ready, path)[0] == 5
    assert marfetch("bundle", "inspect", path)[0] == 0


def test_inspect_names_the_base_of_omitted_content(
    marfetch: Callable[..., tuple[int, str, str]], bundle: Path, delta: tuple[Path, Created]
) -> None:
    items = json.loads(marfetch("bundle", "inspect", delta[0], "--json")[1])["data"]["artifacts"]
    assert {one["name"]: bool(one["lines"]) for one in items} == {one["name"]: not one["omitted"] for one in items}
    assert {bool(one["omitted"]) for one in items} == {True, False}
    code, out, _ = marfetch("bundle", "inspect", delta[0])
    told = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert len([one for one in told if one[:2] == ["", "left out"]]) == len([one for one in items if one["omitted"]])
    assert all(str(Digest.of(bundle.read_bytes())) in one[2] for one in told if one[:2] == ["", "left out"])


@pytest.mark.tool
def test_the_commands_printed_by_inspect_work(
    marfetch: Callable[..., tuple[int, str, str]], project: Project, tool: Tool, tmp_path: Path
) -> None:
    marfetch("bundle", "create", "-o", "a.tar", "--referrers")
    code, out, _ = marfetch("bundle", "inspect", "a.tar", "--json")
    assert code == 0
    chart = next(one for one in json.loads(out)["data"]["artifacts"] if one["kind"] == "chart")
    expected = chart["layers"][0]["digest"]
    for name in ("oras", "regctl"):
        place = tmp_path / name
        place.mkdir()
        line = " && ".join(chart["lines"][name]).replace("a.tar", str(project.directory / "a.tar"))
        run("sh", "-c", line, cwd=place, PATH=f"{tool(name).parent}:{os.environ['PATH']}")
        (file,) = (path for path in place.iterdir() if path.is_file())
        assert file.name == "alb-controller-1.7.12.tgz"
        assert str(Digest.of(file.read_bytes())) == expected
    with subprocess.Popen(
        [sys.executable, "-m", "marfetch", "serve", str(project.directory / "a.tar"), "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        host = server.stdout.readline().strip().removeprefix("http://")
        for name in ("crane", "helm"):
            place = tmp_path / name
            place.mkdir()
            program = tool("helm4" if name == "helm" else name)
            line = chart["lines"][name][1].replace("127.0.0.1:5000", host).replace(f"{name} ", f"{program} ", 1)
            run("sh", "-c", line, cwd=place)
            assert str(Digest.of((place / "alb-controller-1.7.12.tgz").read_bytes())) == expected
        server.terminate()


def test_other_tar_readers_read_long_names() -> None:
    from marfetch.bundle.format import Part, whole, write_archive

    name = "blobs/sha512/" + "a" * 128
    raw = io.BytesIO()
    write_archive(raw, [Part("oci-layout", 2, whole(b"{}")), Part(name, 3, whole(b"abc"))])
    assert len(raw.getvalue()) % 10240 == 0
    raw.seek(0)
    with tarfile.open(fileobj=raw) as archive:
        assert archive.getnames() == ["oci-layout", name]


# -- how often content is parsed and hashed


class _Counting:
    """A hash that counts its result in `hashed`, once. Hashes that the test registry computes are not counted."""

    def __init__(self, inner: Any, hashed: Counter[str]) -> None:
        self._inner = inner
        self._hashed = hashed
        self._is_counted = is_registry()

    def update(self, data: bytes) -> None:
        self._inner.update(data)

    def hexdigest(self) -> str:
        found: str = self._inner.hexdigest()
        self._hashed[found] += not self._is_counted
        self._is_counted = True
        return found


def is_registry() -> bool:
    """Return whether the current thread belongs to the registry of the test."""
    return "process_request_thread" in threading.current_thread().name


@pytest.mark.parametrize(("is_cached", "blob", "manifest"), [(False, 2, 2), (True, 1, 2)], ids=["from the registry", "from the cache"])
def test_each_manifest_is_parsed_once_and_each_blob_is_hashed_once_in_and_once_out(
    client: Callable[..., Session],
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_cached: bool,
    blob: int,
    manifest: int,
) -> None:
    """A manifest is hashed when it is read and when it is written to the archive. A cached blob is hashed only when it is written."""
    cache = tmp_path / "counted"
    if is_cached:
        create(client(cache_dir=cache), project, tmp_path / "first.tar", with_referrers=True)
    parsed: Counter[str] = Counter()
    hashed: Counter[str] = Counter()
    new, parse = hashlib.new, oci.parse_manifest

    def counted(raw: bytes, **more: Any) -> Any:
        parsed[hashlib.sha256(raw).hexdigest()] += not is_registry()
        return parse(raw, **more)

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "new", lambda *words: _Counting(new(*words), hashed))
        for module in (layout_module, graph, registry_module):
            patch.setattr(module, "parse_manifest", counted)
        create(client(cache_dir=cache), project, tmp_path / "a.tar", with_referrers=True)
    blobs = {name.rpartition("/")[2]: data for name, data in members(tmp_path / "a.tar").items() if name.startswith("blobs/")}
    manifests = {name for name, data in blobs.items() if b'"schemaVersion"' in data}
    assert len(manifests) > 4
    assert {name: parsed[name] for name in blobs} == {name: name in manifests for name in blobs}
    assert {name: hashed[name] for name in blobs} == {name: manifest if name in manifests else blob for name in blobs}
