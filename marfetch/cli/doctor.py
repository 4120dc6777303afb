"""`marfetch doctor`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..render.table import Row, status
from .help import add
from .options import Settings, shared

_Tried = Annotated[str | None, typer.Argument(metavar="[REF]", help="Artifact to test with; by default a small public chart.")]


def register(app: typer.Typer) -> None:
    add(app, doctor)


@shared(limited=False)  # at the time limit, `examine` returns the findings so far
def doctor(settings: Settings, reference: _Tried = None) -> int:
    """Find out why MAR cannot be reached.

    Takes less than 20 seconds. Prints one line per check: status, name and result. Below a problem, it prints what the problem means and
    how to fix it. The output contains no secrets, so you can paste it into a ticket. The exit code is 1 if there is a fault.
    """
    from datetime import UTC, datetime

    from .. import __version__, firewall
    from ..doctor.examine import ExamineOptions, examine
    from ..errors import InputError
    from ..reference import Pasted, Reference

    report = settings.report
    if settings.offline:
        raise InputError("`doctor` needs the network, so it cannot be combined with `--offline`", code="usage", hint="remove `--offline`")
    tried = Pasted.parse(reference).reference if reference is not None else None
    endpoint = settings.preference().of(tried or Reference("x"))
    timeout = () if settings.timeout is None else (settings.timeout,)
    found = examine(ExamineOptions(endpoint, tried, settings.ca_file, settings.cache_dir, *timeout), report.progress)
    rows: list[Row] = []
    for one in found.findings:
        rows.append((status(one.status), one.id, one.saw))
        rows += [("", label, text) for label, text in (("means", one.means), ("do", one.do)) if text]
    report.table(("status", "check", "result"), rows, wraps=True)
    data: dict[str, Any] = {
        "verdict": next((status for status in ("fault", "warning") if any(one.status == status for one in found.findings)), "ok"),
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
        support = [("support", label, url) for label, url in firewall.SUPPORT] if endpoint.official else []
        report.gap()
        report.facts([*support, *(("support", "X-Msedge-Ref", edge) for edge in found.references)])
        report.note("the output above contains no secrets and can be pasted into a ticket; for programs, use `--json`")
    return 1 if found.has_fault else 0
