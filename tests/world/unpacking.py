"""Helpers for pulling and placing unpacked archives."""

from __future__ import annotations

import io
from collections.abc import Set
from pathlib import Path
from typing import Any, Final

from marfetch.chart.expected import ExpectedChart, Unpacking
from marfetch.client.pull import Pulled, PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session
from marfetch.destination.destination import Destination, OutputFile, OutputState
from marfetch.oci import Descriptor, Digest
from marfetch.reference import Reference

TOY: Final = ExpectedChart("toy", "1.2.3")


def wish(data: bytes, expected: ExpectedChart | None = None, name: str = "toy") -> OutputFile:
    descriptor = Descriptor("application/octet-stream", Digest.of(data), len(data))
    return OutputFile(name, descriptor, "a", Unpacking("toy-1.2.3.tgz", expected))


def unpack(out: Path, data: bytes, expected: ExpectedChart | None = None, *, force: bool = False) -> Path:
    with Destination(out) as destination:
        return destination.put(wish(data, expected), lambda: io.BytesIO(data), force=force, unknown=all_known)


def all_known(_: Set[str]) -> Set[str]:
    """Allow replacing all files, because the tests in `destination/test_created.py` check which files may be replaced."""
    return frozenset()


def state(out: Path, data: bytes, expected: ExpectedChart | None = None) -> OutputState:
    with Destination(out) as destination:
        return destination.state(wish(data, expected), lambda: io.BytesIO(data))


def seen(place: Path) -> dict[str, bytes | None]:
    """Return everything below a directory as path → content, without following links. The content of a directory is None."""
    return {
        str(path.relative_to(place)): bytes(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        for path in sorted(place.rglob("*"))
    }


def fetch(client: Session, *references: str, destination: Path, untar: str | None = "", **more: Any) -> Pulled:
    """Pull these references, and unpack archives.

    Args:
        untar: the directory to unpack into; None: do not unpack archives.
    """
    wanted = [Wanted(Reference.parse(reference)) for reference in references]
    return pull(client, wanted, PullOptions(destination, untar=None if untar is None else Path(untar), **more))
