"""The exact lines with which other tools get an artifact out of a bundle."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..artifact.kinds import CHART
from ..artifact.payload import extension_of
from ..constraint import read_version
from ..helm.index_yaml import chart_version
from .inventory import BundleItem

SERVE_ADDRESS = "127.0.0.1:5000"
"""Where `marfetch serve` listens."""


def lines_for(item: BundleItem, bundle: Path) -> dict[str, list[str]]:
    """Tool → the lines, to be run one after the other in a shell; tools that cannot read a layout ask `marfetch serve`.

    Where content is left out there are none: whatever gets the rest would stand there without it.

    Args:
        bundle: its path, as it is to stand in the lines.
    """
    if item.omitted:
        return {}
    file = shlex.quote(str(bundle))
    digest, repository = str(item.descriptor.digest), item.reference.repository
    serve = f"marfetch serve {file} &"
    files = _files(item)
    is_folder = bundle.is_dir()
    layout = file if is_folder else "layout"
    transport = "oci" if is_folder else "oci-archive"
    found = {
        "oras": [f"oras blob fetch --oci-layout {file}@{layer} --output {name}" for layer, name in files]
        or [f"oras manifest fetch --oci-layout {file}@{digest}"],
        "regctl": [
            *([] if is_folder else [f"mkdir -p layout && tar -xf {file} -C layout"]),
            *(f"regctl blob get ocidir://{layout} {layer} > {name}" for layer, name in files),
        ],
        "crane": [serve, *(f"crane blob --insecure {SERVE_ADDRESS}/{repository}@{layer} > {name}" for layer, name in files)],
        "marfetch": [serve, f"marfetch pull {SERVE_ADDRESS}/{repository}@{digest}"],
    }
    if item.listed is not None:
        to = shlex.quote(item.name.replace("/", "-"))
        found["skopeo"] = [f"skopeo copy --all {transport}:{file}:{shlex.quote(item.listed)} dir:{to}"]
    pull = helm_line(item, SERVE_ADDRESS)
    if pull is not None:
        found["helm"] = [serve, pull]
    return found


def helm_line(item: BundleItem, host: str) -> str | None:
    """How helm pulls it from a registry; None for what is no chart, or has no version that helm takes."""
    version = read_version(item.reference.tag) if item.reference.tag else None
    if item.kind != CHART.name or version is None:
        return None
    return f"helm pull oci://{host}/{item.reference.repository} --version {shlex.quote(chart_version(version))} --plain-http"


def _files(item: BundleItem) -> list[tuple[str, str]]:
    """What is worth fetching: digest and file name."""
    stem = f"{item.name.replace('/', '-')}-{item.version or item.descriptor.digest.encoded[:12]}"
    several = len(item.layers) > 1
    return [
        (str(layer.digest), shlex.quote(f"{stem}{f'-{number}' if several else ''}{extension_of(layer.media_type)}"))
        for number, layer in enumerate(item.layers, start=1)
    ]
