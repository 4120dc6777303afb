"""The doctor: every fault is produced on loopback and distinguished from the others."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme

from marfetch.__main__ import main
from marfetch.client.session import Session
from marfetch.doctor import examine as examination
from marfetch.doctor.examine import Diagnosis, ExamineOptions, examine
from marfetch.doctor.findings import CHECKS, Finding, ok
from marfetch.endpoint import CHINA, GLOBAL, Endpoint
from marfetch.helm.setup import set_up
from marfetch.layout.layout import Layout
from marfetch.reference import Host, Reference
from marfetch.remote.pauses import Pauses
from marfetch.remote.probe import tunnel

from ..world.command import Call
from ..world.listener import deaf
from ..world.paths import ROOT
from ..world.progress import Heard
from ..world.proxy import Proxy
from ..world.real import free_port
from ..world.registry import BLOCKED, MSEDGE, Registry
from ..world.tls import DATA_NAME, server_context

LONGEST_STEP = examination.PATIENCE  # read before a fixture shortens it
Look = Callable[..., Diagnosis]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "PATIENCE", 1.0)
    monkeypatch.setattr(examination, "REGION_TIME", 0.5)


@pytest.fixture
def look(heard: Heard, mar: Registry) -> Look:
    """Return a function that examines an endpoint, by default the test registry."""

    def call(endpoint: Endpoint | None = None, **options: Any) -> Diagnosis:
        own = Endpoint.parse(f"http://{mar.host}", (mar.data_host,))
        return examine(ExamineOptions(endpoint or own, **options), heard)

    return call


def faults(found: Diagnosis) -> list[str]:
    return [one.id for one in found.findings if one.status == "fault"]


def one(found: Diagnosis, name: str) -> Finding:
    return next(finding for finding in found.findings if finding.id == name)


def resolving(monkeypatch: pytest.MonkeyPatch, answers: dict[int, list[str]]) -> None:
    """Make every DNS lookup return these addresses, by address family."""

    def ask(host: str, port: int, family: int = 0, kind: int = 0, *_: int) -> list[Any]:
        found = [(one, address) for one in answers for address in answers[one] if family in (0, one)]
        if not found:
            raise socket.gaierror(-2, "Name or service not known")
        return [
            (one, kind or socket.SOCK_STREAM, 6, "", (address, port, 0, 0) if one == socket.AF_INET6 else (address, port))
            for one, address in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", ask)


# -- no faults


def test_a_good_registry_has_no_fault(look: Look) -> None:
    found = look()
    assert faults(found) == []
    assert {finding.id for finding in found.findings if finding.status == "warning"} == {"endpoint", "tls"}
    assert one(found, "redirect").status == one(found, "data-host").status == one(found, "range").status == "ok"


def test_every_finding_has_one_id_and_says_what_to_do(look: Look, mar: Registry) -> None:
    mar.on("data").answers(500)
    found = look()
    ids = [finding.id for finding in found.findings]
    assert len(ids) == len(set(ids))
    assert set(ids) <= set(CHECKS)
    for finding in found.findings:
        assert finding.saw
        assert (finding.status == "ok") == (not finding.means) == (not finding.do)


def test_the_named_reference_is_the_one_that_is_tried(look: Look, mar: Registry) -> None:
    assert faults(look(reference=Reference("psresource/az.accounts", tag="5.3.0"))) == []
    assert not any("alb-controller" in asked.target for asked in mar.asked)


def test_a_registry_without_the_default_is_tried_with_what_it_has(look: Look, mar: Registry) -> None:
    mar.on("tags", path="alb-controller").answers(404)
    found = look()
    assert one(found, "manifest").status == "ok"
    assert "ingress-azure" in one(found, "manifest").saw


def test_a_wrong_reference_is_a_fault_of_its_own(look: Look) -> None:
    found = look(reference=Reference("aks/none", tag="1"))
    assert faults(found) == ["manifest"]
    assert "404" in one(found, "manifest").saw


# -- the network path


@pytest.mark.slow
def test_an_address_that_drops_packets_is_a_firewall(look: Look) -> None:
    with deaf() as port:
        found = look(Endpoint.parse(f"http://127.0.0.1:{port}"))
    assert faults(found) == ["connection"]
    assert "no answer" in one(found, "connection").saw
    assert "dropped" in one(found, "connection").means


def test_a_refused_connection_is_not_a_dropped_one(look: Look) -> None:
    found = look(Endpoint.parse(f"http://127.0.0.1:{free_port()}"))
    assert faults(found) == ["connection"]
    assert "refused" in one(found, "connection").saw
    assert "dropped" not in one(found, "connection").means


def test_a_host_name_that_does_not_resolve_is_reported(look: Look) -> None:
    found = look(Endpoint.parse("https://registry.invalid"))
    assert faults(found) == ["dns"]
    assert "`registry.invalid` does not resolve" in one(found, "dns").saw


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_half_open_ipv6_is_a_warning(look: Look, mar: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, {socket.AF_INET6: ["::1"], socket.AF_INET: ["127.0.0.1"]})
    with deaf(socket.AF_INET6, "::1", mar.port):
        found = look(Endpoint.parse(f"http://localhost:{mar.port}", (mar.data_host,)))
    assert faults(found) == []
    assert one(found, "ipv6").status == "warning"
    assert "IPv6 does not" in one(found, "ipv6").saw


@pytest.mark.parametrize(
    ("addresses", "status", "word"),
    [(["10.1.2.3"], "warning", "split DNS"), (["0.0.0.0"], "fault", "block list"), (["127.0.0.1"], "fault", "block list")],
)
def test_an_answer_that_is_not_the_public_one_is_seen(
    look: Look, monkeypatch: pytest.MonkeyPatch, addresses: list[str], status: str, word: str
) -> None:
    resolving(monkeypatch, {socket.AF_INET: addresses})
    found = look(GLOBAL, timeout=1)
    assert one(found, "dns").status == status
    assert word in one(found, "dns").means


# -- certificates


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Create the certificate authority of a proxy that inspects TLS."""
    return trustme.CA(organization_name="Inspecting Corp")


