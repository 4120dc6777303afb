"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from ..registry import Registry
from .world import World


@pytest.fixture
def world(mar: Registry, tmp_path: Path) -> World:
    """A twisted registry, and marfetch beside it (`world.py`)."""
    return World(mar, tmp_path / "world")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test that says which exit code its rows end with has seen it."""
    outcome = yield
    world = pyfuncitem.funcargs.get("world")
    for mark in pyfuncitem.iter_markers("row"):
        codes = mark.args[3]
        if codes is not None and isinstance(world, World):
            told = {codes} if isinstance(codes, int) else set(codes)
            assert told & set(world.codes), f"{mark.args[0]} promises {told}, but the commands ended with {world.codes}"
    return outcome
