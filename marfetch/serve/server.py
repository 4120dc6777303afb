"""Run ASGI applications in a background thread. Their sockets are bound first, so that the ports are known."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import re
import socket
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .. import threads
from ..errors import InputError, StorageError

# -- limits that uvicorn does not have: time and size of request headers, slow clients, and number of connections


HEADER_TIME: Final = 10.0
"""The timeout in seconds for receiving all headers of a request.

It starts with the connection; for further requests on the connection, it starts with their first byte.
"""
IDLE_TIME: Final = 30
"""The time in seconds after which an idle connection is closed."""
STALL_TIME: Final = 30.0
"""The interval in seconds over which the download rate of a slow client is measured."""
LEAST_RATE: Final = 256
"""The minimum download rate of a client in bytes per second. The connection of a slower client is closed."""
MAX_HEADERS: Final = 64 << 10
"""The maximum total size of the request line and headers in bytes."""
MAX_CONNECTIONS: Final = 4096

if TYPE_CHECKING:
    _Base: TypeAlias = H11Protocol
else:
    _Base = object


class _TimeoutMixin(_Base):
    """Adds timeouts and limits to uvicorn's connection class. List this class before uvicorn's class in the bases."""

    most = MAX_CONNECTIONS
    header_time = HEADER_TIME
    stall_time = STALL_TIME

    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _since = 0.0
    _headers = 0

    @property
    def is_waiting(self) -> bool:
        """Whether the connection is waiting for a request."""
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

    def send_400_response(self, msg: str) -> None:
        """Refuse a malformed request. Close the connection if it was a HEAD request: uvicorn would send a body, which h11 refuses."""
        scope: Any = self.scope
        if not self.is_waiting and scope is not None and scope["method"] == "HEAD":
            self.transport.close()
            return
        super().send_400_response(msg)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Part of the next request may have arrived with the previous one (pipelining). Its headers have a deadline too.
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
        """Whether part of the headers of the next request has arrived."""
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
            # Reset the connection: otherwise the operating system keeps the send buffer in memory for a long time.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self._watch_reader()

    def _make_room(self) -> None:
        """Close the connections that have been idle longest. This new connection counts as idle too."""
        connections: set[Any] = {*self.connections}
        waiting = sorted((one for one in connections if one.is_waiting), key=lambda one: one._since)  # noqa: SLF001 - same class
        for one in waiting[: max(1, self.most // 16)]:
            one.transport.abort()


_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


class _Begun:
    """Adapts `_TimeoutMixin` to httptools, and corrects `Host` for requests with an absolute URL.

    httptools does not keep unparsed bytes. `_begun` therefore uses the callbacks for the start and the end of the headers. If the request
    target is an absolute URL, httptools drops its host, which must replace the `Host` header (RFC 9112, 3.2.2).
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
    """Return the connection class. It uses httptools if it is installed, because it is twice as fast; otherwise h11."""
    if importlib.util.find_spec("httptools") is None:
        return type("Connection", (_TimeoutMixin, H11Protocol), {})
    base: Any = importlib.import_module("uvicorn.protocols.http.httptools_impl").HttpToolsProtocol
    return type("Connection", (_Begun, _TimeoutMixin, base), {})


DRAIN: Final = 5
"""The time in seconds that open responses have to finish at shutdown."""
_BACKLOG: Final = 1024
_SPARE_FILES: Final = 128
_THREADS: Final = 8
"""The maximum number of threads that read blobs."""


def bind(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a listening socket. Port 0 selects a free port.

    Raises:
        InputError: `usage`: the host is not an address of this machine.
        StorageError: `port-unusable`: another program uses the port, or listening is not permitted.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise InputError(f"cannot listen on the host `{host}`: {(error.strerror or str(error)).lower()}", code="usage") from error
    listening = socket.socket(family, kind, number)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # Listen now: `bind` alone can succeed even if another program uses the port.
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"cannot listen on port {port} of `{host}`: {reason}", code="port-unusable", host=host, port=port) from error
    return listening


class Server(Protocol):
    """A server that runs in an event loop.

    Attributes:
        started: whether it accepts connections.
        should_exit: set to end it.
    """

    started: bool
    should_exit: bool

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit` is set."""


class AcceptedConnections:
    """Serves an application on connections that another server has accepted. Slow clients are not disconnected.

    Args:
        idle: the time in seconds after which an idle connection is closed.
    """

    def __init__(self, app: ASGIApp, *, idle: int) -> None:
        self._config = _config(app, 0, idle=idle)
        self._config.load()
        self._kind: Any = type("Connection", (protocol(),), {"header_time": idle, "stall_time": float(24 * 3600)})
        self._state = ServerState()

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol of one more connection, for its transport."""
        made: asyncio.Protocol = self._kind(config=self._config, server_state=self._state, app_state={})
        return made

    def close(self) -> None:
        """Close all connections."""
        for one in list(self._state.connections):
            one.shutdown()


class Serving:
    """Serves applications for the duration of the context.

    Args:
        apps: the applications, each with the socket to serve it on.
        servers: servers of another kind, each with its socket.
        drain: the time in seconds that open responses have to finish when the context ends.
    """

    def __init__(
        self,
        apps: Sequence[tuple[ASGIApp, socket.socket]] = (),
        *,
        servers: Sequence[tuple[Server, socket.socket]] = (),
        drain: int = 2,
    ) -> None:
        self._servers: list[tuple[Server, socket.socket]] = [(uvicorn.Server(_config(app, drain)), listening) for app, listening in apps]
        self._servers += servers
        self._drain = drain
        self._thread: threading.Thread | None = None
        self._started = threading.Event()

    def __enter__(self) -> Serving:
        """Start the server.

        Raises:
            StorageError: `no-resources`: the system does not allow another thread.
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
        except RuntimeError as error:  # the shutdown of asyncio's thread pool needs a new thread, which may not start
            if threads.resource_error(error) is None:
                raise

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_default_executor(threads.pool(_THREADS))
        tasks = [asyncio.create_task(server.serve(sockets=[listening])) for server, listening in self._servers]
        while not all(server.started for server, _ in self._servers) and not any(task.done() for task in tasks):
            await asyncio.sleep(0.005)
        self._started.set()
        await asyncio.gather(*tasks)


def _config(app: ASGIApp, drain: int, *, idle: int = IDLE_TIME) -> uvicorn.Config:
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
        timeout_keep_alive=idle,
        timeout_graceful_shutdown=drain,
        h11_max_incomplete_event_size=MAX_HEADERS,
    )


def _be_silent() -> None:
    """Keep uvicorn from printing malformed requests to stderr if logging is not set up."""
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(one, logging.NullHandler) for one in logger.handlers):
        logger.addHandler(logging.NullHandler())


def raise_file_limit() -> None:
    """Raise the limit of open files so that every connection can have an open blob. Best effort."""
    try:
        import resource  # late: missing on Windows
    except ImportError:
        return
    wanted = 2 * MAX_CONNECTIONS + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
