"""Single looks at a host, for the doctor: its addresses, a connection to each of them, and one request without another try.

Requests go through the transport that everything else uses. A connection to a single address sends nothing but a TLS greeting; where
the certificate is not trusted, a second greeting reads who issued it, and nothing ever comes over that one.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Final

from ..budget import Budget
from ..endpoint import Address, Endpoint
from ..errors import Error, RemoteError
from . import limits
from .backoff import RequestFailed
from .certificates import TrustedCertificates
from .dial import resolve
from .http_errors import BLOCK_PAGE, EDGE_REF
from .pages import resolve as follow
from .transport import GET, ExactRequest, Transport

HASTE: Final = 1.0
"""Seconds for each step of the look at a certificate that is not trusted, at most."""
FAMILIES: Final = ((4, socket.AF_INET), (6, socket.AF_INET6))


@dataclass(frozen=True, slots=True)
class NameLookup:
    """What the name service says of a host.

    Attributes:
        addresses: family (4, 6) and address, in the order of the resolver.
        failure: what it said where there is no address at all.
    """

    addresses: tuple[tuple[int, str], ...]
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """What came of a connection to one address.

    Attributes:
        stage: how far it came: `tcp` or `tls` where it failed there, `done`.
        failure: of the stage, in words.
        verify: OpenSSL's number of what is wrong with the certificate; None where it was not the certificate.
        issuer: who issued the certificate: organisation and name.
        seconds: that it took.
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
    """One answer.

    Attributes:
        body: its beginning.
    """

    address: Address
    status: int
    headers: dict[str, str]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, whatever its case."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)

    @property
    def text(self) -> str:
        """The beginning of the body, as text."""
        return self.body[:65_536].decode("utf-8", "replace")

    @property
    def edge_reference(self) -> str | None:
        """The id that support asks for: `X-Msedge-Ref`, or as a block page shows it."""
        return self.header("X-Msedge-Ref") or next(iter(EDGE_REF.findall(self.text)), None)

    @property
    def is_block_page(self) -> bool:
        """Whether the body reads as the page of a firewall."""
        return BLOCK_PAGE.search(self.text) is not None

    def target(self, location: str) -> Address:
        """The address that a `Location` header names.

        Raises:
            PolicyError: `address-refused`.
        """
        return follow(self.address, location)


class Prober:
    """Looks at hosts of one endpoint.

    Args:
        ca_file: as `TrustedCertificates`.
        patience: seconds for each single step.
    """

    def __init__(self, endpoint: Endpoint, ca_file: str | None, *, patience: float) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self._trust = TrustedCertificates(ca_file)

    def hurried(self, patience: float) -> Prober:
        """The same with at most so many seconds for each single step."""
        hurried = copy(self)
        hurried.patience = min(patience, self.patience)
        return hurried

    def names(self, host: str, port: int) -> NameLookup:
        """The addresses of a host, each family asked for by itself, as a half-open name service answers one and not the other."""
        found: list[tuple[int, str]] = []
        failures: list[str] = []

        def ask(family: tuple[int, int]) -> list[tuple[int, str]] | str:
            try:
                answers = resolve(host.strip("[]"), port, self.patience, family=family[1])
            except OSError as error:
                return (error.strerror or str(error)).lower()
            return [(family[0], str(info[4][0])) for info in answers]

        with ThreadPoolExecutor(2) as pool:
            for answer in pool.map(ask, FAMILIES):
                if isinstance(answer, str):
                    failures.append(answer)
                else:
                    found += answer
        return NameLookup(tuple(dict.fromkeys(found)), failures[0] if failures and not found else None)

    def reach(self, host: str, port: int, names: NameLookup, *, tls: bool) -> list[Reached]:
        """A connection to every address, side by side."""
        if not names.addresses:
            return []
        with ThreadPoolExecutor(min(16, len(names.addresses))) as pool:
            return list(pool.map(lambda one: self._reach(host, port, *one, tls=tls), names.addresses))

    def through(self, proxy: str, host: str, port: int) -> Reached:
        """A connection through a proxy, to see whose certificate comes back."""
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
        """One request, one answer.

        Raises:
            Error: no answer, or the endpoint does not cover the address.
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
            raise RemoteError(f"`{address.name}` gave no answer within {self.patience:.0f} s", code="timeout") from error
        finally:
            transport.close()

    def proxy(self, address: Address) -> str | None:
        """The proxy that is used for an address.

        Raises:
            InputError: `usage`: it cannot be used.
        """
        transport = Transport(self.endpoint, Budget(self.patience), self._trust)
        try:
            return transport.proxy(address)
        finally:
            transport.close()

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
        except Error as error:  # the certificates that are to be trusted cannot be read
            return "tls", error.message, None, None

    def _untrusted_issuer(self, host: str, connect: Callable[[], socket.socket]) -> str | None:
        """Who issued a certificate that is not trusted: taken once without trust, then once as the only one that is trusted."""
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
    """A socket that a proxy has led on (RFC 9110, 9.3.6).

    Raises:
        OSError: it did not.
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
            sock.settimeout(max(0.001, end - time.monotonic()))  # for all of it: some proxies drip
            piece = sock.recv(1)
            if not piece:
                break
            head += piece
        status = re.match(rb"HTTP/1\.[01] ([0-9]{3})", head)
        if status is None or status[1] != b"200":
            raise OSError(f"the proxy answered {status[1].decode() if status else 'with something that is no HTTP'}")
    except BaseException:
        sock.close()
        raise
    sock.settimeout(timeout)
    return sock


def _issuer(certificate: object) -> str | None:
    """Organisation and name of who issued a certificate."""
    if not isinstance(certificate, dict):
        return None
    facts = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    words = [facts[key] for key in ("organizationName", "commonName") if facts.get(key)]
    return ", ".join(dict.fromkeys(words)) or None


def _words(error: OSError, patience: float) -> str:
    """What a failure of a socket is, in words."""
    if isinstance(error, TimeoutError):
        return f"no answer within {patience:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "the connection was cut"
    return (error.strerror or str(error)).lower()[:160]
