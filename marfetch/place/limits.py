"""How much an archive may become when it is unpacked: the figures of `docs/design.md`, in one place."""

from __future__ import annotations

MAX_MEMBERS = 20_000
"""Files and directories of one archive, also directories that only stand in the paths of others; and gzip streams one after another."""
MAX_DEPTH = 64
"""Parts of a member's path: directories one in another, and the member itself."""
MAX_PATH = 1024
"""Bytes of a member's path: the longest that macOS opens; other systems take more."""
MAX_HEADER = 64 * 1024
"""Bytes of an extended header (PAX, or a long name of GNU tar), which is held in memory."""

MAX_CHART = 100 << 20
MAX_CHART_FILE = 5 << 20
"""Bytes of a chart's archive when unpacked, headers included, and of one file in it: what Helm takes (CVE-2025-32386)."""
MAX_UNPACKED = 8 << 30
MAX_FILE = 4 << 30
"""The same for other archives."""
MAX_RATIO = 200
"""How many times its own size an archive may become."""
RATIO_CHECK_MIN_BYTES = 10 << 20
"""Bytes up to which it may become more than that: small texts pack well, and hurt nobody."""
