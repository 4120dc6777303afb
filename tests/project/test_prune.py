"""`sync --prune`: which files of removed entries are deleted, and which are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.client.session import Session
from marfetch.destination.created import WrittenFiles
from marfetch.project.prune import prune, remember
from marfetch.project.sync import Synced, sync
from marfetch.project.wanted import Project

from ..world.command import Call
from ..world.content import ALB, IMAGE, MODULE
from ..world.projects import Make, lock

ALB_ITEM = f"reference: {ALB}, version: ~1.7, destination: charts"
MODULE_ITEM = f"reference: {MODULE}, destination: modules"
UNTAR_ITEM = f"reference: {ALB}, version: ~1.7, destination: charts, untar: true"

Client = Callable[..., Session]


@pytest.fixture
def synced(client: Client, make: Make) -> Callable[..., Project]:
    """`synced(item, …)`: a project of these artifacts, after a sync."""

    def do(*items: str) -> Project:
        project = make(*items)
        remember(project, sync(client(), project))
        return project

    return do


def pruned(client: Client, project: Project, *, is_rehearsal: bool = False) -> dict[str, str]:
    """Path below the project → outcome."""
    result = sync(client(), project, is_rehearsal=is_rehearsal)
    if not is_rehearsal:
        remember(project, result)
    return {str(one.path.relative_to(project.directory)): one.outcome for one in prune(project, result, is_rehearsal=is_rehearsal)}


def there(project: Project) -> set[str]:
    found = {str(path.relative_to(project.directory)) for path in project.directory.rglob("*")}
    return found - {"marfetch.yaml", "marfetch.lock"}


def test_a_file_goes_with_its_entry_and_so_does_the_directory_made_for_it(
    synced: Callable[..., Project], client: Client, make: Make
) -> None:
    synced(ALB_ITEM, MODULE_ITEM)
    project = make(MODULE_ITEM)
    before = there(project)
    assert pruned(client, project, is_rehearsal=True) == {"charts/alb-controller-1.7.12.tgz": "would-remove"}
    assert there(project) == before
    assert pruned(client, project) == {"charts/alb-controller-1.7.12.tgz": "removed", "charts": "removed"}
    assert there(project) == {"modules", "modules/storage-account-0.14.0.json"}
    assert pruned(client, project) == {}


def test_prune_works_after_the_entry_was_removed_from_the_lock(synced: Callable[..., Project], client: Client, make: Make) -> None:
    synced(ALB_ITEM, MODULE_ITEM)
    project = make(MODULE_ITEM)
    lock(client(), project)
    result = sync(client(), project, as_locked=True)
    assert [one.outcome for one in prune(project, result)] == ["removed", "removed"]
    empty = make()
    lock(client(), empty)
    assert set(pruned(client, empty).values()) == {"removed"}
    assert there(empty) == set()


def test_a_directory_of_the_user_stays_when_it_is_empty(synced: Callable[..., Project], client: Client, make: Make) -> None:
    (make().directory / "charts").mkdir()
    synced(ALB_ITEM)
    assert pruned(client, make()) == {"charts/alb-controller-1.7.12.tgz": "removed"}
    assert there(make()) == {"charts"}


@pytest.mark.parametrize("item", [ALB_ITEM, UNTAR_ITEM])
def test_a_changed_file_is_named_and_stays(synced: Callable[..., Project], client: Client, make: Make, item: str) -> None:
    project = synced(item)
    changed = next(path for path in sorted(project.directory.glob("charts/**/*")) if path.is_file())
    changed.write_bytes(changed.read_bytes() + b"!")
    before = there(project)
    for _ in range(2):
        ((path, outcome),) = pruned(client, make()).items()
        assert (path.split("/")[0], outcome) == ("charts", "kept")
        assert there(project) == before


def test_an_unpacked_archive_goes_whole_and_only_without_files_of_the_user(
    synced: Callable[..., Project], client: Client, make: Make
) -> None:
    project = synced(UNTAR_ITEM)
    own = project.directory / "charts" / "alb-controller" / "own-values.yaml"
    own.write_text("mine")
    assert pruned(client, make()) == {"charts/alb-controller": "kept"}
    own.unlink()
    (project.directory / "charts" / "alb-controller" / "Chart.yaml").unlink()
    assert pruned(client, make()) == {"charts/alb-controller": "kept"}
    shutil.rmtree(project.directory / "charts")
    synced(UNTAR_ITEM)
    assert pruned(client, make()) == {"charts/alb-controller": "removed", "charts": "removed"}
    assert there(project) == set()


def test_what_another_entry_wants_stays(synced: Callable[..., Project], client: Client, make: Make) -> None:
    synced(ALB_ITEM)
    renamed = make(f"{ALB_ITEM}, name: renamed")
    assert pruned(client, renamed) == {}
    assert "charts/alb-controller-1.7.12.tgz" in there(renamed)
    assert set(pruned(client, make())) == {"charts/alb-controller-1.7.12.tgz"}  # the file belongs to the new name now


def test_a_file_of_an_entry_that_fails_stays(synced: Callable[..., Project], client: Client, make: Make) -> None:
    synced(ALB_ITEM)
    renamed = make(f"{ALB_ITEM}, name: renamed")
    lock(client(), renamed)
    failed = [Synced("renamed", ALB, "failed")]
    assert prune(renamed, failed) == []
    assert "charts/alb-controller-1.7.12.tgz" in there(renamed)


def test_a_file_that_was_there_before_is_the_users(synced: Callable[..., Project], client: Client, make: Make) -> None:
    project = synced(ALB_ITEM)
    WrittenFiles().put(project.path, {})
    assert [one.outcome for one in sync(client(), project)] == ["unchanged"]
    remember(project, sync(client(), project))
    assert pruned(client, make()) == {}
    assert "charts/alb-controller-1.7.12.tgz" in there(project)


@pytest.mark.parametrize("link", ["charts", "charts/alb-controller-1.7.12.tgz"])
def test_no_link_is_followed(synced: Callable[..., Project], client: Client, make: Make, tmp_path: Path, link: str) -> None:
    project = synced(ALB_ITEM)
    moved = tmp_path / "elsewhere"
    (project.directory / link).rename(moved)
    (project.directory / link).symlink_to(moved)
    assert pruned(client, make()) == {"charts/alb-controller-1.7.12.tgz": "kept"}
    assert moved.exists()
    assert (moved / "alb-controller-1.7.12.tgz" if moved.is_dir() else moved).is_file()


def test_prune_removes_referrers_too(synced: Callable[..., Project], client: Client, make: Make) -> None:
    item = f"reference: '{IMAGE}:latest', name: os, platform: linux/amd64, destination: images, referrers: '*'"
    project = synced(item)
    assert any("os.referrers" in path for path in there(project))
    assert set(pruned(client, make()).values()) == {"removed"}
    assert there(project) == set()


def test_files_of_older_versions_go_with_their_entry(synced: Callable[..., Project], client: Client, make: Make) -> None:
    synced(f"reference: '{ALB}:1.7.9', destination: charts")
    project = make(f"reference: '{ALB}:1.7.12', destination: charts")
    assert pruned(client, project) == {}  # the entry is still there
    assert set(pruned(client, make())) == {"charts", "charts/alb-controller-1.7.12.tgz", "charts/alb-controller-1.7.9.tgz"}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"entries": []}',
        '{"entries": {"alb-controller": {"/etc/passwd": "made", "x": 1, "HERE/marfetch.yaml": "sha256:0", "HERE/..": "made"}}}',
    ],
)
def test_a_broken_or_foreign_record_removes_nothing(
    synced: Callable[..., Project], client: Client, make: Make, tmp_path: Path, text: str
) -> None:
    project = synced(ALB_ITEM)
    (record,) = Path(f"{tmp_path}-state", "marfetch", "projects").iterdir()
    text, found = text.replace("HERE", str(project.directory)), json.loads(record.read_text())
    record.write_text(json.dumps({**found, **json.loads(text)}) if text.startswith("{") else text)
    assert "removed" not in pruned(client, make()).values() or text == "{}"
    assert Path("/etc/passwd").exists()
    assert project.path.exists()


def test_the_command_prints_what_it_removed_and_succeeds(call: Call, make: Make) -> None:
    project = make(ALB_ITEM, MODULE_ITEM)
    assert call("sync", "-f", project.path)[0] == 0
    (project.directory / "charts" / "alb-controller-1.7.12.tgz").write_text("changed")
    make()
    code, out, err = call("sync", "-f", project.path, "--prune", "--dry-run")
    assert (code, "would-remove\tstorage-account\t" in out, "kept\talb-controller\t" in out) == (0, True, True)
    code, out, _ = call("sync", "-f", project.path, "--prune", "--json")
    found = {(one["name"], one["outcome"]) for one in json.loads(out)["data"]["pruned"]}
    assert (code, found) == (0, {("alb-controller", "kept"), ("storage-account", "removed")})
    code, out, err = call("sync", "-f", project.path, "--prune")
    assert (code, out.count("kept\talb-controller\t")) == (0, 1)
    assert "it was changed" in err
    assert "pruned" not in json.loads(call("sync", "-f", project.path, "--json")[1])["data"]
