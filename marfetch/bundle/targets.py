"""Where a bundle goes: a registry of the user's, or a folder. Only what is missing is sent, a manifest after all that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from ..content import Progress, Transfer, copy
from ..endpoint import Endpoint
from ..errors import Error, InputError
from ..layout.graph import ManifestNode, closure
from ..layout.layout import Layout
from ..layout.repositories import Contents, LayoutRepository, Snapshot
from ..oci import Descriptor, Digest
from ..reference import Host, Reference
from ..remote.push import Pushing, refuse_name
from ..remote.registry import Registry

# -- the work of loading a bundle, cut into jobs: one for each manifest that has a name, with all that belongs to it


@dataclass(frozen=True, slots=True)
class Job:
    """One manifest with all that belongs to it.

    Attributes:
        tags: that it has in its repository; none: it is there by its digest.
    """

    repository: str
    digest: Digest
    tags: tuple[str, ...] = ()


def jobs_of(contents: Contents) -> list[Job]:
    """Everything that a layout holds, in the order of repositories and digests."""
    found: list[Job] = []
    snapshot = contents.current()
    for repository in snapshot.repositories.values():
        roots: dict[str, list[str]] = {}
        for tag, descriptor in repository.tags.items():
            roots.setdefault(str(descriptor.digest), []).append(tag)
        reached = {str(one.descriptor.digest) for root in roots for one in _all(snapshot, repository, root)}
        # What has no tag: what others refer to first, then what is left.
        abouts = {str(one.digest) for several in repository.referrers.values() for one in several}
        children = {
            str(child.digest)
            for one in repository.manifests.values()
            if (node := snapshot.graph.node(one)) is not None
            for child in node.children
            if str(child.digest) not in roots
        }
        for digest in sorted(repository.manifests, key=lambda one: (one in abouts or one in children, one)):
            if digest not in reached:
                roots[digest] = []
                reached |= {str(one.descriptor.digest) for one in _all(snapshot, repository, digest)}
        found += [Job(repository.name, Digest.parse(digest), tuple(roots[digest])) for digest in sorted(roots)]
    return found


def _all(snapshot: Snapshot, repository: LayoutRepository, root: str) -> Iterator[ManifestNode]:
    """A manifest with its children before it and its referrers behind it, each once."""
    found = closure([repository.manifests[root]], snapshot.graph.node, lambda digest: repository.referrers.get(str(digest), ()))
    return (node for _, node in found if node is not None)


def _blobs(node: ManifestNode) -> Iterable[Descriptor]:
    """What it names that is no manifest, each once."""
    return {blob.digest: blob for blob in node.blobs}.values()


Outcome: TypeAlias = Literal["pushed", "unchanged", "replaced", "failed"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a job.

    Attributes:
        reference: where it is now, pinned.
        outcome: `replaced` where a tag meant something else there before.
        blobs, size: what was sent; bytes.
        error: of what failed.
    """

    reference: str
    outcome: Outcome
    blobs: int = 0
    size: int = 0
    error: Error | None = None


@dataclass(frozen=True, slots=True)
class To:
    """Where a bundle goes: a registry with a prefix, or a folder.

    Attributes:
        endpoint: None for a folder.
        prefix: of the repositories there; may be empty.
    """

    text: str
    endpoint: Endpoint | None
    prefix: str = ""

    @classmethod
    def parse(cls, text: str, *, plain_http: bool = False, data_hosts: Sequence[str] = ()) -> To:
        """Read `HOST[:PORT][/PREFIX]` or a folder; as in references, a host holds `.` or `:`, or is `localhost`.

        Raises:
            InputError: `reference-invalid`, `usage`.
            PolicyError: `push-refused`, `address-refused`.
        """
        scheme, mark, rest = text.partition("://")
        if mark and scheme.lower() in ("http", "https", "oci", "mar"):
            _refuse_official(rest.partition("/")[0].rpartition("@")[2])
            raise InputError(
                f"`--to` takes `HOST[:PORT][/PREFIX]` or a folder, not `{text[:200]}`", code="usage", hint=f"write `--to {rest[:200]}`"
            )
        first, _, prefix = text.partition("/")
        is_path = text.startswith((".", "/", "~")) or "\\" in text or not text
        if is_path or not (":" in first or "." in first or first.lower() == "localhost"):
            if not text:
                raise InputError("`--to` is empty", code="usage", hint="write `HOST[:PORT][/PREFIX]`, or a folder")
            return cls(text, None)
        host = Host.parse(first)
        for one in (str(host), *data_hosts):
            _refuse_official(one)
        if prefix:
            Reference.parse(f"{host}/{prefix.removesuffix('/')}/x")
        endpoint = Endpoint.parse(f"{'http' if plain_http else 'https'}://{host}", tuple(data_hosts))
        return cls(text, endpoint, prefix.removesuffix("/"))

    @property
    def folder(self) -> Path:
        """The folder, where it is one.

        Raises:
            InputError: `usage`: it is below the home of a user whom nobody knows.
        """
        try:
            return Path(self.text).expanduser()
        except RuntimeError as error:
            raise InputError(
                f"`--to` is `{self.text[:200]}`, and there is no such user", code="usage", hint="write the whole path"
            ) from error

    def repository(self, name: str) -> str:
        """What a repository is called there."""
        return f"{self.prefix}/{name}" if self.prefix else name


def _refuse_official(text: str) -> None:
    """MAR is read, never written to; an upload may be sent on to a data host, so that none of those is MAR either."""
    refuse_name(text.strip().removeprefix("*.").partition(":")[0].rstrip(".").lower())


