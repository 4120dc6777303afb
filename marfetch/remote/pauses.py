"""Pauses that hosts asked for, told to all processes that use one cache: what one of them was told counts for the others too.

A record says how long a pause is and when it ends. It is a hint, never a lock: what cannot be read, is no small plain file, is of a moment
that has not come yet or says what makes no sense is as good as none, and nobody waits longer than the host said when it was written.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from ..records import Records
from . import limits

SORT: Final = "pauses"
MAX_RECORD: Final = 4096
"""Bytes."""
_SLACK: Final = 2.0
"""Seconds by which the time of a file may differ from the clock."""


@dataclass(frozen=True, slots=True)
class Pause:
    """What a host asked for.

    Attributes:
        seconds: as it was told.
        left: seconds until its end; negative where that is past.
    """

    seconds: float
    left: float


class Pauses:
    """The records of one cache; may be used from any thread.

    Args:
        root: the cache.
        now: the clock on the wall, seconds since the epoch: the only one that all processes have, whatever they run in.
    """

    def __init__(self, root: Path, *, now: Callable[[], float] = time.time) -> None:
        self._kept = Records(root, SORT, most=MAX_RECORD)
        self._now = now
        self._guard = threading.Lock()
        self._seen: dict[str, tuple[int, int, int] | None] = {}
        self._told: dict[str, float] = {}

    def tell(self, host: str, seconds: float) -> None:
        """A host asks for a pause that begins now; where another process was told of a longer one, that stays."""
        seconds = min(seconds, limits.LONGEST_SHARED_PAUSE)
        until = self._now() + seconds
        with self._guard:
            known = self._read(host)
            if seconds > 0 and (known is None or known.left < seconds):
                self._told[host] = until
                self._kept.put(host, {"seconds": seconds, "until": until})

    def news(self, host: str) -> Pause | None:
        """What others were told since this was asked last; None where that is nothing."""
        stamp = self._kept.stamp(host)
        with self._guard:
            if stamp is None or self._seen.get(host) == stamp:
                return None
            self._seen[host] = stamp
            return self._read(host, others=True)

    def pause(self, host: str) -> Pause | None:
        """The pause of a host that has not ended yet, whoever was told."""
        with self._guard:
            found = self._read(host)
        return found if found is not None and found.left > 0 else None

    def is_any(self) -> bool:
        """Whether some host, whichever, is being left alone at the moment."""
        return any(self.pause(host) is not None for host in self._kept.found_keys())

    def may_ask_ahead(self, host: str) -> bool:
        """Whether a host may be asked by somebody who has not waited for his turn: not in a pause, nor soon after one, whoever was told."""
        with self._guard:
            found, told = self._read(host), self._told.get(host)
        ends = [found.left] if found is not None else []
        if told is not None:  # the record may not have been written
            ends.append(told - self._now())
        return all(left < -limits.RECENT_PAUSE for left in ends)

    def _read(self, host: str, *, others: bool = False) -> Pause | None:
        found = self._kept.get(host)
        if found is None or not isinstance(found.data, dict):
            return None
        seconds, until = found.data.get("seconds"), found.data.get("until")
        if not _is_number(seconds) or not _is_number(until) or (others and until == self._told.get(host)):
            return None
        assert isinstance(seconds, (int, float)), "it is a number"
        assert isinstance(until, (int, float)), "it is a number"
        seconds = min(float(seconds), limits.LONGEST_SHARED_PAUSE)
        # Two clocks agree, or the earlier end counts: the one on the wall may have been set since, and the file's may have been touched.
        return Pause(seconds, min(float(until) - self._now(), seconds, seconds + _SLACK - found.age))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


# -- how long a host wants to be left alone, as its answer says it


def retry_after(value: str | None, now: float, *, date: str | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3): a number of seconds or a date; None where it says nothing.

    Args:
        now: seconds since the epoch, which a date is compared with where the answer has none of its own.
        date: the answer's header `Date`: a date of the host's is of the host's clock, and ours may be wrong.
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
    """A date of HTTP in seconds since the epoch."""
    with suppress(ValueError, TypeError, OverflowError):
        moment = parsedate_to_datetime(text)
        # The old form without a zone means UTC too (RFC 9110, 5.6.7).
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None
