"""Referrers are saved in their own directory, and must be signed if signatures are required."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from marfetch.bundle.create import create
from marfetch.client.session import Session
from marfetch.errors import Error, SignatureError
from marfetch.oci import Descriptor, descriptor_json
from marfetch.project.lockfile import lock_bytes, make_lock, read_lock
from marfetch.project.locking import settle, write
from marfetch.project.sync import sync

from ..world.command import Answered
from ..world.projects import Make
from ..world.registry import Registry
from ..world.signed import REPOSITORY, SIGNATURE, Signed
from ..world.signing import Authority, cose, payload

SBOM = "application/spdx+json"
ITEM = f"reference: '{REPOSITORY}:1.0.0', referrers: true"


def attach(mar: Registry, subject: Descriptor, title: str, data: bytes = b"about", *, kind: str = "application/vnd.about") -> Descriptor:
    return mar.add_artifact(REPOSITORY, f"about-{len(mar.manifests)}", (title, data), artifactType=kind, subject=descriptor_json(subject))


def sign(mar: Registry, authority: Authority, subject: Descriptor) -> Descriptor:
    """Sign any manifest, as `Signed.sign` signs the artifact."""
    envelope = mar.add_blob(cose(authority.signer(), payload(subject)))
    layer = {"mediaType": "application/cose", "digest": str(envelope.digest), "size": envelope.size}
    return mar.add_artifact(
        REPOSITORY, f"signed-{len(mar.manifests)}", artifactType=SIGNATURE, layers=[layer], subject=descriptor_json(subject)
    )


def placed(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("marfetch.yaml", "marfetch.lock")
    }


# -- the paths of the files


def test_titles_of_referrers_meet_nothing_of_the_project(signed: Signed, client: Callable[..., Session], make: Make) -> None:
    titles = ["Makefile", "sub/README.md", "thing.txt", "Makefile"]
    made = [attach(signed.mar, signed.artifact, title, b"%d" % number) for number, title in enumerate(titles)]
    directory = make(f"{ITEM}, name: named, destination: sub").directory
    (directory / "Makefile").write_text("mine")
    (directory / "sub").mkdir()
    (directory / "sub" / "Makefile").write_text("mine")
    (result,) = sync(client(), make(f"{ITEM}, name: named, destination: sub"))
    assert (result.outcome, result.error) == ("fetched", None)
    where = {f"sub/named.referrers/{one.digest.encoded}/{title}" for one, title in zip(made, titles, strict=True)}
    assert set(placed(directory)) == {"Makefile", "sub/Makefile", "sub/thing.txt"} | where
    assert (directory / "Makefile").read_text() == (directory / "sub" / "Makefile").read_text() == "mine"
    assert sync(client(), make(f"{ITEM}, name: named, destination: sub"))[0].outcome == "unchanged"


def test_one_with_a_refused_title_keeps_no_other_away(
    signed: Signed, client: Callable[..., Session], make: Make, answered: Answered
) -> None:
    attach(signed.mar, signed.artifact, "../evil")
    good = attach(signed.mar, signed.artifact, "good")
    (result,) = sync(client(), make(ITEM))
    assert (result.outcome, result.error and result.error.code) == ("failed", "name-refused")
    directory = make(ITEM).directory
    assert set(placed(directory)) == {"thing.txt", f"thing.referrers/{good.digest.encoded}/good"}
    code, out = answered("referrers", signed.reference, "--fetch", "-d", directory / "out")
    assert code == 4
    assert [one["code"] for one in out["data"]["failed"]] == ["name-refused"]
    assert set(placed(directory / "out")) == {f"thing.referrers/{good.digest.encoded}/good"}


def test_a_link_in_the_place_of_their_directory_is_not_followed(signed: Signed, client: Callable[..., Session], make: Make) -> None:
    attach(signed.mar, signed.artifact, "good")
    directory = make(ITEM).directory
    (directory / "elsewhere").mkdir()
    (directory / "thing.referrers").symlink_to("elsewhere")
    (result,) = sync(client(), make(ITEM))
    assert (result.outcome, result.error and result.error.exit_code) == ("failed", 9)
    assert list((directory / "elsewhere").iterdir()) == []


# -- signatures

ASKED = ["verify: true", "MARFETCH_VERIFY"]


@pytest.fixture(params=ASKED)
def item(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, signed: Signed, config: Path) -> str:
    """Return an item with a signed artifact. Signatures are required by the project file or by `MARFETCH_VERIFY`."""
    assert config.is_dir()
    signed.sign()
    if request.param == "verify: true":
        return f"{ITEM}, verify: true"
    monkeypatch.setenv("MARFETCH_VERIFY", "policy")
    return ITEM


def lie(mar: Registry, artifact: Descriptor) -> Descriptor:
    """Attach an unsigned manifest that only the list of referrers describes as a signature."""
    found = attach(mar, artifact, "Makefile")
    listed = {**descriptor_json(found), "artifactType": SIGNATURE}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [listed]}
    good = [one for one in json.loads(_referrers(mar, artifact)) if one["digest"] != listed["digest"]]
    index["manifests"] = [*good, listed]
    mar.on("referrers", f".*{artifact.digest.encoded}.*").answers_with(
        json.dumps(index).encode(), Content_Type="application/vnd.oci.image.index.v1+json"
    )
    return found


def _referrers(mar: Registry, artifact: Descriptor) -> bytes:
    """Return the honest list of referrers, as JSON."""
    found = []
    for name, (media_type, raw) in mar.manifests.items():
        document = json.loads(raw)
        if "sha256:" in name and name.startswith(REPOSITORY) and (document.get("subject") or {}).get("digest") == str(artifact.digest):
            own = {"mediaType": media_type, "digest": name.rpartition(" ")[2], "size": len(raw)}
            found.append({**own, "artifactType": document["artifactType"]})
    return json.dumps(found).encode()


def _signed_by(one: Signed, authority: Authority) -> Descriptor:
    made = attach(one.mar, one.artifact, "Makefile")
    sign(one.mar, authority, made)
    return made


def _signed_otherwise(one: Signed) -> Descriptor:
    made = attach(one.mar, one.artifact, "Makefile")
    envelope = one.mar.add_blob(cose(one.authority.signer(), payload(one.artifact)))
    layer = {"mediaType": "application/cose", "digest": str(envelope.digest), "size": envelope.size}
    one.mar.add_artifact(REPOSITORY, "other", artifactType=SIGNATURE, layers=[layer], subject=descriptor_json(made))
    return made


UNSIGNED: dict[str, Callable[[Signed], Descriptor]] = {
    "a file": lambda one: attach(one.mar, one.artifact, "Makefile"),
    "an SBOM": lambda one: attach(one.mar, one.artifact, "x.spdx.json", kind=SBOM),
    "signed by another authority": lambda one: _signed_by(one, Authority()),
    "a signature of something else": _signed_otherwise,
    "called a signature by the list only": lambda one: lie(one.mar, one.artifact),
}


def codes(client: Session, make: Make, item: str) -> list[int]:
    """Lock and sync, and return both exit codes."""
    project = make(item)
    found = settle(client, project, None)
    if all(one.error is None for one in found):
        write(project, found)
    (result,) = sync(client, project)
    return [error.exit_code if error is not None else 0 for error in (found[0].error, result.error)]


@pytest.mark.parametrize("unsigned", UNSIGNED.values(), ids=UNSIGNED)
def test_an_unsigned_one_is_exit_code_6_and_nothing_is_written(
    signed: Signed, item: str, client: Callable[..., Session], make: Make, unsigned: Callable[[Signed], Descriptor]
) -> None:
    unsigned(signed)
    assert codes(client(), make, item) == [6, 6]
    assert placed(make(item).directory) == {}


def test_signed_referrers_and_signatures_are_fetched(
    signed: Signed, item: str, authority: Authority, client: Callable[..., Session], make: Make, tmp_path: Path
) -> None:
    made = attach(signed.mar, signed.artifact, "Makefile")
    sign(signed.mar, authority, made)
    assert codes(client(), make, item) == [0, 0]
    found = placed(make(item).directory)
    assert found.pop("thing.txt") == b"a thing"
    assert found.pop(f"thing.referrers/{made.digest.encoded}/Makefile") == b"about"
    (signature,) = found
    assert signature.startswith("thing.referrers/")
    created = create(client(), make(item), tmp_path / "a.tar", with_referrers=True)
    assert created.referrers == 3


def test_without_being_asked_for_signatures_it_comes_unsigned(signed: Signed, client: Callable[..., Session], make: Make) -> None:
    attach(signed.mar, signed.artifact, "Makefile")
    assert codes(client(), make, ITEM) == [0, 0]


def test_a_lock_that_names_an_unsigned_one_lets_nothing_through(
    signed: Signed, item: str, client: Callable[..., Session], make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 0.1 wrote such lock files."""
    made = attach(signed.mar, signed.artifact, "Makefile")
    with monkeypatch.context() as patched:
        patched.delenv("MARFETCH_VERIFY", raising=False)
        write(make(ITEM), settle(client(), make(ITEM), None))
    project = make(item)
    lock = read_lock(project.lock_path)
    (entry,) = (replace(entry, options=project.items[0].options()) for entry in lock.entries)
    assert made.digest in {one.digest for one in entry.referrers}
    project.lock_path.write_bytes(lock_bytes(make_lock([entry])))
    (result,) = sync(client(), project, as_locked=True)
    assert (result.outcome, result.error and result.error.exit_code) == ("failed", 6)
    with pytest.raises(SignatureError):
        create(client(), project, tmp_path / "a.tar")
    assert placed(project.directory) == {}
    assert not (tmp_path / "a.tar").exists()


