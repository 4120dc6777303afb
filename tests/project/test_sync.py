"""`lock`, `sync` and `outdated`: kept entries, refusals, and the state of all files afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from marfetch.client.session import Session
from marfetch.errors import Error, InputError, IntegrityError, LockError
from marfetch.oci import Digest, descriptor_json
from marfetch.project.lockfile import lock_bytes, make_lock, read_lock
from marfetch.project.locking import misfits, upgrades
from marfetch.project.outdated import outdated
from marfetch.project.sync import Shard, sync
from marfetch.project.wanted import Project, read_project

from ..world.command import Run, marfetch, surroundings
from ..world.content import ALB, MODULE
from ..world.progress import Heard
from ..world.projects import Make, lock, outcomes
from ..world.registry import Registry


def files(project: Project) -> set[str]:
    return {str(path.relative_to(project.directory)) for path in project.directory.rglob("*") if path.is_file()} - {
        "marfetch.yaml",
        "marfetch.lock",
    }


# -- lock


def test_a_lock_holds_everything_that_was_found(client: Callable[..., Session], make: Make) -> None:
    project = make(f"reference: {ALB}, version: ~1.7, destination: charts")
    lock(client(), project)
    (entry,) = read_lock(project.lock_path).entries
    assert (entry.name, entry.version, entry.tag, entry.kind) == ("alb-controller", "1.7.12", "1.7.12", "chart")
    assert entry.reference.digest == entry.digest
    assert entry.layers[0].file == "alb-controller-1.7.12.tgz"
    assert entry.layers[0].descriptor.size > 0
    assert entry.options == {"destination": "charts"}


def test_what_is_locked_and_still_fits_stays(client: Callable[..., Session], make: Make) -> None:
    lock(client(), make(f"reference: {ALB}, version: ~1.7"))
    project = make(f"reference: {ALB}, version: ^1.7")
    before = project.lock_path.read_bytes()
    lock(client(), project)
    assert project.lock_path.read_bytes() == before
    lock(client(), project, upgrade=True)
    assert read_lock(project.lock_path).entries[0].version == "1.11.4"


def test_only_the_named_one_is_upgraded(client: Callable[..., Session], make: Make) -> None:
    lock(client(), make(f"reference: {ALB}, version: ~1.7", f"reference: {MODULE}, version: <0.9.1"))
    project = make(f"reference: {ALB}, version: ^1.7", f"reference: {MODULE}, version: <1")
    lock(client(), project, "storage-account")
    locked = read_lock(project.lock_path).by_name
    assert (locked["alb-controller"].version, locked["storage-account"].version) == ("1.7.12", "0.14.0")
    with pytest.raises(InputError) as caught:
        upgrades(project, ["storage-acount"])
    assert caught.value.hint == "did you mean `storage-account`?"


def test_entries_that_no_longer_match_are_resolved_again_or_removed(client: Callable[..., Session], make: Make) -> None:
    lock(client(), make(f"reference: {ALB}, version: ~1.7", f"reference: {MODULE}"))
    project = make(f"reference: {ALB}, version: ~1.8")
    lock(client(), project)
    assert [entry.version for entry in read_lock(project.lock_path).entries] == ["1.8.12"]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (f"reference: {ALB}, version: ~1.8", "range"),
        (f"reference: '{ALB}:1.7.9'", "tag"),
        (f"reference: '{ALB}@{Digest.of(b'x')}'", "sha256"),
        (f"reference: {MODULE}, name: alb-controller", "is locked"),
        (f"reference: mcr.microsoft.com/{ALB}, version: ~1.7", "is locked"),
        (f"reference: {ALB}, version: ~1.7, name: other", "not in the lock"),
        (f"reference: {ALB}, version: ~1.7, untar: true", "`untar`"),
        (f"reference: {ALB}, version: ~1.7, destination: x", "`destination`"),
    ],
)
def test_an_outdated_lock_is_reported_without_a_request(
    client: Callable[..., Session], mar: Registry, make: Make, wanted: str, reason: str
) -> None:
    lock(client(), make(f"reference: {ALB}, version: ~1.7"))
    mar.asked.clear()
    project = make(wanted)
    assert reason in misfits(project, read_lock(project.lock_path))[0]
    with pytest.raises(LockError) as caught:
        sync(client(), project, as_locked=True)
    assert (caught.value.code, caught.value.exit_code) == ("lock-outdated", 8)
    assert mar.asked == []


def test_the_same_facts_are_the_same_bytes_in_any_order_and_by_any_tool(client: Callable[..., Session], make: Make) -> None:
    items = [f"reference: {ALB}, version: ~1.7", f"reference: {MODULE}"]
    project = make(*items)
    lock(client(), project)
    before = project.lock_path.read_bytes()
    project = make(*reversed(items))
    project.lock_path.unlink()
    lock(client(), project)
    assert project.lock_path.read_bytes() == before
    older = before.replace(b'"tool": "marfetch ', b'"tool": "marfetch 0.0.1-')
    project.lock_path.write_bytes(older)
    lock(client(), project)
    assert project.lock_path.read_bytes() == older


def test_one_failure_leaves_the_lock_as_it_was(client: Callable[..., Session], make: Make) -> None:
    lock(client(), make(f"reference: {ALB}, version: ~1.7"))
    project = make(f"reference: {ALB}, version: ~1.8", "reference: aks/missing")
    before = project.lock_path.read_bytes()
    with pytest.raises(Error):
        lock(client(), project)
    assert project.lock_path.read_bytes() == before


def test_an_artifact_that_is_to_be_verified_is_never_taken_unverified(
    client: Callable[..., Session], make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "none"))
    project = make(f"reference: {ALB}, verify: true")
    with pytest.raises(Error) as caught:
        lock(client(), project)
    assert (caught.value.code, caught.value.exit_code) == ("POLICY_MISSING", 2)
    assert not project.lock_path.exists()
    assert outcomes(sync(client(), project)) == {"alb-controller": "failed"}
    assert files(project) == set()


# -- moved tags


def test_a_moved_tag_is_refused_until_it_is_upgraded(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    old = mar.add_artifact("aks/foo", "1.0.0", ("foo.txt", b"old"))
    project = make("reference: aks/foo", f"reference: {ALB}")
    assert outcomes(sync(client(), project)) == {"foo": "fetched", "alb-controller": "fetched"}
    new = mar.add_artifact("aks/foo", "1.0.0", ("foo.txt", b"new"))
    before = project.lock_path.read_bytes()
    with pytest.raises(LockError) as caught:
        lock(client(), project)
    assert (caught.value.code, caught.value.exit_code) == ("tag-drifted", 8)
    assert str(old.digest) in caught.value.message
    assert str(new.digest) in caught.value.message
    result = sync(client(), project)
    assert outcomes(result) == {"foo": "drifted", "alb-controller": "unchanged"}
    assert result[0].error is not None
    assert result[0].error.exit_code == 8
    assert (project.directory / "foo.txt").read_bytes() == b"old"
    assert project.lock_path.read_bytes() == before
    # The locked content can still be downloaded by its digest.
    (project.directory / "foo.txt").unlink()
    assert outcomes(sync(client(), project, as_locked=True)) == {"foo": "fetched", "alb-controller": "unchanged"}
    lock(client(), project, "foo")
    assert outcomes(sync(client(), project)) == {"foo": "replaced", "alb-controller": "unchanged"}
    assert (project.directory / "foo.txt").read_bytes() == b"new"


def test_a_tag_that_is_gone_is_no_drift_while_its_digest_is_there(
    client: Callable[..., Session], mar: Registry, make: Make, heard: Heard
) -> None:
    mar.add_artifact("aks/foo", "1.0.0", ("foo.txt", b"x"))
    project = make("reference: 'aks/foo:1.0.0'")
    lock(client(), project)
    del mar.manifests["aks/foo 1.0.0"]
    assert outcomes(sync(client(), project)) == {"foo": "fetched"}
    assert any("is gone" in warning for warning in heard.warnings)


# -- sync


def test_files_are_brought_to_what_the_lock_says_and_nothing_else_is_touched(client: Callable[..., Session], make: Make) -> None:
    project = make(
        f"reference: {ALB}, version: ~1.7, destination: charts",
        f"reference: {MODULE}, version: 0.9.1",
        f"reference: {ALB}, name: tree, version: ~1.7, destination: trees, untar: true",
    )
    own = project.directory / "charts" / "own.txt"
    own.parent.mkdir()
    own.write_text("mine")
    assert set(outcomes(sync(client(), project)).values()) == {"fetched"}
    chart = project.directory / "charts" / "alb-controller-1.7.12.tgz"
    whole = chart.read_bytes()
    chart.write_bytes(whole + b"x")
    (project.directory / "trees" / "alb-controller" / "Chart.yaml").write_text("edited")
    assert outcomes(sync(client(), project)) == {"alb-controller": "replaced", "storage-account": "unchanged", "tree": "replaced"}
    assert chart.read_bytes() == whole
    assert own.read_text() == "mine"
    assert set(outcomes(sync(client(), project)).values()) == {"unchanged"}


def test_a_second_sync_asks_for_no_blob_and_a_locked_one_for_nothing(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    project = make(f"reference: {ALB}, version: ~1.7", f"reference: {MODULE}")
    sync(client(), project)
    mar.asked.clear()
    sync(client(), project)
    assert set(mar.kinds()) == {"manifest"}
    mar.asked.clear()
    sync(client(), project, as_locked=True)
    assert mar.asked == []


def test_a_locked_sync_asks_for_no_tag(client: Callable[..., Session], mar: Registry, make: Make, tmp_path: Path) -> None:
    project = make(f"reference: {ALB}, version: ~1.7")
    lock(client(), project)
    mar.asked.clear()
    sync(client(cache_dir=tmp_path / "fresh"), project, as_locked=True)
    manifests = [asked.target for asked in mar.asked if asked.kind == "manifest"]
    assert manifests
    assert all("sha256:" in target for target in manifests)
    assert "tags" not in mar.kinds()


def test_one_failure_does_not_stop_the_others(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    mar.add_artifact("aks/lost", "1.0.0", ("lost.txt", b"lost"))
    mar.on("data", rf".*{Digest.of(b'lost').encoded}.*").answers(404)
    mar.on("blob", rf".*{Digest.of(b'lost').encoded}.*").answers(404)
    project = make("reference: aks/lost", "reference: aks/missing", f"reference: {ALB}", f"reference: {MODULE}, kind: chart")
    result = sync(client(), project)
    assert outcomes(result) == {"lost": "failed", "missing": "failed", "alb-controller": "fetched", "storage-account": "failed"}
    assert [one.error.exit_code for one in result if one.error] == [3, 3, 4]


def test_two_that_want_one_name_fail_and_the_others_do_not(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    mar.add_artifact("a/foo", "1.0.0", ("same.txt", b"one"))
    mar.add_artifact("b/foo", "1.0.0", ("same.txt", b"two"))
    project = make("reference: a/foo", "reference: b/foo, name: bar", f"reference: {ALB}")
    result = sync(client(), project)
    assert outcomes(result) == {"foo": "failed", "bar": "failed", "alb-controller": "fetched"}
    assert {one.error.code for one in result if one.error} == {"name-clash"}
    assert not (project.directory / "same.txt").exists()


def test_a_rehearsal_walks_the_whole_plan_and_writes_nothing(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    mar.add_artifact("aks/foo", "1.0.0", ("foo.txt", b"old"))
    project = make("reference: aks/foo", f"reference: {ALB}", f"reference: {MODULE}, untar: true", "reference: aks/missing")
    result = sync(client(), project, is_rehearsal=True)
    assert outcomes(result) == {
        "foo": "would-fetch",
        "alb-controller": "would-fetch",
        "storage-account": "would-fetch",
        "missing": "failed",
    }
    assert not project.lock_path.exists()
    assert files(project) == set()
    assert "data" not in mar.kinds()
    (project.directory / "foo.txt").write_text("mine")
    assert outcomes(sync(client(), project, is_rehearsal=True))["foo"] == "would-replace"
    assert (project.directory / "foo.txt").read_text() == "mine"


def test_what_refers_to_it_comes_too(client: Callable[..., Session], make: Make) -> None:
    project = make(
        "reference: 'azurecleanroom/cli/cleanroom-whl:8.0.0', referrers: application/spdx+json",
        "reference: 'azurecleanroom/cli/cleanroom-whl:6.0.0', name: old",
    )
    result = sync(client(), project)
    assert [len(one.files) for one in result] == [2, 1]
    assert len(read_lock(project.lock_path).by_name["cleanroom-whl"].referrers) == 1
    assert any(name.endswith(".spdx.json") for name in files(project))


def test_a_link_does_not_lead_out_of_the_project(client: Callable[..., Session], make: Make, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    project = make(f"reference: {ALB}, destination: vendor/charts", f"reference: {MODULE}, destination: inside/vendor")
    (project.directory / "vendor").symlink_to(outside)
    assert outcomes(sync(client(), project)) == {"alb-controller": "failed", "storage-account": "fetched"}
    assert list(outside.iterdir()) == []


def test_many_artifacts_of_one_repository_need_its_list_once(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    project = make(
        *(f"reference: {ALB}, version: '{text}', name: n{number}" for number, text in enumerate(("^1", "~1.7", ">=1", "1.x", "<1.8")))
    )
    lock(client(), project)
    assert mar.kinds().count("tags") == 1


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_cover_everything_once_however_they_are_counted(make: Make, first: int, count: int) -> None:
    project = make(*(f"reference: aks/foo{number}" for number in range(7)))
    found = [item.name for index in range(first, first + count) for item in Shard.parse(f"{index}/{count}").of(project).items]
    assert sorted(found) == sorted(item.name for item in project.items)


@pytest.mark.parametrize("text", ["", "1", "1/0", "3/2", "-1/2", "a/b", "1/2/3", "1.0/2"])
def test_an_invalid_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Shard.parse(text)


def test_a_shard_touches_its_own_files_only_and_keeps_the_rest_of_the_lock(client: Callable[..., Session], make: Make) -> None:
    project = make(f"reference: {ALB}, version: ~1.7", f"reference: {MODULE}, version: 0.9.1")
    lock(client(), project)
    before = project.lock_path.read_bytes()
    assert outcomes(sync(client(), project, shard=Shard.parse("1/2"), as_locked=True)) == {"storage-account": "fetched"}
    assert outcomes(sync(client(), project, shard=Shard.parse("2/2"))) == {"alb-controller": "fetched"}
    assert project.lock_path.read_bytes() == before


@pytest.mark.parametrize("as_locked", [False, True])
def test_a_lock_that_was_edited_is_noticed_before_anything_is_asked_or_written(
    client: Callable[..., Session], mar: Registry, make: Make, as_locked: bool
) -> None:
    project = make(f"reference: {ALB}, version: ~1.7")
    lock(client(), project)
    text = project.lock_path.read_text().replace('"kind": "chart"', '"kind": "bicep"')
    project.lock_path.write_text(text)
    mar.asked.clear()
    with pytest.raises(IntegrityError) as caught:
        sync(client(), project, as_locked=as_locked)
    assert caught.value.code == "lock-edited"
    assert mar.asked == []
    assert project.lock_path.read_text() == text
    assert files(project) == set()


@pytest.mark.slow
def test_many_entries_cost_a_bounded_number_of_requests(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    count = 10_000
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/x.y",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2},
            "layers": [
                {
                    "mediaType": "text/plain",
                    "digest": str(Digest.of(b"x")),
                    "size": 1,
                    "annotations": {"org.opencontainers.image.title": "x.txt"},
                }
            ],
        }
    ).encode()
    mar.blobs[str(Digest.of(b"x"))] = b"x"
    mar.add_manifest("aks/foo", "1.0.0", raw)
    project = make("reference: 'aks/foo:1.0.0', name: n0")
    lock(client(), project)
    (entry,) = read_lock(project.lock_path).entries
    project = make(*(f"reference: 'aks/foo:1.0.0', name: n{number}" for number in range(count)))
    project.lock_path.write_bytes(lock_bytes(make_lock(replace(entry, name=f"n{number}") for number in range(count))))
    mar.asked.clear()
    result = sync(client(), project, as_locked=True)
    assert len(result) == count
    assert [one.outcome for one in result].count("unchanged") + [one.outcome for one in result].count("fetched") == count
    assert len(mar.asked) <= 3


# -- outdated


def news(client: Session, project: Project, today: date = date(2026, 1, 1)) -> dict[str, Any]:
    return {one.entry.name: one for one in outdated(client, project, read_lock(project.lock_path), today=today)}


def test_newer_versions_inside_and_outside_the_range_are_distinguished(client: Callable[..., Session], make: Make) -> None:
    lock(client(), make(f"reference: '{ALB}:1.7.9', name: alb", f"reference: {MODULE}"))
    project = make(f"reference: {ALB}, version: ~1.7, name: alb", f"reference: {MODULE}")
    found = news(client(), project)
    assert (str(found["alb"].in_range.version), str(found["alb"].newest.version)) == ("1.7.12", "1.11.4")
    assert not found["storage-account"].is_found


def test_a_tag_that_is_wanted_by_name_has_news_beyond_it_only(client: Callable[..., Session], make: Make) -> None:
    project = make(f"reference: '{ALB}:1.7.9'")
    lock(client(), project)
    found = news(client(), project)["alb-controller"]
    assert (found.in_range, str(found.newest.version)) == (None, "1.11.4")


def test_a_moved_and_a_missing_tag_are_news(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    mar.add_artifact("aks/moved", "latest", ("a.txt", b"old"))
    mar.add_artifact("aks/gone", "1.0.0", ("b.txt", b"x"))
    project = make("reference: 'aks/moved:latest'", "reference: 'aks/gone:1.0.0'")
    lock(client(), project)
    new = mar.add_artifact("aks/moved", "latest", ("a.txt", b"new"))
    del mar.manifests["aks/gone 1.0.0"]
    found = news(client(), project)
    assert found["moved"].moved_to == new.digest
    assert found["gone"].is_gone


def test_the_end_of_support_counts_when_the_day_has_come(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    made = mar.add_artifact("aks/old", "1.0.0", ("a.txt", b"x"))
    project = make("reference: aks/old")
    lock(client(), project)
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": str(Digest.of(b"mark")),
                "size": 4,
                "artifactType": "application/vnd.microsoft.artifact.lifecycle",
                "annotations": {"vnd.microsoft.artifact.lifecycle.end-of-life.date": "2025-06-30"},
            }
        ],
    }
    mar.on("referrers", f".*{made.digest.encoded}.*").answers(
        200, json.dumps(index), Content_Type="application/vnd.oci.image.index.v1+json"
    )
    assert (news(client(), project, date(2025, 6, 29))["old"].is_found, news(client(), project, date(2025, 6, 30))["old"].is_found) == (
        False,
        True,
    )


# -- the commands as separate processes


@pytest.fixture
def run(mar: Registry, tmp_path: Path, make: Make) -> Run:
    """Return a function that runs `marfetch` in the project's directory."""
    make()

    def do(*arguments: str, cache: str = "cache", **more: Any) -> subprocess.CompletedProcess[str]:
        return marfetch(*arguments, cwd=tmp_path / "project", environment=surroundings(mar, tmp_path / cache, **more))

    return do


