"""The parameters and outputs of a Bicep module, from its compiled ARM template."""

from __future__ import annotations

from typing import Final, NamedTuple, NoReturn
from urllib.parse import unquote

from ..document import Json, parse_json
from ..errors import IntegrityError

_DEFINITIONS: Final = "#/definitions/"
_LONGEST_CHAIN: Final = 64
"""Maximum number of references from definition to definition; a longer chain is treated as circular."""


class ModuleParameter(NamedTuple):
    """A parameter of a module.

    Attributes:
        type: an ARM type such as `string`, or the name of a type that the module defines; empty if the template has none.
        required: whether a caller must set it, because it has no default and is not nullable.
        default: the default value, or None. An expression is a string in brackets, such as `[resourceGroup().location]`.
    """

    name: str
    type: str
    required: bool
    default: Json
    description: str | None


class ModuleOutput(NamedTuple):
    """An output of a module. `type` has the same form as in `ModuleParameter`."""

    name: str
    type: str
    description: str | None


class ModuleInterface(NamedTuple):
    """The parameters and outputs of a module, in the order of the template."""

    parameters: tuple[ModuleParameter, ...]
    outputs: tuple[ModuleOutput, ...]


def parse_template(raw: bytes, what: str) -> dict[str, Json]:
    """Parse a compiled ARM template ("Understand the structure and syntax of ARM templates"), which may begin with a byte order mark.

    Args:
        what: name of the template in messages.

    Raises:
        IntegrityError: `malformed`.
        PolicyError: `limit-passed`.
    """
    document = parse_json(raw.removeprefix(b"\xef\xbb\xbf"), what)
    if not isinstance(document, dict):
        _malformed(what, "it is not an object")
    return document


def module_interface(template: dict[str, Json], what: str) -> ModuleInterface:
    """Return the parameters and outputs of a template.

    Args:
        what: name of the template in messages.

    Raises:
        IntegrityError: `malformed`: the parameters or outputs are not objects.
    """
    types = _members(template, "definitions", what)
    parameters = tuple(
        ModuleParameter(name, _type(one), _is_required(one, types), one.get("defaultValue"), _description(one))
        for name, one in _members(template, "parameters", what).items()
    )
    outputs = tuple(ModuleOutput(name, _type(one), _description(one)) for name, one in _members(template, "outputs", what).items())
    return ModuleInterface(parameters, outputs)


def _members(template: dict[str, Json], section: str, what: str) -> dict[str, dict[str, Json]]:
    found = template.get(section)
    if found is None:
        return {}
    if not isinstance(found, dict):
        _malformed(what, f"its `{section}` are not an object")
    members: dict[str, dict[str, Json]] = {}
    for name, one in found.items():
        if not isinstance(one, dict):
            _malformed(what, f"`{name[:100]}` in its `{section}` is not an object")
        members[name] = one
    return members


def _type(one: dict[str, Json]) -> str:
    named, own = _definition(one), one.get("type")
    return named if named is not None else own if isinstance(own, str) else ""


def _definition(one: dict[str, Json]) -> str | None:
    """Return the name of the definition that an object refers to ("User-defined types"; RFC 6901, section 6)."""
    reference = one.get("$ref")
    if not isinstance(reference, str) or not reference.startswith(_DEFINITIONS):
        return None
    return unquote(reference.removeprefix(_DEFINITIONS)).replace("~1", "/").replace("~0", "~")


def _is_required(one: dict[str, Json], types: dict[str, dict[str, Json]]) -> bool:
    if "defaultValue" in one:
        return False
    for _ in range(_LONGEST_CHAIN):
        if isinstance(nullable := one.get("nullable"), bool):
            return not nullable
        named = _definition(one)
        if named is None or named not in types:
            break
        one = types[named]
    return True


def _description(one: dict[str, Json]) -> str | None:
    metadata = one.get("metadata")
    found = metadata.get("description") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def _malformed(what: str, reason: str) -> NoReturn:
    raise IntegrityError(f"{what} is malformed: {reason}", code="malformed", what=what)
