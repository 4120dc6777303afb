"""What is known of one host, shared by all threads that ask it."""

from __future__ import annotations

import threading


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
