"""Mutated envelopes, timestamps, policies and lists: no traceback, and none is accepted with different content.

`MARFETCH_MUTATIONS` is the number of mutations of each form (default: 20,000). For revocation lists and provenance, which are slower to
check, it is a tenth.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import cbor2
import pytest
from asn1crypto import cms, core, parser, tsp
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from rfc3161_client import VerifierBuilder, decode_timestamp_response
from rfc3161_client.errors import VerificationError

from marfetch.errors import Error
from marfetch.oci import Digest
from marfetch.verify import cbor, der, provenance
from marfetch.verify.chain import Certificate
from marfetch.verify.envelope import parse_cose, parse_jws
from marfetch.verify.policy import parse_policy
from marfetch.verify.revocation import Lists
from marfetch.verify.steps import EnvelopeResult, TrustContext, examine
from marfetch.verify.timestamp import proven
from marfetch.verify.truststore import Places
from marfetch.verify.verdict import RefusalError

from ..world.mutation import mutated
from ..world.paths import TRUST
from ..world.signing import ARTIFACT, NOW, Authority, Identity, Stamp, issue, new_key, payload, policy, revocation_list
from ..world.signing import cose as made_cose
from ..world.signing import jws as made_jws

COUNT = int(os.environ.get("MARFETCH_MUTATIONS", "20000"))
MOST = 1 << 16
"""Maximum size of a mutated document in bytes."""
FORMS = {"cose": "application/cose", "jws": "application/jose+json"}


@cache
def authority() -> Authority:
    return Authority()


@cache
def signer() -> Identity:
    return authority().signer()


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> TrustContext:
    root = authority().write(tmp_path_factory.mktemp("stores") / "stores")
    document = policy(trustStores=["ca:test", "tsa:test"])
    return TrustContext(parse_policy(json.dumps(document).encode(), "policy").statements[0], Places(stores=root), Lists(), NOW)


def envelope(form: str) -> bytes:
    made = made_cose if form == "cose" else made_jws
    return made(signer(), payload(ARTIFACT, annotations={"build": "42"}), stamp=Stamp(authority().tsa))


def content(data: bytes, form: str) -> tuple[Any, ...]:
    """Return the relevant content of an envelope: header, payload and certificates."""
    sealed = {"cose": parse_cose, "jws": parse_jws}[form](data)
    return dict(sealed.header), sealed.payload, sealed.certificates, sealed.algorithm, sealed.content_type, sealed.critical


def holds(found: EnvelopeResult) -> bool:
    return found.refusal is None


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_no_mutation_is_accepted_with_another_content(trust: TrustContext, form: str) -> None:
    original = envelope(form)
    assert holds(examine(original, FORMS[form], ARTIFACT, trust))
    dice = random.Random(20261123)
    for _ in range(COUNT):
        changed = mutated(original, dice, (original,), MOST)
        if holds(examine(changed, FORMS[form], ARTIFACT, trust)):
            assert content(changed, form) == content(original, form)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_flipped_bit_of_what_is_signed_is_refused(trust: TrustContext, form: str) -> None:
    original = envelope(form)
    if form == "cose":
        head, _, content_, signature = cbor2.loads(original).value
        parts = [head, content_, signature]
    else:
        document = json.loads(original)
        parts = [document[name].encode() for name in ("protected", "payload", "signature")]
    for part in parts:
        begin = original.index(part)
        for at in range(begin, begin + len(part)):
            for bit in range(8):
                changed = bytearray(original)
                changed[at] ^= 1 << bit
                assert not holds(examine(bytes(changed), FORMS[form], ARTIFACT, trust)), (at, bit)


def test_a_certificate_has_one_form_only(trust: TrustContext) -> None:
    leaf = signer()
    while leaf.der[-1] & 1:  # repeat until the last bit of the signature is 0, so that it can be marked as unused
        leaf = authority().signer()
    at = leaf.der.rindex(leaf.certificate.signature) - 1
    changed = leaf.der[:at] + b"\x01" + leaf.der[at + 1 :]
    data = made_cose(leaf, payload(ARTIFACT), chain=[changed, *leaf.chain[1:]], stamp=Stamp(authority().tsa))
    found = examine(data, FORMS["cose"], ARTIFACT, trust)
    assert found.refusal is not None
    assert found.refusal.code == "CERT_INVALID"


@pytest.mark.slow
def test_no_mutation_of_a_timestamp_is_accepted_with_another_time(trust: TrustContext) -> None:
    original = Stamp(authority().tsa).token(b"signature")
    roots = trust.places.certificates(trust.statement.stores_of("tsa"))
    right = proven(original, b"signature", roots)
    dice = random.Random(3161)
    for _ in range(COUNT):
        try:
            found = proven(mutated(original, dice, (original,), MOST), b"signature", roots)
        except RefusalError:
            continue
        assert (found.moment, found.chain) == (right.moment, right.chain)


@pytest.mark.slow
def test_no_mutation_of_a_revocation_list_takes_a_name_off_it(trust: TrustContext, tmp_path: Path) -> None:
    revocable = authority().signer(subject="Test Revocable", crl=["http://crl.test/a.crl"])
    data = made_cose(revocable, payload(ARTIFACT), stamp=Stamp(authority().tsa))
    original = revocation_list(authority().middle, [revocable])
    dice = random.Random(5280)
    for _ in range(COUNT // 10):
        changed = mutated(original, dice, (original,), MOST)
        lists = Lists(ask=lambda _, changed=changed: changed)  # type: ignore[misc]
        found = examine(data, FORMS["cose"], ARTIFACT, TrustContext(trust.statement, trust.places, lists, NOW))
        assert found.refusal is not None
        assert found.refusal.code in ("REVOKED", "REVOCATION_UNKNOWN")


def test_no_mutation_of_a_policy_is_more_than_an_error() -> None:
    original = json.dumps(policy()).encode()
    dice = random.Random(7)
    for _ in range(COUNT):
        codes = set()
        try:
            parse_policy(mutated(original, dice, (original,), MOST), "policy")
        except Error as error:
            codes.add(error.code)
        assert codes <= {"POLICY_INVALID"}


# -- comparison with other parsers

SCALARS = st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=300) | st.text(max_size=80) | st.booleans() | st.none()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(-99, 99) | st.text(max_size=8), inner, max_size=4), max_leaves=12
)  # fmt: skip


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_values_from_cbor2_are_parsed_correctly(value: Any) -> None:
    data = cbor2.dumps(value)
    assert depth(value) > cbor.MAX_DEPTH or cbor.loads(data) == cbor2.loads(data)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40))
def test_what_is_read_of_any_bytes_cbor2_reads_too_and_writes_back(data: bytes) -> None:
    try:
        value = cbor.loads(data)
    except cbor.CborError:
        return
    if not has_tag(value):  # cbor2 interprets tags, and raises for some
        assert_same(value, cbor2.loads(data))


def has_tag(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, cbor.Tag) or any(map(has_tag, inner))


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, dict):
        assert len(ours) == len(theirs)
    else:
        assert repr(ours) == repr(theirs)


@settings(max_examples=500, deadline=None)
@given(st.integers(-(1 << 200), 1 << 200), st.lists(st.integers(0, 1 << 40), min_size=1, max_size=6), st.binary(max_size=300))
def test_values_from_asn1crypto_are_parsed_correctly(number: int, arcs: list[int], octets: bytes) -> None:
    assert der.one(core.Integer(number).dump()).integer() == number
    dotted = ".".join(map(str, [1, 2, *arcs]))
    assert der.one(core.ObjectIdentifier(dotted).dump()).oid() == dotted
    assert der.one(core.OctetString(octets).dump()).octets() == octets


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
def test_der_is_read_whole_or_refused(data: bytes) -> None:
    try:
        node = der.one(data)
    except der.DerError:
        return
    assert node.raw == data
    _, _, tag, header, content_, trailer = parser.parse(data, strict=True)
    assert (node.tag & 0x1F, node.content, trailer) == (tag, content_, b"")
    assert node.start == len(header)


STAMPS: dict[str, dict[str, Any]] = {
    "right": {},
    "sha512": {"digest": "sha512"},
    "of other bytes": {"imprint_of": b"x"},
    "a wrong signature": {"break_signature": True},
    "of another root": {"other": True},
}


@pytest.mark.parametrize("name", STAMPS)
def test_timestamps_are_judged_as_rfc3161_client_judges_them(name: str) -> None:
    options = dict(STAMPS[name])
    ours = authority()
    trusted = Authority(tsa_root=other_root()).tsa_root if options.pop("other", False) else ours.tsa_root
    token = Stamp(ours.tsa, **options).token(b"signature")
    try:
        proven(token, b"signature", [Certificate.parse(trusted.der)])
        here = True
    except RefusalError:
        here = False
    response = tsp.TimeStampResp(
        {"status": tsp.PKIStatusInfo({"status": "granted"}), "time_stamp_token": cms.ContentInfo.load(token)}
    ).dump()
    verifier = VerifierBuilder().add_root_certificate(x509.load_der_x509_certificate(trusted.der)).build()
    try:
        there = verifier.verify_message(decode_timestamp_response(response), b"signature")
    except VerificationError:
        there = False
    assert here is there is (name in ("right", "sha512"))


def other_root() -> Identity:
    return issue("Test Other TSA Root", ca=True, key=new_key("secp256r1", 55))


@pytest.mark.slow
def test_provenance_that_is_changed_is_never_accepted(tmp_path: Path) -> None:
    pytest.importorskip("pysequoia")
    original = (TRUST / "prov" / "rsa.prov").read_bytes()
    package = Digest.of((TRUST / "prov" / "demo-0.1.0.tgz").read_bytes())
    shutil.copy(TRUST / "prov" / "pubring.gpg", tmp_path)
    body = original[: original.index(b"-----BEGIN PGP SIGNATURE")]
    dice = random.Random(1)
    for _ in range(COUNT // 10):
        changed = mutated(body, dice, (body,), MOST) + original[len(body) :]
        codes = {"PROV_"}
        try:
            found = provenance.check(changed, tmp_path / "pubring.gpg", name="demo-0.1.0.tgz", digest=package, now=NOW)
            assert (found.file, found.digest) == ("demo-0.1.0.tgz", package)
        except Error as error:
            codes.add(error.code[:5])
        assert codes == {"PROV_"}
