"""Lists that come in pages: tags, the catalog, referrers (distribution-spec, "Listing Tags", `Link`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from requests.utils import parse_header_links

from ..document import Json, parse_json
from ..endpoint import Address
from ..errors import IntegrityError, PolicyError
from . import limits
from .transport import Answer


def pages(start: Address, ask: Callable[[Address], tuple[Answer, bytes]], what: str) -> Iterator[tuple[Answer, bytes]]:
    """All pages of a list, each with its body.

    Args:
        ask: fetches one page.
        what: the list, for messages.

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
        if len(seen) > limits.MAX_PAGES:
            raise PolicyError(
                f"{what} has more than {limits.MAX_PAGES} pages", code="limit-passed", rule=f"at most {limits.MAX_PAGES} pages"
            )
        answer, data = ask(address)
        yield answer, data
        address = _next(answer, start, what)


def _next(answer: Answer, start: Address, what: str) -> Address | None:
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
    document = parse_json(data, what)
    value: Json = document.get(name) if isinstance(document, dict) else None
    if value is None and isinstance(document, dict) and name in document:
        return []
    if not isinstance(value, list):
        raise IntegrityError(f"{what} is malformed: it has no list under `{name}`", code="malformed", what=what)
    return [entry if isinstance(entry, str) else f" {entry!r}"[:100] for entry in value]
