"""The lock file, `marfetch.lock`: the digests of every artifact in the project file.

It is JSON with one value per line and entries sorted by name. Equal locks have equal bytes, and git can merge branches that changed
different entries. Each entry has a seal, the hash of its content. The seal reveals hand edits and bad merges before anything is fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn

from .. import __version__
from ..document import Json, parse_json
from ..errors import Error, IntegrityError, LockError, PolicyError
from ..files import storage_error
from ..oci import INDEX_TYPES, Descriptor, Digest, descriptor_json, parse_descriptors
from ..reference import Reference

# -- the entries, as values and as the sealed JSON


SCHEMA: Final = 1
IMAGES_SCHEMA: Final = 2
"""The schema of a lock with images. A lock without images keeps schema 1, which older versions of marfetch can read."""


@dataclass(frozen=True, slots=True)
class LockedLayer:
    """A layer of a locked artifact.

    Attributes:
        descriptor: the layer's digest, size and media type.
        file: the path that `sync` writes below the destination: a file, or a directory with `untar`. None if the layer is not fetched.
    """

    descriptor: Descriptor
    file: str | None = None


@dataclass(frozen=True, slots=True)
class LockedImage:
    """A container image that a locked chart names.

    Attributes:
        image: the image as the chart names it.
        reference: the pinned reference; None for an image that is not at the endpoint.
        manifest: the manifest or index that the reference names; None for an image that is not at the endpoint.
        manifests: the index's manifests for the platforms in the project file, in their order; empty if all content is wanted.
    """

    image: str
    reference: Reference | None = None
    manifest: Descriptor | None = None
    manifests: tuple[Descriptor, ...] = ()

    @property
    def follows_tag(self) -> bool:
        """Whether the tag decides what the chart uses. If the chart names a digest, a moved tag changes nothing."""
        return self.reference is not None and "@" not in self.image


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of the signature check when the entry was locked.

    Attributes:
        verdict: `verified` or `skipped`, as in `marfetch verify`.
        evidence: facts behind the verdict, such as the digest of the signature. The keys are those of `marfetch verify --json`.
    """

    verdict: str
    evidence: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One locked artifact.

    Attributes:
        name: the item's name in the project file.
        reference: the pinned reference, with host, tag and digest. It has no tag if the project file names a digest.
        manifest: the manifest or index that the reference names.
        version: the version of the tag; None if the tag is not a version.
        kind: the kind of the artifact, such as `chart`.
        artifact_type: the manifest's artifact type; the config's media type if the manifest has no artifact type.
        created: the creation time in the manifest's annotations, if any.
        artifact: the manifest that was chosen from an index; None if the reference does not name an index.
        config: the artifact's config.
        layers: all layers of the artifact, including layers that are not fetched.
        referrers: the referrers that the project file requests.
        options: the item's other keys in the project file (`destination`, `kind`, `platform`, …).
        verification: the result of the signature check; None if the item does not have `verify: true`.
        images: the images that the chart names and the project file requests, sorted.
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
    images: tuple[LockedImage, ...] = ()

    @property
    def tag(self) -> str | None:
        return self.reference.tag

    @property
    def digest(self) -> Digest:
        """The digest of the manifest or index that the reference names."""
        return self.manifest.digest

    @property
    def destination(self) -> str:
        """The directory relative to the project file, with `/` as separator."""
        return str(self.options.get("destination", "."))

    @property
    def size(self) -> int:
        """The total size in bytes of the layers that are fetched."""
        return sum(layer.descriptor.size for layer in self.layers if layer.file is not None)

    def blobs(self) -> tuple[Descriptor, ...]:
        """Return the config and the layers."""
        return (self.config, *(layer.descriptor for layer in self.layers))


@dataclass(frozen=True)
class Lock:
    """The content of a lock file.

    Attributes:
        entries: sorted by name.
        tool: the program that wrote the lock file, such as `marfetch 1.2.3`.
    """

    entries: tuple[Entry, ...] = ()
    tool: str = f"marfetch {__version__}"

    @cached_property
    def by_name(self) -> dict[str, Entry]:
        """The entries by name."""
        return {entry.name: entry for entry in self.entries}

    def get(self, name: str) -> Entry | None:
        return self.by_name.get(name)


