"""The work of loading a bundle, cut into jobs: one for each manifest that has a name, with all that belongs to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..layout.repositories import Contents, LayoutRepository
from ..oci import Descriptor, Digest, Index, Manifest

_DEPTH: Final = 16


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
    for repository in contents.current().repositories.values():
        roots: dict[str, list[str]] = {}
        for tag, descriptor in repository.tags.items():
            roots.setdefault(str(descriptor.digest), []).append(tag)
        reached = {str(one.digest) for root in roots for one in closure(contents, repository, repository.manifests[root])}
        # What has no tag: what others refer to first, then what is left.
        abouts = {str(one.digest) for several in repository.referrers.values() for one in several}
        children = {
            str(child.digest)
            for one in repository.manifests.values()
            for child in _children(contents, one)
            if str(child.digest) not in roots
        }
        for digest in sorted(repository.manifests, key=lambda one: (one in abouts or one in children, one)):
            if digest not in reached:
                roots[digest] = []
                reached |= {str(one.digest) for one in closure(contents, repository, repository.manifests[digest])}
        found += [Job(repository.name, Digest.parse(digest), tuple(roots[digest])) for digest in sorted(roots)]
    return found


def _children(contents: Contents, descriptor: Descriptor) -> Sequence[Descriptor]:
    found = contents.manifests.read(descriptor)
    return found.manifests if isinstance(found, Index) else ()


def closure(contents: Contents, repository: LayoutRepository, root: Descriptor) -> Iterator[Descriptor]:
    """A manifest with its children before it and its referrers behind it, each once."""
    seen: set[Digest] = set()

    def walk(one: Descriptor, depth: int) -> Iterator[Descriptor]:
        if one.digest in seen or depth > _DEPTH:
            return
        seen.add(one.digest)
        for child in _children(contents, one):
            if str(child.digest) in repository.manifests:
                yield from walk(repository.manifests[str(child.digest)], depth + 1)
        yield one
        for about in repository.referrers.get(str(one.digest), []):
            yield from walk(repository.manifests[str(about.digest)], depth + 1)

    yield from walk(root, 0)


def blobs_of(manifest: Manifest | Index) -> tuple[Descriptor, ...]:
    """Config and layers, each once."""
    if isinstance(manifest, Index):
        return ()
    return tuple({blob.digest: blob for blob in (manifest.config, *manifest.layers)}.values())
