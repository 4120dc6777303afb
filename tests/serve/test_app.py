"""`marfetch.serve` over real connections: the behavior that clients of the distribution specification rely on."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from marfetch.demo.recipe import build, put_blob
from marfetch.layout.layout import Layout
from marfetch.oci import Descriptor, Digest, Manifest
from marfetch.reference import Host, Reference
from marfetch.serve.app import ServedRegistry, counted
from marfetch.serve.server import Serving, bind

from ..world.content import ALB, IMAGE
from ..world.real import run
from ..world.serving import Got

Tool = Callable[[str], Path]
HOST = Host("mar.test")
TAGS = ["0.4.023901", "0.4.023971", "1.0.0", "1.0.7", "1.10.27", "1.11.4", "1.7.12", "1.7.9", "1.8.12"]
UNKNOWN = Digest.of(b"nobody has this")


class Served:
    """A layout served on two ports, and a client that sends targets byte for byte and follows no redirects."""

    def __init__(self, layout: Layout, names: Host = HOST, *, redirect: bool = True) -> None:
        self.layout = layout
        self.asked: Counter[str] = Counter()
        self._sockets = bind(), bind()
        self.port, self.data_port = (one.getsockname()[1] for one in self._sockets)
        registry = ServedRegistry(layout, names, data_origin=f"http://127.0.0.1:{self.data_port}" if redirect else None)
        apps = counted(registry.app(), self.asked), counted(registry.data_app(), self.asked)
        self.serving = Serving(list(zip(apps, self._sockets, strict=True)))

    def ask(self, target: str, method: str = "GET", *, data: bool = False, **headers: str | bytes) -> Got:
        connection = http.client.HTTPConnection("127.0.0.1", self.data_port if data else self.port, timeout=20)
        try:
            connection.putrequest(method, target)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return Got(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def manifest(self, repository: str, tag: str) -> Manifest:
        found = self.layout.manifest(Reference(repository, HOST, tag))
        assert isinstance(found, Manifest)
        return found


@pytest.fixture(scope="module")
def served(recipe: Layout) -> Iterator[Served]:
    """Serve a read-only layout with blobs on the second port."""
    one = Served(recipe)
    with one.serving:
        yield one


@pytest.fixture(scope="module")
def direct(recipe: Layout) -> Iterator[Served]:
    """Serve a read-only layout with blobs on the same port."""
    one = Served(recipe, redirect=False)
    with one.serving:
        yield one


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Served]:
    """Serve a copy of a layout, which tests may damage."""
    layout = Layout(tmp_path / "layout")
    build(layout, HOST)
    one = Served(layout)
    with one.serving:
        yield one


@pytest.fixture(scope="module")
def chart(served: Served) -> Descriptor:
    return served.manifest(ALB, "1.7.12").layers[0]


def data_target(digest: Digest, query: str = "sig=x") -> str:
    return f"/any//docker/registry/v2/blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data?{query}"


def content(served: Served, descriptor: Descriptor) -> bytes:
    return served.layout.path(descriptor.digest).read_bytes()


# -- manifests


def test_the_base_says_that_it_is_a_registry(served: Served) -> None:
    answer = served.ask("/v2/")
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


TAGGED = {
    "a chart": (ALB, "1.7.12", "application/vnd.oci.image.manifest.v1+json"),
    "an index": (IMAGE, "latest", "application/vnd.oci.image.index.v1+json"),
    "a Docker manifest": ("dotnet/aspnet", "6.0-bookworm-slim-amd64", "application/vnd.docker.distribution.manifest.v2+json"),
    "a Docker list": ("dotnet/aspnet", "6.0", "application/vnd.docker.distribution.manifest.list.v2+json"),
}


@pytest.mark.parametrize(("repository", "tag", "media_type"), TAGGED.values(), ids=TAGGED)
def test_a_manifest_comes_by_tag_and_by_digest_with_its_original_bytes(served: Served, repository: str, tag: str, media_type: str) -> None:
    by_tag = served.ask(f"/v2/{repository}/manifests/{tag}")
    digest = Digest.of(by_tag.body)
    by_digest = served.ask(f"/v2/{repository}/manifests/{digest}")
    for answer in (by_tag, by_digest):
        assert answer.status == 200
        assert answer.body == served.layout.path(digest).read_bytes()
        assert answer.headers["docker-content-digest"] == str(digest)
        assert answer.headers["content-type"] == media_type
        assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("wanted", ["tag", "digest"])
def test_head_says_all_that_get_says_without_a_body(served: Served, wanted: str) -> None:
    target = f"/v2/{ALB}/manifests/{'1.7.12' if wanted == 'tag' else served.manifest(ALB, '1.7.12').descriptor.digest}"
    get, head = served.ask(target), served.ask(target, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


def test_a_manifest_that_is_known_comes_as_304(served: Served) -> None:
    digest = served.manifest(ALB, "1.7.12").descriptor.digest
    known = served.ask(f"/v2/{ALB}/manifests/1.7.12", If_None_Match=f'"{digest}"')
    assert (known.status, known.body) == (304, b"")
    assert known.headers["docker-content-digest"] == str(digest)
    assert served.ask(f"/v2/{ALB}/manifests/1.7.9", If_None_Match=f'"{digest}"').status == 200


MISSING = {
    "a tag": (f"{ALB}/manifests/9.9.9", "MANIFEST_UNKNOWN"),
    "a digest": (f"{ALB}/manifests/{UNKNOWN}", "MANIFEST_UNKNOWN"),
    "a repository's manifest": ("none/such/manifests/1", "MANIFEST_UNKNOWN"),
    "a repository's tags": ("none/such/tags/list", "NAME_UNKNOWN"),
    "the beginning of a name": ("application-lb/charts/tags/list", "NAME_UNKNOWN"),
    "the beginning of a last part": ("application-lb/charts/alb/tags/list", "NAME_UNKNOWN"),
    "more than a name": (f"{ALB}/more/tags/list", "NAME_UNKNOWN"),
    "a blob": (f"{ALB}/blobs/{UNKNOWN}", "BLOB_UNKNOWN"),
}


@pytest.mark.parametrize(("target", "code"), MISSING.values(), ids=MISSING)
def test_missing_content_is_404_with_the_code_of_the_specification(served: Served, target: str, code: str) -> None:
    answer = served.ask(f"/v2/{target}")
    assert (answer.status, answer.code) == (404, code)
    head = served.ask(f"/v2/{target}", "HEAD")
    assert (head.status, head.body) == (404, b"")


def test_a_blob_that_is_no_manifest_is_not_given_as_one(served: Served, chart: Descriptor) -> None:
    answer = served.ask(f"/v2/{ALB}/manifests/{chart.digest}")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    assert served.layout.path(chart.digest).is_file()


def test_a_manifest_whose_bytes_were_changed_is_never_given(own: Served) -> None:
    manifest = own.manifest(ALB, "1.7.12")
    own.layout.path(manifest.descriptor.digest).write_bytes(manifest.raw.replace(b"1", b"2"))
    for reference in ("1.7.12", manifest.descriptor.digest):
        answer = own.ask(f"/v2/{ALB}/manifests/{reference}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    assert own.ask(f"/v2/{ALB}/manifests/1.7.9").status == 200


# -- lists


def test_tags_come_whole_and_sorted_as_the_specification_wants(served: Served) -> None:
    answer = served.ask(f"/v2/{ALB}/tags/list")
    assert answer.headers["content-type"] == "application/json"
    assert "link" not in answer.headers
    assert json.loads(answer.body) == {"name": ALB, "tags": TAGS}


def test_the_catalog_has_every_repository_once(served: Served) -> None:
    names = json.loads(served.ask("/v2/_catalog").body)["repositories"]
    assert names == sorted(set(names))
    assert {ALB, IMAGE, "dotnet/aspnet", "psresource/az.accounts"} <= set(names)
    for name in names:
        assert json.loads(served.ask(f"/v2/{name}/tags/list").body)["tags"], name


def test_a_layout_without_anything_has_an_empty_catalog(tmp_path: Path) -> None:
    empty = Served(Layout(tmp_path / "layout"))
    with empty.serving:
        assert json.loads(empty.ask("/v2/_catalog").body) == {"repositories": []}
        assert empty.ask(f"/v2/{ALB}/tags/list").code == "NAME_UNKNOWN"


def test_a_new_tag_is_served_at_once(own: Served) -> None:
    own.layout.tag(Reference(ALB, HOST, "9.9.9"), own.manifest(ALB, "1.7.12").descriptor)
    assert json.loads(own.ask(f"/v2/{ALB}/tags/list").body)["tags"] == [*TAGS, "9.9.9"]
    assert own.ask(f"/v2/{ALB}/manifests/9.9.9").status == 200


ODD = ["manifests", "tags/list", "blobs/tags/list", "v2/a/manifests", "a/referrers/b", "evil.example/x", "a__b/c-d.e"]


@pytest.mark.parametrize("name", ODD)
def test_a_repository_may_be_called_like_a_part_of_an_address(own: Served, name: str) -> None:
    descriptor = own.manifest(ALB, "1.7.12").descriptor
    own.layout.tag(Reference(name, HOST, "1"), descriptor)
    assert json.loads(own.ask(f"/v2/{name}/tags/list").body) == {"name": name, "tags": ["1"]}
    for reference in ("1", descriptor.digest):
        assert own.ask(f"/v2/{name}/manifests/{reference}").headers["docker-content-digest"] == str(descriptor.digest)
    assert own.ask(f"/v2/{name}/blobs/{descriptor.digest}").status == 307
    assert name in json.loads(own.ask("/v2/_catalog").body)["repositories"]


def test_an_encoded_slash_is_a_slash(served: Served) -> None:
    assert json.loads(served.ask(f"/v2/{ALB.replace('/', '%2F')}/tags/list").body)["tags"] == TAGS


# -- referrers


def test_referrers_are_an_index_and_can_be_filtered(served: Served) -> None:
    subject = Digest.of(served.ask(f"/v2/{IMAGE}/manifests/latest").body)
    kind = "application/vnd.cncf.notary.signature"
    answer = served.ask(f"/v2/{IMAGE}/referrers/{subject}")
    assert answer.headers["content-type"] == "application/vnd.oci.image.index.v1+json"
    assert "oci-filters-applied" not in answer.headers
    found = json.loads(answer.body)
    assert (found["schemaVersion"], [one["artifactType"] for one in found["manifests"]]) == (2, [kind])
    (entry,) = found["manifests"]
    signature = served.ask(f"/v2/{IMAGE}/manifests/{entry['digest']}")
    assert (len(signature.body), json.loads(signature.body)["subject"]["digest"]) == (entry["size"], str(subject))
    for wanted, expected in ((kind, [entry]), ("text/none", [])):
        filtered = served.ask(f"/v2/{IMAGE}/referrers/{subject}?artifactType={wanted}")
        assert json.loads(filtered.body)["manifests"] == expected
        assert filtered.headers["oci-filters-applied"] == "artifactType"


def test_a_manifest_without_referrers_has_an_empty_list(served: Served) -> None:
    answer = served.ask(f"/v2/{ALB}/referrers/{UNKNOWN}")
    assert (answer.status, json.loads(answer.body)["manifests"]) == (200, [])


# -- blobs


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_is_a_redirect_to_the_data_port_with_a_signed_address(served: Served, chart: Descriptor, method: str) -> None:
    answer = served.ask(f"/v2/{ALB}/blobs/{chart.digest}", method)
    assert answer.status == 307
    location = urlsplit(answer.headers["location"])
    assert location.netloc == f"127.0.0.1:{served.data_port}"
    assert "//docker/registry/v2/" in location.path  # MAR's addresses contain a double slash, which clients must keep
    assert parse_qs(location.query)["sig"]
    there = served.ask(f"{location.path}?{location.query}", method, data=True)
    assert (there.status, there.headers["content-length"]) == (200, str(chart.size))
    assert there.body == (content(served, chart) if method == "GET" else b"")


def test_without_a_data_port_blobs_are_served_directly(direct: Served, chart: Descriptor) -> None:
    answer = direct.ask(f"/v2/{ALB}/blobs/{chart.digest}")
    assert (answer.status, answer.body) == (200, content(direct, chart))
    assert answer.headers["docker-content-digest"] == str(chart.digest)
    assert answer.headers["accept-ranges"] == "bytes"
    head = direct.ask(f"/v2/{ALB}/blobs/{chart.digest}", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(chart.size))


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 3 << 20])
def test_a_blob_of_any_size_is_complete(own: Served, size: int) -> None:
    data = os.urandom(size)
    descriptor = Descriptor("application/octet-stream", Digest.of(data), size)
    put_blob(own.layout, descriptor, data)
    answer = own.ask(data_target(descriptor.digest), data=True)
    assert (answer.status, answer.headers["content-length"]) == (200, str(size))
    assert Digest.of(answer.body) == descriptor.digest


def test_the_data_port_wants_a_signature_and_no_credentials(served: Served, chart: Descriptor) -> None:
    unsigned = served.ask(data_target(chart.digest, "x=y"), data=True)
    assert (unsigned.status, b"AuthenticationFailed" in unsigned.body) == (403, True)
    assert served.ask(data_target(chart.digest), data=True, Authorization="Bearer x").status == 400
    assert served.ask(data_target(UNKNOWN), data=True).code == "BLOB_UNKNOWN"


RANGES = {
    "a beginning": ("bytes=0-3", 0, 4),
    "a rest": ("bytes=5-", 5, None),
    "one byte": ("bytes=7-7", 7, 8),
    "more than there is": ("bytes=10-99999999", 10, None),
}


@pytest.mark.parametrize(("wanted", "start", "end"), RANGES.values(), ids=RANGES)
def test_a_part_of_a_blob_says_which_part_it_is(served: Served, chart: Descriptor, wanted: str, start: int, end: int | None) -> None:
    part = content(served, chart)[start:end]
    answer = served.ask(data_target(chart.digest), data=True, Range=wanted)
    assert answer.status == 206
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{chart.size}"
    assert answer.headers["content-length"] == str(len(part))
    assert answer.body == part


def test_a_range_of_a_head_counts_for_nothing(served: Served, chart: Descriptor) -> None:
    """Ranges apply only to GET (RFC 9110, 14.2)."""
    answer = served.ask(data_target(chart.digest), "HEAD", data=True, Range="bytes=0-3")
    assert (answer.status, answer.headers["content-length"]) == (200, str(chart.size))


@pytest.mark.parametrize("wanted", ["lines=1-2", "bytes=a-b", "bytes=", "bytes=-", "bytes=0-0,2-3", "x"])
def test_a_range_that_is_not_understood_gives_the_whole(served: Served, chart: Descriptor, wanted: str) -> None:
    answer = served.ask(data_target(chart.digest), data=True, Range=wanted)
    assert (answer.status, len(answer.body), "content-range" in answer.headers) == (200, chart.size, False)


def test_a_range_behind_the_end_is_416_with_the_size(served: Served, chart: Descriptor) -> None:
    for start in (chart.size, 10**18):
        answer = served.ask(data_target(chart.digest), data=True, Range=f"bytes={start}-")
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{chart.size}")


@pytest.mark.parametrize("same", [True, False])
def test_a_rest_is_given_only_of_the_same_content(served: Served, chart: Descriptor, same: bool) -> None:
    tag = served.ask(data_target(chart.digest), "HEAD", data=True).headers["etag"] if same else '"other"'
    answer = served.ask(data_target(chart.digest), data=True, Range="bytes=5-", If_Range=tag)
    assert (answer.status, len(answer.body)) == ((206, chart.size - 5) if same else (200, chart.size))


def test_a_link_in_the_layout_is_not_followed(own: Served, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    own.layout.path(UNKNOWN).symlink_to(tmp_path / "secret")
    answer = own.ask(data_target(UNKNOWN), data=True)
    assert (answer.status, b"secret" in answer.body) == (404, False)


# -- refused requests


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "TRACE", "OPTIONS"])
@pytest.mark.parametrize("what", ["manifest", "new manifest", "blob", "tags", "data"])
def test_methods_that_write_are_refused_and_change_nothing(served: Served, chart: Descriptor, method: str, what: str) -> None:
    target = {
        "manifest": f"/v2/{ALB}/manifests/1.7.12",
        "new manifest": "/v2/aks/new/manifests/1",
        "blob": f"/v2/{ALB}/blobs/{chart.digest}",
        "tags": f"/v2/{ALB}/tags/list",
        "data": data_target(chart.digest),
    }[what]
    before = sorted(served.layout.root.rglob("*"))
    answer = served.ask(target, method, data=what == "data")
    assert answer.status == 405
    assert {word.strip() for word in answer.headers["allow"].split(",")} == {"GET", "HEAD"}
    assert sorted(served.layout.root.rglob("*")) == before


ATTACKS = [
    "/v2/../../etc/passwd",
    "/v2/../manifests/1",
    "/v2/%2e%2e/%2e%2e/etc/manifests/passwd",
    "/v2/a/../../b/tags/list",
    "/v2//tags/list",
    "/v2//etc/tags/list",
    "/v2/a/%00/tags/list",
    "/v2/a%0d%0aX-Evil:%20yes/tags/list",
    "/v2/a%20b/tags/list",
    "/v2/%1b%5b31m/tags/list",
    "/v2/%ff/tags/list",
    "/v2/Upper/Case/tags/list",
    "/v2/http://evil.example/tags/list",
    "/v2/a@b/tags/list",
    f"/v2/{'a' * 256}/tags/list",
    f"/v2/{'a/' * 20_000}b/tags/list",
    "/v2/a/manifests/%2e%2e",
    "/v2/a/manifests/..%2f..%2findex.json",
    "/v2/a/manifests/%1b%5b31m",
    f"/v2/a/manifests/{'t' * 129}",
    "/v2/a/manifests/sha256:abc",
    f"/v2/a/manifests/{str(UNKNOWN).upper()}",
    "/v2/a/manifests/md5:d41d8cd98f00b204e9800998ecf8427e",
    "/v2/a/blobs/nonsense",
    "/v2/a/blobs/sha256:../../oci-layout",
    "/v2/a/blobs/sha256:..%2f..%2foci-layout",
    f"/v2/a/blobs/{UNKNOWN}%00",
    "/v2/a/referrers/nonsense",
    "/oci-layout",
    "/index.json",
    "//etc/passwd",
]


@pytest.mark.parametrize("target", ATTACKS, ids=lambda target: target[:50])
def test_a_name_that_is_an_attack_is_refused_and_leads_nowhere(served: Served, target: str) -> None:
    answer = served.ask(target)
    assert answer.status in (400, 404)
    assert "x-evil" not in answer.headers
    assert len(answer.body) < 2000
    for secret in (b"root:", b"imageLayoutVersion", b"Traceback"):
        assert secret not in answer.body
    assert not any(byte < 32 for byte in answer.body)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/data",
        "/a/b",
        "/x/sha256/ab/../../../oci-layout/data",
        "/x/sha256/%2e%2e/%2e%2e/data",
        "/x/sha256/ab/..%2f..%2foci-layout/data",
    ],
)
def test_the_data_port_gives_nothing_but_blobs(served: Served, path: str) -> None:
    answer = served.ask(f"{path}?sig=x", data=True)
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


RAW = {
    "HTTP/0.9": b"GET /v2/\r\n\r\n",
    "two lengths": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "no host": b"GET /v2/ HTTP/1.1\r\n\r\n",
    "an address of 1 MiB": b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
def test_invalid_http_is_400_and_the_next_request_is_served(served: Served, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(raw)
        assert connection.recv(64).startswith(b"HTTP/1.1 400 ")
    assert served.ask("/v2/").status == 200


def test_a_client_that_disconnects_does_not_disturb_others(own: Served) -> None:
    data = bytes(8 << 20)
    descriptor = Descriptor("application/octet-stream", Digest.of(data), len(data))
    put_blob(own.layout, descriptor, data)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", own.data_port), timeout=20) as connection:
            connection.sendall(f"GET {data_target(descriptor.digest)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert own.ask(data_target(descriptor.digest), data=True).body == data


# -- the server


def test_many_at_once_get_what_they_asked_for(served: Served) -> None:
    def one(number: int) -> tuple[str, Any]:
        tag = TAGS[number % len(TAGS)]
        return tag, served.ask(f"/v2/{ALB}/manifests/{tag}").headers["docker-content-digest"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(90)))
    assert dict(answers) == {tag: str(served.manifest(ALB, tag).descriptor.digest) for tag in TAGS}
    assert len(set(answers)) == len(TAGS)


def test_one_connection_serves_many_requests(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    try:
        connection.connect()
        first = connection.sock
        for path, status in (("/v2/", 200), ("/v2/none/such/tags/list", 404), (f"/v2/{ALB}/tags/list", 200)):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, connection.sock) == (status, first)
    finally:
        connection.close()


def test_what_was_asked_is_counted(own: Served) -> None:
    digest = own.manifest(ALB, "1.7.12").layers[0].digest
    for target in ("/v2/", f"/v2/{ALB}/tags/list", f"/v2/{ALB}/manifests/1.7.12", f"/v2/{ALB}/manifests/9", f"/v2/{ALB}/blobs/{digest}"):
        own.ask(target)
    own.ask(data_target(digest), data=True)
    assert own.asked == {"something else": 1, "tags": 1, "a manifest": 2, "a blob": 1, "content": 1}


def test_only_this_machine_is_listened_to_unless_something_else_is_asked_for() -> None:
    with bind() as listening:
        name, port = listening.getsockname()
        assert (name, port > 0) == ("127.0.0.1", True)


def test_when_serve_ends_the_ports_are_free(recipe: Layout) -> None:
    one = Served(recipe)
    with one.serving:
        assert one.ask("/v2/").status == 200
    for port in (one.port, one.data_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        bind(port=port).close()


# -- other clients, with blobs on the second port


@pytest.mark.tool
def test_oras_copies_an_artifact_from_the_registry(tool: Tool, served: Served, tmp_path: Path) -> None:
    oras, name = tool("oras"), f"127.0.0.1:{served.port}/{ALB}"
    assert run(oras, "repo", "tags", "--plain-http", name).split() == TAGS
    run(oras, "cp", "--from-plain-http", f"{name}:1.7.12", "--to-oci-layout", f"{tmp_path / 'copy'}:it")
    manifest = served.manifest(ALB, "1.7.12")
    for descriptor in (manifest.descriptor, manifest.config, *manifest.layers):
        assert (tmp_path / "copy" / "blobs" / "sha256" / descriptor.digest.encoded).read_bytes() == content(served, descriptor)


@pytest.mark.tool
def test_crane_reads_the_registry(tool: Tool, served: Served, chart: Descriptor, tmp_path: Path) -> None:
    crane, host = tool("crane"), f"127.0.0.1:{served.port}"
    assert ALB in run(crane, "catalog", "--insecure", host).split()
    assert run(crane, "digest", "--insecure", f"{host}/{ALB}:1.7.12").strip() == str(served.manifest(ALB, "1.7.12").descriptor.digest)
    config = served.manifest(ALB, "1.7.12").config
    assert run(crane, "blob", "--insecure", f"{host}/{ALB}@{config.digest}").encode() == content(served, config)
