"""A registry that looks like MAR: serves the content of the recipe on two loopback ports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..layout.layout import Layout
from ..reference import Host
from ..serve.run import ServedRegistry, Serving, bind, counted
from .recipe import build


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running registry.

    Attributes:
        layout: the content that it serves.
        host: the address of the registry.
        data: the address of the data endpoint, to which blob requests are redirected, as `host:port`.
        requests: number of requests by kind.
    """

    layout: Layout
    host: Host
    data: str
    requests: Counter[str] = field(default_factory=Counter)

    @property
    def endpoint(self) -> str:
        """The address of the registry, in the form of `--endpoint`."""
        return f"http://{self.host}"


@contextmanager
def embedded(root: Path) -> Iterator[Embedded]:
    """Build the content below a directory and serve it until the context ends."""
    registry_socket, data_socket = bind(), bind()
    host = Host("127.0.0.1", registry_socket.getsockname()[1])
    running = Embedded(Layout(root), host, f"127.0.0.1:{data_socket.getsockname()[1]}")
    build(running.layout, host)
    # Without `check`, the registry serves the corrupted blob of the tour.
    registry = ServedRegistry(running.layout, host, data_origin=f"http://{running.data}", check=False)
    requests = running.requests
    with Serving([(counted(registry.app(), requests), registry_socket), (counted(registry.data_app(), requests), data_socket)]):
        yield running
