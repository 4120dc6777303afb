"""The lock: stable bytes, a strict reader, seals, and how git merges it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch.errors import Error, IntegrityError, LockError
from marfetch.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Digest
from marfetch.project.lockfile import Entry, Lock, LockedLayer, Verification, lock_bytes, make_lock, parse_lock, read_lock
from marfetch.reference import Reference

PATH = Path("marfetch.lock")


def blob(text: str) -> Descriptor:
    return Descriptor("application/x.y", Digest.of(text.encode()), len(text))


def entry(name: str, version: str = "1.2.3", **more: Any) -> Entry:
    manifest = Descriptor(OCI_MANIFEST, Digest.of(f"{name} {version}".encode()), 77)
    reference = Reference.parse(f"mcr.microsoft.com/aks/{name}:{version}@{manifest.digest}")
    layers = (LockedLayer(blob(name), f"{name}-{version}.tgz"), LockedLayer(blob("provenance")))
    return Entry(name, reference, manifest, blob("config"), layers, "chart", "application/vnd.cncf.helm.config.v1+json", version, **more)


RICH = entry(
    "rich",
    created="2026-01-02T03:04:05Z",
    referrers=(Descriptor(OCI_MANIFEST, Digest.of(b"signature"), 9, artifact_type="application/vnd.cncf.notary.signature"),),
    options={"destination": "charts/é", "kind": ["chart"], "untar": True},
    verification=Verification("verified", {"signatures": ["sha256:…"]}),
)


def test_what_is_written_is_read_back() -> None:
    lock = make_lock([entry("b"), RICH, entry("a")])
    assert [one.name for one in lock.entries] == ["a", "b", "rich"]
    read = parse_lock(lock_bytes(lock), PATH)
    assert read == lock
    assert lock_bytes(read) == lock_bytes(lock)
    assert read.get("rich") == RICH
    assert read.get("c") is None


def test_an_entry_of_an_index_says_which_manifest_was_chosen() -> None:
    index = Descriptor(OCI_INDEX, Digest.of(b"index"), 300)
    reference = Reference.parse(f"mcr.microsoft.com/a/b:latest@{index.digest}")
    one = Entry("b", reference, index, blob("config"), (), "file", "application/x.y", artifact=Descriptor(OCI_MANIFEST, Digest.of(b"m"), 5))
    assert parse_lock(lock_bytes(make_lock([one])), PATH).entries == (one,)


def test_the_bytes_do_not_depend_on_the_order_of_entries() -> None:
    assert lock_bytes(make_lock([entry("a"), entry("b")])) == lock_bytes(make_lock([entry("b"), entry("a")]))


def test_the_lock_says_which_tool_wrote_it() -> None:
    from marfetch import __version__

    assert json.loads(lock_bytes(make_lock([])))["tool"] == f"marfetch {__version__}"
    assert parse_lock(lock_bytes(Lock((), "marfetch 0.0.9")), PATH).tool == "marfetch 0.0.9"


TWO = lock_bytes(make_lock([entry("a"), entry("b")]))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(TWO)
    change(document)
    return json.dumps(document, indent=1).encode()


MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "line 1"),
    "not JSON": (b"a: b\n", "line 1"),
    "not an object": (b"[]", "not an object"),
    "cut": (TWO[:-30], "malformed"),
    "not UTF-8": (b"\xff" + TWO, "not UTF-8"),
    "merge markers": (TWO.replace(b'  {\n   "name": "b"', b'<<<<<<< HEAD\n  {\n   "name": "b"'), "merge"),
    "the middle of a merge": (TWO.replace(b' "artifacts"', b"=======\n" + b' "artifacts"'), "line 4"),
    "an unknown key": (changed(lambda d: d.update(artefacts=[])), "`artefacts` is not a key"),
    "an unknown key of an entry": (changed(lambda d: d["artifacts"][1].update(more=1)), "`more` is not a key"),
    "no schema": (changed(lambda d: d.pop("schema")), "`schema`"),
    "a schema that is true": (changed(lambda d: d.update(schema=True)), "`schema`"),
    "no tool": (changed(lambda d: d.pop("tool")), "`tool`"),
    "no entries": (changed(lambda d: d.update(artifacts={})), "`artifacts`"),
    "an entry that is a text": (changed(lambda d: d.update(artifacts=["x"])), "entry 1"),
    "an entry without a name": (changed(lambda d: d["artifacts"][0].pop("name")), "entry 1"),
    "an entry that appears twice": (changed(lambda d: d["artifacts"].append(d["artifacts"][0])), "appears twice"),
    "no seal": (changed(lambda d: d["artifacts"][0].pop("seal")), "`seal`"),
    "a size that is true": (changed(lambda d: d["artifacts"][0].update(size=True)), "`size`"),
    "a negative size": (changed(lambda d: d["artifacts"][0].update(size=-1)), "size"),
    "a short digest": (changed(lambda d: d["artifacts"][0].update(digest="sha256:ab")), "sha256"),
    "another digest than the reference's": (changed(lambda d: d["artifacts"][0].update(digest=str(Digest.of(b"x")))), "disagree"),
    "a reference without host": (
        changed(lambda d: d["artifacts"][0].update(reference=d["artifacts"][0]["reference"].partition("/")[2])),
        "host",
    ),
    "a layer that is a text": (changed(lambda d: d["artifacts"][0].update(layers=["x"])), "layers"),
    "a digest that leads elsewhere": (changed(lambda d: d["artifacts"][0]["config"].update(digest="sha256:../../etc/passwd")), "digest"),
}


@pytest.mark.parametrize(("data", "says"), MALFORMED.values(), ids=MALFORMED)
def test_a_lock_that_marfetch_did_not_write_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_lock(data, PATH)
    assert caught.value.code == "lock-malformed"
    assert caught.value.exit_code == 5
    assert says in caught.value.message


EDITED: dict[str, Callable[[dict[str, Any]], object]] = {
    "version": lambda one: one.update(version="1.2.4"),
    "kind": lambda one: one.update(kind="bicep"),
    "another artifact": lambda one: one.update(reference=one["reference"].replace("aks/b", "aks/c")),
    "another host": lambda one: one.update(reference=one["reference"].replace("mcr.microsoft.com", "mcr.azure.cn")),
    "a layer's digest": lambda one: one["layers"][0].update(digest=str(Digest.of(b"evil"))),
    "a layer more": lambda one: one["layers"].append(one["layers"][0]),
    "a layer less": lambda one: one["layers"].pop(),
    "a file's name": lambda one: one["layers"][0].update(file="../../x"),
    "options": lambda one: one.update(options={"destination": "elsewhere"}),
    "the digest, consistently": lambda one: one.update(
        digest=str(Digest.of(b"z")), reference=one["reference"].partition("@")[0] + f"@{Digest.of(b'z')}"
    ),
    "a verdict": lambda one: one.update(verification={"verdict": "verified", "evidence": {}}),
}


@pytest.mark.parametrize("edit", EDITED.values(), ids=EDITED)
def test_an_entry_that_was_edited_by_hand_is_noticed_with_its_line(edit: Callable[[dict[str, Any]], object]) -> None:
    data = changed(lambda document: edit(document["artifacts"][1]))
    with pytest.raises(IntegrityError) as caught:
        parse_lock(data, PATH)
    assert caught.value.code == "lock-edited"
    assert caught.value.context["entry"] == "b"
    line = caught.value.context["line"]
    assert isinstance(line, int)
    assert '"name": "b"' in data.decode().splitlines()[line - 1]


def test_a_newer_lock_schema_is_distinguished_from_a_broken_lock() -> None:
    with pytest.raises(LockError) as caught:
        parse_lock(changed(lambda document: document.update(schema=3, more={})), PATH)
    assert caught.value.code == "lock-newer"


def test_line_endings_of_windows_do_no_harm() -> None:
    assert parse_lock(TWO.replace(b"\n", b"\r\n"), PATH) == parse_lock(TWO, PATH)


def test_a_missing_lock_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(LockError) as caught:
        read_lock(tmp_path / "marfetch.lock")
    assert caught.value.code == "lock-missing"


def merged(tmp_path: Path, base: bytes, ours: bytes, theirs: bytes) -> tuple[int, bytes]:
    """Merge two branches with git. Return the exit code and the merged file."""
    for name, data in (("base", base), ("ours", ours), ("theirs", theirs)):
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(["git", "merge-file", "-p", "ours", "base", "theirs"], cwd=tmp_path, capture_output=True, check=False)
    return done.returncode, done.stdout


def test_git_merges_branches_that_changed_different_entries(tmp_path: Path) -> None:
    def of(**versions: str) -> bytes:
        return lock_bytes(make_lock(entry(name, version) for name, version in versions.items()))

    base = of(b="1.0.0", d="1.0.0", f="1.0.0")
    conflicts, text = merged(tmp_path, base, of(b="2.0.0", d="1.0.0", f="1.0.0"), of(b="1.0.0", d="1.0.0", e="1.0.0", f="3.0.0"))
    assert conflicts == 0
    assert text == of(b="2.0.0", d="1.0.0", e="1.0.0", f="3.0.0")


def test_a_conflict_of_git_is_refused_and_not_guessed(tmp_path: Path) -> None:
    def of(version: str) -> bytes:
        return lock_bytes(make_lock([entry("a", version)]))

    conflicts, text = merged(tmp_path, of("1.0.0"), of("1.1.0"), of("1.2.0"))
    assert conflicts > 0
    with pytest.raises(Error, match="merge conflict markers"):
        parse_lock(text, PATH)
