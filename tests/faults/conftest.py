"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import trustme

from marfetch.layout.store import Layout
from marfetch.reference import Host

from ..remote.test_transport import DATA_NAME, server_context
from ..world.proxy import Proxy
from ..world.registry import Registry
from ..world.world import World, official_world


@pytest.fixture
def world(mar: Registry, tmp_path: Path) -> World:
    """A twisted registry, and marfetch beside it (`world.py`)."""
    return World(mar, tmp_path / "world")


@pytest.fixture
def secure(recipe: Layout, authority: trustme.CA, ca_file: str, tmp_path: Path) -> Iterator[World]:
    """A registry of the user's own, by https."""
    context = server_context(authority.issue_cert("localhost", "127.0.0.1"))
    with Registry(recipe, names=Host("mar.test"), context=context) as registry:
        yield World(registry, tmp_path / "world", {"SSL_CERT_FILE": ca_file})


@pytest.fixture
def official(recipe: Layout, authority: trustme.CA, ca_file: str, tmp_path: Path) -> Iterator[tuple[World, Proxy]]:
    """A registry under MAR's own names, and the proxy that leads there; nobody else may be connected to, and no name resolved."""
    context = server_context(authority.issue_cert("mcr.microsoft.com", "*.data.mcr.microsoft.com"))
    with Registry(recipe, names=Host("mar.test"), context=context) as registry:
        registry.data_origin = f"https://{DATA_NAME}"
        with Proxy({"mcr.microsoft.com": registry.port, DATA_NAME: registry.data_port}) as proxy:
            yield official_world(registry, proxy, tmp_path / "world", ca_file), proxy


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test that says which exit code its rows end with has seen it."""
    outcome = yield
    codes: set[int] = set()
    for fixture in pyfuncitem.funcargs.values():
        world = fixture[0] if isinstance(fixture, tuple) else fixture
        if isinstance(world, World):
            codes.update(world.codes)
    for mark in pyfuncitem.iter_markers("row"):
        told = mark.args[3]
        if told is not None and codes:
            told = {told} if isinstance(told, int) else set(told)
            assert told & codes, f"{mark.args[0]} promises {told}, but the commands ended with {codes}"
    return outcome
