"""`python -m benchmarks.official`: measure with the official host names, as on a new CI runner.

The names of MAR lead to a test registry on loopback, in a network and mount namespace of this process, so it needs root. The cache is empty,
and the data host is known only from the redirect of the first blob. `plain` is what `pip install` makes of the built wheel today.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from marfetch.layout.layout import Layout
from tests.world.real import free_port

from . import clients
from .measure import Contender, absent, race, table
from .stage import CHARTS, ROOT, Stage, certify, delayed, fill, started

REGISTRY, DATA = "mcr.microsoft.com", "eastus.data.mcr.microsoft.com"
HOSTS = f"127.0.0.1 localhost {REGISTRY}\n127.0.0.2 {DATA}\n"
PLAIN = ROOT / ".venv-plain"
_INSIDE = "MARFETCH_BENCH_INSIDE"


def reason() -> str | None:
    """Return why the official names cannot be used here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    return None if shutil.which("unshare") and shutil.which("ip") else "needs the programs unshare and ip"


def inside(*arguments: str) -> str:
    """Run this module in namespaces where the official names lead to loopback, and return what it prints."""
    with tempfile.TemporaryDirectory(prefix="marfetch-hosts-") as scratch:
        hosts = Path(scratch) / "hosts"
        hosts.write_text(HOSTS)
        script = 'ip link set lo up && mount --bind "$0" /etc/hosts && exec "$@"'
        line = ["unshare", "--net", "--mount", "sh", "-ec", script, str(hosts), sys.executable, "-m", "benchmarks.official", *arguments]
        return subprocess.run(line, cwd=ROOT, env={**os.environ, _INSIDE: "1"}, stdout=subprocess.PIPE, text=True, check=True).stdout


def plain() -> None:
    """Build the wheel and install it into a new environment with nothing pinned. Without a package index, there is no marfetch in it."""
    with tempfile.TemporaryDirectory(prefix="marfetch-wheel-") as scratch:
        shutil.rmtree(PLAIN, ignore_errors=True)
        lines = [
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch],
            [sys.executable, "-m", "venv", str(PLAIN)],
            ["sh", "-c", f"{PLAIN}/bin/python -m pip install --quiet --disable-pip-version-check {scratch}/*.whl"],
        ]
        for line in lines:
            if subprocess.run(line, cwd=ROOT, capture_output=True, check=False).returncode:
                return


@contextlib.contextmanager
def official_stage(*, round_trip: int, charts: int = CHARTS) -> Iterator[Stage]:
    """Start the test registry under the official names for the duration of the context; only for use inside the namespaces."""
    with tempfile.TemporaryDirectory(prefix="marfetch-bench-") as scratch, contextlib.ExitStack() as stack:
        directory = Path(scratch)
        certify(directory, REGISTRY, DATA)
        fill(Layout(directory / "layout"), charts)
        ports = (free_port(), free_port())
        started(stack, [sys.executable, "-m", "benchmarks.served", str(directory), *map(str, ports), f"https://{DATA}"])
        delayed(stack, round_trip, {"127.0.0.1:443": ports[0], "127.0.0.2:443": ports[1]})  # also without latency: it owns the ports
        yield Stage(REGISTRY, DATA, directory / "ca.pem", directory)


def _ours(where: Stage, name: str, *arguments: str, files: int = 1, warm: bool = False, kept: bool = False) -> Contender:
    """Return marfetch as `pip install` made it, which knows nothing but the official endpoint.

    Args:
        files: number of files that it must write; 0 for a command that writes none.
        warm: whether the cache knows the data host.
        kept: whether the cache has everything from the run before.
    """
    program = PLAIN / "bin" / "marfetch"
    if not program.exists():
        return absent(name, "there is no package index")
    home = where.directory / name.replace(" ", "-")
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "SSL_CERT_FILE": str(where.ca_file)}

    def prepare(directory: Path) -> list[str]:
        cache = where.directory / "known" if warm else where.directory / "kept" if kept else directory / "cache"
        if warm:  # the data host is recorded, but the chart is not cached
            shutil.rmtree(cache / "blobs", ignore_errors=True)
            (cache / "index.json").unlink(missing_ok=True)
        place = ["-d", str(directory / "out")] if files else []
        return [str(program), *arguments, *place, "--cache-dir", str(cache), "--quiet"]

    return Contender(name, prepare, lambda directory: clients.holds(directory / "out", files), environment)


def _one(where: Stage) -> list[Contender]:
    chart = clients.CHART.format(0)
    words = ("pull", chart, "--version", "1.2.3")
    return [
        *(one for one in clients.one_chart(where) if one.name in ("helm 4", "oras cp", "regctl")),
        _ours(where, "marfetch, first run", *words),
        _ours(where, "marfetch, known data host", *words, warm=True),
    ]


