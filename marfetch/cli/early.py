"""Connects to the registry before the command line parser is loaded, which takes longer than a round trip.

The real parser checks the command line afterwards. A wrong guess costs an unused connection to a registry that the endpoint allows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..remote.preconnect import ConnectionSetups

_COMMANDS: Final = frozenset(("pull", "plan", "resolve", "versions", "inspect", "show", "referrers", "images", "verify", "diff", "index"))
"""Commands that send a request to the registry of their first REF."""


class _Opened:
    """The connections that were opened before the command line was parsed, and the options that they depend on."""

    setups: ConnectionSetups | None = None
    options: tuple[str | None, int] = (None, 0)


_opened = _Opened()


def connect(words: Sequence[str]) -> None:
    """Start to connect to the registry that a command line names, if it is certain that the command will need it."""
    if not words or words[0] not in _COMMANDS or any(word in ("--help", "-h", "--offline") for word in words):
        return
    from ..completion.line import read_line, table_of_commands

    line = None
    with suppress(OSError):  # without the table, which only completion needs, nothing is opened early
        line = read_line(table_of_commands(), words)
    if line is None or line.pending is not None or line.has_unknown:
        return
    position = next((number for number, one in enumerate(line.command["arguments"]) if one["takes"] == "REF"), None)
    from ..remote.limits import DEFAULT_JOBS

    jobs = line.last("--jobs") or str(DEFAULT_JOBS)
    if position is None or position >= len(line.arguments) or not (jobs.isascii() and jobs.isdigit()):
        return
    from ..endpoint import Preference
    from ..errors import Error
    from ..remote.preconnect import ConnectionSetups

    ca_file = line.last("--ca-file")
    with suppress(Error):  # the command reports it
        preference = Preference.from_environment(os.environ, line.last("--endpoint"), tuple(line.options.get("--data-host", ())))
        _opened.options = ca_file, int(jobs)
        _opened.setups = ConnectionSetups(ca_file, int(jobs))
        _opened.setups.preconnect(line.arguments[position], preference)


def setups(ca_file: str | None, jobs: int) -> ConnectionSetups:
    """Return the setups for a command with these options. They have the connections that are already open."""
    from ..remote.preconnect import ConnectionSetups

    found = _opened.setups if _opened.options == (ca_file, jobs) else None
    return found or ConnectionSetups(ca_file, jobs)


def close() -> None:
    """Close the connections that the command did not use."""
    opened, _opened.setups = _opened.setups, None
    if opened is not None:
        opened.close()
