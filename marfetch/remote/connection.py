"""Connections: which address of a host is tried first, and what is sent over it byte for byte.

urllib3 tries all addresses of a host in turn with the full time-out each. MAR has addresses of both families, and there are networks
where one family leads nowhere (microsoft/containerregistry 165, 166, 175): the first of each gets two seconds, then the other's turn.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from . import limits
from .watch import current

_AddressInfo = tuple[int, int, int, str, Any]

_preferred: dict[str, int] = {}
"""Host name → the address family that worked last in this process."""


def resolve(host: str, port: int, timeout: float) -> list[_AddressInfo]:
    """The addresses of a host. The system's resolver knows no time-out, so it runs in a thread of its own.

    Raises:
        OSError: no address, or no answer in time.
    """
    answer: queue.SimpleQueue[list[_AddressInfo] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put([tuple(info) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])  # type: ignore[misc]
        except OSError as error:
            answer.put(error)
        except UnicodeError as error:
            answer.put(socket.gaierror(str(error)))

    threading.Thread(target=ask, name="marfetch-resolve", daemon=True).start()
    try:
        found = answer.get(timeout=timeout)
    except queue.Empty:
        raise socket.gaierror(f"no answer from the name service within {timeout:.0f} s") from None
    if isinstance(found, OSError):
        raise found
    return found


def in_turn(addresses: Sequence[_AddressInfo], preferred: int | None) -> list[_AddressInfo]:
    """Families one after the other, the preferred one first, each in the order of the resolver (RFC 8305, clause 4)."""
    families = list(dict.fromkeys(info[0] for info in addresses))
    if preferred in families:
        families.sort(key=lambda family: family != preferred)
    columns = [[info for info in addresses if info[0] == family] for family in families]
    longest = max(map(len, columns), default=0)
    return [column[row] for row in range(longest) for column in columns if row < len(column)]


def connect(host: str, port: int, timeout: float, options: Sequence[Any]) -> socket.socket:
    """A connected socket.

    Raises:
        OSError: none of the addresses answered; of the last one.
    """
    end = time.monotonic() + timeout
    order = in_turn(resolve(host, port, timeout), _preferred.get(host))
    families = {info[0] for info in order}
    failure: OSError = OSError(f"no address for `{host}`")
    for number, (family, kind, protocol, _, address) in enumerate(order):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no connection within {timeout:.0f} s")
        untried = {info[0] for info in order[number + 1 :]} - {family}
        patience = min(limits.FIRST_TRY, left) if len(families) > 1 and untried and number < len(families) else left
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(patience)
            sock.connect(address)
        except OSError as error:
            failure = error
            if sock is not None:
                sock.close()
            continue
        sock.settimeout(timeout)
        _preferred[host] = family
        return sock
    raise failure


class _Carried(HTTPConnection):
    """What both kinds of connection have in common."""

    _handle: socket.socket | None = None
    _served = False

    def _new_conn(self) -> socket.socket:
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else limits.CONNECT_TIME
        try:
            sock = connect(self._dns_host, self.port, timeout, self.socket_options or ())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection to `{self.host}` within {timeout:.0f} s") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        self._drop_handle()
        # A second handle on the same connection: TLS takes the first one over, and the watch must be able to shut it at any time.
        self._handle = sock.dup()
        exchange = current()
        if exchange is not None:
            exchange.handle = self._handle
        return sock

    def request(self, method: str, url: str, *args: Any, **options: Any) -> None:
        exchange = current()
        if exchange is not None:
            exchange.handle = self._handle
            exchange.reused = self._served
            # urllib3 writes percent-encodings its own way; a signed query must go out as it came in.
            url = exchange.target
            exchange.sent()
        self._served = True
        super().request(method, url, *args, **options)

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
    """https."""


class ConnectionPool(HTTPConnectionPool):
    """Connections to one loopback host."""

    ConnectionCls = Connection


class TLSConnectionPool(HTTPSConnectionPool):
    """Connections to one host."""

    ConnectionCls = TLSConnection


POOLS: Final = {"http": ConnectionPool, "https": TLSConnectionPool}
