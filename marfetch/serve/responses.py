"""Building blocks of responses: errors of the distribution specification, pagination, conditional requests and ranges."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence, Set
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import Error, InputError
from ..oci import MAX_CHILDREN, OCI_INDEX, Descriptor, Digest, descriptor_json
from ..reference import Host, Reference, is_tag

VERSION: Final = (b"docker-distribution-api-version", b"registry/2.0")

RawHeaders = list[tuple[bytes, bytes]]


PIECE: Final = 256 << 10
"""The size in bytes of the chunks of a response. It limits the memory that a slow client uses."""
MAX_PAGE: Final = 10_000
"""The maximum number of names in one page of a list."""


class PlainResponse:
    """A response with a complete body and encoded headers. The body is sent in chunks, so that connections need not copy it whole."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, headers: RawHeaders, body: bytes, status: int = 200) -> None:
        self._headers = headers
        self._body = body
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the interface of ASGI
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        for start in range(0, len(self._body) - PIECE, PIECE):
            await send({"type": "http.response.body", "body": self._body[start : start + PIECE], "more_body": True})
        rest = (len(self._body) - 1) // PIECE * PIECE if self._body else 0
        await send({"type": "http.response.body", "body": self._body[rest:]})


def problem(
    status: int, code: str, message: str, *, detail: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """Return an error response (distribution-spec, "Error Codes")."""
    error: dict[str, object] = {"code": code, "message": message}
    if detail:
        error["detail"] = detail
    return JSONResponse({"errors": [error]}, status_code=status, headers=headers)


def refused(message: str) -> Response:
    """Return the error response to an ambiguous request. The response closes the connection."""
    return problem(400, "UNSUPPORTED", message, headers={"Connection": "close"})


class Page(NamedTuple):
    """One page of a sorted list, with the `Link` header to the next page."""

    entries: Sequence[str]
    headers: dict[str, str]


def page(entries: Sequence[str], query: bytes, path: str, *, key: Callable[[str], Any]) -> Page:
    """Return the page that `n` and `last` select, with at most `MAX_PAGE` entries (distribution-spec, "Listing Tags").

    Args:
        entries: all entries of the list, sorted by `key`.
        query: the query of the request, with `n` and `last`.
        path: the path of the list, for the link to the next page.
        key: the sort key of an entry.

    Raises:
        InputError: `usage`: `n` is not a number.
    """
    asked = QueryParams(query)
    start = bisect_right(entries, key(asked["last"]), key=key) if "last" in asked else 0
    number = asked.get("n", str(MAX_PAGE))
    if not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise InputError(f"`n` must be a number, not `{number[:40]}`", code="usage")
    count = min(int(number), MAX_PAGE)
    found = entries[start : start + count]
    if not found or start + count >= len(entries):
        return Page(found, {})
    return Page(found, {"Link": f'<{quote(path)}?n={count}&last={quote(found[-1], safe="")}>; rel="next"'})


def referrers_page(entries: Sequence[Descriptor], asked: QueryParams, path: str) -> tuple[bytes, dict[str, str]]:
    """Return one page of a referrers list as an index, and its headers (distribution-spec, "Listing Referrers").

    A page has at most `MAX_CHILDREN` referrers and about `PIECE` bytes, but always the first referrer, whatever its size. The `Link`
    header leads to the next page.

    Args:
        entries: all referrers of the subject.
        asked: the query of the request: `artifactType` filters the referrers, and `last` is the last digest of the previous page.
        path: the path of the list, for the link to the next page.
    """
    wanted = asked.getlist("artifactType")
    headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
    fitting = [one for one in entries if not wanted or one.artifact_type in wanted]
    last = asked.get("last")
    start = next((number for number, one in enumerate(fitting, start=1) if str(one.digest) == last), 0) if last else 0
    shown: list[str] = []
    size = 0
    for one in fitting[start:]:
        text = json.dumps(descriptor_json(one), separators=(",", ":"))
        size += len(text) + 1
        if shown and (size > PIECE or len(shown) == MAX_CHILDREN):
            query = urlencode([*(("artifactType", each) for each in wanted), ("last", str(fitting[start + len(shown) - 1].digest))])
            headers["Link"] = f'<{quote(path)}?{query}>; rel="next"'
            break
        shown.append(text)
    body = f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{",".join(shown)}]}}'
    return body.encode(), headers


def matches_tag(condition: str, tag: str) -> bool:
    """Return whether the value of `If-None-Match` contains an ETag, by weak comparison (RFC 9110, 13.1.2)."""
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in condition.split(","))


_RANGE: Final = re.compile(r"bytes\s*=\s*(?:([0-9]+)\s*-\s*([0-9]*)|-\s*([0-9]+))\s*", re.IGNORECASE | re.ASCII)


def part(wanted: str, size: int) -> tuple[int, int] | None:
    """Parse a `Range` header into start and (exclusive) end (RFC 9110, 14.1.2).

    Returns:
        The range; if it is empty, the header cannot be satisfied. None for an invalid header or several ranges, which are ignored.
    """
    match = _RANGE.fullmatch(wanted.strip())
    if match is None:
        return None
    first, last, suffix = (_number(text) for text in match.groups())
    if suffix is not None:
        return max(0, size - suffix), size
    if first is None or (last is not None and last < first):
        return None
    return first, min(size, last + 1) if last is not None else size


def _number(text: str | None) -> int | None:
    """Parse a position in a range. A number with 20 or more digits is not parsed, because it is beyond the end of every blob."""
    if not text:
        return None
    return int(text) if len(text) < 20 else 10**19


class SentPart(NamedTuple):
    """The part of a blob that a response carries.

    Attributes:
        start: the offset of the first byte.
        end: the offset after the last byte.
    """

    status: int
    headers: RawHeaders
    start: int
    end: int


