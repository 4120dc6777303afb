"""`pull --output`: one payload under a name that the user chooses, or on stdout. Also artifacts and titles from other clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch.oci import OCI_INDEX, Digest

from ..world.command import Answered, Call, Run, document, on_terminal
from ..world.content import ALB
from ..world.paths import ROOT
from ..world.real import run as program
from ..world.registry import Registry

BYTES = b"\x00\x1b[31m\xff" * 400_000  # larger than the buffer of a pipe, and with an escape sequence


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "here"
    directory.mkdir(exist_ok=True)
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def answered(call: Call) -> Answered:
    """`answered("pull", …)` returns the exit code and the JSON."""

    def do(*words: object) -> tuple[int, dict[str, Any]]:
        code, out, _ = call(*words, "--json")
        return code, json.loads(out)

    return do


@pytest.fixture
def refused(mar: Registry) -> str:
    """Add an artifact with an unsafe title, and return its reference."""
    mar.add_artifact("aks/up", "1.0.0", ("../up.bin", BYTES))
    return "aks/up:1.0.0"


def test_a_refused_title_never_keeps_the_bytes_away(call: Call, here: Path, refused: str) -> None:
    code, out, err = call("pull", refused)
    assert (code, out) == (4, "")
    assert f"{refused} --output FILE" in err.splitlines()[-1]
    for option in ("--output", "-o"):
        code, out, _ = call("pull", refused, option, "sub/mine.bin")
        assert (code, out.split("\t")[:2]) == (0, ["sub/mine.bin", str(Digest.of(BYTES))])
        assert (here / "sub" / "mine.bin").read_bytes() == BYTES
    assert [str(path) for path in here.iterdir()] == [str(here / "sub")]
    assert [path.name for path in (here / "sub").iterdir()] == ["mine.bin"]


def test_the_file_follows_the_rules_of_all_files(answered: Answered, here: Path, mar: Registry, refused: str) -> None:
    (here / "mine.bin").write_text("other")
    code, result = answered("pull", refused, "-o", "mine.bin")
    assert (code, result["error"]["code"]) == (9, "file-differs")
    assert (here / "mine.bin").read_text() == "other"
    code, result = answered("pull", refused, "-o", "mine.bin", "--force")
    assert (code, [(one["path"], one["status"]) for one in result["data"]["files"]]) == (0, [("mine.bin", "fetched")])
    mar.asked.clear()
    code, result = answered("pull", refused, "-o", "mine.bin")
    assert (code, result["data"]["files"][0]["status"]) == (0, "unchanged")
    assert set(mar.kinds()) == {"manifest"}
    (here / "directory").mkdir()
    assert answered("pull", refused, "-o", "directory")[0] == 9
    (here / "link").symlink_to("directory")
    assert answered("pull", refused, "-o", "link/mine.bin")[0] == 0
    assert (here / "directory" / "mine.bin").read_bytes() == BYTES
    code, result = answered("pull", refused, "-o", ".git/config")
    assert (code, result["error"]["code"]) == (4, "path-refused")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((ALB, "-o", "x", "--untar"), "`--untar`"),
        ((ALB, "-o", "x", "--untardir", "y"), "`--untar`"),
        ((ALB, ALB, "-o", "x"), "2 references"),
        ((ALB, "-o", "x", "-d", "y"), "`--destination`"),
        ((ALB, "-o", ""), "the name of a file"),
        ((ALB, "-o", "x/"), "the name of a file"),
        ((ALB, "-o", ".."), "the name of a file"),
        ((ALB, "-o", "x/."), "the name of a file"),
        ((ALB, "-o", "-", "--json"), "`--json`"),
        ((ALB, "-o", "/dev/stdout", "--json"), "`--json`"),
    ],
)
def test_options_that_cannot_be_combined_are_exit_2_before_any_request(
    call: Call, here: Path, mar: Registry, arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = call("pull", *arguments)
    assert code == 2
    assert words in out + err
    assert mar.asked == []
    assert list(here.iterdir()) == []


def test_several_payloads_are_named_and_chosen_by_media_type(call: Call, answered: Answered, here: Path, mar: Registry) -> None:
    layers = [
        {"mediaType": media_type, "digest": str(blob.digest), "size": blob.size, "annotations": {"org.opencontainers.image.title": title}}
        for media_type, title, blob in (("text/plain", "a.txt", mar.add_blob(b"a")), ("text/html", "../b", mar.add_blob(b"b")))
    ]
    mar.add_artifact("aks/two", "1.0.0", layers=layers)
    code, result = answered("pull", "aks/two:1.0.0", "-o", "x")
    assert (code, result["error"]["code"], result["error"]["names"]) == (2, "payload-ambiguous", ["a.txt", "../b"])
    assert not {"blob", "data"} & set(mar.kinds())
    assert call("pull", "aks/two:1.0.0", "-o", "-", "--media-type", "text/html")[:2] == (0, "b")
    code, result = answered("pull", "aks/two:1.0.0", "-o", "x", "--kind", "chart")
    assert (code, result["error"]["code"]) == (4, "kind-refused")
    assert list(here.iterdir()) == []
    code, out, _ = call("pull", f"{ALB}:1.7.12", "-o", "chart.tgz")
    assert code == 0
    assert out.startswith("chart.tgz\t")


def piped(run: Run, *words: str) -> tuple[int, bytes]:
    """Run a command, and return the exit code, and stdout as bytes."""
    with Path("out").open("wb") as out:
        done = run(*words, stdout=out)
    return done.returncode, Path("out").read_bytes()


def test_stdout_gets_the_bytes_and_nothing_else(run: Run, here: Path, mar: Registry, refused: str) -> None:
    for name in ("-", "/dev/stdout"):
        assert piped(run, "pull", refused, "-o", name) == (0, BYTES)
    assert piped(run, "pull", refused, "-o", "-", "--offline") == (0, BYTES)
    assert {path.name for path in here.iterdir()} == {"out"}


def test_nothing_unverified_reaches_stdout(run: Run, here: Path, mar: Registry, refused: str) -> None:
    mar.on("data").answers_with(BYTES[:-1] + b"x")
    assert piped(run, "pull", refused, "-o", "-") == (5, b"")
    mar.honestly()
    mar.on("data").cuts_after(100_000, times=1)
    assert piped(run, "pull", refused, "-o", "-") == (0, BYTES)


def test_a_changed_cache_is_noticed_before_stdout_gets_anything(call: Call, here: Path, tmp_path: Path, mar: Registry) -> None:
    mar.add_artifact("aks/small", "1.0.0", ("small.txt", b"small"))
    assert call("pull", "aks/small:1.0.0", "-o", "-")[:2] == (0, "small")
    cached = tmp_path / "cache" / "blobs" / "sha256" / Digest.of(b"small").encoded
    cached.chmod(0o600)
    cached.write_bytes(b"smell")
    assert call("pull", "aks/small:1.0.0", "-o", "-")[:2] == (0, "small")


def test_a_failure_is_reported_by_exit_code_and_stderr(call: Call, here: Path, mar: Registry) -> None:
    code, out, err = call("pull", "aks/none:1", "-o", "-")
    assert (code, out) == (3, "")
    assert "error: " in err
    code, out, err = call("pull", "no:reference:at-all", "-o", "-")
    assert (code, out) == (2, "")


def test_devices_and_pipes_are_written_to_and_stay(call: Call, answered: Answered, here: Path, refused: str) -> None:
    code, out, _ = call("pull", refused, "-o", "/dev/null")
    assert (code, out.split("\t")[0]) == (0, "/dev/null")
    assert Path("/dev/null").is_char_device()
    os.mkfifo("pipe")
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(Path("pipe").read_bytes()))
    thread.start()
    code, result = answered("pull", refused, "--output", "pipe", "--force")
    thread.join(30)
    assert (code, result["data"]["files"][0]["path"], got == [BYTES]) == (0, "pipe", True)
    assert Path("pipe").is_fifo()


def test_a_reader_that_has_enough_ends_the_command_silently(mar: Registry, refused: str) -> None:
    line = f"{sys.executable} -m marfetch pull {mar.host}/{refused} --data-host {mar.data_host} -o - | head -c 2; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, BYTES[:2])
    assert b"Traceback" not in done.stderr


def test_a_full_disk_under_stdout_is_exit_9(mar: Registry, refused: str) -> None:
    line = f"{sys.executable} -m marfetch pull {mar.host}/{refused} --data-host {mar.data_host} -o - > /dev/full"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 9
    assert "disk is full" in done.stderr


def test_a_terminal_gets_no_payload(mar: Registry, here: Path, refused: str) -> None:
    environment = {"MARFETCH_ENDPOINT": f"http://{mar.host}", "MARFETCH_DATA_HOSTS": mar.data_host, "TERM": "xterm"}
    code, _, seen = on_terminal(["pull", refused, "-o", "/dev/stderr"], environment, here)
    assert code == 2
    assert "to a terminal" in seen
    assert "\x1b[31m" not in seen


# -- referrers


def attached(mar: Registry) -> tuple[str, dict[str, Any]]:
    """Return the reference of a manifest, and the `subject` field for its referrers."""
    subject = mar.add_artifact("aks/foo", "1.0.0", ("x.txt", b"x"))
    return "aks/foo:1.0.0", {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size}


def test_a_referrer_with_a_refused_title_is_reported_and_the_others_are_written(run: Run, here: Path, mar: Registry) -> None:
    reference, subject = attached(mar)
    bad = mar.add_artifact("aks/foo", "bad", ("../../evil", b"evil"), subject=subject, artifactType="application/x")
    good = mar.add_artifact("aks/foo", "good", ("good.txt", b"good"), subject=subject, artifactType="application/x")
    none = mar.add_artifact("aks/foo", "none", subject=subject, artifactType="application/x")
    done = run("referrers", reference, "--fetch", "--json")
    result = document(done)
    assert (done.returncode, [one["code"] for one in result["data"]["failed"]]) == (4, ["name-refused"])
    assert [one["path"] for one in result["data"]["files"]] == [f"foo.referrers/{good.digest.encoded}/good.txt"]
    assert [path.name for path in here.rglob("*") if path.is_file()] == ["good.txt"]
    assert f"@{none.digest}` has no layers" in done.stderr
    hint = result["data"]["failed"][0]["hint"]
    assert hint.endswith(f"marfetch pull {mar.host}/aks/foo@{bad.digest} --output FILE")
    saved = run(*hint.partition("marfetch ")[2].replace("FILE", "evil.txt").split())
    assert (saved.returncode, (here / "evil.txt").read_bytes()) == (0, b"evil")


def test_a_strange_referrer_among_referrers_is_reported_and_the_others_are_shown(answered: Answered, here: Path, mar: Registry) -> None:
    reference, subject = attached(mar)
    withdrawn = "application/vnd.oci.artifact.manifest.v1+json"
    document = json.dumps({"mediaType": withdrawn, "artifactType": "application/x", "blobs": []})
    old = mar.add_manifest("aks/foo", "old", document.encode())
    good = mar.add_artifact("aks/foo", "good", ("good.txt", b"good"), subject=subject, artifactType="application/x")
    listed = [
        {"mediaType": one.media_type, "digest": str(one.digest), "size": one.size, "artifactType": "application/x"} for one in (old, good)
    ]
    subject_digest = subject["digest"]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [None, *listed]}
    mar.on("referrers", f"referrers/{subject_digest}").answers(200, json.dumps(index), Content_Type=OCI_INDEX)
    mar.on("referrers", f"referrers/{old.digest}").answers(200, "{}", Content_Type=OCI_INDEX)
    code, result = answered("referrers", reference)
    assert code == 0
    assert {one["digest"] for one in result["data"]["referrers"]} == {str(old.digest), str(good.digest)}
    assert answered("inspect", reference)[0] == 0
    mar.on("manifest", str(old.digest)).answers(200, document, Content_Type=withdrawn)
    code, result = answered("referrers", reference, "--fetch")
    assert (code, [one["code"] for one in result["data"]["failed"]]) == (4, ["manifest-withdrawn"])
    assert [Path(one["path"]).name for one in result["data"]["files"]] == ["good.txt"]


# -- pipes to real programs


def test_what_real_oras_pushes_with_strange_titles_is_pulled(
    tool: Callable[[str], Path], registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    oras = tool("oras")
    monkeypatch.setenv("MARFETCH_ENDPOINT", f"http://{registry}")
    source = tmp_path / "source"
    (source / "conf").mkdir(parents=True)
    (source / "conf" / "a.txt").write_text("a")
    program(oras, "push", "--plain-http", f"{registry}/aks/conf:1.0.0", ".", cwd=source)
    (source / "a.txt").write_text("a")
    program(
        oras, "push", "--plain-http", "--disable-path-validation", f"{registry}/aks/up:1.0.0", "../a.txt:text/plain", cwd=source / "conf"
    )

    def pull(*words: str) -> subprocess.CompletedProcess[bytes]:
        line = [sys.executable, "-m", "marfetch", "pull", *words]
        return subprocess.run(line, cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60, check=False)

    assert pull(f"{registry}/aks/conf:1.0.0").stdout.startswith(b"conf-1.0.0.tar.gz\t")
    assert pull(f"{registry}/aks/conf:1.0.0", "--untar").returncode == 0
    program(oras, "pull", "--plain-http", f"{registry}/aks/conf:1.0.0", "-o", tmp_path / "theirs")
    assert (here / "conf" / "conf" / "a.txt").read_text() == (tmp_path / "theirs" / "conf" / "a.txt").read_text() == "a"
    assert pull(f"{registry}/aks/up:1.0.0").returncode == 4
    assert pull(f"{registry}/aks/up:1.0.0", "-o", "-").stdout == b"a"
