"""From a lock to files: everything is brought to what the lock says, and nothing else is touched.

Each item ends in exactly one outcome. A tag that was moved since it was locked is drift: nothing of that item is fetched until
somebody says so with `lock --upgrade`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from ..client.pull import Done, Task, pull_each, referrer_request
from ..client.resolve import Wanted
from ..client.session import Session, SessionOptions
from ..client.workers import Answer, Quiet, WorkerCache, ask, error_from_json, error_to_json, part
from ..endpoint import Preference
from ..errors import Error, InputError, LockError, StorageError
from ..files import storage_error
from ..oci import Descriptor, Digest
from .lockfile import Lock, parse_lock, read_bytes
from .locking import LockResult, read_old, refuse_misfits, request_of, settle, write, writing
from .wanted import Project, read_project

Outcome: TypeAlias = Literal["fetched", "unchanged", "replaced", "drifted", "failed", "would-fetch", "would-replace"]


@dataclass(frozen=True, slots=True)
class SyncedFile:
    """One file of an item, or one directory that an archive became."""

    path: Path
    layer: Descriptor


@dataclass(frozen=True, slots=True)
class Synced:
    """One item, and what became of it.

    Attributes:
        reference: pinned, or as it was asked for where it could not be found.
        files: those that are there now; in a rehearsal those that there would be.
        error: of what drifted or failed.
    """

    name: str
    reference: str
    outcome: Outcome
    files: tuple[SyncedFile, ...] = ()
    error: Error | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the items, for several machines.

    Attributes:
        index: 0 and more, below `count`.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`. `I` counts from 1 to N or from 0 to N-1: `0/N` and `N/N` are the same shard, so both ways cover everything once.

        Raises:
            InputError: `usage`.
        """
        match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
        if match is None or int(match[2]) < 1 or int(match[1]) > int(match[2]):
            raise InputError(
                f"`--shard` takes `I/N`, such as `1/4`, not `{text[:40]}`",
                code="usage",
                hint="I counts from 1 to N, or from 0 to N-1",
                text=text[:80],
            )
        return cls(int(match[1]) % int(match[2]), int(match[2]))

    def of(self, project: Project) -> Project:
        """The same project with the items of this shard only; which ones does not depend on their order in the file."""
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
    """Bring the files of a project to what its lock says.

    Args:
        as_locked: resolve nothing anew; the lock has to fit. Otherwise what is missing in it is resolved, and written into it.
        is_rehearsal: go the whole way but for fetching and writing.
        shard: the items that this process takes care of.
        elsewhere: does the fetching and writing in place of this process: gets the names of the items that need it, the lock being
            written, and gives back what became of each.

    Returns:
        One for each item, in the order of the file; nothing is raised for a single one.

    Raises:
        LockError: `lock-missing`, `lock-outdated`: with `as_locked` only.
        Error: the lock cannot be read or written.
    """
    if as_locked:
        lock = read_old(project)
        refuse_misfits(project, lock)
        settled = settle(client, shard.of(project) if shard else project, lock, as_locked=True)
    elif is_rehearsal:
        settled = _settled(client, project, read_old(project), shard)
    else:
        with writing(client, project):
            lock = read_old(project)
            settled = _settled(client, project, lock, shard)
            _write(project, lock, settled)
    if elsewhere is None or is_rehearsal:
        return placed(client, project, settled, is_rehearsal=is_rehearsal)
    # What clashes, is refused or is there already is found out here, where all items are known.
    planned = placed(client, project, settled, is_rehearsal=True)
    done = elsewhere([one.name for one in planned if one.outcome in ("would-fetch", "would-replace")])
    return [done.get(one.name, one) for one in planned]


def _settled(client: Session, project: Project, lock: Lock | None, shard: Shard | None) -> list[LockResult]:
    return settle(client, shard.of(project) if shard else project, lock)


def _write(project: Project, lock: Lock | None, settled: Sequence[LockResult]) -> None:
    """What was resolved goes into the lock; of items of other shards, and of what failed, it says what it said."""
    done = {one.item.name for one in settled}
    entries = lock.by_name if lock else {}
    others = [LockResult(item, previous=entries.get(item.name)) for item in project.items if item.name not in done]
    write(project, [*settled, *others])


def placed(client: Session, project: Project, settled: Sequence[LockResult], *, is_rehearsal: bool = False) -> list[Synced]:
    """Bring what was settled to its places; nothing is raised for a single item."""
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
                hint="take the link away, or put the wanted file where it leads to",
                path=str(request.destination),
            )
            refused[number] = outside
            continue
        tasks.append(Task(one.found, request, one.item.name))
        owners.append(number)
        for referrer in one.entry.referrers:
            # Taken by its digest: what referred to it when it was locked, not what refers to it now.
            reference = replace(one.found.resolved.reference, tag=None, digest=referrer.digest)
            own = referrer_request(request.destination, one.item.name, referrer.digest, force=True)
            tasks.append(Task(Wanted(reference), own, one.item.name))
            owners.append(number)
    kept = (project.path, project.lock_path)
    done: dict[int, list[Done]] = {}
    for owner, result in zip(owners, pull_each(client, tasks, together=False, is_rehearsal=is_rehearsal, kept=kept), strict=True):
        done.setdefault(owner, []).append(result)
    return [
        _synced(replace(one, error=one.error or refused.get(number)), done.get(number, []), is_rehearsal=is_rehearsal)
        for number, one in enumerate(settled)
    ]


