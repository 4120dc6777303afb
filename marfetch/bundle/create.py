"""Create a bundle from a lock: fetch everything by digest into the cache, and write the archive from there.

No tag is asked for. What was fetched stays in the cache, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ..artifact.kinds import NOTATION_SIGNATURE
from ..client.session import Repository, Session
from ..content import BESIDE_FROM, Verified
from ..destination.destination import whole_file
from ..errors import InputError, IntegrityError, LockError, PolicyError, RemoteError
from ..layout.blobs import BlobStore, Extent, Stamp, not_there
from ..layout.blobs import Entry as IndexEntry
from ..layout.graph import ManifestNode, Manifests, closure
from ..layout.readonly import ReadonlyTar
from ..layout.repositories import Contents
from ..oci import Descriptor, Digest
from ..project.lockfile import Entry, Lock, parse_lock, read_bytes
from ..project.locking import refuse_misfits
from ..project.wanted import Item, Project
from ..verify.gate import gate
from .approval import approval_page
from .check import check_bundle, refuse_broken
from .format import (
    INDEX_FILE,
    LOCK_FILE,
    MARKER,
    MARKER_FILE,
    PAGE_FILE,
    RECORD_FILE,
    Base,
    Opened,
    Part,
    Record,
    archive_digest,
    archive_size,
    blob_file,
    index_bytes,
    opened,
    record_bytes,
    ref_name,
    whole,
    write_archive,
)
from .inventory import catalogue

MAX_REFERRERS: Final = 10_000
"""Of one artifact, all levels together."""


@dataclass(frozen=True, slots=True)
class Created:
    """The written bundle.

    Attributes:
        size: of the archive, bytes.
        referrers: how many manifests refer to others.
        omitted: blobs that a delta leaves out, and their bytes.
    """

    path: Path
    digest: Digest
    size: int
    artifacts: int
    referrers: int
    blobs: int
    base: Digest | None
    omitted: int
    omitted_size: int


@dataclass(slots=True)
class _Needed:
    """What one entry of the lock leads to.

    Attributes:
        read: the manifests that were read, for any entry.
        nodes: its manifests, with the referrers.
        about: of these, the referrers that no manifest leads to.
        blobs: what these name that is no manifest.
        proofs: of these, what signatures consist of; it is never left out, so that a delta can be verified by itself.
    """

    read: Manifests
    repository: Repository
    nodes: dict[Digest, ManifestNode] = field(default_factory=dict)
    about: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    proofs: set[Digest] = field(default_factory=set)


class _View:
    """The cache as a layout that holds what the bundle will: a `BlobStore`."""

    def __init__(self, below: BlobStore) -> None:
        self._below = below
        self._entries: Sequence[IndexEntry] = ()
        self._hidden: frozenset[Digest] = frozenset()

    def show(self, entries: Sequence[IndexEntry], hidden: Iterable[Digest]) -> None:
        """Say what the bundle holds, and which blobs it leaves out."""
        self._entries, self._hidden = entries, frozenset(hidden)

    @property
    def root(self) -> Path:
        return self._below.root

    def state(self) -> object:
        return self

    def entries(self) -> Sequence[IndexEntry]:
        return self._entries

    def stamp(self, digest: Digest) -> Stamp | None:
        return None if digest in self._hidden else self._below.stamp(digest)

    def extent(self, digest: Digest) -> Extent:
        if digest in self._hidden:
            raise not_there(digest, self.root)
        return self._below.extent(digest)

    def close(self) -> None:
        """Do nothing: the cache stays open."""


def create(client: Session, project: Project, output: Path, *, since: Path | None = None, with_referrers: bool = False) -> Created:
    """Write the bundle of a project's lock.

    Args:
        since: the bundle that the other side has: what it holds is left out.
        with_referrers: also everything that refers to the artifacts, and to that in turn.

    Raises:
        LockError: `lock-missing`, `lock-outdated`.
        InputError: `usage`: `output` is the bundle that it goes on from, or a file of the project.
        RemoteError: `offline`: the cache lacks something, or referrers are wanted: it does not know whether it has all of them.
        SignatureError: a referrer is not signed, where the wanted file or `MARFETCH_VERIFY` asks for that.
        IntegrityError: something is not what the lock says; the bundle that it goes on from is broken.
        StorageError: it cannot be written.
        Error: the registry failed.
    """
    if with_referrers and client.options.offline:
        raise RemoteError(
            "what refers to the artifacts is known to their registry only, and `--offline` asks nobody",
            code="offline",
            hint="remove `--offline`; or set `referrers: true` in marfetch.yaml, run `marfetch lock`, and drop `--referrers`",
        )
    _refuse_own(project, output)
    data = read_bytes(project.lock_path)
    lock = parse_lock(data, project.lock_path) if data is not None else None
    refuse_misfits(project, lock)
    assert lock is not None, "a lock that is missing was refused"
    assert data is not None, "so were its bytes"
    items = {item.name: item for item in project.items}
    client.fetches = True
    with ExitStack() as stack:
        old = stack.enter_context(opened(since)) if since is not None else None
        base = _base(client, old, output) if old is not None else None
        view = _View(client.cache)
        contents = Contents(view)
        needed = client.each(
            lambda entry: _needed(client, contents.manifests, items[entry.name], entry, with_referrers=with_referrers), lock.entries
        )
        blobs = {digest: (one, blob) for one in needed for digest, blob in one.blobs.items()}
        omitted = _omitted(needed, old) if old is not None else {}
        wanted = [pair for digest, pair in blobs.items() if digest not in omitted]
        client.each(
            lambda pair: pair[0].repository.ensure(pair[1]), wanted, hosts=2 if all(blob.size < BESIDE_FROM for _, blob in wanted) else 1
        )
        entries = _entries(lock, needed)
        view.show(entries, omitted)
        missing = contents.load().missing - {str(digest) for digest in omitted}
        if missing:
            raise IntegrityError(
                f"the cache lost {len(missing)} blobs while the bundle was made: `{min(missing)}`",
                code="bundle-broken",
                hint="run it again, and keep others from clearing the cache meanwhile",
                digests=sorted(missing),
            )
        page = approval_page(catalogue(contents, lock, with_images=True, is_checked=False), base)
        own = {MARKER_FILE: MARKER, INDEX_FILE: index_bytes(entries), LOCK_FILE: data, PAGE_FILE: page}
        record = record_bytes(Record({name: Digest.of(text) for name, text in own.items()}, base, omitted if base else None))
        first = {MARKER_FILE: MARKER, INDEX_FILE: own[INDEX_FILE], RECORD_FILE: record, LOCK_FILE: data, PAGE_FILE: page}
        sizes = {digest: node.descriptor.size for one in needed for digest, node in one.nodes.items()}
        sizes |= {digest: blob.size for digest, (_, blob) in blobs.items() if digest not in omitted}
        parts = [Part(name, len(text), whole(text)) for name, text in first.items()]
        parts += [_part(client, digest, size) for digest, size in sorted(sizes.items(), key=lambda one: blob_file(one[0]))]
        size = archive_size(parts)
        with whole_file(output, size=size) as file:
            digest = write_archive(file, parts)
    referrers = {digest for one in needed for digest in one.about}
    return Created(
        output,
        digest,
        size,
        len(lock.entries),
        len(referrers),
        len(sizes),
        base.digest if base else None,
        len(omitted),
        sum(omitted.values()),
    )


def _refuse_own(project: Project, output: Path) -> None:
    """Refuse to overwrite a file of the project."""
    for path in (project.path, project.lock_path):
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"`{output}` is a file of the project", code="usage", hint="give the bundle another name", path=str(output))


# -- what is needed


def _needed(client: Session, read: Manifests, item: Item, entry: Entry, *, with_referrers: bool) -> _Needed:
    """Follow an entry of the lock to everything that belongs to it; only manifests are fetched."""
    needed = _Needed(read, client.repository(replace(item.reference, tag=None, digest=entry.digest)))
    _follow(needed, entry.manifest)
    for one in entry.referrers:
        reason = _refer(needed, one, entry.digest)
        if reason is not None:
            raise IntegrityError(
                f"the lock says that `{one.digest}` refers to `{entry.reference}`, but {reason}",
                code="malformed",
                hint=f"run `marfetch lock --upgrade {entry.name}`",
                reference=str(entry.reference),
                digest=str(one.digest),
            )
    if with_referrers:
        asked: set[Digest] = set()
        while waiting := [digest for digest in needed.nodes if digest not in asked]:
            asked.update(waiting)
            for digest in waiting:
                for one in needed.repository.referrers(digest):
                    reason = _refer(needed, one, digest)
                    if reason is not None:
                        client.progress.warn(f"`{one.digest}` is left out: it is listed as a referrer of `{digest}`, but {reason}")
            if len(needed.about) > MAX_REFERRERS:
                raise PolicyError(
                    f"more than {MAX_REFERRERS} manifests refer to `{entry.reference}`",
                    code="limit-passed",
                    reference=str(entry.reference),
                    rule=f"at most {MAX_REFERRERS} referrers",
                )
    check = gate(asked=item.verify)
    if check is not None:
        check.referrers(needed.repository, needed.about)
    locked = [blob.digest for blob in entry.blobs() if blob.digest not in needed.blobs]
    if locked:
        raise LockError(
            f"the lock says that `{locked[0]}` belongs to `{entry.reference}`, but its manifest does not",
            code="lock-outdated",
            hint=f"run `marfetch lock --upgrade {entry.name}`",
            entry=entry.name,
        )
    return needed


def _refer(needed: _Needed, one: Descriptor, subject: Digest) -> str | None:
    """Add what refers to a manifest; where its own bytes say something else, the reason why it was not."""
    if one.digest in needed.nodes:
        return None
    found = _node(needed, one).subject
    if found is None:
        return "it refers to nothing"
    if found != str(subject):
        return f"it refers to `{found}`"
    needed.about[one.digest] = replace(one, annotations={}, platform=None)
    _follow(needed, one)
    return None


def _follow(needed: _Needed, root: Descriptor) -> None:
    """Take in a manifest and all that it leads to."""
    for one, node in closure([root], lambda each: _node(needed, each)):
        assert node is not None, "what cannot be read is an error"
        needed.nodes[one.digest] = node
        needed.blobs.update((blob.digest, blob) for blob in node.blobs)
        if (node.referrer.artifact_type or "").lower() == NOTATION_SIGNATURE:
            needed.proofs.update(blob.digest for blob in node.blobs)


def _node(needed: _Needed, one: Descriptor) -> ManifestNode:
    found = needed.read.cached(one.digest)
    if found is None:
        found = needed.repository.manifest(one.digest)
        needed.read.add(found)
    if (found.descriptor.size, found.descriptor.media_type.lower()) != (one.size, one.media_type.lower()):
        raise IntegrityError(
            f"the manifest `{one.digest}` of `{needed.repository.reference.full_repository}` has {found.descriptor.size} bytes of the type"
            f" `{found.descriptor.media_type}`, not {one.size} of `{one.media_type}`",
            code="size-mismatch",
            digest=str(one.digest),
        )
    return ManifestNode.of(found)


def _entries(lock: Lock, needed: Sequence[_Needed]) -> list[IndexEntry]:
    """The index: every artifact under its full name, and what refers to them without one."""
    named: dict[str, IndexEntry] = {}
    for entry, one in zip(lock.entries, needed, strict=True):
        name = ref_name(entry)
        named[name] = name, replace(one.nodes[entry.digest].descriptor, annotations={})
    roots = {descriptor.digest for _, descriptor in named.values()}
    about = {digest: one for each in needed for digest, one in each.about.items() if digest not in roots}
    return [*named.values(), *((None, one) for one in about.values())]


# -- a delta


def _base(client: Session, old: Opened, output: Path) -> Base:
    """The bundle that a delta goes on from, once all of it is known to be as it was written: what it says to have is left out."""
    from_file = old.path
    if output.exists() and output.samefile(from_file):
        raise InputError(f"`{output}` is the bundle that this one goes on from", code="usage", hint="give the new one another name")
    if old.record is None or not isinstance(old.store, ReadonlyTar):
        raise IntegrityError(
            f"`{from_file}` is no bundle to go on from",
            code="bundle-broken",
            hint="give the archive that `marfetch bundle create` has written",
        )
    refuse_broken(old, check_bundle(old, budget=client.budget.check))
    return Base(archive_digest(old.store), old.store.raw().size)


def _omitted(needed: Sequence[_Needed], old: Opened) -> dict[Digest, int]:
    """The blobs that the other side has in every repository in which they are needed. Manifests always come along, and signatures:
    they are small, and without them nobody could say what a delta is, and from whom.
    """
    snapshot = old.contents.load()
    lost = {Digest.parse(text) for text in snapshot.missing} - set(old.omitted)
    has = {
        name: {blob.digest for blob in repository.blobs.values() if blob.digest not in lost}
        for name, repository in snapshot.repositories.items()
    }
    found = {blob.digest: blob.size for one in needed for blob in one.blobs.values()}
    for one in needed:
        for digest in one.blobs:
            if digest in one.proofs or digest not in has.get(one.repository.reference.repository, ()):
                found.pop(digest, None)
    return found


# -- writing


def _part(client: Session, digest: Digest, size: int) -> Part:
    def pieces() -> Iterator[bytes]:
        verified = Verified(Descriptor("application/octet-stream", digest, size))
        with client.cache.extent(digest) as extent:
            for piece in extent.pieces():
                client.budget.check()
                verified.update(piece)
                yield piece
        try:
            verified.check()
        except IntegrityError as error:
            client.cache.drop(digest, error.message)
            raise IntegrityError(
                f"{error.message}, in the cache",
                code=error.code,
                hint="it was dropped: run it again, and it is fetched anew",
                **error.context,
            ) from error

    return Part(blob_file(digest), size, pieces)
