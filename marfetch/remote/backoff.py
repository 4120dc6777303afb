"""Throttling and retries: concurrent requests per host, pauses after a 429, and the number of tries.

A throttle applies to the host, not to one request. Every thread that needs the host waits for the end of the pause, because MAR's
egress-limits.md expects clients to back off after a 429. After the pause, requests restart slowly instead of all at once.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Final

from ..budget import Budget
from ..content import Progress
from ..errors import Error, RateLimitedError, RemoteError
from . import limits
from .pauses import Pauses

_MOMENT: Final = 0.01
"""Minimum seconds between two checks for throttles of other processes. Opening a connection takes longer, so it causes a second check."""


class HostState:
    """The throttle and concurrency of one host, shared by all threads.

    After a throttle, requests run one at a time. Each success allows one more concurrent request, up to half of the former limit. Beyond
    that half, each additional request needs `SUCCESSES_TO_RESTORE` successes in a row.
    """

    def __init__(self, name: str, jobs: int) -> None:
        self.name = name
        self.jobs = jobs
        self.allowed = jobs
        self.bound = jobs  # up to this limit, each success allows one more request
        self.active = 0
        self.resume_at = 0.0  # on the budget's clock
        self.pause = 0.0  # the length of the pause in seconds
        self.elsewhere = False  # whether the pause was recorded by another process
        self.announced = 0.0  # the `resume_at` of the last pause shown to the user
        self.ended = 0.0  # the `resume_at` of the last pause after which a request was sent
        self.throttles = 0  # consecutive throttles
        self.successes = 0  # consecutive successes
        self.heard_at = float("-inf")  # when this process last looked for throttles of other processes
        self.condition = threading.Condition()

    def slow_down(self) -> None:
        """Halve the limit of concurrent requests, and restart with one request."""
        self.bound = max(1, self.bound // 2)
        self.allowed = 1
        self.successes = 0


class RequestFailed(Exception):  # noqa: N818 - internal to `remote`, and not an error itself
    """A failed request, and whether to retry it.

    Attributes:
        error: the error to raise if there is no retry.
        tries: maximum number of tries for a failure of this kind.
        host: the host to pause if `throttled`.
        retry_after: seconds from the `Retry-After` header; None without one.
        throttled: whether the host throttled the request.
        at_once: whether to retry without a wait.
        pause: seconds for which this failure pauses the host; None until `Backoff.hold` records the pause.
    """

    def __init__(
        self,
        error: Error,
        *,
        tries: int = 1,
        host: str | None = None,
        retry_after: float | None = None,
        throttled: bool = False,
        at_once: bool = False,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.tries = tries
        self.host = host
        self.retry_after = retry_after
        self.throttled = throttled
        self.at_once = at_once
        self.pause: float | None = None


class Slot:
    """A context manager that holds one of the concurrent request slots of a host."""

    def __init__(self, backoff: Backoff, host: HostState, attempts: Attempts) -> None:
        self._backoff = backoff
        self._host = host
        self._attempts = attempts
        self._held = False
        self._waited = False
        self.succeeded = False
        """Whether the request succeeded. The caller sets it before the slot is released."""

    def __enter__(self) -> Slot:
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give()

    def wait_if_throttled(self) -> bool:
        """Wait if the host was throttled while the connection was opening. Call this just before the request is sent.

        Returns:
            Whether this request waited for a pause. If so, a request that was sent early must be sent again.

        Raises:
            Error, Cancelled: as for `Backoff.enter`.
        """
        if self._backoff.is_paused(self._host):
            self._give()
            self._take()
        return self._waited

    def _take(self) -> None:
        self._waited |= self._backoff.enter(self._host, self._attempts)
        self._held = True

    def _give(self) -> None:
        if self._held:
            self._held = False
            self._backoff.leave(self._host, succeeded=self.succeeded)


class Backoff:
    """The throttles of all hosts of one endpoint, shared by all threads.

    Args:
        jobs: concurrent requests per host, 1 to 32.
        chance: returns a random number in [0, 1).
        pauses: the throttles that processes with the same cache share; None to share none.
    """

    def __init__(
        self,
        budget: Budget,
        progress: Progress,
        *,
        jobs: int = limits.DEFAULT_JOBS,
        chance: Callable[[], float] = random.random,
        pauses: Pauses | None = None,
    ) -> None:
        self._budget = budget
        self._progress = progress
        self._jobs = jobs
        self._chance = chance
        self._pauses = pauses
        self._hosts: dict[str, HostState] = {}
        self._guard = threading.Lock()

    def host(self, name: str) -> HostState:
        """Return the state of a host, named `host:port`."""
        with self._guard:
            return self._hosts.setdefault(name, HostState(name, self._jobs))

    def slot(self, host: HostState, attempts: Attempts) -> Slot:
        """Return the context manager for one request to a host. Entering it waits for a free slot."""
        return Slot(self, host, attempts)

    def enter(self, host: HostState, attempts: Attempts) -> bool:
        """Wait for the end of the host's pause, then take a free slot. `leave` releases the slot.

        Returns:
            Whether there was a pause.

        Raises:
            RateLimitedError: the pause is longer than the request may wait. This is raised without waiting.
            RemoteError: `timeout`: the budget is used up.
            Cancelled: the command is being stopped.
        """
        waited_for = 0.0  # the `resume_at` of the pause that this thread waits for
        with ExitStack() as shown:
            while True:
                self._budget.check()
                attempts.heartbeat()
                self._hear(host)
                with host.condition:
                    now = self._budget.now()
                    pause = host.resume_at - now
                    if pause > 0:
                        if waited_for != host.resume_at:
                            # `attempts` already counts the whole old pause, so subtract the part that this new pause replaces.
                            attempts.paused(min(0.0, now - waited_for) if waited_for else 0.0)
                            attempts.check_pause(host.name, pause, elsewhere=host.elsewhere)
                            attempts.paused(pause)
                            waited_for = host.resume_at
                            self._announce(host, pause)
                            shown.close()
                            shown.enter_context(self._progress.steps(f"throttled by {host.name} for {host.pause:.0f} s"))
                        host.condition.wait(min(pause, self._budget.remaining, 0.5))
                    elif host.active < host.allowed:
                        host.active += 1
                        is_first, host.ended = host.ended != host.resume_at, host.resume_at
                        break
                    else:
                        host.condition.wait(min(self._budget.remaining, 0.5))
        if waited_for and is_first:
            # Other processes may wait for the end of this pause too, so start at a random time. `allowed` already delays other threads.
            try:
                self._budget.sleep(self._chance() * min(1.0, 0.1 * host.jobs))
            except BaseException:
                self.leave(host, succeeded=False)
                raise
        return waited_for > 0

    def now(self) -> float:
        """Return the time of the budget's clock, in seconds."""
        return self._budget.now()

    def is_paused(self, host: HostState) -> bool:
        """Return whether the host is throttled now."""
        self._hear(host)
        with host.condition:
            return host.resume_at > self._budget.now()

    def _hear(self, host: HostState) -> None:
        """Apply a throttle that another process recorded. Look for it at most once per `_MOMENT`, for all threads together."""
        if self._pauses is None:
            return
        with host.condition:
            now = self._budget.now()
            if now - host.heard_at < _MOMENT:
                return
            found = self._pauses.update(host.name)
            host.heard_at = now
            if found is None or found.left < -limits.RECENT_PAUSE:
                return
            if now >= host.resume_at:
                host.slow_down()
            if now + found.left > host.resume_at:
                host.resume_at, host.pause, host.elsewhere = now + found.left, found.seconds, True

    def _announce(self, host: HostState, pause: float) -> None:
        """Tell the user about a pause of a second or more, once per pause."""
        if host.announced != host.resume_at:
            host.announced = host.resume_at
            if host.pause >= 1:
                moment = self._budget.clock_time(pause)
                asks = "asked another marfetch" if host.elsewhere else "asks"
                self._progress.note(f"`{host.name}` {asks} for a pause of {host.pause:.0f} s; continuing at {moment}")

    def leave(self, host: HostState, *, succeeded: bool) -> None:
        """Release the slot that `enter` took."""
        with host.condition:
            host.active -= 1
            if succeeded:
                host.throttles = 0
                host.successes += 1
                if host.allowed < host.bound:
                    host.allowed += 1
                    host.successes = 0
                elif host.successes >= limits.SUCCESSES_TO_RESTORE and host.allowed < host.jobs:
                    host.allowed = host.bound = host.allowed + 1
                    host.successes = 0
            # Wake only the threads that get a slot: dozens may wait, and to wake them all for one slot costs more than a request.
            host.condition.notify(max(1, host.allowed - host.active))

    def hold(self, trouble: RequestFailed) -> float | None:
        """Pause the host if it throttled the request. A second call with the same failure changes nothing.

        Returns:
            The length of the pause in seconds; None if the request was not throttled.
        """
        if trouble.pause is None and trouble.throttled and trouble.host is not None:
            trouble.pause = self.throttled(trouble.host, trouble.retry_after)
        return trouble.pause

    def throttled(self, name: str, seconds: float | None) -> float:
        """Pause all requests to a host. After the pause, allow half as many concurrent requests.

        Args:
            name: the host, as `host:port`.
            seconds: the value of `Retry-After`. If it is None or below `LEAST_PAUSE`, the pause has a random length that grows with
                each throttle.

        Returns:
            The length of the pause in seconds.
        """
        host = self.host(name)
        with host.condition:
            now = self._budget.now()
            if now >= host.resume_at:  # count only the first of several concurrent 429 responses
                host.throttles += 1
                host.slow_down()
            host.successes = 0
            if seconds is None or seconds < limits.LEAST_PAUSE:
                # Without a pause, the tries would be used up within moments.
                seconds = max(seconds or 0.0, self.jitter(host.throttles))
            is_longer = now + seconds > host.resume_at
            if is_longer:
                host.resume_at, host.pause, host.elsewhere = now + seconds, seconds, False
        if is_longer and self._pauses is not None:
            self._pauses.record(name, seconds)
        return seconds

    def jitter(self, tries: int) -> float:
        """Return a random number of seconds to wait (full jitter). Its upper bound doubles with each try."""
        return self._chance() * min(limits.LONGEST_WAIT, limits.FIRST_WAIT * 2.0**tries)

    def attempts(self, what: str, *, of: str | None = None) -> Attempts:
        """Return a new retry counter for one request or download.

        Args:
            what: a short name of the request, for progress notes.
            of: the full name of the request, for the final error; None to use the short name.
        """
        return Attempts(what, self, self._budget, self._progress, of=of)


