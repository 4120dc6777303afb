"""The registry application: serve a layout with the pull and content discovery APIs of the distribution specification.

With a data origin, blob requests are redirected in the same way as by MAR. The response is a 307 to a signed URL on another host, and the
path of the URL contains a double slash.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Set
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import Error, InputError, IntegrityError, NotFoundError
from ..layout.blobs import BlobStore, Extent
from ..layout.repositories import Contents, LayoutRepository, Snapshot, lexical
from ..oci import OCI_INDEX, Descriptor, Digest, Index, Manifest
from ..reference import Host
from .page import Pages
from .responses import (
    VERSION,
    PlainResponse,
    base,
    header,
    matches_tag,
    misdirected,
    no_blob,
    no_manifest,
    no_name,
    nowhere,
    page,
    part,
    problem,
    referrers_page,
    unusual,
)
from .streams import BlobResponse, VerifiedBlobs

_log = logging.getLogger("marfetch.serve")


class ServedRegistry:
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
        self.contents = Contents(store, host=host, name=name, warn=warn)
        self._pages = Pages(self.contents)
        self._data_origin = data_origin
        self._allowed = allowed
        self._check = check
        self._checked = VerifiedBlobs()
        self._warn = warn or (lambda _: None)
        self._loading = asyncio.Lock()

    def app(self) -> ASGIApp:
        """Return the application of the registry endpoint."""
        return self._guarded(self._registry)

    def data_app(self) -> ASGIApp:
        """Return the application of the data endpoint."""
        return self._guarded(self._data)

    def _guarded(self, answer: Callable[[Scope], Awaitable[ASGIApp]]) -> ASGIApp:
        """Wrap an application: refuse ambiguous, misdirected and write requests, and report errors as warnings."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            try:
                refused = unusual(scope) or (misdirected(scope, self._allowed) if self._allowed is not None else None)
                given: ASGIApp = refused or await self._answer(answer, scope)
                await given(scope, receive, send)
            except Error as error:
                # The response has already started, so it cannot become an error response. The client sees that it is incomplete.
                self._warn(error.message)
            except Exception:
                _log.exception("bug: no response for `%s`", scope["path"])
                raise

        return guarded

    async def _answer(self, answer: Callable[[Scope], Awaitable[ASGIApp]], scope: Scope) -> ASGIApp:
        try:
            return await answer(scope)
        except Error as error:
            self._warn(error.message)
            return problem(500, "UNKNOWN", "the registry cannot read its layout")

    # -- the registry endpoint

    async def _registry(self, scope: Scope) -> ASGIApp:
        path: str = scope["path"]
        if not path.startswith("/v2/"):
            if path == "/":
                return await self._page(scope)
            return base() if path == "/v2" else nowhere()
        rest = path[4:]
        if rest == "":
            return base()
        if rest == "_catalog":
            return self._catalog(scope, await self._current())
        if rest.endswith("/tags/list"):
            return self._tags(scope, rest.removesuffix("/tags/list"), await self._current())
        name, _, last = rest.rpartition("/")
        name, _, kind = name.rpartition("/")
        match kind:
            case "manifests":
                return await self._manifest(scope, name, last)
            case "blobs":
                return await self._blob(scope, name, last)
            case "referrers":
                return self._referrers(scope, name, last, await self._current())
        return nowhere()

    async def _page(self, scope: Scope) -> ASGIApp:
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

    def _catalog(self, scope: Scope, snapshot: Snapshot) -> ASGIApp:
        try:
            found = page(list(snapshot.repositories), scope["query_string"], "/v2/_catalog", key=str)
        except InputError as error:
            return problem(400, "PAGINATION_NUMBER_INVALID", error.message)
        return JSONResponse({"repositories": found.entries}, headers=found.headers)

    def _tags(self, scope: Scope, name: str, snapshot: Snapshot) -> ASGIApp:
        repository = snapshot.repositories.get(name)
        if repository is None:
            return no_name(name)
        try:
            found = page(list(repository.tags), scope["query_string"], f"/v2/{name}/tags/list", key=lexical)
        except InputError as error:
            return problem(400, "PAGINATION_NUMBER_INVALID", error.message)
        return JSONResponse({"name": name, "tags": found.entries}, headers=found.headers)

    async def _manifest(self, scope: Scope, name: str, text: str) -> ASGIApp:
        snapshot = await self._current()
        if text in snapshot.missing and self.contents.look_again(text):
            snapshot = await self._current()
        repository = snapshot.repositories.get(name)
        found = _find(repository, text) if repository is not None else None
        manifest = await self._read(found) if found is not None else None
        if manifest is None:
            return no_manifest(name, text)
        digest = str(manifest.descriptor.digest)
        tag = f'"{digest}"'
        headers = [
            (b"content-type", manifest.descriptor.media_type.encode("latin-1")),
            (b"content-length", b"%d" % len(manifest.raw)),
            (b"docker-content-digest", digest.encode()),
            (b"etag", tag.encode()),
            VERSION,
        ]
        condition = header(scope, b"if-none-match")
        if condition and matches_tag(condition, tag):
            return PlainResponse(headers[2:], b"", 304)
        return PlainResponse(headers, manifest.raw)

    async def _read(self, found: Descriptor) -> Manifest | Index | None:
        manifest = self.contents.manifests.cached(found.digest)
        if manifest is not None:
            return manifest
        try:
            return await asyncio.to_thread(self.contents.manifests.read, found)
        except (NotFoundError, IntegrityError) as error:
            self._warn(f"`{found.digest}` is not served: {error.message}")
            return None

    async def _blob(self, scope: Scope, name: str, text: str) -> ASGIApp:
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

    def _referrers(self, scope: Scope, name: str, text: str, snapshot: Snapshot) -> ASGIApp:
        try:
            digest = Digest.parse(text)
        except InputError as error:
            return problem(400, "DIGEST_INVALID", error.message)
        repository = snapshot.repositories.get(name)
        if repository is None:
            return no_name(name)
        found = repository.referrers.get(str(digest), [])
        body, headers = referrers_page(found, QueryParams(scope["query_string"]), f"/v2/{name}/referrers/{digest}")
        return Response(body, media_type=OCI_INDEX, headers=headers)

    # -- the data endpoint

    async def _data(self, scope: Scope) -> ASGIApp:
        """Serve a blob by its digest, without checking the repository. The signed URL from the redirect grants access."""
        parts = scope["path"].split("/")
        try:
            digest = Digest.parse(f"{parts[-4]}:{parts[-2]}")
        except (IndexError, InputError):
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
                self._warn(error.message)
            return no_blob("", str(digest))
        if size is not None and self._check and extent.size != size:
            extent.close()
            return self._damaged(digest)
        try:
            answer = await self._given(scope, digest, extent)
        except BaseException:
            extent.close()
            raise
        if not isinstance(answer, BlobResponse):
            extent.close()
        return answer

    async def _given(self, scope: Scope, digest: Digest, extent: Extent) -> ASGIApp:
        if self._check and scope["method"] == "GET" and not await self._checked.digest_matches(digest, extent):
            return self._damaged(digest)
        tag, size = f'"{digest}"', extent.size
        start, end, status = 0, size, 200
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"accept-ranges", b"bytes"),
            (b"docker-content-digest", str(digest).encode()),
            (b"etag", tag.encode()),
        ]
        condition, wanted = header(scope, b"if-none-match"), header(scope, b"range")
        if condition and matches_tag(condition, tag):
            return PlainResponse(headers[2:], b"", 304)
        # `Range` applies only to GET (RFC 9110, 14.2).
        if wanted and scope["method"] == "GET" and (header(scope, b"if-range") or tag).strip() == tag:
            given = part(wanted, size)
            if given is not None:
                start, end = given
                if start >= end:
                    return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
                status = 206
                headers.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size)))
        headers.append((b"content-length", b"%d" % (end - start)))
        return BlobResponse(status, headers, extent, start, end)

    def _damaged(self, digest: Digest) -> ASGIApp:
        self._warn(f"the blob `{digest}` is not served: it is corrupted in `{self.contents.store.root}`")
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
