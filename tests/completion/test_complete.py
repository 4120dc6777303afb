"""Completion: the candidates for a word, from the command table and the cache, without requests."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix

from marfetch import records
from marfetch.cli.help import COMMANDS
from marfetch.completion import complete, known
from marfetch.completion.complete import DEFAULT, DIRECTORIES, ERROR, KEEP_ORDER, NO_FILES, NO_SPACE, Candidates
from marfetch.endpoint import OFFICIAL, Preference
from marfetch.errors import Error
from marfetch.layout.cache import cache_root
from marfetch.layout.layout import Layout
from marfetch.oci import Descriptor, Digest
from marfetch.reference import Reference

from ..world.command import Run, marfetch, surroundings
from ..world.content import ALB
from ..world.paths import ROOT
from ..world.registry import Registry

DIGEST = Digest.of(b"a manifest")
TABLE = json.loads((ROOT / "marfetch" / "completion" / "commands.json").read_text())
Ask = Callable[..., Candidates]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Create a cache with repositories of four registries, which are in tag lists, in its index, or in both."""
    layout = Layout(tmp_path / "cache")
    records.keep(layout.root, "mcr.microsoft.com/aks/foo", ["1.9.0", "1.10.0", "2.0.0-rc.1", "2.0.0-rc.2", "v0.1.0", "latest", "1.10.0_b"])
    records.keep(layout.root, "mcr.microsoft.com/bicep/vault", ["0.1.0"])
    records.keep(layout.root, "mcr.azure.cn/aks/china", ["1.0.0"])
    records.keep(layout.root, "127.0.0.1:5000/aks/own", ["1.0.0"])
    for name in ("mcr.microsoft.com/aks/foo:1.8.0", "mcr.microsoft.com/aks/foo:1.9.0", "mcr.microsoft.com/aks/pulled:1"):
        layout.tag(Reference.parse(name), Descriptor("application/vnd.oci.image.manifest.v1+json", DIGEST, 10))
    layout.names.flush()
    return layout.root


@pytest.fixture
def ask(cache: Path) -> Ask:
    """`ask("pull", "aks/", MARFETCH_ENDPOINT="china")` returns the candidates for the last word."""

    def do(*words: str, **environment: str) -> Candidates:
        return complete.find_candidates(words, {"MARFETCH_CACHE_DIR": str(cache), **environment})

    return do


def texts(answer: Candidates) -> list[str]:
    return [text for text, _ in answer.candidates]


# -- commands, options and fixed values


def test_commands_are_offered_with_the_first_sentence_of_their_help(ask: Ask) -> None:
    found = ask("")
    assert sorted(texts(found)) == sorted(COMMANDS)
    assert found.directive == NO_FILES
    assert ask("cac") == Candidates([("cache", "Manage the cache")], NO_FILES)
    assert ask() == found


def test_subcommands_are_offered(ask: Ask) -> None:
    assert texts(ask("cache", "")) == ["info", "verify", "prune", "clear"]
    assert texts(ask("cache", "prune", "--un")) == ["--unused-days"]
    assert ask("cache", "info", "") == Candidates((), NO_FILES)


@pytest.mark.parametrize("words", [("nonsense", ""), ("cache", "nonsense", ""), ("endpoints", ""), ("pull", "--nonsense=")])
def test_nothing_is_offered_after_unknown_or_complete_commands(ask: Ask, words: tuple[str, ...]) -> None:
    assert ask(*words) == Candidates((), NO_FILES)