def data(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document = json.loads(done.stdout)
    assert document["ok"] is (done.returncode in (0, 1))
    found: dict[str, Any] = document["data"]
    return found


@pytest.mark.slow
def test_the_way_of_a_project_with_its_exit_codes(run: Run, mar: Registry, make: Make, tmp_path: Path) -> None:
    assert run("lock", "--check").returncode == 8
    make(f"reference: {ALB}, version: ~1.7, name: alb")
    assert run("sync", "--locked").returncode == 8
    assert run("outdated").returncode == 8
    done = run("lock", "--json")
    assert (done.returncode, data(done)["artifacts"][0]["outcome"]) == (0, "added")
    assert run("lock", "--check").returncode == 0
    assert data(run("sync", "--json", "--dry-run"))["artifacts"][0]["outcome"] == "would-fetch"
    summary = tmp_path / "summary.md"
    done = run("sync", "--json", GITHUB_STEP_SUMMARY=str(summary))
    (one,) = data(done)["artifacts"]
    assert (one["name"], one["outcome"], one["files"][0]["path"]) == ("alb", "fetched", "alb-controller-1.7.12.tgz")
    assert one["reference"].startswith(f"{mar.host}/{ALB}:1.7.12@sha256:")
    assert "| `fetched` | `alb` |" in summary.read_text()
    make(f"reference: {ALB}, version: ^1, name: alb")
    assert run("lock", "--check").returncode == 0
    done = run("outdated", "--json")
    assert (done.returncode, data(done)["artifacts"][0]["inRange"]["version"]) == (1, "1.11.4")
    assert run("lock", "--upgrade", "alb").returncode == 0
    assert run("outdated").returncode == 0
    assert run("sync").stdout.startswith("fetched\talb\t")


@pytest.mark.slow
def test_the_exit_code_is_that_of_the_first_failure_in_the_order_of_the_file(run: Run, mar: Registry, make: Make) -> None:
    mar.add_artifact("aks/foo", "1.0.0", ("foo.txt", b"old"))
    make("reference: aks/foo")
    assert run("sync").returncode == 0
    mar.add_artifact("aks/foo", "1.0.0", ("foo.txt", b"new"))
    make("reference: aks/foo", "reference: aks/missing")
    done = run("sync", "--json")
    assert done.returncode == 8
    assert [one["outcome"] for one in data(done)["artifacts"]] == ["drifted", "failed"]
    make("reference: aks/missing", "reference: aks/foo")
    assert run("sync").returncode == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["lock", "alb"], 2),
        (["lock", "--upgrade", "nobody"], 2),
        (["lock", "--check", "--upgrade"], 2),
        (["sync", "--shard", "5"], 2),
        (["sync", "-f", "nowhere.yaml"], 2),
        (["lock", "--from", "nowhere.sh"], 9),
        (["lock", "--from", "marfetch.yaml"], 2),
        (["lock", "--chart", "."], 2),
        (["diff", "aks/foo"], 2),
        (["diff"], 8),
    ],
)
def test_what_does_not_go_is_said_with_the_right_exit_code(run: Run, arguments: list[str], code: int) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_endpoint_of_the_file_counts_as_the_option_does(run: Run, mar: Registry, tmp_path: Path) -> None:
    path = tmp_path / "project" / "marfetch.yaml"
    path.write_text(f"schema: 1\nendpoint: http://{mar.host}\nartifacts:\n  - reference: {ALB}\n")
    assert run("lock", MARFETCH_ENDPOINT="https://elsewhere.example").returncode == 0
    path.write_text(path.read_text().replace(f"http://{mar.host}", "https://elsewhere.example"))
    assert run("lock", "--endpoint", f"http://{mar.host}").returncode == 0


