"""The transport adapter: the one place from which bytes leave the machine.

It is mounted on the session of oras-py's registry for both schemes and asks the endpoint about every address before it connects, so
that nothing of oras-py can reach another host. It sends the target byte for byte, follows no redirect, decodes nothing, keeps cookies
of nobody, and has the watch look after each exchange.
"""

from __future__ import annotations

import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import PoolManager, ProxyManager, Timeout
from urllib3.exceptions import HTTPError

from ..budget import Budget
from ..endpoint import Address, Endpoint
from ..errors import InputError, PolicyError
from ..text import redacted
from . import limits
from .backoff import RequestFailed
from .certificates import TrustedCertificates
from .connection import POOLS
from .deadlines import Exchange, Watch
from .network_errors import expired, too_slow, trouble
from .preconnect import ALWAYS, Preconnections

_READ: Final = 64 * 1024
_LARGEST_READ: Final = 1 << 20
_SMALL_READS: Final = 4 << 20
"""Up to here every arriving piece is taken at once, so that a cut loses little; then larger reads save time."""


class Sent(NamedTuple):
    """What a request does, and what it carries.

    Attributes:
        body: gives its bytes, anew each time it is iterated; goes with a `Content-Length`. One that takes long is called with the exchange
            that carries it, so that it can put the deadline off.
    """

    method: str = "GET"
    body: Iterable[bytes] | Callable[[Exchange], Iterable[bytes]] | None = None


GET: Final = Sent()


