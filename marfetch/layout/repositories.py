"""Group the content of a layout by repository, for `serve` and for bundles.

A layout has names, manifests and blobs, but no repositories. The names in `index.json` assign each manifest and its content to a
repository; a referrer belongs to the repositories of its subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from ..content import BlobReader
from ..errors import Error, IntegrityError, NotFoundError
from ..oci import Descriptor, Digest, Index, Manifest
from ..reference import MAX_REPOSITORY_LENGTH, OFFICIAL_HOSTS, Host, Reference, is_tag
from .blobs import BlobStore, not_there, open_range
from .graph import Graph, ManifestNode, Manifests, NamedCount, closure, is_manifest_type

_SHOWN: Final = 5
"""Maximum number of digests in a message."""
MAX_WARNINGS: Final = 1_000
"""Maximum number of warnings about one layout. Further warnings are only counted."""


@dataclass(slots=True)
class LayoutRepository:
    """One repository of a layout. Manifests, blobs and referrers are keyed by digest, as text.

    Attributes:
        tags: tag → manifest, in the order of the distribution specification: lexical and case-insensitive.
        manifests: all manifests that the tags lead to, and their referrers.
        blobs: the blobs of these manifests; some may be missing from the layout.
        referrers: digest of the subject → its referrers.
    """

    name: str
    tags: dict[str, Descriptor] = field(default_factory=dict)
    manifests: dict[str, Descriptor] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)
    referrers: dict[str, list[Descriptor]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of a layout when it was read.

    Attributes:
        repositories: name → repository, in the order of the catalog.
        missing: digests of missing manifests and blobs.
        graph: the graph of its manifests.
    """

    state: object
    repositories: dict[str, LayoutRepository]
    missing: frozenset[str]
    graph: Graph


