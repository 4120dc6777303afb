"""The programs in `docs/examples`: each runs against the look-alike, and documentation names each."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.layout.layout import Layout
from marfetch.reference import Host

from ..world.command import surroundings
from ..world.content import ALB, MODULE
from ..world.paths import ROOT
from ..world.registry import Registry

EXAMPLES = ROOT / "docs" / "examples"


def run(mar: Registry, place: Path, name: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = surroundings(mar, place / "cache", **environment)
    line = [sys.executable, str(EXAMPLES / name), *words]
    return subprocess.run(line, cwd=place, env=variables, capture_output=True, text=True, timeout=100, check=False)


def test_a_ci_job_fetches_a_chart_and_says_which(mar: Registry, tmp_path: Path) -> None:
    done = run(mar, tmp_path, "ci_fetch.py", ALB, "~1.7", "charts")
    assert (done.returncode, done.stderr) == (0, "")
    path, version, reference = done.stdout.split()
    assert (path, version) == ("charts/alb-controller-1.7.12.tgz", "1.7.12")
    assert "@sha256:" in reference
    assert (tmp_path / path).is_file()
    failed = run(mar, tmp_path, "ci_fetch.py", ALB, "^9", "charts")
    assert (failed.returncode, failed.stdout) == (3, "")
    assert failed.stderr.startswith("version-not-found: ")


def test_a_script_makes_a_bundle(mar: Registry, tmp_path: Path) -> None:
    done = run(mar, tmp_path, "bundle.py", "all.tar", f"{ALB}=~1.7", MODULE)
    assert done.returncode == 0, done.stderr
    assert [line.partition("@")[0].partition("/")[2] for line in done.stdout.splitlines()] == [f"{ALB}:1.7.12", f"{MODULE}:0.14.0"]
    assert (tmp_path / "all.tar").is_file()
    failed = run(mar, tmp_path, "bundle.py", "none.tar", "nope/x=^1")
    assert failed.returncode == 3
    assert not (tmp_path / "none.tar").exists()


def test_a_mirror_is_compared_with_mar(mar: Registry, tmp_path: Path) -> None:
    # The test registry plays both parts: MAR, by the environment, and the mirror, by its address.
    done = run(mar, tmp_path, "mirror_check.py", f"http://{mar.host}", "~1.7", ALB)
    assert (done.returncode, done.stdout[: len(ALB) + 18]) == (0, f"ok {ALB}:1.7.12 sha256:"), done.stderr
    with Registry(Layout(tmp_path / "mirror"), names=Host("mar.test")) as empty:
        done = run(mar, tmp_path, "mirror_check.py", f"http://{empty.host}", "~1.7", ALB)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(f"differs {ALB}:1.7.12 sha256:")
    assert done.stdout.endswith(" missing\n")


@pytest.mark.slow
def test_pyright_accepts_the_examples(tool: Callable[[str], Path], tmp_path: Path) -> None:
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard", "pythonVersion": "3.11"}')
    line = [str(tool("pyright")), "--pythonpath", sys.executable]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "0 errors, 0 warnings" in done.stdout, done.stdout


def test_the_library_page_names_each_example() -> None:
    text = (ROOT / "docs" / "reference" / "library.md").read_text()
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert names == ["bundle.py", "ci_fetch.py", "mirror_check.py"]
    assert [name for name in names if f"(../examples/{name})" not in text] == []
