"""Downloads paginated lists: tags, the catalog and referrers (distribution-spec, "Listing Tags", `Link`)."""

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
"""Maximum number of opening brackets in one page. A valid page has two: one for the object, and one for the list."""


class Collected(NamedTuple):
    """The entries of all pages of a list.

    Attributes:
        entries: the entries in the registry's order, without duplicates.
        etag: the entity tag of the page; None if there are several pages, because an entity tag covers only one page.
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
    """Download all entries of a list. Return None if the list still has the known entity tag.

    Args:
        ask: downloads one page, given its address and extra headers.
        name: the JSON key of the entries.
        what: the list, for messages.
        about: returns a context manager that adds facts about a response to errors. The response is parsed in this context.
        known: the entity tag of the cached list, for a conditional request.
        most: maximum number of pages.

    Raises:
        PolicyError, IntegrityError: as for `pages` and `entries`; `limit-passed`: too many entries.
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
    """Return the entity tag of a response; None if it is missing or invalid (RFC 9110, 8.8.3)."""
    etag = answer.headers.get("ETag", "").strip()
    return etag if re.fullmatch(r'(?:W/)?"[\x21\x23-\x7e]{1,200}"', etag) else None


def pages(
    start: Address, ask: Callable[[Address], tuple[StreamedResponse, bytes]], what: str, *, most: int = limits.MAX_PAGES
) -> Iterator[tuple[StreamedResponse, bytes]]:
    """Yield the response and body of each page of a list.

    Args:
        ask: downloads one page.
        what: the list, for messages.
        most: maximum number of pages.

    Raises:
        PolicyError: `limit-passed`: too many pages; `redirect-refused`: a page appears twice; `host-refused`: a page is on another host.
        IntegrityError: `malformed`.
    """
    seen: set[str] = set()
    address: Address | None = start
    while address is not None:
        if address.target in seen:
            raise PolicyError(
                f"{what} repeats: its next page was already read",
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
    """Return the address of the next page, if any. The page must be on the same registry and have the same path."""
    header = answer.headers.get("Link")
    if not header:
        return None
    links = [link["url"] for link in parse_header_links(header[:8192]) if link.get("rel") == "next" and link.get("url")]
    if not links:
        if "next" in header.lower():
            raise IntegrityError(f"{what} is malformed: invalid `Link` header", code="malformed", what=what)
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
        raise IntegrityError(f"the next page of {what} belongs to another list (`{path[:200]}`)", code="malformed", what=what)
    return address


def resolve(base: Address, location: str) -> Address:
    """Resolve a `Location` or `Link` relative to an address (RFC 3986, 5.2), but keep dot segments and repeated slashes.

    Raises:
        PolicyError: `address-refused`.
    """
    if "://" in location.partition("?")[0].partition("/")[0] or location[:8].lower().startswith(("http://", "https://")):
        return Address.parse(location)
    if location.startswith("//"):
        return Address.parse(f"{base.scheme}:{location}")
    scheme = location.partition(":")[0] if ":" in location.partition("/")[0] else ""
    if scheme:
        return Address.parse(location)  # refuses `file:`, `ftp:` and the like
    if location.startswith("/"):
        return Address.parse(base.origin + location)
    path = base.target.partition("?")[0]
    if location.startswith("?"):
        return Address.parse(base.origin + path + location)
    return Address.parse(base.origin + path.rpartition("/")[0] + "/" + location)


def entries(data: bytes, name: str, what: str) -> list[str]:
    """Return the entries of one page. An entry that is not a string becomes a string that starts with a space.

    No valid name starts with a space, so the caller skips such an entry. `null` means an empty list, because Go encodes it this way.

    Args:
        name: the JSON key of the list.
        what: the list, for messages.

    Raises:
        IntegrityError: `malformed`.
    """
    if data.count(b"[") + data.count(b"{") > _BRACKETS:  # each parsed list or object takes many times its bytes in memory
        raise IntegrityError(f"{what} is malformed: it is not a list of strings", code="malformed", what=what)
    document = parse_json(data, what)
    value: Json = document.get(name) if isinstance(document, dict) else None
    if value is None and isinstance(document, dict) and name in document:
        return []
    if not isinstance(value, list):
        raise IntegrityError(f"{what} is malformed: there is no list under `{name}`", code="malformed", what=what)
    return [entry if isinstance(entry, str) else f" {entry!r}"[:100] for entry in value]
