"""Verifies the timestamps of signatures, which are RFC 3161 tokens (see also RFC 5652, 5816 and 5035).

A token counts only if its certificate chains to a root in a `tsa` store. marfetch's own strict DER parser reads the token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from . import der
from .chain import HASHES, Certificate, check_authority_chain, verify_cms
from .verdict import Moment, RefusalError

_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
_SIGNING_CERTIFICATE_2: Final = "1.2.840.113549.1.9.16.2.47"
_BASELINE_POLICY: Final = "0.4.0.2023.1.1"
"""The policy of ETSI EN 319 421. If a token with this policy states no accuracy, the accuracy is one second."""
_MAX_PATH: Final = 8
_MAX_CERTIFICATES: Final = 16
_MAX_STEPS: Final = 64


@dataclass(frozen=True, slots=True)
class _Info:
    """The signed content of a timestamp token (TSTInfo in RFC 3161)."""

    digest: str
    imprint: bytes
    time: datetime
    accuracy: timedelta


@dataclass(frozen=True, slots=True)
class _Signer:
    """The signer of a timestamp token (SignerInfo in RFC 5652)."""

    issuer: bytes
    serial: int
    digest: str
    algorithm: str
    signature: bytes
    attributes: dict[str, der.DerValue]
    signed: bytes


@dataclass(frozen=True, slots=True)
class Proven:
    """A time that a timestamp proves.

    Attributes:
        moment: the time, and who states it.
        earliest: the time minus its accuracy.
        latest: the time plus its accuracy.
        chain: the certificates of the timestamping authority, leaf first.
    """

    moment: Moment
    earliest: datetime
    latest: datetime
    chain: tuple[Certificate, ...]


def proven(token: bytes, signature: bytes, roots: Sequence[Certificate]) -> Proven:
    """Verify a timestamp token, and return the time that it proves.

    Args:
        signature: the signature that the token must belong to.
        roots: the trusted root certificates of timestamping authorities.

    Raises:
        RefusalError: `TIMESTAMP_MALFORMED`, `TIMESTAMP_MISMATCH`, `TIMESTAMP_INVALID`, `UNTRUSTED_TSA`.
    """
    try:
        content, raw_certificates, signer = _token(token)
        info = _info(content)
    except (ValueError, IndexError) as error:
        raise RefusalError("TIMESTAMP_MALFORMED", f"the timestamp is malformed: {error}") from error
    _compare(info.digest, info.imprint, signature, "TIMESTAMP_MISMATCH", "the timestamp belongs to another signature")
    certificates = [Certificate.parse(raw, "TIMESTAMP_MALFORMED") for raw in raw_certificates]
    try:
        leaf = _signing_certificate(signer, certificates)
        chain = _path(leaf, certificates, roots, info.time)
        _check_signature(signer, leaf, content, chain)
    except (ValueError, IndexError) as error:
        raise RefusalError("TIMESTAMP_INVALID", f"a signed attribute of the timestamp is malformed: {error}") from error
    moment = Moment(info.time, info.accuracy.total_seconds(), leaf.subject, chain[-1].subject)
    try:
        return Proven(moment, info.time - info.accuracy, info.time + info.accuracy, chain)
    except OverflowError as error:
        raise RefusalError("TIMESTAMP_INVALID", "the time of the timestamp is out of range") from error


# -- parsing


def _token(token: bytes) -> tuple[bytes, list[bytes], _Signer]:
    kind, wrapped = _exactly(der.one(token).children(der.SEQUENCE), 2)
    if kind.oid() != _SIGNED_DATA:
        raise der.DerError("it is not signed data")
    version, digests, encapsulated, *rest = wrapped.only(0xA0).children(der.SEQUENCE)
    if version.integer() != 3:
        raise der.DerError("the version of the signed data is not 3")
    digests.expect(der.SET)
    content_type, content = _exactly(encapsulated.children(der.SEQUENCE), 2)
    if content_type.oid() != _TST_INFO:
        raise der.DerError("the signed content is not a timestamp")
    certificates: list[bytes] = []
    if rest and rest[0].tag == 0xA0:
        certificates = [node.expect(der.SEQUENCE).raw for node in rest.pop(0).children(0xA0)]
    if rest and rest[0].tag == 0xA1:
        rest.pop(0)
    (signers,) = _exactly(rest, 1)
    (signer,) = _exactly(signers.children(der.SET), 1)
    if len(certificates) > _MAX_CERTIFICATES:
        raise der.DerError(f"{len(certificates)} certificates, more than {_MAX_CERTIFICATES}")
    return content.only(0xA0).octets(), certificates, _signer(signer)


def _signer(node: der.DerValue) -> _Signer:
    version, identifier, digest, attributes, algorithm, signature, *unsigned = node.children(der.SEQUENCE)
    if version.integer() != 1:
        raise der.DerError("the version of the signer is not 1")
    issuer, serial = _exactly(identifier.children(der.SEQUENCE), 2)
    if len(unsigned) > 1 or (unsigned and unsigned[0].tag != 0xA1):
        raise der.DerError("there are unexpected fields after the signature")
    found: dict[str, der.DerValue] = {}
    for attribute in attributes.children(0xA0):
        name, values = _exactly(attribute.children(der.SEQUENCE), 2)
        if name.oid() in found:
            raise der.DerError("a signed attribute appears twice")
        (found[name.oid()],) = _exactly(values.children(der.SET), 1)
    # The signature covers the attributes with the tag SET OF, but the token has another, implicit tag there (RFC 5652, 5.4).
    signed = bytes([der.SET]) + attributes.raw[1:]
    return _Signer(issuer.raw, serial.integer(), _algorithm(digest), _algorithm(algorithm), signature.octets(), found, signed)


def _info(content: bytes) -> _Info:
    version, policy, imprint, serial, time, *rest = der.one(content).children(der.SEQUENCE)
    if version.integer() != 1:
        raise der.DerError("the version of the timestamp is not 1")
    algorithm, hashed = _exactly(imprint.children(der.SEQUENCE), 2)
    serial.integer()
    time.expect(der.GENERALIZED_TIME)
    accuracy = timedelta(seconds=1 if policy.oid() == _BASELINE_POLICY else 0)
    order = [der.SEQUENCE, der.BOOLEAN, der.INTEGER, 0xA0, 0xA1]
    last = -1
    for node in rest:
        if node.tag not in order[last + 1 :]:
            raise der.DerError("a field of the timestamp is out of order")
        last = order.index(node.tag)
        if node.tag == der.SEQUENCE:
            accuracy = _accuracy(node) or accuracy
        elif node.tag == der.BOOLEAN:
            node.boolean()
        elif node.tag == der.INTEGER:
            node.integer()
        elif node.tag == 0xA1:
            _check_extensions(node)
    return _Info(_algorithm(algorithm), hashed.octets(), time.time(), accuracy)


def _accuracy(node: der.DerValue) -> timedelta:
    seconds = {"seconds": 0, "milliseconds": 0, "microseconds": 0}
    order = {der.INTEGER: "seconds", 0x80: "milliseconds", 0x81: "microseconds"}
    last = 0
    for part in node.children(der.SEQUENCE):
        name = order.get(part.tag)
        value = part.integer(part.tag)
        place = list(order).index(part.tag) + 1 if name else 0
        if name is None or place <= last or not 0 <= value <= (86_400 if name == "seconds" else 999):
            raise der.DerError("the accuracy is out of range")
        seconds[name], last = value, place
    return timedelta(**seconds)


def _check_extensions(node: der.DerValue) -> None:
    for extension in node.children(0xA1):
        _, second, *_ = extension.children(der.SEQUENCE)
        if second.tag == der.BOOLEAN and second.boolean():
            raise RefusalError("TIMESTAMP_INVALID", "the timestamp has an unsupported critical extension")


def _algorithm(node: der.DerValue) -> str:
    """Return the object identifier of an algorithm. Ignore the parameters of the algorithm."""
    return node.children(der.SEQUENCE)[0].oid()


def _exactly(nodes: Sequence[der.DerValue], count: int) -> Sequence[der.DerValue]:
    if len(nodes) != count:
        raise der.DerError(f"expected {count} values, not {len(nodes)}")
    return nodes


# -- checking


def _compare(algorithm: str, wanted: bytes, data: bytes, code: str, reason: str) -> None:
    found = HASHES.get(algorithm)
    if found is None:
        raise RefusalError("TIMESTAMP_INVALID", f"the timestamp's hash algorithm is not supported ({algorithm})")
    if hashlib.new(found.name, data).digest() != wanted:
        raise RefusalError(code, reason)


def _signing_certificate(signer: _Signer, certificates: Sequence[Certificate]) -> Certificate:
    """Return the certificate that signed the token. The signed attribute and the unsigned fields must name the same certificate."""
    attribute = signer.attributes.get(_SIGNING_CERTIFICATE_2)
    if attribute is None:
        raise RefusalError("TIMESTAMP_INVALID", "the timestamp does not say which certificate signed it (ESSCertIDv2)")
    first = attribute.children(der.SEQUENCE)[0].children(der.SEQUENCE)[0].children(der.SEQUENCE)
    algorithm = "2.16.840.1.101.3.4.2.1"  # SHA-256, the default (RFC 5035, 4)
    if first[0].tag == der.SEQUENCE:
        algorithm = _algorithm(first.pop(0))
    wanted = first[0].octets()
    for one in certificates:
        if one.parsed.serial_number == signer.serial and _raw_issuer(one) == signer.issuer:
            _compare(algorithm, wanted, one.raw, "TIMESTAMP_INVALID", "the timestamp names a certificate other than the one it contains")
            if len(first) > 1:
                serial = first[1].children(der.SEQUENCE)[-1].integer()
                if serial != signer.serial:
                    raise RefusalError("TIMESTAMP_INVALID", "the timestamp names two different certificates")
            return one
    raise RefusalError("TIMESTAMP_INVALID", "the timestamp lacks the certificate that signed it")


def _raw_issuer(certificate: Certificate) -> bytes:
    """Return the issuer's name in DER, as encoded in the certificate."""
    fields = der.one(certificate.raw).children(der.SEQUENCE)[0].children(der.SEQUENCE)
    return fields[3 if fields[0].tag == 0xA0 else 2].raw


