"""An artifact in the test registry, with functions to sign it."""

from __future__ import annotations

import json
from typing import Any, Final

from marfetch.artifact.kinds import END_OF_LIFE, LIFECYCLE
from marfetch.oci import Descriptor, Digest, descriptor_json

from .registry import Registry
from .signing import Authority, cose, payload

AT: Final = "2026-11-23T20:00:00Z"
"""A time at which all test certificates and signatures are valid."""
REPOSITORY: Final = "signed/thing"
SIGNATURE: Final = "application/vnd.cncf.notary.signature"


class Signed:
    """An artifact in the test registry. Its methods push signatures and lifecycle marks."""

    def __init__(self, mar: Registry, authority: Authority) -> None:
        self.mar = mar
        self.authority = authority
        self.artifact = mar.add_artifact(REPOSITORY, "1.0.0", ("thing.txt", b"a thing"))
        self.number = 0

    @property
    def reference(self) -> str:
        return f"{self.mar.host}/{REPOSITORY}:1.0.0"

    def good(self, **options: Any) -> bytes:
        return cose(self.authority.signer(**options), payload(self.artifact))

    def sign(self, envelope: bytes | None = None, *, media_type: str = "application/cose", old: bool = False, **changes: Any) -> Descriptor:
        """Push a signature. `changes` are fields of its manifest."""
        data = self.good() if envelope is None else envelope
        layer = {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}
        self.mar.add_blob(data)
        self.mar.add_blob(b"{}")
        config = SIGNATURE if old else "application/vnd.oci.empty.v1+json"
        self.number += 1
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": None if old else SIGNATURE,
            "config": {"mediaType": config, "digest": str(Digest.of(b"{}")), "size": 2},
            "layers": [layer],
            "subject": descriptor_json(self.artifact),
            "annotations": {"number": str(self.number)},
            **changes,
        }
        raw = json.dumps({key: value for key, value in document.items() if value is not None}).encode()
        return self.mar.add_manifest(REPOSITORY, f"signature-{self.number}", raw)

    def mark(self, ends: str, *, created: str = "2026-01-01T00:00:00Z", subject: Descriptor | None = None) -> Descriptor:
        """Push a lifecycle mark."""
        notes = {END_OF_LIFE: ends, "org.opencontainers.image.created": created}
        self.mar.add_blob(b"{}")
        return self.mar.add_artifact(
            REPOSITORY, f"mark-{created[:10]}", artifactType=LIFECYCLE, subject=descriptor_json(subject or self.artifact), annotations=notes
        )

    def sign_too(self, signed: Descriptor, **options: Any) -> Descriptor:
        """Sign another manifest of the repository, such as a mark or the manifest of a platform."""
        return self.sign(cose(self.authority.signer(**options), payload(signed)), subject=descriptor_json(signed))
