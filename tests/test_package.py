"""The built package is complete: the wheel, built from the source archive, runs the demo without the checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import marfetch

from .world.paths import ROOT

pytestmark = pytest.mark.slow  # slow, because the tests build the package first


def build(source: Path, target: str, into: Path) -> Path:
    line = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    subprocess.run(line, cwd=source, check=True, capture_output=True, text=True)
    (made,) = into.iterdir()
    return made


def test_the_root_holds_what_a_newcomer_needs_and_nothing_else() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    shown = {name.partition("/")[0] for name in tracked.split("\0") if name and not name.startswith(".")}
    files = {
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "SUPPORT.md",
        "action.yml",
        "plugin.complete",
        "plugin.yaml",
        "pyproject.toml",
    }
    assert shown == files | {"benchmarks", "ci", "docs", "fixtures", "marfetch", "requirements", "tests"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("build")
    archive = build(ROOT, "sdist", place / "sdist")
    with tarfile.open(archive) as opened:
        opened.extractall(place / "source", filter="data")
    (source,) = (place / "source").iterdir()
    return build(source, "wheel", place / "wheel")


def test_the_wheel_holds_the_package_its_data_and_its_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "marfetch").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert modules | {"marfetch/demo/repositories.jsonl"} == {name for name in names if name.startswith("marfetch/")}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(archive.read(name).decode())
    assert metadata["Version"] == marfetch.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert "MIT" in str(metadata["License-Expression"])


def test_the_demo_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = "import marfetch.__main__ as front; assert 'site' in front.__file__, front.__file__; raise SystemExit(front.main(['demo']))"
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exit code 5" in done.stdout
