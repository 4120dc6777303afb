"""Print the results of `marfetch bundle`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.check import CheckResult
from ..bundle.create import Created
from ..bundle.format import Base, Opened
from ..bundle.inventory import BundleItem, Changed, bundle_items, pull_commands
from ..errors import Error, IntegrityError
from ..oci import descriptor_json
from ..text import counted, human_size
from .report import Report
from .table import Cell, Row, command, digest, reference, size, status

_CLIENTS = {"helm": "Helm", "flux": "Flux", "bicep": "Bicep", "powershell": "PowerShell"}

if TYPE_CHECKING:
    from ..bundle.load import Loaded, To
    from ..bundle.signatures import SignatureResult


def print_created(report: Report, result: Created) -> int:
    """Print the path, digest and size of a new bundle."""
    report.table(("path", "digest", "size"), [(str(result.path), digest(result.digest), size(result.size))])
    report.data(
        {
            "path": str(result.path),
            "digest": str(result.digest),
            "size": result.size,
            "artifacts": result.artifacts,
            "referrers": result.referrers,
            "blobs": result.blobs,
            "base": str(result.base) if result.base else None,
            "omitted": result.omitted,
            "omittedSize": result.omitted_size,
        }
    )
    omitted = f"; left out {counted(result.omitted, 'blob')} ({human_size(result.omitted_size)}) of the base bundle" if result.base else ""
    sizes = f"{counted(result.artifacts, 'artifact')}, {counted(result.referrers, 'referrer')}, {human_size(result.size)}"
    report.note(f"{sizes}{omitted}")
    return 0


def print_contents(report: Report, found: Opened, checked: CheckResult | None) -> int:
    """Print the readable artifacts of a bundle; return exit code 5 if its check found a problem.

    Args:
        checked: the result of the check, or None if the layout is not a bundle.
    """
    found.contents.load(strict=False)
    items = bundle_items(found.contents, found.lock, with_images=report.as_json)
    for warning in found.warnings:
        report.warn(warning)
    base = found.record.base if found.record is not None else None
    for item in items:
        for path, reason in item.unread.items():
            report.warn(f"cannot search `{path}` of `{item.name}` for images: {reason}")
    is_folder = found.path.is_dir()
    commands = [pull_commands(item, found.path, is_folder=is_folder) for item in items]
    for number, item in enumerate(items):
        if number:
            report.gap()
        _show_item(report, item, base, commands[number])
    data: Any = {
        "path": str(found.path),
        "isBundle": found.is_bundle,
        "base": {"digest": str(base.digest), "size": base.size} if base else None,
        "omitted": len(found.omitted),
        "artifacts": [_item_json(item, lines) for item, lines in zip(items, commands, strict=True)],
    }
    if checked is not None and checked.findings:
        for finding in checked.findings:
            report.warn(f"{finding.kind}: `{finding.name}`: {finding.reason}")
        error = _broken(found, checked)
        report.failed(error, data | _findings_json(checked))
        return error.exit_code
    report.data(data)
    return 0


def _show_item(report: Report, item: BundleItem, base: Base | None, commands: Mapping[str, list[str]]) -> None:
    """Print an artifact as a line, or as a block on a terminal, and its referrers and commands below it."""
    head = ("NAME", "VERSION", "KIND", "SIZE", "REFERENCE")
    row: Row = (item.name, item.version or "-", item.kind, size(item.size), reference(item.reference))
    more: list[Row] = [("platforms", ", ".join(item.platforms))] if item.is_carried_image and item.platforms else []
    more += [(f"{'> ' * one.depth}{one.title}", digest(one.digest)) for one in item.referrers]
    more += [(tool, command(line)) for tool, lines in commands.items() for line in lines]
    if item.omitted:
        where = f"in the bundle {base.digest}" if base else "not in this bundle"
        more.append(("left out", digest(f"{counted(item.omitted, 'byte')}, {where}")))
    report.facts([*zip(head, row, strict=True), *more], pipe=[row, *(("", *one) for one in more)])


def _item_json(item: BundleItem, commands: Mapping[str, list[str]]) -> Any:
    return {
        "name": item.name,
        "reference": str(item.reference),
        "version": item.version,
        "digest": str(item.descriptor.digest),
        "mediaType": item.descriptor.media_type,
        "kind": item.kind,
        "size": item.size,
        "omitted": item.omitted,
        "created": item.created,
        "endOfLife": str(item.ends) if item.ends else None,
        "verified": item.verdict,
        "licenses": list(item.licenses),
        "layers": [descriptor_json(layer) for layer in item.layers],
        "referrers": [
            {
                "artifactType": one.artifact_type,
                "kind": one.title,
                "digest": str(one.digest),
                "size": one.size,
                "signer": one.signer,
                "depth": one.depth,
            }
            for one in item.referrers
        ],
        "platforms": list(item.platforms),
        "omittedPlatforms": list(item.omitted_platforms),
        "images": list(item.images),
        "unread": [{"path": path, "reason": reason} for path, reason in item.unread.items()],
        "lines": commands,
    }


def print_check(report: Report, found: Opened, checked: CheckResult, signatures: Sequence[SignatureResult] | None) -> int:
    """Print the findings of a check; return exit code 5 for broken content, and 6 if only signatures fail.

    Args:
        signatures: None if they were not checked.
    """
    report.table(("problem", "name", "reason"), [(status(one.kind), digest(one.name), one.reason) for one in checked.findings], wraps=True)
    base = found.record.base if found.record is not None else None
    data: Any = {
        "path": str(found.path),
        "artifacts": checked.artifacts,
        "blobs": checked.blobs,
        "size": checked.size,
        "base": str(base.digest) if base else None,
        "omitted": len(found.omitted),
        "signaturesChecked": sum(one.outcome in ("verified", "failed") for one in signatures) if signatures is not None else None,
        "signatures": [_signature_json(one) for one in signatures or ()],
        **_findings_json(checked),
    }
    if checked.findings:
        error = _broken(found, checked)
        report.failed(error, data)
        return error.exit_code
    sizes = f"{counted(checked.artifacts, 'artifact')}, {counted(checked.blobs, 'blob')}, {human_size(checked.size)}"
    intact = f"the content of `{found.path}` is intact: {sizes}"
    errors = [each.error for each in signatures or () if each.error is not None]
    for each in signatures or ():
        for warning in each.warnings:
            report.warn(warning)
    failed = [(status(each.outcome), reference(each.reference), each.error) for each in signatures or () if each.error is not None]
    report.table(
        ("verdict", "reference", "code", "reason"),
        [(*cells, error.code, error.message) for *cells, error in failed],
        wraps=True,
    )
    if errors:
        report.note(intact)
        refusal = combined_error(errors)
        report.failed(refusal, data)
        return refusal.exit_code
    report.data(data)
    report.note(intact)
    if base is not None:
        report.note(f"this is a delta, without {counted(len(found.omitted), 'blob')} of its base bundle `{base.digest}`")
    if not found.is_bundle:
        report.note("signatures were not checked: this folder has no lock file, so its origin is unknown")
    elif found.recording is None:
        _note_signatures(report, signatures)
    return 0


def _broken(found: Opened, checked: CheckResult) -> Error:
    count = Counter(one.kind for one in checked.findings)
    first = checked.findings[0]
    return IntegrityError(
        f"the bundle `{found.path}` is broken: {', '.join(f'{number} {sort}' for sort, number in sorted(count.items()))};"
        f" the first problem is `{first.name}`: {first.reason}",
        code="bundle-broken",
        path=str(found.path),
    )


def _findings_json(checked: CheckResult) -> dict[str, Any]:
    return {
        sort: [{"name": one.name, "reason": one.reason} for one in checked.findings if one.kind == sort]
        for sort in ("missing", "extra", "wrong")
    }


def combined_error(errors: Sequence[Error]) -> Error:
    """Return the first error, and add the number of further errors to its message."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return type(first)(f"{first.message}{more}", code=first.code, hint=first.hint, **first.context)


