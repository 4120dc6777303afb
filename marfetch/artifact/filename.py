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

# What git itself refuses (`is_ntfs_dotgit`, `is_hfs_dotgit`), and what other file systems take for `.git` when they fold case.
_GIT: Final = re.compile(r"(?:\.git|git~[0-9]+)[. ]*(?::.*)?", re.DOTALL)
_IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode, Default_Ignorable_Code_Point: file systems that fold case leave these out when they compare names."""

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
    for part in title.split("/"):
        if (rule := _refused_part(part)) is not None:
            raise refuse(rule)
    return title


def _refused_part(part: str) -> str | None:
    """The rule that a part of a title breaks."""
    if part in ("", ".", ".."):
        return "a part of it is empty, `.` or `..`"
    if is_git(part):
        return "it leads into `.git`, and git runs what is there"
    if any(mark in part for mark in '<>:"|?*'):
        return 'it holds one of `<>:"|?*`'
    if part[-1] in ". " or part[0] == " ":
        return "a part of it begins with a space, or ends in a space or a dot"
    if _RESERVED.fullmatch(part):
        return "it is the name of a device"
    if part.lower().startswith(OWN_PREFIX):
        return f"names that begin with `{OWN_PREFIX}` are those of unfinished files"
    return None


def is_git(part: str) -> bool:
    """Return whether some file system takes a part of a path for `.git`."""
    # A backslash separates parts on Windows, and what follows a colon names a stream of the same file.
    pieces = (unicodedata.normalize("NFKC", _IGNORABLE.sub("", piece)).casefold() for piece in re.split(r"[\\/]", part))
    return any(_GIT.fullmatch(piece) for piece in pieces)


def same_name(name: str) -> str:
    """What two names have in common that some file system takes for one: case folded and in normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
