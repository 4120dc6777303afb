"""Read a command line without the real parser, which takes long to load.

Completion reads the words before the cursor like this, and a command finds out which registry to connect to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Line(NamedTuple):
    """The parsed words before the cursor.

    Attributes:
        path: command and subcommand, such as `("cache", "info")`.
        command: the command's entry in the table.
        options: first name of each given option → its values; a flag has empty values.
        pending: option whose value is the word under the cursor, if any.
        options_ended: whether the words contain `--`.
        has_unknown: whether a word looks like an option that the command does not have.
    """

    path: tuple[str, ...]
    command: Mapping[str, Any]
    options: Mapping[str, list[str]]
    arguments: Sequence[str]
    pending: Mapping[str, Any] | None
    options_ended: bool
    has_unknown: bool

    def last(self, name: str) -> str | None:
        """Return the last value of an option."""
        return self.options[name][-1] if name in self.options else None


def table_of_commands() -> dict[str, Any]:
    """Return the commands with their options and arguments, which `docs/generate.py` writes from the real parser."""
    path = os.path.join(os.path.dirname(__file__), "commands.json")  # noqa: PTH118, PTH120 - loading pathlib would take a fifth of the time
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        table: dict[str, Any] = json.load(file)
    return table


def read_line(table: Mapping[str, Any], words: Iterable[str]) -> Line | None:
    """Parse the words before the cursor; return None if they name an unknown command."""
    path: tuple[str, ...] = ()
    command = table
    options: dict[str, list[str]] = {}
    arguments: list[str] = []
    pending: Mapping[str, Any] | None = None
    options_ended = has_unknown = False
    for word in words:
        if pending is not None:
            options.setdefault(pending["names"][0], []).append(word)
            pending = None
        elif word == "--" and not options_ended:
            options_ended = True
        elif word.startswith("-") and len(word) > 1 and not options_ended:
            long = word.startswith("--")
            name, equals, value = word.partition("=") if long else (word[:2], word[2:3], word[2:])
            option = option_of(command, name)
            if option is None:
                has_unknown = True  # the real parser will report it as an error
            elif option["takes"] is not None and not equals:
                pending = option
            else:
                options.setdefault(option["names"][0], []).append(value)
        elif "commands" in command:
            if word not in command["commands"]:
                return None
            command, path = command["commands"][word], (*path, word)
        else:
            arguments.append(word)
    return Line(path, command, options, arguments, pending, options_ended, has_unknown)


def option_of(command: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return the option with this name in a command's entry of the table."""
    return next((one for one in command["options"] if name in one["names"]), None)
