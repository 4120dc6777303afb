"""What a check of a bundle has found, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be.

    Attributes:
        name: a digest, a file of the archive, or a reference.
    """

    sort: Literal["missing", "extra", "wrong"]
    name: str
    reason: str


@dataclass(slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        findings: nothing where everything is right.
        artifacts, blobs, size: what was looked at; bytes.
    """

    findings: list[Problem] = field(default_factory=list)
    artifacts: int = 0
    blobs: int = 0
    size: int = 0

    def add(self, sort: Literal["missing", "extra", "wrong"], name: object, reason: str) -> None:
        self.findings.append(Problem(sort, str(name), reason))
