"""The values that a `Client` gives: the fields of the JSON that the command of the same name prints, in snake_case.

Digests, versions and kinds are plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..oci import Platform
from ..reference import Reference

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of a repository.

    Attributes:
        aliases: further tags that mean the same version.
    """

    version: str
    tag: str
    prerelease: bool
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedReference:
    """What a reference and a range mean.

    Attributes:
        reference: pinned by its digest; `str()` gives it as `marfetch resolve` prints it.
        repository: with its host.
        version: None where the tag is no version.
    """

    reference: Reference
    repository: str
    tag: str | None
    version: str | None
    digest: str
    media_type: str


@dataclass(frozen=True, slots=True)
class PulledFile:
    """One file, or one directory that an archive was unpacked into.

    Attributes:
        digest: of the layer that it was made of, as are size and media type.
        status: `unchanged` where the same bytes were there already.
        reference: pinned: which artifact it is of.
    """

    path: Path
    digest: str
    size: int
    media_type: str
    status: Literal["fetched", "unchanged"]
    reference: str
    kind: str


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """A descriptor: of a config, a layer, a subject, or a manifest in an index.

    Attributes:
        name: of a layer, the file that `pull` makes of it; None where it does not fetch it.
        kind: of a manifest in an index.
    """

    media_type: str
    digest: str
    size: int
    name: str | None
    kind: str | None
    artifact_type: str | None
    platform: Platform | None
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReferrerInfo:
    """A manifest that refers to another one, such as a signature or an SBOM.

    Attributes:
        referrers: what refers to it in turn.
    """

    media_type: str
    digest: str
    size: int
    artifact_type: str | None
    platform: Platform | None
    annotations: Mapping[str, str]
    kind: str | None
    reference: str
    referrers: tuple[ReferrerInfo, ...]


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """What an artifact is.

    Attributes:
        reference: pinned.
        repository: with its host.
        digest: of what the reference names; `manifest` is that of the artifact, which differs where the reference names an index.
        size: bytes of all layers.
        chart: a chart's metadata, as in its `Chart.yaml`.
        platforms: the manifests of an index.
        end_of_life: the day on which support ends, as `YYYY-MM-DD`.
        warnings: why `pull` would refuse it, or what is odd about it.
    """

    reference: str
    repository: str
    tag: str | None
    version: str | None
    kind: str | None
    artifact_type: str | None
    media_type: str
    digest: str
    manifest: str
    size: int
    created: str | None
    config: ContentInfo | None
    layers: tuple[ContentInfo, ...]
    annotations: Mapping[str, str]
    chart: Mapping[str, Any] | None
    platforms: tuple[ContentInfo, ...]
    subject: ContentInfo | None
    end_of_life: str | None
    referrers: tuple[ReferrerInfo, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepositoryInfo:
    """One repository that a search found; what only its manifests tell is None unless a kind was asked for or the cache knows it.

    Attributes:
        name: without the host.
        reference: with it.
        newest: the newest version that has a manifest.
        listed: whether the catalog has it.
        ghost: whether it has no tags; None where that is not known.
        missing: newer versions that are listed but have no manifest.
    """

    name: str
    reference: str
    kind: str | None
    newest: str | None
    tag: str | None
    artifact_type: str | None
    digest: str | None
    created: str | None
    app_version: str | None
    description: str | None
    listed: bool
    ghost: bool | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckInfo:
    """What became of one check of a signature.

    Attributes:
        action: `enforce`, `log` or `skip`, as the trust policy says.
        outcome: `passed`, `failed`, `skipped`, or `not-done` where another check failed before it.
    """

    action: str
    outcome: str
    code: str | None
    message: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimestampInfo:
    """A countersigned time (RFC 3161)."""

    time: str
    accuracy: float
    authority: str
    root: str


@dataclass(frozen=True, slots=True)
class SignatureInfo:
    """One signature.

    Attributes:
        digest: of its manifest.
        code: `OK`, or the error code of what does not hold.
        checks: by name, such as `integrity`.
        certificates: SHA-256 of each, that of the signer first.
    """

    digest: str
    code: str
    message: str | None
    checks: Mapping[str, CheckInfo]
    envelope: str | None
    media_type: str | None
    subject: str | None
    root: str | None
    trust_anchor: str | None
    algorithm: str | None
    signing_scheme: str | None
    signing_time: str | None
    expiry: str | None
    signing_agent: str | None
    certificates: tuple[str, ...]
    annotations: Mapping[str, str]
    timestamp: TimestampInfo | None


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """The statement of the trust policy that applied."""

    statement: str
    level: str


@dataclass(frozen=True, slots=True)
class ProvenanceInfo:
    """A Helm provenance file that holds."""

    fingerprint: str
    users: tuple[str, ...]
    file: str
    digest: str


@dataclass(frozen=True, slots=True)
class LifecycleInfo:
    """What the lifecycle mark of an artifact says.

    Attributes:
        date: the day on which support ends, as `YYYY-MM-DD`.
        signer: who signed the mark; None if it has no valid signature, and `note` says why.
    """

    date: str
    signer: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class VerifiedPlatform:
    """The result for the manifest of one platform of an index."""

    platform: str
    digest: str
    media_type: str
    verdict: str
    signatures: tuple[SignatureInfo, ...]


@dataclass(frozen=True, slots=True)
class VerifiedArtifact:
    """What a verification found. If no signature holds, an error is raised instead.

    Attributes:
        verdict: `verified`, or `skipped` where the trust policy skips the repository.
        ended: whether support has ended.
        superseded: whether the tag of an ended artifact names another digest now; None if that is unknown.
        platform: the result for the platform, if one was asked for.
        not_checked: artifact types of signatures whose form marfetch does not verify.
    """

    reference: str
    digest: str
    media_type: str
    verdict: str
    policy: PolicyInfo | None
    signatures: tuple[SignatureInfo, ...]
    provenance: ProvenanceInfo | None
    end_of_life: str | None
    ended: bool
    superseded: bool | None
    lifecycle: LifecycleInfo | None
    platform: VerifiedPlatform | None
    not_checked: tuple[str, ...]
    warnings: tuple[str, ...]


def value_of(kind: type[_T], document: Mapping[str, Any]) -> _T:
    """Make a value of the JSON object that the command line prints."""
    hints = get_type_hints(kind)
    names: Any = fields(kind)  # type: ignore[arg-type]
    return kind(**{one.name: _typed(hints[one.name], document.get(_json_name(one.name))) for one in names})


def _json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _typed(hint: Any, value: Any) -> Any:
    """Convert a JSON value to the type of its field."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:  # with None
        return None if value is None else _typed(arguments[0], value)
    if origin is tuple:
        return tuple(_typed(arguments[0], one) for one in value or ())
    if origin is Mapping:
        return {name: _typed(arguments[1], one) for name, one in (value or {}).items()}
    if hint is Platform:
        return Platform(**value)
    return value_of(hint, value) if is_dataclass(hint) and isinstance(hint, type) else value
