"""The documentation: generated pages are up to date, shown commands exist, links have targets."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from marfetch.cli.help import COMMANDS
from marfetch.codes import CODES

from .world.command import surroundings
from .world.paths import ROOT
from .world.registry import Registry

PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted((ROOT / "docs").rglob("*.md"))


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", generator().pages())
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == generator().pages()[name](), "run `make docs`"


def test_pictures_of_a_terminal_are_shown_and_light() -> None:
    page = (ROOT / "docs" / "reference" / "output.md").read_text()
    pictures = {path.stem: path for path in (ROOT / "docs" / "pictures").iterdir()}
    assert set(pictures) == set(generator().PICTURES)
    assert [name for name, path in pictures.items() if f"](../pictures/{path.name})" not in page or path.stat().st_size > 12_000] == []


@cache
def options(words: tuple[str, ...]) -> set[str]:
    done = subprocess.run([sys.executable, "-m", "marfetch", *words, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))


def shown_commands() -> list[tuple[str, str]]:
    """Return page and line of every marfetch command in a code block."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.splitlines():
                text = line.removeprefix("$ ").removeprefix(".venv/bin/")
                if text.startswith("marfetch "):
                    found.append((page.name, text))
    return found + [("README.md", line) for line in readme_table() if line.startswith("marfetch ")]


