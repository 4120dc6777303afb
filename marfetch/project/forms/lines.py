"""Find references line by line, with the `--version` option of the same command, in scripts, pipelines, Bicep files and all other text.

Container images are skipped, because other tools pull them. The search takes time linear in the length of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Final

from ...reference import OFFICIAL_HOSTS
from .places import Found, LeftOut, Place, Span, place

_HOSTS: Final = "|".join(map(re.escape, OFFICIAL_HOSTS))
_NAMED: Final = re.compile(rf"(?<![\w.@-])(?:(?:oci|mar|https)://|br:)?(?:{_HOSTS})/[^\s\"'`<>()\[\]{{}},;|\\]++", re.IGNORECASE)
_BICEP: Final = re.compile(r"(?<![\w/])br/public:[a-z0-9/_.-]+:[\w.-]+")
_ALIAS: Final = re.compile(r"'br/(?!public:)([\w-]+):[^'\n]*'")
# The last alternative matches arguments in a list, such as `"--version", "1.2"`. Elsewhere in an unquoted value, `>` is a redirection.
_VERSION: Final = re.compile(
    r"""--version(?:[\ =]++(?:"([^"]*+)"|'([^']*+)'|(\$?\{\{[^}]*+\}\}|\$\([^)]*+\)|[^\s"'`;|&()][^\s"'`;|&()<>\]]*+))
    |["']\s*+,\s*+["']([^"']*+)["'])""",
    re.VERBOSE,
)
# Possessive quantifiers do not backtrack, so the search takes linear time even in a very long line.
_PART: Final = re.compile(r"""(?:"[^"]*+"|'[^']*+'|[^;|&])++""")
"""One command in a line that may have several, separated by `;`, `|` or `&`. An unmatched quote is an ordinary character."""
_COMMENT: Final = re.compile(r"""((?:(?:"[^"\n]*+"|'[^'\n]*+'|[^\s#"']|["'])#*+|\s(?!#))*+)\s#""")
_BLOCK_COMMENT: Final = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*+"?+|'(?:[^'\\\n]|\\.)*+'?+|\#[^\n]*+|//[^\n]*+)
    |/\*(?:[^*]|\*(?!/))*+(?:\*/)?+""",
    re.VERBOSE,
)
_REPOSITORY: Final = re.compile(r"(?:--repo[ =]|\brepo add\s+\S+\s+)[\"']?\Z")
_KEY: Final = re.compile(r"\s*+(?:-\s++)?+([\w.-]++)\s*+[:=]")
_FROM: Final = re.compile(r"\s*+(?:FROM\s|(?:COPY|ADD)\s.*--from=|(?:-\s++)?+container:)", re.IGNORECASE)
_TOOL: Final = re.compile(r"\b(?:docker|podman|nerdctl|buildah|skopeo|ctr|crictl)\b", re.IGNORECASE)
_VARIABLE: Final = re.compile(r"[$%]")
_DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}\Z")
MAX_COMMAND: Final = 16_384
"""The maximum number of characters of a command that continues over several lines."""


class _Command:
    """A line, with the lines that continue it (after `\\` or PowerShell's backtick)."""

    def __init__(self) -> None:
        self.size = 0
        self._texts: list[str] = []
        self._starts: list[int] = []
        self._places: list[tuple[int, int]] = []

    def add(self, text: str, line: int, start: int) -> None:
        self._starts.append(self.size)
        self._places.append((line, start))
        self._texts.append(text)
        self.size += len(text)

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def lines(self) -> list[int]:
        return [line for line, _ in self._places]

    def span(self, text: str, start: int) -> Span:
        """Return the position in the file of the part that starts at `start` in this command."""
        number = bisect_right(self._starts, start) - 1
        line, first = self._places[number]
        column = start - self._starts[number]
        return Span(text, line, column + 1, first + column, first + column + len(text))


def _commands(text: str, line: int, start: int) -> Iterator[_Command]:
    command = _Command()
    for raw in text.split("\n"):
        plain = raw.rstrip()
        if plain.endswith(("\\", " `")) and command.size < MAX_COMMAND:
            command.add(plain[:-1] + " ", line, start)
        else:
            command.add(raw, line, start)
            yield command
            command = _Command()
        line, start = line + 1, start + len(raw) + 1
    if command.size:
        yield command


