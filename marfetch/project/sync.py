"""Make the files of a project match its lock. Other files are not changed.

Each item has exactly one outcome. If a tag was moved after it was locked, the item has drifted. A drifted item is not fetched
until you run `lock --upgrade`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from ..client.pull import Done, Task, pull_each, referrer_request
from ..client.resolve import Wanted
from ..client.session import Session, SessionOptions
from ..client.workers import Answer, WorkerCache, ask, error_from_json, error_to_json, part
from ..content import Silent
from ..endpoint import Preference
from ..errors import Error, InputError, LockError, StorageError
from ..files import storage_error
from ..oci import Descriptor, Digest
from .lockfile import Lock, parse_lock, read_bytes
from .locking import Images, LockResult, read_old, refuse_misfits, request_of, settle, write, writing
from .wanted import Project, read_project

Outcome: TypeAlias = Literal["fetched", "unchanged", "replaced", "drifted", "failed", "would-fetch", "would-replace"]


@dataclass(frozen=True, slots=True)
class SyncedFile:
    """A file of an item, or the directory that its archive was unpacked into.

    Attributes:
        is_directory: whether this is the directory of an unpacked archive.
        is_written: whether this run wrote it; False if it was there already.
    """

    path: Path
    layer: Descriptor
    is_directory: bool = False
    is_written: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """The outcome of one item.

    Attributes:
        reference: the pinned reference; if the item was not resolved, the reference in the project file.
        files: the files on disk; in a dry run, the files that would be written.
        error: why the item drifted or failed; None if it did neither.
        made: the directories that were created for the files.
    """

    name: str
    reference: str
    outcome: Outcome
    files: tuple[SyncedFile, ...] = ()
    error: Error | None = None
    made: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` equal shares of the items, so that several machines can divide the work.

    Attributes:
        index: the number of this shard, from 0 to `count` - 1.
        count: the number of shards.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse `I/N`, where `I` is from 1 to `N`. `0/N` means the same as `N/N`, so counting from 0 works too.

        Raises:
            InputError: `usage`.
        """
        match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
        if match is None or int(match[2]) < 1 or int(match[1]) > int(match[2]):
            raise InputError(
                f"`--shard` takes `I/N`, such as `1/4`, not `{text[:40]}`",
                code="usage",
                hint="use 1/N to N/N; 0/N equals N/N",
                text=text[:80],
            )
        return cls(int(match[1]) % int(match[2]), int(match[2]))

    def of(self, project: Project) -> Project:
        """Return the project with only the items of this shard. Items are assigned by name, whatever their order in the file."""
        names = sorted(item.name for item in project.items)[self.index :: self.count]
        chosen = set(names)
        return replace(project, items=tuple(item for item in project.items if item.name in chosen))


def sync(
    client: Session,
    project: Project,
    *,
    as_locked: bool = False,
    is_rehearsal: bool = False,
    shard: Shard | None = None,
    elsewhere: Callable[[Sequence[str]], Mapping[str, Synced]] | None = None,
) -> list[Synced]:
    """Make the files of a project match its lock.

    Args:
        as_locked: fail unless the lock matches the project file. If False, missing entries are resolved and added to the lock.
        is_rehearsal: make a dry run, which fetches no content and writes nothing.
        shard: the share of the items that this process handles; None for all items.
        elsewhere: syncs items on other machines. It is called with their names after the lock is written, and returns the outcomes.

    Returns:
        One outcome per item, in the order of the project file. If an item fails, its outcome has the error.

    Raises:
        LockError: `lock-missing` or `lock-outdated`, only with `as_locked`.
        Error: the lock cannot be read or written.
    """
    if as_locked:
        lock = read_old(project)
        refuse_misfits(project, lock)
        settled = settle(client, shard.of(project) if shard else project, lock, as_locked=True)
    elif is_rehearsal:
        settled = _settled(client, project, read_old(project), shard, "kept")
    else:
        with writing(client, project):
            lock = read_old(project)
            settled = _settled(client, project, lock, shard, "added")
            _write(project, lock, settled)
    if elsewhere is None or is_rehearsal:
        return placed(client, project, settled, is_rehearsal=is_rehearsal)
    # Do a dry run here first: only this process sees all items, so only it can find conflicts between their files.
    planned = placed(client, project, settled, is_rehearsal=True)
    done = elsewhere([one.name for one in planned if one.outcome in ("would-fetch", "would-replace")])
    return [done.get(one.name, one) for one in planned]


