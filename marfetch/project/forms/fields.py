"""Forms whose charts are mappings with fixed keys, wherever they are in a document."""

from __future__ import annotations

from typing import Final, NamedTuple

from .places import Found, Node, chart


class _Shape(NamedTuple):
    """The keys of a chart in one form.

    Attributes:
        name: of the chart, or its whole address.
        repository: of the registry and the path above the chart.
        needed: further keys, without which the mapping is something else.
    """

    form: str
    name: tuple[str, ...]
    repository: tuple[str, ...]
    version: tuple[str, ...]
    needed: tuple[str, ...] = ()


_SHAPES: Final = (
    _Shape("ansible", ("chart_ref",), ("chart_repo_url",), ("chart_version",)),
    _Shape("fleet", ("chart",), ("repo",), ("version",)),
    _Shape("kustomize", ("name",), ("repo",), ("version",)),
    _Shape("vendir", ("name",), ("repository", "url"), ("version",)),
    _Shape("zarf", ("url",), ("url",), ("version",), ("name",)),
)


def find(document: Node) -> tuple[list[Found], set[int]]:
    """Find charts by their keys in a document of any form.

    Returns:
        What was found, and the lines of the charts, which need no second search.
    """
    found: list[Found] = []
    read: set[int] = set()
    nodes = [document]
    while nodes:
        node = nodes.pop()
        nodes += reversed(list(node.children()))
        for shape in _SHAPES:
            name, repository, version = (node.get(*one) for one in (shape.name, shape.repository, shape.version))
            if any(node.get(key).value is None for key in shape.needed):
                continue
            places = list(chart(shape.form, name.line, name.text, repository.text, version))
            if places:
                found += places
                read |= {one.line for one in (name, repository, version) if one.value is not None}
                break
    return found, read
