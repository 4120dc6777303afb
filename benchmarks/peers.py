"""Run other clients on the same work: download a set of charts in parallel over plain HTTP on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from marfetch.artifact.kinds import HELM_CHART, HELM_CONFIG
from marfetch.demo.recipe import tar_gz
from marfetch.layout.layout import Layout
from marfetch.reference import Host, Reference
from tests.world import tools

from .stage import ROOT, put_artifact

HOST = Host("bench.test")

ONE = {
    "helm 4": ("helm4", "$T pull oci://$H/bench/N --version 1.2.3 --plain-http -d out"),
    "helm 3": ("helm3", "$T pull oci://$H/bench/N --version 1.2.3 --plain-http -d out"),
    "oras": ("oras", "$T cp --from-plain-http $H/bench/N:1.2.3 --to-oci-layout out/N:1.2.3"),
    "crane": ("crane", "$T pull --insecure --format oci $H/bench/N:1.2.3 out/N"),
    "regctl": ("regctl", '$T --host "reg=$H,tls=disabled" artifact get $H/bench/N:1.2.3 > out/N'),
}
"""Client → program and how it gets one chart; N is its name."""
OURS = "marfetch, one process"
SHARED = "marfetch, one process per chart, shared cache"


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes:
        arrived: number of downloaded charts.
        seconds: until all processes had exited.
        killed: whether the run was killed after the timeout.
        said: last line on stderr.
    """

    arrived: int
    seconds: float
    killed: bool
    said: str


def fill(layout: Layout, sizes: dict[str, int]) -> int:
    """Create charts of these sizes; return their total bytes."""
    total = 0
    for name, size in sizes.items():
        chart = tar_gz({f"{name}/Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: 1.2.3\n".encode(), f"{name}/data": os.urandom(size)})
        config = f'{{"name":"{name}","version":"1.2.3","apiVersion":"v2"}}'.encode()
        put_artifact(layout, Reference(f"bench/{name}", HOST, "1.2.3"), [(HELM_CHART, chart, None)], (HELM_CONFIG, config))
        total += len(chart)
    layout.names.flush()
    return total


def names() -> Iterator[str]:
    """Return the names of the installed clients."""
    for name, (program, _) in ONE.items():
        if tools.find(program) is None:
            sys.exit(tools.missing(program))
        yield name
    yield SHARED
    yield OURS


def fetch(client: str, host: str, charts: list[str], directory: Path, *, at_a_time: int, patience: float) -> Outcome:
    """Download the charts with a client.

    Args:
        patience: timeout in seconds.
    """
    for name in ("out", "done", "home"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory / "home"),
        "PYTHONPATH": str(ROOT),
        "H": host,
        "MARFETCH_ENDPOINT": f"http://{host}",
        "MARFETCH_CACHE_DIR": str(directory / "cache"),
    }
    if client == OURS:
        refs = [f"bench/{name}:1.2.3" for name in charts]
        line = [sys.executable, "-m", "marfetch", "pull", *refs, "-d", "out", "--quiet", "--jobs", str(at_a_time)]
    else:
        if client == SHARED:
            environment["T"] = f"{sys.executable} -m marfetch"
            one = "$T pull bench/N:1.2.3 -d out --quiet"
        else:
            program, one = ONE[client]
            environment["T"] = str(tools.find(program))
        script = f"{one} && touch done/N"
        line = ["sh", "-c", f"printf '%s\\n' {' '.join(charts)} | xargs -P {at_a_time} -I N sh -c '{script}'"]
    begun = time.monotonic()
    killed = False
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(line, cwd=directory, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            killed = True
            os.killpg(process.pid, 9)
            process.wait()
    took = time.monotonic() - begun
    arrived = len(list((directory / "out").glob("*.tgz"))) if client == OURS else len(list((directory / "done").iterdir()))
    said = (directory / "log").read_text(errors="replace").strip().splitlines()
    return Outcome(arrived, took, killed, said[-1] if said else "")