class ExactRequest(PreparedRequest):
    """A request whose address goes out as it is, and the exchange that carries it.

    Attributes:
        address: what is asked; `url` is made of it.
        came_from: the address whose redirect led here.
        about_to_send: called when the connection is there; it may wait, or raise, and says whether what was asked ahead is out of date.
    """

    def __init__(
        self,
        sent: Sent,
        address: Address,
        headers: dict[str, str],
        *,
        came_from: Address | None = None,
        about_to_send: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self.method = sent.method
        self.address = address
        self.url = address.url
        self.headers = CaseInsensitiveDict({**ALWAYS, **headers})
        self.body = sent.body  # type: ignore[assignment]
        self.came_from = came_from
        self.about_to_send = about_to_send


class StreamedResponse(Response):
    """An answer whose body has not been read; `close` gives everything back."""

    exchange: Exchange
    address: Address
    transport: Transport

    def pieces(self, most: int | None = None) -> Any:
        """The bytes of the body as they come, undecoded.

        Args:
            most: how many are read.

        Raises:
            Trouble: the transfer failed; one that the watch or the least rate has ended is not to be tried again.
            Cancelled: the command is being stopped.
        """
        budget, exchange = self.transport.budget, self.exchange
        received = 0
        mark, since = 0, budget.now()
        while most is None or received < most:
            large = received >= _SMALL_READS
            size = min(_LARGEST_READ, received // 8) if large else _READ
            size = size if most is None else min(size, most - received)
            # A read of 64 KiB that takes longer than this is below the least rate.
            exchange.deadline = self.transport.until(max(limits.RATE_TIME, size / limits.LEAST_RATE))
            try:
                piece = self.raw.read(size, decode_content=False) if large else self.raw.read1(size, decode_content=False)
            except (HTTPError, OSError, ValueError) as error:
                raise self.transport.trouble(error, self.address, exchange) from error
            if exchange.expired:
                raise self.transport.ended(self.address)
            budget.check()
            if not piece:
                return
            received += len(piece)
            now = budget.now()
            if now - since >= limits.RATE_TIME:
                if received - mark < limits.LEAST_RATE * (now - since):
                    raise too_slow(self.address, received - mark, now - since)
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
            raise RequestFailed(_too_long(self.address, limit))
        body = bytearray()
        # One byte more tells a body that is too long.
        for piece in self.pieces(limit + 1 if all_of_it else limit):
            body += piece  # a list of pieces would take many times the memory where they are tiny
        if len(body) > limit:
            raise RequestFailed(_too_long(self.address, limit))
        return bytes(body)

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
        early: connections that are being opened already.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget, trust: TrustedCertificates, early: Preconnections | None = None) -> None:
        self.endpoint = endpoint
        self.budget = budget
        self.watch = Watch(budget.now)
        self._trust = trust
        self._early = early
        self._proxies = urllib.request.getproxies()
        super().__init__(pool_connections=8, pool_maxsize=limits.MAX_JOBS, max_retries=0, pool_block=False)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Pools with our own connections (an override of requests; called by its constructor)."""
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> StreamedResponse:
        """Send one request.

        Raises:
            PolicyError: the endpoint does not cover the address; nothing was sent, and no name was resolved.
            Trouble: no answer.
            Cancelled: the command is being stopped.
        """
        if not isinstance(request, ExactRequest):
            # Whatever oras-py might send on its own way: its address is read and checked like any other.
            request = ExactRequest(Sent(request.method or "GET"), Address.parse(request.url or ""), dict(request.headers))
        address = request.address
        self.endpoint.check(address, came_from=request.came_from)
        self.budget.check()
        exchange = Exchange(
            address.target,
            self.until(limits.CONNECT_TIME + limits.HANDSHAKE_TIME),
            lambda: self.until(limits.HEADER_TIME + limits.GRACE),
            request.about_to_send,
        )
        connect = min(limits.CONNECT_TIME, self.budget.remaining)
        idle = limits.IDLE_TIME if request.body is None else limits.COMMIT_TIME
        self.watch.begin(exchange)
        body: Any = request.body
        try:
            pool = self._pool(address).carrying(exchange, self._early)
            raw = pool.urlopen(
                request.method or "GET",
                "/",
                headers=request.headers,
                body=body(exchange) if callable(body) else body,
                redirect=False,
                retries=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                timeout=Timeout(connect=connect, read=min(idle, self.budget.remaining)),
            )
        except (HTTPError, OSError, ValueError) as error:
            self.watch.end(exchange)
            raise self.trouble(error, address, exchange) from error
        except BaseException:
            self.watch.end(exchange)
            raise
        answer = StreamedResponse()
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
        proxy = self.proxy(address)
        manager: PoolManager = self.poolmanager
        if proxy is not None:
            manager = self.proxy_manager_for(proxy)
            if not isinstance(manager, ProxyManager):
                raise self._bad_proxy(proxy, "only http and https proxies are spoken to")
            manager.pool_classes_by_scheme = POOLS
        options: dict[str, Any] = {}
        if address.scheme == "https":
            options = {"ssl_context": self._trust.context(), "cert_reqs": "CERT_REQUIRED"}
        return manager.connection_from_host(address.host.name.strip("[]"), address.host.port, address.scheme, pool_kwargs=options)

    def close(self) -> None:
        """Drop all connections, and end the watch."""
        self.watch.close()
        if self._early is not None:
            self._early.close()
        super().close()

    def proxy(self, address: Address) -> str | None:
        """The proxy that the environment names for this address; this machine itself is never asked through one (as in Go)."""
        if address.host.is_loopback:
            return None
        proxy = self._proxies.get(address.scheme) or self._proxies.get("all")
        if not proxy or urllib.request.proxy_bypass(f"{address.host.name}:{address.host.port}"):
            return None
        if not proxy.isascii() or not proxy.isprintable():
            raise self._bad_proxy(proxy, "it holds a control character or one outside ASCII")
        if "://" not in proxy:
            proxy = f"http://{proxy}"
        if not proxy.lower().startswith(("http://", "https://")):
            raise self._bad_proxy(proxy, "only http and https proxies are spoken to")
        with suppress(ValueError):
            parsed = urllib.parse.urlsplit(proxy)
            if parsed.hostname and parsed.port != 0:  # reading the port raises where it is no number
                return proxy
        raise self._bad_proxy(proxy, "it is no address of the form `http://host:port`")

    def _bad_proxy(self, proxy: str, reason: str) -> InputError:
        # What cannot be read may hold a password anywhere, so that only its scheme is shown.
        scheme, found, _ = proxy.partition("://")
        shown = f"{redacted(scheme)[:20]}://…" if found else "…"
        return InputError(f"the proxy `{shown}` of the environment cannot be used: {reason}", code="usage", proxy=shown)

    def ended(self, address: Address) -> RequestFailed:
        """The watch has ended an exchange.

        Raises:
            Cancelled: because the command is being stopped.
            RemoteError: `timeout`: because the budget is used up.
        """
        self.budget.check()
        return expired(address)

    def trouble(self, error: Exception, address: Address, exchange: Exchange) -> RequestFailed:
        """What a failure below means.

        Raises:
            Cancelled, RemoteError: as `ended`.
        """
        self.budget.check()
        return expired(address) if exchange.expired else trouble(error, address, reused=exchange.reused)
