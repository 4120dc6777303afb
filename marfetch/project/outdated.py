"""Compare locked artifacts with the registry: newer versions, ended support, moved tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from ..artifact.kinds import IMAGE, LIFECYCLE, end_of_life
from ..client.fitting import looked_at
from ..client.session import Repository, Session
from ..constraint import ANY, Constraint, TaggedVersion, read_version, sort_versions
from ..errors import Error, NotFoundError
from ..files import storage_error
from ..oci import Digest
from .lockfile import Entry, Lock
from .wanted import Item, Project


@dataclass(frozen=True, slots=True)
class Outdated:
    """The news about one locked artifact.

    Attributes:
        in_range: the newest version in the range, if newer than the locked one; `lock --upgrade` locks it.
        newest: the newest release, if newer than the locked one and outside the range.
        ends: the end of support, from the lifecycle referrer.
        is_ended: whether support has ended.
        moved_to: the tag's new digest, if the tag was moved.
        is_gone: whether the tag was deleted.
        error: why the comparison failed.
    """

    entry: Entry
    in_range: TaggedVersion | None = None
    newest: TaggedVersion | None = None
    ends: date | None = None
    is_ended: bool = False
    moved_to: Digest | None = None
    is_gone: bool = False
    error: Error | None = None

    @property
    def is_found(self) -> bool:
        """Whether there is any news."""
        return bool(self.in_range or self.newest or self.is_ended or self.moved_to or self.is_gone)


def outdated(client: Session, project: Project, lock: Lock, *, today: date) -> list[Outdated]:
    """Compare every locked artifact with the registry.

    Args:
        lock: a lock that matches the project.

    Returns:
        One result per item, in the order of the file; the error of an item is in its result.
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
    if locked is not None:
        in_range, newest = _newer(item, entry, locked, repository)
    moved_to, is_gone = _moved(entry, repository)
    marks = [] if client.options.offline else repository.referrers(entry.digest, artifact_type=LIFECYCLE)
    ends = end_of_life((mark.artifact_type or "", mark.annotations) for mark in marks)
    return Outdated(entry, in_range, newest, ends, ends is not None and ends <= today, moved_to, is_gone)


def _newer(item: Item, entry: Entry, locked: TaggedVersion, repository: Repository) -> tuple[TaggedVersion | None, TaggedVersion | None]:
    def fitting(candidates: Sequence[TaggedVersion]) -> TaggedVersion | None:
        if entry.kind == IMAGE.name or repository.session.options.offline:
            return next(iter(candidates), None)
        # A version without a manifest counts, since it may be about to be published.
        looks = looked_at(repository, candidates, item.choice, is_open=True)
        return next((look.version for look in looks if look.fits or look.error is not None), None)

    versions = [version for version in sort_versions(repository.tags()) if version.key > locked.key]
    constraint = Constraint.parse(item.version) if item.version is not None else ANY
    follows = item.reference.tag is None and item.reference.digest is None
    allowed = constraint.select(versions) if follows else []
    in_range = fitting(allowed)
    # Newer versions in the range were looked at already.
    above = [one for one in versions if not one.is_prerelease and one not in allowed and (in_range is None or one.key > in_range.key)]
    return in_range, fitting(above)


def _moved(entry: Entry, repository: Repository) -> tuple[Digest | None, bool]:
    if repository.reference.tag is None:
        return None, False
    try:
        now = repository.manifest().descriptor.digest
    except NotFoundError as error:
        if error.code == "repository-not-found":
            raise
        return None, True
    return (now if now != entry.digest else None), False
