"""Choose the parser for a file, and find the places in the file that name artifacts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Final, NamedTuple

from ...document import MAX_YAML_SIZE, Marks, parse_yaml
from ...errors import Error
from ...reference import OFFICIAL_HOSTS
from . import fields, lines, terraform
from .argo import ARGO
from .azd import AZD
from .flux import FLUX
from .helm import CHART, CHART_FILES, HELMFILE
from .places import Form, Found, LeftOut, Node, Place, Sources, Text, quotes_hint

FORMS: Final[tuple[Form, ...]] = (CHART, AZD, HELMFILE, ARGO, FLUX)
"""The forms of YAML documents. The first form that fits parses the document.

If no form fits, the document is searched for the keys in `fields`, and then line by line.
"""

MAX_DOCUMENTS: Final = 10_000
"""The maximum number of YAML documents in a file. A file with more documents is searched line by line."""

_YAML: Final = (".yaml", ".yml", ".gotmpl", ".json")
_SEPARATOR: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_ACTION: Final = r"\{\{(?:[^{}]|\}(?!\})|\{(?!\{))*+\}\}"
_ACTIONS: Final = re.compile(rf"(?P<line>^[ \t]*+(?:{_ACTION}[ \t]*+)++(?=\r?$))|{_ACTION}", re.MULTILINE)
_ADDRESS: Final = re.compile(r"\s*+(?:-\s++)?+[\"']?(?:url|repo\w*|chart_repo_url|chartRepoUrl)[\"']?\s*+:", re.IGNORECASE)
"""A line with a key whose value may be the address of a chart repository."""


class Document(NamedTuple):
    """A YAML document of a file.

    Attributes:
        start, line: the position in the file where the document starts: the character's index, and the line.
        text: the text of the document.
        node: the parsed value; None if the document could not be parsed.
        error: why the document could not be parsed; empty if it could.
    """

    start: int
    line: int
    text: str
    node: Node | None
    error: str = ""


def documents(path: PurePath, text: str, check: Callable[[], None]) -> list[Document]:
    """Parse the YAML documents of a file. Return an empty list if the file is not YAML or is too large.

    Args:
        check: called repeatedly; it raises when the timeout has passed.
    """
    if (path.suffix not in _YAML and path.name not in CHART_FILES) or len(text) > MAX_YAML_SIZE or text.count("\n---") >= MAX_DOCUMENTS:
        return []
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text))]
    found: list[Document] = []
    plain, line = Text(text), 1
    masked: Text | None = None
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        check()
        part = text[start:end]
        one = _parsed(path, plain, start, end, line)
        if one.node is None and "{{" in part:
            masked = masked or Text(text, _masked(text))
            again = _parsed(path, masked, start, end, line)
            one = again if again.node is not None else one
        found.append(one)
        line += part.count("\n")
    return found


def _parsed(path: PurePath, file: Text, start: int, end: int, line: int) -> Document:
    marks: Marks = {}
    part = file.text[start:end]
    try:
        value = parse_yaml(file.parsed[start:end].encode(), f"`{path}`", marks=marks, is_lenient=True)
    except Error as error:
        return Document(start, line, part, None, error.message)
    return Document(start, line, part, Node(value, marks, file, (start, line)))


def _masked(text: str) -> str:
    """Replace template actions (`{{ … }}`) without changing the length of the text.

    A line that has only actions becomes spaces. Any other action becomes a variable such as `$0`.
    """
    numbers = itertools.count()

    def mask(match: re.Match[str]) -> str:
        if match["line"] is not None:
            return re.sub(r"[^\r\n]", " ", match[0])
        name = f"${next(numbers)}"[: len(match[0])].ljust(len(match[0]), "_")
        return "".join(old if old in "\r\n" else new for old, new in zip(match[0], name, strict=True))

    return _ACTIONS.sub(mask, text)


def find(
    path: PurePath, text: str, check: Callable[[], None], others: Sequence[Node] = (), parts: list[Document] | None = None
) -> Iterator[Found]:
    """Find the places in a file that name artifacts of MAR.

    Args:
        check: called repeatedly; it raises when the timeout has passed.
        others: documents of other files, which may define repositories that this file uses.
        parts: the documents of this file; None if they were not parsed before.
    """
    parts = documents(path, text, check) if parts is None else parts
    if parts:
        yield from _documents(path, parts, check, others)
    elif path.suffix in (".tf", ".tofu") and len(text) <= MAX_YAML_SIZE:
        found, read = terraform.find(text)
        yield from found
        yield from _lines(lines.without_comments(text), 1, 0, read, check)
    else:
        if path.suffix in (*_YAML, ".tf", ".tofu"):
            yield LeftOut(1, "the file is too large for a complete parse, so it is searched line by line")
        yield from _lines(lines.without_comments(text) if path.suffix in (".bicep", ".bicepparam") else text, 1, 0, set(), check)


def _documents(path: PurePath, parts: list[Document], check: Callable[[], None], others: Sequence[Node]) -> Iterator[Found]:
    objects = [one for part in parts if part.node is not None for one in _objects(part.node)]
    known = Sources([*objects, *others])
    for part in parts:
        if part.node is None:
            yield from _unparsed(part, check)
            continue
        read: set[int] = set()
        last = part.line + part.text.count("\n")
        for one, following in itertools.pairwise([*_objects(part.node), None]):
            check()
            form = next((each for each in FORMS if one is not None and each.fits(path.name, one)), None)
            if one is not None and form is not None:
                yield from form.read(one, known)
                read.update(range(one.line, following.line if following is not None else last + 1))
            elif one is not None:
                found, its_lines = fields.find(one)
                yield from found
                read |= its_lines
        if len(read) <= last - part.line:
            yield from _lines(part.text, part.line, part.start, read, check)


def _objects(node: Node) -> list[Node]:
    """Return the objects of a Kubernetes list, or the document itself."""
    is_list = str(node.get("kind").value).endswith("List")
    return node.get("items").each() or [node] if is_list else [node]


def _unparsed(part: Document, check: Callable[[], None]) -> Iterator[Found]:
    """Search a document line by line. This search cannot find a version that is on another line than its reference."""
    if any(host in part.text.lower() for host in OFFICIAL_HOSTS):
        yield LeftOut(part.line, f"{part.error}; {quotes_hint(part.text, part.error) or 'it is searched line by line'}")
    rows = part.text.split("\n")
    for one in _lines(part.text, part.line, part.start, set(), check):
        if not isinstance(one, Place) or one.problem is None:
            yield one
        elif _ADDRESS.match(rows[one.line - part.line]):
            reason = f"left out `{one.reference}`: in a document that is not plain YAML, it may be the address above a chart"
            yield LeftOut(one.line, reason)
        else:
            yield replace(one, problem="its document is not plain YAML")


def _lines(text: str, line: int, start: int, skip: set[int], check: Callable[[], None]) -> Iterator[Found]:
    for number, one in enumerate(lines.find(text, line, start, skip)):
        if number % 256 == 0:
            check()
        yield one
