"""Projects of artifacts, and what a sync made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from marfetch.project.sync import Synced
from marfetch.project.wanted import Project, read_project

Make = Callable[..., Project]


def written(place: Path, items: Sequence[str]) -> Project:
    """The project in a directory, of these artifacts: `reference: aks/foo, version: ^1`."""
    place.mkdir(exist_ok=True)
    (place / "marfetch.yaml").write_text("schema: 1\nartifacts:" + ("".join(f"\n  - {{{one}}}" for one in items) or " []") + "\n")
    return read_project(place / "marfetch.yaml")


def outcomes(result: Sequence[Synced]) -> dict[str, str]:
    """Name → what became of it."""
    return {one.name: one.outcome for one in result}
