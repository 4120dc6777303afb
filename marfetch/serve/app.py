"""The registry's answers: the pull part of the distribution specification over any layout, blobs directly or by redirect.

With a data origin, blobs are answered as MAR does it: 307 to another host, with a signed address and a double slash in its path.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import Error, InputError, NotFoundError
from ..layout.store import Layout
from ..oci import OCI_INDEX, Digest, descriptor_json
from ..reference import Host, Reference

_PIECE = 256 * 1024


class Registry:
    """What a registry answers.

    Args:
        layout: what it serves.
        host: stands in front of the layout's names.
        data_origin: where blobs are redirected to; None: they are answered directly.
    """

    def __init__(self, layout: Layout, host: Host, *, data_origin: str | None = None) -> None:
        self._layout = layout
        self._host = host
        self._data_origin = data_origin

    def app(self) -> Starlette:
        """The application of the registry endpoint."""
        return Starlette(
            routes=[
                Route("/v2/", self._base),
                Route("/v2/_catalog", self._catalog),
                Route("/v2/{name:path}/tags/list", self._tags),
                Route("/v2/{name:path}/manifests/{reference}", self._manifest),
                Route("/v2/{name:path}/blobs/{digest}", self._blob),
                Route("/v2/{name:path}/referrers/{digest}", self._referrers),
            ]
        )

    def data_app(self) -> Starlette:
        """The application of the data endpoint."""
        return Starlette(routes=[Route("/{path:path}", self._data)])

    def _base(self, _: Request) -> Response:
        return JSONResponse({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})

    def _catalog(self, _: Request) -> Response:
        return JSONResponse({"repositories": self._layout.repositories()})

    def _tags(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            tags = self._layout.tags(self._reference(name))
        except NotFoundError:
            return _problem(404, "NAME_UNKNOWN", f"repository name `{name}` is not known to the registry")
        except InputError as error:
            return _problem(400, "NAME_INVALID", error.message)
        return JSONResponse({"name": name, "tags": tags})

    def _manifest(self, request: Request) -> Response:
        name, text = request.path_params["name"], request.path_params["reference"]
        try:
            reference = self._reference(name + ("@" if ":" in text else ":") + text)
            found = self._layout.manifest(reference)
        except NotFoundError:
            return _problem(404, "MANIFEST_UNKNOWN", f'manifest tagged by "{text}" is not found', {"Tag": text})
        except InputError as error:
            return _problem(400, "MANIFEST_INVALID", error.message)
        assert found is not None, "nothing was said to be known"
        digest = str(found.descriptor.digest)
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        if request.headers.get("If-None-Match") == f'"{digest}"':
            return Response(status_code=304, headers=headers)
        return Response(found.raw, media_type=found.descriptor.media_type, headers=headers)

    def _blob(self, request: Request) -> Response:
        try:
            digest = Digest.parse(request.path_params["digest"])
        except InputError as error:
            return _problem(400, "DIGEST_INVALID", error.message)
        if not self._layout.path(digest).is_file():
            return _problem(404, "BLOB_UNKNOWN", f"blob `{digest}` is not known to the registry")
        if self._data_origin is None:
            return self._content(digest, request)
        signature = urlencode({"se": "2030-01-01T00:00:00Z", "sig": "bm90IGEgcmVhbCBzaWduYXR1cmU=", "sp": "r", "spr": "https", "sr": "b"})
        path = f"/marfetch//docker/registry/v2/blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data"
        location = f"{self._data_origin}{path}?{signature}"
        return HTMLResponse(f'<a href="{location}">Temporary Redirect</a>.\n', status_code=307, headers={"Location": location})

    def _data(self, request: Request) -> Response:
        parts = request.path_params["path"].split("/")
        try:
            digest = Digest.parse(f"{parts[-4]}:{parts[-2]}")
        except (IndexError, InputError):
            return _problem(404, "BLOB_UNKNOWN", "there is no such address")
        if "Authorization" in request.headers:
            return Response(status_code=400)
        if "sig" not in request.query_params:
            return Response("<Error><Code>AuthenticationFailed</Code></Error>", status_code=403, media_type="application/xml")
        return self._content(digest, request)

    def _referrers(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            digest = Digest.parse(request.path_params["digest"])
        except InputError as error:
            return _problem(400, "DIGEST_INVALID", error.message)
        wanted = request.query_params.get("artifactType")
        found = self._layout.referrers(self._reference(name), digest, artifact_type=wanted)
        headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor_json(entry) for entry in found]}
        return JSONResponse(index, media_type=OCI_INDEX, headers=headers)

    def _content(self, digest: Digest, request: Request) -> Response:
        try:
            file = self._layout.open(digest)
        except Error:
            return _problem(404, "BLOB_UNKNOWN", f"blob `{digest}` is not known to the registry")
        size = os.fstat(file.fileno()).st_size
        start, end, status = 0, size, 200
        headers = {"Docker-Content-Digest": str(digest), "Accept-Ranges": "bytes", "ETag": f'"{digest}"'}
        wanted = request.headers.get("Range", "")
        if wanted and request.headers.get("If-Range", f'"{digest}"') == f'"{digest}"':
            first, dash, last = wanted.removeprefix("bytes=").partition("-")
            if wanted.startswith("bytes=") and dash and first.isdigit() and (last.isdigit() or not last):
                start, end = int(first), min(size, int(last) + 1 if last else size)
                if start >= end:
                    file.close()
                    return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
                status = 206
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"

        async def pieces() -> AsyncIterator[bytes]:
            position = start
            try:
                while position < end:
                    piece = await anyio.to_thread.run_sync(os.pread, file.fileno(), min(_PIECE, end - position), position)
                    if not piece:
                        return
                    position += len(piece)
                    yield piece
            finally:
                file.close()

        headers["Content-Length"] = str(end - start)
        return StreamingResponse(pieces(), status_code=status, headers=headers, media_type="application/octet-stream")

    def _reference(self, text: str) -> Reference:
        return Reference.parse(f"{self._host}/{text}")


def _problem(status: int, code: str, message: str, detail: dict[str, str] | None = None) -> Response:
    error: dict[str, object] = {"code": code, "message": message}
    if detail:
        error["detail"] = detail
    return JSONResponse({"errors": [error]}, status_code=status)


def counted(app: ASGIApp, asked: Counter[str]) -> ASGIApp:
    """The application, with a count of what is asked of it."""
    kinds = {"/manifests/": "a manifest", "/tags/": "tags", "/docker/": "content", "/blobs/": "a blob"}

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked[next((kind for part, kind in kinds.items() if part in scope["path"]), "something else")] += 1
        await app(scope, receive, send)

    return counting
