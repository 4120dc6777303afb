"""Every command notices a changed byte in the cache: it downloads the blob again, or ends with exit code 5."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.__main__ import main
from marfetch.artifact.kinds import HELM_CHART, HELM_CONFIG
from marfetch.oci import OCI_INDEX, OCI_MANIFEST, Digest, descriptor_json

from .world.archives import file, targz
from .world.command import Answered, Call
from .world.registry import Registry
from .world.serving import Command, ask
from .world.signed import AT, Signed

REPOSITORY = "charts/foo"
ORIGINAL, CHANGED = b"original", b"Original"
TAGS = ("1.0.0", "1.1.0")

COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "inspect": lambda host: ["inspect", f"{host}/{REPOSITORY}:1.0.0", "--json"],
    "inspect a platform": lambda host: ["inspect", f"{host}/many/foo:1", "--platform", "linux/amd64", "--json"],
    "versions": lambda host: ["versions", f"{host}/{REPOSITORY}", "--details", "--json"],
    "search": lambda _: ["search", "charts/foo", "--kind", "chart", "--json"],
    "index": lambda host: ["index", f"{host}/{REPOSITORY}"],
    "getter": lambda host: ["getter", "", "", "", f"mar://{host}/{REPOSITORY}/foo-1.0.0.tgz"],
    "getter of an index": lambda host: ["getter", "", "", "", f"mar://{host}/{REPOSITORY}/index.yaml"],
    "diff": lambda host: ["diff", f"{host}/{REPOSITORY}:1.0.0", f"{host}/{REPOSITORY}:1.1.0", "--json"],
    "outdated": lambda _: ["outdated", "--json"],
    "pull": lambda host: ["pull", f"{host}/{REPOSITORY}:1.0.0", "-d", "out"],
    "pull a platform": lambda host: ["pull", f"{host}/many/foo:1", "--platform", "linux/amd64", "-d", "out", "--all-layers"],
    "pull unpacked": lambda host: ["pull", f"{host}/{REPOSITORY}:1.0.0", "-d", "out", "--untar"],
    "sync": lambda _: ["sync", "--locked"],
    "bundle create": lambda _: ["bundle", "create", "-o", "out.tar", "--json"],
    "referrers": lambda host: ["referrers", f"{host}/{REPOSITORY}:1.0.0", "--json"],
}


class Shop:
    """Two versions of a chart, and an index. All contain a word that a changed byte turns into another word."""

    def __init__(self, mar: Registry) -> None:
        self.blobs: dict[str, list[Digest]] = {"config": [], "layer": [], "manifest": [], "index": []}
        for tag in TAGS:
            self._chart(mar, REPOSITORY, tag)
        child = self._chart(mar, "many/foo", "child")
        platform = {"os": "linux", "architecture": "amd64"}
        other = {**child, "platform": {"os": "linux", "architecture": "arm64"}}
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{**child, "platform": platform}, other]}
        document["annotations"] = {"org.opencontainers.image.description": ORIGINAL.decode()}
        self.blobs["index"].append(mar.add_manifest("many/foo", "1", json.dumps(document).encode()).digest)

    def _chart(self, mar: Registry, repository: str, tag: str) -> dict[str, object]:
        metadata = {"apiVersion": "v2", "name": "foo", "version": tag, "appVersion": "original", "description": f"original {tag}"}
        config = mar.add_blob(json.dumps(metadata).encode())
        # The archive is not compressed, so its bytes contain the word.
        text = "\n".join(f"{key}: {value}" for key, value in metadata.items()).encode()
        layer = mar.add_blob(targz(file("foo/Chart.yaml", text), file("foo/values.yaml", f"key: original {tag}\n".encode())))
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {**descriptor_json(config), "mediaType": HELM_CONFIG},
            "layers": [{**descriptor_json(layer), "mediaType": HELM_CHART}],
            "annotations": {"org.opencontainers.image.description": "original"},
        }
        manifest = mar.add_manifest(repository, tag, json.dumps(document).encode())
        for kind, one in (("config", config), ("layer", layer), ("manifest", manifest)):
            self.blobs[kind].append(one.digest)
        return dict(descriptor_json(manifest))


@pytest.fixture
def shop(mar: Registry) -> Shop:
    mar.names = None  # type: ignore[assignment]
    return Shop(mar)


def change(cache: Path, digests: list[Digest]) -> int:
    """Change one byte in each of these blobs that is cached. The size stays the same."""
    count = 0
    for digest in digests:
        path = cache / "blobs" / digest.algorithm / digest.encoded
        if path.is_file():
            data = path.read_bytes()
            at = data.find(ORIGINAL) if ORIGINAL in data else len(data) // 2
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :])
            count += 1
    return count


def left(directory: Path) -> dict[str, bytes]:
    """Return the files that a command wrote to its directory."""
    found = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name not in ("marfetch.yaml", "marfetch.lock")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


@pytest.mark.parametrize("kind", ["config", "layer", "manifest", "index"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_byte_changed_in_the_cache_is_noticed(
    shop: Shop,
    mar: Registry,
    command: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    cache, place = tmp_path / "cache", tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("MARFETCH_ENDPOINT", f"{mar.scheme}://{mar.host}")
    monkeypatch.setenv("MARFETCH_DATA_HOSTS", mar.data_host)
    (place / "marfetch.yaml").write_text(
        f"schema: 1\nartifacts:\n  - {{reference: {REPOSITORY}, version: 1.0.0}}\n"
        "  - {name: many, reference: many/foo:1, platform: linux/amd64, media-type: '*', destination: many}\n"
    )
    assert main(["lock"]) == 0, capfdbinary.readouterr()

    def run() -> tuple[int, bytes, dict[str, bytes]]:
        capfdbinary.readouterr()
        code = main(COMMANDS[command](mar.host))
        return code, capfdbinary.readouterr().out, left(place)

    clean = run()
    assert clean[0] in (0, 1), clean
    for path in left(place):
        (place / path).unlink()
    for name in ("out", "many"):
        shutil.rmtree(place / name, ignore_errors=True)
    shutil.rmtree(cache / "kept", ignore_errors=True)  # delete cached records about the content
    change(cache, shop.blobs[kind])
    code, out, files = run()
    if code == 5:
        assert CHANGED not in out
        assert all(data in clean[2].values() for data in files.values())
    else:
        assert (code, out, files) == clean


@pytest.mark.parametrize("what", ["artifact", "signature", "envelope"])
def test_a_byte_changed_in_the_cache_is_noticed_by_verify(
    signed: Signed, config: Path, answered: Answered, what: str, tmp_path: Path
) -> None:
    envelope = signed.good()
    manifest = signed.sign(envelope)
    words = ("verify", signed.reference, "--at", AT)
    assert answered(*words)[0] == 0
    digests = {"artifact": signed.artifact.digest, "signature": manifest.digest, "envelope": Digest.of(envelope)}
    assert change(tmp_path / "cache", [digests[what]]) == 1
    code, answer = answered(*words)
    assert (code, answer["data"]["verdict"]) == (0, "verified")
    kept = (tmp_path / "cache" / "blobs" / "sha256" / digests[what].encoded).read_bytes()
    assert Digest.of(kept) == digests[what]


@pytest.mark.parametrize("kind", ["config", "layer", "manifest", "index"])
def test_a_byte_changed_in_a_cache_is_never_served(shop: Shop, mar: Registry, call: Call, kind: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert call("pull", "many/foo:1", "--platform", "linux/amd64", "--all-layers", "-d", tmp_path / "out")[0] == 0
    assert change(cache, shop.blobs[kind]) > 0
    with Command(cache, "--port", "0", cwd=tmp_path) as served:
        if not served.first:  # `serve` reads this content before it listens
            assert served.process.wait(30) == 5
            return
        port = int(served.first.rpartition(":")[2])
        for digest in shop.blobs[kind]:
            part = "manifests" if kind in ("manifest", "index") else "blobs"
            got = ask(port, f"/v2/many/foo/{part}/{digest}")
            assert got.status != 200 or Digest.of(got.body) == digest
