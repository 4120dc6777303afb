"""Several processes with one cache: `cache prune` and `cache clear` while other commands use it."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session
from marfetch.errors import StorageError
from marfetch.layout import cache, maintenance
from marfetch.layout.ingest import STALE
from marfetch.layout.layout import Layout, last_used
from marfetch.oci import Digest, Manifest
from marfetch.reference import Reference
from marfetch.verify.artifact import CRL_DIRECTORY, keep_list

from .world.command import ended, marfetch, started, surroundings
from .world.content import ALB, MODULE
from .world.registry import Registry

Made = Callable[..., Session]
CHART = Reference.parse(f"{ALB}:1.7.12")


def age(root: Path) -> None:
    """Make everything in the cache look as if it was last used two days ago, as far as the file system allows."""
    long_ago = time.time() - 2 * STALE
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (long_ago, long_ago))


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the change time of files, which tests cannot set."""

    def used(status: os.stat_result) -> float:
        return max(status.st_mtime, status.st_atime)

    for module in ("layout", "maintenance"):
        monkeypatch.setattr(f"marfetch.layout.{module}.last_used", used)


def test_what_a_command_has_fetched_stays_while_it_runs(client: Made) -> None:
    session = client()
    session.repository(CHART).manifest()
    root = session.cache.root
    done = maintenance.prune(Layout(root))
    assert (done.blobs, done.kept) == (0, 1)
    assert maintenance.prune(Layout(root), days=0).blobs == 0
    session.close()
    assert maintenance.prune(Layout(root)).kept == 0
    Layout(root).names.forget(lambda _: True)
    assert maintenance.prune(Layout(root)).blobs == 1


@pytest.mark.usefixtures("old")
def test_what_nothing_needs_is_deleted_although_another_command_runs(client: Made, tmp_path: Path) -> None:
    with client() as session:
        pull(session, [Wanted(CHART)], PullOptions(tmp_path / "out"))
    root = session.cache.root
    Layout(root).names.forget(lambda _: True)
    age(root)
    with client():
        assert maintenance.prune(Layout(root)).blobs == 2


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("offline", [False, True])
def test_an_old_blob_that_a_command_uses_again_stays(client: Made, tmp_path: Path, offline: bool) -> None:
    with client() as first:
        digest = pull(first, [Wanted(CHART)], PullOptions(tmp_path / "out")).resolved[0].manifest.descriptor.digest
    root = first.cache.root
    age(root)
    with client(offline=offline) as second:
        pull(second, [Wanted(replace(first.repository(CHART).reference, tag=None, digest=digest))], PullOptions(tmp_path / "other"))
        Layout(root).names.forget(lambda _: True)
        done = maintenance.prune(Layout(root))
        assert (done.blobs, done.kept) == (0, 2)


