"""`bundle verify` and `bundle load --verify`: verify the signatures in a bundle offline against a trust policy."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marfetch.bundle.create import create
from marfetch.bundle.format import parse_record, record_bytes
from marfetch.client.session import Session
from marfetch.oci import Digest

from ..world.bundles import locked, members, rewritten
from ..world.command import Answered
from ..world.content import ALB
from ..world.paths import ROOT
from ..world.registry import Registry
from ..world.signed import AT, REPOSITORY, Signed
from ..world.signing import Authority, cose, payload, policy

ITEMS = (f"reference: {REPOSITORY}, version: 1.0.0", f"reference: {ALB}, version: 1.7.12")


@pytest.fixture
def made(client: Callable[..., Session], mar: Registry, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that bundles `signed/thing`, which may be signed, and an unsigned chart."""

    def make(name: str = "a.tar", *, since: Path | None = None) -> Path:
        with client() as one:
            create(one, locked(one, tmp_path / "project", *ITEMS), tmp_path / name, with_referrers=True, since=since)
        return tmp_path / name

    return make


def verdicts(answer: dict[str, Any]) -> dict[str, str]:
    return {one["reference"].split("/", 1)[1].split(":")[0]: one["verdict"] for one in answer["data"]["signatures"]}


def test_a_signature_in_a_bundle_is_verified_offline(
    signed: Signed, config: Path, made: Callable[..., Path], mar: Registry, answered: Answered
) -> None:
    signed.sign()
    path = made()
    asked = len(mar.asked)
    code, answer = answered("bundle", "verify", path, "--at", AT, "--revocation", "skip")
    assert (code, answer["ok"], answer["data"]["signaturesChecked"]) == (0, True, 1)
    assert verdicts(answer) == {REPOSITORY: "verified", ALB: "unsigned"}
    assert [one["subject"] is not None and "Test Signer" in one["subject"] for one in answer["data"]["signatures"]].count(True) == 1
    assert len(mar.asked) == asked


def test_without_a_policy_signatures_are_reported_as_unchecked(
    signed: Signed, made: Callable[..., Path], answered: Answered, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "nowhere"))
    signed.sign()
    path = made()
    code, answer = answered("bundle", "verify", path)
    assert (code, answer["data"]["signaturesChecked"], answer["data"]["signatures"]) == (0, None, [])
    code, answer = answered("bundle", "verify", path, "--verify")
    assert (code, answer["error"]["code"]) == (2, "POLICY_MISSING")


def test_a_signature_by_another_signer_fails_an_intact_bundle(
    signed: Signed, config: Path, made: Callable[..., Path], answered: Answered
) -> None:
    signed.sign(cose(Authority().signer(), payload(signed.artifact)))
    code, answer = answered("bundle", "verify", made(), "--at", AT, "--revocation", "skip")
    assert (code, answer["ok"], answer["error"]["code"]) == (6, False, "UNTRUSTED_ROOT")
    assert (answer["data"]["missing"], answer["data"]["extra"], answer["data"]["wrong"]) == ([], [], [])
    assert verdicts(answer) == {REPOSITORY: "failed", ALB: "unsigned"}


def test_a_signature_of_another_artifact_fails(
    signed: Signed, config: Path, made: Callable[..., Path], mar: Registry, answered: Answered
) -> None:
    other = mar.add_artifact("signed/other", "1.0.0", ("other.txt", b"another thing"))
    signed.sign(cose(signed.authority.signer(), payload(other)))
    code, answer = answered("bundle", "verify", made(), "--at", AT, "--revocation", "skip")
    assert (code, answer["error"]["code"]) == (6, "SUBJECT_MISMATCH")


