"""The kinds of artifacts on MAR, and how to determine the kind of a manifest.

The content of the manifest determines the kind. The path of the repository is not used, because MAR has charts below `charts/`, below
`helm/` and without a prefix. The position of a layer is not used either, because Helm sorts layers by digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from ..errors import InputError
from ..oci import CREATED, EMPTY_TYPE, VERSION, Annotations, Manifest

# -- end of support, which lifecycle artifacts state


LIFECYCLE: Final = "application/vnd.microsoft.artifact.lifecycle"
END_OF_LIFE: Final = "vnd.microsoft.artifact.lifecycle.end-of-life.date"


def end_of_life(marks: Iterable[tuple[str, Annotations]]) -> date | None:
    """Return the date on which support ends, as the newest lifecycle artifact among the referrers states it.

    Args:
        marks: artifact type and annotations of each referrer.
    """
    newest = newest_mark(marks)
    return newest[1] if newest else None


def newest_mark(marks: Iterable[tuple[str, Annotations]]) -> tuple[int, date] | None:
    """Return the position of the newest lifecycle artifact among the referrers, and the date on which support ends.

    Args:
        marks: see `end_of_life`.
    """
    newest: tuple[datetime, int, date] | None = None
    for place, (artifact_type, notes) in enumerate(marks):
        if artifact_type.lower() != LIFECYCLE:
            continue
        ends = _timestamp(notes.get(END_OF_LIFE, ""))
        if ends is None:
            continue
        created = _timestamp(notes.get(CREATED, "")) or datetime.min.replace(tzinfo=UTC)
        if newest is None or created >= newest[0]:
            newest = created, place, ends.date()
    return newest[1:] if newest else None


def _timestamp(text: str) -> datetime | None:
    """Parse an RFC 3339 timestamp or a date; return None if the text is neither."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


HELM_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
HELM_CHART_LEGACY: Final = "application/tar+gzip"
HELM_PROVENANCE: Final = "application/vnd.cncf.helm.chart.provenance.v1.prov"
NOTATION_SIGNATURE: Final = "application/vnd.cncf.notary.signature"
NOTATION_SIGNATURE_OLD: Final = "application/vnd.cncf.notary.v2.signature"
"""Artifact type of signatures by the alpha versions of Notation in 2022. Their format is no longer supported, but MAR still has some."""

_IMAGE_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_IMAGE_LAYERS = ("application/vnd.oci.image.layer.*", "application/vnd.docker.image.rootfs.*")
_DISK_IMAGES = (".vhdx", ".vhd", ".qcow2", ".vmdk", ".iso", ".img", ".raw")


class Kind(NamedTuple):
    """One kind of artifact.

    Attributes:
        name: the name in `--kind` and in JSON.
        title: the name for display.
        types: globs over the artifact type (or the config's media type) that identify the kind.
        layers: globs over the media types of layers, in lower case; they identify the kind if the artifact type does not.
        payload: globs over the media types of the layers to download.
        more: globs over the media types of further layers, which are downloaded only on request.
        extension: file extension of the payload; None: it follows from the media type of the layer.
        separator: separator between name and version in the file name.
        titled: whether files are named after the titles of their layers.
        facts: annotations that `inspect` shows, as (label, annotation).
    """

    name: str
    title: str
    types: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    payload: tuple[str, ...] = ("*",)
    more: tuple[str, ...] = ()
    extension: str | None = None
    separator: str = "-"
    titled: bool = False
    facts: tuple[tuple[str, str], ...] = ()


_COMMON_FACTS = (
    ("version", VERSION),
    ("created", CREATED),
    ("description", "org.opencontainers.image.description"),
    ("documentation", "org.opencontainers.image.documentation"),
    ("source", "org.opencontainers.image.source"),
)

