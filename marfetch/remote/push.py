"""Writes to a registry of the user's own: the only module that does (distribution-spec, "Push").

Stored bytes go out as they are, a manifest with its own content type, a blob streamed from its file; nothing is encoded anew, so that every
digest stays. Every address that an upload is sent on to passes the policy of the endpoint like any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from ..content import Transfer
from ..endpoint import Address, Endpoint
from ..errors import IntegrityError, NotFoundError, PolicyError, RemoteError
from ..oci import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX, Descriptor, Digest, Index, Manifest, descriptor_json, parse_manifest
from ..reference import OFFICIAL_HOSTS, Reference
from . import limits
from .backoff import Attempts, RequestFailed
from .deadlines import Exchange
from .http_errors import Asked
from .pages import resolve
from .referrers import by_api, by_tag, fallback_tag
from .registry import Registry
from .transport import Sent, StreamedResponse

_PIECE: Final = 256 << 10
_HEAD: Final = Sent("HEAD")
_ACCEPT: Final = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))


def refuse_official(endpoint: Endpoint) -> None:
    """MAR is read, never written to, whatever name it is given.

    Raises:
        PolicyError: `push-refused`.
    """
    refuse_name(endpoint.registry.host.name)


def refuse_name(name: str) -> None:
    """The same for the name of one host, such as that to which an upload is sent on; in lower case.

    Raises:
        PolicyError: `push-refused`.
    """
    if any(name == host or name.endswith(f".{host}") for host in OFFICIAL_HOSTS):
        raise PolicyError(
            f"`{name}` is MAR, and marfetch never writes to it", code="push-refused", url=f"https://{name}", rule="never to MAR"
        )


class Pushing:
    """Writes to the repositories of one registry; every method may be called from any thread, and again after a failure.

    Raises:
        PolicyError: `push-refused`: it is MAR.
    """

    def __init__(self, registry: Registry) -> None:
        refuse_official(registry.endpoint)
        self._registry = registry

    # -- what is there

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether the repository has a blob."""
        return self._asked(reference, f"blobs/{digest}", Asked.BLOB, {}).status_code == 200

    def digest(self, reference: Reference) -> Digest | None:
        """The digest of what a tag or digest names; None where the repository has nothing of that name.

        Raises:
            Error: the registry failed.
        """
        name = reference.tag or str(reference.digest)
        answer = self._asked(reference, f"manifests/{name}", Asked.MANIFEST, {"Accept": _ACCEPT})
        if answer.status_code == 404:
            return None
        said = answer.headers.get("Docker-Content-Digest")
        if said is not None:
            return Digest.parse(said.strip())
        try:
            found = self._registry.manifest(reference)
        except NotFoundError:
            return None
        return found.descriptor.digest if found is not None else None

    # -- what goes there

    def blob(self, reference: Reference, descriptor: Descriptor, pieces: Callable[[], Iterable[bytes]], transfer: Transfer) -> None:
        """Upload a blob in one request; a try that failed is begun anew.

        Args:
            pieces: gives its bytes, anew each time.

        Raises:
            RemoteError: `push-failed`: the registry did not take it.
            PolicyError: it sends the upload on to where the endpoint does not lead.
            Error: what the pieces raise; the registry failed.
        """
        attempts = self._registry.backoff.attempts(f"`{reference.full_repository}`")
        start = self._registry.repository_address(reference, "blobs/uploads/")
        body = partial(self._body, pieces, transfer)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
        while True:
            try:
                answer = self._sent(start, reference, {"Content-Length": "0"}, attempts, (201, 202), Sent("POST"))
                if answer.status_code == 201:
                    return
                place = self._location(answer, start, reference)
                place = Address(place.scheme, place.host, f"{place.target}{'&' if '?' in place.target else '?'}digest={descriptor.digest}")
                self._registry.endpoint.check(place, came_from=start)
                self._compare(self._sent(place, reference, headers, attempts, (201,), Sent("PUT", body)), descriptor, reference)
                return
            except RequestFailed as trouble:
                attempts.failed(trouble)

    def manifest(self, reference: Reference, manifest: Manifest | Index) -> None:
        """Put a manifest under its digest, or under the reference's tag, in the bytes in which it came.

        Raises:
            RemoteError: `push-failed`: the registry did not take it.
            IntegrityError: `digest-mismatch`: it took something else.
        """
        name = reference.tag or str(manifest.descriptor.digest)
        address = self._registry.repository_address(reference, f"manifests/{name}")
        headers = {"Content-Type": manifest.descriptor.media_type, "Content-Length": str(len(manifest.raw))}
        attempts = self._registry.backoff.attempts(f"`{reference}`")
        while True:
            try:
                answer = self._sent(address, reference, headers, attempts, (201,), Sent("PUT", (manifest.raw,)))
                self._compare(answer, manifest.descriptor, reference)
                return
            except RequestFailed as trouble:
                attempts.failed(trouble)

    def referrers(self, reference: Reference, subject: Digest, entries: Sequence[Descriptor]) -> bool:
        """See to it that the registry lists these referrers, which it has: where it lacks the API, by the tag that stands in for it.

        Returns:
            Whether that tag was written.

        Raises:
            Error: the registry failed.
        """
        try:
            by_api(self._registry, reference, subject, None, f"the referrers of `{reference.full_repository}@{subject}`")
            return False
        except NotFoundError:
            pass
        there = by_tag(self._registry, reference, subject)
        known = {one.digest for one in there}
        new = [one for one in entries if one.digest not in known]
        if not new:
            return False
        listed = sorted([*there, *new], key=lambda one: str(one.digest))
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor_json(one) for one in listed]}
        raw = json.dumps(document, separators=(",", ":")).encode()
        self.manifest(
            Reference(reference.repository, reference.host, fallback_tag(subject)), parse_manifest(raw, what="the index of referrers")
        )
        return True

    # -- how

    def _asked(self, reference: Reference, path: str, asked: Asked, headers: dict[str, str]) -> StreamedResponse:
        """The answer to whether something is there, read and closed; asked for again where that makes sense."""
        address = self._registry.repository_address(reference, path)
        attempts = self._registry.backoff.attempts(f"`{reference}`")
        while True:
            try:
                with self._registry.asking(address, headers, attempts, asked, reference, expected=(200, 404), sent=_HEAD) as answer:
                    answer.body(limits.MAX_ERROR_BODY, all_of_it=False)
                    return answer
            except RequestFailed as trouble:
                attempts.failed(trouble)

    def _sent(
        self,
        address: Address,
        reference: Reference,
        headers: dict[str, str],
        attempts: Attempts,
        expected: tuple[int, ...],
        sent: Sent,
    ) -> StreamedResponse:
        """The answer to what was sent, read and closed."""
        try:
            with self._registry.asking(address, headers, attempts, Asked.MANIFEST, reference, expected=expected, sent=sent) as answer:
                answer.body(limits.MAX_ERROR_BODY, all_of_it=False)
                return answer
        except RequestFailed as trouble:
            error = trouble.error
            if isinstance(error, NotFoundError) or error.code == "unexpected-answer":
                said = error.context.get("wire") or error.context.get("status")
                failure = RemoteError(
                    f"`{self._registry.endpoint.registry.name}` does not take what is sent to `{reference.full_repository}` ({said})",
                    code="push-failed",
                )
                failure.context |= error.context
                raise failure from trouble
            raise

    def _body(self, pieces: Callable[[], Iterable[bytes]], transfer: Transfer, exchange: Exchange) -> Iterator[bytes]:
        """The bytes of an upload; tells how far it is, and keeps the watch from ending what gets on."""
        transport = self._registry.transport
        sent = 0
        transfer.held(0)
        for whole in pieces():
            for start in range(0, len(whole), _PIECE):
                transport.budget.check()
                exchange.deadline = transport.until(limits.RATE_TIME)
                piece = whole[start : start + _PIECE]
                yield piece
                sent += len(piece)
                transfer.held(sent)
        # The registry may have to hash all of it, or hand it on, before it answers.
        exchange.deadline = transport.until(limits.COMMIT_TIME)

    def _location(self, answer: StreamedResponse, start: Address, reference: Reference) -> Address:
        location = answer.headers.get("Location")
        if not location:
            raise RemoteError(
                f"`{start.name}` takes an upload for `{reference.full_repository}`, but does not say where to",
                code="push-failed",
                url=start.origin,
                status=answer.status_code,
            )
        try:
            address = resolve(start, location)
            refuse_name(address.host.name)  # also where a data host with a wildcard would cover it
            self._registry.endpoint.check(address, came_from=start)
        except PolicyError as error:
            error.message = f"`{start.name}` sends the upload on to an address that is not followed: {error.message}"
            raise
        return address

    def _compare(self, answer: StreamedResponse, descriptor: Descriptor, reference: Reference) -> None:
        said = answer.headers.get("Docker-Content-Digest")
        if said and said.strip().startswith(f"{descriptor.digest.algorithm}:") and said.strip() != str(descriptor.digest):
            raise IntegrityError(
                f"`{reference.full_repository}` says that it took `{said.strip()[:100]}`, but `{descriptor.digest}` was sent",
                code="digest-mismatch",
                reference=str(reference),
                expected=str(descriptor.digest),
                actual=said.strip()[:200],
            )
