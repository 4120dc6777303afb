"""Check that a publisher's title is safe to use as a file name on every operating system."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ..errors import PolicyError
from ..text import IGNORABLE

MAX_TITLE_LENGTH: Final = 255
"""Maximum length in bytes of UTF-8, the limit of common file systems."""

OWN_PREFIX: Final = ".marfetch-"
"""Prefix of temporary files."""

# `.git`, and the names that NTFS or HFS+ treat as `.git`. Git refuses them too (`is_ntfs_dotgit`, `is_hfs_dotgit`).
_GIT: Final = re.compile(r"(?:\.git|git~[0-9]+)[. ]*(?::.*)?", re.DOTALL)
_IGNORABLE: Final = f"[{IGNORABLE}]"
"""Characters that case-insensitive file systems ignore when they compare names."""

_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(?:\..*)?", re.IGNORECASE)


def safe_title(title: str) -> str:
    """Return a publisher's title as a relative path, or refuse an unsafe title.

    The rules are the same on every operating system.

    Raises:
        PolicyError: `name-refused`; the error names the broken rule.
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
            raise refuse(f"it contains the invisible character U+{ord(character):04X}")
    if "\\" in title:
        raise refuse("it contains a backslash")
    if title.startswith("/"):
        raise refuse("it is an absolute path")
    if re.match(r"[A-Za-z]:", title):
        raise refuse("it starts with a drive letter")
    for part in title.split("/"):
        if (rule := _refused_part(part)) is not None:
            raise refuse(rule)
    return title


def _refused_part(part: str) -> str | None:
    """Return the rule that a component of a title breaks, or None."""
    if part in ("", ".", ".."):
        return "a path component is empty, `.` or `..`"
    if is_git(part):
        return "it is inside `.git`, where git runs files"
    if any(mark in part for mark in '<>:"|?*'):
        return 'it contains one of `<>:"|?*`'
    if part[-1] in ". " or part[0] == " ":
        return "a path component starts with a space, or ends with a space or a dot"
    if _RESERVED.fullmatch(part):
        return "it is the name of a Windows device"
    if part.lower().startswith(OWN_PREFIX):
        return f"names that start with `{OWN_PREFIX}` are reserved for temporary files"
    return None


def is_git(part: str) -> bool:
    """Return whether some file system treats a path component as `.git`."""
    if part.isascii() and "git" not in part.lower():
        return False
    # On Windows, a backslash separates path components, and `NAME:STREAM` opens a stream of the file NAME.
    pieces = (unicodedata.normalize("NFKC", re.sub(_IGNORABLE, "", piece)).casefold() for piece in re.split(r"[\\/]", part))
    return any(_GIT.fullmatch(piece) for piece in pieces)


def same_name(name: str) -> str:
    """Return a form of a name for comparisons: two names with the same form clash on some file systems."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
