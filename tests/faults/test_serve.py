"""W: unusual clients of `serve`, and its shutdown."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import re
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from marfetch.layout.layout import Layout
from marfetch.oci import Digest

from ..world.content import ALB
from ..world.rows import row
from ..world.serving import Serving
from ..world.world import World

REFUSED = (400, 404, 405, 414, 431)
PATIENCE = 30.0
"""Maximum seconds until a normal client gets its response, even on a busy machine."""


@pytest.fixture
def layout(world: World) -> Path:
    """Create a layout with a chart and a blob of 8 MiB."""
    world.registry.add_artifact("aks/large", "1", ("large.bin", LARGE))
    world.run("pull", f"{ALB}:1.7.12", "aks/large:1", "--all-layers", "-d", "pulled", "--json").succeeded()
    return world.cache


LARGE = bytes(range(256)) * 32_768


@pytest.fixture
def serving(world: World, layout: Path) -> Iterator[Serving]:
    """Serve the layout. At the end of the test, send a signal to the server, and check that it exits cleanly."""
    with Serving(world, layout) as one:
        yield one


def is_healthy(serving: Serving) -> None:
    """Check that a normal client gets a response."""
    started = time.monotonic()
    got = serving.ask(f"/v2/{ALB}/manifests/1.7.12")
    assert got.status == 200
    assert str(Digest.of(got.body)) == got.headers["docker-content-digest"]
    assert time.monotonic() - started < PATIENCE


def answers(raw: bytes) -> list[int]:
    """Return the status codes of all responses on one connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]


PATHS = [
    "/v2/../../../../etc/passwd",
    "/../../etc/passwd",
    "/v2/%2e%2e/%2e%2e/etc/passwd",
    "/v2/..%2f..%2f..%2fetc%2fpasswd",
    "/v2/%252e%252e%252fetc/manifests/1",
    "/v2/aks/large/blobs/sha256:../../../../etc/passwd",
    "/v2/aks/large/blobs/sha256%3A..%2F..%2Findex.json",
    "/v2/aks/large/blobs/..%5c..%5cindex.json",
    "/v2/aks/large/manifests/..%2f..%2findex.json",
    "/v2/aks/large/manifests/%00",
    "/v2/aks/large/manifests/1%0d%0aX-Injected:%20yes",
    "/v2/aks/large/tags/list%2f",
    "//evil.example/v2/",
    "/v2//manifests/1",
    "/index.json",
    "/oci-layout",
    "/blobs/sha256/" + Digest.of(LARGE).encoded,
    "/v2/aks/large/manifests/" + "a" * 129,
    "/v2/aks/large/blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
    "/v2/aks/large/manifests/\x7f",
    "/v2/AKS/large/manifests/1",
    "/v2/aks/large/uploads/",
    "/v2/aks/large/blobs/" + str(Digest.of(b"another")),
]


@row(
    "W01",
    "paths with `../`, encoded, doubled, with NUL or line feeds, or to files of the layout",
    "Answers with a 4xx status and serves nothing outside the repositories",
    code=0,
)
def test_no_path_leads_beside_the_repositories(serving: Serving) -> None:
    for path in PATHS:
        raw = serving.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert len(answers(raw)) == 1, (path, raw[:300])
        assert answers(raw)[0] in REFUSED, (path, raw[:300])
        for leaked in (b"root:", b"imageLayoutVersion", b"schemaVersion", b"X-Injected"):
            assert leaked not in raw, (path, raw[:300])
    is_healthy(serving)


