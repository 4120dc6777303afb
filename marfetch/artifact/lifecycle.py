"""When the support of an artifact ends, as the lifecycle marks that refer to it say.

Source: dotnet-docker, documentation/vulnerability-reporting.md: a mark is a referrer with the artifact type below and the date in
an annotation; where there are several, the one created last counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Final

from ..oci import CREATED, Annotations

LIFECYCLE: Final = "application/vnd.microsoft.artifact.lifecycle"
END_OF_LIFE: Final = "vnd.microsoft.artifact.lifecycle.end-of-life.date"


def end_of_life(marks: Iterable[tuple[str, Annotations]]) -> date | None:
    """When support ends, by the lifecycle marks that refer to an artifact.

    Args:
        marks: artifact type and annotations of each referrer; others than lifecycle marks are passed over.
    """
    newest: tuple[datetime, date] | None = None
    for artifact_type, notes in marks:
        if artifact_type.lower() != LIFECYCLE:
            continue
        ends = _timestamp(notes.get(END_OF_LIFE, ""))
        if ends is None:
            continue
        created = _timestamp(notes.get(CREATED, "")) or datetime.min.replace(tzinfo=UTC)
        if newest is None or created >= newest[0]:
            newest = created, ends.date()
    return newest[1] if newest else None


def _timestamp(text: str) -> datetime | None:
    """RFC 3339, or a date alone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
