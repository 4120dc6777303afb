"""The form of a wanted file: its keys, for the reader, and as a JSON Schema for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..artifact.kinds import KINDS

SCHEMA: Final = 1
MAX_ARTIFACTS: Final = 100_000
NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
SCHEMA_ADDRESS: Final = "https://raw.githubusercontent.com/marfetch/marfetch/main/docs/reference/marfetch.schema.json"

_TEXTS: Final[Mapping[str, Any]] = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}]
}
ITEM_KEYS: Final[Mapping[str, Mapping[str, Any]]] = {
    "reference": {
        "type": "string",
        "minLength": 1,
        "description": "The artifact: no tag, or a tag, or a digest, such as application-lb/charts/alb-controller.",
    },
    "version": {
        "type": ["string", "number"],
        "description": "A range with Helm's meaning, such as ^1.7; for a reference without tag and digest. Default: the newest release.",
    },
    "name": {"type": "string", "pattern": f"^{NAME}$", "description": "Unique in the file. Default: the last part of the repository."},
    "destination": {"type": "string", "default": ".", "description": "A directory, relative to this file."},
    "kind": {**_TEXTS, "description": "It must be of one of these kinds: " + ", ".join(kind.name for kind in KINDS) + ", sbom."},
    "media-type": {**_TEXTS, "description": "Only layers whose media type fits one of these globs."},
    "artifact-type": {**_TEXTS, "description": "Its artifact type must fit one of these globs."},
    "platform": {"type": "string", "description": "Of an index, the artifact for this platform, such as linux/amd64."},
    "untar": {"type": "boolean", "default": False, "description": "Unpack charts and other tar archives into directories."},
    "referrers": {
        "anyOf": [{"type": "boolean"}, *_TEXTS["anyOf"]],
        "default": False,
        "description": "What refers to it too: true for everything, or globs over artifact types.",
    },
    "verify": {"type": "boolean", "default": False, "description": "Check its signatures before it is used."},
}
PROJECT_KEYS: Final[Mapping[str, Mapping[str, Any]]] = {
    "schema": {"const": SCHEMA, "description": "The form of this file."},
    "endpoint": {"type": "string", "description": "global, china, or a registry of your own as https://host[:port]; as --endpoint."},
    "artifacts": {"type": "array", "maxItems": MAX_ARTIFACTS, "description": "What is wanted."},
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a wanted file, for editors."""
    item = {
        "type": "object",
        "additionalProperties": False,
        "required": ["reference"],
        "properties": {key: dict(value) for key, value in ITEM_KEYS.items()},
    }
    properties = {key: dict(value) for key, value in PROJECT_KEYS.items()}
    properties["artifacts"]["items"] = item
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ADDRESS,
        "title": "marfetch.yaml: which artifacts of the Microsoft Artifact Registry a project wants",
        "type": "object",
        "additionalProperties": False,
        "required": ["schema", "artifacts"],
        "properties": properties,
    }
