"""Load a bundle into a registry or a folder: upload missing content without changing it.

The work is split into jobs. A job loads one manifest with its blobs and referrers, and runs on any machine that has the bundle. Jobs are
idempotent: they skip existing content. A job uploads a manifest only after the content that the manifest refers to.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from ..client.session import Session, SessionOptions
from ..client.workers import Answer, WorkerCache, ask, error_from_json, error_to_json, part
from ..content import Silent
from ..destination.destination import refuse_git
from ..endpoint import Preference
from ..errors import Error, InputError, PolicyError, RemoteError, StorageError
from ..files import INGEST, storage_error
from ..layout.layout import open_for_writing
from ..layout.maintenance import clear
from ..oci import Digest
from ..project.sync import Shard
from ..reference import Reference
from ..remote.registry import Registry
from ..text import counted
from .check import check_content, refuse_broken
from .format import Opened, opened
from .jobs import Job, jobs_of, whole_jobs
from .targets import FolderTarget, Loaded, LoadTarget, RegistryTarget, To

__all__ = ["Loaded", "To", "load"]


def load(
    client: Session,
    path: Path,
    to: To,
    *,
    shard: Shard | None = None,
    executor: Executor | None = None,
    gate: Callable[[Opened], None] | None = None,
) -> list[Loaded]:
    """Check a bundle or another layout, then load its content into a registry or folder. Skip incomplete artifacts of a recording.

    Args:
        shard: the share of the jobs to run; None for all jobs.
        executor: runs the jobs on other machines, which need the bundle at the same path; None to run them here.
        gate: called with the checked bundle before anything is written. It raises to prevent the load.

    Returns:
        One result per job. If a job fails, its result has the error.

    Raises:
        IntegrityError: `bundle-broken`: nothing was written.
        PolicyError: `base-missing`: nothing was written; `push-refused`; `path-refused`.
        Error: the registry failed.
    """
    if to.endpoint is not None and client.options.offline:
        raise RemoteError(f"cannot load into the registry `{to.text}`: `--offline` is set", code="offline", hint="remove `--offline`")
    with ExitStack() as stack:
        found = stack.enter_context(opened(path))
        _refuse_unfit(to)
        refuse_broken(found, check_content(found, budget=client.budget.check, progress=client.progress))
        if gate is not None:
            gate(found)
        found.contents.load()
        target = stack.enter_context(_open_target(client, to))
        jobs, left_out = (jobs_of(found.contents, found.partial), []) if found.recording is None else whole_jobs(found.contents)
        for name in left_out:
            client.progress.warn(f"skipped `{name}`: the recording has only a part of its content")
        if shard is not None:
            jobs = jobs[shard.index :: shard.count]
        _check_base(client, found, target, jobs)
        if executor is None:
            return client.each(lambda job: run_job(found, target, to, job), jobs, label="loading")
        if to.endpoint is None:
            raise InputError("`--executor` works only with a registry, not with a folder", code="usage", hint="remove `--executor`")
        config = _worker_config(client, path, to)
        with client.progress.steps("loading", len(jobs)) as steps:
            answers = ask(executor, load_part, config, [job.to_json() for job in jobs], steps.advance)
        return [loaded_from(answer, job, to) for answer, job in zip(answers, jobs, strict=True)]


def run_job(found: Opened, target: LoadTarget, to: To, job: Job) -> Loaded:
    """Run a job. If the job fails, return the error in the result."""
    try:
        return target.load(found.contents, job)
    except Error as error:
        return failed(job, to, error)


def failed(job: Job, to: To, error: Error) -> Loaded:
    """Return the result of a job that failed."""
    if error.code == "tls" and "plain http" in error.message and to.endpoint is not None and to.endpoint.registry.host.is_loopback:
        error.hint = "if the registry on this machine does not use TLS, add `--plain-http`, or run `marfetch doctor`"
    return Loaded(str(Reference(to.repository(job.repository), None, job.tags[0] if job.tags else None, job.digest)), "failed", error=error)


def _check_base(client: Session, found: Opened, target: LoadTarget, jobs: Sequence[Job]) -> None:
    """Raise if the bundle is a delta and the target lacks a blob that the delta omits."""
    base = found.record.base if found.record is not None else None
    if base is None:
        return
    names = sorted({job.repository for job in jobs})
    repositories = found.contents.current().repositories

    def missing_in(name: str) -> list[tuple[str, Digest]]:
        omitted = [blob.digest for blob in repositories[name].blobs.values() if blob.digest in found.omitted]
        return [(name, digest) for digest in target.missing_blobs(name, omitted)]

    missing = [pair for pairs in client.each(missing_in, names, label="checking", unit="repositories") for pair in pairs]
    if missing:
        name, digest = missing[0]
        raise PolicyError(
            f"`{found.path}` is a delta, and the target lacks {counted(len(missing), 'blob')} of its base bundle `{base.digest}`,"
            f" such as `{digest}` of `{name}`",
            code="base-missing",
            path=str(found.path),
            base=str(base.digest),
            missing=[str(digest) for _, digest in missing[:100]],
            rule="load a delta where its base bundle was loaded",
        )


def _refuse_unfit(to: To) -> None:
    """Raise if the target is a folder with other content than an OCI image layout. Nothing is created."""
    if to.endpoint is not None:
        return
    root = to.folder
    refuse_git(root)
    if root.exists() and not (root.is_dir() and ((root / "oci-layout").is_file() or not any(root.iterdir()))):
        raise StorageError(
            f"`{root}` is neither empty nor an OCI image layout",
            code="file-unusable",
            hint="choose an empty folder, or write a registry as `HOST[:PORT]`",
            path=str(root),
        )


@contextmanager
def _open_target(client: Session, to: To) -> Iterator[LoadTarget]:
    if to.endpoint is not None:
        registry = client.connect(to.endpoint)
        assert isinstance(registry, Registry), "only a registry has an endpoint"
        yield RegistryTarget(to, registry, client.progress)
        return
    root = to.folder
    is_new = not root.exists()
    layout = open_for_writing(root, client.budget, client.progress)
    try:
        yield FolderTarget(layout, client.progress, client.budget.check)
    except Error:
        if is_new:  # failed jobs do not raise, so this error came before any content was written
            with suppress(Error):
                clear(root)
        raise
    layout.names.flush()
    with suppress(OSError):
        (root / INGEST).rmdir()  # fails if an interrupted transfer left a partial file to resume from


# -- workers on other machines


def _worker_config(client: Session, path: Path, to: To) -> str:
    """Encode the options that a worker needs, with a random value that is unique per command.

    Credentials are not included: every worker uses the credentials on its own machine.
    """
    assert to.endpoint is not None, "workers load into registries only"
    return json.dumps(
        {
            "path": str(path.resolve()),
            "to": to.text,
            "plain": to.endpoint.registry.scheme == "http",
            "hosts": [str(host) for host in to.endpoint.data_hosts],
            "timeout": client.budget.remaining if client.options.timeout is not None else None,
            "ca": client.options.ca_file,
            "command": secrets.token_hex(8),
        }
    )


def load_part(text: str) -> str:
    """Run a batch of jobs in a worker. Input and result are strings, so that any machine can run it. It is safe to run twice.

    The worker does not check the bundle again: the coordinator has checked it, and a registry rejects a blob with a wrong digest.
    """
    config, batch = part(text)
    jobs = [Job.from_json(one) for one in batch]
    options, to = _parse_config(config)
    try:
        client, found, target = _opened.get(config)
        loaded = client.each(lambda job: run_job(found, target, to, job), jobs)
    except (Error, OSError) as error:
        failure = error if isinstance(error, Error) else storage_error(error, options["path"])
        loaded = [failed(job, to, failure) for job in jobs]
    return json.dumps([loaded_json(one) for one in loaded])


def _parse_config(config: str) -> tuple[dict[str, Any], To]:
    """Decode the result of `_worker_config` into its options and the target."""
    options = json.loads(config)
    return options, To.parse(options["to"], plain_http=options["plain"], data_hosts=options["hosts"])


def _open(config: str, stack: ExitStack) -> tuple[Session, Opened, LoadTarget]:
    options, to = _parse_config(config)
    client = stack.enter_context(
        Session(SessionOptions(Preference(), timeout=options["timeout"], ca_file=options["ca"], notice=False), Silent())
    )
    found = stack.enter_context(opened(Path(options["path"])))
    found.contents.load()
    return client, found, stack.enter_context(_open_target(client, to))


_opened: WorkerCache[tuple[Session, Opened, LoadTarget]] = WorkerCache(_open)
"""A cache in each worker for the session, the open bundle and the target."""


def loaded_json(one: Loaded) -> list[object]:
    """Encode a worker's result for one job, for `loaded_from`."""
    error = error_to_json(one.error) if one.error else None
    return [one.reference, one.outcome, one.blobs, one.size, error, one.kind, one.warning]


def loaded_from(answer: Answer, job: Job, to: To) -> Loaded:
    """Decode a worker's result for one job."""
    if isinstance(answer, Error):
        return failed(job, to, answer)
    reference, outcome, blobs, size, error, kind, warning = cast("list[Any]", answer)
    return Loaded(reference, outcome, blobs, size, error_from_json(error) if error else None, kind, warning)
