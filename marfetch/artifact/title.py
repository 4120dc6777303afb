"""Titles of publishers as file names: taken where they are safe on every operating system, refused where they are not."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ..errors import PolicyError

MAX_TITLE_LENGTH: Final = 255
"""Bytes of UTF-8: the longest file name that the common file systems take."""

OWN_PREFIX: Final = ".marfetch-"
"""Begins the names of files that are not finished yet."""

_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(?:\..*)?", re.IGNORECASE)


def safe_title(title: str) -> str:
    """A publisher's title as a relative path, or a refusal: the same on every operating system.

    Raises:
        PolicyError: `name-refused`, with the rule.
    """

    def refuse(rule: str) -> PolicyError:
        return PolicyError(
            f"the title {title[:120]!r} is refused as a file name: {rule}",
            code="name-refused",
            title=title[:300],
            rule=rule,
        )

    if len(title.encode("utf-8", "surrogatepass")) > MAX_TITLE_LENGTH:
        raise refuse(f"it is longer than {MAX_TITLE_LENGTH} bytes")
    for character in title:
        # Control, format (right-to-left override), surrogate and line or paragraph separator characters.
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise refuse(f"it holds the invisible character U+{ord(character):04X}")
    if "\\" in title:
        raise refuse("it holds a backslash")
    if title.startswith("/"):
        raise refuse("it is an absolute path")
    if re.match(r"[A-Za-z]:", title):
        raise refuse("it names a drive")
    parts = title.split("/")
    for part in parts:
        if part in ("", ".", ".."):
            raise refuse("a part of it is empty, `.` or `..`")
        if any(mark in part for mark in '<>:"|?*'):
            raise refuse('it holds one of `<>:"|?*`')
        if part[-1] in ". " or part[0] == " ":
            raise refuse("a part of it begins with a space, or ends in a space or a dot")
        if _RESERVED.fullmatch(part):
            raise refuse("it is the name of a device")
        if part.lower().startswith(OWN_PREFIX):
            raise refuse(f"names that begin with `{OWN_PREFIX}` are those of unfinished files")
    return title


def same_name(name: str) -> str:
    """What two names have in common that some file system takes for one: case folded and in normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
