"""`setup` installs both plugins, and handles existing files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch import __version__
from marfetch.errors import Error, StorageError
from marfetch.helm.address import parse
from marfetch.helm.setup import GETTER, PLUGIN, plugins_directory, set_up, set_up_getter

from ..world.command import Run, document
from ..world.paths import ROOT


def files(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_both_plugins_are_put_in_place_and_a_second_time_nothing_changes(tmp_path: Path) -> None:
    plugins = tmp_path / "a folder" / "plugins"
    assert [one.changed for one in set_up(plugins)] == [True, True]
    before = files(plugins)
    assert [one.changed for one in set_up(plugins)] == [False, False]
    assert files(plugins) == before
    assert sorted(path.name for path in plugins.iterdir()) == [PLUGIN, GETTER]
    assert os.access(plugins / GETTER / "mar-get", os.X_OK)
    assert os.access(plugins / PLUGIN / "marfetch", os.X_OK)


def test_a_changed_file_is_set_right(tmp_path: Path) -> None:
    set_up(tmp_path)
    (tmp_path / GETTER / "mar-get").write_text("broken")
    (tmp_path / GETTER / "more").write_text("x")
    assert [one.changed for one in set_up(tmp_path)] == [False, True]
    assert (tmp_path / GETTER / "mar-get").read_text().startswith("#!/bin/sh")
    assert not (tmp_path / GETTER / "more").exists()


def test_a_foreign_plugin_of_the_same_name_is_not_touched(tmp_path: Path) -> None:
    tmp_path = tmp_path / "plugins"
    other = tmp_path / "marfetch.git"
    other.mkdir(parents=True)
    (other / "plugin.yaml").write_text('name: "marfetch"\nversion: 0.0.1\n')
    with pytest.raises(StorageError, match=r"marfetch\.git"):
        set_up(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["marfetch.git"]
    (other / "plugin.yaml").write_text('{"version": "0.0.1", "name": "marfetch"}')
    with pytest.raises(StorageError, match=r"marfetch\.git"):
        set_up(tmp_path)
    mine = tmp_path / GETTER
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="is not the marfetch plugin"):
        set_up_getter(other)
    (other / "marfetch" / "helm").mkdir(parents=True)
    (other / "marfetch" / "helm" / "launch").touch()
    with pytest.raises(StorageError, match="exists and is not a plugin of marfetch"):
        set_up_getter(other)
    assert (mine / "notes.txt").read_text() == "mine"


def _file(path: Path) -> None:
    path.write_text("x")


def made(path: Path) -> Path:
    path.mkdir()
    return path


def _plugin(path: Path, name: str, **more: str) -> None:
    path.mkdir()
    (path / "plugin.yaml").write_text(f'{{"version": "1.0.0", "name": "{name}"}}\n')
    for file, text in more.items():
        (path / file).write_text(text)


@pytest.mark.parametrize("name", [PLUGIN, GETTER])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_file, id="a file"),
        pytest.param(lambda path: _plugin(path, "other"), id="another plugin"),
        pytest.param(lambda path: _file(made(path) / "data"), id="a folder of something"),
    ],
)
def test_files_of_the_user_are_never_replaced(make: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    make(plugins / name)
    before = files(tmp_path)
    with pytest.raises(StorageError) as caught:
        set_up(plugins)
    assert (caught.value.code, caught.value.context["path"]) == ("file-differs", str(plugins / name))
    assert files(tmp_path) == before


def test_a_plugin_with_data_of_its_own_is_not_replaced(tmp_path: Path) -> None:
    _plugin(tmp_path / PLUGIN, PLUGIN, notes="mine")
    with pytest.raises(StorageError, match="exists and is not a plugin of marfetch"):
        set_up(tmp_path)
    assert (tmp_path / PLUGIN / "notes").read_text() == "mine"


@pytest.mark.parametrize("linked", [False, True])
def test_a_plugin_that_helm_has_installed_is_left_and_gets_its_getter(tmp_path: Path, linked: bool) -> None:
    plugins, plugin = tmp_path / "plugins", tmp_path / "checkout"
    (plugin / "marfetch" / "helm").mkdir(parents=True)
    (plugin / "marfetch" / "helm" / "launch").write_text("#!/bin/sh\necho launched\n")
    (plugin / "marfetch" / "helm" / "launch").chmod(0o755)
    (plugin / "plugin.yaml").write_text("name: marfetch\n")
    plugins.mkdir()
    if linked:
        (plugins / PLUGIN).symlink_to(plugin)
    else:
        plugin.rename(plugins / PLUGIN)
    before = files(plugins / PLUGIN)
    assert [(one.name, one.changed) for one in set_up(plugins)] == [(PLUGIN, False), (GETTER, True)]
    assert files(plugins / PLUGIN) == before
    assert (plugins / PLUGIN).is_symlink() is linked
    line = [str(plugins / GETTER / "mar-get"), "mar://x/y"]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "launched\n"


def test_in_no_moment_does_helm_see_two_plugins_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(tmp_path)
    (tmp_path / GETTER / "mar-get").write_text("broken")
    seen = []

    def looked_at(self: Path, target: Path) -> Path:
        # Helm would find these plugins now. Go's glob also matches hidden folders.
        seen.append(sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/plugin.yaml")))
        return rename(self, target)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", looked_at)
    set_up(tmp_path)
    assert seen == [[f"{GETTER}/plugin.yaml", f"{PLUGIN}/plugin.yaml"], [f"{PLUGIN}/plugin.yaml"]]
    assert [path.name for path in tmp_path.glob(".marfetch-*")] == []


def test_what_cannot_be_put_in_place_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(tmp_path)
    (tmp_path / GETTER / "mar-get").write_text("older")
    before = files(tmp_path)
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise PermissionError(13, "no", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(StorageError):
        set_up(tmp_path)
    assert files(tmp_path) == before


def test_folders_of_a_killed_process_are_deleted_after_a_while(tmp_path: Path) -> None:
    old, new = tmp_path / ".marfetch-old", tmp_path / ".marfetch-new"
    for one in (old, new):
        one.mkdir()
    os.utime(old, (1, 1))
    set_up(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_on_windows_helm_starts_a_program_and_no_batch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from marfetch.helm import setup

    monkeypatch.setattr(setup, "os", SimpleNamespace(**{**vars(os), "name": "nt"}))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / "Scripts"))
    with pytest.raises(StorageError, match=r"mar-get\.exe"):
        set_up(tmp_path / "plugins")
    assert not (tmp_path / "plugins").exists()
    (tmp_path / "Scripts").mkdir()
    (tmp_path / "Scripts" / "mar-get.exe").write_bytes(b"MZ\0\xff")
    set_up(tmp_path / "plugins")
    assert sorted(path.name for path in (tmp_path / "plugins" / GETTER).iterdir()) == ["mar-get.exe", "plugin.yaml"]
    assert (tmp_path / "plugins" / GETTER / "mar-get.exe").read_bytes() == b"MZ\0\xff"


@pytest.mark.parametrize("how", ["getter", "command"])
def test_modules_in_the_directory_of_the_user_are_not_run(tmp_path: Path, how: str) -> None:
    set_up(tmp_path / "plugins")
    for name in ("marfetch/__init__.py", "marfetch/__main__.py", "platformdirs.py", "dataclasses.py"):
        (tmp_path / "chart" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "chart" / name).write_text("print('evil bytes')\nraise SystemExit(0)\n")
    lines: dict[str, list[str | Path]] = {
        "getter": [tmp_path / "plugins" / GETTER / "mar-get", "mar://x"],
        "command": [tmp_path / "plugins" / PLUGIN / "marfetch", "version"],
    }
    done = subprocess.run(lines[how], cwd=tmp_path / "chart", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == ((2, "") if how == "getter" else (0, f"marfetch {__version__}\n"))


def test_the_python_that_the_user_names_is_the_one_or_it_is_said(tmp_path: Path) -> None:
    here = tmp_path / "marfetch" / "helm"
    here.mkdir(parents=True)
    (here / "launch").write_bytes((ROOT / "marfetch" / "helm" / "launch").read_bytes())

    def launch(python: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MARFETCH_PYTHON": python}
        return subprocess.run(["sh", here / "launch", "version"], env=environment, capture_output=True, text=True, check=False)

    (tmp_path / "mypython").write_text('#!/bin/sh\necho "started: $*"\n')
    (tmp_path / "mypython").chmod(0o755)
    assert launch("mypython").stdout == "started: -P -m marfetch version\n"
    missing = launch("/nonexistent/python")
    assert (missing.returncode, missing.stdout) == (127, "")
    assert "MARFETCH_PYTHON names `/nonexistent/python`, which cannot be run" in missing.stderr


def test_a_python_without_our_packages_is_named(tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from marfetch.__main__ import main; sys.exit(main())",
    ]
    done = subprocess.run([*line, "versions", "x/y"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (9, "")
    assert f"the Python `{sys.executable}` lacks the package" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_getter_starts_the_launcher_of_the_plugin_beside_it(tmp_path: Path) -> None:
    plugin = tmp_path / "my plugins" / "marfetch.git"
    (plugin / "marfetch" / "helm").mkdir(parents=True)
    (plugin / "plugin.yaml").write_text("name: marfetch\n")
    launch = plugin / "marfetch" / "helm" / "launch"
    launch.write_text('#!/bin/sh\necho "$#: $*"\n')
    launch.chmod(0o755)
    set_up_getter(plugin)
    line = [str(tmp_path / "my plugins" / GETTER / "mar-get"), "", "", "", "mar://x/y"]
    assert subprocess.run(line, capture_output=True, text=True, check=True, cwd="/").stdout == "5: getter    mar://x/y\n"


def test_the_plugin_folder_is_the_one_that_helm_would_take(tmp_path: Path) -> None:
    none = {"HELM_BIN": "/nonexistent/helm"}
    assert plugins_directory({**none, "HELM_PLUGINS": "/a:/b"}) == Path("/a")
    assert plugins_directory({**none, "HELM_DATA_HOME": "/d"}) == Path("/d/plugins")
    assert plugins_directory({**none, "XDG_DATA_HOME": "/x"}) == Path("/x/helm/plugins")


def test_without_a_python_the_launcher_says_what_to_do_in_one_line(tmp_path: Path) -> None:
    here = tmp_path / "marfetch" / "helm"
    here.mkdir(parents=True)
    (here / "launch").write_bytes((ROOT / "marfetch" / "helm" / "launch").read_bytes())
    done = subprocess.run(["sh", here / "launch", "version"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "hook' install" in done.stderr


def test_an_environment_that_is_not_whole_is_not_started(tmp_path: Path) -> None:
    here = tmp_path / "marfetch" / "helm"
    here.mkdir(parents=True)
    (here / "launch").write_bytes((ROOT / "marfetch" / "helm" / "launch").read_bytes())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "started: $*"\n')
    python.chmod(0o755)

    def launch() -> tuple[int, str]:
        done = subprocess.run(
            ["sh", here / "launch", "version"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    assert launch() == (127, "")
    for mark in (".locked", ".runtime"):
        (tmp_path / ".venv" / mark).touch()
        assert launch() == (0, "started: -P -m marfetch version\n")
        (tmp_path / ".venv" / mark).unlink()


SAFE_KEYS = {"name", "version", "usage", "description", "command", "platformCommand", "ignoreFlags", "hooks", "downloaders"}


def test_the_plugin_files_hold_nothing_that_breaks_an_older_helm(tmp_path: Path) -> None:
    import yaml

    set_up(tmp_path)
    for path in (ROOT / "plugin.yaml", tmp_path / PLUGIN / "plugin.yaml", tmp_path / GETTER / "plugin.yaml"):
        plugin = yaml.safe_load(path.read_text())
        assert set(plugin) <= SAFE_KEYS
        assert not {"command", "platformCommand"} <= set(plugin)
        assert ("downloaders" in plugin) is (plugin["name"] == GETTER)
        assert plugin["version"] == __version__
        assert set(plugin.get("hooks", {})) <= {"install", "update", "delete"}
        assert [one["os"] for one in plugin.get("platformCommand", [])] in ([], ["linux", "darwin", "windows"])


def test_the_tree_is_one_that_every_helm_can_install() -> None:
    tracked = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git checkout")
    paths = {line.split("\t")[1]: line.split()[0] for line in tracked}
    assert [path for path, mode in paths.items() if mode == "120000"] == []  # Helm 4 does not accept symbolic links
    assert next(path for path in sorted(paths) if path.endswith("plugin.yaml")) == "plugin.yaml"
    assert {path: paths.get(path) for path in FIXED} == FIXED


FIXED = {
    "plugin.yaml": "100644",
    "plugin.complete": "100755",
    "marfetch/helm/launch": "100755",
    "marfetch/helm/launch.py": "100644",
    "marfetch/helm/hook": "100755",
    "marfetch/helm/environment": "100755",
    "marfetch/helm/getter.plugin": "100644",
    "ci/install": "100755",
    "ci/pull-request": "100755",
    "ci/azure-pipelines.yml": "100644",
    "ci/gitlab/templates/marfetch.yml": "100644",
    "ci/renovate/marfetch.json": "100644",
    "action.yml": "100644",
    ".pre-commit-hooks.yaml": "100644",
    ".github/actions/setup/action.yml": "100644",
}
"""Path → mode of the files that Helm, installed getters and pipelines of users call by path. Moving one of them would break these silently."""


@pytest.mark.parametrize("is_same", [True, False], ids=["the same packages", "other packages"])
def test_the_update_of_a_plugin_makes_its_environment_anew_where_the_lock_is_another(tmp_path: Path, is_same: bool) -> None:
    """The plugin of version 0.1 had its lock file in the root directory, and a copy in `.venv/.locked`."""
    plugin, lock = tmp_path / "plugins" / "marfetch", "requirements/runtime.lock"
    shutil.copytree(ROOT / "marfetch", plugin / "marfetch", ignore=shutil.ignore_patterns("__pycache__"))
    (plugin / lock).parent.mkdir()
    shutil.copy2(ROOT / lock, plugin / lock)
    python = plugin / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (plugin / ".venv" / ".locked").write_bytes((ROOT / lock).read_bytes() if is_same else b"other packages\n")
    (plugin / "marfetch" / "helm" / "environment").write_text('#!/bin/sh\nprintf "%s\\n" "$1" "$2" >"$1/made"\n')
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "HELM_PLUGIN_DIR": str(plugin)}
    line = [str(plugin / "marfetch" / "helm" / "hook"), "update"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    made = plugin / ".venv" / "made"
    assert (made.read_text().split("\n")[:2] if made.exists() else None) == (
        None if is_same else [str(plugin / ".venv"), str(plugin / lock)]
    )
    assert (plugin / ".venv" / ".locked").read_bytes() == (ROOT / lock).read_bytes()
    assert sorted(path.name for path in (plugin.parent / GETTER).iterdir()) == ["mar-get", "plugin.yaml"]


def test_setup_says_what_it_did(run: Run, tmp_path: Path) -> None:
    done = run("setup", "--plugins", str(tmp_path / "plugins"), "--json")
    found = document(done)["data"]["plugins"]
    assert [(one["name"], one["changed"]) for one in found] == [(PLUGIN, True), (GETTER, True)]
    (tmp_path / "file").write_text("x")
    assert run("setup", "--plugins", str(tmp_path / "file" / "x")).returncode == 9


def test_errors_of_addresses_are_errors_of_marfetch() -> None:
    with pytest.raises(Error) as caught:
        parse("mar://mcr.microsoft.com/aks/toy.tgz?sig=secret")
    assert "secret" not in str(caught.value)
