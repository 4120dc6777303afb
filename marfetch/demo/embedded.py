"""A registry that looks like MAR. It serves the content of the recipe on two loopback ports: one for the registry, one for data."""

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
        layout: the content of the registry.
        host: the address of the registry.
        data: the address (`host:port`) of the data endpoint, to which blob requests are redirected.
        requests: the number of requests so far, by kind.
    """

    layout: Layout
    host: Host
    data: str
    requests: Counter[str] = field(default_factory=Counter)

    @property
    def endpoint(self) -> str:
        """The URL of the registry, for `--endpoint`."""
        return f"http://{self.host}"


@contextmanager
def embedded(root: Path) -> Iterator[Embedded]:
    """Build the content in a directory, and serve it for the duration of the context."""
    registry_socket, data_socket = bind(), bind()
    host = Host("127.0.0.1", registry_socket.getsockname()[1])
    running = Embedded(Layout(root), host, f"127.0.0.1:{data_socket.getsockname()[1]}")
    build(running.layout, host)
    # Turn off `check`, so that the registry serves the blob that the tour corrupts.
    registry = ServedRegistry(running.layout, host, data_origin=f"http://{running.data}", check=False)
    requests = running.requests
    with Serving([(counted(registry.app(), requests), registry_socket), (counted(registry.data_app(), requests), data_socket)]):
        yield running
