"""Unpacking archives as a pull does, without a registry."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from marfetch.artifact.chart import ExpectedChart, Unpacking
from marfetch.oci import Descriptor, Digest
from marfetch.place.destination import Destination, State, Wish

TOY: Final = ExpectedChart("toy", "1.2.3")


def wish(data: bytes, expected: ExpectedChart | None = None, name: str = "toy") -> Wish:
    descriptor = Descriptor("application/octet-stream", Digest.of(data), len(data))
    return Wish(name, descriptor, "a", Unpacking("toy-1.2.3.tgz", expected))


def unpack(out: Path, data: bytes, expected: ExpectedChart | None = None, *, force: bool = False) -> Path:
    with Destination(out) as destination:
        return destination.put(wish(data, expected), lambda: io.BytesIO(data), force=force)


def state(out: Path, data: bytes, expected: ExpectedChart | None = None) -> State:
    with Destination(out) as destination:
        return destination.state(wish(data, expected), lambda: io.BytesIO(data))


def seen(place: Path) -> dict[str, bytes | None]:
    """Everything below a directory: path → bytes, None for a directory; links are what they are."""
    return {
        str(path.relative_to(place)): bytes(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        for path in sorted(place.rglob("*"))
    }
