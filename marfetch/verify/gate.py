"""Whether the environment asks for a verification of everything that is fetched; costs nothing to ask."""

from __future__ import annotations

import os
from typing import Final

from ..errors import InputError

ENVIRONMENT: Final = "MARFETCH_VERIFY"


def is_wished() -> bool:
    """Whether `MARFETCH_VERIFY` is `policy`.

    Raises:
        InputError: `usage`: it says something else.
    """
    value = os.environ.get(ENVIRONMENT)
    if value and value != "policy":
        raise InputError(
            f"`{ENVIRONMENT}` is `{value[:40]}`; the only value is `policy`", code="usage", hint="leave it out, or say `policy`"
        )
    return bool(value)
