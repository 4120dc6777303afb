"""The roots of a lock: every manifest that it names, artifacts and images alike, with the tag and the platforms that belong to it.

`bundle` stores the roots with everything that is reachable from them, and `mirror` copies them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import LockError
from ..oci import Descriptor, Digest
from ..reference import Reference
from .lockfile import Entry, Lock, LockedImage


@dataclass(frozen=True, slots=True)
class LockedRoot:
    """A manifest that a lock names, in the form that a bundle or a mirror stores.

    For an image with one wanted platform, this is the manifest of that platform, under the tag of the image.

    Attributes:
        reference: the pinned reference.
        manifest: the manifest or index.
        entry: the entry that names it; for an image, the first of its charts.
        is_image: whether a chart names it as an image.
        children: the manifests of an index for the wanted platforms, in the order of the platforms; None if all are wanted.
    """

    reference: Reference
    manifest: Descriptor
    entry: Entry
    is_image: bool = False
    children: tuple[Descriptor, ...] | None = None

    @property
    def name(self) -> str:
        """The name in the index of a layout: the reference with its tag, or with its digest if it has no tag."""
        return str(replace(self.reference, digest=None) if self.reference.tag else self.reference)


def roots_of(lock: Lock) -> list[LockedRoot]:
    """Return the roots of a lock: the artifacts, sorted by name, then the images, sorted by reference.

    Entries that name the same index share it: if they want different platforms, all these platforms belong to it.

    Raises:
        LockError: `lock-outdated`: a tag would point to two manifests.
    """
    roots = [LockedRoot(entry.reference, entry.manifest, entry) for entry in lock.entries]
    whole = {(root.reference.full_repository, root.manifest.digest) for root in roots}
    images = list(_images(lock))
    wanted: dict[tuple[str, Digest], dict[Digest, Descriptor]] = {}
    for _, image, reference, manifest in images:
        key = reference.full_repository, manifest.digest
        if image.manifests:
            wanted.setdefault(key, {}).update((one.digest, one) for one in image.manifests)
        else:
            whole.add(key)
    tagged = {(root.reference.full_repository, root.reference.tag): root for root in roots if root.reference.tag is not None}
    found: dict[str, LockedRoot] = {root.name: root for root in roots}
    # An image that its chart names by digest needs no tag, so it gets one only if no other manifest has it.
    for entry, image, reference, manifest in sorted(images, key=lambda one: (not one[1].follows_tag, str(one[2]))):
        key = reference.full_repository, manifest.digest
        children = None if key in whole else tuple(wanted[key].values())
        carried, children = (children[0], None) if children is not None and len(children) == 1 else (manifest, children)
        root = LockedRoot(reference.pinned(carried.digest), replace(carried, platform=None), entry, is_image=True, children=children)
        if reference.tag is not None:
            other = tagged.setdefault((reference.full_repository, reference.tag), root)
            if other.manifest.digest != carried.digest:
                if image.follows_tag:
                    raise _two(root, other)
                root = replace(root, reference=replace(root.reference, tag=None))
        found.setdefault(root.name, root)
    return [*roots, *sorted((root for root in found.values() if root.is_image), key=lambda root: root.name)]


def _images(lock: Lock) -> Iterator[tuple[Entry, LockedImage, Reference, Descriptor]]:
    for entry in lock.entries:
        for image in entry.images:
            if image.reference is not None and image.manifest is not None:
                yield entry, image, image.reference, image.manifest


def _two(one: LockedRoot, other: LockedRoot) -> LockError:
    return LockError(
        f"the lock names two manifests for `{one.name}`: `{other.manifest.digest}` for `{other.entry.name}`,"
        f" and `{one.manifest.digest}` for `{one.entry.name}`",
        code="lock-outdated",
        hint=f"marfetch lock --upgrade {one.entry.name} {other.entry.name}",
        reference=one.name,
    )
