"""Fixtures for recordings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..world.proxy import Proxy
from ..world.registry import Registry
from ..world.tls import DATA_NAME
from .scene import Scene


@pytest.fixture
def scene(official: Registry, tmp_path: Path, ca_file: str) -> Iterator[Scene]:
    leads = {"mcr.microsoft.com": official.port, DATA_NAME: official.data_port}
    with Proxy(leads, credentials="user:secret") as proxy:
        yield Scene(official, proxy, tmp_path, ca_file)
