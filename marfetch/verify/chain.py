"""Parses certificates, and checks the Notary Project's rules for them (signature-specification, "Certificate Requirements").

The cryptography library parses parts of a certificate lazily, and raises various exceptions for malformed parts. `guarded` turns all of
them into a `RefusalError`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import ExtensionOID

from ..errors import InputError
from . import der
from .names import subject_text
from .verdict import RefusalError

# -- signature algorithms (signature-specification, "Signature Algorithm Requirements")


HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
"""Object identifier → supported hash. SHA-1 is not supported."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A signature algorithm of the Notary Project.

    Attributes:
        name: the name in the JOSE registry.
        number: the number in the COSE registry.
        hash: the hash that is signed.
        size: the size in bytes of each of the two integers in an ECDSA signature; 0 for RSA.
    """

    name: str
    number: int
    hash: hashes.HashAlgorithm
    size: int = 0


_RSA: Final = {
    2048: Algorithm("PS256", -37, hashes.SHA256()),
    3072: Algorithm("PS384", -38, hashes.SHA384()),
    4096: Algorithm("PS512", -39, hashes.SHA512()),
}
_EC: Final = {
    "secp256r1": Algorithm("ES256", -7, hashes.SHA256(), 32),
    "secp384r1": Algorithm("ES384", -35, hashes.SHA384(), 48),
    "secp521r1": Algorithm("ES512", -36, hashes.SHA512(), 66),
}


def algorithm_of(key: Any) -> Algorithm:
    """Return the only signature algorithm that the Notary Project allows for a public key.

    Raises:
        RefusalError: `KEY_UNSUPPORTED`.
    """
    if isinstance(key, rsa.RSAPublicKey):
        found, what = _RSA.get(key.key_size), f"an RSA key of {key.key_size} bits"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        found, what = _EC.get(key.curve.name), f"a key on the curve {key.curve.name}"
    else:
        found, what = None, f"a key of type {type(key).__name__}"
    if found is None:
        raise RefusalError(
            "KEY_UNSUPPORTED", f"the signing certificate has {what}; supported are RSA 2048, 3072, 4096 and P-256, P-384, P-521"
        )
    return found


def verify(key: Any, algorithm: Algorithm, signature: bytes, data: bytes) -> None:
    """Check the signature of an envelope.

    It is RSASSA-PSS with a salt as long as the hash, or ECDSA with the integers r and s one after the other.

    Raises:
        RefusalError: `SIGNATURE_INVALID`.
    """
    try:
        if algorithm.size:
            if len(signature) != 2 * algorithm.size:
                raise RefusalError("SIGNATURE_INVALID", f"the signature has {len(signature)} bytes, not {2 * algorithm.size}")
            r, s = (int.from_bytes(signature[at : at + algorithm.size], "big") for at in (0, algorithm.size))
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(algorithm.hash))
        else:
            scheme = padding.PSS(padding.MGF1(algorithm.hash), algorithm.hash.digest_size)
            key.verify(signature, data, scheme, algorithm.hash)
    except (InvalidSignature, ValueError) as error:
        raise RefusalError("SIGNATURE_INVALID", "the signature does not match the signed bytes and the signing certificate") from error


_FAMILIES: Final[dict[str, Any]] = {"rsa": rsa.RSAPublicKey, "ec": ec.EllipticCurvePublicKey}
_CMS_RSA: Final = "1.2.840.113549.1.1.1"
_CMS: Final = {
    "1.2.840.113549.1.1.11": ("rsa", "2.16.840.1.101.3.4.2.1"),
    "1.2.840.113549.1.1.12": ("rsa", "2.16.840.1.101.3.4.2.2"),
    "1.2.840.113549.1.1.13": ("rsa", "2.16.840.1.101.3.4.2.3"),
    "1.2.840.10045.4.3.2": ("ec", "2.16.840.1.101.3.4.2.1"),
    "1.2.840.10045.4.3.3": ("ec", "2.16.840.1.101.3.4.2.2"),
    "1.2.840.10045.4.3.4": ("ec", "2.16.840.1.101.3.4.2.3"),
}


def verify_cms(key: Any, algorithm: str, digest: str, signature: bytes, data: bytes) -> None:
    """Check the signature of CMS signed data (RFC 5652, 5.6).

    Args:
        algorithm: the object identifier of the signature algorithm.
        digest: the object identifier of the hash, a key of `HASHES`.

    Raises:
        RefusalError: `TIMESTAMP_INVALID`.
    """
    family, named = ("rsa", digest) if algorithm == _CMS_RSA else _CMS.get(algorithm, ("", ""))
    if named != digest or not isinstance(key, _FAMILIES.get(family, ())):
        raise RefusalError("TIMESTAMP_INVALID", f"the timestamp's signature algorithm is not supported ({algorithm})")
    try:
        if family == "rsa":
            key.verify(signature, data, padding.PKCS1v15(), HASHES[digest])
        else:
            key.verify(signature, data, ec.ECDSA(HASHES[digest]))
    except (InvalidSignature, ValueError) as error:
        raise RefusalError("TIMESTAMP_INVALID", "the signature of the timestamp is invalid") from error


_STRONG: Final = frozenset(one.name for one in HASHES.values())


def is_weak(signed: x509.Certificate | x509.CertificateRevocationList) -> bool:
    """Return whether a certificate or revocation list is signed with a weak hash, such as SHA-1."""
    used = signed.signature_hash_algorithm
    return used is not None and used.name not in _STRONG  # None for an algorithm with a built-in hash, such as Ed25519


_REFUSED_USAGES: Final = {
    Usage.SERVER_AUTH: "serverAuth",
    Usage.CLIENT_AUTH: "clientAuth",
    Usage.EMAIL_PROTECTION: "emailProtection",
    Usage.TIME_STAMPING: "timeStamping",
    Usage.OCSP_SIGNING: "OCSPSigning",
    Usage.ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
}
_UNDERSTOOD: Final = frozenset(
    (
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    )
)


@contextmanager
def guarded(code: str, what: str) -> Iterator[None]:
    """Turn every exception of the cryptography library into a refusal.

    Args:
        code: the code of the refusal.
        what: the object that is read, for the message.
    """
    try:
        yield
    except (RefusalError, InputError, MemoryError):
        raise
    except BaseException as error:
        # A panic in the library's Rust code is a `BaseException`, not an `Exception`.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise RefusalError(code, f"{what} cannot be read: {str(error)[:200] or type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, as bytes and parsed."""

    raw: bytes
    parsed: x509.Certificate

    @classmethod
    def parse(cls, raw: bytes, code: str = "CERT_INVALID") -> Certificate:
        """Parse a certificate in DER.

        Args:
            code: the code of the refusal if the certificate is invalid.

        Raises:
            RefusalError: the certificate is invalid, or its type of key is unsupported.
        """
        with guarded(code, "a certificate"):
            _check_form(raw)
            parsed = x509.load_der_x509_certificate(raw)
            # Parse these parts now. The library parses them lazily, so errors would appear during another check.
            _ = parsed.subject, parsed.issuer, parsed.version, parsed.extensions, parsed.signature_hash_algorithm
            try:
                parsed.public_key()
            except UnsupportedAlgorithm as error:
                unknown = code if code != "CERT_INVALID" else "KEY_UNSUPPORTED"
                raise RefusalError(unknown, "a certificate has an unsupported type of key") from error
            return cls(raw, parsed)

    @property
    def thumbprint(self) -> str:
        """The SHA-256 of the certificate, in hex."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def subject(self) -> str:
        """The subject of the certificate, formatted as in trust policies."""
        return subject_text(self.parsed.subject)

    @property
    def key(self) -> Any:
        """The public key in the certificate."""
        return self.parsed.public_key()

    def extension(self, oid: x509.ObjectIdentifier) -> x509.Extension[Any] | None:
        """Return the extension with this identifier, if the certificate has it."""
        return next((found for found in self.parsed.extensions if found.oid == oid), None)

    @property
    def is_authority(self) -> bool:
        """Whether the basic constraints say that this is a CA certificate."""
        found = self.extension(ExtensionOID.BASIC_CONSTRAINTS)
        return found is not None and bool(found.value.ca)

    def is_issued_by(self, issuer: Certificate) -> bool:
        """Return whether the issuer's name and key match the issuer field and the signature of this certificate."""
        try:
            self.parsed.verify_directly_issued_by(issuer.parsed)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    @property
    def is_self_signed(self) -> bool:
        """Whether the certificate is signed with its own key."""
        return self.parsed.issuer == self.parsed.subject and self.is_issued_by(self)


