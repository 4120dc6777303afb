"""The `requests` adapter that sends every HTTP request to a registry or data host.

oras-py's session uses it for http and https. It checks every address against the endpoint before it connects, so oras-py cannot reach
another host. It sends the path and query byte for byte, follows no redirects, decodes no content and keeps no cookies. A watchdog enforces
the deadlines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from ..budget import Budget
from ..endpoint import Address, Endpoint
from ..errors import PolicyError
from ..reference import Host
from ..text import redacted
from . import limits
from .backoff import RequestFailed
from .certificates import TrustedCertificates
from .connection import POOLS
from .deadlines import Exchange, Watch
from .network_errors import expired, too_slow, trouble
from .preconnect import ALWAYS, Preconnections
from .proxies import Proxies

_READ: Final = 64 * 1024
_LARGEST_READ: Final = 1 << 20
_SMALL_READS: Final = 4 << 20
"""Bytes of a body that are read as they arrive, so that a cut loses little. After that, larger reads save time."""


class Sent(NamedTuple):
    """The method and body of a request.

    Attributes:
        body: the chunks of the body, which a retry iterates again; None for no body. A body needs a `Content-Length` header. A long upload
            passes a function that gets the exchange and returns the chunks, so that it can extend the deadline.
    """

    method: str = "GET"
    body: Iterable[bytes] | Callable[[Exchange], Iterable[bytes]] | None = None


GET: Final = Sent()


class ExactRequest(PreparedRequest):
    """A request whose address is sent byte for byte.

    Attributes:
        address: the requested address. `url` is the same address as text.
        came_from: the address that redirected to this one, if any.
        about_to_send: called when the connection is ready. It waits while the host is throttled, or raises an error. It returns whether
            it waited. If so, a request that was sent early must be sent again.
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
    """A response whose body has not been read yet. `close` releases the connection."""

    exchange: Exchange
    address: Address
    transport: Transport

    def pieces(self, most: int | None = None) -> Any:
        """Yield the undecoded body as it arrives.

        Args:
            most: maximum number of bytes to read.

        Raises:
            RequestFailed: the transfer failed, or is slower than the minimum rate.
            Cancelled: the command is being stopped.
        """
        budget, exchange = self.transport.budget, self.exchange
        received = 0
        mark, since = 0, budget.now()
        while most is None or received < most:
            large = received >= _SMALL_READS
            size = min(_LARGEST_READ, received // 8) if large else _READ
            size = size if most is None else min(size, most - received)
            # A read that is still running at this deadline is below the minimum rate.
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
        """Return the body.

        Args:
            limit: the maximum size in bytes.
            all_of_it: whether a longer body is an error. If not, it is truncated.

        Raises:
            RequestFailed: as for `pieces`; `limit-passed`: the body is longer than the limit.
        """
        announced = self.headers.get("Content-Length", "")
        if all_of_it and announced.isascii() and announced.isdigit() and int(announced[:18]) > limit:
            raise RequestFailed(_too_long(self.address, limit))
        body = bytearray()
        # Read one byte more than allowed, to detect a body that is too long.
        for piece in self.pieces(limit + 1 if all_of_it else limit):
            body += piece  # joining a list of tiny pieces would need many times the memory
        if len(body) > limit:
            raise RequestFailed(_too_long(self.address, limit))
        return bytes(body)

    def close(self) -> None:
        """Release the connection. It can be reused if the whole body was read."""
        self.transport.watch.end(self.exchange)
        super().close()


def _too_long(address: Address, limit: int) -> PolicyError:
    return PolicyError(
        f"the response of `{address.host}` is longer than {limit} bytes",
        code="limit-passed",
        hint="no valid response is that long; report it to the registry",
        url=redacted(address.url),
        rule=f"at most {limit} bytes",
    )


class Transport(HTTPAdapter):
    """Sends single requests to the hosts of one endpoint.

    Args:
        endpoint: the endpoint that every address is checked against.
        trust: the trusted certificates.
        early: the preconnections that may be used, if any.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget, trust: TrustedCertificates, early: Preconnections | None = None) -> None:
        self.endpoint = endpoint
        self.budget = budget
        self.watch = Watch(budget.now)
        self._trust = trust
        self._early = early
        self.proxies = Proxies()
        self._pools: dict[tuple[str, Host, str | None], Any] = {}
        super().__init__(pool_connections=8, pool_maxsize=limits.MAX_JOBS, max_retries=0, pool_block=False)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Use marfetch's own connection pools. The constructor of `HTTPAdapter` calls this method."""
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> StreamedResponse:
        """Send one request.

        Raises:
            PolicyError: the endpoint does not allow the address. Nothing was sent, and no name was resolved.
            RequestFailed: there is no response.
            Cancelled: the command is being stopped.
        """
        if not isinstance(request, ExactRequest):
            # oras-py built this request, so its address has not been parsed yet.
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
        answer.headers = raw.headers  # case-insensitive, like the headers of requests
        answer.raw = raw
        answer.reason = raw.reason
        answer.url = redacted(address.url)
        answer.request = request
        answer.exchange, answer.address, answer.transport = exchange, address, self
        return answer

    def until(self, seconds: float) -> float:
        """Return the time `seconds` from now, or the deadline of the command if it is earlier. Both are on the budget's clock."""
        return min(self.budget.now() + seconds, self.budget.deadline or float("inf"))

    def _pool(self, address: Address) -> Any:
        proxy = self.proxy(address)
        key = (address.scheme, address.host, proxy)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self._pool_of_manager(address, proxy)
        return pool

    def _pool_of_manager(self, address: Address, proxy: str | None) -> Any:
        manager: PoolManager = self.poolmanager
        if proxy is not None:
            manager = self.proxy_manager_for(proxy)
            manager.pool_classes_by_scheme = POOLS
        options: dict[str, Any] = {}
        if address.scheme == "https":
            options = {"ssl_context": self._trust.context(), "cert_reqs": "CERT_REQUIRED"}
        return manager.connection_from_host(address.host.name.strip("[]"), address.host.port, address.scheme, pool_kwargs=options)

    def close(self) -> None:
        """Close all connections and stop the watchdog."""
        self.watch.close()
        if self._early is not None:
            self._early.close()
        self._pools.clear()  # urllib3 closes the connections of a pool that nothing refers to
        super().close()

    def proxy(self, address: Address) -> str | None:
        """Return the URL of the proxy for an address; None without one.

        Raises:
            InputError: `usage`: the proxy setting is invalid.
        """
        found = self.proxies.of(address)
        return found.url if found is not None else None

    def ended(self, address: Address) -> RequestFailed:
        """Return the error for an exchange that the watchdog ended.

        Raises:
            Cancelled: the command is being stopped.
            RemoteError: `timeout`: the budget is used up.
        """
        self.budget.check()
        return expired(address)

    def trouble(self, error: Exception, address: Address, exchange: Exchange) -> RequestFailed:
        """Translate a failure of urllib3 or the socket to an error of marfetch.

        Raises:
            Cancelled, RemoteError: as for `ended`.
        """
        self.budget.check()
        if exchange.expired:
            return expired(address)
        return trouble(error, address, reused=exchange.reused, proxy=self.proxies.of(address), trusted=self._trust.description)
