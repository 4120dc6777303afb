"""Print the result of `verify`: signer, time, root certificate and checks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ..client.resolve import Resolved
from ..document import Json
from ..verify.policy import Check
from ..verify.verdict import OK, CheckOutcome, Signature, Verdict
from .report import Report

_WORDS: Final = {
    Check.INTEGRITY: "integrity",
    Check.AUTHENTICITY: "signer",
    Check.EXPIRY: "expiry",
    Check.AUTHENTIC_TIMESTAMP: "time",
    Check.REVOCATION: "revocation",
}


def print_verdict(report: Report, resolved: Resolved, verdict: Verdict) -> int:
    """Print a verdict; return the exit code of its error."""
    for warning in verdict.warnings:
        report.warn(warning)
    for one in verdict.others:
        report.warn(f"a signature in the unsupported format `{one}` was not checked")
    if verdict.has_ended:
        report.warn(f"support for `{resolved.reference}` ended on {verdict.ends}, according to its lifecycle mark")
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


def signer_line(verdict: Verdict) -> str:
    """Return one line with the signer and the checks that did not pass."""
    good = verdict.good
    if good is None:
        return "not verified: skipped by the trust policy"
    missing = [_WORDS[one.check] for one in good.checks if one.outcome != "passed"]
    return f"signed by `{good.signed.subject}`" + (f" (checks not passed: {', '.join(missing)})" if missing else "")


def _show(report: Report, resolved: Resolved, verdict: Verdict) -> None:
    report.line(verdict.outcome, str(resolved.reference))
    good = verdict.good
    if verdict.outcome == "skipped" and verdict.statement is not None:
        report.line("nothing was verified", f"skipped by the statement `{verdict.statement.name}` of the trust policy")
    if good is not None:
        _show_signature(report, good)
        for one in good.checks:
            _show_check(report, one)
    found = verdict.provenance
    if found is not None:
        report.line("provenance", f"{', '.join(found.users)} ({found.fingerprint}) signed {found.file}")
    if verdict.ends is not None:
        report.line("end of life", str(verdict.ends))


def _show_signature(report: Report, good: Signature) -> None:
    signed = good.signed
    report.line("signed by", signed.subject or "")
    if signed.timestamp is not None:
        report.line("at", f"{_time_text(signed.timestamp.time)} (timestamp by {signed.timestamp.authority})")
    elif signed.signing_time is not None:
        report.line("at", f"{_time_text(signed.signing_time)} (claimed by the signer, without a timestamp)")
    report.line("root", signed.root or "", f"sha256:{signed.thumbprints[-1]}" if signed.thumbprints else "")
    report.line("signature", str(good.digest), signed.algorithm or "", good.media_type or "")
    for key, value in signed.annotations:
        report.line("annotation", f"{key}={value}")


def _show_check(report: Report, one: CheckOutcome) -> None:
    outcome = {"passed": "ok", "failed": "FAILED, but not enforced"}.get(one.outcome, one.outcome)
    reason = one.refusal.message if one.refusal is not None else "; ".join(one.notes)
    report.line(f"check {_WORDS[one.check]}", outcome, *([reason] if reason else []))


def verdict_json(resolved: Resolved, verdict: Verdict) -> dict[str, Json]:
    """Return the JSON of `marfetch verify` (`docs/reference/json.md`)."""
    statement, found = verdict.statement, verdict.provenance
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
        "endOfLife": verdict.ends.isoformat() if verdict.ends else None,
        "ended": verdict.has_ended,
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
