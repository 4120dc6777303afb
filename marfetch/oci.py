"""The types of the OCI image specification: digests, descriptors, manifests and indexes, parsed from bytes to frozen values.

A manifest keeps its original bytes and is never re-encoded, since its digest covers exactly these bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, TypeAlias

from .document import Json, parse_json
from .errors import InputError, IntegrityError, PolicyError

if TYPE_CHECKING:
    from hashlib import _Hash


OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_LIST})

EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
"""Media type of the content `{}`, the placeholder for an unused config or layer."""

WITHDRAWN_TYPES: Final = {
    "application/vnd.oci.artifact.manifest.v1+json": "an artifact manifest of OCI 1.1-rc",
    "application/vnd.cncf.oras.artifact.manifest.v1+json": "an artifact manifest of ORAS",
    "application/vnd.docker.distribution.manifest.v1+json": "a Docker schema 1 manifest",
    "application/vnd.docker.distribution.manifest.v1+prettyjws": "a signed Docker schema 1 manifest",
}
"""Media types of formats that their specifications withdrew, and the names of the formats."""
READ_FORMATS: Final = "only image manifests and indexes of OCI, and schema 2 of Docker"

TITLE: Final = "org.opencontainers.image.title"
VERSION: Final = "org.opencontainers.image.version"
CREATED: Final = "org.opencontainers.image.created"

MAX_MANIFEST_SIZE: Final = 4 * 1024 * 1024
"""Maximum size of a manifest or index in bytes (distribution-spec: registries should accept 4 MiB, clients may refuse more)."""

MAX_LAYERS: Final = 1000
MAX_CHILDREN: Final = 1000
MAX_VALUES: Final = 100_000
"""Maximum number of JSON values in one manifest, including annotations."""
MAX_LAYOUT_ENTRIES: Final = 1_000_000
MAX_BLOB_SIZE: Final = 1 << 40
"""Maximum size of a blob in bytes (1 TiB)."""

_HEX_LENGTHS: Final = {"sha256": 64, "sha512": 128}
_MEDIA_TYPE = re.compile(r"[\x21-\x2e\x30-\x7e]{1,127}/[\x21-\x7e]{1,127}")

Annotations: TypeAlias = Mapping[str, str]


class Digest(NamedTuple):
    """A content identifier (image-spec, descriptor, "Digests").

    Attributes:
        algorithm: `sha256` or `sha512`.
        encoded: 64 or 128 lower-case hex digits.
    """

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse `algorithm:hex`.

        Raises:
            InputError: `digest-invalid`.
        """
        algorithm, colon, encoded = text.partition(":")
        length = _HEX_LENGTHS.get(algorithm)
        if not colon or length is None:
            raise InputError(
                f"`{text[:80]}` is not a digest: it must start with `sha256:` or `sha512:`", code="digest-invalid", text=text[:200]
            )
        if len(encoded) != length or encoded.strip("0123456789abcdef"):
            raise InputError(
                f"`{text[:160]}` is not a digest: {algorithm} has {length} lower-case hex digits", code="digest-invalid", text=text[:200]
            )
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Compute the digest of bytes."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> _Hash:
        """Return a new hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


class Platform(NamedTuple):
    """The platform of a manifest in an index (image-spec, image index, `platform`)."""

    os: str
    architecture: str
    variant: str | None = None

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse `os/architecture[/variant]`.

        Raises:
            InputError: `platform-invalid`.
        """
        parts = text.lower().split("/")
        if len(parts) not in (2, 3) or not all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts):
            raise InputError(
                f"`{text[:80]}` is not a platform: write `os/architecture`, such as `linux/amd64`",
                code="platform-invalid",
                text=text[:200],
            )
        return cls(parts[0], parts[1], parts[2] if len(parts) == 3 else None)

    def matches(self, wanted: Platform) -> bool:
        """Return whether this is the wanted platform; the variant counts only if one is wanted."""
        return (self.os, self.architecture) == (wanted.os, wanted.architecture) and wanted.variant in (None, self.variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Identifies content by media type, digest and size (image-spec, descriptor).

    Attributes:
        media_type: as written; compare it case-insensitively.
        size: in bytes, ≥ 0.
        artifact_type: the artifact type of the described manifest, if the index has it.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Annotations = field(default_factory=dict, compare=False)
    artifact_type: str | None = None
    platform: Platform | None = None

    @property
    def title(self) -> str | None:
        """The publisher's name for the content; not trusted as a file name."""
        return self.annotations.get(TITLE)

    @property
    def is_attestation(self) -> bool:
        """Whether this entry of an index holds attestations, not content for a platform: BuildKit gives it the platform `unknown`."""
        return self.platform is not None and self.platform.os == "unknown"


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: a config and layers (image-spec, image manifest).

    Attributes:
        raw: the original bytes.
        descriptor: the manifest's own descriptor.
        artifact_type: as declared; None if the manifest declares none (see `effective_type`).
        subject: the manifest that this referrer refers to.
    """

    raw: bytes = field(repr=False)
    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Annotations = field(default_factory=dict, compare=False)
    artifact_type: str | None = None
    subject: Descriptor | None = None

    @property
    def effective_type(self) -> str:
        """The artifact type, or the config's media type if none is declared (image-spec, "Guidelines for Artifact Usage")."""
        return self.artifact_type or self.config.media_type


@dataclass(frozen=True, slots=True)
class Index:
    """An image index: a list of manifests (image-spec, image index).

    Attributes:
        raw: the original bytes.
        descriptor: the index's own descriptor.
    """

    raw: bytes = field(repr=False)
    descriptor: Descriptor
    manifests: tuple[Descriptor, ...]
    annotations: Annotations = field(default_factory=dict, compare=False)
    artifact_type: str | None = None
    subject: Descriptor | None = None


def parse_manifest(
    raw: bytes, *, what: str, media_type: str | None = None, digest: Digest | None = None, skipped: list[str] | None = None
) -> Manifest | Index:
    """Parse a manifest or an index.

    Args:
        raw: the bytes.
        what: name of the document for messages.
        media_type: from the `Content-Type` or the descriptor; None if it is not one of the four manifest and index types.
        digest: the digest of the bytes, if already computed.
        skipped: a list that receives the reason for each skipped entry of an index; None: an invalid entry makes the index malformed.

    Raises:
        IntegrityError: `malformed`, naming the field. distribution-spec, "Pulling manifests": a client should refuse a body whose
            `mediaType` differs from the `Content-Type`.
        PolicyError: `limit-passed`; `manifest-withdrawn`.
    """
    reader = _Reader(what)
    reader.limit("bytes", len(raw), MAX_MANIFEST_SIZE)
    document = reader.mapping(parse_json(raw, what, most=MAX_VALUES), "the document")
    refuse_withdrawn(document.get("mediaType") or media_type, what)
    if document.get("schemaVersion") == 1 and "fsLayers" in document:  # a schema 1 manifest has no `mediaType`
        refuse_withdrawn("application/vnd.docker.distribution.manifest.v1+json", what)
    version = document.get("schemaVersion")
    if version != 2 or isinstance(version, bool):
        reader.fail(f"`schemaVersion` is {_shown(version)}, not 2")
    declared = reader.media_type(document, "mediaType", None)
    if media_type is not None and declared is not None and declared.lower() != media_type.lower():
        reader.fail(f"`mediaType` is `{declared}`, but its `Content-Type` or descriptor has `{media_type}`")
    # Programs in Go write `null` for an empty list, so a field that is null counts as absent here.
    has_manifests, has_layers = (document.get(name) is not None for name in ("manifests", "layers"))
    if has_manifests and has_layers:
        reader.fail("it has both `layers` and `manifests`")
    is_index = has_manifests or ("manifests" in document and "layers" not in document)
    resolved = declared or media_type or (OCI_INDEX if is_index else OCI_MANIFEST)
    if resolved.lower() not in MANIFEST_TYPES | INDEX_TYPES:
        reader.fail(f"`mediaType` is `{resolved}`, which is neither a manifest nor an index")
    descriptor = Descriptor(resolved, digest or Digest.of(raw), len(raw))
    artifact_type = reader.media_type(document, "artifactType", None)
    annotations = reader.annotations(document, "annotations")
    subject = reader.descriptor(document["subject"], "subject") if document.get("subject") is not None else None
    if resolved.lower() in INDEX_TYPES:
        if has_layers:
            reader.fail("`manifests` is missing, and an index has no `layers`")
        children = reader.descriptors(document, "manifests", MAX_CHILDREN, skipped)
        return Index(raw, descriptor, children, annotations, artifact_type, subject)
    if has_manifests:
        reader.fail("`layers` is missing, and an image manifest has no `manifests`")
    if "config" not in document:
        reader.fail("`config` is missing")
    config = EMPTY_CONFIG if document["config"] is None else reader.descriptor(document["config"], "config")
    layers = reader.descriptors(document, "layers", MAX_LAYERS)
    return Manifest(raw, descriptor, config, layers, annotations, artifact_type, subject)


def refuse_withdrawn(media_type: Json, what: str) -> None:
    """Refuse a manifest in a withdrawn format.

    Args:
        media_type: the media type from the `Content-Type`, the descriptor or the manifest itself.
        what: name of the document for messages.

    Raises:
        PolicyError: `manifest-withdrawn`.
    """
    name = WITHDRAWN_TYPES.get(media_type.lower()) if isinstance(media_type, str) else None
    if name is not None:
        raise PolicyError(
            f"{what} is {name} (`{media_type}`), a withdrawn format that marfetch does not read",
            code="manifest-withdrawn",
            what=what,
            rule=READ_FORMATS,
        )


def parse_descriptors(value: Json, *, what: str, name: str) -> tuple[Descriptor, ...]:
    """Parse the array of descriptors in the field `name` of an object, as in the `index.json` of a layout.

    Raises:
        IntegrityError: `malformed`, naming the field.
        PolicyError: `limit-passed`.
    """
    reader = _Reader(what)
    return reader.descriptors(reader.mapping(value, "the document"), name, MAX_LAYOUT_ENTRIES)


def descriptor_json(descriptor: Descriptor) -> dict[str, Json]:
    """Convert a descriptor to the JSON object of the specification."""
    document: dict[str, Json] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    if descriptor.artifact_type:
        document["artifactType"] = descriptor.artifact_type
    if descriptor.platform:
        platform: dict[str, Json] = {"architecture": descriptor.platform.architecture, "os": descriptor.platform.os}
        if descriptor.platform.variant:
            platform["variant"] = descriptor.platform.variant
        document["platform"] = platform
    return document


def _shown(value: Json) -> str:
    """Format an untrusted value for a message."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


class _Reader:
    """Reads fields of one document. Every error names the document and the field."""

    def __init__(self, what: str) -> None:
        self.what = what

    def fail(self, reason: str) -> NoReturn:
        raise IntegrityError(f"{self.what} is malformed: {reason}", code="malformed", what=self.what)

    def limit(self, unit: str, count: int, most: int) -> None:
        if count > most:
            raise PolicyError(
                f"{self.what} has {count} {unit}, more than {most}", code="limit-passed", what=self.what, rule=f"at most {most} {unit}"
            )

    def mapping(self, value: Json, name: str) -> dict[str, Json]:
        if not isinstance(value, dict):
            self.fail(f"{name} is {_shown(value)}, not an object")
        return value

    def text(self, document: dict[str, Json], name: str) -> str:
        value = document.get(name)
        if not isinstance(value, str):
            self.fail(f"`{name}` is {_shown(value)}, not a string")
        return value

    def media_type(self, document: dict[str, Json], name: str, default: str | None) -> str | None:
        value = document.get(name)
        if value is None or value == "":
            return default
        if not isinstance(value, str) or not _MEDIA_TYPE.fullmatch(value):
            self.fail(f"`{name}` is {_shown(value)}, not a media type")
        return value

    def annotations(self, document: dict[str, Json], name: str) -> Annotations:
        value = document.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fail(f"`{name}` is {_shown(value)}, not an object")
        result: dict[str, str] = {}
        for key, text in value.items():
            if not isinstance(text, str):
                self.fail(f"the annotation `{key[:100]}` is {_shown(text)}, not a string")
            result[key] = text
        return MappingProxyType(result)

    def descriptors(self, document: dict[str, Json], name: str, most: int, skipped: list[str] | None = None) -> tuple[Descriptor, ...]:
        value = document.get(name)
        if value is None and name in document:
            return ()
        if not isinstance(value, list):
            self.fail(f"`{name}` is {_shown(value)}, not an array")
        self.limit(f"entries in `{name}`", len(value), most)
        found: list[Descriptor] = []
        for number, entry in enumerate(value):
            try:
                found.append(self.descriptor(entry, f"{name}[{number}]"))
            except IntegrityError as error:
                if skipped is None:
                    raise
                skipped.append(error.message)
        return tuple(found)

    def descriptor(self, value: Json, name: str) -> Descriptor:
        if not isinstance(value, dict):
            self.fail(f"`{name}` is {_shown(value)}, not a descriptor")
        media_type = self.media_type(value, "mediaType", None)
        if media_type is None:
            self.fail(f"`{name}` has no `mediaType`")
        size = value.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            self.fail(f"`{name}.size` is {_shown(size)}, not a number of bytes")
        digest = value.get("digest")
        if not isinstance(digest, str):
            self.fail(f"`{name}.digest` is {_shown(digest)}, not a digest")
        try:
            parsed = Digest.parse(digest)
        except InputError as error:
            self.fail(f"`{name}.digest`: {error.message}")
        return Descriptor(
            media_type,
            parsed,
            size,
            self.annotations(value, "annotations"),
            self.media_type(value, "artifactType", None),
            self.platform(value.get("platform"), name),
        )

    def platform(self, value: Json, name: str) -> Platform | None:
        if value is None:
            return None
        document = self.mapping(value, f"`{name}.platform`")
        variant = document.get("variant")
        return Platform(
            self.text(document, "os").lower(),
            self.text(document, "architecture").lower(),
            variant if isinstance(variant, str) and variant else None,
        )


EMPTY_CONFIG: Final = Descriptor(EMPTY_TYPE, Digest.of(b"{}"), 2)
"""The config of a manifest that needs none (image-spec, "Guidance for an Empty Descriptor")."""

REF_NAME: Final = "org.opencontainers.image.ref.name"
