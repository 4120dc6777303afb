"""`python -m benchmarks.soak [artifacts|link|serve|half-hour]…`: find leaks and failures in long runs (`make soak`).

The environment variables `ARTIFACTS` (10000) and `MINUTES` (5) set the length.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from marfetch.layout.layout import Layout
from tests.world import tools
from tests.world.link import Link
from tests.world.real import distribution, run
from tests.world.registry import Registry

from . import page
from .peers import HOST, fetch, fill, names
from .serve import _owner
from .stage import ROOT

BATCH = 100
WARM = 2000  # artifacts, after which memory and open files should no longer grow
MIB = 1 << 20


# -- artifacts


def artifacts(scratch: Path) -> list[str]:
    """Pull thousands of small artifacts in one process, and with hundreds of clients one after the other."""
    wanted = int(os.environ.get("ARTIFACTS", "10000"))
    lines = [page.machine(), ""]
    with Registry(Layout(scratch / "layout"), names=HOST) as registry:
        for number in range(wanted):
            registry.add_artifact(f"soak/a{number}", "1", (f"a{number}.bin", f"{number} ".encode() * 200))
        whole = _soaked(registry, scratch / "one", wanted // BATCH, BATCH, "again")
        series, again = whole[: wanted // BATCH + 1], whole[wanted // BATCH + 1 :]
        lines += ["| artifacts | memory | file descriptors | threads |", "|---|---|---|---|"]
        shown = [one for one in series if one["pulled"] in (0, BATCH, 500, 1000) or one["pulled"] % 1000 == 0]
        lines += [f"| {one['pulled']:,} | {one['memory'] / 1024:.1f} MiB | {one['descriptors']} | {one['threads']} |" for one in shown]
        warm = next(one for one in series if one["pulled"] >= min(WARM, wanted // 2))
        grown = series[-1]["memory"] - warm["memory"]
        count = series[-1]["pulled"] - warm["pulled"]
        lines += ["", f"From {warm['pulled']:,} artifacts on: {grown / 1024:+.1f} MiB, {1024 * grown / count:+.0f} bytes per artifact."]
        grown = again[-1]["memory"] - series[-1]["memory"]
        lines += [
            "",
            f"The same {wanted:,} artifacts again in the same process, with nothing new for the index: {grown / 1024:+.1f} MiB.",
        ]
        clients = min(500, wanted // 10)
        anew = _soaked(registry, scratch / "many", clients, 1, "anew")
        first, last = anew[len(anew) // 5], anew[-1]
        grown, descriptors, threads = (last[name] - first[name] for name in ("memory", "descriptors", "threads"))
        text = f"{clients} clients one after the other in one process, from client {first['pulled']} on: {grown / 1024:+.1f} MiB,"
        lines += ["", f"{text} {descriptors:+d} file descriptors, {threads:+d} threads."]
    return lines


def _soaked(registry: Registry, directory: Path, batches: int, size: int, *more: str) -> list[dict[str, int]]:
    line = [sys.executable, "-m", "tests.world.soaking", registry.host, registry.data_host, str(directory), str(batches), str(size), *more]
    series = []
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            series.append(json.loads(text))
            registry.asked.clear()
            if series[-1]["pulled"] % 1000 == 0:
                print(text.strip(), flush=True)
    if process.returncode:
        sys.exit("the process that pulls has failed")
    return series


# -- link

CHARTS = 100
AT_A_TIME = 16


def link(scratch: Path) -> list[str]:
    """Pull charts of all sizes over a link that resets connections."""
    chance = random.Random(20261125)
    charts = {f"chart{number}": chance.randrange(64 << 10, 6 * MIB) for number in range(CHARTS)}
    layout = Layout(scratch / "layout")
    total = fill(layout, charts)
    lines = [
        page.machine(),
        "",
        f"{CHARTS} charts of 64 KiB to 6 MiB, {total / MIB:.0f} MiB in total, {AT_A_TIME} at a time.",
        "",
        "| client | charts downloaded | resets | bytes over the link, relative to the size of all charts |",
        "|---|---|---|---|",
    ]
    for client in names():
        with Registry(layout, names=HOST, redirect=False) as registry, Link(registry.port, cuts()) as way:
            directory = scratch / "run"
            done = fetch(client, way.host, list(charts), directory, at_a_time=AT_A_TIME, patience=400)
            shutil.rmtree(directory)
            arrived = f"{done.arrived} of {CHARTS}{' (killed)' if done.killed else ''}"
            lines.append(f"| {client} | {arrived} | {way.resets} | {way.sent / total:.2f} |")
            print(lines[-1], "--", done.said[:160], flush=True)
    return lines


def cuts() -> Callable[[], int]:
    """Yield after how many bytes each connection is cut; the same sequence for every client."""
    chance = random.Random(7)
    return lambda: chance.randrange(MIB, 4 * MIB)


# -- serve


@dataclass
class Server:
    """A server and its measurements."""

    name: str
    port: int
    pid: int
    rounds: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    held: list[dict[str, float]] = field(default_factory=list)

    def look(self) -> dict[str, float]:
        """Return the current resources of the process."""
        directory = Path(f"/proc/{self.pid}")
        status = (directory / "status").read_text()
        self.held.append(
            {
                "memory": int(status.partition("VmRSS:")[2].split()[0]) / 1024,
                "descriptors": len(list((directory / "fd").iterdir())),
                "threads": int(status.partition("Threads:")[2].split()[0]),
            }
        )
        return self.held[-1]


@contextlib.contextmanager
def servers(scratch: Path) -> Iterator[list[Server]]:
    """Start the registry of distribution and `marfetch serve` with the same charts."""
    program, oras = tools.find("registry"), tools.find("oras")
    if program is None or oras is None:
        sys.exit(tools.missing("registry"))
    layout = scratch / "layout"
    fill(Layout(layout), {f"chart{number}": 4096 for number in range(100)})
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(distribution(program, scratch / "registry"))
        port = int(host.rpartition(":")[2])
        for entry in json.loads((layout / "index.json").read_text())["manifests"]:
            name = entry["annotations"]["org.opencontainers.image.ref.name"]
            if "/chart0:" in name:
                run(oras, "cp", "--from-oci-layout", f"{layout}@{entry['digest']}", "--to-plain-http", f"{host}/{name.partition('/')[2]}")
        line = [sys.executable, "-m", "marfetch", "serve", str(layout), "--port", "0", "--quiet"]
        process = stack.enter_context(subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        assert process.stdout is not None
        ours = int(process.stdout.readline().strip().rpartition(":")[2])
        both = [Server("distribution", port, _owner(port)), Server("marfetch", ours, process.pid)]
        for server in both:
            server.look()
        yield both


def load(server: Server, clients: int, seconds: float, *, pause: int = 0) -> dict[str, float]:
    """Put a server under load from this many clients.

    Args:
        pause: milliseconds between the requests of a client.
    """
    wrk = tools.find("wrk")
    if wrk is None:
        sys.exit(tools.missing("wrk"))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        # Responses other than 2xx are errors, and so are the socket errors that wrk reports.
        script.write(
            'wrk.headers["Accept"] = "application/vnd.oci.image.manifest.v1+json"\n'
            + (f"function delay() return {pause} end\n" if pause else "")
            + "function done(summary, latency, requests)\n"
            "  local e = summary.errors\n"
            '  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),'
            " latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))\nend\n"
        )
        script.flush()
        address = f"http://127.0.0.1:{server.port}/v2/bench/chart0/manifests/1.2.3"
        line = [str(wrk), "-t1", f"-c{clients}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", script.name, address]
        text = subprocess.run(line, stdout=subprocess.PIPE, text=True, timeout=seconds + 120, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", text)
    assert found is not None, text
    count, took, middle, slow, errors = (int(one) for one in found.groups())
    return {"rate": count / (took / 1e6), "p50": middle / 1e3, "p99": slow / 1e3, "errors": errors, "requests": count}


def serve(scratch: Path) -> list[str]:
    """Compare both servers in turn, with fifty and two hundred clients for several minutes each."""
    minutes = float(os.environ.get("MINUTES", "5"))
    length = 15.0
    plan = [50] * max(2, round(minutes * 60 / 2 / length)) + [200] * 2
    with servers(scratch) as both:
        for clients in plan:
            for server in both:
                server.rounds.setdefault(clients, []).append(load(server, clients, length))
                server.look()
                print(server.name, clients, server.rounds[clients][-1], server.held[-1], flush=True)
        time.sleep(1)
        for server in both:
            server.look()
    base = both[0]
    lines = [
        page.machine(),
        "",
        f"{plan.count(50)} rounds of {length:.0f} s with 50 clients and {plan.count(200)} with 200, all for one manifest.",
        "",
        "| server | clients | requests per second | ratio | median | 99th percentile | errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for clients in (50, 200):
        for server in both:
            rounds = server.rounds[clients]
            ratio = statistics.median(mine["rate"] / theirs["rate"] for mine, theirs in zip(rounds, base.rounds[clients], strict=True))
            rate, p50, p99 = (statistics.median(one[name] for one in rounds) for name in ("rate", "p50", "p99"))
            errors = sum(one["errors"] for one in rounds)
            lines.append(f"| {server.name} | {clients} | {rate:,.0f} | {ratio:.2f} | {p50:.0f} ms | {p99:.0f} ms | {errors:.0f} |")
    return [*lines, "", *_growth(both, plan.count(50))]


def _growth(both: list[Server], until: int) -> list[str]:
    lines = [
        "| server | requests | memory after the first round | memory after the last round | growth | file descriptors before, after | threads before, after |",
        "|---|---|---|---|---|---|---|",
    ]
    for server in both:
        before, first, last, idle = server.held[0], server.held[1], server.held[until], server.held[-1]
        count = sum(one["requests"] for rounds in server.rounds.values() for one in rounds)
        growth = 100 * (last["memory"] / first["memory"] - 1)
        lines.append(
            f"| {server.name} | {count:,.0f} | {first['memory']:.1f} MiB | {last['memory']:.1f} MiB | {growth:+.1f} %"
            f" | {before['descriptors']:.0f}, {idle['descriptors']:.0f} | {before['threads']:.0f}, {idle['threads']:.0f} |"
        )
    return lines


def half_hour(scratch: Path) -> list[str]:
    """Send requests to both servers at once for half an hour: twenty clients, five requests per second each."""
    minutes = int(os.environ.get("MINUTES", "30"))
    with servers(scratch) as both:

        def work(server: Server) -> None:
            for _ in range(minutes):
                server.rounds.setdefault(20, []).append(load(server, 20, 60, pause=200))
                print(server.name, server.rounds[20][-1], server.look(), flush=True)

        threads = [threading.Thread(target=work, args=(server,)) for server in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(1)
        for server in both:
            server.look()
    slow = {server.name: statistics.median(one["p99"] for one in server.rounds[20]) for server in both}
    errors = {server.name: sum(one["errors"] for one in server.rounds[20]) for server in both}
    said = "; ".join(f"{name}: 99th percentile {slow[name]:.0f} ms, {errors[name]:.0f} errors" for name in slow)
    return [page.machine(), "", f"{minutes} minutes, 20 clients each, both servers at once. {said}.", "", *_growth(both, minutes)]


SCENES = {"artifacts": artifacts, "link": link, "serve": serve, "half-hour": half_hour}


def main() -> None:
    """Run the named measurements, print the results and write them into the page."""
    for name in sys.argv[1:] or SCENES:
        with tempfile.TemporaryDirectory(prefix="marfetch-soak-") as scratch:
            page.put(name, SCENES[name](Path(scratch)))


if __name__ == "__main__":
    main()
