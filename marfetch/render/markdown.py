"""Append a Markdown summary to the file that `GITHUB_STEP_SUMMARY` names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..errors import Error
from ..text import printable, without_commands
from .report import Report

ENVIRONMENT: Final = "GITHUB_STEP_SUMMARY"
MAX_ROWS: Final = 500
"""Maximum number of rows in a table; GitHub limits the summary of a step to 1 MiB."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; cells are escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        lines.append(f"| {len(rows) - MAX_ROWS} more |" + " |" * (len(head) - 1))
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Escape untrusted text as inline code, at most 500 characters."""
    shown = printable(text)[:500].replace("|", "\\|")
    if not shown:
        return ""
    fence = code_fence(shown, 1)
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def code_fence(text: str, shortest: int) -> str:
    """Return a fence to enclose a text in: more backticks than the longest run of backticks in the text."""
    return "`" * max([shortest, *(len(run) + 1 for run in re.findall("`+", text))])


def summarize(report: Report, title: str, rows: Sequence[Sequence[str]], errors: Sequence[Error]) -> None:
    """Append a table of outcomes and a list of errors to the job summary."""
    text = f"### {printable(title)}\n"
    if rows:
        text += "\n" + table(("outcome", "name", "reference"), rows)
    if errors:
        text += "\n" + "".join(f"- {cell(error.message)}\n" for error in errors[:MAX_ROWS])
    write_summary(report, text)


def write_summary(report: Report, markdown: str) -> None:
    """Append Markdown to the job summary, if there is one; a failed write is only a warning."""
    name = os.environ.get(ENVIRONMENT)
    if not name:
        return
    try:
        with Path(name).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(without_commands(markdown) + "\n")
    except OSError as error:
        report.warn(f"cannot write the job summary `{name}`: {error.strerror or error}")
