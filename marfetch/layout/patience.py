"""How long somebody waits who wants a blob that is being fetched already, by another process or for another reference.

Whoever fetches it may take his time as long as something comes. One that was suspended, or hangs, would hold up every other one of the
cache for ever; what lies there then stays his, so that a later run can go on with it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..budget import Budget
from ..errors import RemoteError
from ..oci import Descriptor
from ..remote import limits

SAID_AFTER: Final = 5.0
"""Seconds of waiting that need no word."""


class StallGuard:
    """Of all waits in one layout.

    Args:
        note: is told of a wait that takes long.
        excused: whether there is a reason for nothing to come: a host wants to be left alone.
    """

    def __init__(self, budget: Budget, note: Callable[[str], None], excused: Callable[[], bool]) -> None:
        self._budget = budget
        self._note = note
        self._excused = excused

    def wait(self, descriptor: Descriptor, part: Path) -> Callable[[], None]:
        """One wait.

        Args:
            part: where the blob is gathered.

        Returns:
            What is called now and then while it lasts. It raises `RemoteError` (`timeout`) when nothing has come for too long or the
            budget is used up, and `Cancelled`.
        """
        # Nearly always nobody has to wait, so that nothing is looked at before somebody does.
        begun: float | None = None
        since, seen, is_said = 0.0, None, False

        def look() -> None:
            nonlocal begun, since, seen, is_said
            self._budget.check()
            now, state = self._budget.now(), _state(part)
            if begun is None:
                begun, since, seen = now, now, state
            if state != seen or self._excused():
                seen, since = state, now
            if now - since >= limits.NO_PROGRESS:
                raise _stuck(descriptor, part, now - since)
            if not is_said and now - begun >= SAID_AFTER:
                is_said = True
                self._note(
                    f"the blob `{descriptor.digest}` is being fetched already, by another marfetch or for another reference; waiting"
                )

        return look


def _state(part: Path) -> tuple[int, int, int] | None:
    """Something that is another one when something has come."""
    try:
        status = part.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _stuck(descriptor: Descriptor, part: Path, seconds: float) -> RemoteError:
    return RemoteError(
        f"the blob `{descriptor.digest}` is being fetched by another marfetch, but nothing has come into `{part}` for {seconds:.0f} s",
        code="timeout",
        hint="find the other marfetch, which may be suspended, and end it or let it go on; or use `--cache-dir` with another directory",
        digest=str(descriptor.digest),
        path=str(part),
    )
