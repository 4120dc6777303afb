"""Allowed hosts and redirects."""

from __future__ import annotations

import pytest

from marfetch.endpoint import CHINA, GLOBAL, Address, Endpoint, HostPattern, Preference
from marfetch.errors import Error, InputError, PolicyError
from marfetch.reference import Reference
from marfetch.text import redacted

DATA = "https://eastus.data.mcr.microsoft.com"

FOLLOWED = [
    (GLOBAL, "https://mcr.microsoft.com/v2/"),
    (GLOBAL, "https://mcr.microsoft.com:443/v2/"),
    (GLOBAL, f"{DATA}/01031d-x//docker/registry?se=2026&sig=a%2Bb"),
    (GLOBAL, "https://a.b.data.mcr.microsoft.com/"),
    (CHINA, "https://mcr.azure.cn/"),
    (CHINA, "https://chinaeast3.data.mcr.azure.cn/x"),
    (Endpoint.parse("https://registry.example:5000"), "https://registry.example:5000/x"),
    (Endpoint.parse("https://r.example", ["*.cdn.example", "store.example:8443"]), "https://a.cdn.example/x"),
    (Endpoint.parse("https://r.example", ["*.cdn.example", "store.example:8443"]), "https://store.example:8443/x"),
    (Endpoint.parse("http://127.0.0.1:5000", ["127.0.0.1:5001"]), "http://127.0.0.1:5001/x"),
    (Endpoint.parse("http://localhost:5000", ["localhost:5001"]), "https://localhost:5001/x"),
    (Endpoint.parse("http://[::1]:5000"), "http://[::1]:5000/x"),
    (Endpoint.parse("https://192.0.2.17:5000", ["192.0.2.18", "[2001:db8::17]:8443"]), "https://192.0.2.17:5000/x"),
    (Endpoint.parse("https://192.0.2.17:5000", ["192.0.2.18", "[2001:db8::17]:8443"]), "https://192.0.2.18/x"),
    (Endpoint.parse("https://192.0.2.17:5000", ["192.0.2.18", "[2001:db8::17]:8443"]), "https://[2001:db8:0:0::17]:8443/x"),
]

REFUSED = [
    (GLOBAL, "http://mcr.microsoft.com/"),
    (GLOBAL, "https://mcr.microsoft.com:8443/"),
    (GLOBAL, "https://data.mcr.microsoft.com/"),
    (GLOBAL, "https://eastus.data.mcr.microsoft.com:8443/"),
    (GLOBAL, "http://eastus.data.mcr.microsoft.com/"),
    (GLOBAL, "https://xdata.mcr.microsoft.com/"),
    (GLOBAL, "https://eastus.data.mcr.microsoft.com.evil.example/"),
    (GLOBAL, "https://evil.example/eastus.data.mcr.microsoft.com"),
    (GLOBAL, "https://chinaeast3.data.mcr.azure.cn/x"),
    (GLOBAL, "https://mcr.azure.cn/x"),
    (CHINA, f"{DATA}/x"),
    (Endpoint.parse("https://r.example"), "https://cdn.example/"),
    (Endpoint.parse("https://r.example"), "https://r.example:444/"),
    (Endpoint.parse("https://r.example", ["127.0.0.1:5001"]), "http://127.0.0.1:5001/"),
    (Endpoint.parse("http://127.0.0.1:5000"), "http://127.0.0.1:5001/"),
    (Endpoint.parse("http://127.0.0.1:5000", ["127.0.0.1:5001"]), "http://localhost:5001/"),
    (Endpoint.parse("http://127.0.0.1:5000", ["127.0.0.1"]), "http://127.0.0.1:5001/"),
    (Endpoint.parse("http://127.0.0.1:5000", ["store.example"]), "http://store.example/"),
    (GLOBAL, "https://10.0.0.1/"),
    (GLOBAL, "https://[2001:db8::17]/"),
    (Endpoint.parse("https://r.example"), "https://192.0.2.17/"),
    (Endpoint.parse("https://r.example", ["*.cdn.example"]), "https://127.0.0.1/"),
    (Endpoint.parse("https://192.0.2.17"), "https://192.0.2.18/"),
    (Endpoint.parse("https://192.0.2.17"), "http://192.0.2.17/"),
    (Endpoint.parse("https://192.0.2.17"), "https://192.0.2.17:8443/"),
]


