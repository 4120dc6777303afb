"""T: tag lists."""

from __future__ import annotations

import json

import pytest

from ..world.content import ALB
from ..world.rows import row
from ..world.world import World

VERSIONS = ("versions", "aks/foo", "--all", "--json")
PAGE = 16 << 20


def listed(world: World, tags: list[object] | bytes) -> World:
    """Make the registry return this tag list, or these bytes instead of a list."""
    world.registry.tags["aks/foo"] = tags if isinstance(tags, bytes) else json.dumps({"name": "aks/foo", "tags": tags}).encode()
    return world


@row("T01", "2,500 tags in 25 pages, with relative or absolute links", "Reads all pages and lists the newest version first", code=0)
@pytest.mark.parametrize("style", ["relative", "absolute"])
def test_all_pages_are_read(world: World, style: str) -> None:
    tags = [f"1.{number // 50}.{number % 50}" for number in range(2500)]
    world.registry.tags["aks/foo"] = sorted(tags)
    world.registry.page_size, world.registry.page_style = 100, style
    ended = world.run(*VERSIONS).succeeded(made={}, requests=25)
    assert [one["version"] for one in ended.document["data"]["versions"]] == tags[::-1]
    assert "?" not in ended.asked[0].target


@row("T01", "`null`, or an empty list", "Reports no versions, which is not a failure", code=0)
@pytest.mark.parametrize("tags", [b'{"name":"aks/foo","tags":null}', b'{"name":"aks/foo","tags":[]}'])
def test_no_tags_are_no_versions(world: World, tags: bytes) -> None:
    ended = listed(world, tags).run(*VERSIONS).succeeded(made={}, requests=1)
    assert (ended.document["data"]["versions"], ended.document["data"]["other"]) == ([], [])


@row("T01", "unusual versions, and tags that are not versions", "Lists tags that are not versions last and never resolves to one", code=0)
def test_odd_versions_never_win(world: World) -> None:
    odd = [
        "latest",
        "main",
        "zzz",
        "sha256-0",
        "1",
        "99999999999999999999999.0.0",
        "1.2.3.4",
        "v1.2.3",
        "1.02.3",
        "2.0.0-rc.1",
        "1.9.0",
        "9.x.0",
    ]
    listed(world, [*odd])
    ended = world.run(*VERSIONS).succeeded(made={}, requests=1)
    other = ended.document["data"]["other"]
    assert {"latest", "main", "zzz", "sha256-0", "1.2.3.4", "9.x.0"} <= set(other), ended
    world.registry.add_artifact("aks/foo", "1.9.0", ("foo.bin", b"nine"))
    listed(world, [tag for tag in odd if not tag.startswith("9999")])
    ended = world.run("resolve", "aks/foo", "--json").succeeded()
    assert ended.document["data"]["tag"] == "1.9.0"


@row("T02", "a page that links back to an earlier page", "Stops at the first repetition", code=4)
def test_pages_in_a_loop_are_left_at_the_first_repeat(world: World) -> None:
    world.registry.page_size, world.registry.page_style = 2, "loop"
    world.run("versions", ALB, "--json").failed(4, "redirect-refused", "already read", ALB, requests=3)


@row("T02", "endless pages, each with new tags", "Stops after 200", code=4)
def test_pages_without_end_are_left_at_the_limit(world: World) -> None:
    world.registry.page_size, world.registry.page_style = 2, "endless"
    ended = world.run("versions", ALB, "--json").failed(4, "limit-passed", "more than 200 pages", ALB, requests=200)
    assert ended.kinds == ["tags"] * 200


@row("T03", "a `Link` to another host", "Refuses to follow it", code=4)
def test_a_page_on_another_host_is_refused(world: World) -> None:
    world.registry.page_size, world.registry.page_style = 2, "foreign"
    world.run("versions", ALB, "--json").failed(4, "host-refused", world.registry.data_host, "pages stay on the registry", ALB, requests=1)


@row("T03", "a `Link` to another repository, or a malformed one", "Refuses it as malformed", code=5)
@pytest.mark.parametrize("style", ["other list", "garbage"])
def test_a_page_of_another_list_is_refused(world: World, style: str) -> None:
    world.registry.page_size, world.registry.page_style = 2, style
    world.run("versions", ALB, "--json").failed(5, "malformed", ALB, requests=1)