def _note_signatures(report: Report, signatures: Sequence[SignatureResult] | None) -> None:
    if signatures is None:
        report.note(
            "signatures were not checked because there is no trust policy, so the origin of the bundle is unknown"
            " (create a policy with `marfetch trust add-microsoft`, or use `--trust-policy FILE`)"
        )
        return
    signers = Counter(one.subject for one in signatures if one.outcome == "verified" and one.subject)
    for subject, number in sorted(signers.items()):
        report.note(f"{counted(number, 'artifact')} signed by `{subject}`")
    for outcome, what in (("unsigned", "without a signature in the bundle"), ("skipped", "skipped by the trust policy")):
        number = sum(one.outcome == outcome for one in signatures)
        if number:
            report.note(f"{counted(number, 'artifact')} {what}")
    for one in signatures:
        if one.outcome == "unchecked":
            report.warn(f"the signatures of `{one.reference}` were not checked: {one.reason}")


def _signature_json(one: SignatureResult) -> Any:
    return {
        "reference": str(one.reference),
        "verdict": one.outcome,
        "subject": one.subject,
        "code": one.error.code if one.error is not None else None,
        "message": one.error.message if one.error is not None else one.reason,
    }


def print_differences(report: Report, a: Path, b: Path, found: Sequence[Changed]) -> int:
    """Print the differences between the artifacts of two bundles; return exit code 1 if there are any."""
    rows: list[Row] = []
    lines: list[Row] = []
    for one in found:
        sides = [reference(item.reference) if item is not None else Cell("-") for item in (one.old, one.new)]
        if one.referrers:
            sides = [digest(" ".join(each for each in one.referrers if each.startswith(sign)) or "-") for sign in "-+"]
        rows.append((status(one.change), one.name, *sides))
        lines.append((status(one.change), one.name, *(one.referrers or sides)))
    report.table(("change", "name", "old", "new"), rows, wraps=True, pipe=lines)
    report.data(
        {
            "old": str(a),
            "new": str(b),
            "differs": bool(found),
            "artifacts": [
                {
                    "name": one.name,
                    "change": one.change,
                    "old": _side_json(one.old),
                    "new": _side_json(one.new),
                    "referrers": list(one.referrers),
                }
                for one in found
            ],
        }
    )
    return 1 if found else 0


