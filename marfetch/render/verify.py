"""Print the result of `verify`: signer, time, root certificate and checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from ..client.resolve import Resolved
from ..document import Json
from ..errors import SignatureError
from ..project.audit import Audited
from ..verify.policy import Check
from ..verify.verdict import OK, CheckOutcome, LifecycleMark, Signature, Verdict
from .report import Report
from .table import BAD, Cell, Row, digest, reference, status, version

_WORDS: Final = {
    Check.INTEGRITY: "integrity",
    Check.AUTHENTICITY: "signer",
    Check.EXPIRY: "expiry",
    Check.AUTHENTIC_TIMESTAMP: "time",
    Check.REVOCATION: "revocation",
}


def print_verdict(report: Report, resolved: Resolved, verdict: Verdict) -> int:
    """Print a verdict; return 0, or the exit code of its error."""
    for warning in verdict.warnings:
        report.warn(warning)
    for one in verdict.others:
        report.warn(f"a signature in the unsupported format `{one}` was not checked")
    if verdict.mark is not None and verdict.has_ended:
        report.warn(verdict.mark.text(str(resolved.reference)))
    data = verdict_json(resolved, verdict)
    if verdict.error is not None:
        for signature in verdict.signatures:
            if signature.refusal is not None and len(verdict.signatures) > 1:
                report.note(f"signature {signature.digest}: {signature.code}: {signature.refusal.message}")
        report.failed(verdict.error, data)
        return verdict.error.exit_code
    _show(report, resolved, verdict)
    report.data(data)
    return 0


def print_audit(report: Report, lock: str, result: Sequence[Audited]) -> int:
    """Print one line per locked artifact; return 6 if a signature failed, otherwise the exit code of the first error."""
    rows: list[Row] = []
    for one in result:
        for warning in one.verdict.warnings if one.verdict is not None else ():
            report.warn(f"{one.name}: {warning}")
        if one.verdict is not None and one.verdict.mark is not None and one.verdict.has_ended:
            report.warn(f"{one.name}: {one.verdict.mark.text(str(one.reference))}")
        said = one.error.code if one.error is not None else signer_line(one.verdict) if one.verdict is not None else ""
        rows.append((status(_outcome(one)), one.name, version(str(one.reference)), said))
    report.table(("verdict", "name", "version", "signer or error"), rows, wraps=True)
    data: Any = {"lock": lock, "artifacts": [_audited_json(one) for one in result]}
    errors = [(one.name, one.error) for one in result if one.error is not None]
    report.note(", ".join(f"{count} {word}" for word, count in Counter(map(_outcome, result)).items()) or "no artifacts")
    if errors:
        errors.sort(key=lambda one: not isinstance(one[1], SignatureError))
        return report.failures(errors, data, several=len(result) > 1)
    report.data(data)
    return 0


def _outcome(one: Audited) -> str:
    return "failed" if one.error is not None or one.verdict is None else one.verdict.outcome


def _audited_json(one: Audited) -> dict[str, Json]:
    outcome, mark = _outcome(one), one.verdict.mark if one.verdict is not None else None
    return {
        "name": one.name,
        "reference": str(one.reference),
        "verdict": outcome,
        "code": one.error.code if one.error is not None else OK if outcome == "verified" else None,
        "message": one.error.message if one.error is not None else None,
        "signer": one.verdict.good.signed.subject if one.verdict is not None and one.verdict.good is not None else None,
        "endOfLife": mark.date.isoformat() if mark else None,
        "superseded": mark.is_superseded if mark else None,
        "lifecycle": _mark_json(mark),
    }


def _mark_json(mark: LifecycleMark | None) -> dict[str, Json] | None:
    if mark is None:
        return None
    return {"date": mark.date.isoformat(), "signer": mark.signer, "note": mark.unsigned if mark.signer is None else None}


def signer_line(verdict: Verdict) -> str:
    """Return one line with the signer and the checks that did not pass."""
    good = verdict.good
    if good is None:
        return "not verified: skipped by the trust policy"
    missing = [_WORDS[one.check] for one in good.checks if one.outcome != "passed"]
    return f"signed by `{good.signed.subject}`" + (f" (checks not passed: {', '.join(missing)})" if missing else "")


def _show(report: Report, resolved: Resolved, verdict: Verdict) -> None:
    rows: list[Row] = [(status(verdict.outcome), reference(resolved.reference))]
    good = verdict.good
    if verdict.outcome == "skipped" and verdict.statement is not None:
        rows.append(("nothing was verified", f"skipped by the statement `{verdict.statement.name}` of the trust policy"))
    if good is not None:
        rows += [*_signature_rows(good), *map(_check_row, good.checks)]
    found = verdict.provenance
    if found is not None:
        rows.append(("provenance", f"{', '.join(found.users)} ({found.fingerprint}) signed {found.file}"))
    mark = verdict.mark
    if mark is not None:
        rows.append(("end of life", str(mark.date), mark.signed_by, *(["superseded"] if mark.is_superseded else [])))
    if verdict.platform is not None:
        of_platform = verdict.platform.verdict
        signer = of_platform.good.signed.subject if of_platform.good is not None else None
        rows.append(
            (
                f"platform {verdict.platform.name}",
                status(of_platform.outcome),
                digest(verdict.platform.manifest.digest),
                signer or "",
            )
        )
    report.facts(rows)


def _signature_rows(good: Signature) -> list[Row]:
    signed = good.signed
    rows: list[Row] = [("signed by", signed.subject or "")]
    if signed.timestamp is not None:
        rows.append(("at", f"{_time_text(signed.timestamp.time)} (timestamp by {signed.timestamp.authority})"))
    elif signed.signing_time is not None:
        rows.append(("at", f"{_time_text(signed.signing_time)} (claimed by the signer, without a timestamp)"))
    rows.append(("root", signed.root or "", digest(f"sha256:{signed.thumbprints[-1]}" if signed.thumbprints else "")))
    rows.append(("signature", digest(good.digest), signed.algorithm or "", good.media_type or ""))
    return [*rows, *(("annotation", digest(f"{key}={value}")) for key, value in signed.annotations)]


def _check_row(one: CheckOutcome) -> Row:
    outcome = {"passed": status("ok"), "failed": Cell("FAILED, but not enforced", style=BAD)}.get(one.outcome, status(one.outcome))
    reason = one.refusal.message if one.refusal is not None else "; ".join(one.notes)
    return (f"check {_WORDS[one.check]}", outcome, *([digest(reason)] if reason else []))


def verdict_json(resolved: Resolved, verdict: Verdict) -> dict[str, Json]:
    """Return the JSON of `marfetch verify` (`docs/reference/json.md`)."""
    statement, found, mark, platform = verdict.statement, verdict.provenance, verdict.mark, verdict.platform
    data: dict[str, Any] = {
        "reference": str(resolved.reference),
        "digest": str(resolved.manifest.descriptor.digest),
        "mediaType": resolved.manifest.descriptor.media_type,
        "verdict": verdict.outcome,
        "policy": {"statement": statement.name, "level": statement.level} if statement else None,
        "signatures": [_signature_json(one) for one in verdict.signatures],
        "provenance": {"fingerprint": found.fingerprint, "users": list(found.users), "file": found.file, "digest": str(found.digest)}
        if found
        else None,
        "endOfLife": mark.date.isoformat() if mark else None,
        "ended": verdict.has_ended,
        "superseded": mark.is_superseded if mark else None,
        "lifecycle": _mark_json(mark),
        "platform": {
            "platform": platform.name,
            "digest": str(platform.manifest.digest),
            "mediaType": platform.manifest.media_type,
            "verdict": platform.verdict.outcome,
            "signatures": [_signature_json(one) for one in platform.verdict.signatures],
        }
        if platform
        else None,
        "notChecked": list(verdict.others),
        "warnings": list(verdict.warnings),
    }
    return data


def _signature_json(one: Signature) -> dict[str, Any]:
    signed, refusal = one.signed, one.refusal
    stamp = signed.timestamp
    return {
        "digest": str(one.digest),
        "code": one.code,
        "message": refusal.message if refusal and one.code != OK else None,
        "checks": {str(check.check): _check_json(check) for check in one.checks},
        "envelope": str(one.envelope) if one.envelope else None,
        "mediaType": one.media_type,
        "subject": signed.subject,
        "root": signed.root,
        "trustAnchor": signed.anchor,
        "algorithm": signed.algorithm,
        "signingScheme": signed.scheme,
        "signingTime": _time_text(signed.signing_time),
        "expiry": _time_text(signed.expiry),
        "signingAgent": signed.agent,
        "certificates": list(signed.thumbprints),
        "annotations": dict(signed.annotations),
        "timestamp": {"time": _time_text(stamp.time), "accuracy": stamp.accuracy, "authority": stamp.authority, "root": stamp.root}
        if stamp
        else None,
    }


def _check_json(one: CheckOutcome) -> dict[str, Any]:
    return {
        "action": str(one.action),
        "outcome": one.outcome,
        "code": one.refusal.code if one.refusal else None,
        "message": one.refusal.message if one.refusal else None,
        "notes": list(one.notes),
    }


def _time_text(moment: datetime | None) -> str | None:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else None
