"""Parse Go templates (Go, package `text/template/parse`) into trees."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

from .marked import SourceSpan, cut, marked

MAX_TEMPLATE: Final = 4 << 20
"""Maximum length of one template in characters."""
MAX_BLOCKS: Final = 60
"""Maximum depth of blocks and parentheses in a template."""


class TemplateError(Exception):
    """A template cannot be parsed or evaluated; the text says why."""


# -- trees


@dataclass(slots=True)
class Literal:
    value: Any


@dataclass(slots=True)
class Operand:
    """A dot, a variable or a parenthesized pipeline, with the fields behind it: `.a.b`, `$x.a`, `(f 1).a`.

    Attributes:
        start: `.`, the name of a variable with `$`, or a pipeline.
    """

    start: str | Pipeline
    fields: tuple[str, ...]


@dataclass(slots=True)
class Function:
    name: str


Term = Literal | Operand | Function


@dataclass(slots=True)
class Pipeline:
    """Commands joined by `|`.

    Attributes:
        variables: the variables that get the value.
        is_new: whether the variables are declared (`:=`), not assigned (`=`).
    """

    commands: list[list[Term]]
    variables: tuple[str, ...] = ()
    is_new: bool = True


@dataclass(slots=True)
class RawText:
    text: str


@dataclass(slots=True)
class Printed:
    pipeline: Pipeline


@dataclass(slots=True)
class Block:
    """`if`, `with` or `range`."""

    kind: str
    pipeline: Pipeline
    body: list[Node]
    otherwise: list[Node]


@dataclass(slots=True)
class Invocation:
    """`{{ template "name" pipeline }}`; `block` also defines the template."""

    name: str
    pipeline: Pipeline | None


@dataclass(slots=True)
class Jump:
    """`break` or `continue`."""

    kind: str


Node = RawText | Printed | Block | Invocation | Jump


# -- tokens


class _Token(NamedTuple):
    kind: str
    text: str
    is_after_space: bool


_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<close>(?:(?<=[ \t\r\n])-)?\}\})
    |(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    |(?P<char>'(?:[^'\\\n]|\\.)+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+(?:[pP][+-]?[0-9]+)?|0[oO][0-7_]+|0[bB][01_]+|[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?))(?![\w])
    |(?P<variable>\$\w*)
    |(?P<field>\.[^\W\d]\w*)
    |(?P<dot>\.)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>:=|=|\||\(|\)|,)""",
    re.VERBOSE,
)
_COMMENT: Final = re.compile(r"\{\{(?:-[ \t\r\n]+)?/\*.*?\*/(?:[ \t\r\n]+-)?\}\}", re.DOTALL)
_SPACE: Final = " \t\r\n"
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_IMAGE_LINE: Final = re.compile(r"^.*image.*$", re.MULTILINE | re.IGNORECASE)


def _unescaped(match: re.Match[str]) -> str:
    text = match[1]
    if text[0] in "xuU":
        return chr(min(int(text[1:], 16), 0x10FFFF))
    return chr(int(text, 8)) if len(text) == 3 else _ESCAPES.get(text, text)


def _unquoted(text: str) -> str:
    inner = cut(text, 1, len(text) - 1)
    return inner if text[0] == "`" or "\\" not in inner else _ESCAPE.sub(_unescaped, inner)


