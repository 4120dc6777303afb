"""Take the pictures of the HTML pages, `approval.png` and `serve.png`, with Chromium: `make pictures`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from marfetch.bundle.approval import approval_page
from marfetch.bundle.inventory import BundleItem, bundle_items
from marfetch.demo.recipe import build
from marfetch.layout.layout import Layout
from marfetch.layout.repositories import Contents
from marfetch.reference import Host
from marfetch.serve.page import served_page
from tests.world import tools
from tests.world.browser import Browser

DOCS = Path(__file__).parent
HOST = Host("mcr.microsoft.com")
SHOWN = {
    ("application-lb/charts/alb-controller", "1.7.12"): ("alb-controller", "alb-controller-bootstrap"),
    ("azurelinux/3.0/image/minimal-os", "latest"): (),
    ("bicep/avm/res/storage/storage-account", "0.14.0"): (),
    ("dotnet/aspnet", "6.0"): (),
}
"""Repository and tag of what the demo has → names of images: the demo's charts name none."""


def items(place: Path) -> Iterator[BundleItem]:
    """Yield what the demo's registry has of `SHOWN`, as a bundle from MAR lists it."""
    layout = Layout(place)
    build(layout, HOST)
    contents = Contents(layout)
    contents.load()
    for item in bundle_items(contents, None):
        images = SHOWN.get((item.reference.repository, item.reference.tag or ""))
        if images is not None:
            named = tuple(f"{HOST}/application-lb/images/{name}:1.7.12" for name in images)
            yield replace(item, reference=replace(item.reference, host=HOST), images=named)


def main() -> None:
    """Write both pictures."""
    binary = tools.find("chromium")
    if binary is None:
        sys.exit(tools.missing("chromium"))
    with TemporaryDirectory(prefix="marfetch-pictures-", ignore_cleanup_errors=True) as scratch:
        place = Path(scratch)
        found = list(items(place / "layout"))
        today = date(2026, 11, 28)
        pages = {"approval": (approval_page(found, None), False), "serve": (served_page(found, "127.0.0.1:5000", today), True)}
        (place / "profile").mkdir()
        with Browser(binary, place / "profile") as browser:
            for name, (data, is_dark) in pages.items():
                path = place / f"{name}.html"
                path.write_bytes(data)
                tab = browser.open(f"{path.as_uri()}#a0", width=1100, height=1060, dark=is_dark)
                tab.evaluate("scrollTo(0, 0)")
                (DOCS / f"{name}.png").write_bytes(tab.picture())


if __name__ == "__main__":
    main()
