"""The embedded look-alike of MAR: the recipe's content, served on two loopback ports."""

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
    """A registry that runs.

    Attributes:
        layout: what it serves.
        host: where it listens.
        data: where it sends those who ask for a blob, as `host:port`.
        asked: what has been asked of it, by sort.
    """

    layout: Layout
    host: Host
    data: str
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def endpoint(self) -> str:
        """Its address, as `--endpoint` takes it."""
        return f"http://{self.host}"


@contextmanager
def embedded(root: Path) -> Iterator[Embedded]:
    """Build it below a directory and serve it for as long as the context lasts."""
    registry_socket, data_socket = bind(), bind()
    host = Host("127.0.0.1", registry_socket.getsockname()[1])
    running = Embedded(Layout(root), host, f"127.0.0.1:{data_socket.getsockname()[1]}")
    build(running.layout, host)
    # The tour shows what becomes of wrong bytes, so they are not held back here.
    registry = ServedRegistry(running.layout, host, data_origin=f"http://{running.data}", check=False)
    asked = running.asked
    with Serving([(counted(registry.app(), asked), registry_socket), (counted(registry.data_app(), asked), data_socket)]):
        yield running
