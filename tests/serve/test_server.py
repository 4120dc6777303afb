"""`marfetch serve`: responses beyond a plain pull, hostile clients, and the command as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import struct
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from marfetch.content import Source
from marfetch.layout.blobs import Extent
from marfetch.layout.layout import Layout
from marfetch.layout.readonly import open_store
from marfetch.layout.repositories import Contents
from marfetch.oci import OCI_INDEX, OCI_MANIFEST, Digest, Manifest
from marfetch.reference import Host, Reference
from marfetch.serve import page, responses, server, streams
from marfetch.serve.app import ServedRegistry
from marfetch.serve.server import IDLE_TIME, Serving, _TimeoutMixin, bind, protocol

from ..world.command import marfetch, surroundings
from ..world.content import ALB
from ..world.layouts import REF_NAME, Maker, packed
from ..world.serving import Command, Got, ask

TAGS = ["0.4.023901", "0.4.023971", "1.0.0", "1.0.7", "1.10.27", "1.11.4", "1.7.12", "1.7.9", "1.8.12"]


class Served:
    """A layout served on its own port."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.store = open_store(path)
        self.told: list[str] = []
        self._socket = bind()
        self.port = self._socket.getsockname()[1]
        registry = ServedRegistry(self.store, name=options.pop("name", "here"), warn=self.told.append, **options)
        self.contents = registry.contents
        self.serving = Serving([(registry.app(), self._socket)])

    def __enter__(self) -> Served:
        self.serving.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.serving.__exit__(None, None, None)
        self.store.close()

    def ask(self, target: str, method: str = "GET", **headers: str) -> Got:
        return ask(self.port, target, method, **headers)


@pytest.fixture(scope="module")
def alb(recipe: Layout) -> Iterator[Served]:
    with Served(recipe.root) as one:
        yield one


# -- lists


PAGES = {
    "the first ones": ("n=2", TAGS[:2], "n=2&last=0.4.023971"),
    "the next ones": ("n=2&last=0.4.023971", TAGS[2:4], "n=2&last=1.0.7"),
    "the last ones": ("n=2&last=1.7.9", TAGS[8:], None),
    "just all of them": ("n=9", TAGS, None),
    "more than all": ("n=1000000000000", TAGS, None),
    "none": ("n=0", [], None),
    "what stands behind": ("last=1.11.4", TAGS[6:], None),
    "behind one that is not there": ("last=1.5&n=1", ["1.7.12"], "n=1&last=1.7.12"),
    "behind the end": ("last=zzz&n=5", [], None),
    "something else": ("x=1", TAGS, None),
}


@pytest.mark.parametrize(("query", "tags", "following"), PAGES.values(), ids=PAGES)
def test_tags_come_in_pages(alb: Served, query: str, tags: list[str], following: str | None) -> None:
    answer = alb.ask(f"/v2/{ALB}/tags/list?{query}")
    assert (answer.status, answer.json) == (200, {"name": ALB, "tags": tags})
    link = f'</v2/{ALB}/tags/list?{following}>; rel="next"' if following else None
    assert answer.headers.get("link") == link


@pytest.mark.parametrize("number", ["-1", "x", "", "1.5", "1e3", "9" * 30, "%00"])
def test_a_number_of_tags_that_is_none_is_refused(alb: Served, number: str) -> None:
    for path in (f"/v2/{ALB}/tags/list", "/v2/_catalog"):
        answer = alb.ask(f"{path}?n={number}")
        assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


def test_the_catalog_comes_in_pages_that_hold_everything_once(alb: Served) -> None:
    whole = alb.ask("/v2/_catalog").json["repositories"]
    found: list[str] = []
    target: str | None = "/v2/_catalog?n=4"
    while target:
        answer = alb.ask(target)
        assert 0 < len(answer.json["repositories"]) <= 4
        found += answer.json["repositories"]
        match = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("link", ""))
        target = match[1] if match else None
    assert found == whole == sorted(whole)
    assert len(whole) > 8


# -- manifests


ACCEPTS = ["*/*", "application/vnd.docker.distribution.manifest.v2+json", "text/html", OCI_MANIFEST, "application/json;q=0"]


@pytest.mark.parametrize("accept", ACCEPTS)
def test_a_manifest_is_given_in_its_own_type_whatever_is_accepted(alb: Served, accept: str) -> None:
    answer = alb.ask(f"/v2/{ALB}/manifests/1.7.12", Accept=accept)
    assert (answer.status, answer.headers["content-type"]) == (200, OCI_MANIFEST)
    assert str(Digest.of(answer.body)) == answer.headers["docker-content-digest"]
    assert answer.headers["etag"] == f'"{answer.headers["docker-content-digest"]}"'


CONDITIONS = {
    '"{digest}"': 304,
    'W/"{digest}"': 304,
    '"other", "{digest}"': 304,
    "*": 304,
    '"other"': 200,
    "{digest}": 200,
    "": 200,
}


