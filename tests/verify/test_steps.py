"""Envelopes, policies, revocation lists and provenance: the test vectors, and rules that the vectors do not cover."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from marfetch.errors import InputError, SignatureError
from marfetch.oci import Descriptor, Digest
from marfetch.verify import provenance
from marfetch.verify.policy import Action, Check, parse_policy
from marfetch.verify.revocation import Lists, cache_entry
from marfetch.verify.steps import EnvelopeResult, TrustContext, examine
from marfetch.verify.truststore import Places
from marfetch.verify.verdict import PROGRESS

from ..world.paths import TRUST
from ..world.signing import ARTIFACT, NOW, Authority, Identity, N, Stamp, cose, issue, jws, new_key, payload, policy, revocation_list
from ..world.vectors import CASES, VECTORS, write_stores

POLICIES = {case["name"]: case for case in json.loads((TRUST / "policies" / "policy-cases.json").read_text())}
MOMENT = datetime.fromisoformat(VECTORS["now"])
COSE, JWS = "application/cose", "application/jose+json"


@pytest.fixture(scope="module")
def vector_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stores(tmp_path_factory.mktemp("stores"))


def vector_trust(stores: Path, name: str, **options: Any) -> TrustContext:
    given = VECTORS["policies"][name]
    verification = {"level": given.get("level", "strict"), **{key: given[key] for key in ("override", "verifyTimestamp") if key in given}}
    document = policy(trustStores=given["trustStores"], trustedIdentities=given["trustedIdentities"], signatureVerification=verification)
    return TrustContext(
        parse_policy(json.dumps(document).encode(), "policy").statements[0], Places(stores=stores), Lists(**options), MOMENT
    )


def vector_artifact(case: Mapping[str, Any]) -> Descriptor:
    return Descriptor(case["artifact"]["mediaType"], Digest.parse(case["artifact"]["digest"]), case["artifact"]["size"])


def code(found: EnvelopeResult) -> str:
    return found.refusal.code if found.refusal else "OK"


@pytest.mark.parametrize("name", CASES)
def test_each_vector_gets_the_code_that_it_expects(vector_stores: Path, name: str) -> None:
    case = CASES[name]
    found = examine(
        (TRUST / case["envelope"]).read_bytes(),
        case["layerMediaType"],
        vector_artifact(case),
        vector_trust(vector_stores, case["policy"]),
    )
    assert code(found) == case["expect"], found.refusal


@pytest.mark.parametrize("name", POLICIES)
def test_each_policy_document_is_judged_as_notation_judges_it(name: str) -> None:
    raw = json.dumps(POLICIES[name]["document"]).encode()
    if POLICIES[name]["notationAccepts"]:
        assert parse_policy(raw, "policy").statements
    else:
        with pytest.raises(InputError) as caught:
            parse_policy(raw, "policy")
        assert caught.value.code == "POLICY_INVALID"


REVOCATION = {
    "good": "OK",
    "rev": "REVOKED",
    "exp": "REVOCATION_UNKNOWN",
    "inv": "REVOKED",
    "inv-sa-before": "OK",
    "inv-sa-after": "REVOKED",
}


@pytest.mark.parametrize("all_at_once", [False, True], ids=["one list", "all lists"])
@pytest.mark.parametrize("name", REVOCATION)
def test_revocation_vectors(vector_stores: Path, tmp_path: Path, name: str, all_at_once: bool) -> None:
    for file in (TRUST / "revocation").glob("*.crl" if all_at_once else f"{name.partition('-')[0]}.crl"):
        shutil.copy(file, tmp_path)
    trust = vector_trust(vector_stores, "sa" if "-sa-" in name else "base", directories=[tmp_path])
    artifact = vector_artifact(CASES["ok-forged-cose"])
    assert code(examine((TRUST / "revocation" / f"{name}.cose").read_bytes(), COSE, artifact, trust)) == REVOCATION[name]


# -- marfetch's own rules, tested with generated signers


@pytest.fixture(scope="module")
def stores(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authority.write(tmp_path_factory.mktemp("own") / "stores")


Judge = Callable[..., EnvelopeResult]


@pytest.fixture
def judge(stores: Path) -> Judge:
    """`judge(envelope, trustStores=[…])` verifies an envelope under a policy, and returns the result."""

    def examined(
        data: bytes,
        *,
        now: datetime = NOW,
        lists: Lists | None = None,
        revocation: Action | None = None,
        metadata: Any = None,
        **changes: Any,
    ) -> EnvelopeResult:
        statement = parse_policy(json.dumps(policy(**changes)).encode(), "policy").statements[0]
        trust = TrustContext(statement, Places(stores=stores), lists or Lists(), now, revocation, metadata or {})
        return examine(data, COSE if data[:1] == b"\xd2" else JWS, ARTIFACT, trust)

    return examined


WITH_TSA = {"trustStores": ["ca:test", "tsa:test"]}


@pytest.mark.parametrize("form", [cose, jws], ids=["cose", "jws"])
@pytest.mark.parametrize("kind", [2048, 3072, 4096, "secp256r1", "secp384r1", "secp521r1"])
def test_each_algorithm_in_each_form(authority: Authority, judge: Judge, form: Any, kind: Any) -> None:
    signer = authority.signer(kind=kind)
    assert code(judge(form(signer, payload(ARTIFACT)))) == "OK"
    assert code(judge(form(signer, payload(ARTIFACT), stamp=Stamp(authority.tsa)), **WITH_TSA)) == "OK"


@pytest.mark.parametrize("kind", [1024, "secp256k1", "ed25519"])
def test_other_keys_are_refused_as_such(authority: Authority, judge: Judge, kind: Any) -> None:
    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else new_key(kind)
    other = issue("Test Signer", authority.middle, key=key)
    signed = cose(authority.signer(), payload(ARTIFACT), chain=other.chain)
    assert code(judge(signed)) == "KEY_UNSUPPORTED"


U = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.7"), b"\x05\x00")
SIGNERS: dict[str, tuple[dict[str, Any], str]] = {
    "no purpose": ({"purposes": None}, "OK"),
    "code signing and another": ({"purposes": [ExtendedKeyUsageOID.CODE_SIGNING, x509.ObjectIdentifier("1.3.6.1.4.1.311.76.1")]}, "OK"),
    "any purpose": ({"purposes": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, "CERT_INVALID"),
    "OCSP signing": ({"purposes": [ExtendedKeyUsageOID.OCSP_SIGNING]}, "CERT_INVALID"),
    "client": ({"purposes": [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.CODE_SIGNING]}, "CERT_INVALID"),
    "e-mail": ({"purposes": [ExtendedKeyUsageOID.EMAIL_PROTECTION]}, "CERT_INVALID"),
    "key usage not critical": ({"usage_critical": False}, "CERT_INVALID"),
    "no key usage": ({"usage": ()}, "CERT_INVALID"),
    "encipherment too": ({"usage": ("digital_signature", "key_encipherment")}, "CERT_INVALID"),
    "encipherment only": ({"usage": ("key_encipherment",)}, "CERT_INVALID"),
    "non-repudiation too": ({"usage": ("digital_signature", "content_commitment")}, "OK"),
    "no basic constraints": ({"basic": False}, "OK"),
    "an unknown critical extension": ({"more": [(U, True)]}, "OK"),  # only three extensions are checked, so others are ignored
    "the subject without a state": ({"subject": {"CN": "x", "C": "US", "O": "Example Test Corporation"}}, "IDENTITY_MISMATCH"),
    "another case": ({"subject": {"CN": "x", "C": "US", "ST": "washington", "O": "Example Test Corporation"}}, "IDENTITY_MISMATCH"),
    "a component without a name": ({"subject": {"DC": "test", "C": "US", "ST": "Washington", "O": "Example Test Corporation"}}, "IDENTITY_MISMATCH"),
    "two organizations": (
        {"subject": [("C", "US"), ("ST", "Washington"), ("O", "Example Test Corporation"), ("O", "Other")]},
        "IDENTITY_MISMATCH",
    ),
    "a comma in a name": ({"subject": {"CN": "a,b", "C": "US", "ST": "Washington", "O": "Example Test Corporation"}}, "OK"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNERS)
def test_what_a_signing_certificate_must_be(authority: Authority, judge: Judge, name: str) -> None:
    options, wanted = SIGNERS[name]
    signer = authority.signer(**options)
    assert code(judge(cose(signer, payload(ARTIFACT)))) == wanted


def middle_with(authority: Authority, **options: Any) -> Identity:
    return issue("Test Other Intermediate", authority.root, key=new_key("secp256r1", 8), **{"ca": True, **options})


ISSUERS: dict[str, tuple[dict[str, Any], str]] = {
    "right": ({}, "OK"),
    "not an authority": ({"ca": False, "usage": ("key_cert_sign",)}, "CERT_INVALID"),
    "basic constraints not critical": ({"basic_critical": False}, "CERT_INVALID"),
    "no key usage": ({"usage": ()}, "CERT_INVALID"),
    "may not sign certificates": ({"usage": ("crl_sign",)}, "CERT_INVALID"),
}


@pytest.mark.parametrize("name", ISSUERS)
def test_what_an_issuer_must_be(authority: Authority, judge: Judge, name: str) -> None:
    options, wanted = ISSUERS[name]
    signer = issue("Test Signer", middle_with(authority, **options), key=new_key("secp256r1", 5))
    assert code(judge(cose(signer, payload(ARTIFACT)))) == wanted


def test_a_single_self_signed_certificate_may_sign(judge: Judge, stores: Path) -> None:
    signer = issue("Test Alone", key=new_key("secp256r1", 9))
    store = stores / "x509" / "ca" / "alone"
    store.mkdir(exist_ok=True)
    (store / "it.pem").write_bytes(signer.certificate.public_bytes(Encoding.PEM))
    assert code(judge(cose(signer, payload(ARTIFACT)), trustStores=["ca:alone"])) == "OK"


def test_an_intermediate_may_be_what_is_trusted(authority: Authority, judge: Judge, stores: Path) -> None:
    store = stores / "x509" / "ca" / "middle"
    store.mkdir(exist_ok=True)
    (store / "it.crt").write_bytes(authority.middle.der)
    assert code(judge(cose(authority.signer(), payload(ARTIFACT)), trustStores=["ca:middle"])) == "OK"


TIME = cbor2.CBORTag(1, int(NOW.timestamp()))
LATER = cbor2.CBORTag(1, int(NOW.timestamp()) + 86400)
HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "expiry marked": ({"protected": {f"{N}expiry": LATER, 2: [f"{N}signingScheme", f"{N}expiry"]}}, "OK"),
    "expiry not marked": ({"protected": {f"{N}expiry": LATER}}, "CRIT_INVALID"),
    "expired": ({"protected": {f"{N}expiry": TIME, 2: [f"{N}signingScheme", f"{N}expiry"]}}, "SIGNATURE_EXPIRED"),
    "a name twice": ({"protected": {2: [f"{N}signingScheme", f"{N}signingScheme"]}}, "CRIT_INVALID"),
    "an absent name": ({"protected": {2: [f"{N}signingScheme", "com.example"]}}, "CRIT_INVALID"),
    "an unknown name": ({"protected": {2: [f"{N}signingScheme", "com.example"], "com.example": 1}}, "CRIT_UNKNOWN"),
    "an unknown number": ({"protected": {2: [f"{N}signingScheme", 99], 99: 1}}, "CRIT_UNKNOWN"),
    "algorithm marked too": ({"protected": {2: [1, f"{N}signingScheme"]}}, "OK"),
    "plugin": ({"protected": {2: [f"{N}signingScheme", f"{N}verificationPlugin"], f"{N}verificationPlugin": "x"}}, "PLUGIN_REQUIRED"),
    "no times": ({"drop": [f"{N}signingTime"]}, "HEADER_INVALID"),
    "time as a float": ({"protected": {f"{N}signingTime": cbor2.CBORTag(1, 1.5)}}, "HEADER_INVALID"),
    "time far away": ({"protected": {f"{N}signingTime": cbor2.CBORTag(1, 1 << 62)}}, "HEADER_INVALID"),
    "no content type": ({"drop": [3]}, "CONTENT_TYPE_UNSUPPORTED"),
    "content type as a number": ({"protected": {3: 50}}, "CONTENT_TYPE_UNSUPPORTED"),
    "algorithm as a text": ({"protected": {1: "ES256"}}, "ALG_MISMATCH"),
    "certificates in both headers": ({"protected": {33: [b""]}}, "ENVELOPE_MALFORMED"),
    "critical as a text": ({"protected": {2: "x"}}, "ENVELOPE_MALFORMED"),
    "no certificates": ({"unprotected": {33: None}}, "CERT_CHAIN_MISSING"),
    "an empty header": ({"encoded": b""}, "ALG_MISMATCH"),
    "a header that is no map": ({"encoded": b"\x80"}, "ENVELOPE_MALFORMED"),
    "a label twice": ({"encoded": b"\xa2\x01\x26\x01\x26"}, "ENVELOPE_MALFORMED"),
    "a number not in its shortest form": ({"encoded": b"\xa1\x18\x01\x26"}, "ENVELOPE_MALFORMED"),
    "something behind the header": ({"encoded": b"\xa1\x01\x26\x00"}, "ENVELOPE_MALFORMED"),
    "a certificate of junk": ({"chain": [b"junk"]}, "CERT_INVALID"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_cose(authority: Authority, judge: Judge, name: str) -> None:
    options, wanted = HEADERS[name]
    assert code(judge(cose(authority.signer(), payload(ARTIFACT), **options))) == wanted


JWS_HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "alg marked": ({"protected": {"crit": [f"{N}signingScheme", "alg"]}}, "CRIT_INVALID"),
    "an unknown name": ({"protected": {"crit": [f"{N}signingScheme", "b64"], "b64": False}}, "CRIT_UNKNOWN"),
    "a time without a zone": ({"protected": {f"{N}signingTime": "2026-11-23T19:00:00"}}, "HEADER_INVALID"),
    "a time as a number": ({"protected": {f"{N}signingTime": 1}}, "HEADER_INVALID"),
    "a time with a fraction": ({"protected": {f"{N}signingTime": "2026-11-23T19:00:00.123456789+01:00"}}, "OK"),
    "both times": ({"protected": {f"{N}authenticSigningTime": "2026-11-23T19:00:00Z"}}, "HEADER_INVALID"),
    "a member twice": ({"encoded": b'{"alg":"ES256","alg":"ES256"}'}, "ENVELOPE_MALFORMED"),
    "not a number": ({"encoded": b'{"alg":"ES256","x":NaN}'}, "ENVELOPE_MALFORMED"),
    "padding": ({"members": {"signature": "AAA="}}, "ENVELOPE_MALFORMED"),
    "bits that say nothing": ({"members": {"signature": "AB"}}, "ENVELOPE_MALFORMED"),
    "a member of the header that has no place": ({"header": {"kid": "x"}}, "ENVELOPE_MALFORMED"),
    "a missing member": ({"members": {"payload": None}}, "ENVELOPE_MALFORMED"),
    "certificates as a text": ({"header": {"x5c": "x"}}, "ENVELOPE_MALFORMED"),
    "no certificates": ({"header": {"x5c": []}}, "CERT_CHAIN_MISSING"),
    "an empty signature": ({"members": {"signature": ""}}, "SIGNATURE_INVALID"),
}  # fmt: skip


@pytest.mark.parametrize("name", JWS_HEADERS)
def test_headers_of_jws(authority: Authority, judge: Judge, name: str) -> None:
    options, wanted = JWS_HEADERS[name]
    assert code(judge(jws(authority.signer(), payload(ARTIFACT), **options))) == wanted


PAYLOADS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "PAYLOAD_INVALID"),
    "no JSON": (b"x", "PAYLOAD_INVALID"),
    "a member twice": (payload(ARTIFACT).replace(b'"size": 11', b'"size": 11, "size": 11'), "PAYLOAD_INVALID"),
    "the size as a text": (payload(ARTIFACT, size="11"), "PAYLOAD_INVALID"),
    "another size": (payload(ARTIFACT, size=12), "SUBJECT_MISMATCH"),
    "an annotation that is no text": (payload(ARTIFACT, annotations={"a": 1}), "PAYLOAD_INVALID"),
    "annotations": (payload(ARTIFACT, annotations={"a": "b"}), "OK"),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_is_signed(authority: Authority, judge: Judge, name: str) -> None:
    content, wanted = PAYLOADS[name]
    assert code(judge(cose(authority.signer(), content))) == wanted


@pytest.mark.parametrize(("wish", "wanted"), [({"a": "b"}, "OK"), ({"a": "c"}, "ANNOTATION_MISMATCH"), ({"x": "y"}, "ANNOTATION_MISMATCH")])
def test_an_annotation_can_be_asked_for(authority: Authority, judge: Judge, wish: dict[str, str], wanted: str) -> None:
    assert code(judge(cose(authority.signer(), payload(ARTIFACT, annotations={"a": "b"})), metadata=wish)) == wanted


# -- times

STAMPS: dict[str, tuple[dict[str, Any], str]] = {
    "no accuracy": ({"accuracy": None}, "OK"),
    "sha384": ({"digest": "sha384"}, "OK"),
    "sha512": ({"digest": "sha512"}, "OK"),
    "the root is in the token too": ({"chain": "whole"}, "OK"),
    "no certificate": ({"chain": ()}, "TIMESTAMP_INVALID"),
    "sha1": ({"digest": "sha1"}, "TIMESTAMP_INVALID"),
    "no name of the signer": ({"ess": False}, "TIMESTAMP_INVALID"),
    "the name of another signer": ({"ess_of": b"x"}, "TIMESTAMP_INVALID"),
    "of other bytes": ({"imprint_of": b"x"}, "TIMESTAMP_MISMATCH"),
    "a wrong signature": ({"break_signature": True}, "TIMESTAMP_INVALID"),
    "another version": ({"version": "v4"}, "TIMESTAMP_MALFORMED"),
    "before the certificate": ({"time": NOW - timedelta(days=401)}, "TIMESTAMP_INVALID"),
}


@pytest.mark.parametrize("name", STAMPS)
def test_timestamps(authority: Authority, judge: Judge, name: str) -> None:
    options, wanted = STAMPS[name]
    options = {**options, "chain": authority.tsa.chain} if options.get("chain") == "whole" else options
    assert code(judge(cose(authority.signer(), payload(ARTIFACT), stamp=Stamp(authority.tsa, **options)), **WITH_TSA)) == wanted


def test_certificates_that_have_all_issued_each_other_are_given_up_soon(authority: Authority, judge: Judge) -> None:
    key = new_key("secp256r1", 91)
    ring = issue("Test Ring", ca=True, key=key)
    twins = [issue("Test Ring", ring, ca=True, key=key) for _ in range(14)]
    tsa = issue("Test Ring TSA", ring, key=new_key("secp256r1", 4), purposes=[ExtendedKeyUsageOID.TIME_STAMPING], purposes_critical=True)
    stamp = Stamp(tsa, chain=[tsa.der, *(one.der for one in twins)])
    assert code(judge(cose(authority.signer(), payload(ARTIFACT), stamp=stamp), **WITH_TSA)) == "UNTRUSTED_TSA"


STAMPERS: dict[str, tuple[dict[str, Any], str]] = {
    "purpose not critical": ({"purposes_critical": False}, "TIMESTAMP_INVALID"),
    "another purpose too": ({"purposes": [ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING]}, "TIMESTAMP_INVALID"),
    "no purpose": ({"purposes": None}, "TIMESTAMP_INVALID"),
    "no key usage": ({"usage": ()}, "TIMESTAMP_INVALID"),
    "key usage not critical": ({"usage_critical": False}, "OK"),
    "an unknown critical extension": ({"more": [(U, True)]}, "TIMESTAMP_INVALID"),
    "an authority": ({"ca": True, "usage": ("digital_signature",)}, "TIMESTAMP_INVALID"),
    "expired when it stamped": ({"end": NOW - timedelta(days=1)}, "TIMESTAMP_INVALID"),
}


@pytest.mark.parametrize("name", STAMPERS)
def test_what_a_timestamping_certificate_must_be(authority: Authority, judge: Judge, name: str) -> None:
    options, wanted = STAMPERS[name]
    given = {"purposes": [ExtendedKeyUsageOID.TIME_STAMPING], "purposes_critical": True, **options}
    tsa = issue("Test Other TSA", authority.tsa_root, key=new_key("secp256r1", 4), **given)
    assert code(judge(cose(authority.signer(), payload(ARTIFACT), stamp=Stamp(tsa)), **WITH_TSA)) == wanted


def test_a_timestamp_saves_a_signature_whose_certificate_has_expired(authority: Authority, judge: Judge) -> None:
    data = cose(authority.signer(end=NOW), payload(ARTIFACT), stamp=Stamp(authority.tsa))
    assert code(judge(data, now=NOW + timedelta(days=1), **WITH_TSA)) == "OK"


def test_without_a_store_for_timestamps_an_expired_certificate_names_the_way_out(authority: Authority, judge: Judge) -> None:
    data = cose(authority.signer(end=NOW), payload(ARTIFACT), stamp=Stamp(authority.tsa))
    found = judge(data, now=NOW + timedelta(days=1))
    assert code(found) == "CERT_EXPIRED"
    assert "add a `tsa` store" in (found.refusal.hint or "" if found.refusal else "")


@pytest.mark.parametrize("accuracy", [1, None, 3])
def test_a_certificate_must_be_valid_over_the_whole_accuracy_of_a_timestamp(
    authority: Authority, judge: Judge, accuracy: int | None
) -> None:
    end = NOW - timedelta(hours=1)
    stamp = Stamp(authority.tsa, time=end - timedelta(seconds=2), accuracy=accuracy)
    assert code(judge(cose(authority.signer(end=end), payload(ARTIFACT), stamp=stamp), **WITH_TSA)) == (
        "CERT_EXPIRED" if accuracy == 3 else "OK"
    )


def test_the_baseline_policy_means_an_accuracy_of_a_second(authority: Authority, judge: Judge) -> None:
    end = NOW - timedelta(hours=1)
    stamp = Stamp(authority.tsa, time=end, accuracy=None, policy="0.4.0.2023.1.1")
    assert code(judge(cose(authority.signer(end=end), payload(ARTIFACT), stamp=stamp), **WITH_TSA)) == "CERT_EXPIRED"


# -- revocation


@pytest.fixture(scope="module")
def revocable(authority: Authority) -> Identity:
    return authority.signer(subject="Test Revocable", crl=["http://crl.test/a.crl"])


def lists_of(directory: Path, *lists: bytes, name: str = "list") -> Lists:
    for number, data in enumerate(lists):
        (directory / f"{name}{number or ''}.crl").write_bytes(data)
    return Lists(directories=[directory])


OTHER_SCOPE = x509.IssuingDistributionPoint(
    [x509.UniformResourceIdentifier("http://crl.test/b.crl")], None, False, False, None, False, False
)
OWN_SCOPE = x509.IssuingDistributionPoint([x509.UniformResourceIdentifier("http://crl.test/a.crl")], None, False, False, None, False, False)
LISTS: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({}, "OK"),
    "revoked": ({"revoked": True}, "REVOKED"),
    "on hold": ({"revoked": True, "reason": x509.ReasonFlags.certificate_hold}, "REVOKED"),
    "taken back": ({"revoked": True, "reason": x509.ReasonFlags.remove_from_crl}, "OK"),
    "revoked with a date of its own": ({"revoked": True, "invalid_since": NOW}, "REVOKED"),
    "out of date": ({"next_update": NOW - timedelta(seconds=1)}, "REVOCATION_UNKNOWN"),
    "signed by another authority": ({"key": new_key("secp256r1", 77)}, "REVOCATION_UNKNOWN"),
    "of another scope": ({"more": [(OTHER_SCOPE, True)]}, "REVOCATION_UNKNOWN"),
    "of this scope": ({"more": [(OWN_SCOPE, True)]}, "OK"),
    "an unknown critical extension": ({"more": [(U, True)]}, "REVOCATION_UNKNOWN"),
    "a delta": ({"more": [(x509.DeltaCRLIndicator(1), True)]}, "REVOCATION_UNKNOWN"),
}


@pytest.mark.parametrize("name", LISTS)
def test_revocation_lists(authority: Authority, revocable: Identity, judge: Judge, tmp_path: Path, name: str) -> None:
    options, wanted = dict(LISTS[name][0]), LISTS[name][1]
    revoked = [revocable] if options.pop("revoked", False) else []
    data = revocation_list(authority.middle, revoked, **options)
    assert code(judge(cose(revocable, payload(ARTIFACT)), lists=lists_of(tmp_path, data))) == wanted


def test_one_list_that_names_it_is_enough(authority: Authority, revocable: Identity, judge: Judge, tmp_path: Path) -> None:
    both = revocation_list(authority.middle), revocation_list(authority.middle, [revocable])
    assert code(judge(cose(revocable, payload(ARTIFACT)), lists=lists_of(tmp_path, *both))) == "REVOKED"


def test_a_list_in_the_form_of_notations_cache(authority: Authority, revocable: Identity, judge: Judge, tmp_path: Path) -> None:
    (tmp_path / hashlib.sha256(b"http://crl.test/a.crl").hexdigest()).write_bytes(
        cache_entry(revocation_list(authority.middle, [revocable]))
    )
    assert code(judge(cose(revocable, payload(ARTIFACT)), lists=Lists(caches=[tmp_path]))) == "REVOKED"


def test_a_valid_downloaded_list_is_cached(authority: Authority, revocable: Identity, judge: Judge) -> None:
    kept: list[str] = []
    good = revocation_list(authority.middle)
    lists = Lists(ask=lambda _: good, keep=lambda url, _: kept.append(url))
    assert code(judge(cose(revocable, payload(ARTIFACT)), lists=lists)) == "OK"
    assert kept == ["http://crl.test/a.crl"]
    bad = Lists(ask=lambda _: b"<html>", keep=lambda url, _: kept.append(url))
    assert code(judge(cose(revocable, payload(ARTIFACT)), lists=bad)) == "REVOCATION_UNKNOWN"
    assert len(kept) == 1


def refuse_to_ask(url: str) -> bytes:
    raise AssertionError(url)


def test_a_cached_list_is_used_without_a_request(authority: Authority, revocable: Identity, judge: Judge, tmp_path: Path) -> None:
    lists = lists_of(tmp_path, revocation_list(authority.middle))
    lists.ask = refuse_to_ask
    assert code(judge(cose(revocable, payload(ARTIFACT)), lists=lists)) == "OK"


@pytest.mark.parametrize(
    ("level", "action", "wanted", "outcome"),
    [
        ("strict", None, "REVOCATION_UNKNOWN", "failed"),
        ("permissive", None, "OK", "failed"),
        ("strict", Action.LOG, "OK", "failed"),
        ("strict", Action.SKIP, "OK", "skipped"),
        ("permissive", Action.ENFORCE, "REVOCATION_UNKNOWN", "failed"),
    ],
)
def test_an_unknown_revocation_status_has_the_effect_of_the_level(
    revocable: Identity, judge: Judge, level: str, action: Action | None, wanted: str, outcome: str
) -> None:
    found = judge(cose(revocable, payload(ARTIFACT)), signatureVerification={"level": level}, revocation=action)
    assert code(found) == wanted
    assert next(one for one in found.checks if one.check is Check.REVOCATION).outcome == outcome


def test_a_certificate_with_only_ocsp_has_unknown_status(authority: Authority, judge: Judge) -> None:
    signer = authority.signer(ocsp="http://ocsp.test/")
    assert code(judge(cose(signer, payload(ARTIFACT)))) == "REVOCATION_UNKNOWN"


def test_the_timestamping_authority_can_be_revoked_too(authority: Authority, judge: Judge, tmp_path: Path) -> None:
    tsa = issue(
        "Test Revocable TSA", authority.tsa_root, key=new_key("secp256r1", 4), purposes=[ExtendedKeyUsageOID.TIME_STAMPING], purposes_critical=True, crl=["http://crl.test/tsa.crl"]
    )  # fmt: skip
    data = cose(authority.signer(), payload(ARTIFACT), stamp=Stamp(tsa))
    assert code(judge(data, lists=lists_of(tmp_path, revocation_list(authority.tsa_root, [tsa])), **WITH_TSA)) == "REVOKED"
    assert code(judge(data, **WITH_TSA)) == "REVOCATION_UNKNOWN"


# -- levels and stores


def test_a_refusal_says_which_root_and_which_subject(authority: Authority, judge: Judge) -> None:
    other = Authority(root=issue("Test Evil Root", ca=True, key=new_key("secp256r1", 66)))
    found = judge(cose(other.signer(), payload(ARTIFACT)))
    assert found.refusal is not None
    assert found.refusal.code == "UNTRUSTED_ROOT"
    assert found.signed.thumbprints[-1] in found.refusal.message
    identity = judge(cose(authority.signer(), payload(ARTIFACT)), trustedIdentities=["x509.subject: C=US, ST=Oregon, O=Other"])
    assert identity.refusal is not None
    pasted = str(identity.refusal.hint).split('"')[1]
    assert code(judge(cose(authority.signer(), payload(ARTIFACT)), trustedIdentities=[pasted])) == "OK"


def test_audit_lets_an_unknown_signer_pass_and_says_so(judge: Judge) -> None:
    other = Authority(root=issue("Test Evil Root", ca=True, key=new_key("secp256r1", 66)))
    found = judge(cose(other.signer(), payload(ARTIFACT)), signatureVerification={"level": "audit"})
    assert code(found) == "OK"
    assert [str(one.check) for one in found.checks if one.outcome == "failed"] == ["authenticity"]


def test_a_failed_check_leaves_the_later_ones_undone(judge: Judge) -> None:
    found = judge(b"\xd2junk")
    assert [one.outcome for one in found.checks] == ["failed", *["not-done"] * 4]


def junk(store: Path) -> None:
    (store / "junk.crt").write_bytes(b"junk")


def link(store: Path) -> None:
    (store / "link.crt").symlink_to("/nonexistent")


def folder(store: Path) -> None:
    (store / "folder").mkdir()


def leaf(store: Path) -> None:
    (store / "leaf.crt").write_bytes(Authority().signer().der)


def gone(store: Path) -> None:
    store.rmdir()


@pytest.mark.parametrize("spoil", [junk, link, folder, leaf, gone])
def test_a_store_that_cannot_be_used_is_nobodys_signature(
    authority: Authority, judge: Judge, stores: Path, spoil: Callable[[Path], None]
) -> None:
    store = stores / "x509" / "ca" / f"spoilt-{spoil.__name__}"
    store.mkdir()
    spoil(store)
    with pytest.raises(InputError) as caught:
        judge(cose(authority.signer(), payload(ARTIFACT)), trustStores=[f"ca:{store.name}"], signatureVerification={"level": "audit"})
    assert caught.value.code == "TRUST_STORE_INVALID"


def test_an_empty_trust_store_trusts_no_signer(authority: Authority, judge: Judge, stores: Path) -> None:
    (stores / "x509" / "ca" / "empty").mkdir(exist_ok=True)
    assert code(judge(cose(authority.signer(), payload(ARTIFACT)), trustStores=["ca:empty"])) == "TRUST_STORE_EMPTY"


def test_every_code_has_its_place_in_the_order() -> None:
    assert len(set(PROGRESS)) == len(PROGRESS)
    assert {case["expect"] for case in CASES.values()} - {"OK"} <= set(PROGRESS)


# -- provenance

PACKAGE = Digest.of((TRUST / "prov" / "demo-0.1.0.tgz").read_bytes())
PROVENANCE = {
    "rsa.prov": "OK",
    "ed25519.prov": "OK",
    "ok-crlf.prov": "OK",
    "bad-tampered.prov": "PROV_SIGNATURE_INVALID",
    "bad-appended.prov": "PROV_MALFORMED",
    "bad-prepended.prov": "PROV_MALFORMED",
}


@pytest.mark.parametrize("ring", ["pubring.gpg", "pubring.asc"])
@pytest.mark.parametrize("name", PROVENANCE)
def test_provenance_vectors(name: str, ring: str) -> None:
    pytest.importorskip("pysequoia")
    raw, keyring = (TRUST / "prov" / name).read_bytes(), TRUST / "prov" / ring
    if PROVENANCE[name] == "OK":
        found = provenance.check(raw, keyring, name="demo-0.1.0.tgz", digest=PACKAGE, now=NOW)
        assert found.users[0].endswith("example.test>")
        return
    with pytest.raises(SignatureError) as caught:
        provenance.check(raw, keyring, name="demo-0.1.0.tgz", digest=PACKAGE, now=NOW)
    assert caught.value.code == PROVENANCE[name]
    assert "\n" not in caught.value.message


def test_provenance_is_of_one_file_and_one_digest() -> None:
    pytest.importorskip("pysequoia")
    raw, keyring = (TRUST / "prov" / "rsa.prov").read_bytes(), TRUST / "prov" / "pubring.gpg"
    assert provenance.check(raw, keyring, name="other-0.1.0.tgz", digest=PACKAGE, now=NOW).file == "demo-0.1.0.tgz"
    with pytest.raises(SignatureError) as caught:
        provenance.check(raw, keyring, name="demo-0.1.0.tgz", digest=Digest.of(b"x"), now=NOW)
    assert caught.value.code == "PROV_DIGEST_MISMATCH"


@pytest.mark.parametrize("content", [None, b"", b"no keys"])
def test_a_keyring_that_holds_no_keys(tmp_path: Path, content: bytes | None) -> None:
    pytest.importorskip("pysequoia")
    keyring = tmp_path / "ring"
    if content is not None:
        keyring.write_bytes(content)
    with pytest.raises(InputError) as caught:
        provenance.check((TRUST / "prov" / "rsa.prov").read_bytes(), keyring, name="demo-0.1.0.tgz", digest=PACKAGE, now=NOW)
    assert caught.value.code == "KEYRING_INVALID"


@pytest.mark.parametrize("spoil", ["nothing", "revoked", "expired"])
def test_a_key_that_has_expired_or_was_revoked_vouches_for_nothing(tmp_path: Path, spoil: str) -> None:
    sequoia: Any = pytest.importorskip("pysequoia")
    key = sequoia.Tsk.generate("Test <t@example.test>")
    text = f"name: demo\nversion: 0.1.0\n\n...\nfiles:\n  demo-0.1.0.tgz: {PACKAGE}\n".encode()
    raw = bytes(sequoia.sign(key.signer(), text, mode=sequoia.SignatureMode.CLEAR))
    public = key.extract_certificate()
    now = datetime.now(UTC)
    if spoil == "revoked":
        public = sequoia.Cert.from_bytes(bytes(public) + bytes(public.revoke(key.certifier())))
    if spoil == "expired":
        public = public.set_expiration(now + timedelta(hours=1), key.certifier())
        now += timedelta(hours=2)
    keyring = tmp_path / "ring"
    keyring.write_bytes(bytes(public))
    if spoil == "nothing":
        assert provenance.check(raw, keyring, name="demo-0.1.0.tgz", digest=PACKAGE, now=now).users == ("Test <t@example.test>",)
        return
    with pytest.raises(SignatureError) as caught:
        provenance.check(raw, keyring, name="demo-0.1.0.tgz", digest=PACKAGE, now=now)
    assert caught.value.code == "PROV_SIGNATURE_INVALID"


@pytest.mark.parametrize(
    ("metadata", "files", "wanted"),
    [
        ("name: bar\nversion: v0.1.0", {"bar-v0.1.0.tgz": PACKAGE}, "bar-v0.1.0.tgz"),
        ("name: bar\nversion: 0.1.0+a", {"bar-0.1.0+a.tgz": PACKAGE}, "bar-0.1.0+a.tgz"),
        ("name: bar\nversion: 0.1.0", {"foo-0.1.0.tgz": PACKAGE, "bar-0.1.0.tgz": PACKAGE}, "foo-0.1.0.tgz"),
        ("name: bar\nversion: 0.1.0", {"foo-0.1.0.tgz": Digest.of(b"x"), "bar-0.1.0.tgz": PACKAGE}, "bar-0.1.0.tgz"),
        ("name: bar\nversion: 0.1.0", {"bar-0.1.0.tgz": Digest.of(b"x")}, "PROV_DIGEST_MISMATCH"),
        ("name: bar\nversion: 0.1.0", {"other-0.1.0.tgz": PACKAGE}, "PROV_FILE_NOT_LISTED"),
        ("name: bar", {"bar-0.1.0.tgz": PACKAGE}, "PROV_FILE_NOT_LISTED"),
        ("name: [bar]\nversion: 1", {"bar-0.1.0.tgz": PACKAGE}, "PROV_FILE_NOT_LISTED"),
        ("bar", {"foo-0.1.0.tgz": PACKAGE}, "foo-0.1.0.tgz"),
        ("a: &a 1", {"foo-0.1.0.tgz": PACKAGE}, "PROV_MALFORMED"),
    ],
)
def test_the_name_that_helm_package_gave_counts_too(tmp_path: Path, metadata: str, files: dict[str, Digest], wanted: str) -> None:
    sequoia: Any = pytest.importorskip("pysequoia")
    key = sequoia.Tsk.generate("Test <t@example.test>")
    text = f"{metadata}\n\n...\nfiles:\n" + "".join(f"  {name}: {digest}\n" for name, digest in files.items())
    raw = bytes(sequoia.sign(key.signer(), text.encode(), mode=sequoia.SignatureMode.CLEAR))
    keyring = tmp_path / "ring"
    keyring.write_bytes(bytes(key.extract_certificate()))
    now = datetime.now(UTC)
    if not wanted.startswith("PROV"):
        assert provenance.check(raw, keyring, name="foo-0.1.0.tgz", digest=PACKAGE, now=now).file == wanted
        return
    with pytest.raises(SignatureError) as caught:
        provenance.check(raw, keyring, name="foo-0.1.0.tgz", digest=PACKAGE, now=now)
    assert caught.value.code == wanted


def test_without_pysequoia_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysequoia", None)
    with pytest.raises(InputError) as caught:
        provenance.check(b"", TRUST / "prov" / "pubring.gpg", name="demo-0.1.0.tgz", digest=PACKAGE, now=NOW)
    assert "marfetch[prov]" in str(caught.value.hint)
