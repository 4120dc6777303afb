"""Targets of `bundle load`: a registry or a folder. Both skip existing content, and write a manifest after the content it refers to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from ..artifact.kinds import kind_of
from ..content import Progress, Transfer, copy, transferring
from ..endpoint import Endpoint
from ..errors import Error, InputError, RemoteError
from ..layout.blobs import Entry
from ..layout.graph import ManifestNode
from ..layout.layout import Layout
from ..layout.repositories import Contents
from ..oci import Descriptor, Digest, Index, Manifest
from ..reference import Host, Reference
from ..remote.push import Pushing, refuse_name
from ..remote.registry import Registry
from .format import CARRIED
from .jobs import Job, job_nodes, node_blobs

Outcome: TypeAlias = Literal["pushed", "unchanged", "replaced", "failed", "would-push", "would-replace"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of a job.

    Attributes:
        reference: the pinned reference at the target.
        outcome: the result. `replaced` means that a tag pointed to another manifest before.
        blobs: the number of blobs that were written.
        size: the number of bytes that were written.
        error: why the job failed; None if it did not.
        kind: the kind of the artifact, such as `chart`; None if it is unknown or not needed.
        warning: a remark on content that the registry does not have although the job succeeded.
    """

    reference: str
    outcome: Outcome
    blobs: int = 0
    size: int = 0
    error: Error | None = None
    kind: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class To:
    """The value of `--to`: a registry with an optional prefix, or a folder.

    Attributes:
        text: the value as typed.
        endpoint: the registry; None for a folder.
        prefix: the prefix of the repositories at the registry; may be empty.
    """

    text: str
    endpoint: Endpoint | None
    prefix: str = ""

    @classmethod
    def parse(cls, text: str, *, plain_http: bool = False, data_hosts: Sequence[str] = ()) -> To:
        """Parse `HOST[:PORT][/PREFIX]` or a folder. A host contains `.` or `:` or is `localhost`, as in references.

        Raises:
            InputError: `reference-invalid`, `usage`.
            PolicyError: `push-refused`, `address-refused`.
        """
        scheme, mark, rest = text.partition("://")
        if mark and scheme.lower() in ("http", "https", "oci", "mar"):
            _refuse_official(rest.partition("/")[0].rpartition("@")[2])
            raise InputError(
                f"`--to` takes `HOST[:PORT][/PREFIX]` or a folder, not `{text[:200]}`", code="usage", hint=f"write `--to {rest[:200]}`"
            )
        first, _, prefix = text.partition("/")
        is_path = text.startswith((".", "/", "~")) or "\\" in text or not text
        if is_path or not (":" in first or "." in first or first.lower() == "localhost"):
            if not text:
                raise InputError("`--to` is empty", code="usage", hint="write `HOST[:PORT][/PREFIX]` or a folder")
            return cls(text, None)
        host = Host.parse(first)
        for one in (str(host), *data_hosts):
            _refuse_official(one)
        if prefix:
            Reference.parse(f"{host}/{prefix.removesuffix('/')}/x")
        endpoint = Endpoint.parse(f"{'http' if plain_http else 'https'}://{host}", tuple(data_hosts))
        return cls(text, endpoint, prefix.removesuffix("/"))

    @property
    def folder(self) -> Path:
        """The path of the folder, with `~` expanded.

        Raises:
            InputError: `usage`: the path names the home directory of an unknown user.
        """
        try:
            return Path(self.text).expanduser()
        except RuntimeError as error:
            raise InputError(f"`--to {self.text[:200]}` names an unknown user", code="usage", hint="write the full path") from error

    def repository(self, name: str) -> str:
        """Return the name of a repository at the target."""
        return f"{self.prefix}/{name}" if self.prefix else name


def _refuse_official(text: str) -> None:
    """Raise if a host of the target belongs to MAR."""
    refuse_name(text.strip().removeprefix("*.").partition(":")[0].rstrip(".").lower())


class LoadTarget(Protocol):
    """A registry or folder that a bundle is loaded into. Its methods may be called from any thread."""

    def missing_blobs(self, repository: str, blobs: Iterable[Digest]) -> list[Digest]:
        """Return the blobs that the repository does not have."""

    def load(self, contents: Contents, job: Job) -> Loaded:
        """Run a job."""


