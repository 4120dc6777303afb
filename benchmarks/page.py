"""Write the results of the load tests into `docs/load.md`, each into its own section."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence

from .stage import ROOT

PAGE = ROOT / "docs" / "load.md"


def put(part: str, lines: Sequence[str]) -> None:
    """Print a section, and write it between its marks in the page."""
    text = "\n".join(lines)
    print(text + "\n", flush=True)
    mark, end = f"<!-- {part}: written by the program -->", f"<!-- end of {part} -->"
    page = PAGE.read_text()
    changed, count = re.subn(f"(?s){re.escape(mark)}.*?{re.escape(end)}", lambda _: f"{mark}\n\n{text}\n\n{end}", page)
    if count != 1:
        sys.exit(f"{PAGE} has no place for `{part}`")
    PAGE.write_text(changed)


def machine() -> str:
    """Return a sentence about the machine and its load."""
    load = f"load average over 15 minutes: {os.getloadavg()[2]:.1f}"
    return f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}; {load}."
