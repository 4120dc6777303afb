"""The units of work of `bundle load` and `mirror`: one manifest each, with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..document import Json
from ..layout.graph import ManifestNode, NamedCount, closure
from ..layout.repositories import Contents, LayoutRepository, Snapshot
from ..oci import Descriptor, Digest
from ..reference import Reference
from .format import PartialIndex


@dataclass(frozen=True, slots=True)
class Job:
    """A unit of work: one manifest to load, with its children, blobs and referrers.

    Attributes:
        repository: the repository of the manifest in the bundle.
        digest: the digest of the manifest.
        tags: the tags of the manifest in the repository; empty if it has none.
        carried: the manifests of an index that are there, in the order of the platforms, if only some of them are. The first gets the tags
            if the registry refuses such an index.
    """

    repository: str
    digest: Digest
    tags: tuple[str, ...] = ()
    carried: tuple[Digest, ...] = ()

    @property
    def first(self) -> Digest | None:
        """The manifest for the first platform, if only some platforms of the index are there."""
        return self.carried[0] if self.carried else None

    def to_json(self) -> Json:
        """Return the job as JSON."""
        return [self.repository, str(self.digest), list(self.tags), *map(str, self.carried)]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Job:
        """Parse the result of `to_json`."""
        repository, digest, tags, *carried = value
        return cls(repository, Digest.parse(digest), tuple(tags), tuple(map(Digest.parse, carried)))


def jobs_of(contents: Contents, partial: Sequence[PartialIndex] = ()) -> list[Job]:
    """Return the jobs that load all content of a layout, sorted by repository and digest.

    Args:
        partial: the indexes of the layout that need not be whole.
    """
    found: list[Job] = []
    carried = {(one.repository, str(one.manifest.digest)): one.wanted for one in partial}
    snapshot = contents.current()
    named = NamedCount(contents.store.root)

    def reach(root: str) -> set[str]:
        reached: set[str] = set()
        for one in job_nodes(snapshot, repository, root):
            named.add(1)
            reached.add(str(one.descriptor.digest))
        return reached

    for repository in snapshot.repositories.values():
        tags: dict[str, list[str]] = {}
        for tag, descriptor in repository.tags.items():
            tags.setdefault(str(descriptor.digest), []).append(tag)
        reached = {digest for root in tags for digest in reach(root)}
        # Among untagged manifests, referrers and children come last: the job of their subject or parent usually includes them.
        referrers = {str(one.digest) for listed in repository.referrers.values() for one in listed}
        children = {
            str(child.digest)
            for one in repository.manifests.values()
            if (node := snapshot.graph.node(one)) is not None
            for child in node.children
            if str(child.digest) not in tags
        }
        for digest in sorted(repository.manifests, key=lambda one: (one in referrers or one in children, one)):
            if digest not in reached:
                tags[digest] = []
                reached |= reach(digest)
        name = repository.name
        found += [Job(name, Digest.parse(one), tuple(tags[one]), carried.get((name, one), ())) for one in sorted(tags)]
    return found


def whole_jobs(contents: Contents) -> tuple[list[Job], list[str]]:
    """Return the jobs of a recording whose content is complete, and the references of the incomplete artifacts.

    If an index is incomplete, its complete manifests are loaded without it. If a referrer is incomplete, its subject is loaded without it.
    """
    snapshot = contents.current()
    whole: list[Job] = []
    left_out: list[str] = []

    def is_whole(repository: LayoutRepository, root: str) -> bool:
        found = closure([repository.manifests[root]], snapshot.graph.node)
        return all(node is not None and snapshot.missing.isdisjoint(str(blob.digest) for blob in node.blobs) for _, node in found)

    for repository in snapshot.repositories.values():
        for subject, listed in repository.referrers.items():
            repository.referrers[subject] = [one for one in listed if is_whole(repository, str(one.digest))]
    for job in jobs_of(contents):
        repository = snapshot.repositories[job.repository]
        if is_whole(repository, str(job.digest)):
            whole.append(job)
            continue
        left_out.append(str(Reference(job.repository, None, job.tags[0] if job.tags else None, job.digest)))
        found = closure([repository.manifests[str(job.digest)]], snapshot.graph.node)
        parts = [str(one.digest) for one, node in found if node is not None and one.digest != job.digest]
        whole += [Job(job.repository, Digest.parse(part)) for part in parts if is_whole(repository, part)]
    return list(dict.fromkeys(whole)), left_out


def job_nodes(snapshot: Snapshot, repository: LayoutRepository, root: str) -> Iterator[ManifestNode]:
    """Yield the manifests of a job, each once. A manifest comes after its children and before its referrers."""
    found = closure([repository.manifests[root]], snapshot.graph.node, lambda digest: repository.referrers.get(str(digest), ()))
    return (node for _, node in found if node is not None)


def node_blobs(node: ManifestNode) -> Iterable[Descriptor]:
    """Return the config and layer blobs of a manifest, each once."""
    return {blob.digest: blob for blob in node.blobs}.values()
