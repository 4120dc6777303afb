"""Version ranges as in Helm, and the newest tag in a range.

The grammar and the results are those of Masterminds/semver v3.5 (`NewConstraint` and `Check`), which Helm 3 and 4 use.
`fixtures/constraints.jsonl` contains results of that library, and `tests/oracle` computes them again. Ranges compare sort keys; a
`semver.Version` is created only on demand. Unlike in Helm, the numbers of a tag may have a leading `v` and leading zeros (`v2.9.0`,
`0.4.023901`), since MAR has such tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, TypeAlias

from .errors import InputError

if TYPE_CHECKING:
    from semver import Version

MAX_CONSTRAINT_LENGTH: Final = 512  # bytes; Masterminds/semver: MaxConstraintLen
MAX_CONSTRAINT_GROUPS: Final = 32  # alternatives between `||`; MaxConstraintGroups
MAX_VERSION_LENGTH: Final = 256  # MaxVersionLen
_MAX_NUMBER: Final = (1 << 64) - 1  # Masterminds/semver uses unsigned 64-bit numbers

_SPACE = r"[\t\n\f\r ]"  # what Go's `\s` means
_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_PARTIAL = rf"v?([0-9|xX*]+)(\.[0-9|xX*]+)?(\.[0-9|xX*]+)?(-{_IDENTIFIERS})?(\+{_IDENTIFIERS})?"
_TAG_VERSION = re.compile(rf"v?([0-9]+)\.([0-9]+)\.([0-9]+)(?:-({_IDENTIFIERS}))?(?:\+({_IDENTIFIERS}))?")
_STRICT = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*)){2}(?:[-+].*)?")
_EXACT = re.compile(rf"{_SPACE}*=?{_SPACE}*([^ \t\n\f\r]+){_SPACE}*")
_HYPHEN_RANGE: Final = rf"{_SPACE}*({_PARTIAL}){_SPACE}+-{_SPACE}+({_PARTIAL}){_SPACE}*"
_OPERATORS = frozenset(("", "=", "!=", ">", "<", ">=", "=>", "<=", "=<", "~", "~>", "^"))
# One comparison, followed by a space, a comma or the end. The lookahead prevents backtracking, so no input takes long.
_COMPARISON: Final = rf"{_SPACE}*([=!<>~^]*){_SPACE}*({_PARTIAL})(?=[\t\n\f\r ,]|\Z)"
_SEPARATOR: Final = rf"{_SPACE}*,|{_SPACE}+"
_BLANK: Final = rf"{_SPACE}*"

Key: TypeAlias = tuple[int, int, int, tuple[tuple[int, int, str], ...]]
"""Sort key of a version by precedence (SemVer 2.0.0, clause 11). Like Masterminds/semver, it treats identifiers beyond 64 bits as text."""

_RELEASED: Final = ((2, 0, ""),)  # sorts after every prerelease


class TaggedVersion(NamedTuple):
    """A tag that is a version.

    Attributes:
        tag: as the registry lists it.
        key: sort key; equal for versions that differ only in build metadata.
        prerelease: the part after `-`; None for a released version.
        build: the part after `+`.
    """

    tag: str
    key: Key
    prerelease: str | None
    build: str | None

    @property
    def version(self) -> Version:
        """The version without a leading `v` or leading zeros, and with `+` instead of `_`."""
        from semver import Version  # late: most tags are only compared, which needs no semver

        return Version(*self.key[:3], self.prerelease, self.build)

    @property
    def is_strict(self) -> bool:
        """Whether the tag is strict SemVer 2.0.0, which Helm requires."""
        return _STRICT.fullmatch(self.tag.replace("_", "+")) is not None

    @property
    def is_prerelease(self) -> bool:
        """Whether the version is a prerelease."""
        return self.prerelease is not None


def read_version(tag: str) -> TaggedVersion | None:
    """Parse a tag as a version; None if it is not one (`latest`, `2024-01-02`, `3`, `1.2`, `helm-v3.12.2`)."""
    if len(tag) > MAX_VERSION_LENGTH:
        return None
    match = _TAG_VERSION.fullmatch(tag.replace("_", "+"))
    key = _key(match[1], match[2], match[3], match[4]) if match else None
    return TaggedVersion(tag, key, match[4], match[5]) if match and key else None


def sort_versions(tags: Iterable[str]) -> list[TaggedVersion]:
    """Return the versions among the tags, newest first.

    Among tags of equal precedence, strict SemVer comes first; otherwise the order of the registry is kept. If two tags name one version
    (`1.2.3` and `v1.2.3`), both are returned; see `distinct`.
    """
    versions = [version for version in map(read_version, tags) if version is not None]
    versions.sort(key=lambda version: not version.is_strict)
    versions.sort(key=lambda version: version.key, reverse=True)
    return versions


def distinct(versions: Iterable[TaggedVersion]) -> dict[str, list[TaggedVersion]]:
    """Group the tags of each version, in order; the first tag of a group is the preferred one."""
    groups: dict[str, list[TaggedVersion]] = {}
    for version in versions:
        groups.setdefault(str(version.version), []).append(version)
    return groups


def exact_version(text: str) -> str | None:
    """Return the version, as written, if a range is one full version (`1.2.3`, `=1.2.3`, `v1.2.3`); None for other ranges."""
    match = _EXACT.fullmatch(text)
    return match[1] if match and "_" not in match[1] and read_version(match[1]) else None


def tag_of(version: str) -> str:
    """Return the tag of a version. As in Helm, `_` replaces `+`, which tags cannot contain."""
    return version.replace("+", "_")


def _key(major: str, minor: str, patch: str, prerelease: str | None) -> Key | None:
    """Build the key of a version from its parts; None for numbers beyond 64 bits and invalid prereleases."""
    if max(len(major), len(minor), len(patch)) > 20 and max(len(n.lstrip("0")) for n in (major, minor, patch)) > 20:
        return None
    numbers = int(major), int(minor), int(patch)
    if max(numbers) > _MAX_NUMBER:
        return None
    if not prerelease:
        return *numbers, _RELEASED
    parts = prerelease.split(".")
    if any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in parts):
        return None
    read = ((0, int(part), "") if part.isdigit() and len(part) <= 20 and int(part) <= _MAX_NUMBER else (1, 0, part) for part in parts)
    return *numbers, tuple(read)


class _Comparison(NamedTuple):
    """One comparison, such as `>=1.2`.

    Attributes:
        wild: how many numbers are given: 3 for `1.2.3`, 2 for `1.2` or `1.2.x`, 1 for `1`, 0 for `*`.
    """

    operator: str
    key: Key
    wild: int

    @property
    def is_prerelease(self) -> bool:
        return self.key[3] != _RELEASED

    def allows(self, key: Key) -> bool:
        """Return whether a version satisfies the comparison (Masterminds/semver v3.5.0, constraints.go).

        `Constraint` applies the rules for prereleases.
        """
        match self.operator:
            case "" | "=":
                return key == self.key if self.wild == 3 else self._tilde(key)
            case "!=":
                return self._not_equal(key)
            case ">":
                return self._greater(key)
            case "<":
                return key < self.key
            case ">=" | "=>":
                return key >= self.key
            case "<=" | "=<":
                return self._less_or_equal(key)
            case "~" | "~>":
                return self._tilde(key)
            case _:
                return self._caret(key)

    def _not_equal(self, key: Key) -> bool:
        if self.wild == 3:
            return key != self.key
        if key[0] != self.key[0]:
            return True
        if self.wild == 1:
            return False
        if key[1] != self.key[1]:
            return True
        if self.wild == 0:  # `!=*` is compared like `!=0.0.0`
            return key != self.key
        return key[3] != self.key[3]

    def _greater(self, key: Key) -> bool:
        if self.wild == 3:
            return key > self.key
        if key[0] != self.key[0]:
            return key[0] > self.key[0]
        if self.wild == 0:  # `>*` is compared like `>0.0.0`
            return key > self.key
        return self.wild == 2 and key[1] > self.key[1]

    def _less_or_equal(self, key: Key) -> bool:
        if self.wild == 3:
            return key <= self.key
        return key[0] < self.key[0] or (key[0] == self.key[0] and (self.wild == 1 or key[1] <= self.key[1]))

    def _tilde(self, key: Key) -> bool:
        if key < self.key:
            return False
        if self.key[:3] == (0, 0, 0) and self.wild in (0, 3):
            return True
        return key[0] == self.key[0] and (self.wild == 1 or key[1] == self.key[1])

    def _caret(self, key: Key) -> bool:
        major, minor, patch = self.key[:3]
        if key < self.key:
            return False
        if major > 0 or self.wild == 1:
            return key[0] == major
        if key[0] > 0:
            return False
        if minor > 0 or self.wild == 2:
            return key[1] == minor
        return key[1] == minor and key[2] == patch


class Constraint(NamedTuple):
    """A version range as Helm's `--version` takes it.

    Attributes:
        text: the range as written.
        groups: the alternatives between `||`; a version must satisfy all comparisons of one alternative.
    """

    text: str
    groups: tuple[tuple[_Comparison, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Parse a range.

        Raises:
            InputError: `constraint-invalid`, naming the invalid part.
        """
        if len(text.encode("utf-8", "replace")) > MAX_CONSTRAINT_LENGTH:
            raise InputError(
                f"the version range is longer than {MAX_CONSTRAINT_LENGTH} bytes",
                code="constraint-invalid",
                text=text[:100],
            )
        exact = read_version(exact_version(text) or "")
        if exact is not None:
            return cls(text, ((_Comparison("", exact.key, 3),),))
        groups = _rewrite_hyphens(text).split("||")
        if len(groups) > MAX_CONSTRAINT_GROUPS:
            raise InputError(
                f"the version range has {len(groups)} alternatives, more than {MAX_CONSTRAINT_GROUPS}",
                code="constraint-invalid",
                text=text[:100],
            )
        return cls(text, tuple(_group(text, group) for group in groups))

    def allows(self, version: str, *, prereleases: bool = False) -> bool:
        """Return whether a version or tag is in the range.

        Args:
            prereleases: include prereleases even if the range names none.
        """
        read = read_version(version)
        return read is not None and self._check(read, prereleases)

    def newest(self, tags: Iterable[str], *, prereleases: bool = False) -> str | None:
        """Return the tag of the newest version in the range, or None.

        If two tags name the same version, the tag in strict SemVer wins. If versions differ only in build metadata, the first one wins.
        """
        found: TaggedVersion | None = None
        for tag in tags:
            version = read_version(tag)
            if version is None or (found is not None and version.key < found.key):
                continue
            if found is not None and version.key == found.key and (found.is_strict or not version.is_strict):
                continue
            if self._check(version, prereleases):
                found = version
        return found.tag if found else None

    def select(self, versions: Iterable[TaggedVersion], *, prereleases: bool = False) -> list[TaggedVersion]:
        """Return the versions in the range, in the given order."""
        return [version for version in versions if self._check(version, prereleases)]

    def _check(self, tagged: TaggedVersion, prereleases: bool) -> bool:
        for group in self.groups:
            # A group matches prereleases only if one of its comparisons names a prerelease, as in `>=1.2.0-0`.
            if tagged.is_prerelease and not prereleases and not any(comparison.is_prerelease for comparison in group):
                continue
            if all(comparison.allows(tagged.key) for comparison in group):
                return True
        return False

    def __str__(self) -> str:
        return self.text


