"""Bundles: how fast one is made of what is far away, and how much memory a large one takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import tools
from tests.real import distribution

from .clients import many
from .measure import Contender, race, table
from .stage import CHARTS, ROOT, ROUND_TRIP, Stage, stage

THOUSAND = 1000


def locked(where: Stage, charts: int) -> Path:
    """A project that wants so many charts, and its lock."""
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


def bundled(runs: int) -> list[str]:
    """A hundred charts into one archive; beside it what oras makes of them, one layout each."""
    with stage(round_trip=ROUND_TRIP) as where:
        wanted = str(locked(where, CHARTS) / "marfetch.yaml")
        contenders = [
            next(one for one in many(where, CHARTS) if one.name.startswith("oras cp")),
            _marfetch(where, "marfetch bundle create", "bundle", "create", "-f", wanted, "-o", "{}/a.tar", fresh=True),
            _marfetch(where, "… --referrers", "bundle", "create", "-f", wanted, "-o", "{}/a.tar", "--referrers", fresh=True),
        ]
        race(contenders, where.directory, runs=runs)
        return table(contenders, contenders[0].name)


def thousand(runs: int) -> list[str]:
    """A thousand charts, all the way; the first load sends everything, the others find it there."""
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
                _marfetch(where, "load, all there", "bundle", "load", str(kept), "--to", host, "--plain-http"),
            ]
            race(rest, where.directory, runs=runs)
        return table([made, *rest], "create")
