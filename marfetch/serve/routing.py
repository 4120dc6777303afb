"""The pull and content discovery APIs of the distribution specification, over content that a subclass looks up.

`ServedRegistry` looks it up in a layout, and a recording in its answers. Routes, pagination, conditions and errors are the same for both.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence, Set

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import Error, InputError
from ..layout.repositories import lexical
from ..oci import OCI_INDEX, Descriptor, Digest, Index, Manifest
from .responses import (
    VERSION,
    PlainResponse,
    base,
    header,
    matches_tag,
    misdirected,
    no_manifest,
    no_name,
    nowhere,
    page,
    problem,
    referrers_page,
    unusual,
)

_log = logging.getLogger("marfetch.serve")


class RegistryApp:
    """A read-only registry. A subclass overrides the methods that look content up.

    Args:
        allowed: answer only requests for these host names and for loopback names; None to answer requests for any host name.
        warn: called with the description of each problem.
    """

    def __init__(self, *, allowed: Set[str] | None = None, warn: Callable[[str], None] | None = None) -> None:
        self._allowed = allowed
        self.warn = warn or (lambda _: None)

    def app(self) -> ASGIApp:
        """Return the application of the registry endpoint."""
        return self.guarded(self._route)

    # -- what a subclass looks up

    async def other(self, scope: Scope) -> ASGIApp:  # noqa: ARG002 - for subclasses
        """Return the response to a path that the specification does not define."""
        return nowhere()

    async def catalog(self) -> Sequence[str]:
        """Return the names of all repositories, sorted."""
        raise NotImplementedError

    async def tags(self, name: str) -> Sequence[str] | None:
        """Return the tags of a repository, sorted by `lexical`; None if the repository is unknown."""
        raise NotImplementedError

    async def manifest(self, name: str, text: str) -> Manifest | Index | None:
        """Return the manifest with a tag or digest; None if it is unknown."""
        raise NotImplementedError

    async def blob(self, scope: Scope, name: str, text: str) -> ASGIApp:
        """Return the response to a request for a blob."""
        raise NotImplementedError

    async def referrers(self, name: str, digest: Digest) -> Sequence[Descriptor] | None:
        """Return the referrers of a manifest; None if the repository is unknown."""
        raise NotImplementedError

    def failed(self, scope: Scope, error: Error) -> ASGIApp:  # noqa: ARG002 - for subclasses
        """Return the response to a request whose content could not be looked up."""
        self.warn(error.message)
        return problem(500, "UNKNOWN", "the registry cannot read its layout")

    def refuse(self, scope: Scope) -> ASGIApp | None:
        """Return the response to an ambiguous, misdirected or write request; None for any other request."""
        return unusual(scope) or (misdirected(scope, self._allowed) if self._allowed is not None else None)

    # -- routes

    def guarded(self, answer: Callable[[Scope], Awaitable[ASGIApp]]) -> ASGIApp:
        """Wrap an application: refuse ambiguous, misdirected and write requests, and report errors as warnings."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            try:
                given = self.refuse(scope) or await self.answered(answer, scope)
                await given(scope, receive, send)
            except Error as error:
                # The response has already started, so it cannot become an error response. The client sees that it is incomplete.
                self.warn(error.message)
            except Exception:
                _log.exception("bug: no response for `%s`", scope["path"])
                raise

        return guarded

    async def answered(self, answer: Callable[[Scope], Awaitable[ASGIApp]], scope: Scope) -> ASGIApp:
        """Return the response to a request that is not refused."""
        try:
            return await answer(scope)
        except Error as error:
            return self.failed(scope, error)

    async def _route(self, scope: Scope) -> ASGIApp:
        path: str = scope["path"]
        if not path.startswith("/v2/"):
            return base() if path == "/v2" else await self.other(scope)
        rest = path[4:]
        if rest == "":
            return base()
        if rest == "_catalog":
            return _list_page(scope, "/v2/_catalog", {}, "repositories", await self.catalog(), key=str)
        if rest.endswith("/tags/list"):
            name = rest.removesuffix("/tags/list")
            tags = await self.tags(name)
            return no_name(name) if tags is None else _list_page(scope, path, {"name": name}, "tags", tags, key=lexical)
        name, _, last = rest.rpartition("/")
        name, _, kind = name.rpartition("/")
        match kind:
            case "manifests":
                return _manifest(scope, name, last, await self.manifest(name, last))
            case "blobs":
                return await self.blob(scope, name, last)
            case "referrers":
                return await self._referrers(scope, name, last)
        return await self.other(scope)

    async def _referrers(self, scope: Scope, name: str, text: str) -> ASGIApp:
        try:
            digest = Digest.parse(text)
        except InputError as error:
            return problem(400, "DIGEST_INVALID", error.message)
        found = await self.referrers(name, digest)
        if found is None:
            return no_name(name)
        body, headers = referrers_page(found, QueryParams(scope["query_string"]), f"/v2/{name}/referrers/{digest}")
        return Response(body, media_type=OCI_INDEX, headers=headers)


def _list_page(
    scope: Scope, path: str, document: dict[str, object], name: str, entries: Sequence[str], *, key: Callable[[str], object]
) -> ASGIApp:
    try:
        found = page(entries, scope["query_string"], path, key=key)
    except InputError as error:
        return problem(400, "PAGINATION_NUMBER_INVALID", error.message)
    return JSONResponse({**document, name: found.entries}, headers=found.headers)


def _manifest(scope: Scope, name: str, text: str, manifest: Manifest | Index | None) -> ASGIApp:
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
