"""Runs applications on sockets that are bound beforehand, so that their ports are known, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp


def bind(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A socket that listens; port 0 takes a free one."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    return listening


class Serving:
    """Some applications, each on its socket, for as long as the context lasts."""

    def __init__(self, apps: Sequence[tuple[ASGIApp, socket.socket]]) -> None:
        self._servers = [
            (uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)), listening)
            for app, listening in apps
        ]
        self._thread = threading.Thread(target=self._run, name="marfetch-serve", daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> Serving:
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for server, _ in self._servers:
            server.should_exit = True
        self._thread.join(10)
        for _, listening in self._servers:
            listening.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        tasks = [asyncio.create_task(server.serve(sockets=[listening])) for server, listening in self._servers]
        while not all(server.started for server, _ in self._servers) and not any(task.done() for task in tasks):
            await asyncio.sleep(0.005)
        self._started.set()
        await asyncio.gather(*tasks)
