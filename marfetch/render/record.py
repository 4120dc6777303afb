"""Print the results of `marfetch record` and `marfetch replay` to stderr; stdout belongs to the command."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

from ..destination.destination import write_file
from ..errors import Error
from ..recording.record import Ended
from ..text import counted, human_size
from .report import SCHEMA, Report, error_json

_NAMED: Final = 20
"""Maximum number of hosts, and of requests of one kind, to name on stderr. The summary names all of them."""


def print_ended(report: Report, ended: Ended, summary: Path | None) -> int:
    """Print what was recorded, passed through, refused and missing; write the summary. Return the exit code."""
    if summary is None:
        return _print(report, ended)
    try:
        write_file(summary, (json.dumps(_object(report.command, ended), ensure_ascii=True) + "\n").encode())
    except Error as error:
        code = _print(report, ended)
        report.error(error)
        return code or error.exit_code
    return _print(report, ended)


def _print(report: Report, ended: Ended) -> int:
    if ended.problem is not None:
        report.error(Error(ended.problem, code="command-failed", hint="check the name of the program, and `PATH`"))
        return ended.code
    seen, name = ended.seen, ended.endpoint.registry.name
    if seen.others:
        report.note(f"passed through, {'not recorded' if report.command == 'record' else 'allowed'}: {_hosts(seen.others)}")
    for host, reason in list(seen.unreachable.items())[:_NAMED]:
        report.warn(f"`{host}` could not be reached for the command: {reason}")
    for what, reason in list(seen.refused.items())[:_NAMED]:
        report.warn(f"`{what}` was refused: {reason}")
    if not seen.asked:
        report.warn(
            f"the command made no request to `{name}` through marfetch; it may ignore the proxy variables, or use a daemon such as Docker's"
        )
    if ended.archive is not None:
        one = ended.archive
        sizes = f"{counted(one.tags, 'tag')}, {counted(one.manifests, 'manifest')}, {counted(one.blobs, 'blob')}, {human_size(one.size)}"
        report.note(f"recorded {counted(seen.asked, 'request')} to `{name}` in `{one.path}`: {sizes} ({one.digest})")
    elif report.command == "replay":
        report.note(f"answered {counted(seen.asked, 'request')} to `{name}` from the recording")
    errors = [error for error in seen.failures.values() if error is not ended.error]
    for error in [*errors[:_NAMED], *([ended.error] if ended.error is not None else [])]:
        report.error(error)
    for what in list(seen.missing)[:_NAMED]:
        report.note(f"missing: {what}")
    return ended.exit_code


def _hosts(found: Counter[str]) -> str:
    shown = ", ".join(f"{counted(number, 'connection')} to `{host}`" for host, number in sorted(found.items())[:_NAMED])
    return shown + (f" and to {len(found) - _NAMED} more hosts" if len(found) > _NAMED else "")


def _object(command: str, ended: Ended) -> dict[str, Any]:
    """Return the result as the JSON object of a command."""
    document: dict[str, Any] = {"schema": SCHEMA, "command": command, "ok": ended.exit_code == 0}
    if ended.exit_code:
        own = ended.error if not ended.code else None
        failure = own or Error(ended.problem or f"the command ended with exit code {ended.code}", code="command-failed")
        document["error"] = {**error_json(failure), "exitCode": ended.exit_code}
    seen, archive = ended.seen, ended.archive
    document["data"] = {
        "endpoint": ended.endpoint.name,
        "exitCode": ended.code,
        "requests": seen.asked,
        "output": str(archive.path) if archive is not None else None,
        "digest": str(archive.digest) if archive is not None else None,
        "size": archive.size if archive is not None else None,
        "tags": archive.tags if archive is not None else None,
        "manifests": archive.manifests if archive is not None else None,
        "blobs": archive.blobs if archive is not None else None,
        "missing": [{"request": what, "count": number} for what, number in sorted(seen.missing.items())],
        "refused": [{"request": what, "reason": reason} for what, reason in sorted(seen.refused.items())],
        "failed": [{"request": what, "code": error.code, "message": error.message} for what, error in sorted(seen.failures.items())],
        "otherHosts": [
            {"host": host, "connections": number, "allowed": host in seen.others}
            for host, number in sorted({**seen.denied, **seen.others}.items())
        ],
    }
    return document
