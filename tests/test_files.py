"""Atomic writes of small files, and locks between processes."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from marfetch import files
from marfetch import files as locks
from marfetch.budget import Cancelled
from marfetch.errors import StorageError
from marfetch.files import Writer, claim, lock, storage_error, wait_for, write_whole

from .world.paths import ROOT

# -- locks between processes


HOLDS = "import sys, time; from pathlib import Path; from marfetch.files import lock\nwith lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


CLAIMS = "import sys, time; from marfetch.files import claim; file = open(sys.argv[1], 'rb'); print(claim(file.fileno()), flush=True); time.sleep(600)"


@contextmanager
def other_process(code: str, path: Path, says: bytes) -> Iterator[subprocess.Popen[bytes]]:
    line = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == says
            yield process
        finally:
            process.kill()


def test_a_lock_that_another_process_holds_is_exit_9_and_ends_with_that_process(tmp_path: Path) -> None:
    path = tmp_path / "index.lock"
    with other_process(HOLDS, path, b"held\n") as process:
        with pytest.raises(StorageError, match="another process has held the lock") as caught, lock(path, wait=0):
            pytest.fail("both hold the lock")
        assert (caught.value.exit_code, caught.value.code, caught.value.context["path"]) == (9, "file-unusable", str(path))
        assert "--cache-dir" in caught.value.hint
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        with lock(path, wait=0):
            assert path.exists()
    with lock(path, wait=0):  # the lock was released
        pass


def test_a_lock_keeps_threads_of_one_process_out_too(tmp_path: Path) -> None:
    with lock(tmp_path / "x.lock"), pytest.raises(StorageError), lock(tmp_path / "x.lock", wait=0):
        pytest.fail("both hold the lock")


def test_a_lock_file_that_was_deleted_protects_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.lock"
    claims: list[bool] = []

    def claim_late(descriptor: int) -> bool:
        if not claims:
            path.unlink()  # as if another process had cleared the cache after this one opened the file
        claims.append(real(descriptor))
        return claims[-1]

    real = locks._claim
    monkeypatch.setattr(locks, "_claim", claim_late)
    with lock(path, wait=0):
        assert path.exists()
        with path.open("rb") as file:
            assert locks.occupy(file.fileno(), alone=True) is False
    assert claims == [True, True]


def test_a_lock_that_the_disk_refuses_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StorageError) as caught, lock(tmp_path / "x.lock", wait=0):
        pytest.fail("without the lock")
    assert caught.value.exit_code == 9


def test_a_lock_is_given_back_after_a_failure(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock(tmp_path / "x.lock", wait=0):
            raise ZeroDivisionError


@pytest.mark.parametrize("place", ["file/x.lock", "directory"])
def test_a_lock_that_cannot_be_made_is_exit_9(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    with pytest.raises(StorageError) as caught, lock(tmp_path / place, wait=0):
        pytest.fail("there is no such lock")
    assert caught.value.exit_code == 9


def test_an_open_file_is_claimed_by_one_process(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x")
    with other_process(CLAIMS, tmp_path / "part", b"True\n") as process, (tmp_path / "part").open("rb") as file:
        assert claim(file.fileno()) is False
        process.kill()
        process.wait(60)
        assert claim(file.fileno()) is True
        with (tmp_path / "part").open("rb") as again:
            assert claim(again.fileno()) is False
    with (tmp_path / "part").open("rb") as last:
        assert claim(last.fileno()) is True


def test_a_wait_for_a_claim_ends_with_the_claiming_process_or_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_LOOK", 0.0)
    (tmp_path / "part").write_bytes(b"x")
    with other_process(CLAIMS, tmp_path / "part", b"True\n") as process, (tmp_path / "part").open("rb") as file:

        def give_up() -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            wait_for(file.fileno(), give_up)
        wait_for(file.fileno(), process.kill)
        assert process.wait(60) == -signal.SIGKILL


# -- small files


def test_a_small_file_is_written_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    for data in (b"one", b"", b"other"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert [one.name for one in path.parent.iterdir()] == ["c.json"]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), KeyboardInterrupt()], ids=["full", "broken", "interrupted"]
)
@pytest.mark.parametrize("moment", ["open_own", "replace_file"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, failure: BaseException
) -> None:
    path = tmp_path / "index.json"
    write_whole(path, b"old")

    def fail(place: Path, *_: object) -> None:
        with place.open("wb") as file:
            file.write(b"ne")
        raise failure

    with monkeypatch.context() as broken:
        broken.setattr(files, moment, fail)
        with pytest.raises(StorageError if isinstance(failure, OSError) else KeyboardInterrupt) as caught:
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.glob("*index*")) == [path]
    if isinstance(caught.value, StorageError):
        assert caught.value.exit_code == 9
        assert caught.value.context["path"] == str(path)


@pytest.mark.parametrize("thing", ["a directory", "a file instead of the parent"])
def test_an_obstacle_at_the_path_of_a_small_file_is_exit_9_and_stays(tmp_path: Path, thing: str) -> None:
    path = tmp_path / "x"
    if thing == "a directory":
        (path / "inside").mkdir(parents=True)
    else:
        path.write_text("file")
        path = path / "y"
    with pytest.raises(StorageError):
        write_whole(path, b"new")
    assert (tmp_path / "x" / "inside").is_dir() if thing == "a directory" else (tmp_path / "x").read_text() == "file"
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_reported_with_needed_and_free_bytes(tmp_path: Path) -> None:
    error = storage_error(OSError(errno.ENOSPC, "No space left"), tmp_path / "x", needed=123)
    assert error.context["needed"] == 123
    assert error.message.startswith(f"the disk is full: 123 bytes are needed and {error.context['free']} are free, at `")
    unknown = storage_error(OSError(errno.ENOSPC, "No space left"), "/no/such/place/x", needed=123)
    assert unknown.message == "the disk is full, at `/no/such/place/x`"
    assert "free" not in unknown.context


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError("odd"), "odd"), (OSError(errno.ELOOP, "Too many links"), "too many links"), (OSError(errno.EPERM, "No"), "no")],
)
def test_every_failure_of_a_file_names_it_and_what_to_do(error: OSError, words: str) -> None:
    made = storage_error(error, "/x/y")
    assert made.message == f"{words}: `/x/y`"
    assert made.exit_code == 9
    assert made.hint


class Grudging(io.RawIOBase):
    """A file whose `write` accepts only a few bytes at a time."""

    def __init__(self, most: int) -> None:
        self.taken = bytearray()
        self.most = most

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0

    def write(self, data: Any, /) -> int:
        self.taken += bytes(data[: self.most])
        return min(self.most, len(data))


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_everything_is_written_also_where_the_disk_takes_a_part_at_a_time(most: int) -> None:
    file = Grudging(most)
    writer = Writer(file)  # type: ignore[arg-type]
    for data in (b"", b"one", bytearray(b"two"), memoryview(b"three" * 20)):
        writer.write(data)
    assert bytes(file.taken) == b"onetwo" + b"three" * 20


@pytest.mark.parametrize("helps", [True, False])
def test_a_large_file_is_not_kept_in_memory_and_that_is_only_a_wish(monkeypatch: pytest.MonkeyPatch, helps: bool) -> None:
    asked: list[tuple[int, ...]] = []

    def advise(*arguments: int) -> None:
        asked.append(arguments)
        if not helps:
            raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "posix_fadvise", advise, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    monkeypatch.setattr(files, "_RELEASE_EVERY", 100)
    file: BinaryIO = Grudging(1 << 20)  # type: ignore[assignment]
    writer = Writer(file)
    for _ in range(25):
        writer.write(b"x" * 10)
    assert asked == [(0, 0, 0, 4)] * 2
    lazy = Writer(file, lazy=True)
    for _ in range(25):
        lazy.write(b"x" * 10)
    assert len(asked) == 2
