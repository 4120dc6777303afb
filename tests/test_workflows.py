"""CI workflows: actions are pinned by commit, permissions are minimal, and the release workflow is complete."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import marfetch

from .world.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
ACTIONS = [ROOT / "action.yml", *sorted((ROOT / ".github" / "actions").rglob("action.y*ml"))]
RIGHTS = {
    ("ci.yml", "test"): {"contents": "read"},
    ("ci.yml", "pythons"): {"contents": "read"},
    ("ci.yml", "audit"): {"contents": "read"},
    ("release.yml", "build"): {"contents": "read"},
    ("release.yml", "attest"): {"id-token": "write", "attestations": "write"},
    ("release.yml", "publish"): {"id-token": "write"},
    ("release.yml", "release"): {"contents": "write"},
}
"""What each job may do. A right more is a decision, made here."""


def parsed(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # `on` is a text
    return document


def steps(path: Path) -> list[dict[str, Any]]:
    document = parsed(path)
    found: list[dict[str, Any]] = document.get("runs", {}).get("steps", [])
    return found + [step for job in document.get("jobs", {}).values() for step in job["steps"]]


def test_the_workflows_are_there() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]
    assert ACTIONS


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: path.parent.name + "-" + path.name)
def test_actions_of_others_are_pinned_by_commit_with_their_version_beside_it(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]
    lines = re.findall(r"uses: (\S+)( # v[0-9]+\.[0-9]+\.[0-9]+)?$", path.read_text(), re.MULTILINE)
    assert [name for name, _ in lines] == used
    for name, version in lines:
        if not name.startswith("./"):
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", name), name
            assert version, f"{name} does not say which version it is"


def test_one_action_is_pinned_to_one_commit_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in [*WORKFLOWS, *ACTIONS]:
        for step in steps(path):
            name, _, commit = step.get("uses", "").partition("@")
            pins.setdefault(name, set()).add(commit)
    assert {name: commits for name, commits in pins.items() if len(commits) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_rights_and_each_job_only_those_of_its_step(path: Path) -> None:
    document = parsed(path)
    assert document["permissions"] == {}
    assert {(path.name, name): job["permissions"] for name, job in document["jobs"].items()} == {
        key: rights for key, rights in RIGHTS.items() if key[0] == path.name
    }
    for job in document["jobs"].values():
        assert int(job["timeout-minutes"]) <= 90
        assert re.fullmatch(r"[a-z]+-[0-9.]+", job["runs-on"]), "an image by its version"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_foreign_gets_into_a_script_or_a_checkout(path: Path) -> None:
    document = parsed(path)
    assert "pull_request_target" not in document["on"]
    assert "workflow_run" not in document["on"]
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"
    # No secret but the token of the run, which is handed to one command.
    assert re.findall(r"secrets\.\w+", path.read_text()) == []
    assert path.read_text().count("github.token") == (path.name == "release.yml")


def test_what_is_published_was_built_once_and_is_attested_first() -> None:
    jobs = parsed(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert [(name, job.get("needs")) for name, job in jobs.items()] == [
        ("build", None),
        ("attest", "build"),
        ("publish", "attest"),
        ("release", "publish"),
    ]
    # Only the job without any other right runs code of the project; the others take what it made.
    assert [name for name, job in jobs.items() if any("checkout" in step.get("uses", "") for step in job["steps"])] == ["build"]
    assert [name for name, job in jobs.items() if any("make" in step.get("run", "").split() for step in job["steps"])] == ["build"]
    (attested,) = [step for step in jobs["attest"]["steps"] if "attest-build-provenance" in step["uses"]]
    assert attested["with"]["subject-path"] == "dist/*"
    (published,) = [step for step in jobs["publish"]["steps"] if "gh-action-pypi-publish" in step.get("uses", "")]
    assert published["with"] == {"packages-dir": "packages/", "attestations": "true"}
    assert jobs["publish"]["environment"] == "pypi"


def test_commands_of_the_workflows_are_targets_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        word
        for path in WORKFLOWS
        for step in steps(path)
        for line in re.findall(r"make ([a-z -]+)", step.get("run", ""))
        for word in line.split()
    }
    assert used == {"test", "audit", "release"}
    assert used <= targets


def made(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=110
    )


def test_a_tag_of_another_version_is_not_released() -> None:
    done = made("release", "TAG=v0.0.0-none", "VENV=.venv", "-o", ".venv/.dev", "-o", "sbom")
    assert done.returncode != 0
    assert f"the tag v0.0.0-none is not v{marfetch.__version__}" in done.stderr


def test_tools_of_the_release_are_pinned_by_hash() -> None:
    wanted = (ROOT / "requirements" / "audit.in").read_text().split()
    locked = (ROOT / "requirements" / "audit.lock").read_text()
    assert wanted == ["cyclonedx-bom", "pip-audit"]
    for name in wanted:
        assert re.search(rf"^{name}==[0-9.]+ \\\n    --hash=sha256:[0-9a-f]{{64}}", locked, re.MULTILINE)
    assert locked.count("==") == len(re.findall(r"==[^\n]+\\\n    --hash=", locked))


def test_the_bill_of_materials_is_of_the_lock(tmp_path: Path) -> None:
    """Made by the real tool where `make sbom` has put it."""
    tool = ROOT / ".venv-audit" / "bin" / "cyclonedx-py"
    if not tool.is_file():
        pytest.skip("`make sbom` was not run here")
    line = re.findall(
        r"cyclonedx-py (requirements .*?)-o dist/marfetch\.cdx\.json (\S+)", (ROOT / "Makefile").read_text().replace("\\\n\t\t", "")
    )
    ((options, lock),) = line
    subprocess.run(
        [str(tool), *options.split(), "-o", str(tmp_path / "sbom.json"), lock], cwd=ROOT, capture_output=True, check=True, timeout=110
    )
    document = json.loads((tmp_path / "sbom.json").read_text())
    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == ("CycloneDX", "marfetch")
    locked = set(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))
    assert {(one["name"], one["version"]) for one in document["components"]} == locked
    direct = {re.split(r"[>=<\[]", one)[0] for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]}
    assert direct <= {name for name, _ in locked}
