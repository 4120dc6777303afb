"""Recorded progress, for tests to inspect."""

from __future__ import annotations


class Heard:
    """The messages of a client during its work."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.sizes: list[int] = []

    def begin(self, name: str, total: int) -> Heard:
        return self

    def held(self, size: int) -> None:
        self.sizes.append(size)

    def end(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
