"""The referrers of a manifest, from the referrers API or the fallback tag (distribution-spec, "Listing Referrers")."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from ..artifact.kinds import matches
from ..endpoint import Address
from ..errors import IntegrityError, NotFoundError, PolicyError, RemoteError
from ..oci import INDEX_TYPES, OCI_INDEX, Descriptor, Digest, Index, Manifest, parse_manifest
from ..reference import Reference
from . import limits, preconnect
from .http_errors import RequestKind
from .pages import pages
from .transport import StreamedResponse

_OF_ONE_MANIFEST: Final = ("denied", "unauthorized", "server-error", "unexpected-answer")
"""Failures that may concern a single manifest while the registry works."""


class Documents(Protocol):
    """The methods of `Registry` that listing referrers needs."""

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        """As `content.Source.manifest`."""

    def document(
        self, address: Address, headers: dict[str, str], kind: RequestKind, reference: Reference
    ) -> tuple[StreamedResponse, bytes]:
        """Return the response to a GET request, and its body."""

    def repository_address(self, reference: Reference, path: str) -> Address:
        """Return the address of a path below a repository."""

    def warn_of_skipped(self, lost: int, what: str) -> None:
        """Warn that invalid entries of a list were skipped."""


def referrers(registry: Documents, reference: Reference, digest: Digest, artifact_type: str | None) -> Sequence[Descriptor]:
    """List the referrers of a manifest, of one artifact type if it is given.

    Raises:
        IntegrityError: `malformed`.
        PolicyError: `limit-passed`.
        Error: the registry failed; a failure never means "no referrers".
    """
    what = f"the referrers of `{reference.full_repository}@{digest}`"
    skipped: list[str] = []
    try:
        found = by_api(registry, reference, digest, artifact_type, what, skipped)
    except NotFoundError:
        found = by_tag(registry, reference, digest, skipped)
    if skipped:
        registry.warn_of_skipped(len(skipped), f"{what}: {skipped[0]}")
    untyped = sum(entry.artifact_type is None for entry in found)
    if untyped > limits.MAX_UNTYPED:
        raise PolicyError(
            f"{what} include {untyped} without an artifact type, more than {limits.MAX_UNTYPED}",
            code="limit-passed",
            what=what,
            rule=f"at most {limits.MAX_UNTYPED} referrers without a type",
        )
    found = [_filled(registry, reference, digest, entry) for entry in found]
    # Filter here too: a registry may ignore the filter in the query.
    return [entry for entry in found if artifact_type is None or matches(entry.artifact_type or "", (artifact_type,))]


def by_api(
    registry: Documents, reference: Reference, digest: Digest, artifact_type: str | None, what: str, skipped: list[str]
) -> list[Descriptor]:
    """Return the referrers listed by the referrers API.

    Args:
        skipped: as for `parse_manifest`.

    Raises:
        NotFoundError: the registry has no referrers API.
        PolicyError: `limit-passed`: too many referrers.
        Error: as `referrers`.
    """
    query = f"?artifactType={urllib.parse.quote(artifact_type, safe='')}" if artifact_type else ""
    start = registry.repository_address(reference, f"referrers/{digest}{query}")

    def ask(address: Address) -> tuple[StreamedResponse, bytes]:
        return registry.document(address, {"Accept": OCI_INDEX}, RequestKind.REFERRERS, reference)

    found: list[Descriptor] = []
    for _, raw in pages(start, ask, what):
        index = parse_manifest(raw, what=what, skipped=skipped)
        if not isinstance(index, Index):
            raise IntegrityError(f"{what} are malformed: the response is not an image index", code="malformed", what=what)
        found += index.manifests
        if len(found) > limits.MAX_REFERRERS:
            raise PolicyError(
                f"{what} number more than {limits.MAX_REFERRERS}",
                code="limit-passed",
                what=what,
                rule=f"at most {limits.MAX_REFERRERS} referrers",
            )
    return found


def by_tag(registry: Documents, reference: Reference, digest: Digest, skipped: list[str] | None = None) -> list[Descriptor]:
    """Return the referrers listed under the fallback tag (Referrers Tag Schema); empty if there is no such tag.

    Args:
        skipped: as for `parse_manifest`.
    """
    tagged = Reference(reference.repository, reference.host, fallback_tag(digest))
    try:
        request = preconnect.manifest(tagged, None)
        address = registry.repository_address(tagged, f"manifests/{tagged.tag}")
        _, raw = registry.document(address, request.headers, RequestKind.TAG, tagged)
        index = parse_manifest(raw, what=f"the manifest of `{tagged}`", digest=Digest.of(raw, digest.algorithm), skipped=skipped)
    except NotFoundError:
        return []
    except PolicyError as error:
        if error.code != "manifest-withdrawn":  # it is no index, see below
            raise
        return []
    # On some registries the fallback tag points to the subject itself (oras-go 1396), which may be an index.
    if not isinstance(index, Index) or index.descriptor.media_type.lower() not in INDEX_TYPES or index.descriptor.digest == digest:
        return []
    return list(index.manifests)


def fallback_tag(digest: Digest) -> str:
    """Return the fallback tag for the referrers of a digest (distribution-spec, "Referrers Tag Schema")."""
    return f"{digest.algorithm}-{digest.encoded}"[:128]


def _filled(registry: Documents, reference: Reference, digest: Digest, entry: Descriptor) -> Descriptor:
    """Complete an entry without an artifact type with the type and annotations of its manifest."""
    if entry.artifact_type is not None:
        return entry
    try:
        manifest = registry.manifest(Reference(reference.repository, reference.host, digest=entry.digest))
    except (NotFoundError, IntegrityError, PolicyError):
        return entry  # a broken referrer must not hide the others
    except RemoteError as error:
        if error.code not in _OF_ONE_MANIFEST:
            raise
        return entry
    if not isinstance(manifest, Manifest) or manifest.subject is None or manifest.subject.digest != digest:
        return entry
    return replace(entry, artifact_type=manifest.effective_type, annotations=manifest.annotations)
