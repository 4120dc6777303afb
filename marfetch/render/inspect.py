"""Print artifacts, their referrers and plans, as a tree or lines and as JSON."""

from __future__ import annotations

import json
from typing import Any

from ..artifact.kinds import Kind
from ..artifact.module import ModuleParameter
from ..client.inspection import Inspected, Referrer
from ..client.plan import Plan
from ..client.resolve import Resolved
from ..client.show import ShownPart
from ..document import Json
from ..oci import CREATED, Descriptor, descriptor_json
from ..text import counted, human_size
from .report import Branch, Report, error_json

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
    digest = str(resolved.manifest.descriptor.digest)
    report.data({"reference": str(resolved.reference), "digest": digest, "referrers": [_referrer_json(one) for one in found]})
    branches = [_referrer_tree(one) for one in found]
    report.tree(Branch(str(resolved.reference), branches or [Branch("no referrers")]))
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
    facts: list[tuple[str, str | None]] = [
        ("kind", found.kind.title if found.kind else "several" if found.children else None),
        ("media type", resolved.manifest.descriptor.media_type),
        ("artifact type", manifest.effective_type if manifest else resolved.manifest.artifact_type),
        ("created", shown.annotations.get(CREATED)),
        ("end of life", found.ends.isoformat() if found.ends else None),
        ("refers to", str(shown.subject.digest) if shown.subject else None),
    ]
    parts = [Branch(f"{label}: {text}") for label, text in facts if text]
    if found.chart is not None:
        known = [(name, found.chart.get(name)) for name in _CHART_FACTS]
        parts.append(Branch("chart", [Branch(f"{name}: {_cut(value)}") for name, value in known if value not in (None, "", [])]))
        parts[-1].below.extend(_dependencies(found.chart))
    if found.children:
        parts.append(Branch("manifests", [Branch(_child_line(child.descriptor, child.kind)) for child in found.children]))
    if found.layers:
        parts.append(Branch("layers", [Branch(_layer_line(layer.descriptor, layer.name)) for layer in found.layers]))
    if shown.annotations:
        parts.append(Branch("annotations", [Branch(f"{name}: {_cut(value)}") for name, value in shown.annotations.items()]))
    if found.referrers:
        parts.append(Branch("referrers", [_referrer_tree(one) for one in found.referrers]))
    return Branch(str(resolved.reference), parts)


def _dependencies(chart: dict[str, Json]) -> list[Branch]:
    value = chart.get("dependencies")
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    lines = [Branch(_cut(" ".join(str(entry[key]) for key in ("name", "version", "repository") if entry.get(key)))) for entry in entries]
    return [Branch("dependencies", lines)] if lines else []


def _referrer_tree(one: Referrer) -> Branch:
    what = one.kind.title if one.kind else one.descriptor.artifact_type or "no artifact type"
    facts = [
        f"{label}: {_cut(one.descriptor.annotations[name])}"
        for label, name in (one.kind.facts if one.kind else (("created", CREATED),))
        if name in one.descriptor.annotations
    ]
    line = "  ".join([what, human_size(one.descriptor.size), str(one.descriptor.digest)])
    return Branch(line, [*(Branch(fact) for fact in facts), *(_referrer_tree(below) for below in one.referrers)])


def _child_line(child: Descriptor, kind: Kind | None) -> str:
    columns = [str(child.platform) if child.platform else None, kind.title if kind else child.artifact_type, str(child.digest)]
    return "  ".join(column for column in columns if column)


def _layer_line(layer: Descriptor, name: str | None) -> str:
    title = None if name else layer.title and f"“{_cut(layer.title)}”"
    return "  ".join([name or title or "not a payload", human_size(layer.size), layer.media_type, str(layer.digest)])


def _cut(value: Json) -> str:
    text = str(value)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"


def print_plan(report: Report, plan: Plan) -> int:
    """Print a plan; return the exit code of the first failure."""
    for one in plan.artifacts:
        missing = [layer.descriptor.size for layer in one.layers if not layer.cached]
        size = human_size(sum(missing)) if missing else "in the cache"
        report.line("artifact", str(one.selected.resolved.reference), one.selected.kind.name, size)
    for need in plan.needs if plan.artifacts else ():
        report.line("host", need.host, str(need.port), need.scheme, counted(need.requests, "request"), human_size(need.bytes))
    if plan.artifacts:
        report.line("total", counted(plan.requests, "request"), human_size(plan.size), f"{human_size(plan.cached)} in the cache")
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
