"""The result of a verification: refusals, checks, signatures and the verdict."""

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
"""The failure codes in the order of the checks: a later code means more passed. All are in `codes.CODES`."""


class RefusalError(Exception):
    """A signature breaks a rule.

    Args:
        code: one of `codes.CODES`.
        message: one sentence in lower case, without a period.
        hint: what to do; None for the hint of the code.
        facts: details of the message, as JSON values.
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
        outcome: `skipped`: by the policy or an option; `not-done`: an earlier check failed.
        notes: what was checked, or why not.
    """

    check: Check
    action: Action
    outcome: Literal["passed", "failed", "skipped", "not-done"]
    refusal: RefusalError | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a timestamp (RFC 3161).

    Attributes:
        accuracy: plus or minus this many seconds.
        authority: the subject of the authority's certificate.
        root: the subject of the trusted root.
    """

    time: datetime
    accuracy: float
    authority: str
    root: str


@dataclass(frozen=True, slots=True)
class Signed:
    """The content of a signature, as far as it was parsed.

    Attributes:
        signing_time: the signer's claim; not trustworthy without a timestamp.
        thumbprints: the SHA-256 of the certificates, leaf first.
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
        digest: the digest of its manifest.
        code: `OK`, or the code of the decisive refusal.
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
        """The number of checks that it passed, for comparison."""
        return len(PROGRESS) if self.code == OK else PROGRESS.index(self.code)


@dataclass(frozen=True, slots=True)
class Provenance:
    """A valid Helm provenance file.

    Attributes:
        fingerprint: the fingerprint of the OpenPGP certificate.
        users: the user IDs of the certificate.
        file: the name under which the package is listed.
    """

    fingerprint: str
    users: tuple[str, ...]
    file: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class LifecycleMark:
    """What the newest lifecycle mark says about a digest.

    A mark is about a digest, not a version: publishers also mark the digest that a tag named before.

    Attributes:
        date: the end of support.
        signer: the subject of the signing certificate, if the trust policy accepts a signature of the mark.
        unsigned: why there is no signer, as the end of a sentence about the mark.
        is_superseded: whether the digest's tag names another digest now; None if the tag is unknown, or support has not ended.
    """

    date: date
    signer: str | None = None
    unsigned: str = "unsigned"
    is_superseded: bool | None = None

    @property
    def signed_by(self) -> str:
        """Who signed it, or why that is unknown."""
        return f"signed by `{self.signer}`" if self.signer is not None else self.unsigned

    def text(self, reference: str) -> str:
        """Say that support for an artifact has ended."""
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
        name: the platform.
        manifest: the descriptor of the manifest.
    """

    name: str
    manifest: Descriptor
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a verification.

    Attributes:
        outcome: if `failed`, `error` is set.
        signatures: the examined signatures; the search ends at the first good one.
        others: artifact types of attached signatures in unsupported formats.
        mark: the lifecycle mark, if any.
        has_ended: whether its date has passed.
        platform: the result for the requested platform of an index.
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
        """Warnings for failed checks of the good signature that the policy does not enforce."""
        return tuple(
            f"the check {one.check} failed ({one.refusal.code}), which the policy only logs: {one.refusal.message}"
            for one in (self.good.checks if self.good is not None else ())
            if one.refusal is not None
        )

    @property
    def good(self) -> Signature | None:
        """The first good signature, if any."""
        return next((one for one in self.signatures if one.code == OK), None)
