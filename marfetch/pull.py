"""Pulling: several artifacts at once, from what is wanted to files with their final names.

Everything is resolved first, and names are compared before the first blob is asked for; then blobs go side by side into the cache and
from there to their places. A failure of one artifact does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from .artifact.kinds import Kind
from .artifact.payload import Choice, Payload, base_name, select
from .choose import artifact
from .client import Client, offline_error
from .content import BESIDE_FROM, WELL_KNOWN, Sink, copy
from .errors import Error, IntegrityError, StorageError
from .oci import Descriptor, Manifest, Platform
from .place.destination import Destination, State, Wish
from .reference import Reference
from .resolve import Resolved, Wanted, resolve


@dataclass(frozen=True, slots=True)
class Request:
    """What a pull is to do.

    Attributes:
        destination: the directory; made when the first file is placed.
        choice: which layers.
        platform: of an index.
        force: replace files that differ.
        skip_missing: pass over versions that are listed but have no manifest.
    """

    destination: Path
    choice: Choice = field(default_factory=Choice)
    platform: Platform | None = None
    force: bool = False
    skip_missing: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """One file that is there now.

    Attributes:
        reference: pinned: with the digest of what the tag names.
        status: whether it was put there, or was there already with the same bytes.
    """

    path: Path
    layer: Descriptor
    reference: Reference
    status: Literal["fetched", "unchanged"]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Failed:
    """One artifact that is not there, and why."""

    reference: str
    error: Error


@dataclass(frozen=True, slots=True)
class Pulled:
    """What became of a pull.

    Attributes:
        files: in the order of what was wanted.
        failed: in the order of what was wanted.
        resolved: what was wanted turned out to be, for what could be found.
    """

    files: tuple[File, ...]
    failed: tuple[Failed, ...]
    resolved: tuple[Resolved, ...]


@dataclass(slots=True)
class _Job:
    """One wanted artifact on its way."""

    wanted: Wanted
    resolved: Resolved | None = None
    manifest: Manifest | None = None
    kind: Kind | None = None
    payloads: tuple[Payload, ...] = ()
    states: dict[str, State] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    error: Error | None = None

    @property
    def name(self) -> str:
        return str(self.resolved.reference if self.resolved else self.wanted.reference)

    def place(self, payload: Payload, path: Path, status: Literal["fetched", "unchanged"]) -> None:
        """A payload is at its place now."""
        assert self.resolved is not None and self.kind is not None, "a job that is placed was resolved"  # noqa: PT018
        self.files[payload.name] = File(path, payload.layer, self.resolved.reference, status, self.kind)

    def wishes(self) -> list[Wish]:
        return [Wish(payload.name, payload.layer, self.name) for payload in self.payloads]


def pull(client: Client, wanted: Sequence[Wanted], request: Request) -> Pulled:
    """Fetch all of them.

    Returns:
        What succeeded and what failed; nothing is raised for a single artifact.
    """
    destination = Destination(request.destination)
    jobs = [_Job(one) for one in wanted]
    client.each(lambda job: _guard(job, lambda: _prepare(client, job, request)), jobs)
    ready = [job for job in jobs if job.error is None]
    for job in ready:
        _guard(job, lambda job=job: _look(job, destination, force=request.force))  # type: ignore[misc]
    _refuse_clashes(ready, destination)
    # What two of them want under one name is the same content by now: it is placed once.
    tasks: dict[str, tuple[_Job, Payload]] = {}
    for job in ready:
        for payload in job.payloads if job.error is None else ():
            tasks.setdefault(payload.name, (job, payload))
    if request.choice.all_layers:
        # All of it: then the cache holds the artifact whole, config included, and other tools can copy it from there.
        client.each(lambda job: _guard(job, lambda: _cache_config(client, job)), [job for job in ready if job.error is None])
    client.each(lambda task: _guard(task[0], lambda: _fetch(client, destination, *task, request)), list(tasks.values()))
    for job in ready:
        for payload in job.payloads:
            first, _ = tasks.get(payload.name, (job, payload))
            if first is not job and job.error is None:
                job.error = first.error
                if first.error is None:
                    job.place(payload, destination.path(payload.name), "unchanged")
    return Pulled(
        tuple(job.files[payload.name] for job in jobs for payload in job.payloads if payload.name in job.files),
        tuple(Failed(str(job.wanted.reference), job.error) for job in jobs if job.error is not None),
        tuple(job.resolved for job in jobs if job.resolved is not None),
    )


def _guard(job: _Job, step: Callable[[], None]) -> None:
    """A step of one artifact: its failure is kept, so that the others go on."""
    try:
        step()
    except Error as error:
        if job.error is None:
            job.error = error


def _prepare(client: Client, job: _Job, request: Request) -> None:
    """From what is wanted to the layers and their names."""
    job.resolved = resolve(client, job.wanted, skip_missing=request.skip_missing)
    job.manifest = artifact(client, job.resolved, request.choice, request.platform)
    reference = job.resolved.reference
    what = str(replace(reference, digest=None) if reference.tag else reference)
    selection = select(job.manifest, request.choice, name=base_name(reference.repository), tag=reference.tag, what=what)
    for warning in selection.warnings:
        client.progress.warn(warning)
    job.kind = selection.kind
    job.payloads = selection.payloads


def _look(job: _Job, destination: Destination, *, force: bool) -> None:
    """Compare with what is there already."""
    for wish in job.wishes():
        state = destination.state(wish)
        job.states[wish.name] = state
        if state is State.DIFFERENT and not force:
            path = destination.path(wish.name)
            raise StorageError(
                f"a different file is at `{path}` already",
                code="file-differs",
                path=str(path),
            )


def _refuse_clashes(jobs: Sequence[_Job], destination: Destination) -> None:
    """Where names clash, nothing is fetched at all: neither the clashing ones nor the others."""
    candidates = [job for job in jobs if job.payloads]
    clashes = destination.clashes([wish for job in candidates for wish in job.wishes()])
    for job in candidates:
        if job.error is None and job.name in clashes:
            job.error = clashes[job.name]
    if any(job.error is not None for job in candidates):
        for job in candidates:
            if job.error is None:
                job.error = StorageError(
                    f"`{job.name}` was left out, since names of the same call clash",
                    code="not-fetched",
                    reference=job.name,
                )


def _fetch(client: Client, destination: Destination, job: _Job, payload: Payload, request: Request) -> None:
    """One layer: into the cache, then to its place."""
    layer = payload.layer
    if job.states.get(payload.name) is State.SAME:
        job.place(payload, destination.path(payload.name), "unchanged")
        return
    wish = Wish(payload.name, layer, job.name)
    for last in (False, True):
        try:
            _place(client, destination, job, wish, force=request.force)
        except _DamagedError as error:
            # What lay in the cache is not what its name says: fetch it anew, once.
            client.cache.drop(layer.digest, error.cause.message)
            if last:
                raise error.cause from error
        else:
            job.place(payload, destination.path(payload.name), "fetched")
            return


class _DamagedError(Exception):
    """The cache gave wrong bytes."""

    def __init__(self, cause: IntegrityError) -> None:
        super().__init__(cause.message)
        self.cause = cause


def _place(client: Client, destination: Destination, job: _Job, wish: Wish, *, force: bool) -> None:
    """Bring a blob into the cache and from there to its place; a large one goes to both at once."""
    layer = wish.descriptor
    if layer.size >= BESIDE_FROM and not client.cache.has(layer):
        with destination.begin(wish) as placing:
            _cache(client, job, layer, wish.name, beside=placing)
            if placing.held == layer.size:
                placing.publish(force=force)
                return
    else:
        _cache(client, job, layer, wish.name)
    try:
        destination.put(wish, lambda: client.cache.open(layer.digest), force=force)
    except IntegrityError as error:
        raise _DamagedError(error) from error


def _cache(client: Client, job: _Job, layer: Descriptor, name: str, *, beside: Sink | None = None) -> None:
    """Bring a layer into the cache unless it is there."""
    assert job.resolved is not None, "a job that is fetched was resolved"
    reference = job.resolved.reference
    if client.options.offline and not client.cache.has(layer) and layer.digest not in WELL_KNOWN:
        raise offline_error(reference)
    copy(job.resolved.source, client.cache, reference, layer, name=name, progress=client.progress, beside=beside)


def _cache_config(client: Client, job: _Job) -> None:
    assert job.manifest is not None, "a job that is fetched was resolved"
    if not client.options.offline:
        _cache(client, job, job.manifest.config, "config")
