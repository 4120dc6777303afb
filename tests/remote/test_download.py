"""Blobs: every byte is checked, cut downloads resume, and final names never have wrong content."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.artifact.payload import Choice
from marfetch.client.pull import Pulled, PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session
from marfetch.errors import Error
from marfetch.oci import Digest
from marfetch.reference import Reference

from ..world.paths import ROOT
from ..world.progress import Heard
from ..world.registry import BLOCKED, Asked, Knob, Registry

BLOB = bytes(range(256)) * 1024  # 256 KiB
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def get(client: Callable[..., Session], mar: Registry, tmp_path: Path) -> Callable[..., Pulled]:
    """Return a function that pulls `aks/foo:1`, an artifact with one file, into `out`."""
    mar.add_artifact("aks/foo", "1", ("foo.bin", BLOB))

    def do(*texts: str, force: bool = False, choice: Choice | None = None, **options: object) -> Pulled:
        wanted = [Wanted(Reference.parse(f"{mar.host}/{text}")) for text in texts or ("aks/foo:1",)]
        with client(**options) as one:
            return pull(one, wanted, PullOptions(tmp_path / "out", choice or Choice(), force=force))

    return do


def failure(result: Pulled) -> Error:
    (failed,) = result.failed
    return failed.error


def swept(tmp_path: Path, *names: str) -> None:
    """Check that the output directory has only these files, and that every blob in the cache matches its digest."""
    out = tmp_path / "out"
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()} if out.exists() else {}
    assert set(found) == set(names)
    for path in (tmp_path / "cache" / "blobs").rglob("*"):
        if path.is_file():
            assert Digest.of(path.read_bytes()).encoded == path.name


def data_requests(mar: Registry) -> list[Asked]:
    return [asked for asked in mar.asked if asked.kind == "data"]


def test_a_blob_comes_by_redirect_with_its_signature_byte_for_byte(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    result = get()
    assert not result.failed
    assert (tmp_path / "out" / "foo.bin").read_bytes() == BLOB
    assert mar.kinds() == ["manifest", "blob", "data"]
    asked = mar.asked[2]
    assert "//docker/registry" in asked.target
    assert asked.target.endswith(mar.signature)  # percent-encodings stay in lower case
    assert asked.headers["user-agent"].startswith("marfetch/")
    assert "authorization" not in asked.headers
    swept(tmp_path, "foo.bin")


def test_a_second_pull_asks_for_no_blob_and_an_unchanged_file_stays(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    get()
    mar.asked.clear()
    again = get()
    assert [file.status for file in again.files] == ["unchanged"]
    assert mar.kinds() == ["manifest"]
    (tmp_path / "out" / "foo.bin").unlink()
    mar.asked.clear()
    assert [file.status for file in get().files] == ["fetched"]
    assert mar.kinds() == ["manifest"]


def test_by_its_digest_a_cached_artifact_costs_no_request(get: Callable[..., Pulled], mar: Registry) -> None:
    digest = get().files[0].reference.digest
    mar.asked.clear()
    assert not get(f"aks/foo@{digest}").failed
    assert mar.asked == []


def test_offline_uses_only_the_cache(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    result = get(offline=True)
    assert failure(result).code == "offline"
    assert failure(result).exit_code == 7
    get()
    (tmp_path / "out" / "foo.bin").unlink()
    mar.asked.clear()
    assert not get(offline=True).failed
    assert failure(get("aks/foo:2", offline=True)).code == "offline"
    blob = next(path for path in (tmp_path / "cache" / "blobs" / "sha256").iterdir() if path.stat().st_size == len(BLOB))
    blob.unlink()
    (tmp_path / "out" / "foo.bin").unlink()
    assert failure(get(offline=True)).code == "offline"
    assert mar.asked == []


HEALED = {
    "cut once": lambda knob: knob.cuts_after(100_000, times=1),
    "cut ten times": lambda knob: knob.cuts_after(24_000, times=10),
    "reset once": lambda knob: knob.resets_after(100_000, times=1),
    "closed before any byte": lambda knob: knob.closes_at_once(times=1),
    "a stall once": lambda knob: knob.stalls_after(100_000, times=1),
    "silence before the headers": lambda knob: knob.stalls_before_headers(times=1),
    "503 three times": lambda knob: knob.answers(503, times=3),
    "500 once": lambda knob: knob.answers(500, times=1),
    "throttled once": lambda knob: knob.answers(429, times=1, retry_after="1"),
    "an expired address": lambda knob: knob.answers(403, b"<Error><Code>AuthenticationFailed</Code></Error>", times=1),
    "a block page once": lambda knob: knob.answers(403, BLOCKED, times=1),
}


@pytest.mark.parametrize("twist", HEALED.values(), ids=HEALED)
def test_a_broken_transfer_is_resumed_or_restarted(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path, twist: Callable[[Knob], object]
) -> None:
    twist(mar.on("data"))
    result = get()
    assert not result.failed
    assert (tmp_path / "out" / "foo.bin").read_bytes() == BLOB
    swept(tmp_path, "foo.bin")
    ranged = [asked.headers["range"] for asked in data_requests(mar) if "range" in asked.headers]
    for header in ranged:
        assert int(header.removeprefix("bytes=").rstrip("-")) > 0
    # Every try starts at the registry, because the signed address may have expired.
    assert mar.kinds().count("blob") == len(data_requests(mar))


@pytest.mark.parametrize("how", ["cuts_after", "resets_after", "stalls_after"])
def test_after_a_cut_only_the_rest_is_requested(get: Callable[..., Pulled], mar: Registry, how: str) -> None:
    getattr(mar.on("data"), how)(128 * 1024, times=1)
    assert not get().failed
    second = data_requests(mar)[1]
    assert second.headers["range"] == f"bytes={128 * 1024}-"
    assert second.headers["if-range"] == '"0x8D0123456789ABC"'


RESTARTED = {
    "Range ignored": lambda knob, cut: (cut(knob), knob.owner.on("data").ignores_ranges()),
    "416": lambda knob, cut: (cut(knob), knob.owner.on("data").answers(416, times=1)),
    "206 from another byte": lambda knob, cut: (cut(knob), knob.owner.on("data").says(Content_Range="bytes 0-262143/262144", times=1)),
    "206 of another size": lambda knob, cut: (cut(knob), knob.owner.on("data").says(Content_Range="bytes 131072-262143/999999", times=1)),
    "206 of a part of the rest": lambda knob, cut: (
        cut(knob),
        knob.owner.on("data").says(Content_Range="bytes 131072-200000/262144", times=1),
    ),
    "206 without Content-Range": lambda knob, cut: (cut(knob), knob.owner.on("data").says(Content_Range=None, times=1)),
    "206 in several parts": lambda knob, cut: (
        cut(knob),
        knob.owner.on("data").says(Content_Range=None, Content_Type="multipart/byteranges; boundary=x", times=1),
    ),
    "another entity tag": lambda knob, cut: cut(knob.says(ETag='"0xOTHER"')),
}


@pytest.mark.parametrize("twist", RESTARTED.values(), ids=RESTARTED)
def test_a_rest_that_does_not_fit_is_never_spliced(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path, twist: Callable[[Knob, Callable[[Knob], object]], object]
) -> None:
    twist(mar.on("data"), lambda knob: knob.cuts_after(128 * 1024, times=1))
    result = get()
    assert not result.failed
    assert (tmp_path / "out" / "foo.bin").read_bytes() == BLOB
    assert [asked.headers.get("range") for asked in data_requests(mar)][:2] == [None, f"bytes={128 * 1024}-"]


def test_wrong_resumed_bytes_are_noticed_and_downloaded_again_once(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    mar.on("data").cuts_after(128 * 1024, times=1)
    mar.on("data").answers_with(b"x" * (128 * 1024), times=1)
    assert not get().failed
    assert (tmp_path / "out" / "foo.bin").read_bytes() == BLOB
    assert "range" not in data_requests(mar)[-1].headers


ENDS: dict[str, tuple[str, bool]] = {
    "closed before the last chunk": ("closes", True),
    "reset before the last chunk": ("resets", True),
    "silent before the last chunk": ("stalls", True),
    "reset without a length": ("resets", False),
    "silent without a length": ("stalls", False),
}


@pytest.mark.parametrize(("how", "chunked"), ENDS.values(), ids=ENDS)
def test_a_blob_is_complete_if_only_the_end_of_the_chunked_body_is_lost(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path, how: str, chunked: bool
) -> None:
    mar.on("data").loses_the_end(how, chunked=chunked)
    assert not get().failed
    assert (tmp_path / "out" / "foo.bin").read_bytes() == BLOB
    assert len(data_requests(mar)) == 1
    swept(tmp_path, "foo.bin")


def test_wrong_bytes_whose_end_is_lost_are_fetched_anew(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    mar.on("data").answers_with(b"x" * len(BLOB)).loses_the_end("closes", times=1)
    assert not get().failed
    assert (tmp_path / "out" / "foo.bin").read_bytes() == BLOB
    assert "range" not in data_requests(mar)[-1].headers


WRONG = {
    "other bytes": (lambda knob: knob.answers_with(b"x" * len(BLOB)), "digest-mismatch"),
    "a web page": (lambda knob: knob.answers_with(b"<html>log in</html>", Content_Type="text/html"), "size-mismatch"),
    "nothing": (lambda knob: knob.answers_with(b""), "size-mismatch"),
    "one byte short": (lambda knob: knob.answers_with(BLOB[:-1]), "size-mismatch"),
    "one byte more": (lambda knob: knob.answers_with(BLOB + b"x"), "size-mismatch"),
    "short, in chunks": (lambda knob: knob.sends_chunked(BLOB[:-1]), "size-mismatch"),
    "more, in chunks": (lambda knob: knob.sends_chunked(BLOB + b"x"), "size-mismatch"),
    "no end": (lambda knob: knob.sends_endlessly(b"x" * 65536), "size-mismatch"),
    "1 PiB announced": (lambda knob: knob.says(Content_Length=str(1 << 50)), "size-mismatch"),
    "a length that is no number": (lambda knob: knob.says(Content_Length="-5"), "malformed"),
    "a chunk of a negative size": (lambda knob: knob.sends(CHUNKED + b"5\r\n" + BLOB[:5] + b"\r\n-1\r\n", then=bytes(65536)), "malformed"),
}


@pytest.mark.parametrize(("twist", "code"), WRONG.values(), ids=WRONG)
def test_wrong_bytes_are_refused_and_leave_nothing(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path, twist: Callable[[Knob], object], code: str
) -> None:
    twist(mar.on("data"))
    error = failure(get())
    assert error.code in (code, "malformed", "cut")
    assert error.exit_code in (5, 7)
    swept(tmp_path)
    assert len(data_requests(mar)) <= 5
    assert not (tmp_path / "out").exists()


def test_a_blob_that_comes_compressed_is_not_decoded(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    import gzip

    bomb = gzip.compress(b"\0" * (1 << 24))
    mar.on("data").answers_with(bomb, Content_Encoding="gzip")
    assert failure(get()).exit_code == 5
    packed = gzip.compress(BLOB, mtime=0)
    mar.honestly()
    mar.add_artifact("aks/packed", "1", ("packed.bin", packed))
    mar.on("data").says(Content_Encoding="gzip")
    assert not get("aks/packed:1").failed
    assert (tmp_path / "out" / "packed.bin").read_bytes() == packed


LASTING = {
    "cut at the same byte": (lambda knob: knob.cuts_after(0), "cut", 4),
    "reset at the same byte": (lambda knob: knob.resets_after(0), "cut", 4),
    "cut again and again": (lambda knob: knob.cuts_after(10_000), "cut", 11),
    "stalled": (lambda knob: knob.stalls_after(0), "timeout", 4),
    "a trickle": (lambda knob: knob.drips(10, 0.2), "timeout", 1),
    "unreachable": (lambda knob: knob.answers(503), "server-error", 5),
    "denied": (lambda knob: knob.answers(403), "denied", 3),
    "missing": (lambda knob: knob.answers(404), "blob-not-found", 1),
}


@pytest.mark.parametrize(("twist", "code", "requests"), LASTING.values(), ids=LASTING)
def test_a_lasting_failure_keeps_the_received_bytes(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path, twist: Callable[[Knob], object], code: str, requests: int
) -> None:
    twist(mar.on("data"))
    error = failure(get())
    assert error.code == code
    assert len(data_requests(mar)) <= requests
    if code in ("cut", "timeout"):
        assert f"of {len(BLOB)} bytes" in error.message
    assert "sig=" not in f"{error.message} {error.context}"
    swept(tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_next_run_resumes_a_cut_download(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    mar.on("data").cuts_after(128 * 1024, times=1)
    mar.on("data").closes_at_once()
    assert failure(get()).code == "cut"
    mar.honestly()
    assert not get().failed
    assert [asked.headers.get("range") for asked in data_requests(mar)] == [f"bytes={128 * 1024}-"]
    assert (tmp_path / "out" / "foo.bin").read_bytes() == BLOB


@pytest.mark.slow
def test_a_killed_process_leaves_no_file_and_the_next_goes_on(mar: Registry, tmp_path: Path) -> None:
    data = BLOB * 40
    mar.add_artifact("aks/large", "1", ("large.bin", data))
    knob = mar.on("data").drips(64 * 1024, 0.05)
    line = [
        sys.executable, "-m", "marfetch", "pull", f"{mar.host}/aks/large:1", "--data-host", mar.data_host, "-d", str(tmp_path / "out"),
        "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    part = tmp_path / "cache" / "ingest" / f"sha256-{Digest.of(data).encoded}"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 1 << 20) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    held = part.stat().st_size
    assert held > 1 << 20
    assert all(path.name.startswith(".marfetch-") for path in (tmp_path / "out").iterdir())
    knob.change = None
    mar.asked.clear()
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [asked.headers.get("range") for asked in data_requests(mar)] == [f"bytes={held}-"]
    assert (tmp_path / "out" / "large.bin").read_bytes() == data
    assert list((tmp_path / "cache" / "ingest").iterdir()) == []
    swept(tmp_path, "large.bin")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="there a process is not suspended by a signal")
def test_a_suspended_process_does_not_block_others_forever(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marfetch.layout import ingest

    monkeypatch.setattr(ingest, "SAID_AFTER", 0.5)
    knob = mar.on("data").drips(1024, 0.05)
    line = [
        sys.executable, "-m", "marfetch", "pull", f"{mar.host}/aks/foo:1", "--data-host", mar.data_host, "-d", str(tmp_path / "first"),
        "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "cache" / "ingest" / f"sha256-{Digest.of(BLOB).encoded}"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        process.send_signal(signal.SIGSTOP)
        error = failure(get())
        assert (error.code, error.exit_code) == ("timeout", 7)
        assert str(part) in error.message
        assert len([note for note in heard.notes if "is already being fetched" in note]) == 1
        assert part.stat().st_size > 0  # the temporary file still belongs to the other process
    finally:
        knob.change = None
        process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert not get().failed
    swept(tmp_path, "foo.bin")


@pytest.mark.slow
@pytest.mark.parametrize(("signal_name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupted_process_ends_at_once_and_keeps_what_it_has(mar: Registry, tmp_path: Path, signal_name: str, code: int) -> None:
    for number in range(3):
        mar.add_artifact(f"aks/large{number}", "1", (f"large{number}.bin", BLOB * 40 + bytes([number])))
    mar.on("data").drips(64 * 1024, 0.1)
    line = [
        sys.executable, "-m", "marfetch", "pull", *(f"{mar.host}/aks/large{number}:1" for number in range(3)), "--data-host", mar.data_host,
        "-d", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while len(data_requests(mar)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(getattr(signal, signal_name))
    out, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert out == ""
    assert "Traceback" not in err
    swept(tmp_path)


@pytest.mark.slow
def test_the_budget_ends_everything_in_time(get: Callable[..., Pulled], mar: Registry) -> None:
    mar.on("data").stalls_after(1000)
    begun = time.monotonic()
    error = failure(get(timeout=1.2))
    assert error.code == "timeout"
    assert "--timeout" in error.message
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("size", [1 << 50, 1 << 45])
def test_a_blob_that_is_too_large_is_refused_before_it_is_asked_for(get: Callable[..., Pulled], mar: Registry, size: int) -> None:
    layer = {"mediaType": "application/octet-stream", "digest": str(Digest.of(b"x")), "size": size}
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2}
    mar.add_manifest("aks/huge", "1", json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode())
    error = failure(get("aks/huge:1"))
    assert error.code in ("limit-passed", "disk-full")
    assert mar.kinds() == ["manifest"]


def test_addresses_in_a_manifest_are_never_followed_and_data_is_not_believed(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path
) -> None:
    layer = {
        "mediaType": "application/octet-stream",
        "digest": str(Digest.of(BLOB)),
        "size": len(BLOB),
        "urls": ["https://evil.example/x"],
        "data": "ZXZpbA==",
        "annotations": {"org.opencontainers.image.title": "x.bin"},
    }
    mar.add_artifact("aks/urls", "1", (None, BLOB), layers=[layer])
    assert not get("aks/urls:1").failed
    assert (tmp_path / "out" / "x.bin").read_bytes() == BLOB


REDIRECTS = {
    "a foreign host": ("https://evil.example/x", "host-refused"),
    "another port": ("http://127.0.0.1:1/x", "host-refused"),
    "nowhere": (None, "redirect-refused"),
}


@pytest.mark.parametrize(("location", "code"), REDIRECTS.values(), ids=REDIRECTS)
@pytest.mark.parametrize("hop", ["blob", "data"])
def test_a_blob_is_not_fetched_from_elsewhere(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path, hop: str, location: str | None, code: str
) -> None:
    mar.on(hop).redirects(location)
    error = failure(get())
    assert error.code == code
    assert error.exit_code == 4
    swept(tmp_path)


def test_a_data_host_must_be_named_also_on_loopback(get: Callable[..., Pulled]) -> None:
    error = failure(get(data_hosts=()))
    assert error.code == "host-refused"
    assert "--data-host 127.0.0.1:" in str(error.hint)


def test_blobs_may_come_without_a_redirect(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    mar.redirect = False
    mar.on("blob").cuts_after(100_000, times=1)
    assert not get().failed
    assert (tmp_path / "out" / "foo.bin").read_bytes() == BLOB
    assert "data" not in mar.kinds()


def test_a_damaged_cache_is_noticed_dropped_and_fetched_again(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path, heard: Heard
) -> None:
    get()
    (tmp_path / "out" / "foo.bin").unlink()
    blob = tmp_path / "cache" / "blobs" / "sha256" / Digest.of(BLOB).encoded
    blob.write_bytes(BLOB[:-1] + b"x")
    mar.asked.clear()
    assert not get().failed
    assert (tmp_path / "out" / "foo.bin").read_bytes() == BLOB
    assert mar.kinds() == ["manifest", "blob", "data"]
    assert any("damaged" in warning for warning in heard.warnings)


# -- concurrent downloads


def test_many_artifacts_go_side_by_side(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    for number in range(40):
        mar.add_artifact(f"aks/many{number}", "1", (f"many{number}.bin", BLOB + bytes([number])))
    busy, most, guard = Counter[str](), Counter[str](), threading.Lock()

    def counted(host: str) -> Callable[[object, bytes, bytes], None]:
        def count(connection: object, head: bytes, body: bytes) -> None:
            with guard:
                busy.update((host, "both"))
                for name in busy:
                    most[name] = max(most[name], busy[name])
            time.sleep(0.05)
            connection.sendall(head + body)  # type: ignore[attr-defined]
            with guard:
                busy.subtract((host, "both"))

        return count

    mar.on("data")._sends(counted("data"), None)
    mar.on("blob")._sends(counted("registry"), None)
    result = get(*(f"aks/many{number}:1" for number in range(40)), jobs=8)
    assert not result.failed
    assert [file.path.name for file in result.files] == [f"many{number}.bin" for number in range(40)]
    assert 4 <= most["data"] <= 8
    assert 4 <= most["registry"] <= 8
    assert most["both"] > 8, "requests to the two hosts run in parallel"
    swept(tmp_path, *(f"many{number}.bin" for number in range(40)))


def test_connections_are_kept(get: Callable[..., Pulled], mar: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from marfetch.remote import connection, dial

    opened = 0
    connect = dial.connect

    def counted(*arguments: object, **options: object) -> object:
        nonlocal opened
        opened += 1
        return connect(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(connection, "connect", counted)
    for number in range(30):
        mar.add_artifact(f"aks/kept{number}", "1", (f"kept{number}.bin", bytes([number])))
    assert not get(*(f"aks/kept{number}:1" for number in range(30)), jobs=4).failed
    assert opened <= 8


@pytest.mark.slow
def test_a_throttle_holds_all_threads_of_the_host(get: Callable[..., Pulled], mar: Registry) -> None:
    for number in range(20):
        mar.add_artifact(f"aks/busy{number}", "1", (f"busy{number}.bin", bytes([number])))
    mar.on("manifest").answers(429, times=1, retry_after="2")
    assert not get(*(f"aks/busy{number}:1" for number in range(20)), jobs=4).failed
    asked = [one for one in mar.asked if one.kind == "manifest"]
    told = asked[0].at
    # Requests that were already sent may still arrive. No new request is sent until the pause ends.
    assert [one for one in asked if told + 0.3 < one.at < told + 2] == []


def test_one_failure_does_not_stop_the_others(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    mar.add_artifact("aks/bar", "1", ("bar.bin", b"bar"))
    result = get("aks/none:1", "aks/foo:1", "aks/bar:1")
    assert [file.path.name for file in result.files] == ["foo.bin", "bar.bin"]
    (failed,) = result.failed
    assert failed.reference.endswith("aks/none:1")
    assert failed.error.exit_code == 3
    swept(tmp_path, "foo.bin", "bar.bin")


def test_one_artifact_named_twice_is_fetched_once(get: Callable[..., Pulled], mar: Registry) -> None:
    result = get("aks/foo:1", "aks/foo:1")
    assert [file.path.name for file in result.files] == ["foo.bin", "foo.bin"]
    assert mar.kinds().count("data") == 1


CLASHES = {
    "one name": (["x.bin"], ["x.bin"]),
    "other case": (["x.bin"], ["X.BIN"]),
    "other normal form": (["é.bin"], ["e\u0301.bin"]),
    "a file and a directory": (["x"], ["x/y.bin"]),
    "within one artifact": (["x.bin", "X.bin"], []),
}


@pytest.mark.parametrize(("one", "other"), CLASHES.values(), ids=CLASHES)
def test_names_that_clash_are_refused_before_the_first_blob(
    get: Callable[..., Pulled], mar: Registry, tmp_path: Path, one: list[str], other: list[str]
) -> None:
    mar.add_artifact("aks/one", "1", *((name, f"one {name}".encode()) for name in one))
    mar.add_artifact("aks/other", "1", *((name, f"other {name}".encode()) for name in other or ["z.bin"]))
    result = get("aks/one:1", "aks/other:1")
    assert {failed.error.exit_code for failed in result.failed} == {9}
    assert {failed.error.code for failed in result.failed} <= {"name-clash", "not-fetched"}
    assert len(result.failed) == 2
    assert set(mar.kinds()) == {"manifest"}
    swept(tmp_path)


def test_a_different_file_is_not_overwritten_unless_forced(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    path = tmp_path / "out" / "foo.bin"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    error = failure(get())
    assert error.code == "file-differs"
    assert error.exit_code == 9
    assert path.read_bytes() == b"mine"
    assert mar.kinds() == ["manifest"]
    assert not get(force=True).failed
    assert path.read_bytes() == BLOB


@pytest.mark.parametrize("thing", ["a directory", "a link", "a dangling link"])
def test_other_things_in_the_way_are_not_followed(get: Callable[..., Pulled], tmp_path: Path, thing: str) -> None:
    path = tmp_path / "out" / "foo.bin"
    path.parent.mkdir()
    outside = tmp_path / "outside"
    if thing == "a directory":
        path.mkdir()
    else:
        if thing == "a link":
            outside.write_bytes(b"mine")
        path.symlink_to(outside)
    assert failure(get()).exit_code == 9
    if thing != "a directory":
        assert not get(force=True).failed
        assert not path.is_symlink()
        assert not outside.exists() or outside.read_bytes() == b"mine"
    else:
        assert failure(get(force=True)).exit_code == 9


def test_all_layers_make_the_cached_artifact_whole(get: Callable[..., Pulled], mar: Registry, tmp_path: Path) -> None:
    result = get("application-lb/charts/alb-controller:1.7.12", choice=Choice(all_layers=True))
    assert not result.failed
    manifest = json.loads((tmp_path / "cache" / "blobs" / "sha256" / str(result.files[0].reference.digest).partition(":")[2]).read_text())
    for blob in (manifest["config"], *manifest["layers"]):
        assert (tmp_path / "cache" / "blobs" / "sha256" / blob["digest"].partition(":")[2]).is_file()
