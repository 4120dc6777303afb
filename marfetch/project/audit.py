"""Verify the signatures of every artifact in a lock file, without downloading content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..artifact.kinds import CHART
from ..client.session import Session
from ..errors import Error
from ..files import storage_error
from ..verify.gate import SignatureGate
from .lockfile import Entry, Lock
from .locking import resolve_locked
from .wanted import Item, Project

if TYPE_CHECKING:
    from ..verify.artifact import VerifyOptions
    from ..verify.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Audited:
    """The result for one locked artifact.

    Attributes:
        verdict: the result of the check; None if the check could not be made.
        error: why the artifact or one of its locked referrers failed the check; None if both passed.
    """

    entry: Entry
    verdict: Verdict | None = None
    error: Error | None = None


def audit(client: Session, project: Project, lock: Lock, options: VerifyOptions) -> list[Audited]:
    """Verify every locked artifact and its locked referrers by digest. Tags are not resolved.

    Args:
        lock: a lock that matches the project.
        options: how to verify; the keyring applies to charts only.

    Returns:
        One result per item, in the order of the project file. If an item fails, its result has the error.

    Raises:
        InputError: `POLICY_MISSING`, `POLICY_INVALID`.
    """
    if options.keyring is None:
        options.places.load_policy()  # fail once here, not once per artifact

    def one(item: Item) -> Audited:
        entry = lock.by_name[item.name]
        try:
            return _audited(client, item, entry, options)
        except Error as error:
            return Audited(entry, error=error)
        except OSError as error:
            return Audited(entry, error=storage_error(error, str(error.filename or item.name)))

    return client.each(one, project.items, label="verifying")


def _audited(client: Session, item: Item, entry: Entry, options: VerifyOptions) -> Audited:
    from ..verify.artifact import verify  # late: it loads cryptography, which is slow

    resolved = resolve_locked(client, item, entry, asks_tag=False)
    own = options if entry.kind == CHART.name else replace(options, keyring=None)
    verdict = verify(client, resolved, own)
    if verdict.error is None:
        SignatureGate(replace(own, keyring=None, metadata={})).referrers(resolved.repository, [one.digest for one in entry.referrers])
    return Audited(entry, verdict, verdict.error)
