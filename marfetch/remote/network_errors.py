"""Failures of urllib3 and the socket in the words of marfetch, and whether to try again: the one border to them."""

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

_FIREWALL_HINT: Final = "`marfetch endpoints` shows what a firewall must let through"


def trouble(error: Exception, address: Address, *, reused: bool) -> RequestFailed:
    """What a failure means.

    Args:
        reused: whether it happened on a connection that had served before, which the other side may just have given up.
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
        reason, hint = "its name cannot be resolved", "check the spelling, the name service and the network"
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
    reason = _reason(error, sent_values(address.target, {}))  # it may be the beginning of what came
    cut = RemoteError(f"the connection to `{host}` was cut ({reason})", code="cut", url=url)
    return RequestFailed(cut, tries=limits.TRIES, at_once=reused)


def expired(address: Address) -> RequestFailed:
    """The watch has ended an exchange; that is not tried again."""
    message = f"`{address.name}` did not get on in time: {limits.HEADER_TIME:.0f} s for headers, {limits.LEAST_RATE} bytes a second"
    return RequestFailed(RemoteError(message, code="timeout", url=redacted(address.url)))


def too_slow(address: Address, size: int, seconds: float) -> RequestFailed:
    """The body came in below the least rate; that is not tried again."""
    message = f"`{address.name}` sent {size} bytes in {seconds:.0f} s, less than {limits.LEAST_RATE} a second"
    return RequestFailed(RemoteError(message, code="timeout", url=redacted(address.url)))


def malformed(error: BaseException, host: str, url: str) -> Error | None:
    """The error for an answer that breaks the rules of HTTP; that is not tried again. None for every other failure."""
    inner = _innermost(error)
    if not isinstance(inner, ResponseError):
        return None
    message = f"the answer of `{host}` is malformed: {inner}"
    if inner.is_flood:
        hint = "no registry has a reason to send that many; report it"
        return PolicyError(message, code="limit-passed", hint=hint, url=url, rule=inner.rule)
    return IntegrityError(message, code="malformed", url=url, rule=inner.rule)


def _innermost(error: BaseException) -> BaseException:
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    return error


def _own(error: BaseException) -> OSError | None:
    """A failure of this machine, not of the network: it has no open files left."""
    for _ in range(10):
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return error
        following = error.args[-1] if error.args and isinstance(error.args[-1], BaseException) else error.__cause__ or error.__context__
        if following is None:
            break
        error = following
    return None


def _reason(error: BaseException, sent: tuple[str, ...] = ()) -> str:
    """The innermost cause, in words.

    Args:
        sent: what must not be shown.
    """
    inner = _innermost(error)
    text = " ".join(str(inner).split()) or type(inner).__name__
    return hidden(text, sent)[:160]


def _proxy_error(host: str, url: str, error: Exception) -> RemoteError:
    reason, hint = _reason(error), None
    if "407" in reason:
        reason, hint = "it asks for credentials (407)", "put user and password into `HTTPS_PROXY`, as `http://USER:PASSWORD@HOST:PORT`"
    return RemoteError(f"the proxy does not lead to `{host}`: {reason}", code="proxy", hint=hint, url=url, host=host)


def _tls_error(host: str, url: str, error: BaseException) -> RemoteError:
    reason = getattr(error, "verify_message", "") or _reason(error)
    hint = CODES["tls"].do
    if "expired" in reason or "not yet valid" in reason:
        hint = f"check the clock of this machine; {hint}"
    return RemoteError(f"the certificate of `{host}` cannot be trusted: {reason}", code="tls", hint=hint, url=url, host=host)
