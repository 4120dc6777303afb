"""Which algorithm a key signs with, and whether a signature is its own (signature-specification, "Signature Algorithm Requirements").

The algorithm follows from the key alone; what an envelope says of it is compared, never believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from .verdict import RefusalError

if TYPE_CHECKING:
    from cryptography import x509

HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
"""The hashes that are taken, by their object identifiers. SHA-1 is none of them."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A signature algorithm of the Notary Project.

    Attributes:
        name: of the JOSE registry.
        number: of the COSE registry.
        size: bytes of r and of s; 0 for RSA.
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
    """The one algorithm for a public key.

    Raises:
        RefusalError: `KEY_UNSUPPORTED`.
    """
    if isinstance(key, rsa.RSAPublicKey):
        found, what = _RSA.get(key.key_size), f"an RSA key of {key.key_size} bits"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        found, what = _EC.get(key.curve.name), f"a key on the curve {key.curve.name}"
    else:
        found, what = None, f"a key of the sort {type(key).__name__}"
    if found is None:
        raise RefusalError("KEY_UNSUPPORTED", f"the signing certificate has {what}; RSA 2048, 3072, 4096 and P-256, P-384, P-521 are taken")
    return found


def verify(key: Any, algorithm: Algorithm, signature: bytes, data: bytes) -> None:
    """Check the signature of an envelope: RSASSA-PSS with a salt as long as the hash, or r and s side by side.

    Raises:
        RefusalError: `SIGNATURE_INVALID`.
    """
    try:
        if algorithm.size:
            if len(signature) != 2 * algorithm.size:
                raise RefusalError("SIGNATURE_INVALID", f"a signature of {len(signature)} bytes where {2 * algorithm.size} are needed")
            r, s = (int.from_bytes(signature[at : at + algorithm.size], "big") for at in (0, algorithm.size))
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(algorithm.hash))
        else:
            scheme = padding.PSS(padding.MGF1(algorithm.hash), algorithm.hash.digest_size)
            key.verify(signature, data, scheme, algorithm.hash)
    except (InvalidSignature, ValueError) as error:
        raise RefusalError("SIGNATURE_INVALID", "the signature does not belong to the signed bytes and the signing certificate") from error


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
        algorithm: object identifier of the signature algorithm.
        digest: that of the hash, one of `HASHES`.

    Raises:
        RefusalError: `TIMESTAMP_INVALID`.
    """
    family, named = ("rsa", digest) if algorithm == _CMS_RSA else _CMS.get(algorithm, ("", ""))
    if named != digest or not isinstance(key, _FAMILIES.get(family, ())):
        raise RefusalError("TIMESTAMP_INVALID", f"the timestamp is signed with an algorithm that is not taken ({algorithm})")
    try:
        if family == "rsa":
            key.verify(signature, data, padding.PKCS1v15(), HASHES[digest])
        else:
            key.verify(signature, data, ec.ECDSA(HASHES[digest]))
    except (InvalidSignature, ValueError) as error:
        raise RefusalError("TIMESTAMP_INVALID", "the signature of the timestamp is wrong") from error


_STRONG: Final = frozenset(("sha256", "sha384", "sha512"))


def is_weak(certificate: x509.Certificate) -> bool:
    """Whether a certificate is signed with a hash that is not taken any more, such as SHA-1."""
    used = certificate.signature_hash_algorithm
    return used is not None and used.name not in _STRONG  # None: the algorithm has its own, as Ed25519
