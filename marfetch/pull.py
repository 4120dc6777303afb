"""Pulling: several artifacts at once, from what is wanted to files and directories with their final names.

Everything is resolved first, and names are compared before the first blob is asked for; then blobs go side by side into the cache and
from there to their places. A failure of one artifact does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from .artifact.kinds import Kind
from .artifact.payload import Choice, Payload, base_name, select
from .artifact.unpacking import unpacked
from .choose import artifact
from .client import Client, offline_error
from .content import BESIDE_FROM, WELL_KNOWN, Sink, copy
from .errors import Error, IntegrityError, PolicyError, StorageError
from .fetch import Gate
from .files import storage_error
from .lock import prepare
from .oci import Descriptor, Manifest, Platform
from .place.destination import Destination, State, Wish, find_clashes
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
        untar: where archives are unpacked, below the destination where it is relative (as Helm joins the two); None: they stay files.
        gate: is asked about each artifact before anything of it is fetched, and raises to keep it out, as a verification does.
    """

    destination: Path
    choice: Choice = field(default_factory=Choice)
    platform: Platform | None = None
    force: bool = False
    skip_missing: bool = False
    untar: Path | None = None
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class File:
    """One file, or one directory that an archive became, that is there now.

    Attributes:
        reference: pinned: with the digest of what the tag names.
        status: whether it was put there, or was there already with the same bytes.
        is_directory: whether it was unpacked.
    """

    path: Path
    layer: Descriptor
    reference: Reference
    status: Literal["fetched", "unchanged"]
    kind: Kind
    is_directory: bool = False


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


_Key: TypeAlias = tuple[bool, str]
"""What tells the payloads of a call apart: whether it is unpacked, and its name."""


def _key(payload: Payload) -> _Key:
    return payload.unpacking is not None, payload.name


@dataclass(frozen=True, slots=True)
class _Places:
    """Where files go, and where directories."""

    files: Destination
    directories: Destination

    def of(self, payload: Payload) -> Destination:
        return self.files if payload.unpacking is None else self.directories


@dataclass(slots=True)
class _Job:
    """One wanted artifact on its way."""

    label: str
    wanted: Wanted | None = None
    resolved: Resolved | None = None
    manifest: Manifest | None = None
    kind: Kind | None = None
    payloads: tuple[Payload, ...] = ()
    states: dict[_Key, State] = field(default_factory=dict)
    files: dict[_Key, File] = field(default_factory=dict)
    error: Error | None = None

    @property
    def name(self) -> str:
        return str(self.resolved.reference) if self.resolved else self.label

    def place(self, payload: Payload, path: Path, status: Literal["fetched", "unchanged"]) -> None:
        """A payload is at its place now."""
        assert self.resolved is not None and self.kind is not None, "a job that is placed was resolved"  # noqa: PT018
        self.files[_key(payload)] = File(
            path, payload.layer, self.resolved.reference, status, self.kind, is_directory=payload.unpacking is not None
        )

    def wish(self, payload: Payload) -> Wish:
        return Wish(payload.name, payload.layer, self.name, payload.unpacking)


def pull(client: Client, wanted: Sequence[Wanted | Failed], request: Request) -> Pulled:
    """Fetch all of them.

    Args:
        wanted: with those that could not even be read, so that each has its place in the result.

    Returns:
        What succeeded and what failed; nothing is raised for a single artifact.
    """
    jobs = [_Job(one.reference, error=one.error) if isinstance(one, Failed) else _Job(str(one.reference), one) for one in wanted]
    if len(jobs) > 1:
        prepare()
    with Destination(request.destination) as files, Destination(request.destination / (request.untar or "")) as directories:
        return _pull(client, jobs, request, _Places(files, directories))


def _pull(client: Client, jobs: Sequence[_Job], request: Request, places: _Places) -> Pulled:
    client.each(lambda job: _guard(job, lambda: _prepare(client, job, request)), [job for job in jobs if job.error is None])
    ready = [job for job in jobs if job.error is None]
    for job in ready:
        _guard(job, lambda job=job: _look(client, job, places, force=request.force))  # type: ignore[misc]
    _refuse_clashes(ready, places)
    # What two of them want under one name is the same content by now: it is placed once.
    tasks: dict[_Key, tuple[_Job, Payload]] = {}
    for job in ready:
        for payload in job.payloads if job.error is None else ():
            tasks.setdefault(_key(payload), (job, payload))
    if request.choice.all_layers:
        # All of it: then the cache holds the artifact whole, config included, and other tools can copy it from there.
        client.each(lambda job: _guard(job, lambda: _cache_config(client, job)), [job for job in ready if job.error is None])
    client.each(lambda task: _guard(task[0], lambda: _fetch(client, places, *task, request)), list(tasks.values()))
    for job in ready:
        for payload in job.payloads:
            first, _ = tasks.get(_key(payload), (job, payload))
            if first is job or job.error is not None:
                continue
            if payload.unpacking is not None:
                # The same archive, but perhaps asked for as another version than the one that it holds.
                job.states[_key(payload)] = State.UNKNOWN
                _guard(job, lambda job=job, payload=payload: _fetch(client, places, job, payload, request))  # type: ignore[misc]
                continue
            job.error = first.error
            if first.error is None:
                job.place(payload, places.of(payload).path(payload.name), "unchanged")
    return Pulled(
        tuple(job.files[_key(payload)] for job in jobs for payload in job.payloads if _key(payload) in job.files),
        tuple(Failed(job.label, job.error) for job in jobs if job.error is not None),
        tuple(job.resolved for job in jobs if job.resolved is not None),
    )


