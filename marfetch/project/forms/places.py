"""Places in project files that name an artifact: the reference, its version, and where exactly the version is written."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from ...constraint import Constraint, exact_version, tag_of
from ...document import Json, Marks, Path
from ...errors import Error
from ...oci import Digest
from ...reference import OFFICIAL_HOSTS, Reference


class Span(NamedTuple):
    """A piece of a file.

    Attributes:
        text: its characters, without quotes.
        line, column: where it starts, counted from 1.
        start, end: its characters in the file, not counting a byte order mark. They are 0 if the text is written in another way
            (folded, in a block, with escapes), so that it cannot be replaced.
    """

    text: str
    line: int
    column: int = 0
    start: int = 0
    end: int = 0

    def part(self, start: int, end: int) -> Span:
        """Return a part of the text."""
        if not self.end:
            return self._replace(text=self.text[start:end])
        return Span(self.text[start:end], self.line, self.column + start, self.start + start, self.start + end)


class Text:
    """The text of a file, and where its lines start.

    Args:
        parsed: the text as it was parsed, of the same length; template actions may be masked in it.
    """

    def __init__(self, text: str, parsed: str | None = None) -> None:
        self.text, self.parsed = text, text if parsed is None else parsed
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def span(self, text: str, start: int) -> Span:
        """Return the span of a piece that is written at this character."""
        line = bisect_right(self._starts, start)
        return Span(text, line, start - self._starts[line - 1] + 1, start, start + len(text))


@dataclass(frozen=True, slots=True)
class Place:
    """A place that names an artifact.

    Attributes:
        form: the kind of file, such as `helmfile`.
        line: of the version, or else of the reference.
        reference: with a tag or digest, if it is pinned.
        range: a version or range; None if the reference has a tag or digest, or if no version could be read.
        version, digest: where they are written; the version may be a tag.
        problem: why no version could be read.
        is_chart: whether the context shows that it is a chart.
    """

    form: str
    line: int
    reference: Reference
    range: str | None = None
    version: Span | None = None
    digest: Span | None = None
    problem: str | None = None
    is_chart: bool = False


class LeftOut(NamedTuple):
    """Something that was not read, and why."""

    line: int
    reason: str


Found: TypeAlias = "Place | LeftOut"

QUOTES: Final = 'put the version in quotes, as in `version: ">=1"`'
_UNQUOTED: Final = re.compile(r"(?:version|revision|semver)[\"']?[ \t]*+:[ \t]*+[>|*!&%@`]", re.IGNORECASE)
_SCHEME: Final = re.compile(r"(?:oci|mar|https)://", re.IGNORECASE)
_PINNED: Final = re.compile(r"(?:([^@]*)@)?(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
VARIABLE: Final = re.compile(r"[${%]|<[A-Za-z]")


def quotes_hint(text: str, message: str) -> str | None:
    """Return a hint if YAML reads the first character of a version as syntax (`>=1`, `*`, `!=1`); None if that is not the reason.

    Args:
        message: why the text is not YAML, with the line.
    """
    line = re.search(r"at line ([0-9]+)", message)
    found = line is not None and _UNQUOTED.search("".join(text.splitlines(keepends=True)[int(line[1]) - 1 : int(line[1])]))
    return QUOTES if found else None


def registry_path(text: str) -> str | None:
    """Return a reference or an address without its scheme; None if it is not on MAR."""
    plain = _SCHEME.sub("", text.strip(), count=1).rstrip("/")
    return plain if plain.partition("/")[0].lower() in OFFICIAL_HOSTS else None


def place(form: str, line: int, text: str, version: Span | None, *, is_chart: bool = False) -> Iterator[Found]:
    """Read a reference and a version that are separate, such as `oci://mcr.microsoft.com/a/b` and `^1.2@sha256:…`.

    Args:
        text: the reference, which may have a tag or digest of its own.
    """
    try:
        reference = Reference.parse(registry_path(text) or text)
    except Error as error:
        yield LeftOut(line, error.message)
        return
    line = version.line if version is not None else line
    found = Place(form, line, _short(reference), is_chart=is_chart)
    if version is None or not version.text.strip():
        problem = "there is no version" if version is None or version.end else f"its version is an empty block; {QUOTES}"
        yield found if reference.tag or reference.digest else replace(found, problem=problem)
        return
    yield _with_version(found, version)


def _short(reference: Reference) -> Reference:
    """Omit the default host, unless the first part of the repository would then be read as a host."""
    first = reference.repository.partition("/")[0]
    plain = Reference(reference.repository, None, reference.tag, reference.digest)
    if reference.host is None or (reference.host.name == OFFICIAL_HOSTS[0] and "." not in first and first != "localhost"):
        return plain
    return replace(plain, host=reference.host)


def _with_version(found: Place, version: Span) -> Place:
    text = version.text.strip()
    lead = len(version.text) - len(version.text.lstrip())
    version = version.part(lead, lead + len(text))
    reference, digest = found.reference, None
    pinned = _PINNED.fullmatch(text)
    if pinned is not None:
        digest = version.part(pinned.start(2), pinned.end(2))
        version = version.part(0, pinned.end(1)) if pinned[1] else digest
        reference, text = replace(reference, digest=Digest.parse(digest.text)), pinned[1] or ""
    found = replace(found, reference=reference, version=version if text else None, digest=digest)
    if not text:
        return found
    if VARIABLE.search(text):
        return found if reference.tag or reference.digest else replace(found, problem=f"its version `{text[:80]}` is a variable")
    try:
        Constraint.parse(text)
    except Error as error:
        if reference.tag or reference.digest:
            return found
        problem = f"its version `{text[:80]}` is not a version range"
        hint = error.hint if "_" in text else QUOTES if not version.end else None
        return replace(found, problem=f"{problem}; {hint}" if hint else problem)
    exact = exact_version(text)
    if reference.digest is not None:
        return replace(found, reference=replace(reference, tag=reference.tag or (tag_of(exact) if exact else None)))
    return found if reference.tag else replace(found, range=text)


class Node:
    """A value in a YAML document, with its position in the file.

    Args:
        file: the whole file.
        first: the character and the line where the document starts.
    """

    def __init__(self, value: Json, marks: Marks, file: Text, first: tuple[int, int], path: Path = ()) -> None:
        mark = marks.get(path)
        self.is_repeated = mark is not None and mark.target is not None
        """Whether an alias or a merge key repeats the value of another place."""
        self.key = path[-1] if path else None
        self.value, self._marks, self._file, self._first = value, marks, file, first
        self._path = mark.target if mark is not None and mark.target is not None else path

    def _child(self, value: Json, key: str | int) -> Node:
        return Node(value, self._marks, self._file, self._first, (*self._path, key))

    def get(self, *keys: str) -> Node:
        """Return the value below these keys; its `value` is None if there is none."""
        node = self
        for key in keys:
            node = node._child(node.value.get(key) if isinstance(node.value, dict) else None, key)
        return node

    def each(self) -> list[Node]:
        """Return the mappings of a list, or nothing if this is no list."""
        items = self.value if isinstance(self.value, list) else []
        return [self._child(one, number) for number, one in enumerate(items) if isinstance(one, dict)]

    def children(self) -> Iterator[Node]:
        """Yield the values of a mapping, or the items of a list."""
        items = enumerate(self.value) if isinstance(self.value, list) else self.value.items() if isinstance(self.value, dict) else ()
        for key, value in items:
            yield self._child(value, key)

    @property
    def line(self) -> int:
        """The line of the key or list item in the file."""
        mark = self._marks.get(self._path)
        return self._first[1] + (mark.line - 1 if mark is not None else 0)

    @property
    def text(self) -> str | None:
        """The value if it is a string, as in the file."""
        span = self.span if isinstance(self.value, str) else None
        return span.text if span is not None else None

    @property
    def span(self) -> Span | None:
        """A string or number as written (`1.10`, not 1.1)."""
        mark = self._marks.get(self._path)
        if mark is None or mark.text is None or isinstance(self.value, (dict, list, bool)) or self.value is None:
            return None
        start, end = self._first[0] + mark.start, self._first[0] + mark.end
        raw = self._file.parsed[start:end]
        if raw != mark.text and raw[1:-1] == mark.text and raw[:1] in ("'", '"'):
            start, end = start + 1, end - 1
        elif raw != mark.text:
            return Span(mark.text, self.line)
        return self._file.span(self._file.text[start:end], start)


def chart(form: str, line: int, name: str | None, repository: str | None, version: Node) -> Iterator[Found]:
    """Read a chart whose name, registry and version are separate values; nothing if the registry is not MAR.

    Args:
        name: the name, or the whole address.
    """
    base = registry_path(repository or "")
    text = registry_path(name or "") if name and "://" in name else f"{base}/{name}" if base is not None and name else None
    if text is not None:
        yield from place(form, line, text, version.span, is_chart=True)


class Form(NamedTuple):
    """A kind of YAML file.

    Attributes:
        fits: whether a document is of this form, by the name of its file and its content.
        read: finds the places in a document, given all documents of its file.
    """

    fits: Callable[[str, Node], bool]
    read: Callable[[Node, list[Node]], Iterator[Found]]
