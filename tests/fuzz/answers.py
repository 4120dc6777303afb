"""Targets: responses of a registry, a data host or a proxy."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from types import SimpleNamespace
from typing import Any, cast

from requests.structures import CaseInsensitiveDict

from marfetch.artifact.filename import safe_title
from marfetch.artifact.kinds import END_OF_LIFE, LIFECYCLE, end_of_life, kind_of
from marfetch.artifact.payload import Choice, select, unpacked
from marfetch.budget import Budget
from marfetch.content import Silent, Source, read
from marfetch.document import parse_json
from marfetch.endpoint import Address, Endpoint
from marfetch.helm import index_yaml
from marfetch.oci import CREATED, Descriptor, Digest, Manifest, descriptor_json, parse_descriptors, parse_manifest
from marfetch.reference import Reference
from marfetch.remote import pages
from marfetch.remote.auth import Authority
from marfetch.remote.backoff import Backoff, RequestFailed
from marfetch.remote.download import Download
from marfetch.remote.http_errors import Failure, RequestKind, explain
from marfetch.remote.network_errors import trouble
from marfetch.remote.pauses import retry_after
from marfetch.remote.response import Response

from .target import Target

REGISTRY = Address.parse("https://mcr.microsoft.com/v2/aks/foo/tags/list?n=100")
DATA = Address.parse("https://eastus.data.mcr.microsoft.com/x//y?sig=s3cret")
NOW = 1_795_000_000.0
BLOB = bytes(range(256)) * 4
DESCRIPTOR = Descriptor("application/octet-stream", Digest.of(BLOB), len(BLOB))


class Said:
    """A response with status, headers and body. It replaces the network, which targets cannot use."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, address: Address) -> None:
        self.status_code = status
        self.headers = CaseInsensitiveDict(headers)
        self.address = address
        self.url = address.url
        self._body = body

    def pieces(self, most: int | None = None) -> Iterator[bytes]:
        body = self._body[:most]
        yield from (body[at : at + 100] for at in range(0, len(body), 100))


def _lines(data: bytes, count: int) -> tuple[list[str], bytes]:
    """Split off the first lines, decoded like headers. Return them and the remaining bytes."""
    *heads, body = data.split(b"\n", count) if data.count(b"\n") >= count else [*data.split(b"\n"), *[b""] * (count - data.count(b"\n"))]
    return [head.decode("latin-1").strip() for head in heads], body


def _link(data: bytes) -> None:
    heads = iter(data.split(b"\n"))
    asked: list[Address] = []

    def ask(address: Address) -> tuple[Any, bytes]:
        asked.append(address)
        link = next(heads, b"").decode("latin-1").strip()
        return Said(200, {"Link": link} if link else {}, b"", REGISTRY), b""

    try:
        for _ in pages.pages(REGISTRY, ask, "the tags of `aks/foo`"):
            pass
    finally:
        for address in asked:
            assert (address.scheme, address.host) == (REGISTRY.scheme, REGISTRY.host)
            assert address.target.partition("?")[0] == "/v2/aks/foo/tags/list"
        assert len({address.target for address in asked}) == len(asked)


def _location(data: bytes) -> None:
    text = data.decode("latin-1")
    address = pages.resolve(DATA, text)
    assert Address.parse(address.url) == address
    assert "\r" not in address.target
    assert "\n" not in address.target


def _retry_after(data: bytes) -> None:
    seconds = retry_after(data.decode("latin-1"), NOW)
    retry_after("Mon, 23 Nov 2026 14:01:00 GMT", NOW, date=data.decode("latin-1"))
    if seconds is None:
        return
    assert 0 <= seconds < float("inf")
    # If a pause is too long to wait for, the error says when to try again.
    backoff = Backoff(Budget(), Silent())
    backoff.attempts("`aks/foo`").check_pause("mcr.microsoft.com", backoff.throttled("mcr.microsoft.com", seconds))


