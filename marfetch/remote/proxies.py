"""Finds the proxy for an address in environment variables, or in the system's settings on macOS and Windows.

`NO_PROXY` has the same meaning as in Go programs such as Helm, oras and crane (golang.org/x/net/http/httpproxy). urllib and requests do not
support wildcards, and only partly support networks.
"""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse
import urllib.request
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from ..endpoint import Address
from ..errors import InputError
from ..reference import Host
from ..text import redacted

_IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_ENTRY = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[0-9]*))?")


class Proxy(NamedTuple):
    """A proxy.

    Attributes:
        url: the address of the proxy, `http://…` or `https://…`. It may contain credentials.
        setting: the environment variable that names the proxy, or the system's settings, for messages.
    """

    url: str
    setting: str

    def __str__(self) -> str:
        return f"`{redacted(self.url)}` of {self.setting}"


class Proxies:
    """The proxy settings, as they were when this object was created."""

    def __init__(self) -> None:
        self._proxies = urllib.request.getproxies()
        environment = urllib.request.getproxies_environment()
        self._exceptions = environment.get("no", "")
        self._is_environment = bool(environment)

    def of(self, address: Address) -> Proxy | None:
        """Return the proxy for an address, if any. Like Go, use no proxy for loopback hosts.

        Raises:
            InputError: `usage`: the setting is not the address of an http or https proxy.
        """
        if address.host.is_loopback:
            return None
        kind = address.scheme if self._proxies.get(address.scheme) else "all"
        url = self._proxies.get(kind)
        if not url or self._bypassed(address.host):
            return None
        setting = self._setting(kind)
        if not url.isascii() or not url.isprintable():
            raise _refused(url, setting, "it contains a control character or a character outside ASCII")
        if "://" not in url:
            url = f"http://{url}"
        if not url.lower().startswith(("http://", "https://")):
            raise _refused(url, setting, "marfetch supports only http and https proxies")
        with suppress(ValueError):
            parsed = urllib.parse.urlsplit(url)
            if parsed.hostname and parsed.port != 0:  # `port` raises `ValueError` if it is not a number
                return Proxy(url, setting)
        raise _refused(url, setting, "it does not have the form `http://host:port`")

    def _bypassed(self, host: Host) -> bool:
        if self._is_environment:
            return is_bypassed(host, self._exceptions)
        return bool(urllib.request.proxy_bypass(str(host)))

    def _setting(self, kind: str) -> str:
        """Return the name of the variable for a kind of proxy. The lower-case name has priority over the upper-case one."""
        names = sorted((name for name, value in os.environ.items() if value and name.lower() == f"{kind}_proxy"), reverse=True)
        return f"`{names[0]}`" if names else "the system's settings"


def is_bypassed(host: Host, exceptions: str) -> bool:
    """Return whether the entries of `NO_PROXY` cover a host.

    | entry | covers |
    |---|---|
    | `*` | everything |
    | `corp.example` | the name and its subdomains |
    | `.corp.example`, `*.corp.example` | its subdomains only |
    | `10.0.0.1`, `2001:db8::1` | the IP address |
    | `10.0.0.0/8`, `2001:db8::/32` | the IP addresses of the network |

    Each entry except a network may end with a port. Entries are separated by commas or, as in curl, by spaces.

    Args:
        host: the host with its port.
        exceptions: the value of `NO_PROXY`.
    """
    name = host.name.strip("[]")
    address = _ip(name)
    for entry in re.split(r"[\s,]+", exceptions.lower()):
        if entry == "*":
            return True
        if "/" in entry:
            with suppress(ValueError):
                if address is not None and address in ipaddress.ip_network(entry, strict=False):
                    return True
            continue
        parts = _ENTRY.fullmatch(entry)  # an IPv6 address without brackets has no port and does not match
        pattern, port = (parts["host"].strip("[]"), parts["port"]) if parts is not None else (entry, None)
        if not pattern or (port and port != str(host.port)):
            continue
        if address is not None:
            if address == _ip(pattern):
                return True
            continue
        pattern = pattern.removeprefix("*") if pattern.startswith("*.") else pattern
        if name.endswith(pattern if pattern.startswith(".") else f".{pattern}") or name == pattern:
            return True
    return False


def _ip(text: str) -> _IP | None:
    with suppress(ValueError):
        return ipaddress.ip_address(text)
    return None


def _refused(url: str, setting: str, reason: str) -> InputError:
    # An address that cannot be parsed may contain a password anywhere, so show only its scheme.
    scheme, found, _ = url.partition("://")
    shown = f"{redacted(scheme)[:20]}://…" if found else "…"
    return InputError(
        f"cannot use the proxy `{shown}` of {setting}: {reason}",
        code="usage",
        hint=f"set {setting} to `http://HOST:PORT`, or list the hosts that need no proxy in `NO_PROXY`",
        proxy=shown,
        setting=setting.strip("`"),
    )
