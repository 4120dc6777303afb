"""The HTML page of `serve`: the artifacts of the layout, and how to pull each with helm, oras, Bicep and marfetch."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from ..artifact.kinds import BICEP_MODULE
from ..bundle.approval import POLICY, SEARCH, code, document, facts, line, listed, text
from ..bundle.inventory import BundleItem, BundleReferrer, bundle_items, helm_pull
from ..layout.repositories import Contents
from ..oci import Descriptor
from ..text import counted, human_size
from .responses import PlainResponse, RawHeaders

_HEADERS: RawHeaders = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]

MAX_ROWS: Final = 20_000
"""Maximum number of artifacts, layers and referrers on the page."""
MAX_LISTED: Final = 100
"""Maximum number of layers or referrers that the page lists for one artifact."""
_MAX_DATE: Final = 100


class Pages:
    """Renders the page, and renders it again when the layout has changed.

    Args:
        contents: the served layout.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._items: tuple[object, list[BundleItem]] | None = None
        self._made: tuple[object, str, bytes] | None = None
        self._alone = threading.Lock()

    def answer(self, host: str) -> PlainResponse:
        """Return the page.

        Args:
            host: the host from the request, for the commands to copy.

        Raises:
            Error: the layout cannot be read.
        """
        with self._alone:  # one page at a time is in memory
            snapshot = self._contents.current()
            if self._items is None or self._items[0] != snapshot.state:
                self._items = snapshot.state, bundle_items(self._contents, None)
            if self._made is None or self._made[:2] != (snapshot.state, host):
                self._made = snapshot.state, host, served_page(self._items[1], host)
            body = self._made[2]
        return PlainResponse([*_HEADERS, (b"content-length", b"%d" % len(body))], body)


def served_page(items: Sequence[BundleItem], host: str) -> bytes:
    return document(f"{counted(len(items), 'artifact')} at {host}", _body(items, host))


def _body(items: Sequence[BundleItem], host: str) -> Iterator[str]:
    total = human_size(sum(item.size for item in items))
    count = counted(len(items), "artifact")
    yield f"<header><h1>{text(host)}</h1><p>A read-only registry with {count}, {total}.</p></header>{SEARCH}"
    if not items:
        yield "<p>This layout has no named artifacts.</p>"
    left = MAX_ROWS
    for number, item in enumerate(items):
        left -= 1 + min(MAX_LISTED, len(item.layers)) + min(MAX_LISTED, len(item.referrers))
        if left < 0:
            yield f"<p>And {counted(len(items) - number, 'more artifact')}, too many to show here.</p>"
            return
        rows = [
            ("digest", code(item.descriptor.digest)),
            ("kind", f"{text(item.title)}, {code(item.descriptor.media_type)}"),
            ("size", human_size(item.size)),
        ]
        if item.created:
            rows.append(("created", text(item.created[:_MAX_DATE])))
        if item.ends is not None:
            rows.append(("end of life", text(item.ends)))
        if item.layers:
            rows.append(("content", _first([_layer(one) for one in item.layers[:MAX_LISTED]], len(item.layers))))
        if item.referrers:
            rows.append(("referrers", _first([_referrer(one) for one in item.referrers[:MAX_LISTED]], len(item.referrers))))
        name = f"{item.reference.repository}:{item.reference.tag}" if item.reference.tag else str(item.reference.repository)
        yield (
            f"<article data-item><h3>{text(name)}</h3> <span class='soft'>{text(item.version or '')}</span>{facts(rows)}"
            + "".join(line(one) for one in _lines(item, host))
            + "</article>"
        )


def _layer(one: Descriptor) -> str:
    return f"{code(one.digest)} {human_size(one.size)}, {code(one.media_type)}"


def _first(shown: list[str], count: int) -> str:
    return listed(shown + ([f"and {count - len(shown)} more"] if count > len(shown) else []))


def _lines(item: BundleItem, host: str) -> Iterator[str]:
    """Yield the commands that pull an artifact, by tag if it has one."""
    end = f":{item.reference.tag}" if item.reference.tag else f"@{item.descriptor.digest}"
    where = f"{host}/{item.reference.repository}"
    helm = helm_pull(item, host)
    if helm is not None:
        yield helm
    if item.kind == BICEP_MODULE.name:
        yield f"module {item.name.replace('-', '_')} 'br:{where}{end}' = {{}}"
    if item.layers:
        yield f"oras blob fetch --plain-http {where}@{item.layers[0].digest} --output {shlex.quote(item.name)}"
    yield f"marfetch pull --endpoint http://{host} {item.reference.repository}@{item.descriptor.digest}"


def _referrer(one: BundleReferrer) -> str:
    return f"{'↳ ' * one.depth}{text(one.title)} {code(one.digest)} {human_size(one.size)}, {code(one.artifact_type)}"
