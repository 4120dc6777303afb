"""`marfetch verify`: lifecycle marks and their signers, platforms of an index, everything in a lock file, and charts with other names."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from marfetch.__main__ import main
from marfetch.artifact.kinds import HELM_PROVENANCE
from marfetch.oci import OCI_INDEX, Descriptor, Digest, descriptor_json

from ..world.archives import chart
from ..world.charts import add_chart
from ..world.command import Answered
from ..world.images import add_naming_chart
from ..world.signed import AT, REPOSITORY, SIGNATURE, Signed
from ..world.signing import cose, payload, policy

SIGNER = "O=Example Test Corporation,ST=Washington,C=US,CN=Test Signer"


# -- who signed a mark


def test_a_signed_mark_names_its_signer(signed: Signed, config: Path, answered: Answered, capsys: pytest.CaptureFixture[str]) -> None:
    signed.sign()
    signed.sign_too(signed.mark("2026-01-31"))
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["data"]["endOfLife"], answer["data"]["ended"]) == (0, "2026-01-31", True)
    assert answer["data"]["lifecycle"] == {"date": "2026-01-31", "signer": SIGNER, "note": None}
    assert main(["verify", signed.reference, "--at", AT]) == 0
    shown = capsys.readouterr()
    assert f"end of life\t2026-01-31\tsigned by `{SIGNER}`" in shown.out
    assert SIGNER in shown.err


def test_an_unsigned_mark_is_called_unsigned(signed: Signed, config: Path, answered: Answered, capsys: pytest.CaptureFixture[str]) -> None:
    signed.sign()
    signed.mark("2030-01-31")
    data = answered("verify", signed.reference, "--at", AT)[1]["data"]
    assert data["lifecycle"] == {"date": "2030-01-31", "signer": None, "note": "unsigned"}
    assert main(["verify", signed.reference, "--at", AT]) == 0
    assert "end of life\t2030-01-31\tunsigned" in capsys.readouterr().out


def test_without_a_mark_there_is_no_lifecycle(signed: Signed, config: Path, answered: Answered) -> None:
    signed.sign()
    data = answered("verify", signed.reference, "--at", AT)[1]["data"]
    assert (data["endOfLife"], data["lifecycle"], data["superseded"]) == (None, None, None)


def test_a_mark_with_a_bad_signature_has_no_signer(signed: Signed, config: Path, answered: Answered) -> None:
    signed.sign()
    signed.sign_too(signed.mark("2026-01-31"), end=datetime(2026, 6, 1, tzinfo=UTC))
    code, answer = answered("verify", signed.reference, "--at", AT)
    lifecycle = answer["data"]["lifecycle"]
    assert (code, lifecycle["date"], lifecycle["signer"]) == (0, "2026-01-31", None)
    assert "is not valid" in lifecycle["note"]


def test_a_signer_whom_the_policy_only_logs_is_not_named(signed: Signed, config: Path, answered: Answered) -> None:
    (config / "trustpolicy.json").write_text(
        json.dumps(policy(signatureVerification={"level": "audit"}, trustedIdentities=["x509.subject: C=US, ST=WA, O=Nobody"]))
    )
    signed.sign()
    signed.sign_too(signed.mark("2026-01-31"))
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["data"]["lifecycle"]["signer"]) == (0, None)
    assert "not trusted" in answer["data"]["lifecycle"]["note"]


def test_the_newest_mark_counts_whoever_signed_it(signed: Signed, config: Path, answered: Answered) -> None:
    signed.sign()
    signed.sign_too(signed.mark("2026-01-31"))
    signed.mark("2027-01-31", created="2026-02-02T00:00:00Z")
    assert answered("verify", signed.reference, "--at", AT)[1]["data"]["lifecycle"]["date"] == "2027-01-31"


@pytest.mark.parametrize("lie", ["another date", "another artifact"])
def test_a_signed_mark_says_nothing_else_than_the_list(signed: Signed, config: Path, answered: Answered, lie: str) -> None:
    """Only the manifest of the mark is signed, not the registry's list of referrers. So a false list must have no effect."""
    signature = signed.sign()
    other = signed.mar.add_artifact(REPOSITORY, "2.0.0", ("thing.txt", b"another"))
    mark = signed.mark("2026-01-31", subject=other if lie == "another artifact" else None)
    signed.sign_too(mark)
    entry = json.loads(signed.mar.manifests[f"{REPOSITORY} {mark.digest}"][1])
    notes = dict(entry["annotations"])
    if lie == "another date":
        notes = {name: "2025-01-31" if value == "2026-01-31" else value for name, value in notes.items()}
    listed = [
        {**descriptor_json(signature), "artifactType": "application/vnd.cncf.notary.signature"},
        {**descriptor_json(mark), "artifactType": entry["artifactType"], "annotations": notes},
    ]
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})
    signed.mar.on("referrers", path=str(signed.artifact.digest)).answers(200, body, Content_Type=OCI_INDEX)
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["data"]["lifecycle"]["signer"]) == (0, None)


