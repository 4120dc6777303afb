"""Answers before the answer: those with a status of 1xx, which may come at any time and in any number (RFC 9110, 15.2).

http.client of the standard library passes over 100 only, and takes any other for the answer itself: then the real one would be read as
the answer to whatever is asked next over the same connection.
"""

from __future__ import annotations

from http.client import HTTPException, HTTPResponse, parse_headers

from . import limits

_SWITCHING = 101


class InterimError(HTTPException):
    """What came in place of an answer.

    Attributes:
        is_flood: whether there were too many of them; otherwise it is a change to another protocol, which nobody has asked for.
    """

    def __init__(self, reason: str, *, is_flood: bool) -> None:
        super().__init__(reason)
        self.is_flood = is_flood


class Response(HTTPResponse):
    """Passes over all of them; how long that may take is the matter of the watch, as with all headers."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(limits.MAX_INTERIM + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status >= 200:
                return version, status, reason
            if status == _SWITCHING:
                raise InterimError("it changes to another protocol (101), for which it was not asked", is_flood=False)
            parse_headers(self.fp)
        raise InterimError(f"more than {limits.MAX_INTERIM} answers of the kind 1xx came before the answer", is_flood=True)
