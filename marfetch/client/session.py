"""A session: the cache, the registry connections and the time budget of one command."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from .. import records, threads
from ..budget import Budget
from ..content import WELL_KNOWN, BlobReader, Catalog, Progress, Sink, Source, copy
from ..endpoint import Address, Endpoint, Preference
from ..errors import Error, InputError, IntegrityError, NotFoundError, PolicyError, RemoteError, StorageError
from ..layout.cache import Cache
from ..oci import Descriptor, Digest, Index, Manifest
from ..reference import Host, Reference
from ..remote import preconnect
from ..remote.pauses import Pauses
from ..remote.preconnect import ConnectionSetups, DataHost

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


_STOP_WAIT: Final = 1.0
"""Seconds to wait for threads after a stop."""

T = TypeVar("T")
U = TypeVar("U")


class RegistryConnection(Source, Protocol):
    """A connection to a registry. Another thread can stop it.

    Attributes:
        asked: host → number of requests sent.
        last_redirect: the host that the last redirect led to.
    """

    asked: Counter[str]
    last_redirect: Address | None

    def catalog(self, *, known: str | None = None, patient: bool = True) -> Catalog | None:
        """Return the catalog; None if its ETag is still `known`.

        Args:
            patient: whether to retry after a failure.
        """

    def blob_size(self, reference: Reference, digest: Digest) -> int:
        """Return the size of a blob that no known manifest describes."""

    def stop(self) -> None:
        """Abort all open requests. Any thread may call this."""

    def close(self) -> None:
        """Close all connections."""


class SessionOptions(NamedTuple):
    """The options of a session.

    Attributes:
        preference: the user's endpoint settings.
        cache_dir: the cache directory; None: `MARFETCH_CACHE_DIR`, then the user's cache directory.
        offline: send no requests.
        timeout: seconds for the whole command; None: no limit while data arrives.
        jobs: maximum number of parallel requests per host, 1 to 32.
        ca_file: CA certificates to trust instead of the system's.
        notice: whether to warn about unofficial endpoints.
    """

    preference: Preference = Preference()
    cache_dir: Path | None = None
    offline: bool = False
    timeout: float | None = None
    jobs: int = 16
    ca_file: str | None = None
    notice: bool = True


class Connections:
    """Connections to registries and their time budget. One session owns them, or the library reuses them for consecutive sessions.

    Args:
        options: the options of the sessions.
        ways: connections that were opened before the session; None: none yet.

    Attributes:
        sources: the connected registries.
        noticed: unofficial endpoints that the user was warned about.
    """

    def __init__(self, options: SessionOptions, ways: ConnectionSetups | None = None) -> None:
        self.budget = Budget(options.timeout)
        self.ways = ways or ConnectionSetups(options.ca_file, options.jobs)
        self.sources: dict[Endpoint, RegistryConnection] = {}
        self.noticed: set[str] = set()

    def close(self) -> None:
        """Close all connections."""
        for source in self.sources.values():
            source.close()


class Session:
    """Gives one command access to registries and the cache. Close the session, or use it as a context manager.

    Args:
        options: the options of the session.
        progress: receives progress, waits, retries and warnings.
        ways: connections that the command opened before the session.
        lent: connections to reuse, which stay open after the session; None: the session opens and closes its own connections.
    """

    def __init__(
        self, options: SessionOptions, progress: Progress, ways: ConnectionSetups | None = None, *, lent: Connections | None = None
    ) -> None:
        if options.ca_file is not None and not Path(options.ca_file).exists():
            raise InputError(f"the file `{options.ca_file}` of `--ca-file` does not exist", code="usage", path=options.ca_file)
        self.options = options
        self.progress = progress
        self._connections, self._are_lent = lent or Connections(options, ways), lent is not None
        self.budget, self._noticed = self._connections.budget, self._connections.noticed
        self._ways, self._sources = self._connections.ways, self._connections.sources
        self._opened_before = {endpoint: source.last_redirect for endpoint, source in self._sources.items()}
        self._stack = ExitStack()
        self.fetches = False
        """Whether blobs will be downloaded, so that a connection to the data host can be opened early."""
        self._data: dict[Endpoint, DataHost] = {}
        self._loading = threading.Lock()
        self._lists: dict[str, tuple[str, ...]] = {}
        self._listing: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self.cache = self._stack.enter_context(Cache(options.cache_dir, progress, self.budget)).layout
        self._pauses = Pauses(self.cache.root)
        self._executors: dict[int, Executor] = {}
        self._under_way: list[Future[Any]] = []
        self._worker = threading.local()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(stop=kind is not None and not issubclass(kind, Error))

    def stop(self) -> None:
        """Abort all requests and waits. Any thread may call this; the cache stays open."""
        self.budget.cancel()
        for source in list(self._sources.values()):
            source.stop()

    def close(self, *, stop: bool = False) -> None:
        """Write the cache's index and close all connections.

        Args:
            stop: abort open requests, as after Ctrl-C.
        """
        if stop:
            self.stop()
        for executor in self._executors.values():
            executor.shutdown(wait=not stop, cancel_futures=True)
        if stop and self._executors:
            self._wait_a_moment()
        if not self._are_lent:
            self._connections.close()
        for endpoint, source in self._sources.items():
            host = source.last_redirect
            if host is not None and host != self._opened_before.get(endpoint) and self.cache.is_writable:
                self._data_host(endpoint).keep(host)
        try:
            self.cache.names.flush()
        except StorageError as error:
            self.progress.warn(f"cannot write the cache's index: {error.message}")
        damage = self.cache.names.damage()
        if damage:
            self.progress.warn(f"{damage}; marfetch starts a new index and resolves tags again")
        self._stack.close()

    def each(
        self, function: Callable[[T], U], items: Sequence[T], *, hosts: int = 1, label: str | None = None, unit: str = "artifacts"
    ) -> list[U]:
        """Call a function for each item in parallel, and return the results in the order of the items.

        Nested calls run sequentially, because a thread that waits for its own pool can deadlock.

        Args:
            hosts: number of hosts that each item uses in turn: 2 for a small blob (registry and data host). `hosts` × `jobs` items run
                in parallel, while each host still serves at most `jobs` requests at once. Use 1 for large blobs, because an item that
                waits for its turn keeps its blob locked in the cache.
            label: the action for the progress display, such as `resolving`; None: report no progress.
            unit: the noun for the items, in the plural.

        Raises:
            BaseException: the exception of the first item that failed, in the order of the items.
        """
        if label is not None and len(items) > 1:
            with self.progress.steps(label, len(items), unit) as steps:

                def counted(item: T) -> U:
                    try:
                        return function(item)
                    finally:
                        steps.advance()

                return self.each(counted, items, hosts=hosts)
        if len(items) < 2 or self.options.jobs < 2 or getattr(self._worker, "is_one", False):
            return [function(item) for item in items]
        executor = self._executors.get(hosts)
        if executor is None:
            executor = self._executors[hosts] = threads.pool(
                hosts * self.options.jobs, initializer=lambda: setattr(self._worker, "is_one", True)
            )
        futures = [executor.submit(function, item) for item in items]
        self._under_way += futures
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
            self._under_way = [future for future in self._under_way if not future.done()]

    def _wait_a_moment(self) -> None:
        """Wait briefly for running threads to end. A thread in a blocking system call, such as `connect`, may need longer."""
        from concurrent.futures import wait  # late: needed only if a thread pool was created

        wait(self._under_way, timeout=_STOP_WAIT)

    # -- registries and repositories

    def endpoint(self, reference: Reference) -> Endpoint:
        """Return the endpoint of a reference; warn once about each unofficial endpoint.

        Raises:
            PolicyError: the reference names a host that is refused.
        """
        endpoint = self.options.preference.of(reference)
        with self._guard:
            is_new = endpoint.name not in self._noticed
            self._noticed.add(endpoint.name)
        if not endpoint.official and is_new and self.options.notice:
            self.progress.warn(
                f"`{endpoint.name}` is not an official endpoint of MAR; Microsoft endorses no mirrors: they may serve altered content"
            )
        return endpoint

    def repository(self, reference: Reference) -> Repository:
        """Return the repository of a reference, without a request.

        Raises:
            PolicyError: see `endpoint`.
        """
        endpoint = self.endpoint(reference)
        bound = replace(reference, host=Host.parse(endpoint.registry.name), scheme=None)
        return Repository(self, bound, self.cache if self.options.offline else LazyRegistry(self, endpoint))

    def connect(self, endpoint: Endpoint, asked: preconnect.PredictedRequest | None = None, *, new: bool = False) -> RegistryConnection:
        """Connect to the registry of an endpoint. Only this method imports oras-py, so cached results do not need the slow import.

        Args:
            asked: the request that follows; it is sent while oras-py is imported.
            new: whether the cache lacks the requested content, so that a download is likely.
        """
        way = self._ways.for_endpoint(endpoint)
        if way.early is not None and endpoint not in self._opened_before:
            if endpoint not in self._sources:
                # While the host is throttled, send nothing early: `Backoff` decides when the next request is sent.
                name = str(endpoint.registry.host)
                way.early.send_early(asked, lambda: self._pauses.may_send_early(name))
            if new and self.fetches and (likely := self._data_host(endpoint).likely()) is not None:
                way.early.expect(likely)
        with self._loading:
            source = self._sources.get(endpoint)
            if source is None:
                from ..remote.registry import Registry  # late: oras-py is slow to import; needed only for requests

                budget, progress, jobs, pauses = self.budget, self.progress, self.options.jobs, self._pauses
                source = Registry(endpoint, budget=budget, progress=progress, jobs=jobs, trust=way.trust, early=way.early, pauses=pauses)
                self._sources[endpoint] = source
            return source

    def _data_host(self, endpoint: Endpoint) -> DataHost:
        with self._guard:
            return self._data.setdefault(endpoint, DataHost(self.cache.root, endpoint))

    @property
    def asked(self) -> Counter[str]:
        """Host → number of requests sent."""
        return sum((source.asked for source in list(self._sources.values())), Counter())

    def listed(self, repository: str, ask: Callable[[], list[str]]) -> list[str]:
        """Return the tags of a repository, requested once per session and cached for shell completion.

        Args:
            repository: the repository, with its host.
            ask: requests the tags.
        """
        with self._guard:
            alone = self._listing.setdefault(repository, threading.Lock())
        with alone:  # several artifacts of one repository share one request
            if repository not in self._lists:
                tags = ask()
                if not self.options.offline:
                    records.keep(self.cache.root, repository, tags)
                self._lists[repository] = tuple(tags)
        return list(self._lists[repository])


class Repository(NamedTuple):
    """One repository, accessed through the cache of a session.

    Attributes:
        reference: the reference with its host; the tag or digest selects the manifest.
        source: where content comes from that is not cached; offline, this is the cache itself.
    """

    session: Session
    reference: Reference
    source: Source

    def at(self, *, tag: str | None = None, digest: Digest | None = None) -> Repository:
        """Return the same repository with another tag or digest, or with neither."""
        return self._replace(reference=replace(self.reference, tag=tag, digest=digest))

    def manifest(self, digest: Digest | None = None) -> Manifest | Index:
        """Return the manifest with this digest; without a digest, the manifest that the reference names.

        If a digest is known, the manifest may come from the cache without a request.

        Raises:
            NotFoundError, IntegrityError, RemoteError: see `content.Source.manifest`.
        """
        cache, reference = self.session.cache, self.reference if digest is None else self.at(digest=digest).reference
        if reference.tag is None and reference.digest is not None:
            cached = cache.find(reference.digest)
            if cached is not None:
                cache.mark_used(cached.descriptor.digest)
                return cached
        known = cache.known(reference)
        if known is not None and reference.digest is not None and known.digest != reference.digest:
            known = None
        with self._offline(reference):
            found = self.source.manifest(reference, known=known)
        if found is None:
            assert known is not None, "the response is 304 only if a known digest was sent"
            found = cache.find(known.digest, known.media_type)
            if found is None:  # corrupted since `cache.known`
                found = self.source.manifest(reference)
                assert found is not None, "a source always returns a manifest if no digest is known"
        if not self.session.options.offline:
            cache.add(found)
            cache.tag(reference, found.descriptor)
        else:
            cache.mark_used(found.descriptor.digest)
        return found

    def tags(self) -> list[str]:
        """Return all tags, requested once per session.

        Raises:
            NotFoundError: `repository-not-found`.
        """

        def ask() -> list[str]:
            with self._offline(self.reference):
                return self.source.tags(self.reference)

        return self.session.listed(self.reference.full_repository, ask)

    def referrers(self, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        """Return the referrers of the manifest with this digest, optionally only those of one artifact type."""
        return self.source.referrers(self.reference, digest, artifact_type=artifact_type)

    def ensure(self, blob: Descriptor, *, name: str | None = None, beside: Sink | None = None) -> None:
        """Download a blob into the cache, unless it is cached.

        Args:
            name: the name of the blob in the progress display; None: the repository's name.
            beside: see `content.copy`.

        Raises:
            RemoteError: `offline`.
            Error: see `content.copy`.
        """
        cache = self.session.cache
        if self.source is cache and not cache.has(blob) and blob.digest not in WELL_KNOWN:
            raise offline_error(self.reference)
        copy(self.source, cache, self.reference, blob, name=name or self.reference.name, progress=self.session.progress, beside=beside)

    def blob(self, blob: Descriptor, *, limit: int, what: str | None = None, hint: str | None = None) -> bytes:
        """Return the verified bytes of a small blob through the cache. If the cached copy is corrupted, download it again once.

        Args:
            limit: maximum size in bytes.
            what: the name of the blob in messages.
            hint: the hint of the error if the blob is larger than the limit.

        Raises:
            PolicyError: `limit-passed`.
            IntegrityError: the blob does not match its descriptor.
            Error: the blob cannot be downloaded.
        """
        if blob.size > limit:
            raise PolicyError(
                f"{what or f'the blob of `{self.reference.shown}`'} has {blob.size} bytes, more than {limit}",
                code="limit-passed",
                hint=hint,
                reference=str(self.reference),
                rule=f"at most {limit} bytes",
            )
        return self.use(blob, lambda: self.session.cache.read(blob))

    def use(self, blob: Descriptor, take: Callable[[], T], *, name: str | None = None) -> T:
        """Download a blob into the cache, and use it there. If the cached copy is corrupted or gone, download the blob again once.

        Args:
            take: reads the blob from the cache and verifies its digest.
            name: see `ensure`.

        Raises:
            IntegrityError: from `take`: the blob is corrupted again, or its publisher made it malformed.
            Error: see `ensure`.
        """
        self.ensure(blob, name=name)
        try:
            return take()
        except IntegrityError as error:
            if error.code not in ("size-mismatch", "digest-mismatch"):
                raise
            self.session.cache.drop(blob.digest, error.message)
        except NotFoundError as error:
            if error.code != "blob-not-found":  # `blob-not-found`: a program that ignores the cache's lock deleted the blob
                raise
        self.ensure(blob, name=name)
        return take()

    @contextmanager
    def _offline(self, reference: Reference) -> Iterator[None]:
        """Turn a cache miss into an `offline` error."""
        try:
            yield
        except NotFoundError as error:
            if self.source is not self.session.cache:
                raise
            raise offline_error(reference) from error


class LazyRegistry:
    """A registry that is connected at the first request."""

    def __init__(self, client: Session, endpoint: Endpoint) -> None:
        self._client, self._endpoint = client, endpoint

    def _connect(self) -> RegistryConnection:
        return self._client.connect(self._endpoint)

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        connection = self._client.connect(self._endpoint, preconnect.manifest(reference, known), new=known is None)
        return connection.manifest(reference, known=known)

    def blob(self, reference: Reference, descriptor: Descriptor, heartbeat: Callable[[], None] | None = None) -> BlobReader:
        return self._connect().blob(reference, descriptor, heartbeat)

    def tags(self, reference: Reference) -> list[str]:
        return self._client.connect(self._endpoint, preconnect.tags(reference)).tags(reference)

    def referrers(self, reference: Reference, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        return self._connect().referrers(reference, digest, artifact_type=artifact_type)

    def repositories(self) -> list[str]:
        return self._connect().repositories()


def offline_error(reference: Reference) -> RemoteError:
    """Return the error for content that is not cached in an offline session."""
    return RemoteError(
        f"`{reference}` is not in the cache, and `--offline` allows no requests",
        code="offline",
        reference=str(reference),
    )
