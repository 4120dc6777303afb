"""Lock a project: keep the lock entries that match the project file, and resolve the other items."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, TypeAlias

from ..artifact.kinds import matches
from ..client.catalog import nearest
from ..client.pull import PullOptions
from ..client.pull import found as find_layers
from ..client.resolve import Found, Resolved, resolve
from ..client.session import Session
from ..constraint import ANY, Constraint, read_version
from ..destination.destination import write_file
from ..document import Json
from ..endpoint import Endpoint
from ..errors import Error, InputError, LockError, NotFoundError, StorageError
from ..files import lock as alone
from ..files import make_directories, storage_error
from ..oci import CREATED, Descriptor, Index
from ..reference import Host
from ..verify.gate import SignatureGate, gate
from .lockfile import Entry, Lock, LockedLayer, Verification, lock_bytes, make_lock, parse_lock, read_bytes
from .pins import ImageTask, lock_images, resolve_pinned
from .wanted import Item, Project

# -- the signature check, which runs before an artifact is locked, fetched or bundled


def verified(check: SignatureGate | None, client: Session, item: Item, resolved: Resolved) -> Verification | None:
    """Check the signatures of an artifact if the project file or `MARFETCH_VERIFY` requires it.

    Args:
        check: the signature check; None if no check is required.
        resolved: the resolved artifact. The check uses the same digest as the download.

    Returns:
        The result to write to the lock; None if the project file does not require the check.

    Raises:
        Error: the same errors as `SignatureGate`.
    """
    verdict = check(client, resolved) if check is not None else None
    if verdict is None or not item.verify:
        return None
    evidence: dict[str, Json] = {}
    if verdict.statement is not None:
        evidence["policy"] = verdict.statement.name
    if verdict.good is not None:
        evidence["signature"] = str(verdict.good.digest)
        evidence["subject"] = verdict.good.signed.subject
    return Verification(verdict.outcome, evidence)


DIRECTORY: Final = "projects"
"""Directory in the cache for file locks. They keep two processes from writing the same `marfetch.lock` at once."""

_WAIT: Final = 600.0  # seconds to wait for the other process, which may have to resolve every item

Change: TypeAlias = Literal["added", "upgraded", "changed", "kept", "removed"]


@dataclass(frozen=True, slots=True)
class LockResult:
    """The outcome of locking one item.

    Attributes:
        entry: the new entry; None if the item failed.
        previous: the old entry; None if the item is new.
        found: the layers to fetch; None if the item failed.
        error: why the item failed; None if it did not.
    """

    item: Item
    entry: Entry | None = None
    previous: Entry | None = None
    found: Found | None = None
    error: Error | None = None

    @property
    def change(self) -> Change:
        """How the entry changed."""
        if self.previous is None:
            return "added"
        if self.entry is None or self.entry == self.previous:
            return "kept"
        return "changed" if self.entry.digest == self.previous.digest else "upgraded"


def request_of(project: Project, item: Item) -> PullOptions:
    """Return the pull options of an item."""
    directory = project.directory
    return PullOptions(
        directory if item.destination == "." else directory / Path(*item.destination.split("/")),
        item.choice,
        item.wanted_platform,
        force=True,
        untar=Path() if item.untar else None,
    )


def mismatch(item: Item, entry: Entry | None) -> str | None:
    """Return the reason why an entry does not match an item, or None if it matches. Makes no request."""
    if entry is None:
        return f"`{item.name}` is not in the lock"
    wanted, locked = item.reference, entry.reference
    if wanted.repository != locked.repository or (wanted.host is not None and wanted.host != locked.host):
        return f"`{item.name}` is `{wanted.full_repository}`, but `{locked.full_repository}` is locked"
    if wanted.tag is not None and wanted.tag != locked.tag:
        return f"`{item.name}` has the tag `{wanted.tag}`, but `{locked.tag or locked.digest}` is locked"
    if wanted.digest is not None and wanted.digest != locked.digest:
        return f"`{item.name}` has the digest `{wanted.digest}`, but `{locked.digest}` is locked"
    if wanted.tag is None and wanted.digest is None:
        constraint = Constraint.parse(item.version) if item.version is not None else ANY
        if locked.tag is None or not constraint.allows(locked.tag):
            return f"`{item.name}` has the range `{constraint}`, but `{locked.tag or locked.digest}` is locked"
    return None


def _other_endpoint(project: Project, item: Item, entry: Entry) -> str | None:
    """Return the reason why an entry's host differs from the project file's endpoint.

    Returns:
        None if the host is the same, if the file has no `endpoint`, or if the item names its own host.
    """
    if project.endpoint is None or item.reference.host is not None:
        return None
    host = Host.parse(Endpoint.parse(project.endpoint).registry.name)
    return None if host == entry.reference.host else f"`{item.name}` is on `{host}`, but `{entry.reference.full_repository}` is locked"


def misfits(project: Project, lock: Lock | None) -> list[str]:
    """List the differences between a lock and the project file, in the order of the project file."""
    entries = lock.by_name if lock else {}
    found: list[str] = []
    for item in project.items:
        reason = mismatch(item, entries.get(item.name)) or _other_endpoint(project, item, entries[item.name])
        if reason is None and dict(entries[item.name].options) != item.options():
            keys = sorted(
                key
                for key in {*entries[item.name].options, *item.options()}
                if entries[item.name].options.get(key) != item.options().get(key)
            )
            reason = f"`{item.name}` was locked with another `{'`, `'.join(keys)}`"
        if reason is not None:
            found.append(reason)
    names = {item.name for item in project.items}
    return found + [f"`{name}` is in the lock but not in the project file" for name in entries if name not in names]


def refuse_misfits(project: Project, lock: Lock | None) -> None:
    """Raise unless the lock matches the project file.

    Raises:
        LockError: `lock-missing`, `lock-outdated`.
    """
    if lock is None:
        raise LockError(f"there is no lock file `{project.lock_path}`", code="lock-missing", path=str(project.lock_path))
    reasons = misfits(project, lock)
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise LockError(
            f"the lock file `{project.lock_path}` does not match `{project.path}`: {reasons[0]}{more}",
            code="lock-outdated",
            path=str(project.lock_path),
            reasons=reasons[:100],
        )


def read_old(project: Project) -> Lock | None:
    """Read the project's current lock, or return None if there is no lock file.

    Raises:
        Error: the same errors as `lockfile.read_lock`, except `lock-missing`.
    """
    data = read_bytes(project.lock_path)
    return None if data is None else parse_lock(data, project.lock_path)


def upgrades(project: Project, names: Sequence[str]) -> frozenset[str]:
    """Return the names of the items to upgrade: the given names, or all items if none are given.

    Raises:
        InputError: `usage`: no item has one of the names.
    """
    known = [item.name for item in project.items]
    for name in names:
        if name not in known:
            near = nearest(known, name, limit=1)
            hint = f"did you mean `{near[0]}`?" if near else "use a name from the project file"
            raise InputError(f"`{name[:80]}` is not an item in `{project.path}`", code="usage", hint=hint, text=name[:200])
    return frozenset(names or known)


Images: TypeAlias = Literal["checked", "added", "kept"]
"""What to do with the images that charts name: lock new ones and check that no tag was moved; only lock new ones; or do nothing."""


def settle(
    client: Session,
    project: Project,
    lock: Lock | None,
    *,
    upgrade: Collection[str] = (),
    as_locked: bool = False,
    images: Images = "checked",
) -> list[LockResult]:
    """Resolve all items in parallel.

    Args:
        upgrade: names of items to resolve again even if their entry matches.
        as_locked: use the locked digests and do not check whether tags have moved.
        images: what to do about the images that charts name.

    Returns:
        One result per item, in the order of the project file. If an item fails, its result has the error.
    """
    entries = lock.by_name if lock else {}

    def one(item: Item) -> LockResult:
        previous = entries.get(item.name)
        try:
            return _settle(client, project, item, previous, is_upgraded=item.name in upgrade, as_locked=as_locked)
        except Error as error:
            return LockResult(item, previous=previous, error=error)
        except OSError as error:
            return LockResult(item, previous=previous, error=storage_error(error, str(error.filename or item.name)))

    settled = client.each(one, project.items, label="resolving")
    return settled if as_locked or images == "kept" else _with_images(client, settled, upgrade, checks=images == "checked")


def _with_images(client: Session, settled: list[LockResult], upgrade: Collection[str], *, checks: bool) -> list[LockResult]:
    """Lock the images that charts name. A kept entry keeps its images, and only their tags are checked."""
    tasks: dict[str, ImageTask] = {}
    for one in settled:
        if one.item.images and one.found is not None and one.entry is not None:
            before = one.previous
            is_kept = before is not None and (before.reference, before.options) == (one.entry.reference, one.entry.options)
            is_kept = is_kept and one.item.name not in upgrade
            if checks or not is_kept:
                previous = before.images if before is not None and one.item.name not in upgrade else ()
                tasks[one.item.name] = ImageTask(one.item, one.found, previous, names_chart=not is_kept)
    locked = dict(zip(tasks, lock_images(client, list(tasks.values())), strict=True))

    def complete(one: LockResult) -> LockResult:
        images = locked.get(one.item.name, ())
        if isinstance(images, Error):
            return LockResult(one.item, previous=one.previous, error=images)
        return replace(one, entry=replace(one.entry, images=images)) if one.entry is not None and one.item.name in locked else one

    return [complete(one) for one in settled]


def _settle(client: Session, project: Project, item: Item, previous: Entry | None, *, is_upgraded: bool, as_locked: bool) -> LockResult:
    is_kept = not is_upgraded and mismatch(item, previous) is None
    if is_kept and previous is not None:
        resolved = resolve_locked(client, item, previous, asks_tag=not as_locked)
    else:
        resolved = resolve_upgrade(client, item, previous if mismatch(item, previous) is None else None)
    check = gate(asked=item.verify)
    verification = verified(check, client, item, resolved)
    layers = find_layers(client, resolved, request_of(project, item))
    is_same = is_kept and previous is not None and dict(previous.options) == item.options()
    if is_same and previous is not None and (as_locked or previous.reference == resolved.reference):
        entry = previous
    else:
        entry = _entry(item, layers)
        _warn_of_older(client, item, entry, previous)
    if check is not None:
        check.referrers(resolved.repository, (one.digest for one in entry.referrers))
    return LockResult(item, replace(entry, verification=verification), previous, layers)


def resolve_upgrade(client: Session, item: Item, previous: Entry | None) -> Resolved:
    """Resolve an item to what `lock --upgrade` locks. A cool-down never replaces the locked version with an older one.

    Args:
        previous: the locked entry if it matches the item.

    Raises:
        Error: see `client.resolve.resolve`.
    """
    try:
        resolved = resolve(client, item.wanted)
    except NotFoundError as error:
        if error.code != "held-back" or previous is None:
            raise
        client.progress.note(f"kept the locked version of `{item.name}`: {error.message}")
    else:
        locked = read_version(previous.tag) if previous is not None and previous.tag else None
        if locked is None or not resolved.held_back or resolved.version is None:
            return resolved
        if resolved.version.key >= locked.key and all(one.version.tag != locked.tag for one in resolved.held_back):
            return resolved
    assert previous is not None, "only a locked version is kept"
    return resolve_locked(client, item, previous, asks_tag=False)


def _warn_of_older(client: Session, item: Item, entry: Entry, previous: Entry | None) -> None:
    """Warn if the new version is older than the locked one. A malicious mirror may hide newer versions to keep a vulnerability."""
    new, old = (read_version(one.tag) if one is not None and one.tag else None for one in (entry, previous))
    if new is not None and old is not None and new.key < old.key:
        client.progress.warn(f"`{item.name}` is downgraded from `{old.tag}` to `{new.tag}`")


def resolve_locked(client: Session, item: Item, entry: Entry, *, asks_tag: bool) -> Resolved:
    """Fetch the locked manifest of an entry by its digest from the current endpoint. See `resolve_pinned`."""
    return resolve_pinned(client, replace(item.reference, tag=entry.tag, digest=None), entry.digest, item.name, asks_tag=asks_tag)


def _entry(item: Item, found: Found) -> Entry:
    resolved, manifest = found.resolved, found.manifest
    names = {payload.layer.digest: payload.name for payload in found.payloads}
    return Entry(
        item.name,
        resolved.reference,
        _plain(resolved.manifest.descriptor),
        _plain(manifest.config),
        tuple(LockedLayer(_plain(layer), names.get(layer.digest)) for layer in manifest.layers),
        found.kind.name,
        manifest.effective_type,
        str(resolved.version.version) if resolved.version else None,
        manifest.annotations.get(CREATED),
        _plain(manifest.descriptor) if isinstance(resolved.manifest, Index) else None,
        _referrers(item, resolved),
        item.options(),
    )


def _plain(descriptor: Descriptor) -> Descriptor:
    return replace(descriptor, annotations={})


def _referrers(item: Item, resolved: Resolved) -> tuple[Descriptor, ...]:
    if not item.referrers:
        return ()
    found = resolved.repository.referrers(resolved.manifest.descriptor.digest)
    chosen = {one.digest: _plain(one) for one in found if matches(one.artifact_type or "", item.referrers)}
    return tuple(sorted(chosen.values(), key=lambda one: (one.artifact_type or "", str(one.digest))))


@contextmanager
def writing(client: Session, project: Project) -> Iterator[None]:
    """Hold this project's file lock, so that no other process writes its `marfetch.lock`. Other projects are not blocked."""
    directory = client.cache.root / DIRECTORY
    with suppress(OSError):
        make_directories(directory, 0o700)
    name = sha256(os.fsencode(project.lock_path.resolve())).hexdigest()
    with ExitStack() as stack:
        with suppress(StorageError):  # best effort: the file lock needs a writable cache
            stack.enter_context(alone(directory / f"{name}.lock", wait=max(0.0, min(_WAIT, client.budget.remaining))))
        yield


def write(project: Project, settled: Sequence[LockResult]) -> bool:
    """Write the lock file atomically if its entries changed. Failed items keep their old entry.

    Returns:
        Whether the file was written.

    Raises:
        StorageError: the file cannot be written.
    """
    entries = [entry for one in settled if (entry := one.entry or one.previous) is not None]
    path = project.lock_path
    found = read_bytes(path)
    if found is not None:
        try:
            old = parse_lock(found, path)
        except Error:
            old = None
        # Compare entries only: a new marfetch version alone must not change the file.
        if old is not None and old.entries == make_lock(entries).entries:
            return False
    write_file(path, lock_bytes(make_lock(entries)))
    return True
