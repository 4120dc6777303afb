"""Throttling and retries, on a fake clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime

import pytest

from marfetch.budget import Cancelled
from marfetch.endpoint import Address
from marfetch.errors import Error, NotFoundError, RateLimitedError, RemoteError
from marfetch.remote import limits
from marfetch.remote.backoff import Attempts, Backoff, RequestFailed
from marfetch.remote.http_errors import Failure, RequestKind, explain
from marfetch.remote.pauses import retry_after

from ..world.clock import NOON, Clock, Condition, timed
from ..world.progress import Heard
from ..world.registry import BLOCKED


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backoff(clock: Clock, heard: Heard) -> Backoff:
    """Return a `Backoff` that always uses the largest random number."""
    return Backoff(clock, heard, chance=lambda: 1.0)


def throttle(seconds: float | None = None, *, tries: int = limits.TRIES) -> RequestFailed:
    error = RateLimitedError("asked too much", msedge_ref="Ref A")
    return RequestFailed(error, tries=tries, host="mar.test", retry_after=seconds, throttled=True)


def failure(*, tries: int = limits.TRIES, at_once: bool = False) -> RequestFailed:
    return RequestFailed(RemoteError("it failed", code="server-error"), tries=tries, at_once=at_once)


# -- Retry-After

SECONDS = {
    "seconds": ("120", 120.0),
    "no time": ("0", 0.0),
    "spaces around": (" 7\t", 7.0),
    "leading zeros": ("007", 7.0),
    "a date": (format_datetime(NOON + timedelta(seconds=90), usegmt=True), 90.0),
    "a date with a zone": ("Mon, 23 Nov 2026 14:01:00 +0200", 60.0),
    "a date of the old form": ("Monday, 23-Nov-26 12:00:30 GMT", 30.0),
    "a date of another year": (format_datetime(NOON + timedelta(days=400), usegmt=True), 400 * 86400.0),
    "a date that is past": ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
    "huge": ("9" * 17, 1e15),
    "huge beyond any number": ("9" * 5000, 1e15),
}


@pytest.mark.parametrize(("value", "seconds"), SECONDS.values(), ids=SECONDS)
def test_retry_after_is_parsed(value: str, seconds: float) -> None:
    assert retry_after(value, NOON.timestamp()) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "-5",
        "+5",
        "5.5",
        "1e3",
        "0x10",
        "1,000",
        "soon",
        "\u0663",
        "\u00b2",
        "12 s",
        "Mon, 99 Nov 2026 12:00:00 GMT",
        "23 Nov",
        "\x00",
    ],
    ids=ascii,
)
def test_an_invalid_retry_after_is_none(value: str | None) -> None:
    assert retry_after(value, NOON.timestamp()) is None


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0], ids=["an hour behind", "right", "an hour ahead"])
def test_a_date_is_compared_with_the_clock_that_it_is_of(ahead: float) -> None:
    until, date = (format_datetime(NOON + timedelta(seconds=one), usegmt=True) for one in (90, 0))
    assert retry_after(until, NOON.timestamp() + ahead, date=date) == 90.0
    assert retry_after("30", NOON.timestamp() + ahead, date=date) == 30.0


@pytest.mark.parametrize("date", [None, "", "soon", "Mon, 99 Nov 2026 12:00:00 GMT"])
def test_a_date_is_compared_with_our_clock_where_the_answer_names_no_time(date: str | None) -> None:
    assert retry_after(format_datetime(NOON + timedelta(seconds=90), usegmt=True), NOON.timestamp(), date=date) == 90.0


# -- a pause applies to the host


def test_a_pause_is_waited_out_in_full_and_shown_with_the_time_of_day(backoff: Backoff, clock: Clock, heard: Heard) -> None:
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 90)
    backoff.enter(host, backoff.attempts("it"))
    assert clock.time >= 1090
    assert heard.notes == ["`mar.test` asks for a pause of 90 s; continuing at 12:01:30"]


def test_all_threads_of_a_host_share_one_pause(clock: Clock, heard: Heard) -> None:
    backoff = Backoff(clock, heard, chance=lambda: 0.0)
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 30)
    entered: list[float] = []

    def one() -> None:
        backoff.enter(host, backoff.attempts("it"))
        entered.append(clock.time)
        backoff.leave(host, succeeded=True)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(entered) == 6
    assert min(entered) >= 1030
    assert len(heard.notes) == 1
    # A thread may have started a wait of half a second just before the pause ended, but no thread starts another pause.
    assert max(entered) <= 1030 + 6 * 0.5


def test_another_host_does_not_wait(backoff: Backoff, clock: Clock) -> None:
    backoff.throttled("mar.test", 30)
    backoff.enter(backoff.host("data.test"), backoff.attempts("it"))
    assert (clock.time, clock.slept) == (1000.0, [])
    assert backoff.host("mar.test") is backoff.host("mar.test")


@pytest.mark.parametrize(("first", "second", "end"), [(10, 60, 1060), (60, 10, 1060)])
def test_of_two_pauses_the_one_that_ends_last_counts(backoff: Backoff, clock: Clock, first: float, second: float, end: float) -> None:
    host = timed(backoff, clock)
    backoff.throttled("mar.test", first)
    backoff.throttled("mar.test", second)
    assert host.resume_at == end
    backoff.enter(host, backoff.attempts("it"))
    assert clock.time >= end


def test_a_pause_extended_during_a_wait_is_waited_out(backoff: Backoff, clock: Clock, heard: Heard) -> None:
    host = timed(backoff, clock)

    class Growing(Condition):
        def wait(self, timeout: float | None = None) -> bool:
            if not self.waits:
                backoff.throttled("mar.test", 45)
            return super().wait(timeout)

    host.condition = Growing(clock)
    backoff.throttled("mar.test", 5)
    backoff.enter(host, backoff.attempts("it"))
    assert clock.time >= 1045
    assert len(heard.notes) == 2


def test_a_pause_below_a_second_is_not_shown(clock: Clock, heard: Heard) -> None:
    backoff = Backoff(clock, heard, chance=lambda: 0.1)
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 0.25)
    backoff.enter(host, backoff.attempts("it"))
    assert clock.time >= 1000.25
    assert heard.notes == []


@pytest.mark.parametrize(("chance", "longest"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_requests_after_a_pause_are_spread_out(clock: Clock, heard: Heard, chance: float, longest: float) -> None:
    backoff = Backoff(clock, heard, jobs=16, chance=lambda: chance)
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 2)
    backoff.enter(host, backoff.attempts("it"))
    assert clock.slept == [longest]
    backoff.leave(host, succeeded=True)
    backoff.enter(host, backoff.attempts("it"))
    assert clock.slept == [longest]


# -- concurrent requests


def test_no_more_are_under_way_than_jobs_allow(clock: Clock, heard: Heard) -> None:
    backoff = Backoff(clock, heard, jobs=2)
    host = timed(backoff, clock)
    for _ in range(2):
        backoff.enter(host, backoff.attempts("it"))

    class Leaving(Condition):
        def wait(self, timeout: float | None = None) -> bool:
            assert host.active == 2
            backoff.leave(host, succeeded=True)
            return super().wait(timeout)

    host.condition = Leaving(clock)
    backoff.enter(host, backoff.attempts("it"))
    assert len(host.condition.waits) == 1
    assert host.active == 2


def test_a_throttle_halves_them_down_to_one_and_a_storm_counts_once(backoff: Backoff, clock: Clock) -> None:
    host = backoff.host("mar.test")
    seen = [host.bound]
    for _ in range(6):
        backoff.throttled("mar.test", 1)
        backoff.throttled("mar.test", 1)  # a 429 for a request that was sent before the first 429 arrived
        assert host.allowed == 1
        seen.append(host.bound)
        clock.time += 2
    assert seen == [16, 8, 4, 2, 1, 1, 1]


def test_after_a_pause_each_answer_lets_one_more_in_up_to_half_of_before(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 1)
    seen = []
    for _ in range(10):
        backoff.enter(host, backoff.attempts("it"))
        backoff.leave(host, succeeded=True)
        seen.append(host.allowed)
    assert seen == [2, 3, 4, 5, 6, 7, 8, 8, 8, 8]


def test_failures_do_not_raise_the_concurrency(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 1)
    for _ in range(20):
        backoff.enter(host, backoff.attempts("it"))
        backoff.leave(host, succeeded=False)
    assert (host.allowed, host.active) == (1, 0)


def test_answers_in_a_row_bring_them_back_one_by_one_and_no_further(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 0)
    seen = []
    for number in range(100):
        backoff.enter(host, backoff.attempts("it"))
        backoff.leave(host, succeeded=True)
        if number % limits.SUCCESSES_TO_RESTORE == limits.SUCCESSES_TO_RESTORE - 2:
            seen.append(host.allowed)
    assert seen == [8, 9, 10, 11, 12, 13, 14, 15, 16, 16, 16, 16]
    assert host.active == 0


# -- throttles that begin while a connection is opening


def test_a_pause_that_begins_while_a_connection_is_opened_holds_the_request_back(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    with backoff.slot(host, backoff.attempts("it")) as slot:
        assert slot.wait_if_throttled() is False
        assert clock.time == 1000
        backoff.throttled("mar.test", 30)
        assert slot.wait_if_throttled() is True  # a request that was sent early must be sent again
        assert clock.time >= 1030
        assert host.active == 1
    assert host.active == 0


def test_a_pause_before_a_connection_was_opened_is_remembered_too(backoff: Backoff, clock: Clock) -> None:
    timed(backoff, clock)
    backoff.throttled("mar.test", 30)
    with backoff.slot(backoff.host("mar.test"), backoff.attempts("it")) as slot:
        assert slot.wait_if_throttled() is True
    with backoff.slot(backoff.host("mar.test"), backoff.attempts("it")) as slot:
        assert slot.wait_if_throttled() is False


def test_a_throttled_response_counts_once(backoff: Backoff, clock: Clock) -> None:
    host, told = timed(backoff, clock), throttle(30)
    assert backoff.hold(told) == 30
    clock.time += 5
    backoff.attempts("it").failed(told)
    assert (host.resume_at, host.throttles) == (1030, 1)
    assert backoff.hold(failure()) is None


def test_a_place_is_given_back_once_also_where_the_new_pause_is_too_long(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    with backoff.slot(host, backoff.attempts("it")) as slot:
        backoff.throttled("mar.test", 3600)
        with pytest.raises(RateLimitedError):
            slot.wait_if_throttled()
        assert host.active == 0
    assert host.active == 0


def test_a_budget_that_ends_in_the_last_moment_of_a_wait_gives_the_place_back(heard: Heard) -> None:
    clock = Clock(10.5)
    backoff = Backoff(clock, heard, chance=lambda: 1.0)
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 10)
    with pytest.raises(RemoteError):
        backoff.enter(host, backoff.attempts("it"))
    assert host.active == 0


def test_many_answers_that_cross_each_other_are_one_wait(backoff: Backoff, clock: Clock) -> None:
    # Each new pause moves the end a little. Only the time that has really passed counts, not the length of every pause.
    host = timed(backoff, clock)

    class Crossing(Condition):
        def wait(self, timeout: float | None = None) -> bool:
            if len(self.waits) < 20:
                backoff.throttled("mar.test", 100)
            return super().wait(timeout)

    host.condition = Crossing(clock)
    backoff.throttled("mar.test", 100)
    backoff.enter(host, backoff.attempts("it"))
    assert 1100 <= clock.time <= 1120


# -- retries


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_waits_grow_up_to_a_bound_and_are_random_below_it(clock: Clock, heard: Heard, chance: float) -> None:
    backoff = Backoff(clock, heard, chance=lambda: chance)
    assert [backoff.jitter(tries) for tries in (1, 2, 3, 4, 5, 6, 60)] == [chance * bound for bound in (1, 2, 4, 8, 16, 30, 30)]


def test_random_waits_stay_within_their_bounds(clock: Clock, heard: Heard) -> None:
    backoff = Backoff(clock, heard)
    waits = [backoff.jitter(3) for _ in range(500)]
    assert 0 <= min(waits) < max(waits) < 4
    assert len(set(waits)) > 400


def test_a_request_is_retried_with_a_wait_before_each_try(backoff: Backoff, clock: Clock, heard: Heard) -> None:
    attempts = backoff.attempts("`alb`")
    for _ in range(limits.TRIES - 1):
        attempts.failed(failure())
    with pytest.raises(RemoteError, match="it failed"):
        attempts.failed(failure())
    assert clock.slept == [1, 2, 4, 8]
    assert heard.notes == ["`alb`: it failed; retrying"] * 4


def test_a_permanent_failure_is_not_retried(backoff: Backoff, clock: Clock, heard: Heard) -> None:
    with pytest.raises(NotFoundError):
        backoff.attempts("it").failed(RequestFailed(NotFoundError("gone", code="tag-not-found")))
    assert (clock.slept, heard.notes) == ([], [])


def test_a_failure_that_needs_no_wait_is_retried_at_once(backoff: Backoff, clock: Clock) -> None:
    attempts = backoff.attempts("it")
    attempts.failed(failure(tries=3, at_once=True))
    attempts.failed(failure(tries=3, at_once=True))
    assert clock.slept == []
    with pytest.raises(RemoteError):
        attempts.failed(failure(tries=3, at_once=True))


def test_a_throttle_without_a_time_is_a_growing_pause_for_all(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    pauses = []
    for _ in range(4):
        clock.time = max(clock.time, host.resume_at)
        backoff.attempts("it").failed(throttle())
        pauses.append(host.resume_at - clock.time)
    assert pauses == [1, 2, 4, 8]
    assert clock.slept == []  # `Backoff.enter` waits for the pause, not this function


@pytest.mark.parametrize("said", ["0", "Mon, 01 Jan 2001 00:00:00 GMT"], ids=["no time", "a past date"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_throttle_whose_time_is_over_already_is_waited_out_as_one_without_a_time(
    backoff: Backoff, clock: Clock, said: str, status: int
) -> None:
    host, attempts = timed(backoff, clock, "mar.test:443"), backoff.attempts("it")
    pauses = []
    for _ in range(limits.TRIES - 1):
        backoff.enter(host, attempts)
        backoff.leave(host, succeeded=False)
        attempts.failed(explained(status, Retry_After=said))
        pauses.append(host.resume_at - clock.time)
    assert pauses == [1, 2, 4, 8]


def test_a_date_of_a_host_whose_clock_is_behind_ours_is_waited_out(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock, "mar.test:443")
    until, date = "Mon, 01 Jan 2001 00:00:45 GMT", "Mon, 01 Jan 2001 00:00:00 GMT"
    backoff.attempts("it").failed(explained(429, Retry_After=until, Date=date))
    assert host.resume_at == clock.time + 45


def test_a_time_that_a_host_names_is_kept_and_not_made_longer(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    for _ in range(4):
        clock.time = max(clock.time, host.resume_at)
        assert backoff.throttled("mar.test", 2) == 2


def test_an_answer_ends_the_growing_of_pauses(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    for _ in range(3):
        clock.time = max(clock.time, host.resume_at)
        backoff.throttled("mar.test", None)
    backoff.enter(host, backoff.attempts("it"))
    backoff.leave(host, succeeded=True)
    assert backoff.throttled("mar.test", None) == 1


def test_a_throttle_that_lasts_ends_after_all_tries_with_its_own_error(backoff: Backoff, clock: Clock) -> None:
    host, attempts = timed(backoff, clock), backoff.attempts("it")
    for number in range(limits.TRIES):
        backoff.enter(host, attempts)
        backoff.leave(host, succeeded=False)
        if number == limits.TRIES - 1:
            with pytest.raises(RateLimitedError, match="asked too much"):
                attempts.failed(throttle(2))
        else:
            attempts.failed(throttle(2))
    assert clock.time >= 1000 + 2 * (limits.TRIES - 1)


# -- giving up


@pytest.mark.parametrize("seconds", [121.0, 86400.0, 1e15])
def test_a_wait_beyond_what_is_allowed_ends_at_once_and_says_when_to_come_back(backoff: Backoff, clock: Clock, seconds: float) -> None:
    with pytest.raises(RateLimitedError) as caught:
        backoff.attempts("it").failed(throttle(seconds))
    error = caught.value
    moment = {121.0: "12:02:01", 86400.0: "2026-11-24 12:00:00", 1e15: "a date too far away to show"}[seconds]
    assert f"in {seconds:.0f} s (at {moment}), which is more than the 120 s" in error.message
    assert f"run it again after {moment}" in error.hint
    assert error.context == {"host": "mar.test", "retry_after": seconds, "msedge_ref": "Ref A"}
    assert (error.exit_code, clock.time, clock.slept) == (7, 1000.0, [])


@pytest.mark.parametrize(("timeout", "allowed"), [(10.0, 10.0), (3600.0, 3600.0)])
def test_a_budget_takes_the_place_of_what_is_allowed(heard: Heard, timeout: float, allowed: float) -> None:
    clock = Clock(timeout)
    backoff = Backoff(clock, heard)
    backoff.attempts("it").failed(throttle(allowed))
    with pytest.raises(RateLimitedError, match=f"more than the {allowed:.0f} s"):
        backoff.attempts("it").failed(throttle(allowed + 1))
    assert clock.time == 1000.0


def test_waits_of_one_thing_are_added_up(backoff: Backoff, clock: Clock) -> None:
    host, attempts = timed(backoff, clock), backoff.attempts("it")
    for _ in range(2):
        attempts.failed(throttle(50))
        backoff.enter(host, attempts)
        backoff.leave(host, succeeded=False)
    with pytest.raises(RateLimitedError, match="more than the 20 s"):
        attempts.failed(throttle(50))
    backoff.attempts("another").failed(throttle(50))


def test_a_later_request_fails_at_once_if_the_pause_is_too_long(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 3600)
    with pytest.raises(RateLimitedError, match=r"3600 s \(at 13:00:00\)"):
        backoff.enter(host, backoff.attempts("another"))
    assert (clock.time, host.active) == (1000.0, 0)


def test_a_used_up_budget_ends_a_wait_for_a_free_place(heard: Heard) -> None:
    clock = Clock(3)
    backoff = Backoff(clock, heard, jobs=1)
    host = timed(backoff, clock)
    backoff.enter(host, backoff.attempts("it"))
    with pytest.raises(RemoteError) as caught:
        backoff.enter(host, backoff.attempts("it"))
    assert (caught.value.code, clock.time, host.active) == ("timeout", 1003.0, 1)


def test_a_stopped_command_ends_a_wait(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)

    class Stopping(Condition):
        def wait(self, timeout: float | None = None) -> bool:
            clock.cancel()
            return super().wait(timeout)

    host.condition = Stopping(clock)
    backoff.throttled("mar.test", 60)
    with pytest.raises(Cancelled):
        backoff.enter(host, backoff.attempts("it"))
    assert host.active == 0


def test_without_progress_nothing_is_tried_for_ever(backoff: Backoff, clock: Clock) -> None:
    attempts = backoff.attempts("it")
    clock.time += limits.NO_PROGRESS + 1
    with pytest.raises(RemoteError, match="it failed"):
        attempts.failed(failure())
    assert clock.slept == []


def test_a_wait_that_the_host_asked_for_is_no_lack_of_progress(backoff: Backoff, clock: Clock) -> None:
    host, attempts = timed(backoff, clock), backoff.attempts("it")
    backoff.throttled("mar.test", limits.NO_PROGRESS + 30)
    backoff.enter(host, attempts)
    attempts.failed(failure())
    assert len(clock.slept) == 2  # a random delay, so that threads do not continue together, and the wait before the retry


# -- cut transfers


def cut(attempts: Attempts, held: int) -> None:
    attempts.held(held)
    attempts.cut(RemoteError("cut", code="cut"))


def test_a_transfer_goes_on_at_once_while_each_time_brings_more(backoff: Backoff, clock: Clock) -> None:
    attempts = backoff.attempts("it")
    for number in range(limits.RESUMES):
        cut(attempts, 100 * (number + 1))
    with pytest.raises(RemoteError, match="cut"):
        cut(attempts, 99_999)
    assert clock.slept == []


@pytest.mark.parametrize("held", [[0, 0, 0, 0], [500, 500, 400, 499]], ids=["nothing comes", "the same part again"])
def test_a_transfer_that_brings_no_more_is_given_up(backoff: Backoff, clock: Clock, held: list[int]) -> None:
    attempts = backoff.attempts("it")
    *before, last = held
    for size in before:
        cut(attempts, size)
    with pytest.raises(RemoteError, match="cut"):
        cut(attempts, last)
    assert clock.slept == [2, 4]


def test_tries_and_resumes_share_one_account_which_progress_clears(backoff: Backoff) -> None:
    attempts = backoff.attempts("it")
    for _ in range(2):
        attempts.failed(failure(tries=4))
    cut(attempts, 0)
    with pytest.raises(RemoteError, match="it failed"):
        attempts.failed(failure(tries=4))
    attempts.held(1)
    attempts.failed(failure(tries=4))


# -- which responses are retried


def explained(status: int, text: str = "", *, data: bool = False, **headers: str) -> RequestFailed:
    address = Address.parse("https://mar.test/v2/aks/foo/manifests/1?sig=secret")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return explain(Failure(RequestKind.TAG, "aks/foo:1", "aks/foo", status, named, address, text, data))


RETRIED = {408: 5, 429: 5, 500: 5, 502: 5, 503: 5, 504: 5, 403: 2}


@pytest.mark.parametrize("status", [201, 204, 304, *range(400, 432), 451, 499, *range(500, 512), 522, 599, 666])
def test_only_temporary_failures_are_retried(status: int) -> None:
    trouble = explained(status)
    assert trouble.tries == RETRIED.get(status, 1)
    assert trouble.throttled is (status == 429)
    assert "secret" not in str(trouble.error.context) + trouble.error.message


THROTTLES: dict[str, Callable[[], RequestFailed]] = {
    "429": lambda: explained(429, Retry_After="7"),
    "503 with a time": lambda: explained(503, Retry_After="7"),
    "404 that says too many": lambda: explained(404, '{"errors":[{"code":"TOOMANYREQUESTS"}]}', Retry_After="7"),
    "403 of a data host that says too many": lambda: explained(
        403, "<Error><Code>TooManyRequests</Code></Error>", data=True, Retry_After="7"
    ),
}


@pytest.mark.parametrize("trouble", THROTTLES.values(), ids=THROTTLES)
def test_a_throttle_is_a_pause_of_its_host(trouble: Callable[[], RequestFailed]) -> None:
    made = trouble()
    assert (made.throttled, made.host, made.retry_after, made.tries) == (True, "mar.test:443", 7.0, limits.TRIES)


OTHERS: dict[str, tuple[Callable[[], RequestFailed], type[Error], int]] = {
    "503 without a time": (lambda: explained(503), RemoteError, 5),
    "500 with a time": (lambda: explained(500, Retry_After="7"), RemoteError, 5),
    "404 with a time": (lambda: explained(404, Retry_After="7"), NotFoundError, 1),
    "a block page": (lambda: explained(404, BLOCKED.decode()), RemoteError, 2),
    "denied": (lambda: explained(403, '{"errors":[{"code":"DENIED"}]}'), RemoteError, 1),
    "an expired address": (lambda: explained(403, data=True), RemoteError, 3),
}


@pytest.mark.parametrize(("trouble", "kind", "tries"), OTHERS.values(), ids=OTHERS)
def test_other_failures_do_not_pause_the_host(trouble: Callable[[], RequestFailed], kind: type[Error], tries: int) -> None:
    made = trouble()
    assert (type(made.error), made.tries, made.throttled) == (kind, tries, False)


def test_waiting_for_a_slot_calls_the_heartbeat(backoff: Backoff, clock: Clock) -> None:
    host = timed(backoff, clock)
    signs: list[float] = []
    attempts = backoff.attempts("it")
    attempts.heartbeat = lambda: signs.append(clock.time)
    backoff.throttled("mar.test", 4)
    backoff.enter(host, attempts)
    assert len(signs) > 4
