"""Opens connections while the rest of marfetch is still being loaded, or while an answer is awaited, and asks the first thing.

Loading oras-py and what it needs takes longer than three round trips; in that time the registry's name is looked up, TCP and TLS are
done, and its first answer has come. The data host's connection is opened while the registry is asked for the manifest. Each is only
handed to the request that it was opened for, or closed.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ..endpoint import Address
from . import limits
from .addresses import connect
from .first import First


class Ready(NamedTuple):
    """A connection that is open.

    Attributes:
        sent: the request that it carries already.
    """

    socket: ssl.SSLSocket
    sent: bytes | None


class Ahead:
    """One connection that is being opened.

    Args:
        address: whose host it leads to; https.
        context: makes the context that decides about the certificate, as for every other connection.
        first: is sent over it at once; see `give`.
    """

    def __init__(self, address: Address, context: Callable[[], ssl.SSLContext], first: First | None = None) -> None:
        self._host, self._port = address.host.name.strip("[]"), address.host.port
        self._address = address
        self._target = first.target if first else None
        self._sent = first.bytes(address) if first else None
        self._context = context
        self._outcome: ssl.SSLSocket | Exception | None = None
        self._since = time.monotonic()
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
                opened = context.wrap_socket(sock, server_hostname=self._host)
                with self._guard:
                    if self._sent is not None:
                        opened.sendall(self._sent)
                    self._since = time.monotonic()
                    self._outcome = opened
            except BaseException:
                sock.close()
                raise
        except Exception as error:
            self._outcome = error
        finally:
            self._done.set()
        with self._guard:
            if self._taken:  # it is no longer wanted, and was not open yet when that was said
                self._drop()

    def give(self, first: First) -> bool:
        """Ask this over it; False where something else is asked over it already, or it is lost."""
        with self._guard:
            if self._target is not None or self._taken or isinstance(self._outcome, Exception):
                return False
            sent = first.bytes(self._address)
            if self._outcome is not None:
                try:
                    self._outcome.sendall(sent)
                except OSError as error:
                    self._outcome = error
                    return False
            self._target, self._sent = first.target, sent
            return True

    def take(self, host: str, port: int | None, target: str | None = None) -> Ready | None:
        """The connection, if it leads there, carries nothing but this request, and nobody has taken it; waits until it is open.

        Args:
            target: what is going to be asked for over it.

        Raises:
            OSError: it could not be opened; said to the first one who wanted it.
        """
        if (self._host, self._port) != (host, port) or self._target not in (None, target) or self.is_taken:
            return None
        self._done.wait(limits.CONNECT_TIME + limits.HANDSHAKE_TIME)
        with self._guard:
            if self._taken:
                return None
            self._taken = True  # for one request only
            outcome = self._outcome
            if isinstance(outcome, ssl.SSLSocket) and time.monotonic() - self._since > limits.AHEAD_TIME:
                self._drop()  # its host may have given it up by now
                return None
            self._outcome = None
        if isinstance(outcome, Exception):
            raise outcome
        return Ready(outcome, self._sent) if outcome is not None else None

    @property
    def is_taken(self) -> bool:
        """Whether it is no longer to be had."""
        return self._taken

    def close(self) -> None:
        """Close it if nobody has taken it."""
        with self._guard:
            if not self._taken:
                self._taken = True
                self._drop()

    def _drop(self) -> None:
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, ssl.SSLSocket):
            with suppress(OSError):
                outcome.close()


class Early:
    """The connections to one endpoint that are opened ahead.

    Args:
        registry: where everything begins.
        context: as for `Ahead`.
        most: connections to one host.
    """

    def __init__(self, registry: Address, context: Callable[[], ssl.SSLContext], most: int) -> None:
        self._registry = registry
        self._context = context
        self._most = most
        self._opened: dict[Address, list[Ahead]] = {}
        self._guard = threading.Lock()

    def open(self) -> None:
        """Open a connection to the registry; what is asked over it comes later."""
        self._add(self._registry, None)

    def ask(self, first: First | None) -> None:
        """Ask this over a connection to the registry that is there or being opened, or over one more.

        Args:
            first: None: what that will be is not known.
        """
        with self._guard:
            opened = list(self._opened.get(self._registry, ()))
        if first is not None and not any(ahead.give(first) for ahead in opened):
            self._add(self._registry, first)
        elif not opened:
            self.open()

    def expect(self, data: Address) -> None:
        """Open a connection to a data host, for a blob whose manifest is about to be asked for."""
        self._add(data, None)

    def _add(self, address: Address, first: First | None) -> None:
        with self._guard:
            opened = self._opened.setdefault(address, [])
            if len(opened) < self._most:
                opened.append(Ahead(address, self._context, first))

    def take(self, host: str, port: int | None, target: str | None) -> Ready | None:
        """As `Ahead.take`, of the first one that fits."""
        with self._guard:
            opened = [ahead for some in self._opened.values() for ahead in some]
        for ahead in opened:
            ready = ahead.take(host, port, target)
            if ready is not None:
                return ready
        return None

    def close(self) -> None:
        """Close what nobody has taken."""
        with self._guard:
            for some in self._opened.values():
                for ahead in some:
                    ahead.close()
