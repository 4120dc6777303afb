"""File formats that describe a chart by a mapping with fixed keys, at any depth of a document."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, NamedTuple

from ...document import Json
from .lines import VERSION_OPTION
from .places import Found, LeftOut, Node, Place, SetValues, Sources, Span


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
    _Shape("cluster-api", ("chartName",), ("repoURL",), ("version",), ("repoURL",)),
    _Shape("chart", ("name",), ("repository",), ("version",), ("version",)),
    _Shape("fleet", ("chart",), ("repo",), ("version",)),
    _Shape("hauler", ("name",), ("repoURL",), ("version",)),
    _Shape("k0s", ("chartname",), (), ("version",)),
    _Shape("kustomize", ("name",), ("repo",), ("version",)),
    _Shape("kustomize", ("chartName",), ("chartRepoUrl",), ("chartVersion",)),
    _Shape("skaffold", ("remoteChart",), (), ("version",)),
    _Shape("terraform", ("chart",), ("repository",), ("version",), ("repository",)),
    _Shape("vendir", ("name",), ("repository", "url"), ("version",)),
    _Shape("zarf", ("url",), (), ("version",), ("name",)),
)
_VALUES_FILES: Final = ("valuesFile", "valuesFiles", "additionalValuesFiles", "values_files")
_VALUES: Final = ("values", "valuesInline", "release_values")
_IMAGE: Final = re.compile(r"images?\Z", re.IGNORECASE)


def _images(node: Node) -> list[Node]:
    """Return the values that name container images: all texts below a key such as `image`, or a name with a `tag` key next to it."""
    if isinstance(node.key, str) and _IMAGE.search(node.key):
        below = [node]
        for one in below:
            below += [child for child in one.children() if not child.is_repeated]
        return [one for one in below if one.text is not None]
    if not isinstance(node.value, dict) or not any(key in node.value for key in ("tag", "newTag", "newName")):
        return []
    name = node.get("name" if node.get("newTag").value is not None or node.get("newName").value is not None else "repository")
    return [name] if name.text is not None and any(node.get(key).value is not None for key in ("tag", "newTag", "newName")) else []


def _option(arguments: Node) -> Span | None:
    """Return the value of `--version` in the arguments of a pipeline's task."""
    span = arguments.span
    match = VERSION_OPTION.search(span.text) if span is not None else None
    group = next((number for number in (1, 2, 3) if match[number]), 0) if match is not None else 0
    return span.part(match.start(group), match.end(group)) if span is not None and match is not None and group else None


def _values(node: Node) -> tuple[SetValues, ...]:
    files = [one for key in _VALUES_FILES for one in _texts(node.get(key).value)]
    return (*map(SetValues, files), *(SetValues(None, node.get(key).value) for key in _VALUES))


def _texts(value: Json) -> list[str]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def _customized(document: Node, sources: Sources) -> list[Found]:
    """Return the chart versions that Fleet uses for specific clusters only."""
    helm, found = document.get("helm"), list[Found]()
    for one in document.get("targetCustomizations").each():
        own = one.get("helm")
        if own.get("version").value is not None and own.get("chart").value is None:
            repository = (own if own.get("repo").value is not None else helm).get("repo")
            found += sources.registries.chart("fleet", helm.get("chart"), repository, own.get("version"))
    return found


def find(document: Node, sources: Sources) -> tuple[list[Found], set[int]]:
    """Find charts by their keys in a document of any format.

    Args:
        sources: the registries whose charts are found.

    Returns:
        The places that were found, and the numbers of the lines that the line-by-line search can skip.
    """
    found: list[Found] = []
    read: set[int] = set()
    nodes = [document]
    while nodes:
        node = nodes.pop()
        images = [one for one in _images(node) if sources.registries.path(one.text or "") is not None]
        read |= {one.line for one in images}
        found += [LeftOut(one.line, "skipped a container image") for one in images[:1]]
        if images:
            continue
        nodes += reversed([one for one in node.children() if not one.is_repeated])
        keys = node.value if isinstance(node.value, dict) else {}
        for shape in _SHAPES:
            named = keys.get(shape.name[0])
            if named is None or any(keys.get(key) is None for key in shape.needed):
                continue
            if "://" not in str(named) and (not shape.repository or shape.repository[0] not in keys):
                continue
            name, repository, version = (node.get(*one) for one in (shape.name, shape.repository, shape.version))
            option = _option(node.get("arguments")) if shape.form == "azure-pipelines" and version.value is None else None
            # Without a scheme, it may be a container image. Only Argo CD has no scheme for charts.
            is_certain = shape.form == "argo-cd" or "://" in f"{name.text} {repository.text}"
            places = list(sources.registries.chart(shape.form, name, repository, option or version, is_certain=is_certain))
            if places:
                values = _values(node)
                found += [replace(one, values=values) if isinstance(one, Place) else one for one in places]
                read |= {line for one in (name, repository, version, node.get("arguments") if option else name) for line in one.lines}
                break
    return [*found, *_customized(document, sources)], read
