"""The client: the cache and the registries of one command, and one time budget for all of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from .. import records
from ..budget import Budget
from ..content import WELL_KNOWN, BlobReader, Catalog, Progress, Sink, Source, copy
from ..endpoint import Address, Endpoint, Preference
from ..errors import Error, InputError, IntegrityError, NotFoundError, PolicyError, RemoteError, StorageError
from ..files import prepare
from ..layout.cache import Cache
from ..oci import Descriptor, Digest, Index, Manifest
from ..reference import Host, Reference
from ..remote import preconnect
from ..remote.pauses import Pauses
from ..remote.preconnect import ConnectionSetups, DataHost

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


_MOMENT: Final = 1.0
"""Seconds."""

T = TypeVar("T")
U = TypeVar("U")


class RegistryConnection(Source, Protocol):
    """A source that can be ended from outside.

    Attributes:
        asked: host → requests that were sent to it.
        last_redirect: where its last redirect led.
    """

    asked: Counter[str]
    last_redirect: Address | None

    def catalog(self, *, known: str | None = None, patient: bool = True) -> Catalog | None:
        """The repositories that are listed; None where that is still the state that is `known` by its entity tag.

        Args:
            patient: whether a failure is worth another try.
        """

    def stop(self) -> None:
        """End everything that is under way, from another thread."""

    def close(self) -> None:
        """Drop all connections."""


class SessionOptions(NamedTuple):
    """How a client works.

    Attributes:
        preference: what the user said about endpoints.
        cache_dir: where the cache is; None: `MARFETCH_CACHE_DIR`, then the user's cache directory.
        offline: nothing is asked of any registry.
        timeout: seconds for the whole command; None: no end for what makes progress.
        jobs: requests to one host at a time; 1 to 32.
        ca_file: certificates that are trusted in place of the system's.
        notice: whether to say of an endpoint that is not an official one what Microsoft says of those.
    """

    preference: Preference = Preference()
    cache_dir: Path | None = None
    offline: bool = False
    timeout: float | None = None
    jobs: int = 16
    ca_file: str | None = None
    notice: bool = True


class Connections:
    """Connections to registries and their time budget. One session owns them, or a library lends them to one session after another.

    Args:
        options: of the sessions.
        ways: where something has been opened already.

    Attributes:
        sources: the registries that were asked.
        noticed: unofficial endpoints that the user was warned of.
    """

    def __init__(self, options: SessionOptions, ways: ConnectionSetups | None = None) -> None:
        self.budget = Budget(options.timeout)
        self.ways = ways or ConnectionSetups(options.ca_file, options.jobs)
        self.sources: dict[Endpoint, RegistryConnection] = {}
        self.noticed: set[str] = set()

    def close(self) -> None:
        """Drop all of them."""
        for source in self.sources.values():
            source.close()


class Session:
    """Reaches registries and the cache. One client serves one command; close it, or use it as a context.

    Args:
        options: how it works.
        progress: is told of waits, retries and warnings.
        ways: where something of this command has been opened already.
        lent: connections of an earlier session, which stay open for the next one; None: it opens and closes its own.
    """

    def __init__(
        self, options: SessionOptions, progress: Progress, ways: ConnectionSetups | None = None, *, lent: Connections | None = None
    ) -> None:
        if options.ca_file is not None and not Path(options.ca_file).exists():
            raise InputError(f"the file `{options.ca_file}` of `--ca-file` is not there", code="usage", path=options.ca_file)
        self.options = options
        self.progress = progress
        self._connections, self._are_lent = lent or Connections(options, ways), lent is not None
        self.budget, self._noticed = self._connections.budget, self._connections.noticed
        self._ways, self._sources = self._connections.ways, self._connections.sources
        self._opened_before = frozenset(self._sources)
        self._stack = ExitStack()
        self.fetches = False
        """Whether what is asked for is going to be fetched, so that a data host is wanted soon."""
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

    # -- life

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(stop=kind is not None and not issubclass(kind, Error))

    def close(self, *, stop: bool = False) -> None:
        """Write what is new in the cache's index, and end.

        Args:
            stop: end what is still under way, as after Ctrl-C.
        """
        if stop:
            self.budget.cancel()
            for source in self._sources.values():
                source.stop()
        for executor in self._executors.values():
            executor.shutdown(wait=not stop, cancel_futures=True)
        if stop and self._executors:
            self._wait_a_moment()
        if not self._are_lent:
            self._connections.close()
        for endpoint, source in self._sources.items():
            if source.last_redirect is not None and self.cache.is_writable:
                self._data_host(endpoint).keep(source.last_redirect)
        try:
            self.cache.names.flush()
        except StorageError as error:
            self.progress.warn(f"the cache's index was not written: {error.message}")
        damage = self.cache.names.damage()
        if damage:
            self.progress.warn(f"{damage}; it is begun anew, what tags mean is asked for again")
        self._stack.close()

    def each(self, function: Callable[[T], U], items: Sequence[T], *, hosts: int = 1) -> list[U]:
        """Call a function for each item, side by side, the results in the order of the items.

        Within such a call items follow one another: a thread that waited for others of its own pool could wait for ever.

        Args:
            hosts: that an item asks one after the other, as a small blob does the registry and then a data host: so many times more items
                are under way, and still no host is asked for more than `jobs` things at a time. For what takes long it stays 1: whoever
                waits for his turn has others of the cache wait for him.

        Raises:
            BaseException: the first one in the order of the items.
        """
        if len(items) < 2 or self.options.jobs < 2 or getattr(self._worker, "is_one", False):
            return [function(item) for item in items]
        executor = self._executors.get(hosts)
        if executor is None:
            from concurrent.futures import ThreadPoolExecutor  # late: only where there are several

            executor = self._executors[hosts] = ThreadPoolExecutor(
                hosts * self.options.jobs,
                thread_name_prefix="marfetch",
                initializer=lambda: setattr(self._worker, "is_one", True),
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
        """For threads that were told to end: not for one that the operating system does not let go, as in the midst of connecting."""
        from concurrent.futures import wait  # late: only where an executor was made

        wait(self._under_way, timeout=_MOMENT)

    # -- where things come from

    def endpoint(self, reference: Reference) -> Endpoint:
        """The endpoint of a reference; says once of one that is not an official one what Microsoft says of those.

        Raises:
            PolicyError: the reference leads elsewhere.
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
        """The repository that a reference leads to; nothing is asked yet.

        Raises:
            PolicyError: as `endpoint`.
        """
        endpoint = self.endpoint(reference)
        bound = replace(reference, host=Host.parse(endpoint.registry.name), scheme=None)
        return Repository(self, bound, self.cache if self.options.offline else LazyRegistry(self, endpoint))

    def connect(self, endpoint: Endpoint, asked: preconnect.PredictedRequest | None = None, *, new: bool = False) -> RegistryConnection:
        """The registry of an endpoint. Here oras-py is loaded, and nowhere else; what the cache answers does without.

        Args:
            asked: what is going to be asked for, so that it can be while oras-py is being loaded.
            new: whether that is something that the cache does not hold.
        """
        way = self._ways.for_endpoint(endpoint)
        if way.early is not None and endpoint not in self._opened_before:
            if endpoint not in self._sources:
                # Where somebody was told to wait, nothing is asked before `Backoff` has let it through.
                name = str(endpoint.registry.host)
                way.early.send_early(asked, lambda: self._pauses.may_send_early(name))
            if new and self.fetches and (likely := self._data_host(endpoint).likely()) is not None:
                way.early.expect(likely)
        with self._loading:
            source = self._sources.get(endpoint)
            if source is None:
                from ..remote.registry import Registry  # late: oras-py, only where a registry is asked

                budget, progress, jobs, pauses = self.budget, self.progress, self.options.jobs, self._pauses
                source = Registry(endpoint, budget=budget, progress=progress, jobs=jobs, trust=way.trust, early=way.early, pauses=pauses)
                self._sources[endpoint] = source
                # What comes will be written: what locks need is loaded while the first answer is on its way.
                threading.Thread(target=prepare, name="marfetch-prepare", daemon=True).start()
            return source

    def _data_host(self, endpoint: Endpoint) -> DataHost:
        with self._guard:
            return self._data.setdefault(endpoint, DataHost(self.cache.root, endpoint))

    @property
    def asked(self) -> Counter[str]:
        """Host → requests that were sent to it."""
        return sum((source.asked for source in list(self._sources.values())), Counter())

    def listed(self, repository: str, ask: Callable[[], list[str]]) -> list[str]:
        """The tags of a repository, asked for once in the life of a session; the list is kept for completion.

        Args:
            repository: with its host.
        """
        with self._guard:
            alone = self._listing.setdefault(repository, threading.Lock())
        with alone:  # many artifacts of one repository need its list once
            if repository not in self._lists:
                tags = ask()
                if not self.options.offline:
                    records.keep(self.cache.root, repository, tags)
                self._lists[repository] = tuple(tags)
        return list(self._lists[repository])


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository, asked through the cache of a session.

    Attributes:
        reference: with its host; its tag and digest are what `manifest` gives.
        source: where to ask for what the cache lacks; offline the cache itself.
    """

    session: Session = field(compare=False, repr=False)
    reference: Reference
    source: Source = field(compare=False, repr=False)

    def at(self, *, tag: str | None = None, digest: Digest | None = None) -> Repository:
        """The same repository with another tag or digest, or with neither."""
        return replace(self, reference=replace(self.reference, tag=tag, digest=digest))

    def manifest(self, digest: Digest | None = None) -> Manifest | Index:
        """The manifest with a digest, or the one that the reference names: from the cache by its digest, otherwise asked for.

        Raises:
            NotFoundError, IntegrityError, RemoteError: as `content.Source.manifest`.
        """
        cache, reference = self.session.cache, self.reference if digest is None else self.at(digest=digest).reference
        if reference.tag is None and reference.digest is not None:
            cached = cache.find(reference.digest)
            if cached is not None:
                return cached
        known = cache.known(reference)
        if known is not None and reference.digest is not None and known.digest != reference.digest:
            known = None
        with self._offline(reference):
            found = self.source.manifest(reference, known=known)
        if found is None:
            assert known is not None, "nothing new can only be said of what is known"
            found = cache.find(known.digest, known.media_type)
            if found is None:  # damaged between two looks
                found = self.source.manifest(reference)
                assert found is not None, "a source gives a manifest where nothing was known"
        if not self.session.options.offline:
            cache.add(found)
            cache.tag(reference, found.descriptor)
        return found

    def tags(self) -> list[str]:
        """All tags, asked for once in the life of a session.

        Raises:
            NotFoundError: `repository-not-found`.
        """

        def ask() -> list[str]:
            with self._offline(self.reference):
                return self.source.tags(self.reference)

        return self.session.listed(self.reference.full_repository, ask)

    def referrers(self, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        """What refers to the manifest with this digest; of this artifact type where one is given."""
        return self.source.referrers(self.reference, digest, artifact_type=artifact_type)

    def ensure(self, blob: Descriptor, *, name: str | None = None, beside: Sink | None = None) -> None:
        """Bring a blob into the cache, unless it is there.

        Args:
            name: what it is called while it moves; None: as the repository.
            beside: as `content.copy`.

        Raises:
            RemoteError: `offline`.
            Error: as `content.copy`.
        """
        cache = self.session.cache
        if self.source is cache and not cache.has(blob) and blob.digest not in WELL_KNOWN:
            raise offline_error(self.reference)
        copy(self.source, cache, self.reference, blob, name=name or self.reference.name, progress=self.session.progress, beside=beside)

    def blob(self, blob: Descriptor, *, limit: int, what: str | None = None, hint: str | None = None) -> bytes:
        """A small blob, brought into the cache and hashed on its way out; where it was damaged there, it is fetched anew once.

        Args:
            limit: most bytes that are taken.
            what: it is, for messages.
            hint: where it is larger, the next thing to try.

        Raises:
            PolicyError: `limit-passed`.
            IntegrityError: it is not what its descriptor says.
            Error: it cannot be fetched.
        """
        if blob.size > limit:
            raise PolicyError(
                f"{what or f'the blob of `{self.reference.shown}`'} would have {blob.size} bytes, more than {limit}",
                code="limit-passed",
                hint=hint,
                reference=str(self.reference),
                rule=f"at most {limit} bytes",
            )
        return self.use(blob, lambda: self.session.cache.read(blob))

    def use(self, blob: Descriptor, take: Callable[[], T], *, name: str | None = None) -> T:
        """Bring a blob into the cache and use it there. Where its bytes turn out to be wrong, it is fetched anew once.

        Args:
            take: hashes what it takes out of the cache.
            name: as `ensure`.

        Raises:
            IntegrityError: as `take`: it is wrong again, or `malformed`, which is the publisher's doing.
            Error: as `ensure`.
        """
        self.ensure(blob, name=name)
        try:
            return take()
        except IntegrityError as error:
            if error.code not in ("size-mismatch", "digest-mismatch"):
                raise
            self.session.cache.drop(blob.digest, error.message)
        self.ensure(blob, name=name)
        return take()

    @contextmanager
    def _offline(self, reference: Reference) -> Iterator[None]:
        """What the cache lacks is not there offline."""
        try:
            yield
        except NotFoundError as error:
            if self.source is not self.session.cache:
                raise
            raise offline_error(reference) from error


class LazyRegistry:
    """A source that is connected to when something is asked of it for the first time."""

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
    """The failure of what `--offline` cannot have."""
    return RemoteError(
        f"`{reference}` is not in the cache, and `--offline` asks nobody else",
        code="offline",
        reference=str(reference),
    )
