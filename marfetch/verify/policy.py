"""Parses trust policies in notation's format, and checks notation's rules (trust-store-trust-policy, "Trust Policy", version 1.0)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NoReturn

from ..document import Json, parse_json
from ..errors import Error, InputError
from .names import DistinguishedNameError, covers, parse_name


class Check(StrEnum):
    """The checks of the Notary Project, in the order they run (trust-store-trust-policy, "Signature Verification details")."""

    INTEGRITY = "integrity"
    AUTHENTICITY = "authenticity"
    EXPIRY = "expiry"
    AUTHENTIC_TIMESTAMP = "authenticTimestamp"
    REVOCATION = "revocation"


class Action(StrEnum):
    """What to do if a check fails: refuse the artifact, warn, or skip the check."""

    ENFORCE = "enforce"
    LOG = "log"
    SKIP = "skip"


STORE_TYPES: Final = ("ca", "signingAuthority", "tsa")
STORE_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]+")
LEVELS: Final[Mapping[str, Mapping[Check, Action]]] = {
    "strict": dict.fromkeys(Check, Action.ENFORCE),
    "permissive": {
        **dict.fromkeys(Check, Action.LOG),
        Check.INTEGRITY: Action.ENFORCE,
        Check.AUTHENTICITY: Action.ENFORCE,
    },
    "audit": {**dict.fromkeys(Check, Action.LOG), Check.INTEGRITY: Action.ENFORCE},
    "skip": dict.fromkeys(Check, Action.SKIP),
}
SUBJECT: Final = "x509.subject"

_HOST = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_SCOPE: Final = re.compile(
    rf"{_HOST}(?:\.{_HOST})*(?::[0-9]+)?/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)
_KNOWN: Final = frozenset(("name", "registryScopes", "signatureVerification", "trustStores", "trustedIdentities"))
_KNOWN_VERIFICATION: Final = frozenset(("level", "override", "verifyTimestamp"))


@dataclass(frozen=True, slots=True)
class StoreName:
    """The type and name of a trust store."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of a trust policy.

    Attributes:
        scopes: the repositories that the statement covers, each with its registry; or only `*`, for all repositories.
        level: the verification level, a key of `LEVELS`.
        actions: what to do if a check fails.
        stores: the trust stores.
        identities: the trusted distinguished names; None to trust any signer with a trusted root.
        timestamps_always: whether a signature always needs a timestamp, not only if certificates have expired. Without a `tsa` store, this
            has no effect.
        warnings: problems in the statement that marfetch and notation accept.
    """

    name: str
    scopes: tuple[str, ...]
    level: str
    actions: Mapping[Check, Action]
    stores: tuple[StoreName, ...] = ()
    identities: tuple[Mapping[str, str], ...] | None = ()
    timestamps_always: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def is_skip(self) -> bool:
        """Whether the statement skips all checks."""
        return self.level == "skip"

    def stores_of(self, kind: str) -> tuple[StoreName, ...]:
        """Return the trust stores of one type, without duplicates."""
        return tuple(dict.fromkeys(store for store in self.stores if store.kind == kind))


@dataclass(frozen=True, slots=True)
class Policy:
    """A trust policy document.

    Attributes:
        path: the path of the document, for messages.
        warnings: problems in the document that marfetch and notation accept.
    """

    statements: tuple[Statement, ...]
    path: str = ""
    warnings: tuple[str, ...] = field(default=())

    def statement(self, repository: str) -> Statement:
        """Return the statement that names a repository, or else the statement for `*`.

        Args:
            repository: the repository with its registry.

        Raises:
            InputError: `NO_APPLICABLE_POLICY`: no statement covers the repository.
        """
        for scope in (repository, "*"):
            for statement in self.statements:
                if scope in statement.scopes:
                    return statement
        raise InputError(
            f"no statement of the trust policy `{self.path}` covers `{repository}`",
            code="NO_APPLICABLE_POLICY",
            hint=f"add `{repository}` to the `registryScopes` of a statement; globs are not supported, except a single `*` for everything",
            path=self.path,
            repository=repository,
        )


def parse_policy(data: bytes, path: str) -> Policy:
    """Parse a trust policy and check its rules.

    Args:
        path: the path of the document, for messages.

    Raises:
        InputError: `POLICY_INVALID`. The message names the statement and the rule.
    """
    reader = _Reader(path)
    try:
        document = parse_json(data, f"the trust policy `{path}`")
    except Error as error:
        raise InputError(error.message, code="POLICY_INVALID", path=path) from error
    if not isinstance(document, dict):
        reader.fail("it is not an object")
    version = document.get("version")
    if version != "1.0":
        reader.fail(f"`version` is {_shown(version)}, not `1.0`")
    listed = document.get("trustPolicies")
    if not isinstance(listed, list) or not listed:
        reader.fail("`trustPolicies` has no statement")
    warnings = [
        f"`{name}` in the trust policy is not known and is ignored" for name in sorted(document.keys() - {"version", "trustPolicies"})
    ]
    statements = tuple(reader.statement(one) for one in listed)
    names: set[str] = set()
    scopes: set[str] = set()
    for statement in statements:
        if statement.name in names:
            reader.fail(f"two statements have the name `{statement.name}`")
        names.add(statement.name)
        for scope in statement.scopes:
            if scope in scopes:
                reader.fail(f"the scope `{scope}` appears twice; only one statement may apply to a repository")
            scopes.add(scope)
    return Policy(statements, path, tuple(warnings))


def _shown(value: Json) -> str:
    return "missing" if value is None else f"`{str(value)[:80]}`"


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path

    def fail(self, reason: str, statement: str | None = None) -> NoReturn:
        where = f", statement `{statement[:80]}`" if statement else ""
        raise InputError(f"the trust policy `{self._path}`{where} is not valid: {reason}", code="POLICY_INVALID", path=self._path)

    def statement(self, value: Json) -> Statement:
        if not isinstance(value, dict):
            self.fail("a statement is not an object")
        name = value.get("name")
        if not isinstance(name, str) or not name:
            self.fail("a statement has no name")
        verification = value.get("signatureVerification")
        if not isinstance(verification, dict):
            self.fail("`signatureVerification` is missing", name)
        level, actions = self._level(verification, name)
        always = verification.get("verifyTimestamp") or "always"
        if always not in ("always", "afterCertExpiry"):
            self.fail(f"`verifyTimestamp` is {_shown(always)}, neither `always` nor `afterCertExpiry`", name)
        scopes = self._scopes(value, name)
        stores = self._texts(value, "trustStores", name)
        identities = self._texts(value, "trustedIdentities", name)
        warnings = [f"`{odd}` in the statement `{name}` is not known and is ignored" for odd in sorted(value.keys() - _KNOWN)]
        warnings += [
            f"`{odd}` in the statement `{name}` is not known and is ignored" for odd in sorted(verification.keys() - _KNOWN_VERIFICATION)
        ]
        if level == "skip":
            if stores or identities:
                self.fail("the level is `skip`, so `trustStores` and `trustedIdentities` must be missing or empty", name)
            if "*" in scopes:
                warnings.append(f"the statement `{name}` skips the verification of everything (level `skip`, scope `*`)")
            return Statement(name, scopes, level, actions, warnings=tuple(warnings))
        if not stores or not identities:
            self.fail("`trustStores` and `trustedIdentities` are both needed", name)
        parsed = tuple(self._store(store, name) for store in stores)
        known = self._identities(identities, name, warnings)
        return Statement(name, scopes, level, actions, parsed, known, always == "always", tuple(warnings))

    def _level(self, verification: dict[str, Json], name: str) -> tuple[str, Mapping[Check, Action]]:
        level = verification.get("level")
        if not isinstance(level, str) or level not in LEVELS:
            self.fail(f"the level is {_shown(level)}, not one of {', '.join(LEVELS)}", name)
        actions = dict(LEVELS[level])
        override = verification.get("override") or {}
        if not isinstance(override, dict):
            self.fail("`override` is not an object", name)
        if override and level == "skip":
            self.fail("the level `skip` cannot be combined with `override`", name)
        for check, action in override.items():
            if check not in set(Check) or check == Check.INTEGRITY:
                self.fail(f"`{check[:80]}` cannot be overridden", name)
            if not isinstance(action, str) or action not in set(Action) or (action == Action.SKIP and check != Check.REVOCATION):
                self.fail(f"`{check}` cannot be overridden with {_shown(action)}", name)
            actions[Check(check)] = Action(action)
        return level, actions

    def _scopes(self, value: dict[str, Json], name: str) -> tuple[str, ...]:
        scopes = self._texts(value, "registryScopes", name)
        if not scopes:
            self.fail("`registryScopes` is empty", name)
        if "*" in scopes and len(scopes) > 1:
            self.fail("the scope `*` cannot be combined with other scopes", name)
        for scope in scopes:
            if scope != "*" and not _SCOPE.fullmatch(scope):
                self.fail(f"the scope `{scope[:120]}` is not a `registry/repository` (lower case, no tag, no `*`)", name)
        return scopes

    def _texts(self, value: dict[str, Json], key: str, name: str) -> tuple[str, ...]:
        found: Any = value.get(key) or []
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            self.fail(f"`{key}` is not an array of strings", name)
        return tuple(found)

    def _store(self, text: str, name: str) -> StoreName:
        kind, colon, store = text.partition(":")
        if not colon or kind not in STORE_TYPES or not STORE_NAME.fullmatch(store):
            self.fail(f"the trust store `{text[:120]}` is not a `type:name` with one of the types {', '.join(STORE_TYPES)}", name)
        return StoreName(kind, store)

    def _identities(self, texts: Sequence[str], name: str, warnings: list[str]) -> tuple[Mapping[str, str], ...] | None:
        if "*" in texts:
            if len(texts) > 1:
                self.fail("the identity `*` cannot be combined with other identities", name)
            return None
        found: list[Mapping[str, str]] = []
        for text in texts:
            prefix, colon, value = text.partition(":")
            if not colon:
                self.fail(f"the identity `{text[:120]}` has no prefix such as `{SUBJECT}:`", name)
            if prefix != SUBJECT:
                warnings.append(f"the identity `{text[:120]}` in the statement `{name}` has an unsupported type and matches no signer")
                continue
            try:
                found.append(parse_name(value))
            except DistinguishedNameError as error:
                self.fail(f"the identity `{text[:200]}`: {error}", name)
        for at, one in enumerate(found):
            if any(covers(one, other) for place, other in enumerate(found) if place != at):
                self.fail("two identities overlap: one matches every signer that the other matches", name)
        return tuple(found)
