"""`marfetch completion`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from .help import add
from .options import Settings, shared

_SCRIPTS: Final = Path(__file__).parents[1] / "completion" / "shells"


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


_Shell = Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.")]


def register(app: typer.Typer) -> None:
    add(app, completion)


@shared(network=False)
def completion(settings: Settings, shell: _Shell) -> int:
    """Print a shell completion script.

    It completes commands, options, repositories, tags and versions. It offers what the cache knows and makes no requests. Turn it on with
    one line:

    \b
      bash        eval "$(marfetch completion bash)"                                  in ~/.bashrc
      zsh         eval "$(marfetch completion zsh)"                                   in ~/.zshrc
      fish        marfetch completion fish | source                                   in ~/.config/fish/config.fish
      powershell  marfetch completion powershell | Out-String | Invoke-Expression     in $PROFILE
    """
    script = (_SCRIPTS / f"marfetch.{shell.value}").read_text(encoding="utf-8")
    settings.report.text(script)
    settings.report.data({"shell": shell.value, "script": script})
    return 0
