"""Preconnections and early requests respect throttles, timeouts and cancellation."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session, SessionOptions
from marfetch.endpoint import Address, Preference
from marfetch.layout.layout import Layout
from marfetch.reference import Reference
from marfetch.remote import limits, preconnect
from marfetch.remote.certificates import TrustedCertificates
from marfetch.remote.deadlines import Exchange
from marfetch.remote.pauses import Pauses
from marfetch.remote.preconnect import Preconnection, Preconnections, PredictedRequest

from ..world.command import ended, started, surroundings, until
from ..world.content import source_of
from ..world.progress import Heard
from ..world.registry import Registry
from ..world.throttling import FILES, JOBS, Throttles, ramps_up, refs, throttles
from ..world.tls import server_context


@pytest.fixture
def throttling(recipe: Layout, ca: trustme.CA) -> Iterator[Throttles]:
    """Start throttling registries as in `test_pauses.py`, but with https."""
    with throttles(recipe, lambda: server_context(ca.issue_cert("localhost"))) as make:
        yield make


def client_of(registry: Registry, directory: Path, ca_file: str, heard: Heard) -> Session:
    preference = Preference(option=f"https://localhost:{registry.port}", data_hosts=())
    return Session(SessionOptions(preference, cache_dir=directory / "cache", ca_file=ca_file, jobs=JOBS), heard)


# -- a host that throttles


def test_an_opening_connection_sends_nothing_after_a_throttle(secure: Registry, ca_file: str) -> None:
    told, opening = threading.Event(), threading.Event()

    def context() -> ssl.SSLContext:
        opening.wait(10)
        return TrustedCertificates(ca_file).context()

    early = Preconnection(
        Address.parse(f"https://localhost:{secure.port}"), context, PredictedRequest("/v2/", {}), lambda: not told.is_set()
    )
    told.set()
    opening.set()
    ready = early.take("localhost", secure.port, Exchange("/v2/", 0, float))
    assert ready is not None
    assert ready.sent is None  # no early request was sent; the request is sent when the pause ends
    ready.socket.close()
    assert secure.asked == []


def test_an_open_connection_sends_nothing_after_a_throttle(secure: Registry, ca_file: str) -> None:
    early = Preconnections(Address.parse(f"https://localhost:{secure.port}"), TrustedCertificates(ca_file).context, 4)
    early.open()
    early.send_early(PredictedRequest("/v2/", {}), lambda: False)
    (ahead,) = early._opened[early._registry]
    ahead._done.wait(10)
    assert ahead.send_early(PredictedRequest("/v2/", {}), lambda: False)
    ready = early.take("localhost", secure.port, None)
    assert ready is not None
    assert ready.sent is None
    ready.socket.close()
    early.close()
    assert secure.asked == []


def test_a_request_gets_the_error_of_a_connection_that_failed_early(secure: Registry) -> None:
    early = Preconnections(Address.parse(f"https://localhost:{secure.port}"), TrustedCertificates().context, 4)
    early.open()
    (ahead,) = early._opened[early._registry]
    ahead._done.wait(10)
    early.send_early(PredictedRequest("/v2/", {}))
    assert len(early._opened[early._registry]) == 1, "a second connection would fail too"
    with pytest.raises(ssl.SSLCertVerificationError):
        early.take("localhost", secure.port, None)
    assert early.take("localhost", secure.port, None) is None
    early.close()


@pytest.mark.slow
def test_an_early_response_from_before_a_pause_is_discarded(
    throttling: Throttles, tmp_path: Path, ca_file: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AHEAD_TIME", 60.0)
    registry = throttling(seconds=2)
    with client_of(registry, tmp_path, ca_file, heard) as client:
        reference = Reference.parse(f"localhost:{registry.port}/aks/busy0:1")
        bound, source = source_of(client, reference)
        client.connect(client.endpoint(reference), preconnect.manifest(bound, None))
        until(lambda: len(registry.ends) == 1)  # the early request was throttled
        Pauses(tmp_path / "cache").record(f"localhost:{registry.port}", 2)  # another process was throttled too, and records the pause
        assert source.manifest(bound) is not None
    assert len(registry.came) == 2
    assert registry.while_told == []
    (note,) = heard.notes
    assert "asked another marfetch" in note


@pytest.mark.slow
def test_soon_after_a_pause_no_request_is_sent_early(throttling: Throttles, tmp_path: Path, ca_file: str, heard: Heard) -> None:
    registry = throttling(pauses=0, takes=0.1)
    Pauses(tmp_path / "cache", now=lambda: time.time() - 10).record(f"localhost:{registry.port}", 5)
    wanted = [Wanted(Reference.parse(f"localhost:{registry.port}/aks/busy{number}:1")) for number in range(FILES)]
    with client_of(registry, tmp_path, ca_file, heard) as client:
        assert pull(client, wanted, PullOptions(tmp_path / "out")).failed == ()
    assert registry.came[0].together == 1
    registry.ends.append(0)  # pretend that the last pause ended long ago
    for one in registry.came:
        assert one.together <= 1 + one.answered, one
    ramps_up(registry)


@pytest.mark.parametrize(("ago", "may"), [(-1.0, False), (5.0, False), (limits.RECENT_PAUSE + 5, True)])
def test_early_requests_resume_a_while_after_a_pause(tmp_path: Path, ago: float, may: bool) -> None:
    now = time.time()
    assert Pauses(tmp_path).may_send_early("mar.test")
    Pauses(tmp_path, now=lambda: now).record("mar.test", 10)
    assert Pauses(tmp_path, now=lambda: now + 10 + ago).may_send_early("mar.test") is may


def test_a_pause_counts_even_if_it_cannot_be_recorded(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("no directory")
    pauses = Pauses(tmp_path)
    pauses.record("mar.test", 10)
    assert pauses.pause("mar.test") is None
    assert not pauses.may_send_early("mar.test")
    assert pauses.may_send_early("other.test")


# -- a host that never completes a connection


def start(port: int, directory: Path, *words: str) -> subprocess.Popen[str]:
    """Start a process that pulls from `https://localhost` at this port."""
    given = surroundings(cache=directory / "cache", MARFETCH_ENDPOINT=f"https://localhost:{port}")
    return started("pull", *words, cwd=directory, environment=given)


@pytest.fixture
def mute() -> Iterator[tuple[int, list[socket.socket]]]:
    """Accept connections on a port, and never send anything. Yields the port and the list of connections."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            try:
                while True:
                    taken.append(listening.accept()[0])
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1], taken
        listening.shutdown(socket.SHUT_RDWR)
    for one in taken:
        one.close()