def _check_form(raw: bytes) -> None:
    """Check the encoding of the parts that the issuer's signature does not cover.

    The library accepts several encodings of these parts, so one certificate could have several thumbprints.

    Raises:
        DerError: the encoding is not canonical.
    """
    signed, algorithm, signature = der.one(raw).children(der.SEQUENCE)
    fields = signed.children(der.SEQUENCE)
    if algorithm.raw != fields[2 if fields[0].tag == 0xA0 else 1].raw:
        raise der.DerError("it names two signature algorithms")
    if signature.expect(der.BITS).content[:1] != b"\x00":
        raise der.DerError("its signature has unused bits")


def check_chain(chain: Sequence[Certificate]) -> None:
    """Check the Notary Project's rules for the certificate chain of a signature.

    Args:
        chain: the certificates, leaf first.

    Raises:
        RefusalError: `CERT_CHAIN_INVALID`, `CERT_INVALID`, `KEY_UNSUPPORTED`.
    """
    with guarded("CERT_INVALID", "a certificate"):
        for certificate in chain:
            if is_weak(certificate.parsed):
                raise _invalid(certificate, "it is signed with a weak hash such as SHA-1")
        _check_order(chain)
        _check_leaf(chain[0], is_critical=True)
        _check_leaf_purpose(chain[0])
        for depth, certificate in enumerate(chain[1:]):
            _check_authority(certificate, depth, is_critical=True)


