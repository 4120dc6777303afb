"""List the artifacts in a bundle. The approval page, `bundle inspect` and the page of `serve` show this list."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import PurePath
from typing import Final, Literal, NamedTuple, TypeAlias

from ..artifact.kinds import CHART, IMAGE, NOTATION_SIGNATURE, end_of_life, kind_of, kind_of_type, matches
from ..artifact.payload import base_name, chart_types, extension_of
from ..chart.images import FoundImages, NamedImage
from ..constraint import chart_version, read_version
from ..destination.package import chart_files
from ..document import parse_yaml
from ..errors import Error
from ..layout.blobs import BlobStore, Extent
from ..layout.graph import ManifestNode, NamedCount, closure
from ..layout.repositories import Contents, LayoutRepository
from ..oci import CREATED, Descriptor, Digest, Manifest
from ..project.lockfile import Entry, Lock
from ..project.roots import LockedRoot, roots_of
from ..reference import Reference
from ..text import counted
from .check import check_bundle, refuse_broken
from .format import Opened

THUMBPRINTS: Final = "io.cncf.notary.x509chain.thumbprint#S256"
_DEPTH: Final = 8
_COUNTED: Final = 256
"""Bytes of a manifest that count as one more blob, because a manifest with many tags is listed many times."""
LICENSES: Final = "org.opencontainers.image.licenses"
CHART_LICENSE: Final = "artifacthub.io/license"
"""Annotation of a manifest or of `Chart.yaml` (https://artifacthub.io/docs/topics/annotations/helm/)."""


class _SearchedChart(NamedTuple):
    """What a chart says: the images that it names, and its license, if any."""

    images: FoundImages
    license: str | None = None


_Images: TypeAlias = Callable[[Manifest], _SearchedChart]


@dataclass(frozen=True, slots=True)
class BundleReferrer:
    """A referrer of an artifact, such as a signature, an SBOM or an end-of-life mark.

    Attributes:
        title: the kind of the referrer in words.
        size: the size of the manifest in bytes.
        signer: the certificate thumbprints in the annotations of a signature. They are not verified here.
        depth: 0 for a referrer of the artifact itself, 1 for a referrer of that referrer, and so on.
    """

    title: str
    artifact_type: str
    digest: Digest
    size: int
    signer: str | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class BundleItem:
    """One artifact in a bundle.

    Attributes:
        name: the name in the lock file; without a lock file, the last path component of the repository.
        reference: the pinned reference.
        descriptor: the descriptor of the artifact's manifest or index.
        kind: the kind of the artifact, such as `chart`.
        title: the kind in words, such as `Helm chart`.
        version: the version of the tag; None if the tag is not a version.
        size: the total size in bytes of the artifact's manifests and blobs, without referrers.
        omitted: the total size in bytes of the artifact's blobs that a delta omits.
        layers: the payload layers.
        created: the creation time in the annotations, if any.
        ends: the end-of-life date in the lifecycle referrers, if any.
        referrers: the referrers of the artifact, each followed by its own referrers.
        images: the container images that a chart names.
        unread: why files of a chart could not be searched for images. The keys are paths in the chart, or the digest of the whole chart.
        verdict: the result of the signature check when the artifact was locked; None if it was not checked.
        index_name: the name in the index; None if the index has no name for it.
        platforms: the platforms of an index that are in the bundle.
        omitted_platforms: the platforms of an index that are not wanted, and therefore not in the bundle.
        is_carried_image: whether the lock file names it as an image of a chart.
        carried: the images in `images` that the lock file pins, and that the bundle therefore contains.
        licenses: the licenses that the artifact declares in annotations or `Chart.yaml`, mostly SPDX expressions. Nothing checks them.
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
    unread: Mapping[str, str]
    verdict: str | None
    index_name: str | None = None
    platforms: tuple[str, ...] = ()
    omitted_platforms: tuple[str, ...] = ()
    is_carried_image: bool = False
    carried: frozenset[str] = frozenset()
    licenses: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A name that is unique in the bundle: the name in the lock file; for an image, its repository and tag."""
        if not self.is_carried_image:
            return self.name
        return str(replace(self.reference, host=None, digest=None if self.reference.tag else self.reference.digest))

    @property
    def signatures(self) -> tuple[BundleReferrer, ...]:
        """The signatures of the artifact itself, without signatures of its referrers."""
        return tuple(one for one in self.referrers if one.depth == 0 and one.artifact_type.lower() == NOTATION_SIGNATURE)


def bundle_items(
    contents: Contents, lock: Lock | None, *, with_images: bool = False, is_checked: bool = True, max_searched: int | None = None
) -> list[BundleItem]:
    """Return the artifacts in a layout.

    Args:
        lock: the lock file of a bundle. If given, only its entries are listed. None: list the names in the index.
        with_images: whether to search charts for container images.
        is_checked: whether to verify the digests of the searched charts. If false, the caller must verify them before it uses the result.
        max_searched: the maximum number of charts to search; further charts are marked as unread. None: search all.
    """
    images = _images(contents, is_checked=is_checked, most=max_searched) if with_images else None
    named = NamedCount(contents.store.root)
    names: dict[Digest, list[str]] = {}
    for name, one in contents.store.entries():
        if name is not None:
            names.setdefault(one.digest, []).append(name)
    return [
        found
        for name, root in _roots(contents, lock)
        if (found := _item(contents, named, name, root, images, names.get(root.manifest.digest, ()))) is not None
    ]


def _images(contents: Contents, *, is_checked: bool, most: int | None) -> _Images:
    """Return a function that lists the images of a chart. The function searches a chart only once, even if it has many tags."""
    known: dict[Digest, _SearchedChart] = {}
    named = NamedCount(contents.store.root)

    def images(manifest: Manifest) -> _SearchedChart:
        digest = manifest.descriptor.digest
        if digest not in known and most is not None and len(known) >= most:
            return _SearchedChart(FoundImages((), {str(digest): f"not searched: the limit is {counted(most, 'chart')}"}))
        if digest not in known:
            known[digest] = _images_of(contents.store, manifest, is_checked=is_checked)
        named.add(len(known[digest].images.images) + len(known[digest].images.unread))
        return known[digest]

    return images


class _Named(NamedTuple):
    """An artifact in a layout without a lock file."""

    reference: Reference
    manifest: Descriptor
    entry: Entry | None = None
    is_image: bool = False


def _roots(contents: Contents, lock: Lock | None) -> Iterator[tuple[str, LockedRoot | _Named]]:
    if lock is not None:
        for root in roots_of(lock):
            yield (base_name(root.reference.repository) if root.is_image else root.entry.name), root
        return
    named = {str(one.digest) for _, one in contents.store.entries()}
    for repository in contents.current().repositories.values():
        tagged = {str(one.digest) for one in repository.tags.values()}
        about = {str(one.digest) for found in repository.referrers.values() for one in found}
        for tag, descriptor in repository.tags.items():
            yield base_name(repository.name), _Named(Reference(repository.name, None, tag, descriptor.digest), descriptor)
        for digest, descriptor in repository.manifests.items():
            if digest in named and digest not in tagged and digest not in about:
                yield base_name(repository.name), _Named(Reference(repository.name, None, None, descriptor.digest), descriptor)


def _item(
    contents: Contents,
    named: NamedCount,
    name: str,
    place: LockedRoot | _Named,
    images: _Images | None,
    index_names: Sequence[str],
) -> BundleItem | None:
    reference, descriptor, entry = place.reference, place.manifest, place.entry if not place.is_image else None
    snapshot = contents.current()
    repository = snapshot.repositories.get(reference.repository)
    root = snapshot.graph.node(descriptor)
    if repository is None or root is None:
        return None
    nodes: dict[Digest, ManifestNode] = {}
    for one, node in closure([descriptor], snapshot.graph.node):
        if node is not None:
            named.add(1 + len(node.blobs) + node.descriptor.size // _COUNTED)
            nodes[one.digest] = node
    blobs = {blob.digest: blob for node in nodes.values() for blob in node.blobs}
    chosen = nodes.get(entry.artifact.digest if entry is not None and entry.artifact is not None else descriptor.digest)
    artifact = _manifest(contents, chosen.descriptor) if chosen is not None else None
    kind = IMAGE if place.is_image else kind_of(artifact) if artifact is not None else None
    version = read_version(reference.tag) if reference.tag else None
    referrers = tuple(_referrers(repository, str(descriptor.digest), named))
    searched = images(artifact) if images is not None and kind is CHART and artifact is not None else _SearchedChart(FoundImages((), {}))
    found = searched.images
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
        _payload(artifact),
        root.referrer.annotations.get(CREATED) or (artifact.annotations.get(CREATED) if artifact else None),
        end_of_life(marks),
        referrers,
        found.images,
        found.unread,
        entry.verification.verdict if entry is not None and entry.verification is not None else None,
        _index_name(index_names, reference, descriptor),
        *_platforms(root, nodes),
        place.is_image,
        frozenset(one.image for one in (entry.images if entry is not None else ()) if one.reference is not None),
        _licenses(root, artifact, searched.license),
    )


def _platforms(root: ManifestNode, nodes: Mapping[Digest, ManifestNode]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the platforms of an index whose manifests are in the layout, and those whose manifests are missing."""
    known = [(str(child.platform), child.digest in nodes) for child in root.children if child.platform and not child.is_attestation]
    there, missing = (dict.fromkeys(name for name, is_there in known if is_there is wanted) for wanted in (True, False))
    return tuple(there), tuple(missing)


def _licenses(root: ManifestNode, artifact: Manifest | None, of_chart: str | None) -> tuple[str, ...]:
    annotations = (root.referrer.annotations, artifact.annotations if artifact is not None else {})
    found = [one.get(key) for one in annotations for key in (LICENSES, CHART_LICENSE)]
    return tuple(dict.fromkeys(text.strip() for text in (*found, of_chart) if text and text.strip()))


def _index_name(names: Sequence[str], reference: Reference, descriptor: Descriptor) -> str | None:
    end = reference.tag or str(descriptor.digest)
    return next((name for name in names if name == end or name.endswith((f":{end}", f"@{end}"))), None)


def _manifest(contents: Contents, descriptor: Descriptor) -> Manifest | None:
    """Return an artifact's manifest; None for an index. Return None also for an unreadable manifest, which the bundle check reports."""
    with suppress(Error):
        found = contents.manifests.read(descriptor)
        return found if isinstance(found, Manifest) else None
    return None


def _payload(artifact: Manifest | None) -> tuple[Descriptor, ...]:
    if artifact is None:
        return ()
    kind = kind_of(artifact)
    globs: Iterable[str] = chart_types(artifact) if kind is CHART else kind.payload
    return tuple(layer for layer in artifact.layers if matches(layer.media_type, globs))


class ExtentFile(io.RawIOBase):
    """A blob as a readable file object."""

    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = self._extent.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _images_of(store: BlobStore, manifest: Manifest, *, is_checked: bool = True) -> _SearchedChart:
    """Return the container images that a chart names, and its license. The bundle may not contain the images."""
    named: list[NamedImage] = []
    unread: dict[str, str] = {}
    declared: str | None = None
    for layer in manifest.layers:
        if not matches(layer.media_type, chart_types(manifest)):
            continue
        name = str(layer.digest)
        if store.stamp(layer.digest) is None:
            unread[name] = "it is not in this delta"
            continue
        try:
            with store.extent(layer.digest) as extent, ExtentFile(extent) as raw:
                files = chart_files(raw, layer, name, is_checked=is_checked)  # type: ignore[arg-type]
            found = files.images()
        except (Error, OSError) as error:
            unread[name] = str(error)
            continue
        named += found.named
        unread |= found.unread
        declared = declared or _chart_license(files.texts.get("Chart.yaml", b""))
    return _SearchedChart(FoundImages(tuple(named), unread), declared)


def _chart_license(raw: bytes) -> str | None:
    with suppress(Error):
        document = parse_yaml(raw, "`Chart.yaml`", is_lenient=True)
        annotations = document.get("annotations") if isinstance(document, dict) else None
        found = annotations.get(CHART_LICENSE) if isinstance(annotations, dict) else None
        return found if isinstance(found, str) else None
    return None


def _referrers(repository: LayoutRepository, digest: str, named: NamedCount, depth: int = 0) -> Iterator[BundleReferrer]:
    if depth >= _DEPTH:
        return
    named.add(len(repository.referrers.get(digest, ())))
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
        yield from _referrers(repository, str(one.digest), named, depth + 1)


# -- differences between two bundles


@dataclass(frozen=True, slots=True)
class Changed:
    """One artifact that differs between two bundles.

    Attributes:
        old: the artifact in the old bundle; None if it was added.
        new: the artifact in the new bundle; None if it was removed.
        referrers: the added (`+DIGEST`) and removed (`-DIGEST`) referrers, if only the referrers differ.
    """

    change: Literal["added", "removed", "changed", "referrers"]
    name: str
    old: BundleItem | None
    new: BundleItem | None
    referrers: tuple[str, ...] = ()


def differences(old: Opened, new: Opened, *, budget: Callable[[], None] = lambda: None) -> list[Changed]:
    """Return the differences between two bundles or other layouts, sorted by name.

    Both bundles are checked first, because someone may approve a transfer based on the differences.

    Args:
        budget: called regularly; it may raise to cancel the comparison.

    Raises:
        IntegrityError: a bundle is broken.
    """
    for bundle in (old, new):
        if bundle.is_bundle:
            refuse_broken(bundle, check_bundle(bundle, budget=budget))
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
    """Return the artifacts. The keys are the names in the lock file; without a lock file, repository and tag."""
    found.contents.load()
    items = bundle_items(found.contents, found.lock)
    if found.lock is not None:
        return {item.key: item for item in items}
    return {f"{item.reference.repository}:{item.reference.tag or item.descriptor.digest}": item for item in items}


# -- commands that extract an artifact from a bundle with other tools


SERVE_ADDRESS = "127.0.0.1:5000"
"""The default address of `marfetch serve`."""


def pull_commands(item: BundleItem, bundle: PurePath, *, is_folder: bool) -> dict[str, list[str]]:
    """Return the shell commands that extract an artifact with each tool, as tool → command lines in order.

    Tools that cannot read a layout pull from `marfetch serve`. The result is empty if a delta omits content of the artifact.

    Args:
        bundle: the path of the bundle to write in the commands.
        is_folder: whether the bundle is a folder and not an archive.
    """
    if item.omitted:
        return {}
    file = shlex.quote(str(bundle))
    digest, repository = str(item.descriptor.digest), item.reference.repository
    serve = f"marfetch serve {file} &"
    files = _files(item)
    layout = file if is_folder else "layout"
    transport = "oci" if is_folder else "oci-archive"
    commands = {
        "oras": [f"oras blob fetch --oci-layout {file}@{layer} --output {name}" for layer, name in files]
        or [f"oras manifest fetch --oci-layout {file}@{digest}"],
        "regctl": [
            *([] if is_folder else [f"mkdir -p layout && tar -xf {file} -C layout"]),
            *(f"regctl blob get ocidir://{layout} {layer} > {name}" for layer, name in files),
        ],
        "crane": [serve, *(f"crane blob --insecure {SERVE_ADDRESS}/{repository}@{layer} > {name}" for layer, name in files)],
        "marfetch": [serve, f"marfetch pull {SERVE_ADDRESS}/{repository}@{digest}"],
    }
    if item.is_carried_image:
        commands = {
            "oras": [f"oras manifest fetch --oci-layout {file}@{digest}"],
            "crane": [serve, f"crane pull --insecure {SERVE_ADDRESS}/{repository}@{digest} {shlex.quote(f'{item.name}.tar')}"],
        }
    if item.index_name is not None:
        to = shlex.quote(item.name.replace("/", "-"))
        whole = "" if item.omitted_platforms else "--all "
        commands["skopeo"] = [f"skopeo copy {whole}{transport}:{file}:{shlex.quote(item.index_name)} dir:{to}"]
    pull = helm_pull(item, SERVE_ADDRESS)
    if pull is not None:
        commands["helm"] = [serve, pull]
    return commands


def helm_pull(item: BundleItem, host: str) -> str | None:
    """Return the `helm pull` command for a chart. Return None if the artifact is not a chart or its tag is not a version."""
    version = read_version(item.reference.tag) if item.reference.tag else None
    if item.kind != CHART.name or version is None:
        return None
    return f"helm pull oci://{host}/{item.reference.repository} --version {shlex.quote(chart_version(version))} --plain-http"


def _files(item: BundleItem) -> list[tuple[str, str]]:
    """Return the digest of each payload layer, with a file name to write it to."""
    stem = f"{item.name.replace('/', '-')}-{item.version or item.descriptor.digest.encoded[:12]}"
    several = len(item.layers) > 1
    return [
        (str(layer.digest), shlex.quote(f"{stem}{f'-{number}' if several else ''}{extension_of(layer.media_type)}"))
        for number, layer in enumerate(item.layers, start=1)
    ]
