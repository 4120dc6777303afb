"""The building blocks for CI: the tests run their steps in the shell that the runner uses, and check the examples."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .world.paths import ROOT
from .world.registry import Registry

ACTION = ROOT / "action.yml"
SETUP = ROOT / ".github" / "actions" / "setup" / "action.yml"
TEMPLATE = ROOT / "ci" / "azure-pipelines.yml"
COMPONENT = ROOT / "ci" / "gitlab" / "templates" / "marfetch.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
PRESET = ROOT / "ci" / "renovate" / "marfetch.json"
PAGE = ROOT / "docs" / "how-to" / "ci.md"
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
        self.host = mar.host
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
    install, lock, cache, sync, _ = action["runs"]["steps"]
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
    setup, cache, sync, _ = template["steps"]
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
    runner.azure(setup, {**parameters, "source": f"file://{source}"})
    locked()
    ((_, steps),) = sync.items()
    runner.azure(steps[0], parameters)
    assert (runner.work / "alb-controller-1.7.12.tgz").is_file()
    assert cache["inputs"]["path"] == "$(MARFETCH_CACHE_DIR)"
    assert parameters["lock"] in cache["inputs"]["key"].replace("${{ parameters.lock }}", parameters["lock"])


def test_third_party_actions_are_pinned_and_scripts_have_no_template_expressions() -> None:
    for action in (ACTION, SETUP):
        for step in parsed(action)["runs"]["steps"]:
            if "uses" in step:
                assert re.search("@[0-9a-f]{40}$", step["uses"]), step["uses"]
            assert "${{" not in step.get("run", "")
    text = TEMPLATE.read_text()
    scripts = re.findall(r"- bash: \|\n((?: +.*\n)+?) +(?:displayName|env)", text)
    assert len(scripts) == 3
    assert all("${{" not in script and "$(" not in script for script in scripts)


def test_the_action_has_what_the_marketplace_wants() -> None:
    action = parsed(ACTION)
    assert {"name", "description", "author", "branding", "inputs", "outputs", "runs"} == set(action)
    assert len(action["description"]) < 125
    assert action["branding"] == {"icon": "package", "color": "blue"}
    assert all(set(one) == {"description", "default"} and isinstance(one["default"], str) for one in action["inputs"].values())
    used = set(re.findall(r"inputs\.([a-z-]+)", ACTION.read_text()))
    assert used == set(action["inputs"])


def test_the_older_action_does_the_same_but_bump() -> None:
    """An action cannot call another one of its repository at the same commit, so both have the steps."""
    new, old = parsed(ACTION), parsed(SETUP)
    path = '"$GITHUB_ACTION_PATH/../../../ci/install"'
    assert [{**one, "run": one["run"].replace(path, '"$GITHUB_ACTION_PATH/ci/install"')} if "run" in one else one for one in old["runs"]["steps"]] == [
        {**one, "if": one["if"].removesuffix(" && inputs.bump != 'true'")} if "if" in one else one for one in new["runs"]["steps"][:-1]
    ]  # fmt: skip
    assert {name: one["default"] for name, one in old["inputs"].items()}.items() <= {
        name: one["default"] for name, one in new["inputs"].items()
    }.items()


# -- a pull request with newer versions

FAKE = """#!{python}
import json, os, pathlib, sys
words = sys.argv[1:]
place = pathlib.Path(os.environ["FAKE_PLACE"])
text = [pathlib.Path(words[at + 1]).read_text() for at, word in enumerate(words[:-1]) if word == "--body-file"]
text += [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--description"]
with (place / "asked").open("a") as file:
    file.write(json.dumps({{"words": words, "text": text, "token": os.environ.get("{token}")}}) + "\\n")
if "list" in words and (place / "open").exists():
    print(7)
if "create" in words:
    (place / "open").touch()
"""
"""A `gh` or `az` that remembers what it was asked, and whether there is a pull request."""


class Project:
    """A project with a remote, and the programs that the job finds on its PATH."""

    def __init__(self, runner: Runner) -> None:
        self.runner, self.place = runner, runner.place
        self.work, self.origin = runner.work, runner.place / "origin.git"
        tools = self.place / "tools"
        tools.mkdir()
        for name, token in (("gh", "GH_TOKEN"), ("az", "AZURE_DEVOPS_EXT_PAT")):
            (tools / name).write_text(FAKE.format(python=sys.executable, token=token))
        (tools / "marfetch").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m marfetch "$@"\n')
        for one in tools.iterdir():
            one.chmod(0o755)
        runner.paths = [str(tools)]
        runner.variables = {
            "PYTHONPATH": str(ROOT),
            "MARFETCH_CACHE_DIR": str(self.place / "cache"),
            "FAKE_PLACE": str(self.place),
            "GITHUB_REF": "refs/heads/main",
            "BUILD_SOURCEBRANCH": "refs/heads/main",
            "BUILD_REPOSITORY_NAME": "project",
            "SYSTEM_COLLECTIONURI": "https://dev.azure.com/someone/",
            "SYSTEM_TEAMPROJECT": "team",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        (self.work / "deploy").mkdir()
        (self.work / "deploy" / "run.sh").write_text(
            # `bump` counts the registry of the endpoint as MAR.
            f"helm pull oci://{runner.host}/application-lb/charts/alb-controller --version 1.6.7\n"
        )
        runner.run(GITHUB_SHELL, "marfetch lock --quiet")
        (self.work / "marfetch.yaml").write_text(WANTED.replace("~1.7", "^1.7"))
        own = "git -c user.name=x -c user.email=x@example.com -c commit.gpgsign=false"
        self.git("init -q -b main", "add -A")
        runner.run(GITHUB_SHELL, f"{own} commit -qm first && git clone -q --bare . ../origin.git && git remote add origin ../origin.git")

    def git(self, *lines: str) -> str:
        return "".join(self.runner.run(GITHUB_SHELL, f"git {line}") for line in lines)

    def asked(self) -> list[dict[str, Any]]:
        path = self.place / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def bump(self, where: str, **settings: str) -> None:
        """Run the step of the platform that opens a pull request, on a fresh checkout of `main`."""
        self.git("switch -q -f main")
        if where == "github":
            (step,) = [one for one in parsed(ACTION)["runs"]["steps"] if "pull-request" in one.get("run", "")]
            defaults = {name: one["default"] for name, one in parsed(ACTION)["inputs"].items()}
            self.runner.github(step, {**defaults, "token": "secret", **settings})
        else:
            (steps,) = [one[name] for one in parsed(TEMPLATE)["steps"] for name in one if name == "${{ if parameters.bump }}"]
            defaults = {one["name"]: str(one["default"]) for one in parsed(TEMPLATE)["parameters"]}
            step = {**steps[0], "env": {**steps[0]["env"], "PR_TOKEN": "${{ parameters.token }}"}}
            script = self.place / "temp" / "marfetch-source" / "ci"
            if not script.exists():
                script.parent.mkdir()
                script.symlink_to(ROOT / "ci")
            self.runner.azure(step, {**defaults, "token": "secret", **settings})


@pytest.fixture
def project(runner: Runner) -> Project:
    return Project(runner)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["github", "azure"])
def test_one_pull_request_is_opened_and_updated(project: Project, where: str) -> None:
    project.bump(where)
    shown = project.git("-C ../origin.git show marfetch/bump:deploy/run.sh", "-C ../origin.git show marfetch/bump:marfetch.lock")
    assert "--version 1.11.4" in shown
    assert '"version": "1.11.4"' in shown, "the lock moves too"
    assert project.git("-C ../origin.git log --format=%s main..marfetch/bump").splitlines() == [
        "Bump artifacts of the Microsoft Artifact Registry"
    ]
    first, second = project.asked()
    assert (first["words"][1 + (where == "azure")], second["words"][1 + (where == "azure")]) == ("list", "create")
    assert (first["token"], second["token"]) == ("secret", "secret")
    assert {"marfetch/bump", "main"} <= set(second["words"])
    (text,) = second["text"]
    assert "1.11.4" in text
    assert "marfetch lock: 1 upgraded" in text
    before = project.git("-C ../origin.git rev-parse marfetch/bump")
    project.bump(where)
    assert project.git("-C ../origin.git rev-parse marfetch/bump") == before, "the same changes are not pushed again"
    assert {"update", "edit"} & set(project.asked()[-1]["words"])
    assert "7" in project.asked()[-1]["words"]


@pytest.mark.slow
def test_settings_reach_bump_as_they_are_and_nothing_newer_opens_nothing(project: Project) -> None:
    (project.work / "a dir").mkdir()
    project.bump("github", paths="a dir\n\n", file="elsewhere/marfetch.yaml")
    project.bump("github", **{"min-age": "5000w", "level": "patch", "pin": "true"})
    assert project.asked() == []
    project.bump("azure", paths="deploy", pin="True", title="$(touch x) `touch y` 'z'")
    assert not [one for one in ("x", "y") if (project.work / one).exists()]
    assert "$(touch x) `touch y` 'z'" in project.asked()[-1]["words"]
    assert "--version 1.11.4" in project.git("-C ../origin.git show marfetch/bump:deploy/run.sh")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PR_BRANCH": "main"}, "cannot be both the branch and the target"),
        ({"GITHUB_REF": "refs/tags/v1"}, "does not run on a branch"),
        ({"GITHUB_REF": "refs/pull/1/merge"}, "does not run on a branch"),
        ({"PR_BRANCH": "a..b"}, "not a name for a branch"),
        ({"dirty": "1"}, "has changes that are not committed"),
    ],
)
def test_a_pull_request_that_cannot_be_right_is_refused_first(project: Project, variables: dict[str, str], message: str) -> None:
    if variables.pop("dirty", None):
        (project.work / "marfetch.yaml").write_text(WANTED)
    settings = {"BUMP_PATHS": ".", "BUMP_LEVEL": "", "BUMP_MIN_AGE": "", "BUMP_PIN": "", "LOCK_FILE": "", "PR_BRANCH": "marfetch/bump"}
    environment = {
        **project.runner.base,
        **project.runner.variables,
        **settings,
        "PR_BASE": "",
        "PR_TITLE": "t",
        "PR_TOKEN": "s",
        **variables,
    }
    done = subprocess.run(
        [ROOT / "ci" / "pull-request", "github"], cwd=project.work, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert project.asked() == []


# -- GitLab, pre-commit, and the examples


def test_the_gitlab_component_has_inputs_for_what_it_uses(runner: Runner) -> None:
    text = COMPONENT.read_text()
    header, job = yaml.safe_load_all(text)
    inputs = header["spec"]["inputs"]
    assert set(re.findall(r"\$\[\[ inputs\.([a-z-]+) \]\]", text)) == set(inputs)
    assert all({"description", "default"} <= set(one) for one in inputs.values())
    ((_, made),) = job.items()
    # The scripts get the inputs as variables, so that no shell parses them.
    assert "$[[" not in json.dumps([made["before_script"], made["script"]])
    assert set(made["variables"]) == set(re.findall(r"MARFETCH_\w+", text))
    project = Project(runner)
    variables = {name: re.sub(r"\$\[\[ inputs\.([a-z-]+) \]\]", lambda match: str(inputs[match[1]]["default"]).lower(), value) for name, value in made["variables"].items()}  # fmt: skip
    variables["MARFETCH_CACHE_DIR"] = str(project.place / "cache")
    written = []
    for index, total in ((None, None), (None, "1"), ("1", "2"), ("2", "2")):
        project.git("checkout -q -f main", "clean -qfd")
        (project.work / "marfetch.yaml").write_text(WANTED)
        share = {name: value for name, value in (("CI_NODE_INDEX", index), ("CI_NODE_TOTAL", total)) if value is not None}
        # GitLab runs the lines of a job as one script, with `set -eo pipefail`.
        runner.run(["bash", "-eo", "pipefail"], "\n".join(made["script"]), **variables, **share)
        written.append((project.work / "alb-controller-1.7.12.tgz").is_file())
    assert written[:2] == [True, True]
    assert sorted(written[2:]) == [False, True], "one of two jobs downloads it"


def test_the_hooks_have_the_fields_of_pre_commit_and_run(runner: Runner) -> None:
    hooks: list[dict[str, Any]] = yaml.safe_load(HOOKS.read_text())
    assert [one["id"] for one in hooks] == ["marfetch-lock-check", "marfetch-bump-check", "marfetch-bump"]
    for one in hooks:
        assert {"id", "name", "description", "entry", "language", "pass_filenames"} <= set(one)
        assert (one["language"], one["pass_filenames"]) == ("python", False)
    files = hooks[0]["files"]
    assert [bool(re.search(files, name)) for name in ("marfetch.yaml", "a/marfetch.lock", "marfetch.yaml.orig", "x-marfetch.lock")] == [
        *(True, True, False, False)
    ]
    project = Project(runner)
    project.git("checkout -q -f main")
    (project.work / "marfetch.yaml").write_text(WANTED)
    runner.run(GITHUB_SHELL, hooks[0]["entry"])


def examples(language: str) -> list[Any]:
    return [yaml.safe_load(one) for one in re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)]


def test_the_examples_use_what_there_is() -> None:
    inputs, parameters = set(parsed(ACTION)["inputs"]), {one["name"] for one in parsed(TEMPLATE)["parameters"]}
    component = next(iter(yaml.safe_load_all(COMPONENT.read_text())))["spec"]["inputs"]
    hooks = {one["id"] for one in yaml.safe_load(HOOKS.read_text())}
    seen = set()
    for example in examples("yaml"):
        for job in example.get("jobs", {}).values():
            for step in job["steps"]:
                if step["uses"].startswith("marfetch/marfetch@"):
                    seen.add("action")
                    assert set(step["with"]) <= inputs
        for step in example.get("steps", ()):
            seen.add("template")
            assert step["template"] == f"{TEMPLATE.relative_to(ROOT)}@marfetch"
            assert set(step["parameters"]) <= parameters
        for one in example.get("include", ()):
            seen.add("component")
            assert one["remote"].endswith(f"/main/{COMPONENT.relative_to(ROOT)}")
            assert set(one["inputs"]) <= set(component)
        for repository in example.get("repos", ()):
            seen.add("hooks")
            assert {one["id"] for one in repository["hooks"]} <= hooks
    assert seen == {"action", "template", "component", "hooks"}
    (renovate,) = examples("json")
    assert renovate["extends"] == [f"github>marfetch/marfetch//{PRESET.relative_to(ROOT).with_suffix('')}"]


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
  - {reference: aks/flow, version: ~1.7}
  - reference: aks/quoted   # why
    version: ">=1.2 <2" # and why
  - reference: aks/exact
    version: 1.2.3
    name: x
  - reference: registry.example/aks/foo
    version: ^1
""".replace("DIGEST", "a" * 64)


def test_the_renovate_preset_finds_versions() -> None:
    preset = json.loads(PRESET.read_text())
    digest = "sha256:" + "a" * 64
    found = []
    for manager in preset["customManagers"]:
        assert not re.search(r"\(\?<?[=!]", manager["matchStrings"][0]), "Renovate uses RE2, which has no look-around"
        expression = manager["matchStrings"][0].replace("(?<", "(?P<")
        matches = [match.groupdict() for match in re.finditer(expression, RENOVATED)]
        found.append([(one["depName"], one["currentValue"], one.get("currentDigest")) for one in matches])
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
    assert found[2] == [("bicep/x", "^1", None), ("aks/flow", "~1.7", None), ("aks/quoted", ">=1.2 <2", None), ("aks/exact", "1.2.3", None)]
