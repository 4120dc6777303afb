"""What recording and replaying have in common: how requests are counted and named, and how failures are answered."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import ASGIApp, Scope

from ..bundle.recorded import Absence, Recording
from ..errors import Error, IntegrityError, NotFoundError, PolicyError, RateLimitedError, StorageError
from ..oci import Digest, Index, Manifest
from ..reference import is_repository, is_tag
from ..serve.responses import PlainResponse, SentPart, data_digest, no_blob, no_manifest, no_name, nowhere, problem, span
from ..serve.routing import RegistryApp
from .seen import Observations

_ABSENCES: Final[dict[str, Absence]] = {"repository-not-found": "NAME_UNKNOWN", "blob-not-found": "BLOB_UNKNOWN"}
"""Error code of marfetch → code in the 404. Every other error means a missing manifest."""


class Answers(RegistryApp):
    """A registry that answers in the name of an endpoint, for one command.

    Attributes:
        recording: the answers.
        seen: the requests so far.
    """

    def __init__(self, recording: Recording, seen: Observations) -> None:
        super().__init__()
        self.recording = recording
        self.seen = seen

    def data_app(self) -> ASGIApp:
        """Return the application of the data hosts."""
        return self.guarded(self._data)

    def refuse(self, scope: Scope) -> ASGIApp | None:
        self.seen.asked += 1
        refusal = super().refuse(scope)
        if refusal is not None:
            self.seen.refuse(self.named(scope), "the registry is read-only, and takes only requests with a clear path and host")
        return refusal

    def named(self, scope: Scope) -> str:
        """Return the method and URL of a request, without the query, which may contain secrets. HEAD counts as GET."""
        method = scope["method"] if scope["method"] != "HEAD" else "GET"
        return f"{method} {self.recording.endpoint.registry.origin}{scope['path']}"

    async def other(self, scope: Scope) -> ASGIApp:
        self.seen.refuse(self.named(scope), "only requests to the registry API are answered")
        return await super().other(scope)

    async def manifest(self, name: str, text: str) -> Manifest | Index | None:
        digest = digest_of(text) if ":" in text else None
        if not is_repository(name) or (digest is None and not is_tag(text)):
            return None
        return await self.known_manifest(name, text, digest)

    async def known_manifest(self, name: str, text: str, digest: Digest | None) -> Manifest | Index | None:
        """Return the manifest with a valid tag (`digest` is None) or digest."""
        raise NotImplementedError

    async def blob(self, scope: Scope, name: str, text: str) -> ASGIApp:
        digest = digest_of(text)
        if digest is None or not is_repository(name):
            return no_blob(name, text) if is_repository(name) else no_name(name)
        return await self.known_blob(scope, name, digest)

    async def known_blob(self, scope: Scope, name: str, digest: Digest) -> ASGIApp:
        """Return the response to a request for a blob with a valid digest."""
        raise NotImplementedError

    async def answered(self, answer: Callable[[Scope], Awaitable[ASGIApp]], scope: Scope) -> ASGIApp:
        try:
            found = await answer(scope)
        except Error as error:
            return self.failed(scope, error)
        self.seen.succeed(self.named(scope))
        return found

    def failed(self, scope: Scope, error: Error) -> ASGIApp:
        if isinstance(error, NotFoundError):
            return self.absent(scope, absence(error))
        self.seen.fail(self.named(scope), error)
        if isinstance(error, RateLimitedError):
            wait = error.context.get("retry_after")
            headers = {"Retry-After": str(math.ceil(wait))} if isinstance(wait, (int, float)) else None
            return problem(429, "TOOMANYREQUESTS", error.message, headers=headers)
        if isinstance(error, StorageError):
            return problem(507, "UNKNOWN", error.message)
        if isinstance(error, (IntegrityError, PolicyError)):
            return problem(502, "UNKNOWN", f"refused by marfetch: {error.message}")
        return problem(504 if error.code == "timeout" else 502, "UNKNOWN", error.message)

    def absent(self, scope: Scope, what: Absence) -> ASGIApp:
        """Return the 404 for a request."""
        path: str = scope["path"].removeprefix("/v2/")
        if path == "_catalog":
            return nowhere()
        name, _, last = path.rpartition("/")
        if path.endswith("/tags/list"):
            return no_name(path.removesuffix("/tags/list"))
        name = name.rpartition("/")[0]
        if what == "NAME_UNKNOWN":
            return no_name(name)
        return no_blob(name, last) if what == "BLOB_UNKNOWN" else no_manifest(name, last)

    async def _data(self, scope: Scope) -> ASGIApp:
        """Answer for a data host. It has only the blobs that were requested from the registry before."""
        digest = data_digest(scope["path"])
        holders = {name for name, one in self.recording.repositories.items() if digest in one.blobs}
        if digest is None or not holders:
            return await self.other(scope)
        return await self.blob(scope, min(holders), str(digest))


def head_only(scope: Scope, digest: Digest, size: int) -> ASGIApp:
    """Return the response to HEAD for a blob whose bytes are not needed."""
    found = span(scope, digest, size)
    return PlainResponse(found.headers, b"", found.status) if isinstance(found, SentPart) else found


def absence(error: NotFoundError) -> Absence:
    """Return the code in the 404 for an error."""
    return _ABSENCES.get(error.code, "MANIFEST_UNKNOWN")


def digest_of(text: str) -> Digest | None:
    """Parse a digest; return None if the text is not a digest."""
    try:
        return Digest.parse(text)
    except Error:
        return None
