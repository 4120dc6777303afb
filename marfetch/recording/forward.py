"""Pass connections through to other hosts: through the caller's own proxy if there is one, otherwise directly.

Tunnels are passed through byte by byte. A request for a plain http address is parsed and written again by h11, so that the next request of
the same connection cannot reach the host of the first.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

import h11

from ..endpoint import Address
from ..errors import Error
from ..remote.proxies import Proxies

PIECE: Final = 64 << 10
CONNECT_TIME: Final = 30.0
"""Maximum seconds to connect to another host or the caller's proxy."""
IDLE_TIME: Final = 300.0
"""Maximum seconds to wait for the next request on a connection for plain http addresses."""
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_HOP: Final = frozenset((b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"upgrade", b"expect"))
"""Headers that are meant for the next hop only (RFC 9110, 7.6.1), and `Expect`, which is answered here."""


class Streams(NamedTuple):
    """Both directions of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Unreachable(Exception):  # noqa: N818 - internal: the command gets a 502
    """Another host, or the caller's proxy, could not be reached. The text says why, without credentials."""


class Dialer:
    """Connects to other hosts.

    Args:
        context: returns the TLS context for a proxy with an https address.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        self._proxies = Proxies()
        self._context = context

    async def tunnel(self, address: Address) -> Streams:
        """Open a connection to a host, through the caller's proxy if there is one.

        Raises:
            Unreachable: there is no connection.
        """
        streams, authorization = await self._open(address)
        if authorization is None:
            return streams
        name = f"{address.host.name}:{address.host.port}"
        try:
            streams.writer.write(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n{authorization}\r\n".encode())
            head = await asyncio.wait_for(streams.reader.readuntil(b"\r\n\r\n"), CONNECT_TIME)
            status = _STATUS.match(head)
            if status is None or not status[1].startswith(b"2"):
                raise Unreachable(f"the proxy answered {status[1].decode() if status else 'something that is not HTTP'}")
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            streams.writer.close()
            raise Unreachable(f"the proxy failed: {_reason(error)}") from error
        except BaseException:
            streams.writer.close()
            raise
        return streams

    async def plain(self, address: Address) -> tuple[Streams, str, bytes]:
        """Open a connection for one plain http request.

        Returns:
            The connection, the target of the request, and the value of its `Proxy-Authorization`, which may be empty.

        Raises:
            Unreachable: there is no connection.
        """
        streams, authorization = await self._open(address)
        if authorization is None:
            return streams, address.target, b""
        return streams, address.url, authorization.partition(": ")[2].strip().encode()

    async def _open(self, address: Address) -> tuple[Streams, str | None]:
        """Return a connection, and the header with the proxy's credentials: empty if there are none, None if there is no proxy."""
        try:
            proxy = self._proxies.of(address)
        except Error as error:
            raise Unreachable(error.message) from error
        if proxy is None:
            return await _connected(address.host.name.strip("[]"), address.host.port or 0, None), None
        parts = urlsplit(proxy.url)
        secure = parts.scheme.lower() == "https"
        context = self._context() if secure else None
        streams = await _connected(parts.hostname or "", parts.port or (443 if secure else 80), context)
        if parts.username is None:
            return streams, ""
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return streams, f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"


async def _connected(name: str, port: int, context: ssl.SSLContext | None) -> Streams:
    happy: dict[str, Any] = {"happy_eyeballs_delay": 0.25}
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(name, port, ssl=context, **happy), CONNECT_TIME)
    except (OSError, TimeoutError, UnicodeError) as error:
        raise Unreachable(_reason(error)) from error
    return Streams(reader, writer)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or "no answer in time").lower()