@pytest.mark.parametrize(("condition", "status"), CONDITIONS.items(), ids=CONDITIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("sort", ["manifests", "blobs"])
def test_what_the_client_has_is_not_sent(alb: Served, condition: str, status: int, method: str, sort: str) -> None:
    manifest = alb.ask(f"/v2/{ALB}/manifests/1.7.12")
    digest = str(Digest.of(manifest.body)) if sort == "manifests" else manifest.json["layers"][0]["digest"]
    answer = alb.ask(f"/v2/{ALB}/{sort}/{digest}", method, If_None_Match=condition.format(digest=digest))
    assert (answer.status, answer.headers["etag"]) == (status, f'"{digest}"')
    assert bool(answer.body) == (status == 200 and method == "GET")


def test_nothing_is_given_under_a_repository_that_does_not_lead_there(maker: Maker) -> None:
    mine, other = maker.manifest("mine", "aks/foo:1"), maker.manifest("other", "aks/bar:1")
    stray = maker.blob(b"nobody names this")
    with Served(maker.root) as one:
        for digest in (mine["digest"], Digest.of(b"mine")):
            assert one.ask(f"/v2/aks/foo/blobs/{digest}").status == 200
        for digest in (other["digest"], Digest.of(b"other"), stray["digest"]):
            answer = one.ask(f"/v2/aks/foo/blobs/{digest}")
            assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
        assert one.ask(f"/v2/aks/foo/manifests/{mine['digest']}").status == 200
        assert one.ask(f"/v2/aks/foo/manifests/{other['digest']}").code == "MANIFEST_UNKNOWN"
        assert one.ask(f"/v2/aks/fo/manifests/{mine['digest']}").code == "MANIFEST_UNKNOWN"


def test_referrers_are_computed_from_subjects(maker: Maker) -> None:
    subject = maker.manifest("subject", "1.0")
    kinds = {maker.manifest(kind, None, artifactType=kind, subject=subject)["digest"]: kind for kind in ("text/a", "text/b")}
    maker.manifest("elsewhere", "aks/bar:1", artifactType="text/a", subject=subject)
    with Served(maker.root) as one:
        path = f"/v2/here/referrers/{subject['digest']}"
        assert {entry["digest"]: entry["artifactType"] for entry in one.ask(path).json["manifests"]} == kinds
        answer = one.ask(f"{path}?artifactType=text%2Fa")
        assert [entry["artifactType"] for entry in answer.json["manifests"]] == ["text/a"]
        assert answer.headers["oci-filters-applied"] == "artifactType"
        assert one.ask(f"{path}?artifactType=TEXT/A").json["manifests"] == []
        assert one.ask(f"/v2/here/referrers/{Digest.of(b'unknown')}").json["manifests"] == []
        assert one.ask(f"/v2/none/such/referrers/{subject['digest']}").code == "NAME_UNKNOWN"


def test_many_referrers_come_in_pages(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "PIECE", 2_000)
    subject = maker.manifest("subject", "1.0")
    for number in range(20):
        notes = {"note": "x" * (3_000 if number == 7 else 300)}
        maker.manifest(str(number), None, artifactType=f"text/{number % 2}", subject=subject, annotations=notes)
    path = f"/v2/here/referrers/{subject['digest']}"
    with Served(maker.root) as one:
        whole = {entry["digest"] for entry in maker.entries[1:]}
        for query, expected in (("", 20), ("?artifactType=text%2F1", 10)):
            target, found, pages = path + query, [], 0
            while target:
                answer = one.ask(target)
                assert 0 < len(answer.body) < 4_000
                assert answer.headers["content-type"] == OCI_INDEX
                found += [entry["digest"] for entry in answer.json["manifests"]]
                pages += 1
                link = answer.headers.get("link")
                target = link[1 : link.index(">")] if link else ""
            assert (len(found), len({*found})) == (expected, expected)
            assert {*found} <= whole
            assert pages > 3


def test_a_list_has_an_end_where_no_number_is_asked_for(alb: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_PAGE", 4)
    for query in ("", "?n=9"):
        answer = alb.ask(f"/v2/{ALB}/tags/list{query}")
        assert (answer.json["tags"], answer.headers["link"]) == (TAGS[:4], f'</v2/{ALB}/tags/list?n=4&last={TAGS[3]}>; rel="next"')
    assert len(alb.ask("/v2/_catalog").json["repositories"]) == 4


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 21])
def test_a_body_is_sent_in_chunks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(responses, "PIECE", 10)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    body = bytes(range(size))
    asyncio.run(responses.PlainResponse([], body)({}, receive, send))
    pieces = [message["body"] for message in sent[1:]]
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 10
    assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(pieces) - 1) + [False]


# -- ranges


