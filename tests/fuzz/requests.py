"""Targets: requests to `serve`."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from functools import cache
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from marfetch.endpoint import GLOBAL
from marfetch.layout.readonly import Folder
from marfetch.recording.authority import ThrowAwayAuthority
from marfetch.recording.forward import Dialer, Unreachable
from marfetch.recording.proxy import LoopbackProxy, _Front
from marfetch.recording.seen import Observations
from marfetch.serve import server
from marfetch.serve.app import ServedRegistry
from marfetch.serve.responses import part
from marfetch.serve.server import _TimeoutMixin

from ..world.promise import fresh
from .archives import _documents
from .target import Target

NAME = "aks/foo"


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@cache
def _apps() -> tuple[Any, Any]:
    place = fresh("served")
    for name, data in _documents().items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    plain, redirecting = (
        ServedRegistry(Folder(place), name="here"),
        ServedRegistry(Folder(place), name="here", data_origin="http://{host}:1"),
    )
    return plain.app(), redirecting.data_app()


def _answer(app: Any, scope: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    _loop().run_until_complete(asyncio.wait_for(app(scope, receive, send), 30))
    assert messages[0]["type"] == "http.response.start"
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in messages[0]["headers"]}
    return messages[0]["status"], headers, b"".join(one.get("body", b"") for one in messages[1:])


def _request(data: bytes) -> None:
    """A request: the first line, then the headers."""
    first, *lines = data.split(b"\n")
    method, _, target = first.partition(b" ")
    raw, _, query = target.partition(b"?")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method.decode("ascii", "replace"),
        "path": urllib.parse.unquote(raw.decode("ascii", "replace")),
        "raw_path": raw,
        "query_string": query,
        "headers": headers,
        "scheme": "http",
        "server": ("127.0.0.1", 1),
        "client": ("127.0.0.1", 2),
    }
    for app in _apps():
        status, given, body = _answer(app, scope)
        assert status in (200, 206, 304, 307, 400, 403, 404, 405, 416), status
        for value in given.values():
            assert "\r" not in value
            assert "\n" not in value
        if status == 206:
            begin, end, size = given["content-range"].removeprefix("bytes ").replace("/", "-").split("-")
            blob = b"hello" if size == "5" else b"{}" if size == "2" else None
            assert blob is None or body == blob[int(begin) : int(end) + 1]
        if given.get("content-type", "").startswith("application/json") and body:
            json.loads(body)
        length = given.get("content-length")
        if scope["method"] == "GET" and length is not None:
            assert int(length) == len(body)


def _range(data: bytes) -> None:
    head, _, size = data.partition(b"\n")
    most = int(size[:6]) if size.isdigit() else 5
    found = part(head.decode("latin-1"), most)
    if found is not None:
        start, end = found
        assert start >= 0
        assert end <= most


class _Wire(asyncio.Transport):
    """A transport that replaces a real connection."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)}.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


@cache
def _config() -> uvicorn.Config:
    config = server._config(_apps()[0], 2)
    config.http = type("Connection", (_TimeoutMixin, H11Protocol), {})
    config.load()
    return config


def _wire(data: bytes) -> None:
    """Bytes that arrive on a connection in two pieces."""
    broken: list[object] = []
    _loop().set_exception_handler(lambda _, context: broken.append(context))
    _loop().run_until_complete(asyncio.wait_for(_converse(data), 30))
    assert not broken, broken[0]


async def _converse(data: bytes) -> None:
    state = ServerState()
    made: Any = _config().http_protocol_class
    protocol = made(config=_config(), server_state=state, app_state={}, _loop=asyncio.get_running_loop())
    wire = _Wire()
    protocol.connection_made(wire)
    half = len(data) // 2
    for piece in (data[:half], data[half:]):
        if piece and not wire.closed:
            protocol.data_received(piece)
            await asyncio.sleep(0)
    for _ in range(2000):
        if wire.closed or not state.tasks:
            break
        await asyncio.sleep(0.0005 if _ > 20 else 0)
    sent = bytes(wire.sent)
    protocol.connection_lost(None)
    for task in list(state.tasks):
        await asyncio.wait_for(task, 10)
    assert not sent or sent.startswith(b"HTTP/1.1 "), sent[:50]
    for line in sent.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        assert b":" in line, line