def _settled(client: Session, project: Project, lock: Lock | None, shard: Shard | None, images: Images) -> list[LockResult]:
    return settle(client, shard.of(project) if shard else project, lock, images=images)


def _write(project: Project, lock: Lock | None, settled: Sequence[LockResult]) -> None:
    """Write the resolved entries to the lock. Failed items and items of other shards keep their old entries."""
    done = {one.item.name for one in settled}
    entries = lock.by_name if lock else {}
    others = [LockResult(item, previous=entries.get(item.name)) for item in project.items if item.name not in done]
    write(project, [*settled, *others])


def placed(client: Session, project: Project, settled: Sequence[LockResult], *, is_rehearsal: bool = False) -> list[Synced]:
    """Download the resolved items to their destinations. If an item fails, its outcome has the error."""
    tasks: list[Task] = []
    owners: list[int] = []
    refused: dict[int, Error] = {}
    for number, one in enumerate(settled):
        if one.error is not None or one.found is None or one.entry is None:
            continue
        request = request_of(project, one.item)
        if not request.destination.resolve().is_relative_to(project.directory.resolve()):
            outside = StorageError(
                f"a symbolic link in `{request.destination}` leads out of `{project.directory}`",
                code="file-unusable",
                hint="remove the link, or move the project file to its target",
                path=str(request.destination),
            )
            refused[number] = outside
            continue
        tasks.append(Task(one.found, request, one.item.name))
        owners.append(number)
        for referrer in one.entry.referrers:
            # Use the locked digests: the registry may have other referrers now.
            reference = replace(one.found.resolved.reference, tag=None, digest=referrer.digest)
            own = referrer_request(request.destination, one.item.name, referrer.digest, force=True)
            tasks.append(Task(Wanted(reference), own, one.item.name))
            owners.append(number)
    kept = (project.path, project.lock_path)
    missing: dict[int, list[Path]] = {}
    for owner, task in zip(owners, tasks, strict=True):
        missing.setdefault(owner, []).extend(_missing(task.request.destination / task.request.below, project.directory))
    done: dict[int, list[Done]] = {}
    for owner, result in zip(owners, pull_each(client, tasks, together=False, is_rehearsal=is_rehearsal, kept=kept), strict=True):
        done.setdefault(owner, []).append(result)
    synced = [
        _synced(replace(one, error=one.error or refused.get(number)), done.get(number, []), is_rehearsal=is_rehearsal)
        for number, one in enumerate(settled)
    ]
    return [replace(one, made=tuple(path for path in missing.get(number, ()) if path.is_dir())) for number, one in enumerate(synced)]


def _missing(directory: Path, root: Path) -> Iterator[Path]:
    """Yield a directory and the directories above it, up to the root, that do not exist."""
    while directory != root and not os.path.lexists(directory):
        yield directory
        directory = directory.parent


def _synced(one: LockResult, done: Sequence[Done], *, is_rehearsal: bool) -> Synced:
    error = one.error or next((result.error for result in done if result.error is not None), None)
    files = tuple(file for result in done for file in result.files)
    is_drift = isinstance(error, LockError) and error.code == "tag-drifted"
    locked = one.previous.reference if is_drift and one.previous else one.item.reference
    reference = str(one.found.resolved.reference if one.found else locked)
    there = tuple(SyncedFile(file.path, file.layer, file.is_directory, file.status == "fetched") for file in files)
    if error is not None:
        return Synced(one.item.name, reference, "drifted" if is_drift else "failed", () if is_rehearsal else there, error)
    outcome: Outcome = "unchanged"
    if any(file.is_replaced for file in files):
        outcome = "would-replace" if is_rehearsal else "replaced"
    elif any(file.status == "fetched" for file in files):
        outcome = "would-fetch" if is_rehearsal else "fetched"
    return Synced(one.item.name, reference, outcome, there)


