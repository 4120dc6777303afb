"""Fetches one blob, going on after cuts: within a run and, since the sink keeps what it has, across runs.

A part that is asked for by `Range` is taken only if the answer says that it is exactly this part (RFC 9110, 15.3.7); everything else
begins anew at the first byte, so that no file is ever put together of pieces that do not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

from ..content import CheckedSink, Sink
from ..errors import Error, IntegrityError, RemoteError
from ..oci import Descriptor
from ..text import redacted
from . import limits
from .backoff import Attempts, RequestFailed
from .transport import StreamedResponse

Ask = Callable[[dict[str, str], tuple[int, ...]], AbstractContextManager[StreamedResponse]]

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")


def transfer(descriptor: Descriptor, sink: CheckedSink, ask: Ask, attempts: Attempts, *, what: str) -> None:
    """Fill the sink.

    Args:
        ask: sends a request for the blob with these headers; for each try the registry is asked anew, so that an expired data
            address costs nothing but a request.
        what: the reference, for messages.

    Raises:
        Error: as `content.Source.fetch`.
    """
    pieced = sink.held > 0
    attempts.held(sink.held)
    attempts.heartbeat = sink.heartbeat
    etag: str | None = None
    while True:
        begun = False  # whether bytes of the blob come
        headers: dict[str, str] = {}
        if sink.held:
            headers["Range"] = f"bytes={sink.held}-"
            if etag is not None:
                headers["If-Range"] = etag
        try:
            with ask(headers, (200, 206, 416) if sink.held else (200,)) as answer:
                if not _accept(answer, descriptor, sink, what):
                    pieced = False
                    continue
                begun = True
                etag = _strong_etag(answer)
                # One byte more tells a body that is too long.
                for piece in answer.pieces(descriptor.size - sink.held + 1):
                    sink.write(piece)
                    attempts.held(sink.held)
                if sink.held < descriptor.size:
                    raise _short(answer, descriptor, sink, what)
                try:
                    sink.check()
                except IntegrityError:
                    if not pieced:
                        raise
                    sink.restart()  # the seam may be what is wrong: once more, in one piece
                    pieced = False
                    continue
                return
        except RequestFailed as trouble:
            error = trouble.error
            if begun and _is_whole(error, descriptor, sink):
                return  # only the end of the body was cut, of which no byte belongs to the blob
            if not (isinstance(error, RemoteError) and error.code in ("cut", "timeout")):
                attempts.failed(trouble)
            elif trouble.tries > 1:
                attempts.cut(_with_size(error, descriptor, sink, what))
            else:
                raise _with_size(error, descriptor, sink, what) from trouble
        pieced = sink.held > 0


def _is_whole(error: Error, descriptor: Descriptor, sink: CheckedSink) -> bool:
    """Whether everything is here and right, although the transfer has failed."""
    if sink.held != descriptor.size or not isinstance(error, RemoteError):
        return False
    try:
        sink.check()
    except IntegrityError:
        return False
    return True


def _accept(answer: StreamedResponse, descriptor: Descriptor, sink: Sink, what: str) -> bool:
    """Make the sink ready for the body of this answer; False where the blob must be asked for from its first byte.

    Raises:
        IntegrityError: `size-mismatch`: the answer announces another size than the descriptor.
    """
    expected = descriptor.size
    if answer.status_code == 206:
        part = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if part is None or (int(part[1]), int(part[2]), int(part[3])) != (sink.held, descriptor.size - 1, descriptor.size):
            sink.restart()
            return False
        expected -= sink.held
    elif answer.status_code == 416:
        sink.restart()
        return False
    elif sink.held:
        sink.restart()
    length = answer.headers.get("Content-Length")
    if length is not None and (not length.isascii() or not length.isdigit() or int(length[:19]) != expected):
        raise IntegrityError(
            f"the blob `{descriptor.digest}` of `{what}` is announced with {length[:20]} bytes, but its descriptor says {expected}",
            code="size-mismatch",
            reference=what,
            url=redacted(answer.address.url),
            expected=expected,
            msedge_ref=answer.headers.get("X-Msedge-Ref"),
        )
    return True


def _short(answer: StreamedResponse, descriptor: Descriptor, sink: Sink, what: str) -> RequestFailed:
    """The body ended too early: in good order, or, where nothing announced its end, perhaps by a cut."""
    message = f"the blob `{descriptor.digest}` of `{what}` ended after {sink.held} of {descriptor.size} bytes"
    facts = {"reference": what, "url": redacted(answer.address.url), "msedge_ref": answer.headers.get("X-Msedge-Ref")}
    if "Content-Length" not in answer.headers and "Transfer-Encoding" not in answer.headers:
        return RequestFailed(RemoteError(message, code="cut", **facts), tries=limits.TRIES)
    return RequestFailed(IntegrityError(message, code="size-mismatch", expected=descriptor.size, actual=sink.held, **facts))


def _with_size(error: RemoteError, descriptor: Descriptor, sink: Sink, what: str) -> RemoteError:
    """A cut, with how far it came."""
    message = f"{error.message}; {sink.held} of {descriptor.size} bytes of `{descriptor.digest}` of `{what}` are here"
    return RemoteError(message, code=error.code, hint=error.hint, **{**error.context, "reference": what})


def _strong_etag(answer: StreamedResponse) -> str | None:
    """The entity tag, if it may stand in `If-Range` (RFC 9110, 13.1.5)."""
    etag = answer.headers.get("ETag", "")
    return etag if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag) else None
