"""What a registry says of time: whether the clocks agree, and when to come back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from ..endpoint import Address
from ..remote.pauses import Pause
from ..remote.probe import Seen
from ..remote.told import retry_after
from .findings import Finding, fault, ok, warning

SKEW: Final = 300.0
"""Seconds that a clock may be wrong before signed addresses and certificates fail."""
SMALL_SKEW: Final = 60.0
"""Seconds that are not worth a word."""


def agreement(seen: Seen, now: float) -> Finding:
    """This machine's clock against the one of an answer.

    Args:
        now: seconds since the epoch.
    """
    try:
        there = parsedate_to_datetime(seen.header("Date") or "")
        skew = now - (there if there.tzinfo else there.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return ok("clock", "the registry does not say what time it is, in a form that can be read")
    far = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} `{seen.address.name}`"
    if abs(skew) <= SMALL_SKEW:
        return ok("clock", far if abs(skew) >= 2 else "this machine's clock agrees with the registry's")
    how = fault if abs(skew) > SKEW else warning
    return how(
        "clock",
        far,
        "certificates and signed data addresses are judged by the clock: they look expired, or not yet valid",
        "set the clock by NTP (`timedatectl set-ntp true`; in a virtual machine also the host's)",
    )


def throttled(seen: Seen, now: float) -> Finding:
    """An answer that says that too much is asked, with the time that it wants to be left alone.

    Args:
        now: seconds since the epoch.
    """
    wait = retry_after(seen.header("Retry-After"), now, date=seen.header("Date"))
    when, do = "it does not say for how long", "wait some minutes"
    if wait is not None:
        moment = datetime.fromtimestamp(now, UTC) + timedelta(seconds=min(wait, 10**8))
        day = "" if wait < 86_400 else f" on {moment:%Y-%m-%d},"
        when, do = f"come back in {wait:.0f} s,{day} at {moment:%H:%M:%S} UTC", f"wait {wait:.0f} s"
        if wait > 10**8:
            when = f"come back in {wait:.3g} s, which is no day in sight"
    return _too_much(f"`{seen.address.name}` answers {seen.status} (too many requests): {when}", do)


def paused(address: Address, pause: Pause, now: float) -> Finding:
    """A host that asked another process for a pause, and so is not asked now.

    Args:
        now: seconds since the epoch.
    """
    moment = datetime.fromtimestamp(now, UTC) + timedelta(seconds=pause.left)
    return _too_much(
        f"`{address.name}` asked another marfetch with this cache for a pause of {pause.seconds:.0f} s, until {moment:%H:%M:%S} UTC:"
        " it was not asked",
        f"wait {pause.left:.0f} s",
    )


def _too_much(saw: str, do: str) -> Finding:
    return fault(
        "throttle",
        saw,
        "this network's address asks MAR more than its share; in CI that is often many jobs behind one address",
        f"{do}; then fewer at a time (`--jobs`), a kept cache directory, or another address for the network",
    )
