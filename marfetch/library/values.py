"""The values that a `Client` returns. Their fields are those of the corresponding command's JSON, in snake_case.

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
        aliases: other tags of the same version.
    """

    version: str
    tag: str
    prerelease: bool
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedReference:
    """A resolved reference.

    Attributes:
        reference: pinned by digest; `str()` formats it as `marfetch resolve` does.
        repository: with its host.
        version: None if the tag is not a version.
    """

    reference: Reference
    repository: str
    tag: str | None
    version: str | None
    digest: str
    media_type: str


@dataclass(frozen=True, slots=True)
class PulledFile:
    """A downloaded file, or a directory with an unpacked archive.

    Attributes:
        digest: digest of the layer; `size` and `media_type` also describe the layer.
        status: `unchanged` if the same content already existed.
        reference: the artifact, pinned by digest.
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
    """A descriptor of a config, a layer, a subject, or a manifest in an index.

    Attributes:
        name: for a layer, the file that `pull` would write; None if `pull` skips the layer.
        kind: for a manifest in an index, the kind of the artifact.
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
        referrers: the referrers of this referrer.
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
    """A description of an artifact.

    Attributes:
        reference: pinned by digest.
        repository: with its host.
        digest: digest of the manifest or index that the reference names.
        manifest: digest of the artifact's manifest; differs from `digest` if the reference names an index.
        size: total size of all layers in bytes.
        chart: a chart's metadata, as in its `Chart.yaml`.
        platforms: the manifests of an index.
        end_of_life: the end of support, as `YYYY-MM-DD`.
        warnings: why `pull` would refuse it, or what is unusual about it.
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
    """A repository found by a search. Fields that come from manifests are None, unless you search by kind or the manifests are cached.

    Attributes:
        name: without the host.
        reference: the repository with its host.
        newest: the newest version that has a manifest.
        listed: whether the catalog lists it.
        ghost: whether it has no tags; None if unknown.
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
    """The result of one check of a signature.

    Attributes:
        action: `enforce`, `log` or `skip`, as the trust policy says.
        outcome: `passed`, `failed`, `skipped`, or `not-done` if an earlier check failed.
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
        digest: digest of its manifest.
        code: `OK`, or the error code of the failed check.
        checks: results by the name of the check, such as `integrity`.
        certificates: SHA-256 of each certificate, the signer's first.
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
    """A valid Helm provenance file."""

    fingerprint: str
    users: tuple[str, ...]
    file: str
    digest: str


@dataclass(frozen=True, slots=True)
class LifecycleInfo:
    """The lifecycle mark of an artifact, which states when support ends.

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
    """The result of a successful verification.

    Attributes:
        verdict: `verified`, or `skipped` if the trust policy skips the repository.
        ended: whether support has ended.
        superseded: whether the tag of an ended artifact now points to another digest; None if unknown.
        platform: the result for the platform, if one was asked for.
        not_checked: artifact types of attached signatures in unsupported formats.
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
    """Convert the command line's JSON object to a value."""
    hints = get_type_hints(kind)
    names: Any = fields(kind)  # type: ignore[arg-type]
    return kind(**{one.name: _typed(hints[one.name], document.get(_json_name(one.name))) for one in names})


def _json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _typed(hint: Any, value: Any) -> Any:
    """Convert a JSON value to the type of its field."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:  # `X | None`
        return None if value is None else _typed(arguments[0], value)
    if origin is tuple:
        return tuple(_typed(arguments[0], one) for one in value or ())
    if origin is Mapping:
        return {name: _typed(arguments[1], one) for name, one in (value or {}).items()}
    if hint is Platform:
        return Platform(**value)
    return value_of(hint, value) if is_dataclass(hint) and isinstance(hint, type) else value
