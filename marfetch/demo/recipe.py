"""Builds a layout with the look of MAR out of `fixtures/repositories.jsonl`: real repository names and manifest shapes, invented content.

One JSON object a line. `blob` defines bytes: `text`, or an archive of `targz` or `zip` (path → text), built so that it is the same on
every machine. `id` defines a manifest; in it `@x` stands for the digest or size of the blob or manifest `x`. `like` names further tags:
copies of the record with the first tag's text replaced everywhere, in its blobs too.
"""

from __future__ import annotations

import copy as copying
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..layout.layout import Layout
from ..oci import VERSION, Descriptor, Digest, parse_manifest
from ..reference import Host, Reference

_CONTENT = ("annotations", "text", "targz", "zip")
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name


def recipe_file() -> Path:
    """The recipe: inside an installed package, or beside it in a checkout."""
    installed = Path(__file__).with_name("repositories.jsonl")
    return installed if installed.is_file() else Path(__file__).parents[2] / "fixtures" / "repositories.jsonl"


def read_recipe(path: Path | None = None) -> list[dict[str, Any]]:
    """The records of the recipe."""
    return [json.loads(line) for line in (path or recipe_file()).read_text(encoding="utf-8").splitlines() if line.strip()]


def build(layout: Layout, host: Host, records: Iterable[dict[str, Any]] | None = None) -> dict[str, Descriptor]:
    """Fill a layout.

    Args:
        host: stands in front of every repository in the layout's names.

    Returns:
        The id of each manifest record → what it became.
    """
    records = list(read_recipe() if records is None else records)
    sources = {record["blob"]: record for record in records if "blob" in record}
    made: dict[str, Descriptor] = {}
    for record in records:
        if "id" not in record:
            continue
        first = next(iter(record["tags"]), None)
        descriptor = _put(layout, host, record, sources, made, record["tags"])
        made[record["id"]] = descriptor
        for tag in record.get("like", ()):
            copy, blobs = _replaced(record, first, tag), _blobs_like(record, sources, first, tag)
            if copy["manifest"] == record["manifest"] and blobs == sources:
                # Nothing in it says which version it is; two versions are still two artifacts.
                copy["manifest"] = {**copy["manifest"], "annotations": {**copy["manifest"].get("annotations", {}), VERSION: tag}}
            _put(layout, host, copy, blobs, made, [tag])
    layout.names.flush()
    return made


def content(record: dict[str, Any]) -> bytes:
    """The bytes of a blob record."""
    if "text" in record:
        return str(record["text"]).encode()
    if "targz" in record:
        return tar_gz({name: text.encode() for name, text in record["targz"].items()})
    return zipped({name: text.encode() for name, text in record["zip"].items()})


def tar_gz(files: dict[str, bytes]) -> bytes:
    """A gzipped tar whose bytes depend on nothing but the files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    packed = io.BytesIO()
    # Stored, not compressed: compressors differ from one build of zlib to the next.
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0, mtime=0, filename="") as file:
        file.write(raw.getvalue())
    return packed.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip whose bytes depend on nothing but the files."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            member = zipfile.ZipInfo(name, _OLDEST)
            member.create_system = 3
            archive.writestr(member, data)
    return raw.getvalue()


def _put(
    layout: Layout, host: Host, record: dict[str, Any], sources: dict[str, Any], made: dict[str, Descriptor], tags: Iterable[str]
) -> Descriptor:
    manifest = copying.deepcopy(record["manifest"])
    for descriptor in _descriptors(manifest):
        name = str(descriptor["digest"]).removeprefix("@")
        if name in made:
            descriptor["digest"], descriptor["size"] = str(made[name].digest), made[name].size
            continue
        data = content(sources[name])
        blob = Descriptor(descriptor["mediaType"], Digest.of(data), len(data))
        put_blob(layout, blob, data)
        descriptor["digest"], descriptor["size"] = str(blob.digest), blob.size
    raw = json.dumps(manifest, ensure_ascii=False, **({"indent": 2} if record.get("pretty") else {"separators": (",", ":")})).encode()
    parsed = parse_manifest(raw, what=f"the recipe's `{record['id']}`", media_type=record.get("ct"))
    layout.add(parsed)
    reference = Reference(record["repo"], host)
    for tag in tags:
        layout.tag(Reference(reference.repository, host, tag), parsed.descriptor)
    layout.tag(reference, parsed.descriptor)
    return parsed.descriptor


def put_blob(layout: Layout, descriptor: Descriptor, data: bytes) -> None:
    """Put bytes into a layout, if they are not there."""
    if layout.has(descriptor):
        return
    with layout.ingest(descriptor) as ingest:
        if ingest is not None:
            ingest.restart()
            ingest.write(data)
            ingest.commit()


def _descriptors(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    single = [manifest[name] for name in ("config", "subject") if name in manifest]
    return single + list(manifest.get("layers", [])) + list(manifest.get("manifests", []))


def _replaced(value: Any, old: str | None, new: str, *, inside: bool = False) -> Any:
    """The value with one text in place of another in all its texts; inside content `_` of a tag is `+`, as in versions."""
    if old is None:
        return value
    if isinstance(value, str):
        return value.replace(old.replace("_", "+"), new.replace("_", "+")) if inside else value
    if isinstance(value, list):
        return [_replaced(item, old, new, inside=inside) for item in value]
    if isinstance(value, dict):
        return {
            _replaced(key, old, new, inside=inside): _replaced(item, old, new, inside=inside or key in _CONTENT)
            for key, item in value.items()
        }
    return value


def _blobs_like(record: dict[str, Any], sources: dict[str, Any], old: str | None, new: str) -> dict[str, Any]:
    names = {str(descriptor["digest"]).removeprefix("@") for descriptor in _descriptors(record["manifest"])}
    return {**sources, **{name: _replaced(sources[name], old, new) for name in names if name in sources}}
