"""The wanted file, `marfetch.yaml`: which artifacts a project wants, in which range, and where they go.

It is read strictly: a key that nobody knows is refused with the nearest one, and each error says line and column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from ..artifact.filename import safe_title
from ..artifact.kinds import KINDS, kinds_named
from ..artifact.payload import Choice
from ..client.resolve import Wanted
from ..constraint import Constraint
from ..document import Json, Marks, parse_yaml
from ..endpoint import Endpoint
from ..errors import Error, InputError, IntegrityError, PolicyError
from ..files import storage_error
from ..oci import Platform
from ..reference import Reference

# -- the form of a wanted file: its keys, for the reader, and as a JSON Schema for editors


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


T = TypeVar("T")

DEFAULT: Final = "marfetch.yaml"
MAX_SIZE: Final = 16 << 20
"""Bytes of a wanted file."""


@dataclass(frozen=True, slots=True)
class Item:
    """One artifact that a project wants.

    Attributes:
        name: unique in the file.
        reference: as it was written: no tag, a tag, or a digest.
        version: a range; only where the reference has neither tag nor digest.
        destination: the directory below that of the file, with `/`; `.` is that of the file itself.
        kinds, media_types, artifact_types, platform: as the options of `pull`.
        untar: whether archives are unpacked.
        referrers: globs over artifact types of what refers to it and is wanted too; empty: nothing.
        verify: whether its signatures are checked when it is locked and when it is fetched.
        line: where it stands in the file.
    """

    name: str
    reference: Reference
    version: str | None = None
    destination: str = "."
    kinds: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()
    artifact_types: tuple[str, ...] = ()
    platform: str | None = None
    untar: bool = False
    referrers: tuple[str, ...] = ()
    verify: bool = False
    line: int = field(default=0, compare=False)

    @property
    def wanted(self) -> Wanted:
        """What is to be resolved."""
        return Wanted(self.reference, self.version)

    @property
    def choice(self) -> Choice:
        """Which layers."""
        kinds = tuple(kind for text in self.kinds for kind in kinds_named(text))
        return Choice(self.media_types, self.artifact_types, kinds)

    @property
    def wanted_platform(self) -> Platform | None:
        return Platform.parse(self.platform) if self.platform else None

    def options(self) -> dict[str, Json]:
        """What beside reference and version is asked for, in the words of the file; what is not, is not there."""
        found: dict[str, Json] = {
            "destination": self.destination if self.destination != "." else None,
            "kind": list(self.kinds),
            "media-type": list(self.media_types),
            "artifact-type": list(self.artifact_types),
            "platform": self.platform,
            "untar": self.untar,
            "referrers": list(self.referrers),
            "verify": self.verify,
        }
        return {key: value for key, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Project:
    """A wanted file.

    Attributes:
        path: of the file; destinations are below its directory, and the lock stands beside it.
        endpoint: as `--endpoint`; None where it says nothing.
        items: in the order of the file.
    """

    path: Path
    items: tuple[Item, ...]
    endpoint: str | None = None

    @property
    def lock_path(self) -> Path:
        """Where the lock stands."""
        return lock_path(self.path)

    @property
    def directory(self) -> Path:
        return self.path.parent


def lock_path(path: Path) -> Path:
    """The lock beside a wanted file; always called `marfetch.lock`."""
    return path.with_name("marfetch.lock")


def read_project(path: Path) -> Project:
    """Read a wanted file.

    Raises:
        InputError: `wanted-invalid`, with line and column.
        PolicyError: `limit-passed`; `address-refused` for a reference that can hide where it leads.
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except FileNotFoundError as error:
        raise InputError(
            f"there is no wanted file `{path}`",
            code="wanted-invalid",
            hint="write one, or let `marfetch lock --from FILE…` make it out of what the project has; `--file` names another place",
            path=str(path),
        ) from error
    except OSError as error:
        raise storage_error(error, path) from error
    return parse_project(data, path)