class Parser:
    """Parses one template.

    Args:
        text: the template; spans in it are kept.
        path: the file, for the spans of lines that name images; empty: the text has its own spans.

    Attributes:
        defined: the templates that the text defines, by name.
    """

    def __init__(self, text: str, path: str = "") -> None:
        if len(text) > MAX_TEMPLATE:
            raise TemplateError(f"it has more than {MAX_TEMPLATE} characters")
        self._text = _with_lines(text, path) if path else text
        self._plain = str(self._text)
        self._at = 0
        self._depth = 0
        self.defined: dict[str, list[Node]] = {}

    def parse(self) -> list[Node]:
        """Return the nodes of the template.

        Raises:
            TemplateError: it is not a Go template.
        """
        try:
            nodes, end = self._nodes()
        except RecursionError:
            raise TemplateError("it is nested too deeply") from None
        if end is not None:
            self._fail(f"unexpected `{end[0]}`")
        return nodes

    def _fail(self, reason: str) -> NoReturn:
        raise TemplateError(f"line {self._plain.count(chr(10), 0, self._at) + 1}: {reason}")

    # -- blocks

    def _nodes(self) -> tuple[list[Node], tuple[str, list[_Token]] | None]:
        """Return the nodes up to an `end` or `else`, with the rest of that action; None at the end of the template."""
        self._depth += 1
        if self._depth > MAX_BLOCKS:
            self._fail("blocks are nested too deeply")
        nodes: list[Node] = []
        trims = False
        while True:
            begin = self._plain.find("{{", self._at)
            end = begin if begin >= 0 else len(self._plain)
            start = self._at
            if trims:
                while start < end and self._plain[start] in _SPACE:
                    start += 1
            comment = _COMMENT.match(self._plain, begin) if begin >= 0 else None
            if begin >= 0 and self._plain.startswith("{{-", begin) and self._plain[begin + 3 : begin + 4] in tuple(_SPACE):
                while end > start and self._plain[end - 1] in _SPACE:
                    end -= 1
                body = begin + 3
            else:
                body = begin + 2
            if end > start:
                nodes.append(RawText(cut(self._text, start, end)))
            if begin < 0:
                self._at = len(self._plain)
                self._depth -= 1
                return nodes, None
            if comment is not None:
                self._at = comment.end()
                trims = comment[0].endswith("-}}")
                continue
            self._at = body
            tokens = self._action()
            trims = self._plain[self._at - 3 : self._at] == "-}}" and self._plain[self._at - 4] in _SPACE
            if trims:
                while self._at < len(self._plain) and self._plain[self._at] in _SPACE:
                    self._at += 1
                trims = False
            word = tokens[0].text if tokens and tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                self._depth -= 1
                return nodes, (word, tokens[1:])
            self._statement(word, tokens, nodes)

    def _action(self) -> list[_Token]:
        tokens: list[_Token] = []
        is_after_space = False
        while True:
            match = _TOKEN.match(self._plain, self._at)
            if match is None:
                self._fail(f"unexpected `{self._plain[self._at : self._at + 20]}`")
            self._at = match.end()
            kind = str(match.lastgroup)
            if kind == "close":
                return tokens
            if kind != "space":
                text = cut(self._text, match.start(), match.end()) if kind == "string" else match[0]
                tokens.append(_Token(kind, text, is_after_space))
            is_after_space = kind == "space"

    def _statement(self, word: str, tokens: list[_Token], nodes: list[Node]) -> None:
        if word in ("if", "with", "range"):
            nodes.append(self._branch(word, tokens[1:]))
        elif word in ("define", "block", "template"):
            name = _unquoted(tokens[1].text) if len(tokens) > 1 and tokens[1].kind == "string" else self._fail(f"`{word}` has no name")
            pipeline = self._pipeline(tokens[2:]) if len(tokens) > 2 else None
            if word != "template":
                self.defined[str(name)], _ = self._block()
            if word != "define":
                nodes.append(Invocation(str(name), pipeline))
        elif word in ("break", "continue") and len(tokens) == 1:
            nodes.append(Jump(word))
        elif tokens:
            nodes.append(Printed(self._pipeline(tokens)))
        else:
            self._fail("an action is empty")

    def _block(self) -> tuple[list[Node], tuple[str, list[_Token]]]:
        nodes, end = self._nodes()
        if end is None:
            self._fail("an `end` is missing")
        return nodes, end

    def _branch(self, kind: str, tokens: list[_Token]) -> Block:
        pipeline = self._pipeline(tokens)
        body, (word, rest) = self._block()
        otherwise: list[Node] = []
        if word == "else":
            if rest and rest[0].kind == "word" and rest[0].text in ("if", "with"):
                otherwise = [self._branch(rest[0].text, rest[1:])]
            else:
                otherwise, (word, _) = self._block()
                if word != "end":
                    self._fail("a second `else`")
        return Block(kind, pipeline, body, otherwise)

    # -- pipelines

    def _pipeline(self, tokens: list[_Token]) -> Pipeline:
        variables: list[str] = []
        is_new = True
        signs = [token.text if token.kind == "sign" else token.kind for token in tokens[:4]]
        if signs[:1] == ["variable"] and signs[1:2] in ([":="], ["="]):
            variables, is_new, tokens = [tokens[0].text], signs[1] == ":=", tokens[2:]
        elif signs == ["variable", ",", "variable", ":="]:
            variables, tokens = [tokens[0].text, tokens[2].text], tokens[4:]
        queue = list(reversed(tokens))
        commands = self._commands(queue, 0)
        if queue:
            self._fail(f"unexpected `{queue[-1].text}`")
        return Pipeline(commands, tuple(variables), is_new)

    def _commands(self, queue: list[_Token], depth: int) -> list[list[Term]]:
        if depth > MAX_BLOCKS:
            self._fail("parentheses are nested too deeply")
        commands: list[list[Term]] = [[]]
        while queue and not (queue[-1].kind == "sign" and queue[-1].text == ")"):
            token = queue.pop()
            if token.kind == "sign" and token.text == "|":
                commands.append([])
                continue
            commands[-1].append(self._term(token, queue, depth))
        if not all(commands):
            self._fail("a command is missing")
        return commands

    def _term(self, token: _Token, queue: list[_Token], depth: int) -> Term:
        match token.kind:
            case "string":
                return Literal(_unquoted(token.text))
            case "char":
                return Literal(ord(_unquoted(token.text)[:1] or "\0"))
            case "number":
                return Literal(_number(token.text))
            case "word":
                constants = {"true": True, "false": False, "nil": None}
                return Literal(constants[token.text]) if token.text in constants else Function(token.text)
            case "dot":
                return Operand(".", ())
            case "variable":
                return Operand(token.text, self._fields(queue))
            case "field":
                return Operand(".", (token.text[1:], *self._fields(queue)))
        if token.text != "(":
            self._fail(f"unexpected `{token.text}`")
        inner = Pipeline(self._commands(queue, depth + 1))
        if not queue:
            self._fail("a `)` is missing")
        queue.pop()
        return Operand(inner, self._fields(queue))

    @staticmethod
    def _fields(queue: list[_Token]) -> tuple[str, ...]:
        fields: list[str] = []
        while queue and queue[-1].kind == "field" and not queue[-1].is_after_space:
            fields.append(queue.pop().text[1:])
        return tuple(fields)


def _number(text: str) -> int | float:
    try:
        return int(text, 0) if not re.fullmatch(r"[+-]?0[0-9_]+", text) else int(text, 8)
    except ValueError:
        try:
            return float.fromhex(text) if "x" in text.lower() else float(text)
        except (ValueError, OverflowError):
            raise TemplateError(f"`{text[:40]}` is not a number") from None


def _with_lines(text: str, path: str) -> str:
    """Mark each line that could name an image with its place in the file."""
    spans, line, at = [], 1, 0
    for match in _IMAGE_LINE.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        spans.append(SourceSpan(match.start(), match.end(), f"{path}:{line}", False))
    return marked(text, spans)
