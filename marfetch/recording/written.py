"""Write the archive of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..bundle.format import INDEX_FILE, MARKER, MARKER_FILE, Part, archive_size, blob_file, cached_part, index_bytes, whole, write_archive
from ..bundle.recorded import RECORDING_FILE, Recording, recording_bytes
from ..client.session import Session
from ..destination.destination import whole_file
from ..oci import Digest


@dataclass(frozen=True, slots=True)
class RecordedArchive:
    """A written recording.

    Attributes:
        digest: the digest of the file.
        size: the size of the file in bytes.
        tags: number of recorded tags.
        manifests: number of manifests in the file.
        blobs: number of other blobs in the file.
    """

    path: Path
    digest: Digest
    size: int
    tags: int
    manifests: int
    blobs: int


def write_recording(client: Session, recording: Recording, output: Path) -> RecordedArchive:
    """Write the archive of a recording from the cache.

    Raises:
        StorageError: it cannot be written.
        IntegrityError: the cache was changed.
    """
    content, entries = recording.content, recording.entries()
    first = {MARKER_FILE: MARKER, INDEX_FILE: index_bytes(entries), RECORDING_FILE: recording_bytes(recording)}
    parts = [Part(name, len(text), whole(text)) for name, text in first.items()]
    with client.progress.steps("writing", len(content), "blobs") as steps:
        found = sorted(content.values(), key=lambda one: blob_file(one.digest))
        parts += [cached_part(client, one.digest, one.size, steps, check=lambda: None) for one in found]
        size = archive_size(parts)
        with whole_file(output, size=size) as file:
            digest = write_archive(file, parts)
    manifests = recording.manifests
    tags = sum(len(one.tags) for one in recording.repositories.values())
    return RecordedArchive(output, digest, size, tags, len(manifests), len(content) - len(manifests))