def parse_project(data: bytes, path: Path) -> Project:
    """Read the text of a wanted file.

    Args:
        path: where it stands, for messages and for what is beside it.

    Raises:
        InputError: as `read_project`.
    """
    marks: Marks = {}
    try:
        document = parse_yaml(data, f"`{path}`", marks=marks, limit=MAX_SIZE)
    except IntegrityError as error:
        hint = "take one side of the merge" if _has_merge_markers(data) else None
        raise InputError(error.message, code="wanted-invalid", hint=hint, path=str(path)) from error
    return _Reader(path, marks).project(document)


def _has_merge_markers(data: bytes) -> bool:
    return re.search(rb"^(?:<{7}|={7}|>{7})(?: |$)", data, re.MULTILINE) is not None


class _Reader:
    """Reads the values of one file; every failure says where it stands."""

    def __init__(self, path: Path, marks: Marks) -> None:
        self._path = path
        self._marks = marks

    def fail(self, reason: str, where: tuple[str | int, ...], *, hint: str | None = None) -> NoReturn:
        line, column = self._at(where)
        raise InputError(
            f"`{self._path}`, line {line}, column {column}: {reason}",
            code="wanted-invalid",
            hint=hint,
            path=str(self._path),
            line=line,
            column=column,
        )

    def _at(self, where: tuple[str | int, ...]) -> tuple[int, int]:
        while where and where not in self._marks:
            where = where[:-1]
        mark = self._marks.get(where)
        return (mark.line, mark.column) if mark else (1, 1)

    def project(self, document: Json) -> Project:
        if document is None:
            self.fail("the file is empty", (), hint="it begins with `schema: 1`, then `artifacts:`")
        keys = self._mapping(document, (), PROJECT_KEYS)
        schema = keys.get("schema")
        if "schema" not in keys:
            self.fail("`schema` is missing", (), hint="the file begins with `schema: 1`")
        if schema != SCHEMA or isinstance(schema, (bool, float)):
            newer = isinstance(schema, int) and not isinstance(schema, bool) and schema > SCHEMA
            hint = "it was written for a newer marfetch: update marfetch" if newer else "write `schema: 1`"
            self.fail(f"`schema` is {_shown(schema)}, not {SCHEMA}", ("schema",), hint=hint)
        endpoint = self._text(keys, "endpoint", ())
        if endpoint is not None:
            self._checked(("endpoint",), lambda: Endpoint.parse(endpoint))
        artifacts = keys.get("artifacts")
        if not isinstance(artifacts, list):
            missing = "artifacts" not in keys
            self.fail("`artifacts` is missing" if missing else f"`artifacts` is {_shown(artifacts)}, not a list", ("artifacts",))
        if len(artifacts) > MAX_ARTIFACTS:
            raise PolicyError(
                f"`{self._path}` has {len(artifacts)} artifacts, more than {MAX_ARTIFACTS}",
                code="limit-passed",
                path=str(self._path),
                rule=f"at most {MAX_ARTIFACTS} artifacts",
            )
        items = tuple(self._item(one, ("artifacts", number)) for number, one in enumerate(artifacts))
        seen: dict[str, Item] = {}
        for number, item in enumerate(items):
            other = seen.setdefault(item.name.casefold(), item)
            if other is not item:
                value = artifacts[number]
                given = isinstance(value, dict) and "name" in value
                self.fail(
                    f"the name `{item.name}` stands twice; the first is in line {other.line}",
                    ("artifacts", number, "name" if given else "reference"),
                    hint="give one of them another `name`",
                )
        return Project(self._path, items, endpoint)

    def _item(self, value: Json, where: tuple[str | int, ...]) -> Item:
        keys = self._mapping(value, where, ITEM_KEYS)
        text = self._text(keys, "reference", where)
        if text is None:
            self.fail("`reference` is missing", where, hint="name the artifact, such as `reference: aks/foo`")
        reference = self._checked((*where, "reference"), lambda: Reference.parse(text))
        version = self._version(keys, where)
        if version is not None and (reference.tag or reference.digest):
            named = "tag" if reference.tag else "digest"
            self.fail(
                f"`{reference}` has a {named}, so `version: {version}` does not go with it",
                (*where, "version"),
                hint="leave one of the two out",
            )
        name = self._text(keys, "name", where)
        if name is not None and not re.fullmatch(NAME, name):
            self.fail(f"`{name[:80]}` is not a name: at most 128 letters, digits, `.`, `_` and `-`", (*where, "name"))
        platform = self._text(keys, "platform", where)
        if platform is not None:
            self._checked((*where, "platform"), lambda: Platform.parse(platform))
        kinds = self._texts(keys, "kind", where)
        for kind in kinds:
            self._checked((*where, "kind"), lambda kind=kind: kinds_named(kind))  # type: ignore[misc]
        referrers = keys.get("referrers")
        return Item(
            name or reference.name,
            reference,
            version,
            self._destination(keys, where),
            kinds,
            self._texts(keys, "media-type", where),
            self._texts(keys, "artifact-type", where),
            platform,
            self._flag(keys, "untar", where),
            (("*",) if referrers else ()) if isinstance(referrers, bool) else self._texts(keys, "referrers", where),
            self._flag(keys, "verify", where),
            self._at(where)[0],
        )

    def _version(self, keys: dict[str, Json], where: tuple[str | int, ...]) -> str | None:
        value = keys.get("version")
        # `1.10` is a number for YAML, and its last digit is gone; as it was written it is a version.
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        text = self._marks[(*where, "version")].text if is_number else self._text(keys, "version", where)
        if text is not None:
            self._checked((*where, "version"), lambda: Constraint.parse(text))
        return text

    def _destination(self, keys: dict[str, Json], where: tuple[str | int, ...]) -> str:
        text = self._text(keys, "destination", where)
        parts = [part for part in (text or ".").removesuffix("/").split("/") if part != "."]
        if not parts:
            return "."
        place = (*where, "destination")
        if text is not None and text.startswith("/"):
            self.fail(f"`{text[:120]}` is an absolute path", place, hint="a destination is relative to this file")
        if ".." in parts:
            self.fail(f"`{str(text)[:120]}` leads out of the directory of this file", place, hint="put the file further up")
        return self._checked(place, lambda: safe_title("/".join(parts)))

    def _mapping(self, value: Json, where: tuple[str | int, ...], known: Mapping[str, object]) -> dict[str, Json]:
        if not isinstance(value, dict):
            self.fail(f"{_shown(value)} stands where keys are expected", where, hint=f"the keys are {', '.join(known)}")
        for key in value:
            if key not in known:
                self.fail(f"`{key[:80]}` is not a key", (*where, key), hint=_nearest(key, known))
            if value[key] is None:
                self.fail(f"`{key}` has no value", (*where, key), hint="give it one, or leave the key out")
        return value

    def _text(self, keys: dict[str, Json], key: str, where: tuple[str | int, ...]) -> str | None:
        value = keys.get(key)
        if key not in keys:
            return None
        if not isinstance(value, str) or not value:
            self.fail(f"`{key}` is {_shown(value)}, not a text", (*where, key), hint="put it in quotes" if value != "" else None)
        return value

    def _texts(self, keys: dict[str, Json], key: str, where: tuple[str | int, ...]) -> tuple[str, ...]:
        value = keys.get(key)
        if key not in keys:
            return ()
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str) and one for one in values):
            self.fail(f"`{key}` is {_shown(value)}, neither a text nor a list of texts", (*where, key))
        return tuple(str(one) for one in values)

    def _flag(self, keys: dict[str, Json], key: str, where: tuple[str | int, ...]) -> bool:
        value = keys.get(key, False)
        if not isinstance(value, bool):
            self.fail(f"`{key}` is {_shown(value)}, neither `true` nor `false`", (*where, key))
        return value

    def _checked(self, where: tuple[str | int, ...], read: Callable[[], T]) -> T:
        """Read a value by its own rules; what they refuse is said with its place."""
        try:
            return read()
        except Error as error:
            line, column = self._at(where)
            error.message = f"`{self._path}`, line {line}, column {column}: {error.message}"
            error.args = (error.message,)
            error.context |= {"path": str(self._path), "line": line, "column": column}
            raise


def _nearest(key: str, known: Mapping[str, object]) -> str:
    from ..client.catalog import nearest  # late: the client, only for a wrong key

    near = nearest(list(known), key.lower().replace("_", "-"), limit=1, like=50)
    return f"did you mean `{near[0]}`?" if near else f"the keys are {', '.join(known)}"


def _shown(value: Json) -> str:
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "empty" if value in (None, "") else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
