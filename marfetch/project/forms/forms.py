"""The table of forms: which reader finds the places in a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from ...document import MAX_YAML_SIZE, Marks, parse_yaml
from ...errors import Error
from ...reference import OFFICIAL_HOSTS
from . import fields, lines, terraform
from .argo import ARGO
from .azd import AZD
from .flux import FLUX
from .helm import CHART, HELMFILE
from .places import Form, Found, LeftOut, Node, Place, Text, quotes_hint

FORMS: Final[tuple[Form, ...]] = (CHART, AZD, HELMFILE, ARGO, FLUX)
"""The forms of YAML documents; the first that fits reads the document. All others are searched for charts by their keys, and by line."""

MAX_DOCUMENTS: Final = 10_000
"""YAML documents in a file; a file with more is searched by line."""

_YAML: Final = (".yaml", ".yml", ".gotmpl")
_SEPARATOR: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)


def find(path: PurePath, text: str, check: Callable[[], None]) -> Iterator[Found]:
    """Find the places in a file that name artifacts of MAR.

    Args:
        check: called repeatedly; raises if there is no time left.
    """
    is_small = len(text) <= MAX_YAML_SIZE
    if path.suffix in (".tf", ".tofu") and is_small:
        found, read = terraform.find(text)
        yield from found
        yield from _lines(text, 1, 0, read, check)
    elif path.suffix in _YAML and is_small and text.count("\n---") < MAX_DOCUMENTS:
        yield from _documents(path, text, check)
    else:
        if path.suffix in (*_YAML, ".tf", ".tofu"):
            yield LeftOut(1, "the file is too large for a complete parse, so it is searched line by line")
        yield from _lines(text, 1, 0, set(), check)


def _documents(path: PurePath, text: str, check: Callable[[], None]) -> Iterator[Found]:
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text))]
    parts: list[tuple[int, int, str, Node | None]] = []
    file = Text(text)
    line = 1
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        check()
        part = text[start:end]
        marks: Marks = {}
        first = start, line
        line += part.count("\n")
        try:
            parts.append((*first, part, Node(parse_yaml(part.encode(), f"`{path}`", marks=marks), marks, file, first)))
        except Error as error:
            parts.append((*first, part, None))
            if any(host in part.lower() for host in OFFICIAL_HOSTS):
                hint = quotes_hint(part, error.message)
                reason = f"{error.message}; {hint or 'it is searched line by line'}"
                yield LeftOut(first[1], reason)
    documents = [node for _, _, _, node in parts if node is not None]
    for start, first_line, part, node in parts:
        form = next((one for one in FORMS if node is not None and one.fits(path.name, node)), None)
        if form is not None and node is not None:
            yield from form.read(node, documents)
            continue
        read: set[int] = set()
        if node is not None:
            found, read = fields.find(node)
            yield from found
        for one in _lines(part, first_line, start, read, check):
            if node is None and isinstance(one, Place) and one.problem is not None:
                yield replace(one, problem="its document is not plain YAML")
            else:
                yield one


def _lines(text: str, line: int, start: int, skip: set[int], check: Callable[[], None]) -> Iterator[Found]:
    for number, one in enumerate(lines.find(text, line, start, skip)):
        if number % 256 == 0:
            check()
        yield one
