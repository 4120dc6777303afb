"""marfetch: the artifacts of a `marfetch.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from .places import Form, Found, Node, Place, Sources


def _artifacts(document: Node, sources: Sources) -> Iterator[Found]:
    shared = _context(document)
    for one in document.get("artifacts").each():
        reference, version = one.get("reference"), one.get("version").span
        named, text = reference.span, reference.text
        if named is None or text is None:
            continue
        for found in sources.registries.place("marfetch", named, text, version, context={**shared, **_context(one)}):
            if isinstance(found, Place) and version is None and found.reference.tag is None and found.reference.digest is None:
                yield replace(found, range="*", problem=None)  # the newest release
            else:
                yield replace(found, takes_digest=found.is_tag) if isinstance(found, Place) else found


def _context(node: Node) -> dict[str, str]:
    return {key: span.text for key in ("endpoint", "min-age") if (span := node.get(key).span) is not None}


PROJECT: Final = Form(
    lambda _, document: isinstance(document.get("artifacts").value, list) and isinstance(document.get("schema").value, int), _artifacts
)
