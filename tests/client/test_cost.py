"""Count the loaded modules, file system calls and requests of one pull. The load of the machine does not change these counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..world.archives import chart
from ..world.charts import add_chart
from ..world.command import surroundings
from ..world.content import ALB
from ..world.registry import Registry

MODULES = 71
"""The number of modules of marfetch that a pull of a chart by exact version loads."""
LATE = {
    "client.catalog",
    "client.earlier",
    "client.fetch",
    "client.fitting",
    "client.versions",
    "destination.archive",
    "destination.packed",
    "destination.stream",
    "destination.unpack",
    "remote.credentials",
    "remote.referrers",
    "tar",
}
"""Modules that a simple pull must not load: they are needed only for archives, ranges, lists, streams and credentials."""
STATUSES = 9
"""The maximum number of calls of `os.stat` and `os.lstat` for each further chart."""


def pulled(mar: Registry, place: Path, *references: str) -> dict[str, Any]:
    """Pull twice. Return the modules that the first pull loaded, and how often the second pull called `os.stat` and `os.lstat`."""
    code = (
        "import json, os, sys\nfrom marfetch.__main__ import main\ncalls = []\n"
        # On a busy machine, a request that waits would check for throttles again and change the counts.
        "from marfetch.remote import backoff\nbackoff._MOMENT = 60\n"
        "def counting(real):\n    return lambda *a, **k: (calls.append(a), real(*a, **k))[1]\n"
        "first = main([*sys.argv[1:], '-d', 'first', '--cache-dir', 'c1'])\nloaded = sorted(sys.modules)\n"
        "os.stat, os.lstat = counting(os.stat), counting(os.lstat)\n"
        "second = main([*sys.argv[1:], '-d', 'second', '--cache-dir', 'c2'])\n"
        "print('COUNTED' + json.dumps({'codes': [first, second], 'loaded': loaded, 'statuses': len(calls)}))"
    )
    line = [sys.executable, "-P", "-c", code, "pull", *references, "--quiet", "--jobs", "1"]
    environment = surroundings(mar, place / "cache")
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, Any] = json.loads(done.stdout.rpartition("COUNTED")[2])
    assert found["codes"] == [0, 0], done.stderr
    return found


def test_one_pull_loads_what_it_needs(mar: Registry, tmp_path: Path) -> None:
    loaded = pulled(mar, tmp_path, f"{ALB}:1.7.12")["loaded"]
    own = {name.removeprefix("marfetch.") for name in loaded if name.startswith("marfetch.")}
    assert own & LATE == set()
    assert len(own) <= MODULES, "move imports that only some pulls need into the functions that need them"
    assert {"semver", "jsonschema", "html", "yaml", "rich", "cryptography", "concurrent.futures.process"} & set(loaded) == set()


@pytest.mark.slow
def test_each_further_artifact_costs_three_requests_and_few_looks_at_files(mar: Registry, tmp_path: Path) -> None:
    references = [f"aks/toy{number}:1.2.3" for number in range(12)]
    for number in range(12):
        add_chart(mar, f"aks/toy{number}", "1.2.3", chart(f"toy{number}", "1.2.3"))
    counts = []
    for several in (2, 12):
        place = tmp_path / str(several)
        place.mkdir()
        mar.asked.clear()
        found = pulled(mar, place, *references[:several])
        assert len(mar.asked) == 2 * several * 3  # each of the two pulls requests the manifest, the redirect of the blob, and the blob
        counts.append(found["statuses"])
    assert (counts[1] - counts[0]) / 10 <= STATUSES, counts
