"""Where an endpoint's blobs lie: what its redirects said last time, so that a connection to it can be opened ahead.

The data hosts of MAR have regional names below a fixed one. The name is only a guess about the next redirect: it is read through the same
rules as a redirect, and nothing is sent to it before one leads there.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..endpoint import Address, Endpoint
from ..errors import Error
from ..kept import Records


class DataHost:
    """The data host of one endpoint.

    Args:
        root: the cache.
    """

    def __init__(self, root: Path, endpoint: Endpoint) -> None:
        self._kept = Records(root, "data-hosts")
        self._endpoint = endpoint
        self._known: Address | None = None

    @property
    def _only(self) -> Address | None:
        """The one that is named, where it is one host and no pattern for many."""
        hosts = self._endpoint.data_hosts
        if len(hosts) != 1 or hosts[0].wildcard:
            return None
        return Address.parse(f"https://{hosts[0].host}")

    def likely(self) -> Address | None:
        """The host that the next redirect is going to lead to, as far as can be told; none that it must not lead to."""
        found = self._only
        if found is None:
            document = self._kept.get(self._endpoint.name)
            if document is None or not isinstance(document.data, str):
                return None
            with suppress(Error):
                address = Address.parse(document.data)
                self._endpoint.check(address)
                if address.scheme == "https" and address.target == "/":
                    found = self._known = address
        return found if found is not None and not self._endpoint.is_registry(found) else None

    def keep(self, address: Address) -> None:
        """A redirect led there."""
        if self._only is None and (self._known is None or self._known.origin != address.origin):
            self._kept.put(self._endpoint.name, address.origin)
