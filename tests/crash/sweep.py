"""Choose the cases to run: all of them with `make crash`, or as many as a normal test run has time for."""

from __future__ import annotations

import os
from collections.abc import Callable

from .tracing import Step

SWEEP = os.environ.get("MARFETCH_SWEEP") == "1"
"""Whether to run all cases."""
PATIENCE = 7200 if SWEEP else 300
"""Time limit of a test in seconds, on a busy machine."""
Count = Callable[..., None]
"""The fixture `count`."""


def chosen(steps: list[Step], most: int) -> list[Step]:
    """Choose about `most` steps, with an equal share for each system call. Frequent calls also get the unused share of rare calls."""
    by_name: dict[str, list[Step]] = {}
    for step in steps:
        by_name.setdefault(step.name, []).append(step)
    found: list[Step] = []
    for left, name in zip(range(len(by_name), 0, -1), sorted(by_name, key=lambda name: len(by_name[name])), strict=True):
        share = max(1, (most - len(found)) // left)
        own = by_name[name]
        found += own if len(own) <= share else [own[(2 * index + 1) * len(own) // (2 * share)] for index in range(share)]
    return found
