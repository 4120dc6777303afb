"""Create a bundle from a lock file: download the locked content into the cache by digest, then write the archive from the cache.

No tag is resolved. Downloads stay in the cache, so an interrupted run resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ..artifact.kinds import NOTATION_SIGNATURE
from ..client.session import Repository, Session
from ..content import BESIDE_FROM, Steps, Verified, transferring
from ..destination.destination import whole_file
from ..errors import InputError, IntegrityError, LockError, NotFoundError, PolicyError, RemoteError
from ..layout.blobs import BlobStore, Extent, Stamp, not_there
from ..layout.blobs import Entry as IndexEntry
from ..layout.graph import ManifestNode, Manifests, closure
from ..layout.readonly import ReadonlyTar
from ..layout.repositories import Contents
from ..oci import Descriptor, Digest
from ..project.lockfile import Entry, Lock, parse_lock, read_bytes
from ..project.locking import refuse_misfits
from ..project.wanted import Item, Project
from ..text import counted
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
from .inventory import bundle_items

MAX_REFERRERS: Final = 10_000
"""The maximum number of referrers of one artifact, including referrers of referrers."""


@dataclass(frozen=True, slots=True)
class Created:
    """A new bundle.

    Attributes:
        digest: the digest of the archive.
        size: the size of the archive in bytes.
        artifacts: the number of artifacts in the bundle.
        referrers: the number of referrers in the bundle.
        blobs: the number of blobs in the bundle, including manifests.
        base: the digest of the base bundle; None if the bundle is not a delta.
        omitted: the number of blobs that the delta omits.
        omitted_size: the total size of the omitted blobs in bytes.
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
    """Everything that belongs to one lock entry.

    Attributes:
        manifests: the manifests that were read so far, shared by all entries.
        nodes: the manifests of this entry, including its referrers.
        referrers: the descriptors of the referrers.
        blobs: the config and layer blobs of all manifests in `nodes`.
        signature_blobs: the blobs of signatures. A delta never omits them, so that its signatures can be verified without the base.
    """

    manifests: Manifests
    repository: Repository
    nodes: dict[Digest, ManifestNode] = field(default_factory=dict)
    referrers: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    signature_blobs: set[Digest] = field(default_factory=set)


class _View:
    """A `BlobStore` over the cache that shows only the content of the bundle to create."""

    def __init__(self, below: BlobStore) -> None:
        self._below = below
        self._entries: Sequence[IndexEntry] = ()
        self._hidden: frozenset[Digest] = frozenset()

    def show(self, entries: Sequence[IndexEntry], hidden: Iterable[Digest]) -> None:
        """Set the index entries of the bundle, and the blobs to hide because the bundle omits them."""
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
        """Do nothing: the session closes the cache."""


def create(client: Session, project: Project, output: Path, *, since: Path | None = None, with_referrers: bool = False) -> Created:
    """Write a bundle with everything in a project's lock file.

    Args:
        output: the path of the archive to write.
        since: the path of a base bundle. If given, write a delta that omits blobs of the base bundle.
        with_referrers: include all referrers of the artifacts, and referrers of these referrers.

    Raises:
        LockError: `lock-missing`, `lock-outdated`.
        InputError: `usage`: `output` is the base bundle or a project file.
        RemoteError: `offline`: content is missing in the cache, or `with_referrers` needs the registry to list referrers.
        SignatureError: a referrer is unsigned, but the project file or `MARFETCH_VERIFY` requires signatures.
        IntegrityError: content differs from the lock file, or the base bundle is broken.
        StorageError: the archive cannot be written.
        Error: the registry failed.
    """
    if with_referrers and client.options.offline:
        raise RemoteError(
            "`--referrers` needs the registry to list referrers, but `--offline` is set",
            code="offline",
            hint="remove `--offline`; or set `referrers: true` in marfetch.yaml, run `marfetch lock`, and drop `--referrers`",
        )
    _refuse_project_files(project, output)
    data = read_bytes(project.lock_path)
    lock = parse_lock(data, project.lock_path) if data is not None else None
    refuse_misfits(project, lock)
    assert lock is not None, "`refuse_misfits` refuses a missing lock file"
    assert data is not None, "the lock was parsed from the bytes of this file"
    items = {item.name: item for item in project.items}
    client.fetches = True
    with ExitStack() as stack:
        old = stack.enter_context(opened(since)) if since is not None else None
        base = _base(client, old, output) if old is not None else None
        view = _View(client.cache)
        contents = Contents(view)
        needed = client.each(
            lambda entry: _needed(client, contents.manifests, items[entry.name], entry, with_referrers=with_referrers),
            lock.entries,
            label="reading",
        )
        blobs = {digest: (one, blob) for one in needed for digest, blob in one.blobs.items()}
        omitted = _omitted(needed, old) if old is not None else {}
        wanted = [pair for digest, pair in blobs.items() if digest not in omitted]
        client.each(
            lambda pair: pair[0].repository.ensure(pair[1]),
            wanted,
            hosts=2 if all(blob.size < BESIDE_FROM for _, blob in wanted) else 1,
            label="downloading",
            unit="blobs",
        )
        entries = _entries(lock, needed)
        view.show(entries, omitted)
        missing = contents.load().missing - {str(digest) for digest in omitted}
        if missing:
            raise IntegrityError(
                f"{counted(len(missing), 'blob')} disappeared from the cache while the bundle was created, such as `{min(missing)}`",
                code="bundle-broken",
                hint="run the command again, and do not clear the cache while it runs",
                digests=sorted(missing),
            )
        page = approval_page(bundle_items(contents, lock, with_images=True, is_checked=False), base)
        own = {MARKER_FILE: MARKER, INDEX_FILE: index_bytes(entries), LOCK_FILE: data, PAGE_FILE: page}
        record = record_bytes(Record({name: Digest.of(text) for name, text in own.items()}, base, omitted if base else None))
        first = {MARKER_FILE: MARKER, INDEX_FILE: own[INDEX_FILE], RECORD_FILE: record, LOCK_FILE: data, PAGE_FILE: page}
        sizes = {digest: node.descriptor.size for one in needed for digest, node in one.nodes.items()}
        sizes |= {digest: blob.size for digest, (_, blob) in blobs.items() if digest not in omitted}
        parts = [Part(name, len(text), whole(text)) for name, text in first.items()]
        steps = stack.enter_context(client.progress.steps("writing", len(sizes), "blobs"))
        parts += [_part(client, digest, size, steps) for digest, size in sorted(sizes.items(), key=lambda one: blob_file(one[0]))]
        size = archive_size(parts)
        with whole_file(output, size=size) as file:
            digest = write_archive(file, parts)
    referrers = {digest for one in needed for digest in one.referrers}
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


