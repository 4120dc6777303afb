"""A link that resets: every connection over it ends with a TCP reset when so many bytes have come down."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

_PIECE = 16 << 10
_BUFFER = 64 << 10


class Link:
    """Forwards a port of its own to another one on loopback.

    Args:
        port: where it leads.
        resets_after: gives the bytes after which a connection is reset, anew for each; None: this one is not.
    """

    def __init__(self, port: int, resets_after: Callable[[], int | None]) -> None:
        self._target = port
        self._resets_after = resets_after
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self.sent = 0
        """Bytes that went down."""
        self.resets = 0
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        self._listening.settimeout(0.1)
        while not self._ended.is_set():
            try:
                client, _ = self._listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self._threads = [one for one in self._threads if one.is_alive()]
            thread = threading.Thread(target=self._carry, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket) -> None:
        left = self._resets_after()
        # A small buffer, so that a reset throws little away that was counted as sent.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._target)) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            selector = selectors.DefaultSelector()
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            with selector:
                while not self._ended.is_set():
                    for key, _ in selector.select(0.2):
                        source: socket.socket = key.fileobj  # type: ignore[assignment]
                        data = source.recv(_PIECE if left is None or source is client else min(_PIECE, left))
                        if not data:
                            return
                        key.data.sendall(data)
                        if source is client:
                            continue
                        with self._guard:
                            self.sent += len(data)
                        if left is not None:
                            left -= len(data)
                            if left <= 0:
                                with self._guard:
                                    self.resets += 1
                                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                                return