class _Watched:
    """A progress display that calls `check` for every chunk of a transfer. `check` may raise to cancel."""

    def __init__(self, progress: Progress, check: Callable[[], None]) -> None:
        self._progress = progress
        self._check = check
        self.note, self.warn, self.steps = progress.note, progress.warn, progress.steps

    def begin(self, name: str, total: int) -> Transfer:
        return _WatchedTransfer(self._progress.begin(name, total), self._check)


class _WatchedTransfer:
    def __init__(self, transfer: Transfer, check: Callable[[], None]) -> None:
        self._transfer = transfer
        self._check = check
        self.end = transfer.end

    def held(self, size: int) -> None:
        self._check()
        self._transfer.held(size)


@dataclass(frozen=True, slots=True)
class Upload:
    """A job with its manifests, which come from a bundle or from another registry.

    Attributes:
        nodes: the manifests; children come before their index, and referrers after their subject.
        referrers: digest of a subject, as text → its referrers.
        kind: the kind of the artifact; None if it is unknown.
    """

    job: Job
    nodes: Sequence[ManifestNode]
    referrers: Mapping[str, Sequence[Descriptor]]
    kind: str | None


@dataclass(frozen=True, slots=True)
class Lacking:
    """The content of an upload that a registry lacks.

    Attributes:
        nodes: the manifests that it lacks, in the order of the upload.
        blobs: the config and layer blobs that it lacks, each once.
        tags: the tags that it lacks, or that point to another manifest.
        is_replaced: whether one of the tags points to another manifest.
        is_refused: whether it is as after an upload whose index the registry refused: nothing but the index is lacking, and the tags
            point to the first platform.
    """

    nodes: Sequence[ManifestNode]
    blobs: Sequence[Descriptor]
    tags: Sequence[str]
    is_replaced: bool
    is_refused: bool = False


