"""What `lock`, `sync`, `outdated` and `diff` say: lines, one JSON object, and a Markdown summary where CI wants one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..constraint import TaggedVersion
from ..errors import Error
from ..project.adopt import Adoption
from ..project.lockfile import Entry, Lock
from ..project.locking import LockResult
from ..project.outdated import Outdated
from ..project.sync import Synced
from ..project.wanted import Project
from .markdown import cell, summarize, table, write_summary
from .report import Report, error_json


def adopted(report: Report, project: Project, adoption: Adoption) -> int:
    """A first wanted file."""
    for item, one in zip(project.items, adoption.found, strict=True):
        report.line(item.name, str(one.reference), one.version or "-", one.where)
    for note in adoption.notes:
        report.note(note)
    artifacts = [
        {"name": item.name, "reference": str(one.reference), "version": one.version, "where": one.where}
        for item, one in zip(project.items, adoption.found, strict=True)
    ]
    report.data(_json({"file": str(project.path), "artifacts": artifacts, "notes": adoption.notes}))
    report.note(f"`{project.path}` was written: {_many(len(artifacts))}; next: marfetch lock")
    return 0


def checked(report: Report, project: Project, lock: Lock) -> int:
    """The lock fits."""
    report.note(f"`{project.lock_path}` fits `{project.path}`: {_many(len(lock.entries))}")
    report.data({"lock": str(project.lock_path), "fits": True, "artifacts": [_entry(entry, "kept", None) for entry in lock.entries]})
    return 0


def locked(report: Report, project: Project, old: Lock | None, found: Sequence[LockResult], *, is_written: bool) -> int:
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
    if failed:  # then nothing is so
        rows = []
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


def aged(report: Report, project: Project, result: Sequence[Outdated]) -> int:
    """What is newer; 1 where there is something, the exit code of the first failure where there is one."""
    rows = [_age(one) for one in result if one.is_found]
    for row in rows:
        report.line(*(text or "-" for text in row))
    data = {"lock": str(project.lock_path), "artifacts": [_aged(one) for one in result]}
    errors = [(one.entry.name, one.error) for one in result if one.error is not None]
    title = f"marfetch outdated: news of {len(rows)} of {_many(len(result))}" if rows else "marfetch outdated: everything is up to date"
    markdown = f"### {title}\n"
    if rows:
        markdown += "\n" + table(("name", "locked", "newest in range", "newest", "remarks"), rows)
    write_summary(report, markdown + "".join(f"\n- {cell(error.message)}" for _, error in errors))
    if errors:
        return _failed(report, errors, data, several=len(result) > 1)
    report.data(_json(data))
    report.note(f"news of {len(rows)} of {_many(len(result))}" if rows else "everything is up to date")
    if any(one.in_range for one in result):
        report.note("next: marfetch lock --upgrade")
    return 1 if rows else 0


def _age(one: Outdated) -> tuple[str, ...]:
    remarks = []
    if one.ends is not None:
        remarks.append(f"support {'ended' if one.is_ended else 'ends'} on {one.ends.isoformat()}")
    if one.moved_to is not None:
        remarks.append(f"the tag was moved to {one.moved_to}")
    if one.is_gone:
        remarks.append("the tag is gone")
    entry = one.entry
    in_range, newest = (str(found.version) if found else "" for found in (one.in_range, one.newest))
    return entry.name, entry.version or entry.tag or str(entry.digest), in_range, newest, ", ".join(remarks)


def _aged(one: Outdated) -> dict[str, Any]:
    def version(found: TaggedVersion | None) -> dict[str, str] | None:
        return {"version": str(found.version), "tag": found.tag} if found else None

    return {
        "name": one.entry.name,
        "reference": str(one.entry.reference),
        "version": one.entry.version,
        "outdated": one.is_found,
        "inRange": version(one.in_range),
        "newest": version(one.newest),
        "endOfLife": one.ends.isoformat() if one.ends else None,
        "ended": one.is_ended,
        "drifted": one.moved_to is not None,
        "digest": str(one.moved_to or one.entry.digest),
        "gone": one.is_gone,
        "error": error_json(one.error) if one.error else None,
    }


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


def _many(count: int) -> str:
    return f"{count} artifact{'' if count == 1 else 's'}"


def _counted(words: Any) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items()) or "nothing is wanted"


def _json(data: Any) -> Any:
    return data
