"""The demo: the layout has the content of the recipe, and the tour checks every step."""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from marfetch.cli.demo import _run_command
from marfetch.demo import tour as guided
from marfetch.demo.recipe import build, content, read_recipe, tar_gz, zipped
from marfetch.demo.tour import CHART, CORRUPTED, MODULE, tour
from marfetch.layout.layout import Layout
from marfetch.layout.maintenance import verify
from marfetch.oci import Descriptor, Index, Manifest
from marfetch.reference import Host, Reference

from ..world.command import Call, on_terminal
from ..world.paths import ROOT

HOST = Host("mar.test")
RECORDS = read_recipe()
BLOBS = {str(record["blob"]): record for record in RECORDS if "blob" in record}
MANIFESTS = {str(record["id"]): record for record in RECORDS if "id" in record}
TAGGED = {f"{record['repo']}:{tag}": (record, tag) for record in MANIFESTS.values() for tag in (*record["tags"], *record.get("like", ()))}


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# -- the recipe


def test_builds_are_reproducible(recipe: Layout, tmp_path: Path) -> None:
    made = build(Layout(tmp_path / "again"), HOST)
    assert list(made) == list(MANIFESTS)
    assert files(tmp_path / "again" / "blobs") == files(recipe.root / "blobs")
    assert (tmp_path / "again" / "index.json").read_bytes() == (recipe.root / "index.json").read_bytes()


def test_building_twice_in_one_directory_changes_nothing(tmp_path: Path) -> None:
    first = build(Layout(tmp_path / "layout"), HOST)
    before = files(tmp_path / "layout")
    assert build(Layout(tmp_path / "layout"), HOST) == first
    assert files(tmp_path / "layout") == before


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati"])
def test_a_build_does_not_depend_on_the_environment(recipe: Layout, tmp_path: Path, zone: str) -> None:
    line = "import sys; from pathlib import Path; from marfetch.demo.recipe import build; from marfetch.layout.layout import Layout; from marfetch.reference import Host; build(Layout(Path(sys.argv[1])), Host('mar.test'))"
    around = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "TZ": zone, "LC_ALL": "C", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", line, str(tmp_path / "layout")], env=around, umask=0o077, check=True, timeout=60)
    assert files(tmp_path / "layout" / "blobs") == files(recipe.root / "blobs")


def test_archives_depend_only_on_their_files() -> None:
    one, other = {"b": b"2", "a/c": b"1"}, {"a/c": b"1", "b": b"2"}
    assert tar_gz(one) == tar_gz(other)
    assert zipped(one) == zipped(other)
    assert tar_gz(one) != tar_gz({**one, "b": b"3"})
    assert gzip.decompress(tar_gz(one))
    with tarfile.open(fileobj=io.BytesIO(tar_gz(one))) as archive:
        members = [(member.name, member.mode, member.mtime, member.uid, member.gid, member.uname) for member in archive]
    assert members == [("a/c", 0o644, 0, 0, 0, ""), ("b", 0o644, 0, 0, 0, "")]


@pytest.mark.parametrize("record", BLOBS.values(), ids=BLOBS)
def test_a_blob_has_the_content_of_its_record(record: dict[str, Any]) -> None:
    data = content(record)
    if "targz" in record:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            held = {member.name: tar.extractfile(member).read().decode() for member in tar}  # type: ignore[union-attr]
        assert held == record["targz"]
    elif "zip" in record:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            assert {name: archive.read(name).decode() for name in archive.namelist()} == record["zip"]
    else:
        assert data.decode() == record["text"]


def test_every_record_is_a_blob_or_a_manifest_and_every_blob_is_used() -> None:
    assert len(RECORDS) == len(BLOBS) + len(MANIFESTS)
    text = json.dumps([record["manifest"] for record in MANIFESTS.values()])
    assert [name for name in BLOBS if f'"@{name}"' not in text] == []
    assert {record["s"] for record in MANIFESTS.values()} == {"seen", "inferred"}


def found(recipe: Layout, record: dict[str, Any], tag: str) -> Manifest | Index:
    manifest = recipe.manifest(Reference(record["repo"], HOST, tag))
    assert manifest is not None
    return manifest


def descriptors(manifest: Manifest | Index) -> list[Descriptor]:
    own = [manifest.config, *manifest.layers] if isinstance(manifest, Manifest) else [*manifest.manifests]
    return [*own, *([manifest.subject] if manifest.subject else [])]


