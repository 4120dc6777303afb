"""The command line: each command parses its options, calls one function and prints the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import early

if TYPE_CHECKING:
    from ..render.report import Report


def run(arguments: Sequence[str]) -> Any:
    """Run a command line and return its exit code.

    Raises:
        Exception: an exception of typer if the command line is invalid, otherwise `marfetch.errors.Error`.
    """
    early.connect(arguments)
    try:
        from .parser import app

        if arguments[:1] == ["help"] and not any(word.startswith("-") for word in arguments):
            arguments = [*arguments[1:], "--help"]
        name = next((word for word in arguments if not word.startswith("-")), None)
        command = app(name if arguments and arguments[0] == name else None)
        return command(args=list(arguments), prog_name="marfetch", standalone_mode=False)
    finally:
        early.close()


def report_of(words: Sequence[str]) -> Report:
    """Return the report of the running command, or a new one if the command line could not be parsed."""
    from ..render.report import Report
    from .help import COMMANDS
    from .options import current

    if current.report is not None:
        return current.report
    own = words[: words.index("--")] if "--" in words else words
    command = next((word for word in own if word in COMMANDS), "marfetch")
    return Report(command, as_json="--json" in own)
