"""The template functions that work with texts. Results keep the marks of the values that they are made from."""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlsplit

from .evaluate import Functions
from .goformat import Formatter, quoted
from .marked import changed, concat, cut, replaced, split
from .matching import matches
from .syntax import TemplateError

MAX_INDENT: Final = 500
"""Maximum number of columns to indent by, and of random characters."""
_GROUP: Final = re.compile(r"\$\{?(\d+)\}?")
_SPACE: Final = " \t\n\r\v\f"


def functions(formatter: Formatter) -> Functions:
    """Return the functions by name."""
    found = _Wording(formatter)
    own: dict[str, Callable[..., Any]] = {name.removeprefix("go_"): getattr(found, name) for name in dir(_Wording) if name[0] != "_"}
    return {**own, **{name: getattr(found, method) for name, method in _ALIASES.items()}}


class _Wording:
    """Each public method is a template function. A prefix `go_` of the method is not part of the function's name."""

    def __init__(self, formatter: Formatter) -> None:
        self._formatter = formatter

    def _text(self, value: Any) -> str:
        return "" if value is None else self._formatter.text(value)

    # -- printing

    def printf(self, pattern: str, *values: Any) -> str:
        return self._formatter.printf(pattern, *values)

    def go_print(self, *values: Any) -> str:
        parts: list[str] = []
        for number, value in enumerate(values):
            if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
                parts.append(" ")
            parts.append(self._formatter.text(value))
        return concat(parts)

    def println(self, *values: Any) -> str:
        return concat([self.cat(*values), "\n"])

    def cat(self, *values: Any) -> str:
        parts: list[str] = []
        for value in values:
            parts += (" ", self._text(value)) if parts else (self._text(value),)
        return concat(parts)

    def quote(self, *values: Any) -> str:
        return self.cat(*(quoted(self._text(value)) for value in values if value is not None))

    def squote(self, *values: Any) -> str:
        return self.cat(*(concat(["'", self._text(value), "'"]) for value in values if value is not None))

    # -- parts of a text

    def trim(self, text: Any) -> str:
        return self._strip(self._text(text), _SPACE, left=True, right=True)

    def trimAll(self, characters: str, text: str) -> str:
        return self._strip(text, characters, left=True, right=True)

    @staticmethod
    def _strip(text: str, characters: str, *, left: bool, right: bool) -> str:
        start = len(text) - len(text.lstrip(characters)) if left else 0
        end = len(text.rstrip(characters)) if right else len(text)
        return cut(text, start, max(start, end))

    def trimPrefix(self, prefix: str, text: Any) -> str:
        text = self._text(text)
        return cut(text, len(prefix)) if prefix and text.startswith(prefix) else text

    def trimSuffix(self, suffix: str, text: Any) -> str:
        text = self._text(text)
        return cut(text, 0, len(text) - len(suffix)) if suffix and text.endswith(suffix) else text

    def trunc(self, length: int, text: Any) -> str:
        text = self._text(text)
        return cut(text, 0, length) if length >= 0 else cut(text, max(len(text) + length, 0))

    def substr(self, start: int, end: int, text: str) -> str:
        return cut(text, max(start, 0), end if end >= 0 else None)

    def splitList(self, separator: str, text: Any) -> list[str]:
        return split(self._text(text), separator)

    def go_split(self, separator: str, text: Any) -> dict[str, str]:
        return {f"_{number}": part for number, part in enumerate(split(self._text(text), separator))}

    def splitn(self, separator: str, count: int, text: str) -> dict[str, str]:
        parts = split(text, separator)
        rest: list[str] = []
        for part in parts[count - 1 :]:
            rest += (separator, part) if rest else (part,)
        return {f"_{number}": part for number, part in enumerate([*parts[: count - 1], *([concat(rest)] if rest else [])])}

    def join(self, separator: str, values: Any) -> str:
        parts: list[str] = []
        for value in values if isinstance(values, list) else [values]:
            if value is not None:
                parts += (separator, self._text(value)) if parts else (self._text(value),)
        return concat(parts)

    def base(self, text: str) -> str:
        return cut(text, text.rstrip("/").rfind("/") + 1)

    def dir(self, text: str) -> str:
        return cut(text, 0, max(text.rfind("/"), 0)) or "."

    def clean(self, text: str) -> str:
        plain = posixpath.normpath(text)
        return text if plain == text else changed(plain, text)

    def isAbs(self, text: str) -> bool:
        return text.startswith("/")

    def ext(self, text: str) -> str:
        return text[text.rfind(".") :] if "." in text else ""

    # -- changed texts

    def indent(self, count: int, text: Any) -> str:
        return self._indented(count, self._text(text))

    def nindent(self, count: int, text: Any) -> str:
        return concat(["\n", self._indented(count, self._text(text))])

    @staticmethod
    def _indented(count: int, text: str) -> str:
        if not 0 <= count <= MAX_INDENT:
            raise TemplateError(f"cannot indent by {count}")
        space = " " * count
        return replaced(text, "\n", "\n" + space) if not count else concat([space, replaced(text, "\n", "\n" + space)])

    def replace(self, old: str, new: str, text: Any) -> str:
        return replaced(self._text(text), old, new)

    def repeat(self, count: int, text: str) -> str:
        if count * len(text) > 1 << 20:
            raise TemplateError("`repeat` makes too long a text")
        return text * count

    def lower(self, text: Any) -> str:
        text = self._text(text)
        return text if text == text.lower() else changed(text.lower(), text)

    def upper(self, text: Any) -> str:
        return changed(self._text(text).upper(), text)

    def title(self, text: str) -> str:
        return changed(re.sub(r"(?<!\w)\w", lambda match: match[0].upper(), text), text)

    def untitle(self, text: str) -> str:
        return changed(re.sub(r"(?<!\S)\S", lambda match: match[0].lower(), text), text)

    def camelcase(self, text: str) -> str:
        return changed("".join(part[:1].upper() + part[1:] for part in re.split(r"[-_ ]", text)), text)

    def snakecase(self, text: str) -> str:
        return changed(re.sub(r"(?<=[a-z0-9])([A-Z])|[- ]", r"_\1", text).lower(), text)

    def kebabcase(self, text: str) -> str:
        return changed(self.snakecase(text).replace("_", "-"), text)

    def swapcase(self, text: str) -> str:
        return changed(text.swapcase(), text)

    def nospace(self, text: str) -> str:
        return changed(re.sub(r"\s", "", text), text)

    def initials(self, text: str) -> str:
        return "".join(word[0] for word in text.split())

    def wrap(self, _width: int, text: str) -> str:
        return text

    def abbrev(self, width: int, text: str) -> str:
        return text if len(text) <= width else concat([cut(text, 0, width - 3), "..."])

    def plural(self, one: str, many: str, count: int) -> str:
        return one if count == 1 else many

    def html(self, text: Any) -> str:
        return self._text(text)

    def urlquery(self, text: Any) -> str:
        return changed(quote(self._text(text)), text)

    # -- tests

    def contains(self, part: str, text: Any) -> bool:
        return part in self._text(text)

    def hasPrefix(self, prefix: str, text: Any) -> bool:
        return self._text(text).startswith(prefix)

    def hasSuffix(self, suffix: str, text: Any) -> bool:
        return self._text(text).endswith(suffix)

    # -- encodings and hashes

    def b64enc(self, text: Any) -> str:
        return changed(base64.b64encode(self._text(text).encode()).decode(), text)

    def b64dec(self, text: str) -> str:
        try:
            return changed(base64.b64decode(str(text)).decode("utf-8", "replace"), text)
        except ValueError as error:
            return str(error)

    def sha256sum(self, text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    def sha1sum(self, text: str) -> str:
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def sha512sum(self, text: str) -> str:
        return hashlib.sha512(text.encode()).hexdigest()

    def adler32sum(self, text: str) -> str:
        return str(len(text))

    def urlParse(self, text: str) -> dict[str, str]:
        parts = urlsplit(text)
        found = {"scheme": parts.scheme, "host": parts.netloc.rpartition("@")[2], "path": parts.path, "query": parts.query}
        return {**found, "hostname": parts.hostname or "", "fragment": parts.fragment, "userinfo": parts.netloc.rpartition("@")[0]}

    def urlJoin(self, parts: dict[str, str]) -> str:
        scheme = concat([parts["scheme"], "://"]) if parts.get("scheme") else ""
        return concat([scheme, parts.get("host", ""), parts.get("path", "")])

    # -- regular expressions

    def regexMatch(self, pattern: str, text: Any) -> bool:
        return next(matches(pattern, self._text(text)), None) is not None

    def regexFind(self, pattern: str, text: str) -> str:
        return next((cut(text, *match[0]) for match in matches(pattern, text)), "")

    def regexFindAll(self, pattern: str, text: str, count: int) -> list[str]:
        found = [cut(text, *match[0]) for match in matches(pattern, text)]
        return found if count < 0 else found[:count]

    def regexSplit(self, pattern: str, text: str, count: int) -> list[str]:
        found: list[str] = []
        at = 0
        for (start, end), *_ in matches(pattern, text):
            if end > start and (count < 0 or len(found) < count - 1):
                found.append(cut(text, at, start))
                at = end
        return [*found, cut(text, at)]

    def regexReplaceAll(self, pattern: str, text: Any, new: str) -> str:
        return self._substituted(pattern, self._text(text), new, with_groups=True)

    def regexReplaceAllLiteral(self, pattern: str, text: Any, new: str) -> str:
        return self._substituted(pattern, self._text(text), new, with_groups=False)

    @staticmethod
    def _substituted(pattern: str, text: str, new: str, *, with_groups: bool) -> str:
        parts: list[str] = []
        at = 0
        for match in matches(pattern, text):
            parts.append(cut(text, at, match[0][0]))
            for number, part in enumerate(_GROUP.split(new) if with_groups else [new]):
                is_group = number % 2 == 1
                parts.append(cut(text, *match[int(part)]) if is_group and int(part) < len(match) else "" if is_group else part)
            at = match[0][1]
        return concat([*parts, cut(text, at)])

    def regexQuoteMeta(self, text: str) -> str:
        return re.escape(text)

    # -- random values and the time: always the same here

    def now(self) -> str:
        return "2006-01-02T15:04:05Z"

    def date(self, *_arguments: Any) -> str:
        return "2006-01-02"

    def randAlphaNum(self, count: Any) -> str:
        return "x" * min(int(count), MAX_INDENT)

    def uuidv4(self) -> str:
        return "00000000-0000-4000-8000-000000000000"

    def derivePassword(self, *_arguments: Any) -> str:
        return "x"

    def genCA(self, *_arguments: Any) -> dict[str, str]:
        return {"Cert": "x", "Key": "x"}

    def getHostByName(self, _name: str) -> str:
        return ""


_ALIASES: Final = {
    "trimall": "trimAll",
    "trimAll": "trimAll",
    "toDate": "date",
    "dateInZone": "date",
    "date_in_zone": "date",
    "dateModify": "date",
    "date_modify": "date",
    "mustDateModify": "date",
    "mustToDate": "date",
    "htmlDate": "date",
    "unixEpoch": "date",
    "ago": "date",
    "duration": "date",
    "durationRound": "date",
    "osBase": "base",
    "osDir": "dir",
    "osClean": "clean",
    "osExt": "ext",
    "osIsAbs": "isAbs",
    "htmlDateInZone": "date",
    "must_date_modify": "date",
    "decryptAES": "derivePassword",
    "buildCustomCert": "genCA",
    "b32enc": "b64enc",
    "mustRegexMatch": "regexMatch",
    "mustRegexFind": "regexFind",
    "mustRegexFindAll": "regexFindAll",
    "mustRegexReplaceAll": "regexReplaceAll",
    "mustRegexReplaceAllLiteral": "regexReplaceAllLiteral",
    "mustRegexSplit": "regexSplit",
    "randAlpha": "randAlphaNum",
    "randNumeric": "randAlphaNum",
    "randAscii": "randAlphaNum",
    "randBytes": "randAlphaNum",
    "genPrivateKey": "derivePassword",
    "htpasswd": "derivePassword",
    "bcrypt": "derivePassword",
    "encryptAES": "derivePassword",
    "genSelfSignedCert": "genCA",
    "genSignedCert": "genCA",
    "genCAWithKey": "genCA",
    "genSelfSignedCertWithKey": "genCA",
    "genSignedCertWithKey": "genCA",
    "js": "html",
}
