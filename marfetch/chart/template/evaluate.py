"""Evaluate parsed Go templates (Go, package `text/template`) with limits on steps, depth and output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .marked import concat
from .syntax import Block, Function, Invocation, Jump, Literal, Node, Parser, Pipeline, Printed, RawText, TemplateError, Term

MAX_EVALUATED: Final = 1_000_000
"""Maximum number of steps for all templates of a chart. A long text or list counts as several steps."""
MAX_TEXT_RESULT: Final = 16 << 20
"""Maximum length of one text in characters."""
MAX_INCLUDES: Final = 60
"""Maximum depth of templates that include one another. Charts need about ten."""
_PER_STEP: Final = 64
"""Characters that count as one step."""


class StepsExceededError(TemplateError):
    """The chart needs more steps than allowed; no further template of it is evaluated."""


class Meter:
    """Counts the steps of all templates of a chart."""

    def __init__(self, most: int = MAX_EVALUATED) -> None:
        self._left = most

    def spend(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            raise StepsExceededError("the templates of the chart need too many steps")

    def take(self, value: Any) -> Any:
        """Count the steps for a value, depending on its length, and return the value."""
        if isinstance(value, (str, list, dict)):
            if len(value) > MAX_TEXT_RESULT:
                raise StepsExceededError(f"a value has more than {MAX_TEXT_RESULT} characters or items")
            self.spend(1 + len(value) // _PER_STEP)
        return value


class _JumpError(Exception):
    """Raised by `break` or `continue`, and caught by the loop around it."""


class Struct:
    """A value with methods and fields, as Go's structs have them: `.Capabilities`, `.Files`, the result of `semver`.

    Attributes:
        members: the methods and fields; the member with an empty name is the text of the value.
        entries: the entries that `range` goes through; None if the value is not a map.
    """

    def __init__(self, members: Mapping[str, Any], entries: dict[str, Any] | None = None) -> None:
        self.members = members
        self.entries = entries


Functions = Mapping[str, Callable[..., Any]]


def is_true(value: Any) -> bool:
    """Return whether a value counts as true (Go, `template.IsTrue`)."""
    value = value.entries if isinstance(value, Struct) and value.entries is not None else value
    return value is not None and value is not False and not (isinstance(value, (int, float, str, list, dict)) and not value)


class Evaluator:
    """Evaluates templates that share one set of definitions, as all templates of a chart and its sub-charts do.

    Args:
        functions: the functions of templates by name, apart from `include`, `tpl`, `and` and `or`.
        to_text: formats a value as `print` does.
    """

    def __init__(self, functions: Functions, to_text: Callable[[Any], str], meter: Meter) -> None:
        self._functions = functions
        self._to_text = to_text
        self._meter = meter
        self._depth = 0
        self.defined: dict[str, list[Node]] = {}

    def add(self, name: str, text: str, path: str) -> None:
        """Parse a file, and keep it under its name with all the templates that it defines.

        Raises:
            TemplateError: it is not a Go template.
        """
        parser = Parser(text, path)
        nodes = parser.parse()
        self.defined.update(parser.defined)
        self.defined[name] = nodes

    def run(self, name: str, dot: Any) -> str:
        """Return the output of a template.

        Raises:
            TemplateError: it cannot be evaluated.
        """
        try:
            return self._call(name, dot)
        except RecursionError:
            raise TemplateError("it is nested too deeply") from None

    def _call(self, name: str, dot: Any) -> str:
        nodes = self.defined.get(str(name))
        if nodes is None:
            raise TemplateError(f"there is no template `{str(name)[:200]}`")
        return self._output(nodes, dot)

    def _output(self, nodes: list[Node], dot: Any) -> str:
        self._depth += 1
        if self._depth > MAX_INCLUDES:
            raise TemplateError("templates include one another too deeply")
        parts: list[str] = []
        try:
            self._nodes(nodes, dot, [{"$": dot}], parts)
        except _JumpError as jump:
            raise TemplateError(f"`{jump}` outside of a loop") from None
        finally:
            self._depth -= 1
        result: str = self._meter.take(concat(parts))
        return result

    def _tpl(self, text: Any, dot: Any) -> str:
        if "{{" not in text:
            return text  # type: ignore[no-any-return]
        self._meter.spend(1 + len(text) // 8)
        parser = Parser(text)
        nodes = parser.parse()
        before = self.defined
        self.defined = {**before, **parser.defined} if parser.defined else before
        try:
            return self._output(nodes, dot)
        finally:
            self.defined = before

    # -- nodes

    def _nodes(self, nodes: list[Node], dot: Any, scopes: list[dict[str, Any]], parts: list[str]) -> None:
        for node in nodes:
            self._meter.spend()
            match node:
                case RawText():
                    self._meter.spend(len(node.text) // _PER_STEP)
                    parts.append(node.text)
                case Printed():
                    value = self._pipeline(node.pipeline, dot, scopes)
                    if not node.pipeline.variables:
                        parts.append(self._meter.take("" if value is None else value if isinstance(value, str) else self._to_text(value)))
                case Block():
                    scopes.append({})
                    try:
                        self._branch(node, dot, scopes, parts)
                    finally:
                        scopes.pop()
                case Invocation():
                    parts.append(self._call(node.name, self._pipeline(node.pipeline, dot, scopes) if node.pipeline else None))
                case Jump():
                    raise _JumpError(node.kind)

    def _branch(self, node: Block, dot: Any, scopes: list[dict[str, Any]], parts: list[str]) -> None:
        if node.kind == "range":
            self._range(node, dot, scopes, parts)
            return
        value = self._pipeline(node.pipeline, dot, scopes)
        if is_true(value):
            self._nodes(node.body, value if node.kind == "with" else dot, scopes, parts)
        else:
            self._nodes(node.otherwise, dot, scopes, parts)

    def _range(self, node: Block, dot: Any, scopes: list[dict[str, Any]], parts: list[str]) -> None:
        plain = Pipeline(node.pipeline.commands)
        value = self._pipeline(plain, dot, scopes)
        value = value.entries if isinstance(value, Struct) else value
        pairs: list[tuple[Any, Any]]
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, int) and not isinstance(value, bool):
            self._meter.spend(max(value, 0))
            pairs = [(number, number) for number in range(value)]
        else:
            pairs = list(enumerate(value)) if isinstance(value, list) else []
        if not pairs:
            self._nodes(node.otherwise, dot, scopes, parts)
        for key, item in pairs:
            names = node.pipeline.variables
            if names and not node.pipeline.is_new:
                self._assign(names[-1], item, scopes)
            inner = dict(zip(names, (key, item) if len(names) == 2 else (item,), strict=False)) if node.pipeline.is_new else {}
            self._meter.spend()
            try:
                self._nodes(node.body, item, [*scopes, inner], parts)
            except _JumpError as jump:
                if str(jump) == "break":
                    break

    # -- pipelines

    def _assign(self, name: str, value: Any, scopes: list[dict[str, Any]]) -> None:
        for scope in reversed(scopes):
            if name in scope:
                scope[name] = value
                return
        raise TemplateError(f"there is no variable `{name}`")

    def _pipeline(self, pipeline: Pipeline, dot: Any, scopes: list[dict[str, Any]]) -> Any:
        value: tuple[Any, ...] = ()
        for command in pipeline.commands:
            value = (self._command(command, dot, scopes, value),)
        for name in pipeline.variables:
            if pipeline.is_new:
                scopes[-1][name] = value[0]
            else:
                self._assign(name, value[0], scopes)
        return value[0]

    def _command(self, command: list[Term], dot: Any, scopes: list[dict[str, Any]], piped: tuple[Any, ...]) -> Any:
        self._meter.spend()
        first = command[0]
        if isinstance(first, Function):
            return self._function(first.name, command[1:], dot, scopes, piped)
        value = self._term(first, dot, scopes)
        if callable(value):
            return value(*(self._term(one, dot, scopes) for one in command[1:]), *piped)
        if len(command) > 1 or piped:
            raise TemplateError("a value is called as if it were a function")
        return value

    def _function(self, name: str, terms: list[Term], dot: Any, scopes: list[dict[str, Any]], piped: tuple[Any, ...]) -> Any:
        if name in ("and", "or"):
            value: Any = None
            for term in (*terms, *map(Literal, piped)):
                value = self._term(term, dot, scopes)
                if is_true(value) is (name == "or"):
                    return value
            return value
        arguments = [*(self._term(one, dot, scopes) for one in terms), *piped]
        try:
            if name == "include":
                return self._call(arguments[0], arguments[1])
            if name == "tpl":
                return self._tpl(*arguments)
            function = self._functions.get(name)
            if function is None:
                raise TemplateError(f"the function `{name}` is not supported")
            self._meter.spend(sum(len(one) // 16 for one in arguments if isinstance(one, (str, list, dict))))
            return self._meter.take(function(*arguments))
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
            raise TemplateError(f"`{name}` failed: {error}") from error

    def _term(self, term: Term, dot: Any, scopes: list[dict[str, Any]]) -> Any:
        match term:
            case Literal():
                return term.value
            case Function():
                return self._function(term.name, [], dot, scopes, ())
        start = term.start
        if isinstance(start, Pipeline):
            value = self._pipeline(start, dot, scopes)
        elif start == ".":
            value = dot
        else:
            for scope in reversed(scopes):
                if start in scope:
                    value = scope[start]
                    break
            else:
                raise TemplateError(f"there is no variable `{start}`")
        for name in term.fields:
            value = _field(value, name)
        return value


def _field(value: Any, name: str) -> Any:
    """Return a field. A field of a missing value is missing too, while Go reports an error: the user may still have to set the value."""
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, Struct):
        return value.members.get(name)
    if value is None:
        return None
    raise TemplateError(f"a value that is not an object has no field `{name[:100]}`")
