"""What a verification says: refusals, checks, signatures and the verdict; values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from ..errors import Error
from ..oci import Digest
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
"""How far a signature came, by the code that it failed with. All of them are in `codes.CODES`."""


class RefusalError(Exception):
    """A rule refuses a signature.

    Args:
        code: of `codes.CODES`.
        message: one sentence in lower case.
        hint: the next thing to try; None: that of the code.
        facts: what the message is about, as JSON values.
    """

    def __init__(self, code: str, message: str, *, hint: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.facts = facts


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What became of one check.

    Attributes:
        outcome: `skipped`: the policy or an option leaves it out; `not-done`: another check failed before it.
        notes: what was looked at, or why it could not be.
    """

    check: Check
    action: Action
    outcome: Literal["passed", "failed", "skipped", "not-done"]
    refusal: RefusalError | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """A countersigned time (RFC 3161).

    Attributes:
        accuracy: seconds before and after.
        authority: subject of the authority's certificate.
        root: subject of the trusted root.
    """

    time: datetime
    accuracy: float
    authority: str
    root: str


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature says of itself, as far as it was read.

    Attributes:
        signing_time: what the signer says; not to be trusted without a timestamp.
        thumbprints: SHA-256 of the certificates, leaf first.
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
    """One signature and what was found.

    Attributes:
        digest: of its manifest.
        code: `OK`, or the code of the refusal that counts.
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
        """How far it came."""
        return len(PROGRESS) if self.code == OK else PROGRESS.index(self.code)


@dataclass(frozen=True, slots=True)
class Provenance:
    """A Helm provenance file that holds.

    Attributes:
        fingerprint: of the key's certificate.
        users: its user ids.
        file: that it names, with the digest.
    """

    fingerprint: str
    users: tuple[str, ...]
    file: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification came to.

    Attributes:
        outcome: `failed` goes with an error.
        signatures: that were looked at; the first good one ends the search.
        others: artifact types of other referrers that are signatures of a form that is not checked here.
        ends: when support ends, by the artifact's lifecycle mark.
    """

    outcome: Literal["verified", "skipped", "failed"]
    statement: Statement | None = None
    signatures: tuple[Signature, ...] = ()
    provenance: Provenance | None = None
    others: tuple[str, ...] = ()
    ends: date | None = None
    has_ended: bool = False
    warnings: tuple[str, ...] = ()
    error: Error | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """What does not hold of the signature that counts, and was let through since the policy does not enforce it."""
        return tuple(
            f"{one.check} does not hold ({one.refusal.code}), and the policy only tells it: {one.refusal.message}"
            for one in (self.good.checks if self.good is not None else ())
            if one.refusal is not None
        )

    @property
    def good(self) -> Signature | None:
        """The signature that counts."""
        return next((one for one in self.signatures if one.code == OK), None)
