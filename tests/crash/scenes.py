"""Commands that are interrupted: the files before, the files after, and the files allowed in between.

Each scene is prepared once and run once to its end. Then it is run many times from the same initial state, each time with another fault.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from marfetch.destination.created import CreatedDirectories, CreatedDirectory

from ..world.archives import chart, file
from ..world.charts import add_chart
from ..world.paths import ROOT
from ..world.registry import Asked, Registry
from .nursery import Child, Ended, Nursery

TEMPORARY: Final = re.compile(r"\.marfetch-[0-9a-f]{16}\.part")
"""Temporary files that may remain beside a final name until the next run."""
PREPARED: Final = "prepared"


def content(name: str, size: int) -> bytes:
    """Return reproducible, unique bytes."""
    return random.Random(name).randbytes(size)


def fill(mar: Registry) -> None:
    """Add the artifacts to fetch, each in two versions."""
    for number in (1, 2):
        version = f"{number}.0.0"
        mar.add_artifact("aks/one", version, ("one.bin", content(f"one {number}", 300_000)), ("notes.txt", content(f"notes {number}", 40)))
        mar.add_artifact("aks/two", version, ("two.bin", content(f"two {number}", 5_000)))
        more = [file(f"toy/templates/{name}.yaml", content(f"{name} {number}", 700)) for name in ("a", "b", "c")]
        add_chart(mar, "aks/toy", version, chart("toy", version, *more))
    config = b"{}"
    mar.add_blob(config)


def tree(root: Path) -> dict[str, bytes | None]:
    """Return the content of all files below a directory, by relative path. The value of a directory is None."""
    found: dict[str, bytes | None] = {}
    for directory, names, files in os.walk(root):
        below = Path(directory).relative_to(root)
        found.update({(below / name).as_posix(): None for name in names})
        found.update({(below / name).as_posix(): Path(directory, name).read_bytes() for name in files})
    return found


def is_temporary(path: str) -> bool:
    """Return whether a path is, or is inside, a temporary file or directory that the next run removes or resumes."""
    parts = path.split("/")
    return any(TEMPORARY.fullmatch(part) for part in parts) or (parts[0] == "mirror" and parts[1:2] == ["ingest"])


def project(place: Path, version: str) -> None:
    """Write a project file with this version of all artifacts."""
    place.mkdir(parents=True, exist_ok=True)
    items = (
        f"reference: aks/one, version: {version}",
        f"reference: aks/two, version: {version}, destination: below/two",
        f"reference: aks/toy, version: {version}, untar: true",
    )
    (place / "marfetch.yaml").write_text("schema: 1\nartifacts:" + "".join(f"\n  - {{{one}}}" for one in items) + "\n")


@dataclass(frozen=True)
class Scene:
    """A command and its preparation.

    Attributes:
        words: the arguments of the command.
        before: the preparation: command lines to run, and functions to call with the directory.
        wholes: directories that must be complete (old or new), or absent.
        keeps_cache: whether the command uses the cache of the preparation; otherwise its cache is empty.
    """

    name: str
    words: tuple[str, ...]
    before: tuple[tuple[str, ...] | Callable[[Path], None], ...]
    wholes: tuple[str, ...] = ()
    keeps_cache: bool = False

    def __str__(self) -> str:
        return self.name


SYNC: Final = ("sync", "--quiet")
SCENES: Final = {
    scene.name: scene
    for scene in (
        Scene(
            "pull",
            ("pull", "aks/one:2.0.0", "-d", "out", "--force", "--quiet"),
            (("pull", "aks/one:1.0.0", "-d", "out", "--quiet"),),
        ),
        Scene("pull-new", ("pull", "aks/one:2.0.0", "aks/two:2.0.0", "-d", "out", "--quiet"), ()),
        Scene(
            "untar",
            ("pull", "aks/toy:2.0.0", "--untar", "-d", "out", "--force", "--quiet"),
            (("pull", "aks/toy:1.0.0", "--untar", "-d", "out", "--quiet"),),
            wholes=("out/toy",),
        ),
        Scene("untar-new", ("pull", "aks/toy:2.0.0", "--untar", "-d", "out", "--quiet"), (), wholes=("out/toy",)),
        Scene(
            "sync",
            SYNC,
            (lambda place: project(place, "1.0.0"), SYNC, lambda place: project(place, "2.0.0")),
            wholes=("toy",),
        ),
        Scene(
            "lock",
            ("lock", "--quiet"),
            (lambda place: project(place, "1.0.0"), ("lock", "--quiet"), lambda place: project(place, "2.0.0")),
        ),
        Scene(
            "bundle-create",
            ("bundle", "create", "-o", "sent/a.tar", "--quiet"),
            (
                lambda place: project(place, "1.0.0"),
                ("lock", "--quiet"),
                ("bundle", "create", "-o", "sent/a.tar", "--quiet"),
                lambda place: project(place, "2.0.0"),
                ("lock", "--quiet"),
            ),
        ),
        Scene(
            "bundle-load",
            ("bundle", "load", "new.tar", "--to", "./mirror", "--quiet"),
            (
                lambda place: project(place, "1.0.0"),
                ("lock", "--quiet"),
                ("bundle", "create", "-o", "old.tar", "--quiet"),
                ("bundle", "load", "old.tar", "--to", "./mirror", "--quiet"),
                lambda place: project(place, "2.0.0"),
                ("lock", "--quiet"),
                ("bundle", "create", "-o", "new.tar", "--quiet"),
            ),
        ),
    )
}


@dataclass
class Stage:
    """The environment in which scenes run.

    Attributes:
        root: the directory that contains `prepared`, and a directory for each run.
    """

    mar: Registry
    nursery: Nursery
    root: Path
    tries: int = 0
    _after: dict[str, bytes | None] = field(default_factory=dict, repr=False)
    _before: dict[str, bytes | None] = field(default_factory=dict, repr=False)

    # -- running

    def environment(self, place: Path) -> dict[str, str]:
        """Return the environment variables for a command in a directory. Its cache and state are inside the directory, its home is not."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "home"),
            "MARFETCH_CACHE_DIR": str(place / "cache"),
            "XDG_STATE_HOME": str(place / "state"),
            "MARFETCH_ENDPOINT": f"http://{self.mar.host}",
            "MARFETCH_DATA_HOSTS": self.mar.data_host,
        }

    def start(self, place: Path, *words: str, limits: dict[str, int] | None = None) -> Child:
        """Start a command in a directory. It waits for `go`."""
        return self.nursery.start(*words, cwd=place / "work", environment=self.environment(place), limits=limits)

    def run(self, place: Path, *words: str) -> Ended:
        """Run a command to its end, without a fault."""
        child = self.start(place, *words)
        child.go()
        return child.wait()

    def python(self, place: Path, code: str, *words: str) -> Ended:
        """Run Python code in a separate process. The code may patch marfetch to cause a fault."""
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *words],
            cwd=place / "work",
            env={**self.environment(place), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def prepare(self, scene: Scene) -> None:
        """Prepare the files before the scene and, in a separate directory, the expected files after it."""
        place = self.root / PREPARED
        (place / "work").mkdir(parents=True)
        for step in scene.before:
            if callable(step):
                step(place / "work")
            else:
                ended = self.run(place, *step)
                assert ended.code == 0, f"{step}: {ended}"
        if not scene.keeps_cache:
            shutil.rmtree(place / "cache", ignore_errors=True)
        self._before = tree(place / "work")
        whole = self.fresh()
        ended = self.run(whole, *scene.words)
        assert ended.code == 0, ended
        self._after = tree(whole / "work")
        assert self._after != self._before, "a scene must change at least one file"
        assert not any(is_temporary(path) for path in self._after), sorted(self._after)
        shutil.rmtree(whole)

    def fresh(self) -> Path:
        """Return a new directory with the files before the scene."""
        self.tries += 1
        place = self.root / f"try{self.tries}"
        shutil.copytree(self.root / PREPARED, place, symlinks=True)
        # The records contain paths, so adapt them to the copy.
        for record in (place / "state" / "marfetch" / "directories").glob("*.json"):
            document = json.loads(record.read_bytes())
            record.unlink()
            path = place / Path(document["path"]).relative_to(self.root / PREPARED)
            CreatedDirectories(place / "state" / "marfetch").put(path, CreatedDirectory(path.stat().st_ino, document["files"]))
        return place

    # -- looking

    def check_finals(self, scene: Scene, place: Path) -> None:
        """Check that final names have the old or the new content, and nothing else."""
        now = {path: data for path, data in tree(place / "work").items() if not is_temporary(path)}
        for top in scene.wholes:
            part, before, after = (below(one, top) for one in (now, self._before, self._after))
            assert part in (before, after), f"`{top}` is neither the old nor the new one: {sorted(part)}"
        for path, data in now.items():
            allowed = [one[path] for one in (self._before, self._after) if path in one]
            assert data in allowed or is_mixed(path, data, allowed), (
                f"`{path}` has wrong bytes" if allowed else f"no file is expected at `{path}`"
            )
        lost = {path for path in self._before if path in self._after} - set(now)
        assert not lost, f"these files were lost: {sorted(lost)}"

    def check_tidy(self, place: Path) -> None:
        """Check that no temporary files are left."""
        left = [path for path in tree(place / "work") if is_temporary(path) and not path.startswith("mirror/ingest")]
        assert not left, f"these temporary files are left: {left}"

    def check_ended(self, place: Path) -> None:
        """Check that all files have the expected content after the scene."""
        now = {path: data for path, data in tree(place / "work").items() if not is_temporary(path)}
        assert now == self._after, "the exit code is 0, but the files are not as expected"

    def check_unchanged(self, place: Path) -> None:
        """Check that all files are the same as before the scene. Only a new directory may remain."""
        now = tree(place / "work")
        made = {path for path, data in now.items() if path not in self._before and data is not None}
        assert not made, f"these new files are left: {sorted(made)}"
        changed = {path for path, data in self._before.items() if now.get(path, b"gone") != data}
        assert not changed, f"these were changed: {sorted(changed)}"

    def check_cache(self, place: Path) -> None:
        """Check that `cache verify` and our own hash of every blob find no damage."""
        if not (place / "cache").exists():
            return
        bad = [path.name for path in blobs(place) if hashlib.sha256(path.read_bytes()).hexdigest() != path.name]
        assert not bad, f"blobs with wrong bytes, or files that are not blobs: {bad}"
        ended = self.run(place, "cache", "verify")
        assert ended.code == 0, ended

    def check_recovery(self, scene: Scene, place: Path) -> None:
        """Check that the same command, run again, succeeds, requests only missing content, and leaves no temporary files."""
        complete = {path.name for path in blobs(place)}
        partial = {path.name.rpartition("-")[2]: path.stat().st_size for path in parts(place)}
        self.mar.honestly()
        ended = self.run(place, *scene.words)
        assert ended.code == 0, ended
        check_asked(self.mar.asked, complete, partial)
        assert tree(place / "work") == self._after, "the second run must have the same result as a run without faults"
        if (place / "cache").exists():
            left = [path.relative_to(place).as_posix() for path in (place / "cache").rglob("*") if is_left(path)]
            assert not left, f"the second run leaves these in the cache: {left}"

    def close(self) -> None:
        """Delete the directories of all scenes."""
        self.mar.honestly()
        shutil.rmtree(self.root / PREPARED)

    def drop(self, place: Path) -> None:
        """Delete the directory of a run."""
        shutil.rmtree(place)


def below(found: dict[str, bytes | None], top: str) -> dict[str, bytes | None]:
    """Return the part of a `tree` that is below a directory."""
    return {path: data for path, data in found.items() if path == top or path.startswith(f"{top}/")}


def blobs(place: Path) -> list[Path]:
    """Return the blobs and partial blobs in the cache."""
    return sorted((place / "cache" / "blobs").glob("*/*")) + sorted((place / "cache" / "blobs").glob("*/.*"))


def parts(place: Path) -> Iterator[Path]:
    """Yield the incomplete blobs in the cache."""
    yield from sorted((place / "cache" / "ingest").glob("sha256-*"))


def is_left(path: Path) -> bool:
    """Return whether a file in the cache is temporary."""
    if path.is_dir():
        return False
    stays = (
        path.name in ("oci-layout", "index.json", "index.lock", "use.lock")
        or path.parent.parent.name == "blobs"
        or path.parent.name == "projects"
    )
    return not stays or path.name.startswith(".") or path.suffix == ".part"


def check_asked(asked: list[Asked], complete: set[str], partial: dict[str, int]) -> None:
    """Check that no complete blob was requested again, and that partial blobs were resumed."""
    begun = set()
    for one in asked:
        found = re.search(r"[0-9a-f]{64}", one.target)
        if one.kind not in ("manifest", "blob", "data") or found is None:
            continue
        digest = found[0]
        assert digest not in complete, f"this blob was already in the cache: {one}"
        if one.kind == "data" and digest not in begun:
            begun.add(digest)
            held = partial.get(digest, 0)
            wanted = f"bytes={held}-" if held else None
            assert one.headers.get("range") == wanted, f"{held} bytes were already downloaded: {one} {one.headers}"


ENTRIES: Final = {"marfetch.lock": "artifacts", "mirror/index.json": "manifests"}
"""File → key of its entries. If one artifact fails, the entries of the other artifacts are still updated."""


def is_mixed(path: str, data: bytes | None, allowed: list[bytes | None]) -> bool:
    """Return whether a file is complete, and each of its entries is either old or new."""
    if path not in ENTRIES or data is None:
        return False
    document = json.loads(data)
    others = [json.loads(one) for one in allowed if one is not None]
    entries = document.pop(ENTRIES[path])
    known = [entry for one in others for entry in one.pop(ENTRIES[path])]
    return all(entry in known for entry in entries) and document in others
