"""A clock that only the tests move."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Final

from marfetch.budget import Budget
from marfetch.remote.backoff import Backoff, HostState

NOON: Final = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


class Clock(Budget):
    """A budget whose time passes only in `sleep`; `slept` lists the seconds of each sleep."""

    def __init__(self, timeout: float | None = None) -> None:
        self.time = 1000.0
        self.slept: list[float] = []
        super().__init__(timeout, now=lambda: self.time, local_time=lambda: NOON)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += max(0.0, min(seconds, self.remaining))
        self.check()


class Condition(threading.Condition):
    """A wait advances the clock and lets other threads run."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "every wait has a timeout"
        assert timeout > 0
        self.waits.append(timeout)
        self.clock.time += timeout
        return super().wait(0.001)


def timed(backoff: Backoff, clock: Clock, name: str = "mar.test") -> HostState:
    """Return the state of a host, and make its waits use the clock of the test."""
    host = backoff.host(name)
    host.condition = Condition(clock)
    return host
