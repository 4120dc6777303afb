"""A link that resets: every connection ends with a TCP reset after a number of downloaded bytes."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Callable

from .listener import Listener

_PIECE = 16 << 10
_BUFFER = 64 << 10


class Link(Listener):
    """Forwards its own port to another port on loopback.

    Args:
        port: the target port.
        resets_after: called for each connection; returns the number of bytes after which it is reset, or None for no reset.
    """

    def __init__(self, port: int, resets_after: Callable[[], int | None]) -> None:
        super().__init__()
        self._target = port
        self._resets_after = resets_after
        self.sent = 0
        """The number of bytes sent to the client."""
        self.resets = 0
        self._guard = threading.Lock()

    def serve(self, client: socket.socket) -> None:
        left = self._resets_after()
        # With a small buffer, a reset loses only few bytes that were counted as sent.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        with socket.create_connection(("127.0.0.1", self._target)) as server:
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
