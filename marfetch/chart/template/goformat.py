"""Format values as Go does: `print`, `printf`, and the YAML of `toYaml`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

from ...document import helm_scalar
from .evaluate import Meter, Struct
from .marked import Marked, changed, concat, cut, replaced, split
from .syntax import TemplateError

MAX_PADDING: Final = 1_000
"""Maximum width in a format of `printf`."""
_VERB: Final = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d*))?([a-zA-Z%])")
_INDICATED: Final = re.compile(r"^[#,\[\]{}&*!|>\"'%@`]|^[-?:](?:\s|$)|^(?:---|\.\.\.)|^ | $|:(?: |$)| #")
"""Texts that need quotes because of their characters (gopkg.in/yaml.v2, `yaml_emitter_analyze_scalar`)."""
_TYPED: Final = re.compile(
    r"(?i:[-+]?\.inf|\.nan)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"
)
"""Texts that YAML 1.1 would read as something else, besides those of `helm_scalar`."""
_ESCAPED: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]| \n")


def number_text(value: float, *, is_whole: bool = False) -> str:
    """Format a number as Go's `%v` does: the shortest form, with an exponent if it is below -4 or above 5.

    Args:
        is_whole: write whole numbers of up to 20 digits without an exponent, as JSON and YAML do.
    """
    if isinstance(value, int) or (is_whole and value.is_integer() and abs(value) < 1e21):
        return str(int(value))
    digits, _, exponent = f"{Decimal(repr(value)):e}".partition("e")
    if -4 <= int(exponent or 0) < 6:
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    whole, _, fraction = digits.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}{'.' if fraction else ''}{fraction}e{'-' if int(exponent) < 0 else '+'}{abs(int(exponent)):02d}"


class Formatter:
    """Formats values; counts each as a step."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def text(self, value: Any) -> str:
        """Format a value as `print` does."""
        if isinstance(value, str):
            return value
        self._meter.spend()
        if value is None:
            return "<nil>"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (int, float)):
            return number_text(value)
        if isinstance(value, list):
            return concat(["[", *self._spaced(self.text(one) for one in value), "]"])
        if isinstance(value, dict):
            return concat(["map[", *self._spaced(concat([key, ":", self.text(value[key])]) for key in sorted(value)), "]"])
        if isinstance(value, Struct):
            return self.text(value.members.get("", ""))
        raise TemplateError("a function is used as a value")

    @staticmethod
    def _spaced(texts: Iterable[str]) -> list[str]:
        found: list[str] = []
        for text in texts:
            found += (" ", text) if found else (text,)
        return found

    def printf(self, pattern: str, *arguments: Any) -> str:
        """Format as Go's `fmt.Sprintf`. Only verbs that charts use are supported."""
        parts: list[str] = []
        rest = list(arguments)
        at = 0
        for match in _VERB.finditer(pattern):
            parts.append(pattern[at : match.start()])
            at = match.end()
            flags, width, precision, verb = match.groups()
            if verb == "%":
                parts.append("%")
                continue
            if not rest:
                parts.append(f"%!{verb}(MISSING)")
                continue
            if int(width or 0) > MAX_PADDING or int(precision or 0) > MAX_PADDING:
                raise TemplateError("`printf` with too large a width")
            text = self._verb(rest.pop(0), verb, flags, precision)
            if width and len(text) < int(width):
                gap = int(width) - len(text)
                text = concat([text, " " * gap] if "-" in flags else ["0" * gap if "0" in flags else " " * gap, text])
            parts.append(text)
        return concat([*parts, pattern[at:]])

    def _verb(self, value: Any, verb: str, flags: str, precision: str | None) -> str:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if verb in "sv":
            if verb == "s" and not isinstance(value, (str, list, dict)):
                return "%!s(<nil>)" if value is None else f"%!s({_kind(value)}={self.text(value)})"
            return self.text(value)
        if verb == "q":
            return quoted(self.text(value))
        if verb == "d":
            return (
                f"{value:{'+' if '+' in flags else ''}d}"
                if is_number and isinstance(value, int)
                else f"%!d({_kind(value)}={self.text(value)})"
            )
        if verb in "feg" and is_number:
            return f"{float(value):.{precision or 6}{verb}}"
        if verb in "xX":
            text = format(value, verb) if isinstance(value, int) else self.text(value).encode().hex()
            return text.upper() if verb == "X" else text
        if verb == "t":
            return self.text(value)
        if verb == "T":
            return _kind(value)
        if verb == "c" and is_number:
            return chr(int(value))
        raise TemplateError(f"`printf` with `%{verb}` is not supported")

    def yaml(self, value: Any) -> str:
        """Format a value as YAML, with sorted keys (sigs.k8s.io/yaml). Texts that need quotes get double quotes."""
        parts: list[str] = []
        self._yaml(value, 0, parts.append)
        return concat(parts[:-1])  # without the last line break

    def _yaml(self, value: Any, indent: int, write: Callable[[str], None]) -> None:
        """Write a value as a YAML block. The caller has indented the first line. Every line ends with a line break."""
        self._meter.spend()
        if isinstance(value, dict) and value:
            for number, key in enumerate(sorted(value)):
                write(" " * indent if number else "")
                write(_scalar(key) + ":")
                inner = value[key]
                if isinstance(inner, dict) and inner:
                    write("\n" + " " * (indent + 2))
                    self._yaml(inner, indent + 2, write)
                elif isinstance(inner, list) and inner:
                    write("\n" + " " * indent)
                    self._yaml(inner, indent, write)
                else:
                    write(" ")
                    self._yaml(inner, indent + 2, write)
        elif isinstance(value, list) and value:
            for number, inner in enumerate(value):
                write((" " * indent if number else "") + "- ")
                self._yaml(inner, indent + 2, write)
        else:
            if value is None:
                text = "null"
            elif isinstance(value, str):
                text = _scalar(value, max(indent, 2))
            elif isinstance(value, (list, dict)):
                text = "{}" if isinstance(value, dict) else "[]"
            else:
                text = number_text(value, is_whole=True) if isinstance(value, float) else self.text(value)
            write(text)
            write("\n")

    def json(self, value: Any, indent: str = "") -> str:
        """Format a value as JSON, with sorted keys."""
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, (dict, list)) and value:
            self._meter.spend()
            is_dict = isinstance(value, dict)
            below = indent + "  " if indent else ""
            separator = ",\n" + below[1:] if indent else ","
            parts = ["{" if is_dict else "[", "\n" + below[1:] if indent else ""]
            for number, key in enumerate(sorted(value) if is_dict else value):
                parts += (separator,) if number else ()
                parts += (quoted(key), ": " if indent else ":", self.json(value[key], below)) if is_dict else (self.json(key, below),)
            return concat([*parts, "\n" + indent[1:] if indent else "", "}" if is_dict else "]"])
        self._meter.spend()
        if value is None:
            return "null"
        if isinstance(value, float):
            return number_text(value, is_whole=True) if value.is_integer() or abs(value) < 1e-6 else f"{Decimal(repr(value)):f}"
        return ("{}" if isinstance(value, dict) else "[]") if isinstance(value, (dict, list)) else self.text(value)


