"""What a lock says: its entries as values, and as the JSON that is sealed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from .. import __version__
from ..document import Json
from ..oci import Descriptor, Digest, descriptor_json
from ..reference import Reference

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class LockedLayer:
    """One layer.

    Attributes:
        file: the name that `sync` gives it below the destination of the entry (with `untar`, of the directory); None: it is not fetched.
    """

    descriptor: Descriptor
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of signatures found when the entry was locked.

    Attributes:
        verdict: `verified` or `skipped`, as `marfetch verify` says it.
        evidence: what the verdict rests on, such as the digests of signatures; in the words of `marfetch verify --json`.
    """

    verdict: str
    evidence: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One artifact that was found.

    Attributes:
        name: that of the item in the wanted file.
        reference: pinned: with host, with the tag that it was found by (None where a digest was asked for), and with the digest.
        manifest: what the reference names, a manifest or an index; its size is in bytes.
        version: what the tag means; None where it is no version.
        kind: of the artifact.
        artifact_type: of the artifact.
        created: as its manifest says it; None where it says nothing.
        artifact: where the reference names an index: the manifest in it that was chosen; None: the manifest itself is the artifact.
        config, layers: those of the artifact; every layer, also those that are not fetched.
        referrers: what refers to it and was asked for.
        options: what else the wanted file asks for (`destination`, `kind`, `platform`, …), in its words.
        verification: where `verify` was asked for.
    """

    name: str
    reference: Reference
    manifest: Descriptor
    config: Descriptor
    layers: tuple[LockedLayer, ...]
    kind: str
    artifact_type: str
    version: str | None = None
    created: str | None = None
    artifact: Descriptor | None = None
    referrers: tuple[Descriptor, ...] = ()
    options: Mapping[str, Json] = field(default_factory=dict)
    verification: Verification | None = None

    @property
    def tag(self) -> str | None:
        return self.reference.tag

    @property
    def digest(self) -> Digest:
        """Of the manifest or index that the reference names."""
        return self.manifest.digest

    @property
    def destination(self) -> str:
        """Below the directory of the wanted file, with `/`."""
        return str(self.options.get("destination", "."))

    @property
    def size(self) -> int:
        """Bytes of the layers that are fetched."""
        return sum(layer.descriptor.size for layer in self.layers if layer.file is not None)

    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers: everything beside manifests that the artifact consists of."""
        return (self.config, *(layer.descriptor for layer in self.layers))


@dataclass(frozen=True)
class Lock:
    """A lock.

    Attributes:
        entries: in the order of their names.
        tool: what wrote it, such as `marfetch 1.2.3`.
    """

    entries: tuple[Entry, ...] = ()
    tool: str = f"marfetch {__version__}"

    @cached_property
    def by_name(self) -> dict[str, Entry]:
        """Name → entry."""
        return {entry.name: entry for entry in self.entries}

    def get(self, name: str) -> Entry | None:
        return self.by_name.get(name)


def make_lock(entries: Iterable[Entry]) -> Lock:
    """A lock of these entries, written by this version."""
    return Lock(tuple(sorted(entries, key=lambda entry: entry.name)))


def seal(entry: Entry) -> str:
    """The hash of everything in an entry."""
    return sealed(entry_json(entry))


def sealed(document: Mapping[str, Any]) -> str:
    """The hash of the JSON of an entry."""
    return str(Digest.of(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()))


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry as JSON, without its seal."""
    document: dict[str, Any] = {
        "name": entry.name,
        "reference": str(entry.reference),
        "tag": entry.tag,
        "version": entry.version,
        "digest": str(entry.digest),
        "mediaType": entry.manifest.media_type,
        "size": entry.manifest.size,
        "kind": entry.kind,
        "artifactType": entry.artifact_type,
        "created": entry.created,
    }
    if entry.artifact is not None:
        document["artifact"] = _descriptor(entry.artifact)
    document["config"] = _descriptor(entry.config)
    document["layers"] = [
        _descriptor(layer.descriptor) | ({"file": layer.file} if layer.file is not None else {}) for layer in entry.layers
    ]
    if entry.referrers:
        document["referrers"] = [_descriptor(one) for one in entry.referrers]
    if entry.options:
        document["options"] = {key: entry.options[key] for key in sorted(entry.options)}
    if entry.verification is not None:
        document["verification"] = {"verdict": entry.verification.verdict, "evidence": dict(entry.verification.evidence)}
    return document


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    document = descriptor_json(descriptor)
    document.pop("annotations", None)  # the manifest holds them
    return document