@pytest.fixture
def full() -> Iterator[int]:
    """Yield a port that accepts no connection: its queue is full, so packets are dropped."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def connecting(port: int) -> int:
    """Return the number of connections to this port that are being opened."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[2].endswith(f":{port:04X}") and fields[3] == "02" for fields in lines)


@pytest.mark.slow
def test_a_server_that_never_speaks_tls_takes_no_longer_than_the_budget(mute: tuple[int, list[socket.socket]], tmp_path: Path) -> None:
    begun = time.monotonic()
    code, out, _ = ended(start(mute[0], tmp_path, *refs(0), "--timeout", "2", "--json"))
    assert code == 7
    assert '"timeout"' in out
    assert "within the 2 s" in out
    assert time.monotonic() - begun < limits.HANDSHAKE_TIME - 1


@pytest.mark.slow
def test_a_server_that_takes_no_connection_takes_no_longer_than_the_budget(full: int, tmp_path: Path) -> None:
    begun = time.monotonic()
    code, out, _ = ended(start(full, tmp_path, *refs(0, 1), "--timeout", "2", "--json"))
    assert code == 7
    assert "within the 2 s" in out
    assert time.monotonic() - begun < limits.CONNECT_TIME - 1


@pytest.mark.parametrize("number", [1, 2])
def test_a_signal_ends_a_command_during_the_tls_handshake(mute: tuple[int, list[socket.socket]], tmp_path: Path, number: int) -> None:
    port, taken = mute
    process = start(port, tmp_path, *refs(*range(number)), "--json")
    until(lambda: len(taken) >= number)
    told_to_end(process)


@pytest.mark.skipif(sys.platform != "linux", reason="how far a connection is can be seen below /proc only")
def test_a_signal_ends_a_command_while_it_connects(full: int, tmp_path: Path) -> None:
    before = connecting(full)
    process = start(full, tmp_path, *refs(0, 1), "--json")
    until(lambda: connecting(full) >= before + 2)
    told_to_end(process)


def told_to_end(process: subprocess.Popen[str]) -> None:
    time.sleep(0.5)  # give all threads time to start waiting
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    code, out, err = ended(process)
    assert code == 143, err
    assert '"terminated"' in out
    assert time.monotonic() - begun < 6  # without cancellation, connecting or the TLS handshake would wait ten seconds