class LoadTarget(Protocol):
    """Takes what a bundle holds; every method may be called from any thread."""

    def lacks(self, repository: str, blobs: Iterable[Digest]) -> list[Digest]:
        """Which of the blobs are not there."""

    def take(self, contents: Contents, job: Job) -> Loaded:
        """Do a job."""


class _Watched:
    """Progress that gives up where that is due."""

    def __init__(self, progress: Progress, check: Callable[[], None]) -> None:
        self._progress = progress
        self._check = check
        self.note, self.warn = progress.note, progress.warn

    def begin(self, name: str, total: int) -> Transfer:
        return _WatchedTransfer(self._progress.begin(name, total), self._check)


class _WatchedTransfer:
    def __init__(self, transfer: Transfer, check: Callable[[], None]) -> None:
        self._transfer = transfer
        self._check = check
        self.end = transfer.end

    def held(self, size: int) -> None:
        self._check()
        self._transfer.held(size)


class InRegistry:
    """A registry, below a prefix."""

    def __init__(self, to: To, registry: Registry, progress: Progress) -> None:
        self._to = to
        self._pushing = Pushing(registry)
        self._host = registry.endpoint.registry.host
        self._progress = progress

    def lacks(self, repository: str, blobs: Iterable[Digest]) -> list[Digest]:
        reference = Reference(self._to.repository(repository), self._host)
        return [digest for digest in blobs if not self._pushing.has_blob(reference, digest)]

    def take(self, contents: Contents, job: Job) -> Loaded:
        there = Reference(self._to.repository(job.repository), self._host)
        snapshot = contents.current()
        repository = snapshot.repositories[job.repository]
        nodes = list(_all(snapshot, repository, str(job.digest)))
        blobs = size = 0
        is_new = is_replaced = False
        for node in nodes:
            one = node.descriptor
            if self._pushing.digest(replace(there, digest=one.digest)) == one.digest:
                continue
            for blob in _blobs(node):
                if not self._pushing.has_blob(there, blob.digest):
                    self._send(contents, there, blob)
                    blobs, size = blobs + 1, size + blob.size
            self._pushing.manifest(replace(there, digest=one.digest), contents.manifests.read(one))
            is_new, size = True, size + one.size
        for tag in job.tags:
            before = self._pushing.digest(replace(there, tag=tag))
            if before != job.digest:
                self._pushing.manifest(replace(there, tag=tag), contents.manifests.read(repository.manifests[str(job.digest)]))
                is_new, is_replaced = True, is_replaced or before is not None
        for node in nodes:
            about = repository.referrers.get(str(node.descriptor.digest))
            if about:
                is_new |= self._pushing.referrers(there, node.descriptor.digest, about)
        reference = str(Reference(there.repository, self._host, job.tags[0] if job.tags else None, job.digest))
        return Loaded(reference, "replaced" if is_replaced else "pushed" if is_new else "unchanged", blobs, size)

    def _send(self, contents: Contents, there: Reference, blob: Descriptor) -> None:
        transfer = self._progress.begin(there.name, blob.size)
        try:
            with contents.store.extent(blob.digest) as extent:
                self._pushing.blob(there, blob, extent.pieces, transfer)
        finally:
            transfer.end()


class InFolder:
    """An OCI image layout in a folder, under the names that the bundle has.

    Args:
        check: called now and then; it may raise to give up.
    """

    def __init__(self, layout: Layout, progress: Progress, check: Callable[[], None] = lambda: None) -> None:
        self._layout = layout
        self._progress = _Watched(progress, check)
        self._check = check

    def lacks(self, repository: str, blobs: Iterable[Digest]) -> list[Digest]:  # noqa: ARG002 - the blobs of a layout are for all
        return [digest for digest in blobs if self._layout.stamp(digest) is None or not self._is_whole(digest)]

    def _is_whole(self, digest: Digest) -> bool:
        self._check()
        return self._layout.digest_matches(digest)

    def _mend(self, digest: Digest) -> None:
        """What is there with other bytes is written anew: nobody else is going to hash it before it is used."""
        if self._layout.stamp(digest) is not None and not self._is_whole(digest):
            self._layout.drop(digest, "its bytes have another digest")

    def take(self, contents: Contents, job: Job) -> Loaded:
        snapshot = contents.current()
        repository = snapshot.repositories[job.repository]
        nodes = list(_all(snapshot, repository, str(job.digest)))
        here = Reference(job.repository, Host("bundle"))
        blobs = size = 0
        is_new = is_replaced = False
        for node in nodes:
            one = node.descriptor
            self._mend(one.digest)
            for blob in _blobs(node):
                self._mend(blob.digest)
                if copy(contents, self._layout, here, blob, name=job.repository, progress=self._progress):
                    blobs, size = blobs + 1, size + blob.size
            if self._layout.stamp(one.digest) is None:
                is_new, size = True, size + one.size
            self._layout.add(contents.manifests.read(one))
        names = [(name, one) for name, one in contents.store.entries() if one.digest == job.digest]
        abouts = {node.descriptor.digest for node in nodes}
        for name, one in [*names, *((name, one) for name, one in contents.store.entries() if name is None and one.digest in abouts)]:
            before = self._layout.names.get(name) if name is not None else one
            is_replaced |= before is not None and before.digest != one.digest
            self._layout.names.put(name, replace(one, annotations={}))
        reference = str(Reference(job.repository, None, job.tags[0] if job.tags else None, job.digest))
        return Loaded(reference, "replaced" if is_replaced else "pushed" if is_new or blobs else "unchanged", blobs, size)
