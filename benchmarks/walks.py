"""`python -m benchmarks.walks`: count the modules and calls of a command, and how often it parses and hashes the same bytes.

Three commands run with an empty cache against the test registry, each in a separate process under a profiler:

- modules entered: modules of marfetch in which at least one function runs;
- hops: calls from one module of marfetch into another, directly or through a library;
- parses: how often each manifest is parsed;
- hashing: hashed bytes of each blob or manifest, as a multiple of its size.

Code that runs while a module is imported does not count. Threads make the hops vary a little, so each number is the minimum of three runs.
`--write` writes the numbers into the table in `docs/design.md`. `--details N` lists the N most frequent hops and how often each digest is
hashed and parsed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
DESIGN = ROOT / "docs" / "design.md"
RUNS = 3
CHART = "application-lb/charts/alb-controller"
PROJECT = f"""schema: 1
artifacts:
  - {{reference: {CHART}, version: 1.7.12}}
  - {{reference: azure-application-gateway/charts/ingress-azure, version: 1.9.1}}
  - {{reference: bicep/avm/res/storage/storage-account, version: 0.14.0}}
"""
_GENERATOR = 0x20  # inspect.CO_GENERATOR, without loading `inspect`


# -- in the traced process


class Trace:
    """Profiler that counts calls, parses and hashed bytes of marfetch while it is installed."""

    def __init__(self) -> None:
        self.hops: Counter[tuple[str, str]] = Counter()
        self.modules: set[str] = set()
        self.parses: Counter[str] = Counter()
        self.hashed: dict[str, list[int]] = defaultdict(list)
        self._sha256, self._new = hashlib.sha256, hashlib.new

    def install(self) -> None:
        """Start counting in all threads. Call it before marfetch is imported, because marfetch imports names from `hashlib`."""
        trace = self

        class Counting:
            """Hash object that reports the number of hashed bytes when its digest is computed."""

            def __init__(self, real: Any, data: bytes = b"") -> None:
                self._real, self._size, self._told = real, 0, False
                self.update(data)

            def update(self, data: Any) -> None:
                self._size += memoryview(data).nbytes
                self._real.update(data)

            def digest(self) -> bytes:
                self._tell()
                digest: bytes = self._real.digest()
                return digest

            def hexdigest(self) -> str:
                self._tell()
                return str(self._real.hexdigest())

            def _tell(self) -> None:
                if not self._told:
                    self._told = True
                    trace.hashed[self._real.hexdigest()].append(self._size)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        hashlib.sha256 = lambda data=b"", **_: Counting(trace._sha256(), data)  # type: ignore[assignment]
        hashlib.new = lambda name, data=b"", **_: Counting(trace._new(name), data)  # type: ignore[assignment]
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def remove(self) -> None:
        """Stop counting."""
        sys.setprofile(None)
        threading.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        module = _module(frame)
        if event != "call" or module is None or frame.f_code.co_name == "<module>" or _is_resumed(frame):
            return
        caller = frame.f_back
        while caller is not None and _module(caller) is None:
            caller = caller.f_back
        if caller is not None and caller.f_code.co_name == "<module>" and _module(caller) != "__main__":
            return  # a module is being imported
        self.modules.add(module)
        came_from = _module(caller) if caller is not None else None
        if came_from is not None and came_from != module:
            self.hops[came_from, module] += 1
        if (module, frame.f_code.co_name) == ("oci", "parse_manifest"):
            self.parses[self._sha256(frame.f_locals["raw"]).hexdigest()] += 1

    def document(self) -> dict[str, Any]:
        """Return the counts as a JSON document."""
        hops = [[*pair, count] for pair, count in self.hops.most_common()]
        return {"modules": sorted(self.modules), "hops": hops, "parses": self.parses, "hashed": self.hashed}


def _module(frame: FrameType) -> str | None:
    """Return the module of a frame, dotted below the package; None outside marfetch."""
    package, _, module = str(frame.f_globals.get("__name__", "")).partition(".")
    return module if package == "marfetch" and module else None


def _is_resumed(frame: FrameType) -> bool:
    """Return whether the frame is a generator that resumes, which the profiler reports as a call."""
    if not frame.f_code.co_flags & _GENERATOR:
        return False
    return frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti + 1] & 3 != 0  # the argument of RESUME: 0 at the start


def traced(out: Path, words: list[str]) -> int:
    """Run a command in this process and write the counts into a file."""
    trace = Trace()
    trace.install()
    from marfetch.__main__ import main  # after the hashes are counted

    try:
        return main(words)
    finally:
        trace.remove()
        out.write_text(json.dumps(trace.document()))


# -- in the starting process


def walks(directory: Path, environment: dict[str, str], host: str) -> dict[str, Callable[[Path], list[str]]]:
    """Return name → function that builds the command line for a run in a directory."""
    project = directory / "project"
    project.mkdir()
    (project / "marfetch.yaml").write_text(PROJECT)
    line = [sys.executable, "-m", "marfetch", "lock", "--quiet", "--cache-dir", str(directory / "locking")]
    subprocess.run(line, cwd=project, env=environment, check=True, capture_output=True)
    wanted = str(project / "marfetch.yaml")
    return {
        "pull": lambda place: ["pull", CHART, "--version", "1.7.12", "--quiet", "-d", str(place / "out")],
        "bundle create": lambda place: ["bundle", "create", "--quiet", "-f", wanted, "-o", str(place / "bundle.tar")],
        "getter": lambda _: ["getter", "", "", "", f"mar://{host}/{CHART}:1.7.12/alb-controller-1.7.12.tgz"],
    }


def counted(sizes: dict[str, int], document: dict[str, Any]) -> dict[str, str]:
    """Return the measures of one run as strings.

    Args:
        sizes: sizes of all content in the registry, by digest.
    """
    parses = document["parses"].values()
    multiples = [sum(fed) / sizes[digest] for digest, fed in document["hashed"].items() if digest in sizes]
    return {
        "modules entered": str(len(document["modules"])),
        "hops": str(sum(count for *_, count in document["hops"])),
        "parses of each manifest": _mean(list(parses)),
        "hashing of each blob": _mean(multiples),
    }


def _mean(numbers: list[float]) -> str:
    return f"{sum(numbers) / max(1, len(numbers)):.1f}"


def measure(details: int) -> dict[str, dict[str, str]]:
    """Return the measures of each walk.

    Args:
        details: number of most frequent hops to print, followed by each digest.
    """
    from marfetch.demo.recipe import build
    from marfetch.layout.layout import Layout
    from marfetch.reference import Host
    from tests.world.registry import Registry

    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="marfetch-walks-") as scratch:
        directory = Path(scratch)
        layout = Layout(directory / "registry")
        build(layout, Host("mar.test"))
        sizes = {path.name: path.stat().st_size for path in (directory / "registry" / "blobs" / "sha256").iterdir()}
        sizes = {digest: size for digest, size in sizes.items() if size > 2}  # skip `{}` and the empty blob, which need no registry
        with Registry(layout, names=Host("mar.test")) as registry:
            environment = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "HOME": scratch,
                "MARFETCH_ENDPOINT": f"{registry.scheme}://{registry.host}",
                "MARFETCH_DATA_HOSTS": registry.data_host,
            }
            for name, line in walks(directory, environment, str(registry.host)).items():
                documents = []
                for number in range(RUNS):
                    place = directory / f"{name} {number}"
                    place.mkdir()
                    own = [sys.executable, "-m", "benchmarks.walks", "--trace", str(place / "trace.json"), *line(place)]
                    cold = {**environment, "MARFETCH_CACHE_DIR": str(place / "cache"), "XDG_STATE_HOME": str(place / "state")}
                    done = subprocess.run(own, cwd=ROOT, env=cold, capture_output=True, check=False)
                    if done.returncode:
                        sys.exit(f"{name} failed: {done.stderr.decode()}")
                    documents.append(json.loads((place / "trace.json").read_text()))
                least = min(documents, key=lambda one: sum(count for *_, count in one["hops"]))
                found[name] = counted(sizes, least)
                for source, target, count in least["hops"][:details]:
                    print(f"{name}: {count:5} {source} → {target}")
                for digest, fed in least["hashed"].items() if details else ():
                    if digest in sizes:
                        print(
                            f"{name}: {sum(fed) / sizes[digest]:.1f} × {digest[:12]}, {sizes[digest]} bytes; parsed {least['parses'].get(digest, 0)} times"
                        )
    return found


def main() -> None:
    """Measure and print, or run as the measured process (`--trace`)."""
    if sys.argv[1:2] == ["--trace"]:
        sys.exit(traced(Path(sys.argv[2]), sys.argv[3:]))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.walks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the numbers into the table in docs/design.md")
    parser.add_argument("--details", type=int, default=0, metavar="N", help="list the N most frequent hops, and each digest")
    options = parser.parse_args()
    found = measure(options.details)
    for walk, numbers in found.items():
        print(f"{walk}: {', '.join(f'{number} {what}' for what, number in numbers.items())}")
    if options.write:
        text = DESIGN.read_text()
        for walk, numbers in found.items():
            text = re.sub(rf"^(\| `{walk}`[^|]*) \|[ 0-9.|]+$", rf"\1 | {' | '.join(numbers.values())} |", text, flags=re.MULTILINE)
        DESIGN.write_text(text)


if __name__ == "__main__":
    main()
