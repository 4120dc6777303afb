"""`marfetch verify`, `pull --verify` and `trust` against the test registry: exit codes, output and JSON."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from marfetch.__main__ import main
from marfetch.errors import InputError
from marfetch.oci import Descriptor, Digest, descriptor_json
from marfetch.verify.policy import StoreName
from marfetch.verify.truststore import IDENTITIES, ROOTS, Places, Root, plan, write

from ..world.command import Answered
from ..world.signed import AT, REPOSITORY, SIGNATURE, Signed
from ..world.signing import NOW, Authority, cose, jws, payload, policy, revocation_list


@pytest.mark.parametrize("referrers", ["api", "tag"])
@pytest.mark.parametrize("old", [False, True], ids=["artifact type", "config type"])
def test_both_signature_manifest_forms_by_referrers_api_and_fallback_tag(
    signed: Signed, config: Path, answered: Answered, referrers: str, old: bool
) -> None:
    found = signed.sign(old=old)
    if referrers == "tag":
        by_tag(signed, found, with_type=False)
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["ok"], answer["data"]["verdict"]) == (0, True, "verified")
    (one,) = answer["data"]["signatures"]
    assert (one["digest"], one["code"]) == (str(found.digest), "OK")
    assert {name: check["outcome"] for name, check in one["checks"].items()} == dict.fromkeys(
        ("integrity", "authenticity", "expiry", "authenticTimestamp", "revocation"), "passed"
    )


def spoilt(signed: Signed, how: str) -> None:
    if how == "two layers":
        layer = {"mediaType": "application/cose", "digest": str(Digest.of(b"{}")), "size": 2}
        signed.sign(layers=[layer, layer])
    elif how == "missing blob":
        signed.sign(layers=[{"mediaType": "application/cose", "digest": str(Digest.of(b"gone")), "size": 4}])
    elif how == "unknown type":
        signed.sign(b"x", media_type="application/octet-stream")
    elif how == "junk":
        signed.sign(b"junk")
    elif how == "large":
        signed.sign(layers=[{"mediaType": "application/cose", "digest": str(Digest.of(b"{}")), "size": 1 << 30}])
    elif how == "wrong bytes":
        found = signed.sign(b"soon other bytes")
        del found
        signed.mar.blobs[str(Digest.of(b"soon other bytes"))] = b"some other bytes"


SPOILT = {
    "two layers": "SIGNATURE_MANIFEST_INVALID",
    "missing blob": "REGISTRY_ERROR",
    "unknown type": "ENVELOPE_TYPE_UNSUPPORTED",
    "junk": "ENVELOPE_MALFORMED",
    "large": "SIGNATURE_MANIFEST_INVALID",
    "wrong bytes": "SIGNATURE_MANIFEST_INVALID",
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_broken_signature_does_not_hide_a_good_one(signed: Signed, config: Path, answered: Answered, how: str) -> None:
    spoilt(signed, how)
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["error"]["code"], answer["data"]["verdict"]) == (6, SPOILT[how], "failed")
    signed.sign()
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, [one["code"] for one in answer["data"]["signatures"]]) == (0, [SPOILT[how], "OK"])


def by_tag(signed: Signed, *found: Descriptor, with_type: bool = True) -> None:
    """Turn off the referrers API and list these signatures under the fallback tag."""
    signed.mar.referrers = "none"
    entries = [{**descriptor_json(one), **({"artifactType": SIGNATURE} if with_type else {})} for one in found]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    signed.mar.add_manifest(REPOSITORY, f"sha256-{signed.artifact.digest.encoded}", json.dumps(index).encode())


def test_a_signature_with_another_subject_is_refused(signed: Signed, config: Path, answered: Answered) -> None:
    other = signed.mar.add_artifact(REPOSITORY, "2.0.0", ("thing.txt", b"another"))
    by_tag(signed, signed.sign(subject=descriptor_json(other)))
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["error"]["code"]) == (6, "SIGNATURE_MANIFEST_INVALID")


@pytest.mark.parametrize("with_type", [True, False], ids=["typed", "untyped"])
def test_a_malformed_manifest_hides_no_good_signature(signed: Signed, config: Path, answered: Answered, with_type: bool) -> None:
    bad, gone = signed.sign(layers="none"), Descriptor(signed.artifact.media_type, Digest.of(b"gone"), 4)
    by_tag(signed, bad, gone, signed.sign(), with_type=with_type)
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["data"]["signatures"][-1]["code"]) == (0, "OK")
    assert [one["code"] for one in answer["data"]["signatures"][:-1]] == (
        ["SIGNATURE_MANIFEST_INVALID", "REGISTRY_ERROR"] if with_type else []
    )


def test_of_several_bad_signatures_the_one_that_passed_most_checks_is_named(signed: Signed, config: Path, answered: Answered) -> None:
    signed.sign(b"junk")
    signed.sign(signed.good(end=NOW - timedelta(days=1)))
    signed.sign(jws(signed.authority.signer(), b"{}"), media_type="application/jose+json")
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["error"]["code"]) == (6, "CERT_EXPIRED")
    assert [one["code"] for one in answer["data"]["signatures"]] == ["ENVELOPE_MALFORMED", "CERT_EXPIRED", "PAYLOAD_INVALID"]


def test_at_most_a_hundred_signatures_are_checked(signed: Signed, config: Path, answered: Answered) -> None:
    for number in range(101):
        signed.sign(b"junk %d" % number)
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["error"]["code"], len(answer["data"]["signatures"])) == (4, "limit-passed", 100)


def test_a_missing_signature_has_its_own_code(signed: Signed, config: Path, answered: Answered) -> None:
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["error"]["code"], answer["data"]["signatures"]) == (6, "NO_SIGNATURE", [])


def test_a_signature_over_another_artifact_is_refused(signed: Signed, config: Path, answered: Answered) -> None:
    other = signed.mar.add_artifact(REPOSITORY, "2.0.0", ("thing.txt", b"another"))
    signed.sign(cose(signed.authority.signer(), payload(other)))
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["error"]["code"]) == (6, "SUBJECT_MISMATCH")


def test_an_outage_is_not_a_verification_failure(signed: Signed, config: Path, answered: Answered, impatient: None) -> None:
    signed.sign()
    signed.mar.on("blob").answers(503)
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["error"]["code"]) == (7, "server-error")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, "POLICY_MISSING"),
        ("{", "POLICY_INVALID"),
        (json.dumps({"version": "2.0", "trustPolicies": []}), "POLICY_INVALID"),
        (json.dumps(policy(registryScopes=["mcr.microsoft.com/other"])), "NO_APPLICABLE_POLICY"),
        (json.dumps(policy(trustStores=["ca:none"])), "TRUST_STORE_INVALID"),
    ],
)
def test_a_bad_policy_or_store_is_bad_input(signed: Signed, config: Path, answered: Answered, document: str | None, expected: str) -> None:
    signed.sign()
    file = config / "trustpolicy.json"
    file.unlink()
    if document is not None:
        file.write_text(document)
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["ok"], answer["error"]["code"]) == (2, False, expected)


def test_the_newer_policy_file_name_takes_precedence(signed: Signed, config: Path, answered: Answered) -> None:
    (config / "trustpolicy.oci.json").write_text(
        json.dumps(policy(signatureVerification={"level": "skip"}, trustStores=None, trustedIdentities=None))
    )
    code, answer = answered("verify", signed.reference)
    assert (code, answer["data"]["verdict"], answer["data"]["signatures"]) == (0, "skipped", [])
    assert answer["data"]["warnings"]  # a policy that skips every artifact is a warning


def test_an_exact_scope_takes_precedence_over_the_wildcard(signed: Signed, config: Path, answered: Answered) -> None:
    document = policy()
    skip = {"name": "skip", "registryScopes": [f"{signed.mar.host}/{REPOSITORY}"], "signatureVerification": {"level": "skip"}}
    document["trustPolicies"].append(skip)
    (config / "trustpolicy.json").write_text(json.dumps(document))
    assert answered("verify", signed.reference)[1]["data"]["policy"] == {"statement": "skip", "level": "skip"}


def test_policy_and_stores_can_be_in_other_directories(
    signed: Signed, config: Path, answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed.sign()
    elsewhere = tmp_path / "elsewhere"
    config.rename(elsewhere)
    options = ("--trust-policy", elsewhere / "trustpolicy.json", "--trust-store", elsewhere / "truststore")
    assert answered("verify", signed.reference, "--at", AT, *options)[0] == 0
    monkeypatch.delenv("NOTATION_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    (tmp_path / "xdg").mkdir()
    elsewhere.rename(tmp_path / "xdg" / "notation")
    assert answered("verify", signed.reference, "--at", AT)[0] == 0
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert answered("verify", signed.reference, "--at", AT)[0] == 2


def test_a_symbolic_link_as_policy_is_refused(signed: Signed, config: Path, answered: Answered) -> None:
    (config / "trustpolicy.json").rename(config / "real.json")
    (config / "trustpolicy.json").symlink_to("real.json")
    assert answered("verify", signed.reference)[1]["error"]["code"] == "POLICY_INVALID"


def test_a_cached_artifact_needs_only_the_referrers_request(signed: Signed, config: Path, answered: Answered) -> None:
    signed.sign()
    pinned = f"{signed.mar.host}/{REPOSITORY}@{signed.artifact.digest}"
    assert answered("verify", pinned, "--at", AT)[0] == 0
    signed.mar.asked.clear()
    assert answered("verify", pinned, "--at", AT)[0] == 0
    assert signed.mar.kinds() == ["referrers"]
    signed.mar.asked.clear()
    assert answered("verify", pinned, "--at", AT, "--offline")[0] == 0
    assert signed.mar.kinds() == []


@pytest.mark.parametrize(
    ("lists", "options", "expected"),
    [
        ("none", [], "REVOCATION_UNKNOWN"),  # the CRL address is on loopback, so it is not requested
        ("good", [], None),
        ("revoked", [], "REVOKED"),
        ("none", ["--revocation", "log"], None),
        ("none", ["--revocation", "skip"], None),
        ("revoked", ["--revocation", "skip"], None),
    ],
)
def test_crl_directories_of_the_user(
    signed: Signed, config: Path, answered: Answered, tmp_path: Path, lists: str, options: list[str], expected: str | None
) -> None:
    signer = signed.authority.signer(subject="Test Revocable", crl=[f"{signed.mar.scheme}://{signed.mar.host}/a.crl"])
    signed.sign(cose(signer, payload(signed.artifact)))
    directory = tmp_path / "lists"
    directory.mkdir()
    if lists != "none":
        (directory / "a.crl").write_bytes(revocation_list(signed.authority.middle, [signer] if lists == "revoked" else []))
    code, answer = answered("verify", signed.reference, "--at", AT, "--crl", directory, *options)
    assert (code, answer.get("error", {}).get("code")) == ((0, None) if expected is None else (6, expected))
    if lists == "none" and expected is None:
        assert answer["data"]["signatures"][0]["checks"]["revocation"]["outcome"] in ("failed", "skipped")
    assert not any("a.crl" in str(one) for one in signed.mar.asked)


@pytest.mark.parametrize("words", [["--at", "yesterday"], ["--revocation", "maybe"], ["--crl", "/nonexistent"], ["-m", "x"]])
def test_invalid_option_values_are_refused(signed: Signed, config: Path, answered: Answered, words: list[str]) -> None:
    code, answer = answered("verify", signed.reference, *words)
    assert (code, answer["error"]["code"]) == (2, "usage")


def test_the_end_of_life_is_a_warning_and_with_refuse_eol_an_error(
    signed: Signed, config: Path, answered: Answered, capsys: pytest.CaptureFixture[str]
) -> None:
    signed.sign()
    signed.mark("2026-01-31")
    assert main(["verify", signed.reference, "--at", AT]) == 0
    shown = capsys.readouterr()
    assert "ended on 2026-01-31" in shown.err
    assert "end of life\t2026-01-31" in shown.out
    code, answer = answered("verify", signed.reference, "--at", AT, "--refuse-eol")
    assert (code, answer["error"]["code"], answer["data"]["endOfLife"]) == (4, "end-of-life", "2026-01-31")


def test_the_output_names_signer_time_and_checks(signed: Signed, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signed.sign()
    assert main(["verify", signed.reference, "--at", AT]) == 0
    lines = dict(line.split("\t", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["verified"].endswith(str(signed.artifact.digest))
    assert "CN=Test Signer" in lines["signed by"]
    assert "claimed by the signer, without a timestamp" in lines["at"]
    assert {"check integrity", "check signer", "check expiry", "check time", "check revocation"} <= lines.keys()


def test_a_signer_cannot_steer_the_terminal(signed: Signed, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signer = signed.authority.signer({"CN": "\x1b[31mred", "C": "US", "ST": "Washington", "O": "Example Test Corporation"})
    signed.sign(cose(signer, payload(signed.artifact, annotations={"a": "\x1b]0;x\x07"})))
    main(["verify", signed.reference, "--at", AT])
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


def test_an_unsupported_signature_format_is_named_as_not_checked(signed: Signed, config: Path, answered: Answered) -> None:
    signed.sign()
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    signed.mar.add_artifact(REPOSITORY, "bundle", artifactType=kind, subject=descriptor_json(signed.artifact))
    assert answered("verify", signed.reference, "--at", AT)[1]["data"]["notChecked"] == [kind]


# -- pull


@pytest.mark.parametrize("source", ["option", "environment"])
def test_pull_saves_nothing_unsigned(
    signed: Signed, config: Path, answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    words = ["pull", signed.reference, "-d", tmp_path / "out", *(["--verify"] if source == "option" else [])]
    if source == "environment":
        monkeypatch.setenv("MARFETCH_VERIFY", "policy")
    code, answer = answered(*words)
    assert (code, answer["error"]["code"]) == (6, "NO_SIGNATURE")
    assert not (tmp_path / "out").exists()
    assert not [one for one in signed.mar.asked if one.kind in ("blob", "data")]
    signed.sign()
    code, answer = answered(*words)
    assert code == 0
    assert (tmp_path / "out" / "thing.txt").read_bytes() == b"a thing"


@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_project_locks_and_downloads_nothing_unsigned(
    signed: Signed, config: Path, answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    project = tmp_path / "marfetch.yaml"
    project.write_text(f"schema: 1\nartifacts:\n  - {{reference: '{signed.reference}', verify: {str(source == 'file').lower()}}}\n")
    monkeypatch.setenv("MARFETCH_VERIFY", "policy" if source == "environment" else "")
    assert answered("lock", "-f", project)[0] == 6
    assert not (tmp_path / "marfetch.lock").exists()
    signature = signed.sign()
    assert answered("lock", "-f", project)[0] == 0
    (entry,) = json.loads((tmp_path / "marfetch.lock").read_text())["artifacts"]
    if source == "file":
        assert entry["verification"]["verdict"] == "verified"
        assert entry["verification"]["evidence"]["signature"] == str(signature.digest)
    else:
        assert "verification" not in entry
    assert answered("sync", "--locked", "-f", project)[0] == 0
    (tmp_path / "thing.txt").unlink()
    (config / "trustpolicy.json").write_text(json.dumps(policy(trustedIdentities=["x509.subject: C=US, ST=WA, O=Unknown"])))
    code, answer = answered("sync", "--locked", "-f", project)
    assert (code, answer["data"]["artifacts"][0]["outcome"]) == (6, "failed")
    assert not (tmp_path / "thing.txt").exists()


def test_the_environment_variable_takes_only_policy(signed: Signed, answered: Answered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARFETCH_VERIFY", "yes")
    assert answered("pull", signed.reference)[0] == 2


def test_of_several_artifacts_only_the_signed_one_is_saved(signed: Signed, config: Path, answered: Answered, tmp_path: Path) -> None:
    signed.sign()
    signed.mar.add_artifact("other/thing", "1.0.0", ("other.txt", b"other"))
    code, answer = answered("pull", signed.reference, f"{signed.mar.host}/other/thing:1.0.0", "--verify", "-d", tmp_path / "out")
    assert (code, [Path(file["path"]).name for file in answer["data"]["files"]]) == (6, ["thing.txt"])
    assert [failed["code"] for failed in answer["data"]["failed"]] == ["NO_SIGNATURE"]


# -- trust


@pytest.fixture
def own_roots(authority: Authority, tmp_path: Path) -> tuple[list[Path], tuple[Root, ...]]:
    """Return two root certificate files, and a table with their digests in place of Microsoft's."""
    files, roots = [], []
    for known, one in zip(ROOTS, (authority.root, authority.tsa_root), strict=True):
        path = tmp_path / known.file
        path.write_bytes(one.der)
        files.append(path)
        roots.append(Root(StoreName(known.store.kind, known.store.name), known.subject, Digest.of(one.der).encoded, known.url, known.file))
    return files, tuple(roots)


