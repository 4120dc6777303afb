"""Bicep: the modules and extensions of `.bicep` and `.bicepparam` files, and the extensions of `bicepconfig.json`.

Comments and multi-line strings are left alone. Aliases such as `br/mine:` are looked up in the nearest `bicepconfig.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ...document import parse_yaml
from ...errors import Error
from ...reference import OFFICIAL_HOSTS
from .places import OFFICIAL, Found, LeftOut, Registries, Text

CONFIGURATION: Final = "bicepconfig.json"

_ARTIFACT: Final = re.compile(
    r"""(?:^|(?<=[\s}]))
    (?:module[ \t]++\w++|test[ \t]++\w++|using|extension|provider|import|from)\s++'(?P<text>br[:/](?:[^'\\\n]|\\.)*+)'""",
    re.MULTILINE | re.VERBOSE,
)
_EXTENSION: Final = re.compile(r'"(?P<text>br[:/][^"\\\n]*+)"')
_REFERENCE: Final = re.compile(r"br(?:/(?P<alias>[\w-]++))?+:(?P<path>.++)", re.DOTALL)
_SKIPPED: Final = re.compile(
    r"""(?P<kept>"(?:[^"\\\n]|\\.)*+"?+|'(?!'')(?:[^'\\\n]|\\.)*+'?+)|'''(?:[^']|'(?!''))*+(?:'''+)?+|//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?+""",
)
_PUBLIC: Final = f"{OFFICIAL_HOSTS[0]}/bicep"


def blanked(text: str) -> str:
    """Replace comments and multi-line strings by spaces. All other characters keep their position."""
    return _SKIPPED.sub(lambda match: match[0] if match["kept"] is not None else re.sub(r"[^\r\n]", " ", match[0]), text)


def aliases(text: str) -> dict[str, str]:
    """Return the aliases of registries in a `bicepconfig.json`: name → registry and path. Ignore what cannot be read."""
    try:
        value: Any = parse_yaml(blanked(text).encode("utf-8", "replace"), f"`{CONFIGURATION}`", is_lenient=True)
    except Error:
        return {}
    found: dict[str, str] = {}
    for name, one in _member(_member(value, "moduleAliases"), "br").items():
        registry, path = (one.get(key) if isinstance(one, dict) else None for key in ("registry", "modulePath"))
        if isinstance(registry, str):
            found[name] = f"{registry}/{path}" if isinstance(path, str) and path else registry
    return found


def _member(value: Any, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def find(text: str, known: Mapping[str, str], registries: Registries = OFFICIAL, *, is_configuration: bool = False) -> Iterator[Found]:
    """Find the artifacts in a Bicep file.

    Args:
        known: the aliases, see `aliases`.
        registries: the registries whose artifacts are found.
        is_configuration: whether the file is `bicepconfig.json`.
    """
    file = Text(text)
    for match in (_EXTENSION if is_configuration else _ARTIFACT).finditer(blanked(text)):
        span = file.span(match["text"], match.start("text"))
        parts = _REFERENCE.fullmatch(span.text)
        if parts is None:
            continue
        alias = parts["alias"]
        base = {"public": _PUBLIC, **known}.get(alias) if alias is not None else None
        if alias is not None and base is None:
            reason = f"left out `{span.text[:200]}`: `{alias}` is an alias of `{CONFIGURATION}`, which is missing or does not define it"
            yield LeftOut(span.line, reason, span.text[:200], "bicep")
            continue
        body = f"{base}/{parts['path']}" if base is not None else parts["path"]
        if registries.path(body) is None:
            continue
        if "${" in body:
            yield LeftOut(span.line, f"left out `{span.text[:200]}`: it contains a variable", span.text[:200], "bicep")
        else:
            yield from registries.place("bicep", span, body, None, is_tag=True)