def _refuse_project_files(project: Project, output: Path) -> None:
    """Refuse to overwrite `marfetch.yaml` or `marfetch.lock`."""
    for path in (project.path, project.lock_path):
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(
                f"the bundle would overwrite the project file `{output}`",
                code="usage",
                hint="choose another name for the bundle",
                path=str(output),
            )


# -- collecting the content


_STRANGE: Final = ("malformed", "manifest-withdrawn", "manifest-not-found")
"""Codes of errors for a referrer that is skipped because it is broken. Other referrers are still included."""


def _needed(client: Session, manifests: Manifests, item: Item, entry: Entry, *, with_referrers: bool) -> _Needed:
    """Collect the manifests and blobs that belong to a lock entry. Only manifests are downloaded."""
    needed = _Needed(manifests, client.repository(replace(item.reference, tag=None, digest=entry.digest)))
    _follow(needed, entry.manifest)
    for one in entry.referrers:
        reason = _refer(needed, one, entry.digest)
        if reason is not None:
            raise IntegrityError(
                f"the lock file lists `{one.digest}` as a referrer of `{entry.reference}`, but {reason}",
                code="malformed",
                hint=f"marfetch lock --upgrade {entry.name}",
                reference=str(entry.reference),
                digest=str(one.digest),
            )
    if with_referrers:
        done: set[Digest] = set()
        while pending := [digest for digest in needed.nodes if digest not in done]:
            done.update(pending)
            for digest in pending:
                for one in needed.repository.referrers(digest):
                    try:
                        reason = _refer(needed, one, digest)
                    except (NotFoundError, IntegrityError, PolicyError) as error:
                        if error.code not in _STRANGE:
                            raise
                        reason = error.message
                    if reason is not None:
                        client.progress.warn(f"skipped `{one.digest}`: the registry lists it as a referrer of `{digest}`, but {reason}")
            if len(needed.referrers) > MAX_REFERRERS:
                raise PolicyError(
                    f"`{entry.reference}` has more than {MAX_REFERRERS} referrers",
                    code="limit-passed",
                    reference=str(entry.reference),
                    rule=f"at most {MAX_REFERRERS} referrers",
                )
    check = gate(asked=item.verify)
    if check is not None:
        check.referrers(needed.repository, needed.referrers)
    locked = [blob.digest for blob in entry.blobs() if blob.digest not in needed.blobs]
    if locked:
        raise LockError(
            f"the lock file lists `{locked[0]}` as a blob of `{entry.reference}`, but its manifest does not",
            code="lock-outdated",
            hint=f"marfetch lock --upgrade {entry.name}",
            entry=entry.name,
        )
    return needed


