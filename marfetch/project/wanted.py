"""The project file, `marfetch.yaml`: the artifacts of a project, their version ranges and destinations.

Parsing is strict: an unknown key is an error with a "did you mean" hint. Every error has a line and a column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from ..artifact.filename import safe_title
from ..artifact.kinds import KINDS, kinds_named
from ..artifact.payload import Choice
from ..client.age import minimum_age
from ..client.catalog import nearest
from ..client.resolve import Wanted
from ..constraint import Constraint
from ..document import Json, Marks, parse_yaml
from ..endpoint import Endpoint
from ..errors import Error, InputError, IntegrityError, PolicyError
from ..files import storage_error
from ..oci import Platform
from ..reference import Reference
from ..text import counted
from ..verify.gate import cool_down
from .forms.places import QUOTES, quotes_hint

# -- the keys of the project file, and its JSON Schema for editors


SCHEMA: Final = 1
MAX_ARTIFACTS: Final = 100_000
NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
SCHEMA_ADDRESS: Final = "https://raw.githubusercontent.com/marfetch/marfetch/main/docs/reference/marfetch.schema.json"

_MIN_AGE: Final[Mapping[str, Any]] = {
    "type": "string",
    "pattern": "^[0-9]+[mhdw]$",
    "description": "Skip versions younger than this, such as 7d: a number with m, h, d or w.",
}
_TEXTS: Final[Mapping[str, Any]] = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}]
}
ITEM_KEYS: Final[Mapping[str, Mapping[str, Any]]] = {
    "reference": {
        "type": "string",
        "minLength": 1,
        "description": "The artifact, with or without a tag or digest, such as application-lb/charts/alb-controller.",
    },
    "version": {
        "type": ["string", "number"],
        "description": "A version range as in Helm, such as ^1.7, for a reference without tag and digest. Default: the newest release.",
    },
    "name": {"type": "string", "pattern": f"^{NAME}$", "description": "Unique in the file. Default: the last part of the repository."},
    "destination": {"type": "string", "default": ".", "description": "A directory, relative to this file."},
    "kind": {**_TEXTS, "description": "Require one of these kinds: " + ", ".join(kind.name for kind in KINDS) + ", sbom."},
    "media-type": {**_TEXTS, "description": "Fetch only layers whose media type matches one of these globs."},
    "artifact-type": {**_TEXTS, "description": "Require an artifact type that matches one of these globs."},
    "platform": {"type": "string", "description": "Platform to pick from a multi-platform index, such as linux/amd64."},
    "untar": {"type": "boolean", "default": False, "description": "Unpack charts and other tar archives into directories."},
    "referrers": {
        "anyOf": [{"type": "boolean"}, *_TEXTS["anyOf"]],
        "default": False,
        "description": "Fetch referrers too: true for all, or globs over artifact types.",
    },
    "verify": {"type": "boolean", "default": False, "description": "Check the signatures before the artifact is locked or fetched."},
    "images": {
        "anyOf": [{"type": "boolean"}, *_TEXTS["anyOf"]],
        "default": False,
        "description": "Lock and bundle the container images that the chart names: true for all, or globs over image references.",
    },
    "platforms": {
        **_TEXTS,
        "description": "Bundle only these platforms of multi-platform images, such as linux/amd64. Default: all platforms.",
    },
    "min-age": {**_MIN_AGE, "description": _MIN_AGE["description"] + " Default: the `min-age` of the file; 0d turns it off."},
}
PROJECT_KEYS: Final[Mapping[str, Mapping[str, Any]]] = {
    "schema": {"const": SCHEMA, "description": "The format version of this file."},
    "endpoint": {"type": "string", "description": "The registry, as in --endpoint: global, china, or your own as https://host[:port]."},
    "min-age": _MIN_AGE,
    "artifacts": {"type": "array", "maxItems": MAX_ARTIFACTS, "description": "The artifacts of the project."},
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the project file."""
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
        "title": "marfetch.yaml: the artifacts of a project from the Microsoft Artifact Registry",
        "type": "object",
        "additionalProperties": False,
        "required": ["schema", "artifacts"],
        "properties": properties,
    }


