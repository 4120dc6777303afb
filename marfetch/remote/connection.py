"""Connections of urllib3 that are opened our way, that send a target byte for byte, and that the watch can shut at any time."""

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
    """What both kinds of connection have in common.

    Attributes:
        exchange: what it carries, or is being opened for; None where nobody watches.
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
        """What urllib3 calls a failure to connect; failures of TLS keep their class."""
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
            # urllib3 takes some of it for a failure of the host behind the proxy.
            raise ProxyError("no tunnel", error) from error

    def _hold(self, sock: socket.socket) -> None:
        self._drop_handle()
        # A second handle on the same connection: TLS takes the first one over, and the watch must be able to shut it at any time.
        self._handle = socket.socket(fileno=os.dup(sock.fileno()))
        if self.exchange is not None:
            self.exchange.handle = self._handle

    def request(self, method: str, url: str, *args: Any, **options: Any) -> None:
        exchange = self.exchange
        if exchange is not None:
            if self.sock is None:
                self.connect()  # http.client would do it when the request is on its way already
            exchange.handle = self._handle
            exchange.reused = self._served
            if exchange.connected():
                self._paused()
            # urllib3 writes percent-encodings its own way; a signed query must go out as it came in.
            url = exchange.target
            exchange.sent()
        self._served = True
        super().request(method, url, *args, **options)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        answer = super().getresponse()
        answer.chunked = False  # urllib3 would read chunks with a lenient parser of its own; ours has done it already
        return answer

    def _paused(self) -> None:
        """The host wanted to be left alone before this request."""

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
    """Plain http, for loopback addresses."""


class TLSConnection(_Carried, HTTPSConnection):
    """https.

    Attributes:
        early: connections that may be open already.
    """

    early: Preconnections | None = None
    _sent: bytes | None = None
    """What went out over this connection before it was taken: the request that it was taken for, if nothing about it has changed."""

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

    def _paused(self) -> None:
        if self._sent is not None:
            self._sent = b""  # its answer is of a moment before the pause, and may be the very one that asked for it

    def send(self, data: Any) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            if data == sent:
                return
            # Something else is to be asked after all: over a connection that nothing was asked over.
            taken, self.sock = self.sock, None
            if taken is not None:
                taken.close()
            super().connect()
            if self.exchange is not None:
                self.exchange.connected()  # a pause may have begun meanwhile
                self.exchange.sent()
        super().send(data)

    def close(self) -> None:
        super().close()
        self._sent = None


class _Pool(HTTPConnectionPool):
    """What both kinds of pool have in common."""

    _exchange: Exchange | None = None
    _early: Preconnections | None = None

    def carrying(self, exchange: Exchange, early: Preconnections | None) -> _Pool:
        """The same connections, for one exchange: urllib3 takes one out somewhere in `urlopen`, and hands nothing to it.

        Args:
            early: connections that may be open already.
        """
        pool = copy(self)
        pool._exchange, pool._early = exchange, early  # noqa: SLF001 - its own
        return pool

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        connection.exchange, connection.early = self._exchange, self._early
        return connection


class ConnectionPool(_Pool):
    """Connections to one loopback host."""

    ConnectionCls = Connection


class TLSConnectionPool(_Pool, HTTPSConnectionPool):
    """Connections to one host."""

    ConnectionCls = TLSConnection


POOLS: Final = {"http": ConnectionPool, "https": TLSConnectionPool}
