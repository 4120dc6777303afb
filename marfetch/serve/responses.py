"""The small parts of answers: errors in the form of the specification, pages of lists, conditions and ranges."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import Error, InputError
from ..oci import Digest
from ..reference import Reference, is_tag

VERSION: Final = (b"docker-distribution-api-version", b"registry/2.0")

RawHeaders = list[tuple[bytes, bytes]]


class PlainResponse:
    """An answer whose bytes are at hand; its headers are ready to be sent."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, headers: RawHeaders, body: bytes, status: int = 200) -> None:
        self._headers = headers
        self._body = body
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the interface of ASGI
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


def problem(
    status: int, code: str, message: str, *, detail: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A failure (distribution-spec, "Error Codes")."""
    error: dict[str, object] = {"code": code, "message": message}
    if detail:
        error["detail"] = detail
    return JSONResponse({"errors": [error]}, status_code=status, headers=headers)


def refused(message: str) -> Response:
    """A request that no honest client sends: it is answered, and its connection closed."""
    return problem(400, "UNSUPPORTED", message, headers={"Connection": "close"})


class Page(NamedTuple):
    """A part of a sorted list, and the `Link` to the next one."""

    entries: Sequence[str]
    headers: dict[str, str]


def page(entries: Sequence[str], query: bytes, path: str, *, key: Callable[[str], Any]) -> Page:
    """What `n` and `last` ask for (distribution-spec, "Listing Tags").

    Args:
        entries: sorted by `key`.
        path: the address of the list, for the link.

    Raises:
        InputError: `usage`: `n` is no number.
    """
    if not query:
        return Page(entries, {})
    asked = QueryParams(query)
    start = bisect_right(entries, key(asked["last"]), key=key) if "last" in asked else 0
    if "n" not in asked:
        return Page(entries[start:], {})
    number = asked["n"]
    if not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise InputError(f"`n` takes a number from 0 on, not `{number[:40]}`", code="usage")
    count = int(number)
    found = entries[start : start + count]
    if not found or start + count >= len(entries):
        return Page(found, {})
    return Page(found, {"Link": f'<{quote(path)}?n={count}&last={quote(found[-1], safe="")}>; rel="next"'})


def matches_tag(condition: str, tag: str) -> bool:
    """Whether `If-None-Match` names this entity tag (RFC 9110, 13.1.2: by weak comparison)."""
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in condition.split(","))


_RANGE: Final = re.compile(r"bytes\s*=\s*(?:([0-9]+)\s*-\s*([0-9]*)|-\s*([0-9]+))\s*", re.IGNORECASE | re.ASCII)


def part(wanted: str, size: int) -> tuple[int, int] | None:
    """The bytes that one range asks for: from, and up to but without (RFC 9110, 14.1.2).

    Returns:
        None where everything is given: what is not understood, and several ranges, are ignored. An empty part cannot be given at all.
    """
    match = _RANGE.fullmatch(wanted.strip())
    if match is None:
        return None
    # No blob is as long as a number of twenty digits says; longer ones are not even read.
    first, last, suffix = (_number(text) for text in match.groups())
    if suffix is not None:
        return max(0, size - suffix), size
    if first is None or (last is not None and last < first):
        return None
    return first, min(size, last + 1) if last is not None else size


def _number(text: str | None) -> int | None:
    """A position; one of twenty digits and more is behind the end of every blob, and not read further."""
    if not text:
        return None
    return int(text) if len(text) < 20 else 10**19


def code_of(error: Error) -> str:
    """The code of the specification for text in an address that is not what it should be."""
    return {"digest-invalid": "DIGEST_INVALID", "reference-invalid": "NAME_INVALID"}.get(error.code, "UNSUPPORTED")


def base() -> ASGIApp:
    """That this is a registry (distribution-spec, "Determining Support")."""
    return PlainResponse([(b"content-type", b"application/json"), (b"content-length", b"2"), VERSION], b"{}")


def nowhere() -> ASGIApp:
    """An address that the specification does not have."""
    return problem(404, "UNSUPPORTED", "there is no such address")


def no_name(name: str) -> ASGIApp:
    """A repository that is not there, or cannot be."""
    try:
        Reference.parse(f"localhost/{name}")
    except Error as error:
        return problem(400, "NAME_INVALID", _plain(error.message))
    return problem(404, "NAME_UNKNOWN", f"repository name `{name}` is not known to the registry")


def no_manifest(name: str, text: str) -> ASGIApp:
    """A tag or digest that is not there, or cannot be."""
    try:
        Reference.parse(f"localhost/{name}{'@' if ':' in text else ':'}{text}")
    except Error as error:
        return problem(400, "MANIFEST_INVALID", _plain(error.message))
    detail = {"Tag": text} if is_tag(text) else {"Digest": text}
    return problem(404, "MANIFEST_UNKNOWN", f'manifest tagged by "{text}" is not found', detail=detail)


def no_blob(name: str, text: str) -> ASGIApp:
    """A digest that is not there, or cannot be."""
    try:
        Digest.parse(text)
    except InputError as error:
        return problem(400, code_of(error), _plain(error.message))
    where = f" in `{name}`" if name and name.isascii() and name.isprintable() else ""
    return problem(404, "BLOB_UNKNOWN", f"blob `{text}` is not known to the registry{where}")


def _plain(message: str) -> str:
    """Without what could steer a terminal that shows it."""
    return "".join(one if one.isprintable() else "?" for one in message)[:500]


# -- what is asked: headers, and requests that two servers could understand in two ways


_METHODS: Final = ("GET", "HEAD")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def header(scope: Scope, name: bytes) -> str | None:
    """The value of a header, the first one where it stands several times."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def unusual(scope: Scope) -> Response | None:
    """The answer to a request that two servers could understand in two ways, or that wants to change something."""
    names = [name for name, _ in scope["headers"]]
    if scope["http_version"] not in ("1.1", "1.0"):
        return refused("only version 1.1 of HTTP is spoken here")
    if names.count(b"host") > 1 or (names.count(b"host") == 0 and scope["http_version"] == "1.1"):
        return refused("a request has one `Host`")
    if b"transfer-encoding" in names and b"content-length" in names:
        return refused("a request has one length")
    if not _HOST.fullmatch(header(scope, b"host") or "localhost"):
        return refused("the `Host` is none")
    if scope["method"] not in _METHODS:
        allowed = {"Allow": "GET, HEAD"} | ({"Connection": "close"} if {b"content-length", b"transfer-encoding"} & {*names} else {})
        return problem(405, "UNSUPPORTED", "the registry can be read only", headers=allowed)
    return None
