"""Print the results of `lock`, `sync` and `outdated`, and append them to the job summary in CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..client.age import held_back_json
from ..constraint import TaggedVersion
from ..project.adopt import Adoption
from ..project.lockfile import Entry, Lock, entry_json
from ..project.locking import LockResult
from ..project.outdated import Outdated
from ..project.prune import LeftBehind
from ..project.sync import Synced
from ..project.wanted import Project
from ..text import counted
from .markdown import cell, summarize, table, write_summary
from .report import Report, error_json
from .table import Cell, Row, digest, reference, status, version


def print_adopted(report: Report, project: Project, adoption: Adoption) -> int:
    """Print the artifacts of a project file that was created from other files."""
    report.table(
        ("name", "reference", "version", "from"),
        [
            (item.name, reference(one.reference), one.version or "-", one.where)
            for item, one in zip(project.items, adoption.found, strict=True)
        ],
    )
    for note in adoption.notes:
        report.note(note)
    artifacts: Any = [
        {"name": item.name, "reference": str(one.reference), "version": one.version, "where": one.where, "problem": one.problem}
        for item, one in zip(project.items, adoption.found, strict=True)
    ]
    report.data({"file": str(project.path), "artifacts": artifacts, "notes": list(adoption.notes)})
    report.note(f"wrote `{project.path}` with {counted(len(artifacts), 'artifact')}; next: marfetch lock")
    return 0


def print_lock_check(report: Report, project: Project, lock: Lock) -> int:
    """Print that the lock file matches the project file."""
    report.note(f"`{project.lock_path}` matches `{project.path}`: {counted(len(lock.entries), 'artifact')}")
    report.data({"lock": str(project.lock_path), "fits": True, "artifacts": [_entry_json(entry, "kept", None) for entry in lock.entries]})
    return 0


def print_lock_result(report: Report, project: Project, old: Lock | None, found: Sequence[LockResult], *, is_written: bool) -> int:
    """Print the changes to a lock file; return the exit code of the first failure."""
    names = {one.item.name for one in found}
    removed = [entry for entry in (old.entries if old else ()) if entry.name not in names]
    failed = [(one.item, one.error) for one in found if one.error is not None]
    rows: list[tuple[str, str, str]] = []
    former: dict[str, str] = {}
    artifacts: list[Any] = []
    for one in found:
        if one.entry is not None:
            rows.append((one.change, one.item.name, str(one.entry.reference)))
            if one.previous is not None:
                former[one.item.name] = str(one.previous.reference)
            artifacts.append(_entry_json(one.entry, one.change, one.previous))
    rows += [("removed", entry.name, str(entry.reference)) for entry in removed]
    if failed:  # a failure leaves the lock file unchanged
        rows = []
    _show(report, rows, former)
    data: Any = {
        "lock": str(project.lock_path),
        "written": is_written,
        "artifacts": artifacts,
        "removed": [entry.name for entry in removed],
        "failed": [{**error_json(error), "name": item.name, "reference": str(item.reference)} for item, error in failed],
    }
    outcomes = _outcomes(row[0] for row in rows)
    summarize(report, f"marfetch lock: {outcomes}", [row for row in rows if row[0] != "kept"], [error for _, error in failed])
    if not failed:
        report.data(data)
        report.note(f"`{project.lock_path}` {'was written' if is_written else 'is up to date'}: {outcomes}")
        return 0
    report.note(f"`{project.lock_path}` was not changed")
    return report.failures([(item.name, error) for item, error in failed], data, several=len(found) > 1)


def print_synced(report: Report, project: Project, result: Sequence[Synced], pruned: Sequence[LeftBehind] | None = None) -> int:
    """Print the outcome of each artifact; return the exit code of the first failure.

    Args:
        pruned: what `--prune` removed or kept; None without that option.
    """
    _show(report, [(one.outcome, one.name, one.reference) for one in result])
    report.table(("outcome", "name", "path"), [(status(one.outcome), one.name, Cell(str(one.path))) for one in pruned or ()])
    for each in pruned or ():
        if each.reason is not None:
            report.warn(f"kept `{each.path}` of `{each.name}`, which is no longer in `{project.path}`: {each.reason}")
    data: Any = {
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
    if pruned is not None:
        data["pruned"] = [{"name": one.name, "path": str(one.path), "outcome": one.outcome, "reason": one.reason} for one in pruned]
    outcomes = _outcomes([*(one.outcome for one in result), *(one.outcome for one in pruned or ())])
    errors = [(one.name, one.error) for one in result if one.error is not None]
    rows = [(one.outcome, one.name, one.reference) for one in result if one.outcome != "unchanged"]
    summarize(report, f"marfetch sync: {outcomes}", rows, [error for _, error in errors])
    report.note(outcomes)
    if errors:
        return report.failures(errors, data, several=len(result) > 1)
    report.data(data)
    return 0


def print_outdated(report: Report, project: Project, result: Sequence[Outdated]) -> int:
    """Print outdated artifacts; return the exit code of the first error, otherwise 1 if any artifact is outdated."""
    rows = [_row(one) for one in result if one.is_found]
    shown: list[Row] = [[digest(text or "-") for text in row] for row in rows]
    report.table(("name", "locked", "newest in range", "newest", "remarks"), shown, wraps=True)
    data: Any = {"lock": str(project.lock_path), "artifacts": [_outdated_json(one) for one in result]}
    errors = [(one.entry.name, one.error) for one in result if one.error is not None]
    verb = "is" if len(rows) == 1 else "are"
    summary = f"{len(rows)} of {counted(len(result), 'artifact')} {verb} outdated" if rows else "everything is up to date"
    markdown = f"### marfetch outdated: {summary}\n"
    if rows:
        markdown += "\n" + table(("name", "locked", "newest in range", "newest", "remarks"), rows)
    write_summary(report, markdown + "".join(f"\n- {cell(error.message)}" for _, error in errors))
    if errors:
        return report.failures(errors, data, several=len(result) > 1)
    report.data(data)
    report.note(summary)
    for one in result:
        for held in one.held_back:
            report.note(f"`{held.version.version}` of `{one.entry.name}` is held back: {held.reason}")
    if any(one.in_range or one.is_drifted for one in result):
        report.note("next: marfetch lock --upgrade")
    return 1 if rows else 0


def _show(report: Report, rows: Sequence[tuple[str, str, str]], former: Mapping[str, str] | None = None) -> None:
    """Print outcome, name and reference of artifacts. A terminal shows only version and digest of the reference.

    Args:
        former: the references that were locked before, by name.
    """
    shown: list[Row] = []
    for outcome, name, text in rows:
        new, old = version(text), version((former or {}).get(name, text))
        changed = new if old == new else Cell(f"{old.short} → {new.short}")
        shown.append((status(outcome), name, changed, digest(text.partition("@")[2] or "-")))
    lines = [(status(outcome), name, text) for outcome, name, text in rows]
    report.table(("outcome", "name", "version", "digest"), shown, pipe=lines)


def _row(one: Outdated) -> tuple[str, ...]:
    remarks = []
    if one.ends is not None:
        # When a publisher moves a tag, the old digest gets a lifecycle mark too. So the version may be superseded and not unsupported.
        word = "superseded" if one.is_ended and one.moved_to is not None else f"support {'ended' if one.is_ended else 'ends'}"
        remarks.append(f"{word} on {one.ends.isoformat()}")
    if one.moved_to is not None:
        remarks.append(f"the tag was moved to {one.moved_to}")
    if one.is_gone:
        remarks.append("the tag is gone")
    for image in one.images:
        if image.moved_to is not None:
            remarks.append(f"the tag of the image {image.image.image} was moved to {image.moved_to}")
        if image.is_gone:
            remarks.append(f"the tag of the image {image.image.image} is gone")
    entry = one.entry
    in_range, newest = (str(found.version) if found else "" for found in (one.in_range, one.newest))
    return entry.name, entry.version or entry.tag or str(entry.digest), in_range, newest, ", ".join(remarks)


def _outdated_json(one: Outdated) -> dict[str, Any]:
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
        "drifted": one.is_drifted,
        "digest": str(one.moved_to or one.entry.digest),
        "gone": one.is_gone,
        "images": [
            {
                "image": each.image.image,
                "reference": str(each.image.reference),
                "drifted": each.moved_to is not None,
                "digest": str(each.moved_to or (each.image.manifest and each.image.manifest.digest)),
                "gone": each.is_gone,
            }
            for each in one.images
        ],
        "heldBack": [held_back_json(held) for held in one.held_back],
        "error": error_json(one.error) if one.error else None,
    }


def _entry_json(entry: Entry, change: str, previous: Entry | None) -> dict[str, Any]:
    return {
        "name": entry.name,
        "reference": str(entry.reference),
        "repository": entry.reference.full_repository,
        "tag": entry.tag,
        "version": entry.version,
        "digest": str(entry.digest),
        "outcome": change,
        "previous": str(previous.reference) if previous is not None and previous.reference != entry.reference else None,
        "images": entry_json(entry).get("images", []),
    }


def _outcomes(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items()) or "no artifacts"
