"""The first request of a command as bytes, known before oras-py and what sends its requests are there.

It goes out over a connection that is opened ahead, and counts only if `registry` comes to send the very same bytes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .. import __version__
from ..endpoint import Address
from ..oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from ..reference import Reference

USER_AGENT: Final = f"marfetch/{__version__} (+https://github.com/marfetch/marfetch)"
ALWAYS: Final = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
"""The headers of every request."""
ACCEPT: Final = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"


class PredictedRequest(NamedTuple):
    """One GET to the registry.

    Attributes:
        target: the path.
        headers: besides those of every request, in their order.
    """

    target: str
    headers: dict[str, str]

    def bytes(self, address: Address) -> bytes:
        """As HTTP/1.1 writes it (RFC 9112).

        Args:
            address: the registry.
        """
        fields = {"Host": address.name, **ALWAYS, **self.headers}
        lines = [f"GET {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")


def manifest(reference: Reference, known: Descriptor | None) -> PredictedRequest:
    """Ask for a manifest, unless it is the known one still."""
    headers = {"Accept": ACCEPT}
    if known is not None:
        headers["If-None-Match"] = f'"{known.digest}"'
    return PredictedRequest(f"/v2/{reference.repository}/manifests/{reference.tag or reference.digest}", headers)


def tags(reference: Reference) -> PredictedRequest:
    """Ask for all tags."""
    return PredictedRequest(f"/v2/{reference.repository}/tags/list", {"Accept": "application/json"})
