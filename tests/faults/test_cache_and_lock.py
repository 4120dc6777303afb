"""L: local data that other programs have changed: the cache and the lock file."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marfetch.files import claim
from marfetch.oci import Digest

from ..world.rows import row
from ..world.world import Ended, World

DATA = bytes(range(256)) * 200
DIGEST = Digest.of(DATA)
PULL = ("pull", "aks/thing:1", "--json")
NOBODY = 65534


def add(world: World, data: bytes = DATA) -> None:
    world.registry.add_artifact("aks/thing", "1", ("thing.bin", data))


def again(world: World, *, requests: int = 3) -> Ended:
    """Pull into another directory, from the cache where its content is valid."""
    return world.run(*PULL, "-d", "again").succeeded(made={"again/thing.bin": DATA}, requests=requests)


# -- L01


def blob(world: World) -> Path:
    return world.cache / "blobs" / "sha256" / DIGEST.encoded


def directory_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_in_its_place(path: Path) -> None:
    # A link is refused even if its target has the right bytes, because the target can change later.
    moved = path.parents[3] / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)


def pipe_in_its_place(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: path.write_bytes(DATA[:-1]),
    "a flipped bit": lambda path: path.write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:]),
    "longer": lambda path: path.write_bytes(DATA + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "another blob's bytes": lambda path: path.write_bytes(b"{}" * (len(DATA) // 2)),
    "a directory": directory_in_its_place,
    "a symbolic link": link_in_its_place,
    "a pipe": pipe_in_its_place,
}


@row("L01", "a cached blob is truncated, altered, a directory, a link or a pipe", "Reports it and downloads the blob again", code=0)
@pytest.mark.parametrize("name", DAMAGES)
def test_a_corrupted_blob_in_the_cache_is_downloaded_again(world: World, name: str) -> None:
    add(world)
    world.run(*PULL).succeeded(made={"thing.bin": DATA})
    (world.cache / "elsewhere").write_bytes(b"")
    DAMAGES[name](blob(world))
    elsewhere = (world.cache / "elsewhere").read_bytes()
    ended = again(world)
    assert str(DIGEST) in ended.err, ended
    assert "corrupted" in ended.err, ended
    assert blob(world).lstat().st_size == len(DATA)
    assert stat.S_ISREG(blob(world).lstat().st_mode)
    assert (world.cache / "elsewhere").read_bytes() == elsewhere
    world.run("cache", "verify", "--json").succeeded(requests=0)


@row("L01", "a cached blob is corrupted, with `--offline`", "Writes nothing and says that the blob is not in the cache", code=7)
def test_a_damaged_blob_is_not_placed_when_offline(world: World) -> None:
    add(world)
    world.run(*PULL).succeeded()
    DAMAGES["a flipped bit"](blob(world))
    world.run(*PULL, "-d", "again", "--offline").failed(7, "offline", requests=0)


@row("L01", "a cached manifest is altered, a directory or a link", "Requests it again", code=0)
@pytest.mark.parametrize("name", ["a flipped bit", "a directory", "a symbolic link"])
def test_a_corrupted_manifest_in_the_cache_is_requested_again(world: World, name: str) -> None:
    add(world)
    digest = world.registry.manifests["aks/thing 1"]
    pinned = f"aks/thing@{Digest.of(digest[1])}"
    world.run("pull", pinned, "--json").succeeded(requests=3)
    DAMAGES[name](world.cache / "blobs" / "sha256" / Digest.of(digest[1]).encoded)
    ended = world.run("pull", pinned, "-d", "again", "--json").succeeded(made={"again/thing.bin": DATA}, requests=1)
    assert ended.kinds == ["manifest"]


@row("L01", "file names in the cache that are not digests", "Ignores them; `cache verify` lists them", code=5)
def test_a_wrong_name_in_the_cache_is_passed_over_and_named(world: World) -> None:
    add(world)
    world.run(*PULL).succeeded()
    for name in ("nonsense", "..x", "0" * 63, "A" * 64):
        (blob(world).parent / name).write_bytes(b"x")
    again(world, requests=1)
    ended = world.run("cache", "verify", "--json").failed(5, "digest-mismatch", "4 blobs", requests=0)
    assert len(ended.document["data"]["bad"]) == 4


# -- L02


@row("L02", "the cache is read-only", "Uses what it holds, keeps new content for this run only, and says so", code=0)
def test_a_cache_that_cannot_be_written_is_read(world: World, plain: dict[str, Any]) -> None:
    add(world)
    world.run(*PULL, **plain).succeeded(made={"thing.bin": DATA}, requests=3)
    held = sorted(world.cache.rglob("*"))
    for path in (*held, world.cache):
        path.chmod(0o555 if path.is_dir() else 0o444)
    ended = world.run(*PULL, "-d", "again", **plain).succeeded(made={"again/thing.bin": DATA}, requests=1)
    assert "is not writable" in ended.err
    world.registry.add_artifact("aks/other", "1", ("other.bin", DATA[1:]))
    ended = world.run("pull", "aks/other:1", "--json", **plain).succeeded(made={"other.bin": DATA[1:]}, requests=3)
    assert "cached for this run only" in ended.err
    assert sorted(world.cache.rglob("*")) == held
    for path in (world.cache, *held):
        path.chmod(0o755 if path.is_dir() else 0o644)


@row("L02", "a blob or a directory of the cache is unreadable", "Names the file and says what to do", code=9)
@pytest.mark.parametrize("name", ["blob", "blobs"])
def test_an_unreadable_file_in_the_cache_is_named(world: World, plain: dict[str, Any], name: str) -> None:
    add(world)
    world.run(*PULL, **plain).succeeded()
    path = blob(world) if name == "blob" else world.cache / "blobs"
    mode = path.stat().st_mode
    path.chmod(0)
    ended = world.run(*PULL, "-d", "again", **plain).failed(9, "file-unusable", "permission denied", str(path), requests=2)
    assert ended.error["hint"]
    path.chmod(stat.S_IMODE(mode))


@row("L02", "the cache belongs to another user", "Refuses to use it", code=4)
def test_a_cache_of_another_user_is_refused(world: World, plain: dict[str, Any]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can change the owner of files")
    add(world)
    world.cache.mkdir(mode=0o700)
    os.chown(world.cache, NOBODY, NOBODY)
    ended = world.run(*PULL, **plain).failed(4, "cache-unsafe", "belongs to another user", str(world.cache), requests=0)
    assert "--cache-dir" in ended.error["hint"]


@row("L02", "every user may write into the cache", "Refuses to use it", code=4)
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_cache_that_is_open_to_all_is_refused(world: World, mode: int) -> None:
    add(world)
    world.cache.mkdir()
    world.cache.chmod(mode)
    world.run(*PULL).failed(4, "cache-unsafe", "every user can write", f"chmod 700 {world.cache}", requests=0)
    assert list(world.cache.iterdir()) == []


@row("L02", "the cache and its parent directories are missing", "Creates it, accessible to its owner only", code=0)
def test_a_cache_that_is_missing_is_made_for_its_owner_only(world: World) -> None:
    add(world)
    world.run(*PULL, umask=0).succeeded(made={"thing.bin": DATA}, requests=3)
    assert stat.S_IMODE(world.cache.stat().st_mode) == 0o700
    world.environment["MARFETCH_CACHE_DIR"] = str(world.cache / "a" / "b")
    world.run(*PULL, "-d", "again").succeeded(made={"again/thing.bin": DATA}, requests=3)


@row("L02", "a file has the name of the cache directory", "Names the file", code=9)
def test_a_file_in_the_place_of_the_cache_is_named(world: World) -> None:
    add(world)
    world.cache.write_text("mine")
    world.run(*PULL).failed(9, "file-unusable", str(world.cache), requests=0)
    assert world.cache.read_text() == "mine"


def mounted(place: Path, options: str) -> bool:
    """Mount a file system in memory, and return whether that succeeded."""
    line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    return os.geteuid() == 0 and subprocess.run(line, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_cache(world: World) -> Iterator[World]:
    """Use a file system of 1 MiB for the cache."""
    world.cache.mkdir(mode=0o700)
    if not mounted(world.cache, "size=1m,mode=700"):
        pytest.skip("cannot mount a file system here (this requires root)")
    try:
        yield world
    finally:
        subprocess.run(["umount", str(world.cache)], check=True)


@row(
    "L02",
    "the disk of the cache has too little space for a blob",
    "Says how much it needs and how much is free, and leaves nothing",
    code=9,
)
def test_a_cache_on_a_full_disk_is_reported_before_the_first_byte(small_cache: World) -> None:
    world = small_cache
    data = bytes(range(256)) * 8192
    add(world, data)
    ended = world.run(*PULL).failed(9, "disk-full", str(len(data)), "cache prune", requests=2)
    assert ended.partial == {}
    assert ended.error["needed"] == len(data)
    assert 0 < ended.error["free"] < len(data)


@row("L02", "the disk of the cache has no free space at all", "Says so and leaves nothing incomplete", code=9)
def test_a_cache_on_a_disk_without_free_space_is_reported(small_cache: World) -> None:
    world = small_cache
    add(world)
    world.run("cache", "info", "--json").succeeded()
    number = os.open(world.cache / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(number, bytes(4096)):
            pass
    os.close(number)
    world.run(*PULL).failed(9, "disk-full", "disk is full", requests=2)
    (world.cache / "filler").unlink()
    world.recovers(*PULL, made={"thing.bin": DATA})


@row("L02", "the file system of the cache is mounted read-only", "Uses what the cache holds", code=0)
def test_a_cache_that_is_mounted_read_only_is_read(small_cache: World) -> None:
    world = small_cache
    add(world)
    world.run(*PULL).succeeded(requests=3)
    subprocess.run(["mount", "-o", "remount,ro", str(world.cache)], check=True)
    ended = world.run(*PULL, "-d", "again").succeeded(made={"again/thing.bin": DATA}, requests=1)
    assert "is not writable" in ended.err


# -- L03

INDEXES: dict[str, bytes] = {
    "cut": b'{"schemaVersion":2,"manifests":[{"mediaType":"appl',
    "empty": b"",
    "not UTF-8": b"\xff\xfe{\x00}\x00",
    "a list": b"[]",
    "without manifests": b'{"schemaVersion":2}',
    "an entry without a digest": b'{"schemaVersion":2,"manifests":[{"mediaType":"x/y","size":1}]}',
    "a digest that leads elsewhere": b'{"schemaVersion":2,"manifests":[{"mediaType":"x/y","size":1,"digest":"sha256:../../../outside"}]}',
    "a name twice": b'{"schemaVersion":2,"schemaVersion":2,"manifests":[]}',
    "200,000 brackets": b"[" * 200_000,
}


@row(
    "L03", "the cache's index is truncated, empty, not UTF-8, of another form, or nested too deep", "Starts a new index and says so", code=0
)
@pytest.mark.parametrize("name", INDEXES)
def test_an_index_of_the_cache_that_cannot_be_read_is_begun_anew(world: World, name: str) -> None:
    add(world)
    world.run(*PULL).succeeded()
    (world.cache / "index.json").write_bytes(INDEXES[name])
    ended = again(world, requests=1)
    assert "starts a new index" in ended.err, ended
    index = json.loads((world.cache / "index.json").read_bytes())
    assert [one["annotations"]["org.opencontainers.image.ref.name"] for one in index["manifests"]] == [f"{world.registry.host}/aks/thing:1"]
    assert "starts a new index" not in world.run("cache", "info", "--json").succeeded().err


MARKERS = {"newer": b'{"imageLayoutVersion":"2.0.0"}', "no JSON": b"{", "none": b"{}", "another": b'{"imageLayoutVersion":1}'}


@row("L03", "the cache was created by a newer version, or is not a cache", "Leaves it unchanged and says so", code=9)
@pytest.mark.parametrize("name", MARKERS)
def test_a_cache_of_another_version_is_left_alone(world: World, name: str) -> None:
    add(world)
    world.run(*PULL).succeeded()
    (world.cache / "oci-layout").write_bytes(MARKERS[name])
    before = {path: path.read_bytes() for path in world.cache.rglob("*") if path.is_file()}
    world.run(*PULL, "-d", "again").failed(9, "cache-damaged", "the version of marfetch that created this one", requests=0)
    assert {path: path.read_bytes() for path in world.cache.rglob("*") if path.is_file()} == before


# -- L04


def project(world: World, *items: str) -> None:
    """Write a project file with these items."""
    (world.here / "marfetch.yaml").write_text("schema: 1\nartifacts:\n" + "".join(f"  - {{{item}}}\n" for item in items))


@pytest.fixture
def locked(world: World) -> World:
    """Create a project with a lock of two artifacts."""
    for name in ("first", "second"):
        world.registry.add_artifact(f"aks/{name}", "1.0.0", (f"{name}.bin", name.encode()))
    project(world, "reference: aks/first, version: ^1", "reference: aks/second, version: ^1")
    world.run("lock", "--json").succeeded()
    return world


Edit = Callable[[bytes], bytes]


def entries(change: Callable[[list[dict[str, Any]]], object]) -> Edit:
    """Return an edit that changes the list of entries, and writes the file as marfetch does."""

    def edit(data: bytes) -> bytes:
        document = json.loads(data)
        change(document["artifacts"])
        return (json.dumps(document, indent=1) + "\n").encode()

    return edit


def replaced(old: bytes, new: bytes) -> Edit:
    def edit(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return edit


def other_digest(found: list[dict[str, Any]]) -> None:
    found[0]["digest"] = str(Digest.of(b"other"))
    found[0]["reference"] = found[0]["reference"].partition("@")[0] + "@" + found[0]["digest"]


EDITS: dict[str, tuple[Edit, int, str, str]] = {
    "another digest, in all places": (entries(other_digest), 5, "lock-edited", ", line 6:"),
    "another digest, in one": (entries(lambda found: found[0].update(digest=str(Digest.of(b"x")))), 5, "lock-malformed", ", line 6 is"),
    "another repository": (replaced(b"/aks/first:", b"/aks/f1rst:"), 5, "lock-edited", ", line 6:"),
    "another host": (entries(lambda found: found[0].update(reference=found[0]["reference"].replace("127.0.0.1", "evil.example"))), 5, "lock-edited", ", line 6:"),
    "no host": (entries(lambda found: found[0].update(reference=found[0]["reference"].partition("/")[2])), 5, "lock-malformed", ", line 6 is"),
    "another file name": (replaced(b'"second.bin"', b'"first.bin"'), 5, "lock-edited", "line"),
    "a file name that leads elsewhere": (replaced(b'"first.bin"', b'"../../outside/kept.txt"'), 5, "lock-edited", ", line 6:"),
    "a key that is none": (entries(lambda found: found[1].update(post="rm -rf /")), 5, "lock-malformed", "`post`"),
    "a key of the file that is none": (replaced(b'"schema": 1', b'"schema": 1, "run": "x"'), 5, "lock-malformed", "`run`"),
    "a newer form": (replaced(b'"schema": 1', b'"schema": 3'), 8, "lock-newer", "newer format (3)"),
    "true for a size": (entries(lambda found: found[0].update(size=True)), 5, "lock-malformed", "`size`"),
    "a negative size": (entries(lambda found: found[0].update(size=-1)), 5, "lock-malformed", "size"),
    "markers of a merge": (lambda data: b"<<<<<<< HEAD\n" + data + b"=======\n>>>>>>> theirs\n", 5, "lock-malformed", ", line 1 is malformed: it contains merge conflict markers"),
    "an entry twice": (entries(lambda found: found.append(found[0])), 5, "lock-malformed", "`first` appears twice"),
    "two entries under each other's names": (entries(lambda found: (found[0].update(name="second"), found[1].update(name="first"))), 5, "lock-edited", "line"),
    "cut": (lambda data: data[:-40], 5, "lock-malformed", "malformed"),
    "empty": (lambda _: b"", 5, "lock-malformed", "malformed"),
    "a byte order mark": (lambda data: b"\xef\xbb\xbf" + data, 5, "lock-malformed", "malformed"),
    "UTF-16": (lambda data: data.decode().encode("utf-16"), 5, "lock-malformed", "malformed"),
    "a key twice": (replaced(b'"schema": 1', b'"schema": 1, "schema": 1'), 5, "lock-malformed", "twice"),
    "200,000 brackets": (lambda _: b"[" * 200_000, 5, "lock-malformed", "malformed"),
    "10^6 entries": (lambda _: b'{"schema":1,"tool":"x","artifacts":[' + b"{}," * 999_999 + b"{}]}", 4, "limit-passed", "1000000 entries"),
}  # fmt: skip


@row(
    "L04",
    "the lock was edited: digest, repository, host, keys, merge markers, duplicate entries, 10⁶ entries",
    "Refuses it, names the line, and makes no request",
    code=(4, 5, 8),
)
@pytest.mark.parametrize("name", EDITS)
def test_a_lock_that_was_edited_is_refused_and_never_rewritten(locked: World, name: str) -> None:
    edit, exit_code, code, said = EDITS[name]
    path = locked.here / "marfetch.lock"
    edited = edit(path.read_bytes())
    path.write_bytes(edited)
    locked.run("sync", "--locked", "--json").failed(exit_code, code, said, "marfetch.lock", requests=0)
    if name in ("another digest, in all places", "markers of a merge", "cut"):
        for words in (["lock"], ["sync"], ["lock", "--check"], ["outdated"], ["bundle", "create", "-o", "a.tar"]):
            locked.run(*words, "--json").failed(exit_code, code, said, requests=0)
    assert path.read_bytes() == edited


@row("L04", "the lock has Windows line endings", "Reads it and leaves it unchanged", code=0)
def test_a_lock_with_other_line_ends_is_the_same_lock(locked: World) -> None:
    path = locked.here / "marfetch.lock"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    before = path.read_bytes()
    locked.run("lock", "--check", "--json").succeeded(made={}, requests=0)
    locked.run("lock", "--json").succeeded(made={}, requests=2)
    locked.run("sync", "--locked", "--json").succeeded(made={"first.bin": b"first", "second.bin": b"second"}, requests=4)
    assert path.read_bytes() == before


# -- L05


@row("L05", "the tag has moved since it was locked", "Refuses it with both digests; only `--upgrade` accepts it", code=8)
def test_a_tag_that_was_moved_is_refused_until_it_is_upgraded(locked: World) -> None:
    entry = json.loads((locked.here / "marfetch.lock").read_text())["artifacts"][0]
    moved = locked.registry.add_artifact("aks/first", "1.0.0", ("first.bin", b"something else"))
    for words, requests in ((["lock"], 2), (["sync"], 6)):
        made = {"second.bin": b"second"} if words == ["sync"] else {}
        ended = locked.run(*words, "--json").failed(
            8, "tag-drifted", entry["digest"], str(moved.digest), "--upgrade first", made=made, requests=requests
        )
        assert not any(str(Digest.of(b"something else").encoded) in asked.target for asked in ended.asked)
    made = {"first.bin": b"first"}
    locked.run("sync", "--locked", "--json").succeeded(made=made, requests=4)
    locked.run("lock", "--upgrade", "second", "--json").failed(8, "tag-drifted", requests=4)
    locked.run("lock", "--upgrade", "first", "--json", replaces=["marfetch.lock"]).succeeded(requests=4)
    locked.run("sync", "--locked", "--json", replaces=["first.bin"]).succeeded(made={"first.bin": b"something else"}, requests=2)


@row("L05", "the locked version disappears from the tag list", "Keeps it; `--upgrade` goes back to an older version and says so", code=0)
def test_an_older_version_is_used_only_by_an_upgrade_with_a_warning(locked: World) -> None:
    registry = locked.registry
    registry.add_artifact("aks/first", "1.1.0", ("first.bin", b"newer"))
    locked.run("lock", "--upgrade", "--json", replaces=["marfetch.lock"]).succeeded()
    registry.tags["aks/first"] = ["1.0.0"]
    locked.run("lock", "--json").succeeded(made={}, requests=2)
    locked.run("sync", "--json").succeeded(made={"first.bin": b"newer", "second.bin": b"second"}, requests=6)
    ended = locked.run("lock", "--upgrade", "--json", replaces=["marfetch.lock"]).succeeded(requests=4)
    assert "`first` is downgraded from `1.1.0` to `1.0.0`" in ended.err, ended
    del registry.manifests["aks/first 1.0.0"]
    ended = locked.run("lock", "--json").succeeded(made={}, requests=3)
    assert "is gone" in ended.err


# -- L07


def killed(world: World, tmp_path: Path, *words: str, at: int) -> bool:
    """Run a command that is killed at request number `at`; return whether it got that far."""
    line, environment = world.command(*words, record=tmp_path / f"killed-{at}")
    started: list[subprocess.Popen[bytes]] = []
    asked: list[int] = []

    def kill(_connection: socket.socket, _head: bytes, _body: bytes) -> None:
        os.kill(started[0].pid, signal.SIGKILL)

    def count(answer: Any, _: dict[str, str]) -> None:
        asked.append(1)
        if len(asked) == at:
            answer.send = kill

    world.registry.honestly()
    world.registry.on("any")._set(count, None)
    with (tmp_path / "said").open("wb") as said:
        started.append(subprocess.Popen(line, cwd=world.here, env=environment, stdout=said, stderr=said))
    code = started[0].wait(90)
    world.registry.honestly()
    assert code in (0, -signal.SIGKILL)
    return code != 0


def hidden(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


@row(
    "L07",
    "SIGKILL at each request of a `lock`, a `bundle create` and a `sync`",
    "Leaves the old file or the new one, complete; the next run succeeds",
    code=0,
)
@pytest.mark.parametrize(
    "words",
    [["lock", "--upgrade", "--json"], ["bundle", "create", "-o", "a.tar", "--json"], ["sync", "--locked", "--json"]],
    ids=lambda words: words[0],
)
def test_a_crash_between_two_artifacts_leaves_the_old_file_or_the_new_one(locked: World, tmp_path: Path, words: list[str]) -> None:
    world = locked
    (world.here / "a.tar").write_bytes(b"an older bundle")
    before = {path.name: path.read_bytes() for path in world.here.iterdir()}
    if words[0] == "lock":
        for name in ("first", "second"):
            world.registry.add_artifact(f"aks/{name}", "1.1.0", (f"{name}.bin", f"newer {name}".encode()))
    right = {"sync": {"first.bin": b"first", "second.bin": b"second"}}.get(words[0], {})
    at = 1
    while killed(world, tmp_path, *words, at=at):
        for path in world.here.iterdir():
            if not path.name.startswith("."):
                assert path.read_bytes() == before.get(path.name, right.get(path.name)), path
        assert world.cache.is_dir()
        at += 1
    assert at > 2, "it was never killed"
    # A record that another thread was writing at that moment stays for a day.
    for path in (world.cache / "ingest").glob("*.json.*"):
        os.utime(path, (0, 0))
    ended = world.run(*words, replaces=["marfetch.lock", "a.tar"]).succeeded()
    assert hidden(world.here) == [], ended
    if words[0] == "bundle":
        world.run("bundle", "verify", "a.tar", "--json").succeeded(requests=0)
    elif words[0] == "lock":
        found = json.loads((world.here / "marfetch.lock").read_text())["artifacts"]
        assert [one["version"] for one in found] == ["1.1.0"] * 2
    else:
        assert {name: (world.here / name).read_bytes() for name in right} == right
    assert ended.partial == {}


# -- L08

ODD = ["9999999999.0.0", "01.2.3", "1.2.3_a", "1.2.3_b", "1.2.3", "v1.2.3", "1.2.3-0", "1.2.3-rc.1", "1.2.4-alpha", "0.0.0", "1.2", "latest", "1.2.3.4", "99999999999999999999999999.0.0"]  # fmt: skip


@row(
    "L08",
    "versions with huge numbers, leading zeros, a `v` or build metadata, in any order",
    "Sorts them by precedence, always the same way",
    code=0,
)
def test_the_order_of_odd_versions_is_total_and_does_not_depend_on_the_list(world: World) -> None:
    for tag in ODD:
        world.registry.add_artifact("aks/odd", tag, ("x", tag.encode()))
    shown: list[list[list[str]]] = []
    rest: list[set[str]] = []
    for number in range(3):
        tags = ODD.copy()
        random.Random(number).shuffle(tags)
        world.registry.tags["aks/odd"] = json.dumps({"name": "aks/odd", "tags": tags}).encode()
        data = world.run("versions", "aks/odd", "--all", "--json").succeeded(requests=1).document["data"]
        shown.append([[one["version"], one["tag"]] for one in data["versions"]])
        rest.append({str(one["tag"] if isinstance(one, dict) else one) for one in data["other"]})
    versions = [[version for version, _ in one] for one in shown]
    assert versions[0][0] in ("99999999999999999999999999.0.0", "9999999999.0.0")
    # Build metadata does not affect precedence (SemVer 2.0.0, 10). Without it, the order is unique.
    plain = [[version.partition("+")[0] for version in one] for one in versions]
    assert plain[0] == plain[1] == plain[2]
    assert plain[0][1:] == sorted(plain[0][1:], key=plain[0][1:].index)
    assert {"latest", "1.2", "1.2.3.4"} <= rest[0] == rest[1] == rest[2]
    found = world.run("resolve", "aks/odd", "--version", "^1.2.3", "--json").succeeded(requests=2).document["data"]
    assert found["version"].partition("+")[0] == "1.2.3"
    assert world.run("resolve", "aks/odd", "--version", "~0.0", "--json").succeeded(requests=2).document["data"]["tag"] == "0.0.0"


@row(
    "F06",
    "another process downloads the same blob and is suspended",
    "Says that it waits, gives up when no data arrives, and names the blob and its file",
    code=7,
)
def test_a_blob_that_a_suspended_process_holds_is_not_waited_for_without_end(world: World) -> None:
    world.artifact("aks/held", DATA)
    digest = Digest.of(DATA).encoded
    part = world.cache / "ingest" / f"sha256-{digest}"
    part.parent.mkdir(parents=True, mode=0o700)
    world.cache.chmod(0o700)
    with part.open("wb") as file:
        assert claim(file.fileno())  # lock the file, as the other process would
        file.write(DATA[:1])
        file.flush()
        ended = world.run("pull", "aks/held:1", "--json", limits={"NO_PROGRESS": 7.0})
    ended.failed(7, "timeout", digest, str(part), "suspended", requests=1)
    assert ended.err.count("is already being fetched") == 1
    world.recovers("pull", "aks/held:1", "--json", made={"held.bin": DATA})
