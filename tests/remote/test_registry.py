"""Manifests, lists and referrers from a registry: requests, validation and retries."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable

import pytest

from marfetch import __version__
from marfetch.client.session import Session
from marfetch.content import Source
from marfetch.errors import Error, IntegrityError, NotFoundError, PolicyError, RateLimitedError, RemoteError
from marfetch.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Digest, Index, Manifest
from marfetch.reference import Reference
from marfetch.remote import limits
from marfetch.remote.pages import entries

from ..world.content import ALB, source_of
from ..world.progress import Heard
from ..world.registry import BLOCKED, MSEDGE, Answer, Registry

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def source(client: Callable[..., Session]) -> Source:
    return source_of(client(), Reference(ALB))[1]


def bound(mar: Registry, text: str) -> Reference:
    return Reference.parse(f"{mar.host}/{text}")


def manifest(source: Source, mar: Registry, text: str, known: Descriptor | None = None) -> Manifest | Index | None:
    return source.manifest(bound(mar, text), known=known)


def test_a_manifest_comes_with_the_digest_of_its_bytes(source: Source, mar: Registry) -> None:
    found = manifest(source, mar, f"{ALB}:1.7.12")
    assert isinstance(found, Manifest)
    assert found.descriptor.digest == Digest.of(found.raw)
    by_digest = manifest(source, mar, f"{ALB}@{found.descriptor.digest}")
    assert by_digest == found
    assert mar.kinds() == ["manifest", "manifest"]


def test_every_request_says_who_asks_and_what_is_taken(source: Source, mar: Registry) -> None:
    manifest(source, mar, f"{ALB}:1.7.12")
    headers = mar.asked[0].headers
    assert headers["user-agent"].startswith(f"marfetch/{__version__} (+https://")
    assert {part.strip() for part in headers["accept"].split(",")} == {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers
    assert "cookie" not in headers


def test_cookies_are_never_kept(source: Source, mar: Registry) -> None:
    mar.on("manifest").says(Set_Cookie="session=1; Path=/")
    manifest(source, mar, f"{ALB}:1.7.12")
    manifest(source, mar, f"{ALB}:1.7.9")
    assert "cookie" not in mar.asked[1].headers


def test_docker_manifests_and_lists_are_taken_as_they_are(source: Source, mar: Registry) -> None:
    found = manifest(source, mar, "dotnet/aspnet:6.0")
    assert isinstance(found, Index)
    assert found.descriptor.media_type == "application/vnd.docker.distribution.manifest.list.v2+json"


def test_a_tag_that_still_means_what_is_known_costs_one_request_without_a_body(source: Source, mar: Registry) -> None:
    found = manifest(source, mar, f"{ALB}:1.7.12")
    assert found is not None
    assert manifest(source, mar, f"{ALB}:1.7.12", known=found.descriptor) is None
    assert mar.asked[1].headers["if-none-match"] == f'"{found.descriptor.digest}"'
    other = manifest(source, mar, f"{ALB}:1.7.9", known=found.descriptor)
    assert other is not None
    assert other != found


MISSING = {
    "a tag": (f"{ALB}:9.9.9", "tag-not-found", "MANIFEST_UNKNOWN"),
    "a digest": (f"{ALB}@{Digest.of(b'never')}", "manifest-not-found", "MANIFEST_UNKNOWN"),
}


@pytest.mark.parametrize(("text", "code", "said"), MISSING.values(), ids=MISSING)
def test_missing_content_is_not_found_and_not_requested_again(source: Source, mar: Registry, text: str, code: str, said: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        manifest(source, mar, text)
    error = caught.value
    assert error.code == code
    assert said in error.message
    assert error.context["msedge_ref"] == MSEDGE
    assert error.context["status"] == 404
    assert mar.kinds() == ["manifest"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}', "repository-not-found"),
        ("\ufeff<?xml version='1.0'?><Error><Code>BlobNotFound</Code></Error>".encode(), "tag-not-found"),
        (b"The requested content does not exist. HttpStatusCode: 404 ErrorCode: WebContentNotFound", "tag-not-found"),
        (b"", "tag-not-found"),
    ],
    ids=["JSON", "XML with a byte order mark", "text", "nothing"],
)
def test_every_way_of_saying_404_is_understood(source: Source, mar: Registry, body: bytes, code: str) -> None:
    mar.on("manifest").answers(404, body)
    with pytest.raises(NotFoundError) as caught:
        manifest(source, mar, f"{ALB}:9.9.9")
    assert caught.value.code == code


def test_a_missing_list_in_xml_is_a_missing_repository(source: Source, mar: Registry) -> None:
    with pytest.raises(NotFoundError) as caught:
        source.tags(bound(mar, "aks/ghost-repo"))
    assert caught.value.code == "repository-not-found"
    assert "BlobNotFound" in caught.value.message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, f"{MSEDGE}"),
        (429, '{"errors":[{"code":"TOOMANYREQUESTS","message":"Too many requests."}]}'),
        (404, '{"errors":[{"code":"TOOMANYREQUESTS","message":"Too many requests."}]}'),
        (403, '{"errors":[{"code":"TOOMANYREQUESTS","message":"Too many requests."}]}'),
    ],
    ids=["429 with reference ids", "429 with JSON", "404 that is a throttle", "403 that is a throttle"],
)
def test_a_throttle_never_reads_as_not_found(source: Source, mar: Registry, status: int, body: str) -> None:
    mar.on("manifest").answers(status, body)
    with pytest.raises(RateLimitedError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    assert caught.value.exit_code == 7
    assert caught.value.context["msedge_ref"] == MSEDGE
    assert len(mar.asked) == 5


@pytest.mark.slow
def test_a_throttle_that_passes_is_waited_out(source: Source, mar: Registry, heard: Heard) -> None:
    mar.on("manifest").answers(429, times=2, retry_after="1")
    assert manifest(source, mar, f"{ALB}:1.7.12")
    first, second, third = (asked.at for asked in mar.asked)
    assert second - first >= 1
    assert third - second >= 1
    assert any("pause of 1 s" in note for note in heard.notes)


@pytest.mark.slow
def test_a_date_to_come_back_is_understood(source: Source, mar: Registry) -> None:
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    mar.on("manifest").answers(503, times=1, retry_after=format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True))
    assert manifest(source, mar, f"{ALB}:1.7.12")
    assert mar.asked[1].at - mar.asked[0].at >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("value", ["garbage", "-5", "Mon, 01 Jan 2001 00:00:00 GMT", "", "1e3"])
def test_a_wait_that_means_nothing_is_replaced_by_a_short_one(source: Source, mar: Registry, value: str) -> None:
    mar.on("manifest").answers(429, times=2, retry_after=value)
    assert manifest(source, mar, f"{ALB}:1.7.12")


@pytest.mark.parametrize("value", ["86400", "Fri, 01 Jan 2100 00:00:00 GMT", "9" * 30])
def test_a_wait_beyond_the_budget_ends_at_once_and_says_when_to_come_back(source: Source, mar: Registry, value: str) -> None:
    mar.on("manifest").answers(429, retry_after=value)
    with pytest.raises(RateLimitedError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    assert len(mar.asked) == 1
    assert " s (at " in caught.value.message or "a date too far away to show" in caught.value.message
    assert caught.value.context["msedge_ref"] == MSEDGE
    retry = caught.value.context["retry_after"]
    assert isinstance(retry, float)
    assert retry > 80_000


def test_a_longer_budget_allows_a_longer_wait(client: Callable[..., Session], mar: Registry) -> None:
    source = source_of(client(timeout=10), Reference(ALB))[1]
    mar.on("manifest").answers(429, retry_after="11")
    with pytest.raises(RateLimitedError, match="more than the"):
        manifest(source, mar, f"{ALB}:1.7.12")


PASSING = {
    "503": {"status": 503},
    "502 with a web page": {"status": 502, "body": b"<html>Bad Gateway</html>"},
    "500": {"status": 500},
    "504": {"status": 504},
    "408": {"status": 408},
    "a block page once": {"status": 403, "body": BLOCKED, "times": 1},
    "a bare 403 once": {"status": 403, "times": 1},
}


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING)
def test_a_temporary_failure_is_retried(source: Source, mar: Registry, failure: dict[str, object]) -> None:
    mar.on("manifest").answers(failure["status"], failure.get("body", b""), times=failure.get("times", 3))  # type: ignore[arg-type]
    assert manifest(source, mar, f"{ALB}:1.7.12")


LASTING = {
    "503": ({"status": 503}, "server-error", 5),
    "500": ({"status": 500}, "server-error", 5),
    "501": ({"status": 501}, "server-error", 1),
    "a block page": ({"status": 403, "body": BLOCKED}, "blocked", 2),
    "a block page under 404": ({"status": 404, "body": BLOCKED}, "blocked", 2),
    "a bare 403": ({"status": 403}, "blocked", 2),
    "denied": ({"status": 403, "body": b'{"errors":[{"code":"DENIED","message":"no"}]}'}, "denied", 1),
    "401": ({"status": 401}, "unauthorized", 1),
    "400": ({"status": 400}, "unexpected-answer", 1),
    "418": ({"status": 418}, "unexpected-answer", 1),
    "666": ({"status": 666}, "unexpected-answer", 1),
    "204": ({"status": 204}, "unexpected-answer", 1),
    "206": ({"status": 206}, "unexpected-answer", 1),
    "304 for an unconditional request": ({"status": 304}, "unexpected-answer", 1),
    "an error under 200": (
        {"status": 200, "body": b'{"errors":[{"code":"UNKNOWN","message":"oops"}]}', "Content_Type": "application/json"},
        "unexpected-answer",
        1,
    ),
}


@pytest.mark.parametrize(("failure", "code", "requests"), LASTING.values(), ids=LASTING)
def test_a_lasting_failure_ends_with_one_clear_error(
    source: Source, mar: Registry, failure: dict[str, object], code: str, requests: int
) -> None:
    more = {name: value for name, value in failure.items() if name not in ("status", "body")}
    mar.on("manifest").answers(failure["status"], failure.get("body", b""), **more)  # type: ignore[arg-type]
    with pytest.raises(RemoteError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    error = caught.value
    assert error.code == code
    assert error.exit_code == 7
    assert error.context["msedge_ref"] == MSEDGE
    assert len(mar.asked) == requests
    assert "<" not in error.message
    assert "?" not in str(error.context["url"])


def test_a_block_page_says_nothing_about_the_repository(source: Source, mar: Registry) -> None:
    mar.on("manifest").answers(403, BLOCKED)
    with pytest.raises(RemoteError, match="says nothing about whether") as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    assert "not found" not in caught.value.message


def test_texts_of_a_server_are_short_and_never_endless(source: Source, mar: Registry) -> None:
    mar.on("manifest").answers(404, json.dumps({"errors": [{"code": "X" * 9000, "message": "y" * 60_000}]}))
    with pytest.raises(NotFoundError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    assert len(caught.value.message) < 1000
    mar.honestly()
    mar.on("manifest").sends(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\n" + b"z" * 1024, endlessly=True)
    with pytest.raises(NotFoundError):
        manifest(source, mar, f"{ALB}:1.7.12")


BROKEN = {
    "a cut once": (lambda knob: knob.cuts_after(10, times=1), None),
    "closed at once, once": (lambda knob: knob.closes_at_once(times=1), None),
    "a reset once": (lambda knob: knob.resets_after(10, times=1), None),
    "silence once": (lambda knob: knob.stalls_before_headers(times=1), None),
    "a stall once": (lambda knob: knob.stalls_after(10, times=1), None),
    "closed for ever": (lambda knob: knob.closes_at_once(), "cut"),
    "silence for ever": (lambda knob: knob.stalls_before_headers(), "timeout"),
    "a trickle of headers": (lambda knob: knob.drips(1, 0.1, headers=True), "timeout"),
    "a trickle of the body": (lambda knob: knob.drips(1, 0.2), "timeout"),
    "headers of a 103 without end": (lambda knob: knob.sends(b"HTTP/1.1 103 Early Hints\r\nX: ", then=b"y"), "cut"),
    "silence after a 103": (lambda knob: (knob.sends_before(b"HTTP/1.1 103 Early Hints\r\n\r\n"), knob.stalls_before_headers()), "timeout"),
    "endless headers": (lambda knob: knob.sends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 400, endlessly=True), "cut"),
    "a header of 1 MiB": (lambda knob: knob.sends(b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n"), "cut"),
    "no HTTP at all": (lambda knob: knob.sends(b"SSH-2.0-OpenSSH_9.0\r\n" * 4), "cut"),
}


@pytest.mark.parametrize(("twist", "code"), BROKEN.values(), ids=BROKEN)
def test_a_broken_connection_is_tried_again_and_ends_in_time(
    source: Source, mar: Registry, twist: Callable[[object], object], code: str | None
) -> None:
    twist(mar.on("manifest"))
    if code is None:
        assert manifest(source, mar, f"{ALB}:1.7.12")
        return
    with pytest.raises(RemoteError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    assert caught.value.code == code
    assert len(mar.asked) <= 6


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
    ids=["two lengths", "a length and chunks"],
)
def test_an_answer_with_two_ends_is_refused(source: Source, mar: Registry, head: bytes) -> None:
    mar.on("manifest").sends(head)
    with pytest.raises(IntegrityError, match="more than one length"):
        manifest(source, mar, f"{ALB}:1.7.12")
    assert len(mar.asked) == 1


def test_a_manifest_by_digest_must_have_that_digest(source: Source, mar: Registry) -> None:
    found = manifest(source, mar, f"{ALB}:1.7.12")
    assert found is not None
    mar.on("manifest").answers_with(found.raw + b" ", Docker_Content_Digest=str(found.descriptor.digest))
    with pytest.raises(IntegrityError) as caught:
        manifest(source, mar, f"{ALB}@{found.descriptor.digest}")
    assert caught.value.code == "digest-mismatch"
    assert caught.value.context["expected"] == str(found.descriptor.digest)


def test_a_digest_header_that_lies_is_noticed(source: Source, mar: Registry) -> None:
    mar.on("manifest").says(Docker_Content_Digest=str(Digest.of(b"other")))
    with pytest.raises(IntegrityError, match="Docker-Content-Digest"):
        manifest(source, mar, f"{ALB}:1.7.12")


def test_a_registry_of_sha512_is_believed(source: Source, mar: Registry) -> None:
    found = manifest(source, mar, f"{ALB}:1.7.12")
    assert found is not None
    mar.on("manifest").says(Docker_Content_Digest=str(Digest.of(found.raw, "sha512")))
    again = manifest(source, mar, f"{ALB}:1.7.12")
    assert again is not None
    assert again.descriptor.digest == Digest.of(found.raw, "sha512")


@pytest.mark.parametrize("tag", ["", ":1.7.12"])
def test_a_header_of_another_algorithm_than_the_asked_digest_is_no_error(source: Source, mar: Registry, tag: str) -> None:
    found = manifest(source, mar, f"{ALB}:1.7.12")
    assert found is not None
    asked = Digest.of(found.raw, "sha512")
    mar.manifests[f"{ALB} {asked}"] = (OCI_MANIFEST, found.raw)
    mar.on("manifest").says(Docker_Content_Digest=str(found.descriptor.digest))
    again = manifest(source, mar, f"{ALB}{tag}@{asked}")
    assert again is not None
    assert again.descriptor.digest == asked
    known = Descriptor(OCI_MANIFEST, asked, len(found.raw))
    mar.honestly()
    mar.on("manifest").answers(304, Docker_Content_Digest=str(found.descriptor.digest))
    assert manifest(source, mar, f"{ALB}:1.7.12", known) is None
    mar.honestly()
    mar.on("manifest").says(Docker_Content_Digest=str(Digest.of(b"other")))
    with pytest.raises(IntegrityError, match="Docker-Content-Digest"):
        manifest(source, mar, f"{ALB}{tag}@{asked}")
    mar.honestly()
    mar.on("manifest").answers_with(found.raw + b" ", Docker_Content_Digest=str(Digest.of(found.raw + b" ")))
    with pytest.raises(IntegrityError):
        manifest(source, mar, f"{ALB}{tag}@{asked}")


def test_a_signed_docker_schema_1_manifest_is_named_although_its_digest_is_of_something_else(source: Source, mar: Registry) -> None:
    signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    raw = b'{"schemaVersion": 1, "fsLayers": [], "signatures": []}'
    mar.on("manifest").answers(200, raw, Content_Type=signed, Docker_Content_Digest=str(Digest.of(b"without the signatures")))
    with pytest.raises(PolicyError, match="signed Docker schema 1 manifest") as caught:
        manifest(source, mar, "aks/old:1")
    assert (caught.value.code, caught.value.exit_code) == ("manifest-withdrawn", 4)
    for media_type in ("application/json", "text/plain"):
        mar.honestly()
        mar.on("manifest").answers(200, raw, Content_Type=media_type, Docker_Content_Digest=str(Digest.of(b"without the signatures")))
        for text in ("aks/old:1", f"aks/old@{Digest.of(b'without the signatures')}"):
            with pytest.raises(PolicyError, match="Docker schema 1 manifest"):
                manifest(source, mar, text)


def test_a_manifest_that_is_there_but_not_in_an_accepted_format_is_not_missing(source: Source, mar: Registry) -> None:
    old = mar.add_manifest("aks/old", "1", json.dumps({"mediaType": WITHDRAWN, "blobs": []}).encode())
    for text in ("aks/old:1", f"aks/old@{old.digest}"):
        with pytest.raises(PolicyError, match="only in a withdrawn format") as caught:
            manifest(source, mar, text)
        assert (caught.value.code, caught.value.exit_code) == ("manifest-withdrawn", 4)


def test_a_tag_and_a_digest_that_disagree_are_refused(source: Source, mar: Registry) -> None:
    other = manifest(source, mar, f"{ALB}:1.7.9")
    assert other is not None
    with pytest.raises(IntegrityError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12@{other.descriptor.digest}")
    assert caught.value.code == "tag-moved"
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("twist", "words"),
    [
        (lambda knob: knob.answers_with(b"<html>log in</html>", Content_Type="text/html"), "web page"),
        (lambda knob: knob.answers_with(b"x" * 100), "expecting value"),
        (lambda knob: knob.answers_with(b"null", Content_Type="application/json"), "not an object"),
        (lambda knob: knob.says(Content_Type="application/vnd.oci.image.index.v1+json"), "`manifests` is missing"),
    ],
    ids=["a web page", "junk", "null", "another type"],
)
def test_a_malformed_manifest_is_refused(source: Source, mar: Registry, twist: Callable[[object], object], words: str) -> None:
    knob = mar.on("manifest")
    twist(knob)
    knob_change = knob.change
    assert knob_change is not None

    def change(answer: Answer, headers: dict[str, str]) -> None:
        knob_change(answer, headers)
        answer.with_header("Docker-Content-Digest", None)

    knob.change = change
    with pytest.raises(IntegrityError, match=words):
        manifest(source, mar, f"{ALB}:1.7.12")
    assert len(mar.asked) == 1


@pytest.mark.parametrize("announced", [True, False])
def test_a_manifest_of_64_mib_is_not_read(source: Source, mar: Registry, announced: bool) -> None:
    knob = mar.on("manifest")
    knob.answers_with(b" " * (64 << 20)) if announced else knob.sends_endlessly(b" " * 65536)
    with pytest.raises(PolicyError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    assert caught.value.code == "limit-passed"
    assert len(mar.asked) == 1


REDIRECTS = {
    "a foreign host": ("https://evil.example/x", "host-refused"),
    "a look-alike": ("https://127.0.0.1.evil.example/x", "host-refused"),
    "user information": ("https://user@evil.example/x", "address-refused"),
    "a backslash": ("http://127.0.0.1:1\\@evil.example/", "address-refused"),
    "Cyrillic": ("https://еvil.example/", "address-refused"),
    "an IP literal": ("http://10.0.0.1/", "address-refused"),
    "a decimal address": ("http://2130706433/", "address-refused"),
    "IPv6": ("http://[fe80::1]/", "address-refused"),
    "a file": ("file:///etc/passwd", "address-refused"),
    "ftp": ("ftp://127.0.0.1/x", "address-refused"),
    "another port": ("http://127.0.0.1:1/x", "host-refused"),
    "a scheme-relative host": ("//evil.example/x", "address-refused"),
    "nowhere": (None, "redirect-refused"),
    "itself": ("", "redirect-refused"),
    "in circles": ("?again", "redirect-refused"),
    "junk": ("http://[", "address-refused"),
}


@pytest.mark.parametrize(("location", "code"), REDIRECTS.values(), ids=REDIRECTS)
@pytest.mark.parametrize("kind", ["manifest", "tags"])
def test_a_redirect_astray_is_refused_without_contact(source: Source, mar: Registry, kind: str, location: str | None, code: str) -> None:
    mar.on(kind).redirects(location)
    with pytest.raises(PolicyError) as caught:
        _ = source.tags(bound(mar, ALB)) if kind == "tags" else manifest(source, mar, f"{ALB}:1.7.12")
    assert caught.value.code == code
    assert caught.value.exit_code == 4
    assert len(mar.asked) <= 6
    assert "data" not in mar.kinds()


def test_lists_and_manifests_may_be_redirected_to_the_data_host(source: Source, mar: Registry) -> None:
    for kind in ("manifest", "tags"):
        mar.on(kind, path="first").redirects(f"http://{mar.host}/v2/{ALB}/{'manifests/1.7.12' if kind == 'manifest' else 'tags/list'}")
    assert manifest(source, mar, "first/a:1")
    assert "1.7.12" in source.tags(bound(mar, "first/a"))


@pytest.mark.parametrize("location", ["/v2/{}/manifests/1.7.12", "1.7.12", "./1.7.12?x=1"])
def test_a_relative_redirect_is_followed(source: Source, mar: Registry, location: str) -> None:
    mar.on("manifest", path="/old$").redirects(location.format(ALB))
    if location.startswith("./"):
        with pytest.raises(NotFoundError):  # dot segments in the address are sent unchanged
            manifest(source, mar, f"{ALB}:old")
        assert mar.asked[-1].target.endswith("/manifests/./1.7.12?x=1")
        return
    assert manifest(source, mar, f"{ALB}:old")


# -- lists


@pytest.mark.parametrize("style", ["relative", "absolute"])
def test_pages_are_followed_to_their_end(source: Source, mar: Registry, style: str) -> None:
    mar.page_size, mar.page_style = 2, style
    tags = source.tags(bound(mar, ALB))
    assert len(tags) == 9
    assert "?" not in mar.asked[0].target
    assert len(mar.asked) == 5


@pytest.mark.parametrize(
    ("style", "code"),
    [
        ("loop", "redirect-refused"),
        ("endless", "limit-passed"),
        ("foreign", "host-refused"),
        ("other list", "malformed"),
        ("garbage", "malformed"),
    ],
)
def test_pages_that_lead_astray_are_refused(source: Source, mar: Registry, style: str, code: str) -> None:
    mar.page_size, mar.page_style = 2, style
    with pytest.raises(Error) as caught:
        source.tags(bound(mar, ALB))
    assert caught.value.code == code
    assert len(mar.asked) <= 201
    assert "data" not in mar.kinds()


@pytest.mark.parametrize(
    ("body", "tags"),
    [
        (b'{"name":"x","tags":null}', []),
        (b'{\n  "name": "x",\n  "tags": [\n    "1.0.0"\n  ]\n}', ["1.0.0"]),
        (b'{"name":"x","tags":["1.0.0","1.0.0",7,null,"../x","a b","\\u001b[31m","' + b"t" * 129 + b'"]}', ["1.0.0"]),
    ],
    ids=["null", "pretty", "odd entries"],
)
def test_odd_lists_are_read_as_far_as_they_make_sense(source: Source, mar: Registry, body: bytes, tags: list[str]) -> None:
    mar.tags[ALB] = body
    assert source.tags(bound(mar, ALB)) == tags


@pytest.mark.parametrize(
    "body",
    [b'{"tags":"1.0.0"}', b'{"tags":{}}', b"[]", b"{}", b"<html>", b'{"tags":["1"]', b"\xef\xbb\xbf{}"],
    ids=lambda body: repr(body)[:20],
)
def test_a_malformed_list_is_refused(source: Source, mar: Registry, body: bytes) -> None:
    mar.tags[ALB] = body
    with pytest.raises(IntegrityError) as caught:
        source.tags(bound(mar, ALB))
    assert caught.value.code == "malformed"


def test_too_many_tags_are_refused(source: Source, mar: Registry) -> None:
    mar.tags[ALB] = json.dumps({"tags": [f"1.0.{n}" for n in range(200_001)]}).encode()
    with pytest.raises(PolicyError, match="200000 entries"):
        source.tags(bound(mar, ALB))


def test_the_catalog_is_a_list_too(source: Source, mar: Registry) -> None:
    assert ALB in source.repositories()
    assert mar.asked[0].target == "/v2/_catalog"


PAGE = b"\xef\xbb\xbf\n<!-- portal --><!DOCTYPE HTML><html><body>log in</body></html>"
PORTALS = {
    "a page": (PAGE, "text/html; charset=utf-8", True),
    "a page that is called JSON": (PAGE, "application/json", True),
    "a text that is called a page": (b"log in", "text/html", True),
    "nothing that is called a page": (b"", "text/html", True),
    "strange JSON": (b'{"hello": 1}', "application/json", False),
    "strange JSON that is called a page": (b'{"hello": 1}', "text/html", False),
    "XML": (b"<Error><Code>x</Code></Error>", "application/xml", False),
    "junk": (b"x" * 100, "application/octet-stream", False),
}


@pytest.mark.parametrize("kind", ["manifest", "tags", "referrers"])
@pytest.mark.parametrize(("body", "content_type", "is_page"), PORTALS.values(), ids=PORTALS)
def test_only_a_web_page_is_put_down_to_a_login_page(
    source: Source, mar: Registry, kind: str, body: bytes, content_type: str, is_page: bool
) -> None:
    mar.on(kind).answers(200, body, Content_Type=content_type)
    asks: dict[str, Callable[[], object]] = {
        "manifest": lambda: manifest(source, mar, f"{ALB}:1.7.12"),
        "tags": lambda: source.tags(bound(mar, ALB)),
        "referrers": lambda: source.referrers(bound(mar, ALB), Digest.of(b"x")),
    }
    with pytest.raises(IntegrityError) as caught:
        asks[kind]()
    assert caught.value.code == "malformed"
    assert ("login page" in caught.value.hint, "web page" in caught.value.message) == (is_page, is_page)


def test_a_captive_portal_with_its_own_status_is_reported(source: Source, mar: Registry) -> None:
    mar.on("manifest").answers(511, PAGE, Content_Type="text/html")
    with pytest.raises(RemoteError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    assert "login page" in caught.value.hint


# -- referrers


@pytest.mark.parametrize("how", ["api", "tag"])
def test_referrers_come_by_the_api_or_by_the_tag(source: Source, mar: Registry, how: str) -> None:
    subject = mar.add_artifact("aks/foo", "1", ("x.txt", b"x"))
    refers = {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size}
    signature = mar.add_artifact("aks/foo", "sig", ("s", b"s"), subject=refers, artifactType="application/vnd.cncf.notary.signature")
    mar.add_artifact("aks/foo", "sbom", ("t", b"t"), subject=refers, artifactType="application/spdx+json")
    mar.referrers = how
    if how == "tag":
        bare = {"mediaType": signature.media_type, "digest": str(signature.digest), "size": signature.size}
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [bare]}
        mar.add_manifest("aks/foo", f"sha256-{subject.digest.encoded}", json.dumps(index).encode())
    found = source.referrers(bound(mar, "aks/foo"), subject.digest, artifact_type="application/vnd.cncf.notary.signature")
    assert [entry.digest for entry in found] == [signature.digest]
    assert source.referrers(bound(mar, "aks/foo"), subject.digest, artifact_type="text/none") == []


def strange(mar: Registry) -> tuple[Descriptor, Descriptor, dict[str, object]]:
    """Return a subject, its only valid referrer, and a list that contains this referrer between invalid entries."""
    subject = mar.add_artifact("aks/foo", "1", ("x.txt", b"x"))
    refers = {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size}
    good = mar.add_artifact("aks/foo", "sbom", ("t", b"t"), subject=refers, artifactType="application/spdx+json")
    old = mar.add_manifest("aks/foo", "old", json.dumps({"mediaType": WITHDRAWN, "blobs": []}).encode())
    broken = mar.add_manifest("aks/foo", "broken", b"{}")
    bare = [{"mediaType": one.media_type, "digest": str(one.digest), "size": one.size} for one in (old, broken, good)]
    missing = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"missing")), "size": 7}
    entries: list[object] = [None, "x", {"mediaType": "a/b"}, {**missing, "digest": "blake3:00"}, missing, *bare]
    return subject, good, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}


WITHDRAWN = "application/vnd.oci.artifact.manifest.v1+json"


@pytest.mark.parametrize("how", ["api", "tag"])
def test_one_strange_referrer_never_hides_the_others(source: Source, mar: Registry, heard: Heard, how: str) -> None:
    subject, good, index = strange(mar)
    if how == "tag":
        mar.referrers = "tag"
        mar.add_manifest("aks/foo", f"sha256-{subject.digest.encoded}", json.dumps(index).encode())
    else:
        mar.on("referrers").answers(200, json.dumps(index), Content_Type=OCI_INDEX)
    found = source.referrers(bound(mar, "aks/foo"), subject.digest)
    assert len(found) == 4
    assert [one.digest for one in found if one.artifact_type == "application/spdx+json"] == [good.digest]
    assert sum("skipped 4 invalid entries" in warning for warning in heard.warnings) == 1


def test_a_referrer_whose_manifest_is_denied_never_hides_the_others(source: Source, mar: Registry) -> None:
    subject, good, index = strange(mar)
    mar.on("referrers").answers(200, json.dumps(index), Content_Type=OCI_INDEX)
    mar.on("manifest", str(Digest.of(b"missing"))).answers(403, '{"errors": [{"code": "DENIED"}]}')
    found = source.referrers(bound(mar, "aks/foo"), subject.digest)
    assert [one.digest for one in found if one.artifact_type == "application/spdx+json"] == [good.digest]


@pytest.mark.parametrize("how", ["api", "tag"])
def test_referrers_that_are_null_are_none(source: Source, mar: Registry, how: str) -> None:
    subject = mar.add_artifact("aks/foo", "1", ("x.txt", b"x"))
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": None, "annotations": None})
    if how == "tag":
        mar.referrers = "tag"
        mar.add_manifest("aks/foo", f"sha256-{subject.digest.encoded}", index.encode())
    else:
        mar.on("referrers").answers(200, index, Content_Type=OCI_INDEX)
    assert source.referrers(bound(mar, "aks/foo"), subject.digest) == []


def test_the_tag_that_leads_to_the_subject_itself_is_no_list_of_referrers(source: Source, mar: Registry) -> None:
    mar.referrers = "none"
    subject = mar.add_artifact("aks/foo", "1", ("x.txt", b"x"))
    mar.manifests[f"aks/foo sha256-{subject.digest.encoded}"] = mar.manifests["aks/foo 1"]
    assert source.referrers(bound(mar, "aks/foo"), subject.digest) == []
    mar.add_manifest("aks/foo", f"sha256-{subject.digest.encoded}", json.dumps({"mediaType": WITHDRAWN, "blobs": []}).encode())
    assert source.referrers(bound(mar, "aks/foo"), subject.digest) == []


def test_referrers_on_too_many_pages_are_a_limit_and_no_damage(source: Source, mar: Registry) -> None:
    each = 1000
    digest = Digest.of(b"x")

    def page(answer: Answer, _: dict[str, str]) -> None:
        number = len(mar.asked)
        found = [{"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"%d %d" % (number, one))), "size": 2} for one in range(each)]
        answer.body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}).encode()
        answer.with_header("Content-Length", str(len(answer.body)))
        answer.with_header("Link", f'</v2/{ALB}/referrers/{digest}?page={number}>; rel="next"')

    mar.on("referrers")._set(page, None)
    with pytest.raises(PolicyError, match=f"the limit is {limits.MAX_REFERRERS}") as caught:
        source.referrers(bound(mar, ALB), digest)
    assert (caught.value.code, caught.value.exit_code) == ("limit-passed", 4)
    assert len(mar.asked) == limits.MAX_REFERRERS // each + 1


@pytest.mark.slow
def test_no_referrers_are_none_and_a_failure_is_a_failure(source: Source, mar: Registry) -> None:
    mar.referrers = "none"
    assert source.referrers(bound(mar, ALB), Digest.of(b"x")) == []
    mar.on("referrers").answers(429)
    with pytest.raises(RateLimitedError):
        source.referrers(bound(mar, ALB), Digest.of(b"x"))


# -- credentials


def test_an_own_registry_gives_an_anonymous_token(source: Source, mar: Registry) -> None:
    mar.token, mar.challenge = "abc", f'Bearer realm="http://{mar.host}/token",service="test",scope="repository:{ALB}:pull"'
    assert manifest(source, mar, f"{ALB}:1.7.12")
    assert mar.kinds() == ["manifest", "token", "manifest"]
    assert f"service=test&scope=repository%3A{ALB.replace('/', '%2F')}%3Apull" in mar.asked[1].target
    assert manifest(source, mar, f"{ALB}:1.7.9")
    assert mar.kinds()[3:] == ["manifest"]


@pytest.mark.parametrize(
    "realm",
    ["https://evil.example/token", "http://10.0.0.1/token", "http://169.254.169.254/", "file:///etc/passwd", "http://127.0.0.1:1/token"],
)
def test_a_realm_elsewhere_is_not_asked(source: Source, mar: Registry, realm: str) -> None:
    mar.challenge = f'Bearer realm="{realm}"'
    with pytest.raises(PolicyError):
        manifest(source, mar, f"{ALB}:1.7.12")
    assert mar.kinds() == ["manifest"]


@pytest.mark.parametrize("challenge", ["Basic realm=x", "Bearer", "Bearer realm=", "Negotiate", "x" * 30_000, 'Bearer service="x"'])
def test_a_challenge_that_cannot_be_met_ends_with_how_to_log_in(source: Source, mar: Registry, challenge: str) -> None:
    mar.challenge = challenge
    with pytest.raises(RemoteError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    assert caught.value.code in ("unauthorized", "cut")
    assert len(mar.asked) <= 6


def test_a_token_that_is_never_taken_is_not_fetched_for_ever(source: Source, mar: Registry) -> None:
    mar.token, mar.challenge = "abc", f'Bearer realm="http://{mar.host}/token"'
    mar.on("manifest").answers(401, WWW_Authenticate=mar.challenge)
    with pytest.raises(RemoteError) as caught:
        manifest(source, mar, f"{ALB}:1.7.12")
    assert caught.value.code == "unauthorized"
    assert len(mar.asked) <= 4


def test_a_page_of_other_things_than_texts_is_refused_before_they_are_built() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError) as caught:
            entries(b'{"tags":[' + b"[]," * 400_000 + b'"1"]}', "tags", "the tags of `aks/foo`")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "malformed"
    assert entries(b'{"tags":["1",["x"]]}', "tags", "the tags of `aks/foo`") == ["1", " ['x']"]
