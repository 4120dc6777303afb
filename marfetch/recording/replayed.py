"""Answer requests from a recording, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.types import ASGIApp, Scope

from ..bundle.format import Opened
from ..bundle.recorded import RecordedRepository, Recording
from ..errors import Error, IntegrityError, LockError, NotFoundError
from ..oci import Descriptor, Digest, Index, Manifest
from ..reference import is_repository
from ..serve.responses import problem
from ..serve.streams import VerifiedBlobs, blob_response
from .answering import Answers, head_only
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

    async def known_manifest(self, name: str, text: str, digest: Digest | None) -> Manifest | Index | None:
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

    async def known_blob(self, scope: Scope, name: str, digest: Digest) -> ASGIApp:
        one = self._repository(name, f"blobs/{digest}")
        size = one.blobs.get(digest)
        if size is None:
            if scope["method"] != "HEAD" or digest not in one.sizes:  # of some blobs, only HEAD was recorded
                raise _missing()
            return head_only(scope, digest, one.sizes[digest])
        answer = await blob_response(scope, digest, self._store.extent(digest), self._checked)
        if answer is None:
            error = IntegrityError(f"the blob `{digest}` of the recording `{self._store.root}` is corrupted", code="bundle-broken")
            self.seen.fail(self.named(scope), error)
            return problem(502, "UNKNOWN", error.message)
        return answer

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
