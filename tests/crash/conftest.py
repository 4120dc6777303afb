"""Fixtures of the crash tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..world.registry import Registry
from .nursery import Nursery
from .scenes import Stage, fill
from .sweep import Count


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


@pytest.fixture
def stage(mar: Registry, nursery: Nursery, tmp_path: Path) -> Stage:
    fill(mar)
    (tmp_path / "stage" / "home").mkdir(parents=True)
    return Stage(mar, nursery, tmp_path / "stage")


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Count:
    """`count("kill points")` adds one to a sum over all tests. `tests/conftest.py` prints the sum at the end."""

    def add(what: str, number: int = 1) -> None:
        request.node.user_properties.append(("counted", [what, number]))

    return add
