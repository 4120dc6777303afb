"""The summary of a job: Markdown that is added to the file of `GITHUB_STEP_SUMMARY`, where CI names one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..errors import Error
from ..text import printable
from .report import Report

ENVIRONMENT: Final = "GITHUB_STEP_SUMMARY"
MAX_ROWS: Final = 500
"""Rows of one table: GitHub takes 1 MiB a step."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; nothing in a cell is read as Markdown or HTML."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        lines.append(f"| {len(rows) - MAX_ROWS} more |" + " |" * (len(head) - 1))
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A text from anywhere as code, which Markdown does not look into."""
    shown = printable(text)[:500].replace("|", "\\|")
    if not shown:
        return ""
    # A run of backticks longer than any inside holds them all.
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def summarize(report: Report, title: str, rows: Sequence[Sequence[str]], errors: Sequence[Error | None] = ()) -> None:
    """Add what became of a command to the summary of the job; without a file for it, nothing."""
    text = f"### {printable(title)}\n"
    if rows:
        text += "\n" + table(("outcome", "name", "reference"), rows)
    found = [error for error in errors if error is not None]
    if found:
        text += "\n" + "".join(f"- {cell(error.message)}\n" for error in found[:MAX_ROWS])
    write_summary(report, text)


def write_summary(report: Report, markdown: str) -> None:
    """Add Markdown to the summary of the job. A file that cannot be written is no failure of the command."""
    name = os.environ.get(ENVIRONMENT)
    if not name:
        return
    try:
        with Path(name).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(markdown + "\n")
    except OSError as error:
        report.warn(f"the summary `{name}` was not written: {error.strerror or error}")
