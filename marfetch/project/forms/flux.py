"""Flux: `OCIRepository` objects, and `HelmRelease` and `HelmChart` objects with the source that they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from .places import VARIABLE, Form, Found, LeftOut, Node, Place, Sources, chart, place, registry_path

_REF: Final = ("digest", "semver", "tag")
_KINDS: Final = ("HelmRelease", "OCIRepository", "HelmChart", "HelmRepository")


def _objects(document: Node, sources: Sources) -> Iterator[Found]:
    match document.get("kind").value:
        case "OCIRepository":
            yield from _repository(document.get("spec"))
        case "HelmRelease":
            yield from _from_source(document, document.get("spec", "chart", "spec"), sources)
        case "HelmChart":
            spec = document.get("spec")
            if spec.get("sourceRef").value is not None:
                yield from _from_source(document, spec, sources)
            else:  # the `HelmChart` of k3s has the chart's address instead
                yield from chart("helm-chart", spec.line, spec.get("chart").text, spec.get("repo").text, spec.get("version"))


def _from_source(document: Node, spec: Node, sources: Sources) -> Iterator[Found]:
    source = spec.get("sourceRef")
    kind, name = source.get("kind").text, source.get("name").text
    namespace = source.get("namespace").text or document.get("metadata", "namespace").text
    if kind not in ("HelmRepository", "OCIRepository") or name is None:
        return
    for one in sources.objects.get((kind, name), ()):
        there = one.get("metadata", "namespace").text
        if there is None or namespace is None or there == namespace:
            yield from chart("flux", spec.line, spec.get("chart").text, one.get("spec", "url").text, spec.get("version"))
            return
    yield LeftOut(spec.line, f"left out `{spec.get('chart').text}`: its source `{kind}/{name}` is in another file; name that file too")


def _repository(spec: Node) -> Iterator[Found]:
    url, ref = spec.get("url"), spec.get("ref")
    if registry_path(url.text or "") is None:
        return
    # Flux prefers the digest, then the range, then the tag. It ignores a tag next to a digest, and so does this.
    digest, semver, tag = (span if span is not None and span.text else None for span in (ref.get(key).span for key in _REF))
    if tag is None or digest is not None or semver is not None or VARIABLE.search(tag.text):
        for one in place("flux", url.line, url.text or "", digest or semver or tag):
            yield replace(one, version=tag) if isinstance(one, Place) and digest is not None and semver is None else one
    else:
        for one in place("flux", tag.line, f"{url.text}:{tag.text}", None):
            yield replace(one, version=tag) if isinstance(one, Place) else one
    filtered = ref.get("semverFilter")
    if filtered.text and semver is not None and digest is None:
        yield LeftOut(filtered.line, f"left out `semverFilter: {filtered.text}` of `{url.text}`: marfetch has no such filter")


FLUX: Final = Form(lambda _, document: document.get("kind").value in _KINDS, _objects)
