"""A layout, served: from a path and some ports to a registry that answers."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp

from ..bundle.check import check_bundle, refuse_broken
from ..bundle.format import opened_store
from ..errors import InputError
from ..layout.readonly import open_store
from ..layout.repositories import Snapshot, repository_name
from ..reference import Reference
from .app import ServedRegistry, counted, logged
from .server import DRAIN, Serving, bind, raise_file_limit

__all__ = ["Running", "ServedRegistry", "Serving", "bind", "counted", "running"]

_log = logging.getLogger("marfetch.serve")
_MAX_WARNINGS: Final = 1000


@dataclass(frozen=True, slots=True)
class Running:
    """A registry that answers.

    Attributes:
        address: of the registry, as `--endpoint` takes it.
        data_address: of the data endpoint, where blobs are redirected to; None where they are answered directly.
        is_local: whether only this machine can reach it.
        held: what the layout held at the start.
        serving: the server.
    """

    address: str
    data_address: str | None
    is_local: bool
    held: Snapshot
    serving: Serving


@contextmanager
def running(
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    data_port: int | None = None,
    name: str | None = None,
    warn: Callable[[str], None],
) -> Iterator[Running]:
    """Serve a layout for as long as the context lasts; what is under way when it ends has `DRAIN` seconds to end too.

    Args:
        path: a folder or a tar.
        port: 0 takes a free one; `data_port` too.
        data_port: None: blobs are answered directly.
        name: the repository of bare tags; None: after the path.
        warn: is told of what is missing or wrong, from any thread.

    Raises:
        InputError: `not-a-layout`; `usage`: name or host cannot be used.
        IntegrityError: the layout is broken, or is a bundle and not as it was written.
        PolicyError: `archive-refused`, `limit-passed`.
        StorageError: the layout cannot be read, or `port-unusable`.
    """
    if name is not None:
        _check(name)
    store = open_store(path)
    listening: list[socket.socket] = []
    try:
        found = opened_store(path, store)
        if found.is_bundle:  # blobs are hashed when they are asked for
            refuse_broken(found, check_bundle(found, reads_blobs=False))
        listening += [bind(host, port)] + ([bind(host, data_port)] if data_port is not None else [])
        addresses = [_address(one) for one in listening]
        wild = ipaddress.ip_address(listening[0].getsockname()[0]).is_unspecified
        data_address = addresses[1] if data_port is not None else None
        origin = f"http://{{host}}:{listening[1].getsockname()[1]}" if wild and data_address else data_address
        registry = ServedRegistry(store, name=name or repository_name(path.resolve()), data_origin=origin, warn=_once(warn))
        held = registry.contents.load()
        raise_file_limit()
        apps = [_told(registry.app()), _told(registry.data_app())][: len(listening)]
        with Serving(list(zip(apps, listening, strict=True)), drain=DRAIN) as serving:
            is_local = ipaddress.ip_address(listening[0].getsockname()[0]).is_loopback
            yield Running(addresses[0], data_address, is_local, held, serving)
    finally:
        for one in listening:
            one.close()
        store.close()


def _told(app: ASGIApp) -> ASGIApp:
    return logged(app, _log.debug) if _log.isEnabledFor(logging.DEBUG) else app


def _once(warn: Callable[[str], None]) -> Callable[[str], None]:
    """Each thing is told once, however often it is asked for, and not without end."""
    told: set[str] = set()

    def tell(text: str) -> None:
        if text not in told and len(told) < _MAX_WARNINGS:
            told.add(text)
            warn(text)

    return tell


def _check(name: str) -> None:
    reference = Reference.parse(f"localhost/{name}")
    if reference.tag is not None or reference.digest is not None:
        raise InputError(f"`--name` takes a repository without a tag, not `{name}`", code="usage")


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
