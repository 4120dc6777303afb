"""Check a bundle offline: find what is missing, extra or wrong.

A bundle is written in one way only, so whatever differs from that way was changed by something else: a byte of a blob, of the page or
of the padding between two files, an entry that was added, taken away, doubled or put elsewhere.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from ..content import Verified
from ..errors import InputError, IntegrityError
from ..files import storage_error
from ..layout.graph import closure, is_manifest_type
from ..layout.readonly import ReadonlyTar
from ..oci import Descriptor, Digest
from .format import FIRST, LOCK_FILE, MAX_RECORD_SIZE, RECORD_FILE, Opened, archive_digest, ending, header, index_bytes, ref_name

# -- findings


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in a bundle.

    Attributes:
        name: a digest, a file of the archive, or a reference.
    """

    sort: Literal["missing", "extra", "wrong"]
    name: str
    reason: str


@dataclass(slots=True)
class CheckResult:
    """The result of a check.

    Attributes:
        findings: the problems; empty for an intact bundle.
        artifacts, blobs, size: what was looked at; bytes.
    """

    findings: list[Problem] = field(default_factory=list)
    artifacts: int = 0
    blobs: int = 0
    size: int = 0

    def add(self, sort: Literal["missing", "extra", "wrong"], name: object, reason: str) -> None:
        self.findings.append(Problem(sort, str(name), reason))


# -- which files a bundle has, and how its archive is written: what has no place in it, stands elsewhere or is written otherwise


def check_files(found: Opened, checked: CheckResult) -> None:
    """Whether the files beside the blobs are those that the record names, and no others."""
    record = found.record
    if record is None:
        checked.add("missing", RECORD_FILE, "every bundle has it" if found.is_bundle else "this is no bundle of marfetch")
    wanted = set(FIRST) - {RECORD_FILE}
    for name in sorted(set(record.files if record is not None else ()) - wanted):
        checked.add("extra", name, f"`{RECORD_FILE}` names it, and no bundle has it")
    for name in sorted(wanted):
        data = found.store.document(name, MAX_RECORD_SIZE)
        if data is None:
            checked.add("missing", name, "every bundle has it")
        elif record is None:
            if name == LOCK_FILE and found.unread is not None:
                checked.add("wrong", name, found.unread.message)
        elif name not in record.files:
            checked.add("wrong", RECORD_FILE, f"it does not say what `{name}` is")
        elif Digest.of(data) != record.files[name]:
            checked.add("wrong", name, f"its digest is `{Digest.of(data)}`, not the `{record.files[name]}` of `{RECORD_FILE}`")
    if found.is_bundle:
        for name in _names(found):
            if name not in FIRST and blob_of(name) is None:
                checked.add("extra", name, "no bundle has such a file")


def held(found: Opened) -> Iterator[Digest]:
    """The blobs that are there, whether anything names them or not."""
    for name in _names(found):
        digest = blob_of(name)
        if digest is not None:
            yield digest


def _names(found: Opened) -> Iterator[str]:
    """Everything in an archive or a folder that is no directory in which blobs may lie."""
    if isinstance(found.store, ReadonlyTar):
        yield from found.store.members
        return
    for path in _below(found.path):
        if path.name == "blobs" and path.is_dir():
            for algorithm in _below(path):
                if algorithm.is_dir():
                    yield from (f"blobs/{algorithm.name}/{blob.name}" for blob in _below(algorithm))
                else:
                    yield f"blobs/{algorithm.name}"
        else:
            yield f"{path.name}/" if path.is_dir() else path.name


def _below(path: Path) -> list[Path]:
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


def check_form(store: ReadonlyTar, checked: CheckResult, budget: Callable[[], None]) -> None:
    """Whether the archive is, byte for byte, what `form.write_archive` makes of its files; each member is judged by itself."""
    known = [name for name in store.members if name in FIRST or blob_of(name) is not None]
    for name in _out_of_order(known):
        checked.add("wrong", name, "it stands elsewhere in the archive than it belongs")
    for directory in store.directories:
        checked.add("extra", f"{directory.name}/", "no bundle has a directory")
    raw = store.raw()
    for name, member in store.members.items():
        budget()
        if raw.read(member.begin, member.offset - member.begin) != header(name, member.size):
            checked.add("wrong", name, "its header in the archive is not as marfetch writes it")
        end = member.offset + member.size
        if raw.read(end, member.end - end).strip(b"\x00"):
            checked.add("wrong", name, "something stands behind it in the archive")
    position = max((one.end for one in (*store.directories, *store.members.values())), default=0)
    if raw.size - position > 1 << 20 or raw.read(position, raw.size - position) != ending(position):
        checked.add("wrong", store.root, "the end of the archive is not as marfetch writes it")


