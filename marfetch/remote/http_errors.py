"""Maps an HTTP error response to an error of marfetch, and decides whether to retry the request.

MAR consists of a CDN, a registry and a storage service, and each has its own error format. It can be JSON as in the distribution
specification, XML with a byte order mark, plain text with reference ids, or an HTML page. A throttle must never be reported as "not
found". A block page of the CDN does not mean that the repository is missing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..document import parse_json
from ..endpoint import Address
from ..errors import Error, InputError, IntegrityError, NotFoundError, PolicyError, RateLimitedError, RemoteError
from ..oci import READ_FORMATS, Digest
from ..reference import Reference
from ..text import hidden, redacted
from . import limits
from .backoff import RequestFailed
from .pauses import retry_after

if TYPE_CHECKING:
    from .credentials import CredentialUse
    from .transport import StreamedResponse

_MAX_SHOWN: Final = 300

_THROTTLE_CODE: Final = "TOOMANYREQUESTS"
BLOCK_PAGE: Final = r"(?i)the request is blocked|access denied|request unsuccessful"
EDGE_REF: Final = r"Ref A: [0-9A-Fa-f]{32} Ref B: [\w.-]{1,40} Ref C: [0-9TZ:.+-]{10,40}"
_WEB_PAGE: Final = r"(?i)<(?:!doctype\s+html|html)\b"
WEB_PAGE_HINT: Final = "a proxy or login page may have answered in the registry's name; run: marfetch doctor"
_XML_CODE: Final = r"<Code>\s*([A-Za-z]{1,60})\s*</Code>"
_TAGS: Final = r"<[^<>]*>"


class RequestKind(Enum):
    """The kind of resource that a request is for. The meaning of a 404 depends on it."""

    TAG = "tag"
    MANIFEST = "manifest"
    BLOB = "blob"
    TAGS = "tags"
    CATALOG = "catalog"
    REFERRERS = "referrers"
    TOKEN = "token"  # noqa: S105 - a word, not a secret


class Failure(NamedTuple):
    """An HTTP error response, with the beginning of its body.

    Attributes:
        kind: the resource of the request.
        what: the requested reference, or the registry.
        repository: the repository with its host, for hints.
        address: the address that responded. Its query is never shown, because it may contain a signature.
        text: the beginning of the body. Invalid UTF-8 becomes replacement characters.
        from_data_host: whether a data host responded, not the registry.
        sent: secrets of the request. If the response repeats them, they are hidden in messages.
        credentials: the credentials for the request, if the user's own registry refused it with 401 or 403.
    """

    kind: RequestKind
    what: str
    repository: str
    status: int
    headers: Mapping[str, str]
    address: Address
    text: str
    from_data_host: bool
    sent: tuple[str, ...] = ()
    credentials: CredentialUse | None = None

    @property
    def wire(self) -> list[tuple[str, str]]:
        """The codes and messages of an error document (distribution-spec, "Error Codes"), or the code of an XML error."""
        with suppress(Error):
            document = parse_json(self.text.lstrip("\ufeff").encode("utf-8", "replace"), "the error document")
            errors = document.get("errors") if isinstance(document, dict) else None
            if isinstance(errors, list):
                words = [(str(e.get("code", "")), str(e.get("message", ""))) for e in errors[:10] if isinstance(e, dict)]
                return [(self._shown(code, 60), self._shown(message, _MAX_SHOWN)) for code, message in words]
        code = re.search(_XML_CODE, self.text)
        return [(code[1], "")] if code else []

    def _shown(self, text: str, most: int) -> str:
        """Hide the secrets in a text from the server, then truncate it. Truncating first could leave part of a secret."""
        return hidden(text, self.sent)[:most]

    @property
    def context(self) -> dict[str, Any]:
        """The context for an error about this response."""
        edge = self.headers.get("X-Msedge-Ref") or next(iter(re.findall(EDGE_REF, self.text)), None)
        return {
            "url": redacted(self.address.url),
            "status": self.status,
            "wire": ([code for code, _ in self.wire] or None) if self.kind is not RequestKind.TOKEN else None,
            "msedge_ref": self._shown(edge, _MAX_SHOWN) if edge else None,
            "correlation_id": self._shown(self.headers.get("X-Ms-Correlation-Request-Id") or "", 100) or None,
            "reference": self.what,
        }

    @property
    def summary(self) -> str:
        """A summary of the response: its status, with its code and message or the beginning of its text."""
        if self.kind is RequestKind.TOKEN:  # the response may contain secrets
            return str(self.status)
        if self.wire:
            code, message = self.wire[0]
            return f"{self.status} {code}" + (f": {message}" if message else "")
        text = " ".join(re.sub(_TAGS, " ", self.text).split())
        return f"{self.status}" + (f": {self._shown(text, 120)}" if text else "")


def explain(failure: Failure) -> RequestFailed:
    """Map an error response to an error, and decide whether to retry the request."""
    host = failure.address.name
    codes = {code.upper() for code, _ in failure.wire}
    wait = retry_after(failure.headers.get("Retry-After"), time.time(), date=failure.headers.get("Date"))
    if failure.status == 429 or _THROTTLE_CODE in codes:
        return _throttled(failure, host, wait)
    if failure.status == 503:
        error = RemoteError(
            f"`{host}` is not available for `{failure.what}` ({failure.summary})",
            code="server-error",
            **failure.context,
        )
        return RequestFailed(error, tries=limits.TRIES, host=_key(failure), retry_after=wait, throttled=wait is not None)
    if failure.status == 404:
        if re.search(BLOCK_PAGE, failure.text):
            return _blocked(failure, host)
        if failure.kind in (RequestKind.TAG, RequestKind.MANIFEST) and "accept header does not support" in failure.text:
            return RequestFailed(_not_accepted(failure, host))
        return RequestFailed(_not_found(failure, host))
    if failure.status == 403:
        return _forbidden(failure, host, codes)
    if failure.status == 401:
        return RequestFailed(_refused(failure, f"`{host}` requires credentials for `{failure.what}` ({failure.summary})", "unauthorized"))
    if failure.status == 408 or failure.status in (500, 502, 504):
        error = RemoteError(f"`{host}` failed for `{failure.what}` ({failure.summary})", code="server-error", **failure.context)
        return RequestFailed(error, tries=limits.TRIES)
    if failure.kind is RequestKind.TOKEN and failure.status == 200:
        return RequestFailed(RemoteError(f"`{host}` sent no valid token for `{failure.what}`", code="unexpected-answer", **failure.context))
    error = RemoteError(
        f"`{host}` sent an unexpected status for `{failure.what}` ({failure.summary})",
        code="server-error" if 500 <= failure.status < 600 else "unexpected-answer",
        hint=WEB_PAGE_HINT if is_web_page(failure.headers, failure.text.encode("utf-8", "replace")) else None,
        **failure.context,
    )
    return RequestFailed(error)


@contextmanager
def about(answer: StreamedResponse, reference: Reference) -> Iterator[None]:
    """Add facts about the response and the reference to each error that is raised in this context."""
    try:
        yield
    except (IntegrityError, PolicyError, RemoteError) as error:
        facts = {"reference": str(reference), "url": answer.url, "status": answer.status_code}
        error.context = {**facts, "msedge_ref": answer.headers.get("X-Msedge-Ref"), **error.context}
        if isinstance(error, IntegrityError) and reference.full_repository not in error.message:
            error.message += f", in the response of `{answer.address.name}` for `{reference.shown}`"
        raise


def _key(failure: Failure) -> str:
    return str(failure.address.host)


def _throttled(failure: Failure, host: str, wait: float | None) -> RequestFailed:
    error = RateLimitedError(
        f"`{host}` throttles requests ({failure.summary})",
        retry_after=wait,
        **failure.context,
    )
    return RequestFailed(error, tries=limits.TRIES, host=_key(failure), retry_after=wait, throttled=True)


def _blocked(failure: Failure, host: str) -> RequestFailed:
    error = RemoteError(
        f"the CDN or firewall of `{host}` blocked the request ({failure.status}); this says nothing about whether `{failure.what}` exists",
        code="blocked",
        **failure.context,
    )
    return RequestFailed(error, tries=2)


def _forbidden(failure: Failure, host: str, codes: set[str]) -> RequestFailed:
    if failure.from_data_host:
        # The signed address may have expired. A retry gets a new one from the registry.
        error = RemoteError(
            f"the data host `{host}` denies access to `{failure.what}` ({failure.summary})",
            code="denied",
            hint="the signed address may have expired; check the clock of this machine and try again",
            **failure.context,
        )
        return RequestFailed(error, tries=3, at_once=True)
    use = failure.credentials
    is_known = bool(codes) or (use is not None and (use.is_sent or bool(use.credentials.problems)))
    if is_known and not re.search(BLOCK_PAGE, failure.text):
        return RequestFailed(_refused(failure, f"`{host}` denies access to `{failure.what}` ({failure.summary})", "denied"))
    return _blocked(failure, host)


def _refused(failure: Failure, message: str, code: str) -> RemoteError:
    use = failure.credentials
    if use is None:
        return RemoteError(message, code=code, **failure.context)
    return RemoteError(f"{message}: {use.reason}", code=code, hint=use.hint, **failure.context)


def _not_accepted(failure: Failure, host: str) -> PolicyError:
    """Return the error for a manifest that exists only in a format that marfetch does not accept. MAR and ACR respond with a 404."""
    return PolicyError(
        f"`{host}` has `{failure.what}` only in a withdrawn format that marfetch does not read ({failure.summary})",
        code="manifest-withdrawn",
        rule=READ_FORMATS,
        **failure.context,
    )


def _not_found(failure: Failure, host: str) -> NotFoundError:
    codes = {code.upper() for code, _ in failure.wire}
    if failure.kind is RequestKind.BLOB and "NAME_UNKNOWN" not in codes:
        return NotFoundError(
            f"a blob of `{failure.what}` is missing at `{host}` ({failure.summary})",
            code="blob-not-found",
            hint="the artifact is incomplete in the registry; try another version, and report it to the publisher",
            **failure.context,
        )
    if failure.kind in (RequestKind.TAG, RequestKind.MANIFEST) and "NAME_UNKNOWN" not in codes:
        noun, code = ("tag", "tag-not-found") if failure.kind is RequestKind.TAG else ("manifest", "manifest-not-found")
        return NotFoundError(
            f"`{host}` has no such {noun}: `{failure.what}` ({failure.summary})",
            code=code,
            hint=f"marfetch versions {failure.repository}",
            **failure.context,
        )
    if failure.kind is RequestKind.CATALOG:
        return NotFoundError(
            f"`{host}` has no catalog of its repositories ({failure.summary})",
            code="repository-not-found",
            hint="not every registry has a catalog; give the full name of the repository",
            **failure.context,
        )
    return NotFoundError(
        f"`{host}` does not know `{failure.what}` ({failure.summary})",
        code="repository-not-found",
        hint="check the path; MAR's catalog is at https://mcr.microsoft.com",
        **failure.context,
    )


def mismatch(reference: Reference, answer: StreamedResponse, expected: Digest, actual: Digest, by: str) -> IntegrityError:
    """Return the error for a manifest with a wrong digest. `by` says where the expected digest comes from."""
    return IntegrityError(
        f"the manifest of `{reference}` has the digest `{actual}`, but {by} is `{expected}`",
        code="digest-mismatch",
        reference=str(reference),
        url=answer.url,
        expected=str(expected),
        actual=str(actual),
        msedge_ref=answer.headers.get("X-Msedge-Ref"),
    )


def redirect_refused(message: str, address: Address) -> PolicyError:
    """Return the error for a redirect without a `Location`, or for too many redirects."""
    return PolicyError(
        message,
        code="redirect-refused",
        url=redacted(address.url),
        rule=f"a redirect has a `Location`, and there are at most {limits.MAX_REDIRECTS}",
    )


def media_type_of(headers: Mapping[str, str]) -> str:
    """Return the media type in `Content-Type`, without its parameters."""
    return headers.get("Content-Type", "").partition(";")[0].strip()


def is_web_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a response is a web page, such as one from a proxy or captive portal. A JSON body counts as JSON despite its type."""
    start = body[:1024].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if start.startswith(("{", "[")):
        return False
    is_html = media_type_of(headers).lower() in ("text/html", "application/xhtml+xml")
    return is_html or (start.startswith("<") and re.search(_WEB_PAGE, start) is not None)


def header_digest(answer: StreamedResponse) -> Digest | None:
    """Return the digest in `Docker-Content-Digest`; None if it is missing or in an unsupported form."""
    value = answer.headers.get("Docker-Content-Digest")
    if not value:
        return None
    try:
        return Digest.parse(value.strip())
    except InputError:
        return None
