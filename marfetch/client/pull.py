"""Download several artifacts to files and directories with their final names.

Before the first blob is requested, all artifacts are resolved, and their file names are checked for clashes. Blobs are then downloaded
in parallel into the cache and copied to their destinations. A failure of one artifact does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..artifact.filename import safe_title
from ..artifact.kinds import Kind, kind_of
from ..artifact.payload import Choice, Payload, base_name, select, unpacked
from ..content import BESIDE_FROM
from ..destination.destination import Destination, OutputFile, OutputState, find_clashes
from ..errors import Error, IntegrityError, PolicyError, StorageError
from ..files import prepare, storage_error
from ..oci import Descriptor, Digest, Platform
from ..reference import Reference
from .resolve import Found, Resolved, Wanted, artifact, resolve
from .session import Repository, Session

if TYPE_CHECKING:
    from .fetch import Gate


class PullOptions(NamedTuple):
    """The options of a pull.

    Attributes:
        destination: the output directory; created with the first file.
        choice: which layers to download.
        platform: platform to pick from a multi-platform index.
        force: replace files that differ.
        skip_missing: skip versions whose manifest is missing.
        untar: directory for unpacked archives, relative to the destination as in Helm; None: do not unpack archives.
        below: subdirectory of the destination for the files of a referrer, with `/` as separator; empty: use the destination itself.
        gate: called with each artifact before its payload is downloaded; raises an error to refuse the artifact.
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
    """Return options that write a referrer's files to `NAME.referrers/HEX/TITLE`, so that they cannot clash with other files."""
    return PullOptions(destination, Choice(all_layers=True, titles=True), force=force, below=f"{name}.referrers/{digest.encoded}")


class Task(NamedTuple):
    """One artifact of a pull, with its own options.

    Attributes:
        artifact: the artifact to download, which may already be resolved or have failed.
        request: the options for this artifact.
        label: the name of the artifact in errors.
    """

    artifact: Wanted | Found | Failed
    request: PullOptions
    label: str


class File(NamedTuple):
    """One written or unchanged file, or the directory of an unpacked archive.

    Attributes:
        reference: the artifact's reference, pinned to the digest.
        status: `unchanged` if the destination already had the same content.
        is_directory: whether this is the directory of an unpacked archive.
        is_replaced: whether it replaced different content.
    """

    path: Path
    layer: Descriptor
    reference: Reference
    status: Literal["fetched", "unchanged"]
    kind: Kind
    is_directory: bool = False
    is_replaced: bool = False


class Done(NamedTuple):
    """The result of one task.

    Attributes:
        error: why the task failed; None if all files were written.
    """

    files: tuple[File, ...]
    resolved: Resolved | None
    error: Error | None


class Failed(NamedTuple):
    """One artifact that could not be downloaded, and why."""

    reference: str
    error: Error


class Pulled(NamedTuple):
    """The result of a pull, in the order of the request.

    Attributes:
        files: all written or unchanged files.
        failed: the artifacts that failed.
        resolved: the artifacts that could be resolved.
    """

    files: tuple[File, ...]
    failed: tuple[Failed, ...]
    resolved: tuple[Resolved, ...]


__all__ = ["Failed", "File", "PullOptions", "Pulled", "find", "found", "pull", "pull_each", "pull_to_file"]


class _Job:
    """The state of one task."""

    def __init__(self, task: Task, files: Destination, directories: Destination) -> None:
        self.task = task
        self.files, self.directories = files, directories
        self.found: Found | None = None
        self.items: list[_Item] = []
        self.error = task.artifact.error if isinstance(task.artifact, Failed) else None

    @property
    def name(self) -> str:
        return str(self.found.resolved.reference) if self.found else self.task.label

    @property
    def force(self) -> bool:
        return self.task.request.force

    @property
    def artifact(self) -> Found:
        assert self.found is not None, "only a found artifact has payloads"
        return self.found

    @property
    def repository(self) -> Repository:
        return self.artifact.resolved.repository


class _Item:
    """The state of one payload.

    Attributes:
        state: what existed at the output's path before the pull.
        file: the result, once the payload is written.
    """

    def __init__(self, job: _Job, payload: Payload, destination: Destination) -> None:
        self.job, self.payload, self.destination = job, payload, destination
        self.state = OutputState.ABSENT
        self.file: File | None = None

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
        """A key that identifies the payload's output among all outputs of the pull."""
        return self.destination.root, self.is_directory, self.payload.name

    def place(self, status: Literal["fetched", "unchanged"]) -> None:
        """Record the result of this payload."""
        artifact = self.job.artifact
        is_replaced = status == "fetched" and self.state in (OutputState.DIFFERENT, OutputState.UNKNOWN)
        reference, layer = artifact.resolved.reference, self.payload.layer
        self.file = File(self.path, layer, reference, status, artifact.kind, self.is_directory, is_replaced)