def test_an_outage_at_the_mark_is_no_failure_of_the_artifact(signed: Signed, config: Path, answered: Answered, impatient: None) -> None:
    signed.sign()
    mark = signed.mark("2026-01-31")
    signed.mar.on("referrers", path=str(mark.digest)).answers(503)
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["data"]["lifecycle"]["signer"]) == (0, None)
    assert "could not be checked" in answer["data"]["lifecycle"]["note"]


def test_an_artifact_that_the_policy_skips_is_not_called_unsigned(signed: Signed, config: Path, answered: Answered) -> None:
    skip = policy(signatureVerification={"level": "skip"}, trustStores=None, trustedIdentities=None)
    (config / "trustpolicy.json").write_text(json.dumps(skip))
    signed.sign_too(signed.mark("2026-01-31"))
    data = answered("verify", signed.reference, "--at", AT)[1]["data"]
    assert (data["verdict"], data["lifecycle"]["note"]) == ("skipped", "its signature was not checked")


def test_inspect_shows_the_signature_of_a_mark(signed: Signed, answered: Answered) -> None:
    signature = signed.sign_too(signed.mark("2026-01-31"))
    (mark,) = answered("inspect", signed.reference)[1]["data"]["referrers"]
    assert [(one["kind"], one["digest"]) for one in mark["referrers"]] == [("signature", str(signature.digest))]


# -- superseded


@pytest.mark.parametrize("version", ["1.0.0", None, "../../v2"])
def test_a_digest_whose_tag_moved_on_was_superseded(
    signed: Signed, config: Path, answered: Answered, capsys: pytest.CaptureFixture[str], version: str | None
) -> None:
    notes = {"annotations": {"org.opencontainers.image.version": version}} if version else {}
    old = signed.artifact = signed.mar.add_artifact(REPOSITORY, "1.0.0", ("thing.txt", b"an old thing"), **notes)
    signed.sign()
    signed.mark("2026-01-31")
    assert answered("verify", signed.reference, "--at", AT)[1]["data"]["superseded"] is False
    signed.mar.add_artifact(REPOSITORY, "1.0.0", ("thing.txt", b"a new thing"))
    pinned = f"{signed.mar.host}/{REPOSITORY}@{old.digest}"
    code, answer = answered("verify", pinned, "--at", AT)
    assert (code, answer["data"]["superseded"]) == (0, True if version == "1.0.0" else None)
    assert main(["verify", pinned, "--at", AT]) == 0
    assert "superseded" in capsys.readouterr().err
    code, answer = answered("verify", pinned, "--at", AT, "--refuse-eol")
    assert (code, "superseded" in answer["error"]["message"]) == (4, True)


# -- types of referrers


def test_old_signatures_and_attestations_are_known(signed: Signed, config: Path, answered: Answered) -> None:
    old = "application/vnd.cncf.notary.v2.signature"
    signed.sign(artifactType=old, annotations={"io.cncf.notary.x509chain.thumbprint#S256": "[430ecf,9b18,23ff]"})
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["error"]["code"], answer["data"]["notChecked"]) == (6, "NO_SIGNATURE", [old])
    signed.sign(annotations={"io.cncf.notary.x509chain.thumbprint#S256": "[430ecf,9b18,23ff]"})  # MAR wrote the list without quotes in 2024
    signed.mar.add_artifact(
        REPOSITORY, "attestation", artifactType="application/vnd.in-toto+json", subject=descriptor_json(signed.artifact)
    )
    code, answer = answered("verify", signed.reference, "--at", AT)
    assert (code, answer["data"]["verdict"]) == (0, "verified")
    kinds = {one["kind"] for one in answered("referrers", signed.reference)[1]["data"]["referrers"]}
    assert kinds == {"signature", "attestation"}


