"""Texts from anywhere, made fit to be shown to people."""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import quote, unquote

_INVISIBLE: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def printable(text: str) -> str:
    """The text with every character that could steer a terminal, or reorder what is shown, written as its escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in _INVISIBLE else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def human_size(size: float) -> str:
    """A size for people: `384 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun in the right form: `1 artifact`, `2 artifacts`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


# -- what may be shown: queries, user information and credentials are secrets, wherever they stand


HIDDEN: Final = "…"
_LEAST: Final = 6
"""Characters; what is shorter stands in every text by chance, and is no secret."""
_LEAST_PASSWORD: Final = 3
_LONGEST: Final = 1500
_LONGEST_ADDRESS: Final = 300
_QUERY: Final = re.compile(r'(\?|%3[Ff])[^\s"<>`]+')
_USER: Final = re.compile(r"(?<=//)[^\s`]*@(?!sha(?:256|512):)")
_CREDENTIAL: Final = re.compile(r"(?i)\b(sig|token|password|authorization|bearer|basic)\b(=|: ?| )(?=\S*[0-9%/+=])[^\s`&,;]+")
_ADDRESS: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)?(?P<authority>[^/]*)(?P<path>[^?#]*)", re.DOTALL)


def redacted(url: str) -> str:
    """An address as it may be shown: without user information and query, and not endless."""
    match = _ADDRESS.match(url)
    assert match is not None, "every text fits"
    if "@" in re.split(r"[?#\s]", match["path"], maxsplit=1)[0]:
        # A password with a `/` in it, not encoded, looks like a path; an `@` that belongs to a path only hides it too.
        rest = match["path"].rpartition("@")[2]
        if not rest.startswith(("sha256:", "sha512:")):
            return f"{match['scheme'] or ''}{HIDDEN}{'/' if '/' in rest else ''}"[:_LONGEST_ADDRESS]
    authority, path = match["authority"], match["path"]
    if re.search(r"[?#]", authority):
        # What stands behind may be a query or, with an `@`, still user information; neither is shown.
        authority, path = HIDDEN if "@" in authority else re.split(r"[?#]", authority, maxsplit=1)[0], ""
    return f"{match['scheme'] or ''}{authority.rpartition('@')[2]}{path}"[:_LONGEST_ADDRESS]


def typed(reference: str) -> str:
    """A reference as it was typed, fit to be shown: it may be an address."""
    return redacted(reference) if "://" in reference else reference[:_LONGEST_ADDRESS]


def hidden(text: str, sent: tuple[str, ...] = ()) -> str:
    """A text of a server without secrets: some repeat the address with its signed query, or the credentials, in an error.

    Args:
        sent: `sent_values`, hidden however they are encoded in the text.
    """
    forms = {form for value in sent for form in _forms(value)}
    if forms:
        # The longest first: a value may begin with another one.
        pattern = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        text = re.sub(pattern, HIDDEN, text, flags=re.IGNORECASE)
    text = _QUERY.sub(rf"\1{HIDDEN}", _USER.sub("", text))
    return _CREDENTIAL.sub(rf"\1\2{HIDDEN}", text)


def shareable(text: str, home: str = "") -> str:
    """A text that can be pasted into a ticket: without secrets, control characters and the home directory.

    Args:
        home: the home directory of the user, where it is known.
    """
    text = hidden(text).replace(f"?{HIDDEN}", "")
    if len(home) > 1:
        text = text.replace(home, "~")
    return printable(text)[:_LONGEST]


def sent_values(target: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """What went out and is nobody's business: the values of the query, and the credentials as they are, decoded, and the password."""
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
        yield html.escape(form)