def _synced(one: LockResult, done: Sequence[Done], *, is_rehearsal: bool) -> Synced:
    error = one.error or next((result.error for result in done if result.error is not None), None)
    files = tuple(file for result in done for file in result.files)
    is_drift = isinstance(error, LockError) and error.code == "tag-drifted"
    locked = one.previous.reference if is_drift and one.previous else one.item.reference
    reference = str(one.found.resolved.reference if one.found else locked)
    there = tuple(SyncedFile(file.path, file.layer) for file in files)
    if error is not None:
        return Synced(one.item.name, reference, "drifted" if is_drift else "failed", () if is_rehearsal else there, error)
    outcome: Outcome = "unchanged"
    if any(file.is_replaced for file in files):
        outcome = "would-replace" if is_rehearsal else "replaced"
    elif any(file.status == "fetched" for file in files):
        outcome = "would-fetch" if is_rehearsal else "fetched"
    return Synced(one.item.name, reference, outcome, there)


# -- a sync that is spread over machines which share the directory of the project: each item is a job, and may be done twice


def spread(client: Session, project: Project, executor: Executor) -> Callable[[Sequence[str]], Mapping[str, Synced]]:
    """What `sync` takes as `elsewhere`: the items are done by the workers of an executor."""

    def elsewhere(names: Sequence[str]) -> dict[str, Synced]:
        data = read_bytes(project.lock_path)
        if data is None:
            raise LockError(f"the lock `{project.lock_path}` went away", code="lock-missing", path=str(project.lock_path))
        shared = _shared(client, project, Digest.of(data))
        answers = ask(executor, sync_part, shared, list(names))
        return {name: _from_worker(name, answer) for name, answer in zip(names, answers, strict=True)}

    return elsewhere


def _shared(client: Session, project: Project, lock: Digest) -> str:
    """What a worker has to know for all of its jobs. No two commands have the same."""
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
    """Bring some items to what the lock says, as a worker: a text in, a text out, so it can run anywhere, and twice."""
    shared, names = part(text)
    try:
        work = _work.get(shared)
        chosen = replace(work.project, items=tuple(item for item in work.project.items if item.name in names))
        done = {one.name: one for one in placed(work.client, chosen, settle(work.client, chosen, work.lock, as_locked=True))}
        synced = [done[name] for name in names]
    except (Error, OSError) as error:
        failure = error if isinstance(error, Error) else storage_error(error, str(error.filename or names[0]))
        synced = [Synced(name, name, "failed", error=failure) for name in names]
    return json.dumps([_said(one) for one in synced])


def _said(one: Synced) -> list[object]:
    files = [[str(file.path), file.layer.media_type, str(file.layer.digest), file.layer.size] for file in one.files]
    return [one.reference, one.outcome, files, error_to_json(one.error) if one.error else None]


def _from_worker(name: str, answer: Answer) -> Synced:
    """What a worker has said."""
    if isinstance(answer, Error):
        return Synced(name, name, "failed", error=answer)
    reference, outcome, files, error = cast("list[Any]", answer)
    return Synced(
        name,
        reference,
        outcome,
        tuple(SyncedFile(Path(path), Descriptor(media_type, Digest.parse(digest), size)) for path, media_type, digest, size in files),
        error_from_json(error) if error else None,
    )


@dataclass(frozen=True, slots=True)
class _Work:
    client: Session
    project: Project
    lock: Lock


def _open(shared: str, stack: ExitStack) -> _Work:
    asked = json.loads(shared)
    project = read_project(Path(asked["path"]))
    data = read_bytes(project.lock_path)
    if data is None or str(Digest.of(data)) != asked["lock"]:
        raise StorageError(
            f"a worker finds {'another lock' if data is not None else 'no lock'} at `{project.lock_path}`",
            code="file-unusable",
            hint="the workers have to share the directory of the project, under the same path",
            path=str(project.lock_path),
        )
    option, environment, hosts, more = asked["preference"]
    preference = Preference(option, environment, tuple(hosts), more)
    options = SessionOptions(preference, offline=asked["offline"], timeout=asked["timeout"], ca_file=asked["ca"], notice=False)
    return _Work(stack.enter_context(Session(options, Quiet())), project, parse_lock(data, project.lock_path))


_work: WorkerCache[_Work] = WorkerCache(_open)
