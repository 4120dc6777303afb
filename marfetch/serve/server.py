"""Run ASGI applications in a background thread, on sockets that are already bound so that their ports are known."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import re
import resource
import socket
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .. import threads
from ..errors import InputError, StorageError

# -- limits that uvicorn lacks: time and size of request headers, slow readers, and number of connections


HEADER_TIME: Final = 10.0
"""Timeout in seconds for the headers of a request, from the connection or from the first byte of a further request."""
IDLE_TIME: Final = 30
"""Seconds after which an idle connection is closed."""
STALL_TIME: Final = 30.0
"""Seconds over which the rate of a reader is measured."""
LEAST_RATE: Final = 256
"""Minimum rate of a reader in bytes per second."""
MAX_HEADERS: Final = 64 << 10
"""Maximum size of the request line and all headers in bytes."""
MAX_CONNECTIONS: Final = 4096

if TYPE_CHECKING:
    _Base: TypeAlias = H11Protocol
else:
    _Base = object


class _TimeoutMixin(_Base):
    """Adds timeouts and limits to uvicorn's connection class, which must come after it."""

    most = MAX_CONNECTIONS
    header_time = HEADER_TIME
    stall_time = STALL_TIME

    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _since = 0.0
    _headers = 0

    @property
    def is_waiting(self) -> bool:
        """Whether the connection waits for a request."""
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
        # Part of a pipelined request may have arrived already: its headers have a deadline too.
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
        """Whether part of the headers of a further request has arrived."""
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
            # Reset the connection, or the operating system would keep its send buffer for a long time.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self._watch_reader()

    def _make_room(self) -> None:
        """Close the connections that have been idle longest; this one is idle too."""
        connections: set[Any] = {*self.connections}
        waiting = sorted((one for one in connections if one.is_waiting), key=lambda one: one._since)  # noqa: SLF001 - same class
        for one in waiting[: max(1, self.most // 16)]:
            one.transport.abort()


_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


class _Begun:
    """Implements `_begun` for httptools, which keeps no bytes but reports the start and the end of the headers.

    Of a target in absolute form, httptools passes on only the path. Its authority replaces `Host` (RFC 9112, 3.2.2).
    """

    _within = False
    url: bytes
    headers: list[tuple[bytes, bytes]]

    def on_message_begin(self) -> None:
        self._within = True
        super().on_message_begin()  # type: ignore[misc]

    def on_headers_complete(self) -> None:
        self._within = False
        absolute = _ABSOLUTE.match(self.url)
        if absolute is not None:
            hosts = sum(name == b"host" for name, _ in self.headers)
            self.headers[:] = [one for one in self.headers if one[0] != b"host"] + max(1, hosts) * [(b"host", absolute[1])]
        super().on_headers_complete()  # type: ignore[misc]

    def _begun(self) -> bool:
        return self._within


def protocol() -> type[asyncio.Protocol]:
    """Return the connection class: with httptools if it is installed, which is twice as fast, otherwise with h11."""
    if importlib.util.find_spec("httptools") is None:
        return type("Connection", (_TimeoutMixin, H11Protocol), {})
    base: Any = importlib.import_module("uvicorn.protocols.http.httptools_impl").HttpToolsProtocol
    return type("Connection", (_Begun, _TimeoutMixin, base), {})


DRAIN: Final = 5
"""Seconds for open responses to finish at shutdown."""
_BACKLOG: Final = 1024
_SPARE_FILES: Final = 128
_THREADS: Final = 8
"""Maximum number of threads that read blobs."""


def bind(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a listening socket; port 0 picks a free port.

    Raises:
        InputError: `usage`: the host is not an address of this machine.
        StorageError: `port-unusable`.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise InputError(f"cannot listen on the host `{host}`: {(error.strerror or str(error)).lower()}", code="usage") from error
    listening = socket.socket(family, kind, number)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # Listen now, because only this detects that another program uses the port.
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"cannot listen on port {port} of `{host}`: {reason}", code="port-unusable", host=host, port=port) from error
    return listening


class Serving:
    """Serves applications, each on its socket, for the duration of the context.

    Args:
        drain: seconds for open responses to finish when the context ends.
    """

    def __init__(self, apps: Sequence[tuple[ASGIApp, socket.socket]], *, drain: int = 2) -> None:
        self._servers = [(uvicorn.Server(_config(app, drain)), listening) for app, listening in apps]
        self._drain = drain
        self._thread: threading.Thread | None = None
        self._started = threading.Event()

    def __enter__(self) -> Serving:
        """Start the server.

        Raises:
            StorageError: `no-resources`: the system allows no further thread.
        """
        self._thread = threads.started(self._run, "marfetch-serve")
        if self._thread is None:
            raise threads.no_thread()
        self._started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for server, _ in self._servers:
            server.should_exit = True
        if self._thread is not None:
            self._thread.join(self._drain + 8)
        for _, listening in self._servers:
            listening.close()

    @property
    def is_running(self) -> bool:
        """Whether the server is running."""
        return self._thread is not None and self._started.is_set() and self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except RuntimeError as error:  # asyncio ends its pool of threads in one more thread
            if threads.resource_error(error) is None:
                raise

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_default_executor(threads.pool(_THREADS))
        tasks = [asyncio.create_task(server.serve(sockets=[listening])) for server, listening in self._servers]
        while not all(server.started for server, _ in self._servers) and not any(task.done() for task in tasks):
            await asyncio.sleep(0.005)
        self._started.set()
        await asyncio.gather(*tasks)


def _config(app: ASGIApp, drain: int) -> uvicorn.Config:
    _be_silent()
    settings: dict[str, Any] = {"http": protocol(), "ws": "none", "loop": "asyncio", "lifespan": "off"}
    return uvicorn.Config(
        app,
        **settings,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=IDLE_TIME,
        timeout_graceful_shutdown=drain,
        h11_max_incomplete_event_size=MAX_HEADERS,
    )


def _be_silent() -> None:
    """Keep uvicorn from printing every malformed request to stderr when the program has not set up logging."""
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(one, logging.NullHandler) for one in logger.handlers):
        logger.addHandler(logging.NullHandler())


def raise_file_limit() -> None:
    """Raise the limit of open files, if allowed, to what the connections and their blobs need."""
    wanted = 2 * MAX_CONNECTIONS + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
