"""Argo CD: the sources of an `Application` or `ApplicationSet`. They may be nested in generators or in a chart's templates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .places import Form, Found, LeftOut, Node, Sources, chart

_KINDS: Final = ("Application", "ApplicationSet")


def _sources(document: Node, _: Sources) -> Iterator[Found]:
    nodes = [document]
    while nodes:
        node = nodes.pop()
        nodes += reversed([one for one in node.children() if not one.is_repeated])
        repository, name, version = (node.get(key) for key in ("repoURL", "chart", "targetRevision"))
        if name.text:
            yield from chart("argo-cd", name.line, name.text, repository.text, version)
        elif (repository.text or "").startswith("oci://"):
            yield from chart("argo-cd", repository.line, repository.text, None, version)
    patch = document.get("spec", "templatePatch")
    if "targetRevision" in (patch.text or ""):
        yield LeftOut(patch.line, "left out `templatePatch`, which may set other versions")


ARGO: Final = Form(lambda _, document: document.get("kind").value in _KINDS, _sources)
