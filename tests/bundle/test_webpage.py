"""The pages of bundles and of `serve` in a real browser: requests, keyboard, print, narrow windows, and accessibility with axe-core."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from marfetch.bundle.approval import approval_page
from marfetch.bundle.format import Base
from marfetch.bundle.inventory import BundleItem, bundle_items
from marfetch.layout.layout import Layout
from marfetch.layout.repositories import Contents
from marfetch.oci import Digest
from marfetch.serve.page import served_page
from marfetch.serve.run import running

from ..world.browser import Browser, Tab

Tool = Callable[[str], Path]
HOSTILE = '"\'><script>window.hit = 1</script><img src=//x.example/a onerror="hit = 1"></style></title>\u202e\x1b[31m' + "W" * 3_000
TODAY = date(2026, 11, 28)
ONE = "document.querySelector"


@pytest.fixture(scope="module")
def browser(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tool("chromium"), tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def items(recipe: Layout) -> list[BundleItem]:
    """Return all artifacts of the test registry, and some with images, an unread chart, a verdict and omitted content."""
    contents = Contents(recipe)
    contents.load()
    found = bundle_items(contents, None, with_images=True)
    images = tuple(f"mcr.microsoft.com/application-lb/images/alb-controller:1.7.{number}" for number in range(12))
    found[0] = replace(found[0], images=images, unread={"charts/sub-1.0.0.tgz": "not gzipped"}, verdict="verified")
    found[1] = replace(found[1], images=images[:2], omitted=5, ends=date(2099, 1, 1))
    return found


def hostile(items: list[BundleItem]) -> list[BundleItem]:
    signed = next(item for item in items if item.signatures)
    bad = replace(
        signed,
        name=HOSTILE,
        version=HOSTILE,
        title=HOSTILE,
        created=HOSTILE,
        images=(HOSTILE,),
        unread={HOSTILE: HOSTILE},
        verdict=HOSTILE,
        layers=tuple(replace(one, media_type=HOSTILE) for one in items[0].layers),
        referrers=(
            *signed.referrers,
            *(replace(one, title=HOSTILE, artifact_type=HOSTILE, signer=HOSTILE, depth=7) for one in signed.referrers),
        ),
    )
    return [bad, items[0], replace(bad, omitted=1)]


def made(kind: str, items: list[BundleItem]) -> bytes:
    if kind == "serve":
        return served_page(items, "127.0.0.1:5000", TODAY)
    return approval_page(items, Base(Digest.of(b"base"), 7))


@pytest.fixture(params=["approval", "serve"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def show(browser: Browser, kind: str, items: list[BundleItem], tmp_path: Path) -> Callable[..., Tab]:
    """`show(items, width=360, …)` opens the page with these artifacts."""

    def do(shown: list[BundleItem] = items, **view: Any) -> Tab:
        path = tmp_path / "page.html"
        path.write_bytes(made(kind, shown))
        return browser.open(path.as_uri(), **view)

    return do


def visible(tab: Tab) -> list[str]:
    """Return the names in the visible rows of the table."""
    names: list[str] = tab.evaluate("[...document.querySelectorAll('tbody tr:not([hidden]) a')].map(one => one.textContent)")
    return names


def focus(tab: Tab, wanted: str) -> None:
    """Press Tab until the focused element, `it`, satisfies a JavaScript condition."""
    for _ in range(60):
        tab.press("Tab")
        if tab.evaluate(f"(it => {wanted})(document.activeElement)"):
            return
    raise AssertionError(f"the keyboard does not reach {wanted}")


def test_a_page_makes_no_request_and_breaks_no_policy(show: Callable[..., Tab], items: list[BundleItem]) -> None:
    for shown in (items, hostile(items), []):
        tab = show(shown)
        assert [one.rpartition("/")[2] for one in tab.requests()] == ["page.html"]
        assert tab.complaints() == []
        assert tab.evaluate("window.hit") is None


def test_the_served_page_makes_one_request(browser: Browser, recipe: Layout, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "marfetch.serve")
    with running(recipe.root, port=0, warn=lambda _: None) as found:
        tab = browser.open(found.address + "/")
        assert tab.requests() == [found.address + "/"]
        assert tab.complaints() == []
        assert f"helm pull oci://{found.address.removeprefix('http://')}/" in tab.evaluate("document.body.textContent")
    assert [one.getMessage() for one in caplog.records if "GET" in one.getMessage()] == ["GET / 200"]


@pytest.mark.parametrize("view", [{}, {"dark": True}, {"width": 360}, {"media": "print"}], ids=["light", "dark", "narrow", "print"])
@pytest.mark.parametrize("content", ["rich", "hostile", "empty"])
def test_axe_finds_no_violation(show: Callable[..., Tab], items: list[BundleItem], tool: Tool, content: str, view: dict[str, Any]) -> None:
    axe = tool("axe-core").read_text()
    tab = show({"rich": items[:6] + items[-10:], "hostile": hostile(items), "empty": []}[content], **view)
    tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    tab.evaluate(axe)
    shown = "one.id + ': ' + one.nodes.map(node => node.html.slice(0, 200))"
    found = tab.evaluate(
        f"axe.run().then(found => [found.passes.length, ...[found.violations, found.incomplete].map(all => all.map(one => {shown}))])"
    )
    assert found[0] > 10
    assert found[1] == []
    assert found[2] == [] or content == "hostile"  # axe cannot determine the background of very long words


@pytest.mark.parametrize("content", ["rich", "hostile"])
def test_a_narrow_window_needs_no_sideways_scrolling(show: Callable[..., Tab], items: list[BundleItem], content: str) -> None:
    for width in (320, 360, 700, 970, 1200):
        tab = show(items if content == "rich" else hostile(items), width=width)
        tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        cut = "[...document.querySelectorAll('.sheet, .sheet *')].filter(one => one.getBoundingClientRect().right > innerWidth).length"
        assert tab.evaluate(cut) == 0, width


def test_a_page_is_complete_without_scripts(show: Callable[..., Tab], kind: str, items: list[BundleItem]) -> None:
    tab = show(scripts=False)
    text = tab.evaluate("document.body.innerText")
    assert tab.evaluate(f"{ONE}('button')") is None
    assert tab.evaluate(f"{ONE}('#filters').checkVisibility()") is False
    for item in items:
        assert str(item.descriptor.digest) in text
        assert all(str(one.digest) in text for one in item.referrers)
        assert all(str(one.digest) in text for one in item.layers)
        assert all(image in text for image in item.images)
    assert "2024-11-12" in text
    assert ("ended 2024-11-12" in text) == (kind == "serve")
    assert "With end-of-life date\n2\nthe first is 2024-11-12" in text or kind == "serve"


def test_today_decides_what_is_past_its_end_of_life(show: Callable[..., Tab]) -> None:
    tab = show()
    text = tab.evaluate("document.body.innerText")
    assert "Past end of life\n1\nof 2 with an end-of-life date" in text
    assert text.count("ended 2024-11-12") == 2
    assert "2099-01-01" in text
    assert "ended 2099-01-01" not in text


def test_the_keyboard_sorts(show: Callable[..., Tab], items: list[BundleItem]) -> None:
    tab = show(items[:9])
    versions = "[...document.querySelectorAll('tbody td:nth-child(2)')].map(one => one.textContent)"
    focus(tab, "it.textContent === 'Version'")
    tab.press("Enter")
    ordered = ["0.4.23901", "0.4.23971", "1.0.0", "1.0.7", "1.7.9", "1.7.12", "1.8.12", "1.10.27", "1.11.4"]
    assert tab.evaluate(versions) == ordered
    assert tab.evaluate("document.activeElement.parentNode.getAttribute('aria-sort')") == "ascending"
    tab.press("Space")
    assert tab.evaluate(versions) == ordered[::-1]
    assert tab.evaluate("document.activeElement.parentNode.getAttribute('aria-sort')") == "descending"
    focus(tab, "it.textContent === 'End of life'")
    tab.press("Enter")
    assert tab.evaluate(versions)[0] == "0.4.23971"
    assert tab.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
    assert len(tab.evaluate(versions)) == 9


def test_the_keyboard_filters(show: Callable[..., Tab], items: list[BundleItem]) -> None:
    tab = show()
    focus(tab, "it.id === 'search'")
    tab.press(*"CONTROLLER 1.7.")
    assert visible(tab) == ["alb-controller"] * 4  # two rows match by version, one by its images, and one by a name in another text
    tab.press(*"12")
    count = f"{ONE}('#count').textContent"
    assert tab.evaluate(count) == f"{len(visible(tab))} of {len(items)} shown"
    focus(tab, "it.textContent === 'Reset'")
    tab.press("Enter")
    assert (len(visible(tab)), tab.evaluate(count)) == (len(items), "")
    focus(tab, "it.id === 'signed'")
    tab.press("s")
    assert visible(tab) == [item.name for item in items if item.signatures]
    assert tab.evaluate("[...document.querySelectorAll('details:not([hidden])')].length") == len(visible(tab))
    focus(tab, "it.id === 'state'")
    tab.press("e")
    assert visible(tab) == []
    focus(tab, "it.textContent === 'Reset'")
    tab.press("Enter")
    focus(tab, "it.id === 'state'")
    tab.press("e")
    assert visible(tab) == ["aspnet"]


def test_a_link_of_the_table_opens_the_details(show: Callable[..., Tab]) -> None:
    tab = show()
    assert tab.evaluate("document.querySelectorAll('details[open]').length") == 0
    focus(tab, "it.getAttribute('href') === '#a0'")
    tab.press("Enter")
    assert tab.evaluate("new Promise(done => setTimeout(() => done(document.querySelector('#a0').open), 100))") is True
    assert tab.evaluate("document.querySelectorAll('details[open]').length") == 1


def test_the_digest_is_copied(show: Callable[..., Tab], items: list[BundleItem]) -> None:
    tab = show(items[:3])
    tab.evaluate("navigator.clipboard.writeText = async text => { window.written = text; }")
    tab.evaluate(f"{ONE}('#a0 summary').click(); new Promise(done => setTimeout(done, 100))")
    digest = str(items[0].descriptor.digest)
    focus(tab, f"it.getAttribute('aria-label') === 'Copy {digest}'")
    tab.press("Enter")
    assert tab.evaluate("window.written") == digest
    assert tab.evaluate("[document.activeElement.textContent, document.querySelector('#said').textContent]") == ["Copied", "Copied"]
    tab.evaluate(f"{ONE}('#images').parentNode.querySelector('button').click()")
    assert tab.evaluate("window.written").splitlines() == sorted(items[0].images)


def test_the_print_has_everything_and_no_controls(show: Callable[..., Tab], items: list[BundleItem]) -> None:
    tab = show(media="print", width=680)  # the width of A4 without margins, in pixels
    assert tab.evaluate("document.documentElement.scrollWidth") <= 680
    assert (
        tab.evaluate("[...document.querySelectorAll('input, select, .filters, .copy button')].filter(one => one.checkVisibility()).length")
        == 0
    )
    assert tab.evaluate(f"getComputedStyle({ONE}('thead')).display") == "table-header-group"
    assert tab.evaluate(f"{ONE}('thead button').checkVisibility()") is True
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.querySelectorAll('details[open]').length") == 0
    assert tab.pdf().startswith(b"%PDF-")


def test_dark_and_light_differ(show: Callable[..., Tab]) -> None:
    colors = [show(dark=dark).evaluate("getComputedStyle(document.body).backgroundColor") for dark in (False, True)]
    assert colors == ["rgb(243, 245, 249)", "rgb(14, 19, 26)"]


def test_state_is_a_word_and_not_only_a_color(items: list[BundleItem], kind: str) -> None:
    page = made(kind, items).decode()
    assert page.count(">signed</span>") == 2 * sum(bool(item.signatures) for item in items)
    assert page.count(">unsigned</span>") == 2 * sum(not item.signatures for item in items)
    assert ">unread</span>" in page


def test_equal_contents_give_equal_bytes_of_reasonable_size(items: list[BundleItem], kind: str) -> None:
    many = [items[number % len(items)] for number in range(100)]
    assert made(kind, many) == made(kind, list(many))
    assert len(made(kind, many)) < 350_000


def test_what_is_copied_is_whole_and_other_long_texts_are_cut(items: list[BundleItem]) -> None:
    page = made("serve", [replace(items[0], name="n" * 2_000, created="c" * 2_000)]).decode()
    assert f"--output {'n' * 2_000}</code>" in page
    assert "c" * 1_001 not in page


def test_charts_beyond_the_limit_are_not_searched_and_say_so(recipe: Layout) -> None:
    contents = Contents(recipe)
    contents.load()
    found = bundle_items(contents, None, with_images=True, max_searched=1)
    unread = [item.unread for item in found if item.kind == "chart"]
    assert unread[0] == {}
    assert all(list(one.values()) == ["not searched: the limit is 1 chart"] for one in unread[1:])
    page = served_page(found, "127.0.0.1:5000", TODAY).decode()
    assert "may name more images" in page
