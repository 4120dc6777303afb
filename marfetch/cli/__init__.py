"""The command line: parse, one call, render. One file per group of commands; shared options are declared once in `options`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Final

import typer

from ..render.report import Report

COMMANDS: Final = {
    "pull": "pull",
    "plan": "pull",
    "resolve": "versions",
    "versions": "versions",
    "search": "search",
    "inspect": "inspect",
    "referrers": "inspect",
    "verify": "verify",
    "trust": "trust",
    "lock": "project",
    "sync": "project",
    "outdated": "project",
    "diff": "diff",
    "bundle": "bundle",
    "index": "helm",
    "setup": "helm",
    "serve": "serve",
    "cache": "cache",
    "completion": "completion",
    "doctor": "doctor",
    "endpoints": "endpoints",
    "version": "version",
    "demo": "demo",
}
"""Command → the module below this package that holds it."""


def app(only: str | None = None) -> typer.Typer:
    """The command line, or the part of it that one command needs: building all of it takes most of the start-up.

    Args:
        only: the command that is going to be run.
    """
    typed = typer.Typer(
        name="marfetch",
        help="Fetch artifacts of the Microsoft Artifact Registry (MAR): Helm charts, Bicep modules and more, every byte checked.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    typed.callback()(_root)
    for module in dict.fromkeys([COMMANDS[only]] if only in COMMANDS else COMMANDS.values()):
        importlib.import_module(f".{module}", __name__).register(typed)
    return typed


def _root() -> None:
    """Needed so that a command line with a single command still has a name for it."""


def report_of(words: Sequence[str]) -> Report:
    """The report of the command that runs; a new one where the command line was not understood."""
    from .options import current

    if current.report is not None:
        return current.report
    command = next((word for word in words if word in COMMANDS), "marfetch")
    return Report(command, as_json="--json" in words)


def run(arguments: Sequence[str]) -> Any:
    """Run a command line; what it returns is the exit code.

    Raises:
        Exception: of typer, for a command line that cannot be read; ours, for everything else.
    """
    name = next((word for word in arguments if not word.startswith("-")), None)
    return app(name if arguments and arguments[0] == name else None)(args=list(arguments), prog_name="marfetch", standalone_mode=False)