def pull(client: Session, wanted: Sequence[Wanted | Failed], request: PullOptions) -> Pulled:
    """Download artifacts into one directory.

    Args:
        wanted: the artifacts. References that could not be parsed are included as `Failed`, so that the result keeps the order.

    Returns:
        The files and failures. Errors of single artifacts are not raised.
    """
    return pull_tasks(client, [Task(one, request, one.reference if isinstance(one, Failed) else str(one.reference)) for one in wanted])


def pull_to_file(client: Session, wanted: Wanted | Failed, request: PullOptions, output: str) -> Pulled:
    """Download the only payload of an artifact to a file or a stream. A stream gets bytes only after all of them are verified."""
    from ..destination.stream import open_stream, stream_path, verified_blob  # late: needed only for `--output`

    path, file_path = stream_path(output), Path(output)
    request = request._replace(choice=request.choice._replace(output=file_path.name))
    if path is None:
        # `Destination` refuses a symbolic link, so resolve it here: the user means the directory that the link leads to.
        parent = file_path.parent.resolve() if file_path.parent.is_symlink() else file_path.parent
        return pull(client, [wanted], request._replace(destination=parent))
    try:
        if isinstance(wanted, Failed):
            raise wanted.error
        with open_stream(path, client.budget) as stream:
            client.fetches = True
            artifact = find(client, wanted, request)
            layer, repository = artifact.payloads[0].layer, artifact.resolved.repository
            with repository.use(layer, partial(verified_blob, layer, partial(client.cache.open, layer.digest))) as blob:
                stream.send(blob, layer)
    except Error as error:
        return Pulled((), (Failed(wanted.reference if isinstance(wanted, Failed) else str(wanted.reference), error),), ())
    file = File(path, layer, artifact.resolved.reference, "fetched", artifact.kind)
    return Pulled((file,), (), (artifact.resolved,))


def pull_tasks(client: Session, tasks: Sequence[Task]) -> Pulled:
    """Download artifacts, each to its own destination. If two file names clash, download none."""
    done = pull_each(client, tasks, together=True)
    return Pulled(
        tuple(file for one in done for file in one.files),
        tuple(Failed(task.label, one.error) for one, task in zip(done, tasks, strict=True) if one.error is not None),
        tuple(one.resolved for one in done if one.resolved is not None),
    )


