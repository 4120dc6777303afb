"""The test vectors for signatures (`fixtures/trust`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from .paths import TRUST

VECTORS: Final[dict[str, Any]] = json.loads((TRUST / "cases.json").read_text())
CASES: Final[dict[str, dict[str, Any]]] = {case["name"]: case for case in VECTORS["cases"]}


def write_stores(root: Path) -> Path:
    """Write the trust stores for the test vectors."""
    for store, file in VECTORS["stores"].items():
        directory = root / "x509" / store.replace(":", "/")
        directory.mkdir(parents=True)
        shutil.copyfile(TRUST / file, directory / "root.crt")
    return root
