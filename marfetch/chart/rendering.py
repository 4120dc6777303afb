"""Evaluate the templates of a chart with its default values, as `helm template` does, without Helm."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from .template.evaluate import Evaluator, Meter, StepsExceededError, Struct
from .template.functions import functions
from .template.goformat import Formatter
from .template.marked import from_value
from .template.matching import glob_expression, matches
from .template.syntax import TemplateError
from .tree import Chart

KUBERNETES: Final = "v1.35.0"
"""The Kubernetes version in `.Capabilities`."""
RELEASE: Final = "release-name"
"""The name of the release, as in `helm template` without a name."""
_GROUPS: Final = {
    "v1": ("",),
    "admissionregistration.k8s.io": ("v1", "v1beta1"),
    "apiextensions.k8s.io": ("v1", "v1beta1"),
    "apps": ("v1", "v1beta1", "v1beta2"),
    "authentication.k8s.io": ("v1",),
    "authorization.k8s.io": ("v1",),
    "autoscaling": ("v1", "v2", "v2beta1", "v2beta2"),
    "batch": ("v1", "v1beta1"),
    "certificates.k8s.io": ("v1", "v1beta1"),
    "coordination.k8s.io": ("v1", "v1beta1"),
    "discovery.k8s.io": ("v1", "v1beta1"),
    "events.k8s.io": ("v1", "v1beta1"),
    "extensions": ("v1beta1",),
    "flowcontrol.apiserver.k8s.io": ("v1",),
    "networking.k8s.io": ("v1", "v1beta1"),
    "node.k8s.io": ("v1", "v1beta1"),
    "policy": ("v1", "v1beta1"),
    "rbac.authorization.k8s.io": ("v1", "v1beta1"),
    "resource.k8s.io": ("v1",),
    "scheduling.k8s.io": ("v1", "v1beta1"),
    "storage.k8s.io": ("v1", "v1beta1"),
}
"""The API versions that `helm template` knows without a cluster."""


_NO_FILE: Final = re.compile(r"templates/|(?:Chart|values|requirements)\.yaml$|(?:Chart|requirements)\.lock$|values\.schema\.json$")
"""Files of a chart that `.Files` does not have (helm/helm, `LoadFiles`)."""


class Rendered(NamedTuple):
    """The result of the templates of a chart.

    Attributes:
        outputs: the path and output of each template. A template of a sub-chart with several aliases appears once per alias.
        failed: path of a template that could not be evaluated → reason.
    """

    outputs: list[tuple[str, str]]
    failed: dict[str, str]


def render(chart: Chart, *, check: Callable[[], None] = lambda: None) -> Rendered:
    """Evaluate all templates of a chart and its sub-charts.

    Args:
        chart: a chart with its final values (`marfetch.chart.tree.enabled_chart`).
        check: called for each template; it may raise to cancel.
    """
    meter = Meter()
    formatter = Formatter(meter)
    evaluator = Evaluator(functions(meter, formatter), formatter.text, meter)
    failed: dict[str, str] = {}
    templates: list[tuple[str, str, Chart]] = []  # the name in Helm, the path, the chart
    for one, name in _named(chart, chart.name):
        templates += ((f"{name}/{path}", f"{one.path}{path}", one) for path in one.files if path.startswith("templates/"))
    # As in Helm, a template that a parent defines replaces one with the same name in its sub-charts.
    for name, path, one in sorted(templates, key=lambda template: (-template[0].count("/"), template[0])):
        check()
        try:
            evaluator.add(name, one.files[path.removeprefix(one.path)].decode("utf-8-sig"), path)
        except UnicodeDecodeError as error:
            failed[path] = f"`{path}` is not UTF-8 at byte {error.start}"
        except TemplateError as error:
            failed[path] = f"`{path}` cannot be evaluated: {error}"
    contexts: dict[str, dict[str, Any]] = {}
    outputs: list[tuple[str, str]] = []
    for name, path, one in templates:
        base = path.rpartition("/")[2]
        if path in failed or base.startswith("_") or one.is_library or base == "NOTES.txt":
            continue
        check()
        place = name.removesuffix(path.removeprefix(one.path))
        if place not in contexts:
            contexts[place] = _context(one, formatter.yaml, is_root=one is chart)
        contexts[place]["Template"] = {"Name": name, "BasePath": f"{place}templates"}
        try:
            outputs.append((path, evaluator.run(name, contexts[place])))
        except StepsExceededError as error:
            done = {other for other, _ in outputs}
            failed |= {other: f"`{other}` was not evaluated: {error}" for _, other, _ in templates if other not in done}
            break
        except TemplateError as error:
            failed[path] = f"`{path}` cannot be evaluated: {error}"
    return Rendered(outputs, failed)


def _named(chart: Chart, name: str) -> list[tuple[Chart, str]]:
    found = [(chart, name)]
    for one in chart.charts:
        found += _named(one, f"{name}/charts/{one.name}")
    return found


def _context(chart: Chart, to_yaml: Callable[[Any], str], *, is_root: bool) -> dict[str, Any]:
    """Return the objects that templates start from (Helm, "Built-in Objects")."""
    major, minor, _ = KUBERNETES[1:].split(".")
    version = Struct({"": KUBERNETES, "Version": KUBERNETES, "GitVersion": KUBERNETES, "Major": major, "Minor": minor})
    return {
        "Values": chart.values,
        "Chart": {**_metadata(chart), "IsRoot": is_root},
        "Release": {"Name": RELEASE, "Namespace": "default", "Service": "Helm", "IsInstall": True, "IsUpgrade": False, "Revision": 1},
        "Capabilities": {
            "KubeVersion": version,
            "APIVersions": Struct({"Has": _has_api}),
            "HelmVersion": {"Version": "v4.0.0", "GitCommit": "", "GitTreeState": "clean", "GoVersion": "go1.25"},
        },
        "Files": _files({path: raw for path, raw in chart.files.items() if not _NO_FILE.match(path)}, to_yaml),
        "Subcharts": {one.name: {"Values": one.values, "Chart": _metadata(one)} for one in chart.charts},
    }


def _metadata(chart: Chart) -> dict[str, Any]:
    """Return `Chart.yaml` with Go's field names. Versions are always text, even if YAML parses them as numbers."""
    found = _fields(chart.metadata)
    for key in ("Dependencies", "Maintainers"):
        if isinstance(listed := found.get(key), list):
            found[key] = [_fields(one) if isinstance(one, dict) else one for one in listed]
    found["APIVersion"] = found.get("ApiVersion")
    found["Name"] = chart.name
    for key, name in (("Version", "version"), ("AppVersion", "appVersion")):
        value = found.get(key)
        found[key] = from_value(str(value), f"{chart.path}Chart.yaml:{name}") if value is not None and not isinstance(value, str) else value
    found["AppVersion"] = found["AppVersion"] or ""
    return found


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key[:1].upper() + key[1:]: value for key, value in values.items()}


