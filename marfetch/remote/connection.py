"""Connections for urllib3 that enforce deadlines, use preconnections, and send request targets byte for byte."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from copy import copy
from http.client import HTTPException
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ProxyError
from urllib3.response import HTTPResponse

from . import limits
from .deadlines import Exchange
from .dial import connect
from .preconnect import Preconnections
from .response import Response


class _Carried(HTTPConnection):
    """Base class for http and https connections.

    Attributes:
        exchange: the current exchange; None without a watchdog.
    """

    response_class = Response
    exchange: Exchange | None = None
    _handle: socket.socket | None = None
    _served = False

    def _new_conn(self) -> socket.socket:
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else limits.CONNECT_TIME
        try:
            sock = connect(self._dns_host, self.port, timeout, self.socket_options or ())
        except OSError as error:
            raise self._failure(error, timeout) from error
        self._hold(sock)
        return sock

    def _failure(self, error: OSError, timeout: float) -> Exception:
        """Translate a failure to connect into urllib3's exception. Return a TLS error unchanged."""
        if isinstance(error, ssl.SSLError):
            return error
        if isinstance(error, socket.gaierror):
            return NameResolutionError(self.host, self, error)
        if isinstance(error, TimeoutError):
            return ConnectTimeoutError(self, f"no connection to `{self.host}` within {timeout:.0f} s")
        return NewConnectionError(self, error.strerror or str(error))

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except (OSError, HTTPException) as error:
            # urllib3 reports some proxy failures as failures of the host behind the proxy.
            raise ProxyError("no tunnel", error) from error

    def _hold(self, sock: socket.socket) -> None:
        self._drop_handle()
        # The watchdog needs its own descriptor to shut down the connection at any time, because TLS takes over the original one.
        self._handle = socket.socket(fileno=os.dup(sock.fileno()))
        if self.exchange is not None:
            self.exchange.handle = self._handle

    def request(self, method: str, url: str, *args: Any, **options: Any) -> None:
        exchange = self.exchange
        if exchange is not None:
            if self.sock is None:
                self.connect()  # connect now, because http.client would only do it after the throttle check below
            exchange.handle = self._handle
            exchange.reused = self._served
            if exchange.wait_if_throttled():
                self._discard_early()
            # urllib3 normalizes percent-encodings, which would break the signature in a signed address.
            url = exchange.target
            exchange.sent()
        self._served = True
        super().request(method, url, *args, **options)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        answer = super().getresponse()
        answer.chunked = False  # `Response` parses chunks strictly; urllib3 would parse them again with its lenient parser
        return answer

    def _discard_early(self) -> None:
        """Discard the response to a request that was sent early, before the host was throttled."""

    def close(self) -> None:
        super().close()
        self._drop_handle()
        self._served = False

    def _drop_handle(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError):
                handle.close()


class Connection(_Carried):
    """An http connection, used only for loopback addresses."""


class TLSConnection(_Carried, HTTPSConnection):
    """An https connection.

    Attributes:
        early: preconnections, open or opening.
    """

    early: Preconnections | None = None
    _sent: bytes | None = None
    """The speculative request that this connection already carries. The response counts only if the real request has the same bytes."""

    def connect(self) -> None:
        try:
            ready = self.early.take(self.host, self.port, self.exchange) if self.early is not None and self.proxy is None else None
        except OSError as error:
            raise self._failure(error, limits.CONNECT_TIME) from error
        if ready is None:
            super().connect()
            return
        self._hold(ready.socket)
        self.sock, self._sent = ready.socket, ready.sent
        self.is_verified = True

    def _discard_early(self) -> None:
        if self._sent is not None:
            # The response to the speculative request may be the 429 that began the throttle. Make `send` use a fresh connection.
            self._sent = b""

    def send(self, data: Any) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            if data == sent:
                return
            # The real request differs. Use a fresh connection, because this one already carries the speculative request.
            taken, self.sock = self.sock, None
            if taken is not None:
                taken.close()
            super().connect()
            if self.exchange is not None:
                self.exchange.wait_if_throttled()  # a throttle may have begun while connecting
                self.exchange.sent()
        super().send(data)

    def close(self) -> None:
        super().close()
        self._sent = None


class _Pool(HTTPConnectionPool):
    """Base class for http and https connection pools."""

    _exchange: Exchange | None = None
    _early: Preconnections | None = None

    def carrying(self, exchange: Exchange, early: Preconnections | None) -> _Pool:
        """Return a copy of the pool for one exchange. The copy shares the connections.

        `urlopen` has no parameter for the exchange, so the copy passes it to the connection.

        Args:
            early: preconnections, open or opening.
        """
        pool = copy(self)
        pool._exchange, pool._early = exchange, early  # noqa: SLF001 - an object of the same class
        return pool

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        connection.exchange, connection.early = self._exchange, self._early
        return connection


class ConnectionPool(_Pool):
    """The http connections to one loopback host."""

    ConnectionCls = Connection


class TLSConnectionPool(_Pool, HTTPSConnectionPool):
    """The https connections to one host."""

    ConnectionCls = TLSConnection


POOLS: Final = {"http": ConnectionPool, "https": TLSConnectionPool}
