"""A registry that throttles and records the time of every request, so that tests do not depend on what the client reports.

It answers a number of requests, then throttles all requests until the end of a pause, then answers again. It records when each
request came, whether it came during a pause, and how many requests were open.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from marfetch.layout.layout import Layout
from marfetch.reference import Host

from .registry import Answer, Registry

JOBS = 8
FILES = 24
"""The number of artifacts in each registry."""
FORMS = ("seconds", "date", "nothing")


@dataclass(frozen=True)
class Came:
    """One request.

    Attributes:
        at: seconds on the monotonic clock.
        told: whether it came during a pause.
        together: number of open requests, this one included.
        answered: number of requests answered since the last pause ended.
        pauses: number of pauses that had begun.
        target: the request target.
    """

    at: float
    told: bool
    together: int
    answered: int
    pauses: int
    target: str


class Throttling(Registry):
    """Throttles the registry's own port.

    Args:
        after: number of requests that are answered before the first pause. Each further pause begins with the first request after the last.
        pauses: total number of pauses.
        seconds: the length of each pause.
        form: the form of `Retry-After`: `seconds`, `date` or `nothing`.
        says: the value of `Retry-After`, instead of the true length.
        status: 429 or 503.
        gather: number of waiting requests, beyond the answered ones, that starts the first pause. All are throttled at once, so that
            no other request is open when the pause begins.
        takes: duration of an honest response in seconds, so that concurrent requests overlap.
    """

    def __init__(
        self,
        *arguments: Any,
        after: int = 0,
        pauses: int = 1,
        seconds: float = 2.0,
        form: str = "seconds",
        says: str | None = None,
        status: int = 429,
        gather: int = 1,
        takes: float = 0.02,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, redirect=False, **options)
        self.came: list[Came] = []
        self.ends: list[float] = []
        """When each pause ended, on the monotonic clock."""
        self._left, self._seconds, self._form, self._status = pauses, seconds, form, status
        self._says, self._gather, self._takes = says, gather, takes
        self._allowance = after
        self._active = self._answered = self._waiting = 0
        self._ends_at = 0.0  # wall-clock time, for dates
        self._held: dict[str, threading.Event] = {}
        self._state = threading.Condition()

    def holds(self, part: str) -> threading.Event:
        """Delay the responses to targets that contain `part` until the returned event is set."""
        return self._held.setdefault(part, threading.Event())

    @property
    def while_told(self) -> list[Came]:
        """Return the requests that came during a pause."""
        return [one for one in self.came if one.told]

    def after_pause(self, number: int = 1) -> list[Came]:
        """Return the requests that came after the end of a pause and before the next one."""
        return [one for one in self.came if one.pauses == number and not one.told]

    def _answer(self, kind: str, target: str, headers: dict[str, str]) -> Answer:
        with self._state:
            self._active += 1
            told = self._is_told()
            self.came.append(Came(time.monotonic(), told, self._active, self._answered, len(self.ends), target))
            if not told and self._allowance <= 0 and self._left > 0:
                told = self._begin()
            if told:
                self._active -= 1
                return self._refusal()
            self._allowance -= 1
        answer = super()._answer(kind, target, headers)
        self.ended.wait(self._takes)
        for part, event in self._held.items():
            if part in target:
                event.wait(60)
        with self._state:
            # Before the response is sent: the client may send its next request before this thread continues.
            self._active -= 1
            self._answered += 1
        return answer

    def _is_told(self) -> bool:
        return bool(self.ends) and time.monotonic() < self.ends[-1]

    def _begin(self) -> bool:
        """Begin a pause if enough requests are waiting; return whether there is a pause."""
        begun = len(self.ends)
        self._waiting += 1
        self._state.notify_all()
        deadline = time.monotonic() + 30
        while self._waiting < self._gather and len(self.ends) == begun and time.monotonic() < deadline:
            self._state.wait(0.1)
        if len(self.ends) == begun:
            self._left -= 1
            self._waiting = self._allowance = self._answered = 0
            self._gather = 1
            self._ends_at = time.time() + self._seconds
            if self._form == "date":
                self._ends_at = float(int(self._ends_at) + 1)  # a date has no fractions
            self.ends.append(time.monotonic() + self._ends_at - time.time())
            self._state.notify_all()
        return True

    def _refusal(self) -> Answer:
        left = max(0.0, self._ends_at - time.time())
        said = {"seconds": str(int(left) + (left % 1 > 0)), "date": formatdate(self._ends_at, usegmt=True), "nothing": None}[self._form]
        body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"too many requests"}]}' if self._status == 429 else b""
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        said = self._says or said
        return Answer(self._status, headers + ([("Retry-After", said)] if said is not None else []), body)


Throttles = Callable[..., Throttling]
"""`throttling(after=3, seconds=2, …)` starts a registry that throttles in this way, with the artifacts `aks/busy0:1` and so on."""


@contextmanager
def throttles(layout: Layout, context: Callable[[], ssl.SSLContext | None] = lambda: None) -> Iterator[Throttles]:
    """Yield a function that starts such registries. They stop at the end of the context.

    Args:
        context: returns the TLS settings of each registry; None for http.
    """
    with ExitStack() as stack:

        def make(**how: Any) -> Throttling:
            registry = stack.enter_context(Throttling(layout, names=Host("mar.test"), context=context(), **how))
            for number in range(FILES):
                registry.add_artifact(f"aks/busy{number}", "1", (f"busy{number}.bin", b"%d" % number))
            return registry

        yield make


def refs(*numbers: int) -> list[str]:
    return [f"aks/busy{number}:1" for number in numbers]


def ramps_up(registry: Throttling, processes: int = 1) -> None:
    """Check that after each pause every process sends one request, and more only after responses."""
    for number in range(1, len(registry.ends) + 1):
        for one in registry.after_pause(number):
            assert one.together <= processes + one.answered, (number, one)