@row("W01", "an address of 1 MiB, a header of 1 MiB, endless headers", "Stops reading and closes the connection", code=0)
def test_requests_without_end_are_not_read(serving: Serving) -> None:
    long = b"a" * (1 << 20)
    for start in (b"GET /v2/" + long, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: " + long, b"GET /v2/ HTTP/1.1\r\n" + b"A: b\r\n" * 200_000):
        with serving.connect() as asking:
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 32 << 20:
                    sent += asking.send(start[sent : sent + 65536] or b"a" * 65536)
            assert sent < 32 << 20, "the server never stops reading"
    is_healthy(serving)


RANGES: dict[str, tuple[str, tuple[int, int] | None]] = {
    "the first byte": ("bytes=0-0", (0, 1)),
    "the rest": ("bytes=1000-", (1000, len(LARGE))),
    "the last bytes": ("bytes=-10", (len(LARGE) - 10, len(LARGE))),
    "beyond the end": (f"bytes={len(LARGE) - 1}-{1 << 70}", (len(LARGE) - 1, len(LARGE))),
    "no number": ("bytes=a-b", None),
    "the wrong way round": ("bytes=9-1", None),
    "another unit": ("lines=1-2", None),
    "negative": ("bytes=--5", None),
    "nothing": ("bytes=", None),
    "ten at once": ("bytes=" + ",".join(f"{n}-{n + 1}" for n in range(0, 100, 10)), None),
    "ten thousand at once": ("bytes=" + ",".join(["0-"] * 10_000), None),
}


@row(
    "W01",
    "invalid and reversed ranges; ten and ten thousand ranges at once",
    "Serves the whole blob, the right part, or an error, and never other bytes",
    code=0,
)
def test_ranges_give_the_right_bytes_or_none(serving: Serving) -> None:
    target = f"/v2/aks/large/blobs/{Digest.of(LARGE)}"
    for name, (wanted, expected) in RANGES.items():
        got = serving.ask(target, Range=wanted)
        if expected is not None:
            assert (got.status, got.body) == (206, LARGE[slice(*expected)]), name
        elif got.status == 200:
            assert got.body == LARGE, name
        else:
            assert got.status in (400, 416, 431), (name, got.status)
    got = serving.ask(target, Range=f"bytes={len(LARGE)}-")
    assert (got.status, got.headers["content-range"]) == (416, f"bytes */{len(LARGE)}")
    is_healthy(serving)


@row("W01", "HEAD, and every method that writes", "Answers HEAD without a body, and writes with 405 and the allowed methods", code=0)
def test_nothing_can_be_written_to_the_registry(serving: Serving, layout: Path) -> None:
    blob, manifest = f"/v2/aks/large/blobs/{Digest.of(LARGE)}", "/v2/aks/large/manifests/1"
    for target in (blob, manifest, "/v2/aks/large/tags/list", "/v2/"):
        whole, head = serving.ask(target), serving.ask(target, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))
        for method in ("PUT", "POST", "PATCH", "DELETE", "TRACE"):
            got = serving.ask(target, method)
            assert got.status == 405, (method, target)
            assert {"GET", "HEAD"} <= set(re.split(r",\s*", got.headers["allow"])), got
    assert serving.ask(blob, "NONSENSE").status in (400, 405)
    uploads = serving.ask("/v2/aks/large/blobs/uploads/?digest=sha256:x", "POST")
    assert uploads.status == 405
    is_healthy(serving)


TWO_WAYS = {
    "HTTP/0.9": b"GET /v2/\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a length and chunks": b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "a negative length": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "no host": b"GET /v2/ HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a host with a path": b"GET /v2/ HTTP/1.1\r\nHost: a/../b\r\n\r\n",
    "a NUL": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
    "a space before the colon": b"GET /v2/ HTTP/1.1\r\nHost : x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "nothing but line feeds": b"\n" * 5000,
}  # fmt: skip


@row(
    "W01",
    "HTTP/0.9, a length with chunks, two lengths, two hosts, TLS",
    "Answers 400, closes the connection, and ignores the bytes that follow",
    code=0,
)
def test_ambiguous_requests_are_refused(serving: Serving) -> None:
    for name, data in TWO_WAYS.items():
        found = answers(serving.raw(data))
        assert found in ([400], []), (name, found)
    is_healthy(serving)


