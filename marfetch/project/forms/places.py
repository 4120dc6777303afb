"""Places in project files that name an artifact: the reference, the version, and the exact position of the version."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple, TypeAlias

from ...constraint import Constraint, exact_version, tag_of
from ...document import Json, Marks, Path
from ...errors import Error
from ...oci import Digest
from ...reference import OFFICIAL_HOSTS, Reference


class Span(NamedTuple):
    """A piece of a file's text, with its position.

    Attributes:
        text: the text, without quotes.
        line, column: the position where the text starts, counted from 1.
        start, end: the indexes of the first character and of the end, without a byte order mark. Both are 0 if the file has the text
            in another notation (folded, in a block, with escapes), because such text cannot be replaced.
    """

    text: str
    line: int
    column: int = 0
    start: int = 0
    end: int = 0

    def part(self, start: int, end: int) -> Span:
        """Return the part of the text between these indexes, with its position in the file."""
        if not self.end:
            return self._replace(text=self.text[start:end])
        return Span(self.text[start:end], self.line, self.column + start, self.start + start, self.start + end)


class Text:
    """The text of a file, with an index of its lines.

    Args:
        parsed: the text that was parsed. It has the same length, but its template actions may be masked. None if nothing is masked.
    """

    def __init__(self, text: str, parsed: str | None = None) -> None:
        self.text, self.parsed = text, text if parsed is None else parsed
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def span(self, text: str, start: int) -> Span:
        """Return the span of a text that starts at this index of the file."""
        line = bisect_right(self._starts, start)
        return Span(text, line, start - self._starts[line - 1] + 1, start, start + len(text))


@dataclass(frozen=True, slots=True)
class Place:
    """A place that names an artifact.

    Attributes:
        form: the kind of file, such as `helmfile`.
        line: the line of the version; the line of the reference if there is no version.
        reference: the reference, with its tag or digest if it has one.
        range: a version or range; None if the reference has a tag or digest, or if no version could be read.
        version: the position of the version or tag in the file, if there is one.
        digest: the position of the digest in the file, if there is one.
        problem: why no version could be read; None if there is no problem.
        is_chart: whether the context shows that the artifact is a chart.
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
    """A place that was skipped, with the reason."""

    line: int
    reason: str


Found: TypeAlias = "Place | LeftOut"

QUOTES: Final = 'put the version in quotes, as in `version: ">=1"`'
_UNQUOTED: Final = re.compile(r"(?:version|revision|semver)[\"']?[ \t]*+:[ \t]*+[>|*!&%@`]", re.IGNORECASE)
_SCHEME: Final = re.compile(r"(?:oci|mar|https)://", re.IGNORECASE)
_PINNED: Final = re.compile(r"(?:([^@]*)@)?(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
VARIABLE: Final = re.compile(r"[${%]|<[A-Za-z]")


def quotes_hint(text: str, message: str) -> str | None:
    """Return a hint to quote a version whose first character is YAML syntax (`>=1`, `*`, `!=1`). Return None for any other problem.

    Args:
        text: the YAML text.
        message: the message of the YAML parser, which has the number of the line.
    """
    line = re.search(r"at line ([0-9]+)", message)
    found = line is not None and _UNQUOTED.search("".join(text.splitlines(keepends=True)[int(line[1]) - 1 : int(line[1])]))
    return QUOTES if found else None


def registry_path(text: str) -> str | None:
    """Remove the scheme from a reference or an address. Return None if its host is not MAR."""
    plain = _SCHEME.sub("", text.strip(), count=1).rstrip("/")
    return plain if plain.partition("/")[0].lower() in OFFICIAL_HOSTS else None


def place(form: str, line: int, text: str, version: Span | None, *, is_chart: bool = False) -> Iterator[Found]:
    """Combine a reference and a separate version, such as `oci://mcr.microsoft.com/a/b` and `^1.2@sha256:…`.

    Args:
        text: the reference, which may already have a tag or digest.
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
    """Remove the default host, unless the first part of the repository looks like a host."""
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
        file: the text of the whole file.
        first: the position in the file where the document starts: the character's index, and the line.
    """

    def __init__(self, value: Json, marks: Marks, file: Text, first: tuple[int, int], path: Path = ()) -> None:
        mark = marks.get(path)
        self.is_repeated = mark is not None and mark.target is not None
        """Whether this value repeats the value of a YAML anchor, by an alias or a merge key."""
        self.key = path[-1] if path else None
        self.value, self._marks, self._file, self._first = value, marks, file, first
        self._path = mark.target if mark is not None and mark.target is not None else path

    def _child(self, value: Json, key: str | int) -> Node:
        return Node(value, self._marks, self._file, self._first, (*self._path, key))

    def get(self, *keys: str) -> Node:
        """Return the node below these keys. If a key is missing, the node's `value` is None."""
        node = self
        for key in keys:
            node = node._child(node.value.get(key) if isinstance(node.value, dict) else None, key)
        return node

    def each(self) -> list[Node]:
        """Return the mappings in this list, or an empty list if this node is not a list."""
        items = self.value if isinstance(self.value, list) else []
        return [self._child(one, number) for number, one in enumerate(items) if isinstance(one, dict)]

    def children(self) -> Iterator[Node]:
        """Yield the values of this mapping, or the items of this list."""
        items = enumerate(self.value) if isinstance(self.value, list) else self.value.items() if isinstance(self.value, dict) else ()
        for key, value in items:
            yield self._child(value, key)

    @property
    def line(self) -> int:
        """The line in the file of this node's key or list item."""
        mark = self._marks.get(self._path)
        return self._first[1] + (mark.line - 1 if mark is not None else 0)

    @property
    def text(self) -> str | None:
        """The value as in the file if it is a string; otherwise None."""
        span = self.span if isinstance(self.value, str) else None
        return span.text if span is not None else None

    @property
    def span(self) -> Span | None:
        """The position of a string or number, with its text as written (`1.10`, not 1.1); None for any other value."""
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
    """Combine the name, registry and version of a chart, which are separate values. Yield nothing if the registry is not MAR.

    Args:
        name: the name, or the whole address with its scheme.
    """
    base = registry_path(repository or "")
    text = registry_path(name or "") if name and "://" in name else f"{base}/{name}" if base is not None and name else None
    if text is not None:
        yield from place(form, line, text, version.span, is_chart=True)


class Sources:
    """The chart repositories and sources that YAML documents define. Other documents refer to them by name.

    Args:
        documents: all documents of the file, then the documents of other files that are searched together with it.
    """

    def __init__(self, documents: Sequence[Node]) -> None:
        self._documents = documents

    @cached_property
    def repositories(self) -> dict[str, str | None]:
        """Name → address of each repository. If a name is defined twice, the first address is used."""
        found = [one for document in self._documents for one in document.get("repositories").each()]
        return dict(reversed([(one.get("name").text or "", one.get("url").text) for one in found]))

    @cached_property
    def objects(self) -> dict[tuple[str, str], list[Node]]:
        """(kind, name) → the Kubernetes objects with this kind and name, in order."""
        found: dict[tuple[str, str], list[Node]] = {}
        for one in self._documents:
            kind, name = one.get("kind").text, one.get("metadata", "name").text
            if kind is not None and name is not None:
                found.setdefault((kind, name), []).append(one)
        return found


class Form(NamedTuple):
    """A kind of YAML file.

    Attributes:
        fits: takes the name of the file and a document, and returns whether the document has this form.
        read: takes a document and the sources that it may name, and yields the document's places.
    """

    fits: Callable[[str, Node], bool]
    read: Callable[[Node, Sources], Iterator[Found]]
