"""`recording.json`: the answers of a registry in a recording (`marfetch record`). The same archive has the content.

    oci-layout, index.json     the OCI image layout, as in a bundle; each tag and each manifest has a name
    recording.json             the answers: tag lists, the meaning of tags, sizes, referrers and what was not found
    blobs/sha256/…             the manifests and blobs that were requested, in the order of their digests

Nothing in it depends on the time, the order of the requests, or the client. Equal answers give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ..document import parse_json
from ..endpoint import OFFICIAL, Endpoint
from ..errors import Error, IntegrityError
from ..layout.blobs import Entry
from ..oci import MAX_BLOB_SIZE, Descriptor, Digest, descriptor_json, parse_descriptors
from ..reference import Host, Reference, is_repository, is_tag

SCHEMA: Final = 1
RECORDING_FILE: Final = "recording.json"
_MAX_VALUES: Final = 5_000_000
"""Maximum number of values in the document. A recorded catalog and its tag lists can be long."""

Absence: TypeAlias = Literal["NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"]
"""Error codes for a repository, manifest or blob that was not found (distribution-spec, "Error Codes")."""
_ABSENCES: Final = ("NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN")


@dataclass(slots=True)
class RecordedRepository:
    """The answers about one repository.

    Attributes:
        listed: the tags of the tag list, sorted by `lexical`; None if it was not requested.
        tags: tag → digest of its manifest, for the tags that were requested.
        manifests: digest → descriptor of the manifests that are in the archive.
        blobs: digest → size of the blobs that are in the archive.
        sizes: digest → size of the blobs that were requested by HEAD only; the archive does not have them.
        referrers: digest of the subject → its referrers.
        absent: path below the repository, such as `manifests/1.0.0` → the error code.
    """

    listed: tuple[str, ...] | None = None
    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: dict[Digest, int] = field(default_factory=dict)
    sizes: dict[Digest, int] = field(default_factory=dict)
    referrers: dict[Digest, tuple[Descriptor, ...]] = field(default_factory=dict)
    absent: dict[str, Absence] = field(default_factory=dict)


@dataclass(slots=True)
class Recording:
    """The answers of one endpoint.

    Attributes:
        catalog: the names of all repositories, sorted; None if they were not requested.
        repositories: name → answers.
    """

    endpoint: Endpoint
    catalog: tuple[str, ...] | None = None
    repositories: dict[str, RecordedRepository] = field(default_factory=dict)

    def repository(self, name: str) -> RecordedRepository:
        """Return the answers about a repository; the first call adds it."""
        return self.repositories.setdefault(name, RecordedRepository())

    @property
    def content(self) -> dict[Digest, Descriptor]:
        """The manifests and blobs in the archive, by digest."""
        found = {
            digest: Descriptor("application/octet-stream", digest, size)
            for one in self.repositories.values()
            for digest, size in one.blobs.items()
        }
        return found | self.manifests

    @property
    def manifests(self) -> dict[Digest, Descriptor]:
        """The manifests in the archive, by digest."""
        return {digest: found for one in self.repositories.values() for digest, found in one.manifests.items()}

    def entries(self) -> list[Entry]:
        """Return the index entries: one per tag, and one per manifest that no tag names."""
        host = Host.parse(self.endpoint.registry.name)
        found: list[Entry] = []
        for name, one in self.repositories.items():
            found += [(str(Reference(name, host, tag)), one.manifests[digest]) for tag, digest in one.tags.items()]
            tagged = set(one.tags.values())
            found += [(str(Reference(name, host, None, digest)), each) for digest, each in one.manifests.items() if digest not in tagged]
        return found


def recording_bytes(recording: Recording) -> bytes:
    """Encode a recording as the content of `recording.json`, with its seal."""
    endpoint = recording.endpoint
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "endpoint": {"registry": endpoint.registry.origin, "dataHosts": [str(host) for host in endpoint.data_hosts]},
        "catalog": list(recording.catalog) if recording.catalog is not None else None,
        "repositories": {name: _repository_json(recording.repositories[name]) for name in sorted(recording.repositories)},
    }
    document["seal"] = str(Digest.of(_encoded(document)))
    return _encoded(document) + b"\n"


def _repository_json(one: RecordedRepository) -> dict[str, Any]:
    return {
        "tagList": list(one.listed) if one.listed is not None else None,
        "tags": {tag: str(one.tags[tag]) for tag in sorted(one.tags)},
        "manifests": [descriptor_json(one.manifests[digest]) for digest in sorted(one.manifests, key=str)],
        "blobs": _sorted(one.blobs),
        "sizes": _sorted({digest: size for digest, size in one.sizes.items() if digest not in one.blobs}),
        "referrers": {
            str(subject): [descriptor_json(each) for each in found]
            for subject, found in sorted(one.referrers.items(), key=lambda item: str(item[0]))
        },
        "notFound": dict(sorted(one.absent.items())),
    }


def _sorted(sizes: Mapping[Digest, int]) -> dict[str, int]:
    return {str(digest): sizes[digest] for digest in sorted(sizes, key=str)}


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=True).encode()


def parse_recording(data: bytes, where: str) -> Recording:
    """Parse the content of `recording.json`. It must have the same bytes as `recording_bytes` would write.

    Args:
        where: the path of the archive, for error messages.

    Raises:
        IntegrityError: `malformed`; `bundle-broken`: the document was edited.
    """
    what = f"`{RECORDING_FILE}` of `{where}`"
    document: Any = parse_json(data, what, most=_MAX_VALUES)
    try:
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"`schema` is not {SCHEMA}")
        endpoint = Endpoint.parse(_official(document["endpoint"]["registry"]) or document["endpoint"]["registry"], _data_hosts(document))
        if endpoint.registry.scheme != "https":
            raise ValueError(f"the endpoint `{endpoint.registry.origin}` does not use https")
        catalog = document["catalog"]
        recording = Recording(endpoint, None if catalog is None else _texts(catalog, is_repository, "a repository"))
        for name, value in document["repositories"].items():
            _texts([name], is_repository, "a repository")
            recording.repositories[name] = _repository(value, what)
    except (KeyError, TypeError, ValueError, AttributeError, Error) as error:
        reason = error.message if isinstance(error, Error) else str(error) or type(error).__name__
        raise IntegrityError(f"{what} is malformed: {reason}", code="malformed", path=where) from error
    if recording_bytes(recording) != data:
        raise IntegrityError(f"{what} was changed by something other than marfetch", code="bundle-broken", path=where)
    return recording


def _official(origin: str) -> str | None:
    return next((one.name for one in OFFICIAL.values() if one.registry.origin == origin), None)


def _data_hosts(document: Any) -> tuple[str, ...]:
    """Return the data hosts of a registry that is not official. Those of the official endpoints are fixed."""
    return () if _official(document["endpoint"]["registry"]) else tuple(document["endpoint"]["dataHosts"])


def _texts(value: Any, fits: Callable[[str], bool], noun: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("a list is expected")
    for one in value:
        if not isinstance(one, str) or not fits(one):
            raise ValueError(f"`{str(one)[:100]}` is not {noun}")
    return tuple(value)


def _sizes(value: Mapping[str, Any]) -> dict[Digest, int]:
    for size in value.values():
        if type(size) is not int or not 0 <= size <= MAX_BLOB_SIZE:
            raise ValueError(f"`{str(size)[:40]}` is not a size")
    return {Digest.parse(digest): size for digest, size in value.items()}


def _repository(value: Mapping[str, Any], what: str) -> RecordedRepository:
    listed = value["tagList"]
    manifests = _by_digest(parse_descriptors({"manifests": value["manifests"]}, what=what, name="manifests"))
    tags = {tag: Digest.parse(digest) for tag, digest in value["tags"].items()}
    _texts(list(tags), is_tag, "a tag")
    if lost := set(tags.values()) - manifests.keys():
        raise ValueError(f"`tags` names the manifest `{min(map(str, lost))}`, which is not in `manifests`")
    if unknown := set(value["notFound"].values()) - set(_ABSENCES):
        raise ValueError(f"`{min(map(str, unknown))[:40]}` is not an error code of a 404")
    return RecordedRepository(
        None if listed is None else _texts(listed, is_tag, "a tag"),
        tags,
        manifests,
        _sizes(value["blobs"]),
        _sizes(value["sizes"]),
        {
            Digest.parse(subject): parse_descriptors({"referrers": found}, what=what, name="referrers")
            for subject, found in value["referrers"].items()
        },
        dict(value["notFound"]),
    )


def _by_digest(found: Iterable[Descriptor]) -> dict[Digest, Descriptor]:
    return {one.digest: one for one in found}
