"""Caches and records that another user may have changed: marfetch reads nothing from them, and no file there blocks a command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from marfetch import records
from marfetch.budget import Budget
from marfetch.completion.complete import complete
from marfetch.content import Silent
from marfetch.destination.created import CreatedDirectories, CreatedDirectory
from marfetch.errors import PolicyError, StorageError
from marfetch.files import open_own, write_whole
from marfetch.layout.cache import Cache
from marfetch.layout.layout import Layout, open_for_writing
from marfetch.library.facade import Client
from marfetch.records import Records, refuse_unsafe, unsafe

from .world.command import marfetch, surroundings
from .world.content import ALB
from .world.progress import Heard
from .world.registry import Registry

OTHER = 54321
"""The id of a user who is neither the current user nor root."""
Owned = Callable[[Path, int], None]


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch) -> Owned:
    """`owned(path, uid)` makes the path appear to belong to this user, in this process only."""
    stat, lstat = os.stat, os.lstat
    owners: dict[str, int] = {}

    def seen(real: Callable[..., os.stat_result]) -> Callable[..., object]:
        def look(path: object, *arguments: object, **options: object) -> object:
            found = real(path, *arguments, **options)
            owner = owners.get(str(path)) if isinstance(path, (str, Path)) else None
            return found if owner is None else SimpleNamespace(st_mode=found.st_mode, st_uid=owner)

        return look

    monkeypatch.setattr(records, "os", SimpleNamespace(**{**vars(os), "stat": seen(stat), "lstat": seen(lstat)}))
    return lambda path, uid: owners.__setitem__(str(path), uid)


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int, caller: str | None = None) -> None:
    monkeypatch.setattr("marfetch.records.os.geteuid", lambda: uid)
    monkeypatch.delenv("SUDO_UID", raising=False)
    if caller is not None:
        monkeypatch.setenv("SUDO_UID", caller)


@pytest.mark.parametrize(
    ("user", "owner", "caller", "is_safe"),
    [
        (1000, 1000, None, True),
        (1000, 0, None, True),
        (1000, 1001, None, False),
        (0, 0, None, True),
        (0, 1000, None, False),
        (0, 1000, "1000", True),
        (0, 1001, "1000", False),
        (0, 0, "1000", True),
        (0, 1000, "", False),
        (0, 1000, " 1000", False),
        (0, 1000, "+1000", False),
        (1000, 1001, "1001", False),  # `SUDO_UID` counts only if the user is root
    ],
)
def test_the_owner_is_the_user_root_or_the_caller_of_sudo(
    tmp_path: Path, owned: Owned, monkeypatch: pytest.MonkeyPatch, user: int, owner: int, caller: str | None, is_safe: bool
) -> None:
    owned(tmp_path, owner)
    as_user(monkeypatch, user, caller)
    assert (unsafe(tmp_path) is None) is is_safe
    assert unsafe(tmp_path, any_owner=True) is None
    if not is_safe:
        with pytest.raises(PolicyError, match="another user") as caught:
            refuse_unsafe(tmp_path)
        assert (caught.value.code, caught.value.exit_code) == ("cache-unsafe", 4)
        assert "--cache-dir" in caught.value.hint


def test_the_owner_of_a_link_counts_too(tmp_path: Path, owned: Owned, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    link = tmp_path / "link"
    link.symlink_to("cache")
    assert unsafe(link) is None
    if os.geteuid() != 0:
        pytest.skip("only root can change the owner of a link")
    os.lchown(link, OTHER, OTHER)
    assert unsafe(link) is not None


def test_what_is_missing_is_safe(tmp_path: Path) -> None:
    assert unsafe(tmp_path / "none") is None


@pytest.mark.parametrize("part", ["index.json", "oci-layout", "blobs", "blobs/sha256", "ingest", "listings", "kept", "crl"])
def test_what_others_can_change_inside_is_refused_too(tmp_path: Path, owned: Owned, part: str) -> None:
    path = tmp_path / part
    path.mkdir(parents=True)
    assert unsafe(tmp_path) is None
    path.chmod(0o777)
    with pytest.raises(PolicyError, match=f"every user can write to its `{part}`") as caught:
        refuse_unsafe(tmp_path)
    assert f"chmod -R o-w {tmp_path}" in caught.value.hint
    path.chmod(0o755)
    owned(path, OTHER)
    with pytest.raises(PolicyError, match=f"its `{part}` belongs to another user"):
        refuse_unsafe(tmp_path)
    refuse_unsafe(tmp_path, any_owner=True)
    tmp_path.chmod(0o770)  # a directory that a group shares
    refuse_unsafe(tmp_path)


@pytest.mark.parametrize("fault", ["world-writable", "another owner"])
def test_no_record_is_read_from_an_unsafe_cache(tmp_path: Path, owned: Owned, fault: str) -> None:
    kept = Records(tmp_path, "indexes")
    kept.put("x", "data")
    records.keep(tmp_path, "mcr.microsoft.com/aks/foo", ["1.0.0"])
    records.keep_catalog(tmp_path, "mcr.microsoft.com", ["aks/foo"], None)
    assert (kept.get("x") is None, kept.found_keys()) == (False, ["x"])
    if fault == "world-writable":
        tmp_path.chmod(0o777)
    else:
        owned(tmp_path, OTHER)
    assert (kept.get("x"), kept.found_keys()) == (None, [])
    assert records.read(tmp_path, "mcr.microsoft.com/aks/foo") is None
    assert records.repositories(tmp_path) == []
    assert records.read_catalog(tmp_path, "mcr.microsoft.com") is None
    assert complete(["pull", "--cache-dir", str(tmp_path), "aks/"]).startswith(":")


@pytest.mark.parametrize("part", ["directory", "file", "owner"])
def test_a_record_that_others_can_change_is_not_read(tmp_path: Path, part: str) -> None:
    kept = Records(tmp_path, "indexes")
    kept.put("x", "data")
    (path,) = (tmp_path / "kept" / "indexes").glob("*.json")
    assert kept.get("x") is not None
    if part == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root can change the owner of files")
        os.chown(path, OTHER, OTHER)
    else:
        (path if part == "file" else path.parent).chmod(0o777)
    assert kept.get("x") is None


@pytest.mark.parametrize("fault", ["world-writable", "another owner"])
def test_no_record_of_a_created_directory_is_believed_where_others_can_write(tmp_path: Path, owned: Owned, fault: str) -> None:
    created, made = CreatedDirectories(tmp_path / "state"), tmp_path / "made"
    made.mkdir()
    created.put(made, CreatedDirectory(1, {"a": "b"}))
    assert created.get(made) is not None
    if fault == "world-writable":
        (tmp_path / "state").chmod(0o777)
    else:
        owned(tmp_path / "state" / "directories", OTHER)
    assert created.get(made) is None
    before = sorted(tmp_path.rglob("*"))
    created.put(tmp_path / "other", CreatedDirectory(2, {}))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_that_users_share_may_belong_to_any_of_them(tmp_path: Path, owned: Owned) -> None:
    owned(tmp_path, OTHER)
    open_for_writing(tmp_path, Budget(), Silent())
    with pytest.raises(PolicyError, match="another user"):
        Layout(tmp_path)


def commands(mar: Registry, project: Path) -> list[list[str]]:
    reference = f"{mar.host}/{ALB}"
    return [
        ["pull", f"{reference}:1.7.12"],
        ["resolve", reference],
        ["versions", reference],
        ["search", "alb"],
        ["inspect", f"{reference}:1.7.12"],
        ["plan", f"{reference}:1.7.12"],
        ["index", reference],
        ["lock", "-f", str(project)],
        ["sync", "-f", str(project)],
        ["outdated", "-f", str(project)],
        ["bundle", "create", "-f", str(project), "-o", "x.tar"],
        ["cache", "info"],
        ["cache", "verify"],
        ["cache", "prune"],
        ["cache", "clear"],
        ["getter", "", "", "", f"mar://{reference}/index.yaml"],
        ["getter", "", "", "", f"mar://{reference}/alb-controller-1.7.12.tgz"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["world-writable", "another owner"])
def test_every_command_refuses_an_unsafe_cache_before_it_asks_or_reads(mar: Registry, tmp_path: Path, fault: str) -> None:
    if fault == "another owner" and os.geteuid() != 0:
        pytest.skip("only root can change the owner of files")
    project = tmp_path / "marfetch.yaml"
    project.write_text(f"schema: 1\nendpoint: http://{mar.host}\nartifacts:\n  - reference: {ALB}\n")
    cache = tmp_path / "cache"
    environment = surroundings(mar, cache)
    for words in (["lock", "-f", str(project)], ["getter", "", "", "", f"mar://{mar.host}/{ALB}/index.yaml"]):
        assert marfetch(*words, cwd=tmp_path, environment=environment).returncode == 0
    shutil.copytree(cache, tmp_path / "before")
    if fault == "world-writable":
        cache.chmod(0o777)
    else:
        os.chown(cache, OTHER, OTHER)
    mar.asked.clear()
    for words in commands(mar, project):
        done = marfetch(*words, cwd=tmp_path, environment=environment)
        assert done.returncode == 4, (words, done.stderr)
        assert "refused to use the cache" in done.stderr, words
        assert ("MARFETCH_CACHE_DIR" if words[0] == "getter" else "--cache-dir") in done.stderr, words
        assert done.stdout == "", words
    assert mar.asked == []
    assert sorted(path.name for path in cache.rglob("*")) == sorted(path.name for path in (tmp_path / "before").rglob("*"))
    done = marfetch("doctor", "--json", cwd=tmp_path, environment=environment)
    found = {one["id"]: one["status"] for one in json.loads(done.stdout)["data"]["findings"]}
    assert found["cache"] == "fault"


def test_the_library_refuses_an_unsafe_cache_too(mar: Registry, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with Client(endpoint=f"http://{mar.host}", cache_dir=tmp_path / "cache") as client, pytest.raises(PolicyError, match="every user"):
        client.versions(ALB)


# -- named pipes and links in the cache


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to(path.with_name("victim"))


@pytest.mark.parametrize("make", [pipe, link])
def test_own_files_are_opened_only_as_files(tmp_path: Path, make: Callable[[Path], None]) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    make(tmp_path / "x")
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_RDWR | os.O_CREAT | os.O_EXCL):
        with pytest.raises(OSError):
            open_own(tmp_path / "x", flags)
    with pytest.raises(StorageError):
        write_whole(tmp_path / "y", b"new", through=tmp_path / "x")
    assert victim.read_bytes() == b"mine"


@pytest.mark.slow
@pytest.mark.parametrize("make", [pipe, link])
def test_nothing_in_the_cache_blocks_a_command(mar: Registry, tmp_path: Path, make: Callable[[Path], None]) -> None:
    environment = surroundings(mar, tmp_path / "cache")
    assert marfetch("pull", f"{ALB}:1.7.12", cwd=tmp_path, environment=environment).returncode == 0
    places = [path for path in sorted((tmp_path / "cache").rglob("*")) if path.is_file()]
    places += [tmp_path / "cache" / "ingest" / name for name in ("index.json", "oci-layout")]
    places += [tmp_path / "cache" / "ingest" / f"{path.parent.name}-{path.name}" for path in places if path.parent.name == "sha256"]
    for place in places:
        with_one = tmp_path / "one"
        shutil.copytree(tmp_path / "cache", with_one)
        path = with_one / place.relative_to(tmp_path / "cache")
        if path.parent.name == "ingest" and "-" in path.name and path.name != "oci-layout":
            (with_one / "blobs" / path.name.replace("-", "/", 1)).unlink()
        path.unlink(missing_ok=True)
        make(path)
        for words in (["pull", f"{ALB}:1.7.12", "--force"], ["cache", "verify"], ["cache", "prune"]):
            done = marfetch(*words, "--cache-dir", with_one, cwd=tmp_path, environment=environment, timeout=50)
            assert done.returncode in (0, 5, 9), (path, words, done.stderr)
        shutil.rmtree(with_one)


def test_temporary_caches_of_others_are_left_alone(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    foreign = tmp_path / "marfetch-cache-evil"
    foreign.mkdir()
    os.mkfifo(foreign / "in-use")
    (tmp_path / "marfetch-cache-link").symlink_to(foreign)
    monkeypatch.delenv("MARFETCH_CACHE_DIR")
    monkeypatch.setattr("marfetch.layout.cache.cache_root", lambda _: (_ for _ in ()).throw(StorageError("none", code="file-unusable")))
    with Cache(None, heard, Budget()):
        assert foreign.is_dir()
