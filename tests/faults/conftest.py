"""Fixtures of the fault tests."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..world.proxy import Proxy
from ..world.registry import Registry
from ..world.tls import DATA_NAME
from ..world.world import World, official_world


@pytest.fixture
def world(mar: Registry, tmp_path: Path) -> World:
    """Create the environment of a fault test: a registry that can misbehave, and marfetch as a process (`world.py`)."""
    return World(mar, tmp_path / "world")


@pytest.fixture
def secure(secure: Registry, ca_file: str, tmp_path: Path) -> World:
    """Create the same environment with https, as for a registry of the user."""
    return World(secure, tmp_path / "world", {"SSL_CERT_FILE": ca_file})


@pytest.fixture
def official(official: Registry, ca_file: str, tmp_path: Path) -> Iterator[tuple[World, Proxy]]:
    """Create the same environment with MAR's host names, and the proxy that leads to it. Other connections and name lookups are forbidden."""
    with Proxy({"mcr.microsoft.com": official.port, DATA_NAME: official.data_port}) as proxy:
        yield official_world(official, proxy, tmp_path / "world", ca_file), proxy


def without_privileges() -> None:
    """Drop root's capabilities to ignore file modes (capabilities(7)). Use it as `preexec_fn` of a process."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2, 3):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    """Return the options for a command that obeys file modes even if root runs the tests."""
    if os.geteuid() != 0:
        return {}
    closed = tmp_path / "closed"
    closed.touch(mode=0)
    look = [sys.executable, "-c", f"open({str(closed)!r})"]
    if subprocess.run(look, preexec_fn=without_privileges, capture_output=True, check=False).returncode == 0:
        pytest.skip("root cannot give up its privileges here")
    return {"preexec_fn": without_privileges}


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Check that a test has produced at least one of the exit codes in each of its rows."""
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
            assert told & codes, f"{mark.args[0]} expects the exit codes {told}, but the commands ended with {codes}"
    return outcome
