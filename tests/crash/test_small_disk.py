"""File systems that are full, out of inodes, read-only or too small, and recovery after space is freed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..world.rows import row
from .nursery import Ended
from .scenes import PREPARED, Stage, content, parts, project, tree
from .sweep import PATIENCE, Count

pytestmark = pytest.mark.timeout(PATIENCE)

NEEDS = r"the disk is full: .*(?:needs \d+ more bytes, and .* has \d+|\d+ bytes are needed and \d+ are free)"
Disk = Callable[..., Path]


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """Mount ext4 on a block device of 2 MiB. ext4 allocates blocks late, so a full disk is detected late."""
    image, place = tmp_path / "image", tmp_path / "ext4"
    place.mkdir()
    image.touch()
    with image.open("r+b") as file:
        file.truncate(2 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image)], capture_output=True, check=False)
    if made.returncode or subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk to fill requires root and e2fsprogs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> Path:
    """Write a file that uses up the free space."""
    path = place / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return path


def use_up(place: Path) -> list[Path]:
    """Create empty files until there are no free inodes."""
    made: list[Path] = []
    try:
        while True:
            made.append(place / f"taken{len(made)}")
            made[-1].touch()
    except OSError:
        return made[:-1]


def full(ended: Ended, words: str = NEEDS) -> None:
    assert ended.code == 9, ended
    assert re.search(words, ended.err), ended
    assert "hint: " in ended.err, ended
    assert "Traceback" not in ended.err, ended


def temporary(place: Path) -> list[str]:
    return [path for path in tree(place) if ".marfetch-" in path]


@pytest.fixture
def place(stage: Stage) -> Path:
    made = stage.root / PREPARED
    (made / "work").mkdir(parents=True)
    return made


@row("F01", "a destination without free space", "Keeps the old files; the next run succeeds once there is space", code=9)
@pytest.mark.parametrize("words", [("pull", "aks/one:2.0.0"), ("pull", "aks/toy:2.0.0", "--untar")], ids=["file", "archive"])
def test_a_destination_that_is_full_keeps_what_it_had_until_there_is_room(
    words: tuple[str, ...], stage: Stage, place: Path, disk: Disk, count: Count
) -> None:
    there = disk("size=1m")
    line = (*words, "--force", "--quiet", "-d", str(there))
    assert stage.run(place, *(word.replace("2.0.0", "1.0.0") for word in line)).code == 0
    before = tree(there)
    filler = fill(there)
    full(stage.run(place, *line))
    assert {path: data for path, data in tree(there).items() if path != "filler"} == before
    filler.unlink()
    assert stage.run(place, *line).code == 0
    assert tree(there).keys() >= before.keys()
    assert tree(there) != before
    assert not temporary(there)
    count("disks that were full")


@row(
    "F01",
    "a cache without free space, before and during a download",
    "Fails before the download if possible, and leaves no partial blob",
    code=9,
)
def test_a_blob_too_large_for_the_disk_of_the_cache_is_reported_before_the_download(
    stage: Stage, place: Path, disk: Disk, count: Count
) -> None:
    cache = disk("size=1m")
    cache.chmod(0o700)
    data = content("large", 1 << 21)
    stage.mar.add_artifact("aks/large", "1", ("large.bin", data))
    line = ("pull", "aks/large:1", "-d", "out", "--quiet", "--cache-dir", str(cache))
    stage.mar.honestly()
    full(stage.run(place, *line))
    assert "data" not in stage.mar.kinds()
    assert tree(place / "work") == {}
    # Another program may also use up the space in the middle of the download.
    stage.mar.honestly()
    subprocess.run(["mount", "-o", "remount,size=3m", str(cache)], check=True)
    stage.mar.on("data").drips(1 << 18, 0.2)
    child = stage.start(place, *line)
    child.go()
    while not any(path.stat().st_size for path in (cache / "ingest").glob("sha256-*")):
        pass
    filler = fill(cache)
    full(child.wait())
    assert tree(place / "work") == {}
    assert not list((cache / "ingest").glob("sha256-*"))
    filler.unlink()
    stage.mar.honestly()
    assert stage.run(place, *line).code == 0
    assert (place / "work" / "out" / "large.bin").read_bytes() == data
    count("disks that were full", 2)


@row("F01", "a project on a full disk", "Keeps the old lock intact", code=9)
def test_a_lock_on_a_full_disk_stays_as_it_was(stage: Stage, place: Path, disk: Disk, count: Count) -> None:
    there = disk("size=1m")
    project(there, "1.0.0")
    file = str(there / "marfetch.yaml")
    assert stage.run(place, "lock", "-f", file).code == 0
    before = tree(there)
    project(there, "2.0.0")
    filler = fill(there)
    for command in ("lock", "sync"):
        full(stage.run(place, command, "-f", file))
        assert (there / "marfetch.lock").read_bytes() == before["marfetch.lock"]
        assert not temporary(there)
    filler.unlink()
    assert stage.run(place, "sync", "-f", file).code == 0
    assert json.loads((there / "marfetch.lock").read_bytes())["artifacts"][0]["tag"] == "2.0.0"
    assert (there / "toy" / "Chart.yaml").exists()
    count("disks that were full", 2)


@row(
    "F01",
    "a bundle that does not fit, on tmpfs and ext4",
    "Fails before the first byte, names the exact size, and keeps the old bundle",
    code=9,
)
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_bundle_that_does_not_fit_leaves_the_old_one(
    kind: str, stage: Stage, place: Path, disk: Disk, request: pytest.FixtureRequest, count: Count
) -> None:
    there = disk("size=1m") if kind == "tmpfs" else request.getfixturevalue("ext4")
    stage.mar.add_artifact("aks/one", "3.0.0", ("one.bin", content("one 3", 3 << 20)))
    project(place / "work", "1.0.0")
    line = ("bundle", "create", "--quiet", "-o", str(there / "a.tar"))
    assert stage.run(place, "lock").code == 0
    assert stage.run(place, *line).code == 0
    before = (there / "a.tar").read_bytes()
    (place / "work" / "marfetch.yaml").write_text("schema: 1\nartifacts:\n  - {reference: aks/one, version: 3.0.0}\n")
    assert stage.run(place, "lock").code == 0
    ended = stage.run(place, *line)
    full(ended)
    needed = int(re.search(r"(\d+) bytes are needed", ended.err)[1])  # type: ignore[index]
    assert (there / "a.tar").read_bytes() == before
    assert not temporary(there)
    roomy = place / "work" / "a.tar"
    assert stage.run(place, "bundle", "create", "--quiet", "-o", "a.tar").code == 0
    assert roomy.stat().st_size == needed
    if kind == "tmpfs":
        subprocess.run(["mount", "-o", "remount,size=8m", str(there)], check=True)
        assert stage.run(place, *line).code == 0
        assert (there / "a.tar").read_bytes() == roomy.read_bytes()
    count("disks that were full")


@row("F01", "another program fills the disk while a bundle is written", "Keeps the old bundle and leaves nothing else", code=9)
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_that_others_fill_while_a_bundle_is_written_leaves_the_old_one(
    kind: str, stage: Stage, place: Path, disk: Disk, request: pytest.FixtureRequest, count: Count
) -> None:
    there = disk("size=2m") if kind == "tmpfs" else request.getfixturevalue("ext4")
    (there / "a.tar").write_bytes(b"old")
    (place / "work" / "marfetch.yaml").write_text("schema: 1\nartifacts:\n  - {reference: aks/one, version: 2.0.0}\n")
    assert stage.run(place, "lock").code == 0
    # The free space is checked before the temporary file is created, so another process can use it up in between.
    code = (
        "import sys\nfrom pathlib import Path\nfrom marfetch.destination import destination as file\nfrom marfetch.__main__ import program\n"
        "look = file._check_room\n"
        "def late(path, size):\n"
        "    look(path, size)\n"
        "    with (path.parent / 'filler').open('wb', buffering=0) as filler:\n"
        "        try:\n"
        "            while True:\n                filler.write(bytes(4096))\n"
        "        except OSError:\n            pass\n"
        "file._check_room = late\nsys.argv = ['marfetch', 'bundle', 'create', '--quiet', '-o', sys.argv[1]]\nprogram()\n"
    )
    done = stage.python(place, code, str(there / "a.tar"))
    full(done)
    assert (there / "a.tar").read_bytes() == b"old"
    assert not temporary(there)
    (there / "filler").unlink()
    assert stage.run(place, "bundle", "create", "--quiet", "-o", str(there / "a.tar")).code == 0
    assert stage.run(place, "bundle", "verify", str(there / "a.tar")).code == 0
    count("disks that were full")


@row(
    "F01",
    "a folder that is too small for the content of a bundle",
    "Loads what fits; once there is space, the next run loads the rest",
    code=9,
)
def test_a_folder_that_is_too_small_for_a_bundle_gets_the_rest_when_there_is_room(
    stage: Stage, place: Path, disk: Disk, count: Count
) -> None:
    there = disk("size=200k")
    project(place / "work", "2.0.0")
    assert stage.run(place, "lock").code == 0
    assert stage.run(place, "bundle", "create", "--quiet", "-o", "a.tar").code == 0
    line = ("bundle", "load", "a.tar", "--quiet", "--to", str(there / "mirror"))
    full(stage.run(place, *line))
    names = [
        one["annotations"]["org.opencontainers.image.ref.name"]
        for one in json.loads((there / "mirror" / "index.json").read_bytes())["manifests"]
    ]
    assert [name.rpartition("/")[2] for name in names] == ["toy:2.0.0", "two:2.0.0"], "the content that fits is complete"
    assert not [path for path in tree(there) if "ingest/" in path]
    subprocess.run(["mount", "-o", "remount,size=2m", str(there)], check=True)
    assert stage.run(place, *line).code == 0
    assert stage.run(place, "inspect", "aks/one:2.0.0", "--offline", "--cache-dir", str(there / "mirror")).code == 0
    assert stage.run(place, "cache", "verify", "--cache-dir", str(there / "mirror")).code == 0
    count("disks that were full")


@row("F02", "a destination without free inodes", "Reports the lack of inodes, not of bytes", code=9)
@pytest.mark.parametrize(
    "words",
    [("pull", "aks/one:2.0.0"), ("pull", "aks/toy:2.0.0", "--untar")],
    ids=["file", "archive"],
)
def test_a_destination_without_free_inodes_is_reported(words: tuple[str, ...], stage: Stage, place: Path, disk: Disk, count: Count) -> None:
    there = disk("size=1m,nr_inodes=20")
    line = (*words, "--quiet", "-d", str(there))
    taken = use_up(there)
    full(stage.run(place, *line), "the disk is full: .*inodes")
    assert set(tree(there)) == {path.name for path in taken}
    taken.pop().unlink()  # one free inode, but an archive needs more
    ended = stage.run(place, *line)
    full(ended, "the disk is full: .*inodes")
    assert not temporary(there)
    for path in taken:
        path.unlink()
    assert stage.run(place, *line).code == 0
    count("disks without inodes", 2)


@row("F02", "a cache without free inodes", "Reports the lack of inodes; the `cache` commands still work", code=9)
def test_a_cache_without_free_inodes_is_reported(stage: Stage, place: Path, disk: Disk, count: Count) -> None:
    cache = disk("size=1m,nr_inodes=20")
    cache.chmod(0o700)
    line = ("pull", "aks/one:2.0.0", "--quiet", "--cache-dir", str(cache))
    assert stage.run(place, "resolve", "aks/two:2.0.0", "--cache-dir", str(cache)).code == 0
    taken = use_up(cache)
    full(stage.run(place, *line), "the disk is full: .*inodes")
    assert tree(place / "work") == {}
    for command in ("info", "verify", "prune"):
        assert stage.run(place, "cache", command, "--cache-dir", str(cache)).code == 0
    for path in taken:
        path.unlink()
    assert stage.run(place, *line).code == 0
    count("disks without inodes")


@row("F01", "`cache` commands on a full disk", "Runs them; `clear` and `prune --unused-days` free space", code=0)
@pytest.mark.parametrize(
    "command", [("info",), ("verify",), ("verify", "--fix"), ("prune",), ("prune", "--unused-days", "0"), ("clear",)], ids=" ".join
)
def test_a_cache_on_a_full_disk_can_be_looked_after(command: tuple[str, ...], stage: Stage, place: Path, disk: Disk, count: Count) -> None:
    """Commands that free space must work on a full disk."""
    cache = disk("size=1m")
    cache.chmod(0o700)
    assert stage.run(place, "pull", "aks/one:1.0.0", "aks/toy:1.0.0", "--cache-dir", str(cache)).code == 0
    fill(cache)
    ended = stage.run(place, "cache", *command, "--cache-dir", str(cache))
    assert ended.code == 0, ended
    if command[0] == "clear" or len(command) > 2:
        assert not list(cache.glob("blobs/*/*")), ended
    count("disks that were full")


@row("F02", "a read-only file system", "Reports a read-only destination with the next step; reads a read-only cache", code=(9, 0))
def test_a_read_only_destination_is_reported_and_a_read_only_cache_is_harmless(stage: Stage, place: Path, disk: Disk, count: Count) -> None:
    there = disk("size=1m")
    there.chmod(0o700)
    assert stage.run(place, "pull", "aks/one:1.0.0", "--quiet", "-d", str(there / "out"), "--cache-dir", str(there / "cache")).code == 0
    before = tree(there)
    subprocess.run(["mount", "-o", "remount,ro", str(there)], check=True)
    for words in (("pull", "aks/two:2.0.0"), ("pull", "aks/toy:2.0.0", "--untar"), ("pull", "aks/one:2.0.0", "--force")):
        ended = stage.run(place, *words, "--quiet", "-d", str(there / "out"))
        assert ended.code == 9, ended
        assert "read-only file system" in ended.err
        assert "hint: choose a writable directory" in ended.err
    ended = stage.run(place, "pull", "aks/two:2.0.0", "--quiet", "-d", "out", "--cache-dir", str(there / "cache"))
    assert ended.code == 0, ended
    assert "is not writable" in ended.err
    assert tree(there) == before
    count("disks that are read-only")


@row("F02", "a name or a path that is too long", "Reports it with the next step", code=9)
def test_a_path_that_is_too_long_is_reported(stage: Stage, place: Path) -> None:
    for directory in ("x" * 300, "/".join(["y" * 200] * 25)):
        for words in (("pull", "aks/one:2.0.0", "-d"), ("pull", "aks/toy:2.0.0", "--untar", "-d")):
            ended = stage.run(place, *words, directory)
            assert ended.code == 9, ended
            assert "file name too long" in ended.err
            assert "hint: choose a shorter path" in ended.err
    project(place / "work", "2.0.0")
    assert stage.run(place, "lock").code == 0
    ended = stage.run(place, "bundle", "create", "-o", "x" * 300)
    assert ended.code == 9, ended
    assert not list(parts(place))
