"""From texts to what is wanted, and from results to what is shown."""

from __future__ import annotations

import shlex
from typing import Any

from ..artifact.kinds import BICEP_MODULE, CHART, POWERSHELL
from ..client.pull import File, Pulled
from ..client.resolve import Resolved, Wanted
from ..client.versions import Details, History, VersionEntry
from ..errors import InputError
from ..reference import Pasted
from ..text import human_size
from .report import Report, error_json


def wanted(report: Report, text: str, version: str | None, *, devel: bool) -> Wanted:
    """What a REF and the options beside it ask for.

    Raises:
        InputError: it cannot be read, or the line that it is names another version than `--version`.
    """
    pasted = Pasted.parse(text)
    if pasted.version is not None and version is not None and pasted.version != version:
        raise InputError(
            f"the pasted line asks for `{pasted.version}`, `--version` for `{version}`",
            code="usage",
            hint="leave one of the two out",
            text=text[:300],
        )
    if pasted.taken_from is not None:
        taken = f"`{pasted.reference}`" + (f" in the range `{pasted.version}`" if pasted.version else "")
        report.note(f"of the line `{pasted.taken_from[:200]}` this is taken: {taken}")
    asked = pasted.version if version is None else version
    return Wanted(pasted.reference, asked, devel or pasted.devel)


def pulled(report: Report, result: Pulled) -> int:
    """Show what became of a pull; the exit code is that of the first failure."""
    for file in result.files:
        report.line(str(file.path), str(file.layer.digest), str(file.reference))
    data = {
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
        report.data(_json(data))
        _show_next(report, result)
        return 0
    for failed in result.failed[1:]:
        report.error(failed.error, about=failed.reference)
    first = result.failed[0].error
    several = len(result.failed) + len(result.files) > 1
    report.failed(first, _json(data), about=result.failed[0].reference if several else None)
    return first.exit_code


def resolved(report: Report, result: Resolved) -> int:
    """Show what a reference is."""
    reference = result.reference
    report.line(str(reference))
    report.data(
        _json(
            {
                "reference": str(reference),
                "repository": reference.full_repository,
                "tag": reference.tag,
                "version": str(result.version.version) if result.version else None,
                "digest": str(reference.digest),
                "mediaType": result.manifest.descriptor.media_type,
            }
        )
    )
    _show_newer(report, result)
    return 0


def listed(report: Report, result: History, *, show_all: bool, details: bool) -> int:
    """Show the versions of a repository."""
    for entry in result.entries:
        columns = [str(entry.tagged.version), entry.tagged.tag]
        known = entry.details
        if details:
            known = known or Details()
            ends = known.end_of_life.isoformat() if known.end_of_life else ""
            size = human_size(known.size) if known.size is not None else ""
            columns += [text or "-" for text in (known.digest, size, known.created, known.app_version, ends)]
            if known.error is not None:
                report.warn(f"`{entry.tagged.tag}`: {known.error.message}")
        report.line(*columns)
    for tag in result.other if show_all else ():
        report.line("-", tag)
    report.data(
        _json(
            {
                "repository": result.reference.full_repository,
                "versions": [_entry(one) for one in result.entries],
                "other": list(result.other),
            }
        )
    )
    if not result.entries and not report.as_json:
        report.note(f"`{result.reference.full_repository}` has {len(result.other)} tags, none of them a version; `--all` lists them")
    return 0


def _entry(entry: VersionEntry) -> dict[str, Any]:
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


def _json(data: dict[str, Any]) -> Any:
    return data


def _show_newer(report: Report, result: Resolved) -> None:
    if result.newer is not None and result.version is not None and report.on_terminal:
        report.note(f"`{result.newer.version}` is newer than `{result.version.version}`, but not in the range")


def _show_next(report: Report, result: Pulled) -> None:
    """For a person: what is newer, and as the last line the command that comes next."""
    if not report.on_terminal or report.quiet:
        return
    for one in result.resolved:
        _show_newer(report, one)
    command = next_command(result.files[0]) if len(result.files) == 1 else None
    if command:
        report.note(f"next: {command}")


def next_command(file: File) -> str | None:
    """What is usually done with a file of this kind."""
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
    """A short name for a release: the chart's, without the word that only says what sort of thing it is."""
    for ending in ("-controller", "-operator", "-chart", "-agents", "-provider"):
        if name.endswith(ending) and len(name) > len(ending):
            return name.removesuffix(ending)
    return name
