"""`marfetch demo`."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from ..errors import Error
from ..render.report import Report
from .help import add
from .options import Settings, current, shared

_Serve = Annotated[bool, typer.Option("--serve", help="Only run the demo registry until Ctrl-C, for use from another terminal.")]


def register(app: typer.Typer) -> None:
    add(app, demo)


@shared(network=False)
def demo(settings: Settings, serve: _Serve = False) -> int:
    """Run a guided tour without a network.

    Uses an embedded registry that looks like MAR. Shows versions, a range, a pull, the cache, and a corrupted blob.
    """
    from ..demo.tour import tour

    report = settings.report
    if serve:
        return _serve(report)
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        report.line(line)

    code = tour(show, _run_command)
    current.report = report
    if report.as_json:
        report.data({"lines": list(lines), "passed": code == 0})
    return code


def _serve(report: Report) -> int:
    from ..demo.tour import embedded
    from ..endpoint import DATA_ENVIRONMENT, ENVIRONMENT

    with TemporaryDirectory(prefix="marfetch-demo-", ignore_cleanup_errors=True) as directory, embedded(Path(directory)) as running:
        report.line(f"export {ENVIRONMENT}={running.endpoint} {DATA_ENVIRONMENT}={running.data}")
        report.note("the demo registry runs until Ctrl-C; paste the line above into another terminal to use it there")
        if not report.reader_is_gone:
            threading.Event().wait()
    return 0


class _Terminal(io.StringIO):
    """A stream that captures the output of a command, and claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def _run_command(arguments: Sequence[str]) -> tuple[int, list[str]]:
    from . import run

    output = _Terminal()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            code = int(run(arguments))
        except Error as error:
            assert current.report is not None, "every command creates its report before it can fail"
            current.report.failed(error)
            code = error.exit_code
    return code, output.getvalue().splitlines()
