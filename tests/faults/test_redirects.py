"""R: redirects."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from marfetch.layout.layout import Layout
from marfetch.reference import Host

from ..world.content import ALB
from ..world.proxy import Proxy
from ..world.real import free_port
from ..world.registry import Registry
from ..world.rows import row
from ..world.tls import DATA_NAME, server_context
from ..world.world import Ended, World, sha256

DATA = b"content" * 1000
PULL = ("pull", "aks/foo:1", "--json")
MADE = {"foo.bin": DATA}


def led_astray(world: World, locations: list[str | None], *, kind: str = "blob", status: int = 307) -> Ended:
    """Pull one artifact per location in one command. Its blob or manifest is redirected to the location."""
    for number, location in enumerate(locations):
        data = DATA + bytes([number % 256, number // 256])
        world.artifact(f"aks/foo{number}", data)
        path = f"foo{number}/manifests" if kind == "manifest" else f"foo{number}/blobs"
        world.registry.on(kind, path).redirects(location, status=status)
    return world.run("pull", *(f"aks/foo{number}:1" for number in range(len(locations))), "--json", "--verbose")


def addresses(world: World, data: bytes = DATA) -> str:
    """Return the signed address of a blob at the data host, without scheme and host."""
    location = world.registry.honest("blob", f"/v2/aks/foo/blobs/sha256:{sha256(data)}", {}).header("Location")
    assert location is not None
    return location


@row(
    "R01",
    "301, 302, 303, 307 or 308 to the data host for a blob",
    "Follows it, sends the signed query byte for byte, and never shows it",
    code=0,
)
def test_a_redirect_to_the_data_host_is_followed(world: World) -> None:
    statuses = (301, 302, 303, 307, 308)
    for status in statuses:
        world.artifact(f"aks/foo{status}", DATA + bytes([status % 256]))
        world.registry.on("blob", f"foo{status}").has_status(status)
    ended = world.run("pull", *(f"aks/foo{status}:1" for status in statuses), "--json", "--verbose")
    ended.succeeded(made={f"foo{status}.bin": DATA + bytes([status % 256]) for status in statuses}, requests=3 * len(statuses))
    assert {asked.target.partition("?")[2] for asked in ended.asked if asked.kind == "data"} == {world.registry.signature}


@row("R01", "a relative redirect; a chain of five redirects", "Follows it to the end", code=0)
def test_relative_redirects_and_a_chain_are_followed(world: World) -> None:
    world.artifact("aks/foo", DATA)
    digest = f"sha256:{sha256(DATA)}"
    hops = [f"/v2/aks/hop1/blobs/{digest}", f"../../hop2/blobs/{digest}", f"http://{world.registry.host}/v2/aks/hop3/blobs/{digest}"]
    for name, location in zip(("foo", "hop1", "hop2"), hops, strict=True):
        world.registry.on("blob", f"aks/{name}/").redirects(location.replace("../../hop2", "/v2/aks/hop2"))
    world.registry.on("blob", "aks/hop3/").redirects("?again", times=1)
    ended = world.run(*PULL).succeeded(made=MADE, requests=7)
    assert ended.kinds == ["manifest", *["blob"] * 5, "data"]


@row(
    "R02",
    "redirects in a loop or over six hops, without `Location`, or to junk, `file:` or `ftp:`",
    "Refuses the redirect and makes no further request",
    code=4,
)
@pytest.mark.parametrize("kind", ["blob", "manifest"])
def test_a_redirect_that_leads_nowhere_is_refused(world: World, kind: str) -> None:
    locations = [
        "",
        "?again",
        None,
        "http://[",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "javascript:alert(1)",
        "http://",
        ":",
        "\x01",
        "\\\\host\\x",
    ]
    ended = led_astray(world, locations, kind=kind).failed(4, "redirect-refused", requests=2 * len(locations) + 3 * 5)
    assert {one["code"] for one in ended.failures} <= {"redirect-refused", "address-refused"}, ended
    assert len(ended.failures) == len(locations)
    assert "data" not in ended.kinds


@row("R02", "300, 304, 305 or 306 with a `Location`", "Does not follow it", code=7)
def test_a_status_that_is_no_redirect_is_not_followed(world: World) -> None:
    for status in (300, 304, 305, 306):
        world.artifact(f"aks/foo{status}", DATA)
        world.registry.on("blob", f"foo{status}").has_status(status)
    ended = world.run("pull", *(f"aks/foo{status}:1" for status in (300, 304, 305, 306)), "--json")
    ended.failed(7, "unexpected-answer", requests=8)
    assert "data" not in ended.kinds


@row(
    "R03",
    "a redirect to a host that is not allowed, for a blob, a manifest or a tag list, or at the second hop",
    "Refuses it before any contact and names both hosts",
    code=4,
)
@pytest.mark.parametrize("kind", ["blob", "manifest", "data", "tags"])
def test_a_foreign_host_is_refused_by_name(world: World, kind: str) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.on(kind).redirects(f"https://evil.example/x?sig={world.secret('s3cret')}")
    words = ("versions", "aks/foo", "--json") if kind == "tags" else PULL
    ended = world.run(*words).failed(4, "host-refused", "`evil.example:443`", requests=3)
    source = world.registry.data_host if kind == "data" else world.registry.host
    assert f"`{source}`" in ended.error["message"]
    assert "aks/foo" in ended.error["message"]
    assert ended.error["rule"]


@row(
    "R03",
    "a redirect to another port of this machine, or to a data host that you did not name",
    "Refuses it and shows the `--data-host` option that allows it",
    code=4,
)
def test_another_port_is_another_host(world: World) -> None:
    ended = led_astray(world, [f"http://127.0.0.1:{free_port()}/x", "https://127.0.0.1/x"])
    assert [one["code"] for one in ended.failed(4, "host-refused", "--data-host 127.0.0.1:").failures] == ["host-refused"] * 2
    world.registry.honestly()
    world.environment["MARFETCH_DATA_HOSTS"] = None
    world.allowed.discard(world.registry.data_host)
    world.run("pull", "aks/foo0:1", "--json").failed(4, "host-refused", f"--data-host {world.registry.data_host}", requests=2)


LOOK_ALIKES = [
    f"https://{DATA_NAME}.evil.example/x",
    "https://evildata.mcr.microsoft.com/x",
    "https://xmcr.microsoft.com/x",
    "https://mcr.microsoft.com.evil.example/x",
    f"https://{DATA_NAME}@evil.example/x",
    f"https://{DATA_NAME}:443@evil.example/x",
    f"https://evil.example\\@{DATA_NAME}/x",
    f"https://evil.example:443\\@{DATA_NAME}/x",
    f"https://evil.example#{DATA_NAME}/x",
    f"https://evil.example?{DATA_NAME}/x",
    f"https://evil.example%2f.{DATA_NAME}/x",
    f"https://evil.example%00.{DATA_NAME}/x",
    "https://eastus.data.mcr.micrоsoft.com/x",
    "https://eastus.data.mcr.microsoft。com/x",
    "https://xn--microsft-cyb.com/x",
    "//evil.example/x",
    "///evil.example/x",
    "/\\evil.example/x",
    "https:/\\evil.example/x",
    "https:evil.example/x",
    f"https://{DATA_NAME}:444/x",
    f"https://{DATA_NAME}:0443:1/x",
    f"https://{DATA_NAME} .evil.example/x",
    f"https://{DATA_NAME}\t.evil.example/x",
    f"HTTPS://EVIL.EXAMPLE/{DATA_NAME}",
]


@row(
    "R04",
    "a redirect to an address that looks like an allowed one: with a suffix, a prefix, user information, a backslash, a fragment, escapes, "
    "Cyrillic letters, full-width dots, `//host` or another port",
    "Refuses it, or reads it as a path on the registry; looks up and contacts no other host",
    code=4,
)
def test_addresses_that_look_like_an_allowed_one_are_refused(official: tuple[World, Proxy]) -> None:
    world, proxy = official
    ended = led_astray(world, list(LOOK_ALIKES))
    assert ended.returncode == 4, ended
    assert len(ended.failures) == len(LOOK_ALIKES)
    own = {"///evil.example/x", "/\\evil.example/x"}
    for location, one in zip(LOOK_ALIKES, ended.failures, strict=True):
        assert one["code"] in ("host-refused", "address-refused") or location in own, (location, one)
    assert {line.split()[1] for line in proxy.asked} == {"mcr.microsoft.com:443"}


FORMS = [
    "https://13.107.246.1/x",
    "https://127.0.0.1/x",
    "https://169.254.169.254/x",
    "https://2130706433/x",
    "https://0x7f000001/x",
    "https://0x7f.1/x",
    "https://0177.0.0.1/x",
    "https://127.1/x",
    "https://[::1]/x",
    "https://[::ffff:127.0.0.1]/x",
    "https://[fe80::1%25eth0]/x",
    f"https://{DATA_NAME}./x",
    "https://mcr.microsoft.com./x",
    "https://data.mcr.microsoft.com/x",
    "https://.data.mcr.microsoft.com/x",
    "https://localhost/x",
]


@row(
    "R05",
    "IP addresses (dotted, decimal, hexadecimal, octal, short, IPv6), a trailing dot, the bare domain of the data hosts",
    "Refuses them without contact",
    code=4,
)
def test_addresses_without_the_name_of_an_allowed_host_are_refused(official: tuple[World, Proxy]) -> None:
    world, proxy = official
    ended = led_astray(world, list(FORMS))
    assert ended.returncode == 4, ended
    assert len(ended.failures) == len(FORMS)
    for location, one in zip(FORMS, ended.failures, strict=True):
        assert one["code"] in ("host-refused", "address-refused"), (location, one)
    assert {line.split()[1] for line in proxy.asked} == {"mcr.microsoft.com:443"}


@row("R06", "MAR redirects from https to http", "Refuses the redirect", code=4)
def test_https_never_becomes_http(official: tuple[World, Proxy]) -> None:
    world, proxy = official
    world.registry.data_origin = f"http://{DATA_NAME}"
    world.run("pull", f"{ALB}:1.7.12", "--json").failed(4, "address-refused", "plain http", DATA_NAME, requests=2)
    assert len(proxy.asked) == 1


@row("R06", "your own registry redirects from https to http", "Refuses the redirect", code=4)
def test_https_of_an_own_registry_never_becomes_http(secure: World) -> None:
    secure.registry.data_origin = f"http://{secure.registry.data_host}"
    secure.run("pull", f"{ALB}:1.7.12", "--json").failed(4, "address-refused", "plain http", requests=2)


@row(
    "R06",
    "the data host has a certificate for another name, or from an unknown authority",
    "Refuses it, names the host, and sends nothing",
    code=7,
)
@pytest.mark.parametrize("names", [("other.example",), (DATA_NAME,)])
def test_a_data_host_with_a_bad_certificate_is_not_trusted(
    official: tuple[World, Proxy], recipe: Layout, ca: trustme.CA, tmp_path: Path, names: tuple[str, ...]
) -> None:
    world, proxy = official
    issuer = trustme.CA() if names == (DATA_NAME,) else ca
    with Registry(recipe, names=Host("mar.test"), context=server_context(issuer.issue_cert(*names))) as other:
        proxy.leads[DATA_NAME] = other.data_port
        world.run("pull", f"{ALB}:1.7.12", "--json").failed(7, "tls", f"`{DATA_NAME}`", "cannot be trusted", requests=2)
        assert other.asked == []
