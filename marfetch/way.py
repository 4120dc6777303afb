"""How endpoints are reached, before there is a registry to ask: trust, and the connections that are opened ahead."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .endpoint import Endpoint, Preference
from .errors import Error
from .reference import Pasted

if TYPE_CHECKING:
    from .remote.certificates import TrustedCertificates
    from .remote.preconnect import Preconnections


class ConnectionSetup(NamedTuple):
    """The way to one endpoint.

    Attributes:
        early: connections that are opened ahead; None where something stands in between.
    """

    trust: TrustedCertificates
    early: Preconnections | None


class ConnectionSetups:
    """The ways of one command.

    Args:
        ca_file: as `TrustedCertificates`.
        jobs: connections to one host.
    """

    def __init__(self, ca_file: str | None, jobs: int) -> None:
        self._ca_file = ca_file
        self._jobs = jobs
        self._ways: dict[Endpoint, ConnectionSetup] = {}
        self._guard = threading.Lock()

    def to(self, endpoint: Endpoint) -> ConnectionSetup:
        """The way to an endpoint. Here TLS is loaded."""
        with self._guard:
            if endpoint not in self._ways:
                from .remote.certificates import TrustedCertificates
                from .remote.preconnect import Preconnections

                trust = TrustedCertificates(self._ca_file)
                # A proxy is for the transport to find; without one, connections are opened while oras-py is being loaded.
                proxied = any(name.lower().endswith("_proxy") and value for name, value in os.environ.items())
                alone = endpoint.registry.scheme == "https" and not proxied
                self._ways[endpoint] = ConnectionSetup(
                    trust, Preconnections(endpoint.registry, trust.context, self._jobs) if alone else None
                )
            return self._ways[endpoint]

    def preconnect(self, text: str, preference: Preference) -> None:
        """Open a connection to where a reference leads; not for one with a digest, which the cache may hold. Nothing is asked yet.

        Args:
            text: the reference as it was given. What is wrong with it is said when it is its turn.
        """
        with suppress(Error):
            reference = Pasted.parse(text).reference
            early = self.to(preference.of(reference)).early if reference.digest is None else None
            if early is not None:
                early.open()
