"""Verifies an artifact: finds its signatures among its referrers, and checks them one by one against the trust policy.

A broken signature never hides a good one. Failures are recorded, and the first good signature ends the search.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..artifact.kinds import HELM_PROVENANCE, NOTATION_SIGNATURE, NOTATION_SIGNATURE_OLD, matches, newest_mark
from ..artifact.payload import Choice, base_name, select
from ..client.resolve import Resolved, artifact, resolved_to
from ..client.session import Session
from ..constraint import read_version, tag_of
from ..errors import Error, InputError, IntegrityError, NotFoundError, PolicyError, RemoteError, SignatureError
from ..files import unfinished, write_whole
from ..oci import VERSION, Descriptor, Manifest, Platform
from ..text import counted
from .policy import Action, Check, Policy, Statement
from .provenance import MAX_SIZE, check
from .revocation import Lists, cache_entry
from .steps import FORMATS, TrustContext, examine
from .truststore import Places, cache_directory
from .verdict import OK, LifecycleMark, PlatformVerdict, Provenance, RefusalError, Signature, Verdict

MAX_SIGNATURES: Final = 100
"""Maximum number of signatures that are checked per artifact, as in notation."""
MAX_ENVELOPE: Final = 4 << 20
"""Maximum bytes of a signature envelope. Real envelopes have 4 to 14 KiB."""
CRL_DIRECTORY: Final = "crl"
"""The subdirectory of the cache for revocation lists. It has the format of notation's cache."""

_OTHERS: Final = ("application/vnd.dev.sigstore.bundle*", "application/vnd.dev.cosign.*", NOTATION_SIGNATURE_OLD)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """The options of a verification.

    Attributes:
        places: the location of the trust policy and the trust stores.
        at: the time at which signatures and certificates must be valid; None for now.
        crl: directories or files with revocation lists.
        revocation: the action for the revocation check; None for the action in the trust policy.
        metadata: annotations that a signature must have.
        keyring: the file of OpenPGP keys for checking the provenance of a chart; None to skip this check.
        refuse_ended: whether to refuse an artifact whose support has ended.
        platform: the platform whose manifest is also verified if the artifact is an index; None for the index alone.
    """

    places: Places = field(default_factory=Places)
    at: datetime | None = None
    crl: Sequence[Path] = ()
    revocation: Action | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    keyring: Path | None = None
    refuse_ended: bool = False
    platform: Platform | None = None


_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


def options_of(
    trust_policy: Path | None, trust_store: Path | None, at: str | None, crl: Sequence[Path] | None, revocation: str | None
) -> VerifyOptions:
    """Return the verification options for the values of command-line options.

    Raises:
        InputError: `usage`.
    """
    if revocation is not None and revocation not in set(Action):
        raise InputError(f"`--revocation` takes {', '.join(Action)}, not `{revocation[:40]}`", code="usage")
    for directory in crl or ():
        if not directory.exists():
            raise InputError(f"the directory `{directory}` of `--crl` does not exist", code="usage", path=str(directory))
    return VerifyOptions(
        Places(trust_policy, trust_store),
        _moment(at) if at is not None else None,
        tuple(crl or ()),
        Action(revocation) if revocation is not None else None,
    )


def _moment(text: str) -> datetime:
    try:
        if _RFC_3339.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InputError(
        f"`--at` takes a time such as `2026-11-23T20:00:00Z`, not `{text[:60]}`", code="usage", hint="use the format of RFC 3339"
    )


def verify(client: Session, resolved: Resolved, request: VerifyOptions) -> Verdict:
    """Verify a resolved artifact.

    Returns:
        The verdict. If the verification failed, the verdict contains the error.

    Raises:
        InputError: `POLICY_MISSING`, `POLICY_INVALID`, `NO_APPLICABLE_POLICY`, `TRUST_STORE_INVALID`, `KEYRING_INVALID`.
        NotFoundError: `platform-not-found`.
        Error: the registry failed.
    """
    child = artifact(resolved, Choice(all_layers=True), request.platform) if request.platform is not None else None
    verdict = _verify(client, resolved, request)
    if child is None or child.descriptor.digest == resolved.manifest.descriptor.digest:
        return verdict
    own = resolved_to(resolved.repository.at(digest=child.descriptor.digest), child)
    of_platform = _verify(client, own, replace(request, keyring=None))
    return replace(
        verdict,
        platform=PlatformVerdict(str(request.platform), child.descriptor, of_platform),
        warnings=(*verdict.warnings, *(one for one in of_platform.warnings if one not in verdict.warnings)),
        outcome="failed" if of_platform.error is not None else verdict.outcome,
        error=verdict.error or of_platform.error,
    )


