"""The last check of a path before something is written there: nothing goes into `.git`, however the path gets there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..artifact.filename import is_git
from ..errors import PolicyError


def refuse_git(path: Path) -> None:
    """Refuse a path that leads into `.git`, as it is written or after links are resolved.

    Raises:
        PolicyError: `path-refused`.
    """
    if not any(map(is_git, path.parts)):
        resolved = path
        with suppress(OSError):  # the current directory is gone; opening the path says so
            # UTF-8 whatever the locale is, as `Directory` opens it.
            resolved = Path(os.path.realpath(str(path).encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape"))
        if not any(map(is_git, resolved.parts)):
            return
        where = f"`{path}` leads to `{resolved}`, which is inside `.git`"
    else:
        where = f"`{path}` is inside `.git`"
    raise PolicyError(
        f"nothing is written there: {where}", code="path-refused", path=str(path), rule="no part of a path is `.git` for any file system"
    )
