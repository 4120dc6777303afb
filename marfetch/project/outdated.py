"""Compare locked artifacts with the registry: newer versions, ended support, moved tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from ..artifact.kinds import IMAGE, LIFECYCLE, end_of_life
from ..client.age import HeldBack
from ..client.fitting import MAX_MANIFESTS, Allowance, looked_at
from ..client.session import Repository, Session
from ..constraint import ANY, Constraint, TaggedVersion, read_version, sort_versions
from ..errors import Error, NotFoundError
from ..files import storage_error
from ..oci import Digest
from .lockfile import Entry, Lock, LockedImage
from .wanted import Item, Project


@dataclass(frozen=True, slots=True)
class MovedImage:
    """What changed in the registry for the tag of one locked image.

    Attributes:
        moved_to: the tag's new digest; None if the tag was not moved.
        is_gone: whether the tag was deleted.
    """

    image: LockedImage
    moved_to: Digest | None = None
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Outdated:
    """What changed in the registry for one locked artifact.

    Attributes:
        in_range: the newest version in the range, which `lock --upgrade` would lock; None if the locked version is the newest.
        newest: the newest release outside the range; None if no such release is newer.
        ends: the date when support ends, from the lifecycle referrer; None if unknown.
        is_ended: whether support has ended.
        moved_to: the tag's new digest; None if the tag was not moved.
        is_gone: whether the tag was deleted.
        held_back: newer versions that the cool-down holds back, newest first.
        error: why the comparison failed; None if it did not.
        images: the locked images of a chart. An image that the chart names by digest cannot change.
    """

    entry: Entry
    in_range: TaggedVersion | None = None
    newest: TaggedVersion | None = None
    ends: date | None = None
    is_ended: bool = False
    moved_to: Digest | None = None
    is_gone: bool = False
    held_back: tuple[HeldBack, ...] = ()
    error: Error | None = None
    images: tuple[MovedImage, ...] = ()

    @property
    def is_drifted(self) -> bool:
        """Whether a tag was moved: the tag of the artifact, or of an image that it names."""
        return self.moved_to is not None or any(one.moved_to is not None for one in self.images)

    @property
    def is_found(self) -> bool:
        """Whether anything changed."""
        is_gone = self.is_gone or any(one.is_gone for one in self.images)
        return bool(self.in_range or self.newest or self.is_ended or self.is_drifted or is_gone)


def outdated(client: Session, project: Project, lock: Lock, *, today: date) -> list[Outdated]:
    """Compare every locked artifact with the registry.

    Args:
        lock: a lock that matches the project.

    Returns:
        One result per item, in the order of the project file. If an item fails, its result has the error.
    """

    def one(item: Item) -> Outdated:
        entry = lock.by_name[item.name]
        try:
            return _compared(client, item, entry, today)
        except Error as error:
            return Outdated(entry, error=error)
        except OSError as error:
            return Outdated(entry, error=storage_error(error, str(error.filename or item.name)))

    return client.each(one, project.items, label="checking")


def _compared(client: Session, item: Item, entry: Entry, today: date) -> Outdated:
    repository = client.repository(replace(item.reference, tag=entry.tag, digest=None))
    locked = read_version(entry.tag) if entry.tag is not None else None
    in_range = newest = None
    held: list[HeldBack] = []
    if locked is not None:
        in_range, newest = _newer(item, entry, locked, repository, held)
    moved_to, is_gone = _moved(entry.digest, repository)
    images = moved_images(client, item, entry)
    marks = [] if client.options.offline else repository.referrers(entry.digest, artifact_type=LIFECYCLE)
    ends = end_of_life((mark.artifact_type or "", mark.annotations) for mark in marks)
    return Outdated(entry, in_range, newest, ends, ends is not None and ends <= today, moved_to, is_gone, tuple(held), images=images)


def _newer(
    item: Item, entry: Entry, locked: TaggedVersion, repository: Repository, held: list[HeldBack]
) -> tuple[TaggedVersion | None, TaggedVersion | None]:
    """Return the newest version in the range and the newest of all, if they are newer than the locked one.

    Args:
        held: collects the versions that the cool-down holds back.
    """
    cool_down = item.wanted.cool_down
    is_image = entry.kind == IMAGE.name
    choice = item.choice._replace(kinds=(IMAGE,)) if is_image else item.choice
    allowance = Allowance(MAX_MANIFESTS - 1)  # the locked tag needs a request too

    def fitting(candidates: Sequence[TaggedVersion]) -> TaggedVersion | None:
        if cool_down is None and (is_image or repository.session.options.offline):
            return next(iter(candidates), None)
        # A version without a manifest counts as new: publishing it may not be complete. A cool-down holds it back.
        shared = allowance if cool_down is not None else None
        for look in looked_at(repository, candidates, choice, is_open=True, cool_down=cool_down, allowance=shared):
            if not look.is_held_back(held) and (look.fits or look.error is not None):
                return look.version
        return None

    versions = [version for version in sort_versions(repository.tags()) if version.key > locked.key]
    constraint = Constraint.parse(item.version) if item.version is not None else ANY
    follows = item.reference.tag is None and item.reference.digest is None
    allowed = constraint.select(versions) if follows else []
    in_range = fitting(allowed)
    # Versions in the range were already checked above.
    above = [one for one in versions if not one.is_prerelease and one not in allowed and (in_range is None or one.key > in_range.key)]
    return in_range, fitting(above)


def moved_images(client: Session, item: Item, entry: Entry) -> tuple[MovedImage, ...]:
    """Compare the tags of the locked images of a chart with the registry, one after the other."""
    return tuple(_moved_image(client, item, one) for one in entry.images if one.reference is not None)


def _moved_image(client: Session, item: Item, one: LockedImage) -> MovedImage:
    assert one.reference is not None, "the caller leaves out images that are not at the endpoint"
    assert one.reference.digest is not None, "a locked reference is pinned"
    if not one.follows_tag:
        return MovedImage(one)
    repository = client.repository(replace(item.reference, repository=one.reference.repository, tag=one.reference.tag, digest=None))
    return MovedImage(one, *_moved(one.reference.digest, repository))


def _moved(locked: Digest, repository: Repository) -> tuple[Digest | None, bool]:
    if repository.reference.tag is None:
        return None, False
    try:
        now = repository.manifest().descriptor.digest
    except NotFoundError as error:
        if error.code == "repository-not-found":
            raise
        return None, True
    return (now if now != locked else None), False