def make_lock(entries: Iterable[Entry]) -> Lock:
    """Return a lock with these entries and this version of marfetch as its `tool`."""
    return Lock(tuple(sorted(entries, key=lambda entry: entry.name)))


def seal(entry: Entry) -> str:
    """Return the hash of an entry."""
    return sealed(entry_json(entry))


def sealed(document: Mapping[str, Any]) -> str:
    """Return the hash of an entry's JSON, which must not contain the seal."""
    return str(Digest.of(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()))


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON, without its seal."""
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
    if entry.images:
        document["images"] = [_image(one) for one in entry.images]
    if entry.options:
        document["options"] = {key: entry.options[key] for key in sorted(entry.options)}
    if entry.verification is not None:
        document["verification"] = {"verdict": entry.verification.verdict, "evidence": dict(entry.verification.evidence)}
    return document


def _image(one: LockedImage) -> dict[str, Any]:
    if one.reference is None or one.manifest is None:
        return {"image": one.image, "external": True}
    document = {"image": one.image, "reference": str(one.reference), "mediaType": one.manifest.media_type, "size": one.manifest.size}
    return document | ({"manifests": [_descriptor(child) for child in one.manifests]} if one.manifests else {})


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    document = descriptor_json(descriptor)
    document.pop("annotations", None)  # annotations are in the manifest, so the lock need not repeat them
    return document


__all__ = [
    "Entry",
    "Lock",
    "LockedImage",
    "LockedLayer",
    "Verification",
    "lock_bytes",
    "make_lock",
    "parse_lock",
    "read_bytes",
    "read_lock",
    "seal",
]

MAX_SIZE: Final = 128 << 20
"""The maximum size of a lock file in bytes."""
MAX_ENTRIES: Final = 100_000
_MAX_VALUES: Final = 30 * MAX_ENTRIES

_MARKERS: Final = re.compile(rb"^(?:<{7}|={7}|>{7}|\|{7})(?:[ \r].*)?$", re.MULTILINE)


def read_lock(path: Path) -> Lock:
    """Read a lock file.

    Raises:
        LockError: `lock-missing`; `lock-newer`.
        IntegrityError: `lock-malformed`, `lock-edited`. The error has the line.
        PolicyError: `limit-passed`.
        StorageError: the file cannot be read.
    """
    found = read_bytes(path)
    if found is None:
        raise LockError(f"there is no lock file `{path}`", code="lock-missing", path=str(path))
    return parse_lock(found, path)


def read_bytes(path: Path) -> bytes | None:
    """Return the bytes of a lock file, or None if the file does not exist.

    Raises:
        PolicyError: `limit-passed`.
        StorageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, path) from error
    if len(data) > MAX_SIZE:
        raise PolicyError(
            f"the lock file `{path}` has more than {MAX_SIZE} bytes", code="limit-passed", path=str(path), rule=f"at most {MAX_SIZE} bytes"
        )
    return data


def parse_lock(data: bytes, path: Path) -> Lock:
    """Parse the bytes of a lock file.

    Args:
        path: the path of the lock file, for error messages.

    Raises:
        Error: the same errors as `read_lock`, except `lock-missing`.
    """
    return _Reader(data, path).lock()


def lock_bytes(lock: Lock) -> bytes:
    """Return the content of the lock file. Equal locks give equal bytes."""
    entries = [{**entry_json(entry), "seal": seal(entry)} for entry in sorted(lock.entries, key=lambda entry: entry.name)]
    schema = IMAGES_SCHEMA if any(entry.images for entry in lock.entries) else SCHEMA
    document = {"schema": schema, "tool": lock.tool, "artifacts": entries}
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()


_ENTRY_KEYS: Final = {
    "name": str,
    "reference": str,
    "tag": (str, type(None)),
    "version": (str, type(None)),
    "digest": str,
    "mediaType": str,
    "size": int,
    "kind": str,
    "artifactType": str,
    "created": (str, type(None)),
    "artifact": dict,
    "config": dict,
    "layers": list,
    "referrers": list,
    "images": list,
    "options": dict,
    "verification": dict,
    "seal": str,
}
_OPTIONAL: Final = {"artifact", "referrers", "images", "options", "verification"}


