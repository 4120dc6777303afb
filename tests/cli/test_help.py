"""The help: commands by purpose, whole summaries, examples that the parser accepts, and "did you mean"."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from marfetch.cli.help import COMMANDS, EXAMPLES, GROUPS
from marfetch.cli.parser import app

from ..world.command import Run

PARSER: Any = typer.main.get_command(app())


def paths(group: Any = PARSER, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command and each group."""
    for name, command in group.commands.items():
        yield (*before, name)
        yield from paths(command, (*before, name)) if hasattr(command, "commands") else ()


def test_each_command_has_two_or_three_examples_that_are_its_own() -> None:
    assert sorted(EXAMPLES) == sorted(" ".join(path) for path in paths())
    for path, lines in EXAMPLES.items():
        assert 2 <= len(lines) <= 3, path
        assert all(line.startswith(path.partition(" ")[0]) for line in lines), path


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_the_parser_accepts_an_example(line: str) -> None:
    words = shlex.split(line.partition(" |")[0])
    command = PARSER
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("example", words)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_overview_shows_each_summary_whole_under_its_purpose(run: Run, columns: int) -> None:
    lines = run("--help", environment={"COLUMNS": str(columns)}).stdout.splitlines()
    for purpose, commands in GROUPS.items():
        shown = lines[lines.index(f"{purpose}:") + 1 :][: len(commands)]
        summaries = [PARSER.commands[name].help.strip().partition("\n")[0] for name in commands]
        assert [line.split(None, 1) for line in shown] == [[name, summary] for name, summary in zip(commands, summaries, strict=True)]
        assert all(len(line) <= 80 for line in shown)


@pytest.mark.parametrize("path", [("pull",), ("bundle",), ("bundle", "create"), ("trust", "check")], ids=" ".join)
def test_help_and_the_option_print_the_same_and_end_with_examples(run: Run, path: tuple[str, ...]) -> None:
    first, second = run("help", *path), run(*path, "--help")
    assert (first.returncode, first.stdout) == (0, second.stdout)
    _, _, examples = first.stdout.partition("\nExamples:\n")
    assert examples.splitlines() == [f"  marfetch {line}" for line in EXAMPLES[" ".join(path)]]


def test_help_alone_is_the_overview(run: Run) -> None:
    assert run("help").stdout == run("--help").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pul"], "no such command 'pul'. Did you mean 'pull'?"),
        (["help", "pul"], "no such command 'pul'. Did you mean 'pull'?"),
        (["bundle", "creat"], "no such command 'creat'. Did you mean 'create'?"),
        (["pull", "--vresion", "1"], "no such option '--vresion'. Did you mean '--version'?"),
        (["pull", "--nonsense"], "no such option '--nonsense'"),
    ],
)
def test_a_misspelled_word_names_the_right_one(run: Run, words: list[str], message: str) -> None:
    done = run(*words)
    line = re.sub(r"option: (--\w+)", r"option '\1'", done.stderr.splitlines()[0])  # as some releases of typer write it
    assert (done.returncode, line) == (2, f"error: {message}")


def test_each_command_has_one_purpose() -> None:
    assert sum(map(len, GROUPS.values())) == len(COMMANDS)
    assert set(COMMANDS) == set(PARSER.commands)
