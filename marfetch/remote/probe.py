"""Network checks of one host, for `marfetch doctor`: DNS, a connection to each address, and one request without retries.

Requests use the ordinary transport. A connection to a single address only does a TLS handshake. If the certificate is not trusted, two
more connections read its issuer. They send no data.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Final

from .. import threads
from ..budget import Budget
from ..endpoint import Address, Endpoint
from ..errors import Error, RemoteError
from . import limits
from .backoff import RequestFailed
from .certificates import TrustedCertificates
from .dial import resolve
from .http_errors import BLOCK_PAGE, EDGE_REF
from .network_errors import words
from .pages import resolve as follow
from .proxies import Proxies, Proxy
from .transport import GET, ExactRequest, Transport

HASTE: Final = 1.0
"""Maximum seconds for each step of reading an untrusted certificate. The limit is short, because the result is optional."""
FAMILIES: Final = ((4, socket.AF_INET), (6, socket.AF_INET6))


@dataclass(frozen=True, slots=True)
class NameLookup:
    """The DNS result for a host.

    Attributes:
        addresses: pairs of IP version (4 or 6) and address, in the resolver's order.
        failure: why there is no address at all.
    """

    addresses: tuple[tuple[int, str], ...]
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """The result of a connection to one address.

    Attributes:
        family: the IP version, 4 or 6; 0 for a connection through a proxy.
        address: the IP address, or `proxy`.
        stage: the step that failed, `tcp` or `tls`; `done` if the connection succeeded.
        failure: why the step failed.
        verify: OpenSSL's error code for the certificate; None if the certificate was not the problem.
        issuer: the organization and name of the certificate's issuer.
        seconds: how long the connection and the handshake took.
    """

    family: int
    address: str
    stage: str
    failure: str | None = None
    verify: int | None = None
    issuer: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One HTTP response.

    Attributes:
        address: the address of the request.
        body: the beginning of the body.
    """

    address: Address
    status: int
    headers: dict[str, str]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header, whose name is case-insensitive."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)

    @property
    def text(self) -> str:
        """The beginning of the body, as text."""
        return self.body[:65_536].decode("utf-8", "replace")

    @property
    def edge_reference(self) -> str | None:
        """The reference ID that Microsoft's support asks for, from `X-Msedge-Ref` or a block page."""
        return self.header("X-Msedge-Ref") or next(iter(re.findall(EDGE_REF, self.text)), None)

    @property
    def is_block_page(self) -> bool:
        """Whether the body looks like the block page of a firewall."""
        return re.search(BLOCK_PAGE, self.text) is not None

    def target(self, location: str) -> Address:
        """Resolve a `Location` header of this response to an address.

        Raises:
            PolicyError: `address-refused`.
        """
        return follow(self.address, location)


