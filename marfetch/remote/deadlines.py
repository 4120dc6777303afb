"""Keeps an eye on what is under way: an exchange that is past its time, or no longer wanted, has its socket shut down.

The time-outs of sockets begin anew with every byte, so a server that sends one byte a second, endless `1xx` answers or endless
trailers would hold a client for ever. One thread with a clock of its own ends that, whatever the socket is busy with.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

_TICK = 0.25  # seconds


class Exchange:
    """One request and its answer.

    Attributes:
        target: path and query exactly as they are to be sent.
        deadline: until when the present step must be done, on the budget's clock.
        expired: whether the watch has ended it.
        reused: whether it went over a connection that had served before.
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

    def connected(self) -> bool:
        """The request can be sent; whoever has to agree may take its time.

        Returns:
            Whether that was a pause, before which nothing may have been asked.
        """
        if self._about_to_send is None:
            return False
        self.deadline = float("inf")
        return self._about_to_send()

    def sent(self) -> None:
        """The request is on its way: from now on it is the headers of the answer that are waited for."""
        self.deadline = self._headers_until()

    def shut(self) -> None:
        """Make every read and write on the socket end now."""
        if self.handle is not None:
            with suppress(OSError):
                self.handle.shutdown(socket.SHUT_RDWR)


class Watch:
    """Ends exchanges at their deadline.

    Args:
        now: the clock that the deadlines are on.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._exchanges: set[Exchange] = set()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._closed = False

    def begin(self, exchange: Exchange) -> None:
        """Look after an exchange until `end`."""
        with self._condition:
            if self._stopped:
                exchange.expired = True
            if not self._exchanges:
                self._condition.notify()  # otherwise it looks at its next tick anyway
            self._exchanges.add(exchange)
            if self._thread is None:
                self._closed = False
                self._thread = threading.Thread(target=self._run, name="marfetch-watch", daemon=True)
                self._thread.start()

    def end(self, exchange: Exchange) -> None:
        """The exchange is over."""
        with self._condition:
            self._exchanges.discard(exchange)

    def stop(self) -> None:
        """End everything that is under way, and whatever should still begin."""
        with self._condition:
            self._stopped = True
            for exchange in self._exchanges:
                exchange.expired = True
                exchange.shut()

    def close(self) -> None:
        """Nothing more is looked after, once what is under way is over: a process that makes many clients keeps no thread of each."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            while self._exchanges or not self._closed:
                now = self._now()
                for exchange in self._exchanges:
                    if exchange.expired or now >= exchange.deadline:
                        # Again at every tick: the socket may not have been there yet when it expired.
                        exchange.expired = True
                        exchange.shut()
                self._condition.wait(_TICK if self._exchanges else None)
            self._thread = None
