"""JWS envelopes (RFC 7515, flattened JSON; signature-envelope-jws), read strictly: no name twice, exact case, canonical base64."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Final

from ..document import Json, parse_json
from ..errors import Error
from .envelope import AGENT, AUTHENTIC_TIME, EXPIRY, SIGNING_TIME, TIMESTAMP, Sealed
from .verdict import RefusalError

_MEMBERS: Final = frozenset(("payload", "protected", "header", "signature"))
_HEADERS: Final = frozenset(("x5c", TIMESTAMP, AGENT))
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_jws(data: bytes) -> Sealed:
    """Take an envelope apart.

    Raises:
        RefusalError: `ENVELOPE_MALFORMED`.
    """
    document = _object(data, "the envelope")
    if document.keys() != _MEMBERS:
        odd = sorted(document.keys() ^ _MEMBERS)[0]
        raise _malformed_jws(f"the member `{odd[:80]}` is missing or has no place there")
    header = document["header"]
    if not isinstance(header, dict) or not header.keys() <= _HEADERS:
        raise _malformed_jws("its header is no object, or has a member that has no place there")
    texts = [document[name] for name in ("protected", "payload", "signature")]
    encoded = [one for one in texts if isinstance(one, str) and one.isascii()]
    if len(encoded) != len(texts):
        raise _malformed_jws("a part is no text in base64url")
    protected = _object(_url_decoded(encoded[0]), "the protected header")
    critical = protected.get("crit")
    if critical is not None and not (isinstance(critical, list) and all(isinstance(name, str) for name in critical)):
        raise _malformed_jws("the critical names are no array of texts")
    chain, token, agent = header.get("x5c"), header.get(TIMESTAMP), header.get(AGENT)
    if chain is not None and not isinstance(chain, list):
        raise _malformed_jws("the certificates are no array")
    # Names that JWS itself defines cannot be marked as critical (RFC 7515, 4.1.11); they count as absent there.
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
        raise _malformed_jws(f"{what} is no object")
    return found


def _url_decoded(text: str) -> bytes:
    """Base64url without padding, in its only form."""
    try:
        data = base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed_jws("a part is not base64url") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():
        raise _malformed_jws("a part is not in the only form that base64url has for it")
    return data


def _decoded(value: Json) -> bytes:
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError) as error:
        raise _malformed_jws("a certificate or the timestamp is not base64") from error
    if not isinstance(value, str) or base64.b64encode(data) != value.encode():
        raise _malformed_jws("a certificate or the timestamp is not in the only form that base64 has for it")
    return data


def _jws_time(value: Json, name: str) -> datetime | RefusalError:
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    return RefusalError("HEADER_INVALID", f"the header `{name}` is no time of RFC 3339")


def _malformed_jws(reason: str) -> RefusalError:
    return RefusalError("ENVELOPE_MALFORMED", f"the JWS envelope is malformed: {reason}")
