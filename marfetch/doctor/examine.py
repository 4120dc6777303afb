"""The whole examination, side by side where that can be, within its time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ..content import Progress
from ..endpoint import CHINA, GLOBAL, Address, Endpoint
from ..errors import Error, StorageError
from ..layout.cache import cache_root
from ..reference import Host, Reference
from ..remote.pauses import Pauses
from ..remote.probe import NameLookup, Prober, Reached
from ..text import shareable
from . import environment, network
from .checks import Asking
from .findings import CHECKS, Finding, fault, joined, ok, warning
from .network import ObservedHost

DEFAULT: Final = "application-lb/charts/alb-controller"
"""A small public chart, tried where no reference is named."""
PATIENCE: Final = 3.0
"""Seconds for each single step."""
WHOLE: Final = 15.0
"""Seconds after which nothing more is begun; what was begun then takes one more step."""
REGION_TIME: Final = 1.5
"""Seconds for each step of the look at the regions, of which there are three."""
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
"""Regions of the data endpoint that have been seen; a name that does not resolve says nothing."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined.

    Attributes:
        endpoint: whose reachability it is.
        reference: what to try; None: `DEFAULT`.
        ca_file: as `--ca-file`.
        cache_dir: as `--cache-dir`.
        timeout: seconds in all.
        now: the clock of this machine, seconds since the epoch.
    """

    endpoint: Endpoint
    reference: Reference | None = None
    ca_file: str | None = None
    cache_dir: Path | None = None
    timeout: float = WHOLE
    now: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, in the order of `CHECKS`.

    Attributes:
        references: the ids that support asks for, of failed answers.
    """

    findings: tuple[Finding, ...]
    references: tuple[str, ...]
    seconds: float = field(default=0.0, compare=False)

    @property
    def has_fault(self) -> bool:
        """Whether something does not work."""
        return any(one.status == "fault" for one in self.findings)


def examine(patient: Patient, progress: Progress) -> Diagnosis:
    """Look at everything; raises nothing for what it finds."""
    begun = time.monotonic()
    end = begun + min(patient.timeout, WHOLE)
    prober = Prober(patient.endpoint, patient.ca_file, patience=max(0.2, min(PATIENCE, patient.timeout / 5)))
    found: list[Finding] = [environment.endpoint(patient.endpoint)]
    with ThreadPoolExecutor(4) as pool:
        at_home = pool.submit(_here, patient, progress)
        other = pool.submit(_other, patient, prober) if patient.endpoint.official else None
        references = _outside(patient, prober, found, end)
        found += at_home.result()
        if other is not None:
            found.append(_china(patient.endpoint, other, found))
    whole = tuple(one for name in CHECKS if (one := joined(name, found)) is not None)
    return Diagnosis(whole, tuple(shareable(one) for one in dict.fromkeys(references)), time.monotonic() - begun)


def _here(patient: Patient, progress: Progress) -> list[Finding]:
    return [
        *environment.environment(os.environ, ca_file=patient.ca_file),
        environment.cache(patient.cache_dir, progress),
        environment.helm(os.environ),
    ]


def _outside(patient: Patient, prober: Prober, found: list[Finding], end: float) -> list[str]:
    """From the name to the first byte of content."""
    registry = patient.endpoint.registry
    try:
        proxy = prober.proxy(registry)
    except Error as error:
        found.append(fault("proxy", error.message, "no request can be sent", error.hint))
        return []
    found.append(
        ok("proxy", "none is used")
        if proxy is None
        else ok("proxy", f"`{proxy}` is asked for `{registry.name}` (from the environment; `NO_PROXY` names exceptions)")
    )
    way = _way(registry, prober, proxy, official=patient.endpoint.official)
    found += network.findings(way)
    if not way.open and (proxy is None or any(one.stage == "tls" for one in way.reached)):
        return []
    reference = patient.reference or Reference.parse(DEFAULT)
    bound = replace(reference, host=Host.parse(registry.name), scheme=None)
    chosen, pauses = patient.reference is not None, _pauses(patient)
    asking = Asking(prober, bound, chosen, patient.now, lambda: time.monotonic() < end, way.untunnelled, pauses)
    if time.monotonic() < end:
        asking.run()
    _drop(found, {one.id for one in asking.found if one.status == "fault"} & {"proxy", "tls", "interception"})
    found += asking.found
    if proxy is None and time.monotonic() < end - 3 * REGION_TIME:
        found += _regions(patient.endpoint, prober.hurried(REGION_TIME), asking)
    return asking.references


