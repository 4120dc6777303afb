"""Fetch the manifests of versions, newest first, to find the newest version that a range may pick.

Some versions in a repository may be charts and others container images. A range then picks the newest version that is not an image, or
that matches the user's filters, and that is old enough for a cool-down. Only the manifest shows what a version is, so each candidate
costs a request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ..artifact.kinds import IMAGE, kind_of, kind_of_type, matches
from ..artifact.payload import Choice
from ..constraint import TaggedVersion
from ..errors import Error, IntegrityError, NotFoundError, PolicyError, RemoteError
from ..oci import DOCKER_LIST, Descriptor, Digest, Index, Manifest
from .age import CoolDown, HeldBack
from .session import Repository

MAX_MANIFESTS: Final = 50
"""Maximum number of manifests to request for one range."""

_AT_ONCE: Final = 8
"""Number of manifests to request in parallel, after the manifest of the newest version."""


class Look(NamedTuple):
    """One version, with its manifest and whether a range may pick it.

    Attributes:
        found: the manifest of the version; None if there is an error.
        fits: whether a range may pick this version.
        error: why there is no manifest, for example because it is missing, malformed, too large, or not cached.
        held_back: why the version is too young for the cool-down, or why its age is unknown; None if it is old enough or does not fit.
    """

    version: TaggedVersion
    found: Manifest | Index | None
    fits: bool
    error: Error | None = None
    held_back: str | None = None

    def is_held_back(self, held: list[HeldBack]) -> bool:
        """Return whether the cool-down holds back this version. Another tag of a version that was held back is held back too.

        Args:
            held: the newer versions that were held back; this version is added.
        """
        if self.held_back is not None:
            held.append(HeldBack(self.version, self.held_back))
            return True
        return self.fits and any((one.version.key, one.version.build) == (self.version.key, self.version.build) for one in held)


@dataclass(slots=True)
class Allowance:
    """The number of manifests that may still be requested for one reference."""

    left: int = MAX_MANIFESTS


def looked_at(
    repository: Repository,
    versions: Sequence[TaggedVersion],
    choice: Choice,
    *,
    missing: Collection[str] = (),
    is_open: bool = False,
    cool_down: CoolDown | None = None,
    allowance: Allowance | None = None,
) -> Iterator[Look]:
    """Request the manifests of versions, and yield the results in the given order. After the first, request several in parallel.

    Args:
        missing: tags that are known to have no manifest.
        is_open: whether the result may contain no version that fits. If False, a single version always fits, because there is no other.
        cool_down: the minimum age of versions; None for no minimum.
        allowance: how many manifests may be requested, shared by several calls; None for `MAX_MANIFESTS`.

    Raises:
        InputError: the trust policy that the cool-down needs is invalid.
        Error: the registry failed.
    """
    session = repository.session
    allowance = allowance or Allowance()
    position, is_only = 0, len(versions) == 1 and not is_open
    while position < len(versions) and allowance.left > 0:
        batch = versions[position : position + min(_AT_ONCE if position else 1, allowance.left)]
        found = session.each(lambda version: _manifest(repository.at(tag=version.tag), missing), batch)
        allowance.left -= len(batch)
        telling = [child for one in found if isinstance(one, Index) and not is_only for child in _telling(one, choice)][: allowance.left]
        known = _children(repository, telling)
        allowance.left -= len(telling)
        position += len(batch)
        for version, one in zip(batch, found, strict=True):
            if isinstance(one, Error):
                unknown = "age unknown, because it has no manifest" if cool_down and isinstance(one, NotFoundError) else None
                yield Look(version, None, fits=False, error=one, held_back=unknown)
                continue
            look = Look(version, one, is_only or _fits(one, choice, known))
            yield look._replace(held_back=held_back(repository, look, cool_down, allowance)) if look.fits else look


def held_back(repository: Repository, look: Look, cool_down: CoolDown | None, allowance: Allowance) -> str | None:
    """Return why a version is too young, or None if it is old enough. This may request the manifests of its signatures.

    Raises:
        Error: see `CoolDown.held_back`.
    """
    if cool_down is None or look.found is None:
        return None
    reason, requested = cool_down.held_back(repository.at(tag=look.version.tag), look.found, allowance.left)
    allowance.left -= requested
    return reason


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
