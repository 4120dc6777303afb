"""A registry that misbehaves on demand: it cuts, stalls, lies, throttles and redirects to wrong hosts.

It looks like MAR: it has two ports, and redirects blob requests to the second port with a signed address that contains a double slash.
Tests change its responses with knobs:

    registry.on("data").cuts_after(1000, times=1)
    registry.on("manifest").answers(429, retry_after="2", times=3)
    registry.on("tags").answers_with(b"<html>")

`registry.asked` lists the requests. The honest responses are those of `marfetch.serve`.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from marfetch.layout.layout import Layout
from marfetch.oci import OCI_INDEX, Descriptor, Digest, descriptor_json, parse_manifest
from marfetch.reference import Host, Reference

MSEDGE = "Ref A: 9E31E74CD9834672839D9F06B9E41573 Ref B: DM2EDGE0520 Ref C: 2026-11-23T12:36:23Z"
BLOB_NOT_FOUND = (
    '\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>BlobNotFound</Code><Message>The specified blob does not exist.\n'
    "RequestId:1\nTime:2020-10-05T17:19:42.2386658Z</Message></Error>"
).encode()
BLOCKED = (
    "<!DOCTYPE html><html><head><title>Blocked</title></head><body><h2>The request is blocked.</h2><div>" + MSEDGE + "</div></body></html>"
).encode()


@dataclass
class Answer:
    """A response. The headers are a list, because some are sent twice."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    send: Callable[[socket.socket, bytes, bytes], None] | None = None
    before: bytes = b""
    """Bytes to send a moment before the response."""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def with_header(self, name: str, value: str | None) -> None:
        self.headers = [(key, text) for key, text in self.headers if key.lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))


@dataclass(frozen=True)
class Asked:
    """A received request."""

    kind: str
    method: str
    target: str
    headers: dict[str, str]
    port: int
    at: float

    def __str__(self) -> str:
        return f"{self.method} {self.kind} {self.target}"


