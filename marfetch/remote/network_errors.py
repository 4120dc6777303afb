"""Translates failures of urllib3 and sockets to errors of marfetch, and decides whether to retry the request."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from http.client import BadStatusLine, RemoteDisconnected
from http.client import IncompleteRead as HttpIncompleteRead
from typing import Final

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
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
from .proxies import Proxy
from .response import ResponseError

_FIREWALL_HINT: Final = "to find the cause, run `marfetch doctor`; `marfetch endpoints` lists the hosts that a firewall must allow"
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
"""The reasons that OpenSSL gives if a server does not speak TLS. They differ between versions of OpenSSL."""


def trouble(error: Exception, address: Address, *, reused: bool, proxy: Proxy | None, trusted: str) -> RequestFailed:
    """Translate a failed request to an error, and decide whether to retry the request.

    Args:
        reused: whether the connection carried an earlier request. The server may have closed it since.
        proxy: the proxy that the connection uses; None without one.
        trusted: where the trusted certificates come from, for messages.
    """
    host, url = address.name, redacted(address.url)
    inner = _innermost(error)
    own = _own(error)
    if own is not None:
        return RequestFailed(storage_error(own, f"a connection to {host}"))
    if isinstance(error, (SSLError, ssl.SSLError)) and not isinstance(inner, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return RequestFailed(_tls_error(address, inner, trusted))
    if isinstance(error, ProxyError):
        return RequestFailed(_proxy_error(address, error, proxy), tries=2)
    broken = malformed(error, host, url)
    if broken is not None:
        return RequestFailed(broken)
    if isinstance(error, NameResolutionError):
        reason, hint = "its name cannot be resolved", "check the spelling, DNS, proxy and network, or run `marfetch doctor`"
        return RequestFailed(
            RemoteError(f"`{host}` cannot be reached: {reason}", code="unreachable", hint=hint, url=url, host=host), tries=2
        )
    if isinstance(error, ConnectTimeoutError):  # also for NewConnectionError, a subclass that has no timeout
        reason = words(error) if isinstance(error, NewConnectionError) else f"no connection within {limits.CONNECT_TIME:.0f} s"
        failure = RemoteError(f"`{host}` cannot be reached: {reason}", code="unreachable", hint=_FIREWALL_HINT, url=url, host=host)
        return RequestFailed(failure, tries=limits.TRIES)
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return RequestFailed(
            RemoteError(f"no data from `{host}` for {limits.IDLE_TIME:.0f} s", code="timeout", url=url), tries=limits.TRIES
        )
    reason = hidden(words(error), sent_values(address.target, {}))  # the reason may quote the response
    cut = RemoteError(f"the connection to `{host}` was cut ({reason})", code="cut", url=url)
    return RequestFailed(cut, tries=limits.TRIES, at_once=reused)


def expired(address: Address) -> RequestFailed:
    """Return the error for an exchange that the watchdog ended. The request is not retried."""
    allowed = f"{limits.HEADER_TIME:.0f} s for the headers, at least {limits.LEAST_RATE} bytes per second"
    message = f"`{address.name}` is too slow (limits: {allowed})"
    return RequestFailed(RemoteError(message, code="timeout", url=redacted(address.url)))


def too_slow(address: Address, size: int, seconds: float) -> RequestFailed:
    """Return the error for a body that arrives below the minimum rate. The request is not retried."""
    message = f"`{address.name}` sent {size} bytes in {seconds:.0f} s, less than {limits.LEAST_RATE} per second"
    return RequestFailed(RemoteError(message, code="timeout", url=redacted(address.url)))


def malformed(error: BaseException, host: str, url: str) -> Error | None:
    """Return the error for a response that violates HTTP or a limit; None for any other failure."""
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
    """Return the cause if it is a lack of file descriptors in this process or machine, not a network failure; else None."""
    for _ in range(10):
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return error
        following = error.args[-1] if error.args and isinstance(error.args[-1], BaseException) else error.__cause__ or error.__context__
        if following is None:
            break
        error = following
    return None


def words(error: BaseException) -> str:
    """Describe a failed connection without class names, error numbers or object representations."""
    inner = _innermost(error)
    if isinstance(inner, (ssl.SSLEOFError, ssl.SSLZeroReturnError, RemoteDisconnected)):
        return "the server closed it without a response"
    if isinstance(inner, ssl.SSLError):
        if inner.reason in _NOT_TLS:
            return "the server answers without TLS, like a plain http server"
        return (getattr(inner, "verify_message", "") or inner.reason or "TLS failed").replace("_", " ").lower()
    if isinstance(inner, (HttpIncompleteRead, IncompleteRead)):
        return "it ended in the middle of the response"
    if isinstance(inner, BadStatusLine):
        return "the response does not begin with an HTTP status"
    if isinstance(inner, (socket.gaierror, NameResolutionError)):
        return "the name cannot be resolved"
    if isinstance(inner, (TimeoutError, ReadTimeoutError)):
        return "no answer in time"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror.lower()
    text = " ".join(str(inner).split())
    if isinstance(inner, HTTPError):  # urllib3's text is `CONNECTION: REASON`; keep only the reason
        text = text.rpartition(": ")[2].lower()
    return text[:160] if text and "<" not in text else "it failed"


def _proxy_error(address: Address, error: Exception, proxy: Proxy | None) -> RemoteError:
    setting = proxy.setting if proxy is not None else "`HTTPS_PROXY`"
    reason, hint = words(error), f"check {setting} and `NO_PROXY`, or run `marfetch doctor`"
    refusal = re.fullmatch(r"Tunnel connection failed: ([0-9]{3}) ?(.*)", reason)
    if refusal is not None:
        reason = f"it answers {refusal[1]}" + (f" ({hidden(refusal[2])})" if refusal[2] else "")
        if refusal[1] == "407":
            reason = "it requires credentials (407)"
            hint = f"set user and password in {setting}: `http://USER:PASSWORD@HOST:PORT`, or run `marfetch doctor`"
    through = f"the proxy {proxy}" if proxy is not None else "the proxy"
    message = f"`{address.name}` cannot be reached through {through}: {reason}"
    return RemoteError(message, code="proxy", hint=hint, url=redacted(address.url), host=address.name)


def _tls_error(address: Address, error: BaseException, trusted: str) -> RemoteError:
    host, hint = address.name, CODES["tls"].do
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = words(error)
        message = f"the certificate of `{host}` cannot be trusted: {reason} (trusted: {trusted})"
        if "expired" in reason or "not yet valid" in reason:
            hint = f"check the clock of this machine; {hint}"
        elif "mismatch" in reason:
            hint = "use a name or IP address that the certificate contains, or run `marfetch doctor`"
    elif isinstance(error, ssl.SSLError) and error.reason in _NOT_TLS:
        message = f"`{host}` answers without TLS, like a plain http server"
        hint = "marfetch uses plain http only for loopback addresses; set up TLS at the registry, or run `marfetch doctor`"
        if address.host.is_loopback:
            hint = f"if it is a registry without TLS, use `http://{address.name}`, or run `marfetch doctor`"
    else:
        message, hint = f"TLS with `{host}` failed: {words(error)}", _FIREWALL_HINT
    return RemoteError(message, code="tls", hint=hint, url=redacted(address.url), host=host)
