"""The transport adapter: the one place from which bytes leave the machine.

It is mounted on the session of `oras.provider.Registry` for both schemes and asks the endpoint about every address before it
connects, so no method of oras-py, ours or inherited, can reach another host. It sends the target byte for byte, follows no redirect,
decodes nothing, keeps cookies of nobody, and has the watch look after each exchange.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

import truststore
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import PoolManager, ProxyManager, Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import parse_url

from .. import __version__
from ..budget import Budget
from ..endpoint import Address, Endpoint, redacted
from ..errors import InputError, IntegrityError, PolicyError, RemoteError
from .backoff import MAX_JOBS, TRIES, Trouble
from .connection import POOLS
from .watch import Exchange, Watch, set_current

USER_AGENT: Final = f"marfetch/{__version__} (+https://github.com/marfetch/marfetch)"

CONNECT_TIME: Final = 10.0
"""Seconds until a connection is there, over all addresses of the host."""
HANDSHAKE_TIME: Final = 10.0
HEADER_TIME: Final = 30.0
"""Seconds until all headers of an answer are there."""
_GRACE: Final = 2.0  # so that plain silence is seen by the socket, after which a new try makes sense, and only a trickle by the watch
IDLE_TIME: Final = 30.0
"""Seconds without a single byte."""
LEAST_RATE: Final = 1024
"""Bytes per second over `RATE_TIME`; a slower body is given up."""
RATE_TIME: Final = 60.0

_READ: Final = 64 * 1024
_LARGEST_READ: Final = 1 << 20
_SMALL_READS: Final = 4 << 20
"""Up to here every arriving piece is taken at once, so that a cut loses little; then larger reads save time."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificates are trusted. There is no way to turn the check off.

    Attributes:
        ca_file: a PEM file that replaces the system's store; None: `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`, then the system's store.
    """

    ca_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """A context for clients.

        Raises:
            InputError: `usage`: the file cannot be read or holds no certificate.
        """
        named = [("--ca-file", self.ca_file)] + [(name, os.environ.get(name)) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
        for name, path in named:
            if not path:
                continue
            try:
                directory = os.path.isdir(path)  # noqa: PTH112
                context = ssl.create_default_context(capath=path) if directory else ssl.create_default_context(cafile=path)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"the certificates of `{path}` ({name}) cannot be read: {str(error).lower()}",
                    code="usage",
                    hint="give a file with certificates in PEM form",
                    path=path,
                ) from error
            break
        else:
            context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


class Request(PreparedRequest):
    """A request whose address goes out as it is, and the exchange that carries it.

    Attributes:
        address: what is asked; `url` is made of it.
        came_from: the address whose redirect led here.
    """

    def __init__(self, method: str, address: Address, headers: dict[str, str], *, came_from: Address | None = None) -> None:
        super().__init__()
        self.method = method
        self.address = address
        self.url = address.url
        self.headers = CaseInsensitiveDict({"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers})
        self.body = None
        self.came_from = came_from


class Answer(Response):
    """An answer whose body has not been read; `close` gives everything back."""

    exchange: Exchange
    address: Address
    transport: Transport

    def pieces(self) -> Any:
        """The bytes of the body as they come, undecoded.

        Raises:
            Trouble: the transfer failed; one that the watch or the least rate has ended is not to be tried again.
            Cancelled: the command is being stopped.
        """
        budget, exchange = self.transport.budget, self.exchange
        received = 0
        mark, since = 0, budget.now()
        while True:
            large = received >= _SMALL_READS
            size = min(_LARGEST_READ, received // 8) if large else _READ
            # A read of 64 KiB that takes longer than this is below the least rate.
            exchange.deadline = self.transport.until(max(RATE_TIME, size / LEAST_RATE))
            try:
                piece = self.raw.read(size, decode_content=False) if large else self.raw.read1(size, decode_content=False)
            except (HTTPError, OSError, ValueError) as error:
                raise self.transport.trouble(error, self.address, exchange) from error
            if exchange.expired:
                raise self.transport.expired(self.address)
            budget.check()
            if not piece:
                return
            received += len(piece)
            now = budget.now()
            if now - since >= RATE_TIME:
                if received - mark < LEAST_RATE * (now - since):
                    raise self.transport.too_slow(self.address, received - mark, now - since)
                mark, since = received, now
            yield piece

    def body(self, limit: int, *, all_of_it: bool = True) -> bytes:
        """The body.

        Args:
            limit: most bytes that are taken.
            all_of_it: whether a longer body is a failure; otherwise its beginning is given.

        Raises:
            Trouble: as `pieces`, and `limit-passed`.
        """
        announced = self.headers.get("Content-Length", "")
        if all_of_it and announced.isascii() and announced.isdigit() and int(announced[:18]) > limit:
            raise Trouble(_too_long(self.address, limit))
        pieces, size = [], 0
        for piece in self.pieces():
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                if all_of_it:
                    raise Trouble(_too_long(self.address, limit))
                break
        return b"".join(pieces)[:limit]

    def close(self) -> None:
        """Give the connection back, for use again where the body was read to its end."""
        self.transport.watch.end(self.exchange)
        super().close()


def _too_long(address: Address, limit: int) -> PolicyError:
    return PolicyError(
        f"the answer of `{address.host}` is longer than {limit} bytes",
        code="limit-passed",
        hint="no registry has a reason to send that much here; report it",
        url=redacted(address.url),
        rule=f"at most {limit} bytes",
    )


class Transport(HTTPAdapter):
    """Sends single requests to the hosts of one endpoint.

    Args:
        endpoint: decides about every address.
        trust: decides about certificates.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget, trust: Trust) -> None:
        self.endpoint = endpoint
        self.budget = budget
        self.watch = Watch(budget.now)
        self._trust = trust
        self._context: ssl.SSLContext | None = None
        self._proxies = urllib.request.getproxies()
        super().__init__(pool_connections=8, pool_maxsize=MAX_JOBS, max_retries=0, pool_block=False)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Pools with our own connections (an override of requests; called by its constructor)."""
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Answer:
        """Send one request.

        Raises:
            PolicyError: the endpoint does not cover the address; nothing was sent, and no name was resolved.
            Trouble: no answer.
            Cancelled: the command is being stopped.
        """
        if not isinstance(request, Request):
            # Whatever oras-py might send on its own way: its address is read and checked like any other.
            request = Request(request.method or "GET", Address.parse(request.url or ""), dict(request.headers))
        address = request.address
        self.endpoint.check(address, came_from=request.came_from)
        if parse_url(address.url).host != address.host.name:
            raise PolicyError(
                f"the address `{redacted(address.url)}` is refused: two readers of it see two hosts",
                code="address-refused",
                url=redacted(address.url),
                rule="one host for every reader",
            )
        self.budget.check()
        exchange = Exchange(address.target, self.until(CONNECT_TIME + HANDSHAKE_TIME), lambda: self.until(HEADER_TIME + _GRACE))
        connect = min(CONNECT_TIME, self.budget.remaining)
        self.watch.begin(exchange)
        set_current(exchange)
        try:
            raw = self._pool(address).urlopen(
                request.method or "GET",
                "/",
                headers=request.headers,
                body=request.body,
                redirect=False,
                retries=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                timeout=Timeout(connect=connect, read=min(IDLE_TIME, self.budget.remaining)),
            )
        except (HTTPError, OSError, ValueError) as error:
            self.watch.end(exchange)
            raise self.trouble(error, address, exchange) from error
        except BaseException:
            self.watch.end(exchange)
            raise
        finally:
            set_current(None)
        if len(set(raw.headers.getlist("Content-Length"))) > 1 or ("Content-Length" in raw.headers and "Transfer-Encoding" in raw.headers):
            # Two readers would see two ends of this body; the rest of it must not become the next answer.
            self.watch.end(exchange)
            raw.close()
            raise Trouble(_two_lengths(address.host.name, redacted(address.url)))
        answer = Answer()
        answer.status_code = raw.status
        answer.headers = CaseInsensitiveDict(raw.headers)
        answer.raw = raw
        answer.reason = raw.reason
        answer.url = redacted(address.url)
        answer.request = request
        answer.exchange, answer.address, answer.transport = exchange, address, self
        return answer

    def until(self, seconds: float) -> float:
        """The moment in so many seconds, or the end of the budget if that comes first."""
        return min(self.budget.now() + seconds, self.budget.deadline or float("inf"))

    def _pool(self, address: Address) -> Any:
        proxy = self._proxy(address)
        manager: PoolManager = self.poolmanager
        if proxy is not None:
            manager = self.proxy_manager_for(proxy)
            if not isinstance(manager, ProxyManager):
                raise self._bad_proxy(proxy, "only http and https proxies are spoken to")
            manager.pool_classes_by_scheme = POOLS
        options: dict[str, Any] = {}
        if address.scheme == "https":
            if self._context is None:
                self._context = self._trust.context()
            options = {"ssl_context": self._context, "cert_reqs": "CERT_REQUIRED"}
        return manager.connection_from_host(address.host.name.strip("[]"), address.host.port, address.scheme, pool_kwargs=options)

    def _proxy(self, address: Address) -> str | None:
        """The proxy that the environment names for this address; this machine itself is never asked through one (as in Go)."""
        if address.host.is_loopback:
            return None
        proxy = self._proxies.get(address.scheme) or self._proxies.get("all")
        if not proxy or urllib.request.proxy_bypass(f"{address.host.name}:{address.host.port}"):
            return None
        if "://" not in proxy:
            proxy = f"http://{proxy}"
        if not proxy.lower().startswith(("http://", "https://")):
            raise self._bad_proxy(proxy, "only http and https proxies are spoken to")
        return proxy

    def _bad_proxy(self, proxy: str, reason: str) -> InputError:
        return InputError(f"the proxy `{redacted(proxy)}` of the environment cannot be used: {reason}", code="usage", proxy=redacted(proxy))

    # -- failures of urllib3 and the socket in the words of marfetch: the one border

    def expired(self, address: Address) -> Trouble:
        """The watch has ended an exchange."""
        self.budget.check()
        return Trouble(
            RemoteError(
                f"`{address.host.name}` did not get on within the time (headers {HEADER_TIME:.0f} s, body {LEAST_RATE} bytes a second)",
                code="timeout",
                hint="something between here and there holds the answer back; try again later",
                url=redacted(address.url),
            )
        )

    def too_slow(self, address: Address, size: int, seconds: float) -> Trouble:
        """The body came in below the least rate."""
        return Trouble(
            RemoteError(
                f"`{address.host.name}` sent {size} bytes in {seconds:.0f} s, less than {LEAST_RATE} a second",
                code="timeout",
                hint="try again later; what was fetched is kept",
                url=redacted(address.url),
            )
        )

    def trouble(self, error: Exception, address: Address, exchange: Exchange) -> Trouble:
        """What a failure below means, and whether to try again.

        Raises:
            Cancelled: the command is being stopped.
        """
        self.budget.check()
        if exchange.expired:
            return self.expired(address)
        host, url = address.host.name, redacted(address.url)
        if isinstance(error, InvalidHeader):
            return Trouble(_two_lengths(host, url))
        inner = _innermost(error)
        if isinstance(error, (SSLError, ssl.SSLError)) and not isinstance(inner, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return Trouble(_tls_error(host, url, inner))
        if isinstance(error, ProxyError):
            return Trouble(_proxy_error(host, url, error), tries=2)
        if isinstance(error, NameResolutionError):
            reason = "its name cannot be resolved"
            return Trouble(_unreachable(host, url, reason, "check the spelling, the name service and the network"), tries=2)
        if isinstance(error, NewConnectionError):
            reason = str(error).rpartition(": ")[2].lower()
            return Trouble(_unreachable(host, url, reason, _FIREWALL_HINT), tries=TRIES)
        if isinstance(error, ConnectTimeoutError):
            return Trouble(_unreachable(host, url, f"no connection within {CONNECT_TIME:.0f} s", _FIREWALL_HINT), tries=TRIES)
        if isinstance(error, (ReadTimeoutError, TimeoutError)):
            late = RemoteError(
                f"no data from `{host}` for {IDLE_TIME:.0f} s", code="timeout", hint="try again; what was fetched is kept", url=url
            )
            return Trouble(late, tries=TRIES)
        cut = RemoteError(f"the connection to `{host}` was cut ({_reason(error)})", code="cut", hint="try again later", url=url)
        return Trouble(cut, tries=TRIES, at_once=exchange.reused)


_FIREWALL_HINT: Final = "`marfetch endpoints` shows what a firewall must let through"


def _two_lengths(host: str, url: str) -> IntegrityError:
    return IntegrityError(f"the answer of `{host}` has two lengths", code="malformed", url=url, rule="RFC 9112, 6.3")


def _innermost(error: BaseException) -> BaseException:
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    return error


def _reason(error: BaseException) -> str:
    """The innermost cause, in words."""
    inner = _innermost(error)
    text = " ".join(str(inner).split()) or type(inner).__name__
    return text[:160]


def _unreachable(host: str, url: str, reason: str, hint: str) -> RemoteError:
    return RemoteError(f"`{host}` cannot be reached: {reason}", code="unreachable", hint=hint, url=url, host=host)


def _proxy_error(host: str, url: str, error: Exception) -> RemoteError:
    reason = _reason(error)
    hint = "check `HTTPS_PROXY` and `NO_PROXY`"
    if "407" in reason:
        reason, hint = "it asks for credentials (407)", "put user and password into `HTTPS_PROXY`, as `http://USER:PASSWORD@HOST:PORT`"
    return RemoteError(f"the proxy does not lead to `{host}`: {reason}", code="proxy", hint=hint, url=url, host=host)


def _tls_error(host: str, url: str, error: BaseException) -> RemoteError:
    reason = getattr(error, "verify_message", "") or _reason(error)
    hint = "if a proxy of your company stands in between, give its certificate with `--ca-file`; the check is never turned off"
    if "expired" in reason or "not yet valid" in reason:
        hint = f"check the clock of this machine; {hint}"
    return RemoteError(f"the certificate of `{host}` cannot be trusted: {reason}", code="tls", hint=hint, url=url, host=host)
