"""Paths in the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
"""The checkout."""
FIXTURES: Final = ROOT / "fixtures"
TRUST: Final = FIXTURES / "trust"
"""The test vectors for signatures."""
