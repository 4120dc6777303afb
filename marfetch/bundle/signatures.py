"""Where the signatures of a bundle are checked: the seam between bundles and the check of signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .check import Finding
    from .opened import Opened


def check_signatures(found: Opened, findings: list[Finding]) -> int | None:  # noqa: ARG001 - what a check needs
    """Check the signatures that a bundle carries, offline; what is wrong is added to the findings.

    Args:
        found: `contents` gives the referrers of each artifact, and their bytes.

    Returns:
        How many were checked; None: this marfetch cannot check any.
    """
    return None
