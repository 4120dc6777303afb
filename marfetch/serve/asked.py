"""What is asked: headers, and requests that two servers could understand in two ways."""

from __future__ import annotations

import re
from typing import Final

from starlette.responses import Response
from starlette.types import Scope

from .responses import problem, refused

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
