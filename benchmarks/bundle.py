"""Benchmarks of bundles: time to create one over a slow link, and memory for a large one."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.world import tools
from tests.world.real import cluster, distribution, free_port

from .clients import many
from .measure import Contender, NotDoneError, absent, race, table
from .stage import CHART_SIZE, CHARTS, ROOT, ROUND_TRIP, Stage, delayed, stage

THOUSAND = 1000
SPREAD = 300


def locked(where: Stage, charts: int) -> Path:
    """Create a project with this many charts, and its lock file."""
    place = where.directory / "project"
    place.mkdir()
    items = "".join(f"\n  - {{reference: bench/charts/chart{number}, version: 1.2.3}}" for number in range(charts))
    (place / "marfetch.yaml").write_text(f"schema: 1\nartifacts:{items}\n")
    line = [sys.executable, "-m", "marfetch", "lock", "--quiet", "--cache-dir", str(where.directory / "locking")]
    subprocess.run(line, cwd=place, env={**where.environment(), "PYTHONPATH": str(ROOT)}, check=True, stdout=subprocess.DEVNULL)
    return place


def _marfetch(where: Stage, name: str, *arguments: str, fresh: bool = False) -> Contender:
    environment = {**where.environment(), "PYTHONPATH": str(ROOT)}

    def prepare(directory: Path) -> list[str]:
        cache = ["--cache-dir", str(directory / "cache")] if fresh else []
        return [sys.executable, "-m", "marfetch", *(one.replace("{}", str(directory)) for one in arguments), "--quiet", *cache]

    return Contender(name, prepare, lambda _: None, environment)


def _loading(where: Stage, name: str, bundle: Path, host: str, *options: str) -> Contender:
    """Load into an empty target in each run."""
    one = _marfetch(where, name, "bundle", "load", str(bundle), "--plain-http", "--to", "{there}", *options)
    prepare, prefixes = one.prepare, itertools.count()

    def fresh(directory: Path) -> list[str]:
        there = f"{host}/{'-'.join(options).strip('-').replace(':', '-').replace('/', '-') or 'run'}{next(prefixes)}"
        return [there if word == "{there}" else word for word in prepare(directory)]

    one.prepare = fresh
    return one


def bundled(runs: int) -> list[str]:
    """Measure a hundred charts into one archive, against a layout per chart (oras, regsync) and one store (hauler)."""
    with stage(round_trip=ROUND_TRIP) as where:
        wanted = str(locked(where, CHARTS) / "marfetch.yaml")
        contenders = [
            *(one for one in many(where, CHARTS) if one.name.startswith(("oras cp", "regsync"))),
            _hauler(where),
            _hauler(where, "-j", "16"),
            _marfetch(where, "marfetch bundle create", "bundle", "create", "-f", wanted, "-o", "{}/a.tar", fresh=True),
            _marfetch(where, "… --referrers", "bundle", "create", "-f", wanted, "-o", "{}/a.tar", "--referrers", fresh=True),
        ]
        race(contenders, where.directory, runs=runs)
        return table(contenders, contenders[0].name)


def _hauler(where: Stage, *options: str) -> Contender:
    """Return hauler if it is installed; `make tools` cannot build it."""
    name, path = " ".join(("hauler store sync", *options)), shutil.which("hauler")
    if path is None:
        return absent(name, "not on the `PATH`")
    charts = "".join(
        f"\n    - {{name: chart{number}, repoURL: 'oci://{where.host}/bench/charts', version: 1.2.3}}" for number in range(CHARTS)
    )
    (where.directory / "hauler.yaml").write_text(
        f"apiVersion: content.hauler.cattle.io/v1\nkind: Charts\nmetadata: {{name: charts}}\nspec:\n  charts:{charts}\n"
    )

    def prepare(directory: Path) -> list[str]:
        (directory / "out").mkdir()
        return [path, "store", "sync", "-f", str(where.directory / "hauler.yaml"), "-s", "out", *options]

    def check(directory: Path) -> None:
        layers = [one for one in (directory / "out").rglob("*") if one.is_file() and one.stat().st_size > CHART_SIZE]
        if len(layers) < CHARTS:
            raise NotDoneError(f"{len(layers)} charts where there should be {CHARTS}")

    return Contender(name, prepare, check, where.environment())


def thousand(runs: int) -> list[str]:
    """Measure creating, verifying and loading a bundle of a thousand charts, into an empty registry and again."""
    program = tools.find("registry")
    if program is None:
        sys.exit(tools.missing("registry"))
    with stage(round_trip=0, charts=THOUSAND) as where, tempfile.TemporaryDirectory(prefix="marfetch-bench-") as scratch:
        wanted = str(locked(where, THOUSAND) / "marfetch.yaml")
        kept = Path(scratch) / "a.tar"
        made = _marfetch(where, "create", "bundle", "create", "-f", wanted, "-o", "{}/a.tar", fresh=True)

        def keep(directory: Path) -> None:
            shutil.move(directory / "a.tar", kept)

        made.check = keep
        race([made], where.directory, runs=runs)
        with distribution(program, Path(scratch) / "registry") as host:
            rest = [
                _marfetch(where, "verify", "bundle", "verify", str(kept)),
                _loading(where, "load into an empty registry", kept, host),
                _marfetch(where, "load again", "bundle", "load", str(kept), "--to", f"{host}/run0", "--plain-http"),
            ]
            race(rest, where.directory, runs=runs)
        return table([made, *rest], "create")


def spread(runs: int) -> list[str]:
    """Measure charts into a distant registry: one machine with more parallel jobs, and one to three workers of a scheduler.

    All workers share the processors of this machine. Real clusters, with processors and links per machine, gain more.
    """
    program = tools.find("registry")
    if program is None:
        sys.exit(tools.missing("registry"))
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(stage(round_trip=0, charts=SPREAD))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marfetch-bench-")))
        wanted = str(locked(where, SPREAD) / "marfetch.yaml")
        environment = {**where.environment(), "PYTHONPATH": str(ROOT), "MARFETCH_CACHE_DIR": str(scratch / "cache")}
        make = [sys.executable, "-m", "marfetch", "bundle", "create", "-f", wanted, "-o", str(scratch / "a.tar"), "--quiet"]
        subprocess.run(make, env=environment, check=True, stdout=subprocess.DEVNULL)
        near = stack.enter_context(distribution(program, scratch / "registry"))
        host = f"localhost:{free_port()}"
        delayed(stack, ROUND_TRIP, {f"127.0.0.1:{host.partition(':')[2]}": int(near.partition(":")[2])})
        kept = scratch / "a.tar"
        contenders = [_loading(where, "one machine", kept, host), _loading(where, "one machine, --jobs 32", kept, host, "--jobs", "32")]
        for workers in (1, 2, 3):
            address, _ = stack.enter_context(cluster(scratch, workers))
            contenders.append(
                _loading(where, f"{workers} worker{'s' if workers > 1 else ''}, 16 jobs at a time each", kept, host, "--executor", address)
            )
        race(contenders, where.directory, runs=runs)
        return table(contenders, "one machine")
