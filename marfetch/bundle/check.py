"""Check a bundle offline, and report all missing, extra or wrong content.

marfetch always writes equal content as equal bytes. Therefore any difference, even in the padding, means that the bundle was changed
after marfetch wrote it.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from .. import threads
from ..content import Progress, Silent, Verified, transferring
from ..errors import InputError, IntegrityError
from ..files import storage_error
from ..layout.graph import ManifestNode, NamedCount, closure, is_manifest_type
from ..layout.readonly import ReadonlyTar
from ..oci import Descriptor, Digest
from .format import (
    FIRST,
    INDEX_FILE,
    LOCK_FILE,
    MARKER,
    MARKER_FILE,
    MAX_RECORD_SIZE,
    RECORD_FILE,
    RECORDED_FIRST,
    Opened,
    archive_digest,
    ending,
    header,
    index_bytes,
)
from .recorded import Recording

# -- results


@dataclass(frozen=True, slots=True)
class Problem:
    """One difference between a bundle and its expected content.

    Attributes:
        name: what is missing, extra or wrong: a digest, a file in the archive, or a reference.
    """

    kind: Literal["missing", "extra", "wrong"]
    name: str
    reason: str


@dataclass(slots=True)
class CheckResult:
    """The result of a check.

    Attributes:
        findings: the problems that were found; empty if the bundle is intact.
        artifacts: the number of artifacts that were checked.
        blobs: the number of manifests and blobs that were checked.
        size: the total size of these blobs in bytes.
    """

    findings: list[Problem] = field(default_factory=list)
    artifacts: int = 0
    blobs: int = 0
    size: int = 0

    def add(self, kind: Literal["missing", "extra", "wrong"], name: object, reason: str) -> None:
        self.findings.append(Problem(kind, str(name), reason))


# -- files and archive format


def check_files(found: Opened, checked: CheckResult) -> None:
    """Compare the files other than blobs with the digests in `bundle.json`."""
    record = found.record
    if record is None:
        checked.add("missing", RECORD_FILE, "every bundle has this file" if found.is_bundle else "this is not a marfetch bundle")
    wanted = set(FIRST) - {RECORD_FILE}
    for name in sorted(set(record.files if record is not None else ()) - wanted):
        checked.add("extra", name, f"`{RECORD_FILE}` lists it, but it is not part of the bundle format")
    for name in sorted(wanted):
        data = found.store.document(name, MAX_RECORD_SIZE)
        if data is None:
            checked.add("missing", name, "every bundle has this file")
        elif record is None:
            if name == LOCK_FILE and found.unread is not None:
                checked.add("wrong", name, found.unread.message)
        elif name not in record.files:
            checked.add("wrong", RECORD_FILE, f"it does not list `{name}`")
        elif Digest.of(data) != record.files[name]:
            checked.add("wrong", name, f"its digest is `{Digest.of(data)}`, but `{RECORD_FILE}` says `{record.files[name]}`")
    if found.is_bundle:
        for name in _names(found):
            if name not in FIRST and blob_of(name) is None:
                checked.add("extra", name, "it is not part of the bundle format")


def stored_blobs(found: Opened) -> Iterator[Digest]:
    """Yield the digest of every stored blob, including unreferenced ones."""
    for name in _names(found):
        digest = blob_of(name)
        if digest is not None:
            yield digest


def _names(found: Opened) -> Iterator[str]:
    """Yield the name of every entry except `blobs/` and its algorithm directories."""
    if isinstance(found.store, ReadonlyTar):
        yield from found.store.members
        return
    for path in _children(found.path):
        if path.name == "blobs" and path.is_dir():
            for algorithm in _children(path):
                if algorithm.is_dir():
                    yield from (f"blobs/{algorithm.name}/{blob.name}" for blob in _children(algorithm))
                else:
                    yield f"blobs/{algorithm.name}"
        else:
            yield f"{path.name}/" if path.is_dir() else path.name


def _children(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError as error:
        raise storage_error(error, path) from error


def blob_of(name: str) -> Digest | None:
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs":
        return None
    try:
        return Digest.parse(f"{parts[1]}:{parts[2]}")
    except InputError:
        return None


def check_form(store: ReadonlyTar, checked: CheckResult, budget: Callable[[], None], first: Sequence[str] = FIRST) -> None:
    """Check that the archive has the same bytes as `format.write_archive` would write. Every wrong member is one finding.

    Args:
        first: the files before the blobs, in their order.
    """
    known = [name for name in store.members if name in first or blob_of(name) is not None]
    for name in _out_of_order(known, first):
        checked.add("wrong", name, "it is in the wrong position in the archive")
    for directory in store.directories:
        checked.add("extra", f"{directory.name}/", "a bundle has no directory entries")
    raw = store.raw()
    for name, member in store.members.items():
        budget()
        if raw.read(member.begin, member.offset - member.begin) != header(name, member.size):
            checked.add("wrong", name, "its tar header differs from what marfetch writes")
        end = member.offset + member.size
        if raw.read(end, member.end - end).strip(b"\x00"):
            checked.add("wrong", name, "the padding after it is not zero")
    position = max((one.end for one in (*store.directories, *store.members.values())), default=0)
    if raw.size - position > 1 << 20 or raw.read(position, raw.size - position) != ending(position):
        checked.add("wrong", store.root, "the end of the archive differs from what marfetch writes")


def _out_of_order(names: Sequence[str], first: Sequence[str]) -> list[str]:
    """Return the fewest names that must be removed so that the other names are in order."""
    places = [(first.index(name) if name in first else len(first), name) for name in names]
    ends: list[int] = []  # ends[n]: the index of the smallest name that can end an ordered run of n + 1 names
    before: list[int | None] = []
    for number, place in enumerate(places):
        length = bisect_left(ends, place, key=lambda one: places[one])
        before.append(ends[length - 1] if length else None)
        ends[length : length + 1] = [number]
    ordered: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        ordered.add(last)
        last = before[last]
    return [name for number, name in enumerate(names) if number not in ordered]


_WORKERS: Final = min(8, os.cpu_count() or 1)


def check_bundle(
    found: Opened,
    *,
    base: Opened | None = None,
    budget: Callable[[], None] = lambda: None,
    reads_blobs: bool = True,
    progress: Progress | None = None,
) -> CheckResult:
    """Check a bundle: its format, every digest, its lock file, and the blobs that a delta omits.

    Args:
        base: the base bundle of a delta. If given, check that the delta was made from this base, and that the base has every omitted blob.
        reads_blobs: whether to hash the blobs. If false, the check does not read them, and the caller must hash each blob that it uses.
        budget: called regularly; it may raise to cancel the check.
        progress: shows the number of checked blobs.

    Raises:
        StorageError: the bundle cannot be read.
    """
    if found.recording is not None:
        return _check_recording(found, found.recording, budget, progress or Silent(), reads=reads_blobs)
    checked = CheckResult()
    check_files(found, checked)
    if found.lock is not None:
        _check_index(found, checked)
    needed = _check_graph(found, checked)
    _check_lock(found, checked)
    _check_blobs(found, needed, checked, budget, progress or Silent(), reads=reads_blobs)
    if found.is_bundle and isinstance(found.store, ReadonlyTar):
        check_form(found.store, checked, budget)
    if base is not None:
        _check_base(found, base, checked)
    checked.findings.sort(key=lambda one: (one.kind, one.name))
    return checked


def _check_recording(found: Opened, recording: Recording, budget: Callable[[], None], progress: Progress, *, reads: bool) -> CheckResult:
    """Check the index of a recording, and that it has exactly the content that `recording.json` lists."""
    checked = CheckResult()
    for name in _names(found):
        if name not in RECORDED_FIRST and blob_of(name) is None:
            checked.add("extra", name, "it is not part of a recording")
    for name, wanted in ((MARKER_FILE, MARKER), (INDEX_FILE, index_bytes(recording.entries()))):
        if found.store.document(name, MAX_RECORD_SIZE) != wanted:
            checked.add("wrong", name, "its bytes differ from what marfetch writes")
    needed = recording.content
    for digest in needed:
        if found.store.stamp(digest) is None:
            checked.add("missing", digest, "`recording.json` lists it")
    for digest, one in recording.manifests.items():
        budget()
        if found.store.stamp(digest) is not None:
            try:
                found.contents.manifests.read(one)
            except IntegrityError as error:
                checked.add("wrong", digest, error.message)
    checked.artifacts = sum(len(one.tags) for one in recording.repositories.values())
    _check_blobs(found, needed, checked, budget, progress, reads=reads)
    if isinstance(found.store, ReadonlyTar):
        check_form(found.store, checked, budget, RECORDED_FIRST)
    checked.findings.sort(key=lambda one: (one.kind, one.name))
    return checked


def check_layout(found: Opened, *, budget: Callable[[], None] = lambda: None, progress: Progress | None = None) -> CheckResult:
    """Check a layout that is not a bundle: all content reachable from its index must be present and match its digest."""
    checked = CheckResult()
    needed = _check_graph(found, checked)
    _check_blobs(found, needed, checked, budget, progress or Silent(), refuses_extra=False)
    return checked


def check_content(found: Opened, *, budget: Callable[[], None] = lambda: None, progress: Progress | None = None) -> CheckResult:
    """Check a bundle, a recording or another layout completely."""
    return (check_bundle if found.is_bundle else check_layout)(found, budget=budget, progress=progress)


def refuse_broken(found: Opened, checked: CheckResult) -> None:
    """Raise unless the bundle is intact.

    Raises:
        IntegrityError: `bundle-broken`. The message has the first problem and the number of further problems.
    """
    if not checked.findings:
        return
    first = checked.findings[0]
    more = f" (and {len(checked.findings) - 1} more)" if len(checked.findings) > 1 else ""
    raise IntegrityError(
        f"the bundle `{found.path}` is broken: {first.kind}: `{first.name}`: {first.reason}{more}",
        code="bundle-broken",
        path=str(found.path),
    )


# -- the index


def _check_index(found: Opened, checked: CheckResult) -> None:
    assert found.lock is not None, "the caller checked that there is a lock"
    wanted = {root.name: root.manifest for root in found.roots}
    names: dict[str, Descriptor] = {}
    for name, descriptor in found.store.entries():
        if name is None:
            continue
        if name in names:
            checked.add("extra", name, "this name appears twice in `index.json`")
        names[name] = descriptor
    for name in sorted(wanted.keys() - names.keys()):
        checked.add("missing", name, "it is in the lock file, but not in `index.json`")
    for name in sorted(names.keys() - wanted.keys()):
        checked.add("extra", name, "it is in `index.json`, but not in the lock file")
    for name in sorted(names.keys() & wanted.keys()):
        if _facts(names[name]) != _facts(wanted[name]):
            checked.add("wrong", name, f"`index.json` says `{names[name].digest}`, the lock file says `{wanted[name].digest}`")
    listed = {one.digest for _, one in found.store.entries()}
    for entry in found.lock.entries:
        for one in entry.referrers:
            if one.digest not in listed:
                checked.add("missing", one.digest, f"the lock file lists it as a referrer of `{entry.reference}`")
    index = found.store.document("index.json", MAX_RECORD_SIZE)
    if index != index_bytes(found.store.entries()):
        checked.add("wrong", "index.json", "its bytes differ from what marfetch writes")


# -- the content reachable from the index


def _check_graph(found: Opened, checked: CheckResult) -> dict[Digest, Descriptor]:
    """Check the manifests reachable from the index. Return every manifest and blob that the bundle needs, by digest."""
    graph = found.contents.graph
    needed: dict[Digest, Descriptor] = {}
    abouts: list[tuple[Digest, str | None]] = []
    roots: list[Descriptor] = []
    for name, descriptor in found.store.entries():
        if not (found.is_bundle or is_manifest_type(descriptor.media_type)):
            continue  # image-spec allows index entries of any media type; only manifests are checked
        checked.artifacts += name is not None
        roots.append(descriptor)
        if name is None:
            node = graph.node(descriptor)
            abouts.append((descriptor.digest, node.subject if node is not None else None))
    manifests: set[Digest] = set()
    for one, node in closure(roots, graph.node):
        manifests.add(one.digest)
        needed[one.digest] = one
        needed.update((blob.digest, blob) for blob in (node.blobs if node is not None else ()))
    omitted = {str(digest) for digest in (*found.omitted, *_unwanted(found))}
    for text in sorted(graph.missing.keys() - omitted):
        checked.add("missing", text, "a manifest or the index refers to it")
    for text, error in graph.wrong.items():
        checked.add("wrong", text, error.message)
    if found.record is not None:
        _check_rest(found, needed, manifests, abouts, checked)
    return needed


def _unwanted(found: Opened) -> dict[Digest, Descriptor]:
    """Return the manifests that the bundle may and does omit: an index refers to them, and only other platforms are wanted."""
    unwanted = {digest: child for one in found.partial for digest, child in one.unwanted(found.contents).items()}
    return {digest: one for digest, one in unwanted.items() if found.omitted_manifests.get(digest) == one.size}


def _check_rest(
    found: Opened,
    needed: dict[Digest, Descriptor],
    manifests: set[Digest],
    abouts: list[tuple[Digest, str | None]],
    checked: CheckResult,
) -> None:
    """Check the unnamed manifests of a bundle, which must be referrers, and the blobs that a delta omits.

    Args:
        needed: the manifests and blobs that are reachable from the index.
        manifests: the digests of the manifests in `needed`.
        abouts: the digest and the subject of every unnamed manifest.
    """
    for digest, subject in abouts:
        if subject is None or Digest.parse(subject) not in needed:
            checked.add("extra", digest, "it has no name, and its subject is not in the bundle")
    for digest, size in found.omitted.items():
        if digest not in needed:
            checked.add("extra", digest, f"`{RECORD_FILE}` lists it as omitted, but no manifest refers to it")
        elif digest in manifests:
            checked.add("wrong", digest, f"`{RECORD_FILE}` lists it as omitted, but a delta never omits manifests")
        elif needed[digest].size != size:
            checked.add("wrong", digest, f"`{RECORD_FILE}` says {size} bytes, its descriptor says {needed[digest].size}")
    unwanted = _unwanted(found)
    for digest in found.omitted_manifests:
        if digest not in unwanted:
            checked.add("wrong", digest, f"`{RECORD_FILE}` lists it as a manifest for an unwanted platform, but the lock file does not")
    for digest in (*found.omitted, *found.omitted_manifests):
        if found.store.stamp(digest) is not None:
            checked.add("extra", digest, f"it is present, but `{RECORD_FILE}` lists it as omitted")


def _check_lock(found: Opened, checked: CheckResult) -> None:
    """Compare the manifests and blobs of each artifact with the lock file."""
    named = NamedCount(found.path)
    for entry in found.lock.entries if found.lock is not None else ():
        artifact = entry.artifact or entry.manifest
        reached: dict[Digest, ManifestNode | None] = {}
        for one, reached_node in closure([entry.manifest], found.contents.graph.node):
            named.add(1)
            reached[one.digest] = reached_node
        node = reached.get(artifact.digest)
        if reached[entry.digest] is None or (node is None and artifact.digest in reached):
            continue  # the manifest is missing or wrong, which `_check_graph` has reported
        if node is None or _facts(node.descriptor) != _facts(artifact):
            checked.add("wrong", entry.reference, f"its index does not contain the locked manifest `{artifact.digest}`")
        elif list(map(_facts, node.blobs)) != list(map(_facts, entry.blobs())):
            checked.add("wrong", entry.reference, "its blobs differ from those in the lock file")
    for root in found.roots:
        index = found.contents.graph.node(root.manifest) if root.children else None
        there = {_facts(child) for child in index.children} if index is not None else set()
        for child in root.children or () if index is not None else ():
            if _facts(child) not in there:
                checked.add("wrong", root.reference, f"its index does not contain the locked manifest `{child.digest}`")


def _facts(descriptor: Descriptor) -> tuple[Digest, int, str]:
    return descriptor.digest, descriptor.size, descriptor.media_type.lower()


def _check_blobs(
    found: Opened,
    needed: dict[Digest, Descriptor],
    checked: CheckResult,
    budget: Callable[[], None],
    progress: Progress,
    *,
    refuses_extra: bool = True,
    reads: bool = True,
) -> None:
    present = [one for one in needed.values() if found.store.stamp(one.digest) is not None]
    manifests = found.contents.manifests  # hash a cached manifest again only if its size is wrong
    unread = [one for one in present if (cached := manifests.cached(one.digest)) is None or cached.descriptor.size != one.size]
    reported = {one.name for one in checked.findings}

    def check(one: Descriptor) -> str | None:
        budget()
        try:
            return _mismatch(found, one, budget, progress)
        finally:
            steps.advance()

    with progress.steps("checking", len(unread), "blobs") as steps, threads.pool(_WORKERS) as pool:
        for one, reason in zip(unread, pool.map(check, unread), strict=True) if reads else ():
            if reason is not None and str(one.digest) not in reported:
                checked.add("wrong", one.digest, reason)
    checked.blobs, checked.size = len(present), sum(one.size for one in present)
    if refuses_extra:
        for digest in stored_blobs(found):
            if digest not in needed:
                checked.add("extra", digest, "nothing refers to it")


def _mismatch(found: Opened, one: Descriptor, budget: Callable[[], None], progress: Progress) -> str | None:
    verified = Verified(one)
    try:
        with transferring(progress, str(one.digest), one.size) as transfer, found.store.extent(one.digest) as extent:
            for piece in extent.pieces():
                budget()
                verified.update(piece)
                transfer.held(verified.held)
        verified.check()
    except IntegrityError as error:
        return error.message
    return None


def _check_base(found: Opened, base: Opened, checked: CheckResult) -> None:
    """Check that `base` is the base bundle of the delta, and that `base` has every omitted blob."""
    record = found.record
    if record is None or record.base is None:
        checked.add("wrong", found.path, "it is not a delta, so it has no base bundle")
        return
    if not isinstance(base.store, ReadonlyTar) or archive_digest(base.store) != record.base.digest:
        checked.add("wrong", base.path, f"it is not the base bundle of `{found.path}`, which has the digest `{record.base.digest}`")
        return
    base_omitted = set(base.omitted)
    for digest in found.omitted:
        if digest not in base_omitted and base.store.stamp(digest) is None:
            checked.add("missing", digest, f"the delta omits it, and the base bundle `{base.path}` does not have it either")
