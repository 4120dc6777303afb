"""`marfetch index` and `marfetch setup`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import References, Settings, shared

_Plugins = Annotated[Path | None, typer.Option("--plugins", metavar="DIR", help="Helm's plugin folder; otherwise the one that Helm names.")]
_GetterOf = Annotated[
    Path | None,
    typer.Option("--getter-of", metavar="DIR", help="Only the getter, beside this folder of a plugin that Helm has installed."),
]
_Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the index to a file, as for a web server.")]


def register(app: typer.Typer) -> None:
    app.command()(index)
    app.command()(setup)


@shared()
def index(settings: Settings, references: References, output: _Output = None) -> int:
    """Print Helm's index.yaml for chart repositories: every version of their tags. It is JSON, which is YAML too."""
    from ..destination.destination import write_file
    from ..helm.charts import index_of
    from ..render.pull import wanted

    asked = [wanted(settings.report, text, None, devel=False).reference for text in references]
    with settings.client() as client:
        raw = index_of(client, asked)
    if output is not None:
        write_file(output, raw)
        settings.report.line(str(output))
    elif not settings.report.as_json:
        settings.report.line(raw.decode())
    settings.report.data({"index": json.loads(raw), "path": str(output) if output else None})
    return 0


@shared(network=False)
def setup(settings: Settings, plugins: _Plugins = None, getter_of: _GetterOf = None) -> int:
    """Put both plugins of marfetch into Helm's plugin folder: `helm marfetch` and the getter for `mar://`."""
    from ..helm.setup import plugins_directory, set_up, set_up_getter

    placed = set_up_getter(getter_of) if getter_of is not None else set_up(plugins or plugins_directory())
    for one in placed:
        settings.report.line(one.name, str(one.path), "written" if one.changed else "unchanged")
    settings.report.data({"plugins": [{"name": one.name, "path": str(one.path), "changed": one.changed} for one in placed]})
    settings.report.note("ready: helm repo add mar mar://mcr.microsoft.com/application-lb")
    return 0
