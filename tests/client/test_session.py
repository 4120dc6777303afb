"""Sessions: the location of the cache, the notice about unofficial endpoints, and the time budget."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session, SessionOptions
from marfetch.errors import StorageError
from marfetch.layout.cache import cache_root
from marfetch.layout.layout import Layout
from marfetch.reference import Reference

from ..world.content import ALB, source_of
from ..world.progress import Heard
from ..world.registry import Registry


def test_a_cache_that_cannot_be_written_is_read_and_the_rest_is_kept_for_the_run(
    client: Callable[..., Session], mar: Registry, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [Wanted(Reference.parse(f"{ALB}:1.7.12"))]
    with client() as first:
        assert not pull(first, wanted, PullOptions(tmp_path / "one")).failed
    before = sorted((tmp_path / "cache").rglob("*"))
    monkeypatch.setattr(Layout, "is_writable", property(lambda self: self.root != tmp_path / "cache"))
    mar.asked.clear()
    with client() as second:
        result = pull(second, [*wanted, Wanted(Reference.parse(f"{ALB}:1.7.9"))], PullOptions(tmp_path / "two"))
    assert not result.failed
    assert mar.kinds().count("data") == 1
    assert sorted((tmp_path / "cache").rglob("*")) == before
    assert any("is not writable" in warning for warning in heard.warnings)


def test_a_cache_directory_that_cannot_be_made_is_an_error_where_it_was_named(tmp_path: Path, heard: Heard) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        Session(SessionOptions(cache_dir=tmp_path / "file" / "cache"), heard)


def test_without_a_home_the_cache_lasts_for_the_run(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARFETCH_CACHE_DIR")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with Session(SessionOptions(), heard) as client:
        root = client.cache.root
        assert root.is_dir()
    assert not root.exists()
    assert len(heard.warnings) == 1


def test_temporary_caches_of_runs_that_were_killed_go_and_others_stay(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MARFETCH_CACHE_DIR")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("killed", "other"):
        (tmp_path / f"marfetch-cache-{name}").mkdir()
    (tmp_path / "marfetch-cache-killed" / "in-use").write_text("")
    with Session(SessionOptions(), heard) as running, Session(SessionOptions(), heard):
        assert running.cache.root.is_dir()
        assert sorted(path.name for path in tmp_path.glob("marfetch-cache-*") if path != running.cache.root)[-1] != "marfetch-cache-killed"
        assert not (tmp_path / "marfetch-cache-killed").exists()
        assert (tmp_path / "marfetch-cache-other").exists(), "the owner of the directory is unknown"


def test_the_place_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root(tmp_path / "named") == tmp_path / "named"
    assert cache_root(None) == tmp_path / "cache"
    monkeypatch.delenv("MARFETCH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root(None) == tmp_path / "xdg" / "marfetch"


def test_the_notice_about_an_own_registry_comes_once(client: Callable[..., Session], heard: Heard) -> None:
    one = client()
    for _ in range(3):
        source_of(one, Reference(ALB))
    assert len([warning for warning in heard.warnings if "no mirrors" in warning]) == 1


def test_items_run_in_parallel_but_never_wait_for_their_own_pool(client: Callable[..., Session]) -> None:
    one = client(jobs=2)

    def outer(number: int) -> list[int]:
        return one.each(lambda inner: number * 10 + inner, [1, 2, 3])

    assert one.each(outer, [1, 2, 3, 4]) == [[11, 12, 13], [21, 22, 23], [31, 32, 33], [41, 42, 43]]
