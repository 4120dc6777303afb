"""`marfetch serve`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Settings, shared

if TYPE_CHECKING:
    from ..serve.run import Running

_Layout = Annotated[Path, typer.Argument(metavar="LAYOUT", help="An OCI image layout: a folder, or a plain tar of one.")]
_Port = Annotated[int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="Where to listen; 0 takes a free port.")]
_Host = Annotated[str, typer.Option("--host", metavar="HOST", help="The address to listen on.")]
_DataPort = Annotated[
    int | None,
    typer.Option(
        "--data-port", metavar="PORT", min=0, max=65535, help="Redirect to this port for content, as MAR does; 0 takes a free one."
    ),
]
_Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="The repository of bare tags.  [default: after LAYOUT]")]


def register(app: typer.Typer) -> None:
    app.command()(serve)


@shared(network=False)
def serve(
    settings: Settings,
    layout: _Layout,
    port: _Port = 5000,
    host: _Host = "127.0.0.1",
    data_port: _DataPort = None,
    name: _Name = None,
) -> int:
    """Serve a layout as a read-only registry, until Ctrl-C or SIGTERM.

    The address that it listens on is the first line on stdout. Whatever pulls from a registry can pull from it: helm, oras, crane, marfetch
    itself with `--endpoint`. A bundle in which something was changed is not served: exit code 5.
    """
    from ..serve.run import running

    report = settings.report
    with _ended() as end, running(layout, host=host, port=port, data_port=data_port, name=name, warn=report.warn) as found:
        _tell(settings, layout, found)
        while not (report.is_gone or end.wait(1)) and found.serving.is_running:
            pass
        report.note("what is under way may end")
    return 0


def _tell(settings: Settings, layout: Path, found: Running) -> None:
    report, repositories = settings.report, found.held.repositories
    report.line(found.address)
    if found.data_address is not None:
        report.line(found.data_address)
    tags = sum(len(one.tags) for one in repositories.values())
    report.data(
        {
            "address": found.address,
            "dataAddress": found.data_address,
            "layout": str(layout),
            "repositories": len(repositories),
            "tags": tags,
        }
    )
    if not found.is_local:
        report.warn(f"`{found.address}` is no loopback address: everybody who reaches this machine can read `{layout}`, without encryption")
    report.note(f"`{layout}` is served, {len(repositories)} repositories with {tags} tags, until Ctrl-C")


@contextmanager
def _ended() -> Iterator[threading.Event]:
    """An event for the first SIGTERM or Ctrl-C; another one ends the process as usual."""
    end = threading.Event()

    def note(*_: object) -> None:
        if end.is_set():
            raise KeyboardInterrupt
        end.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