class RegistryTarget:
    """A registry, with a prefix for its repositories."""

    def __init__(self, to: To, registry: Registry, progress: Progress) -> None:
        self._to = to
        self._pushing = Pushing(registry)
        self._host = registry.endpoint.registry.host
        self._progress = progress
        self._origins: dict[Digest, str] = {}
        """Digest of a blob → a repository of the target that has it, from which other repositories can mount it."""

    def result(self, upload: Upload, lacking: Lacking, *, is_listed: bool = False) -> Loaded:
        """Return the result of an upload.

        Args:
            is_listed: whether a list of referrers was changed.
        """
        job = upload.job
        reference = Reference(self._to.repository(job.repository), self._host, job.tags[0] if job.tags else None, job.digest)
        outcome: Outcome = "replaced" if lacking.is_replaced else "pushed" if lacking.nodes or lacking.tags or is_listed else "unchanged"
        size = sum(blob.size for blob in lacking.blobs) + sum(node.descriptor.size for node in lacking.nodes)
        return Loaded(str(reference), outcome, len(lacking.blobs), size, kind=upload.kind)

    def missing_blobs(self, repository: str, blobs: Iterable[Digest]) -> list[Digest]:
        reference = Reference(self._to.repository(repository), self._host)
        missing = []
        for digest in blobs:
            if self._pushing.has_blob(reference, digest):
                self._origins.setdefault(digest, reference.repository)
            else:
                missing.append(digest)
        return missing

    def load(self, contents: Contents, job: Job) -> Loaded:
        snapshot = contents.current()
        repository = snapshot.repositories[job.repository]
        nodes = list(job_nodes(snapshot, repository, str(job.digest)))
        root = contents.manifests.read(repository.manifests[str(job.digest)])
        upload = Upload(job, nodes, repository.referrers, kind_of(root).name if isinstance(root, Manifest) else None)
        lacking = self.lacking(upload)
        for blob in lacking.blobs:
            with contents.store.extent(blob.digest) as extent:
                self.send(job.repository, blob, extent.pieces)
        return self.finish(upload, lacking, contents.manifests.read)

    def lacking(self, upload: Upload) -> Lacking:
        """Return the content that the registry lacks. A registry that has a manifest is taken to have its blobs too."""
        job = upload.job
        target = Reference(self._to.repository(job.repository), self._host)
        before = {tag: self._pushing.digest(replace(target, tag=tag)) for tag in job.tags}
        there = {digest for digest in before.values() if digest is not None}

        def has(digest: Digest) -> bool:
            if job.tags and digest == job.digest == upload.nodes[-1].descriptor.digest:
                return digest in there  # no request needed: if no tag points to it, it is uploaded anyway
            return digest in there or self._pushing.digest(replace(target, digest=digest)) == digest

        nodes = [node for node in upload.nodes if not has(node.descriptor.digest)]
        blobs = {blob.digest: blob for node in nodes for blob in node_blobs(node)}
        missing = [blobs[digest] for digest in self.missing_blobs(job.repository, blobs)]
        tags = [tag for tag, digest in before.items() if digest != job.digest]
        is_refused = not missing and [node.descriptor.digest for node in nodes] == [job.digest] and {*before.values()} <= {job.first}
        return Lacking(nodes, missing, tags, any(before[tag] is not None for tag in tags), is_refused and job.first is not None)

    def foreseen(self, upload: Upload, lacking: Lacking) -> Loaded:
        """Return what `finish` would return, without uploading anything. An index that the registry refused before is refused again."""
        if lacking.is_refused and (first := upload.job.first) is not None:
            upload, lacking = replace(upload, job=replace(upload.job, digest=first)), Lacking((), (), (), is_replaced=False)
        target = Reference(self._to.repository(upload.job.repository), self._host)
        is_listed = not lacking.nodes and any(
            self._pushing.unlisted(target, Digest.parse(subject), entries) for subject, entries in upload.referrers.items()
        )
        return self.result(upload, lacking, is_listed=is_listed)

    def send(self, repository: str, blob: Descriptor, pieces: Callable[[], Iterable[bytes]]) -> None:
        """Upload a blob, or mount it from another repository of the registry.

        Args:
            repository: the repository, without the prefix of the target.
            pieces: returns the chunks of the blob. Each try calls it again.
        """
        target = Reference(self._to.repository(repository), self._host)
        with transferring(self._progress, target.name, blob.size) as transfer:
            self._pushing.blob(target, blob, pieces, transfer, origin=self._origins.get(blob.digest))
        self._origins.setdefault(blob.digest, target.repository)

    def finish(self, upload: Upload, lacking: Lacking, read: Callable[[Descriptor], Manifest | Index]) -> Loaded:
        """Upload manifests, then tags, then lists of referrers if the registry has no referrers API. The blobs must be there.

        Args:
            read: returns the original bytes of a manifest.
        """
        job, last = upload.job, upload.nodes[-1].descriptor
        target = Reference(self._to.repository(job.repository), self._host)
        own = next(node.descriptor for node in upload.nodes if node.descriptor.digest == job.digest)
        refused: Error | None = None
        for node in lacking.nodes:
            one = node.descriptor
            if not (lacking.tags and one.digest == job.digest == last.digest):  # else uploading the tag uploads the same bytes
                refused = self._put(job, replace(target, digest=one.digest), read(one)) or refused
        for tag in lacking.tags:
            refused = refused or self._put(job, replace(target, tag=tag), read(own))
        if refused is not None and job.first is not None:
            upload, lacking = self._first_platform(upload, lacking, job.first, read)
        is_listed = False
        for node in upload.nodes:
            if referrers := upload.referrers.get(str(node.descriptor.digest)):
                is_listed |= self._pushing.referrers(target, node.descriptor.digest, referrers)
        result = self.result(upload, lacking, is_listed=is_listed)
        return replace(result, warning=_refused_index(target, job, refused)) if refused is not None else result

    def _put(self, job: Job, reference: Reference, manifest: Manifest | Index) -> Error | None:
        """Upload a manifest. If the registry refuses a job's index because only some of its platforms are there, return the error."""
        try:
            self._pushing.manifest(reference, manifest)
        except RemoteError as error:
            if not job.carried or manifest.descriptor.digest != job.digest or error.code != "push-failed":
                raise
            return error
        return None

    def _first_platform(
        self, upload: Upload, lacking: Lacking, first: Digest, read: Callable[[Descriptor], Manifest | Index]
    ) -> tuple[Upload, Lacking]:
        """Put the tags of an index on the manifest for its first platform. Return what was uploaded, without the index."""
        job = replace(upload.job, digest=first)
        target = Reference(self._to.repository(job.repository), self._host)
        manifest = read(next(node.descriptor for node in upload.nodes if node.descriptor.digest == first))
        before = {tag: self._pushing.digest(replace(target, tag=tag)) for tag in lacking.tags}
        tags = [tag for tag, digest in before.items() if digest != first]
        for tag in tags:
            self._pushing.manifest(replace(target, tag=tag), manifest)
        nodes = [node for node in lacking.nodes if node.descriptor.digest != upload.job.digest]
        return replace(upload, job=job), Lacking(nodes, lacking.blobs, tags, any(before[tag] is not None for tag in tags))