def test_options_are_offered_once_unless_they_can_be_repeated(ask: Ask) -> None:
    assert {"--destination", "-d", "--help", "-h", "--kind"} <= set(texts(ask("pull", "-")))
    assert "-d" not in texts(ask("pull", "--"))
    found = texts(ask("pull", "-d", "x", "--kind", "chart", "--offline", "--cache-dir=y", "--"))
    assert {"--destination", "--offline", "--cache-dir"} & set(found) == set()
    assert {"--kind", "--json"} <= set(found)
    assert ask("pull", "--", "--js") == Candidates([], NO_FILES | NO_SPACE)
    assert ask("--ver") == Candidates([("--version", "Print name and version")], NO_FILES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("pull", "--endpoint", ""), ["global", "china"]),
        (("pull", "--endpoint=ch"), ["--endpoint=china"]),
        (("pull", "--platform", "linux/"), ["linux/amd64", "linux/arm64"]),
        (("completion", ""), ["bash", "zsh", "fish", "powershell"]),
        (("completion", "zsh", ""), []),
        (("pull", "--kind", "sbom"), ["sbom", "sbom-cyclonedx", "sbom-spdx"]),
        (("pull", "--kind", "chart,b"), ["chart,bicep", "chart,bicep-extension"]),
        (("referrers", "--kind=sbom,s"), ["--kind=sbom,sbom-cyclonedx", "--kind=sbom,sbom-spdx", "--kind=sbom,signature"]),
        (("pull", "--jobs", ""), []),
        (("pull", "--offline="), []),
    ],
)
def test_fixed_values_are_offered(ask: Ask, words: tuple[str, ...], expected: list[str]) -> None:
    assert texts(ask(*words)) == expected


def test_every_kind_is_taken_by_the_option() -> None:
    from marfetch.artifact.kinds import kinds_named

    assert len(TABLE["values"]["KIND"]) > 10
    for name, _ in TABLE["values"]["KIND"]:
        assert kinds_named(name)


@pytest.mark.parametrize(
    ("words", "directive"),
    [
        (("pull", "--ca-file", "x"), DEFAULT),
        (("pull", "--ca-file=x"), DEFAULT),
        (("pull", "--destination", ""), DIRECTORIES),
        (("pull", "-d", ""), DIRECTORIES),
        (("pull", "aks/foo", "--cache-dir="), DIRECTORIES),
        (("pull", "--timeout", ""), NO_FILES),
    ],
)
def test_files_and_directories_are_left_to_the_shell(ask: Ask, words: tuple[str, ...], directive: int) -> None:
    found = ask(*words)
    assert (list(found.candidates), found.directive) == ([], directive)


# -- references


def test_repositories_that_were_listed_or_fetched_are_offered(ask: Ask) -> None:
    found = ask("pull", "")
    assert texts(found) == ["aks/foo", "aks/pulled", "bicep/vault"]
    assert found.directive == NO_FILES | NO_SPACE
    assert texts(ask("pull", "aks/foo:1.9.0", "aks/p")) == ["aks/pulled"]
    assert texts(ask("resolve", "aks/foo", "")) == []


@pytest.mark.parametrize(
    "head", ["mcr.microsoft.com/", "oci://mcr.microsoft.com/", "mar://mcr.microsoft.com/", "mar://", "https://mcr.microsoft.com/", "OCI://"]
)
def test_the_scheme_and_host_as_typed_are_kept(ask: Ask, head: str) -> None:
    assert texts(ask("pull", f"{head}aks/")) == [f"{head}aks/foo", f"{head}aks/pulled"]
    assert texts(ask("pull", f"{head}aks/foo:1.9")) == [f"{head}aks/foo:1.9.0"]


