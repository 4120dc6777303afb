"""S: error statuses and unexpected statuses."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from ..world.content import ALB
from ..world.registry import BLOCKED, MSEDGE
from ..world.rows import row
from ..world.world import Ended, World

DATA = b"content" * 1000
PULL = ("pull", "aks/foo:1", "--json")
MADE = {"foo.bin": DATA}
WEB_PAGE = b"<html><head><title>502</title></head><body><h1>Bad Gateway</h1></body></html>"


def gap(ended: Ended) -> float:
    """Return the seconds between the first two requests."""
    return ended.asked[1].at - ended.asked[0].at


def later(seconds: float) -> str:
    """Return the HTTP date that is this number of seconds from now."""
    return f"{dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds):%a, %d %b %Y %H:%M:%S} GMT"


# -- throttles


@row("S01", "429 with a `Retry-After` of 2 seconds, or with a date", "Waits that long and says so", code=0)
@pytest.mark.parametrize("wait", ["2", "a date"])
def test_a_pause_that_was_asked_for_is_kept(world: World, wait: str) -> None:
    world.artifact("aks/foo", DATA)
    # An HTTP date has whole seconds, so the wait can be up to a second shorter.
    world.registry.on("manifest").answers(429, retry_after=wait if wait == "2" else lambda: later(3), times=1)
    ended = world.run(*PULL, limits={}).succeeded(made=MADE, requests=4)
    assert gap(ended) >= 1.5
    assert "asks for a pause of" in ended.err


@row("S01", "429 with a past date, an invalid `Retry-After`, or none", "Waits for a short back-off of its own", code=0)
def test_a_throttle_that_names_no_time_is_waited_out(world: World) -> None:
    waits: list[str | None] = [later(-3600), None, "soon", "-1", "1e3", ""]
    for number, wait in enumerate(waits):
        world.artifact(f"aks/foo{number}", DATA + bytes([number]))
        world.registry.on("manifest", f"foo{number}").answers(429, retry_after=wait, times=1)
    ended = world.run("pull", *(f"aks/foo{number}:1" for number in range(len(waits))), "--json")
    ended.succeeded(made={f"foo{number}.bin": DATA + bytes([number]) for number in range(len(waits))}, requests=4 * len(waits), within=30)


@row("S02", "429 with a `Retry-After` of a day or longer", "Fails at once and says when to try again", code=7)
@pytest.mark.parametrize("wait", ["a date", "9" * 30])
def test_a_pause_of_a_day_is_reported_without_waiting(world: World, wait: str) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.on("data").answers(429, retry_after=later(86_400) if wait == "a date" else wait)
    ended = world.run(*PULL, limits={}).failed(7, "rate-limited", world.registry.data_host, "run it again after", requests=3, within=30)
    assert ended.error["retry_after"] > 86_000
    assert ended.error["msedge_ref"] == MSEDGE


@row("S02", "429 at every try, without `Retry-After` or with a value of 0", "Gives up after five tries", code=7)
@pytest.mark.parametrize("wait", [None, "0"])
def test_a_throttle_for_ever_ends(world: World, wait: str | None) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.on("manifest").answers(429, retry_after=wait)
    world.run(*PULL).failed(7, "rate-limited", world.registry.host, "429", "aks/foo", "try again later", requests=5, within=30)


@row(
    "S02",
    "429 with another pause at every try",
    "Waits at most two minutes in total (shortened in the test), then says when to try again",
    code=7,
)
def test_pauses_in_a_row_are_not_waited_for_beyond_the_limit(world: World) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.on("manifest").answers(429, retry_after="1")
    ended = world.run(*PULL, limits={**world.patience, "WAITING_ALLOWED": 2.5}).failed(7, "rate-limited", "throttles requests", within=30)
    assert len(ended.asked) == 3
    assert ended.asked[-1].at - ended.asked[0].at < 10


# -- failures of the server


@row("S03", "503 three times; 502 with a web page, 500, 504 or 408 once", "Retries until the request succeeds", code=0)
@pytest.mark.parametrize("kind", ["manifest", "blob", "data"])
def test_a_failure_that_passes_is_outlasted(world: World, kind: str) -> None:
    failures = [(503, b"", 3), (502, WEB_PAGE, 1), (500, b"", 1), (408, b"", 1), (504, b"", 1)]
    made = {}
    for number, (status, body, times) in enumerate(failures):
        data = DATA + bytes([number])
        knob = world.artifact(f"aks/foo{number}", data)
        (knob if kind == "data" else world.registry.on(kind, f"foo{number}")).answers(status, body, times=times)
        made[f"foo{number}.bin"] = data
    world.run("pull", *(f"aks/foo{number}:1" for number in range(len(failures))), "--json").succeeded(made=made, requests=3 * 5 + 2 * 7)


@row("S04", "503 at every try", "Tries five times, then says that the server is not available", code=7)
@pytest.mark.parametrize("kind", ["manifest", "data"])
def test_a_server_that_is_not_available_is_reported(world: World, kind: str) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.on(kind).answers(503, WEB_PAGE)
    ended = world.run(*PULL).failed(7, "server-error", "503", "is not available", "aks/foo", "after 5 tries", within=40)
    assert ended.kinds.count(kind) == 5
    assert "<" not in ended.error["message"]


# -- missing content


@row("S05", "404 for a repository", "Tries once and suggests repositories with similar names", code=3)
def test_a_missing_repository_is_reported_with_similar_names(world: World) -> None:
    ended = world.run("pull", "application-lb/charts/alb-controler:1.7.12", "--json")
    ended.failed(3, ended.error["code"], "alb-controler", requests=4)
    assert ALB in json.dumps(ended.error), ended
    assert ended.kinds.count("manifest") == 1


@row("S05", "404 for a tag", "Tries once and suggests similar versions", code=3)
def test_a_missing_tag_is_reported_with_similar_tags(world: World) -> None:
    ended = world.run("pull", f"{ALB}:1.7.13", "--json").failed(3, "tag-not-found", f"{ALB}:1.7.13", requests=4)
    assert ended.kinds.count("manifest") == 1
    assert "1.7.12" in json.dumps(ended.error), ended


@row("S05", "404 for a blob, from the registry or from the data host", "Tries once and says that the artifact is incomplete there", code=3)
@pytest.mark.parametrize("kind", ["blob", "data"])
def test_a_missing_blob_is_reported(world: World, kind: str) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.on(kind).answers(404)
    world.run(*PULL).failed(3, "blob-not-found", "aks/foo", "incomplete", requests=3)
    world.recovers(*PULL, made=MADE)


# -- block pages and unusual texts


@row(
    "S06",
    "403 or 404 with the block page of a CDN or firewall, at every try",
    "Tries twice and says that this does not tell whether the repository exists",
    code=7,
)
@pytest.mark.parametrize("status", [403, 404])
def test_a_block_page_is_distinguished_from_a_missing_repository(world: World, status: int) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.on("manifest").answers(status, BLOCKED)
    ended = world.run(*PULL).failed(7, "blocked", "CDN or firewall", f"({status})", "says nothing about whether", "aks/foo", requests=2)
    assert ended.error["msedge_ref"] == MSEDGE
    assert "<" not in ended.out + ended.err


@row(
    "S06",
    "403 from the data host",
    "Tries three times, each with a new signed address, then says that the signature may have expired",
    code=7,
)
def test_a_data_host_that_refuses_is_asked_with_new_addresses(world: World) -> None:
    world.artifact("aks/foo", DATA)
    world.registry.on("data").answers(403, "<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code></Error>")
    ended = world.run(*PULL).failed(7, "denied", "AuthenticationFailed", "may have expired", "clock", requests=7)
    assert ended.kinds.count("blob") == 3


NASTY = "\x1b[2J\x1b]0;owned\x07\x9b31mred\r\nok: aks/foo:1 was verified\n\u202egnp.exe\u2028\x00done"


@row(
    "S07",
    "error documents, pages and texts with escape sequences and a forged `ok:` line",
    "Shows the text on one line, with every control character escaped",
    code=3,
)
@pytest.mark.parametrize("as_json", [True, False])
def test_texts_of_a_server_cannot_control_a_terminal(world: World, as_json: bool) -> None:
    document = json.dumps({"errors": [{"code": "X\x1b[1m", "message": NASTY}]})
    failures = [(404, document), (418, document), (503, document), (400, f"<b>{NASTY}</b>" + "x" * 5000), (403, NASTY)]
    for number, (status, body) in enumerate(failures):
        world.artifact(f"aks/foo{number}", DATA)
        world.registry.on("manifest", f"foo{number}").answers(status, body, Content_Type="application/json", X_Msedge_Ref="a\x1b[5mb")
    ended = world.run("pull", *(f"aks/foo{number}:1" for number in range(len(failures))), *(["--json"] if as_json else []))
    ended.failed(3, "dangling-tag", "\\x1b")
    assert not any(line.startswith("ok:") for line in (ended.out + ended.err).splitlines()), ended
    assert "<b>" not in ended.out + ended.err
    assert max(map(len, ended.err.splitlines())) < 900


@row("S08", "200 with an error document; 204, 206, 304, 400, 418, 666", "Tries once and reports the unexpected status", code=7)
@pytest.mark.parametrize("kind", ["manifest", "data"])
def test_an_unexpected_status_is_reported_without_a_retry(world: World, kind: str) -> None:
    failures: list[tuple[int, bytes]] = [(204, b""), (304, b""), (400, b"no"), (418, b"teapot"), (666, b"beast"), (206, b"part")]
    if kind == "manifest":
        failures.append((200, b'{"errors":[{"code":"UNKNOWN","message":"oops"}]}'))
    for number, (status, body) in enumerate(failures):
        knob = world.artifact(f"aks/foo{number}", DATA + bytes([number]))
        knob = world.registry.on("manifest", f"foo{number}") if kind == "manifest" else knob
        knob.answers(status, body, Content_Type="application/json")
    ended = world.run("pull", *(f"aks/foo{number}:1" for number in range(len(failures))), "--json")
    ended.failed(7, "unexpected-answer", "unexpected status", "aks/foo", requests=len(failures) * (1 if kind == "manifest" else 3))
    assert [one["code"] for one in ended.failures] == ["unexpected-answer"] * len(failures)
    for one, (status, _) in zip(ended.failures, failures, strict=True):
        assert str(status) in one["message"], one


@row("S08", "200 with an error document instead of a tag list", "Refuses it as malformed and names the missing field", code=5)
def test_an_error_document_is_no_tag_list(world: World) -> None:
    world.registry.on("tags").answers(200, b'{"errors":[{"code":"UNKNOWN","message":"oops"}]}', Content_Type="application/json")
    world.run("versions", ALB, "--json").failed(5, "malformed", "no list under `tags`", ALB, requests=1)


@row("S09", "an endless error body", "Reads 64 KiB of it", code=3)
def test_an_error_body_without_end_is_left(world: World) -> None:
    cases = [(404, "manifest"), (418, "blob"), (307, "blob"), (401, "manifest"), (500, "manifest")]
    for number, (status, kind) in enumerate(cases):
        world.artifact(f"aks/foo{number}", DATA + bytes([number]))
        head = f"HTTP/1.1 {status} Status\r\nContent-Type: text/plain\r\n\r\n".encode()
        world.registry.on(kind, f"aks/foo{number}/").sends(head, then=b"z" * 1024)
    ended = world.run("pull", *(f"aks/foo{number}:1" for number in range(len(cases))), "--json")
    ended.failed(3, "dangling-tag", "aks/foo0")
    assert [one["exitCode"] for one in ended.failures] == [3, 7, 4, 7, 7]
    # The body arrives nine times, because 500 is tried five times. The rest is headers, and the tag list for a hint.
    assert ended.received < 9 * (64 + 1) * 1024 + 8192, ended
