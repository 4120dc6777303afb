"""Bundles for tests: locked projects, and tampered archives."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from marfetch.bundle.format import Part, whole, write_archive
from marfetch.client.session import Session
from marfetch.project.wanted import Project

from .content import ALB, IMAGE, MODULE
from .projects import lock, project_of

ITEMS = (f"reference: {ALB}, version: ~1.7", f"reference: {MODULE}", f'reference: "{IMAGE}:latest", platform: linux/amd64, media-type: "*"')


def locked(client: Session, place: Path, *items: str, upgrade: bool = False) -> Project:
    """Create a project with these artifacts, and lock it."""
    project = project_of(place, *(items or ITEMS))
    lock(client, project, upgrade=upgrade)
    return project


def members(path: Path) -> dict[str, bytes]:
    """Return name → content of the files in an archive, in order."""
    with tarfile.open(path) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]


def blob_names(files: dict[str, bytes]) -> list[str]:
    """Return the names of the files that are blobs."""
    return [name for name in files if name.startswith("blobs/")]


def rewritten(path: Path, to: Path, change: Callable[[dict[str, bytes]], dict[str, bytes] | None]) -> Path:
    """Change the files of an archive, and write the result to `to` in the format that marfetch uses."""
    files = members(path)
    changed = change(files)
    raw = io.BytesIO()
    write_archive(raw, [Part(name, len(data), whole(data)) for name, data in (files if changed is None else changed).items()])
    to.write_bytes(raw.getvalue())
    return to
