"""List the files of an artifact: the members of its archives, and its other layers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..artifact.payload import Payload
from ..client.resolve import Found
from ..client.session import Session
from ..destination.archive import Archive, with_top

MAX_TEXT: Final = 4 << 20
"""The maximum size in bytes of a file to keep in memory. For a larger file, only the digest is kept."""
MAX_HELD: Final = 128 << 20
"""The maximum total size in bytes of the files that are kept in memory for one artifact."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """One file of an artifact.

    Attributes:
        size: the size in bytes.
        digest: the SHA-256 hash in hexadecimal.
        raw: the content; None if it is too large to keep in memory.
    """

    size: int
    digest: str
    raw: bytes | None

    @property
    def text(self) -> str | None:
        """The content as text; None if it was not kept, is not UTF-8, or contains NUL."""
        if self.raw is None or b"\0" in self.raw:
            return None
        try:
            return self.raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None


class _Held:
    """The number of bytes that may still be kept in memory for one artifact."""

    def __init__(self) -> None:
        self.left = MAX_HELD


def contents(client: Session, found: Found) -> Mapping[str, FileContent]:
    """Return the files of an artifact by path.

    Raises:
        Error: a layer cannot be fetched, or its archive is invalid.
    """
    held = _Held()
    files: dict[str, FileContent] = {}
    for payload in found.payloads:
        files |= found.resolved.repository.use(
            payload.layer,
            lambda payload=payload: _files(client, payload, held, is_only=len(found.payloads) == 1),  # type: ignore[misc]
        )
    return files


def _files(client: Session, payload: Payload, held: _Held, *, is_only: bool) -> dict[str, FileContent]:
    if payload.unpacking is None:
        return {payload.name: _content(client.cache.pieces(payload.layer), payload.layer.size, held, client)}
    files: dict[str, FileContent] = {}
    above = "" if is_only else f"{payload.name}/"
    with client.cache.open(payload.layer.digest) as blob:
        unpacking = with_top(blob, payload.layer, payload.unpacking, client.budget.check)
        with Archive(blob, payload.layer, unpacking) as archive:
            for member in archive:
                if not member.is_directory:
                    path = above + "/".join(node.name for node in member.way)
                    files[path] = _content(archive.pieces(), member.size, held, client)
    return files


def _content(pieces: Iterator[bytes], size: int, held: _Held, client: Session) -> FileContent:
    hasher = hashlib.sha256()
    is_held = size <= MAX_TEXT and size <= held.left
    kept: list[bytes] = []
    for piece in pieces:
        client.budget.check()
        hasher.update(piece)
        if is_held:
            kept.append(bytes(piece))
    if is_held:
        held.left -= size
    return FileContent(size, hasher.hexdigest(), b"".join(kept) if is_held else None)