CHART: Final = Kind(
    "chart",
    "Helm chart",
    types=(HELM_CONFIG,),
    layers=(HELM_CHART, HELM_CHART_LEGACY),
    payload=(HELM_CHART, HELM_CHART_LEGACY),
    more=(HELM_PROVENANCE,),
    extension=".tgz",
    facts=_COMMON_FACTS,
)
PROVENANCE: Final = Kind("provenance", "Helm provenance", layers=(HELM_PROVENANCE,), payload=(HELM_PROVENANCE,))
BICEP_MODULE: Final = Kind(
    "bicep",
    "Bicep module",
    types=("application/vnd.ms.bicep.module.artifact", "application/vnd.ms.bicep.module.config.v1+json"),
    layers=("application/vnd.ms.bicep.module.layer.v1+json",),
    payload=("application/vnd.ms.bicep.module.layer.v1+json",),
    more=("application/vnd.ms.bicep.module.source.v1.tar+gzip",),
    extension=".json",
    facts=_COMMON_FACTS,
)
BICEP_EXTENSION: Final = Kind(
    "bicep-extension",
    "Bicep extension",
    types=("application/vnd.ms.bicep.provider.artifact", "application/vnd.ms.bicep.provider.config.v1+json"),
    layers=("application/vnd.ms.bicep.provider.layer.v1.tar+gzip",),
    payload=("application/vnd.ms.bicep.provider.layer.v1.tar+gzip",),
    more=("application/vnd.ms.bicep.provider.layer.v1.*.binary",),
    extension=".tgz",
    facts=(*_COMMON_FACTS, ("serialization", "bicep.serialization.format")),
)
POWERSHELL: Final = Kind(
    "powershell",
    "PowerShell module",
    # Its manifest looks like that of a container image. Only the annotation `resourceType` of its layer identifies it (see `kind_of`).
    extension=".nupkg",
    separator=".",
    facts=(("package", "org.opencontainers.image.title"), ("type", "resourceType"), ("metadata", "metadata")),
)
SIGNATURE: Final = Kind(
    "signature",
    "Notation signature",
    types=(NOTATION_SIGNATURE, NOTATION_SIGNATURE_OLD),
    payload=("application/cose", "application/jose+json"),
    facts=(("created", CREATED), ("certificates", "io.cncf.notary.x509chain.thumbprint#S256")),
)
SBOM_SPDX: Final = Kind(
    "sbom-spdx",
    "SBOM (SPDX)",
    types=("application/spdx+json", "text/spdx"),
    layers=("application/spdx+json", "text/spdx"),
    facts=_COMMON_FACTS,
)
SBOM_CYCLONEDX: Final = Kind(
    "sbom-cyclonedx",
    "SBOM (CycloneDX)",
    types=("application/vnd.cyclonedx+*",),
    layers=("application/vnd.cyclonedx+*",),
    facts=_COMMON_FACTS,
)
ATTESTATION: Final = Kind(
    "attestation",
    "in-toto attestation",
    types=("application/vnd.in-toto+json",),
    layers=("application/vnd.in-toto+json",),
    facts=(("created", CREATED), ("predicate", "in-toto.io/predicate-type")),
)
LIFECYCLE_MARK: Final = Kind(
    "lifecycle",
    "lifecycle mark",
    types=(LIFECYCLE,),
    extension=".lifecycle.json",
    facts=(("created", CREATED), ("end of life", END_OF_LIFE)),
)
DISK_IMAGE: Final = Kind("disk-image", "disk image", titled=True, facts=_COMMON_FACTS)
IMAGE: Final = Kind("image", "container image", types=_IMAGE_CONFIGS, facts=_COMMON_FACTS)
FILE: Final = Kind("file", "file", titled=True, facts=_COMMON_FACTS)

KINDS: Final = (
    CHART,
    PROVENANCE,
    BICEP_MODULE,
    BICEP_EXTENSION,
    POWERSHELL,
    SIGNATURE,
    SBOM_SPDX,
    SBOM_CYCLONEDX,
    ATTESTATION,
    LIFECYCLE_MARK,
    DISK_IMAGE,
    IMAGE,
    FILE,
)
"""Every kind."""


_MARKS: Final = frozenset("*?[")
"""Characters that make a text a glob. Most patterns have none, so they are compared without a regular expression."""


def matches(media_type: str, globs: Iterable[str]) -> bool:
    """Return whether a media type matches one of the globs, ignoring case (as Bicep does)."""
    lower = media_type.lower()
    return any(glob == lower or (not _MARKS.isdisjoint(glob) and fnmatchcase(lower, glob)) for glob in map(str.lower, globs))


def kinds_named(*texts: str) -> tuple[Kind, ...]:
    """Parse comma-separated lists of kinds; `sbom` means both SBOM kinds.

    Raises:
        InputError: `usage`: a name is not a kind. The hint lists all kinds.
    """
    kinds: list[Kind] = []
    for text, name in ((one, part.strip()) for one in texts for part in one.lower().split(",")):
        found = [SBOM_SPDX, SBOM_CYCLONEDX] if name == "sbom" else [kind for kind in KINDS if kind.name == name]
        if not found:
            known = ", ".join(kind.name for kind in KINDS)
            raise InputError(f"`{name[:60]}` is not a kind", code="usage", hint=f"use one of: {known}", text=text[:100])
        kinds += found
    return tuple(kinds)


def kind_of(manifest: Manifest) -> Kind:
    """Return the kind of a manifest, from its declared type or else from its layers."""
    for kind in KINDS:
        if kind is not IMAGE and kind.types and matches(manifest.effective_type, kind.types):
            return kind
    if _is_chart_by_layers(manifest):
        return CHART
    if any("resourceType" in layer.annotations for layer in manifest.layers):
        return POWERSHELL
    if any((layer.title or "").lower().endswith(_DISK_IMAGES) for layer in manifest.layers):
        return DISK_IMAGE
    if _is_image(manifest):
        return IMAGE
    types = [layer.media_type for layer in manifest.layers if layer.media_type.lower() != EMPTY_TYPE]
    for kind in KINDS:
        if types and kind.layers and kind is not CHART and all(matches(media_type, (*kind.layers, *kind.more)) for media_type in types):
            return kind
    return FILE


def kind_of_type(artifact_type: str | None) -> Kind | None:
    """Return the kind that an artifact type identifies, or None. Use it for entries of referrer lists, which contain no layers."""
    return next((kind for kind in KINDS if artifact_type and kind.types and matches(artifact_type, kind.types)), None)


def _is_chart_by_layers(manifest: Manifest) -> bool:
    # `application/tar+gzip` is ambiguous, so it identifies a chart only if no type is declared.
    undeclared = manifest.artifact_type is None or manifest.artifact_type.startswith("application/vnd.unknown.")
    telling = (HELM_CHART, HELM_CHART_LEGACY) if undeclared else (HELM_CHART,)
    return any(matches(layer.media_type, telling) for layer in manifest.layers)


def _is_image(manifest: Manifest) -> bool:
    # A real image has file system layers without titles. Other files pushed with an image config have titles or other media types.
    return matches(manifest.effective_type, _IMAGE_CONFIGS) and all(
        layer.title is None and matches(layer.media_type, _IMAGE_LAYERS) for layer in manifest.layers
    )
