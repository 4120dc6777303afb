"""How long a host wants to be left alone, as its answer says it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime


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