@pytest.mark.parametrize(("record", "tag"), TAGGED.values(), ids=TAGGED)
def test_a_tag_has_an_intact_artifact_with_the_shape_of_its_record(recipe: Layout, record: dict[str, Any], tag: str) -> None:
    manifest = found(recipe, record, tag)
    wanted = record["manifest"]
    raw = json.loads(manifest.raw)
    assert not any(f'"@{name}"' in json.dumps(raw) for name in (*BLOBS, *MANIFESTS))
    # If the content of a copy contains no version, the copy gets an annotation with the version.
    assert [name for name in raw if name != "annotations" or name in wanted] == list(wanted)
    assert (b"\n" in manifest.raw) is bool(record.get("pretty"))
    assert manifest.descriptor.media_type == record.get("ct", wanted.get("mediaType", "application/vnd.oci.image.manifest.v1+json"))
    assert raw.get("artifactType") == wanted.get("artifactType")
    for name in ("layers", "manifests"):
        assert [one["mediaType"] for one in raw.get(name, ())] == [one["mediaType"] for one in wanted.get(name, ())]
    for descriptor in descriptors(manifest):
        data = recipe.path(descriptor.digest).read_bytes()
        assert (len(data), descriptor.digest.of(data)) == (descriptor.size, descriptor.digest)


def test_the_layout_has_exactly_the_tags_of_the_records(recipe: Layout) -> None:
    listed = {f"{name}:{tag}" for name in recipe.repositories() for tag in recipe.tags(Reference(name, HOST))}
    assert listed == set(TAGGED)


@pytest.mark.parametrize("record", [MANIFESTS[name] for name in ("F1", "F2", "F3", "F4")], ids=["F1", "F2", "F3", "F4"])
def test_each_version_of_a_chart_has_its_own_manifest(recipe: Layout, record: dict[str, Any]) -> None:
    tags = [*record["tags"], *record["like"]]
    assert len({found(recipe, record, tag).descriptor.digest for tag in tags}) == len(tags)


@pytest.mark.parametrize("version", ["1.7.12", "1.7.9", "0.4.023901"])
def test_a_copy_under_another_tag_contains_that_version(recipe: Layout, version: str) -> None:
    manifest = found(recipe, MANIFESTS["F1"], version)
    assert isinstance(manifest, Manifest)
    assert json.loads(recipe.path(manifest.config.digest).read_bytes())["version"] == version
    with tarfile.open(recipe.path(manifest.layers[0].digest)) as archive:
        file = archive.extractfile("alb-controller/Chart.yaml")
        assert file is not None
        assert f"version: {version}\n" in file.read().decode()


def test_a_plus_in_a_version_is_an_underscore_in_its_tag(recipe: Layout) -> None:
    manifest = found(recipe, MANIFESTS["F2"], "1.9.1_build.5")
    assert isinstance(manifest, Manifest)
    assert json.loads(recipe.path(manifest.config.digest).read_bytes())["version"] == "1.9.1+build.5"


SUBJECTS = [record for record in MANIFESTS.values() if "subject" in record["manifest"]]


@pytest.mark.parametrize("record", SUBJECTS, ids=[record["id"] for record in SUBJECTS])
def test_referrers_are_found_by_their_subject(recipe: Layout, tmp_path: Path, record: dict[str, Any]) -> None:
    made = build(Layout(tmp_path / "layout"), HOST)
    subject = made[record["manifest"]["subject"]["digest"].removeprefix("@")]
    referring = recipe.referrers(Reference(record["repo"], HOST), subject.digest)
    assert made[record["id"]].digest in [entry.digest for entry in referring]
    assert record["manifest"]["artifactType"] in [entry.artifact_type for entry in referring]


def test_every_blob_matches_its_digest(recipe: Layout) -> None:
    assert verify(recipe) == []