class Attempts:
    """Counts the tries of one request or download, and decides whether to retry.

    The failed requests and cut transfers of one blob share a counter. A try makes progress only if it receives bytes that no earlier
    try received.

    Args:
        what: a short name of the request, for progress notes.
        of: the full name of the request, for the final error; None to use the short name.
    """

    def __init__(self, what: str, backoff: Backoff, budget: Budget, progress: Progress, *, of: str | None = None) -> None:
        self._what = what
        self._of = of or what
        self._backoff = backoff
        self._budget = budget
        self._progress = progress
        self._tries = 0
        self._failures = 0  # since the last progress
        self._resumes = 0
        self._paused = 0.0  # seconds spent waiting for throttled hosts
        self._progress_at = budget.now()
        self._held = 0
        self._held_at_failure = 0
        self.heartbeat: Callable[[], None] = lambda: None
        """Called regularly while a request waits for its slot."""

    def held(self, size: int) -> None:
        """Record that the first `size` bytes of the blob are stored."""
        if size > self._held:
            self._held = size
            self._progress_at = self._budget.now()

    def check_pause(
        self, host: str, seconds: float, *, elsewhere: bool = False, context: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        """Raise if a pause is longer than this request may wait.

        Args:
            elsewhere: whether another process was throttled, not this one.
            context: facts about the throttled response, for the error.

        Raises:
            RateLimitedError: the pause is too long; its hint says when to retry.
        """
        allowed = self._budget.remaining if self._budget.timeout is not None else limits.WAITING_ALLOWED - self._paused
        if seconds <= allowed:
            return
        moment = self._budget.clock_time(seconds)
        throttled = "throttled another marfetch with this cache" if elsewhere else "throttles requests"
        bypass = "; if you know that the throttle is over, set another cache (`MARFETCH_CACHE_DIR`)" if elsewhere else ""
        raise RateLimitedError(
            f"`{host}` {throttled}: retry in {seconds:.0f} s (at {moment}), which is more than the {max(0.0, allowed):.0f} s"
            " left for waiting",
            hint=f"run it again after {moment} (finished downloads are kept), or set a longer `--timeout`{bypass}",
            **{**context, "host": host, "retry_after": seconds},
        )

    def paused(self, seconds: float) -> None:
        """Add a pause to the time spent waiting, and do not count it as lack of progress."""
        self._paused += seconds
        self._progress_at += seconds

    def cut(self, error: RemoteError) -> None:
        """Wait until a transfer may resume after its connection was cut.

        Raises:
            RemoteError: the given error, if the transfer was cut too often.
        """
        # Some CDNs cut the connection every few MiB. Count a cut only if little data arrived since the previous one.
        self._resumes += self._held - self._held_at_failure < limits.WORTH_A_RESUME
        self._count()
        if self._resumes > limits.RESUMES or self._failures > limits.RESUMES_WITHOUT_PROGRESS or self._is_silent:
            raise self._given_up(error)
        self._progress.note(f"{self._what}: {error.message}; resuming")
        if self._failures > 1:
            self._budget.sleep(self._backoff.jitter(self._failures))

    def failed(self, trouble: RequestFailed) -> None:
        """Wait until a failed request may be retried.

        Raises:
            Error: the error of the failure, if there were too many tries.
            RateLimitedError: the host asks for a longer pause than the request may wait.
        """
        self._count()
        pause = self._backoff.hold(trouble)
        if pause is not None and trouble.host is not None:
            if self._failures >= trouble.tries:
                raise self._given_up(trouble.error)
            self.check_pause(trouble.host, pause, context=trouble.error.context)
            return  # `Backoff.enter` waits for the end of the pause
        if self._failures >= trouble.tries or self._is_silent:
            raise self._given_up(trouble.error)
        self._progress.note(f"{self._what}: {trouble.error.message}; retrying")
        if not trouble.at_once:
            self._budget.sleep(self._backoff.jitter(self._failures))

    def _given_up(self, error: Error) -> Error:
        """Add the subject and the number of tries to an error."""
        if self._of.strip("`") not in error.message:
            error.message += f", for {self._of}"
        if self._tries > 1:
            error.message += f", after {self._tries} tries"
        return error

    def _count(self) -> None:
        self._tries += 1
        progressed = self._held > self._held_at_failure
        self._held_at_failure = self._held
        self._failures = 1 if progressed else self._failures + 1

    @property
    def _is_silent(self) -> bool:
        return self._budget.now() - self._progress_at > limits.NO_PROGRESS
