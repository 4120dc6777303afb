"""Which payloads are archives that can be unpacked, and what their directories are called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..constraint import read_version
from ..oci import TITLE, Manifest
from .chart import ExpectedChart, Unpacking
from .kinds import CHART, matches
from .payload import Payload, Selection, chart_types
from .title import safe_title

_ENDINGS: Final = (".tar.gz", ".tgz", ".tar")
_CHART_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_MARK: Final = "io.deis.oras.content.unpack"
"""Annotation of oras: the layer is a directory that was packed, and its title the name of that directory."""


def unpacked(selection: Selection, manifest: Manifest, *, repository: str, tag: str | None) -> tuple[Payload, ...]:
    """The payloads, those of them that are archives under the names of their directories.

    An archive is told by the ending of its file name, which is that of its media type where it has no title, or by the mark of oras,
    so that its place is known before it is fetched. The media type of a layer with a title says little: PowerShell modules on MAR are
    zip archives that are typed as gzipped tars. A chart's directory has the name of the chart, as Helm does it: that of the manifest's
    title, which Helm writes, otherwise the last part of the repository; the archive has to agree.

    Raises:
        PolicyError: `name-refused`.
    """
    return tuple(_unpacked(selection, manifest, repository, tag))


def _unpacked(selection: Selection, manifest: Manifest, repository: str, tag: str | None) -> Iterable[Payload]:
    for payload in selection.payloads:
        if selection.kind is CHART and matches(payload.layer.media_type, chart_types(manifest)):
            version = tag if tag is not None and read_version(tag) else None
            chart = ExpectedChart(safe_title(chart_name(repository, manifest.annotations.get(TITLE))), version)
            yield payload._replace(name=chart.name, unpacking=Unpacking(payload.name, chart))
        elif payload.layer.annotations.get(_MARK) == "true":
            # oras writes the title before each path, and takes it away again.
            yield payload._replace(unpacking=Unpacking(payload.name, top=payload.name))
        elif (stem := _stem(payload.name)) != payload.name:
            yield payload._replace(name=safe_title(stem), unpacking=Unpacking(payload.name))
        else:
            yield payload


def chart_name(repository: str, title: str | None = None) -> str:
    """The name of the chart in a repository: the title of its manifest where that can be a name, or the last part that is no version."""
    if title is not None and _CHART_NAME.fullmatch(title):
        return title
    parts = repository.split("/")
    return next((part for part in reversed(parts) if not re.fullmatch(r"v?[0-9]+(\.[0-9]+)*", part)), parts[-1])


def _stem(name: str) -> str:
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