def _pauses(patient: Patient) -> Pauses | None:
    """What others were told; None where there is no cache, which a look does not make, or nobody knows where it would be."""
    with suppress(StorageError):
        root = cache_root(patient.cache_dir)
        if (root / "oci-layout").is_file():
            return Pauses(root)
    return None


def _drop(found: list[Finding], names: set[str]) -> None:
    """A fault that a request has met stands in place of what was fine before; one that was seen already is not said twice."""
    found[:] = [one for one in found if one.id not in names or one.status != "ok"]


def _way(address: Address, prober: Prober, proxy: str | None, *, official: bool, greet: bool = True) -> ObservedHost:
    host, port, tls = address.host.name, address.host.port or 443, address.scheme == "https"
    names = prober.names(host, port)
    if proxy is not None:
        through = [prober.through(proxy, host, port)] if tls and proxy.startswith("http://") else []
        # What the proxy says is said by the request that follows.
        failed = next((one.failure for one in through if one.stage == "tcp"), None)
        return ObservedHost(host, names, tuple(one for one in through if one.stage != "tcp"), True, official, tls, failed)
    return ObservedHost(host, names, tuple(prober.reach(host, port, names, tls=tls and greet)), False, official, tls)


# -- data hosts


def _regions(endpoint: Endpoint, prober: Prober, asking: Asking) -> Iterator[Finding]:
    """Whether single hosts are open and others not, which is how a rule for a region looks from inside."""
    if endpoint.official:
        wildcard = str(endpoint.data_hosts[0])
        names = [(f"{region}{wildcard.removeprefix('*')}", 443) for region in REGIONS] if endpoint is GLOBAL else []
    else:
        wildcard = "the hosts of `--data-host`"
        names = [(one.host.name, one.host.port or endpoint.registry.host.port or 443) for one in endpoint.data_hosts if not one.wildcard]
    if asking.data is not None:
        names = list(dict.fromkeys([(asking.data.host.name, asking.data.host.port or 443), *names]))
    if len(names) < 2:
        return
    tls = endpoint.registry.scheme == "https"

    def look(name: tuple[str, int]) -> tuple[str, NameLookup, list[Reached]]:
        known = prober.names(*name)
        return (name[0] if name[1] == 443 else f"{name[0]}:{name[1]}"), known, prober.reach(*name, known, tls=tls)

    with ThreadPoolExecutor(len(names)) as pool:
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
        means = "the firewall has rules for single hosts or regions in place of the wildcard: pulls work or fail as MAR sends them"
        yield warning(
            "regions",
            f"{open_ones} can be reached, {shown} cannot",
            means,
            f"let {wildcard} through, not single regions: MAR strongly advises against those",
        )
    elif not any(one.id == "data-host" and one.status == "fault" for one in asking.found):
        yield warning(
            "regions", f"no data host can be reached: {shown}", "the data endpoint is closed", f"let {wildcard} through on port 443"
        )


# -- the other official registry


def _other(patient: Patient, prober: Prober) -> ObservedHost | None:
    """The way to the other one of the pair; nothing is asked of it."""
    other = GLOBAL if patient.endpoint is CHINA else CHINA
    try:
        if prober.proxy(patient.endpoint.registry) is not None:
            return None
        return _way(other.registry, prober, None, official=True, greet=False)
    except Error:
        return None


def _china(endpoint: Endpoint, other: Future[ObservedHost | None], found: Sequence[Finding]) -> Finding:
    way = other.result()
    name = (GLOBAL if endpoint is CHINA else CHINA).registry.name
    if way is None:
        return ok("china", f"`{name}` was not looked at: a proxy stands in between")
    if not way.open:
        return ok("china", f"`{name}`, the other official registry, cannot be reached from here; it is not needed where this one works")
    if any(one.status == "fault" and one.id in ("dns", "connection", "tls", "registry", "data-host") for one in found):
        choice = "global" if endpoint is CHINA else "china"
        return warning(
            "china",
            f"`{name}`, the other official registry, can be reached",
            "this machine may be in the other network: both have the same paths and tags, China's copy may lag",
            f"try `--endpoint {choice}`",
        )
    return ok("china", f"`{name}`, the other official registry, can be reached too")
