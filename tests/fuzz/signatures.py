"""Targets: signatures, certificates, timestamps, revocation lists and provenance."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from functools import cache

from marfetch.errors import Error
from marfetch.oci import Descriptor, Digest
from marfetch.verify import cbor, der, envelope, provenance, revocation
from marfetch.verify.chain import Certificate, check_authority_chain, check_chain
from marfetch.verify.names import DistinguishedNameError, subject_attributes
from marfetch.verify.policy import StoreName, parse_policy
from marfetch.verify.steps import TrustContext, examine
from marfetch.verify.timestamp import proven
from marfetch.verify.truststore import Places, read_certificates
from marfetch.verify.verdict import RefusalError

from ..world.paths import TRUST
from ..world.promise import fresh
from ..world.signing import policy
from ..world.vectors import VECTORS, write_stores
from .target import Target

NOW = datetime.fromisoformat(VECTORS["now"])
FORMS = {".cose": "application/cose", ".jws": "application/jose+json"}


def _files(*patterns: str) -> list[bytes]:
    return [path.read_bytes() for pattern in patterns for path in sorted(TRUST.glob(pattern))]


@cache
def _places() -> Places:
    return Places(stores=write_stores(fresh("stores")))


@cache
def _trust() -> TrustContext:
    given = VECTORS["policies"]["base"]
    document = policy(trustStores=given["trustStores"], trustedIdentities=given["trustedIdentities"])
    return TrustContext(parse_policy(json.dumps(document).encode(), "policy").statements[0], _places(), revocation.Lists(), NOW)


@cache
def _artifact() -> Descriptor:
    case = next(case for case in VECTORS["cases"] if case["name"] == "ok-cli-rsa3072-ts-cose")
    return Descriptor(case["artifact"]["mediaType"], Digest.parse(case["artifact"]["digest"]), case["artifact"]["size"])


def _envelope(form: str, data: bytes) -> None:
    found = examine(data, form, _artifact(), _trust())
    if found.refusal is not None:
        raise found.refusal


def _cose(data: bytes) -> None:
    _envelope("application/cose", data)


def _jws(data: bytes) -> None:
    _envelope("application/jose+json", data)


def _cbor(data: bytes) -> None:
    try:
        cbor.loads(data)
    except cbor.CborError:
        return


def _der(data: bytes) -> None:
    try:
        node = der.one(data)
    except der.DerError:
        return
    assert node.raw == data
    waiting = [node]
    for _ in range(500):
        if not waiting:
            break
        node = waiting.pop()
        for read in (node.integer, node.oid, node.boolean, node.time, node.octets):
            with suppress(der.DerError):
                read()
        try:
            below = node.children(node.tag)
        except der.DerError:
            continue
        assert b"".join(one.raw for one in below) == node.content
        waiting += below


@cache
def _stamped() -> bytes:
    """Return the signature that one of the timestamp tokens covers."""
    return envelope.parse_cose((TRUST / "sig" / "ok-cli-rsa3072-ts-cose.cose").read_bytes()).signature


def _timestamp(data: bytes) -> None:
    roots = _places().certificates([StoreName("tsa", "test")])
    found = proven(data, _stamped(), roots)
    assert found.earliest <= found.moment.time <= found.latest


def _certificate(data: bytes) -> None:
    try:
        one = Certificate.parse(data)
    except RefusalError:
        for other in read_certificates(data):
            _look(other)
        return
    _look(one)


def _look(one: Certificate) -> None:
    assert one.subject is not None
    assert len(one.thumbprint) == 64
    with suppress(DistinguishedNameError):
        subject_attributes(one.parsed.subject)
    for check in (check_chain, check_authority_chain):
        with suppress(RefusalError):
            check((one, *_chain()[1:]))


@cache
def _chain() -> tuple[Certificate, ...]:
    sealed = envelope.parse_cose((TRUST / "revocation" / "rev.cose").read_bytes())
    return tuple(Certificate.parse(raw) for raw in sealed.certificates)


def _revocation_list(data: bytes) -> None:
    leaf, *_ = revocation.check(_chain(), revocation.Lists(ask=lambda _: data), NOW)
    assert leaf.state in (revocation.RevocationState.REVOKED, revocation.RevocationState.UNKNOWN), "a name was removed from the list"


def _provenance(data: bytes) -> None:
    package = Digest.of((TRUST / "prov" / "demo-0.1.0.tgz").read_bytes())
    found = provenance.check(data, TRUST / "prov" / "pubring.gpg", name="demo-0.1.0.tgz", digest=package, now=NOW)
    assert (found.file, found.digest) == ("demo-0.1.0.tgz", package)


def _keyring(data: bytes) -> None:
    path = fresh("keys") / "pubring.gpg"
    path.write_bytes(data)
    signed = (TRUST / "prov" / "rsa.prov").read_bytes()
    package = Digest.of((TRUST / "prov" / "demo-0.1.0.tgz").read_bytes())
    provenance.check(signed, path, name="demo-0.1.0.tgz", digest=package, now=NOW)


def _tokens() -> list[bytes]:
    found = []
    for path in sorted(TRUST.glob("sig/*ts*")):
        reader = {".cose": envelope.parse_cose, ".jws": envelope.parse_jws}.get(path.suffix)
        try:
            token = reader(path.read_bytes()).token if reader is not None else None
        except (Error, RefusalError):
            continue
        if token:
            found.append(token)
    return found


def _certificates() -> list[bytes]:
    return [*_files("certs/*.crt"), *(one.raw for one in _chain())]


TARGETS = (
    Target("cose", _cose, lambda: _files("sig/*.cose"), (6,), ("verify.envelope.parse_cose", "verify.envelope.opened", "verify.steps.examine", "verify.cbor.loads"), runs=600, most=1 << 14),
    Target("jws", _jws, lambda: _files("sig/*.jws"), (6,), ("verify.envelope.parse_jws",), runs=600, most=1 << 14),
    Target("cbor", _cbor, lambda: [*_files("sig/ok-annotations-cose.cose"), b"\xd2\x84\x43\xa1\x01\x26\xa0\x40\x40", b"\xfb\x7f\xf0\0\0\0\0\0\0", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", b"\xa2\x61a\x01\x20\xf6"], (), ("verify.cbor.loads",)),
    Target("der", _der, lambda: [*(one.raw for one in _chain()), *_tokens()[:2], b"\x17\x0d260101000000Z", b"\x18\x1299991231235959.999Z"], (), ("verify.der.one", "verify.der.many"), runs=400, most=1 << 13),
    Target("timestamp", _timestamp, _tokens, (6,), ("verify.timestamp.proven",), runs=500, most=1 << 14),
    Target("certificate", _certificate, _certificates, (2,), ("verify.chain.Certificate.parse", "verify.truststore.read_certificates"), runs=600),
    Target("revocation-list", _revocation_list, lambda: _files("revocation/rev.crl", "revocation/exp.crl"), (6,), ("verify.revocation.check", "verify.revocation._list"), runs=500),
    Target("provenance", _provenance, lambda: _files("prov/*.prov"), (6,), ("verify.provenance.check",), runs=200, most=1 << 13),
    Target("keyring", _keyring, lambda: _files("prov/pubring.*"), (2, 6), ("verify.provenance._keys",), runs=150, most=1 << 13),
)  # fmt: skip
