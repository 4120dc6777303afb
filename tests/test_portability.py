"""marfetch runs on systems that lack parts of POSIX, and refuses names that another system would misunderstand."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from marfetch import files
from marfetch.destination import directory
from marfetch.destination.directory import Directory, extended
from marfetch.files import find_program, free_space, replace_file
from marfetch.layout import blobs
from marfetch.remote import credentials

from .world.architecture import HOUSE
from .world.command import surroundings
from .world.elsewhere import CALLS, MODULES, NAMES, SIGNALS
from .world.paths import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("words", [["-m", "marfetch"], ["-m", "tests.world.elsewhere"]], ids=["here", "without what Windows lacks"])
def test_each_main_command_runs(words: list[str], tmp_path: Path) -> None:
    """Run the commands that CI also runs on Windows and macOS."""
    line = [sys.executable, str(ROOT / "ci" / "smoke.py"), sys.executable, *words]
    environment = surroundings(TMPDIR=str(tmp_path))
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "ok  cache clear"


def test_no_module_imports_at_its_top_what_some_system_lacks() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree in HOUSE.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom)) and {one.name for one in node.names} & {*MODULES, "_posixsubprocess", "posix"}
        if node.col_offset == 0
    ]
    assert wrong == []


def test_each_use_of_a_call_that_windows_lacks_is_a_known_one_with_a_second_way() -> None:
    missing = {"os": NAMES, "signal": (*SIGNALS, *CALLS), "select": ("poll", "epoll")}
    found = {
        f"{name}: {node.attr}"
        for name, tree in HOUSE.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in missing.get(node.value.id, ())
    }
    assert found == {
        *("__main__: SIGALRM", "__main__: setitimer", "cli.options: SIGALRM", "cli.options: setitimer"),
        *("destination.directory: O_DIRECTORY", "destination.directory: link", "destination.rewriting: fchown"),
        *("destination.stream: O_NONBLOCK", "files: posix_fadvise", "files: statvfs", "layout.blobs: pread", "layout.cache: geteuid"),
        *("layout.ingest: fchmod", "recording.child: getpgrp", "recording.child: tcgetpgrp", "records: geteuid", "serve.streams: preadv"),
    }


# -- directories without descriptors


@pytest.fixture
def by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a system that cannot open directories."""
    for module in (files, directory):
        monkeypatch.setattr(module, "BY_DESCRIPTOR", False)


@pytest.mark.usefixtures("by_path")
def test_a_directory_that_was_swapped_for_a_link_is_noticed_at_each_access(tmp_path: Path) -> None:
    (tmp_path / "root" / "above" / "below").mkdir(parents=True)
    (tmp_path / "outside" / "below").mkdir(parents=True)
    with_link = Directory.open_root(tmp_path / "root").enter("above").enter("below")
    (tmp_path / "root" / "above").rename(tmp_path / "away")
    (tmp_path / "root" / "above").symlink_to(tmp_path / "outside")
    for access in (
        lambda: with_link.make("x"),
        lambda: with_link.open("x", os.O_WRONLY | os.O_CREAT, "wb"),
        with_link.names,
        lambda: with_link.enter("x"),
        lambda: with_link.stat("x"),
        lambda: with_link.publish("x", "y", replace=True),
    ):
        with pytest.raises(OSError, match="symbolic links") as caught:
            access()
        assert caught.value.errno == errno.ELOOP
    (tmp_path / "root" / "above").unlink()
    (tmp_path / "root" / "above" / "below").mkdir(parents=True)
    with pytest.raises(OSError, match="another process replaced the directory"):
        with_link.make("x")
    assert list((tmp_path / "outside").rglob("x")) == []


@pytest.mark.usefixtures("by_path")
def test_a_junction_is_taken_for_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "junction").mkdir()
    top = Directory.open_root(tmp_path)
    before = os.lstat

    class Status:
        st_reparse_tag = 0xA0000003

        def __init__(self, path: str) -> None:
            self.st_mode, self.st_dev, self.st_ino = before(path).st_mode, 1, 2

    monkeypatch.setattr(os, "lstat", lambda path: Status(path) if str(path).endswith("junction") else before(path))
    with pytest.raises(OSError, match="symbolic links") as caught:
        top.enter("junction")
    assert caught.value.errno == errno.ELOOP
    top.remove("junction")
    assert (tmp_path / "junction").exists(), "what is behind a junction is not deleted"


@pytest.mark.usefixtures("by_path")
def test_a_part_directory_of_a_killed_run_is_deleted_after_a_day(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / f".marfetch-{name}.part" / "sub").mkdir(parents=True)
    os.utime(tmp_path / ".marfetch-old.part", (1, 1))
    Directory.open_root(tmp_path).sweep()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".marfetch")] == [".marfetch-new.part"]


def test_on_windows_a_long_path_gets_the_prefix_that_lifts_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "\\".join(["a" * 50] * 6)
    monkeypatch.setattr(directory, "os", SimpleNamespace(name="nt"))
    assert extended(Path("C:\\short")) == "C:\\short"
    for text, expected in ((f"C:\\{deep}", f"\\\\?\\C:\\{deep}"), (f"\\\\host\\share\\{deep}", f"\\\\?\\UNC\\host\\share\\{deep}")):
        assert extended(Path(text)) == expected
        assert extended(Path(expected)) == expected


def test_a_file_that_another_program_has_open_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def busy(source: Path, target: Path, **_: object) -> None:
        tries.append(source)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "in use", target)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "a", tmp_path / "b")
    tries.clear()
    monkeypatch.setattr(files, "BY_DESCRIPTOR", False)
    replace_file(tmp_path / "a", tmp_path / "b")
    assert len(tries) == 3


def test_threads_read_one_file_without_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.delattr(os, "pread")
    (tmp_path / "file").write_bytes(bytes(range(256)) * 64)
    with (tmp_path / "file").open("rb") as file, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda offset: blobs.read_at(file.fileno(), 16, offset * 16), range(1024)))
    assert b"".join(found) == (tmp_path / "file").read_bytes()


def test_free_space_may_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (free_space(tmp_path) or 0) > 0
    monkeypatch.delattr("shutil.disk_usage")
    assert free_space(tmp_path) is None


# -- programs


@pytest.mark.parametrize("path", ["", ".", "here:.:", "\\nowhere"])
def test_a_program_in_the_current_directory_is_never_run(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    for place in (tmp_path, tmp_path / "here"):
        program = place / "docker-credential-evil"
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    assert find_program("docker-credential-evil") is None
    credentials.forget_credentials()
    assert credentials._ask_helper("evil", "registry.example").problems == ("is not installed",)
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("PATH", f"{path}:{tmp_path}/here")
    assert find_program("docker-credential-evil") == f"{tmp_path}/here/docker-credential-evil"


def test_on_windows_only_programs_are_run_and_no_batch_files(tmp_path: Path) -> None:
    for name in ("one.bat", "one.cmd", "two.exe"):
        (tmp_path / name).touch(mode=0o755)
    code = (
        "import os, sys\nfrom marfetch.files import find_program\nos.name = 'nt'\n"
        "print(*(find_program(name, {'PATH': sys.argv[1]}) for name in ('one', 'two', 'two.exe')))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", f"{tmp_path}/two.exe", f"{tmp_path}/two.exe"]
