"""Cached tag lists: writing and reading them never disturbs a command."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch import records
from marfetch.client.session import Session
from marfetch.layout import maintenance
from marfetch.layout.layout import Layout
from marfetch.reference import Reference

from .world.content import ALB
from .world.registry import Registry

FOO = "mcr.microsoft.com/aks/foo"


def ask(client: Session, repository: str = ALB) -> list[str]:
    return client.repository(Reference(repository)).tags()


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "listings").iterdir())


@pytest.mark.parametrize("repository", [FOO, "127.0.0.1:5000/aks/foo", "localhost:5000/a__b/c-d.e"])
def test_a_list_is_read_back_as_it_was_kept(tmp_path: Path, repository: str) -> None:
    records.keep(tmp_path, repository, ["1.0.0", "latest", "v2_0"])
    assert records.read(tmp_path, repository) == ["1.0.0", "latest", "v2_0"]
    assert records.repositories(tmp_path) == [repository]
    assert records.read(tmp_path, "mcr.microsoft.com/aks/other") is None


def test_a_list_is_one_object_with_its_schema_and_its_time(tmp_path: Path) -> None:
    records.keep(tmp_path, FOO, ["1"])
    assert files(tmp_path) == ["mcr.microsoft.com+aks+foo.json"]
    document = json.loads((tmp_path / "listings" / "mcr.microsoft.com+aks+foo.json").read_text())
    moment = time.strptime(document.pop("time"), "%Y-%m-%dT%H:%M:%SZ")
    assert moment.tm_year >= 2024
    assert document == {"schema": 1, "repository": FOO, "tags": ["1"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 2, "repository": "mcr.microsoft.com/aks/foo", "tags": ["1"]}',
        '{"schema": 1, "repository": "mcr.microsoft.com/aks/bar", "tags": ["1"]}',
        '{"schema": 1, "repository": "mcr.microsoft.com/aks/foo", "tags": "1"}',
        '{"schema": 1, "repository": "mcr.microsoft.com/aks/foo", "tags": ["1"], "tags": ["2"]}',
        '{"schema": 1, "repository": "mcr.microsoft.com/aks/foo", "tags": ["1"]}' + " " * (1 << 20),
    ],
    ids=["empty", "cut", "array", "schema", "other repository", "text for a list", "twice", "too large"],
)
def test_a_file_that_is_no_list_is_none_and_is_replaced(tmp_path: Path, text: str) -> None:
    records.keep(tmp_path, FOO, ["0"])
    (tmp_path / "listings" / "mcr.microsoft.com+aks+foo.json").write_text(text)
    assert records.read(tmp_path, FOO) is None
    records.keep(tmp_path, FOO, ["1"])
    assert records.read(tmp_path, FOO) == ["1"]


def test_links_pipes_and_directories_are_not_read(tmp_path: Path) -> None:
    records.keep(tmp_path, FOO, ["1"])
    path = tmp_path / "listings" / "mcr.microsoft.com+aks+foo.json"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert records.read(tmp_path, FOO) is None
    path.unlink()
    os.mkfifo(path)
    assert records.read(tmp_path, FOO) is None
    path.unlink()
    path.mkdir()
    assert records.read(tmp_path, FOO) is None
    records.keep(tmp_path, FOO, ["1"])  # the list cannot be written, which is not an error
    assert path.is_dir()


def test_a_list_that_is_too_long_is_not_kept_and_the_old_one_goes(tmp_path: Path) -> None:
    records.keep(tmp_path, FOO, ["1"])
    records.keep(tmp_path, FOO, [f"{number:0100}" for number in range(11_000)])
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "repository", ["mcr.microsoft.com/" + "a" * 250, "mcr.microsoft.com/a+b", "mcr.microsoft.com/a=b", ".hidden/a", "a\0b"]
)
def test_a_name_that_makes_no_file_name_is_not_kept(tmp_path: Path, repository: str) -> None:
    records.keep(tmp_path, repository, ["1"])
    assert not (tmp_path / "listings").exists()
    assert records.read(tmp_path, repository) is None


def test_the_same_list_is_not_written_again(tmp_path: Path) -> None:
    records.keep(tmp_path, FOO, ["1"])
    path = tmp_path / "listings" / "mcr.microsoft.com+aks+foo.json"
    before = path.stat().st_ino
    os.utime(path, (1, 1))
    records.keep(tmp_path, FOO, ["1"])
    assert path.stat().st_ino == before
    assert path.stat().st_mtime > 1
    records.keep(tmp_path, FOO, ["1", "2"])
    assert records.read(tmp_path, FOO) == ["1", "2"]


# -- tag lists that the client caches


def test_a_tag_list_is_cached_under_its_host(client: Callable[..., Session], mar: Registry, tmp_path: Path) -> None:
    tags = ask(client())
    assert mar.kinds() == ["tags"]
    assert records.read(tmp_path / "cache", f"{mar.host}/{ALB}") == tags


def test_offline_neither_writes_a_list_nor_chooses_from_one(client: Callable[..., Session], mar: Registry, tmp_path: Path) -> None:
    online = client()
    online.repository(Reference(ALB, tag="1.7.12")).manifest()
    online.close()
    records.keep(tmp_path / "cache", f"{mar.host}/{ALB}", ["1.7.12", "1.9.9"])
    assert ask(client(offline=True)) == ["1.7.12"]
    assert records.read(tmp_path / "cache", f"{mar.host}/{ALB}") == ["1.7.12", "1.9.9"]


def test_a_list_that_cannot_be_kept_is_no_failure(client: Callable[..., Session], tmp_path: Path) -> None:
    one = client()
    (tmp_path / "cache" / "listings").write_text("a file in its place")
    assert "1.7.12" in ask(one)


# -- pruning with the rest of the cache


def test_lists_are_pruned_by_their_age_and_cleared_with_the_rest(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cache")
    records.keep(layout.root, FOO, ["1"])
    records.keep(layout.root, "mcr.microsoft.com/aks/old", ["1"])
    long_ago = time.time() - 40 * 86400
    os.utime(layout.root / "listings" / "mcr.microsoft.com+aks+old.json", (long_ago, long_ago))
    unfinished = layout.root / "listings" / ".mcr.microsoft.com+aks+foo.json.1.abcd"
    unfinished.write_bytes(b"123")
    os.utime(unfinished, (long_ago, long_ago))
    assert maintenance.verify(layout) == []
    done = maintenance.prune(layout)
    assert (done.listings, done.size) == (0, 3)
    assert len(files(layout.root)) == 2
    done = maintenance.prune(layout, days=30)
    assert done.listings == 1
    assert done.size > 0
    assert records.repositories(layout.root) == [FOO]
    maintenance.clear(layout.root)
    assert not layout.root.exists()
