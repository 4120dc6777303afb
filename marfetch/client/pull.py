"""Pulling: several artifacts at once, from what is wanted to files and directories with their final names.

Everything is resolved first, and names are compared before the first blob is asked for; then blobs go side by side into the cache and
from there to their places. A failure of one artifact does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from ..artifact.kinds import Kind
from ..artifact.payload import Choice, Payload, base_name, select, unpacked
from ..content import BESIDE_FROM, WELL_KNOWN, Sink, copy
from ..destination.destination import Destination, OutputFile, OutputState, find_clashes
from ..errors import Error, IntegrityError, PolicyError, StorageError
from ..files import prepare, storage_error
from ..oci import Descriptor, Digest, Platform
from ..reference import Reference
from .earlier import unknown
from .fetch import Gate
from .resolve import Found, Resolved, Wanted, artifact, resolve
from .session import Session, offline_error

# -- what a pull is to do, and what became of it


class PullOptions(NamedTuple):
    """What a pull is to do.

    Attributes:
        destination: the directory; made when the first file is placed.
        choice: which layers.
        platform: of an index.
        force: replace files that differ.
        skip_missing: pass over versions that are listed but have no manifest.
        untar: where archives are unpacked, below the destination where it is relative (as Helm joins the two); None: they stay files.
        below: where the files go below the destination, as a relative path with `/`; empty: in the destination itself.
        gate: is asked about each artifact before anything of it is fetched, and raises to keep it out, as a verification does.
    """

    destination: Path
    choice: Choice = Choice()
    platform: Platform | None = None
    force: bool = False
    skip_missing: bool = False
    untar: Path | None = None
    below: str = ""
    gate: Gate | None = None


def referrer_request(destination: Path, name: str, digest: Digest, *, force: bool) -> PullOptions:
    """Return where the files of a referrer go: `NAME.referrers/HEX/TITLE`, so that no title meets a file of the user's."""
    return PullOptions(destination, Choice(all_layers=True, titles=True), force=force, below=f"{name}.referrers/{digest.encoded}")


class Task(NamedTuple):
    """One artifact of several that each go their own way.

    Attributes:
        artifact: what is wanted, or what was found already.
        request: where it goes, and how.
        label: what it is called where it fails.
    """

    artifact: Wanted | Found | Failed
    request: PullOptions
    label: str


class File(NamedTuple):
    """One file, or one directory that an archive became, that is there now.

    Attributes:
        reference: pinned: with the digest of what the tag names.
        status: whether it was put there, or was there already with the same bytes.
        is_directory: whether it was unpacked.
        is_replaced: whether something else had its place.
    """

    path: Path
    layer: Descriptor
    reference: Reference
    status: Literal["fetched", "unchanged"]
    kind: Kind
    is_directory: bool = False
    is_replaced: bool = False


class Done(NamedTuple):
    """What became of one task.

    Attributes:
        error: None where all its files are there.
    """

    files: tuple[File, ...]
    resolved: Resolved | None
    error: Error | None


class Failed(NamedTuple):
    """One artifact that is not there, and why."""

    reference: str
    error: Error


class Pulled(NamedTuple):
    """What became of a pull.

    Attributes:
        files: in the order of what was wanted.
        failed: in the order of what was wanted.
        resolved: what was wanted turned out to be, for what could be found.
    """

    files: tuple[File, ...]
    failed: tuple[Failed, ...]
    resolved: tuple[Resolved, ...]


__all__ = ["Failed", "File", "PullOptions", "Pulled", "find", "found", "pull", "pull_each"]

_Key: TypeAlias = tuple[bool, str]
"""What tells the payloads of an artifact apart: whether it is unpacked, and its name."""


def _key(payload: Payload) -> _Key:
    return payload.unpacking is not None, payload.name


class _Places(NamedTuple):
    """Where files go, and where directories."""

    files: Destination
    directories: Destination

    def of(self, payload: Payload) -> Destination:
        return self.files if payload.unpacking is None else self.directories

    def key(self, payload: Payload) -> tuple[Path, _Key]:
        """What tells the payloads of a call apart."""
        return self.of(payload).root, _key(payload)


