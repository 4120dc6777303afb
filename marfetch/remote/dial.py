"""From a host name to a connected socket, with the standard library alone.

MAR has addresses of both families, and there are networks where one family leads nowhere (microsoft/containerregistry 165, 166, 175):
the first address of each gets two seconds, then it is the other's turn. The usual clients try one after the other with the full time.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from . import limits

_AddressInfo = tuple[int, int, int, str, Any]

_preferred: dict[str, int] = {}
"""Host name → the address family that worked last in this process."""


def resolve(host: str, port: int, timeout: float, *, family: int = 0) -> list[_AddressInfo]:
    """The addresses of a host. The system's resolver knows no time-out, so it runs in a thread of its own.

    Args:
        family: 0 for every one.

    Raises:
        OSError: no address, or no answer in time.
    """
    answer: queue.SimpleQueue[list[_AddressInfo] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put([tuple(info) for info in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)])  # type: ignore[misc]
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


def connect(host: str, port: int, timeout: float, options: Sequence[Any] = ()) -> socket.socket:
    """A connected socket.

    Args:
        timeout: seconds for all addresses together.
        options: of the socket, as for `setsockopt`.

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