def test_a_partial_host_is_completed(ask: Ask) -> None:
    assert texts(ask("pull", "mcr.")) == ["mcr.microsoft.com/", "mcr.azure.cn/"]
    assert texts(ask("pull", "https://")) == ["https://mcr.microsoft.com/", "https://mcr.azure.cn/"]
    assert texts(ask("pull", "--endpoint", "china", "oci://mcr.")) == ["oci://mcr.azure.cn/"]
    assert texts(ask("pull", "127", MARFETCH_ENDPOINT="http://127.0.0.1:5000")) == ["127.0.0.1:5000/"]


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        (["aks/"], {}, ["aks/foo", "aks/pulled"]),
        (["aks/"], {"MARFETCH_ENDPOINT": "china"}, ["aks/china"]),
        (["aks/"], {"MARFETCH_ENDPOINT": "http://127.0.0.1:5000"}, ["aks/own"]),
        (["aks/"], {"MARFETCH_ENDPOINT": "https://mcr.azure.cn"}, ["aks/china"]),
        (["aks/"], {"MARFETCH_ENDPOINT": "nonsense"}, []),
        (["aks/"], {"MARFETCH_ENDPOINT": ""}, ["aks/foo", "aks/pulled"]),
        (["--endpoint", "china", "aks/"], {"MARFETCH_ENDPOINT": "global"}, ["aks/china"]),
        (["--endpoint=http://127.0.0.1:5000", "aks/"], {}, ["aks/own"]),
        (["--endpoint", "china", "--endpoint", "global", "aks/p"], {}, ["aks/pulled"]),
        (["mcr.azure.cn/aks/"], {}, ["mcr.azure.cn/aks/china"]),
        (["127.0.0.1:5000/aks/"], {}, ["127.0.0.1:5000/aks/own"]),
        (["mcr.azure.cn/aks/"], {"MARFETCH_ENDPOINT": "http://127.0.0.1:5000"}, ["mcr.azure.cn/aks/china"]),
        (["--endpoint", "china", "mcr.microsoft.com/aks/"], {}, []),
        (["--endpoint", "china", "127.0.0.1:5000/aks/"], {}, []),
        (["other.example/aks/"], {}, []),
    ],
)
def test_repositories_are_those_of_the_endpoint(ask: Ask, words: list[str], environment: dict[str, str], expected: list[str]) -> None:
    assert texts(ask("pull", *words, **environment)) == expected


def test_tags_that_were_listed_or_fetched_are_offered_newest_first(ask: Ask) -> None:
    found = ask("pull", "aks/foo:")
    tags = ["2.0.0-rc.2", "2.0.0-rc.1", "1.10.0_b", "1.10.0", "1.9.0", "1.8.0", "v0.1.0", "latest"]
    assert texts(found) == [f"aks/foo:{tag}" for tag in tags]
    assert found.directive == NO_FILES | KEEP_ORDER
    assert texts(ask("pull", "127.0.0.1:5000/aks/own:")) == ["127.0.0.1:5000/aks/own:1.0.0"]
    assert texts(ask("pull", "aks/none:")) == []


def test_a_prerelease_sorts_below_its_release() -> None:
    tags = ["1.0.0", "1.0.0-rc.1", "1.0.1", "1", "1.0", "x1", "9" * 40]
    assert sorted(tags, key=complete._by_numbers)[0] == "x1"
    ordered = sorted(tags[:5], key=complete._by_numbers)
    assert ordered == ["1", "1.0", "1.0.0-rc.1", "1.0.0", "1.0.1"]


def test_digests_are_those_of_tags_that_were_fetched(ask: Ask) -> None:
    assert ask("pull", "aks/foo@") == Candidates([(f"aks/foo@{DIGEST}", "1.8.0 1.9.0")], NO_FILES)
    assert texts(ask("pull", "aks/foo:1.9.0@sha256:")) == [f"aks/foo:1.9.0@{DIGEST}"]
    assert texts(ask("pull", "aks/foo:1.10.0@")) == []


def test_commands_for_repositories_are_offered_no_tags(ask: Ask) -> None:
    assert texts(ask("versions", "aks/f")) == ["aks/foo"]
    assert texts(ask("versions", "aks/foo:")) == []
    assert texts(ask("pull", "--version", "^1", "aks/foo:")) == []
    for path in complete._REPOSITORY_ONLY:
        assert path[0] in COMMANDS


def test_help_is_offered_the_commands(ask: Ask) -> None:
    assert texts(ask("help", "pul")) == ["pull"]
    assert texts(ask("help", "bundle", "l")) == ["load"]
    assert texts(ask("help", "pull", "aks/")) == []


