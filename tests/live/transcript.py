"""Ask a registry the open questions about MAR, and record the answers without secrets.

The questions: the effect of `last=` on lists, whether a 429 has `Retry-After`, whether there is a referrers API, the length of a catalog
page, how long responses may be cached (`Cache-Control`), how long a signed address is valid, and how far China lags behind.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3

from marfetch.text import hidden

USER_AGENT = "marfetch/live-check (+https://github.com/marfetch/marfetch)"
ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
SHOWN = (
    "cache-control",
    "content-type",
    "content-range",
    "docker-content-digest",
    "link",
    "oci-filters-applied",
    "retry-after",
    "x-msedge-ref",
    "age",
)


@dataclass
class Transcript:
    """The requests, the responses, and the conclusions."""

    base: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    findings: dict[str, Any] = field(default_factory=dict)
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=30))

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        """Send a request without following redirects, and read at most 32 MiB of the body."""
        answer = self.pool.request(
            method, f"{self.base}{path}", headers={"User-Agent": USER_AGENT, **headers}, redirect=False, preload_content=False
        )
        body = answer.read(32 << 20)
        answer.release_conn()
        seen = {name: hidden(value) for name in SHOWN if (value := answer.headers.get(name))}
        self.steps.append({"asked": f"{method} {hidden(path)}", "status": answer.status, "bytes": len(body), "headers": seen})
        if answer.status == 429:
            self.findings["retry-after on 429"] = answer.headers.get("retry-after") or "none"
        return answer, body

    def lists(self, repository: str) -> None:
        """Find out whether the registry supports `n` and `last` in lists."""
        answer, body = self.ask(f"/v2/{repository}/tags/list")
        tags = json.loads(body.decode("utf-8-sig"))["tags"] if answer.status == 200 else []
        self.findings["tags in one answer"] = len(tags)
        if len(tags) > 2:
            _, body = self.ask(f"/v2/{repository}/tags/list?n=2")
            self.findings["n= is heeded"] = len(json.loads(body.decode("utf-8-sig"))["tags"]) == 2
            _, body = self.ask(f"/v2/{repository}/tags/list?last={tags[0]}")
            self.findings["last= is heeded"] = tags[0] not in json.loads(body.decode("utf-8-sig"))["tags"]

    def catalog(self) -> None:
        """Find out the number of repositories on a page of the catalog."""
        answer, body = self.ask("/v2/_catalog")
        if answer.status == 200:
            self.findings["names in one page of the catalog"] = len(json.loads(body.decode("utf-8-sig"))["repositories"])
            self.findings["the catalog has a next page"] = "link" in answer.headers

    def artifact(self, repository: str, tag: str) -> None:
        """Find out how referrers are listed, and how long a signed address is valid."""
        answer, body = self.ask(f"/v2/{repository}/manifests/{tag}", Accept=ACCEPT)
        if answer.status != 200:
            return
        digest = answer.headers["docker-content-digest"]
        self.findings["cache-control of a manifest"] = answer.headers.get("cache-control", "none")
        api, _ = self.ask(f"/v2/{repository}/referrers/{digest}")
        fallback, _ = self.ask(f"/v2/{repository}/manifests/{digest.replace(':', '-')}", Accept=ACCEPT)
        self.findings["referrers"] = {"api": api.status, "fallback tag": fallback.status}
        layers = json.loads(body).get("layers") or []
        if layers:
            moved, _ = self.ask(f"/v2/{repository}/blobs/{layers[0]['digest']}")
            location = urlsplit(moved.headers.get("location", ""))
            query = parse_qs(location.query)
            self.findings["data host"] = location.hostname
            self.findings["names in the query of a data address"] = sorted(query)
            if "se" in query:
                ends = dt.datetime.fromisoformat(query["se"][0].replace("Z", "+00:00"))
                self.findings["minutes that a data address is valid"] = round((ends - dt.datetime.now(dt.UTC)).total_seconds() / 60)

    def lag(self, twin: str, repository: str) -> None:
        """Find out which tags the registry in China does not have yet."""
        _, body = self.ask(f"/v2/{repository}/tags/list")
        ours = set(json.loads(body.decode("utf-8-sig"))["tags"])
        other = Transcript(twin)
        answer, body = other.ask(f"/v2/{repository}/tags/list")
        theirs = set(json.loads(body.decode("utf-8-sig"))["tags"]) if answer.status == 200 else set()
        self.steps += other.steps
        self.findings[f"tags that {urlsplit(twin).hostname} lacks"] = sorted(ours - theirs)[:20] if theirs else f"status {answer.status}"

    def document(self) -> str:
        """Return the whole transcript as JSON."""
        return json.dumps(
            {
                "asked": self.base,
                "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                "findings": self.findings,
                "steps": self.steps,
            },
            indent=2,
        )
