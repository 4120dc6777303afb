"""What a proxy saw while a command ran: requests, misses, refusals, failures, and other hosts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Scope

from ..endpoint import Address, Endpoint
from ..errors import Error, IntegrityError, PolicyError, StorageError
from ..reference import Host

MAX_NAMED: Final = 10_000
"""Maximum number of requests that are named for each reason. Further ones are only counted."""


@dataclass(slots=True)
class Observations:
    """What a proxy saw. Only the event loop changes it; others read it when the loop has ended.

    Attributes:
        asked: number of requests to the endpoint.
        missing: requests that a recording has no answer to, and other hosts that `replay` refused.
        refused: requests to the endpoint that are never answered, with the reason.
        failures: request → why it could not be answered. A network failure is taken out when a later try succeeds.
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
        """Count a request that cannot be answered."""
        if what in self.missing or len(self.missing) < MAX_NAMED:
            self.missing[what] += 1

    def refuse(self, what: str, reason: str) -> None:
        """Name a request that is never answered."""
        if len(self.refused) < MAX_NAMED:
            self.refused.setdefault(what, reason)

    def fail(self, what: str, error: Error) -> None:
        """Name a request that could not be answered. Wrong bytes stay named, whatever comes later."""
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


def described(endpoint: Endpoint, scope: Scope) -> str:
    """Return a request in words, without its query: it may contain secrets. GET and HEAD are the same question."""
    method = scope["method"] if scope["method"] != "HEAD" else "GET"
    return f"{method} {endpoint.registry.origin}{scope['path']}"


def names_endpoint(endpoint: Endpoint, host: Host) -> bool:
    """Return whether a host is the registry or a data host of an endpoint, whatever its port."""
    patterns = (pattern._replace(host=Host(pattern.host.name)) for pattern in endpoint.data_hosts)
    plain = Address("https", Host(host.name, 443))
    return host.name == endpoint.registry.host.name or any(pattern.matches(plain) for pattern in patterns)