@dataclass(slots=True)
class _Job:
    """One wanted artifact on its way."""

    task: Task
    places: _Places
    found: Found | None = None
    states: dict[_Key, OutputState] = field(default_factory=dict)
    files: dict[_Key, File] = field(default_factory=dict)
    error: Error | None = None

    @property
    def name(self) -> str:
        return str(self.found.resolved.reference) if self.found else self.task.label

    @property
    def request(self) -> PullOptions:
        return self.task.request

    @property
    def payloads(self) -> tuple[Payload, ...]:
        return self.found.payloads if self.found else ()

    @property
    def artifact(self) -> Found:
        assert self.found is not None, "a job that is placed was found"
        return self.found

    def place(self, payload: Payload, status: Literal["fetched", "unchanged"]) -> None:
        """A payload is at its place now."""
        self.files[_key(payload)] = File(
            self.places.of(payload).path(payload.name),
            payload.layer,
            self.artifact.resolved.reference,
            status,
            self.artifact.kind,
            is_directory=payload.unpacking is not None,
            is_replaced=status == "fetched" and self.states.get(_key(payload)) in (OutputState.DIFFERENT, OutputState.UNKNOWN),
        )

    def wish(self, payload: Payload) -> OutputFile:
        return OutputFile(payload.name, payload.layer, self.name, payload.unpacking)


def pull(client: Session, wanted: Sequence[Wanted | Failed], request: PullOptions) -> Pulled:
    """Fetch all of them into one directory.

    Args:
        wanted: with those that could not even be read, so that each has its place in the result.

    Returns:
        What succeeded and what failed; nothing is raised for a single artifact.
    """
    return pull_tasks(client, [Task(one, request, one.reference if isinstance(one, Failed) else str(one.reference)) for one in wanted])


def pull_tasks(client: Session, tasks: Sequence[Task]) -> Pulled:
    """Fetch all of them, each to its own place; where two clash, nothing is fetched at all."""
    done = pull_each(client, tasks, together=True)
    return Pulled(
        tuple(file for one in done for file in one.files),
        tuple(Failed(task.label, one.error) for one, task in zip(done, tasks, strict=True) if one.error is not None),
        tuple(one.resolved for one in done if one.resolved is not None),
    )


def pull_each(
    client: Session, tasks: Sequence[Task], *, together: bool, is_rehearsal: bool = False, kept: Sequence[Path] = ()
) -> list[Done]:
    """Fetch all of them, each to its own place.

    Args:
        together: where two clash, nothing is fetched at all; otherwise only those two fail.
        is_rehearsal: everything but the fetching: the files are those that there would be.
        kept: files that nothing may take the place of, whatever a publisher calls its own.

    Returns:
        What became of each, in their order; nothing is raised for a single artifact.
    """
    client.fetches = not is_rehearsal
    if len(tasks) > 1:
        prepare()
    with ExitStack() as stack:
        destinations: dict[Path, Destination] = {}

        def destination(root: Path) -> Destination:
            if root not in destinations:
                destinations[root] = stack.enter_context(Destination(root))
            return destinations[root]

        jobs = []
        for task in tasks:
            root = task.request.destination
            job = _Job(task, _Places(destination(root), destination(root / (task.request.untar or ""))))
            job.error = task.artifact.error if isinstance(task.artifact, Failed) else None
            jobs.append(job)
        _pull(client, jobs, together=together, is_rehearsal=is_rehearsal, kept=kept)
    return [
        Done(
            tuple(job.files[_key(payload)] for payload in job.payloads if _key(payload) in job.files),
            job.found.resolved if job.found else None,
            job.error,
        )
        for job in jobs
    ]


