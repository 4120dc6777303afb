"""COSE envelopes (RFC 9052, COSE_Sign1; signature-envelope-cose): tag 18 over protected header, unprotected header, payload, signature."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from . import cbor
from .envelope import AGENT, AUTHENTIC_TIME, EXPIRY, SIGNING_TIME, TIMESTAMP, Sealed
from .verdict import RefusalError

_ALGORITHM: Final = 1
_CRITICAL: Final = 2
_CONTENT_TYPE: Final = 3
_X5CHAIN: Final = 33
_TAG: Final = b"\xd2"
_SIGNED: Final = cbor.array_head(4) + cbor.string(b"Signature1", 3)


def parse_cose(data: bytes) -> Sealed:
    """Take an envelope apart.

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
        raise _malformed_cose("no tagged COSE_Sign1 of four parts")
    encoded, unprotected, payload, signature = message.value
    if not isinstance(encoded, bytes) or not isinstance(payload, bytes) or not isinstance(signature, bytes):
        raise _malformed_cose("protected header, payload or signature is no byte string")
    protected = cbor.loads(encoded) if encoded else {}
    if not isinstance(protected, dict) or not isinstance(unprotected, dict):
        raise _malformed_cose("a header is no map")
    if protected.keys() & unprotected.keys():
        raise _malformed_cose("a label stands in both headers")
    critical = protected.get(_CRITICAL)
    if critical is not None and not isinstance(critical, list):
        raise _malformed_cose("the critical labels are no array")
    if critical is not None and not all(isinstance(label, (int, str)) and not isinstance(label, bool) for label in critical):
        raise _malformed_cose("a critical label is neither a number nor a text")
    token, agent = unprotected.get(TIMESTAMP), unprotected.get(AGENT)
    if token is not None and not isinstance(token, bytes):
        raise _malformed_cose("the timestamp is no byte string")
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
    """An array, leaf first; a single certificate may stand alone (RFC 9360, 2)."""
    chain = [value] if isinstance(value, bytes) else value
    if chain is None:
        return ()
    if not isinstance(chain, list):
        raise _malformed_cose("the certificates are no array")
    certificates = tuple(one for one in chain if isinstance(one, bytes))
    if len(certificates) != len(chain):
        raise _malformed_cose("a certificate is no byte string")
    return certificates


def _cose_time(value: cbor.Value, name: str) -> datetime | RefusalError:
    if isinstance(value, cbor.Tag) and value.number == 1 and isinstance(value.value, int) and not isinstance(value.value, bool):
        try:
            return datetime.fromtimestamp(value.value, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    return RefusalError("HEADER_INVALID", f"the header `{name}` is no time (tag 1 over a whole number)")


def _malformed_cose(reason: str) -> RefusalError:
    return RefusalError("ENVELOPE_MALFORMED", f"the COSE envelope is malformed: {reason}")
