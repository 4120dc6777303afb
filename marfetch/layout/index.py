"""Parse `oci-layout` and `index.json` strictly (image-spec, image layout, "oci-layout file" and "index.json file").

In the cache, `LayoutTags` replaces a damaged index with a new one. For other layouts, any damage is an error.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..document import Json, parse_json
from ..errors import Error, IntegrityError, PolicyError, StorageError
from ..files import INGEST, lock, storage_error, write_whole
from ..oci import MAX_LAYOUT_ENTRIES, OCI_INDEX, REF_NAME, Descriptor, descriptor_json, parse_descriptors
from ..records import open_regular
from .blobs import Entry

# -- `index.json`, which maps tags to manifests (image-spec, image layout, "index.json file")


_LOCK: Final = "index.lock"
_MAX_VALUES: Final = 10 * MAX_LAYOUT_ENTRIES
_EMPTY: Final = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, separators=(",", ":")).encode()


MAX_INDEX_SIZE: Final = 64 << 20
"""Maximum size of `index.json` in bytes, enough for about 200,000 entries."""


class LayoutTags:
    """The tags of a layout.

    Changes stay in memory until `flush` merges them with the changes of other processes. A lost change only costs a later request.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / "index.json"
        self._lock_path = root / _LOCK
        self._part = root / INGEST / "index.json"
        self._guard = threading.Lock()
        self._read: dict[str, Descriptor] | None = None
        self._unnamed: dict[str, Descriptor] = {}
        self._pending: dict[str, Descriptor] = {}
        self._pending_unnamed: dict[str, Descriptor] = {}
        self._damage: str | None = None
        self.changes = 0
        """A counter that increases whenever an entry changes or the index is read from disk again."""

    def create(self) -> None:
        """Create an empty index if there is none."""
        if not self._path.exists():
            with lock(self._lock_path):
                if not self._path.exists():
                    write_whole(self._path, _EMPTY, through=self._part)

    def get(self, name: str) -> Descriptor | None:
        """Return the descriptor of a name, or None."""
        with self._guard:
            return self._pending.get(name) or self._load().get(name)

    def all(self) -> Mapping[str, Descriptor]:
        """Return all names and their descriptors."""
        with self._guard:
            return {**self._load(), **self._pending}

    def roots(self) -> Iterable[Descriptor]:
        """Return all manifests of the index, with or without a name."""
        with self._guard:
            named = [*self._load().values(), *self._pending.values()]
            return [*named, *self._unnamed.values(), *self._pending_unnamed.values()]

    def entries(self) -> list[Entry]:
        """Return all entries of the index, with or without a name."""
        named: list[Entry] = list(self.all().items())
        with self._guard:
            return [*named, *((None, one) for one in (*self._unnamed.values(), *self._pending_unnamed.values()))]

    def put(self, name: str | None, descriptor: Descriptor) -> None:
        """Point a name to a manifest, or add an entry without a name. `flush` writes the change to disk."""
        with self._guard:
            entries = self._load()
            if name is None:
                digest = str(descriptor.digest)
                if digest not in self._unnamed and all(known.digest != descriptor.digest for known in entries.values()):
                    self._pending_unnamed[digest] = descriptor
                    self.changes += 1
            elif (self._pending.get(name) or entries.get(name)) != descriptor:
                self._pending[name] = descriptor
                self.changes += 1

    def flush(self) -> None:
        """Write all changes.

        Raises:
            StorageError: the index cannot be written.
        """
        with self._guard:
            if not self._pending and not self._pending_unnamed:
                return
            with lock(self._lock_path):
                self._read = None
                entries = {**self._load(), **self._pending}
                unnamed = {**self._unnamed, **self._pending_unnamed}
                self._write(entries, unnamed)
            self._read, self._unnamed = entries, unnamed
            self._pending, self._pending_unnamed = {}, {}

    def forget(self, useless: Callable[[Descriptor], bool]) -> None:
        """Remove every entry for which `useless` returns True, and write the index."""
        with self._guard, lock(self._lock_path):
            self._read = None
            entries = {**self._load(), **self._pending}
            unnamed = {**self._unnamed, **self._pending_unnamed}
            self._read = {name: descriptor for name, descriptor in entries.items() if not useless(descriptor)}
            self._unnamed = {digest: descriptor for digest, descriptor in unnamed.items() if not useless(descriptor)}
            self._pending, self._pending_unnamed = {}, {}
            self._write(self._read, self._unnamed)
            self.changes += 1

    def damage(self) -> str | None:
        """Describe the damage found when the index was read; None if there was none or it was already returned."""
        with self._guard:
            damage, self._damage = self._damage, None
            return damage

    def _write(self, entries: Mapping[str, Descriptor], unnamed: Mapping[str, Descriptor]) -> None:
        manifests: list[Json] = []
        for name, descriptor in sorted(entries.items()):
            kept = {key: text for key, text in descriptor.annotations.items() if key != REF_NAME}
            manifests.append(descriptor_json(replace(descriptor, annotations={**kept, REF_NAME: name})))
        manifests += [descriptor_json(descriptor) for _, descriptor in sorted(unnamed.items())]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        write_whole(self._path, json.dumps(index, separators=(",", ":"), ensure_ascii=True).encode(), through=self._part)

    def _load(self) -> dict[str, Descriptor]:
        if self._read is not None:
            return self._read
        self._read, self._unnamed = {}, {}
        self.changes += 1
        try:
            data = _bytes(self._path)
            if data is None:
                return self._read
            document = parse_json(data, f"the index `{self._path}`", most=_MAX_VALUES)
            for descriptor in parse_descriptors(document, what=f"the index `{self._path}`", name="manifests"):
                name = descriptor.annotations.get(REF_NAME)
                if name is None:
                    self._unnamed[str(descriptor.digest)] = descriptor
                else:
                    self._read[name] = descriptor
        except StorageError:
            raise
        except Error as error:
            # Only the tags are lost, and the registry still has them. Blobs are found by digest.
            self._read, self._unnamed = {}, {}
            self._damage = error.message
            with suppress(OSError):
                self._path.replace(self._path.with_suffix(".damaged"))
        return self._read


