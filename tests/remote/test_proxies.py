"""The proxy that a request uses, and the hosts without a proxy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from marfetch.endpoint import Address
from marfetch.errors import InputError
from marfetch.reference import Host
from marfetch.remote.proxies import Proxies, is_bypassed

from ..world.proxy import Proxy

REGISTRY = Address.parse("https://registry.corp.example/v2/")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


NAME, PORT, PARENT, OTHER = "registry.corp.example", "registry.corp.example:5000", "corp.example", "xcorp.example"
V4, V6 = "192.0.2.17:5000", "[2001:db8::17]:5000"

COVERED: dict[str, set[str]] = {
    "": set(),
    ",, ,": set(),
    "*": {NAME, PORT, PARENT, OTHER, V4, V6},
    "other.example,*": {NAME, PORT, PARENT, OTHER, V4, V6},
    "corp.example": {NAME, PORT, PARENT},
    "CORP.Example": {NAME, PORT, PARENT},
    ".corp.example": {NAME, PORT},
    "*.corp.example": {NAME, PORT},
    "localhost, *.corp.example ,x": {NAME, PORT},
    "localhost *.corp.example": {NAME, PORT},
    "corp.example:5000": {PORT},
    "*.corp.example:5000": {PORT},
    ".corp.example:443": {NAME},
    "registry.corp.example:443": {NAME},
    "registry.corp.example:": {NAME, PORT},
    "*corp.example": set(),
    "reg*.corp.example": set(),
    ":5000": set(),
    "192.0.2.17": {V4},
    "192.0.2.17:5000": {V4},
    "192.0.2.17:443": set(),
    "192.0.2.0/24": {V4},
    "192.0.2.99/24": {V4},
    "0.0.0.0/0": {V4},
    "0.2.17": set(),
    "192.0.2.0/99": set(),
    "2001:db8::17": {V6},
    "2001:0DB8:0:0::17": {V6},
    "[2001:db8::17]": {V6},
    "[2001:db8::17]:5000": {V6},
    "[2001:db8::17]:443": set(),
    "2001:db8::/32": {V6},
}
HOSTS = (NAME, PORT, PARENT, OTHER, V4, V6)


@pytest.mark.parametrize(("exceptions", "covered"), COVERED.items(), ids=[repr(one) for one in COVERED])
def test_no_proxy_covers_what_it_covers_in_go(exceptions: str, covered: set[str]) -> None:
    hosts = {text: Host.parse(text) for text in HOSTS}
    assert {text for text, host in hosts.items() if is_bypassed(Host(host.name, host.port or 443), exceptions)} == covered


@pytest.mark.tool
@pytest.mark.parametrize("exceptions", ["*.corp.example", ".corp.example", "corp.example:5000", "192.0.2.0/24", "2001:db8::/32"])
def test_crane_reads_no_proxy_in_the_same_way(tool: Callable[[str], Path], exceptions: str) -> None:
    found = set()
    with Proxy({}) as proxy:
        surroundings = os.environ | {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": exceptions}
        for host in HOSTS:
            proxy.asked.clear()
            line = [str(tool("crane")), "digest", f"{host}/aks/foo:1"]
            with contextlib.suppress(subprocess.TimeoutExpired):  # without a proxy, crane tries to connect directly until the timeout
                subprocess.run(line, env=surroundings, capture_output=True, timeout=2, check=False)
            if not proxy.asked:
                found.add(host)
    assert found == COVERED[exceptions]


def test_the_variable_of_a_proxy_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Proxies().of(REGISTRY) is None
    monkeypatch.setenv("ALL_PROXY", "http://all.example:1")
    assert Proxies().of(REGISTRY) == ("http://all.example:1", "`ALL_PROXY`")
    monkeypatch.setenv("HTTPS_PROXY", "upper.example:2")
    assert Proxies().of(REGISTRY) == ("http://upper.example:2", "`HTTPS_PROXY`")
    monkeypatch.setenv("https_proxy", "http://lower.example:3")
    assert Proxies().of(REGISTRY) == ("http://lower.example:3", "`https_proxy`")
    monkeypatch.setenv("NO_PROXY", "*.corp.example")
    assert Proxies().of(REGISTRY) is None
    assert Proxies().of(Address.parse("https://other.example/")) is not None


def test_the_settings_of_the_system_have_exceptions_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def proxy_bypass(host: str) -> bool:
        asked.append(host)
        return host.endswith(".corp.example:443")

    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": "http://system.example:1"})
    monkeypatch.setattr(urllib.request, "proxy_bypass", proxy_bypass)
    assert Proxies().of(REGISTRY) is None
    assert Proxies().of(Address.parse("https://other.example/")) == ("http://system.example:1", "the system's settings")
    assert asked == ["registry.corp.example:443", "other.example:443"]


@pytest.mark.parametrize(
    "url", ["socks5://me:secret@proxy.example", "http://me:secret@", "http://proxy.example:secret", "http://x\tsecret"]
)
def test_the_variable_of_an_unusable_proxy_is_named(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(InputError) as caught:
        Proxies().of(REGISTRY)
    assert "`HTTPS_PROXY`" in caught.value.message
    assert "secret" not in f"{caught.value.message} {caught.value.hint} {caught.value.context}"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_loopback_hosts_use_no_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    assert Proxies().of(Address.parse(f"https://{host}:5000/")) is None
