"""Write the first project file of a project, from the references that were found in other files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from ..destination.destination import write_file
from ..document import parse_yaml
from ..endpoint import OFFICIAL
from ..errors import InputError, StorageError
from ..files import storage_error
from ..reference import OFFICIAL_HOSTS, Reference
from ..text import printable
from .adopt import Adoption, FoundReference, collect
from .wanted import SCHEMA, SCHEMA_ADDRESS, parse_project

CHART_MARK: Final = "# Made of Chart.yaml by `marfetch lock --chart`; that writes it anew."
_WORDS: Final = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


def wanted_bytes(found: Sequence[FoundReference], *, destination: str | None = None, mark: str | None = None) -> bytes:
    """Return the content of a project file with the references that were found.

    Args:
        destination: the destination of every item; None for the default.
        mark: a comment for the top of the file; None for no comment.
    """
    lines = [f"# yaml-language-server: $schema={SCHEMA_ADDRESS}", *([mark] if mark else []), f"schema: {SCHEMA}"]
    hosts = {one.reference.host.name if one.reference.host else OFFICIAL_HOSTS[0] for one in found}
    if hosts == {OFFICIAL_HOSTS[1]}:
        name = next(name for name, endpoint in OFFICIAL.items() if endpoint.registry.host.name == OFFICIAL_HOSTS[1])
        lines.append(f"endpoint: {name}")
    lines.append("artifacts:" if found else "artifacts: []")
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for one in found:
        comment = f"  # {' '.join(one.where.split())}" if mark is None else ""
        if one.problem is not None:
            lines.append(f"  # {' '.join(printable(one.problem).split())}; without `version`, this locks the newest release")
        lines.append(f"  - reference: {_scalar(str(one.reference))}{comment}")
        if one.version is not None:
            lines.append(f"    version: {_scalar(one.version)}")
        name = _free_name(one.reference, taken, numbers)
        taken.add(name.casefold())
        if name != one.reference.name:
            lines.append(f"    name: {_scalar(name)}")
        if destination is not None:
            lines.append(f"    destination: {_scalar(destination)}")
        if one.is_chart:
            lines.append("    kind: chart")
    data = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
    parse_project(data, Path("marfetch.yaml"))  # raise now if marfetch could not read the file
    return data


def _free_name(reference: Reference, taken: set[str], numbers: dict[str, int]) -> str:
    """Return an item name that no other item has.

    Args:
        taken: the names of the other items, casefolded.
        numbers: the last number that was appended to each name; this function updates it.
    """
    parts = PurePosixPath(reference.repository).parts
    name = parts[-1]
    names = [name, *("-".join(parts[-count:]) for count in range(2, len(parts) + 1)), f"{name}-{reference.tag}" if reference.tag else name]
    free = next((one for one in names if one.casefold() not in taken and len(one) <= 128), None)
    while free is None:
        numbers[name] = numbers.get(name, 1) + 1
        free = f"{name[:110]}-{numbers[name]}" if f"{name[:110]}-{numbers[name]}".casefold() not in taken else None
    return free


def _scalar(text: str) -> str:
    """Return the text as a YAML scalar, in quotes unless it is unambiguous without them."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9._/-]*(?::[A-Za-z0-9._-]+)?(?:@sha256:[0-9a-f]{64})?", text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text)


def write_first(path: Path, data: bytes) -> None:
    """Write a new project file.

    Raises:
        StorageError: the file exists, or cannot be written.
    """
    if path.exists() or path.is_symlink():
        raise StorageError(
            f"the project file `{path}` already exists",
            code="file-differs",
            hint="create another file with `--file`, and copy the new entries into this one by hand",
            path=str(path),
        )
    write_file(path, data)


def adopt_chart(directory: Path) -> tuple[Path, Adoption]:
    """Write a project file with a chart's dependencies next to its `Chart.yaml`. An earlier generated file is replaced.

    Returns:
        The path of the project file, and the references that were found.

    Raises:
        InputError: `usage`: there is no chart, or it has no dependency on MAR.
        StorageError: a project file exists that marfetch did not generate.
    """
    chart = directory / "Chart.yaml"
    if not chart.is_file():
        hint = "name the directory that contains `Chart.yaml`"
        raise InputError(f"there is no chart in `{directory}`", code="usage", hint=hint, path=str(directory))
    try:
        parse_yaml(chart.read_bytes(), f"`{chart}`")
    except OSError as error:
        raise storage_error(error, chart) from error
    adoption = collect([chart])
    path = directory / "marfetch.yaml"
    data = wanted_bytes(adoption.found, destination="charts", mark=CHART_MARK)
    old = path.read_bytes() if path.is_file() else None
    if old is None:
        write_first(path, data)
    elif CHART_MARK.encode() not in old:
        raise StorageError(
            f"the project file `{path}` was not generated from `Chart.yaml`",
            code="file-differs",
            hint="move it away, or add the dependencies to it by hand",
            path=str(path),
        )
    elif old != data:
        write_file(path, data)
    return path, adoption