def _has_api(name: str) -> bool:
    """Return whether `helm template` knows a version such as `apps/v1`. Without a cluster, it knows no kinds (`apps/v1/Deployment`)."""
    group, _, version = name.partition("/")
    return version in _GROUPS.get(group, ())


def _files(files: Mapping[str, bytes], to_yaml: Callable[[Any], str], *, is_listed: bool = False) -> Struct:
    """Return the object `.Files`, with the files that were read into memory."""

    def get(path: str) -> str:
        return files.get(path, b"").decode("utf-8", "replace")

    def glob(pattern: str) -> Struct:
        expression = glob_expression(pattern)
        found = {path: raw for path, raw in files.items() if next(matches(expression, path), None) is not None}
        return _files(found, to_yaml, is_listed=True)

    def as_config() -> str:
        return to_yaml({path.rpartition("/")[2]: get(path) for path in sorted(files)})

    def as_secrets() -> str:
        return to_yaml({path.rpartition("/")[2]: base64.b64encode(files[path]).decode() for path in sorted(files)})

    members = {"Get": get, "GetBytes": get, "Glob": glob, "AsConfig": as_config, "AsSecrets": as_secrets}
    return Struct({**members, "Lines": lambda path: get(path).splitlines()}, {path: get(path) for path in files} if is_listed else {})