def _bytes(path: Path) -> bytes | None:
    """Return the content of a file of the layout; None if it is missing.

    Raises:
        StorageError: the file cannot be read.
        PolicyError: `limit-passed`.
    """
    try:
        with os.fdopen(open_regular(path, follow=True), "rb") as file:
            data = file.read(MAX_INDEX_SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, path) from error
    if len(data) > MAX_INDEX_SIZE:
        raise too_large(path.name, str(path.parent), MAX_INDEX_SIZE)
    return data


def unsupported_index_content(root: Path) -> str | None:
    """Describe the first content of `index.json` that marfetch would drop when rewriting it, or None.

    This check protects layouts that other tools wrote. The cache does not need it.

    Raises:
        StorageError: the index cannot be read.
    """
    path = root / "index.json"
    data = _bytes(path)
    if data is None:
        return None
    try:
        document = parse_json(data, "it", most=_MAX_VALUES)
        descriptors = parse_descriptors(document, what="it", name="manifests")
    except Error as error:
        return error.message
    assert isinstance(document, dict), "`parse_descriptors` accepts only an object"
    if set(document) - {"schemaVersion", "mediaType", "manifests"}:
        return f"it has `{min(set(document) - {'schemaVersion', 'mediaType', 'manifests'})[:80]}`"
    names: set[str] = set()
    listed = document["manifests"]
    assert isinstance(listed, list), "`parse_descriptors` accepts only a list"
    for value, descriptor in zip(listed, descriptors, strict=True):
        name = descriptor.annotations.get(REF_NAME)
        if name is not None and name in names:
            return f"it has two entries with the name `{name[:200]}`"
        names |= {name} if name is not None else set()
        if value != descriptor_json(descriptor):
            return f"its entry for `{descriptor.digest}` has unknown fields"
    return None


def check_version(root: Path) -> None:
    """Check the version of the layout in a directory. In a new directory, create `oci-layout`.

    Raises:
        StorageError: `cache-damaged`: the layout has an unsupported version, or the directory is not a layout.
    """
    marker = root / "oci-layout"
    data = _bytes(marker) or b""
    if not data.strip(b"\x00"):  # a new layout, or the file was lost in a power failure; blobs are found by digest
        with lock(root / _LOCK):
            write_whole(marker, b'{"imageLayoutVersion":"1.0.0"}', through=root / INGEST / marker.name)
        return
    try:
        document = parse_json(data, f"`{marker}`")
    except Error:
        document = None
    version, is_supported = _version(document)
    if not is_supported:
        raise StorageError(
            f"`{root}` is not an OCI image layout of version 1 (`imageLayoutVersion` is `{version}`)",
            code="cache-damaged",
            hint="use another directory with `--cache-dir`, or the version of marfetch that created this one",
            path=str(root),
        )


MAX_MARKER_SIZE: Final = 64 << 10
"""Maximum size of `oci-layout` in bytes."""


def _version(document: object) -> tuple[object, bool]:
    """Return the version in `oci-layout`, and whether marfetch can read such a layout."""
    version = document.get("imageLayoutVersion") if isinstance(document, dict) else None
    return version, isinstance(version, str) and version.startswith("1.")


def check_marker(data: bytes, where: str) -> None:
    """Check the layout version in the content of an `oci-layout` file.

    Raises:
        IntegrityError: `malformed`.
    """
    document = parse_json(data, f"`oci-layout` of `{where}`")
    version, is_supported = _version(document)
    if not is_supported:
        raise IntegrityError(
            f"`{where}` is not an OCI image layout of version 1: `imageLayoutVersion` is `{version}`",
            code="malformed",
            hint="use a version of marfetch that supports this layout",
            path=where,
        )


def parse_index(data: bytes, where: str) -> list[Entry]:
    """Parse the content of an `index.json` file.

    Raises:
        IntegrityError: `malformed`.
        PolicyError: `limit-passed`.
    """
    what = f"the index `index.json` of `{where}`"
    document = parse_json(data, what, most=3 * MAX_LAYOUT_ENTRIES)
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise IntegrityError(f"{what} is malformed: it is not an object with `schemaVersion` 2", code="malformed", path=where)
    if document.get("mediaType", OCI_INDEX) != OCI_INDEX:
        raise IntegrityError(f"{what} is malformed: its `mediaType` is not `{OCI_INDEX}`", code="malformed", path=where)
    return [(entry.annotations.get(REF_NAME), entry) for entry in parse_descriptors(document, what=what, name="manifests")]


def missing_index(where: str) -> Error:
    """Return the error for a layout without an index."""
    return IntegrityError(f"the layout `{where}` is malformed: `index.json` is missing", code="malformed", path=where)


def too_large(name: str, where: str, most: int) -> Error:
    """Return the error for a file over its size limit."""
    return PolicyError(f"`{name}` of `{where}` has more than {most} bytes", code="limit-passed", path=where, rule=f"at most {most} bytes")
