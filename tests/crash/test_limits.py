"""Limits on memory, processors, open files and file sizes: marfetch streams, or reports what it lacks."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..world.paths import ROOT
from ..world.rows import row
from .scenes import PREPARED, Stage, project, tree
from .sweep import PATIENCE, SWEEP, Count

pytestmark = pytest.mark.timeout(PATIENCE)

SIZE = (2 << 30) + 1 if SWEEP else 300 << 20
"""Size of the blob in bytes. It is a sparse file, which needs hardly any space on the disk."""
MOST = 200 << 20
"""Maximum memory of a command in bytes, including the interpreter and its libraries."""
LIMIT = 400 << 20
"""Maximum address space of a command in bytes, set with `ulimit -v`."""


MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Runs a command and measures it: by a small process, since the memory of the one that starts it counts in."""


@dataclass
class Measured:
    code: int
    peak: int
    err: str


def marfetch(*words: str, cwd: Path, environment: dict[str, str], limits: str = "") -> Measured:
    """Run a command in its own interpreter on one processor, with `ulimit` options, and measure its memory."""
    line = f'{limits} exec taskset -c 0 {sys.executable} -P -m marfetch "$@"'
    with (cwd / ".err").open("w+") as err:
        whole = [sys.executable, "-c", MEASURE, "sh", "-c", line, "sh", *words]
        done = subprocess.run(whole, cwd=cwd, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=err, check=True)
        err.seek(0)
        said = err.read()
    (cwd / ".err").unlink()
    code, peak = map(int, done.stdout.split())
    return Measured(code, peak * 1024, said)


