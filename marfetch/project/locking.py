"""From what is wanted to a lock: what is locked and still fits stays, the rest is resolved."""

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
from ..client.resolve import Found, Resolved, resolve, resolved_to
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
from ..verify.gate import gate
from .lockfile import Entry, Lock, LockedLayer, Verification, lock_bytes, make_lock, parse_lock, read_bytes
from .wanted import Item, Project

# -- where a project meets the check of signatures: asked before an artifact is locked, before it is fetched, and before it is bundled


def verified(client: Session, item: Item, resolved: Resolved) -> Verification | None:
    """Check the signatures of an artifact, where the wanted file or `MARFETCH_VERIFY` asks for that.

    Args:
        resolved: what was found; its digest is the one that is checked and the one that is fetched.

    Returns:
        What the lock says of it; None where the wanted file asks for no check.

    Raises:
        Error: as `SignatureGate`.
    """
    check = gate(asked=item.verify)
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
"""Below the cache: what keeps two processes from writing one lock at the same time."""

_WAIT: Final = 600.0  # seconds; the holder resolves everything

Change: TypeAlias = Literal["added", "upgraded", "changed", "kept", "removed"]


@dataclass(frozen=True, slots=True)
class LockResult:
    """One item, and what became of it.

    Attributes:
        entry: what the lock says of it from now on; None where that failed.
        previous: what it said before.
        found: what is to be fetched.
        error: why it failed.
    """

    item: Item
    entry: Entry | None = None
    previous: Entry | None = None
    found: Found | None = None
    error: Error | None = None

    @property
    def change(self) -> Change:
        """In one word."""
        if self.previous is None:
            return "added"
        if self.entry is None or self.entry == self.previous:
            return "kept"
        return "changed" if self.entry.digest == self.previous.digest else "upgraded"


def request_of(project: Project, item: Item) -> PullOptions:
    """Where an item goes, and how."""
    directory = project.directory
    return PullOptions(
        directory if item.destination == "." else directory / Path(*item.destination.split("/")),
        item.choice,
        item.wanted_platform,
        force=True,
        untar=Path() if item.untar else None,
    )


def mismatch(item: Item, entry: Entry | None) -> str | None:
    """Why an entry is not what an item asks for, whatever the registry says; None where it is."""
    if entry is None:
        return f"`{item.name}` is not in the lock"
    wanted, locked = item.reference, entry.reference
    if wanted.repository != locked.repository or (wanted.host is not None and wanted.host != locked.host):
        return f"`{item.name}` is `{wanted.full_repository}`, locked is `{locked.full_repository}`"
    if wanted.tag is not None and wanted.tag != locked.tag:
        return f"`{item.name}` is the tag `{wanted.tag}`, locked is `{locked.tag or locked.digest}`"
    if wanted.digest is not None and wanted.digest != locked.digest:
        return f"`{item.name}` is `{wanted.digest}`, locked is `{locked.digest}`"
    if wanted.tag is None and wanted.digest is None:
        constraint = Constraint.parse(item.version) if item.version is not None else ANY
        if locked.tag is None or not constraint.allows(locked.tag):
            return f"`{item.name}` is in the range `{constraint}`, locked is `{locked.tag or locked.digest}`"
    return None


def _other_endpoint(project: Project, item: Item, entry: Entry) -> str | None:
    """Where the wanted file names an endpoint: why the entry is not of it."""
    if project.endpoint is None or item.reference.host is not None:
        return None
    host = Host.parse(Endpoint.parse(project.endpoint).registry.name)
    return None if host == entry.reference.host else f"`{item.name}` is of `{host}`, locked is `{entry.reference.full_repository}`"


def misfits(project: Project, lock: Lock | None) -> list[str]:
    """Everything in which a lock is not what a wanted file asks for, in the order of the file."""
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
    return found + [f"`{name}` is in the lock and not wanted" for name in entries if name not in names]


def refuse_misfits(project: Project, lock: Lock | None) -> None:
    """The end of whoever needs a lock that fits.

    Raises:
        LockError: `lock-missing`, `lock-outdated`.
    """
    if lock is None:
        raise LockError(f"there is no lock `{project.lock_path}`", code="lock-missing", path=str(project.lock_path))
    reasons = misfits(project, lock)
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise LockError(
            f"the lock `{project.lock_path}` does not fit `{project.path}`: {reasons[0]}{more}",
            code="lock-outdated",
            path=str(project.lock_path),
            reasons=reasons[:100],
        )


def read_old(project: Project) -> Lock | None:
    """The lock that is there; None where there is none.

    Raises:
        Error: as `lock.read_lock`, a missing one aside.
    """
    data = read_bytes(project.lock_path)
    return None if data is None else parse_lock(data, project.lock_path)


