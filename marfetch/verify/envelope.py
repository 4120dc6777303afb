"""Parses signature envelopes in JWS and COSE format, and checks their headers (signature-specification, "Signed Attributes")."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ..document import Json, parse_json
from ..errors import Error
from . import cbor
from .chain import Algorithm, Certificate, algorithm_of, verify
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
"""Maximum number of certificates in an envelope."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A parsed envelope. Nothing in it is verified yet.

    Attributes:
        header: the protected header, as header name or COSE label → value.
        times: header name → parsed time, or the refusal if the time is malformed.
        algorithm: the signature algorithm, as the envelope names it.
        content_type: the media type of the payload.
        critical: the header names that are marked as critical; None if there is no such list.
        understood: the names defined by the format that may be marked as critical.
        certificates: the certificates in DER, leaf first.
        signed: the bytes that the signature covers, as received.
        token: the timestamp token, if any.
        agent: the name of the program that made the signature, if any.
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
    """An envelope with a valid signature and header. Its signer is not verified yet.

    Attributes:
        chain: the certificates, leaf first. They are not verified yet.
        scheme: `X509` or `AUTHORITY`.
        signing_time: when the signature was made. Only the scheme `AUTHORITY` makes this time trustworthy.
        expiry: when the signature expires, if ever.
        token: the timestamp token for `signature`, if any.
        agent: the name of the program that made the signature, if any.
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
    """Check the signature of an envelope, then its header.

    Raises:
        RefusalError: the envelope breaks a rule.
    """
    if not sealed.certificates:
        raise RefusalError("CERT_CHAIN_MISSING", "the envelope has no certificate")
    if len(sealed.certificates) > MAX_CHAIN:
        raise RefusalError("CERT_CHAIN_INVALID", f"the envelope has {len(sealed.certificates)} certificates, more than {MAX_CHAIN}")
    leaf = Certificate.parse(sealed.certificates[0])
    algorithm = algorithm_of(leaf.key)
    wanted = algorithm.number if sealed.is_cose else algorithm.name
    if type(sealed.algorithm) is not type(wanted) or sealed.algorithm != wanted:
        named = "no algorithm" if sealed.algorithm is None else f"the algorithm `{str(sealed.algorithm)[:40]}`"
        raise RefusalError("ALG_MISMATCH", f"the envelope names {named}, but its key requires {algorithm.name}")
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
            "SIGNING_SCHEME_UNSUPPORTED", f"the signing scheme `{str(scheme)[:80]}` is not supported; use `{X509}` or `{AUTHORITY}`"
        )
    needed, foreign = (SIGNING_TIME, AUTHENTIC_TIME) if scheme == X509 else (AUTHENTIC_TIME, SIGNING_TIME)
    if foreign in sealed.header:
        raise RefusalError("HEADER_INVALID", f"the header `{foreign}` is not allowed in the scheme `{scheme}`")
    signing_time = _time(sealed, needed)
    if signing_time is None:
        raise RefusalError("HEADER_INVALID", f"the header `{needed}` is missing")
    expiry = _time(sealed, EXPIRY)
    if expiry is not None and expiry <= signing_time:
        raise RefusalError("HEADER_INVALID", f"the signature expires at {expiry:%Y-%m-%d %H:%M:%SZ}, which is not after its signing time")
    _critical(sealed)
    return str(scheme), signing_time, expiry


def _time(sealed: Sealed, name: str) -> datetime | None:
    found = sealed.times.get(name)
    if isinstance(found, RefusalError):
        raise found
    return found


def _critical(sealed: Sealed) -> None:
    """Check that every critical header exists and is understood, and that the required headers are marked as critical."""
    marked = sealed.critical
    if not marked:
        raise RefusalError("CRIT_INVALID", "no header is marked as critical, not even the signing scheme")
    if len(set(marked)) != len(marked):
        raise RefusalError("CRIT_INVALID", "a header is marked as critical twice")
    must = frozenset((SCHEME, AUTHENTIC_TIME, EXPIRY, PLUGIN, PLUGIN_VERSION))
    for name in marked:
        if name not in sealed.header:
            raise RefusalError("CRIT_INVALID", f"the header `{str(name)[:80]}` is marked as critical but missing")
        if name not in must | {SIGNING_TIME} | sealed.understood:
            raise RefusalError("CRIT_UNKNOWN", f"the critical header `{str(name)[:80]}` is not understood")
    if PLUGIN in sealed.header or PLUGIN_VERSION in sealed.header:
        named = str(sealed.header.get(PLUGIN, "a plugin"))[:80]
        raise RefusalError("PLUGIN_REQUIRED", f"the signature requires the plugin `{named}`, but marfetch runs no plugins")
    for name in sorted(must):
        if name in sealed.header and name not in marked:
            raise RefusalError("CRIT_INVALID", f"the header `{name}` must be marked as critical")


# -- COSE envelopes (RFC 9052, signature-envelope-cose): tag 18 with protected header, unprotected header, payload and signature


_ALGORITHM: Final = 1
_CRITICAL: Final = 2
_CONTENT_TYPE: Final = 3
_X5CHAIN: Final = 33
_TAG: Final = b"\xd2"
_SIGNED: Final = cbor.array_head(4) + cbor.string(b"Signature1", 3)


def parse_cose(data: bytes) -> Sealed:
    """Parse an envelope in COSE format.

    Raises:
        RefusalError: `ENVELOPE_MALFORMED`.
    """
    try:
        return _parse(data)
    except cbor.CborError as error:
        raise _malformed_cose(str(error)) from error


def _parse(data: bytes) -> Sealed:
    message = cbor.loads(data)
    if data[:1] != _TAG or not isinstance(message, cbor.Tag) or not isinstance(message.value, list) or len(message.value) != 4:
        raise _malformed_cose("it is not a tagged COSE_Sign1 of four elements")
    encoded, unprotected, payload, signature = message.value
    if not isinstance(encoded, bytes) or not isinstance(payload, bytes) or not isinstance(signature, bytes):
        raise _malformed_cose("protected header, payload or signature is not a byte string")
    protected = cbor.loads(encoded) if encoded else {}
    if not isinstance(protected, dict) or not isinstance(unprotected, dict):
        raise _malformed_cose("a header is not a map")
    if protected.keys() & unprotected.keys():
        raise _malformed_cose("a label appears in both headers")
    critical = protected.get(_CRITICAL)
    if critical is not None and not isinstance(critical, list):
        raise _malformed_cose("the critical labels are not an array")
    if critical is not None and not all(isinstance(label, (int, str)) and not isinstance(label, bool) for label in critical):
        raise _malformed_cose("a critical label is neither an integer nor a string")
    token, agent = unprotected.get(TIMESTAMP), unprotected.get(AGENT)
    if token is not None and not isinstance(token, bytes):
        raise _malformed_cose("the timestamp is not a byte string")
    return Sealed(
        header=protected,
        times={name: _cose_time(protected[name], name) for name in (SIGNING_TIME, AUTHENTIC_TIME, EXPIRY) if name in protected},
        algorithm=protected.get(_ALGORITHM),
        content_type=protected.get(_CONTENT_TYPE),
        critical=critical,
        understood=frozenset((_ALGORITHM, _CONTENT_TYPE, _X5CHAIN)),
        certificates=_certificates(protected.get(_X5CHAIN, unprotected.get(_X5CHAIN))),
        payload=payload,
        signature=signature,
        signed=_SIGNED + cbor.string(encoded) + cbor.string(b"") + cbor.string(payload),
        is_cose=True,
        token=token,
        agent=agent if isinstance(agent, str) else None,
    )


def _certificates(value: cbor.Value) -> tuple[bytes, ...]:
    """Return the certificates, leaf first. A single certificate may be encoded without an array (RFC 9360, 2)."""
    chain = [value] if isinstance(value, bytes) else value
    if chain is None:
        return ()
    if not isinstance(chain, list):
        raise _malformed_cose("the certificates are not an array")
    certificates = tuple(one for one in chain if isinstance(one, bytes))
    if len(certificates) != len(chain):
        raise _malformed_cose("a certificate is not a byte string")
    return certificates


def _cose_time(value: cbor.Value, name: str) -> datetime | RefusalError:
    if isinstance(value, cbor.Tag) and value.number == 1 and isinstance(value.value, int) and not isinstance(value.value, bool):
        try:
            return datetime.fromtimestamp(value.value, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    return RefusalError("HEADER_INVALID", f"the header `{name}` is not a time (tag 1 over an integer)")


def _malformed_cose(reason: str) -> RefusalError:
    return RefusalError("ENVELOPE_MALFORMED", f"the COSE envelope is malformed: {reason}")


# -- JWS envelopes (RFC 7515, signature-envelope-jws) in flattened JSON. Names are unique and case-sensitive, and base64 is canonical.


_MEMBERS: Final = frozenset(("payload", "protected", "header", "signature"))
_HEADERS: Final = frozenset(("x5c", TIMESTAMP, AGENT))
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_jws(data: bytes) -> Sealed:
    """Parse an envelope in JWS format.

    Raises:
        RefusalError: `ENVELOPE_MALFORMED`.
    """
    document = _object(data, "the envelope")
    if document.keys() != _MEMBERS:
        odd = sorted(document.keys() ^ _MEMBERS)[0]
        raise _malformed_jws(f"the member `{odd[:80]}` is missing or not allowed")
    header = document["header"]
    if not isinstance(header, dict) or not header.keys() <= _HEADERS:
        raise _malformed_jws("its header is not an object, or has a member that is not allowed")
    texts = [document[name] for name in ("protected", "payload", "signature")]
    encoded = [one for one in texts if isinstance(one, str) and one.isascii()]
    if len(encoded) != len(texts):
        raise _malformed_jws("a part is not a base64url string")
    protected = _object(_url_decoded(encoded[0]), "the protected header")
    critical = protected.get("crit")
    if critical is not None and not (isinstance(critical, list) and all(isinstance(name, str) for name in critical)):
        raise _malformed_jws("the critical names are not an array of strings")
    chain, token, agent = header.get("x5c"), header.get(TIMESTAMP), header.get(AGENT)
    if chain is not None and not isinstance(chain, list):
        raise _malformed_jws("the certificates are not an array")
    # `crit` must not list names that JWS defines (RFC 7515, 4.1.11), so `header` leaves them out.
    named = {name: value for name, value in protected.items() if name not in ("alg", "cty", "crit")}
    return Sealed(
        header=named,
        times={name: _jws_time(protected[name], name) for name in (SIGNING_TIME, AUTHENTIC_TIME, EXPIRY) if name in protected},
        algorithm=protected.get("alg"),
        content_type=protected.get("cty"),
        critical=critical,
        understood=frozenset(),
        certificates=tuple(_decoded(one) for one in chain or ()),
        payload=_url_decoded(encoded[1]),
        signature=_url_decoded(encoded[2]),
        signed=f"{encoded[0]}.{encoded[1]}".encode(),
        is_cose=False,
        token=_decoded(token) if token is not None else None,
        agent=agent if isinstance(agent, str) else None,
    )


def _object(data: bytes, what: str) -> dict[str, Json]:
    try:
        found = parse_json(data, what)
    except Error as error:
        raise _malformed_jws(error.message) from error
    if not isinstance(found, dict):
        raise _malformed_jws(f"{what} is not an object")
    return found


def _url_decoded(text: str) -> bytes:
    """Decode base64url, which must be canonical and without padding."""
    try:
        data = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed_jws("a part is not base64url") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():
        raise _malformed_jws("a part is not canonical base64url")
    return data


def _decoded(value: Json) -> bytes:
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError) as error:
        raise _malformed_jws("a certificate or the timestamp is not base64") from error
    if not isinstance(value, str) or base64.b64encode(data) != value.encode():
        raise _malformed_jws("a certificate or the timestamp is not canonical base64")
    return data


def _jws_time(value: Json, name: str) -> datetime | RefusalError:
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    return RefusalError("HEADER_INVALID", f"the header `{name}` is not an RFC 3339 time")


def _malformed_jws(reason: str) -> RefusalError:
    return RefusalError("ENVELOPE_MALFORMED", f"the JWS envelope is malformed: {reason}")
