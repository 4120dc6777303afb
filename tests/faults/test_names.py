"""P: file names and paths."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ..world.archives import file, header, targz
from ..world.rows import row
from ..world.world import Ended, World, sha256

DATA = b"what is in the file"
KINDS = {"manifest"}


def refused(world: World, titles: dict[str, Any], code: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Pull one artifact per title in one command, and return the error of each. Check that only manifests are requested."""
    for name, title in titles.items():
        world.registry.add_artifact(f"bad/{name}", "1", (title, DATA))
    references = [f"bad/{name}:1" for name in titles]
    ended = world.run("pull", *references, "-d", "out", "--json")
    said = {one["reference"].removeprefix("bad/").removesuffix(":1"): one for one in ended.document["data"]["failed"]}
    assert said.keys() == titles.keys(), ended
    first = next(iter(titles))
    ended.failed(said[first]["exitCode"], code.get(first, "name-refused"), requests=len(titles))
    assert set(ended.kinds) == KINDS, ended
    assert not (world.here / "out").exists(), ended
    for name, one in said.items():
        wanted = code.get(name, "name-refused")
        assert (one["code"], one["exitCode"]) == (wanted, 5 if wanted == "malformed" else 4), one
        assert one["hint"], one
    return said


@row(
    "P01",
    "titles with `../`, a drive or backslashes; absolute titles; UNC paths",
    "Refuses each before any download and names the rule",
    code=4,
)
def test_a_title_that_leads_elsewhere_is_refused_by_the_same_rule_on_every_system(world: World) -> None:
    titles = {
        "up": "../evil",
        "through": "a/../../evil",
        "absolute": "/evil",
        "drive": "C:\\evil",
        "drive-only": "C:evil",
        "unc": "\\\\server\\share\\evil",
        "slashed": "//server/share/evil",
        "back": "..\\evil",
        "outside": f"{world.root}/outside/kept.txt",
    }
    said = refused(world, titles, {})
    for name, rule in {"up": "`..`", "absolute": "absolute", "drive-only": "drive", "unc": "backslash", "outside": "absolute"}.items():
        assert rule in said[name]["message"], said[name]


@row(
    "P02",
    "titles with NUL, escape sequences, a line feed or a surrogate; a number; `.`; 256 bytes",
    "Refuses each and shows it quoted",
    code=4,
)
def test_a_title_that_is_no_plain_text_is_refused_and_shown_quoted(world: World) -> None:
    titles: dict[str, Any] = {
        "nul": "a\0b",
        "escape": "\x1b[31mred\x1b[0m",
        "line": "a\nok: everything was fetched",
        "surrogate": "\ud800",
        "number": 5,
        "list": ["a"],
        "dot": "./.",
        "long": "x" * 256,
        "long-in-bytes": "é" * 128,
        "separator": "a\u2028b",
    }
    said = refused(world, titles, {"number": "malformed", "list": "malformed"})
    for name, shown in {
        "nul": "'a\\x00b'",
        "escape": "'\\x1b[31mred",
        "line": "'a\\nok:",
        "surrogate": "'\\ud800'",
        "dot": "'./.'",
    }.items():
        assert shown in said[name]["message"], said[name]
    assert "U+001B" in said["escape"]["message"]
    assert "255 bytes" in said["long-in-bytes"]["message"]


@row("P03", "`CON`, `aux.txt`, `a:stream`, a trailing dot or space, a direction override", "Refuses each on every system", code=4)
def test_a_title_that_means_something_else_on_another_system_is_refused_here_too(world: World) -> None:
    titles = {
        "con": "CON",
        "aux": "aux.txt",
        "com": "lib/com1.tar.gz",
        "conin": "conin$",
        "dot": "a.",
        "space": "a ",
        "space-in-path": "a /b",
        "stream": "file.txt:stream",
        "override": "a\u202egpj.exe",
        "question": "a?b",
        "pipe": "a|b",
        "ours": ".marfetch-abc",
    }
    said = refused(world, titles, {})
    for name, rule in {"con": "device", "aux": "device", "dot": "ends with", "stream": '`<>:"|?*`', "override": "U+202E"}.items():
        assert rule in said[name]["message"], said[name]


