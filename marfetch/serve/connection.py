"""What uvicorn lacks: time and room for the headers of a request, patience with slow readers, and a limit of connections.

uvicorn waits for ever for headers that do not come, and for readers that do not read. The class that it calls for each connection is ours
to name (its setting `http`), so that is where this stands; parsing stays with h11, or httptools where it is installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIME: Final = 10.0
"""Seconds from the first moment of a connection, or from the first byte of a further request, until its headers are there."""
IDLE_TIME: Final = 30
"""Seconds that a connection may wait for its next request."""
STALL_TIME: Final = 30.0
"""Seconds after which a reader must have taken something."""
LEAST_RATE: Final = 256
"""Bytes a second that a reader must take, over that time."""
MAX_HEADERS: Final = 64 << 10
"""Bytes of the first line and all headers of a request."""
MAX_CONNECTIONS: Final = 4096

if TYPE_CHECKING:
    _Base: TypeAlias = H11Protocol
else:
    _Base = object


class _Patience(_Base):
    """The part of a connection that watches the clock; comes before one of uvicorn's classes."""

    most = MAX_CONNECTIONS
    header_time = HEADER_TIME
    stall_time = STALL_TIME

    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _since = 0.0
    _headers = 0

    @property
    def is_waiting(self) -> bool:
        """Whether it has nothing to do but to wait for a request."""
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._deadline = self.loop.call_later(self.header_time, self._too_late)
        if len(self.connections) > self.most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        if self.is_waiting:
            if self._headers > MAX_HEADERS:
                self.send_400_response("The headers of the request are too large.")
                return
            self._headers += len(data)
        super().data_received(data)
        if not self.is_waiting:
            self._headers = 0
            self._since = self.loop.time()
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.header_time, self._too_late)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # What came behind the request that was answered may be the beginning of another one, of which nothing more comes.
        if self.is_waiting and self._deadline is None and self._begun() and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.header_time, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        self._deadline = self._stall = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _begun(self) -> bool:
        """Whether a part of the headers of a further request is there."""
        return bool(self.conn.trailing_data[0])

    def _too_late(self) -> None:
        self._deadline = None
        if self.is_waiting:
            self.transport.abort()

    def _watch_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(self.stall_time, self._look_at_reader, left)

    def _look_at_reader(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < LEAST_RATE * self.stall_time:
            # With a reset: what the system holds for this reader would otherwise be kept for as long again and longer.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self._watch_reader()

    def _make_room(self) -> None:
        """End the connections that have waited longest; where all are at work, this one."""
        everybody: set[Any] = {*self.connections}
        waiting = sorted((one for one in everybody if one.is_waiting), key=lambda one: one._since)  # noqa: SLF001 - its own
        for one in waiting[: max(1, self.most // 16)]:
            one.transport.abort()


class _Begun:
    """The same question where httptools reads: it keeps no bytes, but says when a request begins and when its headers are there."""

    _within = False

    def on_message_begin(self) -> None:
        self._within = True
        super().on_message_begin()  # type: ignore[misc]

    def on_headers_complete(self) -> None:
        self._within = False
        super().on_headers_complete()  # type: ignore[misc]

    def _begun(self) -> bool:
        return self._within


def protocol() -> type[asyncio.Protocol]:
    """The class of connections: on httptools where it is installed, which takes half the time, else on h11."""
    if importlib.util.find_spec("httptools") is None:
        return type("Connection", (_Patience, H11Protocol), {})
    base: Any = importlib.import_module("uvicorn.protocols.http.httptools_impl").HttpToolsProtocol
    return type("Connection", (_Begun, _Patience, base), {})
