"""Parsers for charts, helmfiles, Argo CD and Flux, which keep a chart's name, registry and range in separate fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...reference import OFFICIAL_HOSTS


class Charts(Protocol):
    """Receives the references that a parser finds."""

    notes: list[str]

    def chart(self, name: object, repository: object, version: object, where: str) -> None:
        """Add a chart whose name and registry are separate fields."""

    def add(self, text: str, version: str | float | None, where: str, *, is_chart: bool = False) -> None:
        """Add a reference."""


class Forms:
    """Parses the documents of one file, if their type is known."""

    def __init__(self, adoption: Charts, path: Path, documents: Sequence[Any]) -> None:
        self._adoption = adoption
        self._where = str(path)
        self._is_chart = path.name == "Chart.yaml"
        self._sources: dict[str, str] = {}
        for one in documents:
            if isinstance(one, dict) and one.get("kind") in ("HelmRepository", "OCIRepository"):
                name, url = _get(one, "metadata", "name"), _get(one, "spec", "url")
                if isinstance(name, str) and isinstance(url, str):
                    self._sources[f"{one['kind']}/{name}"] = url

    def read(self, document: Any) -> bool:
        """Parse the document; return False if its type is unknown."""
        if not isinstance(document, dict):
            return False
        if self._is_chart:
            for one in _list(document.get("dependencies")):
                self._adoption.chart(one.get("name"), one.get("repository"), one.get("version"), self._where)
            return True
        if isinstance(document.get("releases"), list):
            self._helmfile(document)
            return True
        reader: Callable[[dict[str, Any]], None] | None = {
            "Application": self._argo,
            "ApplicationSet": self._argo_set,
            "HelmRelease": self._release,
            "OCIRepository": self._repository,
            "HelmChart": self._helm_chart,
            "HelmRepository": lambda _: None,
        }.get(str(document.get("kind")))
        if reader is None:
            return False
        reader(document)
        return True

    def _helmfile(self, document: dict[str, Any]) -> None:
        repositories = {str(one.get("name")): one.get("url") for one in _list(document.get("repositories"))}
        for one in _list(document["releases"]):
            chart = one.get("chart")
            if not isinstance(chart, str):
                continue
            if chart.startswith("oci://"):
                above, _, name = chart.rpartition("/")
                self._adoption.chart(name, above, one.get("version"), self._where)
                continue
            alias, _, name = chart.partition("/")
            self._adoption.chart(name, repositories.get(alias), one.get("version"), self._where)

    def _argo(self, document: dict[str, Any]) -> None:
        spec = document.get("spec")
        sources = [_get(spec, "source"), *_list(_get(spec, "sources"))]
        for one in sources:
            if isinstance(one, dict):
                if one.get("chart"):
                    self._adoption.chart(one["chart"], one.get("repoURL"), one.get("targetRevision"), self._where)
                elif str(one.get("repoURL")).startswith("oci://"):
                    above, _, name = str(one["repoURL"]).rpartition("/")
                    self._adoption.chart(name, above, one.get("targetRevision"), self._where)

    def _argo_set(self, document: dict[str, Any]) -> None:
        template = _get(document, "spec", "template")
        if isinstance(template, dict):
            self._argo(template)

    def _release(self, document: dict[str, Any]) -> None:
        spec = _get(document, "spec", "chart", "spec")
        if isinstance(spec, dict):
            self._from_source(spec)

    def _helm_chart(self, document: dict[str, Any]) -> None:
        spec = document.get("spec")
        if isinstance(spec, dict):
            self._from_source(spec)

    def _from_source(self, spec: dict[str, Any]) -> None:
        source = spec.get("sourceRef")
        key = f"{_get(source, 'kind')}/{_get(source, 'name')}"
        if key in self._sources:
            self._adoption.chart(spec.get("chart"), self._sources[key], spec.get("version"), self._where)
        elif str(key).startswith("HelmRepository/"):
            self._adoption.notes.append(f"{self._where}: the source `{key}` of `{spec.get('chart')}` is in another file")

    def _repository(self, document: dict[str, Any]) -> None:
        url, ref = _get(document, "spec", "url"), _get(document, "spec", "ref")
        if not isinstance(url, str):
            return
        base = url.removeprefix("oci://").rstrip("/")
        if base.partition("/")[0].lower() not in OFFICIAL_HOSTS:
            return
        digest, semver, tag = (_get(ref, key) for key in ("digest", "semver", "tag"))  # in Flux's order of precedence
        if isinstance(digest, str):
            self._adoption.add(f"{base}@{digest}", None, self._where)
        elif isinstance(semver, str):
            self._adoption.add(base, semver, self._where)
        else:
            self._adoption.add(f"{base}:{tag}" if isinstance(tag, str) else base, None, self._where)


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _list(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