def _out_of_order(names: Sequence[str]) -> list[str]:
    """Return the fewest names whose removal leaves the others in order."""
    places = [(FIRST.index(name) if name in FIRST else len(FIRST), name) for name in names]
    ends: list[int] = []  # of the shortest end of an ordered run of each length, where it stands
    before: list[int | None] = []
    for number, place in enumerate(places):
        length = bisect_left(ends, place, key=lambda one: places[one])
        before.append(ends[length - 1] if length else None)
        ends[length : length + 1] = [number]
    kept: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        kept.add(last)
        last = before[last]
    return [name for number, name in enumerate(names) if number not in kept]


_WORKERS: Final = min(8, os.cpu_count() or 1)


def check_bundle(
    found: Opened, *, base: Opened | None = None, budget: Callable[[], None] = lambda: None, reads_blobs: bool = True
) -> CheckResult:
    """Check a bundle: its form, every digest, its lock, and what a delta leaves out.

    Args:
        base: the bundle that a delta goes on from, to be compared with what the delta says of it.
        reads_blobs: hash them; otherwise blobs only have to be there, with their sizes, for those who hash what they use.
        budget: called now and then; it may raise to give up.

    Raises:
        StorageError: it cannot be read.
    """
    checked = CheckResult()
    check_files(found, checked)
    if found.lock is not None:
        _check_index(found, checked)
    needed = _check_graph(found, checked)
    _check_lock(found, checked)
    _check_blobs(found, needed, checked, budget, reads=reads_blobs)
    if found.is_bundle and isinstance(found.store, ReadonlyTar):
        check_form(found.store, checked, budget)
    if base is not None:
        _check_base(found, base, checked)
    checked.findings.sort(key=lambda one: (one.sort, one.name))
    return checked


def check_layout(found: Opened, *, budget: Callable[[], None] = lambda: None) -> CheckResult:
    """Check a layout that is no bundle: everything that its index leads to is there, and is what its digest says."""
    checked = CheckResult()
    needed = _check_graph(found, checked)
    _check_blobs(found, needed, checked, budget, refuses_more=False)
    return checked


def refuse_broken(found: Opened, checked: CheckResult) -> None:
    """Raise unless the bundle is intact.

    Raises:
        IntegrityError: `bundle-broken`, naming what is missing, extra or wrong.
    """
    if not checked.findings:
        return
    first = checked.findings[0]
    more = f" (and {len(checked.findings) - 1} more)" if len(checked.findings) > 1 else ""
    raise IntegrityError(
        f"the bundle `{found.path}` is broken: {first.sort}: `{first.name}`: {first.reason}{more}",
        code="bundle-broken",
        path=str(found.path),
    )


# -- the index


def _check_index(found: Opened, checked: CheckResult) -> None:
    assert found.lock is not None, "asked for bundles with a lock only"
    wanted = {ref_name(entry): (entry, entry.manifest) for entry in found.lock.entries}
    names: dict[str, Descriptor] = {}
    for name, descriptor in found.store.entries():
        if name is None:
            continue
        if name in names:
            checked.add("extra", name, "`index.json` has this name twice")
        names[name] = descriptor
    for name in sorted(wanted.keys() - names.keys()):
        checked.add("missing", name, "the lock names it, `index.json` does not")
    for name in sorted(names.keys() - wanted.keys()):
        checked.add("extra", name, "`index.json` names it, the lock does not")
    for name in sorted(names.keys() & wanted.keys()):
        entry, manifest = wanted[name]
        if _facts(names[name]) != _facts(manifest):
            checked.add("wrong", name, f"`index.json` says `{names[name].digest}`, the lock `{entry.digest}`")
    unnamed = {one.digest for name, one in found.store.entries() if name is None}
    for entry in found.lock.entries:
        for one in entry.referrers:
            if one.digest not in unnamed and all(one.digest != descriptor.digest for descriptor in names.values()):
                checked.add("missing", one.digest, f"the lock says that it refers to `{entry.reference}`")
    index = found.store.document("index.json", MAX_RECORD_SIZE)
    if index != index_bytes(found.store.entries()):
        checked.add("wrong", "index.json", "it is not written as marfetch writes it")


# -- what the index leads to


