"""Format text for people, and remove secrets and control characters from untrusted text."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import quote, unquote

_INVISIBLE: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))

IGNORABLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode, Default_Ignorable_Code_Point, as ranges of a regular expression: many programs ignore these characters in comparisons."""


def printable(text: str) -> str:
    """Escape every character that could control a terminal or reorder the displayed text."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in _INVISIBLE else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def without_controls(text: str) -> str:
    """Remove every character that could control a terminal or reorder the displayed text, except line feeds and tabs."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character for character in text if character in "\n\t" or unicodedata.category(character) not in _INVISIBLE)


def human_size(size: float) -> str:
    """Format a size in bytes, such as `384 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as `1 artifact` or `2 artifacts`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


# -- logging commands: CI runners act on text in the log of a job


_UNSEEN: Final = rf"(?:\x1b(?:\[[0-?]*[ -/]*[@-~])?|[\x00-\x08\x0e-\x1a\x7f-\x84\x86-\x9f{IGNORABLE}])*"
"""Escape sequences and invisible characters. They may vanish from between a command's characters before the runner reads it."""
_ANYWHERE: Final = rf"(?i)#({_UNSEEN})#(?={_UNSEEN}(?:v{_UNSEEN}s{_UNSEEN}o{_UNSEEN})?\[)"
_AT_START: Final = rf"((?:\A|(?<=[\n\r]))(?:[^\S\n\r]|[{IGNORABLE}]|\x1b\[[0-?]*[ -/]*[@-~])*):({_UNSEEN}):"


def without_commands(text: str) -> str:
    """Break up the logging commands of CI runners with a space.

    Azure Pipelines runs `##vso[…]` anywhere in a line, and GitHub Actions `##[…]` anywhere and `::…::` at the start of a line, after white
    space (microsoft/azure-pipelines-agent, `Command.cs`; actions/runner, `ActionCommand.cs`).
    """
    return re.sub(_AT_START, r"\1:\2 :", re.sub(_ANYWHERE, r"#\1 #", text))


def json_without_commands(document: str) -> str:
    """Escape the characters of logging commands in serialized JSON; its values stay the same."""
    return re.sub(r"(?i)##(?=(?:vso)?\[)", r"\\u0023\\u0023", document).replace("::", r"\u003a\u003a")


# -- redaction: queries, user information and credentials are secrets wherever they appear


HIDDEN: Final = "…"
_LEAST: Final = 6
"""Minimum length of a secret; shorter values occur in many texts by chance."""
_LEAST_PASSWORD: Final = 3
_LONGEST: Final = 1500
_LONGEST_ADDRESS: Final = 300
_QUERY: Final = re.compile(r'(\?|%3[Ff])[^\s"<>`]+')
_AFTER_SLASHES: Final = re.compile(r"(?<=//)[^\s`]+")
_USER: Final = re.compile(r"@(?!sha(?:256|512):)")
# The lookahead has a limit, because a server could send a text that starts a match in many places and makes the search slow.
_CREDENTIAL: Final = re.compile(
    r"(?i)\b(sig|token|password|authorization|bearer|basic)\b(=|: ?| )(?=[^\s0-9%/+=]{0,1000}[0-9%/+=])[^\s`&,;]+"
)
_ADDRESS: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)?(?P<authority>[^/]*)(?P<path>[^?#]*)", re.DOTALL)


def redacted(url: str) -> str:
    """Return a URL without user information and query, limited in length."""
    match = _ADDRESS.match(url)
    assert match is not None, "the pattern matches every text"
    if "@" in re.split(r"[?#\s]", match["path"], maxsplit=1)[0]:
        # An unencoded `/` in a password makes the password look like a path, so hide everything before an `@`, even in a real path.
        rest = match["path"].rpartition("@")[2]
        if not rest.startswith(("sha256:", "sha512:")):
            return f"{match['scheme'] or ''}{HIDDEN}{'/' if '/' in rest else ''}"[:_LONGEST_ADDRESS]
    authority, path = match["authority"], match["path"]
    if re.search(r"[?#]", authority):
        # The text that follows may be a query or, before an `@`, a part of the password. Show neither.
        authority, path = HIDDEN if "@" in authority else re.split(r"[?#]", authority, maxsplit=1)[0], ""
    return f"{match['scheme'] or ''}{authority.rpartition('@')[2]}{path}"[:_LONGEST_ADDRESS]


def typed(reference: str) -> str:
    """Return a reference as the user typed it, redacted if it is a URL."""
    return redacted(reference) if "://" in reference else reference[:_LONGEST_ADDRESS]


def hidden(text: str, sent: tuple[str, ...] = ()) -> str:
    """Remove secrets from a server's text. Some servers repeat the signed URL or the credentials in an error.

    Args:
        sent: values from `sent_values` to hide, in any encoding.
    """
    forms = {form for value in sent for form in _forms(value)}
    if forms:
        # Longest first, because one value may be the prefix of another.
        pattern = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        text = re.sub(pattern, HIDDEN, text, flags=re.IGNORECASE)
    text = _QUERY.sub(rf"\1{HIDDEN}", _AFTER_SLASHES.sub(lambda match: _USER.split(match[0])[-1], text))
    return _CREDENTIAL.sub(rf"\1\2{HIDDEN}", text)


def shareable(text: str, home: str = "") -> str:
    """Remove secrets, control characters and the home directory, so that the text can be pasted into a ticket."""
    text = hidden(text).replace(f"?{HIDDEN}", "")
    if len(home) > 1:
        text = text.replace(home, "~")
    return printable(text)[:_LONGEST]


def sent_values(target: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets of a request: the query values, and the credentials (encoded, decoded, and the password alone)."""
    query = target.partition("?")[2]
    values = [value for part in query.split("&") for value in (part, part.partition("=")[2]) if len(value) >= _LEAST]
    return (*values, *_credentials(headers.get("Authorization") or ""))


def _credentials(value: str) -> Iterator[str]:
    scheme, _, credential = value.partition(" ")
    if len(credential) < _LEAST_PASSWORD:
        return
    yield credential
    if scheme.lower() == "basic":
        with suppress(binascii.Error, UnicodeDecodeError):
            plain = base64.b64decode(credential).decode()
            yield from (one for one in (plain, plain.partition(":")[2]) if len(one) >= _LEAST_PASSWORD)


def _forms(value: str) -> Iterator[str]:
    plain = unquote(value)
    for form in (value, plain, quote(plain, safe=""), quote(value, safe="")):
        yield form
        from html import escape  # late: only a message that may contain a secret needs html

        yield escape(form)
