"""Build the command line parser."""

from __future__ import annotations

import importlib

import typer

from .help import COMMANDS, Commands


def app(only: str | None = None) -> typer.Typer:
    """Build the command line parser.

    Args:
        only: build only the part for this command, because the whole parser takes most of the start-up time.
    """
    parser = typer.Typer(
        name="marfetch",
        cls=Commands,
        help=(
            "Fetch artifacts from the Microsoft Artifact Registry (MAR).\n\nArtifacts are Helm charts, Bicep modules and other OCI"
            " artifacts, but not container images. Every byte is checked against its digest."
        ),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    parser.callback()(_root)
    for module in dict.fromkeys([COMMANDS[only]] if only is not None and only in COMMANDS else COMMANDS.values()):
        importlib.import_module(f".{module}", __package__).register(parser)
    if only in COMMANDS:
        parser.registered_commands = [command for command in parser.registered_commands if command.name == only]
    _describe(parser)
    return parser


def _describe(parser: typer.Typer) -> None:
    """Give the commands of a parser and of its groups the parameters that typer reads."""
    for command in parser.registered_commands:
        describe = getattr(command.callback, "describe", None)
        if describe is not None:
            describe()
    for group in parser.registered_groups:
        if group.typer_instance is not None:
            _describe(group.typer_instance)


def _root() -> None:
    """Keep typer from dropping the command's name when the parser has a single command."""
