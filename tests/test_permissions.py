"""Permissions: other users can read downloaded files, but cannot write to the cache or find credentials."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marfetch import records
from marfetch.bundle.create import create
from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session
from marfetch.files import make_directories
from marfetch.project.locking import writing
from marfetch.records import Records
from marfetch.reference import Reference
from marfetch.remote.credentials import forget_credentials

from .world.bundles import locked
from .world.content import ALB, source_of
from .world.registry import Registry

Made = Callable[..., Session]
UMASKS = {0o000: 0o644, 0o022: 0o644, 0o027: 0o640, 0o077: 0o600}
"""Umask → the expected mode of a downloaded file."""


@pytest.fixture(params=UMASKS, ids=lambda umask: f"umask {umask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield int(request.param)
    os.umask(before)


def modes(place: Path) -> dict[str, int]:
    """Return path → mode for everything below a directory."""
    return {str(path.relative_to(place)): stat.S_IMODE(path.lstat().st_mode) for path in sorted(place.rglob("*"))}


def used(made: Session, tmp_path: Path) -> Path:
    """Create a cache into which all kinds of commands have written."""
    reference, source = source_of(made, Reference.parse(ALB))
    records.keep(made.cache.root, reference.full_repository, source.tags(reference))
    records.keep_catalog(made.cache.root, str(reference.host), source.repositories(), "x")
    Records(made.cache.root, "charts").put("key", {"a": 1})
    with Records(made.cache.root, "search").alone("key", wait=1):
        pass
    project = locked(made, tmp_path / "project")
    with writing(made, project):
        pass
    create(made, project, tmp_path / "out" / "bundle.tar")
    result = pull(made, [Wanted(Reference.parse(f"{ALB}:1.7.12"))], PullOptions(tmp_path / "out" / "deep" / "files"))
    assert not result.failed
    made.cache.names.flush()
    return made.cache.root


@pytest.mark.parametrize("is_there", [False, True], ids=["a new cache", "a cache directory that others may look into"])
def test_the_cache_is_writable_by_its_owner_only_under_any_umask(client: Made, tmp_path: Path, umask: int, is_there: bool) -> None:
    cache = tmp_path / "cache"
    if is_there:
        cache.mkdir()
        cache.chmod(0o755)
    assert used(client(), tmp_path) == cache
    assert stat.S_IMODE(cache.stat().st_mode) == (0o755 if is_there else 0o700)
    found = modes(cache)
    assert {path for path, mode in found.items() if mode & 0o022} == set()
    assert {path.partition("/")[0] for path in found} >= {"blobs", "kept", "listings", "index.json", "oci-layout"}
    # Only the owner may access lock files.
    assert {mode & 0o077 for path, mode in found.items() if path.endswith(".lock")} == {0}
    # Permissions in an artifact are not kept, so no file in the cache is executable.
    assert {path for path, mode in found.items() if mode & 0o111 and not (cache / path).is_dir()} == set()


def test_what_is_fetched_is_for_others_to_read_as_far_as_the_umask_lets(client: Made, tmp_path: Path, umask: int) -> None:
    used(client(), tmp_path)
    found = modes(tmp_path / "out") | {"lock": stat.S_IMODE((tmp_path / "project" / "marfetch.lock").stat().st_mode)}
    directories = {"deep", "deep/files"}
    assert {path: mode for path, mode in found.items() if path not in directories} == dict.fromkeys(
        {"bundle.tar", "deep/files/alb-controller-1.7.12.tgz", "lock"}, UMASKS[umask]
    )
    assert {found[path] for path in directories} == {0o755 & ~umask}


def test_directories_are_made_with_those_above_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_directories(tmp_path / "a" / "b" / "c")
        make_directories(tmp_path / "a" / "b")  # there already
    finally:
        os.umask(before)
    assert modes(tmp_path / "a") | {"a": stat.S_IMODE((tmp_path / "a").stat().st_mode)} == {"a": 0o755, "b": 0o755, "b/c": 0o755}
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directories(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_directories(tmp_path / "file" / "x")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        make_directories(tmp_path / "link")


def test_credentials_are_stored_nowhere(client: Made, mar: Registry, tmp_path: Path) -> None:
    """Neither the credentials of the user nor the token from the registry is stored."""
    secret, token = "s3cr3t-p4ssw0rd", "t0ken-t0ken-t0ken"
    packed = base64.b64encode(f"user:{secret}".encode()).decode()
    configuration = tmp_path / "home" / ".docker" / "config.json"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(json.dumps({"auths": {mar.host: {"auth": packed}}}))
    forget_credentials()
    mar.token, mar.challenge = token, f'Bearer realm="http://{mar.host}/token",service="test"'
    try:
        used(client(), tmp_path)
    finally:
        forget_credentials()
    assert {f"Bearer {token}", f"Basic {packed}"} <= {asked.headers.get("authorization") for asked in mar.asked}
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != configuration]
    assert len(written) > 20
    for path in written:
        data = path.read_bytes()
        for text in (secret, token, packed):
            assert text.encode() not in data, path
