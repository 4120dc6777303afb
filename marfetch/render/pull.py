"""Print the results of `pull`, `resolve` and `versions`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from ..artifact.kinds import BICEP_MODULE, CHART, POWERSHELL
from ..client.pull import File, Pulled
from ..client.resolve import Resolved
from ..text import counted, human_size
from .report import Report, error_json
from .table import Cell, Row, digest, since
from .table import reference as reference_cell

if TYPE_CHECKING:
    from ..client.versions import History, VersionEntry


def print_pulled(report: Report, result: Pulled) -> int:
    """Print the saved files; return the exit code of the first failure."""
    files = [(str(file.path), digest(file.layer.digest), reference_cell(file.reference)) for file in result.files]
    report.table(("path", "digest", "reference"), files)
    data: Any = {
        "files": [
            {
                "path": str(file.path),
                "digest": str(file.layer.digest),
                "size": file.layer.size,
                "mediaType": file.layer.media_type,
                "reference": str(file.reference),
                "status": file.status,
                "kind": file.kind.name,
            }
            for file in result.files
        ],
        "failed": [{**error_json(failed.error), "reference": failed.reference} for failed in result.failed],
    }
    if not result.failed:
        report.data(data)
        _note_next(report, result)
        return 0
    errors = [(failed.reference, failed.error) for failed in result.failed]
    return report.failures(errors, data, several=len(result.failed) + len(result.files) > 1)


def print_resolved(report: Report, result: Resolved, *, snippet: str | None = None) -> int:
    """Print the pinned reference, or the snippet that has it."""
    reference = result.reference
    report.text(str(reference) if snippet is None else snippet)
    data: Any = {
        "reference": str(reference),
        "repository": reference.full_repository,
        "tag": reference.tag,
        "version": str(result.version.version) if result.version else None,
        "digest": str(reference.digest),
        "mediaType": result.manifest.descriptor.media_type,
    }
    if snippet is not None:
        data["snippet"] = snippet
    if result.held_back:
        from ..client.age import held_back_json  # late: needed only for cool-downs

        data["heldBack"] = [held_back_json(one) for one in result.held_back]
    report.data(data)
    _note_newer(report, result)
    return 0


def print_versions(report: Report, result: History, *, show_all: bool, details: bool) -> int:
    from ..client.versions import Details  # late: only `versions` needs it

    head = ["version", "tag", *(("digest", "size", "created", "app", "end of life") if details else ())]
    rows: list[Row] = []
    for entry in result.entries:
        columns: list[str | Cell] = [str(entry.tagged.version), entry.tagged.tag]
        if details:
            known = entry.details or Details()
            ends = known.end_of_life.isoformat() if known.end_of_life else "-"
            size = human_size(known.size) if known.size is not None else "-"
            columns += [digest(known.digest or "-"), size, since(known.created), known.app_version or "-", ends]
            if known.error is not None:
                report.warn(f"`{entry.tagged.tag}`: {known.error.message}")
        rows.append(columns)
    rows += [("-", tag) for tag in (result.other if show_all else ())]
    report.table(head, rows)
    versions: Any = [_version_json(one) for one in result.entries]
    report.data({"repository": result.reference.full_repository, "versions": versions, "other": list(result.other)})
    if not result.entries and not report.as_json:
        report.note(f"`{result.reference.full_repository}` has {counted(len(result.other), 'tag')}, but no version; `--all` lists the tags")
    return 0


def _version_json(entry: VersionEntry) -> dict[str, Any]:
    document: dict[str, Any] = {
        "version": str(entry.tagged.version),
        "tag": entry.tagged.tag,
        "prerelease": entry.tagged.is_prerelease,
        "aliases": list(entry.aliases),
    }
    known = entry.details
    if known is not None:
        document |= {
            "digest": known.digest,
            "mediaType": known.media_type,
            "size": known.size,
            "created": known.created,
            "appVersion": known.app_version,
            "endOfLife": known.end_of_life.isoformat() if known.end_of_life else None,
            "error": error_json(known.error) if known.error else None,
        }
    return document


def _note_newer(report: Report, result: Resolved) -> None:
    if result.newer is not None and result.version is not None and report.on_terminal:
        report.note(f"`{result.newer.version}` is newer than `{result.version.version}`, but not in the range")


def _note_next(report: Report, result: Pulled) -> None:
    """Print newer versions and the command that usually follows, on a terminal only."""
    if not report.on_terminal or report.quiet:
        return
    for one in result.resolved:
        _note_newer(report, one)
    command = next_command(result.files[0]) if len(result.files) == 1 else None
    if command:
        report.note(f"next: {command}")


def next_command(file: File) -> str | None:
    """Return the command that usually follows for a file of this kind."""
    path = shlex.quote(file.path.as_posix() if file.path.is_absolute() or file.path.parts[:1] == ("..",) else f"./{file.path.as_posix()}")
    if file.kind is CHART and (file.is_directory or file.path.suffix == ".tgz"):
        return f"helm install {release_name(file.reference.name)} {path}"
    if file.kind is BICEP_MODULE and file.path.suffix == ".json":
        return f"az deployment group create --resource-group GROUP --template-file {path}"
    if file.kind is POWERSHELL:
        directory = shlex.quote(file.path.parent.as_posix())
        register = f"Register-PSResourceRepository -Name local -Uri {directory} -Trusted"
        return f"{register}; Install-PSResource -Repository local {file.reference.name}"
    return None


def release_name(name: str) -> str:
    """Return the chart's name without a suffix such as `-controller`, as a Helm release name."""
    for ending in ("-controller", "-operator", "-chart", "-agents", "-provider"):
        if name.endswith(ending) and len(name) > len(ending):
            return name.removesuffix(ending)
    return name