# -- versions


def test_versions_are_canonical_newest_first_and_prereleases_last(ask: Ask) -> None:
    released = ["1.10.0", "1.10.0+b", "1.9.0", "1.8.0", "0.1.0"]
    found = ask("pull", "aks/foo", "--version", "")
    assert texts(found) == [*released, "2.0.0-rc.2", "2.0.0-rc.1"]
    assert dict(found.candidates)["0.1.0"] == "tag v0.1.0"
    assert dict(found.candidates)["1.9.0"] == ""
    assert found.directive == NO_FILES | KEEP_ORDER
    assert texts(ask("pull", "aks/foo", "--devel", "--version", "")) == ["2.0.0-rc.2", "2.0.0-rc.1", *released]
    assert texts(ask("resolve", "oci://mcr.microsoft.com/aks/foo", "--version=1.9")) == ["--version=1.9.0"]


@pytest.mark.parametrize("words", [[], ["aks/foo:1.9.0"], [f"aks/foo@{DIGEST}"], ["aks/none"], ["other.example/aks/foo"]])
def test_no_versions_are_offered_without_a_repository(ask: Ask, words: list[str]) -> None:
    assert texts(ask("pull", *words, "--version", "")) == []


# -- the cache and untrusted content


def test_the_cache_is_that_of_the_command(cache: Path, tmp_path: Path) -> None:
    empty = {"MARFETCH_CACHE_DIR": str(tmp_path / "none")}
    assert complete.find_candidates(["pull", "aks/f"], empty).candidates == []
    for words in (["--cache-dir", str(cache)], [f"--cache-dir={cache}"]):
        assert texts(complete.find_candidates(["pull", *words, "aks/f"], empty)) == ["aks/foo"]


def test_a_world_writable_cache_is_not_read(ask: Ask, cache: Path) -> None:
    cache.chmod(0o777)
    assert texts(ask("pull", "aks/")) == []
    cache.chmod(0o700)
    assert texts(ask("pull", "aks/f")) == ["aks/foo"]


EVIL = [
    "$(id)",
    "`id`",
    "a;b",
    "a b",
    "a\tb",
    "a\n:0",
    "a'b",
    'a"b',
    "a\\b",
    "a|b",
    "a&b",
    "a>b",
    "a*",
    "a?",
    "~a",
    "a!b",
    "a#b",
    "{a,b}",
    "\x1b[31m",
    "\u202ea",
    "é",
    "\ud800",
]


def test_characters_special_to_a_shell_or_terminal_are_left_out(ask: Ask, cache: Path) -> None:
    records.keep(cache, "mcr.microsoft.com/aks/evil", [*EVIL, "1.0.0"])
    document = json.loads((cache / "index.json").read_text())
    for tag in EVIL:
        name = f"mcr.microsoft.com/aks/x{tag}/y:{tag}"
        document["manifests"].append({**document["manifests"][0], "annotations": {"org.opencontainers.image.ref.name": name}})
    document["manifests"].append(
        {**document["manifests"][0], "annotations": {"org.opencontainers.image.ref.name": "mcr.microsoft.com/-rf:1"}}
    )
    document["manifests"].append(
        {"digest": "$(id)", "annotations": {"org.opencontainers.image.ref.name": "mcr.microsoft.com/aks/pulled:2"}}
    )
    (cache / "index.json").write_text(json.dumps(document))
    assert texts(ask("pull", "")) == ["aks/evil", "aks/foo", "aks/pulled", "bicep/vault"]
    assert texts(ask("pull", "aks/evil:")) == ["aks/evil:1.0.0"]
    assert texts(ask("pull", "aks/pulled@")) == [f"aks/pulled@{DIGEST}"]
    for tag in EVIL:
        assert texts(ask("pull", f"aks/x{tag}")) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"manifests": 1}', '{"manifests": [1, {}, {"annotations": 2}]}', "[" * 100_000])
