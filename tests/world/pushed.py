"""A registry on loopback that accepts uploads, and misbehaves as a test asks."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from marfetch.oci import Digest

from .answering import Answering, answering

Answer = tuple[int, dict[str, str]]


@dataclass
class PushedTo:
    """What a registry received.

    Attributes:
        blobs: repository and digest → bytes.
        manifests: repository and tag or digest → media type and bytes.
        asked: every request, as method and target.
        mounts: whether a blob can be mounted from another repository.
        has_referrers_api: whether there is a list of referrers for each manifest.
        login: the `Authorization` that every request needs; empty for none.
        granted: the actions for which `/token` gives tokens, such as `pull,push`; empty if requests need no token.
        is_strict: whether `/token` refuses a request for more than `granted`, instead of giving what it may.
        odd: called with the method and target of each request; returns a status and headers to answer with, or None to act normally.
    """

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    mounts: bool = True
    has_referrers_api: bool = False
    odd: Callable[[str, str], Answer | None] = lambda _method, _target: None
    login: str = ""
    granted: str = ""
    is_strict: bool = False
    host: str = ""

    @property
    def methods(self) -> Counter[str]:
        """Method → number of requests."""
        return Counter(method for method, _ in self.asked)

    def tags(self) -> set[str]:
        """Return all tags, with their repositories."""
        return {f"{repository}:{name}" for repository, name in self.manifests if ":" not in name}


@contextmanager
def accepting(state: PushedTo) -> Iterator[PushedTo]:
    """Start the registry for the duration of the context."""
    guard = threading.Lock()

    class Handler(Answering):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            with guard:
                state.asked.append((self.command, self.path))
                odd = state.odd(self.command, self.path)
                if state.login and self.headers["Authorization"] != state.login:
                    odd = 401, {"WWW-Authenticate": 'Basic realm="test"'}
                odd = odd or (self.refused() if state.granted and not self.path.startswith("/token") else None)
                status, data, headers = (odd[0], b"", odd[1]) if odd is not None else self.normal(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = answer

        def refused(self) -> Answer | None:
            """Ask for a token that allows this request. A token is its own scope."""
            repository = re.split("/(?:manifests|blobs|referrers)/", self.path.removeprefix("/v2/"))[0]
            actions = "pull" if self.command in ("GET", "HEAD") else "pull,push"
            given = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            if given in (f"repository:{repository}:{actions}", f"repository:{repository}:pull,push"):
                return None
            scope = f"repository:{repository}:{actions}"
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{state.host}/token",service="test",scope="{scope}"'}

        def normal(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/token":
                name, _, wanted = query["scope"].rpartition(":")
                actions = ",".join(one for one in wanted.split(",") if one in state.granted.split(","))
                allowed = actions == wanted or not state.is_strict
                return (200, json.dumps({"token": f"{name}:{actions}"}).encode(), {}) if allowed else (403, b"", {})
            found = re.fullmatch(r"/v2/(.+)/(manifests|blobs|referrers)/(.*)", parts.path)
            if found is None:
                return 404, b"", {}
            repository, kind, name = found.groups()
            if kind == "referrers":
                if not state.has_referrers_api:
                    return 404, b"", {}
                listed = [
                    {
                        "mediaType": media_type,
                        "digest": digest,
                        "size": len(raw),
                        "artifactType": json.loads(raw).get("artifactType", "x/y"),
                    }
                    for (where, digest), (media_type, raw) in state.manifests.items()
                    if where == repository and ":" in digest and json.loads(raw).get("subject", {}).get("digest") == name
                ]
                index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": listed}
                return 200, json.dumps(index).encode(), {"Content-Type": index["mediaType"]}  # type: ignore[dict-item]
            if kind == "manifests":
                return self.manifest(repository, name, body)
            if self.command == "POST":
                if "mount" in query and state.mounts and (data := state.blobs.get((query["from"], query["mount"]))) is not None:
                    state.blobs[repository, query["mount"]] = data
                    return 201, b"", {"Location": f"/v2/{repository}/blobs/{query['mount']}"}
                return 202, b"", {"Location": f"/v2/{repository}/blobs/uploads/1"}
            if self.command == "PUT":
                digest = query["digest"]
                if str(Digest.of(body)) != digest:
                    return 400, b"", {}
                state.blobs[repository, digest] = body
                return 201, b"", {"Docker-Content-Digest": digest}
            data = state.blobs.get((repository, name), b"")
            return (200, data, {}) if (repository, name) in state.blobs else (404, b"", {})

        def manifest(self, repository: str, name: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
            if self.command == "PUT":
                document = json.loads(body)
                blobs = [one["digest"] for one in [document.get("config"), *document.get("layers", [])] if one]
                children = [one["digest"] for one in document.get("manifests", [])]
                if any((repository, one) not in state.blobs for one in blobs):
                    return 404, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}', {}
                if any((repository, one) not in state.manifests for one in children):
                    return 400, b'{"errors":[{"code":"MANIFEST_INVALID"}]}', {}
                for each in {name, str(Digest.of(body))}:
                    state.manifests[repository, each] = self.headers["Content-Type"], body
                return 201, b"", {"Docker-Content-Digest": str(Digest.of(body))}
            if (repository, name) not in state.manifests:
                return 404, b"", {}
            media_type, raw = state.manifests[repository, name]
            return 200, raw, {"Content-Type": media_type, "Docker-Content-Digest": str(Digest.of(raw))}

    with answering(Handler) as port:
        state.host = f"127.0.0.1:{port}"
        yield state
