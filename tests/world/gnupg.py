"""Home directories of GnuPG with throw-away keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def homes(*names: str) -> Iterator[list[Path]]:
    """Create one empty home directory per name. At the end, stop the agents and delete the directories."""
    place = Path(tempfile.mkdtemp(prefix="mf-", dir="/tmp"))  # the socket of the agent has a short name
    found = [place / name for name in names]
    try:
        for home in found:
            home.mkdir(mode=0o700)
        yield found
    finally:
        for home in found:
            subprocess.run(["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": str(home)}, check=False, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)


def new_key(home: Path, identity: str) -> None:
    """Create a key without a passphrase that can sign.

    Args:
        identity: the name and address, such as `x <x@example.invalid>`.
    """
    line = ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", identity, "rsa3072", "sign"]
    subprocess.run(line, env={**os.environ, "GNUPGHOME": str(home)}, check=True, capture_output=True)
