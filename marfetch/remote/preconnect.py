"""Opens connections early, and sends a command's predicted first request while oras-py is still being imported.

The import takes longer than three round trips. In this time, marfetch resolves the registry's name, connects, and gets the first response.
While the manifest is requested, marfetch also connects to the data host. A connection that carries an early request serves only this
request. The early response counts only if the client later builds exactly the same bytes.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import __version__
from ..endpoint import Address, Endpoint, Preference
from ..errors import Error
from ..oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from ..records import Records
from ..reference import Pasted, Reference
from ..threads import started
from . import limits
from .deadlines import Exchange
from .dial import connect

if TYPE_CHECKING:
    import ssl

    from .certificates import TrustedCertificates


# -- the data host of the last redirect, to connect to it early


class DataHost:
    """Remembers the data host that the registry of one endpoint redirects to.

    Args:
        root: the cache directory.
    """

    def __init__(self, root: Path, endpoint: Endpoint) -> None:
        self._records = Records(root, "data-hosts")
        self._endpoint = endpoint
        self._known: Address | None = None

    @property
    def _only(self) -> Address | None:
        """The data host in the configuration, if it is the only one and has no wildcard."""
        hosts = self._endpoint.data_hosts
        if len(hosts) != 1 or hosts[0].wildcard:
            return None
        return Address.parse(f"https://{hosts[0].host}")

    def likely(self) -> Address | None:
        """Return the probable data host of the next download, if it is known and the endpoint allows it."""
        found = self._only
        if found is None:
            document = self._records.get(self._endpoint.name)
            if document is None or not isinstance(document.data, str):
                return None
            with suppress(Error):
                address = Address.parse(document.data)
                self._endpoint.check(address)
                if address.scheme == "https" and address.target == "/":
                    found = self._known = address
        return found if found is not None and not self._endpoint.is_registry(found) else None

    def keep(self, address: Address) -> None:
        """Remember the data host that the registry redirected to."""
        if self._only is None and (self._known is None or self._known.origin != address.origin):
            self._records.put(self._endpoint.name, address.origin)


# -- predicting the first request of a command; `remote.registry` builds the real requests with the same functions


USER_AGENT: Final = f"marfetch/{__version__} (+https://github.com/marfetch/marfetch)"
ALWAYS: Final = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
"""The headers of every request."""
LISTS: Final = {"Accept": "application/json"}
"""The headers of a list request."""
ACCEPT: Final = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"


class PredictedRequest(NamedTuple):
    """A GET request that a command will probably send to the registry.

    Attributes:
        target: the path.
        headers: the headers in addition to `ALWAYS`, in order.
    """

    target: str
    headers: dict[str, str]

    def bytes(self, address: Address) -> bytes:
        """Return the bytes of the HTTP/1.1 message (RFC 9112) to the registry at this address."""
        fields = {"Host": address.name, **ALWAYS, **self.headers}
        lines = [f"GET {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")


def manifest(reference: Reference, known: Descriptor | None) -> PredictedRequest:
    """Return the request for a manifest. It is conditional if the cache has the manifest."""
    headers = {"Accept": ACCEPT}
    if known is not None:
        headers["If-None-Match"] = f'"{known.digest}"'
    return PredictedRequest(f"/v2/{reference.repository}/manifests/{reference.tag or reference.digest}", headers)


def tags(reference: Reference) -> PredictedRequest:
    """Return the request for all tags."""
    return PredictedRequest(f"/v2/{reference.repository}/tags/list", dict(LISTS))


_LOOK: Final = 0.1
"""Seconds between two checks of whether an exchange that waits for a connection has expired."""


def always() -> bool:
    """Allow every early request."""
    return True


class Ready(NamedTuple):
    """An open connection.

    Attributes:
        sent: the bytes of the request that was sent early on this connection, if any.
    """

    socket: ssl.SSLSocket
    sent: bytes | None


class Preconnection:
    """One connection that a background thread opens.

    Args:
        address: an https address of the host.
        context: returns the TLS context that verifies the certificate.
        first: a speculative request to send as soon as the connection is open; None to send none.
        may: returns whether the request may be sent; called just before it is sent.
    """

    def __init__(
        self,
        address: Address,
        context: Callable[[], ssl.SSLContext],
        first: PredictedRequest | None = None,
        may: Callable[[], bool] = always,
    ) -> None:
        self._host, self._port = address.host.name.strip("[]"), address.host.port
        self._address = address
        self._target = first.target if first else None
        self._sent = first.bytes(address) if first else None
        self._may = may
        self._context = context
        self._outcome: ssl.SSLSocket | Exception | None = None
        self._since = time.monotonic()
        self._done = threading.Event()
        self._guard = threading.Lock()
        self._taken = False
        if started(self._open, "marfetch-ahead") is None:
            self._taken = True  # no thread could start, so the transport connects by itself
            self._done.set()

    def _open(self) -> None:
        try:
            assert self._port is not None, "every parsed address has a port"
            sock = connect(self._host, self._port, limits.CONNECT_TIME, [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
            try:
                context = self._context()
                sock.settimeout(limits.HANDSHAKE_TIME)
                opened = context.wrap_socket(sock, server_hostname=self._host)
                with self._guard:
                    if self._sent is not None and not self._may():
                        self._target = self._sent = None  # the host was throttled while the connection was opening
                    if self._sent is not None:
                        opened.sendall(self._sent)
                    self._since = time.monotonic()
                    self._outcome = opened
            except BaseException:
                sock.close()
                raise
        except Exception as error:
            with self._guard:
                self._outcome = error
        finally:
            self._done.set()
        with self._guard:
            if self._taken:  # `close` was called while the connection was opening
                self._drop()

    def send_early(self, first: PredictedRequest, may: Callable[[], bool] = always) -> bool:
        """Send a speculative request, at once or as soon as the connection is open.

        Args:
            may: as for `Preconnection`. If it returns False, nothing is sent and the connection stays usable.

        Returns:
            False if the connection was taken, or already carries a request. True for a connection that failed: the request gets its error.
        """
        with self._guard:
            if self._target is not None or self._taken:
                return False
            if isinstance(self._outcome, Exception) or not may():
                return True
            sent = first.bytes(self._address)
            self._may = may
            if self._outcome is not None:
                try:
                    self._outcome.sendall(sent)
                except OSError as error:
                    self._outcome = error
                    return False
            self._target, self._sent = first.target, sent
            return True

    def take(self, host: str, port: int | None, exchange: Exchange | None = None) -> Ready | None:
        """Wait until the connection is open, and return it.

        Args:
            exchange: the exchange that needs the connection. The wait ends when the exchange expires.

        Returns:
            None if the connection is to another host, carries another request, is too old, or was taken before.

        Raises:
            OSError: the connection failed or timed out. Only the first caller gets the error.
        """
        target = exchange.target if exchange is not None else None
        if (self._host, self._port) != (host, port) or self._target not in (None, target) or self.is_taken:
            return None
        end = time.monotonic() + limits.CONNECT_TIME + limits.HANDSHAKE_TIME
        while not self._done.wait(_LOOK) and time.monotonic() < end:
            if exchange is not None and exchange.expired:
                raise TimeoutError("no connection in time")
        with self._guard:
            if self._taken:
                return None
            self._taken = True
            outcome = self._outcome
            if isinstance(outcome, socket.socket) and time.monotonic() - self._since > limits.AHEAD_TIME:
                self._drop()  # the host may have closed the idle connection
                return None
            self._outcome = None
        if isinstance(outcome, Exception):
            raise outcome
        return Ready(outcome, self._sent) if outcome is not None else None

    @property
    def is_taken(self) -> bool:
        """Whether the connection was taken or closed, so that nothing else can use it."""
        return self._taken

    def close(self) -> None:
        """Close the connection unless it was taken."""
        with self._guard:
            if not self._taken:
                self._taken = True
                self._drop()

    def _drop(self) -> None:
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, socket.socket):
            with suppress(OSError):
                outcome.close()


class Preconnections:
    """The preconnections to the hosts of one endpoint.

    Args:
        registry: the address of the registry.
        context: returns the TLS context that verifies certificates.
        most: maximum number of connections per host.
    """

    def __init__(self, registry: Address, context: Callable[[], ssl.SSLContext], most: int) -> None:
        self._registry = registry
        self._context = context
        self._most = most
        self._opened: dict[Address, list[Preconnection]] = {}
        self._guard = threading.Lock()

    def open(self) -> None:
        """Start to open a connection to the registry, without sending a request."""
        self._add(self._registry, None)

    def send_early(self, first: PredictedRequest | None, may: Callable[[], bool] = always) -> None:
        """Send the predicted first request on a free connection to the registry. Open a connection if none is free.

        Args:
            first: the request; None if it cannot be predicted. Without a request, only a connection is opened.
            may: as for `Preconnection`.
        """
        if first is not None and not may():
            first = None
        with self._guard:
            opened = list(self._opened.get(self._registry, ()))
        if first is not None and not any(ahead.send_early(first, may) for ahead in opened):
            self._add(self._registry, first, may)
        elif not opened:
            self.open()

    def expect(self, data: Address) -> None:
        """Start to open a connection to a data host, which the next download of a blob will probably need."""
        self._add(data, None)

    def _add(self, address: Address, first: PredictedRequest | None, may: Callable[[], bool] = always) -> None:
        with self._guard:
            opened = self._opened.setdefault(address, [])
            if len(opened) < self._most:
                opened.append(Preconnection(address, self._context, first, may))

    def take(self, host: str, port: int | None, exchange: Exchange | None) -> Ready | None:
        """Return the first connection that matches, as `Preconnection.take` does; None if there is none."""
        with self._guard:
            opened = [ahead for some in self._opened.values() for ahead in some]
        for ahead in opened:
            ready = ahead.take(host, port, exchange)
            if ready is not None:
                return ready
        return None

    def close(self) -> None:
        """Close all connections that were not taken."""
        with self._guard:
            for some in self._opened.values():
                for ahead in some:
                    ahead.close()


# -- trust and preconnections per endpoint


class ConnectionSetup:
    """The trusted certificates and preconnections of one endpoint.

    Args:
        ca_file, jobs: as for `ConnectionSetups`.

    Attributes:
        early: the preconnections; None if the environment names a proxy, or for plain http.
    """

    def __init__(self, endpoint: Endpoint, ca_file: str | None, jobs: int) -> None:
        self._ca_file = ca_file
        self._trust: TrustedCertificates | None = None
        self._guard = threading.Lock()
        # Preconnections cannot use a proxy.
        proxied = any(name.lower().endswith("_proxy") and value for name, value in os.environ.items())
        direct = endpoint.registry.scheme == "https" and not proxied
        self.early = Preconnections(endpoint.registry, self._context, jobs) if direct else None

    @property
    def trust(self) -> TrustedCertificates:
        """The trusted certificates. The thread that connects asks for them while TCP connects, because they load `ssl`."""
        with self._guard:
            if self._trust is None:
                from .certificates import TrustedCertificates  # late: loads ssl, which only requests need

                self._trust = TrustedCertificates(self._ca_file)
            return self._trust

    def _context(self) -> ssl.SSLContext:
        return self.trust.context()


class ConnectionSetups:
    """The connection setups of one command.

    Args:
        ca_file: as for `TrustedCertificates`.
        jobs: maximum number of connections per host.
    """

    def __init__(self, ca_file: str | None, jobs: int) -> None:
        self._ca_file = ca_file
        self._jobs = jobs
        self._setups: dict[Endpoint, ConnectionSetup] = {}
        self._guard = threading.Lock()

    def for_endpoint(self, endpoint: Endpoint) -> ConnectionSetup:
        """Return the setup of an endpoint. The first call creates it."""
        with self._guard:
            if endpoint not in self._setups:
                self._setups[endpoint] = ConnectionSetup(endpoint, self._ca_file, self._jobs)
            return self._setups[endpoint]

    def open(self, endpoint: Endpoint) -> None:
        """Start to open a connection to the registry of an endpoint."""
        early = self.for_endpoint(endpoint).early
        if early is not None:
            early.open()

    def close(self) -> None:
        """Close all connections that were not used."""
        with self._guard:
            setups = list(self._setups.values())
        for setup in setups:
            if setup.early is not None:
                setup.early.close()

    def preconnect(self, text: str, preference: Preference) -> None:
        """Start to open a connection to the registry of a reference. Skip a reference with a digest, because it may be cached.

        Args:
            text: the reference as typed. An invalid reference is ignored here, and reported when the command uses it.
        """
        with suppress(Error):
            reference = Pasted.parse(text).reference
            early = self.for_endpoint(preference.of(reference)).early if reference.digest is None else None
            if early is not None:
                early.open()
