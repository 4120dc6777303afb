"""References: what people type and paste."""

from __future__ import annotations

import pytest

from marfetch.errors import Error, InputError, PolicyError
from marfetch.reference import Host, Pasted, Reference

D = "sha256:" + "0123456789abcdef" * 4
MCR = "mcr.microsoft.com"

READ = {
    "aks/foo": "aks/foo",
    "foo": "foo",
    "foo:1.2.3": "foo:1.2.3",
    "aks/foo:1.2.3": "aks/foo:1.2.3",
    f"aks/foo@{D}": f"aks/foo@{D}",
    f"aks/foo:1.2.3@{D}": f"aks/foo:1.2.3@{D}",
    f"{MCR}/aks/foo": f"{MCR}/aks/foo",
    f"{MCR}/aks/foo:1.2.3@{D}": f"{MCR}/aks/foo:1.2.3@{D}",
    "MCR.Microsoft.com/aks/foo": f"{MCR}/aks/foo",
    f"{MCR}:443/aks/foo": f"{MCR}:443/aks/foo",
    f"oci://{MCR}/aks/foo:1": f"{MCR}/aks/foo:1",
    f"mar://{MCR}/aks/foo": f"{MCR}/aks/foo",
    "mar://aks/foo": "aks/foo",
    "oci://aks/foo:1.2.3": "aks/foo:1.2.3",
    f"https://{MCR}/aks/foo": f"{MCR}/aks/foo",
    f"HTTPS://{MCR}/aks/foo:1": f"{MCR}/aks/foo:1",
    f"https://{MCR}/en-us/artifact/mar/aks/foo/tags": f"{MCR}/aks/foo",
    f"https://{MCR}/en-us/artifact/mar/aks/foo/about": f"{MCR}/aks/foo",
    f"https://{MCR}/artifact/mar/aks/foo": f"{MCR}/aks/foo",
    f"https://{MCR}/de-de/product/aks/foo/about": f"{MCR}/aks/foo",
    f"{MCR}/en-us/artifact/mar/bicep/extensions/microsoftgraph/v1.0/tags": f"{MCR}/bicep/extensions/microsoftgraph/v1.0",
    "mcr.azure.cn/aks/foo": "mcr.azure.cn/aks/foo",
    "localhost/aks/foo": "localhost/aks/foo",
    "localhost:5000/aks/foo": "localhost:5000/aks/foo",
    "127.0.0.1:5000/aks/foo:x": "127.0.0.1:5000/aks/foo:x",
    "[::1]:5000/aks/foo": "[::1]:5000/aks/foo",
    "http://127.0.0.1:5000/aks/foo": "http://127.0.0.1:5000/aks/foo",
    "https://localhost:5001/aks/foo": "https://localhost:5001/aks/foo",
    "mar://localhost:5000/aks/foo": "localhost:5000/aks/foo",
    "myregistry.azurecr.io/a/b": "myregistry.azurecr.io/a/b",
    "192.0.2.17/a/b": "192.0.2.17/a/b",
    "192.0.2.17:5000/a/b:1": "192.0.2.17:5000/a/b:1",
    "[2001:db8::17]:5000/a/b": "[2001:db8::17]:5000/a/b",
    "[2001:0DB8:0:0::17]/a/b": "[2001:db8::17]/a/b",
    "registry:5000/a": "registry:5000/a",
    "a.b/c": "a.b/c",  # `a.b` is a host, because it contains a dot
    "psresource/az.accounts": "psresource/az.accounts",
    "a__b/c--d/e_f": "a__b/c--d/e_f",
    "aks/foo:_x": "aks/foo:_x",
    "aks/foo:" + "t" * 128: "aks/foo:" + "t" * 128,
}

REFUSED_AS_INPUT = {
    "": "empty",
    "Aks/foo": "lower case",
    "aks//foo": "empty",
    "/aks/foo": "empty",
    "aks/foo/": "empty",
    "mcr.microsoft.com//aks/foo": "empty",
    "aks/..": "`..`",
    "aks/../foo": "`..`",
    "aks/foo:": "tag is empty",
    "aks/foo:.x": "`.x` is not a tag",
    "aks/foo:" + "t" * 129: "is not a tag",
    "aks/foo:1.2.3:4": "is not a tag",
    "aks/foo@": "sha256",
    "aks/foo@sha256:abc": "64",
    f"aks/foo@{D.upper()}": "SHA256",
    f"aks/foo@{D}@{D}": "64",
    "aks/foo?x": "`?…`",
    "aks/foo#x": "`#…`",
    "aks/fo o": "position 6",
    "aks/foo\n": "position 7",
    "aks/foo\x1b[31m": "position 7",
    "ftp://mcr.microsoft.com/aks/foo": "ftp://",
    "docker://mcr.microsoft.com/aks/foo": "docker://",
    "mcr.microsoft.com": "no repository",
    "https://mcr.microsoft.com/": "empty",
    "https://mcr.microsoft.com": "no repository",
    "a" * 256: "255",
    "-x": "`-x`",
    "aks/-foo": "`-foo`",
    "aks/foo_": "`foo_`",
    "host_name.com/a": "is not a host",
    "evil.com:99999/a": "65535",
    "evil.com:0/a": "65535",
    "evil.com:/a": "is not a host",
    "[2001:db8::17::1]/a": "is not an IPv6 address",
    "[fe80::1%eth0]/a": "is not a host",
    "https://mcr.microsoft.com/aks/foo?x=1": "`?…`",
}

