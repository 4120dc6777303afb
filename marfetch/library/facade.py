"""The public `Client`: a facade with one method per operation.

Each call opens a session, as a command does. The connections stay open for the next call.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

from ..artifact.kinds import Kind, kinds_named
from ..artifact.payload import Choice
from ..client.fetch import MAX_SIZE
from ..client.inspection import inspect
from ..client.pull import PullOptions, find, pull
from ..client.resolve import Wanted, resolve
from ..client.search import SearchQuery, registry_of, search
from ..client.session import Connections, Session, SessionOptions
from ..client.versions import history
from ..content import Progress, Silent, Transfer
from ..endpoint import Preference
from ..errors import Error, InputError
from ..files import storage_error
from ..layout.cache import CACHE_ENVIRONMENT
from ..oci import Platform
from ..reference import Reference
from ..render.inspect import inspection_json
from ..render.progress import PlainProgress
from ..render.report import Report, guarded, has_runner
from ..render.verify import verdict_json
from ..text import human_size, printable, without_commands
from ..verify.gate import SignatureGate, gate
from .values import ArtifactInfo, PulledFile, RepositoryInfo, ResolvedReference, VerifiedArtifact, VersionInfo, value_of

_StrPath: TypeAlias = str | os.PathLike[str]
_Texts: TypeAlias = str | Iterable[str]
"""One string or several strings."""


class Client:
    """A client of the Microsoft Artifact Registry, or of a registry of your own.

    No request is made before the first call. Several threads may share one client. `close` it, or use it as a context manager.

    Args:
        endpoint: `global`, `china`, or `https://host[:port]`; None: `MARFETCH_ENDPOINT`, otherwise `global`.
        data_hosts: hosts to which your own registry may redirect downloads; empty: `MARFETCH_DATA_HOSTS`.
        cache_dir: the cache directory; None: `MARFETCH_CACHE_DIR`, otherwise the user's cache directory.
        offline: use the cache only; make no requests.
        timeout: time limit of each call in seconds; None: no limit while data arrives.
        jobs: concurrent requests per host in each call, 1 to 32.
        ca_file: CA certificates to trust instead of the system's.
        progress: called with a message for each event, from any thread; True: print the messages to stderr, as the command line does.

    Raises:
        InputError: `usage`, `endpoint-invalid`.
        PolicyError: `address-refused`.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        data_hosts: _Texts = (),
        cache_dir: _StrPath | None = None,
        offline: bool = False,
        timeout: float | None = None,
        jobs: int = 16,
        ca_file: _StrPath | None = None,
        progress: Callable[[str], object] | bool | None = None,
    ) -> None:
        if not 1 <= jobs <= 32:
            raise InputError(f"`jobs` is a number from 1 to 32, not {jobs}", code="usage", hint="omit it for the default, 16")
        if timeout is not None and not 0 < timeout <= 1e9:
            raise InputError(f"`timeout` is a number of seconds above 0, not {timeout:g}", code="usage", hint="omit it for no limit")
        preference = Preference.from_environment(os.environ, endpoint or None, tuple(_several(data_hosts)))
        if preference.option:
            preference.default()  # report a wrong endpoint now, not in the first call
        cache = cache_dir if cache_dir is not None else os.environ.get(CACHE_ENVIRONMENT) or None
        self._options: Final = SessionOptions(
            preference, Path(cache).absolute() if cache is not None else None, offline, timeout, jobs, str(ca_file) if ca_file else None
        )
        self._progress: Final = _progress(progress)
        self._noticed: Final[set[str]] = set()
        self._idle: Final[list[Connections]] = []
        self._guard: Final = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Running calls of other threads finish; later calls raise `client-closed`."""
        with self._guard:
            self._is_closed = True
            idle = self._idle[:]
            self._idle.clear()
        for connections in idle:
            connections.close()

    def versions(self, repository: str | Reference) -> list[VersionInfo]:
        """List the versions of a repository, newest first, including prereleases.

        Raises:
            Error: the same errors as `marfetch versions`.
        """
        asked = _reference(repository)
        with self._session() as session:
            found = history(session, asked)
        return [VersionInfo(str(one.tagged.version), one.tagged.tag, one.tagged.is_prerelease, one.aliases) for one in found.entries]

    def resolve(self, reference: str | Reference, version: str | None = None, devel: bool = False) -> ResolvedReference:
        """Resolve a reference or a version range to a digest, without downloading blobs.

        Args:
            version: a version or range in Helm's syntax; None: the newest release, unless the reference has a tag or digest.
            devel: include prereleases.

        Raises:
            Error: the same errors as `marfetch resolve`.
        """
        wanted = Wanted(_reference(reference), version, devel)
        with self._session() as session:
            found = resolve(session, wanted)
        pinned, manifest = found.reference, found.manifest.descriptor
        tagged = str(found.version.version) if found.version else None
        return ResolvedReference(pinned, pinned.full_repository, pinned.tag, tagged, str(manifest.digest), manifest.media_type)

    def pull(
        self,
        reference: str | Reference,
        version: str | None = None,
        to: _StrPath = ".",
        untar: bool = False,
        kind: _Texts | None = None,
        media_type: _Texts | None = None,
        platform: str | None = None,
        verify: bool = False,
        force: bool = False,
    ) -> list[PulledFile]:
        """Download an artifact's payload into a directory and verify every byte.

        Args:
            version: see `resolve`.
            to: the directory; created if it is missing.
            untar: unpack charts and other tar archives into directories.
            kind: the required kind of the artifact, such as `chart`.
            media_type: a glob; download only layers whose media type matches.
            platform: `os/architecture` to pick from a multi-platform index.
            verify: require a signature that the trust policy accepts; `MARFETCH_VERIFY=policy` has the same effect.
            force: replace files that differ.

        Raises:
            Error: the same errors as `marfetch pull`.
        """
        options = PullOptions(
            Path(to),
            _choice(kind, media_type),
            Platform.parse(platform) if platform else None,
            force,
            untar=Path() if untar else None,
            gate=gate(asked=verify),
        )
        wanted = Wanted(_reference(reference), version)
        with self._session() as session:
            found = pull(session, [wanted], options)
        if found.failed:
            raise found.failed[0].error
        return [
            PulledFile(one.path, str(one.layer.digest), one.layer.size, one.layer.media_type, one.status, str(one.reference), one.kind.name)
            for one in found.files
        ]

    def read(
        self, reference: str | Reference, version: str | None = None, kind: _Texts | None = None, media_type: _Texts | None = None
    ) -> bytes:
        """Return the verified bytes of an artifact's only payload, from the cache if possible. Only the cache is written.

        Args:
            version: see `resolve`.
            kind: see `pull`.
            media_type: see `pull`.

        Raises:
            InputError: `payload-ambiguous`: there are several payloads.
            PolicyError: `limit-passed`: the payload is larger than 256 MiB.
            Error: the same errors as `pull`.
        """
        options = PullOptions(Path(), _choice(kind, media_type)._replace(output="payload", is_exact=True), gate=gate())
        wanted = Wanted(_reference(reference), version)
        with self._session() as session:
            session.fetches = True
            found = find(session, wanted, options)
            hint = f"marfetch pull {found.resolved.reference.shown}"
            return found.resolved.repository.blob(found.payloads[0].layer, limit=MAX_SIZE, hint=hint)

    def inspect(self, reference: str | Reference, version: str | None = None) -> ArtifactInfo:
        """Describe an artifact without downloading its payload: kind, layers, chart metadata, platforms and referrers.

        Args:
            version: see `resolve`.

        Raises:
            Error: the same errors as `marfetch inspect`.
        """
        wanted = Wanted(_reference(reference), version)
        with self._session() as session:
            return value_of(ArtifactInfo, inspection_json(inspect(session, wanted)))

    def search(self, text: str, kind: _Texts | None = None) -> list[RepositoryInfo]:
        """Find repositories by name, best match first.

        Args:
            text: words or a glob; a leading host chooses the registry.
            kind: return only repositories whose newest version is of this kind.

        Raises:
            Error: the same errors as `marfetch search`; also if the newest version of a repository cannot be inspected.
        """
        host, words = registry_of(text)
        query = SearchQuery(words, _kinds(kind))
        with self._session() as session:
            found = search(session, host, query)
            if (failure := found.failure()) is not None:
                raise failure
        own = {one.name for one in fields(RepositoryInfo)} - {"reference"}
        return [
            RepositoryInfo(reference=f"{found.known.host}/{one.name}", **{name: getattr(one, name) for name in own})
            for one in found.repositories
        ]

    def verify(
        self,
        reference: str | Reference,
        *,
        trust_policy: _StrPath | None = None,
        trust_store: _StrPath | None = None,
        at: str | datetime | None = None,
        crl: _StrPath | Iterable[_StrPath] | None = None,
        revocation: str | None = None,
        keyring: _StrPath | None = None,
        platform: str | None = None,
    ) -> VerifiedArtifact:
        """Verify an artifact: Notary Project signatures against the trust policy, Helm provenance, and end of life.

        Args:
            trust_policy: the trust policy file; None: notation's.
            trust_store: the directory that contains `x509`; None: notation's.
            at: the time to verify for, as a `datetime` or in RFC 3339; None: now.
            crl: directories with revocation lists.
            revocation: `enforce`, `log` or `skip`; overrides the policy.
            keyring: check Helm provenance with the OpenPGP keys in this file.
            platform: `os/architecture`; its manifest in a multi-platform index must be signed too.

        Returns:
            The result for the artifact that the reference names.

        Raises:
            SignatureError: no signature is valid and trusted. The error code comes from the signature that passed the most checks.
            InputError: the trust policy, a trust store or the keyring cannot be used, such as `POLICY_MISSING`.
            NotFoundError: `platform-not-found`.
            Error: the same errors as `marfetch verify`.
        """
        from ..verify import artifact as verification  # late: only signature checks need cryptography

        wanted = Wanted(_reference(reference))
        lists = [Path(crl)] if isinstance(crl, (str, os.PathLike)) else [Path(one) for one in crl or ()]
        options = verification.options_of(_path(trust_policy), _path(trust_store), _moment(at), lists, revocation)
        options = replace(options, keyring=_path(keyring), platform=Platform.parse(platform) if platform else None)
        with self._session() as session:
            resolved = resolve(session, wanted)
            verdict = SignatureGate(options)(session, resolved)
            return value_of(VerifiedArtifact, verdict_json(resolved, verdict))

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError("this client was closed", code="client-closed")

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """Open a session for one call. It reuses the connections of an earlier call and leaves them open for the next one."""
        with self._guard:
            self._check_open()
            connections = self._idle.pop() if self._idle else None
        if connections is None:
            connections = Connections(self._options)
            connections.noticed = self._noticed
        connections.budget.restart()
        is_usable = False
        try:
            with Session(self._options, self._progress, lent=connections) as session:
                yield session
            is_usable = True
        except Error:
            is_usable = True
            raise
        except OSError as error:  # refused by the operating system, for example too many open files
            raise storage_error(error, str(error.filename or "a file")) from error
        finally:
            with self._guard:
                is_usable = is_usable and not self._is_closed
                if is_usable:
                    self._idle.append(connections)
            if not is_usable:
                connections.close()


class _Events(PlainProgress):
    """Calls a function with a message for each event."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        def note(text: str) -> None:
            tell(without_commands(printable(text)) if has_runner() else printable(text))

        super().__init__(note, lambda text: note(f"warning: {text}"))

    def begin(self, name: str, total: int) -> Transfer:
        self.note(f"fetching {name} ({human_size(total)})")
        return super().begin(name, total)


def _progress(wanted: Callable[[str], object] | bool | None) -> Progress:
    if callable(wanted):
        return _Events(wanted)
    return Report("library", stderr=guarded(sys.stderr)).progress if wanted else Silent()


def _reference(reference: str | Reference) -> Reference:
    return reference if isinstance(reference, Reference) else Reference.parse(reference)


def _several(texts: _Texts | None) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else list(texts or ())


def _kinds(texts: _Texts | None) -> tuple[Kind, ...]:
    return kinds_named(*_several(texts))


def _choice(kind: _Texts | None, media_type: _Texts | None) -> Choice:
    return Choice(media_types=tuple(_several(media_type)), kinds=_kinds(kind))


def _path(path: _StrPath | None) -> Path | None:
    return Path(path) if path is not None else None


def _moment(at: str | datetime | None) -> str | None:
    if not isinstance(at, datetime):
        return at
    if at.tzinfo is None:
        raise InputError(
            f"`at` has no time zone: `{at}`", code="usage", hint="pass a `datetime` with a time zone, such as `tzinfo=datetime.UTC`"
        )
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
