"""The type of a fuzzing target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..world.promise import guarded, promised


@dataclass(frozen=True)
class Target:
    """A fuzzing target for code that reads untrusted bytes.

    Attributes:
        run: reads the bytes, and raises an AssertionError if a property that must hold for all inputs does not hold.
        seeds: the first inputs. Later inputs are changed seeds.
        codes: the exit codes that errors of this target may have.
        reads: the tested functions. The seeds reach all of them.
        runs: how often the short run in `make test` calls the target, depending on the cost of a call.
        most: the maximum size of an input in bytes.
        programs: whether the target may try to start programs.
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
        """Read these bytes, and check what is promised for all inputs (`promise.py`).

        Raises:
            Exception: the bytes reveal a fault.
        """
        with guarded(programs=self.programs), promised(*self.codes):
            self.run(data)