def test_other_certificates_than_microsofts_are_refused(
    own_roots: tuple[list[Path], tuple[Root, ...]], config: Path, answered: Answered
) -> None:
    before = {path: path.read_bytes() for path in config.rglob("*") if path.is_file()}
    code, answer = answered("trust", "add-microsoft", *own_roots[0])
    assert (code, answer["error"]["code"]) == (2, "root-mismatch")
    assert {path: path.read_bytes() for path in config.rglob("*") if path.is_file()} == before


def test_roots_and_policy_are_written_where_notation_looks(
    own_roots: tuple[list[Path], tuple[Root, ...]], answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "new"))
    files, roots = own_roots
    for is_first in (True, False):
        planned = plan(files, ["mcr.microsoft.com/dotnet/sdk"], Places(), roots=roots)
        assert [one.is_new for one in planned] == [is_first] * 3
        write(planned)
    code, answer = answered("trust", "show")
    assert code == 0
    (statement,) = answer["data"]["statements"]
    assert statement["trustStores"] == ["ca:microsoft", "tsa:microsoft"]
    assert statement["scopes"] == ["mcr.microsoft.com/dotnet/sdk"]
    assert len(statement["trustedIdentities"]) == len(IDENTITIES)
    assert [one["store"] for one in answer["data"]["roots"]] == ["ca:microsoft", "tsa:microsoft"]
    assert answered("trust", "check")[0] == 0


