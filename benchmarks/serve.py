"""`python -m benchmarks.serve`: compare `marfetch serve` with the registry of distribution, for docs/performance.md.

If `httptools` is installed, marfetch with that parser is measured too. The environment variable `RUNS` sets the number of runs (5).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from marfetch.artifact.kinds import HELM_CHART, HELM_CONFIG
from marfetch.layout.layout import Layout
from marfetch.oci import Digest
from marfetch.reference import Host, Reference
from tests.world import tools
from tests.world.real import distribution, run

from .stage import put_artifact

ROOT = Path(__file__).parents[1]
HOST = Host("bench.test")
ARTIFACTS = 1000
MIDDLE = 384 << 10  # bytes
LARGE = 1 << 30
H11 = "marfetch, h11"

SCENES = {
    "manifests, 1 client": ("/v2/bench/chart0/manifests/1.0.0", 1, 1500),
    "manifests, 50 clients": ("/v2/bench/chart0/manifests/1.0.0", 50, 5000),
    "manifests, 200 clients": ("/v2/bench/chart0/manifests/1.0.0", 200, 5000),
    "384 KiB blobs, 50 clients": ("/v2/bench/chart0/blobs/{middle}", 50, 2000),
    "1 GiB blob, 1 client": ("/v2/bench/large/blobs/{large}", 1, 2),
}


@dataclass
class Server:
    """A server and its results by scenario."""

    name: str
    port: int
    pid: int
    found: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """Peak memory of the process in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def fill(layout: Layout) -> dict[str, str]:
    """Create a thousand charts, the first with a medium-sized blob, and a large file."""
    digests = {}
    for number in range(ARTIFACTS):
        data = secrets.token_bytes(MIDDLE if number == 0 else 2000)
        config = json.dumps({"name": f"chart{number}", "version": "1.0.0"}).encode()
        put_artifact(layout, Reference(f"bench/chart{number}", HOST, "1.0.0"), [(HELM_CHART, data, None)], (HELM_CONFIG, config))
        if number == 0:
            digests["middle"] = str(Digest.of(data))
    large = secrets.token_bytes(LARGE)
    digests["large"] = str(Digest.of(large))
    put_artifact(layout, Reference("bench/large", HOST, "1.0.0"), [("application/octet-stream", large, "large.bin")], (HELM_CONFIG, b"{}"))
    layout.names.flush()
    return digests


WITHOUT_HTTPTOOLS = "import sys; sys.modules['httptools'] = None; from marfetch.__main__ import program; program()"


@contextlib.contextmanager
def served(name: str, path: Path) -> Iterator[tuple[Server, float]]:
    """Start `marfetch serve` on a free port; also return the seconds until it printed its address."""
    program = ["-c", WITHOUT_HTTPTOOLS] if name == H11 else ["-m", "marfetch"]
    begun = time.perf_counter()
    line = [sys.executable, *program, "serve", str(path), "--port", "0", "--quiet"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        took = time.perf_counter() - begun
        try:
            yield Server(name, int(address.rpartition(":")[2]), process.pid), took
        finally:
            process.terminate()


def measure(server: Server, scene: str, digests: dict[str, str]) -> None:
    """Run one scenario once."""
    path, clients, requests = SCENES[scene]
    line = [sys.executable, "-m", "benchmarks.load", str(server.port), path.format(**digests), str(clients), str(requests)]
    text = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    server.found.setdefault(scene, []).append(json.loads(text))


def row(scene: str, server: Server, base: Server) -> str:
    """Return a table row: medians, and the median ratio over all runs."""
    mine, theirs = server.found[scene], base.found[scene]
    rate = statistics.median(one["rate"] for one in mine)
    amount = statistics.median(one["bytes"] for one in mine) / 1e6
    slow = statistics.median(one["slow"] for one in mine) * 1000
    ratio = statistics.median(ours["rate"] / others["rate"] for ours, others in zip(mine, theirs, strict=True))
    shown = f"{rate:,.0f}/s" if rate >= 10 else f"{amount:,.0f} MB/s"
    return f"| {scene} | {server.name} | {shown} | {slow:,.0f} ms | {ratio:.2f} |"


def main() -> None:
    """Measure and print a table."""
    runs = int(os.environ.get("RUNS", "5"))
    registry, oras = tools.find("registry"), tools.find("oras")
    if registry is None or oras is None:
        sys.exit(tools.missing("registry"))
    with tempfile.TemporaryDirectory(prefix="marfetch-bench-") as scratch, contextlib.ExitStack() as stack:
        directory = Path(scratch)
        layout = directory / "layout"
        # In a separate process, so that its memory does not count for any server.
        filled = subprocess.run(
            [sys.executable, "-m", "benchmarks.serve", "fill", str(layout)], cwd=ROOT, stdout=subprocess.PIPE, check=True
        )
        digests = json.loads(filled.stdout)
        starts = []
        for _ in range(runs):
            with served(H11, layout) as (_, took):
                starts.append(took)
        names = [H11] + (["marfetch, httptools"] if importlib.util.find_spec("httptools") is not None else [])
        host = stack.enter_context(distribution(registry, directory / "registry"))
        index = json.loads((layout / "index.json").read_text())
        for entry in index["manifests"]:
            name = entry["annotations"]["org.opencontainers.image.ref.name"]
            if "/chart0:" in name or "/large:" in name:
                target = f"{host}/{name.partition('/')[2]}"
                run(oras, "cp", "--from-oci-layout", f"{layout}@{entry['digest']}", "--to-plain-http", target)
        port = int(host.rpartition(":")[2])
        servers = [Server("distribution", port, _owner(port))]
        servers += [stack.enter_context(served(name, layout))[0] for name in names]
        for number in range(runs + 1):
            for scene in SCENES:
                for server in servers:
                    measure(server, scene, digests)
            if number == 0:
                for server in servers:
                    server.found.clear()  # discard the warm-up, in which blobs are hashed when first served
        print("| scene | server | rate | slowest of 100 | ratio |\n|---|---|---|---|---|")
        for scene in SCENES:
            for server in servers:
                print(row(scene, server, servers[0]))
        print("\npeak memory: " + ", ".join(f"{one.name} {one.peak} MiB" for one in servers))
        print(f"start with {ARTIFACTS} artifacts: {statistics.median(starts):.2f} s")


def _owner(port: int) -> int:
    """Return the id of the process that listens on a port of this machine; this benchmark started it."""
    wanted = f"0100007F:{port:04X}"
    inodes = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[1] == wanted}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(link.readlink()).removeprefix("socket:[").removesuffix("]") in inodes:
                return int(link.parts[2])
    sys.exit(f"no process listens on port {port}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        print(json.dumps(fill(Layout(Path(sys.argv[2])))))
    else:
        main()
