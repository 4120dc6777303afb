"""What refers to a manifest: by the referrers API, or by the tag that stands in for it (distribution-spec, "Listing Referrers")."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from ..artifact.kinds import matches
from ..endpoint import Address
from ..errors import IntegrityError, NotFoundError, PolicyError
from ..oci import INDEX_TYPES, OCI_INDEX, Descriptor, Digest, Index, Manifest, parse_manifest
from ..reference import Reference
from . import limits
from .http_errors import Asked
from .pages import pages
from .transport import StreamedResponse


class Documents(Protocol):
    """What a registry has to offer to be asked for referrers."""

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        """As `content.Source.manifest`."""

    def document(self, address: Address, headers: dict[str, str], asked: Asked, reference: Reference) -> tuple[StreamedResponse, bytes]:
        """The answer to a GET and its body."""

    def repository_address(self, reference: Reference, path: str) -> Address:
        """The address of a path below a repository."""


def referrers(registry: Documents, reference: Reference, digest: Digest, artifact_type: str | None) -> Sequence[Descriptor]:
    """All referrers, of this artifact type where one is given.

    Raises:
        IntegrityError: `malformed`.
        PolicyError: `limit-passed`.
        Error: the registry failed. A failure is never read as "no referrers".
    """
    what = f"the referrers of `{reference.full_repository}@{digest}`"
    try:
        found = by_api(registry, reference, digest, artifact_type, what)
    except NotFoundError:
        found = by_tag(registry, reference, digest)
    untyped = sum(entry.artifact_type is None for entry in found)
    if untyped > limits.MAX_UNTYPED:
        raise PolicyError(
            f"{what} are {untyped} of which the list does not say what they are, more than {limits.MAX_UNTYPED}",
            code="limit-passed",
            what=what,
            rule=f"at most {limits.MAX_UNTYPED} referrers without a type",
        )
    found = [_filled(registry, reference, digest, entry) for entry in found]
    # A registry may ignore the filter.
    return [entry for entry in found if artifact_type is None or matches(entry.artifact_type or "", (artifact_type,))]


def by_api(registry: Documents, reference: Reference, digest: Digest, artifact_type: str | None, what: str) -> list[Descriptor]:
    """What the referrers API says.

    Raises:
        NotFoundError: the registry has no such API.
        PolicyError: `limit-passed`: there are too many.
        Error: as `referrers`.
    """
    query = f"?artifactType={urllib.parse.quote(artifact_type, safe='')}" if artifact_type else ""
    start = registry.repository_address(reference, f"referrers/{digest}{query}")

    def ask(address: Address) -> tuple[StreamedResponse, bytes]:
        return registry.document(address, {"Accept": OCI_INDEX}, Asked.REFERRERS, reference)

    found: list[Descriptor] = []
    for _, raw in pages(start, ask, what):
        index = parse_manifest(raw, what=what)
        if not isinstance(index, Index):
            raise IntegrityError(f"{what} are malformed: the answer is no index", code="malformed", what=what)
        found += index.manifests
        if len(found) > limits.MAX_REFERRERS:
            raise PolicyError(
                f"{what} are more than {limits.MAX_REFERRERS}",
                code="limit-passed",
                what=what,
                rule=f"at most {limits.MAX_REFERRERS} referrers",
            )
    return found


def by_tag(registry: Documents, reference: Reference, digest: Digest) -> list[Descriptor]:
    """What the tag says that stands in for the API; nothing where it is not there."""
    try:
        index = registry.manifest(Reference(reference.repository, reference.host, fallback_tag(digest)))
    except NotFoundError:
        return []
    # On some registries the tag leads to the subject itself (oras-go 1396), and an image index can be a subject.
    if not isinstance(index, Index) or index.descriptor.media_type.lower() not in INDEX_TYPES or index.descriptor.digest == digest:
        return []
    return list(index.manifests)


def fallback_tag(digest: Digest) -> str:
    """The tag that stands in for the API (distribution-spec, "Referrers Tag Schema")."""
    return f"{digest.algorithm}-{digest.encoded}"[:128]


def _filled(registry: Documents, reference: Reference, digest: Digest, entry: Descriptor) -> Descriptor:
    """The entry with the type and annotations of its manifest, where the list does not say them."""
    if entry.artifact_type is not None:
        return entry
    try:
        manifest = registry.manifest(Reference(reference.repository, reference.host, digest=entry.digest))
    except (NotFoundError, IntegrityError, PolicyError):
        return entry  # a broken one does not hide the others
    if not isinstance(manifest, Manifest) or manifest.subject is None or manifest.subject.digest != digest:
        return entry
    return replace(entry, artifact_type=manifest.effective_type, annotations=manifest.annotations)