def _check_graph(found: Opened, checked: CheckResult) -> dict[Digest, Descriptor]:
    """Follow the index; gives everything that has to be there, manifests and blobs."""
    graph = found.contents.graph
    needed: dict[Digest, Descriptor] = {}
    abouts: list[tuple[Digest, str | None]] = []
    roots: list[Descriptor] = []
    for name, descriptor in found.store.entries():
        if not (found.is_bundle or is_manifest_type(descriptor.media_type)):
            continue  # the specification lets others name whatever they like; nothing here looks at it
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
    omitted = {str(digest) for digest in found.omitted}
    for text in sorted(graph.missing.keys() - omitted):
        checked.add("missing", text, "a manifest or the index names it")
    for text, error in graph.wrong.items():
        checked.add("wrong", text, error.message)
    if found.record is not None:
        _check_rest(found, needed, manifests, abouts, checked)
    return needed


def _check_rest(
    found: Opened,
    needed: dict[Digest, Descriptor],
    manifests: set[Digest],
    abouts: list[tuple[Digest, str | None]],
    checked: CheckResult,
) -> None:
    """What a bundle has without a name, and what a delta leaves out."""
    for digest, subject in abouts:
        if subject is None or Digest.parse(subject) not in needed:
            checked.add("extra", digest, "it has no name, and refers to nothing in the bundle")
    for digest, size in found.omitted.items():
        if digest not in needed:
            checked.add("extra", digest, f"`{RECORD_FILE}` says that it is left out, and nothing names it")
        elif digest in manifests:
            checked.add("wrong", digest, f"`{RECORD_FILE}` says that it is left out, and manifests never are")
        elif needed[digest].size != size:
            checked.add("wrong", digest, f"`{RECORD_FILE}` says {size} bytes, its descriptor {needed[digest].size}")
        if found.store.stamp(digest) is not None:
            checked.add("extra", digest, f"it is there, and `{RECORD_FILE}` says that it is left out")


def _check_lock(found: Opened, checked: CheckResult) -> None:
    """Whether artifacts consist of what the lock says."""
    for entry in found.lock.entries if found.lock is not None else ():
        artifact = entry.artifact or entry.manifest
        reached = {one.digest: node for one, node in closure([entry.manifest], found.contents.graph.node)}
        node = reached.get(artifact.digest)
        if reached[entry.digest] is None or (node is None and artifact.digest in reached):
            continue  # missing or wrong, and told
        if node is None or _facts(node.descriptor) != _facts(artifact):
            checked.add("wrong", entry.reference, f"it does not lead to `{artifact.digest}` as the lock says it")
        elif list(map(_facts, node.blobs)) != list(map(_facts, entry.blobs())):
            checked.add("wrong", entry.reference, "it does not consist of what the lock says")


def _facts(descriptor: Descriptor) -> tuple[Digest, int, str]:
    return descriptor.digest, descriptor.size, descriptor.media_type.lower()


def _check_blobs(
    found: Opened,
    needed: dict[Digest, Descriptor],
    checked: CheckResult,
    budget: Callable[[], None],
    *,
    refuses_more: bool = True,
    reads: bool = True,
) -> None:
    there = [one for one in needed.values() if found.store.stamp(one.digest) is not None]
    manifests = found.contents.manifests  # hashed already, where they are as long as their descriptors say
    unread = [one for one in there if (kept := manifests.cached(one.digest)) is None or kept.descriptor.size != one.size]
    told = {one.name for one in checked.findings}

    def look(one: Descriptor) -> str | None:
        budget()
        return _wrong(found, one)

    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="marfetch-check") as pool:
        for one, reason in zip(unread, pool.map(look, unread), strict=True) if reads else ():
            if reason is not None and str(one.digest) not in told:
                checked.add("wrong", one.digest, reason)
    checked.blobs, checked.size = len(there), sum(one.size for one in there)
    if refuses_more:
        for digest in held(found):
            if digest not in needed:
                checked.add("extra", digest, "nothing leads to it")


def _wrong(found: Opened, one: Descriptor) -> str | None:
    verified = Verified(one)
    try:
        with found.store.extent(one.digest) as extent:
            for piece in extent.pieces():
                verified.update(piece)
        verified.check()
    except IntegrityError as error:
        return error.message
    return None


def _check_base(found: Opened, base: Opened, checked: CheckResult) -> None:
    """Check that a delta is based on this bundle."""
    record = found.record
    if record is None or record.base is None:
        checked.add("wrong", found.path, "it goes on from no other bundle")
        return
    if not isinstance(base.store, ReadonlyTar) or archive_digest(base.store) != record.base.digest:
        checked.add("wrong", base.path, f"it is not the bundle `{record.base.digest}` that `{found.path}` goes on from")
        return
    has = set(base.omitted)
    for digest in found.omitted:
        if digest not in has and base.store.stamp(digest) is None:
            checked.add("missing", digest, f"it is left out, and `{base.path}` does not have it either")
