"""Files get their final names in one atomic step, never through a link, and never replace other content."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from marfetch.destination.destination import Destination, OutputFile, OutputState
from marfetch.errors import IntegrityError, StorageError
from marfetch.oci import Descriptor, Digest

DATA = b"content" * 1000


def wish(name: str = "x.bin", data: bytes = DATA, owner: str = "a") -> OutputFile:
    return OutputFile(name, Descriptor("application/octet-stream", Digest.of(data), len(data)), owner)


def blob(data: bytes, tmp_path: Path) -> Callable[[], BinaryIO]:
    def open_blob() -> BinaryIO:
        path = tmp_path / "blob"
        path.write_bytes(data)
        return path.open("rb", buffering=0)

    return open_blob


def test_a_file_gets_its_name_and_nothing_else_stays(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "a" / "b")
    path = destination.put(wish("dir/x.bin"), blob(DATA, tmp_path))
    assert path == tmp_path / "a" / "b" / "dir" / "x.bin"
    assert path.read_bytes() == DATA
    assert [one.name for one in path.parent.iterdir()] == ["x.bin"]
    assert path.stat().st_nlink == 1  # not a hard link: if users edit the file, the cache must not change


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o000, 0o644), (0o077, 0o600)])
def test_files_are_for_everybody_to_read_as_far_as_the_umask_lets(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        path = Destination(tmp_path / "out").put(wish(), blob(DATA, tmp_path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b"y" * len(DATA), b""], ids=["short", "long", "other", "nothing"])
def test_wrong_bytes_never_get_the_name(tmp_path: Path, data: bytes) -> None:
    destination = Destination(tmp_path / "out")
    with pytest.raises(IntegrityError):
        destination.put(wish(), blob(data, tmp_path))
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out" / "x.bin").write_bytes(b"mine")
    with pytest.raises(IntegrityError):
        destination.put(wish(), blob(data, tmp_path), force=True)
    assert (tmp_path / "out" / "x.bin").read_bytes() == b"mine"


def test_something_that_appears_in_between_is_not_overwritten(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "out")

    def open_blob() -> BinaryIO:
        (tmp_path / "out" / "x.bin").write_bytes(b"mine")
        return io.BytesIO(DATA)

    with pytest.raises(StorageError) as caught:
        destination.put(wish(), open_blob)
    assert caught.value.code == "file-differs"
    assert (tmp_path / "out" / "x.bin").read_bytes() == b"mine"
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["x.bin"]


def test_without_hard_links_nothing_is_overwritten_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    destination = Destination(tmp_path / "out")
    path = destination.put(wish(), blob(DATA, tmp_path))
    assert path.read_bytes() == DATA
    path.write_bytes(b"mine")
    with pytest.raises(StorageError):
        destination.put(wish(), blob(DATA, tmp_path))
    assert path.read_bytes() == b"mine"


def both_place(tmp_path: Path, *contents: bytes) -> list[StorageError]:
    errors: list[StorageError] = []
    barrier = threading.Barrier(len(contents))

    def place(data: bytes) -> None:
        barrier.wait()
        try:
            Destination(tmp_path / "out").put(wish(data=data), lambda: io.BytesIO(data))
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=place, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_of_two_that_place_different_content_under_one_name_one_wins(tmp_path: Path) -> None:
    (error,) = both_place(tmp_path, DATA, DATA + b"!")
    assert error.code == "file-differs"
    assert (tmp_path / "out" / "x.bin").read_bytes() in (DATA, DATA + b"!")


def test_several_that_place_the_same_content_under_one_name_all_succeed(tmp_path: Path) -> None:
    assert both_place(tmp_path, *[DATA] * 8) == []
    assert (tmp_path / "out" / "x.bin").read_bytes() == DATA
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["x.bin"]


def test_a_destination_that_is_a_link_is_refused_with_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StorageError) as caught:
        Destination(tmp_path / "link").put(wish(), blob(DATA, tmp_path))
    assert str(tmp_path / "real") in str(caught.value.hint)
    assert list((tmp_path / "real").iterdir()) == []


def test_a_directory_below_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dir").symlink_to(outside)
    destination = Destination(tmp_path / "out")
    with pytest.raises(StorageError):
        destination.put(wish("dir/x.bin"), blob(DATA, tmp_path))
    with pytest.raises(StorageError):
        destination.state(wish("dir/x.bin"))
    assert list(outside.iterdir()) == []


def test_a_directory_that_is_swapped_for_a_link_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def open_blob() -> BinaryIO:
        # The directory is already open, so renaming it does not redirect the write.
        (tmp_path / "out" / "dir").rename(tmp_path / "out" / "moved")
        (tmp_path / "out" / "dir").symlink_to(outside)
        return io.BytesIO(DATA)

    Destination(tmp_path / "out").put(wish("dir/x.bin"), open_blob)
    assert list(outside.iterdir()) == []
    assert (tmp_path / "out" / "moved" / "x.bin").read_bytes() == DATA


def test_a_destination_that_is_a_file_or_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError) as caught:
        Destination(tmp_path / "file").put(wish(), blob(DATA, tmp_path))
    assert str(tmp_path / "file") in caught.value.message
    with pytest.raises(StorageError, match="too long"):
        Destination(tmp_path / ("d" * 300)).put(wish(), blob(DATA, tmp_path))


def test_the_state_of_an_existing_output_is_recognized(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "out")
    assert destination.state(wish()) is OutputState.ABSENT
    destination.put(wish(), blob(DATA, tmp_path))
    assert destination.state(wish()) is OutputState.SAME
    assert destination.state(wish(data=b"y" * len(DATA))) is OutputState.DIFFERENT
    assert destination.state(wish(data=b"y")) is OutputState.DIFFERENT
    (tmp_path / "out" / "d").mkdir()
    with pytest.raises(StorageError, match="a directory has this name"):
        destination.state(wish("d"))
    (tmp_path / "out" / "l").symlink_to(tmp_path / "out" / "x.bin")
    assert destination.state(wish("l")) is OutputState.DIFFERENT


def test_abandoned_temporary_files_are_swept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".marfetch-0000000000000000.part").write_bytes(b"x")
    other = out / ".marfetch-notes"
    other.write_bytes(b"x")
    with Destination(out).begin(wish("y.bin")) as placing:
        placing.write(DATA)
        Destination(out).put(wish(), blob(DATA, tmp_path))
        parts = [one.name for one in out.iterdir() if one.name.endswith(".part")]
        assert len(parts) == 1  # the temporary file that is being written
        placing.publish()
    assert {one.name for one in out.iterdir()} == {"x.bin", "y.bin", other.name}


def test_without_file_locks_only_old_parts_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from marfetch.destination import directory

    monkeypatch.setattr(directory, "claim", lambda _: None)
    out = tmp_path / "out"
    out.mkdir()
    old, young = out / ".marfetch-0000000000000000.part", out / ".marfetch-1111111111111111.part"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (1, 1))
    Destination(out).put(wish(), blob(DATA, tmp_path))
    assert {one.name for one in out.iterdir()} == {"x.bin", young.name}


def test_a_sink_beside_a_transfer_is_placed_too(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000
    with Destination(tmp_path / "out").begin(wish(data=data)) as placing:
        placing.write(b"from an earlier try")
        placing.restart()
        for start in range(0, len(data), 1 << 20):
            placing.write(data[start : start + (1 << 20)])
        assert placing.held == len(data)
        placing.publish()
    assert (tmp_path / "out" / "x.bin").read_bytes() == data


CLASHING = [
    (["a.txt"], ["a.txt"]),
    (["a.txt"], ["A.TXT"]),
    (["straße"], ["STRASSE"]),
    (["a"], ["a/b"]),
    (["a/b"], ["a"]),
    (["A/b"], ["a"]),
]


@pytest.mark.parametrize(("ours", "theirs"), CLASHING)
def test_names_that_cannot_stand_side_by_side_are_found(tmp_path: Path, ours: list[str], theirs: list[str]) -> None:
    wishes = [wish(name, b"one", "ours") for name in ours] + [wish(name, b"two", "theirs") for name in theirs]
    assert set(Destination(tmp_path).clashes(wishes)) == {"ours", "theirs"}


def test_names_that_can_stand_side_by_side_are_left_alone(tmp_path: Path) -> None:
    wishes = [wish("a.txt", b"one", "x"), wish("b/a.txt", b"two", "y"), wish("b/c.txt", b"two", "y"), wish("a.txt", b"one", "z")]
    assert Destination(tmp_path).clashes(wishes) == {}


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        Destination(tmp_path / "out").put(wish(), blob(DATA, tmp_path))
    assert caught.value.code == "disk-full"
    assert caught.value.context["needed"] == len(DATA)
    assert list((tmp_path / "out").iterdir()) == []
