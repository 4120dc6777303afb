"""A throw-away certificate authority, so that a proxy can answer in the names of an endpoint's hosts for one command.

Its keys exist only in the memory of this process. Its certificates are valid for the hosts of the endpoint only (RFC 5280, 4.2.1.10), so
that a program that keeps trusting it cannot be deceived about other hosts.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..endpoint import Endpoint
from ..reference import Host

_LIFE: Final = timedelta(days=30)
_BEFORE: Final = timedelta(days=1)
"""How far in the past the validity starts, because the clock of the command may be behind."""


class ThrowAwayAuthority:
    """A certificate authority for the hosts of one endpoint.

    Attributes:
        pem: its own certificate.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"marfetch throw-away CA {secrets.token_hex(8)}")])
        self._contexts: dict[str, ssl.SSLContext] = {}
        hosts = (endpoint.registry.host, *(pattern.host for pattern in endpoint.data_hosts))
        permitted = [_subtree(host) for host in hosts]
        builder = _certificate(self._name, self._name, self._key.public_key(), self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(is_authority=True), critical=True)
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def context(self, host: Host) -> ssl.SSLContext:
        """Return the TLS context of a server that answers for a host. The first call for a host creates its certificate."""
        name = host.name.strip("[]")
        if name not in self._contexts:
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
            own: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name)) if host.is_address else x509.DNSName(name)
            builder = _certificate(subject, self._name, self._leaf_key.public_key(), self._key.public_key())
            builder = builder.add_extension(x509.SubjectAlternativeName([own]), critical=False)
            builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            builder = builder.add_extension(_usage(is_authority=False), critical=True)
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
            key = self._leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            self._contexts[name] = _server_context(certificate, key)
        return self._contexts[name]


def _subtree(host: Host) -> x509.GeneralName:
    """Return the names that certificates may have: the host and its subdomains, or its IP address."""
    if host.is_address:
        return x509.IPAddress(ipaddress.ip_network(host.name.strip("[]")))
    return x509.DNSName(host.name)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _BEFORE).not_valid_after(now + _LIFE)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _server_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with ExitStack() as stack:
        context.load_cert_chain(*_piped(stack, (certificate, key)))
    return context


def _piped(stack: ExitStack, texts: Sequence[bytes]) -> list[str]:
    """Return the path of a pipe for each text. `ssl` reads keys only from paths, and a key must not be written to disk."""
    paths = []
    for text in texts:
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        with os.fdopen(writing, "wb") as file:  # a certificate and a key fit into the buffer of a pipe
            file.write(text)
        paths.append(f"/dev/fd/{reading}")
    return paths