LINKS = (
    "https://evil.example/v2/aks/foo/tags/list",
    "http://u@{host}/v2/aks/foo/tags/list",
    "http://{host}@evil.example/v2/aks/foo/tags/list",
    "//evil.example/v2/aks/foo/tags/list",
    "file:///etc/passwd",
    "http://10.0.0.1/v2/aks/foo/tags/list",
)


@row("T03", "links with user information or other schemes, or to IP addresses", "Refuses to follow them", code=4)
def test_a_page_elsewhere_is_refused(world: World) -> None:
    for number, link in enumerate(LINKS):
        world.registry.tags[f"aks/foo{number}"] = ["1.0.0"]
        world.registry.on("tags", f"foo{number}/").says(Link=f'<{link.format(host=world.registry.host)}>; rel="next"')
    ended = world.run("pull", *(f"aks/foo{number}" for number in range(len(LINKS))), "--json")
    ended.failed(4, "host-refused", "evil.example", requests=len(LINKS))
    assert {one["code"] for one in ended.failures} == {"host-refused", "address-refused"}
    assert [one["exitCode"] for one in ended.failures] == [4] * len(LINKS)


@row(
    "T04",
    "invalid tags (control characters, too long, not a text), and duplicates",
    "Drops them, reports how many are invalid, and prints none of these",
    code=0,
)
@pytest.mark.parametrize("as_json", [True, False])
def test_invalid_tags_are_dropped_and_counted(world: World, as_json: bool) -> None:
    odd = [
        "../x",
        "a b",
        "\x1b[31m1.0.1",
        "1.0.1\n2.0.0",
        "t" * 129,
        "",
        ".hidden",
        "-x",
        "1.0.1\u202e",
        "á",
        7,
        None,
        ["1.0.2"],
        {"a": 1},
        True,
    ]
    listed(world, ["1.0.0", "1.0.0", "1.0.3", *odd])
    ended = world.run("versions", "aks/foo", "--all", *(["--json"] if as_json else [])).succeeded(made={}, requests=1)
    assert f"{len(odd)} invalid entries of the tag list" in ended.err
    if as_json:
        assert [one["tag"] for one in ended.document["data"]["versions"]] == ["1.0.3", "1.0.0"]
    else:
        assert ended.out.splitlines() == ["1.0.3\t1.0.3", "1.0.0\t1.0.0"]


@row("T04", "a page of 200,000 tags, and a page of 200,001", "Accepts and searches the first, refuses the second", code=(3, 4))
@pytest.mark.parametrize(("count", "code"), [(200_000, 3), (200_001, 4)])
def test_the_number_of_tags_has_a_limit(world: World, count: int, code: int) -> None:
    listed(world, [f"1.{number // 1000}.{number % 1000}" for number in range(count)])
    ended = world.run("resolve", "aks/foo", "--version", ">=2", "--json")
    if code == 3:
        ended.failed(3, ended.error["code"], "1.199.999", requests=2)
    else:
        ended.failed(4, "limit-passed", "200000 entries", "aks/foo", requests=1)


@row("T04", "a page of 256 MiB, announced or not", "Reads 16 MiB at most", code=4)
@pytest.mark.parametrize("announced", [True, False])
def test_a_page_of_256_mib_is_not_read(world: World, announced: bool) -> None:
    knob = world.registry.on("tags")
    if announced:
        knob.says(Content_Length=str(256 << 20))
    else:
        knob.sends_endlessly(b'{"name":"x","tags":["' + b"1" * 65536)
    ended = world.run("versions", ALB, "--json").failed(4, "limit-passed", str(PAGE), requests=1)
    assert ended.received <= (64 << 10 if announced else PAGE + (64 << 10)), ended


@row(
    "T04",
    "a web page, a text, an object, a truncated list or a byte order mark instead of a list",
    "Refuses it as malformed, without showing it",
    code=5,
)
def test_a_list_that_is_none_is_refused(world: World) -> None:
    bodies = [b"<html>1.0.0</html>", b'{"tags":"1.0.0"}', b'{"tags":{}}', b"[]", b"{}", b"", b'{"tags":["1"]', b"\xef\xbb\xbf{}"]
    for number, body in enumerate(bodies):
        world.registry.tags[f"aks/foo{number}"] = body
    ended = world.run("pull", *(f"aks/foo{number}" for number in range(len(bodies))), "--json")
    ended.failed(5, "malformed", "aks/foo0", requests=len(bodies))
    assert [one["code"] for one in ended.failures] == ["malformed"] * len(bodies)
    assert "<html>" not in ended.out + ended.err
