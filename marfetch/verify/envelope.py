"""What both forms of envelope have in common: their header, and the rules for it (signature-specification, "Signed Attributes")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from .chain import Certificate
from .keys import Algorithm, algorithm_of, verify
from .verdict import RefusalError

PREFIX: Final = "io.cncf.notary."
SCHEME: Final = f"{PREFIX}signingScheme"
SIGNING_TIME: Final = f"{PREFIX}signingTime"
AUTHENTIC_TIME: Final = f"{PREFIX}authenticSigningTime"
EXPIRY: Final = f"{PREFIX}expiry"
PLUGIN: Final = f"{PREFIX}verificationPlugin"
PLUGIN_VERSION: Final = f"{PREFIX}verificationPluginMinVersion"
TIMESTAMP: Final = f"{PREFIX}timestampSignature"
AGENT: Final = f"{PREFIX}signingAgent"

X509: Final = "notary.x509"
AUTHORITY: Final = "notary.x509.signingAuthority"
PAYLOAD_TYPE: Final = "application/vnd.cncf.notary.payload.v1+json"

MAX_CHAIN: Final = 16
"""Certificates in a chain."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope as it was taken apart, before anything in it is believed.

    Attributes:
        header: the protected header, by the names of its form.
        times: names of the header whose values are times, already read; a failure to read one is kept in place of it.
        critical: the names that are marked as critical; None where the mark is missing.
        understood: names beyond the common ones that may be marked as critical.
        signed: the bytes that the signature is over, as received.
    """

    header: Mapping[Any, Any]
    times: Mapping[str, datetime | RefusalError]
    algorithm: Any
    content_type: Any
    critical: Sequence[Any] | None
    understood: frozenset[Any]
    certificates: tuple[bytes, ...]
    payload: bytes
    signature: bytes
    signed: bytes
    is_cose: bool
    token: bytes | None = None
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope whose signature and header hold; whether its signer is trusted is another question.

    Attributes:
        chain: leaf first; not checked yet.
        signing_time: authentic only under the scheme of signing authorities.
        token: the timestamp over `signature`.
    """

    chain: tuple[Certificate, ...]
    algorithm: Algorithm
    scheme: str
    signing_time: datetime
    expiry: datetime | None
    payload: bytes
    signature: bytes
    token: bytes | None
    agent: str | None


def opened(sealed: Sealed) -> Envelope:
    """Check the signature over the received bytes, then the header.

    Raises:
        RefusalError: the first rule that it breaks.
    """
    if not sealed.certificates:
        raise RefusalError("CERT_CHAIN_MISSING", "the envelope holds no certificate")
    if len(sealed.certificates) > MAX_CHAIN:
        raise RefusalError("CERT_CHAIN_INVALID", f"the envelope holds {len(sealed.certificates)} certificates, more than {MAX_CHAIN}")
    leaf = Certificate.parse(sealed.certificates[0])
    algorithm = algorithm_of(leaf.key)
    wanted = algorithm.number if sealed.is_cose else algorithm.name
    if type(sealed.algorithm) is not type(wanted) or sealed.algorithm != wanted:
        named = "no algorithm" if sealed.algorithm is None else f"the algorithm `{str(sealed.algorithm)[:40]}`"
        raise RefusalError("ALG_MISMATCH", f"the envelope names {named}, but its key signs with {algorithm.name}")
    verify(leaf.key, algorithm, sealed.signature, sealed.signed)
    scheme, signing_time, expiry = _header(sealed)
    chain = (leaf, *(Certificate.parse(raw) for raw in sealed.certificates[1:]))
    return Envelope(chain, algorithm, scheme, signing_time, expiry, sealed.payload, sealed.signature, sealed.token, sealed.agent)


def _header(sealed: Sealed) -> tuple[str, datetime, datetime | None]:
    if sealed.content_type != PAYLOAD_TYPE:
        raise RefusalError(
            "CONTENT_TYPE_UNSUPPORTED", f"the content type of the payload is `{str(sealed.content_type)[:80]}`, not `{PAYLOAD_TYPE}`"
        )
    scheme = sealed.header.get(SCHEME)
    if scheme not in (X509, AUTHORITY):
        raise RefusalError(
            "SIGNING_SCHEME_UNSUPPORTED", f"the signing scheme is `{str(scheme)[:80]}`; `{X509}` and `{AUTHORITY}` are known"
        )
    needed, foreign = (SIGNING_TIME, AUTHENTIC_TIME) if scheme == X509 else (AUTHENTIC_TIME, SIGNING_TIME)
    if foreign in sealed.header:
        raise RefusalError("HEADER_INVALID", f"the header `{foreign}` has no place under the scheme `{scheme}`")
    signing_time = _time(sealed, needed)
    if signing_time is None:
        raise RefusalError("HEADER_INVALID", f"the header `{needed}` is missing")
    expiry = _time(sealed, EXPIRY)
    if expiry is not None and expiry <= signing_time:
        raise RefusalError("HEADER_INVALID", f"the signature expires at {expiry:%Y-%m-%d %H:%M:%SZ}, before it was made")
    _critical(sealed)
    return str(scheme), signing_time, expiry


def _time(sealed: Sealed, name: str) -> datetime | None:
    found = sealed.times.get(name)
    if isinstance(found, RefusalError):
        raise found
    return found


def _critical(sealed: Sealed) -> None:
    """Every name that is marked exists and is understood; every header that must be marked is."""
    marked = sealed.critical
    if not marked:
        raise RefusalError("CRIT_INVALID", "the envelope marks no header as critical, not even the signing scheme")
    if len(set(marked)) != len(marked):
        raise RefusalError("CRIT_INVALID", "a header is marked as critical twice")
    must = frozenset((SCHEME, AUTHENTIC_TIME, EXPIRY, PLUGIN, PLUGIN_VERSION))
    for name in marked:
        if name not in sealed.header:
            raise RefusalError("CRIT_INVALID", f"the header `{str(name)[:80]}` is marked as critical, but is not there")
        if name not in must | {SIGNING_TIME} | sealed.understood:
            raise RefusalError("CRIT_UNKNOWN", f"the critical header `{str(name)[:80]}` is not understood")
    if PLUGIN in sealed.header or PLUGIN_VERSION in sealed.header:
        named = str(sealed.header.get(PLUGIN, "a plugin"))[:80]
        raise RefusalError("PLUGIN_REQUIRED", f"the signature can only be verified by the plugin `{named}`, and marfetch runs none")
    for name in sorted(must):
        if name in sealed.header and name not in marked:
            raise RefusalError("CRIT_INVALID", f"the header `{name}` must be marked as critical")
