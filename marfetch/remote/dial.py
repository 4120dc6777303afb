"""Connects a socket to a host name. It needs only the standard library, so it can run before oras-py is imported.

MAR has IPv4 and IPv6 addresses, and some networks drop the packets of one family (microsoft/containerregistry 165, 166, 175). Most clients
then wait for the full timeout. marfetch waits two seconds for the first address of a family, and then tries the other family.
"""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Sequence
from typing import Any

from ..threads import beside
from . import limits

_AddressInfo = tuple[int, int, int, str, Any]

_preferred: dict[str, int] = {}
"""Host name → the address family that worked last in this process."""


def resolve(host: str, port: int, timeout: float, *, family: int = 0) -> list[_AddressInfo]:
    """Return the IP addresses of a host. The system's resolver has no timeout, so it runs in a background thread.

    Args:
        timeout: in seconds.
        family: the address family, such as `socket.AF_INET6`; 0 for all.

    Raises:
        OSError: the name cannot be resolved, or there is no DNS response in time.
    """
    answer: queue.SimpleQueue[list[_AddressInfo] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put([tuple(info) for info in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)])  # type: ignore[misc]
        except OSError as error:
            answer.put(error)
        except UnicodeError as error:
            answer.put(socket.gaierror(str(error)))

    beside(ask, "marfetch-resolve")
    try:
        found = answer.get(timeout=timeout)
    except queue.Empty:
        raise socket.gaierror(f"no DNS response within {timeout:.0f} s") from None
    if isinstance(found, OSError):
        raise found
    return found


def in_turn(addresses: Sequence[_AddressInfo], preferred: int | None) -> list[_AddressInfo]:
    """Alternate between the address families, starting with the preferred one (RFC 8305, clause 4). Keep the order within a family."""
    families = list(dict.fromkeys(info[0] for info in addresses))
    if preferred in families:
        families.sort(key=lambda family: family != preferred)
    columns = [[info for info in addresses if info[0] == family] for family in families]
    longest = max(map(len, columns), default=0)
    return [column[row] for row in range(longest) for column in columns if row < len(column)]


def connect(host: str, port: int, timeout: float, options: Sequence[Any] = ()) -> socket.socket:
    """Return a socket connected to a host.

    Args:
        timeout: maximum seconds for all addresses together.
        options: argument tuples for `setsockopt`.

    Raises:
        OSError: no connection to any address was possible. This is the error for the last address.
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
        patience = min(limits.FIRST_TRY, left) if untried and number < len(families) else left
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
