"""The options that commands share."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from marfetch import threads
from marfetch.cli import options
from marfetch.cli.options import Settings
from marfetch.errors import NotFoundError, RemoteError
from marfetch.remote.preconnect import ConnectionSetups
from marfetch.render.report import Report


def settings(timeout: float | None) -> Settings:
    report = Report("diff", as_json=True, stdout=io.StringIO(), stderr=io.StringIO())
    return Settings(report, None, (), False, timeout, 16, None, None, ConnectionSetups(None, 16))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_STOP_TIME", 0.0)


def compute() -> None:
    """Compute for a long time without checking the budget."""
    while True:
        sum(range(1_000))


def test_local_work_ends_with_the_time_limit() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(RemoteError) as caught, settings(0.05).time_limit():
        compute()
    assert (caught.value.code, caught.value.exit_code) == ("timeout", 7)
    assert "not finished within the 0.05 s of `--timeout`" in caught.value.message
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_local_work_ends_without_interval_timers() -> None:
    """Windows has no interval timers."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:  # pytest-timeout needs them when a test fails
        patch.delattr(signal, "setitimer")
        with pytest.raises(RemoteError, match="not finished within"), settings(0.05).time_limit():
            compute()
        with pytest.raises(KeyboardInterrupt), settings(60).time_limit():
            signal.raise_signal(signal.SIGINT)
        with settings(60).time_limit():
            pass
    assert signal.getsignal(signal.SIGINT) is before


def test_a_time_limit_that_is_over_at_once_leaves_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the thread of the limit were faster than its start."""

    def at_once(target: Callable[[], object], _: str) -> None:
        target()

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(threads, "started", at_once)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(signal, "setitimer")
        with pytest.raises(RemoteError, match="not finished within"), settings(0.05).time_limit():
            compute()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_time_limit_ends_a_wait_for_a_thread() -> None:
    with pytest.raises(RemoteError, match="not finished within"), settings(0.05).time_limit():
        Event().wait()


def test_interrupted_code_may_raise_something_else() -> None:
    @contextmanager
    def changing() -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            raise ValueError from None

    with pytest.raises(RemoteError, match="not finished within"), settings(0.05).time_limit(), changing():
        compute()


@pytest.mark.parametrize("error", [NotFoundError("gone", code="tag-not-found"), ValueError(), KeyboardInterrupt()])
def test_other_ends_stay_what_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, settings(60).time_limit():
        raise error
    assert caught.value is error


def test_one_result_is_printed() -> None:
    found = settings(0.05)
    with found.time_limit():
        found.report.data({})
        Event().wait(0.2)  # simulates the time in which the result is printed


def test_a_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    seen: list[object] = []

    def work() -> None:
        with settings(60).time_limit():
            seen.append(signal.getsignal(signal.SIGALRM))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