def pull_each(
    client: Session, tasks: Sequence[Task], *, together: bool, is_rehearsal: bool = False, kept: Sequence[Path] = ()
) -> list[Done]:
    """Download artifacts, each to its own destination.

    Args:
        together: whether to download nothing if two file names clash; if False, only the artifacts that clash fail.
        is_rehearsal: whether to return the files without downloading them (a dry run).
        kept: paths that no payload may overwrite.

    Returns:
        One result per task, in order. Errors of single artifacts are not raised.
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
            jobs.append(_Job(task, destination(root), destination(root / (task.request.untar or ""))))
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
    client.each(lambda job: _guard(job, lambda: _prepare(client, job)), [job for job in jobs if job.error is None], label="resolving")
    for job in jobs:
        job.error = job.error or _takes_kept(job, kept)
    ready = [job for job in jobs if job.error is None]
    client.each(lambda job: _guard(job, lambda: _look(client, job)), ready, label="comparing")
    _refuse_clashes(ready, together=together)
    # Items with the same key have the same content (checked above), so write it once.
    first: dict[tuple[Path, bool, str], _Item] = {}
    for job in ready:
        for item in job.items if job.error is None else ():
            first.setdefault(item.key, item)
    if is_rehearsal:
        for item in first.values():
            item.place("unchanged" if item.state is OutputState.SAME else "fetched")
    else:
        # With all layers, also cache the config, so that other tools can copy the complete artifact from the cache.
        whole = [job for job in ready if job.error is None and job.task.request.choice.all_layers and not client.options.offline]
        client.each(lambda job: _guard(job, lambda: job.repository.ensure(job.artifact.manifest.config, name="config")), whole, hosts=2)
        are_small = all(item.payload.layer.size < BESIDE_FROM for item in first.values())
        client.each(
            lambda item: _guard(item.job, lambda: _fetch(client, item)),
            list(first.values()),
            hosts=2 if are_small else 1,
            label="downloading",
            unit="files",
        )
    for item in (item for job in ready for item in job.items):
        other = first.get(item.key, item)
        if other.job is item.job or item.job.error is not None:
            continue
        if item.is_directory and not is_rehearsal:
            # Another reference to the same archive. Its tag may not match the version in the chart, so check the archive again.
            item.state = OutputState.UNKNOWN
            _guard(item.job, lambda item=item: _fetch(client, item))  # type: ignore[misc]
            continue
        item.job.error = other.job.error
        if other.job.error is None:
            item.place("unchanged")


def _guard(job: _Job, step: Callable[[], None]) -> None:
    """Run a step of one job and record its error, so that the other jobs continue."""
    try:
        step()
    except Error as error:
        if job.error is None:
            job.error = error
    except OSError as error:  # for example, too many open files
        if job.error is None:
            job.error = storage_error(error, str(error.filename or job.name))


def _prepare(client: Session, job: _Job) -> None:
    artifact = job.task.artifact
    assert not isinstance(artifact, Failed), "failed tasks are filtered out"
    job.found = artifact if isinstance(artifact, Found) else find(client, artifact, job.task.request)
    job.items = [_Item(job, one, job.files if one.unpacking is None else job.directories) for one in job.found.payloads]


def find(client: Session, wanted: Wanted, request: PullOptions) -> Found:
    """Resolve an artifact, check it with the gate, and select its payloads.

    Raises:
        Error: it does not exist or does not match the options.
    """
    resolved = resolve(client, wanted._replace(choice=request.choice), skip_missing=request.skip_missing)
    if request.gate is not None:
        request.gate(client, resolved)
    return found(client, resolved, request)


def found(client: Session, resolved: Resolved, request: PullOptions) -> Found:
    """Select the payloads of a resolved artifact, and name their files.

    Raises:
        Error: the artifact does not match the options.
    """
    manifest = artifact(resolved, request.choice, request.platform)
    reference = resolved.reference
    what = reference.shown
    if request.below and not manifest.layers:  # such a referrer has only annotations
        client.progress.warn(f"`{what}` has no layers, so there is nothing to save")
        return Found(resolved, manifest, kind_of(manifest), ())
    selection = select(manifest, request.choice, name=base_name(reference.repository), tag=reference.tag, what=what)
    for warning in selection.warnings:
        client.progress.warn(warning)
    payloads = selection.payloads
    if request.untar is not None:
        payloads = unpacked(selection, manifest, repository=reference.repository, tag=reference.tag)
    if request.below:
        safe_title(request.below.partition("/")[0])
        payloads = tuple(payload._replace(name=f"{request.below}/{payload.name}") for payload in payloads)
    return Found(resolved, manifest, selection.kind, payloads)


def _look(client: Session, job: _Job) -> None:
    """Compare the payloads with existing files. A directory can be compared only if its archive is cached."""
    for item in job.items:
        destination, layer = item.destination, item.payload.layer
        destination.check(item.payload.name)
        open_blob = partial(client.cache.open, layer.digest) if item.is_directory and client.cache.has(layer) else None
        try:
            item.state = destination.state(item.output, open_blob)
        except (IntegrityError, PolicyError):  # the archive is bad: unpacking reports the error
            item.state = OutputState.UNKNOWN
        if item.state is OutputState.DIFFERENT and not job.force:
            raise _differs(item)
        if item.state is OutputState.DIFFERENT and item.is_directory:
            from .earlier import unknown  # late: needed only to unpack archives

            destination.refuse_foreign(item.output, partial(unknown, client, job.artifact))


def _differs(item: _Item) -> StorageError:
    path = item.path
    if not item.is_directory:
        return StorageError(f"`{path}` already exists with different content", code="file-differs", path=str(path))
    hint = "`--force` replaces a directory that marfetch created; `--destination` chooses another directory"
    return StorageError(f"the directory `{path}` already exists with different content", code="file-differs", hint=hint, path=str(path))


def _takes_kept(job: _Job, kept: Sequence[Path]) -> StorageError | None:
    for item in job.items:
        for path in kept:
            if item.destination.takes(item.payload.name, path):
                return StorageError(
                    f"`{item.payload.name}` of `{job.name}` would overwrite `{path}`",
                    code="name-clash",
                    hint="set another `destination`; if the file is not an archive, also report its name to the publisher",
                    path=str(path),
                )
    return None


def _refuse_clashes(jobs: Sequence[_Job], *, together: bool) -> None:
    """Set the error of all jobs whose file names clash; with `together`, of all jobs if any two clash."""
    candidates = [job for job in jobs if job.items]
    clashes = find_clashes([(item.destination, item.output) for job in candidates for item in job.items])
    for job in candidates:
        if job.error is None and job.name in clashes:
            job.error = clashes[job.name]
    if together and any(job.error is not None for job in candidates):
        for job in candidates:
            if job.error is None:
                job.error = StorageError(
                    f"`{job.name}` was skipped because another file of this call clashes or differs",
                    code="not-fetched",
                    reference=job.name,
                )


def _fetch(client: Session, item: _Item) -> None:
    """Download one layer into the cache and write it to its destination."""
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
    """Download a blob into the cache, and copy it to its destination. A large blob is written to both at the same time."""
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
    """Unpack a cached archive; return False if its directory is already up to date."""
    destination, open_blob = item.destination, partial(client.cache.open, item.payload.layer.digest)
    if item.state is OutputState.UNKNOWN:
        state = destination.state(item.output, open_blob)
        if state is OutputState.SAME:
            return False
        if state is OutputState.DIFFERENT and not item.job.force:
            raise _differs(item)
    from .earlier import unknown  # late: needed only to unpack archives

    known = partial(unknown, client, item.job.artifact)
    destination.put(item.output, open_blob, force=item.job.force, check=client.budget.check, unknown=known)
    return True