@pytest.mark.parametrize("word", ["--verify", "--trust-policy", "environment"])
def test_unsigned_artifacts_are_refused_if_signatures_are_required(
    signed: Signed, config: Path, made: Callable[..., Path], answered: Answered, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    signed.sign()
    words: list[object] = [] if word == "environment" else [word]
    if word == "--trust-policy":
        words.append(config / "trustpolicy.json")
    path = made()
    if word == "environment":
        monkeypatch.setenv("MARFETCH_VERIFY", "policy")
    code, answer = answered("bundle", "verify", path, "--at", AT, "--revocation", "skip", *words)
    assert (code, answer["error"]["code"]) == (6, "NO_SIGNATURE")
    assert verdicts(answer) == {REPOSITORY: "verified", ALB: "failed"}


def test_an_artifact_outside_the_policy_is_reported_as_unchecked(
    signed: Signed, config: Path, made: Callable[..., Path], answered: Answered
) -> None:
    signed.sign()
    (config / "trustpolicy.json").write_text(json.dumps(policy(registryScopes=["mcr.microsoft.com/other"])))
    path = made()
    code, answer = answered("bundle", "verify", path, "--at", AT)
    assert (code, verdicts(answer)[REPOSITORY]) == (0, "unchecked")
    code, answer = answered("bundle", "verify", path, "--at", AT, "--verify")
    assert (code, answer["error"]["code"]) == (2, "NO_APPLICABLE_POLICY")


WORDS = ("--at", AT, "--revocation", "skip")


def test_a_delta_contains_its_signatures_and_is_verified_alone(
    signed: Signed, config: Path, made: Callable[..., Path], answered: Answered, tmp_path: Path
) -> None:
    signed.sign()
    first = made()
    delta = made("b.tar", since=first)
    assert parse_record(members(delta)["bundle.json"], "b").omitted
    for more in ((), ("--since", first)):
        code, answer = answered("bundle", "verify", delta, *more, *WORDS)
        assert (code, verdicts(answer)) == (0, {REPOSITORY: "verified", ALB: "unsigned"})


def test_a_delta_is_loaded_with_verified_signatures(
    signed: Signed, config: Path, client: Callable[..., Session], answered: Answered, tmp_path: Path
) -> None:
    signed.sign()
    (config / "trustpolicy.json").write_text(json.dumps(policy(signatureVerification={"level": "permissive"})))
    with client() as one:
        project = locked(one, tmp_path / "project", ITEMS[0])
        create(one, project, tmp_path / "a.tar", with_referrers=True)
        create(one, project, tmp_path / "b.tar", with_referrers=True, since=tmp_path / "a.tar")
    for name in ("a.tar", "b.tar"):
        code, answer = answered("bundle", "load", tmp_path / name, "--to", tmp_path / "folder", "--verify")
        assert (code, answer["ok"]) == (0, True)


def test_the_signatures_of_an_older_delta_are_in_its_base(
    signed: Signed, config: Path, made: Callable[..., Path], answered: Answered, tmp_path: Path
) -> None:
    envelope = json.loads(signed.mar.manifests[f"{REPOSITORY} {signed.sign().digest}"][1])["layers"][0]
    first = made()
    digest = Digest.parse(envelope["digest"])

    def older(files: dict[str, bytes]) -> None:
        del files[f"blobs/sha256/{digest.encoded}"]
        record = parse_record(files["bundle.json"], "b")
        files["bundle.json"] = record_bytes(replace(record, omitted={**(record.omitted or {}), digest: envelope["size"]}))

    delta = rewritten(made("b.tar", since=first), tmp_path / "c.tar", older)
    code, answer = answered("bundle", "verify", delta, *WORDS)
    assert (code, answer["error"]["code"]) == (2, "usage")
    assert "--since" in answer["error"]["hint"]
    code, answer = answered("bundle", "verify", delta, "--since", first, *WORDS)
    assert (code, verdicts(answer)) == (0, {REPOSITORY: "verified", ALB: "unsigned"})


def test_nothing_of_a_bundle_with_an_unsigned_artifact_is_loaded(
    signed: Signed, config: Path, made: Callable[..., Path], answered: Answered, tmp_path: Path
) -> None:
    (config / "trustpolicy.json").write_text(json.dumps(policy(signatureVerification={"level": "permissive"})))
    path = made()
    code, answer = answered("bundle", "load", path, "--to", tmp_path / "folder", "--verify")
    assert (code, answer["error"]["code"]) == (6, "NO_SIGNATURE")
    assert not list((tmp_path / "folder").glob("blobs/*/*"))


def test_a_broken_bundle_is_reported_before_its_signatures(
    signed: Signed, config: Path, made: Callable[..., Path], answered: Answered
) -> None:
    signed.sign()
    path = made()
    with tarfile.open(path) as archive:
        blob = max((one for one in archive if one.name.startswith("blobs/")), key=lambda one: one.size)
    raw = bytearray(path.read_bytes())
    raw[blob.offset_data] ^= 1
    path.write_bytes(raw)
    code, answer = answered("bundle", "verify", path, "--at", AT, "--verify")
    assert (code, answer["error"]["code"], answer["data"]["signaturesChecked"]) == (5, "bundle-broken", None)


@pytest.mark.slow
def test_a_bundle_is_checked_without_a_cache_and_with_the_common_options(
    client: Callable[..., Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(client(), locked(client(), tmp_path / "project"), tmp_path / "a.tar")
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MARFETCH_CACHE_DIR", str(tmp_path / "file" / "cache"))
    options = ["--offline", "--timeout", "60", "--jobs", "4", "--cache-dir", str(tmp_path / "file" / "cache")]
    for words in (["verify"], ["inspect"], ["diff", str(tmp_path / "a.tar")]):
        line = [sys.executable, "-m", "marfetch", "bundle", *words, str(tmp_path / "a.tar"), *options]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
