"""The scripts of `marfetch completion`, each run in its real shell if that is installed."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marfetch import records
from marfetch.layout.layout import Layout

from ..world import tools
from ..world.paths import ROOT

SCRIPTS = ROOT / "marfetch" / "completion" / "shells"
FOO = "mcr.microsoft.com/aks/foo"
VERSIONS = ["1.10.0", "1.9.0", "0.1.0", "2.0.0-rc.1"]


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI") == "true" and name in tools.SYSTEM:
            pytest.fail(tools.missing(name))
        pytest.skip(f"the shell `{name}` is not installed: `apt-get install {name}` or `brew install {name}`")
    return path


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """Return an environment with its own cache. In it, `marfetch` completes words, and otherwise only prints its arguments."""
    layout = Layout(tmp_path / "cache")
    records.keep(layout.root, FOO, ["1.9.0", "1.10.0", "0.1.0", "2.0.0-rc.1"])
    records.keep(layout.root, "mcr.microsoft.com/bicep/vault", ["0.1.0"])
    program = tmp_path / "bin" / "marfetch"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncase "$1" in\n'
        f'__complete|completion) exec "{sys.executable}" -m marfetch "$@" ;;\n'
        "*) printf 'RAN'; printf '[%s]' \"$@\"; echo ;;\nesac\n"
    )
    program.chmod(0o755)
    here = tmp_path / "here"
    (here / "folder").mkdir(parents=True)
    (here / "file.pem").touch()
    (here / "other").mkdir()
    return {
        "PATH": f"{program.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": os.environ["HOME"],
        "PYTHONPATH": str(ROOT),
        "MARFETCH_CACHE_DIR": str(layout.root),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "PWD": str(here),
    }


class Terminal:
    """An interactive shell on a pseudo terminal."""

    def __init__(self, line: list[str], environment: dict[str, str]) -> None:
        self._leader, follower = pty.openpty()
        self._process = subprocess.Popen(
            line, cwd=environment["PWD"], env=environment, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
        )
        os.close(follower)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def until(self, pattern: str) -> str:
        """Read until the output matches the pattern, and drop the output up to there."""
        ends = time.monotonic() + 60
        while not (match := re.search(pattern, self._seen)):
            ready, _, _ = select.select([self._leader], [], [], max(0.0, ends - time.monotonic()))
            assert ready, f"the output does not contain {pattern!r}: {self._seen!r}"
            self._seen += os.read(self._leader, 65536).decode(errors="replace")
        self._seen = self._seen[match.end() :]
        return match[0]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._leader)


@pytest.fixture
def terminal(surroundings: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*line: str) -> Terminal:
        made.append(Terminal(list(line), surroundings))
        return made[-1]

    yield start
    for one in made:
        one.close()


# -- the command


@pytest.mark.slow
def test_the_command_prints_the_script(surroundings: dict[str, str]) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["marfetch", "completion", *arguments], env=surroundings, capture_output=True, text=True, timeout=60, check=False
        )

    for name in ("bash", "zsh", "fish", "powershell"):
        text = (SCRIPTS / f"marfetch.{name}").read_text()
        assert run(name).stdout == text
        assert json.loads(run(name, "--json").stdout)["data"] == {"shell": name, "script": text}
    refused = run("tcsh")
    assert refused.returncode == 2
    assert "powershell" in refused.stderr
    assert "hint:" in refused.stderr


def test_the_help_shows_the_line_that_turns_it_on(surroundings: dict[str, str]) -> None:
    done = subprocess.run(["marfetch", "completion", "--help"], env=surroundings, capture_output=True, text=True, timeout=60, check=True)
    for script in SCRIPTS.iterdir():
        (line,) = [row[4:] for row in script.read_text().splitlines() if row.startswith("#   ")]
        assert line in done.stdout
        assert line in (ROOT / "docs" / "how-to" / "completion.md").read_text()


@pytest.mark.parametrize("script", sorted(SCRIPTS.iterdir()), ids=lambda path: path.suffix)
def test_scripts_are_plain_text(script: Path) -> None:
    text = script.read_text()
    assert text.isascii()
    assert "\t" not in text
    assert text.endswith("\n")
    assert "__complete" in text


# -- bash


def in_bash(surroundings: dict[str, str], line: str, *, setup: str = "", cursor: int | None = None) -> tuple[list[str], list[str]]:
    """Return the candidates of the bash function for a line, and the options that it sets with `compopt`."""
    code = f"""
    eval "$(marfetch completion bash)"
    {setup}
    COMP_LINE=$1; COMP_POINT=$2
    _marfetch "${{3:-marfetch}}"
    printf 'REPLY %s\\n' ${{COMPREPLY[@]+"${{COMPREPLY[@]}}"}}
    """
    record = 'compopt() { printf "OPTION %s\\n" "$2"; }\n'
    words = [shell("bash"), "--norc", "--noprofile", "-u", "-c", record + code, "bash", line, str(len(line) if cursor is None else cursor)]
    done = subprocess.run(words, cwd=surroundings["PWD"], env=surroundings, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    rows = [row.partition(" ") for row in done.stdout.splitlines()]
    return [text for kind, _, text in rows if kind == "REPLY" and text], [text for kind, _, text in rows if kind == "OPTION"]


@pytest.mark.parametrize(
    ("line", "replies", "options"),
    [
        ("marfetch pul", ["pull"], []),
        ("marfetch pull aks/", ["aks/foo"], ["nospace"]),
        ("marfetch  pull   --offline\taks/fo", ["aks/foo"], ["nospace"]),
        ("marfetch pull aks/foo:1", ["1.10.0", "1.9.0"], ["nosort"]),
        ("marfetch pull aks/foo:", ["2.0.0-rc.1", "1.10.0", "1.9.0", "0.1.0"], ["nosort"]),
        ("marfetch pull oci://mcr.microsoft.com/aks/foo:1.1", ["1.10.0"], ["nosort"]),
        ("marfetch pull 'aks/foo:1", ["aks/foo:1.10.0", "aks/foo:1.9.0"], ["nosort"]),
        ('marfetch pull "aks/foo:1', ["aks/foo:1.10.0", "aks/foo:1.9.0"], ["nosort"]),
        ("marfetch pull aks/foo --version ", VERSIONS, ["nosort"]),
        ("marfetch pull aks/foo --version=1.1", ["1.10.0"], ["nosort"]),
        ("marfetch pull 'aks/foo' --version '1.9", ["1.9.0"], ["nosort"]),
        ("marfetch pull aks\\/foo --version 1.9", ["1.9.0"], ["nosort"]),
        ("marfetch pull --endpoint=", ["global", "china"], []),
        ("marfetch pull '' --endpoint ch", ["china"], []),
        ("marfetch pull --ca-file ", [], ["default"]),
        ("marfetch pull --ca-file=fi", [], ["default"]),
        ("marfetch pull -d ", [], ["dirnames"]),
        ("marfetch pull --jobs ", [], []),
        ("marfetch nonsense ", [], []),
    ],
)  # fmt: skip
def test_bash_completes(surroundings: dict[str, str], line: str, replies: list[str], options: list[str]) -> None:
    assert in_bash(surroundings, line) == (replies, options)


def test_bash_completes_at_the_cursor(surroundings: dict[str, str]) -> None:
    assert in_bash(surroundings, "marfetch pu aks/foo", cursor=len("marfetch pu"))[0] == ["pull"]


@pytest.mark.parametrize("breaks", ["' \\t\\n'", "' \\t\\n@:='", "$' \\t\\n:'"])
def test_bash_respects_the_word_breaks(surroundings: dict[str, str], breaks: str) -> None:
    replies, _ = in_bash(surroundings, "marfetch pull aks/foo:1.1", setup=f"COMP_WORDBREAKS={breaks}")
    assert replies == (["1.10.0"] if ":" in breaks else ["aks/foo:1.10.0"])


@pytest.mark.slow
def test_bash_without_compopt_still_offers_files(surroundings: dict[str, str]) -> None:
    """bash 3.2, the version of macOS, has no `compopt`."""
    setup = "unset -f compopt; enable -n compopt"
    assert in_bash(surroundings, "marfetch pull --ca-file=fi", setup=setup)[0] == ["file.pem"]
    assert sorted(in_bash(surroundings, "marfetch pull -d ", setup=setup)[0]) == ["folder", "other"]
    assert in_bash(surroundings, "marfetch pull aks/foo:1.1", setup=setup)[0] == ["1.10.0"]
    assert in_bash(surroundings, "marfetch pull --jobs f", setup=setup)[0] == []


def test_bash_expands_nothing_in_the_line(surroundings: dict[str, str]) -> None:
    line = "marfetch pull $(touch bad) `touch bad` ${x:=$(touch bad)} a[$(touch bad)] ; touch bad * --endpoint ch"
    assert in_bash(surroundings, line)[0] == ["china"]
    assert sorted(path.name for path in Path(surroundings["PWD"]).iterdir()) == ["file.pem", "folder", "other"]


def test_bash_ignores_an_invalid_directive(surroundings: dict[str, str]) -> None:
    program = Path(surroundings["PATH"].partition(":")[0]) / "marfetch"
    script = (SCRIPTS / "marfetch.bash").read_text()
    for answer in (":1x[$(touch bad)]", "candidate", "", ":", ":1"):
        program.write_text(
            f"#!/bin/sh\nif [ \"$1\" = completion ]; then cat <<'EOF'\n{script}EOF\nelse printf '%s\\n' cand '{answer}'; fi\n"
        )
        assert in_bash(surroundings, "marfetch x") == ([], [])
    assert not (Path(surroundings["PWD"]) / "bad").exists()


@pytest.mark.slow
def test_bash_in_a_terminal(terminal: Callable[..., Terminal]) -> None:
    bash = terminal(shell("bash"), "--norc", "--noprofile", "-i")
    bash.type("bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; PS1='> '\n")
    bash.type('eval "$(marfetch completion bash)"; echo rea""dy\n')
    bash.until("ready")
    for typed, ran in (
        ("marfetch pu\taks/fo\t:1.1\t-d fol\t\n", "RAN[pull][aks/foo:1.10.0][-d][folder/]"),
        ("marfetch pull bic\t --version=\t --ca-file=fi\t\n", "RAN[pull][bicep/vault][--version=0.1.0][--ca-file=file.pem]"),
        ("marfetch pull 'aks/foo:1.9\t --endp\tch\t\n", "RAN[pull][aks/foo:1.9.0][--endpoint][china]"),
        ("marfetch resolve oci://mcr.m\taks/f\t@\tx\n", "RAN[resolve][oci://mcr.microsoft.com/aks/foo@x]"),
    ):
        bash.type(typed)
        assert bash.until(r"RAN\[.*\]") == ran


# -- zsh


def test_zsh_in_a_terminal(terminal: Callable[..., Terminal]) -> None:
    zsh = terminal(shell("zsh"), "-f", "-i")
    zsh.type("PS1='> '; unsetopt prompt_sp prompt_cr; autoload -Uz compinit; compinit -D -u\n")
    zsh.type('eval "$(marfetch completion zsh)"; echo rea""dy\n')
    zsh.until("ready")
    for typed, ran in (
        ("marfetch pu\taks/fo\t:1.1\t-d fol\t\n", "RAN[pull][aks/foo:1.10.0][-d][folder]"),
        ("marfetch pull bic\t --version=\t --ca-file=fi\t\n", "RAN[pull][bicep/vault][--version=0.1.0][--ca-file=file.pem]"),
        ("marfetch pull 'aks/foo:1.9\t --endp\tch\t\n", "RAN[pull][aks/foo:1.9.0][--endpoint][china]"),
        ("marfetch resolve oci://mcr.m\taks/f\t@\tx\n", "RAN[resolve][oci://mcr.microsoft.com/aks/foo@x]"),
    ):
        zsh.type(typed)
        assert zsh.until(r"RAN\[.*\]") == ran
    zsh.type("marfetch c\t")
    zsh.until(r"cache +-- Manage the cache")
    zsh.type("\x15marfetch pull aks/foo --version \t")
    zsh.until(r"(?s)1\.10\.0.+1\.9\.0.+0\.1\.0.+2\.0\.0-rc\.1")


def test_zsh_autoloads_the_script(terminal: Callable[..., Terminal], surroundings: dict[str, str], tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.mkdir()
    shutil.copy(SCRIPTS / "marfetch.zsh", functions / "_marfetch")
    zsh = terminal(shell("zsh"), "-f", "-i")
    zsh.type(f"PS1='> '; fpath=({functions} $fpath); autoload -Uz compinit; compinit -D -u; echo rea''dy\n")
    zsh.until("ready")
    for number in range(2):
        zsh.type(f"marfetch pu\t{number} aks/fo\t:1.1\t\n")
        assert zsh.until(r"RAN\[.*\]") == f"RAN[pull][{number}][aks/foo:1.10.0]"


# -- fish


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("marfetch pul", ["pull\tDownload artifacts"]),
        ("marfetch pull aks/", ["aks/foo"]),
        ("marfetch pull aks/foo:1", ["aks/foo:1.10.0", "aks/foo:1.9.0"]),
        ("marfetch pull 'aks/foo:1.1", ["aks/foo:1.10.0"]),
        ("marfetch pull aks/foo --version ", VERSIONS),
        ("marfetch pull --endpoint=ch", ["--endpoint=china\tmcr.azure.cn"]),
        ("marfetch pull --destination=fo", ["--destination=folder/"]),
        ("marfetch pull -d fo", ["folder/"]),
        ("marfetch pull --ca-file fi", ["file.pem"]),
        ("marfetch pull --ca-file=fi", ["--ca-file=file.pem"]),
        ("marfetch pull --jobs f", []),
        ("marfetch nonsense f", []),
    ],
)
def test_fish_completes(surroundings: dict[str, str], line: str, expected: list[str]) -> None:
    code = "marfetch completion fish | source; complete -C $argv[1]"
    done = subprocess.run(
        [shell("fish"), "--no-config", "-c", code, line], cwd=surroundings["PWD"], env=surroundings, capture_output=True, text=True, timeout=60, check=True
    )  # fmt: skip
    assert done.stderr == ""
    assert [row.rstrip("\t") for row in done.stdout.splitlines()] == expected


# -- PowerShell is not available everywhere, so its script is also checked as text


def test_the_powershell_script_has_balanced_brackets() -> None:
    text = (SCRIPTS / "marfetch.powershell").read_text()
    code = re.sub(r"'[^'\n]*'|\"(?:`.|[^\"`\n])*\"|#[^\n]*", "", text)
    opened: list[str] = []
    for mark in re.findall(r"[(){}\[\]]", code):
        if mark in "({[":
            opened.append(mark)
        else:
            assert opened.pop() + mark in ("()", "{}", "[]")
    assert opened == []
    assert "Register-ArgumentCompleter -Native -CommandName 'marfetch'" in text
    used = set(re.findall(r"\$(\w+)", code)) - {"null", "true", "false", "PSVersionTable", "Matches", "_"}
    given = (
        set(re.findall(r"\$(\w+) \+?= ", code))
        | set(re.findall(r"foreach \(\$(\w+) in", code))
        | {"wordToComplete", "commandAst", "cursorPosition"}
    )
    assert used
    assert used <= given


def test_powershell_completes(surroundings: dict[str, str]) -> None:
    path = shutil.which("pwsh")
    if path is None:
        pytest.skip("PowerShell is not installed: https://learn.microsoft.com/powershell/scripting/install")
    line = "marfetch pull aks/foo:1"
    code = f"marfetch completion powershell | Out-String | Invoke-Expression; (TabExpansion2 '{line}' {len(line)}).CompletionMatches.CompletionText"
    done = subprocess.run([path, "-NoProfile", "-Command", code], env=surroundings, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["aks/foo:1.10.0", "aks/foo:1.9.0"]