# -- platforms


def index_of(signed: Signed, tag: str = "2.0.0") -> Descriptor:
    platform = {"os": "linux", "architecture": "amd64"}
    entries = [{**descriptor_json(signed.artifact), "platform": platform}]
    return signed.mar.add_manifest(REPOSITORY, tag, json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode())


def test_index_and_platform_must_both_be_signed(
    signed: Signed, config: Path, answered: Answered, capsys: pytest.CaptureFixture[str]
) -> None:
    top = index_of(signed)
    words = ["verify", f"{signed.mar.host}/{REPOSITORY}:2.0.0", "--at", AT, "--platform", "linux/amd64"]
    signed.sign_too(top)
    code, answer = answered(*words)
    assert (code, answer["error"]["code"], answer["data"]["verdict"]) == (6, "NO_SIGNATURE", "failed")
    assert answer["data"]["platform"]["verdict"] == "failed"
    assert str(signed.artifact.digest) in answer["error"]["message"]
    signed.sign()
    code, answer = answered(*words)
    assert (code, answer["data"]["verdict"]) == (0, "verified")
    found = answer["data"]["platform"]
    assert (found["platform"], found["digest"], found["verdict"]) == ("linux/amd64", str(signed.artifact.digest), "verified")
    assert [one["code"] for one in found["signatures"]] == ["OK"]
    assert main(words) == 0
    assert f"platform linux/amd64\tverified\t{signed.artifact.digest}\t{SIGNER}" in capsys.readouterr().out


def test_a_signed_platform_of_an_unsigned_index_is_not_enough(signed: Signed, config: Path, answered: Answered) -> None:
    index_of(signed)
    signed.sign()
    words = ["verify", f"{signed.mar.host}/{REPOSITORY}:2.0.0", "--at", AT, "--platform", "linux/amd64"]
    code, answer = answered(*words)
    assert (code, answer["error"]["code"], answer["data"]["platform"]["verdict"]) == (6, "NO_SIGNATURE", "verified")


@pytest.mark.parametrize(("platform", "expected"), [("linux/arm64", 3), ("windows/amd64", 3), ("linux", 2)])
def test_a_missing_platform_is_not_found(signed: Signed, config: Path, answered: Answered, platform: str, expected: int) -> None:
    signed.sign_too(index_of(signed))
    assert answered("verify", f"{signed.mar.host}/{REPOSITORY}:2.0.0", "--at", AT, "--platform", platform)[0] == expected


# -- everything in a lock


@pytest.fixture
def project(signed: Signed, tmp_path: Path, answered: Answered) -> Path:
    """Create a project with two locked, unsigned artifacts."""
    signed.mar.add_artifact(REPOSITORY, "2.0.0", ("thing.txt", b"another"))
    path = tmp_path / "marfetch.yaml"
    host = signed.mar.host
    path.write_text(
        f"schema: 1\nartifacts:\n  - {{reference: '{host}/{REPOSITORY}:2.0.0', name: two}}\n  - {{reference: '{host}/{REPOSITORY}:1.0.0', name: one}}\n"
    )
    assert answered("lock", "-f", path)[0] == 0
    return path


