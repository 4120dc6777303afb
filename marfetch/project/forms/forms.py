"""Choose the parser for a file, and find the places in the file that name artifacts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Final, NamedTuple

from ...document import MAX_YAML_SIZE, Marks, parse_yaml
from ...errors import Error
from ...reference import OFFICIAL_HOSTS
from . import bicep, fields, terraform
from .argo import ARGO
from .azd import AZD
from .flux import FLUX
from .helm import CHART, CHART_FILES, HELMFILE
from .lines import LineSearch, without_comments
from .places import OFFICIAL, Form, Found, LeftOut, Node, Place, Registries, SetValues, Sources, Span, Text, quotes_hint, short
from .project_file import PROJECT

__all__ = ("Context", "Document", "LeftOut", "Place", "Registries", "SetValues", "Sources", "Span", "documents", "find", "objects", "short")

FORMS: Final[tuple[Form, ...]] = (CHART, PROJECT, AZD, HELMFILE, ARGO, FLUX)
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
        value = parse_yaml(file.parsed[start:end].encode("utf-8", "surrogateescape"), f"`{path}`", marks=marks, is_lenient=True)
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


class Context(NamedTuple):
    """What the parsers of a file may look up outside of the file.

    Attributes:
        check: called repeatedly; it raises when the timeout has passed.
        others: the repositories and sources that other files define.
        registries: the registries whose references are found.
        aliases: the aliases of the `bicepconfig.json` that counts for the file.
    """

    check: Callable[[], None] = lambda: None
    others: Sources | None = None
    registries: Registries = OFFICIAL
    aliases: Mapping[str, str] = {}


NO_CONTEXT: Final = Context()
"""The context of a file that is searched alone."""


def find(path: PurePath, text: str, context: Context = NO_CONTEXT, parts: list[Document] | None = None) -> Iterator[Found]:
    """Find the places in a file that name artifacts of MAR.

    Args:
        parts: the documents of this file; None if they were not parsed before.
    """
    parts = documents(path, text, context.check) if parts is None else parts
    search = LineSearch(context.registries)
    if path.suffix in (".bicep", ".bicepparam") or path.name == bicep.CONFIGURATION:
        is_configuration = path.name == bicep.CONFIGURATION
        yield from bicep.find(text, context.aliases, context.registries, is_configuration=is_configuration)
    elif parts:
        yield from _documents(path, parts, context)
    elif path.suffix in (".tf", ".tofu") and len(text) <= MAX_YAML_SIZE:
        found, read = terraform.find(text, context.registries)
        yield from found
        yield from _lines(search._replace(skip=read), without_comments(text), 1, 0, context.check)
    else:
        if path.suffix in (*_YAML, ".tf", ".tofu"):
            yield LeftOut(1, "the file is too large for a complete parse, so it is searched line by line")
        plain = without_comments(text, is_ps1=True) if path.suffix in (".ps1", ".psm1") else text
        yield from _lines(search, plain, 1, 0, context.check)


def _documents(path: PurePath, parts: list[Document], context: Context) -> Iterator[Found]:
    known = Sources([one for part in parts for one in objects(part)], context.registries, context.others)
    search = LineSearch(context.registries)
    for part in parts:
        if part.node is None:
            yield from _unparsed(part, search, context.check)
            continue
        read: set[int] = set()
        formed: set[int] = set()
        last = part.line + part.text.count("\n")
        joins = _folded(part)
        for one, following in itertools.pairwise([*objects(part), None]):
            context.check()
            form = next((each for each in FORMS if one is not None and each.fits(path.name, one)), None)
            if one is not None and form is not None:
                for found in form.read(one, known):
                    read.add(found.line)
                    yield found
                formed.update(range(one.line, following.line if following is not None else last + 1))
            elif one is not None:
                places, its_lines = fields.find(one, known)
                yield from places
                read |= its_lines
        if len(formed | read) <= last - part.line:
            yield from _lines(search._replace(skip=formed | read, joins=joins), part.text, part.line, part.start, context.check)
        if formed:
            others = {*range(part.line, last + 1)} - formed
            yield from _lines(
                search._replace(skip=others | read, joins=joins, commands=True), part.text, part.line, part.start, context.check
            )


def _folded(part: Document) -> set[int]:
    """Return the lines of texts that YAML joins with the line after them: folded, plain and quoted texts over several lines."""
    return set() if part.node is None else part.node.folded()


def objects(part: Document) -> list[Node]:
    """Return the objects of a Kubernetes list, or the document itself; nothing if the document could not be parsed."""
    node = part.node
    if node is None:
        return []
    is_list = str(node.get("kind").value).endswith("List")
    return node.get("items").each() or [node] if is_list else [node]


def _unparsed(part: Document, search: LineSearch, check: Callable[[], None]) -> Iterator[Found]:
    """Search a document line by line. This search cannot find a version that is on another line than its reference."""
    if any(host in part.text.lower() for host in OFFICIAL_HOSTS):
        yield LeftOut(part.line, f"{part.error}; {quotes_hint(part.text, part.error) or 'it is searched line by line'}")
    rows = part.text.split("\n")
    for one in _lines(search, part.text, part.line, part.start, check):
        if not isinstance(one, Place) or one.problem is None:
            yield one
        elif _ADDRESS.match(rows[one.line - part.line]):
            reason = f"left out `{one.reference}`: in a document that is not plain YAML, it may be the address above a chart"
            yield LeftOut(one.line, reason, str(one.reference) if one.is_certain or "url" in rows[one.line - part.line] else None)
        else:
            yield replace(one, problem="its document is not plain YAML")


def _lines(search: LineSearch, text: str, line: int, start: int, check: Callable[[], None]) -> Iterator[Found]:
    for number, one in enumerate(search.find(text, line, start)):
        if number % 256 == 0:
            check()
        yield one
