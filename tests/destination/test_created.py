"""marfetch replaces a directory only if it created the directory or knows all files in it, and never one of the user's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.artifact.kinds import HELM_CHART, HELM_CONFIG
from marfetch.client.session import Session
from marfetch.destination.created import CreatedDirectories, CreatedDirectory, state_root
from marfetch.errors import StorageError
from marfetch.project.locking import settle, write
from marfetch.project.sync import sync

from ..world.archives import chart, file, targz
from ..world.charts import add_chart
from ..world.command import Run, document
from ..world.projects import Make, outcomes
from ..world.registry import Registry
from ..world.unpacking import fetch

TITLE = "org.opencontainers.image.title"
OLD, NEW = chart("app", "1.0.0"), chart("app", "1.0.1", file("app/new"))


@pytest.fixture
def app(mar: Registry, make: Make, client: Callable[..., Session]) -> Path:
    """Create a project in which `app` 1.0.0 is unpacked, and change its project file to 1.0.1."""
    add_chart(mar, "charts/app", "1.0.0", OLD)
    add_chart(mar, "charts/app", "1.0.1", NEW)
    with client() as one:  # the session writes the cache's index when it is closed
        assert outcomes(sync(one, make("reference: charts/app, version: 1.0.0, untar: true"))) == {"app": "fetched"}
    return make("reference: charts/app, version: 1.0.1, untar: true").directory / "app"


def again(client: Callable[..., Session], make: Make, **options: object) -> str:
    """Sync to 1.0.1, and return the outcome, or the code of the error."""
    (result,) = sync(client(**options), make("reference: charts/app, version: 1.0.1, untar: true"))
    return result.error.code if result.error is not None else result.outcome


def forget() -> None:
    root = state_root()
    assert root is not None
    shutil.rmtree(root)


def edited(app: Path) -> None:
    (app / "Chart.yaml").write_text("edited")
    (app / "mine").write_text("mine")


def extra_link(app: Path) -> None:
    (app / "link").symlink_to("Chart.yaml")


def own(app: Path) -> None:
    """Replace the directory that marfetch created with a directory of the user."""
    shutil.rmtree(app)
    app.mkdir()
    (app / "main.py").write_text("hours of work")


def own_file_among_known(app: Path) -> None:
    (app / "main.py").write_text("hours of work")


def moved(app: Path) -> None:
    """Replace the directory with a copy, which has another inode, as after restoring a backup."""
    shutil.copytree(app, app.with_name("copy"))
    shutil.rmtree(app)
    app.with_name("copy").rename(app)


def moved_and_edited(app: Path) -> None:
    moved(app)
    own_file_among_known(app)


def empty(app: Path) -> None:
    shutil.rmtree(app)
    (app / "a" / "b").mkdir(parents=True)


CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    # change → outcome with the record of the directory, and outcome without the record
    "nothing": (lambda _: None, "replaced", "replaced"),
    "edited": (edited, "replaced", "directory-foreign"),
    "a link more": (extra_link, "replaced", "directory-foreign"),
    "a file more": (own_file_among_known, "replaced", "directory-foreign"),
    "a file less": (lambda app: (app / "Chart.yaml").unlink(), "replaced", "replaced"),
    "one of the user's": (own, "directory-foreign", "directory-foreign"),
    "a copy": (moved, "replaced", "replaced"),
    "an edited copy": (moved_and_edited, "directory-foreign", "directory-foreign"),
    "empty directories": (empty, "replaced", "replaced"),
}


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "not recorded"])
@pytest.mark.parametrize(("change", "with_record", "without"), CASES.values(), ids=CASES)
def test_a_directory_is_replaced_where_marfetch_made_it_or_all_of_it_is_known(
    app: Path, client: Callable[..., Session], make: Make, change: Callable[[Path], object], with_record: str, without: str, recorded: bool
) -> None:
    change(app)
    if not recorded:
        forget()
    before = {path: path.read_bytes() for path in app.rglob("*") if path.is_file()}
    expected = with_record if recorded else without
    assert again(client, make) == expected
    assert (app / "new").exists() is (expected == "replaced")
    if expected == "directory-foreign":
        assert {path: path.read_bytes() for path in app.rglob("*") if path.is_file()} == before


def test_what_only_another_cache_knew_is_not_known(app: Path, client: Callable[..., Session], make: Make, tmp_path: Path) -> None:
    forget()
    assert again(client, make, cache_dir=tmp_path / "fresh") == "directory-foreign"
    assert not (app / "new").exists()


def test_a_file_of_another_artifact_is_not_known(app: Path, mar: Registry, client: Callable[..., Session], make: Make) -> None:
    mar.add_artifact("aks/other", "1.0.0", ("main.py", b"hours of work"))
    with client() as one:
        assert fetch(one, "aks/other:1.0.0", destination=app.parent / "other", untar=None).failed == ()
    own(app)
    forget()
    assert again(client, make) == "directory-foreign"


def test_a_directory_that_was_right_already_is_known_from_then_on(
    app: Path, client: Callable[..., Session], make: Make, tmp_path: Path
) -> None:
    """Another program may have unpacked the directory. It is recorded, so a later sync replaces it even without the cache."""
    forget()
    assert outcomes(sync(client(), make("reference: charts/app, version: 1.0.0, untar: true"), as_locked=True)) == {"app": "unchanged"}
    assert again(client, make, cache_dir=tmp_path / "fresh") == "replaced"


def test_a_record_of_an_older_directory_is_renewed(app: Path, client: Callable[..., Session], make: Make) -> None:
    """This state remains if a run is killed just after it has renamed the directory."""
    records = CreatedDirectories()
    records.put(app, CreatedDirectory(app.stat().st_ino + 1, {"old": "0" * 64}))
    sync(client(), make("reference: charts/app, version: 1.0.0, untar: true"), as_locked=True)
    found = records.get(app)
    assert found is not None
    assert (found.number, set(found.files)) == (None, {"Chart.yaml", "templates/cm.yaml"})


def test_edits_in_a_directory_that_was_right_already_are_not_replaced(app: Path, client: Callable[..., Session], make: Make) -> None:
    forget()
    sync(client(), make("reference: charts/app, version: 1.0.0, untar: true"), as_locked=True)
    edited(app)
    assert again(client, make) == "directory-foreign"


@pytest.mark.parametrize("name", ["src", ".", "..", "charts"])
def test_a_publisher_does_not_choose_the_directory(mar: Registry, client: Callable[..., Session], make: Make, name: str) -> None:
    """The title of the manifest, the archive and `Chart.yaml` do not determine the directory."""
    layer = {"mediaType": HELM_CHART}
    top = "src" if name.startswith(".") else name
    data = chart(f"'{name}'", "1.0.1", top=top)
    blob = mar.add_blob(data)
    config = mar.add_blob(b"{}")
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": HELM_CONFIG, "digest": str(config.digest), "size": config.size},
        "layers": [{**layer, "digest": str(blob.digest), "size": blob.size}],
        "annotations": {TITLE: name},
    }
    mar.add_manifest("charts/app", "1.0.1", json.dumps(document).encode())
    project = make("reference: charts/app, untar: true")
    for directory in ("src", "charts"):
        (project.directory / directory).mkdir()
        (project.directory / directory / "main.py").write_text("hours of work")
    sync(client(), project)
    for directory in ("src", "charts"):
        assert [path.name for path in (project.directory / directory).iterdir()] == ["main.py"]
    assert {path.name for path in project.directory.iterdir()} <= {"marfetch.yaml", "marfetch.lock", "src", "charts", "app"}


ARCHIVES: dict[str, tuple[list[tuple[str, bytes]], set[str]]] = {
    "one top": ([("src.tgz", targz(file("any/x"), file("any/d/y")))], {"app/x", "app/d/y"}),
    "one top, further down": ([("d/src.tgz", targz(file("any/x/y")))], {"app/x/y"}),
    "two tops": ([("src.tgz", targz(file("a/x"), file("b/y")))], {"app/a/x", "app/b/y"}),
    "a file beside the top": ([("src.tgz", targz(file("a/x"), file("y")))], {"app/a/x", "app/y"}),
    "files only": ([("src.tar", targz(file("x")))], {"app/x"}),
    "several archives": ([("src.tgz", targz(file("a/x"))), ("lib.tgz", targz(file("y")))], {"app/src/x", "app/lib/y"}),
    "an archive and a file": ([("src.tgz", targz(file("a/x"))), ("read.me", b"x")], {"app/x", "read.me"}),
    "the title `.`": ([(".", targz(file("a/x"), file("y")))], {"app/a/x", "app/y"}),
    "the title `.` of one directory": ([(".", targz(file("a/x")))], {"app/a/x"}),
}


@pytest.mark.parametrize(("payloads", "expected"), ARCHIVES.values(), ids=ARCHIVES)
def test_other_archives_go_into_the_directory_of_the_repository(
    mar: Registry, client: Callable[..., Session], tmp_path: Path, payloads: list[tuple[str, bytes]], expected: set[str]
) -> None:
    if payloads[0][0] == ".":
        layer = {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "annotations": {TITLE: ".", "io.deis.oras.content.unpack": "true"},
        }
        blob = mar.add_blob(payloads[0][1])
        mar.add_artifact("aks/app", "1.0.0", layers=[{**layer, "digest": str(blob.digest), "size": blob.size}])
    else:
        mar.add_artifact("aks/app", "1.0.0", *payloads)
    for status in ("fetched", "unchanged"):
        result = fetch(client(), "aks/app:1.0.0", destination=tmp_path / "out")
        assert {one.status for one in result.files} == {status}
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()} == expected


def test_pull_with_force_does_not_replace_a_directory_of_the_users(run: Run, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart())
    own = tmp_path / "here" / "toy"
    own.mkdir()
    (own / "main.py").write_text("hours of work")
    done = run("pull", "aks/toy:1.2.3", "--untar", "--force", "--json")
    error = document(done)["error"]
    assert (done.returncode, error["code"], error["path"], error["file"]) == (9, "directory-foreign", "toy", "main.py")
    assert "--force" in error["hint"]
    assert [path.name for path in own.iterdir()] == ["main.py"]
    # The archive is cached now, so the error comes before any blob is requested.
    mar.asked.clear()
    assert run("pull", "aks/toy:1.2.3", "--untar", "--force").returncode == 9
    assert set(mar.kinds()) == {"manifest"}


def test_a_dry_run_says_it_too(app: Path, client: Callable[..., Session], make: Make) -> None:
    own(app)
    project = make("reference: charts/app, version: 1.0.1, untar: true")
    fetch(client(), "charts/app:1.0.1", destination=app.parent.parent / "elsewhere")
    (result,) = sync(client(), project, is_rehearsal=True)
    assert (result.outcome, result.error and result.error.code) == ("failed", "directory-foreign")


# -- the records themselves


def test_a_record_is_what_was_put_for_that_path_only(tmp_path: Path) -> None:
    records = CreatedDirectories(tmp_path / "state")
    record = CreatedDirectory(2**64 - 1, {"a/ü": "0" * 64})
    path = tmp_path / "dir"
    path.mkdir()
    records.put(path, record)
    assert records.get(path) == record
    assert records.get(tmp_path / "other") is None
    (made,) = (tmp_path / "state" / "directories").iterdir()
    assert made.stat().st_mode & 0o077 <= 0o044
    assert made.parent.stat().st_mode & 0o077 == 0


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "a list": lambda path: path.write_bytes(b"[]"),
    "of another path": lambda path: path.write_bytes(path.read_bytes().replace(b"/dir", b"/rid")),
    "of another schema": lambda path: path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":2')),
    "a directory": a_directory,
    "a pipe": a_pipe,
    "a link": a_link,
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_counts_as_missing(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    records = CreatedDirectories(tmp_path / "state")
    (tmp_path / "dir").mkdir()
    records.put(tmp_path / "dir", CreatedDirectory(1, {}))
    (made,) = (tmp_path / "state" / "directories").iterdir()
    damage(made)
    assert records.get(tmp_path / "dir") is None


def test_records_of_deleted_directories_go_and_others_stay(tmp_path: Path) -> None:
    records = CreatedDirectories(tmp_path / "state")
    for number in range(5):
        (tmp_path / f"dir{number}").mkdir()
        records.put(tmp_path / f"dir{number}", CreatedDirectory(number, {}))
    for number in range(3):
        (tmp_path / f"dir{number}").rmdir()
    (tmp_path / "new").mkdir()
    records.put(tmp_path / "new", CreatedDirectory(9, {}))
    found = [number for number in range(5) if records.get(tmp_path / f"dir{number}")]
    assert found == [3, 4]
    assert records.get(tmp_path / "new") is not None


STATES = {
    "XDG_STATE_HOME": ({"XDG_STATE_HOME": "{}/xdg"}, "xdg/marfetch"),
    "a relative one": ({"XDG_STATE_HOME": "xdg"}, "home/.local/state/marfetch"),
}


@pytest.mark.parametrize(("environment", "expected"), STATES.values(), ids=STATES)
def test_where_records_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert state_root() == tmp_path / expected


def test_without_a_place_for_records_it_is_unpacked_nevertheless(run: Run, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart())
    (tmp_path / "file").write_text("mine")
    done = run("pull", "aks/toy:1.2.3", "--untar", environment={"XDG_STATE_HOME": str(tmp_path / "file")})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "toy" / "Chart.yaml").is_file()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_lock_names_the_directory(app: Path, client: Callable[..., Session], make: Make) -> None:
    project = make("reference: charts/app, version: 1.0.1, untar: true")
    write(project, settle(client(), project, None))
    assert '"file": "app"' in project.lock_path.read_text()


def test_the_failure_is_one_of_local_files() -> None:
    assert StorageError("x", code="directory-foreign").exit_code == 9
