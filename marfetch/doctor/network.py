"""What the way to one host looks like: names, addresses, certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..firewall import NOT_MAR, RULES
from ..remote.probe import NameLookup, Reached
from .findings import Finding, fault, ok, warning

ISSUERS: Final = ("microsoft", "digicert")
"""Words in the names of the authorities that issue MAR's certificates."""
FIREWALL: Final = (
    "ask the firewall team to let {hosts} through on port 443, as `marfetch endpoints` shows; `--format azure-firewall` writes rules"
)
_EXPIRED, _NOT_YET, _WRONG_NAME = 10, 9, 62  # OpenSSL: X509_V_ERR_*


@dataclass(frozen=True, slots=True)
class ObservedHost:
    """What was seen of one host.

    Attributes:
        reached: what came of each address, or of the proxy.
        proxied: whether it is asked through a proxy, so that its addresses do not matter here.
        official: whether it is one of Microsoft's hosts.
        tls: whether it is asked by https.
        untunnelled: why the proxy did not lead on.
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
        """Whether a connection came about, through some address."""
        return any(one.stage == "done" for one in self.reached)

    @property
    def answers(self) -> bool:
        """Whether something answered TCP there."""
        return any(one.stage != "tcp" for one in self.reached)


def hosts(*, china: bool) -> str:
    """The official hosts of one endpoint, for a sentence."""
    return " and ".join(f"`{rule.host}`" for rule in RULES if (rule.endpoint == "china") is china)


def findings(way: ObservedHost) -> Iterator[Finding]:
    """What the way to the registry means."""
    yield _dns(way)
    if way.names.addresses and not way.proxied:
        yield from _connection(way)
    if not way.tls:
        yield warning(
            "tls",
            f"`{way.host}` is asked by plain http",
            "nothing proves who answers; that is for tests on this machine",
            "use https for everything else",
        )
    elif way.answers:
        yield from _certificates(way)


def _dns(way: ObservedHost) -> Finding:
    names, host = way.names, way.host
    if not names.addresses:
        if way.proxied:
            return ok("dns", f"`{host}` does not resolve here ({names.failure}); the proxy resolves it")
        other = next((reason for name, reason in NOT_MAR if name == host), None)
        return fault(
            "dns",
            f"`{host}` does not resolve: {names.failure}",
            other or "the name service of this machine does not answer, or does not know public names",
            f"check `/etc/resolv.conf` and the network; from a working network `nslookup {host}` gives addresses",
        )
    shown = f"`{host}` is " + ", ".join(f"{address} (IPv{family})" for family, address in names.addresses[:6])
    if not way.official:
        return ok("dns", shown)
    private = [address for _, address in names.addresses if not _is_public(address)]
    if not private:
        missing = {4, 6} - {family for family, _ in names.addresses}
        return ok("dns", shown + "".join(f"; no address of IPv{family}" for family in missing))
    if any(ipaddress.ip_address(one).is_unspecified or ipaddress.ip_address(one).is_loopback for one in private):
        return fault(
            "dns",
            shown,
            "a block list answers in place of the public name service: the name leads to this machine",
            f"let the name service answer for {hosts(china=host.endswith('.cn'))} (ad and tracker lists have carried MAR's names)",
        )
    sort = "some of the answers are" if len(private) < len(names.addresses) else "the answer is"
    return warning(
        "dns",
        shown,
        f"{sort} not of the public internet: a name service of this network answers in its own way (split DNS)",
        "ask who runs the name service whether these addresses are meant; MAR has no private endpoints",
    )


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return False


def _connection(way: ObservedHost) -> Iterator[Finding]:
    closed = [one for one in way.reached if one.stage == "tcp"]
    answering = [one for one in way.reached if one.stage != "tcp"]
    allow = FIREWALL.format(hosts=hosts(china=way.host.endswith(".cn")))
    if not closed:
        times = ", ".join(f"{one.address} in {1000 * one.seconds:.0f} ms" for one in way.reached[:6])
        yield ok("connection", f"`{way.host}` takes connections: {times}")
        return
    shown = "; ".join(f"{one.address}: {one.failure}" for one in closed[:6])
    if not answering:
        dropped = any("no answer" in (one.failure or "") for one in closed)
        refused = all("refused" in (one.failure or "") for one in closed)
        means = "packets are dropped on the way: a firewall lets them vanish, or there is no route"
        if refused:
            means = "the connection is refused: a firewall rejects it, or nothing listens there"
        elif not dropped:
            means = "there is no way to these addresses from here"
        yield fault("connection", f"no address of `{way.host}` takes a connection: {shown}", means, allow if way.official else _own(way))
        return
    families = {one.family for one in answering}
    dead = sorted({one.family for one in closed} - families)
    if dead:
        family, other = dead[0], 4 if dead[0] == 6 else 6
        yield warning(
            "ipv6",
            f"of `{way.host}`, IPv{other} works and IPv{family} does not: {shown}",
            f"IPv{family} leads nowhere from here; marfetch goes on with the other family after 2 s, while helm, oras and docker may hang",
            f"let IPv{family} through as IPv{other}, or turn it off on this machine",
        )
    else:
        yield warning(
            "connection",
            f"some addresses of `{way.host}` take no connection: {shown}",
            "rules for single addresses are in the way: every client fails now and then",
            "rules by name, or by both service tags, follow when the addresses change; " + allow,
        )


def _own(way: ObservedHost) -> str:
    return f"check that the registry runs at `{way.host}` and that a firewall lets it through"


def _certificates(way: ObservedHost) -> Iterator[Finding]:
    wrong = [one for one in way.reached if one.stage == "tls"]
    done = [one for one in way.reached if one.stage == "done"]
    place = "the proxy" if way.proxied else ", ".join(one.address for one in wrong[:4])
    cut = [one for one in wrong if one.verify is None]
    bad = [one for one in wrong if one.verify is not None]
    if cut:
        how = fault if not done else warning
        yield how(
            "tls",
            f"TLS with `{way.host}` fails at {place}: {cut[0].failure}",
            "TCP works and TLS does not: a firewall reads the name in the greeting and cuts it off, or something else answers",
            FIREWALL.format(hosts=hosts(china=way.host.endswith(".cn"))) if way.official else _own(way),
        )
    if bad:
        yield _bad(way, bad, place)
        return
    if done:
        yield from _good(way, done)


def _bad(way: ObservedHost, bad: Sequence[Reached], place: str) -> Finding:
    one = bad[0]
    seen = f"the certificate of `{way.host}` at {place} is not trusted: {one.failure}"
    if one.issuer:
        seen += f"; issued by `{one.issuer}`"
    if one.verify in (_EXPIRED, _NOT_YET):
        return fault(
            "tls",
            seen,
            "the certificate is out of its time, or this machine's clock is wrong",
            "compare the clock with the real time; if it is right, report the address to support",
        )
    if one.verify == _WRONG_NAME or "match" in (one.failure or ""):
        return fault(
            "tls",
            seen,
            "what answers there has a certificate for other names: another service, a login page, or a wrong address in the name service",
            "check what the name resolves to, with `nslookup`; report it to support if it is Microsoft's address",
        )
    means = "something in between opens the connection and closes it again with a certificate of its own (TLS inspection)"
    do = "have the hosts of `marfetch endpoints` exempted from inspection, or give the authority's certificate with `--ca-file`"
    if not way.official:
        means = f"the registry has a certificate of an authority that this machine does not know, or {means}"
        do = "give the authority's certificate with `--ca-file`, or put it into the system's store"
    return fault("interception", seen, means, do)


def _good(way: ObservedHost, done: Sequence[Reached]) -> Iterator[Finding]:
    yield ok("tls", f"the certificate of `{way.host}` is trusted at {', '.join(one.address for one in done[:6])}")
    issuers = list(dict.fromkeys(one.issuer for one in done if one.issuer))
    shown = " and ".join(f"`{issuer}`" for issuer in issuers) or "an authority that is not told"
    foreign = [issuer for issuer in issuers if not any(word in issuer.lower() for word in ISSUERS)]
    if way.official and foreign:
        yield warning(
            "interception",
            f"the certificate of `{way.host}` was issued by {shown}",
            "it is trusted here, but it is not of the authorities that Microsoft uses: TLS is inspected on the way",
            "have the hosts of `marfetch endpoints` exempted from inspection; inspection is a common cause of cut and slow transfers",
        )
    else:
        yield ok("interception", f"the certificate of `{way.host}` was issued by {shown}")
