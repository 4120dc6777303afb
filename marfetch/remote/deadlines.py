"""A watchdog that enforces deadlines: it shuts down the socket of an exchange that is too slow or cancelled.

A socket timeout restarts with every byte. So a server that sends one byte a second, endless `1xx` responses or endless trailers could
block a client forever. One background thread per client ends such exchanges.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from ..threads import started

_TICK = 0.25  # seconds


class Exchange:
    """One request and its response.

    Attributes:
        target: the path and query, which are sent byte for byte.
        deadline: when the current step must end, on the budget's clock.
        expired: whether the watchdog ended the exchange.
        reused: whether the connection carried an earlier request.
        handle: the socket that the watchdog shuts down; None until a connection exists.
    """

    def __init__(
        self, target: str, deadline: float, headers_until: Callable[[], float], about_to_send: Callable[[], bool] | None = None
    ) -> None:
        self.target = target
        self.deadline = deadline
        self._headers_until = headers_until
        self._about_to_send = about_to_send
        self.expired = False
        self.reused = False
        self.handle: socket.socket | None = None

    def wait_if_throttled(self) -> bool:
        """Wait while the host is throttled, and suspend the deadline meanwhile. Call this when the connection is ready.

        Returns:
            Whether it waited. If so, a request that was sent early must be sent again.
        """
        if self._about_to_send is None:
            return False
        self.deadline = float("inf")
        return self._about_to_send()

    def sent(self) -> None:
        """Start the deadline for the response headers."""
        self.deadline = self._headers_until()

    def shut(self) -> None:
        """Shut down the socket, so that pending reads and writes end at once."""
        if self.handle is not None:
            with suppress(OSError):
                self.handle.shutdown(socket.SHUT_RDWR)


class Watch:
    """Ends exchanges at their deadline, from a background thread.

    Args:
        now: the clock of the deadlines, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._exchanges: set[Exchange] = set()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._closed = False

    def begin(self, exchange: Exchange) -> None:
        """Watch an exchange until `end` is called with it."""
        with self._condition:
            if self._stopped:
                exchange.expired = True
            if not self._exchanges:
                self._condition.notify()  # without an exchange, the thread sleeps until it is notified
            self._exchanges.add(exchange)
            if self._thread is None:
                self._closed = False
                self._thread = started(self._run, "marfetch-watch")  # if no thread can start, only socket timeouts apply

    def end(self, exchange: Exchange) -> None:
        """Stop watching an exchange."""
        with self._condition:
            self._exchanges.discard(exchange)

    def stop(self) -> None:
        """End all current exchanges, and each later one as soon as it begins."""
        with self._condition:
            self._stopped = True
            for exchange in self._exchanges:
                exchange.expired = True
                exchange.shut()

    def close(self) -> None:
        """End the thread after the last exchange. Otherwise a process with many clients would keep a thread for each."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            while self._exchanges or not self._closed:
                now = self._now()
                for exchange in self._exchanges:
                    if exchange.expired or now >= exchange.deadline:
                        # Shut down again at every tick, because the socket may have been opened after the exchange expired.
                        exchange.expired = True
                        exchange.shut()
                self._condition.wait(_TICK if self._exchanges else None)
            self._thread = None
