"""V: signatures, trust policies and clocks. An unverified artifact is never placed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from marfetch.oci import OCI_INDEX, Descriptor, Digest, descriptor_json

from ..world.listener import Listener
from ..world.rows import row
from ..world.signed import AT, REPOSITORY, SIGNATURE, Signed
from ..world.signing import NOW, Authority, Stamp, cose, jws, payload, policy, revocation_list
from ..world.world import Ended, World

TEN_YEARS = 3652 * 86400


class Trusting:
    """An environment with one artifact, which may be signed, and a trust policy that requires a signature."""

    def __init__(self, world: World, authority: Authority, directory: Path) -> None:
        self.world = world
        self.signed = Signed(world.registry, authority)
        self.directory = directory
        authority.write(directory / "truststore")
        self.says()
        world.environment["NOTATION_CONFIG"] = str(directory)

    def says(self, **changes: Any) -> None:
        """Write the policy, with changes to its statement."""
        (self.directory / "trustpolicy.json").write_text(json.dumps(policy(**changes)))

    def signs(self, **options: Any) -> Descriptor:
        """Push a signature that is valid except for these options."""
        return self.signed.sign(self.signed.good(**options))

    def verifies(self, *more: str, at: str | None = AT, **options: Any) -> Ended:
        """Run `verify` with a time at which all certificates are valid."""
        moment = ["--at", at] if at is not None else []
        return self.world.run("verify", self.signed.reference, *moment, *more, "--json", **options)

    def pulls(self, **options: Any) -> Ended:
        """Run `pull --verify` with an empty directory."""
        return self.world.run("pull", self.signed.reference, "--verify", "-d", "out", "--json", **options)

    def places_nothing(self, exit_code: int, code: str, *gist: str, **options: Any) -> None:
        """Check that `verify` and `pull` both fail, and that the pull requests no payload."""
        requests = options.pop("requests", None)
        self.verifies().failed(exit_code, code, *gist, requests=requests)
        ended = self.pulls(**options).failed(exit_code, code, *gist, requests=requests)
        payload_digest = Digest.of(b"a thing").encoded
        assert not any(payload_digest in asked.target for asked in ended.asked), ended
        assert not (self.world.here / "out").exists(), ended


@pytest.fixture
def trusting(world: World, authority: Authority, tmp_path: Path) -> Trusting:
    return Trusting(world, authority, tmp_path / "notation")


# -- V01


@row("V01", "no signature", "Says that the artifact is unsigned and writes nothing", code=6)
def test_an_unsigned_artifact_is_not_placed(trusting: Trusting) -> None:
    trusting.places_nothing(6, "NO_SIGNATURE", "is unsigned", requests=3)


BROKEN: dict[str, tuple[Callable[[Trusting], object], int, str]] = {
    "503 for ever": (lambda one: one.world.registry.on("referrers").answers(503), 7, "server-error"),
    "HTML": (lambda one: one.world.registry.on("referrers").answers_with(b"<html>login</html>", Content_Type="text/html"), 5, "malformed"),
    "an empty answer": (lambda one: one.world.registry.on("referrers").answers_with(b""), 5, "malformed"),
    "a list instead of an index": (lambda one: one.world.registry.on("referrers").answers_with(b"[]"), 5, "malformed"),
    "another document": (
        lambda one: one.world.registry.on("referrers").answers_with(b'{"schemaVersion":2,"layers":[]}'),
        5,
        "malformed",
    ),
    "403": (lambda one: one.world.registry.on("referrers").answers(403), 7, "blocked"),
    "cut": (lambda one: one.world.registry.on("referrers").cuts_after(20), 7, "cut"),
    "without end": (lambda one: one.world.registry.on("referrers").sends_endlessly(b" " * 65536), 4, "limit-passed"),
}


@row(
    "V01",
    "the referrers request fails, or returns a web page, a truncated or another document, or endless data",
    "Never treats it as “no signatures”",
    code=(4, 5, 7),
)
@pytest.mark.parametrize("how", BROKEN)
def test_referrers_that_cannot_be_had_are_no_verdict_and_nothing_is_placed(trusting: Trusting, how: str) -> None:
    breaks, exit_code, code = BROKEN[how]
    trusting.signs()
    breaks(trusting)
    trusting.pulls().failed(exit_code, code, requests=20)
    assert not (trusting.world.here / "out").exists()


@row("V01", "the manifest or the envelope of a listed signature is missing or altered", "Fails closed", code=6)
@pytest.mark.parametrize(
    ("kind", "code"), [("manifest", "REGISTRY_ERROR"), ("blob", "REGISTRY_ERROR"), ("data", "SIGNATURE_MANIFEST_INVALID")]
)
def test_a_missing_or_altered_signature_does_not_count(trusting: Trusting, kind: str, code: str) -> None:
    found = trusting.signs()
    if kind == "data":
        trusting.world.registry.on("data").answers_with(bytes(400))
    else:
        trusting.world.registry.on(kind, str(found.digest) if kind == "manifest" else None).answers(404)
    trusting.places_nothing(6, code, requests=10)


# -- V02


def listed(trusting: Trusting, count: int, *, typed: bool) -> None:
    """Make the registry list this number of signatures, whose manifests are all missing."""
    entries = []
    for number in range(count):
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": str(Digest.of(b"%d" % number)), "size": 500}
        entries.append({**entry, "artifactType": SIGNATURE} if typed else entry)
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    trusting.world.registry.on("referrers").answers_with(body)


@row("V02", "10,000 signatures", "Checks at most 100 of them, and none if the list of referrers already shows more", code=4)
@pytest.mark.parametrize("typed", [True, False], ids=["typed", "untyped"])
def test_of_very_many_signatures_a_hundred_are_looked_at(trusting: Trusting, typed: bool) -> None:
    listed(trusting, 1000, typed=typed)
    trusting.verifies().failed(4, "limit-passed", "1000", "100", requests=2 + 100 * typed)
    trusting.world.registry.honestly()
    listed(trusting, 10_000, typed=typed)
    trusting.pulls().failed(4, "limit-passed", "10000", requests=2)


@row("V02", "101 invalid signatures", "Checks 100 of them, in bounded time and with a bounded number of requests", code=4)
def test_signatures_that_are_bad_to_the_end_are_bounded(trusting: Trusting) -> None:
    for number in range(101):
        trusting.signed.sign(b"junk %d" % number)
    ended = trusting.verifies().failed(4, "limit-passed", "101 signatures", requests=2 + 3 * 100)
    assert len(ended.document["data"]["signatures"]) == 100


@row("V02", "more than 10,000 referrers; pages in a loop; endless pages", "Stops at a limit or at the first repetition", code=(4, 5))
@pytest.mark.parametrize("how", ["many", "loop", "endless"])
def test_referrers_without_end_are_not_followed(trusting: Trusting, how: str) -> None:
    trusting.signs()
    if how == "many":
        listed(trusting, 10_001, typed=True)
    else:
        registry = trusting.world.registry
        knob = registry.on("referrers")

        def link(answer: Any, _: dict[str, str]) -> None:
            target = f"/v2/{REPOSITORY}/referrers/{trusting.signed.artifact.digest}?page="
            answer.with_header("Link", f'<{target}{"1" if how == "loop" else len(registry.asked)}>; rel="next"')

        knob._set(link, None)
    ended = trusting.pulls()
    assert (ended.returncode, ended.error["code"]) in ((5, "malformed"), (4, "limit-passed"), (4, "redirect-refused")), ended
    assert len(ended.asked) <= 1 + (3 if how != "endless" else 200), ended
    assert not (trusting.world.here / "out").exists()


# -- V03


@row("V03", "a signature of another artifact, attached to this one", "Refuses it", code=6)
def test_a_signature_of_another_artifact_does_not_count(trusting: Trusting) -> None:
    other = trusting.world.registry.add_artifact(REPOSITORY, "2.0.0", ("thing.txt", b"another"))
    trusting.signed.sign(cose(trusting.signed.authority.signer(), payload(other)))
    trusting.places_nothing(6, "SUBJECT_MISMATCH", "the signature is for", requests=6)


@row("V03", "a listed signature whose subject is another artifact", "Refuses it", code=6)
def test_a_signature_that_refers_to_another_artifact_does_not_count(trusting: Trusting) -> None:
    other = trusting.world.registry.add_artifact(REPOSITORY, "2.0.0", ("thing.txt", b"another"))
    found = trusting.signed.sign(subject=descriptor_json(other))
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{**descriptor_json(found), "artifactType": SIGNATURE}]}
    trusting.world.registry.on("referrers").answers_with(json.dumps(body).encode())
    trusting.places_nothing(6, "SIGNATURE_MANIFEST_INVALID", "its subject is another artifact", requests=6)


@row(
    "V03",
    "the artifact and its signature are copied to another repository",
    "Refuses it, because no statement of the policy covers that repository",
    code=2,
)
def test_a_signature_counts_in_the_repositories_of_the_statement_only(trusting: Trusting) -> None:
    trusting.says(registryScopes=[f"{trusting.world.registry.host}/{REPOSITORY}"])
    trusting.signs()
    trusting.verifies().succeeded()
    raw = trusting.world.registry.manifests[f"{REPOSITORY} 1.0.0"][1]
    trusting.world.registry.add_manifest("copied/thing", "1.0.0", raw)
    words = (f"{trusting.world.registry.host}/copied/thing:1.0.0", "--json")
    trusting.world.run("verify", *words).failed(2, "NO_APPLICABLE_POLICY", "copied/thing", requests=1)
    trusting.world.run("pull", *words, "--verify", "-d", "out").failed(2, "NO_APPLICABLE_POLICY", requests=1)


@row("V03", "the tag moves after the verification", "Downloads the digest that was verified", code=0)
def test_the_verified_digest_is_downloaded(trusting: Trusting) -> None:
    trusting.signs()
    registry = trusting.world.registry
    knob = registry.on("referrers")

    def move(_answer: Any, _headers: dict[str, str]) -> None:
        registry.add_artifact(REPOSITORY, "1.0.0", ("thing.txt", b"something else"))

    knob._set(move, 1)
    ended = trusting.pulls().succeeded(made={"out/thing.txt": b"a thing"}, requests=8)
    assert ended.document["data"]["files"][0]["reference"].endswith(str(trusting.signed.artifact.digest))


# -- V04


@row("V04", "the signing certificate has expired, and there is no timestamp", "Refuses the signature", code=6)
def test_a_signature_with_an_expired_certificate_is_refused(trusting: Trusting) -> None:
    trusting.signs(begin=NOW - timedelta(days=400), end=NOW - timedelta(days=35))
    trusting.places_nothing(6, "CERT_EXPIRED", "clock", requests=6)


@row("V04", "the signing certificate has expired, and a timestamp proves that it was valid when signing", "Accepts the signature", code=0)
def test_a_timestamp_vouches_for_a_certificate_that_has_expired(trusting: Trusting) -> None:
    trusting.says(trustStores=["ca:test", "tsa:test"])
    signer = trusting.signed.authority.signer(begin=NOW - timedelta(days=400), end=NOW - timedelta(days=35))
    stamp = Stamp(trusting.signed.authority.tsa, time=NOW - timedelta(days=40))
    trusting.signed.sign(cose(signer, payload(trusting.signed.artifact), stamp=stamp))
    trusting.verifies().succeeded(requests=6)
    trusting.pulls().succeeded(made={"out/thing.txt": b"a thing"})


@row("V04", "the policy requires a timestamp, and there is none", "Refuses the signature", code=6)
def test_a_signature_without_the_timestamp_that_the_policy_wants_does_not_hold(trusting: Trusting) -> None:
    trusting.says(trustStores=["ca:test", "tsa:test"])
    trusting.signs()
    trusting.places_nothing(6, "TIMESTAMP_MISSING", "timestamp", requests=6)


@row("V04", "the signing certificate was revoked", "Refuses the signature, also if no revocation list is available", code=6)
@pytest.mark.parametrize("is_known", [True, False])
def test_a_revoked_certificate_does_not_hold(trusting: Trusting, is_known: bool, tmp_path: Path) -> None:
    signer = trusting.signed.authority.signer(subject="Test Revocable", crl=[f"http://{trusting.world.registry.host}/a.crl"])
    trusting.signed.sign(cose(signer, payload(trusting.signed.artifact)))
    lists = tmp_path / "lists"
    lists.mkdir()
    if is_known:
        (lists / "a.crl").write_bytes(revocation_list(trusting.signed.authority.middle, [signer]))
    trusting.verifies("--crl", str(lists)).failed(6, "REVOKED" if is_known else "REVOCATION_UNKNOWN", "revoked", requests=6)
    trusting.pulls().failed(6, "REVOCATION_UNKNOWN", requests=6)


class Endless(Listener):
    """A proxy that answers every request with a chunk of size -1, followed by endless data."""

    def serve(self, client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
        while not self._ended.is_set():
            client.sendall(bytes(65536))


@row(
    "V04",
    "the revocation list has a chunk of size -1 and never ends",
    "Refuses the list as malformed, and the signature because its revocation status is unknown",
    code=6,
)
def test_a_revocation_list_of_a_malformed_size_says_nothing(trusting: Trusting) -> None:
    signer = trusting.signed.authority.signer(subject="Test Revocable", crl=["http://crl.example.com/a.crl"])
    trusting.signed.sign(cose(signer, payload(trusting.signed.artifact)))
    with Endless() as proxy:
        trusting.world.environment["http_proxy"] = f"http://{proxy.host}"
        trusting.world.allowed.add(proxy.host)
        for ended in (trusting.verifies(), trusting.pulls()):
            ended.failed(6, "REVOCATION_UNKNOWN", "malformed", requests=6)
            assert ended.received < 16 << 20


@row(
    "V04",
    "the clock of this machine is ten years off, either way",
    "Refuses the signature and says `check the clock of this machine`",
    code=6,
)
@pytest.mark.parametrize(("years", "code"), [(-1, "CERT_NOT_YET_VALID"), (1, "CERT_EXPIRED")], ids=["behind", "ahead"])
def test_where_the_clock_is_wrong_the_clock_is_named(trusting: Trusting, years: int, code: str) -> None:
    trusting.signs(begin=NOW - timedelta(days=30), end=NOW + timedelta(days=335))
    trusting.verifies(at=None, clock=years * TEN_YEARS).failed(6, code, "check the clock of this machine", requests=6)
    trusting.pulls(clock=years * TEN_YEARS).failed(6, code, "check the clock of this machine", requests=6)
    assert not (trusting.world.here / "out").exists()


# -- V05

POLICIES: dict[str, tuple[str | None, str]] = {
    "none": (None, "POLICY_MISSING"),
    "no JSON": ("{", "POLICY_INVALID"),
    "a key twice": ('{"version": "1.0", "version": "1.0", "trustPolicies": []}', "POLICY_INVALID"),
    "a newer version": (json.dumps({**policy(), "version": "2.0"}), "POLICY_INVALID"),
    "a wildcard in a scope": (json.dumps(policy(registryScopes=["mcr.microsoft.com/*"])), "POLICY_INVALID"),
    "everything and more": (json.dumps(policy(registryScopes=["*", "mcr.microsoft.com/a"])), "POLICY_INVALID"),
    "an unknown level": (json.dumps(policy(signatureVerification={"level": "lenient"})), "POLICY_INVALID"),
    "an unknown check": (json.dumps(policy(signatureVerification={"level": "strict", "override": {"x": "log"}})), "POLICY_INVALID"),
    "integrity skipped": (json.dumps(policy(signatureVerification={"level": "strict", "override": {"integrity": "skip"}})), "POLICY_INVALID"),
    "no identities": (json.dumps(policy(trustedIdentities=[])), "POLICY_INVALID"),
    "a store that is missing": (json.dumps(policy(trustStores=["ca:none"])), "TRUST_STORE_INVALID"),
    "a store of a path": (json.dumps(policy(trustStores=["ca:../../x"])), "POLICY_INVALID"),
}  # fmt: skip


@row("V05", "a trust policy that is missing, malformed, newer, or too broad", "Refuses it before any payload is downloaded", code=2)
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_cannot_be_kept_is_an_error_of_the_user(trusting: Trusting, name: str) -> None:
    document, code = POLICIES[name]
    file = trusting.directory / "trustpolicy.json"
    file.unlink()
    if document is not None:
        file.write_text(document)
    trusting.signs()
    trusting.pulls().failed(2, code, requests=5)
    assert not (trusting.world.here / "out").exists()


@row("V05", "a policy with unknown keys", "Accepts it and warns that they have no effect", code=0)
def test_unknown_keys_of_a_policy_are_said_to_mean_nothing(trusting: Trusting) -> None:
    trusting.says(extra="x")
    trusting.signs()
    ended = trusting.verifies().succeeded()
    assert "`extra`" in ended.err
    assert "is ignored" in ended.err


@row("V05", "level `permissive` or `audit`, and an expired certificate", "Accepts the signature and warns about the failed check", code=0)
@pytest.mark.parametrize("level", ["permissive", "audit"])
def test_what_a_lenient_level_lets_through_is_warned_of(trusting: Trusting, level: str) -> None:
    trusting.says(signatureVerification={"level": level})
    trusting.signs(begin=NOW - timedelta(days=400), end=NOW - timedelta(days=35))
    for ended in (trusting.verifies().succeeded(), trusting.pulls().succeeded(made={"out/thing.txt": b"a thing"})):
        warnings = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
        assert any("CERT_EXPIRED" in line and "only logs" in line for line in warnings), ended


@row("V05", "level `permissive`, and content that differs from what was signed", "Refuses it all the same", code=6)
def test_a_lenient_level_lets_no_altered_bytes_through(trusting: Trusting) -> None:
    trusting.says(signatureVerification={"level": "permissive"})
    other = trusting.world.registry.add_artifact(REPOSITORY, "2.0.0", ("thing.txt", b"another"))
    trusting.signed.sign(cose(trusting.signed.authority.signer(), payload(other)))
    trusting.places_nothing(6, "SUBJECT_MISMATCH", requests=6)


# -- V06


def large(trusting: Trusting) -> None:
    layer = {"mediaType": "application/cose", "digest": str(Digest.of(b"x")), "size": 100 << 20}
    trusting.signed.sign(layers=[layer])


def deep_cbor(trusting: Trusting) -> None:
    trusting.signed.sign(b"\xd2\x84" + b"\x81" * 100_000 + b"\x00")


def deep_json(trusting: Trusting) -> None:
    trusting.signed.sign(b'{"payload":' + b"[" * 100_000, media_type="application/jose+json")


def trailing(trusting: Trusting) -> None:
    trusting.signed.sign(trusting.signed.good() + b"\x00")


def trailing_json(trusting: Trusting) -> None:
    envelope = jws(trusting.signed.authority.signer(), payload(trusting.signed.artifact))
    trusting.signed.sign(envelope + b"{}", media_type="application/jose+json")


def other_algorithm(trusting: Trusting) -> None:
    content = payload(trusting.signed.artifact)
    trusting.signed.sign(cose(trusting.signed.authority.signer(), content, protected={1: -37}))


def no_algorithm(trusting: Trusting) -> None:
    envelope = jws(trusting.signed.authority.signer(), payload(trusting.signed.artifact), protected={"alg": "none"})
    trusting.signed.sign(envelope, media_type="application/jose+json")


def huge_number(trusting: Trusting) -> None:
    trusting.signed.sign(b"\xd2\x84\x5b" + b"\xff" * 8 + b"x")


def flipped(trusting: Trusting) -> None:
    good = bytearray(trusting.signed.good())
    good[-1] ^= 1
    trusting.signed.sign(bytes(good))


ENVELOPES: dict[str, tuple[Callable[[Trusting], None], str]] = {
    "100 MiB": (large, "SIGNATURE_MANIFEST_INVALID"),
    "100,000 levels of CBOR": (deep_cbor, "ENVELOPE_MALFORMED"),
    "100,000 levels of JSON": (deep_json, "ENVELOPE_MALFORMED"),
    "a byte behind CBOR": (trailing, "ENVELOPE_MALFORMED"),
    "an object behind JSON": (trailing_json, "ENVELOPE_MALFORMED"),
    "a length of 2^64": (huge_number, "ENVELOPE_MALFORMED"),
    "another algorithm than that of the key": (other_algorithm, "ALG_MISMATCH"),
    "the algorithm `none`": (no_algorithm, "ALG_MISMATCH"),
    "a flipped bit": (flipped, "SIGNATURE_INVALID"),
}


@row(
    "V06",
    "envelopes of 100 MiB, 100,000 levels deep, with trailing bytes, or with another algorithm",
    "Refuses each, in bounded memory",
    code=6,
)
@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_that_is_wrong_is_refused(trusting: Trusting, name: str) -> None:
    make, code = ENVELOPES[name]
    make(trusting)
    ended = trusting.pulls().failed(6, code, requests=6)
    assert not (trusting.world.here / "out").exists()
    if name == "100 MiB":
        assert not any(asked.kind == "data" for asked in ended.asked), "the size in the descriptor is reason enough to refuse it"
