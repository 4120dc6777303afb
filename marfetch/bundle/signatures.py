"""The signatures that a bundle carries, held against a trust policy without asking anybody (Notary Project, trust policy specification).

It loads cryptography, so only commands that check signatures import it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..artifact.kinds import NOTATION_SIGNATURE
from ..client.resolve import Resolved
from ..client.session import Repository, Session
from ..content import BlobReader
from ..errors import Error, InputError
from ..layout.repositories import Contents
from ..oci import Descriptor, Digest, Index, Manifest
from ..project.lockfile import Entry
from ..reference import Reference
from ..verify.artifact import VerifyOptions, verify
from ..verify.policy import Policy
from .format import Opened

Outcome: TypeAlias = Literal["verified", "skipped", "unsigned", "unchecked", "failed"]


@dataclass(frozen=True, slots=True)
class SignatureResult:
    """What became of the signatures of one artifact.

    Attributes:
        reference: pinned, as it was locked.
        outcome: `unsigned`: the bundle has no signature of it, and nobody asks for one; `unchecked`: it has one, and no statement of the
            policy is about it.
        subject: who signed, where a signature holds.
        reason: of what is unchecked.
        error: of what failed.
        warnings: of the policy, and of checks that it only tells.
    """

    reference: Reference
    outcome: Outcome
    subject: str | None = None
    reason: str | None = None
    error: Error | None = None
    warnings: tuple[str, ...] = ()


def check_signatures(
    make_client: Callable[[], Session],
    found: Opened,
    request: VerifyOptions | None = None,
    *,
    base: Opened | None = None,
    is_required: bool = False,
) -> list[SignatureResult] | None:
    """Check the signatures of everything that the lock of a whole bundle names; nothing is asked of anybody.

    Args:
        make_client: makes an offline one, where there is something to check.
        base: the bundle that a delta goes on from, which may hold the envelopes.
        is_required: every artifact has to be signed as the trust policy asks; otherwise those that carry a signature, or that were
            locked with `verify: true`.

    Returns:
        One for each entry of the lock; None: there is no trust policy, and none is required.

    Raises:
        InputError: `POLICY_MISSING` where one is required, `POLICY_INVALID`, `NO_APPLICABLE_POLICY`, `TRUST_STORE_INVALID`;
            `usage`: it has no lock, or is a delta whose base holds the envelopes.
    """
    request = request or VerifyOptions()
    if found.lock is None:
        raise InputError(
            f"`{found.path}` is no bundle of marfetch: no lock says where its artifacts come from, so no trust policy can be chosen",
            code="usage",
            hint="leave the check of signatures out, or verify each artifact where it was loaded",
            path=str(found.path),
        )
    try:
        policy = request.places.load_policy()
    except InputError as error:
        if is_required or error.code != "POLICY_MISSING":
            raise
        return None
    client = make_client()
    source = _Both(found.contents, base.contents) if base is not None else found.contents

    def judged(entry: Entry) -> SignatureResult:
        if not is_required:
            passed = _passed_over(found, entry, policy)
            if passed is not None:
                return passed
        _refuse_omitted(found, entry, base)
        repository = Repository(client, entry.reference, source)
        resolved = Resolved(entry.reference, found.contents.manifests.read(entry.manifest), repository)
        verdict = verify(client, resolved, request)
        good = verdict.good
        return SignatureResult(
            entry.reference,
            verdict.outcome,
            good.signed.subject if good is not None else None,
            error=verdict.error,
            warnings=verdict.warnings,
        )

    return [judged(entry) for entry in found.lock.entries]


def _passed_over(found: Opened, entry: Entry, policy: Policy) -> SignatureResult | None:
    """Return the result of an artifact that needs no check; None if it must be checked."""
    is_promised = entry.verification is not None and entry.verification.verdict == "verified"
    if not (is_promised or _signatures(found.contents, entry)):
        return SignatureResult(entry.reference, "unsigned")
    try:
        policy.statement(entry.reference.full_repository)
    except InputError as error:
        return SignatureResult(entry.reference, "unchecked", reason=error.message)
    return None


def _signatures(contents: Contents, entry: Entry) -> list[Descriptor]:
    found = contents.referrers(entry.reference, entry.digest)
    return [one for one in found if (one.artifact_type or "").lower() == NOTATION_SIGNATURE]


def _refuse_omitted(found: Opened, entry: Entry, base: Opened | None) -> None:
    if base is not None or not found.omitted:
        return
    for one in _signatures(found.contents, entry):
        manifest = found.contents.manifests.read(one)
        if isinstance(manifest, Manifest) and any(layer.digest in found.omitted for layer in manifest.layers):
            raise InputError(
                f"the signatures of `{entry.reference}` are in the bundle that `{found.path}` goes on from",
                code="usage",
                hint="add `--since` with that bundle",
                path=str(found.path),
            )


class _Both:
    """A delta, and behind it the bundle that it goes on from."""

    def __init__(self, delta: Contents, base: Contents) -> None:
        self._delta = delta
        self._base = base

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        return self._delta.manifest(reference, known=known)  # a delta has all manifests

    def blob(self, reference: Reference, descriptor: Descriptor, heartbeat: Callable[[], None] | None = None) -> BlobReader:
        is_here = self._delta.store.stamp(descriptor.digest) is not None
        return (self._delta if is_here else self._base).blob(reference, descriptor, heartbeat)

    def tags(self, reference: Reference) -> list[str]:
        return self._delta.tags(reference)

    def referrers(self, reference: Reference, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        return self._delta.referrers(reference, digest, artifact_type=artifact_type)

    def repositories(self) -> list[str]:
        return self._delta.repositories()