def upgrades(project: Project, names: Sequence[str]) -> frozenset[str]:
    """The items that are to be upgraded: those that are named, or all of them.

    Raises:
        InputError: `usage`: a name that no item has.
    """
    known = [item.name for item in project.items]
    for name in names:
        if name not in known:
            near = nearest(known, name, limit=1)
            hint = f"did you mean `{near[0]}`?" if near else "names are those of the wanted file"
            raise InputError(f"`{name[:80]}` is no name in `{project.path}`", code="usage", hint=hint, text=name[:200])
    return frozenset(names or known)


def settle(
    client: Session, project: Project, lock: Lock | None, *, upgrade: Collection[str] = (), as_locked: bool = False
) -> list[LockResult]:
    """Find out what each item is, side by side.

    Args:
        upgrade: the names of those that are resolved anew although what is locked fits.
        as_locked: take what is locked by its digest, asking no tag.

    Returns:
        One for each item, in their order; nothing is raised for a single one.
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

    return client.each(one, project.items)


def _settle(client: Session, project: Project, item: Item, previous: Entry | None, *, is_upgraded: bool, as_locked: bool) -> LockResult:
    is_kept = not is_upgraded and mismatch(item, previous) is None
    if is_kept and previous is not None:
        resolved = _locked(client, item, previous, asks_tag=not as_locked)
    else:
        resolved = resolve(client, item.wanted)
    verification = verified(client, item, resolved)
    layers = find_layers(client, resolved, request_of(project, item))
    is_same = is_kept and previous is not None and dict(previous.options) == item.options()
    if is_same and previous is not None and (as_locked or previous.reference == resolved.reference):
        entry = previous
    else:
        entry = _entry(item, layers)
        _warn_of_older(client, item, entry, previous)
    check = gate(asked=item.verify)
    if check is not None:
        check.referrers(resolved.repository, (one.digest for one in entry.referrers))
    return LockResult(item, replace(entry, verification=verification), previous, layers)


def _warn_of_older(client: Session, item: Item, entry: Entry, previous: Entry | None) -> None:
    """Say that an item goes back: a registry that takes a newer version out of its list may want an old fault to come back."""
    new, old = (read_version(one.tag) if one is not None and one.tag else None for one in (entry, previous))
    if new is not None and old is not None and new.key < old.key:
        client.progress.warn(f"`{item.name}` goes back from `{old.tag}` to `{new.tag}`")


def _locked(client: Session, item: Item, entry: Entry, *, asks_tag: bool) -> Resolved:
    """What is locked, from the endpoint that counts now: by its digest, once its tag still means the same.

    Raises:
        LockError: `tag-drifted`.
    """
    asked = replace(item.reference, tag=entry.tag, digest=None)
    repository = client.repository(asked)
    bound = repository.reference
    if asks_tag and entry.tag is not None and not client.options.offline:
        try:
            now = repository.manifest()
        except NotFoundError as error:
            if error.code == "repository-not-found":
                raise
            client.progress.warn(
                f"`{item.name}`: the tag `{entry.tag}` of `{bound.full_repository}` is gone; what is locked is taken by its digest"
            )
        else:
            if now.descriptor.digest != entry.digest:
                raise LockError(
                    f"the tag `{entry.tag}` of `{bound.full_repository}` was moved: locked is `{entry.digest}`,"
                    f" the registry says `{now.descriptor.digest}`",
                    code="tag-drifted",
                    hint=f"find out why its publisher moved it; `marfetch lock --upgrade {item.name}` takes the new content",
                    entry=item.name,
                    reference=str(bound),
                    expected=str(entry.digest),
                    actual=str(now.descriptor.digest),
                )
    return resolved_to(repository, repository.manifest(entry.digest))


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
    """While no other process writes the lock of this project; two projects do not wait for each other."""
    directory = client.cache.root / DIRECTORY
    with suppress(OSError):
        make_directories(directory, 0o700)
    name = sha256(os.fsencode(project.lock_path.resolve())).hexdigest()
    with ExitStack() as stack:
        with suppress(StorageError):  # a cache that takes no lock takes none of the other process either
            stack.enter_context(alone(directory / f"{name}.lock", wait=max(0.0, min(_WAIT, client.budget.remaining))))
        yield


def write(project: Project, settled: Sequence[LockResult]) -> bool:
    """Write the lock, whole or not at all, where it says something new; what failed keeps its entry.

    Returns:
        Whether it was written.

    Raises:
        StorageError: it cannot be written.
    """
    entries = [entry for one in settled if (entry := one.entry or one.previous) is not None]
    path = project.lock_path
    found = read_bytes(path)
    if found is not None:
        try:
            old = parse_lock(found, path)
        except Error:
            old = None
        # Another version of marfetch that finds the same does not touch the file.
        if old is not None and old.entries == make_lock(entries).entries:
            return False
    write_file(path, lock_bytes(make_lock(entries)))
    return True
