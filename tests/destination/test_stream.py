"""Streams: stdout, pipes and devices get verified bytes only."""

from __future__ import annotations

import errno
import io
import os
import pty
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from marfetch.budget import Budget
from marfetch.destination import stream as module
from marfetch.destination.stream import STDOUT, Stream, open_stream, stream_path, verified_blob
from marfetch.errors import InputError, IntegrityError, RemoteError, StorageError
from marfetch.oci import Descriptor, Digest

DATA = bytes(range(256)) * 12_000
BLOB = Descriptor("text/plain", Digest.of(DATA), len(DATA))


def test_only_what_cannot_be_replaced_is_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "to-file").symlink_to("file")
    os.mkfifo("pipe")
    assert [stream_path(text) for text in ("-", "/dev/stdout", "/dev/fd/1")] == [STDOUT] * 3
    assert [stream_path(text) for text in ("/dev/null", "link", "pipe")] == [Path("/dev/null"), Path("link"), Path("pipe")]
    assert [stream_path(text) for text in ("file", "./-", "new", ".", "dangling", "to-file", "file/x")] == [None] * 7
    with (tmp_path / "file").open() as opened:
        assert stream_path(f"/dev/fd/{opened.fileno()}") is not None, "marfetch writes to the open file, and never replaces it in /dev"


@pytest.mark.parametrize("held", [DATA[:-1] + b"x", DATA[:-1], DATA + b"x", b""])
def test_a_blob_that_is_wrong_is_closed_before_anything_is_read_from_it(held: bytes) -> None:
    blob = io.BytesIO(held)
    with pytest.raises(IntegrityError):
        verified_blob(BLOB, lambda: blob)
    assert blob.closed


def read_all(path: Path, into: list[bytes]) -> threading.Thread:
    thread = threading.Thread(target=lambda: into.append(path.read_bytes()))
    thread.start()
    return thread


def test_a_pipe_gets_all_bytes_however_slowly_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    thread = read_all(path, got)
    with open_stream(path, Budget()) as stream, verified_blob(BLOB, lambda: io.BytesIO(DATA)) as blob:
        stream.send(blob, BLOB)
    thread.join(30)
    assert got == [DATA]
    assert path.is_fifo()


def test_a_failure_ends_the_reader_of_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    thread = read_all(path, got)
    with pytest.raises(IntegrityError), open_stream(path, Budget()):
        verified_blob(BLOB, lambda: io.BytesIO(b"x"))
    thread.join(30)
    assert got == [b""]


def test_a_pipe_without_a_reader_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    monkeypatch.setattr(module, "READER_WAIT", 0.0)
    with pytest.raises(StorageError, match="no program reads"), open_stream(path, Budget()):
        pass
    monkeypatch.setattr(module, "READER_WAIT", 60.0)
    with pytest.raises(RemoteError) as caught, open_stream(path, Budget(0.01)):
        pass
    assert caught.value.code == "timeout"


def test_what_changes_while_it_is_written_is_an_error() -> None:
    reading, writing = os.pipe()
    drained = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reading, 1 << 20), b"")])
    drained.start()
    blob: BinaryIO = io.BytesIO(DATA[:-1] + b"x")
    with pytest.raises(IntegrityError) as caught:
        Stream(Path("pipe"), writing, Budget()).send(blob, BLOB)
    os.close(writing)
    drained.join(30)
    os.close(reading)
    assert caught.value.code == "digest-mismatch"


def test_a_reader_that_stops_early_is_an_error_except_behind_stdout() -> None:
    for path, is_error in ((STDOUT, False), (Path("pipe"), True)):
        reading, writing = os.pipe()
        os.close(reading)
        stream = Stream(path, writing, Budget())
        if is_error:
            with pytest.raises(StorageError):
                stream.send(io.BytesIO(DATA), BLOB)
        else:
            stream.send(io.BytesIO(DATA), BLOB)
        os.close(writing)


def test_a_full_device_and_a_missing_stdout_are_storage_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError) as caught, open_stream(Path("/dev/full"), Budget()) as stream:
        stream.send(io.BytesIO(DATA), BLOB)
    assert caught.value.code == "disk-full"
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(StorageError, match="stdout is closed"), open_stream(STDOUT, Budget()):
        pass


def test_a_terminal_gets_no_payload() -> None:
    leader, follower = pty.openpty()
    with pytest.raises(InputError, match="terminal"), open_stream(Path(os.ttyname(follower)), Budget()):
        pass
    os.close(follower)
    os.close(leader)


def test_a_socket_is_no_place_for_a_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert stream_path("socket") == Path("socket")
        with pytest.raises(StorageError, match="disk or a socket"), open_stream(Path("socket"), Budget()):
            pass


def test_a_pipe_that_cannot_be_opened_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    opens: Callable[..., int] = refused
    monkeypatch.setattr("marfetch.destination.stream.os.open", opens)
    with pytest.raises(StorageError, match="permission denied"), open_stream(path, Budget()):
        pass