def _verify(client: Session, resolved: Resolved, request: VerifyOptions) -> Verdict:
    now = request.at or datetime.now(UTC)
    policy, statement = _statement(resolved, request)
    warnings = [*(policy.warnings if policy else ()), *(statement.warnings if statement else ())]
    provenance: Provenance | None = None
    failure: Error | None = None
    if request.keyring is not None:
        try:
            provenance, expected = _provenance(resolved, request.keyring, now)
            if provenance.file != expected:
                warnings.append(
                    f"the provenance lists `{provenance.file}` (the package's own name), not `{expected}` (its name by the reference)"
                )
        except SignatureError as error:
            failure = error
    referrers = resolved.repository.referrers(resolved.manifest.descriptor.digest)
    trust: TrustContext | None = None
    if statement is not None and not statement.is_skip:
        trust = TrustContext(statement, request.places, _lists(client, request), now, request.revocation, request.metadata)
    verdict = Verdict(
        "verified",
        statement,
        provenance=provenance,
        others=tuple(sorted({one.artifact_type for one in referrers if one.artifact_type and matches(one.artifact_type, _OTHERS)})),
        warnings=tuple(warnings),
    )
    if trust is not None:
        verdict = _signatures(client, resolved, referrers, trust, verdict)
    elif provenance is None and statement is not None:
        verdict = replace(verdict, outcome="skipped")
    if (mark := _lifecycle(client, resolved, referrers, trust)) is not None:
        has_ended = mark.date <= now.date()
        superseded = _is_superseded(resolved) if has_ended else None
        verdict = replace(verdict, mark=replace(mark, is_superseded=superseded), has_ended=has_ended)
    failure = failure or verdict.error or _refused_end(resolved, verdict, request)
    return replace(verdict, outcome="failed", error=failure) if failure is not None else verdict


def _statement(resolved: Resolved, request: VerifyOptions) -> tuple[Policy | None, Statement | None]:
    """Return the trust policy and the statement for the artifact.

    Both are None if there is no policy at the default path and the user requested a check of the provenance.
    """
    try:
        policy = request.places.load_policy()
    except InputError as error:
        if request.keyring is None or request.places.policy is not None or error.code != "POLICY_MISSING":
            raise
        return None, None
    return policy, policy.statement(resolved.reference.full_repository)


# -- lifecycle


def _lifecycle(client: Session, resolved: Resolved, referrers: Sequence[Descriptor], trust: TrustContext | None) -> LifecycleMark | None:
    """Return the newest lifecycle mark and its signer. An unknown signer is not an error, because most marks are unsigned."""
    newest = newest_mark((one.artifact_type or "", one.annotations) for one in referrers)
    if newest is None:
        return None
    mark, ends = referrers[newest[0]], newest[1]
    if trust is None:
        return LifecycleMark(ends, unsigned="its signature was not checked")
    try:
        repository = resolved.repository.at(digest=mark.digest)
        signatures = repository.referrers(mark.digest)
        if not any(one.artifact_type and matches(one.artifact_type, (NOTATION_SIGNATURE,)) for one in signatures):
            return LifecycleMark(ends)
        # The list of referrers is not signed, so compare it with the manifest of the mark.
        manifest = repository.manifest()
        subject = manifest.subject.digest if manifest.subject is not None else None
        said = newest_mark([(mark.artifact_type or "", manifest.annotations)])
        if subject != resolved.manifest.descriptor.digest or said is None or said[1] != ends:
            return LifecycleMark(ends, unsigned="its manifest differs from the list of referrers")
        # Only the signature of the artifact must have the annotations in `metadata`, not the signature of the mark.
        found = _signatures(client, resolved_to(repository, manifest), signatures, replace(trust, metadata={}), Verdict("verified"))
    except (NotFoundError, IntegrityError, PolicyError, RemoteError) as error:
        client.budget.check()
        return LifecycleMark(ends, unsigned=f"its signature could not be checked: {error.message}")
    if found.good is None:
        return LifecycleMark(ends, unsigned=f"its signature is not valid: {found.error.message if found.error else 'unknown'}")
    doubt = next((one.refusal for one in found.good.checks if one.check is Check.AUTHENTICITY and one.refusal is not None), None)
    if doubt is not None:  # the level `audit` only logs such a failure
        return LifecycleMark(ends, unsigned=f"its signer is not trusted: {doubt.message}")
    return LifecycleMark(ends, found.good.signed.subject)


