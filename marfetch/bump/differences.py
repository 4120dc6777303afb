"""Compare the old and the new version of each upgrade, for the body of a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from ..client.resolve import Wanted, resolve
from ..client.session import Session
from ..client.show import show
from ..diff.artifacts import compare
from ..diff.changes import Difference
from ..document import Json, parse_yaml
from ..errors import Error
from ..files import storage_error
from ..project.adopt import MAX_SIZE
from ..project.forms.forms import SetValues, documents
from ..reference import Reference
from .results import BumpPlan, Connect, Result

MAX_KEYS: Final = 1000
"""The maximum number of lost keys to list for one upgrade."""

_Keys: TypeAlias = "tuple[str, ...]"


class LostKey(NamedTuple):
    """A key that the user sets, but that the new version of the chart no longer has.

    Attributes:
        where: the file that sets it.
        key: the key, such as `controller.replicas`.
    """

    where: str
    key: str


class Upgrade(NamedTuple):
    """One upgrade of one artifact, which may be in several places.

    Attributes:
        results: the places.
        difference: the difference between the versions; None if they could not be compared.
        lost: the keys that the user sets, but that the new chart no longer has.
        error: why the versions could not be compared.
    """

    results: tuple[Result, ...]
    difference: Difference | None
    lost: tuple[LostKey, ...] = ()
    error: Error | None = None


def upgrades(plan: BumpPlan, connect: Connect) -> list[Upgrade]:
    """Compare the versions of each upgrade. An upgrade that cannot be compared has an error instead."""
    groups: dict[tuple[str | None, Reference | None, Reference], list[Result]] = {}
    for one in plan.bumped:
        if one.decision.after is not None:
            groups.setdefault((one.endpoint, one.decision.before, one.decision.after), []).append(one)
    found: list[Upgrade] = []
    for endpoint in dict.fromkeys(key[0] for key in groups):
        client = connect(endpoint)
        client.fetches = True
        mine = [(key[1], key[2], results) for key, results in groups.items() if key[0] == endpoint]
        found += client.each(lambda one, client=client: _upgrade(client, *one), mine, label="comparing")  # type: ignore[misc]
    return found


def _upgrade(client: Session, before: Reference | None, after: Reference, results: Sequence[Result]) -> Upgrade:
    if before is None or before.tag == after.tag:
        return Upgrade(tuple(results), None)
    try:
        old, new = (resolve(client, Wanted(one), hints=False) for one in (before, replace(after, digest=None)))
        difference = compare(client, old, new)
        values = [_leaves(_values(client, one.reference)) for one in (old, new)]
        return Upgrade(tuple(results), difference, tuple(_lost(results, *values)))
    except Error as error:
        return Upgrade(tuple(results), None, (), error)
    except OSError as error:
        return Upgrade(tuple(results), None, (), storage_error(error, str(error.filename or after)))


def _values(client: Session, reference: Reference) -> Json:
    try:
        return parse_yaml(show(client, Wanted(reference), "values").content, "the chart's values", is_lenient=True)
    except Error:  # not a chart, or a chart without values
        return None


def _lost(results: Sequence[Result], old: set[_Keys], new: set[_Keys]) -> Iterator[LostKey]:
    found: dict[LostKey, None] = {}
    for one in results:
        for values in one.place.values if one.place is not None else ():
            where, value = _set_values(one, values)
            for keys in sorted(_leaves(value)):
                if _is_known(keys, old) and not _is_known(keys, new):
                    found[LostKey(where, ".".join(keys))] = None
    yield from list(found)[:MAX_KEYS]


def _is_known(keys: _Keys, leaves: set[_Keys]) -> bool:
    """Return whether a chart has a key, a key below it, or a key above it that takes any mapping."""
    return any(keys[: len(leaf)] == leaf[: len(keys)] for leaf in leaves)


def _leaves(value: Json, above: _Keys = ()) -> set[_Keys]:
    """Return the paths of all values that are not mappings, and of empty mappings."""
    if not isinstance(value, dict) or not value:
        return {above} if above else set()
    return {leaf for key, inner in value.items() for leaf in _leaves(inner, (*above, key))}


def _set_values(result: Result, values: SetValues) -> tuple[str, Json]:
    """Return the name of the file that sets values, and the values. Ignore a file that cannot be read."""
    if values.path is None:
        value: Any = values.value
        return f"{result.file.path}", _parsed(Path("values.yaml"), value) if isinstance(value, str) else value
    for directory in (result.file.real.parent, *result.file.real.parent.parents):
        path = directory / values.path
        try:
            if path.is_file():
                return values.path, _parsed(path, path.read_bytes()[:MAX_SIZE].decode("utf-8-sig", "replace"))
        except (OSError, ValueError):
            break
        if (directory / ".git").exists():
            break
    return values.path, None


def _parsed(path: Path, text: str) -> Json:
    # `documents` masks template actions, which are not YAML.
    return next((one.node.value for one in documents(path.with_suffix(".yaml"), text, lambda: None) if one.node is not None), None)
