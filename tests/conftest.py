"""What all tests share: the world is faked (a look-alike registry on loopback), marfetch itself never."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from marfetch.client import Client, Options
from marfetch.demo.recipe import build
from marfetch.endpoint import Preference
from marfetch.layout.store import Layout
from marfetch.reference import Host, Reference
from marfetch.remote import limits

from .world import tools
from .world.registry import Registry


@pytest.fixture(autouse=True)
def _own_surroundings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's settings, caches, proxies or credentials; those that ask the real MAR need them."""
    if request.node.get_closest_marker("network"):
        return
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
def tool() -> Callable[[str], Path]:
    """`tool("helm4")`: the path of a real tool; skips with the command that gets it, and fails where CI lacks it."""

    def find(name: str) -> Path:
        path = tools.find(name)
        if path is not None:
            return path
        if os.environ.get("CI") == "true":
            pytest.fail(tools.missing(name))
        pytest.skip(tools.missing(name))

    return find


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The look-alike's content, under the name `mar.test`; nobody writes into it."""
    layout = Layout(tmp_path_factory.mktemp("recipe") / "layout")
    build(layout, Host("mar.test"))
    return layout


@pytest.fixture
def mar(recipe: Layout) -> Iterator[Registry]:
    """A registry that looks like MAR and can be twisted (`tests/world/registry.py`)."""
    with Registry(recipe, names=Host("mar.test")) as registry:
        yield registry


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who signs the certificates of the tests."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """Its own certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests have counted (`count` in `tests/crash/conftest.py`), over all of them and all processes."""
    sums: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, value in report.user_properties:
                    if name == "counted":
                        sums[value[0]] += value[1]
    if sums:
        terminalreporter.section("counted")
        for what, number in sorted(sums.items()):
            terminalreporter.line(f"{number:6} {what}")


class Heard:
    """Progress that is kept for looking at."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.sizes: list[int] = []

    def begin(self, name: str, total: int) -> Heard:
        return self

    def held(self, size: int) -> None:
        self.sizes.append(size)

    def end(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def client(mar: Registry, heard: Heard) -> Iterator[Callable[..., Client]]:
    """`client(offline=True, …)`: a client for the twisted registry; all of them share one cache."""
    clients: list[Client] = []

    def make(**options: object) -> Client:
        hosts = options.pop("data_hosts", (mar.data_host,))
        preference = Preference(option=f"{mar.scheme}://{mar.host}", data_hosts=hosts)  # type: ignore[arg-type]
        made = Client(Options(preference, **options), heard)  # type: ignore[arg-type]
        clients.append(made)
        return made

    yield make
    for made in clients:
        made.close(stop=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short, so that tests of time-outs and new tries do not take long. The proportions stay."""
    short = {
        "CONNECT_TIME": 2.0,
        "FIRST_TRY": 0.3,
        "HANDSHAKE_TIME": 1.0,
        "HEADER_TIME": 1.5,
        "GRACE": 0.4,
        "IDLE_TIME": 0.6,
        "RATE_TIME": 1.0,
        "FIRST_WAIT": 0.01,
        "LONGEST_WAIT": 0.05,
        "NO_PROGRESS": 1.5,
    }
    for name, seconds in short.items():
        monkeypatch.setattr(limits, name, seconds)


def ref(text: str) -> Reference:
    return Reference.parse(text)
