"""Ports on loopback: one that handles each connection in its own thread, and one that accepts no connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self

import pytest


class Listener:
    """Listens until the end of its context. A subclass defines how to handle a connection."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listening.settimeout(0.1)  # set it here, because the listener may be closed before its thread starts
        self.port: int = self._listening.getsockname()[1]
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._clients: set[socket.socket] = set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listening.close()
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self._threads = [one for one in self._threads if one.is_alive()]
            thread = threading.Thread(target=self._within, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _within(self, client: socket.socket) -> None:
        self._clients.add(client)
        with contextlib.suppress(OSError), client:
            self.serve(client)
        self._clients.discard(client)

    def serve(self, client: socket.socket) -> None:
        """Handle one connection until its end. Stop when `_ended` is set."""
        raise NotImplementedError


@contextlib.contextmanager
def deaf(family: int = socket.AF_INET, address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Yield a port that drops packets, because the queue of its listener is full."""
    listening = socket.socket(family)
    try:
        listening.bind((address, port))
    except OSError:
        listening.close()
        pytest.skip(f"this machine cannot bind {address}")
    listening.listen(0)
    waiting = []
    for _ in range(4):
        filler = socket.socket(family)
        filler.setblocking(False)
        filler.connect_ex(listening.getsockname())
        waiting.append(filler)
    try:
        yield int(listening.getsockname()[1])
    finally:
        for each in (*waiting, listening):
            each.close()