CLASHES = {
    "the same name": ("a.txt", "a.txt"),
    "another case": ("a.txt", "A.TXT"),
    "another case that folds to two letters": ("straße", "STRASSE"),
    "another normal form": ("\u00e9.txt", "e\u0301.txt"),
    "a file as a directory": ("a", "a/b"),
    "a directory in another case": ("a", "A/b"),
}


@row(
    "P04",
    "two payloads with the same name, also in another case or Unicode form, or one as the other's directory",
    "Refuses them before the first download",
    code=9,
)
@pytest.mark.parametrize("names", CLASHES.values(), ids=CLASHES)
def test_two_payloads_that_are_one_name_somewhere_are_refused_before_the_first_blob(world: World, names: tuple[str, str]) -> None:
    world.registry.add_artifact("bad/two", "1", *((name, b"%d" % number) for number, name in enumerate(names)))
    ended = world.run("pull", "bad/two:1", "-d", "out", "--json").failed(9, "name-clash", "have the same name", requests=1)
    assert ended.kinds == ["manifest"]
    assert not (world.here / "out").exists()


@row("P04", "two references whose files get the same name", "Downloads neither", code=9)
def test_two_references_whose_files_have_one_name_are_both_refused(world: World) -> None:
    world.registry.add_artifact("one/thing", "1", ("thing.txt", b"one"))
    world.registry.add_artifact("other/thing", "1", ("Thing.txt", b"other"))
    ended = world.run("pull", "one/thing:1", "other/thing:1", "--json").failed(9, "name-clash", requests=2)
    assert [one["code"] for one in ended.document["data"]["failed"]] == ["name-clash"] * 2


def marked(world: World, data: bytes) -> None:
    """Add an artifact as oras pushes a directory: an archive with the annotation to unpack it."""
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": str(world.registry.add_blob(data).digest),
        "size": len(data),
        "annotations": {"org.opencontainers.image.title": "data", "io.deis.oras.content.unpack": "true"},
    }
    world.registry.add_artifact("bad/marked", "1", layers=[layer])


@row("P05", "an archive with an unpack annotation and with links out of its directory", "Saves it as a file", code=0)
def test_an_archive_that_asks_to_be_unpacked_stays_a_file(world: World) -> None:
    data = targz(header("data/x", sort=b"2", link=b"../../outside"), file("data/x/kept.txt", b"changed"))
    marked(world, data)
    world.run("pull", "bad/marked:1", "--json").succeeded(made={"data": data}, requests=3)


@row("P05", "an archive with links out of its directory, with `--untar`", "Refuses the link and writes nothing", code=4)
def test_an_archive_with_links_is_not_unpacked_where_the_user_asks_for_it_either(world: World) -> None:
    marked(world, targz(header("data/x", sort=b"2", link=b"../../outside"), file("data/x/kept.txt", b"changed")))
    world.run("pull", "bad/marked:1", "--untar", "--json").failed(4, "member-refused", "`data/x`", "symbolic link", requests=3)


@row(
    "P06",
    "the destination, or a directory below it, is a symbolic link",
    "Refuses it before any download and leaves the target of the link unchanged",
    code=9,
)
@pytest.mark.parametrize("title", ["thing.txt", "sub/thing.txt"])
def test_a_destination_that_is_a_link_is_not_followed(world: World, title: str) -> None:
    world.registry.add_artifact("good/thing", "1", (title, DATA))
    (world.here / "out").mkdir()
    link = world.here / ("link" if title == "thing.txt" else "out/sub")
    link.symlink_to("../outside" if title == "thing.txt" else "../../outside")
    destination = "link" if title == "thing.txt" else "out"
    ended = world.run("pull", "good/thing:1", "-d", destination, "--json").failed(9, "file-unusable", "symbolic link", requests=1)
    assert ended.kinds == ["manifest"]


