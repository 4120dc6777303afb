"""Print artifacts, their referrers and plans, as a tree or lines and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..artifact.kinds import Kind
from ..artifact.module import ModuleParameter
from ..client.inspection import Inspected, Referrer
from ..client.plan import Artifact, Plan
from ..client.resolve import Resolved
from ..client.show import ShownPart
from ..document import Json
from ..oci import CREATED, Descriptor, descriptor_json
from ..text import counted, human_size
from .report import Branch, Report, error_json
from .table import Cell, Row, ago, as_cell, digest, in_columns, reference

_MAX_VALUE = 300  # characters of an annotation or chart field
_CHART_FACTS = ("name", "version", "appVersion", "type", "kubeVersion", "deprecated", "description", "home")


def print_inspection(report: Report, found: Inspected) -> int:
    for warning in found.warnings:
        report.warn(warning)
    report.data(inspection_json(found))
    report.tree(_inspected_tree(found))
    return 0


def print_part(report: Report, shown: ShownPart) -> int:
    data: dict[str, Json] = {"reference": str(shown.reference), "part": shown.part, "path": shown.path}
    if shown.interface is None:
        report.data({**data, "content": shown.content.decode("utf-8", "replace")})
        report.content(shown.content)
        return 0
    parameters, outputs = shown.interface
    report.data({**data, "parameters": [one._asdict() for one in parameters], "outputs": [one._asdict() for one in outputs]})
    rows = [(one.name, one.type, _use(one), _default(one), _sentence(one.description)) for one in parameters]
    if not parameters and not outputs:
        report.note(f"`{shown.reference.shown}` has no parameters and no outputs")
    rows += [(one.name, one.type, "output", "-", _sentence(one.description)) for one in outputs]
    report.table(("NAME", "TYPE", "USE", "DEFAULT", "DESCRIPTION"), rows, wraps=True)
    return 0


def _use(one: ModuleParameter) -> str:
    return "required" if one.required else "optional"


def _default(one: ModuleParameter) -> str:
    return "-" if one.required or one.default is None else json.dumps(one.default, ensure_ascii=False)


def _sentence(text: str | None) -> str:
    return " ".join(text.split()) if text else "-"


def print_referrers(report: Report, resolved: Resolved, found: tuple[Referrer, ...]) -> int:
    report.data(
        {
            "reference": str(resolved.reference),
            "digest": str(resolved.manifest.descriptor.digest),
            "referrers": [_referrer_json(one) for one in found],
        }
    )
    report.tree(Branch(_root(resolved), _referrer_trees(found) or [Branch("no referrers")]))
    return 0


def inspection_json(found: Inspected) -> dict[str, Json]:
    """Return the JSON of `marfetch inspect` (`docs/reference/json.md`)."""
    resolved, manifest = found.resolved, found.manifest
    shown = manifest or resolved.manifest
    artifact_type = manifest.effective_type if manifest else resolved.manifest.artifact_type
    data: dict[str, Any] = {
        "reference": str(resolved.reference),
        "repository": resolved.reference.full_repository,
        "tag": resolved.reference.tag,
        "version": str(resolved.version.version) if resolved.version else None,
        "kind": found.kind.name if found.kind else None,
        "artifactType": artifact_type,
        "mediaType": resolved.manifest.descriptor.media_type,
        "digest": str(resolved.manifest.descriptor.digest),
        "manifest": str(shown.descriptor.digest),
        "size": sum(layer.descriptor.size for layer in found.layers),
        "created": shown.annotations.get(CREATED),
        "config": descriptor_json(manifest.config) if manifest else None,
        "layers": [{**descriptor_json(layer.descriptor), "name": layer.name} for layer in found.layers],
        "annotations": dict(shown.annotations),
        "chart": found.chart,
        "platforms": [{**descriptor_json(child.descriptor), "kind": child.kind.name if child.kind else None} for child in found.children],
        "subject": descriptor_json(shown.subject) if shown.subject else None,
        "endOfLife": found.ends.isoformat() if found.ends else None,
        "referrers": [_referrer_json(one) for one in found.referrers],
        "warnings": list(found.warnings),
    }
    return data


def _referrer_json(one: Referrer) -> dict[str, Any]:
    return {
        **descriptor_json(one.descriptor),
        "artifactType": one.descriptor.artifact_type,
        "annotations": dict(one.descriptor.annotations),
        "kind": one.kind.name if one.kind else None,
        "reference": str(one.reference),
        "referrers": [_referrer_json(below) for below in one.referrers],
    }


def _inspected_tree(found: Inspected) -> Branch:
    resolved, manifest = found.resolved, found.manifest
    shown = manifest or resolved.manifest
    created = shown.annotations.get(CREATED)
    facts: list[tuple[str, str | Cell | None]] = [
        ("kind", found.kind.title if found.kind else "several" if found.children else None),
        ("media type", resolved.manifest.descriptor.media_type),
        ("artifact type", manifest.effective_type if manifest else resolved.manifest.artifact_type),
        ("created", ago(created) if created else None),
        ("end of life", found.ends.isoformat() if found.ends else None),
        ("refers to", digest(shown.subject.digest) if shown.subject else None),
    ]
    parts = [_fact(label, text) for label, text in facts if text]
    if found.chart is not None:
        known = [(name, found.chart.get(name)) for name in _CHART_FACTS]
        parts.append(_part("chart", [_fact(name, _cut(value)) for name, value in known if value not in (None, "", [])]))
        parts[-1].below.extend(_dependencies(found.chart))
    if found.children:
        parts.append(_part("manifests", _branches([_child_row(child.descriptor, child.kind) for child in found.children])))
    if found.layers:
        parts.append(_part("layers", _branches([_layer_row(layer.descriptor, layer.name) for layer in found.layers])))
    if shown.annotations:
        parts.append(_part("annotations", [_fact(name, digest(_cut(value))) for name, value in shown.annotations.items()]))
    if found.referrers:
        parts.append(_part("referrers", _referrer_trees(found.referrers)))
    return Branch(_root(resolved), parts)


def _root(resolved: Resolved) -> Cell:
    return reference(resolved.reference)._replace(style="bold")


def _part(title: str, below: list[Branch]) -> Branch:
    return Branch(Cell(title, style="bold"), below)


def _branches(rows: Sequence[Row]) -> list[Branch]:
    return [Branch(cell) for cell in in_columns(rows)]


def _fact(label: str, value: str | Cell) -> Branch:
    cell = as_cell(value)
    return Branch(Cell(f"{label}: {cell.text}", f"{label}: {cell.short}"))


def _dependencies(chart: dict[str, Json]) -> list[Branch]:
    value = chart.get("dependencies")
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    lines = [Branch(_cut(" ".join(str(entry[key]) for key in ("name", "version", "repository") if entry.get(key)))) for entry in entries]
    return [_part("dependencies", lines)] if lines else []


def _referrer_trees(found: Sequence[Referrer]) -> list[Branch]:
    branches = _branches([_referrer_row(one) for one in found])
    for branch, one in zip(branches, found, strict=True):
        notes = one.descriptor.annotations
        for label, name in one.kind.facts if one.kind else (("created", CREATED),):
            if name in notes:
                value = _cut(notes[name])
                branch.below.append(_fact(label, ago(value) if name == CREATED else digest(value)))
        branch.below.extend(_referrer_trees(one.referrers))
    return branches


def _referrer_row(one: Referrer) -> Row:
    what = one.kind.title if one.kind else one.descriptor.artifact_type or "no artifact type"
    return (what, human_size(one.descriptor.size), digest(one.descriptor.digest))


def _child_row(child: Descriptor, kind: Kind | None) -> Row:
    return (str(child.platform or ""), (kind.title if kind else child.artifact_type) or "", digest(child.digest))


def _layer_row(layer: Descriptor, name: str | None) -> Row:
    title = None if name else layer.title and f"“{_cut(layer.title)}”"
    return (name or title or "not a payload", human_size(layer.size), layer.media_type, digest(layer.digest))


def _cut(value: Json) -> str:
    text = str(value)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"


def _missing(one: Artifact) -> str:
    sizes = [layer.descriptor.size for layer in one.layers if not layer.cached]
    return human_size(sum(sizes)) if sizes else "in the cache"


def print_plan(report: Report, plan: Plan) -> int:
    """Print a plan; return the exit code of the first failure."""
    artifacts = [(reference(one.selected.resolved.reference), one.selected.kind.name, _missing(one)) for one in plan.artifacts]
    report.table(("reference", "kind", "download"), artifacts, pipe=[("artifact", *row) for row in artifacts])
    if plan.artifacts:
        report.gap()
        hosts = [(need.host, str(need.port), need.scheme, counted(need.requests, "request"), human_size(need.bytes)) for need in plan.needs]
        report.table(("host", "port", "protocol", "requests", "download"), hosts, pipe=[("host", *row) for row in hosts])
        report.gap()
        report.facts([("total", counted(plan.requests, "request"), human_size(plan.size), f"{human_size(plan.cached)} in the cache")])
    data: dict[str, Any] = {
        "artifacts": [
            {
                "reference": str(one.selected.resolved.reference),
                "kind": one.selected.kind.name,
                "bytes": sum(layer.descriptor.size for layer in one.layers if not layer.cached),
                "layers": [{**descriptor_json(layer.descriptor), "name": layer.name, "cached": layer.cached} for layer in one.layers],
            }
            for one in plan.artifacts
        ],
        "hosts": [
            {
                "host": need.host,
                "port": need.port,
                "protocol": need.scheme,
                "purpose": need.purpose,
                "requests": need.requests,
                "bytes": need.bytes,
                "sure": need.sure,
            }
            for need in plan.needs
        ],
        "requests": plan.requests,
        "bytes": plan.size,
        "cached": plan.cached,
        "failed": [{**error_json(failed.error), "reference": failed.reference} for failed in plan.failed],
    }
    if not plan.failed:
        report.data(data)
        return 0
    errors = [(failed.reference, failed.error) for failed in plan.failed]
    return report.failures(errors, data, several=len(plan.failed) + len(plan.artifacts) > 1)
