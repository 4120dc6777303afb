"""How hosts are spared: connections at a time, pauses that a host asked for, and how often one thing is tried.

A pause is the host's, not the request's: every thread that wants something of a host waits until the host wants to be asked again
(egress-limits.md of MAR: clients that get 429 are expected to back off), and afterwards they do not all come at once.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..budget import Budget
from ..content import Progress
from ..errors import Error, RateLimitedError, RemoteError
from . import limits
from .pauses import Pauses

# -- what is known of one host, shared by all threads that ask it


class HostState:
    """What is known of one host: the pause it asked for, and how many requests may be under way.

    After a pause there is one request at a time, and each answer lets one more in, up to half of what was allowed before; from there on
    a row of answers does.
    """

    def __init__(self, name: str, jobs: int) -> None:
        self.name = name
        self.jobs = jobs
        self.allowed = jobs
        self.bound = jobs  # up to which each answer lets one more in
        self.active = 0
        self.resume_at = 0.0  # on the budget's clock
        self.pause = 0.0  # its length in seconds, as the host said it
        self.elsewhere = False  # whether another process was told
        self.announced = 0.0  # the pause that the user was told of
        self.ended = 0.0  # the pause after which somebody has asked first
        self.throttles = 0  # in a row
        self.successes = 0  # in a row
        self.condition = threading.Condition()

    def slow_down(self) -> None:
        """Half as many requests at a time, and they begin with one."""
        self.bound = max(1, self.bound // 2)
        self.allowed = 1
        self.successes = 0


class RequestFailed(Exception):  # noqa: N818 - carries an error and what may be done about it, between the parts of `remote`
    """A request failed.

    Attributes:
        error: what to raise if it is not tried again.
        tries: how often the thing may be tried in all, because of this failure.
        host: the host that failed, where it is to be spared.
        retry_after: seconds that the host asked for; None where it did not say.
        throttled: whether the host said that it is asked too much.
        at_once: whether a new try needs no wait.
        pause: seconds for which the host is left alone because of it, once it is known to everybody.
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
    """One request's place among those to its host, taken for the length of a `with`."""

    def __init__(self, backoff: Backoff, host: HostState, attempts: Attempts) -> None:
        self._backoff = backoff
        self._host = host
        self._attempts = attempts
        self._held = False
        self._waited = False
        self.succeeded = False
        """Whether the host answered what was asked; said before the end."""

    def __enter__(self) -> Slot:
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give()

    def still(self) -> bool:
        """Called when the request is about to be sent: a pause that began while its connection was opened counts for it too.

        Returns:
            Whether a pause was waited out, so that what may have been asked before it has to be asked again.

        Raises:
            Error, Cancelled: as `Backoff.enter`.
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
    """The hosts of one endpoint, shared by all threads.

    Args:
        jobs: requests to one host at a time, 1 to 32.
        chance: a random number from 0 up to 1.
        pauses: tells other processes of pauses, and of theirs; None: there are none.
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
        """The host of this name and port."""
        with self._guard:
            return self._hosts.setdefault(name, HostState(name, self._jobs))

    def place(self, host: HostState, attempts: Attempts) -> Slot:
        """A place among the requests to a host, for one request."""
        return Slot(self, host, attempts)

    def enter(self, host: HostState, attempts: Attempts) -> bool:
        """Wait for the end of the host's pause and for a free place, and take it; `leave` gives it back.

        Returns:
            Whether there was a pause.

        Raises:
            RateLimitedError: the pause is longer than the request may wait; at once, without waiting.
            RemoteError: `timeout`: the budget is used up.
            Cancelled: the command is being stopped.
        """
        waited_for = 0.0  # the end of the pause that this thread waits for
        while True:
            self._budget.check()
            attempts.heartbeat()
            self._hear(host)
            with host.condition:
                now = self._budget.now()
                pause = host.resume_at - now
                if pause > 0:
                    if waited_for != host.resume_at:
                        attempts.paused(min(0.0, now - waited_for) if waited_for else 0.0)  # what was counted and did not pass
                        attempts.check_pause(host.name, pause, elsewhere=host.elsewhere)
                        attempts.paused(pause)
                        waited_for = host.resume_at
                        self._announce(host, pause)
                    host.condition.wait(min(pause, self._budget.remaining, 0.5))
                elif host.active < host.allowed:
                    host.active += 1
                    is_first, host.ended = host.ended != host.resume_at, host.resume_at
                    break
                else:
                    host.condition.wait(min(self._budget.remaining, 0.5))
        if waited_for and is_first:
            # So that processes that waited together do not ask together; within one, the others follow when there was an answer.
            try:
                self._budget.sleep(self._chance() * min(1.0, 0.1 * host.jobs))
            except BaseException:
                self.leave(host, succeeded=False)
                raise
        return waited_for > 0

    def is_paused(self, host: HostState) -> bool:
        """Whether the host has not to be asked now."""
        self._hear(host)
        with host.condition:
            return host.resume_at > self._budget.now()

    def _hear(self, host: HostState) -> None:
        """What other processes were told counts here as well."""
        found = self._pauses.news(host.name) if self._pauses is not None else None
        if found is None or found.left < -limits.RECENT_PAUSE:
            return
        with host.condition:
            now = self._budget.now()
            if now >= host.resume_at:
                host.slow_down()
            if now + found.left > host.resume_at:
                host.resume_at, host.pause, host.elsewhere = now + found.left, found.seconds, True

    def _announce(self, host: HostState, pause: float) -> None:
        """Tell once of each pause that a person would notice."""
        if host.announced != host.resume_at:
            host.announced = host.resume_at
            if host.pause >= 1:
                moment = self._budget.clock_time(pause)
                asks = "asked another marfetch" if host.elsewhere else "asks"
                self._progress.note(f"`{host.name}` {asks} for a pause of {host.pause:.0f} s; going on at {moment}")

    def leave(self, host: HostState, *, succeeded: bool) -> None:
        """Give the place back."""
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
            host.condition.notify_all()

    def hold(self, trouble: RequestFailed) -> float | None:
        """Let everybody wait, where that is what the host asks for; counts once, whoever says it.

        Returns:
            The length of the pause in seconds; None where there is none.
        """
        if trouble.pause is None and trouble.throttled and trouble.host is not None:
            trouble.pause = self.throttled(trouble.host, trouble.retry_after)
        return trouble.pause

    def throttled(self, name: str, seconds: float | None) -> float:
        """The host asks for a pause: for everybody, and with half as many requests at a time afterwards.

        Args:
            seconds: as the host said; None, or next to nothing: a growing random time is taken.

        Returns:
            The length of the pause in seconds.
        """
        host = self.host(name)
        with host.condition:
            now = self._budget.now()
            if now >= host.resume_at:  # of many answers that crossed on their way, the first one counts
                host.throttles += 1
                host.slow_down()
            host.successes = 0
            if seconds is None or seconds < limits.LEAST_PAUSE:
                # None at all, or one that is over before it begins: without a wait of our own all tries would be gone in no time.
                seconds = max(seconds or 0.0, self.jitter(host.throttles))
            is_longer = now + seconds > host.resume_at
            if is_longer:
                host.resume_at, host.pause, host.elsewhere = now + seconds, seconds, False
        if is_longer and self._pauses is not None:
            self._pauses.tell(name, seconds)
        return seconds

    def jitter(self, tries: int) -> float:
        """Seconds to wait after so many tries: full jitter with a growing bound."""
        return self._chance() * min(limits.LONGEST_WAIT, limits.FIRST_WAIT * 2.0**tries)

    def attempts(self, what: str, *, of: str | None = None) -> Attempts:
        """The account of one thing that is about to be asked for.

        Args:
            what: the thing, in short.
            of: the same at full length, for the last word about it.
        """
        return Attempts(what, self, self._budget, self._progress, of=of)


