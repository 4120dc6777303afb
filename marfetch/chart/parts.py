"""The parts of a chart that `marfetch show` prints, and the files of each part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from .expected import CHART_FILE

VALUES_FILE: Final = "values.yaml"
SCHEMA_FILE: Final = "values.schema.json"

_READMES: Final = ("readme.md", "readme.txt", "readme")
"""File names of a README, in lower case, because Helm ignores case (helm/helm, `findReadme`)."""
SUBCHART: Final = re.compile(r"charts/[^/_.][^/]*/")
"""The directory of a sub-chart, packed or not. Helm skips names with a leading `_` or `.` (helm/helm, `LoadFiles`)."""
WITHIN: Final = rf"(?:{SUBCHART.pattern})*"
"""The directory of the chart or of a sub-chart at any depth (Helm, "Chart Dependencies"), as a regular expression."""
_DEFINITION: Final = re.compile(rf"{WITHIN}crds/.+\.(?i:yaml|yml|json)", re.DOTALL)
"""A file with CRDs, of the chart or of a sub-chart at any depth (helm/helm, `CRDObjects`)."""

PARTS: Final[Mapping[str, Callable[[str], bool]]] = {
    "chart": lambda path: path == CHART_FILE,
    "values": lambda path: path == VALUES_FILE,
    "readme": lambda path: path.lower() in _READMES,
    "schema": lambda path: path == SCHEMA_FILE,
    "crds": lambda path: _DEFINITION.fullmatch(path) is not None,
}
"""Part → function that tests whether a file belongs to it.

Paths are relative to the directory of the chart. The files of a packed sub-chart are below `charts/NAME.tgz/`.
"""

DEFINITIONS: Final = "crds"
"""The only part that may consist of several files."""


def parts_in(paths: Iterable[str]) -> list[str]:
    """Return the parts that a chart with these files has."""
    found = list(paths)
    return [part for part, is_part in PARTS.items() if any(map(is_part, found))]


def files_of(part: str, paths: Iterable[str]) -> list[str]:
    """Return the files of a part in the order in which Helm prints them; only `crds` can have more than one.

    Args:
        paths: all files of the chart, in the order of the package.
    """
    found = [path for path in paths if PARTS[part](path)]
    return list(_own_first(found)) if part == DEFINITIONS else found[:1]


def _own_first(paths: Iterable[str]) -> Iterator[str]:
    """Yield the chart's own files, then the files of each sub-chart."""
    below: dict[str, list[str]] = {}
    for path in paths:
        match = SUBCHART.match(path)
        if match is None:
            yield path
        else:
            below.setdefault(match[0], []).append(path[match.end() :])
    for name, inner in below.items():
        yield from (f"{name}{path}" for path in _own_first(inner))


def joined(documents: Iterable[bytes]) -> bytes:
    """Join YAML files, separated by lines of `---`.

    A file that already begins with `---` gets no second separator. A single file is returned unchanged.
    """
    whole = bytearray()
    for number, document in enumerate(documents):
        if number:
            whole += b"" if whole.endswith(b"\n") or not whole else b"\n"
            whole += b"" if document.startswith(b"---") else b"---\n"
        whole += document
    return bytes(whole)
