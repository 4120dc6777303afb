"""Places in project files that name an artifact: the reference, the version, and the exact position of the version."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeAlias

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


class SetValues(NamedTuple):
    """Values that a file sets for a chart.

    Attributes:
        path: the path of a values file; None if the values are in this file.
        value: a mapping, or a text with YAML.
    """

    path: str | None
    value: Json = None

    @classmethod
    def at(cls, name: str) -> SetValues:
        """Return what Helm's option `--set NAME=…` sets."""
        value: Json = None
        for key in reversed(name.split(".")):
            value = {key.partition("[")[0]: value}
        return cls(None, value)


@dataclass(frozen=True, slots=True)
class Place:
    """A place that names an artifact.

    Attributes:
        form: the kind of file, such as `helmfile`.
        line: the line of the version; the line of the reference if there is no version.
        reference: the reference with the host as written, and with its tag or digest if it has one. Without a host, it is on the endpoint.
        range: a version or range; None if the reference has a tag or digest, or if no version could be read.
        version: the position of the version or tag in the file, if there is one.
        digest: the position of the digest in the file, if there is one.
        tag: the position of the tag in the reference, if there is a tag besides a separate version.
        problem: why no version could be read; None if there is no problem.
        fixed: why the version must not be changed; None if it may be changed.
        is_chart: whether the context shows that the artifact is a chart.
        is_tag: whether the version is written as a tag, with `_` for `+`.
        takes_digest: whether `@sha256:…` may follow the version.
        is_certain: whether the context shows that the reference is not a container image.
        values: the values that the file sets for the chart.
        context: settings of a `marfetch.yaml` for the artifact: `endpoint` and `min-age`.
    """

    form: str
    line: int
    reference: Reference
    range: str | None = None
    version: Span | None = None
    digest: Span | None = None
    tag: Span | None = None
    problem: str | None = None
    fixed: str | None = None
    is_chart: bool = False
    is_tag: bool = False
    takes_digest: bool = False
    is_certain: bool = True
    values: tuple[SetValues, ...] = field(default=(), compare=False)
    context: Mapping[str, str] = field(default_factory=dict, compare=False)


class LeftOut(NamedTuple):
    """A place that was skipped, with the reason.

    Attributes:
        reference: the reference or a part of it, if it is on MAR or may be. None if the place is not on MAR, or names a container image.
        form: the kind of file, such as `helmfile`.
    """

    line: int
    reason: str
    reference: str | None = None
    form: str = "lines"


Found: TypeAlias = "Place | LeftOut"

QUOTES: Final = 'put the version in quotes, as in `version: ">=1"`'
_UNQUOTED: Final = re.compile(r"(?:version|revision|semver)[\"']?[ \t]*+:[ \t]*+[>|*!&%@`]", re.IGNORECASE)
_SCHEME: Final = re.compile(r"(oci|mar|https)://", re.IGNORECASE)
_LOOPBACK: Final = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?")
_PROPERTIES: Final = re.compile(r"(?:[&!]\S*+\s++)++")
"""The anchor and the tag before a value (YAML 1.2, 6.9)."""
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


class Registries(NamedTuple):
    """The registries whose references are read: the official ones, loopback addresses, and the user's own.

    Attributes:
        own: the user's own registry as `host` or `host:port`; None if there is none.
    """

    own: str | None = None

    def path(self, text: str) -> str | None:
        """Remove the scheme from a reference or an address. Return None if its host is none of these registries."""
        plain = text.strip().rstrip("/")
        match = _SCHEME.match(plain)
        scheme = match[1].lower() if match is not None else ""
        plain = plain[match.end() :] if match is not None else plain
        host = plain.partition("/")[0].lower()
        if scheme == "mar" and re.fullmatch(r"[a-z0-9_-]++", host):
            return plain  # `mar://aks/charts` is on the endpoint
        is_own = host == self.own or (_LOOPBACK.fullmatch(host) is not None and scheme != "https")
        return plain if is_own or host.removesuffix(":443") in OFFICIAL_HOSTS else None

    def place(self, form: str, named: Span, text: str, version: Span | None, **more: Any) -> Iterator[Found]:
        """Combine a reference and a separate version, such as `oci://mcr.microsoft.com/a/b` and `^1.2@sha256:…`.

        Args:
            named: where the file has the reference or the name. It may end with a tag or digest.
            text: the reference, which may be composed of several values.
            more: further attributes of the place.
        """
        try:
            reference = Reference.parse(self.path(text) or text)
        except Error as error:
            yield LeftOut((version or named).line, error.message, text, form)
            return
        found = Place(form, version.line if version is not None else named.line, reference, **more)
        name, at, pinned = named.text.partition("@")
        if at and reference.digest is not None and pinned == str(reference.digest):
            found = replace(found, digest=named.part(len(name) + 1, len(named.text)))
        if reference.tag is not None and f":{name}".endswith(f":{reference.tag}"):
            tag = named.part(len(name) - len(reference.tag), len(name))
            found = replace(found, tag=tag) if version is not None else replace(found, version=tag, line=tag.line, is_tag=True)
        if version is None or not version.text.strip():
            problem = "there is no version" if version is None or version.end else f"its version is an empty block; {QUOTES}"
            yield found if reference.tag or reference.digest else replace(found, problem=problem)
            return
        yield _with_version(found, version)

    def chart(self, form: str, name: Node, repository: Node, version: Node | Span, **more: Any) -> Iterator[Found]:
        """Combine the name, registry and version of a chart. Yield nothing if the registry is not one of these.

        Args:
            name: the name, or the whole address with its scheme.
        """
        base = self.path(repository.text or "")
        named = name.text
        text = self.path(named) if named and "://" in named else f"{base}/{named}" if base is not None and named else None
        if text is not None:
            span = version.span if isinstance(version, Node) else version
            yield from self.place(form, name.span or Span("", name.line), text, span, is_chart=True, **more)


