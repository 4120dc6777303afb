"""Version ranges with Helm's meaning, and the newest tag that satisfies one.

The grammar and the answers are those of Masterminds/semver v3.5 (`NewConstraint` and `Check`), which Helm 3 and 4 use;
`fixtures/constraints.jsonl` holds its answers, and `tests/oracle` asks it anew. Versions are `semver.Version` values; beyond
Helm, a tag may have a leading `v` and leading zeros in its numbers (`v2.9.0`, `0.4.023901`: both are on MAR).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn, TypeAlias

from semver import Version

from .errors import InputError

MAX_CONSTRAINT_LENGTH: Final = 512  # bytes; Masterminds/semver: MaxConstraintLen
MAX_CONSTRAINT_GROUPS: Final = 32  # alternatives between `||`; MaxConstraintGroups
MAX_VERSION_LENGTH: Final = 256  # MaxVersionLen
_MAX_NUMBER: Final = (1 << 64) - 1  # the numbers of a version are unsigned 64-bit numbers there

_SPACE = r"[\t\n\f\r ]"  # what Go's `\s` means
_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_PARTIAL = rf"v?([0-9|xX*]+)(\.[0-9|xX*]+)?(\.[0-9|xX*]+)?(-{_IDENTIFIERS})?(\+{_IDENTIFIERS})?"
_TAG_VERSION = re.compile(rf"v?([0-9]+)\.([0-9]+)\.([0-9]+)(?:-({_IDENTIFIERS}))?(?:\+({_IDENTIFIERS}))?")
_STRICT = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*)){2}(?:[-+].*)?")
_EXACT = re.compile(rf"{_SPACE}*=?{_SPACE}*(v?[0-9]+\.[0-9]+\.[0-9]+(?:-{_IDENTIFIERS})?(?:\+{_IDENTIFIERS})?){_SPACE}*")
_HYPHEN_RANGE = re.compile(rf"{_SPACE}*({_PARTIAL}){_SPACE}+-{_SPACE}+({_PARTIAL}){_SPACE}*")
_OPERATORS = frozenset(("", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^"))
# One comparison. After it only a space, a comma or the end may follow, so nothing is ever tried twice and no input takes long.
_COMPARISON = re.compile(rf"{_SPACE}*([=!<>~^]*){_SPACE}*({_PARTIAL})(?=[\t\n\f\r ,]|\Z)")
_SEPARATOR = re.compile(rf"{_SPACE}*,|{_SPACE}+")
_BLANK = re.compile(rf"{_SPACE}*")

Key: TypeAlias = tuple[int, int, int, tuple[tuple[int, int, str], ...]]
"""Sorts versions by precedence (SemVer 2.0.0, clause 11), with Masterminds' reading of numbers beyond 64 bits as text."""

_RELEASED: Final = ((2, 0, ""),)  # above every prerelease


@dataclass(frozen=True, slots=True)
class TaggedVersion:
    """A tag that is a version.

    Attributes:
        tag: as the registry lists it.
        version: what it means: without a leading `v` and leading zeros, `+` for `_`.
        key: precedence; equal for versions that differ in build metadata only.
        strict: whether the tag is strict SemVer 2.0.0, so that Helm sees it too.
    """

    tag: str
    version: Version
    key: Key
    strict: bool

    @property
    def is_prerelease(self) -> bool:
        """Whether the version comes before a release."""
        return self.version.prerelease is not None


def read_version(tag: str) -> TaggedVersion | None:
    """The version that a tag means, or None where it means none (`latest`, `2024-01-02`, `3`, `1.2`, `helm-v3.12.2`)."""
    if len(tag) > MAX_VERSION_LENGTH:
        return None
    text = tag.replace("_", "+")
    match = _TAG_VERSION.fullmatch(text)
    if match is None:
        return None
    version = _version(match[1], match[2], match[3], match[4], match[5])
    if version is None:
        return None
    return TaggedVersion(tag, version, _key(version), _STRICT.fullmatch(text) is not None)


def sort_versions(tags: Iterable[str]) -> list[TaggedVersion]:
    """The versions among the tags, newest first.

    The order is total: by precedence; where that is equal, strict tags first, then as the registry lists them. Of two tags that
    mean one version (`1.2.3` and `v1.2.3`) both stay; `distinct` leaves one.
    """
    versions = [version for version in map(read_version, tags) if version is not None]
    versions.sort(key=lambda version: not version.strict)
    versions.sort(key=lambda version: version.key, reverse=True)
    return versions


def distinct(versions: Iterable[TaggedVersion]) -> dict[str, list[TaggedVersion]]:
    """Groups tags that mean one version, keeping the order; the first of a group is the one that counts."""
    groups: dict[str, list[TaggedVersion]] = {}
    for version in versions:
        groups.setdefault(str(version.version), []).append(version)
    return groups


