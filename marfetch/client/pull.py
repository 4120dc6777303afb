"""Pulling: several artifacts at once, from what is wanted to files and directories with their final names.

Everything is resolved first, and names are compared before the first blob is asked for; then blobs go side by side into the cache and
from there to their places. A failure of one artifact does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from ..artifact.kinds import Kind
from ..artifact.payload import Choice, Payload, base_name, select, unpacked
from ..content import BESIDE_FROM
from ..destination.destination import Destination, OutputFile, OutputState, find_clashes
from ..errors import Error, IntegrityError, PolicyError, StorageError
from ..files import prepare, storage_error
from ..oci import Descriptor, Digest, Platform
from ..reference import Reference
from .earlier import unknown
from .fetch import Gate
from .resolve import Found, Resolved, Wanted, artifact, resolve
from .session import Repository, Session

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


@dataclass(slots=True)
class _Job:
    """One wanted artifact on its way."""

    task: Task
    files: Destination
    directories: Destination
    found: Found | None = None
    items: list[_Item] = field(default_factory=list)
    error: Error | None = None

    @property
    def name(self) -> str:
        return str(self.found.resolved.reference) if self.found else self.task.label

    @property
    def force(self) -> bool:
        return self.task.request.force

    @property
    def artifact(self) -> Found:
        assert self.found is not None, "a job that is placed was found"
        return self.found

    @property
    def repository(self) -> Repository:
        return self.artifact.resolved.repository


@dataclass(slots=True, eq=False)
class _Item:
    """One payload on its way to its place.

    Attributes:
        state: of what was there before.
        file: what is there now.
    """

    job: _Job
    payload: Payload
    destination: Destination
    state: OutputState = OutputState.ABSENT
    file: File | None = None

    @property
    def is_directory(self) -> bool:
        return self.payload.unpacking is not None

    @property
    def path(self) -> Path:
        return self.destination.path(self.payload.name)

    @property
    def output(self) -> OutputFile:
        return OutputFile(self.payload.name, self.payload.layer, self.job.name, self.payload.unpacking)

    @property
    def key(self) -> tuple[Path, bool, str]:
        """What tells the payloads of a call apart."""
        return self.destination.root, self.is_directory, self.payload.name

    def place(self, status: Literal["fetched", "unchanged"]) -> None:
        """It is at its place now."""
        artifact = self.job.artifact
        is_replaced = status == "fetched" and self.state in (OutputState.DIFFERENT, OutputState.UNKNOWN)
        reference, layer = artifact.resolved.reference, self.payload.layer
        self.file = File(self.path, layer, reference, status, artifact.kind, self.is_directory, is_replaced)


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
            error = task.artifact.error if isinstance(task.artifact, Failed) else None
            jobs.append(_Job(task, destination(root), destination(root / (task.request.untar or "")), error=error))
        _pull(client, jobs, together=together, is_rehearsal=is_rehearsal, kept=kept)
    return [
        Done(
            tuple(item.file for item in job.items if item.file is not None),
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
    first: dict[tuple[Path, bool, str], _Item] = {}
    for job in ready:
        for item in job.items if job.error is None else ():
            first.setdefault(item.key, item)
    if is_rehearsal:
        for item in first.values():
            item.place("unchanged" if item.state is OutputState.SAME else "fetched")
    else:
        # All of it: then the cache holds the artifact whole, config included, and other tools can copy it from there.
        whole = [job for job in ready if job.error is None and job.task.request.choice.all_layers and not client.options.offline]
        client.each(lambda job: _guard(job, lambda: job.repository.ensure(job.artifact.manifest.config, name="config")), whole, hosts=2)
        are_small = all(item.payload.layer.size < BESIDE_FROM for item in first.values())
        client.each(lambda item: _guard(item.job, lambda: _fetch(client, item)), list(first.values()), hosts=2 if are_small else 1)
    for item in (item for job in ready for item in job.items):
        other = first.get(item.key, item)
        if other.job is item.job or item.job.error is not None:
            continue
        if item.is_directory and not is_rehearsal:
            # The same archive, but perhaps asked for as another version than the one that it holds.
            item.state = OutputState.UNKNOWN
            _guard(item.job, lambda item=item: _fetch(client, item))  # type: ignore[misc]
            continue
        item.job.error = other.job.error
        if other.job.error is None:
            item.place("unchanged")


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
    job.found = artifact if isinstance(artifact, Found) else find(client, artifact, job.task.request)
    job.items = [_Item(job, one, job.files if one.unpacking is None else job.directories) for one in job.found.payloads]


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
    manifest = artifact(resolved, request.choice, request.platform)
    reference = resolved.reference
    what = reference.shown
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
    for item in job.items:
        destination, layer = item.destination, item.payload.layer
        destination.check(item.payload.name)
        open_blob = partial(client.cache.open, layer.digest) if item.is_directory and client.cache.has(layer) else None
        try:
            item.state = destination.state(item.output, open_blob)
        except (IntegrityError, PolicyError):  # of the archive: that is said when it is unpacked
            item.state = OutputState.UNKNOWN
        if item.state is OutputState.DIFFERENT and not job.force:
            raise _differs(item)
        if item.state is OutputState.DIFFERENT and item.is_directory:
            destination.refuse_foreign(item.output, partial(unknown, client, job.artifact))


def _differs(item: _Item) -> StorageError:
    path = item.path
    if not item.is_directory:
        return StorageError(f"a different file is at `{path}` already", code="file-differs", path=str(path))
    hint = "`--force` replaces it where marfetch created it; `--destination` takes another directory"
    return StorageError(f"`{path}` is there already and differs", code="file-differs", hint=hint, path=str(path))


def _takes_kept(job: _Job, kept: Sequence[Path]) -> StorageError | None:
    for item in job.items:
        for path in kept:
            if item.destination.takes(item.payload.name, path):
                return StorageError(
                    f"`{item.payload.name}` of `{job.name}` would take the place of `{path}`",
                    code="name-clash",
                    hint="give it another `destination`; where it is no archive, a publisher has no reason for such a name: tell them",
                    path=str(path),
                )
    return None


def _refuse_clashes(jobs: Sequence[_Job], *, together: bool) -> None:
    """Where names clash, nothing of those that go together is fetched at all: neither the clashing ones nor the others."""
    candidates = [job for job in jobs if job.items]
    clashes = find_clashes([(item.destination, item.output) for job in candidates for item in job.items])
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


def _fetch(client: Session, item: _Item) -> None:
    """One layer: into the cache, then to its place."""
    if item.state is OutputState.SAME:
        is_new = False
    elif item.is_directory:
        is_new = item.job.repository.use(item.payload.layer, lambda: _unpack(client, item), name=item.payload.name)
    else:
        is_new = True
        _place(client, item)
    if not is_new:
        item.destination.tidy(item.output)
    item.place("fetched" if is_new else "unchanged")


def _place(client: Session, item: _Item) -> None:
    """Bring a blob into the cache and from there to its place; a large one goes to both at once."""
    layer, name, repository = item.payload.layer, item.payload.name, item.job.repository
    if layer.size >= BESIDE_FROM and not client.cache.has(layer):
        with item.destination.begin(item.output) as placing:
            repository.ensure(layer, name=name, beside=placing)
            if placing.held == layer.size:
                placing.publish(force=item.job.force)
                return
    open_blob = partial(client.cache.open, layer.digest)
    repository.use(layer, lambda: item.destination.put(item.output, open_blob, force=item.job.force), name=name)


def _unpack(client: Session, item: _Item) -> bool:
    """Unpack an archive out of the cache; False where its directory is there already."""
    destination, open_blob = item.destination, partial(client.cache.open, item.payload.layer.digest)
    if item.state is OutputState.UNKNOWN:
        state = destination.state(item.output, open_blob)
        if state is OutputState.SAME:
            return False
        if state is OutputState.DIFFERENT and not item.job.force:
            raise _differs(item)
    known = partial(unknown, client, item.job.artifact)
    destination.put(item.output, open_blob, force=item.job.force, check=client.budget.check, unknown=known)
    return True
