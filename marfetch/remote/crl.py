"""Downloads certificate revocation lists (CRLs) from the addresses in certificates.

It does not use the registry's transport. The addresses come from a certificate chain that is not trusted yet. So it sends no credentials
or cookies, follows no redirects, and never connects to a loopback or private address. Plain http is allowed, since a CRL is signed.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Final

import urllib3

from ..budget import Budget
from ..errors import Error, PolicyError, RemoteError
from ..text import redacted
from ..threads import beside
from .certificates import TrustedCertificates
from .connection import POOLS, ConnectionPool, TLSConnectionPool
from .dial import resolve
from .limits import LIST_CONNECT_TIME, LIST_TIME, MAX_CRL_BYTES
from .network_errors import malformed
from .preconnect import USER_AGENT

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_PORTS: Final = {"http": 80, "https": 443}
_PIECE: Final = 64 * 1024


def fetcher(ca_file: str | None, budget: Budget) -> Callable[[str], bytes]:
    """Return a function that downloads a CRL as `fetch_list` does.

    Args:
        ca_file: as `TrustedCertificates`.
    """
    trust = TrustedCertificates(ca_file)
    return lambda url: fetch_list(url, budget=budget, trust=trust)


def fetch_list(url: str, *, budget: Budget, trust: TrustedCertificates) -> bytes:
    """Download the CRL at an address.

    Raises:
        PolicyError: `address-refused`, `limit-passed`.
        IntegrityError: `malformed`.
        RemoteError: `unreachable`, `timeout`, `unexpected-answer`.
    """
    budget.check()
    answer: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(_fetch(url, trust))
        except Exception as error:
            answer.put(error)

    # A server that sends its headers byte by byte cannot be interrupted, but its thread can be abandoned.
    beside(ask, "marfetch-list")
    limit = min(LIST_TIME, budget.remaining)
    try:
        found = answer.get(timeout=limit)
    except queue.Empty:
        budget.check()
        raise RemoteError(f"no response from `{redacted(url)}` within {limit:.0f} s", code="timeout", url=redacted(url)) from None
    if isinstance(found, Error):
        raise found
    if isinstance(found, Exception):
        broken = malformed(found, redacted(url), redacted(url))
        if broken is not None:
            raise broken from found
        reason = str(found).rpartition(": ")[2][:200] or type(found).__name__
        raise RemoteError(f"cannot download `{redacted(url)}`: {reason}", code="unreachable", url=redacted(url)) from found
    return found


def _fetch(url: str, trust: TrustedCertificates) -> bytes:
    parts = urllib.parse.urlsplit(url)
    host, scheme = parts.hostname or "", parts.scheme.lower()
    if scheme not in _PORTS or "@" in parts.netloc or not url.isascii() or not url.isprintable() or " " in url or not _NAME.fullmatch(host):
        raise _refused(url, "it does not have the form `http://name/…` or `https://name/…`")
    port = parts.port or _PORTS[scheme]
    if port != _PORTS[scheme]:
        raise _refused(url, f"its port {port} is not the default port of {scheme}")
    target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    headers = {"Host": host, "User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
    timeout = urllib3.Timeout(connect=LIST_CONNECT_TIME, read=LIST_TIME)
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        # The proxy resolves the name and applies its own rules; never send it an IP address or a local name.
        if "." not in host or host.rpartition(".")[2].isdigit() or host.lower().endswith((".localhost", ".local", ".internal")):
            raise _refused(url, "its host is not a public name")
        manager = urllib3.ProxyManager(proxy, ssl_context=trust.context() if scheme == "https" else None)
        manager.pool_classes_by_scheme = POOLS
        answer = manager.request("GET", url, headers=headers, timeout=timeout, retries=False, redirect=False, preload_content=False)
        return _body(answer, url)
    address = _public_address(url, host, port)
    pool: urllib3.HTTPConnectionPool
    if scheme == "https":
        pool = TLSConnectionPool(address, port, ssl_context=trust.context(), server_hostname=host, assert_hostname=host)
    else:
        pool = ConnectionPool(address, port)
    with pool:
        answer = pool.urlopen(
            "GET", target, headers=headers, timeout=timeout, retries=False, redirect=False, preload_content=False, assert_same_host=False
        )
        return _body(answer, url)


def _public_address(url: str, host: str, port: int) -> str:
    """Resolve a host to a public address; the connection uses this very address, so a second DNS answer cannot change it."""
    found = [str(info[4][0]) for info in resolve(host, port, LIST_CONNECT_TIME)]
    for text in found:
        if not is_public(text):
            raise _refused(url, f"its host resolves to `{text}`, which is not a public address")
    by_family = sorted(found, key=lambda text: ":" in text)
    return by_family[0]


def is_public(text: str) -> bool:
    """Return whether an IP address is public."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (mapped is None or mapped.is_global)


def _body(answer: urllib3.BaseHTTPResponse, url: str) -> bytes:
    try:
        if answer.status != 200:
            raise RemoteError(
                f"`{redacted(url)}` answered with the status {answer.status}",
                code="unexpected-answer",
                url=redacted(url),
                status=answer.status,
            )
        data = bytearray()
        # Read in small pieces: for chunked bodies, http.client collects a list of chunks until the piece is full.
        while len(data) <= MAX_CRL_BYTES and (piece := answer.read(min(_PIECE, MAX_CRL_BYTES + 1 - len(data)), decode_content=False)):
            data += piece
    finally:
        answer.close()
    if len(data) > MAX_CRL_BYTES:
        raise PolicyError(f"the CRL of `{redacted(url)}` is longer than {MAX_CRL_BYTES} bytes", code="limit-passed", url=redacted(url))
    return bytes(data)


def _refused(url: str, reason: str) -> PolicyError:
    return PolicyError(
        f"the CRL address `{redacted(url)}` of a certificate is refused: {reason}", code="address-refused", url=redacted(url), rule=reason
    )
