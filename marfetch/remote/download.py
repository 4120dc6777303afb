"""Downloads a blob. A download that was interrupted resumes, in the same run or in a later one.

A response to a `Range` request is used only if its `Content-Range` is exactly the requested range (RFC 9110, 15.3.7). Otherwise the
download restarts at the first byte, so that bytes of different files are never combined.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from ..content import BlobRange
from ..errors import IntegrityError, RemoteError
from ..oci import Descriptor
from ..text import redacted
from . import limits
from .backoff import Attempts, RequestFailed
from .transport import StreamedResponse

Ask = Callable[[dict[str, str], tuple[int, ...]], AbstractContextManager[StreamedResponse]]

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")


class Download:
    """The download of one blob, as a `content.BlobReader`.

    Args:
        ask: requests the blob from the registry, given the request headers and the expected statuses. Each try calls this again, so an
            expired signed address of the data host is replaced.
        attempts: the retry counter of this download.
        what: the reference, for messages.
    """

    def __init__(self, descriptor: Descriptor, ask: Ask, attempts: Attempts, *, what: str) -> None:
        self._descriptor = descriptor
        self._ask = ask
        self._attempts = attempts
        self._what = what
        self._held = 0
        self._etag: str | None = None
        self._lost: RequestFailed | None = None
        """A failure of the transfer after the last byte of the blob. If the digest is also wrong, this failure decides whether to retry."""

    @contextmanager
    def __call__(self, start: int) -> Iterator[BlobRange]:
        self._held = start
        self._attempts.held(start)
        accepted = False
        while not accepted:
            headers: dict[str, str] = {}
            if self._held:
                headers["Range"] = f"bytes={self._held}-"
                if self._etag is not None:
                    headers["If-Range"] = self._etag
            try:
                with self._ask(headers, (200, 206, 416) if self._held else (200,)) as answer:
                    accepted = self._accept(answer)
                    if accepted:
                        self._etag = _strong_etag(answer)
                        yield BlobRange(self._held, self._pieces(answer))
            except IntegrityError:
                if self._lost is None:
                    raise
                self._failed(self._lost)
            except RequestFailed as trouble:
                self._failed(trouble)

    def _accept(self, answer: StreamedResponse) -> bool:
        """Record at which byte the body of a response starts. Return False if the blob must be requested again from its first byte.

        Raises:
            IntegrityError: `size-mismatch`: `Content-Length` does not match the descriptor.
        """
        size = self._descriptor.size
        if answer.status_code == 206:
            part = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
            fits = part is not None and (int(part[1]), int(part[2]), int(part[3])) == (self._held, size - 1, size)
        else:
            fits = answer.status_code == 200
        if answer.status_code != 206 or not fits:
            self._held = 0
        length, expected = answer.headers.get("Content-Length"), size - self._held
        if fits and length is not None and (not length.isascii() or not length.isdigit() or int(length[:19]) != expected):
            raise IntegrityError(
                f"the response for the blob `{self._descriptor.digest}` of `{self._what}` has a `Content-Length` of {length[:20]}, but"
                f" {expected} bytes are expected",
                code="size-mismatch",
                expected=expected,
                **self._facts(answer),
            )
        return fits

    def _pieces(self, answer: StreamedResponse) -> Iterator[bytes]:
        self._lost, size = None, self._descriptor.size
        try:
            # Read one byte more than expected, to detect a body that is too long.
            for piece in answer.pieces(size - self._held + 1):
                self._held += len(piece)
                self._attempts.held(self._held)
                yield piece
        except RequestFailed as trouble:
            if self._held != size or not isinstance(trouble.error, RemoteError):
                raise
            self._lost = trouble
        if self._held < size:
            raise self._short(answer)

    def _short(self, answer: StreamedResponse) -> RequestFailed:
        """Return the error for a body that is too short. If its length was not announced, assume that the connection was cut."""
        held, size, facts = self._held, self._descriptor.size, self._facts(answer)
        message = f"the blob `{self._descriptor.digest}` of `{self._what}` ended after {held} of {size} bytes"
        if "Content-Length" not in answer.headers and "Transfer-Encoding" not in answer.headers:
            return RequestFailed(RemoteError(message, code="cut", **facts), tries=limits.TRIES)
        return RequestFailed(IntegrityError(message, code="size-mismatch", expected=size, actual=held, **facts))

    def _facts(self, answer: StreamedResponse) -> dict[str, str | None]:
        return {"reference": self._what, "url": redacted(answer.address.url), "msedge_ref": answer.headers.get("X-Msedge-Ref")}

    def _failed(self, trouble: RequestFailed) -> None:
        """Wait until the download may be retried. Raise the error if it may not."""
        error = trouble.error
        if not (isinstance(error, RemoteError) and error.code in ("cut", "timeout")):
            self._attempts.failed(trouble)
            return
        message = (
            f"{error.message}; {self._held} of {self._descriptor.size} bytes of `{self._descriptor.digest}` of `{self._what}` were received"
        )
        with_size = RemoteError(message, code=error.code, hint=error.hint, **{**error.context, "reference": self._what})
        if trouble.tries <= 1:
            raise with_size from trouble
        self._attempts.cut(with_size)


def _strong_etag(answer: StreamedResponse) -> str | None:
    """Return the entity tag if it is a strong one, as `If-Range` requires (RFC 9110, 13.1.5)."""
    etag = answer.headers.get("ETag", "")
    return etag if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag) else None
