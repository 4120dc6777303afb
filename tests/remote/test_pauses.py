"""Every thread and every process with the same cache respects a throttle, and requests restart slowly after it.

The registry records the time of each request (`tests/world/throttling.py`). No test here measures speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marfetch.client.pull import Pulled, PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session, SessionOptions
from marfetch.endpoint import Preference
from marfetch.errors import RateLimitedError
from marfetch.layout.layout import Layout
from marfetch.records import Records
from marfetch.reference import Reference
from marfetch.remote import limits
from marfetch.remote.backoff import Backoff
from marfetch.remote.pauses import MAX_RECORD, SORT, Pauses

from ..world.clock import Clock, timed
from ..world.command import ended, started, surroundings, until
from ..world.content import source_of
from ..world.progress import Heard
from ..world.throttling import FILES, JOBS, Throttles, Throttling, ramps_up, refs, throttles


@pytest.fixture
def throttling(recipe: Layout) -> Iterator[Throttles]:
    with throttles(recipe) as make:
        yield make


def get(registry: Throttling, directory: Path, *, files: int = FILES, heard: Heard | None = None, **options: Any) -> Pulled:
    """Pull this number of artifacts with one session."""
    preference = Preference(option=f"http://{registry.host}", data_hosts=())
    wanted = [Wanted(Reference.parse(f"{registry.host}/aks/busy{number}:1")) for number in range(files)]
    with Session(SessionOptions(preference, cache_dir=directory / "cache", **{"jobs": JOBS, **options}), heard or Heard()) as client:
        return pull(client, wanted, PullOptions(directory / "out"))


def start(registry: Throttling, directory: Path, cache: Path, *words: str) -> subprocess.Popen[str]:
    """Start marfetch as a separate process."""
    directory.mkdir(parents=True)
    return started(*words, cwd=directory, environment=surroundings(registry, cache))


# -- one process


@pytest.mark.slow
@pytest.mark.parametrize(("status", "form"), [(429, "seconds"), (503, "date")])
def test_all_threads_respect_a_throttle(throttling: Throttles, tmp_path: Path, status: int, form: str) -> None:
    # All open requests are throttled at once, and so is the first request after the first pause.
    registry = throttling(status=status, form=form, seconds=1, after=JOBS, gather=JOBS, pauses=2)
    result = get(registry, tmp_path)
    assert (len(result.files), result.failed) == (FILES, ())
    assert len(registry.ends) == 2
    assert registry.while_told == []
    ramps_up(registry)


@pytest.mark.slow
def test_requests_that_have_no_connection_yet_respect_a_throttle(
    throttling: Throttles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All threads hold a slot, and one is throttled. The others get a connection only afterwards, and must not send a request on it.
    from marfetch.remote import connection, dial

    registry = throttling(seconds=3)
    first, told = threading.Lock(), threading.Event()
    connect, throttled = dial.connect, Backoff.throttled

    def slowly(*arguments: Any, **options: Any) -> Any:
        sock = connect(*arguments, **options)
        if not first.acquire(blocking=False):
            assert told.wait(30)
        return sock

    def tell(self: Backoff, name: str, seconds: float | None) -> float:
        done = throttled(self, name, seconds)
        told.set()
        return done

    monkeypatch.setattr(connection, "connect", slowly)
    monkeypatch.setattr(Backoff, "throttled", tell)
    result = get(registry, tmp_path)
    assert (len(result.files), result.failed) == (FILES, ())
    assert registry.while_told == []
    ramps_up(registry)


@pytest.mark.slow
def test_a_throttle_is_recorded_before_the_slot_and_connection_are_released(
    throttling: Throttles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise a thread that waits for one of these slots could send a request in between.
    from marfetch.remote.transport import StreamedResponse

    registry = throttling(seconds=1)
    known: list[str] = []
    told, leave, close = Backoff.throttled, Backoff.leave, StreamedResponse.close

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            known.append(name)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(Backoff, "throttled", noted("known", told))
    monkeypatch.setattr(Backoff, "leave", noted("place", leave))
    monkeypatch.setattr(StreamedResponse, "close", noted("connection", close))
    assert get(registry, tmp_path, files=1).failed == ()
    assert known[:3] == ["known", "connection", "place"]


@pytest.mark.slow
def test_a_throttle_that_names_no_time_makes_no_storm(throttling: Throttles, tmp_path: Path, impatient: None) -> None:
    registry = throttling(form="nothing", seconds=3600, gather=4)
    result = get(registry, tmp_path, files=4, jobs=4)
    assert result.files == ()
    assert {failed.error.exit_code for failed in result.failed} == {7}
    first, later = registry.came[:4], registry.came[4:]
    assert {one.told for one in first} == {False}
    assert {one.together for one in later} == {1}  # after all threads were throttled, requests run one at a time
    assert len(registry.came) <= 4 * limits.TRIES


@pytest.mark.parametrize(("says", "when"), [("86400", "20"), ("99999999999999999999", "a date too far away to show")])
def test_a_wait_that_is_too_long_ends_everything_at_once(throttling: Throttles, tmp_path: Path, says: str, when: str) -> None:
    registry = throttling(says=says, seconds=3600, gather=JOBS)
    result = get(registry, tmp_path)
    assert {type(failed.error) for failed in result.failed} == {RateLimitedError}
    assert all(when in failed.error.hint for failed in result.failed)
    assert len(registry.came) == JOBS
    assert registry.while_told == []


# -- several processes


@pytest.mark.slow
def test_another_process_respects_a_throttle_and_says_why(throttling: Throttles, tmp_path: Path) -> None:
    registry = throttling(seconds=3600, after=1)
    assert ended(start(registry, tmp_path / "one", tmp_path / "cache", "pull", *refs(0)))[0] == 7
    before = len(registry.came)
    code, out, _ = ended(start(registry, tmp_path / "two", tmp_path / "cache", "pull", *refs(1, 2, 3), "--json"))
    assert code == 7
    document = json.loads(out)
    failed = document["data"]["failed"] if "data" in document else [document["error"]]
    assert {one["code"] for one in failed} == {"rate-limited"}
    assert "throttled another marfetch" in failed[0]["message"]
    assert "run it again after" in failed[0]["hint"]
    assert "MARFETCH_CACHE_DIR" in failed[0]["hint"]
    assert len(registry.came) == before
    # A process with another cache does not know the pause.
    assert ended(start(registry, tmp_path / "three", tmp_path / "other", "pull", *refs(1)))[0] == 7
    assert len(registry.came) == before + 1


@pytest.mark.slow
def test_another_process_waits_if_the_pause_is_short_enough(throttling: Throttles, tmp_path: Path, heard: Heard) -> None:
    import marfetch.remote.registry  # noqa: F401 - import it before the pause, which would otherwise end during the import

    registry = throttling(pauses=0)
    told = time.monotonic()
    Pauses(tmp_path / "cache").record(registry.host, 3)
    assert get(registry, tmp_path, files=3, heard=heard).failed == ()
    assert min(one.at for one in registry.came) >= told + 3
    (note,) = heard.notes
    assert note.startswith(f"`{registry.host}` asked another marfetch for a pause of 3 s; continuing at ")
    assert registry.came[0].together == 1


@pytest.mark.slow
def test_a_running_process_respects_the_throttle_of_another(throttling: Throttles, tmp_path: Path) -> None:
    registry = throttling(seconds=5, after=1)
    held = registry.holds("busy0/")
    working = start(registry, tmp_path / "one", tmp_path / "cache", "pull", *refs(0, 1, 2), "--jobs", "1")
    until(lambda: len(registry.came) == 1)
    told = start(registry, tmp_path / "two", tmp_path / "cache", "pull", *refs(3))
    until(lambda: Pauses(tmp_path / "cache").pause(registry.host) is not None)
    held.set()
    assert ended(told)[0] == 0
    code, _, err = ended(working)
    assert code == 0, err
    assert "asked another marfetch for a pause of 5 s" in err
    assert registry.while_told == []
    # One request was answered and one was throttled. After that, no request arrives before the end of the pause.
    assert min(one.at for one in registry.came[2:]) >= registry.ends[0]


@pytest.mark.slow
def test_processes_restart_slowly_after_a_pause(throttling: Throttles, tmp_path: Path) -> None:
    processes, jobs = 3, 4
    registry = throttling(seconds=2, gather=processes * jobs)
    running = []
    for number in range(processes):
        wanted = refs(*range(number, FILES, processes))
        running.append(start(registry, tmp_path / str(number), tmp_path / "cache", "pull", *wanted, "--jobs", str(jobs)))
    for code, _, err in [ended(process) for process in running]:
        assert code == 0, err
    assert len(registry.ends) == 1
    assert registry.while_told == []
    ramps_up(registry, processes)


def test_a_client_learns_of_a_pause_between_two_requests(throttling: Throttles, tmp_path: Path) -> None:
    registry = throttling(pauses=0)
    preference = Preference(option=f"http://{registry.host}", data_hosts=())
    with Session(SessionOptions(preference, cache_dir=tmp_path / "cache"), Heard()) as client:
        bound, source = source_of(client, Reference.parse(f"{registry.host}/aks/busy0:1"))
        client.repository(bound).manifest()
        Pauses(tmp_path / "cache").record(str(bound.host), 1000)
        with pytest.raises(RateLimitedError, match="throttled another marfetch"):
            source.manifest(bound)
    assert len(registry.came) == 1


# -- records


@pytest.fixture
def pauses(tmp_path: Path) -> Pauses:
    return Pauses(tmp_path)


def record(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "kept" / SORT).glob("*.json")
    return path


def write(tmp_path: Path, data: object) -> None:
    Records(tmp_path, SORT).put("mar.test", data)  # type: ignore[arg-type]


def test_each_process_reads_a_recorded_pause_once(pauses: Pauses, tmp_path: Path) -> None:
    pauses.record("mar.test", 30)
    assert pauses.update("mar.test") is None  # its own
    other = Pauses(tmp_path)
    heard = other.update("mar.test")
    assert heard is not None
    assert (heard.seconds, 29 < heard.left <= 30) == (30, True)
    assert other.update("mar.test") is None
    assert other.update("data.test") is None
    pauses.record("mar.test", 60)
    assert (heard := other.update("mar.test")) is not None
    assert heard.seconds == 60
    assert (found := other.pause("mar.test")) is not None
    assert 59 < found.left <= 60


def test_a_shorter_pause_does_not_end_a_longer_one(pauses: Pauses, tmp_path: Path) -> None:
    pauses.record("mar.test", 60)
    Pauses(tmp_path).record("mar.test", 5)
    assert (found := pauses.pause("mar.test")) is not None
    assert found.left > 50


def test_whether_any_host_is_throttled_is_known(pauses: Pauses, tmp_path: Path) -> None:
    assert not pauses.is_any()
    pauses.record("mar.test", 30)
    now = time.time()
    assert Pauses(tmp_path).is_any()
    assert not Pauses(tmp_path, now=lambda: now + 31).is_any()
    record(tmp_path).write_bytes(b"junk")
    assert not Pauses(tmp_path).is_any()


def test_one_response_cannot_block_a_machine_forever(pauses: Pauses, tmp_path: Path) -> None:
    pauses.record("mar.test", 1e15)
    assert (found := Pauses(tmp_path).pause("mar.test")) is not None
    assert found.left <= limits.LONGEST_SHARED_PAUSE


def test_a_pause_that_is_over_blocks_no_request(tmp_path: Path) -> None:
    now = time.time()
    Pauses(tmp_path, now=lambda: now).record("mar.test", 30)
    later = Pauses(tmp_path, now=lambda: now + 31)
    assert later.pause("mar.test") is None
    assert (heard := later.update("mar.test")) is not None
    assert heard.left <= 0


JUMPS = {"an hour ahead": 3600.0, "a year ahead": 3.2e7, "an hour back": -3600.0, "ten years back": -3.2e8}


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_clock_that_was_set_makes_no_wait_longer(pauses: Pauses, tmp_path: Path, jump: float) -> None:
    pauses.record("mar.test", 30)
    there = time.time() + jump
    found = Pauses(tmp_path, now=lambda: there).pause("mar.test")
    assert found is None if jump > 0 else found is not None and found.left <= 32


@pytest.mark.parametrize("moment", [-3600.0, 3600.0, 1e9], ids=["written long ago", "written in an hour", "written in ages"])
def test_the_time_of_the_file_makes_no_wait_longer(pauses: Pauses, tmp_path: Path, moment: float) -> None:
    pauses.record("mar.test", 30)
    os.utime(record(tmp_path), (time.time() + moment,) * 2)
    assert Pauses(tmp_path).pause("mar.test") is None


NONSENSE: dict[str, object] = {
    "nothing": None,
    "a text": "30",
    "a list": [30, 40],
    "no end": {"seconds": 30},
    "no length": {"until": 9e9},
    "a text for a length": {"seconds": "30", "until": 9e9},
    "true": {"seconds": True, "until": 9e9},
    "negative": {"seconds": -30, "until": 9e9},
    "an end before all time": {"seconds": 30, "until": -9e18},
    "null": {"seconds": None, "until": None},
    "no length at all": {"seconds": 0, "until": 9e9},
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
def test_an_invalid_record_is_ignored(pauses: Pauses, tmp_path: Path, data: object) -> None:
    write(tmp_path, data)
    assert pauses.pause("mar.test") is None
    pauses.record("mar.test", 30)
    assert Pauses(tmp_path).pause("mar.test") is not None


@pytest.mark.parametrize("until", [9e9, 9e18], ids=["in centuries", "beyond any date"])
def test_an_end_in_another_age_is_no_later_than_the_length_says(pauses: Pauses, tmp_path: Path, until: float) -> None:
    write(tmp_path, {"seconds": 30, "until": until})
    assert (found := pauses.pause("mar.test")) is not None
    assert found.left <= 30


def overwritten(good: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "half written": good[:-9],
        "not UTF-8": b"\xff\xfe" + good,
        "another's": good.replace(b"mar.test", b"abc.test"),
        "of a newer schema": good.replace(b'"schema":1', b'"schema":2'),
        "an endless number": good.replace(b'"seconds":30', b'"seconds":' + b"9" * 3000),
        "infinite": good.replace(b'"seconds":30', b'"seconds":1e999'),
        "huge": good[:-1] + b" " * MAX_RECORD + b"}",
        "brackets": b"[" * (MAX_RECORD - 1),
    }


REPLACED: dict[str, Callable[[Path], None]] = {
    "gone": lambda _: None,
    "a directory": Path.mkdir,
    "a link": lambda path: path.symlink_to("elsewhere"),
    "a loop": lambda path: path.symlink_to(path.name),
    "a named pipe": os.mkfifo,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("how", [*overwritten(b""), *REPLACED])
def test_a_broken_or_foreign_record_blocks_no_request(pauses: Pauses, tmp_path: Path, how: str) -> None:
    pauses.record("mar.test", 30)
    path = record(tmp_path)
    if how in REPLACED:
        path.rename(path.with_name("elsewhere"))
        REPLACED[how](path)
    else:
        path.write_bytes(overwritten(path.read_bytes())[how])
    other = Pauses(tmp_path)
    assert (other.update("mar.test"), other.pause("mar.test")) == (None, None)
    other.record("mar.test", 40)
    found = Pauses(tmp_path).pause("mar.test")
    assert (found is None) == (how == "a directory")


def test_a_record_of_a_terabyte_is_not_read(pauses: Pauses, tmp_path: Path) -> None:
    pauses.record("mar.test", 30)
    os.truncate(record(tmp_path), 1 << 40)
    assert Pauses(tmp_path).pause("mar.test") is None


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_record(tmp_path: Path, heard: Heard) -> None:
    (tmp_path / "kept").write_bytes(b"not a directory")
    clock = Clock()
    backoff = Backoff(clock, heard, pauses=Pauses(tmp_path))
    host = timed(backoff, clock)
    backoff.throttled("mar.test", 30)
    with backoff.slot(host, backoff.attempts("it")):
        assert clock.time >= 1030
    assert Pauses(tmp_path).update("mar.test") is None


def test_soon_after_a_pause_requests_start_one_at_a_time(tmp_path: Path, heard: Heard) -> None:
    now = time.time()
    Pauses(tmp_path, now=lambda: now).record("mar.test", 5)
    for later, allowed in ((6, 1), (5 + limits.RECENT_PAUSE + 1, 16)):
        clock = Clock()
        backoff = Backoff(clock, heard, pauses=Pauses(tmp_path, now=lambda later=later: now + later))  # type: ignore[misc]
        host = timed(backoff, clock)
        backoff.enter(host, backoff.attempts("it"))
        assert (host.allowed, clock.time) == (allowed, 1000)


def test_many_requests_at_one_moment_read_the_record_once(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(Pauses, "update", lambda _, host: read.append(host))
    clock = Clock()
    backoff = Backoff(clock, heard, pauses=Pauses(tmp_path))
    host = backoff.host("mar.test")
    for _ in range(10):
        backoff.enter(host, backoff.attempts("it"))
        assert not backoff.is_paused(host)
        backoff.leave(host, succeeded=True)
    assert read == ["mar.test"]
    clock.time += 1
    backoff.enter(host, backoff.attempts("it"))
    assert read == ["mar.test"] * 2


@pytest.mark.slow
def test_clearing_the_cache_ends_a_recorded_pause(throttling: Throttles, tmp_path: Path) -> None:
    registry = throttling(pauses=0)
    cache = tmp_path / "cache"
    assert not get(registry, tmp_path, files=1).failed
    Pauses(cache).record(registry.host, 1000)
    assert ended(start(registry, tmp_path / "one", cache, "pull", *refs(1)))[0] == 7
    assert ended(start(registry, tmp_path / "two", cache, "cache", "clear"))[0] == 0
    assert ended(start(registry, tmp_path / "three", cache, "pull", *refs(1)))[0] == 0
