"""Find references line by line, with the `--version` option of the same command, in scripts, pipelines, Bicep files and all other text.

Container images are skipped, because other tools pull them. A reference is certainly not an image if it has a scheme (`oci://`, `mar://`,
`br:`) or is an argument of oras or marfetch. The search takes time linear in the length of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, Final, NamedTuple

from ...reference import OFFICIAL_HOSTS
from .places import OFFICIAL, Found, LeftOut, Place, Registries, Span

_HOSTS: Final = "|".join(map(re.escape, OFFICIAL_HOSTS))
_LOCAL: Final = r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?"
_IS_LOCAL: Final = re.compile(_LOCAL)
_PATH: Final = r"/[^\s\"'`<>()\[\]{},;|\\]++"
_BICEP: Final = re.compile(r"(?<![\w/])br/public:[a-z0-9/_.-]+:[\w.-]+")
_SURE: Final = re.compile(r"oci://|mar://|br[:/]", re.IGNORECASE)
"""The start of a reference that is not a container image."""
_COMMAND: Final = re.compile(r"(?:^|[\s;&|(\"'`@])(?:helm|oras|marfetch|mar-get|bicep)(?:\.exe)?[\"']?[\s,]++[\"']?[a-z-]")
"""The start of a command that downloads charts or other artifacts."""
_ARTIFACT: Final = re.compile(r"(?:^|[\s;&|(\"'`/@])(?:oras|marfetch|mar-get)(?:\.exe)?[\"']?[\s,]")
_MARFETCH: Final = re.compile(r"\bmarfetch\s++(?:pull|resolve|plan|inspect|verify|referrers|versions|show\s++[a-z]++)(?=\s)")
_WORD: Final = re.compile(
    r"(?:^|(?<=\s))[\"']?(-{1,2}[\w-]++=?|[a-z0-9][a-z0-9._-]*+(?:/[a-z0-9._-]++)++(?::[\w.-]++)?(?:@sha256:[0-9a-f]{64})?(?=[\"'\s;]|$)|\S++)"
)
_FLAGS: Final = (
    "--untar",
    "--prov",
    "--verify",
    "--force",
    "--all-layers",
    "--json",
    "--quiet",
    "--verbose",
    "--offline",
    "--devel",
    "--skip-missing",
)
"""Options of marfetch without a value, so that the next word may be a reference."""
# Quotes may be escaped, as in a string of JSON or YAML. The last alternative matches arguments in a list, such as `"--version", "1.2"`.
# Elsewhere in an unquoted value, `>` is a redirection.
VERSION_OPTION: Final = re.compile(
    r"""--version(?:[\ =]++(?:\\?+"([^"\\]*+)\\?+"|'(?:'(?=[^'\s]++''))?+([^']*+)'
    |(\$?\{\{[^}]*+\}\}|\$\([^)]*+\)|[^\s"'`;|&()][^\s"'`;|&()<>\]]*+))
    |["']\s*+,\s*+["']([^"']*+)["'])""",
    re.VERBOSE,
)
# Possessive quantifiers do not backtrack, so the search takes linear time even in a very long line.
_PART: Final = re.compile(r"""(?:"[^"]*+"|'[^']*+'|[^;|&])++""")
"""One command in a line that may have several, separated by `;`, `|` or `&`. An unmatched quote is an ordinary character."""
_COMMENTED: Final = re.compile(r"\s*+(?:#|//|<!--|::|@?rem\s)", re.IGNORECASE)
"""A line that is a comment, also in batch files."""
_COMMENT: Final = re.compile(r"""((?:(?:"[^"\n]*+"|'[^'\n]*+'|[^\s#"']|["'])#*+|\s(?!#))*+)\s#""")
_BLOCK_COMMENT: Final = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*+"?+|'(?:[^'\\\n]|\\.)*+'?+|\#[^\n]*+|//[^\n]*+)
    |/\*(?:[^*]|\*(?!/))*+(?:\*/)?+""",
    re.VERBOSE,
)
_POWERSHELL_COMMENT: Final = re.compile(r"<#(?:[^#]|#(?!>))*+#>")
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


def _commands(text: str, line: int, start: int, joins: Collection[int]) -> Iterator[_Command]:
    command = _Command()
    for raw in text.split("\n"):
        plain = raw.rstrip()
        if plain.endswith(("\\", " `", " ^")) and command.size < MAX_COMMAND:
            command.add(plain[:-1] + " ", line, start)
        elif line in joins and command.size < MAX_COMMAND:
            command.add(plain + " ", line, start)
        else:
            command.add(raw, line, start)
            yield command
            command = _Command()
        line, start = line + 1, start + len(raw) + 1
    if command.size:
        yield command


@cache
def _named(own: str | None) -> re.Pattern[str]:
    """Return the pattern of references with a host.

    Args:
        own: see `Registries`.
    """
    hosts = f"{_HOSTS}|{re.escape(own)}" if own is not None else _HOSTS
    plain = rf"(?:(?:oci|mar|https)://|br:)?+(?:{hosts})(?::443)?+{_PATH}"
    return re.compile(
        rf"(?<![\w.@/-])(?:{plain}|(?:(?:oci|mar)://|br:){_LOCAL}{_PATH}|{_LOCAL}{_PATH}|mar://[a-z0-9_-]++{_PATH})", re.IGNORECASE
    )


class LineSearch(NamedTuple):
    """How a part of a file is searched line by line.

    Attributes:
        registries: the registries whose references are found.
        skip: lines that another parser has already searched.
        joins: lines that continue in the next line, as in a folded text of YAML.
        commands: find only arguments of commands.
    """

    registries: Registries = OFFICIAL
    skip: Collection[int] = ()
    joins: Collection[int] = ()
    commands: bool = False

    def find(self, text: str, line: int, start: int) -> Iterator[Found]:
        """Find references in a part of a file.

        Args:
            line, start: the position in the file where the part starts: the line, and the character's index.
        """
        if not self._may_name(text):
            return
        for command in _commands(text, line, start, self.joins):
            if "/" not in command.text:
                continue
            if not self.skip or not any(one in self.skip for one in command.lines):
                yield from self._references(command)

    def _may_name(self, text: str) -> bool:
        return bool(_named(self.registries.own).search(text) or _BICEP.search(text) or _MARFETCH.search(text))

    def _references(self, command: _Command) -> Iterator[Found]:
        text = command.text
        if not self._may_name(text):
            return
        if _COMMENTED.match(text):
            return
        comment = _COMMENT.match(text)
        text = comment[1] if comment is not None else text
        is_helm = "helm" in text
        for part in _PART.finditer(text):
            if not self.commands or _COMMAND.search(text, part.start(), part.end()):
                yield from self._of_part(command, text, part.start(), part.end(), is_helm=is_helm)

    def _of_part(self, command: _Command, text: str, start: int, end: int, *, is_helm: bool) -> Iterator[Found]:
        matches = [*_named(self.registries.own).finditer(text, start, end), *_BICEP.finditer(text, start, end)]
        without_host = list(_without_host(text, start, end))
        if not matches and not without_host:
            return
        key = _KEY.match(text)
        is_image = (key is not None and "image" in key[1].lower()) or _FROM.match(text) or _TOOL.search(text, start, end)
        is_artifact = _ARTIFACT.search(text, start, end) is not None
        version = _option(command, text, start, end)
        more = {"is_helm": is_helm, "takes_digest": is_artifact or _COMMAND.search(text, start, end) is not None}
        for match in without_host:
            yield from self._reference(command, match[1], match.start(1), text, version, is_certain=True, **more)
        if is_image and not all(_SURE.match(match[0]) for match in matches):
            yield LeftOut(command.span("", matches[0].start()).line, "skipped a container image")
        has_certain = any(_SURE.match(match[0]) for match in matches)
        for match in matches:
            is_sure = _SURE.match(match[0]) is not None
            if not is_sure and (is_image or (not is_artifact and _IS_LOCAL.match(match[0]))):
                continue
            if _REPOSITORY.search(text, max(start, match.start() - 256), match.start()):
                line = command.span("", match.start()).line
                yield LeftOut(line, f"left out `{match[0]}`: it is the address of a repository, not of a chart")
            else:
                is_certain = is_sure or is_artifact
                its_version = version if is_certain or not has_certain else None
                yield from self._reference(command, match[0], match.start(), text, its_version, is_certain=is_certain, **more)

    def _reference(
        self,
        command: _Command,
        found: str,
        start: int,
        line: str,
        version: Span | None,
        *,
        is_certain: bool,
        is_helm: bool,
        takes_digest: bool,
    ) -> Iterator[Found]:
        text = found.rstrip(".:/")
        where = named = command.span(text, start)
        variable = _VARIABLE.search(found)
        is_variable = variable is not None or line[start + len(found) : start + len(found) + 1] in ("{", "<")
        plain = text
        if is_variable:
            # The path must not contain the variable. If only the tag is a variable, a digest after the tag still counts.
            known = found[: variable.start()] if variable is not None else found
            above, slash, last = known.rpartition("/")
            name = re.split("[:@]", last, maxsplit=1)[0]
            if name == last:
                yield LeftOut(where.line, f"left out `{text[:200]}`: its path contains a variable", text[:200] if is_certain else None)
                return
            digest = _DIGEST.search(text)
            plain, named = above + slash + name + (digest[0] if digest is not None else ""), Span("", where.line)
        body = re.sub(r"^(?:oci://|https://|br:)", "", plain, flags=re.IGNORECASE)
        if body.startswith("br/public:"):
            body = f"{OFFICIAL_HOSTS[0]}/bicep/{body.removeprefix('br/public:')}"
        if "/" not in body:
            yield LeftOut(where.line, f"`{text[:200]}` has no repository")
            return
        more: dict[str, Any] = {"is_chart": plain.startswith("oci://") and is_helm, "is_certain": is_certain}
        more["takes_digest"] = takes_digest and version is None and not found.startswith("br")
        for one in self.registries.place("lines", named, body, version, **more):
            if isinstance(one, Place) and one.problem is not None and is_variable and version is None:
                yield replace(one, problem=f"`{text[:200]}` contains a variable")
            else:
                yield one


def _option(command: _Command, text: str, start: int, end: int) -> Span | None:
    """Return the value of `--version` in a part of a command."""
    option = VERSION_OPTION.search(text, start, end)
    group = next((number for number in (1, 2, 3, 4) if option[number]), 0) if option is not None else 0
    return command.span(option[group], option.start(group)) if option is not None and group else None


def _without_host(text: str, start: int, end: int) -> Iterator[re.Match[str]]:
    """Yield the arguments of marfetch that are references without a host, as group 1 of each match."""
    command = _MARFETCH.search(text, start, end)
    if command is None:
        return
    before = ""
    for word in _WORD.finditer(text, command.end(), end):
        is_value = before.startswith("-") and not before.endswith("=") and before not in _FLAGS
        if not is_value and "/" in word[1] and re.fullmatch(r"[a-z0-9_-]++/[a-z0-9._/-]++(?::[\w.-]++)?(?:@sha256:[0-9a-f]{64})?", word[1]):
            yield word
        before = word[1]


def without_comments(text: str, *, is_ps1: bool = False) -> str:
    """Replace block comments (`/* */`, or `<# #>` in PowerShell) by spaces."""
    if is_ps1:
        return _POWERSHELL_COMMENT.sub(lambda match: re.sub(r"[^\r\n]", " ", match[0]), text)
    return _BLOCK_COMMENT.sub(lambda match: match[0] if match["text"] is not None else re.sub(r"[^\r\n]", " ", match[0]), text)
