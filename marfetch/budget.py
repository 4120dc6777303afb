"""The time that a command may take, and how it is stopped: one value that everything which waits looks at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from .errors import RemoteError


class Cancelled(Exception):  # noqa: N818 - not an error of its own: the command is being stopped, and whoever did it says why
    """The command was interrupted while this thread waited or transferred."""


class Budget:
    """The time that is left.

    Args:
        timeout: seconds for the whole command; None: no end for what makes progress.
        now: a clock that only goes forward, in seconds.
        local_time: the clock on the wall, for messages.
    """

    def __init__(
        self,
        timeout: float | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
        local_time: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        self.timeout = timeout
        self._whose = "of `--timeout`"
        self.now = now
        self._local_time = local_time
        self.deadline = None if timeout is None else now() + timeout
        self._cancelled = threading.Event()

    @property
    def remaining(self) -> float:
        """Seconds that are left; infinite where no end was set."""
        return float("inf") if self.deadline is None else self.deadline - self.now()

    def restart(self) -> None:
        """Begin anew with the whole time, for the next call of a library."""
        self.deadline = None if self.timeout is None else self.now() + self.timeout

    @contextmanager
    def at_most(self, seconds: float, whose: str) -> Iterator[None]:
        """A narrower budget for a part of the command, which then counts for all that is begun in it.

        Args:
            whose: for the message: not done within the 25 s …
        """
        before = self.timeout, self.deadline, self._whose
        if seconds < self.remaining:
            self.timeout, self.deadline, self._whose = seconds, self.now() + seconds, whose
        try:
            yield
        finally:
            self.timeout, self.deadline, self._whose = before

    def cancel(self) -> None:
        """Stop everything that waits."""
        self._cancelled.set()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Cancelled: the command is being stopped.
            RemoteError: `timeout`: the budget is used up.
        """
        if self._cancelled.is_set():
            raise Cancelled
        if self.remaining <= 0:
            raise self.exceeded()

    def exceeded(self) -> RemoteError:
        """The failure that says that the budget is used up."""
        return RemoteError(
            f"not done within the {self.timeout:.10g} s {self._whose}",
            code="timeout",
            hint="run it again: what was fetched is kept; or give it more time",
            timeout=self.timeout,
        )

    def sleep(self, seconds: float) -> None:
        """Wait, unless the command is stopped or the time is up.

        Raises:
            Cancelled: as `check`.
            RemoteError: as `check`.
        """
        self._cancelled.wait(max(0.0, min(seconds, self.remaining)))
        self.check()

    def clock_time(self, seconds: float) -> str:
        """The time of day in so many seconds, with the date where that is another day."""
        start = self._local_time()
        try:
            moment = start + timedelta(seconds=seconds)
        except OverflowError:
            return "no day in sight"
        return moment.strftime("%H:%M:%S" if moment.date() == start.date() else "%Y-%m-%d %H:%M:%S")
