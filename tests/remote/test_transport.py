"""TLS, proxies and addresses: how connections are opened, and which hosts are never contacted."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from marfetch.budget import Budget
from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session, SessionOptions
from marfetch.content import Source
from marfetch.endpoint import GLOBAL, Address, Endpoint, Preference
from marfetch.errors import Error, InputError, RemoteError
from marfetch.layout.layout import Layout
from marfetch.oci import Manifest
from marfetch.records import Records
from marfetch.reference import Host, Reference
from marfetch.remote import connection, dial, limits, preconnect
from marfetch.remote.certificates import TrustedCertificates
from marfetch.remote.deadlines import Exchange
from marfetch.remote.preconnect import DataHost, PredictedRequest
from marfetch.remote.transport import GET, Transport
from marfetch.remote.transport import ExactRequest as Sent

from ..world.content import ALB, source_of
from ..world.listener import deaf
from ..world.progress import Heard
from ..world.proxy import Proxy
from ..world.registry import Registry
from ..world.tls import DATA_NAME, server_context

pytestmark = pytest.mark.usefixtures("impatient")


def ask(registry: Registry, heard: Heard, *, name: str = "localhost", **options: object) -> object:
    """Request the manifest of a chart over https, with this host name."""
    preference = Preference(f"https://{name}:{registry.port}", data_hosts=(f"127.0.0.1:{registry.data_port}",))
    with Session(SessionOptions(preference, timeout=20, **options), heard) as client:  # type: ignore[arg-type]
        bound, source = source_of(client, Reference(ALB, None, "1.7.12"))
        return source.manifest(bound)


def test_a_registry_with_a_named_certificate_is_trusted(secure: Registry, heard: Heard, ca_file: str) -> None:
    assert isinstance(ask(secure, heard, ca_file=ca_file), Manifest)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment_names_certificates_too(
    secure: Registry, heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, ca_file)
    assert isinstance(ask(secure, heard), Manifest)


def test_the_first_connection_is_opened_while_the_rest_is_loaded(
    secure: Registry, heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(connection, "connect", lambda *arguments, **_: opened.append(arguments))
    assert isinstance(ask(secure, heard, ca_file=ca_file), Manifest)
    assert opened == []


@pytest.mark.parametrize("what", ["manifest", "conditional", "digest", "tags"])
def test_the_first_request_is_sent_ahead_byte_for_byte_and_once(
    secure: Registry, heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    later: list[bytes] = []
    send = http.client.HTTPConnection.send

    def seen(self: http.client.HTTPConnection, data: bytes) -> None:
        later.append(data)
        send(self, data)

    monkeypatch.setattr(http.client.HTTPConnection, "send", seen)
    preference = Preference(f"https://localhost:{secure.port}", data_hosts=(f"localhost:{secure.data_port}",))
    with Session(SessionOptions(preference, timeout=20, ca_file=ca_file), heard) as client:
        bound, source = source_of(client, Reference(ALB, None, "1.7.12"))
        known = secure.layout.known(replace(bound, host=Host("mar.test")))
        assert known is not None
        if what == "tags":
            assert "1.7.12" in source.tags(bound)
        elif what == "conditional":
            assert source.manifest(bound, known=known) is None
        elif what == "digest":
            assert source.manifest(replace(bound, tag=None, digest=known.digest)) is not None
        else:
            assert source.manifest(bound) is not None
        assert later == []  # the request was sent early, so urllib3 sent nothing more
        assert len(secure.asked) == 1
        assert sum(client.asked.values()) == 1
        assert source.tags(bound)
        assert len(later) == 1  # urllib3 sent the request on the same connection


def test_another_request_than_the_one_that_was_sent_ahead_gets_a_connection_of_its_own(secure: Registry, ca_file: str) -> None:
    address = Address.parse(f"https://localhost:{secure.port}")
    early = preconnect.Preconnections(address, TrustedCertificates(ca_file).context, 1)
    changed = PredictedRequest("/v2/", {"Accept": "text/plain"})
    early.send_early(changed)
    transport = Transport(Endpoint.parse(address.origin), Budget(20), TrustedCertificates(ca_file), early)
    request = Sent(GET, address._replace(target="/v2/"), {})
    with contextlib.closing(transport), contextlib.closing(transport.send(request)) as answer:
        assert answer.status_code == 200
    assert [asked.headers.get("Accept") for asked in secure.asked if asked.target == "/v2/"][-1] != "text/plain"


def test_an_early_request_serves_only_the_same_request(secure: Registry, ca_file: str) -> None:
    address = Address.parse(f"https://localhost:{secure.port}")
    early = preconnect.Preconnections(address, TrustedCertificates(ca_file).context, 2)
    early.open()
    early.send_early(PredictedRequest("/v2/", {}))
    assert early.take("localhost", secure.port, Exchange("/v2/_catalog", 0, float)) is None
    ready = early.take("localhost", secure.port, Exchange("/v2/", 0, float))
    assert ready is not None
    assert ready.sent == PredictedRequest("/v2/", {}).bytes(address)
    ready.socket.close()
    early.close()


def test_a_connection_that_has_waited_for_long_is_not_used(secure: Registry, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    early = preconnect.Preconnection(Address.parse(f"https://localhost:{secure.port}"), TrustedCertificates(ca_file).context)
    early._done.wait(5)
    opened = early._outcome
    assert isinstance(opened, ssl.SSLSocket)
    monkeypatch.setattr(limits, "AHEAD_TIME", -1.0)
    assert early.take("localhost", secure.port) is None
    assert opened.fileno() == -1


def test_the_data_hosts_connection_is_opened_while_the_manifest_is_asked_for(
    secure: Registry, heard: Heard, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []

    def counted(*arguments: object) -> socket.socket:
        opened.append(arguments[:2])
        return dial.connect(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(connection, "connect", counted)
    preference = Preference(f"https://localhost:{secure.port}", data_hosts=(secure.data_host,))
    with Session(SessionOptions(preference, timeout=20, ca_file=ca_file, cache_dir=tmp_path / "cache"), heard) as client:
        result = pull(client, [Wanted(Reference(ALB, None, "1.7.12"))], PullOptions(tmp_path))
        assert [failed.error.message for failed in result.failed] == []
        assert secure.kinds() == ["manifest", "blob", "data"]
        assert opened == []
    # Cached content needs no data host, so marfetch connects to none.
    expected: list[object] = []
    monkeypatch.setattr(preconnect.Preconnections, "expect", lambda _, address: expected.append(address))
    with Session(SessionOptions(preference, timeout=20, ca_file=ca_file, cache_dir=tmp_path / "cache"), heard) as client:
        assert not pull(client, [Wanted(Reference(ALB, None, "1.7.12"))], PullOptions(tmp_path)).failed
    assert expected == []


def test_the_data_host_of_the_last_redirect_is_the_likely_next_one(tmp_path: Path) -> None:
    host = DataHost(tmp_path, GLOBAL)
    assert host.likely() is None
    host.keep(Address.parse(f"https://{DATA_NAME}/x/y?sig=secret"))
    assert DataHost(tmp_path, GLOBAL).likely() == Address.parse(f"https://{DATA_NAME}")
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert DataHost(tmp_path, Endpoint.parse("https://own.test", ("*.own.test",))).likely() is None


@pytest.mark.parametrize(
    "text", ["https://evil.test", f"http://{DATA_NAME}", f"https://{DATA_NAME}/path", "https://127.0.0.1", "", 7, None]
)
def test_a_kept_data_host_that_no_redirect_may_lead_to_is_not_connected_to(tmp_path: Path, text: str | int | None) -> None:
    Records(tmp_path, "data-hosts").put(GLOBAL.name, text)
    assert DataHost(tmp_path, GLOBAL).likely() is None


def test_an_unused_preconnection_is_closed(secure: Registry, ca_file: str) -> None:
    address = Address.parse(f"https://localhost:{secure.port}")
    unwanted = preconnect.Preconnection(address, TrustedCertificates(ca_file).context)
    assert unwanted.take("localhost", 1) is None
    unwanted._done.wait(5)
    opened = unwanted._outcome
    assert isinstance(opened, ssl.SSLSocket)
    unwanted.close()
    assert not is_open(opened)
    assert unwanted.take("localhost", secure.port) is None


def is_open(sock: socket.socket) -> bool:
    return sock.fileno() != -1


def test_a_connection_that_is_wanted_before_it_is_open_is_waited_for(secure: Registry, ca_file: str) -> None:
    wanted = threading.Event()

    def context() -> ssl.SSLContext:
        wanted.wait(5)
        return TrustedCertificates(ca_file).context()

    early = preconnect.Preconnection(Address.parse(f"https://localhost:{secure.port}"), context)
    threading.Timer(0.1, wanted.set).start()
    taken = early.take("localhost", secure.port)
    assert taken is not None
    assert taken.socket.server_hostname == "localhost"
    taken.socket.close()


def test_an_unknown_authority_is_not_trusted_and_not_asked_again(secure: Registry, heard: Heard) -> None:
    with pytest.raises(RemoteError) as caught:
        ask(secure, heard)
    assert caught.value.code == "tls"
    assert f"`localhost:{secure.port}`" in caught.value.message
    assert "--ca-file" in str(caught.value.hint)
    assert secure.asked == []


def test_another_name_is_not_trusted(recipe: Layout, ca: trustme.CA, heard: Heard, ca_file: str) -> None:
    context = server_context(ca.issue_cert("x.azureedge.net"))
    with Registry(recipe, names=Host("mar.test"), context=context) as registry, pytest.raises(RemoteError) as caught:
        ask(registry, heard, ca_file=ca_file)
    assert caught.value.code == "tls"


@pytest.mark.parametrize("days", [-2, 2])
def test_a_certificate_of_another_time_asks_for_a_look_at_the_clock(
    recipe: Layout, ca: trustme.CA, heard: Heard, ca_file: str, days: int
) -> None:
    now = dt.datetime.now(dt.UTC)
    near, far = now + dt.timedelta(days=days), now + dt.timedelta(days=days * 2)
    certificate = ca.issue_cert("localhost", not_before=min(near, far), not_after=max(near, far))
    with Registry(recipe, names=Host("mar.test"), context=server_context(certificate)) as registry, pytest.raises(RemoteError) as caught:
        ask(registry, heard, ca_file=ca_file)
    assert caught.value.code == "tls"
    assert "clock" in str(caught.value.hint)


def test_https_never_becomes_http(secure: Registry, heard: Heard, ca_file: str) -> None:
    secure.on("manifest").redirects(f"http://localhost:{secure.port}/v2/")
    with pytest.raises(Error) as caught:
        ask(secure, heard, ca_file=ca_file)
    assert caught.value.exit_code == 4


def test_a_registry_by_plain_http_is_named_as_one(mar: Registry, heard: Heard, ca_file: str) -> None:
    with pytest.raises(RemoteError) as caught:
        ask(mar, heard, ca_file=ca_file)
    assert caught.value.code == "tls"
    assert "plain http" in caught.value.message
    assert f"`http://localhost:{mar.port}`" in caught.value.hint
    assert "certificate" not in f"{caught.value.message} {caught.value.hint}"


def test_a_plain_http_registry_elsewhere_is_not_to_be_used(mar: Registry, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "resolve", lambda *_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", mar.port))])
    with pytest.raises(RemoteError) as caught:
        ask(mar, heard, name="registry.corp.example")
    assert "plain http" in caught.value.message
    assert "http://" not in caught.value.hint


@pytest.mark.parametrize("variable", ["--ca-file", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"])
def test_the_certificates_that_were_used_are_named(
    secure: Registry, heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "certs").mkdir()
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "certs" / "other.pem"))
    path = str(tmp_path / "certs" if variable == "SSL_CERT_DIR" else tmp_path / "certs" / "other.pem")
    if variable != "--ca-file":
        monkeypatch.setenv(variable, path)
    with pytest.raises(RemoteError) as caught:
        ask(secure, heard, ca_file=path if variable == "--ca-file" else None)
    assert caught.value.code == "tls"
    assert f"`{path}` from `{variable}`" in caught.value.message
    assert "marfetch doctor" in caught.value.hint
    assert "_ssl.c" not in caught.value.message


@pytest.mark.parametrize(("name", "written"), [("192.0.2.17", "192.0.2.17"), ("2001:db8::17", "[2001:db8:0::17]")])
def test_an_own_registry_is_reached_by_its_ip_address(
    recipe: Layout, ca: trustme.CA, heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch, name: str, written: str
) -> None:
    context = server_context(ca.issue_cert(name))
    with Registry(recipe, names=Host("mar.test"), context=context) as registry:
        asked: list[str] = []

        def resolve(host: str, port: int, *_: object) -> list[object]:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(dial, "resolve", resolve)
        assert isinstance(ask(registry, heard, name=written, ca_file=ca_file), Manifest)
        assert set(asked) == {name}
        shown = f"[{name}]" if ":" in name else name
        assert {one.headers["host"] for one in registry.asked} == {f"{shown}:{registry.port}"}
        for other in ("localhost", "192.0.2.18"):  # the certificate is valid only for the address
            with pytest.raises(RemoteError) as caught:
                ask(registry, heard, name=other, ca_file=ca_file)
            assert caught.value.code == "tls"
            assert "that the certificate contains" in caught.value.hint


def test_a_redirect_to_an_ip_address_that_was_not_named_is_refused(secure: Registry, heard: Heard, ca_file: str) -> None:
    secure.on("manifest").redirects("https://192.0.2.17/v2/x")
    with pytest.raises(Error) as caught:
        ask(secure, heard, ca_file=ca_file)
    assert caught.value.exit_code == 4
    assert "localhost" in caught.value.message
    assert "192.0.2.17" in caught.value.message


def test_there_is_no_way_to_turn_the_check_off() -> None:
    context = TrustedCertificates().context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    # Only the doctor reads untrusted certificates, to show their issuer. `tests/doctor/test_examine.py` checks that it sends nothing.
    files = [path for path in Path(connection.__file__).parent.rglob("*.py") if path.name != "probe.py"]
    source = "\n".join(path.read_text() for path in files)
    assert "CERT_NONE" not in source
    assert "verify=False" not in source


# -- proxies


def pulled(heard: Heard, ca_file: str, text: str, **options: object) -> bytes:
    from marfetch.content import read

    with Session(SessionOptions(ca_file=ca_file, timeout=20, **options), heard) as client:  # type: ignore[arg-type]
        bound, source = source_of(client, Reference.parse(text))
        manifest = source.manifest(bound)
        assert isinstance(manifest, Manifest)
        return read(source, bound, manifest.layers[0])


def test_mar_itself_is_reached_through_the_proxy_by_its_official_names(
    official: Registry, heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy({"mcr.microsoft.com": official.port, DATA_NAME: official.data_port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert pulled(heard, ca_file, f"{ALB}:1.7.12")
        assert [line.split()[1] for line in proxy.asked] == ["mcr.microsoft.com:443", f"{DATA_NAME}:443"]
    assert heard.warnings == []
    assert [asked.headers["host"] for asked in official.asked] == ["mcr.microsoft.com", "mcr.microsoft.com", DATA_NAME]
    assert not any("authorization" in asked.headers for asked in official.asked)


@pytest.mark.parametrize(
    "origin", ["https://chinaeast3.data.mcr.azure.cn", "https://evil.example", "https://data.mcr.microsoft.com", "http://" + DATA_NAME]
)
def test_mar_leads_to_its_own_data_hosts_only(
    official: Registry, heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    official.data_origin = origin
    with Proxy({"mcr.microsoft.com": official.port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Error) as caught:
            pulled(heard, ca_file, f"{ALB}:1.7.12")
        assert caught.value.exit_code == 4
        assert len(proxy.asked) == 1


def test_the_endpoint_in_china_is_its_own_pair(official: Registry, heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "chinaeast3.data.mcr.azure.cn"
    official.data_origin = f"https://{name}"
    with Proxy({"mcr.azure.cn": official.port, name: official.data_port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert pulled(heard, ca_file, f"{ALB}:1.7.12", preference=Preference("china"))
        assert pulled(heard, ca_file, f"mcr.azure.cn/{ALB}:1.7.12")


def test_no_credentials_are_given_to_mar_whatever_it_says(
    official: Registry, heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker = tmp_path / "home" / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text('{"auths":{"mcr.microsoft.com":{"auth":"dXNlcjpwYXNz"}}}')
    (tmp_path / "home" / ".netrc").write_text("machine mcr.microsoft.com login user password pass\n")
    official.challenge, official.token = 'Bearer realm="https://mcr.microsoft.com/token"', "x"
    with Proxy({"mcr.microsoft.com": official.port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(RemoteError) as caught:
            pulled(heard, ca_file, f"{ALB}:1.7.12")
    assert caught.value.code == "unauthorized"
    assert len(official.asked) == 1
    assert "authorization" not in official.asked[0].headers


def test_a_proxy_gets_its_credentials_and_they_are_never_shown(
    official: Registry, heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leads = {"mcr.microsoft.com": official.port, DATA_NAME: official.data_port}
    with Proxy(leads, credentials="me:secret") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{proxy.port}")
        assert pulled(heard, ca_file, f"{ALB}:1.7.12")
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:wrong@127.0.0.1:{proxy.port}")
        with pytest.raises(RemoteError) as caught:
            pulled(heard, ca_file, f"{ALB}:1.7.12")
    assert caught.value.code == "proxy"
    assert "407" in caught.value.message
    assert "wrong" not in f"{caught.value.message} {caught.value.hint} {caught.value.context} {heard.notes}"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 503 No\r\n\r\n", b"junk\r\n\r\n"])
def test_a_proxy_that_fails_is_named_as_the_proxy(heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    with Proxy({}, answer=answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(RemoteError) as caught:
            pulled(heard, ca_file, f"{ALB}:1.7.12")
    assert caught.value.code in ("proxy", "cut")


def test_an_unreachable_proxy_is_reported(heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:secret@127.0.0.1:9")
    with pytest.raises(RemoteError) as caught:
        pulled(heard, ca_file, f"{ALB}:1.7.12")
    assert caught.value.code == "proxy"
    assert "the proxy `http://127.0.0.1:9` of `https_proxy`: connection refused" in caught.value.message
    assert "`https_proxy`" in caught.value.hint
    assert "marfetch doctor" in caught.value.hint


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<html>no</html>",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "another protocol", "no status", "a long line", "many headers"],
)
def test_messages_about_broken_connections_have_no_internals(heard: Heard, answer: bytes) -> None:
    def fails(port: int) -> Error:
        with Session(SessionOptions(Preference(f"http://localhost:{port}"), timeout=20), heard) as client:
            bound, source = source_of(client, Reference(ALB, None, "1.7.12"))
            with pytest.raises(Error) as caught:
                source.manifest(bound)
        return caught.value

    with Proxy({}, answer=answer) as server:
        error = fails(server.port)
    said = " ".join([error.message, error.hint, *heard.notes, *heard.warnings])
    assert not re.search(r"Errno|urllib3|object at|_ssl\.c|\[SSL|[A-Z][a-z]+(?:Error|Line|Read|Connection)\b|\(host=", said)


def test_a_proxy_of_another_kind_is_an_input_error(heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://u:secret@127.0.0.1:9")
    with pytest.raises(InputError) as caught:
        pulled(heard, ca_file, f"{ALB}:1.7.12")
    assert "secret" not in caught.value.message


def test_this_machine_is_never_asked_through_a_proxy(
    mar: Registry, client: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    bound, source = source_of(client(), Reference(ALB, None, "1.7.12"))
    assert source.manifest(bound)


def test_no_proxy_is_heeded(heard: Heard, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", ".microsoft.com")
    monkeypatch.setattr(dial, "resolve", lambda *_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))])
    with pytest.raises(RemoteError) as caught:
        pulled(heard, ca_file, f"{ALB}:1.7.12")
    assert caught.value.code == "unreachable"


# -- addresses

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0))


def test_families_take_turns_and_what_worked_goes_first() -> None:
    a, b = V6, (*V6[:4], ("::2", 1, 0, 0))
    c, d = V4, (*V4[:4], ("127.0.0.2", 1))
    assert dial.in_turn([a, b, c, d], None) == [a, c, b, d]
    assert dial.in_turn([a, b, c, d], socket.AF_INET) == [c, a, d, b]
    assert dial.in_turn([c], socket.AF_INET6) == [c]
    assert dial.in_turn([], None) == []


def test_an_ipv6_address_that_hangs_does_not_hold_anybody_up(
    mar: Registry, client: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "_preferred", {})
    with deaf(socket.AF_INET6, "::1") as port:
        infos = [(*V6[:4], ("::1", port, 0, 0)), (*V4[:4], ("127.0.0.1", mar.port))]
        monkeypatch.setattr(dial, "resolve", lambda *_: infos)
        bound, source = source_of(client(), Reference(ALB, None, "1.7.12"))
        begun = time.monotonic()
        assert source.manifest(bound)
        assert 0.25 < time.monotonic() - begun < 2
        # The working address family is remembered, so the next connection does not try the other family first.
        begun = time.monotonic()
        dial.connect("127.0.0.1", mar.port, 5, ()).close()
        assert time.monotonic() - begun < 0.25


def alone(heard: Heard, reference: Reference, *, timeout: float = 10) -> None:
    with Session(SessionOptions(timeout=timeout), heard) as client:
        bound, source = source_of(client, reference)
        source.manifest(bound)


def test_a_host_name_that_does_not_resolve_is_reported(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(RemoteError) as caught:
        alone(heard, Reference(ALB, None, "1.7.12"))
    assert caught.value.code == "unreachable"
    assert "`mcr.microsoft.com`" in caught.value.message


@pytest.mark.slow
def test_a_name_service_that_never_answers_is_given_up(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def wait(*_: object, **__: object) -> None:
        release.wait(10)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    try:
        with pytest.raises(RemoteError) as caught:
            alone(heard, Reference(ALB, None, "1.7.12"), timeout=1)
        assert caught.value.code in ("unreachable", "timeout")
    finally:
        release.set()


def test_a_refused_connection_is_reported(heard: Heard) -> None:
    with pytest.raises(RemoteError) as caught:
        alone(heard, Reference.parse("localhost:9/aks/foo:1"))
    assert caught.value.code == "unreachable"
    assert "refused" in caught.value.message


def test_source_is_a_protocol_that_the_registry_follows(client: Callable[..., Session]) -> None:
    source: Source = source_of(client(), Reference(ALB))[1]
    assert source.repositories()
