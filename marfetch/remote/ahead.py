"""Opens a connection while the rest of marfetch is still being loaded.

Loading oras-py and what it needs takes about as long as two round trips; in that time the registry's name is looked up, and TCP and
TLS are done. Nothing is sent: the connection is only handed to the first request for that host, or closed.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from ..endpoint import Address
from . import limits
from .addresses import connect


class Ahead:
    """One connection that is being opened.

    Args:
        address: whose host it leads to; https.
        context: makes the context that decides about the certificate, as for every other connection.
    """

    def __init__(self, address: Address, context: Callable[[], ssl.SSLContext]) -> None:
        self._host, self._port = address.host.name.strip("[]"), address.host.port
        self._context = context
        self._outcome: ssl.SSLSocket | Exception | None = None
        self._done = threading.Event()
        self._guard = threading.Lock()
        self._taken = False
        threading.Thread(target=self._open, name="marfetch-ahead", daemon=True).start()

    def _open(self) -> None:
        try:
            assert self._port is not None, "an address has its port"
            sock = connect(self._host, self._port, limits.CONNECT_TIME, [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
            try:
                context = self._context()
                sock.settimeout(limits.HANDSHAKE_TIME)
                self._outcome = context.wrap_socket(sock, server_hostname=self._host)
            except BaseException:
                sock.close()
                raise
        except Exception as error:
            self._outcome = error
        finally:
            self._done.set()

    def take(self, host: str, port: int | None) -> ssl.SSLSocket | None:
        """The connection, if it leads there and nobody has taken it; waits until it is open.

        Raises:
            OSError: it could not be opened; said to the first one who wanted it.
        """
        with self._guard:
            if self._taken or (self._host, self._port) != (host, port):
                return None
            self._taken = True  # for one request only
        self._done.wait(limits.CONNECT_TIME + limits.HANDSHAKE_TIME)
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        """Close it if nobody has taken it."""
        with self._guard:
            taken, self._taken = self._taken, True
        if not taken and self._done.is_set() and isinstance(self._outcome, ssl.SSLSocket):
            with suppress(OSError):
                self._outcome.close()
