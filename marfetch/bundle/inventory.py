"""What a bundle holds, artifact by artifact, as people want to know it: the page, `bundle inspect` and `serve` show this."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

from ..artifact.kinds import CHART, NOTATION_SIGNATURE, end_of_life, kind_of, kind_of_type, matches
from ..artifact.payload import base_name, chart_types, extension_of
from ..constraint import chart_version, read_version
from ..errors import Error
from ..layout.graph import closure
from ..layout.repositories import Contents, LayoutRepository
from ..oci import CREATED, Descriptor, Digest, Manifest
from ..project.lockfile import Entry, Lock
from ..reference import Reference
from .check import check_bundle, refuse_broken
from .format import Opened
from .images import images_of

THUMBPRINTS: Final = "io.cncf.notary.x509chain.thumbprint#S256"
_DEPTH: Final = 8
_Images: TypeAlias = Callable[[Manifest], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class BundleReferrer:
    """What refers to an artifact: a signature, an SBOM, the end of its life.

    Attributes:
        title: its kind, for people.
        signer: of a signature: the thumbprints of its certificates, as it claims them; nothing is checked here.
        depth: 0 for what refers to the artifact itself, 1 for what refers to that, …
    """

    title: str
    artifact_type: str
    digest: Digest
    size: int
    signer: str | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class BundleItem:
    """One artifact.

    Attributes:
        name: in the lock; in a layout without a lock the last part of its repository.
        reference: pinned, as it was locked.
        version: what the tag means; None where it is no version.
        size: bytes of all that belongs to it, referrers aside.
        omitted: bytes of that which a delta leaves out.
        layers: what is worth fetching of it.
        ends: when its support ends, as its lifecycle marks say.
        images: what a chart names.
        verdict: what `verify` found when it was locked; None where that was not asked for.
        listed: its name in the index; None where it has none.
    """

    name: str
    reference: Reference
    descriptor: Descriptor
    kind: str
    title: str
    version: str | None
    size: int
    omitted: int
    layers: tuple[Descriptor, ...]
    created: str | None
    ends: date | None
    referrers: tuple[BundleReferrer, ...]
    images: tuple[str, ...]
    verdict: str | None
    listed: str | None = None

    @property
    def signatures(self) -> tuple[BundleReferrer, ...]:
        """Those of the artifact itself."""
        return tuple(one for one in self.referrers if one.depth == 0 and one.artifact_type.lower() == NOTATION_SIGNATURE)


def catalogue(contents: Contents, lock: Lock | None, *, with_images: bool = False, is_checked: bool = True) -> list[BundleItem]:
    """Everything that a layout holds.

    Args:
        lock: where there is one, it says what the artifacts are and how they are called.
        with_images: look into charts for the images that they name.
        is_checked: hash these charts; otherwise they are hashed later, and what was found in them is void where that fails.
    """
    images = partial(images_of, contents.store, is_checked=is_checked) if with_images else None
    return [
        found
        for name, reference, descriptor, entry in _roots(contents, lock)
        if (found := _item(contents, name, reference, descriptor, entry, images)) is not None
    ]


def _roots(contents: Contents, lock: Lock | None) -> Iterator[tuple[str, Reference, Descriptor, Entry | None]]:
    if lock is not None:
        for entry in lock.entries:
            yield entry.name, entry.reference, entry.manifest, entry
        return
    named = {str(one.digest) for _, one in contents.store.entries()}
    for repository in contents.current().repositories.values():
        tagged = {str(one.digest) for one in repository.tags.values()}
        about = {str(one.digest) for found in repository.referrers.values() for one in found}
        for tag, descriptor in repository.tags.items():
            yield base_name(repository.name), Reference(repository.name, None, tag, descriptor.digest), descriptor, None
        for digest, descriptor in repository.manifests.items():
            if digest in named - tagged - about:
                yield base_name(repository.name), Reference(repository.name, None, None, descriptor.digest), descriptor, None


def _item(
    contents: Contents, name: str, reference: Reference, descriptor: Descriptor, entry: Entry | None, images: _Images | None
) -> BundleItem | None:
    snapshot = contents.current()
    repository = snapshot.repositories.get(reference.repository)
    root = snapshot.graph.node(descriptor)
    if repository is None or root is None:
        return None
    nodes = {one.digest: node for one, node in closure([descriptor], snapshot.graph.node) if node is not None}
    blobs = {blob.digest: blob for node in nodes.values() for blob in node.blobs}
    chosen = nodes.get(entry.artifact.digest if entry is not None and entry.artifact is not None else descriptor.digest)
    artifact = _manifest(contents, chosen.descriptor) if chosen is not None else None
    kind = kind_of(artifact) if artifact is not None else None
    version = read_version(reference.tag) if reference.tag else None
    referrers = tuple(_referrers(contents, repository, str(descriptor.digest)))
    marks = [(one.artifact_type or "", one.annotations) for one in repository.referrers.get(str(descriptor.digest), [])]
    return BundleItem(
        name,
        reference,
        descriptor,
        kind.name if kind else "index",
        kind.title if kind else "index of several artifacts",
        str(version.version) if version else None,
        sum(node.descriptor.size for node in nodes.values()) + sum(blob.size for blob in blobs.values()),
        sum(blob.size for digest, blob in blobs.items() if contents.store.stamp(digest) is None),
        _worth(artifact),
        root.referrer.annotations.get(CREATED) or (artifact.annotations.get(CREATED) if artifact else None),
        end_of_life(marks),
        referrers,
        images(artifact) if images is not None and kind is CHART and artifact is not None else (),
        entry.verification.verdict if entry is not None and entry.verification is not None else None,
        _listed(contents, reference, descriptor),
    )


def _listed(contents: Contents, reference: Reference, descriptor: Descriptor) -> str | None:
    end = reference.tag or str(descriptor.digest)
    names = [name for name, one in contents.store.entries() if name is not None and one.digest == descriptor.digest]
    return next((name for name in names if name == end or name.endswith((f":{end}", f"@{end}"))), None)


def _manifest(contents: Contents, descriptor: Descriptor) -> Manifest | None:
    """A manifest that is no index; one that cannot be read is reported by the check of the bundle."""
    with suppress(Error):
        found = contents.manifests.read(descriptor)
        return found if isinstance(found, Manifest) else None
    return None


def _worth(artifact: Manifest | None) -> tuple[Descriptor, ...]:
    if artifact is None:
        return ()
    kind = kind_of(artifact)
    globs: Iterable[str] = chart_types(artifact) if kind is CHART else kind.payload
    return tuple(layer for layer in artifact.layers if matches(layer.media_type, globs))


def _referrers(contents: Contents, repository: LayoutRepository, digest: str, depth: int = 0) -> Iterator[BundleReferrer]:
    if depth >= _DEPTH:
        return
    for one in sorted(repository.referrers.get(digest, []), key=lambda one: (one.artifact_type or "", str(one.digest))):
        kind = kind_of_type(one.artifact_type)
        yield BundleReferrer(
            kind.title if kind else "other",
            one.artifact_type or "",
            one.digest,
            one.size,
            one.annotations.get(THUMBPRINTS),
            depth,
        )
        yield from _referrers(contents, repository, str(one.digest), depth + 1)


# -- what differs between two bundles, artifact by artifact


@dataclass(frozen=True, slots=True)
class Changed:
    """One artifact that is not the same in both.

    Attributes:
        old, new: None where it is not in that one.
        referrers: digests of what refers to it in one of the two only, behind `+` or `-`; for what has the same digest in both.
    """

    change: Literal["added", "removed", "changed", "referrers"]
    name: str
    old: BundleItem | None
    new: BundleItem | None
    referrers: tuple[str, ...] = ()


def differences(old: Opened, new: Opened, *, budget: Callable[[], None] = lambda: None) -> list[Changed]:
    """Everything in which two bundles, or other layouts, differ; in the order of the names.

    Bundles are checked whole first: a difference is what somebody approves, and it is no answer where what it rests on was changed.

    Args:
        budget: called now and then; it may raise to give up.

    Raises:
        IntegrityError: one of them is broken.
    """
    for one in (old, new):
        if one.is_bundle:
            refuse_broken(one, check_bundle(one, budget=budget))
    before, after = _items(old), _items(new)
    found: list[Changed] = []
    for name in sorted({*before, *after}):
        item, other = before.get(name), after.get(name)
        if item is None or other is None:
            found.append(Changed("added" if item is None else "removed", (item or other).name, item, other))  # type: ignore[union-attr]
        elif (item.reference, item.descriptor.digest) != (other.reference, other.descriptor.digest):
            found.append(Changed("changed", item.name, item, other))
        else:
            had, has = ({str(each.digest) for each in side.referrers} for side in (item, other))
            if had != has:
                found.append(
                    Changed(
                        "referrers",
                        item.name,
                        item,
                        other,
                        (*(f"-{digest}" for digest in sorted(had - has)), *(f"+{digest}" for digest in sorted(has - had))),
                    )
                )
    return found


def _items(found: Opened) -> dict[str, BundleItem]:
    """By the name in the lock; without a lock by repository and tag."""
    found.contents.load()
    items = catalogue(found.contents, found.lock)
    if found.lock is not None:
        return {item.name: item for item in items}
    return {f"{item.reference.repository}:{item.reference.tag or item.descriptor.digest}": item for item in items}


# -- the exact lines with which other tools get an artifact out of a bundle


SERVE_ADDRESS = "127.0.0.1:5000"
"""Where `marfetch serve` listens."""


def lines_for(item: BundleItem, bundle: Path) -> dict[str, list[str]]:
    """Tool → the lines, to be run one after the other in a shell; tools that cannot read a layout ask `marfetch serve`.

    Where content is left out there are none: whatever gets the rest would stand there without it.

    Args:
        bundle: its path, as it is to stand in the lines.
    """
    if item.omitted:
        return {}
    file = shlex.quote(str(bundle))
    digest, repository = str(item.descriptor.digest), item.reference.repository
    serve = f"marfetch serve {file} &"
    files = _files(item)
    is_folder = bundle.is_dir()
    layout = file if is_folder else "layout"
    transport = "oci" if is_folder else "oci-archive"
    found = {
        "oras": [f"oras blob fetch --oci-layout {file}@{layer} --output {name}" for layer, name in files]
        or [f"oras manifest fetch --oci-layout {file}@{digest}"],
        "regctl": [
            *([] if is_folder else [f"mkdir -p layout && tar -xf {file} -C layout"]),
            *(f"regctl blob get ocidir://{layout} {layer} > {name}" for layer, name in files),
        ],
        "crane": [serve, *(f"crane blob --insecure {SERVE_ADDRESS}/{repository}@{layer} > {name}" for layer, name in files)],
        "marfetch": [serve, f"marfetch pull {SERVE_ADDRESS}/{repository}@{digest}"],
    }
    if item.listed is not None:
        to = shlex.quote(item.name.replace("/", "-"))
        found["skopeo"] = [f"skopeo copy --all {transport}:{file}:{shlex.quote(item.listed)} dir:{to}"]
    pull = helm_line(item, SERVE_ADDRESS)
    if pull is not None:
        found["helm"] = [serve, pull]
    return found


def helm_line(item: BundleItem, host: str) -> str | None:
    """How helm pulls it from a registry; None for what is no chart, or has no version that helm takes."""
    version = read_version(item.reference.tag) if item.reference.tag else None
    if item.kind != CHART.name or version is None:
        return None
    return f"helm pull oci://{host}/{item.reference.repository} --version {shlex.quote(chart_version(version))} --plain-http"


def _files(item: BundleItem) -> list[tuple[str, str]]:
    """What is worth fetching: digest and file name."""
    stem = f"{item.name.replace('/', '-')}-{item.version or item.descriptor.digest.encoded[:12]}"
    several = len(item.layers) > 1
    return [
        (str(layer.digest), shlex.quote(f"{stem}{f'-{number}' if several else ''}{extension_of(layer.media_type)}"))
        for number, layer in enumerate(item.layers, start=1)
    ]
