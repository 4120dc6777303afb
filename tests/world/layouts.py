"""Build OCI image layouts, in folders and tars."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any, Final

from marfetch.layout.readonly import Folder
from marfetch.layout.repositories import Contents
from marfetch.oci import OCI_INDEX, OCI_MANIFEST, Digest

REF_NAME: Final = "org.opencontainers.image.ref.name"


class Maker:
    """Builds a layout in a folder, file by file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: list[dict[str, Any]] = []
        root.mkdir()
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.write()

    def write(self) -> None:
        (self.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.entries}))

    def path(self, digest: object) -> Path:
        algorithm, _, encoded = str(digest).partition(":")
        return self.root / "blobs" / algorithm / encoded

    def blob(self, data: bytes, media_type: str = "text/plain", algorithm: str = "sha256") -> dict[str, Any]:
        digest = Digest.of(data, algorithm)
        self.path(digest).parent.mkdir(parents=True, exist_ok=True)
        self.path(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": str(digest), "size": len(data)}

    def manifest(self, text: str, name: str | None = None, *, listed: bool = True, **more: Any) -> dict[str, Any]:
        """Add a manifest with one layer. The index refers to it by `name`."""
        algorithm = more.pop("algorithm", "sha256")
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(b"{}"),
            "layers": [self.blob(text.encode(), algorithm=algorithm)],
            **more,
        }
        entry = self.blob(json.dumps(document).encode(), OCI_MANIFEST, algorithm)
        if listed:
            self.entries.append(entry | ({"annotations": {REF_NAME: name}} if name else {}))
            self.write()
        return entry

    def index(self, children: list[dict[str, Any]], name: str) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
        entry = self.blob(json.dumps(document).encode(), OCI_INDEX)
        self.entries.append(entry | {"annotations": {REF_NAME: name}})
        self.write()
        return entry

    def contents(self, **options: Any) -> Contents:
        return Contents(Folder(self.root), **{"name": "here", **options})


def packed(folder: Path, to: Path, *, form: int = tarfile.PAX_FORMAT, prefix: str = "") -> Path:
    with tarfile.open(to, "w", format=form) as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, prefix + str(path.relative_to(folder)), recursive=False)
    return to