T = TypeVar("T")

DEFAULT: Final = "marfetch.yaml"
MAX_SIZE: Final = 16 << 20
"""The maximum size of a project file in bytes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One artifact in the project file.

    Attributes:
        name: the item's name, unique in the file.
        reference: the reference as written, with or without a tag or digest.
        version: the version range; None for the newest release, or if the reference has a tag or digest.
        destination: the directory relative to the project file, with `/` as separator.
        kinds, media_types, artifact_types, platform: the same as the options of `pull`.
        untar: whether to unpack archives.
        referrers: globs for the artifact types of the referrers to fetch; empty to fetch no referrers.
        verify: whether to check signatures before locking and fetching.
        images: globs for the images of a chart to lock; empty to lock no images.
        platforms: the platforms of these images to bundle; empty for all platforms.
        min_age: the minimum age of a version that is not locked yet, such as `7d`; None for no minimum.
        line: the item's line in the project file.
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
    images: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    min_age: str | None = None
    line: int = field(default=0, compare=False)

    @property
    def wanted(self) -> Wanted:
        """The reference and range to resolve."""
        return Wanted(self.reference, self.version, choice=self.choice, cool_down=cool_down(self.min_age))

    @property
    def choice(self) -> Choice:
        """The filters for kinds, artifact types and layers."""
        return Choice(self.media_types, self.artifact_types, kinds_named(*self.kinds))

    @property
    def wanted_platform(self) -> Platform | None:
        return Platform.parse(self.platform) if self.platform else None

    def options(self) -> dict[str, Json]:
        """Return the keys that differ from their default, as in the file. `name` and the keys that choose the version are left out."""
        found: dict[str, Json] = {
            "destination": self.destination if self.destination != "." else None,
            "kind": list(self.kinds),
            "media-type": list(self.media_types),
            "artifact-type": list(self.artifact_types),
            "platform": self.platform,
            "untar": self.untar,
            "referrers": list(self.referrers),
            "verify": self.verify,
            "images": list(self.images),
            "platforms": list(self.platforms),
        }
        return {key: value for key, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Project:
    """The content of a project file.

    Attributes:
        path: the path of the project file. Destinations and the lock file are relative to its directory.
        endpoint: the registry, with the same values as `--endpoint`; None if the file has no `endpoint`.
        items: the artifacts, in the order of the file.
    """

    path: Path
    items: tuple[Item, ...]
    endpoint: str | None = None

    @property
    def lock_path(self) -> Path:
        return lock_path(self.path)

    @property
    def directory(self) -> Path:
        return self.path.parent

    def with_min_age(self, text: str | None) -> Project:
        """Return the project with the minimum age that `--min-age` states, which applies to all items; None to keep that of the file.

        Raises:
            InputError: `usage`.
        """
        if text is None:
            return self
        minimum_age(text)
        return replace(self, items=tuple(replace(item, min_age=text) for item in self.items))


def lock_path(path: Path) -> Path:
    """Return the path of the lock file: `marfetch.lock` next to the project file."""
    return path.with_name("marfetch.lock")


def read_project(path: Path) -> Project:
    """Read a project file.

    Raises:
        InputError: `wanted-invalid`. The error has the line and column.
        PolicyError: `limit-passed`; `address-refused` for a reference with a misleading host.
        StorageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except FileNotFoundError as error:
        raise InputError(
            f"there is no project file `{path}`",
            code="wanted-invalid",
            hint="write one, generate it with `marfetch lock --from FILE…`, or name another with `--file`",
            path=str(path),
        ) from error
    except OSError as error:
        raise storage_error(error, path) from error
    return parse_project(data, path)


def parse_project(data: bytes, path: Path) -> Project:
    """Parse the bytes of a project file.

    Args:
        path: the path of the file. It appears in messages; its directory has the lock file and the destinations.

    Raises:
        Error: the same errors as `read_project`, except `StorageError`.
    """
    marks: Marks = {}
    try:
        document = parse_yaml(data, f"`{path}`", marks=marks, limit=MAX_SIZE)
    except IntegrityError as error:
        hint = "resolve the merge conflict" if _has_merge_markers(data) else quotes_hint(data.decode("utf-8", "replace"), error.message)
        raise InputError(error.message, code="wanted-invalid", hint=hint, path=str(path)) from error
    return _Reader(path, marks, data.decode("utf-8").removeprefix("\ufeff")).project(document)


