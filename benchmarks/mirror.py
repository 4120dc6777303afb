"""`python -m benchmarks.mirror [RUNS]`: copy 100 charts and 20 images from one registry to another, beside `regsync` and `oras cp`.

Both registries are distribution's, over plain HTTP on loopback. A round trip of 40 ms is added to the first one, as if it were MAR and the
second one were near; with `--far`, also to the second. All programs copy 16 artifacts at a time into empty repositories, and in turn.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from marfetch.artifact.kinds import HELM_CHART, HELM_CONFIG
from marfetch.bundle.load import To, load
from marfetch.client.session import Session, SessionOptions
from marfetch.content import Silent
from marfetch.demo.recipe import tar_gz
from marfetch.layout.layout import Layout
from marfetch.reference import Host, Reference
from tests.world import tools
from tests.world.real import distribution, free_port

from .stage import CHART_SIZE, CHARTS, ROOT, ROUND_TRIP, delayed, put_artifact

IMAGES = 20
LAYERS = (256 << 10, 1 << 20, 3 << 20)  # bytes; the first is shared by all images
AT_ONCE = 16
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

SCRIPTS = {
    "marfetch mirror": "$M mirror -f marfetch.yaml --to $H/$R --plain-http --quiet",
    "marfetch mirror, --jobs 32": "$M mirror -f marfetch.yaml --to $H/$R --plain-http --quiet --jobs 32",
    "regsync once": "sed s,TARGET,$H/$R,g regsync.yml > run.yml && $REGSYNC once -c run.yml -v error",
    "oras cp, 16 at once": (
        f"xargs -P {AT_ONCE} -I N sh -c '$ORAS cp --no-tty --from-plain-http --to-plain-http $U/N $H/$R/N >/dev/null' < names"
    ),
}
"""Client → how it copies everything from $U to $H/$R."""


def fill(place: Path, host: str) -> list[str]:
    """Put charts and images into a registry; return their references without the host."""
    layout, names, here = Layout(place / "layout"), [], Host("bench.test")
    for number in range(CHARTS):
        name = f"chart{number}"
        chart = tar_gz({f"{name}/Chart.yaml": f"name: {name}\nversion: 1.2.3\n".encode(), f"{name}/data": secrets.token_bytes(CHART_SIZE)})
        config = json.dumps({"name": name, "version": "1.2.3"}).encode()
        put_artifact(layout, Reference(f"bench/{name}", here, "1.2.3"), [(HELM_CHART, chart, None)], (HELM_CONFIG, config))
        names.append(f"bench/{name}:1.2.3")
    base = secrets.token_bytes(LAYERS[0])
    for number in range(IMAGES):
        layers: list[tuple[str, bytes, str | None]] = [
            (_LAYER, base, None),
            *((_LAYER, secrets.token_bytes(size), None) for size in LAYERS[1:]),
        ]
        put_artifact(layout, Reference(f"bench/image{number}", here, "1.0.0"), layers, (_CONFIG, json.dumps({"number": number}).encode()))
        names.append(f"bench/image{number}:1.0.0")
    layout.names.flush()
    with Session(SessionOptions(cache_dir=place / "unused", notice=False), Silent()) as client:
        failed = [one.error for one in load(client, place / "layout", To.parse(host, plain_http=True)) if one.error is not None]
    assert not failed, failed[0]
    return names


def write_lists(place: Path, host: str, names: list[str]) -> None:
    """Write what each program reads: the lock file, a regsync file, and a list of names."""
    items = "".join(f'\n  - {{reference: "{name}", media-type: "*"}}' for name in names)
    (place / "marfetch.yaml").write_text(f"schema: 1\nartifacts:{items}\n")
    (place / "names").write_text("\n".join(names) + "\n")
    sync = [{"source": f"{host}/{name}", "target": f"TARGET/{name}", "type": "image"} for name in names]
    regsync = {"version": 1, "defaults": {"parallel": AT_ONCE}, "sync": sync}
    (place / "regsync.yml").write_text(json.dumps(regsync))


def main(runs: int, *, is_far: bool) -> None:
    programs = {name.upper(): tools.find(name) for name in ("registry", "regsync", "oras")}
    for name, program in programs.items():
        if program is None:
            sys.exit(tools.missing(name.lower()))
    with tempfile.TemporaryDirectory(prefix="marfetch-bench-") as scratch, contextlib.ExitStack() as stack:
        place = Path(scratch)
        assert programs["REGISTRY"] is not None
        near = [stack.enter_context(distribution(programs["REGISTRY"], place / name)) for name in ("from", "to")]
        ports = [free_port(), free_port()]
        delayed(stack, ROUND_TRIP, {f"127.0.0.1:{port}": int(host.partition(":")[2]) for port, host in zip(ports, near, strict=True)})
        upstream, target = f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}" if is_far else near[1]
        names = fill(place, near[0])
        write_lists(place, upstream, names)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "PYTHONPATH": str(ROOT),
            "MARFETCH_ENDPOINT": f"http://{upstream}",
            "M": f"{sys.executable} -m marfetch",
            "U": upstream,
            "H": target,
            **{name: str(program) for name, program in programs.items()},
        }
        hosts = [{"registry": host, "tls": "disabled"} for host in (upstream, target)]
        document = json.loads((place / "regsync.yml").read_text()) | {"creds": hosts}
        (place / "regsync.yml").write_text(json.dumps(document))

        def run(script: str, repository: str, **more: str) -> tuple[float, float]:
            """Run a client; return its seconds and its CPU seconds."""
            begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            line = ["sh", "-ec", script]
            done = subprocess.run(line, cwd=place, env=environment | {"R": repository, **more}, capture_output=True, text=True, check=False)
            took, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
            if done.returncode:
                sys.exit(f"{script}: {done.stderr[-2000:]}")
            return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        run("$M lock --quiet", "", MARFETCH_CACHE_DIR=str(place / "locking"))
        times: dict[str, list[tuple[float, float]]] = {f"{name}{again}": [] for name in SCRIPTS for again in ("", ", nothing new")}
        for number in range(runs):
            for position, (name, script) in enumerate(SCRIPTS.items()):
                for again in ("", ", nothing new"):
                    cache = str(place / f"cache{number}p{position}")
                    times[f"{name}{again}"].append(run(script, f"r{number}p{position}", MARFETCH_CACHE_DIR=cache))
        seconds = {name: statistics.median(one for one, _ in found) for name, found in times.items()}
        best = min(seconds[name] for name in SCRIPTS if "marfetch" not in name)
        print("| program | median | CPU time | ratio to the better peer |\n|---|---|---|---|")
        for name, found in times.items():
            ratio = f"{seconds[name] / best:.2f}" if "nothing" not in name else "–"
            print(f"| {name} | {seconds[name]:.2f} s | {statistics.median(cpu for _, cpu in found):.1f} s | {ratio} |")


if __name__ == "__main__":
    main(next((int(word) for word in sys.argv[1:] if word.isdigit()), 3), is_far="--far" in sys.argv)
