"""What a proxy saw while a command ran: requests, misses, refusals, failures, and other hosts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ..endpoint import Endpoint
from ..errors import Error, IntegrityError, PolicyError, StorageError
from ..reference import Host

MAX_MISSED: Final = 10_000
"""Maximum number of requests to remember in each list."""


@dataclass(slots=True)
class Observations:
    """What a proxy saw. Only the event loop changes it; other threads read it after the loop has ended.

    Attributes:
        asked: number of requests to the endpoint.
        missing: requests that a recording has no answer to, and other hosts that `replay` refused.
        refused: requests to the endpoint that are never answered, with the reason.
        failures: request → why it could not be answered. A network failure is removed when a later try succeeds.
        others: host → number of connections that were passed through.
        denied: host → number of connections that were refused.
        unreachable: hosts of `others` that could not be reached, with the reason.
    """

    asked: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    failures: dict[str, Error] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)
    unreachable: dict[str, str] = field(default_factory=dict)

    def miss(self, what: str) -> None:
        """Count a request that the recording cannot answer, or a connection to a host that is not allowed."""
        if what in self.missing or len(self.missing) < MAX_MISSED:
            self.missing[what] += 1

    def refuse(self, what: str, reason: str) -> None:
        """Remember a request that is never answered."""
        if len(self.refused) < MAX_MISSED:
            self.refused.setdefault(what, reason)

    def fail(self, what: str, error: Error) -> None:
        """Remember why a request could not be answered. A later failure does not replace an integrity error."""
        if not isinstance(self.failures.get(what), IntegrityError):
            self.failures[what] = error

    def succeed(self, what: str) -> None:
        """Forget that the network failed for a request, because a later try succeeded."""
        if what in self.failures and not isinstance(self.failures[what], (IntegrityError, PolicyError)):
            del self.failures[what]

    @property
    def worst(self) -> Error | None:
        """The failure that decides the exit code: wrong bytes before refusals, the disk and the network."""
        order: tuple[type[Error], ...] = (IntegrityError, PolicyError, StorageError)
        ranked = [next((place for place, kind in enumerate(order) if isinstance(one, kind)), len(order)) for one in self.failures.values()]
        return list(self.failures.values())[ranked.index(min(ranked))] if ranked else None


def names_endpoint(endpoint: Endpoint, host: Host) -> bool:
    """Return whether a host is the registry or a data host of an endpoint.

    MAR serves nothing else under its names, so any port of its hosts counts. The user's own registry may share its name with another
    server, so its port must match too, if `host` has a port.
    """
    own = [(endpoint.registry.host, False), *endpoint.data_hosts]
    for pattern, is_wildcard in own:
        is_same = host.name.endswith(f".{pattern.name}") if is_wildcard else host.name == pattern.name
        if is_same and (endpoint.official or host.port in (None, pattern.port or 443)):
            return True
    return False
