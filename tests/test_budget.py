"""The time limit of a command, and how times are written."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest

from marfetch.budget import Budget, Cancelled
from marfetch.errors import RemoteError


def test_a_budget_counts_down_and_then_raises() -> None:
    time = [100.0]
    budget = Budget(2.5, now=lambda: time[0])
    assert budget.remaining == 2.5
    time[0] = 102.4
    budget.check()
    time[0] = 102.5
    for spend in (budget.check, lambda: budget.sleep(600)):
        with pytest.raises(RemoteError, match=r"not finished within the 2\.5 s of `--timeout`") as caught:
            spend()
        assert (caught.value.code, caught.value.exit_code, caught.value.context) == ("timeout", 7, {"timeout": 2.5})


def test_without_a_timeout_there_is_no_end() -> None:
    time = [0.0]
    budget = Budget(now=lambda: time[0])
    time[0] = 1e12
    budget.check()
    budget.sleep(-5)
    assert (budget.remaining, budget.deadline) == (float("inf"), None)


def test_stopping_wakes_sleeping_threads_and_takes_precedence_over_the_timeout() -> None:
    budget, ended = Budget(), list[bool]()

    def sleep() -> None:
        try:
            budget.sleep(600)
        except Cancelled:
            ended.append(True)

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    budget.cancel()
    sleeper.join(60)
    assert ended == [True]
    time = [0.0]
    late = Budget(1, now=lambda: time[0])
    late.cancel()
    time[0] = 5.0
    with pytest.raises(Cancelled):
        late.check()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "23:59:58"),
        (1.9, "23:59:59"),
        (2, "2026-11-24 00:00:00"),
        (86400 * 40, "2027-01-02 23:59:58"),
        (1e12, "a date too far away to show"),
        (1e15, "a date too far away to show"),
        (float("inf"), "a date too far away to show"),
    ],
)
def test_a_moment_on_another_day_is_written_with_its_date(seconds: float, text: str) -> None:
    start = datetime(2026, 11, 23, 23, 59, 58, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert Budget(local_time=lambda: start).clock_time(seconds) == text
    assert Budget(local_time=lambda: start.astimezone(UTC)).clock_time(0) == "18:29:58"
