"""The pages of bundles and of `serve`: content and escaping."""

from __future__ import annotations

import html.parser
import io
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from marfetch.bundle.approval import approval_page
from marfetch.bundle.create import create
from marfetch.bundle.format import opened
from marfetch.bundle.inventory import bundle_items
from marfetch.bundle.webpage import POLICY
from marfetch.client.session import Session
from marfetch.layout.layout import Layout
from marfetch.render.bundle import print_contents
from marfetch.render.report import Report
from marfetch.serve.page import served_page
from marfetch.serve.run import running

from ..world.archives import chart, file
from ..world.bundles import locked, members
from ..world.charts import add_chart
from ..world.registry import Registry


class Tags(html.parser.HTMLParser):
    """Collects the tag names of a page, and the addresses and scripts in its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.targets: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.targets += [
            value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "data") or name.startswith("on")
        ]


@pytest.fixture
def page(client: Callable[..., Session], tmp_path: Path) -> str:
    create(client(), locked(client(), tmp_path / "project"), tmp_path / "a.tar", with_referrers=True)
    return members(tmp_path / "a.tar")["bundle.html"].decode()


def test_the_page_lists_the_bundle_and_makes_no_requests(page: str, tmp_path: Path) -> None:
    with opened(tmp_path / "a.tar") as found:
        found.contents.load()
        items = bundle_items(found.contents, found.lock)
    for item in items:
        assert str(item.descriptor.digest) in page
        assert item.reference.full_repository in page
    assert "none in this bundle" in page
    assert "84813e9c82fe8abd08e0e6fa21b71b25b256d2c9fec38e8216e8bf48543008c9" in page
    tags = Tags(page)
    assert all(target.startswith("#") for target in tags.targets)
    assert tags.names.count("script") == 1
    assert not {"link", "img", "iframe", "object", "form"} & set(tags.names)


def test_foreign_text_is_escaped(client: Callable[..., Session], tmp_path: Path, page: str) -> None:
    from dataclasses import replace

    with opened(tmp_path / "a.tar") as found:
        found.contents.load()
        items = bundle_items(found.contents, found.lock)
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[31m'
    item = replace(
        items[0],
        name=evil,
        created=evil,
        images=(evil,),
        title=evil,
        referrers=tuple(replace(one, title=evil, artifact_type=evil, signer=evil) for one in items[1].referrers),
    )
    for made in (approval_page([item], None), served_page([item], "localhost", date(2026, 1, 1))):
        tags = Tags(made.decode())
        assert tags.names.count("script") == 1
        assert "img" not in tags.names
        assert "\u202e" not in made.decode()
        assert "\x1b" not in made.decode()


def test_the_served_page_works_without_scripts_and_has_a_policy(recipe: Layout) -> None:
    import http.client

    with running(recipe.root, port=0, allowed=["elsewhere.example"], warn=lambda _: None) as found:
        connection = http.client.HTTPConnection(found.address.removeprefix("http://"), timeout=20)
        connection.request("GET", "/", headers={"Host": "elsewhere.example:7"})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
    assert (answer.status, answer.headers["Content-Security-Policy"]) == (200, POLICY)
    assert "oci://elsewhere.example:7/application-lb" in body
    assert "<button" not in body
    assert "application-lb/charts/alb-controller:1.7.12" in body


def test_images_of_packed_subcharts_are_listed(client: Callable[..., Session], mar: Registry, tmp_path: Path) -> None:
    sub = chart("sub", "1.0.0", file("sub/values.yaml", b"image: {repository: mcr.microsoft.com/x/sub, tag: '2'}\n"))
    page, item, _ = chart_page(client, mar, tmp_path, file("toy/charts/sub-1.0.0.tgz", sub))
    assert item["images"] == ["mcr.microsoft.com/x/sub:2"]
    assert item["unread"] == []
    assert "mcr.microsoft.com/x/sub:2" in page
    assert "could not be searched" not in page


@pytest.mark.parametrize(
    ("package", "path", "reason"),
    {
        "a sub-chart": (
            chart("toy", "1.0.0", file("toy/charts/sub-1.0.0.tgz", b"no archive")),
            "charts/sub-1.0.0.tgz",
            "not compressed with gzip",
        ),
        "the values": (chart("toy", "1.0.0", file("toy/values.yaml", b"[")), "values.yaml", "malformed"),
        "the chart": (b"no archive", "sha256:", "not compressed with gzip"),
        "a file in it": (chart("toy", "1.0.0", file("toy/../x", b"")), "sha256:", "`..`"),
    }.values(),
    ids=["a sub-chart", "the values", "the chart", "a file in it"],
)
def test_a_chart_that_cannot_be_searched_is_named(
    client: Callable[..., Session], mar: Registry, tmp_path: Path, package: bytes, path: str, reason: str
) -> None:
    page, item, error = chart_page(client, mar, tmp_path, package=package)
    assert item["images"] == []
    (unread,) = item["unread"]
    assert unread["path"].startswith(path)
    assert reason in unread["reason"]
    assert "None found" not in page
    assert "could not be searched" in page
    assert page.count(html.escape(unread["path"])) >= 2
    assert f"cannot search `{unread['path']}` of `toy` for images" in error


def chart_page(
    client: Callable[..., Session], mar: Registry, tmp_path: Path, *members_of: bytes, package: bytes | None = None
) -> tuple[str, dict[str, Any], str]:
    """Bundle one chart; return its page, its JSON and the messages of `bundle inspect`."""
    add_chart(mar, "x/toy", "1.0.0", package or chart("toy", "1.0.0", *members_of))
    create(client(), locked(client(), tmp_path / "of-chart", "reference: x/toy, version: 1.0.0"), tmp_path / "chart.tar")
    out, error = io.StringIO(), io.StringIO()
    with opened(tmp_path / "chart.tar") as found:
        assert print_contents(Report("bundle inspect", as_json=True, stdout=out, stderr=error), found, None) == 0
    (item,) = json.loads(out.getvalue())["data"]["artifacts"]
    return members(tmp_path / "chart.tar")["bundle.html"].decode(), item, error.getvalue()
