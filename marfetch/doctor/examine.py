"""Run all checks, in parallel where possible, within a time limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from .. import threads
from ..content import Progress
from ..endpoint import CHINA, GLOBAL, Address, Endpoint
from ..errors import Error, StorageError
from ..layout.cache import cache_root
from ..reference import Host, Reference
from ..remote.pauses import Pauses
from ..remote.probe import NameLookup, Prober, Reached
from ..text import shareable
from . import environment, network
from .checks import RegistryChecks
from .findings import CHECKS, Finding, fault, joined, ok, warning
from .network import ObservedHost

DEFAULT: Final = "application-lb/charts/alb-controller"
"""A small public chart. It is requested if the user does not name an artifact."""
PATIENCE: Final = 3.0
"""The timeout in seconds for each step."""
WHOLE: Final = 15.0
"""The time in seconds after which no new step starts. A running step may finish."""
REGION_TIME: Final = 1.5
"""The timeout in seconds for each of the three steps of the region check."""
REGIONS: Final = (
    "westus",
    "westus2",
    "westcentralus",
    "centralus",
    "eastus",
    "northeurope",
    "westeurope",
    "eastasia",
    "southeastasia",
)
"""Known regions of MAR's data hosts. Hosts whose name does not resolve are ignored."""


@dataclass(frozen=True, slots=True)
class ExamineOptions:
    """The options of `examine`.

    Attributes:
        endpoint: the endpoint to check.
        reference: the artifact to request; None for `DEFAULT`.
        ca_file: the value of `--ca-file`.
        cache_dir: the value of `--cache-dir`.
        timeout: the time limit in seconds for all checks.
        now: returns this machine's time, in seconds since the epoch.
    """

    endpoint: Endpoint
    reference: Reference | None = None
    ca_file: str | None = None
    cache_dir: Path | None = None
    timeout: float = WHOLE
    now: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of all checks.

    Attributes:
        findings: the findings, in the order of `CHECKS`.
        references: the `X-Msedge-Ref` headers of failed responses, for support.
        seconds: how long the checks took.
    """

    findings: tuple[Finding, ...]
    references: tuple[str, ...]
    seconds: float = field(default=0.0, compare=False)

    @property
    def has_fault(self) -> bool:
        """Whether any finding is a fault."""
        return any(one.status == "fault" for one in self.findings)


def examine(options: ExamineOptions, progress: Progress) -> Diagnosis:
    """Run all checks. Problems are reported as findings and do not raise."""
    begun = time.monotonic()
    end = begun + min(options.timeout, WHOLE)
    prober = Prober(options.endpoint, options.ca_file, patience=max(0.2, min(PATIENCE, options.timeout / 5)))
    found: list[Finding] = [environment.endpoint(options.endpoint)]
    with threads.pool(4) as pool:
        local = pool.submit(_local_findings, options, progress)
        other = pool.submit(_other, options, prober) if options.endpoint.official else None
        references = _network_findings(options, prober, found, end)
        found += local.result()
        if other is not None:
            found.append(_china(options.endpoint, other, found))
    whole = tuple(one for name in CHECKS if (one := joined(name, found)) is not None)
    return Diagnosis(whole, tuple(shareable(one) for one in dict.fromkeys(references)), time.monotonic() - begun)


def _local_findings(options: ExamineOptions, progress: Progress) -> list[Finding]:
    return [
        *environment.environment(os.environ, ca_file=options.ca_file),
        environment.cache(options.cache_dir, progress),
        environment.helm(os.environ),
    ]


def _network_findings(options: ExamineOptions, prober: Prober, found: list[Finding], end: float) -> list[str]:
    """Check the network and the registry, from DNS to the first byte of content, and add the findings to `found`.

    Returns:
        The `X-Msedge-Ref` headers of failed responses, for support.
    """
    registry = options.endpoint.registry
    try:
        proxy = prober.proxy(registry)
    except Error as error:
        found.append(fault("proxy", error.message, "no request can be sent", error.hint))
        return []
    found.append(
        ok("proxy", "none is used")
        if proxy is None
        else ok("proxy", f"the proxy {proxy} is used for `{registry.name}` (`NO_PROXY` lists exceptions)")
    )
    observed = _observe(registry, prober, proxy and proxy.url, official=options.endpoint.official)
    found += network.findings(observed)
    if not observed.open and (proxy is None or any(one.stage == "tls" for one in observed.reached)):
        return []
    reference = options.reference or Reference.parse(DEFAULT)
    bound = replace(reference, host=Host.parse(registry.name), scheme=None)
    chosen, pauses = options.reference is not None, _pauses(options)
    checks = RegistryChecks(prober, bound, chosen, options.now, lambda: time.monotonic() < end, observed.untunnelled, pauses)
    if time.monotonic() < end:
        checks.run()
    _drop(found, {one.id for one in checks.found if one.status == "fault"} & {"proxy", "tls", "interception"})
    found += checks.found
    if proxy is None and time.monotonic() < end - 3 * REGION_TIME:
        found += _regions(options.endpoint, prober.hurried(REGION_TIME), checks)
    return checks.references


def _pauses(options: ExamineOptions) -> Pauses | None:
    """Return the throttles that other processes recorded in the cache. Return None if there is no cache: doctor does not create one."""
    with suppress(StorageError):
        root = cache_root(options.cache_dir)
        if (root / "oci-layout").is_file():
            return Pauses(root)
    return None


def _drop(found: list[Finding], names: set[str]) -> None:
    """Remove `ok` findings with these ids, because a later check with the same id failed."""
    found[:] = [one for one in found if one.id not in names or one.status != "ok"]


def _observe(address: Address, prober: Prober, proxy: str | None, *, official: bool, greet: bool = True) -> ObservedHost:
    host, port, tls = address.host.name, address.host.port or 443, address.scheme == "https"
    names, shown = prober.names(host, port), address.name
    if proxy is not None:
        through = [prober.through(proxy, host, port)] if tls and proxy.startswith("http://") else []
        # Do not report a failure of the proxy here: the next request fails too, with a better message.
        failed = next((one.failure for one in through if one.stage == "tcp"), None)
        return ObservedHost(shown, names, tuple(one for one in through if one.stage != "tcp"), True, official, tls, failed)
    return ObservedHost(shown, names, tuple(prober.reach(host, port, names, tls=tls and greet)), False, official, tls)


# -- data hosts


def _regions(endpoint: Endpoint, prober: Prober, checks: RegistryChecks) -> Iterator[Finding]:
    """Warn if some data hosts cannot be reached. The firewall may allow only single regions."""
    if endpoint.official:
        wildcard = str(endpoint.data_hosts[0])
        names = [(f"{region}{wildcard.removeprefix('*')}", 443) for region in REGIONS] if endpoint is GLOBAL else []
    else:
        wildcard = "the hosts of `--data-host`"
        names = [(one.host.name, one.host.port or endpoint.registry.host.port or 443) for one in endpoint.data_hosts if not one.wildcard]
    if checks.data is not None:
        names = list(dict.fromkeys([(checks.data.host.name, checks.data.host.port or 443), *names]))
    if len(names) < 2:
        return
    tls = endpoint.registry.scheme == "https"

    def look(name: tuple[str, int]) -> tuple[str, NameLookup, list[Reached]]:
        known = prober.names(*name)
        return (name[0] if name[1] == 443 else f"{name[0]}:{name[1]}"), known, prober.reach(*name, known, tls=tls)

    with threads.pool(len(names)) as pool:
        looks = [one for one in pool.map(look, names) if one[1].addresses]
    opened = [name for name, _, reached in looks if any(one.stage == "done" for one in reached)]
    closed = [name for name, _, reached in looks if not any(one.stage == "done" for one in reached)]
    shown = ", ".join(f"`{name}`" for name in closed[:4]) + (f" and {len(closed) - 4} more" if len(closed) > 4 else "")
    if not closed:
        if opened:
            yield ok("regions", f"{len(opened)} data hosts can be reached")
        return
    if opened:
        open_ones = ", ".join(f"`{name}`" for name in opened[:3])
        means = "the firewall has rules for single hosts or regions instead of the wildcard, so some pulls fail"
        yield warning(
            "regions",
            f"{open_ones} can be reached, {shown} cannot",
            means,
            f"allow {wildcard}, not single regions: MAR strongly advises against them",
        )
    elif not any(one.id == "data-host" and one.status == "fault" for one in checks.found):
        yield warning("regions", f"no data host can be reached: {shown}", "the data endpoint is blocked", f"allow {wildcard} on port 443")


# -- the other official registry


def _other(options: ExamineOptions, prober: Prober) -> ObservedHost | None:
    """Try to connect to the other official registry, without sending a request. Return None if a proxy is used or the check fails."""
    other = GLOBAL if options.endpoint is CHINA else CHINA
    try:
        if prober.proxy(options.endpoint.registry) is not None:
            return None
        return _observe(other.registry, prober, None, official=True, greet=False)
    except Error:
        return None


def _china(endpoint: Endpoint, other: Future[ObservedHost | None], found: Sequence[Finding]) -> Finding:
    observed = other.result()
    name = (GLOBAL if endpoint is CHINA else CHINA).registry.name
    if observed is None:
        return ok("china", f"`{name}` was not checked, because a proxy is used")
    if not observed.open:
        return ok("china", f"`{name}`, the other official registry, cannot be reached from here; you do not need it if this one works")
    if any(one.status == "fault" and one.id in ("dns", "connection", "tls", "registry", "data-host") for one in found):
        choice = "global" if endpoint is CHINA else "china"
        return warning(
            "china",
            f"`{name}`, the other official registry, can be reached",
            "this machine may be in the other network: both have the same paths and tags, but China's copy may lag",
            f"try `--endpoint {choice}`",
        )
    return ok("china", f"`{name}`, the other official registry, can be reached too")
