"""Targets: references, ranges and addresses, as people type and paste them."""

from __future__ import annotations

import ipaddress
import os
import posixpath
import re
import urllib.parse
from pathlib import PurePosixPath

from semver import Version
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from marfetch.artifact.filename import safe_title
from marfetch.bundle.targets import To
from marfetch.completion import complete
from marfetch.constraint import Constraint, distinct, exact_version, read_version, sort_versions
from marfetch.endpoint import GLOBAL, Address, Endpoint, HostPattern
from marfetch.helm import address as helm
from marfetch.oci import Digest, Platform
from marfetch.project.sync import Shard
from marfetch.reference import Host, Pasted, Reference
from marfetch.text import redacted
from marfetch.verify.names import DistinguishedNameError, parse_name

from .target import Target

DIGEST = "sha256:" + "0123456789abcdef" * 4


def _reference(data: bytes) -> None:
    text = os.fsdecode(data)  # arguments are decoded like this
    assert len(redacted(text)) <= 300
    pasted = Pasted.parse(text)
    assert Reference.parse(str(pasted.reference)) == pasted.reference
    assert Reference.parse(text) == pasted.reference or pasted.version is not None


def _endpoint(data: bytes) -> None:
    text, _, more = os.fsdecode(data).partition("\n")
    endpoint = Endpoint.parse(text, tuple(more.split(",")) if more else ())
    assert Endpoint.parse(endpoint.name, tuple(map(str, endpoint.data_hosts)) if not endpoint.official else ()) == endpoint
    for pattern in endpoint.data_hosts:
        assert HostPattern.parse(str(pattern)) == pattern


def _short(host: str) -> str:
    """Return a host as marfetch writes it: in lower case, with IPv6 addresses in their short form."""
    inside = host.strip("[]")
    return f"[{ipaddress.IPv6Address(inside).compressed}]" if ":" in inside else host.lower()


def _address(data: bytes) -> None:
    text = data.decode("latin-1")  # headers are decoded like this
    address = Address.parse(text)
    assert Address.parse(address.url) == address
    # Compare with the hosts that two other URL parsers read, one of which is used to connect.
    for url in (text, address.url):
        wanted = (address.scheme, address.host.name, address.host.port)
        try:
            there = parse_url(url)
        except LocationParseError:
            continue  # an unreadable address is never connected to
        assert (there.scheme, _short(there.host or ""), there.port or {"https": 443, "http": 80}[address.scheme]) == wanted, url
        other = urllib.parse.urlsplit(url)
        assert _short(other.hostname or "").strip("[]") == address.host.name.strip("[]"), url
    GLOBAL.check(address)
    assert address.scheme == "https"
    assert address.host.port == 443
    assert re.fullmatch(r"mcr\.microsoft\.com|[a-z0-9.-]+\.data\.mcr\.microsoft\.com", address.host.name)


def _constraint(data: bytes) -> None:
    text, *tags = os.fsdecode(data).split("\n")
    exact_version(text)
    constraint = Constraint.parse(text)
    assert Constraint.parse(str(constraint)) == constraint
    newest = constraint.newest(tags)
    if newest is not None:
        assert constraint.allows(newest)
        assert newest in tags
        assert constraint.newest(reversed(tags)) is not None


def _versions(data: bytes) -> None:
    tags = data.decode("utf-8", "replace").split("\n")
    found = sort_versions(tags)
    assert {one.tag for one in found} <= set(tags)
    assert [one.key for one in found] == sorted((one.key for one in found), reverse=True)
    assert sum(map(len, distinct(found).values())) == len(found)
    for one in found:
        assert Version.parse(str(one.version)) == one.version
        again = read_version(str(one.version))
        assert again is None or again.key == one.key


def _getter(data: bytes) -> None:
    found = helm.parse(os.fsdecode(data))
    if isinstance(found, helm.ChartAddress):
        for reference in found.references:
            assert Reference.parse(str(reference)) == reference


def _options(data: bytes) -> None:
    """The value of an option. The first line selects the option."""
    sort, _, rest = data.partition(b"\n")
    text = os.fsdecode(rest)
    match sort:
        case b"platform":
            assert Platform.parse(str(Platform.parse(text))) == Platform.parse(text)
        case b"digest":
            assert str(Digest.parse(text)) == text
        case b"host":
            assert Host.parse(str(Host.parse(text))) == Host.parse(text)
        case b"shard":
            shard = Shard.parse(text)
            assert 0 <= shard.index < shard.count
        case _:
            To.parse(text)


def _complete(data: bytes) -> None:
    words = os.fsdecode(data).split("\n")
    complete.find_candidates(words, {"HOME": "/nonexistent"})
    assert complete.complete(words).isascii()


def _title(data: bytes) -> None:
    title = safe_title(data.decode("utf-8", "surrogateescape"))
    assert posixpath.normpath(title) == title
    path = PurePosixPath(title)
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert (PurePosixPath("/top") / path).is_relative_to("/top")
    assert len(title.encode()) <= 255


def _distinguished(data: bytes) -> None:
    try:
        found = parse_name(data.decode("utf-8", "replace"))
    except DistinguishedNameError:
        return
    assert {"C", "ST", "O"} <= found.keys()