def _refused_index(target: Reference, job: Job, error: Error) -> str:
    """Return the warning that a registry refused an index, because it has only some of the platforms."""
    tags = " and ".join(f"`{tag}`" for tag in job.tags)
    return (
        f"`{target.host}` refuses the index `{job.digest}` of `{target.repository}`, because only some of its platforms are there;"
        + (f" {tags} {'points' if len(job.tags) == 1 else 'point'} to the first platform, `{job.first}`" if job.tags else " it has no tag")
        + f" ({error.message})"
    )


class FolderTarget:
    """An OCI image layout in a folder. The index keeps the names from the bundle.

    Args:
        check: called regularly; it may raise to cancel the load.
    """

    def __init__(self, layout: Layout, progress: Progress, check: Callable[[], None] = lambda: None) -> None:
        self._layout = layout
        self._progress = _Watched(progress, check)
        self._check = check
        self._entries: dict[Digest, list[Entry]] = {}

    def missing_blobs(self, repository: str, blobs: Iterable[Digest]) -> list[Digest]:  # noqa: ARG002 - the repositories of a layout share its blobs
        return [digest for digest in blobs if self._layout.stamp(digest) is None or not self._digest_matches(digest)]

    def _digest_matches(self, digest: Digest) -> bool:
        self._check()
        return self._layout.digest_matches(digest)

    def _drop_if_corrupted(self, digest: Digest) -> None:
        """Delete a blob if it is corrupted, so that it is written again. Otherwise it would be reused, because `copy` does not hash it."""
        if self._layout.stamp(digest) is not None and not self._digest_matches(digest):
            self._layout.drop(digest, "its content does not match its digest")

    def load(self, contents: Contents, job: Job) -> Loaded:
        snapshot = contents.current()
        repository = snapshot.repositories[job.repository]
        nodes = list(job_nodes(snapshot, repository, str(job.digest)))
        here = Reference(job.repository, Host("bundle"))
        blobs = size = 0
        is_new = is_replaced = False
        for node in nodes:
            one = node.descriptor
            self._drop_if_corrupted(one.digest)
            for blob in node_blobs(node):
                self._drop_if_corrupted(blob.digest)
                if copy(contents, self._layout, here, blob, name=job.repository, progress=self._progress):
                    blobs, size = blobs + 1, size + blob.size
            if self._layout.stamp(one.digest) is None:
                is_new, size = True, size + one.size
            self._layout.add(contents.manifests.read(one))
        for name, one in self._entries_of(contents, job, nodes):
            before = self._layout.names.get(name) if name is not None else one
            is_replaced |= before is not None and before.digest != one.digest
            note = {CARRIED: ",".join(map(str, job.carried))} if job.carried and one.digest == job.digest else {}
            self._layout.names.put(name, replace(one, annotations=note))
        reference = str(Reference(job.repository, None, job.tags[0] if job.tags else None, job.digest))
        return Loaded(reference, "replaced" if is_replaced else "pushed" if is_new or blobs else "unchanged", blobs, size)

    def _entries_of(self, contents: Contents, job: Job, nodes: Sequence[ManifestNode]) -> Iterator[Entry]:
        """Yield the index entries to write for a job: all entries of its own manifest, and unnamed entries of its other manifests."""
        if not self._entries:  # no lock is needed: threads that get here together build equal values
            found: dict[Digest, list[Entry]] = {}
            for entry in contents.store.entries():
                found.setdefault(entry[1].digest, []).append(entry)
            self._entries = found
        yield from self._entries.get(job.digest, ())
        for digest in dict.fromkeys(node.descriptor.digest for node in nodes):
            if digest != job.digest:
                yield from (entry for entry in self._entries.get(digest, ()) if entry[0] is None)
