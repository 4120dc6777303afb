"""Where a project meets the check of signatures: asked before an artifact is locked, before it is fetched, and before it is bundled."""

from __future__ import annotations

from collections.abc import Iterable

from ..client.resolve import Resolved
from ..client.session import Session
from ..content import Source
from ..document import Json
from ..oci import Digest
from ..reference import Reference
from ..verify.gate import is_wished
from .lockfile import Verification
from .wanted import Item


def verified(client: Session, item: Item, resolved: Resolved) -> Verification | None:
    """Check the signatures of an artifact, where the wanted file or `MARFETCH_VERIFY` asks for that.

    Args:
        resolved: what was found; its digest is the one that is checked and the one that is fetched.

    Returns:
        What the lock says of it; None where the wanted file asks for no check.

    Raises:
        SignatureError: no signature holds.
        InputError: the trust policy or a store cannot be used.
        Error: the registry failed.
    """
    if not item.verify and not is_wished():
        return None
    from ..verify.artifact import VerifyOptions, require

    verdict = require(client, resolved, VerifyOptions())
    for warning in verdict.warnings:
        client.progress.warn(warning)
    if not item.verify:
        return None
    evidence: dict[str, Json] = {}
    if verdict.statement is not None:
        evidence["policy"] = verdict.statement.name
    if verdict.good is not None:
        evidence["signature"] = str(verdict.good.digest)
        evidence["subject"] = verdict.good.signed.subject
    return Verification(verdict.outcome, evidence)


def verify_referrers(client: Session, item: Item, reference: Reference, source: Source, referrers: Iterable[Digest]) -> None:
    """Check the signatures of what refers to an artifact, where the wanted file or `MARFETCH_VERIFY` asks for that.

    Args:
        reference: bound to the registry.
        referrers: their digests; signatures among them need none.

    Raises:
        Error: as `verified`.
    """
    if item.verify or is_wished():
        from ..verify.artifact import VerifyOptions, require_referrers

        require_referrers(client, reference, source, referrers, VerifyOptions())