@pytest.mark.parametrize("deep", [False, True], ids=["of the artifact", "of what refers to it"])
def test_a_bundle_contains_no_unsigned_referrer(
    signed: Signed, authority: Authority, item: str, client: Callable[..., Session], make: Make, tmp_path: Path, deep: bool
) -> None:
    project = make(item.replace(", referrers: true", ""))
    write(project, settle(client(), project, None))
    subject = signed.artifact
    if deep:
        subject = attach(signed.mar, signed.artifact, "signed")
        sign(signed.mar, authority, subject)
    create(client(), project, tmp_path / "good.tar", with_referrers=True)
    made = attach(signed.mar, subject, "Makefile")
    with pytest.raises(Error) as caught:
        create(client(cache_dir=tmp_path / "fresh"), project, tmp_path / "a.tar", with_referrers=True)
    assert caught.value.exit_code == 6
    assert str(made.digest) in caught.value.message
    assert not (tmp_path / "a.tar").exists()


@pytest.mark.parametrize("by", ["--verify", "MARFETCH_VERIFY"])
def test_fetching_them_asks_too(
    signed: Signed, authority: Authority, config: Path, answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    assert config.is_dir()
    signed.sign()
    good = attach(signed.mar, signed.artifact, "good", kind=SBOM)
    sign(signed.mar, authority, good)
    words = ["referrers", signed.reference, "--fetch", "-d", tmp_path / "out"]
    attach(signed.mar, signed.artifact, "Makefile")
    if by == "--verify":
        words.append(by)
    else:
        monkeypatch.setenv(by, "policy")
    code, out = answered(*words)
    assert (code, out["error"]["code"]) == (6, "NO_SIGNATURE")
    assert not (tmp_path / "out").exists()
    # All selected referrers are signed.
    code, out = answered(*words, "--artifact-type", SBOM)
    assert code == 0
    assert set(placed(tmp_path / "out")) == {f"thing.referrers/{good.digest.encoded}/good"}


def test_verifying_what_is_only_listed_is_no_question(signed: Signed, answered: Answered) -> None:
    code, out = answered("referrers", signed.reference, "--verify")
    assert (code, out["error"]["code"]) == (2, "usage")
    assert signed.mar.asked == []
