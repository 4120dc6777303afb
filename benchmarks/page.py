"""The page that the measurements of load are written into, each into a part of its own: `docs/load.md`."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence

from .stage import ROOT

PAGE = ROOT / "docs" / "load.md"


def put(part: str, lines: Sequence[str]) -> None:
    """Print a part, and write it between its marks."""
    text = "\n".join(lines)
    print(text + "\n", flush=True)
    mark, end = f"<!-- {part}: written by the program -->", f"<!-- end of {part} -->"
    page = PAGE.read_text()
    changed, count = re.subn(f"(?s){re.escape(mark)}.*?{re.escape(end)}", lambda _: f"{mark}\n\n{text}\n\n{end}", page)
    if count != 1:
        sys.exit(f"{PAGE} has no place for `{part}`")
    PAGE.write_text(changed)


def machine() -> str:
    """What it was measured on, and how much else was going on there."""
    busy = f"{os.getloadavg()[2]:.1f} processes were running or waiting on average in the last quarter of an hour"
    return f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}; {busy}."
