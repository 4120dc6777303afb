"""Print the result of `bump` and `outdated --from`: one line per place, JSON, or the body of a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..bump.bump import BumpPlan, Result, Upgrade
from ..errors import Error
from ..text import counted
from .diff import markdown_of
from .markdown import cell, table, write_summary
from .report import Report, error_json
from .table import Row, digest, status

HEAD = ("place", "repository", "old", "new", "status")


def print_bump(
    report: Report,
    plan: BumpPlan,
    *,
    written: Sequence[Path] = (),
    is_check: bool = False,
    error: Error | None = None,
    body: str | None = None,
) -> int:
    """Print what happened to each place; return the exit code.

    Args:
        written: the files that were written.
        is_check: whether `--check` is set: nothing is written, and the exit code says whether there are newer versions.
        error: why the files could not be written.
        body: Markdown to print instead of the lines; None for the lines.
    """
    known = [one for one in plan.results if one.error is None]
    if body is not None:
        report.text(body)
    else:
        report.table(HEAD, [_row(one) for one in known])
    _notes(report, plan)
    data: Any = {"places": [_json(one) for one in known], "written": [str(path) for path in written]}
    failed = [(_where(one), one.error) for one in plan.errors if one.error is not None]
    if failed or error is not None:
        data["failed"] = [
            {**error_json(one.error), "path": str(one.file.path), "line": one.line, "repository": one.repository}
            for one in plan.errors
            if one.error is not None
        ]
        if written:
            report.note(f"written before the failure: {', '.join(f'`{path}`' for path in written)}")
        elif not is_check:
            report.note("nothing was written")
        return report.failures([("", error)], data, several=False) if error is not None else report.failures(_distinct(failed), data)
    bumped = plan.bumped
    summary = _summary(known)
    write_summary(report, body if body is not None else f"### marfetch bump: {summary}\n\n" + _table(bumped))
    report.data(data)
    report.note(summary)
    for hint in plan.hints():
        report.note(f"next: {hint}")
    return 1 if is_check and bumped else 0


def _notes(report: Report, plan: BumpPlan) -> None:
    for note in plan.notes:
        report.note(note)
    for one in plan.results:
        if one.error is None and one.decision.reason is not None:
            report.note(f"{_where(one)}: {one.decision.status}: {one.decision.reason}")


def _distinct(failed: Sequence[tuple[str, Error]]) -> list[tuple[str, Error]]:
    """Keep the first place of each error, because all places of a repository fail alike."""
    return list({id(error): (where, error) for where, error in reversed(failed)}.values())[::-1]


def _summary(results: Sequence[Result]) -> str:
    counts = Counter(one.decision.status for one in results)
    found = ", ".join(f"{count} {word}" for word, count in counts.items())
    return f"{counted(len(results), 'place')}: {found}" if found else "no version of a MAR artifact was found"


def _where(one: Result) -> str:
    return f"{one.file.path}:{one.line}"


def _row(one: Result) -> Row:
    decision = one.decision
    return (_where(one), one.repository or "-", digest(decision.old or "-"), digest(decision.new or "-"), status(decision.status))


def _json(one: Result) -> dict[str, Any]:
    decision = one.decision
    return {
        "path": str(one.file.path),
        "line": one.line,
        "form": one.form,
        "repository": one.repository,
        "old": decision.old,
        "new": decision.new,
        "status": decision.status,
        "reason": decision.reason,
    }


def _table(results: Sequence[Result]) -> str:
    rows = [(_where(one), one.repository or "", one.decision.old or "", one.decision.new or "") for one in results]
    return table(("place", "repository", "old", "new"), rows) if rows else ""


def pull_request(plan: BumpPlan, upgrades: Sequence[Upgrade]) -> str:
    """Return the body of a pull request: first the keys of values files that the new charts no longer have, then what changes."""
    return "\n".join(_pull_request(plan, upgrades)) + "\n"


def _pull_request(plan: BumpPlan, upgrades: Sequence[Upgrade]) -> Iterator[str]:
    lost = [(one, key) for one in upgrades for key in one.lost]
    if lost:
        yield "### Values that the new charts no longer have\n"
        rows = [(key.key, key.where, one.results[0].repository or "", one.results[0].decision.new or "") for one, key in lost]
        yield table(("key", "set in", "chart", "new version"), rows)
    if not plan.bumped:
        yield "No newer versions."
        return
    yield "### Upgrades\n"
    yield _table(plan.bumped)
    yield markdown_of([("", one.difference) for one in upgrades if one.difference is not None])
    for one in upgrades:
        if one.error is not None:
            yield f"{cell(one.results[0].repository or '')} could not be compared: {cell(one.error.message)}\n"
    rest = [one for one in plan.results if one.decision.status in ("held-back", "unreadable")]
    if rest:
        yield "### Not changed\n"
        kept = [(_where(one), one.repository or "", one.decision.old or "", one.decision.status, one.decision.reason or "") for one in rest]
        yield table(("place", "repository", "version", "status", "reason"), kept)
