"""CRL downloads over http, from public addresses only, within limits."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from marfetch.budget import Budget
from marfetch.errors import Error, InputError, PolicyError, RemoteError
from marfetch.remote import crl, limits
from marfetch.remote.certificates import TrustedCertificates
from marfetch.remote.crl import fetch_list, is_public

from ..world.answering import Answering, answering
from ..world.listener import Listener


def fetch(url: str, budget: Budget | None = None) -> bytes:
    return fetch_list(url, budget=budget or Budget(), trust=TrustedCertificates())


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("2002:5db8:d70e::1", False),
        ("::ffff:93.184.215.14", False),
        ("::7f00:1", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("fec0::1", False),
        ("5f00::1", False),
        ("ff0e::1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b:1::5db8:d70e", False),
        ("64:ff9b::93.184.215.14", True),
        ("240.0.0.1", False),
        ("168.63.129.16", False),  # the address of Azure's host services
        ("64:ff9b::168.63.129.16", False),
    ],
)
def test_which_addresses_are_public(text: str, public: bool) -> None:
    assert is_public(text) is public


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.crl",
        "http://localhost/a.crl",
        "http://[::1]/a.crl",
        "http://2130706433/a.crl",
        "http://169.254.0xa9fe/a.crl",
        "http://0x7f.0.0.0x1/a.crl",
        "http://10.1/a.crl",
        "http://crl/a.crl",
        "http://crl.internal/a.crl",
        "http://crl..test/a.crl",
        "http://crl.test./a.crl",
        "http://user:secret@crl.test/a.crl",
        "http://crl.test:8080/a.crl",
        "ldap://crl.test/a.crl",
        "file:///etc/passwd",
        "http:///a.crl",
        "http://crl.test/a b.crl",
        "http://crl.test/a\r\nHost: x",
        "",
    ],
)
def test_crl_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(Error) as caught:
        fetch(url)
    assert isinstance(caught.value, (PolicyError, RemoteError))
    assert "secret" not in caught.value.message


@contextmanager
def serving(
    status: int = 200, body: bytes = b"a list", *, drip: bool = False, location: str | None = None
) -> Iterator[tuple[int, list[dict[str, str]]]]:
    asked: list[dict[str, str]] = []

    class Handler(Answering):
        def get(self) -> None:
            asked.append({"path": self.path, **dict(self.headers.items())})
            if drip:
                threading.Event().wait(3)
            else:
                self.say(status, body, Location=location)

    with answering(Handler) as port:
        yield port, asked


@pytest.fixture
def public_world(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Resolve a test name to this machine, treat its address as public, and use a free port as the default port of http."""

    def lead(port: int) -> None:
        def found(host: str, asked: int, timeout: float) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", asked))]

        monkeypatch.setattr(crl, "resolve", found)
        monkeypatch.setattr(crl, "is_public", lambda text: text == "127.0.0.1")
        monkeypatch.setattr(crl, "_PORTS", {"http": port, "https": 443})

    return lead


def test_a_list_is_fetched_with_the_name_of_its_host_and_nothing_secret(public_world: Any) -> None:
    with serving() as (port, asked):
        public_world(port)
        assert fetch("http://crl.test/pki/a%20b.crl?x=1") == b"a list"
    (one,) = asked
    assert (one["path"], one["Host"]) == ("/pki/a%20b.crl?x=1", "crl.test")
    assert one["User-Agent"].startswith("marfetch/")
    assert not {"Authorization", "Cookie"} & one.keys()


@pytest.mark.parametrize(("status", "location"), [(404, None), (500, None), (302, "http://crl.test/b.crl")])
def test_another_status_than_200_is_an_error(public_world: Any, status: int, location: str | None) -> None:
    with serving(status, location=location) as (port, asked):
        public_world(port)
        with pytest.raises(RemoteError) as caught:
            fetch("http://crl.test/a.crl")
    assert caught.value.code == "unexpected-answer"
    assert len(asked) == 1  # redirects are not followed


def test_a_list_that_is_too_long_is_not_taken(public_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crl, "MAX_CRL_BYTES", 5)
    with serving() as (port, _):
        public_world(port)
        with pytest.raises(PolicyError) as caught:
            fetch("http://crl.test/a.crl")
    assert caught.value.code == "limit-passed"


def test_a_server_that_never_answers_is_left_alone(public_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crl, "LIST_TIME", 0.3)
    with serving(drip=True) as (port, _):
        public_world(port)
        with pytest.raises(RemoteError) as caught:
            fetch("http://crl.test/a.crl")
    assert caught.value.code in ("timeout", "unreachable")


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(host: str, port: int, timeout: float) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in ("93.184.215.14", "10.0.0.1")]

    monkeypatch.setattr(crl, "resolve", found)
    with pytest.raises(PolicyError) as caught:
        fetch("http://crl.test/a.crl")
    assert caught.value.code == "address-refused"


class Forward(Listener):
    """A proxy that answers requests itself, and records their headers."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[str] = []

    def serve(self, client: socket.socket) -> None:
        self.heads.append(client.recv(65536).decode())
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\na list")


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forward]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(crl, "resolve", refuse_to_resolve)
    with Forward() as proxy:
        yield proxy


def refuse_to_resolve(host: str, port: int, timeout: float) -> list[Any]:
    raise socket.gaierror("the proxy resolves names")


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""], ids=["a scheme", "no scheme"])
def test_a_proxy_is_asked_by_the_rules_of_artifacts_and_gets_its_credentials(
    forward: Forward, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, f"{scheme}me:secret@{forward.host}")
    assert fetch("http://crl.test/a.crl") == b"a list"
    (head,) = forward.heads
    assert head.startswith("GET http://crl.test/a.crl HTTP/1.1\r\n")
    assert f"proxy-authorization: basic {base64.b64encode(b'me:secret').decode()}".lower() in head.lower()


def test_a_list_over_https_goes_through_a_tunnel_of_the_proxy(forward: Forward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"me:secret@{forward.host}")
    with pytest.raises(RemoteError):
        fetch("https://crl.test/a.crl")  # the proxy here does not open tunnels
    (head,) = forward.heads
    assert head.startswith("CONNECT crl.test:443 ")
    assert "proxy-authorization: basic" in head.lower()


def test_no_proxy_holds_for_lists_too(forward: Forward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{forward.host}")
    monkeypatch.setenv("no_proxy", "crl.test")
    with pytest.raises(RemoteError):
        fetch("http://crl.test/a.crl")
    assert forward.heads == []


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://127.0.0.1:x"])
def test_a_proxy_that_artifacts_refuse_is_refused_for_lists(forward: Forward, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(InputError):
        fetch("http://crl.test/a.crl")


@pytest.mark.parametrize(
    "host", ["169.254.0xa9fe", "127.0x1", "10.0x000001", "0x7f.0.0.0x1", "2130706433", "intranet", "crl.corp", "localhost.localdomain"]
)
def test_no_proxy_is_asked_for_an_address_however_it_is_spelled(forward: Forward, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("http_proxy", f"http://{forward.host}")
    with pytest.raises(PolicyError):
        fetch(f"http://{host}/a.crl")
    assert forward.heads == []


def test_the_limits_are_short() -> None:
    assert limits.LIST_TIME <= 10
    assert limits.LIST_CONNECT_TIME <= 5
