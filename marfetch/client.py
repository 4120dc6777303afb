"""The client: from what the user wants to a manifest, through the cache and the registries, one time budget for all of it."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, TypeVar

from .artifact.kinds import IMAGE, kind_of, matches
from .artifact.payload import Choice
from .budget import Budget
from .constraint import ANY, ANY_OR_PRERELEASE, Constraint, TaggedVersion, distinct, exact_version, read_version, sort_versions, tag_of
from .content import Progress, Source
from .endpoint import Endpoint, Preference
from .errors import Error, InputError, IntegrityError, NotFoundError, PolicyError, RemoteError, StorageError
from .layout.store import Layout
from .oci import Descriptor, Index, Manifest, Platform
from .reference import Host, Reference

CACHE_ENVIRONMENT: Final = "MARFETCH_CACHE_DIR"
MAX_NESTING: Final = 2
_LOOKED_AT: Final = 16
"""Manifests of an index that are looked at to find the only artifact among images."""
_DANGLING_TRIES: Final = 20

T = TypeVar("T")
U = TypeVar("U")


class Connection(Source, Protocol):
    """A source that can be ended from outside."""

    def stop(self) -> None:
        """End everything that is under way, from another thread."""

    def close(self) -> None:
        """Drop all connections."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a client works.

    Attributes:
        preference: what the user said about endpoints.
        cache_dir: where the cache is; None: `MARFETCH_CACHE_DIR`, then the user's cache directory.
        offline: nothing is asked of any registry.
        timeout: seconds for the whole command; None: no end for what makes progress.
        jobs: requests to one host at a time, and artifacts at a time; 1 to 32.
        ca_file: certificates that are trusted in place of the system's.
    """

    preference: Preference = field(default_factory=Preference)
    cache_dir: Path | None = None
    offline: bool = False
    timeout: float | None = None
    jobs: int = 16
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One artifact that is wanted.

    Attributes:
        version: a range as Helm takes it; only where the reference has neither tag nor digest.
        devel: prereleases too.
    """

    reference: Reference
    version: str | None = None
    devel: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a wanted artifact is.

    Attributes:
        reference: with the host, the tag if it was found by one, and the digest.
        manifest: a manifest or an index.
        source: where its content is to be had.
        version: where the tag is one.
        newer: the newest released version, where it is newer than this one and known without another request.
    """

    reference: Reference
    manifest: Manifest | Index
    source: Source = field(compare=False, repr=False)
    version: TaggedVersion | None = None
    newer: TaggedVersion | None = None


class Client:
    """Finds artifacts. One client serves one command; close it, or use it as a context.

    Args:
        options: how it works.
        progress: is told of waits, retries and warnings.
    """

    def __init__(self, options: Options, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        self.budget = Budget(options.timeout)
        self._stack = ExitStack()
        self._sources: dict[Endpoint, Connection] = {}
        self._noticed: set[str] = set()
        self.cache = self._stack.enter_context(_Cache(options.cache_dir, progress, self.budget)).layout
        self._executor: Executor | None = None
        self._worker = threading.local()

    # -- life

    def __enter__(self) -> Client:
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
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        for source in self._sources.values():
            source.close()
        try:
            self.cache.names.flush()
        except StorageError as error:
            self.progress.warn(f"the cache's index was not written: {error.message}")
        damage = self.cache.names.damage()
        if damage:
            self.progress.warn(f"{damage}; it is begun anew, what tags mean is asked for again")
        self._stack.close()

    def each(self, function: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """Call a function for each item, side by side, the results in the order of the items.

        Within such a call items follow one another: a thread that waited for others of its own pool could wait for ever.

        Raises:
            BaseException: the first one in the order of the items.
        """
        if len(items) < 2 or self.options.jobs < 2 or getattr(self._worker, "is_one", False):
            return [function(item) for item in items]
        if self._executor is None:
            self._executor = ThreadPoolExecutor(
                self.options.jobs, thread_name_prefix="marfetch", initializer=lambda: setattr(self._worker, "is_one", True)
            )
        return list(self._executor.map(function, items))

    # -- where things come from

    def endpoint(self, reference: Reference) -> Endpoint:
        """The endpoint of a reference; says once of one that is not an official one what Microsoft says of those.

        Raises:
            PolicyError: the reference leads elsewhere.
        """
        endpoint = self.options.preference.of(reference)
        if not endpoint.official and endpoint.name not in self._noticed:
            self._noticed.add(endpoint.name)
            self.progress.warn(
                f"`{endpoint.name}` is not an official endpoint of MAR; Microsoft endorses no mirrors: they may serve altered content"
            )
        return endpoint

    def bind(self, reference: Reference) -> tuple[Reference, Source]:
        """The reference with its host, and where to ask for it.

        Raises:
            PolicyError: as `endpoint`.
        """
        endpoint = self.endpoint(reference)
        registry = endpoint.registry
        host = Host.parse(registry.origin.partition("://")[2])
        bound = replace(reference, host=host, scheme=None)
        return bound, self.cache if self.options.offline else self._connect(endpoint)

    def _connect(self, endpoint: Endpoint) -> Connection:
        """The registry of an endpoint. Here oras-py is loaded, and nowhere else."""
        source = self._sources.get(endpoint)
        if source is None:
            from .remote.registry import Registry
            from .remote.transport import Trust

            source = Registry(
                endpoint, budget=self.budget, progress=self.progress, jobs=self.options.jobs, trust=Trust(self.options.ca_file)
            )
            self._sources[endpoint] = source
        return source

    # -- manifests

    def manifest(self, reference: Reference, source: Source) -> Manifest | Index:
        """The manifest that a bound reference names by tag or digest: from the cache by its digest, otherwise asked for.

        Raises:
            NotFoundError, IntegrityError, RemoteError: as `content.Source.manifest`.
        """
        if reference.tag is None and reference.digest is not None:
            cached = self.cache.find(reference.digest)
            if cached is not None:
                return cached
        known = self.cache.known(reference)
        if known is not None and reference.digest is not None and known.digest != reference.digest:
            known = None
        try:
            found = source.manifest(reference, known=known)
        except NotFoundError as error:
            if self.options.offline:
                raise offline_error(reference) from error
            raise
        if found is None:
            assert known is not None, "nothing new can only be said of what is known"
            found = self.cache.find(known.digest, known.media_type)
            if found is None:  # damaged between two looks
                found = source.manifest(reference)
                assert found is not None, "a source gives a manifest where nothing was known"
        if not self.options.offline:
            self.cache.add(found)
            self.cache.tag(reference, found.descriptor)
        return found

    def tags(self, reference: Reference, source: Source) -> list[str]:
        """All tags of a bound reference's repository.

        Raises:
            NotFoundError: `repository-not-found`.
        """
        try:
            return source.tags(reference)
        except NotFoundError as error:
            if self.options.offline:
                raise offline_error(reference) from error
            raise

    # -- versions

    def resolve(self, wanted: Wanted, *, skip_missing: bool = False) -> Resolved:
        """What a wanted artifact is.

        Args:
            skip_missing: where the best version is listed but has no manifest, take the next one, with a warning.

        Raises:
            InputError: `usage`: a tag or digest together with a version; `constraint-invalid`.
            NotFoundError: nothing is in the range, or it does not exist.
            PolicyError: the reference leads elsewhere.
        """
        reference = wanted.reference
        constraint = _constraint(wanted)
        bound, source = self.bind(reference)
        if constraint is None:
            try:
                manifest = self.manifest(bound, source)
            except NotFoundError as error:
                raise self._with_neighbours(error, bound, source) from error
            version = read_version(bound.tag) if bound.tag else None
            return Resolved(bound.pinned(manifest.descriptor.digest), manifest, source, version)
        missing: set[str] = set()
        exact = exact_version(wanted.version) if wanted.version else None
        if exact is not None:
            # No list is needed for a version that is published under its own name.
            tagged = replace(bound, tag=tag_of(exact))
            try:
                manifest = self.manifest(tagged, source)
            except (NotFoundError, RemoteError) as error:
                if error.code not in ("tag-not-found", "manifest-not-found", "offline"):
                    raise
                missing.add(tag_of(exact))
            else:
                return Resolved(tagged.pinned(manifest.descriptor.digest), manifest, source, read_version(tag_of(exact)))
        return self._newest(wanted, constraint, bound, source, missing, skip_missing=skip_missing)

    def _newest(
        self, wanted: Wanted, constraint: Constraint, bound: Reference, source: Source, missing: set[str], *, skip_missing: bool
    ) -> Resolved:
        tags = self.tags(bound, source)
        versions = sort_versions(tags)
        candidates = constraint.select(versions, prereleases=wanted.devel)
        if not candidates:
            raise _nothing_in_range(wanted, bound, tags, versions, offline=self.options.offline)
        for number, candidate in enumerate(candidates[:_DANGLING_TRIES]):
            tagged = replace(bound, tag=candidate.tag)
            try:
                if candidate.tag in missing:
                    raise NotFoundError(f"`{tagged}` is missing", code="tag-not-found")
                manifest = self.manifest(tagged, source)
            except NotFoundError as error:
                following = candidates[number + 1] if number + 1 < len(candidates) else None
                dangling = _dangling(error, tagged, candidate, following)
                if not skip_missing or following is None:
                    raise dangling from error
                self.progress.warn(f"{dangling.message}; taking `{following.version}`")
                continue
            newest = next((version for version in versions if not version.is_prerelease), None)
            newer = newest if newest is not None and newest.key > candidate.key else None
            return Resolved(tagged.pinned(manifest.descriptor.digest), manifest, source, candidate, newer)
        raise NotFoundError(
            f"the {_DANGLING_TRIES} newest versions of `{bound.full_repository}` in the range are listed but have no manifest",
            code="dangling-tag",
            hint="name a version with `--version`",
            reference=str(bound),
        )

    def _with_neighbours(self, error: NotFoundError, bound: Reference, source: Source) -> NotFoundError:
        """A missing tag, with those that are like it; costs one more request."""
        if error.code != "tag-not-found" or bound.tag is None or self.options.offline:
            return error
        import difflib

        with suppress(Error):
            tags = self.tags(bound, source)
            near = difflib.get_close_matches(bound.tag, tags, n=3, cutoff=0.5)
            newest = ANY.newest(tags) or next(iter(tags), None)
            error.context["nearest"] = near or ([newest] if newest else [])
            if bound.tag in tags:
                error.code = "dangling-tag"
                error.message = f"the tag `{bound.tag}` of `{bound.full_repository}` is listed but has no manifest"
            if newest:
                shown = " and ".join(f"`{tag}`" for tag in dict.fromkeys([*near, newest]))
                error.hint = f"there are {shown}; all of them: marfetch versions {bound.full_repository}"
        return error

    def versions(self, reference: Reference) -> tuple[Reference, dict[str, list[TaggedVersion]], list[str]]:
        """The versions of a repository.

        Returns:
            The bound reference; version → its tags, newest first; the tags that are no versions.

        Raises:
            InputError: `usage`: the reference has a tag or digest.
            NotFoundError: `repository-not-found`.
        """
        if reference.tag or reference.digest:
            raise InputError(
                f"versions belong to a repository, but `{reference}` names one artifact",
                code="usage",
                hint=f"marfetch versions {reference.full_repository}",
                reference=str(reference),
            )
        bound, source = self.bind(reference)
        tags = self.tags(bound, source)
        versions = sort_versions(tags)
        known = {version.tag for version in versions}
        return bound, distinct(versions), [tag for tag in dict.fromkeys(tags) if tag not in known]

    # -- indexes

    def artifact(self, resolved: Resolved, choice: Choice, platform: Platform | None) -> Manifest:
        """The one manifest that is meant: of an index the one for the platform, or the only artifact in it.

        Raises:
            InputError: `platform-needed`.
            NotFoundError: `platform-not-found`.
            PolicyError: `limit-passed`.
        """
        manifest = resolved.manifest
        for _ in range(MAX_NESTING + 1):
            if isinstance(manifest, Manifest):
                return manifest
            manifest = self._child(resolved, manifest, choice, platform)
        raise PolicyError(
            f"`{resolved.reference}` is an index in an index, more than {MAX_NESTING} deep",
            code="limit-passed",
            reference=str(resolved.reference),
            rule=f"at most {MAX_NESTING} indexes deep",
        )

    def _child(self, resolved: Resolved, index: Index, choice: Choice, platform: Platform | None) -> Manifest | Index:
        reference = resolved.reference
        # `unknown/unknown` is how build tools mark attestations, which are no artifacts of their own.
        children = [child for child in index.manifests if child.platform is None or child.platform.os != "unknown"]
        if choice.artifact_types:
            typed = [child for child in children if child.artifact_type and matches(child.artifact_type, choice.artifact_types)]
            children = typed or children
        if platform is not None:
            fitting = [child for child in children if child.platform is not None and child.platform.matches(platform)]
            plain = [child for child in fitting if child.platform is not None and child.platform.variant is None]
            children = plain or fitting
            if not children:
                raise NotFoundError(
                    f"`{reference}` has nothing for the platform `{platform}`",
                    code="platform-not-found",
                    hint=_platforms_hint(index),
                    reference=str(reference),
                )
        if len(children) == 1:
            return self._child_manifest(resolved, children[0])
        if not children or len(children) > _LOOKED_AT:
            raise _platform_needed(reference, index)
        looked_at = self.each(lambda child: self._child_manifest(resolved, child), children)
        artifacts = [child for child in looked_at if not (isinstance(child, Manifest) and kind_of(child) is IMAGE)]
        if choice.kinds:
            artifacts = [child for child in artifacts if not isinstance(child, Manifest) or kind_of(child) in choice.kinds]
        if len(artifacts) == 1:
            return artifacts[0]
        if not artifacts and (not choice.all_layers or platform is not None):
            return looked_at[0]  # images only: refused as such
        raise _platform_needed(reference, index)

    def _child_manifest(self, resolved: Resolved, child: Descriptor) -> Manifest | Index:
        reference = resolved.reference
        found = self.manifest(replace(reference, tag=None, digest=child.digest), resolved.source)
        if found.descriptor.size != child.size:
            raise IntegrityError(
                f"the manifest `{child.digest}` has {found.descriptor.size} bytes, but the index of `{reference}` says {child.size}",
                code="size-mismatch",
                reference=str(reference),
                expected=child.size,
                actual=found.descriptor.size,
            )
        return found


class _Cache:
    """The cache of one command: the user's directory, or a temporary one where that cannot be written."""

    def __init__(self, directory: Path | None, progress: Progress, budget: Budget) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        named = directory is not None or bool(os.environ.get(CACHE_ENVIRONMENT))
        root = cache_root(directory)
        lower: Layout | None = None
        try:
            layout = Layout(root, warn=progress.warn, meanwhile=budget.check)
            if layout.is_writable:
                self.layout = layout
                return
            lower = layout
            reason = f"the cache `{root}` cannot be written"
        except StorageError as error:
            if named or error.code == "cache-damaged":
                raise
            reason = error.message
        progress.warn(f"{reason}; what is fetched now is kept for this run only")
        self._temporary = tempfile.TemporaryDirectory(prefix="marfetch-", ignore_cleanup_errors=True)
        self.layout = Layout(Path(self._temporary.name), below=lower, warn=progress.warn, meanwhile=budget.check)

    def __enter__(self) -> _Cache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()


