"""The ways to install the package, each in a clean environment, from the wheel that is published."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from marfetch import __version__

from .world.paths import ROOT

pytestmark = [pytest.mark.install, pytest.mark.slow, pytest.mark.timeout(600)]


def run(*line: object, **environment: str) -> str:
    variables = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR") or name.startswith(("PIP_", "UV_"))
    }
    variables |= {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}  # trust the certificates of the system, as pip does
    words = [str(word) for word in line]
    done = subprocess.run(words, env={**variables, **environment}, cwd="/", capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)], cwd=ROOT, check=True, capture_output=True)
    (made,) = place.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `uv`, `uvx` and `pipx`."""
    place = tmp_path_factory.mktemp("installers")
    venv.create(place, with_pip=True)
    run(place / "bin" / "python", "-m", "pip", "install", "-q", "uv", "pipx")
    return place / "bin"


def test_pip_installs_it_with_the_newest_dependencies(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--upgrade", f"{wheel}[all]")
    assert run(tmp_path / "env" / "bin" / "marfetch", "--version") == f"marfetch {__version__}\n"
    done = run(python, ROOT / "ci" / "smoke.py", tmp_path / "env" / "bin" / "marfetch", HOME=str(tmp_path))
    assert done.splitlines()[-1] == "ok  cache clear"


def test_uvx_runs_it_once(wheel: Path, installers: Path, tmp_path: Path) -> None:
    line = [installers / "uvx", "--quiet", "--from", wheel, "marfetch", "--version"]
    assert run(*line, HOME=str(tmp_path)) == f"marfetch {__version__}\n"


def test_pipx_installs_the_command(wheel: Path, installers: Path, tmp_path: Path) -> None:
    places = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin"), "HOME": str(tmp_path)}
    run(installers / "pipx", "install", "--quiet", "--python", sys.executable, wheel, **places)
    assert run(tmp_path / "bin" / "marfetch", "--version") == f"marfetch {__version__}\n"
