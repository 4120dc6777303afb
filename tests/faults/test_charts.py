"""C: charts and other archives that are unpacked."""

from __future__ import annotations

import gzip
import json
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marfetch.artifact.kinds import HELM_CHART, HELM_CONFIG
from marfetch.destination.created import CreatedDirectories, CreatedDirectory
from marfetch.oci import descriptor_json

from ..world.archives import chart, directory, file, gzipped_zeros, header, pax, tar, targz
from ..world.registry import Registry
from ..world.rows import row
from ..world.world import Ended, World, sha256

TITLE = "org.opencontainers.image.title"
CHART = b"apiVersion: v2\nname: toy\nversion: 1.2.3\n"
GOOD = file("toy/Chart.yaml", CHART)
PULL = ("pull", "aks/toy:1.2.3", "--untar", "-d", "out", "--json")


def add(world: World, data: bytes, *, config: bytes = b'{"name":"toy"}') -> None:
    """Add a chart, as `helm push` does."""
    layer = {**descriptor_json(world.registry.add_blob(data)), "mediaType": HELM_CHART}
    described = {**descriptor_json(world.registry.add_blob(config)), "mediaType": HELM_CONFIG}
    raw = json.dumps({"schemaVersion": 2, "config": described, "layers": [layer]}).encode()
    world.registry.add_manifest("aks/toy", "1.2.3", raw)


def untarred(world: World, data: bytes) -> Ended:
    """Pull and unpack the chart over an older version. If the new chart is refused, check that the older one is unchanged."""
    add(world, data)
    old = world.here / "out" / "toy"
    old.mkdir(parents=True, exist_ok=True)
    (old / "Chart.yaml").write_text("name: toy\nversion: 1.0.0\n")
    # Record that marfetch created the directory. Otherwise it would not be replaced.
    made = CreatedDirectory(old.stat().st_ino, {"Chart.yaml": sha256((old / "Chart.yaml").read_bytes())})
    CreatedDirectories(world.root / "state" / "marfetch").put(old.resolve(), made)
    replaces = ["out/toy", "out/toy/Chart.yaml"]
    ended = world.run(*PULL, "--force", replaces=replaces)
    assert len(ended.asked) <= 3, ended
    if ended.returncode:
        assert (old / "Chart.yaml").read_text() == "name: toy\nversion: 1.0.0\n", ended
        assert [path.name for path in (world.here / "out").iterdir()] == ["toy"], ended
    return ended


ELSEWHERE = {
    "up": (file("toy/../../evil", b"e"), "`..`"),
    "up at once": (file("../evil", b"e"), "`..`"),
    "absolute": (file("/evil", b"e"), "absolute path"),
    "a drive": (file("C:/evil", b"e"), "drive"),
    "a drive below": (file("toy/C:evil", b"e"), "drive"),
    "a backslash": (file("toy/..\\evil", b"e"), "backslash"),
    "absolute in an extended header": (pax({"path": "/evil"}) + file("toy/a", b"e"), "absolute path"),
}