def _range(where: Stage) -> list[Contender]:
    words = ("pull", clients.CHART.format(0), "--version", "^1.2")
    return [
        clients.a_range(where)[0],
        _ours(where, "marfetch, first run", *words),
        _ours(where, "marfetch, known data host", *words, warm=True),
    ]


def _hundred(where: Stage) -> list[Contender]:
    names = [f"{clients.CHART.format(number)}:1.2.3" for number in range(CHARTS)]
    others = [one for one in clients.many(where, CHARTS) if one.name in ("oras cp, 16 at once", "helm 4, 16 at once", "regsync")]
    return [
        *others,
        _ours(where, "marfetch, first run", "pull", *names, files=CHARTS),
        _ours(where, "marfetch, again", "pull", *names, files=CHARTS, kept=True),
    ]


def _resolve(where: Stage) -> list[Contender]:
    chart = clients.CHART.format(0)
    return [
        clients.tool(where, "oras resolve", "oras", f"$T resolve $H/{chart}:1.2.3", files=0),
        _ours(where, "marfetch resolve", "resolve", f"{chart}:1.2.3", files=0),
    ]


def _versions(where: Stage) -> list[Contender]:
    chart = clients.CHART.format(0)
    return [
        clients.tool(where, "oras repo tags", "oras", f"$T repo tags $H/{chart}", files=0),
        _ours(where, "marfetch versions", "versions", chart, files=0),
    ]


def _hermetic(where: Stage, name: str, program: str, script: str, files: int) -> list[Contender]:
    """Return a command as it is, recorded with an empty cache, and replayed."""
    plain = clients.tool(where, name, program, script, files=files)
    kept = where.directory / f"{name.replace(' ', '-')}.tar"
    environment = {**plain.environment, "PYTHONPATH": str(ROOT)}
    for variable in ("MARFETCH_ENDPOINT", "MARFETCH_DATA_HOSTS"):  # here the registry has the official name
        environment.pop(variable, None)
    ours = [sys.executable, "-P", "-m", "marfetch"]

    def recorded(directory: Path) -> list[str]:
        (directory / "out").mkdir()
        return [*ours, "record", "-o", str(kept), "--cache-dir", str(directory / "cache"), "--", "sh", "-ec", script]

    def replayed(directory: Path) -> list[str]:
        (directory / "out").mkdir()
        return [*ours, "replay", str(kept), "--", "sh", "-ec", script]

    def check(directory: Path) -> None:
        clients.holds(directory / "out", files)

    nothing = Contender("start of marfetch", lambda _: [*ours, "replay", str(kept), "--", "true"], lambda _: None, environment)
    return [
        plain,
        Contender(f"{name}, recorded", recorded, check, environment),
        Contender(f"{name}, replayed", replayed, check, environment),
        nothing,
    ]


def _recorded_one(where: Stage) -> list[Contender]:
    return _hermetic(where, "helm 4", "helm4", f"$T pull oci://$H/{clients.CHART.format(0)} --version ^1.2 -d out", 1)


def _recorded_ten(where: Stage) -> list[Contender]:
    script = f"for N in $(seq 0 9); do $T pull oci://$H/{clients.CHART.format('$N')} --version 1.2.3 -d out; done"
    return _hermetic(where, "helm 4, ten charts", "helm4", script, 10)


def _recorded_parallel(where: Stage) -> list[Contender]:
    chart = clients.CHART.format("N")
    script = f"seq 0 49 | xargs -P 16 -I N $T cp --from-plain-http=false $H/{chart}:1.2.3 --to-oci-layout out/N:1.2.3"
    return _hermetic(where, "oras cp, 16 at once", "oras", script, 200)


SCENES: dict[str, tuple[Callable[[Stage], list[Contender]], str, int]] = {
    "one": (_one, "helm 4", 7),
    "range": (_range, "helm 4", 7),
    "hundred": (_hundred, "oras cp, 16 at once", 3),
    "resolve": (_resolve, "oras resolve", 7),
    "versions": (_versions, "oras repo tags", 7),
    "recorded": (_recorded_one, "helm 4", 7),
    "recorded-ten": (_recorded_ten, "helm 4, ten charts", 5),
    "recorded-parallel": (_recorded_parallel, "oras cp, 16 at once", 5),
}


def main(distance: int, names: list[str]) -> None:
    """Print one table for each scene."""
    with official_stage(round_trip=distance) as where:
        for name in names or list(SCENES):
            make, base, runs = SCENES[name]
            contenders = make(where)
            race(contenders, where.directory, runs=runs)
            print(f"{name}, round trip {distance} ms:\n\n" + "\n".join(table(contenders, base)) + "\n", flush=True)


if __name__ == "__main__":
    if os.environ.get(_INSIDE):
        main(int(sys.argv[1]), sys.argv[2:])
    else:
        if why := reason():
            sys.exit(f"the official names cannot be used: {why}")
        plain()
        print(inside(*(sys.argv[1:] or ["40"])))