def _texts(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


TARGETS = (
    Target(
        "reference",
        _reference,
        lambda: _texts(
            "aks/foo", "aks/foo:1.2.3", f"aks/foo@{DIGEST}", f"mcr.microsoft.com/aks/foo:1.2.3@{DIGEST}", "oci://mcr.microsoft.com/aks/foo",
            "mar://mcr.azure.cn/a/b", "http://127.0.0.1:5000/a:b", "https://mcr.microsoft.com/en-us/artifact/mar/aks/foo/about",
            "https://mcr.microsoft.com/v2/aks/foo/manifests/1.2.3", f"https://mcr.microsoft.com/v2/aks/foo/blobs/{DIGEST}",
            "helm pull oci://mcr.microsoft.com/aks/foo --version '^1.7' --devel", "$ helm install x oci://mcr.microsoft.com/a/b --version=1",
            "https://user:pass@mcr.microsoft.com/a/b?sig=secret", "[::1]:5000/a", "localhost/a:b", "a//b", "A/b", "mcr.microsoft.com",
        ),
        (2, 4),
        ("reference.Pasted.parse", "reference.Reference.parse", "reference.redacted", "reference.Host.parse"),
    ),
    Target(
        "endpoint",
        _endpoint,
        lambda: _texts("global", "china", "https://registry.example.com", "http://localhost:5000\n127.0.0.1:6000,*.data.example.com:8443", "https://mcr.microsoft.com", "https://x.data.mcr.microsoft.com", "http://a.example"),
        (2, 4),
        ("endpoint.Endpoint.parse", "endpoint.HostPattern.parse"),
    ),
    Target(
        "address",
        _address,
        lambda: _texts(
            "https://mcr.microsoft.com/v2/", "https://eastus.data.mcr.microsoft.com/a//b?sig=x%2F&se=1", "http://A:1\\@eastus.data.mcr.microsoft.com/",
            "https://mcr.microsoft.com@evil.example/", "https://mcr.microsoft.com#@evil.example/", "https://[::1]:443/a", "https://0x7f.1/", "HTTPS://MCR.Microsoft.com:443",
            "https://mcr.microsoft.com./", "https://127.0.0.1:5000/x?y#z", "file:///etc/passwd", "https://xn--mr-hia.microsoft.com/",
        ),
        (4,),
        ("endpoint.Address.parse",),
    ),
    Target(
        "constraint",
        _constraint,
        lambda: _texts(
            "^1.7\n1.7.0\n1.8.0\n2.0.0", ">=1.2 <2 || ~3.1.x\n3.1.4", "1.2 - 2.3\n1.5.0", "=1.2.3", "v1.2.3-rc.1+build", "*\n0.1.0", "!=1.x, >0.0.0-0\n1.0.0-alpha",
            "=> 1.2,<= 3", "1.2.3-0.1 || 2 || 3 || 4", "1-1-1-1-1-1-1-1 - 1-1-1-1-1",
        ),
        (2,),
        ("constraint.Constraint.parse", "constraint.exact_version"),
    ),
    Target(
        "versions",
        _versions,
        lambda: _texts("1.2.3\nv1.2.3\n1.2.3_a\n01.2.3\nlatest\n2024-01-02", "18446744073709551615.0.0\n18446744073709551616.0.0\n1.0.0-99999999999999999999999\n1.0.0-0a", "0.4.023901\n1.0.0-rc.1\n1.0.0-rc-1_x-y"),
        (),
        ("constraint.read_version", "constraint.sort_versions", "constraint.distinct"),
        runs=1000,
    ),
    Target(
        "getter",
        _getter,
        lambda: _texts(
            "mar://mcr.microsoft.com/index.yaml", "mar://mcr.microsoft.com/aks/index.yaml", f"mar://mcr.microsoft.com/aks/foo@{DIGEST}/foo-1.2.3.tgz",
            "mar://mcr.microsoft.com/aks/foo:1.2.3/foo-1.2.3.tgz.prov", "mar://mcr.microsoft.com/aks/foo-bar-1.2.3+x.tgz", "mar://mcr.microsoft.com/aks/foo?version=%5E1.2",
            "mar://localhost:5000/a?version=1.0.0+b", "mar://mcr.microsoft.com/%61ks/foo:1", "MAR://x/",
        ),
        (2, 4),
        ("helm.address.parse",),
    ),
    Target(
        "options",
        _options,
        lambda: _texts("platform\nlinux/arm64/v8", f"digest\n{DIGEST}", "host\nmcr.microsoft.com:443", "shard\n1/4", "to\nregistry.example.com:5000/prefix", "to\n./folder", "to\nmcr.microsoft.com/x", "host\n[::1]:1"),
        (2, 4),
        ("oci.Platform.parse", "oci.Digest.parse", "project.sync.Shard.parse", "bundle.targets.To.parse"),
    ),
    Target(
        "completion",
        _complete,
        lambda: _texts("pull\nak", "pull\n--", "verify\n--cache-dir=/nonexistent\naks/foo:", "cache\n", "pull\n--endpoint\nchina\n--\n-", "bundle\ncreate\n--f"),
        (2, 4),
        ("completion.complete.find_candidates", "completion.complete.read_line"),
        runs=200,
    ),
    Target(
        "title",
        _title,
        lambda: [*_texts("main.bicep", "a/b/c.txt", "../x", "/etc/passwd", "C:\\x", "con.txt", "a\u202eb", "x" * 255, ".marfetch-x", "a/./b", "nul "), b"\xed\xa0\x80.txt"],
        (4,),
        ("artifact.filename.safe_title",),
    ),
    Target(
        "distinguished-name",
        _distinguished,
        lambda: _texts("C=US, ST=Washington, O=Example Test Corporation", 'CN=a\\,b\\2C\\e2\\82\\ac,O=x\\ ,ST=y,C=z;OU=q', "C=#0c", "2.5.4.3=x,C=a,S=b,O=c"),
        (),
        ("verify.names.parse_name",),
    ),
)  # fmt: skip
