"""The location of the cache, and caches that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marfetch.__main__ import main
from marfetch.budget import Budget
from marfetch.codes import CODES
from marfetch.errors import PolicyError, StorageError
from marfetch.layout.cache import Cache

from ..world.content import ALB
from ..world.progress import Heard
from ..world.registry import Registry


def test_a_cache_that_is_something_else_is_never_passed_over(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARFETCH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    marker = tmp_path / "xdg" / "marfetch" / "oci-layout"
    marker.parent.mkdir(parents=True)
    marker.write_text('{"imageLayoutVersion":"9.0.0"}')
    with pytest.raises(StorageError) as caught:
        Cache(None, heard, Budget())
    assert (caught.value.code, caught.value.exit_code) == ("cache-damaged", 9)
    assert marker.read_text() == '{"imageLayoutVersion":"9.0.0"}'


def test_a_world_writable_cache_is_refused_even_as_the_default(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARFETCH_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    place = tmp_path / "xdg" / "marfetch"
    place.mkdir(parents=True)
    place.chmod(0o777)
    with pytest.raises(PolicyError) as caught:
        Cache(None, heard, Budget())
    assert caught.value.code == "cache-unsafe"
    assert list(place.iterdir()) == []


def test_a_named_directory_counts_before_the_environment(tmp_path: Path, heard: Heard) -> None:
    with Cache(tmp_path / "named", heard, Budget()) as cache:
        assert cache.layout.root == tmp_path / "named"
    assert (tmp_path / "named" / "oci-layout").is_file()
    assert not (tmp_path / "cache").exists()
    assert heard.warnings == []


FAILING: dict[str, list[str]] = {
    "a cache below a file": ["pull", f"{ALB}:1.7.12", "--cache-dir", "file/cache"],
    "a cache that is a file": ["pull", f"{ALB}:1.7.12", "--cache-dir", "file"],
    "a cache of another version": ["resolve", ALB, "--cache-dir", "alien"],
    "a destination that is a file": ["pull", f"{ALB}:1.7.12", "--destination", "file"],
    "a destination below a file": ["pull", f"{ALB}:1.7.12", "--destination", "file/below"],
    "a directory in the place of the file": ["pull", f"{ALB}:1.7.12", "--destination", "taken"],
}


@pytest.mark.parametrize("arguments", FAILING.values(), ids=FAILING)
def test_what_cannot_be_kept_is_exit_9_with_the_path_and_a_hint(
    mar: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARFETCH_ENDPOINT", f"http://{mar.host}")
    monkeypatch.setenv("MARFETCH_DATA_HOSTS", mar.data_host)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "alien").mkdir()
    (tmp_path / "alien" / "oci-layout").write_text('{"imageLayoutVersion":"9.0.0"}')
    (tmp_path / "taken" / "alb-controller-1.7.12.tgz").mkdir(parents=True)
    assert main([*arguments, "--json"]) == 9
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["exitCode"] == 9
    assert CODES[error["code"]].kind == "StorageError"
    assert arguments[-1].partition("/")[0] in error["path"]
    assert "\nhint: " in said.err
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["file"]
