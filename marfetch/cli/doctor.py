"""`marfetch doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Settings, shared

if TYPE_CHECKING:
    from ..doctor.examine import Diagnosis

_Tried = Annotated[str | None, typer.Argument(metavar="[REF]", help="What to try; without one, a small public chart.")]


def register(app: typer.Typer) -> None:
    app.command()(doctor)


@shared()
def doctor(settings: Settings, reference: _Tried = None) -> int:
    """Find out why MAR cannot be reached from here, and what to tell whoever runs the firewall.

    Takes less than 20 seconds. Lines with status, what was looked at and what was seen; below what is not well, what it means and what
    to do. The exit code is 1 where there is a fault. What it prints holds no secret and can be pasted into a ticket.
    """
    import os
    from datetime import UTC, datetime

    from .. import __version__, firewall
    from ..doctor.examine import ExamineOptions, examine
    from ..endpoint import DATA_ENVIRONMENT, ENVIRONMENT, Preference
    from ..errors import InputError
    from ..reference import Pasted, Reference

    report = settings.report
    if settings.offline:
        raise InputError("`doctor` asks hosts, so `--offline` does not go with it", code="usage", hint="leave `--offline` out")
    tried = Pasted.parse(reference).reference if reference is not None else None
    preference = Preference(settings.endpoint, os.environ.get(ENVIRONMENT) or None, settings.data_hosts, os.environ.get(DATA_ENVIRONMENT))
    endpoint = preference.of(tried or Reference("x"))
    options = ExamineOptions(endpoint, tried, settings.ca_file, settings.cache_dir)
    if settings.timeout is not None:
        options = ExamineOptions(endpoint, tried, settings.ca_file, settings.cache_dir, settings.timeout)
    found = examine(options, report.progress)
    for one in found.findings:
        report.line(one.status, one.id, one.saw)
        for label, text in (("means", one.means), ("do", one.do)):
            if text:
                report.line("", label, text)
    data: dict[str, Any] = {
        "verdict": _verdict(found),
        "endpoint": endpoint.name,
        "version": __version__,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(found.seconds, 1),
        "findings": [{"id": one.id, "status": one.status, "saw": one.saw, "means": one.means, "do": one.do} for one in found.findings],
        "references": list(found.references),
        "support": dict(firewall.SUPPORT),
    }
    report.data(data)
    if found.has_fault:
        if endpoint.official:
            for label, url in firewall.SUPPORT:
                report.line("support", label, url)
        for edge in found.references:
            report.line("support", "X-Msedge-Ref", edge)
        report.note("what is above holds no secrets and can be pasted into a ticket; `--json` gives it to programs")
    return 1 if found.has_fault else 0


def _verdict(found: Diagnosis) -> str:
    if found.has_fault:
        return "fault"
    return "warning" if any(one.status == "warning" for one in found.findings) else "ok"