# -- the tour


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Create a directory for the tour, and restore the environment afterwards."""
    for name in ("MARFETCH_ENDPOINT", "MARFETCH_DATA_HOSTS", "MARFETCH_CACHE_DIR"):
        monkeypatch.setenv(name, "")
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_the_tour_passes(surroundings: Path) -> None:
    lines: list[str] = []
    assert tour(lines.append, _run_command) == 0
    shown = "\n".join(lines)
    assert [line for line in lines if line.startswith("$ marfetch ")] == [
        f"$ marfetch versions {CHART}",
        f"$ marfetch resolve {CHART} --version '~1.7'",
        f"$ marfetch pull {CHART} --version '~1.7'",
        f"$ marfetch pull {MODULE} --media-type '*bicep.module.layer*'",
        f"$ marfetch pull {CHART} --version '~1.7'",
        f"$ marfetch pull {CORRUPTED} --version 1.9.1",
    ]
    assert shown.count("exit code 0)") == 5
    assert shown.count("exit code 5)") == 1
    assert "\nFiles in this directory: alb-controller-1.7.12.tgz, storage-account-0.14.0.json\n" in shown
    assert "unexpected result" not in shown
    assert "warning:" not in shown
    assert [line for line in lines if line.startswith("[")] == [
        "[1/6] List the versions of a chart",
        "[2/6] Resolve a version range",
        "[3/6] Download the chart",
        "[4/6] Download a Bicep module",
        "[5/6] Download the chart again",
        "[6/6] Download altered content",
    ]
    assert [line for line in lines if len(line) > 80 and not line.startswith(("  ", "$"))] == []
    assert all(len(step.splitlines()) <= 24 for step in shown.split("\n\n"))
    assert Path.cwd() == surroundings
    assert list(surroundings.iterdir()) == []


def test_the_second_pull_downloads_no_content(surroundings: Path) -> None:
    lines: list[str] = []
    tour(lines.append, _run_command)
    requests = [line for line in lines if line.startswith("  (requests: ")]
    assert "content" in requests[2]
    assert "content" not in requests[4]


def test_without_the_corruption_the_tour_fails(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided._Tour, "_corrupt", lambda *_: None)
    lines: list[str] = []
    assert tour(lines.append, _run_command) == 1
    assert sum("unexpected result" in line for line in lines) == 2  # the exit code, and an additional file
    assert lines[-1] == "A step failed, see above."


@pytest.mark.parametrize("step", [0, 5])
def test_an_unexpected_exit_code_fails_the_tour(surroundings: Path, step: int) -> None:
    taken: list[Sequence[str]] = []

    def crooked(arguments: Sequence[str]) -> tuple[int, list[str]]:
        taken.append(arguments)
        code, lines = _run_command(arguments)
        return (code + 1 if len(taken) == step + 1 else code), lines

    assert tour(lambda _: None, crooked) == 1
    assert len(taken) == 6


def test_a_command_is_run_with_the_output_of_both_streams(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert _run_command(["version"])[0] == 0
    code, lines = _run_command(["pull", "Aks/foo"])
    assert code == 2
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"]


def test_the_tour_shows_what_a_terminal_shows_without_colors(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines: list[str] = []
    assert tour(lines.append, _run_command) == 0
    assert "  VERSION    TAG" in lines
    assert not any(sign in "\n".join(lines) for sign in ("\t", "\x1b"))
    assert os.environ["COLUMNS"] == "60"


def test_the_tour_ends_with_commands_that_work_when_pasted(surroundings: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    lines: list[str] = []
    monkeypatch.setenv("PATH", str(surroundings))
    tour(lines.append, _run_command)
    assert lines[-7] == "Three things to try:"
    program = Path(sys.executable).with_name("marfetch")
    assert all(line.startswith(f"  {program} ") for line in lines[-5::2])
    (surroundings / "marfetch").write_text("")
    (surroundings / "marfetch").chmod(0o755)
    tour(lines.append, _run_command)
    commands = [shlex.split(line) for line in lines[-5::2]]
    assert [one[0] for one in commands] == ["marfetch"] * 3
    versions, serve, help_ = (one[1:] for one in commands)
    assert call(*versions)[0] == 0
    assert serve == ["demo", "--serve"]
    assert _run_command(help_)[0] == 0


def test_the_demo_never_waits_for_a_key(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "TERM": "xterm"}
    code, out, _ = on_terminal(["demo"], environment, tmp_path)
    assert code == 0
    assert "Three things to try:" in out


def test_the_demo_command_leaves_no_files(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("here", "tmp", "house", "cache")}
    for place in places.values():
        place.mkdir()
    done = subprocess.run(
        [sys.executable, "-B", "-m", "marfetch", "demo"],
        cwd=places["here"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(places["house"]),
            "TMPDIR": str(places["tmp"]),
            "MARFETCH_CACHE_DIR": str(places["cache"]),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("exit code 5)") == 1
    assert [path for place in places.values() for path in place.rglob("*")] == []
