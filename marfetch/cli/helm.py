"""`marfetch index` and `marfetch setup`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..render.table import status
from .help import add
from .options import References, Settings, shared

_Plugins = Annotated[Path | None, typer.Option("--plugins", metavar="DIR", help="Plugin directory (default: `helm env HELM_PLUGINS`).")]
_GetterOf = Annotated[
    Path | None, typer.Option("--getter-of", metavar="DIR", help="Install only the mar:// getter, next to this plugin directory.")
]
_Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the index to this file instead of stdout.")]


def register(app: typer.Typer) -> None:
    add(app, index)
    add(app, setup)


@shared()
def index(settings: Settings, references: References, output: _Output = None) -> int:
    """Print Helm's index.yaml for chart repositories.

    The index lists every version. It is written as JSON, which is valid YAML.
    """
    from ..destination.destination import write_file
    from ..helm.charts import index_of

    repositories = [settings.request(text).reference for text in references]
    with settings.client() as client:
        raw = index_of(client, repositories)
    if output is not None:
        write_file(output, raw)
        settings.report.line(str(output))
    elif not settings.report.as_json:
        settings.report.json_text(raw.decode())
    settings.report.data({"index": json.loads(raw), "path": str(output) if output else None})
    return 0


@shared(network=False)
def setup(settings: Settings, plugins: _Plugins = None, getter_of: _GetterOf = None) -> int:
    """Install the Helm plugins.

    Installs `helm marfetch` and the mar:// getter into Helm's plugin directory.
    """
    from ..helm.setup import plugins_directory, set_up, set_up_getter

    installed = set_up_getter(getter_of) if getter_of is not None else set_up(plugins or plugins_directory())
    rows = [(one.name, str(one.path), status("written" if one.changed else "unchanged")) for one in installed]
    settings.report.table(("plugin", "path", "status"), rows)
    settings.report.data({"plugins": [{"name": one.name, "path": str(one.path), "changed": one.changed} for one in installed]})
    settings.report.note("next: helm repo add mar mar://mcr.microsoft.com/application-lb")
    return 0
