"""The shape of the package, held by the standard library's parser: layers, cycles, owners, late imports, and what a start loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import marfetch

PACKAGE = Path(marfetch.__file__).parent
ROOT = PACKAGE.parent

LAYERS = [
    ("words", {"refusals", "errors", "document", "oci", "reference", "text"}),
    ("rules", {"endpoint", "constraint", "artifact", "chart", "firewall", "guidance", "nearness"}),
    ("bytes", {"budget", "files", "lock", "kept", "listings", "content", "layout", "remote", "place"}),
    (
        "deeds",
        {
            "cache",
            "catalog",
            "client",
            "way",
            "config",
            "resolve",
            "choose",
            "task",
            "pull",
            "history",
            "inspection",
            "fetch",
            "earlier",
            "charts",
            "known",
            "plan",
            "search",
            "serve",
            "verify",
            "project",
            "compare",
            "bundle",
            "cluster",
        },
    ),
    ("faces", {"report", "completion", "demo", "doctor", "helm", "cli", "__main__"}),
]
"""Lowest first. A unit is a module, or a folder with all that is in it; it imports units of its own layer or of lower ones."""

OWNERS = {
    "oras": {"remote"},
    "requests": {"remote"},
    "urllib3": {"remote"},
    "truststore": {"remote"},
    "typer": {"cli"},
    "cryptography": {"verify"},
    "pysequoia": {"verify"},
    "semver": {"constraint"},
    "rapidfuzz": {"nearness"},
    "yaml": {"document"},
    "filelock": {"lock"},
    "platformdirs": {"cache", "place"},
    "rich": {"report"},
    "distributed": {"cluster"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
}
"""Each third-party package has one owner."""

LATE = {
    "__main__": "the front door chooses what to load",
    "cli": "the bodies of commands",
    "helm.getter.content": "the registry, only where nothing kept answers",
    "helm.getter._chart": "the registry, only where nothing kept answers",
    "helm.getter._gate": "cryptography, only where a verification is wished for",
    "helm.getter._client": "the registry, only where nothing kept answers",
    "helm.getter.main": "only in a failure",
    "client.connect": "oras-py, only where a registry is asked",
    "way.to": "ssl, only where a registry is asked",
    "client.each": "the executor, only where there are several",
    "client._wait_a_moment": "the executor's part, only where one was made",
    "cluster.spread": "distributed, only where work is spread over machines",
    "remote.trust._make": "truststore, only where the system's store counts",
    "document.parse_yaml": "PyYAML, only where a YAML file is read",
    "resolve._with_neighbours": "difflib, only for a wrong tag",
    "cache.cache_root": "platformdirs, only where no directory is named",
    "project.verification.verified": "cryptography, only where signatures are to be checked",
    "project.verification.verify_referrers": "cryptography, only where signatures are to be checked",
    "project.wanted._nearest": "difflib, only for a wrong key",
    "listings.keep": "the writing of files, where none is only read",
    "listings.keep_catalog": "the writing of files, where none is only read",
    "nearness.near": "rapidfuzz, only where no name holds the text",
    "completion._versions": "semver, only where versions are sorted",
    "known.cache_directory": "platformdirs, only where the directory is not a usual one",
    "lock.lock": "filelock, only where something is written",
    "lock.prepare": "filelock, only where several are fetched",
    "lock.claim": "filelock, only where something is written",
    "verify.artifact._lists": "requests and urllib3, only where a revocation list may be asked for",
    "verify.provenance._sequoia": "an extra, only where provenance is checked",
    "place.directory.cloned": "not on every operating system",
    "place.directory._renamed": "ctypes, only where a directory gets its name",
    "place.records.state_root": "platformdirs, only where an archive is unpacked",
    "report.show": "rich, only for a bar on a terminal",
    "report.tree": "rich, only for a tree",
}
"""Imports inside functions are allowed here and nowhere else."""


@dataclass(frozen=True)
class Import:
    """One import: from which module of ours, of what, and where it stands."""

    module: str
    target: str
    function: str | None
    typing_only: bool
    line: int

    @property
    def unit(self) -> str:
        return self.module.partition(".")[0]

    @property
    def is_ours(self) -> bool:
        return self.target.startswith("marfetch.") or self.target == "marfetch"

    @property
    def target_unit(self) -> str:
        return self.target.removeprefix("marfetch").lstrip(".").partition(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def imports(name: str, path: Path) -> list[Import]:
    found: list[Import] = []
    package = ["marfetch", *name.split(".")] if path.name == "__init__.py" and name != "__init__" else ["marfetch", *name.split(".")[:-1]]

    def visit(node: ast.AST, function: str | None, typing_only: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inner, only = function, typing_only
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                inner = child.name
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                only = True
            targets: list[str] = []
            if isinstance(child, ast.Import):
                targets = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                stem = ".".join([*base, *(child.module.split(".") if child.module else [])])
                # `from .x import y`: y may be a module of its own.
                targets = [f"{stem}.{alias.name}" if is_module(f"{stem}.{alias.name}") else stem for alias in child.names]
            found.extend(Import(name, target, inner, only, getattr(child, "lineno", 0)) for target in targets)
            visit(child, inner, only)

    visit(parsed(path), None, False)
    return found


def is_module(dotted: str) -> bool:
    parts = dotted.split(".")
    if parts[0] != "marfetch":
        return False
    path = PACKAGE.joinpath(*parts[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


ALL = [one for name, path in modules() for one in imports(name, path)]
RANK = {unit: rank for rank, (_, units) in enumerate(LAYERS) for unit in units}


def test_every_module_has_its_layer() -> None:
    assert {name.partition(".")[0] for name, _ in modules()} - {"__init__"} == set(RANK)


def test_imports_go_down_or_stay_on_their_layer() -> None:
    wrong = [
        f"{one.module}:{one.line} imports {one.target}"
        for one in ALL
        if one.is_ours and one.target_unit and one.unit != "__init__" and RANK[one.target_unit] > RANK[one.unit]
    ]
    assert wrong == []


def test_there_are_no_cycles() -> None:
    graph: dict[str, set[str]] = {name: set() for name, _ in modules()}
    for one in ALL:
        target = one.target.removeprefix("marfetch").lstrip(".")
        if one.is_ours and target and not one.typing_only and target in graph and target != one.module:
            graph[one.module].add(target)
    # A command looks the commands up by name, and the demo runs them; both are told how at run time.
    graph["cli.demo"].discard("cli")
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for following in sorted(graph[name]):
                walk(following, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_each_package_has_one_owner() -> None:
    foreign = [one for one in ALL if not one.is_ours and one.target.partition(".")[0] not in sys.stdlib_module_names]
    for one in foreign:
        package = one.target.partition(".")[0]
        assert package in OWNERS, f"{one.module}:{one.line}: {package} has no owner"
        assert one.unit in OWNERS[package], f"{one.module}:{one.line} imports {package}"
    assert {one.target.partition(".")[0] for one in foreign} == set(OWNERS)


def test_words_and_rules_do_no_input_or_output() -> None:
    silent = {unit for name, units in LAYERS[:2] for unit in units}
    loud = {"os", "pathlib", "io", "socket", "subprocess", "tempfile", "shutil", "threading", "logging", "time", "urllib", "http"}
    assert [f"{one.module} imports {one.target}" for one in ALL if one.unit in silent and one.target.partition(".")[0] in loud] == []


def test_imports_stand_at_the_top_but_for_named_reasons() -> None:
    for one in ALL:
        if one.function is None or one.unit in LATE:
            continue
        assert f"{one.module}.{one.function}" in LATE, f"{one.module}:{one.line}: {one.target} is imported inside {one.function}"
    used = {f"{one.module}.{one.function}" for one in ALL if one.function is not None} | {
        one.unit for one in ALL if one.function is not None
    }
    assert set(LATE) <= used


def test_nothing_reaches_into_the_inside_of_others() -> None:
    for name, path in modules():
        text = path.read_text()
        assert "typer._" not in text, name
        assert "sys.modules" not in text, name


def test_only_faces_speak_and_only_the_front_door_exits() -> None:
    for name, path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert name == "__main__"
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("exit", "_exit")
                and isinstance(node.value, ast.Name)
                and node.value.id in ("sys", "os")
            ):
                assert name in ("__main__", "helm.launch")  # two front doors: the second is a script of the plugin on Windows


def test_modules_are_small() -> None:
    large = {name: lines for name, path in modules() if (lines := len(path.read_text().splitlines())) > 400}
    assert large == {}


# -- the tests themselves


def test_tests_import_from_the_world_and_not_from_one_another() -> None:
    """What two tests share is in `tests/world`, or in a module of their own folder that is no test, or is a fixture of a `conftest.py`."""
    tests = ROOT / "tests"
    wrong = []
    for path in sorted(tests.rglob("*.py")):
        package = path.relative_to(ROOT).parent.parts
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.ImportFrom) or not (node.level or (node.module or "").partition(".")[0] == "tests"):
                continue
            parts = (*(package[: len(package) - node.level + 1] if node.level else ()), *(node.module or "").split("."))
            parts = tuple(part for part in parts if part)
            for name in node.names:
                target = ROOT.joinpath(*parts)
                module = target if target.with_suffix(".py").is_file() else target / name.name
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                if module.name.startswith("test_"):
                    wrong.append(f"{where} imports {name.name} from a test: move it to tests/world")
                elif module.name == "conftest":
                    wrong.append(f"{where} imports {name.name} from a conftest.py, which is for fixtures: move it to tests/world")
                elif module.parent not in (tests / "world", path.parent):
                    wrong.append(f"{where} imports {name.name} from another folder: move it to tests/world")
    assert not wrong, "\n".join(wrong)


def test_no_fixture_is_written_twice() -> None:
    """A fixture that another folder needs too is in `tests/conftest.py`; one that goes on from it takes it as an argument."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef) and any("fixture" in ast.dump(one) for one in node.decorator_list):
                body = ast.unparse(ast.Module(node.body[1:] if ast.get_docstring(node) else node.body, []))
                found.setdefault(f"{ast.unparse(node.args)}\n{body}", []).append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    twice = [" and ".join(places) for places in found.values() if len(places) > 1]
    assert not twice, "the same fixture, keep one in tests/conftest.py: " + "; ".join(twice)


