"""Create a bundle from a lock file: download the locked content into the cache by digest, then write the archive from the cache.

No tag is resolved. Downloads stay in the cache, so an interrupted run resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ..client.session import Session
from ..content import BESIDE_FROM
from ..destination.destination import whole_file
from ..errors import InputError, IntegrityError, RemoteError
from ..layout.blobs import BlobStore, Extent, Stamp, not_there
from ..layout.blobs import Entry as IndexEntry
from ..layout.readonly import ReadonlyTar
from ..layout.repositories import Contents
from ..oci import Digest
from ..project.lockfile import parse_lock, read_bytes
from ..project.locking import refuse_misfits
from ..project.roots import roots_of
from ..project.wanted import Project
from ..text import counted
from .approval import approval_page
from .check import check_bundle, refuse_broken
from .closure import Needed, needed_of
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
    cached_part,
    index_bytes,
    opened,
    record_bytes,
    whole,
    write_archive,
)
from .inventory import bundle_items


@dataclass(frozen=True, slots=True)
class Created:
    """A new bundle.

    Attributes:
        digest: the digest of the archive.
        size: the size of the archive in bytes.
        artifacts: the number of artifacts in the bundle, including images.
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
            lambda root: needed_of(client, contents.manifests, items[root.entry.name], root, with_referrers=with_referrers),
            roots_of(lock),
            label="reading",
        )
        blobs = {digest: (one, blob) for one in needed for digest, blob in one.blobs.items()}
        omitted = _omitted(needed, old) if old is not None else {}
        carried = {digest for one in needed for digest in one.nodes}
        left_out = {one.digest: one.size for each in needed for one in each.omitted.values() if one.digest not in carried}
        wanted = [pair for digest, pair in blobs.items() if digest not in omitted]
        client.each(
            lambda pair: pair[0].repository.ensure(pair[1]),
            wanted,
            hosts=2 if all(blob.size < BESIDE_FROM for _, blob in wanted) else 1,
            label="downloading",
            unit="blobs",
        )
        entries = _entries(needed)
        view.show(entries, {*omitted, *left_out})
        missing = contents.load().missing - {str(digest) for digest in (*omitted, *left_out)}
        if missing:
            raise IntegrityError(
                f"{counted(len(missing), 'blob')} disappeared from the cache while the bundle was created, such as `{min(missing)}`",
                code="bundle-broken",
                hint="run the command again, and do not clear the cache while it runs",
                digests=sorted(missing),
            )
        page = approval_page(bundle_items(contents, lock, with_images=True, is_checked=False), base)
        own = {MARKER_FILE: MARKER, INDEX_FILE: index_bytes(entries), LOCK_FILE: data, PAGE_FILE: page}
        record = record_bytes(Record({name: Digest.of(text) for name, text in own.items()}, base, omitted if base else None, left_out))
        first = {MARKER_FILE: MARKER, INDEX_FILE: own[INDEX_FILE], RECORD_FILE: record, LOCK_FILE: data, PAGE_FILE: page}
        sizes = {digest: node.descriptor.size for one in needed for digest, node in one.nodes.items()}
        sizes |= {digest: blob.size for digest, (_, blob) in blobs.items() if digest not in omitted}
        parts = [Part(name, len(text), whole(text)) for name, text in first.items()]
        steps = stack.enter_context(client.progress.steps("writing", len(sizes), "blobs"))
        parts += [cached_part(client, digest, size, steps) for digest, size in sorted(sizes.items(), key=lambda one: blob_file(one[0]))]
        size = archive_size(parts)
        with whole_file(output, size=size) as file:
            digest = write_archive(file, parts)
    referrers = {digest for one in needed for digest in one.referrers}
    return Created(
        output,
        digest,
        size,
        len(needed),
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


def _entries(needed: Sequence[Needed]) -> list[IndexEntry]:
    """Return the index entries of the bundle. Artifacts have their full reference as name; referrers have no name."""
    named: dict[str, IndexEntry] = {}
    for one in needed:
        named[one.root.name] = one.root.name, replace(one.nodes[one.root.manifest.digest].descriptor, annotations={})
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


def _omitted(needed: Sequence[Needed], old: Opened) -> dict[Digest, int]:
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
