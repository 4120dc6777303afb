"""Lists the referrers of a manifest, with the referrers API or the fallback tag (distribution-spec, "Listing Referrers")."""

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
"""Codes of failures that may affect a single manifest while the registry works otherwise."""


class Documents(Protocol):
    """The methods of `Registry` that this module calls."""

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        """Return a manifest, as `content.Source.manifest` does."""

    def document(
        self, address: Address, headers: dict[str, str], kind: RequestKind, reference: Reference
    ) -> tuple[StreamedResponse, bytes]:
        """Send a GET request, and return the response and its body."""

    def repository_address(self, reference: Reference, path: str) -> Address:
        """Return the address of `/v2/<repository>/<path>`."""

    def warn_of_skipped(self, lost: int, what: str) -> None:
        """Warn that invalid entries of a list were skipped."""


def referrers(registry: Documents, reference: Reference, digest: Digest, artifact_type: str | None) -> Sequence[Descriptor]:
    """Return the referrers of a manifest.

    Args:
        digest: the digest of the manifest.
        artifact_type: return only referrers of this type; None for all types.

    Raises:
        IntegrityError: `malformed`.
        PolicyError: `limit-passed`.
        Error: the registry failed. A failure never results in an empty list.
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
            f"{what} include {untyped} entries without an artifact type; the limit is {limits.MAX_UNTYPED}",
            code="limit-passed",
            what=what,
            rule=f"at most {limits.MAX_UNTYPED} referrers without a type",
        )
    found = [_filled(registry, reference, digest, entry) for entry in found]
    # Filter the list here, because a registry may ignore the filter in the query.
    return [entry for entry in found if artifact_type is None or matches(entry.artifact_type or "", (artifact_type,))]


def by_api(
    registry: Documents, reference: Reference, digest: Digest, artifact_type: str | None, what: str, skipped: list[str]
) -> list[Descriptor]:
    """Return the referrers that the referrers API lists.

    Args:
        what: the list, for messages.
        skipped: receives the problem of each skipped entry.

    Raises:
        NotFoundError: the registry has no referrers API.
        PolicyError: `limit-passed`: too many referrers.
        Error: as for `referrers`.
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
                f"{what} are too many: the limit is {limits.MAX_REFERRERS}",
                code="limit-passed",
                what=what,
                rule=f"at most {limits.MAX_REFERRERS} referrers",
            )
    return found


def by_tag(registry: Documents, reference: Reference, digest: Digest, skipped: list[str] | None = None) -> list[Descriptor]:
    """Return the referrers in the index that the fallback tag names (Referrers Tag Schema). Without such a tag there are none.

    Args:
        skipped: receives the problem of each skipped entry; None: an invalid entry is an error.
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
        if error.code != "manifest-withdrawn":  # a manifest in a withdrawn format is not an index
            raise
        return []
    # On some registries, the fallback tag names the subject itself (oras-go 1396). The subject may be an index.
    if not isinstance(index, Index) or index.descriptor.media_type.lower() not in INDEX_TYPES or index.descriptor.digest == digest:
        return []
    return list(index.manifests)


def fallback_tag(digest: Digest) -> str:
    """Return the fallback tag for the referrers of a digest (distribution-spec, "Referrers Tag Schema")."""
    return f"{digest.algorithm}-{digest.encoded}"[:128]


def _filled(registry: Documents, reference: Reference, digest: Digest, entry: Descriptor) -> Descriptor:
    """Add the artifact type and annotations from the manifest of an entry, if the entry has no artifact type."""
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
