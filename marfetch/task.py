"""What a pull is to do, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from .artifact.kinds import Kind
from .artifact.payload import Choice, Payload
from .client.fetch import Gate
from .client.resolve import Resolved, Wanted
from .errors import Error
from .oci import Descriptor, Digest, Manifest, Platform
from .reference import Reference


class PullOptions(NamedTuple):
    """What a pull is to do.

    Attributes:
        destination: the directory; made when the first file is placed.
        choice: which layers.
        platform: of an index.
        force: replace files that differ.
        skip_missing: pass over versions that are listed but have no manifest.
        untar: where archives are unpacked, below the destination where it is relative (as Helm joins the two); None: they stay files.
        below: where the files go below the destination, as a relative path with `/`; empty: in the destination itself.
        gate: is asked about each artifact before anything of it is fetched, and raises to keep it out, as a verification does.
    """

    destination: Path
    choice: Choice = Choice()
    platform: Platform | None = None
    force: bool = False
    skip_missing: bool = False
    untar: Path | None = None
    below: str = ""
    gate: Gate | None = None


def referrer_request(destination: Path, name: str, digest: Digest, *, force: bool) -> PullOptions:
    """Return where the files of a referrer go: `NAME.referrers/HEX/TITLE`, so that no title meets a file of the user's."""
    return PullOptions(destination, Choice(all_layers=True, titles=True), force=force, below=f"{name}.referrers/{digest.encoded}")


class Found(NamedTuple):
    """An artifact that was found, with the layers that are wanted of it; nothing of them is fetched yet.

    Attributes:
        manifest: of the artifact; of an index the one that was chosen.
        payloads: with the names that they get.
    """

    resolved: Resolved
    manifest: Manifest
    kind: Kind
    payloads: tuple[Payload, ...]


class Task(NamedTuple):
    """One artifact of several that each go their own way.

    Attributes:
        artifact: what is wanted, or what was found already.
        request: where it goes, and how.
        label: what it is called where it fails.
    """

    artifact: Wanted | Found | Failed
    request: PullOptions
    label: str


class File(NamedTuple):
    """One file, or one directory that an archive became, that is there now.

    Attributes:
        reference: pinned: with the digest of what the tag names.
        status: whether it was put there, or was there already with the same bytes.
        is_directory: whether it was unpacked.
        is_replaced: whether something else had its place.
    """

    path: Path
    layer: Descriptor
    reference: Reference
    status: Literal["fetched", "unchanged"]
    kind: Kind
    is_directory: bool = False
    is_replaced: bool = False


class Done(NamedTuple):
    """What became of one task.

    Attributes:
        error: None where all its files are there.
    """

    files: tuple[File, ...]
    resolved: Resolved | None
    error: Error | None


class Failed(NamedTuple):
    """One artifact that is not there, and why."""

    reference: str
    error: Error


class Pulled(NamedTuple):
    """What became of a pull.

    Attributes:
        files: in the order of what was wanted.
        failed: in the order of what was wanted.
        resolved: what was wanted turned out to be, for what could be found.
    """

    files: tuple[File, ...]
    failed: tuple[Failed, ...]
    resolved: tuple[Resolved, ...]
