"""Uploads to the user's own registries (distribution-spec, "Push"). No other module writes to a registry.

Manifests and blobs are sent byte for byte, so their digests stay the same. The `Location` of an upload is checked against the endpoint
like any other address.
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
from .http_errors import RequestKind
from .pages import resolve
from .referrers import by_api, by_tag, fallback_tag
from .registry import Registry
from .transport import Sent, StreamedResponse

_PIECE: Final = 256 << 10
_HEAD: Final = Sent("HEAD")
_ACCEPT: Final = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))


def refuse_official(endpoint: Endpoint) -> None:
    """Refuse to write to MAR.

    Raises:
        PolicyError: `push-refused`: the endpoint's registry is MAR.
    """
    refuse_name(endpoint.registry.host.name)


def refuse_name(name: str) -> None:
    """Refuse to write to a host of MAR.

    Args:
        name: the name of the host, in lower case.

    Raises:
        PolicyError: `push-refused`.
    """
    if any(name == host or name.endswith(f".{host}") for host in OFFICIAL_HOSTS):
        raise PolicyError(
            f"cannot push to `{name}`: marfetch never writes to MAR", code="push-refused", url=f"https://{name}", rule="never to MAR"
        )


class Pushing:
    """Uploads to the repositories of one registry. It is thread-safe, and each method may be called again after a failure.

    Raises:
        PolicyError: `push-refused`: the registry is MAR.
    """

    def __init__(self, registry: Registry) -> None:
        refuse_official(registry.endpoint)
        self._registry = registry
        registry.auth.is_for_uploads = True

    # -- checks

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Return whether the repository has a blob."""
        return self._head(reference, f"blobs/{digest}", RequestKind.BLOB, {}).status_code == 200

    def digest(self, reference: Reference) -> Digest | None:
        """Return the digest of the manifest that a reference names; None if the repository has no such manifest.

        Raises:
            Error: the registry failed.
        """
        name = reference.tag or str(reference.digest)
        answer = self._head(reference, f"manifests/{name}", RequestKind.MANIFEST, {"Accept": _ACCEPT})
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

    # -- uploads

    def blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        pieces: Callable[[], Iterable[bytes]],
        transfer: Transfer,
        *,
        origin: str | None = None,
    ) -> None:
        """Upload a blob. A retry restarts at the first byte.

        Args:
            pieces: returns the chunks of the blob. Each try calls it again.
            transfer: reports the progress of the upload.
            origin: a repository of the same registry that has the blob; the registry is asked to mount it (distribution-spec, "Mounting a
                blob from another repository"), and gets the bytes if it does not.

        Raises:
            RemoteError: `push-failed`: the registry rejected the blob.
            PolicyError: the endpoint does not allow the `Location` of the upload.
            Error: the blob cannot be read, or the registry failed.
        """
        attempts = self._registry.backoff.attempts(f"`{reference.full_repository}`")
        plain = self._registry.repository_address(reference, "blobs/uploads/")
        start = plain
        if origin not in (None, reference.repository):
            start = Address(plain.scheme, plain.host, f"{plain.target}?mount={descriptor.digest}&from={origin}")
        body = partial(self._body, pieces, transfer)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
        while True:
            try:
                # 201 says that the blob was mounted. Without a mount, the registry cannot have it yet.
                expected = (202,) if start is plain else (201, 202)
                answer = self._send(start, reference, {"Content-Length": "0"}, attempts, expected, Sent("POST"))
                if answer.status_code == 201:
                    return
                upload = self._location(answer, start, reference)
                separator = "&" if "?" in upload.target else "?"
                upload = Address(upload.scheme, upload.host, f"{upload.target}{separator}digest={descriptor.digest}")
                self._registry.endpoint.check(upload, came_from=start)
                self._compare(self._send(upload, reference, headers, attempts, (201,), Sent("PUT", body)), descriptor, reference)
                return
            except (RequestFailed, RemoteError) as trouble:
                if start is not plain:  # the mount failed, for example because the token is not valid for the other repository
                    start = plain
                elif isinstance(trouble, RequestFailed):
                    attempts.failed(trouble)
                else:
                    raise

    def manifest(self, reference: Reference, manifest: Manifest | Index) -> None:
        """Upload a manifest unchanged, under the tag of the reference. Without a tag, upload it under its digest.

        Raises:
            RemoteError: `push-failed`: the registry rejected the manifest.
            IntegrityError: `digest-mismatch`: the registry stored other bytes.
        """
        name = reference.tag or str(manifest.descriptor.digest)
        address = self._registry.repository_address(reference, f"manifests/{name}")
        headers = {"Content-Type": manifest.descriptor.media_type, "Content-Length": str(len(manifest.raw))}
        attempts = self._registry.backoff.attempts(f"`{reference}`")
        while True:
            try:
                answer = self._send(address, reference, headers, attempts, (201,), Sent("PUT", (manifest.raw,)))
                self._compare(answer, manifest.descriptor, reference)
                return
            except RequestFailed as trouble:
                attempts.failed(trouble)

    def referrers(self, reference: Reference, subject: Digest, entries: Sequence[Descriptor]) -> bool:
        """Make the registry list the uploaded referrers of a manifest. If it has no referrers API, add them to the fallback tag.

        Args:
            subject: the digest of the manifest.
            entries: the descriptors of the uploaded referrers.

        Returns:
            Whether the fallback tag was changed.

        Raises:
            Error: the registry failed.
        """
        listed = self.unlisted(reference, subject, entries)
        if not listed:
            return False
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor_json(one) for one in listed]}
        raw = json.dumps(document, separators=(",", ":")).encode()
        self.manifest(
            Reference(reference.repository, reference.host, fallback_tag(subject)), parse_manifest(raw, what="the index of referrers")
        )
        return True

    def unlisted(self, reference: Reference, subject: Digest, entries: Sequence[Descriptor]) -> list[Descriptor]:
        """Return all that the fallback tag has to list; empty if the registry lists the entries. The arguments are those of `referrers`."""
        try:
            by_api(self._registry, reference, subject, None, f"the referrers of `{reference.full_repository}@{subject}`", [])
            return []
        except NotFoundError:
            there = by_tag(self._registry, reference, subject)
        known = {one.digest for one in there}
        new = [one for one in entries if one.digest not in known]
        return sorted([*there, *new], key=lambda one: str(one.digest)) if new else []

    # -- requests

    def _head(self, reference: Reference, path: str, kind: RequestKind, headers: dict[str, str]) -> StreamedResponse:
        """Send a HEAD request with retries. Return its response, which has the status 200 or 404."""
        address = self._registry.repository_address(reference, path)
        attempts = self._registry.backoff.attempts(f"`{reference}`")
        while True:
            try:
                with self._registry.asking(address, headers, attempts, kind, reference, expected=(200, 404), sent=_HEAD) as answer:
                    answer.body(limits.MAX_ERROR_BODY, all_of_it=False)
                    return answer
            except RequestFailed as trouble:
                attempts.failed(trouble)

    def _send(
        self,
        address: Address,
        reference: Reference,
        headers: dict[str, str],
        attempts: Attempts,
        expected: tuple[int, ...],
        sent: Sent,
    ) -> StreamedResponse:
        """Send a request of an upload without retries, and return its response."""
        try:
            with self._registry.asking(address, headers, attempts, RequestKind.MANIFEST, reference, expected=expected, sent=sent) as answer:
                answer.body(limits.MAX_ERROR_BODY, all_of_it=False)
                return answer
        except RequestFailed as trouble:
            error = trouble.error
            if isinstance(error, NotFoundError) or error.code == "unexpected-answer":
                said = error.context.get("wire") or error.context.get("status")
                failure = RemoteError(
                    f"`{self._registry.endpoint.registry.name}` rejected the upload to `{reference.full_repository}` ({said})",
                    code="push-failed",
                )
                failure.context |= error.context
                raise failure from trouble
            raise

    def _body(self, pieces: Callable[[], Iterable[bytes]], transfer: Transfer, exchange: Exchange) -> Iterator[bytes]:
        """Yield the body of an upload. Before each piece, extend the deadline. After it, report progress."""
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
        # The registry may have to hash the blob or forward it to its storage before it responds.
        exchange.deadline = transport.until(limits.COMMIT_TIME)

    def _location(self, answer: StreamedResponse, start: Address, reference: Reference) -> Address:
        location = answer.headers.get("Location")
        if not location:
            raise RemoteError(
                f"`{start.name}` accepted an upload for `{reference.full_repository}` without a `Location` header",
                code="push-failed",
                url=start.origin,
                status=answer.status_code,
            )
        try:
            address = resolve(start, location)
            refuse_name(address.host.name)  # never upload to MAR, even if a wildcard in `--data-host` matches one of its hosts
            self._registry.endpoint.check(address, came_from=start)
        except PolicyError as error:
            error.message = f"`{start.name}` forwards the upload to an address that marfetch does not follow: {error.message}"
            raise
        return address

    def _compare(self, answer: StreamedResponse, descriptor: Descriptor, reference: Reference) -> None:
        said = answer.headers.get("Docker-Content-Digest")
        if said and said.strip().startswith(f"{descriptor.digest.algorithm}:") and said.strip() != str(descriptor.digest):
            raise IntegrityError(
                f"`{reference.full_repository}` stored `{said.strip()[:100]}`, but marfetch sent `{descriptor.digest}`",
                code="digest-mismatch",
                reference=str(reference),
                expected=str(descriptor.digest),
                actual=said.strip()[:200],
            )