@pytest.mark.parametrize(("endpoint", "url"), FOLLOWED, ids=[url for _, url in FOLLOWED])
def test_the_registry_and_its_data_hosts_are_asked(endpoint: Endpoint, url: str) -> None:
    endpoint.check(Address.parse(url))


@pytest.mark.parametrize(("endpoint", "url"), REFUSED, ids=[f"{endpoint.name} {url}" for endpoint, url in REFUSED])
def test_everything_else_is_refused_with_the_rule_and_both_hosts(endpoint: Endpoint, url: str) -> None:
    address = Address.parse(url)
    with pytest.raises(PolicyError) as caught:
        endpoint.check(address, came_from=endpoint.registry)
    assert endpoint.registry.host.name in caught.value.message
    assert address.host.name in caught.value.message
    assert caught.value.context["rule"]


HIDING = [
    "http://127.0.0.1:1\\@eastus.data.mcr.microsoft.com/",
    "https://eastus.data.mcr.microsoft.com\\.evil.example/",
    "https://user@mcr.microsoft.com/",
    "https://mcr.microsoft.com@evil.example/",
    "https://mcr.microsoft.com%40evil.example/",
    "https://mcr.microsoft.com%2eevil.example/",
    "https://mcr.microsoft.com./",
    "https://mcr.microsoft.com:/",
    "https://mcr.microsoft.com:443x/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://127.1/",
    "https://[fe80::1%25eth0]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[::ffff:a00:1]/",
    "https://010.0.0.1/",
    "https://mсr.microsoft.com/",
    "https://mcr.microsoft.com/\x00",
    "https://mcr.microsoft.com/ x",
    "https://mcr.microsoft.com/é",
    "https:///x",
    "https://",
    "//mcr.microsoft.com/x",
    "file:///etc/passwd",
    "ftp://mcr.microsoft.com/",
    "javascript:alert(1)",
    "",
]


@pytest.mark.parametrize("url", HIDING)
def test_an_address_in_a_form_that_can_hide_its_host_is_refused(url: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Address.parse(url)
    assert caught.value.code == "address-refused"


def test_the_target_is_kept_byte_for_byte_and_the_fragment_is_dropped() -> None:
    text = "/01031d-x//docker/registry/v2/blobs/../data?se=2026-11-23T00%3a00%3A00Z&sig=a%2Bb%7E~=="
    address = Address.parse(f"{DATA}{text}#fragment")
    assert address.target == text
    assert address.url == DATA + text
    assert Address.parse("https://mcr.microsoft.com?x=1").target == "/?x=1"


def test_queries_and_user_information_are_never_shown() -> None:
    assert redacted(f"{DATA}/x/y?sig=secret#a") == f"{DATA}/x/y"
    assert redacted("http://user:secret@proxy:8080/") == "http://proxy:8080/"
    assert "secret" not in redacted("user:secret@host/path")
    assert redacted("http://user:a/secret@proxy:8080") == "http://…"
    assert "secret" not in redacted("user:a/secret@proxy:8080")
    assert redacted(f"oci://host/aks/foo@sha256:{'a' * 64}") == f"oci://host/aks/foo@sha256:{'a' * 64}"


@pytest.mark.parametrize("text", ["https://us:a/bSECRET@h.example", "us:SECRET@h", "us:a/SECRET@h"])
def test_an_endpoint_that_cannot_be_read_shows_no_password(text: str) -> None:
    with pytest.raises(Error) as caught:
        Endpoint.parse(text)
    assert "SECRET" not in f"{caught.value.message} {caught.value.hint} {caught.value.context}"
    with pytest.raises(PolicyError) as caught:
        GLOBAL.check(Address.parse("https://evil.example/x?sig=secret"))
    assert "secret" not in f"{caught.value.message} {caught.value.context}"


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("global", "https://mcr.microsoft.com"),
        ("china", "https://mcr.azure.cn"),
        ("https://r.example", "https://r.example"),
        ("https://r.example/", "https://r.example"),
        ("https://R.example:8443", "https://r.example:8443"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://127.0.0.9", "http://127.0.0.9"),
        ("https://192.0.2.17:5000", "https://192.0.2.17:5000"),
        ("https://[2001:DB8:0::17]", "https://[2001:db8::17]"),
    ],
)
def test_an_endpoint_is_a_name_or_an_origin(text: str, registry: str) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint.registry.origin == registry
    assert endpoint.official is (text in ("global", "china"))