@pytest.mark.slow
def test_a_lock_made_elsewhere_is_fetched_from_the_endpoint_that_counts_here(
    run: Run, mar: Registry, recipe: Any, tmp_path: Path, make: Make
) -> None:
    make(f"reference: {ALB}, version: ~1.7")
    assert run("lock").returncode == 0
    with Registry(recipe, names=mar.names) as mirror:
        environment = {"MARFETCH_ENDPOINT": f"http://{mirror.host}", "MARFETCH_DATA_HOSTS": mirror.data_host}
        mar.asked.clear()
        assert run("sync", "--locked", cache="other", **environment).returncode == 0
        assert mirror.asked
        assert mar.asked == []


@pytest.mark.slow
def test_two_concurrent_syncs_do_not_disturb_each_other(mar: Registry, make: Make, tmp_path: Path) -> None:
    for number in range(12):
        mar.add_artifact(f"aks/foo{number}", "1.0.0", (f"foo{number}.bin", bytes([number]) * 50_000))
    project = make(*(f"reference: aks/foo{number}" for number in range(12)))
    line = [sys.executable, "-m", "marfetch", "sync", "--json"]
    both = [subprocess.Popen(line, cwd=project.directory, env=surroundings(mar, tmp_path / "cache"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]  # fmt: skip
    for process in both:
        out, error = process.communicate(timeout=100)
        assert process.returncode == 0, error
        assert {one["outcome"] for one in json.loads(out)["data"]["artifacts"]} <= {"fetched", "unchanged", "replaced"}
    assert len(read_lock(project.lock_path).entries) == 12
    assert files(project) == {f"foo{number}.bin" for number in range(12)}


@pytest.mark.slow
def test_a_killed_sync_leaves_nothing_half_and_the_next_one_ends_it(run: Run, mar: Registry, make: Make, tmp_path: Path) -> None:
    whole = os.urandom(3 << 20)
    mar.add_artifact("aks/large", "1.0.0", ("large.bin", whole))
    mar.add_artifact("aks/small", "1.0.0", ("small.txt", b"small"))
    project = make("reference: aks/large", "reference: aks/small")
    knob = mar.on("data", rf".*{Digest.of(whole).encoded}.*").stalls_after(2 << 20, times=1)
    process = subprocess.Popen([sys.executable, "-m", "marfetch", "sync"], cwd=project.directory, env=surroundings(mar, tmp_path / "cache"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        for _ in range(600):
            if knob.used and (project.directory / "small.txt").exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait(60)
    assert not (project.directory / "large.bin").exists()
    assert {entry.name for entry in read_lock(project.lock_path).entries} == {"large", "small"}
    done = run("sync", "--locked", "--json")
    assert {one["name"]: one["outcome"] for one in data(done)["artifacts"]} == {"large": "fetched", "small": "unchanged"}
    assert (project.directory / "large.bin").read_bytes() == whole
    assert files(project) == {"large.bin", "small.txt"}


def _fill(path: Path) -> None:
    """Write a file that uses up the free space."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return


def test_a_full_disk_fails_what_does_not_fit_and_leaves_no_part_of_it(
    client: Callable[..., Session], mar: Registry, disk: Callable[[str], Path]
) -> None:
    small_disk = disk("size=1m")
    mar.add_artifact("aks/large", "1.0.0", ("large.bin", b"l" * (2 << 20)))
    mar.add_artifact("aks/small", "1.0.0", ("small.txt", b"small"))
    (small_disk / "marfetch.yaml").write_text("schema: 1\nartifacts:\n  - reference: aks/large\n  - reference: aks/small\n")
    project = read_project(small_disk / "marfetch.yaml")
    # Download one file at a time. Otherwise the large file may use up the space before the small file arrives.
    result = sync(client(jobs=1), project)
    assert outcomes(result) == {"large": "failed", "small": "fetched"}
    assert result[0].error is not None
    assert result[0].error.code == "disk-full"
    assert {path.name for path in small_disk.iterdir()} == {"marfetch.yaml", "marfetch.lock", "small.txt"}
    # There is no space for a new lock file either, so the old one must stay intact.
    before = project.lock_path.read_bytes()
    _fill(small_disk / "filler")
    (small_disk / "marfetch.yaml").write_bytes(b"schema: 1\nartifacts:\n  - reference: aks/small\n")
    with pytest.raises(Error) as caught:
        sync(client(), read_project(small_disk / "marfetch.yaml"))
    assert caught.value.exit_code == 9
    assert project.lock_path.read_bytes() == before


# -- the project file and the lock file are never overwritten


@pytest.mark.parametrize("title", ["marfetch.yaml", "marfetch.lock", "MarFetch.YAML"])
@pytest.mark.parametrize("is_rehearsal", [False, True])
def test_no_artifact_takes_the_place_of_the_projects_own_files(
    client: Callable[..., Session], mar: Registry, make: Make, title: str, is_rehearsal: bool
) -> None:
    mar.add_artifact("aks/foo", "1.0.0", (title, b"schema: 1\nartifacts: []\n"))
    project = make("reference: aks/foo", f"reference: {ALB}")
    before = project.path.read_bytes()
    (foo, alb) = sync(client(), project, is_rehearsal=is_rehearsal)
    assert foo.error is not None
    assert (foo.outcome, foo.error.code, foo.error.exit_code) == ("failed", "name-clash", 9)
    assert alb.error is None
    assert project.path.read_bytes() == before
    assert {path.name.lower() for path in project.directory.iterdir()} <= {"marfetch.yaml", "marfetch.lock", "alb-controller-1.11.4.tgz"}


def test_what_refers_to_an_artifact_takes_the_place_of_nothing(client: Callable[..., Session], mar: Registry, make: Make) -> None:
    foo = mar.add_artifact("aks/foo", "1.0.0", ("foo.txt", b"foo"))
    sbom = mar.add_artifact("aks/foo", "sbom", ("marfetch.yaml", b"x"), artifactType="application/x.sbom", subject=descriptor_json(foo))
    project = make("reference: aks/foo, referrers: true")
    before = project.path.read_bytes()
    (result,) = sync(client(), project)
    assert (result.outcome, project.path.read_bytes()) == ("fetched", before)
    assert (project.directory / "foo.referrers" / sbom.digest.encoded / "marfetch.yaml").read_bytes() == b"x"


def test_a_lock_is_always_called_the_same(tmp_path: Path) -> None:
    (tmp_path / "wanted.yml").write_text("schema: 1\nartifacts: []\n")
    assert read_project(tmp_path / "wanted.yml").lock_path == tmp_path / "marfetch.lock"


def test_a_lock_of_another_endpoint_than_the_file_names_does_not_fit(client: Callable[..., Session], make: Make) -> None:
    project = make(f"reference: {ALB}")
    lock(client(), project)
    assert misfits(project, read_lock(project.lock_path)) == []
    (reason,) = misfits(replace(project, endpoint="china"), read_lock(project.lock_path))
    assert reason.startswith("`alb-controller` is on `mcr.azure.cn`, but `127.0.0.1")


@pytest.mark.parametrize("is_rehearsal", [False, True])
def test_a_directory_with_the_name_of_a_file_is_reported_in_a_dry_run_too(
    client: Callable[..., Session], mar: Registry, make: Make, is_rehearsal: bool
) -> None:
    mar.add_artifact("aks/foo", "1.0.0", ("foo.txt", b"foo"))
    project = make("reference: aks/foo")
    (project.directory / "foo.txt").mkdir()
    asked = len([one for one in mar.asked if one.kind == "blob"])
    (result,) = sync(client(), project, is_rehearsal=is_rehearsal)
    assert result.error is not None
    assert (result.outcome, result.error.code) == ("failed", "file-unusable")
    assert len([one for one in mar.asked if one.kind == "blob"]) == asked
