"""What `marfetch bundle` says: lines, or one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.check import CheckResult
from ..bundle.create import Created
from ..bundle.format import Opened
from ..bundle.inventory import BundleItem, Changed, bundle_items, pull_commands
from ..errors import Error, IntegrityError
from ..oci import descriptor_json
from ..text import human_size
from .report import Report

if TYPE_CHECKING:
    from ..bundle.load import Loaded, To
    from ..bundle.signatures import SignatureResult


def created(report: Report, result: Created) -> int:
    """A bundle was written."""
    report.line(str(result.path), str(result.digest), str(result.size))
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
    left_out = f"; {result.omitted} blobs ({human_size(result.omitted_size)}) are left out" if result.base else ""
    report.note(f"{result.artifacts} artifacts, {result.referrers} referrers, {human_size(result.size)}{left_out}")
    return 0


def inspected(report: Report, found: Opened, checked: CheckResult | None) -> int:
    """What is in a bundle; the exit code is 5 where something of it is not right, and what can be read is told all the same.

    Args:
        checked: what a check of it found; None: it is no bundle.
    """
    found.contents.load(strict=False)
    items = bundle_items(found.contents, found.lock, with_images=report.as_json)
    for warning in found.warnings:
        report.warn(warning)
    base = found.record.base if found.record is not None else None
    for item in items:
        report.line(item.name, item.version or "-", item.kind, str(item.size), str(item.reference))
        for one in item.referrers:
            report.line("", f"{'of that: ' * one.depth}{one.title}", str(one.digest))
        for tool, lines in pull_commands(item, found.path).items():
            for line in lines:
                report.line("", tool, line)
        if item.omitted:
            report.line("", "left out", f"{item.omitted} bytes of it are {f'in the bundle {base.digest}' if base else 'not here'}")
    data: Any = {
        "path": str(found.path),
        "isBundle": found.is_bundle,
        "base": {"digest": str(base.digest), "size": base.size} if base else None,
        "omitted": len(found.omitted),
        "artifacts": [_item(item, found.path) for item in items],
    }
    if checked is not None and checked.findings:
        for finding in checked.findings:
            report.warn(f"{finding.kind}: `{finding.name}`: {finding.reason}")
        error = _broken(found, checked)
        report.failed(error, data | _findings_json(checked))
        return error.exit_code
    report.data(data)
    return 0


def _item(item: BundleItem, path: Path) -> Any:
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
        "images": list(item.images),
        "lines": pull_commands(item, path),
    }


def verified(report: Report, found: Opened, checked: CheckResult, judged: Sequence[SignatureResult] | None) -> int:
    """What a check found; the exit code is 5 where something is not right, and 6 where only a signature does not hold.

    Args:
        judged: what became of the signatures; None: they were not looked at.
    """
    for one in checked.findings:
        report.line(one.kind, one.name, one.reason)
    base = found.record.base if found.record is not None else None
    data: Any = {
        "path": str(found.path),
        "artifacts": checked.artifacts,
        "blobs": checked.blobs,
        "size": checked.size,
        "base": str(base.digest) if base else None,
        "omitted": len(found.omitted),
        "signaturesChecked": sum(one.outcome in ("verified", "failed") for one in judged) if judged is not None else None,
        "signatures": [_judged_json(one) for one in judged or ()],
        **_findings_json(checked),
    }
    if checked.findings:
        error = _broken(found, checked)
        report.failed(error, data)
        return error.exit_code
    whole = f"`{found.path}` is whole: {checked.artifacts} artifacts, {checked.blobs} blobs, {human_size(checked.size)}"
    failed = [each.error for each in judged or () if each.error is not None]
    for each in judged or ():
        for warning in each.warnings:
            report.warn(warning)
        if each.error is not None:
            report.line(each.outcome, str(each.reference), each.error.code, each.error.message)
    if failed:
        report.note(whole)
        refusal = refusal_of(failed)
        report.failed(refusal, data)
        return refusal.exit_code
    report.data(data)
    report.note(whole)
    if base is not None:
        report.note(f"it goes on from `{base.digest}`, and leaves out {len(found.omitted)} blobs that are there")
    _note_signatures(report, judged)
    return 0


def _broken(found: Opened, checked: CheckResult) -> Error:
    count = Counter(one.kind for one in checked.findings)
    first = checked.findings[0]
    return IntegrityError(
        f"the bundle `{found.path}` is broken: {', '.join(f'{number} {sort}' for sort, number in sorted(count.items()))};"
        f" `{first.name}`: {first.reason}",
        code="bundle-broken",
        path=str(found.path),
    )


def _findings_json(checked: CheckResult) -> dict[str, Any]:
    return {
        sort: [{"name": one.name, "reason": one.reason} for one in checked.findings if one.kind == sort]
        for sort in ("missing", "extra", "wrong")
    }


def refusal_of(failed: Sequence[Error]) -> Error:
    """The first of several failures, which says how many there are."""
    first = failed[0]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return type(first)(f"{first.message}{more}", code=first.code, hint=first.hint, **first.context)


def _note_signatures(report: Report, judged: Sequence[SignatureResult] | None) -> None:
    if judged is None:
        report.note(
            "signatures were not checked, since there is no trust policy: what is whole is what its sender made, whoever that is"
            " (`marfetch trust add-microsoft` makes one, `--trust-policy FILE` names another)"
        )
        return
    signers = Counter(one.subject for one in judged if one.outcome == "verified" and one.subject)
    for subject, number in sorted(signers.items()):
        report.note(f"{number} signed by `{subject}`")
    for outcome, what in (("unsigned", "without a signature in the bundle"), ("skipped", "that the trust policy skips")):
        number = sum(one.outcome == outcome for one in judged)
        if number:
            report.note(f"{number} {what}")
    for one in judged:
        if one.outcome == "unchecked":
            report.warn(f"the signatures of `{one.reference}` were not checked: {one.reason}")


def _judged_json(one: SignatureResult) -> Any:
    return {
        "reference": str(one.reference),
        "verdict": one.outcome,
        "subject": one.subject,
        "code": one.error.code if one.error is not None else None,
        "message": one.error.message if one.error is not None else one.reason,
    }


def compared(report: Report, a: Path, b: Path, found: Sequence[Changed]) -> int:
    """In which artifacts two bundles differ; the exit code is 1 where they do."""
    for one in found:
        sides = [str(item.reference) if item is not None else "-" for item in (one.old, one.new)]
        report.line(one.change, one.name, *(one.referrers or sides))
    report.data(
        {
            "old": str(a),
            "new": str(b),
            "differs": bool(found),
            "artifacts": [
                {
                    "name": one.name,
                    "change": one.change,
                    "old": _side(one.old),
                    "new": _side(one.new),
                    "referrers": list(one.referrers),
                }
                for one in found
            ],
        }
    )
    return 1 if found else 0


def loaded(report: Report, path: Path, to: To, found: Sequence[Loaded]) -> int:
    """What became of a load; the exit code is that of the first failure."""
    for one in found:
        if one.error is None:
            report.line(one.outcome, one.reference)
    data: Any = {
        "path": str(path),
        "to": to.text,
        "artifacts": [
            {"reference": one.reference, "outcome": one.outcome, "blobs": one.blobs, "size": one.size} for one in found if one.error is None
        ],
        "failed": [
            {"reference": one.reference, "code": one.error.code, "message": one.error.message, "hint": one.error.hint}
            for one in found
            if one.error is not None
        ],
        "blobs": sum(one.blobs for one in found),
        "size": sum(one.size for one in found),
    }
    count = Counter(one.outcome for one in found)
    failed = [(one.reference, one.error) for one in found if one.error is not None]
    if not failed:
        report.data(data)
    for number, (reference, error) in enumerate(failed):
        if number == 0:
            report.failed(error, data, about=reference)
        else:
            report.error(error, about=reference)
    sent = human_size(sum(one.size for one in found))
    report.note(f"`{to.text}`: {', '.join(f'{number} {outcome}' for outcome, number in sorted(count.items())) or 'nothing'}; {sent} sent")
    return failed[0][1].exit_code if failed else 0


def _side(item: BundleItem | None) -> Any:
    if item is None:
        return None
    return {"reference": str(item.reference), "version": item.version, "digest": str(item.descriptor.digest)}
