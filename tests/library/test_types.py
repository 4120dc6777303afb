"""Type checkers accept a correct program that uses the library, and reject a wrong one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..world.paths import ROOT

pytestmark = pytest.mark.slow

RIGHT = """\
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_type

from marfetch import Client, Constraint, Error, Reference
from marfetch.library import PulledFile, VerifiedArtifact


def texts(text: str) -> None:
    print(text)


def paths(files: list[PulledFile]) -> list[Path]:
    return [one.path for one in files]


with Client(endpoint="global", data_hosts=["a.example"], cache_dir=Path("c"), offline=True, timeout=1.5, jobs=4, ca_file="x.pem", progress=texts) as client:
    found = client.resolve(Reference.parse("aks/foo"), version="^1.2", devel=True)
    assert_type(found.reference, Reference)
    assert_type(found.tag, str | None)
    assert_type(client.versions("aks/foo")[0].prerelease, bool)
    assert_type(paths(client.pull("aks/foo", to=Path("x"), kind=["chart"], media_type="*", untar=True, verify=True)), list[Path])
    assert_type(client.read("aks/foo", kind="chart"), bytes)
    inspected = client.inspect("aks/foo:1.2.3")
    assert_type(inspected.layers[0].digest, str)
    assert_type(inspected.end_of_life, str | None)
    assert_type(client.search("foo", kind="chart")[0].name, str)
    assert_type(client.verify("aks/foo", at=datetime.now(UTC), crl=Path("crl"), trust_policy="p.json"), VerifiedArtifact)
    try:
        Client(progress=True).close()
    except Error as error:
        assert_type((error.code, error.message, error.hint, error.exit_code), tuple[str, str, str, int])
assert_type(Constraint.parse("^1").newest(["1.0.0"]), str | None)
"""
WRONG = """\
from marfetch import Client, Nothing

Client("global")
Client(jobs="many")
Client().read("aks/foo").encode()
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "program.py"
        path.write_text(text)
        return path

    return write


def mypy(path: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(ROOT / ".cache" / "mypy-user"), path.name]
    return subprocess.run(line, cwd=path.parent, capture_output=True, text=True, check=False)


def test_mypy_takes_the_right_program_and_refuses_the_wrong_one(program: Callable[[str], Path]) -> None:
    done = mypy(program(RIGHT))
    assert (done.returncode, done.stdout) == (0, "")
    done = mypy(program(WRONG))
    assert [line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line] == ["1", "3", "4", "5"]


def test_pyright_takes_the_right_program_and_refuses_the_wrong_one(program: Callable[[str], Path], tool: Callable[[str], Path]) -> None:
    def pyright(path: Path) -> subprocess.CompletedProcess[str]:
        (path.parent / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "pythonVersion": "3.11"}')
        line = [str(tool("pyright")), "--pythonpath", sys.executable, path.name]
        return subprocess.run(line, cwd=path.parent, capture_output=True, text=True, check=False)

    done = pyright(program(RIGHT))
    assert (done.returncode, "0 errors, 0 warnings" in done.stdout) == (0, True), done.stdout
    done = pyright(program(WRONG))
    assert done.returncode == 1
    assert {line.split(":")[1] for line in done.stdout.splitlines() if " error: " in line} >= {"1", "3", "4", "5"}
