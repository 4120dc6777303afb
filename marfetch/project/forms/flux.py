"""Flux: `OCIRepository` objects, and `HelmRelease` and `HelmChart` objects with the source that they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from .places import VARIABLE, Form, Found, LeftOut, Node, Place, SetValues, Sources

_SPEC: Final = ("spec", "chart", "spec")
"""The keys of a release that lead to its chart, version and source."""
_REF: Final = ("digest", "semver", "tag")
_KINDS: Final = ("HelmRelease", "OCIRepository", "HelmChart", "HelmRepository")


def _objects(document: Node, sources: Sources) -> Iterator[Found]:
    match document.get("kind").value:
        case "OCIRepository":
            yield from _repository(document.get("spec"), sources)
        case "HelmRelease":
            spec = document.get(*_SPEC)
            if spec.get("sourceRef").value is None and spec.get("version").value is not None:
                yield from _patch(document, spec.get("version"), sources)
            else:
                yield from _from_source(document, spec, spec.get("version"), sources)
        case "HelmChart":
            spec = document.get("spec")
            if spec.get("sourceRef").value is not None:
                yield from _from_source(document, spec, spec.get("version"), sources)
            else:  # the `HelmChart` of k3s has the chart's address instead
                name = spec.get("chart")
                yield from sources.registries.chart("helm-chart", name, spec.get("repo"), spec.get("version"))


def _patch(document: Node, version: Node, sources: Sources) -> Iterator[Found]:
    """Find the chart of a release that only patches another one, as in an overlay of Kustomize."""
    name, namespace = (document.get("metadata", key).text for key in ("name", "namespace"))
    releases = sources.everywhere("HelmRelease", name or "", namespace, (*_SPEC, "sourceRef"))
    bases = {str([one.get(*_SPEC, key).value for key in ("chart", "sourceRef")]): one for one in releases}
    for base in bases.values() if len(bases) == 1 else ():
        yield from _from_source(base, base.get(*_SPEC), version, sources)
    if len(bases) != 1:
        reason = f"left out `{name}`: {'several releases have' if bases else 'no release has'} this name and a source"
        yield LeftOut(version.line, reason, name or "a release", "flux")


def _from_source(document: Node, spec: Node, version: Node, sources: Sources) -> Iterator[Found]:
    source = spec.get("sourceRef")
    kind, name = source.get("kind").text, source.get("name").text
    namespace = source.get("namespace").text or document.get("metadata", "namespace").text
    if kind not in ("HelmRepository", "OCIRepository") or name is None:
        return
    found = sources.source(kind, name, namespace)
    paths = [sources.registries.path(one.get("spec", "url").text or "") for one in found]
    text = spec.get("chart").text
    at = version.line if version.value is not None else spec.line
    if len(found) == 1:
        values = (SetValues(None, document.get("spec", "values").value),)
        yield from sources.registries.chart("flux", spec.get("chart"), found[0].get("spec", "url"), version, values=values)
    elif any(path is not None for path in paths):
        yield LeftOut(at, f"left out `{text}`: several files define its source `{kind}/{name}`", text, "flux")
    elif not found:
        yield LeftOut(at, f"left out `{text}`: its source `{kind}/{name}` is in another file; name that file too", text, "flux")


def _repository(spec: Node, sources: Sources) -> Iterator[Found]:
    url, ref = spec.get("url"), spec.get("ref")
    base, at = sources.registries.path(url.text or ""), url.span
    if base is None or at is None:
        return
    # Flux prefers the digest, then the range, then the tag. It ignores a tag next to a digest, and so does this.
    digest, semver, tag = (span if span is not None and span.text else None for span in (ref.get(key).span for key in _REF))
    filtered = ref.get("semverFilter").text if semver is not None and digest is None else None
    fixed = f"`semverFilter: {filtered}` may exclude a newer version" if filtered else None
    if tag is None or digest is not None or semver is not None or VARIABLE.search(tag.text):
        second = semver or tag if digest is not None else None
        for one in sources.registries.place("flux", at, base, digest or semver or tag, fixed=fixed):
            if second is None or not isinstance(one, Place):
                yield one
            else:
                yield replace(one, version=second, line=second.line, is_tag=semver is None)
    else:
        yield from sources.registries.place("flux", tag, f"{base}:{tag.text}", None)
    if filtered:
        yield LeftOut(ref.get("semverFilter").line, f"left out `semverFilter: {filtered}` of `{url.text}`: marfetch has no such filter")


FLUX: Final = Form(lambda _, document: document.get("kind").value in _KINDS, _objects)