@row("C01", "members with `../`, a drive or a backslash; absolute names", "Refuses the archive and names the member and the rule", code=4)
@pytest.mark.parametrize(("member", "rule"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_member_that_leads_elsewhere_is_not_unpacked(world: World, member: bytes, rule: str) -> None:
    untarred(world, targz(GOOD, member)).failed(4, "member-refused", "evil", rule)


LINKS = {
    "a symbolic link": (header("toy/l", sort=b"2", link=b"/etc/passwd"), "it is a symbolic link"),
    "a symbolic link that is gone through": (
        header("toy/l", sort=b"2", link=b"../../outside") + file("toy/l/kept.txt", b"e"),
        "it is a symbolic link",
    ),
    "a hard link": (header("toy/l", sort=b"1", link=b"toy/Chart.yaml"), "it is a hard link"),
    "a character device": (header("toy/l", sort=b"3"), "it is a character device"),
    "a block device": (header("toy/l", sort=b"4"), "it is a block device"),
    "a FIFO": (header("toy/l", sort=b"6"), "it is a FIFO"),
    "a sparse file": (header("toy/l", sort=b"S"), "it is a sparse file"),
    "a name longer than PATH_MAX": (pax({"path": "toy/" + "/".join(["d" * 120] * 40)}) + file("x", b"e"), "longer than"),
    "a chain of directories as long": (
        b"".join(pax({"path": "toy/" + "/".join(["d" * 90] * depth)}, sort=b"x") + directory("x") for depth in (4, 8, 11, 12, 40)),
        "longer than",
    ),
}  # fmt: skip


@row("C02", "links, devices, a FIFO, a sparse file, paths beyond PATH_MAX", "Refuses the archive and removes what it had unpacked", code=4)
@pytest.mark.parametrize(("members", "rule"), LINKS.values(), ids=LINKS)
def test_what_is_no_plain_file_is_not_unpacked(world: World, members: bytes, rule: str) -> None:
    untarred(world, targz(GOOD, file("toy/first.txt", b"comes first"), members)).failed(4, "member-refused", rule)


MODES = (
    file("toy/run.sh", b"#!/bin/sh\n", mode=0o6777),
    file("toy/open.txt", b"x", mode=0o1666),
    header("toy/sub", sort=b"5", mode=0o7777),
)


@row(
    "C02",
    "members with set-uid, set-gid or sticky bits, or with write access for everyone",
    "Keeps only the owner's right to execute; in charts, drops this too",
    code=0,
)
@pytest.mark.parametrize("is_chart", [True, False], ids=["chart", "archive"])
def test_only_the_execute_permission_is_kept_and_not_in_charts(world: World, is_chart: bool) -> None:
    data = targz(GOOD, *MODES)
    if is_chart:
        add(world, data)
    else:
        layer = {**descriptor_json(world.registry.add_blob(data)), "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
        world.registry.add_artifact("aks/toy", "1.2.3", layers=[{**layer, "annotations": {TITLE: "toy.tgz"}}])
    world.run(*PULL, umask=0).succeeded(requests=3)
    top = world.here / "out" / "toy"
    assert {path.name: oct(path.stat().st_mode) for path in top.iterdir()} == {
        "run.sh": oct(stat.S_IFREG | (0o644 if is_chart else 0o755)),
        "open.txt": oct(stat.S_IFREG | 0o644),
        "sub": oct(stat.S_IFDIR | 0o755),
        "Chart.yaml": oct(stat.S_IFREG | 0o644),
    }


@pytest.fixture
def in_memory(mar: Registry) -> Iterator[World]:
    """Create the environment on a file system in memory, because flushing very many files to a disk is slow."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no file system in memory here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        yield World(mar, Path(place) / "world")


@row("C03", "60,000 members", "Stops at 20,000 and removes what it had unpacked", code=4)
def test_an_archive_of_too_many_members_is_refused_and_nothing_of_it_stays(in_memory: World) -> None:
    world = in_memory
    add(world, targz(GOOD, *(file(f"toy/{number}", b"") for number in range(60_000))))
    world.run(*PULL).failed(4, "limit-passed", "20000", requests=3)
    assert list((world.here / "out").iterdir()) == []
    assert 4 in world.codes


LIMITS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a member of 1 GiB": (lambda: gzipped_zeros(1 << 30, GOOD + header("toy/big", 1 << 30)), "`toy/big` has 1073741824 bytes"),
    "1 GiB behind its end": (lambda: gzipped_zeros(1 << 30, tar(GOOD)), "unpacked size is too large"),
    "many members that pack well": (
        lambda: targz(GOOD, *(file(f"toy/{number}", bytes(4 << 20)) for number in range(40))),
        "unpacked size is too large",
    ),
    "200 levels": (lambda: targz(GOOD, pax({"path": "toy/" + "d/" * 199 + "f"}) + file("x", b"e")), "200 parts"),
    "a header of 1 MiB": (lambda: targz(GOOD, pax({"path": "toy/" + "x" * (1 << 20)}) + file("x", b"e")), "limit is 65536"),
}


@row("C03", "members of 1 GiB, 200 directory levels, a header of 1 MiB", "Stops at the limit, in bounded memory", code=4)
@pytest.mark.parametrize("name", LIMITS)
def test_an_archive_that_passes_a_limit_is_not_unpacked(world: World, name: str) -> None:
    make, said = LIMITS[name]
    untarred(world, make()).failed(4, "limit-passed", said)


BROKEN = {
    "junk behind gzip": (targz(GOOD) + b"junk", "after the end of its gzip stream"),
    "junk behind the end": (gzip.compress(tar(GOOD) + b"junk" * 128), "after its end"),
    "cut in a member": (gzip.compress(tar(GOOD)[:700]), "truncated"),
    "cut in gzip": (targz(GOOD)[:-12], "malformed"),
    "a wrong checksum": (targz(GOOD, header("toy/a", checksum=1)), "wrong checksum"),
}


@row(
    "C03",
    "junk after the gzip stream or the archive; a truncated archive; a wrong checksum",
    "Refuses the archive and says what is malformed",
    code=5,
)
@pytest.mark.parametrize(("data", "said"), BROKEN.values(), ids=BROKEN)
def test_an_archive_that_is_not_whole_is_malformed(world: World, data: bytes, said: str) -> None:
    untarred(world, data).failed(5, "malformed", said)


TWINS = {
    "the same name": (("toy/a", "toy/a"), "it appears twice"),
    "another case": (("toy/a", "toy/A"), "some file systems"),
    "another form": (("toy/\u00e9", "toy/e\u0301"), "some file systems"),
    "a file as a directory": (("toy/a", "toy/a/b"), "toy/a"),
}


@row("C03", "a duplicate name, also in another case or Unicode form", "Refuses the archive on every system", code=4)
@pytest.mark.parametrize(("names", "said"), TWINS.values(), ids=TWINS)
def test_members_that_are_one_name_somewhere_are_not_unpacked(world: World, names: tuple[str, str], said: str) -> None:
    untarred(world, targz(GOOD, *(file(name, b"%d" % number) for number, name in enumerate(names)))).failed(4, "member-refused", said)


OTHERS = {
    "the name `.`": (targz(file("./Chart.yaml", CHART.replace(b"toy", b"."))), 4, "chart-refused", "is not in the directory `toy`"),
    "a name that leads up": (
        targz(file("toy/Chart.yaml", CHART.replace(b"toy", b"../../x"))),
        4,
        "chart-refused",
        "`../../x`, which Helm does not accept",
    ),
    "another version": (chart("toy", "9.9.9"), 4, "chart-refused", "`9.9.9`, not `1.2.3`"),
    "no Chart.yaml": (targz(file("toy/values.yaml", b"a: 1\n")), 5, "malformed", "no `toy/Chart.yaml`"),
    "no gzip": (tar(GOOD), 5, "malformed", "not compressed with gzip"),
    "a zip": (b"PK\x03\x04" + bytes(600), 5, "malformed", "not compressed with gzip"),
    "nothing at all": (b"", 5, "malformed", "not compressed with gzip"),
}


@row(
    "C04",
    "a chart of another version or an invalid name, without Chart.yaml, or not gzipped",
    "Refuses it and says what it found",
    code=(4, 5),
)
@pytest.mark.parametrize(("data", "exit_code", "code", "said"), OTHERS.values(), ids=OTHERS)
def test_what_is_not_the_chart_that_was_asked_for_is_not_unpacked(world: World, data: bytes, exit_code: int, code: str, said: str) -> None:
    untarred(world, data).failed(exit_code, code, said)


YAML = {
    "a bomb of aliases": (CHART + b"a: &a [x,x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (n, n, n - 1, n - 1) for n in range(98, 110)), 5, "malformed", "an anchor"),
    "an alias": (CHART + b"a: *a\n", 5, "malformed", "alias"),
    "a tag that runs something": (CHART + b"x: !!python/object/apply:os.system ['touch evil']\n", 5, "malformed", "a tag"),
    "2 MiB of text": (CHART + b"description: " + b"x" * (2 << 20) + b"\n", 4, "limit-passed", "1048576"),
    "5,000 levels": (CHART + b"x: " + b"[" * 5000 + b"]" * 5000, 5, "malformed", "nested more than 64 deep"),
    "a duplicate key": (CHART + b"name: toy\n", 5, "malformed", "twice"),
    "Latin-1": (CHART + b"description: caf\xe9\n", 5, "malformed", "malformed"),
}  # fmt: skip


@row(
    "C05",
    "Chart.yaml with alias bombs, tags that run code, 2 MiB, 5,000 levels, a duplicate key",
    "Refuses the chart, in bounded memory",
    code=(4, 5),
)
@pytest.mark.parametrize("name", YAML)
def test_a_chart_file_that_no_reader_should_take_is_refused(world: World, name: str) -> None:
    text, exit_code, code, said = YAML[name]
    untarred(world, targz(file("toy/Chart.yaml", text))).failed(exit_code, code, said)


NASTY = "\x1b[31mred\x1b[0m \u202egpj.exe\x07\rok: everything is fine"


@row("C05", "escape sequences in the description of a chart", "Never prints them raw, in any command", code=0)
@pytest.mark.parametrize(
    "words", [["inspect", "aks/toy:1.2.3"], ["index", "aks/toy"], ["versions", "aks/toy", "--details"]], ids=lambda words: words[0]
)
def test_texts_of_a_chart_do_not_control_a_terminal(world: World, words: list[str]) -> None:
    text = CHART + f"description: {json.dumps(NASTY)}\nappVersion: {json.dumps(NASTY)}\n".encode()
    config = {"name": "toy", "version": "1.2.3", "description": NASTY, "appVersion": NASTY, "keywords": [NASTY], "home": NASTY}
    add(world, targz(file("toy/Chart.yaml", text)), config=json.dumps(config).encode())
    for more in ([], ["--json"] if words[0] != "index" else []):
        world.run(*words, *more).succeeded(made={})


@row(
    "C05", "escape sequences in the `Chart.yaml` of a chart that is unpacked", "Writes its bytes unchanged and prints none of them", code=0
)
def test_a_chart_with_escapes_is_unpacked_byte_by_byte(world: World) -> None:
    text = CHART + f"description: {json.dumps(NASTY)}\n".encode()
    ended = untarred(world, targz(file("toy/Chart.yaml", text))).succeeded()
    assert ended.files["out/toy/Chart.yaml"] == sha256(text)


HOSTILE = {
    "recursion": '{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}',
    "recursion by text": '{{ define "a" }}{{ tpl .Values.again . }}{{ end }}{{ include "a" . }}',
    "loops in loops": "{{ range until 90000 }}{{ range until 90000 }}x{{ end }}{{ end }}",
    "doubled text": '{{ $x := "a" }}{{ range until 99 }}{{ $x = cat $x $x }}{{ end }}',
    "doubled list": "{{ $x := list 1 }}{{ range until 99 }}{{ $x = concat $x $x }}{{ end }}",
    "a value in itself": '{{ $d := dict }}{{ $_ := set $d "a" $d }}{{ toYaml $d }}',
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "long blocks": "{{ range until 99 }}{{ toYaml $.Values | nindent 99 }}{{ end }}",
}


@row("C06", "recursion, loops in loops, growing texts and lists", "Lists the images in the lines, names the template, in bounded memory")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_never_ends_is_searched_by_its_lines(world: World, name: str) -> None:
    values = b"again: '{{ include \"a\" . }}'\nlong: |\n" + b"  x\n" * 100_000
    template = f"image: a/b:1\n{HOSTILE[name]}\n".encode()
    add(world, targz(GOOD, file("toy/values.yaml", values), file("toy/templates/a.yaml", template)))
    ended = world.run("images", "aks/toy:1.2.3", "--json").succeeded(requests=3)
    data = json.loads(ended.out)["data"]
    assert [one["image"] for one in data["images"]] == ["a/b:1"]
    assert [one["path"] for one in data["guessed"]] == ["templates/a.yaml"]
