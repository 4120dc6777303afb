"""Argo CD: the sources of an `Application` or `ApplicationSet`. They may be nested in generators or in a chart's templates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .places import Form, Found, LeftOut, Node, Place, SetValues, Sources

_KINDS: Final = ("Application", "ApplicationSet")


def _sources(document: Node, sources: Sources) -> Iterator[Found]:
    nodes, is_found = [document], False
    while nodes:
        node = nodes.pop()
        nodes += reversed([one for one in node.children() if not one.is_repeated])
        repository, name, version = (node.get(key) for key in ("repoURL", "chart", "targetRevision"))
        if name.text or (repository.text or "").startswith("oci://"):
            for one in sources.registries.chart("argo-cd", name if name.text else repository, repository, version, values=_values(node)):
                is_found = is_found or isinstance(one, Place)
                yield one
    patch = document.get("spec", "templatePatch")
    if "targetRevision" in (patch.text or ""):
        named = document.get("metadata", "name").text or "ApplicationSet"
        yield LeftOut(patch.line, "left out `templatePatch`, which may set other versions", named if is_found else None, "argo-cd")


def _values(source: Node) -> tuple[SetValues, ...]:
    """Return the values of a source. A path may start with `$REF/`, which names another source, usually this repository."""
    helm = source.get("helm")
    files = helm.get("valueFiles").value
    paths = (
        [one.partition("/")[2] if one.startswith("$") else one for one in files if isinstance(one, str)] if isinstance(files, list) else []
    )
    inline = (SetValues(None, helm.get(key).value) for key in ("values", "valuesObject"))
    return (*map(SetValues, paths), *inline, *(SetValues.at(one.get("name").text or "") for one in helm.get("parameters").each()))


ARGO: Final = Form(lambda _, document: document.get("kind").value in _KINDS, _sources)
