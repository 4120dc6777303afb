"""A proxy on loopback for the requests of one command (RFC 9110, 9.3.6).

It answers in the names of an endpoint's hosts, with certificates of a throw-away authority. Connections to other hosts are passed through,
or refused. A page in a browser can reach a loopback port, but it can send neither CONNECT nor an absolute address, so it gets a 400.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from starlette.types import ASGIApp

from ..endpoint import Address, Endpoint
from ..errors import Error
from ..reference import Host
from ..serve.server import HEADER_TIME, MAX_HEADERS, AcceptedConnections
from .authority import ThrowAwayAuthority
from .forward import Dialer, Streams, Unreachable, pump, relay
from .seen import Observations, names_endpoint

_CONNECT: Final = re.compile(rb"CONNECT ([^ \x00-\x1f\x7f-\xff]{1,512}) HTTP/1\.[01]\r?\n")
_END: Final = re.compile(rb"\r?\n\r?\n")
_IDLE_TIME: Final = 300
"""Seconds after which an idle connection to the endpoint is closed. `serve` closes connections earlier."""
_POLL: Final = 0.02
_HANDSHAKE_TIME: Final = 30.0
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class LoopbackProxy:
    """A proxy that answers for one endpoint.

    Args:
        registry: the application that answers for the registry.
        data: the application that answers for the data hosts.
        allows: whether connections to another host are passed through.
        dialer: connects to other hosts.
        seen: receives what the proxy observes.

    Attributes:
        started: whether it accepts connections.
        should_exit: set to end it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        authority: ThrowAwayAuthority,
        registry: ASGIApp,
        data: ASGIApp,
        *,
        allows: Callable[[Host], bool],
        dialer: Dialer,
        seen: Observations,
    ) -> None:
        self._endpoint = endpoint
        self._authority = authority
        self._registry = AcceptedConnections(registry, idle=_IDLE_TIME)
        self._data = AcceptedConnections(data, idle=_IDLE_TIME)
        self._allows = allows
        self._dialer = dialer
        self._seen = seen
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.BaseTransport] = set()
        self.started = False
        self.should_exit = False

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections until `should_exit` is set."""
        assert sockets, "the socket is bound before the loop starts"
        server = await asyncio.get_running_loop().create_server(lambda: _Front(self), sock=sockets[0])
        self.started = True
        while not self.should_exit:
            await asyncio.sleep(_POLL)
        server.close()
        for transport in self._waiting:
            transport.close()
        for one in (self._registry, self._data):
            one.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, front: asyncio.Transport, head: bytes, rest: bytes) -> None:
        """Handle the first request of a connection."""
        task = asyncio.get_running_loop().create_task(self._handle(front, head, rest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def watch(self, transport: asyncio.BaseTransport, *, ends: bool = False) -> None:
        """Remember a connection that waits for its first request, so that it can be closed at the end. With `ends`, forget it."""
        (self._waiting.discard if ends else self._waiting.add)(transport)

    async def _handle(self, front: asyncio.Transport, head: bytes, rest: bytes) -> None:
        asked = _CONNECT.match(head)
        try:
            if asked is not None:
                await self._connect(front, asked[1].decode("ascii"), rest)
            else:
                await relay(_streams(front, head + rest), self._dialer, self._allow, self._unreached, MAX_HEADERS)
        except (OSError, TimeoutError):
            front.abort()
        except BaseException:
            front.abort()
            raise

    async def _connect(self, front: asyncio.Transport, target: str, rest: bytes) -> None:
        name, _, port = target.rpartition(":")
        try:
            # A name with a dot at its end is the same host (RFC 1034, 3.1).
            host = Host.parse(f"{name.removesuffix('.')}:{port}")
        except Error as error:
            _refuse(front, 400, error.message)
            return
        address = Address("https", host)
        is_registry = self._endpoint.is_registry(address)
        if is_registry or any(pattern.matches(address) for pattern in self._endpoint.data_hosts):
            if rest:
                _refuse(front, 400, "a client must wait for the answer to CONNECT")
                return
            await self._answer(front, host, self._registry if is_registry else self._data)
            return
        refusal = self._allow(address)
        if refusal is not None:
            _refuse(front, *refusal)
            return
        try:
            other = await self._dialer.tunnel(address)
        except Unreachable as error:
            self._unreached(address, str(error))
            _refuse(front, 502, f"`{host}` cannot be reached: {error}")
            return
        front.write(_ESTABLISHED)
        await pump(_streams(front, rest), other)

    async def _answer(self, front: asyncio.Transport, host: Host, connections: AcceptedConnections) -> None:
        context = self._authority.context(host)
        front.write(_ESTABLISHED)
        early = _Early()
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # a client that rejects the certificate ends the handshake, and reports that itself
            transport = await loop.start_tls(
                front, early, context, server_side=True, ssl_handshake_timeout=_HANDSHAKE_TIME, ssl_shutdown_timeout=1.0
            )
            if transport is not None and not early.is_lost:
                protocol = connections.protocol()
                transport.set_protocol(protocol)
                protocol.connection_made(transport)
                if early.data:
                    protocol.data_received(bytes(early.data))

    def _allow(self, address: Address) -> tuple[int, str] | None:
        """Count a connection to another host; return the refusal if it is not passed through."""
        name = str(address.host)
        if names_endpoint(self._endpoint, address.host):
            self._seen.refuse(f"{address.scheme}://{name}", "the endpoint is answered only over https, on its own port")
            return 403, f"`{name}` is answered over https, on port {self._endpoint.registry.host.port}"
        if not self._allows(address.host):
            self._seen.denied[name] += 1
            self._seen.miss(name)
            return 403, f"`{name}` is not in the recording; allow it with --allow {address.host.name}"
        self._seen.others[name] += 1
        return None

    def _unreached(self, address: Address, reason: str) -> None:
        self._seen.unreachable[str(address.host)] = reason


class _Front(asyncio.Protocol):
    """A connection until its first request has arrived."""

    def __init__(self, proxy: LoopbackProxy) -> None:
        self._proxy = proxy
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._proxy.watch(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:  # otherwise the body of each response would wait for the client to acknowledge the headers
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timer = asyncio.get_running_loop().call_later(HEADER_TIME, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._head += data
        end = _END.search(self._head)
        if end is not None:
            self._leave()
            self._transport.pause_reading()
            self._proxy.begin(self._transport, bytes(self._head[: end.end()]), bytes(self._head[end.end() :]))
        elif len(self._head) > MAX_HEADERS:
            self._leave()
            _refuse(self._transport, 431, "the headers of the request are too large")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface of asyncio
        self._leave()

    def _leave(self) -> None:
        self._timer.cancel()
        self._proxy.watch(self._transport, ends=True)


class _Early(asyncio.Protocol):
    """Keeps what a client sends together with the end of its handshake, until the protocol of the connection takes over."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface of asyncio
        self.is_lost = True


def _streams(transport: asyncio.Transport, begun: bytes) -> Streams:
    """Turn a connection into streams.

    Args:
        begun: the bytes that have already been read.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if begun:
        reader.feed_data(begun)
    transport.resume_reading()
    return Streams(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


def _refuse(front: asyncio.Transport, status: int, text: str) -> None:
    reasons = {400: "Bad Request", 403: "Forbidden", 431: "Request Header Fields Too Large", 502: "Bad Gateway"}
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 {status} {reasons[status]}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    front.write(head.encode() + b"Connection: close\r\n\r\n" + body)
    front.close()
