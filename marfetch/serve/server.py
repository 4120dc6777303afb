"""Runs applications on sockets that are bound beforehand, so that their ports are known, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from ..errors import InputError, StorageError
from .connection import IDLE_TIME, MAX_CONNECTIONS, MAX_HEADERS, protocol

DRAIN: Final = 5
"""Seconds that answers which are under way have to end."""
_BACKLOG: Final = 1024
_SPARE_FILES: Final = 128


def bind(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        InputError: `usage`: the host is none of this machine.
        StorageError: `port-unusable`.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise InputError(
            f"`{host}` is not a host that can be listened on: {(error.strerror or str(error)).lower()}", code="usage"
        ) from error
    listening = socket.socket(family, kind, number)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # At once, since only that finds out whether somebody else listens there.
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise StorageError(
            f"port {port} of `{host}` cannot be listened on: {reason}", code="port-unusable", host=host, port=port
        ) from error
    return listening


class Serving:
    """Some applications, each on its socket, for as long as the context lasts.

    Args:
        drain: seconds that answers which are under way have to end, when the context ends.
    """

    def __init__(self, apps: Sequence[tuple[ASGIApp, socket.socket]], *, drain: int = 2) -> None:
        self._servers = [(uvicorn.Server(_config(app, drain)), listening) for app, listening in apps]
        self._drain = drain
        self._thread = threading.Thread(target=self._run, name="marfetch-serve", daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> Serving:
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for server, _ in self._servers:
            server.should_exit = True
        self._thread.join(self._drain + 8)
        for _, listening in self._servers:
            listening.close()

    @property
    def is_running(self) -> bool:
        """Whether requests are answered."""
        return self._started.is_set() and self._thread.is_alive()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
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
    """Every stranger's broken request would be a line on stderr, unless whoever embeds this has set up logging."""
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(one, logging.NullHandler) for one in logger.handlers):
        logger.addHandler(logging.NullHandler())


def raise_file_limit() -> None:
    """Let the process have as many open files as its connections and their blobs can need, where that is allowed."""
    wanted = 2 * MAX_CONNECTIONS + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
