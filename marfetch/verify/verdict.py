"""The results of a verification: refusals, checks, signatures and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from ..errors import Error
from ..oci import Descriptor, Digest
from .policy import Action, Check

if TYPE_CHECKING:
    from datetime import date

    from .policy import Statement


OK: Final = "OK"


PROGRESS: Final = (
    "REGISTRY_ERROR",
    "SIGNATURE_MANIFEST_INVALID",
    "ENVELOPE_TYPE_UNSUPPORTED",
    "ENVELOPE_MALFORMED",
    "CERT_CHAIN_MISSING",
    "KEY_UNSUPPORTED",
    "ALG_MISMATCH",
    "SIGNATURE_INVALID",
    "CONTENT_TYPE_UNSUPPORTED",
    "SIGNING_SCHEME_UNSUPPORTED",
    "HEADER_INVALID",
    "CRIT_INVALID",
    "CRIT_UNKNOWN",
    "PLUGIN_REQUIRED",
    "CERT_INVALID",
    "CERT_CHAIN_INVALID",
    "PAYLOAD_INVALID",
    "SUBJECT_MISMATCH",
    "TRUST_STORE_EMPTY",
    "UNTRUSTED_ROOT",
    "IDENTITY_MISMATCH",
    "SIGNATURE_EXPIRED",
    "TIMESTAMP_MISSING",
    "TIMESTAMP_MALFORMED",
    "TIMESTAMP_MISMATCH",
    "UNTRUSTED_TSA",
    "TIMESTAMP_INVALID",
    "CERT_EXPIRED",
    "CERT_NOT_YET_VALID",
    "REVOCATION_UNKNOWN",
    "REVOKED",
    "ANNOTATION_MISMATCH",
)
"""The failure codes in the order of the checks. A later code means that more checks passed. All codes are in `codes.CODES`."""


class RefusalError(Exception):
    """A signature breaks a rule.

    Args:
        code: one of `codes.CODES`.
        message: one sentence in lower case, without a period.
        hint: what the user can do; None for the general hint of the code.
        facts: details for the JSON output.
    """

    def __init__(self, code: str, message: str, *, hint: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.facts = facts


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """The result of one check.

    Attributes:
        action: what the policy says to do if the check fails.
        outcome: `skipped` if the policy or an option skips the check; `not-done` if an earlier check failed.
        refusal: why the check failed, if it failed.
        notes: what was checked, or why nothing was checked.
    """

    check: Check
    action: Action
    outcome: Literal["passed", "failed", "skipped", "not-done"]
    refusal: RefusalError | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """The time in a timestamp (RFC 3161), and who states it.

    Attributes:
        accuracy: the maximum error of the time, in seconds.
        authority: the subject of the timestamping authority's certificate.
        root: the subject of the trusted root certificate.
    """

    time: datetime
    accuracy: float
    authority: str
    root: str


@dataclass(frozen=True, slots=True)
class Signed:
    """The content of a signature, as far as it was parsed.

    Attributes:
        subject: the subject of the signing certificate.
        root: the subject of the root certificate.
        anchor: the SHA-256 of the certificate that is in a trust store.
        signing_time: the signing time that the envelope states. The scheme `notary.x509` needs a timestamp to prove it.
        agent: the name of the program that made the signature.
        thumbprints: the SHA-256 of each certificate, leaf first.
    """

    subject: str | None = None
    root: str | None = None
    anchor: str | None = None
    algorithm: str | None = None
    scheme: str | None = None
    signing_time: datetime | None = None
    expiry: datetime | None = None
    agent: str | None = None
    thumbprints: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    timestamp: Moment | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """The result for one signature.

    Attributes:
        digest: the digest of the signature's manifest.
        code: `OK`, or the code of the refusal.
        refusal: why the signature is not valid and trusted; None if it is.
        envelope: the digest of the envelope's layer.
        media_type: the media type of the envelope's layer.
    """

    digest: Digest
    code: str
    checks: tuple[CheckOutcome, ...] = ()
    refusal: RefusalError | None = None
    signed: Signed = field(default_factory=Signed)
    envelope: Digest | None = None
    media_type: str | None = None

    @property
    def progress(self) -> int:
        """How far the checks of the signature came. A higher number means that more checks passed."""
        return len(PROGRESS) if self.code == OK else PROGRESS.index(self.code)


@dataclass(frozen=True, slots=True)
class Provenance:
    """A valid Helm provenance file.

    Attributes:
        fingerprint: the fingerprint of the OpenPGP certificate that signed the file.
        users: the user IDs in this certificate.
        file: the name under which the file lists the package.
        digest: the digest of the package.
    """

    fingerprint: str
    users: tuple[str, ...]
    file: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class LifecycleMark:
    """The newest lifecycle mark of an artifact. It states when support for the artifact ends.

    A mark applies to a digest, not to a version. If a tag moves to a new digest, publishers also mark the old digest.

    Attributes:
        date: the end of support.
        signer: the subject of the certificate that signed the mark; None if the mark has no signature that the trust policy accepts.
        unsigned: why there is no signer, as the end of a message about the mark.
        is_superseded: whether the tag of the digest now names another digest; None if this is unknown, or support has not ended.
    """

    date: date
    signer: str | None = None
    unsigned: str = "unsigned"
    is_superseded: bool | None = None

    @property
    def signed_by(self) -> str:
        """Who signed the mark, or why the signer is unknown."""
        return f"signed by `{self.signer}`" if self.signer is not None else self.unsigned

    def text(self, reference: str) -> str:
        """Return a message that support for an artifact has ended."""
        said = f"according to its lifecycle mark ({self.signed_by})"
        if self.is_superseded:
            return f"`{reference}` was superseded on {self.date}: its tag names another digest now, {said}"
        if self.is_superseded is None:
            return f"support for `{reference}` ended on {self.date}, or this digest was superseded then, {said}"
        return f"support for `{reference}` ended on {self.date}, {said}"


@dataclass(frozen=True, slots=True)
class PlatformVerdict:
    """The result for the manifest of one platform of an index.

    Attributes:
        name: the platform, such as `linux/amd64`.
        manifest: the descriptor of the manifest.
        verdict: the result of its verification.
    """

    name: str
    manifest: Descriptor
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a verification.

    Attributes:
        outcome: the overall result. If it is `failed`, `error` is set.
        statement: the statement of the trust policy that was used, if any.
        signatures: the signatures that were checked. The first good signature is the last one, because it ends the search.
        provenance: the provenance, if the user requested its check and it is valid.
        others: the artifact types of signatures in formats that marfetch does not verify.
        mark: the lifecycle mark, if any.
        has_ended: whether support has ended, according to the mark.
        platform: the result for the requested platform of an index.
        error: the reason for the failure.
    """

    outcome: Literal["verified", "skipped", "failed"]
    statement: Statement | None = None
    signatures: tuple[Signature, ...] = ()
    provenance: Provenance | None = None
    others: tuple[str, ...] = ()
    mark: LifecycleMark | None = None
    has_ended: bool = False
    platform: PlatformVerdict | None = None
    warnings: tuple[str, ...] = ()
    error: Error | None = None

    @property
    def logged_failures(self) -> tuple[str, ...]:
        """Warnings for checks that the good signature failed, but that the policy does not enforce."""
        return tuple(
            f"the check {one.check} failed ({one.refusal.code}), which the policy only logs: {one.refusal.message}"
            for one in (self.good.checks if self.good is not None else ())
            if one.refusal is not None
        )

    @property
    def good(self) -> Signature | None:
        """The good signature that ended the search, if any."""
        return next((one for one in self.signatures if one.code == OK), None)