def print_loaded(report: Report, path: Path, to: To, found: Sequence[Loaded], following: Mapping[str, list[str]]) -> int:
    """Print the result of a load or a mirror; return the exit code of the first failure.

    Args:
        path: the bundle or the project file.
        following: tool → lines for clients of the registry.
    """
    failed = [(one.reference, one.error) for one in found if one.error is not None]
    for one in found:
        if one.warning is not None:
            report.warn(one.warning)
    report.table(("outcome", "reference"), [(status(one.outcome), reference(one.reference)) for one in found if one.error is None])
    data: Any = {
        "path": str(path),
        "to": to.text,
        "artifacts": [
            {"reference": one.reference, "outcome": one.outcome, "blobs": one.blobs, "size": one.size, "warning": one.warning}
            for one in found
            if one.error is None
        ],
        "failed": [{"reference": name, "code": error.code, "message": error.message, "hint": error.hint} for name, error in failed],
        "blobs": sum(one.blobs for one in found),
        "size": sum(one.size for one in found),
        "next": following,
    }
    count = Counter(one.outcome for one in found)
    if not failed:
        report.data(data)
    for number, (name, error) in enumerate(failed):
        if number == 0:
            report.failed(error, data, about=name)
        else:
            report.error(error, about=name)
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(count.items())) or "nothing to do"
    is_rehearsal = any(outcome.startswith("would-") for outcome in count)
    report.note(f"`{to.text}`: {outcomes}; {human_size(data['size'])} {'to upload' if is_rehearsal else 'uploaded'}")
    for tool, lines in () if report.as_json else following.items():
        report.note(f"{_CLIENTS[tool]}:")
        for line in lines:
            report.note(f"  {line}")
    return failed[0][1].exit_code if failed else 0


def _side_json(item: BundleItem | None) -> Any:
    if item is None:
        return None
    return {"reference": str(item.reference), "version": item.version, "digest": str(item.descriptor.digest)}
