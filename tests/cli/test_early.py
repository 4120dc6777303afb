"""A command that names a REF connects to its registry before typer is loaded, and others do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from marfetch.cli import early, run
from marfetch.endpoint import Preference
from marfetch.remote.preconnect import ConnectionSetups

from ..world.command import surroundings
from ..world.content import ALB
from ..world.registry import Registry

Opened = Callable[[Sequence[str]], list[str]]
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Return the registries that `connect` would connect to."""
    for name in ("MARFETCH_ENDPOINT", "MARFETCH_DATA_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    found: list[str] = []

    def preconnect(_: ConnectionSetups, text: str, preference: Preference) -> None:
        found.append(f"{text} at {preference.default().registry.name}")

    monkeypatch.setattr(ConnectionSetups, "preconnect", preconnect)

    def connected(words: Sequence[str]) -> list[str]:
        found.clear()
        early.connect(words)
        early.close()
        return found

    return connected


@pytest.mark.parametrize(
    "words",
    [
        "pull aks/foo:1",
        "pull aks/foo aks/bar --version ^1",
        "pull -d out --jobs 4 --quiet aks/foo",
        "show values aks/foo",
        "resolve --ca-file=x.pem -- aks/foo",
        "diff aks/foo:1 aks/foo:2",
    ],
)
def test_a_command_with_a_ref_connects_to_its_registry(opened: Opened, words: str) -> None:
    (found,) = opened(words.split())
    assert found.startswith("aks/foo")
    assert found.endswith(" at mcr.microsoft.com")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "pull",
        "pull --version 1",
        "pull aks/foo --offline",
        "pull aks/foo --help",
        "pull aks/foo -h",
        "pull aks/foo --endpint china",
        "pull aks/foo --version",
        "pull aks/foo --jobs many",
        "pull aks/foo --endpoint ftp://x",
        "show values",
        "verify -f marfetch.yaml",
        "doctor aks/foo",
        "lock",
        "--verbose pull aks/foo",
        "nothing aks/foo",
    ],
)
def test_a_command_that_may_need_no_registry_does_not_connect(opened: Opened, words: str) -> None:
    assert opened(words.split()) == []


def test_options_and_environment_choose_the_registry(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(["pull", "aks/foo", "--endpoint", "china"]) == ["aks/foo at mcr.azure.cn"]
    monkeypatch.setenv("MARFETCH_ENDPOINT", "china")
    assert opened(["pull", "aks/foo"]) == ["aks/foo at mcr.azure.cn"]


def test_a_command_gets_the_early_connections_only_with_the_same_options(opened: Opened) -> None:
    early.connect(["pull", "aks/foo", "--ca-file", "x.pem", "--jobs", "4"])
    first = early.setups("x.pem", 4)
    assert early.setups("x.pem", 4) is first
    assert early.setups("x.pem", 16) is not first
    assert early.setups(None, 4) is not first
    early.close()
    assert early.setups("x.pem", 4) is not first


def test_a_usage_error_closes_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    monkeypatch.setattr(ConnectionSetups, "preconnect", lambda *_: None)
    monkeypatch.setattr(ConnectionSetups, "close", lambda _: closed.append("closed"))
    with pytest.raises(Exception, match="untar"):
        run(["pull", "aks/foo", "--untardir", "x"])
    assert closed == ["closed"]


def test_the_connection_is_opened_before_typer_is_loaded_and_is_used(secure: Registry, ca_file: str, tmp_path: Path) -> None:
    code = """
import sys
from marfetch.remote import dial, preconnect
from marfetch.__main__ import main
connect = dial.connect
def connected(host, *rest):
    sys.stderr.write(f"{'typer' in sys.modules} {'requests' in sys.modules}\\n")
    return connect(host, *rest)
preconnect.connect = connected
sys.exit(main(sys.argv[1:]))
"""
    words = [
        "pull",
        f"{ALB}:1.7.12",
        "--endpoint",
        f"https://localhost:{secure.port}",
        "--ca-file",
        ca_file,
        "--data-host",
        secure.data_host,
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words, "-d", str(tmp_path / "out"), "--quiet"],
        env=surroundings(cache=tmp_path / "cache"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "False False"
    assert secure.connections == 2, "one to the registry and one to the data host, and none that is not used"
