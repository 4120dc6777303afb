"""The rules for the structure of the package (`docs/design.md`): rows, doors, names, sizes, owners, late imports, start-up imports."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .world.architecture import DOORS, HOUSE, LATE, PACKAGE, ROWS, draw, unit

ROOT = PACKAGE.parent

OWNERS = {
    "oras": {"remote"},
    "requests": {"remote"},
    "urllib3": {"remote"},
    "truststore": {"remote"},
    "typer": {"cli"},
    "cryptography": {"recording", "verify"},  # `recording` makes throw-away certificates; `verify` only reads some
    "pysequoia": {"verify"},
    "semver": {"constraint"},
    "rapidfuzz": {"client"},
    "yaml": {"document"},
    "pathspec": {"bump"},
    "filelock": {"files"},
    "platformdirs": {"destination", "layout"},
    "rich": {"render"},
    "distributed": {"client"},
    "mcp": {"agents"},
    "pydantic": {"agents"},
    "starlette": {"recording", "serve"},  # `recording` answers with the routes of `serve`
    "uvicorn": {"serve"},
    "cyclonedx": {"bundle"},
    "packageurl": {"bundle"},
    "h11": {"recording"},
}
"""Third-party package → the units that may import it."""

FACES_THAT_LOAD_LATE = {"__main__", "cli"}
"""Units that choose what to load, so that they may import inside functions without a reason."""

SHORT = {
    "bundle.clients": "lines for other tools, which `load` and `mirror` share",
    "cli.mirror": "a group of commands with one command",
    "bundle.approval": "what only one of the two web pages has; `bundle.webpage` is the rest",
    "cli.completion": "a group of commands with one command",
    "cli.mcp": "a group of commands with one command",
    "cli.parser": "loads typer, after `cli.early` has started to connect",
    "cli.version": "a group of commands with one command",
    "demo.embedded": "a server that the tour and `demo --serve` share",
    "project.forms.argo": "one file per form",
    "project.forms.azd": "one file per form",
    "project.forms.project_file": "one file per form",
    "recording.written": "loads while the command runs, not before it",
    "helm.launch": "a script that Helm starts on Windows; its path is fixed",
}
"""Module with fewer than 60 lines → the reason why it is not part of another module."""


def test_every_unit_has_its_row() -> None:
    placed = [name for units in ROWS.values() for name in units]
    found = {unit(name) for name in HOUSE.modules if name}
    assert len(placed) == len(set(placed)), "a unit is in two rows: remove it from one of the rows in tests/world/architecture.py"
    assert found <= set(placed), "add each new unit to a row in ROWS (tests/world/architecture.py)"


def test_imports_lead_to_the_right_or_down() -> None:
    order = {name: (row, place) for row, units in enumerate(ROWS.values()) for place, name in enumerate(units)}
    wrong = [
        f"{one.module}:{one.line} imports {one.target}"
        for one in HOUSE.ours
        if one.unit != one.target_unit and order[one.unit] > order[one.target_unit]
    ]
    assert wrong == [], (
        "move the needed code to a lower row or to the right, or pass it as an argument; imports under `TYPE_CHECKING` count too"
    )


def test_packages_are_entered_by_their_doors() -> None:
    wrong = [
        f"{one.module}:{one.line} imports {one.target}"
        for one in HOUSE.ours
        if "." in one.target and one.unit != one.target_unit and one.target.partition(".")[2] not in DOORS[one.target_unit]
    ]
    assert wrong == [], "use a door of that package, or add the module to DOORS (tests/world/architecture.py)"
    entered = {name: {module.partition(".")[2] for module in HOUSE.entered if unit(module) == name} for name in DOORS}
    assert {name: doors - entered[name] for name, doors in DOORS.items() if doors - entered[name]} == {}, (
        "remove doors that no other unit imports"
    )


def test_there_are_no_cycles() -> None:
    # The only cycle exists at run time: `cli` imports its commands by name, and the demo runs commands.
    assert [circle for circle in HOUSE.cycles() if circle != "cli -> cli.demo -> cli"] == []


def test_no_name_is_used_twice() -> None:
    twice = {name: modules for name, modules in HOUSE.classes.items() if len(modules) > 1}
    assert twice == {}, "give one of the classes a name that says how it differs"
    names: dict[str, list[str]] = {}
    for module, path in HOUSE.modules.items():
        if path.name != "__init__.py" and unit(module) not in ("cli", "render"):
            names.setdefault(module.rpartition(".")[2], []).append(module)
    assert {name: modules for name, modules in names.items() if len(modules) > 1} == {}, "rename one of the modules"


def test_modules_have_a_readable_size() -> None:
    modules = {name: lines for name, lines in HOUSE.lines.items() if HOUSE.modules[name].name != "__init__.py"}
    assert {name: lines for name, lines in modules.items() if lines > 500} == {}, "split the module"
    short = {name for name, lines in modules.items() if lines < 60}
    assert short - set(SHORT) == set(), "merge the module into the one that needs it, or add a reason to SHORT"
    assert set(SHORT) - short == set(), "the module is no longer short: remove it from SHORT"
    assert len(short) <= 25


# The restructuring ended with 165 modules, 34 entries, 240 arrows and 32,600 lines. Later steps added rooms for what charts need
# (`chart`, images, mirrors), for recordings and for releases; each brought its tests and pages with it.
def test_the_house_stays_small() -> None:
    modules = [path for path in HOUSE.modules.values() if path.name != "__init__.py"]
    entered = sum(name in HOUSE.entered for name in HOUSE.inner)
    assert len(modules) <= 236
    assert len(HOUSE.entries) <= 42
    assert len(HOUSE.arrows) <= 300
    assert entered * 2 <= len(HOUSE.inner), "at most half of the modules in packages may be imported by other units"
    assert sum(HOUSE.lines.values()) <= 52_000


def test_late_imports_say_why() -> None:
    wrong = [
        f"{one.module}:{one.line} imports {one.target} inside {one.function}"
        for one in HOUSE.imports
        if one.function is not None and one.unit not in FACES_THAT_LOAD_LATE and not LATE.search(one.text)
    ]
    assert wrong == [], "import it at the top, or write `# late: reason` on its line"
    early = [f"{one.module}:{one.line}" for one in HOUSE.imports if one.function is None and LATE.search(one.text)]
    assert early == [], "an import at the top is not late: remove the comment"


def test_words_do_no_input_or_output() -> None:
    loud = {"os", "pathlib", "io", "socket", "subprocess", "tempfile", "shutil", "threading", "logging", "time", "urllib.request", "http"}
    wrong = [
        f"{one.module}:{one.line} imports {one.target}"
        for one in HOUSE.imports
        if not one.is_ours and one.unit in ROWS["words"] and (one.target in loud or one.target.partition(".")[0] in loud)
    ]
    assert wrong == [], "take the bytes as an argument; only the storage row and the rows above it may read files"


def test_each_package_has_one_owner() -> None:
    foreign = [one for one in HOUSE.imports if not one.is_ours and one.target_unit not in sys.stdlib_module_names]
    wrong = [f"{one.module}:{one.line} imports {one.target}" for one in foreign if one.unit not in OWNERS.get(one.target_unit, set())]
    assert wrong == [], "use the unit that owns that package (OWNERS)"
    assert {one.target_unit for one in foreign} == set(OWNERS), "remove packages that are no longer used from OWNERS"


def test_nothing_reaches_into_the_inside_of_others() -> None:
    for name, path in HOUSE.modules.items():
        text = path.read_text()
        assert "typer._" not in text, name
        assert "sys.modules" not in text or name == "remote.oras_py", name  # docs/decisions/0022-loading-oras-py.md


def test_only_faces_speak_and_only_the_program_exits() -> None:
    for name, tree in HOUSE.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert name == "__main__"
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("exit", "_exit")
                and isinstance(node.value, ast.Name)
                and node.value.id in ("sys", "os")
            ):
                # Only these modules may be run as programs. Helm runs the second one on Windows.
                assert name in ("__main__", "helm.launch")


def test_the_map_names_every_unit() -> None:
    lines = list(draw(HOUSE))
    for name in {unit(name) for name in HOUSE.modules if name}:
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in lines), (
            f"`{name}` needs a docstring that says what it is"
        )


# -- the tests themselves


def test_tests_import_from_the_world_and_not_from_one_another() -> None:
    """Shared code of tests is in `tests/world`, in a module of the same folder that is not a test, or in a `conftest.py`."""
    tests = ROOT / "tests"
    wrong = []
    for path in sorted(tests.rglob("*.py")):
        package = path.relative_to(ROOT).parent.parts
        for node in ast.walk(ast.parse(path.read_text())):
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
    """A fixture for several folders is in `tests/conftest.py`. A fixture that extends it takes it as an argument."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
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


