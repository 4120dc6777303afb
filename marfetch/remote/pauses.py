"""Shares throttles between all processes with the same cache, and parses `Retry-After`.

Each record contains the length and end of a pause. A record is a hint, not a lock: a record that is unreadable, too large or invalid is
ignored. No process waits longer than the host asked for, whatever the clock says.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import Final, NamedTuple

from ..records import Records
from . import limits

SORT: Final = "pauses"
MAX_RECORD: Final = 4096
"""Maximum bytes of a record."""
_SLACK: Final = 2.0
"""Seconds by which a file's modification time may differ from the clock."""


class Pause(NamedTuple):
    """A pause that a host asked for.

    Attributes:
        seconds: the length of the whole pause.
        left: the seconds until the end of the pause; negative after the end.
    """

    seconds: float
    left: float


class Pauses:
    """The shared pauses in one cache. It is thread-safe.

    Args:
        root: the cache directory.
        now: returns the wall-clock time in seconds since the epoch. It is the only clock that all processes share, even in containers.
    """

    def __init__(self, root: Path, *, now: Callable[[], float] = time.time) -> None:
        self._records = Records(root, SORT, most=MAX_RECORD)
        self._now = now
        self._guard = threading.Lock()
        self._seen: dict[str, tuple[int, int, int] | None] = {}
        self._recorded: dict[str, float] = {}

    def record(self, host: str, seconds: float) -> None:
        """Record a pause that begins now, unless the recorded pause ends later."""
        seconds = min(seconds, limits.LONGEST_SHARED_PAUSE)
        until = self._now() + seconds
        with self._guard:
            known = self._read(host)
            if seconds > 0 and (known is None or known.left < seconds):
                self._recorded[host] = until
                self._records.put(host, {"seconds": seconds, "until": until})

    def update(self, host: str) -> Pause | None:
        """Return the pause that another process recorded since the last call, if any."""
        stamp = self._records.stamp(host)
        with self._guard:
            if stamp is None or self._seen.get(host) == stamp:
                return None
            self._seen[host] = stamp
            return self._read(host, others=True)

    def pause(self, host: str) -> Pause | None:
        """Return the current pause of a host, recorded by any process; None if the host is not throttled."""
        with self._guard:
            found = self._read(host)
        return found if found is not None and found.left > 0 else None

    def is_any(self) -> bool:
        """Return whether any host is throttled now."""
        return any(self.pause(host) is not None for host in self._records.found_keys())

    def may_send_early(self, host: str) -> bool:
        """Return whether a speculative request is allowed now. It is not allowed during a pause or soon after one."""
        with self._guard:
            found, recorded = self._read(host), self._recorded.get(host)
        ends = [found.left] if found is not None else []
        if recorded is not None:  # this process knows its own pause even if the record was not written
            ends.append(recorded - self._now())
        return all(left < -limits.RECENT_PAUSE for left in ends)

    def _read(self, host: str, *, others: bool = False) -> Pause | None:
        found = self._records.get(host)
        if found is None or not isinstance(found.data, dict):
            return None
        seconds, until = found.data.get("seconds"), found.data.get("until")
        if not _is_number(seconds) or not _is_number(until) or (others and until == self._recorded.get(host)):
            return None
        assert isinstance(seconds, (int, float)), "`_is_number` checked it"
        assert isinstance(until, (int, float)), "`_is_number` checked it"
        seconds = min(float(seconds), limits.LONGEST_SHARED_PAUSE)
        # Use the shortest of three times: the wall clock may have been set since, and the file's modification time may be wrong.
        return Pause(seconds, min(float(until) - self._now(), seconds, seconds + _SLACK - found.age))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def retry_after(value: str | None, now: float, *, date: str | None = None) -> float | None:
    """Parse a `Retry-After` header, which has a number or a date (RFC 9110, 10.2.3). Return seconds, or None if it is invalid.

    Args:
        now: the current time in seconds since the epoch. It is used only without a valid `date`.
        date: the `Date` header of the response. It is preferred, because a date in `Retry-After` is on the clock of the host.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(min(int(text[:18]), 10**15))
    moment = _moment(text)
    if moment is None:
        return None
    answered = _moment(date.strip()) if date is not None else None
    return max(0.0, moment - (now if answered is None else answered))


def _moment(text: str) -> float | None:
    """Parse an HTTP date to seconds since the epoch."""
    from email.utils import parsedate_to_datetime  # late: only if a response contains a date

    with suppress(ValueError, TypeError, OverflowError):
        moment = parsedate_to_datetime(text)
        # The obsolete form without a time zone means UTC too (RFC 9110, 5.6.7).
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None