def _content_range(data: bytes) -> None:
    """Consecutive responses. Each has a status, `Content-Range`, `Content-Length`, `ETag`, and a range of bytes of the blob."""
    answers = iter(data.split(b"\n--\n")[:12])
    asked = 0

    @contextmanager
    def ask(headers: dict[str, str], statuses: tuple[int, ...]) -> Iterator[Any]:
        nonlocal asked
        asked += 1
        assert asked < 60, "the blob is requested endlessly"
        (status, part, length, etag, begin), _ = _lines(next(answers, b""), 5)
        given = {"Content-Range": part, "Content-Length": length, "ETag": etag}
        number = int(status) if status in ("200", "206", "416") else statuses[len(part) % len(statuses)]
        start = int(begin) if begin.isascii() and begin.isdigit() and len(begin) < 6 else int(headers.get("Range", "bytes=0-")[6:-1])
        if number not in statuses:
            number = 200
        yield Said(number, {name: value for name, value in given.items() if value}, BLOB[start : start + 700], DATA)

    backoff = Backoff(Budget(), Silent(), chance=lambda: 0.0)
    download = Download(DESCRIPTOR, cast("Any", ask), backoff.attempts("the blob"), what="aks/foo:1")
    source = cast("Source", SimpleNamespace(blob=lambda *_: download))
    try:
        assert read(source, Reference("aks/foo"), DESCRIPTOR) == BLOB
    except RequestFailed as trouble:  # `remote.registry` raises this error too
        raise trouble.error from trouble


def _challenge(data: bytes) -> None:
    heads, body = _lines(data, 1)
    authority = Authority(Endpoint.parse("https://registry.example.com"))
    try:
        for tried in (False, True):
            found = authority.answer(heads[0], "a/b", tried=tried)
            if isinstance(found, Address):
                assert (found.scheme, str(found.host)) == ("https", "registry.example.com:443")
                assert found.url.isascii()
                assert found.url.isprintable()
    finally:
        if authority.take_token(body, "a/b"):
            (value,) = authority.headers(Address.parse("https://registry.example.com/v2/a/b/tags/list"), "a/b").values()
            assert value.startswith("Bearer ")
            assert value.isprintable()
            assert not authority.headers(DATA, "a/b")


