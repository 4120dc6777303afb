"""The GitHub Action and the Azure Pipelines template: their steps are run in the shell that the runner uses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .world.paths import ROOT
from .world.registry import Registry

ACTION = ROOT / ".github" / "actions" / "setup" / "action.yml"
TEMPLATE = ROOT / "ci" / "azure-pipelines.yml"
WANTED = "schema: 1\nartifacts:\n  - {reference: application-lb/charts/alb-controller, version: ~1.7}\n"
# The command lines with which runners start a step: GitHub's documentation, "defaults.run.shell", and the Bash task of Azure Pipelines.
GITHUB_SHELL = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
AZURE_SHELL = ["bash", "--noprofile", "--norc"]


def parsed(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


class Runner:
    """A CI job: its directories, variables and steps."""

    def __init__(self, place: Path, mar: Registry) -> None:
        self.place = place
        self.work = place / "work"
        self.temp = place / "temp"
        self.work.mkdir(parents=True)
        self.temp.mkdir()
        self.paths: list[str] = []
        self.variables: dict[str, str] = {}
        self.files = {name: place / name for name in ("GITHUB_PATH", "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        self.base = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith(("PIP_", "UV_"))} | {
            "MARFETCH_ENDPOINT": f"http://{mar.host}",
            "MARFETCH_DATA_HOSTS": mar.data_host,
        }

    def run(self, shell: list[str], script: str, **environment: str) -> str:
        path = self.place / "step.sh"
        path.write_text(script)
        surroundings = {**self.base, **self.variables, **environment, "PATH": os.pathsep.join([*self.paths, self.base["PATH"]])}
        done = subprocess.run(
            [*shell, str(path)], cwd=self.work, env=surroundings, capture_output=True, text=True, timeout=110, check=False
        )
        if done.returncode and "pip" in done.stderr and os.environ.get("CI") != "true":
            pytest.skip("no package index can be reached")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def github(self, step: dict[str, Any], inputs: dict[str, str]) -> None:
        assert step["shell"] == "bash"
        environment = {name: inputs[value.removeprefix("${{ inputs.").removesuffix(" }}")] for name, value in step.get("env", {}).items()}
        self.run(
            GITHUB_SHELL,
            step["run"],
            GITHUB_ACTION_PATH=str(ACTION.parent),
            RUNNER_TEMP=str(self.temp),
            **environment,
            **{name: str(path) for name, path in self.files.items()},
        )
        if self.files["GITHUB_PATH"].exists():
            self.paths = self.files["GITHUB_PATH"].read_text().splitlines()[::-1]
        if self.files["GITHUB_ENV"].exists():
            self.variables |= dict(line.split("=", 1) for line in self.files["GITHUB_ENV"].read_text().splitlines())

    def azure(self, step: dict[str, Any], parameters: dict[str, str]) -> None:
        environment = {
            name: parameters[value.removeprefix("${{ parameters.").removesuffix(" }}")] for name, value in step.get("env", {}).items()
        }
        for line in self.run(AZURE_SHELL, step["bash"], AGENT_TEMPDIRECTORY=str(self.temp), **environment).splitlines():
            if found := re.fullmatch(r"##vso\[task\.prependpath\](.+)", line):
                self.paths.insert(0, found[1])
            if found := re.fullmatch(r"##vso\[task\.setvariable variable=(\w+)\](.+)", line):
                self.variables[found[1]] = found[2]


@pytest.fixture
def runner(tmp_path: Path, mar: Registry) -> Runner:
    made = Runner(tmp_path / "runner with space", mar)
    (made.work / "marfetch.yaml").write_text(WANTED)
    return made


@pytest.fixture
def locked(runner: Runner) -> Callable[[], None]:
    """Lock the project with the installed marfetch, as a developer does before the job."""
    return lambda: print(runner.run(GITHUB_SHELL, "marfetch lock --quiet"))


@pytest.mark.install
@pytest.mark.slow
def test_the_action_sets_up_and_syncs(runner: Runner, locked: Callable[[], None]) -> None:
    action = parsed(ACTION)
    inputs = {name: one["default"] for name, one in action["inputs"].items()}
    install, lock, cache, sync = action["runs"]["steps"]
    runner.github(install, inputs)
    locked()
    runner.github(lock, inputs)
    runner.github(sync, inputs)
    assert (runner.work / "alb-controller-1.7.12.tgz").is_file()
    outputs = dict(line.split("=", 1) for line in runner.files["GITHUB_OUTPUT"].read_text().splitlines())
    assert re.fullmatch("[0-9a-f]{40}", outputs["digest"])
    assert outputs["cache"] == runner.variables["MARFETCH_CACHE_DIR"]
    assert (Path(outputs["cache"]) / "oci-layout").is_file()
    assert "marfetch sync: 1 fetched" in runner.files["GITHUB_STEP_SUMMARY"].read_text()
    assert cache["with"]["key"].endswith("${{ steps.lock.outputs.digest }}")
    # Sync one shard. The `python` on the `PATH` is still that of the job.
    runner.github(sync, {**inputs, "shard": "1/2"})
    assert runner.run(GITHUB_SHELL, "command -v python3").strip() == shutil.which("python3")


@pytest.mark.install
@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a checkout can be cloned")
def test_the_template_sets_up_and_syncs(runner: Runner, locked: Callable[[], None]) -> None:
    template = parsed(TEMPLATE)
    parameters = {one["name"]: str(one["default"]) for one in template["parameters"]}
    # The working tree may have uncommitted changes, so it is copied into a new repository.
    source = runner.place / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    own = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    for line in (["git", "init", "-q", "-b", "main"], ["git", "add", "-A"], [*own, "commit", "-qm", "x"]):
        subprocess.run(line, cwd=source, check=True, capture_output=True)
    setup, cache, sync = template["steps"]
    runner.azure(setup, {**parameters, "source": f"file://{source}"})
    locked()
    ((_, steps),) = sync.items()
    runner.azure(steps[0], parameters)
    assert (runner.work / "alb-controller-1.7.12.tgz").is_file()
    assert cache["inputs"]["path"] == "$(MARFETCH_CACHE_DIR)"
    assert parameters["lock"] in cache["inputs"]["key"].replace("${{ parameters.lock }}", parameters["lock"])


def test_third_party_actions_are_pinned_and_scripts_have_no_template_expressions() -> None:
    for step in parsed(ACTION)["runs"]["steps"]:
        if "uses" in step:
            assert re.search("@[0-9a-f]{40}$", step["uses"]), step["uses"]
        assert "${{" not in step.get("run", "")
    text = TEMPLATE.read_text()
    scripts = re.findall(r"- bash: \|\n((?: +.*\n)+?) +(?:displayName|env)", text)
    assert len(scripts) == 2
    assert all("${{" not in script and "$(" not in script for script in scripts)


def test_the_installer_refuses_an_unknown_target(tmp_path: Path) -> None:
    done = subprocess.run([str(ROOT / "ci" / "install"), str(tmp_path / "x"), "elsewhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, "`elsewhere` is none of" in done.stderr) == (2, True)
    assert not (tmp_path / "x").exists()


RENOVATED = """artifacts:
  - reference: aks/foo:1.2.3
  - reference: bicep/x
    version: ^1
  - reference: 'aks/bar:v2.0.0-rc.1'
  - {reference: "aks/pinned:1.2.3@sha256:DIGEST", name: x}
  - reference: aks/digest@sha256:DIGEST
  - reference: mcr.microsoft.com/aks/host:1.10.0
  - reference: oci://mcr.azure.cn/aks/china:1.0.0_b@sha256:DIGEST  # and more
  - reference: "https://mcr.microsoft.com/aks/pasted:0.4.023901"
  - reference: registry.example/aks/foo:1.2.3
  - reference: localhost:5000/aks/foo:1.2.3
""".replace("DIGEST", "a" * 64)


def test_the_renovate_example_finds_pinned_versions() -> None:
    page = (ROOT / "docs" / "how-to" / "ci.md").read_text()
    (example,) = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL))
    digest = "sha256:" + "a" * 64
    found = []
    for manager in example["customManagers"]:
        assert not re.search(r"\(\?<?[=!]", manager["matchStrings"][0]), "Renovate uses RE2, which has no look-around"
        expression = manager["matchStrings"][0].replace("(?<", "(?P<")
        found.append([(match["depName"], match["currentValue"], match["currentDigest"]) for match in re.finditer(expression, RENOVATED)])
        pattern = manager["managerFilePatterns"][0].strip("/")
        assert re.search(pattern, "deploy/marfetch.yaml")
        assert not re.search(pattern, "deploy/marfetch.lock")
    assert found[0] == [
        ("aks/foo", "1.2.3", None),
        ("aks/bar", "v2.0.0-rc.1", None),
        ("aks/pinned", "1.2.3", digest),
        ("aks/host", "1.10.0", None),
        ("aks/pasted", "0.4.023901", None),
    ]
    assert found[1] == [("mcr.azure.cn/aks/china", "1.0.0_b", digest)]