def find(text: str, line: int, start: int, skip: Collection[int] = ()) -> Iterator[Found]:
    """Find references in a part of a file.

    Args:
        line, start: the position in the file where the part starts: the line, and the character's index.
        skip: lines that another parser has already searched.
    """
    for command in _commands(text, line, start):
        if not skip or not any(one in skip for one in command.lines):
            yield from _references(command)


def without_comments(text: str) -> str:
    """Replace block comments (`/* */`) by spaces."""
    return _BLOCK_COMMENT.sub(lambda match: match[0] if match["text"] is not None else re.sub(r"[^\r\n]", " ", match[0]), text)


def _references(command: _Command) -> Iterator[Found]:
    text = command.text
    alias = _ALIAS.search(text)
    if not _NAMED.search(text) and not _BICEP.search(text) and alias is None:
        return
    if text.lstrip().startswith(("#", "//", "<!--")):
        return
    if alias is not None:
        shown = alias[0].strip("'")[:200]
        yield LeftOut(command.span("", alias.start()).line, f"left out `{shown}`: `{alias[1]}` is an alias that `bicepconfig.json` defines")
    comment = _COMMENT.match(text)
    text = comment[1] if comment is not None else text
    for part in _PART.finditer(text):
        yield from _of_part(command, text, part.start(), part.end())


def _of_part(command: _Command, text: str, start: int, end: int) -> Iterator[Found]:
    matches = [*_NAMED.finditer(text, start, end), *_BICEP.finditer(text, start, end)]
    if not matches:
        return
    line = command.span("", matches[0].start()).line
    key = _KEY.match(text)
    if (key is not None and "image" in key[1].lower()) or _FROM.match(text) or _TOOL.search(text, start, end):
        yield LeftOut(line, "skipped a container image")
        return
    option = _VERSION.search(text, start, end)
    version = None
    if option is not None:
        group = next((number for number in (1, 2, 3, 4) if option[number]), 0)
        version = command.span(option[group], option.start(group)) if group else None
    is_helm = "helm" in text
    for match in matches:
        if _REPOSITORY.search(text, max(start, match.start() - 256), match.start()):
            yield LeftOut(line, f"left out `{match[0]}`: it is the address of a repository, not of a chart")
        else:
            yield from _reference(command, match, version, is_helm=is_helm)


def _reference(command: _Command, match: re.Match[str], version: Span | None, *, is_helm: bool) -> Iterator[Found]:
    text = match[0].rstrip(".:/")
    where = command.span(text, match.start())
    variable = _VARIABLE.search(match[0])
    is_variable = variable is not None or match.string[match.end() : match.end() + 1] in ("{", "<")
    plain = text
    if is_variable:
        # The path must not contain the variable. If only the tag is a variable, a digest after the tag still counts.
        known = match[0][: variable.start()] if variable is not None else match[0]
        above, slash, last = known.rpartition("/")
        name = re.split("[:@]", last, maxsplit=1)[0]
        if name == last:
            yield LeftOut(where.line, f"left out `{text[:200]}`: its path contains a variable")
            return
        digest = _DIGEST.search(text)
        plain = above + slash + name + (digest[0] if digest is not None else "")
    body = re.sub(r"^(?:oci://|mar://|https://|br:)", "", plain, flags=re.IGNORECASE)
    if body.startswith("br/public:"):
        body = f"{OFFICIAL_HOSTS[0]}/bicep/{body.removeprefix('br/public:')}"
    if "/" not in body:
        yield LeftOut(where.line, f"`{text[:200]}` has no repository")
        return
    for one in place("lines", where.line, body, version, is_chart=plain.startswith("oci://") and is_helm):
        if not isinstance(one, Place):
            yield one
        elif one.problem is not None and is_variable and version is None:
            yield replace(one, problem=f"`{text[:200]}` contains a variable")
        elif one.reference.tag is not None and one.version is None:
            yield replace(one, version=_tag(where, one.reference.tag))
        else:
            yield one


def _tag(where: Span, tag: str) -> Span | None:
    start = where.text.partition("@")[0].rfind(f":{tag}") + 1
    return where.part(start, start + len(tag)) if start else None
