"""The HTML page of `serve`: the artifacts in the layout, with the commands that pull each with helm, oras, Bicep and marfetch."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from ..artifact.kinds import BICEP_MODULE
from ..bundle.inventory import BundleItem, bundle_items, helm_pull
from ..bundle.webpage import POLICY, ArtifactSections, copied, document, text
from ..layout.repositories import Contents
from ..text import counted, human_size
from .responses import PlainResponse, RawHeaders

_HEADERS: RawHeaders = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]

MAX_ROWS: Final = 10_000
"""The maximum total of artifacts, layers, referrers and images on the page."""
MAX_LISTED: Final = 100
"""The maximum number of layers, referrers or images that the page lists for one artifact."""
MAX_SEARCHED: Final = 200
"""The maximum number of charts that are searched for images."""


class Pages:
    """Renders the page and caches it until the layout, the host or the day changes.

    Args:
        contents: the served layout.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._items: tuple[object, list[BundleItem]] | None = None
        self._made: tuple[object, bytes] | None = None
        self._alone = threading.Lock()

    def answer(self, host: str) -> PlainResponse:
        """Return the page as a response.

        Args:
            host: the host from the request, to show in the commands.

        Raises:
            Error: the layout cannot be read.
        """
        with self._alone:  # render one page at a time, to limit memory
            snapshot = self._contents.current()
            if self._items is None or self._items[0] != snapshot.state:
                self._items = snapshot.state, bundle_items(self._contents, None, with_images=True, max_searched=MAX_SEARCHED)
            wanted = snapshot.state, host, date.today()
            if self._made is None or self._made[0] != wanted:
                self._made = wanted, served_page(self._items[1], host, wanted[2])
            body = self._made[1]
        return PlainResponse([*_HEADERS, (b"content-length", b"%d" % len(body))], body)


def served_page(items: Sequence[BundleItem], host: str, today: date) -> bytes:
    """Return the page as HTML.

    Args:
        items: the artifacts to show.
        host: the host to show in the commands.
        today: the date for "past end of life".
    """
    shown = ArtifactSections(items, "registry", lambda item: _commands(item, host), today=today, max_rows=MAX_ROWS, max_listed=MAX_LISTED)
    return document(f"{counted(len(items), 'artifact')} at {host}", _header(items, host), (shown.cards(), *shown.sections()))


def _header(items: Sequence[BundleItem], host: str) -> Iterator[str]:
    total = human_size(sum(item.size for item in items))
    yield f'<p class="brand">marfetch serve</p><h1>{text(host)}</h1>'
    yield f"<p>A read-only registry with {counted(len(items), 'artifact')}, {total}. To make marfetch use it by default:</p>"
    yield copied(f"export MARFETCH_ENDPOINT=http://{host}")


def _commands(item: BundleItem, host: str) -> Iterator[tuple[str, str]]:
    """Yield the commands that pull an artifact, as pairs of a tool and a command line."""
    end = f":{item.reference.tag}" if item.reference.tag else f"@{item.descriptor.digest}"
    where = f"{host}/{item.reference.repository}"
    helm = helm_pull(item, host)
    if helm is not None:
        yield "helm", helm
    if item.kind == BICEP_MODULE.name:
        yield "Bicep", f"module {item.name.replace('-', '_')} 'br:{where}{end}' = {{}}"
    if item.layers:
        yield "oras", f"oras blob fetch --plain-http {where}@{item.layers[0].digest} --output {shlex.quote(item.name)}"
    yield "marfetch", f"marfetch pull --endpoint http://{host} {item.reference.repository}@{item.descriptor.digest}"
