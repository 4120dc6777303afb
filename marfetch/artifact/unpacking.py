"""Which payloads are archives that can be unpacked, and what their directories are called."""

from __future__ import annotations

import re
from typing import Final

from ..constraint import read_version
from ..oci import TITLE, Manifest
from .chart import ExpectedChart, Unpacking
from .filename import safe_title
from .kinds import CHART, matches
from .payload import Payload, Selection, chart_types

_ENDINGS: Final = (".tar.gz", ".tgz", ".tar")
_CHART_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_MARK: Final = "io.deis.oras.content.unpack"
"""Annotation of oras: the layer is a directory that was packed, and its title the name of that directory."""


def unpacked(selection: Selection, manifest: Manifest, *, repository: str, tag: str | None) -> tuple[Payload, ...]:
    """Return the payloads, with archives under the names of the directories that they become.

    A payload is an archive by the ending of its file name (without a title, that of its media type), or by the mark of oras, so that its
    place is known before it is fetched. The media type of a layer with a title says little: PowerShell modules on MAR are zip archives that
    are typed as gzipped tars.

    The directory has the name of the repository's last part: a publisher must not choose which directory is replaced. Where several
    payloads are archives, each gets a directory of its own in it. A chart still has to be the one that the manifest's title, which Helm
    writes, or otherwise the repository names.

    Raises:
        PolicyError: `name-refused`.
    """
    directory = safe_title(chart_name(repository))
    payloads = [_unpacked(payload, selection, manifest, repository, tag) for payload in selection.payloads]
    is_only = sum(payload.unpacking is not None for payload in payloads) == 1

    def placed(payload: Payload) -> Payload:
        if payload.unpacking is None:
            return payload
        name = directory if is_only else f"{directory}/{directory if payload.unpacking.chart else payload.name}"
        return payload._replace(name=name)

    return tuple(map(placed, payloads))


def _unpacked(payload: Payload, selection: Selection, manifest: Manifest, repository: str, tag: str | None) -> Payload:
    """An archive as what it becomes, under a name of its own; anything else as it is."""
    if selection.kind is CHART and matches(payload.layer.media_type, chart_types(manifest)):
        version = tag if tag is not None and read_version(tag) else None
        chart = ExpectedChart(safe_title(chart_name(repository, manifest.annotations.get(TITLE))), version)
        return payload._replace(name=chart.name, unpacking=Unpacking(payload.name, chart))
    if payload.layer.annotations.get(_MARK) == "true" and payload.name == payload.layer.title:
        # oras writes the title before each path, and takes it away again.
        return payload._replace(unpacking=Unpacking(payload.name, top=payload.name))
    if (stem := _stem(payload.name)) != payload.name:
        return payload._replace(name=safe_title(stem), unpacking=Unpacking(payload.name, is_stripped=True))
    return payload


def chart_name(repository: str, title: str | None = None) -> str:
    """The name of the chart in a repository: the title of its manifest where that can be a name, or the last part that is no version."""
    if title is not None and _CHART_NAME.fullmatch(title):
        return title
    parts = repository.split("/")
    return next((part for part in reversed(parts) if not re.fullmatch(r"v?[0-9]+(\.[0-9]+)*", part)), parts[-1])


def _stem(name: str) -> str:
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
