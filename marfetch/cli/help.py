"""Format the output of `--help`: commands grouped by purpose, and examples at the end of each command's help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "Fetch": {"pull": "pull", "plan": "pull", "resolve": "versions"},
    "Find": {
        "search": "search",
        "versions": "versions",
        "inspect": "inspect",
        "show": "inspect",
        "images": "images",
        "referrers": "inspect",
    },
    "Trust": {"verify": "verify", "trust": "trust"},
    "Projects": {"lock": "project", "sync": "project", "outdated": "project", "bump": "bump", "diff": "diff"},
    "Bundles": {"bundle": "bundle", "mirror": "mirror", "serve": "serve"},
    "CI": {"record": "record", "replay": "record"},
    "Helm": {"index": "helm", "setup": "helm"},
    "Diagnose": {"doctor": "doctor", "endpoints": "endpoints", "cache": "cache"},
    "Agents": {"mcp": "mcp"},
    "More": {"demo": "demo", "completion": "completion", "version": "version", "help": "help"},
}
"""Purpose → command → module of this package that defines it."""

COMMANDS: Final[Mapping[str, str]] = {command: module for commands in GROUPS.values() for command, module in commands.items()}
"""Command → module of this package that defines it."""

_CHART: Final = "application-lb/charts/alb-controller"
_MODULE: Final = "bicep/avm/res/storage/storage-account"

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "pull": (f"pull {_CHART}:1.7.12", f"pull {_CHART} --version '^1.7' -d charts", f"pull {_CHART} --untar --verify"),
    "plan": (f"plan {_CHART}:1.7.12", f"plan {_CHART} --version '^1.7' --json"),
    "resolve": (f"resolve {_CHART}:1.7.12", f"resolve {_CHART} --version '^1.7'", f"resolve {_CHART} --as flux"),
    "search": ("search alb", "search --kind chart", "search storage --json"),
    "versions": (f"versions {_CHART}", f"versions {_CHART} --details", f"versions {_CHART} --all"),
    "inspect": (f"inspect {_CHART}", f"inspect {_CHART}:1.7.12 --json"),
    "show": (f"show values {_CHART}:1.7.12", f"show chart {_CHART} --version '^1.7'", f"show params {_MODULE}:0.14.0"),
    "images": (f"images {_CHART}:1.7.12", "images --format hauler > images.yaml", f"images {_CHART} --rendered --values prod.yaml"),
    "referrers": (f"referrers {_CHART}:1.7.12", f"referrers {_CHART}:1.7.12 --fetch -d sboms"),
    "verify": (f"verify {_CHART}:1.7.12", f"verify {_CHART} --trust-policy policy.json"),
    "trust": ("trust add-microsoft root-rsa.crt root-ecc.crt", "trust check"),
    "trust add-microsoft": (
        "trust add-microsoft root-rsa.crt root-ecc.crt",
        f"trust add-microsoft root-rsa.crt root-ecc.crt --scope mcr.microsoft.com/{_CHART}",
    ),
    "trust show": ("trust show", "trust show --json"),
    "trust check": ("trust check", "trust check --trust-policy policy.json"),
    "lock": ("lock", "lock --upgrade alb-controller", "lock --from helmfile.yaml"),
    "sync": ("sync", "sync --locked", "sync --prune --dry-run"),
    "outdated": ("outdated", "outdated --json", "outdated --from helmfile.yaml clusters"),
    "bump": ("bump", "bump --check", f"bump charts --level minor --only '{_CHART}'"),
    "diff": ("diff", f"diff {_CHART}:1.6.7 {_CHART}:1.7.12"),
    "bundle": ("bundle create -o bundle.tar", "bundle load bundle.tar --to registry.example.com/mar"),
    "bundle create": ("bundle create -o bundle.tar", "bundle create -o delta.tar --since bundle.tar"),
    "bundle inspect": ("bundle inspect bundle.tar", "bundle inspect bundle.tar --json"),
    "bundle verify": ("bundle verify bundle.tar", "bundle verify delta.tar --since bundle.tar"),
    "bundle diff": ("bundle diff old.tar bundle.tar", "bundle diff old.tar bundle.tar --json"),
    "bundle load": ("bundle load bundle.tar --to registry.example.com/mar", "bundle load bundle.tar --to ./layout"),
    "bundle sbom": ("bundle sbom bundle.tar", "bundle sbom bundle.tar --json"),
    "mirror": ("mirror --to registry.example.com/mar", "mirror --to registry.example.com/mar --referrers --dry-run"),
    "bundle overlay": (
        "bundle overlay bundle.tar --registry registry.example.com/mar",
        "bundle overlay bundle.tar --registry registry.example.com --chart alb-controller --strict",
    ),
    "serve": ("serve bundle.tar", "serve bundle.tar --port 5000"),
    "record": (f"record -o deps.tar -- helm pull oci://mcr.microsoft.com/{_CHART}", "record -o deps.tar -- sh build.sh"),
    "replay": (
        f"replay deps.tar -- helm pull oci://mcr.microsoft.com/{_CHART}",
        "replay deps.tar --allow github.com -- sh build.sh",
    ),
    "index": (f"index {_CHART}", f"index {_CHART} -o index.yaml"),
    "setup": ("setup", "setup --quiet"),
    "doctor": ("doctor", f"doctor {_CHART}:1.7.12"),
    "endpoints": ("endpoints", "endpoints --format azure-firewall"),
    "cache": ("cache info", "cache prune"),
    "cache info": ("cache info", "cache info --json"),
    "cache verify": ("cache verify", "cache verify --fix"),
    "cache prune": ("cache prune", "cache prune --unused-days 30"),
    "cache clear": ("cache clear", "cache clear --cache-dir .cache"),
    "mcp": ("mcp", "mcp --offline"),
    "demo": ("demo", "demo --serve"),
    "completion": ("completion bash", "completion fish | source"),
    "version": ("version", "version --json"),
    "help": ("help pull", "help bundle create"),
}
"""Command → example command lines."""


class Command(TyperCommand):
    """A command whose help ends with examples."""

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        _write_examples(ctx, formatter)


class CommandGroup(TyperGroup):
    """A command with subcommands, whose help ends with examples."""

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        _write_examples(ctx, formatter)


def _write_examples(ctx: typer.Context, formatter: Any) -> None:
    formatter.write_paragraph()
    formatter.write("Examples:\n")
    for line in EXAMPLES[ctx.command_path.partition(" ")[2]]:
        formatter.write(f"  marfetch {line}\n")


class Commands(TyperGroup):
    """The program: its help lists the commands by purpose."""

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        width = max(map(len, COMMANDS))
        for purpose, names in GROUPS.items():
            with formatter.section(purpose):
                for name in names:
                    command = self.get_command(ctx, name)
                    assert command is not None, "`COMMANDS` has every registered command"
                    formatter.write(f"  {name:{width}}  {_summary(command)}\n")
        formatter.write_paragraph()
        formatter.write("Run `marfetch help COMMAND` for the options and examples of a command.\n")


def _summary(command: Any) -> str:
    """Return the first line of a command's help, without shortening it."""
    return str(command.help or "").strip().partition("\n")[0]


def add(app: typer.Typer, function: Callable[..., int], name: str | None = None) -> None:
    """Register a command."""
    app.command(name or function.__name__.replace("_", "-"), cls=Command)(function)


def add_group(app: typer.Typer, name: str, text: str) -> typer.Typer:
    """Register a command with subcommands.

    Args:
        text: its help, one sentence.
    """
    group = typer.Typer(cls=CommandGroup, no_args_is_help=True, help=text, rich_markup_mode=None)
    app.add_typer(group, name=name)
    return group


# -- `marfetch help`

_Words = Annotated[
    list[str] | None, typer.Argument(metavar="[COMMAND]", help="The command, such as pull or bundle create.", show_default=False)
]


def register(app: typer.Typer) -> None:
    add(app, show_help, "help")


def show_help(words: _Words = None) -> int:
    """Show the options and examples of a command."""
    raise AssertionError(f"`run` replaces `help` with `--help`, so this is never called: {words}")
