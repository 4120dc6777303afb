"""Lists that come in pages: tags, the catalog, referrers (distribution-spec, "Listing Tags", `Link`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from requests.utils import parse_header_links

from ..document import Json, parse_json
from ..endpoint import Address
from ..errors import IntegrityError, PolicyError
from . import limits
from .transport import StreamedResponse

_BRACKETS: Final = 10_000
"""Brackets of one page, at most: a page of texts has three."""


class Collected(NamedTuple):
    """A whole list.

    Attributes:
        entries: each once, in the order of the registry.
        etag: the entity tag of its only page; None where there were several, since a tag is one of a page.
    """

    entries: list[str]
    etag: str | None


def collect(
    start: Address,
    ask: Callable[[Address, dict[str, str]], tuple[StreamedResponse, bytes]],
    name: str,
    what: str,
    about: Callable[[StreamedResponse], AbstractContextManager[None]],
    *,
    known: str | None = None,
    most: int = limits.MAX_PAGES,
) -> Collected | None:
    """All entries of a list; None where it is still what is known.

    Args:
        ask: fetches one page, with further headers.
        name: under which a page has its entries.
        about: stands around the reading of an answer.
        known: the entity tag of the list that is known.
        most: how many pages.

    Raises:
        PolicyError, IntegrityError: as `pages` and `entries`.
    """

    def conditionally(page: Address) -> tuple[StreamedResponse, bytes]:
        return ask(page, {"If-None-Match": known} if known is not None and page == start else {})

    found: dict[str, None] = {}
    tags: list[str | None] = []
    for answer, page in pages(start, conditionally, what, most=most):
        if answer.status_code == 304:
            return None
        tags.append(_entity_tag(answer))
        with about(answer):
            found.update(dict.fromkeys(entries(page, name, what)))
        if len(found) > limits.MAX_ENTRIES:
            raise PolicyError(
                f"{what} has more than {limits.MAX_ENTRIES} entries", code="limit-passed", rule=f"at most {limits.MAX_ENTRIES} entries"
            )
    return Collected(list(found), tags[0] if len(tags) == 1 else None)


def _entity_tag(answer: StreamedResponse) -> str | None:
    """The entity tag of an answer, if it can be sent back as it is (RFC 9110, 8.8.3)."""
    etag = answer.headers.get("ETag", "").strip()
    return etag if re.fullmatch(r'(?:W/)?"[\x21\x23-\x7e]{1,200}"', etag) else None


def pages(
    start: Address, ask: Callable[[Address], tuple[StreamedResponse, bytes]], what: str, *, most: int = limits.MAX_PAGES
) -> Iterator[tuple[StreamedResponse, bytes]]:
    """All pages of a list, each with its body.

    Args:
        ask: fetches one page.
        what: the list, for messages.
        most: how many pages.

    Raises:
        PolicyError: `limit-passed`, `redirect-refused`: too many pages, a page that was there before, a page on another host.
        IntegrityError: `malformed`.
    """
    seen: set[str] = set()
    address: Address | None = start
    while address is not None:
        if address.target in seen:
            raise PolicyError(
                f"{what} goes in circles: a page leads back to one that was there before",
                code="redirect-refused",
                rule="no page twice",
            )
        seen.add(address.target)
        if len(seen) > most:
            raise PolicyError(f"{what} has more than {most} pages", code="limit-passed", rule=f"at most {most} pages")
        answer, data = ask(address)
        yield answer, data
        address = _next(answer, start, what)


def _next(answer: StreamedResponse, start: Address, what: str) -> Address | None:
    """The address of the next page: relative, or absolute on the registry itself and below the same path."""
    header = answer.headers.get("Link")
    if not header:
        return None
    links = [link["url"] for link in parse_header_links(header[:8192]) if link.get("rel") == "next" and link.get("url")]
    if not links:
        if "next" in header.lower():
            raise IntegrityError(f"{what} is malformed: its `Link` header cannot be read", code="malformed", what=what)
        return None
    address = resolve(answer.address, links[0])
    path = address.target.partition("?")[0]
    if (address.scheme, address.host) != (start.scheme, start.host):
        raise PolicyError(
            f"the next page of {what} is on `{address.host}`, which is refused: pages stay on the registry",
            code="host-refused",
            rule="pages stay on the registry",
        )
    if path != start.target.partition("?")[0]:
        raise IntegrityError(f"the next page of {what} is that of another list (`{path[:200]}`)", code="malformed", what=what)
    return address


def resolve(base: Address, location: str) -> Address:
    """Where a `Location` or `Link` leads, its text kept byte for byte (RFC 3986, 5.2, without removing dot segments or slashes).

    Raises:
        PolicyError: `address-refused`.
    """
    if "://" in location.partition("?")[0].partition("/")[0] or location[:8].lower().startswith(("http://", "https://")):
        return Address.parse(location)
    if location.startswith("//"):
        return Address.parse(f"{base.scheme}:{location}")
    scheme = location.partition(":")[0] if ":" in location.partition("/")[0] else ""
    if scheme:
        return Address.parse(location)  # `file:`, `ftp:` and the like: refused there
    if location.startswith("/"):
        return Address.parse(base.origin + location)
    path = base.target.partition("?")[0]
    if location.startswith("?"):
        return Address.parse(base.origin + path + location)
    return Address.parse(base.origin + path.rpartition("/")[0] + "/" + location)


def entries(data: bytes, name: str, what: str) -> list[str]:
    """The texts under a name of one page; what is no text becomes one that begins with a space, and so is no name.

    `null` stands for none, as Go writes an empty list.

    Raises:
        IntegrityError: `malformed`.
    """
    if data.count(b"[") + data.count(b"{") > _BRACKETS:  # each would be a value of its own, of many times its bytes
        raise IntegrityError(f"{what} is malformed: it is no list of texts", code="malformed", what=what)
    document = parse_json(data, what)
    value: Json = document.get(name) if isinstance(document, dict) else None
    if value is None and isinstance(document, dict) and name in document:
        return []
    if not isinstance(value, list):
        raise IntegrityError(f"{what} is malformed: it has no list under `{name}`", code="malformed", what=what)
    return [entry if isinstance(entry, str) else f" {entry!r}"[:100] for entry in value]
