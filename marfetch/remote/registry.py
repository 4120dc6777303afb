"""A registry as a source of content. Requests go through an oras-py session and marfetch's own transport.

This module uses two parts of oras-py 0.2.43: the session of `oras.provider.Registry`, and the addresses of `Container`.
`tests/remote/test_oras.py` checks that it uses nothing else, and that the behavior of both parts has not changed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, cast

from .oras_py import oras
from ..budget import Budget
from ..content import BlobReader, Catalog, Progress
from ..document import parse_json
from ..endpoint import Address, Endpoint
from ..errors import IntegrityError, PolicyError, RemoteError
from ..oci import INDEX_TYPES, MANIFEST_TYPES, MAX_MANIFEST_SIZE, Descriptor, Digest, Index, Manifest, parse_manifest, refuse_withdrawn
from ..reference import Host, Reference, is_repository, is_tag
from ..text import sent_values
from . import limits, preconnect
from .auth import Authority
from .backoff import Attempts, Backoff, RequestFailed
from .certificates import TrustedCertificates
from .download import Download
from .http_errors import (
    WEB_PAGE_HINT,
    Failure,
    RequestKind,
    about,
    explain,
    header_digest,
    is_web_page,
    media_type_of,
    mismatch,
    redirect_refused,
)
from .pages import Collected, collect, resolve
from .pauses import Pauses
from .preconnect import Preconnections
from .transport import GET, ExactRequest, Sent, StreamedResponse, Transport

_LOG = logging.getLogger(__name__)

_SAME_METHOD = frozenset((307, 308))
_REDIRECTS = _SAME_METHOD | {301, 302, 303}


class Registry:
    """All repositories of one endpoint, as a `content.Source`.

    Args:
        endpoint: the endpoint of the registry. Every address is checked against it.
        jobs: the maximum number of concurrent requests per host, 1 to 32.
        trust: the trusted certificates; None for the default ones.
        early: the preconnections that may be used, if any.
        pauses: the throttles that processes with the same cache share; None to share none.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        budget: Budget,
        progress: Progress,
        jobs: int = limits.DEFAULT_JOBS,
        trust: TrustedCertificates | None = None,
        early: Preconnections | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._budget = budget
        self._progress = progress
        address = endpoint.registry
        # The transport verifies certificates, but oras-py's own option stays on as well.
        self.oras = oras.provider.Registry(hostname=str(address.host), insecure=address.scheme == "http", tls_verify=True)
        self.transport = Transport(endpoint, budget, trust or TrustedCertificates(), early)
        session = self.oras.session
        session.trust_env = False  # no netrc file, and the transport finds proxies itself
        session.adapters.clear()
        session.mount("https://", self.transport)
        session.mount("http://", self.transport)
        self.backoff = Backoff(budget, progress, jobs=jobs, pauses=pauses)
        self.asked: Counter[str] = Counter()
        """Host → number of requests sent to it."""
        self.last_redirect: Address | None = None
        self.auth = Authority(endpoint)

    # -- source

    def manifest(self, reference: Reference, *, known: Descriptor | None = None) -> Manifest | Index | None:
        kind = RequestKind.MANIFEST if reference.tag is None else RequestKind.TAG
        request = preconnect.manifest(reference, known)  # the same bytes as the early request
        answer, raw = self.document(self._at(request.target), request.headers, kind, reference)
        said = header_digest(answer)
        if answer.status_code == 304:
            # A digest with another algorithm cannot be compared with the known digest.
            if known is None or (said is not None and said.algorithm == known.digest.algorithm and said != known.digest):
                raise self._malformed(reference, answer, f"the status is 304 (not modified), but the digest is now `{said}`")
            return None
        with about(answer, reference):  # before the digest check, which a signed Docker schema 1 manifest never passes
            refuse_withdrawn(media_type_of(answer.headers), f"the manifest of `{reference}`")
        expected = reference.digest if reference.tag is None else None
        algorithm = (reference.digest or said or (known.digest if known else None) or Digest("sha256", "")).algorithm
        actual = Digest.of(raw, algorithm)
        if expected is not None and actual != expected:
            self._refuse_signed(reference, answer, raw)
            raise mismatch(reference, answer, expected, actual, "the requested digest")
        if said is not None and said != (own := actual if said.algorithm == algorithm else Digest.of(raw, said.algorithm)):
            self._refuse_signed(reference, answer, raw)
            raise mismatch(reference, answer, said, own, "its header `Docker-Content-Digest`")
        with about(answer, reference):
            parsed = self._parse(reference, answer, raw, actual)
            if reference.tag is not None and reference.digest is not None and reference.digest != parsed.descriptor.digest:
                raise IntegrityError(
                    f"the tag `{reference.tag}` of `{reference.full_repository}` now points to `{parsed.descriptor.digest}`,"
                    f" not `{reference.digest}`",
                    code="tag-moved",
                    expected=str(reference.digest),
                    actual=str(parsed.descriptor.digest),
                )
            return parsed

    def _refuse_signed(self, reference: Reference, answer: StreamedResponse, raw: bytes) -> None:
        """Refuse a signed Docker schema 1 manifest whose `Content-Type` names another type.

        Its digest does not cover its signature, so without this check it would be reported as a digest mismatch.
        """
        with suppress(IntegrityError), about(answer, reference):
            parse_manifest(raw, what=f"the manifest of `{reference}`")

    def _parse(self, reference: Reference, answer: StreamedResponse, raw: bytes, digest: Digest) -> Manifest | Index:
        media_type = media_type_of(answer.headers)
        announced = media_type if media_type.lower() in MANIFEST_TYPES | INDEX_TYPES else None
        if media_type.lower() == "application/json":
            self._refuse_error_document(raw, reference, answer)
        return parse_manifest(raw, what=f"the manifest of `{reference}`", media_type=announced, digest=digest)

    def blob(self, reference: Reference, descriptor: Descriptor, heartbeat: Callable[[], None] | None = None) -> BlobReader:
        address = self._address(self._container(reference).get_blob_url(str(descriptor.digest)))
        attempts = self.backoff.attempts(f"`{reference.name}`", of=f"`{reference}`")
        if heartbeat is not None:
            attempts.heartbeat = heartbeat

        def ask(headers: dict[str, str], expected: tuple[int, ...]) -> Any:
            return self.asking(address, headers, attempts, RequestKind.BLOB, reference, expected=expected)

        return Download(descriptor, ask, attempts, what=str(reference))

    def blob_size(self, reference: Reference, digest: Digest) -> int:
        """Return the size of a blob that no known manifest describes, in bytes.

        Raises:
            NotFoundError: `blob-not-found`, `repository-not-found`.
            IntegrityError: `malformed`: the response has no length.
            RemoteError: the registry failed.
        """
        address = self._address(self._container(reference).get_blob_url(str(digest)))
        attempts = self.backoff.attempts(f"`{reference}`")
        while True:
            try:
                with self.asking(address, {}, attempts, RequestKind.BLOB, reference, expected=(200,), sent=Sent("HEAD")) as answer:
                    length = answer.headers.get("Content-Length", "")
                    if not (length.isascii() and length.isdigit()) or len(length) > 18:
                        raise self._malformed(reference, answer, f"it does not state the size of the blob `{digest}`")
                    return int(length)
            except RequestFailed as trouble:
                attempts.failed(trouble)

    def tags(self, reference: Reference) -> list[str]:
        # Without the parameter `n`, MAR returns the whole list in one page. oras-py is not used here, because it follows `Link` to
        # any host without a limit. It also treats a string as a list of its characters.
        request = preconnect.tags(reference)
        found = self._list(self._at(request.target), "tags", RequestKind.TAGS, reference, f"the tag list of `{reference.full_repository}`")
        listed = cast("Collected", found).entries
        tags = [tag for tag in listed if is_tag(tag)]
        if len(tags) < len(listed):
            self.warn_of_skipped(len(listed) - len(tags), f"the tag list of `{reference.full_repository}`")
        return tags

    def repositories(self) -> list[str]:
        return list(cast("Catalog", self.catalog()).names)  # without `known`, `catalog` never returns None

    def catalog(self, *, known: str | None = None, patient: bool = True) -> Catalog | None:
        host = self.endpoint.registry.name
        what = f"the catalog of `{host}`"
        subject = Reference("_catalog", Host.parse(host))
        found = self._list(self._at("/v2/_catalog"), "repositories", RequestKind.CATALOG, subject, what, known=known, patient=patient)
        if found is None:
            return None
        names = tuple(name for name in found.entries if is_repository(name))
        if lost := len(found.entries) - len(names):
            self.warn_of_skipped(lost, what)
        return Catalog(names, found.etag)

    def referrers(self, reference: Reference, digest: Digest, *, artifact_type: str | None = None) -> Sequence[Descriptor]:
        from .referrers import referrers  # late: a download needs no referrers

        return referrers(self, reference, digest, artifact_type)

    # -- requests

    def repository_address(self, reference: Reference, path: str) -> Address:
        """Return the address of `/v2/<repository>/<path>`."""
        container = self._container(reference)
        return self._address(f"{container.registry}/v2/{container.api_prefix}/{path}")

    def document(
        self,
        address: Address,
        headers: dict[str, str],
        kind: RequestKind,
        reference: Reference,
        *,
        limit: int = MAX_MANIFEST_SIZE,
        patient: bool = True,
    ) -> tuple[StreamedResponse, bytes]:
        """Download a small document, such as a manifest or a page of a list.

        Args:
            limit: the maximum size in bytes.
            patient: whether to retry after a temporary failure.

        Raises:
            IntegrityError: `malformed`: the response is a web page.
            Error: the error that `explain` returns for an error response.
        """
        attempts = self.backoff.attempts(f"`{reference}`")
        expected = (200, 304) if "If-None-Match" in headers else (200,)
        while True:
            try:
                with self.asking(address, headers, attempts, kind, reference, expected=expected) as answer:
                    raw = answer.body(limit)
                if answer.status_code == 200 and is_web_page(answer.headers, raw):
                    raise self._malformed(reference, answer, "it is a web page", hint=WEB_PAGE_HINT)
                return answer, raw
            except RequestFailed as trouble:
                if not patient:
                    raise trouble.error from trouble
                attempts.failed(trouble)

    def _list(
        self, start: Address, name: str, kind: RequestKind, of: Reference, what: str, *, known: str | None = None, patient: bool = True
    ) -> Collected | None:
        def ask(page: Address, headers: dict[str, str]) -> tuple[StreamedResponse, bytes]:
            pages.grow(1)
            found = self.document(page, {**preconnect.LISTS, **headers}, kind, of, limit=limits.MAX_PAGE_SIZE, patient=patient)
            pages.advance()
            return found

        most = limits.MAX_CATALOG_PAGES if kind is RequestKind.CATALOG else limits.MAX_PAGES
        with self._progress.steps(f"reading {what.replace('`', '')}", unit="pages") as pages:
            return collect(start, ask, name, what, lambda answer: about(answer, of), known=known, most=most)

    @contextmanager
    def asking(
        self,
        address: Address,
        headers: dict[str, str],
        attempts: Attempts,
        kind: RequestKind,
        reference: Reference,
        *,
        expected: tuple[int, ...],
        sent: Sent = GET,
    ) -> Iterator[StreamedResponse]:
        """Send a request and yield the response, before its body is read. Follow redirects, and authenticate if the registry asks for it.

        Args:
            expected: the statuses that count as success.

        Raises:
            RequestFailed: there is no response, or its status is not expected.
            Error: the endpoint does not allow a redirect or realm.
        """
        current: Address = address
        came_from: Address | None = None
        given: set[str] = set()
        redirects = 0
        while True:
            signed = {**headers, **self.auth.headers(current, reference.repository)}
            with self._exchange(current, signed, attempts, came_from, sent) as answer:
                if answer.status_code in expected:
                    with about(answer, reference):
                        yield answer
                    return
                text = answer.body(limits.MAX_ERROR_BODY, all_of_it=False)
                if answer.status_code in (_REDIRECTS if sent.method in ("GET", "HEAD") else _SAME_METHOD):
                    redirects += 1
                    came_from, current = current, self._redirect(answer, current, redirects, reference)
                    continue
                if answer.status_code != 401 or not self.endpoint.is_registry(current):
                    raise explain(self._failure(kind, reference, answer, text))
            # Only now, without a slot: a request for a token needs one of the same host, and all may be held by requests that were refused.
            carried = signed.get("Authorization", "")
            if not carried and not given and self.auth.headers(current, reference.repository):
                continue  # another thread has authenticated since this request was sent
            self.auth.forget(reference.repository)
            challenge, tried = answer.headers.get("WWW-Authenticate", ""), carried.startswith("Basic")
            if not self.auth.authenticate(challenge, reference.repository, given, partial(self._token, attempts, reference), tried=tried):
                raise explain(self._failure(kind, reference, answer, text))

    @contextmanager
    def _exchange(
        self, address: Address, headers: dict[str, str], attempts: Attempts, came_from: Address | None, sent: Sent = GET
    ) -> Iterator[StreamedResponse]:
        """Send one request as soon as its host has a free slot, and yield the response."""
        self.endpoint.check(address, came_from=came_from)
        with self.backoff.slot(self.backoff.host(str(address.host)), attempts) as slot:
            with ExitStack() as shown:
                shown.enter_context(self._progress.steps(f"connecting to {address.host}"))

                def about_to_send() -> bool:
                    shown.close()
                    waited = slot.wait_if_throttled()
                    shown.enter_context(self._progress.steps(f"waiting for {address.host}"))
                    return waited

                # Bypass `session.send`, which would read the whole body of a redirect and parse its target.
                request = ExactRequest(sent, address, headers, came_from=came_from, about_to_send=about_to_send)
                begun = self._budget.now()
                self.asked[address.name] += 1
                answer = cast("StreamedResponse", self.oras.session.get_adapter(address.url).send(request))
            if _LOG.isEnabledFor(logging.DEBUG):
                took = 1000 * (self._budget.now() - begun)
                _LOG.debug("%s %s: %s in %.0f ms", sent.method, answer.url, answer.status_code, took)
            try:
                slot.succeeded = answer.status_code < 400
                yield answer
            except RequestFailed as trouble:
                # Record a throttle before the slot is released, so that the next request waits for it.
                self.backoff.hold(trouble)
                raise
            finally:
                answer.close()

    def _redirect(self, answer: StreamedResponse, base: Address, number: int, reference: Reference) -> Address:
        """Return the target of a redirect, after checking it. `number` counts consecutive redirects."""
        try:
            location = answer.headers.get("Location")
            if number > limits.MAX_REDIRECTS:
                raise redirect_refused(f"`{base.name}` redirects more than {limits.MAX_REDIRECTS} times", base)
            if not location:
                raise redirect_refused(f"`{base.name}` redirects ({answer.status_code}) without a `Location` header", base)
            try:
                address = resolve(base, location)
            except PolicyError as error:
                error.message = f"`{base.name}` redirects to an address that marfetch does not follow: {error.message}"
                error.context["source"] = base.name
                raise
            self.endpoint.check(address, came_from=base)
        except PolicyError as error:
            error.message += f", for `{reference}`"
            error.context.setdefault("reference", str(reference))
            raise
        self.last_redirect = address
        return address

    def _token(self, attempts: Attempts, reference: Reference, realm: Address) -> None:
        """Request a token from the registry's own realm, without retries."""
        address, headers, sent = self.auth.request(realm, reference.repository)
        with self._exchange(address, headers, attempts, None, sent) as answer:
            text = answer.body(limits.MAX_ERROR_BODY, all_of_it=False)
            if answer.status_code == 200 and self.auth.take_token(text, reference.repository):
                return
            raise explain(self._failure(RequestKind.TOKEN, reference, answer, text))

    def close(self) -> None:
        """Close all connections."""
        self.transport.close()

    def stop(self) -> None:
        """Abort all requests. Any thread may call this."""
        self.transport.watch.stop()

    # -- addresses

    def _container(self, reference: Reference) -> Any:
        """Build a container of oras-py from a parsed reference. The parser of oras-py would read `https://…` as a Docker Hub name."""
        host = self.endpoint.registry.host
        container = oras.container.Container(f"{host.name}:{host.port}/{reference.repository}")
        container.registry = self.endpoint.registry.origin.partition("://")[2]
        return container

    def _at(self, target: str) -> Address:
        return Address.parse(f"{self.endpoint.registry.origin}{target}")

    def _address(self, path: str) -> Address:
        return Address.parse(f"{self.oras.prefix}://{path}")

    # -- messages

    def warn_of_skipped(self, lost: int, what: str) -> None:
        """Warn that invalid entries of a list were skipped."""
        self._progress.warn(f"skipped {lost} invalid {'entry' if lost == 1 else 'entries'} of {what}")

    def _malformed(self, reference: Reference, answer: StreamedResponse, reason: str, *, hint: str | None = None) -> IntegrityError:
        return IntegrityError(
            f"the response for `{reference}` is malformed: {reason}",
            code="malformed",
            hint=hint,
            reference=str(reference),
            url=answer.url,
            status=answer.status_code,
            msedge_ref=answer.headers.get("X-Msedge-Ref"),
        )

    def _failure(self, kind: RequestKind, reference: Reference, answer: StreamedResponse, body: bytes) -> Failure:
        is_registry = self.endpoint.is_registry(answer.address)
        return Failure(
            kind,
            str(reference),
            reference.full_repository,
            answer.status_code,
            answer.headers,
            answer.address,
            body.decode("utf-8", "replace"),
            from_data_host=not is_registry,
            sent=sent_values(answer.address.target, answer.request.headers),
            credentials=self.auth.explain(reference.repository) if is_registry and answer.status_code in (401, 403) else None,
        )

    def _refuse_error_document(self, raw: bytes, reference: Reference, answer: StreamedResponse) -> None:
        """Raise an error if a response with the status 200 contains an error document."""
        try:
            document = parse_json(raw, "the answer")
        except IntegrityError:
            return  # the manifest parser reports this better
        if isinstance(document, dict) and isinstance(document.get("errors"), list):
            failure = self._failure(RequestKind.TAG, reference, answer, raw)
            raise RemoteError(
                f"`{answer.address.name}` sent an error document with status 200 for `{reference}` ({failure.summary})",
                code="unexpected-answer",
                **failure.context,
            )
