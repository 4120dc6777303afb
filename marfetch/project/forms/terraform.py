"""Terraform: `helm_release` resources and `helm_template` data sources.

The parser understands only a part of HCL: blocks, attributes with a quoted string, comments and heredocs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .places import OFFICIAL, Found, LeftOut, Registries, SetValues, Span, Text

_BLOCK: Final = re.compile(
    r"""(?:(?:resource|data)[ \t]++(?:"(?:helm_release|helm_template)"|helm_(?:release|template)\b)[ \t]*+(?:"[^"\n]*+"|[\w-]++)
    |(?P<locals>locals)|variable[ \t]++"?+(?P<variable>[\w-]++)"?+)[ \t]*+\{""",
    re.VERBOSE,
)
_HEREDOC: Final = re.compile(r"[ \t]*+<<-?[ \t]*+(\w++)[ \t\r]*+\n([^\n]*+)\n[ \t]*+\1[ \t\r]*+$", re.MULTILINE)
"""An attribute's value that is a heredoc with a single line."""
_NAME: Final = re.compile(r"""\$\{(?:"\$\{)?((?:local|var)\.[\w-]++)(?:\}")?[ \t]*+(?:(?:#|//).*)?\}""")
# Nested strings in `${…}` are not parsed: only the end of a string matters. Each alternative matches at least one character.
_TOKEN: Final = re.compile(
    r"""(?P<comment>\#[^\n]*+|//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?+)
    |(?P<heredoc><<-?[ \t]*+(?P<mark>\w++)[^\n]*+\n)
    |(?P<string>"(?:[^"\\\n]|\\.)*+"?+)
    |(?P<open>[{\[(])|(?P<close>[}\])])
    |(?P<name>[A-Za-z_][\w-]*+)
    |(?P<equals>=(?![=>]))
    |(?P<end>\n)
    |(?P<other>[^\s])
    |(?P<space>[ \t\r\f\v]++)""",
    re.VERBOSE,
)
_PLAIN: Final = re.compile(r'[ \t]*+"([^"\\$%\n]*+)"[ \t\r]*+(?=\n|#|//|/\*|\}|\Z)')
"""An attribute's value that is only a quoted string, without `${…}`."""
_FILE: Final = re.compile(r'\b(?:file|templatefile)[ \t]*+\([ \t]*+"([^"\n]++)"')
_SET: Final = re.compile(r'\bname[ \t]*+=[ \t]*+"([^"\n]++)"(?=\s++(?:value|type)\b|[ \t]*+,[ \t]*+value)')
_ADDRESS: Final = re.compile(r'(?:oci|mar)://[^"\s]++')
_EXPRESSION: Final = re.compile(r"[$%]\{")
_MAX_SHOWN: Final = 60


class _Block(NamedTuple):
    """One block of a Terraform file.

    Attributes:
        texts: the values of the attributes, by name. A plain string has its position. Any other value is `${…}` around its first
            line, without a position.
        lines: the lines of the block in the file.
        prefix: how expressions refer to the block's attributes: `local.` or `var.NAME.`. Empty if the block is a chart.
        body: the text of the block.
    """

    texts: dict[str, Span]
    lines: range
    prefix: str
    body: str


class _Scanner:
    """Reads the tokens of a file in one pass."""

    def __init__(self, text: str) -> None:
        self._file, self._text, self._position = Text(text), text, 0

    def _tokens(self) -> Iterator[re.Match[str]]:
        while (token := _TOKEN.match(self._text, self._position)) is not None:
            self._position = token.end()
            if token.lastgroup == "heredoc":
                end = re.compile(rf"^[ \t]*+{token['mark']}[ \t\r]*+$", re.MULTILINE).search(self._text, self._position)
                self._position = end.end() if end is not None else len(self._text)
            elif token.lastgroup not in ("space", "comment"):
                yield token

    def blocks(self) -> Iterator[_Block]:
        """Yield the blocks of charts, locals and variables at the top level of the file."""
        depth = 0
        for token in self._tokens():
            depth += {"open": 1, "close": -1}.get(token.lastgroup or "", 0)
            start = _BLOCK.match(self._text, token.start()) if depth == 0 and token.lastgroup == "name" else None
            if start is not None:
                self._position = start.end()
                texts = self._attributes()
                first, last = (self._file.span("", position).line for position in (token.start(), self._position))
                prefix = "local." if start["locals"] else f"var.{start['variable']}." if start["variable"] else ""
                yield _Block(texts, range(first, last + 1), prefix, self._text[token.start() : self._position])

    def _attributes(self) -> dict[str, Span]:
        """Read the attributes of a block, starting after its `{`. Attributes of nested blocks are skipped."""
        found: dict[str, Span] = {}
        depth, name = 1, ""
        for token in self._tokens():
            kind = token.lastgroup
            if kind in ("open", "close"):
                depth += 1 if kind == "open" else -1
                if depth == 0:
                    break
            elif depth == 1 and kind == "end":
                name = ""
            elif depth == 1 and kind == "name" and not name:
                name = token[0]
            elif depth == 1 and kind == "equals" and name and name not in found:
                found[name] = self._value(token.end())
        return found

    def _value(self, position: int) -> Span:
        plain = _PLAIN.match(self._text, position)
        if plain is not None:
            return self._file.span(plain[1], plain.start(1))
        heredoc = _HEREDOC.match(self._text, position)
        if heredoc is not None and not _EXPRESSION.search(heredoc[2]):
            text = heredoc[2].strip()
            return self._file.span(text, heredoc.start(2) + heredoc[2].index(text))
        line = self._text[position : position + _MAX_SHOWN].partition("\n")[0].strip()
        return Span(f"${{{line}}}", self._file.span("", position).line)


def find(text: str, registries: Registries = OFFICIAL) -> tuple[list[Found], set[int]]:
    """Find the charts in a Terraform file.

    Args:
        registries: the registries whose charts are found.

    Returns:
        The places that were found, and the numbers of the lines that the line-by-line search can skip.
    """
    found: list[Found] = []
    lines: set[int] = set()
    blocks = list(_Scanner(text).blocks())
    values = {f"{block.prefix}{key}": span for block in blocks if block.prefix for key, span in block.texts.items()}
    for block in blocks:
        if not block.prefix:
            lines.update(block.lines)
            texts = {key: _resolved(span, values, lines, is_version=key == "version") for key, span in block.texts.items()}
            found += _chart(block._replace(texts=texts), registries)
    return found, lines


def _resolved(value: Span, values: Mapping[str, Span], lines: set[int], *, is_version: bool) -> Span:
    """Replace `local.x` or `var.x` with its value, if this file defines the value as a plain string.

    A version is not replaced by the default of a variable, because the variable may be set to another version elsewhere.

    Args:
        lines: a set to which the line of the string is added.
    """
    name = _NAME.fullmatch(value.text) if not value.end else None
    if name is None or (is_version and name[1].startswith("var.")):
        return value
    found = values.get(name[1] if name[1].startswith("local.") else f"{name[1]}.default")
    if found is None or not found.end:
        return value
    lines.add(found.line)
    return found


def _chart(block: _Block, registries: Registries) -> Iterator[Found]:
    chart, repository, version = (block.texts.get(key) for key in ("chart", "repository", "version"))
    base = registries.path(repository.text) if repository is not None else None
    if chart is None or not chart.end:
        address = _ADDRESS.search(chart.text) if chart is not None else None
        if base is not None or (address is not None and registries.path(address[0]) is not None):
            named = f"a chart below `{base}`: its name" if base is not None else f"`{chart.text if chart else ''}`: it"
            line = version.line if version is not None else chart.line if chart is not None else block.lines[0]
            yield LeftOut(line, f"left out {named} is not a plain string", base or "a chart", "terraform")
        return
    text = registries.path(chart.text) if "://" in chart.text else f"{base}/{chart.text}" if base is not None else None
    if text is None:
        if repository is not None and not repository.end:
            address = _ADDRESS.search(repository.text)
            reference = address[0] if address is not None and registries.path(address[0]) is not None else None
            reason = f"left out `{chart.text}`: its repository `{repository.text}` is not a plain string here"
            yield LeftOut((version or repository).line, reason, reference, "terraform")
        return
    yield from registries.place("terraform", chart, text, version, is_chart=True, values=tuple(_values(block.body)))
    if "devel" in block.texts:
        yield LeftOut(chart.line, f"left out `devel` of `{text}`: to lock prereleases, write a range such as `>=0-0`")


def _values(body: str) -> Iterator[SetValues]:
    for match in _FILE.finditer(body):
        yield SetValues(match[1].removeprefix("${path.module}/"))
    for match in _SET.finditer(body):
        yield SetValues.at(match[1])