@contextmanager
def served(layout: Path) -> Iterator[str]:
    """Run `marfetch serve`. The usual test registry cannot be used, because it keeps responses in memory."""
    line = [sys.executable, "-P", "-m", "marfetch", "serve", str(layout), "--port", "0"]
    with subprocess.Popen(line, env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(30)


def put(layout: Path, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


@pytest.fixture
def large(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Create a layout with `aks/large:1`. Return its path and the digest of the file in the artifact."""
    layout = tmp_path / "large"
    (layout / "blobs" / "sha256").mkdir(parents=True)
    piece, hasher = bytes(1 << 20), hashlib.sha256()
    for _ in range(SIZE >> 20):
        hasher.update(piece)
    hasher.update(bytes(SIZE % (1 << 20)))
    digest = hasher.hexdigest()
    with (layout / "blobs" / "sha256" / digest).open("wb") as file:
        file.truncate(SIZE)
    title = {"org.opencontainers.image.title": "large.bin"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.unknown.artifact.v1",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", **put(layout, b"{}")},
        "layers": [{"mediaType": "application/octet-stream", "digest": f"sha256:{digest}", "size": SIZE, "annotations": title}],
    }
    entry = {"mediaType": manifest["mediaType"], **put(layout, json.dumps(manifest).encode())}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "mcr.microsoft.com/aks/large:1"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    yield layout, digest
    shutil.rmtree(layout)


@row("F08", "a blob of 300 MiB, with 400 MiB of address space and one processor", "Streams it, in less than 200 MiB of memory", code=0)
def test_content_larger_than_the_memory_is_streamed(large: tuple[Path, str], tmp_path: Path, count: Count) -> None:
    layout, digest = large
    work = tmp_path / "work"
    work.mkdir()
    (work / "marfetch.yaml").write_text("schema: 1\nartifacts:\n  - {reference: 'aks/large:1'}\n")
    peaks = {}
    with served(layout) as endpoint:
        around = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "MARFETCH_CACHE_DIR": str(tmp_path / "cache"),
            "MARFETCH_ENDPOINT": endpoint,
        }
        commands = {
            "pull": ("pull", "aks/large:1"),
            "sync": ("sync",),  # the file exists already, so it is hashed and not downloaded
            "bundle create": ("bundle", "create", "-o", "a.tar"),
            "bundle verify": ("bundle", "verify", "a.tar"),
            "bundle load": ("bundle", "load", "a.tar", "--to", "./mirror"),
            "cache verify": ("cache", "verify"),
        }
        for name, words in commands.items():
            done = marfetch(*words, "--quiet", cwd=work, environment=around, limits=f"ulimit -v {LIMIT >> 10};")
            assert done.code == 0, f"{name}: {done}"
            assert done.peak < MOST, f"`{name}` took {done.peak >> 20} MiB"
            peaks[name] = done.peak
            if name == "bundle load":
                shutil.rmtree(work / "mirror")
                (work / "a.tar").unlink()
    with (work / "large.bin").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    shutil.rmtree(work)
    shutil.rmtree(tmp_path / "cache")
    count(f"commands with a blob of {SIZE >> 20} MiB in {LIMIT >> 20} MiB of addresses", len(peaks))


@row("F08", "a limit on the size of files (`ulimit -f`)", "Names the limit and the next step; leaves nothing incomplete", code=9)
@pytest.mark.parametrize(
    "words",
    [
        ("pull", "aks/one:2.0.0"),
        ("bundle", "create", "-o", "a.tar"),
        ("bundle", "load", "b.tar", "--to", "./mirror"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_limit_on_file_size_is_reported(words: tuple[str, ...], stage: Stage, count: Count) -> None:
    place = stage.root / PREPARED
    (place / "work").mkdir(parents=True)
    project(place / "work", "2.0.0")
    assert stage.run(place, "lock").code == 0
    if words[0] == "bundle":
        assert stage.run(place, "bundle", "create", "-o", "b.tar").code == 0
    before = tree(place / "work")
    child = stage.start(place, *words, "--quiet", limits={"RLIMIT_FSIZE": 100_000})
    child.go()
    ended = child.wait()
    assert ended.code == 9, ended
    assert "file too large" in ended.err
    assert "ulimit -f" in ended.err
    made = {path for path in tree(place / "work") if path not in before and not path.startswith("mirror/")} - {"mirror"}
    assert made <= {"notes.txt"}, made  # only this file is below the limit
    assert all(len(data or b"") < 100_000 for path, data in tree(place / "work").items() if path not in before)
    assert stage.run(place, *words, "--quiet").code == 0
    stage.check_cache(place)
    count("commands with short files")


@row("F02", "a limit of 4 to 32 open files", "Succeeds, or reports too many open files, also if a connection needs one", code=(0, 9))
@pytest.mark.parametrize("words", [("pull", "aks/one:2.0.0", "aks/two:2.0.0", "aks/toy:2.0.0", "--untar"), ("sync",), ("bundle", "create", "-o", "a.tar")], ids=lambda words: words[0])  # fmt: skip
def test_a_limit_on_open_files_is_reported_or_suffices(words: tuple[str, ...], stage: Stage, count: Count) -> None:
    place = stage.root / PREPARED
    (place / "work").mkdir(parents=True)
    project(place / "work", "2.0.0")
    if words[0] == "bundle":
        assert stage.run(place, "lock").code == 0
        shutil.rmtree(place / "cache")
    codes = {}
    for most in (*range(4, 24, 1 if SWEEP else 3), 32):
        one = stage.fresh()
        child = stage.start(one, *words, "--quiet", limits={"RLIMIT_NOFILE": most})
        child.go()
        ended = child.wait()
        codes[most] = ended.code
        assert ended.code in (0, 9), f"with {most} open files: {ended}"
        assert "Traceback" not in ended.err, f"with {most} open files: {ended}"
        if ended.code:
            assert re.search("error: .*too many open files", ended.err), f"with {most} open files: {ended}"
        stage.check_tidy(one)
        stage.check_cache(one)
        assert stage.run(one, *words, "--quiet").code == 0
        stage.drop(one)
    assert codes[4] == 9
    assert codes[32] == 0
    count("limits of open files", len(codes))
