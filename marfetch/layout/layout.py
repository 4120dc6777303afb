"""A writable layout in a directory: blobs by digest, tags in `index.json`. The cache is such a layout, so other OCI tools can read it.

marfetch never trusts the content: it hashes manifests when it reads them, and payloads when it writes them to their destination. So
blobs need no `fsync`: if a power failure truncates a blob, marfetch notices and downloads it again.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from ..artifact.kinds import matches
from ..budget import Budget
from ..content import BlobReader, Progress, Verified
from ..errors import Error, IntegrityError, NotFoundError, StorageError
from ..files import INGEST, free_space, make_directories, storage_error
from ..oci import MAX_MANIFEST_SIZE, Descriptor, Digest, Index, Manifest, parse_manifest
from ..records import open_regular, refuse_unsafe
from ..reference import Reference
from .blobs import Entry, Extent, Stamp, open_range
from .graph import ManifestNode
from .index import LayoutTags, check_version, unsupported_index_content
from .ingest import STALE, FileIngest, StallGuard, claimed_part, discard

_RECENT: Final = 1024
"""Maximum number of blob paths kept in memory. Each blob is looked up several times."""
_UNCHECKED: Final = 1 << 20
"""Bytes that are written without a check of the free space. If the disk is full, the write itself fails."""
_MARK_AGAIN: Final = STALE / 4
"""Seconds after which a blob that is used again is marked as used again."""


def last_used(status: os.stat_result) -> float:
    """Return when a file was last written, read, renamed or marked, in seconds since the epoch."""
    return max(status.st_mtime, status.st_atime, status.st_ctime)


class Layout:
    """An OCI image layout in a directory, as source and target.

    Args:
        root: the directory; created if it is missing.
        mode: the permissions of new directories; new files get the same read permissions.
        below: a layout to read from if content is missing here, such as a cache that is not writable.
        warn: called with a message when corrupted content is deleted.
        patience: limits the wait for a blob that another process downloads; None for no limit.

    Raises:
        StorageError: the layout cannot be created or read, or has an unsupported version.
        PolicyError: `cache-unsafe`: another user may have changed the layout.
    """

    def __init__(
        self,
        root: Path,
        *,
        mode: int = 0o700,
        below: Layout | None = None,
        warn: Callable[[str], None] | None = None,
        patience: StallGuard | None = None,
    ) -> None:
        self.root = root
        self._paths: dict[Digest, Path] = {}
        self._mode = mode
        self._below = below
        self._warn = warn
        self._patience = patience
        self.names = LayoutTags(root)
        self._referrers: dict[Digest, list[Descriptor]] | None = None
        self._hidden: set[Digest] = set()
        """Corrupted blobs to ignore. They cannot be deleted, because the layout is read-only."""
        try:
            make_directories(root, mode)
        except OSError as error:
            raise storage_error(error, root) from error
        # A layout that others may read, such as the target of `bundle load`, may belong to another user.
        refuse_unsafe(root, any_owner=bool(mode & 0o077))
        check_version(root)
        self.names.create()
        with suppress(OSError):
            (root / INGEST).mkdir(mode=0o700, exist_ok=True)

    @property
    def is_writable(self) -> bool:
        """Whether the layout is writable."""
        return os.access(self.root, os.W_OK) and os.access(self.root / INGEST, os.W_OK)

    def path(self, digest: Digest) -> Path:
        """Return the path of a blob, existing or not."""
        path = self._paths.get(digest)
        if path is None:
            if len(self._paths) >= _RECENT:
                self._paths.clear()
            path = self._paths[digest] = self.root.joinpath("blobs", digest.algorithm, digest.encoded)
        return path

    # -- store

    def state(self) -> object:
        return self.names.changes

    def entries(self) -> Sequence[Entry]:
        return self.names.entries()

    def stamp(self, digest: Digest) -> Stamp | None:
        try:
            status = self._status(digest)
        except OSError:
            return self._below.stamp(digest) if self._below is not None else None
        return Stamp.of(status) if stat.S_ISREG(status.st_mode) else None

    def _status(self, digest: Digest) -> os.stat_result:
        if digest in self._hidden:
            raise FileNotFoundError(errno.ENOENT, "hidden")
        return self.path(digest).lstat()

    def extent(self, digest: Digest) -> Extent:
        with self.open(digest) as file:
            return Extent.of(os.dup(file.fileno()), str(self.path(digest)))

    def close(self) -> None:
        """Do nothing: no file stays open."""

    # -- target

    def has(self, descriptor: Descriptor) -> bool:
        """Return whether the blob exists with the right size. Its bytes are verified when they are used.

        Raises:
            IntegrityError: `size-mismatch`: the blob matches its digest, so the size in the descriptor is wrong.
        """
        try:
            status = self._status(descriptor.digest)
        except (FileNotFoundError, NotADirectoryError):
            return self._below is not None and self._below.has(descriptor)
        except OSError as error:
            raise storage_error(error, self.path(descriptor.digest)) from error
        if stat.S_ISREG(status.st_mode) and status.st_size == descriptor.size:
            self._mark_used(self.path(descriptor.digest), status)
            return True
        if stat.S_ISREG(status.st_mode) and self.digest_matches(descriptor.digest):
            raise IntegrityError(
                f"the blob `{descriptor.digest}` has {status.st_size} bytes, not the {descriptor.size} of its descriptor",
                code="size-mismatch",
                digest=str(descriptor.digest),
                expected=descriptor.size,
                actual=status.st_size,
            )
        self.drop(descriptor.digest, "it is not a file of the right size")
        return False

    def mark_used(self, digest: Digest) -> None:
        """Mark a blob as used now, so that a concurrent `cache prune` keeps it."""
        with suppress(OSError):
            self._mark_used(self.path(digest), self._status(digest))

    def _mark_used(self, path: Path, status: os.stat_result) -> None:
        if time.time() - last_used(status) > _MARK_AGAIN:
            with suppress(OSError):  # set only the access time: the modification time shows whether the blob was changed
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))

    def digest_matches(self, digest: Digest) -> bool:
        """Hash a blob and return whether it matches its digest.

        Raises:
            NotFoundError: `blob-not-found`.
            StorageError: the blob cannot be read.
        """
        hasher = digest.hasher()
        with self.extent(digest) as extent:
            for piece in extent.pieces():
                hasher.update(piece)
        return hasher.hexdigest() == digest.encoded

    @contextmanager
    def ingest(self, descriptor: Descriptor, *, waits: bool = True) -> Iterator[FileIngest | None]:
        """Start writing a blob. Wait while another process downloads it, and yield None if that process completed it.

        Args:
            waits: if False, download the blob too instead of waiting.
        """
        part = self.root.joinpath(INGEST, f"{descriptor.digest.algorithm}-{descriptor.digest.encoded}")
        with self._patience.wait(descriptor, part) if self._patience is not None else nullcontext() as look:
            part, file = claimed_part(part, look, waits=waits)
        try:
            there = self.has(descriptor)
            held = 0 if there else os.fstat(file.fileno()).st_size
            if not there and descriptor.size - held > _UNCHECKED:
                self._check_room(descriptor, held=held)
        except BaseException:
            with file, suppress(OSError):
                if not os.fstat(file.fileno()).st_size:
                    discard(part, file)
            raise
        if there:
            discard(part, file)
            yield None
            return
        ingest = FileIngest(descriptor, file, part, self.path(descriptor.digest), held=held, mode=self._mode)
        failure: BaseException | None = None
        try:
            yield ingest
        except BaseException as error:
            failure = error
            raise
        finally:
            ingest.close(failure)

    def _check_room(self, descriptor: Descriptor, *, held: int) -> None:
        try:
            free = free_space(self.root)
        except OSError as error:
            raise storage_error(error, self.root) from error
        if free is not None and descriptor.size - held > free:
            raise StorageError(
                f"the disk is full: the blob `{descriptor.digest}` needs {descriptor.size - held} more bytes, and `{self.root}` has {free}",
                code="disk-full",
                hint="free disk space (`marfetch cache prune`), or use another disk with `--cache-dir`",
                path=str(self.root),
                needed=descriptor.size - held,
                free=free,
            )

    def add(self, manifest: Manifest | Index) -> None:
        """Store the original bytes of a manifest or index. Its digest was computed from them when it was parsed.

        Raises:
            StorageError: the manifest cannot be written.
        """
        if self.has(manifest.descriptor):
            return
        with self.ingest(manifest.descriptor) as ingest:
            if ingest is not None:
                ingest.put(manifest.raw)
        self._referrers = None

    def tag(self, reference: Reference, descriptor: Descriptor) -> None:
        """Point the reference's tag to a manifest. If the reference has no tag, add an entry without a name."""
        self.names.put(_ref_name(reference) if reference.tag else None, descriptor)

    def drop(self, digest: Digest, reason: str) -> None:
        """Delete a corrupted blob, or ignore it from now on if the layout is read-only. If the blob is a link, delete only the link.

        Raises:
            StorageError: the blob cannot be deleted.
        """
        path = self.path(digest)
        if self._warn is not None:
            self._warn(f"the blob `{digest}` in `{self.root}` was corrupted ({reason}), so it was deleted; it is fetched again when needed")
        if self._below is not None:
            self._below.hide(digest)
        if not self.is_writable:
            self.hide(digest)
            return
        try:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, path) from error

    def hide(self, digest: Digest) -> None:
        """Ignore a blob from now on, without deleting its file."""
        self._hidden.add(digest)

    # -- source

    def known(self, reference: Reference) -> Descriptor | None:
        """Return the descriptor of the manifest that the reference's tag last pointed to, if that manifest is cached and valid."""
        if reference.tag is None:
            return None
        found = self.names.get(_ref_name(reference))
        if found is None:
            return self._below.known(reference) if self._below else None
        return found if self.find(found.digest, found.media_type) is not None else None

    def find(self, digest: Digest, media_type: str | None = None) -> Manifest | Index | None:
        """Read and verify a manifest by digest; None if it is missing or corrupted.

        Args:
            media_type: the media type from the index or a descriptor; used if the manifest declares none.
        """
        try:
            with self.open(digest) as file:
                raw = file.read(MAX_MANIFEST_SIZE + 1)
        except NotFoundError:
            return None
        except StorageError as error:
            if error.code != "cache-damaged":
                raise
            self.drop(digest, "it is not a file")
            return None
        if len(raw) > MAX_MANIFEST_SIZE:
            return None  # too large for a manifest, so this is another kind of blob
        if Digest.of(raw, digest.algorithm) != digest:
            with suppress(StorageError):
                self.drop(digest, "its bytes have another digest")
            return None
        try:
            return parse_manifest(raw, what=f"the manifest `{digest}`", media_type=media_type, digest=digest)
        except Error:
            return None  # the bytes match the digest but are no manifest

    def read(self, descriptor: Descriptor) -> bytes:
        """Return the verified bytes of a small blob. The caller must limit the size.

        Raises:
            NotFoundError: `blob-not-found`.
            IntegrityError: the blob does not match its descriptor.
            StorageError: the blob cannot be read.
        """
        return b"".join(self.pieces(descriptor))

    def pieces(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the bytes of a blob, and verify them after the last piece.

        Raises:
            Error: see `read`.
        """
        verified = Verified(descriptor)
        with self.extent(descriptor.digest) as extent:
            for piece in extent.pieces():
                verified.update(piece)
                yield piece
        verified.check()

    def open(self, digest: Digest) -> BinaryIO:
        """Open the file of a blob, without verifying the bytes.

        Raises:
            NotFoundError: `blob-not-found`.
            StorageError: the file cannot be opened.
        """
        path = self.path(digest)
        try:
            if digest in self._hidden:
                raise FileNotFoundError(errno.ENOENT, "hidden")
            return os.fdopen(open_regular(path), "rb", buffering=0)
        except (FileNotFoundError, NotADirectoryError) as error:
            if self._below is not None:
                return self._below.open(digest)
            raise NotFoundError(
                f"the blob `{digest}` is not in `{self.root}`", code="blob-not-found", digest=str(digest), path=str(path)
            ) from error
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EINVAL):
                raise StorageError(
                    f"`{path}` is not a file", code="cache-damaged", hint="run `marfetch cache verify --fix`", path=str(path)
                ) from error
            raise storage_error(error, path) from error

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        digest, media_type = reference.digest, None
        if reference.tag is not None:
            named = self.names.get(_ref_name(reference))
            if named is None and self._below is not None:
                return self._below.manifest(reference, known=known)
            if named is None:
                raise NotFoundError(
                    f"`{reference}` is not in `{self.root}`", code="tag-not-found", reference=str(reference), path=str(self.root)
                )
            if digest is not None and digest != named.digest:
                raise IntegrityError(
                    f"the tag `{_ref_name(reference)}` points to `{named.digest}`, not to `{digest}`",
                    code="tag-moved",
                    reference=str(reference),
                    expected=str(digest),
                    actual=str(named.digest),
                )
            digest, media_type = named.digest, named.media_type
        assert digest is not None, "a reference to a manifest has a tag or a digest"
        if known is not None and known.digest == digest:
            return None
        found = self.find(digest, media_type)
        if found is None:
            raise NotFoundError(
                f"the manifest `{digest}` is not in `{self.root}`", code="manifest-not-found", reference=str(reference), path=str(self.root)
            )
        return found

    def blob(self, reference: Reference, descriptor: Descriptor, heartbeat: object = None) -> BlobReader:  # noqa: ARG002 - required by the protocol
        return partial(open_range, self, descriptor.digest)

    def tags(self, reference: Reference) -> list[str]:
        prefix = f"{reference.full_repository}:"
        found = {name.removeprefix(prefix) for name in self.names.all() if name.startswith(prefix)}
        if self._below is not None:
            with suppress(NotFoundError):
                found.update(self._below.tags(reference))
        if not found:
            raise NotFoundError(
                f"`{self.root}` has no artifact of `{reference.full_repository}`",
                code="repository-not-found",
                reference=reference.full_repository,
                path=str(self.root),
            )
        return sorted(found)

    def referrers(self, reference: Reference, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:  # noqa: ARG002
        if self._referrers is None:
            self._referrers = self._find_referrers()
        found = self._referrers.get(digest, [])
        return [entry for entry in found if artifact_type is None or matches(entry.artifact_type or "", (artifact_type,))]

    def _find_referrers(self) -> dict[Digest, list[Descriptor]]:
        found: dict[Digest, dict[Digest, Descriptor]] = {}
        for root in self.names.roots():
            manifest = self.find(root.digest, root.media_type)
            if manifest is not None and manifest.subject is not None:
                referrer = ManifestNode.of(manifest).referrer
                found.setdefault(manifest.subject.digest, {})[referrer.digest] = referrer
        return {subject: list(entries.values()) for subject, entries in found.items()}

    def repositories(self) -> list[str]:
        found = {Reference.parse(name).repository for name in self.names.all() if "/" in name}
        return sorted(found)


def _ref_name(reference: Reference) -> str:
    return f"{reference.full_repository}:{reference.tag}"


def open_for_writing(root: Path, budget: Budget, progress: Progress) -> Layout:
    """Open or create a layout in a directory that the user chose. Other users can read the layout.

    Args:
        budget: limits the wait for a blob that another process is writing.
        progress: shows that marfetch is waiting.

    Raises:
        StorageError: rewriting `index.json` would lose content that marfetch does not support.
    """
    lost = unsupported_index_content(root)
    if lost is not None:
        raise StorageError(
            f"refused to write to the layout `{root}`, because its `index.json` would lose content: {lost}",
            code="file-unusable",
            hint="use a separate directory, and copy between layouts with `oras cp` or `regctl image copy`",
            path=str(root),
        )
    return Layout(root, mode=0o755, patience=StallGuard(budget, progress, lambda: False))
