"""The framing of responses (RFC 9112, 6 and 7): malformed framing is refused at once, before it uses memory."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from marfetch.budget import Budget
from marfetch.content import Silent, read
from marfetch.endpoint import Address, Endpoint
from marfetch.errors import Error, RemoteError
from marfetch.oci import Descriptor, Digest
from marfetch.reference import Reference
from marfetch.remote import crl, limits
from marfetch.remote.certificates import TrustedCertificates
from marfetch.remote.connection import ConnectionPool
from marfetch.remote.crl import fetch_list
from marfetch.remote.probe import Prober
from marfetch.remote.push import Pushing
from marfetch.remote.registry import Registry
from marfetch.remote.response import ResponseError

from ..world.listener import Listener

BLOB = bytes(range(256)) * 4096
DESCRIPTOR = Descriptor("application/octet-stream", Digest.of(BLOB), len(BLOB))
FILL = b" " * 65536
OFFERED = 256 << 20
TAKEN = 32 << 20
"""Bytes that may still be in the buffers of the client and the server."""

pytestmark = pytest.mark.usefixtures("impatient")


@dataclass
class Said:
    """A response, and how the client read it.

    Attributes:
        head: the status line and the headers.
        then: data that is sent repeatedly after head and body, up to `OFFERED` bytes.
        asked: how often the response was requested.
        taken: the number of bytes of `then` that the client read.
    """

    head: bytes
    body: bytes
    then: bytes = FILL
    asked: int = 0
    taken: int = 0


class Raw(Listener):
    """Answers each request with the bytes of `said`.

    Attributes:
        at: the request targets that get these bytes.
        before: the response to other targets.
    """

    def __init__(self, said: Said) -> None:
        super().__init__()
        self.said = said
        self.at = ""
        self.before = b""

    def serve(self, client: socket.socket) -> None:
        client.settimeout(20)
        request = client.makefile("rb")
        while first := request.readline().decode():
            while request.readline().strip():
                pass
            if not re.search(self.at, first.split()[1]):
                client.sendall(self.before)
                continue
            said = self.said
            said.asked += 1
            client.sendall(said.head + b"\r\n" + said.body)
            while said.then and said.taken < OFFERED:
                client.sendall(said.then)
                said.taken += len(said.then)
            return


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"

CHUNKS: dict[str, tuple[bytes, bytes]] = {
    "-1": (b"-1\r\n", FILL),
    "-1 after a chunk": (b"5\r\nhello\r\n-1\r\n", FILL),
    "-0": (b"-0\r\n\r\n", FILL),
    "+5": (b"+5\r\nhello\r\n0\r\n\r\n", FILL),
    "0x5": (b"0x5\r\nhello\r\n0\r\n\r\n", FILL),
    "1_0": (b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n", FILL),
    "a space before": (b" 5\r\nhello\r\n0\r\n\r\n", FILL),
    "a space behind": (b"5 \r\nhello\r\n0\r\n\r\n", FILL),
    "a vertical tab": (b"\x0b5\r\nhello\r\n0\r\n\r\n", FILL),
    "digits of another script": ("٥\r\nhello\r\n0\r\n\r\n".encode(), FILL),
    "full-width digits": ("５\r\nhello\r\n0\r\n\r\n".encode(), FILL),
    "no hexadecimal digit": (b"g\r\n", FILL),
    "16 digits": (b"f" * 16 + b"\r\n", FILL),
    "4000 digits": (b"f" * 4000 + b"\r\n", FILL),
    "nothing": (b"\r\n", FILL),
    "only an extension": (b";a=b\r\n", FILL),
    "LF alone": (b"5\nhello\n0\n\n", FILL),
    "no CRLF behind a chunk": (b"5\r\nhello0\r\n\r\n", FILL),
    "digits without end": (b"", b"0" * 65536),
    "an extension without end": (b"5;", b"x" * 65536),
    "extensions of chunks without end": (b"", (b"1;" + b"x" * 1000 + b"\r\n \r\n") * 64),
    "trailers without end": (b"0\r\n", b"X: y\r\n" * 8192),
    "a trailer without end": (b"0\r\nX: ", b"y" * 65536),
    "a trailer that is no field": (b"0\r\nHTTP/1.1 200 OK\r\n\r\n", FILL),
}
LENGTHS: dict[str, bytes] = {
    "-1": b"Content-Length: -1\r\n",
    "+5": b"Content-Length: +5\r\n",
    "0x5": b"Content-Length: 0x5\r\n",
    "1_0": b"Content-Length: 1_0\r\n",
    "a superscript": b"Content-Length: \xb2\r\n",
    "nothing": b"Content-Length:\r\n",
    "5000 digits": b"Content-Length: " + b"9" * 5000 + b"\r\n",
    "5, 6": b"Content-Length: 5, 6\r\n",
    "5 and 6": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "5 and nothing": b"Content-Length: 5,\r\n",
    "chunked and 5": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "xchunked": b"Transfer-Encoding: xchunked\r\n",
}


@contextmanager
def remote(raw: Raw) -> Iterator[Registry]:
    registry = Registry(Endpoint.parse(f"http://{raw.host}"), budget=Budget(30), progress=Silent())
    try:
        yield registry
    finally:
        registry.close()


def reference(raw: Raw) -> Reference:
    return Reference.parse(f"{raw.host}/a/b:1")


def manifest(raw: Raw) -> None:
    with remote(raw) as registry:
        registry.manifest(reference(raw))


def tags(raw: Raw) -> None:
    with remote(raw) as registry:
        registry.tags(reference(raw))


def catalog(raw: Raw) -> None:
    with remote(raw) as registry:
        registry.catalog()


def referrers(raw: Raw) -> None:
    with remote(raw) as registry:
        registry.referrers(reference(raw), DESCRIPTOR.digest)


def blob(raw: Raw) -> None:
    with remote(raw) as registry:
        read(registry, reference(raw), DESCRIPTOR)


def data_host(raw: Raw) -> None:
    raw.at = "^/data"
    raw.before = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /data?sig=x\r\nContent-Length: 0\r\n\r\n"
    blob(raw)


def no_answer(raw: Raw) -> None:
    """Send the response as an error, whose body marfetch reads to show a part of it."""
    raw.said.head = raw.said.head.replace(b"200 OK", b"404 Not Found")
    manifest(raw)


def redirect(raw: Raw) -> None:
    """Send the response as a redirect, whose body marfetch reads to reuse the connection."""
    raw.said.head = raw.said.head.replace(b"200 OK", b"307 Temporary Redirect\r\nLocation: /elsewhere")
    blob(raw)


def token(raw: Raw) -> None:
    raw.at = "^/token"
    challenge = f'Bearer realm="http://{raw.host}/token",service="x"'
    raw.before = f"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n".encode()
    tags(raw)


def upload(raw: Raw) -> None:
    with remote(raw) as registry:
        Pushing(registry).blob(reference(raw), DESCRIPTOR, lambda: [BLOB], Silent().begin("b", len(BLOB)))


def doctor(raw: Raw) -> None:
    Prober(Endpoint.parse(f"http://{raw.host}"), None, patience=20).get(Address.parse(f"http://{raw.host}/v2/"))


DOORS = [manifest, tags, catalog, referrers, blob, data_host, no_answer, redirect, token, upload, doctor]


def wrong(door: Callable[[Raw], object], cases: dict[str, Said]) -> dict[str, str]:
    """Return the cases that were not refused immediately as malformed, with their results."""
    found: dict[str, str] = {}
    with Raw(Said(b"", b"")) as raw:
        for name, case in cases.items():
            raw.said = case
            try:
                door(raw)
                outcome = "it was taken"
            except Error as error:
                outcome = f"{error.code} {error.exit_code} {str(error.context.get('rule'))[:8]}"
            if (outcome, case.asked) != ("malformed 5 RFC 9112", 1) or case.taken > TAKEN:
                found[name] = f"{outcome}, {case.asked} requests, {case.taken} bytes"
    return found


def chunks() -> dict[str, Said]:
    return {name: Said(CHUNKED, body, then) for name, (body, then) in CHUNKS.items()}


def lengths() -> dict[str, Said]:
    return {name: Said(b"HTTP/1.1 200 OK\r\n" + headers, b"5\r\nhello\r\n0\r\n\r\n") for name, headers in LENGTHS.items()}


@pytest.mark.parametrize("door", DOORS)
def test_malformed_chunks_are_refused_at_every_door(door: Callable[[Raw], object]) -> None:
    assert wrong(door, chunks()) == {}


@pytest.mark.parametrize("door", DOORS)
def test_malformed_lengths_are_refused_at_every_door(door: Callable[[Raw], object]) -> None:
    assert wrong(door, lengths()) == {}


@pytest.fixture(params=["direct", "by a proxy"])
def fetch_from(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Raw], bytes]:
    """Return a function that downloads a revocation list from `crl.test`, which resolves to the test server."""

    def fetch(raw: Raw) -> bytes:
        if request.param == "direct":
            answer: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", raw.port))]
            monkeypatch.setattr(crl, "resolve", lambda *_: answer)
            monkeypatch.setattr(crl, "is_public", lambda _: True)
            monkeypatch.setattr(crl, "_PORTS", {"http": raw.port})
        else:
            monkeypatch.setenv("http_proxy", f"http://{raw.host}")
        return fetch_list("http://crl.test/a.crl", budget=Budget(30), trust=TrustedCertificates())

    return fetch


def test_malformed_chunks_of_a_revocation_list_are_refused(fetch_from: Callable[[Raw], bytes]) -> None:
    assert wrong(fetch_from, chunks()) == {}


def test_malformed_lengths_of_a_revocation_list_are_refused(fetch_from: Callable[[Raw], bytes]) -> None:
    assert wrong(fetch_from, lengths()) == {}


GOOD: dict[str, tuple[bytes, bytes]] = {
    "one chunk": (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    "chunks": (CHUNKED, b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    "zeros and capitals": (CHUNKED.replace(b"chunked", b"Chunked"), b"00000000005\r\nhello\r\n000\r\n\r\n"),
    "extensions": (CHUNKED, b'2;a\r\nhe\r\n3 ;b="c;d"\r\nllo\r\n0;e\r\n\r\n'),
    "trailers": (CHUNKED, b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n"),
    "no line after the last chunk": (CHUNKED, b"5\r\nhello\r\n0\r\n"),
    "space around the coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding:  chunked \r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length:  5 \r\n", b"hello"),
    "a length with zeros": (b"HTTP/1.1 200 OK\r\nContent-Length: 005\r\n", b"hello"),
    "the same length twice": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "the same length twice in one": (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n", b"hello"),
    "no length": (b"HTTP/1.1 200 OK\r\n", b"hello"),
}


@pytest.mark.parametrize(("head", "body"), GOOD.values(), ids=GOOD)
def test_every_form_of_the_specification_is_read(fetch_from: Callable[[Raw], bytes], head: bytes, body: bytes) -> None:
    with Raw(Said(head, body, b"")) as raw:
        assert fetch_from(raw) == b"hello"


@pytest.mark.parametrize(("head", "body"), GOOD.values(), ids=GOOD)
def test_every_form_of_the_specification_is_read_for_a_blob(head: bytes, body: bytes) -> None:
    descriptor = Descriptor("text/plain", Digest.of(b"hello"), 5)
    with Raw(Said(head, body, b"")) as raw, remote(raw) as registry:
        assert read(registry, reference(raw), descriptor) == b"hello"
        assert raw.said.asked == 1


def test_an_answer_without_a_body_has_none_whatever_its_headers_say() -> None:
    with Raw(Said(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n", b"", b"")) as raw, remote(raw) as registry:
        assert registry.manifest(reference(raw), known=DESCRIPTOR) is None
        assert raw.said.asked == 1


@pytest.mark.parametrize("body", [b"5\r\nhe", b"5\r\nhello", b"5\r\nhello\r", b"5\r\nhello\r\n", b"5\r\nhello\r\n1", b"5\r\nhello\r\n0;a"])
def test_an_end_in_the_middle_of_the_framing_is_a_cut_and_tried_again(body: bytes) -> None:
    with Raw(Said(CHUNKED, body, b"")) as raw:
        with pytest.raises(RemoteError) as caught:
            manifest(raw)
        assert caught.value.code == "cut"
        assert raw.said.asked == limits.TRIES


def test_tiny_chunks_take_no_more_memory_than_their_content(fetch_from: Callable[[Raw], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = ConnectionPool.ConnectionCls.response_class.read

    def measured(self: Any, size: int | None = None) -> bytes:
        asked.append(size or 1 << 40)
        return read(self, size)

    monkeypatch.setattr(ConnectionPool.ConnectionCls.response_class, "read", measured)
    with Raw(Said(CHUNKED, b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n", b"")) as raw:
        assert fetch_from(raw) == b"x" * 100_000
    assert max(asked) <= 1 << 16  # http.client keeps all chunks of one read in a list, so reads must be small


def test_no_other_reader_of_chunks_is_used() -> None:
    """urllib3's own chunk parser (`stream`, `read_chunked`) accepts any number as a size."""
    with Raw(Said(CHUNKED, b"5\r\nhello\r\n-1\r\n")) as raw, ConnectionPool("127.0.0.1", raw.port) as pool:
        answer = pool.urlopen("GET", "/", preload_content=False, retries=False)
        with pytest.raises(Exception, match="chunk size") as caught:
            list(answer.stream(3))
        assert isinstance(caught.value.__cause__, ResponseError)
        assert raw.said.taken < TAKEN
