"""Charts in the words of Helm: which tags its index may hold, what it may say of them, and the index itself.

Source: Helm's `index.yaml` (helm/helm, pkg/repo), as its versions 3 and 4 read it. It is written as JSON, which is YAML too and is read
two to three times faster; a field that Helm does not know, or a date that cannot be read, would break the whole repository.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ..document import Json
from ..oci import Digest

API_VERSION: Final = "v1"
MAX_TEXT: Final = 500
"""Characters of a text of a publisher that goes into an index."""

_TEXTS: Final = ("appVersion", "description", "kubeVersion", "type", "home", "icon")
_TYPES: Final = ("application", "library")
"""Of another type Helm leaves the version out, and warns in each command (helm/helm, pkg/chart, `Metadata.Validate`)."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a chart, as an index shows it.

    Attributes:
        name: the chart's.
        version: as Helm writes it: the tag with `+` for `_`.
        repository: without the host.
        tag: under which it is in the registry.
        manifest: its digest, where it is known.
        package: the digest of the `.tgz`, where it is known.
        created: when it was made, where the manifest says it in a form that can be read.
        facts: `appVersion`, `description` and the like.
    """

    name: str
    version: str
    repository: str
    tag: str
    manifest: Digest | None = None
    package: Digest | None = None
    created: str | None = None
    facts: Mapping[str, Json] = field(default_factory=dict, compare=False)

    def url(self, host: str) -> str:
        """The address that Helm asks the getter for. By its digest where that is known, so that it is what the index shows."""
        named = f"@{self.manifest}" if self.manifest else f":{self.tag}"
        return f"mar://{host}/{self.repository}{named}/{self.name}-{self.version}.tgz"


def chart_facts(metadata: Mapping[str, Json]) -> dict[str, Json]:
    """Of a chart's metadata what an index shows: texts that are short, on one line, and steer no terminal.

    Args:
        metadata: Chart.yaml as the config of an artifact holds it, from anybody.
    """
    facts: dict[str, Json] = {name: shown for name in _TEXTS if (shown := _text(metadata.get(name)))}
    if facts.get("type") not in _TYPES:
        facts.pop("type", None)
    if metadata.get("deprecated") is True:
        facts["deprecated"] = True
    keywords = metadata.get("keywords")
    if isinstance(keywords, list):
        words = [shown for word in keywords[:20] if (shown := _text(word))]
        if words:
            facts["keywords"] = list(words)
    facts["apiVersion"] = "v1" if metadata.get("apiVersion") == "v1" else "v2"
    return facts


def created(text: str | None) -> str | None:
    """A moment in the one form that Helm reads (RFC 3339); None where the text is none."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if not 1 < moment.year < 9999:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def is_chart_name(text: str) -> bool:
    """Whether a text can be the name of a chart in an index: no part of a path."""
    return _NAME.fullmatch(text) is not None


def index(charts: Mapping[str, Sequence[Release]], *, host: str) -> bytes:
    """Helm's `index.yaml`.

    Args:
        charts: key of the entry → its versions, newest first.
        host: of the addresses.
    """
    entries = {key: [_entry(release, host) for release in releases] for key, releases in charts.items() if releases}
    return json.dumps({"apiVersion": API_VERSION, "entries": entries}, ensure_ascii=True, separators=(",", ":")).encode()


def _entry(release: Release, host: str) -> dict[str, Json]:
    entry: dict[str, Json] = {"name": release.name, "version": release.version, "urls": [release.url(host)], **release.facts}
    if release.package is not None and release.package.algorithm == "sha256":
        entry["digest"] = release.package.encoded
    if release.created is not None:
        entry["created"] = release.created
    return entry


def _text(value: Json) -> str | None:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return None
    shown = "".join(" " if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") else character for character in str(value))
    shown = " ".join(shown.split())
    return shown if len(shown) <= MAX_TEXT else shown[: MAX_TEXT - 1] + "…"