@pytest.mark.parametrize(
    ("text", "hosts", "exit_code"),
    [
        ("mcr.microsoft.com", (), 2),
        ("r.example", (), 2),
        ("", (), 2),
        ("https://r.example/path", (), 2),
        ("https://r.example?x", (), 2),
        ("http://r.example", (), 4),
        ("http://10.0.0.1:5000", (), 4),
        ("http://[2001:db8::17]:5000", (), 4),
        ("https://10.1:5000", (), 4),
        ("https://user:pw@r.example", (), 4),
        ("ftp://r.example", (), 4),
        ("global", ("x.example",), 2),
        ("china", ("x.example",), 2),
        ("https://r.example", ("https://x.example",), 2),
        ("https://r.example", ("*",), 2),
        ("https://r.example", ("*.10.0.0.1",), 2),
        ("https://r.example", ("10.1",), 4),
    ],
)
def test_another_endpoint_is_refused(text: str, hosts: tuple[str, ...], exit_code: int) -> None:
    with pytest.raises(Error) as caught:
        Endpoint.parse(text, hosts)
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("http://registry.example:5000", "`https://registry.example:5000`"),
        ("http://192.0.2.17:5000", "`https://192.0.2.17:5000`"),
        ("http://registry.example", "`https://registry.example`"),
        ("https://registry.example:5000/v2", "`https://registry.example:5000`"),
    ],
)
def test_hints_keep_the_port(text: str, hint: str) -> None:
    with pytest.raises(Error) as caught:
        Endpoint.parse(text)
    assert hint in str(caught.value.hint)
    with pytest.raises(PolicyError) as refused:
        Preference().of(Reference.parse("192.0.2.17:5000/aks/foo"))
    assert "`--endpoint https://192.0.2.17:5000`" in str(refused.value.hint)
    with pytest.raises(PolicyError) as refused:
        Endpoint.parse("https://r.example").check(Address.parse("https://store.example:8443/x"))
    assert "`--data-host store.example:8443`" in str(refused.value.hint)


def test_a_wildcard_does_not_match_the_bare_domain() -> None:
    pattern = HostPattern.parse("*.cdn.example")
    assert pattern.matches(Address.parse("https://a.cdn.example/"))
    assert not pattern.matches(Address.parse("https://cdn.example/"))
    assert not pattern.matches(Address.parse("https://acdn.example/"))
    assert str(pattern) == "*.cdn.example"