def _path(
    leaf: Certificate, certificates: Sequence[Certificate], roots: Sequence[Certificate], moment: datetime
) -> tuple[Certificate, ...]:
    """Return a certificate chain from the leaf to a trusted root that was valid at a given time."""
    failure: RefusalError | None = None
    for chain in _paths(leaf, certificates, roots):
        try:
            check_authority_chain(chain)
            for one in chain:
                if not one.parsed.not_valid_before_utc <= moment <= one.parsed.not_valid_after_utc:
                    raise RefusalError("TIMESTAMP_INVALID", f"`{one.subject}` was not valid at the time of the timestamp")
        except RefusalError as error:
            failure = failure or error
        else:
            return chain
    raise failure or RefusalError(
        "UNTRUSTED_TSA",
        f"the timestamping authority `{leaf.subject}` does not chain to a root in the `tsa` stores",
        subject=leaf.subject,
        issuer=leaf.parsed.issuer.rfc4514_string(),
    )


def _paths(leaf: Certificate, certificates: Sequence[Certificate], roots: Sequence[Certificate]) -> list[tuple[Certificate, ...]]:
    """Return the chains to a trusted root. Stop after `_MAX_STEPS`, because cross-signed certificates can form very many chains."""
    found: list[tuple[Certificate, ...]] = []
    waiting: list[tuple[Certificate, ...]] = [(leaf,)]
    for _ in range(_MAX_STEPS):
        if not waiting:
            break
        chain = waiting.pop(0)
        last = chain[-1]
        ends = [chain if root.raw == last.raw else (*chain, root) for root in roots if root.raw == last.raw or last.is_issued_by(root)]
        found += ends
        if not ends and len(chain) < _MAX_PATH:
            waiting += [(*chain, one) for one in certificates if one not in chain and last.is_issued_by(one)]
    return found


def _check_signature(signer: _Signer, leaf: Certificate, content: bytes, chain: Sequence[Certificate]) -> None:
    kind, digest = signer.attributes.get(_CONTENT_TYPE), signer.attributes.get(_MESSAGE_DIGEST)
    if kind is None or digest is None or kind.oid() != _TST_INFO:
        raise RefusalError("TIMESTAMP_INVALID", "the signed attributes of the timestamp lack the digest of the content")
    _compare(signer.digest, digest.octets(), content, "TIMESTAMP_INVALID", "the content of the timestamp is not what was signed")
    verify_cms(leaf.key, signer.algorithm, signer.digest, signer.signature, signer.signed)
    signed_at = signer.attributes.get(_SIGNING_TIME)
    if signed_at is not None:
        moment = signed_at.time()
        if not all(one.parsed.not_valid_before_utc <= moment <= one.parsed.not_valid_after_utc for one in chain):
            raise RefusalError("TIMESTAMP_INVALID", "the timestamp was signed outside the validity period of its certificates")
