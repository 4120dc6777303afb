"""A sync that is spread over machines which share the directory of the project: each item is a job, and may be done twice.

This process finds out what every item is, writes the lock and sees what clashes; the workers fetch and write, each by the digests of the
lock, through a cache of its own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ..client.session import Session, SessionOptions
from ..client.workers import Answer, Quiet, WorkerCache, ask, error_from_json, error_to_json, part
from ..endpoint import Preference
from ..errors import Error, LockError, StorageError
from ..files import storage_error
from ..oci import Descriptor, Digest
from .lockfile import Lock, parse_lock, read_bytes
from .locking import settle
from .sync import Synced, SyncedFile, placed
from .wanted import Project, read_project


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
