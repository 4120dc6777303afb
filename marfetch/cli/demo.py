"""`marfetch demo`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

import typer

from ..errors import Error
from .options import Settings, current, shared


def register(app: typer.Typer) -> None:
    app.command()(demo)


@shared(network=False)
def demo(settings: Settings) -> int:
    """Go the whole way on an embedded look-alike of MAR: versions, a range, a pull, the cache, a corrupted blob. No network needed."""
    from ..demo.tour import tour

    report = settings.report
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        report.line(line)

    code = tour(show, _as_the_shell_would)
    current.report = report
    if report.as_json:
        report.data({"lines": list(lines), "passed": code == 0})
    return code


def _as_the_shell_would(arguments: Sequence[str]) -> tuple[int, list[str]]:
    from . import run

    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            code = int(run(arguments))
        except Error as error:
            assert current.report is not None, "a command that fails has a voice"
            current.report.failed(error)
            code = error.exit_code
    return code, output.getvalue().splitlines()