class _Reader:
    def __init__(self, data: bytes, path: Path) -> None:
        self._data = data
        self._path = path

    def fail(self, reason: str, *, name: str | None = None, line: int | None = None, number: int = 1) -> NoReturn:
        line = line or (self._line(name, number) if name is not None else None)
        where = f", line {line}" if line else ""
        raise IntegrityError(
            f"the lock file `{self._path}`{where} is malformed: {reason}",
            code="lock-malformed",
            path=str(self._path),
            line=line,
            entry=name,
        )

    def _line(self, name: str, number: int) -> int | None:
        """Return the line with the entry's name. `number` selects the occurrence, counted from 1."""
        wanted = json.dumps(name)
        count = 0
        for line, text in enumerate(self._data.decode("utf-8", "replace").splitlines(), start=1):
            if '"name"' in text and wanted in text:
                count += 1
                if count == number:
                    return line
        return None

    def lock(self) -> Lock:
        marker = _MARKERS.search(self._data)
        if marker is not None:
            self.fail("it contains merge conflict markers", line=self._data.count(b"\n", 0, marker.start()) + 1)
        try:
            document = parse_json(self._data, f"the lock file `{self._path}`", most=_MAX_VALUES)
        except IntegrityError as error:
            raise IntegrityError(error.message, code="lock-malformed", path=str(self._path)) from error
        if not isinstance(document, dict):
            self.fail("it is not an object")
        schema = document.get("schema")
        tool = document.get("tool")
        if isinstance(schema, int) and not isinstance(schema, bool) and schema > IMAGES_SCHEMA:
            by = f" by `{tool[:60]}`" if isinstance(tool, str) else ""
            raise LockError(
                f"the lock file `{self._path}` was written in a newer format ({schema}){by}", code="lock-newer", path=str(self._path)
            )
        if schema not in (SCHEMA, IMAGES_SCHEMA) or isinstance(schema, (bool, float)):
            self.fail(f"`schema` is neither {SCHEMA} nor {IMAGES_SCHEMA}")
        if not isinstance(tool, str):
            self.fail("`tool` is missing")
        unknown = [key for key in document if key not in ("schema", "tool", "artifacts")]
        if unknown:
            self.fail(f"`{unknown[0][:80]}` is not a key of a lock")
        artifacts = document.get("artifacts")
        if not isinstance(artifacts, list):
            self.fail("`artifacts` is not a list")
        if len(artifacts) > MAX_ENTRIES:
            raise PolicyError(
                f"the lock file `{self._path}` has {len(artifacts)} entries, more than {MAX_ENTRIES}",
                code="limit-passed",
                path=str(self._path),
                rule=f"at most {MAX_ENTRIES} entries",
            )
        entries: dict[str, Entry] = {}
        for number, value in enumerate(artifacts, start=1):
            entry = self._entry(value, number)
            if entry.images and schema == SCHEMA:
                self.fail(f"`{entry.name}` has images, which need `schema` {IMAGES_SCHEMA}", name=entry.name)
            if entry.name in entries:
                self.fail(f"the entry `{entry.name}` appears twice", name=entry.name, number=2)
            entries[entry.name] = entry
        return Lock(tuple(sorted(entries.values(), key=lambda entry: entry.name)), tool)

    def _entry(self, value: Json, number: int) -> Entry:
        if not isinstance(value, dict):
            self.fail(f"entry {number} is not an object")
        name = value.get("name")
        if not isinstance(name, str) or not name:
            self.fail(f"entry {number} has no name")
        for key, found in value.items():
            if key not in _ENTRY_KEYS:
                self.fail(f"`{key[:80]}` is not a key of an entry", name=name)
            if not isinstance(found, _ENTRY_KEYS[key]) or isinstance(found, bool):  # type: ignore[arg-type]
                self.fail(f"`{key}` of `{name}` has the wrong type", name=name)
        missing = next((key for key in _ENTRY_KEYS if key not in value and key not in _OPTIONAL), None)
        if missing is not None:
            self.fail(f"`{missing}` of `{name}` is missing", name=name)
        entry = self._read(value, name)
        if value["seal"] != sealed({key: found for key, found in value.items() if key != "seal"}):
            line = self._line(name, 1)
            raise IntegrityError(
                f"the lock file `{self._path}`, line {line}: the entry `{name}` was changed by something other than marfetch",
                code="lock-edited",
                path=str(self._path),
                line=line,
                entry=name,
            )
        return entry

    def _read(self, value: dict[str, Any], name: str) -> Entry:
        what = f"the entry `{name}`"
        try:
            reference = Reference.parse(value["reference"])
            manifest = _one(value, what)
            artifact = _one(value["artifact"], what) if "artifact" in value else None
            config = _one(value["config"], what)
            layers = [dict(layer) if isinstance(layer, dict) else layer for layer in value["layers"]]
            files = [layer.pop("file", None) if isinstance(layer, dict) else None for layer in layers]
            found = parse_descriptors({"layers": layers}, what=what, name="layers")
            referrers = parse_descriptors({"referrers": value.get("referrers", [])}, what=what, name="referrers")
        except Error as error:
            self.fail(error.message, name=name)
        if str(reference) != value["reference"] or reference.host is None or reference.scheme is not None:
            self.fail(f"`reference` of `{name}` is not in canonical form with a host", name=name)
        if reference.digest != manifest.digest or reference.tag != value["tag"]:
            self.fail(f"`reference`, `tag` and `digest` of `{name}` disagree", name=name)
        if (artifact is not None) != (manifest.media_type.lower() in INDEX_TYPES):
            self.fail(f"`artifact` of `{name}` is required for an index and not allowed otherwise", name=name)
        if not all(file is None or isinstance(file, str) for file in files):
            self.fail(f"`file` of a layer of `{name}` is not a string", name=name)
        return Entry(
            name,
            reference,
            manifest,
            config,
            tuple(LockedLayer(layer, file) for layer, file in zip(found, files, strict=True)),
            value["kind"],
            value["artifactType"],
            value["version"],
            value["created"],
            artifact,
            referrers,
            value.get("options", {}),
            self._verification(value.get("verification"), name),
            tuple(self._image(one, name) for one in value.get("images", [])),
        )

    def _image(self, value: Any, name: str) -> LockedImage:
        found = value if isinstance(value, dict) else {}
        image, text = found.get("image"), found.get("reference")
        if not isinstance(image, str) or not image:
            self.fail(f"an image of `{name}` has no `image`", name=name)
        if set(found) == {"image", "external"} and found["external"] is True:
            return LockedImage(image)
        if not isinstance(text, str) or not {"mediaType", "size"} <= set(found) <= {"image", "reference", "mediaType", "size", "manifests"}:
            self.fail(f"the image `{image[:200]}` of `{name}` has missing or unknown keys", name=name)
        what = f"the image `{image[:200]}` of `{name}`"
        try:
            reference = Reference.parse(text)
            one = {"mediaType": found["mediaType"], "size": found["size"], "digest": str(reference.digest)}
            manifest = parse_descriptors({"one": [one]}, what=what, name="one")[0]
            manifests = parse_descriptors({"manifests": found.get("manifests", [])}, what=what, name="manifests")
        except Error as error:
            self.fail(error.message, name=name)
        if str(reference) != text or reference.host is None or reference.scheme is not None:
            self.fail(f"`reference` of {what} is not in canonical form with a host", name=name)
        return LockedImage(image, reference, manifest, manifests)

    def _verification(self, value: Any, name: str) -> Verification | None:
        if value is None:
            return None
        if set(value) != {"verdict", "evidence"} or not isinstance(value["verdict"], str) or not isinstance(value["evidence"], dict):
            self.fail(f"`verification` of `{name}` is malformed", name=name)
        return Verification(value["verdict"], value["evidence"])


def _one(value: Mapping[str, Any], what: str) -> Descriptor:
    kept = {key: value[key] for key in ("mediaType", "digest", "size", "artifactType", "platform") if key in value}
    kept.pop("artifactType" if "reference" in value else "", None)  # an entry's `artifactType` does not belong to its descriptor
    return parse_descriptors({"one": [kept]}, what=what, name="one")[0]
