"""Parses and compares distinguished names in trust policies and certificates (trust-store-trust-policy, "Trusted Identities").

A name is parsed to attribute → value. The comparison of attributes and values is case-sensitive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509

REQUIRED: Final = ("C", "ST", "O")

_ATTRIBUTES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.17": "POSTALCODE",
}
"""Object identifier → attribute name. Libraries print different names for the same attribute."""

_SPECIAL: Final = ',+"\\<>;#='
_ESCAPE = re.compile(r'\\([0-9A-Fa-f]{2}|[ ,+"\\<>;#=])')


class DistinguishedNameError(ValueError):
    """The text is not a distinguished name, or an identity may not have this name."""


def parse_name(text: str) -> dict[str, str]:
    """Parse a distinguished name (RFC 4514) with the restrictions of the Notary Project.

    Raises:
        DistinguishedNameError: the text is not such a name, an attribute appears twice, a part has several attributes (`+`), a value is
            in hex (`=#`), or C, ST or O is missing.
    """
    found: dict[str, str] = {}
    for part in _split(text):
        attribute, equals, value = part.partition("=")
        attribute = attribute.strip()
        if not equals or not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+", attribute):
            raise DistinguishedNameError(f"`{part.strip()[:80]}` is not of the form `attribute=value`")
        if value.lstrip().startswith("#"):
            raise DistinguishedNameError(f"the value of `{attribute}` is in hex, which identities do not support")
        attribute = "ST" if attribute == "S" else attribute
        if attribute in found:
            raise DistinguishedNameError(f"`{attribute}` appears twice")
        found[attribute] = _unescaped(value)
    missing = [name for name in REQUIRED if not found.get(name)]
    if missing:
        raise DistinguishedNameError(f"`{missing[0]}` is missing; an identity needs at least C, ST and O")
    return found


def _split(text: str) -> list[str]:
    """Split a name into its parts, at unescaped commas and semicolons."""
    parts, begin, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "+":
            raise DistinguishedNameError("multi-valued attributes (`+`) are not supported")
        elif text[at] in ",;":
            parts.append(text[begin:at])
            begin = at + 1
        elif text[at] in '"<>':
            raise DistinguishedNameError(f"the character `{text[at]}` must be escaped")
        at += 1
    return [*parts, text[begin:]]


def _unescaped(value: str) -> str:
    value = value.lstrip(" ")
    while value.endswith(" ") and not value.endswith("\\ "):
        value = value[:-1]
    data, at = bytearray(), 0
    while at < len(value):
        if value[at] != "\\":
            data += value[at].encode("utf-8", "surrogatepass")
            at += 1
            continue
        found = _ESCAPE.match(value, at)
        if found is None:
            raise DistinguishedNameError("a backslash escapes nothing")
        escaped = found[1]
        data += bytes.fromhex(escaped) if len(escaped) == 2 else escaped.encode()
        at = found.end()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DistinguishedNameError("an escaped value is not UTF-8") from error


def subject_attributes(name: x509.Name) -> dict[str, str]:
    """Return the attributes of a certificate's subject.

    Raises:
        DistinguishedNameError: an attribute is unsupported or appears twice, so no identity can match the subject.
    """
    found: dict[str, str] = {}
    for one in name:
        attribute = _ATTRIBUTES.get(one.oid.dotted_string)
        if attribute is None:
            raise DistinguishedNameError(f"the attribute {one.oid.dotted_string} is not supported in identities")
        if attribute in found:
            raise DistinguishedNameError(f"`{attribute}` appears twice")
        found[attribute] = one.value if isinstance(one.value, str) else one.value.decode("latin-1")
    return found


def subject_text(name: x509.Name) -> str:
    """Format a certificate's subject as in a trust policy, with the last attribute first."""
    parts = []
    for one in name:
        value = one.value if isinstance(one.value, str) else one.value.hex()
        parts.append(f"{_ATTRIBUTES.get(one.oid.dotted_string, one.oid.dotted_string)}={_escaped(value)}")
    return ",".join(reversed(parts))


def _escaped(value: str) -> str:
    text = "".join(f"\\{one}" if one in _SPECIAL else one for one in value)
    if text.startswith(" "):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and len(text) > 1 else text


def covers(identity: Mapping[str, str], subject: Mapping[str, str]) -> bool:
    """Return whether the subject has every attribute of the identity with the same value."""
    return all(subject.get(name) == value for name, value in identity.items())