class Prober:
    """Checks the hosts of one endpoint.

    Args:
        ca_file: as for `TrustedCertificates`.
        patience: the timeout of each step, in seconds.
    """

    def __init__(self, endpoint: Endpoint, ca_file: str | None, *, patience: float) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self._trust = TrustedCertificates(ca_file)

    def hurried(self, patience: float) -> Prober:
        """Return a prober with a shorter timeout for each step."""
        hurried = copy(self)
        hurried.patience = min(patience, self.patience)
        return hurried

    def names(self, host: str, port: int) -> NameLookup:
        """Resolve a host, with one query for IPv4 and one for IPv6. Some DNS servers respond to only one of them."""
        found: list[tuple[int, str]] = []
        failures: list[str] = []

        def ask(family: tuple[int, int]) -> list[tuple[int, str]] | str:
            try:
                answers = resolve(host.strip("[]"), port, self.patience, family=family[1])
            except OSError as error:
                return (error.strerror or str(error)).lower()
            return [(family[0], str(info[4][0])) for info in answers]

        with threads.pool(2) as pool:
            for answer in pool.map(ask, FAMILIES):
                if isinstance(answer, str):
                    failures.append(answer)
                else:
                    found += answer
        return NameLookup(tuple(dict.fromkeys(found)), failures[0] if failures and not found else None)

    def reach(self, host: str, port: int, names: NameLookup, *, tls: bool) -> list[Reached]:
        """Connect to all addresses in parallel. With `tls`, also do a TLS handshake."""
        if not names.addresses:
            return []
        with threads.pool(min(16, len(names.addresses))) as pool:
            return list(pool.map(lambda one: self._reach(host, port, *one, tls=tls), names.addresses))

    def through(self, proxy: str, host: str, port: int) -> Reached:
        """Connect to a host through a proxy, to see which certificate arrives."""
        begun = time.monotonic()
        try:
            with tunnel(proxy, host, port, self.patience) as sock:
                stage, failure, verify, issuer = self._greet(sock, host)
        except OSError as error:
            return Reached(0, "proxy", "tcp", _words(error, self.patience), seconds=time.monotonic() - begun)
        if verify is not None and issuer is None:
            with suppress(OSError):
                issuer = self._untrusted_issuer(host, lambda: tunnel(proxy, host, port, self.patience))
        return Reached(0, "proxy", stage, failure, verify, issuer, time.monotonic() - begun)

    def get(self, address: Address, headers: dict[str, str] | None = None, *, came_from: Address | None = None) -> Seen:
        """Send one GET request, without retries or redirects.

        Raises:
            Error: there is no response, or the endpoint does not allow the address.
        """
        transport = Transport(self.endpoint, Budget(self.patience), self._trust)
        try:
            answer = transport.send(ExactRequest(GET, address, headers or {}, came_from=came_from))
            try:
                body = answer.body(limits.MAX_PAGE_SIZE, all_of_it=False)
                return Seen(address, answer.status_code, dict(answer.headers), body)
            finally:
                answer.close()
        except RequestFailed as trouble:
            raise trouble.error from trouble
        except RemoteError as error:
            if error.code != "timeout":
                raise
            raise RemoteError(f"no response from `{address.name}` within {self.patience:.0f} s", code="timeout") from error
        finally:
            transport.close()

    def proxy(self, address: Address) -> Proxy | None:
        """Return the proxy for an address; None without one.

        Raises:
            InputError: `usage`: the proxy setting is invalid.
        """
        return Proxies().of(address)

    def _reach(self, host: str, port: int, family: int, address: str, *, tls: bool) -> Reached:
        begun = time.monotonic()

        def connect() -> socket.socket:
            sock = socket.socket(dict(FAMILIES)[family])
            try:
                sock.settimeout(self.patience)
                sock.connect((address, port))
            except BaseException:
                sock.close()
                raise
            return sock

        try:
            sock = connect()
        except OSError as error:
            return Reached(family, address, "tcp", _words(error, self.patience), seconds=time.monotonic() - begun)
        with sock:
            if not tls:
                return Reached(family, address, "done", seconds=time.monotonic() - begun)
            stage, failure, verify, issuer = self._greet(sock, host)
        if verify is not None and issuer is None:
            with suppress(OSError):
                issuer = self._untrusted_issuer(host, connect)
        return Reached(family, address, stage, failure, verify, issuer, time.monotonic() - begun)

    def _greet(self, sock: socket.socket, host: str) -> tuple[str, str | None, int | None, str | None]:
        sock.settimeout(self.patience)
        try:
            with self._trust.context().wrap_socket(sock, server_hostname=host.strip("[]")) as secure:
                return "done", None, None, _issuer(secure.getpeercert())
        except ssl.SSLCertVerificationError as error:
            return "tls", str(error.verify_message or error).lower(), error.verify_code, None
        except OSError as error:
            return "tls", _words(error, self.patience), None, None
        except Error as error:  # the file of `--ca-file` cannot be read
            return "tls", error.message, None, None

    def _untrusted_issuer(self, host: str, connect: Callable[[], socket.socket]) -> str | None:
        """Return the issuer of an untrusted certificate.

        Python parses only trusted certificates. So read the raw certificate first, then connect again and trust only this certificate.
        """
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
        with connect() as sock:
            sock.settimeout(min(HASTE, self.patience))
            with plain.wrap_socket(sock, server_hostname=host.strip("[]")) as secure:
                raw = secure.getpeercert(binary_form=True)
        if raw is None:
            return None
        itself = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        itself.check_hostname = False
        itself.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        itself.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(raw))
        with connect() as sock:
            sock.settimeout(min(HASTE, self.patience))
            with itself.wrap_socket(sock, server_hostname=host.strip("[]")) as secure:
                return _issuer(secure.getpeercert())


def tunnel(proxy: str, host: str, port: int, timeout: float) -> socket.socket:
    """Open a tunnel through a proxy (RFC 9110, 9.3.6).

    Raises:
        OSError: the proxy cannot be reached or refused the tunnel.
    """
    split = urllib.parse.urlsplit(proxy)
    end = time.monotonic() + timeout
    sock = socket.create_connection((split.hostname or "", split.port or 80), timeout=timeout)
    try:
        sock.settimeout(timeout)
        lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
        if split.username:
            user = f"{urllib.parse.unquote(split.username)}:{urllib.parse.unquote(split.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}")
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 65_536:
            sock.settimeout(max(0.001, end - time.monotonic()))  # one deadline for the whole response, which may be slow
            piece = sock.recv(1)
            if not piece:
                break
            head += piece
        status = re.match(rb"HTTP/1\.[01] ([0-9]{3})", head)
        if status is None or status[1] != b"200":
            raise OSError(f"the proxy answered {status[1].decode() if status else 'with an invalid HTTP response'}")
    except BaseException:
        sock.close()
        raise
    sock.settimeout(timeout)
    return sock


def _issuer(certificate: object) -> str | None:
    """Return the organization and name of a certificate's issuer, separated by a comma."""
    if not isinstance(certificate, dict):
        return None
    facts = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    words = [facts[key] for key in ("organizationName", "commonName") if facts.get(key)]
    return ", ".join(dict.fromkeys(words)) or None


def _words(error: OSError, patience: float) -> str:
    """Describe a failure of a socket in a few words."""
    if isinstance(error, TimeoutError):
        return f"no answer within {patience:.0f} s"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "the connection was cut"
    return words(error)