def _kind(value: Any) -> str:
    names = {bool: "bool", int: "int", float: "float64", str: "string", Marked: "string", dict: "map[string]interface {}"}
    return "<nil>" if value is None else names.get(type(value), "[]interface {}")


def quoted(text: str) -> str:
    """Put a text in double quotes, with the escapes of JSON and Go."""
    if re.search(r'["\\\x00-\x1f\x7f]', text) is None:
        return concat(['"', text, '"'])
    return changed(json.dumps(str(text), ensure_ascii=False), text)


def _scalar(text: str, indent: int | None = None) -> str:
    """Write a text in the style that Go's YAML chooses (gopkg.in/yaml.v2, `stringv`): templates inside may hold quotes themselves.

    Args:
        indent: of the lines of a block; None: a key, which needs to be on one line.
    """
    if "\n" in text or _ESCAPED.search(text):
        return quoted(text) if indent is None or _ESCAPED.search(text) else _block(text, indent)
    if _TYPED.fullmatch(text) or not isinstance(helm_scalar(text), str):
        return quoted(text)
    return concat(["'", replaced(text, "'", "''"), "'"]) if _INDICATED.search(text) else text


def _block(text: str, indent: int) -> str:
    hint = "2" if text[0] in " \n" else ""
    chomping = "-" if text[-1] != "\n" else "+" if text == "\n" or text.endswith("\n\n") else ""
    lines = split(cut(text, 0, len(text) - 1) if text[-1] == "\n" else text, "\n")
    return concat([f"|{hint}{chomping}", *(part for line in lines for part in ("\n" + " " * indent if line else "\n", line))])
