"""Serve a layout as a registry: open it, bind the ports and start the server."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
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
from .responses import host_parts
from .server import DRAIN, Serving, bind, raise_file_limit

__all__ = ["Running", "ServedRegistry", "Serving", "bind", "counted", "running"]

_log = logging.getLogger("marfetch.serve")
_MAX_WARNINGS: Final = 1000


@dataclass(frozen=True, slots=True)
class Running:
    """A running registry.

    Attributes:
        address: the URL of the registry, for `--endpoint`.
        data_address: the URL of the data endpoint that blob requests are redirected to; None if blobs are served directly.
        is_local: whether only this machine can reach the registry.
        held: the content of the layout when the server started.
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
    allowed: Sequence[str] = (),
    warn: Callable[[str], None],
) -> Iterator[Running]:
    """Serve a layout for the duration of the context. When the context ends, open requests have `DRAIN` seconds to finish.

    Args:
        path: the layout, which is a folder or a tar archive.
        host: the address to listen on.
        port: the port of the registry; 0 for any free port.
        data_port: the port of the data endpoint, to which blob requests are redirected; None to serve blobs directly.
        name: the repository for index names that are only a tag; None to derive it from the path.
        allowed: host names that requests may use in addition to loopback names. If `host` is not a loopback address, any name is allowed.
        warn: called with the description of each problem in the layout, from any thread.

    Raises:
        InputError: `not-a-layout`; `usage`: invalid name, host or allowed host.
        IntegrityError: the layout is invalid, or it is a corrupted bundle.
        PolicyError: `archive-refused`, `limit-passed`.
        StorageError: the layout cannot be read; `port-unusable`.
    """
    if name is not None:
        _check(name)
    names = frozenset(_host_name(one) for one in allowed)
    store = open_store(path)
    listening: list[socket.socket] = []
    try:
        found = opened_store(path, store)
        if found.is_bundle:  # do not hash blobs here: each is verified before it is first served
            refuse_broken(found, check_bundle(found, reads_blobs=False))
        listening += [bind(host, port)] + ([bind(host, data_port)] if data_port is not None else [])
        addresses = [_address(one) for one in listening]
        listens_at = ipaddress.ip_address(listening[0].getsockname()[0])
        listens_at = getattr(listens_at, "ipv4_mapped", None) or listens_at
        wild, is_local = listens_at.is_unspecified, listens_at.is_loopback
        data_address = addresses[1] if data_port is not None else None
        origin = f"http://{{host}}:{listening[1].getsockname()[1]}" if wild and data_address else data_address
        registry = ServedRegistry(
            store,
            name=name or repository_name(path.resolve()),
            data_origin=origin,
            allowed=names if is_local else None,
            warn=_once(warn),
        )
        registry.contents.omitted = found.contents.omitted
        held = registry.contents.load()
        raise_file_limit()
        apps = [_logged(registry.app()), _logged(registry.data_app())][: len(listening)]
        with Serving(list(zip(apps, listening, strict=True)), drain=DRAIN) as serving:
            yield Running(addresses[0], data_address, is_local, held, serving)
    finally:
        for one in listening:
            one.close()
        store.close()


def _logged(app: ASGIApp) -> ASGIApp:
    return logged(app, _log.debug) if _log.isEnabledFor(logging.DEBUG) else app


def _once(warn: Callable[[str], None]) -> Callable[[str], None]:
    """Wrap `warn` to skip repeated warnings, and all warnings after the first `_MAX_WARNINGS`."""
    seen: set[str] = set()

    def warn_once(text: str) -> None:
        if text not in seen and len(seen) < _MAX_WARNINGS:
            seen.add(text)
            warn(text)

    return warn_once


def _check(name: str) -> None:
    reference = Reference.parse(f"localhost/{name}")
    if reference.tag is not None or reference.digest is not None:
        raise InputError(f"`--name` takes a repository without a tag, not `{name}`", code="usage")


def _host_name(text: str) -> str:
    name, port = host_parts(text)
    if name is None or port:
        hint = f"write `--allow-host {name}`" if name else None
        raise InputError(f"`--allow-host` takes a host name without a port, not `{text[:200]}`", code="usage", hint=hint)
    return name


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
