"""Collect everything that a lock names: the manifests and blobs that each root leads to, and its referrers.

`bundle create` writes them to an archive, and `mirror` copies them into a registry. Only manifests are downloaded here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from ..artifact.kinds import NOTATION_SIGNATURE
from ..client.session import Repository, Session
from ..errors import IntegrityError, LockError, NotFoundError, PolicyError
from ..layout.graph import ManifestNode, Manifests, closure
from ..oci import Descriptor, Digest
from ..project.roots import LockedRoot
from ..project.wanted import Item
from ..verify.gate import gate

MAX_REFERRERS: Final = 10_000
"""The maximum number of referrers of one artifact, including referrers of referrers."""


@dataclass(slots=True)
class Needed:
    """Everything that belongs to one root of a lock.

    Attributes:
        manifests: the manifests that were read so far, shared by all roots.
        repository: the repository of the root at the endpoint.
        nodes: the manifests of this root, including its referrers. Children come before their index, and referrers after their subject.
        omitted: the manifests of the root's index that are left out, because their platforms are not wanted.
        referrers: the descriptors of the referrers.
        blobs: the config and layer blobs of all manifests in `nodes`.
        signature_blobs: the blobs of signatures. A delta never omits them, so that its signatures can be verified without the base.
    """

    root: LockedRoot
    manifests: Manifests
    repository: Repository
    nodes: dict[Digest, ManifestNode] = field(default_factory=dict)
    referrers: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    signature_blobs: set[Digest] = field(default_factory=set)
    omitted: dict[Digest, Descriptor] = field(default_factory=dict)


_STRANGE: Final = ("malformed", "manifest-withdrawn", "manifest-not-found")
"""Error codes that mean that a referrer is broken. It is skipped, and other referrers are still included."""


def needed_of(client: Session, manifests: Manifests, item: Item, root: LockedRoot, *, with_referrers: bool) -> Needed:
    """Collect the manifests and blobs that belong to a root of a lock. Only manifests are downloaded.

    Args:
        manifests: reads from the session's cache.
        item: the item of `marfetch.yaml` that the root's lock entry belongs to.
        with_referrers: also collect all referrers that the registry lists, and referrers of these referrers.

    Raises:
        IntegrityError: the content differs from the lock.
        LockError: `lock-outdated`: the lock lists a blob that the manifest does not.
        SignatureError: a referrer is unsigned, but signatures are required.
        Error: a manifest cannot be fetched.
    """
    entry, digest = root.entry, root.manifest.digest
    asked = replace(item.reference, repository=root.reference.repository, tag=None, digest=digest)
    needed = Needed(root, manifests, client.repository(asked))
    _follow(needed, root.manifest)
    for one in () if root.is_image else entry.referrers:
        reason = _refer(needed, one, digest)
        if reason is not None:
            raise IntegrityError(
                f"the lock file lists `{one.digest}` as a referrer of `{root.reference}`, but {reason}",
                code="malformed",
                hint=f"marfetch lock --upgrade {entry.name}",
                reference=str(root.reference),
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
                    f"`{root.reference}` has more than {MAX_REFERRERS} referrers",
                    code="limit-passed",
                    reference=str(root.reference),
                    rule=f"at most {MAX_REFERRERS} referrers",
                )
    check = gate(asked=item.verify)
    if check is not None:
        check.referrers(needed.repository, needed.referrers)
    locked = [blob.digest for blob in (() if root.is_image else entry.blobs()) if blob.digest not in needed.blobs]
    if locked:
        raise LockError(
            f"the lock file lists `{locked[0]}` as a blob of `{entry.reference}`, but its manifest does not",
            code="lock-outdated",
            hint=f"marfetch lock --upgrade {entry.name}",
            entry=entry.name,
        )
    return needed


def _refer(needed: Needed, one: Descriptor, subject: Digest) -> str | None:
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


def _follow(needed: Needed, root: Descriptor) -> None:
    """Add a manifest, and all manifests and blobs reachable from it."""
    reached = list(closure([root], lambda each: _node(needed, each)))  # read all manifests first, so that a broken referrer adds nothing
    for one, node in reached:
        assert node is not None, "`_node` raises if a manifest cannot be read"
        needed.nodes[one.digest] = node
        needed.blobs.update((blob.digest, blob) for blob in node.blobs)
        if (node.referrer.artifact_type or "").lower() == NOTATION_SIGNATURE:
            needed.signature_blobs.update(blob.digest for blob in node.blobs)


def _node(needed: Needed, one: Descriptor) -> ManifestNode:
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
    node = ManifestNode.of(found)
    wanted = {child.digest for child in needed.root.children} if needed.root.children is not None else None
    if wanted is None or one.digest != needed.root.manifest.digest:
        return node
    lacking = wanted - {child.digest for child in node.children}
    if lacking:
        raise IntegrityError(
            f"the lock file lists `{min(lacking)}` as a manifest of `{needed.root.reference}`, but the index does not",
            code="malformed",
            hint=f"marfetch lock --upgrade {needed.root.entry.name}",
            digest=str(min(lacking)),
        )
    needed.omitted = {child.digest: child for child in node.children if child.digest not in wanted}
    return node._replace(children=tuple(child for child in node.children if child.digest in wanted))
