"""The table of all fuzzing targets."""

from __future__ import annotations

from . import answers, archives, charts, documents, names, requests, signatures
from .target import Target

TARGETS: dict[str, Target] = {
    target.name: target for module in (names, answers, documents, charts, archives, signatures, requests) for target in module.TARGETS
}
"""Name → target."""
