"""From a bundle into a registry of the user's, or into a folder: only what is missing there, in the bytes in which it came.

The work is cut into jobs, one for each manifest that has a name, with all that belongs to it. A job may be done twice, on any machine that
has the bundle: what is there already is not sent again, and a manifest goes after everything that it names.
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
from ..client.workers import Answer, Quiet, WorkerCache, ask, error_from_json, error_to_json, part
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
from .check import check_bundle, check_layout, refuse_broken
from .format import Opened, opened
from .targets import InFolder, InRegistry, Job, Loaded, LoadTarget, To, jobs_of

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
    """Check a bundle, or another layout, and bring what is in it to another place.

    Args:
        shard: the jobs that this process takes care of.
        executor: does the jobs elsewhere; it gets nothing but texts. Each machine needs the bundle under the same path.
        gate: is asked once the bundle is known to be whole, and raises to keep all of it out, as a verification does.

    Returns:
        One for each job; nothing is raised for a single one.

    Raises:
        IntegrityError: `bundle-broken`: nothing was sent.
        PolicyError: `base-missing`: nothing was sent; `push-refused`; `path-refused`.
        Error: the registry failed.
    """
    if to.endpoint is not None and client.options.offline:
        raise RemoteError(f"`{to.text}` is a registry, and `--offline` asks nobody", code="offline")
    with ExitStack() as stack:
        found = stack.enter_context(opened(path))
        _refuse_unfit(to)
        check = check_bundle if found.is_bundle else check_layout
        refuse_broken(found, check(found, budget=client.budget.check))
        if gate is not None:
            gate(found)
        found.contents.load()
        place = stack.enter_context(_place(client, to))
        jobs = jobs_of(found.contents)
        if shard is not None:
            jobs = jobs[shard.index :: shard.count]
        _check_base(client, found, place, jobs)
        if executor is None:
            return client.each(lambda job: done(found, place, to, job), jobs)
        if to.endpoint is None:
            raise InputError("`--executor` is for registries; a folder is filled by one machine", code="usage")
        shared = _shared(client, path, to)
        answers = ask(executor, load_part, shared, [[job.repository, str(job.digest), list(job.tags)] for job in jobs])
        return [_loaded(answer, job, to) for answer, job in zip(answers, jobs, strict=True)]


def done(found: Opened, place: LoadTarget, to: To, job: Job) -> Loaded:
    """Do a job; what fails is told in the result."""
    try:
        return place.take(found.contents, job)
    except Error as error:
        if error.code == "tls" and to.endpoint is not None and to.endpoint.registry.host.is_loopback:
            error.hint = "a registry on this machine that speaks without TLS: add `--plain-http`"
        return _failed(job, to, error)


def _failed(job: Job, to: To, error: Error) -> Loaded:
    return Loaded(str(Reference(to.repository(job.repository), None, job.tags[0] if job.tags else None, job.digest)), "failed", error=error)


def _check_base(client: Session, found: Opened, place: LoadTarget, jobs: Sequence[Job]) -> None:
    """Refuse a delta if the target lacks its base bundle, before anything is sent."""
    base = found.record.base if found.record is not None else None
    if base is None:
        return
    names = sorted({job.repository for job in jobs})
    repositories = found.contents.current().repositories

    def lacking(name: str) -> list[tuple[str, Digest]]:
        wanted = [blob.digest for blob in repositories[name].blobs.values() if blob.digest in found.omitted]
        return [(name, digest) for digest in place.lacks(name, wanted)]

    missing = [one for several in client.each(lacking, names) for one in several]
    if missing:
        name, digest = missing[0]
        raise PolicyError(
            f"`{found.path}` goes on from the bundle `{base.digest}`, which is not there: {len(missing)} of its blobs are missing,"
            f" such as `{digest}` of `{name}`",
            code="base-missing",
            path=str(found.path),
            base=str(base.digest),
            missing=[str(digest) for _, digest in missing[:100]],
            rule="a delta goes where its base is",
        )


def _refuse_unfit(to: To) -> None:
    """Refuse a directory that contains something other than a layout, before anything is created."""
    root = to.folder
    if to.endpoint is None:
        refuse_git(root)
    if to.endpoint is None and root.exists() and not (root.is_dir() and ((root / "oci-layout").is_file() or not any(root.iterdir()))):
        raise StorageError(
            f"`{root}` is neither empty nor an OCI image layout",
            code="file-unusable",
            hint="use an empty directory, or name a registry as `HOST[:PORT]`",
            path=str(root),
        )


@contextmanager
def _place(client: Session, to: To) -> Iterator[LoadTarget]:
    if to.endpoint is not None:
        registry = client.connect(to.endpoint)
        assert isinstance(registry, Registry), "an endpoint is a registry's"
        yield InRegistry(to, registry, client.progress)
        return
    root = to.folder
    is_new = not root.exists()
    layout = open_for_writing(root, client.budget, client.progress.note)
    try:
        yield InFolder(layout, client.progress, client.budget.check)
    except Error:
        if is_new:  # what was refused left nothing in it: a job that fails does not end here
            with suppress(Error):
                clear(root)
        raise
    layout.names.flush()
    with suppress(OSError):
        (root / INGEST).rmdir()  # where a transfer was cut, something is left in it for the next run


# -- on other machines


def _shared(client: Session, path: Path, to: To) -> str:
    """What a worker has to know for all of its jobs; credentials are its own. No two commands have the same."""
    assert to.endpoint is not None, "a folder is not filled by workers"
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
    """Do some of the jobs, as a worker: a text in, a text out, so it can run anywhere, and twice.

    The process that distributes the jobs has checked the bundle, and a registry rejects blobs with a wrong digest.
    """
    shared, wanted = part(text)
    jobs = [Job(repository, Digest.parse(digest), tuple(tags)) for repository, digest, tags in wanted]
    asked, to = _asked(shared)
    try:
        client, found, place = _opened.get(shared)
        loaded = client.each(lambda job: done(found, place, to, job), jobs)
    except (Error, OSError) as error:
        failure = error if isinstance(error, Error) else storage_error(error, asked["path"])
        loaded = [_failed(job, to, failure) for job in jobs]
    return json.dumps(
        [[one.reference, one.outcome, one.blobs, one.size, error_to_json(one.error) if one.error else None] for one in loaded]
    )


def _asked(shared: str) -> tuple[dict[str, Any], To]:
    """What `_shared` has written, and where things go."""
    asked = json.loads(shared)
    return asked, To.parse(asked["to"], plain_http=asked["plain"], data_hosts=asked["hosts"])


def _open(shared: str, stack: ExitStack) -> tuple[Session, Opened, LoadTarget]:
    asked, to = _asked(shared)
    client = stack.enter_context(
        Session(SessionOptions(Preference(), timeout=asked["timeout"], ca_file=asked["ca"], notice=False), Quiet())
    )
    found = stack.enter_context(opened(Path(asked["path"])))
    found.contents.load()
    return client, found, stack.enter_context(_place(client, to))


_opened: WorkerCache[tuple[Session, Opened, LoadTarget]] = WorkerCache(_open)
"""The bundle and the registry, and who does several jobs at a time."""


def _loaded(answer: Answer, job: Job, to: To) -> Loaded:
    """Parse the result of a worker."""
    if isinstance(answer, Error):
        return _failed(job, to, answer)
    reference, outcome, blobs, size, error = cast("list[Any]", answer)
    return Loaded(reference, outcome, blobs, size, error_from_json(error) if error else None)