def _refer(needed: _Needed, one: Descriptor, subject: Digest) -> str | None:
    """Add a referrer of a manifest. If the referrer's `subject` is not this manifest, return the reason and add nothing."""
    if one.digest in needed.nodes:
        return None
    found = _node(needed, one).subject
    if found is None:
        return "it has no `subject`"
    if found != str(subject):
        return f"its `subject` is `{found}`"
    _follow(needed, one)
    needed.referrers[one.digest] = replace(one, annotations={}, platform=None)
    return None


def _follow(needed: _Needed, root: Descriptor) -> None:
    """Add a manifest, and all manifests and blobs reachable from it."""
    reached = list(closure([root], lambda each: _node(needed, each)))  # read all manifests first, so that a broken referrer adds nothing
    for one, node in reached:
        assert node is not None, "`_node` raises if a manifest cannot be read"
        needed.nodes[one.digest] = node
        needed.blobs.update((blob.digest, blob) for blob in node.blobs)
        if (node.referrer.artifact_type or "").lower() == NOTATION_SIGNATURE:
            needed.signature_blobs.update(blob.digest for blob in node.blobs)


def _node(needed: _Needed, one: Descriptor) -> ManifestNode:
    found = needed.manifests.cached(one.digest)
    if found is None:
        found = needed.repository.manifest(one.digest)
        needed.manifests.add(found)
    if (found.descriptor.size, found.descriptor.media_type.lower()) != (one.size, one.media_type.lower()):
        raise IntegrityError(
            f"the manifest `{one.digest}` of `{needed.repository.reference.full_repository}` has {found.descriptor.size} bytes and the type"
            f" `{found.descriptor.media_type}`, not {one.size} bytes and `{one.media_type}` as its descriptor says",
            code="size-mismatch",
            digest=str(one.digest),
        )
    return ManifestNode.of(found)


def _entries(lock: Lock, needed: Sequence[_Needed]) -> list[IndexEntry]:
    """Return the index entries of the bundle. Artifacts have their full reference as name; referrers have no name."""
    named: dict[str, IndexEntry] = {}
    for entry, one in zip(lock.entries, needed, strict=True):
        name = ref_name(entry)
        named[name] = name, replace(one.nodes[entry.digest].descriptor, annotations={})
    roots = {descriptor.digest for _, descriptor in named.values()}
    about = {digest: one for each in needed for digest, one in each.referrers.items() if digest not in roots}
    return [*named.values(), *((None, one) for one in about.values())]


# -- a delta


def _base(client: Session, old: Opened, output: Path) -> Base:
    """Check the base bundle completely, and return its digest and size. The delta depends on the blobs in the base bundle."""
    from_file = old.path
    if output.exists() and output.samefile(from_file):
        raise InputError(f"the delta would overwrite its base bundle `{output}`", code="usage", hint="choose another name for the delta")
    if old.record is None or not isinstance(old.store, ReadonlyTar):
        raise IntegrityError(
            f"`{from_file}` is not a bundle archive, so it cannot be the base of a delta",
            code="bundle-broken",
            hint="pass `--since` an archive from `marfetch bundle create`",
        )
    refuse_broken(old, check_bundle(old, budget=client.budget.check, progress=client.progress))
    return Base(archive_digest(old.store), old.store.raw().size)


def _omitted(needed: Sequence[_Needed], old: Opened) -> dict[Digest, int]:
    """Return the blobs that a delta can omit, with their sizes. The base bundle must have a blob in every repository that needs it.

    A delta always includes manifests and signatures. They are small, and they show the content of the delta and its signers.
    """
    snapshot = old.contents.load()
    lost = {Digest.parse(text) for text in snapshot.missing} - set(old.omitted)
    in_base = {
        name: {blob.digest for blob in repository.blobs.values() if blob.digest not in lost}
        for name, repository in snapshot.repositories.items()
    }
    found = {blob.digest: blob.size for one in needed for blob in one.blobs.values()}
    for one in needed:
        for digest in one.blobs:
            if digest in one.signature_blobs or digest not in in_base.get(one.repository.reference.repository, ()):
                found.pop(digest, None)
    return found


# -- writing


def _part(client: Session, digest: Digest, size: int, steps: Steps) -> Part:
    def pieces() -> Iterator[bytes]:
        verified = Verified(Descriptor("application/octet-stream", digest, size))
        with transferring(client.progress, str(digest), size) as transfer, client.cache.extent(digest) as extent:
            for piece in extent.pieces():
                client.budget.check()
                verified.update(piece)
                transfer.held(verified.held)
                yield piece
        steps.advance()
        try:
            verified.check()
        except IntegrityError as error:
            client.cache.drop(digest, error.message)
            raise IntegrityError(
                f"corrupted blob in the cache: {error.message}",
                code=error.code,
                hint="the blob was deleted: run the command again to download a new copy",
                **error.context,
            ) from error

    return Part(blob_file(digest), size, pieces)