def exact_version(text: str) -> str | None:
    """The version where a range is one full version (`1.2.3`, `=1.2.3`, `v1.2.3`), as it was written; None for true ranges."""
    match = _EXACT.fullmatch(text)
    return match[1] if match and read_version(match[1]) else None


def tag_of(version: str) -> str:
    """The tag under which a version is published: `_` for `+`, which no tag may hold (Helm's rule)."""
    return version.replace("+", "_")


def _version(major: str, minor: str, patch: str, prerelease: str | None, build: str | None) -> Version | None:
    """A version from its parts, leading zeros dropped; None for numbers beyond 64 bits and prereleases that SemVer refuses."""
    if max(len(major), len(minor), len(patch)) > 20 and max(len(n.lstrip("0")) for n in (major, minor, patch)) > 20:
        return None
    numbers = int(major), int(minor), int(patch)
    if max(numbers) > _MAX_NUMBER:
        return None
    if prerelease and any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in prerelease.split(".")):
        return None
    return Version(*numbers, prerelease, build)


def _prerelease_key(prerelease: str | None) -> tuple[tuple[int, int, str], ...]:
    if not prerelease:
        return _RELEASED
    return tuple(
        (0, int(part), "") if part.isdigit() and len(part) <= 20 and int(part) <= _MAX_NUMBER else (1, 0, part)
        for part in prerelease.split(".")
    )


def _key(version: Version) -> Key:
    return version.major, version.minor, version.patch, _prerelease_key(version.prerelease)


class _Comparison(NamedTuple):
    """One comparison, such as `>=1.2`.

    Attributes:
        wild: how many of the numbers are given: 3 all, 2 `1.2` or `1.2.x`, 1 `1`, 0 `*`.
    """

    operator: str
    version: Version
    key: Key
    wild: int

    def allows(self, version: Version, key: Key) -> bool:
        """Masterminds/semver v3.5.0, constraints.go, the function of each operator; prereleases were sorted out before."""
        match self.operator:
            case "" | "=":
                return key == self.key if self.wild == 3 else self._tilde(version, key)
            case "!=":
                return self._not_equal(version, key)
            case ">":
                return self._greater(version, key)
            case "<":
                return key < self.key
            case ">=" | "=>":
                return key >= self.key
            case "<=" | "=<":
                return self._less_or_equal(version, key)
            case "~" | "~>":
                return self._tilde(version, key)
            case _:
                return self._caret(version, key)

    def _not_equal(self, version: Version, key: Key) -> bool:
        own = self.version
        if self.wild == 3:
            return key != self.key
        if version.major != own.major:
            return True
        if self.wild == 1:
            return False
        if version.minor != own.minor:
            return True
        if self.wild == 0:  # `!=*` is compared like `!=0.0.0`
            return key != self.key
        if version.prerelease or own.prerelease:
            return _prerelease_key(version.prerelease) != _prerelease_key(own.prerelease)
        return False

    def _greater(self, version: Version, key: Key) -> bool:
        own = self.version
        if self.wild == 3:
            return key > self.key
        if version.major != own.major:
            return version.major > own.major
        if self.wild == 0:  # `>*` is compared like `>0.0.0`
            return key > self.key
        return self.wild == 2 and version.minor > own.minor

    def _less_or_equal(self, version: Version, key: Key) -> bool:
        own = self.version
        if self.wild == 3:
            return key <= self.key
        return version.major < own.major or (version.major == own.major and (self.wild == 1 or version.minor <= own.minor))

    def _tilde(self, version: Version, key: Key) -> bool:
        own = self.version
        if key < self.key:
            return False
        if (own.major, own.minor, own.patch) == (0, 0, 0) and self.wild in (0, 3):
            return True
        return version.major == own.major and (self.wild == 1 or version.minor == own.minor)

    def _caret(self, version: Version, key: Key) -> bool:
        own = self.version
        if key < self.key:
            return False
        if own.major > 0 or self.wild == 1:
            return version.major == own.major
        if version.major > 0:
            return False
        if own.minor > 0 or self.wild == 2:
            return version.minor == own.minor
        return version.minor == 0 and version.patch == own.patch