RANGES: dict[str, tuple[str, tuple[int, int] | None]] = {
    "the last ones": ("bytes=-3", (7, 10)),
    "more of the last ones than there are": ("bytes=-99", (0, 10)),
    "in capitals, with spaces": ("Bytes = 2 - 4", (2, 5)),
    "one": ("bytes=0-0", (0, 1)),
    "up to the end": ("bytes=9-", (9, 10)),
    "several": ("bytes=0-1,3-4", None),
    "backwards": ("bytes=5-2", None),
    "negative": ("bytes=--5", None),
    "a plus": ("bytes=+1-2", None),
    "other digits": ("bytes=١-٢", None),
    "a beginning far behind the end": (f"bytes={'9' * 40}-", (10**19, 10)),
    "an end far behind the end": (f"bytes=2-{'9' * 40}", (2, 10)),
    "another unit": ("items=0-1", None),
}


@pytest.mark.parametrize(("wanted", "expected"), RANGES.values(), ids=RANGES)
def test_a_range_means_what_the_standard_says(wanted: str, expected: tuple[int, int] | None) -> None:
    assert responses.part(wanted, 10) == expected


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_without_bytes_is_416(maker: Maker, wanted: str) -> None:
    maker.manifest("0123456789", "aks/foo:1")
    with Served(maker.root) as one:
        answer = one.ask(f"/v2/aks/foo/blobs/{Digest.of(b'0123456789')}", Range=wanted)
        assert (answer.status, answer.headers["content-range"], answer.body) == (416, "bytes */10", b"")
        several = one.ask(f"/v2/aks/foo/blobs/{Digest.of(b'0123456789')}", Range="bytes=0-1,3-4")
        assert (several.status, several.body) == (200, b"0123456789")
        behind = one.ask(f"/v2/aks/foo/blobs/{Digest.of(b'0123456789')}", Range="bytes=-3", If_Range='W/"x"')
        assert (behind.status, behind.body) == (200, b"0123456789")


# -- verification of blobs


def test_a_blob_with_wrong_bytes_is_never_returned(maker: Maker) -> None:
    maker.manifest("right", "aks/foo:1")
    digest = Digest.of(b"right")
    path = maker.path(digest)
    with Served(maker.root) as one:
        path.write_bytes(b"wrong")
        answer = one.ask(f"/v2/aks/foo/blobs/{digest}")
        assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
        assert b"wrong" not in answer.body
        assert any(str(digest) in told for told in one.told)
        assert one.ask(f"/v2/aks/foo/blobs/{digest}", Range="bytes=0-1").status == 404
        path.write_bytes(b"longer than that")
        assert one.ask(f"/v2/aks/foo/blobs/{digest}", "HEAD").status == 404
        path.write_bytes(b"right")
        assert one.ask(f"/v2/aks/foo/blobs/{digest}").body == b"right"
        path.write_bytes(b"wrong")
        os.utime(path, ns=(1, 1))
        assert one.ask(f"/v2/aks/foo/blobs/{digest}").status == 404, "a blob is hashed again after its file has changed"
        path.unlink()
        assert one.ask(f"/v2/aks/foo/blobs/{digest}").status == 404