class Contents:
    """The repositories of a layout. They are read again when the index changes.

    Args:
        host: use only names with this host; None: use all names, and ignore their hosts.
        name: the repository for names that are only a tag, and for manifests that no name leads to; None: ignore both.
        warn: reports missing, corrupted and skipped content.

    Attributes:
        graph: the graph that the next `load` uses; manifests that are already in it are not read again.
        omitted: digests of manifests that may be missing without a warning.
    """

    def __init__(
        self, store: BlobStore, *, host: Host | None = None, name: str | None = None, warn: Callable[[str], None] | None = None
    ) -> None:
        self.store = store
        self.manifests = Manifests(store)
        self.graph = Graph(store, self.manifests)
        self.omitted: frozenset[str] = frozenset()
        self._host = host
        self._name = name
        self._warn = warn or (lambda _: None)
        self._snapshot: Snapshot | None = None
        self._failed: object = None

    @property
    def is_current(self) -> bool:
        """Return whether the index is unchanged since it was read."""
        if self._snapshot is None:
            return False
        with suppress(Error):
            return self.store.state() in (self._snapshot.state, self._failed)
        return True  # the index is temporarily unreadable: keep the old content

    def current(self) -> Snapshot:
        """Return the current content; if the index is unreadable, the previous content."""
        if self._snapshot is None or not self.is_current:
            try:
                self.load(strict=False)
            except Error as error:
                if self._snapshot is None:
                    raise
                self._warn(f"still serving the previous content of `{self.store.root}`: {error.message}")
                with suppress(Error):
                    self._failed = self.store.state()
        assert self._snapshot is not None, "`load` sets the snapshot or raises"
        return self._snapshot

    def load(self, *, strict: bool = True) -> Snapshot:
        """Read the index and the manifests, and check the sizes of all blobs.

        Args:
            strict: raise for corrupted content; otherwise skip it with a warning.

        Raises:
            IntegrityError: `malformed`, `digest-mismatch`, `size-mismatch`, with the digests of the corrupted content.
            PolicyError: `limit-passed`.
            StorageError: the index or a blob cannot be read.
        """
        graph, self.graph = self.graph, Graph(self.store, self.manifests)
        reading = _Reading(self.store, graph, self._host, self._name, self._warn)
        self._snapshot = reading.snapshot(strict=strict, omitted=self.omitted)
        return self._snapshot

    def look_again(self, digest: str) -> bool:
        """Return whether missing content has been added. If so, the next request reads the layout again."""
        if self._snapshot is None or digest not in self._snapshot.missing or self.store.stamp(Digest.parse(digest)) is None:
            return False
        self._snapshot = None
        return True

    # -- source

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        repository = self._repository(reference)
        found = repository.tags.get(reference.tag) if reference.tag else repository.manifests.get(str(reference.digest))
        if found is None:
            code = "tag-not-found" if reference.tag else "manifest-not-found"
            raise NotFoundError(f"`{reference}` is not in `{self.store.root}`", code=code, reference=str(reference))
        if reference.digest is not None and found.digest != reference.digest:
            raise IntegrityError(
                f"the tag of `{reference}` points to `{found.digest}` in `{self.store.root}`",
                code="tag-moved",
                expected=str(reference.digest),
                actual=str(found.digest),
                reference=str(reference),
            )
        return None if known is not None and known.digest == found.digest else self.manifests.read(found)

    def blob(self, reference: Reference, descriptor: Descriptor, heartbeat: object = None) -> BlobReader:  # noqa: ARG002 - required by the protocol
        if str(descriptor.digest) not in self._repository(reference).blobs:
            raise not_there(descriptor.digest, self.store.root)
        return partial(open_range, self.store, descriptor.digest)

    def tags(self, reference: Reference) -> list[str]:
        return list(self._repository(reference).tags)

    def referrers(self, reference: Reference, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        found = self._repository(reference).referrers.get(str(digest), [])
        return [one for one in found if artifact_type in (None, one.artifact_type)]

    def repositories(self) -> list[str]:
        return list(self.current().repositories)

    def _repository(self, reference: Reference) -> LayoutRepository:
        found = self.current().repositories.get(reference.repository)
        if found is None:
            raise NotFoundError(
                f"`{self.store.root}` has no artifact of `{reference.repository}`", code="repository-not-found", reference=str(reference)
            )
        return found


class _Reading:
    """Reads the index and manifests of a layout once, and groups them by repository."""

    def __init__(self, store: BlobStore, graph: Graph, host: Host | None, name: str | None, warn: Callable[[str], None]) -> None:
        self._store = store
        self._host = host
        self._name = name
        self._warn_all = warn
        self._warnings = 0
        self._graph = graph
        self._named = NamedCount(store.root)
        self._sizes: dict[tuple[str, Digest], int] = {}
        self._texts: dict[Digest, tuple[str, list[tuple[str, Descriptor]]]] = {}
        self._repositories: dict[str, LayoutRepository] = {}
        self._unnamed: list[Descriptor] = []
        self._about: dict[str, list[ManifestNode]] = {}
        self._placed: set[Digest] = set()
        self._tagged: dict[tuple[str, str], tuple[str, Descriptor]] = {}
        self._untagged: list[tuple[str, Descriptor]] = []

    def snapshot(self, *, strict: bool, omitted: frozenset[str]) -> Snapshot:
        state = self._store.state()
        roots = [(name, one) for name, one in self._store.entries() if is_manifest_type(one.media_type)]
        for name, one in roots:
            self._place(name, one)
        gone = [str(one.digest) for _, one in roots if self._graph.node(one) is None and str(one.digest) in self._graph.missing]
        if strict and gone:
            raise IntegrityError(
                f"the layout `{self._store.root}` is broken: `index.json` names missing manifests: {_listed(gone)}",
                code="malformed",
                hint=_HINT,
                digests=gone,
                path=str(self._store.root),
            )
        for one in self._unnamed:
            node = self._graph.node(one)
            if node is not None and node.subject is not None:
                self._about.setdefault(node.subject, []).append(node)
        for (repository, tag), (_, one) in self._tagged.items():
            self._put(repository, tag, one)
        for repository, one in self._untagged:
            self._put(repository, None, one)
        self._put_rest()
        self._tell(strict=strict, omitted=omitted)
        for found in self._repositories.values():
            found.tags = dict(sorted(found.tags.items(), key=lambda item: lexical(item[0])))
        return Snapshot(state, dict(sorted(self._repositories.items())), frozenset(self._graph.missing), self._graph)

    def _warn(self, text: str) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            self._warn_all(text)

    def _place(self, name: str | None, one: Descriptor) -> None:
        """Assign an entry to the repository and tag of its name."""
        reference = self._reference(name) if name is not None else None
        if reference is None:
            self._unnamed.append(one)
        elif self._host is not None and reference.host != self._host:
            pass
        elif reference.tag is None:
            self._untagged.append((reference.repository, one))
        else:
            self._tag((reference.repository, reference.tag), str(reference.host or ""), one)

    def _tag(self, key: tuple[str, str], host: str, one: Descriptor) -> None:
        before = self._tagged.get(key)
        if before is not None and before[1].digest != one.digest:
            shown = f"`{key[0]}:{key[1]}` names two manifests, `{before[1].digest}` and `{one.digest}`"
            if before[0] == host:
                self._graph.wrong[str(one.digest)] = IntegrityError(shown, code="malformed")
            # Two registries use this name for different manifests: prefer the official registry, then the first entry.
            first = min(before[0], host, key=lambda each: OFFICIAL_HOSTS.index(each) if each in OFFICIAL_HOSTS else len(OFFICIAL_HOSTS))
            if before[0] != host:
                self._warn(f"{shown}, from `{before[0]}` and `{host}`; serving the one from `{first}`")
            if first == before[0]:
                self._untagged.append((key[0], one))
                return
            self._untagged.append((key[0], before[1]))
        self._tagged[key] = host, one

    def _reference(self, name: str) -> Reference | None:
        if is_tag(name):
            return Reference(self._name, self._host, name) if self._name else None
        try:
            return Reference.parse(name)
        except Error as error:
            self._warn(f"skipped a name in `{self._store.root}`: {error.message}")
            return None

    def _put(self, name: str, tag: str | None, one: Descriptor) -> None:
        node = self._graph.node(one)
        if node is None:
            return
        repository = self._repositories.setdefault(name, LayoutRepository(name))
        if tag is not None:
            repository.tags[tag] = node.descriptor
        size = self._sizes.get((name, one.digest))
        if size is None:
            size = self._sizes[name, one.digest] = self._put_closure(repository, one)
        else:
            self._named.add(size)

    def _put_closure(self, repository: LayoutRepository, root: Descriptor) -> int:
        """Add a manifest and everything that it leads to; return the number of manifests and blobs."""
        size = 0
        for _, found in closure([root], self._graph.node, lambda digest: [one.descriptor for one in self._about.get(str(digest), [])]):
            if found is None:
                continue
            size += 1 + len(found.blobs)
            self._named.add(1 + len(found.blobs))
            digest, blobs = self._keys(found)
            if digest in repository.manifests:
                continue
            repository.manifests[digest] = found.descriptor
            self._placed.add(found.descriptor.digest)
            repository.blobs.update(blobs)
            if found.subject is not None:
                repository.referrers.setdefault(found.subject, []).append(found.referrer)
        return size

    def _keys(self, node: ManifestNode) -> tuple[str, list[tuple[str, Descriptor]]]:
        """Return the digest of a manifest and its blobs by digest. All repositories share these strings, to save memory."""
        own = node.descriptor.digest
        if own not in self._texts:
            self._texts[own] = str(own), [(str(blob.digest), blob) for blob in node.blobs]
        return self._texts[own]

    def _put_rest(self) -> None:
        """Add the entries that no name leads to. Entries without a subject come first: they may be the subjects of others."""
        if self._name is None:
            return
        for about in (False, True):
            for one in self._unnamed:
                node = self._graph.node(one)
                if node is not None and one.digest not in self._placed and about >= (node.subject is not None):
                    self._put(self._name, None, one)

    def _tell(self, *, strict: bool, omitted: frozenset[str]) -> None:
        graph = self._graph
        if graph.wrong and strict:
            first = next(iter(graph.wrong.values()))
            if len(graph.wrong) == 1:
                raise IntegrityError(
                    f"the layout `{self._store.root}` is broken: {first.message}", code=first.code, hint=_HINT, digests=list(graph.wrong)
                ) from first
            raise IntegrityError(
                f"the layout `{self._store.root}` is broken in {len(graph.wrong)} places: {first.message}; wrong: {_listed(graph.wrong)}",
                code=first.code if isinstance(first, IntegrityError) else "malformed",
                hint=_HINT,
                digests=list(graph.wrong),
            ) from first
        for error in graph.wrong.values():
            self._warn(f"skipped in `{self._store.root}`: {error.message}")
        missing = [digest for digest in graph.missing if digest not in omitted]
        if missing:
            self._warn(f"`{self._store.root}` lacks {len(missing)} of the manifests and blobs it names: {_listed(missing)}")
        if self._warnings > MAX_WARNINGS:
            self._warn_all(f"`{self._store.root}` has {self._warnings - MAX_WARNINGS} more problems")


_HINT: Final = "create the layout again from its source; if it is a cache, run `marfetch cache verify --fix`"


def lexical(name: str) -> tuple[str, str]:
    """Return the sort key of a tag (distribution-spec, "Listing Tags": lexical, "i.e. case-insensitive alphanumeric order")."""
    return name.lower(), name


def repository_name(path: Path) -> str:
    """Turn the name of a directory or file into a valid repository name."""
    stem = path.name.removesuffix(".tar").lower()
    parts = re.sub(r"[^a-z0-9]*[^a-z0-9._-]+[^a-z0-9]*", "-", stem)
    return re.sub(r"[._-]{2,}", "-", parts).strip("._-")[:MAX_REPOSITORY_LENGTH].rstrip("._-") or "layout"


def _listed(digests: Iterable[str]) -> str:
    names = list(digests)
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