def test_an_existing_policy_keeps_its_statements(own_roots: tuple[list[Path], tuple[Root, ...]], config: Path) -> None:
    files, roots = own_roots
    write(plan(files, ["mcr.microsoft.com/dotnet/sdk"], Places(), roots=roots))
    names = [one["name"] for one in json.loads((config / "trustpolicy.json").read_text())["trustPolicies"]]
    assert names == ["test", "microsoft"]
    with pytest.raises(InputError) as caught:  # another statement already has the scope `*`
        plan(files, ["*"], Places(), name="again", roots=roots)
    assert caught.value.code == "POLICY_INVALID"


def test_a_missing_root_names_its_url(own_roots: tuple[list[Path], tuple[Root, ...]], config: Path) -> None:
    files, roots = own_roots
    with pytest.raises(InputError) as caught:
        plan(files[:1], ["*"], Places(), roots=roots)
    assert "MicRooCerAut" in str(caught.value.hint)


def test_trust_check_finds_a_missing_store(config: Path, answered: Answered) -> None:
    (config / "trustpolicy.json").write_text(json.dumps(policy(trustStores=["ca:test", "tsa:gone"])))
    code, answer = answered("trust", "check")
    assert (code, answer["error"]["code"]) == (2, "TRUST_STORE_INVALID")
