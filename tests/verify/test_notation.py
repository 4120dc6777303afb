"""Comparison with the real notation: signatures that it pushed to a real registry, verified by both programs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import tsp
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from marfetch.__main__ import main
from marfetch.artifact.kinds import END_OF_LIFE, LIFECYCLE
from marfetch.oci import Digest, descriptor_json
from marfetch.verify.truststore import cache_directory, config_directory

from ..world.answering import Answering, answering
from ..world.paths import TRUST
from ..world.real import distribution, package_chart, run
from ..world.registry import Registry
from ..world.signing import Authority, Identity, Stamp, policy
from ..world.vectors import CASES, VECTORS

Tool = Callable[[str], Path]

pytestmark = pytest.mark.tool

# marfetch differs from notation: it is stricter, or allows what the specification allows.
STRICTER = {
    "bad-pss-salt-jws",
    "bad-crit-unknown-cose",
    "bad-both-signing-times-cose",
    "bad-json-case-fold-jws",
    "bad-top-level-member-jws",
}
ALLOWED = {"ok-x5chain-protected-cose"}


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create one configuration directory for both programs, set with `XDG_CONFIG_HOME`."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    directory = config_directory()
    directory.mkdir(parents=True)
    assert directory == tmp_path / "xdg" / "notation"
    assert cache_directory() == tmp_path / "xdg-cache" / "notation"
    return directory


def environment(directory: Path) -> dict[str, str]:
    root = directory.parent.parent
    return {"PATH": "/usr/bin:/bin", "HOME": str(root), "XDG_CONFIG_HOME": str(root / "xdg"), "XDG_CACHE_HOME": str(root / "xdg-cache")}


def accepts(notation: Path, directory: Path, reference: str) -> bool:
    """Return whether notation accepts the signature of an artifact."""
    line = [str(notation), "verify", "--insecure-registry", reference]
    done = subprocess.run(line, env=environment(directory), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode == 0


def ours(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    main(["verify", *words, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# -- signed by notation, verified by both


def key_files(directory: Path, signer: Identity) -> tuple[Path, Path]:
    key, chain = directory / "signer.key", directory / "signer.crt"
    key.write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificates = [signer.certificate, *(one.certificate for one in signer.above)]
    chain.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in certificates))
    return key, chain


@contextmanager
def timestamping(stamp: Stamp) -> Iterator[str]:
    """Run a timestamping authority on loopback, and yield its URL."""

    class Handler(Answering):
        def post(self) -> None:
            asked = tsp.TimeStampReq.load(self.rfile.read(int(self.headers["Content-Length"])))
            self.say(200, stamp.answer(asked), Content_Type="application/timestamp-reply")

    with answering(Handler) as port:
        yield f"http://127.0.0.1:{port}/"


POLICIES: dict[str, tuple[dict[str, Any], str]] = {
    "right": (policy(), "OK"),
    "with timestamps": (policy(trustStores=["ca:test", "tsa:test"]), "OK"),
    "anybody": (policy(trustedIdentities=["*"]), "OK"),
    "another signer": (policy(trustedIdentities=["x509.subject: C=US, ST=Oregon, O=Other"]), "IDENTITY_MISMATCH"),
    "another root": (policy(trustStores=["ca:other"]), "UNTRUSTED_ROOT"),
    "the wrong sort of store": (policy(trustStores=["signingAuthority:test"]), "TRUST_STORE_EMPTY"),
    "audit": (policy(trustStores=["ca:other"], signatureVerification={"level": "audit"}), "OK"),
    "permissive": (policy(signatureVerification={"level": "permissive"}), "OK"),
}


@pytest.mark.parametrize("form", ["cose", "jws"])
@pytest.mark.parametrize("kind", [3072, "secp384r1"])
def test_signatures_of_notation_get_the_same_verdict_from_both(
    tool: Tool, surroundings: Path, tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str], form: str, kind: Any
) -> None:
    notation, helm = tool("notation"), tool("helm4")
    authority.write(surroundings / "truststore")
    other = surroundings / "truststore" / "x509" / "ca" / "other"
    other.mkdir()
    shutil.copyfile(TRUST / "certs" / "otherroot.crt", other / "root.crt")
    key, chain = key_files(tmp_path, authority.signer(kind=kind))
    keys = {"default": "test", "keys": [{"name": "test", "keyPath": str(key), "certPath": str(chain)}]}
    (surroundings / "signingkeys.json").write_text(json.dumps(keys))
    root = tmp_path / "tsa.crt"
    root.write_bytes(authority.tsa_root.der)
    with distribution(tool("registry"), tmp_path / "registry") as host, timestamping(Stamp(authority.tsa)) as stamps:
        package = package_chart(helm, tmp_path, "demo", "0.1.0")
        run(helm, "push", package, f"oci://{host}/charts", "--plain-http")
        words: list[object] = [
            "sign",
            "--insecure-registry",
            "--signature-format",
            form,
            "-m",
            "build=42",
            "--timestamp-url",
            stamps,
            "--timestamp-root-cert",
            root,
        ]
        line = [str(word) for word in (notation, *words, f"{host}/charts/demo:0.1.0")]
        subprocess.run(line, env=environment(surroundings), check=True, capture_output=True, timeout=60)
        reference = f"{host}/charts/demo:0.1.0"
        for name, (document, wanted) in POLICIES.items():
            (surroundings / "trustpolicy.json").write_text(json.dumps(document))
            found = ours(capsys, reference, "--endpoint", f"http://{host}")
            assert (found["data"]["signatures"][0]["code"]) == wanted, name
            assert accepts(notation, surroundings, reference) is found["ok"], name
        (surroundings / "trustpolicy.json").write_text(json.dumps(POLICIES["with timestamps"][0]))
        found = ours(capsys, reference, "-m", "build=42")
        (one,) = found["data"]["signatures"]
        assert one["annotations"] == {"build": "42"}
        assert "CN=Test TSA" in one["timestamp"]["authority"]
        assert ours(capsys, reference, "-m", "build=43")["error"]["code"] == "ANNOTATION_MISMATCH"


def test_a_lifecycle_mark_that_oras_attached_and_notation_signed(
    tool: Tool, surroundings: Path, tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    notation, helm, oras = tool("notation"), tool("helm4"), tool("oras")
    authority.write(surroundings / "truststore")
    key, chain = key_files(tmp_path, authority.signer())
    keys = {"default": "test", "keys": [{"name": "test", "keyPath": str(key), "certPath": str(chain)}]}
    (surroundings / "signingkeys.json").write_text(json.dumps(keys))
    (surroundings / "trustpolicy.json").write_text(json.dumps(policy()))

    def sign(reference: str) -> None:
        line = [str(notation), "sign", "--insecure-registry", reference]
        subprocess.run(line, env=environment(surroundings), check=True, capture_output=True, timeout=60)

    with distribution(tool("registry"), tmp_path / "registry") as host:
        reference = f"{host}/charts/demo:0.1.0"
        run(helm, "push", package_chart(helm, tmp_path, "demo", "0.1.0"), f"oci://{host}/charts", "--plain-http")
        mark = ["--artifact-type", LIFECYCLE, "--annotation", f"{END_OF_LIFE}=2025-11-12", "--format", "go-template={{.digest}}"]
        attached = run(oras, "attach", "--plain-http", *mark, reference).strip()
        sign(reference)
        before = ours(capsys, reference)["data"]
        assert (before["endOfLife"], before["lifecycle"]["signer"], before["superseded"]) == ("2025-11-12", None, False)
        sign(f"{host}/charts/demo@{attached}")
        assert "CN=Test Signer" in ours(capsys, reference)["data"]["lifecycle"]["signer"]
        pinned = f"{host}/charts/demo@{before['digest']}"
        other = package_chart(helm, tmp_path / "again", "demo", "0.1.0", values="replicas: 2\n")
        run(helm, "push", other, f"oci://{host}/charts", "--plain-http")
        moved = ours(capsys, pinned)["data"]
        assert (moved["superseded"], moved["verdict"]) == (True, "verified")


def test_both_accept_the_layout_of_the_other(tool: Tool, surroundings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notation = tool("notation")
    line = [str(notation), "cert", "add", "--type", "ca", "--store", "test", str(TRUST / "certs" / "root.crt")]
    subprocess.run(line, env=environment(surroundings), check=True, capture_output=True, timeout=60)
    given = surroundings.parent.parent / "policy.json"
    given.write_text(json.dumps(policy(trustStores=["ca:test"])))
    subprocess.run([notation, "policy", "import", given], env=environment(surroundings), check=True, capture_output=True, timeout=60)
    assert main(["trust", "check"]) == 0
    assert "trustpolicy" in capsys.readouterr().out


# -- test vectors, pushed to a registry


def push(mar: Registry, number: int, case: dict[str, Any]) -> str:
    """Push the artifact of a test vector with its signature to its own repository."""
    repository = f"vectors/case-{number}"
    raw = (TRUST / VECTORS["artifacts"]["docker-manifest-list" if "docker" in case["name"] else "manifest"]).read_bytes()
    artifact = mar.add_manifest(repository, "it", raw, case["artifact"]["mediaType"])
    envelope = (TRUST / case["envelope"]).read_bytes()
    mar.add_blob(envelope)
    mar.add_blob(b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.cncf.notary.signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2},
        "layers": [{"mediaType": case["layerMediaType"], "digest": str(Digest.of(envelope)), "size": len(envelope)}],
        "subject": descriptor_json(artifact),
    }
    mar.add_manifest(repository, "signature", json.dumps(document).encode())
    return f"{mar.host}/{repository}@{artifact.digest}"


def test_both_say_the_same_of_every_vector_but_those_where_we_are_stricter(
    tool: Tool, surroundings: Path, mar: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notation = tool("notation")
    monkeypatch.setenv("MARFETCH_DATA_HOSTS", mar.data_host)
    for store, file in VECTORS["stores"].items():
        directory = surroundings / "truststore" / "x509" / store.replace(":", "/")
        directory.mkdir(parents=True)
        shutil.copyfile(TRUST / file, directory / "root.crt")
    differ: dict[str, tuple[bool, bool]] = {}
    for number, case in enumerate(CASES.values()):
        given = VECTORS["policies"][case["policy"]]
        verification = {
            "level": given.get("level", "strict"),
            **{key: given[key] for key in ("override", "verifyTimestamp") if key in given},
        }
        document = policy(
            trustStores=given["trustStores"], trustedIdentities=given["trustedIdentities"], signatureVerification=verification
        )
        (surroundings / "trustpolicy.json").write_text(json.dumps(document))
        reference = push(mar, number, case)
        found = ours(capsys, reference, "--at", VECTORS["now"])
        assert found["data"]["signatures"][0]["code"] == case["expect"], case["name"]
        said = accepts(notation, surroundings, reference)
        if said is not found["ok"]:
            differ[case["name"]] = (said, found["ok"])
    assert differ == {**dict.fromkeys(STRICTER, (True, False)), **dict.fromkeys(ALLOWED, (False, True))}


# -- provenance files that helm pushed


@pytest.mark.parametrize(
    ("prov", "ring", "wanted"),
    [
        ("rsa.prov", "pubring.gpg", None),
        ("ed25519.prov", "pubring.asc", None),
        ("bad-tampered.prov", "pubring.gpg", "PROV_SIGNATURE_INVALID"),
        ("bad-appended.prov", "pubring.gpg", "PROV_MALFORMED"),
        (None, "pubring.gpg", "PROV_MISSING"),
    ],
)
def test_provenance_beside_a_chart_that_helm_pushed(
    tool: Tool, surroundings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], prov: str | None, ring: str, wanted: str | None
) -> None:
    pytest.importorskip("pysequoia")
    helm = tool("helm4")
    package = tmp_path / "demo-0.1.0.tgz"
    shutil.copyfile(TRUST / "prov" / "demo-0.1.0.tgz", package)
    if prov is not None:
        shutil.copyfile(TRUST / "prov" / prov, tmp_path / "demo-0.1.0.tgz.prov")
    with distribution(tool("registry"), tmp_path / "registry") as host:
        run(helm, "push", package, f"oci://{host}/charts", "--plain-http")
        found = ours(capsys, f"{host}/charts/demo:0.1.0", "--keyring", str(TRUST / "prov" / ring))
    assert found.get("error", {}).get("code") == wanted
    if wanted is None:
        assert found["data"]["verdict"] == "verified"
        assert found["data"]["provenance"]["file"] == "demo-0.1.0.tgz"
        assert found["data"]["policy"] is None  # there is no trust policy