class Wire:
    """A connection that delivers these bytes and then ends."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._data))


def _framing(data: bytes) -> None:
    """A whole response with headers and body."""
    answer = Response(cast("Any", Wire(data)), method="GET")
    taken = 0
    try:
        answer.begin()
        while piece := answer.read1(100):
            taken += len(piece)
            assert len(piece) <= 100
    except HTTPException as error:
        raise trouble(error, DATA, reused=False, proxy=None, trusted="the system").error from error
    finally:
        answer.close()
    assert taken <= len(data)
    assert answer.length is None or answer.length >= 0
    assert not (answer.chunked and answer.chunk_left), "the body ends before its last chunk"


def _failure(data: bytes) -> None:
    heads, body = _lines(data, 3)
    code, wait, edge = (*heads, "", "", "")[:3]
    status = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else 400 + len(body) % 200
    headers = CaseInsensitiveDict({"Retry-After": wait, "X-Msedge-Ref": edge, "X-Ms-Correlation-Request-Id": edge})
    asked = list(RequestKind)[len(edge) % len(RequestKind)]
    address = DATA if len(wait) % 2 else REGISTRY
    failure = Failure(
        asked, "aks/foo:1", "aks/foo", status, headers, address, body.decode("utf-8", "replace"), from_data_host=address is DATA
    )
    trouble = explain(failure)
    assert 1 <= trouble.tries <= 5
    assert "s3cret" not in trouble.error.message
    assert "s3cret" not in json.dumps(trouble.error.context)
    raise trouble.error


def _list(data: bytes) -> None:
    for name in ("tags", "repositories"):
        assert all(isinstance(one, str) for one in pages.entries(data, name, "the list"))


def _manifest(data: bytes) -> None:
    found = parse_manifest(data, what="the manifest of `aks/foo:1.2.3`")
    assert found.raw == data
    assert found.descriptor.digest == Digest.of(data)
    inside = (found.config, *found.layers) if isinstance(found, Manifest) else found.manifests
    written = [descriptor_json(one) for one in inside]
    assert parse_descriptors({"all": written}, what="it", name="all") == inside  # type: ignore[dict-item]
    if not isinstance(found, Manifest):
        return
    kind_of(found)
    for choice in (Choice(), Choice(all_layers=True)):
        for tag in ("1.2.3", None):
            chosen = select(found, choice, name="foo", tag=tag, what="aks/foo:1.2.3")
            for payload in (*chosen.payloads, *unpacked(chosen, found, repository="aks/foo", tag=tag)):
                assert safe_title(payload.name) == payload.name


def _lifecycle(data: bytes) -> None:
    """Lifecycle marks, one per line: the creation time, and the date when support ends."""
    marks = [line.decode("utf-8", "replace").partition("|") for line in data.split(b"\n")]
    end_of_life((LIFECYCLE, {CREATED: created, END_OF_LIFE: ends}) for created, _, ends in marks)


def _config(data: bytes) -> None:
    document = parse_json(data, "the config of `aks/foo:1.2.3`")
    facts = index_yaml.chart_facts(document if isinstance(document, dict) else {})
    text = document.get("created") if isinstance(document, dict) else None
    made = index_yaml.created(text if isinstance(text, str) else None)
    release = index_yaml.Release("foo", "1.2.3", "aks/foo", "1.2.3", created=made, facts=facts)
    index = index_yaml.index({"foo": [release]}, host="mcr.microsoft.com")
    assert index.decode("ascii").isprintable()
    parse_json(index, "the index")


def _manifests() -> list[bytes]:
    one = {"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": f"sha256:{'a' * 64}", "size": 12}
    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": f"sha512:{'b' * 128}", "size": 3}
    named = one | {"annotations": {"org.opencontainers.image.title": "a/b.txt", "io.deis.oras.content.unpack": "true"}}
    chart_ = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [one]}
    file = chart_ | {"artifactType": "application/x", "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{'c' * 64}", "size": 2}, "layers": [named], "subject": one, "annotations": {"org.opencontainers.image.version": "1.0"}}  # fmt: skip
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [one | {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}, "artifactType": "a/b"}]}  # fmt: skip
    docker = chart_ | {"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": config | {"mediaType": "application/vnd.docker.container.image.v1+json"}}  # fmt: skip
    return [json.dumps(document).encode() for document in (chart_, file, index, docker, {"schemaVersion": 1})]


TARGETS = (
    Target(
        "link",
        _link,
        lambda: [
            b'</v2/aks/foo/tags/list?n=100&last=1.2.3>; rel="next"\n<?last=2>; rel=next\n<list?last=3>; rel="next"',
            b'<https://mcr.microsoft.com/v2/aks/foo/tags/list?last=9>; rel="next"',
            b'<https://evil.example/v2/aks/foo/tags/list>; rel="next"',
            b'<//evil.example/>; rel="next"',
            b'</v2/other/tags/list>; rel="next"',
            b'</v2/aks/foo/tags/list>; rel="prev", <x>; rel="next"; title="a;b,c"',
            b"next",
        ],
        (4, 5),
        ("remote.pages.pages", "remote.pages._next", "remote.pages.resolve"),
    ),
    Target(
        "location",
        _location,
        lambda: [
            b"https://eastus.data.mcr.microsoft.com/a//b?sig=%2F",
            b"//host/x",
            b"/x?y",
            b"?q",
            b"x/../y",
            b"file:/etc/passwd",
            b"",
            b"https:x",
            b"a:b",
        ],
        (4,),
        ("remote.pages.resolve",),
    ),
    Target(
        "retry-after",
        _retry_after,
        lambda: [b"120", b"Wed, 25 Nov 2026 23:00:00 GMT", b"Fri, 31 Dec 9999 23:59:59 -2359", b"0", b"99999999999999999999", b"-1", b"Sunday, 06-Nov-94 08:49:37 GMT", b"1 Jan 1 00:00 +2400"],
        (7,),
        ("remote.pauses.retry_after",),
    ),
    Target(
        "content-range",
        _content_range,
        lambda: [
            b'200\n\n1024\n"e"\n0\n--\n206\nbytes 700-1023/1024\n324\n"e"\n700',
            b'200\n\n\n"e"\n0\n--\n206\nbytes 700-1023/1024\n324\n"e"\n700',
            b"206\nbytes 0-1023/1024\n\n\n0\n--\n416\nbytes */1024\n0\n\n0\n--\n200\n\n\n\n0",
            b'200\n\n\nW/"x"\n0\n--\n206\nbytes 700-1023/*\n\n\n0\n--\n206\nbytes 9999999999999999999-1/1\n\n\n5',
        ],
        (5, 7),
        ("remote.download.Download.__call__", "remote.download.Download._accept"),
        runs=300,
    ),
    Target(
        "challenge",
        _challenge,
        lambda: [
            b'Bearer realm="https://registry.example.com/token?a=b",service="x y",scope="repository:a/b:pull"\n{"token":"abc.def"}',
            b'Bearer realm="https://evil.example/token"\n{"access_token":"x"}',
            b'Basic realm="x"\n{"token":"a\\nb"}',
            b'Negotiate, Basic realm="a, b", Bearer realm="https://registry.example.com/t"\n{}',
            b'bearer realm="http://169.254.169.254/"\n{}',
            b'Bearer realm="https://registry.example.com\\@evil.example/",x="a\\"b,c"\n[]',
        ],
        (4,),
        ("remote.auth.Authority.answer", "remote.auth.Authority.take_token", "remote.auth.challenges"),
        programs=True,
    ),
    Target(
        "framing",
        _framing,
        lambda: [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-1\r\nwithout end",
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n005;a="b;c"\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n',
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0x5\r\nhello\r\n1_0\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 206 Partial Content\r\nContent-Length: 5, 5\r\n\r\nhello, and more",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\nContent-Length: +5\r\n\r\nhello",
            b"HTTP/1.0 404 Not Found\r\n\r\nhello",
        ],
        (4, 5, 7),
        ("remote.response.Response.begin", "remote.response.Response._get_chunk_left"),
    ),
    Target(
        "error-body",
        _failure,
        lambda: [
            b'404\n\nRef A: 1\n{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest tagged by \\"x\\" is not found","detail":{"Tag":"x"}}]}',
            b'429\n120\n\n{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}',
            b"403\n\nx\n<html><body>The request is blocked.<p>20260101T000000Z-Ref A: 0123456789ABCDEF0123456789ABCDEF Ref B: AMS Ref C: 2026-01-01T00:00:00Z</body>",
            b'403\n1\n\n\xef\xbb\xbf<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code></Error>',
            b"503\nWed, 25 Nov 2026 23:00:00 GMT\n\n\x1b[2J\x1b]0;ok\x07 success\r\n",
            b"500\n\n\n[1,2,3]",
            b'401\n\n\n{"errors":[{"code":1e999,"message":{"a":[]}}, null]}',
        ],
        (3, 4, 7),
        ("remote.http_errors.explain",),
    ),
    Target(
        "list",
        _list,
        lambda: [
            b'{"name":"aks/foo","tags":["1.2.3","latest"],"repositories":["a/b"]}',
            b'{"name":"x","tags":null,"repositories":null}',
            b'{"tags":["a",1,null,{"x":1e999}],"repositories":[[[[]]]]}',
            b'{"tags":"1.0.0"}',
            b"<html>",
        ],
        (5,),
        ("remote.pages.entries",),
    ),
    Target(
        "manifest",
        _manifest,
        _manifests,
        (3, 4, 5),
        ("oci.parse_manifest", "oci.parse_descriptors", "artifact.payload.select", "artifact.payload.unpacked", "artifact.kinds.kind_of"),
        runs=1000,
    ),
    Target(
        "lifecycle",
        _lifecycle,
        lambda: [
            b"2026-01-01T00:00:00Z|2026-01-31\n2026-02-01T00:00:00+01:00|2027-01-31T23:59:59.999Z",
            b"0001-01-01T00:00:00+23:59|9999-12-31T23:59:59-23:59\n9999-12-31T23:59:59-23:59|0001-01-01",
            b"|2026-W05-6\n20260101|",
        ],
        (),
        ("artifact.kinds.end_of_life",),
    ),
    Target(
        "config",
        _config,
        lambda: [
            b'{"name":"foo","version":"1.2.3","apiVersion":"v2","description":"a\\u001b[2Jb","type":"application","keywords":["x",1],"deprecated":true,"appVersion":1.10,"created":"2026-01-01T00:00:00Z"}',
            b'{"created":"0001-01-01T00:00:00+23:59","appVersion":1e999,"icon":"\\ud800"}',
        ],
        (5,),
        ("helm.index_yaml.chart_facts", "helm.index_yaml.created", "helm.index_yaml.index"),
    ),
)  # fmt: skip