def _is_superseded(resolved: Resolved) -> bool | None:
    """Return whether the tag of the artifact now names another digest; None if this is unknown.

    If the reference has no tag, the version in the manifest's annotations is used as the tag.
    """
    version = tag_of(resolved.manifest.annotations.get(VERSION, ""))
    tag = resolved.reference.tag or (version if read_version(version) else None)
    session = resolved.repository.session
    if tag is None or session.options.offline:
        return None
    try:
        now = resolved.repository.at(tag=tag).manifest()
    except (InputError, NotFoundError, IntegrityError, PolicyError, RemoteError):
        session.budget.check()
        return None
    return now.descriptor.digest != resolved.manifest.descriptor.digest


def _refused_end(resolved: Resolved, verdict: Verdict, request: VerifyOptions) -> Error | None:
    if verdict.mark is None or not verdict.has_ended or not request.refuse_ended:
        return None
    reference = str(resolved.reference)
    return PolicyError(verdict.mark.text(reference), code="end-of-life", reference=reference, ends=str(verdict.mark.date))


# -- signatures


def _signatures(client: Session, resolved: Resolved, referrers: Sequence[Descriptor], trust: TrustContext, verdict: Verdict) -> Verdict:
    listed = {one.digest: one for one in referrers if one.artifact_type and matches(one.artifact_type, (NOTATION_SIGNATURE,))}
    found: list[Signature] = []
    outages: list[RemoteError] = []
    for one in list(listed.values())[:MAX_SIGNATURES]:
        signature = _signature(client, resolved, one, trust, outages)
        found.append(signature)
        if signature.code == OK:
            verdict = replace(verdict, signatures=tuple(found))
            return replace(verdict, warnings=(*verdict.warnings, *verdict.logged_failures))
    error = _failure(resolved, found, outages, len(listed))
    return replace(verdict, signatures=tuple(found), error=error)


def proven_time(client: Session, resolved: Resolved, most: int) -> tuple[datetime | None, int]:
    """Find the earliest time that a timestamp proves for an artifact: its signature must satisfy the trust policy and be trusted.

    Args:
        most: maximum number of signatures to check. If there are more, none is checked.

    Returns:
        The time (None if no signature proves one), and the number of signatures.

    Raises:
        InputError: `POLICY_INVALID`, `TRUST_STORE_INVALID`.
        Error: the registry failed.
    """
    request = VerifyOptions()
    try:
        statement = request.places.load_policy().statement(resolved.reference.full_repository)
    except InputError as error:
        if error.code not in ("POLICY_MISSING", "NO_APPLICABLE_POLICY"):
            raise
        return None, 0
    if statement.is_skip or not statement.stores_of("tsa"):
        return None, 0
    listed = resolved.repository.referrers(resolved.manifest.descriptor.digest, artifact_type=NOTATION_SIGNATURE)
    chosen = list({one.digest: one for one in listed}.values())
    if len(chosen) > most:
        return None, len(chosen)
    # An optional timestamp (`afterCertExpiry`) is required here, because only a checked timestamp proves a time.
    trust = TrustContext(replace(statement, timestamps_always=True), request.places, _lists(client, request), datetime.now(UTC))
    times = []
    for one in chosen:
        signature = _signature(client, resolved, one, trust, [])
        moment = signature.signed.timestamp
        passed = {done.check for done in signature.checks if done.outcome == "passed"}
        if signature.code == OK and moment is not None and passed >= {Check.AUTHENTICITY, Check.AUTHENTIC_TIMESTAMP}:
            times.append(moment.time)
    return min(times, default=None), len(chosen)


def _failure(resolved: Resolved, found: Sequence[Signature], outages: Sequence[RemoteError], count: int) -> Error:
    reference = str(resolved.reference)
    if not found:
        return SignatureError(f"`{reference}` is unsigned: it has no signature", code="NO_SIGNATURE", reference=reference)
    if count > MAX_SIGNATURES:
        return PolicyError(
            f"`{reference}` has {count} signatures; none of the first {MAX_SIGNATURES} is valid, and no more are checked",
            code="limit-passed",
            hint="find out who attached them; a registry may list many signatures to hide the valid one",
            reference=reference,
            rule=f"at most {MAX_SIGNATURES} signatures",
        )
    furthest = max(found, key=lambda one: one.progress)
    if furthest.code == "REGISTRY_ERROR" and outages:
        return outages[0]  # no signature was downloaded, so report why
    refusal = furthest.refusal
    assert refusal is not None, "every signature that is not valid has a refusal"
    several = f" (the best of {len(found)} signatures)" if len(found) > 1 else ""
    return SignatureError(
        f"the signature `{furthest.digest}` of `{reference}` is not valid{several}: {refusal.message}",
        code=refusal.code,
        hint=refusal.hint,
        **{"reference": reference, "reason": refusal.message, "signature": str(furthest.digest), **refusal.facts},
    )


