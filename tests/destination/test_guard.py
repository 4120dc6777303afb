"""marfetch never writes into `.git`, or into a name that a file system treats as `.git`, because git runs hooks there (CVE-2014-9390)."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.artifact.filename import is_git, safe_title
from marfetch.bundle.create import create
from marfetch.chart.expected import Unpacking
from marfetch.client.session import Session
from marfetch.destination.destination import Destination, OutputFile, refuse_git, write_file
from marfetch.errors import Error, PolicyError
from marfetch.oci import Descriptor, Digest, descriptor_json
from marfetch.project.sync import sync

from ..world.archives import file, targz
from ..world.bundles import locked
from ..world.command import Run, document
from ..world.projects import Make
from ..world.registry import Registry

SPELLINGS = {
    "plain": ".git",
    "capitals": ".GIT",
    "one capital": ".giT",
    "a short name of NTFS": "git~1",
    "a short name in capitals": "GIT~1",
    "another short name": "git~2",
    "a dot at the end": ".git.",
    "dots and spaces at the end": ".git . .",
    "a short name with a dot at the end": "git~1.",
    "a stream": ".git::$INDEX_ALLOCATION",
    "a named stream": ".git:hooks",
    "a stream behind a space": ".git ::$DATA",
    "a short name with a stream": "Git~1::$INDEX_ALLOCATION",
    "a backslash behind it": ".git\\hooks",
    "a backslash before it": "a\\.git",
    "a zero-width non-joiner": ".g\u200cit",
    "a byte order mark": "\ufeff.git",
    "an override of direction": ".gi\u202et",
    "a variation selector": ".git\ufe0f",
    "a combining grapheme joiner": ".g\u034fit",
    "a soft hyphen": ".gi\u00adt",
    "full width": ".\uff47it",
}
HARMLESS = [".gitignore", ".gitattributes", ".github", "git", ".git-x", "foo.git", "git~", "git~x", ".gitx.", "..git", ".g it", "a.git~1"]


@pytest.mark.parametrize("name", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_known_in_every_part_of_a_path(name: str) -> None:
    assert is_git(name)
    for title in (name, f"{name}/config", f"a/{name}/config", f"a/{name}"):
        with pytest.raises(PolicyError) as caught:
            safe_title(title)
        assert (caught.value.code, caught.value.exit_code) == ("name-refused", 4)
        with pytest.raises(PolicyError) as caught:
            refuse_git(Path("x") / title)
        assert (caught.value.code, caught.value.exit_code) == ("path-refused", 4)


@pytest.mark.parametrize("name", HARMLESS)
def test_other_names_are_taken(name: str) -> None:
    assert not is_git(name)
    refuse_git(Path(name))


def wish(name: str, unpacking: Unpacking | None = None, data: bytes = b"evil") -> OutputFile:
    return OutputFile(name, Descriptor("application/octet-stream", Digest.of(data), len(data)), "a", unpacking)


DOORS: dict[str, tuple[str, str]] = {
    # destination, file name below the destination; `link` is a link to `.git`
    "a name": ("out", "{}/config"),
    "a name further down": ("out", "a/{}/config"),
    "the last part of a name": ("out", "{}"),
    "a destination": ("{}", "config"),
    "a destination further down": ("a/{}/hooks", "config"),
    "a destination and back": ("{}/../a", "config"),
    "a link": ("link", "config"),
    "a destination below a link": ("link/info", "config"),
    "a name below a link": (".", "link/config"),
    "a link that is a name": (".", "link"),
}


@pytest.mark.parametrize("unpacked", [False, True], ids=["file", "archive"])
@pytest.mark.parametrize(("root", "name"), DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("spelling", [".git", "GIT~1", ".g\u200cit"])
def test_no_destination_inside_a_git_directory_is_written(tmp_path: Path, spelling: str, root: str, name: str, unpacked: bool) -> None:
    git = tmp_path / "here" / spelling
    git.mkdir(parents=True)
    (tmp_path / "here" / "link").symlink_to(spelling)
    (tmp_path / "here" / "a").mkdir()
    data = targz(file("x"))
    wanted = wish(name.format(spelling), Unpacking("x.tgz") if unpacked else None, data)
    before = sorted((tmp_path / "here").rglob("*"))
    for force in (False, True):
        with Destination(tmp_path / "here" / root.format(spelling)) as destination, pytest.raises(PolicyError) as caught:
            destination.put(wanted, lambda: io.BytesIO(data), force=force)
        assert caught.value.code == "path-refused"
    with Destination(tmp_path / "here" / root.format(spelling)) as destination, pytest.raises(PolicyError):
        destination.state(wanted)
    assert sorted((tmp_path / "here").rglob("*")) == before


def test_a_file_of_the_users_own_name_does_not_go_there_either(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "link").symlink_to(".git")
    for path in (tmp_path / ".git" / "x", tmp_path / "link" / "x", tmp_path / ".GIT" / "x"):
        with pytest.raises(PolicyError):
            write_file(path, b"x")
    assert list((tmp_path / ".git").iterdir()) == []
    assert not (tmp_path / ".GIT").exists()


COMMANDS: dict[str, list[str]] = {
    "-d": ["pull", "aks/plain:1", "-d", ".git"],
    "-d through a link": ["pull", "aks/plain:1", "-d", "link"],
    "-d in capitals": ["pull", "aks/plain:1", "-d", "sub/.GIT/hooks"],
    "--untardir": ["pull", "aks/archive:1", "--untar", "--untardir", ".git"],
    "--untardir through a link": ["pull", "aks/archive:1", "--untar", "--untardir", "link"],
    "a title": ["pull", "aks/titled:1"],
    "a title, with --force": ["pull", "aks/titled:1", "--force"],
    "an archive's title": ["pull", "aks/hooks:1", "--untar"],
    "a member": ["pull", "aks/member:1", "--untar"],
    "a member behind the one top": ["pull", "aks/top:1", "--untar"],
    "referrers -d": ["referrers", "aks/plain:1", "--fetch", "-d", ".git"],
    "referrers through a link": ["referrers", "aks/plain:1", "--fetch", "-d", "link"],
    "a referrer's title": ["referrers", "aks/titled:1", "--fetch"],
    "bundle create": ["bundle", "create", "-f", "../project/marfetch.yaml", "-o", "link/a.tar"],
    "bundle load": ["bundle", "load", "../a.tar", "--to", "./link"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_each_command_refuses_with_exit_code_4(
    run: Run, mar: Registry, client: Callable[..., Session], tmp_path: Path, words: list[str]
) -> None:
    here = tmp_path / "here"
    (here / ".git" / "hooks").mkdir(parents=True)
    (here / "link").symlink_to(".git")
    evil = targz(file("hooks/post-checkout", b"evil", mode=0o755))
    plain = mar.add_artifact("aks/plain", "1", ("config", b"evil"))
    mar.add_artifact("aks/archive", "1", ("archive.tgz", evil))
    titled = mar.add_artifact("aks/titled", "1", (".git/config", b"evil"))
    mar.add_artifact("aks/hooks", "1", (".git/hooks.tgz", evil))
    mar.add_artifact("aks/member", "1", ("x.tgz", targz(file("a"), file("b/.Git/config", b"evil"))))
    mar.add_artifact("aks/top", "1", ("x.tgz", targz(file("a/.git/config", b"evil"))))
    for subject, repository, title in ((plain, "aks/plain", "config"), (titled, "aks/titled", ".git/config")):
        mar.add_artifact(repository, "about", (title, b"evil"), artifactType="application/x.about", subject=descriptor_json(subject))
    if words[0] == "bundle":
        create(client(), locked(client(), tmp_path / "project", "reference: 'aks/plain:1'"), tmp_path / "a.tar")
    before = sorted(here.rglob("*"))
    done = run(*words, "--json")
    assert done.returncode == 4, done.stderr
    assert document(done)["error"]["code"] in ("path-refused", "name-refused", "member-refused")
    assert sorted(here.rglob("*")) == before


ITEMS = {
    "a destination": "reference: aks/plain, destination: .git",
    "a destination in another spelling": "reference: aks/plain, destination: 'a/GIT~1/hooks'",
    "a destination below a link": "reference: aks/plain, destination: link/info",
    "a title": "reference: aks/titled",
    "an archive": "reference: aks/hooks, untar: true",
    "an archive below a link": "reference: aks/hooks, untar: true, destination: link",
}


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
@pytest.mark.parametrize("is_rehearsal", [False, True])
def test_sync_refuses_to_write_into_git(client: Callable[..., Session], mar: Registry, make: Make, item: str, is_rehearsal: bool) -> None:
    mar.add_artifact("aks/plain", "1.0.0", ("config", b"evil"))
    mar.add_artifact("aks/titled", "1.0.0", (".git/config", b"evil"))
    mar.add_artifact("aks/hooks", "1.0.0", ("hooks.tgz" if "link" in item else ".git/hooks.tgz", targz(file("hooks/x", b"evil"))))
    directory = make().directory
    (directory / ".git" / "info").mkdir(parents=True)
    (directory / "link").symlink_to(".git")
    before = sorted((directory / ".git").rglob("*"))
    try:
        (result,) = sync(client(), make(item), is_rehearsal=is_rehearsal)
        error: Error | None = result.error
    except PolicyError as refusal:  # a payload or reference may name such a path
        error = refusal
    assert error is not None
    assert error.exit_code == 4
    assert sorted((directory / ".git").rglob("*")) == before
