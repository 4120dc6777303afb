"""What all tests share: the world is faked (a look-alike registry on loopback), marfetch itself never."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import tools


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's settings, caches, proxies or credentials."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("MARFETCH_", "HELM_", "XDG_", "DOCKER_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MARFETCH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def tool() -> Iterator[object]:
    """`tool("helm4")`: the path of a real tool; skips with the command that gets it, and fails where CI lacks it."""

    def find(name: str) -> Path:
        path = tools.find(name)
        if path is not None:
            return path
        if os.environ.get("CI") == "true":
            pytest.fail(tools.missing(name))
        pytest.skip(tools.missing(name))

    return find  # type: ignore[return-value]
