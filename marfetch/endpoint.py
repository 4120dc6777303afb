"""Endpoints: the hosts of the Microsoft Artifact Registry, and the checks of URLs and redirects.

Microsoft's guidance ("Guidance for using the official Microsoft Artifact Registry (MAR) endpoints", 04/01/2025) names two pairs of a
registry endpoint and a data endpoint, https only, and no mirrors. Other registries are used only if the user names them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from .errors import InputError, PolicyError
from .reference import Host, Reference
from .text import redacted

ENVIRONMENT: Final = "MARFETCH_ENDPOINT"
DATA_ENVIRONMENT: Final = "MARFETCH_DATA_HOSTS"

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_AUTHORITY = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<target>.*)", re.IGNORECASE | re.DOTALL)
_PRINTABLE = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # ASCII without space, control characters and the backslash


class Address(NamedTuple):
    """A parsed URL. Scheme, host and port decide whether a request is allowed.

    Attributes:
        host: the name in lower case, with the port always set.
        target: path and query exactly as written; the query may be a secret and is never shown.
    """

    scheme: Literal["http", "https"]
    host: Host
    target: str = "/"

    @classmethod
    def parse(cls, url: str) -> Address:
        """Parse an absolute http or https URL.

        Accepts only forms that all URL parsers read alike: printable ASCII without backslash and user information, and IP addresses only
        in full form. This guarantees that the checked host is the one that is connected to.

        Raises:
            PolicyError: `address-refused`.
        """

        def refuse(reason: str, rule: str) -> PolicyError:
            shown = redacted(url)
            return PolicyError(f"the URL `{shown}` is refused: {reason}", code="address-refused", url=shown, rule=rule)

        match = _AUTHORITY.fullmatch(url)
        if match is None:
            raise refuse("it is neither https nor http", "https only")
        if not _PRINTABLE.fullmatch(url):
            reason = "it contains a backslash, a space, a control character or a non-ASCII character"
            raise refuse(reason, "printable ASCII without a backslash")
        scheme: Literal["http", "https"] = "https" if match["scheme"].lower() == "https" else "http"
        try:
            host = Host.parse(match["authority"])
        except InputError as error:
            raise refuse("it has no valid host name", "a host name") from error
        target = match["target"].partition("#")[0] or "/"
        return cls(scheme, Host(host.name, host.port or _DEFAULT_PORTS[scheme]), target if target.startswith("/") else f"/{target}")

    @property
    def name(self) -> str:
        """The host, with its port unless it is the default."""
        port = None if self.host.port == _DEFAULT_PORTS[self.scheme] else self.host.port
        return str(Host(self.host.name, port))

    @property
    def origin(self) -> str:
        """Scheme and host."""
        return f"{self.scheme}://{self.name}"

    @property
    def url(self) -> str:
        """The URL, with the target exactly as written."""
        return f"{self.origin}{self.target}"


class HostPattern(NamedTuple):
    """A data host: a name or IP address, or `*.` and a name, which matches all its subdomains but not the name itself.

    Attributes:
        host: the name or address; if it has no port, the default port of the scheme is meant.
    """

    host: Host
    wildcard: bool = False

    @classmethod
    def parse(cls, text: str) -> HostPattern:
        """Parse `HOST[:PORT]` or `*.HOST[:PORT]`.

        Raises:
            InputError: `endpoint-invalid`.
            PolicyError: `address-refused`.
        """
        wildcard = text.startswith("*.")
        try:
            host = Host.parse(text.removeprefix("*."))
        except InputError as error:
            raise InputError(
                f"`{text[:100]}` is not a data host",
                code="endpoint-invalid",
                hint="write `HOST[:PORT]` or `*.HOST[:PORT]`",
                text=text[:200],
            ) from error
        if wildcard and host.is_address:
            raise InputError(
                f"`{text[:100]}` is not a data host: an IP address has no subdomains",
                code="endpoint-invalid",
                hint=f"write `{host}`",
                text=text[:200],
            )
        return cls(host, wildcard)

    def matches(self, address: Address) -> bool:
        """Return whether the URL is on this host."""
        if address.host.port != (self.host.port or _DEFAULT_PORTS[address.scheme]):
            return False
        name = address.host.name
        return name.endswith(f".{self.host.name}") if self.wildcard else name == self.host.name

    def __str__(self) -> str:
        return f"*.{self.host}" if self.wildcard else str(self.host)


class Endpoint(NamedTuple):
    """A registry endpoint with its data hosts: all hosts that a download may use.

    Attributes:
        name: `global`, `china`, or the origin of another registry.
        registry: the registry endpoint; its target is `/`.
        data_hosts: hosts that the registry may redirect to, besides itself.
        official: whether it belongs to Microsoft; credentials are sent only to other registries.
    """

    name: str
    registry: Address
    data_hosts: tuple[HostPattern, ...]
    official: bool = False

    @classmethod
    def parse(cls, text: str, data_hosts: Sequence[str] = ()) -> Endpoint:
        """Parse `global`, `china`, `https://host[:port]`, or `http://` with a loopback address.

        Raises:
            InputError: `endpoint-invalid`; `usage`: data hosts were given for an official endpoint.
            PolicyError: `address-refused`.
        """
        if text in OFFICIAL:
            if data_hosts:
                raise InputError(
                    f"the data hosts of `{text}` are fixed, so `--data-host` cannot be combined with it",
                    code="usage",
                    hint="remove `--data-host`, or name a registry of your own with `--endpoint https://host`",
                )
            return OFFICIAL[text]
        if "://" not in text:
            raise InputError(
                f"`{redacted(text)[:100]}` is not an endpoint",
                code="endpoint-invalid",
                text=redacted(text)[:200],
            )
        address = Address.parse(text)
        for official in OFFICIAL.values():
            if official.is_registry(address) and address.target == "/" and "#" not in text:
                return cls.parse(official.name, data_hosts)
            if any(host.matches(address) for host in official.data_hosts):
                raise InputError(
                    f"`{address.origin}` is a data host of MAR, not an endpoint",
                    code="endpoint-invalid",
                    hint=f"use `{official.name}`",
                    text=address.origin,
                )
        if address.target != "/" or "#" in text:
            raise InputError(
                f"an endpoint is `https://host[:port]` without a path, unlike `{redacted(text)}`",
                code="endpoint-invalid",
                hint=f"use `{address.origin}`",
                text=redacted(text),
            )
        if address.scheme == "http" and not address.host.is_loopback:
            raise PolicyError(
                f"the endpoint `{address.origin}` is refused: plain http is allowed only for loopback addresses",
                code="address-refused",
                hint=f"use `https://{address.name}`",
                url=address.origin,
                rule="https only",
            )
        return cls(address.origin, address, tuple(HostPattern.parse(host) for host in data_hosts))

    def is_registry(self, address: Address) -> bool:
        """Return whether the URL is on the registry itself: same scheme, host and port."""
        return (address.scheme, address.host) == (self.registry.scheme, self.registry.host)

    def serves(self, reference: Reference) -> bool:
        """Return whether the reference names this registry: its host, and its scheme if the reference has one."""
        if reference.host is None or reference.host.name != self.registry.host.name:
            return False
        if reference.scheme is not None and reference.scheme != self.registry.scheme:
            return False
        return (reference.host.port or _DEFAULT_PORTS[self.registry.scheme]) == self.registry.host.port

    def check(self, address: Address, *, came_from: Address | None = None) -> None:
        """Refuse a URL unless its host is the registry or one of the data hosts.

        Args:
            came_from: the URL that redirected to this one.

        Raises:
            PolicyError: `host-refused` or `address-refused`; the error names the rule and both hosts.
        """
        if self.is_registry(address):
            return
        source = (came_from or self.registry).host
        if address.scheme == "http" and not (self.registry.scheme == "http" and address.host.is_loopback):
            raise PolicyError(
                f"`{source}` redirects to `{address.origin}`, which is refused because it is plain http",
                code="address-refused",
                hint="marfetch downloads only over https; report it to the operator of the registry",
                url=f"{address.origin}{redacted(address.target)}",
                rule="https only",
            )
        if any(pattern.matches(address) for pattern in self.data_hosts):
            return
        allowed = ", ".join(f"`{host}`" for host in (self.registry.origin.partition("://")[2], *self.data_hosts))
        raise PolicyError(
            f"`{source}` redirects to `{address.host}`, which is refused: the endpoint `{self.name}` uses only {allowed}",
            code="host-refused",
            hint="a proxy or mirror may have changed the response; `marfetch endpoints` lists the official hosts"
            if self.official
            else f"if this host is yours, add `--data-host {address.name}`",
            url=f"{address.origin}{redacted(address.target)}",
            rule="registry and data hosts only",
            source=str(source),
        )


def _official(name: str, registry: str) -> Endpoint:
    return Endpoint(name, Address("https", Host(registry, 443)), (HostPattern(Host(f"data.{registry}"), wildcard=True),), official=True)


GLOBAL: Final = _official("global", "mcr.microsoft.com")
CHINA: Final = _official("china", "mcr.azure.cn")
OFFICIAL: Final[Mapping[str, Endpoint]] = {"global": GLOBAL, "china": CHINA}


class Preference(NamedTuple):
    """The user's endpoint settings, which decide the endpoint of each reference.

    Attributes:
        option: the value of `--endpoint`, which has priority and must agree with the reference.
        environment: the value of `MARFETCH_ENDPOINT`, which a reference with an official or loopback host overrides.
        data_hosts: the values of `--data-host`.
        data_environment: the value of `MARFETCH_DATA_HOSTS`, separated by commas; ignored for official endpoints.
    """

    option: str | None = None
    environment: str | None = None
    data_hosts: tuple[str, ...] = ()
    data_environment: str | None = None

    @classmethod
    def from_environment(cls, variables: Mapping[str, str], option: str | None = None, data_hosts: tuple[str, ...] = ()) -> Preference:
        """Return the settings from options and environment variables."""
        return cls(option, variables.get(ENVIRONMENT) or None, data_hosts, variables.get(DATA_ENVIRONMENT))

    def default(self) -> Endpoint:
        """Return the endpoint of references without a host.

        Raises:
            InputError: `endpoint-invalid`, `usage`.
            PolicyError: `address-refused`.
        """
        return self._read(self.environment or "global" if self.option is None else self.option)

    def of(self, reference: Reference) -> Endpoint:
        """Return the endpoint of a reference.

        Raises:
            PolicyError: `host-refused`, `endpoint-disagrees`.
            InputError: see `default`.
        """
        if reference.host is None:
            return self.default()
        if self.option is not None:
            endpoint = self._read(self.option)
            if not endpoint.serves(reference):
                raise PolicyError(
                    f"`--endpoint {endpoint.name}` and the host `{reference.host}` of the reference disagree",
                    code="endpoint-disagrees",
                    reference=str(reference),
                    rule="the endpoint and the reference name the same registry",
                )
            return endpoint
        for endpoint in OFFICIAL.values():
            if endpoint.serves(reference):
                return self._read(endpoint.name)
        if self.environment:
            endpoint = self._read(self.environment)
            if endpoint.serves(reference):
                return endpoint
        if reference.host.is_loopback:
            return self._read(f"{reference.scheme or 'http'}://{reference.host}")
        raise PolicyError(
            f"the host `{reference.host}` is refused: it is not {' or '.join(f'`{e.registry.host.name}`' for e in OFFICIAL.values())},"
            " and no `--endpoint` names it",
            code="host-refused",
            hint=f"for a registry of your own, add `--endpoint https://{reference.host}`; Microsoft has no official mirrors",
            reference=str(reference),
            rule="official hosts, loopback addresses and the host of `--endpoint` only",
        )

    @lru_cache(maxsize=16)  # noqa: B019 - the settings of a command are few and live as long as it
    def _read(self, text: str) -> Endpoint:
        endpoint = Endpoint.parse(text, self.data_hosts)
        if endpoint.official or self.data_hosts:
            return endpoint
        return Endpoint.parse(text, tuple(host.strip() for host in (self.data_environment or "").split(",") if host.strip()))