async def pump(one: Streams, other: Streams) -> None:
    """Pass bytes through in both directions, until both have ended or one fails."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    with closing(one.writer), closing(other.writer), suppress(OSError):
        ways = [asyncio.ensure_future(copy(one.reader, other.writer)), asyncio.ensure_future(copy(other.reader, one.writer))]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()


# -- plain http

Allow: TypeAlias = Callable[[Address], tuple[int, str] | None]
"""Returns None if requests for an address are passed through, otherwise the status and text of the refusal."""


async def relay(client: Streams, dialer: Dialer, allow: Allow, failed: Callable[[Address, str], None], most: int) -> None:
    """Pass the requests of one connection for plain http addresses through.

    Args:
        failed: called with an address that could not be reached, and the reason.
        most: maximum size in bytes of the head of a request.
    """
    with closing(client.writer), suppress(OSError, TimeoutError, h11.ProtocolError, asyncio.IncompleteReadError):
        side = _Side(client, h11.Connection(h11.SERVER, max_incomplete_event_size=most))
        while isinstance(request := await asyncio.wait_for(side.event(), IDLE_TIME), h11.Request):
            refusal = await _relay_one(side, request, dialer, allow, failed)
            if refusal is not None:
                await side.refuse(*refusal)
                return
            if side.connection.our_state is not h11.DONE or side.connection.their_state is not h11.DONE:
                return
            side.connection.start_next_cycle()


async def _relay_one(
    side: _Side, request: h11.Request, dialer: Dialer, allow: Allow, failed: Callable[[Address, str], None]
) -> tuple[int, str] | None:
    """Pass one request through. If it cannot be passed through, return the status and text of the response."""
    try:
        address = Address.parse(request.target.decode("ascii"))
    except (Error, UnicodeError):
        return 400, "this proxy takes CONNECT, and absolute addresses with http"
    if address.scheme != "http":
        return 400, "this proxy takes https addresses by CONNECT only"
    if (refusal := allow(address)) is not None:
        return refusal
    try:
        streams, target, credentials = await dialer.plain(address)
    except Unreachable as error:
        failed(address, str(error))
        return 502, f"`{address.name}` cannot be reached: {error}"
    with closing(streams.writer):
        other = _Side(streams, h11.Connection(h11.CLIENT))
        named = [] if not credentials else [(b"proxy-authorization", credentials)]
        headers = [*(one for one in request.headers if one[0] not in _HOP), *named, (b"connection", b"close")]
        await other.send(h11.Request(method=request.method, target=target, headers=headers))
        if side.connection.they_are_waiting_for_100_continue:
            await side.send(h11.InformationalResponse(status_code=100, headers=[]))
        sending = asyncio.ensure_future(_copy(side, other))  # a server may answer, and close, before it has read all of a request
        sending.add_done_callback(lambda done: streams.writer.close() if done.cancelled() or done.exception() else None)
        try:
            while isinstance(response := await other.event(), h11.InformationalResponse):
                pass
        except (OSError, h11.ProtocolError):
            response = None
        if not isinstance(response, h11.Response):
            failed(address, "no answer")
            return 502, f"`{address.name}` did not answer"
        kept = [one for one in response.headers if one[0] not in _HOP]
        await side.send(h11.Response(status_code=response.status_code, headers=kept, reason=response.reason))
        await _copy(other, side)
    return None


async def _copy(one: _Side, other: _Side) -> None:
    """Pass the body of a message through, up to its end."""
    while isinstance(event := await one.event(), h11.Data):
        await other.send(h11.Data(data=bytes(event.data)))
    if not isinstance(event, h11.EndOfMessage):
        raise ConnectionResetError("the message is incomplete")
    await other.send(h11.EndOfMessage())


class _Side:
    """One side of a relayed connection."""

    def __init__(self, streams: Streams, connection: h11.Connection) -> None:
        self._streams = streams
        self.connection = connection

    async def event(self) -> Any:
        """Return the next event."""
        while (event := self.connection.next_event()) is h11.NEED_DATA:
            self.connection.receive_data(await self._streams.reader.read(PIECE))
        return event

    async def send(self, event: Any) -> None:
        data = self.connection.send(event)
        if data:
            self._streams.writer.write(data)
            await self._streams.writer.drain()

    async def refuse(self, status: int, text: str) -> None:
        """Send a short response, and close the connection."""
        body = f"{text}\n".encode()
        headers = [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body))), ("connection", "close")]
        await self.send(h11.Response(status_code=status, headers=headers))
        await self.send(h11.Data(data=body))
        await self.send(h11.EndOfMessage())
