"""Projects: a project file and its lock file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from marfetch.client.session import Session
from marfetch.project.locking import read_old, settle, upgrades, write
from marfetch.project.sync import Synced
from marfetch.project.wanted import Project, read_project

Make = Callable[..., Project]
"""The fixture `make`."""


def project_of(place: Path, *items: str) -> Project:
    """Write a project file with these artifacts."""
    place.mkdir(exist_ok=True)
    (place / "marfetch.yaml").write_text("schema: 1\nartifacts:" + ("".join(f"\n  - {{{one}}}" for one in items) or " []") + "\n")
    return read_project(place / "marfetch.yaml")


def lock(client: Session, project: Project, *names: str, upgrade: bool = False) -> None:
    """Lock a project, as `marfetch lock` does. The lock file is written only if nothing failed."""
    found = settle(client, project, read_old(project), upgrade=upgrades(project, names) if upgrade or names else ())
    for one in found:
        if one.error is not None:
            raise one.error
    write(project, found)


def outcomes(result: list[Synced]) -> dict[str, str]:
    """Return item name → outcome."""
    return {one.name: one.outcome for one in result}
