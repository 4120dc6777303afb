"""What is locked beside what the registry has now for the same wish."""

from __future__ import annotations

from dataclasses import replace

from ..client.resolve import Resolved, resolve
from ..client.session import Session
from ..diff.artifacts import compare
from ..diff.changes import Difference
from ..errors import Error
from ..files import storage_error
from ..project.lockfile import Entry, Lock
from ..project.locking import refuse_misfits, request_of
from ..project.wanted import Item, Project


def upstream(client: Session, project: Project, lock: Lock) -> tuple[list[tuple[str, Difference]], list[tuple[str, Error]]]:
    """Compare each locked artifact with what `lock --upgrade` would take.

    Returns:
        Name and difference of those that differ, name and error of those that failed; in the order of the file.

    Raises:
        LockError: `lock-outdated`.
    """
    refuse_misfits(project, lock)

    def one(item: Item) -> Difference | Error:
        try:
            new = resolve(client, item.wanted)
            return compare(client, _locked(client, item, lock.by_name[item.name]), new, request_of(project, item))
        except Error as error:
            return error
        except OSError as error:
            return storage_error(error, str(error.filename or item.name))

    found = list(zip(project.items, client.each(one, project.items), strict=True))
    different = [(item.name, result) for item, result in found if isinstance(result, Difference) and result.differs]
    return different, [(item.name, result) for item, result in found if isinstance(result, Error)]


def _locked(client: Session, item: Item, entry: Entry) -> Resolved:
    bound, source = client.bind(replace(item.reference, tag=entry.tag, digest=None))
    manifest = client.manifest(replace(bound, tag=None, digest=entry.digest), source)
    return Resolved(bound.pinned(entry.digest), manifest, source)