def test_everything_that_is_locked_is_verified(
    signed: Signed, config: Path, answered: Answered, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed.sign()
    code, answer = answered("verify", "-f", project, "--at", AT)
    rows = [(one["name"], one["verdict"], one["code"]) for one in answer["data"]["artifacts"]]
    assert (code, answer["ok"], answer["error"]["code"]) == (6, False, "NO_SIGNATURE")
    assert rows == [("two", "failed", "NO_SIGNATURE"), ("one", "verified", "OK")]
    assert answer["data"]["artifacts"][1]["reference"] == f"{signed.reference}@{signed.artifact.digest}"
    assert main(["verify", "-f", str(project), "--at", AT]) == 6
    shown = capsys.readouterr()
    assert [line.split("\t")[:2] for line in shown.out.splitlines()] == [["failed", "two"], ["verified", "one"]]
    assert "two: " in shown.err
    other = json.loads((project.parent / "marfetch.lock").read_text())["artifacts"]
    two = next(one for one in other if one["name"] == "two")
    signed.sign_too(Descriptor(two["mediaType"], Digest.parse(two["digest"]), two["size"]))
    code, answer = answered("verify", "-f", project, "--at", AT)
    assert (code, {one["verdict"] for one in answer["data"]["artifacts"]}) == (0, {"verified"})


def test_the_locked_digest_is_verified_and_not_where_the_tag_is_now(
    signed: Signed, config: Path, answered: Answered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed.sign()
    signed.mark("2026-01-31")
    path = tmp_path / "marfetch.yaml"
    path.write_text(f"schema: 1\nartifacts:\n  - reference: '{signed.reference}'\n")
    assert answered("lock", "-f", path)[0] == 0
    signed.mar.add_artifact(REPOSITORY, "1.0.0", ("thing.txt", b"a new thing"))
    code, answer = answered("verify", "-f", path, "--at", AT)
    (row,) = answer["data"]["artifacts"]
    assert (code, row["verdict"], row["superseded"], row["endOfLife"]) == (0, "verified", True, "2026-01-31")
    assert main(["outdated", "-f", str(path)]) == 1
    assert "superseded on 2026-01-31" in capsys.readouterr().out


def test_a_lock_that_does_not_fit_is_exit_8(signed: Signed, config: Path, answered: Answered, project: Path) -> None:
    project.write_text(project.read_text().replace("name: one", "name: other"))
    assert answered("verify", "-f", project, "--at", AT)[0] == 8
    (project.parent / "marfetch.lock").unlink()
    code, answer = answered("verify", "-f", project, "--at", AT)
    assert (code, answer["error"]["code"]) == (8, "lock-missing")


def test_a_failing_signature_outweighs_an_outage(signed: Signed, config: Path, answered: Answered, project: Path, impatient: None) -> None:
    two = next(one for one in json.loads((project.parent / "marfetch.lock").read_text())["artifacts"] if one["name"] == "two")
    signed.mar.on("referrers", path=two["digest"]).answers(503)
    code, answer = answered("verify", "-f", project, "--at", AT)
    assert (code, [one["code"] for one in answer["data"]["artifacts"]]) == (6, ["server-error", "NO_SIGNATURE"])


def test_without_a_policy_there_is_one_error(signed: Signed, config: Path, answered: Answered, project: Path) -> None:
    (config / "trustpolicy.json").unlink()
    code, answer = answered("verify", "-f", project, "--at", AT)
    assert (code, answer["error"]["code"], "data" in answer) == (2, "POLICY_MISSING", False)


@pytest.mark.parametrize("more", [["aks/foo:1"], ["--version", "1"], ["--devel"], ["--platform", "linux/amd64"]])
def test_a_project_and_a_reference_are_not_combined(answered: Answered, config: Path, project: Path, more: list[str]) -> None:
    code, answer = answered("verify", *more, "-f", project)
    assert (code, answer["error"]["code"]) == (2, "usage")


def test_neither_project_nor_reference_is_a_usage_error(answered: Answered) -> None:
    assert answered("verify")[0] == 2


def test_an_unsigned_referrer_in_the_lock_fails(signed: Signed, config: Path, answered: Answered, tmp_path: Path) -> None:
    signed.sign()
    sbom = signed.mar.add_artifact(REPOSITORY, "sbom", artifactType="application/spdx+json", subject=descriptor_json(signed.artifact))
    path = tmp_path / "marfetch.yaml"
    path.write_text(f"schema: 1\nartifacts:\n  - {{reference: '{signed.reference}', referrers: ['application/spdx*']}}\n")
    assert answered("lock", "-f", path)[0] == 0
    code, answer = answered("verify", "-f", path, "--at", AT)
    assert (code, str(sbom.digest) in answer["error"]["message"]) == (6, True)
    signed.sign_too(sbom)
    assert answered("verify", "-f", path, "--at", AT)[0] == 0


# -- provenance under another name


@pytest.mark.parametrize(("repository", "tag"), [("charts/other", "0.1.0"), ("charts/bar", "1.0.0"), ("charts/bar", "0.1.0")])
def test_a_chart_under_another_name_keeps_its_provenance(
    signed: Signed, answered: Answered, config: Path, tmp_path: Path, repository: str, tag: str
) -> None:
    sequoia: Any = pytest.importorskip("pysequoia")
    (config / "trustpolicy.json").unlink()
    data = chart("bar", "0.1.0")
    key = sequoia.Tsk.generate("Publisher <p@example.test>")
    text = f"name: bar\nversion: 0.1.0\n\n...\nfiles:\n  bar-0.1.0.tgz: {Digest.of(data)}\n"
    proof = bytes(sequoia.sign(key.signer(), text.encode(), mode=sequoia.SignatureMode.CLEAR))
    add_chart(signed.mar, repository, tag, data, (HELM_PROVENANCE, proof))
    ring = tmp_path / "ring"
    ring.write_bytes(bytes(key.extract_certificate()))
    code, answer = answered("verify", f"{signed.mar.host}/{repository}:{tag}", "--keyring", ring)
    assert (code, answer["data"]["provenance"]["file"]) == (0, "bar-0.1.0.tgz")
    own_names = [one for one in answer["data"]["warnings"] if "the package's own name" in one]
    assert len(own_names) == (0 if (repository, tag) == ("charts/bar", "0.1.0") else 1)


# -- images of charts in a lock


@pytest.fixture
def naming(signed: Signed, tmp_path: Path) -> Path:
    """Two charts that name the same image; not locked yet."""
    for name in ("foo", "bar"):
        add_naming_chart(signed.mar, signed.reference, "nginx:1", repository=f"charts/{name}")
    path, host = tmp_path / "marfetch.yaml", signed.mar.host
    items = "".join(f"  - {{reference: '{host}/charts/{name}', images: true}}\n" for name in ("foo", "bar"))
    path.write_text(f"schema: 1\nartifacts:\n{items}")
    return path


def sign_chart(signed: Signed, name: str) -> None:
    media_type, raw = signed.mar.manifests[f"charts/{name} 1.0.0"]
    subject = Descriptor(media_type, Digest.of(raw), len(raw))
    layer = descriptor_json(signed.mar.add_blob(cose(signed.authority.signer(), payload(subject))))
    layers = [{**layer, "mediaType": "application/cose"}]
    signed.mar.add_artifact(f"charts/{name}", "signature", artifactType=SIGNATURE, layers=layers, subject=descriptor_json(subject))


def test_an_image_that_is_locked_is_one_row(signed: Signed, config: Path, answered: Answered, naming: Path) -> None:
    assert answered("lock", "-f", naming)[0] == 0
    for name in ("foo", "bar"):
        sign_chart(signed, name)
    code, answer = answered("verify", "-f", naming, "--at", AT)
    image = (f"{signed.reference}@{signed.artifact.digest}", "failed", "NO_SIGNATURE")
    rows = [(one["name"], one["reference"], one["verdict"], one["code"]) for one in answer["data"]["artifacts"]]
    assert (code, [row[0] for row in rows], rows[2][1:]) == (6, ["foo", "bar", "thing"], image)
    signed.sign()
    code, answer = answered("verify", "-f", naming, "--at", AT)
    assert (code, [one["verdict"] for one in answer["data"]["artifacts"]]) == (0, ["verified"] * 3)


def test_an_unsigned_image_is_not_locked_where_signatures_are_required(
    signed: Signed, config: Path, answered: Answered, naming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("foo", "bar"):
        sign_chart(signed, name)
    monkeypatch.setenv("MARFETCH_VERIFY", "policy")
    code, answer = answered("lock", "-f", naming)
    assert (code, answer["error"]["code"]) == (6, "NO_SIGNATURE")
    assert f"the image `{signed.reference}` of `foo`" in answer["error"]["message"]
    assert not (naming.parent / "marfetch.lock").exists()
    signed.sign()
    assert answered("lock", "-f", naming)[0] == 0


def test_signatures_of_images_are_checked_in_a_bundle(signed: Signed, config: Path, answered: Answered, naming: Path) -> None:
    for name in ("foo", "bar"):
        sign_chart(signed, name)
    signed.sign()
    assert answered("lock", "-f", naming)[0] == 0
    bundle = naming.parent / "a.tar"
    assert answered("bundle", "create", "-f", naming, "-o", bundle, "--referrers")[0] == 0
    code, answer = answered("bundle", "verify", bundle, "--at", AT, "--verify")
    assert (code, [one["verdict"] for one in answer["data"]["signatures"]]) == (0, ["verified"] * 3)