def test_with_a_corrupted_index_the_tag_lists_are_still_offered(ask: Ask, cache: Path, text: str) -> None:
    (cache / "index.json").write_text(text)
    assert texts(ask("pull", "aks/")) == ["aks/foo"]
    assert (cache / "index.json").read_text() == text


def test_an_index_that_is_too_large_or_not_a_file_is_not_read(ask: Ask, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MAX_INDEX_SIZE", 10)
    assert texts(ask("pull", "aks/")) == ["aks/foo"]
    monkeypatch.undo()
    (cache / "index.json").unlink()
    os.mkfifo(cache / "index.json")
    assert texts(ask("pull", "aks/")) == ["aks/foo"]


# -- the output


def test_the_output_has_a_line_per_candidate_and_the_directive(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARFETCH_CACHE_DIR", str(cache))
    assert complete.complete(["pull", "aks/"]) == "aks/foo\naks/pulled\n:6"
    assert complete.complete(["cac"]) == "cache\tManage the cache\n:4"
    assert complete.complete(["pull", "--ca-file", ""]) == ":0"


def test_the_number_of_candidates_is_limited(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARFETCH_CACHE_DIR", str(cache))
    records.keep(cache, "mcr.microsoft.com/aks/many", [f"1.0.{number}" for number in range(5000)])
    lines = complete.complete(["pull", "aks/many:"]).splitlines()
    assert len(lines) == complete.MAX_CANDIDATES + 1
    assert lines[0] == "aks/many:1.0.4999"
    assert lines[-1] == ":36"


def test_every_failure_gives_no_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError

    monkeypatch.setattr(complete, "table_of_commands", broken)
    assert complete.complete(["pull", ""]) == f":{ERROR}"


@pytest.fixture
def process(cache: Path) -> Run:
    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return marfetch("__complete", *words, cwd=ROOT, environment=surroundings(cache=cache) | environment)

    return run


@pytest.mark.parametrize(
    "words",
    [[], [""], ["pull", "aks/"], ["pull", "--version", ""], ["nonsense", ""], ["pull", "aks/foo", "--version", ""], ["--", "\udcff"]],
)
def test_the_process_prints_only_candidates_and_the_directive(process: Run, words: list[str]) -> None:
    done = process(*words, LC_ALL="C", PYTHONWARNINGS="error")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"(?:[^\n]+\n)*:[0-9]+\n", done.stdout)


@pytest.mark.parametrize("stream", [">&-", "> /dev/full", "2>&-", "<&-"])
def test_closed_or_full_streams_are_harmless(stream: str) -> None:
    line = f"{sys.executable} -m marfetch __complete pull -- {stream}"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_listed_versions_are_offered_without_a_request(process: Run, mar: Registry, cache: Path) -> None:
    environment = {"MARFETCH_ENDPOINT": f"http://{mar.host}", "MARFETCH_DATA_HOSTS": mar.data_host, "MARFETCH_CACHE_DIR": str(cache)}
    listed = marfetch("versions", ALB, cwd=ROOT, environment=surroundings(mar, cache))
    asked = len(mar.asked)
    assert asked == 1
    assert process("pull", "app", **environment).stdout == f"{ALB}\n:6\n"
    versions = [row.split("\t")[0] for row in listed.stdout.splitlines()]
    released = [version for version in versions if "-" not in version]
    offered = [row.split("\t")[0] for row in process("pull", ALB, "--version", "", **environment).stdout.splitlines()]
    assert offered[: len(released)] == released
    assert len(mar.asked) == asked


# -- the fast replacements of slow modules give the same results


@pytest.mark.parametrize(
    "text",
    ["global", "china", "https://mcr.microsoft.com", "https://MCR.azure.cn:443/", "https://own.example", "https://own.example:8443", "http://127.0.0.1:5000",
     "http://localhost:80", "http://localhost", "https://own.example:80", "nonsense", "own.example", "ftp://own.example", "Global", "https://own.example/path"],
)  # fmt: skip
def test_the_host_of_an_endpoint_equals_that_of_the_endpoint_module(text: str) -> None:
    try:
        expected: str | None = Preference(text).default().registry.name
    except Error:
        expected = None
    assert known.endpoint_host(text) == expected


def test_the_official_hosts_equal_those_of_the_endpoint_module() -> None:
    assert {name: endpoint.registry.name for name, endpoint in OFFICIAL.items()} == known._OFFICIAL


def test_the_cache_directory_equals_that_of_the_layout_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def agree(option: str | None = None) -> bool:
        return known.cache_directory(option, os.environ) == str(cache_root(Path(option) if option else None))

    assert agree()
    assert agree(str(tmp_path))
    monkeypatch.delenv("MARFETCH_CACHE_DIR")
    assert agree()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert agree()
    assert known.cache_directory(None, os.environ) == str(tmp_path / "xdg" / "marfetch")
    monkeypatch.delenv("XDG_CACHE_HOME")
    for system, real in (("linux", Unix), ("darwin", MacOS)):
        monkeypatch.setattr(sys, "platform", system)
        assert known.cache_directory(None, os.environ) == real("marfetch", appauthor=False).user_cache_dir


def test_a_tilde_in_the_cache_directory_is_expanded(tmp_path: Path) -> None:
    assert known.cache_directory("~/cache", {}) == str(Path.home() / "cache")


# -- the table


def entries(command: dict[str, Any] = TABLE, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    yield path, command
    for name, below in command.get("commands", {}).items():
        yield from entries(below, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(entries()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_the_table_has_the_options_that_the_help_shows(path: tuple[str, ...], command: dict[str, Any]) -> None:
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "marfetch", *path, "--help"]
    text = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
    shown = {}
    for names, metavar in re.findall(r"^  ((?:-\w|--[\w-]+)(?:, (?:-\w|--[\w-]+))*)(?: (\S+))?  ", text, flags=re.MULTILINE):
        shown[frozenset(names.split(", "))] = metavar or None
    table = {frozenset(one["names"]): one["takes"] for one in command["options"]}
    if not path:
        assert table.pop(frozenset(("--version",))) is None  # `__main__` handles `--version`
    assert table == shown
    assert " ".join(text.split()).count(command["help"]) == 1
    assert set(command.get("commands", {})) == set(re.findall(r"^  ([a-z][a-z-]*)  ", text, flags=re.MULTILINE))


FREE = {
    "COMMAND",
    "-- COMMAND",
    "TEXT",
    "N",
    "SECONDS",
    "DAYS",
    "DURATION",
    "GLOB",
    "HOST",
    "HOST[:PORT]",
    "NAME",
    "PORT",
    "RFC3339",
    "KEY=VALUE",
    "REPOSITORY",
    "I/N",
    "HOST[/PREFIX]",
    "HOST[:PORT][/PREFIX]",
    "HOST[:PORT][/PREFIX]|DIR",
    "dask://HOST:PORT",
}
"""Metavars of options and arguments with free text, which cannot be completed."""


def test_every_metavar_has_a_completion_or_is_free_text() -> None:
    taken = {one["takes"] for _, command in entries() for one in itertools.chain(command["options"], command["arguments"])} - {None}
    assert taken - FREE - complete.TAKES_FILE - complete.TAKES_DIRECTORY - set(complete.FROM_CACHE) - set(TABLE["values"]) == set()
    assert set(TABLE["values"]) <= taken


def test_descriptions_are_plain_text() -> None:
    described = [one["help"] for _, command in entries() for one in [command, *command["options"]]]
    described += [text for values in TABLE["values"].values() for _, text in values]
    assert [text for text in described if not (text.isascii() and text.replace(" ", "").isprintable())] == []
    assert all(text for _, command in entries() for text in [command["help"], *(one["help"] for one in command["options"])])