def test_an_interceptor_is_named_by_its_issuer(look: Look, secure: Registry) -> None:
    found = look(Endpoint.parse(f"https://localhost:{secure.port}"))
    assert faults(found) == ["interception"]
    assert "Inspecting Corp" in one(found, "interception").saw
    assert "--ca-file" in one(found, "interception").do
    assert secure.asked == []


def test_with_its_certificate_a_registry_is_well(look: Look, secure: Registry, ca_file: str) -> None:
    found = look(Endpoint.parse(f"https://localhost:{secure.port}", (f"127.0.0.1:{secure.data_port}",)), ca_file=ca_file)
    assert faults(found) == []
    assert one(found, "tls").status == one(found, "interception").status == "ok"


def test_a_certificate_for_another_name_is_no_interception(look: Look, ca: trustme.CA, recipe: Layout, ca_file: str) -> None:
    with Registry(recipe, names=Host("mar.test"), context=server_context(ca.issue_cert("wrong.azureedge.net"))) as registry:
        found = look(Endpoint.parse(f"https://localhost:{registry.port}"), ca_file=ca_file)
    assert faults(found) == ["tls"]
    assert "other names" in one(found, "tls").means


def test_a_connection_that_is_cut_in_the_greeting_is_a_firewall(look: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def cut() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    client.recv(1)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()

        threading.Thread(target=cut, daemon=True).start()
        found = look(Endpoint.parse(f"https://localhost:{listening.getsockname()[1]}"))
        listening.shutdown(socket.SHUT_RDWR)
    assert faults(found) == ["tls"]
    assert "handshake" in one(found, "tls").means


def test_nothing_is_ever_sent_where_the_certificate_is_not_trusted(look: Look, ca: trustme.CA) -> None:
    context, said = server_context(ca.issue_cert("localhost")), []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as greeted:
                        said.append(greeted.recv(100))

        threading.Thread(target=listen, daemon=True).start()
        found = look(Endpoint.parse(f"https://localhost:{listening.getsockname()[1]}"))
        listening.shutdown(socket.SHUT_RDWR)
    assert "Inspecting Corp" in one(found, "interception").saw
    assert b"".join(said) == b""


# -- proxies


def test_mar_is_examined_through_the_proxy(look: Look, official: Registry, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy({"mcr.microsoft.com": official.port, DATA_NAME: official.data_port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        found = look(GLOBAL, ca_file=ca_file)
    assert faults(found) == []
    assert DATA_NAME in one(found, "redirect").saw
    # The certificate is trusted, but Microsoft does not use its issuer.
    assert one(found, "interception").status == "warning"
    assert "Inspecting Corp" in one(found, "interception").saw


def test_an_inspecting_proxy_is_named_by_its_issuer(look: Look, official: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy({"mcr.microsoft.com": official.port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        found = look(GLOBAL)
    assert faults(found) == ["interception"]
    assert "Inspecting Corp" in one(found, "interception").saw


@pytest.mark.parametrize(
    ("answer", "word"),
    [(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "407"), (b"HTTP/1.1 503 No\r\n\r\n", "503"), (b"", "")],
    ids=["407", "503", "cut"],
)
def test_a_proxy_that_does_not_let_through_is_the_fault(look: Look, monkeypatch: pytest.MonkeyPatch, answer: bytes, word: str) -> None:
    with Proxy({}, answer=answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@127.0.0.1:{proxy.port}")
        found = look(GLOBAL)
    assert faults(found) == ["proxy"]
    assert word in one(found, "proxy").saw
    assert "hunter2" not in str(found)
    assert "marfetch doctor" not in one(found, "proxy").do


def test_a_proxy_that_is_not_there_is_the_fault(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    assert faults(look(GLOBAL)) == ["proxy"]


def test_a_proxy_that_cannot_be_used_is_the_fault(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    assert faults(look(GLOBAL)) == ["proxy"]


# -- answers


@pytest.mark.parametrize(
    ("kind", "twist", "expected", "word"),
    [
        ("base", lambda knob: knob.answers(429, "Ref A: x", retry_after="30"), "throttle", "30 s"),
        ("tags", lambda knob: knob.answers(429, "Ref A: x"), "throttle", "does not say"),
        ("data", lambda knob: knob.answers(429, "", retry_after="7"), "throttle", "7 s"),
        ("base", lambda knob: knob.answers(403, BLOCKED), "block-page", MSEDGE),
        ("manifest", lambda knob: knob.answers(403, BLOCKED), "block-page", MSEDGE),
        ("data", lambda knob: knob.answers(403, BLOCKED), "block-page", MSEDGE),
        ("base", lambda knob: knob.answers(403, ""), "block-page", "403"),
        ("base", lambda knob: knob.answers(503, "no"), "registry", "503"),
        ("base", lambda knob: knob.answers(302, "", Location="https://login.example/?user=secret"), "registry", "login.example"),
        ("base", lambda knob: knob.answers(200, "<html>log in"), "registry", "web page"),
        ("base", lambda knob: knob.closes_at_once(), "registry", "cut"),
        ("base", lambda knob: knob.stalls_before_headers(), "registry", "no response from"),
        ("manifest", lambda knob: knob.answers_with(b"<html>"), "manifest", "malformed"),
        ("manifest", lambda knob: knob.says(Docker_Content_Digest="sha256:" + "0" * 64), "manifest", "header says"),
        ("blob", lambda knob: knob.redirects("https://evil.example/x?sig=secret"), "redirect", "evil.example"),
        ("blob", lambda knob: knob.redirects(None), "redirect", ""),
        ("blob", lambda knob: knob.answers(404, "{}"), "redirect", "404"),
        ("data", lambda knob: knob.answers(403, "<Error><Code>AuthenticationFailed</Code></Error>"), "data-host", "403"),
        ("data", lambda knob: knob.answers(502, "bad gateway"), "data-host", "502"),
        ("data", lambda knob: knob.repeats(500, "not with {query}"), "data-host", "not with …"),
        ("data", lambda knob: knob.resets_after(0), "data-host", ""),
    ],
)  # fmt: skip
def test_one_thing_that_is_wrong_is_the_one_fault(
    look: Look, mar: Registry, kind: str, twist: Callable[[Any], Any], expected: str, word: str
) -> None:
    twist(mar.on(kind))
    found = look()
    assert faults(found) == [expected]
    assert word in one(found, expected).saw
    assert "secret" not in str(found)
    assert "bm90%2Bk%2f" not in str(found)


def test_the_reference_of_a_failed_answer_is_kept_for_support(look: Look, mar: Registry) -> None:
    mar.on("manifest").answers(403, BLOCKED)
    assert look().references == (MSEDGE,)


def test_a_closed_data_host_is_distinguished_from_a_closed_registry(look: Look, mar: Registry) -> None:
    mar.data_origin = f"http://127.0.0.1:{free_port()}"
    found = look(Endpoint.parse(f"http://{mar.host}", (mar.data_origin.removeprefix("http://"),)))
    assert faults(found) == ["data-host"]
    assert one(found, "registry").status == "ok"


@pytest.mark.slow
def test_a_data_host_that_drops_packets_is_closed_too(look: Look, mar: Registry) -> None:
    with deaf() as port:
        mar.data_origin = f"http://127.0.0.1:{port}"
        found = look(Endpoint.parse(f"http://{mar.host}", (f"127.0.0.1:{port}",)))
    assert faults(found) == ["data-host"]


def test_one_open_data_host_among_closed_ones_is_a_rule_for_a_region(look: Look, mar: Registry) -> None:
    found = look(Endpoint.parse(f"http://{mar.host}", (mar.data_host, f"127.0.0.1:{free_port()}")))
    assert faults(found) == []
    assert one(found, "regions").status == "warning"
    assert "wildcard" in one(found, "regions").means


def test_parts_that_are_not_given_are_a_warning(look: Look, mar: Registry) -> None:
    mar.on("data").ignores_ranges()
    found = look()
    assert (faults(found), one(found, "range").status) == ([], "warning")


@pytest.mark.parametrize(
    ("skew", "status", "word"),
    [
        (3600, "fault", "3600 s ahead"),
        (-3600, "fault", "3600 s behind"),
        (120, "warning", "ahead"),
        (10, "ok", "ahead"),
        (0, "ok", "agrees"),
    ],
)
def test_a_wrong_clock_is_seen(look: Look, mar: Registry, skew: int, status: str, word: str) -> None:
    now = 1_800_000_000
    mar.on("base").says(Date=formatdate(now, usegmt=True))
    found = look(now=lambda: now + skew)
    assert one(found, "clock").status == status
    assert word in one(found, "clock").saw
    assert faults(found) == (["clock"] if status == "fault" else [])


def test_a_registry_that_wants_a_login_is_a_warning(look: Look, mar: Registry) -> None:
    mar.challenge = 'Bearer realm="/token"'
    found = look()
    assert (faults(found), one(found, "registry").status) == ([], "warning")


def test_a_slow_registry_ends_with_the_time(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "WHOLE", 0.0)
    found = look()
    assert faults(found) == []
    assert "registry" not in {finding.id for finding in found.findings}


def test_the_doctor_takes_less_than_twenty_seconds() -> None:
    assert examination.WHOLE + LONGEST_STEP < 20


# -- this machine


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_variables_that_change_trust_are_named(look: Look, monkeypatch: pytest.MonkeyPatch, variable: str, ca_file: str) -> None:
    monkeypatch.setenv(variable, ca_file)
    assert one(look(), "environment").status == "warning"
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    found = look()
    assert faults(found) == ["environment"]
    assert variable in one(found, "environment").saw


def test_a_cache_that_everybody_may_write_into_is_a_fault(look: Look, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    found = look(cache_dir=tmp_path / "open")
    assert faults(found) == ["cache"]


def test_a_damaged_index_of_the_cache_is_a_warning(look: Look, tmp_path: Path) -> None:
    Layout(tmp_path / "cache")
    (tmp_path / "cache" / "index.json").write_text("{")
    found = look(cache_dir=tmp_path / "cache")
    assert one(found, "cache").status in ("warning", "fault")


def test_half_of_the_plugins_is_a_warning(look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELM_PLUGINS", str(tmp_path / "plugins"))
    assert one(look(), "helm").status == "ok"
    set_up(tmp_path / "plugins")
    assert one(look(), "helm").status == "ok"
    (tmp_path / "plugins" / "marfetch-getter" / "plugin.yaml").unlink()
    assert "`marfetch-getter` is missing" in one(look(), "helm").saw


def test_a_plugin_whose_python_is_gone_is_a_warning(look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELM_PLUGINS", str(tmp_path / "plugins"))
    monkeypatch.setattr(sys, "executable", "/gone/python")
    set_up(tmp_path / "plugins")
    finding = one(look(), "helm")
    assert finding.status == "warning"
    assert "`/gone/python`" in finding.saw


def test_helm_is_asked_its_version(look: Look, tool: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELM_BIN", str(tool("helm4")))
    assert "Helm v4" in one(look(), "helm").saw


# -- texts of the findings


def test_a_finding_can_be_shown_to_others() -> None:
    finding = ok("proxy", "proxy `http://me:pass@10.0.0.1:3128`")
    assert finding.saw == "proxy `http://10.0.0.1:3128`"
    assert ok("cache", f"`{Path.home()}/.cache/marfetch`").saw == "`~/.cache/marfetch`"


def test_no_fault_is_exit_code_0(call: Call) -> None:
    code, out, _ = call("doctor")
    assert code == 0
    assert "\nok\tdata-host\t" in out


def test_a_fault_is_exit_code_1_and_the_answer_is_still_one_object(call: Call, mar: Registry) -> None:
    mar.on("base").answers(403, BLOCKED)
    code, out, _ = call("doctor", "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["data"]["verdict"]) == (1, True, "fault")
    (finding,) = [found for found in document["data"]["findings"] if found["status"] == "fault"]
    assert finding.keys() == {"id", "status", "saw", "means", "do"}
    assert MSEDGE in finding["saw"]
    assert document["data"]["references"] == [MSEDGE]
    assert "create-ticket" in document["data"]["support"]["ticket"]


def test_a_problem_is_followed_by_what_to_do(call: Call, mar: Registry) -> None:
    mar.on("base").answers(429, "", retry_after="30")
    code, out, _ = call("doctor")
    lines = out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("fault\tthrottle\t"))
    assert code == 1
    assert lines[at + 1].startswith("\tmeans\t")
    assert lines[at + 2].startswith("\tdo\twait 30 s")


def test_a_host_that_asked_for_a_pause_is_left_alone_by_the_doctor_too(call: Call, mar: Registry, client: Callable[..., Session]) -> None:
    with client() as one:  # create a cache, as a pull would do
        cache = one.cache.root
    mar.on("tags").answers(429, "Ref A: x", retry_after="300")
    assert "fault\tthrottle" in call("doctor")[1]
    asked = len(mar.asked)
    assert Pauses(cache).pause(mar.host) is not None
    mar.knobs.clear()
    code, out, _ = call("doctor")
    assert (code, len(mar.asked)) == (1, asked)
    assert f"fault\tthrottle\t`{mar.host}` throttled another marfetch with this cache for 300 s, until " in out
    assert "\tdo\twait " in out
    shutil.rmtree(cache / "kept" / "pauses")
    assert "ok\tthrottle\tno response was 429" in call("doctor")[1]


@pytest.mark.parametrize("words", [("--offline",), ("aks/Foo",), ("a", "b"), ("example.com/a",)])
def test_bad_input_is_refused_before_anything_is_asked(capfd: pytest.CaptureFixture[str], words: tuple[str, ...], mar: Registry) -> None:
    assert main(["doctor", *words]) in (2, 4)
    assert mar.asked == []


def test_the_other_official_registry_is_only_connected_to(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, {})
    for endpoint, other in ((GLOBAL, "mcr.azure.cn"), (CHINA, "mcr.microsoft.com")):
        found = look(endpoint)
        assert faults(found) == ["dns"]
        assert other in one(found, "china").saw


@pytest.mark.slow
def test_a_whole_network_that_drops_is_examined_in_time(tmp_path: Path) -> None:
    """Run in a separate network namespace, in which every packet is dropped."""
    inside = (
        "ip link set lo up && ip link add d0 type ifb && ip link set d0 up && ip addr add 192.0.2.1/24 dev d0 && ip route add default dev d0"
        f" && exec {sys.executable} -c \"import socket; from marfetch.__main__ import main;"
        " real = socket.getaddrinfo;"
        " socket.getaddrinfo = lambda host, port, family=0, *a, **k: real('198.51.100.7', port, socket.AF_INET, socket.SOCK_STREAM) if family != socket.AF_INET6 else real('', None, 99);"
        " raise SystemExit(main(['doctor', '--json']))\""
    )  # fmt: skip
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(Path(examination.__file__).parents[2])}
    line = ["unshare", "--net", "--map-root-user", "sh", "-c", inside]
    try:
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("this machine has no `unshare`")
    if not done.stdout:
        pytest.skip(f"cannot create a network namespace here: {done.stderr.strip()[-200:]}")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert [found["id"] for found in document["data"]["findings"] if found["status"] == "fault"] == ["connection"]
    assert document["data"]["seconds"] < 20


def test_the_documentation_names_every_finding_with_what_it_is_about() -> None:
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text()
    for name, about in CHECKS.items():
        assert f"| `{name}` | {about} |" in page


@pytest.mark.parametrize("date", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "x" * 5000])
def test_a_date_that_is_none_is_no_crash(look: Look, mar: Registry, date: str) -> None:
    mar.on("base").says(Date=date)
    assert one(look(), "clock").status == "ok"


def test_a_proxy_that_drips_its_answer_ends_with_the_patience_of_a_step() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    given = []

    def drip() -> None:
        client, _ = listening.accept()
        with client, contextlib.suppress(OSError):
            for _ in range(100):
                client.sendall(b"H")
                given.append(1)
                time.sleep(0.05)

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    with pytest.raises(OSError, match="timed out"):
        tunnel(f"http://127.0.0.1:{listening.getsockname()[1]}", "mcr.microsoft.com", 443, 0.3)
    listening.close()
    thread.join(10)
    assert len(given) < 100


def test_a_proxy_behind_which_tls_is_cut_is_one_fault(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy({}, answer=b"HTTP/1.1 200 OK\r\n\r\n") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        found = look(GLOBAL)
    assert faults(found) == ["tls"]