def only_outside(world: World, ended: Ended, place: str) -> dict[str, str]:
    """Return the new files, without the link that the test created. Check that the target of the link is unchanged."""
    assert [one.name for one in (world.root / "outside").iterdir()] == ["kept.txt"], ended
    assert (world.here / place).is_symlink()
    return {name: digest for name, digest in ended.files.items() if name != place}


@row(
    "P06",
    "the directory is replaced by a link while the blob is downloaded",
    "Writes into the directory that it opened, or nowhere, and never into the target of the link",
    code=(0, 9),
)
@pytest.mark.parametrize("is_there", [True, False], ids=["made before", "made by the command"])
@pytest.mark.parametrize(("place", "title"), [("out", "thing.txt"), ("out/sub", "sub/thing.txt")], ids=["destination", "below"])
def test_a_directory_that_becomes_a_link_in_mid_run_leads_nowhere(world: World, place: str, title: str, is_there: bool) -> None:
    data = bytes(range(256)) * 4000
    world.registry.add_artifact("good/thing", "1", (title, data))
    path, moved = world.here / place, world.here / "moved"
    (path if is_there else world.here / "out").mkdir(parents=True)

    def swap(connection: socket.socket, head: bytes, body: bytes) -> None:
        connection.sendall(head + body[: len(body) // 2])
        if path.is_dir():
            path.rename(moved)
        path.symlink_to(world.root / "outside", target_is_directory=True)
        connection.sendall(body[len(body) // 2 :])

    world.registry.on("data")._sends(swap, 1)
    ended = world.run("pull", "good/thing:1", "-d", "out", "--json", replaces=["out", place])
    made = only_outside(world, ended, place)
    if ended.returncode == 0:
        assert made == {f"moved/{Path(title).name}": sha256(data)}, ended
    else:
        assert (ended.returncode, ended.error["code"], made) == (9, "file-unusable", {}), ended
    assert len(ended.asked) == 3


@row(
    "P06",
    "the directory is replaced by a link while an archive is downloaded for `--untar`",
    "Never writes into the target of the link",
    code=(0, 9),
)
def test_a_directory_that_becomes_a_link_while_an_archive_is_on_its_way_leads_nowhere(world: World) -> None:
    marked(world, targz(file("data/thing.txt", DATA * 1000)))
    out = world.here / "out"
    out.mkdir()

    def swap(connection: socket.socket, head: bytes, body: bytes) -> None:
        out.rename(world.here / "moved")
        out.symlink_to(world.root / "outside", target_is_directory=True)
        connection.sendall(head + body)

    world.registry.on("data")._sends(swap, 1)
    ended = world.run("pull", "bad/marked:1", "--untar", "-d", "out", "--json", replaces=["out"])
    made = only_outside(world, ended, "out")
    assert (ended.returncode, list(made)) in ((0, ["moved/marked/thing.txt"]), (9, [])), ended
    assert len(ended.asked) == 3


@row("P06", "a link or a directory already has the name of the file", "Keeps it; `--force` replaces a link, but never a directory", code=9)
def test_what_is_in_the_place_of_a_file_is_not_followed_and_a_directory_is_never_replaced(world: World) -> None:
    world.registry.add_artifact("good/thing", "1", ("thing.txt", DATA))
    (world.here / "thing.txt").symlink_to(world.root / "outside" / "kept.txt")
    world.run("pull", "good/thing:1", "--json").failed(9, "file-differs", requests=1)
    world.run("pull", "good/thing:1", "--force", "--json", replaces=["thing.txt"]).succeeded(made={"thing.txt": DATA}, requests=3)
    (world.here / "thing.txt").unlink()
    (world.here / "thing.txt").mkdir()
    (world.here / "thing.txt" / "mine").write_text("mine")
    world.run("pull", "good/thing:1", "--force", "--json").failed(9, "file-unusable", "a directory has this name", requests=1)