def _check_order(chain: Sequence[Certificate]) -> None:
    *lower, root = chain
    if not root.is_self_signed:
        raise RefusalError(
            "CERT_CHAIN_INVALID", f"the chain ends with `{root.subject}`, which is not a self-signed root", subject=root.subject
        )
    for certificate, issuer in zip(lower, chain[1:], strict=True):
        if certificate.is_self_signed:
            raise RefusalError(
                "CERT_CHAIN_INVALID",
                f"the self-signed certificate `{certificate.subject}` is not at the end of the chain",
                subject=certificate.subject,
            )
        if not certificate.is_issued_by(issuer):
            raise RefusalError(
                "CERT_CHAIN_INVALID",
                f"`{certificate.subject}` was not issued by the next certificate, `{issuer.subject}`",
                subject=certificate.subject,
            )


def _check_leaf(leaf: Certificate, *, is_critical: bool) -> None:
    algorithm_of(leaf.key)
    if leaf.is_authority:
        raise _invalid(leaf, "the signing certificate is a CA certificate")
    usage = _usage(leaf, is_critical=is_critical)
    others = ("key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    if not usage.digital_signature or any(getattr(usage, name) for name in others):
        raise _invalid(leaf, "its key usage is not exactly digital signature")


def _check_leaf_purpose(leaf: Certificate) -> None:
    found = leaf.extension(ExtensionOID.EXTENDED_KEY_USAGE)
    refused = [_REFUSED_USAGES[one] for one in found.value if one in _REFUSED_USAGES] if found is not None else []
    if refused:
        raise _invalid(leaf, f"its extended key usage includes {', '.join(refused)}")


def _check_authority(certificate: Certificate, depth: int, *, is_critical: bool) -> None:
    """Check a CA certificate. `depth` is the number of CA certificates between it and the leaf."""
    found = certificate.extension(ExtensionOID.BASIC_CONSTRAINTS)
    if found is None or not found.value.ca or (is_critical and not found.critical):
        raise _invalid(certificate, "it issues certificates, but its basic constraints do not allow that")
    if found.value.path_length is not None and found.value.path_length < depth:
        raise _invalid(certificate, f"its path length allows {found.value.path_length} CA certificates below it, but there are {depth}")
    if not _usage(certificate, is_critical=is_critical).key_cert_sign:
        raise _invalid(certificate, "it issues certificates, but its key usage does not allow that")


def _usage(certificate: Certificate, *, is_critical: bool) -> x509.KeyUsage:
    found = certificate.extension(ExtensionOID.KEY_USAGE)
    if found is None or (is_critical and not found.critical):
        raise _invalid(certificate, "its key usage is missing" if found is None else "its key usage is not critical")
    usage: x509.KeyUsage = found.value
    return usage


def _invalid(certificate: Certificate, reason: str) -> RefusalError:
    return RefusalError(
        "CERT_INVALID",
        f"the certificate `{certificate.subject}` breaks a rule of the Notary Project: {reason}",
        subject=certificate.subject,
    )


# -- timestamping authorities


def check_authority_chain(chain: Sequence[Certificate]) -> None:
    """Check the rules for the certificate chain of a timestamping authority (RFC 3161, 2.3), as notation does.

    Args:
        chain: the certificates, leaf first.

    Raises:
        RefusalError: `TIMESTAMP_INVALID`.
    """
    try:
        with guarded("TIMESTAMP_INVALID", "a certificate of the timestamping authority"):
            _check_authority_chain(chain)
    except RefusalError as error:
        raise RefusalError("TIMESTAMP_INVALID", f"the chain of the timestamping authority is invalid: {error.message}") from error


def _check_authority_chain(chain: Sequence[Certificate]) -> None:
    leaf = chain[0]
    for certificate in chain:
        if is_weak(certificate.parsed):
            raise _invalid(certificate, "it is signed with a weak hash such as SHA-1")
        unknown = [found.oid.dotted_string for found in certificate.parsed.extensions if found.critical and found.oid not in _UNDERSTOOD]
        if unknown:
            raise _invalid(certificate, f"its critical extension {unknown[0]} is not supported")
    _check_leaf(leaf, is_critical=False)
    found = leaf.extension(ExtensionOID.EXTENDED_KEY_USAGE)
    if found is None or list(found.value) != [Usage.TIME_STAMPING]:
        raise _invalid(leaf, "its extended key usage is not timeStamping alone")
    if not found.critical:
        raise _invalid(leaf, "its extended key usage is not critical")
    for depth, certificate in enumerate(chain[1:]):
        _check_authority(certificate, depth, is_critical=False)
        allowed = certificate.extension(ExtensionOID.EXTENDED_KEY_USAGE)
        if allowed is not None and not {Usage.TIME_STAMPING, Usage.ANY_EXTENDED_KEY_USAGE} & set(allowed.value):
            raise _invalid(certificate, "its extended key usage does not allow timestamps below it")
