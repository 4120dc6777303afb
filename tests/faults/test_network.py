"""N: network faults."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from marfetch.endpoint import DATA_ENVIRONMENT, ENVIRONMENT
from marfetch.layout.layout import Layout
from marfetch.reference import Host

from ..world.content import ALB
from ..world.proxy import Proxy
from ..world.real import free_port
from ..world.registry import Knob, Registry
from ..world.rows import row
from ..world.tls import DATA_NAME, server_context
from ..world.world import BRIEF, World

DATA = bytes(range(256)) * 400
SIZE = len(DATA)
PART = 60_000
LONG = "aks/long:1"
PULL = ("pull", LONG, "--json")
MADE = {"long.bin": DATA}


def ranges(world: World) -> list[str | None]:
    """Return the `Range` headers of the requests to the data host."""
    return [asked.headers.get("range") for asked in world.registry.asked if asked.kind == "data"]


# -- cuts


@row(
    "N01",
    "the connection closes after 60,000 bytes, then before the first byte of every retry",
    "Retries three times, reports how many bytes arrived, and keeps them for the next run",
    code=7,
)
def test_a_body_that_always_stops_early_is_reported_with_the_received_bytes(world: World) -> None:
    world.artifact("aks/long", DATA).cuts_after(PART, times=1)
    world.on_data(DATA).cuts_after(0)
    ended = world.run(*PULL).failed(7, "cut", f"{PART} of {SIZE} bytes", "aks/long", "after 4 tries", "run the command again", requests=9)
    assert list(ended.partial.values()) == [PART]
    world.recovers(*PULL, made=MADE)


@row("N02", "the connection closes after 60,000 bytes, once", "Requests only the missing bytes", code=0)
def test_a_body_that_stops_early_once_is_resumed(world: World) -> None:
    world.artifact("aks/long", DATA).cuts_after(PART, times=1)
    world.run(*PULL).succeeded(made=MADE, requests=5)
    assert ranges(world) == [None, f"bytes={PART}-"]


@row(
    "N02",
    "the connection closes early, and there is no `Content-Length`, so the end looks regular",
    "Notices the missing bytes and requests them",
    code=0,
)
def test_a_body_without_a_length_that_stops_early_once_is_resumed(world: World) -> None:
    world.artifact("aks/long", DATA).says(Content_Length=None).cuts_after(PART, times=1)
    world.run(*PULL).succeeded(made=MADE, requests=5)
    assert ranges(world) == [None, f"bytes={PART}-"]


@row(
    "N02",
    "all bytes arrive, but the last chunk of the chunked body is lost, at every try",
    "Accepts the content without a retry, because its size and digest are right",
    code=0,
)
@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_body_of_which_only_the_end_is_lost_is_whole(world: World, how: str) -> None:
    world.artifact("aks/long", DATA).loses_the_end(how)
    world.run(*PULL).succeeded(made=MADE, requests=3)
    assert ranges(world) == [None]


@row("N03", "a TCP reset after 60,000 of 102,400 bytes", "Requests only the missing bytes", code=0)
def test_after_a_reset_only_the_missing_bytes_are_requested(world: World) -> None:
    world.artifact("aks/long", DATA).resets_after(PART, times=1)
    ended = world.run(*PULL).succeeded(made=MADE, requests=5)
    assert ranges(world) == [None, f"bytes={PART}-"]
    assert ended.received < SIZE * 1.5


@row(
    "N04",
    "after the connection broke, the server ignores `Range` and returns 200 with the whole body",
    "Starts again at the first byte and never appends",
    code=0,
)
def test_a_range_that_is_ignored_begins_again(world: World) -> None:
    world.artifact("aks/long", DATA).cuts_after(PART, times=1)
    world.on_data(DATA).ignores_ranges()
    world.run(*PULL).succeeded(made=MADE, requests=5)


SPLICES: dict[str, Callable[[Knob], object]] = {
    "another start": lambda knob: knob.says(Content_Range=f"bytes 0-{SIZE - 1}/{SIZE}", times=1),
    "a start beyond": lambda knob: knob.says(Content_Range=f"bytes {PART + 1}-{SIZE - 1}/{SIZE}", times=1),
    "another total": lambda knob: knob.says(Content_Range=f"bytes {PART}-{SIZE - 1}/{SIZE * 2}", times=1),
    "no total": lambda knob: knob.says(Content_Range=f"bytes {PART}-{SIZE - 1}/*", times=1),
    "no Content-Range": lambda knob: knob.says(Content_Range=None, times=1),
    "several parts": lambda knob: knob.says(Content_Range=None, Content_Type="multipart/byteranges; boundary=x", times=1),
    "junk": lambda knob: knob.says(Content_Range="bytes=60000-", times=1),
    "other bytes": lambda knob: knob.answers_with(b"x" * (SIZE - PART), times=1),
}


@row(
    "N05",
    "206 with a wrong start or total, without `Content-Range`, in several parts, or with other bytes",
    "Discards the response and downloads the whole blob again",
    code=0,
)
def test_a_rest_that_does_not_fit_is_never_spliced(world: World) -> None:
    made = {}
    for number, (name, twist) in enumerate(SPLICES.items()):
        data = bytes([number]) + DATA[1:]
        world.artifact(f"aks/rest{number}", data, name=f"{name}.bin").cuts_after(PART, times=1)
        twist(world.on_data(data))
        made[f"{name}.bin"] = data
    # For each artifact: the manifest, then three times the signed address and the body.
    world.run("pull", *(f"aks/rest{number}:1" for number in range(len(SPLICES))), "--json").succeeded(made=made, requests=7 * len(SPLICES))
    assert ranges(world).count(f"bytes={PART}-") == len(SPLICES)


@row("N05", "after the connection broke, every retry returns other bytes", "Detects the wrong digest and keeps nothing", code=5)
def test_a_rest_that_always_lies_is_refused(world: World) -> None:
    world.artifact("aks/long", DATA).cuts_after(PART, times=1)
    world.on_data(DATA).answers_with(b"x" * (SIZE - PART), times=1)
    world.on_data(DATA).answers_with(b"x" * SIZE)
    ended = world.run(*PULL).failed(5, "digest-mismatch", "aks/long", requests=7)
    assert ended.partial == {}
    world.recovers(*PULL, made=MADE)


@row(
    "N06",
    "the blob has another `ETag` after the connection broke",
    "Sends `If-Range`, so that the server returns the whole new content",
    code=0,
)
def test_another_entity_tag_begins_again(world: World) -> None:
    world.artifact("aks/long", DATA).says(ETag='"0xOLD"').cuts_after(PART, times=1)
    world.run(*PULL).succeeded(made=MADE, requests=5)
    again = [asked for asked in world.registry.asked if asked.kind == "data"][1]
    assert (again.headers["range"], again.headers["if-range"]) == (f"bytes={PART}-", '"0xOLD"')


@row("N07", "416 for the missing bytes", "Starts again at the first byte", code=0)
def test_a_rest_that_cannot_be_had_begins_again(world: World) -> None:
    world.artifact("aks/long", DATA).cuts_after(PART, times=1)
    world.on_data(DATA).answers(416, times=1)
    world.run(*PULL).succeeded(made=MADE, requests=7)
    assert ranges(world) == [None, f"bytes={PART}-", None]


@row("N08", "a reset after every fifth of the body", "Sends five requests, each for the bytes that are still missing", code=0)
def test_a_reset_at_every_fifth_is_outlasted(world: World) -> None:
    world.artifact("aks/long", DATA).resets_after(SIZE // 5)
    ended = world.run(*PULL).succeeded(made=MADE, requests=11)
    assert ranges(world) == [None, *(f"bytes={SIZE // 5 * number}-" for number in range(1, 5))]
    assert ended.received < SIZE * 1.2


@row("N08", "a reset at the same byte at every try", "Gives up after three retries without progress", code=7)
def test_a_reset_at_the_same_byte_ends(world: World) -> None:
    world.artifact("aks/long", DATA).resets_after(PART, times=1)
    world.on_data(DATA).resets_after(0)
    world.run(*PULL).failed(7, "cut", f"{PART} of {SIZE} bytes", requests=9)
    world.recovers(*PULL, made=MADE)


@row("N09", "a reset, or a regular close, before the first byte, once", "Sends the request again", code=0)
def test_an_end_before_the_first_byte_once_is_outlasted(world: World) -> None:
    world.artifact("aks/reset", DATA).resets_at_once(times=1)
    world.artifact("aks/closed", DATA + b"x").closes_at_once(times=1)
    world.registry.on("manifest", "aks/reset").closes_at_once(times=1)
    world.registry.on("blob").resets_at_once(times=1)
    world.run("pull", "aks/reset:1", "aks/closed:1", "--json").succeeded(made={"reset.bin": DATA, "closed.bin": DATA + b"x"}, requests=12)


@row("N09", "the connection closes before the first byte, at every try", "Tries five times, then reports the failure", code=7)
def test_a_connection_that_ends_before_the_first_byte_at_each_try_is_reported(world: World) -> None:
    world.artifact("aks/long", DATA)
    world.registry.on("manifest").closes_at_once()
    world.run(*PULL).failed(7, "cut", world.registry.host, "was cut", "after 5 tries", requests=5)
    world.recovers(*PULL, made=MADE)


# -- silence and trickles


IDLE = {**BRIEF, "IDLE_TIME": 1.0}


@row("N10", "the body stalls after 60,000 bytes, once", "Requests the missing bytes after the idle timeout", code=0)
def test_a_stall_once_is_outlasted(world: World) -> None:
    world.artifact("aks/long", DATA).stalls_after(PART, times=1)
    world.run(*PULL, limits=IDLE).succeeded(made=MADE, requests=5)
    assert ranges(world) == [None, f"bytes={PART}-"]


@row("N10", "the body stalls at every try", "Gives up after four tries, reports `no data from …`, and keeps the bytes that arrived", code=7)
def test_a_stall_at_each_try_is_reported(world: World) -> None:
    world.artifact("aks/long", DATA).stalls_after(PART, times=1)
    world.on_data(DATA).stalls_after(0)
    world.run(*PULL, limits=IDLE).failed(
        7, "timeout", "no data from", world.registry.data_host, f"{PART} of {SIZE} bytes", requests=9, within=30
    )
    world.recovers(*PULL, made=MADE)


# A read of 64 KiB may take as long as it does at the minimum rate.
BRISK = {**BRIEF, "IDLE_TIME": 2.0, "HEADER_TIME": 2.5, "GRACE": 0.5, "RATE_TIME": 2.0, "LEAST_RATE": 1 << 16}

TRICKLES: dict[str, Callable[[Knob], object]] = {
    "the body": lambda knob: knob.drips(20, 0.1),
    "one byte at a time": lambda knob: knob.drips(1, 0.2),
    "the headers": lambda knob: knob.drips(1, 0.1, headers=True),
}


@row(
    "N11",
    "one byte at a time, in the body or in the headers",
    "Stops below the minimum rate or at the header timeout, without a retry",
    code=7,
)
def test_a_trickle_is_given_up(world: World) -> None:
    for number, twist in enumerate(TRICKLES.values()):
        twist(world.artifact(f"aks/trickle{number}", bytes([number]) + DATA[1:]))
    ended = world.run("pull", *(f"aks/trickle{number}:1" for number in range(len(TRICKLES))), "--json", limits=BRISK)
    ended.failed(7, "timeout", requests=3 * len(TRICKLES), within=30)
    assert [one["code"] for one in ended.failures] == ["timeout"] * len(TRICKLES)
    assert "less than 65536 per second" in ended.failures[0]["message"]
    assert "is too slow" in ended.failures[2]["message"]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, tuple[Callable[[Knob], object], str]] = {
    "headers": (lambda knob: knob.sends(b"HTTP/1.1 200 OK\r\n", then=b"X: y\r\n" * 400), "cut"),
    "one header": (lambda knob: knob.sends(b"HTTP/1.1 200 OK\r\nX: ", then=b"y" * 4096), "cut"),
    "a status line": (lambda knob: knob.sends(b"HTTP/1.1 200 ", then=b"y" * 4096), "cut"),
}


@row("N12", "endless headers", "Stops each try at the header timeout or at a limit", code=7)
@pytest.mark.parametrize("kind", ["manifest", "data"])
def test_what_never_comes_to_a_body_is_ended(world: World, kind: str) -> None:
    for number, (twist, _) in enumerate(ENDLESS.values()):
        data = bytes([number]) + DATA[1:]
        knob = world.artifact(f"aks/endless{number}", data)
        if kind == "manifest":
            knob = world.registry.on("manifest", f"endless{number}")
        twist(knob)
    ended = world.run("pull", *(f"aks/endless{number}:1" for number in range(len(ENDLESS))), "--json", limits=BRISK)
    ended.failed(7, "cut", requests=len(ENDLESS) * 11, within=45)
    assert [one["code"] for one in ended.failures] == [code for _, code in ENDLESS.values()]


ENDLESS_FRAMING: dict[str, tuple[Callable[[Knob], object], str]] = {
    "trailers": (lambda knob: knob.sends(CHUNKED + b"0\r\n", then=b"X: y\r\n" * 400), "malformed"),
    "a chunk's size": (lambda knob: knob.sends(CHUNKED, then=b"0" * 4096), "malformed"),
    "an extension": (lambda knob: knob.sends(CHUNKED + b"5;", then=b"x" * 4096), "malformed"),
}


@row("N12", "endless trailers, chunk sizes or chunk extensions", "Refuses the response as malformed at once", code=5)
@pytest.mark.parametrize("kind", ["manifest", "data"])
def test_framing_without_end_is_malformed(world: World, kind: str) -> None:
    strange(world, kind, ENDLESS_FRAMING, 5, tries=1)


@row("N12", "endless `100 Continue` responses", "Skips 16 of them, then stops", code=4)
def test_answers_before_the_answer_are_no_more_than_a_few(world: World) -> None:
    world.artifact("aks/long", DATA).sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, endlessly=True)
    world.run(*PULL).failed(4, "limit-passed", "more than 16", requests=3)
    world.recovers(*PULL, made=MADE)


@row("N12", "`103 Early Hints` shortly before every response", "Skips it and uses the final response", code=0)
def test_answers_before_the_answer_are_passed_over(world: World) -> None:
    other = DATA[::-1]
    world.artifact("aks/long", DATA)
    world.artifact("aks/other", other)
    world.registry.on("any").sends_before(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")
    world.run("pull", LONG, "aks/other:1", "--jobs", "1", "--json").succeeded(made={**MADE, "other.bin": other}, requests=6)


SMUGGLED = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"smuggled":1}'
STRANGE: dict[str, tuple[Callable[[Knob], object], str]] = {
    "another protocol": (lambda knob: knob.sends(b"SSH-2.0-OpenSSH_9.0\r\n" * 4), "cut"),
    "binary": (lambda knob: knob.sends(bytes(range(256)) * 4), "cut"),
    "HTTP of another age": (lambda knob: knob.sends(b"<html>HTTP/0.9</html>"), "cut"),
    "a header of 1 MiB": (lambda knob: knob.sends(b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n"), "cut"),
}
TWO_ENDS: dict[str, tuple[Callable[[Knob], object], str]] = {
    "two lengths": (
        lambda knob: knob.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + SMUGGLED),
        "malformed",
    ),
    "two lengths in one": (lambda knob: knob.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}" + SMUGGLED), "malformed"),
    "a length and chunks": (
        lambda knob: knob.sends(CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
        "malformed",
    ),
}


NO_SIZES: dict[str, tuple[Callable[[Knob], object], str]] = {
    "a chunk of the size -1": (lambda knob: knob.sends(CHUNKED + b"1\r\nx\r\n-1\r\n", then=bytes(65536)), "malformed"),
    "+5": (lambda knob: knob.sends(CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n"), "malformed"),
    "0x5": (lambda knob: knob.sends(CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"), "malformed"),
    "no CRLF behind a chunk": (lambda knob: knob.sends(CHUNKED + b"5\r\nhello0\r\n\r\n"), "malformed"),
    "a length of -1": (lambda knob: knob.says(Content_Length="-1"), "malformed"),
    "a length of +5": (lambda knob: knob.says(Content_Length="+5"), "malformed"),
}


@row("N13", "another protocol, junk, or a header of 1 MiB", "Treats it as a broken connection: tries five times, then reports it", code=7)
@pytest.mark.parametrize("kind", ["manifest", "data"])
def test_what_is_no_answer_is_not_taken_for_one(world: World, kind: str) -> None:
    strange(world, kind, STRANGE, 7, tries=5)


@row(
    "N13",
    "two different lengths; a length together with chunks",
    "Refuses the response as malformed and never reads the following bytes as another response",
    code=5,
)
@pytest.mark.parametrize("kind", ["manifest", "data"])
def test_an_answer_with_two_ends_is_refused_with_what_follows(world: World, kind: str) -> None:
    strange(world, kind, TWO_ENDS, 5, tries=1)


@row(
    "N13",
    "chunk sizes of -1, +5 and 0x5; lengths of -1 and +5",
    "Refuses the response as malformed, without allocating memory for it",
    code=5,
)
@pytest.mark.parametrize("kind", ["manifest", "data"])
def test_an_invalid_size_is_malformed(world: World, kind: str) -> None:
    strange(world, kind, NO_SIZES, 5, tries=1)


def strange(world: World, kind: str, cases: dict[str, tuple[Callable[[Knob], object], str]], exit_code: int, *, tries: int) -> None:
    """Pull one artifact per case, and check the error of each."""
    for number, (twist, _) in enumerate(cases.values()):
        data = bytes([number]) + DATA[1:]
        knob = world.artifact(f"aks/strange{number}", data)
        twist(world.registry.on("manifest", f"strange{number}") if kind == "manifest" else knob)
    codes = [code for _, code in cases.values()]
    ended = world.run("pull", *(f"aks/strange{number}:1" for number in range(len(cases))), "--json")
    ended.failed(exit_code, codes[0], requests=len(cases) * (1 + 2 * tries))
    assert [one["code"] for one in ended.failures] == codes
    assert all(f"aks/strange{number}" in one["message"] for number, one in enumerate(ended.failures)), ended
    assert "smuggled" not in ended.out + ended.err
    assert ended.received < 16 << 20


# -- hosts that do not exist or do not respond


def elsewhere(world: World, origin: str, *names: str) -> tuple[str, ...]:
    """Use this address as the endpoint. Allow connections only to it and, with https, to the data host, to which marfetch connects early."""
    world.environment[ENVIRONMENT] = origin
    scheme, _, host = origin.partition("://")
    world.allowed, world.names = {host, *([world.registry.data_host] if scheme == "https" else [])}, set(names)
    return PULL


@row("N14", "the port refuses connections", "Tries five times, then names the host", code=7)
def test_a_refused_port_is_said(world: World) -> None:
    origin = f"http://127.0.0.1:{free_port()}"
    ended = world.run(*elsewhere(world, origin)).failed(7, "unreachable", origin.partition("://")[2], "refused", "after 5 tries")
    assert len([event for event, _ in ended.contacts if event == "socket.connect"]) == 5


@row("N14", "the data host refuses connections", "Tries five times, then names the data host", code=7)
def test_a_data_host_that_is_down_is_named(world: World) -> None:
    world.artifact("aks/long", DATA)
    down = f"127.0.0.1:{free_port()}"
    world.registry.data_origin = f"http://{down}"
    world.environment[DATA_ENVIRONMENT] = f"{world.registry.data_host},{down}"
    world.allowed.add(down)
    world.run(*PULL).failed(7, "unreachable", f"`{down}` cannot be reached", "aks/long", requests=6)
    world.registry.data_origin = None
    world.recovers(*PULL, made=MADE)


@row("N14", "the host name does not exist", "Tries twice, then names the host and says what to check", code=7)
def test_a_host_name_that_cannot_be_resolved_is_reported(world: World) -> None:
    ended = world.run(*elsewhere(world, "https://nowhere.invalid", "nowhere.invalid"))
    ended.failed(7, "unreachable", "`nowhere.invalid` cannot be reached", "cannot be resolved", "check the spelling", within=60)
    connected = [who for event, who in ended.contacts if event == "socket.connect"]
    assert all(world.registry.data_host.rpartition(":")[2] in who for who in connected), (
        "only early connections to the data host are allowed"
    )


@row("N14", "the host never accepts the connection", "Gives up after the connect timeout", code=7)
def test_a_host_that_does_not_answer_is_given_up(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, contextlib.ExitStack() as callers:
        for _ in range(20):  # connect until the queue is full, so that the system drops further packets
            caller = callers.enter_context(socket.socket())
            caller.settimeout(0.5)
            try:
                caller.connect(deaf.getsockname())
            except TimeoutError:
                break
        else:
            pytest.skip("this system accepts connections although the queue is full")
        origin = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        words = elsewhere(world, origin)
        ended = world.run(*words, limits={**BRIEF, "CONNECT_TIME": 2.0, "NO_PROGRESS": 1.5})
        ended.failed(7, "unreachable", origin.partition("://")[2], "no connection within", within=40)


@row("N14", "no TLS behind an https address", "Reports a TLS failure and names the host", code=7)
def test_a_registry_without_tls_is_reported(world: World) -> None:
    world.run(*elsewhere(world, f"https://{world.registry.host}")).failed(7, "tls", world.registry.host, within=40)


@row("N14", "a certificate from an unknown authority", "Refuses it without a retry and points to `--ca-file`", code=7)
def test_an_unknown_certificate_authority_is_reported_without_a_retry(secure: World) -> None:
    del secure.environment["SSL_CERT_FILE"]
    ended = secure.run("resolve", f"{ALB}:1.7.12", "--json").failed(7, "tls", secure.registry.host, "--ca-file", requests=0)
    assert len([event for event, _ in ended.contacts if event == "socket.connect"]) == 1


@row(
    "N14",
    "a certificate that has expired or is not valid yet",
    "Refuses it without a retry and says `check the clock of this machine`",
    code=7,
)
@pytest.mark.parametrize(("days", "said"), [(-2, "expired"), (2, "not yet valid")])
def test_a_certificate_of_another_time_asks_for_a_look_at_the_clock(
    recipe: Layout, ca: trustme.CA, ca_file: str, tmp_path: Path, days: int, said: str
) -> None:
    ends = sorted(dt.datetime.now(dt.UTC) + dt.timedelta(days=days * number) for number in (1, 2))
    certificate = ca.issue_cert("127.0.0.1", not_before=ends[0], not_after=ends[1])
    with Registry(recipe, names=Host("mar.test"), context=server_context(certificate)) as registry:
        world = World(registry, tmp_path / "world", {"SSL_CERT_FILE": ca_file})
        ended = world.run("resolve", f"{ALB}:1.7.12", "--json").failed(7, "tls", registry.host, said, "check the clock", requests=0)
        assert len([event for event, _ in ended.contacts if event == "socket.connect"]) == 1


@row("N14", "a clock that is two hours behind or a day ahead", "`doctor` reports by how much, and what it breaks", code=1)
@pytest.mark.parametrize(("seconds", "said"), [(-7200, "behind"), (86_400, "ahead of")])
def test_a_wrong_clock_is_found_by_the_doctor(world: World, seconds: int, said: str) -> None:
    now = dt.datetime.now(dt.UTC)
    world.registry.on("any").says(Date=f"{now:%a, %d %b %Y %H:%M:%S} GMT")
    world.programs.add("helm")
    ended = world.run("doctor", "--json", clock=seconds)
    assert ended.returncode == 1, ended
    clock = next(one for one in ended.document["data"]["findings"] if one["id"] == "clock")
    assert clock["status"] == "fault"
    assert said in clock["saw"]


# -- proxies


@row("N15", "`HTTPS_PROXY` with credentials", "Uses the proxy for both hosts and never shows the credentials", code=0)
def test_a_proxy_leads_to_both_hosts(official: tuple[World, Proxy]) -> None:
    world, proxy = official
    proxy.credentials = f"me:{world.secret('pr0xyword')}"
    world.environment["HTTPS_PROXY"] = f"http://{proxy.credentials}@127.0.0.1:{proxy.port}"
    world.run("pull", f"{ALB}:1.7.12", "--json", "--verbose").succeeded(requests=3)
    assert [line.split()[1] for line in proxy.asked] == ["mcr.microsoft.com:443", f"{DATA_NAME}:443"]


@row("N15", "the proxy asks for credentials (407)", "Says where to set them, and never shows the rejected ones", code=7)
@pytest.mark.parametrize("given", [True, False])
def test_a_proxy_that_asks_for_credentials_is_reported(official: tuple[World, Proxy], given: bool) -> None:
    world, proxy = official
    proxy.credentials = "me:right"
    if given:
        world.environment["HTTPS_PROXY"] = f"http://me:{world.secret('wr0ngword')}@127.0.0.1:{proxy.port}"
    ended = world.run("pull", f"{ALB}:1.7.12", "--json", "--verbose")
    ended.failed(7, "proxy", "mcr.microsoft.com", "407", "HTTPS_PROXY", requests=0)
    assert len(proxy.asked) <= 2


@row("N15", "the proxy cuts or refuses `CONNECT`, or is down", "Names the proxy as the cause", code=7)
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", b"junk\r\n\r\n", None])
def test_a_proxy_that_fails_is_named_as_the_proxy(official: tuple[World, Proxy], answer: bytes | None) -> None:
    world, proxy = official
    proxy.answer = answer
    if answer is None:
        nobody = free_port()
        world.environment["HTTPS_PROXY"] = f"http://127.0.0.1:{nobody}"
        world.allowed = {f"127.0.0.1:{nobody}"}
    world.run("pull", f"{ALB}:1.7.12", "--json").failed(7, "proxy", "proxy", "mcr.microsoft.com", requests=0)
    assert len(proxy.asked) <= 2


@row("N15", "the proxy never answers `CONNECT`", "Gives up after the timeout", code=7)
def test_a_proxy_that_is_silent_is_given_up(official: tuple[World, Proxy]) -> None:
    world, proxy = official
    proxy.is_silent = True
    ended = world.run("pull", f"{ALB}:1.7.12", "--json", limits={**BRIEF, "CONNECT_TIME": 2.0})
    ended.failed(7, "proxy", "mcr.microsoft.com", requests=0, within=40)


@row("N15", "the proxy dies in the middle of a body", "Requests the missing bytes through the proxy", code=0)
def test_a_proxy_that_dies_in_mid_body_is_outlasted(official: tuple[World, Proxy]) -> None:
    world, proxy = official
    world.artifact("aks/long", DATA)
    proxy.cuts = [None, PART]
    world.run(*PULL).succeeded(made=MADE, requests=5)
    second = [asked for asked in world.registry.asked if asked.kind == "data"][1]
    assert int(second.headers["range"].removeprefix("bytes=").removesuffix("-")) > 0


@row("N15", "`NO_PROXY` contains the host", "Connects without the proxy", code=7)
def test_a_host_that_is_passed_by_is_not_asked_through_the_proxy(official: tuple[World, Proxy]) -> None:
    world, proxy = official
    world.environment |= {"NO_PROXY": "nowhere.invalid", ENVIRONMENT: "https://nowhere.invalid"}
    world.names.add("nowhere.invalid")
    world.run(*PULL).failed(7, "unreachable", "nowhere.invalid")
    assert proxy.asked == []
    world.environment["NO_PROXY"] = None
    world.names.clear()
    world.run(*PULL).failed(7, "proxy", "nowhere.invalid")
    assert {line.split()[1] for line in proxy.asked} == {"nowhere.invalid:443"}


@row("N15", "proxies are set, and the registry is on this machine", "Never uses a proxy for loopback addresses", code=0)
def test_this_machine_is_not_asked_through_a_proxy(world: World) -> None:
    world.environment |= {name: f"http://127.0.0.1:{free_port()}" for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy")}
    world.artifact("aks/long", DATA)
    world.run(*PULL).succeeded(made=MADE, requests=3)