def test_marking_a_blob_leaves_its_modification_time(client: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    session = client()
    digest = session.repository(CHART).manifest().descriptor.digest
    path = session.cache.path(digest)
    os.utime(path, (1, 1))
    monkeypatch.setattr("marfetch.layout.layout.last_used", lambda _: 1.0)
    session.cache.mark_used(digest)
    after = path.stat()
    assert after.st_mtime == 1
    assert after.st_atime > 1
    assert last_used(after) >= after.st_atime


def test_a_cache_in_use_is_not_cleared(client: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_CLEAR_WAIT", 0.0)
    session = client()
    root = session.cache.root
    with pytest.raises(StorageError, match="another marfetch is using it") as caught:
        maintenance.clear(root)
    assert caught.value.exit_code == 9
    assert (root / "index.json").is_file()
    session.close()
    maintenance.clear(root)
    assert not root.exists()


def test_nothing_is_left_of_a_cache_that_is_cleared(mar: Registry, client: Made, tmp_path: Path) -> None:
    project = tmp_path / "marfetch.yaml"
    project.write_text(f"schema: 1\nendpoint: http://{mar.host}\nartifacts:\n  - reference: {ALB}\n")
    session = client()
    root = session.cache.root
    given = surroundings(mar, root)
    for words in (["lock", "-f", project], ["index", f"{mar.host}/{ALB}"]):
        assert marfetch(*map(str, words), cwd=tmp_path, environment=given).returncode == 0
    keep_list(root / CRL_DIRECTORY, "http://crl.example/x", b"x", session)
    session.close()
    maintenance.clear(root)
    assert not root.exists()
    assert maintenance.clear(root) == 0


def test_a_command_that_starts_while_the_cache_is_cleared_waits_and_makes_a_new_one(client: Made, tmp_path: Path) -> None:
    client().close()
    root = tmp_path / "cache"
    made: list[Session] = []
    waiting = threading.Thread(target=lambda: made.append(client()))
    with cache.alone(root) as is_alone:
        assert is_alone
        waiting.start()
        shutil.rmtree(root)
    waiting.join(60)
    assert (root / "oci-layout").is_file()
    made[0].close()


def test_without_locks_young_blobs_stay(client: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    session = client()
    session.repository(CHART).manifest()
    session.close()
    root = session.cache.root
    Layout(root).names.forget(lambda _: True)
    monkeypatch.setattr(cache, "occupy", lambda *_, **__: None)
    done = maintenance.prune(Layout(root))
    assert (done.blobs, done.kept) == (0, 1)


def test_a_blob_that_another_program_deletes_is_downloaded_again(client: Made) -> None:
    session = client()
    repository = session.repository(CHART)
    manifest = repository.manifest()
    assert isinstance(manifest, Manifest)
    layer = manifest.layers[0]
    left = [session.cache.path(layer.digest)]

    def take() -> bytes:
        while left:
            left.pop().unlink()
        return session.cache.read(layer)

    assert Digest.of(repository.use(layer, take)) == layer.digest


# -- separate processes


@pytest.fixture
def place(mar: Registry, tmp_path: Path) -> dict[str, Any]:
    """Create a project with its lock, and return the options to run commands there with the test registry."""
    (tmp_path / "marfetch.yaml").write_text(
        f"schema: 1\nendpoint: http://{mar.host}\nartifacts:\n  - reference: {ALB}\n    version: 1.7.12\n  - reference: {MODULE}\n"
    )
    found: dict[str, Any] = {"cwd": tmp_path, "environment": surroundings(mar, tmp_path / "cache")}
    assert marfetch("lock", **found).returncode == 0
    return found


COMMANDS = {
    "pull": ["pull", f"{ALB}:1.7.12", MODULE, "-d", "out"],
    "untar": ["pull", f"{ALB}:1.7.12", "--untar", "-d", "out"],
    "sync": ["sync", "--locked"],
    "bundle": ["bundle", "create", "-o", "b.tar"],
    "index": ["index", ALB],
    "inspect": ["inspect", f"{ALB}:1.7.12"],
    "diff": ["diff", f"{ALB}:1.7.9", f"{ALB}:1.7.12"],
}


@pytest.mark.slow
@pytest.mark.parametrize("deleting", [["prune"], ["prune", "--unused-days", "0"], ["clear"]], ids=["prune", "unused", "clear"])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_succeeds_although_the_cache_is_pruned_or_cleared_meanwhile(
    mar: Registry, place: dict[str, Any], tmp_path: Path, words: list[str], deleting: list[str]
) -> None:
    shutil.rmtree(tmp_path / "cache")
    ran: list[subprocess.Popen[str]] = []

    def delete() -> None:
        ran.append(started("cache", *deleting, **place))
        if deleting[0] == "prune":
            ran[-1].wait(60)

    for kind in ("manifest", "blob"):
        mar.on(kind).meanwhile(delete, times=2)
    done = marfetch(*words, **place)
    assert done.returncode == (1 if words[0] == "diff" else 0), done.stderr
    assert ran
    for one in ran:
        code, _, err = ended(one)
        assert code in (0, 9 if deleting == ["clear"] else 0), err


@pytest.mark.slow
def test_commands_prunes_and_clears_at_once(place: dict[str, Any], tmp_path: Path) -> None:
    for number in range(3):
        running = [
            started(*words[:-1], f"{words[-1]}{number}", **place) for words in (COMMANDS["pull"], COMMANDS["bundle"], COMMANDS["untar"])
        ]
        running += [
            started("cache", *words, **place) for words in (["prune"], ["prune"], ["verify"], ["info"], ["prune", "--unused-days", "0"])
        ]
        clearing = started("cache", "clear", **place)
        for one in running:
            code, _, err = ended(one)
            assert code == 0, (one.args, err)
        assert ended(clearing)[0] in (0, 9)