def readme_table() -> list[str]:
    """Return the commands of the table in the README, in order."""
    return re.findall(r"^\| .* \| `([^`]*\bmarfetch\b[^`]*)` \|$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize(("page", "line"), shown_commands(), ids=lambda value: value)
def test_commands_in_the_docs_exist_with_their_options(page: str, line: str) -> None:
    words = shlex.split(re.split(r"[;|]| -- ", line)[0], comments=True)[1:]
    command = words[0]
    assert command in (*COMMANDS, "__complete")
    group = tuple(words[:2]) if command in ("cache", "trust", "bundle") else (command,)
    known = options(group)
    assert {word for word in words[1:] if word.startswith("-") and word != "-"} <= known


def test_the_readme_shows_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert {command for command in COMMANDS if f"marfetch {command}" not in readme} <= {"version"}
    assert "make demo" in readme
    assert "make test" in readme
    table = readme.partition("| you want to | run |")[2].partition("\n\n")[0]
    assert len(readme_table()) == table.count("\n| "), "each row has one command"


@pytest.mark.slow
def test_the_table_of_the_readme_works_from_top_to_bottom(mar: Registry, tmp_path: Path) -> None:
    """Paste each command into a shell with the demo's content, except for those that need another machine or MAR itself, or run until Ctrl-C."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "marfetch").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m marfetch "$@"\n')
    (tmp_path / "bin" / "marfetch").chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    (place / "marfetch.yaml").write_text(re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0])
    environment = surroundings(mar, tmp_path / "cache", PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    # There are no certificates, so there is no trust policy. The versions differ, and there is a newer one than the locked one.
    expected = {"trust": 2, "verify": 2, "diff": 1, "outdated": 1, "bump": 1}
    for line in readme_table():
        command = shlex.split(line)[1] if line.startswith("marfetch ") else ""
        if command not in ("serve", "record", "replay") and not line.startswith(("marfetch bundle load", "marfetch mirror")):
            done = subprocess.run(["bash", "-c", line], cwd=place, env=environment, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == expected.get(command, 0), f"{line}: {done.stderr}"
    assert {path.name for path in place.iterdir()} >= {"alb-controller", "storage.json", "index.yaml", "marfetch.lock", "charts.tar"}


def test_every_error_code_is_documented_with_a_remedy() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    for name, code in CODES.items():
        assert f"| `{name}` |" in page
        assert code.means
        assert code.do


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_targets(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            linked = (page.parent / path) if path else page
            assert linked.exists(), target
            if anchor:
                headings = [
                    re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                    for line in linked.read_text().splitlines()
                    if line.startswith("#")
                ]
                assert anchor in headings, target


def test_every_page_is_linked() -> None:
    linked = set()
    for page in PAGES:
        linked |= {
            (page.parent / target.partition("#")[0]).resolve()
            for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
            if "://" not in target
        }
    assert [
        str(page.relative_to(ROOT))
        for page in PAGES
        if page.is_relative_to(ROOT / "docs") and page != ROOT / "docs" / "index.md" and page.resolve() not in linked
    ] == []


def paths(navigation: object) -> list[str]:
    """Return the pages that the navigation of the site names, in order."""
    if isinstance(navigation, str):
        return [navigation]
    parts = navigation.values() if isinstance(navigation, dict) else navigation
    assert isinstance(parts, Iterable)
    return [path for part in parts for path in paths(part)]


def test_the_site_has_every_page_once_in_its_navigation() -> None:
    site = yaml.safe_load((ROOT / "docs" / "site" / "mkdocs.yml").read_text())
    named = paths(site["nav"])
    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))
    assert [next(iter(part)) for part in site["nav"]] == ["Home", "Tutorial", "How-to guides", "Reference", "Explanation", "Decisions"]


def test_the_site_is_built_strictly() -> None:
    """`--quiet` would hide the warnings from `--strict`, so that every site passes."""
    line = re.findall(r"mkdocs build .*", (ROOT / "Makefile").read_text())[0]
    assert "--strict" in line
    assert "-q" not in line


def test_the_site_stays_private() -> None:
    """`docs/site/hooks.py` checks the built pages; these settings would load or send something without leaving a trace in a page."""
    site = yaml.safe_load((ROOT / "docs" / "site" / "mkdocs.yml").read_text())
    assert site["theme"]["font"] is False
    assert not site.keys() & {"repo_url", "extra", "extra_javascript", "extra_css"}


def test_a_page_that_loads_something_from_another_host_fails_the_build() -> None:
    check = runpy.run_path(str(ROOT / "docs" / "site" / "hooks.py"))["on_post_page"]
    own = '<a href="https://notaryproject.dev">spec</a><script src="../assets/a.js"></script><img src=serve.png>'
    assert check(own, page=None, config=None) == own
    for foreign in (
        '<link rel="stylesheet" href="https://fonts.example/a.css">',
        "<script async src=//example.com/a.js>",
        "<img src=http://a.b/c>",
    ):
        with pytest.raises(SystemExit, match=r"docs/site/mkdocs\.yml"):
            check(own + foreign)


def test_the_limits_in_the_reference_equal_those_of_the_code() -> None:
    from marfetch.agents import bounds
    from marfetch.chart import images, manifests, relocation, tree
    from marfetch.chart.template import evaluate, functions, goformat, marked, matching, syntax, wording
    from marfetch.client import chartimages, show
    from marfetch.destination import package
    from marfetch.destination import packed as of_archives
    from marfetch.diff import changes, contents
    from marfetch.helm import templating
    from marfetch.layout import graph, repositories
    from marfetch.recording import seen
    from marfetch.remote import limits as of_registries
    from marfetch.serve import page, responses

    limits = {name: value for name, value in vars(of_registries).items() if name.isupper()}
    own = {
        of_archives: (),
        package: (),
        bounds: ("MAX_OUTPUT", "MAX_TIME"),
        show: (),
        changes: (),
        contents: (),
        page: (),
        seen: (),
        graph: ("MAX_MANIFEST_SIZE",),
        repositories: ("MAX_REPOSITORY_LENGTH",),
        responses: ("MAX_CHILDREN",),
        images: (),
        tree: ("MAX_YAML_SIZE",),
        **dict.fromkeys((chartimages, manifests, relocation, templating), ()),
        **dict.fromkeys((evaluate, functions, goformat, marked, matching, syntax, wording), ()),
    }
    for module, imported in own.items():
        found = {name: value for name, value in vars(module).items() if name.startswith(("MAX_", "RATIO_")) and name not in imported}
        assert not limits.keys() & found.keys(), "two limits have the same name"
        limits |= found
    page_of_limits = (ROOT / "docs" / "reference" / "limits.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]+?) \|", page_of_limits, flags=re.MULTILINE))
    assert rows
    for name, shown in rows.items():
        value = limits[name]
        scale = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
        number, _, unit = shown.partition(" ")
        assert float(number.replace(",", "")) * scale.get(unit, 1) == value, name
    assert limits.keys() <= rows.keys()


def test_make_targets_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        code = "\n".join(
            re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL) + re.findall(r"`(make [a-z -]+)`", page.read_text())
        )
        for words in re.findall(r"\bmake ([a-z][a-z -]*)", code):
            assert set(words.split()) <= targets, (page.name, words)


def test_decisions_are_numbered_without_gaps_and_list_their_costs() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text()
        assert text.startswith("# ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Why", "Consequences"], page.name