def _asked() -> list[bytes]:
    documents = _documents()
    digest = "sha256:" + next(name for name in documents if name.startswith("blobs/")).rpartition("/")[2]
    hello = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    lines = (
        "GET /v2/", f"GET /v2/{NAME}/tags/list?n=1&last=a", "GET /v2/_catalog?n=0", f"GET /v2/{NAME}/manifests/1.2.3", f"HEAD /v2/{NAME}/manifests/{digest}",
        f"GET /v2/{NAME}/blobs/{hello}\nrange: bytes=1-3", f"GET /v2/{NAME}/blobs/{hello}\nrange: bytes=-2\nif-range: \"{hello}\"",
        f"GET /v2/{NAME}/referrers/{digest}?artifactType=c/d", "GET /", "POST /v2/x/blobs/uploads/", f"GET /v2/{NAME}/blobs/sha256:../../etc/passwd",
        "GET /v2/%2e%2e/%2e%2e/etc/passwd/manifests/x", "GET /v2/a\x00b/manifests/x%0d%0ax", f"GET /v2/{NAME}/manifests/1.2.3\nif-none-match: \"{digest}\", *",
        f"GET /x//docker/registry/v2/blobs/sha256/2c/{hello[7:]}/data?sig=x\nauthorization: no", f"GET /x//docker/registry/v2/blobs/sha256/2c/{hello[7:]}/data?sig=x",
    )  # fmt: skip
    return [(line + "\nhost: localhost:5000").encode() for line in lines]


def _spoken() -> list[bytes]:
    found = []
    for one in _asked():
        first, *rest = one.decode("latin-1").split("\n")
        found.append("\r\n".join([f"{first} HTTP/1.1", *rest, "", ""]).encode("latin-1"))
    return [
        *found,
        found[0] + found[1],
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ]


class _Nowhere(Dialer):
    """Reaches no host, and remembers the requested hosts."""

    def __init__(self) -> None:
        self.wanted: list[str] = []

    async def tunnel(self, address: Any) -> Any:
        self.wanted.append(address.host.name)
        raise Unreachable("nowhere")

    async def plain(self, address: Any) -> Any:
        self.wanted.append(address.host.name)
        raise Unreachable("nowhere")


@cache
def _authority() -> ThrowAwayAuthority:
    return ThrowAwayAuthority(GLOBAL)


def _proxied(data: bytes) -> None:
    """The first bytes of a connection to the proxy of `record`, in two pieces."""
    _loop().run_until_complete(asyncio.wait_for(_to_proxy(data), 30))


async def _to_proxy(data: bytes) -> None:
    dialer, seen = _Nowhere(), Observations()
    proxy = LoopbackProxy(
        GLOBAL, _authority(), _apps()[0], _apps()[1], allows=lambda host: host.name != "denied.test", dialer=dialer, seen=seen
    )
    front, wire = _Front(proxy), _Wire()
    front.connection_made(wire)
    half = len(data) // 2
    for piece in (data[:half], data[half:]):
        if piece and not wire.closed and front._timer.when() and not front._timer.cancelled():
            front.data_received(piece)
    for _ in range(20):
        await asyncio.sleep(0)
    front.connection_lost(None)
    for task in list(proxy._tasks):
        task.cancel()
    await asyncio.gather(*proxy._tasks, return_exceptions=True)
    assert not wire.sent or wire.sent.startswith(b"HTTP/1.1 "), bytes(wire.sent[:50])
    assert not {"mcr.microsoft.com", "x.data.mcr.microsoft.com", "denied.test"} & set(dialer.wanted)
    if b" 200 " in wire.sent[:20]:
        assert b"mcr" in data.lower()


def _proxy_seeds() -> list[bytes]:
    lines = (
        "CONNECT mcr.microsoft.com:443 HTTP/1.1", "CONNECT x.data.mcr.microsoft.com.:443 HTTP/1.0", "CONNECT MCR.microsoft.com:80 HTTP/1.1",
        "CONNECT github.com:443 HTTP/1.1", "CONNECT denied.test:443 HTTP/1.1", "CONNECT [::1]:443 HTTP/1.1", "CONNECT 127.1:443 HTTP/1.1",
        "GET http://a.test/x?y HTTP/1.1", "POST http://mcr.microsoft.com/ HTTP/1.1\r\nContent-Length: 2", "GET / HTTP/1.1", "GET https://a.test/ HTTP/1.1",
        "GET http://a.test/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue",
    )  # fmt: skip
    return [f"{line}\r\nHost: a.test\r\nProxy-Authorization: Basic eDp5\r\n\r\n".encode() for line in lines] + [
        b"\x16\x03\x01",
        b"CONNECT a:1 HTTP/1.1\n\n",
    ]


TARGETS = (
    Target("proxy", _proxied, _proxy_seeds, (), ("recording.proxy._Front.data_received", "recording.proxy.LoopbackProxy._connect", "recording.forward.relay"), runs=600),
    Target("request", _request, _asked, (), ("serve.routing.RegistryApp._route", "serve.app.ServedRegistry._data", "serve.responses.page", "serve.responses.part", "serve.responses.unusual"), runs=600),
    Target("range", _range, lambda: [b"bytes=0-4\n5", b"bytes=-1\n0", b"bytes = 1 -\n10", b"bytes=0-1,3-4\n9", b"bytes=" + b"9" * 30 + b"-\n7"], (), ("serve.responses.part",)),
    Target("wire", _wire, _spoken, (), ("serve.server._TimeoutMixin.data_received",), runs=300),
)  # fmt: skip