# -- modules that are loaded at start-up


def loaded(*arguments: str, **environment: str) -> set[str]:
    """Run a command line, and return the top-level modules that it has loaded."""
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
    "cyclonedx",
    "packageurl",
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


def test_only_to_write_versions_does_a_completion_load_semver(tmp_path: Path) -> None:
    from marfetch import records

    records.keep(tmp_path, "mcr.microsoft.com/aks/foo", ["1.0.0", "1.1.0"])
    found = loaded("__complete", "pull", "aks/foo", "--version", "", MARFETCH_CACHE_DIR=str(tmp_path))
    assert "semver" in found
    assert found & {"typer", "click", "platformdirs", "pathlib", "tempfile", "threading", "logging"} == set()
    assert found & HEAVY == set()


@pytest.mark.parametrize("command", ["version", "endpoints"])
def test_a_command_without_requests_loads_nothing_heavy(command: str) -> None:
    assert loaded(command) & HEAVY == set()


def test_color_loads_nothing_more() -> None:
    assert loaded("endpoints", FORCE_COLOR="1") & HEAVY == set()


def test_public_names_need_no_network_and_nothing_heavy() -> None:
    code = (
        "import sys\nfrom marfetch import Client, Constraint, Error, Reference\n"
        "from marfetch.client.session import Session\nClient(cache_dir='/nonexistent/x').close()\n"
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


def test_a_cached_answer_loads_no_oras(tmp_path: Path) -> None:
    from marfetch.demo.recipe import build
    from marfetch.layout.layout import Layout
    from marfetch.reference import Host

    layout = Layout(tmp_path / "cache")
    made = build(layout, Host("mcr.microsoft.com"))
    arguments = ["pull", f"application-lb/charts/alb-controller@{made['F1'].digest}", "-d", str(tmp_path / "out")]
    environment = {"MARFETCH_CACHE_DIR": str(tmp_path / "cache")}
    assert loaded(*arguments, **environment) & HEAVY == set()
    assert loaded(*arguments, "--offline", **environment) & HEAVY == set()
    assert loaded("inspect", arguments[1], "--offline", FORCE_COLOR="1", **environment) & HEAVY == set()


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
    assert found & HEAVY == set()
