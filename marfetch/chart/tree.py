"""A chart with its sub-charts, and the values that each gets: overrides of the parent, globals, conditions, tags and imported values.

The rules are those of Helm (helm/helm, `chartutil.ProcessDependencies` and `chartutil.ToRenderValues`), with the chart's default values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..document import MAX_YAML_SIZE, parse_yaml
from ..errors import Error, PolicyError
from .expected import CHART_FILE
from .parts import SUBCHART, VALUES_FILE
from .template.marked import from_value

MAX_CHARTS: Final = 500
"""Maximum number of charts in a chart, at all depths and with all aliases."""
MAX_CHART_VALUES: Final = 1_000_000
"""Maximum number of values of all charts together; each alias of a sub-chart and each copy of a global value counts."""
MAX_LEVELS: Final = 8
"""Maximum depth of sub-charts."""
_REQUIREMENTS: Final = "requirements.yaml"
"""The file that lists the dependencies of a chart with `apiVersion: v1`."""


@dataclass(slots=True)
class Chart:
    """A chart in a package.

    Attributes:
        path: its directory in the package, empty or with a slash at the end: `charts/sub/`, `charts/sub-1.0.0.tgz/`.
        name: its name in its parent: the alias, or the name in `Chart.yaml`.
        metadata: the content of `Chart.yaml`.
        values: the chart's defaults; in a result of `enabled_chart`, the final values.
        files: path below `path` → content, without the files of sub-charts.
    """

    path: str
    name: str
    metadata: dict[str, Any]
    values: dict[str, Any]
    files: dict[str, bytes]
    charts: list[Chart] = field(default_factory=list)

    @property
    def dependencies(self) -> list[dict[str, Any]]:
        found = self.metadata.get("dependencies")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    @property
    def is_library(self) -> bool:
        return self.metadata.get("type") == "library"

    def all(self) -> Iterator[Chart]:
        """Yield the chart and its sub-charts."""
        yield self
        for chart in self.charts:
            yield from chart.all()


def read_chart(files: Mapping[str, bytes], unread: dict[str, str]) -> Chart:
    """Build the tree of charts.

    Args:
        files: path → content, as `marfetch.chart.images.find_images` takes them.
        unread: receives the files that cannot be parsed, with the reason.
    """
    return _read("", dict(files), unread, 0)


def _read(path: str, files: dict[str, bytes], unread: dict[str, str], depth: int) -> Chart:
    own: dict[str, bytes] = {}
    below: dict[str, dict[str, bytes]] = {}
    for name, raw in files.items():
        match = SUBCHART.match(name)
        if match is None:
            own[name] = raw
        else:
            below.setdefault(match[0], {})[name[match.end() :]] = raw

    def parsed(name: str) -> dict[str, Any]:
        if name not in own:
            return {}
        found = _parsed(own[name], f"{path}{name}", unread)
        return found if isinstance(found, dict) else {}

    metadata = parsed(CHART_FILE)
    if "dependencies" not in metadata and _REQUIREMENTS in own:
        metadata["dependencies"] = parsed(_REQUIREMENTS).get("dependencies")
    own_name = metadata.get("name")
    known_as = own_name if isinstance(own_name, str) else path.rstrip("/").rpartition("/")[2]
    chart = Chart(path, known_as, metadata, parsed(VALUES_FILE), own)
    if depth >= MAX_LEVELS or len(below) > MAX_CHARTS:
        unread[f"{path}charts"] = f"more than {MAX_LEVELS} levels or {MAX_CHARTS} sub-charts"
        return chart
    chart.charts = [_read(f"{path}{name}", inner, unread, depth + 1) for name, inner in below.items()]
    return chart


def _parsed(raw: bytes, path: str, unread: dict[str, str]) -> Any:
    try:
        value = parse_yaml(raw, f"`{path}`", limit=4 * MAX_YAML_SIZE, is_lenient=True, is_helm=path.endswith(VALUES_FILE))
    except Error as error:
        unread[path] = error.message
        return None
    return _with_origins(value, f"{path}:")


def _with_origins(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return from_value(value, where)
    if isinstance(value, list):
        return [_with_origins(inner, f"{where}[{number}]") for number, inner in enumerate(value)]
    if isinstance(value, dict):
        below = where if where.endswith(":") else f"{where}."
        return {key: _with_origins(inner, f"{below}{key}") for key, inner in value.items()}
    return value


# -- values


def enabled_chart(chart: Chart, given: Sequence[Mapping[str, Any]] = ()) -> Chart:
    """Return the chart with its enabled sub-charts, each under its alias and with its final values.

    Args:
        given: values of the user, which override those of the chart; later ones win.

    Raises:
        PolicyError: `limit-passed`.
    """
    user: dict[str, Any] = {}
    for one in given:
        override(user, one)
    values = _copy(user)
    named = _aliased(chart, _Count(_weight(chart.values.get("global"))))
    _coalesce(named, values)
    _disable(named, values, "", values.get("tags"))
    _import(named)
    values = _copy(user)
    _coalesce(named, values)
    _assign(named, values)
    return named


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


class _Count:
    """Counts charts and values. `shared` is the number of global values, of which each chart gets a copy."""

    def __init__(self, shared: int) -> None:
        self._shared = shared
        self._charts = self._values = 0

    def add(self, chart: Chart) -> None:
        self._charts += 1
        self._values += _weight(chart.values) + self._shared
        for count, most, what in ((self._charts, MAX_CHARTS, "charts"), (self._values, MAX_CHART_VALUES, "values")):
            if count > most:
                rule = f"at most {most} {what}"
                raise PolicyError(f"the chart and its sub-charts have more than {most} {what}", code="limit-passed", rule=rule)


def _weight(value: Any) -> int:
    """Return the number of values in a value: itself and all nested ones."""
    count, level = 0, [value]
    while level:
        count += len(level)
        level = [inner for one in level if isinstance(one, (dict, list)) for inner in (one.values() if isinstance(one, dict) else one)]
    return count


def _aliased(chart: Chart, count: _Count) -> Chart:
    """Return a copy in which each dependency that names an alias has its own copy of the sub-chart."""
    count.add(chart)
    required = chart.dependencies
    charts: list[Chart] = [one for one in chart.charts if one.name not in {two.get("name") for two in required}]
    for one in required:
        found = next((two for two in chart.charts if two.name == one.get("name")), None)
        if found is not None:
            alias = one.get("alias")
            charts.append(replace(found, name=alias if isinstance(alias, str) and alias else found.name))
    return replace(chart, values=_copy(chart.values), charts=[_aliased(one, count) for one in charts])


def _coalesce(chart: Chart, values: dict[str, Any]) -> None:
    """Complete the values of a chart with its defaults, and those of its sub-charts below their names."""
    _complete(values, chart.values)
    for one in chart.charts:
        below = values.setdefault(one.name, {})
        if isinstance(below, dict):
            _give_globals(below, values)
            _coalesce(one, below)


def _complete(values: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    for key, default in defaults.items():
        if key not in values:
            values[key] = _copy(default)
        elif values[key] is None and default is not None:
            del values[key]  # as in Helm, null removes a default
        elif isinstance(values[key], dict) and isinstance(default, dict):
            _complete(values[key], default)


def override(values: dict[str, Any], others: Mapping[str, Any]) -> None:
    """Override values with others, as a later `--values` file of Helm does."""
    for key, value in others.items():
        before = values.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            override(before, value)
        else:
            values[key] = _copy(value)


def _give_globals(below: dict[str, Any], values: Mapping[str, Any]) -> None:
    given, own = values.get("global"), below.setdefault("global", {})
    if not isinstance(given, dict) or not isinstance(own, dict):
        return
    for key, value in given.items():
        if not isinstance(value, dict):
            if not isinstance(own.get(key), dict):
                own[key] = _copy(value)
        else:
            merged = _copy(value)
            if isinstance(own.get(key), dict):
                _complete(merged, own[key])
            own[key] = merged


def _at(values: Any, path: Iterable[str]) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _disable(chart: Chart, values: dict[str, Any], above: str, tags: Any) -> None:
    """Remove the sub-charts that a condition or a tag disables."""
    disabled = set()
    for one in chart.dependencies:
        on = True
        wanted = one.get("tags")
        if isinstance(tags, dict) and isinstance(wanted, list):
            states = [tags[tag] for tag in wanted if isinstance(tag, str) and isinstance(tags.get(tag), bool)]
            on = not states or any(states)
        for condition in str(one.get("condition") or "").split(","):
            state = _at(values, f"{above}{condition.strip()}".split("."))
            if condition.strip() and isinstance(state, bool):
                on = state
                break
        if not on:
            disabled.add(one.get("alias") or one.get("name"))
    chart.charts = [one for one in chart.charts if one.name not in disabled]
    for child in chart.charts:
        _disable(child, values, f"{above}{child.name}.", tags)


def _import(chart: Chart) -> None:
    """Add the values that a chart imports from its sub-charts (Helm, "Importing Child Values via dependencies")."""
    for one in chart.charts:
        _import(one)
    for required in chart.dependencies:
        imports = required.get("import-values")
        child = next((one for one in chart.charts if one.name == (required.get("alias") or required.get("name"))), None)
        if child is None or not isinstance(imports, list):
            continue
        values = _copy(chart.values.get(child.name) or {})
        _coalesce(child, values)
        for one in imports:
            source, target = (one.get("child"), one.get("parent")) if isinstance(one, dict) else (f"exports.{one}", ".")
            found = _at(values, str(source).split("."))
            if not isinstance(found, dict):
                continue
            wrapped: dict[str, Any] = found
            for key in reversed([] if target in (".", "", None) else str(target).split(".")):
                wrapped = {key: wrapped}
            _complete(chart.values, wrapped)


def _assign(chart: Chart, values: dict[str, Any]) -> None:
    """Give each chart its part of the values."""
    chart.values = values
    for one in chart.charts:
        below = values.get(one.name)
        _assign(one, below if isinstance(below, dict) else {})