REFUSED_BY_POLICY = {
    "http://mcr.microsoft.com/aks/foo": "plain http",
    "user@mcr.microsoft.com/aks/foo": "user information",
    "https://user:pw@mcr.microsoft.com/aks/foo": "user information",
    "mcr.microsoft.com\\@evil.com/aks/foo": "backslash",
    "https://evil.com\\.mcr.microsoft.com/aks/foo": "backslash",
    "aks\\foo": "backslash",
    "127.1:80/aks/foo": "IP address",
    "https://2130706433/aks/foo": "IP address",
    "0x7f.1/aks/foo": "IP address",
    "127.0.0.256/aks/foo": "IP address",
    "127.0.0.01/aks/foo": "IP address",
    "[::ffff:7f00:1]/aks/foo": "IPv4 address",
    "0300.0.0.1/aks/foo": "IP address",
    "192.0.2.0x11/aks/foo": "IP address",
    "mcr.microsoft.com./aks/foo": "dot",
    "mсr.microsoft.com/aks/foo": "non-ASCII",
    "mcr.microsoft.com。evil.com/aks/foo": "non-ASCII",
}


@pytest.mark.parametrize(("text", "canonical"), READ.items(), ids=READ)
def test_every_form_of_the_contract_is_read(text: str, canonical: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == canonical
    assert Reference.parse(canonical) == reference


@pytest.mark.parametrize(("text", "part"), REFUSED_AS_INPUT.items(), ids=[repr(text)[:40] for text in REFUSED_AS_INPUT])
def test_what_does_not_fit_is_refused_naming_the_part(text: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        Reference.parse(text)
    assert part in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("text", "rule"), REFUSED_BY_POLICY.items(), ids=REFUSED_BY_POLICY)
def test_an_address_that_can_hide_its_host_is_refused_by_policy(text: str, rule: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Reference.parse(text)
    assert rule in caught.value.message
    assert caught.value.exit_code == 4


def test_there_is_no_default_tag() -> None:
    reference = Reference.parse("aks/foo")
    assert reference.tag is None
    assert reference.digest is None
    assert reference.host is None


LINES = {
    "helm pull oci://mcr.microsoft.com/aks/foo --version 1.7": ("mcr.microsoft.com/aks/foo", "1.7", False),
    "helm pull oci://mcr.microsoft.com/aks/foo --version '^1.7 || ~2'": ("mcr.microsoft.com/aks/foo", "^1.7 || ~2", False),
    "$ helm install alb oci://mcr.microsoft.com/aks/foo --version=1.2.3 --namespace x --set a=b": (
        "mcr.microsoft.com/aks/foo",
        "1.2.3",
        False,
    ),
    "helm template oci://mcr.microsoft.com/aks/foo:1.2.3": ("mcr.microsoft.com/aks/foo:1.2.3", None, False),
    "  helm pull --devel oci://mcr.microsoft.com/aks/foo".strip(): ("mcr.microsoft.com/aks/foo", None, True),
}


@pytest.mark.parametrize(("line", "found"), LINES.items(), ids=LINES)
def test_a_line_for_helm_gives_its_reference_and_its_range(line: str, found: tuple[str, str | None, bool]) -> None:
    pasted = Pasted.parse(line)
    assert (str(pasted.reference), pasted.version, pasted.devel) == found
    assert pasted.taken_from == line


@pytest.mark.parametrize(
    "line",
    ["helm pull foo", "helm pull oci://a.b/c oci://d.e/f", "helm pull oci://a.b/c --version", "helm pull 'oci://a.b/c"],
    ids=["no chart", "two charts", "nothing behind --version", "quotes"],
)
def test_a_line_for_helm_that_leaves_it_open_is_refused(line: str) -> None:
    with pytest.raises(InputError):
        Pasted.parse(line)


def test_a_reference_alone_has_no_place_for_a_range() -> None:
    with pytest.raises(InputError) as caught:
        Reference.parse("helm pull oci://mcr.microsoft.com/aks/foo --version ^1")
    assert caught.value.hint is not None
    assert "--version '^1'" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("localhost", True),
        ("localhost:80", True),
        ("127.0.0.1", True),
        ("127.255.0.9:1", True),
        ("[::1]:5", True),
        ("[0:0:0:0:0:0:0:1]", True),
        ("a.localhost", False),
        ("127.example", False),
        ("128.0.0.1", False),
        ("[::]", False),
    ],
)
def test_loopback_is_known_by_its_full_forms(text: str, loopback: bool) -> None:
    assert Host.parse(text).is_loopback is loopback


def test_a_message_never_repeats_an_endless_text() -> None:
    with pytest.raises(Error) as caught:
        Reference.parse("A" * 100_000)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("text", ["a/web:1.0.0-23+a1b2", "oci://mcr.microsoft.com/a/web:1.0.0-23+a1b2"])
def test_a_version_as_a_tag_names_the_tag(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Reference.parse(text)
    assert caught.value.hint == "a tag has `_` where a version has `+`: write `a/web:1.0.0-23_a1b2`"


@pytest.mark.parametrize("text", ["mcr.micro\u017foft.com", "\u212a.example.com", "m\u0131rror.example.com", "\u0130.example.com:443"])
def test_a_letter_that_only_lower_case_makes_ascii_is_no_host(text: str) -> None:
    with pytest.raises(PolicyError) as failed:
        Host.parse(text)
    assert failed.value.code == "address-refused"