def test_the_readme_of_the_tests_names_every_marker_and_every_module_of_the_world() -> None:
    text = (ROOT / "tests" / "README.md").read_text()
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    names = [one.partition(":")[0] for one in markers]
    names += [path.stem for path in (ROOT / "tests" / "world").glob("*.py") if path.stem != "__init__"]
    assert [name for name in names if f"`{name}`" not in text] == []


# -- what a start loads


def loaded(*arguments: str, **environment: str) -> set[str]:
    """The top-level modules that are loaded when a command line has run."""
    code = (
        "import sys, json\nbefore = set(sys.modules)\nfrom marfetch.__main__ import main\n"
        f"code = main({list(arguments)!r})\nassert code == 0, code\n"
        "print('LOADED' + json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment}, capture_output=True, text=True, errors="replace", timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.rpartition("LOADED")[2]))


HEAVY = {
    "rapidfuzz",
    "oras",
    "requests",
    "urllib3",
    "truststore",
    "starlette",
    "uvicorn",
    "rich",
    "filelock",
    "yaml",
    "jsonschema",
    "ssl",
    "pydantic",
    "cryptography",
    "pysequoia",
}


def test_importing_the_package_costs_nothing() -> None:
    code = "import sys; before = set(sys.modules); import marfetch; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['marfetch']"


def test_the_version_loads_the_front_door_and_nothing_else() -> None:
    assert loaded("--version") == {"marfetch"}


SLOW = HEAVY | {
    "typer",
    "click",
    "semver",
    "platformdirs",
    "dataclasses",
    "pathlib",
    "hashlib",
    "inspect",
    "tempfile",
    "threading",
    "logging",
}


@pytest.mark.parametrize(
    "words", [["pul"], ["pull", "--"], ["pull", "--kind", "ch"], ["pull", "aks/"], ["pull", "aks/foo:"], ["pull", "aks/foo@"]]
)
@pytest.mark.parametrize("place", ["MARFETCH_CACHE_DIR", "HOME"])
def test_a_completion_loads_next_to_nothing(tmp_path: Path, words: list[str], place: str) -> None:
    from marfetch import records

    records.keep(tmp_path / (".cache/marfetch" if place == "HOME" else ""), "mcr.microsoft.com/aks/foo", ["1.0.0"])
    assert loaded("__complete", *words, **{place: str(tmp_path)}) & SLOW == set()


def test_only_to_sort_versions_does_a_completion_load_semver(tmp_path: Path) -> None:
    found = loaded("__complete", "pull", "aks/foo", "--version", "", MARFETCH_CACHE_DIR=str(tmp_path))
    assert "semver" in found
    assert found & {"typer", "click", "platformdirs", "pathlib", "tempfile", "threading", "logging"} == set()
    assert found & HEAVY == set()


@pytest.mark.parametrize("command", ["version", "endpoints"])
def test_a_command_that_asks_nobody_loads_nothing_heavy(command: str) -> None:
    assert loaded(command) & HEAVY == set()


def test_public_names_need_no_network_and_nothing_heavy() -> None:
    code = (
        "import sys\nfrom marfetch.reference import Reference\nfrom marfetch.constraint import Constraint\nfrom marfetch.errors import Error\n"
        "from marfetch.client.session import Client\n"
        f"print(sorted(set(sys.modules) & {HEAVY | {'typer'}!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_nothing_of_cryptography_loads_unless_a_verification_runs(tmp_path: Path) -> None:
    from marfetch.demo.recipe import build
    from marfetch.layout.layout import Layout
    from marfetch.reference import Host

    made = build(Layout(tmp_path / "cache"), Host("mcr.microsoft.com"))
    environment = {"MARFETCH_CACHE_DIR": str(tmp_path / "cache")}
    pinned = f"application-lb/charts/alb-controller@{made['F1'].digest}"
    crypto = {"cryptography", "pysequoia", "cffi", "_cffi_backend"}
    assert loaded("pull", pinned, "-d", str(tmp_path / "out"), **environment) & crypto == set()
    assert loaded("inspect", pinned, "--offline", **environment) & crypto == set()
    policy = tmp_path / "policy.json"
    statement = {"name": "a", "registryScopes": ["*"], "signatureVerification": {"level": "skip"}}
    policy.write_text(json.dumps({"version": "1.0", "trustPolicies": [statement]}))
    assert "cryptography" in loaded("verify", pinned, "--offline", "--trust-policy", str(policy), **environment)


def test_what_the_cache_answers_loads_no_oras(tmp_path: Path) -> None:
    from marfetch.demo.recipe import build
    from marfetch.layout.layout import Layout
    from marfetch.reference import Host

    layout = Layout(tmp_path / "cache")
    made = build(layout, Host("mcr.microsoft.com"))
    arguments = ["pull", f"application-lb/charts/alb-controller@{made['F1'].digest}", "-d", str(tmp_path / "out")]
    environment = {"MARFETCH_CACHE_DIR": str(tmp_path / "cache")}
    needed = {"filelock"}  # the index is written when something was pulled
    assert loaded(*arguments, **environment) & HEAVY <= needed
    assert loaded(*arguments, "--offline", **environment) & HEAVY == set()


@pytest.mark.parametrize("path", ["@{digest}/alb-controller-1.7.12.tgz", "/index.yaml"], ids=["cached chart", "kept index"])
def test_what_the_getter_has_already_it_gives_without_typer_and_oras(tmp_path: Path, path: str) -> None:
    from marfetch.demo.recipe import build
    from marfetch.layout.layout import Layout
    from marfetch.records import Records
    from marfetch.reference import Host

    repository = "mcr.microsoft.com/application-lb/charts/alb-controller"
    made = build(Layout(tmp_path / "cache"), Host("mcr.microsoft.com"))
    Records(tmp_path / "cache", "indexes").put(repository, "{}")
    url = f"mar://{repository}{path.format(digest=made['F1'].digest)}"
    found = loaded("getter", "", "", "", url, MARFETCH_CACHE_DIR=str(tmp_path / "cache"))
    assert found & HEAVY <= {"filelock"}
