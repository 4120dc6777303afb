"""The structure of the package, read with the standard library's parser: its rows, doors, imports and classes.

`make architecture` prints the structure, and `tests/test_architecture.py` checks the rules.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[2] / "marfetch"

ROWS: Final[Mapping[str, tuple[str, ...]]] = {
    "faces": ("__main__", "library", "cli", "render", "completion"),
    "features": ("agents", "demo", "recording", "serve", "bump", "bundle", "diff", "doctor", "helm", "project", "verify"),
    "client": ("client",),
    "storage": ("layout", "remote", "destination", "content", "records", "files", "budget", "threads"),
    "words": (
        *("artifact", "chart", "firewall", "endpoint", "constraint", "reference", "oci"),
        *("tar", "document", "text", "errors", "codes", "refusals"),
    ),
}
"""Row → its units, from the top row to the bottom row. A unit may import only units to its right in its row, and units in lower rows.

A unit is a module at the top level of the package, or a sub-package with all its modules.
"""

DOORS: Final[Mapping[str, frozenset[str]]] = {
    "agents": frozenset({"tools"}),
    "artifact": frozenset({"filename", "kinds", "module", "payload"}),
    "bump": frozenset({"bump"}),
    "bundle": frozenset(
        {"check", "clients", "create", "format", "inventory", "load", "mirror", "overlay", "recorded", "sbom", "signatures", "webpage"}
    ),
    "chart": frozenset({"expected", "images", "parts", "relocation"}),
    "cli": frozenset(),
    "client": frozenset(
        {
            *("age", "catalog", "chartimages", "fetch", "fitting", "inspection", "plan", "pull"),
            *("resolve", "search", "session", "show", "versions", "workers"),
        }
    ),
    "completion": frozenset({"complete", "line"}),
    "demo": frozenset({"tour"}),
    "destination": frozenset({"archive", "created", "destination", "package", "rewriting", "stream"}),
    "diff": frozenset({"artifacts", "changes"}),
    "doctor": frozenset({"examine"}),
    "helm": frozenset({"charts", "getter", "setup", "templating"}),
    "library": frozenset(),
    "layout": frozenset({"blobs", "cache", "graph", "ingest", "layout", "maintenance", "readonly", "repositories"}),
    "project": frozenset(
        {
            *("adopt", "audit", "forms.forms", "lockfile", "locking", "outdated"),
            *("prune", "roots", "scaffold", "snippets", "sync", "wanted"),
        }
    ),
    "recording": frozenset({"record"}),
    "remote": frozenset({"certificates", "crl", "limits", "pauses", "preconnect", "probe", "proxies", "push", "registry"}),
    "render": frozenset(
        {"bump", "bundle", "diff", "images", "inspect", "progress", "project", "pull", "record", "report", "table", "verify"}
    ),
    "serve": frozenset({"responses", "routing", "run", "server", "streams"}),
    "verify": frozenset({"artifact", "gate", "policy", "truststore", "verdict"}),
}
"""Sub-package → its modules that other units may import."""

LATE: Final = re.compile(r"# late: \S")
"""A comment on a line that imports inside a function."""


@dataclass(frozen=True)
class Import:
    """The import of one name.

    Attributes:
        module: the importing module, as a dotted name without the package.
        target: the imported module, as a dotted name; without the package if it is a module of the package.
        is_ours: whether the target is a module of the package.
        function: the function that contains the import; None at the top level of the module.
        line: the number of the line.
        text: the last line of the statement.
    """

    module: str
    target: str
    is_ours: bool
    function: str | None
    line: int
    text: str

    @property
    def unit(self) -> str:
        """The importing unit."""
        return unit(self.module)

    @property
    def target_unit(self) -> str:
        """The imported unit, or the imported third-party package."""
        return unit(self.target)


def unit(module: str) -> str:
    """Return the unit that a module belongs to."""
    return module.partition(".")[0]


class House:
    """The structure of the package on disk."""

    @cached_property
    def modules(self) -> Mapping[str, Path]:
        """Dotted name without the package → file. A sub-package has the name of its directory, and the whole package an empty name."""
        found = {}
        for path in sorted(PACKAGE.rglob("*.py")):
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cached_property
    def trees(self) -> Mapping[str, ast.Module]:
        """Module → its syntax tree."""
        return {name: ast.parse(path.read_text()) for name, path in self.modules.items()}

    @cached_property
    def inner(self) -> tuple[str, ...]:
        """The modules inside packages, without their `__init__.py`."""
        return tuple(name for name, path in self.modules.items() if "." in name and path.name != "__init__.py")

    @cached_property
    def lines(self) -> Mapping[str, int]:
        """Module → its number of lines."""
        return {name: len(path.read_text().splitlines()) for name, path in self.modules.items()}

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """The names of the files and directories in the package's directory."""
        return tuple(sorted(path.name for path in PACKAGE.iterdir() if path.name not in ("py.typed", "__pycache__")))

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """All imports, including those inside functions and under `TYPE_CHECKING`."""
        return tuple(one for name in self.modules for one in self._imports(name))

    @cached_property
    def ours(self) -> tuple[Import, ...]:
        """The imports between modules of the package, except `from .. import __version__`, which is allowed everywhere."""
        return tuple(one for one in self.imports if one.is_ours and one.target and one.module and one.target != one.module)

    @cached_property
    def arrows(self) -> frozenset[tuple[str, str]]:
        """The pairs of units in which the first unit imports the second."""
        return frozenset((one.unit, one.target_unit) for one in self.ours if one.unit != one.target_unit)

    @cached_property
    def entered(self) -> Mapping[str, frozenset[str]]:
        """Module inside a package → the other units that import it."""
        found: dict[str, set[str]] = defaultdict(set)
        for one in self.ours:
            if "." in one.target and one.unit != one.target_unit:
                found[one.target].add(one.unit)
        return {name: frozenset(units) for name, units in found.items()}

    @cached_property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Name of a public class → the modules that define it."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, tree in self.trees.items():
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(name)
        return {name: tuple(modules) for name, modules in found.items()}

    def cycles(self) -> list[str]:
        """Return the import cycles, including imports under `TYPE_CHECKING`, each as `a -> b -> a`."""
        graph: dict[str, set[str]] = defaultdict(set)
        for one in self.ours:
            graph[one.module].add(one.target)
        found: list[str] = []
        done: set[str] = set()

        def walk(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                found.append(" -> ".join([*path[path.index(name) :], name]))
                return
            if name not in done:
                for following in sorted(graph[name]):
                    walk(following, (*path, name))
                done.add(name)

        for name in self.modules:
            walk(name, ())
        return found

    def summary(self, name: str) -> str:
        """Return the first line of a module's docstring."""
        return (ast.get_docstring(self.trees[name]) or "").partition("\n")[0]

    def _imports(self, name: str) -> Iterator[Import]:
        path = self.modules[name]
        text = path.read_text().splitlines()
        package = name.split(".") if path.name == "__init__.py" and name else name.split(".")[:-1]

        def visit(node: ast.AST, function: str | None) -> Iterator[Import]:
            for child in ast.iter_child_nodes(node):
                inner = child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
                if isinstance(child, (ast.Import, ast.ImportFrom)):
                    for target, is_ours in self._targets(child, package):
                        yield Import(name, target, is_ours, function, child.lineno, text[(child.end_lineno or child.lineno) - 1])
                yield from visit(child, inner)

        return visit(self.trees[name], None)

    def _targets(self, node: ast.Import | ast.ImportFrom, package: list[str]) -> Iterable[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            return [(alias.name, False) for alias in node.names]
        if not node.level:
            return [(node.module or "", False)]
        base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
        # In `from .x import y`, y may be a module.
        return [(inner if (inner := ".".join([*base, alias.name])) in self.modules else ".".join(base), True) for alias in node.names]


HOUSE: Final = House()
"""The structure of the package, shared by all tests of a process. Files are read on first use."""


def draw(house: House) -> Iterator[str]:
    """Yield the lines that `make architecture` prints."""
    for row, units in ROWS.items():
        yield row
        for name in units:
            if name not in house.modules:
                continue
            yield f"  {name:<12} {house.summary(name)}"
            inner = [module.partition(".")[2] for module in house.inner if unit(module) == name]
            if inner:
                doors = DOORS.get(name, frozenset())
                yield f"  {'':<12}   doors: {', '.join(one for one in inner if one in doors) or 'none'}"
                closed = [one for one in inner if one not in doors]
                if closed:
                    yield f"  {'':<12}   inside: {', '.join(closed)}"
            targets = sorted(target for source, target in house.arrows if source == name)
            yield f"  {'':<12}   imports: {', '.join(targets) or 'nothing'}"
    modules = [path for path in house.modules.values() if path.name != "__init__.py"]
    share = 100 * sum(name in house.entered for name in house.inner) / len(house.inner)
    yield (
        f"{len(modules)} modules, {sum(house.lines.values())} lines, {len(house.entries)} entries, {len(house.arrows)} arrows, "
        f"{share:.0f} % of inner modules entered from outside"
    )


if __name__ == "__main__":
    for line in draw(HOUSE):
        sys.stdout.write(line + "\n")
