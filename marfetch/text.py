"""Texts from anywhere, made fit to be shown to people."""

from __future__ import annotations

import unicodedata
from typing import Final

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
