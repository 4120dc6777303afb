"""Answer requests from a recording, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.types import ASGIApp, Scope

from ..bundle.format import Opened
from ..bundle.recorded import RecordedRepository, Recording
from ..errors import Error, IntegrityError, LockError, NotFoundError
from ..oci import Descriptor, Digest, Index, Manifest
from ..reference import is_repository, is_tag
from ..serve.responses import PlainResponse, SentPart, no_blob, no_name, problem, span
from ..serve.streams import VerifiedBlobs, blob_response
from .answering import Answers, digest_of
from .seen import Observations


class Replayed(Answers):
    """A registry that answers from a recording. A request that was not recorded gets a 404 and is reported. A recorded 404 is only sent.

    Args:
        found: the open archive of the recording.
    """

    def __init__(self, found: Opened, recording: Recording, seen: Observations) -> None:
        super().__init__(recording, seen)
        self._store = found.store
        self._manifests = found.contents.manifests
        self._checked = VerifiedBlobs()

    def failed(self, scope: Scope, error: Error) -> ASGIApp:
        if isinstance(error, LockError):
            self.seen.miss(self.named(scope))
            return self.absent(scope, "BLOB_UNKNOWN" if "/blobs/" in scope["path"] else "MANIFEST_UNKNOWN")
        return super().failed(scope, error)

    async def catalog(self) -> Sequence[str]:
        if self.recording.catalog is None:
            raise _missing()
        return self.recording.catalog

    async def tags(self, name: str) -> Sequence[str] | None:
        if not is_repository(name):
            return None
        one = self._repository(name, "tags/list")
        if one.listed is None:
            raise _missing()
        return one.listed

    async def manifest(self, name: str, text: str) -> Manifest | Index | None:
        digest = digest_of(text) if ":" in text else None
        if not is_repository(name) or (digest is None and not is_tag(text)):
            return None
        one = self._repository(name, f"manifests/{text}")
        found = one.manifests.get(one.tags.get(text) if digest is None else digest)  # type: ignore[arg-type]
        if found is None:
            raise _missing()
        return self._manifests.cached(found.digest) or await asyncio.to_thread(self._manifests.read, found)

    async def referrers(self, name: str, digest: Digest) -> Sequence[Descriptor] | None:
        if not is_repository(name):
            return None
        found = self._repository(name, f"referrers/{digest}").referrers.get(digest)
        if found is None:
            raise _missing()
        return found

    async def blob(self, scope: Scope, name: str, text: str) -> ASGIApp:
        digest = digest_of(text)
        if digest is None or not is_repository(name):
            return no_blob(name, text) if is_repository(name) else no_name(name)
        one = self._repository(name, f"blobs/{text}")
        size = one.blobs.get(digest)
        if size is None:
            return self._head(scope, digest, one)
        answer = await blob_response(scope, digest, self._store.extent(digest), self._checked)
        if answer is None:
            error = IntegrityError(f"the blob `{digest}` of the recording `{self._store.root}` is corrupted", code="bundle-broken")
            self.seen.fail(self.named(scope), error)
            return problem(502, "UNKNOWN", error.message)
        return answer

    def _head(self, scope: Scope, digest: Digest, one: RecordedRepository) -> ASGIApp:
        """Answer for a blob that is not in the recording. For some of these blobs, HEAD was recorded."""
        if scope["method"] != "HEAD" or digest not in one.sizes:
            raise _missing()
        found = span(scope, digest, one.sizes[digest])
        return PlainResponse(found.headers, b"", found.status) if isinstance(found, SentPart) else found

    def _repository(self, name: str, path: str) -> RecordedRepository:
        """Return the answers about a repository.

        Raises:
            LockError: `not-recorded`: nothing about it was recorded.
            NotFoundError: it was not found when it was recorded.
        """
        one = self.recording.repositories.get(name)
        if one is None:
            raise _missing()
        what = one.absent.get(path)
        if what is not None:
            codes = {"NAME_UNKNOWN": "repository-not-found", "BLOB_UNKNOWN": "blob-not-found"}
            raise NotFoundError("not found when it was recorded", code=codes.get(what, "manifest-not-found"))
        return one


def _missing() -> LockError:
    return LockError("not in the recording", code="not-recorded")
