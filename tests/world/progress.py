"""Record progress events for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Counted:
    """A task that a client reported.

    Attributes:
        unit: the noun for the items.
        done: the number of finished items.
        has_ended: whether its `with` block has ended.
    """

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self.has_ended = False

    def grow(self, count: int) -> None:
        self.total += count

    def advance(self, count: int = 1) -> None:
        self.done += count


class Heard:
    """Records the progress, notes and warnings of a client."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.sizes: list[int] = []
        self.tasks: list[Counted] = []

    def begin(self, name: str, total: int) -> Heard:
        return self

    @contextmanager
    def steps(self, label: str, total: int = 0, unit: str = "artifacts") -> Iterator[Counted]:
        task = Counted(label, total, unit)
        self.tasks.append(task)
        try:
            yield task
        finally:
            task.has_ended = True

    def held(self, size: int) -> None:
        self.sizes.append(size)

    def end(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
