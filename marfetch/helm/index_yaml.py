"""Write Helm's `index.yaml`, with only those facts of a chart that Helm can read.

The format is `index.yaml` of Helm 3 and 4 (helm/helm, pkg/repo). The index is written as JSON, which is valid YAML. Helm reads JSON two to
three times faster. Helm rejects the whole index if it has an unknown field or an unreadable date.
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
"""The maximum number of characters of a publisher's text in an index. Longer texts are cut."""

_TEXTS: Final = ("appVersion", "description", "kubeVersion", "type", "home", "icon")
_TYPES: Final = ("application", "library")
"""Valid chart types. Helm skips a version of any other type, and prints a warning each time (helm/helm, pkg/chart, `Metadata.Validate`)."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a chart in an index.

    Attributes:
        name: the name in the chart's `Chart.yaml`; if unknown, the last part of the repository.
        version: the version in Helm's notation, which is the tag with `+` instead of `_`.
        repository: the repository, without the host.
        tag: the tag in the registry.
        manifest: the digest of the manifest, if known.
        package: the digest of the `.tgz`, if known.
        created: the creation time in RFC 3339, if the manifest has a valid one.
        facts: other fields of the index entry, such as `appVersion` and `description`.
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
        """Return the address that Helm passes to the getter. It has the digest if known, so that Helm gets exactly the listed chart."""
        named = f"@{self.manifest}" if self.manifest else f":{self.tag}"
        return f"mar://{host}/{self.repository}{named}/{self.name}-{self.version}.tgz"


def chart_facts(metadata: Mapping[str, Json]) -> dict[str, Json]:
    """Select the facts of a chart for an index. Texts are limited to one line without control characters.

    Args:
        metadata: the content of `Chart.yaml` in the config of an artifact. It is untrusted.
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
    """Convert a time to RFC 3339, the only format that Helm reads. Return None if the time cannot be parsed."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if not 1 < moment.year < 9999:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def is_chart_name(text: str) -> bool:
    """Return whether a text is a valid chart name for an index. A chart name has no `/`."""
    return _NAME.fullmatch(text) is not None


def index(charts: Mapping[str, Sequence[Release]], *, host: str) -> bytes:
    """Return Helm's `index.yaml`.

    Args:
        charts: the versions of each chart, newest first, by the key of the index entry.
        host: the host of the registry, for the addresses of the charts.
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
