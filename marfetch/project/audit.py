"""Verify the signatures of every artifact in a lock file, without downloading content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ..artifact.kinds import CHART
from ..client.session import Session
from ..errors import Error
from ..files import storage_error
from ..reference import Reference
from ..verify.gate import SignatureGate
from .lockfile import Lock
from .locking import resolve_locked
from .pins import resolve_pinned
from .wanted import Item, Project

if TYPE_CHECKING:
    from ..verify.artifact import VerifyOptions
    from ..verify.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Audited:
    """The result for one locked artifact or image.

    Attributes:
        name: the name of the artifact; for an image, the last part of its repository.
        reference: the pinned reference.
        verdict: the result of the check; None if the check could not be made.
        error: why the artifact or one of its locked referrers failed the check; None if both passed.
    """

    name: str
    reference: Reference
    verdict: Verdict | None = None
    error: Error | None = None


def audit(client: Session, project: Project, lock: Lock, options: VerifyOptions) -> list[Audited]:
    """Verify every locked artifact with its locked referrers, then every locked image, by digest. Tags are not resolved.

    For an image with several platforms, only the index is verified, because it contains the digests of the manifests.

    Args:
        lock: a lock that matches the project.
        options: how to verify; the keyring applies to charts only.

    Returns:
        One result per item, in the order of the project file, then one per image, sorted. If one fails, its result has the error.

    Raises:
        InputError: `POLICY_MISSING`, `POLICY_INVALID`.
    """
    if options.keyring is None:
        options.places.load_policy()  # fail once here, not once per artifact
    images = {one.reference: item for item in project.items for one in lock.by_name[item.name].images if one.reference is not None}

    def one(name: str, reference: Reference, check: Callable[[], Verdict]) -> Audited:
        try:
            verdict = check()
            return Audited(name, reference, verdict, verdict.error)
        except Error as error:
            return Audited(name, reference, error=error)
        except OSError as error:
            return Audited(name, reference, error=storage_error(error, str(error.filename or name)))

    checks = [(item.name, lock.by_name[item.name].reference, partial(_artifact, client, item, lock, options)) for item in project.items]
    checks += [
        (reference.name, reference, partial(_image, client, images[reference], reference, replace(options, keyring=None)))
        for reference in sorted(images, key=str)
    ]
    return client.each(lambda each: one(*each), checks, label="verifying")


def _artifact(client: Session, item: Item, lock: Lock, options: VerifyOptions) -> Verdict:
    from ..verify.artifact import verify  # late: it loads cryptography, which is slow

    entry = lock.by_name[item.name]
    resolved = resolve_locked(client, item, entry, asks_tag=False)
    own = options if entry.kind == CHART.name else replace(options, keyring=None)
    verdict = verify(client, resolved, own)
    if verdict.error is None:
        SignatureGate(replace(own, keyring=None, metadata={})).referrers(resolved.repository, [one.digest for one in entry.referrers])
    return verdict


def _image(client: Session, item: Item, image: Reference, options: VerifyOptions) -> Verdict:
    from ..verify.artifact import verify  # late: it loads cryptography, which is slow

    assert image.digest is not None, "a locked reference is pinned"
    asked = replace(item.reference, repository=image.repository, tag=image.tag, digest=None)
    return verify(client, resolve_pinned(client, asked, image.digest, item.name, asks_tag=False), options)