CHOSEN = [
    # reference, --endpoint, MARFETCH_ENDPOINT, the registry that is used
    ("aks/foo", None, None, "https://mcr.microsoft.com"),
    ("aks/foo", "china", None, "https://mcr.azure.cn"),
    ("aks/foo", None, "china", "https://mcr.azure.cn"),
    ("aks/foo", "global", "china", "https://mcr.microsoft.com"),
    ("aks/foo", None, "https://r.example", "https://r.example"),
    ("mcr.azure.cn/aks/foo", None, None, "https://mcr.azure.cn"),
    ("mcr.azure.cn/aks/foo", None, "https://r.example", "https://mcr.azure.cn"),
    ("mcr.microsoft.com/aks/foo", None, "china", "https://mcr.microsoft.com"),
    ("mcr.microsoft.com:443/aks/foo", None, None, "https://mcr.microsoft.com"),
    ("localhost:5000/aks/foo", None, None, "http://localhost:5000"),
    ("mar://localhost:5000/aks/foo", None, "china", "http://localhost:5000"),
    ("https://localhost:5000/aks/foo", None, None, "https://localhost:5000"),
    ("localhost:5000/aks/foo", "https://localhost:5000", None, "https://localhost:5000"),
    ("localhost:5000/aks/foo", None, "https://localhost:5000", "https://localhost:5000"),
    ("r.example/aks/foo", "https://r.example", None, "https://r.example"),
    ("r.example/aks/foo", None, "https://r.example:443", "https://r.example"),
    ("localhost/aks/foo", None, None, "http://localhost"),
    ("aks/foo", "https://192.0.2.17:5000", None, "https://192.0.2.17:5000"),
    ("192.0.2.17:5000/aks/foo", "https://192.0.2.17:5000", None, "https://192.0.2.17:5000"),
    ("oci://192.0.2.17/aks/foo", None, "https://192.0.2.17", "https://192.0.2.17"),
    ("[2001:db8:0::17]:5000/aks/foo", "https://[2001:db8::17]:5000", None, "https://[2001:db8::17]:5000"),
]


@pytest.mark.parametrize(("text", "option", "environment", "registry"), CHOSEN)
def test_the_reference_the_option_and_the_environment_choose_the_endpoint(
    text: str, option: str | None, environment: str | None, registry: str
) -> None:
    assert Preference(option, environment).of(Reference.parse(text)).registry.origin == registry


@pytest.mark.parametrize(
    ("text", "option", "environment", "code"),
    [
        ("mcr.microsoft.com/aks/foo", "china", None, "endpoint-disagrees"),
        ("localhost:5000/aks/foo", "global", None, "endpoint-disagrees"),
        ("localhost:5000/aks/foo", "http://localhost:5001", None, "endpoint-disagrees"),
        ("http://localhost:5000/aks/foo", "https://localhost:5000", None, "endpoint-disagrees"),
        ("r.example/aks/foo", None, None, "host-refused"),
        ("r.example/aks/foo", None, "https://q.example", "host-refused"),
        ("r.example:444/aks/foo", None, "https://r.example", "host-refused"),
        ("mcr.microsoft.com:8443/aks/foo", None, None, "host-refused"),
        ("mcr.microsoft.com.evil.example/aks/foo", None, None, "host-refused"),
        ("10.0.0.1/aks/foo", None, None, "host-refused"),
        ("10.0.0.1:5000/aks/foo", None, "https://10.0.0.1", "host-refused"),
        ("10.0.0.1/aks/foo", "global", None, "endpoint-disagrees"),
        ("[2001:db8::17]/aks/foo", None, None, "host-refused"),
    ],
)
def test_other_hosts_and_contradictions_are_refused(text: str, option: str | None, environment: str | None, code: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Preference(option, environment).of(Reference.parse(text))
    assert caught.value.code == code


def test_data_hosts_of_the_environment_are_for_own_registries_only() -> None:
    preference = Preference(None, None, (), "127.0.0.1:5001, *.cdn.example")
    assert len(preference.of(Reference.parse("localhost:5000/a")).data_hosts) == 2
    assert preference.of(Reference.parse("aks/foo")) == GLOBAL
    with pytest.raises(InputError):
        Preference(None, None, ("127.0.0.1:5001",)).of(Reference.parse("aks/foo"))