def _signature(client: Session, resolved: Resolved, listed: Descriptor, trust: TrustContext, outages: list[RemoteError]) -> Signature:
    """Check one signature. A problem with the signature becomes part of the result, not an exception."""
    layer: Descriptor | None = None
    try:
        layer = _layer(resolved, listed)
        signature = resolved.repository.at(digest=listed.digest)
        data = signature.blob(layer, limit=MAX_ENVELOPE) if layer.media_type in FORMATS else b""
    except RefusalError as error:
        return Signature(listed.digest, error.code, refusal=error)
    except (NotFoundError, IntegrityError, PolicyError, RemoteError) as error:
        code = "SIGNATURE_MANIFEST_INVALID" if isinstance(error, (IntegrityError, PolicyError)) else "REGISTRY_ERROR"
        if isinstance(error, RemoteError):
            client.budget.check()
            outages.append(error)
        return Signature(
            listed.digest, code, refusal=RefusalError(code, error.message, hint=error.hint), media_type=layer.media_type if layer else None
        )
    examined = examine(data, layer.media_type, resolved.manifest.descriptor, trust)
    code = examined.refusal.code if examined.refusal else OK
    return Signature(listed.digest, code, examined.checks, examined.refusal, examined.signed, layer.digest, layer.media_type)


def _layer(resolved: Resolved, listed: Descriptor) -> Descriptor:
    """Return the descriptor of the envelope in the manifest of a signature (signature-specification, "Storage")."""
    manifest = resolved.repository.manifest(listed.digest)

    def refuse(reason: str) -> RefusalError:
        return RefusalError("SIGNATURE_MANIFEST_INVALID", f"its manifest is not a signature manifest: {reason}")

    if not isinstance(manifest, Manifest) or not matches(manifest.effective_type, (NOTATION_SIGNATURE,)):
        raise refuse("it has another type")
    if manifest.descriptor.size != listed.size:
        raise refuse(f"it has {manifest.descriptor.size} bytes, not the {listed.size} of its descriptor")
    subject = manifest.subject
    if subject is None or subject.digest != resolved.manifest.descriptor.digest:
        raise refuse("its subject is another artifact")
    if len(manifest.layers) != 1:
        raise refuse(f"it has {counted(len(manifest.layers), 'layer')}, not one")
    return manifest.layers[0]


def _lists(client: Session, request: VerifyOptions) -> Lists:
    """Return the sources of revocation lists: the user's files, then the caches of marfetch and notation, then downloads."""
    own = client.cache.root / CRL_DIRECTORY
    caches = [own, cache_directory() / CRL_DIRECTORY]
    if client.options.offline or request.revocation is Action.SKIP:
        return Lists(request.crl, caches)
    from ..remote.crl import fetcher  # late: loads urllib3, which only downloads of revocation lists need

    def keep(url: str, data: bytes) -> None:
        keep_list(own, url, data, client)

    return Lists(request.crl, caches, fetcher(client.options.ca_file, client.budget), keep)


def keep_list(directory: Path, url: str, data: bytes, client: Session) -> None:
    """Cache a revocation list (best effort). A failure only causes a warning."""
    path = directory / hashlib.sha256(url.encode()).hexdigest()
    try:
        write_whole(path, cache_entry(data), through=unfinished(client.cache.root, path))
    except Error as error:
        client.progress.warn(f"a revocation list was not cached: {error.message}")


# -- provenance


def _provenance(resolved: Resolved, keyring: Path, now: datetime) -> tuple[Provenance, str]:
    """Check the provenance of a chart. Return the provenance, and the file name of the package according to the reference."""
    reference = resolved.reference
    manifest = artifact(resolved, Choice(provenance=True), None)
    what = reference.shown
    layers = [layer for layer in manifest.layers if matches(layer.media_type, (HELM_PROVENANCE,))]
    if len(layers) != 1:
        raise SignatureError(
            f"`{what}` has {len(layers) or 'no'} provenance" + (" layers" if layers else ""),
            code="PROV_MISSING",
            reference=str(reference),
        )
    selection = select(manifest, Choice(), name=base_name(reference.repository), tag=reference.tag, what=what)
    charts = [one for one in selection.payloads if not matches(one.layer.media_type, (HELM_PROVENANCE,))]
    if len(charts) != 1:
        raise SignatureError(f"`{what}` has {len(charts)} payloads, not one chart", code="PROV_FILE_NOT_LISTED")
    raw = resolved.repository.blob(layers[0], limit=MAX_SIZE)
    return check(raw, keyring, name=charts[0].name, digest=charts[0].layer.digest, now=now), charts[0].name
