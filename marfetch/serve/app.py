"""The registry application: serve a layout with the pull and content discovery APIs of the distribution specification.

With a data origin, blob requests are redirected in the same way as by MAR. The response is a 307 to a signed URL on another host, and the
path of the URL contains a double slash.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence, Set
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import Error, IntegrityError, NotFoundError
from ..layout.blobs import BlobStore
from ..layout.repositories import Contents, LayoutRepository, Snapshot
from ..oci import Descriptor, Digest, Index, Manifest
from ..reference import Host
from .page import Pages
from .responses import data_digest, header, no_blob, problem
from .routing import RegistryApp
from .streams import VerifiedBlobs, blob_response


class ServedRegistry(RegistryApp):
    """A read-only registry that serves a layout.

    Args:
        store: the layout.
        host: serve only the index names with this host; None to serve all names.
        name: the repository for index names that have no repository.
        data_origin: the target of blob redirects, where `{host}` is replaced with the requested host; None to serve blobs directly.
        allowed: answer only requests for these host names and for loopback names; None to answer requests for any host name.
        check: whether to verify a blob before it is first served. Turn it off only to test how clients handle corrupted blobs.
        warn: called with the description of each problem in the layout.
    """

    def __init__(
        self,
        store: BlobStore,
        host: Host | None = None,
        *,
        name: str | None = None,
        data_origin: str | None = None,
        allowed: Set[str] | None = None,
        check: bool = True,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(allowed=allowed, warn=warn)
        self.contents = Contents(store, host=host, name=name, warn=warn)
        self._pages = Pages(self.contents)
        self._data_origin = data_origin
        self._check = check
        self._checked = VerifiedBlobs()
        self._loading = asyncio.Lock()

    def data_app(self) -> ASGIApp:
        """Return the application of the data endpoint."""
        return self.guarded(self._data)

    # -- the registry endpoint

    async def other(self, scope: Scope) -> ASGIApp:
        if scope["path"] != "/":
            return await super().other(scope)
        await self._current()
        host = header(scope, b"host") or ""
        # The page shows the host in commands to copy into a shell, so allow only safe characters.
        shown = host if re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?", host) else "localhost"
        return await asyncio.to_thread(self._pages.answer, shown)

    async def _current(self) -> Snapshot:
        if not self.contents.is_current:
            async with self._loading:
                await asyncio.to_thread(self.contents.current)
        return self.contents.current()

    async def catalog(self) -> Sequence[str]:
        return list((await self._current()).repositories)

    async def tags(self, name: str) -> Sequence[str] | None:
        repository = (await self._current()).repositories.get(name)
        return list(repository.tags) if repository is not None else None

    async def manifest(self, name: str, text: str) -> Manifest | Index | None:
        snapshot = await self._current()
        if text in snapshot.missing and self.contents.look_again(text):
            snapshot = await self._current()
        repository = snapshot.repositories.get(name)
        found = _find(repository, text) if repository is not None else None
        return await self._read(found) if found is not None else None

    async def _read(self, found: Descriptor) -> Manifest | Index | None:
        manifest = self.contents.manifests.cached(found.digest)
        if manifest is not None:
            return manifest
        try:
            return await asyncio.to_thread(self.contents.manifests.read, found)
        except (NotFoundError, IntegrityError) as error:
            self.warn(f"`{found.digest}` is not served: {error.message}")
            return None

    async def blob(self, scope: Scope, name: str, text: str) -> ASGIApp:
        snapshot = await self._current()
        repository = snapshot.repositories.get(name)
        found = (repository.blobs.get(text) or repository.manifests.get(text)) if repository is not None else None
        if found is None:
            return no_blob(name, text)
        digest = found.digest
        if self._data_origin is None:
            return await self._content(scope, digest, size=found.size)
        if self.contents.store.stamp(digest) is None:
            return no_blob(name, text)
        origin = self._data_origin.replace("{host}", re.sub(r":[0-9]+$", "", header(scope, b"host") or "localhost"))
        signature = urlencode({"se": "2030-01-01T00:00:00Z", "sig": "bm90IGEgcmVhbCBzaWduYXR1cmU=", "sp": "r", "spr": "https", "sr": "b"})
        path = f"/marfetch//docker/registry/v2/blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data"
        location = f"{origin}{path}?{signature}"
        return HTMLResponse(f'<a href="{location}">Temporary Redirect</a>.\n', status_code=307, headers={"Location": location})

    async def referrers(self, name: str, digest: Digest) -> Sequence[Descriptor] | None:
        repository = (await self._current()).repositories.get(name)
        return repository.referrers.get(str(digest), []) if repository is not None else None

    # -- the data endpoint

    async def _data(self, scope: Scope) -> ASGIApp:
        """Serve a blob by its digest, without checking the repository. The signed URL from the redirect grants access."""
        digest = data_digest(scope["path"])
        if digest is None:
            return problem(404, "BLOB_UNKNOWN", "no such path")
        if header(scope, b"authorization") is not None:
            return Response(status_code=400)
        if "sig" not in QueryParams(scope["query_string"]):
            return Response("<Error><Code>AuthenticationFailed</Code></Error>", status_code=403, media_type="application/xml")
        return await self._content(scope, digest)

    async def _content(self, scope: Scope, digest: Digest, *, size: int | None = None) -> ASGIApp:
        try:
            extent = self.contents.store.extent(digest)
        except Error as error:
            if not isinstance(error, NotFoundError):
                self.warn(error.message)
            return no_blob("", str(digest))
        if size is not None and self._check and extent.size != size:
            extent.close()
            return self._damaged(digest)
        answer = await blob_response(scope, digest, extent, self._checked if self._check else None)
        return answer or self._damaged(digest)

    def _damaged(self, digest: Digest) -> ASGIApp:
        self.warn(f"the blob `{digest}` is not served: it is corrupted in `{self.contents.store.root}`")
        return problem(404, "BLOB_UNKNOWN", f"blob `{digest}` is corrupted in the layout and is not served")


def _find(repository: LayoutRepository, text: str) -> Descriptor | None:
    return repository.manifests.get(text) if ":" in text else repository.tags.get(text)


def logged(app: ASGIApp, log: Callable[[str], None]) -> ASGIApp:
    """Wrap an application to log every response. Queries are not logged, because the queries of signed URLs are secrets."""

    async def logging_app(scope: Scope, receive: Receive, send: Send) -> None:
        async def logging_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                log(f"{scope['method']} {scope['path']} {message['status']}")
            await send(message)

        await app(scope, receive, logging_send)

    return logging_app


def counted(app: ASGIApp, asked: Counter[str]) -> ASGIApp:
    """Wrap an application to count its requests by kind.

    Args:
        asked: the counter to increment.
    """
    kinds = {"/manifests/": "a manifest", "/tags/": "tags", "/docker/": "content", "/blobs/": "a blob"}

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked[next((kind for part, kind in kinds.items() if part in scope["path"]), "something else")] += 1
        await app(scope, receive, send)

    return counting
