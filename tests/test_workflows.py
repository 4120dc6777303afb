"""CI workflows: actions are pinned by commit, permissions are minimal, and the release workflow is complete."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import marfetch

from .world.gnupg import homes, new_key
from .world.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
ACTIONS = [ROOT / "action.yml", *sorted((ROOT / ".github" / "actions").rglob("action.y*ml"))]
RIGHTS = {
    ("ci.yml", "test"): {"contents": "read"},
    ("ci.yml", "pythons"): {"contents": "read"},
    ("ci.yml", "lowest"): {"contents": "read"},
    ("ci.yml", "systems"): {"contents": "read"},
    ("ci.yml", "audit"): {"contents": "read"},
    ("docs.yml", "build"): {"contents": "read"},
    ("docs.yml", "publish"): {"pages": "write", "id-token": "write"},
    ("release.yml", "build"): {"contents": "read"},
    ("release.yml", "sign"): {},
    ("release.yml", "registry"): {"packages": "write"},
    ("release.yml", "attest"): {"id-token": "write", "attestations": "write"},
    ("release.yml", "publish"): {"id-token": "write"},
    ("release.yml", "release"): {"contents": "write"},
}
"""(workflow, job) → its permissions. A further permission must be added here on purpose."""


def parsed(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # keep the key `on` as a string
    return document


def steps(path: Path) -> list[dict[str, Any]]:
    document = parsed(path)
    found: list[dict[str, Any]] = document.get("runs", {}).get("steps", [])
    return found + [step for job in document.get("jobs", {}).values() for step in job["steps"]]


def test_the_workflows_are_there() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "docs.yml", "release.yml"]
    assert ACTIONS


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: path.parent.name + "-" + path.name)
def test_actions_of_others_are_pinned_by_commit_with_their_version_beside_it(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]
    lines = re.findall(r"uses: (\S+)( # v[0-9]+\.[0-9]+\.[0-9]+)?$", path.read_text(), re.MULTILINE)
    assert [name for name, _ in lines] == used
    for name, version in lines:
        if not name.startswith("./"):
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", name), name
            assert version, f"{name} has no comment with its version"


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
        systems = job["strategy"]["matrix"]["system"] if job["runs-on"] == "${{ matrix.system }}" else [job["runs-on"]]
        for image in systems:
            assert re.fullmatch(r"[a-z]+-[0-9.]+", image), "name the version of the runner image"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_foreign_gets_into_a_script_or_a_checkout(path: Path) -> None:
    document = parsed(path)
    assert "pull_request_target" not in document["on"]
    assert "workflow_run" not in document["on"]
    for step in steps(path):
        assert "${{" not in step.get("run", ""), step
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"
    # The only secrets are the token of the run and the key of the plugin. Each is passed to the commands of one step.
    is_release = path.name == "release.yml"
    assert re.findall(r"secrets\.\w+", path.read_text()) == (["secrets.MARFETCH_SIGNING_KEY"] if is_release else [])
    assert path.read_text().count("github.token") == (2 if is_release else 0)


def test_what_is_published_was_built_once_and_is_attested_first() -> None:
    jobs = parsed(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert [(name, job.get("needs")) for name, job in jobs.items()] == [
        ("build", None),
        ("sign", "build"),
        ("attest", "sign"),
        ("publish", "attest"),
        ("registry", "attest"),
        ("release", ["publish", "registry"]),
    ]
    # Only the job without further permissions runs the project's code. The other jobs use its artifacts.
    assert [name for name, job in jobs.items() if any("checkout" in step.get("uses", "") for step in job["steps"])] == ["build"]
    assert [name for name, job in jobs.items() if any("make" in step.get("run", "").split() for step in job["steps"])] == ["build"]
    (attested,) = [step for step in jobs["attest"]["steps"] if "attest-build-provenance" in step["uses"]]
    assert attested["with"]["subject-path"] == "dist/*"
    (published,) = [step for step in jobs["publish"]["steps"] if "gh-action-pypi-publish" in step.get("uses", "")]
    assert published["with"] == {"packages-dir": "packages/", "attestations": "true"}
    assert jobs["publish"]["environment"] == "pypi"
    assert jobs["sign"]["environment"] == "release"
    for name in ("attest", "publish", "registry", "release"):
        assert [step["with"]["name"] for step in jobs[name]["steps"] if "download-artifact" in step.get("uses", "")] == ["signed"]


def test_the_main_commands_run_on_each_system_and_python() -> None:
    job = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["systems"]
    matrix = job["strategy"]["matrix"]
    assert [one.partition("-")[0] for one in matrix["system"]] == ["ubuntu", "macos", "windows"]
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert matrix["python"] == named
    assert job["steps"][-1]["run"] == "python ci/smoke.py marfetch"


def test_the_key_signs_what_helm_4_accepts(tmp_path: Path) -> None:
    """The script of the step, with a throw-away key."""
    jobs = parsed(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    (step,) = [step for step in jobs["sign"]["steps"] if "run" in step]
    if shutil.which("gpg") is None:
        pytest.skip("needs the program gpg")
    with homes("own", "runner") as (here, there):
        new_key(here, "x <x@example.invalid>")
        own = {**os.environ, "GNUPGHOME": str(here)}
        key = subprocess.run(["gpg", "--armor", "--export-secret-keys"], env=own, check=True, capture_output=True, text=True).stdout
        dist = tmp_path / "dist"
        subprocess.run([sys.executable, str(ROOT / "ci" / "release.py"), str(dist)], check=True, capture_output=True)
        runner = {**os.environ, "GNUPGHOME": str(there), "SIGNING_KEY": key}
        subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd=dist, env=runner, check=True, capture_output=True)
        archive = f"marfetch-{marfetch.__version__}.tgz"
        assert sorted(path.name for path in dist.iterdir()) == ["SHA256SUMS", archive, f"{archive}.prov", "marfetch.asc"]
        assert (
            archive in subprocess.run(["gpg", "--verify", str(dist / f"{archive}.prov")], env=own, check=True, capture_output=True).args[-1]
        )
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist, check=True, capture_output=True)


def test_commands_of_the_workflows_are_targets_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        word
        for path in WORKFLOWS
        for step in steps(path)
        for line in re.findall(r"make ([a-z -]+)", step.get("run", ""))
        for word in line.split()
    }
    assert used == {"test", "test-lowest", "audit", "release", "site"}
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
    """Create the SBOM with the tool that `make sbom` installs, if it is installed."""
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


def test_the_templates_of_issues_ask_for_what_an_answer_needs() -> None:
    """As GitHub reads them: "Syntax for GitHub's form schema"."""
    place = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = {path.stem: parsed(path) for path in place.glob("*.yml")}
    assert set(forms.pop("config")) == {"blank_issues_enabled", "contact_links"}
    assert set(forms) == {"bug", "feature"}
    for form in forms.values():
        assert set(form) == {"name", "description", "labels", "body"}
        fields = [one for one in form["body"] if one["type"] != "markdown"]
        assert {one["type"] for one in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
        assert len({one["id"] for one in fields}) == len(fields)
        assert all(one["attributes"]["label"] for one in fields)
    wanted = {one["id"] for one in forms["bug"]["body"] if one.get("validations", {}).get("required") == "true"}
    assert wanted == {"command", "expected", "version", "system"}


@pytest.mark.parametrize("name", ["SUPPORT.md", "SECURITY.md", "CONTRIBUTING.md", ".github/pull_request_template.md"])
def test_pages_at_the_root_link_to_what_is_there(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