def _has_merge_markers(data: bytes) -> bool:
    return re.search(rb"^(?:<{7}|={7}|>{7})(?: |$)", data, re.MULTILINE) is not None


class _Reader:
    """Parses one project file. Every error has a line and a column."""

    def __init__(self, path: Path, marks: Marks, text: str) -> None:
        self._path = path
        self._marks = marks
        self._text_of_file = text

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
            self.fail("the file is empty", (), hint="start with `schema: 1`, then `artifacts:`")
        keys = self._mapping(document, (), PROJECT_KEYS)
        schema = keys.get("schema")
        if "schema" not in keys:
            self.fail("`schema` is missing", (), hint="start the file with `schema: 1`")
        if schema != SCHEMA or isinstance(schema, (bool, float)):
            newer = isinstance(schema, int) and not isinstance(schema, bool) and schema > SCHEMA
            hint = "the file needs a newer marfetch: update marfetch" if newer else "write `schema: 1`"
            self.fail(f"`schema` is {_shown(schema)}, not {SCHEMA}", ("schema",), hint=hint)
        endpoint = self._text(keys, "endpoint", ())
        if endpoint is not None:
            self._checked(("endpoint",), lambda: Endpoint.parse(endpoint))
        min_age = self._min_age(keys, ())
        artifacts = keys.get("artifacts")
        if not isinstance(artifacts, list):
            missing = "artifacts" not in keys
            self.fail("`artifacts` is missing" if missing else f"`artifacts` is {_shown(artifacts)}, not a list", ("artifacts",))
        if len(artifacts) > MAX_ARTIFACTS:
            raise PolicyError(
                f"`{self._path}` has {counted(len(artifacts), 'artifact')}, more than {MAX_ARTIFACTS}",
                code="limit-passed",
                path=str(self._path),
                rule=f"at most {MAX_ARTIFACTS} artifacts",
            )
        items = tuple(self._item(one, ("artifacts", number), min_age) for number, one in enumerate(artifacts))
        seen: dict[str, Item] = {}
        for number, item in enumerate(items):
            other = seen.setdefault(item.name.casefold(), item)
            if other is not item:
                value = artifacts[number]
                given = isinstance(value, dict) and "name" in value
                self.fail(
                    f"the name `{item.name}` appears twice; the first is in line {other.line}",
                    ("artifacts", number, "name" if given else "reference"),
                    hint="give one of them another `name`",
                )
        return Project(self._path, items, endpoint)

    def _item(self, value: Json, where: tuple[str | int, ...], min_age: str | None) -> Item:
        keys = self._mapping(value, where, ITEM_KEYS)
        text = self._text(keys, "reference", where)
        if text is None:
            self.fail("`reference` is missing", where, hint="name the artifact, such as `reference: application-lb/charts/alb-controller`")
        reference = self._checked((*where, "reference"), lambda: Reference.parse(text))
        version = self._version(keys, where)
        if version is not None and (reference.tag or reference.digest):
            named = "tag" if reference.tag else "digest"
            self.fail(
                f"`{reference}` has a {named}, so it cannot have `version: {version}`",
                (*where, "version"),
                hint="remove one of the two",
            )
        name = self._text(keys, "name", where)
        if name is not None and not re.fullmatch(NAME, name):
            self.fail(f"`{name[:80]}` is not a valid name: use at most 128 letters, digits, `.`, `_` and `-`", (*where, "name"))
        platform = self._text(keys, "platform", where)
        if platform is not None:
            self._checked((*where, "platform"), lambda: Platform.parse(platform))
        kinds = self._texts(keys, "kind", where)
        for kind in kinds:
            self._checked((*where, "kind"), lambda kind=kind: kinds_named(kind))  # type: ignore[misc]
        platforms = self._texts(keys, "platforms", where)
        for one in platforms:
            self._checked((*where, "platforms"), lambda one=one: Platform.parse(one))  # type: ignore[misc]
        if platforms and "images" not in keys:
            self.fail("`platforms` needs `images`", (*where, "platforms"), hint="add `images: true`, or use `platform` for the artifact")
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
            self._globs(keys, "referrers", where),
            self._flag(keys, "verify", where),
            self._globs(keys, "images", where),
            platforms,
            self._min_age(keys, where) or min_age,
            self._at(where)[0],
        )

    def _version(self, keys: dict[str, Json], where: tuple[str | int, ...]) -> str | None:
        value = keys.get("version")
        # Use the text as written: YAML reads `1.10` as the number 1.1.
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        try:
            text = self._marks[(*where, "version")].text if is_number else self._text(keys, "version", where)
            if text is not None:
                self._checked((*where, "version"), lambda: Constraint.parse(text))
        except InputError as error:
            start = self._marks[(*where, "version")].start
            if isinstance(value, str) and self._text_of_file[start : start + 1] in (">", "|"):
                error.hint = QUOTES  # YAML reads an unquoted `>1` as the start of a block
            raise
        return text

    def _min_age(self, keys: dict[str, Json], where: tuple[str | int, ...]) -> str | None:
        text = str(keys["min-age"]) if "min-age" in keys else None
        if text is not None:
            self._checked((*where, "min-age"), lambda: minimum_age(text, "min-age"))
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
            self.fail(f"`{str(text)[:120]}` leads out of the directory of this file", place, hint="move the file to a parent directory")
        return self._checked(place, lambda: safe_title("/".join(parts)))

    def _mapping(self, value: Json, where: tuple[str | int, ...], known: Mapping[str, object]) -> dict[str, Json]:
        if not isinstance(value, dict):
            self.fail(f"expected a mapping with keys, not {_shown(value)}", where, hint=f"the keys are {', '.join(known)}")
        for key in value:
            if key not in known:
                self.fail(f"`{key[:80]}` is not a known key", (*where, key), hint=_nearest(key, known))
            if value[key] is None:
                self.fail(f"`{key}` has no value", (*where, key), hint="add a value, or remove the key")
        return value

    def _text(self, keys: dict[str, Json], key: str, where: tuple[str | int, ...]) -> str | None:
        value = keys.get(key)
        if key not in keys:
            return None
        if not isinstance(value, str) or not value:
            self.fail(f"`{key}` is {_shown(value)}, not a string", (*where, key), hint="put it in quotes" if value != "" else None)
        return value

    def _texts(self, keys: dict[str, Json], key: str, where: tuple[str | int, ...]) -> tuple[str, ...]:
        value = keys.get(key)
        if key not in keys:
            return ()
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str) and one for one in values):
            self.fail(f"`{key}` is {_shown(value)}, neither a string nor a list of strings", (*where, key))
        return tuple(str(one) for one in values)

    def _globs(self, keys: dict[str, Json], key: str, where: tuple[str | int, ...]) -> tuple[str, ...]:
        """Read a flag or globs. True means all."""
        value = keys.get(key)
        return (("*",) if value else ()) if isinstance(value, bool) else self._texts(keys, key, where)

    def _flag(self, keys: dict[str, Json], key: str, where: tuple[str | int, ...]) -> bool:
        value = keys.get(key, False)
        if not isinstance(value, bool):
            self.fail(f"`{key}` is {_shown(value)}, neither `true` nor `false`", (*where, key))
        return value

    def _checked(self, where: tuple[str | int, ...], read: Callable[[], T]) -> T:
        """Call `read` to parse a value. If it fails, add the line and column to the error."""
        try:
            return read()
        except Error as error:
            line, column = self._at(where)
            error.message = f"`{self._path}`, line {line}, column {column}: {error.message}"
            error.args = (error.message,)
            error.context |= {"path": str(self._path), "line": line, "column": column}
            raise


def _nearest(key: str, known: Mapping[str, object]) -> str:
    near = nearest(list(known), key.lower().replace("_", "-"), limit=1, like=50)
    return f"did you mean `{near[0]}`?" if near else f"the keys are {', '.join(known)}"


def _shown(value: Json) -> str:
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "empty" if value in (None, "") else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