class Attempts:
    """How often and how long one thing has been tried; decides whether it is tried again.

    Failed requests and cut transfers of one blob share one account. Progress is more bytes than were ever held before.

    Args:
        what: the thing, for messages.
        of: the same at full length.
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
        self._paused = 0.0  # seconds, in pauses that hosts asked for
        self._progress_at = budget.now()
        self._held = 0
        self._held_at_failure = 0
        self.heartbeat: Callable[[], None] = lambda: None
        """Called now and then while it waits for its turn."""

    def held(self, size: int) -> None:
        """A blob has so many bytes now."""
        if size > self._held:
            self._held = size
            self._progress_at = self._budget.now()

    def check_pause(
        self, host: str, seconds: float, *, elsewhere: bool = False, context: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        """Whether a pause that a host asks for may be waited out.

        Args:
            elsewhere: another process was told.
            context: facts about the answer that asked for it.

        Raises:
            RateLimitedError: it may not; says when to come back.
        """
        allowed = self._budget.remaining if self._budget.timeout is not None else limits.WAITING_ALLOWED - self._paused
        if seconds <= allowed:
            return
        moment = self._budget.clock_time(seconds)
        who = ", as it told another marfetch with this cache" if elsewhere else ""
        way = ". Where you know better, use another cache (`MARFETCH_CACHE_DIR`)" if elsewhere else ""
        raise RateLimitedError(
            f"`{host}` wants to be asked again in {seconds:.0f} s (at {moment}){who}, which is more than the {max(0.0, allowed):.0f} s"
            " that are left for waiting",
            hint=f"run it again after {moment}; what was fetched is kept. A longer `--timeout` lets marfetch wait{way}",
            **{**context, "host": host, "retry_after": seconds},
        )

    def paused(self, seconds: float) -> None:
        """A pause that a host asked for is being waited out; that is no lack of progress."""
        self._paused += seconds
        self._progress_at += seconds

    def cut(self, error: RemoteError) -> None:
        """A transfer was cut: go on, or raise the error.

        Raises:
            RemoteError: the error, when it was cut too often.
        """
        # A front door that cuts every few MiB is no loop: only cuts that brought little count.
        self._resumes += self._held - self._held_at_failure < limits.WORTH_A_RESUME
        self._count()
        if self._resumes > limits.RESUMES or self._failures > limits.RESUMES_WITHOUT_PROGRESS or self._is_silent:
            raise self._given_up(error)
        self._progress.note(f"{self._what}: {error.message}; going on")
        if self._failures > 1:
            self._budget.sleep(self._backoff.jitter(self._failures))

    def failed(self, trouble: RequestFailed) -> None:
        """A request failed: wait until it may be tried again, or raise its error.

        Raises:
            Error: that of the trouble, or `RateLimitedError`.
        """
        self._count()
        pause = self._backoff.hold(trouble)
        if pause is not None and trouble.host is not None:
            if self._failures >= trouble.tries:
                raise self._given_up(trouble.error)
            self.check_pause(trouble.host, pause, context=trouble.error.context)
            return  # `Backoff.enter` waits for the end of the pause, with all the others
        if self._failures >= trouble.tries or self._is_silent:
            raise self._given_up(trouble.error)
        self._progress.note(f"{self._what}: {trouble.error.message}; trying again")
        if not trouble.at_once:
            self._budget.sleep(self._backoff.jitter(self._failures))

    def _given_up(self, error: Error) -> Error:
        """The error, with what it was about and how often that was tried."""
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
