"""Build a layout that looks like MAR. Repository names and manifest structures are real; the content is invented.

The recipe, `fixtures/repositories.jsonl`, has one JSON object (a record) per line. There are two kinds of records:

- A `blob` record defines the content of a blob. It has a `text`, or the files of a reproducible archive (`targz` or `zip`).
- An `id` record defines a manifest. In the manifest, `@x` refers to the blob or manifest `x`. `like` lists more tags. For each of these,
  the manifest and its blobs are copied, and the first tag is replaced with the new tag in the text of the copies.
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
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can store


def recipe_file() -> Path:
    """Return the path of the recipe in the installed package or, if there is none, in the checkout."""
    installed = Path(__file__).with_name("repositories.jsonl")
    return installed if installed.is_file() else Path(__file__).parents[2] / "fixtures" / "repositories.jsonl"


def read_recipe(path: Path | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path or recipe_file()).read_text(encoding="utf-8").splitlines() if line.strip()]


def build(layout: Layout, host: Host, records: Iterable[dict[str, Any]] | None = None) -> dict[str, Descriptor]:
    """Add the manifests of a recipe, with their blobs and tags, to a layout.

    Args:
        host: the host in the names of the layout's index.
        records: the records of the recipe; None for the recipe of the demo.

    Returns:
        The descriptors of the manifests, by the id of the record.
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
                # The content does not contain the tag, so the copy would be identical: add an annotation to give it its own digest.
                copy["manifest"] = {**copy["manifest"], "annotations": {**copy["manifest"].get("annotations", {}), VERSION: tag}}
            _put(layout, host, copy, blobs, made, [tag])
    layout.names.flush()
    return made


def content(record: dict[str, Any]) -> bytes:
    if "text" in record:
        return str(record["text"]).encode()
    if "targz" in record:
        return tar_gz({name: text.encode() for name, text in record["targz"].items()})
    return zipped({name: text.encode() for name, text in record["zip"].items()})


def tar_gz(files: dict[str, bytes]) -> bytes:
    """Return a gzipped tar archive. Equal files give equal bytes."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    packed = io.BytesIO()
    # Do not compress: the output of zlib differs between its builds.
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0, mtime=0, filename="") as file:
        file.write(raw.getvalue())
    return packed.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip archive. Equal files give equal bytes."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            member = zipfile.ZipInfo(name, _EARLIEST)
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
    """Add a blob to a layout if it is missing."""
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
    """Replace one tag with another in the texts, archives and annotations of a record. A `_` in a tag matches a `+` in the text.

    Args:
        inside: whether `value` is part of a text, an archive or annotations. Other values are not changed.
    """
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
