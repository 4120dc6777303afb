"""Translates failures of urllib3 and the socket to errors of marfetch, and says whether to retry."""

from __future__ import annotations

import errno
import ssl
from typing import Final

from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from ..codes import CODES
from ..endpoint import Address
from ..errors import Error, IntegrityError, PolicyError, RemoteError
from ..files import storage_error
from ..text import hidden, redacted, sent_values
from . import limits
from .backoff import RequestFailed
from .response import ResponseError

_FIREWALL_HINT: Final = "to see the hosts that a firewall must allow, run: marfetch endpoints"


def trouble(error: Exception, address: Address, *, reused: bool) -> RequestFailed:
    """Translate a failure.

    Args:
        reused: whether the connection had served an earlier request; the server may have closed it since.
    """
    host, url = address.name, redacted(address.url)
    inner = _innermost(error)
    own = _own(error)
    if own is not None:
        return RequestFailed(storage_error(own, f"a connection to {host}"))
    if isinstance(error, (SSLError, ssl.SSLError)) and not isinstance(inner, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return RequestFailed(_tls_error(host, url, inner))
    if isinstance(error, ProxyError):
        return RequestFailed(_proxy_error(host, url, error), tries=2)
    broken = malformed(error, host, url)
    if broken is not None:
        return RequestFailed(broken)
    if isinstance(error, NameResolutionError):
        reason, hint = "its name cannot be resolved", "check the spelling, DNS, proxy and network, or run: marfetch doctor"
        return RequestFailed(
            RemoteError(f"`{host}` cannot be reached: {reason}", code="unreachable", hint=hint, url=url, host=host), tries=2
        )
    if isinstance(error, ConnectTimeoutError):  # NewConnectionError is one too
        refused = isinstance(error, NewConnectionError)
        reason = str(error).rpartition(": ")[2].lower() if refused else f"no connection within {limits.CONNECT_TIME:.0f} s"
        failure = RemoteError(f"`{host}` cannot be reached: {reason}", code="unreachable", hint=_FIREWALL_HINT, url=url, host=host)
        return RequestFailed(failure, tries=limits.TRIES)
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return RequestFailed(
            RemoteError(f"no data from `{host}` for {limits.IDLE_TIME:.0f} s", code="timeout", url=url), tries=limits.TRIES
        )
    reason = _reason(error, sent_values(address.target, {}))  # it may quote the response
    cut = RemoteError(f"the connection to `{host}` was cut ({reason})", code="cut", url=url)
    return RequestFailed(cut, tries=limits.TRIES, at_once=reused)


def expired(address: Address) -> RequestFailed:
    """Return the error for an exchange that the watchdog ended; it is not retried."""
    allowed = f"{limits.HEADER_TIME:.0f} s for the headers, at least {limits.LEAST_RATE} bytes per second"
    message = f"`{address.name}` is too slow (limits: {allowed})"
    return RequestFailed(RemoteError(message, code="timeout", url=redacted(address.url)))


def too_slow(address: Address, size: int, seconds: float) -> RequestFailed:
    """Return the error for a body below the minimum rate; it is not retried."""
    message = f"`{address.name}` sent {size} bytes in {seconds:.0f} s, less than {limits.LEAST_RATE} per second"
    return RequestFailed(RemoteError(message, code="timeout", url=redacted(address.url)))


def malformed(error: BaseException, host: str, url: str) -> Error | None:
    """Return the error for a response that violates HTTP, which is not retried; None for another failure."""
    inner = _innermost(error)
    if not isinstance(inner, ResponseError):
        return None
    message = f"the response of `{host}` is malformed: {inner}"
    if inner.is_flood:
        hint = "no valid response has that many; report it to the registry"
        return PolicyError(message, code="limit-passed", hint=hint, url=url, rule=inner.rule)
    return IntegrityError(message, code="malformed", url=url, rule=inner.rule)


def _innermost(error: BaseException) -> BaseException:
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    return error


def _own(error: BaseException) -> OSError | None:
    """Return the cause if this process or machine ran out of file descriptors, which is not a network failure."""
    for _ in range(10):
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return error
        following = error.args[-1] if error.args and isinstance(error.args[-1], BaseException) else error.__cause__ or error.__context__
        if following is None:
            break
        error = following
    return None


def _reason(error: BaseException, sent: tuple[str, ...] = ()) -> str:
    """Return the text of the innermost cause.

    Args:
        sent: secrets of the request, to hide.
    """
    inner = _innermost(error)
    text = " ".join(str(inner).split()) or type(inner).__name__
    return hidden(text, sent)[:160]


def _proxy_error(host: str, url: str, error: Exception) -> RemoteError:
    reason, hint = _reason(error), None
    if "407" in reason:
        reason, hint = "it requires credentials (407)", "set user and password in `HTTPS_PROXY`: `http://USER:PASSWORD@HOST:PORT`"
    return RemoteError(f"`{host}` cannot be reached through the proxy: {reason}", code="proxy", hint=hint, url=url, host=host)


def _tls_error(host: str, url: str, error: BaseException) -> RemoteError:
    reason = getattr(error, "verify_message", "") or _reason(error)
    hint = CODES["tls"].do
    if "expired" in reason or "not yet valid" in reason:
        hint = f"check the clock of this machine; {hint}"
    return RemoteError(f"the certificate of `{host}` cannot be trusted: {reason}", code="tls", hint=hint, url=url, host=host)
