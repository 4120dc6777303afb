"""`marfetch mcp`."""

from __future__ import annotations

import sys

import typer

from ..errors import InputError
from .help import add
from .options import Settings, shared


def register(app: typer.Typer) -> None:
    add(app, mcp)


@shared(limited=False)
def mcp(settings: Settings) -> int:
    """Serve read-only tools to coding agents (MCP).

    Speaks the Model Context Protocol on stdin and stdout until stdin is closed, and needs the `mcp` extra. The tools run search, versions,
    inspect, show, diff, verify, images and `bump --check`. They write nothing but the cache. `--endpoint`, `--offline` and the other
    options apply to each of them.
    """
    if settings.report.as_json:
        raise InputError("`mcp` has no `--json`: it speaks JSON-RPC", code="usage", hint="omit `--json`")
    if settings.timeout is not None:
        raise InputError("`mcp` has no `--timeout`: each tool has its own time limit", code="usage", hint="omit `--timeout`")
    if sys.stdin is None or sys.stdout is None:
        raise InputError("`mcp` needs stdin and stdout, and one of them is closed", code="usage", hint="let an MCP client start it")
    settings.preference().default()  # report an invalid endpoint before the first call
    try:
        from ..agents.tools import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "pydantic"):
            raise
        raise InputError(
            "`marfetch mcp` needs the extra `mcp`, which is not installed",
            code="usage",
            hint="install it: pip install 'marfetch[mcp]'",
        ) from error
    server(_options(settings)).run("stdio")
    return 0


def _options(settings: Settings) -> list[str]:
    """Return the shared options as words for the command line of each tool."""
    words = [f"--jobs={settings.jobs}"]
    words += [f"--data-host={host}" for host in settings.data_hosts]
    named = {"endpoint": settings.endpoint, "ca-file": settings.ca_file, "cache-dir": settings.cache_dir}
    words += [f"--{name}={value}" for name, value in named.items() if value is not None]
    return [*words, "--offline"] if settings.offline else words
