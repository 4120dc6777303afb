"""File formats that describe a chart by a mapping with fixed keys, at any depth of a document."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .places import Found, LeftOut, Node, chart, registry_path


class _Shape(NamedTuple):
    """The keys that describe a chart in one file format. A key of a nested mapping is a tuple with several names.

    Attributes:
        form: the name of the file format.
        name: the key with the chart's name or whole address.
        repository: the key with the registry and the path above the chart; empty if the format has no such key.
        version: the key with the chart's version.
        needed: keys that must be present; otherwise the mapping is not a chart.
    """

    form: str
    name: tuple[str, ...]
    repository: tuple[str, ...]
    version: tuple[str, ...]
    needed: tuple[str, ...] = ()


_SHAPES: Final = (
    _Shape("ansible", ("chart_ref",), ("chart_repo_url",), ("chart_version",)),
    _Shape("argo-cd", ("chart",), ("repoURL",), ("targetRevision",), ("repoURL",)),
    _Shape("azure-pipelines", ("chartName",), (), ("chartVersion",)),
    _Shape("chart", ("name",), ("repository",), ("version",), ("version",)),
    _Shape("fleet", ("chart",), ("repo",), ("version",)),
    _Shape("kustomize", ("name",), ("repo",), ("version",)),
    _Shape("kustomize", ("chartName",), ("chartRepoUrl",), ("chartVersion",)),
    _Shape("terraform", ("chart",), ("repository",), ("version",), ("repository",)),
    _Shape("vendir", ("name",), ("repository", "url"), ("version",)),
    _Shape("zarf", ("url",), (), ("version",), ("name",)),
)
_IMAGE: Final = re.compile(r"images?\Z", re.IGNORECASE)


def _images(node: Node) -> list[Node]:
    """Return the values that name container images: all texts below a key such as `image`, or a name with a `tag` key next to it."""
    if isinstance(node.key, str) and _IMAGE.search(node.key):
        below = [node]
        for one in below:
            below += [child for child in one.children() if not child.is_repeated]
        return [one for one in below if one.text is not None]
    name = node.get("name" if node.get("newTag").value is not None or node.get("newName").value is not None else "repository")
    return [name] if name.text is not None and any(node.get(key).value is not None for key in ("tag", "newTag", "newName")) else []


def _customized(document: Node) -> list[Found]:
    """Return the chart versions that Fleet uses for specific clusters only."""
    helm, found = document.get("helm"), list[Found]()
    for one in document.get("targetCustomizations").each():
        own = one.get("helm")
        if own.get("version").value is not None and own.get("chart").value is None:
            name, repository = helm.get("chart").text, (own if own.get("repo").value is not None else helm).get("repo").text
            found += chart("fleet", own.get("version").line, name, repository, own.get("version"))
    return found


def find(document: Node) -> tuple[list[Found], set[int]]:
    """Find charts by their keys in a document of any format.

    Returns:
        The places that were found, and the numbers of the lines that the line-by-line search can skip.
    """
    found: list[Found] = []
    read: set[int] = set()
    nodes = [document]
    while nodes:
        node = nodes.pop()
        images = [one for one in _images(node) if registry_path(one.text or "") is not None]
        read |= {one.line for one in images}
        found += [LeftOut(one.line, "skipped a container image") for one in images[:1]]
        if images:
            continue
        nodes += reversed([one for one in node.children() if not one.is_repeated])
        for shape in _SHAPES if isinstance(node.value, dict) else ():
            name, repository, version = (node.get(*one) for one in (shape.name, shape.repository, shape.version))
            if any(node.get(key).value is None for key in shape.needed):
                continue
            places = list(chart(shape.form, name.line, name.text, repository.text, version))
            if places:
                found += places
                read |= {one.line for one in (name, repository, version) if one.value is not None}
                break
    return [*found, *_customized(document)], read
