"""Fixtures for all tests. They simulate the environment, such as a registry that looks like MAR, but never marfetch itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from marfetch.__main__ import main
from marfetch.client.session import Session, SessionOptions
from marfetch.demo.recipe import build
from marfetch.endpoint import Preference
from marfetch.layout.layout import Layout
from marfetch.reference import Host
from marfetch.remote import limits

from .world import tools
from .world.command import Answered, Call, Run, marfetch, surroundings
from .world.layouts import Maker
from .world.progress import Heard
from .world.projects import Make, project_of
from .world.real import distribution
from .world.registry import Registry
from .world.tls import DATA_NAME, OFFICIAL, server_context

if TYPE_CHECKING:  # importing the signing code is slow, and few tests need it
    from .world.signed import Signed
    from .world.signing import Authority


@pytest.fixture(autouse=True)
def _own_surroundings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's settings, caches, proxies and credentials from all tests, except the tests against the real MAR."""
    if request.node.get_closest_marker("network"):
        return
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("MARFETCH_", "HELM_", "XDG_", "DOCKER_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("TF_BUILD", "GITHUB_ACTIONS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MARFETCH_CACHE_DIR", str(tmp_path / "cache"))
    # Not inside `tmp_path`, because some tests check its whole content.
    monkeypatch.setenv("XDG_STATE_HOME", f"{tmp_path}-state")


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """`tool("helm4")` returns the path of a real tool. If it is missing, skip the test, or fail in CI."""

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
    """Build the content of the test registry as a read-only layout, under the host name `mar.test`."""
    layout = Layout(tmp_path_factory.mktemp("recipe") / "layout")
    build(layout, Host("mar.test"))
    return layout


@pytest.fixture
def mar(recipe: Layout) -> Iterator[Registry]:
    """Start a registry that looks like MAR and can misbehave on demand (`tests/world/registry.py`)."""
    with Registry(recipe, names=Host("mar.test")) as registry:
        yield registry


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """Create the certificate authority of the tests."""
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> str:
    """Write the authority's own certificate to a file, for `--ca-file`."""
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def secure(recipe: Layout, ca: trustme.CA) -> Iterator[Registry]:
    """Start the same registry over https, under local names."""
    with Registry(recipe, names=Host("mar.test"), context=server_context(ca.issue_cert("localhost", "127.0.0.1"))) as registry:
        yield registry


@pytest.fixture
def official(recipe: Layout, ca: trustme.CA) -> Iterator[Registry]:
    """Start the same registry with certificates for MAR's host names. A test reaches it through a proxy or resolver."""
    with Registry(recipe, names=Host("mar.test"), context=server_context(ca.issue_cert(*OFFICIAL))) as registry:
        registry.data_origin = f"https://{DATA_NAME}"
        yield registry


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def client(mar: Registry, heard: Heard) -> Iterator[Callable[..., Session]]:
    """`client(offline=True, …)` returns a session for the test registry. All sessions share one cache."""
    clients: list[Session] = []

    def make(**options: object) -> Session:
        hosts = options.pop("data_hosts", (mar.data_host,))
        preference = Preference(option=f"{mar.scheme}://{mar.host}", data_hosts=hosts)  # type: ignore[arg-type]
        made = Session(SessionOptions(preference, **options), heard)  # type: ignore[arg-type]
        clients.append(made)
        return made

    yield make
    for made in clients:
        made.close(stop=True)


@pytest.fixture
def run(mar: Registry, tmp_path: Path) -> Run:
    """`run("pull", …)` runs marfetch as a process in an empty directory, `here`. `environment` adds variables to a minimal environment."""
    here = tmp_path / "here"
    here.mkdir()

    def do(*words: object, environment: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        return marfetch(*words, cwd=here, environment=surroundings(mar, tmp_path / "cache", **(environment or {})), **options)

    return do


@pytest.fixture
def call(mar: Registry, capfd: pytest.CaptureFixture[str]) -> Call:
    """`call("pull", …)` runs marfetch in this process with the test registry. Returns exit code, stdout and stderr."""

    def do(*words: object) -> tuple[int, str, str]:
        code = main([*map(str, words), "--endpoint", f"http://{mar.host}", "--data-host", mar.data_host])
        out = capfd.readouterr()
        return code, out.out, out.err

    return do


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Create the signing and timestamping authorities of the tests."""
    from .world.signing import Authority

    return Authority()


@pytest.fixture
def signed(mar: Registry, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Signed:
    """Add the artifact `signed/thing`, which is not signed yet."""
    from .world.signed import Signed

    monkeypatch.setenv("MARFETCH_DATA_HOSTS", mar.data_host)
    return Signed(mar, authority)


@pytest.fixture
def config(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create notation's configuration directory, with a trust policy and trust stores."""
    from .world.signing import policy

    directory = tmp_path / "notation"
    authority.write(directory / "truststore")
    (directory / "trustpolicy.json").write_text(json.dumps(policy()))
    monkeypatch.setenv("NOTATION_CONFIG", str(directory))
    monkeypatch.setenv("NOTATION_CACHE", str(tmp_path / "notation-cache"))
    return directory


@pytest.fixture
def registry(tool: Callable[[str], Path], tmp_path: Path) -> Iterator[str]:
    """Start the registry of the distribution project, which accepts all uploads. Returns `localhost:PORT`."""
    with distribution(tool("registry"), tmp_path / "registry") as host:
        yield host


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make("reference: aks/foo, version: ^1", …)` creates a project with these artifacts."""
    return lambda *items: project_of(tmp_path / "project", *items)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """Create an empty layout, to which the test adds content."""
    return Maker(tmp_path / "made")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`disk("size=1m")` mounts a tmpfs with these options. Skip the test if that is not possible."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "marfetch-test", str(place)], capture_output=True, check=False
        ).returncode:
            pytest.skip("mounting a disk to fill requires root")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def answered(capsys: pytest.CaptureFixture[str]) -> Answered:
    """`answered("verify", …)` runs marfetch in this process with `--json`. Returns the exit code and the JSON object."""

    def do(*words: object) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = main([*map(str, words), "--json"])
        out = capsys.readouterr().out
        assert len(out.splitlines()) == 1, out
        return code, json.loads(out)

    return do


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waits, so that tests of timeouts and retries are fast. The proportions stay the same."""
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


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the sums that the tests of all processes have counted (`count` in `tests/crash/conftest.py`)."""
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a real tool."""
    for item in items:
        if "tool" in getattr(item, "fixturenames", ()):
            item.add_marker("tool")
