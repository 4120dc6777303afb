"""Findings about the network path to one host: DNS, connections and certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..firewall import NOT_MAR, RULES
from ..remote.probe import NameLookup, Reached
from .findings import Finding, fault, ok, warning

ISSUERS: Final = ("microsoft", "digicert")
"""Words that identify the certificate authorities of MAR by their names."""
FIREWALL: Final = "ask the firewall team to allow {hosts} on port 443; `marfetch endpoints --format azure-firewall` prints rules"
_EXPIRED, _NOT_YET, _WRONG_NAME = 10, 9, 62  # OpenSSL: X509_V_ERR_*


@dataclass(frozen=True, slots=True)
class ObservedHost:
    """Observations about the network path to one host.

    Attributes:
        host: the host's name or IP address, with the port unless it is the default port.
        names: the result of the DNS lookup.
        reached: the result of connecting to each address, or through the proxy.
        proxied: whether a proxy is used. The proxy then resolves the name of the host.
        official: whether the host is one of Microsoft's.
        tls: whether HTTPS is used.
        untunnelled: why the proxy did not open a tunnel; None if it did, or if no proxy is used.
    """

    host: str
    names: NameLookup
    reached: tuple[Reached, ...]
    proxied: bool
    official: bool
    tls: bool
    untunnelled: str | None = None

    @property
    def open(self) -> bool:
        """Whether a connection succeeded, including TLS if HTTPS is used."""
        return any(one.stage == "done" for one in self.reached)

    @property
    def answers(self) -> bool:
        """Whether any address accepted a TCP connection."""
        return any(one.stage != "tcp" for one in self.reached)


def hosts(*, china: bool) -> str:
    """Return the official hosts of the global endpoint or the China endpoint, as text for a message."""
    return " and ".join(f"`{rule.host}`" for rule in RULES if (rule.endpoint == "china") is china)


def findings(observed: ObservedHost) -> Iterator[Finding]:
    """Yield the findings about the network path to a host."""
    yield _dns(observed)
    if observed.names.addresses and not observed.proxied:
        yield from _connection(observed)
    if not observed.tls:
        yield warning(
            "tls",
            f"`{observed.host}` is used over plain HTTP",
            "plain HTTP does not prove the identity of the server; use it only for tests on this machine",
            "use HTTPS for any other registry",
        )
    elif observed.answers:
        yield from _certificates(observed)


def _dns(observed: ObservedHost) -> Finding:
    names, host = observed.names, observed.host
    if not names.addresses:
        if observed.proxied:
            return ok("dns", f"`{host}` does not resolve here ({names.failure}); the proxy resolves it")
        other = next((reason for name, reason in NOT_MAR if name == host), None)
        return fault(
            "dns",
            f"`{host}` does not resolve: {names.failure}",
            other or "the DNS server does not answer, or does not resolve public names",
            f"check `/etc/resolv.conf` and the network; `nslookup {host}` in a working network prints addresses",
        )
    shown = f"`{host}` is " + ", ".join(f"{address} (IPv{family})" for family, address in names.addresses[:6])
    if not observed.official:
        return ok("dns", shown)
    private = [address for _, address in names.addresses if not _is_public(address)]
    if not private:
        missing = {4, 6} - {family for family, _ in names.addresses}
        return ok("dns", shown + "".join(f"; no IPv{family} address" for family in missing))
    if any(ipaddress.ip_address(one).is_unspecified or ipaddress.ip_address(one).is_loopback for one in private):
        return fault(
            "dns",
            shown,
            "a block list answers instead of public DNS, and sends the name to this machine",
            f"unblock {hosts(china=host.endswith('.cn'))} on the DNS server (some ad and tracker lists contain MAR's names)",
        )
    subject = "some addresses are" if len(private) < len(names.addresses) else "the addresses are"
    return warning(
        "dns",
        shown,
        f"{subject} not public: a DNS server of this network gives its own answer (split DNS)",
        "ask the network team whether these addresses are intended; MAR has no private endpoints",
    )


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return False


def _connection(observed: ObservedHost) -> Iterator[Finding]:
    closed = [one for one in observed.reached if one.stage == "tcp"]
    answering = [one for one in observed.reached if one.stage != "tcp"]
    allow = FIREWALL.format(hosts=hosts(china=observed.host.endswith(".cn")))
    if not closed:
        times = ", ".join(f"{one.address} in {1000 * one.seconds:.0f} ms" for one in observed.reached[:6])
        yield ok("connection", f"`{observed.host}` accepts connections: {times}")
        return
    shown = "; ".join(f"{one.address}: {one.failure}" for one in closed[:6])
    if not answering:
        dropped = any("no answer" in (one.failure or "") for one in closed)
        refused = all("refused" in (one.failure or "") for one in closed)
        means = "packets are dropped: a firewall discards them, or there is no route"
        if refused:
            means = "the connection is refused: a firewall rejects it, or nothing listens on the port"
        elif not dropped:
            means = "there is no route to these addresses"
        yield fault(
            "connection",
            f"no address of `{observed.host}` accepts a connection: {shown}",
            means,
            allow if observed.official else _own(observed),
        )
        return
    families = {one.family for one in answering}
    dead = sorted({one.family for one in closed} - families)
    if dead:
        family, other = dead[0], 4 if dead[0] == 6 else 6
        yield warning(
            "ipv6",
            f"for `{observed.host}`, IPv{other} works and IPv{family} does not: {shown}",
            f"IPv{family} does not work here; marfetch falls back to IPv{other} after 2 s, but helm, oras and docker may hang",
            f"allow IPv{family} like IPv{other}, or turn it off on this machine",
        )
    else:
        yield warning(
            "connection",
            f"some addresses of `{observed.host}` accept no connection: {shown}",
            "a firewall has rules for single addresses, so clients fail from time to time",
            "use rules by name or by both service tags, because the addresses change; " + allow,
        )


def _own(observed: ObservedHost) -> str:
    return f"check that the registry runs at `{observed.host}` and that no firewall blocks it"


def _certificates(observed: ObservedHost) -> Iterator[Finding]:
    wrong = [one for one in observed.reached if one.stage == "tls"]
    done = [one for one in observed.reached if one.stage == "done"]
    place = "the proxy" if observed.proxied else ", ".join(one.address for one in wrong[:4])
    cut = [one for one in wrong if one.verify is None]
    bad = [one for one in wrong if one.verify is not None]
    if cut:
        how = fault if not done else warning
        yield how(
            "tls",
            f"TLS with `{observed.host}` fails at {place}: {cut[0].failure}",
            "TCP works and TLS does not: a firewall filters by the name in the TLS handshake, or something else answers",
            FIREWALL.format(hosts=hosts(china=observed.host.endswith(".cn"))) if observed.official else _own(observed),
        )
    if bad:
        yield _bad(observed, bad, place)
        return
    if done:
        yield from _good(observed, done)


def _bad(observed: ObservedHost, bad: Sequence[Reached], place: str) -> Finding:
    one = bad[0]
    seen = f"the certificate of `{observed.host}` at {place} is not trusted: {one.failure}"
    if one.issuer:
        seen += f"; issued by `{one.issuer}`"
    if one.verify in (_EXPIRED, _NOT_YET):
        return fault(
            "tls",
            seen,
            "the certificate has expired or is not yet valid, or this machine's clock is wrong",
            "check the clock; if it is right, report the address to support",
        )
    if one.verify == _WRONG_NAME or "match" in (one.failure or ""):
        return fault(
            "tls",
            seen,
            "the certificate is for other names: another service, a login page, or a wrong address in DNS",
            "check the addresses with `nslookup`; if they are Microsoft's, report it to support",
        )
    means = "a proxy decrypts the connection and encrypts it again with its own certificate (TLS inspection)"
    do = "exempt the hosts that `marfetch endpoints` lists from inspection, or pass the authority's certificate with `--ca-file`"
    if not observed.official:
        means = f"this machine does not know the authority that issued the registry's certificate, or {means}"
        do = "pass the authority's certificate with `--ca-file`, or add it to the system's store"
    return fault("interception", seen, means, do)


def _good(observed: ObservedHost, done: Sequence[Reached]) -> Iterator[Finding]:
    yield ok("tls", f"the certificate of `{observed.host}` is trusted at {', '.join(one.address for one in done[:6])}")
    issuers = list(dict.fromkeys(one.issuer for one in done if one.issuer))
    shown = " and ".join(f"`{issuer}`" for issuer in issuers) or "an unknown authority"
    foreign = [issuer for issuer in issuers if not any(word in issuer.lower() for word in ISSUERS)]
    if observed.official and foreign:
        yield warning(
            "interception",
            f"the certificate of `{observed.host}` was issued by {shown}",
            "it is trusted here, but Microsoft does not use this authority: a proxy inspects TLS",
            "exempt the hosts that `marfetch endpoints` lists from inspection, which often interrupts or slows down downloads",
        )
    else:
        yield ok("interception", f"the certificate of `{observed.host}` was issued by {shown}")
