"""`marfetch version`."""

from __future__ import annotations

import typer

from .. import __version__
from .help import add
from .options import Settings, shared


def register(app: typer.Typer) -> None:
    add(app, version)


@shared(network=False)
def version(settings: Settings) -> int:
    """Print name and version."""
    settings.report.line(f"marfetch {__version__}")
    settings.report.data({"name": "marfetch", "version": __version__})
    return 0
