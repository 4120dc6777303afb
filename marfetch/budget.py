"""The time limit and the cancellation of a command. Every wait checks the command's `Budget`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from .errors import RemoteError


class Cancelled(Exception):  # noqa: N818 - not an error: the code that cancels the command reports the reason
    """The command was interrupted while this thread waited or transferred."""


class Budget:
    """The time limit of a command.

    Args:
        timeout: seconds for the whole command; None for no limit.
        now: a monotonic clock, in seconds.
        local_time: the wall clock, for messages.
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
        self.restart()
        self._cancelled = threading.Event()

    @property
    def remaining(self) -> float:
        """Seconds left; infinite without a limit."""
        return float("inf") if self.deadline is None else self.deadline - self.now()

    def restart(self) -> None:
        """Restart the full time limit, for the next library call."""
        self.deadline: float | None = None if self.timeout is None else self.now() + self.timeout

    @contextmanager
    def at_most(self, seconds: float, whose: str) -> Iterator[None]:
        """Apply a shorter time limit to everything inside the `with` block.

        Args:
            whose: the end of the error message, which says what set the limit, such as "of `--timeout`".
        """
        before = self.timeout, self.deadline, self._whose
        if seconds < self.remaining:
            self.timeout, self.deadline, self._whose = seconds, self.now() + seconds, whose
        try:
            yield
        finally:
            self.timeout, self.deadline, self._whose = before

    def cancel(self) -> None:
        """Make every wait and check raise `Cancelled`."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise if the command is cancelled or out of time.

        Raises:
            Cancelled: the command was cancelled.
            RemoteError: `timeout`: no time is left.
        """
        if self._cancelled.is_set():
            raise Cancelled
        if self.remaining <= 0:
            raise self.exceeded()

    def exceeded(self) -> RemoteError:
        """Return the error for a used-up time limit."""
        return RemoteError(
            f"not finished within the {self.timeout:.10g} s {self._whose}",
            code="timeout",
            hint="run it again (finished downloads are cached), allow more time, or find the cause with `marfetch doctor`",
            timeout=self.timeout,
        )

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake up early if the command is cancelled or out of time.

        Raises:
            Cancelled: see `check`.
            RemoteError: see `check`.
        """
        self._cancelled.wait(max(0.0, min(seconds, self.remaining)))
        self.check()

    def clock_time(self, seconds: float) -> str:
        """Return the local time `seconds` from now, with the date unless it is today."""
        start = self._local_time()
        try:
            moment = start + timedelta(seconds=seconds)
        except OverflowError:
            return "a date too far away to show"
        return moment.strftime("%H:%M:%S" if moment.date() == start.date() else "%Y-%m-%d %H:%M:%S")
