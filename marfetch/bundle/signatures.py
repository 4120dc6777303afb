"""Verify the signatures in a bundle offline against a trust policy (Notary Project, trust policy specification).

This module loads cryptography, so only commands that verify signatures import it.
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
from ..project.roots import LockedRoot
from ..reference import Reference
from ..verify.artifact import VerifyOptions, verify
from ..verify.policy import Policy
from .format import Opened

Outcome: TypeAlias = Literal["verified", "skipped", "unsigned", "unchecked", "failed"]


@dataclass(frozen=True, slots=True)
class SignatureResult:
    """The result of verifying one artifact.

    Attributes:
        reference: the pinned reference from the lock file.
        outcome: the result. `unsigned` means that the bundle has no signature of the artifact, and none is required. `unchecked` means
            that there is a signature, but no statement of the trust policy applies to the artifact.
        subject: the certificate subject of the signer, if the signature is valid.
        reason: why the outcome is `unchecked`.
        error: why the verification failed.
        warnings: warnings about the policy, and failed checks that the policy only logs.
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
    """Verify the signatures of every artifact in an intact bundle, without requests.

    Args:
        make_client: creates an offline session. It is called only if there is a trust policy.
        request: the options of the verification; None for the defaults.
        base: the base bundle of a delta, which may contain signatures that the delta omits.
        is_required: whether to verify every artifact. If false, verify only artifacts that have a signature or were verified when locked.

    Returns:
        One result per artifact and image. None without a lock or a trust policy, unless `is_required`.

    Raises:
        InputError: `POLICY_MISSING` if `is_required`, `POLICY_INVALID`, `NO_APPLICABLE_POLICY`, `TRUST_STORE_INVALID`;
            `usage`: the bundle has no lock file, or it is a delta whose signatures are in the base bundle.
    """
    request = request or VerifyOptions()
    if (found.recording is not None or not found.is_bundle) and not is_required:
        return None
    if found.lock is None:
        raise InputError(
            f"cannot verify signatures in `{found.path}`: it has no lock file, so the origin of its artifacts is unknown",
            code="usage",
            hint="skip the verification here, and verify each artifact after loading it",
            path=str(found.path),
        )
    try:
        policy = request.places.load_policy()
    except InputError as error:
        if is_required or error.code != "POLICY_MISSING":
            raise
        return None
    client = make_client()
    source = _DeltaOverBase(found.contents, base.contents) if base is not None else found.contents

    def result_of(root: LockedRoot) -> SignatureResult:
        if not is_required:
            skipped = _skipped(found, root, policy)
            if skipped is not None:
                return skipped
        _refuse_omitted(found, root, base)
        repository = Repository(client, root.reference, source)
        resolved = Resolved(root.reference, found.contents.manifests.read(root.manifest), repository)
        verdict = verify(client, resolved, request)
        good = verdict.good
        return SignatureResult(
            root.reference,
            verdict.outcome,
            good.signed.subject if good is not None else None,
            error=verdict.error,
            warnings=verdict.warnings,
        )

    return [result_of(root) for root in found.roots]


def _skipped(found: Opened, root: LockedRoot, policy: Policy) -> SignatureResult | None:
    """Return the result for an artifact that is not verified. Return None if the artifact must be verified."""
    promise = root.entry.verification if not root.is_image else None
    if not ((promise is not None and promise.verdict == "verified") or _signatures(found.contents, root)):
        return SignatureResult(root.reference, "unsigned")
    try:
        policy.statement(root.reference.full_repository)
    except InputError as error:
        return SignatureResult(root.reference, "unchecked", reason=error.message)
    return None


def _signatures(contents: Contents, root: LockedRoot) -> list[Descriptor]:
    found = contents.referrers(root.reference, root.manifest.digest)
    return [one for one in found if (one.artifact_type or "").lower() == NOTATION_SIGNATURE]


def _refuse_omitted(found: Opened, root: LockedRoot, base: Opened | None) -> None:
    if base is not None or not found.omitted:
        return
    for one in _signatures(found.contents, root):
        manifest = found.contents.manifests.read(one)
        if isinstance(manifest, Manifest) and any(layer.digest in found.omitted for layer in manifest.layers):
            raise InputError(
                f"the signatures of `{root.reference}` are in the base bundle of `{found.path}`",
                code="usage",
                hint="pass that bundle with `--since`",
                path=str(found.path),
            )


class _DeltaOverBase:
    """The content of a delta. Blobs that the delta omits are read from its base bundle."""

    def __init__(self, delta: Contents, base: Contents) -> None:
        self._delta = delta
        self._base = base

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        return self._delta.manifest(reference, known=known)  # a delta never omits manifests

    def blob(self, reference: Reference, descriptor: Descriptor, heartbeat: Callable[[], None] | None = None) -> BlobReader:
        is_here = self._delta.store.stamp(descriptor.digest) is not None
        return (self._delta if is_here else self._base).blob(reference, descriptor, heartbeat)

    def tags(self, reference: Reference) -> list[str]:
        return self._delta.tags(reference)

    def referrers(self, reference: Reference, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        return self._delta.referrers(reference, digest, artifact_type=artifact_type)

    def repositories(self) -> list[str]:
        return self._delta.repositories()
