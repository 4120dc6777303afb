"""Argo CD: the sources of an `Application`, and of the template of an `ApplicationSet`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .places import Form, Found, Node, chart

_KINDS: Final = {"Application": ("spec",), "ApplicationSet": ("spec", "template", "spec")}


def _sources(document: Node, _: list[Node]) -> Iterator[Found]:
    spec = document.get(*_KINDS[str(document.get("kind").value)])
    for one in (spec.get("source"), *spec.get("sources").each()):
        repository = one.get("repoURL")
        if one.get("chart").text:
            yield from chart("argo-cd", one.get("chart").line, one.get("chart").text, repository.text, one.get("targetRevision"))
        elif (repository.text or "").startswith("oci://"):
            yield from chart("argo-cd", repository.line, repository.text, None, one.get("targetRevision"))


ARGO: Final = Form(lambda _, document: str(document.get("kind").value) in _KINDS, _sources)
