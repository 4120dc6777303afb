"""Fetch the manifests of versions, newest first, to find the newest version that a range may pick.

Some versions in a repository may be charts and others container images. A range then picks the newest version that is not an image, or
that matches the user's filters. Only the manifest shows what a version is, so each candidate costs a request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from ..artifact.kinds import IMAGE, kind_of, kind_of_type, matches
from ..artifact.payload import Choice
from ..constraint import TaggedVersion
from ..errors import Error, IntegrityError, NotFoundError, PolicyError, RemoteError
from ..oci import DOCKER_LIST, Descriptor, Digest, Index, Manifest
from .session import Repository

MAX_MANIFESTS: Final = 50
"""Maximum number of manifests to request for one range."""

_AT_ONCE: Final = 8
"""Number of manifests to request in parallel, after the manifest of the newest version."""


class Look(NamedTuple):
    """One version, and what its manifest shows.

    Attributes:
        found: its manifest; None if there is an error.
        fits: whether a range may pick this version.
        error: why there is no manifest, for example because it is missing, malformed, too large, or not cached.
    """

    version: TaggedVersion
    found: Manifest | Index | None
    fits: bool
    error: Error | None = None


def looked_at(
    repository: Repository, versions: Sequence[TaggedVersion], choice: Choice, *, missing: Collection[str] = (), is_open: bool = False
) -> Iterator[Look]:
    """Request the manifests of versions, and yield the results in the given order. After the first, request several in parallel.

    Args:
        missing: tags that are known to have no manifest.
        is_open: whether the result may contain no version that fits. If False, a single version always fits, because there is no other.

    Raises:
        Error: the registry failed.
    """
    session = repository.session
    position, most, is_only = 0, MAX_MANIFESTS, len(versions) == 1 and not is_open
    while position < len(versions) and most > 0:
        batch = versions[position : position + min(_AT_ONCE if position else 1, most)]
        found = session.each(lambda version: _manifest(repository.at(tag=version.tag), missing), batch)
        most -= len(batch)
        telling = [child for one in found if isinstance(one, Index) and not is_only for child in _telling(one, choice)][:most]
        known = _children(repository, telling)
        most -= len(telling)
        position += len(batch)
        for version, one in zip(batch, found, strict=True):
            if isinstance(one, Error):
                yield Look(version, None, fits=False, error=one)
            else:
                yield Look(version, one, is_only or _fits(one, choice, known))


def fits(repository: Repository, found: Manifest | Index, choice: Choice) -> bool:
    """Return whether a range may pick this manifest. For an index, this may request some of its manifests."""
    return _fits(found, choice, _children(repository, _telling(found, choice)) if isinstance(found, Index) else {})


def _manifest(repository: Repository, missing: Collection[str] = ()) -> Manifest | Index | Error:
    if repository.reference.tag in missing:
        return NotFoundError(f"`{repository.reference}` is missing", code="tag-not-found")
    try:
        return repository.manifest()
    except (NotFoundError, IntegrityError, PolicyError) as error:
        return error
    except RemoteError as error:
        if error.code != "offline":
            raise
        return error


def _children(repository: Repository, children: Sequence[Descriptor]) -> dict[Digest, Manifest | Index]:
    found = repository.session.each(lambda child: _manifest(repository.at(digest=child.digest)), children)
    return {child.digest: one for child, one in zip(children, found, strict=True) if not isinstance(one, Error)}


def _telling(index: Index, choice: Choice) -> list[Descriptor]:
    """Return the children that show whether an index fits: the first one without a platform, and the first one with a platform."""
    children = _real(index)
    plain = [child for child in children if child.platform is None]
    if choice.is_any and (plain or _declares(index) is not None):
        return []
    # If an index contains images and other artifacts, only the images have a platform. If all children have one, they are of the same kind.
    return plain[:1] + [child for child in children if child.platform is not None][:1]


def _real(index: Index) -> list[Descriptor]:
    """Return the children, except attestations. Build tools mark attestations with the platform `unknown/unknown`."""
    return [child for child in index.manifests if not child.is_attestation]


def _declares(index: Index) -> bool | None:
    """Return whether an index declares artifacts other than images, by its media type or artifact types; None if unknown."""
    if index.descriptor.media_type.lower() == DOCKER_LIST:
        return False
    types = [one for one in (index.artifact_type, *(child.artifact_type for child in _real(index))) if one]
    return any(kind_of_type(one) is not IMAGE for one in types) if types else None


def _fits(found: Manifest | Index, choice: Choice, known: Mapping[Digest, Manifest | Index]) -> bool:
    if isinstance(found, Manifest):
        if choice.is_any:
            return kind_of(found) is not IMAGE
        return (
            (not choice.kinds or kind_of(found) in choice.kinds)
            and (not choice.artifact_types or matches(found.effective_type, choice.artifact_types))
            and (not choice.media_types or any(matches(layer.media_type, choice.media_types) for layer in found.layers))
        )
    if not _telling(found, choice):
        return _declares(found) is not False
    children = [known[child.digest] for child in _telling(found, choice) if child.digest in known]
    return not children or any(isinstance(child, Index) or _fits(child, choice, known) for child in children)