@dataclass
class Knob:
    """Changes the response to some requests. Changes can be combined: `knob.says(…).cuts_after(…)`.

    Attributes:
        kind: manifest, blob, data, tags, catalog, referrers, base, token, or any.
        times: how many responses to change; None: all.
        path: change only responses to targets that match this regular expression.
    """

    kind: str
    path: str | None = None
    times: int | None = None
    change: Callable[[Answer, dict[str, str]], None] | None = None
    used: int = 0
    owner: Registry | None = field(default=None, repr=False)

    def _set(self, change: Callable[[Answer, dict[str, str]], None], times: int | None) -> Knob:
        earlier = self.change

        def both(answer: Answer, headers: dict[str, str]) -> None:
            if earlier is not None:
                earlier(answer, headers)
            change(answer, headers)

        self.change, self.times = both, times
        return self

    # -- other answers

    def answers(
        self,
        status: int,
        body: bytes | str = b"",
        *,
        times: int | None = None,
        retry_after: str | Callable[[], str] | None = None,
        **headers: str,
    ) -> Knob:
        def change(answer: Answer, _: dict[str, str]) -> None:
            answer.status = status
            answer.body = body.encode() if isinstance(body, str) else body
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            answer.headers = [("X-Msedge-Ref", MSEDGE), *named.items(), ("Content-Length", str(len(answer.body)))]
            if retry_after is not None:
                answer.headers.append(("Retry-After", retry_after if isinstance(retry_after, str) else retry_after()))

        return self._set(change, times)

    def answers_with(self, body: bytes, *, times: int | None = None, **headers: str) -> Knob:
        """Send the honest status with another body. These headers replace the honest ones."""

        def change(answer: Answer, _: dict[str, str]) -> None:
            answer.body = body
            answer.with_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                answer.with_header(name.replace("_", "-"), value)

        return self._set(change, times)

    def says(self, *, times: int | None = None, **headers: str | None) -> Knob:
        """Send the honest response with these headers. The value None removes a header."""

        def change(answer: Answer, _: dict[str, str]) -> None:
            for name, value in headers.items():
                answer.with_header(name.replace("_", "-"), value)

        return self._set(change, times)

    def repeats(self, status: int, form: str, *, times: int | None = None) -> Knob:
        """Send an error that repeats parts of the request: `{target}`, `{query}` and `{authorization}` in its body are replaced."""

        def change(answer: Answer, headers: dict[str, str]) -> None:
            target = self.owner.last_target if self.owner is not None else ""
            said = form.replace("{target}", target).replace("{query}", target.partition("?")[2])
            said = said.replace("{authorization}", headers.get("authorization", ""))
            answer.status, answer.body = status, said.encode()
            answer.headers = [("X-Msedge-Ref", MSEDGE), ("Content-Length", str(len(answer.body)))]

        return self._set(change, times)

    def has_status(self, status: int, *, times: int | None = None) -> Knob:
        """Send the honest response with another status."""

        def change(answer: Answer, _: dict[str, str]) -> None:
            answer.status = status

        return self._set(change, times)

    def redirects(self, to: str | None, *, status: int = 307, times: int | None = None) -> Knob:
        def change(answer: Answer, _: dict[str, str]) -> None:
            answer.status, answer.body = status, b'<a href="x">Temporary Redirect</a>.\n'
            answer.headers = [("Content-Type", "text/html"), ("Content-Length", str(len(answer.body)))]
            if to is not None:
                answer.headers.append(("Location", to))

        return self._set(change, times)

    def ignores_ranges(self, *, times: int | None = None) -> Knob:
        def change(answer: Answer, headers: dict[str, str]) -> None:
            if answer.status == 206 and self.owner is not None:
                headers.pop("range", None)
                honest = self.owner.honest(self.kind, self.owner.last_target, headers)
                answer.status, answer.headers, answer.body = honest.status, honest.headers, honest.body

        return self._set(change, times)

    def meanwhile(self, action: Callable[[], object], *, times: int | None = None) -> Knob:
        """Call `action`, then send the honest response."""
        return self._set(lambda _answer, _headers: (action(), None)[1], times)

    # -- changes to how a response is sent

    def sends_before(self, raw: bytes, *, times: int | None = None) -> Knob:
        """Send these bytes and, a moment later, the honest response. Keep the connection open."""

        def change(answer: Answer, _: dict[str, str]) -> None:
            answer.before = raw

        return self._set(change, times)

    def _sends(self, send: Callable[[socket.socket, bytes, bytes], None], times: int | None) -> Knob:
        def change(answer: Answer, _: dict[str, str]) -> None:
            answer.send = send

        return self._set(change, times)

    def cuts_after(self, size: int, *, times: int | None = None) -> Knob:
        """End the body after this number of bytes, and close the connection regularly."""

        def send(connection: socket.socket, head: bytes, body: bytes) -> None:
            connection.sendall(head + body[:size])
            connection.shutdown(socket.SHUT_WR)

        return self._sends(send, times)

    def resets_after(self, size: int, *, times: int | None = None) -> Knob:
        """Reset the TCP connection after this number of bytes of the body."""

        def send(connection: socket.socket, head: bytes, body: bytes) -> None:
            connection.sendall(head + body[:size])
            time.sleep(0.2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return self._sends(send, times)

    def resets_at_once(self, *, times: int | None = None) -> Knob:
        """Reset the TCP connection before the first byte."""

        def send(connection: socket.socket, _head: bytes, _body: bytes) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return self._sends(send, times)

    def closes_at_once(self, *, times: int | None = None) -> Knob:
        """Send nothing and keep the connection open."""
        return self._sends(lambda _connection, _head, _body: None, times)

    def stalls_after(self, size: int, *, times: int | None = None) -> Knob:
        """Send this number of bytes of the body, then nothing more. Keep the connection open."""

        def send(connection: socket.socket, head: bytes, body: bytes) -> None:
            connection.sendall(head + body[:size])
            self._hold(connection)

        return self._sends(send, times)

    def stalls_before_headers(self, *, times: int | None = None) -> Knob:
        return self._sends(lambda connection, _head, _body: self._hold(connection), times)

    def drips(self, piece: int = 1, every: float = 0.1, *, headers: bool = False, times: int | None = None) -> Knob:
        """Send `piece` bytes every `every` seconds: only the body or, with `headers`, the whole response."""

        def send(connection: socket.socket, head: bytes, body: bytes) -> None:
            whole = head + body if headers else body
            if not headers:
                connection.sendall(head)
            with contextlib.suppress(OSError):
                for start in range(0, len(whole), piece):
                    connection.sendall(whole[start : start + piece])
                    if self.owner is not None and self.owner.ended.wait(every):
                        return

        return self._sends(send, times)

    def sends(self, raw: bytes, *, endlessly: bool = False, then: bytes = b"", times: int | None = None) -> Knob:
        """Send these bytes instead of a response, once or endlessly; `then` follows endlessly."""

        def send(connection: socket.socket, _head: bytes, _body: bytes) -> None:
            with contextlib.suppress(OSError):
                connection.sendall(raw)
                piece = raw if endlessly else then
                while piece and self.owner is not None and not self.owner.ended.is_set():
                    connection.sendall(piece)

        return self._sends(send, times)

    def sends_endlessly(self, piece: bytes, *, times: int | None = None) -> Knob:
        """Send the honest headers without a length, then repeat this piece endlessly."""

        def send(connection: socket.socket, head: bytes, _body: bytes) -> None:
            connection.sendall(re.sub(rb"(?i)content-length: \d+\r\n", b"", head))
            with contextlib.suppress(OSError):
                while self.owner is not None and not self.owner.ended.is_set():
                    connection.sendall(piece)

        return self._sends(send, times)

    def loses_the_end(self, how: str, *, chunked: bool = True, times: int | None = None) -> Knob:
        """Send the whole body, chunked without the last chunk, or without any length. Then close or reset the connection, or stay silent.

        Args:
            how: `closes`, `resets` or `stalls`.
        """

        def send(connection: socket.socket, head: bytes, body: bytes) -> None:
            head = re.sub(rb"(?i)content-length: \d+\r\n", b"Transfer-Encoding: chunked\r\n" if chunked else b"", head)
            connection.sendall(head + (b"%x\r\n%b\r\n" % (len(body), body) if chunked else body))
            if how == "stalls":
                self._hold(connection)
            elif how == "resets":
                time.sleep(0.2)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        return self._sends(send, times)

    def sends_chunked(self, body: bytes, *, times: int | None = None) -> Knob:
        """Send another body in chunks, so that no length is announced."""

        def send(connection: socket.socket, head: bytes, _body: bytes) -> None:
            head = re.sub(rb"(?i)content-length: \d+\r\n", b"Transfer-Encoding: chunked\r\n", head)
            connection.sendall(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

        return self._sends(send, times)

    def _hold(self, connection: socket.socket) -> None:
        connection.settimeout(0.1)
        while self.owner is not None and not self.owner.ended.is_set():
            try:
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return


class Registry:
    """A registry on two loopback ports.

    Args:
        layout: the content of the honest responses.
        context: the TLS settings for https on both ports; None: http.
        names: the host in the layout's names to serve.
        redirect: redirect blob requests to the data port, as MAR does.
    """

    def __init__(self, layout: Layout, *, names: Host, context: ssl.SSLContext | None = None, redirect: bool = True) -> None:
        self.layout = layout
        self.names = names
        self.redirect = redirect
        self.knobs: list[Knob] = []
        self.asked: list[Asked] = []
        self.connections = 0
        self.tags: dict[str, list[str] | bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.page_size: int | None = None
        self.page_style = "relative"
        self.listed: list[str] | None = None  # the repositories in the catalog, instead of the honest ones
        self.catalog_etag: str | None = None
        self.referrers = "api"
        self.signature = (
            "se=2030-01-01T00%3a00%3A00Z&sig=bm90%2Bk%2f&sp=r&spr=https&sr=b&sv=2018-03-28&regid=01031d61e1024861afee5d512651eb9f"
        )
        self.expired: set[str] = set()
        self.token: str | None = None
        self.basic: str | None = None
        self.challenge: str | None = None  # `WWW-Authenticate` headers, one per line
        self.data_origin: str | None = None
        self.last_target = ""
        self.ended = threading.Event()
        self._guard = threading.Lock()
        self._context = context
        self._servers = [self._server(), self._server()]
        self.port, self.data_port = (server.server_address[1] for server in self._servers)
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in self._servers]

    # -- methods for tests

    @property
    def scheme(self) -> str:
        return "https" if self._context else "http"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def data_host(self) -> str:
        return f"127.0.0.1:{self.data_port}"

    def on(self, kind: str, path: str | None = None) -> Knob:
        """Return a knob that changes the responses to requests of this kind."""
        knob = Knob(kind, path, owner=self)
        self.knobs.append(knob)
        return knob

    def honestly(self) -> None:
        """Reset all knobs and the list of requests."""
        self.knobs.clear()
        self.asked.clear()

    def kinds(self) -> list[str]:
        """Return the kinds of the received requests, in order."""
        with self._guard:
            return [asked.kind for asked in self.asked]

    def add_blob(self, data: bytes) -> Descriptor:
        descriptor = Descriptor("application/octet-stream", Digest.of(data), len(data))
        self.blobs[str(descriptor.digest)] = data
        return descriptor

    def add_artifact(self, repository: str, tag: str, *files: tuple[str | None, bytes], **more: Any) -> Descriptor:
        """Add an artifact with these files, and return the descriptor of its manifest."""
        layers = []
        for title, data in files:
            layer = descriptor_json(self.add_blob(data))
            if title is not None:
                layer["annotations"] = {"org.opencontainers.image.title": title}
            layers.append(layer)
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.unknown.artifact.v1",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2},
            "layers": layers,
            **more,
        }
        return self.add_manifest(repository, tag, json.dumps(document).encode())

    def add_manifest(self, repository: str, tag: str, raw: bytes, media_type: str | None = None) -> Descriptor:
        """Add exactly these bytes as a manifest, under the tag and the digest. They need not be a valid manifest."""
        if media_type is None:
            try:
                media_type = json.loads(raw)["mediaType"]
            except (ValueError, KeyError, TypeError):
                media_type = "application/vnd.oci.image.manifest.v1+json"
        digest = Digest.of(raw)
        for reference in (tag, str(digest)):
            self.manifests[f"{repository} {reference}"] = (str(media_type), raw)
        tags = self.tags.setdefault(repository, [])
        if isinstance(tags, list) and tag not in tags:
            tags.append(tag)
            tags.sort()
        return Descriptor(str(media_type), digest, len(raw))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join(10)
            server.server_close()

    # -- the honest responses

    def kind_of(self, port: int, target: str) -> str:
        path = target.partition("?")[0]
        if port == self.data_port:
            return "data"
        for kind, expression in (
            ("tags", r"/v2/.+/tags/list"),
            ("catalog", r"/v2/_catalog"),
            ("manifest", r"/v2/.+/manifests/[^/]+"),
            ("blob", r"/v2/.+/blobs/[^/]+"),
            ("referrers", r"/v2/.+/referrers/[^/]+"),
            ("base", r"/v2/"),
            ("token", r"/token"),
        ):
            if re.fullmatch(expression, path):
                return kind
        return "other"

    def honest(self, kind: str, target: str, headers: dict[str, str]) -> Answer:
        if (
            self.challenge
            and kind not in ("token", "data")
            and headers.get("authorization") not in (f"Bearer {self.token}", f"Basic {self.basic}")
        ):
            return self._json(
                401,
                {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
                [("WWW-Authenticate", line) for line in self.challenge.split("\n")],
            )
        split = urlsplit(target if not target.startswith("//") else f"/{target.lstrip('/')}")
        parts = split.path.split("/")
        query = parse_qs(split.query)
        match kind:
            case "base":
                return self._json(200, {})
            case "token":
                return self._json(200, {"token": self.token})
            case "catalog":
                if self.catalog_etag is not None and headers.get("if-none-match") == self.catalog_etag:
                    return Answer(304, [("ETag", self.catalog_etag)], b"")
                listed = sorted({*self.layout.repositories(), *self.tags}) if self.listed is None else self.listed
                answer = self._list("repositories", listed, split.path, query)
                answer.with_header("ETag", self.catalog_etag)
                return answer
            case "tags":
                return self._tags("/".join(parts[2:-2]), split.path, query)
            case "manifest":
                return self._manifest("/".join(parts[2:-2]), parts[-1], headers)
            case "referrers":
                return self._referrers("/".join(parts[2:-2]), parts[-1], query)
            case "blob":
                return self._blob(parts[-1], headers)
            case "data":
                return self._data(target, headers)
        return self._json(404, {"errors": [{"code": "NOT_FOUND", "message": "page not found"}]})

    def _json(self, status: int, document: Any, headers: list[tuple[str, str]] | None = None) -> Answer:
        body = json.dumps(document).encode()
        edge = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("Docker-Distribution-Api-Version", "registry/2.0"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
            ("X-Msedge-Ref", MSEDGE),
        ]
        return Answer(status, [*edge, *(headers or []), ("Content-Length", str(len(body)))], body)

    def _list(self, name: str, values: list[str], path: str, query: dict[str, list[str]]) -> Answer:
        size = int(query["n"][0]) if "n" in query else self.page_size
        last = query.get("last", [""])[0]
        page = [value for value in values if value > last][: size or None] if self.page_style != "loop" else values[: size or None]
        headers: list[tuple[str, str]] = []
        if size and page and (page[-1] != values[-1] or self.page_style in ("loop", "endless")):
            following = f"{path}?last={page[-1]}&n={size}"
            if self.page_style == "endless":
                following = f"{path}?last=&n={size}&x={len(self.asked)}"
            following = {
                "absolute": f"{self.scheme}://{self.host}{following}",
                "foreign": f"{self.scheme}://{self.data_host}{following}",
                "other list": following.replace("/v2/", "/v2/x/"),
            }.get(self.page_style, following)
            headers.append(("Link", "garbage; next" if self.page_style == "garbage" else f'<{following}>; rel="next"'))
        document: dict[str, Any] = {name: page}
        if name == "tags":
            document = {"name": path, **document}
        return self._json(200, document, headers)

    def _tags(self, repository: str, path: str, query: dict[str, list[str]]) -> Answer:
        given = self.tags.get(repository)
        if isinstance(given, bytes):
            return Answer(200, [("Content-Type", "application/json"), ("Content-Length", str(len(given)))], given)
        honest: list[str] = []
        with contextlib.suppress(Exception):
            honest = self.layout.tags(Reference(repository, self.names))
        tags = sorted({*honest, *(given or [])})
        if not tags:
            return Answer(
                404,
                [("Content-Type", "application/xml"), ("X-Msedge-Ref", MSEDGE), ("Content-Length", str(len(BLOB_NOT_FOUND)))],
                BLOB_NOT_FOUND,
            )
        return self._list("tags", tags, path, query)

    def _manifest(self, repository: str, reference: str, headers: dict[str, str]) -> Answer:
        media_type, raw = self.manifests.get(f"{repository} {reference}", ("", b""))
        if not raw:
            with contextlib.suppress(Exception):
                name = Reference.parse(f"{self.names}/{repository}{'@' if ':' in reference else ':'}{reference}")
                found = self.layout.manifest(name)
                if found is not None:
                    media_type, raw = found.descriptor.media_type, found.raw
        if not raw:
            error = {"code": "MANIFEST_UNKNOWN", "message": f'manifest tagged by "{reference}" is not found', "detail": {"Tag": reference}}
            return self._json(404, {"errors": [error]})
        if media_type not in headers.get("accept", ""):
            error = {"code": "MANIFEST_UNKNOWN", "message": "OCI manifest found, but accept header does not support OCI manifests"}
            return self._json(404, {"errors": [error]})
        digest = str(Digest.of(raw))
        named = [("Docker-Content-Digest", digest), ("ETag", f'"{digest}"'), ("X-Msedge-Ref", MSEDGE)]
        if headers.get("if-none-match") == f'"{digest}"':
            return Answer(304, named, b"")
        return Answer(200, [("Content-Type", media_type), *named, ("Content-Length", str(len(raw)))], raw)

    def _bytes(self, digest: str) -> bytes | None:
        if digest in self.blobs:
            return self.blobs[digest]
        with contextlib.suppress(Exception), self.layout.open(Digest.parse(digest)) as file:
            return file.read()
        return None

    def _blob(self, digest: str, headers: dict[str, str]) -> Answer:
        if "authorization" in headers and self.challenge is None:
            return self._json(400, {"errors": [{"code": "UNSUPPORTED", "message": "no credentials here"}]})
        data = self._bytes(digest)
        if data is None:
            return self._json(404, {"errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown to registry", "detail": digest}]})
        if not self.redirect:
            return self._content(data, headers)
        encoded = digest.partition(":")[2]
        origin = self.data_origin or f"{self.scheme}://{self.data_host}"
        location = f"{origin}/01031d61e1024861afee5d512651eb9f-h36fskt2ei//docker/registry/v2/blobs/sha256/{encoded[:2]}/{encoded}/data?{self.signature}"
        body = f'<a href="{location.replace("&", "&amp;")}">Temporary Redirect</a>.\n'.encode()
        return Answer(307, [("Location", location), ("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))], body)

    def _data(self, target: str, headers: dict[str, str]) -> Answer:
        path, _, query = target.partition("?")
        denied = b"<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code><Message>Signature not valid</Message></Error>"
        if "authorization" in headers or "cookie" in headers:
            return Answer(400, [("Content-Length", "0")], b"")
        # The signature covers the path and the query byte for byte, as the storage service checks it.
        if query != self.signature or query in self.expired or "//docker/" not in path:
            self.expired.discard(query)
            return Answer(403, [("Content-Type", "application/xml"), ("Content-Length", str(len(denied)))], denied)
        data = self._bytes(f"sha256:{path.split('/')[-2]}")
        if data is None:
            return Answer(404, [("Content-Length", str(len(BLOB_NOT_FOUND)))], BLOB_NOT_FOUND)
        return self._content(data, headers)

    def _content(self, data: bytes, headers: dict[str, str]) -> Answer:
        common = [("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes"), ("ETag", '"0x8D0123456789ABC"')]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if wanted and headers.get("if-range", '"0x8D0123456789ABC"') == '"0x8D0123456789ABC"':
            start, end = int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else len(data)
            if start >= len(data):
                return Answer(416, [("Content-Range", f"bytes */{len(data)}"), ("Content-Length", "0")], b"")
            part = data[start:end]
            ranged = ("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
            return Answer(206, [*common, ranged, ("Content-Length", str(len(part)))], part)
        return Answer(200, [*common, ("Content-Length", str(len(data)))], data)

    def _referrers(self, repository: str, digest: str, query: dict[str, list[str]]) -> Answer:
        if self.referrers != "api":
            return self._json(404, {"errors": [{"code": "NOT_FOUND", "message": "page not found"}]})
        found = list(self.layout.referrers(Reference(repository, self.names), Digest.parse(digest)))
        for name, (media_type, raw) in self.manifests.items():
            if name.startswith(f"{repository} sha256:"):
                with contextlib.suppress(Exception):
                    manifest = parse_manifest(raw, what=name, media_type=media_type)
                    if manifest.subject and str(manifest.subject.digest) == digest:
                        own = manifest.descriptor
                        found.append(Descriptor(own.media_type, own.digest, own.size, manifest.annotations, manifest.artifact_type))
        wanted = query.get("artifactType", [None])[0]
        entries = [descriptor_json(entry) for entry in found if wanted in (None, entry.artifact_type)]
        answer = self._json(200, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
        answer.with_header("Content-Type", OCI_INDEX)
        if wanted:
            answer.with_header("OCI-Filters-Applied", "artifactType")
        return answer

    # -- sending

    def _answer(self, kind: str, target: str, headers: dict[str, str]) -> Answer:
        with self._guard:
            self.last_target = target
            answer = self.honest(kind, target, headers)
            for knob in self.knobs:
                fits = knob.kind in (kind, "any") and (knob.path is None or re.search(knob.path, target))
                if fits and knob.change is not None and (knob.times is None or knob.used < knob.times):
                    knob.used += 1
                    knob.change(answer, dict(headers))
                    break
            return answer

    def _server(self) -> ThreadingHTTPServer:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def setup(self) -> None:
                with registry._guard:
                    registry.connections += 1
                if registry._context is not None:
                    self.request = registry._context.wrap_socket(self.request, server_side=True)
                super().setup()

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()
                if registry._context is not None:
                    self.request.close()  # also close the socket under TLS, because the server knows only that one

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                headers = {name.lower(): ", ".join(self.headers.get_all(name, [])) for name in self.headers}
                port = self.server.server_address[1]  # type: ignore[index]
                kind = registry.kind_of(int(port), self.path)
                with registry._guard:
                    registry.asked.append(Asked(kind, self.command, self.path, headers, int(port), time.monotonic()))
                answer = registry._answer(kind, self.path, headers)
                reason = {200: "OK", 206: "Partial Content", 307: "Temporary Redirect", 404: "Not Found"}.get(answer.status, "Status")
                lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {value}" for name, value in answer.headers)]
                head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
                body = b"" if self.command == "HEAD" else answer.body
                if answer.before:
                    self.connection.sendall(answer.before)
                    registry.ended.wait(0.1)
                if answer.send is not None:
                    answer.send(self.connection, head, body)
                    self.close_connection = True
                else:
                    self.connection.sendall(head + body)

            do_HEAD = do_PUT = do_POST = do_GET

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass

        return Server(("127.0.0.1", 0), Handler)
