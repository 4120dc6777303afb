"""Downloads certificate revocation lists (CRLs) from the addresses in certificates.

The addresses come from a certificate chain that is not trusted yet. So marfetch sends no credentials or cookies to them, follows no
redirects, and never connects to an address that is not public. Plain http is allowed, because a CRL is signed. With the transport for
registries, this module shares only the proxy rules.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import urllib.parse
from collections.abc import Callable
from contextlib import closing
from typing import Final, Literal

import urllib3
from requests.adapters import HTTPAdapter

from ..budget import Budget
from ..endpoint import Address
from ..errors import Error, PolicyError, RemoteError
from ..reference import Host
from ..text import redacted
from ..threads import beside
from .certificates import TrustedCertificates
from .connection import POOLS, ConnectionPool, TLSConnectionPool
from .dial import resolve
from .limits import LIST_CONNECT_TIME, LIST_TIME, MAX_CRL_BYTES
from .network_errors import malformed
from .preconnect import USER_AGENT
from .proxies import Proxies

_NAME: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
"""A domain name. Its last label must not start with a digit, or `inet_aton` may read the name as an IP address (`169.254.0xa9fe`)."""
_LOCAL: Final = (".localhost", ".localdomain", ".local", ".home.arpa", ".internal", ".intranet", ".private", ".corp", ".home", ".lan")
"""Suffixes of names in private networks (RFC 6761, 8375, 6762 appendix G). They are refused, because a proxy would resolve them."""
_PORTS: Final[dict[str, int]] = {"http": 80, "https": 443}
_PIECE: Final = 64 * 1024

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""The well-known prefix of DNS64 (RFC 6052, 2.1): the last 32 bits are the IPv4 address."""
_DOCUMENTATION: Final = ipaddress.IPv6Network("3fff::/20")
"""Addresses for documentation (RFC 9637). Some versions of Python report them as global."""
_HOST_OF_AZURE: Final = ipaddress.IPv4Address("168.63.129.16")
"""The address at which a virtual machine in Azure reaches services of its host. It is in a public range, but must not be contacted."""


def fetcher(ca_file: str | None, budget: Budget) -> Callable[[str], bytes]:
    """Return a function that downloads a CRL as `fetch_list` does.

    Args:
        ca_file: as for `TrustedCertificates`.
    """
    trust = TrustedCertificates(ca_file)
    return lambda url: fetch_list(url, budget=budget, trust=trust)


def fetch_list(url: str, *, budget: Budget, trust: TrustedCertificates) -> bytes:
    """Download a CRL from an address in a certificate.

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

    # A read cannot be interrupted if the server sends its headers byte by byte. So read in a thread that can be abandoned.
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
    host = parts.hostname or ""
    scheme: Literal["http", "https"] = "https" if parts.scheme.lower() == "https" else "http"
    if parts.scheme.lower() != scheme or "@" in parts.netloc or not url.isascii() or not url.isprintable() or " " in url:
        raise _refused(url, "it does not have the form `http://name/…` or `https://name/…`")
    if len(host) > 253 or not _NAME.fullmatch(host) or host.lower().endswith(_LOCAL):
        raise _refused(url, "its host is not a public name")
    port = parts.port or _PORTS[scheme]
    if port != _PORTS[scheme]:
        raise _refused(url, f"its port {port} is not the default port of {scheme}")
    target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    headers = {"Host": host, "User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
    timeout = urllib3.Timeout(connect=LIST_CONNECT_TIME, read=LIST_TIME)
    context = trust.context() if scheme == "https" else None
    proxy = Proxies().of(Address(scheme, Host(host, port), target))
    if proxy is not None:
        with closing(HTTPAdapter()) as adapter:
            manager = adapter.proxy_manager_for(proxy.url, ssl_context=context)
            manager.pool_classes_by_scheme = POOLS
            answer = manager.request("GET", url, headers=headers, timeout=timeout, retries=False, redirect=False, preload_content=False)
            return _body(answer, url)
    address = _public_address(url, host, port)
    pool: urllib3.HTTPConnectionPool
    if scheme == "https":
        pool = TLSConnectionPool(address, port, ssl_context=context, server_hostname=host, assert_hostname=host)
    else:
        pool = ConnectionPool(address, port)
    with pool:
        answer = pool.urlopen(
            "GET", target, headers=headers, timeout=timeout, retries=False, redirect=False, preload_content=False, assert_same_host=False
        )
        return _body(answer, url)


def _public_address(url: str, host: str, port: int) -> str:
    """Resolve a host to a public IP address. The caller connects to this address, so that a second DNS response cannot change it.

    Raises:
        PolicyError: `address-refused`: one of the addresses is not public.
        OSError: the name cannot be resolved.
    """
    found = [str(info[4][0]) for info in resolve(host, port, LIST_CONNECT_TIME)]
    for text in found:
        if not is_public(text):
            raise _refused(url, f"its host resolves to `{text}`, which is not a public address")
    by_family = sorted(found, key=lambda text: ":" in text)
    return by_family[0]


def is_public(text: str) -> bool:
    """Return whether an IP address is public.

    An IPv6 address that contains an IPv4 address (mapped, 6to4, Teredo) is not public, because no public service needs one. DNS64 is the
    exception: networks without IPv4 use it to reach every IPv4 host. For such an address, the IPv4 address decides.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and address != _HOST_OF_AZURE
    if address in _NAT64:
        return is_public(str(ipaddress.IPv4Address(address.packed[-4:])))
    carries = address.sixtofour is not None or address.teredo is not None
    return address in _GLOBAL_UNICAST and address.is_global and not carries and address not in _DOCUMENTATION


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
        # Read in small pieces, to save memory: for a chunked body, http.client collects many small chunks per piece.
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
