"""A strict parser for HTTP responses: 1xx responses, body lengths and chunks.

http.client of the standard library accepts responses that other parsers read differently. It skips only 100, and takes any other 1xx for
the final response. It parses a chunk size with `int`, which accepts `-1`, `+5`, `0x5` and `1_0`; a chunk of size -1 is read into memory
until the connection ends. Here a response that violates RFC 9112 ends the exchange, so that its rest never becomes the next response.
"""

from __future__ import annotations

import re
from http.client import HTTPException, HTTPResponse, IncompleteRead, parse_headers
from typing import Final

from . import limits

_SWITCHING = 101
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?\r\n")
_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*\r\n")
_CRLF: Final = b"\r\n"


class ResponseError(HTTPException):
    """A response that violates HTTP or a limit.

    Attributes:
        rule: the violated section or limit.
        is_flood: whether a limit was exceeded, not HTTP violated.
    """

    def __init__(self, reason: str, rule: str, *, is_flood: bool = False) -> None:
        super().__init__(reason)
        self.rule = rule
        self.is_flood = is_flood


class Response(HTTPResponse):
    """A response of http.client with strict framing; the watchdog limits the time to read it."""

    _framing = 0
    """Bytes of chunk framing beyond the allowance per chunk and byte of content."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(limits.MAX_INTERIM + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status >= 200:
                return version, status, reason
            if status == _SWITCHING:
                raise ResponseError("it switches to another protocol (101) without a request for it", "RFC 9110, 7.8")
            parse_headers(self.fp)
        reason = f"more than {limits.MAX_INTERIM} responses with a 1xx status came before the final one"
        raise ResponseError(reason, f"at most {limits.MAX_INTERIM} responses with a 1xx status", is_flood=True)

    def begin(self) -> None:
        """Read the headers, and check that they define the length of the body unambiguously.

        Raises:
            ResponseError: they do not.
        """
        super().begin()
        codings = self._listed("Transfer-Encoding")
        lengths = self._listed("Content-Length")
        if codings is not None and [coding.lower() for coding in codings] != ["chunked"]:
            raise ResponseError("its `Transfer-Encoding` is not `chunked`", "RFC 9112, 6.1")
        if lengths is not None and not all(map(_LENGTH.fullmatch, lengths)):
            raise ResponseError("its `Content-Length` is not a number", "RFC 9112, 6.3")
        if len(set(lengths or ())) > 1 or (lengths is not None and codings is not None):
            raise ResponseError("it has two lengths or both a length and chunks", "RFC 9112, 6.3")
        if codings is not None:
            # http.client has set the length to 0 where a response has no body whatever its headers say: 204, 304, and HEAD.
            self.chunked, self.chunk_left = self.length != 0, None
        elif lengths is not None:
            del self.headers["Content-Length"]
            self.headers["Content-Length"] = lengths[0]  # drop repetitions
            self.length = int(lengths[0]) if self.length is None else self.length

    def _listed(self, name: str) -> list[str] | None:
        """Return the elements of a list header over all its lines; None if it is missing."""
        lines = self.headers.get_all(name)
        return None if lines is None else [one.strip(" \t") for line in lines for one in line.split(",")]

    def _get_chunk_left(self) -> int | None:
        """Return the bytes left in the chunk, None at the end of the body (overrides the method that all readers in http.client use).

        Raises:
            ResponseError: the framing is malformed.
            IncompleteRead: the connection ended within the framing.
        """
        if self.chunk_left:
            return self.chunk_left
        if self.chunk_left == 0:
            end = self.fp.read(len(_CRLF))
            if end != _CRLF:
                raise IncompleteRead(b"") if _CRLF.startswith(end) else ResponseError("a chunk does not end with CRLF", "RFC 9112, 7.1")
        line = self._line("a chunk size")
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise ResponseError("a chunk size is not 1 to 15 hexadecimal digits", "RFC 9112, 7.1")
        size = int(found[1], 16)
        self._framing = max(0, self._framing + len(line) - limits.CHUNK_FRAMING - 2 * size)
        if self._framing > limits.MAX_FRAMING:
            raise ResponseError("its chunks consist mostly of extensions", "RFC 9112, 7.1.1")
        self.chunk_left = size or None
        if not size:
            self._skip_trailers()
            self._close_conn()  # type: ignore[attr-defined]
        return self.chunk_left

    def _skip_trailers(self) -> None:
        read = 0
        while (line := self._line("a trailer", may_end=True)) not in (_CRLF, b""):
            read += len(line)
            if not _FIELD.fullmatch(line):
                raise ResponseError("a trailer is not a header field", "RFC 9112, 7.1.2")
            if read > limits.MAX_FRAMING:
                raise ResponseError(f"its trailers are longer than {limits.MAX_FRAMING} bytes", "RFC 9112, 7.1.2")

    def _line(self, what: str, *, may_end: bool = False) -> bytes:
        """Read one line of the framing.

        Args:
            may_end: whether the connection may end here; some servers omit the last line.
        """
        line = self.fp.readline(limits.MAX_FRAMING_LINE)
        if not line.endswith(b"\n"):
            if len(line) == limits.MAX_FRAMING_LINE:
                raise ResponseError(f"the line of {what} is longer than {limits.MAX_FRAMING_LINE} bytes", "RFC 9112, 7.1")
            if not may_end:
                raise IncompleteRead(b"")
            return b""
        return line