# -- sync on several machines that share the project directory; each item is a job that is safe to run twice


def spread(client: Session, project: Project, executor: Executor) -> Callable[[Sequence[str]], Mapping[str, Synced]]:
    """Return a function for the `elsewhere` parameter of `sync`. The function syncs items on the executor's workers."""

    def elsewhere(names: Sequence[str]) -> dict[str, Synced]:
        data = read_bytes(project.lock_path)
        if data is None:
            raise LockError(f"the lock file `{project.lock_path}` was deleted", code="lock-missing", path=str(project.lock_path))
        shared = _shared(client, project, Digest.of(data))
        with client.progress.steps("fetching", len(names)) as steps:
            answers = ask(executor, sync_part, shared, list(names), steps.advance)
        return {name: _from_worker(name, answer) for name, answer in zip(names, answers, strict=True)}

    return elsewhere


def _shared(client: Session, project: Project, lock: Digest) -> str:
    """Return the settings that a command passes to its workers, as JSON. A random value makes them unique per command."""
    options = client.options
    preference = options.preference
    return json.dumps(
        {
            "path": str(project.path.resolve()),
            "lock": str(lock),
            "preference": [preference.option, preference.environment, list(preference.data_hosts), preference.data_environment],
            "offline": options.offline,
            "timeout": client.budget.remaining if options.timeout is not None else None,
            "ca": options.ca_file,
            "command": secrets.token_hex(8),
        }
    )


def sync_part(text: str) -> str:
    """Sync some items in a worker. Input and output are JSON, so that the job can run on any machine. It is safe to run twice."""
    shared, names = part(text)
    try:
        work = _work.get(shared)
        chosen = replace(work.project, items=tuple(item for item in work.project.items if item.name in names))
        done = {one.name: one for one in placed(work.client, chosen, settle(work.client, chosen, work.lock, as_locked=True))}
        synced = [done[name] for name in names]
    except (Error, OSError) as error:
        failure = error if isinstance(error, Error) else storage_error(error, str(error.filename or names[0]))
        synced = [Synced(name, name, "failed", error=failure) for name in names]
    return json.dumps([_to_worker_json(one) for one in synced])


def _to_worker_json(one: Synced) -> list[object]:
    files = [
        [str(file.path), file.layer.media_type, str(file.layer.digest), file.layer.size, file.is_directory, file.is_written]
        for file in one.files
    ]
    return [one.reference, one.outcome, files, error_to_json(one.error) if one.error else None, list(map(str, one.made))]


def _from_worker(name: str, answer: Answer) -> Synced:
    if isinstance(answer, Error):
        return Synced(name, name, "failed", error=answer)
    reference, outcome, files, error, made = cast("list[Any]", answer)
    return Synced(
        name,
        reference,
        outcome,
        tuple(
            SyncedFile(Path(path), Descriptor(media_type, Digest.parse(digest), size), *flags)
            for path, media_type, digest, size, *flags in files
        ),
        error_from_json(error) if error else None,
        tuple(map(Path, made)),
    )


@dataclass(frozen=True, slots=True)
class _Work:
    client: Session
    project: Project
    lock: Lock


def _open(shared: str, stack: ExitStack) -> _Work:
    settings = json.loads(shared)
    project = read_project(Path(settings["path"]))
    data = read_bytes(project.lock_path)
    if data is None or str(Digest.of(data)) != settings["lock"]:
        raise StorageError(
            f"a worker found {'another lock file' if data is not None else 'no lock file'} at `{project.lock_path}`",
            code="file-unusable",
            hint="workers must share the project directory under the same path",
            path=str(project.lock_path),
        )
    option, environment, hosts, more = settings["preference"]
    preference = Preference(option, environment, tuple(hosts), more)
    options = SessionOptions(preference, offline=settings["offline"], timeout=settings["timeout"], ca_file=settings["ca"], notice=False)
    return _Work(stack.enter_context(Session(options, Silent())), project, parse_lock(data, project.lock_path))


_work: WorkerCache[_Work] = WorkerCache(_open)
