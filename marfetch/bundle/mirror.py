"""Copy everything in a lock file into a registry, without an archive in between.

Manifests and missing blobs go through the cache. So content is verified before it reaches the registry, and an interrupted download
resumes. Large blobs are deleted from the cache once the registry has them. Tags are written last.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..artifact.kinds import IMAGE
from ..client.session import Repository, Session, SessionOptions
from ..client.workers import WorkerCache, ask, part
from ..content import BESIDE_FROM, Silent, Verified
from ..endpoint import Preference
from ..errors import Error, InputError, RemoteError
from ..layout.blobs import Extent
from ..layout.graph import Manifests
from ..oci import Descriptor, Digest
from ..project.lockfile import Lock, lock_bytes, parse_lock, read_bytes
from ..project.locking import refuse_misfits
from ..project.roots import LockedRoot, roots_of
from ..project.sync import Shard
from ..project.wanted import Project, parse_project
from ..remote.registry import Registry
from .closure import needed_of
from .jobs import Job
from .load import Loaded, To, failed, loaded_from, loaded_json
from .targets import Lacking, RegistryTarget, Upload

__all__ = ["Loaded", "To", "mirror"]


def mirror(
    client: Session,
    project: Project,
    to: To,
    *,
    with_referrers: bool = False,
    is_rehearsal: bool = False,
    shard: Shard | None = None,
    executor: Executor | None = None,
) -> list[Loaded]:
    """Copy everything in a project's lock file into a registry. Content that the registry has is skipped.

    Args:
        with_referrers: copy all referrers of the artifacts, and referrers of these referrers.
        is_rehearsal: make a dry run, which uploads nothing and downloads no blob.
        shard: the share of the artifacts to copy; None for all.
        executor: copies the artifacts on other machines, which need no files of this machine; None to copy them here.

    Returns:
        One result per manifest of the lock file, sorted by repository and digest. If an artifact fails, its result has the error.

    Raises:
        InputError: `usage`: the target is not a registry.
        LockError: `lock-missing`, `lock-outdated`.
        RemoteError: `offline`.
    """
    if to.endpoint is None:
        raise InputError(
            f"`mirror` needs a registry, but `--to {to.text[:200]}` is a folder",
            code="usage",
            hint="write the registry as `HOST[:PORT][/PREFIX]`; for a folder, use `marfetch bundle create` and `marfetch bundle load`",
        )
    if client.options.offline:
        raise RemoteError(f"cannot copy to the registry `{to.text}`: `--offline` is set", code="offline", hint="remove `--offline`")
    data = read_bytes(project.lock_path)
    lock = parse_lock(data, project.lock_path) if data is not None else None
    refuse_misfits(project, lock)
    assert lock is not None, "`refuse_misfits` refuses a missing lock file"
    groups = _groups(lock)
    if shard is not None:
        groups = groups[shard.index :: shard.count]
    work = _Work(client, project, to, _target(client, to), with_referrers=with_referrers)
    if executor is None or is_rehearsal:
        return work.copied(groups, is_rehearsal=is_rehearsal)
    config = _worker_config(client, project, lock, to, with_referrers=with_referrers)
    with client.progress.steps("copying", len(groups)) as steps:
        answers = ask(executor, mirror_part, config, [_job(group).to_json() for group in groups], steps.advance)
    return [loaded_from(answer, _job(group), to) for answer, group in zip(answers, groups, strict=True)]


def _groups(lock: Lock) -> list[list[LockedRoot]]:
    """Group the roots that are the same manifest of the same repository. Each group is one job."""
    found: dict[tuple[str, str], list[LockedRoot]] = {}
    for root in roots_of(lock):
        found.setdefault((root.reference.repository, str(root.manifest.digest)), []).append(root)
    return [found[key] for key in sorted(found)]


def _job(group: Sequence[LockedRoot]) -> Job:
    tags = {root.reference.tag: None for root in group if root.reference.tag is not None}
    carried = tuple(child.digest for child in group[0].children or ())
    return Job(group[0].reference.repository, group[0].manifest.digest, tuple(tags), carried)


def _target(client: Session, to: To) -> RegistryTarget:
    assert to.endpoint is not None, "only registries are mirrors"
    registry = client.connect(to.endpoint)
    assert isinstance(registry, Registry), "an endpoint belongs to a registry"
    return RegistryTarget(to, registry, client.progress)


@dataclass(frozen=True, slots=True)
class _Copy:
    """One job, with the content that the registry lacks."""

    upload: Upload
    source: Repository
    lacking: Lacking


class _Work:
    """Copies groups of lock entries to a registry."""

    def __init__(self, client: Session, project: Project, to: To, target: RegistryTarget, *, with_referrers: bool) -> None:
        self._client, self._to, self._target, self._with_referrers = client, to, target, with_referrers
        self._items = {item.name: item for item in project.items}
        self._manifests = Manifests(client.cache)

    def copied(self, groups: Sequence[Sequence[LockedRoot]], *, is_rehearsal: bool = False) -> list[Loaded]:
        """Copy the groups, and return one result per group: all blobs first, then manifests and tags."""
        self._client.fetches = not is_rehearsal
        found = self._client.each(self._compared, groups, hosts=2, label="comparing")
        if is_rehearsal:
            return self._client.each(lambda one: one if isinstance(one, Loaded) else self._foreseen(one), found)
        blobs: dict[Digest, tuple[Descriptor, list[_Copy]]] = {}
        for one in (each for each in found if isinstance(each, _Copy)):
            for blob in one.lacking.blobs:
                blobs.setdefault(blob.digest, (blob, []))[1].append(one)
        # Copying a small blob uses three hosts in turn: the source registry, its data host, and the target registry.
        hosts = 3 if all(blob.size < BESIDE_FROM for blob, _ in blobs.values()) else 1
        wanted = sorted(blobs.values(), key=lambda one: -one[0].size)  # largest first, so that no large blob starts last and runs alone
        failures = self._client.each(self._carried, wanted, hosts=hosts, label="copying", unit="blobs")
        broken = {blob.digest: error for (blob, _), error in zip(wanted, failures, strict=True) if error is not None}
        return self._client.each(lambda one: one if isinstance(one, Loaded) else self._finished(one, broken), found, label="tagging")

    def _compared(self, group: Sequence[LockedRoot]) -> _Copy | Loaded:
        """Find out which content of a group the registry lacks; if that fails, return the failed result."""
        job = _job(group)
        try:
            parts = [
                needed_of(self._client, self._manifests, self._items[one.entry.name], one, with_referrers=self._with_referrers)
                for one in group
            ]
            nodes = {digest: node for each in parts for digest, node in each.nodes.items()}
            referrers: dict[str, list[Descriptor]] = {}
            for node in nodes.values():
                if node.subject is not None:
                    referrers.setdefault(node.subject, []).append(node.referrer)
            upload = Upload(job, list(nodes.values()), referrers, IMAGE.name if group[0].is_image else group[0].entry.kind)
            return _Copy(upload, parts[0].repository, self._target.lacking(upload))
        except Error as error:
            return failed(job, self._to, error)

    def _carried(self, wanted: tuple[Descriptor, Sequence[_Copy]]) -> Error | None:
        """Download a blob and upload it to each repository that lacks it; return the error if that fails."""
        blob, copies = wanted
        cache, source = self._client.cache, copies[0].source
        was_cached = cache.stamp(blob.digest) is not None

        def send() -> None:
            with cache.extent(blob.digest) as extent:
                # A blob that was already in the cache may have changed on disk, so verify it again. A new download has just been verified.
                pieces = (lambda: _checked(extent, blob)) if was_cached else extent.pieces
                for one in copies:
                    self._target.send(one.upload.job.repository, blob, pieces)

        try:
            source.use(blob, send)
        except Error as error:
            return error
        if not was_cached and blob.size >= BESIDE_FROM and cache.is_writable:
            with suppress(OSError):
                cache.path(blob.digest).unlink()
        return None

    def _foreseen(self, one: _Copy) -> Loaded:
        try:
            return _rehearsed(self._target.foreseen(one.upload, one.lacking))
        except Error as error:
            return failed(one.upload.job, self._to, error)

    def _finished(self, one: _Copy, broken: dict[Digest, Error]) -> Loaded:
        try:
            for blob in one.lacking.blobs:
                if blob.digest in broken:
                    raise broken[blob.digest]
            return self._target.finish(one.upload, one.lacking, self._manifests.read)
        except Error as error:
            return failed(one.upload.job, self._to, error)


def _checked(extent: Extent, blob: Descriptor) -> Iterator[bytes]:
    """Yield the bytes of a cached blob. Wrong bytes raise an error before the last piece, so the registry never gets the whole blob."""
    verified, held = Verified(blob), b""
    for piece in extent.pieces():
        if held:
            yield held
        held = bytes(piece)
        verified.update(held)
    verified.check()
    if held:
        yield held


def _rehearsed(one: Loaded) -> Loaded:
    if one.outcome == "replaced":
        return replace(one, outcome="would-replace")
    return replace(one, outcome="would-push") if one.outcome == "pushed" else one


# -- workers on other machines


def _worker_config(client: Session, project: Project, lock: Lock, to: To, *, with_referrers: bool) -> str:
    """Encode the settings for a worker, with a random value per command. A worker uses the credentials of its own machine."""
    assert to.endpoint is not None, "only registries are mirrors"
    options, preference = client.options, client.options.preference
    return json.dumps(
        {
            "project": (read_bytes(project.path) or b"").decode(),
            "lock": lock_bytes(lock).decode(),
            "path": str(project.path),
            "preference": [preference.option, preference.environment, list(preference.data_hosts), preference.data_environment],
            "to": to.text,
            "plain": to.endpoint.registry.scheme == "http",
            "hosts": [str(host) for host in to.endpoint.data_hosts],
            "referrers": with_referrers,
            "timeout": client.budget.remaining if options.timeout is not None else None,
            "ca": options.ca_file,
            "command": secrets.token_hex(8),
        }
    )


def mirror_part(text: str) -> str:
    """Copy a batch of groups in a worker. Input and result are strings, so that any machine can run it. It is safe to run twice."""
    config, batch = part(text)
    lock, to = _parsed(json.loads(config))
    known = {(job.repository, job.digest): group for group in _groups(lock) for job in [_job(group)]}
    groups = [known[job.repository, job.digest] for job in map(Job.from_json, batch)]
    try:
        results: Iterable[Loaded] = _opened.get(config).copied(groups)
    except Error as error:
        results = [failed(_job(group), to, error) for group in groups]
    return json.dumps([loaded_json(one) for one in results])


def _parsed(settings: dict[str, Any]) -> tuple[Lock, To]:
    lock = parse_lock(settings["lock"].encode(), Path(settings["path"]).with_suffix(".lock"))
    return lock, To.parse(settings["to"], plain_http=settings["plain"], data_hosts=settings["hosts"])


def _open(config: str, stack: ExitStack) -> _Work:
    settings = json.loads(config)
    _, to = _parsed(settings)
    option, environment, hosts, more = settings["preference"]
    preference = Preference(option, environment, tuple(hosts), more)
    options = SessionOptions(preference, timeout=settings["timeout"], ca_file=settings["ca"], notice=False)
    client = stack.enter_context(Session(options, Silent()))
    project = parse_project(settings["project"].encode(), Path(settings["path"]))
    return _Work(client, project, to, _target(client, to), with_referrers=settings["referrers"])


_opened: WorkerCache[_Work] = WorkerCache(_open)
"""A cache in each worker for the session and the target."""
