"""Verifies one signature envelope with a series of checks (trust-store-trust-policy, "Steps"). It does not download artifacts.

The integrity check is always enforced. For each other check, the trust policy decides whether a failure is an error or a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from ..document import Json, parse_json
from ..errors import Error
from ..oci import Descriptor
from .chain import Certificate, check_chain, guarded
from .envelope import AUTHORITY, Envelope, opened, parse_cose, parse_jws
from .names import DistinguishedNameError, covers, subject_attributes
from .policy import Action, Check, Statement
from .revocation import Lists, RevocationState
from .revocation import check as revocation_of
from .timestamp import Proven, proven
from .truststore import Places
from .verdict import CheckOutcome, RefusalError, Signed

FORMATS: Final = {"application/cose": parse_cose, "application/jose+json": parse_jws}
"""Media type of the layer → parser of the envelope."""

_Notes = Sequence[str]


@dataclass(frozen=True, slots=True)
class TrustContext:
    """The trust policy and the other inputs that a signature is verified with.

    Attributes:
        statement: the statement of the trust policy.
        places: the location of the trust stores.
        lists: the sources of revocation lists.
        now: the time at which certificates and signatures must be valid.
        revocation: the action for the revocation check; None for the action in the trust policy.
        metadata: annotations that the signature must have.
    """

    statement: Statement
    places: Places
    lists: Lists
    now: datetime
    revocation: Action | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def action(self, check: Check) -> Action:
        """Return what to do if a check fails."""
        if check is Check.REVOCATION and self.revocation is not None:
            return self.revocation
        return self.statement.actions[check]


@dataclass(frozen=True, slots=True)
class EnvelopeResult:
    """The result for one envelope.

    Attributes:
        checks: the results of all checks, in order.
        signed: the content of the signature, as far as it was parsed.
        refusal: the first failure that the policy enforces; None if the envelope is good.
    """

    checks: tuple[CheckOutcome, ...]
    signed: Signed
    refusal: RefusalError | None = None


def examine(data: bytes, media_type: str, artifact: Descriptor, trust: TrustContext) -> EnvelopeResult:
    """Verify an envelope against the trust policy and the trust stores.

    Args:
        data: the envelope.
        media_type: the media type of the envelope's layer.
        artifact: the descriptor that the signature must cover. It is computed from the artifact's bytes.

    Raises:
        InputError: `TRUST_STORE_INVALID`: a trust store is invalid. This does not depend on the signature.
    """
    return _Examination(artifact, trust).run(data, media_type)


class _Examination:
    def __init__(self, artifact: Descriptor, trust: TrustContext) -> None:
        self._artifact = artifact
        self._trust = trust
        self._checks: dict[Check, CheckOutcome] = {}
        self._signed = Signed()
        self._proven: Proven | None = None

    def run(self, data: bytes, media_type: str) -> EnvelopeResult:
        envelope: Envelope | None = None

        def integrity() -> _Notes:
            nonlocal envelope
            envelope = self._integrity(data, media_type)
            return [f"the signature ({envelope.algorithm.name}), the certificate chain and the signed descriptor are valid"]

        refusal = self._step(Check.INTEGRITY, integrity)
        if refusal is None:
            assert envelope is not None, "a passed integrity check sets the envelope"
            opened_ = envelope
            for check, step in (
                (Check.AUTHENTICITY, self._authenticity),
                (Check.EXPIRY, self._expiry),
                (Check.AUTHENTIC_TIMESTAMP, self._timestamp),
                (Check.REVOCATION, self._revocation),
            ):
                refusal = refusal or self._step(check, lambda step=step: step(opened_))  # type: ignore[misc]
            refusal = refusal or self._metadata()
        checks = tuple(self._checks.get(check) or CheckOutcome(check, self._trust.action(check), "not-done") for check in Check)
        return EnvelopeResult(checks, self._signed, refusal)

    def _step(self, check: Check, step: Callable[[], _Notes]) -> RefusalError | None:
        """Run one check and record its result. Return the failure if the policy enforces the check."""
        action = self._trust.action(check)
        if action is Action.SKIP:
            self._checks[check] = CheckOutcome(check, action, "skipped")
            return None
        outcome: Literal["passed", "failed"] = "passed"
        notes: _Notes = ()
        refusal: RefusalError | None = None
        try:
            # An exception of the library must not end the program, and must not count as passed.
            with guarded("ENVELOPE_MALFORMED" if check is Check.INTEGRITY else "CERT_INVALID", "the envelope"):
                notes = step()
        except RefusalError as error:
            outcome, refusal = "failed", error
        self._checks[check] = CheckOutcome(check, action, outcome, refusal, tuple(notes))
        return refusal if action is Action.ENFORCE else None

    # -- integrity

    def _integrity(self, data: bytes, media_type: str) -> Envelope:
        parse = FORMATS.get(media_type)
        if parse is None:
            raise RefusalError("ENVELOPE_TYPE_UNSUPPORTED", f"the envelope type `{media_type[:80]}` is not supported; use COSE or JWS")
        envelope = opened(parse(data))
        leaf, root = envelope.chain[0], envelope.chain[-1]
        self._signed = Signed(
            subject=leaf.subject,
            root=root.subject,
            algorithm=envelope.algorithm.name,
            scheme=envelope.scheme,
            signing_time=envelope.signing_time,
            expiry=envelope.expiry,
            agent=envelope.agent,
            thumbprints=tuple(one.thumbprint for one in envelope.chain),
        )
        check_chain(envelope.chain)
        self._payload(envelope.payload)
        return envelope

    def _payload(self, payload: bytes) -> None:
        try:
            document = parse_json(payload, "the payload")
        except Error as error:
            raise RefusalError("PAYLOAD_INVALID", error.message) from error
        target = document.get("targetArtifact") if isinstance(document, dict) else None
        if not isinstance(target, dict):
            raise RefusalError("PAYLOAD_INVALID", "the payload has no `targetArtifact`")
        media_type, digest, size = target.get("mediaType"), target.get("digest"), target.get("size")
        if not isinstance(media_type, str) or not isinstance(digest, str) or not isinstance(size, int) or isinstance(size, bool):
            raise RefusalError("PAYLOAD_INVALID", "the `targetArtifact` of the payload is not a descriptor")
        annotations = target.get("annotations") or {}
        if not isinstance(annotations, dict):
            raise RefusalError("PAYLOAD_INVALID", "the annotations of the payload are not an object")
        self._signed = replace(self._signed, annotations=_texts(annotations))
        signed = (media_type, digest, size)
        wanted = (self._artifact.media_type, str(self._artifact.digest), self._artifact.size)
        if signed != wanted:
            raise RefusalError(
                "SUBJECT_MISMATCH",
                f"the signature is for {_shown(*signed)}, not for {_shown(*wanted)}",
                signed={"mediaType": media_type[:200], "digest": digest[:200], "size": size},
            )

    # -- authenticity

    def _authenticity(self, envelope: Envelope) -> _Notes:
        kind = "signingAuthority" if envelope.scheme == AUTHORITY else "ca"
        stores = self._trust.statement.stores_of(kind)
        anchors = self._trust.places.certificates(stores)
        if not anchors:
            raise RefusalError(
                "TRUST_STORE_EMPTY",
                f"the scheme `{envelope.scheme}` needs a `{kind}` store with certificates, and the policy names none",
                hint=f"add `{kind}:NAME` to the `trustStores` of `{self._trust.statement.name}`, and the root to that store",
            )
        trusted = {one.raw for one in anchors}
        anchor = next((one for one in envelope.chain if one.raw in trusted), None)
        root = envelope.chain[-1]
        if anchor is None:
            raise RefusalError(
                "UNTRUSTED_ROOT",
                f"the root `{root.subject}` is not in any of the trust stores {', '.join(f'`{store}`' for store in stores)};"
                f" its SHA-256 is {root.thumbprint}",
                hint="compare this SHA-256 with one that the publisher states elsewhere; add the root to the store only if they match",
                root=root.subject,
                sha256=root.thumbprint,
            )
        self._signed = replace(self._signed, anchor=anchor.thumbprint)
        self._identity(envelope.chain[0])
        return [f"`{anchor.subject}` ({anchor.thumbprint}) is in the trust store"]

    def _identity(self, leaf: Certificate) -> None:
        identities = self._trust.statement.identities
        if identities is None:
            return
        why = "is not a trusted identity"
        try:
            subject = subject_attributes(leaf.parsed.subject)
            if any(covers(identity, subject) for identity in identities):
                return
        except DistinguishedNameError as error:
            why = f"has an unsupported subject ({error}) for the identities"
        raise RefusalError(
            "IDENTITY_MISMATCH",
            f"the signer `{leaf.subject}` {why} of the statement `{self._trust.statement.name}`",
            hint=f'if you trust this signer, add "x509.subject: {leaf.subject}" to `trustedIdentities`',
            subject=leaf.subject,
        )

    # -- times

    def _expiry(self, envelope: Envelope) -> _Notes:
        if envelope.expiry is not None and self._trust.now >= envelope.expiry:
            raise RefusalError("SIGNATURE_EXPIRED", f"the signature expired at {_written(envelope.expiry)}")
        return [f"the signature expires at {_written(envelope.expiry)}" if envelope.expiry else "the signature does not expire"]

    def _timestamp(self, envelope: Envelope) -> _Notes:
        if envelope.scheme == AUTHORITY:
            moment = envelope.signing_time
            _check_validity(envelope.chain, moment, moment, "at the signing time that the signing authority states")
            return [f"the certificates were valid at {_written(moment)}, the signing time that the signing authority states"]
        now, statement = self._trust.now, self._trust.statement
        stores = statement.stores_of("tsa")
        has_expired = any(now > one.parsed.not_valid_after_utc for one in envelope.chain)
        if not stores or not (statement.timestamps_always or has_expired):
            hint = None
            if has_expired and envelope.token is not None:
                hint = (
                    "the signature has a timestamp that may prove that it was made in time: "
                    f"add a `tsa` store to the statement `{statement.name}`"
                )
            _check_validity(envelope.chain, now, now, "now", hint=hint)
            return [
                "the certificates are valid now; " + ("no timestamp was checked" if envelope.token else "the signature has no timestamp")
            ]
        if envelope.token is None:
            raise RefusalError(
                "TIMESTAMP_MISSING",
                f"the statement `{statement.name}` requires a timestamp, but the signature has none",
                hint='`"verifyTimestamp": "afterCertExpiry"` requires one only if certificates have expired',
            )
        roots = self._trust.places.certificates(stores)
        if not roots:
            raise RefusalError("TRUST_STORE_EMPTY", f"there is no certificate in the stores {', '.join(f'`{store}`' for store in stores)}")
        with guarded("TIMESTAMP_INVALID", "the timestamp"):
            self._proven = proven(envelope.token, envelope.signature, roots)
        self._signed = replace(self._signed, timestamp=self._proven.moment)
        stamp = self._proven.moment
        _check_validity(envelope.chain, self._proven.earliest, self._proven.latest, f"at the timestamp {_written(stamp.time)}")
        return [f"`{stamp.authority}` confirms that it was signed at {_written(stamp.time)}; the certificates were valid then"]

    # -- revocation

    def _revocation(self, envelope: Envelope) -> _Notes:
        authentic = envelope.signing_time if envelope.scheme == AUTHORITY else None
        found = revocation_of(envelope.chain, self._trust.lists, self._trust.now, authentic=authentic)
        if self._proven is not None:
            found += revocation_of(self._proven.chain, self._trust.lists, self._trust.now)
        notes = [f"`{one.subject}`: {one.state}: {one.note}" for one in found]
        for state, code in ((RevocationState.REVOKED, "REVOKED"), (RevocationState.UNKNOWN, "REVOCATION_UNKNOWN")):
            for one in found:
                if one.state is state:
                    said = "is revoked" if state is RevocationState.REVOKED else "may be revoked, because its status is unknown"
                    raise RefusalError(code, f"the certificate `{one.subject}` {said}: {one.note}", subject=one.subject, notes=notes)
        return notes

    def _metadata(self) -> RefusalError | None:
        carried = dict(self._signed.annotations)
        for key, value in self._trust.metadata.items():
            if carried.get(key) != value:
                found = f"`{carried[key][:80]}`" if key in carried else "no value"
                return RefusalError("ANNOTATION_MISMATCH", f"the signature has {found} for `{key}`, not `{value}`")
        return None


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%SZ}"


def _check_validity(chain: Sequence[Certificate], earliest: datetime, latest: datetime, when: str, *, hint: str | None = None) -> None:
    for one in chain:
        if earliest < one.parsed.not_valid_before_utc:
            raise RefusalError(
                "CERT_NOT_YET_VALID",
                f"the certificate `{one.subject}` was not yet valid {when}; it is valid from {_written(one.parsed.not_valid_before_utc)}",
                subject=one.subject,
            )
        if latest > one.parsed.not_valid_after_utc:
            raise RefusalError(
                "CERT_EXPIRED",
                f"the certificate `{one.subject}` is not valid {when}; it expired at {_written(one.parsed.not_valid_after_utc)}",
                hint=hint,
                subject=one.subject,
            )


def _texts(annotations: dict[str, Json]) -> tuple[tuple[str, str], ...]:
    found = tuple((key, value) for key, value in annotations.items() if isinstance(value, str))
    if len(found) != len(annotations):
        raise RefusalError("PAYLOAD_INVALID", "an annotation of the payload is not a string")
    return found


def _shown(media_type: str, digest: str, size: int) -> str:
    return f"`{digest[:100]}` ({size} bytes, {media_type[:100]})"