def _rewrite_hyphens(text: str) -> str:
    """Rewrite `1.2 - 2.3` to `>= 1.2, <= 2.3`."""
    result = text
    for match in re.finditer(_HYPHEN_RANGE, text):
        result = result.replace(match[0], f">= {match[1]}, <= {match[7]} ", 1)
    return result


def _group(text: str, group: str) -> tuple[_Comparison, ...]:
    comparisons: list[_Comparison] = []
    position = 0
    # Compiled here, because an exact version does not need them.
    comparison, blanks, separators = re.compile(_COMPARISON), re.compile(_BLANK), re.compile(_SEPARATOR)
    while True:
        match = comparison.match(group, position)
        if match is None or match[1] not in _OPERATORS:
            _refuse(text, group[position:])
        comparisons.append(_comparison(text, match))
        position = match.end()
        blank = blanks.match(group, position)
        if blank and blank.end() == len(group):
            return tuple(comparisons)
        separator = separators.match(group, position)
        if separator is None:
            _refuse(text, group[position:])
        position = separator.end()


def _comparison(text: str, match: re.Match[str]) -> _Comparison:
    major, minor, patch, prerelease = match[3], match[4], match[5], match[6]
    numbers = [major, (minor or "")[1:], (patch or "")[1:]]
    wild = next((position for position, number in enumerate(numbers) if number in ("", "x", "X", "*")), 3)
    numbers = numbers[:wild] + ["0"] * (3 - wild)
    # As in Masterminds/semver, a wildcard drops the build metadata, and numbers after the wildcard are ignored.
    length = len(match[2]) if wild == 3 else sum(map(len, numbers)) + 2 + len(prerelease or "")
    key = None
    if length <= MAX_VERSION_LENGTH and all(number.isascii() and number.isdigit() for number in numbers):
        key = _key(numbers[0], numbers[1], numbers[2], prerelease[1:] if prerelease else None)
    if key is None:
        _refuse(text, match[0].strip())
    return _Comparison(match[1], key, wild)


def _refuse(text: str, part: str) -> NoReturn:
    shown = part.strip()[:80]
    hint = None
    if "_" in text:
        with suppress(InputError):
            written = Constraint.parse(text.replace("_", "+")).text.strip()
            hint = f"a version has `+` where a tag has `_`: write `{written[:200]}`"
    raise InputError(
        f"`{text[:200]}` is not a version range" + (f": Helm cannot parse `{shown}`" if shown and shown != text.strip() else ""),
        code="constraint-invalid",
        hint=hint,
        text=text[:200],
        part=shown or None,
    )


ANY: Final = Constraint(">=0.0.0", ((_Comparison(">=", (0, 0, 0, _RELEASED), 3),),))
"""The range if `--version` is not given: every released version."""

ANY_OR_PRERELEASE: Final = Constraint(">0.0.0-0", ((_Comparison(">", (0, 0, 0, ((0, 0, ""),)), 3),),))
"""The range of `--devel`, as in Helm."""


def chart_version(tagged: TaggedVersion) -> str:
    """Return the version of a tag as Helm writes it. A leading `v` and leading zeros stay, because Helm's index allows them."""
    return tagged.tag.replace("_", "+")
