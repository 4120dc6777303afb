"""The pages of bundles and of `serve`: content, escaping, and display in a real browser."""

from __future__ import annotations

import html.parser
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch.bundle.approval import POLICY, approval_page
from marfetch.bundle.create import create
from marfetch.bundle.format import opened
from marfetch.bundle.inventory import bundle_items
from marfetch.client.session import Session
from marfetch.layout.layout import Layout
from marfetch.render.bundle import print_contents
from marfetch.render.report import Report
from marfetch.serve.page import served_page
from marfetch.serve.run import running

from ..world import tools
from ..world.archives import chart, file
from ..world.bundles import locked, members
from ..world.charts import add_chart
from ..world.registry import Registry

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
browser = pytest.mark.skipif(BROWSER is None and os.environ.get("CI") != "true", reason=tools.missing("chromium"))


class Tags(html.parser.HTMLParser):
    """Tag names of a page, and the addresses and scripts in its attributes."""

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
    assert "no signature in this bundle" in page
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
    for made in (approval_page([item], None), served_page([item], "localhost")):
        tags = Tags(made.decode())
        assert tags.names.count("script") == 1
        assert "img" not in tags.names
        assert "\u202e" not in made.decode()
        assert "\x1b" not in made.decode()


def shown(url: str, profile: Path, *options: str) -> str:
    """Return the document of the browser after all scripts have run."""
    assert BROWSER is not None
    line = [
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-component-update",
    ]
    line += [
        "--disable-background-networking",
        "--disable-sync",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=3000",
        *options,
        "--dump-dom",
        url,
    ]
    done = subprocess.run(
        line, env={"PATH": os.environ["PATH"], "HOME": str(profile)}, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def asked(log: Path, url: str) -> list[str]:
    """Return every address that the browser requested for the page."""
    found = re.findall(r'"url":"([^"]+)"', log.read_text())
    return sorted({one for one in found if one.startswith(("http://", "https://", "file://", "ws"))} - {url})


@browser
def test_a_browser_shows_the_page_without_requests(page: str, tmp_path: Path) -> None:
    path = tmp_path / "bundle.html"
    path.write_text(page)
    log = tmp_path / "net.json"
    document = shown(path.as_uri(), tmp_path / "profile", f"--log-net-log={log}", "--host-resolver-rules=MAP * ~NOTFOUND")
    field = re.search(r'<input[^>]*id="search"[^>]*>', document)
    assert field is not None
    assert "hidden" not in field[0]  # the script ran, so its hash in the policy is right
    hosts = [one for one in asked(log, path.as_uri()) if "example" in one or "mcr." in one or "127.0.0.1" in one]
    assert hosts == []


@browser
def test_a_browser_shows_the_served_page_with_copy_buttons(recipe: Layout, tmp_path: Path) -> None:
    with running(recipe.root, port=0, warn=lambda _: None) as found:
        document = shown(found.address + "/", tmp_path / "profile")
    assert document.count("<button") > 10
    host = found.address.removeprefix("http://")
    assert f"helm pull oci://{host}/application-lb/charts/alb-controller --version 1.7.12 --plain-http" in document


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
