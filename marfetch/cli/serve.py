"""`marfetch serve`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..text import counted
from .help import add
from .options import Settings, Timeout, check_timeout, shared

if TYPE_CHECKING:
    from ..serve.run import Running

_Layout = Annotated[Path, typer.Argument(metavar="LAYOUT", help="OCI image layout or bundle: a directory or an uncompressed tar file.")]
_Port = Annotated[int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="Port to listen on; 0 chooses a free one.")]
_Host = Annotated[str, typer.Option("--host", metavar="HOST", help="Address to listen on.")]
_DataPort = Annotated[
    int | None,
    typer.Option(
        "--data-port", metavar="PORT", min=0, max=65535, help="Redirect blob requests to this port, as MAR does; 0 chooses a free one."
    ),
]
_Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Repository for bare tags in LAYOUT. [default: its name]")]
_AllowHost = Annotated[
    list[str] | None,
    typer.Option("--allow-host", metavar="NAME", help="Host name to answer for besides loopback names; may be repeated."),
]


def register(app: typer.Typer) -> None:
    add(app, serve)


@shared(network=False)
def serve(
    settings: Settings,
    layout: _Layout,
    port: _Port = 5000,
    host: _Host = "127.0.0.1",
    data_port: _DataPort = None,
    name: _Name = None,
    allow_host: _AllowHost = None,
    timeout: Timeout = None,
) -> int:
    """Serve a bundle or OCI layout as a read-only registry.

    Prints its address as the first line on stdout and runs until Ctrl-C or SIGTERM. Clients such as helm, oras and crane can pull from it,
    and marfetch with `--endpoint`. A bundle that fails its check is refused with exit code 5. On a loopback address it answers only for
    loopback names and the names of `--allow-host`, so that web pages cannot read it. `--timeout` limits only the start.
    """
    from ..serve.run import running

    check_timeout(timeout)
    report, allowed = settings.report, allow_host or ()
    with _stop_signal() as stop, ExitStack() as stack:
        with settings._replace(timeout=timeout).time_limit():
            found = stack.enter_context(
                running(layout, host=host, port=port, data_port=data_port, name=name, allowed=allowed, warn=report.warn)
            )
        if allowed and not found.is_local:
            report.warn(
                f"`--allow-host` has no effect: `{found.address}` is not a loopback address, so requests for every host name are accepted"
            )
        _print_address(settings, layout, found)
        while not (report.reader_is_gone or stop.wait(1)) and found.serving.is_running:
            pass
        report.note("finishing open requests; press Ctrl-C again to stop now")
    return 0


def _print_address(settings: Settings, layout: Path, found: Running) -> None:
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
        report.warn(f"`{found.address}` is not a loopback address: anyone who can reach it can read `{layout}`, without encryption")
    report.note(f"serving `{layout}` until Ctrl-C: {counted(len(repositories), 'repository', 'repositories')}, {counted(tags, 'tag')}")


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Set the event on the first SIGTERM or Ctrl-C; the second one raises KeyboardInterrupt."""
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