def _pull(client: Session, jobs: Sequence[_Job], *, together: bool, is_rehearsal: bool, kept: Sequence[Path]) -> None:
    client.each(lambda job: _guard(job, lambda: _prepare(client, job)), [job for job in jobs if job.error is None])
    for job in jobs:
        job.error = job.error or _takes_kept(job, kept)
    ready = [job for job in jobs if job.error is None]
    client.each(lambda job: _guard(job, lambda: _look(client, job)), ready)
    _refuse_clashes(ready, together=together)
    # What two of them want under one name is the same content by now: it is placed once.
    tasks: dict[tuple[Path, _Key], tuple[_Job, Payload]] = {}
    for job in ready:
        for payload in job.payloads if job.error is None else ():
            tasks.setdefault(job.places.key(payload), (job, payload))
    if is_rehearsal:
        for job, payload in tasks.values():
            job.place(payload, "unchanged" if job.states.get(_key(payload)) is OutputState.SAME else "fetched")
    else:
        # All of it: then the cache holds the artifact whole, config included, and other tools can copy it from there.
        whole = [job for job in ready if job.error is None and job.request.choice.all_layers]
        client.each(lambda job: _guard(job, lambda: _cache_config(client, job)), whole, hosts=2)
        are_small = all(payload.layer.size < BESIDE_FROM for _, payload in tasks.values())
        client.each(lambda task: _guard(task[0], lambda: _fetch(client, *task)), list(tasks.values()), hosts=2 if are_small else 1)
    for job in ready:
        for payload in job.payloads:
            first, _ = tasks.get(job.places.key(payload), (job, payload))
            if first is job or job.error is not None:
                continue
            if payload.unpacking is not None and not is_rehearsal:
                # The same archive, but perhaps asked for as another version than the one that it holds.
                job.states[_key(payload)] = OutputState.UNKNOWN
                _guard(job, lambda job=job, payload=payload: _fetch(client, job, payload))  # type: ignore[misc]
                continue
            job.error = first.error
            if first.error is None:
                job.place(payload, "unchanged")


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


def _prepare(client: Session, job: _Job) -> None:
    artifact = job.task.artifact
    assert not isinstance(artifact, Failed), "what could not be read is not prepared"
    job.found = artifact if isinstance(artifact, Found) else find(client, artifact, job.request)


def find(client: Session, wanted: Wanted, request: PullOptions) -> Found:
    """From what is wanted to the layers and their names.

    Raises:
        Error: it does not exist, or is not what the request asks for.
    """
    resolved = resolve(client, wanted, skip_missing=request.skip_missing)
    if request.gate is not None:
        request.gate(client, resolved)
    return found(client, resolved, request)


def found(client: Session, resolved: Resolved, request: PullOptions) -> Found:
    """From a manifest to the layers that are wanted, and their names.

    Raises:
        Error: it is not what the request asks for.
    """
    manifest = artifact(client, resolved, request.choice, request.platform)
    reference = resolved.reference
    what = str(replace(reference, digest=None) if reference.tag else reference)
    selection = select(manifest, request.choice, name=base_name(reference.repository), tag=reference.tag, what=what)
    for warning in selection.warnings:
        client.progress.warn(warning)
    payloads = selection.payloads
    if request.untar is not None:
        payloads = unpacked(selection, manifest, repository=reference.repository, tag=reference.tag)
    if request.below:
        payloads = tuple(payload._replace(name=f"{request.below}/{payload.name}") for payload in payloads)
    return Found(resolved, manifest, selection.kind, payloads)


def _look(client: Session, job: _Job) -> None:
    """Compare with what is there already; a directory as far as the cache has its archive."""
    for payload in job.payloads:
        destination, layer = job.places.of(payload), payload.layer
        destination.check(payload.name)
        open_blob = partial(client.cache.open, layer.digest) if payload.unpacking is not None and client.cache.has(layer) else None
        try:
            state = destination.state(job.wish(payload), open_blob)
        except (IntegrityError, PolicyError):  # of the archive: that is said when it is unpacked
            state = OutputState.UNKNOWN
        job.states[_key(payload)] = state
        if state is OutputState.DIFFERENT and not job.request.force:
            raise _differs(payload, destination.path(payload.name))
        if state is OutputState.DIFFERENT and payload.unpacking is not None:
            destination.refuse_foreign(job.wish(payload), partial(unknown, client, job.artifact))


