"""Differences as lines, as JSON, and as Markdown for a pull request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..diff.changes import Change, Difference, Section
from ..document import Json
from ..errors import Error
from ..text import printable
from .markdown import cell, write_summary
from .report import Report

_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}
MAX_VALUE: Final = 200
"""Characters of a value that are shown."""
MAX_MARKDOWN: Final = 60_000
"""Characters: a comment of GitHub takes 65,536."""


def shown(report: Report, found: Sequence[tuple[str, Difference]], errors: Sequence[tuple[str, Error]], *, markdown: bool) -> int:
    """Show them; 1 where something differs, the exit code of the first failure where there is one."""
    text = _markdown(found)
    if markdown:
        for line in text.splitlines():
            report.line(line)
    else:
        for name, one in found:
            for line in _lines(name, one):
                report.line(line)
    differs = any(one.differs for _, one in found)
    data: Any = {"differs": differs, "differences": [_json(name, one) for name, one in found]}
    if differs:
        write_summary(report, text)
    if errors:
        for name, error in errors[1:]:
            report.error(error, about=name)
        report.failed(errors[0][1], data, about=errors[0][0])
        return errors[0][1].exit_code
    report.data(data)
    if not differs and not report.as_json:
        report.note("nothing differs")
    return 1 if differs else 0


def _title(name: str, one: Difference) -> str:
    old, new = one.old, one.new
    versions = f"{old.tag or old.digest} → {new.tag or new.digest}"
    where = new.full_repository if old.full_repository == new.full_repository else f"{old.full_repository} → {new.full_repository}"
    return f"{name or new.name}: {versions} ({where})"


def _lines(name: str, one: Difference) -> Iterator[str]:
    yield _title(name, one)
    if not one.differs:
        return
    yield f"  digest: {one.old.digest} → {one.new.digest}"
    if not one.sections:
        yield "  nothing that is looked at differs"
    for section in one.sections:
        yield f"  {section.name}:"
        for change in section.changes:
            yield f"    {_SIGNS[change.sort]} {change.path}{_values(change)}"
            for line in change.lines:
                yield f"        {line}"


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


def _markdown(found: Sequence[tuple[str, Difference]]) -> str:
    """For a pull request: a heading for each, its sections folded, nothing in it read as Markdown or HTML."""
    parts: list[str] = []
    size = 0
    for number, (name, one) in enumerate(found):
        text = "\n".join(_marked(name, one))
        if size + len(text) > MAX_MARKDOWN:
            text = f"### {cell(_title(name, one))}\n\nToo much to show here; run `marfetch diff`.\n"
        if size + len(text) > MAX_MARKDOWN:
            parts.append(f"And {len(found) - number} more.\n")
            break
        size += len(text)
        parts.append(text)
    return "\n".join(parts) or "Nothing differs.\n"


def _marked(name: str, one: Difference) -> Iterator[str]:
    yield f"### {cell(_title(name, one))}"
    yield ""
    if not one.differs:
        yield "Nothing differs."
    for section in one.sections:
        count = len(section.changes)
        yield f"<details><summary>{section.name}: {count} {'change' if count == 1 else 'changes'}</summary>"
        yield ""
        yield from _marked_section(section)
        yield "</details>"
        yield ""


def _marked_section(section: Section) -> Iterator[str]:
    for change in section.changes:
        yield f"- {change.sort} {cell(change.path)}{_marked_values(change)}"
        if change.lines:
            lines = [printable(line) for line in change.lines]
            fence = "`" * max(3, *(_run(line) + 1 for line in lines))
            yield ""
            yield f"  {fence}diff"
            yield from (f"  {line}" for line in lines)
            yield f"  {fence}"
            yield ""
    yield ""


def _marked_values(change: Change) -> str:
    values = _values(change).removeprefix(": ")
    return f": {cell(values)}" if values else ""


def _run(text: str) -> int:
    """The longest run of backticks."""
    longest = now = 0
    for character in text:
        now = now + 1 if character == "`" else 0
        longest = max(longest, now)
    return longest
