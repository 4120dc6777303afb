"""The type of a fuzzing target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..world.promise import guarded, promised


@dataclass(frozen=True)
class Target:
    """One reader of foreign bytes.

    Attributes:
        run: reads the bytes; fails where something does not hold that holds for all of them.
        seeds: what it is given first, and what is changed.
        codes: the exit codes that its errors may have (contract, "Exit codes").
        reads: the functions that it is for; the seeds reach every one of them.
        runs: how often the short run of `make test` calls it; by what a call costs.
        most: bytes of one input.
        programs: it may try to start programs.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    codes: tuple[int, ...]
    reads: tuple[str, ...]
    runs: int = 2000
    most: int = 4096
    programs: bool = False

    def __call__(self, data: bytes) -> None:
        """Read these bytes and hold the promise.

        Raises:
            Exception: whatever breaks it.
        """
        with guarded(programs=self.programs), promised(*self.codes):
            self.run(data)