def _differs(payload: Payload, path: Path) -> StorageError:
    if payload.unpacking is None:
        return StorageError(f"a different file is at `{path}` already", code="file-differs", path=str(path))
    hint = "`--force` replaces it where marfetch created it; `--destination` takes another directory"
    return StorageError(f"`{path}` is there already and differs", code="file-differs", hint=hint, path=str(path))


def _takes_kept(job: _Job, kept: Sequence[Path]) -> StorageError | None:
    for payload in job.payloads:
        for path in kept:
            if job.places.of(payload).takes(payload.name, path):
                return StorageError(
                    f"`{payload.name}` of `{job.name}` would take the place of `{path}`",
                    code="name-clash",
                    hint="give it another `destination`; where it is no archive, a publisher has no reason for such a name: tell them",
                    path=str(path),
                )
    return None


def _refuse_clashes(jobs: Sequence[_Job], *, together: bool) -> None:
    """Where names clash, nothing of those that go together is fetched at all: neither the clashing ones nor the others."""
    candidates = [job for job in jobs if job.payloads]
    clashes = find_clashes([(job.places.of(payload), job.wish(payload)) for job in candidates for payload in job.payloads])
    for job in candidates:
        if job.error is None and job.name in clashes:
            job.error = clashes[job.name]
    if together and any(job.error is not None for job in candidates):
        for job in candidates:
            if job.error is None:
                job.error = StorageError(
                    f"`{job.name}` was left out, since names of the same call clash",
                    code="not-fetched",
                    reference=job.name,
                )


def _fetch(client: Session, job: _Job, payload: Payload) -> None:
    """One layer: into the cache, then to its place."""
    destination = job.places.of(payload)
    if job.states.get(_key(payload)) is OutputState.SAME:
        destination.tidy(job.wish(payload))
        job.place(payload, "unchanged")
        return
    for last in (False, True):
        try:
            if payload.unpacking is None:
                _place(client, destination, job, job.wish(payload), force=job.request.force)
                is_new = True
            else:
                is_new = _unpack(client, destination, job, payload, force=job.request.force)
        except _DamagedError as error:
            # What lay in the cache is not what its name says: fetch it anew, once.
            client.cache.drop(payload.layer.digest, error.cause.message)
            if last:
                raise error.cause from error
        else:
            job.place(payload, "fetched" if is_new else "unchanged")
            return


class _DamagedError(Exception):
    """The cache gave wrong bytes."""

    def __init__(self, cause: IntegrityError) -> None:
        super().__init__(cause.message)
        self.cause = cause


def _place(client: Session, destination: Destination, job: _Job, wish: OutputFile, *, force: bool) -> None:
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


def _unpack(client: Session, destination: Destination, job: _Job, payload: Payload, *, force: bool) -> bool:
    """Bring an archive into the cache and unpack it from there; False where its directory is there already."""
    layer, wish = payload.layer, job.wish(payload)
    _cache(client, job, layer, payload.name)
    open_blob = partial(client.cache.open, layer.digest)
    try:
        if job.states.get(_key(payload)) is OutputState.UNKNOWN:
            state = destination.state(wish, open_blob)
            if state is OutputState.SAME:
                destination.tidy(wish)
                return False
            if state is OutputState.DIFFERENT and not force:
                raise _differs(payload, destination.path(payload.name))
        known = partial(unknown, client, job.artifact)
        destination.put(wish, open_blob, force=force, check=client.budget.check, unknown=known)
    except IntegrityError as error:
        if error.code == "malformed":  # the archive itself, whose bytes are the right ones
            raise
        raise _DamagedError(error) from error
    return True


def _cache(client: Session, job: _Job, layer: Descriptor, name: str, *, beside: Sink | None = None) -> None:
    """Bring a layer into the cache unless it is there."""
    reference = job.artifact.resolved.reference
    if client.options.offline and not client.cache.has(layer) and layer.digest not in WELL_KNOWN:
        raise offline_error(reference)
    copy(job.artifact.resolved.source, client.cache, reference, layer, name=name, progress=client.progress, beside=beside)


def _cache_config(client: Session, job: _Job) -> None:
    if not client.options.offline:
        _cache(client, job, job.artifact.manifest.config, "config")