def span(scope: Scope, digest: Digest, size: int) -> SentPart | ASGIApp:
    """Return what to send of a blob: all of it, or a range. If its bytes are not needed, return the response (RFC 9110, 13 and 14)."""
    tag = f'"{digest}"'
    start, end, status = 0, size, 200
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"accept-ranges", b"bytes"),
        (b"docker-content-digest", str(digest).encode()),
        (b"etag", tag.encode()),
    ]
    condition, wanted = header(scope, b"if-none-match"), header(scope, b"range")
    if condition and matches_tag(condition, tag):
        return PlainResponse(headers[2:], b"", 304)
    # `Range` applies only to GET (RFC 9110, 14.2).
    if wanted and scope["method"] == "GET" and (header(scope, b"if-range") or tag).strip() == tag:
        given = part(wanted, size)
        if given is not None:
            start, end = given
            if start >= end:
                return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
            status = 206
            headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size)))
    headers.append((b"content-length", b"%d" % (end - start)))
    return SentPart(status, headers, start, end)


def data_digest(path: str) -> Digest | None:
    """Return the digest in a path of a data host, `…/blobs/sha256/ab/ab…/data`; None if the path has another form."""
    parts = path.split("/")
    try:
        return Digest.parse(f"{parts[-4]}:{parts[-2]}")
    except (IndexError, InputError):
        return None


def base() -> ASGIApp:
    """Return the response to `/v2/` (distribution-spec, "Determining Support")."""
    return PlainResponse([(b"content-type", b"application/json"), (b"content-length", b"2"), VERSION], b"{}")


def nowhere() -> ASGIApp:
    """Return the response to a path that the specification does not define."""
    return problem(404, "UNSUPPORTED", "no such path")


def no_name(name: str) -> ASGIApp:
    """Return the response to an unknown or invalid repository."""
    try:
        Reference.parse(f"localhost/{name}")
    except Error as error:
        return problem(400, "NAME_INVALID", _plain(error.message))
    return problem(404, "NAME_UNKNOWN", f"repository name `{name}` is not known to the registry")


def no_manifest(name: str, text: str) -> ASGIApp:
    """Return the response to an unknown or invalid tag or digest of a manifest."""
    try:
        Reference.parse(f"localhost/{name}{'@' if ':' in text else ':'}{text}")
    except Error as error:
        return problem(400, "MANIFEST_INVALID", _plain(error.message))
    detail = {"Tag": text} if is_tag(text) else {"Digest": text}
    return problem(404, "MANIFEST_UNKNOWN", f'manifest tagged by "{text}" is not found', detail=detail)


def no_blob(name: str, text: str) -> ASGIApp:
    """Return the response to an unknown or invalid digest of a blob."""
    try:
        Digest.parse(text)
    except InputError as error:
        return problem(400, "DIGEST_INVALID", _plain(error.message))
    where = f" in `{name}`" if name and name.isascii() and name.isprintable() else ""
    return problem(404, "BLOB_UNKNOWN", f"blob `{text}` is not known to the registry{where}")


def _plain(message: str) -> str:
    """Remove characters that could control a terminal."""
    return "".join(one if one.isprintable() else "?" for one in message)[:500]


# -- requests: read headers, and refuse requests that two servers could parse differently


_METHODS: Final = ("GET", "HEAD")
_HOST: Final = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first value of a header, or None if the request does not have the header."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def host_parts(text: str) -> tuple[str | None, str]:
    """Split a `Host` header into the host name and the port.

    Returns:
        First, the host name in lower case without a trailing dot, or None if the header is invalid. Second, the port with its colon, or
        an empty string if there is no port.
    """
    match = _HOST.fullmatch(text)
    return (match[1].lower().removesuffix("."), match[2] or "") if match else (None, "")


def misdirected(scope: Scope, allowed: Set[str]) -> Response | None:
    """Return the error response to a request for a host name that is not allowed (RFC 9110, 15.5.20). Return None if it is allowed.

    This prevents DNS rebinding: a web page could otherwise read the registry through a host name that resolves to this machine.

    Args:
        allowed: allowed host names in lower case. Loopback names are always allowed: they cannot belong to a web page (RFC 6761, 6.3).
    """
    name, _ = host_parts(header(scope, b"host") or "localhost")
    if name is not None and (name in allowed or name.endswith(".localhost") or Host(name).is_loopback):
        return None
    message = "this registry answers only for loopback names; for another host name, start it with `--allow-host NAME`"
    return problem(421, "DENIED", message, headers={"Connection": "close"})


def unusual(scope: Scope) -> Response | None:
    """Return the error response to a request that is ambiguous or not a read. Return None for any other request.

    A request is ambiguous if two servers could parse it differently, which allows request smuggling.
    """
    names = [name for name, _ in scope["headers"]]
    if scope["http_version"] not in ("1.1", "1.0"):
        return refused("only HTTP/1.0 and HTTP/1.1 are supported")
    if names.count(b"host") > 1 or (names.count(b"host") == 0 and scope["http_version"] == "1.1"):
        return refused("a request must have exactly one `Host`")
    if b"transfer-encoding" in names and b"content-length" in names:
        return refused("a request cannot have both `Transfer-Encoding` and `Content-Length`")
    if b"host" in names and not host_parts(header(scope, b"host") or "")[0]:
        return refused("the `Host` is invalid")
    if scope["method"] not in _METHODS:
        allowed = {"Allow": "GET, HEAD"} | ({"Connection": "close"} if {b"content-length", b"transfer-encoding"} & {*names} else {})
        return problem(405, "UNSUPPORTED", "the registry is read-only", headers=allowed)
    return None
