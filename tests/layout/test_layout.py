"""The cache: an OCI image layout that several processes share and that never returns wrong bytes."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from marfetch.budget import Budget, Cancelled
from marfetch.content import Silent, copy
from marfetch.demo.recipe import build, read_recipe
from marfetch.errors import IntegrityError, NotFoundError, PolicyError, RemoteError, StorageError
from marfetch.files import claim, storage_error
from marfetch.layout import maintenance
from marfetch.layout.ingest import StallGuard, sweep
from marfetch.layout.layout import Layout
from marfetch.oci import Descriptor, Digest, Manifest, parse_manifest
from marfetch.reference import Host, Reference

from ..world.paths import ROOT
from ..world.progress import Heard

HOST = Host("mcr.microsoft.com")
ALB = Reference.parse("mcr.microsoft.com/application-lb/charts/alb-controller:1.7.12")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "layout")
    build(layout, HOST)
    return layout


def put(layout: Layout, data: bytes) -> Descriptor:
    descriptor = Descriptor("application/octet-stream", Digest.of(data), len(data))
    with layout.ingest(descriptor) as ingest:
        if ingest is not None:
            ingest.write(data)
            ingest.commit()
    return descriptor


def test_the_cache_is_a_layout_of_the_specification(layout: Layout) -> None:
    assert json.loads((layout.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout.root / "index.json").read_text())
    assert index["schemaVersion"] == 2
    names = [entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in index["manifests"]]
    assert str(ALB) in names
    for path in (layout.root / "blobs" / "sha256").iterdir():
        assert Digest.of(path.read_bytes()).encoded == path.name


def test_only_its_owner_can_read_it(layout: Layout) -> None:
    assert layout.root.stat().st_mode & 0o777 == 0o700


def test_the_next_process_knows_the_target_of_a_tag(layout: Layout) -> None:
    again = Layout(layout.root)
    known = again.known(ALB)
    assert known is not None
    manifest = again.manifest(ALB)
    assert isinstance(manifest, Manifest)
    assert manifest.descriptor == known
    assert again.manifest(ALB, known=known) is None
    assert "1.7.12" in again.tags(ALB)
    assert "application-lb/charts/alb-controller" in again.repositories()


def test_missing_content_is_not_found(layout: Layout) -> None:
    for text in ("mcr.microsoft.com/aks/none:1", "mcr.azure.cn/application-lb/charts/alb-controller:1.7.12"):
        with pytest.raises(NotFoundError):
            layout.manifest(Reference.parse(text))
        with pytest.raises(NotFoundError):
            layout.tags(Reference.parse(text))
    with pytest.raises(NotFoundError):
        layout.open(Digest.of(b"never"))
    with pytest.raises(NotFoundError):
        layout.manifest(Reference("a/b", HOST, None, Digest.of(b"never")))


def test_a_tag_and_a_digest_that_disagree_are_refused(layout: Layout) -> None:
    with pytest.raises(IntegrityError) as caught:
        layout.manifest(ALB.pinned(Digest.of(b"other")))
    assert caught.value.code == "tag-moved"


def test_referrers_are_found_by_their_subject(layout: Layout) -> None:
    made = build(layout, HOST)
    reference = Reference("azurelinux/3.0/image/minimal-os", HOST)
    found = layout.referrers(reference, made["F9"].digest)
    assert [entry.artifact_type for entry in found] == ["application/vnd.cncf.notary.signature"]
    assert layout.referrers(reference, made["F9"].digest, artifact_type="text/x") == []


@pytest.mark.parametrize("damage", ["truncated", "flipped", "a directory", "a link", "a pipe"])
def test_a_damaged_manifest_is_dropped_not_used(layout: Layout, damage: str) -> None:
    known = layout.known(ALB)
    assert known is not None
    path = layout.path(known.digest)
    spoil(path, damage)
    said: list[str] = []
    again = Layout(layout.root, warn=said.append)
    assert again.known(ALB) is None
    assert not os.path.lexists(path)
    assert len(said) == 1
    assert str(known.digest) in said[0]


def spoil(path: Path, damage: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[:-1])
    elif damage == "flipped":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif damage == "a directory":
        path.mkdir()
    elif damage == "a pipe":
        os.mkfifo(path)
    else:
        other = path.with_name("elsewhere")
        other.write_bytes(data)
        path.symlink_to(other)


@pytest.mark.parametrize("damage", ["truncated", "a directory", "a link"])
def test_a_blob_that_cannot_be_it_is_fetched_again(layout: Layout, damage: str) -> None:
    descriptor = put(layout, b"payload of some length")
    spoil(layout.path(descriptor.digest), damage)
    assert not layout.has(descriptor)
    put(layout, b"payload of some length")
    assert layout.has(descriptor)


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_a_pipe_is_not_waited_for(layout: Layout, name: str) -> None:
    (layout.root / name).unlink(missing_ok=True)
    os.mkfifo(layout.root / name)
    with pytest.raises(StorageError, match="not a regular file"):
        Layout(layout.root).known(ALB)


@pytest.mark.parametrize(
    "index",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"schemaVersion":2,"manifests":{}}', b'{"schemaVersion":2,"manifests":[{"digest":"../x"}]}'],
    ids=["empty", "cut", "not UTF-8", "a list", "an object", "a digest that is a path"],
)
def test_a_damaged_index_is_begun_anew_and_said_once(layout: Layout, index: bytes) -> None:
    (layout.root / "index.json").write_bytes(index)
    again = Layout(layout.root)
    assert again.known(ALB) is None
    assert again.names.damage()
    assert again.names.damage() is None
    again.tag(ALB, Descriptor("a/b", Digest.of(b"x"), 1))
    again.names.flush()
    assert len(Layout(layout.root).names.all()) == 1


def test_an_index_over_the_limit_is_not_read(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marfetch.layout.index.MAX_INDEX_SIZE", 1000)
    with (layout.root / "index.json").open("wb") as file:
        file.truncate(1001)
    again = Layout(layout.root)
    assert again.known(ALB) is None
    assert "more than 1000 bytes" in str(again.names.damage())


def test_behind_a_link_only_blobs_are_deleted(tmp_path: Path, layout: Layout) -> None:
    there = tmp_path / "there"
    (layout.root / "blobs" / "sha256").rename(there)
    (layout.root / "blobs" / "sha256").symlink_to(there)
    (there / "letter.txt").write_text("keep me")
    unused = put(layout, b"unused")
    assert maintenance.prune(layout).blobs == 1
    assert not layout.has(unused)
    assert [bad.name for bad in maintenance.verify(layout, fix=True)] == ["sha256:letter.txt"]
    assert (there / "letter.txt").read_text() == "keep me"


@pytest.mark.parametrize("marker", [b'{"imageLayoutVersion":"2.0.0"}', b"{}", b"junk"])
def test_a_layout_of_another_version_is_not_touched(tmp_path: Path, marker: bytes) -> None:
    (tmp_path / "oci-layout").write_bytes(marker)
    with pytest.raises(StorageError) as caught:
        Layout(tmp_path)
    assert caught.value.code == "cache-damaged"
    assert (tmp_path / "oci-layout").read_bytes() == marker


def test_a_cache_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "open"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(PolicyError) as caught:
        Layout(root)
    assert caught.value.code == "cache-unsafe"


def test_a_layout_below_is_read_and_never_written(tmp_path: Path, layout: Layout) -> None:
    upper = Layout(tmp_path / "upper", below=layout)
    before = sorted(layout.root.rglob("*"))
    assert upper.known(ALB) == layout.known(ALB)
    assert upper.tags(ALB) == layout.tags(ALB)
    assert upper.manifest(ALB) == layout.manifest(ALB)
    put(upper, b"new")
    upper.tag(ALB, Descriptor("a/b", Digest.of(b"x"), 1))
    upper.names.flush()
    assert sorted(layout.root.rglob("*")) == before


def test_what_is_damaged_below_is_passed_over_and_stays(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "is_writable", property(lambda self: self.root != layout.root))
    upper = Layout(tmp_path / "upper", below=layout)
    whole, short = put(layout, b"whole"), put(layout, b"short")
    layout.path(whole.digest).write_bytes(b"wrong")
    layout.path(short.digest).write_bytes(b"sho")
    upper.drop(whole.digest, "its bytes have another digest")
    assert not upper.has(whole)
    assert not upper.has(short)
    with pytest.raises(NotFoundError):
        upper.open(whole.digest)
    put(upper, b"whole")
    assert upper.has(whole)
    assert upper.digest_matches(whole.digest)
    assert (layout.path(whole.digest).read_bytes(), layout.path(short.digest).read_bytes()) == (b"wrong", b"sho")


@pytest.mark.parametrize("left", [b"", bytes(4096)], ids=["nothing", "zeros"])
def test_a_marker_that_a_power_cut_has_emptied_is_written_anew(layout: Layout, left: bytes) -> None:
    (layout.root / "oci-layout").write_bytes(left)
    assert Layout(layout.root).known(ALB) is not None
    assert json.loads((layout.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_without_locks_each_gathers_a_blob_for_itself(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marfetch.files.claim", lambda _: None)
    descriptor = Descriptor("application/octet-stream", Digest.of(b"content"), 7)
    with layout.ingest(descriptor) as one, layout.ingest(descriptor) as other:
        assert one is not None
        assert other is not None
        one.write(b"content")
        one.commit()
        other.write(b"cont")
        other.restart()
        assert layout.path(descriptor.digest).read_bytes() == b"content"
        other.write(b"content")
        other.commit()
    assert layout.path(descriptor.digest).read_bytes() == b"content"
    assert not list((layout.root / "ingest").glob("sha256-*"))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS], ids=["ENOLCK", "ENOSYS"])
def test_without_locks_names_are_written_all_the_same(layout: Layout, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    layout.tag(Reference.parse("a.example/one:1"), Descriptor("a/b", Digest.of(b"x"), 1))
    layout.names.flush()
    assert "a.example/one:1" in Layout(layout.root).names.all()


def test_leftovers_of_killed_runs_are_removed_after_a_day_unless_in_use(layout: Layout) -> None:
    left, in_hand, fresh = (layout.root / "ingest" / f"sha256-{digit * 64}" for digit in "012")
    for path in (left, in_hand, fresh):
        path.write_bytes(b"part")
        if path is not fresh:
            os.utime(path, (1, 1))
    with in_hand.open("rb") as file:
        assert claim(file.fileno())
        sweep(layout.root)
        assert sorted(one.name[7] for one in (layout.root / "ingest").iterdir()) == ["1", "2"]


def test_names_of_several_processes_are_joined(layout: Layout) -> None:
    one, two = Layout(layout.root), Layout(layout.root)
    descriptor = Descriptor("a/b", Digest.of(b"x"), 1)
    one.tag(Reference.parse("a.example/one:1"), descriptor)
    two.tag(Reference.parse("a.example/two:1"), descriptor)
    one.names.flush()
    two.names.flush()
    names = Layout(layout.root).names.all()
    assert {"a.example/one:1", "a.example/two:1", str(ALB)} <= set(names)


def _put_slowly(root: str, data: bytes, pieces: int, taken: str) -> None:
    layout = Layout(Path(root))
    descriptor = Descriptor("application/octet-stream", Digest.of(data), len(data))
    with layout.ingest(descriptor) as ingest:
        if ingest is None:
            return
        with Path(taken).open("a") as file:
            file.write("x")
        step = len(data) // pieces + 1
        for start in range(ingest.held, len(data), step):
            ingest.write(data[start : start + step])
            time.sleep(0.01)
        ingest.commit()


@pytest.mark.slow
def test_of_many_processes_one_brings_a_blob_in(tmp_path: Path) -> None:
    Layout(tmp_path / "layout")
    context = multiprocessing.get_context("spawn")
    data, taken = b"payload" * 1000, tmp_path / "taken"
    processes = [context.Process(target=_put_slowly, args=(str(tmp_path / "layout"), data, 20, str(taken))) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert taken.read_text() == "x"
    assert Layout(tmp_path / "layout").path(Digest.of(data)).read_bytes() == data
    assert list((tmp_path / "layout" / "ingest").iterdir()) == []


def test_a_killed_process_leaves_no_lock_and_its_bytes_are_taken_up(tmp_path: Path) -> None:
    data = b"payload" * 10_000
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom marfetch.layout.layout import Layout\nfrom marfetch.oci import Descriptor, Digest\n"
        "data = b'payload' * 10_000\nlayout = Layout(Path(sys.argv[1]))\n"
        "with layout.ingest(Descriptor('a/b', Digest.of(data), len(data))) as ingest:\n"
        "    ingest.write(data[:50_000])\n    print('half', flush=True)\n    time.sleep(60)\n"
    )
    root = tmp_path / "layout"
    with subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    layout = Layout(root)
    descriptor = Descriptor("a/b", Digest.of(data), len(data))
    assert not layout.path(descriptor.digest).exists()
    with layout.ingest(descriptor) as ingest:
        assert ingest is not None
        assert ingest.held == 50_000
        ingest.write(data[50_000:])
        ingest.commit()
    assert layout.path(descriptor.digest).read_bytes() == data
    assert maintenance.verify(layout) == []
    assert list((root / "ingest").iterdir()) == []


def test_a_wait_for_another_process_can_be_given_up(tmp_path: Path) -> None:
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise TimeoutError
        return False

    descriptor = Descriptor("a/b", Digest.of(b"x"), 1)
    patience = StallGuard(Budget(), Silent(), look)
    first, second = Layout(tmp_path / "l"), Layout(tmp_path / "l", patience=patience)
    with first.ingest(descriptor) as ingest:
        assert ingest is not None
        with pytest.raises(TimeoutError), second.ingest(descriptor):
            pass
        ingest.write(b"x")
        ingest.commit()
    assert first.has(descriptor)


class Waiting:
    """A wait for a blob that another process downloads, on a clock that only the test moves."""

    def __init__(self, tmp_path: Path, timeout: float | None = None) -> None:
        self.now = 1000.0
        self.budget = Budget(timeout, now=lambda: self.now)
        self.part = tmp_path / "part"
        self.part.write_bytes(b"")
        self.descriptor = Descriptor("a/b", Digest.of(b"x"), 1)
        self.heard = Heard()
        self.notes = self.heard.notes
        self.is_paused = False
        self.wait = StallGuard(self.budget, self.heard, lambda: self.is_paused).wait(self.descriptor, self.part)
        self.look = self.wait.__enter__()
        self.look()

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.look()


def test_a_wait_for_another_process_is_announced_once_and_ends_without_progress(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    waiting.passes(4)
    assert waiting.notes == []
    for _ in range(11):
        waiting.passes(5)
    (note,) = waiting.notes
    assert str(waiting.descriptor.digest) in note
    (task,) = waiting.heard.tasks
    assert (task.label, task.total, task.has_ended) == ("waiting for another marfetch or reference", 0, False)
    with pytest.raises(RemoteError) as caught:
        waiting.passes(2)
    assert (caught.value.code, caught.value.exit_code) == ("timeout", 7)
    assert str(waiting.descriptor.digest) in caught.value.message
    assert str(waiting.part) in caught.value.message
    assert "suspended" in str(caught.value.hint)
    waiting.wait.__exit__(None, None, None)
    assert task.has_ended


def test_a_wait_for_another_process_goes_on_as_long_as_something_comes(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    for number in range(20):
        waiting.part.write_bytes(b"x" * number)
        waiting.passes(50)
    waiting.part.unlink()  # the download restarts, or the blob is complete
    waiting.passes(50)
    with pytest.raises(RemoteError):
        waiting.passes(61)
    assert len(waiting.notes) == 1


def test_a_pause_that_a_host_asked_for_is_no_lack_of_progress_for_those_who_wait(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    waiting.is_paused = True
    waiting.passes(100)
    waiting.is_paused = False
    waiting.passes(59)
    with pytest.raises(RemoteError):
        waiting.passes(2)


def test_a_budget_ends_a_wait_for_another_process(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, timeout=10)
    with pytest.raises(RemoteError, match="within the 10 s"):
        waiting.passes(11)
    waiting = Waiting(tmp_path)
    waiting.budget.cancel()
    with pytest.raises(Cancelled):
        waiting.passes(1)


def test_no_more_is_begun_than_fits_on_the_disk(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "l")
    with pytest.raises(StorageError) as caught, layout.ingest(Descriptor("a/b", Digest.of(b"x"), 1 << 60)):
        pass
    assert caught.value.code == "disk-full"
    assert caught.value.context["needed"] == 1 << 60
    assert isinstance(caught.value.context["free"], int)


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, "disk-full", "disk is full"),
        (errno.EDQUOT, "disk-full", "quota"),
        (errno.EROFS, "file-unusable", "read-only"),
        (errno.EACCES, "file-unusable", "permission"),
        (errno.EMFILE, "file-unusable", "open files"),
        (errno.ENAMETOOLONG, "file-unusable", "too long"),
        (errno.EIO, "file-unusable", "input/output"),
    ],
)
def test_a_failed_write_says_what_can_be_done(tmp_path: Path, number: int, code: str, words: str) -> None:
    error = storage_error(OSError(number, os.strerror(number)), tmp_path / "x", needed=10)
    assert error.code == code
    assert words in error.message
    assert error.exit_code == 9


def test_maintaining_the_cache(layout: Layout) -> None:
    before = maintenance.info(layout)
    orphan = put(layout, b"nobody names me")
    stale = layout.root / "ingest" / ("sha256-" + "0" * 64)
    stale.write_bytes(b"part")
    os.utime(stale, (1, 1))
    fresh = layout.root / "ingest" / ("sha256-" + "1" * 64)
    fresh.write_bytes(b"part")
    assert maintenance.info(layout).blobs == before.blobs + 1
    assert maintenance.info(layout).partial == 2
    done = maintenance.prune(layout)
    assert (done.blobs, done.partial) == (1, 1)
    assert not layout.path(orphan.digest).exists()
    assert fresh.exists()
    assert maintenance.verify(layout) == []
    assert maintenance.info(layout).blobs == before.blobs


def test_pruning_keeps_what_names_and_referrers_lead_to(layout: Layout) -> None:
    records = [record for record in read_recipe() if "id" in record]
    maintenance.prune(layout)
    made = build(layout, HOST)
    for record in records:
        assert layout.find(made[record["id"]].digest) is not None


def test_pruning_by_age_forgets_names_first(layout: Layout) -> None:
    assert maintenance.prune(layout, days=1).blobs == 0
    for path in (layout.root / "blobs" / "sha256").iterdir():
        os.utime(path, (1, 1))
    assert maintenance.prune(layout, days=1).blobs > 10
    assert maintenance.info(layout).blobs == 0
    assert maintenance.info(layout).names == 0


def test_bad_blobs_are_named_and_removed_on_demand(layout: Layout) -> None:
    good = maintenance.info(layout).blobs
    path = next((layout.root / "blobs" / "sha256").iterdir())
    path.write_bytes(b"other")
    (path.parent / "UPPER").write_bytes(b"x")
    (path.parent / ("0" * 64)).symlink_to(path)
    bad = maintenance.verify(layout)
    assert {one.name for one in bad} == {f"sha256:{path.name}", "sha256:UPPER", f"sha256:{'0' * 64}"}
    assert maintenance.info(layout).blobs == good + 2
    maintenance.verify(layout, fix=True)
    assert maintenance.verify(layout) == []
    assert maintenance.info(layout).blobs == good - 1


def test_only_a_cache_is_cleared(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    with pytest.raises(Exception, match="not a marfetch cache"):
        maintenance.clear(tmp_path / "precious")
    assert (tmp_path / "precious" / "file").exists()
    (layout.root / "mine.txt").write_text("x")
    assert maintenance.clear(layout.root) > 0
    assert [path.name for path in layout.root.iterdir()] == ["mine.txt"]
    assert maintenance.clear(tmp_path / "never") == 0


def test_a_blob_that_was_whole_when_its_process_was_killed_is_not_asked_for_again(tmp_path: Path, heard: Heard) -> None:
    layout = Layout(tmp_path / "layout")
    data = b"payload" * 1000
    descriptor = Descriptor("a/b", Digest.of(data), len(data))
    part = layout.root / "ingest" / f"sha256-{descriptor.digest.encoded}"
    part.write_bytes(data)
    unused: Any = object()  # fails on any use
    assert not copy(unused, layout, Reference.parse("mar.test/a/b:1"), descriptor, name="b", progress=heard)
    assert layout.path(descriptor.digest).read_bytes() == data
    assert not part.exists()


def test_a_part_of_the_right_size_with_wrong_bytes_is_begun_anew(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    data = b"payload" * 1000
    descriptor = Descriptor("a/b", Digest.of(data), len(data))
    (layout.root / "ingest" / f"sha256-{descriptor.digest.encoded}").write_bytes(b"x" * len(data))
    with layout.ingest(descriptor) as ingest:
        assert ingest is not None
        assert ingest.held == 0
        ingest.write(data)
        ingest.commit()
    assert layout.path(descriptor.digest).read_bytes() == data


def test_a_manifest_that_was_half_written_when_its_process_was_killed_is_no_blob(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    raw = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    index = parse_manifest(raw, what="it")
    (layout.root / "ingest" / f"sha256-{index.descriptor.digest.encoded}").write_bytes(raw[:20])
    assert maintenance.verify(layout) == []
    layout.add(index)
    assert layout.path(index.descriptor.digest).read_bytes() == raw
    assert list((layout.root / "ingest").iterdir()) == []
    assert maintenance.verify(layout) == []


def test_a_download_that_waits_for_another_process_is_visible_to_others(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marfetch.layout.ingest._HEARTBEAT_INTERVAL", -1.0)
    part = layout.root / "ingest" / f"sha256-{Digest.of(b'x').encoded}"
    with layout.ingest(Descriptor("a/b", Digest.of(b"x"), 1)) as ingest:
        assert ingest is not None
        os.utime(part, (1, 1))
        ingest.heartbeat()
        assert part.stat().st_mtime > 1
