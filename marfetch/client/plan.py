"""Plan a download: the hosts, requests and bytes that it needs, before any blob is requested.

Planning resolves the references, and counts the requests that resolving sends. All other requests are computed: each blob that is not
cached needs one request to the registry and, if the registry redirects, one to a data host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..content import WELL_KNOWN
from ..endpoint import Address, Endpoint
from ..errors import Error
from ..oci import Descriptor, Digest
from ..reference import Host
from .pull import Failed, PullOptions, find
from .resolve import Found, Wanted
from .session import Session


@dataclass(frozen=True, slots=True)
class PlannedBlob:
    """One blob that a download needs. A `cached` blob needs no request."""

    descriptor: Descriptor
    name: str | None
    cached: bool


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact of a plan."""

    selected: Found
    layers: tuple[PlannedBlob, ...]


@dataclass(slots=True)
class Need:
    """The requests and bytes that one host has to serve.

    Attributes:
        host: a host name, with the port unless it is the default port; or a wildcard such as `*.example.com`.
        purpose: `registry` or `data`.
        sure: whether the host is certain to be used; False if a redirect chooses one of several data hosts.
    """

    host: str
    purpose: str
    scheme: str
    port: int
    requests: int = 0
    bytes: int = 0
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What a download needs.

    Attributes:
        artifacts: the resolved artifacts.
        failed: the artifacts that could not be resolved.
        needs: what each host has to serve, registries first.
        requests: total number of requests, including the requests for resolving.
        size: bytes to download.
        cached: bytes that are already in the cache.
    """

    artifacts: tuple[Artifact, ...]
    failed: tuple[Failed, ...]
    needs: tuple[Need, ...]
    requests: int
    size: int
    cached: int


@dataclass(slots=True)
class _Job:
    wanted: Wanted | Failed
    found: Found | None = None
    failed: Failed | None = field(default=None)


def plan(client: Session, wanted: Sequence[Wanted | Failed], request: PullOptions) -> Plan:
    """Compute what a `pull` with the same arguments would need. Errors of single artifacts are returned in `failed`, not raised."""
    jobs = [_Job(one, failed=one if isinstance(one, Failed) else None) for one in wanted]

    def look(job: _Job) -> None:
        if isinstance(job.wanted, Wanted):
            try:
                job.found = find(client, job.wanted, request)
            except Error as error:
                job.failed = Failed(str(job.wanted.reference), error)

    client.each(look, [job for job in jobs if job.failed is None], label="resolving")
    asked = client.asked
    needs: dict[tuple[str, str], Need] = {}
    artifacts = []
    counted: set[Digest] = set()
    for found in (job.found for job in jobs if job.found is not None):
        endpoint = client.endpoint(found.resolved.reference)
        registry = _registry(needs, endpoint)
        layers = []
        for descriptor, name in _blobs(found, request):
            cached = descriptor.digest in WELL_KNOWN or client.cache.has(descriptor)
            layers.append(PlannedBlob(descriptor, name, cached))
            if cached or descriptor.digest in counted:
                continue
            counted.add(descriptor.digest)
            registry.requests += 1
            _data(needs, endpoint, descriptor.size)
        artifacts.append(Artifact(found, tuple(layers)))
    registries: dict[str, Address] = {}
    for job in jobs:
        if isinstance(job.wanted, Wanted):
            with suppress(Error):
                registry_of = client.endpoint(job.wanted.reference).registry
                registries[registry_of.name] = registry_of
    _add_asked(needs, asked, registries)
    ordered = tuple(sorted(needs.values(), key=lambda need: need.purpose != "registry"))
    layers_of_all = {layer.descriptor.digest: layer for artifact in artifacts for layer in artifact.layers}.values()
    return Plan(
        tuple(artifacts),
        tuple(job.failed for job in jobs if job.failed is not None),
        ordered,
        sum(need.requests for need in ordered),
        sum(layer.descriptor.size for layer in layers_of_all if not layer.cached),
        sum(layer.descriptor.size for layer in layers_of_all if layer.cached),
    )


def _blobs(found: Found, request: PullOptions) -> list[tuple[Descriptor, str | None]]:
    blobs: list[tuple[Descriptor, str | None]] = [(payload.layer, payload.name) for payload in found.payloads]
    return [*blobs, (found.manifest.config, None)] if request.choice.all_layers else blobs


def _registry(needs: dict[tuple[str, str], Need], endpoint: Endpoint) -> Need:
    address = endpoint.registry
    return needs.setdefault((endpoint.name, "registry"), Need(address.name, "registry", address.scheme, address.host.port or 0))


def _data(needs: dict[tuple[str, str], Need], endpoint: Endpoint, size: int) -> None:
    """Count the bytes of a blob for a data host, or for the registry if it does not redirect."""
    if not endpoint.data_hosts:
        needs[endpoint.name, "registry"].bytes += size
        return
    several = len(endpoint.data_hosts) > 1
    for number, pattern in enumerate(endpoint.data_hosts):
        port = pattern.host.port or (443 if endpoint.registry.scheme == "https" else 80)
        need = needs.setdefault((endpoint.name, str(pattern)), Need(str(pattern), "data", endpoint.registry.scheme, port, sure=not several))
        if number == 0:  # the data host is unknown before the redirect, so count the first one
            need.requests += 1
            need.bytes += size


def _add_asked(needs: dict[tuple[str, str], Need], asked: Counter[str], registries: Mapping[str, Address]) -> None:
    """Add the requests that resolving has sent, because a download sends them too."""
    by_host = {need.host: need for need in needs.values()}
    for host, count in asked.items():
        need = by_host.get(host)
        if need is None:
            scheme = registries[host].scheme if host in registries else "https"
            port = Host.parse(host).port or (443 if scheme == "https" else 80)
            need = by_host[host] = needs[host, "registry"] = Need(host, "registry", scheme, port)
        need.requests += count