def _guard(job: _Job, step: Callable[[], None]) -> None:
    """A step of one artifact: its failure is kept, so that the others go on."""
    try:
        step()
    except Error as error:
        if job.error is None:
            job.error = error
    except OSError as error:  # no more open files, for instance
        if job.error is None:
            job.error = storage_error(error, str(error.filename or job.name))


@dataclass(frozen=True, slots=True)
class Selected:
    """What a wanted artifact is, and the layers of it that would be fetched."""

    resolved: Resolved
    manifest: Manifest
    kind: Kind
    payloads: tuple[Payload, ...]


def selected(client: Client, wanted: Wanted, request: Request) -> Selected:
    """From what is wanted to the layers and their names; asks for no blob.

    Raises:
        Error: as `resolve`, `choose.artifact` and `payload.select`.
    """
    resolved = resolve(client, wanted, skip_missing=request.skip_missing)
    if request.gate is not None:
        request.gate(client, resolved)
    manifest = artifact(client, resolved, request.choice, request.platform)
    reference = resolved.reference
    what = str(replace(reference, digest=None) if reference.tag else reference)
    selection = select(manifest, request.choice, name=base_name(reference.repository), tag=reference.tag, what=what)
    for warning in selection.warnings:
        client.progress.warn(warning)
    payloads = selection.payloads
    if request.untar is not None:
        payloads = unpacked(selection, manifest, repository=reference.repository, tag=reference.tag)
    return Selected(resolved, manifest, selection.kind, payloads)


def _prepare(client: Client, job: _Job, request: Request) -> None:
    """From what is wanted to the layers and their names."""
    assert job.wanted is not None, "what could not be read is not prepared"
    found = selected(client, job.wanted, request)
    job.resolved, job.manifest, job.kind, job.payloads = found.resolved, found.manifest, found.kind, found.payloads


def _look(client: Client, job: _Job, places: _Places, *, force: bool) -> None:
    """Compare with what is there already; a directory as far as the cache has its archive."""
    for payload in job.payloads:
        destination, layer = places.of(payload), payload.layer
        open_blob = partial(client.cache.open, layer.digest) if payload.unpacking is not None and client.cache.has(layer) else None
        try:
            state = destination.state(job.wish(payload), open_blob)
        except (IntegrityError, PolicyError):  # of the archive: that is said when it is unpacked
            state = State.UNKNOWN
        job.states[_key(payload)] = state
        if state is State.DIFFERENT and not force:
            raise _differs(payload, destination.path(payload.name))


def _differs(payload: Payload, path: Path) -> StorageError:
    message = f"a different file is at `{path}` already" if payload.unpacking is None else f"`{path}` is there already and differs"
    return StorageError(message, code="file-differs", path=str(path))


def _refuse_clashes(jobs: Sequence[_Job], places: _Places) -> None:
    """Where names clash, nothing is fetched at all: neither the clashing ones nor the others."""
    candidates = [job for job in jobs if job.payloads]
    clashes = find_clashes([(places.of(payload), job.wish(payload)) for job in candidates for payload in job.payloads])
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


def _fetch(client: Client, places: _Places, job: _Job, payload: Payload, request: Request) -> None:
    """One layer: into the cache, then to its place."""
    destination = places.of(payload)
    path = destination.path(payload.name)
    if job.states.get(_key(payload)) is State.SAME:
        job.place(payload, path, "unchanged")
        return
    for last in (False, True):
        try:
            if payload.unpacking is None:
                _place(client, destination, job, job.wish(payload), force=request.force)
                is_new = True
            else:
                is_new = _unpack(client, destination, job, payload, force=request.force)
        except _DamagedError as error:
            # What lay in the cache is not what its name says: fetch it anew, once.
            client.cache.drop(payload.layer.digest, error.cause.message)
            if last:
                raise error.cause from error
        else:
            job.place(payload, path, "fetched" if is_new else "unchanged")
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


def _unpack(client: Client, destination: Destination, job: _Job, payload: Payload, *, force: bool) -> bool:
    """Bring an archive into the cache and unpack it from there; False where its directory is there already."""
    layer, wish = payload.layer, job.wish(payload)
    _cache(client, job, layer, payload.name)
    open_blob = partial(client.cache.open, layer.digest)
    try:
        if job.states.get(_key(payload)) is State.UNKNOWN:
            state = destination.state(wish, open_blob)
            if state is State.SAME:
                return False
            if state is State.DIFFERENT and not force:
                raise _differs(payload, destination.path(payload.name))
        destination.put(wish, open_blob, force=force, check=client.budget.check)
    except IntegrityError as error:
        if error.code == "malformed":  # the archive itself, whose bytes are the right ones
            raise
        raise _DamagedError(error) from error
    return True


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