def cache_root(directory: Path | None) -> Path:
    """Where the cache is: the named directory, `MARFETCH_CACHE_DIR`, or the place that the operating system has for such things."""
    if directory is not None:
        return directory
    if os.environ.get(CACHE_ENVIRONMENT):
        return Path(os.environ[CACHE_ENVIRONMENT])
    import platformdirs

    return platformdirs.user_cache_path("marfetch", appauthor=False)


def _constraint(wanted: Wanted) -> Constraint | None:
    """The range that is wanted; None where the reference says what is meant."""
    reference = wanted.reference
    if reference.tag or reference.digest:
        if wanted.version is not None:
            named = "tag" if reference.tag else "digest"
            raise InputError(
                f"`{reference}` has a {named}, so `--version {wanted.version}` does not go with it",
                code="usage",
                hint=f"leave one of the two out, as in `{reference.full_repository}` with `--version`",
                reference=str(reference),
            )
        return None
    if wanted.version is not None:
        return Constraint.parse(wanted.version)
    return ANY_OR_PRERELEASE if wanted.devel else ANY


def offline_error(reference: Reference) -> RemoteError:
    """The failure of what `--offline` cannot have."""
    return RemoteError(
        f"`{reference}` is not in the cache, and `--offline` asks nobody else",
        code="offline",
        reference=str(reference),
    )