@row("W01", "a foreign `Host` header", "Answers 421 and does not repeat that host", code=0)
def test_a_foreign_host_appears_in_no_response(serving: Serving) -> None:
    for host, status in {"evil.example": 421, "[::1]:5000": 200, "x" * 2000: 400}.items():
        got = serving.ask("/v2/aks/large/tags/list", Host=host)
        assert got.status == status, host
        assert host not in str(got.headers) + got.body.decode()
    for target in ("/v2/_catalog", f"/v2/{ALB}/tags/list?n=1"):
        assert "evil.example" not in str(serving.ask(target, Host="evil.example"))
    # The page shows the requested host, and must not contain it as markup.
    assert b"<script>" not in serving.ask("/", Host="a<script>").body


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the limit on open files, so that the test can open enough connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"this process may only have {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@row("W01", "1,000 idle connections, and 200 that send one byte at a time", "Keeps answering a normal client", code=0)
def test_idle_and_slow_connections_do_not_keep_a_healthy_client_out(serving: Serving, many_files: None) -> None:
    ended = threading.Event()
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(serving.connect())
        slow = [stack.enter_context(serving.connect()) for _ in range(200)]
        for one in slow:
            one.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: ")

        def drip() -> None:
            while not ended.wait(0.2):
                for one in slow:
                    with contextlib.suppress(OSError):
                        one.send(b"a")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            for _ in range(20):
                is_healthy(serving)
            assert serving.ask(f"/v2/aks/large/blobs/{Digest.of(LARGE)}").body == LARGE
        finally:
            ended.set()
            dripping.join(30)
    is_healthy(serving)


@row("W01", "no address is named", "Listens on loopback only", code=0)
def test_serve_listens_on_loopback_by_default(serving: Serving) -> None:
    assert serving.first == f"http://127.0.0.1:{serving.port}"
    listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"}
    port = f"{serving.port:04X}"
    assert [one for one in listening if one.endswith(f":{port}")] == [f"0100007F:{port}"]


@row("W01", "a layout with a damaged blob", "Answers 404 for that blob, names it on stderr, and serves the rest", code=0)
def test_damaged_content_of_a_layout_is_not_served(world: World, recipe: Layout, layout: Path) -> None:
    path = layout / "blobs" / "sha256" / Digest.of(LARGE).encoded
    path.write_bytes(bytes(len(LARGE)))
    with Serving(world, layout) as serving:
        got = serving.ask(f"/v2/aks/large/blobs/{Digest.of(LARGE)}")
        assert (got.status, json.loads(got.body)["errors"][0]["code"]) == (404, "BLOB_UNKNOWN")
        is_healthy(serving)
        ended = serving.end()
        assert str(Digest.of(LARGE)) in ended.err
        path.write_bytes(LARGE)


# -- W02


@row(
    "W02", "SIGTERM or SIGINT while eight clients download blobs", "Finishes their downloads, accepts no new connection, and exits", code=0
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_blobs_that_are_on_their_way_come_whole_when_it_is_ended(world: World, layout: Path, number: signal.Signals) -> None:
    with Serving(world, layout) as serving, contextlib.ExitStack() as stack:
        port = serving.port
        request = f"GET /v2/aks/large/blobs/{Digest.of(LARGE)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        clients = [stack.enter_context(serving.connect()) for _ in range(8)]
        idle = [stack.enter_context(serving.connect()) for _ in range(20)]
        begun = []
        for client in clients:
            client.sendall(request)
            begun.append(client.recv(1000))
        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            ending = pool.submit(serving.end, number)
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=30).close()
                except ConnectionRefusedError:
                    break
                assert time.monotonic() < deadline, "the server never stops accepting connections"
                time.sleep(0.02)
            got = list(pool.map(rest, clients))
            ended = ending.result()
        assert ended.returncode == 0, ended
        assert [(start + end).partition(b"\r\n\r\n")[2] == LARGE for start, end in zip(begun, got, strict=True)] == [True] * 8
        assert ended.seconds < PATIENCE, ended
        del idle


def rest(connection: socket.socket) -> bytes:
    """Return all bytes that arrive before the connection ends."""
    got = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 18):
            got += piece
    return bytes(got)


@row("W02", "SIGTERM while a client has stopped reading", "Closes that connection after a timeout, and exits", code=0)
def test_a_client_that_does_not_read_does_not_keep_it_from_ending(world: World, layout: Path) -> None:
    with Serving(world, layout) as serving, serving.connect() as asking:
        asking.sendall(f"GET /v2/aks/large/blobs/{Digest.of(LARGE)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert asking.recv(12) == b"HTTP/1.1 200"
        ended = serving.end()
        assert ended.returncode == 0, ended
        assert ended.seconds < PATIENCE, ended