@dataclass(frozen=True, slots=True)
class Constraint:
    """A version range as Helm's `--version` takes it.

    Attributes:
        text: as it was written.
    """

    text: str
    _groups: tuple[tuple[_Comparison, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read a range.

        Raises:
            InputError: `constraint-invalid`, naming the part that does not fit.
        """
        if len(text.encode("utf-8", "replace")) > MAX_CONSTRAINT_LENGTH:
            raise InputError(
                f"a version range has at most {MAX_CONSTRAINT_LENGTH} bytes, this one has more",
                code="constraint-invalid",
                text=text[:100],
            )
        groups = _rewrite_hyphens(text).split("||")
        if len(groups) > MAX_CONSTRAINT_GROUPS:
            raise InputError(
                f"a version range has at most {MAX_CONSTRAINT_GROUPS} alternatives, this one has {len(groups)}",
                code="constraint-invalid",
                text=text[:100],
            )
        return cls(text, tuple(_group(text, group) for group in groups))

    def allows(self, version: str, *, prereleases: bool = False) -> bool:
        """Whether the version, or the tag that means one, is in the range.

        Args:
            prereleases: take prereleases too where the range itself does not ask for them.
        """
        read = read_version(version)
        return read is not None and self._check(read, prereleases)

    def newest(self, tags: Iterable[str], *, prereleases: bool = False) -> str | None:
        """The tag of the newest version in the range, or None.

        Of two tags that mean one version the strict one wins; of versions that differ in build metadata only, the first listed.
        """
        found: TaggedVersion | None = None
        for tag in tags:
            version = read_version(tag)
            if version is None or (found is not None and version.key < found.key):
                continue
            if found is not None and version.key == found.key and (found.strict or not version.strict):
                continue
            if self._check(version, prereleases):
                found = version
        return found.tag if found else None

    def select(self, versions: Iterable[TaggedVersion], *, prereleases: bool = False) -> list[TaggedVersion]:
        """The versions in the range, in the order in which they came."""
        return [version for version in versions if self._check(version, prereleases)]

    def _check(self, tagged: TaggedVersion, prereleases: bool) -> bool:
        for group in self._groups:
            # A prerelease counts only in a group in which some comparison names a prerelease, as in `>=1.2.0-0`.
            if tagged.is_prerelease and not prereleases and not any(comparison.version.prerelease for comparison in group):
                continue
            if all(comparison.allows(tagged.version, tagged.key) for comparison in group):
                return True
        return False

    def __str__(self) -> str:
        return self.text


def _rewrite_hyphens(text: str) -> str:
    """`1.2 - 2.3` means `>= 1.2, <= 2.3`."""
    result = text
    for match in _HYPHEN_RANGE.finditer(text):
        result = result.replace(match[0], f">= {match[1]}, <= {match[7]} ", 1)
    return result


def _group(text: str, group: str) -> tuple[_Comparison, ...]:
    comparisons: list[_Comparison] = []
    position = 0
    while True:
        match = _COMPARISON.match(group, position)
        if match is None or match[1] not in _OPERATORS:
            _refuse(text, group[position:])
        comparisons.append(_comparison(text, match))
        position = match.end()
        blank = _BLANK.match(group, position)
        if blank and blank.end() == len(group):
            return tuple(comparisons)
        separator = _SEPARATOR.match(group, position)
        if separator is None:
            _refuse(text, group[position:])
        position = separator.end()


def _comparison(text: str, match: re.Match[str]) -> _Comparison:
    major, minor, patch, prerelease, build = match[3], match[4], match[5], match[6], match[7]
    numbers = [major, (minor or "")[1:], (patch or "")[1:]]
    wild = next((position for position, number in enumerate(numbers) if number in ("", "x", "X", "*")), 3)
    numbers = numbers[:wild] + ["0"] * (3 - wild)
    # Behind an open number the build metadata is dropped; the rest of the numbers is not even looked at.
    length = len(match[2]) if wild == 3 else sum(map(len, numbers)) + 2 + len(prerelease or "")
    version = None
    if length <= MAX_VERSION_LENGTH and all(number.isascii() and number.isdigit() for number in numbers):
        build_part = build[1:] if build and wild == 3 else None
        version = _version(numbers[0], numbers[1], numbers[2], prerelease[1:] if prerelease else None, build_part)
    if version is None:
        _refuse(text, match[0].strip())
    return _Comparison(match[1], version, _key(version), wild)


def _refuse(text: str, part: str) -> NoReturn:
    shown = part.strip()[:80]
    raise InputError(
        f"`{text[:200]}` is not a version range" + (f": Helm does not read `{shown}`" if shown and shown != text.strip() else ""),
        code="constraint-invalid",
        text=text[:200],
        part=shown or None,
    )


ANY: Final = Constraint.parse(">=0.0.0")
"""What no `--version` means: every released version."""

ANY_OR_PRERELEASE: Final = Constraint.parse(">0.0.0-0")
"""What `--devel` means, as in Helm."""


def chart_version(tagged: TaggedVersion) -> str:
    """The version of a tag as Helm writes it. A leading `v` and leading zeros stay: Helm's index takes them."""
    return tagged.tag.replace("_", "+")