OFFICIAL: Final = Registries()
"""The official registries and loopback addresses only."""


def short(reference: Reference) -> Reference:
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
    reference, digest = found.reference, found.digest
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

    def folded(self) -> set[int]:
        """Return the lines of the texts in this document that YAML joins with the next line. An empty line ends such a text."""
        found: set[int] = set()
        for mark in self._marks.values():
            raw = self._file.text[self._first[0] + mark.start : self._first[0] + mark.end] if mark.text is not None else ""
            if "\n" in raw and not raw.startswith("|"):
                rows = raw.rstrip().split("\n")
                first = self._file.span("", self._first[0] + mark.start).line
                found |= {first + at for at in range(raw.startswith(">"), len(rows) - 1) if rows[at].strip() and rows[at + 1].strip()}
        return found

    @property
    def line(self) -> int:
        """The line in the file of this node's key or list item."""
        mark = self._marks.get(self._path)
        return self._first[1] + (mark.line - 1 if mark is not None else 0)

    @property
    def lines(self) -> range:
        """The lines in the file from this node's key to the end of its text; empty if it has no text."""
        mark = self._marks.get(self._path)
        if mark is None or mark.text is None:
            return range(0)
        start, end = self._first[0] + mark.start, self._first[0] + mark.end
        return range(self.line, self._file.span("", start).line + self._file.text[start:end].rstrip().count("\n") + 1)

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
        properties = _PROPERTIES.match(raw)
        if properties is not None:
            start, raw = start + properties.end(), raw[properties.end() :]
        if raw != mark.text and raw[1:-1] == mark.text and raw[:1] in ("'", '"'):
            start, end = start + 1, end - 1
        elif raw != mark.text:
            return Span(mark.text, self.line)
        return self._file.span(self._file.text[start:end], start)


class Sources:
    """What a form may look up: the registries, and the chart repositories and sources that YAML documents define.

    Args:
        documents: all documents of the file.
        others: the sources of the files that are searched together with it. The sources of the file itself have priority.
    """

    def __init__(self, documents: Sequence[Node], registries: Registries = OFFICIAL, others: Sources | None = None) -> None:
        self._documents, self.registries, self._others = documents, registries, others

    def repository(self, name: str) -> list[Node]:
        """Return the addresses of the repository with this name. There are several only if other files define different ones."""
        if name in self.repositories:
            return self.repositories[name][:1]
        found = self._others.repositories.get(name, []) if self._others is not None else []
        return list({one.text: one for one in found}.values())

    @cached_property
    def repositories(self) -> dict[str, list[Node]]:
        """Name → addresses of each repository that the documents define."""
        found: dict[str, list[Node]] = {}
        for document in self._documents:
            for one in document.get("repositories").each():
                found.setdefault(one.get("name").text or "", []).append(one.get("url"))
        return found

    def source(self, kind: str, name: str, namespace: str | None) -> list[Node]:
        """Return the objects of Kubernetes with this kind, name and namespace, in this file or in the others.

        An object without a namespace matches too, because tools such as Kustomize add the namespace later. There are several only if
        other files define different ones.
        """
        found = self.named(kind, name, namespace)[:1]
        if found or self._others is None:
            return found
        return list({one.get("spec", "url").text: one for one in self._others.named(kind, name, namespace)}.values())

    def everywhere(self, kind: str, name: str, namespace: str | None, needed: Sequence[str]) -> list[Node]:
        """Return the objects in all files with this kind and name that have a key at the path `needed`."""
        return (self._others or self).named(kind, name, namespace, needed)

    def named(self, kind: str, name: str, namespace: str | None, needed: Sequence[str] = ()) -> list[Node]:
        """Return the objects in the documents with this kind and name, preferably with exactly this namespace.

        Args:
            needed: the path of a key that the objects must have.
        """
        found = [one for one in self._objects.get((kind, name), ()) if one.get(*needed).value is not None]
        named = [(one.get("metadata", "namespace").text, one) for one in found]
        exact = [one for there, one in named if there is not None and there == namespace]
        return exact or [one for there, one in named if there is None or namespace is None]

    @cached_property
    def _objects(self) -> dict[tuple[str, str], list[Node]]:
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
