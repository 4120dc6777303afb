"""Opens connections while the rest of marfetch is still being loaded, or while an answer is awaited, and asks the first thing.

Loading oras-py and what it needs takes longer than three round trips; in that time the registry's name is looked up, TCP and TLS are
done, and its first answer has come. The data host's connection is opened while the registry is asked for the manifest. Each is only
handed to the request that it was opened for, or closed.
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
from . import limits
from .deadlines import Exchange
from .dial import connect

if TYPE_CHECKING:
    import ssl

    from .certificates import TrustedCertificates


# -- where an endpoint's blobs lie: what its redirects said last time, so that a connection to it can be opened ahead


class DataHost:
    """The data host of one endpoint.

    Args:
        root: the cache.
    """

    def __init__(self, root: Path, endpoint: Endpoint) -> None:
        self._kept = Records(root, "data-hosts")
        self._endpoint = endpoint
        self._known: Address | None = None

    @property
    def _only(self) -> Address | None:
        """The one that is named, where it is one host and no pattern for many."""
        hosts = self._endpoint.data_hosts
        if len(hosts) != 1 or hosts[0].wildcard:
            return None
        return Address.parse(f"https://{hosts[0].host}")

    def likely(self) -> Address | None:
        """The host that the next redirect is going to lead to, as far as can be told; none that it must not lead to."""
        found = self._only
        if found is None:
            document = self._kept.get(self._endpoint.name)
            if document is None or not isinstance(document.data, str):
                return None
            with suppress(Error):
                address = Address.parse(document.data)
                self._endpoint.check(address)
                if address.scheme == "https" and address.target == "/":
                    found = self._known = address
        return found if found is not None and not self._endpoint.is_registry(found) else None

    def keep(self, address: Address) -> None:
        """A redirect led there."""
        if self._only is None and (self._known is None or self._known.origin != address.origin):
            self._kept.put(self._endpoint.name, address.origin)


# -- the requests that a command may begin with: as bytes they are known before oras-py is there, and `remote.registry` asks the same


USER_AGENT: Final = f"marfetch/{__version__} (+https://github.com/marfetch/marfetch)"
ALWAYS: Final = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
"""The headers of every request."""
LISTS: Final = {"Accept": "application/json"}
"""Those of a request for a list."""
ACCEPT: Final = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"


class PredictedRequest(NamedTuple):
    """One GET to the registry.

    Attributes:
        target: the path.
        headers: besides those of every request, in their order.
    """

    target: str
    headers: dict[str, str]

    def bytes(self, address: Address) -> bytes:
        """As HTTP/1.1 writes it (RFC 9112).

        Args:
            address: the registry.
        """
        fields = {"Host": address.name, **ALWAYS, **self.headers}
        lines = [f"GET {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")


def manifest(reference: Reference, known: Descriptor | None) -> PredictedRequest:
    """Ask for a manifest, unless it is the known one still."""
    headers = {"Accept": ACCEPT}
    if known is not None:
        headers["If-None-Match"] = f'"{known.digest}"'
    return PredictedRequest(f"/v2/{reference.repository}/manifests/{reference.tag or reference.digest}", headers)


def tags(reference: Reference) -> PredictedRequest:
    """Ask for all tags."""
    return PredictedRequest(f"/v2/{reference.repository}/tags/list", dict(LISTS))


_LOOK: Final = 0.1
"""Seconds between two looks at whether a connection is still waited for."""


def always() -> bool:
    """A host that may be asked whenever somebody likes."""
    return True


class Ready(NamedTuple):
    """A connection that is open.

    Attributes:
        sent: the request that it carries already.
    """

    socket: ssl.SSLSocket
    sent: bytes | None


class Preconnection:
    """One connection that is being opened.

    Args:
        address: whose host it leads to; https.
        context: makes the context that decides about the certificate, as for every other connection.
        first: is sent over it at once; see `give`.
        may: whether the host may be asked; looked at in the moment before it is. Where it may not, nothing is sent.
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
        threading.Thread(target=self._open, name="marfetch-ahead", daemon=True).start()

    def _open(self) -> None:
        try:
            assert self._port is not None, "an address has its port"
            sock = connect(self._host, self._port, limits.CONNECT_TIME, [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
            try:
                context = self._context()
                sock.settimeout(limits.HANDSHAKE_TIME)
                opened = context.wrap_socket(sock, server_hostname=self._host)
                with self._guard:
                    if self._sent is not None and not self._may():
                        self._target = self._sent = None  # told to wait while it was being opened
                    if self._sent is not None:
                        opened.sendall(self._sent)
                    self._since = time.monotonic()
                    self._outcome = opened
            except BaseException:
                sock.close()
                raise
        except Exception as error:
            self._outcome = error
        finally:
            self._done.set()
        with self._guard:
            if self._taken:  # it is no longer wanted, and was not open yet when that was said
                self._drop()

    def give(self, first: PredictedRequest, may: Callable[[], bool] = always) -> bool:
        """Ask this over it; False where something else is asked over it already, or it is lost.

        Args:
            may: as for `Preconnection`; where it may not, the connection stays what it is.
        """
        with self._guard:
            if self._target is not None or self._taken or isinstance(self._outcome, Exception):
                return False
            if not may():
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
        """The connection, if it leads there, carries nothing but this request, and nobody has taken it; waits until it is open.

        Args:
            exchange: what is going to be asked for over it; it is waited for until the watch has ended that.

        Raises:
            OSError: it could not be opened, or not in time; said to the first one who wanted it.
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
            self._taken = True  # for one request only
            outcome = self._outcome
            if isinstance(outcome, socket.socket) and time.monotonic() - self._since > limits.AHEAD_TIME:
                self._drop()  # its host may have given it up by now
                return None
            self._outcome = None
        if isinstance(outcome, Exception):
            raise outcome
        return Ready(outcome, self._sent) if outcome is not None else None

    @property
    def is_taken(self) -> bool:
        """Whether it is no longer to be had."""
        return self._taken

    def close(self) -> None:
        """Close it if nobody has taken it."""
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
    """The connections to one endpoint that are opened ahead.

    Args:
        registry: where everything begins.
        context: as for `Preconnection`.
        most: connections to one host.
    """

    def __init__(self, registry: Address, context: Callable[[], ssl.SSLContext], most: int) -> None:
        self._registry = registry
        self._context = context
        self._most = most
        self._opened: dict[Address, list[Preconnection]] = {}
        self._guard = threading.Lock()

    def open(self) -> None:
        """Open a connection to the registry; what is asked over it comes later."""
        self._add(self._registry, None)

    def ask(self, first: PredictedRequest | None, may: Callable[[], bool] = always) -> None:
        """Ask this over a connection to the registry that is there or being opened, or over one more.

        Args:
            first: None: what that will be is not known.
            may: as for `Preconnection`.
        """
        if first is not None and not may():
            first = None
        with self._guard:
            opened = list(self._opened.get(self._registry, ()))
        if first is not None and not any(ahead.give(first, may) for ahead in opened):
            self._add(self._registry, first, may)
        elif not opened:
            self.open()

    def expect(self, data: Address) -> None:
        """Open a connection to a data host, for a blob whose manifest is about to be asked for."""
        self._add(data, None)

    def _add(self, address: Address, first: PredictedRequest | None, may: Callable[[], bool] = always) -> None:
        with self._guard:
            opened = self._opened.setdefault(address, [])
            if len(opened) < self._most:
                opened.append(Preconnection(address, self._context, first, may))

    def take(self, host: str, port: int | None, exchange: Exchange | None) -> Ready | None:
        """As `Ahead.take`, of the first one that fits."""
        with self._guard:
            opened = [ahead for some in self._opened.values() for ahead in some]
        for ahead in opened:
            ready = ahead.take(host, port, exchange)
            if ready is not None:
                return ready
        return None

    def close(self) -> None:
        """Close what nobody has taken."""
        with self._guard:
            for some in self._opened.values():
                for ahead in some:
                    ahead.close()


# -- how endpoints are reached, before there is a registry to ask: trust, and the connections that are opened ahead


class ConnectionSetup(NamedTuple):
    """The way to one endpoint.

    Attributes:
        early: connections that are opened ahead; None where something stands in between.
    """

    trust: TrustedCertificates
    early: Preconnections | None


class ConnectionSetups:
    """The ways of one command.

    Args:
        ca_file: as `TrustedCertificates`.
        jobs: connections to one host.
    """

    def __init__(self, ca_file: str | None, jobs: int) -> None:
        self._ca_file = ca_file
        self._jobs = jobs
        self._ways: dict[Endpoint, ConnectionSetup] = {}
        self._guard = threading.Lock()

    def to(self, endpoint: Endpoint) -> ConnectionSetup:
        """The way to an endpoint. Here TLS is loaded."""
        with self._guard:
            if endpoint not in self._ways:
                from .certificates import TrustedCertificates  # late: ssl, only where a registry is asked

                trust = TrustedCertificates(self._ca_file)
                # A proxy is for the transport to find; without one, connections are opened while oras-py is being loaded.
                proxied = any(name.lower().endswith("_proxy") and value for name, value in os.environ.items())
                alone = endpoint.registry.scheme == "https" and not proxied
                self._ways[endpoint] = ConnectionSetup(
                    trust, Preconnections(endpoint.registry, trust.context, self._jobs) if alone else None
                )
            return self._ways[endpoint]

    def preconnect(self, text: str, preference: Preference) -> None:
        """Open a connection to where a reference leads; not for one with a digest, which the cache may hold. Nothing is asked yet.

        Args:
            text: the reference as it was given. What is wrong with it is said when it is its turn.
        """
        with suppress(Error):
            reference = Pasted.parse(text).reference
            early = self.to(preference.of(reference)).early if reference.digest is None else None
            if early is not None:
                early.open()
