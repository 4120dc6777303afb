"""Find out how old a version is, and hold back versions that are younger than a cool-down (`--min-age`).

The age is the time since the timestamp of a trusted signature. Without one, it is the time since the creation time in the annotations,
which the publisher can choose freely. If neither is known, or the time is in the future, the age is unknown and the version is held back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ..constraint import TaggedVersion
from ..errors import InputError
from ..oci import CREATED, Index, Manifest
from ..text import counted

if TYPE_CHECKING:
    from .session import Repository

SignedAt: TypeAlias = "Callable[[Repository, Manifest | Index, int], tuple[datetime | None, int]]"
"""Returns the time that a trusted signature proves (or None) and the number of signatures. Checks none if there are too many."""

_DURATION: Final = re.compile(r"([0-9]+)([mhdw])")
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_SPANS: Final = ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute"))
_RFC_3339: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII)


class HeldBack(NamedTuple):
    """A version that is too young.

    Attributes:
        reason: its age and who states it, or why the age is unknown, such as `2 days old, claimed by the publisher`.
    """

    version: TaggedVersion
    reason: str


def held_back_json(one: HeldBack) -> dict[str, str]:
    """Return a version that is held back, for the JSON output."""
    return {"version": str(one.version.version), "tag": one.version.tag, "reason": one.reason}


class CoolDown(NamedTuple):
    """The minimum age of versions.

    Attributes:
        text: the minimum age as the user wrote it, such as `7d`.
        minimum: the same as a duration.
        now: the current time.
        signed_at: finds the time that a trusted signature proves.
    """

    text: str
    minimum: timedelta
    now: datetime
    signed_at: SignedAt

    def held_back(self, repository: Repository, found: Manifest | Index, most: int) -> tuple[str | None, int]:
        """Check the age of a manifest.

        Args:
            repository: the repository of the manifest.
            most: maximum number of further manifests to request, for signatures.

        Returns:
            Why the version is held back (None if it is old enough), and the number of manifests requested.

        Raises:
            InputError: the trust policy or a trust store is invalid.
            Error: the registry failed.
        """
        moment, requested = self.signed_at(repository, found, most)
        if requested > most:
            return f"age unknown, because it would take more requests to check {counted(requested, 'signature')}", 0
        source = "by the timestamp of its signature"
        if moment is None:
            text, source = found.annotations.get(CREATED), "claimed by the publisher"
            if text is None:
                return "age unknown, because neither a trusted timestamp nor an annotation states it", requested
            moment = read_time(text)
            if moment is None:
                return f"age unknown, because its creation time `{text[:60]}` is not valid", requested
        if moment > self.now:
            return f"age unknown, because its time {moment:%Y-%m-%d %H:%M:%SZ} is in the future, {source}", requested
        passed = self.now - moment
        return (None if passed >= self.minimum else f"{_span(passed)} old, {source}"), requested


def minimum_age(text: str, name: str = "--min-age") -> timedelta:
    """Parse the duration of a cool-down.

    Args:
        name: the option or key, for the message.

    Raises:
        InputError: `usage`.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InputError(
            f"`{name}` takes a whole number with `m`, `h`, `d` or `w`, not `{text[:60]}`",
            code="usage",
            hint="write the minimum age in minutes, hours, days or weeks, such as `7d`",
        )
    with suppress(OverflowError, ValueError):  # more digits than Python converts
        return int(match[1]) * _UNITS[match[2]]
    return timedelta.max


def read_time(text: str) -> datetime | None:
    """Parse a time in the format of RFC 3339; return None if it is not valid. A leap second counts as the following second."""
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    date, minutes, seconds, fraction, offset, _ = match.groups()
    is_leap = seconds == "60"
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(f"{date}T{minutes}{'59' if is_leap else seconds}{fraction or ''}{offset.upper()}").astimezone(UTC)
        if not is_leap:
            return moment
        following = moment.replace(microsecond=0) + timedelta(seconds=1)
        # Leap seconds are inserted at the end of a month in UTC (RFC 3339, 5.7).
        return following if (following.day, following.hour, following.minute) == (1, 0, 0) else None
    return None


def _span(passed: timedelta) -> str:
    for length, unit in _SPANS:
        if count := passed // length:
            return counted(count, unit)
    return "moments"
