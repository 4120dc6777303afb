"""The results of `marfetch bump`: what happens to each version in the files of a project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..client.session import Session
from ..errors import Error
from ..project.forms.forms import Place
from .decide import Decision
from .survey import LOCKS, SourceFile

Connect = Callable[[str | None], Session]
"""Takes the endpoint of a `marfetch.yaml`, or None for the default, and returns a session."""


@dataclass(frozen=True, slots=True)
class Result:
    """What happens to one place in a file that names an artifact.

    Attributes:
        line: the line of the version.
        form: the kind of file.
        repository: the repository with its host; None if the reference could not be read.
        place: the place; None if no reference could be read.
        endpoint: the endpoint of a `marfetch.yaml`; None for the default.
        error: why the registry could not be asked.
    """

    file: SourceFile
    line: int
    form: str
    repository: str | None
    decision: Decision
    place: Place | None = None
    endpoint: str | None = None
    error: Error | None = None


class BumpPlan(NamedTuple):
    """What happens to the places of a project.

    Attributes:
        results: the places, in the order of the files and lines.
        notes: files that were skipped, with the reason.
    """

    results: tuple[Result, ...]
    notes: tuple[str, ...]

    @property
    def errors(self) -> list[Result]:
        """The places whose repository could not be read."""
        return [one for one in self.results if one.error is not None]

    @property
    def bumped(self) -> list[Result]:
        """The places that change."""
        return [one for one in self.results if one.decision.status == "bumped"]

    def hints(self) -> list[str]:
        """Return the commands that update the lock files next to changed files."""
        found = []
        for file in {one.file.real: one.file for one in self.bumped}.values():
            lock, command = LOCKS.get(file.path.name, ("", ""))
            if lock and file.real.with_name(lock).exists():
                found.append(command.format(file=file.path, directory=file.path.parent))
        return found
