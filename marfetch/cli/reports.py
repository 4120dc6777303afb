"""What `lock`, `sync`, `outdated` and `diff` say: lines, one JSON object, and a Markdown summary where CI wants one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..errors import Error
from ..project.lock import Entry, Lock
from ..project.locking import Settled
from ..project.sync import Synced
from ..project.wanted import Project
from ..report import Report, error_json
from .summary import summarize


def checked(report: Report, project: Project, lock: Lock) -> int:
    """The lock fits."""
    report.note(f"`{project.lock_path}` fits `{project.path}`: {len(lock.entries)} artifacts")
    report.data({"lock": str(project.lock_path), "fits": True, "artifacts": [_entry(entry, "kept", None) for entry in lock.entries]})
    return 0


def locked(report: Report, project: Project, old: Lock | None, found: Sequence[Settled], *, is_written: bool) -> int:
    """What a lock says now; the exit code is that of the first failure."""
    names = {one.item.name for one in found}
    removed = [entry for entry in (old.entries if old else ()) if entry.name not in names]
    failed = [one for one in found if one.error is not None]
    rows: list[tuple[str, str, str]] = []
    artifacts: list[Any] = []
    for one in found:
        if one.entry is not None:
            rows.append((one.change, one.item.name, str(one.entry.reference)))
            artifacts.append(_entry(one.entry, one.change, one.previous))
    rows += [("removed", entry.name, str(entry.reference)) for entry in removed]
    for row in rows:
        report.line(*row)
    data = {
        "lock": str(project.lock_path),
        "written": is_written,
        "artifacts": artifacts,
        "removed": [entry.name for entry in removed],
        "failed": [
            {**error_json(one.error), "name": one.item.name, "reference": str(one.item.reference)}
            for one in failed
            if one.error is not None
        ],
    }
    summarize(
        report,
        f"marfetch lock: {_counted(row[0] for row in rows)}",
        [row for row in rows if row[0] != "kept"],
        [one.error for one in failed],
    )
    if not failed:
        report.data(_json(data))
        report.note(f"`{project.lock_path}` {'was written' if is_written else 'says so already'}: {_counted(row[0] for row in rows)}")
        return 0
    report.note(f"`{project.lock_path}` stays as it was")
    return _failed(report, [(one.item.name, one.error) for one in failed if one.error is not None], data, several=len(found) > 1)


def synced(report: Report, project: Project, result: Sequence[Synced]) -> int:
    """What became of each artifact; the exit code is that of the first failure."""
    for one in result:
        report.line(one.outcome, one.name, one.reference)
    data = {
        "lock": str(project.lock_path),
        "artifacts": [
            {
                "name": one.name,
                "reference": one.reference,
                "outcome": one.outcome,
                "files": [
                    {"path": str(file.path), "digest": str(file.layer.digest), "size": file.layer.size, "mediaType": file.layer.media_type}
                    for file in one.files
                ],
                **({"error": error_json(one.error)} if one.error is not None else {}),
            }
            for one in result
        ],
    }
    counted = _counted(one.outcome for one in result)
    errors = [(one.name, one.error) for one in result if one.error is not None]
    rows = [(one.outcome, one.name, one.reference) for one in result if one.outcome != "unchanged"]
    summarize(report, f"marfetch sync: {counted}", rows, [error for _, error in errors])
    if not errors:
        report.data(_json(data))
        report.note(counted)
        return 0
    report.note(counted)
    return _failed(report, errors, data, several=len(result) > 1)


def _failed(report: Report, errors: Sequence[tuple[str, Error]], data: Any, *, several: bool) -> int:
    for name, error in errors[1:]:
        report.error(error, about=name)
    name, first = errors[0]
    report.failed(first, _json(data), about=name if several else None)
    return first.exit_code


def _entry(entry: Entry, change: str, previous: Entry | None) -> dict[str, Any]:
    return {
        "name": entry.name,
        "reference": str(entry.reference),
        "repository": entry.reference.full_repository,
        "tag": entry.tag,
        "version": entry.version,
        "digest": str(entry.digest),
        "outcome": change,
        "previous": str(previous.reference) if previous is not None and previous.reference != entry.reference else None,
    }


def _counted(words: Any) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items()) or "nothing is wanted"


def _json(data: Any) -> Any:
    return data
