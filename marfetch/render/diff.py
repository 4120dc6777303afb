"""Print differences as lines, as JSON, or as Markdown for a pull request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..diff.changes import Change, Difference, Section
from ..document import Json
from ..errors import Error
from ..text import counted, printable
from .markdown import cell, code_fence, write_summary
from .report import Report
from .table import BAD, GOOD, ODD, Cell, digest

_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}
_COLORS: Final = {"+": GOOD, "-": BAD, "~": ODD, "@": "cyan"}
"""First character of a line → style."""
MAX_VALUE: Final = 200
"""Maximum number of characters that are shown of a value."""
MAX_MARKDOWN: Final = 60_000
"""Maximum number of characters of Markdown; GitHub limits comments to 65,536."""


def print_diff(report: Report, found: Sequence[tuple[str, Difference]], errors: Sequence[tuple[str, Error]], *, markdown: bool) -> int:
    """Print differences; return the exit code of the first error, otherwise 1 if anything differs.

    Args:
        found: name and difference of each compared artifact; the name is empty if two references were given.
        errors: name and error of each artifact that could not be compared.
    """
    text = markdown_of(found)
    if markdown:
        report.text(text)
    else:
        for number, (name, one) in enumerate(found):
            if number:
                report.gap()
            report.outline(list(_lines(name, one)))
    differs = any(one.differs for _, one in found)
    data: Any = {"differs": differs, "differences": [_json(name, one) for name, one in found]}
    if differs:
        write_summary(report, text)
    if errors:
        return report.failures(errors, data)
    report.data(data)
    if not differs and not report.as_json:
        report.note("no differences")
    return 1 if differs else 0


def _title(name: str, one: Difference) -> str:
    old, new = one.old, one.new
    versions = f"{old.tag or old.digest} → {new.tag or new.digest}"
    where = new.full_repository if old.full_repository == new.full_repository else f"{old.full_repository} → {new.full_repository}"
    return f"{name or new.name}: {versions} ({where})"


def _lines(name: str, one: Difference) -> Iterator[tuple[int, Cell]]:
    """Yield lines with their indentation."""
    yield 0, digest(_title(name, one))._replace(style="bold")
    if not one.differs:
        return
    yield 2, digest(f"digest: {one.old.digest} → {one.new.digest}")
    if not one.sections:
        yield 2, Cell("only the digest differs")
    for section in one.sections:
        yield 2, Cell(f"{section.name}:", style="bold")
        for change in section.changes:
            yield 4, digest(f"{_SIGNS[change.sort]} {change.path}{_values(change)}")._replace(style=_COLORS[_SIGNS[change.sort]])
            for line in change.lines:
                yield 8, Cell(line, style=_COLORS.get(line[:1], ""))


def _values(change: Change) -> str:
    if change.lines:
        return ""
    old, new = _value(change.old), _value(change.new)
    if change.sort == "changed":
        return f": {old} → {new}"
    value = new if change.sort == "added" else old
    return f": {value}" if (change.new if change.sort == "added" else change.old) is not None else ""


def _value(value: Json) -> str:
    if isinstance(value, dict) and set(value) == {"size", "digest"}:
        return f"{value['size']} bytes, {str(value['digest'])[:19]}…"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def _json(name: str, one: Difference) -> dict[str, Any]:
    def change(found: Change) -> dict[str, Any]:
        document: dict[str, Any] = {"change": found.sort, "path": found.path, "old": found.old, "new": found.new}
        return document | ({"diff": "\n".join(found.lines)} if found.lines else {})

    return {
        "name": name or one.new.name,
        "old": str(one.old),
        "new": str(one.new),
        "kind": one.kind,
        "differs": one.differs,
        "sections": {section.name: [change(found) for found in section.changes] for section in one.sections},
    }


def markdown_of(found: Sequence[tuple[str, Difference]]) -> str:
    """Return Markdown for a pull request: a heading per artifact and collapsed sections, with all values escaped."""
    parts: list[str] = []
    size = 0
    for number, (name, one) in enumerate(found):
        text = "\n".join(_upgrade_markdown(name, one))
        if size + len(text) > MAX_MARKDOWN:
            text = f"### {cell(_title(name, one))}\n\nToo long to show here; run `marfetch diff`.\n"
        if size + len(text) > MAX_MARKDOWN:
            parts.append(f"And {len(found) - number} more.\n")
            break
        size += len(text)
        parts.append(text)
    return "\n".join(parts) or "No differences.\n"


def _upgrade_markdown(name: str, one: Difference) -> Iterator[str]:
    yield f"### {cell(_title(name, one))}"
    yield ""
    if not one.differs:
        yield "No differences."
    for section in one.sections:
        yield f"<details><summary>{section.name}: {counted(len(section.changes), 'change')}</summary>"
        yield ""
        yield from _markdown_section(section)
        yield "</details>"
        yield ""


def _markdown_section(section: Section) -> Iterator[str]:
    for change in section.changes:
        values = _values(change).removeprefix(": ")
        yield f"- {change.sort} {cell(change.path)}" + (f": {cell(values)}" if values else "")
        if change.lines:
            lines = [printable(line) for line in change.lines]
            fence = code_fence("\n".join(lines), 3)
            yield ""
            yield f"  {fence}diff"
            yield from (f"  {line}" for line in lines)
            yield f"  {fence}"
            yield ""
    yield ""