def test_a_blob_is_hashed_once(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    maker.manifest("right", "aks/foo:1")
    hashed: list[Digest] = []
    original = streams._has_digest

    def counting(digest: Digest, extent: Extent) -> bool:
        hashed.append(digest)
        return original(digest, extent)

    monkeypatch.setattr(streams, "_has_digest", counting)
    with Served(maker.root) as one:
        for _ in range(3):
            assert one.ask(f"/v2/aks/foo/blobs/{Digest.of(b'right')}").body == b"right"
        assert one.ask(f"/v2/aks/foo/blobs/{Digest.of(b'right')}", "HEAD").headers["content-length"] == "5"
    assert hashed == [Digest.of(b"right")]


@pytest.mark.slow
def test_a_blob_that_is_written_into_while_it_is_given_is_cut(maker: Maker) -> None:
    data = os.urandom(24 << 20)
    maker.manifest("x", "aks/foo:1", layers=[maker.blob(data)])
    digest = Digest.of(data)
    with Served(maker.root) as one:
        assert len(one.ask(f"/v2/aks/foo/blobs/{digest}").body) == len(data)
        with socket.create_connection(("127.0.0.1", one.port), timeout=30) as asking:
            asking.sendall(f"GET /v2/aks/foo/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            got = asking.recv(1000)
            with maker.path(digest).open("r+b") as file:
                file.seek(20 << 20)
                file.write(bytes(4 << 20))
            while piece := asking.recv(1 << 20):
                got += piece
        body = got.partition(b"\r\n\r\n")[2]
        assert len(body) < len(data)
        assert data.startswith(body), "no byte of the other version is sent"


def test_a_manifest_that_is_written_into_is_not_given(maker: Maker) -> None:
    digest = maker.manifest("x", "aks/foo:1")["digest"]
    with Served(maker.root) as one:
        good = one.ask("/v2/aks/foo/manifests/1").body
        maker.path(digest).write_bytes(good.replace(b"x", b"y"))
        assert one.ask("/v2/aks/foo/manifests/1").code == "MANIFEST_UNKNOWN"
        maker.path(digest).write_bytes(good)
        assert one.ask("/v2/aks/foo/manifests/1").body == good


def test_a_tar_that_is_replaced_is_served_on(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("first", "aks/foo:1")
    path = packed(maker.root, tmp_path / "a.tar")
    with Served(path) as one:
        tar_manifest = one.ask("/v2/aks/foo/manifests/1").body
        other = Maker(tmp_path / "other")
        other.manifest("second", "aks/foo:1")
        packed(other.root, tmp_path / "b.tar").replace(path)
        assert one.ask("/v2/aks/foo/manifests/1").body == tar_manifest
        assert one.ask(f"/v2/aks/foo/blobs/{Digest.of(b'first')}").body == b"first"


def test_a_tar_that_is_overwritten_gives_nothing_wrong(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("first", "aks/foo:1")
    path = packed(maker.root, tmp_path / "a.tar")
    with Served(path) as one:
        assert one.ask(f"/v2/aks/foo/blobs/{Digest.of(b'first')}").body == b"first"
        path.write_bytes(path.read_bytes().replace(b"first", b"worst"))
        assert one.ask(f"/v2/aks/foo/blobs/{Digest.of(b'first')}").status == 404
        path.write_bytes(b"")
        assert one.ask("/v2/aks/foo/manifests/1").status == 404


def test_a_layout_that_grows_is_served_with_what_is_new(maker: Maker) -> None:
    maker.manifest("a", "aks/foo:1")
    with Served(maker.root) as one:
        assert one.ask("/v2/_catalog").json["repositories"] == ["aks/foo"]
        maker.manifest("b", "aks/bar:1")
        assert one.ask("/v2/_catalog").json["repositories"] == ["aks/bar", "aks/foo"]
        (maker.root / "index.json").write_text("half")
        assert one.ask("/v2/aks/bar/manifests/1").status == 200
        assert len(one.told) == 1


def test_a_child_that_comes_later_is_found(maker: Maker) -> None:
    child = maker.manifest("child", listed=False)
    data = maker.path(child["digest"]).read_bytes()
    maker.index([child], "aks/foo:1")
    maker.path(child["digest"]).unlink()
    with Served(maker.root) as one:
        assert one.ask(f"/v2/aks/foo/manifests/{child['digest']}").code == "MANIFEST_UNKNOWN"
        maker.path(child["digest"]).write_bytes(data)
        assert one.ask(f"/v2/aks/foo/manifests/{child['digest']}").body == data


def test_pieces_are_read_even_if_the_system_cannot_read_only_from_the_page_cache(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(3 * responses.PIECE + 5)
    maker.manifest("x", "aks/foo:1", layers=[maker.blob(data)])
    monkeypatch.setattr(streams, "_NOWAIT", None)
    with Served(maker.root) as one:
        assert one.ask(f"/v2/aks/foo/blobs/{Digest.of(data)}").body == data


# -- hostile clients, with both HTTP parsers


@pytest.fixture(params=["h11", "httptools"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "h11":
        monkeypatch.setitem(sys.modules, "httptools", None)
    else:
        pytest.importorskip("httptools", reason="the optional parser is not installed (extra `fast`)")
    assert any(base.__module__.endswith(f"{request.param}_impl") for base in protocol().__mro__)
    return str(request.param)


@pytest.fixture
def tough(maker: Maker, parser: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Serve a layout with short time limits."""
    monkeypatch.setattr(_TimeoutMixin, "header_time", 0.5)
    maker.manifest("0123456789", "aks/foo:1", layers=[maker.blob(bytes(16 << 20))])
    with Served(maker.root) as one:
        yield one


def raw(port: int, data: bytes) -> bytes:
    """Send these bytes, and return everything that arrives before the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as asking:
        asking.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := asking.recv(65536):
                answer += piece
        return answer


REFUSED = {
    "HTTP/0.9": b"GET /v2/\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /v2/ HTTP/1.1\r\n\r\n",
    "an empty host": b"GET /v2/ HTTP/1.1\r\nHost:\r\n\r\n",
    "two hosts": b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a host with a path": b"GET /v2/ HTTP/1.1\r\nHost: a/../b\r\n\r\n",
    "a host with user information": b"GET /v2/ HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "a host with a space": b"GET /v2/ HTTP/1.1\r\nHost: a b\r\n\r\n",
    "two lengths": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "length and chunks": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "a negative length": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a header without a colon": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
    "a NUL": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_an_ambiguous_request_is_refused_and_the_connection_is_closed(tough: Served, data: bytes) -> None:
    answer = raw(tough.port, data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert len(re.findall(rb"HTTP/1\.1 \d{3}", answer)) == 1, "the bytes behind the first request get no response"
    assert tough.ask("/v2/").status == 200


@pytest.mark.parametrize(
    "start", [b"GET /" + b"a" * (1 << 20), b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (1 << 20), b"GET /v2/ HTTP/1.1\r\n" + b"A: b\r\n" * 200_000], ids=["address", "header", "headers"]
)  # fmt: skip
def test_headers_without_end_are_refused(tough: Served, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", tough.port), timeout=30) as asking:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                sent += asking.send(start[sent % len(start) :] if sent < len(start) else b"a" * 65536)
        assert sent < 64 << 20, "the server must stop reading"
    assert tough.ask("/v2/").status == 200


ODD_HOSTS = ["evil.example", "127.0.0.1:99999", "[::1]:5000", "LOCALHOST"]


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_a_foreign_host_changes_nothing(tough: Served, host: str) -> None:
    answer = tough.ask("/v2/aks/foo/tags/list", Host=host)
    assert (answer.status, host in str(answer.headers) + answer.body.decode()) == (200, False)


ANSWERED = [
    "localhost",
    "LOCALHOST.:5000",
    "mar.localhost:1",
    "127.0.0.1",
    "127.8.9.10:80",
    "[::1]",
    "[::1]:5000",
    "registry.test",
    "Registry.TEST:1",
]
MISDIRECTED = ["evil.example", "evil.example:5000", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example", "127.1", "10.0.0.1", "0.0.0.0", "[::]", "x.registry.test"]  # fmt: skip


@pytest.mark.parametrize("host", [*ANSWERED, *MISDIRECTED])
def test_a_registry_for_this_machine_does_not_answer_for_other_hosts(maker: Maker, host: str) -> None:
    maker.manifest("x", "aks/foo:1")
    with Served(maker.root, allowed=frozenset({"registry.test"})) as one:
        for target in ("/", "/v2/", "/v2/aks/foo/manifests/1", f"/v2/aks/foo/blobs/{Digest.of(b'x')}", "/none"):
            answer = one.ask(target, Host=host)
            if host in ANSWERED:
                assert answer.status == (404 if target == "/none" else 200)
            else:
                assert (answer.status, answer.code) == (421, "DENIED")
                assert "--allow-host NAME" in answer.json["errors"][0]["message"]
        # A request without `Host` is allowed, because browsers always send `Host`.
        assert raw(one.port, b"GET /v2/ HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "beginning", [b"", b"G", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA:", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nGET /"], ids=["nothing", "a letter", "headers", "a second request"]
)  # fmt: skip
def test_headers_that_do_not_come_are_not_waited_for(tough: Served, beginning: bytes) -> None:
    with socket.create_connection(("127.0.0.1", tough.port), timeout=IDLE_TIME / 2) as asking:
        asking.sendall(beginning)
        with contextlib.suppress(ConnectionResetError):
            while asking.recv(65536):
                pass


def test_headers_that_come_byte_by_byte_end_at_the_same_time(tough: Served) -> None:
    ended = False
    with socket.create_connection(("127.0.0.1", tough.port), timeout=30) as asking:
        for number in range(600):
            try:
                asking.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"[number : number + 1] or b"A")
            except ConnectionError:
                ended = True
                break
            time.sleep(0.05)
    assert ended


def test_an_unread_request_body_closes_the_connection(tough: Served) -> None:
    answer = raw(tough.port, b"PUT /v2/aks/foo/manifests/2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"connection: close" in answer.lower()


def test_slow_and_idle_clients_do_not_block_other_clients(maker: Maker, parser: str) -> None:
    maker.manifest("x", "aks/foo:1")
    with Served(maker.root) as one, contextlib.ExitStack() as stack:
        for number in range(400):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=30))
            if number % 2:
                slow.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: ")
        for _ in range(50):
            assert one.ask("/v2/aks/foo/manifests/1").status == 200


def test_with_too_many_connections_the_longest_idle_one_is_closed(maker: Maker, parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_TimeoutMixin, "most", 8)
    maker.manifest("x", "aks/foo:1")
    with Served(maker.root) as one, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=30)) for _ in range(8)]
        for _ in range(20):
            assert one.ask("/v2/aks/foo/manifests/1").status == 200
        with contextlib.suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""


@pytest.mark.slow
def test_a_reader_that_does_not_read_is_let_go(maker: Maker, parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_TimeoutMixin, "stall_time", 0.3)
    data = os.urandom(32 << 20)
    maker.manifest("x", "aks/foo:1", layers=[maker.blob(data)])
    with Served(maker.root) as one, socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking.settimeout(30)
        asking.connect(("127.0.0.1", one.port))
        asking.sendall(f"GET /v2/aks/foo/blobs/{Digest.of(data)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        deadline = time.monotonic() + 30
        while not asking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            assert time.monotonic() < deadline, "the server waits endlessly"
            time.sleep(0.05)
        assert one.ask(f"/v2/aks/foo/blobs/{Digest.of(data)}").body == data


@pytest.mark.slow
def test_a_client_that_disconnects_leaves_no_descriptor_open(maker: Maker, parser: str) -> None:
    data = os.urandom(8 << 20)
    maker.manifest("x", "aks/foo:1", layers=[maker.blob(data)])
    with Served(maker.root) as one:
        one.ask(f"/v2/aks/foo/blobs/{Digest.of(data)}")
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", one.port), timeout=30) as asking:
                asking.sendall(f"GET /v2/aks/foo/blobs/{Digest.of(data)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                asking.recv(1)
                asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        path, deadline = maker.path(Digest.of(data)), time.monotonic() + 30
        while any(link.is_symlink() and os.path.realpath(link) == str(path.resolve()) for link in Path("/proc/self/fd").glob("*")):
            assert time.monotonic() < deadline, "blobs stay open"
            time.sleep(0.05)


def test_strangers_are_not_written_to_stderr(maker: Maker, parser: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Served(maker.root) as one:
        raw(one.port, b"nonsense\r\n\r\n")
    assert capfd.readouterr().err == ""


# -- the command


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_serve_prints_its_address_and_exits_cleanly(maker: Maker, tmp_path: Path, number: signal.Signals) -> None:
    maker.manifest("x", "mcr.microsoft.com/aks/foo:1.2.3")
    with Command(maker.root, "--port", 0, cwd=tmp_path) as one:
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", one.first)
        assert ask(one.port, "/v2/aks/foo/tags/list").json["tags"] == ["1.2.3"]
        code, out, err = one.end(number)
    assert (code, out) == (0, "")
    assert "1 repository, 1 tag" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_bare_tag_is_served_under_the_name_of_the_layout_or_another(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("x", "1.0")
    packed(maker.root, tmp_path / "My Bundle.tar")
    for arguments, name in (
        ([tmp_path / "My Bundle.tar"], "my-bundle"),
        ([maker.root, "--name", "aks/other"], "aks/other"),
        ([maker.root], "made"),
    ):
        with Command(*arguments, "--port", 0, "--quiet", cwd=tmp_path) as one:
            assert ask(one.port, "/v2/_catalog").json["repositories"] == [name]
            assert ask(one.port, f"/v2/{name}/manifests/1.0").status == 200
            assert one.end() == (0, "", "")


@pytest.mark.slow
def test_content_is_on_the_data_port_where_one_is_wanted(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("x", "aks/foo:1")
    with Command(maker.root, "--port", 0, "--data-port", 0, "--json", cwd=tmp_path) as one:
        document = json.loads(one.first)
        assert (document["schema"], document["command"], document["ok"]) == (1, "serve", True)
        data = document["data"]
        assert (data["repositories"], data["tags"]) == (1, 1)
        answer = ask(int(data["address"].rpartition(":")[2]), f"/v2/aks/foo/blobs/{Digest.of(b'x')}")
        assert answer.status == 307
        assert answer.headers["location"].startswith(data["dataAddress"] + "/")
        target = answer.headers["location"].removeprefix(data["dataAddress"])
        assert ask(int(data["dataAddress"].rpartition(":")[2]), target).body == b"x"
        assert one.end()[:2] == (0, "")


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.example/v2/", "Host: localhost\r\n", (421, 404)),
        ("HTTP://evil.example:1/v2/", "", (421, 404)),
        ("http://localhost@evil.example/v2/", "Host: localhost\r\n", (400, 404)),
        ("http://localhost/v2/", "Host: localhost\r\n", (200, 404)),
        ("/v2/", "", (200, 200)),
    ],
)
def test_the_host_of_an_absolute_target_counts(maker: Maker, parser: str, target: str, host: str, status: tuple[int, int]) -> None:
    """RFC 9112, 3.2.2. h11 passes the absolute URL on unchanged, so it is not a path of the registry."""
    maker.manifest("x", "aks/foo:1")
    with Served(maker.root, allowed=frozenset()) as one:
        answer = raw(one.port, f"GET {target} HTTP/1.0\r\n{host}\r\n".encode())
        assert int(answer.split()[1]) == status[parser == "h11"]


@pytest.mark.slow
def test_a_mapped_loopback_address_is_one(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("x", "aks/foo:1")
    with Command(maker.root, "--port", 0, "--host", "::ffff:127.0.0.1", cwd=tmp_path) as one:
        assert [ask(one.port, "/v2/", Host=host).status for host in ("localhost", "evil.example")] == [200, 421]


@pytest.mark.slow
def test_serve_answers_for_the_allowed_hosts(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("x", "aks/foo:1")
    allowed = ("--allow-host", "Registry.test", "--allow-host", "10.1.2.3")
    with Command(maker.root, "--port", 0, "--data-port", 0, *allowed, cwd=tmp_path) as one:
        hosts = ["127.0.0.1", "registry.test:5000", "10.1.2.3", "other.test"]
        assert [ask(one.port, "/v2/", Host=host).status for host in hosts] == [200, 200, 200, 421]
        assert one.process.stdout is not None
        data = int(one.process.stdout.readline().rpartition(":")[2])
        assert [ask(data, "/v2/", Host=host).status for host in ("registry.test", "other.test")] == [404, 421]


@pytest.mark.slow
def test_serve_prints_who_can_reach_the_registry(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("x", "aks/foo:1")
    with Command(maker.root, "--port", 0, "--data-port", 0, "--host", "0.0.0.0", "--quiet", cwd=tmp_path) as one:
        answer = ask(one.port, f"/v2/aks/foo/blobs/{Digest.of(b'x')}", Host="reg.example:1234")
        assert answer.headers["location"].startswith("http://reg.example:")
        _, _, err = one.end()
    assert err.startswith("warning: `http://0.0.0.0:")
    assert "not a loopback address" in err
    with Command(maker.root, "--port", 0, "--host", "0.0.0.0", "--allow-host", "x.test", cwd=tmp_path) as one:
        assert ask(one.port, "/v2/", Host="reg.example:1234").status == 200
        assert "`--allow-host` has no effect" in one.end()[2]


@pytest.mark.slow
def test_an_open_response_ends_with_the_server(maker: Maker, tmp_path: Path) -> None:
    data = os.urandom(48 << 20)
    maker.manifest("x", "aks/foo:1", layers=[maker.blob(data)])
    with Command(maker.root, "--port", 0, cwd=tmp_path) as one, socket.create_connection(("127.0.0.1", one.port), timeout=30) as asking:
        asking.sendall(f"GET /v2/aks/foo/blobs/{Digest.of(data)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        got = bytearray(asking.recv(1000))
        ending: list[tuple[int, str, str]] = []
        thread = threading.Thread(target=lambda: ending.append(one.end()))
        thread.start()
        while True:
            try:
                socket.create_connection(("127.0.0.1", one.port), timeout=30).close()
            except ConnectionRefusedError:
                break
            time.sleep(0.02)
        while piece := asking.recv(1 << 20):
            got += piece
        thread.join(30)
    assert bytes(got).partition(b"\r\n\r\n")[2] == data
    assert ending[0][0] == 0


@pytest.mark.slow
def test_a_client_that_stops_reading_is_disconnected_at_shutdown(maker: Maker, tmp_path: Path) -> None:
    assert server.DRAIN == 5
    data = os.urandom(32 << 20)
    maker.manifest("x", "aks/foo:1", layers=[maker.blob(data)])
    with Command(maker.root, "--port", 0, cwd=tmp_path) as one, socket.create_connection(("127.0.0.1", one.port), timeout=30) as asking:
        asking.sendall(f"GET /v2/aks/foo/blobs/{Digest.of(data)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert asking.recv(12) == b"HTTP/1.1 200"
        code, _, err = one.end()  # the client has stopped reading
    assert code == 0
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_corrupted_blob_is_reported_once(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("right", "aks/foo:1")
    with Command(maker.root, "--port", 0, "--quiet", cwd=tmp_path) as one:
        maker.path(Digest.of(b"right")).write_bytes(b"wrong")
        for _ in range(3):
            assert ask(one.port, f"/v2/aks/foo/blobs/{Digest.of(b'right')}").status == 404
        code, out, err = one.end()
    assert (code, out) == (0, "")
    (line,) = err.splitlines()
    assert line.startswith("warning: ")
    assert str(Digest.of(b"right")) in line


def test_a_bug_is_not_hidden(maker: Maker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    maker.manifest("x", "aks/foo:1")
    with Served(maker.root) as one:
        assert one.ask("/v2/aks/foo/manifests/1").status == 200
        monkeypatch.setattr(one.contents.manifests, "cached", lambda _: 1 / 0)
        assert one.ask("/v2/aks/foo/manifests/1").status == 500
        assert one.ask("/v2/aks/foo/tags/list").status == 200
    assert "ZeroDivisionError" in caplog.text


def test_every_response_is_logged_with_verbose(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("x", "aks/foo:1")
    with Command(maker.root, "--port", 0, "--verbose", cwd=tmp_path) as one:
        ask(one.port, "/v2/aks/foo/tags/list?n=1&secret=1")
        _, _, err = one.end()
    assert "GET /v2/aks/foo/tags/list 200" in err
    assert "secret" not in err


def failed(*arguments: object, cwd: Path) -> tuple[int, dict[str, Any]]:
    """Run `serve` with arguments that make it fail, and return the exit code and the error."""
    with Command(*arguments, "--json", cwd=cwd) as one:
        code = one.process.wait(30)
    return code, json.loads(one.first)["error"]


FAILURES: dict[str, tuple[Callable[[Maker], list[object]], int, str]] = {
    "nothing there": (lambda maker: ["none"], 9, "file-unusable"),
    "no layout": (lambda maker: [maker.root / "blobs"], 2, "not-a-layout"),
    "a file that is no tar": (lambda maker: [maker.root / "index.json"], 2, "not-a-layout"),
    "a name that is none": (lambda maker: [maker.root, "--name", "Not/Valid"], 2, "reference-invalid"),
    "a name with a tag": (lambda maker: [maker.root, "--name", "aks/foo:1"], 2, "usage"),
    "a port that is none": (lambda maker: [maker.root, "--port", 70000], 2, "usage"),
    "a host to allow that is none": (lambda maker: [maker.root, "--allow-host", "http://x"], 2, "usage"),
    "a host to allow with a port": (lambda maker: [maker.root, "--allow-host", "x.test:80"], 2, "usage"),
    "a time limit that is none": (lambda maker: [maker.root, "--timeout", 0], 2, "usage"),
    "a host that is none": (lambda maker: [maker.root, "--host", "no.such.host.invalid"], 2, "usage"),
}


@pytest.mark.parametrize(("arguments", "code", "word"), FAILURES.values(), ids=FAILURES)
def test_a_layout_that_cannot_be_served_is_refused(
    maker: Maker, tmp_path: Path, arguments: Callable[[Maker], list[object]], code: int, word: str
) -> None:
    maker.manifest("x", "aks/foo:1")
    exit_code, error = failed(*arguments(maker), cwd=tmp_path)
    assert (exit_code, error["code"], error["exitCode"]) == (code, word, code)


def test_a_broken_layout_is_not_served(maker: Maker, tmp_path: Path) -> None:
    digest = maker.manifest("x", "aks/foo:1")["digest"]
    maker.path(digest).write_bytes(b"{}")
    code, error = failed(maker.root, cwd=tmp_path)
    assert (code, error["code"]) == (5, "digest-mismatch")
    assert digest in error["message"]
    assert error["digests"] == [digest]


@pytest.mark.slow
def test_names_that_multiply_manifests_are_refused(maker: Maker, tmp_path: Path) -> None:
    children = [maker.manifest(str(number), listed=False) for number in range(200)]
    index = maker.index(children, "aks/foo0:1")
    maker.entries += [{**index, "annotations": {REF_NAME: f"aks/foo{number}:1"}} for number in range(1, 1_700)]
    maker.write()
    for words in (["serve"], ["bundle", "load", "--to", "./new"]):
        done = marfetch(words[0], *words[1:2], maker.root, *words[2:], "--json", cwd=tmp_path)
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (4, "limit-passed"), words
    assert not (tmp_path / "new").exists()


def test_the_page_has_a_length(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_ROWS", 30)
    monkeypatch.setattr(page, "MAX_LISTED", 10)
    for number in range(20):
        maker.manifest("x", f"aks/foo:{number}", annotations={"org.opencontainers.image.created": "x" * 10_000})
    for number in range(20):
        maker.manifest(f"r{number}", subject=maker.entries[0] | {"annotations": {}}, artifactType="x/y")
    with Served(maker.root) as one:
        text = one.ask("/").body.decode()
    assert "<li>and 10 more</li>" in text
    assert "more artifacts, too many to show here" in text
    assert len(text) < 50_000


@pytest.mark.slow
def test_a_port_in_use_is_reported(maker: Maker, tmp_path: Path) -> None:
    maker.manifest("x", "aks/foo:1")
    with bind() as taken:
        port = taken.getsockname()[1]
        code, error = failed(maker.root, "--port", port, cwd=tmp_path)
        assert (code, error["code"], error["port"]) == (9, "port-unusable", port)
        assert str(port) in error["message"]
        code, error = failed(maker.root, "--port", 0, "--data-port", port, cwd=tmp_path)
        assert (code, error["code"]) == (9, "port-unusable")


@pytest.mark.slow
def test_marfetch_pulls_from_serve(recipe: Layout, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(recipe.root, ".")
    with Command(tmp_path / "a.tar", "--port", 0, cwd=tmp_path) as one:
        given = surroundings(HOME=str(tmp_path), MARFETCH_ENDPOINT=one.first)
        out = marfetch("pull", ALB, "--version", "~1.7", "-d", tmp_path / "out", cwd=tmp_path, environment=given).stdout
        source: Source = Contents(open_store(recipe.root))
        manifest = source.manifest(Reference(ALB, None, "1.7.12"))
        assert isinstance(manifest, Manifest)
        assert Path(out.split("\t")[0]).read_bytes() == recipe.path(manifest.layers[0].digest).read_bytes()
        assert Host.parse(one.first.removeprefix("http://")).is_loopback
