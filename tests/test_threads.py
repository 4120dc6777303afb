"""If the system allows no further threads, everything still works with fewer threads or in the calling thread."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from marfetch import content, threads
from marfetch.__main__ import main
from marfetch.content import BackgroundWriter
from marfetch.errors import StorageError
from marfetch.helm import getter
from marfetch.remote.deadlines import Exchange, Watch
from marfetch.remote.dial import resolve
from marfetch.render.progress import DELAY, Bar
from marfetch.serve.server import Serving, bind

from .world.command import Answered
from .world.content import ALB, MODULE
from .world.projects import project_of
from .world.registry import Registry

REFUSED = "can't start new thread"
Limit = Callable[[int], None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """`limit(1)` lets marfetch start one more thread. The test registry is not limited."""
    start = threading.Thread.start
    left = [0]

    def count(self: threading.Thread) -> None:
        if self.name.startswith("marfetch"):
            if not left[0]:
                raise RuntimeError(REFUSED)
            left[0] -= 1
        start(self)

    def set_limit(most: int) -> None:
        left[0] = most
        monkeypatch.setattr(threading.Thread, "start", count)

    return set_limit


def test_a_thread_that_cannot_start_is_none_and_its_work_is_done_here(limit: Limit) -> None:
    limit(0)
    ran: list[str] = []
    assert threads.started(lambda: ran.append("background"), "marfetch-x") is None
    threads.beside(lambda: ran.append(threading.current_thread().name), "marfetch-x")
    assert ran == ["MainThread"]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_pool_runs_every_call_once_with_any_number_of_threads(limit: Limit, most: int) -> None:
    limit(most)
    ran: list[int] = []

    def square(number: int) -> int:
        ran.append(number)
        return number * number

    with threads.pool(8) as pool:
        assert list(pool.map(square, range(50))) == [number**2 for number in range(50)]
        broken = pool.submit(lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            broken.result()
    assert sorted(ran) == list(range(50))


def test_a_pool_cancels_and_refuses_calls_as_usual(limit: Limit) -> None:
    limit(1)
    gate, inside = threading.Event(), threading.Event()
    pool = threads.pool(1)

    def wait() -> None:
        inside.set()
        gate.wait(60)

    first = pool.submit(wait)
    inside.wait(60)
    second: Future[None] = pool.submit(lambda: None)
    assert second.cancel()
    gate.set()
    first.result(60)
    with pytest.raises(CancelledError):
        second.result(0)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(lambda: None)


def test_other_errors_of_a_start_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("threads can only be started once")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="once"):
        threads.started(lambda: None, "x")
    with pytest.raises(RuntimeError, match="once"):
        threads.pool(1).submit(lambda: None)


def test_a_large_blob_is_written_without_a_thread(limit: Limit) -> None:
    limit(0)
    written = bytearray()
    writer = BackgroundWriter(written.extend, content.BESIDE_FROM)
    writer.give(b"a")
    writer.give(b"b")
    writer.end()
    writer.give(b"c")
    assert written == b"abc"


def test_names_are_resolved_and_exchanges_begin_without_a_thread(limit: Limit) -> None:
    limit(0)
    assert resolve("127.0.0.1", 80, 5)[0][4][0] == "127.0.0.1"
    watch, exchange = Watch(lambda: 0.0), Exchange("/", 1.0, lambda: 1.0)
    watch.begin(exchange)
    watch.end(exchange)
    watch.close()
    assert not exchange.expired


def test_a_bar_is_drawn_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError(REFUSED)

    monkeypatch.setattr(threading.Thread, "start", start)
    moment, terminal = [0.0], io.StringIO()
    bar = Bar(print, print, stream=terminal, now=lambda: moment[0], size=lambda: os.terminal_size((80, 24)))
    row = bar.begin("alb.tgz", 10)
    moment[0] = DELAY
    row.held(5)
    shown = terminal.getvalue()
    row.end()
    assert "alb.tgz" in shown
    assert terminal.getvalue().endswith("\x1b[2K")


def test_a_server_that_cannot_have_its_thread_is_exit_9(limit: Limit) -> None:
    limit(0)
    with bind() as listening, pytest.raises(StorageError) as caught, Serving([(lambda *_: None, listening)]):  # type: ignore[list-item]
        pass
    assert (caught.value.code, caught.value.exit_code) == ("no-resources", 9)
    assert "ulimit -u" in caught.value.hint


@pytest.mark.parametrize("most", [0, 1, 2])
def test_commands_work_with_any_number_of_threads(
    limit: Limit, mar: Registry, answered: Answered, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most: int
) -> None:
    monkeypatch.setenv("MARFETCH_ENDPOINT", f"http://{mar.host}")
    monkeypatch.setenv("MARFETCH_DATA_HOSTS", mar.data_host)
    project = project_of(tmp_path / "project", f"reference: {ALB}, version: 1.7.12", f"reference: {MODULE}")
    for words in (
        ["pull", f"{ALB}:1.7.12", MODULE, "-d", tmp_path / "out"],
        ["lock", "-f", project.path],
        ["sync", "-f", project.path],
        ["bundle", "create", "-f", project.path, "-o", tmp_path / "b.tar"],
        ["bundle", "verify", tmp_path / "b.tar"],
        ["search", "alb"],
        ["search", "alb", "--kind", "chart"],
        ["versions", ALB, "--details"],
        ["index", ALB],
    ):
        limit(most)
        code, found = answered(*words)
        assert code == 0, (words, found)
    assert len(list((tmp_path / "out").iterdir())) == 2
    limit(most)
    assert answered("doctor", f"{ALB}:1.7.12")[0] == 0


# -- failures never have the exit code 1, which means "the answer is no"


ACCIDENTS = {
    "a bug": (ZeroDivisionError("\x1b[31mx?sig=secretsecret"), 70, "internal"),
    "endless recursion": (RecursionError("maximum recursion depth exceeded"), 70, "internal"),
    "a wrong state": (RuntimeError("no such state"), 70, "internal"),
    "no memory": (MemoryError(), 9, "no-resources"),
    "no memory for a library": (ImportError("_rust.abi3.so: failed to map segment from shared object"), 9, "no-resources"),
    "no file for a library": (ImportError("_x.so: cannot open shared object file: Too many open files"), 9, "no-resources"),
    "a broken library": (ImportError("_x.so: undefined symbol: x"), 70, "internal"),
    "no thread": (RuntimeError(REFUSED), 9, "no-resources"),
}


@pytest.mark.parametrize(("failure", "code", "name"), ACCIDENTS.values(), ids=ACCIDENTS)
def test_an_accident_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Exception, code: int, name: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("marfetch.client.resolve.resolve", fail)
    assert main(["resolve", ALB, "--json"]) == code
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert (error["code"], error["exitCode"]) == (name, code)
    assert error["hint"]
    assert ("Traceback" in err) is (code == 70)
    assert "\x1b" not in err
    assert "secretsecret" not in out + err


@pytest.mark.parametrize(("failure", "code", "name"), ACCIDENTS.values(), ids=ACCIDENTS)
def test_a_failure_of_the_getter_has_the_same_exit_code(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], failure: Exception, code: int, name: str
) -> None:
    from marfetch import __main__

    def fail(*_: object, **__: object) -> None:
        raise failure

    codes: list[int] = []
    monkeypatch.setattr(getter, "content", fail)
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr("sys.argv", ["marfetch", "getter", "", "", "", f"mar://x.example/{ALB}"])
    __main__.program()
    assert codes == [code]
    err = capfd.readouterr().err
    assert ("internal error" in err) is (name == "internal")
    assert "secretsecret" not in err
