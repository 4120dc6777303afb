"""The trusted TLS certificates. There is no option to turn verification off."""

from __future__ import annotations

import os
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import InputError

_DIRECTORIES: Final = "SSL_CERT_DIR"
VARIABLES: Final = (("REQUESTS_CA_BUNDLE",), ("SSL_CERT_FILE", _DIRECTORIES), ("CURL_CA_BUNDLE",))
"""Environment variables that name certificates. The first group with a value replaces the certificates of the system."""

_HASH_LINK: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class CertificateSource(NamedTuple):
    """A file or directory of PEM certificates, with the option or variable that names it."""

    name: str
    path: str

    def __str__(self) -> str:
        return f"`{self.path}` from `{self.name}`"


def named_certificates(ca_file: str | None, variables: Mapping[str, str]) -> list[CertificateSource]:
    """Return the files and directories that replace the certificates of the system; empty for the system's own."""
    if ca_file:
        return [CertificateSource("--ca-file", ca_file)]
    for group in VARIABLES:
        found = [CertificateSource(name, path) for name in group for path in _paths(name, variables.get(name, ""))]
        if found:
            return found
    return []


def _paths(name: str, value: str) -> list[str]:
    """Return the paths in a variable. As in OpenSSL, only `SSL_CERT_DIR` may name several."""
    return [path for path in (value.split(os.pathsep) if name == _DIRECTORIES else [value]) if path]


class TrustedCertificates:
    """The trusted certificates and the TLS context that uses them.

    Args:
        ca_file: a PEM file that replaces the system's store. If None, one of `VARIABLES` may name a replacement.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._named = named_certificates(ca_file, os.environ)
        self._context: ssl.SSLContext | None = None
        self._guard = threading.Lock()

    @property
    def description(self) -> str:
        """Where the certificates come from, for messages."""
        return " and ".join(map(str, self._named)) or "the certificates of the system"

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for clients. The first call creates it.

        Raises:
            InputError: `usage`: a file or directory cannot be read or contains no certificate.
        """
        with self._guard:
            if self._context is None:
                self._context = self._make()
            return self._context

    def _make(self) -> ssl.SSLContext:
        if not self._named:
            import truststore  # late: only needed for the system's store

            context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        else:
            context = _made_of(self._named)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context


def _made_of(sources: list[CertificateSource]) -> ssl.SSLContext:
    """Return a context that trusts exactly these certificates. As in Go, an intermediate certificate can be trusted too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    linked = 0
    files = [source.path for source in sources if os.path.isfile(source.path)]  # noqa: PTH113
    for source in sources:
        try:
            if os.path.isdir(source.path):  # noqa: PTH112
                linked += _load_directory(context, source.path, files)
            elif source.name != _DIRECTORIES:  # a directory that does not exist is skipped, as by OpenSSL
                context.load_verify_locations(cafile=source.path)
        except (OSError, ValueError) as error:
            raise _unusable(source, _reason(error)) from error
    if not linked and not context.cert_store_stats()["x509"]:
        raise _unusable(sources[0], "there is no certificate in it")
    return context


def _load_directory(context: ssl.SSLContext, path: str, loaded: list[str]) -> int:
    """Trust the certificates in a directory. Return the number of its hash links.

    OpenSSL finds a certificate only through a hash link, which `openssl rehash` makes. Like Go, this also reads the files without a link.

    Args:
        loaded: files to skip because they are loaded separately. `SSL_CERT_FILE` often names the bundle in `SSL_CERT_DIR`.
    """
    with os.scandir(path) as scanned:
        entries = list(scanned)
    links = [entry for entry in entries if _HASH_LINK.fullmatch(entry.name)]
    linked = {os.readlink(entry.path) for entry in links if entry.is_symlink()}  # noqa: PTH115
    context.load_verify_locations(capath=path)
    for entry in entries:
        if entry in links or entry.name in linked or entry.path in loaded:
            continue
        if entry.is_file():
            with suppress(OSError):  # not a certificate, such as a README
                context.load_verify_locations(cafile=entry.path)
    return len(links)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "there is no certificate in PEM format in it"
    return (getattr(error, "strerror", None) or str(error)).lower()


def _unusable(source: CertificateSource, reason: str) -> InputError:
    return InputError(
        f"cannot read the certificates in {source}: {reason}",
        code="usage",
        hint=f"set `{source.name}` to certificates in PEM format, or omit it to use those of the system",
        path=source.path,
    )


# -- the same trust for other programs

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_SYSTEM: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS, BSD
)
"""Files in which systems keep their trusted certificates."""


def trusted_pem(ca_file: str | None, variables: Mapping[str, str]) -> bytes:
    """Return the certificates that the caller's programs trust, in PEM format, for a program that gets only one file.

    They are those of `--ca-file` and of all `VARIABLES`, and those of the system unless `SSL_CERT_FILE` or `SSL_CERT_DIR` replaces them.
    Private keys and other text in the files are left out.

    Raises:
        InputError: `usage`: a file or directory cannot be read.
    """
    sources = named_certificates(ca_file, {})
    for group in VARIABLES:
        sources += [CertificateSource(name, path) for name in group for path in _paths(name, variables.get(name, ""))]
    if not any(source.name in ("SSL_CERT_FILE", _DIRECTORIES) for source in sources):
        sources += _system()
    found: dict[bytes, None] = {}
    for source in sources:
        try:
            for data in _files(source):
                found.update(dict.fromkeys(_CERTIFICATE.findall(data)))
        except OSError as error:
            raise _unusable(source, _reason(error)) from error
    return b"".join(one + b"\n" for one in found)


def _system() -> list[CertificateSource]:
    default = ssl.get_default_verify_paths()
    paths = [path for path in (default.cafile, *_SYSTEM) if path and Path(path).is_file()][:1] or [default.capath or ""]
    return [CertificateSource("the system", path) for path in paths if path]


def _files(source: CertificateSource) -> Iterator[bytes]:
    path = Path(source.path)
    if path.is_dir():
        for one in sorted(path.iterdir()):
            with suppress(OSError):  # not a certificate, or not readable
                if one.is_file():
                    yield one.read_bytes()
    elif source.name != _DIRECTORIES:
        yield path.read_bytes()