def _nothing_in_range(wanted: Wanted, bound: Reference, tags: Sequence[str], versions: Sequence[TaggedVersion], *, offline: bool) -> Error:
    repository = bound.full_repository
    if offline:
        return offline_error(bound)
    released = next((version for version in versions if not version.is_prerelease), None)
    if not versions:
        latest = "`:latest`" if "latest" in tags else ", ".join(f"`:{tag}`" for tag in tags[:3])
        return NotFoundError(
            f"none of the {len(tags)} tags of `{repository}` is a version",
            code="no-versions",
            hint=f"name a tag: there is {latest}" if latest else "the repository is empty",
            reference=repository,
            nearest=list(tags[:3]),
        )
    if wanted.version is None:
        newest = versions[0]
        return NotFoundError(
            f"`{repository}` has prereleases only, the newest is `{newest.version}`",
            code="version-not-found",
            hint="`--devel` takes prereleases too",
            reference=repository,
            nearest=[newest.tag],
        )
    best = released or versions[0]
    sort = "newest released version" if released else "newest version, a prerelease,"
    return NotFoundError(
        f"no version of `{repository}` is in the range `{wanted.version}`; the {sort} is `{best.version}`",
        code="version-not-found",
        hint=f"marfetch versions {repository}",
        reference=repository,
        range=wanted.version,
        nearest=[best.tag],
    )


def _dangling(error: NotFoundError, tagged: Reference, candidate: TaggedVersion, following: TaggedVersion | None) -> NotFoundError:
    following_text = f"; the next best is `{following.version}`" if following else ""
    return NotFoundError(
        f"the tag `{candidate.tag}` of `{tagged.full_repository}` is listed but has no manifest{following_text}",
        code="dangling-tag",
        hint=f"`--skip-missing` takes `{following.version}`" if following else "it is being published or was withdrawn; try again later",
        **{**error.context, "reference": str(tagged), "nearest": [following.tag] if following else []},
    )


def _platforms_hint(index: Index) -> str:
    names = dict.fromkeys(str(child.platform) for child in index.manifests if child.platform and child.platform.os != "unknown")
    return f"it has {', '.join(f'`{name}`' for name in names)}" if names else "its manifests name no platform"


def _platform_needed(reference: Reference, index: Index) -> InputError:
    return InputError(
        f"`{reference}` is an index of {len(index.manifests)} artifacts",
        code="platform-needed",
        hint=f"choose one with `--platform`: {_platforms_hint(index)}",
        reference=str(reference),
        platforms=[str(child.platform) for child in index.manifests if child.platform],
    )
