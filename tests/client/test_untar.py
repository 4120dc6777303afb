"""`marfetch pull --untar` unpacks charts as `helm pull --untar` does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from marfetch.artifact.kinds import HELM_CHART, HELM_CHART_LEGACY, HELM_CONFIG, HELM_PROVENANCE, POWERSHELL
from marfetch.artifact.payload import Choice, chart_name, select, unpacked
from marfetch.chart.expected import ExpectedChart
from marfetch.client.pull import Pulled
from marfetch.client.session import Session
from marfetch.oci import Descriptor, Digest, Manifest

from ..world import real
from ..world.archives import chart, directory, file, header, tar, targz
from ..world.charts import add_chart
from ..world.command import Run, document, marfetch, on_terminal, started, surroundings
from ..world.content import ALB
from ..world.real import distribution, package_chart
from ..world.registry import Registry
from ..world.unpacking import fetch, seen

Make = Callable[..., Session]


def codes(result: Pulled) -> list[str]:
    return [failed.error.code for failed in result.failed]


# -- which payloads are unpacked, and the names of their directories

EMPTY = "application/vnd.oci.empty.v1+json"


def manifest(*layers: tuple[str, str | None], config: str = EMPTY, marked: bool = False) -> Manifest:
    digest = Digest.of(b"x")
    notes = {"io.deis.oras.content.unpack": "true"} if marked else {}
    described = tuple(
        Descriptor(media_type, digest, 1, {**notes, **({"org.opencontainers.image.title": title} if title else {})})
        for media_type, title in layers
    )
    return Manifest(b"", Descriptor("application/vnd.oci.image.manifest.v1+json", digest, 1), Descriptor(config, digest, 1), described)


TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
BICEP = "application/vnd.ms.bicep.module"

NAMES: dict[str, tuple[Manifest, str, list[tuple[str, str | None, str | None]]]] = {
    # artifact → (directory, archive, name of the chart)
    "a chart": (manifest((HELM_CHART, None), config=HELM_CONFIG), "aks/toy", [("toy", "toy-1.2.3.tgz", "toy")]),
    "a chart of the older type": (manifest((HELM_CHART_LEGACY, None), config=HELM_CONFIG), "aks/toy", [("toy", "toy-1.2.3.tgz", "toy")]),
    "a chart with a title": (manifest((HELM_CHART, "x.tgz"), config=HELM_CONFIG), "aks/toy", [("toy", "toy-1.2.3.tgz", "toy")]),
    "a chart in a repository of a version": (
        manifest((HELM_CHART, None), config=HELM_CONFIG), "aks/toy/v1.0", [("toy", "toy-v1.0-1.2.3.tgz", "toy")],
    ),
    "a chart and its provenance": (
        manifest((HELM_PROVENANCE, None), (HELM_CHART, None), config=HELM_CONFIG),
        "aks/toy",
        [("toy-1.2.3.tgz.prov", None, None), ("toy", "toy-1.2.3.tgz", "toy")],
    ),
    "a Bicep module and its sources": (
        manifest((f"{BICEP}.layer.v1+json", None), (f"{BICEP}.source.v1.tar+gzip", None), config=f"{BICEP}.config.v1+json"),
        "bicep/x",
        [("x-1.2.3.json", None, None), ("x", "x-1.2.3.source.tgz", None)],
    ),
    "a Bicep extension": (
        manifest(("application/vnd.ms.bicep.provider.layer.v1.tar+gzip", None), config="application/vnd.ms.bicep.provider.config.v1+json"),
        "bicep/x",
        [("x", "x-1.2.3.tgz", None)],
    ),
    "an archive without a title": (manifest(("application/vnd.acme.v1.tar+gzip", None)), "aks/x", [("x", "x-1.2.3.tar.gz", None)]),
    "a tar without a title": (manifest(("application/x-tar", None)), "aks/x", [("x", "x-1.2.3.tar", None)]),
    "titles": (
        manifest(*((TAR_GZIP, title) for title in ("a.tgz", "d/b.TAR.GZ", "c.tar", "e.whl", "f.tar.zst", "g.json", "h.tgz.prov"))),
        "aks/x",
        [("x/a", "a.tgz", None), ("x/d/b", "d/b.TAR.GZ", None), ("x/c", "c.tar", None)]
        + [(name, None, None) for name in ("e.whl", "f.tar.zst", "g.json", "h.tgz.prov")],
    ),
    "a directory of oras": (manifest((TAR_GZIP, "data"), marked=True), "aks/x", [("x", "data", None)]),
    "the directory `.` of oras": (manifest((TAR_GZIP, "."), marked=True), "aks/x", [("x", "x-1.2.3.tar.gz", None)]),
    "a title that is another name": (manifest((TAR_GZIP, "src.tgz")), "aks/x", [("x", "src.tgz", None)]),
    "a chart and another archive": (
        manifest((HELM_CHART, None), ("application/vnd.acme.v1.tar+gzip", None), config=HELM_CONFIG),
        "aks/toy",
        [("toy/toy", "toy-1.2.3.tgz", "toy"), ("toy/toy-1.2.3", "toy-1.2.3.tar.gz", None)],
    ),
    "a disk image": (manifest(("application/octet-stream", "image.vhdx")), "aks/x", [("image.vhdx", None, None)]),
}  # fmt: skip


@pytest.mark.parametrize(("given", "repository", "expected"), NAMES.values(), ids=NAMES)
def test_archives_have_the_names_of_their_directories(
    given: Manifest, repository: str, expected: list[tuple[str, str | None, str | None]]
) -> None:
    from marfetch.artifact.payload import base_name

    selection = select(given, Choice(all_layers=True), name=base_name(repository), tag="1.2.3", what="x")
    found = unpacked(selection, given, repository=repository, tag="1.2.3")
    shown = []
    for payload in found:
        how = payload.unpacking
        shown.append((payload.name, how.archive if how else None, how.chart.name if how and how.chart else None))
    assert shown == expected


def test_a_module_that_is_typed_as_an_archive_stays_a_file() -> None:
    # MAR's PowerShell modules: a zip, typed as a gzipped tar.
    layer = Descriptor(TAR_GZIP, Digest.of(b"x"), 1, {"resourceType": "Module", "org.opencontainers.image.title": "Az.Foo"})
    given = manifest()
    given = Manifest(b"", given.descriptor, given.config, (layer,))
    selection = select(given, Choice(), name="az.foo", tag="1.2.3", what="x")
    assert selection.kind is POWERSHELL
    assert [(one.name, one.unpacking) for one in unpacked(selection, given, repository="psresource/az.foo", tag="1.2.3")] == [
        ("az.foo.1.2.3.nupkg", None)
    ]


@pytest.mark.parametrize("title", [".tgz", "..tgz", "a .tar", "a..tar.gz", "d/.tar"])
def test_a_title_whose_directory_would_have_no_safe_name_is_refused(title: str) -> None:
    from marfetch.errors import PolicyError

    given = manifest((TAR_GZIP, title))
    selection = select(given, Choice(), name="x", tag="1", what="x")
    with pytest.raises(PolicyError) as caught:
        unpacked(selection, given, repository="aks/x", tag="1")
    assert caught.value.code == "name-refused"


@pytest.mark.parametrize(
    ("repository", "name"),
    [("toy", "toy"), ("a/toy", "toy"), ("a/toy/v1.0", "toy"), ("a/toy/1", "toy"), ("1.0/2.0", "2.0"), ("a/b/chart", "chart")],
)
def test_the_chart_of_a_repository_has_the_name_of_its_last_part(repository: str, name: str) -> None:
    assert chart_name(repository) == name


@pytest.mark.parametrize(
    ("title", "name"),
    [("ama-metrics", "ama-metrics"), (None, "chart"), ("../x", "chart"), ("A Chart", "chart"), ("", "chart"), ("x" * 300, "chart")],
)
def test_a_title_that_can_be_a_name_is_the_name_of_the_chart(title: str | None, name: str) -> None:
    assert chart_name("k8se/chart", title) == name


def test_only_a_tag_that_is_a_version_says_the_chart_s_version() -> None:
    given = manifest((HELM_CHART, None), config=HELM_CONFIG)
    for tag, version in (("v1.2.3", "v1.2.3"), ("latest", None), (None, None)):
        (payload,) = unpacked(select(given, Choice(), name="toy", tag=tag, what="x"), given, repository="toy", tag=tag)
        assert payload.unpacking is not None
        assert payload.unpacking.chart == ExpectedChart("toy", version, is_named=False)


# -- from the registry


def test_a_chart_comes_as_its_directory_and_no_archive_stays(client: Make, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart(), (HELM_PROVENANCE, b"signed"))
    result = fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out")
    (done,) = result.files
    assert (done.path, done.status, done.is_directory) == (tmp_path / "out" / "toy", "fetched", True)
    assert (done.layer.media_type, done.layer.size) == (HELM_CHART, len(chart()))
    assert set(seen(tmp_path / "out")) == {"toy", "toy/Chart.yaml", "toy/templates", "toy/templates/cm.yaml"}
    assert mar.kinds() == ["manifest", "blob", "data"]


def test_a_chart_of_another_name_goes_into_the_directory_of_the_repository(client: Make, mar: Registry, tmp_path: Path) -> None:
    """As in Helm, the repository does not determine the name in `Chart.yaml`, and the manifest here has no title."""
    add_chart(mar, "aks/web", "1.0.0", chart("other", "1.0.0"))
    assert [done.path.name for done in fetch(client(), "aks/web:1.0.0", destination=tmp_path / "out").files] == ["web"]
    assert set(seen(tmp_path / "out")) == {"web", "web/Chart.yaml", "web/templates", "web/templates/cm.yaml"}


def test_provenance_stays_a_file_at_the_destination(client: Make, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart(), (HELM_PROVENANCE, b"signed"))
    result = fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out", untar="sub", choice=Choice(provenance=True))
    assert [(done.path, done.is_directory) for done in result.files] == [
        (tmp_path / "out" / "sub" / "toy", True),
        (tmp_path / "out" / "toy-1.2.3.tgz.prov", False),
    ]


def test_where_directories_go(client: Make, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart())
    for untar, place in (("", "out/toy"), ("foo", "out/foo/toy"), ("foo/bar", "out/foo/bar/toy"), (str(tmp_path / "abs"), "abs/toy")):
        (done,) = fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out", untar=untar).files
        assert done.path == tmp_path / place
        assert (done.path / "Chart.yaml").is_file()


def test_a_directory_that_is_there_is_unchanged_and_nothing_is_asked_or_written(client: Make, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart())
    fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out")
    before = (tmp_path / "out" / "toy").stat()
    mar.asked.clear()
    (done,) = fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out").files
    assert done.status == "unchanged"
    assert mar.kinds() == ["manifest"]
    after = (tmp_path / "out" / "toy").stat()
    assert (before.st_ino, before.st_mtime_ns, before.st_ctime_ns) == (after.st_ino, after.st_mtime_ns, after.st_ctime_ns)


def test_without_the_cache_the_archive_is_fetched_to_compare_with(client: Make, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart())
    for expected, force in (("fetched", False), ("unchanged", False), ("file-differs", False), ("fetched", True), ("unchanged", True)):
        if expected == "file-differs":
            (tmp_path / "out" / "toy" / "mine").write_bytes(b"mine")
        here = client(cache_dir=tmp_path / f"cache-{expected}-{force}")
        mar.asked.clear()
        result = fetch(here, "aks/toy:1.2.3", destination=tmp_path / "out", force=force)
        assert [*codes(result), *(done.status for done in result.files)] == [expected]
        assert mar.kinds() == ["manifest", "blob", "data"]
        assert (tmp_path / "out" / "toy" / "mine").exists() is (expected == "file-differs")


def test_what_differs_is_refused_before_any_blob_and_replaced_by_force(client: Make, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart())
    mar.add_artifact("aks/file", "1", ("file.bin", b"x"))
    fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out")
    (tmp_path / "out" / "toy" / "mine").write_bytes(b"mine")
    mar.asked.clear()
    result = fetch(client(), "aks/toy:1.2.3", "aks/file:1", destination=tmp_path / "out")
    assert codes(result) == ["file-differs", "not-fetched"]
    assert set(mar.kinds()) == {"manifest"}
    assert (tmp_path / "out" / "toy" / "mine").exists()
    result = fetch(client(), "aks/toy:1.2.3", "aks/file:1", destination=tmp_path / "out", force=True)
    assert [done.status for done in result.files] == ["fetched", "fetched"]
    assert not (tmp_path / "out" / "toy" / "mine").exists()
    # A file at the path of the directory always differs, even if the archive is not cached.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "toy").write_bytes(b"mine")
    mar.asked.clear()
    assert codes(fetch(client(cache_dir=tmp_path / "empty"), "aks/toy:1.2.3", destination=tmp_path / "other")) == ["file-differs"]
    assert mar.kinds() == ["manifest"]


CLASHES: dict[str, tuple[list[str], str, str]] = {
    "two versions of a chart": (["aks/toy:1.2.3", "aks/toy:1.2.4"], "", ""),
    "two charts of one name": (["aks/toy:1.2.3", "other/toy:1"], "", ""),
    "a chart and a file": (["aks/toy:1.2.3", "aks/files:1"], "", ""),
    "a chart and an archive": (["aks/toy:1.2.3", "other/archive/toy:1"], "", ""),
    "a chart in the place of a file's directory": (["aks/toy:1.2.3", "aks/below:1"], "", ""),
    "a chart below a file": (["aks/toy:1.2.3", "aks/files:1"], "toy", ""),
    "files in the directory of a chart": (["aks/toy:1.2.3", "aks/below:1"], "{destination}", "toy"),
}


@pytest.mark.parametrize(("references", "untar", "below"), CLASHES.values(), ids=CLASHES)
def test_names_that_clash_are_refused_before_any_blob(
    client: Make, mar: Registry, tmp_path: Path, references: list[str], untar: str, below: str
) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart())
    add_chart(mar, "aks/toy", "1.2.4", chart("toy", "1.2.4"))
    add_chart(mar, "other/toy", "1", chart("toy", "9.9.9"))
    mar.add_artifact("aks/files", "1", ("Toy", b"x"))
    mar.add_artifact("other/archive/toy", "1", ("toy.tar.gz", targz(file("x"))))
    mar.add_artifact("aks/below", "1", ("toy/x", b"x"))
    if below:
        mar.add_artifact("aks/below", "1", ("x", b"x"))
    untar = untar.format(destination=tmp_path / "out")
    result = fetch(client(), *references, destination=tmp_path / "out" / below, untar=untar)
    assert codes(result) == ["name-clash", "name-clash"]
    assert set(mar.kinds()) == {"manifest"}
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_asked_for_twice_is_unpacked_once_and_each_time_compared(client: Make, mar: Registry, tmp_path: Path) -> None:
    data = chart()
    for tag in ("1.2.3", "v1.2.3", "latest", "2.0.0"):
        add_chart(mar, "aks/toy", tag, data)
    result = fetch(client(), "aks/toy:1.2.3", "aks/toy:v1.2.3", "aks/toy:latest", "aks/toy:2.0.0", destination=tmp_path / "out")
    assert [done.status for done in result.files] == ["fetched", "unchanged", "unchanged"]
    assert codes(result) == ["chart-refused"]
    assert [failed.reference for failed in result.failed] == ["aks/toy:2.0.0"]
    result = fetch(client(), "aks/toy:2.0.0", "aks/toy:1.2.3", destination=tmp_path / "again")
    assert codes(result) == ["chart-refused"]
    assert [done.status for done in result.files] == ["fetched"]


def test_a_refused_archive_is_the_failure_of_its_reference_only(client: Make, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart("toy", "1.2.3", header("toy/link", sort=b"2", link=b"/etc/passwd")))
    add_chart(mar, "aks/good", "1.0.0", chart("good", "1.0.0"))
    like = file("like/Chart.yaml", b"apiVersion: v2\nname: toy\nversion: 1.2.3\n") + file("like/templates/cm.yaml", b"kind: ConfigMap\n")
    mar.add_artifact("aks/like", "1.2.3", ("like.tgz", targz(like, file("top"))))
    for number in range(3):  # from the second pull on, the archive is cached
        if number == 2:
            # The directory matches the readable part of the archive, so only a full comparison finds the forbidden member.
            fetch(client(), "aks/like:1.2.3", destination=tmp_path / "like")
            (tmp_path / "like" / "like" / "like").rename(tmp_path / "out" / "toy")
        result = fetch(client(), "aks/toy:1.2.3", "aks/good:1.0.0", destination=tmp_path / "out")
        assert codes(result) == ["member-refused"]
        assert "`toy/link`" in result.failed[0].error.message
        assert [done.path.name for done in result.files] == ["good"]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good", "toy"][: 1 + number // 2]
    # The hint suggests to download the archive as a file.
    assert "--untar" in str(result.failed[0].error.hint)
    assert codes(fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out", untar=None)) == []


def test_a_malformed_archive_is_not_fetched_again(client: Make, mar: Registry, tmp_path: Path) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart()[:-5])
    assert codes(fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out")) == ["malformed"]
    assert mar.kinds() == ["manifest", "blob", "data"]
    assert codes(fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out")) == ["malformed"]
    assert mar.kinds() == ["manifest", "blob", "data", "manifest"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20] + b"x" + data[-19:], lambda data: b"\0" * len(data)], ids=["a byte", "everything"]
)
@pytest.mark.parametrize("there", [False, True], ids=["nothing there", "the directory there"])
def test_a_damaged_cache_is_noticed_and_fetched_anew(
    client: Make, mar: Registry, tmp_path: Path, damage: Callable[[bytes], bytes], there: bool
) -> None:
    data = chart()
    add_chart(mar, "aks/toy", "1.2.3", data)
    fetch(client(), "aks/toy:1.2.3", destination=tmp_path / ("out" if there else "elsewhere"))
    blob = tmp_path / "cache" / "blobs" / "sha256" / Digest.of(data).encoded
    blob.chmod(0o600)
    blob.write_bytes(damage(data))
    mar.asked.clear()
    (done,) = fetch(client(), "aks/toy:1.2.3", destination=tmp_path / "out").files
    assert done.status == ("unchanged" if there else "fetched")
    assert mar.kinds() == ["manifest", "blob", "data"]
    assert blob.read_bytes() == data
    assert (tmp_path / "out" / "toy" / "Chart.yaml").is_file()


def test_large_archives_and_plain_tars_come_too(client: Make, mar: Registry, tmp_path: Path) -> None:
    content = os.urandom(9 << 20)
    mar.add_artifact("aks/large", "1", ("large.tar", tar(file("x", content), directory("empty"))), ("notes.json", b"{}"))
    result = fetch(client(), "aks/large:1", destination=tmp_path / "out", untar="sub")
    assert [(done.path.relative_to(tmp_path / "out").as_posix(), done.is_directory) for done in result.files] == [
        ("sub/large", True),
        ("notes.json", False),
    ]
    assert seen(tmp_path / "out") == {"notes.json": b"{}", "sub": None, "sub/large": None, "sub/large/empty": None, "sub/large/x": content}


def test_the_time_limit_ends_the_command_and_nothing_stays(
    client: Make, mar: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart())
    here = client(timeout=1000.0)
    honest = here.cache.open

    def late(digest: Digest) -> BinaryIO:
        here.budget.deadline = 0.0
        return honest(digest)

    monkeypatch.setattr(here.cache, "open", late)
    assert codes(fetch(here, "aks/toy:1.2.3", destination=tmp_path / "out")) == ["timeout"]
    assert seen(tmp_path / "out") == {}


# -- the command


@pytest.mark.slow
def test_the_line_and_the_json_name_the_directory(run: Run, mar: Registry, tmp_path: Path) -> None:
    data = chart()
    add_chart(mar, "aks/toy", "1.2.3", data)
    done = run("pull", "aks/toy:1.2.3", "--untar")
    assert done.returncode == 0, done.stderr
    path, digest, reference = done.stdout.rstrip("\n").split("\t")
    assert (path, digest) == ("toy", str(Digest.of(data)))
    assert reference.startswith(f"{mar.host}/aks/toy:1.2.3@sha256:")
    (shown,) = document(run("pull", "aks/toy:1.2.3", "--untar", "-d", "bar", "--untardir", "foo", "--json"))["data"]["files"]
    assert (shown["path"], shown["status"], shown["kind"]) == ("bar/foo/toy", "fetched", "chart")
    assert (shown["digest"], shown["size"], shown["mediaType"]) == (str(Digest.of(data)), len(data), HELM_CHART)
    (shown,) = document(run("pull", "aks/toy:1.2.3", "--untar", "--untardir", str(tmp_path / "here" / "bar" / "foo"), "--json"))["data"][
        "files"
    ]
    assert shown["status"] == "unchanged"
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["bar", "toy"]


def test_untardir_needs_untar(run: Run, mar: Registry) -> None:
    done = run("pull", "aks/toy:1.2.3", "--untardir", "x")
    assert done.returncode == 2
    assert "`--untar`" in done.stderr
    assert mar.asked == []


EXITS = {
    "a link": (chart("toy", "1.2.3", header("toy/x", sort=b"2", link=b"/etc/passwd")), 4, "member-refused"),
    "another version": (chart("toy", "9.9.9"), 4, "chart-refused"),
    "too large": (chart("toy", "1.2.3", header("toy/x", 6 << 20)), 4, "limit-passed"),
    "no archive": (b"<html>", 5, "malformed"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("data", "code", "word"), EXITS.values(), ids=EXITS)
def test_refusals_have_the_exit_codes_of_the_contract(run: Run, mar: Registry, tmp_path: Path, data: bytes, code: int, word: str) -> None:
    add_chart(mar, "aks/toy", "1.2.3", data)
    done = run("pull", "aks/toy:1.2.3", "--untar", "--json")
    assert done.returncode == code
    failed = document(done)["error"]
    assert failed["code"] == word
    assert "`--untar`" in failed["hint"]
    assert seen(tmp_path / "here") == {}
    assert run("pull", "aks/toy:1.2.3", "--json").returncode == 0


@pytest.mark.slow
def test_names_in_an_archive_do_not_steer_a_terminal(run: Run, mar: Registry) -> None:
    add_chart(mar, "aks/toy", "1.2.3", chart("toy", "1.2.3", file("toy/\x1b[2J\x1b]0;x\x07")))
    add_chart(mar, "aks/toy", "1.2.4", chart("toy", '"\\e[2J"'))
    for tag, word in (("1.2.3", "member-refused"), ("1.2.4", "chart-refused")):
        done = run("pull", f"aks/toy:{tag}", "--untar", "--json")
        assert document(done)["error"]["code"] == word
        assert not any(ord(character) < 32 and character != "\n" for character in done.stdout + done.stderr)


@pytest.mark.slow
def test_on_a_terminal_the_next_command_installs_the_directory(mar: Registry, tmp_path: Path) -> None:
    environment = {"MARFETCH_ENDPOINT": f"http://{mar.host}", "MARFETCH_DATA_HOSTS": mar.data_host, "TERM": "xterm"}
    code, out, seen_there = on_terminal(["pull", f"{ALB}:1.7.12", "--untar", "-d", "charts"], environment, tmp_path)
    assert code == 0
    assert out.startswith("charts/alb-controller\t")
    lines = [line.rstrip() for line in seen_there.splitlines() if line.strip()]
    assert lines[-1].endswith("helm install alb ./charts/alb-controller")


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_takes_the_part_away(mar: Registry, tmp_path: Path, number: int, code: int, several: bool) -> None:
    many = [file(f"toy/{index // 100}/{index}", b"x") for index in range(19_000)]
    add_chart(mar, "aks/toy", "1.2.3", chart("toy", "1.2.3", *many))
    add_chart(mar, "aks/more", "1.2.3", chart("more", "1.2.3", *(file(f"more/{index}", b"x") for index in range(19_000))))
    references = ["aks/toy:1.2.3", "aks/more:1.2.3"] if several else ["aks/toy:1.2.3"]
    out = tmp_path / "out"
    environment = surroundings(mar, tmp_path / "cache")
    with started("pull", *references, "--untar", "-d", out, cwd=tmp_path, environment=environment) as process:
        while not list(out.glob(".marfetch-*/0")) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert list(out.iterdir()) == []


# -- comparison with the real helm


def big_chart(helm: Path, directory: Path) -> Path:
    """Create a chart with templates, sub-charts, CRDs and other files."""
    source = directory / "toy-source"
    package_chart(helm, directory, "toy", "1.2.3+build.5")
    (source / "crds").mkdir()
    (source / "crds" / "x.yaml").write_text("kind: CustomResourceDefinition\n")
    (source / "templates" / "deep" / "er").mkdir(parents=True)
    (source / "templates" / "deep" / "er" / "_helpers.tpl").write_text('{{- define "x" -}}ü{{- end -}}\n')
    (source / "templates" / ("n" * 120 + ".yaml")).write_text("# a name for a PAX header\n")
    (source / "files").mkdir()
    (source / "files" / "empty").write_bytes(b"")
    (source / "files" / "binary").write_bytes(bytes(range(256)) * 1000)
    (source / "files" / "run.sh").write_text("#!/bin/sh\n")
    (source / "files" / "run.sh").chmod(0o755)
    (source / ".helmignore").write_text("*.bak\n")
    (source / "README.md").write_text("# toy\n")
    package_chart(helm, directory / "sub", "inner", "0.1.0")
    (source / "charts").mkdir()
    (directory / "sub" / "inner-0.1.0.tgz").rename(source / "charts" / "inner-0.1.0.tgz")
    return package_chart(helm, directory, "toy", "1.2.3+build.5")


@pytest.mark.tool
@pytest.mark.parametrize("helm", ["helm3", "helm4"])
@pytest.mark.parametrize("places", [[], ["--untardir", "foo"], ["-d", "bar"], ["-d", "bar", "--untardir", "foo"]], ids=" ".join)
def test_a_chart_becomes_what_helm_makes_of_it(tool: Callable[[str], Path], tmp_path: Path, helm: str, places: list[str]) -> None:
    program = tool(helm)
    (tmp_path / "sub").mkdir()
    archive = big_chart(program, tmp_path)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    if "-d" in places:
        (theirs / "bar").mkdir()  # helm does not create this directory
    with distribution(tool("registry"), tmp_path / "registry") as host:
        real.run(program, "push", archive, f"oci://{host}/charts", "--plain-http")
        asked = ["--version", "1.2.3+build.5", "--untar", *places]
        real.run(program, "pull", f"oci://{host}/charts/toy", *asked, "--plain-http", cwd=theirs)
        words = ["pull", f"{host}/charts/toy", *asked, "--json"]
        environment = surroundings(cache=tmp_path / "cache", HOME=str(tmp_path))
        for status in ("fetched", "unchanged"):
            done = marfetch(*words, cwd=ours, environment=environment)
            assert done.returncode == 0, done.stderr
            assert document(done)["data"]["files"][0]["status"] == status
        # marfetch accepts the directory that helm unpacked as unchanged.
        done = marfetch(*words, cwd=theirs, environment=environment)
        assert document(done)["data"]["files"][0]["status"] == "unchanged"
    assert len([data for data in seen(ours).values() if data is not None]) >= 12
    assert seen(ours) == seen(theirs)
    modes = [{path: (place / path).stat().st_mode for path in seen(place)} for place in (ours, theirs)]
    assert modes[0] == modes[1]


@pytest.mark.tool
def test_a_directory_that_oras_pushed_becomes_what_oras_makes_of_it_under_the_name_of_the_repository(
    tool: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tmp_path / "d"
    (source / "b").mkdir(parents=True)
    (source / "a").write_text("1")
    (source / "b" / "c").write_text("2")
    oras = tool("oras")
    with distribution(tool("registry"), tmp_path / "registry") as host:
        real.run(oras, "push", "--plain-http", f"{host}/aks/lay:v1", "d", "--artifact-type", "application/x.y", cwd=tmp_path)
        real.run(oras, "pull", "--plain-http", f"{host}/aks/lay:v1", "-o", tmp_path / "theirs")
        for _ in range(2):
            pulled = marfetch(
                "pull",
                f"{host}/aks/lay:v1",
                "--untar",
                "-d",
                tmp_path / "ours",
                cwd=tmp_path,
                environment=surroundings(cache=tmp_path / "cache"),
            )
            assert pulled.returncode == 0, pulled.stderr

    def files(directory: Path) -> dict[str, str]:
        return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}

    assert files(tmp_path / "theirs") == {"d/a": "1", "d/b/c": "2"}
    assert files(tmp_path / "ours") == {"lay/a": "1", "lay/b/c": "2"}
